"""One value: its form, what it is the same as, and how like another it is."""

import math
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from shadowproxy.compare.fold.values import (
    LONG_TEXT,
    class_key,
    cosine,
    form_of,
    number_of,
    overlap,
    plain,
    rank_biased_overlap,
    ranking_of,
    token_f1,
    vector_of,
    words_of,
)


@pytest.mark.parametrize(
    ("value", "form"),
    [
        (None, "null"),
        ("", "empty"),
        (" \n", "empty"),
        ([], "empty"),
        ({}, "empty"),
        (math.nan, "NaN"),
        (math.inf, "infinite"),
        (10**400, "infinite"),
        (True, "boolean"),
        (3, "whole"),
        (3.0, "whole"),
        (2**70, "whole"),
        (2.5, "real"),
        ("late", "text"),
        ("x" * 5000, "text"),
        ("cmpl-8a7b6c5d", "token"),
        ("123e4567-e89b-12d3-a456-426614174000", "volatile"),
        ("2026-01-31T12:00:00Z", "volatile"),
        ([0.5, 0.5], "vector"),
        ([-1e-7, 1.0000001], "vector"),
        ([-1e-5, 1.00001], "numbers"),
        ({"a": 0.5, "b": 0.9}, "vector"),
        ([0.5, 0.9], "numbers"),
        ([0.5, math.nan], "NaN"),
        ([1e308, 1e308], "infinite"),
        ([{"id": 1}, {"id": 2}], "ranking"),
        ([{"id": 1}], "ranking"),
        (["a", "b"], "ranking"),
        (["a", "a"], "other"),
        ([{"x": 1}], "other"),
        ({"x": 1}, "other"),
        ([True, False], "other"),
    ],
)
def test_every_value_has_a_form(value: Any, form: str) -> None:
    assert form_of(value) == form


@pytest.mark.parametrize(
    ("value", "is_vector"),
    [
        ([0.1, 0.9], True),
        ([0, 1], True),
        ([0.5, 0.6], False),
        ([1.0], False),
        ([0.1, "x"], False),
        ([True, False], False),
        ({"a": 0.9, "b": 0.8}, True),
        ({"a": 0, "b": 1}, False),
        ({"a": 0.9, "b": 3.0}, False),
        ({"prediction": 0.9, "confidence": 0.8}, False),
        ({"class_0": 0.25, "class_1": 0.75}, True),
        ("ab", False),
    ],
)
def test_probability_vectors_are_known(value: Any, is_vector: bool) -> None:
    assert (vector_of(value) is not None) == is_vector


def test_rankings_carry_each_id_once() -> None:
    assert ranking_of([{"id": 3}, {"id": 1}]) == ["3", "1"]
    assert ranking_of(["b", "a"]) == ["b", "a"]
    assert ranking_of([{"id": 3}, {"id": 3}]) is None
    assert ranking_of([{"x": 3}, {"x": 1}]) is None
    assert ranking_of([{"id": 3}, 4]) is None
    assert ranking_of([]) is None


def test_classes_are_told_apart_by_type_but_not_by_how_a_number_is_written() -> None:
    assert class_key(1) == class_key(1.0) == "1"
    assert len({class_key(1), class_key("1"), class_key(True), class_key(None)}) == 4
    assert class_key("x" * 1000) == class_key("y" * 101) == LONG_TEXT
    assert class_key(LONG_TEXT) != LONG_TEXT
    assert len(class_key(10**300)) < 110


def test_texts_are_compared_by_their_words() -> None:
    assert words_of("It's 3 o'clock, é!") == ["it", "s", "3", "o", "clock", "é"]


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


def test_the_cosine_is_that_of_the_angle_and_of_no_angle_none() -> None:
    assert cosine([1, 0], [1, 1]) == pytest.approx(math.sqrt(0.5))
    assert cosine([1, 2], [-1, -2]) == pytest.approx(-1)
    assert cosine([0, 0], [1, 1]) is None
    assert cosine([1], [1, 1]) is None
    assert cosine([1e300, 1], [1e300, 1]) is None


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
    assert (plain(value) == plain(label)) == right


def test_what_is_no_finite_number_is_none() -> None:
    assert [number_of(each) for each in ("2.5", "n/a", "inf", 10**400, None)] == [2.5, None, None, None, None]
