"""A report that is looked at again and again, and is wrong no more often than one that is looked at once.

The gates on shares rest on confidence sequences, which hold at every look. The other figures (latency, relatedness,
collapse, drift, mean errors) have intervals that are right once: of twenty looks, in 15 of 100 logs one finds a p99 of
1.22 times live's within a gate of 1.2. So they are decided at n = 1,000 x 2^k alone, or at the first look after
it, and with a chance to be wrong of 0.05 x 6/(pi^2 (k+1)^2) there, which adds up to 0.05 over all k (the union bound;
Euler's sum of 1/k^2). Between two of these looks the last result holds; before the first there is none.

`report_again` is a pure function: the caller keeps its state, a small mapping that JSON can hold.
"""

import math
from collections.abc import Mapping
from dataclasses import replace
from typing import Any, Final, TypedDict

from shadowproxy.compare.fold.summary import Summary
from shadowproxy.compare.report.build import to_json
from shadowproxy.compare.report.checks.all import checks_of
from shadowproxy.compare.report.checks.check import Check, Finding, Result
from shadowproxy.compare.report.figures.types import Allowed, CheckFigures, PairFigures, Report, ShadowFigures
from shadowproxy.compare.report.gates import Gates
from shadowproxy.compare.report.judged import labels_of

FIRST: Final = 1000
"""Requests at which the figures without a confidence sequence are decided for the first time."""

FORMAT: Final = 1

_CHANCE: Final = 0.05
_WITHOUT_SEQUENCE: Final = ("latency", "related", "collapse", "drift")
_LABELS: Final = "labels"
_MEAN_ERROR: Final = "mean absolute error"
_RESULTS: Final = {result.word: result for result in Result}


class Decided(TypedDict):
    """The last word of one check: given at `n` requests, as the look number `k`, counted from 0."""

    k: int
    n: int
    check: CheckFigures


class Looks(TypedDict):
    """What was decided at earlier looks, by shadow and check, and by which gates."""

    looks: int
    gates: Allowed
    shadows: dict[str, dict[str, Decided]]


def look_at(n: int) -> int:
    """The number of the last look at which figures are decided, of those due at `n` requests; -1 before the first."""
    return (n // FIRST).bit_length() - 1


def due_at(k: int) -> int:
    """The requests from which on the look number `k` decides."""
    return FIRST << k


def chance_at(k: int) -> float:
    """How often the look number `k` may be wrong: 0.05 x 6/(pi^2 (k+1)^2)."""
    return _CHANCE * 6 / (math.pi * (k + 1)) ** 2


def report_again(
    summary: Summary, gates: Gates | None = None, looks: Looks | None = None, **more: Any
) -> tuple[Report, Looks]:
    """The report of a summary that is looked at repeatedly, and what the next look is to be given.

    Args:
        summary: everything since the beginning, as merged so far.
        gates: what is allowed. With other gates than at the last look it starts over.
        looks: what the last look returned; None at the first. `read_looks` makes it from JSON.
        more: `to_json`'s other arguments.
    """
    gates = gates or Gates()
    allowed = gates.figures()
    before = looks["shadows"] if looks is not None and looks["gates"] == allowed else {}
    after: Looks = {"looks": FORMAT, "gates": allowed, "shadows": {}}

    def checks(name: str, shadow: ShadowFigures, gates: Gates) -> list[Check]:
        found, after["shadows"][name] = checks_again(shadow, gates, before.get(name, {}))
        return found

    return to_json(summary, gates, checks=checks, **more), after


def read_looks(raw: Any) -> Looks | None:
    """What a look returned, from JSON; None if it is incomplete or of another version: then it starts over."""
    try:
        if raw["looks"] != FORMAT:
            return None
        found: Looks = {"looks": FORMAT, "gates": raw["gates"], "shadows": {}}
        for name, decided in raw["shadows"].items():
            for each in decided.values():
                _check_of(each["check"])
                _ = int(each["k"]), int(each["n"])
            found["shadows"][name] = dict(decided)
    except (KeyError, TypeError, ValueError, AttributeError):
        return None
    return found


def checks_again(
    shadow: ShadowFigures, gates: Gates, before: Mapping[str, Decided]
) -> tuple[list[Check], dict[str, Decided]]:
    """A shadow's checks at this look, and what is decided of those that are only decided now and then.

    If fewer requests were counted than at an earlier look, they are other requests, and it starts over.
    """
    numbers = _numbers(shadow)
    unit = "records" if "written" in shadow["pairs"] else "requests"
    known = {name: each for name, each in before.items() if name in numbers and each["n"] <= numbers[name]}
    due = {name: k for name, n in numbers.items() if (k := look_at(n)) > (known[name]["k"] if name in known else -1)}
    found = checks_of(shadow, gates, {name: chance_at(k) for name, k in due.items()})
    after: dict[str, Decided] = {}
    checks: list[Check] = []
    for check in found:
        name = check.name
        if name not in numbers:
            checks.append(check)
        elif name in due:
            check = _without_guess(check)
            after[name] = {"k": due[name], "n": numbers[name], "check": check.figures()}
            checks.append(check)
        elif name in known:
            after[name] = known[name]
            checks.append(_standing(known[name], numbers[name], unit) if check.result is not Result.NO_DATA else check)
        else:
            checks.append(_undecided(check, numbers[name], unit))
    return checks, {**known, **after}


def _numbers(shadow: PairFigures) -> dict[str, int]:
    """How much was counted of each check that has no confidence sequence."""
    pairs = shadow["pairs"]
    # Of weighted records those that were written: what they stand for was not seen.
    numbers = dict.fromkeys(_WITHOUT_SEQUENCE, pairs.get("written", pairs["n"]))
    labels = labels_of(shadow)
    if labels is not None and labels["measure"] == _MEAN_ERROR:
        numbers[_LABELS] = labels["labelled"]
    return numbers


def _without_guess(check: Check) -> Check:
    """A check that passes for want of an interval has not been decided."""
    found = check.finding
    if found.result is Result.PASS and found.value is not None and found.high is None:
        return replace(check, finding=replace(found, result=Result.INCONCLUSIVE))
    return check


def _standing(decided: Decided, n: int, unit: str) -> Check:
    """The last word of a check, with when it was given."""
    check = _check_of(decided["check"])
    if n == decided["n"]:
        return check
    following = due_at(decided["k"] + 1)
    sentence = f"{check.sentence} (decided at {decided['n']:,} {unit}, again at {following:,})"
    more = max(1, following - n) if check.result is Result.INCONCLUSIVE else check.more
    return replace(check, finding=replace(check.finding, sentence=sentence, more=more))


def _undecided(check: Check, n: int, unit: str) -> Check:
    if check.result is Result.NO_DATA:
        return check
    at = max(FIRST, due_at(look_at(n) + 1))
    sentence = f"{check.name} is decided at {at:,} {unit}; there are {n:,}"
    return replace(check, finding=Finding(Result.INCONCLUSIVE, sentence, more=max(1, at - n)))


def _check_of(figures: CheckFigures) -> Check:
    """A check from the report's JSON. Raises KeyError."""
    finding = Finding(
        _RESULTS[figures["result"]],
        figures["said"],
        figures["value"],
        figures["low"],
        figures["high"],
        figures["allowed"],
        figures["more"],
        figures["field"],
    )
    return Check(figures["name"], figures["question"], finding, figures["route"])
