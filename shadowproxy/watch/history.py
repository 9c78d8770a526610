"""Writes the history of a watched log: whole lines at its end, by one watcher at a time."""

import fcntl
import os
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any, Self

import orjson

from shadowproxy.compare.report.history import FORMAT, KEY, Change, History, Look, history_of


class HistoryError(Exception):
    """A history that cannot be written. The text is one line."""


class HistoryFile:
    """A history and its file. Owns the file and the lock on it; use as a context manager.

    Raises HistoryError if another watcher has it, OSError if it cannot be written.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self._file = open(path, "a+b", buffering=0)  # noqa: SIM115  # it is held open, with its lock
        try:
            fcntl.flock(self._file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            self._file.close()
            raise HistoryError(f"another watcher writes {path}: give each its own --history") from None
        self._file.seek(0)
        self.held: History = history_of(self._file)
        size = self._file.seek(0, os.SEEK_END)
        if size:
            self._file.seek(size - 1)
            if self._file.read(1) != b"\n":
                self._file.write(b"\n")  # a line that was torn stays alone

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._file.close()

    def add(self, look: Look) -> None:
        """Write a look down. Raises OSError."""
        self._write(look)
        self.held.add(look)

    def add_posted(self, change: Change, at: str) -> None:
        """Write down that a change was posted. Raises OSError."""
        self.held.pending.pop(change["id"], None)
        self._write({KEY: FORMAT, "at": at, "posted": change["id"]})

    def _write(self, line: Mapping[str, Any]) -> None:
        raw = orjson.dumps(line, option=orjson.OPT_APPEND_NEWLINE)
        before = self._file.seek(0, os.SEEK_END)
        try:
            while raw:
                raw = raw[self._file.write(raw) :]
            os.fsync(self._file.fileno())
        except OSError:
            with suppress(OSError):
                os.ftruncate(self._file.fileno(), before)  # or the next line would be joined to a part of this one
            raise
