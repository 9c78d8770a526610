"""Translated and learnt IDs: what records say of them, and that comparing takes a pair as equal."""

import json
from functools import partial
from io import StringIO
from typing import Any

import pytest
from rich.console import Console

from shadowproxy.answers import About, about
from shadowproxy.answers.issued import pairs_of, with_lives_ids
from shadowproxy.budget import Budget
from shadowproxy.compare.fold.pair_builder import PairBuilder
from shadowproxy.compare.fold.reading import Reading
from shadowproxy.compare.judge import verdict
from shadowproxy.compare.judge.recompare import recompared
from shadowproxy.compare.judge.rules import Rules
from shadowproxy.compare.report.show import print_exchange
from shadowproxy.compare.report.tail import print_line
from shadowproxy.exchange import Exchange, Failure, Learnt, Outcome, Reply, Request, Translated, Verdict
from shadowproxy.record import Judgement, Record, RecordedLeg, decode
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


# --- comparing

ITEM, OWN = "b0c1d2e3-live", "77fe55aa-own"


@pytest.mark.parametrize(
    ("live", "shadow", "pairs", "made", "places"),
    [
        ({"id": ITEM}, {"id": OWN}, [(ITEM, OWN)], {"id": ITEM}, ("/id",)),
        ({"self": f"/items/{ITEM}"}, {"self": f"/items/{OWN}"}, [(ITEM, OWN)], {"self": f"/items/{ITEM}"}, ("/self",)),
        ([1, {"a/b": ITEM}], [1, {"a/b": OWN}], [(ITEM, OWN)], [1, {"a/b": ITEM}], ("/*/a~1b",)),
        ([], [OWN], [(ITEM, OWN)], [ITEM], ("/*",)),  # also where live has nothing
        ({ITEM: 1}, {OWN: 1}, [(ITEM, OWN)], {ITEM: 1}, ()),
        ({"id": 17, "n": 9}, {"id": 23, "n": 23}, [("17", "23")], {"id": 17, "n": 23}, ("/id",)),
        ({"id": "17"}, {"id": "23"}, [("17", "23")], {"id": "17"}, ("/id",)),
        (
            {"text": "17 pieces"},
            {"text": "23 pieces"},
            [("17", "23")],
            {"text": "23 pieces"},
            (),
        ),  # too short to be one
        ({"id": ITEM}, {"id": f"x{OWN}"}, [(ITEM, OWN)], {"id": f"x{OWN}"}, ()),  # a part of a word
        ({"id": ITEM}, {"id": "another-of-its-own"}, [(ITEM, OWN)], {"id": "another-of-its-own"}, ()),
        ({"id": 17}, {"id": "23"}, [("17", "23")], {"id": "23"}, ()),  # another type is a difference
        ({"id": True}, {"id": False}, [("True", "False")], {"id": False}, ()),
        ({"class": 7}, {"class": 8}, [("7", "8")], {"class": 8}, ()),  # a short one is no answer
        ({"label": "7"}, {"label": "8"}, [("7", "8")], {"label": "8"}, ()),
        ({"ids": [7], "noteId": 7, "note_id": 7}, {"ids": [8], "noteId": 8, "note_id": 8}, [("7", "8")], None, None),
        ({"parent": 7}, {"parent": 8}, [("7", "8", "json:/notes/0/parent")], {"parent": 7}, ("/parent",)),
    ],
)
def test_the_shadows_ids_count_as_lives(live: Any, shadow: Any, pairs: Any, made: Any, places: Any) -> None:
    issued = pairs_of([(*pair, "path")[:3] for pair in pairs])
    found = with_lives_ids(live, shadow, issued, Budget())
    if made is None:
        assert found.value == live
        return
    assert (found.value, found.places) == (made, places)
    if not places and made == shadow:
        assert found.value is shadow


def judged(live: bytes, leg: Reply) -> Record:
    def judge(one: RecordedLeg, other: RecordedLeg, budget: Budget, about: About) -> Judgement:
        return verdict.judge(one, other, Rules(), budget, about)

    request = Request("id-1", "rec-2", 1_769_860_800_123_456_789, "GET", b"/items/1", (), b"", 0)
    told = Exchange(request, Reply(200, JSON, live, len(live), 1.0, 2.0), {"a": leg})
    values = partial(verdict.judge_values, rules=Rules())
    whole = encode(
        told,
        proxy="h/0",
        policy=Policy(),
        judge=judge,
        judge_values=lambda one, other, budget, about: values(one, other, budget=budget, about=about),
        rules=Rules().digest,
    )
    return decode(whole)


@pytest.mark.parametrize(
    ("live", "shadow", "expected"),
    [
        (b'{"id":"b0c1d2e3","n":1}', b'{"id":"77fe55aa","n":1}', Verdict.MATCH),
        (b'{"id":"b0c1d2e3","n":1}', b'{"id":"77fe55aa","n":2}', Verdict.MISMATCH),
        (b'{"id":"b0c1d2e3","n":1}', b'{"id":"00000000","n":1}', Verdict.MISMATCH),
        (b'data: {"a":"b0c1d2e3"}\n\n', b'data: {"a":"77fe55aa"}\n\n', Verdict.MATCH),
        (b"item b0c1d2e3 is there", b"item 77fe55aa is there", Verdict.MATCH),
    ],
)
def test_ids_are_set_aside_while_it_runs_and_by_a_report(live: bytes, shadow: bytes, expected: Verdict) -> None:
    record = judged(live, answered(IN_PATH, body=shadow))
    leg = record.shadows["a"]
    assert leg.judgement is not None
    assert leg.judgement.verdict is expected
    again = recompared(record.live, leg, Rules(), about(record, "a"), "other rules")
    assert again.verdict is expected
    pair = PairBuilder()
    pair.add(0, record, leg, Reading(Rules(), shadow="a"))
    assert dict(pair.finish().verdicts) == {str(expected): 1}


def test_a_report_names_the_places_of_ids_as_set_aside() -> None:
    record = judged(b'{"id":"b0c1d2e3"}', answered(IN_PATH))
    assert record.shadows["a"].judgement == Judgement(Verdict.MATCH, (), None, ("/id",))
    pair = PairBuilder()
    pair.add(0, record, record.shadows["a"], Reading(Rules(), shadow="a"))
    assert list(pair.finish().per_call) == ["/id"]


# --- showing


def test_show_and_tail_name_the_ids() -> None:
    record = judged(b'{"id":"b0c1d2e3"}', answered(IN_PATH, learnt=(Learnt("json:/next", "aaaa1111", "bbbb2222"),)))
    out = StringIO()
    print_exchange(record, Console(file=out, width=150))
    assert "sent with its own ID in path: live's b0c1d2e3, its own 77fe55aa, learnt from record rec-1" in out.getvalue()
    assert "issued at json:/next: live's aaaa1111, its own bbbb2222" in out.getvalue()
    line = StringIO()
    print_line(record, Console(file=line, width=150), rules=Rules())
    assert "a 200 2.0 ms (own ID in path) match" in line.getvalue()
