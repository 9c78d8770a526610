"""What a record says of an answer that failed, and of a caller that left: no more than it has of the body."""

import json
from collections.abc import Mapping
from typing import Any

import pytest
from test_alike import chat, message

from shadowproxy.answers import About
from shadowproxy.budget import Budget
from shadowproxy.compare.judge.rules import Rules
from shadowproxy.compare.judge.verdict import judge, judge_values
from shadowproxy.exchange import Exchange, Fields, Reply, Request
from shadowproxy.record import Judgement, RecordedLeg, decode
from shadowproxy.recorder.line import encode
from shadowproxy.recorder.policy import Policy
from shadowproxy.redaction import BLANK, Redaction

JSON = (b"Content-Type", b"application/json")
EVENTS = (b"Content-Type", b"text/event-stream")
TOKEN = "t0k3n-of-the-caller"
GOOD = b'{"y": 1}'
BAD = json.dumps({"error": {"message": f"no such user {TOKEN}"}}).encode()


def reply(body: bytes, kind: tuple[bytes, bytes] | None = JSON, status: int = 200, **more: Any) -> Reply:
    fields: Fields = () if kind is None else (kind,)
    return Reply(status, fields, body, len(body), 1.0, 2.0, **more)


def events(*data: Any) -> Reply:
    return reply(b"".join(b"data: %b\n\n" % json.dumps(each).encode() for each in data), EVENTS)


def recorded(live: Reply, *shadows: Reply, judged: bool = True, **policy: Any) -> dict[str, Any]:
    asked: Fields = (JSON, (b"Authorization", f"Bearer {TOKEN}".encode()))
    request = Request("id-1", "rec-1", 1_769_860_800_123_456_789, "POST", b"/p", asked, b"{}", 2)
    rules = Rules()

    def by_rules(one: RecordedLeg, other: RecordedLeg, budget: Budget, about: About) -> Judgement:
        return judge(one, other, rules, budget, about)

    def by_values(one: Any, other: Any, budget: Budget, about: About) -> Judgement:
        return judge_values(one, other, rules, budget, about)

    whole = Exchange(request, live, {f"s{at}": each for at, each in enumerate(shadows)})
    judges: Mapping[str, Any] = {"judge": by_rules, "judge_values": by_values} if judged else {"judge": None}
    line = encode(whole, proxy="h/0", policy=Policy(**policy), **judges)
    decode(line)
    found: dict[str, Any] = json.loads(line)
    return found


def test_a_failed_answer_says_why_in_its_leg_and_in_the_difference() -> None:
    record = recorded(reply(GOOD), reply(b'{"error": "boom"}'), reply(GOOD))
    assert "failed" not in record["live"]
    assert record["shadows"]["s0"]["failed"] == "boom"
    assert record["shadows"]["s0"]["differences"] == [{"path": "", "kind": "failed", "live": None, "shadow": "boom"}]
    assert record["shadows"]["s1"]["verdict"] == "match"
    assert "failed" not in record["shadows"]["s1"]


def test_live_failed_says_so_though_no_shadow_was_asked() -> None:
    assert recorded(reply(b'{"error": "boom"}'))["live"]["failed"] == "boom"
    assert "failed" not in recorded(reply(b'{"error": "boom"}', status=500))["live"], "the status says it"


def test_a_stream_that_is_compared_with_nothing_is_not_put_together() -> None:
    assert "failed" not in recorded(events({"error": "boom"}))["live"]
    assert recorded(events({"error": "boom"}), reply(GOOD))["live"]["failed"] == "boom"


def test_a_stream_that_broke_off_says_so_beside_a_whole_one() -> None:
    piece = {"choices": [{"index": 0, "delta": {"content": "a"}, "finish_reason": None}]}
    end = {"choices": [{"index": 0, "delta": {}, "finish_reason": "stop"}]}
    record = recorded(events(piece), events(piece, end))
    assert record["live"]["failed"] == "the stream ended before it was complete"
    assert [each["kind"] for each in record["shadows"]["s0"]["differences"]] == ["failed"]


def test_a_long_answer_that_failed_says_so_where_it_is_compared() -> None:
    long = json.dumps({"error": "boom", "message": "x" * 300}).encode()
    record = recorded(reply(long), reply(GOOD), body_limit=100)
    assert record["live"]["failed"].startswith("boom")
    assert record["shadows"]["s0"]["differences"][0]["kind"] == "failed"


def test_two_that_failed_alike_match_and_both_say_so() -> None:
    record = recorded(reply(b'{"error": "boom"}'), reply(b'{"error": "boom"}'), reply(b'{ "error": "boom" }'))
    legs = [record["live"], *record["shadows"].values()]
    assert [leg["failed"] for leg in legs] == ["boom"] * 3
    assert [leg["verdict"] for leg in legs[1:]] == ["match"] * 2


def test_without_comparing_nobody_looks() -> None:
    record = recorded(reply(b'{"error": "boom"}'), reply(GOOD), judged=False)
    assert "failed" not in record["live"]


def test_the_reason_has_no_secret_of_the_request() -> None:
    record = recorded(reply(GOOD), reply(BAD))
    assert TOKEN not in json.dumps(record)
    assert record["shadows"]["s0"]["failed"].startswith("no such user")


@pytest.mark.parametrize(
    "policy",
    [{"bodies": "hash"}, {"bodies": "none"}, {"redaction": Redaction(json=("/error/message",))}],
    ids=["hash", "none", "redacted"],
)
def test_the_reason_is_blank_where_the_body_is_not_in_the_log(policy: dict[str, Any]) -> None:
    record = recorded(reply(GOOD), reply(BAD), **policy)
    leg = record["shadows"]["s0"]
    assert leg["failed"] == BLANK
    assert leg["differences"] == [{"path": "", "kind": "failed", "live": None, "shadow": BLANK}]
    assert "no such user" not in json.dumps(record)


def test_the_reason_stands_where_nothing_was_redacted() -> None:
    record = recorded(reply(GOOD), reply(b'{"error": "boom"}'), redaction=Redaction(json=("/user",)))
    assert record["shadows"]["s0"]["failed"] == "boom"
    stream = events({"error": "boom"})
    record = recorded(stream, reply(GOOD), redaction=Redaction(json=("/user",)))
    assert record["live"]["failed"] == BLANK, "it cannot be searched"


def test_values_of_two_forms_are_blank_where_places_are_redacted() -> None:
    one, other = reply(json.dumps(chat("my secret", 1)).encode()), reply(json.dumps(message("no secret", 2)).encode())
    record = recorded(one, other, redaction=Redaction(json=("/choices/*/message/content", "/content")))
    (difference,) = record["shadows"]["s0"]["differences"]
    assert difference == {
        "path": "/choices/0/answer", "shadow_path": "/answer", "kind": "value", "live": BLANK, "shadow": BLANK,
    }  # fmt: skip
    assert "secret" not in json.dumps(record)


def test_the_record_says_that_the_caller_left_after_the_end() -> None:
    record = recorded(reply(GOOD, caller_left=True), reply(GOOD))
    assert record["live"]["caller_left"] is True
    assert record["live"]["outcome"] == "ok"
    assert "caller_left" not in record["shadows"]["s0"]
    assert decode(json.dumps(record).encode()).live.caller_left


def test_a_record_of_an_earlier_version_has_none_of_it() -> None:
    record = recorded(reply(GOOD), reply(GOOD))
    leg = decode(json.dumps(record).encode()).live
    assert (leg.failed, leg.caller_left) == (None, False)
