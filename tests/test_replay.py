"""A log asked again: what is sent byte for byte, what is not and why, at which pace, and the log that comes of it."""

import asyncio
import gzip
import json
import os
import signal
import sys
from collections import Counter
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import orjson
import pytest
from conftest import StartProxy
from fakes import Origin, Peer, always, answer, refusing_port, silent
from logs import pair_of

from shadowproxy.cli.replay import _shadow as endpoint
from shadowproxy.compare.fold.filters import Condition, Only
from shadowproxy.compare.fold.summary import summarise
from shadowproxy.compare.judge.rules import Rules
from shadowproxy.config import Shadow, from_values
from shadowproxy.exchange import Exchange, Fields, Outcome, Reply, Request, Verdict
from shadowproxy.record import Record, decode, read
from shadowproxy.recorder.line import encode
from shadowproxy.recorder.policy import Policy
from shadowproxy.redaction import Redaction
from shadowproxy.replay.plan import MOST_METHODS, Plan, ReplayCounts, ReplayError
from shadowproxy.replay.request import NotSent, ReplayRequest, replay_request
from shadowproxy.replay.run import send_all
from shadowproxy.replay.screen import lines as screen
from shadowproxy.serve.policy.rewrite import raw_value_at

JSON = ((b"Content-Type", b"application/json"),)
START = 1_769_860_800_000_000_000
OK = always(answer(b'{"p":1}', *JSON))


def line(
    number: int = 0,
    body: bytes = b'{"n":1}',
    fields: Fields = JSON,
    target: bytes = b"/predict",
    *,
    live: bytes = b'{"p":1}',
    seconds: float = 0.0,
    policy: Policy | None = None,
    size: int | None = None,
    method: str = "POST",
) -> bytes:
    """A record as a proxy writes it."""
    length = (b"Content-Length", b"%d" % len(body))
    at = START + int(seconds * 1e9)
    whole = len(body) if size is None else size
    request = Request(f"id-{number}", f"r-{number}", at, method, target, (*fields, length), body, whole)
    reply = Reply(200, JSON, live, len(live), 1.0, 2.0)
    exchange = Exchange(request, reply, {"old": reply})
    return encode(exchange, proxy="h/1", policy=policy or Policy(), judge=None)


def asked(
    raw: bytes, put: frozenset[str] = frozenset(), query: Mapping[str, str] | None = None
) -> ReplayRequest | NotSent:
    text = raw_value_at(raw_value_at(raw, ("request",)) or b"", ("body",))
    return replay_request(decode(raw), text, "new", put=put, query=query or {})


def sent(raw: bytes, put: frozenset[str] = frozenset(), query: Mapping[str, str] | None = None) -> ReplayRequest:
    made = asked(raw, put, query)
    assert isinstance(made, ReplayRequest)
    return made


# --- what is sent ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "body",
    [
        b'{"a":1.10,"a":2e400,"b":12345678901234567890123}',
        b'{ "spelt" : "\\u00e9\\/" , "x":[ ] }',
        '{"line":"\u2028","é":1}'.encode(),
        b"",
    ],
)
def test_a_json_body_is_sent_byte_for_byte(body: bytes) -> None:
    made = sent(line(body=body))
    assert made.body == body
    assert not made.inexact
    assert (b"content-length", b"%d" % len(body)) in made.fields


@pytest.mark.parametrize(
    ("body", "content_type"),
    [
        (b'line\nbreaks "and" \xc3\xa9', b"text/plain"),
        (b"\x00\xff\xfe", b"application/octet-stream"),
        (b"{", b"application/json"),
    ],
)
def test_text_and_bytes_are_sent_as_they_were(body: bytes, content_type: bytes) -> None:
    assert sent(line(body=body, fields=((b"Content-Type", content_type),))).body == body


def test_a_body_that_was_compressed_is_sent_plain_and_without_the_field() -> None:
    raw = line(body=gzip.compress(b'{"n":1}'), fields=(*JSON, (b"Content-Encoding", b"gzip"), (b"Digest", b"x")))
    made = sent(raw)
    assert (made.body, made.decoded, made.inexact) == (b'{"n":1}', True, False)
    assert not {b"content-encoding", b"digest"} & set(dict(made.fields))
    assert dict(made.fields)[b"content-length"] == b"7"


def test_a_coding_that_the_log_could_not_undo_stays_on_the_body() -> None:
    made = sent(line(body=b"\x01\x02", fields=(*JSON, (b"Content-Encoding", b"unheard-of"))))
    assert (made.body, made.decoded) == (b"\x01\x02", False)
    assert dict(made.fields)[b"content-encoding"] == b"unheard-of"


def test_a_body_whose_length_the_log_does_not_have_is_sent_with_its_length() -> None:
    """Without it an endpoint would read the body as the next request on the connection."""
    redacted = Policy(redaction=Redaction(headers=frozenset({"content-*"})))
    made = sent(line(policy=redacted))
    assert (made.body, made.left_out) == (b'{"n":1}', ("content-type",))
    assert [value for name, value in made.fields if name == b"content-length"] == [b"7"]


def test_a_chunked_body_gets_no_length() -> None:
    raw = line(fields=(*JSON, (b"Transfer-Encoding", b"chunked"))).replace(b'"content-length":"7",', b"")
    made = sent(raw.replace(b',"content-length":"7"', b""))
    assert b"content-length" not in dict(made.fields)
    assert dict(made.fields)[b"transfer-encoding"] == b"chunked"


def test_a_log_that_was_written_anew_is_told_of() -> None:
    raw = orjson.dumps(orjson.loads(line(body=b'{ "n" : 1 }')))
    made = sent(raw)
    assert (made.body, made.inexact) == (b'{"n":1}', True)


def test_the_target_and_repeated_fields_are_as_they_came() -> None:
    fields = (*JSON, (b"X-Tag", b"a"), (b"X-Tag", b"b"), (b"Connection", b"close"), (b"Expect", b"100-continue"))
    made = sent(line(fields=fields, target=b"/a%2Fb//c?q=%20&q=2"))
    assert made.target == b"/a%2Fb//c?q=%20&q=2"
    assert [value for name, value in made.fields if name == b"x-tag"] == [b"a", b"b"]
    assert not {b"connection", b"expect"} & {name for name, _ in made.fields}
    assert (b"X-Shadow-Request", b"new") in made.fields


def test_a_redacted_credential_is_left_out_and_named_unless_it_is_filled_in() -> None:
    fields = (*JSON, (b"Authorization", b"Bearer s3cret"), (b"Referer", b"http://user:s3cret@a/"))
    raw = line(fields=fields, target=b"/p?a=1&api_key=s3cret&b=2")
    made = sent(raw)
    assert made.left_out == ("authorization", "referer", "?api_key")
    assert made.target == b"/p?a=1&b=2"
    assert not {b"authorization", b"referer"} & {name for name, _ in made.fields}
    made = sent(raw, frozenset({"authorization"}), {"api_key": "n&w"})
    assert made.left_out == ("referer",)
    assert made.target == b"/p?a=1&api_key=n%26w&b=2"


def test_what_is_left_out_of_a_target_leaves_the_rest_as_it_was() -> None:
    raw = line(target=b"/p;jsessionid=s3cret/q?a=%20;token=s3cret;b&&sk-" + b"a1B2c3D4" * 5 + b"&token=s3cret&c=%zz")
    made = sent(raw)
    assert made.target == b"/p/q?a=%20;b&&c=%zz"
    assert made.left_out == (";jsessionid", "?token", "?")
    assert sent(raw, query={"token": "n&w"}).target == b"/p/q?a=%20;token=n%26w;b&&token=n%26w&c=%zz"


def test_a_parameter_that_the_endpoint_sets_itself_need_not_be_filled_in() -> None:
    raw = line(target=b"/p?a=1&api_key=s3cret")
    text = raw_value_at(raw_value_at(raw, ("request",)) or b"", ("body",))
    made = replay_request(decode(raw), text, "new", put=frozenset(), query={}, own={"api_key": "x"})
    assert isinstance(made, ReplayRequest)
    assert (made.target, made.left_out) == (b"/p?a=1", ())


def test_a_credential_that_an_earlier_version_logged_is_held_back_unless_it_may_be_sent() -> None:
    token = "a1B2c3D4" * 5
    raw = line(fields=(*JSON, (b"X-Up", b"-up-"), (b"X-Kind", b"Token")), target=b"/p?a=1&x=-x-")
    raw = raw.replace(b"-up-", f"Bearer {token}".encode()).replace(b"-x-", f"ghp_{token}".encode())
    made = sent(raw)
    assert made.left_out == ("x-up", "?x")
    assert (made.target, token in repr(made.fields), (b"x-kind", b"Token") in made.fields) == (b"/p?a=1", False, True)
    text = raw_value_at(raw_value_at(raw, ("request",)) or b"", ("body",))
    made_whole = replay_request(decode(raw), text, "new", put=frozenset(), query={}, credentials=True)
    assert isinstance(made_whole, ReplayRequest)
    assert made_whole.left_out == ()
    assert made_whole.target == f"/p?a=1&x=ghp_{token}".encode()
    assert (b"x-up", f"Bearer {token}".encode()) in made_whole.fields


def test_what_was_left_out_is_told_in_words() -> None:
    counts = ReplayCounts(begun=2, left_out=Counter({";jsessionid": 1, "?": 2, "?token": 1, "x-up": 2}))
    plan = Plan(logs=(), name="new", shadow=Shadow(url="http://a"), output=Path("new"))
    assert [words for words in screen(plan, counts) if words.startswith("left out")] == [
        "left out    jsessionid in the path, redacted in the log, in 1 request",
        "left out    a part of the query, redacted in the log, in 2 requests",
        "left out    token, redacted in the log, in 1 request; fill it in: --query 'token=${NAME}'",
        "left out    x-up, redacted in the log, in 2 requests; fill it in: --header 'x-up: ${NAME}'",
    ]


FORM = ((b"Content-Type", b"application/x-www-form-urlencoded"),)


@pytest.mark.parametrize(
    ("raw", "why"),
    [
        (line(body=b'{"n":"' + b"x" * 100 + b'"}', policy=Policy(body_limit=20)), NotSent.NOT_WHOLE),
        (line(policy=Policy(bodies="hash")), NotSent.NOT_WHOLE),
        (line(policy=Policy(bodies="none")), NotSent.NOT_WHOLE),
        (line(size=100), NotSent.NOT_WHOLE),
        (line(policy=Policy(redaction=Redaction(json=("/n",)))), NotSent.REDACTED),
        (line(policy=Policy(redaction=Redaction(json=("/n",), hash_key=b"k"))), NotSent.REDACTED),
        (line(body=b"text", policy=Policy(redaction=Redaction(json=("/n",)))), NotSent.REDACTED),
        (
            line(
                body=b'{"n":1}\n{"n":2}',
                fields=((b"Content-Type", b"application/x-ndjson"),),
                policy=Policy(redaction=Redaction(json=("/n",))),
            ),
            NotSent.REDACTED,
        ),
        (line(body=b"a=1&password=x", fields=FORM), NotSent.REDACTED),
        (
            line().replace(
                b',"control":null',
                b',"control":null,"tunnel":{"from_caller_bytes":1,"from_live_bytes":2,"ended_by":"live"}',
            ),
            NotSent.TUNNEL,
        ),
    ],
)
def test_what_the_log_has_not_whole_is_not_sent(raw: bytes, why: NotSent) -> None:
    assert asked(raw) is why


def test_text_that_only_speaks_of_a_redaction_is_sent() -> None:
    for body, content_type in ((b"it says [redacted]", b"text/plain"), (b'{"n":"so [redacted] it is"}', b"text/json")):
        assert sent(line(body=body, fields=((b"Content-Type", content_type),))).body == body


# --- the run ---------------------------------------------------------------------------------------------------------


def shadow(url: str, **options: Any) -> Shadow:
    return from_values({"live": {"respond": {}}, "shadows": {"new": {"url": url, **options}}}).shadows["new"]


def plan(tmp_path: Path, url: str, *lines: bytes, **options: Any) -> Plan:
    log = tmp_path / "old.jsonl"
    log.write_bytes(b"".join(lines))
    settings = {key: options.pop(key) for key in ("timeout", "in_flight", "headers", "rewrite") if key in options}
    made = Plan((str(log),), "new", shadow(url, **settings), tmp_path / "new", rate=float("inf"))
    return replace(made, **options)


def records(directory: Path) -> list[Record]:
    found = list(read([directory]))
    assert all(isinstance(each, Record) for each in found)
    return [each for each in found if isinstance(each, Record)]


async def test_a_new_record_has_live_byte_for_byte_as_it_was_and_the_new_answer_beside_it(tmp_path: Path) -> None:
    old = line(7, live=b'{"p": 1.10, "p": 1.0e2}')
    async with Origin(always(answer(b'{"p":1}', *JSON))) as origin:
        counts = await send_all(plan(tmp_path, origin.url, old))
    (path,) = (tmp_path / "new").iterdir()
    new = path.read_bytes()
    assert raw_value_at(new, ("live",)) == raw_value_at(old, ("live",))
    assert raw_value_at(new, ("request",)) == raw_value_at(old, ("request",))
    whole = json.loads(new)
    assert (whole["id"], whole["at"], whole["control"]) == ("id-7", decode(old).at, None)
    assert whole["record"] != "r-7"
    assert whole["replay"]["of"] == "r-7"
    assert list(whole["shadows"]) == ["new"]
    assert whole["shadows"]["new"]["verdict"] == "mismatch"
    assert counts.verdicts == {Verdict.MISMATCH: 1}


async def test_the_verdict_of_a_new_record_is_what_a_report_makes_of_it(tmp_path: Path) -> None:
    bodies = [b'{"p":1,"id":"a"}', b'{"p":2}', b'{"p":1.5}', b"not json", b"x" * 300_000]
    rules = Rules(ignore=("/id",), tolerance={"/p": 0.6})
    async with Origin(OK) as origin:
        counts = await send_all(
            plan(tmp_path, origin.url, *(line(n, live=live) for n, live in enumerate(bodies)), rules=rules)
        )
    pair = pair_of(summarise(records(tmp_path / "new"), rules), "new")
    assert counts.verdicts == {Verdict.IGNORED: 1, Verdict.MATCH: 1, Verdict.MISMATCH: 2, Verdict.INCOMPARABLE: 1}
    assert dict(pair.verdicts) == {str(verdict): count for verdict, count in counts.verdicts.items()}


async def test_what_was_redacted_in_both_answers_is_no_difference(tmp_path: Path) -> None:
    policy = Policy(redaction=Redaction(json=("/name",)))
    old = line(body=b'{"q":1}', live=b'{"name":"a","p":1}', policy=policy)
    async with Origin(always(answer(b'{"name":"b","p":1}', *JSON))) as origin:
        counts = await send_all(plan(tmp_path, origin.url, old, policy=policy))
    assert counts.verdicts == {Verdict.MATCH: 1}
    assert b'"b"' not in next((tmp_path / "new").iterdir()).read_bytes()


async def test_the_endpoint_is_asked_as_the_configuration_says(tmp_path: Path) -> None:
    settings = {
        "headers": {"set": {"Authorization": "Bearer new"}, "remove": ["x-gone"]},
        "rewrite": {"path": {"/predict": "/v2"}, "json": {"/n": 22}},
    }
    fields = (*JSON, (b"Authorization", b"Bearer old"), (b"X-Gone", b"1"), (b"Host", b"live:1"))
    async with Origin(OK) as origin:
        counts = await send_all(plan(tmp_path, f"{origin.url}/base", line(fields=fields), **settings))
        (request,) = origin.requests
    assert (request.target, request.body) == (b"/base/v2", b'{"n":22}')
    assert request.all(b"authorization") == [b"Bearer new"]
    assert request.all(b"x-gone") == []
    assert request.all(b"host") == [origin.url.removeprefix("http://").encode()]
    assert not counts.left_out


async def test_every_way_to_fail_is_an_outcome_in_a_record(tmp_path: Path) -> None:
    with refusing_port() as port:
        refused = await send_all(plan(tmp_path, f"http://127.0.0.1:{port}", line(), line(1)))
    assert refused.outcomes == {Outcome.CONNECT_ERROR: 2}
    assert [each.shadows["new"].outcome for each in records(tmp_path / "new")] == [Outcome.CONNECT_ERROR] * 2
    assert not refused.sound
    async with Origin(silent) as origin:
        late = await send_all(plan(tmp_path, origin.url, line(), timeout=0.05, output=tmp_path / "late"))
    assert late.outcomes == {Outcome.TIMEOUT: 1}
    async with Origin(OK) as origin:
        long = await send_all(plan(tmp_path, origin.url, line(), capture=3, output=tmp_path / "long"))
    assert long.outcomes == {Outcome.ANSWER_OVERSIZE: 1}
    async with Origin(OK) as origin:
        crowded = await send_all(plan(tmp_path, origin.url, line(), memory=3, output=tmp_path / "crowded"))
    assert crowded.outcomes == {Outcome.OVERLOAD: 1}


async def test_answers_that_wait_to_be_written_hold_up_sending_and_are_not_shed(tmp_path: Path) -> None:
    async with Origin(OK) as origin:  # each answer has 7 bytes
        counts = await send_all(plan(tmp_path, origin.url, *(line(n) for n in range(30)), memory=14, in_flight=1))
    assert counts.outcomes == {Outcome.OK: 30}


async def test_no_more_are_under_way_than_allowed(tmp_path: Path) -> None:
    under_way = most = 0
    full = asyncio.Event()

    async def counting(peer: Peer) -> None:
        nonlocal under_way, most
        while await peer.request() is not None:
            under_way += 1
            most = max(most, under_way)
            if under_way == 3:
                asyncio.get_running_loop().call_later(0.05, full.set)  # any more that may come have come by then
            await full.wait()
            under_way -= 1
            await peer.send(answer(b"{}", *JSON))

    async with Origin(counting) as origin:
        counts = await send_all(plan(tmp_path, origin.url, *(line(n) for n in range(30)), in_flight=3))
    assert counts.outcomes == {Outcome.OK: 30}
    assert most == 3


async def timed(tmp_path: Path, *seconds: float, **options: Any) -> list[float]:
    """When the requests came, in seconds after the first, for records of these times."""
    came: list[float] = []

    async def noting(peer: Peer) -> None:
        while await peer.request() is not None:
            came.append(asyncio.get_running_loop().time())
            await peer.send(answer(b"{}", *JSON))

    async with Origin(noting) as origin:
        await send_all(plan(tmp_path, origin.url, *(line(seconds=at) for at in seconds), **options))
    return [at - came[0] for at in came]


@pytest.mark.timing
@pytest.mark.slow
async def test_requests_are_sent_as_far_apart_as_they_came(tmp_path: Path) -> None:
    came = await timed(tmp_path, 100.0, 100.1, 100.3, 100.25, rate=None)
    assert came[1] >= 0.09
    assert came[2] >= 0.29
    assert came[3] - came[2] < 0.2  # its time has passed: at once


@pytest.mark.slow
async def test_requests_are_sent_at_the_rate_asked_for(tmp_path: Path) -> None:
    came = await timed(tmp_path, 0.0, 3600.0, 7200.0, 7200.0, rate=10.0)
    assert all(at >= number * 0.1 - 0.01 for number, at in enumerate(came))
    assert came[-1] < 5.0


@pytest.mark.timing
async def test_at_full_speed_recorded_times_do_not_matter(tmp_path: Path) -> None:
    assert (await timed(tmp_path, 0.0, 3600.0, 7200.0))[-1] < 5.0


@pytest.mark.timing
async def test_requests_that_had_to_wait_are_counted_as_late(tmp_path: Path) -> None:
    async def slow(peer: Peer) -> None:
        while await peer.request() is not None:
            await asyncio.sleep(0.15)
            await peer.send(answer(b"{}", *JSON))

    async with Origin(slow) as origin:
        counts = await send_all(plan(tmp_path, origin.url, line(), line(1), in_flight=1, rate=None))
    assert counts.late == 1
    assert 0.1 < counts.latest < 5.0


async def test_the_logs_of_several_proxies_are_sent_in_the_order_of_their_times(tmp_path: Path) -> None:
    log = tmp_path / "log"
    log.mkdir()
    for proxy, start in (("pod-a-0", 0), ("pod-b-0", 1)):
        for part in range(2):
            lines = b"".join(
                line(n, b'{"n":%d}' % n, seconds=n) for n in range(start + 4 * part, start + 4 * part + 4, 2)
            )
            (log / f"20260131T12000{part}.000000Z-{proxy}-7-000{part + 1}.jsonl").write_bytes(lines)
    async with Origin(OK) as origin:
        whole = plan(tmp_path, origin.url, in_flight=1)
        await send_all(replace(whole, logs=(str(log),)))
        assert [json.loads(request.body)["n"] for request in origin.requests] == list(range(8))


async def test_only_what_is_asked_for_is_sent(tmp_path: Path) -> None:
    lines = [line(n, b'{"n":%d}' % n, seconds=n, target=b"/a" if n % 2 else b"/b") for n in range(20)]
    only = Only(since=START // 1000 + 5_000_000, path="/a", where=(Condition.parse("/n<15"),))
    async with Origin(OK) as origin:
        counts = await send_all(plan(tmp_path, origin.url, *lines, only=only, limit=3))
        assert [json.loads(request.body)["n"] for request in origin.requests] == [5, 7, 9]
    assert counts.begun == 3


async def test_what_is_not_sent_is_counted_under_its_reason(tmp_path: Path) -> None:
    lines = [line(), line(policy=Policy(bodies="none")), b'{"schema":9}\n', b"nonsense\n", b'{"schema":1,"id":"torn']
    async with Origin(OK) as origin:
        made = plan(tmp_path, origin.url, *lines)
        counts = await send_all(made)
    assert (counts.begun, dict(counts.skipped)) == (1, {NotSent.NOT_WHOLE: 1})
    assert dict(counts.unreadable) == {"not a record": 2, "torn line": 1}
    said = "\n".join(screen(made, counts))
    assert "1 request: the log does not have the whole body" in said
    assert "2 lines of the log: not a record" in said


WRITES = ["PUT", "PATCH", "DELETE", "PURGE"]


async def test_what_changes_something_is_not_done_again_unless_it_is_named(tmp_path: Path) -> None:
    harmless = ["GET", "HEAD", "POST", "OPTIONS"]
    lines = [line(n, method=method) for n, method in enumerate([*harmless, *WRITES, "PUT"])]
    override = line(9, fields=(*JSON, (b"X-HTTP-Method-Override", b"delete")))
    async with Origin(OK) as origin:
        made = plan(tmp_path, origin.url, *lines, override)
        counts = await send_all(made)
        assert sorted(request.method.decode() for request in origin.requests) == sorted(harmless)
    assert counts.skipped == {NotSent.METHOD: 6}
    assert dict(counts.methods) == {"PUT": 2, "PATCH": 1, "DELETE": 2, "PURGE": 1}
    (said,) = [each for each in screen(made, counts) if each.startswith("not sent")]
    assert said == (
        "not sent    6 requests: their method may change data, which would be changed again "
        "(DELETE 2, PATCH 1, PURGE 1, PUT 2); "
        "to send them: --method DELETE --method PATCH --method PURGE --method PUT"
    )


@pytest.mark.parametrize(("named", "count"), [({"PUT"}, 1), (set(WRITES), 4), ({"*"}, 4)])
async def test_a_method_that_is_named_is_sent(tmp_path: Path, named: set[str], count: int) -> None:
    lines = [line(n, method=method) for n, method in enumerate(WRITES)]
    async with Origin(OK) as origin:
        counts = await send_all(plan(tmp_path, origin.url, *lines, methods=frozenset(named)))
    assert (counts.begun, sum(counts.skipped.values())) == (count, 4 - count)


async def test_methods_that_callers_invent_take_no_more_than_a_screen(tmp_path: Path) -> None:
    lines = [line(n, method=f"M{n}") for n in range(100)]
    counts = await send_all(plan(tmp_path, "http://127.0.0.1:1", *lines))
    assert counts.skipped == {NotSent.METHOD: 100}
    assert len(counts.methods) == MOST_METHODS


async def test_an_interrupt_ends_it_at_once_with_every_begun_request_in_the_log(tmp_path: Path) -> None:
    waiting = 0

    async def answers_once(peer: Peer) -> None:
        nonlocal waiting
        await peer.request()
        await peer.send(answer(b"{}", *JSON))
        await peer.request()
        waiting += 1
        if waiting == 2:
            signal.raise_signal(signal.SIGINT)
        await peer.wait_ended()

    async with Origin(answers_once) as origin:
        made = plan(tmp_path, origin.url, *(line(n) for n in range(50)), in_flight=2)
        async with asyncio.timeout(5):
            counts = await send_all(made)
    assert counts.interrupted
    assert counts.outcomes == {Outcome.OK: 2, Outcome.SHUTDOWN: 2}
    assert [each.shadows["new"].outcome for each in records(tmp_path / "new")].count(Outcome.SHUTDOWN) == 2
    assert len(records(tmp_path / "new")) == counts.begun == 4
    assert "(ended early)" in "\n".join(screen(made, counts))
    assert signal.getsignal(signal.SIGINT) is signal.default_int_handler


async def test_a_disk_that_fills_up_is_one_line_and_tears_none(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    writes = 0
    write = os.write

    def failing(descriptor: int, data: bytes | memoryview) -> int:
        nonlocal writes
        writes += 1
        if writes == 3:
            return write(descriptor, bytes(data)[:10])
        if writes == 4:
            raise OSError(28, "No space left on device")
        return write(descriptor, data)

    async with Origin(OK) as origin:
        monkeypatch.setattr("shadowproxy.replay.output.os.write", failing)
        with pytest.raises(ReplayError, match=r"cannot write .*: No space left on device"):
            await send_all(plan(tmp_path, origin.url, *(line(n) for n in range(5)), in_flight=1))
    assert len(records(tmp_path / "new")) == 2


async def test_a_directory_that_cannot_be_written_is_one_line(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(ReplayError, match="cannot write"):
        await send_all(plan(tmp_path, "http://127.0.0.1:1", line(), output=tmp_path / "file"))


# --- the command -----------------------------------------------------------------------------------------------------


async def program(*words: str | Path, **environment: str) -> tuple[int, str, str]:
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-m", "shadowproxy", *map(str, words),
        stdin=asyncio.subprocess.DEVNULL, stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.PIPE,
        env={**os.environ, **environment},
    )  # fmt: skip
    async with asyncio.timeout(60):
        out, err = await process.communicate()
    assert b"Traceback" not in err
    return process.returncode or 0, out.decode(), err.decode()


@pytest.mark.timing
@pytest.mark.slow
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
async def test_an_interrupt_ends_it_while_a_pipe_that_it_reads_stays_open(
    tmp_path: Path, number: signal.Signals
) -> None:
    async with Origin(OK) as origin:
        process = await asyncio.create_subprocess_exec(
            sys.executable, "-m", "shadowproxy", "replay", "-", "--to", origin.url, "--full-speed",
            "--log", str(tmp_path / "new"),
            stdin=asyncio.subprocess.PIPE, stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.PIPE,
        )  # fmt: skip
        assert process.stdin is not None
        process.stdin.write(b"".join(line(n) for n in range(40)))  # more than are read at once
        async with asyncio.timeout(20):
            while not origin.requests:  # noqa: ASYNC110  # nothing tells of one
                await asyncio.sleep(0.01)
            await asyncio.sleep(0.2)  # by then it waits for more
            process.send_signal(number)
            status = await process.wait()
        assert process.stderr is not None
        said = (await process.stderr.read()).decode()
        process.stdin.close()
    assert "Traceback" not in said
    assert "Fatal" not in said
    assert status == 130, said
    assert len(records(tmp_path / "new")) > 0


@pytest.mark.slow
async def test_a_proxys_log_is_replayed_and_reported_on(proxy: StartProxy, tmp_path: Path) -> None:
    body = b'{"n":1.10,"n":2}'
    async with proxy(answer(b'{"p":[0.5]}', *JSON), shadows={"old": answer(b'{"p":[0.5]}', *JSON)}) as running:
        for number in range(20):
            head = f"POST /predict?k={number} HTTP/1.1\r\nHost: a\r\nAuthorization: Bearer old\r\n"
            head += f"Content-Type: application/json\r\nContent-Length: {len(body)}\r\n\r\n"
            await running.ask(head.encode() + body)
        assert len(await running.records()) == 20
    async with Origin(each_other(b'{"p":[0.5]}', b'{"p":[0.7]}')) as origin:
        status, out, err = await program(
            "replay", tmp_path / "log", "--to", origin.url, "--name", "candidate", "-o", tmp_path / "new",
            "--full-speed", "--in-flight", "1", "--header", "Authorization: Bearer ${TOKEN}", TOKEN="s3cret",
        )  # fmt: skip
        assert (status, err) == (0, "")
        assert {request.body for request in origin.requests} == {body}
        assert {request.target for request in origin.requests} == {b"/predict?k=%d" % n for n in range(20)}
        assert {tuple(request.all(b"authorization")) for request in origin.requests} == {(b"Bearer s3cret",)}
    assert "20 requests sent" in out
    assert "match 10, mismatch 10" in out
    assert "s3cret" not in out + b"".join(path.read_bytes() for path in (tmp_path / "new").iterdir()).decode()
    status, out, _ = await program("report", tmp_path / "new", "--json")
    figures = json.loads(out)["shadows"]["candidate"]
    assert figures["outputs"][0]["pairs"] == 20
    assert figures["outputs"][0]["agreement"]["value"] == 0.5


def each_other(*bodies: bytes) -> Any:
    """A script that gives these answers in turn, on however many connections."""
    given = iter(range(1_000_000))

    async def script(peer: Peer) -> None:
        while await peer.request() is not None:
            await peer.send(answer(bodies[next(given) % len(bodies)], *JSON))

    return script


@pytest.mark.slow
async def test_the_configuration_says_whom_to_ask_and_how(tmp_path: Path) -> None:
    (tmp_path / "old.jsonl").write_bytes(line(fields=(*JSON, (b"X-Key", b"old"))))
    async with Origin(OK) as origin:
        config = {
            "live": {"url": "http://127.0.0.1:1"},
            "shadows": {"candidate": {"url": origin.url, "headers": {"set": {"X-Key": "${KEY}"}}}},
            "compare": {"ignore": ["/p"]},
        }
        (tmp_path / "config.yaml").write_text(json.dumps(config))
        status, out, _ = await program(
            "replay", tmp_path / "old.jsonl", "-c", tmp_path / "config.yaml", "-o", tmp_path / "new", KEY="of now"
        )
        assert status == 0
        assert out.startswith("candidate ")
        assert origin.requests[0].all(b"x-key") == [b"of now"]
        status, out, said = await program(
            "replay", tmp_path / "old.jsonl", "-c", tmp_path / "config.yaml", "-o", tmp_path / "third"
        )
        wanting = "shadows.candidate.headers.set.X-Key: the environment variable KEY is not set"
        assert (status, out, said) == (2, "", f"shadowproxy: {tmp_path / 'config.yaml'}: {wanting}\n")
        assert len(origin.requests) == 1


@pytest.mark.slow
async def test_what_redacted_fields_are_filled_with_is_not_in_the_new_log(tmp_path: Path) -> None:
    (tmp_path / "old.jsonl").write_bytes(line(fields=(*JSON, (b"X-Key", b"old")), target=b"/p?token=old"))
    echo = answer(b'{"p": ["key-of-now", "token-of-now"]}', *JSON)
    async with Origin(always(echo)) as origin:
        to = ("replay", tmp_path / "old.jsonl", "--to", origin.url, "-o", tmp_path / "new")
        filled = ("--header", "X-Key: ${KEY}", "--query", "token=${TOKEN}")
        status, _, _ = await program(*to, *filled, KEY="key-of-now", TOKEN="token-of-now")
        assert status == 0
        assert origin.requests[0].all(b"x-key") == [b"key-of-now"]
        assert origin.requests[0].target == b"/p?token=token-of-now"
    new = b"".join(path.read_bytes() for path in (tmp_path / "new").iterdir())
    assert b'"body":{"p": ["[redacted]", "[redacted]"]}' in new
    assert b"of-now" not in new


@pytest.mark.slow
async def test_another_origin_than_the_configurations_is_not_given_its_credentials(tmp_path: Path) -> None:
    (tmp_path / "old.jsonl").write_bytes(line())
    config = {
        "live": {"url": "http://127.0.0.1:1"},
        "shadows": {
            "candidate": {
                "url": "http://127.0.0.1:1",
                "headers": {
                    "set": {"Authorization": "Bearer ${KEY}", "X-Api-Key": "${KEY}", "X-Site": "${KEY}", "A": "b"}
                },
                "query": {"set": {"api_key": "${KEY}", "tenant": "${KEY}", "v": "2"}},
                "rewrite": {"json": {"/user": "${KEY}", "/n": 2}},
            }
        },
    }
    (tmp_path / "config.yaml").write_text(json.dumps(config))
    async with Origin(OK) as origin:
        status, out, err = await program(
            "replay", tmp_path / "old.jsonl", "-c", tmp_path / "config.yaml", "--to", origin.url,
            "-o", tmp_path / "new", "--header", "X-Api-Key: ${OTHER}", KEY="s3cret", OTHER="its own",
        )  # fmt: skip
        request = origin.requests[0]
    assert status == 0, out
    assert err == (
        f"shadowproxy: --to is not the url of candidate in {tmp_path / 'config.yaml'}, so it is not sent "
        "headers.set.Authorization, headers.set.X-Site, query.set.api_key, query.set.tenant, rewrite.json./user\n"
    )
    assert request.start.split()[1] == b"/predict?v=2"
    assert b"s3cret" not in request.body + b"".join(value for _, value in request.fields)
    assert (request.all(b"x-api-key"), request.all(b"a"), request.body) == ([b"its own"], [b"b"], b'{"n":2}')


@pytest.mark.parametrize(
    ("to", "trusted"),
    [
        (None, True),
        ("https://model.internal", True),
        ("https://MODEL.internal:443/v2", True),
        ("https://model.internal:8443", False),
        ("http://model.internal:443", False),
        ("https://model.internal.example", False),
    ],
)
def test_credentials_are_for_one_scheme_host_and_port(tmp_path: Path, to: str | None, trusted: bool) -> None:
    (tmp_path / "own.pem").write_text("")
    tls = {"ca": str(tmp_path / "own.pem"), "cert": str(tmp_path / "own.pem"), "key": str(tmp_path / "own.pem")}
    candidate = {"url": "https://model.internal/v1", "tls": tls, "headers": {"set": {"Cookie": "a=b"}}}
    config = from_values({"live": {"respond": {}}, "shadows": {"candidate": candidate}})
    given = {"url": to, "headers": (), "timeout": None, "in_flight": None}
    shadow, held_back = endpoint("candidate", config, given)
    own = config.shadows["candidate"].tls
    assert shadow.tls == (own if trusted else replace(own, cert=None, key=None))
    assert shadow.headers.set == ({"Cookie": "a=b"} if trusted else {})
    assert held_back == (() if trusted else ("headers.set.Cookie", "tls.cert", "tls.key"))


@pytest.mark.slow
async def test_the_exit_status_says_whether_all_were_answered(tmp_path: Path) -> None:
    (tmp_path / "old.jsonl").write_bytes(line())
    (tmp_path / "bare.jsonl").write_bytes(line(policy=Policy(bodies="none")))
    with refusing_port() as port:
        to = ("--to", f"http://127.0.0.1:{port}")
        status, out, _ = await program("replay", tmp_path / "old.jsonl", *to, "-o", tmp_path / "a")
        assert (status, "connect_error 1" in out) == (1, True)
        status, out, _ = await program("replay", tmp_path / "bare.jsonl", *to, "-o", tmp_path / "b")
        assert (status, "0 requests sent" in out) == (3, True)
    assert list((tmp_path / "b").iterdir()) == []


@pytest.mark.slow
@pytest.mark.parametrize(
    ("words", "said"),
    [
        ((), "give --to URL"),
        (("--to", "ftp://a"), "--to: must begin with http"),
        (("--to", "http://a", "--timeout", "3x"), "--timeout: is not a duration"),
        (("--to", "http://a", "--name", "b d"), "--name b d: is not a name for a shadow"),
        (("--to", "http://a", "--rate", "0"), "--rate"),
        (("--to", "http://a", "--rate", "5", "--full-speed"), "not both"),
        (("--to", "http://a", "--header", "Authorization: Bearer x"), "every process of this machine"),
        (("--to", "http://a", "--header", "Authorization: ${NOWHERE}"), "NOWHERE is not set"),
        (("--to", "http://a", "--header", "nonsense"), "is not NAME: VALUE"),
        (("--to", "http://a", "--header", "Host: b"), "cannot be set, it follows from"),
        (("--to", "http://a", "--query", "api_key=x"), "every process of this machine"),
        (("--to", "http://a", "--where", "/a>>1"), "has two comparisons"),
        (("--to", "http://a", "-o", "."), "not empty"),
        (("--to", "http://a", "-c", "nowhere.yaml"), "nowhere.yaml"),
    ],
)
async def test_a_wrong_command_line_is_one_line_and_sends_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, words: tuple[str, ...], said: str
) -> None:
    (tmp_path / "old.jsonl").write_bytes(line())
    monkeypatch.chdir(tmp_path)
    status, out, err = await program("replay", "old.jsonl", *words)
    assert (status, out, len(err.splitlines())) == (2, "", 1)
    assert said in err
    assert not (tmp_path / "replay-log").exists()


def test_a_log_that_is_not_there_is_told_of_before_anything_is_written(tmp_path: Path) -> None:
    made = Plan(("/nowhere",), "new", shadow("http://127.0.0.1:1"), tmp_path / "new")
    with pytest.raises(ReplayError, match="cannot read /nowhere"):
        asyncio.run(send_all(made))
    assert not (tmp_path / "new").exists()


@pytest.mark.slow
async def test_methods_are_named_by_the_command_and_by_the_configuration(tmp_path: Path) -> None:
    log = tmp_path / "old.jsonl"
    log.write_bytes(b"".join(line(n, method=method) for n, method in enumerate(["GET", *WRITES])))
    async with Origin(OK) as origin:
        file = tmp_path / "config.yaml"
        shadow = {"url": origin.url, "match": {"methods": ["PATCH"]}}
        file.write_text(json.dumps({"live": {"respond": {}}, "shadows": {"new": shadow}}))
        words = ("replay", log, "-c", file, "-o", tmp_path / "new", "--full-speed", "--method", "PUT")
        status, out, err = await program(*words)
        assert (status, err) == (0, "")
        assert sorted(request.method for request in origin.requests) == [b"GET", b"PATCH", b"PUT"]
    assert "not sent    2 requests" in out
    assert "--method DELETE --method PURGE" in out
    status, _, err = await program("replay", log, "--to", "http://127.0.0.1:1", "--method", "put")
    assert status == 2
    assert "--method is not a method: write it in capitals, as in POST" in " ".join(err.split())
