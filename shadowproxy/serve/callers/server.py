"""Accepts callers' connections, and stops them in order. Each closes itself when it is idle: connection.py."""

import asyncio
import contextlib
import logging
import socket
import ssl
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from shadowproxy.serve.account import Memory
from shadowproxy.serve.callers.balance import Acceptor
from shadowproxy.serve.callers.board import Board
from shadowproxy.serve.callers.connection import PARTING, Application, CallerConnection
from shadowproxy.serve.callers.link import Limits
from shadowproxy.serve.callers.shedding import Shedding
from shadowproxy.serve.callers.tls import Failures, Secured
from shadowproxy.serve.telemetry.operator_log import Repeats, times_text

_log = logging.getLogger(__name__)


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
    `most` returns how many connections there may be at once, None for any number: others wait in the kernel's queue.
    `tls` is for the connections that come from now on, except over Unix sockets; None: plain.
    """

    def __init__(
        self,
        app: Application,
        *,
        limits: Callable[[], Limits],
        drain: float,
        memory: Memory,
        most: Callable[[], int | None] = lambda: None,
        tls: ssl.SSLContext | None = None,
        part: Part | None = None,
        shed_copies: Callable[[], bool] = lambda: False,
    ) -> None:
        self.ready = asyncio.Event()
        self.stop = asyncio.Event()
        self.hurry = asyncio.Event()
        self.drain = drain
        self.tls = tls
        self._app = app
        self._limits = limits
        self._part = part or Part(Board.of_one(), 0)
        self._repeats = Repeats()
        self._memory = memory
        self._most = most
        self._full_for = 0  # so many looks for room
        self._connections: set[CallerConnection] = set()
        self._handshakes: set[Secured] = set()
        self.tls_failures = Failures(self._repeats)
        self.shedding = Shedding(self._connections, self._handshakes, memory, shed_copies)
        self._tasks: set[asyncio.Task[None]] = set()

    def __repr__(self) -> str:
        return f"<Server {len(self._connections)} connections, {len(self._tasks)} requests under way>"

    async def serve(self, listening: Sequence[socket.socket]) -> None:
        acceptor = Acceptor(
            listening,
            self._part.board,
            self._part.worker,
            protocol=self._protocol,
            count_open=lambda: len(self._connections) + len(self._handshakes),
            make_room=self._make_room,
        )
        acceptor.start()
        self.shedding.start()
        self.ready.set()
        await self.stop.wait()
        await acceptor.close()
        await self._finish()
        self.shedding.stop()

    def _make_room(self, open: int) -> bool:
        """Whether there is a descriptor for one more caller; if not, have some connections end in order."""
        most = self._most()
        if most is None or open < most:
            self._full_for = 0
            return True
        if not self._full_for and (count := self._repeats.worth_logging("full")):
            extra = {"event": "not_accepted", "error": "too many connections", "count": count}
            words = "callers wait to be accepted%s: %d are connected, as many as the limit of open files has room for"
            _log.warning(words, times_text(count), most, extra=extra)
        # The longer others wait, the more end: a few for a moment, half of them for a crowd that only connects.
        self._full_for = min(self._full_for + 1, 16)
        wanted = min(1 << self._full_for - 1, max(1, most // 2))
        self.shedding.make_descriptors(wanted)
        return False

    def _protocol(self, accepted: socket.socket) -> asyncio.Protocol:
        limits, repeats = self._limits(), self._repeats
        connection = CallerConnection(
            self._app, self._connections, self._tasks, limits=limits, repeats=repeats, memory=self._memory
        )
        if self.tls is None or accepted.family == socket.AF_UNIX:
            return connection
        return Secured(
            self.tls,
            connection,
            self._handshakes,
            handshake=limits.head_timeout,
            failures=self.tls_failures,
            memory=self._memory,
        )

    async def _finish(self) -> None:
        """Let every request under way be answered within `drain`, and cut off the rest."""
        for connection in list(self._connections):
            connection.shutdown()
        for handshake in list(self._handshakes):
            handshake.shutdown(PARTING)
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(self.drain):
                # A set has no event for "empty".
                while (self._connections or self._tasks or self._handshakes) and not self.hurry.is_set():  # noqa: ASYNC110
                    await asyncio.sleep(0.005)
        tasks = list(self._tasks)
        for handshake in list(self._handshakes):
            handshake.abort()
        for connection in list(self._connections):
            connection.cut_off()  # an idle one too: it might bring another request, for which no log is open any more
        for task in tasks:
            task.cancel()
        if tasks:
            await asyncio.wait(tasks, timeout=1.0)  # each has a record to finish
