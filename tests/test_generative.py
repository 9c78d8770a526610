"""What a collector is told of calls of language models: names and numbers by the conventions, and the verdict."""

import json
from typing import Any

import pytest
from fakes import Origin, answer
from program import Program
from test_tracing import Collector, attributes, collector, traceparent

from shadowproxy.serve.telemetry import generative

__all__ = ["collector"]

CHAT = {
    "id": "chatcmpl-1",
    "object": "chat.completion",
    "model": "gpt-4o-2024-08-06",
    "choices": [{"index": 0, "message": {"role": "assistant", "content": "secret words"}, "finish_reason": "stop"}],
    "usage": {"prompt_tokens": 9, "completion_tokens": 3, "prompt_tokens_details": {"cached_tokens": 4}},
}
MESSAGES = {
    "type": "message",
    "id": "msg_1",
    "model": "claude-sonnet-4-5",
    "content": [{"type": "text", "text": "hi"}],
    "stop_reason": "end_turn",
    "usage": {"input_tokens": 5, "output_tokens": 2, "cache_read_input_tokens": 7, "cache_creation_input_tokens": 0},
}
GEMINI = {
    "candidates": [{"content": {"parts": [{"text": "hi"}]}, "finishReason": "STOP"}],
    "usageMetadata": {"promptTokenCount": 4, "candidatesTokenCount": 1},
    "modelVersion": "gemini-2.5-flash",
    "responseId": "r1",
}
CONVERSE = {
    "output": {"message": {"role": "assistant", "content": [{"text": "hi"}]}},
    "stopReason": "end_turn",
    "usage": {"inputTokens": 3, "outputTokens": 1},
}
OLLAMA = {
    "model": "llama3",
    "response": "hi",
    "done": True,
    "done_reason": "stop",
    "prompt_eval_count": 2,
    "eval_count": 1,
}
COMPLETION = {"choices": [{"text": "on", "finish_reason": "length"}]}
EMBEDDINGS = {
    "object": "list",
    "data": [{"object": "embedding", "index": 0, "embedding": [0.5]}],
    "model": "text-embedding-3-small",
    "usage": {"prompt_tokens": 2},
}


def said(asked: Any, answered: Any, address: str = "model.internal") -> dict[str, Any]:
    found = generative.attributes(asked, answered, address)
    return {name.removeprefix("gen_ai."): value for name, value in found.items()}


def test_a_chat_is_told_by_its_names_and_numbers_without_a_word_of_it() -> None:
    asked = {
        "model": "gpt-4o", "messages": [{"role": "user", "content": "secret words"}], "max_completion_tokens": 64,
        "temperature": 0, "top_p": 0.9, "seed": 7, "stream": False, "n": 2, "frequency_penalty": float("nan"),
    }  # fmt: skip
    assert said(asked, CHAT) == {
        "operation.name": "chat",
        "provider.name": "openai",
        "request.model": "gpt-4o",
        "request.max_tokens": 64,
        "request.temperature": 0.0,
        "request.top_p": 0.9,
        "request.seed": 7,
        "request.stream": False,
        "request.choice.count": 2,
        "response.id": "chatcmpl-1",
        "response.model": "gpt-4o-2024-08-06",
        "response.finish_reasons": ("stop",),
        "usage.input_tokens": 9,
        "usage.output_tokens": 3,
        "usage.cache_read.input_tokens": 4,
    }


@pytest.mark.parametrize(
    ("answered", "expected"),
    [
        (MESSAGES, ("chat", "anthropic", "claude-sonnet-4-5", ("end_turn",), 12, 2)),
        (GEMINI, ("generate_content", "gcp.gemini", "gemini-2.5-flash", ("STOP",), 4, 1)),
        (CONVERSE, ("chat", "aws.bedrock", None, ("end_turn",), 3, 1)),
        (OLLAMA, ("text_completion", "ollama", "llama3", ("stop",), 2, 1)),
        (EMBEDDINGS, ("embeddings", "openai", "text-embedding-3-small", None, 2, None)),
        (COMPLETION, ("text_completion", "openai", None, ("length",), None, None)),
    ],
)  # fmt: skip
def test_each_api_has_its_operation_and_its_provider(answered: Any, expected: tuple[Any, ...]) -> None:
    found = said(None, answered)
    names = ("operation.name", "provider.name", "response.model", "response.finish_reasons")
    assert tuple(found.get(name) for name in (*names, "usage.input_tokens", "usage.output_tokens")) == expected


@pytest.mark.parametrize(
    ("address", "provider"),
    [
        ("api.openai.com", "openai"),
        ("my.openai.azure.com", "azure.ai.openai"),
        ("api.groq.com", "groq"),
        ("api.mistral.ai", "mistral_ai"),
        ("bedrock-runtime.eu-central-1.amazonaws.com", "aws.bedrock"),
        ("", "openai"),
    ],
)
def test_the_servers_name_says_whose_it_is(address: str, provider: str) -> None:
    assert said(None, CHAT, address)["provider.name"] == provider


@pytest.mark.parametrize("answered", [None, [], {}, {"predictions": [1]}, {"error": {"message": "no"}}, "text"])
def test_of_other_answers_nothing_is_said(answered: Any) -> None:
    assert generative.attributes({"model": "gpt-4o"}, answered, "api.openai.com") == {}


def test_odd_values_are_left_out() -> None:
    asked = {"model": 7, "max_tokens": True, "temperature": "hot", "seed": 1 << 70, "stream": 1, "n": 1}
    odd = {
        **CHAT,
        "id": None,
        "model": "m" * 999,
        "choices": [{"finish_reason": None, "text": ""}, "x"],
        "usage": {"prompt_tokens": -1},
    }
    assert set(said(asked, odd)) == {"operation.name", "provider.name", "response.model"}
    assert len(said(None, {**CHAT, "model": "m" * 999})["response.model"]) == 256


@pytest.mark.slow
async def test_the_program_tells_a_collector_of_models_calls_verdicts_and_its_metrics(
    collector: Collector, tmp_path: Any
) -> None:
    """Live streams what the shadow answers at once; both are told. The verdict is an event at the shadow's span."""
    pieces = [
        {"id": "c-1", "model": "m-1", "choices": [{"index": 0, "delta": {"role": "assistant", "content": "hi"}}]},
        {"id": "c-1", "model": "m-1", "choices": [{"index": 0, "delta": {}, "finish_reason": "stop"}]},
    ]
    stream = b"".join(b"data: %s\n\n" % json.dumps(each).encode() for each in pieces) + b"data: [DONE]\n\n"
    other = {**CHAT, "choices": [{**CHAT["choices"][0], "message": {"role": "assistant", "content": "no"}}]}  # type: ignore[index]
    body = json.dumps({"model": "m", "messages": [{"role": "user", "content": "s3cret"}], "stream": True}).encode()
    events, plain = (b"Content-Type", b"text/event-stream"), (b"Content-Type", b"application/json")
    async with (
        Origin(answer(stream, events)) as live,
        Origin(answer(json.dumps(other).encode(), plain)) as shadow,
        Program(tmp_path, {"live": {"url": live.url}, "shadows": {"a": {"url": shadow.url}}}) as program,
    ):
        head = (
            b"POST /v1/chat/completions HTTP/1.1\r\nHost: h\r\nContent-Type: application/json\r\nContent-Length: %d\r\n"
        )
        await program.ask(head % len(body) + b"%s: %s\r\n\r\n" % traceparent() + body)
        assert await program.stop() == 0
    by_name = {span.name: span for span in collector.spans}
    of_live, of_shadow = (attributes(by_name[name].attributes) for name in ("POST live", "POST a"))
    assert (of_live["gen_ai.operation.name"], of_live["gen_ai.request.model"]) == ("chat", "m")
    assert (of_live["gen_ai.request.stream"], of_live["gen_ai.response.model"]) == (True, "m-1")
    assert of_shadow["gen_ai.usage.output_tokens"] == 3
    (event,) = collector.events
    assert event.event_name == "gen_ai.evaluation.result"
    assert event.span_id == by_name["POST a"].span_id
    evaluated = attributes(event.attributes)
    assert evaluated["gen_ai.evaluation.name"] == "shadowproxy.verdict"
    assert (evaluated["gen_ai.evaluation.score.label"], evaluated["gen_ai.evaluation.score.value"]) == ("mismatch", 0.0)
    assert evaluated["gen_ai.response.id"] == "chatcmpl-1"
    requests = {attributes(each.attributes)["outcome"]: each.as_double for each in
                collector.metrics["shadowproxy_requests_total"].sum.data_points}  # fmt: skip
    assert requests["ok"] == 1
    assert program.told("tracing_failed") == []
    told = str((collector.heard, collector.heard_events, collector.heard_metrics))
    assert "s3cret" not in told
    assert "secret words" not in told
