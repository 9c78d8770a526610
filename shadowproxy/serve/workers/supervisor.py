"""The supervisor: starts the live processes and the recorder, passes changes on to them, restarts and stops them.

The rules:

1. Callers connect to the listening sockets, which every live process is given; balance.py shares the connections out. A
   connection that a live process had not accepted before it ended is accepted by another, or by its successor.
2. Each live process has its share of `limits.memory` and of the budgets. The recorder writes what all of them hand
   over. Each is connected to it by a pair of sockets, which the supervisor makes, and makes again for a new recorder.
3. A process that does not reply in time is not waited for; its last known figures are reported. It is not killed: the
   books say meanwhile what is lost.
4. A process that ends by itself is restarted, after a longer pause each time: a live process with the operators'
   steering and with what it had used of its budgets. Its counts stay counted; requests that were under way then count
   as ended with it. Callers never wait for the recorder.
5. The health probes are answered here, whatever the other processes do. Requests for the admin port's pages go to the
   recorder, with their connections.
6. Live processes tell each other what they know of IDs over mailboxes, which are made here and outlive them.
7. All processes end when their supervisor ends, however it ends: their connection to it closes.
"""

import asyncio
import contextlib
import logging
import socket
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Coroutine, Sequence
from contextlib import AsyncExitStack
from dataclasses import replace
from pathlib import Path
from typing import Any

from shadowproxy.addresses import Address
from shadowproxy.serve.admin.census import Census, health, merge
from shadowproxy.serve.admin.operated import Unconfirmed
from shadowproxy.serve.callers.addresses import StartError, bind, inode_of, release, unlist
from shadowproxy.serve.callers.board import Board
from shadowproxy.serve.policy.ramping import Evidence
from shadowproxy.serve.probes import passing
from shadowproxy.serve.probes.answers import Health
from shadowproxy.serve.probes.front import Front
from shadowproxy.serve.sidecar.contexts import ContextError, GenerationError
from shadowproxy.serve.sidecar.program import Program
from shadowproxy.serve.sidecar.ramps import Ramps
from shadowproxy.serve.sidecar.share import LiveStart, RecorderStart
from shadowproxy.serve.sidecar.specs import RecorderSpec, Specs
from shadowproxy.serve.sidecar.steering import UNSTEERED, Steering, SteeringCommands
from shadowproxy.serve.sidecar.supervisor_state import SupervisorState, supervised
from shadowproxy.serve.system import descriptors
from shadowproxy.serve.telemetry.log_settings import OperatorLogSettings
from shadowproxy.serve.telemetry.operator_log import Repeats, times_text
from shadowproxy.serve.workers import shares
from shadowproxy.serve.workers.begun import Begun
from shadowproxy.serve.workers.channel import CallFailed, NoReply, Table
from shadowproxy.serve.workers.child import Child
from shadowproxy.serve.workers.counts import Counts
from shadowproxy.serve.workers.launching import launch
from shadowproxy.serve.workers.mailboxes import Mailboxes
from shadowproxy.serve.workers.slots import (
    LIVE_EVENTS,
    LIVE_MEANWHILE,
    RECORDER_EVENTS,
    RECORDER_MEANWHILE,
    REPLY,
    Changing,
    Slot,
    call_all,
)
from shadowproxy.serve.workers.stopping import Stopping

STARTING = 60.0
"""Seconds that a process may take to start."""

PREPARING = 15.0
"""Seconds that a live process may take to read the certificates of a new configuration."""

REFRESH = 1.0
"""Seconds between two readings of each process's state."""

RECONNECT = 0.5
"""Seconds until a live process that has lost the recorder's connection gets another, if the recorder runs."""

RECORDER = "shadowproxy.serve.workers.recorder"
ADMIN = "admin"
NO_INODE = 0
LISTENING = "listening"

_log = logging.getLogger("shadowproxy")


class _LiveSlot(Slot):
    """One live process, of several or alone."""

    def __init__(self, supervisor: "Supervisor", number: int) -> None:
        super().__init__(f"worker {number}", LIVE_EVENTS, LIVE_MEANWHILE, worker=number)
        self.number = number
        self.counts = Counts()
        self.connections = 0  # to recorders, that it was given
        self.since = 0.0  # when its process was ready
        self._supervisor = supervisor

    async def start(self) -> None:
        async with self._supervisor.changing.start():
            await self._supervisor.start_live(self)

    def note_end(self, child: Child) -> None:
        self.counts.note_end(child.calls.closing)
        self._supervisor.note_gone(self.number)

    async def refresh(self) -> None:
        """Read its counts. If it does not reply, the last known ones stay."""
        census = await self.ask("census")
        if isinstance(census, Census) and self.child is not None:
            self.counts.now = census

    async def evidence(self) -> dict[str, Evidence]:
        """What it has counted for ramps since the last call; nothing if it does not reply."""
        reply = await self.ask("evidence")
        return reply if isinstance(reply, dict) else {}


class _RecorderSlot(Slot):
    """`failing` is why it loses records now, None if it does not."""

    def __init__(self, supervisor: "Supervisor") -> None:
        super().__init__("the recorder", RECORDER_EVENTS, RECORDER_MEANWHILE)
        self.failing: str | None = None
        self._supervisor = supervisor

    async def start(self) -> None:
        async with self._supervisor.changing.start():
            await self._supervisor.start_recorder(self)

    def note_end(self, child: Child) -> None:
        self._supervisor.recorder_gone()

    async def refresh(self) -> None:
        reply = await self.ask("state")
        if isinstance(reply, tuple):
            self.failing, oldest = reply
            self._supervisor.forget_specs(oldest)


class Supervisor(Program):
    """Owns the listening sockets, the admin port's front, and the processes. `begun` is what runs already, if any."""

    def __init__(
        self, specs: Specs, file: Path | None, log_settings: OperatorLogSettings, begun: Begun | None = None
    ) -> None:
        super().__init__(file)
        self._specs = specs
        self._log_settings = log_settings
        self._began = time.monotonic()
        self._ramps = Ramps(specs.live, time.monotonic())
        self._steering = self._ramps.follow(UNSTEERED, time.monotonic())
        self._lives = [_LiveSlot(self, number) for number in range(specs.program.workers)]
        self._recorder = _RecorderSlot(self)
        self._recorded_by: dict[int, RecorderSpec] = {specs.recorder.generation: specs.recorder}
        self._commands = SteeringCommands(self)
        self._reopened = 0
        self.changing = Changing()
        self._repeats = Repeats()
        self._beside: set[asyncio.Task[None]] = set()
        self._last_sent: tuple[Child, SupervisorState] | None = None
        self._front: Front | None = None
        self._given = begun
        self._inode: int | None = None  # of the file of a companion's socket
        self._begun: Begun
        self._board: Board
        self._mailboxes: Mailboxes

    @property
    def specs(self) -> Specs:
        return self._specs

    @property
    def steering(self) -> Steering:
        return self._steering

    def census(self) -> Census:
        """The last known figures of all live processes, added up."""
        running = [slot.counts.now for slot in self._lives if slot.child is not None]
        merged = merge(
            [census for census in running if census is not None],
            [each for slot in self._lives for each in slot.counts.ended],
        )
        journal = merged.journal._replace(failing=self._recorder.failing)
        return supervised(replace(merged, journal=journal), self._state())

    async def _open(self, stack: AsyncExitStack) -> None:
        program = self._specs.program
        if program.admin is not None and not program.is_companion:
            self._admin_socket = bind(program.admin, beside=program.listen)
            stack.callback(release, program.admin, self._admin_socket)
        beside = program.listen if program.admin is None else (*program.listen, program.admin)
        for address in program.listen:
            bound = bind(address, beside)
            self._inode = inode_of(address) if program.is_companion else None
            stack.callback(self._release, address, bound)
            self._sockets = (*self._sockets, bound)
        if self._given is not None:
            self._begun = self._given
        else:
            self._begun = _begin()
            stack.callback(self._begun.close)
        self._board = Board(self._begun.memory, program.workers)
        stack.callback(self._board.close)
        for slot in self._lives:
            self._board.note_gone(slot.number)
        try:
            self._mailboxes = Mailboxes(program.workers)
        except OSError as error:
            raise StartError(f"cannot connect its processes: {error.strerror}") from error
        stack.callback(self._mailboxes.close)
        stack.push_async_callback(self._kill_all)
        await self._start_all()
        if self._admin_socket is not None:
            self._open_front(self._admin_socket)
            # Last of all but the processes: the probes say that the program is stopping.
        elif program.admin is not None:
            self._try_admin(program.admin)
        loop = asyncio.get_running_loop()
        keeping = [loop.create_task(slot.keep_running()) for slot in self._lives]
        watching = [loop.create_task(self._recorder.keep_running()), loop.create_task(self._refresh_regularly())]
        stack.push_async_callback(self._stop_all, keeping, watching)
        self._reloads.start(stack)
        self._listening = True
        await self._send_state()

    def _open_front(self, bound: socket.socket) -> None:
        files = descriptors.limit()
        most = None if files is None else descriptors.admin_share(files)
        self._front = Front(bound, health=self._health, most=most)
        self._connect_admin()
        self._front.start()

    def _try_admin(self, admin: Address) -> None:
        """A companion's admin port, once it is free: another one, of the application before, may have it still."""
        try:
            bound = bind(admin, self._specs.program.listen)
        except StartError as error:
            if self._repeats.worth_logging("admin_in_use"):
                _log.warning("the admin port is not open yet, retrying: %s", error, extra={"event": "admin_not_open"})
            return
        self._admin_socket = bound
        self._stack.callback(release, admin, bound)
        self._open_front(bound)

    def _health(self) -> Health:
        silences = [child.calls.silence for slot in self._lives if (child := slot.running) is not None]
        failing = self._recorder.failing
        if self._recorder.running is None:
            failing = "recorder_ended"
        elif self._recorder.silent:
            failing = "recorder_silent"
        found = replace(health(self.census()), silence=min(silences, default=None), failing=failing)
        return found if silences else replace(found, accepts=self.accepts)

    # --- calls -------------------------------------------------------------------------------------------------------

    async def refresh(self) -> None:
        await asyncio.gather(self._recorder.refresh(), *(slot.refresh() for slot in self._lives))

    async def steer(self, steering: Steering) -> None:
        """Put `steering` in force in all live processes. Raises Unconfirmed where one has not confirmed it in time."""
        self._steering = steering = self._ramps.follow(steering, time.monotonic())
        await self._send_state()
        replies = await call_all(self._lives, "steer", steering, must=True)
        silent = [str(reply) for reply in replies if isinstance(reply, NoReply)]
        if silent:
            raise Unconfirmed(f"{', '.join(silent)}; the change applies there once it responds")

    def reopen(self) -> None:
        super().reopen()
        self._reopened += 1
        for slot in (*self._lives, self._recorder):
            if slot.child is not None:
                slot.child.reopen()

    def _state(self) -> SupervisorState:
        return SupervisorState(
            accepts=self.accepts,
            steering=self._steering,
            config=self._reloads.census,
            worker_restarts=sum(slot.restarts for slot in self._lives),
            recorder_restarts=self._recorder.restarts,
            began=self._began,
            ramps=self._ramps.census(time.monotonic()) if self._ramps else {},
        )

    async def _send_state(self) -> None:
        """Send the recorder what it shows and cannot know itself. A recorder that hangs reads it later."""
        state = self._state()
        if (child := self._recorder.running) is not None and (child, state) != self._last_sent:
            self._last_sent = child, state
            with contextlib.suppress(NoReply, CallFailed):
                await child.calls.call("take_state", state, within=REPLY, must=True)

    def _note_reload(self) -> None:
        self._run_beside(self._send_state())

    def _run_beside(self, work: Coroutine[Any, Any, None]) -> None:
        task = asyncio.get_running_loop().create_task(work)
        self._beside.add(task)
        task.add_done_callback(self._beside.discard)

    async def _command(self, what: str, *arguments: Any) -> tuple[bool, str | None]:
        """An operator's command: whether there is such a shadow, and which change is not confirmed yet."""
        try:
            commands: dict[str, Callable[..., Awaitable[None]]] = {
                "pause": self._commands.pause,
                "resume": self._commands.resume,
                "set_percent": self._commands.set_percent,
            }
            await commands[what](*arguments)
        except KeyError:
            return False, None
        except Unconfirmed as why:
            return True, str(why)
        return True, None

    @property
    def _table(self) -> Table:
        """What a live process may call."""
        if not self._specs.program.is_companion:
            return {"disconnected": self._disconnected}
        return {
            "disconnected": self._disconnected,
            "unlist": self._unlist,
            "finish": self._finish,
            "reload": self._reload_now,
        }

    async def _unlist(self) -> None:
        for address in self._specs.program.listen:
            unlist(address, self._inode)
        self._inode = NO_INODE  # another file gets the same number at once

    def _release(self, address: Address, bound: socket.socket) -> None:
        release(address, bound, self._inode)

    async def _finish(self) -> None:
        self.stop()

    async def _reload_now(self) -> None:
        self.reload()

    async def _ended(self, number: int, run: int, census: Census) -> None:
        """The recorder's report about a live process that has ended."""
        self._lives[number].counts.note_report(run, census)

    async def _disconnected(self, number: int) -> None:
        """A live process has no connection to the recorder. A recorder that is started gets new ones anyway."""

        async def reconnect() -> None:
            slot, recorder = self._lives[number], self._recorder.running
            given = slot.connections
            await asyncio.sleep(RECONNECT)
            if recorder is not None and self._recorder.running is recorder and slot.connections == given:
                self._connect(slot)

        self._run_beside(reconnect())

    # --- another configuration ---------------------------------------------------------------------------------------

    async def _adopt(self, specs: Specs, only: frozenset[str] | None = None) -> None:
        """Whole or not at all: every process has prepared for it before the first one switches."""
        try:
            await self._contexts.read(specs.live, only)  # before any process is called
        except ContextError as error:
            raise GenerationError(str(error)) from error
        prepared_by = await self._prepare_recorder(specs.recorder)  # processes can be started while it hangs
        async with self.changing.change():
            if self._recorder.running is not prepared_by:
                await self._prepare_recorder(specs.recorder)
            lives = [(slot, child) for slot in self._lives if (child := slot.running) is not None]
            prepared = await asyncio.gather(
                *(
                    child.calls.call("prepare", shares.share(specs, slot.number), only, within=PREPARING)
                    for slot, child in lives
                ),
                return_exceptions=True,
            )
            for (_, child), reply in zip(lives, prepared, strict=True):
                if isinstance(reply, NoReply | CallFailed) and child.runs:
                    raise GenerationError(str(reply))
            self._ramps.adopt(specs.live, time.monotonic())
            steering = self._steering.under(specs.live.shares, self._specs.live.shares)
            self._steering = self._ramps.follow(steering, time.monotonic())
            self._specs = specs
            self._recorded_by[specs.recorder.generation] = specs.recorder
            lives = [(slot, child) for slot, child in lives if child.runs]
            adopted = await asyncio.gather(
                *(child.calls.call("adopt", within=REPLY, must=True) for _, child in lives), return_exceptions=True
            )
            for (slot, child), reply in zip(lives, adopted, strict=True):
                if isinstance(reply, NoReply):
                    extra: dict[str, object] = {"event": "worker_silent"}
                    _log.warning("%s; it will apply the new configuration once it responds", reply, extra=extra)
                elif isinstance(reply, Exception):
                    # The configuration is in force elsewhere by now. This process is restarted under it.
                    extra = {"event": "worker_killed", "worker": slot.number, "error": str(reply)}
                    line = "worker %d cannot apply the new configuration and is killed: %s"
                    _log.error(line, slot.number, reply, extra=extra)
                    child.kill_now()
            if self._ramps:
                with contextlib.suppress(Unconfirmed):
                    await self.steer(self._steering)  # a ramp that is new begins to hold requests out
            if (recorder := self._recorder.running) is not None:
                with contextlib.suppress(NoReply, CallFailed):
                    await recorder.calls.call("adopt", specs.recorder.generation, within=REPLY, must=True)
        await self.refresh()  # or the last known figures would name the unusable shadows of before

    async def _prepare_recorder(self, spec: RecorderSpec) -> Child | None:
        """The recorder that is prepared. None: none runs, and the next will be started under the specs in force."""
        if (child := self._recorder.running) is None:
            return None
        try:
            await child.calls.call("prepare", spec, within=PREPARING)
        except (NoReply, CallFailed) as error:
            if child.runs:
                raise GenerationError(str(error)) from error
        return child

    def forget_specs(self, oldest: int) -> None:
        """Drop how exchanges of earlier generations are recorded: none can come any more."""
        newest = self._specs.recorder.generation
        self._recorded_by = {
            number: each for number, each in self._recorded_by.items() if number >= oldest or number == newest
        }

    # --- starting and restarting -------------------------------------------------------------------------------------

    async def _start_all(self) -> None:
        loop = asyncio.get_running_loop()
        starting = [loop.create_task(self.start_live(slot)) for slot in self._lives]
        try:
            await asyncio.gather(*starting)
            # After them: callers wait for live processes, and exchanges can wait for the recorder.
            starting.append(loop.create_task(self.start_recorder(self._recorder)))
            await starting[-1]
        except OSError as error:
            raise StartError(f"cannot start a process: {error.strerror}") from error
        except (NoReply, CallFailed) as error:
            raise StartError(str(error)) from error
        finally:
            for each in starting:
                each.cancel()
            await asyncio.wait(starting)

    async def start_live(self, slot: _LiveSlot) -> None:
        number = slot.number
        slot.counts.begin()
        with contextlib.ExitStack() as unused:
            listening = [unused.enter_context(each.dup()) for each in self._sockets]
            launched = self._begun.launch_live()
            child = await Child.of(slot.name, launched, table=self._table)
            unused.pop_all()
        async with self._starting(slot, child):
            for each in listening:
                child.give(LISTENING, each)  # one that is gone does not reply to its start either
            self._mailboxes.give(child, number)
            start = LiveStart(
                number,
                len(self._lives),
                len(listening),
                shares.share(self._specs, number),
                self._log_settings,
                self._steering,
                slot.counts.used,
                self._outputs,
                knowing=tuple([each.number for each in sorted(self._lives, key=_since) if each.running is not None]),
            )
            slot.counts.now = await child.calls.call("start", start, within=STARTING)
            slot.child = child
            slot.since = time.monotonic()
            self._connect(slot)
            # Operators may have changed something since. A process that hangs gets it once it responds.
            with contextlib.suppress(NoReply):
                await child.calls.call("steer", self._steering, within=REPLY, must=True)
        await self._send_state()

    async def start_recorder(self, slot: _RecorderSlot) -> None:
        table: Table = {"ended": self._ended, "command": self._command}
        child = await Child.of(slot.name, launch(RECORDER), table=table)
        async with self._starting(slot, child):
            recorder = self._specs.recorder
            ended = [each for live in self._lives for each in live.counts.ended]
            start = RecorderStart(
                name=socket.gethostname(),
                lives=len(self._lives),
                spec=recorder,
                earlier=tuple(each for each in self._recorded_by.values() if each is not recorder),
                admin=self._admin_socket is not None,
                log_settings=self._log_settings,
                supervisor=self._state(),
                ended=merge((), ended) if ended else None,
                outputs=self._outputs,
            )
            await child.calls.call("start", start, within=STARTING)
            slot.child = child
            for live in self._lives:
                self._connect(live)
            self._connect_admin()
        await self._send_state()

    @contextlib.asynccontextmanager
    async def _starting(self, slot: Slot, child: Child) -> AsyncIterator[None]:
        """Kill a process whose start fails."""
        reopened = self._reopened
        try:
            yield
            if self._reopened != reopened:
                child.reopen()
        except BaseException:
            if slot.child is None:
                await child.kill()
            raise

    def _connect(self, slot: _LiveSlot) -> None:
        """Connect a live process to the recorder, if both run. Where that fails, it will ask for it again."""
        live, recorder = slot.running, self._recorder.running
        if live is None or recorder is None:
            return
        try:
            one, other = socket.socketpair()
        except OSError as error:
            self._log_not_connected(slot.name, error)
            return
        name = f"{slot.number}.{slot.counts.run}"
        if recorder.give(name, other):
            slot.connections += live.give(name, one)
        else:
            one.close()

    def _log_not_connected(self, what: str, error: OSError) -> None:
        if count := self._repeats.worth_logging("not_connected", what):
            extra = {"event": "not_taken", "error": error.strerror, "count": count}
            words = "%s could not be connected to the recorder%s, retrying: %s"
            _log.error(words, what, times_text(count), error.strerror, extra=extra)

    def _connect_admin(self) -> None:
        """Have the recorder answer the admin port's requests, unless it does."""
        if self._front is None or self._front.connected or (recorder := self._recorder.running) is None:
            return
        try:
            ours, theirs = passing.pair()
        except OSError as error:
            self._log_not_connected("the admin server", error)
            return
        if recorder.give(ADMIN, theirs):
            self._front.connect(ours)
        else:
            ours.close()

    def recorder_gone(self) -> None:
        if self._front is not None:
            self._front.disconnect()

    def note_gone(self, number: int) -> None:
        self._board.note_gone(number)

    async def _refresh_regularly(self) -> None:
        while True:
            await asyncio.sleep(REFRESH)
            admin = self._specs.program.admin
            if admin is not None and self._admin_socket is None and not self.is_stopping:
                self._try_admin(admin)
            self._connect_admin()  # it may have lacked descriptors before
            if self._ramps.is_due(time.monotonic()):
                await self._advance_ramps()
            await asyncio.gather(self.refresh(), self._send_state())

    async def _advance_ramps(self) -> None:
        """Have the ramps rise or step back, by what all live processes have counted since the last time."""
        found = await asyncio.gather(*(slot.evidence() for slot in self._lives))
        if self._ramps.advance(found, time.monotonic()):
            with contextlib.suppress(Unconfirmed):  # a process that hangs gets it once it responds
                await self.steer(self._steering)

    # --- stopping ----------------------------------------------------------------------------------------------------

    async def _stop_all(self, keeping: list[asyncio.Task[None]], watching: list[asyncio.Task[None]]) -> None:
        stopping = Stopping(self._specs.program.drain, self._hurry)
        await _cancel(keeping)
        for each in self._sockets:
            each.close()  # the live processes have it too: once the last has closed it, nothing can connect
        self._run_beside(self._send_state())
        await stopping.end_lives(self._lives)
        await _cancel([*watching, *self._beside])
        # At once: the recorder ends the events that listeners get, and the front waits for what is under way.
        await asyncio.gather(
            stopping.end_recorder(self._recorder), *(() if self._front is None else (self._front.close(),))
        )

    async def _kill_all(self) -> None:
        for slot in (*self._lives, self._recorder):
            await slot.kill()


def _begin() -> Begun:
    try:
        return Begun()
    except OSError as error:
        raise StartError(f"cannot start a process: {error.strerror}") from error


def _since(slot: _LiveSlot) -> float:
    return slot.since


async def _cancel(tasks: Sequence[asyncio.Task[None]]) -> None:
    for task in tasks:
        task.cancel()
    if tasks:
        await asyncio.wait(tasks)
