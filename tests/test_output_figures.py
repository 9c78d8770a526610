"""What is said of one place of the answers: agreement, loss, range, drift, collapse and the truth."""

import json
import random
from collections.abc import Callable, Sequence
from io import StringIO
from typing import Any, TypeAlias

import pytest
from answers import FAILED, place_values
from logs import answer, record, report_json
from rich.console import Console
from test_related import KINDS, words

from shadowproxy.compare.fold.outputs import OutputsByField
from shadowproxy.compare.fold.outputs_builder import PlacesBuilder
from shadowproxy.compare.fold.place_gists import gists_at
from shadowproxy.compare.fold.places import names_embedding
from shadowproxy.compare.fold.reading import Reading
from shadowproxy.compare.fold.samples import hashed
from shadowproxy.compare.fold.summary import summarise
from shadowproxy.compare.judge.rules import Rules
from shadowproxy.compare.report.checks.all import checks_of
from shadowproxy.compare.report.checks.check import Result
from shadowproxy.compare.report.figures.outputs import output_figures
from shadowproxy.compare.report.gates import Gates
from shadowproxy.compare.report.html import to_html
from shadowproxy.compare.report.junit import to_junit
from shadowproxy.compare.report.kinds import answer_places
from shadowproxy.compare.report.markdown import to_markdown
from shadowproxy.compare.report.text import print_figures

Figures: TypeAlias = Any
Pairs = Sequence[tuple[Any, Any]]


def fold(pairs: Pairs, labels: Callable[[int], tuple[Any, ...]] = lambda n: (), part: slice = slice(None)) -> Any:
    builders = PlacesBuilder()
    for number in range(len(pairs))[part]:
        for look in place_values(*pairs[number]):
            block = number * 40 // len(pairs)
            named = names_embedding(look.live_place)
            builders.part(look.key).add(block, look.live, look.shadow, embedding=named, digest=hashed(str(number)))
            builders.part(look.key).label(block, *gists_at(look)[1:], labels(number))
    return builders.finish()


def figures(pairs: Pairs, labels: Callable[[int], tuple[Any, ...]] = lambda n: (), **more: Any) -> Figures:
    first = answer_places(fold(pairs, labels), len(pairs))[0]
    found = output_figures(first, **more)
    json.dumps(found, allow_nan=False)
    return found


def result(name: str, output: Figures, *others: Figures) -> Result | None:
    """What the check of that name says of these figures alone."""
    shadow: Any = {
        "outputs": [output, *others],
        "pairs": {"n": output["pairs"], "live_2xx": output["pairs"]},
        "coverage": {"chosen": 1, "answered": 1, "share": 1.0},
        **dict.fromkeys(("structure", "errors", "flips", "repeats", "control", "answered", "legacy")),
        "latency": {"ratio": {"p99": None}},
        "agreement": {"settled": None, "whole": output["agreement"], "incomparable": {}},
        "slices": [],
        "fields": [],
        "repeated_keys": {"live": 0, "shadow": 0},
        "labels_supplied": 0,
        "judged": None,
        "routes": [],
    }
    gates = Gates(structure=None, errors=None, flips=None, p99_ratio=None)
    return next((check.result for check in checks_of(shadow, gates) if check.name == name), None)


def numbers(count: int = 4000, seed: int = 1) -> list[float]:
    source = random.Random(seed)
    return [source.gauss(50, 10) for _ in range(count)]


LOST: dict[str, Any] = {
    "null": {"p": None},
    "absent": {},
    "another type": {"p": "12.5"},
    "NaN": {"p": float("nan")},
    "infinite": {"p": float("inf")},
    "empty": {"p": []},
    "failed": FAILED,
}


@pytest.mark.parametrize("word", LOST)
@pytest.mark.parametrize("share", [0.03, 0.1, 0.3])
def test_an_answer_that_is_not_there_is_lost_and_disagrees(word: str, share: float) -> None:
    source = random.Random(2)
    pairs = [({"p": p}, LOST[word] if source.random() < share else {"p": p}) for p in numbers()]
    lost = sum(shadow is LOST[word] for _, shadow in pairs)
    found = figures(pairs)
    assert (found["answered"]["n"], found["answered"]["lost"], found["pairs"]) == (4000, lost, 4000)
    assert found["answered"]["missing"] == {word: lost}
    assert found["agreement"]["value"] == 1 - lost / 4000
    assert found["anytime"][1] < 1
    assert result("answered", found) is Result.FAIL


def test_answers_lost_and_gained_in_equal_number_are_no_net_loss() -> None:
    source = random.Random(3)
    pairs = [
        ({"p": p if source.random() < 0.9 else None}, {"p": p if source.random() < 0.9 else None}) for p in numbers()
    ]
    found = figures(pairs)["answered"]
    assert found["lost"] > 300
    assert found["gained"] > 300
    assert found["anytime"][0] < 0 < found["anytime"][1]


def test_no_loss_seen_has_the_design_effect_of_agreement() -> None:
    twin = [({"p": p}, {"p": p}) for p in numbers()]
    # Whole blocks of time agree or do not: the requests are worth few.
    alike = [({"p": p}, {"p": p + (n // 100 % 2)}) for n, p in enumerate(numbers())]
    surely, hardly = figures(twin)["answered"], figures(alike)["answered"]
    assert surely["lost"] == hardly["lost"] == 0
    assert surely["anytime"][0] > -0.005 > hardly["anytime"][0]


def test_rows_of_a_batch_and_answers_are_counted_apart() -> None:
    source = random.Random(4)
    pairs = [({"predictions": (row := [source.choice("ab") for _ in range(3)])}, {"predictions": row[:2]})] * 100
    found = figures(pairs)
    assert (found["unit"], found["pairs"], found["answered"]["lost"]) == ("rows", 300, 100)
    assert found["answered"]["missing"] == {"fewer rows": 100}
    assert found["unequal_batches"] == 100
    answers = figures([({"labels": row["predictions"]}, {"labels": other["predictions"]}) for row, other in pairs])
    assert (answers["pairs"], answers["answered"]["lost"]) == (100, 100)


# --- range and drift -----------------------------------------------------------------------------------------------


def test_a_thousandfold_at_one_in_a_hundred_fails_range_and_hardly_moves_the_distance() -> None:
    pairs = [({"p": p}, {"p": p * 1000 if n % 100 == 0 else p}) for n, p in enumerate(numbers())]
    found = figures(pairs)
    assert found["range"]["outside"] == 40
    assert found["range"]["largest"] > 20_000
    assert not found["range"]["given"]
    assert result("range", found) is Result.FAIL
    assert found["drift"]["jensen_shannon"]["value"] < 0.1


def test_a_range_that_is_given_holds_instead_of_lives() -> None:
    pairs = [({"p": p}, {"p": p}) for p in numbers()]
    found = figures(pairs, bounds=(30.0, 50.0))["range"]
    assert (found["low"], found["high"], found["given"]) == (30.0, 50.0, True)
    assert found["outside"] == pytest.approx(sum(not 30 <= p <= 50 for p in numbers()), abs=40)
    assert figures(pairs, bounds=(-1e3, 1e3))["range"]["outside"] == 0
    assert figures([({"label": "a"}, {"label": "b"})] * 9, bounds=(0.0, 1.0))["range"] is None


def test_a_live_that_never_varies_beside_a_scale_has_no_distance_and_says_why() -> None:
    found = figures([({"p": 0.5}, {"p": p / 100}) for p in numbers()])
    assert found["drift"]["jensen_shannon"] is None
    assert found["drift"]["why"] == "live has one value only, the shadow a continuous scale"
    assert result("drift", found) is Result.NO_DATA
    assert result("range", found) is Result.PASS
    wild = figures([({"p": 0.5}, {"p": p * 20 if n % 20 == 0 else 0.5}) for n, p in enumerate(numbers())])
    assert result("range", wild) is Result.FAIL


def test_the_cells_of_the_drift_go_with_it() -> None:
    found = figures([({"p": p}, {"p": p + 20}) for p in numbers()])["drift"]
    assert found["jensen_shannon"]["low"] > 0.3
    assert found["cells"] <= 24
    assert found["effective"] == 4000
    classes = figures([({"label": "ab"[n % 2]}, {"label": "a"}) for n in range(200)])["drift"]
    assert classes["cells"] == 2
    assert classes["jensen_shannon"]["value"] > 0.3


def test_temperatures_have_a_deviation_though_they_are_far_from_zero() -> None:
    source = random.Random(5)
    kelvin = [source.uniform(290, 300) for _ in range(4000)]
    found = figures([({"t": t}, {"t": 295.0}) for t in kelvin])
    assert found["live"]["deviation"] == pytest.approx(2.887, abs=0.05)
    assert found["shadow"]["deviation"] == 0
    assert found["collapse"] == "its numbers hardly vary: their spread is under 1 % of live's"
    narrow = figures([({"t": t}, {"t": 295 + (t - 295) / 20}) for t in kelvin])
    assert narrow["collapse"] is None
    assert narrow["shadow"]["deviation"] == pytest.approx(0.1443, rel=0.02)


# --- collapse ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", KINDS)
def test_one_answer_to_everything_has_collapsed_whatever_it_is(kind: str) -> None:
    source = random.Random(6)
    lives = [KINDS[kind](source) for _ in range(300)]
    found = figures([(live, lives[0]) for live in lives])
    assert found["kind"] == kind
    assert found["collapse"]
    assert figures([(live, live) for live in lives])["collapse"] is None


def test_nearly_all_the_same_number_with_a_few_wild_ones_has_collapsed_too() -> None:
    found = figures([({"p": p}, {"p": 1e6 if n % 500 == 0 else 50.0}) for n, p in enumerate(numbers())])
    assert found["collapse"] == "it gives one and the same answer to 99.8% of all requests"


def test_a_refusal_to_everything_has_collapsed() -> None:
    source = random.Random(7)
    pairs = [({"reply": words(source)}, {"reply": "I am sorry, I cannot help with that."}) for _ in range(300)]
    found = figures(pairs)
    assert found["kind"] == "text"
    assert found["collapse"] == "it gives one and the same answer to 100.0% of all requests"


@pytest.mark.parametrize("says", [0, 1e6])
def test_what_an_answer_took_is_no_answer_unless_it_is_judged(says: float) -> None:
    source = random.Random(15)
    pairs = []
    for _ in range(400):
        text = words(source)
        live, shadow = ({"completion_tokens": each} for each in (len(text), says))
        pairs.append(({"answer": text, "usage": live}, {"answer": text, "usage": shadow}))
    reply, took = (output_figures(place) for place in answer_places(fold(pairs), len(pairs)))
    assert took["live_path"] == "/usage/completion_tokens"
    assert took["collapse"]
    assert result("collapse", took, reply) is Result.FAIL
    assert result("collapse", reply, took) is Result.PASS
    assert result("range", reply, took) in (None, Result.PASS)


def test_one_word_to_everything_has_collapsed_where_live_has_many() -> None:
    source = random.Random(14)
    pairs = [({"title": f"the {source.getrandbits(30)}"}, {"title": "the usual"}) for _ in range(1500)]
    found = figures(pairs)
    assert found["kind"] == "text"
    assert found["collapse"] == "it gives one and the same answer to 100.0% of all requests"


# --- kinds ---------------------------------------------------------------------------------------------------------


def test_embeddings_are_told_by_their_angle() -> None:
    source = random.Random(8)
    lives = [[1 + source.gauss(0, 1) for _ in range(64)] for _ in range(300)]
    twin = figures(
        [({"embedding": live}, {"embedding": [x + source.uniform(-1e-6, 1e-6) for x in live]}) for live in lives]
    )
    assert (twin["kind"], twin["agreement"]["value"]) == ("embedding", 1)
    assert twin["drift"]["jensen_shannon"]["value"] < 0.05
    turned = figures([({"embedding": live}, {"embedding": [-x for x in live]}) for live in lives])
    assert turned["angle"]["p50"] == pytest.approx(2, abs=1e-3)
    assert turned["drift"]["mean_angle"]["value"] == pytest.approx(2, abs=0.01)
    assert result("drift", turned) is not Result.PASS
    longer = figures([({"embedding": live}, {"embedding": [3 * x for x in live]}) for live in lives])
    assert longer["agreement"]["value"] == 1
    assert longer["drift"]["jensen_shannon"]["value"] == pytest.approx(1, abs=0.01)


def test_normalised_embeddings_have_norms_that_never_vary_and_no_drift_for_it() -> None:
    source = random.Random(9)

    def normalised() -> list[float]:
        values = [source.gauss(0, 1) for _ in range(64)]
        length = sum(value * value for value in values) ** 0.5
        return [value / length for value in values]

    lives = [normalised() for _ in range(300)]
    found = figures([({"embedding": live}, {"embedding": live}) for live in lives])
    assert found["drift"]["jensen_shannon"]["value"] == pytest.approx(0, abs=1e-6)
    assert found["drift"]["why"] is None


def test_numbers_of_a_pair_are_told_by_bias_limits_and_concordance() -> None:
    source = random.Random(10)
    found = figures([({"p": p}, {"p": p + source.gauss(1, 2)}) for p in numbers()])
    assert found["bias"]["value"] == pytest.approx(1, abs=0.1)
    assert found["limits"] == pytest.approx([1 - 3.92, 1 + 3.92], abs=0.3)
    assert found["median_delta"] == pytest.approx(1.5, abs=0.2)
    assert 0.9 < found["concordance"]["value"] < 1
    assert sum(row["count"] for row in found["delta_histogram"]) == 4000


# --- labels --------------------------------------------------------------------------------------------------------


def test_an_absent_answer_is_a_wrong_one_and_coverage_is_of_all_that_live_answered() -> None:
    source = random.Random(11)
    truths = [source.choice("ab") for _ in range(400)]
    pairs = [({"label": truth}, {"label": truth} if n % 4 else {}) for n, truth in enumerate(truths)]
    found = figures(pairs, lambda n: (truths[n],) if n < 200 else ())["labels"]
    assert (found["labelled"], found["labelled_requests"], found["coverage"]) == (200, 200, 0.5)
    assert (found["live"]["value"], found["shadow"]["value"]) == (1.0, 0.75)
    assert (found["live_only"], found["shadow_only"]) == (50, 0)
    assert found["anytime"][1] < 0


def test_an_answer_of_another_type_is_wrong_though_it_says_the_label() -> None:
    found = figures([({"label": n % 3}, {"label": str(n % 3)}) for n in range(300)], lambda n: (str(n % 3),))["labels"]
    assert (found["live"]["value"], found["shadow"]["value"]) == (1.0, 0.0)


def test_numbers_are_held_to_the_truth_by_their_error() -> None:
    truths = [p + 2 for p in numbers()]
    found = figures([({"p": p}, {"p": p + 1}) for p in numbers()], lambda n: (truths[n],))["labels"]
    assert found["measure"] == "mean absolute error"
    assert found["live"]["value"] == pytest.approx(2)
    assert found["shadow"]["value"] == pytest.approx(1)
    assert found["shadow_only"] == 4000


def test_labels_of_rows_are_counted_row_by_row() -> None:
    pairs = [({"predictions": ["a", "b"]}, {"predictions": ["a", "a"]})] * 100
    found = figures(pairs, lambda n: ("a", "b") if n % 2 else ("a", None))["labels"]
    assert (found["labelled"], found["labelled_requests"]) == (150, 100)
    assert (found["live"]["value"], found["shadow"]["value"]) == (1.0, pytest.approx(100 / 150))


# --- any cut ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", KINDS)
def test_parts_of_a_log_in_any_order_give_the_figures_of_the_whole_digit_for_digit(kind: str) -> None:
    source = random.Random(12)
    pairs = [(KINDS[kind](source), KINDS[kind](source) if n % 3 else {}) for n in range(120)]
    whole = fold(pairs, lambda n: ("a",))
    parts = [fold(pairs, lambda n: ("a",), slice(at, None, 3)) for at in range(3)]
    total = OutputsByField()
    for at in (2, 0, 1):
        total.absorb(OutputsByField.from_json(json.loads(json.dumps(parts[at].to_json()))))
    one, other = ([output_figures(each) for each in answer_places(table, 120)] for table in (whole, total))
    assert json.dumps(one) == json.dumps(other)


# --- in the report -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", KINDS)
def test_every_kind_is_shown_in_every_form(kind: str) -> None:
    source = random.Random(13)
    made = []
    for number in range(80):
        live = KINDS[kind](source)
        made.append(record(number, answer(live), number, s=answer(live if number % 3 else KINDS[kind](source))))
    report = report_json(summarise(made, Reading(Rules())))
    assert report["shadows"]["s"]["outputs"][0]["kind"] == kind
    written = StringIO()
    print_figures(report, Console(file=written, width=120))
    assert f"({kind})" in written.getvalue()
    for form in (to_html(report), to_markdown(report), to_junit(report)):
        assert form
