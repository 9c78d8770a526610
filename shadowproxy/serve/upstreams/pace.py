"""Turns of the event loop for answers that cost much to read: a shadow's may not cost live its own."""

import asyncio
from collections import deque
from collections.abc import Callable


class Pace:
    """Calls back whoever asks for a turn, in order: one every `every` seconds, all of them together.

    With `every` at 0 each has the loop's next turn. Owns a timer while somebody waits.
    """

    def __init__(self, every: float) -> None:
        self._every = every
        self._waiting: deque[Callable[[], None]] = deque()
        self._timer: asyncio.TimerHandle | None = None

    def __repr__(self) -> str:
        return f"<Pace every {self._every:g} s, {len(self._waiting)} waiting>"

    def turn(self, callback: Callable[[], None]) -> None:
        loop = asyncio.get_running_loop()
        if not self._every:
            loop.call_soon(callback)
            return
        self._waiting.append(callback)
        if self._timer is None:
            self._timer = loop.call_later(self._every, self._next)

    def close(self) -> None:
        """Whoever waits is not called any more."""
        self._waiting.clear()
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def _next(self) -> None:
        callback = self._waiting.popleft()
        self._timer = asyncio.get_running_loop().call_later(self._every, self._next) if self._waiting else None
        callback()
