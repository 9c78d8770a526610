"""Live is gone, silent or rude; callers leave, stall and abuse: each ends in time, and no other caller notices."""

import asyncio
import contextlib
import json
import os
import random
import time
from pathlib import Path

import pytest
from conftest import Proxy, StartProxy
from fakes import (
    Caller,
    CutOff,
    Hasty,
    Message,
    Origin,
    Peer,
    Script,
    answer,
    chunk_of,
    chunked,
    close_idle,
    cut,
    deaf_port,
    refusing_port,
    silent,
    then_close,
    then_reset,
)

from shadowproxy.exchange import Outcome
from shadowproxy.serve.callers import connection
from shadowproxy.serve.upstreams import pool
from shadowproxy.serve.upstreams.endpoint import Endpoint
from shadowproxy.serve.upstreams.retry import IDLE_CLOSE

GET = b"GET / HTTP/1.1\r\nHost: h\r\n\r\n"


def post(size: int, body: bytes | None = None) -> bytes:
    head = b"POST /p HTTP/1.1\r\nHost: h\r\nContent-Length: %d\r\n\r\n" % size
    return head + (bytes(size) if body is None else body)


def told(reply: Message) -> tuple[int, str]:
    """Status and reason of a response that the proxy gave instead of live."""
    said = json.loads(reply.body)
    assert said["request_id"] == reply.all(b"x-request-id")[0].decode()
    assert said["detail"]
    return reply.status, said["error"]


async def live_outcome(running: Proxy) -> Outcome:
    (record,) = await running.records()
    return record.live.outcome


# Live fails, and the caller is told within the deadline that was set.


async def test_live_that_refuses_is_a_502(proxy: StartProxy) -> None:
    with refusing_port() as port:
        async with proxy(live_options={"url": f"http://127.0.0.1:{port}"}) as running:
            assert told(await running.ask(GET)) == (502, "connection_refused")
            assert await live_outcome(running) == Outcome.CONNECT_ERROR


@pytest.mark.timing
async def test_live_that_takes_no_connection_is_a_502_after_connect_timeout(proxy: StartProxy) -> None:
    with deaf_port() as port:
        options = {"url": f"http://127.0.0.1:{port}", "connect_timeout": "50ms"}
        async with proxy(live_options=options) as running:
            begin = time.monotonic()
            assert told(await running.ask(GET)) == (502, "connection_timeout")
            assert 0.05 <= time.monotonic() - begin < 1
            assert await live_outcome(running) == Outcome.CONNECT_ERROR


async def test_live_that_cannot_be_found_is_a_502(proxy: StartProxy) -> None:
    async with proxy(live_options={"url": "http://no-such-host.invalid"}) as running:
        assert told(await running.ask(GET)) == (502, "dns_error")
        assert await live_outcome(running) == Outcome.CONNECT_ERROR


async def test_live_that_speaks_no_tls_is_a_502(proxy: StartProxy) -> None:
    async def script(peer: Peer) -> None:
        await peer.wait_received(1)
        await peer.send(answer(b"speak plainly", status=400))

    async with Origin(script) as live, proxy(live, live_options={"url": f"https://127.0.0.1:{live.port}"}) as running:
        assert (await running.ask(GET)).status == 502
        assert await live_outcome(running) in (Outcome.TLS_ERROR, Outcome.CONNECT_ERROR)


@pytest.mark.parametrize(
    "hang_up", [then_close(b""), then_reset(b""), then_close(b"HTTP/1.1 200 O"), then_reset(b"HTTP")]
)
async def test_live_that_hangs_up_is_a_502(proxy: StartProxy, hang_up: object) -> None:
    async with proxy(hang_up) as running, await running.caller() as caller:
        for _ in range(2):
            assert told(await caller.ask(GET)) == (502, "http_response_incomplete")
        assert len(running.live.connections) == 2  # a connection of its own each: nothing was tried again


@pytest.mark.timing
async def test_live_that_is_silent_is_a_504_after_its_timeout(proxy: StartProxy) -> None:
    async with proxy(silent, live_options={"timeout": "50ms"}) as running, await running.caller() as caller:
        begin = time.monotonic()
        assert told(await caller.ask(GET)) == (504, "http_response_timeout")
        assert 0.05 <= time.monotonic() - begin < 1
        await (await running.live.connection()).wait_ended()
        assert await live_outcome(running) == Outcome.TIMEOUT


async def test_live_that_falls_silent_midway_is_broken_off(proxy: StartProxy) -> None:
    async def script(peer: Peer) -> None:
        await peer.request()
        await peer.send(chunked(b"hello")[:-5])
        await peer.wait_ended()

    async with proxy(script, live_options={"timeout": "50ms"}) as running, await running.caller() as caller:
        await caller.send(GET)
        with pytest.raises(CutOff):
            await caller.answer()
        await (await running.live.connection()).wait_ended()


async def test_lives_timeout_is_for_silence_and_a_stream_may_last(proxy: StartProxy) -> None:
    async def script(peer: Peer) -> None:
        await peer.request()
        await peer.send(chunked()[:-5])
        for _ in range(8):
            await asyncio.sleep(0.02)
            await peer.send(chunk_of(b"x"))
        await peer.send(b"0\r\n\r\n")

    async with proxy(script, live_options={"timeout": "80ms"}) as running:
        assert (await running.ask(GET)).body == b"x" * 8


# Connections that live closed while they were idle.


async def test_a_connection_is_used_again(proxy: StartProxy) -> None:
    async with proxy() as running:
        for _ in range(5):
            assert (await running.ask(GET)).status == 200
        assert len(running.live.connections) == 1


async def test_a_connection_that_live_closed_idle_never_surfaces(proxy: StartProxy) -> None:
    async with proxy(close_idle(answer(), after=0.01)) as running:
        for _ in range(3):
            assert (await running.ask(GET)).status == 200
            await (await running.live.connection(len(running.live.connections) - 1)).gone.wait()
        assert len(running.live.connections) == 3


@pytest.mark.timing
async def test_no_connection_is_kept_until_servers_close_it_at_5_seconds(
    proxy: StartProxy, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert pool.IDLE_EXPIRY < 5.0
    monkeypatch.setattr(pool, "IDLE_EXPIRY", 0.02)
    async with proxy() as running:
        assert (await running.ask(GET)).status == 200
        await (await running.live.connection()).wait_ended(1)


def hang_up_when_asked_again(how: str) -> tuple[object, asyncio.Event]:
    """A server that answers once, and closes when the next request arrives: as one does that had closed already."""
    closed = asyncio.Event()

    async def script(peer: Peer) -> None:
        await peer.request()
        await peer.send(answer(b"x", status=201))
        if closed.is_set():
            await peer.request()
            return
        await peer.wait_received(len(peer.received) + 1)
        closed.set()
        if how == "reset":
            peer.reset()

    return script, closed


CHUNKED = post(5).replace(b"Content-Length: 5\r\n\r\n", b"Transfer-Encoding: chunked\r\n\r\n5\r\n") + b"\r\n0\r\n\r\n"


@pytest.mark.parametrize(("status", "connections"), [(200, 1), (404, 1), (500, 2), (503, 2)])
async def test_the_request_after_a_failed_one_goes_over_a_new_connection(
    proxy: StartProxy, status: int, connections: int
) -> None:
    """Whether or not the server announces to close after an exception: it may do so when the next request is sent."""

    async def script(peer: Peer) -> None:
        while await peer.request() is not None:
            await peer.send(answer(b"x", status=status))

    async with proxy(script) as running, await running.caller() as caller:
        for _ in range(2):
            assert (await caller.ask(post(5))).status == status
        assert len(running.live.connections) == connections


@pytest.mark.parametrize("how", ["end", "reset"])
@pytest.mark.parametrize("raw", [GET, *(each.replace(b"POST", b"GET") for each in (post(5), CHUNKED))])
async def test_a_request_that_met_a_closing_connection_is_retried_once(proxy: StartProxy, how: str, raw: bytes) -> None:
    script, closed = hang_up_when_asked_again(how)
    async with proxy(script) as running, await running.caller() as caller:
        assert (await caller.ask(GET)).status == 201
        assert (await caller.ask(raw)).status == 201
        assert closed.is_set()
        assert len(running.live.connections) == 2
        assert len(running.live.connections[1].requests) == 1


@pytest.mark.timing
@pytest.mark.parametrize(("how", "after"), [("end", 0), ("end", 0.005), ("end", 0.05), ("reset", 0.05)])
@pytest.mark.parametrize("raw", [post(5), CHUNKED, post(5).replace(b"POST", b"DELETE")])
async def test_an_unsafe_request_is_not_retried_once_live_has_it(
    proxy: StartProxy, raw: bytes, after: float, how: str
) -> None:
    """A model that took a POST and died within a tenth of a second was given it twice."""

    async def script(peer: Peer) -> None:
        await peer.request()
        await peer.send(answer())
        await peer.request()
        await asyncio.sleep(after)
        if how == "reset":
            peer.reset()

    async with proxy(script) as running, await running.caller() as caller:
        assert (await caller.ask(GET)).status == 200
        assert told(await caller.ask(raw)) == (502, "http_response_incomplete")
        assert [len(each.requests) for each in running.live.connections] == [2]
        assert running.sidecar.proxy.retries == 0


@pytest.mark.parametrize("raw", [post(5), CHUNKED, post(5).replace(b"POST", b"DELETE")])
async def test_a_request_that_is_reset_at_once_is_retried(proxy: StartProxy, raw: bytes) -> None:
    """As MLServer does, which closes after an error answer while the next request is on its way."""

    async def script(peer: Peer) -> None:
        await peer.request()
        await peer.send(answer())
        if len(running.live.connections) == 1:
            await peer.wait_received(len(peer.received) + 1)
            peer.reset()

    async with proxy(script) as running, await running.caller() as caller:
        assert (await caller.ask(GET)).status == 200
        assert (await caller.ask(raw)).status == 200
        assert running.sidecar.proxy.retries == 1


async def test_a_retry_uses_a_new_connection_as_other_idle_ones_may_be_closing_too(proxy: StartProxy) -> None:
    both_asked = asyncio.Barrier(2)

    async def script(peer: Peer) -> None:
        await peer.request()
        if len(running.live.connections) <= 2:
            await both_asked.wait()
        await peer.send(answer())
        await peer.wait_received(len(peer.received) + 1)

    async with proxy(script) as running:
        await asyncio.gather(running.ask(GET), running.ask(GET))
        assert (await running.ask(GET)).status == 200
        assert len(running.live.connections) == 3


async def test_with_retry_off_a_closing_connection_is_a_502(proxy: StartProxy) -> None:
    script, _ = hang_up_when_asked_again("end")
    async with proxy(script, live_options={"retry": "off"}) as running, await running.caller() as caller:
        assert (await caller.ask(GET)).status == 201
        assert told(await caller.ask(GET)) == (502, "http_response_incomplete")
        assert len(running.live.connections) == 1


async def test_a_body_that_is_not_held_whole_is_not_sent_again(proxy: StartProxy) -> None:
    script, _ = hang_up_when_asked_again("end")
    async with proxy(script, limits={"buffer": 10, "capture": 10}) as running, await running.caller() as caller:
        assert (await caller.ask(GET)).status == 201
        await caller.send(post(1000)[:-1])
        assert (await caller.answer()).status == 502
        assert len(running.live.connections) == 1


@pytest.mark.parametrize("end", ["end", "reset"])
@pytest.mark.parametrize("raw", [GET, post(5), post(40_000)], ids=["GET", "POST", "POST of 40 kB"])
async def test_a_request_that_live_had_worked_on_is_not_sent_again(proxy: StartProxy, raw: bytes, end: str) -> None:
    """A model that took a POST, worked for 0.3 s and died was sent it a second time, and no failure was reported."""

    async def script(peer: Peer) -> None:
        await peer.request()
        await peer.send(answer())
        await peer.request()
        await asyncio.sleep(IDLE_CLOSE * 1.5)
        if end == "reset":
            peer.reset()

    async with proxy(script) as running, await running.caller() as caller:
        assert (await caller.ask(GET)).status == 200
        assert told(await caller.ask(raw)) == (502, "http_response_incomplete")
        assert len(running.live.connections) == 1
        assert running.sidecar.proxy.retries == 0


async def test_a_body_that_comes_slowly_is_not_sent_again_either(proxy: StartProxy) -> None:
    """It is held whole, so it could be: it came in pieces, and live had it when its connection ended."""

    async def script(peer: Peer) -> None:
        await peer.request()
        await peer.send(answer())
        await peer.request()
        await asyncio.sleep(IDLE_CLOSE * 1.5)

    async with proxy(script) as running, await running.caller() as caller:
        assert (await caller.ask(GET)).status == 200
        await caller.send(*cut(post(50), [70, 80]))
        assert (await caller.answer()).status == 502
        assert len(running.live.connections) == 1


async def test_retries_are_counted(proxy: StartProxy) -> None:
    def closing_at_the_second_request() -> Script:
        async def script(peer: Peer) -> None:
            await peer.request()
            await peer.send(answer())
            await peer.request()

        return script

    both = closing_at_the_second_request()
    async with proxy(both, shadows={"a": both}) as running, await running.caller() as caller:
        for _ in range(3):
            assert (await caller.ask(GET)).status == 200
        await running.records()
        census = running.sidecar.census()
        assert (census.retries, census.shadows[0].retries) == (2, 2)


async def test_a_request_is_not_sent_again_once_a_byte_of_an_answer_came(proxy: StartProxy) -> None:
    async def script(peer: Peer) -> None:
        await peer.request()
        await peer.send(answer())
        await peer.request()
        await peer.send(b"H")

    async with proxy(script) as running, await running.caller() as caller:
        assert (await caller.ask(GET)).status == 200
        assert (await caller.ask(GET)).status == 502
        assert len(running.live.connections) == 1


async def test_a_server_that_closes_unannounced_after_an_error_is_met_by_no_caller(proxy: StartProxy) -> None:
    """As MLflow and MLServer do: behind nginx with keep-alive the next caller got 502 in 59 of 60 tries."""
    async with proxy(then_close(answer(b"no", status=422))) as running:
        for _ in range(60):
            assert (await running.ask(post(5))).status == 422
        assert len(running.live.requests) == 60


# Early answers, and callers who leave.


@pytest.mark.parametrize("end", ["keep", "close"])
async def test_an_early_413_reaches_the_caller_in_the_middle_of_the_upload(proxy: StartProxy, end: str) -> None:
    async def script(peer: Peer) -> None:
        await peer.head()
        await peer.send(answer(b"too much", status=413))
        if end == "keep":
            await peer.wait_ended()

    async with proxy(script, limits={"buffer": 1000, "capture": 1000}) as running, await running.caller() as caller:
        upload = post(1_000_000)
        await caller.send(upload[:500_000])
        assert (await caller.answer()).status == 413
        await (await running.live.connection()).wait_ended()
        with contextlib.suppress(ConnectionError):
            await caller.send(upload[500_000:])
        # Either the rest of the upload was let by and the connection is in sync, or it is closed.
        with contextlib.suppress(ConnectionError, CutOff):
            assert (await caller.ask(GET)).status == 413


TO_A_401 = answer(b"no token", (b"WWW-Authenticate", b"Bearer"), status=401, reason=b"Unauthorized")
MEGABYTES = 3_000_000


def upload(*lines: bytes, chunks: bool = False) -> bytes:
    framing = b"Transfer-Encoding: chunked" if chunks else b"Content-Length: %d" % MEGABYTES
    body = chunk_of(bytes(1_000_000)) * 3 + b"0\r\n\r\n" if chunks else bytes(MEGABYTES)
    return b"\r\n".join([b"POST /p HTTP/1.1", b"Host: h", framing, *lines, b"", body])


@pytest.mark.parametrize("chunks", [False, True])
async def test_an_upload_that_live_answers_and_does_not_read_gets_that_answer(proxy: StartProxy, chunks: bool) -> None:
    """As by gunicorn and hypercorn: 34 of 80 got 502, and live was reported to fail."""
    raw = upload(chunks=chunks)
    with Hasty(TO_A_401) as hasty:
        async with proxy(live_options={"url": hasty.url}) as running:
            for _ in range(20):
                async with await running.caller() as caller:
                    for _ in range(2):  # and its connection stays in sync
                        reply = await caller.ask(raw)
                        assert (reply.status, reply.body) == (401, b"no token")
                        assert reply.all(b"www-authenticate") == [b"Bearer"]
            assert hasty.connections == 40
            assert running.sidecar.proxy._failures == 0
            assert running.sidecar.proxy.outcomes == {Outcome.OK: 40}
            assert running.sidecar.proxy.retries == 0


@pytest.mark.parametrize("line", [b"Connection: close", b"Expect: 100-continue"])
async def test_a_caller_of_whatever_kind_gets_the_answer_to_an_upload_that_live_does_not_read(
    proxy: StartProxy, line: bytes
) -> None:
    with Hasty(TO_A_401) as hasty:
        async with proxy(live_options={"url": hasty.url}) as running:
            for _ in range(10):
                async with await running.caller() as caller:
                    await caller.send(upload(line))
                    if line.startswith(b"Expect"):
                        assert (await caller.answer()).status == 100
                    assert (await caller.answer()).body == b"no token"


@pytest.mark.timing
async def test_a_caller_can_finish_its_upload_and_read_an_answer_that_came_early(
    proxy: StartProxy, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It had two seconds before a reset: a caller that had not read the answer by then, as a client that sends first,
    never saw it."""

    async def script(peer: Peer) -> None:
        await peer.head()
        await peer.send(answer(b"too much", status=413))

    monkeypatch.setattr(connection, "LINGER", 0.2)
    async with proxy(script) as running:
        raw = b"POST / HTTP/1.1\r\nHost: h\r\nConnection: close\r\nContent-Length: 10000000\r\n\r\n"
        async with await running.caller() as caller:
            await caller.send(raw + bytes(300_000))
            for _ in range(12):
                await asyncio.sleep(0.05)
                await caller.send(bytes(1000))
            assert caller.ended == "fin"
            assert not caller.gone.is_set()
            assert (await caller.answer()).status == 413
        async with await running.caller() as caller:  # but not for ever
            monkeypatch.setattr(connection, "LINGER_MOST", 0.3)
            await caller.send(raw + bytes(300_000))
            with pytest.raises(ConnectionError):
                await caller.drip(bytes(100), every=0.05)


async def test_an_answer_that_a_shadow_gives_to_an_upload_that_it_does_not_read_is_its_answer(
    proxy: StartProxy,
) -> None:
    with Hasty(TO_A_401) as hasty:
        options = {"url": hasty.url, "breaker": {"failures": 1}}
        async with proxy(shadows={"a": answer()}, shadow_options=options) as running:
            for _ in range(20):
                assert (await running.ask(upload())).status == 200
            for record in await running.records():
                (leg,) = record.shadows.values()
                assert leg.outcome == Outcome.OK
                assert leg.status == 401


async def test_live_that_answers_early_and_reads_on_is_asked_by_another_connection(proxy: StartProxy) -> None:
    async def script(peer: Peer) -> None:
        await peer.head()
        await peer.send(answer(b"so soon"))
        await peer.wait_ended()

    async with proxy(script) as running, await running.caller() as caller:
        raw = upload()
        await caller.send(raw[:1_000_000])
        assert (await caller.answer()).body == b"so soon"
        await (await running.live.connection()).wait_ended()
        await caller.send(raw[1_000_000:])
        assert (await caller.ask(GET)).body == b"so soon"
        assert len(running.live.connections) == 2


async def test_an_early_answer_releases_an_upload_that_was_stuck(proxy: StartProxy) -> None:
    async def script(peer: Peer) -> None:
        if len(live.connections) == 1:
            peer.stop_reading()
            await stuck.wait()
        else:
            await peer.request()
        await peer.send(answer(b"too much", status=413))
        await peer.wait_ended()

    stuck = asyncio.Event()
    async with Origin(script, receive_buffer=4096) as live, proxy(live) as running, await running.caller() as caller:
        sending = asyncio.create_task(caller.send(post(20_000_000)))
        await live.connection()
        await asyncio.sleep(0.05)
        assert not sending.done()
        stuck.set()
        assert (await caller.answer()).status == 413
        await sending
        assert (await caller.ask(GET)).status == 413


async def test_an_upload_that_live_does_not_take_holds_the_caller_back_and_ends_at_lives_timeout(
    proxy: StartProxy,
) -> None:
    async def script(peer: Peer) -> None:
        peer.stop_reading()
        await peer.gone.wait()

    async with Origin(script, receive_buffer=4096) as live, proxy(live, live_options={"timeout": "200ms"}) as running:
        async with await running.caller() as caller:
            await caller.send(post(10**9, b""))
            sent = asyncio.create_task(caller.flood(bytes(65536), limit=10**9))
            assert told(await caller.answer()) == (504, "http_response_timeout")
            sent.cancel()
            # What the kernel's buffers on the way hold, not what the caller had to give.
            assert running.sidecar.mirror.memory.used <= 8 << 20
        (record,) = await running.records()
        assert record.live.outcome == Outcome.TIMEOUT
        assert record.request.body.size < 30_000_000


async def test_an_upload_that_live_resets_is_a_502_and_no_hang(proxy: StartProxy) -> None:
    async def script(peer: Peer) -> None:
        await peer.head()
        peer.reset()

    async with proxy(script, limits={"buffer": 1000, "capture": 1000}) as running, await running.caller() as caller:
        await caller.send(post(1_000_000)[:500_000])
        assert (await caller.answer()).status == 502


async def leave(caller: Caller, how: str) -> None:
    if how == "reset":
        caller.reset()
    else:
        caller.close()
    await caller.gone.wait()


@pytest.mark.timing
@pytest.mark.parametrize("how", ["fin", "reset"])
async def test_a_caller_gone_before_the_answer_ends_the_call_to_live_at_once(proxy: StartProxy, how: str) -> None:
    async with proxy(silent) as running:
        async with await running.caller() as caller:
            await caller.send(GET)
            live = await running.live.connection()
            await live.wait_received(1)
            await leave(caller, how)
        await live.wait_ended(0.5)
        assert await live_outcome(running) == Outcome.CALLER_LEFT


@pytest.mark.timing
@pytest.mark.parametrize("how", ["fin", "reset"])
async def test_a_caller_gone_in_the_middle_of_a_long_upload_ends_the_call_to_live_at_once(
    proxy: StartProxy, how: str
) -> None:
    async with proxy(limits={"buffer": 1000, "capture": 1000}) as running:
        async with await running.caller() as caller:
            await caller.send(post(100_000)[:50_000])
            live = await running.live.connection()
            await live.wait_received(1000)
            await leave(caller, how)
        await live.wait_ended(0.5)
        assert running.live.requests == []
        assert await live_outcome(running) == Outcome.CALLER_LEFT


async def test_a_caller_gone_in_the_middle_of_a_short_upload_is_never_seen_by_live(proxy: StartProxy) -> None:
    async with proxy() as running:
        async with await running.caller() as caller:
            await caller.send(post(1000)[:-1])
            await leave(caller, "fin")
        assert await live_outcome(running) == Outcome.CALLER_LEFT
        assert running.live.connections == []


@pytest.mark.timing
@pytest.mark.parametrize("how", ["fin", "reset"])
async def test_a_caller_gone_in_the_middle_of_a_download_ends_the_call_to_live_at_once(
    proxy: StartProxy, how: str
) -> None:
    async def script(peer: Peer) -> None:
        await peer.request()
        await peer.send(chunked(b"one")[:-5])
        await peer.wait_ended(30)

    async with proxy(script) as running:
        async with await running.caller() as caller:
            await caller.send(GET)
            await caller.wait_received(1)
            await leave(caller, how)
        await (await running.live.connection()).wait_ended(0.5)
        assert await live_outcome(running) == Outcome.CALLER_LEFT


@pytest.mark.timing
async def test_a_caller_that_ends_its_sending_counts_as_gone(proxy: StartProxy) -> None:
    """TCP does not say whether it still listens, and most who end their sending do not."""
    async with proxy(silent) as running:
        async with await running.caller() as caller:
            await caller.send(GET)
            live = await running.live.connection()
            caller.half_close()
            await live.wait_ended(0.5)
        assert await live_outcome(running) == Outcome.CALLER_LEFT


@pytest.mark.timing
async def test_a_caller_that_pipelined_and_left_ends_both_calls(proxy: StartProxy) -> None:
    async with proxy(silent) as running:
        async with await running.caller() as caller:
            await caller.send(GET + GET)
            live = await running.live.connection()
            await live.wait_received(1)
            await leave(caller, "fin")
        await live.wait_ended(0.5)
        assert len(await running.records()) == 1


def open_files() -> int:
    return len(os.listdir("/proc/self/fd"))


@pytest.mark.slow
async def test_2000_random_cancellations_leave_nothing_behind(proxy: StartProxy) -> None:
    """The pool, the tasks and the file descriptors are as before, and what is left in the pool is in sync."""
    seed = random.randrange(2**32)
    chance = random.Random(seed)
    print(f"seed {seed}")

    async def script(peer: Peer) -> None:
        while await peer.request() is not None:
            await asyncio.sleep(chance.random() * 0.004)
            await peer.send(
                *chance.choice([[answer(b"x" * 3000)], [answer(b"x" * 3000)[:50], answer(b"x" * 3000)[50:]]])
            )

    async with proxy(script) as running:

        async def ask_and_leave() -> None:
            async with await running.caller() as caller:
                raw = chance.choice([GET, post(100), post(300_000)])
                begun = chance.choice([raw, raw[: len(raw) // 2]])
                with contextlib.suppress(TimeoutError, ConnectionError):
                    async with asyncio.timeout(chance.random() * 0.006):
                        await caller.send(begun)
                        await caller.answer()

        await running.ask(GET)
        before = open_files(), len(asyncio.all_tasks())
        for _ in range(100):
            await asyncio.gather(*[ask_and_leave() for _ in range(20)])
        for _ in range(20):
            reply = await running.ask(GET)
            assert (reply.status, reply.body) == (200, b"x" * 3000)
        assert isinstance(running.sidecar.proxy.service.live, Endpoint)
        pool = running.sidecar.proxy.service.live.statistics()
        assert (pool.open, pool.uploads) == (pool.idle, 0)
        idle = running.live.open_connections
        # Each idle connection to live is two descriptors here (both of its ends), and one task of the origin's.
        assert open_files() - before[0] <= 2 * idle
        assert len(asyncio.all_tasks()) - before[1] <= idle


# Callers who are slow.


async def shed(running: Proxy, begun: bytes, rest: bytes) -> None:
    """Send `begun`, then `rest` a byte each 5 ms; assert that the proxy ends it with a 408 before `rest` is out."""
    async with await running.caller() as caller:
        await caller.send(begun)
        dripping = asyncio.create_task(caller.drip(rest, every=0.005))
        reply = await caller.answer()
        assert (reply.status, reply.all(b"connection")) == (408, [b"close"])
        assert not dripping.done()
        dripping.cancel()


async def test_a_slow_head_is_cut_off_at_head_timeout_though_it_never_pauses(proxy: StartProxy) -> None:
    async with proxy(limits={"head_timeout": "50ms"}) as running:
        await shed(running, GET[:-2] + b"X: ", b"a" * 200)
        assert running.live.connections == []


async def test_a_slow_body_is_cut_off_at_body_timeout_though_it_never_pauses(proxy: StartProxy) -> None:
    async with proxy(limits={"body_timeout": "50ms"}) as running:
        await shed(running, post(1000, b""), bytes(200))
        assert running.live.connections == []
        assert await live_outcome(running) == Outcome.CALLER_LEFT


async def test_a_body_on_a_slow_line_is_not_cut_off_by_body_timeout(proxy: StartProxy) -> None:
    """Its first `buffer` bytes may take longer, at 500 bytes a second or more."""
    async with proxy(limits={"body_timeout": "300ms"}) as running, await running.caller() as caller:
        await caller.send(post(1000, b""))
        for _ in range(40):
            await caller.send(bytes(25))
            await asyncio.sleep(0.02)
        assert (await caller.answer()).status == 200


async def test_a_slow_body_to_head_is_cut_off_without_a_body(proxy: StartProxy) -> None:
    async with proxy(limits={"body_timeout": "20ms"}) as running, await running.caller() as caller:
        await caller.send(b"HEAD" + post(5, b"")[4:])
        assert (await caller.answer(b"HEAD")).status == 408
        assert await caller.rest() == b""


@pytest.mark.timing
async def test_a_long_upload_may_last_longer_than_body_timeout_while_it_never_pauses(proxy: StartProxy) -> None:
    limits = {"body_timeout": "60ms", "buffer": 100, "capture": 100}
    async with proxy(limits=limits) as running, await running.caller() as caller:
        await caller.send(post(1000, b""))
        for _ in range(10):
            await caller.send(bytes(100))
            await asyncio.sleep(0.015)
        assert (await caller.answer()).status == 200


async def test_a_body_that_stalls_after_its_beginning_was_sent_to_live_ends_both(proxy: StartProxy) -> None:
    limits = {"body_timeout": "50ms", "buffer": 100, "capture": 100}
    async with proxy(limits=limits) as running, await running.caller() as caller:
        await caller.send(post(1000)[:-100])
        live = await running.live.connection()
        assert (await caller.answer()).status == 408
        await live.wait_ended()
        assert running.live.requests == []


@pytest.mark.slow
@pytest.mark.parametrize("begun", [GET[:-2], post(1000)[:-1]])
async def test_200_slow_callers_leave_the_service_up_and_are_cut_off(proxy: StartProxy, begun: bytes) -> None:
    limits = {"head_timeout": "500ms", "body_timeout": "500ms", "in_flight": 250}
    async with proxy(limits=limits) as running, contextlib.AsyncExitStack() as stack:
        slow = [await stack.enter_async_context(await running.caller()) for _ in range(200)]
        for caller in slow:
            await caller.send(begun)
        for _ in range(10):
            assert (await running.ask(GET)).status == 200
        for caller in slow:
            assert (await caller.answer()).status == 408
            await caller.wait_ended()
        assert len(running.live.connections) == 1


async def seconds_for(running: Proxy, begun: bytes, rest: bytes) -> float:
    """How long the proxy, which shares this test's thread, takes to read `rest` byte by byte."""
    async with await running.caller() as caller:
        await caller.send(begun)
        begin = time.perf_counter()
        await caller.send(*cut(rest, range(len(rest))))
        return time.perf_counter() - begin


@pytest.mark.timing
@pytest.mark.slow
async def test_a_head_that_comes_byte_by_byte_costs_hardly_more_than_a_body(proxy: StartProxy) -> None:
    """Its cost would grow with the square of its length if it were read from its start each time: 12 times here."""
    rest = b"a" * 40_000
    async with proxy() as running:
        head = await seconds_for(running, GET[:-2] + b"X: ", rest)
        body = await seconds_for(running, post(50_000, b""), rest)
        assert head < 3 * body


@pytest.mark.timing
async def test_line_breaks_without_end_cost_next_to_nothing(proxy: StartProxy) -> None:
    """When they were removed one by one, each copying the rest, 2 MB of them delayed every caller for over a second."""
    async with proxy() as running, await running.caller() as caller:
        begin = time.perf_counter()
        for _ in range(8):
            await caller.send(b"\r\n" * 131_072)
        assert (await caller.ask(GET)).status == 200
        assert time.perf_counter() - begin < 0.4


@pytest.mark.timing
async def test_a_caller_that_takes_nothing_stops_live_and_then_is_given_up(proxy: StartProxy) -> None:
    sent = 0

    async def script(peer: Peer) -> None:
        nonlocal sent
        await peer.request()
        await peer.send(b"HTTP/1.1 200 OK\r\nContent-Length: 1000000000\r\n\r\n")
        sent = await peer.flood(bytes(65536), limit=10**9)

    async with proxy(script, limits={"body_timeout": "200ms"}) as running:
        async with await running.caller(receive_buffer=4096) as caller:
            caller.stop_reading()
            await caller.send(GET)
            live = await running.live.connection()
            await live.wait_ended(2)
        await asyncio.sleep(0.01)
        assert sent < 30_000_000  # what the kernel's buffers on the way hold, not what live had to give
        assert await live_outcome(running) == Outcome.CALLER_LEFT


@pytest.mark.timing
async def test_an_idle_connection_is_closed_after_idle_timeout_and_not_before(proxy: StartProxy) -> None:
    async with proxy(limits={"idle_timeout": "300ms"}) as running:
        async with await running.caller() as caller:
            for _ in range(4):
                await asyncio.sleep(0.1)
                assert (await caller.ask(GET)).status == 200
            await caller.wait_ended(2)
            assert caller.ended == "fin"
        async with await running.caller() as caller:  # nor does one stay that never asks
            await caller.wait_ended(2)


async def test_idle_connections_do_not_count_and_too_many_requests_get_503(proxy: StartProxy) -> None:
    gate = asyncio.Event()

    async def script(peer: Peer) -> None:
        while await peer.request() is not None:
            await gate.wait()
            await peer.send(answer())

    async with proxy(script, limits={"in_flight": 2}) as running, contextlib.AsyncExitStack() as stack:
        callers = [await stack.enter_async_context(await running.caller()) for _ in range(10)]
        for index in range(2):
            await callers[index].send(GET)
            await (await running.live.connection(index)).wait_received(1)
        for caller in callers[2:5]:
            reply = await caller.ask(GET)
            assert told(reply) == (503, "http_request_denied")
            assert int(reply.all(b"retry-after")[0]) >= 1
        gate.set()
        for caller in callers[:2]:
            assert (await caller.answer()).status == 200
        for caller in callers:  # those who were turned away may go on over the same connection
            assert (await caller.ask(GET)).status == 200
        assert len(running.live.connections) == 2


# The surroundings are not obeyed.


async def test_proxies_and_netrc_of_the_environment_are_not_obeyed(
    proxy: StartProxy, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    netrc = tmp_path / "netrc"
    netrc.write_text("machine 127.0.0.1 login user password secret\n")
    netrc.chmod(0o600)
    with refusing_port() as port:
        for name in ("HTTP_PROXY", "http_proxy", "HTTPS_PROXY", "ALL_PROXY", "all_proxy"):
            monkeypatch.setenv(name, f"http://127.0.0.1:{port}")
        monkeypatch.setenv("NETRC", str(netrc))
        async with proxy(shadows={"a": answer()}) as running:
            assert (await running.ask(GET)).status == 200
            await running.records()
            for origin in (running.live, running.shadows["a"]):
                assert origin.requests[0].all(b"authorization") == []
                assert origin.requests[0].target == b"/"


async def test_a_request_that_comes_back_is_rejected_with_508(proxy: StartProxy) -> None:
    """Live's address leads back here, by whatever route: the caller gets an answer, and the loop ends at its second
    round."""

    async def send_back(peer: Peer) -> None:
        while (request := await peer.request()) is not None:
            reply = await running.ask(request.raw)
            await peer.send(answer(b"%d, then %s" % (reply.status, reply.body)))

    async with proxy(send_back) as running:
        reply = await running.ask(GET)
        assert reply.body.startswith(b'200, then 508, then {"error":"proxy_loop_detected"')
        assert len(running.live.requests) == 2


async def test_the_same_request_id_by_two_routes_at_once_is_no_loop(proxy: StartProxy) -> None:
    """A caller that asks with one ID directly and through another shadowproxy, as one that tries again does."""
    direct = GET[:-2] + b"X-Request-ID: same\r\n\r\n"
    through = direct[:-2] + b"Via: 1.1 shadowproxy\r\n\r\n"
    open_gate = asyncio.Event()

    async def wait(peer: Peer) -> None:
        await peer.request()
        await open_gate.wait()
        await peer.send(answer(b"ok"))

    async with proxy(wait) as running:
        asking = [asyncio.create_task(running.ask(raw)) for raw in (direct, through, direct, through)]
        async with asyncio.timeout(5):
            while running.sidecar.proxy.in_flight < 4:  # noqa: ASYNC110
                await asyncio.sleep(0.001)
        open_gate.set()
        assert [reply.status for reply in await asyncio.gather(*asking)] == [200] * 4
        assert running.sidecar.proxy._under_way == {}


async def test_two_proxies_in_a_row_are_no_loop(proxy: StartProxy) -> None:
    async with proxy() as running:
        assert (await running.ask(GET[:-2] + b"Via: 1.1 shadowproxy\r\n\r\n")).status == 200
        assert running.live.requests[0].all(b"via") == [b"1.1 shadowproxy", b"1.1 shadowproxy"]


# A shadow that breaks the wire's rules.


@pytest.mark.timing
async def test_a_dripping_shadow_meets_its_whole_deadline(proxy: StartProxy) -> None:
    async def drip(peer: Peer) -> None:
        await peer.request()
        await peer.drip(answer(bytes(1000)), every=0.05)

    async with proxy(shadows={"slow": drip}, shadow_options={"timeout": "200ms"}) as running:
        begin = time.monotonic()
        assert (await running.ask(GET)).status == 200
        await (await running.shadows["slow"].connection()).wait_ended()
        assert 0.19 <= time.monotonic() - begin < 1
        (record,) = await running.records()
        assert record.shadows["slow"].outcome == Outcome.TIMEOUT
