"""Finds how many requests a report needs to see a planted fault.

Seen means that the report says NOT READY, or withholds READY although it says READY for the twin at the same prefix.
Each share of each fault is planted five times, each time in other requests. The figure is the median of the five: the
shortest prefix at which three of them are seen. More requests only make a report surer, so the prefix is found by
halving. A fault that is not seen in the whole log has none.

Most requests of a plant are answered as the twin answers. They are folded once for each draw, and the summaries of the
planted requests are added: summaries of parts of a log add up exactly.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Final, Literal

from shadowproxy.compare.fold.summary import Summary, merge
from shadowproxy.compare.report.checks.all import checks_of
from shadowproxy.compare.report.checks.check import Result
from shadowproxy.compare.report.figures.whole import figures_as_counted
from shadowproxy.compare.report.verdict import result_of
from shadowproxy.selftest.planting import TWIN, Planting
from shadowproxy.selftest.plants.fault import Fault, Part

SHARES: Final = (0.01, 0.03, 0.3)
PLANTS: Final = 5
_MAJORITY: Final = PLANTS // 2 + 1

How = Literal["fails", "withheld"]


@dataclass(frozen=True, slots=True)
class Seen:
    """How many requests it takes to see a fault at this share (None: it is not seen), by which check, and how."""

    share: float
    start: int | None
    check: str | None = None
    how: How | None = None


@dataclass(frozen=True, slots=True)
class ReportResult:
    """A report's result, and the results of its checks by name."""

    result: str
    checks: dict[str, str]


def report_on(summary: Summary, planting: Planting) -> ReportResult:
    gates = planting.gates
    checks = checks_of(figures_as_counted(summary, bounds=gates.bounds)["shadows"][TWIN], gates)
    return ReportResult(str(result_of(checks)), {check.name: str(check.result) for check in checks})


def seen_by(fault: Fault, twin: ReportResult, planted: ReportResult) -> tuple[str, How] | None:
    """The check that sees the fault, and how. If several do, the fault's own check."""
    how: How
    if planted.result == Result.FAIL and twin.result != Result.FAIL:
        how, odd = "fails", [name for name, result in planted.checks.items() if result == Result.FAIL]
    elif planted.result != Result.PASS and twin.result == Result.PASS:
        how, odd = "withheld", [name for name, result in planted.checks.items() if result != Result.PASS]
    else:
        return None
    return (fault.check if fault.check in odd else odd[0]) if odd else fault.check, how


class Twins:
    """The requests of a draw in which no fault is planted, by prefix: their shadow answers as live did."""

    def __init__(self, planting: Planting) -> None:
        self._planting = planting
        self._bases: dict[tuple[int | None, Part | None], list[Summary]] = {}
        self._reports: dict[int, ReportResult] = {}

    def forget(self) -> None:
        """Drop the summaries of another share's draws."""
        self._bases = {key: base for key, base in self._bases.items() if key[0] is None}

    def report(self, cut: int) -> ReportResult:
        """The report on the twin itself at a prefix."""
        found = self._reports.get(cut)
        if found is None:
            base = self.without(frozenset(), None, None)[cut]
            found = self._reports[cut] = report_on(base, self._planting)
        return found

    def without(self, plantable: frozenset[int], seed: int | None, part: Part | None) -> list[Summary]:
        """By prefix, the summaries of all requests without those of a draw, or without those of a part."""
        key = (seed if part is None else None), part
        base = self._bases.get(key)
        if base is None:
            left_out = plantable if part is None else self._planting.parts[part]
            base = self._bases[key] = []
            start = 0
            for cut, end in enumerate(self._planting.cuts):
                places = (at for at in range(start, end) if at not in left_out)
                piece = self._planting.fold(self._planting.twins(places), cut)
                base.append(piece if not base else merge(base[-1], piece))
                start = end
        return base


class _Plant:
    """One fault planted once: its summaries by prefix, made on demand."""

    def __init__(self, planting: Planting, twins: Twins, fault: Fault, share: float, seed: int) -> None:
        self._planting, self._twins = planting, twins
        self._fault, self._seed = fault, seed
        self._plantable = planting.plantable(fault, share, seed)
        fold = self._plantable if fault.part is None else planting.parts[fault.part]
        self._fold = sorted(fold)
        self._pieces: list[Summary] = []
        self._seen: dict[int, tuple[str, How] | None] = {}

    def seen(self, cut: int) -> tuple[str, How] | None:
        if cut not in self._seen:
            self._seen[cut] = self._look(cut)
        return self._seen[cut]

    def _look(self, cut: int) -> tuple[str, How] | None:
        end = self._planting.cuts[cut]
        if not any(at < end for at in self._plantable):
            return None
        base = self._twins.without(self._plantable, self._seed, self._fault.part)[cut]
        report = report_on(merge(base, self._piece(cut)), self._planting)
        return seen_by(self._fault, self._twins.report(cut), report)

    def _piece(self, cut: int) -> Summary:
        """The summary of the planted requests up to a prefix."""
        cuts = self._planting.cuts
        while len(self._pieces) <= cut:
            at = len(self._pieces)
            start, end = cuts[at - 1] if at else 0, cuts[at]
            records = (
                self._planting.planted(self._fault, self._seed, place)
                if place in self._plantable
                else next(self._planting.twins(iter((place,))))
                for place in self._fold
                if start <= place < end
            )
            piece = self._planting.fold(records, at)
            self._pieces.append(merge(self._pieces[-1], piece) if self._pieces else piece)
        return self._pieces[cut]


def measure(planting: Planting, twins: Twins, fault: Fault, share: float) -> Seen:
    """Find how many requests it takes to see the fault at a share."""
    plants = [_Plant(planting, twins, fault, share, seed) for seed in range(PLANTS)]

    def majority_at(cut: int) -> tuple[str, How] | None:
        """How most of the plants are seen at a prefix; None if most are not."""
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
    by = majority_at(last)
    if by is None:
        return Seen(share, None)
    low, high = 0, last  # seen at `high`
    while low < high:
        middle = (low + high) // 2
        found = majority_at(middle)
        if found is None:
            low = middle + 1
        else:
            high, by = middle, found
    return Seen(share, planting.cuts[high], *by)


def measure_all(
    planting: Planting, faults: Sequence[Fault], share: float, progress: Callable[[], None] | None = None
) -> list[Seen]:
    """Each fault at one share. The summaries that they share are dropped at the end."""
    twins = Twins(planting)
    found = []
    for fault in faults:
        found.append(measure(planting, twins, fault, share))
        if progress is not None:
            progress()
    return found


def ready_from(planting: Planting) -> tuple[int | None, ReportResult]:
    """The shortest prefix from which on the twin is READY, and the report on it in the whole log."""
    twins = Twins(planting)
    start: int | None = None
    for cut in reversed(range(len(planting.cuts))):
        if twins.report(cut).result != Result.PASS:
            break
        start = planting.cuts[cut]
    return start, twins.report(len(planting.cuts) - 1)
