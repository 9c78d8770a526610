"""How the numbers of both arms are spread."""

from collections.abc import Mapping
from dataclasses import dataclass, field

from shadowproxy.compare.fold.cells import BlockCells, Cells, cells_of
from shadowproxy.compare.fold.tables import Parts


class Deltas(Cells):
    """By how much the shadow's numbers lie above live's."""

    LIMIT = 256


_Noted = tuple[list[float], list[int]]
"""Numbers that wait to be put into cells, and how often each came."""


@dataclass(slots=True)
class Spread(Parts):
    """How the numbers of both arms are spread: all, and by block in wider cells. `note` counts with the next `settle`,
    as many numbers at once are put into cells in a third of the time."""

    live: Cells = field(default_factory=Cells)
    shadow: Cells = field(default_factory=Cells)
    live_blocks: BlockCells = field(default_factory=BlockCells)
    shadow_blocks: BlockCells = field(default_factory=BlockCells)
    _live_noted: dict[int, _Noted] = field(default_factory=dict, init=False, repr=False, compare=False)
    _shadow_noted: dict[int, _Noted] = field(default_factory=dict, init=False, repr=False, compare=False)

    def note(self, block: int, value: float, times: int, shadow: bool) -> None:
        waiting = self._shadow_noted if shadow else self._live_noted
        noted = waiting.get(block)
        if noted is None:
            noted = waiting[block] = ([], [])
        noted[0].append(value)
        noted[1].append(times)

    def settle(self) -> None:
        if self._live_noted:
            waiting, self._live_noted = self._live_noted, {}
            _put(waiting, self.live, self.live_blocks)
        if self._shadow_noted:
            waiting, self._shadow_noted = self._shadow_noted, {}
            _put(waiting, self.shadow, self.shadow_blocks)


def _put(waiting: Mapping[int, _Noted], cells: Cells, blocks: BlockCells) -> None:
    for block, (values, times) in waiting.items():
        found = list(zip(cells_of(values), times, strict=True))
        cells.add(found)
        blocks.add(block, found)
