"""What of the caller's side shows only between two turns of the event loop."""

import asyncio
import contextlib
import resource
import socket
from collections.abc import Callable
from pathlib import Path

import pytest
import uvloop
from conftest import StartProxy
from fakes import CutOff, Peer, always, answer, chunk_of, silent, strict_ok

from shadowproxy.serve.account import Memory
from shadowproxy.serve.callers.call import Call
from shadowproxy.serve.callers.connection import PARTS, CallerConnection
from shadowproxy.serve.callers.link import Limits
from shadowproxy.serve.telemetry.operator_log import Repeats

GET = b"GET /predict HTTP/1.1\r\nHost: h\r\n\r\n"


async def test_an_answer_that_was_broken_in_its_first_packet_is_broken_off_after_its_head(proxy: StartProxy) -> None:
    """A caller that gets not a byte on a connection it used before takes it for idle, and asks again."""
    broken = b"HTTP/1.1 200 OK\r\nX-A: 1\r\nTransfer-Encoding: chunked\r\n\r\nno size\r\n"
    async with proxy(always(broken)) as running, await running.caller() as caller:
        await caller.send(GET)
        start, fields = await caller.head()
        assert start == b"HTTP/1.1 200 OK"
        assert (b"X-A", b"1") in fields
        with pytest.raises(CutOff):
            await caller.answer()
        assert len(running.live.requests) == 1


async def test_a_caller_that_takes_no_answer_has_no_further_request_answered_and_is_given_up(proxy: StartProxy) -> None:
    """Each answer was whole in its first piece, and 55 MB of them waited for one caller within three seconds."""

    async def script(peer: Peer) -> None:
        while await peer.request() is not None:
            await peer.send(answer(bytes(50_000)))

    async with proxy(script, limits={"body_timeout": "200ms"}) as running:
        async with await running.caller(receive_buffer=4096) as caller:
            caller.stop_reading()
            assert await caller.flood(GET * 100, limit=10**7) < 10**7
        assert len(running.live.requests) < 400  # what the kernel's buffers hold


async def test_an_early_answer_that_ends_with_its_connection_is_reset_when_the_upload_breaks_off(
    proxy: StartProxy,
) -> None:
    """Ended politely, it would look whole."""

    async def script(peer: Peer) -> None:
        await peer.head()
        await peer.send(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n", chunk_of(b"early"))
        await peer.wait_ended()

    limits = {"buffer": 3, "body_timeout": "100ms"}
    async with proxy(script, limits=limits) as running, await running.caller() as caller:
        await caller.send(b"POST / HTTP/1.0\r\nHost: h\r\nContent-Length: 10\r\n\r\nabcde")
        await caller.wait_ended()
        assert caller.received.endswith(b"\r\n\r\nearly")
        assert caller.ended == "reset"


def test_a_response_that_begins_as_its_caller_leaves_logs_no_defect() -> None:
    """On uvloop, which refuses to write to what is closed."""
    said: list[dict[str, object]] = []
    begun = asyncio.Event()

    class Left:
        connection: CallerConnection

        async def answer(self, call: Call) -> None:
            self.connection.abort()
            call.start(200, [])  # its head is to be written in the turn in which the connection is lost
            begun.set()
            await asyncio.Event().wait()

    async def main() -> None:
        loop = asyncio.get_running_loop()
        loop.set_exception_handler(lambda _, what: said.append(what))
        ours, callers = socket.socketpair()
        with callers:
            ours.setblocking(False)
            limits = Limits(headers=1000, buffer=1000, head_timeout=5.0, body_timeout=5.0, idle_timeout=75.0)
            tasks: set[asyncio.Task[None]] = set()
            app.connection = connection = CallerConnection(
                app, set(), tasks, limits=limits, repeats=Repeats(), memory=Memory(1 << 30)
            )
            await loop.connect_accepted_socket(lambda: connection, ours)
            callers.send(GET)
            await begun.wait()
            await asyncio.wait(tasks)

    app = Left()
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        runner.run(main())
    assert said == []


@pytest.mark.parametrize("loop", [asyncio.new_event_loop, uvloop.new_event_loop], ids=["asyncio", "uvloop"])
def test_a_last_response_is_cut_off_if_the_caller_takes_nothing_and_complete_if_it_is_slow(
    loop: Callable[[], asyncio.AbstractEventLoop],
) -> None:
    """Closed politely, a connection stays until all of it is sent: for ever, where the caller only keeps it open."""

    class Long:
        async def answer(self, call: Call) -> None:
            call.start(200, [], body=bytes(300_000), last=True)

    async def ask(takes: bool) -> int:
        loop = asyncio.get_running_loop()
        ours, callers = socket.socketpair()
        with callers:
            ours.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 4096)
            ours.setblocking(False)
            callers.setblocking(False)
            limits = Limits(headers=1000, buffer=1000, head_timeout=5.0, body_timeout=0.05, idle_timeout=75.0)
            connections: set[CallerConnection] = set()
            connection = CallerConnection(
                Long(), connections, set(), limits=limits, repeats=Repeats(), memory=Memory(1 << 30)
            )
            await loop.connect_accepted_socket(lambda: connection, ours)
            callers.send(b"GET / HTTP/1.1\r\nHost: h\r\nConnection: close\r\n\r\n")
            taken = 0
            async with asyncio.timeout(5):
                while connections:
                    await asyncio.sleep(0.01)
                    with contextlib.suppress(BlockingIOError):
                        taken += len(callers.recv(20_000)) if takes else 0
                while takes and (piece := callers.recv(1 << 20)):
                    taken += len(piece)
            return taken

    with asyncio.Runner(loop_factory=loop) as runner:
        assert runner.run(ask(takes=False)) == 0
        assert runner.run(ask(takes=True)) > 300_000


@pytest.mark.parametrize("name", ["\0shadowproxy-caller", "{}/caller"], ids=["abstract", "a path"])
async def test_a_caller_with_a_unix_socket_of_its_own_name_is_forwarded_as_unknown(
    proxy: StartProxy, tmp_path: Path, name: str
) -> None:
    path = str(tmp_path / "listen")
    loop = asyncio.get_running_loop()
    with socket.socket(socket.AF_UNIX) as caller:
        caller.setblocking(False)
        caller.bind(name.format(tmp_path))
        async with proxy(strict_ok, listen=f"unix:{path}", forwarded=True) as running:
            await loop.sock_connect(caller, path)
            await loop.sock_sendall(caller, GET)
            assert (await loop.sock_recv(caller, 1000)).startswith(b"HTTP/1.1 200 OK\r\n")
            (asked,) = running.live.requests
            assert asked.all(b"X-Forwarded-For") == [b"unknown"]


MANY = 40_000
CHUNKED = b"POST /predict HTTP/1.1\r\nHost: h\r\nTransfer-Encoding: chunked\r\n\r\n"
FLOOD = chunk_of(b"x") * MANY


async def test_a_flood_of_tiny_chunks_leaves_other_callers_their_turn_and_arrives_complete(proxy: StartProxy) -> None:
    """They come 256 KiB at a read, which took 30 ms of the loop. A turn of it is one of this loop's here."""
    async with proxy() as running, await running.caller() as caller:
        loop = asyncio.get_running_loop()
        asking = loop.create_task(caller.ask(CHUNKED + FLOOD + b"0\r\n\r\n" + GET))
        mirror = running.sidecar.mirror
        turns = most = last = 0
        while not asking.done():
            await asyncio.sleep(0)
            turns += 1
            for each in mirror._unsettled[mirror.plan]:
                size = each.request_body.size  # a byte for each chunk
                most, last = max(most, size - last), size
        assert (await asking).status == 200
        assert (await caller.answer()).status == 200  # what came behind it is in step
        first, second = running.live.requests
        assert (first.body, second.body) == (b"x" * MANY, b"")
        assert turns > MANY * 3 / PARTS
        assert 0 < most <= PARTS


async def test_a_flood_of_tiny_chunks_that_turns_bad_is_refused_in_order(proxy: StartProxy) -> None:
    async with proxy() as running, await running.caller() as caller:
        reply = await caller.ask(CHUNKED + FLOOD + b"no size\r\n")
        assert reply.status == 400
        assert running.live.requests == []


async def test_a_flood_of_tiny_chunks_after_the_response_is_dropped_and_the_connection_stays_in_step(
    proxy: StartProxy,
) -> None:
    loop = b", ".join([b"1.1 shadowproxy"] * 17)
    refused = CHUNKED.replace(b"Host:", b"Via: " + loop + b"\r\nHost:")
    async with proxy() as running, await running.caller() as caller:
        await caller.send(refused + FLOOD * 3 + b"0\r\n\r\n" + GET)
        assert (await caller.answer()).status == 508
        assert (await caller.answer()).status == 200


@pytest.mark.timing
async def test_many_small_chunks_are_no_excuse_for_a_late_body(proxy: StartProxy) -> None:
    """Reading is paused while there is more than one turn may read, and what is read then moves no deadline."""
    async with proxy(limits={"body_timeout": "300ms"}) as running, await running.caller() as caller:
        loop = asyncio.get_running_loop()
        began = loop.time()
        await caller.send(CHUNKED)

        async def drip() -> None:
            await caller.send(chunk_of(b"x") * PARTS)
            while True:
                await caller.send(chunk_of(b"x"))
                await asyncio.sleep(0.02)  # 300 bytes a second

        dripping = loop.create_task(drip())
        try:
            assert (await caller.answer()).status == 408
        finally:
            dripping.cancel()
        assert loop.time() - began < 2


async def test_tiny_chunks_that_wait_for_live_take_little_more_memory_than_their_bytes(proxy: StartProxy) -> None:
    async with proxy(silent, limits={"buffer": 0}) as running, await running.caller() as caller:
        await caller.send(CHUNKED)
        for _ in range(500):
            await caller.send(chunk_of(b"ab"))
            await asyncio.sleep(0)
        async with asyncio.timeout(5):
            while not (unsettled := running.sidecar.mirror._unsettled[running.sidecar.mirror.plan]):  # noqa: ASYNC110
                await asyncio.sleep(0.001)
            (each,) = unsettled
            while each.request_body.size < 1000:  # noqa: ASYNC110
                await asyncio.sleep(0.001)
        pieces = each.request_body._pieces
        assert pieces is not None
        assert len(pieces._pieces or ()) <= 2


async def test_a_caller_that_connects_while_no_descriptor_is_left_is_answered_later(
    proxy: StartProxy, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr("shadowproxy.serve.callers.balance.RETRY", 0.01)
    async with proxy(admin="127.0.0.1:0") as running, await running.caller() as known:
        assert (await known.ask(GET)).status == 200
        with socket.socket() as late:
            late.setblocking(False)
            before = resource.getrlimit(resource.RLIMIT_NOFILE)
            resource.setrlimit(resource.RLIMIT_NOFILE, (3, before[1]))  # fewer than are open already
            try:
                await asyncio.get_running_loop().sock_connect(late, running.sidecar.address)
                async with asyncio.timeout(5):
                    while len(told := [each for each in caplog.records if "a connection could not be" in each.msg]) < 3:  # noqa: ASYNC110  # lines tell nobody of themselves
                        await asyncio.sleep(0.01)
                assert (await known.ask(GET)).status == 200
            finally:
                resource.setrlimit(resource.RLIMIT_NOFILE, before)
            await asyncio.get_running_loop().sock_sendall(late, GET)
            async with asyncio.timeout(5):
                assert (await asyncio.get_running_loop().sock_recv(late, 65536)).startswith(b"HTTP/1.1 200 ")
        assert [each.getMessage() for each in told[:3]] == [
            "a connection could not be accepted: Too many open files",
            "a connection could not be accepted 2 times: Too many open files",
            "a connection could not be accepted 4 times: Too many open files",
        ]
        assert vars(told[0])["event"] == "not_accepted"
