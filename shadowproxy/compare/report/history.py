"""The history of a watched log, as JSON lines: what each look found, and which changes of a word were posted.

A line that is torn or no JSON is skipped: a watcher that was killed may have left half of its last one.
"""

from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final, Literal, TypeAlias, TypedDict

import orjson

from shadowproxy.compare.report.checks.check import Result
from shadowproxy.compare.report.figures.types import ResultWord
from shadowproxy.compare.report.verdict import HEADLINES

FORMAT: Final = 1
MOST_LOOKS: Final = 5000
"""Looks that are read back: seven months of hourly ones."""

KEY: Final = "shadowproxy_watch"

Word: TypeAlias = Literal["pass", "fail", "inconclusive", "no_data"]


HEADLINE_OF: Final[dict[Word, str]] = {
    "pass": HEADLINES[Result.PASS],
    "fail": HEADLINES[Result.FAIL],
    "inconclusive": HEADLINES[Result.INCONCLUSIVE],
    "no_data": HEADLINES[Result.NO_DATA],
}


EXIT_STATUSES: Final[dict[Word, int]] = {"pass": 0, "fail": 1, "inconclusive": 3, "no_data": 3}
"""What a look's word is to a shell: as a report's result."""


def word_of(result: ResultWord) -> Word:
    """A report's result as machines read it."""
    return "no_data" if result == "no data" else result


class Span(TypedDict):
    """A figure and its range, which holds at every look."""

    value: float
    low: float | None
    high: float | None


class LabelsSeen(TypedDict):
    """Both arms against the labels that have come. `difference` is the shadow's less live's."""

    measure: str
    labelled: int
    live: float
    shadow: float
    difference: Span


class WindowSeen(TypedDict):
    """The labels that were known within `seconds` of their answers.

    due: pairs that are at least as old as that. rest: how the labelled ones differ from the others, in a sentence;
    differ: whether that is more than chance does.
    """

    seconds: float
    due: int
    labelled: int
    found: LabelsSeen | None
    rest: str | None
    differ: bool


class ShadowSeen(TypedDict):
    """One shadow at one look. `n` is its pairs, `checks` each check's result."""

    verdict: Word
    headline: str
    sentence: str
    n: int
    checks: dict[str, Word]
    agreement: Span | None
    labels: LabelsSeen | None
    windows: list[WindowSeen]


Change = TypedDict("Change", {"id": str, "shadow": str, "from": Word, "to": Word})
"""A shadow's word has changed. The ID is the change's own, in every history."""


class Look(TypedDict):
    """One look. `faults` are what could not be read, one sentence each; `webhook` is whether changes are posted."""

    shadowproxy_watch: int
    at: str
    records: int
    verdict: Word
    shadows: dict[str, ShadowSeen]
    changes: list[Change]
    faults: list[str]
    webhook: bool


@dataclass(slots=True)
class History:
    """What a history holds.

    Attributes:
        looks: the last `MOST_LOOKS` looks, oldest first.
        words: each shadow's last word.
        pending: changes that were not posted yet with the look of each, oldest first.
        unreadable: lines that were skipped.
    """

    looks: list[Look] = field(default_factory=list)
    words: dict[str, Word] = field(default_factory=dict)
    pending: dict[str, tuple[Look, Change]] = field(default_factory=dict)
    unreadable: int = 0

    def add(self, look: Look) -> None:
        self.looks.append(look)
        if len(self.looks) > MOST_LOOKS:
            del self.looks[0]
        for name, seen in look["shadows"].items():
            self.words[name] = seen["verdict"]
        for change in look["changes"] if look["webhook"] else ():
            self.pending[change["id"]] = look, change


def read_history(path: str | Path) -> History:
    """The history in a file; an empty one where there is no file. Raises OSError."""
    try:
        with open(path, "rb") as file:
            return history_of(file)
    except FileNotFoundError:
        return History()


def history_of(lines: Iterable[bytes]) -> History:
    """The history in these lines."""
    found = History()
    for raw in lines:
        if not raw.strip():
            continue
        try:
            line: Any = orjson.loads(raw)
            if line[KEY] != FORMAT:
                raise ValueError("another version")
            if "posted" in line:
                found.pending.pop(line["posted"], None)
            else:
                found.add(line)
        except (ValueError, TypeError, KeyError, AttributeError):
            found.unreadable += 1
    return found
