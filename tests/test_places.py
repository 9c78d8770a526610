"""Where in a payload an answer may be: the same for every part of a log, whatever else is in it."""

import random
from typing import Any

import pytest
from answers import FAILED, candidates, place_values
from hypothesis import given
from hypothesis import strategies as st

from shadowproxy.answers import unwrapped
from shadowproxy.answers.value import reshaped
from shadowproxy.compare.fold.outputs_builder import OutputsBuilder
from shadowproxy.compare.fold.places import (
    MOST_PLACES,
    extract,
    field_key,
    places_of,
    static_rank,
    values_at,
)
from shadowproxy.compare.fold.values import MISSING


@pytest.mark.parametrize(
    ("pointer", "values"),
    [
        ("", [{"a": [{"b": 1}, {"b": 2}, {}], "c": {"x": 5, "y": 6}}]),
        ("/a/*/b", [1, 2]),
        ("/a/1/b", [2]),
        ("/a/9/b", []),
        ("/a/²/b", []),
        ("/c/*", [5, 6]),
        ("/nowhere/x", []),
        ("/c/x/deeper", []),
    ],
)
def test_extracting_spreads_stars_and_leaves_out_what_is_absent(pointer: str, values: list[Any]) -> None:
    assert extract({"a": [{"b": 1}, {"b": 2}, {}], "c": {"x": 5, "y": 6}}, pointer) == values


@pytest.mark.parametrize(
    ("data", "shape", "made"),
    [
        ([1, 2, 3, 4, 5, 6], [2, 3], [[1, 2, 3], [4, 5, 6]]),
        ([1, 2, 3, 4], [1, 2, 2], [[[1, 2], [3, 4]]]),
        ([1, 2, 3], [3], [1, 2, 3]),
        ([1, 2, 3], [2, 2], [1, 2, 3]),
        ([1, 2], ["x", -1], [1, 2]),
        ([1, 2], None, [1, 2]),
        (5, [1, 1], 5),
    ],
)
def test_tensors_are_reshaped_where_the_shape_fits(data: Any, shape: Any, made: Any) -> None:
    assert reshaped(data, shape) == made


@pytest.mark.parametrize(
    ("payload", "places"),
    [
        ({"predictions": [1.5, 2.5]}, {"/predictions/*": [1.5, 2.5]}),
        ({"predictions": [[0.1, 0.9]]}, {"/predictions/*": [[0.1, 0.9]]}),
        ({"predictions": [0.25, 0.75]}, {"/predictions": [[0.25, 0.75]], "/predictions/*": [0.25, 0.75]}),
        ({"scores": {"cat": 0.5, "dog": 0.5}}, {"/scores": [{"cat": 0.5, "dog": 0.5}], "/scores/cat": [0.5]}),
        ({"tags": ["a", "b"]}, {"/tags": [["a", "b"]], "/tags/*": ["a", "b"]}),
        ({"predictions": ["a", "b"]}, {"/predictions/*": ["a", "b"]}),
        ({"embedding": [3.5] * 384}, {"/embedding": [[3.5] * 384]}),
        ({"prices": [3, 4, 5]}, {"/prices/*": [3, 4, 5]}),
        ([1, 2, 3], {"/*": [1, 2, 3]}),
        ("late", {"": ["late"]}),
        (None, {"": [None]}),
        ({"p": None}, {"/p": [None]}),
        ({"p": [], "q": {}}, {}),
    ],
)
def test_candidates_are_the_leaves_and_the_arrays_that_are_one_answer(payload: Any, places: dict[str, Any]) -> None:
    found = candidates(payload)
    assert {place: found[place] for place in places} == places


def test_two_numbers_side_by_side_are_no_probability_vector_by_chance() -> None:
    assert "" not in candidates({"prediction": 0.3, "confidence": 0.9})
    assert "/a" not in candidates({"a": {"prediction": 0.3, "confidence": 0.9}})
    assert "" not in candidates({"a": 0.3, "b": 0.3})
    assert "" in candidates({"a": 0.3, "b": 0.7})


def test_of_what_an_answer_is_made_of_nothing_is_looked_at_beside_it() -> None:
    payload = {"choices": [{"answer": "yes", "message": {"content": "yes"}, "finish_reason": "stop"}]}
    assert list(candidates(payload)) == ["/choices/*/answer", "/choices/*/finish_reason"]


def test_all_rows_of_a_large_batch_are_counted_though_only_some_are_looked_at() -> None:
    payload = {"predictions": [{"label": n, "score": n / 7} for n in range(1000)]}
    assert candidates(payload)["/predictions/*/label"] == list(range(1000))
    assert candidates({"predictions": list(range(5000))})["/predictions/*"] == list(range(5000))


def test_rows_stay_beside_each_other_where_one_of_them_lacks_a_member() -> None:
    rows = [{"label": "a", "score": 1}, {"label": "b", "score": 2}, {"label": "c", "score": 3}]
    lacking = [rows[0], {"score": 2}, rows[2]]
    found = {each.live_place: each for each in place_values({"predictions": rows}, {"predictions": lacking})}
    assert found["/predictions/*/label"].live == ["a", "b", "c"]
    assert found["/predictions/*/label"].shadow == ["a", MISSING, "c"]
    assert found["/predictions/*/score"].shadow == [1, 2, 3]
    assert values_at({"predictions": lacking}, "/predictions/*/label") == ["a", MISSING, "c"]
    assert values_at({"predictions": lacking}, "/predictions/*/other") == []
    assert extract({"predictions": lacking}, "/predictions/*/label") == ["a", "c"]
    assert OutputsBuilder().add(0, ["a", "b", "c"], ["a", MISSING, "c"]) == ["", "lost", ""]


def test_the_places_kept_of_a_wide_payload_are_the_best_of_all_and_never_the_first() -> None:
    names = [f"x{n}" for n in range(100)]
    random.Random(3).shuffle(names)
    payload = dict.fromkeys(names, 1) | {"prediction": 2}
    found = candidates(payload)
    assert len(found) == MOST_PLACES
    assert next(iter(found)) == "/prediction"
    assert list(found) == list(candidates(dict(sorted(payload.items()))))


def test_names_rank_answers_before_what_is_about_them() -> None:
    ordered = ["/choices/*/answer", "/predictions/*", "/prediction", "/amount", "/model_version"]
    ordered_again = sorted(sorted(ordered), key=static_rank)
    assert ordered_again == ordered


def test_a_look_has_what_both_say_at_a_place_and_nothing_where_one_says_nothing() -> None:
    (look,) = place_values({"p": 1}, {"p": 2})
    assert (look.live_place, look.live, look.shadow) == ("/p", [1], [2])
    assert places_of(look.key) == ("/p", "/p")
    assert [each.shadow for each in place_values({"p": 1}, {})] == [[]]
    assert [each.shadow for each in place_values({"p": 1}, FAILED)] == [None]
    assert [(each.live, each.shadow) for each in place_values({}, {"p": 1})] == [([], [1])]
    assert place_values({}, FAILED) == []


def test_an_array_that_is_an_answer_is_held_against_whatever_stands_there() -> None:
    shadows = [{"v": [0.1, 0.2]}, {"v": []}, {"v": None}]
    found = [
        {each.live_place: each.shadow for each in place_values({"v": [0.1, 0.9]}, shadow)}["/v"] for shadow in shadows
    ]
    assert found == [[[0.1, 0.2]], [[]], [None]]


def test_places_that_answer_each_other_are_looked_at_as_one_field() -> None:
    found = place_values({"prediction": 1}, {"output": {"value": 2}})
    across = [each for each in found if each.live_place != each.shadow_place]
    assert [(each.live_place, each.shadow_place, each.live, each.shadow) for each in across] == [
        ("/prediction", "/output/value", [1], [2])
    ]
    assert all(each.live_place == each.shadow_place for each in place_values({"p": 1}, {"p": 2, "prediction": 3}))


def test_what_only_the_shadow_says_does_not_push_out_what_live_answers() -> None:
    shadow = {"y": 1} | {f"prediction_{n}": n for n in range(40)}
    found = place_values({"y": 1}, shadow)
    assert ("/y", [1], [1]) in [(each.live_place, each.live, each.shadow) for each in found]
    assert len(found) <= 10


def test_named_fields_alone_are_looked_at_in_their_order() -> None:
    found = place_values({"a": 1, "b": 2}, {"c": 3}, (("/b", "/c"), ("/a", "/a")))
    assert [(each.key, each.live, each.shadow) for each in found] == [
        (field_key("/b", "/c"), [2], [3]),
        (field_key("/a", "/a"), [1], []),
    ]
    assert [each.shadow for each in place_values({"b": 2}, FAILED, (("/b", "/c"),))] == [None]


json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=5) | st.dictionaries(st.text(max_size=4), inner, max_size=5),
    max_leaves=40,
)


@given(json_values, json_values)
def test_any_two_payloads_can_be_looked_at_and_again_the_same(live: Any, shadow: Any) -> None:
    found = place_values(unwrapped(live), unwrapped(shadow))
    assert repr(found) == repr(place_values(unwrapped(live), unwrapped(shadow)))
    assert len({each.key for each in found}) == len(found)
