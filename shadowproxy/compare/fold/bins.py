"""Histograms of numbers in bins whose edges are powers of a fixed ratio, so that two of them add bin by bin."""

import math
from bisect import bisect_left
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from itertools import accumulate
from typing import Any, Final, Self

from shadowproxy.compare.fold.counts import Hist, Weight, add_to

GAMMA: Final = 1.02
"""The ratio of neighbouring bin edges: a quantile is off by at most 1 %, in the tail as elsewhere."""

_SMALLEST: Final = 1e-9
_LARGEST: Final = 1e18
_LOG_GAMMA: Final = math.log(GAMMA)
_LAST: Final = math.ceil(math.log(_LARGEST / _SMALLEST) / _LOG_GAMMA)


def bin_of(value: int | float) -> int:
    """The bin of a finite number: 0 within 1e-9 of zero, else signed; beyond 1e18 all fall in the last."""
    size = abs(value)
    if size <= _SMALLEST:
        return 0
    at = _LAST if size >= _LARGEST else max(1, math.ceil(math.log(size / _SMALLEST) / _LOG_GAMMA))
    return at if value > 0 else -at


def edges(at: int) -> tuple[float, float]:
    """The numbers between which the values of a bin lie."""
    if at == 0:
        return 0.0, 0.0
    inner, outer = _SMALLEST * GAMMA ** (abs(at) - 1), _SMALLEST * GAMMA ** abs(at)
    return (inner, outer) if at > 0 else (-outer, -inner)


def quantile(bins: Mapping[int, int], q: float) -> float | None:
    """The q-quantile, interpolated within its bin: without that, its intervals cover a third of what they should."""
    return quantiles(bins, (q,))[0]


def quantiles(bins: Mapping[int, int], qs: Sequence[float]) -> list[float | None]:
    """Several quantiles at once."""
    total = sum(bins.values())
    if total <= 0:
        return [None] * len(qs)
    counted = [(at, bins[at]) for at in sorted(bins) if bins[at]]
    up_to = list(accumulate([count for _, count in counted]))
    found: list[float | None] = []
    for q in qs:
        rank = q * (total - 1) + 0.5
        which = bisect_left(up_to, rank)
        if which == len(counted):
            found.append(edges(counted[-1][0])[1])
            continue
        at, count = counted[which]
        low, high = edges(at)
        found.append(low + (high - low) * min(1.0, max(0.0, (rank - (up_to[which] - count)) / count)))
    return found


class Bins(dict[int, Counter[int]]):
    """A histogram by block of time."""

    def add(self, block: int, at: int, times: int = 1) -> None:
        counts = self.get(block)
        if counts is None:
            counts = self[block] = Hist()
        counts[at] = counts.get(at, 0) + times

    def gather(self, block: int, bins: Iterable[int]) -> None:
        counts = self.get(block)
        if counts is None:
            counts = self[block] = Hist()
        counts.update(bins)

    def whole(self) -> Counter[int]:
        total: Counter[int] = Counter()
        for counts in self.values():
            total.update(counts)
        return total

    def merged(self, other: Self) -> Self:
        total = type(self)({block: Hist(counts) for block, counts in self.items()})
        for block, counts in other.items():
            total.setdefault(block, Hist()).update(counts)
        return total

    def absorb(self, other: Self) -> None:
        for block, counts in other.items():
            mine = self.get(block)
            if mine is None:
                self[block] = counts
            else:
                add_to(mine, counts)

    def widened(self, doublings: int = 1) -> Self:
        wider = type(self)()
        for block, counts in self.items():
            wider.setdefault(block >> doublings, Hist()).update(counts)
        return wider

    def weighed(self, weight: Weight) -> Self:
        return type(self)({block: Hist(counts).weighed(weight) for block, counts in self.items()})

    def to_json(self) -> Any:
        return {
            str(block): {str(at): count for at, count in sorted(counts.items())}
            for block, counts in sorted(self.items())
        }

    @classmethod
    def from_json(cls, raw: Any) -> Self:
        return cls(
            {int(block): Hist({int(at): int(count) for at, count in bins.items()}) for block, bins in raw.items()}
        )
