"""One answer beside live's, to a verdict."""

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from shadowproxy.answers import content_of
from shadowproxy.compare.judge.differences import KEPT
from shadowproxy.compare.judge.rules import Rules
from shadowproxy.compare.judge.verdict import compare, judge
from shadowproxy.exchange import Outcome, Verdict
from shadowproxy.record import Body, BodyKind, RecordedLeg


def answer(value: Any = None, *, kind: BodyKind = "json", status: int = 200, **headers: str) -> RecordedLeg:
    size = 0 if kind == "none" else len(value if isinstance(value, bytes | str) else json.dumps(value))
    named = {name.replace("_", "-"): text for name, text in headers.items()}
    return RecordedLeg(Outcome.OK, status, named, Body(kind, value, size), 1.0, 2.0)


EMPTY = answer(kind="none", content_length="0")


@pytest.mark.parametrize(
    ("live", "shadow", "verdict", "differences"),
    [
        (answer({"a": 1}), answer({"a": 1}), "match", []),
        (answer({"a": 1}), answer({"a": 2}), "mismatch", [("/a", "value")]),
        (answer({"a": 1}), answer({"a": 1}, status=500), "mismatch", [("", "status")]),
        (answer({"a": 1}), answer({"error": "x"}, status=500), "mismatch", [("", "status")]),
        (answer({"a": 1}, status=404), answer({"a": 2}, status=404), "mismatch", [("/a", "value")]),
        (answer("hello", kind="text"), answer("hello", kind="text"), "match", []),
        (answer("hello", kind="text"), answer("Hello", kind="text"), "mismatch", [("", "text")]),
        (answer(b"\x00", kind="bytes"), answer(b"\x00", kind="bytes"), "match", []),
        (answer(b"\x00", kind="bytes"), answer(b"\x01", kind="bytes"), "mismatch", [("", "bytes")]),
        (answer({"a": 1}), answer("oops", kind="text"), "mismatch", [("", "type")]),
        (EMPTY, EMPTY, "match", []),
        (answer({"a": 1}), EMPTY, "mismatch", [("", "missing")]),
        (EMPTY, answer({"a": 1}), "mismatch", [("", "extra")]),
    ],
)
def test_verdicts_by_status_and_content(
    live: RecordedLeg, shadow: RecordedLeg, verdict: str, differences: list[tuple[str, str]]
) -> None:
    judgement = judge(live, shadow, Rules())
    assert judgement.verdict == verdict
    assert [(each.path, each.kind) for each in judgement.differences] == differences


def test_a_status_difference_names_both() -> None:
    (difference,) = judge(answer(1), answer(1, status=503), Rules()).differences
    assert (difference.live, difference.shadow) == (200, 503)


def test_header_fields_are_not_compared() -> None:
    assert judge(answer(1, server="a", date="x"), answer(1, server="b"), Rules()).verdict is Verdict.MATCH


def test_differing_only_where_not_to_look_is_ignored() -> None:
    rules = Rules(ignore=("/id",))
    assert judge(answer({"id": 1, "x": 1}), answer({"id": 2, "x": 1}), rules).verdict is Verdict.IGNORED
    assert judge(answer({"id": 1, "x": 1}), answer({"id": 1, "x": 1}), rules).verdict is Verdict.MATCH
    judgement = judge(answer({"id": 1, "x": 1}), answer({"id": 2, "x": 2}), rules)
    assert [each.path for each in judgement.differences] == ["/x"]


def test_ignoring_the_whole_answer_still_compares_the_status() -> None:
    rules = Rules(ignore=("",))
    assert judge(answer("a", kind="text"), answer("b", kind="text"), rules).verdict is Verdict.IGNORED
    assert judge(answer("a", kind="text"), answer("a", kind="text"), rules).verdict is Verdict.MATCH
    assert judge(answer("a", kind="text"), answer("b", kind="text", status=500), rules).verdict is Verdict.MISMATCH


@pytest.mark.parametrize("outcome", [each for each in Outcome if each is not Outcome.OK])
def test_only_two_whole_answers_are_compared(outcome: Outcome) -> None:
    broken = answer(1)._replace(outcome=outcome)
    assert judge(answer(1), broken, Rules()).why == f"shadow: {outcome}"
    assert judge(broken, answer(1), Rules()).why == f"live: {outcome}"
    assert judge(broken, answer(1), Rules()).verdict is Verdict.INCOMPARABLE


@pytest.mark.parametrize(
    ("body", "why"),
    [
        (None, "no body in the record"),
        (Body("text", "{", 100, truncated=True), "cut in the log (log.body_limit)"),
        (Body("none", None, 100, truncated=True, sha256="00"), "left out of the log (log.bodies)"),
        (Body("none", None, 100, truncated=True, redacted="not JSON"), "withheld from the log (log.redact)"),
        (Body("none", None, 100), "left out of the log (log.bodies)"),
    ],
)
def test_a_body_that_is_not_whole_is_incomparable_and_says_why(body: Body | None, why: str) -> None:
    judgement = judge(answer(1), answer(1)._replace(body=body), Rules())
    assert (judgement.verdict, judgement.why) == (Verdict.INCOMPARABLE, f"shadow: {why}")


def test_what_could_not_be_decoded_matches_only_as_the_same_bytes() -> None:
    live = answer()._replace(body=Body("bytes", b"\x1f\x8b\x01", 3, coding="x-odd"))
    same = answer()._replace(body=Body("bytes", b"\x1f\x8b\x01", 3, coding="x-odd"))
    other = answer()._replace(body=Body("bytes", b"\x1f\x8b\x02", 3, coding="x-odd"))
    assert judge(live, same, Rules()).verdict is Verdict.MATCH
    assert judge(live, other, Rules()).verdict is Verdict.INCOMPARABLE


def test_json_with_nan_in_it_is_read_as_python_writes_it() -> None:
    live = answer('{"p": NaN}', kind="text", content_type="application/json")
    assert content_of(live).lenient
    assert judge(live, answer('{"p":NaN}', kind="text", content_type="application/json"), Rules()).verdict == "match"
    assert [each.path for each in judge(live, answer({"p": 1.0}), Rules()).differences] == ["/p"]


def test_text_that_is_not_said_to_be_json_stays_text() -> None:
    assert content_of(answer('"42"', kind="text", content_type="text/plain")).kind == "text"
    assert content_of(answer("{nonsense", kind="text")).kind == "text"
    assert content_of(answer("[" * 100_000, kind="text", content_type="application/json")).kind == "text"


def test_a_judgement_lists_a_bounded_number_and_says_of_how_many() -> None:
    judgement = judge(answer([0] * 500), answer([1] * 500), Rules())
    assert (len(judgement.differences), judgement.why) == (KEPT, f"the first {KEPT} of 500 differences")


answers = st.builds(
    answer,
    st.recursive(
        st.none() | st.integers() | st.floats() | st.text(),
        lambda children: st.lists(children) | st.dictionaries(st.text(), children),
    ),
    status=st.sampled_from([200, 500]),
)


@given(answers)
def test_an_answer_matches_itself(one: RecordedLeg) -> None:
    assert compare(one, one, Rules()).verdict is Verdict.MATCH


@given(answers, answers)
def test_the_verdict_is_the_same_from_both_sides(one: RecordedLeg, other: RecordedLeg) -> None:
    assert compare(one, other, Rules()).verdict is compare(other, one, Rules()).verdict
