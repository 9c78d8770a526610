"""The log that a replay writes: segments like a proxy's, with whole lines only."""

import contextlib
import os
from pathlib import Path
from typing import Final

from shadowproxy.replay.plan import ReplayError
from shadowproxy.serve.journal.segments import create

SEGMENT_SIZE: Final = 256 << 20
"""Bytes after which the next segment begins."""


class Output:
    """The new log: segments as a proxy writes them. Owns the open one until `close`. Methods raise OSError."""

    def __init__(self, directory: Path, proxy: str) -> None:
        self._directory = directory
        self._proxy = proxy
        self._number = 0
        self._descriptor = -1
        self._path = directory
        self._size = 0
        try:
            self._open()
        except OSError as error:
            raise ReplayError(f"cannot write {directory}: {error.strerror or error}") from error

    def append(self, line: bytes) -> None:
        """Write a line, whole or not at all."""
        if self._size and self._size + len(line) > SEGMENT_SIZE:
            os.close(self._descriptor)
            self._open()
        rest = memoryview(line)
        try:
            while rest:
                rest = rest[os.write(self._descriptor, rest) :]
        except OSError:
            with contextlib.suppress(OSError):
                os.ftruncate(self._descriptor, self._size)
            raise
        self._size += len(line)

    def close(self) -> None:
        os.close(self._descriptor)
        if self._size == 0:
            self._path.unlink(missing_ok=True)

    def _open(self) -> None:
        self._number += 1
        self._descriptor, self._path = create(self._directory, self._proxy, self._number)
        self._size = 0
