"""Callers who wait lock nobody out: a crowd of them takes no slot, stays within the memory, and goes before others."""

import asyncio
import contextlib
from collections.abc import AsyncIterator, Callable

import pytest
from conftest import Proxy, StartProxy
from fakes import Caller, Peer, Script, answer

from shadowproxy.exchange import Outcome
from shadowproxy.serve.account import Memory, reserve
from shadowproxy.serve.callers import shedding
from shadowproxy.serve.callers.connection import CONNECTION, UNFINISHED, CallerConnection
from shadowproxy.serve.callers.link import State
from shadowproxy.serve.live.proxy import ASKED
from shadowproxy.serve.system import kernel

GET = b"GET / HTTP/1.1\r\nHost: h\r\n\r\n"
KIB = 1 << 10


def begun(length: int, sent: int) -> bytes:
    """A request of which a part of the body is missing."""
    return b"POST / HTTP/1.1\r\nHost: h\r\nContent-Length: %d\r\n\r\n" % length + b"x" * sent


@contextlib.asynccontextmanager
async def crowd(running: Proxy, count: int, raw: bytes) -> AsyncIterator[list[Caller]]:
    """So many callers, each of whom has sent `raw`, and whose bytes have been received."""
    async with contextlib.AsyncExitStack() as stack:
        callers = [await stack.enter_async_context(await running.caller()) for _ in range(count)]
        for caller in callers:
            await caller.send(raw)
        await until(lambda: sum(each.link.state is not State.IDLE for each in connections(running)) == count)
        yield callers


def connections(running: Proxy) -> set[CallerConnection]:
    return running.sidecar.live._server._connections


def open_in_order(running: Proxy) -> list[CallerConnection]:
    return sorted(connections(running), key=lambda each: each.link.moved_at)


def memory(running: Proxy) -> Memory:
    return running.sidecar.mirror.memory


async def until(condition: Callable[[], bool]) -> None:
    async with asyncio.timeout(5):
        while not condition():  # noqa: ASYNC110  # what other tasks do has no event for it
            await asyncio.sleep(0.001)


# Slots.


async def test_requests_that_are_still_received_take_no_slot(proxy: StartProxy) -> None:
    async with proxy(limits={"in_flight": 2}) as running, crowd(running, 10, begun(5, 1)) as callers:
        async with await running.caller() as other:
            for _ in range(3):
                assert (await other.ask(GET)).status == 200
        for caller in callers:
            await caller.send(b"1234")
            assert (await caller.answer()).status == 200
        assert running.sidecar.proxy.asked == running.sidecar.proxy.in_flight == 0


async def test_a_request_that_finds_no_slot_once_it_is_received_gets_503_and_leaves_nothing(proxy: StartProxy) -> None:
    gate = asyncio.Event()

    async def script(peer: Peer) -> None:
        while await peer.request() is not None:
            await gate.wait()
            await peer.send(answer())

    async with proxy(script, {"s": script}, limits={"in_flight": 1}) as running:
        async with await running.caller() as first, await running.caller() as late:
            await late.send(begun(5, 1))
            await until(lambda: running.sidecar.proxy.in_flight == 1)
            await first.send(GET)
            await (await running.live.connection()).wait_received(1)
            await late.send(b"2345")
            reply = await late.answer()
            assert (reply.status, reply.all(b"retry-after")) == (503, [b"1"])
            assert b"more than 1 requests at once" in reply.body
            gate.set()
            assert (await first.answer()).status == 200
            assert (await late.ask(begun(5, 5))).status == 200  # it is in step
        await until(lambda: not running.sidecar.mirror.unsettled)
        assert running.sidecar.proxy._under_way == {}
        await until(lambda: not connections(running))
        assert memory(running).callers == 0
        assert len(await running.records()) == 2


@contextlib.asynccontextmanager
async def one_who_reads_nothing(running: Proxy) -> AsyncIterator[Caller]:
    """A caller who has the only slot, and takes nothing of a response that does not end."""
    async with await running.caller(receive_buffer=4096) as stuck:
        stuck.stop_reading()
        await stuck.send(GET)
        await until(lambda: any(each.link.writable is not None for each in connections(running)))
        yield stuck


def endless_first() -> Script:
    """An endless response on the first connection, short ones on those that follow."""
    number = 0

    async def script(peer: Peer) -> None:
        nonlocal number
        number += 1
        if number == 1:
            await peer.request()
            with contextlib.suppress(ConnectionError):
                await peer.send(b"HTTP/1.1 200 OK\r\n\r\n")
                await peer.flood(bytes(64 * KIB), 1 << 30)
            return
        while await peer.request() is not None:
            await peer.send(answer())

    return script


async def test_a_caller_who_takes_nothing_gives_its_slot_to_another(
    proxy: StartProxy, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(shedding, "STILL", 0.0)
    async with proxy(endless_first(), limits={"in_flight": 1}) as running:
        async with one_who_reads_nothing(running), await running.caller() as other:
            assert (await other.ask(GET)).status == 200
        assert running.sidecar.proxy.asked == 0
        first, second = sorted(await running.records(), key=lambda each: each.at)
        assert (first.live.outcome, second.live.outcome) == ("caller_left", "ok")
        assert "took next to nothing" in (first.live.error or "")


async def test_a_caller_who_took_something_a_moment_ago_keeps_its_slot(proxy: StartProxy) -> None:
    async with (
        proxy(endless_first(), limits={"in_flight": 1}) as running,
        one_who_reads_nothing(running),
        await running.caller() as other,
    ):
        assert (await other.ask(GET)).status == 503
        assert running.sidecar.proxy.asked == 1


async def test_whoever_takes_its_response_slowly_counts_as_moving(proxy: StartProxy) -> None:
    async with proxy(endless_first()) as running, one_who_reads_nothing(running):
        (connection,) = connections(running)
        connection.look()
        before = connection.still_since()
        connection.look()
        assert connection.still_since() == before
        assert connection.link.unsent > 0
        connection.link.moved_at -= 10  # so long ago
        connection.link.unsent += 10  # when last looked at there was more: the caller has taken ten bytes since
        connection.look()
        assert seconds_still(connection) > 9
        connection.link.unsent += 10_000
        connection.look()
        assert seconds_still(connection) < 1


async def test_an_upload_that_live_is_sent_and_that_stands_still_gives_its_slot_to_another(
    proxy: StartProxy, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(shedding, "STILL", 0.0)
    async with proxy(limits={"in_flight": 1, "buffer": 3}) as running:
        async with await running.caller() as uploading, await running.caller() as other:
            await uploading.send(begun(20, 10))
            await (await running.live.connection()).wait_received(60)
            await until(lambda: running.sidecar.proxy.asked == 1)
            assert (await other.ask(GET)).status == 200
            reply = await uploading.answer()
            assert (reply.status, reply.all(b"retry-after")) == (503, [b"1"])
        await until(lambda: not running.sidecar.proxy.asked)
        assert running.sidecar.live._server.shedding.shed == {"memory": 0, "slots": 1, "descriptors": 0}


@contextlib.asynccontextmanager
async def upload_that_took_ten_seconds(running: Proxy, caller: Caller, count: int) -> AsyncIterator[None]:
    """An upload that holds a slot, and of which `count` bytes came in what counts as the last ten seconds."""
    await caller.send(begun(30_000, 10))
    await until(lambda: running.sidecar.proxy.asked == 1)
    (connection,) = connections(running)
    connection.link.moved_at -= 10
    for piece in (b"x" * (count // 10),) * 10:
        await caller.send(piece)
        await asyncio.sleep(0)
    call = connection._call
    assert call is not None
    await until(lambda: call.received == 10 + count and not call.pieces.size)
    yield


@pytest.mark.parametrize("begins_to_answer", [False, True])
async def test_an_upload_of_a_byte_a_second_gives_its_slot_to_another(
    proxy: StartProxy, begins_to_answer: bool
) -> None:
    peers: list[Peer] = []

    async def script(peer: Peer) -> None:
        peers.append(peer)
        if begins_to_answer and len(peers) == 1:
            await peer.wait_received(60)
            await peer.send(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n")
        while await peer.request() is not None:
            await peer.send(answer())

    async with proxy(script, limits={"in_flight": 1, "buffer": 3}) as running:
        async with await running.caller() as slow, upload_that_took_ten_seconds(running, slow, 10):
            if begins_to_answer:
                await slow.wait_received(1)
            (connection,) = connections(running)
            assert seconds_still(connection) > 9
            assert (await running.ask(GET)).status == 200
        await until(lambda: not running.sidecar.proxy.asked)
        assert running.sidecar.live._server.shedding.shed["slots"] == 1


async def test_an_upload_on_a_slow_line_keeps_its_slot(proxy: StartProxy) -> None:
    async with proxy(limits={"in_flight": 1, "buffer": 3}) as running:
        async with await running.caller() as slow, upload_that_took_ten_seconds(running, slow, 10_000):
            assert (await running.ask(GET)).status == 503
            await slow.send(b"x" * (30_000 - 10_010))
            assert (await slow.answer()).status == 200
        assert shed(running) == 0


async def test_an_upload_of_a_byte_a_second_is_not_ended_while_there_is_room(proxy: StartProxy) -> None:
    async with proxy(limits={"in_flight": 2, "buffer": 3}) as running:
        async with await running.caller() as slow, upload_that_took_ten_seconds(running, slow, 10):
            assert (await running.ask(GET)).status == 200
            await slow.send(b"x" * (30_000 - 20))
            assert (await slow.answer()).status == 200
        assert shed(running) == 0


async def test_a_caller_who_sends_little_of_a_stream_both_ways_is_not_still_while_live_sends(proxy: StartProxy) -> None:
    more = asyncio.Event()

    async def script(peer: Peer) -> None:
        await peer.wait_received(60)
        await peer.send(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n")
        await more.wait()
        await peer.send(b"1\r\nx\r\n")
        await peer.wait_ended(60)

    async with (
        proxy(script, limits={"in_flight": 1, "buffer": 3}) as running,
        await running.caller() as caller,
        upload_that_took_ten_seconds(running, caller, 10),
    ):
        (connection,) = connections(running)
        assert seconds_still(connection) > 9
        more.set()
        await caller.wait_received(1)
        await until(lambda: seconds_still(connection) < 1)
        assert (await running.ask(GET)).status == 503


def seconds_still(connection: CallerConnection) -> float:
    since = connection.still_since()
    return 0.0 if since is None else connection.link.loop.time() - since


# Memory.

LIMITS = {"buffer": "64KiB", "capture": "64KiB", "memory": "1MiB"}


async def test_bodies_that_are_held_back_stay_within_the_memory_and_the_longest_still_goes_first(
    proxy: StartProxy,
) -> None:
    async with proxy(limits=LIMITS) as running, await running.caller() as idle:
        async with contextlib.AsyncExitStack() as stack:
            callers = []
            for _ in range(40):  # 2.5 MiB
                caller = await stack.enter_async_context(await running.caller())
                callers.append(caller)
                await caller.send(begun(64 * KIB, 64 * KIB - 1))
                await until(lambda: running.sidecar.proxy.in_flight > 0 and newest_came(running, 64 * KIB - 1))
                await until(lambda: memory(running).held <= 1 << 20)
            shed = [caller for caller in callers if caller.received]
            assert shed == callers[: len(shed)]
            assert 20 < len(shed) < 36
            errors = [each._call.error for each in connections(running) if each._call is not None]
            assert any(error is not None for error in errors)
            # The frames of a traceback would hold the body of each one that was shed, until its connection ends.
            assert all(error.__traceback__ is None for error in errors if error is not None)
            reply = await shed[0].answer()
            assert (reply.status, reply.all(b"retry-after")) == (503, [b"1"])
            assert (await idle.ask(GET)).status == 200  # to end it would have freed nothing that counts
            for caller in callers[len(shed) :]:
                await caller.send(b"x")
                assert (await caller.answer()).status == 200
        await until(lambda: not running.sidecar.mirror.unsettled and len(connections(running)) == 1)
        assert memory(running).callers == memory(running).used == 0


def newest_came(running: Proxy, size: int) -> bool:
    newest = open_in_order(running)[-1]
    return newest._call is not None and newest._call.received == size


async def test_callers_who_take_nothing_stay_within_the_memory(proxy: StartProxy) -> None:
    """Each holds what was read of live's response before it was known that the caller takes none of it."""
    large = answer(bytes(4 << 20))
    async with proxy(large, limits={"buffer": 0, "capture": 0, "memory": "2MiB"}) as running:
        async with contextlib.AsyncExitStack() as stack:
            for number in range(30):
                caller = await stack.enter_async_context(await running.caller(receive_buffer=4096))
                caller.stop_reading()
                await caller.send(GET)
                await until(lambda number=number: running.sidecar.proxy.in_flight + shed(running) > number)  # type: ignore[misc]
                await until(lambda: all(each.link.writable is not None for each in connections(running)))
                await until(lambda: memory(running).held <= 2 << 20)
            assert 0 < shed(running) < 30
        await until(lambda: not connections(running))
        assert memory(running).callers == 0


async def test_the_kernel_holds_little_for_a_caller_who_takes_nothing(proxy: StartProxy) -> None:
    async with proxy(endless_first()) as running, one_who_reads_nothing(running):
        (connection,) = connections(running)
        ours = connection.link.transport.get_extra_info("socket")
        before = -1
        while (held := kernel.unacknowledged(ours)) != before:  # until it takes no more
            before = held
            await asyncio.sleep(0.05)
        assert 0 < held < 512 * KIB


async def test_a_long_stream_that_flows_is_not_shed_for_those_who_stand_still(proxy: StartProxy) -> None:
    """Live sends without end; one caller reads all of it, and the others nothing."""

    async def endless(peer: Peer) -> None:
        await peer.request()
        with contextlib.suppress(ConnectionError):
            await peer.send(b"HTTP/1.1 200 OK\r\n\r\n")
            await peer.flood(bytes(16 * KIB), 1 << 30)

    limits = {"buffer": 0, "capture": 0, "memory": "1MiB"}
    async with proxy(endless, limits=limits) as running, contextlib.AsyncExitStack() as stack:
        flowing = await stack.enter_async_context(await running.caller())
        await flowing.send(GET)
        await flowing.wait_received(1)
        for _ in range(30):
            if shed(running):
                break
            caller = await stack.enter_async_context(await running.caller(receive_buffer=4096))
            caller.stop_reading()
            await caller.send(GET)
            await flowing.wait_received(len(flowing.received) + 64 * KIB)
        await until(lambda: shed(running) > 0)
        await flowing.wait_received(len(flowing.received) + 1024 * KIB)
        assert flowing.ended == "no"


def shed(running: Proxy) -> int:
    return sum(running.sidecar.live._server.shedding.shed.values())


async def test_copies_for_a_hung_shadow_go_before_any_caller(proxy: StartProxy) -> None:
    async def hangs(peer: Peer) -> None:
        await peer.wait_ended(60)

    options = {"in_flight": 4, "lane": 100, "timeout": "1h"}
    async with proxy(answer(), {"s": hangs}, shadow_options=options, limits=LIMITS, drain=0) as running:
        async with await running.caller() as caller:
            for _ in range(20):
                assert (await caller.ask(begun(60 * KIB, 60 * KIB))).status == 200
        held = memory(running).held
        assert 600 * KIB < held <= 768 * KIB  # a quarter is the callers'
        async with crowd(running, 12, begun(64 * KIB, 64 * KIB - 1)) as callers:
            for caller in callers:
                await caller.send(b"x")
                assert (await caller.answer()).status == 200
        outcomes = running.sidecar.mirror.lane("s").counts.outcomes
        assert outcomes[Outcome.OVERLOAD] > 8
        assert shed(running) == 0


async def test_a_connection_counts_what_is_unread_and_unfinished_and_gives_it_back(proxy: StartProxy) -> None:
    async with proxy() as running:
        async with crowd(running, 3, b"GET / HT"):
            assert memory(running).callers == 3 * (UNFINISHED + 8)
        await until(lambda: not connections(running))
        assert memory(running).callers == 0


async def test_a_request_that_live_is_asked_and_a_tunnel_count_until_they_end(proxy: StartProxy) -> None:
    end = asyncio.Event()

    async def script(peer: Peer) -> None:
        request = await peer.request()
        assert request is not None
        if request.all(b"upgrade"):
            await peer.send(b"HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\n")
        await end.wait()
        await peer.send(answer())

    offer = GET[:-2] + b"Connection: Upgrade\r\nUpgrade: websocket\r\n\r\n"
    async with proxy(script) as running, contextlib.AsyncExitStack() as stack:
        for number, raw in enumerate((GET, GET, offer), 1):
            caller = await stack.enter_async_context(await running.caller())
            await caller.send(raw)
            await until(lambda number=number: running.sidecar.proxy.asked == number)  # type: ignore[misc]
            assert memory(running).objects == number * (CONNECTION + ASKED)
        await until(lambda: len(running.sidecar.proxy.tunnels) == 1)
        assert memory(running).objects == 3 * (CONNECTION + ASKED)
        end.set()
        await stack.aclose()
        await until(lambda: not connections(running) and not running.sidecar.proxy.asked)
        assert memory(running).objects == memory(running).callers == 0


async def test_idle_connections_count_and_the_longest_idle_end_where_memory_is_short(proxy: StartProxy) -> None:
    """They end as at a stop, and before a caller who sent a part of a request after them."""
    limits = {"buffer": 100 * KIB, "capture": 100 * KIB, "memory": "512KiB"}
    async with proxy(limits=limits) as running, contextlib.AsyncExitStack() as stack:
        memory(running).free = 0
        uploading = await stack.enter_async_context(await running.caller())
        idle = []
        for number in range(100):  # 600 KiB
            if number == 60:
                await uploading.send(begun(100 * KIB, 100 * KIB - 1))
                await until(lambda: newest_came(running, 100 * KIB - 1))
            idle.append(await stack.enter_async_context(await running.caller()))
            await until(lambda number=number: len(connections(running)) + shed(running) > number + 1)  # type: ignore[misc]
        await until(lambda: sum(caller.ended != "no" for caller in idle) == shed(running) > 0)
        assert memory(running).held <= 512 * KIB
        ended = [caller for caller in idle if caller.ended != "no"]
        assert 10 < len(ended) < 60
        assert ended == idle[: len(ended)]
        assert running.sidecar.live._server.shedding.shed["memory"] == len(ended)
        await uploading.send(b"x")
        assert (await uploading.answer()).status == 200
        assert (await idle[-1].ask(GET)).status == 200


@pytest.mark.parametrize(("limit", "capture", "kept"), [(1 << 20, 64 * KIB, 256 * KIB), (100, 100, 0), (100, 90, 10)])
def test_copies_leave_a_quarter_to_callers_unless_one_body_could_not_be_copied_then(
    limit: int, capture: int, kept: int
) -> None:
    assert reserve(limit, capture) == kept


def test_copies_leave_room_for_callers_and_take_what_those_leave() -> None:
    account = Memory(100, reserved=25)
    assert account.take(75)
    assert not account.take(1)
    account.give(75)
    account.hold(40)
    assert not account.take(61)
    assert account.take(60)


def test_small_objects_count_where_they_are_more_than_a_process_has_room_for_anyway() -> None:
    account = Memory(1000, free=100)
    seen = []
    for count in (90, 20, 40, -60, -90):
        account.hold_objects(count)
        seen.append(account.callers)
    assert seen == [0, 10, 50, 0, 0]


def test_callers_are_relieved_of_what_passes_the_limit_but_not_for_the_sake_of_copies() -> None:
    relieved: list[int] = []
    account = Memory(100)
    account.relieve = lambda: relieved.append(account.excess)
    account.take_anyway(90)
    account.hold(25)
    assert relieved == []
    account.hold(10)
    assert relieved == [10]
    account.hold(-35)
    account.hold(5)
    assert relieved == [10]
