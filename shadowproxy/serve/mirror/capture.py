"""A bounded copy of a body that passes: it keeps references to chunks, and never alters or delays one."""

from collections.abc import Callable

from shadowproxy.serve.http1.pieces import Pieces

EXCHANGE = 2048
"""About the bytes of the objects that an exchange is made of, besides its bodies and header fields."""


class Memory:
    """How many bytes may be held for shadows and the log, all requests together. Nobody waits for it: it says no.

    `elsewhere` tells what is held outside of any copy: exchanges that wait in the journal's queue.
    """

    def __init__(self, limit: int, elsewhere: Callable[[], int] = lambda: 0) -> None:
        self.limit = limit
        self.used = 0
        self._elsewhere = elsewhere

    def __repr__(self) -> str:
        return f"<Memory {self.held} of {self.limit}>"

    @property
    def held(self) -> int:
        return self.used + self._elsewhere()

    def take(self, count: int) -> bool:
        if self.used + self._elsewhere() + count > self.limit:
            return False
        self.used += count
        return True

    def take_anyway(self, count: int) -> None:
        """What is held in any case counts too: it leaves less for the others, and may pass the limit."""
        self.used += count

    def give(self, count: int) -> None:
        self.used -= count


class Capture:
    """What is kept of one message: the first `limit` bytes of its body, or less where memory ran out.

    Owns what it took of `memory` until `release`.
    """

    __slots__ = ("_besides", "_body", "_kept", "_limit", "_memory", "_pieces", "crowded", "size")

    def __init__(self, limit: int, memory: Memory) -> None:
        self._limit = limit
        self._memory = memory
        self._body = b""  # while there is no second piece, as of most bodies there is none
        self._pieces: Pieces | None = None
        self._kept = 0
        self._besides = 0
        self.size = 0  # of the whole body so far
        self.crowded = False  # memory said no

    def __repr__(self) -> str:
        return f"<Capture {self._kept} of {self.size} bytes, limit {self._limit}>"

    @property
    def whole(self) -> bool:
        return self._kept == self.size

    @property
    def over(self) -> bool:
        """Whether the body is longer than may be kept of any."""
        return self.size > self._limit

    @property
    def body(self) -> bytes:
        return self._body if self._pieces is None else self._pieces.joined()

    def hold(self, count: int) -> bool:
        """Take memory for what is kept besides the body, such as its header fields; False where there is none left."""
        if not self._memory.take(count):
            self.crowded = True
            return False
        self._besides += count
        return True

    def hold_anyway(self, count: int) -> None:
        self._memory.take_anyway(count)
        self._besides += count

    def add(self, chunk: bytes) -> None:
        count, before = len(chunk), self.size
        self.size = before + count
        if self._kept != before:
            return  # a part is missing: what follows it is of no use
        if self.size > self._limit:
            count = self._limit - before
            chunk = chunk[:count]
        if not count:
            return
        if not self._memory.take(count):
            self.crowded = True
            return
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

    def release(self) -> int:
        """Forget the copy, and say how many bytes of memory that gave back."""
        given = self._kept + self._besides
        self._kept = self._besides = 0
        self._body, self._pieces = b"", None
        self._memory.give(given)
        return given
