"""A shadow's leg on a real connection: it always ends once, and a defect of the proxy is reported."""

import asyncio
from collections.abc import Callable
from typing import Any

import pytest
import uvloop
from fakes import Origin, answer, chunked, silent, then_close
from shadows import REQUEST, SHADOW

from shadowproxy.exchange import Failure, Outcome, Reply
from shadowproxy.serve.account import Memory
from shadowproxy.serve.mirror.capture import Capture
from shadowproxy.serve.mirror.lane import Job, Lane, MirrorPlan, UnsettledExchange
from shadowproxy.serve.mirror.leg import Leg
from shadowproxy.serve.mirror.shadow import ShadowCounts
from shadowproxy.serve.upstreams.endpoint import Endpoint
from shadowproxy.serve.upstreams.pool import Statistics

PLAN = MirrorPlan(
    (), None, append=lambda _: None, position=lambda *_: 0.0, control_position=lambda *_: 0.0, capture=100
)
NOTHING = Statistics(open=0, idle=0, uploads=0)

Came = Reply | Failure


def begun(endpoint: Endpoint, capture: Capture, ended: Callable[[Leg, Came], None]) -> Leg:
    leg = Leg(
        Lane(SHADOW, endpoint, ShadowCounts(), 0.0),
        Job(UnsettledExchange(PLAN, Memory(0)), REQUEST, 0.0),
        capture,
        ended,
    )
    endpoint.send(leg, "POST", b"/p", REQUEST.fields, REQUEST.body)
    return leg


async def came_of(raw: bytes, *, limit: int = 100, memory: Memory | None = None) -> tuple[Leg, Came, Statistics]:
    """What a leg ends with where the shadow sends `raw` and leaves, and what its endpoint then has open."""
    told: asyncio.Queue[Came] = asyncio.Queue()
    async with Origin(raw) as origin, Endpoint(origin.url) as endpoint, asyncio.timeout(2):
        leg = begun(endpoint, Capture(limit, memory or Memory(1 << 20)), lambda _, came: told.put_nowait(came))
        came = await told.get()
        open_then = endpoint.statistics()
        await asyncio.sleep(0.01)
        assert told.empty()
    return leg, came, open_then


async def test_a_whole_answer_is_a_reply_and_its_connection_waits_for_the_next() -> None:
    for raw in (answer(b"fine", (b"Connection", b"keep-alive"), (b"A", b"1")), chunked(b"fi", b"ne")):
        _, came, open_then = await came_of(raw)
        assert isinstance(came, Reply)
        assert (came.status, came.body, came.body_bytes) == (200, b"fine", 4)
        assert b"Connection" not in dict(came.fields)
        assert open_then == Statistics(open=1, idle=1, uploads=0)


async def test_an_answer_of_exactly_the_limit_is_whole_and_one_byte_more_is_too_long() -> None:
    _, came, _ = await came_of(answer(b"x" * 100))
    assert isinstance(came, Reply)
    _, came, open_then = await came_of(answer(b"x" * 101))
    assert isinstance(came, Failure)
    assert came.outcome == Outcome.ANSWER_OVERSIZE
    assert open_then == Statistics(open=1, idle=1, uploads=0)  # it had come whole: the connection is in sync


async def test_an_answer_that_goes_on_beyond_the_limit_is_cut_off() -> None:
    _, came, open_then = await came_of(answer(b"x" * 200)[:-50])
    assert isinstance(came, Failure)
    assert came.reply is not None
    assert (came.outcome, came.reply.body_bytes, open_then) == (Outcome.ANSWER_OVERSIZE, 150, NOTHING)


@pytest.mark.parametrize("room", [0, 200])
async def test_an_answer_without_room_in_memory_is_overload(room: int) -> None:
    """Be it its fields', or its body's."""
    _, came, _ = await came_of(answer(b"x" * 100), memory=Memory(room))
    assert isinstance(came, Failure)
    assert came.outcome == Outcome.OVERLOAD


async def test_an_answer_that_breaks_off_is_kept_as_far_as_it_came() -> None:
    async with Origin(then_close(answer(b"begun")[:-2])) as origin, Endpoint(origin.url) as endpoint:
        told: asyncio.Queue[Came] = asyncio.Queue()
        begun(endpoint, Capture(100, Memory(1 << 20)), lambda _, came: told.put_nowait(came))
        came = await told.get()
    assert isinstance(came, Failure)
    assert came.reply is not None
    assert (came.outcome, came.reply.body) == (Outcome.INCOMPLETE, b"beg")


async def test_a_leg_that_is_stopped_closes_its_connection_and_reports_one_outcome() -> None:
    told: list[Came] = []
    async with Origin(silent) as origin, Endpoint(origin.url) as endpoint:
        leg = begun(endpoint, Capture(100, Memory(1 << 20)), lambda _, came: told.append(came))
        await (await origin.connection()).wait_received(1)
        leg.stop(Outcome.TIMEOUT, "too long")
        leg.stop(Outcome.SHUTDOWN, "no more")
        await (await origin.connection()).wait_ended()
    (came,) = told
    assert isinstance(came, Failure)
    assert (came.outcome, came.error, came.reply) == (Outcome.TIMEOUT, "too long", None)


async def test_a_leg_that_is_stopped_while_it_dials_leaves_no_task() -> None:
    told: list[Came] = []
    async with Origin(silent) as origin, Endpoint(origin.url) as endpoint:
        before = asyncio.all_tasks()
        leg = begun(endpoint, Capture(100, Memory(1 << 20)), lambda _, came: told.append(came))
        leg.stop(Outcome.TIMEOUT, "too long")
        await asyncio.sleep(0.01)
        assert asyncio.all_tasks() == before
    assert len(told) == 1


def test_a_torrent_is_read_once_a_turn() -> None:
    """On uvloop, which reads on as long as its buffer is full: 8 MB in a turn would hold up live's answers."""
    size = 8_000_000

    async def run() -> int:
        ended = asyncio.Event()
        capture = Capture(size, Memory(1 << 30))
        most = last = 0
        async with Origin(answer(bytes(size))) as origin, Endpoint(origin.url) as endpoint, asyncio.timeout(5):
            begun(endpoint, capture, lambda _, __: ended.set())
            while not ended.is_set():
                await asyncio.sleep(0)
                most, last = max(most, capture.size - last), capture.size
        assert capture.size == size
        return most

    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        assert runner.run(run()) <= 256_000 * 2


@pytest.mark.parametrize("calls", [0, 1])
@pytest.mark.parametrize("raw", [answer(b"whole"), chunked(b"chunk"), chunked(b"begun")[:-5]])
async def test_a_defect_in_copying_is_the_legs_outcome(calls: int, raw: bytes) -> None:
    """Met with the answer's fields, or with its body."""
    defect = RuntimeError("a defect")
    left = calls

    def elsewhere() -> int:
        nonlocal left
        left -= 1
        if left < 0:
            raise defect
        return 0

    leg, came, _ = await came_of(raw, memory=Memory(1 << 20, elsewhere))
    assert isinstance(came, Failure)
    assert came.outcome == Outcome.PROTOCOL_ERROR
    assert leg.defect_met is defect


async def test_an_exception_in_the_callback_at_the_end_is_not_swallowed() -> None:
    defect = RuntimeError("a defect")
    met: asyncio.Queue[dict[str, Any]] = asyncio.Queue()
    asyncio.get_running_loop().set_exception_handler(lambda _, context: met.put_nowait(context))

    def ended(_: Leg, __: Came) -> None:
        raise defect

    async with Origin(answer()) as origin, Endpoint(origin.url) as endpoint, asyncio.timeout(2):
        begun(endpoint, Capture(100, Memory(1 << 20)), ended)
        assert (await met.get())["exception"] is defect
