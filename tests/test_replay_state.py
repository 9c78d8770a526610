"""A log with sessions replayed: the endpoint gets its own IDs in place of live's, in order, or nothing."""

import asyncio
import json
import random
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from fakes import Origin, Peer, answer
from test_replay import JSON, START, plan, records

from shadowproxy.cli.replay import _state as state_of
from shadowproxy.compare.fold.filters import Only
from shadowproxy.config import from_values
from shadowproxy.exchange import Exchange, Fields, Outcome, Reply, Request, Verdict
from shadowproxy.recorder.line import encode
from shadowproxy.recorder.policy import Policy
from shadowproxy.redaction import Redaction
from shadowproxy.replay.run import send_all
from shadowproxy.replay.screen import lines as screen
from shadowproxy.serve.state.settings import StateSettings

AUTO = StateSettings()
SESSION = b"Mcp-Session-Id"


def items() -> Callable[[Peer], Any]:
    """A service that makes items and sessions, and knows only its own."""
    source = random.Random(7)
    known: dict[bytes, bytes] = {}

    async def script(peer: Peer) -> None:
        while (request := await peer.request()) is not None:
            method, target, _ = request.start.split(b" ", 2)
            session = {name.lower(): value for name, value in request.fields}.get(b"mcp-session-id")
            fields: Fields = JSON
            if target == b"/sessions":
                fields = (*JSON, (SESSION, b"own-%016x" % source.getrandbits(64)))
                known[fields[-1][1]] = b"0"
                body, status = b"{}", 200
            elif target == b"/calls":
                body, status = (b"{}", 200) if session in known else (b'{"error":"no session"}', 400)
            elif target == b"/items" and method == b"GET":
                body, status = b'{"items":["/items/%b"]}' % b'","/items/'.join(known), 200
            elif method == b"POST":
                made = b"own-%016x" % source.getrandbits(64)
                known[made] = request.body
                await asyncio.sleep(0)
                body, status = b'{"id":"%b"}' % made, 201
            else:
                own = target.rpartition(b"/")[2]
                body, status = (b'{"id":"%b","is":1}' % own, 200) if own in known else (b'{"detail":"none"}', 404)
            await peer.send(answer(body, *fields, status=status))

    return script


def entry(
    number: int,
    method: str,
    target: bytes,
    live: bytes,
    seconds: float,
    *,
    fields: Fields = (),
    answered: Fields = (),
    policy: Policy | None = None,
    status: int = 200,
) -> bytes:
    body = b'{"n":%d}' % number if method != "GET" else b""
    given = (*fields, *(((b"Content-Length", b"%d" % len(body)), *JSON) if body else ()))
    at = START + int(seconds * 1e9)
    request = Request(f"id-{number}", f"r-{number}", at, method, target, given, body, len(body))
    reply = Reply(status, (*JSON, *answered), live, len(live), 1.0, 2.0)
    return encode(Exchange(request, reply, {}), proxy="h/0", policy=policy or Policy(), judge=None)


def made(number: int, seconds: float, method: str = "POST") -> bytes:
    return entry(number, method, b"/items", b'{"id":"live-%016d"}' % number, seconds, status=201)


def asked(number: int, of: int, seconds: float) -> bytes:
    item = b"live-%016d" % of
    return entry(number, "GET", b"/items/" + item, b'{"id":"%b","is":1}' % item, seconds)


async def replayed(tmp_path: Path, *lines: bytes, **options: Any) -> tuple[Any, Origin, Any]:
    async with Origin(items()) as origin:
        made = plan(tmp_path, origin.url, *lines, **{"state": AUTO, **options})
        counts = await send_all(made)
        return counts, origin, made


@pytest.mark.parametrize("in_flight", [1, 16])
async def test_sessions_are_replayed_in_order_with_the_endpoints_own_ids(tmp_path: Path, in_flight: int) -> None:
    count = 60
    lines = [made(n, n * 0.01) for n in range(count)]
    lines += [asked(count + n, n, 1.0 + (n * 7 % count) * 0.01) for n in range(count)]
    counts, origin, how = await replayed(tmp_path, *lines, in_flight=in_flight)
    assert counts.outcomes == {Outcome.OK: 2 * count}
    assert counts.verdicts == {Verdict.MATCH: 2 * count}
    assert counts.statuses == {201: count, 200: count}
    assert not any(b"live-" in message.raw for message in origin.requests)
    found = records(tmp_path / "new")
    by_record = {each.record: each for each in found}
    for each in found:
        leg = each.shadows["new"]
        if each.request.method == "POST":
            assert leg.learnt[0].live == f"live-{int(each.id[3:]):016}"
        else:
            [put] = leg.translated
            assert put.place == "path"
            assert by_record[put.learnt_from].shadows["new"].learnt[0].shadow == put.shadow
    assert "state       60 requests translated, 0 unknown" in list(screen(how, counts))


async def test_a_list_of_what_was_made_matches(tmp_path: Path) -> None:
    listed = b'{"items":["/items/live-%016d","/items/live-%016d"]}' % (0, 1)
    lines = [made(0, 0.0), made(1, 0.1), entry(2, "GET", b"/items", listed, 5.0)]
    counts, _, _ = await replayed(tmp_path, *lines, in_flight=1)
    assert counts.verdicts == {Verdict.MATCH: 3}
    [leg] = [each.shadows["new"] for each in records(tmp_path / "new") if each.id == "id-2"]
    assert [each.place for each in leg.learnt] == ["json:", "json:"]
    assert leg.judgement is not None
    assert leg.judgement.set_aside == ("/items/*",)


async def test_without_the_requests_that_made_them_ids_are_unknown_and_nothing_is_sent(tmp_path: Path) -> None:
    lines = [made(0, 0.0, "PUT"), asked(1, 0, 1.0), made(2, 2.0), asked(3, 2, 3.0)]
    counts, origin, how = await replayed(tmp_path, *lines)
    assert counts.outcomes == {Outcome.OK: 2, Outcome.STATE_UNKNOWN: 1}
    assert not counts.sound
    assert not any(b"live-" in message.raw for message in origin.requests)
    leg = next(each for each in records(tmp_path / "new") if each.id == "id-1").shadows["new"]
    assert (leg.outcome, leg.status) == (Outcome.STATE_UNKNOWN, None)
    assert "in path" in (leg.error or "")
    assert "state       1 request translated, 1 unknown" in list(screen(how, counts))


async def test_what_filters_leave_out_is_still_learnt_from(tmp_path: Path) -> None:
    lines = [made(0, 0.0), asked(1, 0, 60.0), made(2, 61.0), asked(3, 2, 62.0), asked(4, 2, 63.0)]
    since = Only(since=(START // 1000) + 30_000_000)
    counts, origin, _ = await replayed(tmp_path, *lines, only=since, limit=3)
    assert counts.outcomes == {Outcome.STATE_UNKNOWN: 1, Outcome.OK: 2}
    assert len(origin.requests) == 2


async def test_a_session_that_the_log_hides_by_a_key_is_followed(tmp_path: Path) -> None:
    keyed = Policy(redaction=Redaction(hash_key=b"a key of some length"))
    lines = []
    for n in range(4):
        field = ((SESSION, b"live-secret-%d" % n),)
        token = ((b"Authorization", b"Bearer live-token-1234"),)
        lines.append(entry(2 * n, "POST", b"/sessions", b"{}", n, answered=field, fields=token, policy=keyed))
        lines.append(entry(2 * n + 1, "POST", b"/calls", b"{}", n + 0.5, fields=(*field, *token), policy=keyed))
    counts, origin, _ = await replayed(tmp_path, *lines, policy=keyed)
    assert counts.statuses == {200: 8}
    assert counts.verdicts == {Verdict.MATCH: 8}
    assert counts.left_out == {"authorization": 8}
    assert not any(b"redacted" in message.raw for message in origin.requests)
    text = "".join(path.read_text() for path in (tmp_path / "new").iterdir())
    assert "own-" not in text  # a session of its own is as secret as live's


async def test_the_endpoints_own_404_is_no_unknown_id(tmp_path: Path) -> None:
    async with Origin(items()) as first:
        how = plan(tmp_path, first.url, made(0, 0.0), asked(1, 0, 1.0), state=AUTO)

        async def forgetful(peer: Peer) -> None:
            while (request := await peer.request()) is not None:
                made_one = request.start.startswith(b"POST")
                body = b'{"id":"own-000000000001"}' if made_one else b'{"detail":"none"}'
                await peer.send(answer(body, *JSON, status=201 if made_one else 404))

        async with Origin(forgetful) as origin:
            counts = await send_all(replace(how, shadow=replace(how.shadow, url=origin.url)))
    assert counts.statuses == {201: 1, 404: 1}
    leg = next(each for each in records(tmp_path / "new") if each.id == "id-1").shadows["new"]
    assert (leg.status, leg.translated[0].shadow) == (404, "own-000000000001")


async def test_without_state_live_ids_are_sent_as_they_are(tmp_path: Path) -> None:
    counts, origin, how = await replayed(tmp_path, made(0, 0.0), asked(1, 0, 1.0), state=None)
    assert counts.statuses == {201: 1, 404: 1}
    assert b"live-" in origin.requests[-1].raw
    assert not any(line.startswith("state") for line in screen(how, counts))
    leg = json.loads(next((tmp_path / "new").iterdir()).read_text().splitlines()[-1])["shadows"]["new"]
    assert "translated" not in leg


async def test_a_named_session_that_live_gave_before_the_log_is_unknown(tmp_path: Path) -> None:
    raw = entry(0, "POST", b"/calls", b"{}", 0.0, fields=((b"X-Basket", b"basket=of-another-time-1"),))
    raw = raw.replace(b'"x-basket"', b'"cookie"')  # as a log that does not hide cookies has it
    how = replace(AUTO, learn=("set-cookie:basket",))
    async with Origin(items()) as origin:
        plain = plan(tmp_path, origin.url, raw, state=how)
        counts = await send_all(replace(plain, shadow=replace(plain.shadow, forward_credentials=True)))
    assert counts.outcomes == {Outcome.STATE_UNKNOWN: 1}
    assert origin.requests == []


@pytest.mark.parametrize(
    ("given", "wanted", "expected"),
    [
        (None, None, None),
        (None, True, AUTO),
        ("auto", None, AUTO),
        ("auto", False, None),
        ({"learn": ["/id"], "pairs": 7}, True, replace(AUTO, learn=("/id",), pairs=7)),
    ],
)
def test_the_option_and_the_configuration_say_whether_ids_are_replaced(given: Any, wanted: Any, expected: Any) -> None:
    shadow = from_values({"live": {"respond": {}}, "shadows": {"new": {"url": "http://a", "state": given}}}).shadows
    assert state_of(shadow["new"], wanted) == expected
