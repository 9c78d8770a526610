"""A stateful API behind the proxy: the shadow is sent its own IDs, in order, and live's never."""

import asyncio
import re
from collections import Counter
from collections.abc import Callable
from random import Random
from typing import Any

import pytest
from conftest import Proxy, StartProxy
from fakes import Message, Origin, Peer, answer, chunk_of

from shadowproxy.exchange import Outcome
from shadowproxy.record import Record

JSON = (b"Content-Type", b"application/json")


class Store:
    """A service that makes things and sessions, each with an ID of its own. Use `script` for an Origin.

    `gate` holds back its answers to POST while it is not set; `fails`: it answers these with 500.
    """

    def __init__(self, name: bytes, *, keeps_sessions: bool = True) -> None:
        self.name = name
        self.made: dict[bytes, bytes] = {}
        self.sessions: set[bytes] = set()
        self.requests: list[Message] = []
        self.gate = asyncio.Event()
        self.gate.set()
        self.fails = False
        self.keeps_sessions = keeps_sessions

    def new(self, what: bytes) -> bytes:
        return b"%b-%b-%06d" % (self.name, what, len(self.made) + len(self.sessions))

    async def script(self, peer: Peer) -> None:
        while (request := await peer.request()) is not None:
            self.requests.append(request)
            if request.method == b"POST" and request.target != b"/session/use":
                await self.gate.wait()
            if self.fails:
                await peer.send(answer(b"{}", JSON, status=500))
            else:
                await self.respond(request, peer)

    async def respond(self, request: Message, peer: Peer) -> None:
        session = b"".join(request.all(b"Mcp-Session-Id"))
        if request.target == b"/items" and request.method == b"POST":
            made = self.new(b"item")
            self.made[made] = request.body
            await peer.send(answer(b'{"id":"%b","of":%b}' % (made, request.body), JSON, status=201))
        elif request.target.startswith(b"/items/"):
            found = self.made.get(request.target[7:])
            await peer.send(answer(found or b"{}", JSON, status=404 if found is None else 200))
        elif request.target == b"/session":
            fields = [JSON]
            if self.keeps_sessions:
                made = self.new(b"session")
                self.sessions.add(made)
                fields.append((b"Mcp-Session-Id", made))
            await peer.send(answer(b"{}", *fields))
        elif request.target == b"/session/use":
            known = session in self.sessions or (not session and not self.keeps_sessions)
            await peer.send(answer(b"{}", JSON, status=200 if known else 404))
        elif request.target == b"/login":
            made = self.new(b"session")
            self.sessions.add(made)
            await peer.send(answer(b"{}", JSON, (b"Set-Cookie", b"sid=%b; HttpOnly" % made)))
        elif request.target == b"/me":
            (cookie,) = request.all(b"Cookie") or [b""]
            known = cookie.rpartition(b"sid=")[2] in self.sessions
            await peer.send(answer(b"{}", JSON, status=200 if known else 403))
        else:
            await peer.send(answer(b"{}", JSON))


def post(target: bytes, body: bytes = b"{}", *fields: bytes) -> bytes:
    lines = [b"POST %b HTTP/1.1" % target, b"Host: a", b"Content-Type: application/json", *fields]
    return b"\r\n".join([*lines, b"Content-Length: %d" % len(body), b"", body])


def get(target: bytes, *fields: bytes) -> bytes:
    return b"\r\n".join([b"GET %b HTTP/1.1" % target, b"Host: a", *fields, b"", b""])


def id_in(message: Message) -> bytes:
    found = re.search(rb'"id":"([^"]+)"', message.body)
    assert found is not None
    return found[1]


def assert_nothing_of_lives(shadow: Store) -> None:
    for request in shadow.requests:
        assert b"live-" not in request.raw, request.raw


def verdict(recorded: Record) -> str | None:
    judged = recorded.shadows["s"].judgement
    return judged and judged.verdict


async def until(reached: Callable[[], object]) -> None:
    async with asyncio.timeout(30):
        while not reached():  # noqa: ASYNC110  # neither the mirror nor a store has an event for it
            await asyncio.sleep(0.002)


async def settled(running: Proxy) -> None:
    await until(lambda: not running.sidecar.live.mirror.unsettled)


AUTO = {"state": "auto"}


async def test_follow_ups_reach_the_shadows_own_things(proxy: StartProxy) -> None:
    live, shadow = Store(b"live"), Store(b"shadow")
    shadow.new = lambda what: b"%b-of-the-shadow-%d" % (what, 100 + len(shadow.made))  # type: ignore[method-assign]
    async with proxy(live.script, shadows={"s": shadow.script}, shadow_options=AUTO) as running:
        for number in range(20):
            made = id_in(await running.ask(post(b"/items", b"%d" % number)))
            assert (await running.ask(get(b"/items/" + made))).body == b"%d" % number
            await running.ask(post(b"/other", b'{"previous_id":"%b","n":1.50}' % made))
        records = await running.records()
    assert_nothing_of_lives(shadow)
    assert Counter(each.shadows["s"].outcome for each in records) == {"ok": 60}
    assert {each.shadows["s"].status for each in records} == {200, 201}
    assert {verdict(each) for each in records} == {"match"}
    assert (
        sum(b'"previous_id":"item-of-the-shadow' in each.body and b"1.50" in each.body for each in shadow.requests)
        == 20
    )
    by_record = {each.record: each for each in records}
    followed = [each for each in records if each.shadows["s"].translated]
    assert len(followed) == 40
    for each in followed:
        ((place, learnt_from, *_),) = each.shadows["s"].translated
        assert place in ("path", "json:/previous_id")
        assert by_record[learnt_from].request.method == "POST"
        assert by_record[learnt_from].shadows["s"].learnt


async def test_a_follow_up_waits_for_the_shadows_answer_and_others_pass_it_by(proxy: StartProxy) -> None:
    live, shadow = Store(b"live"), Store(b"shadow")
    shadow.gate.clear()
    async with proxy(live.script, shadows={"s": shadow.script}, shadow_options=AUTO) as running:
        made = id_in(await running.ask(post(b"/items", b"1")))
        assert (await running.ask(get(b"/items/" + made))).status == 200
        assert (await running.ask(get(b"/other"))).status == 200
        (lane,) = running.sidecar.live.mirror.lanes
        await until(lambda: len(shadow.requests) == 2)
        assert [each.target for each in shadow.requests] == [b"/items", b"/other"]
        assert (lane.statistics().in_flight, lane.statistics().waiting) == (1, 1)
        shadow.gate.set()
        await settled(running)
        assert (lane.statistics().in_flight, lane.statistics().waiting) == (0, 0)
        records = await running.records()
    assert [each.target for each in shadow.requests][2] == b"/items/" + next(iter(shadow.made))
    assert {each.shadows["s"].outcome for each in records} == {"ok"}


async def test_what_was_over_for_live_is_over_for_the_shadow_first(proxy: StartProxy) -> None:
    """A session's requests keep their order, although the shadow is slow."""
    live, shadow = Store(b"live"), Store(b"shadow")
    async with proxy(live.script, shadows={"s": shadow.script}, shadow_options=AUTO) as running:
        made = id_in(await running.ask(post(b"/items", b"1")))
        await settled(running)
        shadow.gate.clear()
        await running.ask(post(b"/change", b'{"item_id":"%b"}' % made))
        await running.ask(get(b"/items/" + made))
        await running.ask(get(b"/items/" + made + b"?again"))
        await running.ask(get(b"/other"))
        await until(lambda: len(shadow.requests) == 3)
        assert [each.target for each in shadow.requests[1:]] == [b"/change", b"/other"]
        shadow.gate.set()
        await settled(running)
    assert [each.target.partition(b"/items/")[2].partition(b"?")[2] for each in shadow.requests[3:]] == [b"", b"again"]
    assert_nothing_of_lives(shadow)


async def test_without_the_shadows_own_nothing_is_sent(proxy: StartProxy) -> None:
    live, shadow = Store(b"live"), Store(b"shadow")
    shadow.fails = True
    async with proxy(live.script, shadows={"s": shadow.script}, shadow_options=AUTO) as running:
        made = id_in(await running.ask(post(b"/items", b"1")))
        await settled(running)
        shadow.fails = False
        assert (await running.ask(get(b"/items/" + made))).status == 200
        assert (await running.ask(get(b"/session/use", b"Mcp-Session-Id: of-before-the-proxy"))).status == 404
        records = await running.records()
    assert_nothing_of_lives(shadow)
    assert len(shadow.requests) == 1
    assert [each.shadows["s"].outcome for each in records] == ["ok", "state_unknown", "state_unknown"]
    assert [each.shadows["s"].error for each in records[1:]] == [
        "the request carries an ID of live's, and the shadow's own is not known (path)",
        "the request carries an ID of live's, and the shadow's own is not known (header:mcp-session-id)",
    ]


async def test_an_id_from_an_exchange_that_the_shadow_did_not_get_is_unknown(proxy: StartProxy) -> None:
    live, shadow = Store(b"live"), Store(b"shadow")
    options = AUTO | {"match": {"methods": ["GET"]}}
    async with proxy(live.script, shadows={"s": shadow.script}, shadow_options=options) as running:
        made = id_in(await running.ask(post(b"/items", b"1")))
        await running.ask(get(b"/items/" + made))
        _, follow_up = await running.records()
    assert follow_up.shadows["s"].outcome == Outcome.STATE_UNKNOWN
    assert shadow.requests == []


async def test_a_follow_up_whose_pair_does_not_come_in_time_is_unknown(proxy: StartProxy) -> None:
    live, shadow = Store(b"live"), Store(b"shadow")
    shadow.gate.clear()
    options = AUTO | {"timeout": "100ms"}
    async with proxy(live.script, shadows={"s": shadow.script}, shadow_options=options) as running:
        made = id_in(await running.ask(post(b"/items", b"1")))
        await running.ask(get(b"/items/" + made))
        await settled(running)
        shadow.gate.set()
        records = await running.records()
    assert {each.request.method: each.shadows["s"].outcome for each in records} == {
        "POST": "timeout",
        "GET": "state_unknown",
    }
    assert all(each.method == b"POST" for each in shadow.requests)


async def test_sessions_go_back_to_the_shadow_that_issued_them(proxy: StartProxy) -> None:
    """Their fields are called like credentials, and are held back from it otherwise."""
    live, shadow = Store(b"live"), Store(b"shadow")
    async with proxy(live.script, shadows={"s": shadow.script}, shadow_options=AUTO) as running:
        (session,) = (await running.ask(post(b"/session"))).all(b"Mcp-Session-Id")
        assert (await running.ask(post(b"/session/use", b"{}", b"Mcp-Session-Id: " + session))).status == 200
        (cookie,) = (await running.ask(post(b"/login"))).all(b"Set-Cookie")
        sid = cookie.partition(b";")[0]
        assert (await running.ask(get(b"/me", b"Cookie: tracker=1; " + sid, b"Authorization: Bearer s3"))).status == 200
        records = await running.records()
    assert_nothing_of_lives(shadow)
    assert [each.shadows["s"].status for each in records] == [200] * 4
    (me,) = [each for each in shadow.requests if each.target == b"/me"]
    assert me.all(b"Cookie") == [b"sid=shadow-session-000001"]
    assert me.all(b"Authorization") == []


async def test_a_session_from_before_the_proxy_is_unknown_until_live_begins_another(proxy: StartProxy) -> None:
    live, shadow = Store(b"live"), Store(b"shadow")
    live.sessions.add(b"old")
    options = {"state": {"learn": ["set-cookie:sid"]}}
    async with proxy(live.script, shadows={"s": shadow.script}, shadow_options=options) as running:
        assert (await running.ask(get(b"/me", b"Cookie: sid=old"))).status == 200
        await settled(running)
        (cookie,) = (await running.ask(post(b"/login", b"{}", b"Cookie: sid=old; a=b"))).all(b"Set-Cookie")
        assert (await running.ask(get(b"/me", b"Cookie: " + cookie.partition(b";")[0]))).status == 200
        records = await running.records()
    assert [(each.shadows["s"].outcome, each.shadows["s"].status) for each in records] == [
        ("state_unknown", None),
        ("ok", 200),
        ("ok", 200),
    ]
    assert [each.all(b"Cookie") for each in shadow.requests] == [[], [b"sid=shadow-session-000000"]]


async def test_a_shadow_that_keeps_no_sessions_is_sent_none(proxy: StartProxy) -> None:
    live, shadow = Store(b"live"), Store(b"shadow", keeps_sessions=False)
    async with proxy(live.script, shadows={"s": shadow.script}, shadow_options=AUTO) as running:
        (session,) = (await running.ask(post(b"/session"))).all(b"Mcp-Session-Id")
        await running.ask(post(b"/session/use", b"{}", b"Mcp-Session-Id: " + session))
        records = await running.records()
    assert [each.shadows["s"].status for each in records] == [200, 200]
    assert shadow.requests[1].all(b"Mcp-Session-Id") == []


async def test_a_restarted_shadow_is_sent_its_own_and_says_itself_that_it_is_gone(proxy: StartProxy) -> None:
    live, shadow = Store(b"live"), Store(b"shadow")
    async with proxy(live.script, shadows={"s": shadow.script}, shadow_options=AUTO) as running:
        made = id_in(await running.ask(post(b"/items", b"1")))
        await settled(running)
        shadow.made.clear()
        await running.ask(get(b"/items/" + made))
        _, follow_up = await running.records()
    leg = follow_up.shadows["s"]
    assert (leg.outcome, leg.status) == ("ok", 404)
    assert leg.translated
    assert_nothing_of_lives(shadow)


async def test_an_id_in_a_stream_counts_before_the_stream_ends(proxy: StartProxy) -> None:
    """As the older transport of MCP has it: the stream stays open as long as the session."""
    over = asyncio.Event()

    def stream(name: bytes) -> Any:
        async def script(peer: Peer) -> None:
            while (request := await peer.request()) is not None:
                if request.target == b"/sse":
                    head = b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nTransfer-Encoding: chunked\r\n\r\n"
                    event = b"event: endpoint\ndata: /messages/?session_id=%b-session-1\n\n" % name
                    await peer.send(head + chunk_of(event))
                    await over.wait()
                    await peer.send(b"0\r\n\r\n")
                else:
                    known = b"session_id=%b-session-1" % name in request.target
                    await peer.send(answer(b"{}", JSON, status=202 if known else 404))

        return script

    async with (
        Origin(stream(b"shadow")) as shadow,
        proxy(stream(b"live"), shadows={"s": shadow}, shadow_options=AUTO) as running,
        await running.caller() as caller,
    ):
        await caller.send(get(b"/sse"))
        await until(lambda: b"session_id=live-session-1" in caller.received)
        assert (await running.ask(post(b"/messages/?session_id=live-session-1"))).status == 202
        await until(lambda: len(shadow.requests) == 2)
        assert shadow.requests[1].target == b"/messages/?session_id=shadow-session-1"
        over.set()
        await settled(running)


async def test_a_stream_that_is_over_for_live_holds_back_nothing(proxy: StartProxy) -> None:
    """As a client of MCP opens a stream by GET, and leaves it: the shadow's stays open until its deadline."""

    class Streaming(Store):
        async def respond(self, request: Message, peer: Peer) -> None:
            if request.target == b"/stream":
                head = b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nTransfer-Encoding: chunked\r\n\r\n"
                await peer.send(head + chunk_of(b": hello\n\n"))
                if self.name == b"live":
                    await peer.send(b"0\r\n\r\n")
                else:
                    await peer.wait_ended(30)
            else:
                await super().respond(request, peer)

    live, shadow = Streaming(b"live"), Streaming(b"shadow")
    async with proxy(live.script, shadows={"s": shadow.script}, shadow_options=AUTO, drain="0s") as running:
        (session,) = (await running.ask(post(b"/session"))).all(b"Mcp-Session-Id")
        await settled(running)
        await running.ask(get(b"/stream", b"Mcp-Session-Id: " + session))
        await running.ask(post(b"/session/use", b"{}", b"Mcp-Session-Id: " + session))
        await until(lambda: len(shadow.requests) == 3)
        await until(lambda: running.sidecar.live.mirror.unsettled == 1)
    assert_nothing_of_lives(shadow)


async def test_the_control_is_live_itself_and_gets_lives_ids(proxy: StartProxy) -> None:
    live, shadow = Store(b"live"), Store(b"shadow")
    control = {"percent": 100}
    async with proxy(live.script, shadows={"s": shadow.script}, shadow_options=AUTO, control=control) as running:
        made = id_in(await running.ask(post(b"/items", b"1")))
        await settled(running)
        await running.ask(get(b"/items/" + made))
        _, follow_up = await running.records()
    assert follow_up.control is not None
    assert (follow_up.control.status, follow_up.control.translated) == (200, ())
    assert sum(each.target == b"/items/" + made for each in live.requests) == 2


async def test_held_requests_count_against_the_lane_and_end_with_a_pause_and_a_stop(proxy: StartProxy) -> None:
    live, shadow = Store(b"live"), Store(b"shadow")
    shadow.gate.clear()
    options = AUTO | {"in_flight": 1, "lane": 2}
    async with proxy(live.script, shadows={"s": shadow.script}, shadow_options=options, drain="0s") as running:
        made = id_in(await running.ask(post(b"/items", b"1")))
        for _ in range(3):
            await running.ask(get(b"/items/" + made))
        mirror = running.sidecar.live.mirror
        mirror.pause("s")
        mirror.resume("s")
        await running.ask(get(b"/items/" + made))
        records = await running.records()
        shadow.gate.set()
    outcomes = Counter(each.shadows["s"].outcome for each in records)
    assert outcomes == {"shutdown": 2, "paused": 2, "lane_full": 1}


@pytest.mark.timing
async def test_many_sessions_at_once_stay_apart(proxy: StartProxy) -> None:
    live, shadow = Store(b"live"), Store(b"shadow")
    shadow.made[b"offset"] = b""  # so that the same number never means the same thing
    async with proxy(live.script, shadows={"s": shadow.script}, shadow_options=AUTO) as running:

        async def session(number: int) -> None:
            async with await running.caller() as caller:
                made = id_in(await caller.ask(post(b"/items", b"%d" % number)))
                for _ in range(3):
                    assert (await caller.ask(get(b"/items/" + made))).body == b"%d" % number

        await asyncio.gather(*map(session, range(30)))
        records = await running.records()
    assert Counter(map(verdict, records)) == {"match": 120}
    assert_nothing_of_lives(shadow)


class Moody(Store):
    """A store that answers late, with errors, or not at all, as `random` has it."""

    def __init__(self, name: bytes, random: Random) -> None:
        super().__init__(name)
        self.random = random

    async def respond(self, request: Message, peer: Peer) -> None:
        mood = self.random.random()
        await asyncio.sleep(self.random.choice([0, 0, 0.001, 0.02]))
        if mood < 0.05:
            peer.reset()
        elif mood < 0.1:
            await peer.send(answer(b"{}", JSON, status=503))
        elif mood < 0.13:
            await asyncio.sleep(0.2)
            await super().respond(request, peer)
        else:
            await super().respond(request, peer)


@pytest.mark.parametrize("seed", range(2))
async def test_whatever_the_shadow_does_the_books_balance_and_it_sees_nothing_of_lives(
    proxy: StartProxy, seed: int
) -> None:
    random = Random(seed)
    live, shadow = Store(b"live"), Moody(b"shadow", random)
    shadow.made[b"offset"] = b""
    options = AUTO | {"timeout": "300ms", "in_flight": 4, "lane": 64, "breaker": {"failures": 1000}}
    async with proxy(live.script, shadows={"s": shadow.script}, shadow_options=options) as running:
        mirror = running.sidecar.live.mirror

        async def session(number: int) -> None:
            async with await running.caller() as caller:
                made = id_in(await caller.ask(post(b"/items", b"%d" % number)))
                (ticket,) = (await caller.ask(post(b"/session"))).all(b"Mcp-Session-Id")
                for _ in range(random.randint(1, 8)):
                    match random.randint(0, 4):
                        case 0:
                            await caller.ask(post(b"/session/use", b"{}", b"Mcp-Session-Id: " + ticket))
                        case 1:
                            await caller.ask(post(b"/other", b'{"of_id":"%b"}' % made))
                        case 2:
                            await asyncio.sleep(0.002)
                        case _:
                            assert (await caller.ask(get(b"/items/" + made))).body == b"%d" % number

        async def operator() -> None:
            for _ in range(6):
                await asyncio.sleep(0.02)
                mirror.pause("s")
                mirror.resume("s")
                mirror.shed()

        await asyncio.gather(operator(), *map(session, range(40)))
        await settled(running)
        (lane,) = mirror.lanes
        statistics = lane.statistics()
        assert (statistics.in_flight, statistics.waiting) == (0, 0)
        assert statistics.chosen == sum(statistics.outcomes.values())
        assert lane.state is not None
        assert lane.state.pairs.pending == 0
        records = await running.records()
    assert Counter(each.shadows["s"].outcome for each in records) == statistics.outcomes
    assert Outcome.STATE_UNKNOWN in statistics.outcomes
    assert_nothing_of_lives(shadow)
