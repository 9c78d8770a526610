"""Two JSON values to the places where they differ."""

import copy
import json
import time
from typing import Any

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st

from shadowproxy.compare.fold.likeness import close
from shadowproxy.compare.fold.values import number_of
from shadowproxy.compare.judge.diff import diff
from shadowproxy.compare.judge.differences import KEPT, PLACES
from shadowproxy.compare.judge.rules import Rules, Tolerance
from shadowproxy.pointers import pointer_segments, pointer_token

NAN = float("nan")
INF = float("inf")

json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5),
    lambda children: st.lists(children, max_size=4) | st.dictionaries(st.text(max_size=3), children, max_size=4),
    max_leaves=20,
)


def places(live: Any, shadow: Any, rules: Rules | None = None) -> list[tuple[str, str]]:
    return [(each.path, each.kind) for each in diff(live, shadow, rules or Rules()).listed()]


@pytest.mark.parametrize(
    ("live", "shadow", "expected"),
    [
        ({"a": 1, "b": 2}, {"b": 2, "a": 1}, []),
        ([1, 2], [2, 1], [("/0", "value"), ("/1", "value")]),
        ([1, 2], [1], [("", "length")]),
        ({"a": [1, 2, 3]}, {"a": [9, 9]}, [("/a", "length")]),
        ({"a": 1}, {}, [("/a", "missing")]),
        ({}, {"a": None}, [("/a", "extra")]),
        ({"a": None}, {}, [("/a", "missing")]),
        ({"a": 1}, {"a": "1"}, [("/a", "type")]),
        ({"a": 1}, {"a": True}, [("/a", "type")]),
        ({"a": 0}, {"a": False}, [("/a", "type")]),
        ({"a": {}}, {"a": []}, [("/a", "type")]),
        ({"a": None}, {"a": {}}, [("/a", "type")]),
        (1, 1.0, []),
        (NAN, NAN, []),
        (NAN, 1.0, [("", "value")]),
        (INF, INF, []),
        (INF, -INF, [("", "value")]),
        (INF, 1e308, [("", "value")]),
        (1e308, -1e308, [("", "value")]),
        (0.1 + 0.2, 0.3, []),
        ({"a": 1.0}, {"a": 1.0 + 9e-7}, []),
        ({"a": 1.0}, {"a": 1.0 + 2e-6}, [("/a", "value")]),
        ({"a": 0.0}, {"a": 9e-10}, []),
        ({"a": 0.0}, {"a": 2e-9}, [("/a", "value")]),
        (10_000_001, 10_000_002, [("", "value")]),  # integers are keys as often as amounts
        (10_000_001, 10_000_002.0, []),
        (10**400, 1.0, [("", "value")]),
        (10**400, 10**400, []),
        (10**400, 10**400 + 1, [("", "value")]),
        ("a", "b", [("", "value")]),
        ({"a/b": {"c~d": 1}}, {"a/b": {"c~d": 2}}, [("/a~1b/c~0d", "value")]),
        ({"": 1}, {"": 2}, [("/", "value")]),
        ("", 0, [("", "type")]),
    ],
)
def test_equality_is_as_the_rules_say(live: Any, shadow: Any, expected: list[tuple[str, str]]) -> None:
    assert places(live, shadow) == expected


@pytest.mark.parametrize(
    ("ignore", "expected"),
    [
        (["/id"], ["/items/0/id", "/items/1/id", "/items/1/score"]),
        (["/items/*/id"], ["/id", "/items/1/score"]),
        (["/items/0/id"], ["/id", "/items/1/id", "/items/1/score"]),
        (["/**/id"], ["/items/1/score"]),
        (["/items/**"], ["/id"]),
        (["/items"], ["/id"]),
        (["/*"], []),
        (["**"], None),
        ([""], []),
        (["/items/*"], ["/id"]),
        (["/nowhere"], ["/id", "/items/0/id", "/items/1/id", "/items/1/score"]),
    ],
)
def test_ignored_places_are_not_told_of(ignore: list[str], expected: list[str] | None) -> None:
    live = {"id": "a", "items": [{"id": 1, "score": 1}, {"id": 2, "score": 2}]}
    shadow = {"id": "b", "items": [{"id": 3, "score": 1}, {"id": 4, "score": 3}]}
    if expected is None:
        with pytest.raises(ValueError, match="not a JSON pointer"):
            Rules(ignore=tuple(ignore))
        return
    found = diff(live, shadow, Rules(ignore=tuple(ignore)))
    assert [each.path for each in found.listed()] == expected
    assert bool(found.ignored) == (len(expected) < 4)


def test_a_missing_member_at_an_ignored_place_is_ignored_too() -> None:
    found = diff({"id": 1}, {"trace": 2}, Rules(ignore=("/id", "/trace")))
    assert (found.count, bool(found.ignored)) == (0, True)


@pytest.mark.parametrize(
    ("tolerance", "live", "shadow", "equal"),
    [
        ({"/score": 0.1}, {"score": 1.0}, {"score": 1.09}, True),
        ({"/score": 0.1}, {"score": 1.0}, {"score": 1.2}, False),
        ({"/score": 0.1}, {"score": 1.0, "other": 1.0}, {"score": 1.0, "other": 1.09}, False),
        ({"/scores": 0.1}, {"scores": [1.0, 2.0]}, {"scores": [1.05, 2.05]}, True),
        ({"/scores/*": 0.1, "/scores/1": 0.0}, {"scores": [1.0, 2.0]}, {"scores": [1.05, 2.05]}, False),
        ({"/n": Tolerance(0, 0.5)}, {"n": 100}, {"n": 60}, True),
        ({"/n": Tolerance(0, 0.5)}, {"n": 100}, {"n": 49}, False),
        ({"/n": 1}, {"n": 100}, {"n": 101}, True),
        ({"/n": 0}, {"n": 0.1 + 0.2}, {"n": 0.3}, False),
        ({"/n": 1e300}, {"n": INF}, {"n": 1.0}, False),
        ({"/n": Tolerance(1, 0.5)}, {"n": 10**400}, {"n": 1}, False),
        ({"/n": Tolerance(1, 0.5)}, {"n": 10**400}, {"n": 10**400 + 1}, True),
    ],
)
def test_a_tolerance_holds_at_its_place_and_below(
    tolerance: dict[str, float | Tolerance], live: Any, shadow: Any, equal: bool
) -> None:
    assert (diff(live, shadow, Rules(tolerance=tolerance)).count == 0) == equal


@pytest.mark.parametrize(
    ("live", "shadow", "place"),
    [
        (1.0, 1.0 + 9e-6, None),
        (1.0, 1.0 + 2e-5, ""),
        (0.0, 9e-7, None),
        (0.0, 2e-6, ""),
        (-2.0, -2.0 - 9e-7, None),
        (-0.01, -0.01 - 9e-7, "/0"),
        (0, 9e-7, None),  # one server writes 0 for what is 0.0 to another
        (1, 1.0000001, None),
        (10**400, 1e308, "/0"),
        (INF, 1e308, "/0"),
        (NAN, 1.0, "/0"),
    ],
)
@pytest.mark.parametrize(
    "around",
    [
        lambda value: [value],
        lambda value: {"x": [[value]]},
        lambda value: {"predictions": [{"a": value}]},
        lambda value: {"score": value},
        lambda value: {"probabilities": {"cat": value}},
        lambda value: {"named": {"here": value}},
    ],
    ids=["array", "array of arrays", "predictions", "score", "object", "named"],
)
def test_numbers_of_answers_are_equal_within_what_two_runtimes_differ_by(
    around: Any, live: Any, shadow: Any, place: str | None
) -> None:
    rules = Rules(predictions={"s": ("/named/here", "/there")})
    assert (diff(around(live), around(shadow), rules).count == 0) == (place is None)
    # The same as of the judged field of the report.
    if number_of(live) is not None:
        assert close(live, shadow, None) == (place is None)


@pytest.mark.parametrize(
    "around",
    [
        lambda value: {"price_of_id": {"id": value}},
        lambda value: {"usage": {"cost": value}},
        lambda value: {"items": [{"weight": value}]},
        lambda value: {"latency_ms": value},
        lambda value: {"score": {"timestamp": value}},
    ],
    ids=["id", "usage", "member of an element", "latency", "timestamp"],
)
def test_all_other_numbers_are_equal_within_a_millionth(around: Any) -> None:
    assert diff(around(1.0), around(1.0 + 9e-7), Rules()).count == 0
    assert diff(around(1.0), around(1.0 + 5e-6), Rules()).count == 1


def test_elements_of_an_unordered_array_are_as_near_as_those_of_others() -> None:
    rules = Rules(unordered=("/x",))
    assert diff({"x": [5.0, 1.0]}, {"x": [1.000009, 5.00004]}, rules).count == 0
    assert diff({"x": [5.0, 1.0]}, {"x": [1.00002, 5.0]}, rules).count == 1


def test_a_rule_replaces_what_numbers_of_answers_may_differ_by() -> None:
    assert diff({"score": 1.0}, {"score": 1.0 + 5e-6}, Rules(tolerance={"/score": 0})).count == 1
    assert diff([1.0], [1.0 + 5e-6], Rules(tolerance={"/*": 1e-6})).count == 1
    former = Rules(tolerance={"/**": Tolerance(1e-9, 1e-6)})
    assert diff({"score": [1.0]}, {"score": [1.0 + 5e-6]}, former).count == 1
    assert diff(1.0, 1.0 + 9e-7, former).count == 0


def test_numbers_equal_only_by_tolerance_are_counted_by_place() -> None:
    found = diff({"p": [1.0, 2.0, 3.0]}, {"p": [1.0, 2.0 + 1e-9, 3.0 + 1e-9]}, Rules())
    assert (found.count, dict(found.near)) == (0, {"/p/*": 2})


@pytest.mark.parametrize(
    ("live", "shadow", "count"),
    [
        ([1, 2, 3], [3, 1, 2], 0),
        ([{"b": 1, "a": 2}, "x"], ["x", {"a": 2, "b": 1}], 0),
        ([1, 1, 2], [1, 2, 2], 1),
        (["a", "b", "c", "d"], ["b", "c", "d", "e"], 1),
        ([1.0, 2.0], [2, 1], 0),
        ([0.1, 0.2], [0.2 + 1e-12, 0.1], 0),
        ([True, 1], [1, True], 0),
        ([None, NAN], [NAN, None], 0),
        ([1, 2], [1, 2, 3], 1),
        ([[1, 2]], [[2, 1]], 2),  # the rule speaks of this one array, not of those within
    ],
)
def test_unordered_arrays_pair_equal_elements_first(live: Any, shadow: Any, count: int) -> None:
    assert diff({"tags": live}, {"tags": shadow}, Rules(unordered=("/tags",))).count == count


@pytest.mark.parametrize(
    ("live", "shadow", "rules"),
    [
        ([1.0, 1.001, 5.0], [5.004, 1.002, 0.999], Rules(unordered=("",), tolerance={"/*": 0.01})),
        ([10, 20, 30], [31, 9, 21], Rules(unordered=("",), tolerance={"/*": 1})),
        (
            [{"p": 0.5000001, "name": "a"}, {"p": 0.5, "name": "b"}],
            [{"p": 0.5000002, "name": "b"}, {"p": 0.4999999, "name": "a"}],
            Rules(unordered=("",)),
        ),
        (
            [{"p": 0.31, "q": [1.0]}, {"p": 0.3, "q": [2.0]}],
            [{"p": 0.305, "q": [2.0]}, {"p": 0.306, "q": [1.0]}],
            Rules(unordered=("/x",), tolerance={"/x/*/p": 0.02}),
        ),
        ([[0.1, 0.2], [0.1000001, 0.3]], [[0.1000001, 0.3], [0.09999995, 0.2]], Rules(unordered=("",))),
    ],
)
def test_unordered_elements_that_are_equal_within_tolerance_find_each_other(
    live: Any, shadow: Any, rules: Rules
) -> None:
    if rules.unordered == ("/x",):
        live, shadow = {"x": live}, {"x": shadow}
    found = diff(live, shadow, rules)
    assert found.count == 0
    assert found.near


def test_a_difference_in_an_unordered_array_names_the_element_of_live() -> None:
    live = [{"id": "c", "p": 3}, {"id": "a", "p": 1}, {"id": "b", "p": 2}]
    shadow = [{"id": "a", "p": 1}, {"id": "b", "p": 9}, {"id": "c", "p": 3}]
    (found,) = diff({"rows": live}, {"rows": shadow}, Rules(unordered=("/rows",))).listed()
    assert (found.path, found.live, found.shadow) == ("/rows/2/p", 2, 9)
    (found,) = diff([7, 5, 6], [5, 7, 8], Rules(unordered=("",))).listed()
    assert (found.path, found.live, found.shadow) == ("/2", 6, 8)


def test_pairing_an_unordered_array_of_unlike_numbers_is_bounded() -> None:
    count = 3000
    numbers = [float(n) for n in range(count)], [n + 0.5 for n in range(count)]
    assert diff(*numbers, rules=Rules(unordered=("",))).count == count
    near = [n + 1e-7 for n in range(count, 0, -1)]
    assert diff([0.5, *map(float, range(1, count + 1))], [*near, -3.0], Rules(unordered=("",))).count == 1
    objects = [[{"p": n} for n in array] for array in numbers]
    assert diff(objects[0], objects[1], Rules(unordered=("",))).count == count


def test_what_is_ignored_does_not_decide_who_pairs_with_whom() -> None:
    live = [{"id": 9, "name": "a"}, {"id": 8, "name": "b"}]
    shadow = [{"id": 1, "name": "b"}, {"id": 2, "name": "a"}]
    assert diff(live, shadow, Rules(unordered=("",), ignore=("/*/id",))).count == 0


@given(json_values)
def test_a_value_equals_its_copy(value: Any) -> None:
    found = diff(value, copy.deepcopy(value), Rules())
    assert (found.count, found.ignored, dict(found.near)) == (0, 0, {})


@given(json_values, json_values)
def test_differences_are_the_same_seen_from_the_other_side(live: Any, shadow: Any) -> None:
    mirrored = {"missing": "extra", "extra": "missing"}
    there = sorted((each.path, mirrored.get(each.kind, each.kind)) for each in diff(live, shadow, Rules()).listed())
    back = sorted((each.path, each.kind) for each in diff(shadow, live, Rules()).listed())
    assert there == back


@given(json_values, json_values)
def test_whatever_differs_can_be_written_as_json(live: Any, shadow: Any) -> None:
    for each in diff(live, shadow, Rules()).listed():
        assert orjson.loads(orjson.dumps([each.path, each.live, each.shadow]))[0] == each.path


@given(json_values, json_values)
def test_ignoring_everything_leaves_nothing(live: Any, shadow: Any) -> None:
    assert diff(live, shadow, Rules(ignore=("",))).count == 0


@given(st.lists(json_values, max_size=6).flatmap(lambda values: st.tuples(st.just(values), st.permutations(values))))
def test_an_unordered_array_equals_its_permutations(arrays: tuple[list[Any], list[Any]]) -> None:
    assert diff(arrays[0], arrays[1], Rules(unordered=("",))).count == 0


@given(st.lists(st.text(max_size=4), max_size=5))
def test_a_pointer_names_the_keys_it_was_made_of(keys: list[str]) -> None:
    assert pointer_segments("".join(f"/{pointer_token(key)}" for key in keys)) == tuple(keys)


def test_what_is_listed_is_bounded_and_what_is_counted_is_not() -> None:
    found = diff({str(n): 1 for n in range(5000)}, {str(n): 2 for n in range(5000)}, Rules())
    assert (len(found.listed()), found.count, len(found.where)) == (KEPT, 5000, PLACES)


def test_array_positions_are_one_place() -> None:
    found = diff({"p": [[1, 2], [3, 4]]}, {"p": [[5, 6], [7, 8]]}, Rules())
    assert dict(found.where) == {("/p/*/*", "value"): 4}


@pytest.mark.timing
@pytest.mark.slow
def test_depth_and_length_cost_neither_recursion_nor_squares() -> None:
    deep: Any = 1
    other: Any = 2
    for _ in range(100_000):
        deep, other = [deep], [other]
    found = diff(deep, other, Rules())
    assert (found.count, found.listed()[0].path) == (1, "/0" * 1000 + "…")
    long = list(range(300_000))
    started = time.process_time()
    assert diff(long, [*long[:-1], -1], Rules()).count == 1
    assert diff(long, long[::-1], Rules(unordered=("",))).count == 0
    assert time.process_time() - started < 10


def test_long_texts_are_shown_from_where_they_part() -> None:
    (difference,) = diff("x" * 1000 + "left" + "y" * 1000, "x" * 1000 + "right" + "y" * 1000, Rules()).listed()
    assert difference.live.startswith("…" + "x" * 40 + "left")
    assert difference.shadow.startswith("…" + "x" * 40 + "right")
    assert len(difference.live) <= 201


def test_large_values_are_described() -> None:
    (difference,) = diff({"a": list(range(1000))}, {}, Rules()).listed()
    assert difference.live == "array of 1000"


def test_a_key_of_a_megabyte_does_not_fill_the_log() -> None:
    (difference,) = diff({"k" * 1_000_000: 1}, {}, Rules()).listed()
    assert difference.path == "/" + "k" * 200 + "…"


def test_half_a_surrogate_pair_can_be_told() -> None:
    (difference,) = diff(json.loads('{"\\ud800": "\\udc00"}'), json.loads('{"\\ud800": "x"}'), Rules()).listed()
    assert (difference.path, difference.live) == ("/\\ud800", "\\udc00")


@pytest.mark.parametrize("bound", [-1.0, NAN, INF])
def test_a_senseless_tolerance_is_refused(bound: float) -> None:
    with pytest.raises(ValueError, match="tolerance"):
        Rules(tolerance={"/a": bound})


def test_places_are_cached_within_bounds_and_found_again_when_forgotten() -> None:
    rules = Rules(ignore=("/*/b",), tolerance={"/k9": 2})
    for n in range(6000):
        found = diff({f"k{n}": 1, "z": {"b": n, "c": 1}}, {f"k{n}": 3.5, "z": {"b": -n - 1, "c": 2}}, rules)
        assert found.where == {(f"/k{n}", "value"): 1, ("/z/c", "value"): 1}
        assert found.ignored == 1
    assert 0 < len(rules._places) < 6000
    assert 0 < len(rules.root._members) < 6000
    known = rules.root.member("z").member("c")
    assert known is rules.root.member("z").member("c")
    assert rules.root.member("k" * 201) is not rules.root.member("k" * 201)
    assert diff({"k9": 1}, {"k9": 3}, rules).near == {"/k9": 1}


def test_each_difference_has_its_place_whatever_the_keys_are() -> None:
    found = diff({"0": [{"a": 1}, {"b": [2]}]}, {"0": [{"a": 2}, {"b": [3]}]}, Rules())
    assert [each.path for each in found.listed()] == ["/0/0/a", "/0/1/b/0"]
    assert [place for place, *_ in found.found] == ["/0/*/a", "/0/*/b/*"]


@given(st.lists(st.sampled_from(["a" * 150, "~/x", "*", "é" * 210]), max_size=20))
def test_the_pointer_of_a_difference_outside_of_arrays_is_its_places(keys: list[str]) -> None:
    live, shadow = 1, 2
    for key in keys:
        live, shadow = {key: live}, {key: shadow}  # type: ignore[assignment]
    found = diff(live, shadow, Rules())
    assert [each.path for each in found.listed()] == [where for where, _ in found.where]
