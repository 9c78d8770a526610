"""Streamed answers: their end, their first byte, and their tokens a second, as the report tells of them."""

import io
import json
from typing import Any

import pytest
from logs import answer, record, report_json
from rich.console import Console

from shadowproxy.compare.fold.streams import Streams, times_of
from shadowproxy.compare.fold.summary import summarise
from shadowproxy.compare.judge.rules import Rules
from shadowproxy.compare.report.html import to_html
from shadowproxy.compare.report.text import print_figures
from shadowproxy.exchange import Outcome
from shadowproxy.record import Body, RecordedLeg

STREAM = {"content-type": "text/event-stream; charset=utf-8"}


def stream(*events: Any, first: float = 100.0, total: float = 1100.0, outcome: Outcome = Outcome.OK) -> RecordedLeg:
    lines = (event if isinstance(event, str) else json.dumps(event) for event in events)
    text = "".join(f"data: {data}\n\n" for data in lines)
    return RecordedLeg(outcome, 200, STREAM, Body("text", text, len(text)), first, total)


def chunk(text: str | None, reason: str | None = None) -> dict[str, Any]:
    return {"choices": [{"index": 0, "delta": {} if text is None else {"content": text}, "finish_reason": reason}]}


def lines(*values: Any) -> RecordedLeg:
    text = "".join(json.dumps(each) + "\n" for each in values)
    return RecordedLeg(
        Outcome.OK, 200, {"content-type": "application/x-ndjson"}, Body("text", text, len(text)), 100.0, 1100.0
    )


def counted(each: RecordedLeg) -> tuple[int, int, int]:
    """How many streams, how many came to their end, and how many have a rate."""
    streams = Streams()
    times = times_of(each)
    if times is not None:
        streams.add(times)
    return streams.counts["n"], streams.counts["finished"], streams.rates.total()


def test_tokens_are_counted_by_usage_or_else_by_chunk() -> None:
    chunks = [chunk(None), *(chunk("x") for _ in range(51)), chunk(None, "stop")]
    usage = {"choices": [], "usage": {"completion_tokens": 201}}
    records = [
        record(n, stream(*chunks, "[DONE]"), n, s=stream(*chunks, usage, "[DONE]", first=200, total=2200))
        for n in range(100)
    ]
    figures = report_json(summarise(records, Rules()))
    streams = figures["shadows"]["s"]["streams"]
    for name, first, rate in (("live", 100, 50), ("shadow", 200, 100)):
        arm = streams[name]
        assert (arm["streams"], arm["finished"]) == (100, 1.0)
        assert arm["first_byte_ms"]["p50"] == pytest.approx(first, rel=0.02)
        assert arm["tokens_per_second"]["p90"] == pytest.approx(rate, rel=0.02)
    out = io.StringIO()
    print_figures(figures, Console(file=out, width=120))
    assert "tokens/s p50" in out.getvalue()
    assert "100 % of 100" in out.getvalue()
    assert "<h2>Streams</h2>" in to_html(figures)


@pytest.mark.parametrize(
    ("each", "expected"),
    [
        (stream(chunk("a"), chunk("b", "stop")), (1, 1, 1)),
        (stream(chunk("a"), chunk("b")), (1, 0, 1)),  # its connection ended, and it did not say that it was done
        (stream(chunk("a"), "[DONE]"), (1, 1, 0)),  # one token is no rate
        (stream(chunk("a"), chunk("b"), outcome=Outcome.INCOMPLETE), (1, 0, 0)),
        (stream({"any": 1}, {"thing": 2}), (1, 1, 0)),
        (stream(chunk("a"), chunk("b", "stop"), total=100.0), (1, 1, 0)),
        (stream(chunk("a"))._replace(body=Body("text", "data: {", 900, truncated=True)), (1, 1, 0)),
        (stream({"choices": [None, {"delta": 3}], "usage": [1]}, {"choices": 7}, "{", "[[", 3), (1, 0, 0)),
        (answer({"choices": [{"text": "whole"}]}), (0, 0, 0)),
        # what tells of an error has not come to its end, whatever follows
        (stream(chunk("a"), chunk("b"), {"error": {"message": "boom"}}, "[DONE]"), (1, 0, 1)),
        (stream({"error": "boom"}, "[DONE]"), (1, 0, 0)),
        (stream()._replace(body=Body("text", '{"error": "boom"}', 17)), (1, 0, 0)),
        (stream({"any": 1}, {"error": "boom"}), (1, 0, 0)),
        (stream({"type": "message_start", "message": {}}, {"type": "error", "error": {}}), (1, 0, 0)),
        (stream({"type": "message_start", "message": {"usage": {"output_tokens": 1}}},
                {"type": "message_delta", "delta": {}, "usage": {"output_tokens": 9}}, {"type": "message_stop"}),
         (1, 1, 1)),
        (stream({"type": "message_start", "message": {}}), (1, 0, 0)),
        (stream({"type": "response.output_text.delta", "delta": "a"},
                {"type": "response.output_text.delta", "delta": "b"}, {"type": "response.incomplete", "response": {}}),
         (1, 1, 1)),
        (stream({"type": "response.created", "response": {}},
                {"type": "response.failed", "response": {"error": {"message": "boom"}}}), (1, 0, 0)),
        (lines({"response": "a", "done": False}, {"response": "b", "done": True, "eval_count": 2}), (1, 1, 1)),
        (lines({"response": "a", "done": False}, {"error": "boom"}), (1, 0, 0)),
        (lines({"prediction": 1}, {"prediction": 2}), (0, 0, 0)),  # rows of a batch, and no stream
    ],
)  # fmt: skip
def test_the_end_of_a_stream_is_what_it_says_or_else_that_of_its_connection(
    each: RecordedLeg, expected: tuple[int, int, int]
) -> None:
    assert counted(each) == expected


def test_without_streams_nothing_is_said_of_them() -> None:
    figures = report_json(summarise([record(n, answer(1), n, s=answer(1)) for n in range(20)], Rules()))
    assert figures["shadows"]["s"]["streams"] is None
    assert "Streams" not in to_html(figures)
