"""When the pieces of a streamed answer came: noted as they pass, recorded without content, and read back."""

import asyncio
import base64
import gzip
import json
from collections.abc import Sequence
from itertools import accumulate
from pathlib import Path
from typing import Any

import pytest
from fakes import PATIENCE, Origin, Peer, chunk_of, chunked
from hypothesis import given
from hypothesis import strategies as st
from program import Program
from test_formats import frame, part
from test_leg import begun

from shadowproxy.answers import About, chat_stream, gemini_stream, messages_stream, ollama_stream, responses_stream
from shadowproxy.answers.event_times import times_in
from shadowproxy.answers.sse import DONE as DONE_WORD
from shadowproxy.answers.sse import events_of
from shadowproxy.answers.streams import KEEP_ALIVE
from shadowproxy.arrivals import Arrivals, Marks, marks_in
from shadowproxy.budget import Budget, Exhausted
from shadowproxy.compare.judge.rules import Rules
from shadowproxy.compare.judge.verdict import judge, judge_values
from shadowproxy.config import Shadow
from shadowproxy.exchange import Exchange, Failure, Fields, Outcome, Reply, Request, Skipped
from shadowproxy.record import Events, Gaps, Judgement, Record, RecordedLeg, decode, read
from shadowproxy.recorder.line import encode, encode_again
from shadowproxy.recorder.policy import Policy
from shadowproxy.replay import run
from shadowproxy.replay.plan import Plan
from shadowproxy.serve.account import Memory
from shadowproxy.serve.mirror.capture import Capture
from shadowproxy.serve.upstreams.endpoint import Endpoint

EVENTS = {
    "first_ms": 20.113,
    "first_token_ms": 1801.2,
    "last_token_ms": 2204.75,
    "tokens": 33,
    "counted": "usage",
    "gaps_ms": {"p50": 12.402, "p99": 19.8, "max": 21.006},
}
READ = Events(20.113, 1801.2, 2204.75, 33, "usage", Gaps(12.402, 19.8, 21.006))


def line_with(**more: Any) -> bytes:
    """A record whose live leg has these members too."""
    leg = {"outcome": "ok", "status": 200, "headers": {}, "body_bytes": 0, "first_byte_ms": 1, "total_ms": 2}
    request = {"method": "POST", "path": "/", "query": "", "headers": {}, "body_bytes": 0}
    head = {"schema": 1, "id": "1", "record": "r", "at": "2026-01-31T12:00:00.123456Z", "proxy": "p/0"}
    return json.dumps({**head, "request": request, "live": {**leg, **more}, "shadows": {}, "control": None}).encode()


# --- read back


def test_the_times_of_a_stream_are_read_back() -> None:
    assert decode(line_with(events=EVENTS)).live.events == READ


def test_a_record_without_times_has_none() -> None:
    assert decode(line_with()).live.events is None


@pytest.mark.parametrize(
    ("events", "read"),
    [
        (None, None),
        ([1, 2], None),
        ("soon", None),
        ({}, Events()),
        ({"first_ms": 3, "more": {}}, Events(3.0)),
        ({**EVENTS, "first_ms": "20"}, READ._replace(first_ms=None)),
        ({**EVENTS, "first_token_ms": -1}, READ._replace(first_token_ms=None)),
        ({**EVENTS, "last_token_ms": True}, READ._replace(last_token_ms=None)),
        ({**EVENTS, "last_token_ms": 1e300}, READ._replace(last_token_ms=None)),
        ({**EVENTS, "tokens": 0}, READ._replace(tokens=None, counted=None)),
        ({**EVENTS, "tokens": 1.5}, READ._replace(tokens=None, counted=None)),
        ({**EVENTS, "counted": "guess"}, READ._replace(tokens=None, counted=None)),
        ({**EVENTS, "counted": ["usage"]}, READ._replace(tokens=None, counted=None)),
        ({**EVENTS, "gaps_ms": 12}, READ._replace(gaps=None)),
        ({**EVENTS, "gaps_ms": {"p50": 1, "max": 2}}, READ._replace(gaps=None)),
        ({**EVENTS, "gaps_ms": {"p50": 1, "p99": None, "max": 2}}, READ._replace(gaps=None)),
    ],
)
def test_a_record_with_odd_times_stays_readable(events: Any, read: Events | None) -> None:
    assert decode(line_with(events=events)).live.events == read


# --- found in a body and the marks of its pieces


STREAM = {"content-type": "text/event-stream"}


def marks_of(*pieces: tuple[int, float]) -> Marks:
    """Pieces of these lengths, and when they came."""
    sizes = list(accumulate(size for size, _ in pieces))
    return Marks(sizes, [ms for _, ms in pieces], [1] * len(pieces))


def times_of(
    pieces: Sequence[tuple[bytes, float]], kind: str = "text/event-stream", *, whole: bool = True
) -> Events | None:
    """The times of a body that came in these pieces, each with its milliseconds."""
    body = b"".join(piece for piece, _ in pieces)
    marks = marks_of(*[(len(piece), ms) for piece, ms in pieces])
    return times_in(body, {"content-type": kind}, marks, Budget(), whole=whole)


def event(value: Any, name: str = "") -> bytes:
    named = f"event: {name}\n" if name else ""
    return f"{named}data: {value if isinstance(value, str) else json.dumps(value)}\n\n".encode()


def delta(**delta: Any) -> bytes:
    return event({"object": "chat.completion.chunk", "choices": [{"index": 0, "delta": delta}]})


ROLE = delta(role="assistant", content=None)
STOP = event({"object": "chat.completion.chunk", "choices": [{"index": 0, "delta": {}, "finish_reason": "stop"}]})
USAGE = event({"object": "chat.completion.chunk", "choices": [], "usage": {"completion_tokens": 7, "prompt_tokens": 3}})
DONE = event("[DONE]")


def test_a_chat_has_its_first_and_last_token_and_the_gaps_between() -> None:
    """llama.cpp: its head long before; a first delta whose content is null; the usage in a chunk of its own."""
    came = [(ROLE, 1800.0), (delta(content="a"), 1810.0), (delta(content="b"), 1830.0), (delta(content="c"), 1835.0)]
    assert times_of([*came, (STOP, 1900.0), (USAGE, 1901.0), (DONE, 1902.0)]) == Events(
        1800.0, 1810.0, 1835.0, 7, "usage", Gaps(5.0, 20.0, 20.0)
    )


def test_tokens_are_the_pieces_where_no_usage_is_sent() -> None:
    came = [(delta(content=""), 1.0), (delta(content="a"), 2.0), (delta(content="b"), 4.0), (STOP + DONE, 5.0)]
    assert times_of(came) == Events(1.0, 2.0, 4.0, 2, "pieces", Gaps(2.0, 2.0, 2.0))


def test_usage_in_each_chunk_counts_as_the_last_one_says() -> None:
    """vLLM's continuous_usage_stats."""
    chunks = [
        {"choices": [{"delta": {"content": "x"}}], "usage": {"completion_tokens": each, "prompt_tokens": 1}}
        for each in (1, 2, 3)
    ]
    found = times_of([(event(chunk), at) for at, chunk in enumerate(chunks)])
    assert found is not None
    assert (found.tokens, found.counted) == (3, "usage")


def test_several_events_in_one_piece_come_at_once() -> None:
    came = [(ROLE + delta(content="a"), 5.0), (delta(content="b") + delta(content="c") + STOP + DONE, 9.0)]
    assert times_of(came) == Events(5.0, 5.0, 9.0, 3, "pieces", Gaps(0.0, 4.0, 4.0))


def test_an_event_in_several_pieces_comes_with_the_last_of_them() -> None:
    """And one whose blank line comes later has not come before it."""
    first, second = delta(content="a"), delta(content="b")
    came = [(first[:5], 1.0), (first[5:-1], 2.0), (first[-1:] + second[:30], 3.0), (second[30:], 4.0), (DONE, 5.0)]
    assert times_of(came) == Events(3.0, 3.0, 4.0, 2, "pieces", Gaps(1.0, 1.0, 1.0))


def test_a_stream_without_a_token_has_none() -> None:
    assert times_of([(ROLE, 5.0), (STOP, 6.0), (USAGE, 7.0), (DONE, 8.0)]) == Events(5.0)


def test_one_token_has_no_gaps() -> None:
    assert times_of([(ROLE, 5.0), (delta(content="a"), 6.0)]) == Events(5.0, 6.0, 6.0, 1, "pieces")


@pytest.mark.parametrize(
    "spoken",
    [
        delta(reasoning_content="a"),
        delta(reasoning="a"),
        delta(refusal="a"),
        delta(content=[{"type": "text", "text": "a"}]),
        delta(tool_calls=[{"index": 0, "id": "1", "function": {"name": "f", "arguments": ""}}]),
        delta(tool_calls=[{"index": 0, "function": {"arguments": "{"}}]),
        delta(function_call={"name": "f"}),
        event({"object": "text_completion", "choices": [{"index": 0, "text": "a"}]}),
        event({"choices": [{"delta": {"content": "a"}, "logprobs": {"content": [{"logprob": float("-inf")}]}}]}),
        b'data: {"choices": [{"delta":\ndata: {"content": "a"}}]}\n\n',
        b'id: 1\nevent: message\ndata:{"choices":[{"delta":{"content":"a"}}]}\nretry: 5\n\n',
    ],
)
def test_what_the_model_generated_is_a_token(spoken: bytes) -> None:
    assert times_of([(ROLE, 1.0), (spoken, 2.0)]) == Events(1.0, 2.0, 2.0, 1, "pieces")


@pytest.mark.parametrize(
    "silent",
    [
        delta(content=""),
        delta(content=None, tool_calls=[]),
        delta(tool_calls=[{"index": 0, "id": "1"}]),
        delta(content=[]),
        event({"choices": [{"delta": None}]}),
        event({"choices": [{"delta": {"content": ""}, "finish_reason": "stop"}]}),
        event("no JSON"),
        event("null"),
        b": still here\n\n",
        b"event: ping\ndata: {}\n\n",
        b'data: {"choices":[{"text":"a"}]}\ndata: {"choices":[{"text":"a"}]}\n\n',  # is no JSON, put together
    ],
)
def test_what_holds_nothing_that_was_generated_is_no_token(silent: bytes) -> None:
    found = times_of([(ROLE, 1.0), (silent, 2.0), (delta(content="a"), 3.0)])
    assert found is not None
    assert (found.first_ms, found.first_token_ms, found.tokens) == (1.0, 3.0, 1)


def test_comments_and_pings_are_no_events() -> None:
    came = [(b": hi\n\n", 1.0), (b"event: ping\ndata: {}\n\n", 2.0), (b"\n\n\n", 3.0), (event({"a": 1}), 4.0)]
    assert times_of(came) == Events(4.0)


MESSAGE = [
    {"type": "message_start", "message": {"type": "message", "usage": {"input_tokens": 9, "output_tokens": 1}}},
    {"type": "content_block_start", "index": 0, "content_block": {"type": "text", "text": ""}},
    {"type": "content_block_delta", "index": 0, "delta": {"type": "thinking_delta", "thinking": "a"}},
    {"type": "content_block_delta", "index": 0, "delta": {"type": "signature_delta", "signature": "s"}},
    {"type": "content_block_delta", "index": 0, "delta": {"type": "text_delta", "text": ""}},
    {"type": "content_block_delta", "index": 1, "delta": {"type": "input_json_delta", "partial_json": "{}"}},
    {"type": "message_delta", "delta": {"stop_reason": "end_turn"}, "usage": {"output_tokens": 5}},
    {"type": "message_stop"},
]
RESPONSE = [
    {"type": "response.created", "response": {"status": "in_progress", "usage": None}},
    {"type": "response.output_text.delta", "delta": ""},
    {"type": "response.output_text.delta", "delta": "a"},
    {"type": "response.refusal.delta", "delta": "b"},
    {"type": "response.output_text.done", "text": "a"},
    {"type": "response.completed", "response": {"status": "completed", "usage": {"output_tokens": 5}}},
]
GEMINI = [
    {"candidates": [{"content": {"parts": [{"text": "a"}]}}], "usageMetadata": {"promptTokenCount": 2}},
    {"candidates": [{"content": {"parts": [{"functionCall": {"name": "f"}}]}}]},
    {"candidates": [{"content": {"parts": [{"text": ""}]}, "finishReason": "STOP"}], "usageMetadata":
        {"candidatesTokenCount": 3, "thoughtsTokenCount": 2}},
]  # fmt: skip
OLLAMA = [
    {"message": {"role": "assistant", "content": ""}, "done": False},
    {"message": {"role": "assistant", "content": "", "thinking": "a"}, "done": False},
    {"message": {"role": "assistant", "content": "b"}, "done": False},
    {"message": {"role": "assistant", "content": "", "tool_calls": [{"function": {"name": "f"}}]}, "done": False},
    {"message": {"role": "assistant", "content": ""}, "done": True, "eval_count": 5},
]


@pytest.mark.parametrize(
    ("values", "first", "last"), [(MESSAGE, 2.0, 5.0), (RESPONSE, 2.0, 3.0), (GEMINI, 0.0, 1.0)], ids=["m", "r", "g"]
)
def test_each_api_has_its_tokens(values: list[Any], first: float, last: float) -> None:
    found = times_of([(event(value), float(at)) for at, value in enumerate(values)])
    assert found is not None
    assert found[:5] == (0.0, first, last, 5, "usage")


@pytest.mark.parametrize("end", ["\n", "\r\n"])
def test_lines_of_json_are_events_too(end: str) -> None:
    lines = [json.dumps(value).encode() + end.encode() for value in OLLAMA]
    found = times_of([(line, float(at)) for at, line in enumerate(lines)], "application/x-ndjson")
    assert found == Events(0.0, 1.0, 3.0, 5, "usage", Gaps(1.0, 1.0, 1.0))


def test_a_last_line_without_an_end_has_come_with_its_last_byte() -> None:
    came = [(b'{"a":1}\n{"a"', 1.0), (b":2}", 5.0)]
    assert times_of(came, "application/x-ndjson") == Events(1.0, gaps=Gaps(4.0, 4.0, 4.0))
    assert times_of(came, "application/x-ndjson", whole=False) == Events(1.0)


def test_a_stream_of_no_known_api_has_the_gaps_between_its_events() -> None:
    came = [(event({"n": each}), ms) for each, ms in enumerate((1.0, 2.0, 4.0, 8.0))]
    assert times_of(came) == Events(1.0, gaps=Gaps(2.0, 4.0, 4.0))


def test_a_stream_whose_end_is_not_kept_has_only_the_times_of_its_beginning() -> None:
    came = [(ROLE, 1.0), (delta(content="a"), 2.0), (delta(content="b"), 3.0), (delta(content="c")[:20], 4.0)]
    assert times_of(came, whole=False) == Events(1.0, 2.0)
    assert times_of([(event({"n": 1}), 1.0), (event({"n": 2}), 2.0)], whole=False) == Events(1.0)


@pytest.mark.parametrize("kind", ["application/json", "text/html", "application/octet-stream", ""])
def test_what_is_no_stream_has_no_times(kind: str) -> None:
    assert times_of([(b'{"choices": [', 1.0), (b"1, 2]}", 2.0)], kind) is None


@pytest.mark.parametrize("kind", ["", "text/plain"])
def test_events_under_another_type_are_events(kind: str) -> None:
    """LitServe sends none."""
    assert times_of([(ROLE, 1.0), (delta(content="a"), 2.0)], kind) == Events(1.0, 2.0, 2.0, 1, "pieces")


@pytest.mark.parametrize("pieces", [100, 1500])
def test_events_between_two_coarse_marks_come_evenly(pieces: int) -> None:
    """One event a piece, one piece each ten milliseconds: as it was, though most pieces have no mark."""
    events = [delta(content=str(each)) for each in range(pieces)]
    arrivals = Arrivals(len(events[0]), 0.01)
    for count, size in enumerate(accumulate(map(len, events)), 1):
        if count > 1:
            arrivals.add(size, 0.01 * count)
    marks = marks_in(arrivals.packed(0.0))
    assert marks is not None
    found = times_in(b"".join(events), STREAM, marks, Budget())
    assert found is not None
    assert found.gaps is not None
    assert (found.first_ms, found.tokens) == (10.0, pieces)
    assert found.last_token_ms == pytest.approx(10.0 * pieces)
    assert list(found.gaps) == pytest.approx([10.0, 10.0, 10.0])


def test_a_stall_between_two_coarse_marks_is_spread_over_them() -> None:
    events = [delta(content="a")] * 4
    size = len(events[0])
    body = b"".join(events)
    coarse = times_in(body, STREAM, Marks([size, 4 * size], [10.0, 310.0], [1, 3]), Budget())
    assert coarse == Events(10.0, 10.0, 310.0, 4, "pieces", Gaps(100.0, 100.0, 100.0))
    exact = times_in(body, STREAM, Marks([size, 4 * size], [10.0, 310.0], [1, 1]), Budget())
    assert exact == Events(10.0, 10.0, 310.0, 4, "pieces", Gaps(0.0, 300.0, 300.0))


def test_a_stream_that_costs_too_much_to_read_has_no_times() -> None:
    events = [delta(content="a")] * 1000
    with pytest.raises(Exhausted):
        times_in(b"".join(events), STREAM, marks_of((10, 1.0)), Budget(steps=500))
    deep = event("[" * 200_000)
    with pytest.raises(Exhausted):
        times_in(deep, STREAM, marks_of((len(deep), 1.0)), Budget(memory=1 << 20))


# --- the same events and tokens as where the stream is put together

TEXTS = st.sampled_from(["a", "", "é\u2028", None, 1, [], [{"type": "text", "text": "b"}], [{"text": ""}], {"x": 1}])
CALLS: st.SearchStrategy[Any] = st.sampled_from(
    [{}, {"name": "f"}, {"arguments": ""}, {"arguments": "{"}, {"arguments": {}}, None]
)
CHUNKS = st.one_of(
    st.fixed_dictionaries(
        {},
        optional={
            "content": TEXTS,
            "reasoning_content": TEXTS,
            "refusal": TEXTS,
            "tool_calls": st.lists(st.fixed_dictionaries({"index": st.just(0)}, optional={"function": CALLS})),
            "function_call": CALLS,
        },
    ).map(lambda delta: {"choices": [{"index": 0, "delta": delta}]}),
    TEXTS.map(lambda text: {"choices": [{"index": 0, "text": text}]}),
)
DELTAS = st.tuples(
    st.sampled_from(["text_delta", "thinking_delta", "signature_delta", "input_json_delta", "x", None]),
    st.sampled_from(["text", "thinking", "signature", "partial_json"]),
    TEXTS,
).map(lambda each: {"type": "content_block_delta", "index": 0, "delta": {"type": each[0], each[1]: each[2]}})
OUTPUTS = st.tuples(
    st.sampled_from(["response.output_text.delta", "response.reasoning_text.delta", "response.output_text.done"]), TEXTS
).map(lambda each: {"type": each[0], "delta": each[1]})
PARTS: st.SearchStrategy[Any] = st.lists(
    st.one_of(TEXTS.map(lambda text: {"text": text}), st.just({"functionCall": {}})), max_size=2
).map(lambda parts: {"candidates": [{"content": {"parts": parts}}]})
MESSAGES = st.tuples(TEXTS, TEXTS).map(
    lambda each: {"message": {"content": each[0], "thinking": each[1]}, "done": False}
)


@pytest.mark.parametrize(
    ("module", "events", "first"),
    [
        (chat_stream, CHUNKS, {"object": "chat.completion.chunk"}),
        (messages_stream, DELTAS, {"type": "message_start"}),
        (responses_stream, OUTPUTS, {"type": "response.created"}),
        (gemini_stream, PARTS, {"candidates": [{"finishReason": None}]}),
        (ollama_stream, MESSAGES, {"response": "", "done": False}),
    ],
)
@given(st.data(), st.booleans())
def test_an_event_is_a_token_if_putting_it_together_counts_one(
    module: Any, events: Any, first: Any, data: st.DataObject, spaced: bool
) -> None:
    value = data.draw(events)
    counts = bool(module.assembled([value]).tokens)
    assert module.has_piece(value) == counts
    separators = (", ", ": ") if spaced else (",", ":")
    lines = [json.dumps(each, separators=separators).encode() for each in (first, value)]
    for body, kind in (
        (b"data: %b\n\ndata: %b\n\n" % (*lines,), "text/event-stream"),
        (b"%b\n%b\n" % (*lines,), "application/x-ndjson"),
    ):
        found = times_in(body, {"content-type": kind}, marks_of((len(body), 1.0)), Budget())
        assert found is not None
        assert (found.tokens == 1) == counts


@pytest.mark.parametrize(
    "text",
    ['{"delta":{"content":"x"}}', '{"choices":[{"text":"x"}]}', '{"type":"text_delta","text":"x"}', '"response":"x"'],
)
def test_a_text_that_quotes_an_event_is_not_taken_for_one(text: str) -> None:
    for silent in (delta(content=None, note=text), delta(role=text)):
        assert times_of([(ROLE, 1.0), (silent, 2.0)]) == Events(1.0)
    for first in (MESSAGE[0], RESPONSE[0]):
        assert times_of([(event(first), 1.0), (event({"type": "x", "note": text}), 2.0)]) == Events(1.0)


CHUNK = 'data: {"choices": [{"text": "a"}]}'
LINES = [CHUNK, CHUNK, "data: 1", "data:2", "data", "data: ", "event: x", "event: ping", ": c", "", "", "id: 3"]
BLOCKS = st.lists(st.sampled_from([*LINES, "retry: 1", "data: [DONE]"]))


@given(BLOCKS, st.sampled_from(["\n", "\r\n", "\r"]), st.booleans())
def test_the_events_are_those_that_are_compared(lines: list[str], end: str, marked: bool) -> None:
    text = ("\ufeff" if marked else "") + "".join(line + end for line in lines)
    expected = [
        each
        for each in events_of(text)
        if each.name not in KEEP_ALIVE and (not isinstance(each.data, str) or each.data.strip() not in (DONE_WORD, ""))
    ]
    spoken = sum(isinstance(each.data, dict) for each in expected)
    body = text.encode()
    # A mark at each byte, whose time is how many bytes had come.
    marks = Marks(list(range(1, len(body) + 1)), [float(at + 1) for at in range(len(body))], [1] * len(body))
    found = times_in(body, STREAM, marks, Budget())
    assert (found is None) == (not expected)
    if found is not None:
        assert (found.tokens or 0) == spoken
        assert (found.gaps is None) == ((spoken or len(expected)) < 2)


@pytest.mark.parametrize(
    ("first", "again"),
    [
        (RESPONSE[0], '{"type":"response.output_text.delta",'),
        (OLLAMA[0], '"response":"x'),
        (MESSAGE[0], '{"type":"content_block_delta","index":0,"delta":{'),
        ({"object": "chat.completion.chunk"}, '"delta":{"role":"assistant",'),
        ({"object": "chat.completion.chunk"}, '"choices":[{"text":"a","usage":'),
    ],
)
def test_an_event_that_seems_to_begin_often_is_read_in_linear_time(first: Any, again: str) -> None:
    """Four megabytes: were each beginning to be followed to the end, it would take hours."""
    body = event(first) + b"data: " + again.encode() * ((4 << 20) // len(again)) + b"}\n\n"
    found = times_in(body, STREAM, marks_of((len(body), 1.0)), Budget(steps=1 << 60, memory=1 << 40))
    assert found is not None


def in_frames(frames: Sequence[bytes], kind: str = "") -> Events | None:
    """The times of frames that came one a millisecond; `kind` is the type of what they carry."""
    named = {"content-type": "application/vnd.amazon.eventstream", "x-amzn-sagemaker-content-type": kind}
    marks = marks_of(*[(len(each), float(at)) for at, each in enumerate(frames)])
    return times_in(b"".join(frames), named, marks, Budget())


@pytest.mark.parametrize("kind", ["text/event-stream", ""])
def test_events_in_parts_of_sagemaker_have_come_with_the_part_that_ends_them(kind: str) -> None:
    a, b = delta(content="a"), delta(content="b")
    frames = [part(ROLE), part(a[:20]), part(a[20:] + b[:5]), part(b[5:] + STOP), part(DONE)]
    assert in_frames(frames, kind) == Events(0.0, 2.0, 3.0, 2, "pieces", Gaps(1.0, 1.0, 1.0))


def test_lines_in_parts_of_sagemaker_are_events() -> None:
    frames = [part(json.dumps(each).encode() + b"\n") for each in OLLAMA]
    assert in_frames(frames, "application/jsonlines") == Events(0.0, 1.0, 3.0, 5, "usage", Gaps(1.0, 1.0, 1.0))


def test_chunks_of_bedrock_are_the_events_that_they_hold() -> None:
    frames = [
        frame(
            json.dumps({"bytes": base64.b64encode(json.dumps(each).encode()).decode()}).encode(),
            event_type="chunk",
            message_type="event",
        )
        for each in MESSAGE
    ]
    assert in_frames(frames) == Events(0.0, 2.0, 5.0, 5, "usage", Gaps(3.0, 3.0, 3.0))


def test_other_frames_are_events_and_a_failure_is_none() -> None:
    frames = [frame(b'{"a":1}', event_type="x", message_type="event")] * 3
    failed = frame(b'{"message":"no"}', exception_type="ModelStreamError", message_type="exception")
    assert in_frames([*frames, failed]) == Events(0.0, gaps=Gaps(1.0, 1.0, 1.0))
    assert in_frames([failed]) is None


@pytest.mark.parametrize("payload", [b"{", b"[]", b'{"bytes":1}', b'{"bytes":"!"}', b"\xff", b""])
def test_a_chunk_that_holds_nothing_is_no_event(payload: bytes) -> None:
    assert in_frames([frame(payload, event_type="chunk", message_type="event")] * 2) is None


def test_any_bytes_have_times_or_none() -> None:
    for body in (b"data", b"data:", b"\r", b"\n\n", b"\xff\xfe: x\n\n", b"data: \xff\n\n", b"data: " + b"[" * 2000):
        for kind in ("text/event-stream", "application/x-ndjson"):
            times_in(body, {"content-type": kind}, marks_of((len(body), 1.0)), Budget())


# --- in the record

EVENT_STREAM = (b"Content-Type", b"text/event-stream")
CHAT = [ROLE, delta(content="a"), delta(content="b"), STOP + DONE]
CHAT_TIMES = {"first_ms": 1.0, "first_token_ms": 2.0, "last_token_ms": 3.0, "tokens": 2, "counted": "pieces",
              "gaps_ms": {"p50": 1.0, "p99": 1.0, "max": 1.0}}  # fmt: skip


def streamed(
    *pieces: bytes, fields: Fields = (EVENT_STREAM,), kept: int | None = None, status: int = 200, every: float = 1.0
) -> Reply:
    """A reply whose pieces came one each `every` milliseconds, and of which the first `kept` bytes are known."""
    sizes = list(accumulate(map(len, pieces)))
    arrivals = Arrivals(sizes[0], every / 1000)
    for number, size in enumerate(sizes[1:], 2):
        arrivals.add(size, number * every / 1000)
    packed = arrivals.packed(0.0) if len(pieces) > 1 else b""
    return Reply(status, fields, b"".join(pieces)[:kept], sizes[-1], 0.5, 9.0, arrivals=packed)


def recorded(live: Reply | Failure, *shadows: Reply | Failure, judged: bool = True, **policy: Any) -> dict[str, Any]:
    request = Request("id-1", "rec-1", 1_769_860_800_123_456_789, "POST", b"/p", (), b"{}", 2)
    legs: dict[str, Reply | Failure | Skipped] = {f"s{at}": leg for at, leg in enumerate(shadows)}
    rules = Rules()
    line = encode(
        Exchange(request, live, legs),
        proxy="p/0",
        policy=Policy(**policy),
        judge=(lambda one, other, budget, about: judge(one, other, rules, budget, about)) if judged else None,
        judge_values=(lambda one, other, budget, about: judge_values(one, other, rules, budget, about))
        if judged
        else None,
    )
    whole: dict[str, Any] = json.loads(line)
    assert decode(line).live.events == read_of(whole["live"])
    return whole


def read_of(leg: dict[str, Any]) -> Events | None:
    return decode(line_with(events=leg["events"])).live.events if "events" in leg else None


@pytest.mark.parametrize("bodies", ["full", "hash", "none"])
@pytest.mark.parametrize("judged", [True, False])
@pytest.mark.parametrize("shadows", [0, 1])
def test_the_times_are_in_the_record_whether_or_not_its_bodies_are(bodies: str, judged: bool, shadows: int) -> None:
    line = recorded(streamed(*CHAT), *[streamed(*CHAT, every=2.0)] * shadows, judged=judged, bodies=bodies)
    assert line["live"]["events"] == CHAT_TIMES
    for leg in line["shadows"].values():
        assert leg["events"]["first_token_ms"] == 4.0
        assert leg.get("verdict") == ("match" if judged else None)


def test_an_answer_that_came_at_once_has_no_times() -> None:
    line = recorded(streamed(b"".join(CHAT)), streamed(*CHAT))
    assert "events" not in line["live"]
    assert line["shadows"]["s0"]["events"] == CHAT_TIMES


def test_json_that_came_in_pieces_has_no_times() -> None:
    assert (
        "events" not in recorded(streamed(b'{"y":', b" 1}", fields=((b"Content-Type", b"application/json"),)))["live"]
    )


def test_a_stream_that_broke_off_has_the_times_of_what_came() -> None:
    broken = Failure(Outcome.INCOMPLETE, "cut", 4.0, streamed(*CHAT[:3]))
    assert recorded(broken)["live"]["events"] == CHAT_TIMES
    assert "events" not in recorded(Failure(Outcome.TIMEOUT, "late", 4.0))["live"]


def test_a_stream_of_which_a_part_is_known_has_the_times_of_its_beginning() -> None:
    kept = len(CHAT[0] + CHAT[1]) + 5
    assert recorded(streamed(*CHAT, kept=kept))["live"]["events"] == {"first_ms": 1.0, "first_token_ms": 2.0}


def test_a_stream_that_is_longer_than_the_log_has_bodies_has_all_its_times() -> None:
    assert recorded(streamed(*CHAT), body_limit=50)["live"]["events"] == CHAT_TIMES


@pytest.mark.parametrize("coding", [b"gzip", b"unknown"])
def test_a_stream_in_a_content_coding_has_no_times(coding: bytes) -> None:
    packed = gzip.compress(b"".join(CHAT), 0)  # stored as it is: the events are in the bytes on the wire too
    line = recorded(streamed(packed[:20], packed[20:], fields=(EVENT_STREAM, (b"Content-Encoding", coding))))
    assert "events" not in line["live"]


def test_identity_is_no_coding() -> None:
    line = recorded(streamed(*CHAT, fields=(EVENT_STREAM, (b"Content-Encoding", b"identity"))))
    assert line["live"]["events"] == CHAT_TIMES


def test_times_that_cost_too_much_are_left_out_and_the_verdict_stands() -> None:
    """The clock moves on only once the two answers have been compared."""
    long = streamed(*[delta(content=str(each)) for each in range(3000)])
    request = Request("id-1", "rec-1", 1, "POST", b"/p", (), b"{}", 2)
    judged: list[str] = []
    rules = Rules()

    def judge_and_note(one: RecordedLeg, other: RecordedLeg, budget: Budget, about: About) -> Judgement:
        made = judge(one, other, rules, budget, about)
        judged.append(made.verdict)
        return made

    line = json.loads(
        encode(
            Exchange(request, long, {"s": long._replace(body=long.body.replace(b"2999", b"3999"))}),
            proxy="p/0",
            policy=Policy(seconds=1.0),
            judge=judge_and_note,
            clock=lambda: 10.0 * len(judged),
        )
    )
    assert judged == [line["shadows"]["s"]["verdict"]] == ["mismatch"]
    assert "events" not in line["live"]
    assert "events" not in line["shadows"]["s"]


def test_the_record_of_a_replay_has_the_times_too() -> None:
    old = decode(line_with())
    line, verdict = encode_again(
        old,
        streamed(*CHAT),
        request=b'{"method":"POST","path":"/","query":"","headers":{},"body_bytes":0}',
        live=b'{"outcome":"ok","status":200,"headers":{},"body_bytes":0}',
        shadow="s",
        record_id="r2",
        sent_ns=1,
        proxy="p/replay",
        policy=Policy(),
        judge=lambda one, other, budget, about: judge(one, other, Rules(), budget, about),
    )
    assert verdict is not None
    assert json.loads(line)["shadows"]["s"]["events"] == CHAT_TIMES


# --- over sockets

HEAD = b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nTransfer-Encoding: chunked\r\n\r\n"
ASKED = b"POST /v1/chat/completions HTTP/1.1\r\nHost: a\r\nContent-Length: 2\r\n\r\n{}"
PIECES = [ROLE, delta(content="a"), delta(content="b"), STOP]


class Gate:
    """A server that sends one piece each time that the test says so."""

    def __init__(self, *pieces: bytes) -> None:
        self.pieces = pieces
        self._sent: asyncio.Queue[bytes] = asyncio.Queue()

    def send(self, piece: bytes) -> None:
        self._sent.put_nowait(piece)

    async def script(self, peer: Peer) -> None:
        while await peer.request() is not None:
            for _ in self.pieces:
                await peer.send(await self._sent.get())


@pytest.mark.parametrize("log", [{}, {"bodies": "none"}])
async def test_a_stream_is_timed_as_its_pieces_pass(tmp_path: Path, log: dict[str, Any]) -> None:
    """Each piece is sent when the caller has the one before: so each came later than it."""
    gate = Gate(HEAD, *map(chunk_of, PIECES), b"0\r\n\r\n")
    shadow = chunked(b"".join(PIECES), fields=(EVENT_STREAM,))
    async with Origin(gate.script) as lives, Origin(shadow) as shadows:
        values: dict[str, Any] = {"live": {"url": lives.url}, "shadows": {"s": {"url": shadows.url}}}
        values["log"] = {"path": str(tmp_path / "log"), **log}
        async with Program(tmp_path, values) as program:
            async with await program.caller() as caller:
                await caller.send(ASKED)
                for piece in gate.pieces:
                    before = len(caller.received)
                    gate.send(piece)
                    await caller.wait_received(before + 1)
            assert await program.stop() == 0
            (record,) = program.records()
    live, events = record.live, record.live.events
    assert events is not None
    assert events.first_ms is not None
    assert events.first_token_ms is not None
    assert events.last_token_ms is not None
    assert live.first_byte_ms is not None
    assert live.total_ms is not None
    came = [live.first_byte_ms, events.first_ms, events.first_token_ms, events.last_token_ms, live.total_ms]
    assert came == sorted(set(came))
    assert (events.tokens, events.counted) == (2, "pieces")
    assert events.gaps is not None
    assert events.gaps.max == pytest.approx(events.last_token_ms - events.first_token_ms, abs=0.0015)
    assert record.shadows["s"].events is None  # it came at once


async def test_a_shadows_stream_is_timed_as_its_pieces_come() -> None:
    gate = Gate(HEAD, *map(chunk_of, PIECES), b"0\r\n\r\n")
    ended: asyncio.Queue[Reply | Failure] = asyncio.Queue()
    capture = Capture(1 << 20, Memory(1 << 20))
    async with Origin(gate.script) as origin, Endpoint(origin.url) as endpoint, asyncio.timeout(PATIENCE):
        begun(endpoint, capture, lambda _, came: ended.put_nowait(came))
        for number, piece in enumerate(gate.pieces):
            gate.send(piece)
            while capture.size < sum(map(len, PIECES[:number])):  # noqa: ASYNC110
                await asyncio.sleep(0.001)
        reply = await ended.get()
    assert isinstance(reply, Reply)
    marks = marks_in(reply.arrivals)
    assert marks is not None
    assert marks.sizes == list(accumulate(map(len, PIECES)))
    assert reply.first_byte_ms <= marks.ms[0]
    assert [*marks.ms, reply.total_ms] == sorted({*marks.ms, reply.total_ms})


async def test_a_replayed_stream_is_timed_too(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    gate = Gate(HEAD, *map(chunk_of, CHAT), b"0\r\n\r\n")
    captures: list[Capture] = []

    def capture(limit: int, memory: Memory) -> Capture:
        captures.append(Capture(limit, memory))
        return captures[-1]

    monkeypatch.setattr(run, "Capture", capture)
    old, new = tmp_path / "old.jsonl", tmp_path / "new"
    old.write_bytes(line_with() + b"\n")
    async with Origin(gate.script) as origin:
        plan = Plan((str(old),), "s", Shadow(url=origin.url), new, rate=float("inf"), methods=frozenset("*"))
        replaying = asyncio.create_task(run.send_all(plan))
        async with asyncio.timeout(PATIENCE):
            for number, piece in enumerate(gate.pieces):
                gate.send(piece)
                while not captures or captures[0].size < sum(map(len, CHAT[:number])):  # noqa: ASYNC110
                    await asyncio.sleep(0.001)
            await replaying
    (record,) = read([new])
    assert isinstance(record, Record)
    leg = record.shadows["s"]
    assert leg.events is not None
    assert (leg.events.tokens, leg.events.counted) == (2, "pieces")
    assert leg.events.first_ms is not None
    assert leg.first_byte_ms is not None
    assert leg.events.first_ms >= leg.first_byte_ms
