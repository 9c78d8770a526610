"""Keeps the state of the standing verdict beside the log, and logs, once, where that fails."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

from shadowproxy.serve.journal.notices import Notice
from shadowproxy.serve.standing.answer import WORDS, Facts, StandingWord, withheld
from shadowproxy.serve.standing.settings import StandingSettings, why_start_over
from shadowproxy.serve.standing.state import StateFile


class Keeping:
    """Owns the state's file and its lock, until `close`. `directory` is the log's; without one nothing is kept."""

    def __init__(self, directory: Path | None, proxy: str, notify: Callable[[Notice], object]) -> None:
        self.file = None if directory is None else StateFile(directory, proxy)
        self._notify = notify
        self._kept = True

    def __repr__(self) -> str:
        return f"<Keeping {self.file or 'nothing'}>"

    @property
    def in_memory(self) -> bool:
        return self.file is None

    def lock(self) -> bool | None:
        """Whether the state here is this program's; None where that cannot be said, as nothing can be written."""
        if self.file is None:
            return None
        try:
            mine = self.file.lock()
        except OSError as error:
            self.say_trouble(error.strerror or str(error))
            return None
        if not mine:
            self.say_trouble("another program keeps its own there, by the same host name")
        return mine

    def read(self) -> dict[str, Any] | None:
        """What was kept; None where there is nothing."""
        return None if self.file is None else self.file.read()

    def write(self, state: dict[str, Any]) -> bool:
        """Whether the state is on the disk."""
        if self.file is None or not self.lock():
            return False
        try:
            self.file.write(state)
        except OSError as error:
            self.say_trouble(error.strerror or str(error))
            return False
        if not self._kept:
            self._kept = True
            self._notify(Notice("verdict_recovered", "the standing verdict is kept beside the log again"))
        return True

    def words(self, settings: StandingSettings) -> tuple[StandingWord, ...]:
        """The words that were kept, on those shadows that are still the same; without importing what counts.

        READY is not said if the program was killed since, as it may have seen more, or if it is too old.
        """
        raw = self.read()
        if raw is None:
            return ()
        try:
            if why_start_over(raw["key"], settings.key) is not None:
                return ()
            same = {name for name, id in settings.shadows.items() if raw["candidates"].get(name) == id}
            facts = Facts.from_json(raw["facts"])
            found = [StandingWord(name, word, int(n)) for name, word, n in raw["words"] if name in same]
            return tuple(
                each
                if each.word != "pass" or (raw["closed"] and withheld(facts, raw["last"][each.shadow]) is None)
                else each._replace(word="inconclusive")
                for each in found
                if each.word in WORDS
            )
        except (KeyError, TypeError, ValueError, AttributeError):
            return ()

    def say_trouble(self, why: str) -> None:
        if self._kept:
            self._kept = False
            line = f"the standing verdict cannot be kept beside the log, so after a restart it starts over: {why}"
            self._notify(Notice("verdict_trouble", line))

    def close(self) -> None:
        if self.file is not None:
            self.file.close()
