"""The recorder: it has the exchanges of all live processes judged and written, and serves the admin port's pages.

`python -m shadowproxy.serve.workers.recorder CALLS SOCKETS` with inherited descriptors: the connection to the
supervisor, and the pair over which sockets come: one for each live process, and the admin port's channel. The
supervisor's first call brings everything else.
"""

# First of all: importing the rest takes a while, and a signal during it would end the process.
import gc

from shadowproxy.serve.system import signals

if __name__ == "__main__":
    signals.prepare_worker()
    gc.disable()  # until all is imported: scanning modules for garbage is a tenth of the time of a start

import asyncio
import logging
import socket
from contextlib import AsyncExitStack

from shadowproxy.serve.admin.census import Census
from shadowproxy.serve.admin.operated import Unconfirmed
from shadowproxy.serve.sidecar.recorder import LAST, RecorderSide
from shadowproxy.serve.sidecar.share import RecorderStart
from shadowproxy.serve.sidecar.specs import RecorderSpec
from shadowproxy.serve.sidecar.supervisor_state import SupervisorState
from shadowproxy.serve.system import memory
from shadowproxy.serve.system.preload import preload
from shadowproxy.serve.telemetry import operator_log
from shadowproxy.serve.workers.channel import CallFailed, NoReply, Table
from shadowproxy.serve.workers.process import Process, run

COMMAND = 5.0
"""Seconds that the supervisor may take for an operator's command: it waits for live processes that hang."""

ADMIN = "admin"
"""The name of the admin port's channel; every other socket has that of a live process: NUMBER.RUN."""

_log = logging.getLogger("shadowproxy")


class _Recorder(Process):
    kind = "recorder"
    ends_on_signals = False  # a service manager signals every process at once, and live ones still hand over

    def __init__(self, log: AsyncExitStack, inherited: list[int]) -> None:
        super().__init__(log)
        memory.volunteer()
        self._reports: set[asyncio.Task[None]] = set()
        self._admin: asyncio.Task[None] | None = None
        self._side: RecorderSide  # set by `start`, which the supervisor calls first and waits for

    @property
    def table(self) -> Table:
        return {
            "start": self.start,
            "take_state": self.take_state,
            "prepare": self.prepare,
            "adopt": self.adopt,
            "state": self.state,
        }

    async def start(self, start: RecorderStart) -> None:
        self._log.enter_context(operator_log.opened(start.log_settings))
        preload(reads_bodies=True, admin=start.admin)
        self._outputs = start.outputs
        self._side = RecorderSide(
            start.spec,
            lives=start.lives,
            earlier=start.earlier,
            name=start.name,
            commands=_Commands(self),
            supervisor=start.supervisor,
            ended=start.ended,
            note_ended=self._report_ended,
        )
        queued = start.spec.journal.queue_bytes
        self._log.enter_context(memory.watched(memory.bound(queued), memory.reserve(queued)))
        async with self._starting:
            await self._side.__aenter__()
            self._started = True

    def take(self, name: str, given: socket.socket) -> None:
        if name == ADMIN:
            self._admin = asyncio.get_running_loop().create_task(self._side.serve_admin(given))
        else:
            self._side.add(name, given)

    async def stop(self) -> None:
        """All live processes have ended by now, and have waited for this one."""
        self._side.flush = LAST
        await super().stop()

    async def _close(self) -> None:
        await self._side.__aexit__(None, None, None)
        if self._reports:
            await asyncio.wait(self._reports)

    async def take_state(self, state: SupervisorState) -> None:
        self._side.supervisor = state

    async def prepare(self, spec: RecorderSpec) -> None:
        self._side.prepare(spec)

    async def adopt(self, generation: int) -> None:
        self._side.adopt(generation)

    async def state(self) -> tuple[str | None, int]:
        """Why records are lost now, None where they are not; and the oldest generation that is still recorded."""
        return self._side.journal.statistics().failing, self._side.oldest

    def _report_ended(self, name: str, census: Census) -> None:
        task = asyncio.get_running_loop().create_task(self._report(name, census))
        self._reports.add(task)
        task.add_done_callback(self._reports.discard)

    async def _report(self, name: str, census: Census) -> None:
        number, _, run = name.partition(".")
        try:
            await self.answers.call("ended", int(number), int(run), census, within=COMMAND)
        except (NoReply, CallFailed) as why:
            if not self.stopping.is_set():
                _log.warning("the last counts of worker %s cannot be passed on: %s", number, why)


class _Commands:
    """What operators change: the supervisor does it."""

    def __init__(self, recorder: _Recorder) -> None:
        self._recorder = recorder

    async def pause(self, name: str | None) -> None:
        await self._do("pause", name)

    async def resume(self, name: str | None) -> None:
        await self._do("resume", name)

    async def set_percent(self, name: str, percent: float) -> None:
        await self._do("set_percent", name, percent)

    async def _do(self, *command: object) -> None:
        try:
            known, unconfirmed = await self._recorder.answers.call("command", *command, within=COMMAND)
        except (NoReply, CallFailed) as why:
            raise Unconfirmed(str(why)) from why
        if not known:
            raise KeyError(command[1])
        if unconfirmed is not None:
            raise Unconfirmed(unconfirmed)


if __name__ == "__main__":
    run(_Recorder)
