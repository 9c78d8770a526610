"""What a check is: its result, its sentence, and the figures that it rests on."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from enum import StrEnum
from typing import Final

from shadowproxy.compare.report.figures.types import CheckFigures, Output, PairFigures, Question, ResultWord
from shadowproxy.compare.report.gates import Gates
from shadowproxy.compare.report.judged import judged_output
from shadowproxy.compare.report.stats import widened


class Result(StrEnum):
    PASS = "pass"
    FAIL = "fail"
    INCONCLUSIVE = "inconclusive"
    NO_DATA = "no data"

    @property
    def word(self) -> ResultWord:
        """As the report's JSON has it."""
        return _WORDS[self]


_WORDS: Final[Mapping[Result, ResultWord]] = {
    Result.PASS: "pass",
    Result.FAIL: "fail",
    Result.INCONCLUSIVE: "inconclusive",
    Result.NO_DATA: "no data",
}

WORST_FIRST: Final = (Result.FAIL, Result.INCONCLUSIVE, Result.NO_DATA, Result.PASS)


@dataclass(frozen=True, slots=True)
class Finding:
    """What one rule finds.

    Attributes:
        value, low, high: the figure with its interval, in the unit of `allowed`.
        allowed: the line that the figure is held to.
        more: how many more requests, at the same rates, would settle an inconclusive finding.
        field: the place in live's answers, or the field of the requests, that was judged.
    """

    result: Result
    sentence: str
    value: float | None = None
    low: float | None = None
    high: float | None = None
    allowed: float | None = None
    more: int | None = None
    field: str | None = None


@dataclass(frozen=True, slots=True)
class Check:
    """One line of the verdict: a finding under the name of its check. `route` is the only route that it is about."""

    name: str
    question: Question
    finding: Finding
    route: str | None = None

    @property
    def result(self) -> Result:
        return self.finding.result

    @property
    def sentence(self) -> str:
        return self.finding.sentence

    @property
    def more(self) -> int | None:
        return self.finding.more

    def figures(self) -> CheckFigures:
        """The check as the report's JSON has it."""
        found = self.finding
        return {
            "name": self.name,
            "question": self.question,
            "result": found.result.word,
            "said": found.sentence,
            "value": found.value,
            "low": found.low,
            "high": found.high,
            "allowed": found.allowed,
            "more": found.more,
            "field": found.field,
            "route": self.route,
        }


@dataclass(frozen=True, slots=True)
class Subject:
    """What the rules look at: one shadow's figures, as a whole or on one route, and all that is allowed.

    `errors` has the chance to be wrong of each check, by its name, that may have less than the usual 5 %.
    """

    figures: PairFigures
    gates: Gates
    errors: Mapping[str, float] | None = None

    def interval(self, check: str, value: float, low: float, high: float) -> tuple[float, float]:
        """The interval of a figure from blocks of time, wider where the check may be wrong less often than 5 %."""
        error = None if self.errors is None else self.errors.get(check)
        if error is None:
            return low, high
        return widened(value, low, high, len(self.figures["over_time"]), error)

    @property
    def judged(self) -> Output | None:
        return judged_output(self.figures)

    @property
    def place(self) -> str | None:
        """Where live's judged answer is."""
        judged = self.judged
        return judged["live_path"] if judged is not None else None


Judge = Callable[[Subject, float], Finding | None]
"""Compares a subject with what one gate allows; returns None where it has nothing to judge."""


def no_data(sentence: str, *, field: str | None = None) -> Finding:
    return Finding(Result.NO_DATA, sentence, field=field)
