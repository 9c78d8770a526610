"""The journal: exchanges go in on the event loop and come out as whole lines in a log, or are counted as lost.

Its rules:

- `append` never waits and never raises. The queue is bounded by number and by bytes; what does not fit is counted.
- One thread encodes and writes, and lets exchanges gather: a record is in the log a few hundredths of a second after
  its exchange has settled. A slow disk stops that thread and so fills the queue; nobody else notices.
- Every exchange ends as one line, or is counted under one of LOSSES. `appended = written + queued + lost`, always.
- Lines are appended whole. After a write that tore one, the next line starts with a newline of its own.
- Writing that fails is tried again with later exchanges, at least every RETRY_MOST seconds, for ever. A log that cannot
  be opened, at the start or later, is tried as often without any exchange: what is served does not wait for it.
- A segment is never renamed while it is *.jsonl, and never written again once it has been closed.

A second thread, at the lowest priority, compresses and removes closed segments and speaks to the operator: a terminal
or pipe that does not read must not stop the first.
"""

import contextlib
import errno
import os
import queue
import select
import sys
import threading
import time
import traceback
from collections import deque
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal, NamedTuple, TypeAlias

from shadowproxy.exchange import Exchange, Failure, Reply
from shadowproxy.serve.http1.fields import fields_weight
from shadowproxy.serve.journal import segments
from shadowproxy.serve.journal.segments import Compression
from shadowproxy.serve.mirror.capture import EXCHANGE

WORKER_ENDED = "worker_ended"
"""Counted by those who outlive this process: a worker was killed before it had told of the line."""

LOSSES = ("journal_full", "journal_closed", "disk_full", "write_error", "encode_error", WORKER_ENDED)
"""Why an exchange has no line in the log. A closed set."""

GATHER = 0.01
"""Seconds that exchanges gather in the queue before the writing thread looks again, so that it is woken once for many.

Woken for each one it cost a seventh of all CPU at 1,000 requests a second. A killed process loses what has gathered.
"""

BATCH = 16
"""Exchanges that one write may carry. Few, as each write lets the event loop have the interpreter.

Letting go of it after every record (a sleep of 0) was tried: beside a busy thread the journal then hardly had a turn.
"""

BATCH_BYTES = 256 << 10
"""Encoded bytes after which a batch is written without looking for more."""

RETRY_FIRST, RETRY_MOST = 0.01, 1.0
"""Seconds between attempts to write while writing fails; each failure doubles the wait."""

OPENING = 2.0
"""Seconds that starting waits for the log to be opened."""

LOOK_EVERY = 60.0
"""Seconds at most between looks at whether the segment is old enough to be closed: how old that is may be changed."""

TIDY_EVERY = 60.0
"""Seconds between looks at the ages of closed segments."""

_NEW, _OPEN, _CLOSED = "new", "open", "closed"
_Tidy = Literal[""]
_TIDY: _Tidy = ""
_FULL = frozenset({errno.ENOSPC, errno.EDQUOT})


Encode: TypeAlias = Callable[[Exchange], bytes]


@dataclass(frozen=True, slots=True)
class Word:
    """Something for the operator: what happened, in a name of one word and in a line, and the values in it."""

    event: Literal["records_lost", "log_recovered", "log_trouble"]
    line: str
    values: Mapping[str, str | int] = field(default_factory=dict)


class Statistics(NamedTuple):
    """The journal at one moment. `queued` and `queued_bytes` include what is being written now.

    `failing` is what exchanges are lost for at present, one of LOSSES; None while the log is written.

    A tuple, as workers send it to their supervisor: a frozen dataclass that is compiled cannot be unpickled.
    """

    written: int
    bytes: int
    queued: int
    queued_bytes: int
    lost: Mapping[str, int]
    segments: int
    last_error: str | None
    failing: str | None = None


@dataclass(frozen=True, slots=True)
class Settings:
    """`rotate_size` and `keep_size` are bytes, `rotate_every` and `keep_age` seconds; None turns that limit off.

    No more is taken while `queue_bytes` wait to be written, and no single exchange that is longer. The last one that is
    taken may pass it: what was held for an exchange while it was under way is then not lost for want of its last bytes.
    """

    rotate_size: int | None = 256 << 20
    rotate_every: float | None = 3600.0
    compress: Compression = "zstd"
    keep_size: int | None = 10 << 30
    keep_age: float | None = 30 * 86400.0
    queue_bytes: int = 64 << 20


class Journal:
    """Writes exchanges to the segments of a directory, or to standard output where `path` is "-".

    Owns two threads and one open file: `open()` starts them, `close()` ends them. `settings` may be changed between the
    two. `queue_limit` is the most exchanges that wait, besides `settings.queue_bytes`. `notify` is told, from a
    thread of the journal's own, of the 1st, 2nd, 4th, 8th ... loss. `gather`, `opening` and `write` are given so that a
    test can have them otherwise.
    """

    def __init__(
        self,
        path: Path | str,
        *,
        proxy: str,
        settings: Settings | None = None,
        queue_limit: int = 10_000,
        notify: Callable[[Word], object],
        gather: float = GATHER,
        opening: float = OPENING,
        write: Callable[[int, bytes | memoryview], int] = os.write,
    ) -> None:
        self._directory = None if str(path) == "-" else Path(path)
        self.settings = settings or Settings()
        self._proxy = proxy
        self._queue_limit = queue_limit
        self._notify = notify
        self._gather = gather
        self._opening = opening
        self._write = write

        self._queue: deque[tuple[Exchange, Encode, int]] = deque()
        self._woken = threading.Event()
        self._closing = threading.Event()
        self._tried = threading.Event()  # whether the log can be opened
        self._words: queue.SimpleQueue[Word | _Tidy | None] = queue.SimpleQueue()
        self._writer = threading.Thread(target=self._write_all, name="shadowproxy-journal", daemon=True)
        self._keeper = threading.Thread(target=self._keep, name="shadowproxy-keeper", daemon=True)
        # Held for a few additions at a time, never over I/O or encoding.
        self._lock = threading.Lock()
        self._queued = 0
        self._queued_bytes = 0
        self._resting = False  # the writing thread is, until it is woken
        self._written = 0
        self._bytes = 0
        self._lost = dict.fromkeys(LOSSES, 0)
        self._last_error: str | None = None
        self._state = _NEW
        self._abandoned = False

        # The writing thread's own.
        self._descriptor = -1
        self._segment: Path | None = None
        self._size = 0
        self._opened = 0.0
        self._segments = 0
        self._torn = False
        self._failing: str | None = None
        self._unopened = False  # it fails because nothing can be opened to be written to
        self._retry_at = 0.0
        self._retry_after = RETRY_FIRST
        self._rotate_after = 0.0
        self._in_hand = 0
        self._in_hand_weight = 0
        self._writer_ends = False
        self._defect: str | None = None

        # The keeper's own.
        self._tidy_due = True
        self._tidy_trouble: str | None = None
        self._keeper_ends = False

    def __repr__(self) -> str:
        return f"<Journal {self._directory or '-'} {self._state} written={self._written} queued={self._queued}>"

    # --- the event loop's side -------------------------------------------------------------------------------------

    def open(self) -> None:
        """Start, make the directory if need be, open the first segment. Where that cannot be, it is tried again.

        Blocks for OPENING seconds at most, or what was given for it: a directory on a lost mount may never be opened.
        """
        self._state = _OPEN
        self._unopened = True
        self._writer.start()
        if not self._tried.wait(self._opening):
            with self._lock:
                if self._unopened:
                    self._failing, self._last_error = "write_error", f"opening it takes longer than {self._opening:g} s"
        if self._failing is not None:
            where = self._directory or "standard output"
            line = f"the log cannot be written in {where}, records are lost until it can: {self._last_error}"
            self._words.put(Word("log_trouble", line))
        self._keeper.start()

    def append(self, exchange: Exchange, encode: Encode) -> bool:
        """Take an exchange to be written; False where it was refused and counted as lost. Never waits, never raises.

        `encode` gives its line, in the writing thread.
        """
        held = _weight(exchange)
        with self._lock:
            if self._state != _OPEN:
                self._lose("journal_closed", 1, None)
                return False
            most = self.settings.queue_bytes
            if self._queued >= self._queue_limit or self._queued_bytes >= most or held > most:
                self._lose("journal_full", 1, None)
                return False
            self._queued += 1
            self._queued_bytes += held
            self._queue.append((exchange, encode, held))
            wake, self._resting = self._resting, False
        if wake:
            self._woken.set()
        return True

    def queued_bytes(self) -> int:
        """As in `statistics`, without the rest of it: it is asked for with every chunk that is copied."""
        return self._queued_bytes

    def statistics(self) -> Statistics:
        """What was written, waits and was lost up to now."""
        with self._lock:
            return Statistics(
                written=self._written,
                bytes=self._bytes,
                queued=self._queued,
                queued_bytes=self._queued_bytes,
                lost={reason: count for reason, count in self._lost.items() if count},
                segments=self._segments,
                last_error=self._last_error,
                failing=self._failing,
            )

    def close(self, timeout: float) -> None:
        """Write what waits and end, within `timeout` seconds; what is not written by then is lost (`journal_closed`).

        Blocks, up to a second longer where the operator is to be told so. A thread that hangs in the disk's hands by
        then is left behind, and ends with the process.
        """
        deadline = time.monotonic() + timeout
        with self._lock:
            if self._state != _OPEN:
                return
            self._state = _CLOSED
        self._closing.set()
        self._woken.set()
        self._writer.join(timeout)
        with self._lock:
            if self._queued:
                self._abandoned = True
                self._lose("journal_closed", self._queued, "the log did not take it in time")
                self._queued = self._queued_bytes = 0
        self._words.put(None)
        self._keeper.join(max(1.0, deadline - time.monotonic()))

    # --- the writing thread ----------------------------------------------------------------------------------------

    def _write_all(self) -> None:
        self._open_again()
        self._tried.set()
        while not (self._writer_ends or self._abandoned):
            try:
                self._write_some()
            except Exception as error:  # noqa: BLE001 - whatever it is, without this thread all that comes is lost unseen
                self._note_defect(_defect(error))
        if self._directory is not None and self._descriptor >= 0:
            self._leave_segment()

    def _note_defect(self, what: str) -> None:
        """Count what was in hand as lost, say so, and have what comes begin in a new segment after a while."""
        self._drop(self._in_hand, self._in_hand_weight, "write_error", what)
        if what != self._defect:
            self._words.put(Word("log_trouble", f"writing the log failed, it is tried again: {what}"))
        self._defect = what
        if self._directory is not None and self._descriptor >= 0:
            self._leave_segment()
        self._torn = self._directory is None
        if self._state == _OPEN:
            time.sleep(RETRY_MOST)  # or what fails each time would keep a processor busy

    def _write_some(self) -> None:
        """One batch from the queue to the log."""
        if not self._queue:
            self._rest()
        lines: list[bytes] = []
        weights: list[int] = []
        size = 0
        while self._queue and len(lines) < BATCH and size < BATCH_BYTES and not self._abandoned:
            exchange, encode, weight = self._queue.popleft()
            self._in_hand += 1
            self._in_hand_weight += weight
            if self._failing is not None and time.monotonic() < self._retry_at and self._state == _OPEN:
                self._drop(1, weight, self._failing, None)
                continue
            try:
                line = encode(exchange)
            except Exception as error:  # noqa: BLE001 - encode's promise broken: one line lost, not the log
                self._drop(1, weight, "encode_error", _defect(error))
                continue
            lines.append(line)
            weights.append(weight)
            size += len(line)
        if lines:
            self._write_batch(lines, weights, size)
        elif self._until_rotation() == 0.0:
            self._rotate()
        elif self._unopened and self._state == _OPEN and time.monotonic() >= self._retry_at:
            self._open_again()

    def _rest(self) -> None:
        """Until something may have gathered, or there is a segment to close, or the end."""
        self._closing.wait(self._gather)
        if self._queue:
            return
        with self._lock:
            self._resting = not self._queue and self._state == _OPEN
        if self._resting:
            until = max(0.0, self._retry_at - time.monotonic()) if self._unopened else self._until_rotation()
            self._woken.wait(LOOK_EVERY if until is None else min(until, LOOK_EVERY))
            self._woken.clear()
            self._closing.wait(self._gather)
        closed = self._state == _CLOSED  # asked first: once it is, nothing more comes
        self._writer_ends = closed and not self._queue

    def _write_batch(self, lines: list[bytes], weights: list[int], size: int) -> None:
        limit = self.settings.rotate_size
        full = limit is not None and self._size > 0 and self._size + size > limit
        if full or self._until_rotation() == 0.0:
            self._rotate()
        done, error = self._write_lines(lines)
        if error is None and self._vanished():
            # The file was removed under us, and these lines with it. What stood there before is its remover's doing.
            self._leave_segment()
            done, error = self._write_lines(lines)
        self._keep_count(lines[:done], sum(weights[:done]))
        if error is None:
            self._note_success()
            return
        failing = self._note_failure(error)
        self._drop(len(lines) - done, sum(weights[done:]), failing, error.strerror or str(error))
        if failing != "disk_full" and self._directory is not None:
            # A full disk takes the file again once there is room; any other trouble may be this descriptor's own.
            self._leave_segment()

    def _note_failure(self, error: OSError) -> str:
        """What exchanges are lost for until the next attempt succeeds, before which there is a while."""
        self._unopened = self._descriptor < 0
        self._failing = failing = "disk_full" if error.errno in _FULL else "write_error"
        self._last_error = error.strerror or str(error)
        self._retry_at = time.monotonic() + self._retry_after
        self._retry_after = min(2 * self._retry_after, RETRY_MOST)
        return failing

    def _note_success(self) -> None:
        with self._lock:
            failed = self._failing is not None
            self._failing, self._unopened, self._retry_after = None, False, RETRY_FIRST
        if failed:
            self._words.put(Word("log_recovered", "the log is being written again"))

    def _open_log(self) -> None:
        if self._directory is not None:
            self._new_segment()
        elif sys.stdout is None:
            # Python was started without one: what has its number by now may be a caller's connection.
            raise OSError(errno.EBADF, "it is closed")
        else:
            self._descriptor = sys.stdout.fileno()

    def _open_again(self) -> None:
        try:
            self._open_log()
        except OSError as error:
            self._note_failure(error)
        else:
            self._note_success()
            self._words.put(_TIDY)

    def _write_lines(self, lines: list[bytes]) -> tuple[int, OSError | None]:
        """How many of the lines are in the log whole, and what stopped the rest."""
        try:
            if self._descriptor < 0:
                self._open_log()
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
            # Before the first byte (sent is -1 or 0, none done) the state of the tail is what it was.
            self._torn = sent > 0 or (self._torn and sent < 0)
            return done, error

    def _write_once(self, data: memoryview) -> int:
        while True:
            try:
                size = self._write(self._descriptor, data)
            except BlockingIOError:
                # Standard output may be a pipe that somebody made non-blocking: a full one is slow, not broken.
                select.select([], [self._descriptor], [], 1.0)
                if self._abandoned:
                    raise
                continue
            if size == 0:
                raise OSError(errno.EIO, "the write took nothing")
            self._size += size
            return size

    # --- segments, still the writing thread ------------------------------------------------------------------------

    def _until_rotation(self) -> float | None:
        """Seconds until the segment is old enough to be closed. An empty one may grow as old as it likes."""
        every = self.settings.rotate_every
        if self._directory is None or every is None or self._size == 0:
            return None
        return max(0.0, max(self._opened + every, self._rotate_after) - time.monotonic())

    def _rotate(self) -> None:
        """Close this segment and go on in a new one. Where none can be opened this one is gone on with."""
        if time.monotonic() < self._rotate_after:
            return
        before, path, size = self._descriptor, self._segment, self._size
        try:
            self._new_segment()
        except OSError as error:
            if self._rotate_after == 0.0:
                line = f"the log goes on in its old segment, as no new one can be opened: {error.strerror}"
                self._words.put(Word("log_trouble", line))
            self._rotate_after = time.monotonic() + RETRY_MOST
            return
        self._rotate_after = 0.0
        _close_file(before, path, size)
        self._words.put(_TIDY)

    def _new_segment(self) -> None:
        assert self._directory is not None  # standard output is never left, so never opened anew
        self._descriptor, self._segment = segments.create(self._directory, self._proxy, self._segments + 1)
        self._size, self._torn, self._opened = 0, False, time.monotonic()
        self._segments += 1

    def _vanished(self) -> bool:
        try:
            return self._directory is not None and os.fstat(self._descriptor).st_nlink == 0
        except OSError as error:
            return error.errno == errno.ESTALE  # how NFS says so

    def _leave_segment(self) -> None:
        _close_file(self._descriptor, self._segment, self._size)
        self._descriptor, self._size, self._torn = -1, 0, False

    # --- counting: `_lose` from any thread, the others from the writing one ------------------------------------------

    def _keep_count(self, lines: list[bytes], weight: int) -> None:
        self._in_hand -= len(lines)
        self._in_hand_weight -= weight
        with self._lock:
            if self._abandoned:
                return  # close() has counted them as lost
            self._written += len(lines)
            self._bytes += sum(map(len, lines))
            self._queued -= len(lines)
            self._queued_bytes -= weight

    def _drop(self, count: int, weight: int, reason: str, why: str | None) -> None:
        self._in_hand -= count
        self._in_hand_weight -= weight
        with self._lock:
            if self._abandoned:
                return
            self._queued -= count
            self._queued_bytes -= weight
            self._lose(reason, count, why)

    def _lose(self, reason: str, count: int, why: str | None) -> None:
        before = self._lost[reason]
        self._lost[reason] = now = before + count
        if why is not None:
            self._last_error = why
        if before.bit_length() != now.bit_length():  # passed 1, 2, 4, 8 ...
            told = f": {why}" if why is not None else ""
            line = f"the log lost {now} records so far ({reason}){told}"
            self._words.put(Word("records_lost", line, {"reason": reason, "count": now}))

    # --- the keeper's thread ---------------------------------------------------------------------------------------

    def _keep(self) -> None:
        if sys.platform == "linux":
            # There a nice value belongs to the thread. Refused where the process may not: then at the usual priority.
            with contextlib.suppress(OSError):
                os.setpriority(os.PRIO_PROCESS, threading.get_native_id(), 19)
        while not self._keeper_ends:
            if self._tidy_due:
                self._tidy_due = False
                self._tidy()
            else:
                self._hear(TIDY_EVERY)

    def _hear(self, timeout: float) -> None:
        try:
            word = self._words.get(timeout=timeout)
        except queue.Empty:
            word = _TIDY
        if word is None:
            self._keeper_ends = True
        elif word == _TIDY:
            self._tidy_due = True
        else:
            self._notify(word)

    def _between(self) -> bool:
        """Let the operator hear what there is to say amid long work; False when the work is to be given up."""
        while not self._words.empty():
            self._hear(0)
        return not self._keeper_ends

    def _tidy(self) -> None:
        if self._directory is None or self._unopened:
            return
        try:
            settings = self.settings
            if settings.compress != "none":
                for path in segments.to_compress(segments.kept(self._directory)):
                    if not segments.compress(path, settings.compress, self._between) and self._keeper_ends:
                        return
            files = segments.kept(self._directory)
            for path in segments.to_remove(files, settings.keep_size, settings.keep_age, time.time()):
                segments.remove(path)
        except Exception as error:  # noqa: BLE001 - whatever it is, without this thread nobody hears of a loss
            # The log itself may be well. It is tried again in a while, and said again only if the reason changes.
            what = (isinstance(error, OSError) and error.strerror) or _defect(error)
            why = f"closed segments cannot be compressed or removed: {what}"
            if why != self._tidy_trouble:
                self._notify(Word("log_trouble", why))
            self._tidy_trouble = why
        else:
            self._tidy_trouble = None


def _defect(error: Exception) -> str:
    """What went wrong and where, without the exception's own words: they may quote a body."""
    place = traceback.extract_tb(error.__traceback__)[-1]
    return f"{type(error).__name__} at {Path(place.filename).name}:{place.lineno}"


def _weight(exchange: Exchange) -> int:
    """About the bytes an exchange holds in memory."""
    request = exchange.request
    total = EXCHANGE + len(request.body) + len(request.target) + fields_weight(request.fields)
    for leg in (exchange.live, exchange.control, *exchange.shadows.values()):
        reply = leg.reply if isinstance(leg, Failure) else leg
        if isinstance(reply, Reply):
            total += len(reply.body) + fields_weight(reply.fields)
    return total


def _close_file(descriptor: int, path: Path | None, size: int) -> None:
    with contextlib.suppress(OSError):
        os.close(descriptor)
    if size == 0 and path is not None:
        with contextlib.suppress(OSError):
            path.unlink()
