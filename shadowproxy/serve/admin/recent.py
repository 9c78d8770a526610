"""The latest records, kept in memory so that they can be looked at without the log's files.

Each is the very line that the log gets, so what is redacted, hashed or left out there is so here. Records stand on
shelves, one for each shadow and verdict, and the fullest shelf gives way: a mismatch in ten thousand requests is not
pushed out by the matches that came after it.
"""

import re
import threading
import time
from collections import deque
from collections.abc import Iterator, Mapping
from itertools import islice
from typing import NamedTuple

from shadowproxy.exchange import Verdict

MOST = 500
MOST_BYTES = 8 << 20
"""Bounds on what is kept, all records together. They are not part of `limits.memory`: nothing is shed for them."""

RECORD_ID = re.compile(r"[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}")
_ID_WITHIN = 512
"""A line's first bytes, in which its record ID stands: before it there is only the request ID, which is bounded."""

_Place = tuple[str, Verdict | None] | None


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
    """A bounded number of the latest records. Any thread may add and any may look."""

    def __init__(self, most: int = MOST, most_bytes: int = MOST_BYTES) -> None:
        self._most = most
        self._most_bytes = most_bytes
        # Held for a few additions and removals, and for copying references.
        self._lock = threading.Lock()
        self._shelves: dict[_Place, _Shelf] = {}
        self._count = 0
        self._bytes = 0

    def __repr__(self) -> str:
        return f"<Recent {self._count} of {self._most} records, {self._bytes} of {self._most_bytes} bytes>"

    def __len__(self) -> int:
        return self._count

    def add(self, line: bytes, verdicts: Mapping[str, Verdict | None]) -> None:
        """Keep a record's line. `verdicts` has each shadow that it tells of, and `control`: None where not compared."""
        if len(line) > self._most_bytes:
            return
        with self._lock:
            self._put(self._emptiest(verdicts), _Kept(time.monotonic_ns(), line, verdicts))
            while self._bytes > self._most_bytes:
                self._give_way(max(self._shelves, key=self._size))
            while self._count > self._most:
                self._give_way(max(self._shelves, key=self._height))

    def latest(self, limit: int, verdict: Verdict | None = None, shadow: str | None = None) -> list[bytes]:
        """The latest lines, newest first: those that tell of `shadow`, have `verdict`, or have it of that shadow."""
        return [line for _, line in self.dated(limit, verdict, shadow)]

    def dated(self, limit: int, verdict: Verdict | None, shadow: str | None) -> list[tuple[int, bytes]]:
        """As `latest`, each with a time by which it can be put in order with those of other processes."""

        def asked_for(kept: _Kept) -> bool:
            if shadow is not None:
                return shadow in kept.verdicts and verdict in (None, kept.verdicts[shadow])
            return verdict is None or verdict in kept.verdicts.values()

        return [(kept.at, kept.line) for kept in islice(filter(asked_for, self._newest_first()), limit)]

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

    def _emptiest(self, verdicts: Mapping[str, Verdict | None]) -> _Place:
        """Of a record's places the one where it may stay longest: what is rare of it counts."""
        if len(verdicts) == 1:  # the most frequent, and then there is nothing to choose
            return next(iter(verdicts.items()))
        return min(verdicts.items(), key=self._height, default=None)

    def _height(self, place: _Place) -> int:
        shelf = self._shelves.get(place)
        return 0 if shelf is None else len(shelf.records)

    def _size(self, place: _Place) -> int:
        return self._shelves[place].bytes

    def _put(self, place: _Place, kept: _Kept) -> None:
        shelf = self._shelves.get(place)
        if shelf is None:
            shelf = self._shelves[place] = _Shelf()
        shelf.records.append(kept)
        shelf.bytes += len(kept.line)
        self._count += 1
        self._bytes += len(kept.line)

    def _give_way(self, place: _Place) -> None:
        """Take the oldest record off its shelf, for good unless another of its places has become much emptier."""
        shelf = self._shelves[place]
        kept = shelf.records.popleft()
        shelf.bytes -= len(kept.line)
        self._count -= 1
        self._bytes -= len(kept.line)
        height = len(shelf.records)
        if not height:
            del self._shelves[place]
        other = self._emptiest(kept.verdicts)
        if self._height(other) < height:  # strictly, so that a record is not passed round for ever
            self._put(other, kept)
