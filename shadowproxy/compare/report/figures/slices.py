"""Parts of the requests, by one field's value each, in which the shadow does worse than elsewhere."""

import math
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Final

from shadowproxy.compare.fold.pair import REQUESTS_WITHOUT_BODY, Pair
from shadowproxy.compare.fold.slices import (
    BACK,
    BLIND,
    FAILED,
    GONE,
    LIVE_FAILED,
    MOST_VALUES,
    UNWRITTEN,
    WHOLE,
    Slice,
    Slices,
    digits_edges,
    mark_at,
    whole_edges,
)
from shadowproxy.compare.report import stats
from shadowproxy.compare.report.figures.types import NetLoss, Part, SliceFigures
from shadowproxy.compare.report.kinds import AnswerPlace
from shadowproxy.compare.report.stats import Estimate
from shadowproxy.compare.report.weights import Tally, Weighing, weighted_difference
from shadowproxy.compare.report.words import number

SLICES_SHOWN: Final = 12
NUMERIC_BINS: Final = 10

_FEWEST_IN_SLICE: Final = 30
FEWEST_TO_FAIL: Final = 100
LEAST_SHARE_TO_FAIL: Final = 0.01
_IN_FULL: Final = 1e9  # whole numbers below it are written with all their digits
_SURELY_LOST: Final = 0.05
_SIZES: Final = (0.5, 0.2, 0.1, 0.05, 0.04, 0.03, 0.02, 0.01, 0.005)
_CHANCE: Final = 0.05  # that any part is called out though nothing is wrong


def slices(pair: Pair, judged: AnswerPlace | None, named: tuple[str, ...]) -> list[SliceFigures]:
    """Parts of the requests that disagree more than the rest, or lose more answers than they may.

    Those that fail come first, then those with most of the disagreement. A part fails that has 100 requests and 1 % of
    them, and surely loses more than 5 of 100 answers, or fails in more, beyond live's: surely at every look, and with
    as many parts looked at as there are.
    """
    if judged is not None:
        agreement = stats.proportion(judged.same, judged.pairs)
    else:
        agreement = stats.proportion(pair.agreed, pair.compared)
    effect = _effect(agreement)
    weights = None if agreement is None else agreement.weights
    if weights is not None:
        effect *= weights.all.total / weights.worth if weights.worth else 1.0
    lost_effect = _effect(stats.paired_difference(pair.lost, pair.gained, pair.pairs))
    failed_effect = _effect(stats.paired_difference(pair.shadow_failed_only, pair.live_failed_only, pair.pairs))
    counted = known_slices(pair.slices, pair)
    if named:
        both = Slices({path: _fuller(pair, path) for path in named})
        counted = known_slices(both, pair)
    parts = {path: _cells(part, judged) for path, part in counted.items()}
    tests = sum(cell.enough for cells in parts.values() for cell in cells)
    line = stats.normal_quantile(1 - _CHANCE / (2 * max(1, tests)))
    chance = _CHANCE / max(1, 2 * tests)
    rows: list[SliceFigures] = []
    for path, cells in parts.items():
        size, requests = sum(cell.n for cell in cells), sum(cell.requests for cell in cells)
        differing = sum(cell.differs for cell in cells)

        def surely(cell: _Cell) -> tuple[float, float]:
            return (
                _least(cell, cell.lost, cell.gained, lost_effect, chance, weights),
                _least(cell, cell.failed, cell.live_failed, failed_effect, chance, weights),
            )

        def fails(cell: _Cell, requests: int = requests) -> bool:
            enough = cell.written >= FEWEST_TO_FAIL and cell.requests >= LEAST_SHARE_TO_FAIL * requests
            enough = enough and cell.requests < requests  # all of them are no part: the other checks look at these
            return enough and max(surely(cell)) > _SURELY_LOST

        flags = [(cell.enough and _stands_out(cell, size, differing, effect) > line, fails(cell)) for cell in cells]
        for cell, (significant, failing) in _joined(cells, flags):
            if not failing and not ((significant or (named and differing)) and cell.enough):
                continue
            low_lost, low_failed = surely(cell)
            rows.append(
                {
                    "path": path,
                    "value": cell.label,
                    "requests": cell.requests,
                    "differing": cell.differs,
                    "rate": cell.differs / cell.n if cell.n else 0.0,
                    "lift": cell.differs / cell.n / (differing / size) if cell.n and differing else 0.0,
                    "share_of_all": cell.differs / differing if differing else 0.0,
                    "share_of_requests": cell.requests / requests,
                    "significant": significant,
                    "lost": _net(cell.lost, cell.gained, cell.requests, low_lost),
                    "errors": _net(cell.failed, cell.live_failed, cell.requests, low_failed),
                    "fails": failing,
                }
            )
            if weights is not None:
                rows[-1]["written"] = cell.written
    rows.sort(
        key=lambda row: (not row["fails"], row["share_of_requests"] - row["share_of_all"], row["path"], row["value"])
    )
    return rows[:SLICES_SHOWN]


def known_slices(slices: Slices, pair: Pair) -> dict[str, Slice]:
    """The fields of requests by which they can be divided, in their order.

    Where the log leaves out some requests' bodies it does so by what became of them: of those that match, most often.
    What their fields have to say would be about the others.
    """
    if pair.left_out.get(REQUESTS_WITHOUT_BODY, 0):
        return {path: part for path, part in sorted(slices.items()) if path in _WITHOUT_BODY}
    return dict(sorted(slices.items()))


_WITHOUT_BODY: Final = frozenset({"@method", "@path"})


def parts(pair: Pair) -> list[Part]:
    """How large parts of the requests are, by one value of one field: for each of some sizes the largest up to it."""
    found: dict[tuple[str, str], Part] = {}
    cells: list[tuple[float, str, str, int]] = []
    for path, part in known_slices(pair.slices, pair).items():
        values = part.values
        if not 1 < len(values) <= MOST_VALUES or values.cut:
            continue
        total = sum(cell["n"] for cell in values.values())
        cells += [(cell["n"] / total, path, value, cell["n"]) for value, cell in values.items() if cell["n"]]
    for most in _SIZES:
        fitting = (each for each in cells if each[0] <= most)
        best = min(fitting, key=lambda each: (-each[0], each[1], each[2]), default=None)
        if best is not None:
            share, path, value, count = best
            found[path, value] = {"path": path, "value": f'"{value}"', "requests": count, "share": share}
    return list(found.values())


def _effect(estimate: Estimate | None) -> float:
    return max(1.0, estimate.design_effect) if estimate is not None else 1.0


def _least(cell: "_Cell", plus: int, minus: int, effect: float, chance: float, weights: Weighing | None) -> float:
    """What (plus - minus) / n surely is at least, at every look: as `stats.anytime_difference`, with another chance."""
    n = cell.requests
    if plus <= minus or not n:
        return 0.0
    if weights is not None:
        return weighted_difference(
            _weighing(cell, plus, minus, weights), effect, of_both=chance / 5, of_plus=chance * 4 / 5
        )[0]
    discordant = (plus + minus) / effect
    fewest, most = stats.confidence_sequence(discordant, n / effect, chance / 5)
    low = 2 * stats.confidence_sequence(plus / effect, discordant, chance * 4 / 5)[0] - 1
    return low * (fewest if low >= 0 else most)


def _weighing(cell: "_Cell", plus: int, minus: int, weights: Weighing) -> Weighing:
    """The weights in a cell: what only one of the two answers is in the log for certain, the rest weighs the most."""
    draw, most = weights.draw, weights.heaviest
    ones, others = (Tally(count, count / draw, count * draw) for count in (plus, minus))
    rest = cell.requests - plus - minus
    written = max(rest / most, cell.written - ones.written - others.written)
    every = ones.plus(others).plus(Tally(rest, written, rest * most))
    return Weighing(every, ones, others, most, draw)


def _net(plus: int, minus: int, n: int, low: float) -> NetLoss:
    return {"count": plus - minus, "points": (plus - minus) / n if n else 0.0, "low": low}


def _fuller(pair: Pair, path: str) -> Slice:
    """What was counted of a field because it was named, or as one of all: a saved summary may not have named it."""
    both = (pair.named_slices.get(path, Slice()), pair.slices.get(path, Slice()))
    return max(both, key=_size)


def _size(part: Slice) -> int:
    numbers = part.numbers["n"].total() if "n" in part.numbers else 0
    return numbers + sum(cell["n"] for cell in part.values.values())


@dataclass(frozen=True, slots=True)
class _Cell:
    """One value of a request field, or one range of its numbers.

    Of `requests` (or rows of a batch) `n` show whether the two arms agree, and `differs` of these disagree; `unwritten`
    are those that records stand for beyond themselves.
    """

    requests: int
    n: int
    differs: int
    lost: int
    gained: int
    failed: int
    live_failed: int
    value: str = ""
    low: float = 0.0
    high: float = 0.0
    numeric: bool = False
    whole: bool = False
    unwritten: int = 0

    @property
    def written(self) -> int:
        return self.requests - self.unwritten

    @property
    def enough(self) -> bool:
        """Whether enough records show whether the two agree."""
        return self.n - self.unwritten >= _FEWEST_IN_SLICE

    @property
    def label(self) -> str:
        if not self.numeric:
            return f'"{self.value}"'
        if self.whole and max(abs(self.low), abs(self.high)) < _IN_FULL:
            return f"{self.low:,.0f}" if self.low == self.high else f"{self.low:,.0f} to {self.high:,.0f}"
        if self.low == self.high:
            return number(self.low)
        return f"{number(self.low)} to {'' if self.whole else 'under '}{number(self.high)}"


def _cell(counts: Mapping[str, int], judged: AnswerPlace | None) -> _Cell:
    """A cell from its counted marks, at the judged place or for whole answers."""

    def at(word: str) -> int:
        return counts.get(mark_at(word, judged.key), 0) if judged is not None else 0

    requests = counts.get("n", 0)
    lost, gained = counts.get(GONE, 0) + at("lost"), counts.get(BACK, 0) + at("gained")
    failed, live_failed = counts.get(FAILED, 0), counts.get(LIVE_FAILED, 0)
    if judged is None:
        n, differs = requests - counts.get(BLIND, 0), counts.get(WHOLE, 0)
    else:
        n, differs = requests, at("differs") + lost + gained
        if judged.kind == "class":
            differs += at("spelled")
    return _Cell(requests, n, differs, lost, gained, failed, live_failed, unwritten=counts.get(UNWRITTEN, 0))


def _joined(cells: list[_Cell], flags: list[tuple[bool, bool]]) -> list[tuple[_Cell, tuple[bool, bool]]]:
    """Neighbouring ranges of numbers that all stand out, or all fail, as one."""
    rows: list[tuple[_Cell, tuple[bool, bool]]] = []
    for cell, flag in zip(cells, flags, strict=True):
        if any(flag) and cell.numeric and rows and rows[-1][1] == flag and rows[-1][0].numeric:
            rows[-1] = (_both(rows[-1][0], cell), flag)
        else:
            rows.append((cell, flag))
    return rows


def _both(one: _Cell, other: _Cell) -> _Cell:
    return replace(
        one,
        requests=one.requests + other.requests,
        n=one.n + other.n,
        differs=one.differs + other.differs,
        lost=one.lost + other.lost,
        gained=one.gained + other.gained,
        failed=one.failed + other.failed,
        live_failed=one.live_failed + other.live_failed,
        high=other.high,
        unwritten=one.unwritten + other.unwritten,
    )


def _stands_out(cell: _Cell, size: int, differing: int, effect: float) -> float:
    """How many standard errors a cell's rate lies above the rest's, in requests worth 1/effect each."""
    rest, rest_differs = size - cell.n, differing - cell.differs
    if not rest or not cell.n:
        return 0.0
    pooled = differing / size
    error = math.sqrt(pooled * (1 - pooled) * (1 / cell.n + 1 / rest) * effect)
    return (cell.differs / cell.n - rest_differs / rest) / error if error > 0 else 0.0


def _cells(part: Slice, judged: AnswerPlace | None) -> list[_Cell]:
    cells: list[_Cell] = []
    if len(part.values) <= MOST_VALUES and not part.values.cut:
        cells.extend(replace(_cell(counts, judged), value=value) for value, counts in sorted(part.values.items()))
    cells.extend(_numeric_cells(part, judged))
    return cells


def _numeric_cells(part: Slice, judged: AnswerPlace | None) -> list[_Cell]:
    """Ten ranges of about equal weight; no bin is divided."""
    if "n" not in part.numbers:
        return []
    numbers = part.numbers["n"]
    whole = not part.fractions["n"]
    edges_of = whole_edges if whole else digits_edges
    total = numbers.total()
    groups: list[list[int]] = []
    below = 0
    fresh = True
    for at in sorted(numbers):
        if fresh:
            groups.append([])
        groups[-1].append(at)
        below += numbers[at]
        fresh = below >= total * len(groups) / NUMERIC_BINS
    cells = []
    for group in groups:
        counts = {mark: sum(hist[at] for at in group) for mark, hist in part.numbers.items()}
        low, high = edges_of(group[0])[0], edges_of(group[-1])[1]
        cells.append(replace(_cell(counts, judged), low=low, high=high, numeric=True, whole=whole))
    return cells
