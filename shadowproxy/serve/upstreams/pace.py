"""Turns of the event loop for responses that are expensive to read, so that a shadow's do not delay live's."""

import asyncio
from collections import deque
from collections.abc import Callable


class Pace:
    """Calls the callbacks that wait for a turn, in order: one callback each `every` seconds.

    With `every` at 0 each is called in the loop's next turn. Owns a timer while a callback waits.
    """

    def __init__(self, every: float) -> None:
        self._every = every
        self._waiting: deque[Callable[[], None]] = deque()
        self._timer: asyncio.TimerHandle | None = None

    def __repr__(self) -> str:
        return f"<Pace every {self._every:g} s, {len(self._waiting)} waiting>"

    def call_in_turn(self, callback: Callable[[], None]) -> None:
        loop = asyncio.get_running_loop()
        if not self._every:
            loop.call_soon(callback)
            return
        self._waiting.append(callback)
        if self._timer is None:
            self._timer = loop.call_later(self._every, self._next)

    def close(self) -> None:
        """Drop the callbacks that wait."""
        self._waiting.clear()
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def _next(self) -> None:
        callback = self._waiting.popleft()
        self._timer = asyncio.get_running_loop().call_later(self._every, self._next) if self._waiting else None
        callback()
