"""The writing thread: takes exchanges from the queue in batches, encodes them and has them written.

Its rules:

- Exchanges gather first: a record is in the log a few hundredths of a second after its exchange has settled. A slow
  disk stops this thread and so fills the queue; nothing else waits for it.
- Writing that fails is tried again with later exchanges, at least every RETRY_MOST seconds, for ever. A log that cannot
  be opened, at the start or later, is tried as often without any exchange: live traffic does not wait for it.
- No error ends this thread: without it every later exchange would be lost.
"""

import errno
import threading
import time
from collections.abc import Callable
from typing import Final

from shadowproxy.serve.journal.notices import TIDY, Notice, Notices, defect
from shadowproxy.serve.journal.output import Output
from shadowproxy.serve.journal.queue import OPEN, Item, Queue

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

LOOK_EVERY = 60.0
"""Seconds at most between looks at whether the segment is old enough to be closed: a reload may change that age."""

_FULL: Final = frozenset({errno.ENOSPC, errno.EDQUOT})


class Writer:
    """Owns the thread. `failing` is what exchanges are lost for at present, one of LOSSES; None while writing succeeds.

    `unopened`: it fails because nothing could be opened to be written to. `gather` is in seconds. `written` gets what
    was written.
    """

    def __init__(
        self,
        queue: Queue,
        output: Output,
        notices: Notices,
        gather: float,
        written: Callable[[list[Item]], object] | None = None,
    ) -> None:
        self.failing: str | None = None
        self.unopened = True
        self._queue = queue
        self._output = output
        self._notices = notices
        self._gather = gather
        self._on_written = written
        self._tried = threading.Event()  # whether the log can be opened
        self._lock = threading.Lock()  # `failing` and `unopened` change together
        self._writing_thread = threading.Thread(target=self._run, name="shadowproxy-journal", daemon=True)
        # The thread's own.
        self._finished = False
        self._retry_at = 0.0
        self._retry_after = RETRY_FIRST
        self._last_defect: str | None = None

    def __repr__(self) -> str:
        return f"<Writer {self.failing or 'writing'} to {self._output!r}>"

    def start(self, opening: float) -> None:
        """Start the thread, which opens the log first. Waits `opening` seconds at most for that."""
        self._writing_thread.start()
        if self._tried.wait(opening):
            return
        with self._lock:
            if self.unopened:
                self.failing = "write_error"
                self._queue.last_error = f"opening it takes longer than {opening:g} s"

    def join(self, timeout: float) -> None:
        """Wait for the thread's end. One that hangs in a system call is left behind, and ends with the process."""
        self._writing_thread.join(timeout)

    def _run(self) -> None:
        self._open_output()
        self._tried.set()
        while not (self._finished or self._queue.abandoned):
            try:
                self._finished = self._step()
            except Exception as error:  # noqa: BLE001 - whatever it is, without this thread later exchanges are lost unseen
                self._note_defect(defect(error))
        self._output.leave_segment()

    def _note_defect(self, what: str) -> None:
        """Count what was taken as lost, report it, and continue in a new segment after a while."""
        self._queue.count_taken_as_lost("write_error", what)
        if what != self._last_defect:
            self._notices.put(Notice("log_trouble", f"writing the log failed and will be retried: {what}"))
        self._last_defect = what
        self._output.leave_doubtful()
        if self._queue.state == OPEN:
            time.sleep(RETRY_MOST)  # or an error that comes back each time would keep a processor busy

    def _step(self) -> bool:
        """One batch from the queue to the log, after a rest where nothing waits. True once all is written."""
        queue = self._queue
        finished = not queue.has_waiting() and self._wait_for_more()
        batch: list[Item] = []
        size = 0
        while len(batch) < BATCH and size < BATCH_BYTES and not queue.abandoned:
            item = queue.take()
            if item is None:
                break
            failing = self.failing
            if failing is not None and time.monotonic() < self._retry_at and queue.state == OPEN:
                queue.count_lost([item], failing, None)
                continue
            if not item.encoded:
                try:
                    item.encode_line()
                except Exception as error:  # noqa: BLE001 - encode's promise broken: one line lost, not the log
                    queue.count_lost([item], "encode_error", defect(error))
                    continue
            if not item.line:
                queue.count_sampled_out(item)
                continue
            batch.append(item)
            size += len(item.line)
        if batch:
            self._write(batch, size)
        elif self._output.until_rotation() == 0.0:
            self._output.rotate()
        elif self.unopened and queue.state == OPEN and time.monotonic() >= self._retry_at:
            self._open_output()
        return finished

    def _wait_for_more(self) -> bool:
        """Rest until exchanges may have gathered, a segment is to be closed, or the end has come. True at the end."""
        queue = self._queue
        queue.gather(self._gather)
        if queue.has_waiting():
            return False
        if queue.begin_rest():
            until = max(0.0, self._retry_at - time.monotonic()) if self.unopened else self._output.until_rotation()
            queue.rest(LOOK_EVERY if until is None else min(until, LOOK_EVERY))
            queue.gather(self._gather)
        return queue.is_finished()

    def _write(self, batch: list[Item], size: int) -> None:
        done, error = self._output.write([item.line for item in batch], size)
        self._queue.count_written(batch[:done])
        self._pass_on(batch[:done])
        if error is None:
            self._note_success()
            return
        failing = self._note_failure(error)
        self._queue.count_lost(batch[done:], failing, error.strerror or str(error))
        if failing != "disk_full":
            # A full disk takes the same file again once there is room; any other trouble may be this descriptor's own.
            self._output.leave_segment()

    def _pass_on(self, items: list[Item]) -> None:
        """Pass on what was written. An error there must not cost the log a line."""
        on_written = self._on_written
        if on_written is None:
            return
        try:
            on_written(items)
        except Exception as error:  # noqa: BLE001 - as above
            self._on_written = None
            self._notices.put(Notice("verdict_trouble", f"records are no longer counted: {defect(error)}"))

    def _open_output(self) -> None:
        try:
            self._output.open()
        except OSError as error:
            self._note_failure(error)
        else:
            self._note_success()
            self._notices.put(TIDY)

    def _note_failure(self, error: OSError) -> str:
        """What exchanges are lost for until the next attempt succeeds; the attempt waits a while."""
        self.unopened = not self._output.is_open()
        self.failing = failing = "disk_full" if error.errno in _FULL else "write_error"
        self._queue.last_error = error.strerror or str(error)
        self._retry_at = time.monotonic() + self._retry_after
        self._retry_after = min(2 * self._retry_after, RETRY_MOST)
        return failing

    def _note_success(self) -> None:
        with self._lock:
            failed = self.failing is not None
            self.failing, self.unopened, self._retry_after = None, False, RETRY_FIRST
        if failed:
            self._notices.put(Notice("log_recovered", "the log is being written again"))
