"""What one field says, pair by pair: how each kind is measured, and what is no value of its kind."""

import math
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from shadowproxy.compare.fields import Kind
from shadowproxy.compare.outputs import (
    MILLION,
    Outputs,
    as_kind,
    class_key,
    number_of,
    overlap,
    rank_biased_overlap,
    same_class,
    token_f1,
    unlike,
    words_of,
)
from shadowproxy.compare.rules import Tolerance


def counted(kind: Kind, *pairs: tuple[Any, Any], label: Any = None, tolerance: Tolerance | None = None) -> Outputs:
    outputs = Outputs()
    for live, shadow in pairs:
        outputs.add(0, kind, [live], [shadow], tolerance, label)
    return outputs


def score(outputs: Outputs, name: str) -> float:
    return outputs.scores[name][0] / outputs.scores[f"{name}, pairs"][0] / MILLION


@pytest.mark.parametrize(
    ("kind", "value", "word"),
    [
        ("class", "a", "value"),
        ("class", None, "null"),
        ("class", math.nan, "NaN"),
        ("class", ["a"], "another type"),
        ("number", 3, "value"),
        ("number", True, "another type"),
        ("number", "3", "another type"),
        ("number", math.inf, "infinite"),
        ("number", 10**400, "infinite"),
        ("vector", [0.5, 0.5], "value"),
        ("vector", [0.5, math.nan], "NaN"),
        ("vector", [0.5, 0.9], "another type"),
        ("ranking", [{"id": 1}, {"id": 2}], "value"),
        ("ranking", [], "another type"),
        ("text", "a", "value"),
        ("text", 3, "another type"),
    ],
)
def test_what_is_no_value_of_its_kind_is_called_what_it_is(kind: Kind, value: Any, word: str) -> None:
    made, said = as_kind(kind, value)
    assert said == word
    assert (made is None) == (word != "value")


def test_batches_are_paired_in_order_and_only_when_equally_long() -> None:
    outputs = Outputs()
    assert outputs.add(0, "class", ["a", "b", "c"], ["a", "x", "c"], None, None) == [False, True, False]
    assert outputs.add(0, "class", ["a"], ["a", "b"], None, None) is None
    assert (outputs.pairs[0], outputs.same[0], outputs.unequal_batches[0]) == (3, 2, 1)
    assert sum(series[0] for series in outputs.shadow_classes.values()) == 5


def test_a_value_beside_none_differs_and_is_no_pair() -> None:
    outputs = Outputs()
    assert outputs.add(0, "number", [1.0, None], [None, None], None, None) == [True, False]
    assert outputs.pairs[0] == 0


@pytest.mark.parametrize(
    ("live", "shadow", "tolerance", "same"),
    [(1.0, 1.0 + 1e-9, None, 1), (1.0, 1.1, None, 0), (1.0, 1.1, Tolerance(0.2, 0), 1), (1, 2, Tolerance(0.2, 0), 0)],
)
def test_numbers_are_equal_within_the_tolerance(live: float, shadow: float, tolerance: Tolerance, same: int) -> None:
    assert counted("number", (live, shadow), tolerance=tolerance).same[0] == same


def test_probabilities_on_different_sides_of_one_half_are_flips() -> None:
    outputs = counted("number", (0.4, 0.6), (0.6, 0.7), (0.5, 0.49), (3.0, 0.1))
    assert (outputs.probabilities[0], outputs.flips[0]) == (3, 2)


def test_texts_are_measured_by_their_words() -> None:
    assert words_of("It's 3 o'clock, é!") == ["it", "s", "3", "o", "clock", "é"]
    outputs = counted("text", ("The cat sat.", "the cat sat"), ("a b c d", "a b x y"), ('{"a": 1}', '{"a": '))
    assert outputs.same[0] == 1
    assert score(outputs, "exact") == 0
    assert score(outputs, "token F1") == pytest.approx((1 + 0.5 + 2 / 3) / 3, abs=1e-6)
    assert score(outputs, "valid JSON in live") == 1
    assert score(outputs, "valid JSON in shadow") == 0


@pytest.mark.parametrize(
    ("one", "other", "f1"),
    [(["a"], ["a"], 1), (["a"], ["b"], 0), ([], [], 1), ([], ["a"], 0), (["a", "a"], ["a"], 2 / 3)],
)
def test_token_f1_counts_words_as_often_as_they_come(one: list[str], other: list[str], f1: float) -> None:
    assert token_f1(one, other) == pytest.approx(f1)


def test_rank_biased_overlap_has_its_known_values() -> None:
    # W. Webber and others (2010): with everything in common it is 1, with nothing 0, and it weighs the top most.
    items = list("abcdefghij")
    assert rank_biased_overlap(items, items) == pytest.approx(1)
    assert rank_biased_overlap(items, list("qrstuvwxyz")) == 0
    top, bottom = ["b", "a", *items[2:]], [*items[:8], "j", "i"]
    assert rank_biased_overlap(items, top) < rank_biased_overlap(items, bottom) < 1
    # Equation 32 by hand for <a, b> and <b, a> at p = .9: 0.1/0.9 * (1 * .81) + 1 * .81 = 0.9
    assert rank_biased_overlap(["a", "b"], ["b", "a"]) == pytest.approx(0.9)


@given(st.permutations(list("abcdef")), st.integers(1, 6), st.integers(1, 6))
def test_rank_biased_overlap_is_a_share_and_the_same_from_both_sides(order: list[str], n: int, m: int) -> None:
    one, other = list("abcdef")[:n], order[:m]
    assert 0 <= rank_biased_overlap(one, other) <= 1
    assert rank_biased_overlap(one, other) == pytest.approx(rank_biased_overlap(other, one))
    assert rank_biased_overlap(one, one) == pytest.approx(1)
    assert overlap(one, other, 10) == overlap(other, one, 10)


@pytest.mark.parametrize(
    ("value", "label", "right"),
    [
        ("a", "a", True),
        ("A ", "a", True),
        (True, "true", True),
        (True, "1", True),
        (False, "no", True),
        (True, False, False),
        (3, "3.0", True),
        (3.5, "3.5", True),
        ("3", 3, True),
        ("a", "b", False),
    ],
)
def test_labels_from_a_file_fit_the_answers_they_are_for(value: Any, label: Any, right: bool) -> None:
    assert same_class(value, label) == right


def test_a_label_that_is_no_number_is_none_for_numbers() -> None:
    assert (number_of("2.5"), number_of("n/a"), number_of("inf"), number_of(10**400)) == (2.5, None, None, None)
    assert counted("number", (1.0, 2.0), label="n/a").labelled.total() == 0


def test_who_was_nearer_is_counted_for_numbers() -> None:
    outputs = counted("number", (1.0, 3.0), (2.0, 2.0), (5.0, 2.5), label=2)
    assert (outputs.labelled[0], outputs.live_only[0], outputs.shadow_only[0]) == (3, 0, 1)


@pytest.mark.parametrize(
    ("kind", "live", "shadow", "label"),
    [
        ("vector", {"cat": 0.9, "dog": 0.2}, {"cat": 0.1, "dog": 0.2}, "cat"),
        ("ranking", [{"id": 1}, {"id": 2}], [{"id": 2}, {"id": 1}], "1"),
        ("class", 1, 2, "1"),
    ],
)
def test_the_first_of_a_vector_or_ranking_is_held_to_the_label(kind: Kind, live: Any, shadow: Any, label: Any) -> None:
    outputs = counted(kind, (live, shadow), label=label)
    assert (outputs.live_right[0], outputs.shadow_right[0], outputs.live_only[0]) == (1, 0, 1)


def test_classes_are_told_apart_by_type_but_not_by_how_a_number_is_written() -> None:
    assert class_key(1) == class_key(1.0) == "1"
    assert len({class_key(1), class_key("1"), class_key(True), class_key(None)}) == 4
    assert len(class_key("x" * 1000)) < 110


values = (
    st.none() | st.booleans() | st.integers(-3, 3) | st.integers() | st.floats() | st.sampled_from([0.25, 0.5, 2.0**60])
)
texts = st.sampled_from(["a", "b", "1", "x" * 99 + "y", "x" * 99 + "z", "\n" * 90 + "a", "\n" * 90 + "b"])


@given(
    st.sampled_from(["number", "class"]),
    st.lists(st.tuples(st.integers(0, 3), st.lists(st.tuples(values | texts, values | texts), max_size=4))),
    st.sampled_from([None, Tolerance(0.3, 0)]),
)
def test_what_is_met_and_settled_is_what_is_added_one_by_one(
    kind: Kind, exchanges: list[tuple[int, list[tuple[Any, Any]]]], tolerance: Tolerance | None
) -> None:
    met, added = Outputs(), Outputs()
    for block, pairs in exchanges * 2:
        live, shadow = [one for one, _ in pairs], [other for _, other in pairs]
        met.meet(block, kind, live, shadow, tolerance)
        assert unlike(kind, live, shadow, tolerance) == added.add(block, kind, live, shadow, tolerance, None)
    assert met.to_json() == added.to_json()


def test_a_long_text_does_not_wait_to_be_counted() -> None:
    outputs = Outputs()
    outputs.meet(0, "class", ["a" * 90], ["b"], None)
    assert outputs.pairs == {}
    outputs.meet(0, "class", ["a" * 101], ["b"], None)
    assert outputs.pairs == {0: 2}


def test_what_waits_to_be_counted_is_counted_before_it_is_merged_or_widened() -> None:
    def met() -> Outputs:
        outputs = Outputs()
        outputs.meet(3, "class", ["a", "a"], ["a", "b"], None)
        return outputs

    assert met().merged(met()).pairs == {3: 4}
    assert met().widened().pairs == {1: 2}
