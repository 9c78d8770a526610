"""How workers share out the connections that arrive at the one socket on which all of them listen.

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
import mmap
import os
import socket
import struct
import sys
from collections.abc import Callable, Iterable, Iterator

from shadowproxy.serve.telemetry.operator_log import Repeats, times_text

YIELD = 0.001
"""Seconds for which a worker that has more connections leaves new ones to the others."""

RETRY = 0.5
"""Seconds until it tries again where the system accepts none: it may be out of descriptors."""

_GONE = 2**31 - 1
_COUNT = struct.Struct("=i")
_log = logging.getLogger(__name__)


class Board:
    """How many connections each worker has, in memory shared through `descriptor`. Owns its mapping.

    A descriptor of -1 is for one process alone. The count of a worker that accepts none is so high that no other worker
    leaves connections to it.
    """

    def __init__(self, descriptor: int, workers: int) -> None:
        self._workers = workers
        self._memory = mmap.mmap(descriptor, workers * _COUNT.size)

    @classmethod
    def of_one(cls) -> "Board":
        """For a server that is the only one."""
        return cls(-1, 1)

    def __repr__(self) -> str:
        return f"<Board {list(self.counts())}>"

    def close(self) -> None:
        self._memory.close()

    def counts(self) -> Iterator[int]:
        return (count for (count,) in _COUNT.iter_unpack(self._memory[:]))

    def note(self, worker: int, count: int) -> None:
        _COUNT.pack_into(self._memory, worker * _COUNT.size, count)

    def note_gone(self, worker: int) -> None:
        """The worker accepts no connections."""
        self.note(worker, _GONE)

    def is_ahead(self, worker: int) -> bool:
        """Whether the worker has more than another one; with many connections, more by an eighth."""
        mine, *others = self._mine_first(worker)
        least = min(others, default=_GONE)
        return mine > least + least // 8

    def _mine_first(self, worker: int) -> Iterable[int]:
        every = list(self.counts())
        return (every[worker], *every[:worker], *every[worker + 1 :])


def shared_memory(workers: int) -> int:
    """The descriptor of a new piece of memory for a Board. The caller closes it."""
    if sys.platform == "linux":
        descriptor = os.memfd_create("shadowproxy-workers", os.MFD_CLOEXEC)
    else:
        import tempfile

        with tempfile.TemporaryFile() as file:
            descriptor = os.dup(file.fileno())
    os.ftruncate(descriptor, workers * _COUNT.size)
    return descriptor


class Acceptor:
    """Accepts a worker's part of the connections, from `start` to `close`. Owns the listening socket, and its tasks.

    It accepts them itself: while no file descriptor is free, libuv would accept and close a new connection; one that
    stays in the kernel's queue is answered later. `protocol` makes the protocol of a connection, `count_open` counts
    the open ones.
    """

    def __init__(
        self,
        listening: socket.socket,
        board: Board,
        worker: int,
        *,
        protocol: Callable[[], asyncio.Protocol],
        count_open: Callable[[], int],
    ) -> None:
        self._listening = listening
        self._board = board
        self._worker = worker
        self._protocol = protocol
        self._count_open = count_open
        self._loop = asyncio.get_running_loop()
        self._opening: set[asyncio.Task[object]] = set()
        self._timer: asyncio.TimerHandle | None = None
        self._repeats = Repeats()

    def start(self) -> None:
        self._note()
        self._loop.add_reader(self._listening, self._accept_part)

    async def close(self) -> None:
        """Accept the connections that wait, and then no more. Returns once `count_open` counts all of them."""
        self._pause()
        with contextlib.suppress(OSError):
            while True:
                self._accept()
        self._listening.close()
        self._board.note_gone(self._worker)
        if self._opening:
            await asyncio.wait(self._opening)

    def _accept_part(self) -> None:
        """Accept connections as long as no other worker has fewer."""
        try:
            self._note()
            while not self._board.is_ahead(self._worker):
                self._accept()
        except BlockingIOError:
            return
        except OSError as error:
            self._retry_later(error)
            return
        self._pause()
        self._timer = self._loop.call_later(YIELD, self._accept_the_rest)

    def _accept_the_rest(self) -> None:
        self._loop.add_reader(self._listening, self._accept_part)
        try:
            self._accept()
        except BlockingIOError:
            return
        except OSError as error:
            self._retry_later(error)

    def _accept(self) -> None:
        """Accept one. Raises BlockingIOError where none waits, and OSError where the system accepts none."""
        try:
            connection, _ = self._listening.accept()
        except ConnectionAbortedError:
            return  # the caller has left already
        connection.setblocking(False)
        task = self._loop.create_task(self._open(connection))
        self._opening.add(task)
        task.add_done_callback(self._opening.discard)
        self._note()

    async def _open(self, connection: socket.socket) -> None:
        try:
            await self._loop.connect_accepted_socket(self._protocol, connection)
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
        self._loop.remove_reader(self._listening)
        if self._timer is not None:
            self._timer.cancel()
