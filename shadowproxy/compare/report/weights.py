"""An interval for a share of requests that holds at every look, where records stand for several requests each.

A log may keep only some of the exchanges, each with a weight: how many requests it stands for. The weight's mean is 1
over all requests, written or not (then it is 0). So for the share m of requests with a mark (x = 1, else 0), w (x - m)
has mean 0 given all before. Why the interval holds:

1. A player stakes the part l of his wealth on each record: wealth is multiplied by 1 + l w (x - m). That is above 0 as
   long as l m w < 1 for every weight that a record without the mark may have. Then wealth is a martingale if m is true,
   and so is that of many players with different l who divide one unit among them.
2. So they reach 2/alpha with a probability of at most alpha/2, at any time: J. Ville, Étude critique de la notion de
   collectif (1939). An m that makes them so rich is left out; others stake against the mark in the same way.
3. Only sums are kept: of weights, of their squares, and their number. The logarithm of wealth is n log(1 + l v (x -
   m)) for n records of the mean weight v, less what the spread of their weights takes from it. As log(1 + y) >= y +
   y^2 (b + log(1 - b)) / b^2 for all y >= -b (X. Fan, I. Grama, Q. Liu, Stochastic Processes and their Applications
   125 (2015)), that is bounded by the sum of squares. To count less wealth leaves out fewer m.
4. The stakes l are fixed powers of two, and those that a weight could ruin are left out: by the most that a record may
   weigh, which the log says of its records before any is drawn.
5. Records that differ, fail or are slow are in the log for certain. Where that is so of a share's mark, a record with
   it has no weight but that of a draw made whatever the answers, unless one was seen that has: where the report
   compares by other rules than the log.

The betting is that of I. Waudby-Smith and A. Ramdas, JRSS B 86 (2024) 1-27; weights of 1 need none of this (`stats`).
"""

import math
from collections.abc import Callable
from typing import Final, NamedTuple

_STAKES: Final = tuple(2.0**power for power in range(7, -15, -1))
_MOST: Final = 0.5  # of its wealth that a player may lose at once


class Tally(NamedTuple):
    """Some of the requests: how many they are, how many records stand for them, and the sum of the squared weights."""

    total: float = 0.0
    written: float = 0.0
    squares: float = 0.0

    def times(self, factor: float) -> "Tally":
        """So many times as many."""
        return Tally(self.total * factor, self.written * factor, self.squares * factor)

    def without(self, other: "Tally") -> "Tally":
        rest = self.total - other.total, self.written - other.written, self.squares - other.squares
        return Tally(*(max(0.0, each) for each in rest))

    def plus(self, other: "Tally") -> "Tally":
        return Tally(self.total + other.total, self.written + other.written, self.squares + other.squares)


NONE: Final = Tally()


class Weighing(NamedTuple):
    """What a share (or a difference of two shares) of weighted records rests on.

    all: the requests that it is a share of. plus, minus: those with the mark; of a difference, those of either side, of
    which no record is of both. heaviest, draw: the most that a record may weigh, and one that its log has for certain.
    """

    all: Tally
    plus: Tally
    minus: Tally
    heaviest: float
    draw: float

    @property
    def effective(self) -> float:
        """How many requests with weights of 1 say as much of a figure in which all weights are alike: L. Kish, Survey
        Sampling (1965)."""
        return self.all.total**2 / self.all.squares if self.all.squares > 0 else 0.0

    @property
    def worth(self) -> float:
        """The same of the share of `plus`, by its own variance: it is surer where what is counted has no weight."""
        share, rest = self.plus.total / self.all.total if self.all.total else 0.0, self.all.without(self.plus)
        spread = (1 - share) ** 2 * self.plus.squares + share**2 * rest.squares
        return share * (1 - share) * self.all.total**2 / spread if 0 < share < 1 and spread > 0 else self.effective


def weighted_sequence(
    marked: Tally, rest: Tally, weighing: Weighing, *, certain: tuple[bool, bool], alpha: float = 0.05
) -> tuple[float, float]:
    """Between which the share of `marked` among both lies, at every look: with chance 1 - alpha none is ever wrong.

    `certain`: whether the log has every record with the mark, and every one without it (rule 5).
    """
    if marked.total + rest.total <= 0:
        return 0.0, 1.0
    with_mark = _heaviest(marked, weighing, certain=certain[0])
    without = _heaviest(rest, weighing, certain=certain[1])
    enough = math.log(2 / alpha)

    def is_more(share: float) -> bool:
        """Whether more than this share surely have the mark."""
        return _wealth(marked, rest, share, without) >= enough

    def is_less(share: float) -> bool:
        return _wealth(rest, marked, 1 - share, with_mark) >= enough

    middle = min(max(marked.total / (marked.total + rest.total), 1e-12), 1 - 1e-12)
    low = edge(is_more, 0.0, middle, 28) if marked.total > 0 else 0.0
    high = edge(is_less, 1.0, middle, 28) if rest.total > 0 else 1.0
    return low, high


def weighted_difference(
    weighing: Weighing, design_effect: float, *, times: float = 1.0, of_both: float = 0.01, of_plus: float = 0.04
) -> tuple[float, float]:
    """As `weighted_sequence`, for (plus - minus) / all; records of both sides are in the log for certain.

    d (2q - 1), as `stats.anytime_difference` has it, with the chances of error of both; of `times` as many records.
    """
    factor = times / max(1.0, design_effect)
    plus, minus, every = (each.times(factor) for each in (weighing.plus, weighing.minus, weighing.all))
    both = plus.plus(minus)
    fewest, most = weighted_sequence(both, every.without(both), weighing, certain=(True, False), alpha=of_both)
    certain = True, True
    low, high = (2 * q - 1 for q in weighted_sequence(plus, minus, weighing, certain=certain, alpha=of_plus))
    return low * (fewest if low >= 0 else most), high * (most if high >= 0 else fewest)


def _heaviest(some: Tally, weighing: Weighing, *, certain: bool) -> float:
    """The most that one of these may weigh: rule 5."""
    if not certain:
        return weighing.heaviest
    if some.written <= 0:
        return weighing.draw
    mean = some.total / some.written
    # No weight is further from the mean than that: P. A. Samuelson, JASA 63 (1968) 1522-1525.
    furthest = mean + math.sqrt(max(0.0, some.squares / some.written - mean * mean) * max(0.0, some.written - 1))
    return weighing.draw if furthest <= weighing.draw * (1 + 1e-6) else weighing.heaviest


def _wealth(gaining: Tally, losing: Tally, share: float, heaviest: float) -> float:
    """At least the logarithm of the wealth of those who bet that more than `share` are `gaining`: rules 1 and 3."""
    logs = [
        _logs(gaining, stake * (1 - share)) + _logs(losing, -stake * share, heaviest)
        for stake in _STAKES
        if stake * share * heaviest <= _MOST
    ]
    if not logs:
        return -math.inf
    best = max(logs)
    return best + math.log(math.fsum(math.exp(each - best) for each in logs)) - math.log(len(_STAKES))


def _logs(some: Tally, gain: float, heaviest: float = 1.0) -> float:
    """At least the sum of log(1 + gain w) over these records."""
    if some.written <= 0:
        return 0.0
    mean = some.total / some.written
    of_mean = 1 + gain * mean
    spread = max(0.0, some.squares - some.total * mean)  # the sum of the squared distances from the mean
    if spread <= 1e-9 * some.squares:
        return some.written * math.log(of_mean)
    slope = gain / of_mean
    # How far y = slope (w - mean) falls below 0: at the lightest record where it gains, at the heaviest where it loses.
    furthest = slope * mean if gain > 0 else -slope * max(0.0, heaviest - mean)
    furthest = min(furthest, 1 - 1e-9)
    taken = (-furthest - math.log1p(-furthest)) / furthest**2 if furthest > 1e-6 else 0.5
    return some.written * math.log(of_mean) - taken * slope * slope * spread


def edge(excluded: Callable[[float], bool], outside: float, inside: float, halvings: int) -> float:
    """Where a range ends, between a value that is excluded and one that is not; the next value outside it."""
    for _ in range(halvings):
        middle = (outside + inside) / 2
        if excluded(middle):
            outside = middle
        else:
            inside = middle
    return outside
