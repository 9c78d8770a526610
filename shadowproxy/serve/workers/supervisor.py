"""Several workers as one sidecar: starts them, speaks for all of them, and stops them.

The rules:

1. Callers connect to one listening socket, which every worker inherits; balance.py shares the connections out. What a
   worker that ends had not accepted yet is accepted by another: no connection is lost with it.
2. Each worker is a sidecar of its own, with its share of `limits.memory` and of the budgets, and with a journal whose
   segments carry its number. What the admin server tells is asked of all of them anew, and added up.
3. A worker that does not answer in time is told of as it stood when it last did. Nobody waits for it any longer.
4. A worker that ends before it is to is started again, later each time, with what operators had changed and what it had
   used of its budgets. What it had counted when it was last asked, at most a second before, stays counted, and what
   was under way then counts as ended with it.
5. Workers end with their supervisor, however that ends: their end of the connection closes.
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

from shadowproxy.config import Config
from shadowproxy.exchange import Verdict
from shadowproxy.serve.admin.census import Census, merge
from shadowproxy.serve.admin.operated import Unconfirmed
from shadowproxy.serve.admin.serving import serve_admin
from shadowproxy.serve.callers.addresses import StartError, bind, release
from shadowproxy.serve.callers.balance import Board, shared_memory
from shadowproxy.serve.sidecar import generation
from shadowproxy.serve.sidecar.contexts import ContextError
from shadowproxy.serve.sidecar.generation import GenerationError
from shadowproxy.serve.sidecar.program import Program
from shadowproxy.serve.sidecar.share import BudgetUsed, WorkerStart
from shadowproxy.serve.sidecar.steering import Steering, names
from shadowproxy.serve.system.preload import preload
from shadowproxy.serve.telemetry.operator_log import OperatorLogSettings
from shadowproxy.serve.workers import shares
from shadowproxy.serve.workers.channel import CallFailed, Calls, NoReply

ANSWER = 1.0
STARTING = 60.0
PREPARING = 15.0
"""Seconds that a worker may take to answer, to begin, and to read the certificates of a new configuration."""

LOOK = 1.0
"""Seconds between looks at what each worker has counted."""

AGAIN_FIRST, AGAIN_MOST = 0.1, 10.0
LIVED = 60.0
"""Seconds before a worker is started again; each time doubles them, unless it had lived for so long."""

ENDING = 30.0
"""Seconds beyond `drain` that a worker may take to stop: its log waits for a slow disk, its spans for a collector."""

_log = logging.getLogger("shadowproxy")


class _Worker:
    """One worker's process, from `spawn` until it has ended. `census` is the last that it told."""

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
            # -P and the very path that this process has: nothing in the working directory becomes part of the program.
            process = await asyncio.create_subprocess_exec(
                sys.executable, "-P", "-m", "shadowproxy.serve.workers.process", *map(str, inherited),
                stdin=asyncio.subprocess.DEVNULL,
                pass_fds=inherited,
                env={**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)},
                start_new_session=True,  # Ctrl-C is for the supervisor, which tells its workers to stop
            )  # fmt: skip
            unused.pop_all()
        calls = Calls(f"worker {number}")
        await calls.open(ours)
        return cls(number, process, calls)

    @property
    def runs(self) -> bool:
        return not self.calls.gone.is_set()

    async def look(self) -> None:
        """Ask what it has counted; where it does not answer, what it last told stands."""
        try:
            self.census = await self.calls.call("census", within=ANSWER)
        except NoReply as why:
            if self.runs and not self.silent:
                _log.warning("%s: what it told last is told on", why, extra={"event": "worker_silent"})
            self.silent = True
        else:
            self.silent = False

    async def wait(self) -> int:
        """Until it has ended: its exit status."""
        status = await self.process.wait()
        await self.calls.gone.wait()
        if self.calls.last_word is not None:
            self.census = self.calls.last_word
        return status

    def reopen(self) -> None:
        """Have it open its standard error and output again."""
        with contextlib.suppress(ProcessLookupError):
            self.process.send_signal(signal.SIGUSR1)

    async def kill(self) -> None:
        with contextlib.suppress(ProcessLookupError):
            self.process.kill()
        await self.process.wait()
        await self.calls.aclose()


class _Place:
    """Where a worker is, or is to be again. `ended` is what those before it had counted."""

    def __init__(self, number: int) -> None:
        self.number = number
        self.worker: _Worker | None = None
        self.ended: Census | None = None
        self.used: dict[str, BudgetUsed] = {}

    def note_end(self, worker: _Worker) -> None:
        """Keep what is to be kept of a worker that has ended."""
        self.worker = None
        if worker.census is not None:
            self.ended = merge((), [each for each in (self.ended, worker.census) if each is not None])
            self.used = shares.used(worker.census)


class Supervisor(Program):
    """Owns the listening sockets, the admin server and the workers."""

    def __init__(self, config: Config, file: Path | None, log_settings: OperatorLogSettings) -> None:
        super().__init__(file)
        self._config = config
        self._log_settings = log_settings
        self._steering = Steering()
        self._places = [_Place(number) for number in range(config.workers)]
        self._restarts = 0
        self._reopened = 0
        self._changing = asyncio.Lock()
        self._memory: int
        self._board: Board

    @property
    def config(self) -> Config:
        return self._config

    def census(self) -> Census:
        """What all workers together have counted and how they stand, as they last told."""
        told = [place.worker.census for place in self._places if place.worker is not None]
        merged = merge(
            [census for census in told if census is not None],
            [place.ended for place in self._places if place.ended is not None],
        )
        return replace(
            merged,
            accepts=merged.accepts and self.accepts,
            paused=self._steering.paused,
            config=self._reloads.told,
            worker_restarts=self._restarts,
        )

    async def _open(self, stack: AsyncExitStack) -> None:
        config = self.config
        if config.admin is not None:
            self._admin_socket = bind(config.admin)
            stack.callback(release, config.admin, self._admin_socket)
        self._socket = bind(config.listen)
        stack.callback(release, config.listen, self._socket)
        self._memory = shared_memory(config.workers)
        stack.callback(os.close, self._memory)
        self._board = Board(self._memory, config.workers)
        stack.callback(self._board.close)
        for place in self._places:
            self._board.note_gone(place.number)
        stack.push_async_callback(self._kill_workers)
        await asyncio.to_thread(preload, admin=self._admin_socket is not None)
        await self._start_first()
        if self._admin_socket is not None:
            host = generation.proxy_name(0).rpartition("/")[0]
            await serve_admin(stack, self._admin_socket, _Together(self), proxy=host, config=lambda: self.config)
        loop = asyncio.get_running_loop()
        keeping = [loop.create_task(self._keep(place)) for place in self._places]
        stack.push_async_callback(self._stop_workers, [*keeping, loop.create_task(self._look_on())])
        self._reloads.start(stack)
        self._listening = True

    # --- what is asked of all workers --------------------------------------------------------------------------------

    @property
    def _workers(self) -> list[_Worker]:
        return [place.worker for place in self._places if place.worker is not None]

    async def look(self) -> None:
        await asyncio.gather(*(worker.look() for worker in self._workers))

    async def steer(self, steering: Steering) -> None:
        """Have all workers as operators want it. Raises Unconfirmed where one has not said in time that it is so."""
        self._steering = steering
        answers = await self.ask("steer", steering, must=True)
        silent = [str(answer) for answer in answers if isinstance(answer, NoReply)]
        if silent:
            raise Unconfirmed(f"{', '.join(silent)}: it will be so there as soon as it does")

    async def ask(self, what: str, *arguments: object, within: float = ANSWER, must: bool = False) -> list[Any]:
        """Every running worker's answer, or the NoReply or CallFailed instead of it."""
        calls: Sequence[Awaitable[Any]] = [
            worker.calls.call(what, *arguments, within=within, must=must) for worker in self._workers if worker.runs
        ]
        return await asyncio.gather(*calls, return_exceptions=True)

    def reopen(self) -> None:
        super().reopen()
        self._reopened += 1
        for worker in self._workers:
            worker.reopen()

    def steered(self, name: str | None) -> Steering:
        """How it is steered now. Raises KeyError for a name that no shadow has."""
        if name is not None and name not in names(self.config):
            raise KeyError(name)
        return self._steering

    async def _adopt(self, config: Config, only: frozenset[str] | None = None) -> None:
        """Whole or not at all: every worker has read what it needs before the first of them changes over."""
        try:
            await self._contexts.read(config, only)  # before any worker is bothered with it
        except ContextError as error:
            raise GenerationError(str(error)) from error
        async with self._changing:
            workers = [worker for worker in self._workers if worker.runs]
            prepared = await asyncio.gather(
                *(
                    worker.calls.call("prepare", shares.share(config, worker.number), only, within=PREPARING)
                    for worker in workers
                ),
                return_exceptions=True,
            )
            for worker, answer in zip(workers, prepared, strict=True):
                if isinstance(answer, NoReply | CallFailed) and worker.runs:
                    raise GenerationError(str(answer))
            self._steering = self._steering.under(config, self.config)
            self._config = config
            workers = [worker for worker in workers if worker.runs]
            adopted = await asyncio.gather(
                *(worker.calls.call("adopt", within=ANSWER, must=True) for worker in workers), return_exceptions=True
            )
            for worker, answer in zip(workers, adopted, strict=True):
                if isinstance(answer, NoReply):
                    extra: dict[str, object] = {"event": "worker_silent"}
                    _log.warning("%s: it takes the new configuration on as soon as it does", answer, extra=extra)
                elif isinstance(answer, Exception):
                    # It is in force elsewhere by now. `_keep` starts this place's worker again, and under it.
                    extra = {"event": "worker_killed", "worker": worker.number, "error": str(answer)}
                    line = "worker %d cannot take the new configuration on, it is killed: %s"
                    _log.error(line, worker.number, answer, extra=extra)
                    with contextlib.suppress(ProcessLookupError):
                        worker.process.kill()
        await self.look()  # what is told of shadows that can or cannot be used is to be of now

    # --- the workers' lives ------------------------------------------------------------------------------------------

    async def _start_first(self) -> None:
        loop = asyncio.get_running_loop()
        starting = [loop.create_task(self._start(place)) for place in self._places]
        try:
            await asyncio.gather(*starting)
        except (NoReply, CallFailed, OSError) as error:
            raise StartError(str(error)) from error
        finally:
            for each in starting:
                each.cancel()
            await asyncio.wait(starting)

    async def _start(self, place: _Place) -> None:
        """A new worker there. Raises OSError, CallFailed or NoReply, and leaves none behind then."""
        worker = await _Worker.spawn(place.number, self._socket, self._memory)
        config = shares.share(self.config, place.number)
        start = WorkerStart(
            place.number, len(self._places), config, self._log_settings, self._steering, place.used, self._outputs
        )
        reopened = self._reopened
        try:
            worker.census = await worker.calls.call("start", start, within=STARTING)
            place.worker = worker
            if self._reopened != reopened:
                worker.reopen()
            # Operators may have changed something since. A worker that hangs by now will hear of it when it wakes.
            with contextlib.suppress(NoReply):
                await worker.calls.call("steer", self._steering, within=ANSWER, must=True)
        except BaseException:
            if place.worker is None:
                await worker.kill()
            raise

    async def _keep(self, place: _Place) -> None:
        """Start this place's worker again whenever it has ended."""
        loop = asyncio.get_running_loop()
        began, delay = loop.time(), AGAIN_FIRST
        while True:
            if (worker := place.worker) is not None:
                status = await worker.wait()
                await worker.calls.aclose()
                place.note_end(worker)
                self._board.note_gone(place.number)
                extra = {"event": "worker_ended", "worker": place.number, "status": status}
                _log.error("worker %d has ended (%s): it is started again", place.number, _why(status), extra=extra)
            delay = AGAIN_FIRST if loop.time() - began > LIVED else min(delay * 2, AGAIN_MOST)
            await asyncio.sleep(delay)
            began = loop.time()
            self._restarts += 1
            try:
                async with self._changing:
                    await self._start(place)
            except (NoReply, CallFailed, OSError) as error:
                extra = {"event": "worker_not_started", "worker": place.number, "error": str(error)}
                _log.error("worker %d cannot be started, it is tried again: %s", place.number, error, extra=extra)

    async def _look_on(self) -> None:
        while True:
            await asyncio.sleep(LOOK)
            await self.look()

    async def _stop_workers(self, tasks: list[asyncio.Task[None]]) -> None:
        """Let every worker finish what is under way, within `drain` and what its own end takes."""
        for task in tasks:
            task.cancel()
        await asyncio.wait(tasks)
        self._socket.close()  # the workers have it too: when the last has closed it, nobody can connect any more
        await self.ask("stop", must=True)
        loop = asyncio.get_running_loop()
        ending = [loop.create_task(self._end(place)) for place in self._places]
        hurrying = loop.create_task(self._hurry.wait())
        until = loop.time() + self.config.drain + ENDING
        while (left := until - loop.time()) > 0 and not all(each.done() for each in ending):
            await asyncio.wait((hurrying, *ending), timeout=left, return_when=asyncio.FIRST_COMPLETED)
            if hurrying.done() and not hurrying.cancelled():
                await self.ask("hurry", must=True)
                break
        hurrying.cancel()
        await asyncio.wait(ending, timeout=max(0.0, until - loop.time()))
        for place in self._places:
            if place.worker is not None:
                _log.error("worker %d does not end, it is killed", place.number, extra={"event": "worker_killed"})
        await self._kill_workers()
        await asyncio.wait(ending)

    async def _end(self, place: _Place) -> None:
        if (worker := place.worker) is not None:
            await worker.wait()
            place.note_end(worker)
            await worker.calls.aclose()

    async def _kill_workers(self) -> None:
        for worker in self._workers:
            await worker.kill()


class _Together:
    """What the admin server tells of and changes, where there are workers: all of them as one."""

    def __init__(self, supervisor: Supervisor) -> None:
        self._supervisor = supervisor

    async def census(self) -> Census:
        await self._supervisor.look()
        return self._supervisor.census()

    async def pause(self, name: str | None) -> None:
        await self._supervisor.steer(self._supervisor.steered(name).turned(name, paused=True))

    async def resume(self, name: str | None) -> None:
        await self._supervisor.steer(self._supervisor.steered(name).turned(name, paused=False))

    async def set_percent(self, name: str, percent: float) -> None:
        await self._supervisor.steer(self._supervisor.steered(name).with_percent(name, percent))

    async def latest(self, limit: int, verdict: Verdict | None, shadow: str | None) -> list[bytes]:
        answers = await self._supervisor.ask("latest", limit, verdict, shadow)
        dated = [each for answer in answers if isinstance(answer, list) for each in answer]
        return [line for _, line in sorted(dated, reverse=True)[:limit]]

    async def find(self, record: str) -> bytes | None:
        answers = await self._supervisor.ask("find", record)
        return next((answer for answer in answers if isinstance(answer, bytes)), None)


def _why(status: int) -> str:
    if status >= 0:
        return f"status {status}"
    with contextlib.suppress(ValueError):
        return signal.Signals(-status).name
    return f"signal {-status}"
