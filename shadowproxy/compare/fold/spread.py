"""How the numbers of both arms are spread."""

from dataclasses import dataclass, field

from shadowproxy.compare.fold.cells import BlockCells, Cells, cells_of
from shadowproxy.compare.fold.tables import Parts


class Deltas(Cells):
    """By how much the shadow's numbers lie above live's."""

    LIMIT = 256


@dataclass(slots=True)
class Spread(Parts):
    """How the numbers of both arms are spread: all, and by block in wider cells."""

    live: Cells = field(default_factory=Cells)
    shadow: Cells = field(default_factory=Cells)
    live_blocks: BlockCells = field(default_factory=BlockCells)
    shadow_blocks: BlockCells = field(default_factory=BlockCells)


_Waiting = dict[int, tuple[list[float], list[int]]]
"""By block, numbers that are not yet in cells, and how often each occurred."""


class SpreadBuilder:
    """Counts numbers into a spread. They wait, as many at once are put into cells in a third of the time."""

    __slots__ = ("_live", "_shadow", "_spread")

    def __init__(self, spread: Spread) -> None:
        self._spread = spread
        self._live: _Waiting = {}
        self._shadow: _Waiting = {}

    def add(self, block: int, value: float, times: int, shadow: bool) -> None:
        waiting = self._shadow if shadow else self._live
        numbers = waiting.get(block)
        if numbers is None:
            numbers = waiting[block] = ([], [])
        numbers[0].append(value)
        numbers[1].append(times)

    def flush(self) -> None:
        """Put the waiting numbers into cells."""
        spread = self._spread
        if self._live:
            _put(self._live, spread.live, spread.live_blocks)
            self._live = {}
        if self._shadow:
            _put(self._shadow, spread.shadow, spread.shadow_blocks)
            self._shadow = {}

    def finish(self) -> Spread:
        """The spread of all numbers. The builder is not used afterwards."""
        self.flush()
        return self._spread


def _put(waiting: _Waiting, cells: Cells, blocks: BlockCells) -> None:
    for block, (values, times) in waiting.items():
        found = list(zip(cells_of(values), times, strict=True))
        cells.add(found)
        blocks.add(block, found)
