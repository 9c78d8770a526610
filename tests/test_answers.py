"""What an answer is read into: any body to one tree, streamed or whole, by the forms that real servers send."""

import base64
import json
import math
import struct
from typing import Any

import pytest
from logs import said

from shadowproxy.answers import ENVELOPE_PLACES, answer_value, content_of
from shadowproxy.answers.sse import Event, events_of
from shadowproxy.compare.fold.places import extract
from shadowproxy.compare.judge.rules import Rules
from shadowproxy.compare.judge.verdict import compare
from shadowproxy.exchange import Verdict
from shadowproxy.record import Body, RecordedLeg


def sse(*events: Any, done: bool = False) -> RecordedLeg:
    """A stream of events; those whose type begins a name are named by it, as Anthropic and OpenAI do."""
    text = ""
    for each in events:
        named = f"event: {each['type']}\n" if isinstance(each, dict) and "type" in each else ""
        text += f"{named}data: {json.dumps(each)}\n\n"
    return said(text + ("data: [DONE]\n\n" if done else ""), "text/event-stream")


# --- server-sent events


@pytest.mark.parametrize(
    ("text", "events"),
    [
        ("data: 1\n\ndata: 2\n\n", [("", 1), ("", 2)]),
        ("data: 1\r\n\r\ndata: 2\r\n\r\n", [("", 1), ("", 2)]),
        ("data: 1\r\rdata: 2\r\r", [("", 1), ("", 2)]),
        ("data:1\n\n", [("", 1)]),
        ("data:  1\n\n", [("", 1)]),
        ("\ufeffdata: 1\n\n", [("", 1)]),
        ('data: {"a":\ndata: 1}\n\n', [("", {"a": 1})]),
        ("data: a\ndata: b\n\n", [("", "a\nb")]),
        ("data\n\n", [("", "")]),
        (": ping\n\ndata: 1\n\n: bye\n\n", [("", 1)]),
        ("event: x\nid: 7\nretry: 5\ndata: 1\n\n", [("x", 1)]),
        ("event: x\n\ndata: 1\n\n", [("", 1)]),  # the name of an event without data is forgotten with it
        ("data: 1\n\ndata: 2", [("", 1), ("", 2)]),  # cut before its blank line
        ('data: "a\u2028b\x85c"\n\n', [("", "a\u2028b\x85c")]),
        ("data: [DONE]\n\n", [("", "[DONE]")]),
        ("data: NaN\n\n", [("", "NaN")]),
        ("datax: 1\n\n", []),
        ("", []),
    ],
)
def test_events_are_read_by_the_standard(text: str, events: list[tuple[str, Any]]) -> None:
    found = [Event(name, "NaN" if data != data else data) for name, data in events_of(text)]
    assert found == events


# --- what a body is


@pytest.mark.parametrize(
    ("text", "content_type", "kind", "value"),
    [
        ('{"error": "x"}', "text/plain", "json", {"error": "x"}),  # Triton
        ("[1, 2]", "text/html; charset=utf-8", "json", [1, 2]),  # Flask
        ('\ufeff{"a": 1}', "application/json", "json", {"a": 1}),
        ('{\n  "a": [\n    1\n  ]\n}', "", "json", {"a": [1]}),  # mosec
        ('{"a": 123456789012345678901234567890}', "text/plain", "json", {"a": 123456789012345678901234567890}),
        ('{"a": 1}\n', "application/jsonlines", "json", [{"a": 1}]),
        ('{"a": 1}\r\n\r\n{"a": 2}', "application/x-ndjson", "json", [{"a": 1}, {"a": 2}]),
        ('\x1e{"a": 1}\n\x1e{"a": 2}\n', "application/json-seq", "json", [{"a": 1}, {"a": 2}]),
        ("0.1\n0.2\n", "application/jsonlines", "json", [0.1, 0.2]),
        ('{"a": 1}\n{"a": 2}\n', "application/json", "json", [{"a": 1}, {"a": 2}]),
        ('{"a": 1}\n{"a": ', "application/x-ndjson", "json", [{"a": 1}, '{"a":']),
        ('{\n "a": 1\n}', "application/x-ndjson", "json", {"a": 1}),
        ('data: {"a": 1}\n\n', "text/event-stream", "json", [{"a": 1}]),
        ('data: {"a": 1}\n\n', "text/html", "json", [{"a": 1}]),
        ('data: {"a": 1}\n\n', "", "json", [{"a": 1}]),
        (': hi\n\nevent: a\ndata: {"a": 1}\n\n', "", "json", [{"a": 1}]),
        ('{"error": "x"}', "text/event-stream", "json", {"error": "x"}),
        (": only comments\n\n", "text/event-stream", "json", []),
        ("event: ping\nid: 1\nretry: 5\n\n", "text/event-stream", "json", []),
        # What BentoML 1.4.40 makes of a generator of texts.
        ("It is late\nagain", "text/event-stream; charset=utf-8", "text", "It is late\nagain"),
        ("Note: it is late", "text/event-stream; charset=utf-8", "text", "Note: it is late"),
        ("Internal Server Error", "text/event-stream", "text", "Internal Server Error"),
        ("data: hello", "text/plain", "text", "data: hello"),
        ("42", "text/plain", "json", 42),
        ('"late"', "text/plain", "text", '"late"'),
        ("42", "application/json", "json", 42),
        ("{nonsense", "application/json", "text", "{nonsense"),
        ('{"a": 1} {', "application/json", "text", '{"a": 1} {'),
        ("", "text/plain", "empty", None),
        ("[" * 100_000, "application/json", "text", "[" * 100_000),
        ("[" + "9" * 5000 + "]", "application/json", "text", "[" + "9" * 5000 + "]"),
    ],
)
def test_what_a_body_is(text: str, content_type: str, kind: str, value: Any) -> None:
    found = content_of(said(text, content_type))
    assert (found.kind, found.value) == (kind, value)


def test_one_line_of_json_lines_is_valid_and_nan_is_what_only_python_reads() -> None:
    assert not content_of(said('{"a": 1}\n', "application/jsonlines")).lenient
    assert not content_of(said('{"a": "NaN"}', "text/plain")).lenient
    assert content_of(said('{"a": NaN}')).lenient
    assert content_of(said('{"a": 1}\n{"a": -Infinity}\n', "application/x-ndjson")).lenient


@pytest.mark.parametrize("content_type", ["application/json", "text/plain", "application/jsonlines"])
def test_the_same_nan_on_both_sides_is_equal(content_type: str) -> None:
    one, other = said('{"p": [NaN, 1]}\n', content_type), said('{"p":[NaN,1.0]}\n', content_type)
    assert compare(one, other, Rules()).verdict is Verdict.MATCH


# --- plain text


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("hello\n", "hello"),
        ("0.73\n", 0.73),
        ("1", 1),
        ("-1.5e-7", -1.5e-7),
        ("1.", 1.0),
        (".5", 0.5),
        ("007", "007"),
        ("1 2", "1 2"),
        ("0.1,0.2", [0.1, 0.2]),
        ("1,234", "1,234"),
        ("1_000", "1_000"),
        ("²", "²"),
        ("9" * 65, "9" * 65),
        (" ", None),
    ],
)
def test_a_plain_text_is_itself_or_the_number_that_it_is(text: str, value: Any) -> None:
    found = answer_value(said(text, "text/plain"))
    assert (found, type(found)) == (value, type(value))


def test_a_plain_nan_is_a_number() -> None:
    assert math.isnan(answer_value(said("nan\n", "text/plain")))
    assert answer_value(said("-inf", "text/plain")) == -math.inf


@pytest.mark.parametrize(
    "body",
    [None, Body("none", None, 0), Body("none", None, 9, truncated=True), Body("bytes", b"\x00", 1)],
)
def test_what_says_nothing_has_no_value(body: Body | None) -> None:
    assert answer_value(said({})._replace(body=body)) is None


# --- OpenAI chat


def chunk(delta: Any, reason: str | None = None, index: Any = 0, **more: Any) -> dict[str, Any]:
    choice = {"index": index, "delta": delta, "logprobs": None, "finish_reason": reason}
    return {"id": "c1", "object": "chat.completion.chunk", "created": 5, "model": "m", "choices": [choice], **more}


def chat(message: dict[str, Any], reason: str, **more: Any) -> dict[str, Any]:
    choice = {"index": 0, "message": {"role": "assistant", **message}, "logprobs": None, "finish_reason": reason}
    return {"id": "c1", "object": "chat.completion", "created": 5, "model": "m", "choices": [choice], **more}


USAGE = {"prompt_tokens": 9, "completion_tokens": 2, "total_tokens": 11}


def called(*calls: tuple[str, str], content: str | None = None) -> dict[str, Any]:
    return {
        "content": content,
        "tool_calls": [
            {"id": f"call_{at}", "type": "function", "function": {"name": name, "arguments": arguments}}
            for at, (name, arguments) in enumerate(calls)
        ],
    }


def call_pieces(at: int, name: str, *arguments: str) -> list[dict[str, Any]]:
    head = {"index": at, "id": f"call_{at}", "type": "function", "function": {"name": name, "arguments": ""}}
    more = ({"index": at, "function": {"arguments": each}} for each in arguments)
    return [{"tool_calls": [each]} for each in (head, *more)]


MIXED = zip(call_pieces(1, "f", "{", "}"), call_pieces(0, "g", '{"b":2,', '"a":1.0}'), strict=True)

CHATS: dict[str, tuple[list[dict[str, Any]], dict[str, Any], Any]] = {
    "text, usage in a last chunk without choices": (
        [chunk({"role": "assistant", "content": ""}), chunk({"content": "Hel"}), chunk({"content": "lo"}),
         chunk({}, "stop"), {**chunk({}), "choices": [], "usage": USAGE}],
        chat({"content": "Hello"}, "stop", usage=USAGE), "Hello"),
    "llama.cpp: null at first, created changes, timings at the end": (
        [chunk({"role": "assistant", "content": None}), chunk({"content": "Hi"}, created=6),
         chunk({}, "length", created=7),
         {**chunk({}), "choices": [], "usage": USAGE, "timings": {"n": 1}}],
        chat({"content": "Hi"}, "length", usage=USAGE, timings={"n": 1}), "Hi"),
    "LiteLLM: usage in a last chunk with an empty delta": (
        [chunk({"role": "assistant", "content": "Hi"}), chunk({}, "stop"),
         {**chunk({}), "choices": [{"index": 0, "delta": {}}], "usage": USAGE}],
        chat({"content": "Hi"}, "stop", usage=USAGE), "Hi"),
    "one tool call": (
        [chunk({"role": "assistant", "content": None}), *map(chunk, call_pieces(0, "weather", '{"ci', 'ty": "Paris"}')),
         chunk({}, "tool_calls")],
        chat(called(("weather", '{"city": "Paris"}')), "tool_calls"), 'weather({"city":"Paris"})'),
    "two tool calls, their pieces mixed, and an empty text before": (
        [chunk({"role": "assistant", "content": ""}),
         *(chunk(each) for pair in MIXED for each in pair), chunk({}, "tool_calls")],
        chat(called(("g", '{"b":2,"a":1.0}'), ("f", "{}")), "tool_calls"), 'g({"a":1,"b":2})\nf({})'),
    "a text and a call": (
        [chunk({"role": "assistant", "content": "I look."}), *map(chunk, call_pieces(0, "f", "not JSON")),
         chunk({}, "stop")],
        chat(called(("f", "not JSON"), content="I look."), "stop"), 'I look.\nf("not JSON")'),
    "a refusal": (
        [chunk({"role": "assistant", "content": None, "refusal": None}), chunk({"refusal": "I "}),
         chunk({"refusal": "won't."}), chunk({}, "stop")],
        chat({"content": None, "refusal": "I won't."}, "stop"), "I won't."),
    "reasoning before the text": (
        [chunk({"role": "assistant", "reasoning_content": "Hm"}), chunk({"reasoning_content": "m."}),
         chunk({"content": "Yes"}), chunk({}, "stop")],
        chat({"content": "Yes", "reasoning_content": "Hmm."}, "stop"), "Yes"),
    "nothing said": (
        [chunk({"role": "assistant", "content": None}), chunk({}, "stop")], chat({"content": None}, "stop"), None),
    "an empty text": (
        [chunk({"role": "assistant", "content": ""}), chunk({}, "stop")], chat({"content": ""}, "stop"), None),
}  # fmt: skip


@pytest.mark.parametrize("name", CHATS)
def test_a_chat_says_the_same_streamed_and_whole(name: str) -> None:
    events, whole, answer = CHATS[name]
    streamed = answer_value(sse(*events, done=True))
    assert streamed == answer_value(said(whole))
    assert extract(streamed, "/choices/*/answer") == [answer]
    assert compare(sse(*events), said(whole), Rules()).verdict is Verdict.MATCH


def test_arguments_are_values_whatever_their_spelling() -> None:
    one, other = (
        answer_value(said(chat(called(("f", each)), "x"))) for each in ('{"a": 1, "b": 2}', ' {"b":2,"a":1.0} ')
    )
    assert one["choices"][0]["message"]["tool_calls"][0]["function"]["arguments"] == {"a": 1, "b": 2}
    assert one == other


def test_another_function_or_a_text_in_its_place_is_another_answer() -> None:
    """Rows 3 and 10 of what was seen: the texts are all empty, and what is called is not the same."""

    def answer_of(name: str | None) -> Any:
        pieces = [{"content": "It is fine."}] if name is None else call_pieces(0, name, "{}")
        return extract(answer_value(sse(*map(chunk, pieces), chunk({}, "stop"), done=True)), ENVELOPE_PLACES[0])

    assert answer_of("weather") == ["weather({})"]
    assert answer_of("time") == ["time({})"]
    assert answer_of(None) == ["It is fine."]


def test_choices_are_kept_apart_by_index_whatever_that_is() -> None:
    pieces = [(1, "b"), ("0", "a"), (1, "B"), (10**17, "z"), (-5, "?"), (None, "!")]
    mixed = [chunk({"content": text}, index=index) for index, text in pieces]
    value = answer_value(sse(*mixed))
    assert extract(value, "/choices/*/message/content") == ["a?!", "bB", "z"]


def test_calls_that_share_an_index_are_told_apart_by_their_ids() -> None:
    """Seen of a gateway that numbers every call 0."""
    pieces = [
        {"tool_calls": [{"index": 0, "id": each, "function": {"name": each, "arguments": "{}"}}]} for each in "ab"
    ]
    assert extract(answer_value(sse(*map(chunk, pieces))), "/choices/*/answer") == ["a({})\nb({})"]


def test_a_name_that_comes_again_in_each_piece_is_one_name() -> None:
    pieces = [
        {"tool_calls": [{"index": 0, "id": "x", "function": {"name": "f", "arguments": each}}]} for each in ("{", "}")
    ]
    assert extract(answer_value(sse(*map(chunk, pieces))), "/choices/*/answer") == ["f({})"]


def test_the_function_call_of_the_older_api_is_one_too() -> None:
    events = [chunk({"function_call": {"name": "f", "arguments": "{"}}), chunk({"function_call": {"arguments": "}"}})]
    whole = chat({"content": None, "function_call": {"name": "f", "arguments": "{}"}}, "function_call")
    assert answer_value(sse(*events, chunk({}, "function_call"))) == answer_value(said(whole))
    assert extract(answer_value(said(whole)), "/choices/*/answer") == ["f({})"]


def test_a_content_of_parts_is_their_text() -> None:
    parts = [{"type": "text", "text": "Hel"}, {"type": "image_url"}, {"type": "text", "text": "lo"}]
    assert extract(answer_value(said(chat({"content": parts}, "stop"))), "/choices/*/answer") == ["Hello"]


def test_completions_say_the_same_streamed_and_whole() -> None:
    def completion(text: str, reason: str | None) -> dict[str, Any]:
        choice = {"index": 0, "text": text, "logprobs": None, "finish_reason": reason}
        return {"id": "x", "object": "text_completion", "created": 5, "model": "m", "choices": [choice]}

    streamed = answer_value(sse(completion("a", None), completion("b", None), completion("", "length"), done=True))
    assert streamed == answer_value(said(completion("ab", "length")))
    assert extract(streamed, "/choices/*/answer") == ["ab"]


def test_log_probabilities_are_joined() -> None:
    events = [chunk({"content": each}) for each in "ab"]
    for each, token in zip(events, "ab", strict=True):
        each["choices"][0]["logprobs"] = {"content": [{"token": token, "logprob": -1.0}]}
    found = extract(answer_value(sse(*events)), "/choices/*/logprobs/content/*/token")
    assert found == ["a", "b"]


# --- Anthropic


def message(blocks: list[dict[str, Any]], reason: str, output_tokens: int = 7) -> dict[str, Any]:
    return {
        "id": "m1",
        "type": "message",
        "role": "assistant",
        "model": "m",
        "content": blocks,
        "stop_reason": reason,
        "stop_sequence": None,
        "usage": {"input_tokens": 5, "output_tokens": output_tokens},
    }


def message_events(blocks: list[tuple[dict[str, Any], list[dict[str, Any]]]], reason: str) -> list[dict[str, Any]]:
    start = {**message([], reason, 1), "stop_reason": None}
    events: list[dict[str, Any]] = [{"type": "message_start", "message": start}, {"type": "ping"}]
    for index, (block, deltas) in enumerate(blocks):
        events.append({"type": "content_block_start", "index": index, "content_block": block})
        events += [{"type": "content_block_delta", "index": index, "delta": each} for each in deltas]
        events.append({"type": "content_block_stop", "index": index})
    last = {"stop_reason": reason, "stop_sequence": None}
    return [
        *events,
        {"type": "message_delta", "delta": last, "usage": {"output_tokens": 7}},
        {"type": "message_stop"},
    ]


def texts(*pieces: str) -> tuple[dict[str, Any], list[dict[str, Any]]]:
    return {"type": "text", "text": ""}, [{"type": "text_delta", "text": each} for each in pieces]


def uses(name: str, *pieces: str) -> tuple[dict[str, Any], list[dict[str, Any]]]:
    block = {"type": "tool_use", "id": "t1", "name": name, "input": {}}
    return block, [{"type": "input_json_delta", "partial_json": each} for each in pieces]


THINKS = (
    {"type": "thinking", "thinking": "", "signature": ""},
    [{"type": "thinking_delta", "thinking": "Hm"}, {"type": "thinking_delta", "thinking": "m."},
     {"type": "signature_delta", "signature": "sig"}],
)  # fmt: skip


@pytest.mark.parametrize(
    ("blocks", "whole", "answer"),
    [
        ([texts("Hel", "lo")], [{"type": "text", "text": "Hello"}], "Hello"),
        (
            [texts("I look."), uses("weather", "", '{"city": ', '"Paris"}')],
            [{"type": "text", "text": "I look."},
             {"type": "tool_use", "id": "t1", "name": "weather", "input": {"city": "Paris"}}],
            'I look.\nweather({"city":"Paris"})',
        ),
        ([uses("time")], [{"type": "tool_use", "id": "t1", "name": "time", "input": {}}], "time({})"),
        (
            [THINKS, texts("Yes")],
            [{"type": "thinking", "thinking": "Hmm.", "signature": "sig"}, {"type": "text", "text": "Yes"}],
            "Yes",
        ),
        ([], [], None),
    ],
)  # fmt: skip
def test_a_message_says_the_same_streamed_and_whole(blocks: Any, whole: Any, answer: str | None) -> None:
    streamed = answer_value(sse(*message_events(blocks, "end_turn")))
    assert streamed == answer_value(said(message(whole, "end_turn")))
    assert (streamed["answer"], streamed["stop_reason"]) == (answer, "end_turn")


def test_a_message_whose_input_was_cut_keeps_it_as_text() -> None:
    events = message_events([uses("f", '{"city": "Pa')], "max_tokens")
    assert answer_value(sse(*events))["content"][0]["input"] == '{"city": "Pa'


# --- Responses


def response(output: list[dict[str, Any]], status: str = "completed", **more: Any) -> dict[str, Any]:
    return {"id": "r1", "object": "response", "created_at": 5, "model": "m", "status": status, "output": output, **more}


OUTPUT: list[dict[str, Any]] = [
    {"type": "reasoning", "id": "rs", "summary": []},
    {
        "type": "message",
        "id": "ms",
        "role": "assistant",
        "status": "completed",
        "content": [{"type": "output_text", "text": "Hello", "annotations": []}],
    },
    {"type": "function_call", "id": "fc", "call_id": "c", "name": "f", "arguments": '{"a": 1}', "status": "completed"},
]
RESPONSE_EVENTS = [
    {"type": "response.created", "response": response([], "in_progress")},
    {
        "type": "response.output_item.added",
        "output_index": 1,
        "item": {**OUTPUT[1], "status": "in_progress", "content": []},
    },
    {"type": "response.output_text.delta", "output_index": 1, "content_index": 0, "delta": "Hel"},
    {"type": "response.output_text.delta", "output_index": 1, "content_index": 0, "delta": "lo"},
    {"type": "response.output_item.added", "output_index": 2, "item": {**OUTPUT[2], "arguments": ""}},
    {"type": "response.function_call_arguments.delta", "output_index": 2, "delta": '{"a"'},
    {"type": "response.function_call_arguments.delta", "output_index": 2, "delta": ": 1}"},
]


@pytest.mark.parametrize("done", [False, True])  # llama.cpp sends no [DONE], LiteLLM does
def test_a_response_says_the_same_streamed_and_whole(done: bool) -> None:
    whole = response(OUTPUT, usage={"output_tokens": 3})
    streamed = sse(*RESPONSE_EVENTS, {"type": "response.completed", "response": whole}, done=done)
    assert answer_value(streamed) == answer_value(said(whole))
    assert answer_value(streamed)["answer"] == 'Hello\nf({"a":1})'


def test_a_response_that_was_cut_is_what_came_of_it() -> None:
    assert answer_value(sse(*RESPONSE_EVENTS))["answer"] == 'Hello\nf({"a":1})'
    assert answer_value(sse(*RESPONSE_EVENTS[:3]))["answer"] == "Hel"


def test_what_a_server_calls_itself_is_no_part_of_what_the_model_says() -> None:
    made = {"name": "search", "arguments": "{}", "server_label": "s", "output": "found"}
    assert answer_value(said(response([{"type": "mcp_call", **made}, OUTPUT[1]])))["answer"] == "Hello"
    blocks = [
        {"type": "server_tool_use", "id": "t", "name": "web_search", "input": {}},
        {"type": "text", "text": "Hello"},
    ]
    message = {"id": "m", "type": "message", "role": "assistant", "content": blocks, "stop_reason": "end_turn"}
    assert answer_value(said(message))["answer"] == "Hello"


def test_a_refusal_in_a_response_is_what_it_says() -> None:
    item = {"type": "message", "content": [{"type": "refusal", "refusal": "No."}]}
    assert answer_value(said(response([item])))["answer"] == "No."


# --- Ollama


def test_ollamas_chat_and_generate_say_the_same_streamed_and_whole() -> None:
    call = {"function": {"name": "f", "arguments": {"a": 1}}}
    end = {"done": True, "done_reason": "stop", "eval_count": 2}
    parts = [{"model": "m", "message": {"role": "assistant", "content": each}, "done": False} for each in ("Hel", "lo")]
    parts.append({"model": "m", "message": {"role": "assistant", "content": "", "tool_calls": [call]}, "done": False})
    chat_end = {"model": "m", "message": {"role": "assistant", "content": ""}, **end}
    whole = {"model": "m", "message": {"role": "assistant", "content": "Hello", "tool_calls": [call]}, **end}
    streamed = said("".join(json.dumps(each) + "\n" for each in (*parts, chat_end)), "application/x-ndjson")
    assert answer_value(streamed) == answer_value(said(whole))
    assert answer_value(streamed)["answer"] == 'Hello\nf({"a":1})'
    generated = "".join(json.dumps({"model": "m", "response": each, "done": False}) + "\n" for each in ("Hel", "lo"))
    generated += json.dumps({"model": "m", "response": "", **end}) + "\n"
    expected = answer_value(said({"model": "m", "response": "Hello", **end}))
    assert answer_value(said(generated, "application/x-ndjson")) == expected
    assert (expected["answer"], expected["done_reason"]) == ("Hello", "stop")


# --- how streams went


def generated(piece: str, tokens: int | None) -> dict[str, list[dict[str, Any]]]:
    """By API, a stream of three pieces, of which the last is empty, with its usage or without."""
    usage = {} if tokens is None else {"usage": {"completion_tokens": tokens, "output_tokens": tokens}}
    text = [chunk({"content": each}) for each in (piece, piece, "")]
    items = [{"type": "response.output_text.delta", "output_index": 0, "delta": each} for each in (piece, piece, "")]
    end = {"type": "message_delta", "delta": {"stop_reason": "end_turn"}, **usage}
    return {
        "chat": [*text, chunk({}, "stop", **usage)],
        "messages": [
            {"type": "message_start", "message": {}},
            *({"type": "content_block_delta", "index": 0, "delta": each} for each in texts(piece, piece, "")[1]),
            end,
            {"type": "message_stop"},
        ],
        "responses": [*items, {"type": "response.completed", "response": {"object": "response", **usage}}],
    }


@pytest.mark.parametrize("api", ["chat", "messages", "responses"])
@pytest.mark.parametrize(("given", "tokens"), [(7, 7), (None, 2), (-1, 2), (10**12, 2)])
def test_tokens_are_those_of_the_usage_or_else_the_pieces(api: str, given: int | None, tokens: int) -> None:
    stream = content_of(sse(*generated("a", given)[api])).stream
    assert stream is not None
    assert (stream.api, stream.ended, stream.failed, stream.tokens) == (api, True, False, tokens)


@pytest.mark.parametrize("api", ["chat", "messages", "responses"])
def test_a_stream_that_was_cut_has_not_ended(api: str) -> None:
    stream = content_of(sse(*generated("a", None)[api][:-1])).stream
    assert stream is not None
    assert (stream.ended, stream.failed) == (False, False)


def test_reasoning_and_calls_are_generated_too() -> None:
    pieces = [{"reasoning_content": "a"}, {"refusal": "b"}, *call_pieces(0, "f", "{", "}"), {"content": ""}]
    stream = content_of(sse(*map(chunk, pieces))).stream
    assert stream is not None
    assert stream.tokens == 5


# --- anything else


def test_events_and_lines_of_anything_else_are_lists() -> None:
    assert answer_value(sse({"token": 1}, {"token": 2}, done=True)) == [{"token": 1}, {"token": 2}]
    text = "event: heartbeat\ndata: null\n\nevent: token\ndata: [1]\n\nevent: last\ndata: [2]\n\n"
    assert answer_value(said(text, "text/event-stream")) == [[1], [2]]
    assert answer_value(said('{"a": 1}\n{"a": 2}\n', "application/jsonlines")) == [{"a": 1}, {"a": 2}]


def test_an_embedding_in_base64_is_its_numbers() -> None:
    numbers = [0.5, -1.25, 3.0]
    packed = base64.b64encode(struct.pack("<3f", *numbers)).decode()

    def embeddings(each: Any) -> Any:
        payload = {"object": "list", "data": [{"object": "embedding", "index": 0, "embedding": each}], "model": "m"}
        return extract(answer_value(said(payload)), "/data/*/embedding")

    assert embeddings(packed) == embeddings(numbers) == [numbers]
    for odd in ("", "not base64!", "AAA=", 3, None):
        assert embeddings(odd) == [odd]


def test_an_answer_of_that_name_is_left_as_it_is() -> None:
    assert answer_value(said({"answer": "mine", "question": "?"})) == {"answer": "mine", "question": "?"}
