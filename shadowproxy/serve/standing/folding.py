"""Folds the lines that wait into the counts, and notes for the budget what that took."""

import time
from collections.abc import Callable

from shadowproxy.serve.standing.budget import FoldingBudget
from shadowproxy.serve.standing.course import Course
from shadowproxy.serve.standing.waiting import WaitingLines


class Folding:
    """Takes lines off the queue. For the thread that folds.

    Args:
        waiting: the queue; its level is set here.
        budget: says at which level.
        failed: gets an error of the program, which costs one record.
    """

    def __init__(self, waiting: WaitingLines, budget: FoldingBudget, failed: Callable[[Exception], object]) -> None:
        self._waiting = waiting
        self._budget = budget
        self._failed = failed
        # Of the process from its start on: what waits for the thread's beginning came in all this time.
        self._clock = time.monotonic(), time.process_time(), 0.0
        self._records = 0
        self._shed = 0
        self._long = 0
        self._folded = 0, 0.0  # records that were folded last, and the CPU seconds that they took

    def __repr__(self) -> str:
        return f"<Folding {self._waiting!r} {self._budget!r}>"

    def begin(self) -> None:
        """The thread's own CPU time counts from now on: so far it has imported what counts."""
        self._clock = (*self._clock[:2], time.thread_time())

    def fold(self, course: Course) -> None:
        """Count all lines that wait now; without counts they are dropped."""
        counting = course.counting
        folded, begun = 0, time.thread_time()
        for line, draw, of in self._waiting.take():
            if counting is None:
                continue
            try:
                if counting.fold(line, draw, of):
                    course.facts.folded += 1
                    course.changed = True
            except Exception as error:  # noqa: BLE001 - one record less, and it is logged
                course.facts.shed += draw
                self._failed(error)
            folded += 1
            time.sleep(0)  # the others first: compiled code gives them no turn by itself
        self._folded = folded, time.thread_time() - begun

    def note_time(self, course: Course) -> None:
        """Pass what was done since the last call to the budget, and what the queue has counted to the facts."""
        before, self._clock = self._clock, (time.monotonic(), time.process_time(), time.thread_time())
        seconds, process, own = (now - then for now, then in zip(self._clock, before, strict=True))
        waiting = self._waiting
        records, shed = waiting.records - self._records, waiting.shed - self._shed
        self._records += records
        self._shed += shed
        course.facts.long += waiting.long - self._long
        self._long = waiting.long
        course.facts.records += records
        course.facts.shed += shed
        folded, took = self._folded
        self._budget.note(
            seconds=seconds, records=records, folded=folded, took=took, all_took=own, others=max(0.0, process - own)
        )
        waiting.level = self._budget.level
