"""How workers share out the connections that arrive at the sockets on which all of them listen.

The kernel wakes every worker for a connection, and an event loop accepts all that wait: the first to wake would get all
of them. Measured with 16 callers that connect at once, one of two workers had 16 and the other none, for as long as
these connections are kept alive.

So each worker writes into shared memory how many it has. A worker that has more than another leaves new connections to
the others for a moment. It accepts those that still wait then: the others may be busy, or hang.
"""

import asyncio
import contextlib
import errno
import logging
import socket
from collections.abc import Callable, Sequence

from shadowproxy.serve.callers.board import Board
from shadowproxy.serve.telemetry.operator_log import Repeats, times_text

YIELD = 0.001
"""Seconds for which a worker that has more connections leaves new ones to the others."""

RETRY = 0.5
"""Seconds until it tries again where the system accepts none: it may be out of descriptors."""

FULL = 0.02
"""Seconds until it looks again whether there is room for one more."""

UNSENT = 128 << 10
"""Bytes that the kernel takes of a response before it has sent them. Without a bound it held 3 to 4 MB for each caller
who took nothing, which count as the container's memory, and which no account here sees."""

_NOTSENT: int | None = getattr(socket, "TCP_NOTSENT_LOWAT", None)  # not on every system

_log = logging.getLogger(__name__)


class Acceptor:
    """Accepts a worker's part of the connections, from `start` to `close`. Owns the listening sockets, and its tasks.

    It accepts them itself: while no file descriptor is free, libuv would accept and close a new connection; one that
    stays in the kernel's queue is answered later. `protocol` makes the protocol of a connection from its socket,
    `count_open` counts the open ones. `make_room` is called with how many there are before one more is accepted; False
    leaves it waiting.
    """

    def __init__(
        self,
        listening: Sequence[socket.socket],
        board: Board,
        worker: int,
        *,
        protocol: Callable[[socket.socket], asyncio.Protocol],
        count_open: Callable[[], int],
        make_room: Callable[[int], bool] = lambda _: True,
    ) -> None:
        self._listening = listening
        self._board = board
        self._worker = worker
        self._protocol = protocol
        self._count_open = count_open
        self._make_room = make_room
        self._loop = asyncio.get_running_loop()
        self._opening: set[asyncio.Task[object]] = set()
        self._timer: asyncio.TimerHandle | None = None
        self._repeats = Repeats()

    def start(self) -> None:
        self._note()
        self._watch()

    async def close(self) -> None:
        """Accept the connections that wait, and then no more. Returns once `count_open` counts all of them."""
        self._pause()
        for listening in self._listening:
            with contextlib.suppress(OSError):
                while True:
                    self._accept(listening)
            listening.close()
        self._board.note_gone(self._worker)
        if self._opening:
            await asyncio.wait(self._opening)

    def _watch(self) -> None:
        for listening in self._listening:
            self._loop.add_reader(listening, self._accept_part, listening)

    def _accept_part(self, listening: socket.socket) -> None:
        """Accept connections as long as no other worker has fewer."""
        try:
            self._note()
            while not self._board.is_ahead(self._worker):
                if not self._has_room():
                    return
                self._accept(listening)
        except BlockingIOError:
            return
        except OSError as error:
            self._retry_later(error)
            return
        self._pause()
        self._timer = self._loop.call_later(YIELD, self._accept_the_rest)

    def _has_room(self) -> bool:
        """Whether there is room for one more connection; if not, it is looked for again after FULL seconds."""
        if self._make_room(self._count_open() + len(self._opening)):
            return True
        self._pause()
        self._timer = self._loop.call_later(FULL, self._accept_waiting)
        return False

    def _accept_waiting(self) -> None:
        self._watch()
        for listening in self._listening:
            self._accept_part(listening)

    def _accept_the_rest(self) -> None:
        if not self._has_room():
            return
        self._watch()
        for listening in self._listening:
            try:
                self._accept(listening)
            except BlockingIOError:
                continue
            except OSError as error:
                self._retry_later(error)
                return

    def _accept(self, listening: socket.socket) -> None:
        """Accept one. Raises BlockingIOError where none waits, and OSError where the system accepts none."""
        try:
            connection, _ = listening.accept()
        except ConnectionAbortedError:
            return  # the caller has left already
        connection.setblocking(False)
        if _NOTSENT is not None and connection.family != socket.AF_UNIX:
            with contextlib.suppress(OSError):  # the caller has reset it
                connection.setsockopt(socket.IPPROTO_TCP, _NOTSENT, UNSENT)
        task = self._loop.create_task(self._open(connection))
        self._opening.add(task)
        task.add_done_callback(self._opening.discard)
        self._note()

    async def _open(self, connection: socket.socket) -> None:
        try:
            await self._loop.connect_accepted_socket(lambda: self._protocol(connection), connection)
        except OSError:
            connection.close()  # reset meanwhile

    def _note(self) -> None:
        self._board.note(self._worker, self._count_open() + len(self._opening))

    def _retry_later(self, error: OSError) -> None:
        self._pause()
        self._timer = self._loop.call_later(RETRY, self.start)
        reason = errno.errorcode.get(error.errno or 0, "")
        if count := self._repeats.worth_logging(reason):
            extra = {"event": "not_accepted", "error": error.strerror, "count": count}
            _log.error("a connection could not be accepted%s: %s", times_text(count), error.strerror, extra=extra)

    def _pause(self) -> None:
        for listening in self._listening:
            self._loop.remove_reader(listening)
        if self._timer is not None:
            self._timer.cancel()
