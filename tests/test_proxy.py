"""The live path: what the mirror and the log get for each way in which an exchange can end."""

import asyncio

import pytest
from conftest import StartProxy
from fakes import Origin, Peer, answer, chunked, refusing_port, then_close

from shadowproxy.exchange import Outcome

GET = b"GET / HTTP/1.1\r\nHost: h\r\n\r\n"


def post(size: int, *fields: bytes) -> bytes:
    lines = [b"POST /p HTTP/1.1", b"Host: h", b"Content-Length: %d" % size, *fields]
    return b"\r\n".join([*lines, b"", bytes(size)])


async def test_a_request_over_the_capture_limit_passes_whole_and_is_settled_as_oversize(proxy: StartProxy) -> None:
    async with proxy(shadows={"s": answer()}, limits={"buffer": 100, "capture": 1000}) as running:
        assert (await running.ask(post(1001))).status == 200
        assert (await running.ask(post(1000))).status == 200
        over, within = await running.records()
        assert [len(request.body) for request in running.live.requests] == [1001, 1000]
        assert [len(request.body) for request in running.shadows["s"].requests] == [1000]
    assert (over.shadows["s"].outcome, within.shadows["s"].outcome) == (Outcome.OVERSIZE, Outcome.OK)
    assert (over.request.body.size, over.request.body.truncated) == (1001, True)


async def test_an_answer_over_the_capture_limit_passes_whole_and_is_logged_cut(proxy: StartProxy) -> None:
    async with proxy(answer(b"x" * 5000), limits={"buffer": 100, "capture": 1000}) as running:
        assert (await running.ask(GET)).body == b"x" * 5000
        (record,) = await running.records()
    assert record.live.outcome == Outcome.OK
    assert record.live.body is not None
    assert (record.live.body.size, record.live.body.truncated) == (5000, True)


async def test_a_shadow_is_asked_before_live_has_answered(proxy: StartProxy) -> None:
    gate = asyncio.Event()

    async def gated(peer: Peer) -> None:
        await peer.request()
        await gate.wait()
        await peer.send(answer())

    async with proxy(gated, {"s": answer()}) as running, await running.caller() as caller:
        await caller.send(post(5))
        await (await running.shadows["s"].connection()).wait_received(1)
        gate.set()
        assert (await caller.answer()).status == 200


async def test_what_a_shadowproxy_mirrored_is_not_mirrored_again(proxy: StartProxy) -> None:
    async with proxy(shadows={"s": answer()}) as running:
        assert (await running.ask(post(5, b"X-Shadow-Request: challenger"))).status == 200
        (record,) = await running.records()
        assert running.shadows["s"].connections == []
        assert running.live.requests[0].all(b"x-shadow-request") == [b"challenger"]
    assert record.shadows == {}


async def test_what_live_answers_before_the_body_is_whole_was_chosen_for_no_shadow(proxy: StartProxy) -> None:
    async def early(peer: Peer) -> None:
        await peer.head()
        await peer.send(answer(b"no", status=413))
        await peer.wait_ended()

    async with proxy(early, {"s": answer()}, limits={"buffer": 100, "capture": 10_000}) as running:
        async with await running.caller() as caller:
            await caller.send(post(9000)[:-4000])
            assert (await caller.answer()).status == 413
        (record,) = await running.records()
        assert running.sidecar.mirror.lanes[0].statistics().chosen == 0
    assert (record.live.status, record.shadows) == (413, {})


async def test_a_failing_live_is_recorded_and_the_shadow_is_asked_all_the_same(proxy: StartProxy) -> None:
    with refusing_port() as port:
        live = {"url": f"http://127.0.0.1:{port}"}
        async with proxy(shadows={"s": answer(b"fine")}, live_options=live) as running:
            assert (await running.ask(post(5))).status == 502
            (record,) = await running.records()
    assert (record.live.outcome, record.live.status) == (Outcome.CONNECT_ERROR, None)
    assert (record.shadows["s"].outcome, record.shadows["s"].status) == (Outcome.OK, 200)


async def test_an_answer_that_live_broke_off_is_recorded_as_far_as_it_came(proxy: StartProxy) -> None:
    async with proxy(then_close(chunked(b"begun")[:-5])) as running, await running.caller() as caller:
        await caller.send(GET)
        await caller.wait_ended()
        (record,) = await running.records()
    assert (record.live.outcome, record.live.status) == (Outcome.INCOMPLETE, 200)
    assert record.live.body is not None
    assert (record.live.body.value, record.live.body.size) == ("begun", 5)


async def test_head_is_refused_without_a_body_and_the_connection_stays(proxy: StartProxy) -> None:
    with refusing_port() as port:
        live = {"url": f"http://127.0.0.1:{port}"}
        async with proxy(live_options=live) as running, await running.caller() as caller:
            for _ in range(2):
                reply = await caller.ask(GET.replace(b"GET", b"HEAD"))
                assert (reply.status, reply.body, reply.all(b"connection")) == (502, b"", [])
                assert int(reply.all(b"content-length")[0]) > 0
            assert (await caller.ask(GET)).status == 502


@pytest.mark.parametrize("end", ["answered", "live fails", "caller leaves"])
async def test_however_a_request_ends_it_no_longer_counts_as_under_way(proxy: StartProxy, end: str) -> None:
    async def script(peer: Peer) -> None:
        await peer.request()
        if end == "answered":
            await peer.send(answer())
        elif end == "caller leaves":
            await peer.wait_ended()

    async with proxy(script) as running:
        async with await running.caller() as caller:
            await caller.send(GET)
            await (await running.live.connection()).wait_received(1)
            assert running.sidecar.proxy.in_flight == 1
            if end != "caller leaves":
                await caller.answer()
        await (await running.live.connection()).wait_ended()
        await asyncio.sleep(0)
        assert running.sidecar.proxy.in_flight == 0
        assert running.sidecar.proxy._under_way == {}


async def test_a_request_id_that_cannot_stand_in_a_log_reaches_live_and_another_one_the_log(proxy: StartProxy) -> None:
    async with proxy() as running:
        reply = await running.ask(post(5, b"X-Request-ID: two words"))
        (record,) = await running.records()
        assert running.live.requests[0].all(b"x-request-id") == [b"two words"]
    assert record.id == reply.all(b"x-request-id")[0].decode() != "two words"


@pytest.mark.parametrize(
    ("respond", "status", "fields", "body"),
    [
        ({}, 204, {}, b""),
        (
            {"json": {"late": False}},
            200,
            {b"content-type": b"application/json", b"content-length": b"14"},
            b'{"late":false}',
        ),
        ({"status": 503, "text": "none yet", "headers": {"X-A": "1"}}, 503, {b"x-a": b"1"}, b"none yet"),
    ],
)
async def test_live_may_be_a_fixed_answer(
    proxy: StartProxy, respond: dict[str, object], status: int, fields: dict[bytes, bytes], body: bytes
) -> None:
    async with (
        Origin() as unused,
        proxy(unused, {"s": answer()}, live_options={"url": None, "respond": respond}) as running,
    ):
        async with await running.caller() as caller:
            for raw in (GET, post(300_000), GET):
                reply = await caller.ask(raw)
                assert (reply.status, reply.body) == (status, body)
                assert {name: reply.all(name)[0] for name in fields} == fields
        records = await running.records()
        assert unused.connections == []
    assert [(each.live.outcome, each.live.status) for each in records] == [(Outcome.OK, status)] * 3
    assert {each.shadows["s"].outcome for each in records} == {Outcome.OK}
