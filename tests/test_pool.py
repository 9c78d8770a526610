"""The connection pool, on both event loops: abandoning a response at any moment leaves nothing behind."""

import asyncio
import contextlib
import gc
import inspect
import os
import random
import socket
import ssl
import struct
from collections.abc import AsyncIterator, Callable, Coroutine
from typing import Any, cast

import pytest
import trustme
import uvloop
from fakes import Hasty, Origin, Peer, answer, chunk_of, chunked, deaf_port, silent

from shadowproxy.serve.system import kernel
from shadowproxy.serve.upstreams.connection import HIGH_WATER
from shadowproxy.serve.upstreams.errors import (
    ClosedWhileIdle,
    ConnectError,
    NoRoom,
    ProtocolError,
    ReadError,
    ReadTimeout,
)
from shadowproxy.serve.upstreams.pool import STREAM_REST, Pool, Statistics
from shadowproxy.serve.upstreams.request import OutgoingRequest
from shadowproxy.serve.upstreams.response import ResponseStream
from shadowproxy.serve.upstreams.retry import IDLE_CLOSE
from shadowproxy.serve.upstreams.roundtrip import MAX_INTERIM, PARTS, RoundTrip

NOTHING = Statistics(open=0, idle=0, uploads=0)
LOOPS = [pytest.param(asyncio.new_event_loop, id="asyncio"), pytest.param(uvloop.new_event_loop, id="uvloop")]
ONE_IDLE = Statistics(open=1, idle=1, uploads=0)


def on_both_loops(test: Callable[..., Coroutine[Any, Any, None]]) -> Callable[..., None]:
    """The program serves on uvloop; asyncio's own loop closes, cancels and reports in another order."""

    def run(loop: Callable[[], asyncio.AbstractEventLoop], **arguments: Any) -> None:
        with asyncio.Runner(loop_factory=loop) as runner:
            runner.run(test(**arguments))
            runner.run(asyncio.sleep(0.01))  # closed sockets leave the loop in its next turns

    run.__name__ = test.__name__
    own = inspect.signature(run).parameters["loop"]
    run.__signature__ = inspect.Signature([own, *inspect.signature(test).parameters.values()])  # type: ignore[attr-defined]
    both: Callable[[Callable[..., None]], Callable[..., None]] = pytest.mark.parametrize("loop", LOOPS)
    return both(run)


def get(target: bytes = b"/", *, silence: float = 5.0, retry: bool = False) -> OutgoingRequest:
    head = b"GET %b HTTP/1.1\r\nHost: h\r\n\r\n" % target
    return OutgoingRequest("GET", head, b"", chunked=False, silence=silence, retry=retry)


def post(body: AsyncIterator[bytes], length: int | None = None, *, silence: float = 5.0) -> OutgoingRequest:
    framing = b"Transfer-Encoding: chunked" if length is None else b"Content-Length: %d" % length
    head = b"POST / HTTP/1.1\r\nHost: h\r\n%b\r\n\r\n" % framing
    return OutgoingRequest("POST", head, body, chunked=length is None, silence=silence)


def to(origin: Origin, tls: ssl.SSLContext | None = None) -> Pool:
    return Pool("127.0.0.1", origin.port, tls=tls)


async def answer_to(pool: Pool, message: OutgoingRequest) -> ResponseStream:
    answering = ResponseStream(pool.loop)
    pool.send(answering, message)
    await answering.wait_head()
    return answering


async def ask(pool: Pool, message: OutgoingRequest) -> bytes:
    return b"".join([chunk async for chunk in await answer_to(pool, message)])


async def settled(pool: Pool, expected: Statistics) -> None:
    """The loop needs a turn or two to close sockets; what is not as expected after a second never will be."""
    with contextlib.suppress(TimeoutError):
        async with asyncio.timeout(1):
            while pool.statistics() != expected:  # noqa: ASYNC110  # the pool tells nobody
                await asyncio.sleep(0.001)
    assert pool.statistics() == expected


def open_files() -> int:
    return len(os.listdir("/proc/self/fd"))


# The pool.


@on_both_loops
async def test_a_connection_is_used_again_and_the_last_one_in_is_the_first_one_out() -> None:
    async with Origin() as origin, to(origin) as pool:
        for _ in range(3):
            await ask(pool, get())
        assert (len(origin.connections), pool.statistics()) == (1, ONE_IDLE)
        await asyncio.gather(*(ask(pool, get()) for _ in range(3)))
        assert (len(origin.connections), pool.statistics().idle) == (3, 3)
        for _ in range(3):
            await ask(pool, get())
        assert sorted(len(peer.requests) for peer in origin.connections) in ([1, 1, 7], [1, 2, 6], [1, 4, 4])
    assert pool.statistics() == NOTHING


@pytest.mark.parametrize(
    "raw",
    [
        answer(b"x", (b"Connection", b"close")),
        answer(b"x").replace(b"HTTP/1.1", b"HTTP/1.0"),
        answer(b"x") + b"left over",
        answer(b"x") + answer(b"for nobody"),
        chunked(b"x") + b"\r\n",
    ],
)
@on_both_loops
async def test_a_connection_that_is_to_end_or_not_in_sync_is_not_kept(raw: bytes) -> None:
    async with Origin(raw) as origin, to(origin) as pool:
        assert await ask(pool, get()) == b"x"
        await settled(pool, NOTHING)
        await (await origin.connection()).wait_ended()


@pytest.mark.parametrize("what", ["bytes", "end", "reset"])
@on_both_loops
async def test_whatever_comes_on_an_idle_connection_ends_it(what: str) -> None:
    gate = asyncio.Event()

    async def script(peer: Peer) -> None:
        await peer.request()
        await peer.send(answer(b"x"))
        await gate.wait()
        if what == "bytes":
            await peer.send(b"HTTP/1.1 408 Request Timeout\r\n\r\n")
            await peer.wait_ended()
        elif what == "reset":
            peer.reset()

    async with Origin(script) as origin, to(origin) as pool:
        await ask(pool, get())
        assert pool.statistics() == ONE_IDLE
        gate.set()
        await settled(pool, NOTHING)


@pytest.mark.parametrize("what", ["bytes", "end", "reset"])
@on_both_loops
async def test_a_connection_that_received_something_is_not_used_even_before_the_loop_reports_it(what: str) -> None:
    """A body that is sent as it comes cannot be sent again; and bytes there would be its answer."""
    loop = asyncio.get_running_loop()

    async def body() -> AsyncIterator[bytes]:
        yield b"hi"

    with socket.create_server(("127.0.0.1", 0)) as listening:
        listening.settimeout(5)
        async with Pool("127.0.0.1", listening.getsockname()[1]) as pool:
            accepting = loop.run_in_executor(None, listening.accept)
            asking = asyncio.create_task(ask(pool, get()))
            first, _ = await accepting
            with first:
                await loop.run_in_executor(None, first.recv, 1000)
                first.sendall(answer())
                await asking
                accepting = loop.run_in_executor(None, listening.accept)
                if what == "reset":
                    first.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
                if what == "bytes":
                    first.sendall(answer(b"for nobody"))
                else:
                    first.close()
                answering = ResponseStream(pool.loop)
                pool.send(answering, post(body(), 2))  # and the loop has had no turn
                second, _ = await accepting
                with second:
                    await loop.run_in_executor(None, second.recv, 1000)
                    second.sendall(answer(b"mine"))
                    await answering.wait_head()
                    assert await anext(answering) == b"mine"
                await settled(pool, NOTHING)


@pytest.mark.source
@on_both_loops
async def test_a_post_that_crosses_the_closing_of_its_connection_is_retried(monkeypatch: pytest.MonkeyPatch) -> None:
    """It was not taken: the server had closed before it came, and said so in the moment in which it was sent."""
    monkeypatch.setattr(kernel, "is_silent", lambda watching: True)
    loop = asyncio.get_running_loop()
    with socket.create_server(("127.0.0.1", 0)) as listening:
        async with Pool("127.0.0.1", listening.getsockname()[1]) as pool:
            asking = asyncio.ensure_future(ask(pool, get()))
            first, _ = await loop.run_in_executor(None, listening.accept)
            with first:
                await loop.run_in_executor(None, first.recv, 1000)
                first.sendall(answer())
                await asking
                accepting = loop.run_in_executor(None, listening.accept)
                first.close()
                answering = ResponseStream(pool.loop)
                head = b"POST / HTTP/1.1\r\nHost: h\r\nContent-Length: 2\r\n\r\n"
                message = OutgoingRequest("POST", head, b"hi", chunked=False, silence=5.0, retry=True)
                pool.send(answering, message)  # and the loop has had no turn
                second, _ = await accepting
                with second:
                    assert (await loop.run_in_executor(None, second.recv, 1000)).endswith(b"hi")
                    second.sendall(answer(b"mine"))
                    await answering.wait_head()
                    assert await anext(answering) == b"mine"
                    assert answering.retried
                await settled(pool, NOTHING)


@on_both_loops
async def test_a_request_is_not_retried_once_the_server_has_it() -> None:
    async def script(peer: Peer) -> None:
        await peer.request()
        await peer.send(answer())
        await peer.request()
        await asyncio.sleep(IDLE_CLOSE * 1.5)

    async with Origin(script) as origin, to(origin) as pool:
        await ask(pool, get())
        with pytest.raises(ReadError) as raised:
            await ask(pool, get(retry=True))
        assert not isinstance(raised.value, ClosedWhileIdle)
        assert len(origin.connections) == 1
        await settled(pool, NOTHING)


@on_both_loops
async def test_only_a_reused_connection_that_ends_before_an_answer_was_closed_while_idle() -> None:
    async def script(peer: Peer) -> None:
        if len(origin.connections) == 1:
            await peer.request()
            await peer.send(answer())
        await peer.request()

    async with Origin(script) as origin, to(origin) as pool:
        await ask(pool, get())
        with pytest.raises(ClosedWhileIdle):
            await ask(pool, get())
        with pytest.raises(ReadError) as raised:
            await ask(pool, get())
        assert not isinstance(raised.value, ClosedWhileIdle)
        await settled(pool, NOTHING)


@pytest.mark.parametrize("answered", [True, False])
@on_both_loops
async def test_a_request_that_may_be_retried_is_sent_once_more_by_a_new_connection(answered: bool) -> None:
    async def script(peer: Peer) -> None:
        first = len(origin.connections) == 1
        await peer.request()
        if first or answered:
            await peer.send(answer(b"1" if first else b"2"))
        if first:
            await peer.request()  # and leaves

    async with Origin(script) as origin, to(origin) as pool:
        assert await ask(pool, get(retry=True)) == b"1"
        if answered:
            assert await ask(pool, get(retry=True)) == b"2"
        else:
            with pytest.raises(ReadError) as raised:
                await ask(pool, get(retry=True))
            assert not isinstance(raised.value, ClosedWhileIdle)
        assert [len(each.requests) for each in origin.connections] == [2, 1]
        await settled(pool, NOTHING)


STREAM = b"HTTP/1.1 200 OK\r\nContent-Type: Text/Event-Stream; charset=utf-8\r\nTransfer-Encoding: chunked\r\n\r\n"


@on_both_loops
async def test_a_connection_rests_after_a_stream_of_events_as_its_server_may_be_closing_it() -> None:
    async def script(peer: Peer) -> None:
        await peer.request()
        await peer.send(STREAM + chunk_of(b"data: 1\n\n") + b"0\r\n\r\n")
        if len(origin.connections) == 1:
            await peer.request()  # llama.cpp closes, whatever it was sent meanwhile
        else:
            await peer.request()
            await peer.send(answer(b"again"))
            await peer.wait_ended()

    async with Origin(script) as origin, to(origin) as pool:
        await ask(pool, get())
        assert pool.statistics() == ONE_IDLE
        await ask(pool, get())
        assert [len(each.requests) for each in origin.connections] == [1, 1]
        await asyncio.sleep(STREAM_REST * 1.2)  # its timer is due before this one
        assert await ask(pool, get()) == b"again"
        assert [len(each.requests) for each in origin.connections] == [1, 2]


@on_both_loops
async def test_a_resting_connection_makes_room_where_there_is_none() -> None:
    async def script(peer: Peer) -> None:
        await peer.request()
        await peer.send(STREAM + b"0\r\n\r\n")
        await peer.wait_ended()

    async with Origin(script) as origin, to(origin) as pool:
        pool.most = 1
        await ask(pool, get())
        await ask(pool, get())
        await origin.connections[0].wait_ended()
        await settled(pool, ONE_IDLE)


# Leaving, at each point where one can.


@on_both_loops
async def test_an_abandoned_request_is_not_retried() -> None:
    async def script(peer: Peer) -> None:
        await peer.request()
        await peer.send(answer())
        await peer.request()
        await peer.wait_ended()

    async with Origin(script) as origin, to(origin) as pool:
        await ask(pool, get(retry=True))
        answering = ResponseStream(pool.loop)
        pool.send(answering, get(retry=True))
        answering.abandon()
        await (await origin.connection()).wait_ended()
        await settled(pool, NOTHING)
        await asyncio.sleep(0.01)
        assert len(origin.connections) == 1


@on_both_loops
async def test_closing_the_pool_ends_its_dialling() -> None:
    with deaf_port() as port:
        async with Pool("127.0.0.1", port) as pool:
            asking = asyncio.create_task(ask(pool, get()))
            await asyncio.sleep(0.01)
            await pool.aclose()
            with pytest.raises(ConnectError, match="closed"):
                await asking
            with pytest.raises(ConnectError, match="closed"):
                await ask(pool, get())


@on_both_loops
async def test_leaving_while_connecting_leaves_nothing() -> None:
    with deaf_port() as port:
        async with Pool("127.0.0.1", port) as pool:
            before = open_files()
            with pytest.raises(TimeoutError):
                async with asyncio.timeout(0.02):
                    await answer_to(pool, get())
            await settled(pool, NOTHING)
            await asyncio.sleep(0.01)
            assert open_files() == before


async def leave_once_it_is_heard(origin: Origin, pool: Pool) -> None:
    """Stop waiting for a response when the server has the first bytes, and see the connection end."""
    leaving = asyncio.get_running_loop().create_task(answer_to(pool, get()))
    peer = await origin.connection()
    await peer.wait_received(1)
    leaving.cancel()
    with pytest.raises(asyncio.CancelledError):
        await leaving
    await peer.wait_ended()


@on_both_loops
async def test_leaving_amid_the_handshake_leaves_nothing() -> None:
    async with Origin(silent) as origin, to(origin, tls=ssl.create_default_context()) as pool:
        await leave_once_it_is_heard(origin, pool)
        await settled(pool, NOTHING)


@on_both_loops
async def test_leaving_before_the_answer_ends_the_connection() -> None:
    async with Origin(silent) as origin, to(origin) as pool:
        await leave_once_it_is_heard(origin, pool)
        await settled(pool, NOTHING)


@pytest.mark.parametrize("how", ["cancel", "abandon", "forget"])
@on_both_loops
async def test_leaving_in_the_middle_of_an_answer_ends_the_connection(how: str) -> None:
    async def script(peer: Peer) -> None:
        await peer.request()
        await peer.send(chunked(b"begun")[:-5])
        await peer.wait_ended()

    async with Origin(script) as origin, to(origin) as pool:
        response = await answer_to(pool, get())
        tasks = asyncio.all_tasks()
        async for chunk in response:
            assert chunk == b"begun"
            break
        assert asyncio.all_tasks() == tasks  # nothing was left for a task to close
        if how == "cancel":
            with pytest.raises(TimeoutError):
                async with asyncio.timeout(0.02):
                    await anext(response)
        if how in ("cancel", "abandon"):
            response.abandon()
            await (await origin.connection()).wait_ended()
            await settled(pool, NOTHING)
    await settled(pool, NOTHING)  # at the latest with the pool


async def endless() -> AsyncIterator[bytes]:
    while True:
        yield b"x" * 10_000
        await asyncio.sleep(0)


@on_both_loops
async def test_leaving_in_the_middle_of_an_upload_ends_the_upload_too() -> None:
    async with Origin(silent) as origin, to(origin) as pool:
        asking = asyncio.create_task(answer_to(pool, post(endless())))
        connection = await origin.connection()
        await connection.wait_received(1)
        asking.cancel()
        with pytest.raises(asyncio.CancelledError):
            await asking
        await connection.wait_ended()
        await settled(pool, NOTHING)


@on_both_loops
async def test_closing_the_pool_ends_its_round_trips() -> None:
    async with Origin(silent) as origin, to(origin) as pool:
        asking = [asyncio.create_task(ask(pool, request)) for request in (get(), post(endless()))]
        for each in (0, 1):
            await (await origin.connection(each)).wait_received(1)
        assert pool.statistics() == Statistics(open=2, idle=0, uploads=1)
        await pool.aclose()
        told = await asyncio.gather(*asking, return_exceptions=True)
        assert [type(error) for error in told] == [ReadError, ReadError]
        await settled(pool, NOTHING)


@pytest.mark.slow
@on_both_loops
async def test_500_cancellations_at_random_moments_leave_everything_as_before() -> None:
    seed = random.randrange(2**32)
    chance = random.Random(seed)
    print(f"seed {seed}")

    async def script(peer: Peer) -> None:
        while await peer.request() is not None:
            await asyncio.sleep(chance.random() * 0.003)
            whole = chunked(b"x" * 1000, b"y" * 1000)
            await peer.send(whole[:500], whole[500:])

    async def body() -> AsyncIterator[bytes]:
        for _ in range(4):
            yield b"z" * 5000
            await asyncio.sleep(0.0005)

    async def ask_and_leave(pool: Pool) -> None:
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(chance.random() * 0.006):
                await ask(pool, chance.choice([get(), post(body()), post(body(), 20_000)]))

    async with Origin(script) as origin:
        before = open_files(), len(asyncio.all_tasks())
        async with to(origin) as pool:
            for _ in range(25):
                await asyncio.gather(*(ask_and_leave(pool) for _ in range(20)))
                told = pool.statistics()
                assert (told.uploads, told.idle <= told.open) == (0, True)
            for _ in range(30):
                assert await ask(pool, get()) == b"x" * 1000 + b"y" * 1000
            await settled(pool, Statistics(open=(idle := pool.statistics().idle), idle=idle, uploads=0))
        await settled(pool, NOTHING)
        async with asyncio.timeout(2):
            while origin.open_connections or open_files() > before[0] or len(asyncio.all_tasks()) > before[1]:  # noqa: ASYNC110
                await asyncio.sleep(0.01)


# Deadlines, backpressure, and what the other side does amid an upload.


@pytest.mark.timing
@on_both_loops
async def test_every_byte_restarts_the_count_of_silence() -> None:
    async def script(peer: Peer) -> None:
        await peer.request()
        await peer.send(chunked()[:-5])
        for _ in range(6):
            await asyncio.sleep(0.03)
            await peer.send(chunk_of(b"x"))
        await peer.wait_ended()

    async with Origin(script) as origin, to(origin) as pool:
        response = await answer_to(pool, get(silence=0.1))
        for _ in range(6):
            assert await anext(response) == b"x"
        with pytest.raises(ReadTimeout, match=r"silent for 0\.1 s"):
            await anext(response)
        await settled(pool, NOTHING)


@pytest.mark.timing
@on_both_loops
async def test_time_that_we_take_ourselves_is_not_the_peers_silence() -> None:
    async def slow() -> AsyncIterator[bytes]:
        yield b"a"
        await asyncio.sleep(0.06)
        yield b"b"

    async with Origin() as origin, to(origin) as pool:
        assert await ask(pool, post(slow(), silence=0.03)) == b"ok"
        response = await answer_to(pool, get(silence=0.03))
        await asyncio.sleep(0.06)
        assert await anext(response) == b"ok"


@pytest.mark.timing
@on_both_loops
async def test_an_answer_that_nobody_takes_stops_the_sender() -> None:
    sent = 0

    async def script(peer: Peer) -> None:
        nonlocal sent
        await peer.request()
        await peer.send(b"HTTP/1.1 200 OK\r\nContent-Length: 100000000\r\n\r\n")
        sent = await peer.flood(bytes(65536), limit=10**8)

    async with Origin(script) as origin, to(origin) as pool:
        response = await answer_to(pool, get())
        held = 0
        for _ in range(20):
            await asyncio.sleep(0.005)
            held = max(held, response._pieces.size)
        assert HIGH_WATER < held <= HIGH_WATER + 256 * 1024  # one read of the loop's beyond the mark
        response.abandon()
        await (await origin.connection()).gone.wait()
        await asyncio.sleep(0)
    assert sent < 30_000_000  # what the kernel's buffers hold


@pytest.mark.timing
@on_both_loops
async def test_a_flood_of_tiny_chunks_leaves_others_their_turn_and_arrives_whole() -> None:
    """40,000 chunks of a byte in one packet took a tenth of a second of the loop; a shadow could send them for ever."""
    many = 40_000
    raw = chunked()[:-5] + chunk_of(b"x") * many + b"0\r\n\r\n"
    async with Origin(raw) as origin, to(origin) as pool:
        loop = asyncio.get_running_loop()
        asking = loop.create_task(ask(pool, get()))
        longest, last = 0.0, loop.time()
        turns = 0
        while not asking.done():
            await asyncio.sleep(0)
            turns += 1
            longest, last = max(longest, loop.time() - last), loop.time()
        assert await asking == b"x" * many
        assert turns > many * 3 / PARTS
        assert longest < 0.05
        assert await ask(pool, get()) == b"x" * many  # and the connection is in sync
        assert pool.statistics() == ONE_IDLE


@pytest.mark.timing
async def test_floods_of_tiny_chunks_from_a_shadow_are_read_no_faster_than_the_pace() -> None:
    raw = chunked()[:-5] + chunk_of(b"x") * 2000 + b"0\r\n\r\n"
    async with Origin(raw) as origin, Pool("127.0.0.1", origin.port, pace=0.01) as pool:
        began = asyncio.get_running_loop().time()
        assert await asyncio.gather(*(ask(pool, get()) for _ in range(3))) == [b"x" * 2000] * 3
        assert asyncio.get_running_loop().time() - began > 3 * (2000 * 3 // PARTS - 1) * 0.0099


async def test_endless_interim_answers_are_an_error() -> None:
    interim = b"HTTP/1.1 103 Early Hints\r\n\r\n"
    async with Origin(interim * MAX_INTERIM + answer(b"x")) as origin, to(origin) as pool:
        assert await ask(pool, get()) == b"x"
    async with Origin(interim * (MAX_INTERIM + 1) + answer(b"x")) as origin, to(origin) as pool:
        with pytest.raises(ProtocolError, match="interim"):
            await ask(pool, get())


@on_both_loops
async def test_an_upload_that_nobody_takes_stops_the_reading_of_it_and_times_out() -> None:
    taken = 0

    async def body() -> AsyncIterator[bytes]:
        nonlocal taken
        while True:
            taken += 65536
            yield bytes(65536)

    async def script(peer: Peer) -> None:
        peer.stop_reading()
        await peer.gone.wait()

    async with Origin(script, receive_buffer=4096) as origin, to(origin) as pool:
        with pytest.raises(ReadTimeout):
            await answer_to(pool, post(body(), silence=0.1))
        assert taken < 30_000_000
        await settled(pool, NOTHING)


@on_both_loops
async def test_an_exception_of_the_requests_body_is_raised_where_the_answer_is_awaited() -> None:
    class Broken(Exception):
        pass

    async def body() -> AsyncIterator[bytes]:
        yield b"begun"
        raise Broken

    async with Origin(silent) as origin, to(origin) as pool:
        with pytest.raises(Broken):
            await answer_to(pool, post(body()))
        await (await origin.connection()).wait_ended()
        assert origin.requests == []
        await settled(pool, NOTHING)


@on_both_loops
async def test_an_early_answer_ends_the_upload_and_the_connection() -> None:
    async def script(peer: Peer) -> None:
        await peer.head()
        await peer.send(answer(b"too much", status=413))
        await peer.wait_ended()

    async with Origin(script) as origin, to(origin) as pool:
        assert await ask(pool, post(endless())) == b"too much"
        await settled(pool, NOTHING)


@on_both_loops
async def test_an_early_answer_to_a_whole_body_that_is_not_sent_yet_ends_the_connection() -> None:
    """What was asked next went by it, behind megabytes that nobody read, and had no answer."""

    async def script(peer: Peer) -> None:
        await peer.head()
        peer.stop_reading()
        await peer.send(answer(b"too much", status=413))
        await peer.gone.wait()

    whole = bytes(10_000_000)
    head = b"POST / HTTP/1.1\r\nHost: h\r\nContent-Length: %d\r\n\r\n" % len(whole)
    async with Origin(script, receive_buffer=4096) as origin, to(origin) as pool:
        assert await ask(pool, OutgoingRequest("POST", head, whole, chunked=False, silence=5.0)) == b"too much"
        await settled(pool, NOTHING)


TO_A_401 = answer(b"no token", status=401, reason=b"Unauthorized")


def certified() -> tuple[ssl.SSLContext, ssl.SSLContext]:
    """What a server for 127.0.0.1 has, and what a client has that trusts it."""
    authority = trustme.CA()
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    authority.issue_cert("127.0.0.1").configure_cert(context)
    trusting = ssl.create_default_context()
    authority.configure_trust(trusting)
    return context, trusting


@pytest.mark.parametrize("length", [200_000, None])
@pytest.mark.parametrize("secure", [False, True])
@on_both_loops
async def test_an_answer_that_came_before_sending_failed_is_not_lost(secure: bool, length: int | None) -> None:
    server, client = certified() if secure else (None, None)
    with Hasty(TO_A_401, tls=server, gated=True) as hasty:
        async with Pool("127.0.0.1", hasty.port, tls=client) as pool:
            answering = await answer_to(pool, post(hasty.upload_that_fails(), length))
            assert answering.head is not None
            assert answering.head.status == 401
            assert await anext(answering) == b"no token"
            await settled(pool, NOTHING)


@pytest.mark.parametrize("secure", [False, True])
@on_both_loops
async def test_nothing_of_an_untaken_answer_is_lost_when_sending_fails(secure: bool) -> None:
    """Reading had stopped, so the end of the answer was in the kernel, or in TLS."""
    server, client = certified() if secure else (None, None)
    begun, rest = HIGH_WATER + 20_000, 30_000
    head = b"HTTP/1.1 401 Unauthorized\r\nContent-Length: %d\r\n\r\n" % (begun + rest)
    with Hasty(head + b"x" * begun, b"y" * rest, tls=server, gated=True) as hasty:
        go_on = asyncio.Event()

        async def body() -> AsyncIterator[bytes]:
            yield bytes(100_000)
            await go_on.wait()
            yield bytes(50_000)

        async with Pool("127.0.0.1", hasty.port, tls=client) as pool:
            hasty.send_next()
            answering = await answer_to(pool, post(body()))
            while not answering._paused:  # noqa: ASYNC110  # it tells nobody
                await asyncio.sleep(0.001)
            hasty.send_next()
            await asyncio.to_thread(hasty.gone.wait, 5)
            go_on.set()
            await settled(pool, NOTHING)
            assert b"".join([piece async for piece in answering]) == b"x" * begun + b"y" * rest


@pytest.mark.parametrize("secure", [False, True])
@on_both_loops
async def test_an_answer_of_many_chunks_before_sending_failed_is_read_in_turns(secure: bool) -> None:
    server, client = certified() if secure else (None, None)
    many = PARTS * 2
    with Hasty(chunked()[:-5] + chunk_of(b"x") * many + b"0\r\n\r\n", tls=server, gated=True) as hasty:
        async with Pool("127.0.0.1", hasty.port, tls=client) as pool:
            assert await ask(pool, post(hasty.upload_that_fails())) == b"x" * many
            await settled(pool, NOTHING)


@pytest.mark.parametrize("secure", [False, True])
@on_both_loops
async def test_the_beginning_of_a_broken_answer_is_no_whole_answer(secure: bool) -> None:
    """Only the connection's end would have told that it is whole, and that was a reset."""
    server, client = certified() if secure else (None, None)
    with Hasty(b"HTTP/1.1 401 Unauthorized\r\n\r\nno tok", tls=server, gated=True) as hasty:
        async with Pool("127.0.0.1", hasty.port, tls=client) as pool:
            answering = await answer_to(pool, post(hasty.upload_that_fails()))
            assert await anext(answering) == b"no tok"
            with pytest.raises(ReadError, match="midst"):
                await anext(answering)
            await settled(pool, NOTHING)


@on_both_loops
async def test_an_answer_is_whole_when_a_server_that_does_not_read_ends_it() -> None:
    """The loop closes only when all is sent, and here nobody takes it."""

    async def script(peer: Peer) -> None:
        await peer.head()
        peer.stop_reading()
        await peer.send(b"HTTP/1.1 413 Content Too Large\r\n\r\ntoo much")
        peer.half_close()
        await peer.gone.wait()

    whole = bytes(10_000_000)
    head = b"POST / HTTP/1.1\r\nHost: h\r\nContent-Length: %d\r\n\r\n" % len(whole)
    async with Origin(script, receive_buffer=4096) as origin, to(origin) as pool:
        assert await ask(pool, OutgoingRequest("POST", head, whole, chunked=False, silence=1.0)) == b"too much"
        await settled(pool, NOTHING)


@on_both_loops
async def test_a_connection_on_which_an_upload_was_not_read_is_not_used_again() -> None:
    """All of it was sent, and lies in the kernels."""

    async def script(peer: Peer) -> None:
        if peer is (await origin.connection()):
            await peer.head()
            peer.stop_reading()
            await peer.send(answer(b"too much", status=413))
            await peer.gone.wait()
        else:
            await peer.request()
            await peer.send(answer(b"read"))

    whole = bytes(40_000)
    head = b"POST / HTTP/1.1\r\nHost: h\r\nContent-Length: %d\r\n\r\n" % len(whole)
    async with Origin(script, receive_buffer=4096) as origin, to(origin) as pool:
        message = OutgoingRequest("POST", head, whole, chunked=False, silence=1.0)
        assert await ask(pool, message) == b"too much"
        await settled(pool, NOTHING)
        assert await ask(pool, message) == b"read"
        assert pool.statistics() == ONE_IDLE  # and one on which it was read is


@on_both_loops
async def test_a_server_that_closes_as_soon_as_it_is_connected_is_an_error_at_once() -> None:
    context, trusting = certified()

    async def hang_up(peer: Peer) -> None:
        return

    for server, client in ((None, None), (context, trusting)):
        async with Origin(hang_up, tls=server) as origin, to(origin, tls=client) as pool:
            for _ in range(20):
                with pytest.raises(ReadError):
                    async with asyncio.timeout(1):
                        await ask(pool, get())
            await settled(pool, NOTHING)


@pytest.mark.parametrize("gone", [False, True])
async def test_a_connection_that_ends_with_its_tls_handshake_ends_like_one_that_ends_a_turn_later(
    monkeypatch: pytest.MonkeyPatch, gone: bool
) -> None:
    context, trusting = certified()
    loop = asyncio.get_running_loop()
    start_tls = loop.start_tls

    async def start_and_lose(plain: asyncio.WriteTransport, *given: Any, **options: Any) -> Any:
        secured = await start_tls(plain, *given, **options)
        plain.abort()
        return None if gone else secured

    async with Origin(silent, tls=context) as origin, to(origin, tls=trusting) as pool:
        monkeypatch.setattr(loop, "start_tls", start_and_lose)
        with pytest.raises(ReadError, match="before the request"):
            await ask(pool, get())
        await settled(pool, NOTHING)


@pytest.mark.source
@on_both_loops
async def test_a_connection_that_ended_in_the_turn_that_opened_it_is_an_error_at_once() -> None:
    async with Origin() as origin, to(origin) as pool:
        connect = pool._connect

        async def connect_and_lose() -> Any:
            connection = await connect()
            connection.abort()
            await asyncio.sleep(0)
            return connection

        pool._connect = connect_and_lose  # type: ignore[method-assign]
        with pytest.raises(ReadError):
            async with asyncio.timeout(1):
                await ask(pool, get())
        await settled(pool, NOTHING)


@on_both_loops
async def test_a_pool_that_is_gone_is_collected() -> None:
    async with Origin() as origin:
        async with to(origin) as pool:
            await ask(pool, get())
        await asyncio.sleep(0.01)
        del pool
        gc.collect()
        assert not [thing for thing in gc.get_objects() if isinstance(thing, Pool)]


@pytest.mark.source
@pytest.mark.parametrize("chunked", [False, True])
def test_a_large_body_is_given_to_the_transport_as_it_is(chunked: bool) -> None:
    """A hung shadow reads nothing, and a copy would be held as long as its request is under way."""

    class Wire:
        def __init__(self) -> None:
            self.written: list[bytes] = []
            self.loop = self.deadline = self.transport = self
            self.write = self.written.append

        def begin(self, carried: object) -> None: ...

        def time(self) -> float:
            return 0.0

    class Asking(RoundTrip):
        def on_head(self, head: object) -> None: ...
        def on_body(self, data: bytes) -> None: ...
        def on_end(self) -> None: ...
        def on_failure(self, error: Exception) -> None: ...

    wire, body = Wire(), bytes(100_000)
    Asking().send(cast(Any, wire), OutgoingRequest("POST", b"head\r\n\r\n", body, chunked=chunked, silence=1.0))
    assert any(each is body for each in wire.written)
    expected = b"186a0\r\n" + body + b"\r\n0\r\n\r\n" if chunked else body
    assert b"".join(wire.written) == b"head\r\n\r\n" + expected


@on_both_loops
async def test_a_connection_counts_once_in_the_turns_in_which_it_opens() -> None:
    """As many requests as there may be connections at once have room, whenever each of them begins."""

    async def ask_later(pool: Pool, turns: int) -> bytes:
        for _ in range(turns):
            await asyncio.sleep(0)
        return await ask(pool, get())

    async with Origin(answer(b"x")) as origin:
        for spread in range(12):
            async with to(origin) as pool:
                pool.most = 8
                asking = [ask_later(pool, number * spread // 4) for number in range(8)]
                assert await asyncio.gather(*asking) == [b"x"] * 8


@pytest.mark.parametrize("closing", [False, True])
@on_both_loops
async def test_a_connection_that_carries_nothing_takes_no_room_from_one_that_opens(closing: bool) -> None:
    """The end of one that closes is reported turns later. An idle one is closed in favour of the new one."""
    async with Origin(answer(b"x")) as origin, to(origin) as pool:
        assert await ask(pool, get()) == b"x"
        (before,) = pool._open
        pool.most = 1
        answering = ResponseStream(pool.loop)
        answering.assign(pool, get())
        pool.connect(answering, get())
        if closing:
            before.close()
        await answering.wait_head()
        assert b"".join([piece async for piece in answering]) == b"x"
        await settled(pool, ONE_IDLE)


@on_both_loops
async def test_a_request_beyond_the_most_connections_is_not_sent() -> None:
    async with Origin(silent) as origin, to(origin) as pool:
        pool.most = 1
        asking = asyncio.create_task(ask(pool, get()))
        await origin.connection()
        with pytest.raises(NoRoom, match="all 1 file descriptors"):
            await ask(pool, get())
        assert len(origin.connections) == 1
        asking.cancel()
        await asyncio.gather(asking, return_exceptions=True)
