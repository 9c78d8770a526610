"""READY is never said of a shadow that nobody should promote, whatever the answers are: faults by kind and by share.

The logs of `invented.py` are a twin's but for the fault. A twin is READY from the same generator, so what withholds the
word is the fault.
"""

import random
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any, TypeAlias

import pytest
from invented import (
    BOOM,
    KINDS,
    Fault,
    Row,
    Value,
    asked_for,
    body,
    both,
    changed,
    failed,
    invented,
    leg,
    outcome,
    right,
    row,
    text,
    write,
)
from logs import report_json
from thorough import THOROUGH

from shadowproxy.compare.fold.engines import summarise_files
from shadowproxy.compare.fold.truths import Truth, Truths
from shadowproxy.compare.judge.rules import Rules, Tolerance
from shadowproxy.compare.report.build import exit_code
from shadowproxy.compare.report.gates import Gates

Figures: TypeAlias = Any

ENOUGH = {0.3: 250, 0.1: 450, 0.03: 1200}
"""Requests from which on a fault of that share is seen."""

AGREEING = Gates(min_agreement=0.95)


def judged(
    rows: Iterable[Row], to: Path, gates: Gates | None = None, labels: dict[str, Value] | None = None, **more: Any
) -> Figures:
    truths = Truths({name: Truth((label,)) for name, label in labels.items()}) if labels else None
    summary = summarise_files([write(to / "log.jsonl", rows)], more.get("rules", Rules()), truths=truths)
    return report_json(summary, gates)


def results(figures: Figures) -> dict[str, str]:
    return {check["name"]: check["result"] for check in figures["shadows"]["s"]["checks"]}


def failing(figures: Figures) -> set[str]:
    return {name for name, result in results(figures).items() if result == "fail"}


def said(figures: Figures) -> Any:
    return {each["name"]: (each["result"], each["said"]) for each in figures["shadows"]["s"]["checks"]}


def fails(figures: Figures, *checks: str) -> None:
    assert failing(figures) >= set(checks), said(figures)
    assert exit_code(figures) == 1
    assert figures["shadows"]["s"]["verdict"]["headline"] == "NOT READY"


def withheld(figures: Figures, check: str = "unexplained") -> None:
    """No fault, and no READY: the check is surely over its line, so that more of the same would not settle it."""
    assert results(figures)[check] == "inconclusive", said(figures)
    found = next(each for each in figures["shadows"]["s"]["checks"] if each["name"] == check)
    assert found["low"] > found["allowed"]
    assert exit_code(figures) == 3


@pytest.mark.slow
@pytest.mark.parametrize("kind", KINDS)
def test_a_twin_is_ready_whatever_it_answers(kind: str, tmp_path: Path) -> None:
    figures = judged(invented(kind, 1900), tmp_path)
    assert set(results(figures).values()) == {"pass"}, said(figures)
    assert exit_code(figures) == 0


# --- an answer that is not there -------------------------------------------------------------------------------------


def _status(source: Any, asked: Row, value: Value, kind: Any, before: Value) -> Any:
    return leg(source, {"status": {"code": 500, "info": "bad", "status": "FAILURE"}})


def ended(with_: str, cut: str = "") -> Fault:
    """A stream with something said just before its end, or with its end cut off."""

    def made(source: Any, asked: Row, value: Value, kind: Any, before: Value) -> Any:
        whole = kind.answer(source, value)["body_text"]
        at = whole.rindex(cut) if cut else len(whole)
        return leg(source, text=whole[:at] + with_ + (whole[at:] if with_ else ""), type="text/event-stream")

    return made


NOTHING: dict[str, tuple[Fault, str]] = {
    "an error": (body(BOOM), "errors"),
    "an error with a message": (body({"error": {"message": "boom", "code": 500}}), "errors"),
    "null": (body(None), "structure"),
    "an empty list": (body([]), "structure"),
    "an empty object": (body({}), "structure"),
    "no body": (text(""), "structure"),
    "a page": (text("<html>oops</html>", type="text/html"), "structure"),
    "500": (body(BOOM, 500), "errors"),
    "a timeout": (outcome("timeout"), "errors"),
    "an answer cut off": (outcome("incomplete", 9), "errors"),
    "422": (body({"detail": [{"loc": ["body"], "msg": "bad"}]}, 422), "flips"),
}
"""What any shadow may say in place of an answer, and the check beside `answered` that fails for it."""

NULL = changed(lambda value: None)
EMPTY = changed(lambda value: value[:0])
AS_TEXT = changed(lambda value: [str(each) for each in value] if isinstance(value, list) else str(value))
NOT_A_NUMBER = changed(lambda value: [float("nan")] * len(value) if isinstance(value, list) else float("nan"))

MISSING: list[tuple[str, str, Fault]] = [
    ("class", "null", NULL),
    ("class", "empty", EMPTY),
    ("class", "a list of it", changed(lambda value: [value])),
    ("class", "a number", changed(lambda value: 1)),
    ("number", "null", NULL),
    ("number", "as text", AS_TEXT),
    ("number", "NaN", NOT_A_NUMBER),
    ("probability", "null", NULL),
    ("probability", "as text", AS_TEXT),
    ("probability", "a list of it", changed(lambda value: [value])),
    ("batch", "one row of three", changed(lambda value: value[:1])),
    ("batch", "no row", EMPTY),
    ("batch", "as text", AS_TEXT),
    ("batch", "null rows", changed(lambda value: [None] * len(value))),
    ("batch", "the last row NaN", changed(lambda value: [*value[:-1], float("nan")])),
    ("vector", "empty", EMPTY),
    ("vector", "NaN", NOT_A_NUMBER),
    ("vector", "one number of it", changed(lambda value: value[0])),
    ("seldon", "empty", EMPTY),
    ("seldon", "a status", _status),
    ("inference", "no outputs", EMPTY),
    ("inference", "as text", AS_TEXT),
    ("inference", "no predictions", body({"predictions": []})),
    ("inference", "null predictions", body({"predictions": None})),
    ("inference", "no columns", body({"outputs": []})),
    ("inference", "another envelope without a row", body({"data": {"ndarray": []}})),
    ("ranking", "empty", EMPTY),
    ("ranking", "null", body({"results": None})),
    ("text", "null", NULL),
    ("text", "empty", EMPTY),
    ("chat", "null", NULL),
    ("chat", "empty", EMPTY),
    ("chat", "no choices", body({"choices": []})),
    ("chat streamed", "empty", EMPTY),
    ("chat streamed", "an error event", ended('data: {"error": {"message": "out of memory"}}\n\n', "data: [DONE]")),
    ("chat streamed", "no end", ended("", 'data: {"id": "c"')),
    ("anthropic streamed", "empty", EMPTY),
    (
        "anthropic streamed",
        "an error event",
        ended('event: error\ndata: {"type": "error", "error": {"type": "overloaded_error"}}\n\n'),
    ),
    ("anthropic streamed", "no end", ended("", "event: message_delta")),
    ("tool streamed", "a text without a word", lambda source, *_: KINDS["chat streamed"].answer(source, "")),
    ("embedding", "null", NULL),
    ("embedding", "empty", EMPTY),
    ("embedding", "too short", changed(lambda value: value[:20])),
    ("embedding", "NaN", NOT_A_NUMBER),
]


@pytest.mark.slow
@pytest.mark.parametrize("kind", KINDS)
def test_no_answer_is_no_answer_of_any_kind(kind: str, tmp_path: Path) -> None:
    """Each kind meets three of them, in turn, as all of a shadow's faults are counted as one."""
    names = list(NOTHING)
    first = list(KINDS).index(kind)
    for name in (names[(first * 3 + step) % len(names)] for step in range(3)):
        fault, check = NOTHING[name]
        fails(judged(invented(kind, ENOUGH[0.3], fault), tmp_path), "answered", check)


@pytest.mark.slow
@pytest.mark.parametrize("share", [0.1, 0.03])
@pytest.mark.parametrize("name", NOTHING)
def test_no_answer_in_a_small_share_is_seen(name: str, share: float, tmp_path: Path) -> None:
    fault, check = NOTHING[name]
    kind = ("class", "number", "vector", "text")[list(NOTHING).index(name) % 4]
    fails(judged(invented(kind, ENOUGH[share], fault, share), tmp_path), "answered", check)


@pytest.mark.slow
@pytest.mark.parametrize(("kind", "name", "fault"), MISSING, ids=lambda each: each if isinstance(each, str) else "")
def test_an_answer_without_its_value_is_missing(kind: str, name: str, fault: Fault, tmp_path: Path) -> None:
    fails(judged(invented(kind, ENOUGH[0.3], fault), tmp_path), "answered")


@pytest.mark.soak
@pytest.mark.parametrize("share", [0.1, 0.03])
@pytest.mark.parametrize("kind", KINDS)
def test_every_missing_answer_in_a_small_share_is_seen(kind: str, share: float, tmp_path: Path) -> None:
    """Without THOROUGH, each kind meets a third of the answers that any shadow may give in place of one."""
    own = {name: (fault, "answered") for of, name, fault in MISSING if of == kind}
    first = list(KINDS).index(kind) % 3
    any_kind = NOTHING if THOROUGH else dict(list(NOTHING.items())[first::3])
    for fault, check in (any_kind | own).values():
        figures = judged(invented(kind, ENOUGH[share], fault, share), tmp_path)
        # Of 1,200 requests, 3 % may be too few for one check to be sure; then another one fails.
        fails(figures, *(("answered", check) if share > 0.03 else ()))


@pytest.mark.slow
@pytest.mark.parametrize(("share", "count", "result"), [(0.01, 2500, "inconclusive"), (0.02, 4000, "fail")])
def test_embeddings_cut_short_in_a_small_share_are_seen(share: float, count: int, result: str, tmp_path: Path) -> None:
    figures = judged(invented("embedding", count, changed(lambda value: value[:-1]), share), tmp_path)
    assert results(figures)["answered"] == result, said(figures)
    assert exit_code(figures) == {"inconclusive": 3, "fail": 1}[result]


@pytest.mark.slow
@pytest.mark.parametrize("share", [0.3, 0.1, 0.03])
@pytest.mark.parametrize("kind", ["class", "number", "text", "ranking"])
def test_neither_labels_nor_an_agreement_excuse_what_is_missing(kind: str, share: float, tmp_path: Path) -> None:
    """The pairs that are left agree and are right, all of them."""
    rows = invented(kind, ENOUGH[share], body(BOOM), share)
    labels = None
    if kind in ("class", "number"):
        labels = {each["id"]: KINDS[kind].value(each["request"]["body"]) for each in rows}
    figures = judged(rows, tmp_path, AGREEING, labels)
    fails(figures, "answered", "errors")
    shadow = figures["shadows"]["s"]["outputs"][0]
    assert shadow["agreement"]["value"] == pytest.approx(1 - share, abs=0.04)
    if kind == "class":
        assert shadow["labels"]["shadow"]["value"] == pytest.approx(1 - share, abs=0.04)
        assert share < 0.1 or {"agreement", "labels"} <= failing(figures)
    if kind == "number":
        assert results(figures)["labels"] == "inconclusive"


# --- an answer that is another ---------------------------------------------------------------------------------------


OTHER: list[tuple[str, str, Fault, set[str]]] = [
    ("class", "another", changed(lambda value: {"a": "b", "b": "c", "c": "a"}[value]), set()),
    ("number", "a thousandfold", changed(lambda value: value * 1000), {"range"}),
    ("number", "the sign turned", changed(lambda value: -5 * value), {"range"}),
    ("probability", "per cent", changed(lambda value: value * 100), {"range"}),
    ("probability", "turned round", changed(lambda value: 1 - value), set()),
    ("batch", "rows turned round", changed(lambda value: value[::-1]), set()),
    ("batch", "a thousandfold", changed(lambda value: [each * 1000 for each in value]), {"range"}),
    ("vector", "columns swapped", changed(lambda value: value[1:] + value[:1]), set()),
    ("vector", "no probabilities", changed(lambda value: [each * 7 for each in value]), set()),
    ("seldon", "columns swapped", changed(lambda value: value[1:] + value[:1]), set()),
    ("inference", "a thousandfold", changed(lambda value: [value[0] * 1000]), {"range"}),
    ("ranking", "turned round", changed(lambda value: value[::-1]), set()),
    ("text", "cut short", changed(lambda value: value[: len(value) // 3]), set()),
    ("text", "a refusal", changed(lambda value: "I cannot help with that."), set()),
    ("chat", "a refusal", changed(lambda value: "I cannot help with that."), set()),
    ("chat", "cut short", changed(lambda value: value[: len(value) // 3]), set()),
    ("chat streamed", "another text", changed(lambda value: " ".join(sorted(value.split()))), set()),
    ("anthropic streamed", "another text", changed(lambda value: " ".join(sorted(value.split()))), set()),
    ("tool streamed", "another function", changed(lambda value: {**value, "name": "delete_all"}), set()),
    ("tool streamed", "no arguments", changed(lambda value: {**value, "arguments": "{}"}), set()),
    ("embedding", "one element of all", changed(lambda value: [value[0] + 0.5, *value[1:]]), set()),
    ("embedding", "another", changed(lambda value: value[5:] + value[:5]), set()),
]


@pytest.mark.slow
@pytest.mark.parametrize(
    ("kind", "name", "fault", "checks"), OTHER, ids=lambda each: each if isinstance(each, str) else ""
)
def test_another_answer_is_never_ready(kind: str, name: str, fault: Fault, checks: set[str], tmp_path: Path) -> None:
    rows = invented(kind, 300, fault)
    figures = judged(rows, tmp_path)
    if checks:
        fails(figures, *checks)
    elif not failing(figures):
        withheld(figures)
    fails(judged(rows, tmp_path, AGREEING), "agreement")


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["class", "number", "vector", "text", "ranking", "embedding", "tool streamed"])
def test_answers_to_other_requests_are_unrelated(kind: str, tmp_path: Path) -> None:
    """Each answer is the one to the request before: every figure of the arms alone is a twin's."""
    shifted: Fault = lambda source, asked, value, of, before: of.answer(source, before)  # noqa: E731
    figures = judged(invented(kind, 800, shifted, 1), tmp_path)
    fails(figures, "related")
    assert "drift" not in failing(figures)


@pytest.mark.parametrize("share", [0.3, 0.1, 0.03])
def test_an_equal_secondary_field_says_nothing_of_the_judged_one(share: float, tmp_path: Path) -> None:
    def answers(source: Any, asked: Row, value: Value, kind: Any, before: Value) -> Any:
        live, shadow = ({"predictions": [each], "amount": asked["x"]} for each in (value, value * 3 + 400))
        return leg(source, live), leg(source, shadow if source.random() < share else live)

    figures = judged(invented("number", 1200, answers, 1), tmp_path, Gates(min_agreement=0.99))
    fails(figures, "range", "agreement")
    assert {each["field"] for each in figures["shadows"]["s"]["checks"]} >= {"/predictions/*"}


@pytest.mark.parametrize("change", [lambda each, at: each * 1.01, lambda each, at: each + (at == 3)])
def test_a_forecast_is_not_judged_by_its_direction_alone(change: Any, tmp_path: Path) -> None:
    """All of it is 1 % too high, or one number of 24 is off by 1: neither turns an array of numbers by much."""

    def answers(source: Any, asked: Row, value: Value, kind: Any, before: Value) -> Any:
        drawn = random.Random(value)
        said = [drawn.gauss(100, 40) for _ in range(24)]
        return leg(source, {"forecast": said}), leg(
            source, {"forecast": [change(*each[::-1]) for each in enumerate(said)]}
        )

    figures = judged(invented("number", 600, answers, 1), tmp_path)
    assert figures["shadows"]["s"]["verdict"]["headline"] != "READY"
    withheld(figures)


@pytest.mark.parametrize("share", [0.3, 0.1, 0.03])
@pytest.mark.parametrize(("live", "shadow"), [(0.5, 1000.0), (0.0, -3.0), (None, 400.0)])
def test_what_leaves_the_range_of_a_clipped_answer_is_seen(
    live: float | None, shadow: float, share: float, tmp_path: Path
) -> None:
    """Live is one number, or clipped to 0 up to 100."""

    def answers(source: Any, asked: Row, value: Value, kind: Any, before: Value) -> Any:
        one = live if live is not None else min(100.0, max(0.0, source.gauss(50, 60)))
        return leg(source, {"p": one}), leg(source, {"p": shadow if source.random() < share else one})

    # Whole numbers that are few are classes, which have no range: another class is seen by how they are spread.
    fails(judged(invented("number", 1200, answers, 1), tmp_path), "range" if live != 0 else "drift")


# --- statuses --------------------------------------------------------------------------------------------------------

LEFT: Fault = outcome("caller_left", 5)


@pytest.mark.parametrize("share", [0.3, 0.1, 0.03])
@pytest.mark.parametrize(
    ("fault", "check"),
    [
        (both(body({"detail": "bad"}, 400), body(BOOM, 500)), "errors"),
        (both(body({"detail": "bad"}, 400), outcome("timeout")), "errors"),
        (both(body({"detail": "who?"}, 401), right), "flips"),
        (both(body({"detail": "bad"}, 422), right), "flips"),
        (both(body(None, 204), body(BOOM, 500)), "errors"),
        (both(right, body({"detail": "slow down"}, 429)), "flips"),
        (both(right, body({"detail": "gone"}, 404)), "flips"),
    ],
)
def test_a_status_that_live_does_not_give_is_seen(fault: Fault, check: str, share: float, tmp_path: Path) -> None:
    fails(judged(invented("number", 400 if share > 0.03 else 2000, fault, share), tmp_path), check)


@pytest.mark.parametrize("share", [0.3, 0.1, 0.03])
def test_callers_who_leave_excuse_no_failure(share: float, tmp_path: Path) -> None:
    """A tenth of callers leave; what they would have got from live nobody knows."""

    def answers(source: Any, asked: Row, value: Value, kind: Any, before: Value) -> Any:
        live = failed("caller_left", 5) if source.random() < 0.1 else kind.answer(source, value)
        return live, leg(source, BOOM, 500) if source.random() < share else kind.answer(source, value)

    fails(judged(invented("number", 1700, answers, 1), tmp_path), "errors", "answered")


@pytest.mark.parametrize("status", [400, 404, 500, 503])
def test_what_both_refuse_says_nothing_of_either(status: int, tmp_path: Path) -> None:
    refused = body({"detail": "Not Found"}, status)
    figures = judged(invented("number", 1500, both(refused, refused), 1), tmp_path)
    assert exit_code(figures) == 3
    assert "hardly answered" in figures["shadows"]["s"]["verdict"]["sentence"]


# --- what is no fault ------------------------------------------------------------------------------------------------


def ready(figures: Figures) -> None:
    assert set(results(figures).values()) == {"pass"}, said(figures)
    assert exit_code(figures) == 0


def twin(said: Any, **more: Any) -> Fault:
    """Both say what `said` makes of (source, request, value)."""

    def answers(source: Any, asked: Row, value: Value, kind: Any, before: Value) -> Any:
        one, other = said(source, asked, value)
        return leg(source, one, **more), leg(source, other, **more)

    return answers


def same(said: Any) -> Any:
    return lambda source, asked, value: [said(source, asked, value)] * 2


def _nan(source: Any, asked: Row, value: Value) -> Any:
    return {"p": float("nan") if asked["x"] < 0.2 else value}


def _onnx(source: Any, asked: Row, value: Value) -> Any:
    """Of two runtimes one leaves [0, 1] by a little, at both of its ends."""
    low = round(asked["x"] ** 4, 2) if source.random() < 0.7 else 0.0
    return (
        {"probabilities": [[low, 1 - low]]},
        {"probabilities": [[low - 1e-7, 1.0000001 - low]]},
    )


@pytest.mark.slow
@pytest.mark.parametrize(
    "said",
    [
        same(_nan),
        _onnx,
        lambda source, asked, value: ({"p": value}, {"p": value * (1 + source.gauss(0, 1e-7))}),
        same(lambda source, asked, value: {"p": value, "order": 2**64 + asked["m"], "serial": 10**30 + asked["n"]}),
        same(lambda source, asked, value: {"choices": 3, "score": value}),
        same(lambda source, asked, value: {"prediction": value, "error": None}),
        same(lambda source, asked, value: {"prediction": value, "error": ""}),
    ],
    ids=["NaN", "runtime's vectors", "runtime's numbers", "large integers", "choices", "no error", "empty error"],
)
def test_what_is_no_fault_is_ready(said: Any, tmp_path: Path) -> None:
    ready(judged(invented("number", 2600, twin(said), 1), tmp_path))


@pytest.mark.slow
def test_one_line_of_json_lines_is_an_answer(tmp_path: Path) -> None:
    def answers(source: Any, asked: Row, value: Value, kind: Any, before: Value) -> Any:
        one = leg(source, text=f'{{"prediction": {value}}}\n', type="application/jsonlines")
        return one, {**one, "total_ms": one["total_ms"] * 1.01}

    ready(judged(invented("number", 2200, answers, 1), tmp_path))


@pytest.mark.slow
def test_an_array_in_another_order_is_none_where_order_is_said_to_say_nothing(tmp_path: Path) -> None:
    def answers(source: Any, asked: Row, value: Value) -> Any:
        tags = [value + at for at in range(4)]
        other = [each * (1 + 1e-7) for each in tags]
        source.shuffle(other)
        return {"tags": tags, "label": "ab"[asked["n"] % 2]}, {"tags": other, "label": "ab"[asked["n"] % 2]}

    rules = Rules(unordered=("/tags",), tolerance={"/tags/*": Tolerance(1e-6, 1e-6)})
    figures = judged(invented("number", 2200, twin(answers), 1), tmp_path, rules=rules)
    assert not failing(figures), said(figures)


def test_an_event_whose_choices_are_a_number_is_read(tmp_path: Path) -> None:
    odd = ended('data: {"choices": 7}\n\n', "data: [DONE]")
    figures = judged(invented("chat streamed", 150, both(odd, odd), 1), tmp_path)
    assert not failing(figures)


# --- what hides a fault ----------------------------------------------------------------------------------------------


def log_of(count: int, make: Any) -> list[Row]:
    """A log whose rows `make` gives from (source, number, request): live's answer, the shadow's, and of `row` what it
    has of its own."""
    source = random.Random(3)
    rows = []
    for number in range(count):
        asked = asked_for(source)
        live, shadow, *more = make(source, number, asked)
        rows.append(row(number, 3, asked, live, shadow, **(more[0] if more else {})))
    return rows


def _price(asked: Row) -> Any:
    return {"price": KINDS["number"].value(asked)}


@pytest.mark.slow
@pytest.mark.parametrize("share", [0.05, 0.03])
def test_a_route_too_small_to_be_judged_still_counts_in_the_whole(share: float, tmp_path: Path) -> None:
    """Health checks, which are nearly all of the traffic, hide that the model answers nothing."""

    def make(source: Any, number: int, asked: Row) -> Any:
        if source.random() > share:
            return leg(source, {"status": "ok"}), leg(source, {"status": "ok"}), {"path": "/healthz", "method": "GET"}
        return leg(source, _price(asked)), leg(source, BOOM, 500)

    figures = judged(log_of(4000, make), tmp_path)
    assert [route["gated"] for route in figures["shadows"]["s"]["routes"]] == [True, False]
    fails(figures, "errors", "answered", "slices")


def test_routes_that_are_each_below_one_in_a_hundred_count_together(tmp_path: Path) -> None:
    def make(source: Any, number: int, asked: Row) -> Any:
        rare = number % 60 == 0
        other = leg(source, BOOM, 500) if rare else leg(source, _price(asked))
        return leg(source, _price(asked)), other, {"path": f"/rare{'abcdefg'[number % 7]}" if rare else "/predict"}

    fails(judged(log_of(3600, make), tmp_path), "errors")


@pytest.mark.slow
@pytest.mark.parametrize(
    ("none", "full"),
    [
        ({"answer": ""}, lambda asked: {"answer": KINDS["text"].value(asked)}),
        ({"price": None}, _price),
        ({"results": []}, lambda asked: {"results": [{"id": each} for each in KINDS["ranking"].value(asked)]}),
    ],
    ids=["text", "number", "ranking"],
)
def test_answers_that_are_few_are_not_missed_beside_many_empty_ones(none: Any, full: Any, tmp_path: Path) -> None:
    """Of live's answers 97 % say nothing, and of the shadow's all: they are the same nearly always."""

    def make(source: Any, number: int, asked: Row) -> Any:
        return leg(source, none if source.random() < 0.97 else full(asked)), leg(source, none)

    fails(judged(log_of(2500, make), tmp_path), "answered")


@pytest.mark.slow
@pytest.mark.parametrize("share", [0.3, 0.03])
def test_what_the_log_has_not_kept_of_the_shadow_alone_withholds_ready(share: float, tmp_path: Path) -> None:
    """The shadow's answers are longer than `log.body_limit`, and live's are not."""

    def make(source: Any, number: int, asked: Row) -> Any:
        live, shadow = leg(source, _price(asked)), leg(source, _price(asked))
        if source.random() < share:
            del shadow["body"]
            shadow |= {"body_truncated": True, "body_bytes": 10_000_000}
        return live, shadow

    figures = judged(log_of(2500, make), tmp_path)
    assert results(figures)["answered"] == "inconclusive"
    assert exit_code(figures) == 3
    assert "log.body_limit" in figures["shadows"]["s"]["verdict"]["sentence"]


@pytest.mark.slow
def test_a_log_that_is_read_again_and_again_is_no_more_than_one(tmp_path: Path) -> None:
    rows = invented("number", 100)
    figures = judged(rows * 30, tmp_path)
    assert results(figures)["records"] == "inconclusive"
    assert exit_code(figures) == 3
    assert "records" not in results(judged(rows, tmp_path))


CONSTANTS: list[tuple[str, Any, Any]] = [
    ("numbers", {"p": 0.5}, {"p": 0.6}),
    ("whole numbers", {"amount": 150_000}, {"amount": 250_000}),
    ("a flag", {"late": False, "model": "a-1"}, {"late": True, "model": "b-2"}),
    ("words", {"label": "class_001"}, {"label": "class_002"}),
    ("a number beside a version", {"p": 0.5, "version": "1.2"}, {"p": 0.6, "version": "1.3"}),
    (
        "a number beside a notice",
        {"p": 0.5, "notice": "this is the output of a model and no advice of any kind"},
        {"p": 0.6, "notice": "this is the output of a model and no advice of any kind"},
    ),
    ("a bare number", 1, 0),
    ("nothing", {"p": None}, {"p": 0}),
]
"""What live and the shadow answer each time."""


def constant(answer: Any, other: Any) -> Iterator[Row]:
    for each in invented("number", 3000):
        each["live"]["body"], each["shadows"]["s"]["body"] = answer, other
        yield each


@pytest.mark.slow
@pytest.mark.parametrize(("live", "shadow"), [each[1:] for each in CONSTANTS], ids=[each[0] for each in CONSTANTS])
def test_two_constants_that_differ_are_not_ready(live: Any, shadow: Any, tmp_path: Path) -> None:
    """A live system whose rule never fires answers one value: its difference from another one is no version."""
    figures = judged(constant(live, shadow), tmp_path)
    assert exit_code(figures) in (1, 3)
    assert figures["shadows"]["s"]["verdict"]["headline"] != "READY"


@pytest.mark.slow
def test_versions_beside_an_equal_answer_are_ready(tmp_path: Path) -> None:
    answers = {"status": "ok", "version": "1.2"}, {"status": "ok", "version": "1.3"}
    assert exit_code(judged(constant(*answers), tmp_path)) == 0
