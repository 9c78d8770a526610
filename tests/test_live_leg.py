"""Live's leg of an exchange: it needs no task, leaves nothing behind, and keeps within its bounds."""

import asyncio
import gc
from typing import Any

import pytest
from conftest import StartProxy
from fakes import Peer, answer, chunk_of, strict_ok

from shadowproxy.exchange import Outcome
from shadowproxy.record import RecordedLeg
from shadowproxy.serve.live.exchange import LiveExchange
from shadowproxy.serve.live.leg import Passage

GET = b"GET /predict HTTP/1.1\r\nHost: h\r\n\r\n"
POST = b"POST /predict HTTP/1.1\r\nHost: h\r\nContent-Length: 4\r\n\r\nbody"
REJECTED = b"GET / HTTP/1.1\r\nHost: h\r\nVia: " + b", ".join([b"1.1 shadowproxy"] * 17) + b"\r\n\r\n"


async def test_requests_that_come_whole_and_their_answers_need_no_task(proxy: StartProxy) -> None:
    made: list[Any] = []

    def factory(loop: asyncio.AbstractEventLoop, coroutine: Any, **options: Any) -> asyncio.Task[Any]:
        made.append(coroutine)
        return asyncio.Task(coroutine, loop=loop, **options)

    async with proxy(strict_ok, shadows={"a": strict_ok}) as running, await running.caller() as caller:
        await caller.ask(POST)  # a task opens each connection
        await asyncio.sleep(0.05)
        loop = asyncio.get_running_loop()
        loop.set_task_factory(factory)
        try:
            assert [(await caller.ask(each)).status for each in (POST, GET, POST)] == [200, 200, 200]
        finally:
            loop.set_task_factory(None)
        assert made == []
        assert len(await running.records()) == 4


async def test_an_exchange_that_has_settled_is_freed_without_the_collector(proxy: StartProxy) -> None:
    """Its bodies would stay in memory until the garbage is collected."""
    async with proxy(strict_ok, shadows={"a": strict_ok}) as running, await running.caller() as caller:
        gc.collect()
        gc.disable()
        try:
            for _ in range(20):
                assert (await caller.ask(POST)).status == 200
            await asyncio.sleep(0.05)
            left = [each for each in gc.get_objects() if isinstance(each, LiveExchange | Passage)]
        finally:
            gc.enable()
        assert len(left) <= 2  # the connection has its last call until the next


async def test_thousands_of_requests_that_come_at_once_are_answered_one_after_the_other(proxy: StartProxy) -> None:
    """Answered one within the other, they would use the stack up."""
    async with proxy(strict_ok) as running, await running.caller() as caller:
        await caller.send(REJECTED * 2000 + GET)
        assert [(await caller.answer()).status for _ in range(2001)] == [508] * 2000 + [200]


@pytest.mark.parametrize("between", [b"", b"\r\n" * 40_000])
async def test_what_comes_with_a_request_that_is_answered_at_once_is_read_to_its_end(
    proxy: StartProxy, between: bytes
) -> None:
    """Reading pauses while so much is unread, and must go on although no application takes it."""
    long = REJECTED.replace(b"Host: h\r\n", b"Host: h\r\nX-Long: " + b"x" * 500_000 + b"\r\n")
    limits = {"headers": "1MiB", "head_timeout": "2s"}
    async with proxy(strict_ok, limits=limits) as running, await running.caller() as caller:
        await caller.send(REJECTED + between + long)
        assert [(await caller.answer()).status for _ in range(2)] == [508, 508]


async def test_an_idle_connection_ends_after_blank_lines_too(proxy: StartProxy) -> None:
    """They came with a request that was answered at once: reading had paused, and no deadline was left."""
    async with proxy(strict_ok, limits={"idle_timeout": "200ms"}) as running, await running.caller() as caller:
        await caller.send(REJECTED + b"\r\n" * 40_000)
        assert (await caller.answer()).status == 508
        await asyncio.wait_for(caller.wait_ended(), 2)


async def test_a_caller_that_reads_slowly_gets_all_of_it_and_holds_live_up_meanwhile(proxy: StartProxy) -> None:
    """No more than the kernel's buffers hold is taken from live, and its silence does not count meanwhile."""
    piece, count = bytes(range(256)) * 400, 200
    sent = 0

    async def script(peer: Peer) -> None:
        nonlocal sent
        while await peer.request() is not None:
            await peer.send(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n")
            for _ in range(count):
                await peer.send(chunk_of(piece))
                sent += 1
            await peer.send(b"0\r\n\r\n")

    async with proxy(script, live_options={"timeout": "200ms"}) as running:
        async with await running.caller(receive_buffer=4096) as caller:
            caller.stop_reading()
            await caller.send(GET)
            before = -1
            while sent == 0 or before != sent:
                before = sent
                await asyncio.sleep(0.3)
            assert sent < count
            caller.go_on_reading()
            assert (await caller.answer()).body == piece * count
        assert len(await running.records()) == 1


@pytest.mark.parametrize("begun", [False, True])
async def test_a_caller_that_leaves_ends_the_leg_at_once(proxy: StartProxy, begun: bool) -> None:
    left = asyncio.Event()

    async def script(peer: Peer) -> None:
        await peer.request()
        if begun:
            await peer.send(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n", chunk_of(b"some"))
        await peer.wait_ended()
        left.set()

    async with proxy(script, shadows={"a": answer(b"ok")}) as running:
        async with await running.caller() as caller:
            await caller.send(POST)
            if begun:
                await caller.head()
            else:
                await asyncio.sleep(0.05)
            caller.reset()
            await asyncio.wait_for(left.wait(), 2)
        (record,) = await running.records()
        assert isinstance(record.live, RecordedLeg)
        assert record.live.outcome is Outcome.CALLER_LEFT
        assert record.live.status == (200 if begun else None)
