"""One of several workers: a process that the supervisor starts, steers and stops.

`python -m shadowproxy.serve.workers.process CALLS LISTENING BOARD` with three inherited descriptors: the connection to
the supervisor, the socket that callers connect to, and the memory in which workers note how many connections they have.
The supervisor's first call brings everything else. A worker ends cleanly when the supervisor stops it, on SIGTERM, and
when the supervisor is gone.
"""

# First of all: importing the rest takes a while, and a signal during it would end the process.
from shadowproxy.serve.system import signals

if __name__ == "__main__":
    signals.prepare_worker()

import asyncio
import gc
import logging
import signal
import socket
import sys
from contextlib import AsyncExitStack

import uvloop

from shadowproxy.exchange import Verdict
from shadowproxy.serve.admin.census import Census
from shadowproxy.serve.callers.addresses import StartError
from shadowproxy.serve.callers.balance import Board
from shadowproxy.serve.sidecar.contexts import Contexts
from shadowproxy.serve.sidecar.generation import GenerationError
from shadowproxy.serve.sidecar.root import Sidecar
from shadowproxy.serve.sidecar.share import Share, WorkerStart
from shadowproxy.serve.sidecar.specs import Specs
from shadowproxy.serve.sidecar.steering import Steering
from shadowproxy.serve.system.interpreter import prepare_process
from shadowproxy.serve.telemetry import operator_log
from shadowproxy.serve.workers.channel import Answers, CallFailed

_log = logging.getLogger("shadowproxy")


def main() -> None:
    calls, listening = (socket.socket(fileno=int(argument)) for argument in sys.argv[1:3])
    listening.setblocking(False)
    prepare_process()
    gc.freeze()  # imported objects stay for good: the garbage collector need not scan them
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        runner.run(_run(calls, listening, int(sys.argv[3])))


async def _run(calls: socket.socket, listening: socket.socket, board: int) -> None:
    async with AsyncExitStack() as log:
        worker = _Worker(listening, board, log)
        loop = asyncio.get_running_loop()
        for number in signals.STOPPING:
            loop.add_signal_handler(number, worker.stopping.set)
        loop.add_signal_handler(signal.SIGUSR1, worker.reopen)
        signals.release()
        answers = Answers(
            {
                "start": worker.start,
                "census": worker.census,
                "steer": worker.steer,
                "prepare": worker.prepare,
                "adopt": worker.adopt,
                "latest": worker.latest,
                "find": worker.find,
                "stop": worker.stop,
                "hurry": worker.hurry,
            }
        )
        await answers.open(calls)
        answering = loop.create_task(answers.serve())
        answering.add_done_callback(lambda _: worker.supervisor_gone())
        await worker.stopping.wait()
        closing = await worker.close()  # calls are answered meanwhile
        answering.cancel()
        await asyncio.wait([answering])
        await answers.aclose(closing)
        signals.hold_back()


class _Worker:
    """The calls that the supervisor can make. `log` closes the operator's log, last of all."""

    def __init__(self, listening: socket.socket, board: int, log: AsyncExitStack) -> None:
        self.stopping = asyncio.Event()
        self._listening = listening
        self._board = board
        self._log = log
        self._sidecar: Sidecar  # set by `start`, which the supervisor calls first and waits for
        self._started = False
        self._next: tuple[Specs, Contexts]
        self._starting = asyncio.Lock()

    async def start(self, start: WorkerStart) -> Census:
        log = self._log.enter_context(operator_log.opened(start.log_settings, worker=start.number))
        access = log.access if start.log_settings.access else None
        share = Share(start, self._listening, Board(self._board, start.workers))
        self._sidecar = Sidecar(start.specs, access=access, share=share)
        async with self._starting:
            try:
                await self._sidecar.__aenter__()
            except StartError as error:
                raise CallFailed(str(error)) from error
            self._started = True
        return self._sidecar.census()

    def reopen(self) -> None:
        if self._started:  # before that it has its supervisor's files, and the supervisor sends this signal again
            self._sidecar.reopen()

    async def close(self) -> Census | None:
        """Stop, in order. Returns the last counts, None where nothing was started."""
        async with self._starting:
            if not self._started:
                return None
            await self._sidecar.__aexit__(None, None, None)
        return self._sidecar.census()

    async def census(self) -> Census:
        return self._sidecar.census()

    async def steer(self, steering: Steering) -> None:
        await self._sidecar.steer(steering)

    async def prepare(self, specs: Specs, only: frozenset[str] | None) -> None:
        try:
            self._next = specs, await self._sidecar.prepare(specs.live, only)
        except GenerationError as error:
            raise CallFailed(str(error)) from error

    async def adopt(self) -> None:
        self._sidecar.switch(*self._next)

    async def latest(self, limit: int, verdict: Verdict | None, shadow: str | None) -> list[tuple[int, bytes]]:
        return self._sidecar.recent.dated(limit, verdict, shadow)

    async def find(self, record: str) -> bytes | None:
        return self._sidecar.recent.find(record)

    async def stop(self) -> None:
        self.stopping.set()

    async def hurry(self) -> None:
        self.stopping.set()
        self._sidecar.hurry()

    def supervisor_gone(self) -> None:
        if not self.stopping.is_set():
            _log.error("the supervisor has ended, this worker stops too", extra={"event": "supervisor_gone"})
            self.stopping.set()


if __name__ == "__main__":
    main()
