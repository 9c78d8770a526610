"""A live process: it accepts callers' connections, forwards, mirrors, and hands exchanges over to the recorder.

`python -m shadowproxy.serve.workers.live CALLS SOCKETS BOARD` with inherited descriptors: the connection to the
supervisor, the pair over which sockets come, and the memory in which live processes note how many connections they
have. The first sockets are those that callers connect to; the supervisor's first call brings everything else. The first
live process is launched before the configuration is known, so that its modules are imported by then.
"""

# First of all: importing the rest takes a while, and a signal during it would end the process.
import gc

from shadowproxy.serve.system import signals

if __name__ == "__main__":
    signals.prepare_worker()
    gc.disable()  # until all is imported: scanning modules for garbage is a tenth of the time of a start

import asyncio
import contextlib
import socket
from collections.abc import Coroutine
from contextlib import AsyncExitStack

from shadowproxy.serve.admin.census import Census
from shadowproxy.serve.callers.addresses import StartError
from shadowproxy.serve.callers.board import Board
from shadowproxy.serve.callers.server import Part
from shadowproxy.serve.neighbours.neighbours import Neighbours
from shadowproxy.serve.policy.ramping import Evidence
from shadowproxy.serve.sidecar.contexts import Contexts, GenerationError
from shadowproxy.serve.sidecar.live import LiveSide
from shadowproxy.serve.sidecar.share import LiveStart
from shadowproxy.serve.sidecar.specs import LiveSpec
from shadowproxy.serve.sidecar.steering import Steering
from shadowproxy.serve.system.preload import preload
from shadowproxy.serve.telemetry import operator_log
from shadowproxy.serve.workers.channel import CallFailed, NoReply, Table
from shadowproxy.serve.workers.process import Process, run

REPORTING = 5.0
"""Seconds that the supervisor may take to reply."""

LISTENING = "listening"
"""The name of each socket that callers connect to. Others are mailboxes, or lead to the recorder."""


class _Live(Process):
    kind = "worker"
    slow = frozenset({"prepare"})  # it reads certificates; meanwhile it can be asked for its figures, and stopped

    def __init__(self, log: AsyncExitStack, inherited: list[int]) -> None:
        super().__init__(log)
        (self._board,) = inherited
        self._listening: list[socket.socket] = []
        self._given = asyncio.Event()  # set for each of them
        self._reports: set[asyncio.Task[None]] = set()
        self._number = 0
        self._neighbours = Neighbours()
        self._side: LiveSide  # set by `start`, which the supervisor calls first and waits for
        self._next: tuple[LiveSpec, Contexts]
        self._prepared = 0

    @property
    def table(self) -> Table:
        return {
            "start": self.start,
            "census": self.census,
            "evidence": self.evidence,
            "steer": self.steer,
            "prepare": self.prepare,
            "adopt": self.adopt,
            "hurry": self.hurry,
        }

    async def start(self, start: LiveStart) -> Census:
        number = start.number if start.workers > 1 else None
        self._neighbours.number, self._neighbours.several = start.number, start.workers > 1
        log = self._log.enter_context(operator_log.opened(start.log_settings, worker=number))
        preload(reads_bodies=start.spec.reads_bodies)
        part = Part(Board(self._board, start.workers), start.number) if start.workers > 1 else None
        self._outputs = start.outputs
        self._side = LiveSide(
            start.spec,
            await self._all_of(start.sockets),
            access=log.access if start.log_settings.access else None,
            part=part,
            steering=start.steering,
            used=start.used,
            on_disconnect=self._disconnected,
            on_idle=lambda: self._report_soon(self._end_if_idle()),
            on_reload=lambda: self._report_soon(self._call("reload")),
            neighbours=self._neighbours,
            knowing=start.knowing,
        )
        self._number = start.number
        async with self._starting:
            try:
                await self._side.__aenter__()
            except StartError as error:
                raise CallFailed(str(error)) from error
            self._started = True
        return self._side.census()

    def take(self, name: str, given: socket.socket) -> None:
        if name == LISTENING:
            self._listening.append(given)
            self._given.set()
        elif Neighbours.is_mailbox(name):
            self._neighbours.connect(name, given)
        else:
            self._side.connect(given)

    async def _all_of(self, count: int) -> list[socket.socket]:
        """The listening sockets, once all have come."""
        while len(self._listening) < count:
            self._given.clear()
            await self._given.wait()
        return self._listening

    async def _close(self) -> Census:
        """Stop, in order. Returns the last counts."""
        await self._side.__aexit__(None, None, None)
        return self._side.census()

    def _disconnected(self) -> None:
        """Have the supervisor connect this process to the recorder again."""
        self._report_soon(self._call("disconnected", self._number))

    def _report_soon(self, work: Coroutine[None, None, None]) -> None:
        task = asyncio.get_running_loop().create_task(work)
        self._reports.add(task)
        task.add_done_callback(self._reports.discard)

    async def _call(self, what: str, *arguments: object) -> None:
        with contextlib.suppress(NoReply, CallFailed):
            await self.answers.call(what, *arguments, within=REPORTING)

    async def _end_if_idle(self) -> None:
        """Have nobody find this companion any more, and then stop it, unless somebody has connected until then."""
        await self._call("unlist")
        intake = self._side.intake
        if intake is not None and not await intake.close_listening():
            await self._call("finish")

    async def census(self) -> Census:
        """Its figures, for the supervisor, which asks once a second; the recorder gets them too."""
        if not self._side.outbox.connected:
            self._disconnected()  # also where the socket could not be taken, or not be made
        self._side.outbox.send_census()
        return self._side.census()

    async def evidence(self) -> dict[str, Evidence]:
        """What the ramps are decided by, since the last call."""
        return self._side.evidence()

    async def steer(self, steering: Steering) -> None:
        await self._side.steer(steering)

    async def prepare(self, spec: LiveSpec, only: frozenset[str] | None) -> None:
        preload(reads_bodies=spec.reads_bodies)
        self._prepared = number = self._prepared + 1
        try:
            prepared = spec, await self._side.prepare(spec, only)
        except GenerationError as error:
            raise CallFailed(str(error)) from error
        if number == self._prepared:  # else the supervisor has given it up, and asked for the next
            self._next = prepared

    async def adopt(self) -> None:
        self._side.switch(*self._next)

    async def hurry(self) -> None:
        self.stopping.set()
        self._side.hurry()


def main() -> None:
    preload(reads_bodies=False)  # before the configuration is known
    run(_Live)


if __name__ == "__main__":
    main()
