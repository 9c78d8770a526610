"""Timers that are cheap to move: of the deadlines that each message sets, hardly one is met."""

import asyncio
from collections.abc import Callable, Iterator
from itertools import takewhile
from typing import Generic, TypeVar

T = TypeVar("T")


class Deadline:
    """Calls `expire` once, when `set`'s seconds have passed without another `set` or `clear`.

    Moving it costs an assignment: the loop's timer is left to ring early and is set again for what remains.
    """

    __slots__ = ("_at", "_expire", "_loop", "_rings_at", "_timer")

    def __init__(self, loop: asyncio.AbstractEventLoop, expire: Callable[[], None]) -> None:
        self._loop = loop
        self._expire = expire
        self._at: float | None = None
        self._rings_at = 0.0  # what `_timer` was set for
        self._timer: asyncio.TimerHandle | None = None

    def set(self, seconds: float) -> None:
        at = self._at = self._loop.time() + seconds
        if self._timer is not None:
            if self._rings_at <= at:
                return
            self._timer.cancel()
        self._rings_at = at
        self._timer = self._loop.call_at(at, self._ring)

    def clear(self) -> None:
        self._at = None

    def close(self) -> None:
        """No call comes after this one. The timer holds its owner alive, so an owner closes it when it ends."""
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
    """Deadlines that pass in the order in which they were set, as those of one length do: one timer serves them all.

    `expire` is called with what a deadline was set for, once, unless it was dropped before. Times are the loop's, which
    `loop` gives when one is set.
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

    def set(self, whose: T, at: float) -> None:
        self._at[whose] = at
        if self._timer is None:  # else it rings for an earlier one, or for one that was dropped: then for what is left
            self._timer = self._loop().call_at(at, self._ring)

    def take_last(self) -> T:
        """The one that was set last, which it is dropped for. Raises KeyError where there is none."""
        return self._at.popitem()[0]

    def drop(self, whose: T) -> None:
        """Nothing where it has passed."""
        self._at.pop(whose, None)

    def _ring(self) -> None:
        loop = self._loop()
        now = loop.time()
        past = [whose for whose, _ in takewhile(lambda each: each[1] <= now, self._at.items())]
        for whose in past:
            del self._at[whose]
        self._timer = loop.call_at(next(iter(self._at.values())), self._ring) if self._at else None
        for whose in past:
            self._expire(whose)
