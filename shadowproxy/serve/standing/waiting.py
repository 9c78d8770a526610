"""The lines that wait to be folded: put there by the thread that writes the log, which never waits.

Each count has one thread that changes it.
"""

from collections import deque
from collections.abc import Iterable, Iterator
from typing import Final, NamedTuple
from zlib import crc32

from shadowproxy.serve.standing.settings import StandingSettings

MOST_BYTES: Final = 4 << 20
"""Bytes of lines that may wait."""

LONGEST: Final = 1 << 20
"""Bytes of the longest line that is folded: to take apart a longer one holds up the writing of others."""

_HEAD: Final = 512  # the record's ID is within these first bytes of its line
_ID: Final = b'"record":"'
_ID_LENGTH: Final = 36


class WaitingLine(NamedTuple):
    """A record's line, that counts as one of `draw`, and the settings under which it was recorded."""

    line: bytes
    draw: int
    of: StandingSettings


class WaitingLines:
    """A bounded queue. Attributes: `level` says which part of the lines is taken (budget.py); the others count.

    records: written records, of which `put` were queued, in `put_bytes`; `shed` did not fit, `long` are longer than
        LONGEST.
    done, done_bytes: those that were taken off.
    """

    def __init__(self) -> None:
        self.level = 0
        self.records = 0
        self.put = 0
        self.put_bytes = 0
        self.shed = 0
        self.long = 0
        self.done = 0
        self.done_bytes = 0
        self._lines: deque[WaitingLine] = deque()

    def __len__(self) -> int:
        return len(self._lines)

    def __repr__(self) -> str:
        return f"<WaitingLines {len(self)}, {self.size} bytes>"

    @property
    def size(self) -> int:
        return self.put_bytes - self.done_bytes

    def offer(self, lines: Iterable[tuple[bytes, StandingSettings]]) -> None:
        """Draw the lines that are folded, and queue them; those that do not fit are counted."""
        level = self.level
        for line, of in lines:
            self.records += 1
            if level and not drawn(line, level):
                continue
            if len(line) > LONGEST:
                self.long += 1 << level
                continue
            if self.put_bytes - self.done_bytes > MOST_BYTES:
                self.shed += 1 << level
                continue
            self.put += 1
            self.put_bytes += len(line)
            self._lines.append(WaitingLine(line, 1 << level, of))

    def take(self) -> Iterator[WaitingLine]:
        """Those that wait now, each taken off as it comes."""
        for _ in range(len(self._lines)):
            found = self._lines.popleft()
            self.done += 1
            self.done_bytes += len(found.line)
            yield found


def drawn(line: bytes, level: int) -> bool:
    """Whether a record is one of those that are folded: one in 2^level, by its own ID."""
    at = line.find(_ID, 0, _HEAD) + len(_ID)
    return crc32(line[at : at + _ID_LENGTH]) & ((1 << level) - 1) == 0
