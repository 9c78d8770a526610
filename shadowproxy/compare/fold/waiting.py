"""What waits to be counted of exchanges, equal things once with their number, and how it is counted into a pair."""

import math
from collections import Counter
from collections.abc import Iterable
from typing import Any, Final

from shadowproxy.compare.fold.bins import bin_of
from shadowproxy.compare.fold.counts import counted
from shadowproxy.compare.fold.examples import signature_of
from shadowproxy.compare.fold.noise import shape_of
from shadowproxy.compare.fold.outcomes import ending_of
from shadowproxy.compare.fold.pair import Pair
from shadowproxy.compare.fold.pair_tables import LOWEST_RANK
from shadowproxy.compare.fold.samples import hashed
from shadowproxy.compare.fold.slices import Observations
from shadowproxy.compare.fold.structure import Shape, lacking_key, places_in
from shadowproxy.compare.fold.values import gap_of
from shadowproxy.compare.judge.differences import Where, loggable
from shadowproxy.compare.judge.standing import Standing
from shadowproxy.exchange import Outcome, Verdict

_MISMATCH: Final = Verdict.MISMATCH
_INCOMPARABLE: Final = Verdict.INCOMPARABLE

Ended = tuple[
    int,
    Outcome,
    int | None,
    Outcome,
    int | None,
    Standing | None,
    Standing | None,
    str | None,
    str | None,
    Verdict | None,
    str | None,
]
"""How an exchange ended: its block, live's outcome and status, the shadow's, how both answers stand if it is a pair,
why the shadow's answer is missing where live has one, why live's is where the shadow has one, the verdict with its
why."""

Timed = tuple[float, float, float | None, float | None]
"""Live's whole time and the shadow's, and their first bytes'."""


class Waiting:
    """What waits to be counted, equal things once with their number.

    ended: how many exchanges ended this way. timed: by block, and by whether the shadow was too late. found: by block,
    how many exchanges differ at these places, so often at each. differing: by place, the values that differ, live's and
    the shadow's. built: by block, how many of live's answers have this shape. lacking: by block, how many answers lack
    these places. observed: the requests' values with the marks of their exchanges. `size` is how many values wait.
    """

    __slots__ = ("built", "differing", "ended", "found", "lacking", "observed", "observed_named", "size", "timed")

    def __init__(self) -> None:
        self.ended: dict[Ended, int] = {}
        self.timed: dict[tuple[int, bool], list[Timed]] = {}
        self.found: dict[tuple[int, tuple[tuple[Where, int], ...]], int] = {}
        self.differing: dict[str, tuple[list[Any], list[Any]]] = {}
        self.built: dict[tuple[int, Shape], int] = {}
        self.lacking: dict[tuple[int, tuple[str, ...]], int] = {}
        self.observed = Observations()
        self.observed_named = Observations()
        self.size = 0

    def add_ended(self, ended: Ended) -> None:
        self.ended[ended] = self.ended.get(ended, 0) + 1
        self.size += 1

    def add_timed(self, block: int, late: bool, timed: Timed) -> None:
        before = self.timed.get((block, late))
        if before is None:
            self.timed[block, late] = [timed]
        else:
            before.append(timed)

    def count_into(self, pair: Pair) -> None:
        """Count all of it."""
        for ended, times in self.ended.items():
            _count_ended(pair, *ended, times)
        for (block, late), timed in self.timed.items():
            _count_timed(pair, block, late, timed)
        for (block, where), times in self.found.items():
            _count_places(pair, block, where, times)
        for path, (live, shadow) in self.differing.items():
            _count_values(pair, path, live, shadow)
        for (block, shape), times in self.built.items():
            pair.structured[block] += times
            for place in places_in(shape):
                pair.present.part(place)["n"] += times
        for (block, places), times in self.lacking.items():
            pair.lacking.part(lacking_key(places))[block] += times
        pair.slices.add(self.observed)
        pair.named_slices.add(self.observed_named)


def _count_ended(
    pair: Pair,
    block: int,
    live: Outcome,
    live_status: int | None,
    shadow: Outcome,
    shadow_status: int | None,
    one: Standing | None,
    other: Standing | None,
    lost: str | None,
    gained: str | None,
    verdict: Verdict | None,
    why: str | None,
    times: int,
) -> None:
    pair.chosen[block] += times
    pair.outcomes[shadow] += times
    pair.statuses[f"{ending_of(live, live_status)} {ending_of(shadow, shadow_status)}"] += times
    if one is not None:
        pair.pairs[block] += times
        pair.live_good[block] += times * (one == "good")
        pair.shadow_good[block] += times * (other == "good")
        pair.live_failed[block] += times * (one == "failed")
        pair.shadow_failed[block] += times * (other == "failed")
        pair.live_failed_only[block] += times * (one == "failed" != other)
        pair.shadow_failed_only[block] += times * (other == "failed" != one)
        pair.to_4xx[block] += times * (one == "good" and other == "refused")
        pair.to_2xx[block] += times * (one == "refused" and other == "good")
        if lost is not None:
            pair.lost[block] += times
            pair.missing[lost] += times
        if gained is not None:
            pair.gained[block] += times
    if verdict is None:
        return
    pair.answered[block] += times
    pair.verdicts[verdict] += times
    if verdict is _INCOMPARABLE:
        pair.whys[why or "unknown"] += times
    else:
        pair.compared[block] += times
        pair.agreed[block] += times * (verdict is not _MISMATCH)


def _count_timed(pair: Pair, block: int, late: bool, timed: list[Timed]) -> None:
    pair.timed[block] += len(timed)
    pair.timeouts[block] += len(timed) * late
    pair.slower[block] += sum(late or other > one for one, other, _, _ in timed)
    pair.live_ms.gather(block, [bin_of(one) for one, _, _, _ in timed])
    pair.shadow_ms.gather(block, [bin_of(other) for _, other, _, _ in timed])
    pair.gap_ms.gather(block, [bin_of(other - one) for one, other, _, _ in timed])
    firsts = [(one, other) for _, _, one, other in timed if one is not None and other is not None]
    if firsts:
        pair.live_first_ms.gather(block, [bin_of(one) for one, _ in firsts])
        pair.shadow_first_ms.gather(block, [bin_of(other) for _, other in firsts])


def _count_places(pair: Pair, block: int, where: tuple[tuple[Where, int], ...], times: int) -> None:
    """Count exchanges that differ in the same way, `times` of them."""
    pair.signatures.part(signature_of(each for each, _ in where))[block] += times
    for path in {path for (path, _), _ in where}:
        pair.differs.part(path)[block] += times
    for (path, kind), often in where:
        pair.kinds.part(path)[kind] += often * times


def _count_values(pair: Pair, path: str, live: list[Any], shadow: list[Any]) -> None:
    _count_gaps(pair, path, live, shadow)
    shapes = pair.shapes.part(path)
    for values, part in ((live, pair.live_values.part(path)), (shadow, pair.shadow_values.part(path))):
        if set(map(type, values)) == {float} and math.isfinite(sum(values)):
            # Most differences by far are of these: all have one shape, and but for -0.0 equal ones look the same.
            shapes[shape_of(path, 0.5)] += len(values)
            part.add_texts([(repr(value), times) for value, times in counted(values)])
            continue
        for value, times in counted(values):
            shown = loggable(value)
            part.add(hashed(repr(shown)), times)
            shapes[shape_of(path, shown)] += times


def _count_gaps(pair: Pair, path: str, live: list[Any], shadow: list[Any]) -> None:
    """Count how far apart numbers are that differ: at most, and as a part of the larger by powers of two."""
    furthest = 0.0
    powers: dict[int, int] = {}
    for (one, other), times in _number_pairs(live, shadow):
        gap = gap_of(one, other)
        if gap:
            furthest = max(furthest, gap)
            power = math.frexp(gap / max(abs(one), abs(other)))[1]
            powers[power] = powers.get(power, 0) + times
    if powers:
        at = bin_of(furthest)
        pair.apart.part(path).add(LOWEST_RANK - at, at)
        pair.apart_in_part.part(path).update(powers)


def _number_pairs(live: list[Any], shadow: list[Any]) -> Iterable[tuple[tuple[Any, Any], int]]:
    """Pairs of values with their number. Only floats are counted together: other equal values may be written
    differently."""
    if set(map(type, live)) == {float} == set(map(type, shadow)):
        return Counter(zip(live, shadow, strict=True)).items()
    return ((pair, 1) for pair in zip(live, shadow, strict=True))
