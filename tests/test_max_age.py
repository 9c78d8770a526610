"""`max_age`: how old a connection to an endpoint may be that gets another request."""

import asyncio

import pytest
from fakes import Origin, Peer, answer

from shadowproxy.serve.upstreams.pool import YOUNGEST, Pool, Statistics
from shadowproxy.serve.upstreams.request import OutgoingRequest
from shadowproxy.serve.upstreams.response import ResponseStream

GET = OutgoingRequest("GET", b"GET / HTTP/1.1\r\nHost: h\r\n\r\n", b"", chunked=False, silence=1e6)


class Clock:
    """The event loop's time, which passes faster when the test says so."""

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self._real = loop.time
        self.ahead = 0.0

    def time(self) -> float:
        return self._real() + self.ahead


@pytest.fixture
async def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    loop = asyncio.get_running_loop()
    clock = Clock(loop)
    monkeypatch.setattr(loop, "time", clock.time)
    return clock


async def ask(pool: Pool) -> bytes:
    response = ResponseStream(pool.loop)
    pool.send(response, GET)
    await response.wait_head()
    return b"".join([piece async for piece in response])


async def test_a_connection_that_is_too_old_when_its_response_ends_is_closed_politely(clock: Clock) -> None:
    gate = asyncio.Event()

    async def script(peer: Peer) -> None:
        await peer.request()
        await gate.wait()
        await peer.send(answer(b"x"))
        await peer.wait_ended()

    async with Origin(script) as origin, Pool("127.0.0.1", origin.port, max_age=60.0) as pool:
        asking = asyncio.create_task(ask(pool))
        await (await origin.connection()).wait_received(1)
        clock.ahead = 60.0
        gate.set()
        assert await asking == b"x"
        assert pool.statistics().idle == 0
        await origin.connections[0].wait_ended()
        assert origin.connections[0].ended == "fin"


async def test_an_idle_connection_that_has_become_too_old_gets_no_request_and_one_that_is_not_gets_it(
    clock: Clock,
) -> None:
    async with Origin() as origin, Pool("127.0.0.1", origin.port, max_age=4.0) as pool:
        await ask(pool)
        clock.ahead = 4.0 * YOUNGEST - 1.0
        await ask(pool)
        assert (len(origin.connections), pool.statistics()) == (1, Statistics(open=1, idle=1, uploads=0))
        clock.ahead = 4.0
        await ask(pool)
        assert [len(peer.requests) for peer in origin.connections] == [2, 1]
        await origin.connections[0].wait_ended()
        assert origin.connections[0].ended == "fin"


async def test_without_max_age_a_connection_may_be_of_any_age(clock: Clock) -> None:
    async with Origin() as origin, Pool("127.0.0.1", origin.port, max_age=None) as pool:
        for _ in range(100):
            await ask(pool)
            clock.ahead += 3.0  # one that is idle for longer is closed
        assert len(origin.connections) == 1


async def test_connections_that_were_opened_together_are_not_closed_together(clock: Clock) -> None:
    async with Origin() as origin, Pool("127.0.0.1", origin.port, max_age=60.0) as pool:
        before = clock.time()
        await asyncio.gather(*(ask(pool) for _ in range(20)))
        ages = sorted(each.close_after - before for each in pool._open)
        assert len(ages) == 20
        assert ages[0] >= 60.0 * YOUNGEST
        assert ages[-1] - ages[0] > 1.0
        assert ages[-1] <= 60.0 + clock.time() - before
