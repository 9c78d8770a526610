"""The queue from the event loop to the writing thread, and the counts of what became of every exchange.

Its rules:

- `append` never waits and never raises. The queue is bounded by number and by bytes; an exchange that does not fit is
  counted as lost.
- Every exchange ends as one line in the log, is left out by `log.sample`, or is counted under one of LOSSES.
  `appended = written + sampled_out + queued + lost`, always, in all and for each source. An exchange that the writing
  thread has taken is still `queued` until it has come to its end.
- A large exchange goes a way of its own: it is encoded by a second thread, and its line then waits here to be written.
  So small exchanges wait for none of the milliseconds, or seconds, that a large one takes to be compared.
"""

import threading
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from typing import Final, NamedTuple, TypeAlias

from shadowproxy.exchange import Exchange, Failure, Reply, Verdict
from shadowproxy.serve.http1.fields import fields_weight
from shadowproxy.serve.journal.losses import LOSSES
from shadowproxy.serve.journal.notices import Notice, Notices
from shadowproxy.serve.journal.settings import Settings
from shadowproxy.serve.journal.source import Settled, Source
from shadowproxy.serve.mirror.capture import EXCHANGE

LARGE = 128 << 10
"""Bytes from which on an exchange is large. Comparing two answers of half of it takes about the time of a whole batch
of ordinary ones."""

NEW: Final = "new"
OPEN: Final = "open"
CLOSED: Final = "closed"

Encode: TypeAlias = Callable[[Exchange], tuple[bytes, Mapping[str, Verdict | None], Sequence[str]]]
"""Makes the line of an exchange, the verdict on each of its shadows (None where nothing was compared), and the names of
the endpoints whose answers say that they failed. The line is empty where `log.sample` leaves the exchange out."""


class Counts(NamedTuple):
    """What became of the exchanges. `queued` and `queued_bytes` include what is being written now."""

    written: int
    bytes: int
    queued: int
    queued_bytes: int
    lost: dict[str, int]
    last_error: str | None
    sampled_out: int


class Item:
    """An exchange in the queue. `line` is empty until it is `encoded`, and stays so if `log.sample` leaves it out."""

    __slots__ = ("encode", "encoded", "exchange", "failed", "large", "line", "source", "verdicts", "weight")

    def __init__(self, exchange: Exchange, encode: Encode, weight: int, source: Source) -> None:
        self.exchange = exchange
        self.encode = encode
        self.weight = weight
        self.source = source
        self.large = weight >= LARGE
        self.line = b""
        self.encoded = False
        self.verdicts: Mapping[str, Verdict | None] = {}
        self.failed: Sequence[str] = ()

    def encode_line(self) -> None:
        """Raises whatever encoding raises."""
        self.line, self.verdicts, self.failed = self.encode(self.exchange)
        self.encoded = True


class Queue:
    """Exchanges that wait to be written. `limit` is the most of them, besides `settings.queue_bytes`.

    Any thread may append; the writing thread alone takes, and the second thread the large ones. `state` goes from NEW
    to OPEN to CLOSED, and never back. `abandoned`: closing has given up on the writing thread and counted all that was
    queued as lost.
    """

    def __init__(self, limit: int, settings: Settings, notices: Notices) -> None:
        self.settings = settings
        self.state = NEW
        self.abandoned = False
        self.last_error: str | None = None
        self.queued_bytes = 0
        self._limit = limit
        self._notices = notices
        self._waiting: deque[Item] = deque()
        self._woken = threading.Event()
        self._closing = threading.Event()
        # Held for a few additions at a time, never over I/O or encoding.
        self._lock = threading.Lock()
        self._resting = False  # the writing thread sleeps until it is woken
        self._queued = 0
        self._written = 0
        self._bytes = 0
        self._sampled_out = 0
        self._lost = dict.fromkeys(LOSSES, 0)
        self._own = Source()  # of exchanges whose sender does not ask
        self._sources = {self._own}
        # The large ones: those that wait to be encoded, how many of these or under work, and the bytes of all of them.
        self._large: deque[Item] = deque()
        self._large_woken = threading.Event()
        self._large_unready = 0
        self._large_bytes = 0
        # The writing thread's own: what it has taken, and neither written nor counted as lost.
        self._taken: set[Item] = set()

    def __repr__(self) -> str:
        return f"<Queue {self.state} written={self._written} queued={self._queued}>"

    # --- any thread --------------------------------------------------------------------------------------------------

    def open(self) -> None:
        """Take exchanges from now on."""
        self.state = OPEN

    def append(self, exchange: Exchange, encode: Encode, source: Source | None = None) -> bool:
        """Take an exchange; False where it was rejected and counted as lost."""
        item = Item(exchange, encode, _weight(exchange), source or self._own)
        with self._lock:
            item.source.queued += 1
            if (refused := self._refusal(item)) is not None:
                self._lose(item.source, refused, 1, None)
                return False
            self._queued += 1
            self.queued_bytes += item.weight
            if item.large:
                self._large_bytes += item.weight
                self._large_unready += 1
                self._large.append(item)
                self._large_woken.set()
                return True
            self._waiting.append(item)
            wake, self._resting = self._resting, False
        if wake:
            self._woken.set()
        return True

    def has_room(self, more: int) -> bool:
        """Whether a quarter is left of the queue, with `more` bytes on their way. An empty queue always has room."""
        with self._lock:
            if not self._queued:
                return True
            full = self.queued_bytes + more >= self.settings.queue_bytes * 3 // 4
            return not full and self._queued < self._limit * 3 // 4

    def counts(self) -> Counts:
        with self._lock:
            lost = {reason: count for reason, count in self._lost.items() if count}
            return Counts(
                self._written, self._bytes, self._queued, self.queued_bytes, lost, self.last_error, self._sampled_out
            )

    def add_source(self) -> Source:
        """A sender of exchanges whose counts are kept apart, until `remove_source`."""
        source = Source()
        with self._lock:
            self._sources.add(source)
        return source

    def remove_source(self, source: Source) -> None:
        """Forget a source, unless exchanges of it are still queued: `abandon` counts these."""
        with self._lock:
            if not source.queued:
                self._sources.discard(source)

    def take_settled(self, source: Source) -> Settled | None:
        """What became of this source's exchanges since the last call; None where nothing did."""
        with self._lock:
            return source.take()

    def lose(self, source: Source, reason: str, why: str | None) -> None:
        """Count as lost an exchange of this source that could not even be queued."""
        with self._lock:
            source.queued += 1
            self._lose(source, reason, 1, why)

    def close(self) -> bool:
        """Take no more, and wake the threads. False where the queue was not open."""
        with self._lock:
            if self.state != OPEN:
                return False
            self.state = CLOSED
        self._closing.set()
        self._woken.set()
        self._large_woken.set()
        return True

    def abandon(self) -> None:
        """Count all that is still queued as lost: the writing thread did not write it in time."""
        with self._lock:
            if self._queued:
                self.abandoned = True
                for source in self._sources:
                    if source.queued:
                        self._lose(source, "journal_closed", source.queued, "the disk did not take it in time")
                self._queued = self.queued_bytes = 0
        self._large_woken.set()

    def _refusal(self, item: Item) -> str | None:
        """What an exchange is lost for at once; None where there is room for it.

        Large ones may hold half of the bytes at most: or a few would leave none to all the small ones.
        """
        if self.state != OPEN:
            return "journal_closed"
        most = self.settings.queue_bytes
        if self._queued >= self._limit or self.queued_bytes >= most or item.weight > most:
            return "journal_full"
        return "journal_full" if item.large and self._large_bytes >= most // 2 else None

    def _lose(self, source: Source, reason: str, count: int, why: str | None) -> None:
        source.add_lost(reason, count)
        before = self._lost[reason]
        self._lost[reason] = now = before + count
        if why is not None:
            self.last_error = why
        if before.bit_length() != now.bit_length():  # passed 1, 2, 4, 8 ...
            because = f": {why}" if why is not None else ""
            line = f"the log lost {now} records so far ({reason}){because}"
            self._notices.put(Notice("records_lost", line, {"reason": reason, "count": now}))

    # --- the writing thread ------------------------------------------------------------------------------------------

    def take(self) -> Item | None:
        """The next exchange; None where none waits."""
        if not self._waiting:
            return None
        item = self._waiting.popleft()
        self._taken.add(item)
        return item

    def has_waiting(self) -> bool:
        return bool(self._waiting)

    def gather(self, seconds: float) -> None:
        """Let exchanges gather; a queue that closes ends the wait."""
        self._closing.wait(seconds)

    def begin_rest(self) -> bool:
        """Whether nothing waits, and more may come. The next line to be written, or closing, then ends the rest."""
        with self._lock:
            self._resting = not self._waiting and (self.state == OPEN or self._large_unready > 0)
            return self._resting

    def rest(self, seconds: float) -> None:
        """Sleep until an exchange comes, the queue closes, or the time is over."""
        self._woken.wait(seconds)
        self._woken.clear()

    def is_finished(self) -> bool:
        """Whether nothing waits, and nothing more can come."""
        with self._lock:
            return self.state == CLOSED and not self._waiting and not self._large_unready

    def count_written(self, items: list[Item]) -> None:
        """Count exchanges taken earlier as written: their lines are in the log."""
        self._taken.difference_update(items)
        with self._lock:
            if self.abandoned:
                return  # they were counted as lost
            for item in items:
                size = len(item.line)
                item.source.add_verdicts(item.verdicts)
                item.source.add_failed(item.failed)
                item.source.add_written(size)
                self._written += 1
                self._bytes += size
                self._release(item)

    def count_sampled_out(self, item: Item) -> None:
        """Count an exchange taken earlier as left out of the log by `log.sample`."""
        self._taken.discard(item)
        with self._lock:
            if self.abandoned:
                return
            item.source.add_verdicts(item.verdicts)
            item.source.add_failed(item.failed)
            item.source.add_sampled_out()
            self._sampled_out += 1
            self._release(item)

    def count_lost(self, items: list[Item], reason: str, why: str | None) -> None:
        """Count exchanges taken earlier as lost. A reason is reported once for all of them."""
        self._taken.difference_update(items)
        with self._lock:
            if self.abandoned:
                return
            for item in items:
                item.source.add_verdicts(item.verdicts)
                item.source.add_failed(item.failed)
                self._release(item)
            for source in dict.fromkeys([item.source for item in items]):
                self._lose(source, reason, len([item for item in items if item.source is source]), why)

    def count_taken_as_lost(self, reason: str, why: str) -> None:
        """Count as lost all that was taken and is neither written nor lost."""
        self.count_lost(list(self._taken), reason, why)

    def _release(self, item: Item) -> None:
        self._queued -= 1
        self.queued_bytes -= item.weight
        if item.large:
            self._large_bytes -= item.weight

    # --- the second thread, which encodes the large ones -------------------------------------------------------------

    def take_large(self, seconds: float) -> Item | None:
        """The next large exchange; None where none has come within `seconds`."""
        if not self._large:
            self._large_woken.wait(seconds)
            self._large_woken.clear()
        return self._large.popleft() if self._large else None

    def is_finished_with_large(self) -> bool:
        """Whether no large exchange waits, and none can come."""
        closed = self.state == CLOSED  # read first: once the queue is closed, nothing more comes
        return self.abandoned or (closed and not self._large)

    def put_encoded(self, item: Item) -> None:
        """Have the line of a large exchange written."""
        with self._lock:
            self._large_unready -= 1
            self._waiting.append(item)
            self._resting = False
        self._woken.set()

    def lose_large(self, item: Item, reason: str, why: str) -> None:
        """Count a large exchange as lost, as it has no line."""
        with self._lock:
            self._large_unready -= 1
            self._resting = False
            if not self.abandoned:
                self._release(item)
                self._lose(item.source, reason, 1, why)
        self._woken.set()


def _weight(exchange: Exchange) -> int:
    """About the bytes an exchange holds in memory."""
    request = exchange.request
    total = EXCHANGE + len(request.body) + len(request.target) + fields_weight(request.fields)
    for leg in (exchange.live, exchange.control, *exchange.shadows.values()):
        reply = leg.reply if isinstance(leg, Failure) else leg
        if isinstance(reply, Reply):
            total += len(reply.body) + fields_weight(reply.fields)
    return total
