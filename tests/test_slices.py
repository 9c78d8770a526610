"""Disagreement by what was asked: which requests count where, and into which bin a number falls."""

import random
import sys
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from shadowproxy.compare.fold.places import field_key
from shadowproxy.compare.fold.slices import (
    GONE,
    MOST_MARKS,
    MOST_SLICES,
    Cell,
    Fields,
    Observations,
    Slice,
    Slices,
    digits_edges,
    digits_of,
    leaves,
    mark_at,
    whole_edges,
)

DIFFERS = mark_at("differs", field_key("/label", "/label"))


def sliced(payload: Any, marks: tuple[str, ...], rows: dict[int, list[tuple[str, ...]]] | None = None) -> Slices:
    slices = Slices()
    observed = Observations()
    observed.add(Fields(leaves(payload)), marks, rows or {})
    slices.add(observed)
    return slices


def test_a_single_value_counts_for_the_whole_exchange() -> None:
    slices = sliced({"country": "NL", "vip": True, "note": None}, (GONE, DIFFERS), {2: [(), (DIFFERS,)]})
    assert {path: dict(part.values) for path, part in slices.items()} == {
        "/country": {"NL": {"n": 1, GONE: 1, DIFFERS: 1}},
        "/vip": {"true": {"n": 1, GONE: 1, DIFFERS: 1}},
        "/note": {"null": {"n": 1, GONE: 1, DIFFERS: 1}},
    }


def test_a_batch_counts_item_by_item() -> None:
    rows = {3: [(), (DIFFERS,), ()]}
    slices = sliced({"rows": [{"c": "a"}, {"c": "b"}, {"c": "b"}]}, (DIFFERS,), rows)
    assert dict(slices["/rows/*/c"].values) == {"a": {"n": 1}, "b": {"n": 2, DIFFERS: 1}}


def test_true_is_not_one_and_one_is_one_however_it_is_written() -> None:
    part = sliced({"rows": [{"c": 1}, {"c": True}, {"c": 1.0}]}, (), {3: [(), (), (DIFFERS,)]})["/rows/*/c"]
    assert dict(part.values) == {"true": {"n": 1}}
    assert {mark: dict(bins) for mark, bins in part.numbers.items()} == {
        "n": {digits_of(1): 2},
        DIFFERS: {digits_of(1): 1},
    }


def test_what_came_often_counts_as_often() -> None:
    slices = sliced({"rows": [{"c": "a", "n": 7.5}] * 3}, (), {3: [(DIFFERS,), (DIFFERS,), ()]})
    assert dict(slices["/rows/*/c"].values) == {"a": {"n": 3, DIFFERS: 2}}
    numbers = slices["/rows/*/n"]
    assert (numbers.numbers["n"].total(), numbers.numbers[DIFFERS].total(), numbers.fractions["n"]) == (3, 2, 3)


def test_arrays_that_do_not_fit_the_answers_are_passed_over() -> None:
    assert not sliced({"history": [1, 2, 3]}, (DIFFERS,), {2: [(), ()]})


def test_how_often_a_whole_number_came_is_known_where_it_is_counted_alone() -> None:
    part = Slice()
    for value in (7, 7, 1234, -5):
        part.add(value, ())
    assert [part.count_of_whole(text) for text in ("7", "-5", "8", "1234", "x", "7.5")] == [2, 1, 0, 0, 0, 0]
    part.add(7.5, ())
    assert part.count_of_whole("7") == 0


@given(st.lists(st.tuples(st.integers(0, 200), st.sampled_from(["differs", "lost"])), max_size=400), st.randoms())
def test_a_cell_keeps_the_marks_of_the_likeliest_places_in_any_order_and_grouping(
    marks: list[tuple[int, str]], source: random.Random
) -> None:
    def cell(some: list[tuple[int, str]]) -> Cell:
        part = Slice()
        for number, word in some:
            part.add("a", (GONE, mark_at(word, field_key(f"/f{number}", f"/f{number}"))))
        part.trim()
        return part.values["a"] if some else Cell()

    whole = cell(marks)
    shuffled = list(marks)
    source.shuffle(shuffled)
    at = len(shuffled) // 3
    one, other = cell(shuffled[:at]), cell(shuffled[at:])
    assert one.merged(other).to_json() == whole.to_json()
    one.absorb(other)
    assert one.to_json() == whole.to_json()
    assert len(whole) <= MOST_MARKS
    assert whole["n"] == whole[GONE] == len(marks)


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
        observed = Observations()
        asked = {"@path": ["/p"], "@method": ["GET"], **leaves({f"k{number}-{n}": n for n in range(20)})}
        assert observed.add(Fields(asked), (), {}) == 22
        slices.add(observed)
    assert len(slices) == MOST_SLICES
    assert slices.cut
    assert {"@method", "@path"} <= set(slices)
