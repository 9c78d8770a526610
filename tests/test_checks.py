"""Figures to checks, and checks to a word: each check alone, on figures made by hand."""

import dataclasses
from collections.abc import Callable
from typing import Any, TypeAlias

import pytest

from shadowproxy.compare.report.checks.all import checks_of
from shadowproxy.compare.report.checks.check import Check, Result
from shadowproxy.compare.report.gates import Gates
from shadowproxy.compare.report.verdict import verdict_of

Figures: TypeAlias = Any
N = 4000


def estimate(value: float, n: int = N, *, low: float | None = None, high: float | None = None) -> Figures:
    return {"value": value, "low": low, "high": high, "n": n, "method": "blocks", "design_effect": 1.0}


def net(n: int, plus: str, minus: str, **counts: int) -> Figures:
    value = (counts[plus] - counts[minus]) / n if n else 0.0
    return {"n": n, "difference": estimate(value, n) if n else None, "anytime": None, **counts}


def answered(n: int = N, lost: int = 0, gained: int = 0) -> Figures:
    return net(n, "gained", "lost", lost=lost, gained=gained) | {"missing": {"null": lost} if lost else {}}


def errors(n: int = N, shadow: int = 0, live: int = 0) -> Figures:
    found = net(n, "shadow_only", "live_only", shadow_only=shadow, live_only=live)
    reasons = {"live": [], "shadow": [{"reason": "500 boom", "count": shadow}] if shadow else []}
    unanswered = {"n": 0, "shadow_failed": 0, "begun": n}
    rest = {"live": estimate(live / n), "shadow": estimate(shadow / n), "reasons": reasons, "unanswered": unanswered}
    return found | rest


def flips(n: int = N, to_4xx: int = 0, to_2xx: int = 0) -> Figures:
    ways = {name: {"count": k, "share": estimate(k / n, n)} for name, k in (("to_4xx", to_4xx), ("to_2xx", to_2xx))}
    return {"n": n, "net": {"difference": estimate((to_4xx - to_2xx) / n, n)}, **ways}


def structure(n: int = N, lost: int = 0) -> Figures:
    return {"n": n, "lost": lost, "share": estimate(lost / n, n), "places": [{"path": "/p", "lost": lost}], "always": 1}


def output(kind: str = "number", **changes: Any) -> Figures:
    return {
        "live_path": "/p",
        "shadow_path": "/p",
        "kind": kind,
        "pairs": N,
        "agreement": estimate(1.0),
        "answered": answered(),
        "related": {"judged": True, "why": None, "value": 0.9, "low": 0.85, "high": 0.95, "n": N},
        "range": {"low": -1.0, "high": 2.0, "given": False, "outside": 0, "share": estimate(0.0), "smallest": 0.0}
        | {"largest": 1.0},
        "drift": {"jensen_shannon": estimate(0.02, low=0.01, high=0.03), "cells": 20, "effective": 4000.0, "why": None},
        "collapse": None,
        "labels": None,
        "odd": {"live": {}, "shadow": {}},
    } | changes


def latency(ratio: float = 1.0, low: float | None = 0.95, high: float | None = 1.05) -> Figures:
    found = estimate(ratio, 2 * N, low=low, high=high)
    return {"ratio": {"p99": found}, "live": {"p99": 10.0}, "shadow": {"p99": 10.0 * ratio}, "at_least": []}


def whole_answers(estimate: Figures | None) -> Figures:
    return {"settled": None, "whole": estimate, "incomparable": {}}


def figures(**changes: Any) -> Figures:
    """Those of a shadow that is live's twin, but for `changes`."""
    return {
        "pairs": {"n": N, "live_2xx": N},
        "coverage": {"chosen": N, "answered": N, "share": 1.0},
        "answered": answered(),
        "structure": structure(),
        "errors": errors(),
        "flips": flips(),
        "state": None,
        "latency": latency(),
        "outputs": [output()],
        "agreement": whole_answers(estimate(1.0)),
        "slices": [],
        "fields": [],
        "repeats": None,
        "control": None,
        "repeated_keys": {"live": 0, "shadow": 0},
        "labels_supplied": 0,
        "judged": None,
        "legacy": None,
        "routes": [],
    } | changes


def judged(shadow: Figures, gates: Gates | None = None) -> tuple[dict[str, Check], Figures]:
    checks = checks_of(shadow, gates or Gates())
    return {check.name: check for check in checks}, verdict_of(shadow, checks)


def test_a_twin_is_ready_and_every_check_names_what_it_judged() -> None:
    checks, verdict = judged(figures())
    assert {check.result for check in checks.values()} == {Result.PASS}
    assert list(checks) == [
        "answered",
        "structure",
        "errors",
        "flips",
        "latency",
        "related",
        "range",
        "collapse",
        "drift",
        "unexplained",
        "slices",
    ]
    assert {checks[name].finding.field for name in ("answered", "related", "range", "collapse", "drift")} == {"/p"}
    assert (verdict["headline"], verdict["questions"]["performance"]) == ("READY", "no data")
    assert "cannot be said without labels" in verdict["sentence"]


FAULTS: list[tuple[str, Figures]] = [
    ("answered", {"outputs": [output(answered=answered(lost=120))]}),
    ("structure", {"structure": structure(lost=120)}),
    ("errors", {"errors": errors(shadow=120)}),
    ("flips", {"flips": flips(to_4xx=160)}),
    ("flips", {"flips": flips(to_2xx=160)}),
    ("latency", {"latency": latency(1.5, 1.4, 1.6)}),
    ("related", {"outputs": [output(related={"judged": True, "value": 0.0, "low": -0.02, "high": 0.02, "n": N})]}),
    ("collapse", {"outputs": [output(collapse="it says the same")]}),
    (
        "range",
        {"outputs": [output(range=output()["range"] | {"outside": 120, "share": estimate(0.03), "largest": 1000.0})]},
    ),
    (
        "drift",
        {
            "outputs": [
                output(drift={"jensen_shannon": estimate(0.3, low=0.2, high=0.4), "cells": 20, "effective": 4000.0})
            ]
        },
    ),
    (
        "slices",
        {
            "slices": [
                {"path": "/carrier", "value": '"UA"', "requests": 200, "fails": True, "significant": False}
                | {"lost": {"count": 80, "points": 0.4, "low": 0.2}, "errors": {"count": 0, "points": 0.0, "low": 0.0}}
                | {"share_of_all": 0.0, "lift": 0.0}
            ]
        },
    ),
]


@pytest.mark.parametrize(("name", "changes"), FAULTS)
def test_a_figure_that_is_surely_outside_fails_its_check_alone(name: str, changes: Figures) -> None:
    checks, verdict = judged(figures(**changes))
    assert {each.name for each in checks.values() if each.result is Result.FAIL} == {name}
    assert verdict["headline"] == "NOT READY"
    assert checks[name].sentence in verdict["sentence"]


@pytest.mark.parametrize(
    ("name", "off"),
    [(name, {"p99_ratio" if name == "latency" else name: False if name == "collapse" else None}) for name, _ in FAULTS],
)
def test_a_gate_of_null_takes_its_check_away(name: str, off: dict[str, Any]) -> None:
    checks, _ = judged(figures(), Gates(**off))
    assert name not in checks


def test_what_live_loses_as_often_is_not_held_against_the_shadow() -> None:
    alike = figures(outputs=[output(answered=answered(lost=80, gained=80))], errors=errors(shadow=80, live=80))
    checks, _ = judged(alike)
    assert Result.FAIL not in {check.result for check in checks.values()}
    assert checks["errors"].finding.value == checks["answered"].finding.value == 0


def test_failures_where_callers_left_withhold_the_word_and_fail_nothing() -> None:
    left = errors() | {"unanswered": {"n": 400, "shadow_failed": 320, "begun": N}}
    checks, verdict = judged(figures(errors=left))
    assert checks["errors"].result is Result.INCONCLUSIVE
    assert verdict["headline"] == "NOT SURE YET"
    assert "320 of the 400 requests whose callers left" in verdict["sentence"]
    few = errors() | {"unanswered": {"n": 400, "shadow_failed": 3, "begun": N}}
    assert judged(figures(errors=few))[1]["headline"] == "READY"


def test_requests_rejected_by_turns_are_not_ready_and_not_failed() -> None:
    checks, verdict = judged(figures(flips=flips(to_4xx=200, to_2xx=200)))
    assert checks["flips"].result is Result.INCONCLUSIVE
    assert verdict["headline"] == "NOT SURE YET"


@pytest.mark.parametrize(
    ("n", "good", "said"),
    [
        (N, 0, "live hardly answered: 0 of 4,000"),
        (N, 1999, "live hardly answered: 1,999 of 4,000"),
        (40, 40, "live answered only 40 requests with a 2xx so far"),
        (0, 0, "no request that live answered was sent to the shadow"),
    ],
)
def test_where_live_hardly_answered_there_is_no_data_whatever_else_fails(n: int, good: int, said: str) -> None:
    shadow = figures(pairs={"n": n, "live_2xx": good}, errors=errors(shadow=2000))
    checks, verdict = judged(shadow)
    assert checks["live"].result is Result.NO_DATA
    assert (verdict["headline"], verdict["result"]) == ("NO DATA", "no data")
    assert verdict["sentence"].startswith(said)


def test_an_undecided_report_says_what_is_missing_and_how_much_and_no_certainty() -> None:
    few = figures(
        pairs={"n": 400, "live_2xx": 400},
        outputs=[output(answered=answered(400))],
        structure=structure(400),
        errors=errors(400),
        flips=flips(400),
    )
    checks, verdict = judged(few)
    assert verdict["headline"] == "NOT SURE YET"
    assert verdict["sentence"].startswith("400 requests so far; ")
    assert "answered needs about " in verdict["sentence"]
    assert "100 %" not in verdict["sentence"]
    assert 500 < (checks["structure"].more or 0) < 2500
    settled = 400 + (checks["structure"].more or 0)
    again, _ = judged(figures(structure=structure(settled)))
    assert again["structure"].result is Result.PASS


def test_answers_that_differ_need_somebody_who_says_which_is_right() -> None:
    differing = figures(outputs=[output(agreement=estimate(0.87))])
    checks, verdict = judged(differing)
    assert checks["unexplained"].result is Result.INCONCLUSIVE
    assert "13 % of answers differ and nothing here says who is right" in verdict["sentence"]
    for gates in (Gates(unexplained=None), Gates(min_agreement=0.8)):
        checks, verdict = judged(differing, gates)
        assert "unexplained" not in checks
        assert verdict["headline"] == "READY"


def labels(**changes: Any) -> Figures:
    return {
        "measure": "accuracy",
        "labelled": N,
        "uneven": 0,
        "live": estimate(0.9),
        "shadow": estimate(0.93),
        "difference": estimate(0.03, low=0.02, high=0.04),
        "shadow_only": 200,
        "live_only": 80,
        "anytime": [0.02, 0.04],
    } | changes


def test_a_better_model_with_labels_is_ready_though_it_differs() -> None:
    better = output(
        agreement=estimate(0.5),
        labels=labels(),
        related={"judged": True, "value": 0.01, "low": 0.0, "high": 0.02, "n": N},
        drift={"jensen_shannon": None, "cells": 0, "effective": 0.0, "why": "live has only two values"},
    )
    checks, verdict = judged(figures(outputs=[better]))
    assert checks["labels"].result is Result.PASS
    assert "related" not in checks
    assert checks["drift"].result is Result.NO_DATA
    assert (verdict["headline"], verdict["questions"]["performance"]) == ("READY", "pass")
    without = {**better, "labels": None}
    assert judged(figures(outputs=[without]))[1]["headline"] == "NOT READY"


def test_a_worse_model_with_labels_is_not_ready() -> None:
    worse = labels(shadow=estimate(0.87), difference=estimate(-0.03), shadow_only=80, live_only=200)
    checks, verdict = judged(figures(outputs=[output(labels=worse)]))
    assert checks["labels"].result is Result.FAIL
    assert verdict["headline"] == "NOT READY"


def test_an_error_of_the_answers_that_are_left_is_not_enough() -> None:
    closer = labels(
        measure="mean absolute error",
        live=estimate(2.0),
        shadow=estimate(1.0),
        difference=estimate(-1.0, low=-1.1, high=-0.9),
        anytime=None,
    )
    assert judged(figures(outputs=[output(labels=closer)]))[0]["labels"].result is Result.PASS
    missing = figures(outputs=[output(labels=closer, answered=answered(lost=30))])
    assert judged(missing)[0]["labels"].result is Result.INCONCLUSIVE


def test_labels_of_which_none_matches_are_no_data() -> None:
    checks, verdict = judged(figures(labels_supplied=6000))
    assert checks["labels"].sentence == "0 of 6,000 labels matched a request that could be judged"
    assert verdict["headline"] == "NO DATA"


@pytest.mark.parametrize(("value", "low", "high"), [(1.0, -0.2, 1.2), (0.06, 0.01, 0.11), (1.0, None, None)])
def test_an_undecided_relation_is_no_reproach(value: float, low: float | None, high: float | None) -> None:
    undecided = output(related={"judged": True, "value": value, "low": low, "high": high, "n": N})
    found = judged(figures(outputs=[undecided]))[0]["related"]
    assert found.result is Result.INCONCLUSIVE
    assert found.finding.sentence.startswith("too few to be sure that the two answers to a request belong together")


def test_a_live_that_does_not_repeat_itself_cannot_show_that_the_shadow_is_unrelated() -> None:
    unrelated = output(
        agreement=estimate(0.1), related={"judged": True, "value": 0.0, "low": -0.02, "high": 0.02, "n": N}
    )
    assert judged(figures(outputs=[unrelated]))[0]["related"].result is Result.FAIL
    noisy = figures(outputs=[unrelated], repeats={"pairs": 500, "differing": 0.9})
    assert judged(noisy)[0]["related"].result is Result.INCONCLUSIVE
    steady = figures(outputs=[unrelated], repeats={"pairs": 500, "differing": 0.0})
    assert judged(steady)[0]["related"].result is Result.FAIL


def route(name: str, gated: bool = True, **changes: Any) -> Figures:
    return {"route": name, "requests": N, "share": 0.5, "gated": gated, "figures": figures(**changes)}


def test_the_whole_is_its_worst_route() -> None:
    bad: Any = {"errors": errors(shadow=200)}
    checks, verdict = judged(figures(routes=[route("POST /a"), route("POST /b", **bad)]))
    assert checks["errors"].result is Result.FAIL
    assert checks["errors"].route == "POST /b"
    assert checks["errors"].sentence.endswith("on POST /b")
    assert verdict["headline"] == "NOT READY"
    small = figures(routes=[route("POST /a"), route("POST /b", gated=False, **bad)])
    assert judged(small)[1]["headline"] == "READY"


def test_a_route_that_live_hardly_answers_is_held_to_fail_no_more() -> None:
    gone: Any = {"pairs": {"n": N, "live_2xx": 0}, "outputs": [], "structure": None}
    checks, verdict = judged(figures(routes=[route("POST /a"), route("GET /gone", **gone)]))
    assert verdict["headline"] == "READY"
    gone |= {"errors": errors(shadow=300)}
    checks, verdict = judged(figures(routes=[route("POST /a"), route("GET /gone", **gone)]))
    assert checks["errors"].route == "GET /gone"


def test_counts_of_an_earlier_version_are_no_data_for_the_new_checks() -> None:
    old = "this summary was saved by an earlier version, which did not count it"
    shadow = figures(legacy=old, structure=None, errors=None, flips=None, answered=None, outputs=[])
    checks, verdict = judged(shadow)
    for name in ("answered", "structure", "errors", "flips", "slices"):
        assert checks[name].result is Result.NO_DATA, name
        assert old in checks[name].sentence
    assert verdict["headline"] == "NO DATA"


def test_answers_without_a_field_are_vouched_for_only_by_being_the_same() -> None:
    same = figures(outputs=[])
    assert judged(same)[1]["headline"] == "READY"
    other = figures(outputs=[], agreement=whole_answers(estimate(0.5)))
    checks, verdict = judged(other)
    assert checks["collapse"].result is Result.NO_DATA
    assert verdict["headline"] == "NOT SURE YET"


def test_ready_never_stands_beside_a_share_of_answers_that_differ() -> None:
    for gates in (Gates(unexplained=None), Gates(min_agreement=0.0)):
        _, verdict = judged(figures(outputs=[output(agreement=estimate(0.0))]), gates)
        assert verdict["headline"] == "READY"
        assert "differ" not in verdict["sentence"]


@pytest.mark.parametrize("changed", [figures, lambda: figures(outputs=[output(range=None)])])
def test_a_class_has_no_range(changed: Callable[[], Figures]) -> None:
    checks, verdict = judged(changed())
    assert verdict["headline"] == "READY"
    assert ("range" in checks) == (changed is figures)


def test_gates_that_are_all_off_check_nothing() -> None:
    off: dict[str, Any] = {each.name: None for each in dataclasses.fields(Gates)} | {"collapse": False}
    assert judged(figures(), Gates(**off))[0] == {}
