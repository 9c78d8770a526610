"""The latest records, kept in memory so that they can be looked at without the log's files.

Each is exactly the line that the log gets: redacted, hashed and left out alike. Records stand on shelves, one for each
shadow and verdict, and a new record pushes out the oldest of the fullest shelf: a mismatch in ten thousand requests is
not pushed out by the matches after it.
"""

import re
import threading
import time
from collections import deque
from collections.abc import Iterator, Mapping
from itertools import islice
from typing import NamedTuple

from shadowproxy.exchange import Verdict

MAX_RECORDS = 500
MAX_BYTES = 8 << 20
"""Bounds on all kept records together. They do not count towards `limits.memory`: no request is shed for them."""

RECORD_ID = re.compile(r"[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}")
_ID_WITHIN = 512
"""The record ID is within these first bytes of a line: only the request ID stands before it, and that is bounded."""

_ShelfKey = tuple[str, Verdict | None] | None
"""A shadow and its verdict; None for records without a shadow."""


class _Kept(NamedTuple):
    at: int  # nanoseconds of the clock that all processes of a machine share
    line: bytes
    verdicts: Mapping[str, Verdict | None]


class _Shelf:
    __slots__ = ("bytes", "records")

    def __init__(self) -> None:
        self.records: deque[_Kept] = deque()
        self.bytes = 0


class Recent:
    """A bounded number of the latest records. Any thread may add and any may read."""

    def __init__(self, most: int = MAX_RECORDS, most_bytes: int = MAX_BYTES) -> None:
        self._most = most
        self._most_bytes = most_bytes
        # Held for a few additions and removals, and for copying references.
        self._lock = threading.Lock()
        self._shelves: dict[_ShelfKey, _Shelf] = {}
        self._count = 0
        self._bytes = 0

    def __repr__(self) -> str:
        return f"<Recent {self._count} of {self._most} records, {self._bytes} of {self._most_bytes} bytes>"

    def __len__(self) -> int:
        return self._count

    def add(self, line: bytes, verdicts: Mapping[str, Verdict | None]) -> None:
        """Keep a record's line. `verdicts` has each of its shadows, and `control`; None where nothing was compared."""
        if len(line) > self._most_bytes:
            return
        with self._lock:
            self._put(self._emptiest_shelf(verdicts), _Kept(time.monotonic_ns(), line, verdicts))
            while self._bytes > self._most_bytes:
                self._drop_oldest(max(self._shelves, key=self._size))
            while self._count > self._most:
                self._drop_oldest(self._fullest_shelf())

    def latest(self, limit: int, verdict: Verdict | None = None, shadow: str | None = None) -> list[bytes]:
        """The latest lines, newest first. With both, the verdict must be that of the shadow."""
        return [line for _, line in self.dated(limit, verdict, shadow)]

    def dated(self, limit: int, verdict: Verdict | None, shadow: str | None) -> list[tuple[int, bytes]]:
        """Like `latest`, each with a time that orders it among the lines of other processes."""

        def is_wanted(kept: _Kept) -> bool:
            if shadow is not None:
                return shadow in kept.verdicts and verdict in (None, kept.verdicts[shadow])
            return verdict is None or verdict in kept.verdicts.values()

        return [(kept.at, kept.line) for kept in islice(filter(is_wanted, self._newest_first()), limit)]

    def find(self, record: str) -> bytes | None:
        """The line with this record ID, if it is still kept."""
        if not RECORD_ID.fullmatch(record):
            return None
        # A quote within the request ID is escaped, so only the key itself looks like this.
        wanted = b'","record":"%s",' % record.encode()
        found = (kept.line for kept in self._newest_first() if kept.line.find(wanted, 0, _ID_WITHIN) >= 0)
        return next(found, None)

    def _newest_first(self) -> Iterator[_Kept]:
        with self._lock:
            every = [kept for shelf in self._shelves.values() for kept in shelf.records]
        return iter(sorted(every, key=lambda kept: kept.at, reverse=True))

    def _emptiest_shelf(self, verdicts: Mapping[str, Verdict | None]) -> _ShelfKey:
        """The shelf, of those that a record fits, on which it may stay longest: what is rare about it counts."""
        if len(verdicts) == 1:  # the most frequent case, with nothing to choose
            return next(iter(verdicts.items()))
        return min(verdicts.items(), key=self._height, default=None)

    def _fullest_shelf(self) -> _ShelfKey:
        fullest: _ShelfKey = None
        most = 0
        for key, shelf in self._shelves.items():  # no `max`: it calls back for each, and this is called for each record
            height = len(shelf.records)
            if height > most:
                fullest, most = key, height
        return fullest

    def _height(self, key: _ShelfKey) -> int:
        shelf = self._shelves.get(key)
        return 0 if shelf is None else len(shelf.records)

    def _size(self, key: _ShelfKey) -> int:
        return self._shelves[key].bytes

    def _put(self, key: _ShelfKey, kept: _Kept) -> None:
        shelf = self._shelves.get(key)
        if shelf is None:
            shelf = self._shelves[key] = _Shelf()
        shelf.records.append(kept)
        shelf.bytes += len(kept.line)
        self._count += 1
        self._bytes += len(kept.line)

    def _drop_oldest(self, key: _ShelfKey) -> None:
        """Take the oldest record off this shelf, and put it on another one that it fits, if that is emptier."""
        shelf = self._shelves[key]
        kept = shelf.records.popleft()
        shelf.bytes -= len(kept.line)
        self._count -= 1
        self._bytes -= len(kept.line)
        height = len(shelf.records)
        if not height:
            del self._shelves[key]
        if len(kept.verdicts) == 1:  # no other shelf fits
            return
        other = self._emptiest_shelf(kept.verdicts)
        if self._height(other) < height:  # strictly, so that a record is not moved for ever
            self._put(other, kept)
