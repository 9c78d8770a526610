"""Accepts callers' connections, and stops them in order. Each closes itself when it is idle: connection.py."""

import asyncio
import contextlib
import socket
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from shadowproxy.serve.account import Memory
from shadowproxy.serve.callers.balance import Acceptor
from shadowproxy.serve.callers.board import Board
from shadowproxy.serve.callers.connection import Application, CallerConnection
from shadowproxy.serve.callers.link import Limits
from shadowproxy.serve.callers.shedding import Shedding
from shadowproxy.serve.telemetry.operator_log import Repeats


@dataclass(frozen=True, slots=True)
class Part:
    """Which worker's part of the connections a server accepts."""

    board: Board
    worker: int


class Server:
    """Serves the callers that connect to some listening sockets. Owns these, the connections and their tasks.

    `serve` sets `ready` once it accepts connections, and ends after `stop` is set: requests under way then have `drain`
    seconds to be answered, or less if `hurry` is set. `limits` is called for each connection. With a `part` the server
    is one of several workers. `memory` counts what is held for callers; `shed_copies` gives up copies when it is short.
    """

    def __init__(
        self,
        app: Application,
        *,
        limits: Callable[[], Limits],
        drain: float,
        memory: Memory,
        part: Part | None = None,
        shed_copies: Callable[[], bool] = lambda: False,
    ) -> None:
        self.ready = asyncio.Event()
        self.stop = asyncio.Event()
        self.hurry = asyncio.Event()
        self.drain = drain
        self._app = app
        self._limits = limits
        self._part = part or Part(Board.of_one(), 0)
        self._repeats = Repeats()
        self._memory = memory
        self._connections: set[CallerConnection] = set()
        self.shedding = Shedding(self._connections, memory, shed_copies)
        self._tasks: set[asyncio.Task[None]] = set()

    def __repr__(self) -> str:
        return f"<Server {len(self._connections)} connections, {len(self._tasks)} requests under way>"

    async def serve(self, listening: Sequence[socket.socket]) -> None:
        acceptor = Acceptor(
            listening,
            self._part.board,
            self._part.worker,
            protocol=self._protocol,
            count_open=lambda: len(self._connections),
        )
        acceptor.start()
        self.shedding.start()
        self.ready.set()
        await self.stop.wait()
        await acceptor.close()
        await self._finish()
        self.shedding.stop()

    def _protocol(self) -> CallerConnection:
        return CallerConnection(
            self._app,
            self._connections,
            self._tasks,
            limits=self._limits(),
            repeats=self._repeats,
            memory=self._memory,
        )

    async def _finish(self) -> None:
        """Let every request under way be answered within `drain`, and cut off the rest."""
        for connection in list(self._connections):
            connection.shutdown()
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(self.drain):
                # A set has no event for "empty".
                while (self._connections or self._tasks) and not self.hurry.is_set():  # noqa: ASYNC110
                    await asyncio.sleep(0.005)
        tasks = list(self._tasks)
        for connection in list(self._connections):
            connection.cut_off()  # an idle one too: it might bring another request, for which no log is open any more
        for task in tasks:
            task.cancel()
        if tasks:
            await asyncio.wait(tasks, timeout=1.0)  # each has a record to finish
