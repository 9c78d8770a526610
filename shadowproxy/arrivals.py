"""When the pieces of an answer came: noted as they pass, in a bounded number of marks.

A mark is how many bytes of the body had come at some time. The first EXACT pieces have a mark each. From there on each
piece has one until there are MOST marks; then every other of the later ones is dropped, and only every second piece
gets one, every fourth, and so on. So the later marks stand at even distances however long the answer is, and take 16
bytes each. The last piece always has one.
"""

import struct
from array import array
from collections.abc import Callable
from typing import Any, Final, NamedTuple

EXACT: Final = 64
MOST: Final = 128

HELD: Final = 2560
"""About how many bytes the marks of one answer take."""

_HEAD: Final = struct.Struct("=QQdQ")
_MARK: Final = 16

_pack_head: Final[Callable[[int, int, float, int], bytes]] = _HEAD.pack  # found once, for compiled code


class Arrivals:
    """Notes when pieces come. It is made when the second one does: most answers have one piece."""

    __slots__ = ("_at", "_due", "_pieces", "_size", "_sizes", "_stride", "_times")

    def __init__(self, size: int, at: float) -> None:
        """`size` bytes of the body came `at` this time, with the first piece."""
        self._sizes: Any = array("Q", (size,))
        self._times: Any = array("d", (at,))
        self._pieces = 1
        self._stride = 1
        self._due = 2  # the number of the next piece that gets a mark
        self._size = size
        self._at = at

    def add(self, size: int, at: float) -> None:
        """Another piece came, and with it the body has `size` bytes."""
        pieces = self._pieces = self._pieces + 1
        self._size = size
        self._at = at
        if pieces == self._due:
            self._mark(size, at)

    def _mark(self, size: int, at: float) -> None:
        sizes, times = self._sizes, self._times
        sizes.append(size)
        times.append(at)
        if len(sizes) == MOST:
            for marks in (sizes, times):
                kept = marks[EXACT + 1 :: 2]
                del marks[EXACT:]
                marks.extend(kept)
            self._stride = self._stride * 2
        self._due = self._due + self._stride

    def packed(self, began: float) -> bytes:
        """The marks as plain bytes, for `marks_in`; times count from `began`."""
        sizes, times = self._sizes, self._times
        if sizes[-1] != self._size:
            sizes, times = sizes + array("Q", (self._size,)), times + array("d", (self._at,))
        head = _pack_head(self._pieces, self._stride, began, len(sizes))
        return head + bytes(sizes.tobytes()) + bytes(times.tobytes())


class Marks(NamedTuple):
    """When the pieces of one answer came, in order.

    Attributes:
        sizes: how many bytes of the body had come. ms: when, in milliseconds from the leg's start.
        pieces: how many pieces came since the mark before: 1 if the mark is exact.
    """

    sizes: list[int]
    ms: list[float]
    pieces: list[int]


def marks_in(packed: bytes) -> Marks | None:
    """The marks that `Arrivals.packed` has made bytes of; None for other bytes, such as none."""
    if len(packed) < _HEAD.size:
        return None
    pieces, stride, began, count = _HEAD.unpack_from(packed)
    if not count or len(packed) != _HEAD.size + _MARK * count:
        return None
    middle = _HEAD.size + 8 * count
    sizes, times = array("Q", packed[_HEAD.size : middle]), array("d", packed[middle:])
    since = [1] * min(count, EXACT) + [stride] * max(0, count - EXACT)
    if count > EXACT:
        since[-1] = max(1, pieces - EXACT - stride * (count - EXACT - 1))
    return Marks(sizes.tolist(), [(at - began) * 1000 for at in times], since)
