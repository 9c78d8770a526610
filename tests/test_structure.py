"""What live's answers always have, and what of it an answer lacks."""

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from logs import answer, chosen, report_json

from shadowproxy.compare.fold.structure import MOST_PLACES, lacking, places_in, shape_of
from shadowproxy.compare.fold.summary import summarise
from shadowproxy.compare.judge.rules import Rules

NAN = float("nan")


@pytest.mark.parametrize(
    ("value", "places"),
    [
        ({"a": 1, "b": None, "c": NAN}, {"", "/a"}),
        ({"a": {"b": [1, 2]}}, {"", "/a", "/a/b", "/a/b/*"}),
        ({"a": []}, {"", "/a"}),
        ({"a": [1, None]}, {"", "/a"}),
        ({"a": [1.0, NAN]}, {"", "/a"}),
        ({"a": [1.0, "x"]}, {"", "/a", "/a/*"}),
        ([{"x": 1, "y": 2}, {"x": 3}], {"", "/*", "/*/x"}),
        ([{"x": {"p": 1, "q": 1}}, {"x": {"q": 2}}], {"", "/*", "/*/x", "/*/x/q"}),
        ([{"x": 1}, [1]], {"", "/*"}),
        ([[1, 2], [3]], {"", "/*", "/*/*"}),
        ({"a/b": {"~": 1}}, {"", "/a~1b", "/a~1b/~0"}),
        ({"e": {}, "f": False, "g": 0, "h": ""}, {"", "/e", "/f", "/g", "/h"}),
    ],
)
def test_a_place_is_there_when_it_holds_something_in_every_element(value: Any, places: set[str]) -> None:
    assert set(places_in(shape_of(value))) == places


@pytest.mark.parametrize(
    ("live", "shadow", "places"),
    [
        ({"a": 1}, {"a": 2, "b": 3}, ()),
        ({"a": 1}, {"a": 2.5}, ()),
        ({"a": 1}, {"a": True}, ("/a",)),
        ({"a": 1}, {"a": "1"}, ("/a",)),
        ({"a": 1}, {"a": None}, ("/a",)),
        ({"a": 1.5}, {"a": NAN}, ("/a",)),
        ({"a": NAN}, {"a": NAN}, ()),
        ({"a": None}, {}, ()),
        ({"a": {"b": 1, "c": 2}}, {}, ("/a",)),
        ({"a": {"b": 1, "c": 2}}, {"a": {"c": 2}}, ("/a/b",)),
        ({"a": [1, 2]}, {"a": []}, ("/a/*",)),
        ({"a": [1, 2]}, {"a": [1]}, ()),
        ({"a": [{"x": 1}, {"x": 1}]}, {"a": [{"x": 1}, {}]}, ("/a/*/x",)),
        ({"a": [{"x": 1}]}, {"a": [{"x": 1}, {"y": 1}]}, ("/a/*/x",)),
        ({"a": 1}, "text", ("",)),
        ({"a": 1}, None, ("",)),
        ([1], {"a": 1}, ("",)),
    ],
)
def test_what_an_answer_lacks_is_named_once_at_the_top_of_it(live: Any, shadow: Any, places: tuple[str, ...]) -> None:
    assert lacking(live, shadow, Rules()) == places


def test_what_a_rule_ignores_is_not_lacking() -> None:
    rules = Rules(ignore=("/meta", "/rows/*/id"))
    assert lacking({"meta": {"at": 1}, "rows": [{"id": 1, "x": 2}]}, {"rows": [{}]}, rules) == ("/rows/*/x",)


JSON = st.recursive(
    st.none() | st.booleans() | st.integers(-3, 3) | st.floats() | st.text("ab", max_size=2),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text("ab~/", max_size=2), inner, max_size=4),
    max_leaves=25,
)


MEMBERS = st.dictionaries(st.text("ab~/", max_size=2), JSON, max_size=8)  # of more than 16 not all are named


@given(JSON)
def test_an_answer_lacks_nothing_of_itself(value: Any) -> None:
    assert lacking(value, value, Rules()) == ()


@given(MEMBERS, MEMBERS)
def test_a_member_that_only_live_has_is_lacking(live: Any, shadow: Any) -> None:
    there, here = (set(places_in(shape_of(each))) for each in (live, shadow))
    members = {place for place in there - here if place.count("/") == 1}
    assert members <= set(lacking(live, shadow, Rules()))


def test_a_large_answer_is_looked_at_within_bounds() -> None:
    assert len(places_in(shape_of({f"k{n}": {"x": n} for n in range(100_000)}))) <= MOST_PLACES + 1
    assert len(lacking({f"k{n}": n for n in range(1000)}, {}, Rules())) <= 16
    deep: Any = 1
    for _ in range(3000):
        deep = {"a": deep}
    assert len(places_in(shape_of(deep))) < 20
    assert lacking(deep, {"a": 1}, Rules()) == ("/a",)
    wide = [{"x": [{"y": n} for n in range(500)]} for _ in range(500)]
    assert set(places_in(shape_of(wide))) == {"", "/*", "/*/x", "/*/x/*", "/*/x/*/y"}


def structure_of(answers: Any, **rules: Any) -> Any:
    return report_json(summarise(chosen(600, 1, answers), Rules(**rules)))["shadows"]["s"]["structure"]


def test_only_what_live_always_has_is_asked_of_the_shadow() -> None:
    """Live leaves out its note in one of ten; the shadow always does, and its score in one of twenty."""

    def answers(source: Any, number: int) -> tuple[Any, Any]:
        live = {"label": "ab"[number % 2], "score": 0.5, **({"note": "x"} if number % 10 else {})}
        return live, {key: value for key, value in live.items() if key == "label" or (key == "score" and number % 20)}

    found = structure_of(answers)
    assert (found["n"], found["lost"], found["always"]) == (600, 30, 3)
    assert found["places"] == [{"path": "/score", "lost": 30}]
    assert structure_of(answers, ignore=("/score",))["lost"] == 0


def test_an_answer_that_is_no_json_lacks_all() -> None:
    page = answer()._replace(body=answer().body._replace(kind="text", value="<html>hello"))  # type: ignore[union-attr]
    found = structure_of(lambda source, number: ({"label": number % 3}, page if number % 3 == 0 else {"label": 1}))
    assert (found["lost"], found["places"]) == (200, [{"path": "", "lost": 200}])


def test_answers_without_parts_have_no_structure() -> None:
    text = answer()._replace(body=answer().body._replace(kind="text", value="late"))  # type: ignore[union-attr]
    assert structure_of(lambda source, number: (text, text)) is None
    assert structure_of(lambda source, number: (answer(status=404), {"label": "a"})) is None


def test_what_failed_is_an_error_and_lacks_nothing() -> None:
    found = structure_of(lambda source, number: ({"label": "a"}, answer({"error": "x"}, status=500)))
    assert found is None
