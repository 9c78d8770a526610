"""What records say of translated and learnt IDs, and read back."""

import json
from typing import Any

import pytest

from shadowproxy.exchange import Exchange, Failure, Learnt, Outcome, Reply, Request, Translated
from shadowproxy.record import decode
from shadowproxy.recorder.line import encode
from shadowproxy.recorder.policy import Policy
from shadowproxy.redaction import Redaction

JSON = ((b"Content-Type", b"application/json"),)


def line_of(leg: Reply | Failure, **policy: Any) -> bytes:
    request = Request("id-1", "rec-2", 1_769_860_800_123_456_789, "GET", b"/items/b0c1d2e3", (), b"", 0)
    answer = b'{"id":"b0c1d2e3"}'
    live = Reply(200, JSON, answer, len(answer), 1.0, 2.0)
    return encode(Exchange(request, live, {"a": leg}), proxy="h/0", policy=Policy(**policy), judge=None)


def answered(*translated: Translated, learnt: tuple[Learnt, ...] = (), body: bytes = b'{"id":"77fe55aa"}') -> Reply:
    return Reply(200, JSON, body, len(body), 1.0, 2.0, translated=translated, learnt=learnt)


IN_PATH = Translated("path", "rec-1", "b0c1d2e3", "77fe55aa")
SESSION = Translated("header:Mcp-Session-Id", "rec-1", "livesecret1", "ownsecret22")


def test_a_leg_says_what_was_translated_and_learnt_and_is_read_back() -> None:
    new = Learnt("json:/next/id", "aaaa1111", "bbbb2222")
    line = line_of(answered(IN_PATH, learnt=(new,)))
    leg = json.loads(line)["shadows"]["a"]
    assert leg["translated"] == [{"in": "path", "learnt_from": "rec-1", "live": "b0c1d2e3", "shadow": "77fe55aa"}]
    assert leg["learnt"] == [{"at": "json:/next/id", "live": "aaaa1111", "shadow": "bbbb2222"}]
    read = decode(line).shadows["a"]
    assert (read.translated, read.learnt) == ((IN_PATH,), (new,))


def test_a_leg_that_failed_says_what_was_translated() -> None:
    read = decode(line_of(Failure(Outcome.TIMEOUT, "late", 9.0, translated=(IN_PATH,)))).shadows["a"]
    assert read.translated == (IN_PATH,)


def test_a_leg_without_any_has_neither_key() -> None:
    leg = json.loads(line_of(answered()))["shadows"]["a"]
    assert not leg.keys() & {"translated", "learnt"}


def test_entries_without_values_are_read() -> None:
    line = line_of(answered(IN_PATH)).replace(b',"live":"b0c1d2e3","shadow":"77fe55aa"', b"")
    assert decode(line).shadows["a"].translated == (IN_PATH._replace(live="", shadow=""),)


@pytest.mark.parametrize(
    ("place", "policy"),
    [
        ("header:Mcp-Session-Id", {}),
        ("cookie:basket", {}),
        ("query:api_key", {}),
        ("query:basket", {"redaction": Redaction(query=frozenset({"basket"}))}),
        ("json:/user/id", {"redaction": Redaction(json=("/user",))}),
        ("json:/user/id", {"bodies": "hash"}),
    ],
)
def test_a_value_is_shown_only_where_the_record_shows_what_stands_there(place: str, policy: dict[str, Any]) -> None:
    line = line_of(answered(SESSION._replace(place=place)), **policy)
    [entry] = json.loads(line)["shadows"]["a"]["translated"]
    assert (entry["in"], entry["learnt_from"]) == (place, "rec-1")
    assert b"livesecret1" not in line
    assert b"ownsecret22" not in line


def test_the_shadows_own_secret_is_looked_for_in_its_answer() -> None:
    line = line_of(answered(SESSION, body=b'{"session":"ownsecret22"}'))
    assert b"ownsecret22" not in line
    assert decode(line).shadows["a"].body is not None
