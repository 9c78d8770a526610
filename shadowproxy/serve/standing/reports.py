"""Makes the standing verdict's reports: when one is due, what it says of each shadow, and which change is logged."""

import contextlib
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from typing import Any, Final

from shadowproxy.serve.journal.notices import Notice
from shadowproxy.serve.standing.answer import (
    HEADLINES,
    ShadowVerdict,
    StandingVerdict,
    StandingWord,
    Word,
    shadow_verdict,
)
from shadowproxy.serve.standing.course import Course
from shadowproxy.serve.standing.settings import StandingSettings
from shadowproxy.serve.standing.times import shown

REPORT_EVERY: Final = 5.0
REPORT_MOST: Final = 300.0
"""Seconds between two reports that nobody asked for: the least and the most."""

ASKED_EVERY: Final = 1.0
"""Seconds for which a report answers those who ask."""

SILENT: Final = 900.0
"""Seconds without a report, while records come, after which READY is taken back: the thread hangs."""

_SWITCH: Final = 0.0005  # seconds after which another thread may have the interpreter while a report is made


class Reports:
    """Has the latest verdict and the words that were last logged. For one thread, except `words`.

    Args:
        notify: gets a notice where a word changes.
        asked_every: seconds for which a report answers those who ask.

    Attributes:
        verdict: of the last report; None before the first one. It is replaced as a whole, never changed.
        made_at: when the last report was made, by the monotonic clock.
        covered: how many lines were taken off the queue by then; -1 where it no longer counts.
        took: CPU seconds that it took.
        words_before: the word that was last known of each shadow.
    """

    def __init__(self, notify: Callable[[Notice], object], asked_every: float = ASKED_EVERY) -> None:
        self.verdict: StandingVerdict | None = None
        self.made_at = 0.0
        self.covered = -1
        self.took = 0.05
        self.words_before: dict[str, Word] = {}
        self._notify = notify
        self._asked_every = asked_every
        self._lost = 0  # exchanges without a record, by then
        self._kept: tuple[StandingWord, ...] = ()

    def __repr__(self) -> str:
        return f"<Reports {self.verdict.word if self.verdict else 'none yet'}>"

    def words(self, settings: StandingSettings, queued: int) -> tuple[StandingWord, ...]:
        """The word on each configured shadow, by the last report. `queued`: lines put on the queue."""
        verdict = self.verdict
        if verdict is None:
            known = {each.shadow: each for each in self._kept}
        else:
            hangs = queued != self.covered and time.monotonic() - self.made_at > SILENT
            known = {each.shadow: each for each in verdict.words_now(settings, hangs=hangs)}
        return tuple(known.get(name, StandingWord(name, "no_data", 0)) for name in settings.shadows)

    # --- when --------------------------------------------------------------------------------------------------------

    def due(self, pause: float) -> float:
        """When the next report is made that nobody asked for; `pause`: seconds for each CPU second that one takes."""
        return self.made_at + min(REPORT_MOST, max(REPORT_EVERY, self.took * pause))

    def has_news(self, course: Course, taken: int) -> bool:
        """Whether there is anything that the last report did not know. `taken`: lines taken off the queue."""
        return taken != self.covered or course.lost != self._lost

    def fresh(self, course: Course, taken: int) -> StandingVerdict | None:
        """The verdict, if it still answers those who ask."""
        age = time.monotonic() - self.made_at
        stale = age > REPORT_MOST or (self.has_news(course, taken) and age >= min(self._asked_every, 20 * self.took))
        return None if stale else self.verdict

    # --- what --------------------------------------------------------------------------------------------------------

    def make(self, course: Course, *, level: int, taken: int) -> StandingVerdict:
        """Make a report, publish its verdict and log what has changed. `level`: of the folding (budget.py)."""
        from shadowproxy.compare.report.gates import gates_in

        counting = course.counting
        assert counting is not None  # every caller has looked
        settings = counting.settings  # not those that are to be adopted: the counts are not theirs
        counting.turn(time.time())
        self.made_at, begun = time.monotonic(), time.thread_time()
        facts = replace(course.facts, shed=course.facts.shed + counting.unreadable, lost=course.lost)
        facts.seconds = counting.seconds
        with _often_switched():
            report = counting.report(gates_in(settings.gates))
        shadows: dict[str, ShadowVerdict] = {}
        for name in settings.shadows:
            since = max(counting.since_of.get(name, counting.since), counting.counts_from)
            found: Any = report["shadows"].get(name)
            shadows[name] = shadow_verdict(found, facts, since, counting.last.get(name))
        self.took = time.thread_time() - begun
        verdict = StandingVerdict(
            since=shown(max(counting.since, counting.counts_from)),
            as_of=shown(time.time()),
            window=settings.window,
            shadows=shadows,
            facts=facts,
            level=level,
            began=course.began,
            of=settings,
        )
        self.verdict = verdict
        self.covered, self._lost = taken, facts.lost
        self.announce(verdict)
        return verdict

    def announce(self, verdict: StandingVerdict) -> None:
        """Log a word that has become READY or NOT READY, or is no longer."""
        for name, each in verdict.shadows.items():
            before = self.words_before.get(name, "no_data")
            if each.word == before:
                continue
            self.words_before[name] = each.word
            if not {before, each.word} & {"pass", "fail"}:
                continue
            failing = [str(check["name"]) for check in each.checks if check["result"] == each.word]
            because = f" ({', '.join(failing[:4])})" if each.word == "fail" else ""
            line = f"the standing verdict on {name} is {HEADLINES[each.word]}{because} after {each.n:,} requests"
            values: dict[str, str | int] = {"shadow": name, "verdict": each.word, "before": before, "n": each.n}
            self._notify(Notice("verdict_changed", f"{line}; it was {HEADLINES[before]}", values))

    # --- what no longer holds ----------------------------------------------------------------------------------------

    def take_over(self, kept: tuple[StandingWord, ...]) -> None:
        """Say the words that were kept, until there is a report."""
        self._kept = kept
        self.words_before = {each.shadow: each.word for each in kept}

    def clear(self) -> None:
        """Drop the verdict: counting has started over. The words that were logged stay known."""
        self.verdict = None
        self._kept = ()
        self.covered = -1

    def forget(self, shadow: str) -> None:
        """Drop what is known of a shadow whose counts were dropped."""
        self.words_before.pop(shadow, None)
        if (verdict := self.verdict) is not None:
            rest = {name: each for name, each in verdict.shadows.items() if name != shadow}
            self.verdict = replace(verdict, shadows=rest)

    def take_ready_back(self, why: str) -> None:
        """READY of a shadow is NOT SURE YET until the next report."""
        if (verdict := self.verdict) is None:
            return
        shadows = {
            name: replace(each, word="inconclusive", sentence=why) if each.word == "pass" else each
            for name, each in verdict.shadows.items()
        }
        self.verdict = replace(verdict, shadows=shadows)


@contextlib.contextmanager
def _often_switched() -> Iterator[None]:
    """Let other threads have the interpreter more often, while this one works for long."""
    before = sys.getswitchinterval()
    sys.setswitchinterval(min(before, _SWITCH))
    try:
        yield
    finally:
        sys.setswitchinterval(before)
