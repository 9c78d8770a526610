"""Real language models behind the real program, as live and as shadow, called by real SDKs: `make parties-all`."""

from collections.abc import Iterator
from contextlib import AbstractContextManager, ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from parties.comparing import Comparing, assert_same, comparing, differing, judged
from parties.language_models import by_anthropic, by_openai, llama_cpp, shadow_options

from shadowproxy.exchange import Outcome, Verdict

MODEL = "gemma3-270m"
CHATS = ("chat", "chat_stream", "completion", "completion_stream", "responses", "responses_stream")
STRUCTURED = ("structured", "structured_stream")


@dataclass(frozen=True)
class Servers:
    live: str
    shadow: str


@pytest.fixture(scope="module")
def one_slot(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Servers]:
    directory = tmp_path_factory.mktemp("llama")
    with ExitStack() as stack:
        yield Servers(llama_cpp(stack, directory), llama_cpp(stack, directory))


def between(directory: Path, servers: Servers, **options: Any) -> AbstractContextManager[Comparing]:
    """The proxy between two servers.

    Each request has a connection of its own: llama.cpp's server closes one at the end of a stream without a word, and a
    POST that has been sent by then is not repeated, as the server may have read it.
    """
    once = {"max_age": "1ms"}
    return comparing(
        directory, servers.live, servers.shadow, live_options=once, shadow_options=shadow_options(**once, **options)
    )


def failures(answers: list[Any]) -> list[Any]:
    return [each for each in answers if isinstance(each["answer"], dict) and each["answer"].get("error")]


@pytest.mark.parties_all("llamacpp", "sdks")
class TestLlamaCpp:
    def test_one_slot_at_temperature_0_matches_in_all_that_openais_sdk_asks(
        self, one_slot: Servers, tmp_path: Path
    ) -> None:
        with between(tmp_path, one_slot) as running:
            answers = by_openai(running.url, MODEL, 2, *CHATS, *STRUCTURED)
            compared = running.outcome()
        assert not failures(answers)
        assert_same(compared, len(answers))

    def test_one_slot_at_temperature_0_matches_in_all_that_anthropics_sdk_asks(
        self, one_slot: Servers, tmp_path: Path
    ) -> None:
        with between(tmp_path, one_slot) as running:
            answers = by_anthropic(running.url, MODEL, 2, "messages", "messages_stream")
            compared = running.outcome()
        assert not failures(answers)
        assert_same(compared, len(answers))

    def test_fewer_tokens_differ_in_the_text_and_the_counts_of_whole_answers_and_streams(
        self, one_slot: Servers, tmp_path: Path
    ) -> None:
        options = {"rewrite": {"json": {"/max_tokens": 4}}}
        with between(tmp_path, one_slot, **options) as running:
            by_openai(running.url, MODEL, 1, "chat", "chat_stream", "completion", "completion_stream")
            by_anthropic(running.url, MODEL, 1, "messages", "messages_stream")
            compared = running.outcome()
        places = {
            "/v1/chat/completions": {
                "/choices/0/message/content",
                "/usage/completion_tokens",
                "/usage/total_tokens",
            },
            "/v1/completions": {"/choices/0/text", "/usage/completion_tokens", "/usage/total_tokens"},
            "/v1/messages": {"/content/0/text", "/usage/output_tokens"},
        }
        assert len(compared.records) == 6
        for entry in compared.records:
            assert judged(entry).verdict is Verdict.MISMATCH
            text, *counts = sorted(places[entry.request.path])
            assert text in differing(entry)
            assert set(differing(entry)) <= {text, *counts}

    def test_another_temperature_differs_in_the_text(self, one_slot: Servers, tmp_path: Path) -> None:
        options = {"rewrite": {"json": {"/temperature": 5.0}}}
        with between(tmp_path, one_slot, **options) as running:
            by_openai(running.url, MODEL, 3, "chat_stream")
            compared = running.outcome()
        assert len(compared.records) == 3
        for entry in compared.records:
            assert "/choices/0/message/content" in differing(entry)


@pytest.mark.parties_all("llamacpp", "sdks")
@pytest.mark.parametrize("call", ["embeddings", "embeddings_floats"])
def test_llama_cpp_embeds_the_same_with_one_slot(embedders: Servers, tmp_path: Path, call: str) -> None:
    with between(tmp_path, embedders) as running:
        answers = by_openai(running.url, MODEL, 6, call)
        compared = running.outcome()
    assert not failures(answers)
    assert_same(compared, len(answers))
    assert {entry.live.outcome for entry in compared.records} == {Outcome.OK}


@pytest.mark.parties_all("llamacpp", "sdks")
def test_base64_and_floats_of_llama_cpp_are_the_same_vectors(embedders: Servers, tmp_path: Path) -> None:
    options = {"rewrite": {"json": {"/encoding_format": "float"}}}
    with between(tmp_path, embedders, **options) as running:
        answers = by_openai(running.url, MODEL, 6, "embeddings")
        compared = running.outcome()
    assert not failures(answers)
    assert_same(compared, len(answers))


@pytest.fixture(scope="module")
def embedders(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Servers]:
    directory = tmp_path_factory.mktemp("embedders")
    with ExitStack() as stack:
        live = llama_cpp(stack, directory, serves="embeddings")
        yield Servers(live, llama_cpp(stack, directory, serves="embeddings"))
