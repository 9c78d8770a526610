"""The thread of the standing verdict: folds what the journal has written, says what a report would, and keeps it.

Its rules:

1. The writing thread only draws which lines are folded and puts these on a bounded queue. It waits for nothing here;
   what does not fit is `shed`, and counted.
2. This thread lets the others go first after each record, and keeps within a budget of CPU time (budget.py). It is not
   niced: on a busy machine it would wait for a processor while it holds the interpreter, and all others with it. It
   begins some seconds after the first record, or when somebody asks: the fold and the report take a fifth of a second
   to import.
3. It makes a report when asked, and by itself as often as the budget allows: at least every five minutes while records
   come, so that a change of the word is logged, once.
4. Its state is written every minute while it changes, and at the end; and as soon as it is read again after the program
   was killed, so that no such gap is forgotten. Where that fails it goes on in memory, says so once, and tries again.
5. An error ends neither the thread nor the log. While no report can be made, no shadow is READY.
"""

import asyncio
import queue
import threading
import time
from collections.abc import Callable, Iterable
from concurrent.futures import Future
from pathlib import Path
from typing import Final, TypeVar

from shadowproxy.serve.journal.notices import Notice, defect
from shadowproxy.serve.standing.answer import GAP, NotStanding, StandingVerdict, StandingWord
from shadowproxy.serve.standing.budget import FoldingBudget
from shadowproxy.serve.standing.course import Course
from shadowproxy.serve.standing.folding import Folding
from shadowproxy.serve.standing.keeping import Keeping
from shadowproxy.serve.standing.reports import ASKED_EVERY, REPORT_MOST, Reports
from shadowproxy.serve.standing.settings import StandingSettings
from shadowproxy.serve.standing.waiting import MOST_BYTES, WaitingLines

BEGIN: Final = 3.0
"""Seconds after the first record until the thread begins, unless somebody asks before."""

GATHER: Final = 0.25
"""Seconds that records gather between two rounds."""

SAVE_EVERY: Final = GAP
"""Seconds after which a state that has changed is written."""

ANSWERED_WITHIN: Final = 10.0
"""Seconds that an operator's request waits for this thread."""

_WORTH_BEGINNING: Final = 100  # records of a program that ends before the thread has begun
_CLOCK: Final = 1.0  # seconds that the clock may go back

T = TypeVar("T")


class Standing:
    """Owns a thread, from the first record or question on, until `close`.

    `directory` is the log's, None for standard output: then nothing is kept. `proxy` is the host's name, `notify` gets
    notices, in that thread. `settings` is None where it is switched off. `begin` and `asked_every` are seconds.
    """

    def __init__(
        self,
        directory: Path | None,
        *,
        proxy: str,
        settings: StandingSettings | None,
        notify: Callable[[Notice], object],
        begin: float = BEGIN,
        asked_every: float = ASKED_EVERY,
    ) -> None:
        self._settings = settings
        self._notify = notify
        self._begin_after = begin
        self._opened = time.time()
        self._keeping = Keeping(directory, proxy, notify)
        self._budget = FoldingBudget(None if settings is None else settings.cpu)
        self._commands: queue.SimpleQueue[Callable[[], None]] = queue.SimpleQueue()
        self._woken = threading.Event()
        self._ending = threading.Event()
        self._starting = threading.Lock()
        self._thread: threading.Thread | None = None
        self._resting = True
        self._waiting = WaitingLines()
        # The thread's own.
        self._defects: set[str] = set()
        self._course = Course(self._keeping)
        self._folding = Folding(self._waiting, self._budget, self._say_defect)
        self._reports = Reports(notify, asked_every)
        self._take_kept_words_over()

    def __repr__(self) -> str:
        return f"<Standing {self._reports!r} {self._budget!r}>"

    # --- any thread --------------------------------------------------------------------------------------------------

    def words(self) -> tuple[StandingWord, ...]:
        """The word on each configured shadow, as of the last report; nothing where it is switched off."""
        settings = self._settings
        return () if settings is None else self._reports.words(settings, self._waiting.put)

    def note_lost(self, lost: int) -> None:
        """How many exchanges have no record, since the program's start."""
        self._course.note_lost(lost)

    # --- the writing thread ------------------------------------------------------------------------------------------

    def offer(self, lines: Iterable[tuple[bytes, StandingSettings]]) -> None:
        """Have records counted that were written, each recorded under its settings. Never waits."""
        waiting = self._waiting
        waiting.offer(lines)
        if waiting and self._resting:
            self._resting = False
            self._start(early=False)
            self._woken.set()
        elif waiting.size > MOST_BYTES // 4:
            self._start(early=True)

    def _start(self, *, early: bool) -> None:
        with self._starting:
            if self._thread is None and not self._ending.is_set():
                self._thread = threading.Thread(target=self._run, name="shadowproxy-standing", daemon=True)
                self._thread.start()
        if early:
            self._begin_after = 0.0
            self._woken.set()

    # --- the event loop ----------------------------------------------------------------------------------------------

    async def verdict(self) -> StandingVerdict:
        """The verdict as of now, or of a second ago. Raises NotStanding."""
        return await self._ask(self._fresh_verdict)

    async def summary(self) -> bytes:
        """All that was counted, as a saved summary with more keys. Raises NotStanding."""
        return await self._ask(self._saved_summary)

    async def reset(self, shadow: str | None = None) -> StandingVerdict:
        """Start over: with all shadows, or one. Raises KeyError for an unknown one, and NotStanding."""
        settings = self._settings
        if settings is not None and shadow is not None and shadow not in settings.shadows:
            raise KeyError(shadow)
        return await self._ask(lambda: self._reset(shadow))

    def adopt(self, settings: StandingSettings | None) -> None:
        """Go on under these settings; start over, with all or some shadows, if they no longer fit what was counted."""
        before, self._settings = self._settings, settings
        if settings is not None and self._thread is None:
            if before is None or not before.counts_with(settings):
                self._opened = time.time()
            self._budget.cpu = settings.cpu
            self._take_kept_words_over()
        elif settings != before:
            self._commands.put(self._adopt)
            self._woken.set()

    def close(self, timeout: float) -> None:
        """Count what waits, keep all of it and end, within `timeout` seconds. Blocks."""
        with self._starting:
            self._ending.set()
            thread = self._thread
        if thread is None and len(self._waiting) >= _WORTH_BEGINNING:
            thread = self._thread = threading.Thread(target=self._run, name="shadowproxy-standing", daemon=True)
            thread.start()
        self._woken.set()
        if thread is not None:
            thread.join(timeout)
        if thread is None or not thread.is_alive():
            self._keeping.close()

    async def _ask(self, question: Callable[[], T]) -> T:
        if self._settings is None:
            raise NotStanding("`verdict` is null in the configuration", off=True)
        answer: Future[T] = Future()

        def respond() -> None:
            if answer.set_running_or_notify_cancel():
                try:
                    answer.set_result(question())
                except Exception as error:  # noqa: BLE001 - the question gets it as its answer
                    answer.set_exception(NotStanding(defect(error)))

        self._commands.put(respond)
        self._start(early=True)
        try:
            return await asyncio.wait_for(asyncio.wrap_future(answer), ANSWERED_WITHIN)
        except TimeoutError:
            raise NotStanding(f"the recorder did not give its verdict within {ANSWERED_WITHIN:g} s") from None

    # --- the thread --------------------------------------------------------------------------------------------------

    def _run(self) -> None:
        until = time.monotonic() + self._begin_after
        while not self._ending.is_set() and self._begin_after and (left := until - time.monotonic()) > 0:
            self._woken.wait(left)
            self._woken.clear()
        if self._ending.is_set() and len(self._waiting) < _WORTH_BEGINNING and self._commands.empty():
            return  # the end of a short run need not wait for the imports
        try:
            self._begin()
        except Exception as error:  # noqa: BLE001 - the log must be written on
            self._say_defect(error)
            self._settings = None
        while True:
            ends = self._ending.is_set()
            try:
                self._round(ends=ends)
            except Exception as error:  # noqa: BLE001 - as above
                self._say_defect(error)
            if ends:
                return
            self._rest()

    def _begin(self) -> None:
        """Import what counts, and go on with what was kept."""
        from shadowproxy.serve.standing import counting as _  # noqa: F401 - a fifth of a second, once

        self._folding.begin()
        self._course.saved_at = self._reports.made_at = time.monotonic()
        settings = self._settings
        if settings is not None and not self._course.resume(settings, self._opened, self.words()):
            self._reports.clear()

    def _rest(self) -> None:
        """Sleep until there is something to do; what comes then gathers for a while."""
        self._resting = not self._waiting
        course, reports = self._course, self._reports
        due: list[float] = []
        if course.counting is not None and course.changed:
            due.append(course.saved_at + SAVE_EVERY)
        if course.counting is not None and reports.has_news(course, self._waiting.done):
            due.append(reports.due(self._budget.pause))
        if (turns := self._turns_every()) is not None:
            due.append(reports.made_at + turns)
        wait = None if not due else max(0.0, min(due) - time.monotonic())
        if not self._waiting and self._commands.empty():
            self._woken.wait(wait)
        self._woken.clear()
        if self._commands.empty() and not self._ending.is_set():
            self._woken.wait(GATHER)

    def _round(self, *, ends: bool) -> None:
        self._fold()
        self._folding.note_time(self._course)
        while True:
            try:
                command = self._commands.get_nowait()
            except queue.Empty:
                break
            self._fold()
            command()
        course, reports = self._course, self._reports
        if course.counting is None or self._settings is None:
            return
        now, turns = time.monotonic(), self._turns_every()
        has_news = reports.has_news(course, self._waiting.done)
        is_due = has_news and (ends or now >= reports.due(self._budget.pause))
        if is_due or (turns is not None and now - reports.made_at >= turns):
            self._report()
        if course.changed and (ends or now - course.saved_at >= SAVE_EVERY):
            course.save(self.words(), closed=ends)

    def _fold(self) -> None:
        self._heed_clock()
        self._folding.fold(self._course)

    def _heed_clock(self) -> None:
        """Start over where the clock was set back to before the beginning: no record would count until it is later."""
        course, reports, settings, now = self._course, self._reports, self._settings, time.time()
        if course.counting is None or settings is None:
            return
        if course.counting.since > now + _CLOCK:
            course.begin(settings, "the clock was set back")
            reports.clear()
            reports.words_before = {}
            return
        for name, since in list(course.counting.since_of.items()):
            if since > now + _CLOCK:
                course.counting.forget(name, now)
                course.changed = True
                reports.covered = -1

    def _turns_every(self) -> float | None:
        """Seconds after which records may leave the window, also where none come."""
        counting = self._course.counting
        window = None if counting is None else counting.settings.window
        return None if window is None else max(REPORT_MOST, window / 12)

    # --- what it is asked for ----------------------------------------------------------------------------------------

    def _report(self) -> StandingVerdict:
        return self._reports.make(self._course, level=self._budget.level, taken=self._waiting.done)

    def _fresh_verdict(self) -> StandingVerdict:
        if (verdict := self._reports.fresh(self._course, self._waiting.done)) is not None:
            return verdict
        self._folding.note_time(self._course)
        return self._report()

    def _saved_summary(self) -> bytes:
        return self._course.summary(self._fresh_verdict())

    def _reset(self, shadow: str | None) -> StandingVerdict:
        course, reports = self._course, self._reports
        if shadow is None or course.counting is None:
            assert self._settings is not None  # `_ask` has looked
            course.begin(self._settings, "an operator asked for it")
            reports.clear()
            reports.words_before = {}
        else:
            course.counting.forget(shadow, time.time())
            reports.words_before.pop(shadow, None)
        verdict = self._report()
        course.changed = True
        course.save(self.words(), closed=False)
        return verdict

    def _adopt(self) -> None:
        """Go on under the settings of the configuration in force."""
        course, reports, settings = self._course, self._reports, self._settings
        if settings is None:
            course.counting = reports.verdict = None
            return
        self._budget.cpu = settings.cpu
        if course.counting is None:
            course.begin(settings, "it was switched on")
            reports.clear()
            return
        forgotten = course.adopt(settings)
        if forgotten is None:
            reports.clear()
            reports.words_before = {}
            return
        for name in forgotten:
            reports.forget(name)
        reports.covered = -1

    def _take_kept_words_over(self) -> None:
        """Say the words that were kept of the configured shadows, as long as nothing else is known."""
        self._reports.take_over(() if self._settings is None else self._keeping.words(self._settings))

    def _say_defect(self, error: Exception) -> None:
        """Log an error of the program, once; no shadow is READY until a report succeeds."""
        what = defect(error)
        self._reports.take_ready_back(f"a defect in the proxy: {what}")
        if what not in self._defects and len(self._defects) < 8:
            self._defects.add(what)
            self._notify(
                Notice("verdict_trouble", f"the standing verdict is affected by a defect in the proxy: {what}")
            )
