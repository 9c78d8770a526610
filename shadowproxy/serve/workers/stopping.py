"""The end of all processes, in order and in time: the live ones first, then the recorder, which writes what they had.

Whoever runs the sidecar gives it `drain` and 10 seconds more, and then kills it (deploy/). So all is over by then,
whatever a process does: one that hangs is killed. What it had is lost, and counted by those that are left.

    drain              requests and shadows under way
    + sidecar.live.FLUSH   a live process waits for the recorder's last reports
    + LIVES            a live process that has not ended is killed
    + ALL              the recorder, if it has not ended
"""

import asyncio
import logging
from collections.abc import Sequence

from shadowproxy.serve.workers.slots import Slot, call_all

LIVES, ALL = 7.7, 9.5
"""Seconds beyond `drain`."""

WRITING = 9.0
"""Seconds that the recorder has for itself at most: the log waits for a slow disk, the spans for a collector."""

HURRIED = 3.0
"""Seconds that the live processes have, and then the recorder, when stopping is hurried."""

_log = logging.getLogger("shadowproxy")


class Stopping:
    """One stop, which begins now. `hurry` ends the waiting."""

    def __init__(self, drain: float, hurry: asyncio.Event) -> None:
        self._hurry = hurry
        self._loop = asyncio.get_running_loop()
        self._drained = self._loop.time() + drain

    def __repr__(self) -> str:
        return f"<Stopping {'hurried' if self._hurry.is_set() else 'in order'}>"

    async def end_lives(self, lives: Sequence[Slot]) -> None:
        """Have every live process finish what is under way, and wait until all have ended."""
        ending = [self._loop.create_task(slot.end()) for slot in lives]
        telling = self._loop.create_task(call_all(lives, "stop", must=True))
        await self._wait(ending, self._drained + LIVES)
        if self._hurry.is_set() and not all(each.done() for each in ending):
            await call_all(lives, "hurry", must=True)
            await asyncio.wait(ending, timeout=HURRIED)
        for slot, each in zip(lives, ending, strict=True):
            if not each.done():
                _log.error("%s does not stop and is killed", slot.name, extra={"event": "worker_killed"})
                await slot.kill()
        await asyncio.wait((telling, *ending))

    async def end_recorder(self, recorder: Slot) -> None:
        """Have the recorder write what it has, and wait until it has ended."""
        ending = self._loop.create_task(recorder.end())
        telling = self._loop.create_task(call_all([recorder], "stop", must=True))
        await self._wait([ending], min(self._loop.time() + WRITING, self._drained + ALL))
        if self._hurry.is_set() and not ending.done():
            await asyncio.wait([ending], timeout=HURRIED)
        if not ending.done():
            _log.error("the recorder does not stop and is killed", extra={"event": "recorder_killed"})
            await recorder.kill()
        await asyncio.wait((telling, ending))

    async def _wait(self, ending: Sequence[asyncio.Task[None]], until: float) -> None:
        """Wait for the end of all of them, until then at most, and until the stop is hurried."""
        hurrying = self._loop.create_task(self._hurry.wait())
        while (
            (left := until - self._loop.time()) > 0
            and not hurrying.done()
            and (running := [each for each in ending if not each.done()])
        ):
            await asyncio.wait((hurrying, *running), timeout=left, return_when=asyncio.FIRST_COMPLETED)
        hurrying.cancel()
