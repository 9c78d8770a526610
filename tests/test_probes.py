"""The admin port's front: probes are answered whatever the recorder does, and everything else gets to the recorder."""

import asyncio
import contextlib
import json
import random
import shutil
import signal
import socket
import subprocess
import sys
from collections.abc import AsyncIterator, Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import uvloop
from fakes import Caller, Message, cut
from recorder_end import RecorderEnd, echo

from shadowproxy import healthcheck
from shadowproxy.config import TcpAddress, UnixAddress
from shadowproxy.serve.admin.receiving import Receiver
from shadowproxy.serve.callers.addresses import bind
from shadowproxy.serve.probes import answers, connection, front, passing
from shadowproxy.serve.probes.answers import Health
from shadowproxy.serve.probes.front import Front

App = Callable[[Any, Any, Any], Any]
# The hook that follows it is not in all the versions that pyproject.toml allows.
pytestmark = pytest.mark.filterwarnings("ignore:Overriding the .event_loop_policy. fixture is deprecated")

STATE = Health(accepts=True, failing=None, unusable=("a",))


@pytest.fixture(params=[asyncio.DefaultEventLoopPolicy, uvloop.EventLoopPolicy], ids=["asyncio", "uvloop"])
def event_loop_policy(request: pytest.FixtureRequest) -> asyncio.AbstractEventLoopPolicy:
    """Each test runs on both loops: their transports differ in when they read, write and close."""
    policy: asyncio.AbstractEventLoopPolicy = request.param()
    return policy


class Port:
    """A front on a port of its own."""

    def __init__(self, at: Front, address: tuple[str, int]) -> None:
        self.front = at
        self.address = address

    async def caller(self) -> Caller:
        return await Caller.to(self.address)

    async def ask(self, raw: bytes) -> Message:
        async with await self.caller() as caller:
            return await caller.ask(raw)


@contextlib.asynccontextmanager
async def fronted(health: Callable[[], Health] = lambda: STATE) -> AsyncIterator[Port]:
    """A front without a recorder."""
    with socket.create_server(("127.0.0.1", 0)) as listening:
        at = Front(listening, health=health)
        at.start()
        try:
            yield Port(at, listening.getsockname())
        finally:
            await at.close(0.1)


@contextlib.asynccontextmanager
async def together(app: App = echo) -> AsyncIterator[Port]:
    """A front and a recorder's end with this application, in one process."""
    async with fronted() as port:
        ours, theirs = passing.pair()
        receiver = Receiver(theirs, app)
        receiver.start()
        port.front.connect(ours)
        try:
            yield port
        finally:
            await receiver.close(0.1)


@contextlib.asynccontextmanager
async def apart() -> AsyncIterator[tuple[Port, RecorderEnd]]:
    """A front, and a recorder's end in a process of its own."""
    async with fronted() as port:
        ours, theirs = passing.pair()
        async with RecorderEnd.beside(theirs) as recorder:
            port.front.connect(ours)
            yield port, recorder


def request(path: str, *fields: str, method: str = "GET", body: bytes = b"") -> bytes:
    lines = [f"{method} {path} HTTP/1.1", "Host: localhost", *fields]
    if body:
        lines.append(f"Content-Length: {len(body)}")
    return "\r\n".join([*lines, "\r\n"]).encode() + body


def reason(message: Message) -> str:
    error = json.loads(message.body)["error"]
    assert error.keys() == {"reason", "detail"}
    assert len(error["detail"]) > 10
    return str(error["reason"])


def told(message: Message) -> Any:
    assert message.status == 200
    return json.loads(message.body)


# --- the probes ------------------------------------------------------------------------------------------------------


async def test_probes_are_answered_without_a_recorder_and_nothing_else_is() -> None:
    async with fronted() as port, await port.caller() as caller:
        for _ in range(2):
            alive = await caller.ask(request("/healthz"))
            assert alive.body == b'{"status":"alive","log":"ok","unusable":["a"]}'
            assert alive.all(b"content-type") == [b"application/json"]
            assert alive.all(b"cache-control") == [b"no-store"]
            assert (await caller.ask(request("/readyz?verbose"))).body == b'{"status":"ready"}'
            head = await caller.ask(request("/readyz", method="HEAD"))
            assert (head.status, head.body, head.all(b"content-length")) == (200, b"", [b"18"])
            for method, path in (
                ("GET", "/metrics"),
                ("POST", "/healthz"),
                ("GET", "/healthz/"),
                ("DELETE", "/readyz"),
            ):
                refused = await caller.ask(request(path, method=method))
                assert (refused.status, reason(refused)) == (503, "recorder_unavailable")
                assert refused.all(b"retry-after") == [b"1"]


async def test_many_requests_that_come_together_without_a_recorder_are_answered_one_by_one() -> None:
    times = 2000
    async with fronted() as port, await port.caller() as caller:
        sending = asyncio.ensure_future(caller.send(request("/page") * times + request("/readyz")))
        assert {(await caller.answer()).status for _ in range(times)} == {503}
        assert (await caller.answer()).status == 200
        await sending


async def test_a_probe_says_what_the_state_is_when_it_comes() -> None:
    state = Health(accepts=True, failing="No space left on device")
    async with fronted(lambda: state) as port, await port.caller() as caller:
        assert told(await caller.ask(request("/healthz")))["log"] == "No space left on device"
        state = Health(accepts=False)
        assert told(await caller.ask(request("/healthz"))) == {"status": "alive", "log": "ok", "unusable": []}
        stopping = await caller.ask(request("/readyz"))
        assert (stopping.status, stopping.body) == (503, b'{"status":"stopping"}')


async def test_a_stopped_recorder_delays_no_probe_and_its_pages_say_so_until_it_goes_on(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    async with apart() as (port, recorder), await port.caller() as kept, await port.caller() as fresh:
        assert told(await kept.ask(request("/page")))["path"] == "/page"
        assert (await kept.ask(request("/readyz"))).status == 200  # so it has come back from the recorder
        recorder.signal(signal.SIGSTOP)
        monkeypatch.setattr(front, "REPLY", 0.05)
        for caller in (kept, fresh):  # the one that has been with the recorder, too
            assert (await caller.ask(request("/readyz"))).status == 200
            assert (await caller.ask(request("/healthz"))).status == 200
            refused = await caller.ask(request("/page"))
            assert (refused.status, reason(refused)) == (503, "recorder_unavailable")
        monkeypatch.setattr(front, "REPLY", 3600.0)
        refused = await fresh.ask(request("/page"))  # it is known by now, and not waited for
        assert refused.status == 503
        host, at = port.address
        assert await asyncio.to_thread(healthcheck.probe, f"{host}:{at}") == 0
        recorder.signal(signal.SIGCONT)
        async with asyncio.timeout(10):
            while (await kept.ask(request("/page"))).status != 200:
                pass
        assert told(await fresh.ask(request("/page")))["path"] == "/page"
    silent = [each for each in caplog.records if getattr(each, "event", None) == "recorder_silent"]
    assert len(silent) == 1


async def test_a_recorder_that_is_killed_costs_its_own_requests_and_the_next_one_answers() -> None:
    async with apart() as (port, recorder), await port.caller() as kept, await port.caller() as cut_off:
        assert told(await kept.ask(request("/page")))["path"] == "/page"
        await cut_off.send(request("/hangs"))
        await cut_off.wait_received(50)
        await recorder.kill()
        await cut_off.wait_ended()
        refused = await kept.ask(request("/page"))
        assert (refused.status, reason(refused)) == (503, "recorder_unavailable")
        assert (await kept.ask(request("/healthz"))).status == 200
        ours, theirs = passing.pair()
        async with RecorderEnd.beside(theirs):
            port.front.connect(ours)
            assert told(await kept.ask(request("/page")))["path"] == "/page"
            assert (await kept.ask(request("/readyz"))).status == 200  # it has come back
            assert repr(port.front) == "<Front 1 connections, 0 passed on>"


# --- handing over ----------------------------------------------------------------------------------------------------


async def test_one_connection_asks_for_probes_and_pages_in_turn() -> None:
    async with apart() as (port, _), await port.caller() as caller:
        for number in range(5):
            assert (await caller.ask(request("/readyz"))).status == 200
            assert told(await caller.ask(request(f"/p{number}")))["path"] == f"/p{number}"
            sent = told(await caller.ask(request("/x", method="POST", body=b"some body")))
            assert (sent["method"], sent["body"]) == ("POST", "some body")


async def test_requests_that_come_together_are_answered_in_order() -> None:
    paths = ["/healthz", "/a", "/b", "/readyz", "/c", "/healthz"]
    async with apart() as (port, _), await port.caller() as caller:
        await caller.send(b"".join(map(request, paths)))
        replies = [await caller.answer() for _ in paths]
    assert [json.loads(each.body).get("path") for each in replies] == [None, "/a", "/b", None, "/c", None]


async def test_a_body_may_come_after_its_connection_was_passed_on() -> None:
    async with apart() as (port, _), await port.caller() as caller:
        await caller.send(request("/x", "Content-Length: 9", "Expect: 100-continue", method="PUT"))
        await caller.wait_received(len(b"HTTP/1.1 100 \r\n\r\n"))  # by uvicorn: the application reads the body
        await caller.send(b"some body" + request("/readyz"))
        seen = bytes(caller.received)
        assert seen.startswith(b"HTTP/1.1 100 ")
        caller.received[:] = seen[seen.index(b"\r\n\r\n") + 4 :]
        assert told(await caller.answer(b"PUT"))["body"] == "some body"
        assert (await caller.answer()).body == b'{"status":"ready"}'


async def test_however_requests_are_cut_their_answers_are_the_same() -> None:
    random.seed(16)
    kinds: list[tuple[bytes, str]] = [
        (request("/healthz"), "alive"),
        (request("/readyz"), "ready"),
        (request("/a?b=c"), "/a "),
        (request("/x", method="POST", body=b"y" * 500), "/x " + "y" * 500),
        (
            request("/c", "Transfer-Encoding: chunked", method="POST") + b"3;e=1\r\nabc\r\n1\r\nd\r\n0\r\nT: t\r\n\r\n",
            "/c abcd",
        ),
    ]
    async with together() as port:
        for _ in range(25):
            chosen = [random.choice(kinds) for _ in range(random.randint(1, 6))]
            raw = b"".join(each for each, _ in chosen)
            cuts = sorted(random.sample(range(1, len(raw)), random.randint(0, 5)))
            async with await port.caller() as caller:
                for piece in cut(raw, cuts):
                    await caller.send(piece)
                    if random.random() < 0.5:
                        await asyncio.sleep(random.choice((0, 0.002)))
                got = []
                for _ in chosen:
                    values = json.loads((await caller.answer()).body)
                    got.append(values.get("status") or f"{values['path']} {values['body']}")
                assert got == [expected for _, expected in chosen]


async def test_a_recorder_has_a_bounded_number_of_requests_and_probes_have_room(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(front, "MOST_PASSED", 1)
    async with together() as port, await port.caller() as first, await port.caller() as second:
        await first.send(request("/hangs"))
        await first.wait_received(50)
        refused = await second.ask(request("/page"))
        assert (refused.status, reason(refused)) == (503, "recorder_unavailable")
        assert (await second.ask(request("/readyz"))).status == 200
        first.reset()
        async with asyncio.timeout(5):
            while (await second.ask(request("/page"))).status != 200:
                pass


async def test_what_the_front_does_not_read_ends_the_connection_and_is_not_taken_for_a_request() -> None:
    smuggled = request("/metrics")
    async with fronted() as port:
        for path, status in (("/readyz", 200), ("/page", 503)):
            async with await port.caller() as caller:
                reply = await caller.ask(request(path, f"Content-Length: {len(smuggled)}") + smuggled)
                assert (reply.status, reply.all(b"connection")) == (status, [b"close"])
                assert not await caller.more()


# --- the bounds ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("raw", "status"),
    [
        (b"GET / HTTP/1.1\r\n\r\n", 400),
        (b"GET / HTTP/1.1\r\nHost: h\r\nHost: h\r\n\r\n", 400),
        (b"GET / HTTP/1.1\nHost: h\n\n", 400),
        (b"GET / HTTP/1.1\r\nHost: h\r\nContent-Length: 1\r\nTransfer-Encoding: chunked\r\n\r\n", 400),
        (b"GET / HTTP/2.0\r\nHost: h\r\n\r\n", 505),
        (b"GET / HTTP/1.1\r\nHost: h\r\nX: " + b"x" * 17_000, 431),
        (b"GET /" + b"x" * 17_000, 414),
        (b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03", 400),
    ],
)
@pytest.mark.parametrize("before", [b"", request("/page"), request("/readyz")])
async def test_no_connection_may_break_the_grammar_first_or_later(before: bytes, raw: bytes, status: int) -> None:
    async with together() as port, await port.caller() as caller:
        await caller.send(before + raw)
        if before:
            assert (await caller.answer()).status == 200
        reply = await caller.answer()
        assert (reply.status, reason(reply)) == (status, "http_request_error")
        assert reply.all(b"connection") == [b"close"]
        assert not await caller.more()


async def test_a_slow_head_is_answered_with_408(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(connection, "HEAD_TIMEOUT", 0.05)
    async with together() as port, await port.caller() as caller:
        assert (await caller.ask(request("/page"))).status == 200
        await caller.send(b"GET /healthz HTTP/1.1\r\nHo")
        reply = await caller.answer()
        assert (reply.status, reason(reply)) == (408, "http_request_error")


async def test_an_idle_connection_is_closed(monkeypatch: pytest.MonkeyPatch) -> None:
    async with together() as port:
        for before in (b"", request("/page"), request("/readyz")):
            monkeypatch.setattr(connection, "IDLE_TIMEOUT", 3600.0)
            async with await port.caller() as caller:
                if before:
                    assert (await caller.ask(before)).status == 200
                monkeypatch.setattr(connection, "IDLE_TIMEOUT", 0.05)
                if not before:
                    async with await port.caller() as late:
                        assert not await late.more()
                else:
                    assert (await caller.ask(before)).status == 200
                    assert not await caller.more()


async def test_of_too_many_connections_the_oldest_idle_one_is_closed() -> None:
    async with together() as port, contextlib.AsyncExitStack() as held:
        busy = await held.enter_async_context(await port.caller())
        await busy.send(request("/hangs"))
        await busy.wait_received(50)
        callers = [await held.enter_async_context(await port.caller()) for _ in range(front.MOST - 1)]
        for each in callers:
            assert (await each.ask(request("/page"))).status == 200
        assert (await port.ask(request("/readyz"))).status == 200
        assert not await callers[0].more()
        assert callers[1].ended == "no"
        assert (await callers[-1].ask(request("/page"))).status == 200
        assert busy.ended == "no"


async def test_a_client_that_takes_no_answers_is_not_read_and_is_closed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(connection, "SEND_TIMEOUT", 0.1)
    async with fronted() as port:
        with socket.socket() as deaf:
            deaf.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 2048)
            deaf.setblocking(False)
            await asyncio.get_running_loop().sock_connect(deaf, port.address)
            sending = asyncio.get_running_loop().sock_sendall(deaf, request("/healthz") * 200_000)
            with pytest.raises(ConnectionError):
                await asyncio.wait_for(sending, 20)
        assert (await port.ask(request("/healthz"))).status == 200


# --- what is around uvicorn ------------------------------------------------------------------------------------------


async def test_a_response_that_does_not_wait_for_the_body_arrives_and_ends_the_connection() -> None:
    async with together() as port, await port.caller() as caller:
        await caller.send(request("/bodiless", "Content-Length: 1000000", method="POST") + b"x" * 1000)
        reply = await caller.answer()
        assert (reply.status, reply.all(b"connection")) == (200, [b"close"])
        await caller.send(b"x" * 1000)  # and is not answered with a reset
        assert not await caller.more()
        assert caller.ended == "fin"


async def test_a_body_that_is_malformed_is_an_error_to_whoever_reads_it() -> None:
    seen: list[Exception] = []

    async def reading(scope: Any, receive: Any, send: Any) -> None:
        try:
            while (await receive()).get("more_body"):
                pass
        except ValueError as error:
            seen.append(error)
        await echo(scope | {"path": "/bodiless"}, receive, send)

    async with together(reading) as port, await port.caller() as caller:
        await caller.send(b"POST /x HTTP/1.1\r\nHost: h\r\nTransfer-Encoding: chunked\r\n\r\n1\r\na\r\nno chunk\r\n")
        reply = await caller.answer()
        assert (reply.status, reply.all(b"connection")) == (200, [b"close"])
    assert [str(each) for each in seen] == ["malformed chunk size"]


async def test_the_work_for_a_client_that_leaves_is_cancelled() -> None:
    began, ended = asyncio.Event(), asyncio.Event()

    async def slow(scope: Any, receive: Any, send: Any) -> None:
        began.set()
        try:
            await asyncio.Event().wait()
        finally:
            ended.set()

    async with together(slow) as port, await port.caller() as caller:
        await caller.send(request("/x"))
        await asyncio.wait_for(began.wait(), 5)
        caller.reset()
        await asyncio.wait_for(ended.wait(), 5)


async def test_a_stream_to_a_client_that_leaves_without_a_word_ends_at_a_later_piece() -> None:
    ended = asyncio.Event()

    async def stream(scope: Any, receive: Any, send: Any) -> None:
        try:
            await send({"type": "http.response.start", "status": 200, "headers": []})
            while True:
                await send({"type": "http.response.body", "body": b"piece", "more_body": True})
                await asyncio.sleep(0.01)
        finally:
            ended.set()

    async with together(stream) as port:
        async with await port.caller() as caller:
            await caller.send(request("/x"))
            await caller.wait_received(50)
        await asyncio.wait_for(ended.wait(), 5)


async def test_a_client_that_sends_no_more_gets_all_responses() -> None:
    async with together() as port:
        for raw in (request("/a"), request("/a", method="PUT", body=b"body"), request("/healthz")):
            async with await port.caller() as caller:
                await caller.send(raw + request("/b") + request("/readyz") + request("/c"))
                caller.half_close()
                assert (await caller.answer()).status == 200
                assert told(await caller.answer())["path"] == "/b"
                assert (await caller.answer()).body == b'{"status":"ready"}'
                assert told(await caller.answer())["path"] == "/c"
                assert not await caller.more()


async def test_a_request_of_which_a_part_is_missing_at_the_end_is_not_waited_for() -> None:
    async with together() as port:
        for raw in (request("/a")[:-5], request("/a", "Content-Length: 5", method="PUT") + b"body"):
            async with await port.caller() as caller:
                await caller.send(raw)
                caller.half_close()
                assert not await caller.more()


async def test_requests_behind_one_with_the_recorder_are_not_lost_however_many() -> None:
    """What is read behind a request goes back to the front in one message, which has a most."""
    times = 8000  # more than a transport reads at once
    gate = asyncio.Event()

    async def gated(scope: Any, receive: Any, send: Any) -> None:
        await gate.wait()
        await echo(scope, receive, send)

    async with together(gated) as port, await port.caller() as caller:
        await caller.send(request("/first"))
        while port.front._waiting or not port.front._passed:  # noqa: ASYNC110  # no event says so
            await asyncio.sleep(0)
        sending = asyncio.ensure_future(caller.send(request("/readyz") * times + request("/last")))
        await asyncio.sleep(0.05)
        gate.set()
        assert told(await caller.answer())["path"] == "/first"
        assert {(await caller.answer()).body for _ in range(times)} == {b'{"status":"ready"}'}
        assert told(await caller.answer())["path"] == "/last"
        await sending


async def large(scope: Any, receive: Any, send: Any) -> None:
    await send({"type": "http.response.start", "status": 200, "headers": [(b"content-length", b"8000000")]})
    await send({"type": "http.response.body", "body": b"x" * 8_000_000})


async def test_a_large_response_to_a_slow_reader_is_complete_and_its_connection_goes_on() -> None:
    async with together(large) as port, await Caller.to(port.address, receive_buffer=4096) as caller:
        await caller.send(request("/x"))
        await asyncio.sleep(0.05)
        assert len((await caller.answer()).body) == 8_000_000
        assert (await caller.ask(request("/readyz"))).status == 200


@pytest.mark.timing
async def test_a_client_that_takes_a_little_now_and_then_gets_all(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("shadowproxy.serve.admin.receiving.STUCK", 0.4)
    loop = asyncio.get_running_loop()
    async with together(large) as port:
        with socket.socket() as slow:
            slow.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 2048)
            slow.setblocking(False)
            await loop.sock_connect(slow, port.address)
            await loop.sock_sendall(slow, request("/x"))
            got, until = 0, loop.time() + 1.2
            while loop.time() < until:
                got += len(await loop.sock_recv(slow, 200_000))
                await asyncio.sleep(0.002)
            assert got < 8_000_000, "or it was not slow"
            while got < 8_000_000:
                piece = await loop.sock_recv(slow, 200_000)
                assert piece
                got += len(piece)


async def test_a_client_that_takes_nothing_is_disconnected(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr("shadowproxy.serve.admin.receiving.STUCK", 0.05)
    caplog.set_level("INFO")
    async with together(large) as port, await Caller.to(port.address, receive_buffer=4096) as caller:
        caller.stop_reading()
        await caller.send(request("/x"))
        async with asyncio.timeout(10):
            while port.front._connections or port.front._passed or not caplog.records:  # noqa: ASYNC110
                await asyncio.sleep(0.01)
    assert [getattr(each, "event", "") for each in caplog.records] == ["caller_stuck"]


async def test_a_defect_amid_a_response_ends_the_connection_and_is_logged_once(
    caplog: pytest.LogCaptureFixture, capfd: pytest.CaptureFixture[str]
) -> None:
    async def broken(scope: Any, receive: Any, send: Any) -> None:
        await send({"type": "http.response.start", "status": 200, "headers": []})
        await send({"type": "http.response.body", "body": b"part", "more_body": True})
        raise ValueError("of the application")

    async with together(broken) as port, await port.caller() as caller:
        await caller.send(request("/x"))
        await caller.wait_ended()
        assert b"part" in caller.received
        assert not caller.received.endswith(b"0\r\n\r\n")
    assert [getattr(each, "event", "") for each in caplog.records] == ["defect"]
    assert capfd.readouterr().err == ""


async def test_requests_that_uvicorn_reads_otherwise_are_read_as_by_the_grammar(
    caplog: pytest.LogCaptureFixture,
) -> None:
    async with together() as port:
        async with await port.caller() as caller:
            got = told(await caller.ask(b"GET http://localhost/a?b HTTP/1.1\r\nHost: localhost\r\n\r\n"))
            assert (got["path"], got["query"]) == ("/a", "b")
            assert told(await caller.ask(b"GET /\xc3\xa4%20 HTTP/1.1\r\nHost: localhost\r\n\r\n"))["path"] == "/ä "
            upgrade = (
                "Connection: Upgrade, HTTP2-Settings",
                "Upgrade: h2c",
                "HTTP2-Settings: AAMAAABkAAQAoAAAAAIAAAAA",
            )
            got = told(await caller.ask(request("/x", *upgrade, method="POST", body=b"body")))
            assert got["body"] == "body"
            websocket = (
                "Connection: Upgrade",
                "Upgrade: websocket",
                "Sec-WebSocket-Key: x",
                "Sec-WebSocket-Version: 13",
            )
            assert told(await caller.ask(request("/ws", *websocket)))["path"] == "/ws"
        old = await port.ask(b"GET /old HTTP/1.0\r\n\r\n")
        assert (told(old)["path"], old.all(b"connection")) == ("/old", [b"close"])
        closing = await port.ask(request("/x", "Connection: close"))
        assert (closing.status, closing.all(b"connection")) == (200, [b"close"])
        assert not closing.all(b"server")
        assert not closing.all(b"date")
    assert caplog.messages == []


async def test_without_a_recorder_the_pages_say_whether_it_is_started_or_the_sidecar_stops() -> None:
    state = STATE

    async with fronted(lambda: state) as port, await port.caller() as caller:

        async def why() -> str:
            return str(json.loads((await caller.ask(request("/metrics"))).body)["error"]["detail"])

        assert "being started" in await why()
        state = Health(accepts=False)
        assert await why() == "the sidecar is stopping; only requests under way are answered"


async def test_a_recorder_that_hangs_at_a_stop_is_not_said_to_be_started() -> None:
    state = STATE

    async with fronted(lambda: state) as port, await port.caller() as caller:
        ours, theirs = passing.pair()
        with theirs:
            port.front.connect(ours)
            await caller.send(request("/metrics"))
            await until_asked(theirs)
            state = Health(accepts=False)
            closing = asyncio.get_running_loop().create_task(port.front.close(0.1))
            refused = await caller.answer()
            assert json.loads(refused.body)["error"]["detail"].startswith("the sidecar is stopping")
            await closing


async def until_asked(end: socket.socket) -> None:
    """Wait for the question whether the recorder is there."""
    async with asyncio.timeout(10):
        while True:
            try:
                assert end.recv(100)
            except BlockingIOError:
                await asyncio.sleep(0.001)
            else:
                return


async def test_a_stop_lets_a_request_under_way_be_answered() -> None:
    gate, began = asyncio.Event(), asyncio.Event()

    async def slow(scope: Any, receive: Any, send: Any) -> None:
        began.set()
        await gate.wait()
        await echo(scope, receive, send)

    loop = asyncio.get_running_loop()
    async with together(slow) as port, await port.caller() as caller, await port.caller() as idle:
        assert (await idle.ask(request("/readyz"))).status == 200
        await caller.send(request("/x"))
        await began.wait()
        closing = loop.create_task(port.front.close(5))
        assert not await idle.more()
        gate.set()
        assert told(await caller.answer())["path"] == "/x"
        await closing


# --- addresses and clients -------------------------------------------------------------------------------------------


@pytest.fixture(params=["unix", "ipv6"])
def address(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[tuple[socket.socket, str, str]]:
    """A bound socket; its address as the health check writes it; the options with which curl reaches it."""
    if request.param == "unix":
        path = str(tmp_path / "admin.sock")
        with bind(UnixAddress(path)) as bound:
            yield bound, f"unix:{path}", f"--unix-socket {path} http://localhost"
    else:
        with bind(TcpAddress("::1", 0)) as bound:
            port = bound.getsockname()[1]
            yield bound, f"[::1]:{port}", f"http://[::1]:{port}"


async def test_probes_and_pages_are_there_on_every_kind_of_address(address: tuple[socket.socket, str, str]) -> None:
    bound, admin, options = address
    at = Front(bound, health=lambda: STATE)
    at.start()
    assert await asyncio.to_thread(healthcheck.probe, admin) == 0
    ours, theirs = passing.pair()
    receiver = Receiver(theirs, echo)
    receiver.start()
    at.connect(ours)
    if (curl := shutil.which("curl")) is not None:
        *more, url = options.split(" ")
        urls = [f"{url}{path}" for path in ("/readyz", "/page", "/page", "/healthz")]
        done = await asyncio.create_subprocess_exec(
            curl, "-sS", "-g", "-w", "%{num_connects}\n", *more, "-d", "some=form", *urls[1:3], "--next", *more,
            "-sS", "-g", "-w", "%{num_connects}\n", urls[3], urls[0], stdout=asyncio.subprocess.PIPE,
        )  # fmt: skip
        out, _ = await done.communicate()
        lines = out.decode().splitlines()
        assert done.returncode == 0
        assert [each[each.rindex("}") + 1 :] for each in lines] == ["1", "0", "0", "0"]  # one connection for all
        assert all('"body": "some=form"' in each for each in lines[:2])
        assert [json.loads(each[:-1])["status"] for each in lines[2:]] == ["alive", "ready"]
    await receiver.close()
    await at.close(0.1)


# --- the room --------------------------------------------------------------------------------------------------------


def test_the_front_imports_the_standard_library_and_little_of_the_program() -> None:
    probe = "import sys; b = set(sys.modules); import shadowproxy.serve.probes.front; print(*set(sys.modules) - b)"
    loaded = subprocess.run([sys.executable, "-c", probe], capture_output=True, text=True, check=True).stdout.split()
    others = {name.partition(".")[0] for name in loaded if not name.endswith("__mypyc")} - set(sys.stdlib_module_names)
    assert others == {"shadowproxy"}
    rooms = {".".join(name.split(".")[1:3]) for name in loaded if name.startswith("shadowproxy.serve.")}
    assert rooms == {"serve.http1", "serve.probes", "serve.telemetry"}


@pytest.mark.parametrize(
    ("silence", "alive", "ready"),
    [
        (0.0, (200, "alive"), (200, "ready")),
        (9.0, (200, "alive"), (200, "ready")),
        (11.0, (200, "alive"), (503, "hangs")),
        (61.0, (503, "hangs"), (503, "hangs")),
        (None, (200, "alive"), (503, "restarting")),
    ],
)
def test_a_process_that_serves_nobody_is_not_ready_and_one_that_hangs_for_a_minute_is_not_alive(
    silence: float | None, alive: tuple[int, str], ready: tuple[int, str]
) -> None:
    health = Health(accepts=True, silence=silence)
    for probe, expected in ((answers.alive, alive), (answers.ready, ready)):
        status, values = probe(health)
        assert (status, values["status"]) == expected
