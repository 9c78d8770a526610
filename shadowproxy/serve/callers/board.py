"""How many connections each live process has, in memory that all of them share: balance.py reads it."""

import mmap
import os
import struct
import sys
from collections.abc import Iterable, Iterator

MOST = 128
"""Workers that a board has room for: the most that a configuration may ask for."""

_GONE = 2**31 - 1
_COUNT = struct.Struct("=i")


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


def shared_memory() -> int:
    """The descriptor of a new piece of memory for a Board. The caller closes it.

    It is made before the configuration is read, so it has room for any number of workers.
    """
    if sys.platform == "linux":
        descriptor = os.memfd_create("shadowproxy-workers", os.MFD_CLOEXEC)
    else:
        import tempfile

        with tempfile.TemporaryFile() as file:
            descriptor = os.dup(file.fileno())
    os.ftruncate(descriptor, MOST * _COUNT.size)
    return descriptor
