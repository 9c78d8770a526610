"""Which part of the records is folded: as large a part as the allowed share of CPU time pays for.

Its rules:

1. One record in 2^level is folded, drawn by the hash of its own ID, and counts as 2^level records. The level depends on
   earlier records alone, so every count is right on average (Horvitz and Thompson).
2. Folding may take `cpu` of the CPU time that the process takes for all else, and half a millisecond a second besides:
   so where there are few requests all of them are folded.
3. What is not used is saved, up to a fifth of a second of CPU time, and spent over the next minute: so the first
   hundreds of records are folded whole, and a burst does not raise the level at once. What was taken far beyond the
   share is paid back one level above the one that the rate asks for, no higher: one very heavy record makes every
   interval as wide as if all were as heavy.
"""

from typing import Final

MOST_LEVEL: Final = 10
"""One record in 1,024."""

ALWAYS: Final = 0.0005
"""Seconds of CPU time a second that folding may take in any case: a program without requests takes 0.012."""

SAVED: Final = 0.2
"""Seconds of CPU time that can be saved."""

FOR_REPORTS: Final = 0.2
"""The part of it all that goes into reports on what was folded."""

_OVERDRAWN: Final = -SAVED / 2  # less is paid back by the next records, which are seldom of that level's whole cost
_SPENT_IN: Final = 60.0  # seconds in which savings are spent
_SMOOTHED: Final = 5.0  # seconds over which rates are averaged
_COST: Final = 0.00015  # of folding one record, until it is known
_LOWER: Final = 0.7  # of what is allowed that a lower level must keep within


class FoldingBudget:
    """Says at which level to fold. For one thread; `level` may be read by any.

    Args:
        cpu: the share of the CPU time that the process takes for all else; None folds everything.
    """

    def __init__(self, cpu: float | None) -> None:
        self.cpu = cpu
        self.level = 0
        self._saved = SAVED
        self._rate = 0.0  # records a second
        self._others = 0.0  # CPU seconds a second that all else takes
        self._cost = _COST
        self._base = 0  # the level without what is to be paid back

    def __repr__(self) -> str:
        return f"<FoldingBudget 1/{1 << self.level} at {self._rate:.0f}/s, {self._cost * 1e6:.0f} us each>"

    @property
    def pause(self) -> float:
        """Seconds between two reports, for each second of CPU time that one takes."""
        return 1 / (FOR_REPORTS * self._allowed())

    def note(self, *, seconds: float, records: int, folded: int, took: float, all_took: float, others: float) -> None:
        """What happened in the last `seconds`, and from now on the level that goes with it.

        Args:
            records: written records that could have been folded, of which `folded` were.
            took: CPU seconds that these took.
            all_took: CPU seconds of this thread, with its reports.
            others: CPU seconds of all else in the process.
        """
        if seconds <= 0:
            return
        self._saved = min(SAVED, self._saved + seconds * ALWAYS + others * (self.cpu or 0.0) - all_took)
        part = min(1.0, seconds / _SMOOTHED)
        self._rate += (records / seconds - self._rate) * part
        self._others += (others / seconds - self._others) * part
        if folded:
            self._cost += (took / folded - self._cost) * min(1.0, folded / 50)
        self.level = self._level()

    def _allowed(self) -> float:
        """CPU seconds a second that folding and its reports may take in the long run."""
        return ALWAYS + self._others * (self.cpu or 0.0)

    def _level(self) -> int:
        if self.cpu is None:
            return 0
        allowed = self._allowed() * (1 - FOR_REPORTS) + max(0.0, self._saved) / _SPENT_IN
        wanted = self._rate * self._cost
        level = 0
        while level < MOST_LEVEL and wanted > allowed * (1 << level):
            level += 1
        if level < self._base and wanted > _LOWER * allowed * (1 << level):
            level += 1  # not back and forth at a border
        self._base = level
        return min(MOST_LEVEL, level + (self._saved < _OVERDRAWN and level > 0))
