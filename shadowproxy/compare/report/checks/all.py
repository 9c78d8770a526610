"""The table of all checks, and how the checks of several routes become one line each."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import Final

from shadowproxy.compare.report.checks.agreement import agreement, slices, unexplained
from shadowproxy.compare.report.checks.answers import collapse, drift, in_range, related
from shadowproxy.compare.report.checks.check import (
    WORST_FIRST,
    Check,
    Finding,
    Judge,
    Result,
    Subject,
    no_data,
)
from shadowproxy.compare.report.checks.judge import judge
from shadowproxy.compare.report.checks.labels import labels
from shadowproxy.compare.report.checks.latency import latency
from shadowproxy.compare.report.checks.losses import NOTHING_SENT, answered, errors, flips, structure
from shadowproxy.compare.report.figures.types import Log, PairFigures, Pairs, Question, ShadowFigures
from shadowproxy.compare.report.gates import Gates
from shadowproxy.compare.report.words import percent

FEWEST_PAIRS: Final = 50
"""Requests that live must have answered with a 2xx before the shadow is judged."""

_TWICE: Final = 0.05
"""Records that may come more than once: those that deliver logs do so now and then."""


@dataclass(frozen=True, slots=True)
class Rule:
    """One check: its gate says what is allowed, None switches it off.

    Attributes:
        pooled: it also counts over all routes together, so that the losses of routes that are too small to be judged by
            themselves count. Checks of values do not: the values of one route say nothing about those of another.
        newer: summaries of an earlier version did not count what it needs.
    """

    name: str
    question: Question
    gate: Callable[[Gates], float | None]
    judge: Judge
    pooled: bool = False
    newer: bool = False


RULES: Final = (
    Rule("answered", "engineering", lambda gates: gates.answered, answered, pooled=True, newer=True),
    Rule("structure", "engineering", lambda gates: gates.structure, structure, pooled=True, newer=True),
    Rule("errors", "engineering", lambda gates: gates.errors, errors, pooled=True, newer=True),
    Rule("flips", "engineering", lambda gates: gates.flips, flips, pooled=True, newer=True),
    Rule("latency", "engineering", lambda gates: gates.p99_ratio, latency),
    Rule("related", "outputs", lambda gates: gates.related, related),
    Rule("range", "outputs", lambda gates: gates.outside, in_range),
    Rule("collapse", "outputs", lambda gates: 0.0 if gates.collapse else None, collapse),
    Rule("drift", "outputs", lambda gates: gates.drift, drift),
    Rule("agreement", "outputs", lambda gates: gates.min_agreement, agreement),
    Rule("unexplained", "outputs", lambda gates: gates.unexplained, unexplained),
    Rule("slices", "outputs", lambda gates: gates.slices, slices, pooled=True, newer=True),
    Rule("labels", "performance", lambda gates: gates.accuracy_loss, labels),
    Rule("judge", "performance", lambda gates: gates.judge, judge, pooled=True),
)
"""All checks, in the order of the report."""

_POOLED: Final = frozenset(rule.name for rule in RULES if rule.pooled)
_WHERE_LIVE_HARDLY_ANSWERS: Final = ("errors", "flips", "latency")


def checks_of(shadow: ShadowFigures, gates: Gates, errors: Mapping[str, float] | None = None) -> list[Check]:
    """The checks of one shadow's figures, in the order of the report: each route's worst, where routes are judged.

    `errors` has the chance to be wrong of the checks that may have less than 5 %, by name.
    """
    whole = _checks(shadow, gates, errors)
    by_route = [
        (route["route"], checks_of_route(route["figures"], gates, errors))
        for route in shadow["routes"]
        if route["gated"] and route["figures"] is not None
    ]
    if by_route:
        by_route.append(("", [each for each in whole if each.name in _POOLED]))
        names = dict.fromkeys(each.name for _, checks in by_route for each in checks)
        whole = [_worst(name, by_route, whole) for name in names]
    hardly = _hardly_answered(shadow["pairs"])
    return [hardly, *whole] if hardly is not None else whole


def _worst(name: str, by_route: list[tuple[str, list[Check]]], pooled: list[Check]) -> Check:
    """The worst of the routes' checks of one name; where all pass, the one over all routes together."""
    rows = [(route, each) for route, checks in by_route for each in checks if each.name == name]
    route, worst = min(rows, key=lambda row: WORST_FIRST.index(row[1].result))
    if worst.result is Result.PASS:
        same = next((each for each in pooled if each.name == name and each.result is Result.PASS), None)
        return same if same is not None else replace(worst, route=route)
    where = f"on {route}" if route else "of all routes together"
    finding = replace(worst.finding, sentence=f"{worst.sentence}, {where}")
    return replace(worst, finding=finding, route=route or None)


def checks_of_route(figures: PairFigures, gates: Gates, errors: Mapping[str, float] | None = None) -> list[Check]:
    """A route that live hardly answers (scanners, a route that is gone) can only be held to fail no more than live."""
    checks = _checks(figures, gates, errors)
    if _hardly_answered(figures["pairs"]) is None:
        return checks
    return [each for each in checks if each.name in _WHERE_LIVE_HARDLY_ANSWERS]


def _checks(figures: PairFigures, gates: Gates, errors: Mapping[str, float] | None) -> list[Check]:
    subject = Subject(figures, gates, errors)
    checks = []
    for rule in RULES:
        allowed = rule.gate(gates)
        finding = _finding(rule, subject, allowed) if allowed is not None else None
        if finding is not None:
            checks.append(Check(rule.name, rule.question, finding))
    # Where labels say how good the answers are, it does not matter whether they are related.
    decided = any(each.name == "labels" and each.result in (Result.PASS, Result.FAIL) for each in checks)
    return [each for each in checks if not (decided and each.name == "related")]


def _finding(rule: Rule, subject: Subject, allowed: float) -> Finding | None:
    legacy = subject.figures["legacy"]
    if rule.newer and legacy is not None:
        return no_data(f"{rule.name}: {legacy}")
    return rule.judge(subject, allowed)


def repeated_records(log: Log) -> list[Check]:
    """Records that were read more than once count each time, and make every interval narrower than it is."""
    share = log["repeated_records"]
    if not share or share <= _TWICE:
        return []
    sentence = f"{percent(share)} of the records were read more than once and count each time: give every log only once"
    return [Check("records", "engineering", Finding(Result.INCONCLUSIVE, sentence, share, allowed=_TWICE))]


def _hardly_answered(pairs: Pairs) -> Check | None:
    """Live itself must have answered: requests that both systems reject say nothing about either."""
    n, good = pairs["n"], pairs["live_2xx"]
    if not n:
        finding = no_data(NOTHING_SENT)
    elif good * 2 < n:
        sentence = (
            f"live hardly answered: {good:,} of {n:,} requests have a 2xx from live, so there is little to hold to"
        )
        finding = Finding(Result.NO_DATA, sentence, good / n, allowed=0.5)
    elif (written := pairs.get("live_2xx_written", good)) < FEWEST_PAIRS:
        sentence = (
            f"live answered only {written:,} requests with a 2xx so far; {FEWEST_PAIRS} are the least to judge by"
        )
        if written < good:
            sentence = (
                f"the log has only {written:,} of {good:,} requests that live answered with a 2xx; "
                f"{FEWEST_PAIRS} are the least to judge by"
            )
        finding = Finding(Result.NO_DATA, sentence, more=FEWEST_PAIRS - written)
    else:
        return None
    return Check("live", "engineering", finding)
