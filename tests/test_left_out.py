"""A verdict whose bodies the log has not whole stands under the rules by which it was recorded, and under no others."""

import io
import json
from typing import Any

import pytest
from rich.console import Console

from shadowproxy.answers import About, content_of
from shadowproxy.answers.left_out import NO_JSON, NOT_COPIED, left_out_by
from shadowproxy.compare.fold.summary import Summary, load, save, summarise
from shadowproxy.compare.judge.diff import diff
from shadowproxy.compare.judge.differences import Diff
from shadowproxy.compare.judge.recompare import recompared
from shadowproxy.compare.judge.rules import Rules
from shadowproxy.compare.judge.verdict import Compared, compare, judge, judge_values
from shadowproxy.compare.report.build import to_json
from shadowproxy.compare.report.html import to_html
from shadowproxy.compare.report.markdown import to_markdown
from shadowproxy.compare.report.text import print_figures
from shadowproxy.exchange import Exchange, Reply, Request, Verdict
from shadowproxy.record import Body, Record, decode
from shadowproxy.recorder.line import encode
from shadowproxy.recorder.policy import Policy
from shadowproxy.redaction import Redaction

OTHER = Rules(ignore=("/other",))
RULES = Rules(ignore=("/ignored",))
LIMIT = 100
PAD = "x" * 1000


def line_of(number: int, live: Any, shadow: Any, more: int = 0, rules: Rules = RULES, **policy: Any) -> bytes:
    """The line of an exchange with these answers; `more` bytes of live's were not captured."""

    def reply(value: Any, missing: int) -> Reply:
        body = json.dumps(value).encode()
        return Reply(200, ((b"Content-Type", b"application/json"),), body, len(body) + missing, 1.0, 2.0)

    request = Request(f"id-{number}", f"r-{number}", 1_769_860_800_000_000_000 + number, "POST", b"/p", (), b"", 0)
    return encode(
        Exchange(request, reply(live, more), {"s": reply(shadow, 0)}, reply(live, more)),
        proxy="h/1",
        policy=Policy(**{"body_limit": LIMIT, **policy}),
        judge=lambda one, other, budget, about: judge(one, other, rules, budget),
        judge_values=lambda one, other, budget, about: judge_values(one, other, rules, budget),
        rules=rules.digest,
    )


def record_of(*given: Any, **policy: Any) -> Record:
    return decode(line_of(0, *given, **policy))


MATCHING = {"pad": PAD}, {"pad": PAD}
IGNORED = {"pad": PAD, "ignored": 1}, {"pad": PAD, "ignored": 2}
DIFFERING = {"pad": PAD, "a": 1}, {"pad": PAD, "a": 2}
POLICIES: list[tuple[dict[str, Any], str]] = [
    ({}, "cut in the log (log.body_limit)"),
    ({"bodies": "hash"}, "left out of the log (log.bodies)"),
    ({"bodies": "none"}, "left out of the log (log.bodies)"),
]


@pytest.mark.parametrize(("policy", "why"), POLICIES)
@pytest.mark.parametrize(
    ("pair", "verdict"),
    [(MATCHING, Verdict.MATCH), (IGNORED, Verdict.IGNORED), (DIFFERING, Verdict.MISMATCH)],
)
def test_a_recorded_verdict_stands_by_its_own_rules_and_where_none_are_given(
    pair: Any, verdict: Verdict, policy: dict[str, Any], why: str
) -> None:
    record = record_of(*pair, **policy)
    live, shadow = record.live, record.shadows["s"]
    for rules in (RULES, Rules(), Rules(ignore=("/ignored", "/ignored"))):
        assert recompared(live, shadow, rules, recorded_by=record.rules).verdict is verdict
    other = recompared(live, shadow, OTHER, recorded_by=record.rules)
    assert (other.verdict, other.why) == (Verdict.INCOMPARABLE, f"live: {why}, and the record is by other rules")
    assert recompared(live, shadow, OTHER, recorded_by=None).verdict is verdict, "an older log has no digest"


def test_what_could_not_be_compared_then_keeps_its_reason() -> None:
    record = record_of(*DIFFERING, more=1)
    for rules in (RULES, Rules(), OTHER):
        compared = recompared(record.live, record.shadows["s"], rules, recorded_by=record.rules)
        assert (compared.verdict, compared.why) == (Verdict.INCOMPARABLE, "live: longer than limits.capture")


def test_whole_bodies_are_compared_by_the_given_rules() -> None:
    record = record_of(*IGNORED, body_limit=1 << 20)
    live, shadow = record.live, record.shadows["s"]
    assert recompared(live, shadow, RULES, recorded_by=record.rules).verdict is Verdict.IGNORED
    assert recompared(live, shadow, OTHER, recorded_by=record.rules).verdict is Verdict.MISMATCH
    assert recompared(live, shadow, Rules(), recorded_by=record.rules).verdict is Verdict.MISMATCH


def found_by(compared: Compared) -> Any:
    found = compared.diff
    return compared.verdict, found and (found.listed(), found.count, found.where, found.near)


@pytest.mark.source
@pytest.mark.parametrize(
    ("live", "shadow", "compared"),
    [
        ({"a": [1, {"b": None}]}, {"a": [1, {"b": None}]}, 0),
        ({"a": 1.0}, {"a": 1.0 + 1e-12}, 1),  # by tolerance, which is counted
        ({"a": 1}, {"a": 2}, 1),
    ],
)
def test_a_match_by_the_same_rules_is_not_looked_for_again(
    live: Any, shadow: Any, compared: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    calls = 0

    def counted(*given: Any) -> Diff:
        nonlocal calls
        calls += 1
        return diff(*given)

    record = record_of(live, shadow, body_limit=1 << 20)
    one, other = record.live, record.shadows["s"]
    contents = content_of(one), content_of(other)
    expected = found_by(compare(one, other, RULES))
    monkeypatch.setattr("shadowproxy.compare.judge.verdict.diff", counted)
    assert found_by(recompared(one, other, RULES, About(contents=contents), record.rules)) == expected
    assert calls == compared
    assert found_by(recompared(one, other, OTHER, About(contents=contents), record.rules)) == expected
    assert calls == compared + 1


@pytest.mark.parametrize(
    ("body", "setting"),
    [
        (None, None),
        (Body("json", 1, 1), None),
        (Body("text", "{", 100, truncated=True, sha256="00"), "log.body_limit"),
        (Body("bytes", b"{", 100, truncated=True), "log.body_limit"),
        (Body("none", None, 100, truncated=True), "log.bodies"),
        (Body("none", None, 100, truncated=True, redacted="why"), "log.redact"),
    ],
)
def test_the_setting_that_left_a_body_out_is_known(body: Body | None, setting: str | None) -> None:
    assert left_out_by(body) == setting
    if body is not None and body.truncated:
        assert left_out_by(body, "longer than limits.capture") == "limits.capture"
        assert left_out_by(body, NOT_COPIED) == left_out_by(body, NO_JSON) == "not captured"
        assert left_out_by(body, "something else") == setting


def reported(lines: list[bytes], rules: Rules = RULES) -> Any:
    return to_json(summarise(map(decode, lines), rules))


def test_the_report_says_which_settings_left_answers_out() -> None:
    withheld: dict[str, Any] = {"redaction": Redaction(json=("/a",)), "body_limit": 1 << 20}
    lines = [
        line_of(1, *MATCHING),
        line_of(2, {"a": 1}, DIFFERING[1]),
        line_of(3, *MATCHING, more=1),
        line_of(4, *MATCHING, bodies="none"),
        line_of(5, "not searchable", float("nan"), **withheld),
        line_of(6, {"a": 1}, {"a": 1}),
    ]
    figures = reported(lines)
    rows = figures["shadows"]["s"]["coverage"]["left_out"]
    assert rows == [
        {"setting": "log.body_limit", "live": 1, "shadow": 3},
        {"setting": "limits.capture", "live": 1, "shadow": 0},
        {"setting": "log.bodies", "live": 1, "shadow": 1},
        {"setting": "log.redact", "live": 0, "shadow": 1},
    ]
    said = (
        "answers that the log has not whole: 1 of live's and 3 of the shadow's (log.body_limit), "
        "1 of live's and 0 of the shadow's (limits.capture), 1 of live's and 1 of the shadow's (log.bodies)"
    )
    console = Console(width=1000, record=True, file=io.StringIO())
    print_figures(figures, console)
    assert said in console.export_text()
    assert said in to_markdown(figures).replace("\\", "")
    assert said[1:] in to_html(figures).replace("&#x27;", "'").replace("&#39;", "'")


def test_a_report_without_such_answers_says_nothing_of_them() -> None:
    figures = reported([line_of(1, {"a": 1}, {"a": 1})])
    assert figures["shadows"]["s"]["coverage"]["left_out"] == []
    assert "not whole" not in to_markdown(figures)


def test_a_summary_of_before_this_was_counted_is_read() -> None:
    summary = summarise([record_of(*MATCHING)], RULES)
    whole = summary.to_json()
    text = json.dumps(whole)
    assert '"left_out": {"live log.body_limit": 1, "shadow log.body_limit": 1}' in text
    before = json.loads(text)
    stripped = strip(before)
    loaded = Summary.from_json(stripped)
    assert to_json(loaded)["shadows"]["s"]["coverage"]["left_out"] == []
    assert load(save(summary)).to_json() == whole


def strip(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: strip(each) for key, each in value.items() if key != "left_out"}
    return [strip(each) for each in value] if isinstance(value, list) else value
