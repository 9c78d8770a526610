"""The journal: settled exchanges go in on the event loop and come out as whole lines in a log, or are counted as lost.

`append` never waits and never raises (queue.py). One thread encodes and writes (writer.py, output.py), a second one
encodes the large exchanges (large.py), a third one compresses and removes closed segments and reports to the operator
(keeper.py, segments.py).
"""

import os
import queue
import time
from collections.abc import Callable
from pathlib import Path

from shadowproxy.exchange import Exchange
from shadowproxy.serve.journal.keeper import Keeper
from shadowproxy.serve.journal.large import LargeEncoder
from shadowproxy.serve.journal.notices import Notice, Notices
from shadowproxy.serve.journal.output import Output
from shadowproxy.serve.journal.queue import Encode, Item, Queue
from shadowproxy.serve.journal.settings import Settings
from shadowproxy.serve.journal.source import Settled, Source
from shadowproxy.serve.journal.statistics import Statistics
from shadowproxy.serve.journal.writer import GATHER, Writer

OPENING = 2.0
"""Seconds that starting waits for the log to be opened."""


class Journal:
    """Writes exchanges to the segments of a directory, or to standard output where `path` is "-".

    Owns three threads and one open file: `open()` starts them, `close()` ends them. `settings` may be changed between
    the two. `queue_limit` is the most exchanges that wait, besides `settings.queue_bytes`. `notify` gets each notice,
    in a thread of the journal's own, among them one of the 1st, 2nd, 4th, 8th ... loss. `written` is called in the
    writing thread with what was written, and never waits. `gather`, `opening` and `write` are parameters so that a test
    can replace them.
    """

    def __init__(
        self,
        path: Path | str,
        *,
        proxy: str,
        settings: Settings | None = None,
        queue_limit: int = 10_000,
        notify: Callable[[Notice], object],
        gather: float = GATHER,
        opening: float = OPENING,
        write: Callable[[int, bytes | memoryview], int] = os.write,
        written: Callable[[list[Item]], object] | None = None,
    ) -> None:
        directory = None if str(path) == "-" else Path(path)
        settings = settings or Settings()
        notices: Notices = queue.SimpleQueue()
        self._directory = directory
        self._opening = opening
        self._settings = settings
        self._notices = notices
        self._queue = Queue(queue_limit, settings, notices)
        self._output = Output(
            directory, proxy=proxy, settings=settings, notices=notices, gives_up=self._is_abandoned, write=write
        )
        self._large = LargeEncoder(self._queue)
        self._writer = Writer(self._queue, self._output, notices, gather, written)
        self._keeper = Keeper(directory, settings=settings, notices=notices, notify=notify, is_opened=self._is_opened)

    def __repr__(self) -> str:
        return f"<Journal {self._directory or '-'} {self._queue!r}>"

    @property
    def settings(self) -> Settings:
        return self._settings

    @settings.setter
    def settings(self, settings: Settings) -> None:
        self._settings = self._queue.settings = self._output.settings = self._keeper.settings = settings

    def open(self) -> None:
        """Start, make the directory if need be, and open the first segment; where that fails, it is retried for ever.

        Blocks for OPENING seconds at most, or for `opening`: a directory on a lost mount may never be opened.
        """
        self._queue.open()
        self._large.start()
        self._writer.start(self._opening)
        if self._writer.failing is not None:
            where = self._directory or "standard output"
            line = f"the log cannot be written in {where}; records are lost until it can: {self._queue.last_error}"
            self._notices.put(Notice("log_trouble", line))
        self._keeper.start()

    def append(self, exchange: Exchange, encode: Encode, source: Source | None = None) -> bool:
        """Take an exchange to be written; False where it was rejected and counted as lost. Never waits, never raises.

        `encode` gives its line, in a thread of the journal's. What becomes of it is counted for `source` too.
        """
        return self._queue.append(exchange, encode, source)

    def add_source(self) -> Source:
        """A sender of exchanges, for `append`, `lose` and `take_settled`, until `remove_source`."""
        return self._queue.add_source()

    def remove_source(self, source: Source) -> None:
        self._queue.remove_source(source)

    def take_settled(self, source: Source) -> Settled | None:
        """What became of the exchanges of `source` since the last call; None where nothing did."""
        return self._queue.take_settled(source)

    def lose(self, source: Source, reason: str, why: str | None) -> None:
        """Count as lost an exchange that `source` has sent and that cannot be appended."""
        self._queue.lose(source, reason, why)

    def queued_bytes(self) -> int:
        """As in `statistics`, without the rest of it: it is read with every chunk that is captured."""
        return self._queue.queued_bytes

    def has_room(self, more: int) -> bool:
        """Whether a sender that can wait should send: the queue, and `more` bytes on their way, leave some room."""
        return self._queue.has_room(more)

    def statistics(self) -> Statistics:
        """What was written, waits and was lost up to now."""
        counts = self._queue.counts()
        return Statistics(
            written=counts.written,
            bytes=counts.bytes,
            queued=counts.queued,
            queued_bytes=counts.queued_bytes,
            lost=counts.lost,
            segments=self._output.number,
            last_error=counts.last_error,
            failing=self._writer.failing,
            sampled_out=counts.sampled_out,
        )

    @property
    def removed_unsent(self) -> int:
        """Segments that were removed to stay within `keep_size` before a store had them."""
        return self._keeper.removed_unsent

    def close(self, timeout: float) -> None:
        """Write what waits and end, within `timeout` seconds; what is not written by then is lost (`journal_closed`).

        Blocks, up to a second longer where that has to be reported to the operator.
        """
        deadline = time.monotonic() + timeout
        if not self._queue.close():
            return
        self._writer.join(timeout)
        self._queue.abandon()
        self._keeper.close(max(1.0, deadline - time.monotonic()))

    def _is_abandoned(self) -> bool:
        return self._queue.abandoned

    def _is_opened(self) -> bool:
        return not self._writer.unopened
