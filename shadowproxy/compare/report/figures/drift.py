"""How differently the answers of two arms are spread, in at most 24 cells.

The cells are cut from live's answers once all are counted: the values that it gives often (atoms), quantiles of the
rest, and one cell below and one above all of live's answers. Without these two nothing would show that a shadow leaves
live's range: what is beyond the last quantile would share a cell with what is just before it.

With no change at all the distance is above zero, and the more so the more cells there are for the requests: 22 cells at
1,000 have a 95th percentile of .108. So there are few of them, and their number goes with the figure.
"""

import math
from bisect import bisect_left
from collections import Counter
from collections.abc import Callable
from typing import Any, Final

from shadowproxy.compare.fold.cells import Cells, cell_of, ends, joined
from shadowproxy.compare.fold.few import Few
from shadowproxy.compare.fold.spread import Spread
from shadowproxy.compare.report import stats
from shadowproxy.compare.report.figures.common import arms
from shadowproxy.compare.report.stats import Estimate

MOST_CELLS: Final = 24
BELOW: Final = -1
ABOVE: Final = -2
OTHERS: Final = "others"

_QUANTILES: Final = 20
_ATOM: Final = 0.01  # of live's answers
_STANDS_OUT: Final = 5  # times as many as in the cells beside it make a value one that is given again and again
_FEW_ATOMS: Final = 3
_NEARLY_ALL: Final = 0.995
_CONTINUOUS: Final = 20  # different cells that a shadow's answers have which are no atoms
_NEAR: Final = 1e-5  # within which numbers are equal (see `likeness.close`)
_NEAR_ZERO: Final = 1e-6

Grouped = list[Counter[Any]]
"""By block, the counts of both arms: keys are (0 for live or 1, group)."""


def distance(blocks: Grouped) -> Estimate | None:
    """The Jensen-Shannon distance with its interval."""
    return stats.jackknifed(blocks, lambda counts: stats.jensen_shannon(*arms(counts)))


def effective(agreement: Estimate | None) -> float:
    """How many independent pairs the pairs are worth."""
    return agreement.effective if agreement is not None else 0.0


def whole(blocks: Grouped) -> Counter[Any]:
    total: Counter[Any] = Counter()
    for each in blocks:
        total.update(each)
    return total


def cells_in(blocks: Grouped) -> int:
    """How many groups either arm has answers in."""
    return len({group for each in blocks for (_, group), count in each.items() if count})


# --- numbers -------------------------------------------------------------------------------------------------------


def number_groups(spread: Spread) -> Grouped:
    """Both arms' numbers in the cells of the drift."""
    width = max(spread.live_blocks.width, spread.shadow_blocks.width)
    live, shadow = spread.live_blocks.at(width), spread.shadow_blocks.at(width)
    group = _grouping(spread.live_blocks.whole(width), width)
    blocks: Grouped = []
    for block in sorted({*live, *shadow}):
        counts: Counter[Any] = Counter()
        for arm, each in enumerate((live.get(block, {}), shadow.get(block, {}))):
            for cell, count in each.items():
                counts[arm, group(cell)] += count
        blocks.append(counts)
    return blocks


def _grouping(live: Counter[int], width: int) -> Callable[[int], Any]:
    """Which group a cell belongs to, by live's cells."""
    if not live:
        return lambda cell: 0
    # As equality has it: what is within a millionth of zero is zero, among shares and where numbers are not that small.
    lowest, highest = ends(min(live), width), ends(max(live), width)
    shares = lowest[1] >= -_NEAR_ZERO * 2 and highest[0] <= 1 + _NEAR_ZERO * 2
    large = max(-lowest[0], highest[1]) * _NEAR >= _NEAR_ZERO
    zero = joined(cell_of(_NEAR_ZERO), width) if shares or large else 0
    # Where cells are narrower than what counts as equal, a value beside an atom is that atom.
    reach = math.ceil(_NEAR * 2**20 / 2**width) if width <= 4 else 0

    def near(cell: int) -> int:
        return 0 if -zero <= cell <= zero else cell

    counts: Counter[int] = Counter()
    for cell, count in live.items():
        counts[near(cell)] += count
    least, most = min(counts), max(counts)
    atoms = sorted(_atoms(counts), key=lambda cell: (-counts[cell], cell))[: MOST_CELLS - 3]
    taken = sorted(atoms)
    rest = sorted(cell for cell in counts if _nearest(taken, cell, reach) is None)
    mass = sum(counts[cell] for cell in rest)
    total = counts.total()
    parts = max(1, min(MOST_CELLS - 2 - len(atoms), round(_QUANTILES * mass / total)))
    cuts: list[int] = []
    below = 0
    for cell in rest:
        below += counts[cell]
        if below >= mass * (len(cuts) + 1) / parts:
            cuts.append(cell)
    cuts = cuts[:-1]

    def group(cell: int) -> Any:
        cell = near(cell)
        atom = _nearest(taken, cell, reach)
        if atom is not None:
            return "atom", atom
        if cell < least - reach:
            return BELOW
        if cell > most + reach:
            return ABOVE
        return bisect_left(cuts, cell)

    return group


def _nearest(taken: list[int], cell: int, reach: int) -> int | None:
    """The atom that a cell is, or that it lies beside."""
    at = bisect_left(taken, cell)
    found = [each for each in taken[max(0, at - 1) : at + 1] if abs(each - cell) <= reach]
    return min(found, key=lambda each: abs(each - cell), default=None)


def _atoms(counts: Counter[int]) -> list[int]:
    """Cells with more than 1 % of the numbers that stand out from those beside them."""
    total = counts.total()
    found = []
    for cell, count in counts.items():
        beside = (counts.get(cell - 1, 0) + counts.get(cell + 1, 0)) / 2
        if count > _ATOM * total and count > _STANDS_OUT * beside:
            found.append(cell)
    return found


def incomparable(spread: Spread) -> str | None:
    """Why the spread of the numbers cannot be compared, if so: live has few values and the shadow any."""
    live, shadow = spread.live, spread.shadow
    if not live or not shadow or _held(live, _FEW_ATOMS) < _NEARLY_ALL:
        return None
    if len(shadow) <= _CONTINUOUS or _held(shadow, _CONTINUOUS) > 1 - _CONTINUOUS * _ATOM:
        return None
    values = sum(1 for count in live.values() if count > (1 - _NEARLY_ALL) * sum(live.values()))
    few = "one value" if values <= 1 else f"{values} values"
    return f"live has {few} only, the shadow a continuous scale"


def _held(cells: Cells, most: int) -> float:
    """The share of the numbers that the fullest cells have."""
    total = sum(cells.values())
    return sum(sorted(cells.values(), reverse=True)[:most]) / total if total else 0.0


# --- classes -------------------------------------------------------------------------------------------------------


def class_groups(live: list[Few], shadow: list[Few]) -> Grouped:
    """Both arms' classes: those with over 1 % of live's answers, the most frequent first, and all others together."""
    totals = Counter({key: series.total() for table in live for key, series in table.items()})
    frequent = [key for key, count in totals.items() if count > _ATOM * totals.total()]
    kept = set(sorted(frequent, key=lambda key: (-totals[key], key))[: MOST_CELLS - 1])
    blocks: dict[int, Counter[Any]] = {}
    for arm, tables in enumerate((live, shadow)):
        for table in tables:
            for key, series in table.items():
                group = key if key in kept else OTHERS
                for block, count in series.items():
                    blocks.setdefault(block, Counter())[arm, group] += count
    return [blocks[block] for block in sorted(blocks)]
