"""LiteLLM behind the real program, as live and as shadow, called by OpenAI's and Anthropic's SDKs.

Its answers are given in its configuration, so this is quick enough for each run of the long tests. Real models are in
test_parties_llm.py.
"""

from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest
from parties import installed
from parties.comparing import assert_same, comparing, differing, judged
from parties.language_models import by_anthropic, by_openai, litellm, shadow_options

from shadowproxy.exchange import Outcome, Verdict

pytestmark = pytest.mark.soak

SAME = "The flight is late because of the weather."
OTHER = "The flight is late because of its crew."
CALL = {
    "id": "call_1",
    "type": "function",
    "function": {"name": "delay_of", "arguments": '{"flight": "UA1", "day": 3}'},
}
OTHER_CALL = CALL | {"function": {"name": "delay_of", "arguments": '{"flight": "UA1", "day": 4}'}}
STREAMS = 60


def mocked(answer: Any, **more: Any) -> dict[str, Any]:
    return {"model": "openai/gpt-4o", "api_key": "none", "mock_response": answer} | more


def embedded(vector: list[float]) -> dict[str, Any]:
    return {"model": "openai/text-embedding-3-small", "api_key": "none", "mock_response": vector}


MODELS = {
    "weather": mocked(SAME),
    "crew": mocked(OTHER),
    "tool": mocked("", mock_tool_calls=[CALL]),
    "other-tool": mocked("", mock_tool_calls=[OTHER_CALL]),
    "vector": embedded([0.1, 0.2, 0.3]),
    "other-vector": embedded([0.3, 0.2, 0.1]),
}


@pytest.fixture(scope="module")
def gateway(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """One process is both live and the shadow: their answers are given, and each start takes half a minute."""
    installed.check()
    with ExitStack() as stack:
        yield litellm(stack, tmp_path_factory.mktemp("litellm"), MODELS)


def test_the_same_model_twice_matches_in_all_that_the_sdks_ask(gateway: str, tmp_path: Path) -> None:
    with comparing(tmp_path, gateway, gateway, shadow_options=shadow_options()) as running:
        chats = by_openai(running.url, "weather", 3, "chat", "completion", "completion_stream", "responses")
        vectors = by_openai(running.url, "vector", 3, "embeddings", "embeddings_floats")
        tools = by_openai(running.url, "tool", 3, "tools")
        messages = by_anthropic(running.url, "weather", 3, "messages")
        compared = running.outcome()
    answers = [each["answer"] for each in chats + vectors + tools + messages]
    assert not [each for each in answers if isinstance(each, dict) and each.get("error")]
    assert_same(compared, len(answers))


def test_sixty_streams_of_openais_sdk_are_whole_and_compared(gateway: str, tmp_path: Path) -> None:
    with comparing(tmp_path, gateway, gateway, shadow_options=shadow_options()) as running:
        streams = by_openai(running.url, "weather", STREAMS, "chat_stream")
        compared = running.outcome()
    assert [said(each["answer"]) for each in streams] == [SAME] * STREAMS
    assert_same(compared, STREAMS)
    assert {each.live.outcome for each in compared.records} == {Outcome.OK}


def said(chunks: list[Any]) -> str:
    """The text of the chunks of a streamed chat."""
    return "".join(each["choices"][0]["delta"]["content"] or "" for each in chunks if each["choices"])


def asked_of_another(gateway: str, directory: Path, shadows_model: str) -> Any:
    options = shadow_options(rewrite={"json": {"/model": shadows_model}})
    return comparing(directory, gateway, gateway, shadow_options=options)


def test_another_model_differs_where_it_says_something_else(gateway: str, tmp_path: Path) -> None:
    with asked_of_another(gateway, tmp_path, "crew") as running:
        by_openai(running.url, "weather", 2, "chat", "chat_stream", "completion", "completion_stream", "responses")
        by_anthropic(running.url, "weather", 2, "messages")
        compared = running.outcome()
    places = {
        "/v1/chat/completions": "/choices/0/message/content",
        "/v1/completions": "/choices/0/text",
        "/v1/responses": "/output/0/content/0/text",
        "/v1/messages": "/content/0/text",
    }
    assert len(compared.records) == 12
    for entry in compared.records:
        assert judged(entry).verdict is Verdict.MISMATCH
        assert set(differing(entry)) - {"/usage/completion_tokens", "/usage/total_tokens"} == {
            places[entry.request.path],
            "/model",
        }


def test_other_arguments_of_a_tool_differ_at_the_argument(gateway: str, tmp_path: Path) -> None:
    with asked_of_another(gateway, tmp_path, "other-tool") as running:
        by_openai(running.url, "tool", 2, "tools")
        compared = running.outcome("--ignore", "/model")
    assert len(compared.records) == 2
    for entry in compared.records:
        assert set(differing(entry)) == {"/choices/0/message/tool_calls/0/function/arguments/day", "/model"}


@pytest.mark.parametrize("call", ["embeddings", "embeddings_floats"])
def test_another_vector_is_one_place(gateway: str, tmp_path: Path, call: str) -> None:
    with asked_of_another(gateway, tmp_path, "other-vector") as running:
        by_openai(running.url, "vector", 2, call)
        compared = running.outcome()
    assert len(compared.records) == 2
    for entry in compared.records:
        assert set(differing(entry)) == {"/data/0/embedding", "/model"}
