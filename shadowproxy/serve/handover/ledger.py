"""The books of a live process as its outbox keeps them: each exchange from when it is appended to its end.

`appended = written + sampled_out + queued + lost`, always, and no count goes down. Written, and left out by
`log.sample`, is what the recorder has reported. When
its connection ends, what was sent and not reported is lost; what was not sent waits for the next recorder.
"""

import logging
from typing import Any

from shadowproxy.serve.handover.books import NOTHING, Books, add_counts, add_settled
from shadowproxy.serve.journal.losses import LOSSES, RECORDER_ENDED
from shadowproxy.serve.journal.source import Settled

_log = logging.getLogger("shadowproxy")


class Ledger:
    """`unsent` exchanges wait in the queue; `handed` were given to the present recorder, which has reported `here`."""

    def __init__(self) -> None:
        self.appended = 0
        self.unsent = 0
        self.handed = 0
        self.here = NOTHING
        self._written = 0
        self._bytes = 0
        self._sampled_out = 0
        self._lost: dict[str, int] = dict.fromkeys(LOSSES, 0)
        self._own_lost: dict[str, int] = dict.fromkeys(LOSSES, 0)  # those that were lost here
        self._verdicts: dict[tuple[str, str], int] = {}
        self._failed: dict[str, int] = {}

    def __repr__(self) -> str:
        return f"<Ledger appended={self.appended} unsent={self.unsent}>"

    def books(self, queued_bytes: int) -> Books:
        """What became of all exchanges up to now."""
        lost = {reason: count for reason, count in self._lost.items() if count}
        return Books(
            appended=self.appended,
            written=self._written,
            queued=self.unsent + self.handed - self.here.total,
            queued_bytes=queued_bytes,
            lost=lost,
            bytes=self._bytes,
            verdicts=dict(self._verdicts),
            failed=dict(self._failed),
            handed=self.handed,
            sampled_out=self._sampled_out,
            here=self.here,
        )

    def hand(self, exchanges: int) -> None:
        """So many were taken from the queue for the recorder."""
        self.unsent -= exchanges
        self.handed += exchanges

    def take_report(self, value: Any) -> bool:
        """What the recorder reports, as plain tuples; False where it is no report."""
        try:
            settled = Settled._make(value)
            self.here = add_settled(self.here, settled)
            self._lost = {**self._lost, **add_counts(self._lost, settled.lost)}
            self._verdicts = add_counts(self._verdicts, settled.verdicts)
            self._failed = add_counts(self._failed, settled.failed)
        except (TypeError, ValueError, AttributeError):
            return False
        self._written += settled.written
        self._bytes += settled.bytes
        self._sampled_out += settled.sampled_out
        return True

    def end_recorder(self) -> None:
        """The recorder's connection has ended: what it has not reported is lost."""
        unreported = self.handed - self.here.total
        if unreported:
            self.lose(RECORDER_ENDED, unreported)
        self.handed, self.here = 0, NOTHING

    def lose_unsent(self) -> None:
        """Nothing is sent any more: what waits is lost."""
        if self.unsent:
            self.lose("journal_closed", self.unsent)
        self.unsent = 0

    def lose(self, reason: str, count: int) -> None:
        """Count losses of this process's own; those in the recorder are logged there."""
        before = self._own_lost[reason]
        self._own_lost[reason] = now = before + count
        self._lost[reason] += count
        if before.bit_length() != now.bit_length():  # passed 1, 2, 4, 8 ...
            extra = {"event": "records_lost", "reason": reason, "count": now}
            _log.error("the log lost %d records so far (%s)", now, reason, extra=extra)
