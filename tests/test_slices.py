"""Disagreement by what was asked: which requests count where, and into which bin a number falls."""

import sys
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from shadowproxy.compare.slices import (
    MOST_SLICES,
    Met,
    Slices,
    count_met,
    digits_edges,
    digits_of,
    leaves,
    whole_edges,
)


def sliced(payload: Any, *differs: bool) -> Slices:
    slices = Slices()
    met: dict[Met, int] = {}
    count_met(met, "POST", "/p", payload, differs)
    slices.add(met)
    return slices


def test_a_single_value_counts_for_the_whole_exchange() -> None:
    slices = sliced({"country": "NL", "vip": True, "note": None}, False, True)
    assert {path: dict(part.values) for path, part in slices.items()} == {
        "@method": {"POST": {"n": 1, "differs": 1}},
        "@path": {"/p": {"n": 1, "differs": 1}},
        "/country": {"NL": {"n": 1, "differs": 1}},
        "/vip": {"true": {"n": 1, "differs": 1}},
        "/note": {"null": {"n": 1, "differs": 1}},
    }


def test_a_batch_counts_item_by_item() -> None:
    slices = sliced({"rows": [{"c": "a"}, {"c": "b"}, {"c": "b"}]}, False, True, False)
    assert dict(slices["/rows/*/c"].values) == {"a": {"n": 1, "differs": 0}, "b": {"n": 2, "differs": 1}}


def test_true_is_not_one_and_one_is_one_however_it_is_written() -> None:
    slices = sliced({"rows": [{"c": 1}, {"c": True}, {"c": 1.0}]}, False, False, True)
    assert dict(slices["/rows/*/c"].values) == {"true": {"n": 1, "differs": 0}}
    assert (dict(slices["/rows/*/c"].numbers), slices["/rows/*/c"].number_differs.total()) == ({digits_of(1): 2}, 1)


def test_what_came_often_counts_as_often() -> None:
    slices = sliced({"rows": [{"c": "a", "n": 7.5}] * 3}, True, True, False)
    assert dict(slices["/rows/*/c"].values) == {"a": {"n": 3, "differs": 2}}
    numbers = slices["/rows/*/n"]
    assert (numbers.numbers.total(), numbers.number_differs.total(), numbers.fractions["n"]) == (3, 2, 3)


def test_arrays_that_do_not_fit_the_answers_are_passed_over() -> None:
    assert set(sliced({"history": [1, 2, 3]}, True)) == {"@method", "@path"}


@given(st.floats(allow_nan=False, allow_infinity=False) | st.integers(-(10**6), 10**6))
def test_a_number_lies_within_its_bin(value: float) -> None:
    at = digits_of(value)
    assert at is not None
    if 1e-9 <= abs(value) < 1e15:
        low, high = digits_edges(at)
        assert low - abs(low) * 1e-9 <= value <= high + abs(high) * 1e-9
        assert digits_of(-value) == -at


def test_the_largest_float_has_a_bin() -> None:
    assert digits_of(sys.float_info.max) == digits_of(1e300) == digits_of(9.95e15)


@given(st.floats(-1e14, 1e14), st.floats(-1e14, 1e14))
def test_bins_sort_as_their_numbers_do(one: float, other: float) -> None:
    low, high = sorted((one, other))
    assert (digits_of(low) or 0) <= (digits_of(high) or 0)


@pytest.mark.parametrize("value", [-120, -99, -25, -10, -1, 0, 1, 9, 10, 25, 99, 100, 119, 4567])
def test_whole_numbers_of_up_to_two_digits_stay_themselves(value: int) -> None:
    at = digits_of(value)
    assert at is not None
    low, high = whole_edges(at)
    assert low <= value <= high
    if abs(value) < 100:
        assert low == high == value


@pytest.mark.parametrize("value", [float("nan"), float("inf"), 10**400])
def test_what_is_no_finite_number_has_no_bin(value: float) -> None:
    assert digits_of(value) is None


def test_a_hostile_request_is_looked_at_within_bounds() -> None:
    deep: Any = "x"
    for _ in range(5000):
        deep = [deep]
    assert leaves(deep) == {}
    assert len(leaves({f"k{n}": n for n in range(100_000)})) <= 64
    assert len(leaves({"k": list(range(100_000))})["/k/*"]) <= 1024
    slices = Slices()
    for number in range(100):
        met: dict[Met, int] = {}
        assert count_met(met, "POST", "/p", {f"k{number}-{n}": n for n in range(20)}, [False]) == 22
        slices.add(met)
    assert len(slices) == MOST_SLICES
    assert slices.cut
    assert {"@method", "@path"} <= set(slices)
