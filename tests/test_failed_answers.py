"""Which answers with status 200 state a failure, and which only look like it."""

import json
from typing import Any

import pytest
from logs import said

from shadowproxy.answers import answer_value, failed_reason
from shadowproxy.exchange import Outcome
from shadowproxy.record import Body, RecordedLeg


def events(*data: Any, name: str = "") -> RecordedLeg:
    named = f"event: {name}\n" if name else ""
    lines = (each if isinstance(each, str) else json.dumps(each) for each in data)
    return said("".join(f"{named}data: {line}\n\n" for line in lines), content_type="text/event-stream")


def lines(*values: Any, content_type: str = "application/x-ndjson") -> RecordedLeg:
    return said("".join(json.dumps(each) + "\n" for each in values), content_type=content_type)


CHUNK = {"choices": [{"index": 0, "delta": {"content": "a"}, "finish_reason": None}]}
ENDED = {"choices": [{"index": 0, "delta": {}, "finish_reason": "stop"}]}


@pytest.mark.parametrize(
    ("answer", "reason"),
    [
        (said({"error": "boom"}), "boom"),
        (said({"error": {"message": "boom", "type": "server_error", "code": 500}}), "server_error: boom"),
        (said({"error": {"code": 500}}), "says only that it failed"),
        (said({"error": True, "message": "boom"}), "boom"),
        (said({"error": True}), "says only that it failed"),
        (said({"errors": [{"message": "boom"}]}), "boom"),
        (said({"data": None, "errors": [{"message": "boom"}]}), "boom"),
        (said({"prediction": None, "error": "boom"}), "boom"),
        (said({"predictions": [], "error": "boom", "model_name": "m", "model_version": "3", "id": "x"}), "boom"),
        (said({"error": "Model is loading", "estimated_time": 20.0}), "Model is loading"),
        (said({"error_code": "BAD_REQUEST", "message": "boom", "stack_trace": "Traceback"}), "BAD_REQUEST: boom"),
        (said({"errorMessage": "boom", "errorType": "KeyError", "stackTrace": ["x"]}), "KeyError: boom"),
        (said({"type": "error", "error": {"type": "overloaded_error", "message": "Overloaded"}}),
         "overloaded_error: Overloaded"),
        (said({"jsonrpc": "2.0", "id": 1, "error": {"code": -32601, "message": "no such method"}}), "no such method"),
        (said({"jsonrpc": "2.0", "id": 1, "result": {"isError": True, "content": [{"type": "text", "text": "no"}]}}),
         "says only that it failed"),
        (said({"status": {"code": -1, "info": "boom", "reason": "BAD", "status": "FAILURE"}, "meta": {"x": 1}}),
         "boom"),
        (said({"status": "failed", "message": "boom"}), "boom"),
        (said({"success": False, "message": "boom"}), "boom"),
        (said({"code": 500, "message": "boom"}), "boom"),
        (said({"code": 13, "message": "boom", "details": []}), "boom"),
        (said({"detail": [{"loc": ["body", "x"], "msg": "missing", "type": "missing"}]}), "body.x: missing"),
        (said([{"error": "boom"}, {"error": "boom"}]), "boom"),
        (said({"choices": [{"index": 0, "finish_reason": "error", "error": {"code": 502, "message": "upstream"}}]}),
         "upstream"),
        (said({"object": "response", "status": "failed", "error": {"code": "server_error", "message": "boom"},
               "output": [], "temperature": 1.0, "store": True}), "server_error: boom"),
        # text
        (said("Traceback (most recent call last):\n  File x\nValueError: boom 3", content_type="text/plain"),
         "ValueError: boom #"),
        (said("Internal Server Error", content_type="text/plain"), "Internal Server Error"),
        (said("<html><title>502 Bad Gateway</title>", content_type="text/html"), "# Bad Gateway"),
        (said('{"error": "boom"}', content_type="text/html"), "boom"),
        # streams: OpenAI's, with and without the end mark, LiteLLM's code as text
        (events(CHUNK, {"error": {"message": "upstream died", "type": None, "code": "500"}}), "upstream died"),
        (events(CHUNK, {"error": {"message": "upstream died"}}, "[DONE]"), "upstream died"),
        (events(CHUNK, {"error": "upstream died"}, ENDED, "[DONE]"), "upstream died"),
        (events(CHUNK, {**ENDED, "error": {"message": "gone"}}), "gone"),
        (events({"choices": [{"index": 0, "delta": {}, "finish_reason": "error"}]}), "says only that it failed"),
        # Anthropic's, Responses', gradio's
        (events({"type": "message_start", "message": {}}, {"type": "error", "error": {"message": "Overloaded"}}),
         "Overloaded"),
        (events({"type": "overloaded"}, name="error"), "overloaded"),
        (events({"type": "response.created", "response": {}},
                {"type": "response.failed", "response": {"status": "failed", "error": {"message": "boom"}}}), "boom"),
        (events({"type": "response.created", "response": {}}, {"type": "error", "message": "boom"}), "boom"),
        (events({"error": None}, name="error"), "says only that it failed"),
        (events("null", name="error"), "says only that it failed"),
        (events('"404: Not Found"', name="error"), "#: Not Found"),
        (events({"token": "a"}, {"error": "boom", "error_type": "generation"}), "boom"),
        # cut short without a word
        (events(CHUNK, CHUNK), "the stream ended before it was complete"),
        (events({"type": "message_start", "message": {}}), "the stream ended before it was complete"),
        (events({"type": "response.created", "response": {}}), "the stream ended before it was complete"),
        (lines({"response": "a", "done": False}), "the stream ended before it was complete"),
        (events([1], name="generating"), "the stream ended before it was complete"),
        (events({"msg": "process_starts"}), "the stream ended before it was complete"),
        (events({"msg": "process_starts"}, {"msg": "process_completed", "success": False, "output": {"error": "boom"}}),
         "boom"),
        (events({"msg": "estimation"}, {"msg": "unexpected_error", "message": "boom"}), "boom"),
        # LitServe's, where the model raises before its first piece; gateways' types that say nothing
        (said("")._replace(headers={}, body=Body("none", None, 0)), "the stream ended without a word"),
        (said({"error": {"message": "boom", "type": "None", "param": "None", "code": "500"}}), "boom"),
        # of which the log has a part: what the record knows of the whole
        (said('{"err')._replace(body=Body("text", '{"err', 99, truncated=True), failed="boom"), "boom"),
        # of gradio's queue, asked for an unknown session
        (events({"msg": "unexpected_error", "event_id": None, "message": "404: Not Found", "session_not_found": True,
                 "success": False}), "#: Not Found"),
        # lines: Ollama's, and others'
        (lines({"message": {"content": "a"}, "done": False}, {"error": "boom"}), "boom"),
        (lines({"error": "boom"}), "boom"),
        (lines({"token": "a"}, {"error": "boom"}), "boom"),
    ],
)  # fmt: skip
def test_an_answer_that_states_a_failure(answer: RecordedLeg, reason: str) -> None:
    assert failed_reason(answer) == reason


@pytest.mark.parametrize("headers", [{"content-length": "0"}, {"content-type": "text/plain"}])
def test_an_empty_answer_that_is_meant_is_no_failure(headers: dict[str, str]) -> None:
    """Triton's health, a model that was loaded."""
    empty = said("")._replace(headers=headers, body=Body("none", None, 0))
    assert failed_reason(empty) is None
    assert failed_reason(empty._replace(headers={}, status=204)) is None


def test_what_a_gradio_function_returned_is_the_answer_whatever_it_yielded_before() -> None:
    beats = 'event: heartbeat\ndata: null\n\nevent: generating\ndata: ["H"]\n\n'
    one = said(f'{beats}event: complete\ndata: ["Hello", 1]\n\n', "text/event-stream")
    other = said('event: complete\ndata: ["Hello", 1]\n\n', "text/event-stream")
    queued = events(
        {"msg": "estimation", "rank": 0},
        {
            "msg": "process_completed",
            "event_id": "e1",
            "success": True,
            "output": {"data": ["Hello", 1], "duration": 1},
        },
    )
    for leg in (one, other, queued):
        assert answer_value(leg) == {"data": ["Hello", 1]}
        assert failed_reason(leg) is None


CALL = {"id": "c1", "type": "function", "function": {"name": "f", "arguments": "{}"}}


@pytest.mark.parametrize(
    "answer",
    [
        said({"prediction": 3, "error": None}),
        said({"prediction": 3, "error": "boom"}),
        said({"prediction": 0, "error": "boom"}),
        said({"prediction": False, "error": "boom"}),
        said({"error": ""}),
        said({"error": None}),
        said({"error": False}),
        said({"error": 0}),
        said({"error": 0.02}),
        said({"error": "none"}),
        said({"error": {}}),
        said({"error": {"mean": 0.1, "largest": 0.7}}),
        said({"errors": []}),
        said({"errors": [], "predictions": []}),
        said({"data": {"a": 1}, "errors": [{"message": "partly"}]}),
        said({"detail": "a summary of the text"}),
        said({"status": "failed"}),  # a model may predict that a machine failed
        said({"status": "ok", "message": "fine"}),
        said({"code": 0, "message": "ok"}),
        said({"code": 200, "message": "it is late"}),
        said({"code": 3, "message": "class three"}),
        said({"success": True, "message": "fine"}),
        said({"success": False}),
        said({"message": "hello"}),
        said({"label": "error"}),
        said({"status": {"code": 200, "status": "SUCCESS"}, "data": {"ndarray": [1]}}),
        said([]),
        said({}),
        said(None),
        said([{"error": "boom"}, {"prediction": 1}]),  # one row of a batch: its value is missing, the batch is there
        said({"predictions": [{"error": "boom"}]}),
        said({"choices": [{"message": {"content": None, "tool_calls": [CALL]}, "finish_reason": "tool_calls"}]}),
        said({"choices": [{"message": {"content": None, "refusal": "No."}, "finish_reason": "stop"}]}),
        said({"choices": [{"message": {"content": "a"}, "finish_reason": "content_filter"}]}),
        said({"type": "message", "content": [{"type": "text", "text": "a"}], "stop_reason": "refusal"}),
        said({"object": "response", "status": "completed", "error": None, "output": []}),
        said({"object": "response", "status": "incomplete", "error": None, "output": [],
              "incomplete_details": {"reason": "max_output_tokens"}}),
        said("a text about an error", content_type="text/plain"),
        said("<html><title>Form 1040</title>", content_type="text/html"),
        said("", content_type="text/plain"),
        events(CHUNK, ENDED, "[DONE]"),
        events({**CHUNK, "error": None}, ENDED),
        events({"type": "response.created", "response": {}},
               {"type": "response.incomplete", "response": {"status": "incomplete", "error": None, "output": []}}),
        events("null", name="heartbeat"),
        events({"prediction": 1, "error": None}),
        lines({"prediction": 1}, {"prediction": 2, "error": None}),
        lines({"error": "boom"}, {"prediction": 2}, content_type="application/jsonlines"),
        # a status that says so already
        said({"error": "boom"}, status=400),
        said({"error": "boom"}, status=500),
        RecordedLeg(Outcome.TIMEOUT, error="late"),
    ],
)  # fmt: skip
def test_an_answer_that_only_looks_like_a_failure(answer: RecordedLeg) -> None:
    assert failed_reason(answer) is None
