"""One timer that is cheap to move: a connection sets its deadline anew with every message, and rarely meets it."""

import asyncio
from collections.abc import Callable


class Deadline:
    """Calls `expire` once, when `set`'s seconds have passed without another `set` or `clear`.

    Moving it costs an assignment: the loop's timer is left to ring early and is set again for what remains.
    """

    __slots__ = ("_at", "_expire", "_loop", "_timer")

    def __init__(self, loop: asyncio.AbstractEventLoop, expire: Callable[[], None]) -> None:
        self._loop = loop
        self._expire = expire
        self._at: float | None = None
        self._timer: asyncio.TimerHandle | None = None

    def set(self, seconds: float) -> None:
        self._at = self._loop.time() + seconds
        if self._timer is not None and self._timer.when() > self._at:
            self._timer.cancel()
            self._timer = None
        if self._timer is None:
            self._timer = self._loop.call_at(self._at, self._ring)

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
            self._timer = self._loop.call_at(self._at, self._ring)
            return
        self._at = None
        self._expire()
