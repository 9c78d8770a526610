"""The open file that lines go to: the newest segment, until it is time for the next one, or standard output. For one
thread alone.

Its rules:

- Lines are appended whole. After a write that tore one, the next line starts with a newline of its own.
- A segment is never renamed while it is *.jsonl, and never written again once it has been closed.
- A segment that was removed while it was open is replaced by a new one, and the lines just written go there again.
"""

import contextlib
import errno
import os
import select
import sys
import time
from collections.abc import Callable
from pathlib import Path

from shadowproxy.serve.journal import segments
from shadowproxy.serve.journal.notices import TIDY, Notice, Notices
from shadowproxy.serve.journal.settings import Settings

ROTATE_AGAIN = 1.0
"""Seconds until a new segment is tried again, where none could be opened."""


class Output:
    """Owns one descriptor at most. Standard output, for which `directory` is None, is never closed or rotated.

    `number` is how many segments were opened. `gives_up` says whether to stop waiting for a full pipe.
    """

    def __init__(
        self,
        directory: Path | None,
        *,
        proxy: str,
        settings: Settings,
        notices: Notices,
        gives_up: Callable[[], bool],
        write: Callable[[int, bytes | memoryview], int],
    ) -> None:
        self.settings = settings
        self.number = 0
        self._directory = directory
        self._proxy = proxy
        self._notices = notices
        self._gives_up = gives_up
        self._write_to = write
        self._descriptor = -1
        self._segment: Path | None = None
        self._size = 0
        self._opened = 0.0
        self._torn = False
        self._rotate_after = 0.0

    def __repr__(self) -> str:
        return f"<Output {self._segment or self._directory or '-'} {self._size} bytes>"

    def is_open(self) -> bool:
        return self._descriptor >= 0

    def open(self) -> None:
        """A new segment, or standard output. Raises OSError."""
        if self._directory is not None:
            self._new_segment(self._directory)
        elif sys.stdout is None:
            # Python was started without one: its number may by now be a caller's connection.
            raise OSError(errno.EBADF, "it is closed")
        else:
            self._descriptor = sys.stdout.fileno()

    def write(self, lines: list[bytes], size: int) -> tuple[int, OSError | None]:
        """How many of the lines, `size` bytes in all, are in the log whole, and what stopped the rest.

        Closes the segment first where it is old or would become too large.
        """
        limit = self.settings.rotate_size
        full = limit is not None and self._size > 0 and self._size + size > limit
        if full or self.until_rotation() == 0.0:
            self.rotate()
        done, error = self._write_lines(lines)
        if error is None and self._is_removed():
            # The file was removed while we wrote, and these lines with it. Its earlier lines its remover has taken.
            self.leave_segment()
            done, error = self._write_lines(lines)
        return done, error

    def leave_segment(self) -> None:
        """Close the segment; the next write opens another. Standard output stays open."""
        if self._directory is None or self._descriptor < 0:
            return
        _close_file(self._descriptor, self._segment, self._size)
        self._descriptor, self._size, self._torn = -1, 0, False

    def leave_doubtful(self) -> None:
        """As `leave_segment`, where nobody knows how the last write ended: standard output may end in a torn line."""
        self.leave_segment()
        self._torn = self._directory is None

    def until_rotation(self) -> float | None:
        """Seconds until the segment is old enough to be closed. An empty one is never too old."""
        every = self.settings.rotate_every
        if self._directory is None or every is None or self._size == 0:
            return None
        return max(0.0, max(self._opened + every, self._rotate_after) - time.monotonic())

    def rotate(self) -> None:
        """Close this segment and continue in a new one; where none can be opened, continue in this one."""
        if self._directory is None or time.monotonic() < self._rotate_after:
            return
        before, path, size = self._descriptor, self._segment, self._size
        try:
            self._new_segment(self._directory)
        except OSError as error:
            if self._rotate_after == 0.0:
                line = f"no new segment of the log can be opened, so the old one stays in use: {error.strerror}"
                self._notices.put(Notice("log_trouble", line))
            self._rotate_after = time.monotonic() + ROTATE_AGAIN
            return
        self._rotate_after = 0.0
        _close_file(before, path, size)
        self._notices.put(TIDY)

    def _new_segment(self, directory: Path) -> None:
        self._descriptor, self._segment = segments.create(directory, self._proxy, self.number + 1)
        self._size, self._torn, self._opened = 0, False, time.monotonic()
        self.number += 1

    def _write_lines(self, lines: list[bytes]) -> tuple[int, OSError | None]:
        try:
            if self._descriptor < 0:
                self.open()
            data = b"".join((b"\n" if self._torn else b"", *lines))
            rest = memoryview(data)
            while rest:
                size = self._write_once(rest)
                rest = rest[size:]
            self._torn = False
            return len(lines), None
        except OSError as error:
            if self._descriptor < 0:
                return 0, error
            sent = len(data) - len(rest) - self._torn
            done = 0
            while done < len(lines) and sent >= len(lines[done]):
                sent -= len(lines[done])
                done += 1
            # Before the first byte (sent is -1 or 0, none done) the log ends as it did before.
            self._torn = sent > 0 or (self._torn and sent < 0)
            return done, error

    def _write_once(self, data: memoryview) -> int:
        while True:
            try:
                size = self._write_to(self._descriptor, data)
            except BlockingIOError:
                # Standard output may be a pipe that somebody made non-blocking: a full one is slow, not broken.
                select.select([], [self._descriptor], [], 1.0)
                if self._gives_up():
                    raise
                continue
            if size == 0:
                raise OSError(errno.EIO, "the write took nothing")
            self._size += size
            return size

    def _is_removed(self) -> bool:
        try:
            return self._directory is not None and os.fstat(self._descriptor).st_nlink == 0
        except OSError as error:
            return error.errno == errno.ESTALE  # how NFS reports it


def _close_file(descriptor: int, path: Path | None, size: int) -> None:
    with contextlib.suppress(OSError):
        os.close(descriptor)
    if size == 0 and path is not None:
        with contextlib.suppress(OSError):
            path.unlink()
