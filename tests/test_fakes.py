"""The fakes do what the real thing does: held against httpx, h11 and plain asyncio."""

import asyncio
import errno
import os
import socket
import ssl
import time
from collections.abc import AsyncIterator

import h11
import httpx
import pytest
import trustme
from fakes import (
    Caller,
    CutOff,
    Malformed,
    Message,
    Origin,
    Peer,
    answer,
    chunk_of,
    chunked,
    close_idle,
    cut,
    deaf_port,
    each,
    refusing_port,
    silent,
    then_close,
    then_reset,
)

GET = b"GET /a?b=1 HTTP/1.1\r\nHost: origin\r\n\r\n"


async def test_an_origin_records_what_a_real_client_sent() -> None:
    async with Origin(answer(b"hello", (b"X-A", b"1"), (b"X-A", b"2"))) as origin:
        async with httpx.AsyncClient(trust_env=False) as client:
            reply = await client.post(f"{origin.url}/p?q=1", content=b"body", headers={"X-Name": "v"})
        assert (reply.status_code, reply.content, reply.headers.get_list("x-a")) == (200, b"hello", ["1", "2"])
        request = origin.requests[0]
        assert (request.method, request.target, request.body, request.framing) == (
            b"POST",
            b"/p?q=1",
            b"body",
            "length",
        )
        assert request.all(b"x-name") == [b"v"]
        assert request.raw == origin.received
        assert origin.received.startswith(b"POST /p?q=1 HTTP/1.1\r\nHost: 127.0.0.1:")


async def test_an_origin_reads_a_real_clients_chunks() -> None:
    async def pieces() -> AsyncIterator[bytes]:
        yield b"one"
        yield b"three"

    async with Origin(chunked(b"a", b"bc")) as origin:
        async with httpx.AsyncClient(trust_env=False) as client:
            reply = await client.post(origin.url, content=pieces())
        assert reply.content == b"abc"
        assert origin.requests[0].framing == "chunked"
        assert origin.requests[0].body == b"onethree"


async def test_each_answers_in_order_over_all_connections() -> None:
    async with Origin(each(answer(b"1"), answer(b"2"), answer(b"3"))) as origin:
        async with await Caller.to(origin.address) as first, await Caller.to(origin.address) as second:
            assert [(await caller.ask(GET)).body for caller in (first, second, first)] == [b"1", b"2", b"3"]
        assert len(origin.connections) == 2


async def test_a_gate_holds_an_answer_midway() -> None:
    gate = asyncio.Event()
    begun = answer(b"half")[:-2]

    async def script(peer: Peer) -> None:
        await peer.request()
        await peer.send(begun)
        await gate.wait()
        await peer.send(b"lf")

    async with Origin(script) as origin, await Caller.to(origin.address) as caller:
        await caller.send(GET)
        await caller.wait_received(len(begun))
        assert caller.received == begun
        gate.set()
        assert (await caller.answer()).body == b"half"


async def test_a_reset_is_a_reset_to_a_real_client() -> None:
    async with Origin(then_reset(b"HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\nha")) as origin:
        reader, writer = await asyncio.open_connection(*origin.address)
        writer.write(GET)
        await writer.drain()
        with pytest.raises(ConnectionResetError):
            await reader.read()
        writer.close()


async def test_a_caller_tells_a_reset_from_an_end() -> None:
    async with Origin(then_reset(answer())) as origin, await Caller.to(origin.address) as caller:
        await caller.ask(GET)
        await caller.wait_ended()
        assert caller.ended == "reset"
    async with Origin(then_close(answer())) as origin, await Caller.to(origin.address) as caller:
        await caller.ask(GET)
        await caller.wait_ended()
        assert caller.ended == "fin"


async def test_a_half_close_ends_one_direction_only() -> None:
    async with Origin() as origin, await Caller.to(origin.address) as caller:
        await caller.send(GET)
        caller.half_close()
        assert (await caller.answer()).body == b"ok"
        assert (await origin.connection()).ended == "fin"


async def test_segments_arrive_one_by_one() -> None:
    arrived: list[bytes] = []

    class Listener(asyncio.Protocol):
        def data_received(self, data: bytes) -> None:
            arrived.append(data)

    server = await asyncio.get_running_loop().create_server(Listener, "127.0.0.1", 0)
    segments = [GET[index : index + 1] for index in range(len(GET))]
    async with await Caller.to(server.sockets[0].getsockname()) as caller:
        await caller.send(*segments)
        await asyncio.sleep(0.01)
    server.close()
    assert arrived == segments


async def test_a_drip_takes_its_time() -> None:
    async def script(peer: Peer) -> None:
        await peer.request()
        await peer.drip(answer(b"", status=204), every=0.001)

    async with Origin(script) as origin, await Caller.to(origin.address) as caller:
        begin = time.monotonic()
        await caller.ask(GET)
        assert time.monotonic() - begin > 0.001 * len(answer(b"", status=204))


@pytest.mark.timing
async def test_a_flood_stops_when_nobody_takes_it_any_more() -> None:
    sent: list[int] = []

    async def script(peer: Peer) -> None:
        await peer.request()
        sent.append(await peer.flood(bytes(65536), limit=10**9))

    async with Origin(script) as origin:
        async with await Caller.to(origin.address) as caller:
            await caller.send(GET)
            await caller.wait_received(10**6)
        await (await origin.connection()).wait_ended()
        await asyncio.sleep(0.01)
    assert 10**6 < sent[0] < 10**9


async def test_who_stops_reading_stops_the_sender() -> None:
    async with Origin(silent, receive_buffer=4096) as origin, await Caller.to(origin.address) as caller:
        (await origin.connection()).stop_reading()
        flood = asyncio.create_task(caller.flood(bytes(65536), limit=10**9))
        await asyncio.sleep(0.05)
        assert not flood.done()
        assert len(origin.received) < 65536
        flood.cancel()


async def test_an_idle_connection_is_closed_unannounced() -> None:
    async with Origin(close_idle(answer(), after=0.03)) as origin, await Caller.to(origin.address) as caller:
        for _ in range(2):
            assert (await caller.ask(GET)).all(b"connection") == []
            await asyncio.sleep(0.01)
        await caller.wait_ended()
        assert caller.ended == "fin"


async def test_tls_is_tls_to_a_real_client() -> None:
    authority = trustme.CA()
    server, client = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH), ssl.create_default_context()
    authority.issue_cert("127.0.0.1").configure_cert(server)
    authority.configure_trust(client)
    async with Origin(tls=server) as origin:
        assert origin.url.startswith("https://")
        async with httpx.AsyncClient(verify=client, trust_env=False) as http:
            assert (await http.get(origin.url)).content == b"ok"
        async with await Caller.to(origin.address, tls=client) as caller:
            assert (await caller.ask(GET)).body == b"ok"


async def test_a_refusing_port_refuses() -> None:
    with refusing_port() as port, socket.socket() as connection:
        assert connection.connect_ex(("127.0.0.1", port)) == errno.ECONNREFUSED


async def test_an_origin_that_stopped_listening_refuses_and_goes_on_with_what_it_has() -> None:
    async with Origin() as origin, await Caller.to(origin.address) as caller:
        await caller.ask(GET)
        origin.stop_listening()
        with pytest.raises(ConnectionRefusedError):
            await Caller.to(origin.address)
        assert (await caller.ask(GET)).body == b"ok"


async def test_a_deaf_port_lets_a_connect_hang() -> None:
    with deaf_port() as port, pytest.raises(TimeoutError):
        await asyncio.wait_for(asyncio.open_connection("127.0.0.1", port), 0.05)


async def send_and_wait(origin: Origin, raw: bytes) -> None:
    async with origin, await Caller.to(origin.address) as caller:
        await caller.send(raw)
        await caller.wait_ended()


async def test_what_a_script_raises_fails_the_test() -> None:
    async def script(peer: Peer) -> None:
        raise ValueError("the script is wrong")

    with pytest.raises(ValueError, match="the script is wrong"):
        await send_and_wait(Origin(script), b"")


async def test_a_request_more_than_there_are_answers_fails_the_test() -> None:
    with pytest.raises(AssertionError, match="more than there are answers"):
        await send_and_wait(Origin(each(answer())), GET + GET)


async def test_an_origin_that_gets_nonsense_fails_the_test() -> None:
    with pytest.raises(Malformed):
        await send_and_wait(Origin(), b"GET / HTTP/1.1\nHost: a\n\n\r\n")


async def test_nothing_is_left_behind() -> None:
    before = len(os.listdir("/proc/self/fd"))
    for _ in range(3):
        async with Origin() as origin, await Caller.to(origin.address) as caller:
            await caller.ask(GET)
            await caller.send(GET[:-1])
    assert len(os.listdir("/proc/self/fd")) == before
    assert asyncio.all_tasks() == {asyncio.current_task()}


# The reader: what it reads it reads as h11 does, and what no sender may generate it refuses.


async def read_request(raw: bytes, *, ended: bool = True) -> Message | None:
    peer = Peer()
    peer.data_received(raw)
    if ended:
        peer.ended = "fin"
    return await peer.request()


async def read_answer(raw: bytes, to: bytes = b"GET") -> Message:
    peer = Peer()
    peer.data_received(raw)
    peer.ended = "fin"
    return await peer.answer(to)


WHOLE_REQUESTS = [
    GET,
    b"OPTIONS * HTTP/1.1\r\nHost:\r\n\r\n",
    b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 0\r\n\r\n",
    b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 3\r\n\r\nabc",
    b"POST / HTTP/1.1\r\nHost: a\r\nX:  v \t w \t\r\nx: \xff\x80\r\nTransfer-Encoding: chunked\r\n\r\n"
    b"3;ext=1\r\nabc\r\nA\r\n0123456789\r\n00\r\nTrailer: t\r\n\r\n",
]


@pytest.mark.parametrize("raw", WHOLE_REQUESTS)
async def test_the_reader_reads_a_request_as_h11_does(raw: bytes) -> None:
    theirs = h11.Connection(h11.SERVER)
    theirs.receive_data(raw)
    request = theirs.next_event()
    assert isinstance(request, h11.Request)
    body = b""
    while isinstance(event := theirs.next_event(), h11.Data):
        body += event.data
    assert isinstance(event, h11.EndOfMessage)
    ours = await read_request(raw)
    assert ours is not None
    assert (ours.method, ours.target, ours.body) == (request.method, request.target, body)
    assert ours.fields == tuple(request.headers.raw_items())
    assert ours.trailers == tuple(event.headers.raw_items())
    assert ours.raw == raw


@pytest.mark.parametrize(
    ("raw", "to", "body", "framing"),
    [
        (answer(b"abc"), b"GET", b"abc", "length"),
        (chunked(b"ab", b"c"), b"GET", b"abc", "chunked"),
        (b"HTTP/1.1 200 \r\n\r\nabc", b"GET", b"abc", "close"),
        (b"HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\n", b"HEAD", b"", "none"),
        (b"HTTP/1.1 304 Not Modified\r\nContent-Length: 9\r\n\r\n", b"GET", b"", "none"),
        (b"HTTP/1.1 204 No Content\r\n\r\n", b"GET", b"", "none"),
        (b"HTTP/1.1 100 Continue\r\n\r\n", b"POST", b"", "none"),
    ],
)
async def test_the_reader_frames_an_answer_by_the_rules(raw: bytes, to: bytes, body: bytes, framing: str) -> None:
    message = await read_answer(raw, to)
    assert (message.body, message.framing, message.raw) == (body, framing, raw)


async def test_chunks_are_kept_apart() -> None:
    assert (await read_answer(chunked(b"ab", b"c", trailers=((b"T", b"1"),)))).chunks == (b"ab", b"c")


BEGIN = b"POST / HTTP/1.1\r\nHost: a\r\n"


@pytest.mark.parametrize(
    "raw",
    [
        b"GET  / HTTP/1.1\r\nHost: a\r\n\r\n",
        b"GET / HTTP/1.0\r\nHost: a\r\n\r\n",
        b"GET / HTTP/1.1\r\n\r\n",
        b"GET / HTTP/1.1\r\nHost: a\r\nHost: a\r\n\r\n",
        b"GET / HTTP/1.1\nHost: a\r\n\r\n",
        BEGIN + b"A: b\nB: c\r\n\r\n",
        BEGIN + b"A : b\r\n\r\n",
        BEGIN + b"A: b\r\n c\r\n\r\n",
        BEGIN + b"A: b\x00\r\n\r\n",
        BEGIN + b"Content-Length: 1\r\nContent-Length: 1\r\n\r\na",
        BEGIN + b"Content-Length: 1, 1\r\n\r\na",
        BEGIN + b"Content-Length: +1\r\n\r\na",
        BEGIN + b"Content-Length: 1\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
        BEGIN + b"Transfer-Encoding: gzip, chunked\r\n\r\n0\r\n\r\n",
        BEGIN + b"Transfer-Encoding: chunked\r\n\r\n0x1\r\na\r\n0\r\n\r\n",
        BEGIN + b"Transfer-Encoding: chunked\r\n\r\n1\r\nabc\r\n0\r\n\r\n",
        BEGIN + b"Transfer-Encoding: chunked\r\n\r\n1\na\r\n0\r\n\r\n",
    ],
)
async def test_the_reader_refuses_what_no_sender_may_generate(raw: bytes) -> None:
    with pytest.raises(Malformed):
        await read_request(raw)


@pytest.mark.parametrize("raw", WHOLE_REQUESTS[2:])
async def test_the_reader_takes_no_prefix_for_a_message(raw: bytes) -> None:
    for size in range(1, len(raw)):
        with pytest.raises(CutOff):
            await read_request(raw[:size])
    assert await read_request(b"") is None


async def test_a_short_answer_is_cut_off() -> None:
    with pytest.raises(CutOff, match="after 2 of 3 bytes"):
        await read_answer(answer(b"abc")[:-1])
    with pytest.raises(CutOff):
        await read_answer(chunked(b"abc")[:-5])


def test_cutting_loses_nothing() -> None:
    assert cut(b"abcdef", [2, 0, 4, 4, 99]) == [b"ab", b"cd", b"ef"]
    assert chunk_of(b"0123456789") == b"a\r\n0123456789\r\n"
