"""The queue from the event loop to the writing thread, and the counts of what became of every exchange.

Its rules:

- `append` never waits and never raises. The queue is bounded by number and by bytes; an exchange that does not fit is
  counted as lost.
- Every exchange ends as one line in the log, or is counted under one of LOSSES. `appended = written + queued + lost`,
  always. An exchange that the writing thread has taken is still `queued` until it is written or lost.
"""

import threading
from collections import deque
from collections.abc import Callable
from typing import Final, NamedTuple, TypeAlias

from shadowproxy.exchange import Exchange, Failure, Reply
from shadowproxy.serve.http1.fields import fields_weight
from shadowproxy.serve.journal.notices import Notice, Notices
from shadowproxy.serve.journal.settings import Settings
from shadowproxy.serve.mirror.capture import EXCHANGE

WORKER_ENDED = "worker_ended"
"""Counted by the supervisor: a worker was killed before it had reported the line as written."""

LOSSES = ("journal_full", "journal_closed", "disk_full", "write_error", "encode_error", WORKER_ENDED)
"""Why an exchange has no line in the log. A closed set."""

NEW: Final = "new"
OPEN: Final = "open"
CLOSED: Final = "closed"

Encode: TypeAlias = Callable[[Exchange], bytes]


class Counts(NamedTuple):
    """What became of the exchanges. `queued` and `queued_bytes` include what is being written now."""

    written: int
    bytes: int
    queued: int
    queued_bytes: int
    lost: dict[str, int]
    last_error: str | None


class Queue:
    """Exchanges that wait to be written. `limit` is the most of them, besides `settings.queue_bytes`.

    Any thread may append; the writing thread alone takes. `state` goes from NEW to OPEN to CLOSED, and never back.
    `abandoned`: closing has given up on the writing thread and counted all that was queued as lost.
    """

    def __init__(self, limit: int, settings: Settings, notices: Notices) -> None:
        self.settings = settings
        self.state = NEW
        self.abandoned = False
        self.last_error: str | None = None
        self.queued_bytes = 0
        self._limit = limit
        self._notices = notices
        self._waiting: deque[tuple[Exchange, Encode, int]] = deque()
        self._woken = threading.Event()
        self._closing = threading.Event()
        # Held for a few additions at a time, never over I/O or encoding.
        self._lock = threading.Lock()
        self._resting = False  # the writing thread sleeps until it is woken
        self._queued = 0
        self._written = 0
        self._bytes = 0
        self._lost = dict.fromkeys(LOSSES, 0)
        # The writing thread's own: what it has taken, and neither written nor counted as lost.
        self._taken = 0
        self._taken_weight = 0

    def __repr__(self) -> str:
        return f"<Queue {self.state} written={self._written} queued={self._queued}>"

    # --- any thread --------------------------------------------------------------------------------------------------

    def open(self) -> None:
        """Take exchanges from now on."""
        self.state = OPEN

    def append(self, exchange: Exchange, encode: Encode) -> bool:
        """Take an exchange; False where it was rejected and counted as lost."""
        held = _weight(exchange)
        with self._lock:
            if self.state != OPEN:
                self._lose("journal_closed", 1, None)
                return False
            most = self.settings.queue_bytes
            if self._queued >= self._limit or self.queued_bytes >= most or held > most:
                self._lose("journal_full", 1, None)
                return False
            self._queued += 1
            self.queued_bytes += held
            self._waiting.append((exchange, encode, held))
            wake, self._resting = self._resting, False
        if wake:
            self._woken.set()
        return True

    def counts(self) -> Counts:
        with self._lock:
            lost = {reason: count for reason, count in self._lost.items() if count}
            return Counts(self._written, self._bytes, self._queued, self.queued_bytes, lost, self.last_error)

    def close(self) -> bool:
        """Take no more, and wake the writing thread. False where the queue was not open."""
        with self._lock:
            if self.state != OPEN:
                return False
            self.state = CLOSED
        self._closing.set()
        self._woken.set()
        return True

    def abandon(self) -> None:
        """Count all that is still queued as lost: the writing thread did not write it in time."""
        with self._lock:
            if self._queued:
                self.abandoned = True
                self._lose("journal_closed", self._queued, "the disk did not take it in time")
                self._queued = self.queued_bytes = 0

    def _lose(self, reason: str, count: int, why: str | None) -> None:
        before = self._lost[reason]
        self._lost[reason] = now = before + count
        if why is not None:
            self.last_error = why
        if before.bit_length() != now.bit_length():  # passed 1, 2, 4, 8 ...
            because = f": {why}" if why is not None else ""
            line = f"the log lost {now} records so far ({reason}){because}"
            self._notices.put(Notice("records_lost", line, {"reason": reason, "count": now}))

    # --- the writing thread ------------------------------------------------------------------------------------------

    def take(self) -> tuple[Exchange, Encode, int] | None:
        """The next exchange, what encodes it, and its weight; None where none waits."""
        if not self._waiting:
            return None
        item = self._waiting.popleft()
        self._taken += 1
        self._taken_weight += item[2]
        return item

    def has_waiting(self) -> bool:
        return bool(self._waiting)

    def gather(self, seconds: float) -> None:
        """Let exchanges gather; a queue that closes ends the wait."""
        self._closing.wait(seconds)

    def begin_rest(self) -> bool:
        """Whether nothing waits in an open queue. The next `append`, or closing, then ends the rest."""
        with self._lock:
            self._resting = not self._waiting and self.state == OPEN
            return self._resting

    def rest(self, seconds: float) -> None:
        """Sleep until an exchange comes, the queue closes, or the time is over."""
        self._woken.wait(seconds)
        self._woken.clear()

    def is_finished(self) -> bool:
        """Whether nothing waits, and nothing more can come."""
        closed = self.state == CLOSED  # read first: once the queue is closed, nothing more comes
        return closed and not self._waiting

    def count_written(self, lines: list[bytes], weight: int) -> None:
        """Count exchanges taken earlier, `weight` in all, as written: their `lines` are in the log."""
        self._taken -= len(lines)
        self._taken_weight -= weight
        with self._lock:
            if self.abandoned:
                return  # they were counted as lost
            self._written += len(lines)
            self._bytes += sum(map(len, lines))
            self._queued -= len(lines)
            self.queued_bytes -= weight

    def count_lost(self, count: int, weight: int, reason: str, why: str | None) -> None:
        """Count exchanges taken earlier, `weight` in all, as lost."""
        self._taken -= count
        self._taken_weight -= weight
        with self._lock:
            if self.abandoned:
                return
            self._queued -= count
            self.queued_bytes -= weight
            self._lose(reason, count, why)

    def count_taken_as_lost(self, reason: str, why: str) -> None:
        """Count as lost all that was taken and is neither written nor lost."""
        self.count_lost(self._taken, self._taken_weight, reason, why)


def _weight(exchange: Exchange) -> int:
    """About the bytes an exchange holds in memory."""
    request = exchange.request
    total = EXCHANGE + len(request.body) + len(request.target) + fields_weight(request.fields)
    for leg in (exchange.live, exchange.control, *exchange.shadows.values()):
        reply = leg.reply if isinstance(leg, Failure) else leg
        if isinstance(reply, Reply):
            total += len(reply.body) + fields_weight(reply.fields)
    return total
