"""What the figures amount to and what to do next, on figures made by hand."""

from dataclasses import asdict
from typing import Any, TypeAlias

import pytest
from test_checks import N, errors, estimate, figures, labels, latency, output, structure, whole_answers

from shadowproxy.compare.report.advice import advice_of
from shadowproxy.compare.report.checks.all import checks_of
from shadowproxy.compare.report.gates import Gates
from shadowproxy.compare.report.sentences.questions import answers
from shadowproxy.compare.report.verdict import verdict_of
from shadowproxy.compare.report.words import change

Figures: TypeAlias = Any

LABELLED = {"coverage": 0.5}
NOTHING: dict[str, Any] = {name: False if name == "collapse" else None for name in asdict(Gates())}
OFF = Gates(**NOTHING)


def advised(shadow: Figures, gates: Gates | None = None) -> Figures:
    checks = checks_of(shadow, gates or Gates())
    shadow |= {"checks": [check.figures() for check in checks], "verdict": verdict_of(shadow, checks)}
    return advice_of(shadow, shadow["checks"], shadow["verdict"])


def reasons(**row: Any) -> Figures:
    shown = {"reason": "500: boom", "count": 200, "share": 0.05, "example": "id-7", "where": None} | row
    return errors(shadow=200) | {"reasons": {"live": [], "shadow": [shown]}}


@pytest.mark.parametrize(
    ("shadow", "gates", "do", "said"),
    [
        (figures(), None, "promote", "--labels"),
        (figures(outputs=[output(labels=labels() | LABELLED)]), None, "promote", "every check passes"),
        (figures(errors=reasons()), None, "mend", "500: boom (shadowproxy show LOG id-7)"),
        (figures(errors=reasons(example=None)), None, "mend", "the commonest reason is 500: boom"),
        (figures(latency=latency(1.5, 1.4, 1.6)), None, "mend", "latency"),
        (figures(structure=structure(lost=120)), None, "mend", "structure"),
        (figures(structure=structure(400)), None, "wait", "more requests would settle structure"),
        (figures(latency=latency(1.3, None, None)), None, "wait", "too little time"),
        (figures(outputs=[output(agreement=estimate(0.8))]), None, "label", "who is right"),
        (figures(pairs={"n": N, "live_2xx": 0}), None, "send", "see that live answers"),
        (figures(pairs={"n": 0, "live_2xx": 0}), None, "send", "Coverage"),
        (figures(pairs={"n": 30, "live_2xx": 30}), None, "send", "20 that live answers with a 2xx"),
        (figures(labels_supplied=50), None, "label", "--label-key"),
        (figures(outputs=[], agreement=whole_answers(None)), None, "name", "--field"),
        (figures(legacy="an earlier version", errors=None, flips=None, structure=None), None, "summarise", "again"),
        (figures(), OFF, "gate", "every check is off"),
    ],
)
def test_what_to_do_next_follows_from_the_checks(shadow: Figures, gates: Gates | None, do: str, said: str) -> None:
    found = advised(shadow, gates)["next"]
    assert found["do"] == do
    assert said in found["said"]


def points(shadow: Figures) -> dict[str, tuple[str, str]]:
    return {point["about"]: (point["word"], point["said"]) for point in advised(shadow)["in_short"]}


@pytest.mark.parametrize(
    ("low", "high", "measure", "word"),
    [
        (0.02, 0.04, "accuracy", "shadow"),
        (-0.04, -0.02, "accuracy", "live"),
        (-0.01, 0.02, "accuracy", "neither"),
        (None, None, "accuracy", "neither"),
        (-0.04, -0.02, "mean absolute error", "shadow"),
        (0.02, 0.04, "mean absolute error", "live"),
        (None, None, "mean absolute error", "neither"),
    ],
)
def test_who_is_better_is_said_only_where_it_is_sure(
    low: float | None, high: float | None, measure: str, word: str
) -> None:
    held = labels(measure=measure, difference=estimate(0.03, low=low, high=high)) | LABELLED
    found, said = points(figures(outputs=[output(labels=held)]))["accuracy"]
    assert found == word
    assert "labels for 50 % of the answers" in said


def test_a_lead_that_another_look_could_turn_is_called_one() -> None:
    for anytime, turns in (([-0.01, 0.05], True), ([0.01, 0.05], False)):
        held = labels(anytime=anytime) | LABELLED
        assert ("could not turn it" in points(figures(outputs=[output(labels=held)]))["accuracy"][1]) is turns


@pytest.mark.parametrize(
    ("ratio", "low", "high", "word"),
    [(1.5, 1.4, 1.6, "live"), (0.8, 0.7, 0.9, "shadow"), (1.1, 0.9, 1.3, "neither"), (1.5, None, None, "neither")],
)
def test_who_is_faster_is_said_only_where_it_is_sure(
    ratio: float, low: float | None, high: float | None, word: str
) -> None:
    assert points(figures(latency=latency(ratio, low, high)))["latency"][0] == word


def test_nothing_is_said_of_what_was_not_counted() -> None:
    bare = figures(outputs=[], agreement=whole_answers(None))
    bare["latency"]["ratio"]["p99"] = None
    assert points(bare) == {}


@pytest.mark.parametrize(("ratio", "text"), [(1.2, "+20 %"), (0.43, "-57 %"), (9.99, "+899 %"), (263.2, "263 times")])
def test_a_great_change_is_told_as_so_many_times(ratio: float, text: str) -> None:
    assert change(ratio) == text


def test_a_check_that_begins_with_its_name_says_it_once() -> None:
    old = figures(legacy="an earlier version", answered=None, errors=None, flips=None, structure=None, outputs=[])
    advised(old)
    assert answers(old)["engineering"].startswith("answered: an earlier version; structure: an earlier version")
    few = figures(pairs={"n": N, "live_2xx": 0})
    advised(few)
    assert answers(few)["engineering"].startswith("live hardly answered")


def test_a_part_of_the_rows_is_called_by_the_rows_name() -> None:
    row = {"path": "/rows/*", "value": "2 to 3", "significant": True, "share_of_all": 1.0, "lift": 2.0, "fails": False}
    row |= {"differing": 10, "rate": 0.5, "requests": 20}
    row |= {"lost": {"points": 0.0}, "errors": {"points": 0.0}}
    shadow = figures(errors=reasons(), slices=[row], outputs=[output(agreement=estimate(0.8))])
    advised(shadow)
    assert shadow["verdict"]["sentence"].endswith("20 % of answers differ, 100 % of them where rows is 2 to 3")
