"""How workers share out the connections that come in at the one socket on which all of them listen.

The kernel wakes every worker for a connection, and an event loop takes all that wait: the first to wake would have them
all. Measured with 16 callers that connect at once, one of two workers had 16 and the other none; it is their
connections for as long as they are kept alive.

So each worker notes in memory that they share how many it has. One that has more than another leaves what comes to the
others for a moment. What is still there then it takes all the same: they may be busy, or hang.
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

LEAVE = 0.001
"""Seconds for which a worker that has more connections leaves new ones to the others."""

AGAIN = 0.5
"""Seconds without taking any, where the system refuses: it may be out of descriptors."""

_GONE = 2**31 - 1
_COUNT = struct.Struct("=i")
_log = logging.getLogger(__name__)


class Board:
    """How many connections each worker has, in memory shared by whoever has `descriptor`. Owns its mapping.

    A descriptor of -1 shares it with nobody. The count of one that takes none is so high that nobody leaves any to it.
    """

    def __init__(self, descriptor: int, workers: int) -> None:
        self._workers = workers
        self._memory = mmap.mmap(descriptor, workers * _COUNT.size)

    @classmethod
    def of_one(cls) -> "Board":
        """For a worker that has nobody to share with."""
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
        """It takes no connections."""
        self.note(worker, _GONE)

    def is_ahead(self, worker: int) -> bool:
        """Whether it has more than another one: with many connections, more by an eighth."""
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


class Taking:
    """Takes a worker's part of the connections, from `start` to `close`. Owns the listening socket, and its tasks.

    `protocol` is what answers on one connection, `open_now` says how many are open.
    """

    def __init__(
        self,
        listening: socket.socket,
        board: Board,
        worker: int,
        *,
        protocol: Callable[[], asyncio.Protocol],
        open_now: Callable[[], int],
    ) -> None:
        self._listening = listening
        self._board = board
        self._worker = worker
        self._protocol = protocol
        self._open_now = open_now
        self._loop = asyncio.get_running_loop()
        self._opening: set[asyncio.Task[object]] = set()
        self._timer: asyncio.TimerHandle | None = None
        self._repeats = Repeats()

    def start(self) -> None:
        self._note()
        self._loop.add_reader(self._listening, self._take_part)

    async def close(self) -> None:
        """Take what waits, and then no more. Returns once `open_now` counts all that was taken."""
        self._rest()
        with contextlib.suppress(OSError):
            while True:
                self._take()
        self._listening.close()
        self._board.note_gone(self._worker)
        if self._opening:
            await asyncio.wait(self._opening)

    def _take_part(self) -> None:
        """Take what comes, as long as no other worker has less."""
        try:
            self._note()
            while not self._board.is_ahead(self._worker):
                self._take()
        except BlockingIOError:
            return
        except OSError as error:
            self._wait_for_room(error)
            return
        self._rest()
        self._timer = self._loop.call_later(LEAVE, self._take_what_is_left)

    def _take_what_is_left(self) -> None:
        self._loop.add_reader(self._listening, self._take_part)
        try:
            self._take()
        except BlockingIOError:
            return
        except OSError as error:
            self._wait_for_room(error)

    def _take(self) -> None:
        """Raises BlockingIOError where none waits, and OSError where the system refuses."""
        try:
            connection, _ = self._listening.accept()
        except ConnectionAbortedError:
            return  # who connected is gone already
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
        self._board.note(self._worker, self._open_now() + len(self._opening))

    def _wait_for_room(self, error: OSError) -> None:
        self._rest()
        self._timer = self._loop.call_later(AGAIN, self.start)
        reason = errno.errorcode.get(error.errno or 0, "")
        if count := self._repeats.worth_logging(reason):
            extra = {"event": "not_accepted", "error": error.strerror, "count": count}
            _log.error("no connection can be taken%s: %s", times_text(count), error.strerror, extra=extra)

    def _rest(self) -> None:
        self._loop.remove_reader(self._listening)
        if self._timer is not None:
            self._timer.cancel()
