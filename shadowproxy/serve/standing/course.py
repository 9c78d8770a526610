"""What was counted since one beginning: how it begins, goes on under another configuration, and is kept on the disk."""

import os
import time
from collections.abc import Mapping
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from shadowproxy import __version__
from shadowproxy.serve.standing.answer import Facts, StandingVerdict, StandingWord
from shadowproxy.serve.standing.keeping import Keeping
from shadowproxy.serve.standing.settings import StandingSettings, why_start_over

if TYPE_CHECKING:  # its modules take a fifth of a second to import: root.py has the thread do it
    from shadowproxy.serve.standing.counting import Counting


class Course:
    """The counts since the last beginning. For one thread, except `note_lost`.

    Attributes:
        counting: the counts; None before the first beginning and while the standing verdict is switched off.
        facts: how much of the log was counted; `lost` has what of it is lost by now.
        began: why it started over; None if it did not.
        changed: whether something has not been written to the disk.
        saved_at: when it was last written, by the monotonic clock.
    """

    def __init__(self, keeping: Keeping) -> None:
        self.counting: Counting | None = None
        self.facts = Facts()
        self.began: str | None = None
        self.changed = False
        self.saved_at = 0.0
        self._keeping = keeping
        self._instance = ""
        self._lost_first: int | None = None  # by the program's other processes, before this one
        self._lost_before: int | None = None  # before the beginning; None: `_lost_first`
        self._lost_now: int | None = None

    def __repr__(self) -> str:
        return f"<Course {self._instance or 'not begun'}, {self.facts.folded} folded>"

    def note_lost(self, lost: int) -> None:
        """How many exchanges have no record, since the program's start. For any thread."""
        if self._lost_first is None:
            self._lost_first = lost
        self._lost_now = lost

    @property
    def lost(self) -> int:
        """Exchanges without a record since the beginning."""
        before = self._lost_first if self._lost_before is None else self._lost_before
        return self.facts.lost + max(0, (self._lost_now or 0) - (before or 0))

    # --- where it begins and goes on ---------------------------------------------------------------------------------

    def begin(self, settings: StandingSettings, why: str | None, since: float | None = None) -> None:
        """Count from now on, or from `since`, with nothing. `why` is part of the answer."""
        from shadowproxy.serve.standing.counting import Counting

        self.counting = Counting(settings, time.time() if since is None else since)
        self.facts = Facts()
        self.began = why
        self.changed = True
        self._instance = os.urandom(8).hex()
        self._lost_before = self._lost_now if since is None else None

    def resume(self, settings: StandingSettings, opened: float, words: tuple[StandingWord, ...]) -> bool:
        """Go on with what was kept, if it is of the same systems; otherwise begin, as of `opened`, and return False.

        The first beginning is written at once, with `words`, and so is what a killed program had left: the program may
        be killed again within a minute.
        """
        raw = None if self._keeping.lock() is False else self._keeping.read()
        if raw is None:
            self.begin(settings, None, opened)
            self.save(words, closed=False)
            return False
        if (why := self._why_not_resumed(settings, raw)) is not None:
            self.begin(settings, why)
            return False
        if not raw["closed"]:
            self.facts.gaps += 1
            self.save(words, closed=False)
        return True

    def _why_not_resumed(self, settings: StandingSettings, raw: dict[str, Any]) -> str | None:
        from shadowproxy.serve.standing.counting import Counting

        try:
            if (why := why_start_over(raw["key"], settings.key)) is not None:
                return why
            counting = Counting.from_json(settings, raw)
            facts = Facts.from_json(raw["facts"])
            instance, began = str(raw["instance"]), raw["began"]
            before = dict(raw["candidates"])
            _ = raw["closed"]
        except (ValueError, KeyError, TypeError) as error:
            self._keeping.say_trouble(str(error)[:120])
            return "what was kept cannot be read"
        self.counting, self.facts, self.began, self._instance = counting, facts, began, instance
        self._lost_before = None
        _forget_changed(counting, before, settings)
        self.changed = True
        return None

    def adopt(self, settings: StandingSettings) -> tuple[str, ...] | None:
        """Go on under these settings. The shadows whose counts were dropped; None where all of it started over."""
        counting = self.counting
        assert counting is not None  # the caller has looked
        if (why := why_start_over(counting.settings.key, settings.key)) is not None:
            self.begin(settings, why)
            return None
        forgotten = _forget_changed(counting, counting.settings.shadows, settings)
        counting.settings = settings
        self.changed = True
        return forgotten

    # --- what is kept and handed out ---------------------------------------------------------------------------------

    def save(self, words: tuple[StandingWord, ...], *, closed: bool) -> None:
        """Write all of it beside the log, with the words on the shadows; `closed` at the program's end."""
        counting = self.counting
        self.saved_at = time.monotonic()
        if counting is None or self._keeping.in_memory:
            self.changed = False
            return
        facts = replace(self.facts, lost=self.lost, seconds=counting.seconds).to_json()
        state = counting.to_json() | {"facts": facts, "words": [list(each) for each in words], "closed": closed}
        if self._keeping.write(state | {"instance": self._instance, "began": self.began, "version": __version__}):
            self.changed = False

    def summary(self, verdict: StandingVerdict) -> bytes:
        """All that was counted, as a saved summary, with what else a fleet's verdict needs."""
        from shadowproxy.compare.fold.summary import resealed

        counting = self.counting
        assert counting is not None  # there is a verdict on it
        settings = counting.settings
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


def _forget_changed(counting: "Counting", before: Mapping[str, str], settings: StandingSettings) -> tuple[str, ...]:
    """Drop the counts of shadows that have another address than before, or are gone."""
    changed = tuple(name for name in {**before, **settings.shadows} if before.get(name) != settings.shadows.get(name))
    for name in changed:
        counting.forget(name, time.time())
    return changed
