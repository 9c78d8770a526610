"""Steering a sidecar that runs: what is paused is not asked and says so, and the latest records can be looked at."""

import asyncio
import json
from contextlib import AsyncExitStack
from pathlib import Path

import httpx
import pytest
from conftest import Proxy, StartProxy
from fakes import Caller, Peer, Script, always, answer
from test_admin import ADMIN, client, wait_written

MARK = {"X-Shadowproxy-Admin": "1"}
GET = b"GET / HTTP/1.1\r\nHost: h\r\n\r\n"
JSON = (b"Content-Type", b"application/json")
ONE, TWO = always(answer(b'{"p": 1}', JSON)), always(answer(b'{"p": 2}', JSON))


async def outcomes(running: Proxy) -> list[dict[str, str]]:
    """Of each record, by shadow, as they came in."""
    records = sorted(await running.records(), key=lambda each: each.at)
    return [{name: leg.outcome for name, leg in each.shadows.items()} for each in records]


async def test_a_paused_shadow_is_not_asked_and_the_others_are(proxy: StartProxy) -> None:
    async with proxy(shadows={"a": ONE, "b": ONE}, **ADMIN) as running, client(running) as admin:
        told = (await admin.post("/shadows/a/pause", headers=MARK)).json()
        assert told["paused"] is True
        await running.ask(GET)
        assert not running.shadows["a"].connections
        assert (await admin.post("/shadows/a/resume", headers=MARK)).json()["paused"] is False
        await running.ask(GET)
        assert await outcomes(running) == [{"a": "paused", "b": "ok"}, {"a": "ok", "b": "ok"}]


async def test_the_kill_switch_pauses_all_and_a_shadow_paused_by_itself_stays_so(proxy: StartProxy) -> None:
    async with proxy(shadows={"a": ONE, "b": ONE}, **ADMIN) as running, client(running) as admin:
        await admin.post("/shadows/a/pause", headers=MARK)
        assert (await admin.post("/pause", headers=MARK)).json() == {"paused": True}
        assert (await admin.get("/shadows")).json()["paused"] is True
        await running.ask(GET)
        assert (await admin.post("/resume", headers=MARK)).json() == {"paused": False}
        await running.ask(GET)
        assert await outcomes(running) == [{"a": "paused", "b": "paused"}, {"a": "paused", "b": "ok"}]


async def test_requests_that_wait_for_a_paused_shadow_are_settled_and_live_is_not_affected(proxy: StartProxy) -> None:
    gate = asyncio.Event()

    async def slow(peer: Peer) -> None:
        await peer.request()
        await gate.wait()
        await peer.send(answer(b"{}"))

    options = {"in_flight": 1}
    async with proxy(shadows={"a": slow}, shadow_options=options, **ADMIN) as running, client(running) as admin:
        for _ in range(3):
            assert (await running.ask(GET)).status == 200
        await admin.post("/shadows/a/pause", headers=MARK)
        standing = (await admin.get("/shadows")).json()["shadows"]["a"]
        assert (standing["waiting"], standing["in_flight"]) == (0, 1)
        assert standing["outcomes"]["paused"] == 2
        gate.set()
        assert sorted(each["a"] for each in await outcomes(running)) == ["ok", "paused", "paused"]


async def test_a_percent_holds_at_once(proxy: StartProxy) -> None:
    async with proxy(shadows={"a": ONE}, **ADMIN) as running, client(running) as admin:
        told = (await admin.put("/shadows/a/percent", headers=MARK, json={"percent": 0})).json()
        assert (told["percent"], told["configured_percent"]) == (0, 100)
        await running.ask(GET)
        await admin.put("/shadows/a/percent", headers=MARK, content=b'{"percent": 100.0}')
        await running.ask(GET)
        assert await outcomes(running) == [{}, {"a": "ok"}]


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"5",
        b"null",
        b'{"percent": 101}',
        b'{"percent": -0.5}',
        b'{"percent": "5"}',
        b'{"percent": true}',
        b'{"percent": NaN}',
        b'{"percent": 1e999}',
        b'{"percent": 5, "more": 1}',
        b'{"percent": null}',
        b"percent=5",
        b"[" * 4000,
    ],
)
async def test_a_percent_that_is_none_is_refused_and_changes_nothing(proxy: StartProxy, body: bytes) -> None:
    async with proxy(shadows={"a": ONE}, **ADMIN) as running, client(running) as admin:
        refused = await admin.put("/shadows/a/percent", headers=MARK, content=body)
        assert (refused.status_code, refused.json()["error"]["reason"]) == (400, "bad_request")
        assert (await admin.get("/shadows")).json()["shadows"]["a"]["percent"] == 100


async def test_a_shadow_that_there_is_not_is_not_found(proxy: StartProxy) -> None:
    async with proxy(shadows={"a": ONE}, **ADMIN) as running, client(running) as admin:
        for path in ("/shadows/b/pause", "/shadows/b/resume", "/shadows/A/pause", "/shadows/%0aX/pause"):
            refused = await admin.post(path, headers=MARK)
            assert (refused.status_code, refused.json()["error"]["reason"]) == (404, "not_found")
        refused = await admin.put("/shadows/b/percent", headers=MARK, json={"percent": 5})
        assert refused.status_code == 404


async def test_the_control_arm_can_be_paused_too(proxy: StartProxy) -> None:
    async with (
        proxy(shadows={"a": ONE}, control={"percent": 100}, **ADMIN) as running,
        client(running) as admin,
    ):
        assert (await admin.post("/shadows/control/pause", headers=MARK)).json()["paused"] is True
        await running.ask(GET)
        (only,) = await running.records()
        assert only.control is not None
        assert only.control.outcome == "paused"


async def test_changes_are_logged(proxy: StartProxy, caplog: pytest.LogCaptureFixture) -> None:
    async with proxy(shadows={"a": ONE}, **ADMIN) as running, client(running) as admin:
        with caplog.at_level("INFO"):
            await admin.post("/shadows/a/pause", headers=MARK)
            await admin.put("/shadows/a/percent", headers=MARK, json={"percent": 2.5})
            await admin.post("/pause", headers=MARK)
            await admin.post("/resume", headers=MARK)
    told = [(each.event, getattr(each, "shadow", None)) for each in caplog.records if hasattr(each, "event")]
    assert told == [("paused", "a"), ("percent_set", "a"), ("paused", None), ("resumed", None)]


# --- the latest records ----------------------------------------------------------------------------------------------


async def test_the_latest_records_are_the_very_lines_of_the_log(proxy: StartProxy) -> None:
    async with proxy(ONE, {"a": ONE, "b": TWO}, **ADMIN) as running, client(running) as admin:
        await running.ask(GET)
        await running.ask(
            b"POST /x?api_key=secret HTTP/1.1\r\nHost: h\r\nAuthorization: secret\r\nContent-Length: 0\r\n\r\n"
        )
        await wait_written(admin, 2)
        told = (await admin.get("/exchanges")).content
        (segment,) = running.log.glob("*.jsonl")
        lines = segment.read_bytes().splitlines()
        assert told == b'{"exchanges":[' + b",".join(reversed(lines)) + b"]}"
        assert b"secret" not in told
        one = json.loads(lines[0])["record"]
        assert (await admin.get(f"/exchanges/{one}")).content.rstrip() == lines[0]


STREAM = (b"Content-Type", b"text/event-stream")


def said(id: str, text: str) -> Script:
    choice = {"index": 0, "delta": {"content": text}, "finish_reason": "stop"}
    chunk = {"id": id, "object": "chat.completion.chunk", "created": 1, "model": "m", "choices": [choice]}
    return always(answer(f"data: {json.dumps(chunk)}\n\ndata: [DONE]\n\n".encode(), STREAM))


async def test_the_answers_of_a_record_are_read_line_by_line(proxy: StartProxy) -> None:
    async with (
        proxy(said("a", "Hello\nyou"), {"s": said("b", "Hello\nme")}, **ADMIN) as running,
        client(running) as admin,
    ):
        await running.ask(GET)
        await wait_written(admin, 1)
        record = (await admin.get("/exchanges")).json()["exchanges"][0]["record"]
        rows = (await admin.get(f"/exchanges/{record}/answers")).json()["shadows"]["s"]
        assert [row for row in rows if row["differs"]] == [
            {"live": ["  ", "you", ""], "shadow": ["  ", "me", ""], "differs": True}
        ]
        assert rows[0] == {"live": ["text: Hello", "", ""], "shadow": ["text: Hello", "", ""], "differs": False}
        gone = await admin.get("/exchanges/0192f3a0-0000-7000-8000-000000000000/answers")
        assert (gone.status_code, gone.json()["error"]["reason"]) == (404, "not_found")


async def test_what_differs_is_what_the_record_says(proxy: StartProxy) -> None:
    rules = {"ignore": ["/choices/*/message/content"]}
    async with (
        proxy(said("a", "you"), {"s": said("b", "me")}, compare=rules, **ADMIN) as running,
        client(running) as admin,
    ):
        await running.ask(GET)
        await wait_written(admin, 1)
        record = (await admin.get("/exchanges")).json()["exchanges"][0]["record"]
        rows = (await admin.get(f"/exchanges/{record}/answers")).json()["shadows"]["s"]
        assert not any(row["differs"] for row in rows)


async def test_a_record_that_is_too_long_is_not_read(proxy: StartProxy) -> None:
    long = always(answer(b"x" * (3 << 20)))
    async with proxy(long, {"s": long}, log={"body_limit": "8MiB"}, **ADMIN) as running, client(running) as admin:
        await running.ask(GET)
        await wait_written(admin, 1)
        record = (await admin.get("/exchanges")).json()["exchanges"][0]["record"]
        refused = await admin.get(f"/exchanges/{record}/answers")
        assert (refused.status_code, refused.json()["error"]["reason"]) == (413, "too_large")


async def test_records_are_found_by_verdict_and_shadow(proxy: StartProxy) -> None:
    shadows = {"same": ONE, "other": TWO, "broken": always(b"nonsense\r\n\r\n")}
    async with proxy(ONE, shadows, **ADMIN) as running, client(running) as admin:
        for _ in range(3):
            await running.ask(GET)
        await wait_written(admin, 3)

        async def found(**asked: object) -> int:
            reply = await admin.get("/exchanges", params={name: str(value) for name, value in asked.items()})
            return len(reply.json()["exchanges"])

        assert await found() == 3
        assert await found(limit=2) == 2
        assert await found(verdict="mismatch") == 3
        assert await found(verdict="mismatch", shadow="same") == 0
        assert await found(verdict="mismatch", shadow="other") == 3
        assert await found(shadow="broken") == 3
        assert await found(verdict="match", shadow="broken") == 0
        assert await found(shadow="nobody") == 0
        assert await found(verdict="ignored") == 0


@pytest.mark.parametrize(
    "query",
    ["verdict=worse", "limit=0", "limit=501", "limit=-1", "limit=x", "limit=1&limit=2", "verdikt=match", "limit="],
)
async def test_a_question_that_is_not_understood_is_refused(proxy: StartProxy, query: str) -> None:
    async with proxy(**ADMIN) as running, client(running) as admin:
        refused = await admin.get(f"/exchanges?{query}")
        assert (refused.status_code, refused.json()["error"]["reason"]) == (400, "bad_request")


@pytest.mark.parametrize(("bodies", "there"), [("full", True), ("hash", False), ("none", False)])
async def test_bodies_that_the_log_does_not_have_are_not_kept_in_memory(
    proxy: StartProxy, tmp_path: Path, bodies: str, there: bool
) -> None:
    log = {"path": str(tmp_path / "log"), "bodies": bodies}
    private = always(answer(b'{"p": "private"}', JSON))
    async with proxy(private, {"a": ONE}, log=log, **ADMIN) as running, client(running) as admin:
        await running.ask(GET)
        await wait_written(admin, 1)
        assert (b"private" in (await admin.get("/exchanges?verdict=mismatch")).content) == there


async def test_a_record_that_is_not_kept_is_not_found(proxy: StartProxy) -> None:
    async with proxy(**ADMIN) as running, client(running) as admin:
        for name in ("0192f3a0-0000-7000-8000-000000000000", "x", "%22"):
            assert (await admin.get(f"/exchanges/{name}")).status_code == 404


# --- what does not fit -----------------------------------------------------------------------------------------------


async def test_an_unknown_path_or_method_is_rejected_in_json(proxy: StartProxy) -> None:
    async with proxy(shadows={"a": ONE}, **ADMIN) as running, client(running) as admin:
        missing = await admin.get("/shadows/")
        assert (missing.status_code, missing.json()["error"]["reason"]) == (404, "not_found")
        for method, path, allowed in (
            ("GET", "/pause", "POST"),
            ("OPTIONS", "/shadows", "GET, HEAD"),
            ("POST", "/shadows/a/percent", "PUT"),
        ):
            wrong = await admin.request(method, path, headers=MARK)
            assert (wrong.status_code, wrong.headers["allow"]) == (405, allowed)
            assert wrong.json()["error"]["reason"] == "method_not_allowed"


async def test_a_body_is_bounded_in_length_and_in_time(proxy: StartProxy, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("shadowproxy.serve.admin.app.BODY_TIMEOUT", 0.05)

    async with proxy(shadows={"a": ONE}, **ADMIN) as running, client(running) as admin:
        long = await admin.put("/shadows/a/percent", headers=MARK, content=b" " * 5000)
        assert (long.status_code, long.json()["error"]["reason"]) == (413, "too_large")
        host, port = running.sidecar.admin_address or ("", 0)
        reader, writer = await asyncio.open_connection(host, port)
        head = f"PUT /shadows/a/percent HTTP/1.1\r\nHost: {host}\r\nX-Shadowproxy-Admin: 1\r\nContent-Length: 9\r\n\r\n"
        writer.write(head.encode() + b"{")
        async with asyncio.timeout(5):
            assert await reader.readline() == b"HTTP/1.1 408 Request Timeout\r\n"
        writer.close()


async def test_malformed_requests_are_rejected_as_on_the_callers_port(proxy: StartProxy) -> None:
    async with proxy(shadows={"a": ONE}, **ADMIN) as running:
        host, port = running.sidecar.admin_address or ("", 0)
        for nonsense in (
            b"GET /shadows HTTP/1.1\r\nHost: 127.0.0.1\r\nHost: 127.0.0.1\r\n\r\n",
            b"GET /shadows HTTP/1.1\r\n\r\n",
            b"GET /shadows HTTP/1.1\nHost: 127.0.0.1\n\n",
            b"PUT /shadows/a/percent HTTP/1.1\r\nHost: 127.0.0.1\r\nX-Shadowproxy-Admin: 1\r\n"
            b"Transfer-Encoding: chunked\r\n\r\nno chunk\r\n",
        ):
            async with await Caller.to((host, port)) as caller:
                reply = await caller.ask(nonsense)
                assert reply.status == 400
                error = json.loads(reply.body)["error"]
                assert error.keys() == {"reason", "detail"}  # the form of every other refusal here
                assert error["reason"] == "http_request_error"


async def test_idle_connections_do_not_keep_others_out(proxy: StartProxy, caplog: pytest.LogCaptureFixture) -> None:
    async with proxy(shadows={"a": ONE}, **ADMIN) as running, AsyncExitStack() as held:
        host, port = running.sidecar.admin_address or ("", 0)
        first, *_ = [await held.enter_async_context(await Caller.to((host, port))) for _ in range(70)]
        async with client(running) as admin:
            assert (await admin.get("/healthz")).status_code == 200
        async with asyncio.timeout(5):
            while first.ended == "no":  # noqa: ASYNC110  # a Peer tells nobody of its end
                await asyncio.sleep(0)
        full = [line for line in caplog.messages if line.startswith("closed an idle connection to the admin server")]
        assert len(full) == 3  # the 1st, 2nd and 4th of seven


async def test_listeners_are_not_closed_for_room(proxy: StartProxy, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("shadowproxy.serve.probes.front.MOST", 1)
    async with (
        proxy(shadows={"a": ONE}, **ADMIN) as running,
        client(running) as admin,
        admin.stream("GET", "/events") as events,
    ):
        lines = events.aiter_lines()
        assert await anext(lines) == "event: overview"
        with pytest.raises(httpx.TransportError):
            async with client(running) as other:
                await other.get("/healthz")
        while await anext(lines) != "event: overview":
            pass


async def test_every_answer_has_the_headers_that_keep_a_browser_strict(proxy: StartProxy) -> None:
    async with proxy(shadows={"a": ONE}, **ADMIN) as running, client(running) as admin:
        for path in ("/", "/shadows", "/nowhere", "/exchanges?limit=0", "/metrics"):
            fields = (await admin.get(path, headers={"Origin": "http://evil.example"})).headers
            assert fields["x-content-type-options"] == "nosniff"
            assert fields["cache-control"] == "no-store"
            assert fields["content-security-policy"].startswith("default-src 'none'; ")
            assert "frame-ancestors 'none'" in fields["content-security-policy"]
            assert not [name for name in fields if name.startswith("access-control-")]
            assert "server" not in fields


async def test_a_defect_is_answered_as_one_without_its_details(
    proxy: StartProxy, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def broken(*_: object) -> object:
        raise ValueError("secret detail")

    monkeypatch.setattr("shadowproxy.serve.admin.recent.Recent.latest", broken)
    async with proxy(**ADMIN) as running, client(running) as admin:
        told = await admin.get("/exchanges")
        assert (told.status_code, told.json()["error"]["reason"]) == (500, "defect")
        assert "secret" not in told.text
        assert told.headers["x-content-type-options"] == "nosniff"
    assert "secret detail" in caplog.text


# --- the configuration -----------------------------------------------------------------------------------------------


async def test_config_shows_the_configuration_in_force_without_its_secrets(proxy: StartProxy) -> None:
    options = {"headers": {"set": {"Authorization": "Bearer secret"}}}
    async with (
        proxy(live_options=options, shadows={"a": ONE}, drain="7s", **ADMIN) as running,
        client(running) as admin,
    ):
        told = await admin.get("/config")
        assert told.json()["drain"] == "7s"
        assert told.json()["shadows"]["a"]["url"] == running.shadows["a"].url
        assert "secret" not in told.text


# --- events ----------------------------------------------------------------------------------------------------------


@pytest.mark.timing
async def test_events_come_as_server_sent_events_and_end_when_it_stops(proxy: StartProxy) -> None:
    async with (
        proxy(shadows={"a": ONE}, **ADMIN) as running,
        client(running) as admin,
        admin.stream("GET", "/events") as events,
    ):
        assert events.headers["content-type"].startswith("text/event-stream")
        lines = events.aiter_lines()
        assert await anext(lines) == "event: overview"
        assert json.loads((await anext(lines)).removeprefix("data: "))["state"] == "ready"
        loop = asyncio.get_running_loop()
        began = loop.time()
        await running.records()  # stops it, as SIGTERM does
        assert loop.time() - began < 0.5  # the admin server would wait 1 s for what is under way
        async with asyncio.timeout(5):
            rest = [line async for line in lines]
        assert all(line.startswith(("event: overview", "data: {")) or not line for line in rest)


async def test_listeners_get_events_while_it_drains(proxy: StartProxy) -> None:
    gate = asyncio.Event()

    async def slow(peer: Peer) -> None:
        await peer.request()
        await gate.wait()
        await peer.send(answer(b"{}"))

    async with proxy(shadows={"a": slow}, **ADMIN) as running, client(running) as admin:
        await running.ask(GET)
        stopping = asyncio.get_running_loop().create_task(running.records())
        await asyncio.sleep(0)
        told = (await admin.get("/overview")).json()
        assert told["state"] == "stopping"
        assert told["shadows"][0]["in_flight"] == 1
        gate.set()
        assert len(await stopping) == 1


async def test_more_listeners_than_there_may_be_are_refused_and_leaving_makes_room(proxy: StartProxy) -> None:
    async with proxy(**ADMIN) as running, client(running) as admin:
        host, port = running.sidecar.admin_address or ("", 0)
        listening = []
        for _ in range(16):
            reader, writer = await asyncio.open_connection(host, port)
            writer.write(b"GET /events HTTP/1.1\r\nHost: localhost\r\n\r\n")
            await reader.readuntil(b"event: overview\n")
            listening.append(writer)
        assert (await admin.head("/events")).status_code == 503
        refused = await admin.get("/events")
        assert (refused.status_code, refused.json()["error"]["reason"]) == (503, "too_many_listeners")
        listening.pop().close()
        async with asyncio.timeout(5):
            status = 503
            while status == 503:
                status = (await admin.head("/events")).status_code
        assert status == 200
        for writer in listening:
            writer.close()


@pytest.mark.timing
async def test_a_listener_that_takes_nothing_delays_no_other(proxy: StartProxy) -> None:
    async with proxy(shadows={"a": ONE}, **ADMIN) as running, client(running) as admin:
        host, port = running.sidecar.admin_address or ("", 0)
        _, deaf = await asyncio.open_connection(host, port, limit=1)
        deaf.write(b"GET /events HTTP/1.1\r\nHost: localhost\r\n\r\n")
        assert (await running.ask(GET)).status == 200
        assert (await admin.get("/readyz")).status_code == 200
        loop = asyncio.get_running_loop()
        began = loop.time()
        assert len(await running.records()) == 1
        assert loop.time() - began < 2
        deaf.close()
