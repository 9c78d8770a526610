"""Bounded copies of bodies. A copy keeps references to the chunks that pass, and never alters or delays one."""

import hashlib
from collections.abc import Callable
from time import perf_counter
from typing import Any, Final

from shadowproxy.arrivals import HELD, Arrivals
from shadowproxy.serve.account import Memory
from shadowproxy.serve.http1.pieces import Pieces

EXCHANGE = 2048
"""About how many bytes an exchange's own objects take, besides its bodies and header fields."""

ALL: Final = 1 << 62
"""More bytes than any body has."""

_now: Final[Callable[[], float]] = perf_counter  # compiled code looks an attribute of a module up each time


class Capture:
    """The copy of one message's body: its first `limit` bytes, or fewer if memory ran out.

    It holds its bytes of `memory` until `release`. `enough` is how many bytes suffice where nobody but the log needs
    them.
    """

    __slots__ = (
        "_arrivals",
        "_besides",
        "_body",
        "_first_at",
        "_first_size",
        "_hash",
        "_kept",
        "_limit",
        "_memory",
        "_most",
        "_pieces",
        "crowded",
        "enough",
        "size",
    )

    def __init__(self, limit: int, memory: Memory) -> None:
        self._limit = limit
        self._most = limit  # bytes to keep
        self._memory = memory
        self._body = b""  # the first piece, until there is a second; most bodies have one piece
        self._pieces: Pieces | None = None
        self._kept = 0
        self._besides = 0
        self._hash: Any = None
        self._first_at = 0.0
        self._first_size = 0
        self._arrivals: Arrivals | None = None
        self.enough = ALL
        self.size = 0  # of the body so far, copied or not
        self.crowded = False  # memory ran out

    def __repr__(self) -> str:
        return f"<Capture {self._kept} of {self.size} bytes, limit {self._limit}>"

    @property
    def whole(self) -> bool:
        return self._kept == self.size

    @property
    def over(self) -> bool:
        """Whether the body is longer than the limit."""
        return self.size > self._limit

    def is_over(self, size: int) -> bool:
        """Whether a body of that size is."""
        return size > self._limit

    @property
    def kept(self) -> int:
        return self._kept

    @property
    def body(self) -> bytes:
        return self._body if self._pieces is None else self._pieces.joined()

    @property
    def sha256(self) -> str | None:
        """The hash of the body so far, if it is taken and the body could be copied whole."""
        if self._hash is None or self.size > self._limit or self.crowded:
            return None
        digest: str = self._hash.hexdigest()
        return digest

    def begin_hash(self) -> None:
        """Take the hash of the body as it passes. All that came before is still kept."""
        if not self.whole:
            return
        self._hash = hashlib.sha256()
        for piece in [self._body] if self._pieces is None else self._pieces.parts():
            self._hash.update(piece)

    def keep(self, count: int) -> None:
        """Keep no more than the first `count` bytes, of what is there and of what comes."""
        if count < self._most:
            self._most = count
        if (freed := self._kept - count) > 0:
            if self._pieces is None:
                self._body = self._body[:count]
            else:
                self._pieces.cut(count)
            self._kept = count
            self._memory.give(freed)

    def keep_enough(self) -> None:
        """Drop what nobody needs of a body that is longer than the limit."""
        if self.size > self._limit and self._kept > self.enough:
            self.keep(self.enough)

    def beginning(self, count: int) -> bytes:
        """The first `count` of the bytes that are kept."""
        return self._body[:count] if self._pieces is None else self._pieces.beginning(count)

    def hold(self, count: int) -> bool:
        """Take memory for data beside the body, such as header fields; False if none is left."""
        if not self._memory.take(count):
            self.crowded = True
            return False
        self._besides += count
        return True

    def hold_anyway(self, count: int) -> None:
        """Take memory for data beside the body that is kept in any case."""
        self._memory.take_anyway(count)
        self._besides += count

    def add(self, chunk: bytes) -> int:
        """Copy the body's next piece. Returns how many of its bytes are kept: all of them, or the first, or none."""
        count, before = len(chunk), self.size
        self.size = before + count
        if self._hash is not None:
            if self.size > self._limit:
                self._hash = None
            else:
                self._hash.update(chunk)
        if self._kept != before:
            return 0  # a part is missing, so the rest is useless
        if self.size > self._most:
            count = self._most - before
            chunk = chunk[:count]
        if not count:
            return 0
        if not self._memory.take(count):
            self.crowded = True
            return 0
        self._kept = before + count
        if self._pieces is not None:
            self._pieces.add(chunk)
        elif not before:
            self._body = chunk
        else:
            self._pieces = pieces = Pieces()
            pieces.add(self._body)
            pieces.add(chunk)
            self._body = b""
        return count

    def note_time(self) -> None:
        """Note that the piece which was added last came now."""
        arrivals = self._arrivals
        if arrivals is not None:
            arrivals.add(self.size, _now())
        elif not self._first_size:
            self._first_size = self.size
            self._first_at = _now()
        else:
            arrivals = self._arrivals = Arrivals(self._first_size, self._first_at)
            arrivals.add(self.size, _now())
            self.hold_anyway(HELD)

    def arrivals(self, began: float) -> bytes:
        """When the pieces came whose times were noted, from `began`, as `marks_in` reads it; empty if there is one."""
        arrivals = self._arrivals
        return b"" if arrivals is None else arrivals.packed(began)

    def release(self) -> int:
        """Drop the copy, and return how many bytes of memory that freed."""
        given = self._kept + self._besides
        self._kept = self._besides = 0
        self._body, self._pieces = b"", None
        self._arrivals = None
        self._memory.give(given)
        return given
