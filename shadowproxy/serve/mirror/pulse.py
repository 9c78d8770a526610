"""How late the event loop runs: past a limit, mirroring is shed so that callers get the loop's time."""

import asyncio
from dataclasses import dataclass, field
from typing import Final

BEAT: Final = 0.02
"""Seconds between two measurements, or a tenth of the limit where that is more: each wakes an idle process."""


@dataclass(slots=True)
class Pulse:
    """Measures regularly how late the event loop runs. Owns its timer, from `start` to `stop`.

    `limit` and `lag` are in seconds.
    """

    limit: float
    lag: float = 0.0
    _timer: asyncio.TimerHandle | None = field(default=None, init=False)

    @property
    def late(self) -> bool:
        return self.lag > self.limit

    def start(self) -> None:
        loop = asyncio.get_running_loop()
        self._wait(loop)

    def stop(self) -> None:
        if self._timer is not None:
            self._timer.cancel()

    def _beat(self, loop: asyncio.AbstractEventLoop, due: float) -> None:
        self.lag = max(0.0, loop.time() - due)
        self._wait(loop)

    def _wait(self, loop: asyncio.AbstractEventLoop) -> None:
        pause = max(BEAT, self.limit / 10)
        self._timer = loop.call_later(pause, self._beat, loop, loop.time() + pause)
