"""From how many requests on is a planted fault seen?

Seen means that the report says NOT READY, or withholds READY where it would say READY of the twin at the same prefix.
Each share of each fault is planted five times, each time in other requests; the figure is the median of the five: the
least prefix at which three of them are seen. More requests only make a report surer, so the prefix is found by halving;
a fault that is not seen in the whole log has none.

Most requests of a plant answer as the twin does. These are folded once for each draw, and the summaries of what is
planted are added to them, as the summaries of parts of a log add up exactly.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Final, Literal

from shadowproxy.compare.fold.summary import Summary, merge
from shadowproxy.compare.report.checks import Result, checks_of
from shadowproxy.compare.report.conclusion import result_of
from shadowproxy.compare.report.figures.whole import figures_as_counted
from shadowproxy.selftest.planting import TWIN, Planting
from shadowproxy.selftest.plants.fault import Fault, Part

SHARES: Final = (0.01, 0.03, 0.3)
PLANTS: Final = 5
_MAJORITY: Final = PLANTS // 2 + 1

How = Literal["fails", "withheld"]


@dataclass(frozen=True, slots=True)
class Seen:
    """From how many requests on a fault at this share is seen, by which check and how; None where it is not."""

    share: float
    start: int | None
    check: str | None = None
    how: How | None = None


@dataclass(frozen=True, slots=True)
class Said:
    """What a report says: its result, and the results of its checks by name."""

    result: str
    checks: dict[str, str]


def said_of(summary: Summary, planting: Planting) -> Said:
    gates = planting.gates
    checks = checks_of(figures_as_counted(summary, bounds=gates.bounds)["shadows"][TWIN], gates)
    return Said(str(result_of(checks)), {check.name: str(check.result) for check in checks})


def seen_by(fault: Fault, twin: Said, planted: Said) -> tuple[str, How] | None:
    """The check that sees the fault, and how; the one that is there for it where several do."""
    how: How
    if planted.result == Result.FAIL and twin.result != Result.FAIL:
        how, odd = "fails", [name for name, result in planted.checks.items() if result == Result.FAIL]
    elif planted.result != Result.PASS and twin.result == Result.PASS:
        how, odd = "withheld", [name for name, result in planted.checks.items() if result != Result.PASS]
    else:
        return None
    return (fault.check if fault.check in odd else odd[0]) if odd else fault.check, how


class Twins:
    """The requests that answer as live did, by prefix: of a draw, all that no fault is planted in."""

    def __init__(self, planting: Planting) -> None:
        self._planting = planting
        self._bases: dict[tuple[int | None, Part | None], list[Summary]] = {}
        self._said: dict[int, Said] = {}

    def forget(self) -> None:
        """Let go of the summaries of another share's draws."""
        self._bases = {key: base for key, base in self._bases.items() if key[0] is None}

    def said(self, cut: int) -> Said:
        """What the report says of the twin itself at a prefix."""
        found = self._said.get(cut)
        if found is None:
            base = self.without(frozenset(), None, None)[cut]
            found = self._said[cut] = said_of(base, self._planting)
        return found

    def without(self, befallen: frozenset[int], seed: int | None, part: Part | None) -> list[Summary]:
        """By prefix, the summaries of all requests but those of a draw, or but those of a part."""
        key = (seed if part is None else None), part
        base = self._bases.get(key)
        if base is None:
            left_out = befallen if part is None else self._planting.parts[part]
            base = self._bases[key] = []
            start = 0
            for cut, end in enumerate(self._planting.cuts):
                places = (at for at in range(start, end) if at not in left_out)
                piece = self._planting.folded(self._planting.twins(places), cut)
                base.append(piece if not base else merge(base[-1], piece))
                start = end
        return base


class _Plant:
    """One fault planted once: its summaries by prefix, made as they are asked for."""

    def __init__(self, planting: Planting, twins: Twins, fault: Fault, share: float, seed: int) -> None:
        self._planting, self._twins = planting, twins
        self._fault, self._seed = fault, seed
        self._befallen = planting.befallen(fault, share, seed)
        folded = self._befallen if fault.part is None else planting.parts[fault.part]
        self._folded = sorted(folded)
        self._pieces: list[Summary] = []
        self._seen: dict[int, tuple[str, How] | None] = {}

    def seen(self, cut: int) -> tuple[str, How] | None:
        if cut not in self._seen:
            self._seen[cut] = self._look(cut)
        return self._seen[cut]

    def _look(self, cut: int) -> tuple[str, How] | None:
        end = self._planting.cuts[cut]
        if not any(at < end for at in self._befallen):
            return None
        base = self._twins.without(self._befallen, self._seed, self._fault.part)[cut]
        said = said_of(merge(base, self._piece(cut)), self._planting)
        return seen_by(self._fault, self._twins.said(cut), said)

    def _piece(self, cut: int) -> Summary:
        """What is planted up to a prefix."""
        cuts = self._planting.cuts
        while len(self._pieces) <= cut:
            at = len(self._pieces)
            start, end = cuts[at - 1] if at else 0, cuts[at]
            records = (
                self._planting.planted(self._fault, self._seed, place)
                if place in self._befallen
                else next(self._planting.twins(iter((place,))))
                for place in self._folded
                if start <= place < end
            )
            piece = self._planting.folded(records, at)
            self._pieces.append(merge(self._pieces[-1], piece) if self._pieces else piece)
        return self._pieces[cut]


def measured(planting: Planting, twins: Twins, fault: Fault, share: float) -> Seen:
    """From how many requests on the fault is seen at a share."""
    plants = [_Plant(planting, twins, fault, share, seed) for seed in range(PLANTS)]

    def looked(cut: int) -> tuple[str, How] | None:
        """How most of the plants are seen at a prefix; None where most are not."""
        found: list[tuple[str, How]] = []
        missed = 0
        for plant in plants:
            seen = plant.seen(cut)
            if seen is None:
                missed += 1
            else:
                found.append(seen)
            if missed == _MAJORITY:
                return None
            if len(found) == _MAJORITY:
                break
        return max(found, key=lambda each: (found.count(each), each[1] == "fails", each[0]))

    last = len(planting.cuts) - 1
    by = looked(last)
    if by is None:
        return Seen(share, None)
    low, high = 0, last  # seen at `high`
    while low < high:
        middle = (low + high) // 2
        found = looked(middle)
        if found is None:
            low = middle + 1
        else:
            high, by = middle, found
    return Seen(share, planting.cuts[high], *by)


def measured_all(
    planting: Planting, faults: Sequence[Fault], share: float, progress: Callable[[], None] | None = None
) -> list[Seen]:
    """Each fault at one share. What is shared between them is let go of at the end."""
    twins = Twins(planting)
    found = []
    for fault in faults:
        found.append(measured(planting, twins, fault, share))
        if progress is not None:
            progress()
    return found


def ready_from(planting: Planting) -> tuple[int | None, Said]:
    """The least prefix from which on the twin is READY, and what is said of it in the whole log."""
    twins = Twins(planting)
    start: int | None = None
    for cut in reversed(range(len(planting.cuts))):
        if twins.said(cut).result != Result.PASS:
            break
        start = planting.cuts[cut]
    return start, twins.said(len(planting.cuts) - 1)
