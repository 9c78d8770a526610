"""How both arms do against labels at one place, and what of their values is kept for it."""

import math
from typing import Any

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st

from shadowproxy.compare.fold.gist import gist_of, is_class, label_text, read, written
from shadowproxy.compare.fold.labelled import Labelled
from shadowproxy.compare.fold.values import CLASS_LIKE, first_of, form_of, plain

UUID = "123e4567-e89b-12d3-a456-426614174000"
LONG = "every word of this text is part of the class, however many of them there may be; " * 2


def counted(*exchanges: tuple[list[Any], list[Any] | None, tuple[Any, ...]]) -> Labelled:
    found = Labelled()
    for live, shadow, labels in exchanges:
        found.add(0, list(map(gist_of, live)), None if shadow is None else list(map(gist_of, shadow)), labels)
    return found


def totals(table: Any) -> dict[str, int]:
    return {key: series.total() for key, series in table.items()}


@pytest.mark.parametrize(
    ("live", "shadow", "label"),
    [
        ({"cat": 0.9, "dog": 0.2}, {"cat": 0.1, "dog": 0.2}, "cat"),
        ([{"id": 1}, {"id": 2}], [{"id": 2}, {"id": 1}], "1"),
        (1, 2, "1"),
        (3.0, 3.5, 3),
        ("a", None, "a"),
        (True, [], "true"),
        (LONG, LONG + "!", LONG.upper()),
        ("\ud800", "a", "\ud800"),
        ("\0a", "a", "\0a"),
    ],
)
def test_the_first_of_a_vector_or_ranking_is_held_to_the_label_and_nothing_is_wrong(
    live: Any, shadow: Any, label: Any
) -> None:
    found = counted(([live], [shadow], (label,)))
    assert sum(totals(found.rows).values()) == 1
    assert totals(found.rows) == totals(found.live_right)
    assert (found.shadow_right, found.both_right) == ({}, {})
    assert found.requests == {0: 1}


def test_what_the_shadow_does_not_answer_is_wrong() -> None:
    found = counted((["a"], None, ("a",)), (["a"], [], ("a",)), (["a", "b"], ["a"], ("a", "b")))
    assert totals(found.rows) == {"text failed": 1, "text absent": 1, "text text": 1, "text fewer rows": 1}
    assert totals(found.live_right) == totals(found.rows)
    assert totals(found.shadow_right) == totals(found.both_right) == {"text text": 1}


def test_who_was_nearer_is_counted_for_numbers() -> None:
    found = counted(([1.0], [3.0], (2,)), ([2.0], [2.0], (2,)), ([5.0], [2.5], ("2",)))
    assert (found.live_nearer.total(), found.shadow_nearer.total()) == (0, 1)
    assert found.errors.floats() == {0: [4.0, 1.5, 3.0]}
    assert counted(([1.0], [2.0], ("n/a",))).errors == {}
    assert counted(([1.0], [2.0], (1e200,))).errors == {}
    assert counted(([1.0], [None], (2,))).errors == {}


def test_every_row_is_held_to_its_own_label_where_it_is_known() -> None:
    found = counted((["a", "b", "c"], ["a", "x"], ("a", None, "c")))
    assert totals(found.rows) == {"text text": 1, "text fewer rows": 1}
    assert totals(found.live_right) == {"text text": 1, "text fewer rows": 1}
    assert totals(found.shadow_right) == {"text text": 1}


def test_one_label_for_two_rows_is_for_neither_and_the_request_is_counted() -> None:
    found = counted((["a", "b"], ["a", "x"], ("a",)), ([], ["a"], ("a",)), (["a"], ["a"], (None,)))
    assert found.rows == {}
    assert (found.requests.total(), found.uneven.total()) == (2, 1)


def test_an_answer_of_live_that_is_none_is_held_to_no_label() -> None:
    assert counted(([None], ["a"], ("a",)), ([math.nan], [1.0], (1,))).rows == {}


values = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats()
    | st.text(st.characters(), max_size=120)
    | st.sampled_from([UUID, "", "a", LONG, 2**70, 10**400, "\0x", {"cat": 0.9, "dog": 0.1}, [0.25, 0.75]]),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from(["id", "a", "b"]), inner, max_size=2),
    max_leaves=6,
)


@given(values)
def test_a_gist_comes_back_as_it_was_written(value: Any) -> None:
    found = gist_of(value)
    assert read(orjson.loads(orjson.dumps(written(found)))) == found
    assert len(orjson.dumps(written(found))) < 800


@given(
    values, st.booleans() | st.integers() | st.floats() | st.text(max_size=120) | st.sampled_from(["a", LONG, "cat"])
)
def test_a_gist_is_as_right_as_its_value(value: Any, label: Any) -> None:
    form = form_of(value)
    right = form in CLASS_LIKE and plain(first_of(value, form)) == plain(label)
    assert is_class(gist_of(value), label) == right


@pytest.mark.parametrize("raw", ["", "xa", [], {}, float("inf"), 10**400])
def test_what_is_no_gist_is_refused(raw: Any) -> None:
    with pytest.raises(ValueError, match=r"out of range|unknown form"):
        read(raw)


def test_labels_are_written_as_answers_are() -> None:
    assert label_text("YES") == label_text(True) == label_text("1.0") == "1"
    assert label_text(LONG) == label_text(LONG.upper()) != label_text(LONG + "!")


labels = st.sampled_from([(), ("a",), (1,), ("a", None, 2.5)])
exchanges = st.lists(
    st.tuples(st.integers(0, 3), st.lists(values, max_size=3), st.none() | st.lists(values, max_size=3), labels),
    max_size=12,
)


@given(exchanges, st.randoms(use_true_random=False))
def test_any_cut_and_order_of_a_log_counts_the_same(found: list[Any], source: Any) -> None:
    whole, parts = Labelled(), [Labelled(), Labelled()]
    for block, *exchange in found:
        gists = [None if each is None else list(map(gist_of, each)) for each in exchange[:2]]
        whole.add(block, gists[0] or [], gists[1], exchange[2])
        source.choice(parts).add(block, gists[0] or [], gists[1], exchange[2])
    parts[0].absorb(Labelled.from_json(parts[1].to_json()))
    assert parts[0].to_json() == whole.to_json()
