"""Streamed answers: whether they were complete, when their tokens came, and how fast: each arm alone, and both paired.

| Measure | from the times of events | in logs without these |
|---|---|---|
| TTFT, time to first token | the first token; the first event, if the API is not known | the first byte |
| TPOT, time per output token | (last token - first token) / (tokens - 1) | (end - first byte) / (tokens - 1) |
| ITL, gap between tokens | each answer's own median and 99th percentile | unknown |
| E2E, whole answer | its end | its end |

Two answers are paired only in measures that both have from the same source: a first byte may come long before a token.
"""

from dataclasses import dataclass, field
from typing import Final, Literal, NamedTuple

from shadowproxy.answers import Content, content_of, field_value
from shadowproxy.answers.failed import failure_of
from shadowproxy.compare.fold.bins import bin_of
from shadowproxy.compare.fold.counts import Hist, WordCounts
from shadowproxy.compare.fold.measured import Measured
from shadowproxy.compare.fold.tables import Parts, Whole
from shadowproxy.exchange import Outcome
from shadowproxy.record import RecordedLeg

Source = Literal["token", "event", "byte"]
SOURCES: Final[tuple[Source, ...]] = ("token", "event", "byte")


class StreamTimes(NamedTuple):
    """When the parts of one streamed answer came, in milliseconds. What is not known is None.

    `first` is the time to what `source` names; `per_token` is from the times of tokens if `timed`, else of bytes.
    """

    finished: bool
    first_byte: float | None = None
    first: float | None = None
    source: Source = "byte"
    per_token: float | None = None
    timed: bool = False
    gap: float | None = None
    long_gap: float | None = None
    whole: float | None = None


def is_stream(answer: RecordedLeg, content: Content | None = None) -> bool:
    """Whether an answer is a stream: by its Content-Type, its tokens' times, or because it is a model's lines."""
    if "event-stream" in field_value(answer.headers, "content-type"):
        return True
    if answer.events is not None and answer.events.first_token_ms is not None:
        return True
    return content is not None and content.stream is not None and content.stream.api != "lines"


def times_of(answer: RecordedLeg, content: Content | None = None) -> StreamTimes | None:
    """The times of an answer if it is a stream. `content` is its content if the caller has it already.

    A stream of which the log keeps a part is complete, but its number of tokens may not be known. A stream with an
    error event is not complete, whatever it sent afterwards.
    """
    content = content_of(answer) if content is None else content
    if not is_stream(answer, content):
        return None
    ok = answer.outcome is Outcome.OK and answer.body is not None
    first, source = _first(answer)
    per_token, timed = _per_token(answer, content if ok else None)
    gaps = answer.events.gaps if answer.events is not None else None
    return StreamTimes(
        ok and failure_of(content) is None,
        answer.first_byte_ms,
        first,
        source,
        per_token,
        timed,
        gaps.p50 if gaps is not None else None,
        gaps.p99 if gaps is not None else None,
        answer.total_ms if ok else None,
    )


def _first(answer: RecordedLeg) -> tuple[float | None, Source]:
    events = answer.events
    if events is not None:
        if events.first_token_ms is not None:
            return events.first_token_ms, "token"
        if events.first_ms is not None:
            return events.first_ms, "event"
    return answer.first_byte_ms, "byte"


def _per_token(answer: RecordedLeg, content: Content | None) -> tuple[float | None, bool]:
    """Milliseconds per token after the first, and whether that is from the times of tokens."""
    events = answer.events
    if events is not None and events.first_token_ms is not None:
        return _each(events.first_token_ms, events.last_token_ms, events.tokens), True
    tokens = None if content is None or content.stream is None else content.stream.tokens
    return _each(answer.first_byte_ms, answer.total_ms, tokens), False


def _each(first: float | None, last: float | None, tokens: int | None) -> float | None:
    if first is None or last is None or tokens is None or tokens < 2 or last <= first:
        return None
    return (last - first) / (tokens - 1)


@dataclass(slots=True)
class Streams(Whole):
    """One arm's streams. `counts` has their number (`n`), how many of them are complete (`finished`), and how many have
    their TTFT from which source (`ttft token`), or their TPOT from bytes (`tpot byte`).

    `rates` has tokens a second, from the first token on, in bins.
    """

    counts: WordCounts = field(default_factory=WordCounts)
    first_ms: Hist = field(default_factory=Hist)
    rates: Hist = field(default_factory=Hist)
    ttft: Hist = field(default_factory=Hist)
    tpot: Hist = field(default_factory=Hist)
    itl_p50: Hist = field(default_factory=Hist)
    itl_p99: Hist = field(default_factory=Hist)
    e2e: Hist = field(default_factory=Hist)

    def add(self, times: StreamTimes) -> None:
        """Count one stream."""
        self.counts["n"] += 1
        self.counts["finished"] += times.finished
        if times.first is not None:
            self.counts[f"ttft {times.source}"] += 1
        if times.per_token is not None:
            self.rates[bin_of(1000 / times.per_token)] += 1
            self.counts["tpot byte"] += not times.timed
        for value, counts in (
            (times.first_byte, self.first_ms),
            (times.first, self.ttft),
            (times.per_token, self.tpot),
            (times.gap, self.itl_p50),
            (times.long_gap, self.itl_p99),
            (times.whole, self.e2e),
        ):
            if value is not None:
                counts[bin_of(value)] += 1


@dataclass(slots=True)
class PairStreams(Parts):
    """The requests that both arms streamed an answer to."""

    ttft: Measured = field(default_factory=Measured)
    tpot: Measured = field(default_factory=Measured)
    itl_p50: Measured = field(default_factory=Measured)
    itl_p99: Measured = field(default_factory=Measured)
    e2e: Measured = field(default_factory=Measured)

    def add(self, block: int, live: StreamTimes, shadow: StreamTimes) -> None:
        """Count one request."""
        if live.source == shadow.source:
            self.ttft.add(block, live.first, shadow.first)
        if live.timed == shadow.timed:
            self.tpot.add(block, live.per_token, shadow.per_token)
        self.itl_p50.add(block, live.gap, shadow.gap)
        self.itl_p99.add(block, live.long_gap, shadow.long_gap)
        self.e2e.add(block, live.whole, shadow.whole)
