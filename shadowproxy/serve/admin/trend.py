"""What happened over the last minutes, for live and each shadow: differences between counts taken once a second.

Requests cost nothing here: all counters only grow, and the difference of two rows of them is what happened in between.
Five minutes of rows are less than 200 KB for live, and for each shadow.
"""

from array import array
from collections import deque
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import TypeAlias

from shadowproxy.exchange import LIVE, Outcome, Verdict
from shadowproxy.serve.admin.census import Census
from shadowproxy.serve.telemetry.durations import BOUNDS

WINDOW = 300.0
RATE_WINDOW = 10.0
POINT_EVERY = 5.0
"""Seconds: how long "the last minutes" are, what a rate is measured over, and from one point of a curve to the next."""

_BUCKETS = len(BOUNDS) + 1
_NONE = (0,) * _BUCKETS
_OUTCOMES, _VERDICTS = tuple(Outcome), tuple(Verdict)


@dataclass(frozen=True, slots=True)
class Period:
    """What happened within so many seconds. `times` are durations as in DurationBuckets.counts, of requests sent.

    For live, `times` are of mirrored requests, and `alone` of those sent to no shadow. Outcomes and verdicts that did
    not occur are left out.
    """

    seconds: float
    times: Sequence[int]
    alone: Sequence[int]
    outcomes: Mapping[Outcome, int]
    verdicts: Mapping[Verdict, int]

    @property
    def rate(self) -> float:
        """Requests sent per second."""
        return (sum(self.times) + sum(self.alone)) / self.seconds if self.seconds > 0 else 0.0

    @property
    def compared(self) -> int:
        return sum(self.verdicts.values()) - self.verdicts.get(Verdict.INCOMPARABLE, 0)

    @property
    def agreed(self) -> int:
        return self.compared - self.verdicts.get(Verdict.MISMATCH, 0)


Point: TypeAlias = tuple[int, float, float | None, float | None, float | None]
"""One point of a curve, rounded: when its seconds ended (since 1970), requests per second, the median and the 99th
percentile in milliseconds, the share that agrees. A figure that is not known is None."""


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

    def begin(self, census: Census, clock: float) -> None:
        """Count from zero: all that `census` has counted already has happened since `clock`, or shortly before."""
        rows = {name: array("Q", bytes(8 * len(row))) for name, row in _rows(census).items()}
        self._samples.append(_Sample(clock, rows))

    def add(self, census: Census, clock: float, at: float) -> None:
        """Add a sample of the counts. `clock` never goes back; `at` is the wall clock's, in seconds since 1970."""
        sample = _Sample(clock, _rows(census))
        self._samples.append(sample)
        while clock - self._samples[0].clock > WINDOW:
            self._samples.popleft()
        if self._drawn is None:
            self._drawn = sample
        elif clock - self._drawn.clock >= POINT_EVERY - 0.5:  # a timer is a little early or late
            self._draw(self._drawn, sample, at)
            self._drawn = sample

    def over(self, seconds: float, name: str) -> Period:
        """What happened for live or a shadow in the last so many seconds, or since the first sample."""
        newest = self._samples[-1]
        began = next(
            # A new shadow is not in the oldest rows: what it counted before its first sample is left out.
            (each for each in self._samples if newest.clock - each.clock <= seconds and name in each.rows),
            newest,
        )
        return _between(began, newest, name)

    def curve(self, name: str) -> Sequence[Point]:
        """One point every POINT_EVERY of the last WINDOW seconds, oldest first."""
        return tuple(self._curves.get(name, ()))

    def _draw(self, before: _Sample, now: _Sample, at: float) -> None:
        most = round(WINDOW / POINT_EVERY)
        self._curves = {name: self._curves.get(name, deque(maxlen=most)) for name in now.rows}
        for name in now.rows.keys() & before.rows.keys():
            period = _between(before, now, name)
            times = [one + other for one, other in zip(period.times, period.alone, strict=True)]
            agreement = round(period.agreed / period.compared, 4) if period.compared else None
            median, slow = milliseconds(quantile(0.5, times)), milliseconds(quantile(0.99, times))
            self._curves[name].append((round(at), round(period.rate, 2), median, slow, agreement))


def quantile(q: float, times: Sequence[int]) -> float | None:
    """The q-quantile in seconds of durations counted as in DurationBuckets.counts; None without durations.

    Durations are taken to be spread evenly within a bucket, and those above the last bound count as that bound, as in
    Prometheus's histogram_quantile.
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
    """Rounded to the microsecond."""
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


def _between(older: _Sample, newer: _Sample, name: str) -> Period:
    if name not in older.rows or name not in newer.rows:
        return Period(0.0, _NONE, _NONE, {}, {})
    # Counters only grow, unless a worker died and its counts are gone: that is no event.
    grown = [max(0, after - before) for before, after in zip(older.rows[name], newer.rows[name], strict=True)]
    times, alone, rest = grown[:_BUCKETS], grown[_BUCKETS : 2 * _BUCKETS], grown[2 * _BUCKETS :]
    return Period(
        newer.clock - older.clock,
        times,
        alone,
        {outcome: count for outcome, count in zip(_OUTCOMES, rest, strict=False) if count},
        {verdict: count for verdict, count in zip(_VERDICTS, rest[len(_OUTCOMES) :], strict=True) if count},
    )
