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
4. Its state is written every minute while it changes, and at the end; and once it is read again after the program was
   killed, so that no such gap is forgotten. Where that fails it goes on in memory, says so
   once, and tries again.
5. An error ends neither the thread nor the log. A report that cannot be made is no READY.
"""

import asyncio
import contextlib
import os
import queue
import sys
import threading
import time
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, TypeVar

from shadowproxy import __version__
from shadowproxy.serve.journal.notices import Notice, defect
from shadowproxy.serve.standing.answer import (
    GAP,
    HEADLINES,
    Facts,
    NotStanding,
    ShadowVerdict,
    StandingVerdict,
    StandingWord,
    Word,
    shadow_verdict,
)
from shadowproxy.serve.standing.budget import FoldingBudget
from shadowproxy.serve.standing.keeping import Keeping
from shadowproxy.serve.standing.settings import StandingSettings, why_anew
from shadowproxy.serve.standing.times import shown
from shadowproxy.serve.standing.waiting import MOST_BYTES, WaitingLines

if TYPE_CHECKING:
    from shadowproxy.serve.standing.counting import Counting

BEGIN: Final = 3.0
"""Seconds after the first record until the thread begins, unless somebody asks before."""

GATHER: Final = 0.25
"""Seconds that records gather between two rounds."""

SAVE_EVERY: Final = GAP
"""Seconds after which a state that has changed is written."""

REPORT_EVERY: Final = 5.0
REPORT_MOST: Final = 300.0
"""Seconds between two reports that nobody asked for: the least and the most."""

ASKED_EVERY: Final = 1.0
"""Seconds for which a report answers those who ask."""

ANSWERED_WITHIN: Final = 10.0
"""Seconds that an operator's request waits for this thread."""

SILENT: Final = 900.0
"""Seconds without a report, while records come, after which READY is taken back: the thread hangs."""

_WORTH_BEGINNING: Final = 100  # records of a program that ends before the thread has begun
_CLOCK: Final = 1.0  # seconds that the clock may go back
_SWITCH: Final = 0.0005  # seconds after which another thread may have the interpreter while a report is made

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
        self._asked_every = asked_every
        self._opened = time.time()
        # Of the process from its start on: what waits for the thread's beginning came in all this time.
        self._clock = time.monotonic(), time.process_time(), 0.0
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
        self._taken_records = 0
        self._taken_shed = 0
        self._taken_long = 0
        self._facts = Facts()
        self._lost_before = 0
        self._began: str | None = None
        self._counting: Counting | None = None
        self._changed = False
        self._saved_at = 0.0
        self._reported_at = 0.0
        self._reported = -1  # of the lines taken off the queue
        self._reported_lost = 0
        self._report_took = 0.05
        self._defects: set[str] = set()
        # Published: each is replaced as a whole.
        self._verdict: StandingVerdict | None = None
        self._lost_now: int | None = None
        self._words_before: dict[str, Word] = {}
        self._restored: tuple[StandingWord, ...] = ()
        self._note_kept_words()

    def __repr__(self) -> str:
        return f"<Standing {self._verdict.word if self._verdict else 'not begun'} {self._budget!r}>"

    # --- any thread --------------------------------------------------------------------------------------------------

    def words(self) -> tuple[StandingWord, ...]:
        """The word on each configured shadow, as of the last report; nothing where it is switched off."""
        settings = self._settings
        if settings is None:
            return ()
        verdict = self._verdict
        if verdict is None:
            known = {each.shadow: each for each in self._restored}
        else:
            known = {each.shadow: each for each in verdict.words_now(settings, hangs=self._hangs())}
        return tuple(known.get(name, StandingWord(name, "no_data", 0)) for name in settings.shadows)

    def note_lost(self, lost: int) -> None:
        """How many exchanges have no record, since the program's start."""
        self._lost_now = lost

    def _hangs(self) -> bool:
        return self._waiting.put != self._reported and time.monotonic() - self._reported_at > SILENT

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
        """Begin anew: with all shadows, or one. Raises KeyError for an unknown one, and NotStanding."""
        settings = self._settings
        if settings is not None and shadow is not None and shadow not in settings.shadows:
            raise KeyError(shadow)
        return await self._ask(lambda: self._reset(shadow))

    def adopt(self, settings: StandingSettings | None) -> None:
        """Go on by these settings; begin anew, with all or some shadows, where what was counted is no longer theirs."""
        before, self._settings = self._settings, settings
        if settings is not None and self._thread is None:
            if before is None or not before.counts_with(settings):
                self._opened = time.time()
            self._budget.cpu = settings.cpu
            self._note_kept_words()  # where they are still said of the same
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
                except Exception as error:  # noqa: BLE001 - whoever asked gets it
                    answer.set_exception(NotStanding(defect(error)))

        self._commands.put(respond)
        self._start(early=True)
        try:
            return await asyncio.wait_for(asyncio.wrap_future(answer), ANSWERED_WITHIN)
        except TimeoutError:
            raise NotStanding(f"the recorder has not said its verdict within {ANSWERED_WITHIN:g} s") from None

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

        self._clock = (*self._clock[:2], time.thread_time())
        self._saved_at = self._reported_at = time.monotonic()
        if self._settings is not None and self._keeping.lock() is not False:
            self._restore(self._keeping.read())
        if self._settings is not None and self._counting is None:
            self._anew(None, self._opened)

    def _rest(self) -> None:
        """Sleep until there is something to do; what comes then gathers for a while."""
        self._resting = not self._waiting
        due: list[float] = []
        if self._counting is not None and self._changed:
            due.append(self._saved_at + SAVE_EVERY)
        if self._counting is not None and self._has_more():
            due.append(self._report_due())
        if (turns := self._turns_every()) is not None:
            due.append(self._reported_at + turns)
        wait = None if not due else max(0.0, min(due) - time.monotonic())
        if not self._waiting and self._commands.empty():
            self._woken.wait(wait)
        self._woken.clear()
        if self._commands.empty() and not self._ending.is_set():
            self._woken.wait(GATHER)

    def _round(self, *, ends: bool) -> None:
        self._fold_waiting()
        self._note_time()
        while True:
            try:
                command = self._commands.get_nowait()
            except queue.Empty:
                break
            self._fold_waiting()
            command()
        if self._counting is None or self._settings is None:
            return
        now, turns = time.monotonic(), self._turns_every()
        changed = self._has_more() and (ends or now >= self._report_due())
        if changed or (turns is not None and now - self._reported_at >= turns):
            self._report()
        if self._changed and (ends or now - self._saved_at >= SAVE_EVERY):
            self._save(closed=ends)

    def _has_more(self) -> bool:
        """Whether there is anything that the last report did not know."""
        return self._reported != self._waiting.done or self._lost() != self._reported_lost

    def _heed_clock(self, counting: "Counting") -> None:
        """Begin anew where the clock was set back to before the beginning: no record would count before it is later."""
        now = time.time()
        if counting.since > now + _CLOCK:
            self._words_before = {}
            self._anew("the clock was set back")
            return
        for name, since in list(counting.since_of.items()):
            if since > now + _CLOCK:
                counting.forget(name, now)
                self._changed, self._reported = True, -1

    def _turns_every(self) -> float | None:
        """Seconds after which records may leave the window, also where none come."""
        counting = self._counting
        window = None if counting is None else counting.settings.window
        return None if window is None else max(REPORT_MOST, window / 12)

    def _report_due(self) -> float:
        pause = min(REPORT_MOST, max(REPORT_EVERY, self._report_took * self._budget.pause))
        return self._reported_at + pause

    def _fold_waiting(self) -> None:
        if self._counting is not None and self._settings is not None:
            self._heed_clock(self._counting)
        counting = self._counting
        folded, begun = 0, time.thread_time()
        for line, draw, of in self._waiting.take():
            if counting is None:
                continue
            try:
                if counting.fold(line, draw, of):
                    self._facts.folded += 1
                    self._changed = True
            except Exception as error:  # noqa: BLE001 - one record less, and it is said
                self._facts.shed += draw
                self._say_defect(error)
            folded += 1
            time.sleep(0)  # the others first: compiled code gives them no turn by itself
        self._folded_now = folded, time.thread_time() - begun

    def _note_time(self) -> None:
        """Tell the budget what the last round took, and take over what the writing thread has counted."""
        before, self._clock = self._clock, (time.monotonic(), time.process_time(), time.thread_time())
        seconds, process, own = (now - then for now, then in zip(self._clock, before, strict=True))
        waiting = self._waiting
        records, shed = waiting.records - self._taken_records, waiting.shed - self._taken_shed
        self._facts.long += waiting.long - self._taken_long
        self._taken_records += records
        self._taken_shed += shed
        self._taken_long = waiting.long
        self._facts.records += records
        self._facts.shed += shed
        folded, took = self._folded_now
        self._budget.note(
            seconds=seconds, records=records, folded=folded, took=took, all_took=own, others=max(0.0, process - own)
        )
        waiting.level = self._budget.level

    # --- the verdict -------------------------------------------------------------------------------------------------

    def _report(self) -> StandingVerdict:
        """Make a report and publish what it says."""
        from shadowproxy.compare.report.gates import gates_in

        counting = self._counting
        assert counting is not None  # whoever calls has looked
        settings = counting.settings  # not those that are to be adopted: the counts are not theirs
        counting.turn(time.time())
        self._reported_at, begun = time.monotonic(), time.thread_time()
        facts = replace(self._facts, shed=self._facts.shed + counting.unreadable, lost=self._lost())
        facts.seconds = counting.seconds
        with _often_switched():
            report = counting.report(gates_in(settings.gates))
        shadows: dict[str, ShadowVerdict] = {}
        for name in settings.shadows:
            since = max(counting.since_of.get(name, counting.since), counting.counts_from)
            found: Any = report["shadows"].get(name)
            shadows[name] = shadow_verdict(found, facts, since, counting.last.get(name))
        self._report_took = time.thread_time() - begun
        verdict = StandingVerdict(
            since=shown(max(counting.since, counting.counts_from)),
            as_of=shown(time.time()),
            window=settings.window,
            shadows=shadows,
            facts=facts,
            level=self._budget.level,
            began=self._began,
            of=settings,
        )
        self._verdict = verdict
        self._reported, self._reported_lost = self._waiting.done, facts.lost
        self._announce(verdict)
        return verdict

    def _announce(self, verdict: StandingVerdict) -> None:
        """Log a word that has become READY or NOT READY, or is no longer."""
        for name, each in verdict.shadows.items():
            before = self._words_before.get(name, "no_data")
            if each.word == before:
                continue
            self._words_before[name] = each.word
            if not {before, each.word} & {"pass", "fail"}:
                continue
            failing = [str(check["name"]) for check in each.checks if check["result"] == each.word]
            because = f" ({', '.join(failing[:4])})" if each.word == "fail" else ""
            line = f"the standing verdict on {name} is {HEADLINES[each.word]}{because} after {each.n:,} requests"
            values: dict[str, str | int] = {"shadow": name, "verdict": each.word, "before": before, "n": each.n}
            self._notify(Notice("verdict_changed", f"{line}; it was {HEADLINES[before]}", values))

    def _fresh_verdict(self) -> StandingVerdict:
        verdict = self._verdict
        changed = self._has_more()
        age = time.monotonic() - self._reported_at
        if verdict is None or age > REPORT_MOST or (changed and age >= min(self._asked_every, 20 * self._report_took)):
            self._note_time()
            return self._report()
        return verdict

    def _saved_summary(self) -> bytes:
        """The summary with what else a fleet's verdict needs."""
        from shadowproxy.compare.fold.summary import resealed

        counting = self._counting
        assert counting is not None
        settings = counting.settings
        verdict = self._fresh_verdict()
        about = {
            "instance": self._instance,
            "version": __version__,
            "key": settings.key,
            "gates": dict(settings.gates),
            "since": {name: each.since for name, each in verdict.shadows.items()},
            "last": {name: each.last for name, each in verdict.shadows.items()},
            "shadows": dict(settings.shadows),
            "window": settings.window,
            "counted": verdict.facts.to_json(),
        }
        return resealed(counting.total(), {"standing": about})

    # --- beginning anew ----------------------------------------------------------------------------------------------

    def _anew(self, why: str | None, since: float | None = None) -> None:
        """Count from now on, or from `since`, with nothing. `why` is said in the answer."""
        from shadowproxy.serve.standing.counting import Counting

        assert self._settings is not None
        self._counting = Counting(self._settings, time.time() if since is None else since)
        self._instance = os.urandom(8).hex()
        self._began = why
        self._facts = Facts()
        self._lost_before = self._lost_now or 0
        self._verdict = None
        self._restored = ()
        self._changed = True
        self._reported = -1

    def _reset(self, shadow: str | None) -> StandingVerdict:
        counting = self._counting
        if shadow is None or counting is None:
            self._anew("an operator asked for it")
        else:
            counting.forget(shadow, time.time())
        self._words_before = {name: word for name, word in self._words_before.items() if name != (shadow or name)}
        verdict = self._report()
        self._changed = True
        self._save(closed=False)
        return verdict

    def _adopt(self) -> None:
        """Go on by the settings of the configuration in force."""
        settings, counting = self._settings, self._counting
        if settings is None:
            self._counting = self._verdict = None
            return
        self._budget.cpu = settings.cpu
        if counting is None:
            self._anew("it was switched on")
            return
        if (why := why_anew(counting.settings.key, settings.key)) is not None:
            self._words_before = {}
            self._anew(why)
            return
        self._exchange_candidates(counting, counting.settings.shadows, settings)
        counting.settings = settings
        self._changed = True
        self._reported = -1

    def _exchange_candidates(self, counting: "Counting", before: Any, settings: StandingSettings) -> None:
        """Forget the shadows that are others than before, or are gone."""
        for name in {**before, **settings.shadows}:
            if before.get(name) != settings.shadows.get(name):
                counting.forget(name, time.time())
                self._words_before.pop(name, None)
                if self._verdict is not None:
                    self._verdict = replace(
                        self._verdict, shadows={key: each for key, each in self._verdict.shadows.items() if key != name}
                    )

    # --- what is kept ------------------------------------------------------------------------------------------------

    def _lost(self) -> int:
        return self._facts.lost + max(0, (self._lost_now or 0) - self._lost_before)

    def _note_kept_words(self) -> None:
        """Take over the words that were kept, as long as nothing else is known."""
        self._restored = () if self._settings is None else self._keeping.words(self._settings)
        self._words_before = {each.shadow: each.word for each in self._restored}

    def _restore(self, raw: dict[str, Any] | None) -> None:
        """Go on with a state that was kept, if it is of the same systems."""
        from shadowproxy.serve.standing.counting import Counting

        settings = self._settings
        if raw is None or settings is None:
            return
        try:
            if (why := why_anew(raw["key"], settings.key)) is not None:
                self._anew(why)
                return
            counting = Counting.from_json(settings, raw)
            facts = Facts.from_json(raw["facts"])
            self._instance, self._began = str(raw["instance"]), raw["began"]
            before = dict(raw["candidates"])
            closed = bool(raw["closed"])
        except (ValueError, KeyError, TypeError) as error:
            self._anew("what was kept cannot be read")
            self._keeping.say_trouble(str(error)[:120])
            return
        self._counting, self._facts = counting, facts
        self._lost_before = self._lost_now or 0
        if not closed:
            self._facts.gaps += 1
        self._exchange_candidates(counting, before, settings)
        self._changed = True
        if not closed:
            self._save(closed=False)  # whoever is killed again within a minute has missed two

    def _save(self, *, closed: bool) -> None:
        counting = self._counting
        self._saved_at = time.monotonic()
        if counting is None or self._keeping.in_memory:
            self._changed = False
            return
        facts = replace(self._facts, lost=self._lost(), seconds=counting.seconds).to_json()
        state = counting.to_json() | {"facts": facts, "words": [list(each) for each in self.words()], "closed": closed}
        if self._keeping.write(state | {"instance": self._instance, "began": self._began, "version": __version__}):
            self._changed = False

    def _say_defect(self, error: Exception) -> None:
        """Log an error of the program, once; the verdict is none until a report succeeds."""
        what = defect(error)
        if self._verdict is not None:
            self._verdict = replace(
                self._verdict,
                shadows={
                    name: replace(each, word="inconclusive", sentence=f"a defect in the proxy: {what}")
                    if each.word == "pass"
                    else each
                    for name, each in self._verdict.shadows.items()
                },
            )
        if what not in self._defects and len(self._defects) < 8:
            self._defects.add(what)
            self._notify(Notice("verdict_trouble", f"a defect in the proxy: the standing verdict suffers: {what}"))


@contextlib.contextmanager
def _often_switched() -> Iterator[None]:
    """Let other threads have the interpreter more often, while this one works for long."""
    before = sys.getswitchinterval()
    sys.setswitchinterval(min(before, _SWITCH))
    try:
        yield
    finally:
        sys.setswitchinterval(before)
