"""A sidecar in one event loop: the live side and the recorder's side that the program runs in processes of their own,
connected by a real pair of sockets, and the admin port's front before the recorder's pages.

What the supervisor does for its processes is done here as plainly as possible: it is tested as a program.
"""

import asyncio
import contextlib
import socket
import time
from collections.abc import Callable
from contextlib import AsyncExitStack
from dataclasses import replace
from pathlib import Path

from shadowproxy.serve.admin.census import Census, health
from shadowproxy.serve.callers.addresses import StartError, bind, release
from shadowproxy.serve.journal.settings import Settings
from shadowproxy.serve.journal.statistics import Statistics
from shadowproxy.serve.live.proxy import Proxy
from shadowproxy.serve.mirror.dispatch import Mirror
from shadowproxy.serve.probes import passing
from shadowproxy.serve.probes.front import Front
from shadowproxy.serve.sidecar.live import LiveSide
from shadowproxy.serve.sidecar.program import Program
from shadowproxy.serve.sidecar.ramps import Ramps
from shadowproxy.serve.sidecar.reading import read_specs
from shadowproxy.serve.sidecar.recorder import FLUSH, LAST, RecorderSide
from shadowproxy.serve.sidecar.specs import Specs
from shadowproxy.serve.sidecar.steering import UNSTEERED, Steering, SteeringCommands
from shadowproxy.serve.sidecar.supervisor_state import SupervisorState, supervised
from shadowproxy.serve.system.preload import preload
from shadowproxy.serve.telemetry.access import AccessLine

__all__ = ["FLUSH", "Log", "Sidecar", "StartError"]


class Log:
    """The way of an exchange from the live side to the disk, as one."""

    def __init__(self, sidecar: "Sidecar") -> None:
        self._sidecar = sidecar

    def statistics(self) -> Statistics:
        return self._sidecar.census().journal

    def queued_bytes(self) -> int:
        return self._sidecar.live.outbox.held_bytes() + self._sidecar.recorder.inbox.held_bytes()

    @property
    def settings(self) -> Settings:
        return self._sidecar.recorder.journal.settings


class Sidecar(Program):
    """Use as `async with`, as the supervisor."""

    def __init__(
        self, specs: Specs, file: Path | None = None, access: Callable[[AccessLine], object] | None = None
    ) -> None:
        super().__init__(file)
        self._specs = specs
        self._access = access
        self._ramps = Ramps(specs.live, time.monotonic())
        self._steering = self._ramps.follow(UNSTEERED, time.monotonic())
        self._front: Front | None = None
        self.live: LiveSide
        self.recorder: RecorderSide

    @property
    def specs(self) -> Specs:
        return self._specs

    @property
    def address(self) -> tuple[str, int]:
        """The first of its addresses."""
        return self.addresses[0]

    @property
    def steering(self) -> Steering:
        return self._steering

    @property
    def mirror(self) -> Mirror:
        return self.live.mirror

    @property
    def proxy(self) -> Proxy:
        return self.live.proxy

    @property
    def journal(self) -> Log:
        return Log(self)

    def census(self) -> Census:
        census, log = self.live.census(), self.recorder.journal.statistics()
        books = census.journal._replace(segments=log.segments, last_error=log.last_error, failing=log.failing)
        return supervised(replace(census, journal=books), self._state())

    async def _open(self, stack: AsyncExitStack) -> None:
        program = self._specs.program
        if program.admin is not None:
            self._admin_socket = bind(program.admin)
            stack.callback(release, program.admin, self._admin_socket)
        for address in program.listen:
            bound = bind(address, program.listen)
            stack.callback(release, address, bound)
            self._sockets = (*self._sockets, bound)
        preload(reads_bodies=True, admin=self._admin_socket is not None)
        self.recorder = RecorderSide(
            self._specs.recorder, name="h", commands=SteeringCommands(self), supervisor=self._state()
        )
        await self.recorder.__aenter__()
        stack.push_async_callback(self._close_recorder)
        self.live = LiveSide(
            self._specs.live, self._sockets, access=self._access, reader=self._contexts, steering=self._steering
        )
        self.live._hurry = self._hurry
        await stack.enter_async_context(self.live)
        ours, theirs = socket.socketpair()
        self.recorder.add("0.1", theirs)
        self.live.connect(ours)
        stack.callback(lambda: setattr(self.recorder, "supervisor", self._state()))
        if self._admin_socket is not None:
            await self._open_admin(self._admin_socket)
        self._reloads.start(stack)
        self._listening = True
        self.recorder.supervisor = self._state()

    async def _open_admin(self, bound: socket.socket) -> None:
        self._front = front = Front(bound, health=lambda: health(self.census()))
        one, other = passing.pair()
        front.connect(one)
        await self.recorder.serve_admin(other)
        front.start()

    async def _close_recorder(self) -> None:
        fronts = () if self._front is None else (self._front.close(),)
        self.recorder.flush = LAST
        await asyncio.gather(self.recorder.__aexit__(None, None, None), *fronts)

    async def report(self) -> None:
        """Have the recorder know what the live side counts now, as it does by itself a moment later."""
        for _ in range(2):  # the first that comes may have been sent before
            state = self.recorder.inbox.states().get("0.1")
            before = None if state is None else state.census
            self.live.outbox.send_census()
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(1):
                    while (  # noqa: ASYNC110  # it tells nobody
                        (state := self.recorder.inbox.states().get("0.1")) is not None and state.census is before
                    ):
                        await asyncio.sleep(0)

    async def _read_file(self, file: Path) -> Specs:
        return await asyncio.to_thread(read_specs, file, is_companion=self.specs.program.is_companion)

    def _note_reload(self) -> None:
        self.recorder.supervisor = self._state()

    def _state(self) -> SupervisorState:
        ramps = self._ramps.census(time.monotonic())
        return SupervisorState(self.accepts, self._steering, self._reloads.census, ramps=ramps)

    async def steer(self, steering: Steering) -> None:
        self._steering = steering = self._ramps.follow(steering, time.monotonic())
        self.recorder.supervisor = self._state()
        await self.live.steer(steering)

    async def _adopt(self, specs: Specs, only: frozenset[str] | None = None) -> None:
        contexts = await self.live.prepare(specs.live, only)
        self.recorder.prepare(specs.recorder)
        self._ramps.adopt(specs.live, time.monotonic())
        steering = self._steering.under(specs.live.shares, self._specs.live.shares)
        self._specs = specs
        self.live.switch(specs.live, contexts)
        await self.steer(steering)
        self.recorder.adopt(specs.recorder.generation)
