"""Numbers counted in cells that are as narrow as a bound on their number allows.

A cell holds the floats with the same sign, exponent and first bits of the mantissa. At first a cell is as narrow as a
millionth of its value, so that a few different values are counted exactly; while there are more cells than `LIMIT`,
every two neighbours are joined. The cells depend on the values alone, not on their order, so two counts add up exactly:
the sum has the width of the coarser of the two, or more if it has too many cells.

Cells are relative, as latencies and prices need it, and yet narrow where a bounded range is far from zero: temperatures
between 290 and 300 K fall in hundreds of cells, where bins of 2 % would be two.
"""

import math
from array import array
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, ClassVar, Final, Self

from shadowproxy.compare.fold.counts import Weight, add_to

_HALF: Final = 1 << 31
_FINEST: Final = 32  # bits of a float's 64 that cells ignore: within a millionth
_ALL: Final = 0x7FFFFFFFFFFFFFFF
_LARGEST: Final = 1.7e308

COARSEST: Final = 31
"""At this width all numbers fall in one cell."""


def cells_of(values: Sequence[float]) -> list[int]:
    """The narrowest cells of finite numbers, which sort as the numbers do; that of x and of -x differ in sign only.

    A value is rounded to its cell and not cut off: what should be 1 and is 0.99999994 in single precision lies in one
    cell with 1, and so it stays when cells are joined, as their edges are round numbers.
    """
    bits = array("q", array("d", values).tobytes())
    return [each + _HALF >> _FINEST if each >= 0 else -((each & _ALL) + _HALF >> _FINEST) for each in bits]


def cell_of(value: float) -> int:
    return cells_of((value,))[0]


def joined(cell: int, times: int) -> int:
    """The cell that contains a cell after neighbours were joined `times` times: towards zero from both sides."""
    return cell >> times if cell >= 0 else -(-cell >> times)


def ends(cell: int, width: int) -> tuple[float, float]:
    """The numbers between which those of a cell lie; of one of the narrowest, its own number twice."""
    size = abs(cell)
    inner = _float(size << width)
    outer = inner if width == 0 else _float((size + 1 << width) - 1)
    if cell == 0:
        return -outer, outer
    return (inner, outer) if cell > 0 else (-outer, -inner)


def middle(cell: int, width: int) -> float:
    low, high = ends(cell, width)
    return low if low == high else low + (high - low) / 2


def _float(cell: int) -> float:
    found: float = array("d", array("q", [cell << _FINEST]).tobytes())[0]
    return found if found <= _LARGEST else _LARGEST


class Cells(dict[int, int]):
    """How many numbers fell in each cell. `width` says how often neighbours were joined."""

    LIMIT: ClassVar[int] = 512

    def __init__(self, counts: Mapping[int, int] | None = None, width: int = 0) -> None:
        super().__init__(counts or {})
        self.width = width
        self._fit()

    def add(self, cells: Iterable[tuple[int, int]]) -> None:
        """Count cells of the narrowest width, each with its number."""
        width = self.width
        for cell, times in cells:
            at = cell >> width if cell >= 0 else -(-cell >> width)
            self[at] = self.get(at, 0) + times
        self._fit()

    def _fit(self) -> None:
        while len(self) > self.LIMIT:
            self._join(1)

    def _join(self, times: int) -> None:
        counts = dict(self)
        self.clear()
        for cell, count in counts.items():
            at = joined(cell, times)
            self[at] = self.get(at, 0) + count
        self.width += times

    def at(self, width: int) -> Counter[int]:
        """The counts at a width that is not narrower than this one's."""
        counts: Counter[int] = Counter()
        for cell, count in self.items():
            counts[joined(cell, width - self.width)] += count
        return counts

    def merged(self, other: Self) -> Self:
        total = type(self)(self, self.width)
        total.absorb(other)
        return total

    def absorb(self, other: Self) -> None:
        if other.width > self.width:
            self._join(other.width - self.width)
        add_to(self, other if other.width == self.width else _joined(other, self.width - other.width))
        self._fit()

    def widened(self, doublings: int = 1) -> Self:
        return self

    def weighed(self, weight: Weight) -> Self:
        return type(self)({cell: count * weight.times for cell, count in self.items()}, self.width)

    def to_json(self) -> Any:
        return [self.width, *_written(self)]

    @classmethod
    def from_json(cls, raw: Any) -> Self:
        width, *flat = map(int, raw)
        return cls(_pairs(flat), _checked(width))


class BlockCells(dict[int, dict[int, int]]):
    """Cells by block of time, all of one width: the blocks together have at most `LIMIT` different cells."""

    LIMIT: ClassVar[int] = 192

    def __init__(self, counts: Mapping[int, dict[int, int]] | None = None, width: int = 0) -> None:
        super().__init__(counts or {})
        self.width = width
        self._cells: set[int] = {cell for each in self.values() for cell in each}
        self._fit()

    def add(self, block: int, cells: Iterable[tuple[int, int]]) -> None:
        """Count cells of the narrowest width, each with its number."""
        width = self.width
        counts = self.get(block)
        if counts is None:
            counts = self[block] = {}
        for cell, times in cells:
            at = cell >> width if cell >= 0 else -(-cell >> width)
            before = counts.get(at)
            if before is None:
                self._cells.add(at)
                counts[at] = times
            else:
                counts[at] = before + times
        self._fit()

    def _fit(self) -> None:
        if len(self._cells) > self.LIMIT:
            times, cells = 0, self._cells
            while len(cells) > self.LIMIT:
                times, cells = times + 1, {joined(cell, 1) for cell in cells}
            self._join(times)

    def _join(self, times: int) -> None:
        self._cells = {joined(cell, times) for cell in self._cells}
        for block, counts in self.items():
            self[block] = _joined(counts, times)
        self.width += times

    def whole(self, width: int | None = None) -> Counter[int]:
        """All blocks together."""
        total: Counter[int] = Counter()
        for counts in self.at(self.width if width is None else width).values():
            total.update(counts)
        return total

    def at(self, width: int) -> dict[int, dict[int, int]]:
        """The counts by block at a width that is not narrower than this one's."""
        if width == self.width:
            return self
        return {block: _joined(counts, width - self.width) for block, counts in self.items()}

    def merged(self, other: Self) -> Self:
        total = type(self)({block: dict(counts) for block, counts in self.items()}, self.width)
        total.absorb(other)
        return total

    def absorb(self, other: Self) -> None:
        if other.width > self.width:
            self._join(other.width - self.width)
        for block, counts in other.at(self.width).items():
            mine = self.get(block)
            if mine is None:
                mine = self[block] = {}
            add_to(mine, counts)
            self._cells.update(counts)
        self._fit()

    def widened(self, doublings: int = 1) -> Self:
        wider: dict[int, dict[int, int]] = {}
        for block, counts in self.items():
            add_to(wider.setdefault(block >> doublings, {}), counts)
        return type(self)(wider, self.width)

    def weighed(self, weight: Weight) -> Self:
        heavier = {
            block: {cell: count * weight.times for cell, count in counts.items()} for block, counts in self.items()
        }
        return type(self)(heavier, self.width)

    def to_json(self) -> Any:
        return {
            "width": self.width,
            "blocks": {str(block): _written(counts) for block, counts in sorted(self.items())},
        }

    @classmethod
    def from_json(cls, raw: Any) -> Self:
        blocks = {int(block): _pairs([int(each) for each in flat]) for block, flat in raw["blocks"].items()}
        return cls(blocks, _checked(int(raw["width"])))


def _joined(counts: Mapping[int, int], times: int) -> dict[int, int]:
    found: dict[int, int] = {}
    for cell, count in counts.items():
        at = cell >> times if cell >= 0 else -(-cell >> times)
        found[at] = found.get(at, 0) + count
    return found


def _written(counts: Mapping[int, int]) -> list[int]:
    """Cells and their counts in turn, each cell as its distance from the one before: neighbours are near."""
    flat: list[int] = []
    before = 0
    for cell in sorted(counts):
        flat += (cell - before, counts[cell])
        before = cell
    return flat


def _pairs(flat: list[int]) -> dict[int, int]:
    """The counts that `_written` wrote."""
    if len(flat) % 2:
        raise ValueError("cells without their counts")
    found: dict[int, int] = {}
    cell = 0
    for at in range(0, len(flat), 2):
        cell += flat[at]
        found[cell] = flat[at + 1]
    return found


def _checked(width: int) -> int:
    if not 0 <= width <= COARSEST:
        raise ValueError("cells of an impossible width")
    return width


# --- figures of cells ----------------------------------------------------------------------------------------------


def cell_quantile(counts: Mapping[int, int], width: int, q: float) -> float | None:
    """The q-quantile, interpolated within its cell."""
    total = sum(counts.values())
    if total <= 0:
        return None
    rank = q * (total - 1) + 0.5
    below = 0
    last: int | None = None
    for cell in sorted(counts):
        count = counts[cell]
        if count <= 0:
            continue
        last = cell
        if below + count >= rank:
            low, high = ends(cell, width)
            return low + (high - low) * min(1.0, max(0.0, (rank - below) / count))
        below += count
    return ends(last, width)[1] if last is not None else None


def cell_deviation(counts: Mapping[int, int], width: int) -> float | None:
    """The standard deviation of numbers in cells; exactly 0 where all are in one."""
    total = sum(counts.values())
    if total < 2:
        return None
    points = [(middle(cell, width), count) for cell, count in sorted(counts.items()) if count]
    if len(points) == 1:
        return 0.0
    mean = _mean(points, total)
    try:
        return math.sqrt(math.fsum((x - mean) ** 2 * count for x, count in points) / (total - 1))
    except OverflowError:
        return math.inf


def cell_mean(counts: Mapping[int, int], width: int) -> float | None:
    """The mean of numbers in cells."""
    total = sum(counts.values())
    if total <= 0:
        return None
    return _mean([(middle(cell, width), count) for cell, count in sorted(counts.items())], total)


def _mean(points: list[tuple[float, int]], total: int) -> float:
    try:
        mean = math.fsum(x * count for x, count in points) / total
    except (OverflowError, ValueError):
        mean = math.inf
    # The sum of numbers near the largest float is beyond a float; their mean is not.
    return mean if math.isfinite(mean) else math.fsum(x * (count / total) for x, count in points)
