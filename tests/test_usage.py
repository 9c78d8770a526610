"""What an answer says that it took, and why it stopped: for each API in the one form of all."""

import json
from typing import Any

import pytest
from logs import said

from shadowproxy.answers import content_of
from shadowproxy.answers.finish import finish_in, is_same_reason
from shadowproxy.answers.usage import usage_of
from shadowproxy.record import RecordedLeg
from shadowproxy.usage import NOTHING, Usage

COST = "x-litellm-response-cost"


def chat(usage: Any, reason: str = "stop", **message: Any) -> dict[str, Any]:
    choice = {"index": 0, "message": {"role": "assistant", "content": "hi", **message}, "finish_reason": reason}
    return {"object": "chat.completion", "choices": [choice], "usage": usage}


def events(*values: Any) -> RecordedLeg:
    return said("".join(f"data: {json.dumps(each)}\n\n" for each in values), "text/event-stream")


def chunk(text: str | None, reason: str | None = None, **more: Any) -> dict[str, Any]:
    return {"choices": [{"index": 0, "delta": {"content": text}, "finish_reason": reason}], **more}


def of(leg: RecordedLeg | Any) -> Usage:
    leg = leg if isinstance(leg, RecordedLeg) else said(leg)
    return usage_of(content_of(leg), leg.headers)


MESSAGE = {"type": "message", "role": "assistant", "content": [{"type": "text", "text": "hi"}]}
ANTHROPIC = {"input_tokens": 5, "cache_creation_input_tokens": 20, "cache_read_input_tokens": 300, "output_tokens": 7}
OPENAI = {"prompt_tokens": 40, "completion_tokens": 7, "total_tokens": 47}
RESPONSE = {"object": "response", "status": "completed", "output": [{"type": "message", "content": []}]}


@pytest.mark.parametrize(
    ("answer", "expected"),
    [
        (chat({**OPENAI, "prompt_tokens_details": {"cached_tokens": 32}}), Usage(40, 7, 32)),
        (chat(OPENAI), Usage(40, 7)),
        (chat({**OPENAI, "prompt_cache_hit_tokens": 8, "prompt_cache_miss_tokens": 32}), Usage(40, 7, 8)),
        # LiteLLM names Anthropic's counts beside the sum that has them
        (chat({**OPENAI, "cache_read_input_tokens": 8, "cache_creation_input_tokens": 1}), Usage(40, 7)),
        (chat({**OPENAI, "cost": 0.00095, "cost_details": {"upstream_inference_cost": 19}}),
         Usage(40, 7, None, 0.00095)),
        (chat({**OPENAI, "cost": {"total_cost": 0.006, "request_cost": 0.005}}), Usage(40, 7, None, 0.006)),
        ({"object": "list", "data": [{"embedding": [0.1, 0.2]}], "usage": {"prompt_tokens": 8, "total_tokens": 8}},
         Usage(8)),
        ({**RESPONSE, "usage": {"input_tokens": 36, "input_tokens_details": {"cached_tokens": 4}, "output_tokens": 8}},
         Usage(36, 8, 4)),
        ({**MESSAGE, "stop_reason": "end_turn", "usage": ANTHROPIC}, Usage(325, 7, 300)),
        ({**MESSAGE, "stop_reason": "end_turn", "usage": {"input_tokens": 5, "output_tokens": 7}}, Usage(5, 7)),
        ({"model": "m", "done": True, "response": "hi", "prompt_eval_count": 26, "eval_count": 9}, Usage(26, 9)),
        # Ollama leaves out the prompt that was in its cache
        ({"model": "m", "done": True, "message": {"content": "hi"}, "eval_count": 9}, Usage(None, 9)),
        ({"model": "m", "embeddings": [[0.1, 0.2]], "prompt_eval_count": 3}, Usage(3)),
        ({"candidates": [{"content": {"parts": []}}], "usageMetadata": {"promptTokenCount": 12,
          "toolUsePromptTokenCount": 3, "candidatesTokenCount": 5, "thoughtsTokenCount": 30,
          "cachedContentTokenCount": 2}}, Usage(15, 35, 2)),
        ({"output": {"message": {}}, "stopReason": "end_turn", "usage": {"inputTokens": 5, "outputTokens": 2,
          "cacheReadInputTokens": 100, "cacheWriteInputTokens": 10}}, Usage(115, 2, 100)),
        (events(chunk("a"), chunk("b", "stop", usage=None), {"choices": [], "usage": {**OPENAI, "cost": 0.5}}),
         Usage(40, 7, None, 0.5)),
        (events({"type": "message_start",
                 "message": {**MESSAGE, "content": [], "usage": {**ANTHROPIC, "output_tokens": 1}}},
                {"type": "content_block_delta", "delta": {"type": "text_delta", "text": "hi"}},
                {"type": "message_delta", "delta": {"stop_reason": "end_turn"}, "usage": {"output_tokens": 7}},
                {"type": "message_stop"}), Usage(325, 7, 300)),
        (events({"type": "response.completed",
                 "response": {**RESPONSE, "usage": {"input_tokens": 3, "output_tokens": 2}}}), Usage(3, 2)),
        # what is no count, and no answer that has any
        (chat({"prompt_tokens": "40", "completion_tokens": True, "cost": -1}), NOTHING),
        (chat({"prompt_tokens": -4, "completion_tokens": 1e3, "cost": float("nan")}), NOTHING),
        (chat({"prompt_tokens": 10**30, "completion_tokens": [7], "cost": 10**400}), NOTHING),
        (chat(None), NOTHING),
        (chat([1]), NOTHING),
        ([1, 2], NOTHING),
        ("hello", NOTHING),
    ],
)  # fmt: skip
def test_the_usage_of_an_answer(answer: Any, expected: Usage) -> None:
    assert of(answer) == expected


def costing(cost: str, leg: RecordedLeg) -> RecordedLeg:
    return leg._replace(headers={**leg.headers, COST: cost})


@pytest.mark.parametrize(
    ("leg", "cost"),
    [
        (costing("0.000415", said(chat(OPENAI))), 0.000415),
        (costing("2.25e-06", said(chat(OPENAI))), 2.25e-6),
        (costing(" 0 ", said(chat(OPENAI))), 0.0),
        (costing("None", said(chat(OPENAI))), None),
        (costing("0.1, 0.2", said(chat(OPENAI))), None),
        (costing("-1", said(chat(OPENAI))), None),
        (costing("inf", said(chat(OPENAI))), None),
        (costing("9" * 400, said(chat(OPENAI))), None),
        (costing("0.3", said("plain", "text/plain")), 0.3),
        # what the body says is of the whole answer, whatever stands in its head
        (costing("0.3", said(chat({**OPENAI, "cost": 0.4}))), 0.4),
        # the head of a stream was sent before anything was generated
        (costing("0.3", events(chunk("a", "stop"))), None),
    ],
)
def test_the_cost_of_an_answer(leg: RecordedLeg, cost: float | None) -> None:
    assert of(leg).cost == cost


CALL = {"id": "c", "type": "function", "function": {"name": "f", "arguments": "{}"}}


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        (chat(OPENAI), "stop"),
        (chat(OPENAI, "length"), "length"),
        (chat(OPENAI, "tool_calls", tool_calls=[CALL]), "tool_calls"),
        (chat(OPENAI, "stop", tool_calls=[CALL]), "tool_calls"),
        (chat(OPENAI, "stop", tool_calls=[]), "stop"),
        (chat(OPENAI, "function_call", function_call={"name": "f"}), "tool_calls"),
        (chat(OPENAI, "content_filter"), "content_filter"),
        (chat(OPENAI, "moonlight"), "other"),
        ({"choices": [{"text": "a", "finish_reason": "stop"}, {"text": "b", "finish_reason": "length"}]}, "other"),
        ({"choices": [{"text": "a", "finish_reason": "length"}, {"text": "b", "finish_reason": "length"}]}, "length"),
        ({"choices": [{"text": "a", "finish_reason": None}]}, "none"),
        ({**MESSAGE, "stop_reason": "stop_sequence"}, "stop"),
        ({**MESSAGE, "stop_reason": "max_tokens"}, "length"),
        ({**MESSAGE, "content": [{"type": "tool_use"}], "stop_reason": "tool_use"}, "tool_calls"),
        ({**MESSAGE, "stop_reason": "refusal"}, "content_filter"),
        ({**MESSAGE, "stop_reason": "pause_turn"}, "other"),
        (RESPONSE, "stop"),
        ({**RESPONSE, "output": [{"type": "function_call", "name": "f"}]}, "tool_calls"),
        ({**RESPONSE, "output": [{"type": "web_search_call"}, {"type": "message", "content": []}]}, "stop"),
        ({**RESPONSE, "status": "incomplete", "incomplete_details": {"reason": "max_output_tokens"}}, "length"),
        ({**RESPONSE, "status": "incomplete", "incomplete_details": {"reason": "content_filter"}}, "content_filter"),
        ({**RESPONSE, "status": "incomplete", "incomplete_details": None}, "other"),
        ({"done": True, "done_reason": "stop", "response": "hi"}, "stop"),
        ({"done": True, "done_reason": "length", "response": "hi"}, "length"),
        ({"done": True, "done_reason": "stop", "message": {"content": "", "tool_calls": [CALL]}}, "tool_calls"),
        ({"done": True, "response": "hi"}, "none"),
        ({"candidates": [{"content": {"parts": []}, "finishReason": "MAX_TOKENS"}]}, "length"),
        ({"candidates": [{"content": {"parts": [{"functionCall": {"name": "f"}}]}, "finishReason": "STOP"}]},
         "tool_calls"),
        ({"candidates": [{"content": {"parts": []}, "finishReason": "SAFETY"}]}, "content_filter"),
        ({"output": {"message": {}}, "stopReason": "guardrail_intervened"}, "content_filter"),
        ({"predictions": [1]}, None),
        ({"finish_reason": "stop"}, None),
        (["stop"], None),
        (None, None),
    ],
)  # fmt: skip
def test_why_a_model_stopped(value: Any, expected: str | None) -> None:
    assert finish_in(value) == expected


@pytest.mark.parametrize(
    ("one", "other", "same"),
    [
        ("stop", "end_turn", True),
        ("tool_calls", "end_turn", True),
        ("length", "max_tokens", True),
        ("refusal", "SAFETY", True),
        ("stop", "length", False),
        ("moonlight", "moonlight", True),
        ("moonlight", "sunlight", False),
        ("moonlight", "stop", False),
    ],
)
def test_two_reasons_in_the_words_of_two_apis(one: str, other: str, same: bool) -> None:
    assert is_same_reason(one, other) is same
    assert is_same_reason(other, one) is same
