"""Timers that are cheap to move: each message sets deadlines, and hardly one of them passes."""

import asyncio
from collections.abc import Callable, Iterator
from itertools import takewhile
from typing import Generic, TypeVar

T = TypeVar("T")


class Deadline:
    """Calls `expire` once, when `set`'s seconds have passed without another `set` or `clear`.

    Moving it costs an assignment: the loop's timer rings early, and is then set again for the seconds that remain.
    `since` is when `set` was last called, by the loop's time.
    """

    __slots__ = ("_at", "_expire", "_loop", "_rings_at", "_timer", "since")

    def __init__(self, loop: asyncio.AbstractEventLoop, expire: Callable[[], None]) -> None:
        self._loop = loop
        self._expire = expire
        self._at: float | None = None
        self.since = 0.0
        self._rings_at = 0.0  # what `_timer` was set for
        self._timer: asyncio.TimerHandle | None = None

    def set(self, seconds: float) -> None:
        self.since = now = self._loop.time()
        self.set_at(now + seconds)

    def set_at(self, at: float) -> None:
        """The same, for a time of the loop's. `since` stays."""
        self._at = at
        if self._timer is not None:
            if self._rings_at <= at:
                return
            self._timer.cancel()
        self._rings_at = at
        self._timer = self._loop.call_at(at, self._ring)

    def clear(self) -> None:
        self._at = None

    def close(self) -> None:
        """`expire` is not called after this. The timer keeps its owner alive, so an owner closes it when it ends."""
        self._at = None
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def _ring(self) -> None:
        self._timer = None
        if self._at is None:
            return
        if self._loop.time() < self._at:
            self._rings_at = self._at
            self._timer = self._loop.call_at(self._at, self._ring)
            return
        self._at = None
        self._expire()


class Deadlines(Generic[T]):
    """Deadlines that pass in the order in which they were set, as all of one length do: one timer serves them all.

    `expire` is called once with the key of each deadline that passes, unless the key was dropped before. Times are the
    loop's; `loop` is called for it when a deadline is set.
    """

    __slots__ = ("_at", "_expire", "_loop", "_timer")

    def __init__(
        self, expire: Callable[[T], None], loop: Callable[[], asyncio.AbstractEventLoop] = asyncio.get_running_loop
    ) -> None:
        self._expire = expire
        self._loop = loop
        self._at: dict[T, float] = {}
        self._timer: asyncio.TimerHandle | None = None

    def __iter__(self) -> Iterator[T]:
        return iter(self._at)

    def __len__(self) -> int:
        return len(self._at)

    def set(self, key: T, at: float) -> None:
        self._at[key] = at
        if self._timer is None:  # else it rings for an earlier one or a dropped one, and is then set again
            self._timer = self._loop().call_at(at, self._ring)

    def take_last(self) -> T:
        """Drop the deadline that was set last, and return its key. Raises KeyError if there is no deadline."""
        return self._at.popitem()[0]

    def drop(self, key: T) -> None:
        """Forget this deadline. Nothing happens if it has passed."""
        self._at.pop(key, None)

    def _ring(self) -> None:
        loop = self._loop()
        now = loop.time()
        past = [key for key, _ in takewhile(lambda each: each[1] <= now, self._at.items())]
        for key in past:
            del self._at[key]
        self._timer = loop.call_at(next(iter(self._at.values())), self._ring) if self._at else None
        for key in past:
            self._expire(key)
