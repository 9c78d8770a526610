"""Streamed answers: whether they were complete, and how fast their tokens were."""

from dataclasses import dataclass, field

from shadowproxy.answers import Content, content_of, field_value
from shadowproxy.answers.failed import failure_of
from shadowproxy.compare.fold.bins import bin_of
from shadowproxy.compare.fold.counts import Hist, WordCounts
from shadowproxy.compare.fold.tables import Whole
from shadowproxy.exchange import Outcome
from shadowproxy.record import RecordedLeg


def is_stream(answer: RecordedLeg, content: Content | None = None) -> bool:
    """Whether an answer is a stream: by its Content-Type, or because its content is a model's lines."""
    if "event-stream" in field_value(answer.headers, "content-type"):
        return True
    return content is not None and content.stream is not None and content.stream.api != "lines"


@dataclass(slots=True)
class Streams(Whole):
    """One arm's streams. `counts` has their number (`n`), and how many of them are complete (`finished`).

    `rates` has tokens a second, from the answer's first byte to its last, in bins.
    """

    counts: WordCounts = field(default_factory=WordCounts)
    first_ms: Hist = field(default_factory=Hist)
    rates: Hist = field(default_factory=Hist)

    def add(self, answer: RecordedLeg, content: Content | None = None) -> None:
        """Count an answer if it is a stream. `content` is its content if the caller has it already.

        A stream of which the log keeps a part is complete, but its number of tokens is not known. A stream with an
        error event is not complete, whatever it sent afterwards.
        """
        content = content_of(answer) if content is None else content
        if not is_stream(answer, content):
            return
        self.counts["n"] += 1
        first, total = answer.first_byte_ms, answer.total_ms
        if first is not None:
            self.first_ms[bin_of(first)] += 1
        if answer.outcome is not Outcome.OK or answer.body is None:
            return
        stream = content.stream
        self.counts["finished"] += failure_of(content) is None
        tokens = None if stream is None else stream.tokens
        if tokens is not None and tokens > 1 and first is not None and total is not None and total > first:
            self.rates[bin_of((tokens - 1) * 1000 / (total - first))] += 1
