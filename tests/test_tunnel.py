"""A WebSocket passes to live as a tunnel: after live's 101 all bytes both ways, in bounds, recorded as one exchange."""

import asyncio
import hashlib
import json
import random
import signal
import ssl
from collections.abc import Awaitable, Callable
from pathlib import Path

import pytest
import trustme
from conftest import Proxy, StartProxy
from fakes import Caller, Message, Origin, Peer, answer
from program import Program

from shadowproxy import record
from shadowproxy.exchange import Outcome, Tunnel, TunnelEnd

GET = b"GET / HTTP/1.1\r\nHost: h\r\n\r\n"
KEY = b"Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Version: 13\r\n"
OFFER = (
    b"GET /chat?room=1 HTTP/1.1\r\nHost: h\r\nUpgrade: websocket\r\nConnection: keep-alive, Upgrade\r\n" + KEY + b"\r\n"
)
ACCEPT = b"Sec-WebSocket-Accept: s3pPLMBiTxaQ9kYGzzhZRbK+xOo="
SWITCH = b"HTTP/1.1 101 Whatever\r\nUPGRADE: WebSocket\r\nconnection: Upgrade\r\n" + ACCEPT + b"\r\n\r\n"


async def take(peer: Peer, size: int) -> bytes:
    """The next `size` bytes, and what has come behind them, which stays unread."""
    await peer.wait_received(len(peer.received) - len(peer.unread) + size)
    return peer.unread


def accepting(then: Callable[[Peer], Awaitable[None]]) -> Callable[[Peer], Awaitable[None]]:
    """Answer each WebSocket with a 101, and then do `then`; any other request with a 200."""

    async def script(peer: Peer) -> None:
        while (request := await peer.request()) is not None:
            if not request.all(b"upgrade"):
                await peer.send(answer())
                continue
            await peer.send(SWITCH)
            await then(peer)
            return

    return script


async def stay(peer: Peer) -> None:
    await peer.wait_ended()


async def opened(caller: Caller) -> Message:
    await caller.send(OFFER)
    reply = await caller.answer()
    assert reply.status == 101
    return reply


async def the_record(running: Proxy) -> record.Record:
    (entry,) = await running.records()
    return entry


async def test_a_websocket_passes_both_ways_and_is_one_record(proxy: StartProxy) -> None:
    async def echo(peer: Peer) -> None:
        assert await take(peer, 5) == b"hello"
        await peer.send(b"\x81\x05world")

    async with proxy(accepting(echo), shadows={"s": answer()}) as running, await running.caller() as caller:
        reply = await opened(caller)
        assert reply.start == b"HTTP/1.1 101 Switching Protocols"
        assert reply.all(b"upgrade") == [b"WebSocket"]
        assert [value.lower() for value in reply.all(b"connection")] == [b"upgrade"]
        assert reply.all(b"sec-websocket-accept") == [ACCEPT.partition(b": ")[2]]
        assert len(reply.all(b"x-request-id")) == 1
        await caller.send(b"hel", b"lo")
        assert await caller.rest() == b"\x81\x05world"
        (request,) = running.live.requests
        assert request.target == b"/chat?room=1"
        assert (request.all(b"upgrade"), request.all(b"connection")) == ([b"websocket"], [b"Upgrade"])
        assert request.all(b"sec-websocket-version") == [b"13"]
        entry = await the_record(running)
    assert (entry.live.outcome, entry.live.status) == (Outcome.OK, 101)
    assert entry.tunnel == Tunnel(from_caller=5, from_live=7, ended_by=TunnelEnd.LIVE)
    assert entry.live.first_byte_ms is not None
    assert entry.live.total_ms is not None
    assert entry.live.first_byte_ms <= entry.live.total_ms
    assert entry.shadows == {}
    assert running.shadows["s"].connections == []
    (line,) = [line for file in running.log.glob("*.jsonl*") for line in file.read_bytes().splitlines()]
    assert json.loads(line)["tunnel"] == {"from_caller_bytes": 5, "from_live_bytes": 7, "ended_by": "live"}


async def test_nothing_that_passes_through_is_read_as_http(proxy: StartProxy) -> None:
    async def greedy(peer: Peer) -> None:
        await take(peer, len(GET))
        await peer.send(answer(b"raw"))
        await peer.wait_ended()

    async with proxy(accepting(greedy)) as running, await running.caller() as caller:
        await opened(caller)
        await caller.send(GET)
        assert await take(caller, len(answer(b"raw"))) == answer(b"raw")
        assert len(running.live.connections) == 1
        assert (await running.live.connection()).unread == GET  # without Via, or a request ID


async def test_what_is_sent_before_the_101_waits_for_it(proxy: StartProxy) -> None:
    gate = asyncio.Event()

    async def script(peer: Peer) -> None:
        await peer.request()
        await gate.wait()
        assert peer.unread == b""
        await peer.send(SWITCH + b"first")
        assert await take(peer, 100_000) == bytes(100_000)
        await peer.send(b"last")

    async with proxy(script) as running, await running.caller() as caller:
        await caller.send(OFFER + bytes(100_000))
        live = await running.live.connection()
        await live.wait_received(1)
        gate.set()
        assert (await caller.answer()).status == 101
        assert await caller.rest() == b"firstlast"
        assert (await the_record(running)).tunnel == Tunnel(100_000, 9, TunnelEnd.LIVE)


@pytest.mark.parametrize("status", [200, 401, 426, 503])
async def test_live_may_decline_and_the_connection_stays_in_step(proxy: StartProxy, status: int) -> None:
    async with proxy(answer(b"no", status=status), shadows={"s": answer()}) as running:
        async with await running.caller() as caller:
            await caller.send(OFFER + GET)
            assert ((await caller.answer()).status, (await caller.answer()).status) == (status, status)
        declined, other = await running.records()
        assert (declined.live.status, declined.tunnel, declined.shadows) == (status, None, {})
        assert list(other.shadows) == ["s"]


NO_HANDSHAKES = {
    "POST": OFFER.replace(b"GET", b"POST", 1),
    "a body": OFFER[:-2] + b"Content-Length: 3\r\n\r\nabc",
    "a chunked body": OFFER[:-2] + b"Transfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n0\r\n\r\n",
    "no Connection": OFFER.replace(b"Connection: keep-alive, Upgrade\r\n", b""),
    "Connection without upgrade": OFFER.replace(b"keep-alive, Upgrade", b"keep-alive"),
    "another protocol": OFFER.replace(b"websocket", b"websocketx"),
    "HTTP/1.0": OFFER.replace(b"HTTP/1.1", b"HTTP/1.0"),
}


@pytest.mark.parametrize("name", NO_HANDSHAKES)
async def test_an_offer_that_is_no_handshake_is_ignored_and_cannot_become_a_tunnel(
    proxy: StartProxy, name: str
) -> None:
    async def script(peer: Peer) -> None:
        await peer.request()
        await peer.send(SWITCH)
        await peer.wait_ended()

    async with proxy(script) as running, await running.caller() as caller:
        reply = await caller.ask(NO_HANDSHAKES[name])
        assert (reply.status, json.loads(reply.body)["error"]) == (502, "http_protocol_error")
        (request,) = running.live.requests
        assert request.all(b"upgrade") == []


@pytest.mark.parametrize("upgrade", [b"Upgrade: h2c", b"Upgrade: websocket, h2c", b"X: 1"])
async def test_live_cannot_change_to_another_protocol(proxy: StartProxy, upgrade: bytes) -> None:
    async def script(peer: Peer) -> None:
        await peer.request()
        await peer.send(b"HTTP/1.1 101 Switching\r\nConnection: Upgrade\r\n" + upgrade + b"\r\n\r\n")
        await peer.wait_ended()

    async with proxy(script) as running, await running.caller() as caller:
        assert (await caller.ask(OFFER)).status == 502
        await (await running.live.connection()).wait_ended()
        assert (await the_record(running)).live.outcome is Outcome.PROTOCOL_ERROR


async def test_a_tunnel_takes_one_of_in_flight(proxy: StartProxy) -> None:
    async with proxy(accepting(stay), limits={"in_flight": 1}) as running:
        async with await running.caller() as caller:
            await opened(caller)
            census = running.sidecar.census()
            assert (census.in_flight, census.tunnels) == (1, 1)
            assert (await running.ask(GET)).status == 503
        live = await running.live.connection()
        await live.wait_ended()
        while running.sidecar.live.proxy.in_flight:  # noqa: ASYNC110  # the caller's end is read in some turn
            await asyncio.sleep(0)
        assert running.sidecar.census().tunnels == 0
        assert (await running.ask(GET)).status == 200
        assert len(running.live.connections) == 2  # the tunnel's connection carries nothing more


async def test_a_silent_tunnel_ends_after_tunnel_timeout(proxy: StartProxy) -> None:
    async with proxy(accepting(stay), limits={"tunnel_timeout": "200ms"}) as running:
        async with await running.caller() as caller:
            await opened(caller)
            await (await running.live.connection()).wait_ended()
            assert await caller.rest() == b""
        entry = await the_record(running)
    assert (entry.live.outcome, entry.tunnel) == (Outcome.OK, Tunnel(0, 0, TunnelEnd.IDLE))


@pytest.mark.parametrize("side", ["caller", "live"])
async def test_a_tunnel_in_which_one_side_sends_stays_open(proxy: StartProxy, side: str) -> None:
    limits = {"tunnel_timeout": "400ms", "body_timeout": "100ms", "head_timeout": "100ms", "idle_timeout": "100ms"}
    options = {"timeout": "100ms"}
    async with proxy(accepting(stay), limits=limits, live_options=options) as running, await running.caller() as caller:
        await opened(caller)
        live = await running.live.connection()
        sender, receiver = (caller, live) if side == "caller" else (live, caller)
        before = len(receiver.received)
        await sender.drip(b"x" * 8, 0.1)
        await receiver.wait_received(before + 8)
        assert (caller.ended, live.ended) == ("no", "no")


async def test_stopping_waits_for_a_tunnel_within_drain(proxy: StartProxy) -> None:
    async with proxy(accepting(stay), drain="5s") as running, await running.caller() as caller:
        await opened(caller)
        stopping = asyncio.create_task(running.records())
        await asyncio.sleep(0.05)
        await caller.send(b"still")
        live = await running.live.connection()
        await take(live, 5)
        live.close()
        assert await caller.rest() == b""
        (entry,) = await stopping
    assert (entry.live.outcome, entry.tunnel) == (Outcome.OK, Tunnel(5, 0, TunnelEnd.LIVE))


@pytest.mark.parametrize("second", [False, True])
async def test_the_program_keeps_a_tunnel_for_drain_and_then_closes_it(tmp_path: Path, second: bool) -> None:
    """The real program, on SIGTERM. A second one does not wait for the tunnel: its drain would take an hour here."""
    drain = "1h" if second else "4s"
    async with (
        Origin(accepting(stay)) as origin,
        Program(tmp_path, {"live": {"url": origin.url}, "drain": drain}) as program,
        await program.caller() as caller,
    ):
        await opened(caller)
        live = await origin.connection()
        program.signal(signal.SIGTERM)
        await program.wait_said('"event":"stopping"')
        await caller.send(b"to live")
        assert await take(live, 7) == b"to live"
        await live.send(b"to the caller")
        assert await take(caller, 13) == b"to the caller"
        if second:
            program.signal(signal.SIGTERM)
        assert await caller.rest() == b"to the caller"
        await live.wait_ended()
        assert (caller.ended, live.ended) == ("fin", "fin")  # and no reset
        assert await program.ended() == 0
        (entry,) = program.records()
        (stopped,) = program.told("stopped")
    assert (entry.live.outcome, entry.tunnel) == (Outcome.SHUTDOWN, Tunnel(7, 13, TunnelEnd.SHUTDOWN))
    assert (stopped["requests"], stopped["written"], stopped["lost"]) == (1, 1, 0)


async def test_stopping_ends_a_tunnel_after_drain(proxy: StartProxy) -> None:
    async with proxy(accepting(stay), drain="200ms") as running, await running.caller() as caller:
        await opened(caller)
        (entry,) = await running.records()
        await caller.wait_ended()
    assert (entry.live.outcome, entry.tunnel) == (Outcome.SHUTDOWN, Tunnel(0, 0, TunnelEnd.SHUTDOWN))


async def reset(peer: Peer) -> None:
    peer.reset()


async def close(peer: Peer) -> None:
    peer.close()


async def half_close(peer: Peer) -> None:
    peer.half_close()


ENDS = [
    ("live", close, Outcome.OK),
    ("live", half_close, Outcome.OK),
    ("live", reset, Outcome.INCOMPLETE),
    ("caller", close, Outcome.OK),
    ("caller", half_close, Outcome.OK),
    ("caller", reset, Outcome.CALLER_LEFT),
]


@pytest.mark.parametrize(("side", "end", "outcome"), ENDS)
async def test_when_one_side_ends_the_other_gets_what_came_before_and_ends(
    proxy: StartProxy, side: str, end: Callable[[Peer], Awaitable[None]], outcome: Outcome
) -> None:
    async with proxy(accepting(stay)) as running, await running.caller() as caller:
        await opened(caller)
        live = await running.live.connection()
        ending, other = (live, caller) if side == "live" else (caller, live)
        await ending.send(b"last words")
        await take(other, 10)
        await end(ending)
        assert await other.rest() == b"last words"
        entry = await the_record(running)
    sizes = (0, 10) if side == "live" else (10, 0)
    assert (entry.live.outcome, entry.tunnel) == (outcome, Tunnel(*sizes, TunnelEnd(side)))


@pytest.mark.parametrize("side", ["caller", "live"])
async def test_a_side_that_reads_slowly_stops_the_other_and_gets_every_byte(proxy: StartProxy, side: str) -> None:
    size, buffer = 30 << 20, 1 << 17  # a kernel may hold more than that, unless it is told how much
    async with (
        Origin(accepting(stay), receive_buffer=buffer) as origin,
        proxy(origin) as running,
        await running.caller(receive_buffer=buffer) as caller,
    ):
        await opened(caller)
        live = await origin.connection()
        reader, writer = (caller, live) if side == "caller" else (live, caller)
        reader.stop_reading()
        flooding = asyncio.create_task(writer.flood(bytes(1 << 16), size))
        await asyncio.sleep(0.5)
        assert not flooding.done()
        assert 64 << 10 <= running.sidecar.census().memory_held < 1 << 20
        reader.go_on_reading()
        begin = len(reader.received) - len(reader.unread)
        assert await flooding == size
        await reader.wait_received(begin + size)
        assert running.sidecar.census().memory_held < 64 << 10
        writer.close()
        await reader.wait_ended()
        entry = await the_record(running)
    assert entry.tunnel is not None
    assert entry.tunnel[side == "caller"] == size
    assert entry.live.outcome is Outcome.OK


async def test_both_sides_may_send_at_once_and_every_byte_arrives_in_order(proxy: StartProxy) -> None:
    size = 4 << 20
    there, back = random.Random(1).randbytes(size), random.Random(2).randbytes(size)

    async def send_in_pieces(peer: Peer, data: bytes, seed: int) -> None:
        places = random.Random(seed)
        at = 0
        while at < size:
            piece = data[at : at + places.choice([1, 100, 65536, 200_000])]
            await peer.send(piece)
            at += len(piece)

    async with proxy(accepting(stay)) as running, await running.caller() as caller:
        await opened(caller)
        live = await running.live.connection()
        from_live, from_caller, *_ = await asyncio.gather(
            caller.digest(size), live.digest(size), send_in_pieces(caller, there, 3), send_in_pieces(live, back, 4)
        )
        assert from_live == hashlib.sha256(back).hexdigest()
        assert from_caller == hashlib.sha256(there).hexdigest()
        caller.close()
        await live.wait_ended()
        assert (await the_record(running)).tunnel == Tunnel(size, size, TunnelEnd.CALLER)


async def test_a_caller_that_takes_nothing_is_given_up(proxy: StartProxy) -> None:
    async with proxy(accepting(stay), limits={"body_timeout": "200ms"}) as running:
        async with await running.caller(receive_buffer=4096) as caller:
            await opened(caller)
            caller.stop_reading()
            live = await running.live.connection()
            assert await live.flood(bytes(1 << 16), 50 << 20) < 50 << 20
        entry = await the_record(running)
    assert (entry.live.outcome, entry.tunnel and entry.tunnel.ended_by) == (Outcome.CALLER_LEFT, TunnelEnd.CALLER)


async def test_a_silent_tunnel_is_not_ended_in_favour_of_others_but_one_that_is_not_read_is(proxy: StartProxy) -> None:
    async with proxy(accepting(stay)) as running, await running.caller(receive_buffer=4096) as caller:
        await opened(caller)
        (connection,) = running.sidecar.live._server._connections
        assert connection.asks_live
        assert connection.still_since() is None
        caller.stop_reading()
        live = await running.live.connection()
        flooding = asyncio.create_task(live.flood(bytes(1 << 16), 50 << 20))
        while connection.still_since() is None:  # noqa: ASYNC110  # the kernels fill up in some turn
            await asyncio.sleep(0.01)
        assert connection.shed() > 0
        assert await flooding < 50 << 20
        entry = await the_record(running)
    assert (entry.live.outcome, entry.tunnel and entry.tunnel.ended_by) == (Outcome.CALLER_LEFT, TunnelEnd.CALLER)


async def test_a_tunnel_passes_to_live_that_speaks_tls(
    proxy: StartProxy, tmp_path_factory: pytest.TempPathFactory
) -> None:
    authority, ca = trustme.CA(), tmp_path_factory.mktemp("tls") / "ca.pem"
    authority.cert_pem.write_to_path(ca)
    server = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    authority.issue_cert("127.0.0.1").configure_cert(server)

    async def echo(peer: Peer) -> None:
        await peer.send(await take(peer, 200_000))

    async with (
        Origin(accepting(echo), tls=server) as live,
        proxy(live, live_options={"tls": {"ca": str(ca)}}) as running,
        await running.caller() as caller,
    ):
        await opened(caller)
        await caller.send(b"x" * 200_000)
        assert await caller.rest() == b"x" * 200_000
        assert (await the_record(running)).tunnel == Tunnel(200_000, 200_000, TunnelEnd.LIVE)


async def test_a_caller_that_speaks_tls_has_a_tunnel_too(
    proxy: StartProxy, tmp_path_factory: pytest.TempPathFactory
) -> None:
    authority, directory = trustme.CA(), tmp_path_factory.mktemp("tls")
    issued = authority.issue_cert("127.0.0.1")
    issued.cert_chain_pems[0].write_to_path(directory / "cert.pem")
    issued.private_key_pem.write_to_path(directory / "key.pem")
    context = ssl.create_default_context()
    authority.configure_trust(context)
    section = {"cert": str(directory / "cert.pem"), "key": str(directory / "key.pem")}

    async def echo(peer: Peer) -> None:
        await peer.send(await take(peer, 200_000))

    async with proxy(accepting(echo), listen_tls=section) as running, await running.caller(tls=context) as caller:
        await opened(caller)
        await caller.send(b"x" * 200_000)
        assert await caller.rest() == b"x" * 200_000
        assert (await the_record(running)).tunnel == Tunnel(200_000, 200_000, TunnelEnd.LIVE)


async def test_a_websocket_through_two_proxies_is_one_record_in_each(
    proxy: StartProxy, tmp_path_factory: pytest.TempPathFactory
) -> None:
    from conftest import starter

    async def echo(peer: Peer) -> None:
        await peer.send(await take(peer, 5))

    async with starter(tmp_path_factory.mktemp("inner"))(accepting(echo)) as inner:
        host, port = inner.address
        async with proxy(live_options={"url": f"http://{host}:{port}"}) as running, await running.caller() as caller:
            await opened(caller)
            await caller.send(b"hello")
            assert await caller.rest() == b"hello"
            assert (await the_record(running)).tunnel == Tunnel(5, 5, TunnelEnd.LIVE)
        assert (await the_record(inner)).tunnel == Tunnel(5, 5, TunnelEnd.LIVE)


async def test_a_fixed_answer_declines_and_the_offer_is_not_mirrored(tmp_path: Path, proxy: StartProxy) -> None:
    options = {"url": None, "respond": {"status": 200, "json": {}}}
    async with proxy(live_options=options, shadows={"s": answer()}) as running, await running.caller() as caller:
        assert (await caller.ask(OFFER)).status == 200
        assert (await the_record(running)).shadows == {}


def test_a_log_without_tunnels_and_one_with_an_unknown_key_are_read(tmp_path: Path) -> None:
    line = {
        "schema": 1,
        "id": "i",
        "record": "r",
        "at": "2026-01-31T12:00:00.123456Z",
        "proxy": "h/0",
        "request": {"method": "GET", "path": "/", "query": "", "headers": {}, "body_bytes": 0},
        "live": {"outcome": "ok", "status": 101, "headers": {}, "body_bytes": 0},
        "shadows": {},
        "control": None,
    }
    assert record.decode(json.dumps(line).encode()).tunnel is None
    tunnel = {"from_caller_bytes": 1, "from_live_bytes": 2, "ended_by": "idle", "frames": 3}
    assert record.decode(json.dumps(line | {"tunnel": tunnel}).encode()).tunnel == Tunnel(1, 2, TunnelEnd.IDLE)
    with pytest.raises(record.RecordError):
        record.decode(json.dumps(line | {"tunnel": {"from_caller_bytes": 1}}).encode())


@pytest.mark.parametrize("side", ["caller", "live"])
async def test_a_side_that_still_sends_when_the_other_ends_gets_its_last_bytes(proxy: StartProxy, side: str) -> None:
    """Closed at once, its connection would be reset for the bytes that nobody reads, and the last bytes lost."""
    size = 4 << 20
    async with proxy(accepting(stay)) as running, await running.caller() as caller:
        await opened(caller)
        live = await running.live.connection()
        ending, other = (live, caller) if side == "live" else (caller, live)
        begin = len(other.received) - len(other.unread)
        sending = asyncio.create_task(other.flood(b"x" * 1000, 1 << 30))
        assert await ending.flood(bytes(1 << 16), size) == size
        ending.half_close()
        await other.wait_ended()
        sending.cancel()
        assert (len(other.received) - begin, other.ended) == (size, "fin")
