"""Answers that come as server-sent events: whether they came to their end, and how fast their tokens came."""

import json
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

from shadowproxy.compare.sketch import Hist, Tally, Whole, bin_of
from shadowproxy.compare.verdict import field_value
from shadowproxy.exchange import Outcome
from shadowproxy.record import Answer

_DONE = "[DONE]"


def is_stream(answer: Answer) -> bool:
    return "event-stream" in field_value(answer.headers, "content-type")


def events_of(text: str) -> Iterator[Any]:
    """The data of a stream's events: JSON where it is that, else text. The end mark `[DONE]` comes as that text."""
    for line in text.splitlines():
        if line.startswith("data:"):
            data = line[5:].strip()
            try:
                yield json.loads(data) if data != _DONE else data
            except (ValueError, RecursionError):
                yield data


@dataclass(slots=True)
class Streams(Whole):
    """One arm's streams. `counts` has how many there were (`n`), and how many of them came to their end (`finished`).

    `rates` has tokens a second, from the first byte of the answer to its last, in bins.
    """

    counts: Tally = field(default_factory=Tally)
    first_ms: Hist = field(default_factory=Hist)
    rates: Hist = field(default_factory=Hist)

    def add(self, answer: Answer) -> None:
        """Count an answer if it is a stream."""
        if not is_stream(answer):
            return
        self.counts["n"] += 1
        first, total = answer.first_byte_ms, answer.total_ms
        if first is not None:
            self.first_ms[bin_of(first)] += 1
        body = answer.body
        if answer.outcome is not Outcome.OK or body is None:
            return
        # One that the log has only a part of came whole all the same; how many tokens it had cannot be told.
        tokens, ended = (None, True) if body.truncated or body.kind != "text" else _read(body.value)
        self.counts["finished"] += ended
        if tokens is not None and tokens > 1 and first is not None and total is not None and total > first:
            self.rates[bin_of((tokens - 1) * 1000 / (total - first))] += 1


def _read(text: str) -> tuple[int | None, bool]:
    """How many tokens a stream had, and whether it says that it ended.

    Tokens are those of its usage, or else its chunks of content, which is what most servers make of a token. A stream
    that is no chat's has no known number, and ends where its connection does.
    """
    said = chunks = 0
    chat = ended = False
    for event in events_of(text):
        if event == _DONE:
            ended = True
        if not isinstance(event, dict):
            continue
        usage = event.get("usage")
        count = usage.get("completion_tokens") if isinstance(usage, dict) else None
        if isinstance(count, int) and not isinstance(count, bool) and 0 < count < 1_000_000_000:
            said = count
        choices = event.get("choices")
        for choice in choices if isinstance(choices, list) else ():
            if isinstance(choice, dict):
                chat = True
                delta = choice.get("delta")
                chunks += bool(delta.get("content") if isinstance(delta, dict) else choice.get("text"))
                ended = ended or choice.get("finish_reason") is not None
    return said or chunks or None, ended or not chat
