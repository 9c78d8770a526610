"""From figures to one verdict: what passes, what fails, what cannot be said; planted faults are found by kind."""

import random
import uuid
from collections.abc import Callable
from typing import Any, TypeAlias

import pytest
from logs import answer, chosen, failed, report_json
from thorough import THOROUGH

from shadowproxy.compare.fold.reading import Reading
from shadowproxy.compare.fold.summary import summarise
from shadowproxy.compare.fold.truths import Truth, Truths
from shadowproxy.compare.judge.rules import Rules
from shadowproxy.compare.report.build import exit_code
from shadowproxy.compare.report.gates import Gates
from shadowproxy.exchange import Outcome
from shadowproxy.record import Record

Figures: TypeAlias = Any

Answers = Callable[[random.Random, int], tuple[Any, Any]]


def report_on(
    records: list[Record], gates: Gates | None = None, truths: dict[str, Truth] | None = None, **fields: Any
) -> Figures:
    reading = Reading(Rules(), truths=Truths(truths or {}), **fields)
    return report_json(summarise(records, reading), gates)


def results(figures: Figures) -> dict[str, str]:
    return {check["name"]: check["result"] for check in figures["shadows"]["s"]["checks"]}


def classes(source: random.Random, number: int) -> tuple[Any, Any]:
    label = source.choices("abc", (6, 3, 1))[0]
    return {"label": label}, {"label": label}


def test_a_twin_with_enough_requests_passes_everything() -> None:
    figures = report_on(chosen(9000, 1, classes))
    assert set(results(figures).values()) == {"pass"}
    assert figures["result"] == "pass"
    assert exit_code(figures) == 0
    verdict = figures["shadows"]["s"]["verdict"]
    assert verdict["headline"] == "READY"
    assert verdict["questions"]["performance"] == "no data"
    assert "without labels" in verdict["sentence"]


def twins(numbers: bool) -> Answers:
    """Two draws from one noisy model."""

    def answers(source: random.Random, number: int) -> tuple[Any, Any]:
        if numbers:
            return {"price": source.gauss(50, 10)}, {"price": source.gauss(50, 10)}
        return {"label": source.choices("abc", (6, 3, 1))[0]}, {"label": source.choices("abc", (6, 3, 1))[0]}

    return answers


@pytest.mark.slow
@pytest.mark.parametrize("numbers", [False, True])
def test_the_same_model_twice_does_not_fail(numbers: bool) -> None:
    for seed in range(5):
        assert "fail" not in results(report_on(chosen(200, seed, twins(numbers)))).values()


@pytest.mark.soak
@pytest.mark.parametrize("numbers", [False, True])
def test_the_same_model_twice_never_fails_in_many_runs(numbers: bool) -> None:
    for seed in range(100 if THOROUGH else 30):
        assert "fail" not in results(report_on(chosen(400, seed, twins(numbers)))).values()


def test_too_few_requests_are_inconclusive_and_say_how_many_more() -> None:
    figures = report_on(chosen(50, 1, classes))
    checks = {check["name"]: check for check in figures["shadows"]["s"]["checks"]}
    assert checks["structure"]["result"] == "inconclusive"
    assert 1_000 < checks["structure"]["more"] < 3_000
    assert figures["shadows"]["s"]["verdict"]["headline"] == "NOT SURE YET"
    assert (exit_code(figures), exit_code(figures, fail_on="fail")) == (3, 0)


def test_no_data_is_never_a_pass() -> None:
    figures = report_on(chosen(50, 1, lambda source, number: ({"label": "a"}, failed(Outcome.LANE_FULL))))
    assert results(figures)["live"] == "no data"
    assert set(results(figures).values()) <= {"no data", "inconclusive"}
    assert exit_code(figures) == 3
    assert exit_code(report_on([])) == 3


def every(step: int, then: Callable[[random.Random], Any], kind: str = "label") -> Any:
    """Answers like live's, but for one in `step`."""

    def answers(source: random.Random, number: int) -> tuple[Any, Any]:
        live = {"label": source.choice("ab")} if kind == "label" else {"price": source.gauss(50, 10)}
        return live, then(source) if number % step == 0 else live

    return answers


@pytest.mark.parametrize(
    ("answers", "check"),
    [
        (every(20, lambda source: answer({"error": 1}, status=500)), "errors"),
        (every(20, lambda source: failed(Outcome.TIMEOUT, 2000.0)), "errors"),
        (every(20, lambda source: failed(Outcome.TIMEOUT, 2000.0)), "latency"),
        (every(20, lambda source: answer()._replace(body=None)), None),
        (every(1, lambda source: {"label": "a"}), "collapse"),
        (every(1, lambda source: {"price": 50.0}, "price"), "collapse"),
        (every(2, lambda source: {"label": "new"}), "drift"),
    ],
)
def test_planted_faults_fail_the_check_they_belong_to(answers: Any, check: str | None) -> None:
    figures = report_on(chosen(4000, 3, answers))
    if check is None:
        assert figures["shadows"]["s"]["agreement"]["incomparable"] == {"shadow: no body in the record": 200}
        return
    assert results(figures)[check] == "fail"
    assert figures["shadows"]["s"]["verdict"]["headline"] == "NOT READY"
    assert exit_code(figures) == 1


def test_an_answer_that_is_no_json_fails_the_format() -> None:
    broken = answer()._replace(body=answer().body._replace(kind="text", value="<html>"))  # type: ignore[union-attr]
    figures = report_on(chosen(3000, 3, every(30, lambda source: broken)))
    assert results(figures)["structure"] == "fail"


def test_planted_counts_are_found_exactly() -> None:
    """Of 3000: 30 timeouts, 60 NaN, 100 nulls, 50 other types; and permuted probability vectors."""

    def answers(source: random.Random, number: int) -> tuple[Any, Any]:
        price = source.gauss(50, 10)
        odd = {0: failed(Outcome.TIMEOUT, 900.0), 1: float("nan"), 2: float("nan"), 3: None, 5: "n/a"}
        at = number % 100
        if at in odd and not (at == 5 and number % 200 == 5):
            return {"price": price}, odd[at] if at == 0 else {"price": odd[at]}
        return {"price": price}, {"price": price}

    shadow = report_on(chosen(3000, 3, answers))["shadows"]["s"]
    assert shadow["coverage"]["outcomes"] == {"ok": 2970, "timeout": 30}
    assert shadow["outputs"][0]["odd"] == {
        "live": {},
        "shadow": {"NaN": 60, "null": 30, "another type": 15},
    }
    assert shadow["outputs"][0]["pairs"] == 3000
    assert shadow["outputs"][0]["answered"]["lost"] == 30 + 105
    assert any("NaN 60 times" in warning for warning in shadow["verdict"]["warnings"])


def test_a_permuted_probability_vector_is_a_flip() -> None:
    def answers(source: random.Random, number: int) -> tuple[Any, Any]:
        low = source.uniform(0.01, 0.3)
        vector = [low, 1 - low]
        return {"probs": vector}, {"probs": vector[::-1] if number % 10 == 0 else vector}

    output = report_on(chosen(1000, 3, answers))["shadows"]["s"]["outputs"][0]
    assert output["kind"] == "vector"
    assert output["agreement"]["value"] == pytest.approx(0.9)
    assert output["flips"][0] == {"live": '"1"', "shadow": '"0"', "count": 100, "net": 100}
    assert 0.04 < output["scores"]["total variation"]["value"] < 0.1


def test_timestamps_and_ids_do_not_drown_the_rest() -> None:
    def answers(source: random.Random, number: int) -> tuple[Any, Any]:
        label = source.choice("ab")

        def dressed(value: str) -> dict[str, Any]:
            trace = str(uuid.UUID(int=source.getrandbits(128)))
            return {"label": value, "request": {"trace": trace, "at": f"2026-01-31T12:00:00.{number:06d}{value}Z"}}

        return dressed(label), dressed(label if number % 25 else "c")

    shadow = report_on(chosen(1000, 3, answers))["shadows"]["s"]
    assert shadow["agreement"]["set_aside"] == ["/request/at", "/request/trace"]
    assert shadow["agreement"]["settled"]["value"] == pytest.approx(0.96)
    assert shadow["outputs"][0]["live_path"] == "/label"
    assert {example["differences"][0]["path"] for example in shadow["examples"]} == {"/label"}


def test_a_small_mean_difference_that_hides_everything_is_seen_through() -> None:
    """A regression: the two have the same mean, and hardly a number in common."""

    def answers(source: random.Random, number: int) -> tuple[Any, Any]:
        return {"price": source.gauss(50, 10)}, {"price": source.gauss(50, 10)}

    output = report_on(chosen(3000, 3, answers))["shadows"]["s"]["outputs"][0]
    assert abs(output["bias"]["value"]) < 1
    assert output["bias"]["high"] - output["bias"]["low"] < 2
    assert abs(output["concordance"]["value"]) < 0.1
    assert 8 < output["median_delta"] < 11
    assert output["agreement"]["value"] < 0.01
    assert output["limits"][0] == pytest.approx(-27.7, abs=3)
    assert output["limits"][1] == pytest.approx(27.7, abs=3)
    assert results(report_on(chosen(3000, 3, answers)))["drift"] != "fail"


def test_rankings_are_compared_by_overlap_order_and_top() -> None:
    def answers(source: random.Random, number: int) -> tuple[Any, Any]:
        items = [{"id": n, "score": source.random()} for n in source.sample(range(100), 10)]
        swapped = [items[1], items[0], *items[2:]]
        return {"items": items}, {"items": swapped if number % 4 == 0 else items}

    output = report_on(chosen(400, 3, answers))["shadows"]["s"]["outputs"][0]
    assert output["kind"] == "ranking"
    assert output["scores"]["top 1"]["value"] == pytest.approx(0.75)
    assert output["scores"]["overlap at 10"]["value"] == 1
    assert 0.9 < output["scores"]["rank-biased overlap"]["value"] < 1


def test_a_jittering_number_whose_shift_matters_is_found_with_the_control_arm() -> None:
    """Live wavers by 0.01 at every look, so all three differ always; only their size tells the shift of 0.05."""
    source = random.Random(8)
    records = [
        record._replace(
            live=answer({"price": base + source.gauss(0, 0.01)}),
            control=answer({"price": base + source.gauss(0, 0.01)}),
            shadows={"s": answer({"price": base + 0.05 + source.gauss(0, 0.01)})},
        )
        for record in chosen(400, 3, classes)
        for base in [source.uniform(1, 9)]
    ]
    control = report_on(records)["shadows"]["s"]["control"]
    (field,) = control["fields"]
    assert min(field["shadow_differs"], field["live_differs"]) > 0.99
    assert abs(field["excess"]["value"]) < 0.01
    assert field["gap_ratio"] > 4


def test_a_shadow_as_noisy_as_live_has_no_excess_over_the_control_arm() -> None:
    source = random.Random(8)

    def draw() -> dict[str, str]:
        return {"label": source.choices("ab", (9, 1))[0]}

    records = [
        record._replace(control=answer(draw())) for record in chosen(2000, 3, lambda _, number: (draw(), draw()))
    ]
    excess = report_on(records)["shadows"]["s"]["control"]["excess"]
    assert excess["low"] < 0 < excess["high"]


def test_the_slice_with_the_disagreement_is_named() -> None:
    def answers(source: random.Random, number: int) -> tuple[Any, Any]:
        label = source.choice("ab")
        flipped = "b" if label == "a" else "a"
        return {"label": label}, {"label": flipped if number % 7 == 3 and source.random() < 0.5 else label}

    (row,) = report_on(chosen(3000, 3, answers, country="NL"))["shadows"]["s"]["slices"]
    assert (row["path"], row["value"]) == ("/n", "3")
    assert row["share_of_all"] == 1
    assert row["lift"] == pytest.approx(7, rel=0.01)


def test_slices_are_seldom_named_where_none_stands_out() -> None:
    """Seven values, one in ten answers another by chance: without a correction half of the runs would name some."""

    def answers(source: random.Random, number: int) -> tuple[Any, Any]:
        return {"label": "a"}, {"label": "a" if source.random() < 0.9 else "c"}

    named = [seed for seed in range(8) if report_on(chosen(500, seed, answers))["shadows"]["s"]["slices"]]
    assert len(named) <= 1


def labelled(shadow_right: float) -> tuple[list[Record], dict[str, Truth]]:
    source = random.Random(6)
    truths: dict[str, Truth] = {}

    def answers(_: random.Random, number: int) -> tuple[Any, Any]:
        truth = source.choice("ab")
        wrong = "b" if truth == "a" else "a"
        truths[f"id-{number}"] = Truth((truth,))
        live, shadow = (truth if source.random() < right else wrong for right in (0.9, shadow_right))
        return {"label": live}, {"label": shadow}

    return chosen(4000, 3, answers), truths


@pytest.mark.parametrize(("shadow_right", "result"), [(0.95, "pass"), (0.8, "fail"), (0.895, "inconclusive")])
def test_labels_decide_whether_answers_are_as_good(shadow_right: float, result: str) -> None:
    records, truths = labelled(shadow_right)
    figures = report_on(records, truths=truths)
    assert results(figures)["labels"] == result
    assert figures["shadows"]["s"]["verdict"]["questions"]["performance"] == result
    labels = figures["shadows"]["s"]["outputs"][0]["labels"]
    assert labels["labelled"] == 4000
    assert labels["shadow"]["value"] == pytest.approx(shadow_right, abs=0.02)
    right = {name: labels[name]["value"] * 4000 for name in ("live", "shadow")}
    assert right["shadow"] - right["live"] == pytest.approx(labels["shadow_only"] - labels["live_only"])


def test_numbers_are_held_to_their_mean_absolute_error() -> None:
    source = random.Random(6)
    truths = {f"id-{n}": Truth((source.uniform(0, 100),)) for n in range(1000)}

    def answers(_: random.Random, number: int) -> tuple[Any, Any]:
        truth = float(truths[f"id-{number}"].labels[0] or 0)
        return {"price": truth + source.gauss(0, 1)}, {"price": truth + source.gauss(0, 5)}

    figures = report_on(chosen(1000, 3, answers), truths=truths)
    labels = figures["shadows"]["s"]["outputs"][0]["labels"]
    assert labels["live"]["value"] == pytest.approx(0.8, abs=0.1)
    assert labels["shadow"]["value"] == pytest.approx(4, abs=0.4)
    assert results(figures)["labels"] == "fail"


def test_agreement_is_a_gate_only_when_asked() -> None:
    records = chosen(2000, 3, every(10, lambda source: {"label": "c"}))
    summary = summarise(records, Rules())
    assert "agreement" not in results(report_json(summary))
    assert results(report_json(summary, Gates(min_agreement=0.95)))["agreement"] == "fail"
    assert results(report_json(summary, Gates(min_agreement=0.8)))["agreement"] == "pass"
    assert results(report_json(summary, Gates(min_agreement=0.9)))["agreement"] == "inconclusive"


def test_the_moment_of_decision_is_the_first_at_which_the_sequence_clears_the_line() -> None:
    records = chosen(3000, 3, every(10, lambda source: {"label": "c"}))
    shadow = report_on(records, Gates(min_agreement=0.95))["shadows"]["s"]
    at = shadow["decided"]["at"]
    assert shadow["over_time"][at]["high"] < 0.95 <= shadow["over_time"][at - 1]["high"]


def test_low_coverage_is_warned_of() -> None:
    figures = report_on(chosen(300, 3, every(5, lambda source: failed(Outcome.LANE_FULL))))
    assert any("80 %" in warning for warning in figures["shadows"]["s"]["verdict"]["warnings"])


@pytest.mark.parametrize("share", [0.005, 0.02])
def test_a_rare_class_that_is_never_answered_is_a_collapse(share: float) -> None:
    def answers(source: random.Random, number: int) -> tuple[Any, Any]:
        fraud = source.random() < share
        return {"fraud": "yes" if fraud else "no"}, {"fraud": "no"}

    figures = report_on(chosen(round(80 / share), 3, answers))
    assert results(figures)["collapse"] == "fail"
    assert 'never answers "yes"' in figures["shadows"]["s"]["verdict"]["sentence"]


def test_a_rare_class_is_answered_at_other_times_by_a_noisy_twin() -> None:
    for seed in range(4):
        noisy = chosen(
            2000, seed, lambda source, _: ({"fraud": source.random() < 0.01}, {"fraud": source.random() < 0.01})
        )
        assert results(report_on(noisy))["collapse"] == "pass"


def test_a_place_that_live_hardly_ever_has_makes_a_report() -> None:
    """The shadow answers there far more often than live: more are gained than live has."""

    def answers(source: random.Random, number: int) -> tuple[Any, Any]:
        live = {"label": "a", "rare": 1.5} if number % 50 == 0 else {"label": "a"}
        return live, {"label": "a", "rare": 2.5} if number % 2 else {"label": "a"}

    figures = report_on(chosen(1000, 3, answers), fields=(("/rare", "/rare"), ("/label", "/label")))
    answered = figures["shadows"]["s"]["outputs"][0]["answered"]
    assert (answered["lost"], answered["gained"], answered["n"]) == (20, 500, 520)
