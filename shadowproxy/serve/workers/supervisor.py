"""Several workers as one sidecar: starts them, adds up their figures, passes changes on to them, and stops them.

The rules:

1. Callers connect to one listening socket, which every worker inherits; balance.py shares the connections out. A
   connection that a worker had not accepted before it ended is accepted by another worker: none is lost.
2. Each worker is a sidecar of its own, with its share of `limits.memory` and of the budgets, and with a journal whose
   segments carry its number. For each request to the admin server all workers are asked, and their figures added up.
3. If a worker does not reply in time, its last known figures are reported. Nothing waits for it any longer.
4. A worker that ends by itself is restarted, after a longer pause each time, with the operators' steering and with what
   it had used of its budgets. Its last known counts, at most a second old, stay counted; requests that were under way
   then count as ended with it.
5. Workers end when their supervisor ends, however it ends: their connection to it closes.
"""

import asyncio
import contextlib
import logging
import os
import signal
import socket
import sys
from collections.abc import Awaitable, Sequence
from contextlib import AsyncExitStack
from dataclasses import replace
from pathlib import Path
from typing import Any, Self

from shadowproxy.exchange import Verdict
from shadowproxy.serve.admin.census import Census, merge
from shadowproxy.serve.admin.operated import Unconfirmed
from shadowproxy.serve.callers.addresses import StartError, bind, release
from shadowproxy.serve.callers.balance import Board, shared_memory
from shadowproxy.serve.sidecar import generation
from shadowproxy.serve.sidecar.admin import open_admin
from shadowproxy.serve.sidecar.contexts import ContextError
from shadowproxy.serve.sidecar.generation import GenerationError
from shadowproxy.serve.sidecar.program import Program
from shadowproxy.serve.sidecar.share import BudgetUsed, WorkerStart
from shadowproxy.serve.sidecar.specs import Specs
from shadowproxy.serve.sidecar.steering import UNSTEERED, Steering, SteeringCommands
from shadowproxy.serve.system.preload import preload
from shadowproxy.serve.telemetry.operator_log import OperatorLogSettings
from shadowproxy.serve.workers import shares
from shadowproxy.serve.workers.channel import CallFailed, Calls, NoReply

REPLY = 1.0
"""Seconds that a worker may take to reply."""

STARTING = 60.0
"""Seconds that a worker may take to start."""

PREPARING = 15.0
"""Seconds that a worker may take to read the certificates of a new configuration."""

REFRESH = 1.0
"""Seconds between two readings of each worker's counts."""

RESTART_FIRST, RESTART_MOST = 0.1, 10.0
LIVED = 60.0
"""Seconds before a worker is restarted. Each restart doubles them, unless the worker had lived for LIVED seconds."""

ENDING = 30.0
"""Seconds beyond `drain` that a worker may take to stop: its log waits for a slow disk, its spans for a collector."""

_log = logging.getLogger("shadowproxy")


class _Worker:
    """One worker's process, from `spawn` until it has ended. `census` is its last known one."""

    def __init__(self, number: int, process: asyncio.subprocess.Process, calls: Calls) -> None:
        self.number = number
        self.process = process
        self.calls = calls
        self.census: Census | None = None
        self.silent = False

    @classmethod
    async def spawn(cls, number: int, listening: socket.socket, board: int) -> Self:
        ours, theirs = socket.socketpair()
        with theirs, contextlib.ExitStack() as unused:
            unused.callback(ours.close)
            inherited = (theirs.fileno(), listening.fileno(), board)
            # -P and this process's own path: no module in the working directory becomes part of the program.
            process = await asyncio.create_subprocess_exec(
                sys.executable, "-P", "-m", "shadowproxy.serve.workers.process", *map(str, inherited),
                stdin=asyncio.subprocess.DEVNULL,
                pass_fds=inherited,
                env={**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)},
                start_new_session=True,  # Ctrl-C goes to the supervisor alone, which then stops its workers
            )  # fmt: skip
            unused.pop_all()
        calls = Calls(f"worker {number}")
        await calls.open(ours)
        return cls(number, process, calls)

    @property
    def runs(self) -> bool:
        return not self.calls.gone.is_set()

    async def refresh(self) -> None:
        """Read its counts. If it does not reply, the last known ones stay."""
        try:
            self.census = await self.calls.call("census", within=REPLY)
        except NoReply as why:
            if self.runs and not self.silent:
                _log.warning("%s; reporting its last known figures", why, extra={"event": "worker_silent"})
            self.silent = True
        else:
            self.silent = False

    async def wait(self) -> int:
        """Wait until it has ended. Returns its exit status."""
        status = await self.process.wait()
        await self.calls.gone.wait()
        if self.calls.closing is not None:
            self.census = self.calls.closing
        return status

    def reopen(self) -> None:
        """Have it reopen its standard error and output."""
        with contextlib.suppress(ProcessLookupError):
            self.process.send_signal(signal.SIGUSR1)

    async def kill(self) -> None:
        with contextlib.suppress(ProcessLookupError):
            self.process.kill()
        await self.process.wait()
        await self.calls.aclose()


class _Slot:
    """Where one worker runs, and is restarted when it ends. `ended` is what the workers before it had counted."""

    def __init__(self, number: int) -> None:
        self.number = number
        self.worker: _Worker | None = None
        self.ended: Census | None = None
        self.used: dict[str, BudgetUsed] = {}

    def note_end(self, worker: _Worker) -> None:
        """Keep the counts of a worker that has ended, and what it had used of its budgets."""
        self.worker = None
        if worker.census is not None:
            self.ended = merge((), [each for each in (self.ended, worker.census) if each is not None])
            self.used = shares.used(worker.census)


class Supervisor(Program):
    """Owns the listening sockets, the admin server and the workers."""

    def __init__(self, specs: Specs, file: Path | None, log_settings: OperatorLogSettings) -> None:
        super().__init__(file)
        self._specs = specs
        self._log_settings = log_settings
        self._steering = UNSTEERED
        self._slots = [_Slot(number) for number in range(specs.program.workers)]
        self._restarts = 0
        self._reopened = 0
        self._changing = asyncio.Lock()
        self._memory: int
        self._board: Board

    @property
    def specs(self) -> Specs:
        return self._specs

    @property
    def steering(self) -> Steering:
        return self._steering

    def census(self) -> Census:
        """The last known figures of all workers, added up."""
        running = [slot.worker.census for slot in self._slots if slot.worker is not None]
        merged = merge(
            [census for census in running if census is not None],
            [slot.ended for slot in self._slots if slot.ended is not None],
        )
        return replace(
            merged,
            accepts=merged.accepts and self.accepts,
            paused=self._steering.paused,
            config=self._reloads.census,
            worker_restarts=self._restarts,
        )

    async def _open(self, stack: AsyncExitStack) -> None:
        program = self._specs.program
        if program.admin is not None:
            self._admin_socket = bind(program.admin)
            stack.callback(release, program.admin, self._admin_socket)
        self._socket = bind(program.listen)
        stack.callback(release, program.listen, self._socket)
        self._memory = shared_memory(program.workers)
        stack.callback(os.close, self._memory)
        self._board = Board(self._memory, program.workers)
        stack.callback(self._board.close)
        for slot in self._slots:
            self._board.note_gone(slot.number)
        stack.push_async_callback(self._kill_workers)
        await asyncio.to_thread(preload, admin=self._admin_socket is not None)
        await self._start_first()
        if self._admin_socket is not None:
            host = generation.proxy_name(0).rpartition("/")[0]
            front = await open_admin(
                stack,
                self._admin_socket,
                _Together(self),
                proxy=host,
                spec=lambda: self._specs.recorder,
                census=self.census,
            )
            front.start()
        loop = asyncio.get_running_loop()
        keeping = [loop.create_task(self._keep_running(slot)) for slot in self._slots]
        stack.push_async_callback(self._stop_workers, [*keeping, loop.create_task(self._refresh_regularly())])
        self._reloads.start(stack)
        self._listening = True

    # --- calls to all workers ----------------------------------------------------------------------------------------

    @property
    def _workers(self) -> list[_Worker]:
        return [slot.worker for slot in self._slots if slot.worker is not None]

    async def refresh(self) -> None:
        await asyncio.gather(*(worker.refresh() for worker in self._workers))

    async def steer(self, steering: Steering) -> None:
        """Put `steering` in force in all workers. Raises Unconfirmed where one has not confirmed it in time."""
        self._steering = steering
        replies = await self.call_all("steer", steering, must=True)
        silent = [str(reply) for reply in replies if isinstance(reply, NoReply)]
        if silent:
            raise Unconfirmed(f"{', '.join(silent)}; the change applies there once it responds")

    async def call_all(self, what: str, *arguments: object, within: float = REPLY, must: bool = False) -> list[Any]:
        """Every running worker's reply, or the NoReply or CallFailed instead of it."""
        calls: Sequence[Awaitable[Any]] = [
            worker.calls.call(what, *arguments, within=within, must=must) for worker in self._workers if worker.runs
        ]
        return await asyncio.gather(*calls, return_exceptions=True)

    def reopen(self) -> None:
        super().reopen()
        self._reopened += 1
        for worker in self._workers:
            worker.reopen()

    async def _adopt(self, specs: Specs, only: frozenset[str] | None = None) -> None:
        """Whole or not at all: every worker has read its files before the first one switches."""
        try:
            await self._contexts.read(specs.live, only)  # before any worker is called
        except ContextError as error:
            raise GenerationError(str(error)) from error
        async with self._changing:
            workers = [worker for worker in self._workers if worker.runs]
            prepared = await asyncio.gather(
                *(
                    worker.calls.call("prepare", shares.share(specs, worker.number), only, within=PREPARING)
                    for worker in workers
                ),
                return_exceptions=True,
            )
            for worker, reply in zip(workers, prepared, strict=True):
                if isinstance(reply, NoReply | CallFailed) and worker.runs:
                    raise GenerationError(str(reply))
            self._steering = self._steering.under(specs.live.percents, self._specs.live.percents)
            self._specs = specs
            workers = [worker for worker in workers if worker.runs]
            adopted = await asyncio.gather(
                *(worker.calls.call("adopt", within=REPLY, must=True) for worker in workers), return_exceptions=True
            )
            for worker, reply in zip(workers, adopted, strict=True):
                if isinstance(reply, NoReply):
                    extra: dict[str, object] = {"event": "worker_silent"}
                    _log.warning("%s; it will apply the new configuration once it responds", reply, extra=extra)
                elif isinstance(reply, Exception):
                    # The configuration is in force elsewhere by now. `_keep_running` restarts this worker under it.
                    extra = {"event": "worker_killed", "worker": worker.number, "error": str(reply)}
                    line = "worker %d cannot apply the new configuration and is killed: %s"
                    _log.error(line, worker.number, reply, extra=extra)
                    with contextlib.suppress(ProcessLookupError):
                        worker.process.kill()
        await self.refresh()  # or the last known figures would name the unusable shadows of before

    # --- starting, restarting and stopping workers -------------------------------------------------------------------

    async def _start_first(self) -> None:
        loop = asyncio.get_running_loop()
        starting = [loop.create_task(self._start(slot)) for slot in self._slots]
        try:
            await asyncio.gather(*starting)
        except (NoReply, CallFailed, OSError) as error:
            raise StartError(str(error)) from error
        finally:
            for each in starting:
                each.cancel()
            await asyncio.wait(starting)

    async def _start(self, slot: _Slot) -> None:
        """Start a worker there. On OSError, CallFailed or NoReply it leaves no process behind."""
        worker = await _Worker.spawn(slot.number, self._socket, self._memory)
        specs = shares.share(self._specs, slot.number)
        start = WorkerStart(
            slot.number, len(self._slots), specs, self._log_settings, self._steering, slot.used, self._outputs
        )
        reopened = self._reopened
        try:
            worker.census = await worker.calls.call("start", start, within=STARTING)
            slot.worker = worker
            if self._reopened != reopened:
                worker.reopen()
            # Operators may have changed something since. A worker that hangs gets it once it responds.
            with contextlib.suppress(NoReply):
                await worker.calls.call("steer", self._steering, within=REPLY, must=True)
        except BaseException:
            if slot.worker is None:
                await worker.kill()
            raise

    async def _keep_running(self, slot: _Slot) -> None:
        """Restart this slot's worker whenever it has ended."""
        loop = asyncio.get_running_loop()
        began, delay = loop.time(), RESTART_FIRST
        while True:
            if (worker := slot.worker) is not None:
                status = await worker.wait()
                await worker.calls.aclose()
                slot.note_end(worker)
                self._board.note_gone(slot.number)
                extra = {"event": "worker_ended", "worker": slot.number, "status": status}
                _log.error("worker %d has ended (%s) and will be restarted", slot.number, _ending(status), extra=extra)
            delay = RESTART_FIRST if loop.time() - began > LIVED else min(delay * 2, RESTART_MOST)
            await asyncio.sleep(delay)
            began = loop.time()
            self._restarts += 1
            try:
                async with self._changing:
                    await self._start(slot)
            except (NoReply, CallFailed, OSError) as error:
                extra = {"event": "worker_not_started", "worker": slot.number, "error": str(error)}
                _log.error("worker %d cannot be started, retrying: %s", slot.number, error, extra=extra)

    async def _refresh_regularly(self) -> None:
        while True:
            await asyncio.sleep(REFRESH)
            await self.refresh()

    async def _stop_workers(self, tasks: list[asyncio.Task[None]]) -> None:
        """Let every worker finish what is under way within `drain`, and take up to ENDING seconds more to stop."""
        for task in tasks:
            task.cancel()
        await asyncio.wait(tasks)
        self._socket.close()  # the workers have it too: once the last has closed it, nothing can connect
        await self.call_all("stop", must=True)
        loop = asyncio.get_running_loop()
        ending = [loop.create_task(self._end(slot)) for slot in self._slots]
        hurrying = loop.create_task(self._hurry.wait())
        until = loop.time() + self._specs.program.drain + ENDING
        while (left := until - loop.time()) > 0 and not all(each.done() for each in ending):
            await asyncio.wait((hurrying, *ending), timeout=left, return_when=asyncio.FIRST_COMPLETED)
            if hurrying.done() and not hurrying.cancelled():
                await self.call_all("hurry", must=True)
                break
        hurrying.cancel()
        await asyncio.wait(ending, timeout=max(0.0, until - loop.time()))
        for slot in self._slots:
            if slot.worker is not None:
                _log.error("worker %d does not stop and is killed", slot.number, extra={"event": "worker_killed"})
        await self._kill_workers()
        await asyncio.wait(ending)

    async def _end(self, slot: _Slot) -> None:
        if (worker := slot.worker) is not None:
            await worker.wait()
            slot.note_end(worker)
            await worker.calls.aclose()

    async def _kill_workers(self) -> None:
        for worker in self._workers:
            await worker.kill()


class _Together(SteeringCommands):
    """The admin server's `Operated` with workers: all of them as one."""

    def __init__(self, supervisor: Supervisor) -> None:
        super().__init__(supervisor)
        self._supervisor = supervisor

    async def census(self) -> Census:
        await self._supervisor.refresh()
        return self._supervisor.census()

    async def latest(self, limit: int, verdict: Verdict | None, shadow: str | None) -> list[bytes]:
        replies = await self._supervisor.call_all("latest", limit, verdict, shadow)
        dated = [each for reply in replies if isinstance(reply, list) for each in reply]
        return [line for _, line in sorted(dated, reverse=True)[:limit]]

    async def find(self, record: str) -> bytes | None:
        replies = await self._supervisor.call_all("find", record)
        return next((reply for reply in replies if isinstance(reply, bytes)), None)


def _ending(status: int) -> str:
    if status >= 0:
        return f"status {status}"
    with contextlib.suppress(ValueError):
        return signal.Signals(-status).name
    return f"signal {-status}"
