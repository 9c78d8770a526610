"""What the live processes of one slot have counted, one after the other.

Up to three accounts tell what a process had counted when it ended: the last figures that the supervisor read, what the
process sent when it stopped in order, and what the recorder knows of its exchanges. None of them is always the best: a
process that has given up on the recorder counts as lost what the recorder still writes, and the recorder may have been
sent less than the process had counted. They come in any order, the recorder's even when the next process runs. So every
account says which process it is about, and all accounts of one process are put together.
"""

from shadowproxy.serve.admin.accounts import together
from shadowproxy.serve.admin.census import Census, merge
from shadowproxy.serve.sidecar.share import BudgetUsed
from shadowproxy.serve.workers import shares

APART = 8
"""Processes of a slot whose counts are kept apart, so that the recorder's report on each can still come."""


class Counts:
    """`run` is the number of the process that runs or is started, from 1 on, and `now` its last known census.

    `used` is what the last one had used of the budgets.
    """

    def __init__(self) -> None:
        self.run = 0
        self.now: Census | None = None
        self.used: dict[str, BudgetUsed] = {}
        self._earlier: Census | None = None
        self._ended: dict[int, Census] = {}
        self._reported: Census | None = None

    @property
    def ended(self) -> list[Census]:
        """The counts of those that have ended."""
        return [*([] if self._earlier is None else [self._earlier]), *self._ended.values()]

    def begin(self) -> int:
        """A process is started. Returns its number."""
        self.run += 1
        self.now = self._reported = None
        return self.run

    def note_end(self, closing: Census | None) -> None:
        """The process that ran has ended; `closing` is what it sent when it stopped in order."""
        known = [each for each in (closing or self.now, self._reported) if each is not None]
        self.now = self._reported = None
        if known:
            self._keep(self.run, known[0] if len(known) == 1 else together(*known))

    def note_report(self, run: int, census: Census) -> None:
        """The recorder's report about a process that has ended, or that is about to be seen as ended."""
        if (known := self._ended.get(run)) is not None:
            self._keep(run, together(known, census))
        elif run == self.run:
            self._reported = census if self._reported is None else together(self._reported, census)

    def _keep(self, run: int, census: Census) -> None:
        self._ended[run] = census
        if run == self.run:
            self.used = shares.used(census)
        while len(self._ended) > APART:
            oldest = self._ended.pop(min(self._ended))
            self._earlier = merge((), [each for each in (self._earlier, oldest) if each is not None])
