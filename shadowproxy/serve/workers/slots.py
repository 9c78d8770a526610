"""Where a process of the sidecar runs, and is restarted when it ends."""

import asyncio
import contextlib
import logging
from abc import ABC, abstractmethod
from collections.abc import AsyncIterator, Awaitable, Sequence
from typing import Any, NamedTuple

from shadowproxy.serve.workers.channel import CallFailed, NoReply
from shadowproxy.serve.workers.child import Child, ending

REPLY = 1.0
"""Seconds that a process may take to reply."""

RESTART_FIRST, RESTART_MOST = 0.1, 10.0
LIVED = 60.0
"""Seconds before a process is restarted. Each restart doubles them, unless the process had lived for LIVED seconds."""

_log = logging.getLogger("shadowproxy")


class Changing:
    """Keeps processes from being started while another configuration is put in force, and the other way round.

    Several can be started at once: one that hangs while it starts must not keep the others from being started again.
    """

    def __init__(self) -> None:
        self._starting = 0
        self._none_starts = asyncio.Event()
        self._none_starts.set()
        self._changing = asyncio.Lock()

    @contextlib.asynccontextmanager
    async def start(self) -> AsyncIterator[None]:
        async with self._changing:
            self._starting += 1
            self._none_starts.clear()
        try:
            yield
        finally:
            self._starting -= 1
            if not self._starting:
                self._none_starts.set()

    @contextlib.asynccontextmanager
    async def change(self) -> AsyncIterator[None]:
        while True:
            await self._none_starts.wait()
            async with self._changing:
                if not self._starting:
                    yield
                    return


class Events(NamedTuple):
    """The names of the lines about a process in the operator's log."""

    ended: str
    not_started: str
    silent: str


LIVE_EVENTS = Events("worker_ended", "worker_not_started", "worker_silent")
RECORDER_EVENTS = Events("recorder_ended", "recorder_not_started", "recorder_silent")
LIVE_MEANWHILE = "reporting its last known figures"
RECORDER_MEANWHILE = "callers are served, and exchanges wait for it or are lost"


class Slot(ABC):
    """`child` is the process that runs here, None while there is none. `restarts` counts those after the first.

    `meanwhile` says what happens while it does not reply.
    """

    def __init__(self, name: str, events: Events, meanwhile: str, **about: object) -> None:
        self.name = name
        self.child: Child | None = None
        self.restarts = 0
        self.silent = False
        self._events = events
        self._meanwhile = meanwhile
        self._about = about

    def __repr__(self) -> str:
        return f"<{type(self).__name__} {self.name} {self.child!r}>"

    @abstractmethod
    async def start(self) -> None:
        """Start a process here. On OSError, CallFailed or NoReply it leaves none behind."""

    @abstractmethod
    def note_end(self, child: Child) -> None:
        """Keep what must stay of a process that has ended."""

    @property
    def running(self) -> Child | None:
        """The process, if it can be called."""
        return self.child if self.child is not None and self.child.runs else None

    async def ask(self, what: str) -> object:
        """The reply to a call that is made regularly, None without one. Silence is logged once."""
        if (child := self.running) is None:
            return None
        try:
            reply: object = await child.calls.call(what, within=REPLY)
        except NoReply as why:
            if child.runs and not self.silent:
                extra = {"event": self._events.silent, **self._about}
                _log.warning("%s; %s", why, self._meanwhile, extra=extra)
            self.silent = True
            return None
        except CallFailed:
            return None  # it has logged the defect
        self.silent = False
        return reply

    async def end(self) -> None:
        """Wait until the process has ended."""
        if (child := self.child) is not None:
            await child.wait()
            self.child = None
            self.note_end(child)
            await child.aclose()

    async def kill(self) -> None:
        if (child := self.child) is not None:
            await child.kill()

    async def keep_running(self) -> None:
        """Restart the process whenever it has ended."""
        loop = asyncio.get_running_loop()
        began, delay = loop.time(), RESTART_FIRST
        while True:
            if (child := self.child) is not None:
                status = await child.wait()
                self.child = None
                extra = {"event": self._events.ended, **self._about, "status": status}
                _log.error("%s has ended (%s) and will be restarted", self.name, ending(status), extra=extra)
                self.note_end(child)
                await child.aclose()
            delay = RESTART_FIRST if loop.time() - began > LIVED else min(delay * 2, RESTART_MOST)
            await asyncio.sleep(delay)
            began = loop.time()
            self.restarts += 1
            try:
                await self.start()
            except (NoReply, CallFailed, OSError) as error:
                extra = {"event": self._events.not_started, **self._about, "error": str(error)}
                _log.error("%s cannot be started, retrying: %s", self.name, error, extra=extra)
            except Exception:  # noqa: BLE001 - one defect must not end the restarting for good
                _log.exception("a defect in the proxy while starting %s", self.name, extra={"event": "defect"})


async def call_all(slots: Sequence[Slot], what: str, *arguments: object, must: bool = False) -> list[Any]:
    """The reply of every running process, or the NoReply or CallFailed instead of it."""
    calls: Sequence[Awaitable[Any]] = [
        child.calls.call(what, *arguments, within=REPLY, must=must)
        for slot in slots
        if (child := slot.running) is not None
    ]
    return await asyncio.gather(*calls, return_exceptions=True)
