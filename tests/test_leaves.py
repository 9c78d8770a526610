"""Leaves that JSON has no word for, and when two of them are equal."""

import json
import math
import struct
from array import array
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from shadowproxy.answers.embeddings import MOST, with_leaves
from shadowproxy.answers.leaves import (
    MOST_NESTED,
    Blob,
    Vector,
    angle,
    blob_of,
    embedding_of,
    flattened,
    in_shape,
    vector_from,
    width_of,
)
from shadowproxy.budget import Budget, Exhausted
from shadowproxy.compare.judge.diff import diff
from shadowproxy.compare.judge.differences import KEPT
from shadowproxy.compare.judge.rules import Rules, Tolerance

NAN = math.nan


def floats(*values: float, shape: tuple[int, ...] | None = None, dtype: str = "float32") -> Vector:
    return Vector(array("d" if dtype == "float64" else "f", values), dtype, shape)


def wholes(*values: int, dtype: str = "int64") -> Vector:
    return Vector(array("q", values), dtype)


def embedding(*values: float) -> Vector:
    return Vector(array("f", values), "float32", embedding=True)


def places(live: Any, shadow: Any, rules: Rules | None = None) -> list[tuple[str, str]]:
    return [(each.path, each.kind) for each in diff(live, shadow, rules or Rules()).listed()]


# --- reading


@pytest.mark.parametrize(
    ("raw", "dtype", "values"),
    [
        (b"\x01\x00\xff\xff", "int16", [1, -1]),
        (b"\x01\x00\xff\xff", "uint16", [1, 65535]),
        (b"\x01\x00", "bool", [True, False]),
        (struct.pack("<2d", 0.1, -math.inf), "float64", [0.1, -math.inf]),
        (struct.pack("<5e", 1.5, -0.25, 6e-8, 65504, math.inf), "float16", [1.5, -0.25, 2.0**-24, 65504, math.inf]),
        (b"\x80\x3f\x20\xc0", "bfloat16", [1.0, -2.5]),
        (b"", "float16", []),
    ],
)  # fmt: skip
def test_numbers_are_read_by_their_type(raw: bytes, dtype: str, values: list[Any]) -> None:
    found = vector_from(raw, dtype)
    assert (list(found), found.shape, found.dtype) == (values, (len(values),), dtype)
    swapped = b"".join(
        raw[at : at + width][::-1] for width in [width_of(dtype) or 1] for at in range(0, len(raw), width)
    )
    assert list(vector_from(swapped, dtype, big=True)) == values


@given(st.lists(st.floats(width=16), max_size=40))
def test_halves_are_exact(values: list[float]) -> None:
    found = list(vector_from(struct.pack(f"<{len(values)}e", *values), "float16"))
    assert all(one == other or (one != one and other != other) for one, other in zip(found, values, strict=True))


def test_a_line_says_type_shape_and_first_numbers() -> None:
    assert floats(0.1, 0.5, shape=(1, 2)).line() == "float32 [1, 2]: 0.1, 0.5"
    assert str(wholes(1, 2, 3, 4, 5)) == "int64 [5]: 1, 2, 3, 4, …"
    assert wholes().line() == "int64 [0]"
    assert repr(vector_from(b"\x01", "bool")) == "<Vector bool [1]: True>"
    assert blob_of(b"abc", "image/png").line() == "image/png, 3 bytes, SHA-256 ba7816bf8f01cfea…"
    assert str(blob_of(b"")).startswith("bytes, 0 bytes, SHA-256 e3b0c442")


def test_a_vector_is_nested_by_its_shape_up_to_a_size() -> None:
    assert floats(1, 2, 3, 4, 5, 6, shape=(1, 2, 3)).nested() == [[[1, 2, 3], [4, 5, 6]]]
    assert floats(shape=(0, 3)).nested() == []
    large = Vector(array("f", bytes(4 * (MOST_NESTED + 1))), "float32")
    assert large.nested() is large


def test_lists_are_flattened_where_they_have_the_shape() -> None:
    assert flattened([[1, 2], [3, 4]], (2, 2)) == [1, 2, 3, 4]
    assert flattened([[1, 2], [3]], (2, 2)) is None
    assert flattened([1, 2], (2, 2)) is None
    assert flattened([[1], [2]], (2,)) == [[1], [2]]
    assert in_shape([1, 2, 3], (2, 2)) == [1, 2, 3]


def test_an_embedding_is_a_list_of_nothing_but_numbers() -> None:
    found = embedding_of([1, 0.5])
    assert found is not None
    assert (found.embedding, list(found)) == (True, [1.0, 0.5])
    for other in ([], [True], [None], ["1"], [[1]], [10**400]):
        assert embedding_of(other) is None


def test_vectors_are_the_same_bit_for_bit() -> None:
    assert floats(NAN, 1) == floats(NAN, 1)
    assert hash(floats(1)) == hash(floats(1))
    assert floats(1) != floats(1, dtype="float64")
    assert floats(1, 2) != floats(1, 2, shape=(2, 1))
    assert floats(1) != [1.0]
    assert wholes() == wholes()


# --- comparing


@pytest.mark.parametrize(
    ("live", "shadow", "expected"),
    [
        (floats(1, 2, 3), floats(1, 2, 3), []),
        (floats(1, 2, 3), floats(1, 9, 3), [("/1", "value")]),
        (floats(1, 2, 3), floats(1, 2), [("", "length")]),
        (floats(1, 2, shape=(1, 2)), floats(1, 2, shape=(2, 1)), [("", "length")]),
        (floats(1, 2, shape=(1, 2)), floats(1, 2, shape=(1, 2, 1)), [("", "value")]),
        (floats(1, 2, 3, 4, shape=(2, 2)), floats(1, 2, 9, 4, shape=(2, 2)), [("/1/0", "value")]),
        (floats(1, NAN), floats(1, NAN), []),
        (floats(1, NAN), floats(1, NAN, dtype="float64"), []),
        (floats(1, NAN), floats(1, 2), [("/1", "value")]),
        (floats(math.inf), floats(1e38), [("/0", "value")]),
        (floats(0.1), floats(0.1, dtype="float64"), []),
        (floats(1.0), floats(1.000009), []),
        (floats(1.0), floats(1.00002), [("/0", "value")]),
        (floats(0, 1), floats(9e-7, 1), []),  # probabilities
        (floats(0, 5), floats(9e-7, 5), []),
        (floats(0, 5), floats(2e-6, 5), [("/0", "value")]),
        (floats(-0.01, 5), floats(-0.0100009, 5), [("/0", "value")]),  # no probability
        (floats(0, 1, 0, 1, shape=(2, 2)), floats(9e-7, 1, 0, 1, shape=(2, 2)), []),
        (floats(1.0, dtype="float16"), floats(1.0009765625, dtype="float16"), []),
        (floats(1.0, dtype="float16"), floats(1.0009), []),  # as near as float16 can come to it
        (floats(1.0, dtype="bfloat16"), floats(1.0078125), []),
        (floats(1.0, dtype="float16"), floats(1.002, dtype="float16"), [("/0", "value")]),
        (wholes(10**9), wholes(10**9 + 1), [("/0", "value")]),
        (wholes(1, 2), floats(1, 2), []),
        (floats(0.1, 0.2), [0.1, 0.2], []),
        ([0.1, 0.2], floats(0.1, 0.3), [("/1", "value")]),
        ([0, 1.5], floats(0, 1.5), []),
        ([0.1, None], floats(0.1, NAN), [("/1", "type")]),
        ([[1, 2], [3, 4]], floats(1, 2, 3, 4, shape=(2, 2)), []),
        ([[1, 2], [3, 5]], floats(1, 2, 3, 4, shape=(2, 2)), [("/1/1", "value")]),
        ([[1, 2], [3]], floats(1, 2, 3, 4, shape=(2, 2)), [("", "value")]),
        ([1, 2, 3], floats(1, 2), [("", "length")]),
        ([10**400], floats(1.0), [("/0", "value")]),
        ([True, False], vector_from(b"\x01\x00", "bool"), []),
        (vector_from(b"\x01\x00", "bool"), vector_from(b"\x01\x01", "bool"), [("/1", "value")]),
        (floats(1), None, [("", "type")]),
        ("a", floats(1), [("", "type")]),
        ({"a": floats(1)}, {}, [("/a", "missing")]),
        ({}, {"a": floats(1)}, [("/a", "extra")]),
        (blob_of(b"a"), blob_of(b"a"), []),
        (blob_of(b"a"), blob_of(b"b"), [("", "value")]),
        ({"a": blob_of(b"a")}, {"a": floats(1)}, [("/a", "type")]),
    ],
)
def test_where_two_leaves_differ(live: Any, shadow: Any, expected: list[tuple[str, str]]) -> None:
    assert places(live, shadow) == expected


@pytest.mark.parametrize(
    ("live", "shadow", "expected"),
    [
        (embedding(3, 4), embedding(6, 8), []),  # one direction, whatever the length
        (embedding(3, 4), [0.6, 0.8], []),
        ([3, 4], embedding(4, 3), [("", "value")]),
        (embedding(1, 0), embedding(1, 0.004), []),
        (embedding(1, 0), embedding(1, 0.005), [("", "value")]),
        (embedding(1, 0), embedding(1, 0, 0), [("", "length")]),
        (embedding(0, 0), embedding(0, 0), []),
        (embedding(0, 0), embedding(1, 0), [("", "value")]),
        (embedding(1, NAN), embedding(1, 2), [("", "value")]),
        (embedding(1, NAN), embedding(1, NAN), []),
        (embedding(1, 2), [1, None], [("", "value")]),
    ],
)
def test_an_embedding_is_one_value_with_a_direction(live: Any, shadow: Any, expected: list[tuple[str, str]]) -> None:
    assert places(live, shadow) == expected


def test_a_difference_of_embeddings_says_how_far_they_are_apart() -> None:
    (found,) = diff(embedding(1, 0), embedding(0, 1), Rules()).listed()
    assert (found.live, found.shadow) == ("float32 [2]: 1, 0", "float32 [2]: 0, 1 (1 - cosine = 1)")
    (nothing,) = diff(embedding(0, 0), embedding(0, 1), Rules()).listed()
    assert nothing.shadow == "float32 [2]: 0, 1 (no angle)"


def test_what_a_difference_shows_of_a_leaf_is_its_line() -> None:
    (found,) = diff({"a": blob_of(b"a", "image/png")}, {"a": floats(1)}, Rules()).listed()
    assert (found.live, found.shadow) == ("image/png, 1 bytes, SHA-256 ca978112ca1bbdca…", "float32 [1]: 1")
    (within,) = diff(None, {"a": [floats(1)]}, Rules()).listed()
    assert json.dumps(within.shadow) == '"object of 1"'


def test_rules_hold_for_vectors_and_their_elements() -> None:
    live, shadow = {"a": floats(1, 2), "b": floats(1, 2)}, {"a": floats(1.5, 2), "b": floats(1.5, 2)}
    assert places(live, shadow) == [("/a/0", "value"), ("/b/0", "value")]
    assert places(live, shadow, Rules(ignore=("/a",))) == [("/b/0", "value")]
    assert places(live, shadow, Rules(ignore=("/a/0",))) == [("/b/0", "value")]
    assert places(live, shadow, Rules(tolerance={"/a": 0.5})) == [("/b/0", "value")]
    assert places(live, shadow, Rules(tolerance={"/*/*": Tolerance(0, 0.5)})) == []
    assert places(live, shadow, Rules(tolerance={"/b": 1e-9})) == [("/a/0", "value"), ("/b/0", "value")]
    assert places(floats(1, 2), floats(2, 1), Rules(unordered=("",))) == []
    assert places([1, 2], floats(2, 1), Rules(unordered=("",))) == []
    assert places(floats(1, 2), floats(2, 3), Rules(unordered=("",))) == [("/0", "value")]
    assert places([floats(1), floats(2)], [floats(2), floats(1)], Rules(unordered=("",))) == []
    assert places([floats(1), floats(2)], [floats(2), floats(3)], Rules(unordered=("",))) == [("/0/0", "value")]


def test_a_rule_makes_an_embedding_compared_number_by_number() -> None:
    live, shadow = embedding(3, 4), embedding(6, 8)
    assert places(live, shadow, Rules(tolerance={"": 0.1})) == [("/0", "value"), ("/1", "value")]
    assert places(live, shadow, Rules(tolerance={"/*": 0.1})) == [("/0", "value"), ("/1", "value")]
    assert places(embedding(1, 0), embedding(0, 1), Rules(ignore=("",))) == []
    assert diff(embedding(1, 0), embedding(0, 1), Rules(ignore=("",))).ignored == 1


def test_numbers_equal_by_tolerance_alone_are_counted_at_their_place() -> None:
    assert diff(floats(1, 2, shape=(1, 2)), floats(1, 2.00001, shape=(1, 2)), Rules()).near == {"/*/*": 1}
    assert diff({"a": embedding(1, 2)}, {"a": embedding(1, 2.001)}, Rules()).near == {"/a": 1}


def test_differences_of_a_long_vector_are_counted_and_the_first_are_listed() -> None:
    count = 5000
    found = diff(Vector(array("f", bytes(4 * count)), "float32"), Vector(array("f", [1.0] * count), "float32"), Rules())
    assert (found.count, len(found.listed()), found.where) == (count, KEPT, {("/*", "value"): count})
    assert found.listed()[KEPT - 1].path == f"/{KEPT - 1}"


def test_a_vector_costs_steps() -> None:
    long = Vector(array("f", bytes(400_000)), "float32")
    with pytest.raises(Exhausted):
        diff(long, Vector(array("f", [1.0] * 100_000), "float32"), Rules(), Budget(steps=300_000))


# --- JSON in a text


@pytest.mark.parametrize(
    ("live", "shadow", "expected"),
    [
        ('{"a": 1, "b": 2}', '{ "b": 2, "a": 1 } ', []),  # llama.cpp and llama-cpp-python write arguments so
        ('{"a": 1}', '{"a": 2}', [("/t/a", "value")]),
        ('{"a": [1, {"b": 2}]}', '{"a": [1, {"b": 3}]}', [("/t/a/1/b", "value")]),
        ('{"a": 1}', '{"a": 1', [("/t", "value")]),
        ('{"a": 1}', "[1]", [("/t", "type")]),
        ("[1, 2]", "[1]", [("/t", "length")]),
        ("[1]", "[1.0000001]", []),
        ("1", "1.0", [("/t", "value")]),  # a text, such as a version
        ('"a"', ' "a"', [("/t", "value")]),
        ('{"a": "{\\"b\\": 1}"}', '{"a": "{\\"b\\":2}"}', [("/t/a/b", "value")]),
        ("{" * 2000, "{" * 2001, [("/t", "value")]),
    ],
)
def test_json_in_two_texts_is_compared_as_what_it_says(live: str, shadow: str, expected: list[tuple[str, str]]) -> None:
    assert places({"t": live}, {"t": shadow}) == expected


def test_rules_reach_into_json_in_a_text() -> None:
    live, shadow = {"t": '{"id": "x", "n": [1, 2]}'}, {"t": '{"id": "y", "n": [2, 1]}'}
    assert places(live, shadow, Rules(ignore=("/t/id",), unordered=("/t/n",))) == []
    assert places(live, shadow, Rules(ignore=("/t",))) == []


# --- any


numbers = st.one_of(st.integers(-5, 5), st.floats(), st.sampled_from([0.1, 0.10000000149011612, 10**400, True, None]))
lists: st.SearchStrategy[Any] = st.recursive(numbers, lambda below: st.lists(below, max_size=4), max_leaves=12)


@st.composite
def vectors(draw: st.DrawFn) -> Vector:
    dtype = draw(st.sampled_from(["bool", "int8", "uint64", "float16", "bfloat16", "float32", "float64"]))
    shape = draw(st.lists(st.integers(0, 3), min_size=1, max_size=3))
    raw = draw(st.binary(min_size=(size := math.prod(shape) * (width_of(dtype) or 0)), max_size=size))
    return vector_from(raw, dtype, tuple(shape), embedding=draw(st.booleans()))


rules = st.sampled_from([Rules(), Rules(unordered=("/**",)), Rules(ignore=("/0",)), Rules(tolerance={"/*": 1.0})])


@given(lists | vectors(), lists | vectors(), rules)
def test_any_two_are_compared_without_an_error_and_either_way(one: Any, other: Any, by: Rules) -> None:
    found, back = diff(one, other, by), diff(other, one, by)
    assert bool(found.count) == bool(back.count)
    json.dumps([[each.path, each.live, each.shadow] for each in found.listed()], allow_nan=False)


@given(vectors())
def test_any_vector_is_equal_to_itself_and_to_its_lists(one: Vector) -> None:
    again = Vector(one.numbers[:], one.dtype, one.shape, embedding=one.embedding)
    assert diff(one, again, Rules()).count == 0
    if not one.embedding:
        assert diff(one, one.nested(), Rules()).count == 0 or 0 in one.shape
    repr(one)


def test_an_angle_is_none_where_there_is_none() -> None:
    assert angle([1e200, 1.0], [1e200, 1.0]) is None
    assert angle([10**400], [1]) is None
    assert angle([0], [1]) is None
    assert angle([0.0], [0.0]) == 0.0


def test_a_blob_says_nothing_about_its_bytes_but_size_and_hash() -> None:
    assert blob_of(b"a", "x/y") == Blob(1, "ca978112ca1bbdcafac231b39a23dc4da786eff8147c4e72b9807785afee48bb", "x/y")


@pytest.mark.parametrize(
    "more",
    [
        lambda one, count: {"embeddings": [one] * count},
        lambda one, count: {"embeddings": [[one] * 2] * (count // 2)},
        lambda one, count: {"embeddings": {"float": [one] * count}},
        lambda one, count: {"data": [{"embedding": one}] * count},
        lambda one, count: {"data": [{"embedding": "AAAAAAAAgD8="}] * count},
        lambda one, count: {"data": [{"embedding": [one] * count}]},
    ],
)
def test_embeddings_without_number_stay_as_they_were_sent(more: Any) -> None:
    value = more([0.5, 0.25], MOST + 2)
    assert with_leaves(value) is value
    few = more([0.5, 0.25], 20)
    assert with_leaves(few) is not few
