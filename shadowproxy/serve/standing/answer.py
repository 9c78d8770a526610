"""What the standing verdict is, in words for programs and people: from a report and how much of the log it rests on."""

import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Final, Literal, NamedTuple, TypeAlias

from shadowproxy.serve.standing.times import seconds_of, shown

if TYPE_CHECKING:  # live processes know the words, and import no rules
    from shadowproxy.serve.standing.settings import StandingSettings

Word: TypeAlias = Literal["pass", "fail", "inconclusive", "no_data"]

# A report's words: compare/report/history.py has the same, but live processes must not import that room.
WORDS: Final[tuple[Word, ...]] = ("pass", "fail", "inconclusive", "no_data")
WORST_FIRST: Final[tuple[Word, ...]] = ("fail", "inconclusive", "no_data", "pass")
HEADLINES: Final[Mapping[Word, str]] = {
    "pass": "READY",
    "fail": "NOT READY",
    "inconclusive": "NOT SURE YET",
    "no_data": "NO DATA",
}
SCHEMA: Final = 1

MOST_UNSEEN: Final = 0.05
"""The share of the records that may be lost or shed: load is high where they are, so the others are no fair sample."""

MOST_LONG: Final = 0.005
"""The share of the records that may be too long to be counted: what long answers have in common is not counted at all,
and a loss of so many answers is no READY."""

GAP: Final = 60.0
"""Seconds that a killed recorder may not have kept (root.SAVE_EVERY)."""

STALE: Final = 24 * 3600.0
"""Seconds after the last request from which on nothing is known of the shadow any more."""

SLIDING: Final = (
    "a sliding window is right at each single look, but not over many: of many looks, sooner or later one shows a "
    "wrong word"
)


class NotStanding(Exception):
    """There is no standing verdict: it is `off`, or the thread does not answer. The text is one line."""

    def __init__(self, why: str, *, off: bool = False) -> None:
        super().__init__(why)
        self.off = off


class StandingWord(NamedTuple):
    """The standing verdict on one shadow: a word, and how many requests it rests on."""

    shadow: str
    word: Word
    n: int


@dataclass(slots=True)
class Facts:
    """How much of the log was counted, since the beginning.

    Attributes:
        records: written records with a shadow, of which `folded` were counted, for as many as the level said.
        shed: records that were to be folded and were not, as too many waited, each as often as it would have counted.
        long: the same of records that were too long to be folded.
        lost: exchanges without a record.
        gaps: how often the program ended without keeping its state; up to a minute is missing each time.
        seconds: from the beginning to the last request.
    """

    records: int = 0
    folded: int = 0
    shed: int = 0
    long: int = 0
    lost: int = 0
    gaps: int = 0
    seconds: int = 0

    def to_json(self) -> dict[str, int]:
        return {name: getattr(self, name) for name in _FACTS}

    @classmethod
    def from_json(cls, raw: Any) -> "Facts":
        """Raises KeyError, TypeError or ValueError."""
        return cls(*(int(raw[name]) for name in _FACTS))

    def add(self, other: "Facts") -> None:
        """Add what another sidecar counted."""
        for name in _FACTS:
            setattr(self, name, getattr(self, name) + getattr(other, name))


_FACTS: Final = ("records", "folded", "shed", "long", "lost", "gaps", "seconds")


@dataclass(frozen=True, slots=True)
class ShadowVerdict:
    """The verdict on one shadow. `checks` have the report's keys; `since` and `last` are times as text."""

    word: Word
    sentence: str
    n: int
    since: str
    last: str | None = None
    checks: tuple[Mapping[str, Any], ...] = ()

    @property
    def headline(self) -> str:
        return HEADLINES[self.word]


@dataclass(frozen=True, slots=True)
class StandingVerdict:
    """The standing verdict as of one moment. Plain data, so that any thread may read it."""

    since: str
    as_of: str
    window: float | None = None
    shadows: Mapping[str, ShadowVerdict] = field(default_factory=dict)
    facts: Facts = field(default_factory=Facts)
    level: int = 0
    began: str | None = None
    of: "StandingSettings | None" = None

    @property
    def word(self) -> Word:
        words = [each.word for each in self.shadows.values()]
        return next((word for word in WORST_FIRST if word in words), "no_data")

    def words_now(self, settings: "StandingSettings", *, hangs: bool = False) -> tuple[StandingWord, ...]:
        """The words on those shadows that are still the same; READY is taken back where it is too old by now."""
        of = self.of
        if of is None or of.key != settings.key:
            return ()
        return tuple(
            StandingWord(name, each.word, each.n)
            if each.word != "pass" or not (hangs or withheld(self.facts, each.last))
            else StandingWord(name, "inconclusive", each.n)
            for name, each in self.shadows.items()
            if of.shadows.get(name) == settings.shadows.get(name)
        )


def word_of(result: str) -> Word:
    """The word for a report's result."""
    return "no_data" if result == "no data" else result  # type: ignore[return-value]


def shadow_verdict(report: Mapping[str, Any] | None, facts: Facts, since: float, last: str | None) -> ShadowVerdict:
    """The verdict on one shadow, from its part of a report; None where no record has it.

    READY is withheld where too little of the log was counted, or nothing has been for long.
    """
    if report is None:
        return ShadowVerdict("no_data", "no request was sent to it since then", 0, shown(since))
    word = word_of(report["verdict"]["result"])
    sentence = report["verdict"]["sentence"]
    checks = [*report["checks"]]
    if word == "pass" and (why := withheld(facts, last)) is not None:
        word, sentence = "inconclusive", why
        checks.append({"name": "recorder", "question": "engineering", "result": "inconclusive", "said": why})
    return ShadowVerdict(word, sentence, report["pairs"]["n"], shown(since), last, tuple(checks))


def withheld(facts: Facts, last: str | None, now: float | None = None) -> str | None:
    """Why READY is not said though every check passes."""
    all_records = facts.records + facts.lost
    if all_records and facts.lost > MOST_UNSEEN * all_records:
        return (
            f"{facts.lost:,} of {all_records:,} requests have no record, so those that have one are not a fair sample"
        )
    if facts.shed > MOST_UNSEEN * max(1, facts.records):
        missing = f"{facts.shed:,} of {facts.records:,} records"
        return f"there was no time to count {missing}, so the others are not a fair sample"
    if facts.long > MOST_LONG * max(1, facts.records):
        return (
            f"{facts.long:,} of {facts.records:,} records were too long to be counted, so what they hold is not known"
        )
    if facts.gaps * GAP > MOST_UNSEEN * facts.seconds:
        times = "once" if facts.gaps == 1 else f"{facts.gaps} times"
        return f"the recorder was killed {times} in {facts.seconds:,} s: up to a minute is missing each time"
    if last is not None and (now or time.time()) - seconds_of(last) > STALE:
        return f"the last request was at {last[:19]}Z: nothing is known of the time since"
    return None


def as_json(verdict: StandingVerdict, *, shadow: str | None = None, says: bool = True) -> dict[str, Any]:
    """What `GET /verdict` answers. Without `says` there are no sentences: they may quote values from requests."""
    shown_shadows = {name: each for name, each in verdict.shadows.items() if shadow is None or name == shadow}
    words = [each.word for each in shown_shadows.values()]
    facts = verdict.facts
    return {
        "schema": SCHEMA,
        "verdict": next((word for word in WORST_FIRST if word in words), "no_data"),
        "since": verdict.since,
        "as_of": verdict.as_of,
        "window": verdict.window,
        "shadows": {name: _shadow(each, says=says) for name, each in shown_shadows.items()},
        "counted": {**facts.to_json(), "one_in": 1 << verdict.level},
        "notes": _notes(verdict),
    }


def _shadow(each: ShadowVerdict, *, says: bool) -> dict[str, Any]:
    return {
        "verdict": each.word,
        "headline": each.headline,
        "sentence": each.sentence if says else None,
        "n": each.n,
        "since": each.since,
        "last": each.last,
        "checks": [
            {"check": check["name"], "result": word_of(check["result"]), "says": check["said"] if says else None}
            for check in each.checks
        ],
    }


def _notes(verdict: StandingVerdict) -> list[str]:
    notes = []
    if verdict.began is not None:
        notes.append(f"it started over at {verdict.since}: {verdict.began}")
    if verdict.window is not None:
        notes.append(SLIDING)
    if verdict.facts.gaps:
        times = "once" if verdict.facts.gaps == 1 else f"{verdict.facts.gaps} times"
        notes.append(f"the recorder was killed {times}: up to a minute of records is missing each time")
    if verdict.level:
        notes.append(f"one record in {1 << verdict.level} is counted at present, and stands for all of them")
    return notes
