"""The account of a live process: all bytes that requests make it hold, within one limit.

Two parties hold bytes, and callers come first:

1. Copies, for shadows and the log, can be done without: `take` never waits, it says no instead. It leaves `reserved`
   bytes for the callers even while they need none, so that a hung shadow's copies do not stand in a caller's way.
2. What callers' own requests need is never refused (`hold`): connections, bodies that are held back, requests that are
   not whole or that live was asked, responses that are not taken. Where all together pass the limit, and callers hold
   more than a quarter of it, `relieve` is called: it sheds copies that wait, and then the callers who have sent or
   taken nothing for the longest.
"""

from collections.abc import Callable
from typing import Final

SHORT: Final = ("memory", "slots", "descriptors")
"""What callers are shed for."""

OBJECTS: Final = 4 << 20
"""Bytes of connections, TLS and requests at live that a process has room for beside its limit: 680 idle connections."""


class Memory:
    """`elsewhere` returns the bytes of exchanges that wait for the recorder. `used` is what copies hold, `callers` what
    callers' own requests do; of `objects`, the connections and other small things, no more than what exceeds `free`.
    `relieve` is called when callers pass the limit; it frees nothing before it returns.
    """

    def __init__(
        self, limit: int, elsewhere: Callable[[], int] = lambda: 0, *, reserved: int = 0, free: int = 0
    ) -> None:
        self.limit = limit
        self.reserved = reserved
        self.used = 0
        self.callers = 0
        self.objects = 0
        self.free = free
        self.relieve: Callable[[], object] = lambda: None
        self._elsewhere = elsewhere

    def __repr__(self) -> str:
        return f"<Memory {self.held} of {self.limit}, {self.callers} for callers>"

    @property
    def held(self) -> int:
        return self.used + self.callers + self._elsewhere()

    @property
    def excess(self) -> int:
        """The bytes that callers have to give up; none where this is not above zero."""
        return min(self.held - self.limit, self.callers - self.limit // 4)

    def take(self, count: int) -> bool:
        """Count `count` bytes of a copy as held, or return False if there is no room for them."""
        callers = self.callers
        if callers < self.reserved:
            callers = self.reserved
        if self.used + self._elsewhere() + callers + count > self.limit:
            return False
        self.used += count
        return True

    def take_anyway(self, count: int) -> None:
        """Count bytes that are held in any case. They leave less for the others, and may pass the limit."""
        self.used += count

    def give(self, count: int) -> None:
        """Give back what a copy took."""
        self.used -= count

    def hold(self, count: int) -> None:
        """Count bytes that a caller's own request needs; less than none gives some back."""
        self.callers += count
        if count > 0 and self.used + self.callers + self._elsewhere() > self.limit and self.excess > 0:
            self.relieve()

    def hold_objects(self, count: int) -> None:
        """Count bytes of small objects; less than none gives some back. The first `free` bytes count elsewhere."""
        before = self.objects
        self.objects = after = before + count
        if after > self.free or before > self.free:
            self.hold(max(0, after - self.free) - max(0, before - self.free))


def reserve(limit: int, capture: int) -> int:
    """The bytes that copies leave for callers: a quarter, unless one body could not be copied then."""
    return max(0, min(limit // 4, limit - capture))
