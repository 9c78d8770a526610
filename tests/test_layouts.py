"""Answers of one shape share what was worked out for the first of them: it must be right for the others."""

from typing import Any

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from shadowproxy.compare.fold.layouts import Answer, Layouts
from shadowproxy.compare.fold.structure import shape_of
from shadowproxy.compare.fold.survey import Survey
from shadowproxy.compare.judge.diff import diff
from shadowproxy.compare.judge.rules import Rules, Tolerance

_SCALARS = st.sampled_from([None, True, False, 0, 1, 7, 0.0, 0.25, 0.5, 0.75, 1.0, 3.5, "", "a", "b"])
_NAMES = st.sampled_from(["id", "score", "label", "answer", "message", "predictions", "choices", "b"])
_ROW = st.fixed_dictionaries({}, optional={"id": _SCALARS, "score": _SCALARS, "label": _SCALARS})
_NUMBERS = st.lists(st.sampled_from([0.0, 0.5, 0.25, 1.0, 1, 9.5]), max_size=10)
_VALUES = st.recursive(
    _SCALARS | _NUMBERS | st.lists(_ROW, max_size=4),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(_NAMES, inner, max_size=4),
    max_leaves=12,
)


def assert_taken_apart(value: Any) -> None:
    answer = Answer(value)
    expected = Survey(value).found
    assert repr(list(zip(answer.places, answer.columns, strict=True))) == repr(list(expected.items()))
    assert answer.structure(exact=True) == shape_of(value, exact=True)
    assert answer.structure(exact=False) == shape_of(value)


@settings(max_examples=400)
@given(st.lists(_VALUES, min_size=1, max_size=8))
@example([{"p": [0.5, 0.5]}, {"p": [0.5, 0.75]}])
@example([{"a": 0.5, "b": 0.5}, {"a": 0.5, "b": 7.5}, {"a": 0.25, "b": 0.25}])
@example([["a", "b"], ["a", "a"]])
@example([{"r": [{"id": "a"}, {"id": "b"}]}, {"r": [{"id": "a"}, {"id": "a"}]}])
@example([[{"id": 1, "score": 2}, {"score": 2, "id": 1}], [{"id": 1, "score": 2}, {"id": 2, "score": 1}]])
@example([[{"a": 0.5, "b": 0.5}, {"a": 0.5, "b": 0.5}], [{"a": 2.5, "b": 0.5}, {"a": 0.5, "b": 0.5}]])
@example([[[0.5, 0.5], [0.5, 0.5]], [[0.5, 2.5], [0.5, 0.5]]])
@example([[{"id": 1, "b": 2}, {"id": 1}, {"b": 2}], [{"id": 1, "b": 2}, {"id": 1}, {"b": 2}, {"id": 1, "b": 2}]])
@example([[{"id": 1, "b": 2}, {"id": 1}, {"b": 2, "id": 1}, {"b": 2}]])
@example([{"a": [{"id": 1}, [[], {"b": 1}]], "b": 5}, {"a": [[], {"id": 1}], "b": [{"b": 1}, 5]}])
@example([{"answer": "a", "message": {"b": 1}}, {"answer": "b", "message": {"b": 2}}])
@example([[], [0], [True], [1], {"predictions": []}, {"predictions": [[]]}, {"predictions": [{}]}])
def test_an_answer_is_taken_apart_as_if_it_were_the_first(values: list[Any]) -> None:
    for value in values:
        assert_taken_apart(value)


_RULES = [
    Rules(),
    Rules(ignore=("/id", "/**/score")),
    Rules(tolerance={"/**/score": 0.3, "/predictions/0": Tolerance(0, 0.6)}),
    Rules(ignore=("/predictions/1",)),
]


@settings(max_examples=400)
@given(_VALUES, _VALUES, st.sampled_from(_RULES), st.data())
def test_answers_of_one_shape_differ_as_any_two(one: Any, other: Any, rules: Rules, data: st.DataObject) -> None:
    for shadow in (other, _changed(one, data)):
        found = Answer(one).diff(Answer(shadow), rules)
        if found is not None:
            expected = diff(one, shadow, rules)
            assert repr(found.listed()) == repr(expected.listed())
            assert found.count == expected.count
            assert found.ignored == expected.ignored
            assert found.near == expected.near
            assert list(found.where.items()) == list(expected.where.items())


def _changed(value: Any, data: st.DataObject) -> Any:
    """A value of the same names and lengths, with other scalars, mostly of the same type."""
    if isinstance(value, dict):
        return {key: _changed(member, data) for key, member in value.items()}
    if isinstance(value, list):
        return [_changed(each, data) for each in value]
    if type(value) is float:
        return data.draw(st.sampled_from([0.25, 0.5, 3.5, 3.5 + 1e-8, float("nan")]))
    if isinstance(value, str):
        return data.draw(st.sampled_from(["a", "b", "x" * 300, "x" * 300 + "y"]))
    return data.draw(st.sampled_from([value, 1, 8, None]))


def test_arrays_without_order_are_not_compared_by_shape() -> None:
    assert Answer({"a": [1, 2]}).diff(Answer({"a": [2, 1]}), Rules(unordered=("/a",))) is None
    found = Answer({"a": [1, 2]}).diff(Answer({"a": [2, 1]}), Rules())
    assert found is not None
    assert [each.path for each in found.listed()] == ["/a/0", "/a/1"]


@pytest.mark.parametrize(
    "value",
    [
        {f"k{at}": at for at in range(2000)},
        [{f"k{at}": at for at in range(700)}, {f"k{at}": at for at in range(700)}],
        {"x" * 9000: 1},
        {"v": [0.5] * 50_000},
        [[at] for at in range(3000)],
        {"p": [{"q": [1, "a"] * 5}] * 40},
    ],
)
def test_a_shape_that_is_too_long_to_be_remembered_is_read_each_time(value: Any) -> None:
    assert_taken_apart(value)


def test_a_deep_answer_is_read_as_far_as_any() -> None:
    value: Any = 1
    for _ in range(50):
        value = {"a": [value]}
    assert_taken_apart(value)


def test_answers_of_which_none_has_the_shape_of_another_are_not_remembered() -> None:
    made = Layouts()
    for at in range(257):
        assert set(Answer({f"k{at}": at, "v": "a"}, made).places) == {"/v", f"/k{at}"}
    assert made.pause > 0
    paused = made.pause
    assert set(Answer({"k": 1, "v": "a"}, made).places) == {"/k", "/v"}
    assert made.pause == paused - 1


def test_layouts_of_long_answers_are_remembered_in_bounded_memory() -> None:
    made = Layouts()
    for size in range(19_000, 19_030):
        for _ in range(3):  # so that they are worth remembering
            assert Answer({"v": [0.5] * size}, made).places == ("/v",)
        assert len(made) <= 10
    assert made.pause == 0
