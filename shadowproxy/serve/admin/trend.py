"""What happened over the last minutes, for live and each shadow: differences of what was counted, once a second.

Requests cost nothing here: the rooms count for ever, and the difference of two rows of counters says what happened in
between. Five minutes of rows are less than 200 KB for live, and for each shadow.
"""

from array import array
from collections import deque
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import TypeAlias

from shadowproxy.exchange import Outcome, Verdict
from shadowproxy.serve.admin.census import Census
from shadowproxy.serve.telemetry.durations import BOUNDS

LIVE = "live"
"""Live's place among the shadows' names, which none of them may have."""

WINDOW = 300.0
RATE_WINDOW = 10.0
POINT = 5.0
"""Seconds: what is told as the last minutes, what a rate is measured over, and how far points of a curve are apart."""

_BUCKETS = len(BOUNDS) + 1
_NONE = (0,) * _BUCKETS
_OUTCOMES, _VERDICTS = tuple(Outcome), tuple(Verdict)


@dataclass(frozen=True, slots=True)
class Span:
    """What happened within so many seconds. `times` are as in DurationBuckets.counts, of requests that were asked.

    Of live, `times` are those that some shadow was asked about too, and `alone` those that none was. Outcomes and
    verdicts that did not occur are not there.
    """

    seconds: float
    times: Sequence[int]
    alone: Sequence[int]
    outcomes: Mapping[Outcome, int]
    verdicts: Mapping[Verdict, int]

    @property
    def rate(self) -> float:
        """Requests asked a second."""
        return (sum(self.times) + sum(self.alone)) / self.seconds if self.seconds > 0 else 0.0

    @property
    def compared(self) -> int:
        return sum(self.verdicts.values()) - self.verdicts.get(Verdict.INCOMPARABLE, 0)

    @property
    def agreed(self) -> int:
        return self.compared - self.verdicts.get(Verdict.MISMATCH, 0)


Point: TypeAlias = tuple[int, float, float | None, float | None, float | None]
"""One place of a curve, rounded as it is told: when its seconds ended (since 1970), requests a second, the median and
the 99th percentile in milliseconds, the share that agrees. What there is no figure of is None."""


@dataclass(frozen=True, slots=True)
class _Sample:
    clock: float
    rows: Mapping[str, "array[int]"]


class Trend:
    """The last WINDOW seconds, if `add` is called once a second."""

    def __init__(self) -> None:
        self._samples: deque[_Sample] = deque()
        self._drawn: _Sample | None = None
        self._curves: dict[str, deque[Point]] = {}

    def __repr__(self) -> str:
        return f"<Trend {len(self._samples)} samples of {', '.join(self._curves) or 'nothing'}>"

    def add(self, census: Census, clock: float, at: float) -> None:
        """Note what was counted so far. `clock` never goes back; `at` is the wall's, in seconds since 1970."""
        sample = _Sample(clock, _rows(census))
        self._samples.append(sample)
        while clock - self._samples[0].clock > WINDOW:
            self._samples.popleft()
        if self._drawn is None:
            self._drawn = sample
        elif clock - self._drawn.clock >= POINT - 0.5:  # a timer is a little early or late
            self._draw(self._drawn, sample, at)
            self._drawn = sample

    def over(self, seconds: float, name: str) -> Span:
        """What happened of live or a shadow in the last so many seconds, as far as they were seen."""
        newest = self._samples[-1]
        began = next(
            # One that is new has no row to begin with: what it counted before it was seen is left out.
            (each for each in self._samples if newest.clock - each.clock <= seconds and name in each.rows),
            newest,
        )
        return _between(began, newest, name)

    def curve(self, name: str) -> Sequence[Point]:
        """One point for each POINT of the last WINDOW seconds, oldest first."""
        return tuple(self._curves.get(name, ()))

    def _draw(self, before: _Sample, now: _Sample, at: float) -> None:
        most = round(WINDOW / POINT)
        self._curves = {name: self._curves.get(name, deque(maxlen=most)) for name in now.rows}
        for name in now.rows.keys() & before.rows.keys():
            span = _between(before, now, name)
            times = [one + other for one, other in zip(span.times, span.alone, strict=True)]
            agreement = round(span.agreed / span.compared, 4) if span.compared else None
            median, slow = milliseconds(quantile(0.5, times)), milliseconds(quantile(0.99, times))
            self._curves[name].append((round(at), round(span.rate, 2), median, slow, agreement))


def quantile(q: float, times: Sequence[int]) -> float | None:
    """The q-quantile in seconds of durations counted as in DurationBuckets.counts; None where there are none.

    Within a bucket durations are taken to be spread evenly, and those above the last bound count as that bound: as
    Prometheus's histogram_quantile does.
    """
    total = sum(times)
    if not total:
        return None
    rank, below = q * total, 0
    for (low, high), count in zip(pairwise((0.0, *BOUNDS)), times, strict=False):
        if count and below + count >= rank:
            return low + (high - low) * (rank - below) / count
        below += count
    return BOUNDS[-1]


def milliseconds(seconds: float | None) -> float | None:
    """To the microsecond: what is told has no more digits than that."""
    return None if seconds is None else round(seconds * 1000, 3)


def _rows(census: Census) -> dict[str, "array[int]"]:
    rows = {LIVE: _row(census.live_mirrored.counts, census.live_alone.counts, census.outcomes, {})}
    for shadow in census.shadows:
        rows[shadow.name] = _row(shadow.durations.counts, _NONE, shadow.outcomes, shadow.verdicts)
    return rows


def _row(
    times: Sequence[int], alone: Sequence[int], outcomes: Mapping[Outcome, int], verdicts: Mapping[Verdict, int]
) -> "array[int]":
    return array(
        "Q",
        (
            *times,
            *alone,
            *(outcomes.get(outcome, 0) for outcome in _OUTCOMES),
            *(verdicts.get(verdict, 0) for verdict in _VERDICTS),
        ),
    )


def _between(older: _Sample, newer: _Sample, name: str) -> Span:
    if name not in older.rows or name not in newer.rows:
        return Span(0.0, _NONE, _NONE, {}, {})
    # Counters only grow, unless a worker died and took its own along: that is nothing that happened.
    grown = [max(0, after - before) for before, after in zip(older.rows[name], newer.rows[name], strict=True)]
    times, alone, rest = grown[:_BUCKETS], grown[_BUCKETS : 2 * _BUCKETS], grown[2 * _BUCKETS :]
    return Span(
        newer.clock - older.clock,
        times,
        alone,
        {outcome: count for outcome, count in zip(_OUTCOMES, rest, strict=False) if count},
        {verdict: count for verdict, count in zip(_VERDICTS, rest[len(_OUTCOMES) :], strict=True) if count},
    )
