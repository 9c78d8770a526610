"""The shadows' side: what a lane decides, without a socket, and that every exchange settles exactly once."""

import asyncio
import logging
from collections import Counter
from collections.abc import Callable
from dataclasses import replace
from typing import Any, cast

import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule
from shadows import REQUEST, SHADOW

from shadowproxy.exchange import CONTROL, Exchange, Failure, Field, Fields, Outcome, Reply, ShadowLeg, Skipped
from shadowproxy.serve.account import Memory
from shadowproxy.serve.http1.fields import fields_weight
from shadowproxy.serve.http1.framing import Length, ResponseHead
from shadowproxy.serve.http1.section import Section
from shadowproxy.serve.mirror.capture import EXCHANGE
from shadowproxy.serve.mirror.dispatch import Mirror
from shadowproxy.serve.mirror.lane import Job, Lane, MirrorPlan, UnsettledExchange
from shadowproxy.serve.mirror.pulse import BEAT, Pulse
from shadowproxy.serve.mirror.shadow import ShadowCounts, ShadowSettings
from shadowproxy.serve.policy.rewrite import Rewrite
from shadowproxy.serve.upstreams.endpoint import Endpoint
from shadowproxy.serve.upstreams.errors import ConnectError, ProtocolError, ReadError, ReadTimeout, TLSError
from shadowproxy.serve.upstreams.roundtrip import OVER, RoundTrip
from shadowproxy.usage import Usage

LIVE = Reply(200, (), b"live", 4, 1.0, 2.0)
HELD = EXCHANGE + len(REQUEST.target) + fields_weight(REQUEST.fields)
"""Bytes that REQUEST holds besides its body once it is mirrored."""


PLAN = MirrorPlan(
    (), None, append=lambda _: None, position=lambda *_: 0.0, control_position=lambda *_: 0.0, capture=100
)


def lane(**changes: Any) -> Lane:
    return Lane(replace(SHADOW, **changes), cast(Endpoint, None), ShadowCounts(), started=100.0)


def job(deadline: float = 1e9) -> Job:
    return Job(UnsettledExchange(PLAN, Memory(0)), REQUEST, deadline)


# What a lane decides.


def test_a_lane_begins_up_to_in_flight_queues_up_to_lane_and_takes_no_more() -> None:
    asked = lane(in_flight=2, lane=3)
    begun = []
    while asked.skip_reason(100) is None:
        begun.append(asked.take(job()))
    assert begun == [True, True, False, False, False]
    assert asked.skip_reason(100) == Outcome.LANE_FULL


def test_a_lane_without_a_queue_takes_no_more_than_in_flight() -> None:
    asked = lane(in_flight=1, lane=0)
    assert asked.take(job())
    assert asked.skip_reason(100) == Outcome.LANE_FULL
    assert asked.next_job() is None
    asked.free_slot()
    assert asked.skip_reason(100) is None


def test_waiting_jobs_begin_in_order_as_slots_become_free() -> None:
    asked = lane(in_flight=1)
    waiting = [job(), job(), job()]
    assert asked.take(job())
    assert [asked.take(each) for each in waiting] == [False, False, False]
    assert [asked.next_job() for _ in range(4)] == [*waiting, None]
    asked.free_slot()
    assert (asked.statistics().in_flight, asked.statistics().waiting) == (0, 0)


def test_a_job_whose_deadline_passed_while_it_waited_is_not_begun() -> None:
    asked = lane()
    assert asked.begin(now=9.99, deadline=10) is None
    assert asked.begin(now=10, deadline=10) == Outcome.TIMEOUT
    assert asked.statistics().begun == 1


FAILING = [
    Outcome.TIMEOUT,
    Outcome.CONNECT_ERROR,
    Outcome.TLS_ERROR,
    Outcome.PROTOCOL_ERROR,
    Outcome.INCOMPLETE,
    Outcome.ANSWER_OVERSIZE,
]
NOT_ITS_FAULT = [Outcome.OK, Outcome.OVERLOAD, Outcome.SHUTDOWN]


@pytest.mark.parametrize("outcome", FAILING)
def test_failures_in_a_row_open_the_breaker(outcome: Outcome) -> None:
    asked = lane(breaker_failures=3, breaker_pause=30)
    for _ in range(2):
        asked.update_breaker(outcome, 100)
        assert asked.skip_reason(100) is None
    asked.update_breaker(outcome, 100)
    assert asked.skip_reason(129.9) == asked.begin(129.9, 1e9) == Outcome.BREAKER_OPEN
    assert asked.statistics().breaker == "open"


@pytest.mark.parametrize("outcome", NOT_ITS_FAULT)
def test_any_other_outcome_restarts_the_count_of_failures(outcome: Outcome) -> None:
    asked = lane(breaker_failures=2)
    for _ in range(5):
        asked.update_breaker(Outcome.TIMEOUT, 100)
        asked.update_breaker(outcome, 100)
    asked.update_breaker(Outcome.TIMEOUT, 100)
    assert asked.skip_reason(100) is None


def test_every_outcome_is_listed_as_a_failure_or_as_none() -> None:
    never_ends_a_leg = {
        Outcome.CALLER_LEFT,
        Outcome.OVERSIZE,
        Outcome.LANE_FULL,
        Outcome.BREAKER_OPEN,
        Outcome.BUDGET_SPENT,
        Outcome.PAUSED,
        Outcome.UNUSABLE,
        Outcome.STATE_UNKNOWN,
    }
    assert set(FAILING) | set(NOT_ITS_FAULT) | never_ends_a_leg == set(Outcome)


def broken(asked: Lane, now: float) -> Lane:
    for _ in range(asked.shadow.breaker_failures):
        asked.update_breaker(Outcome.TIMEOUT, now)
    return asked


def test_after_the_pause_one_request_at_a_time_tries_the_shadow() -> None:
    asked = broken(lane(), now=100)
    assert asked.skip_reason(130) is None
    assert asked.begin(130, 1e9) is None
    assert asked.statistics().breaker == "probing"
    assert asked.skip_reason(130) == asked.begin(130, 1e9) == Outcome.BREAKER_OPEN


def test_a_probe_that_fails_opens_the_breaker_for_another_pause() -> None:
    asked = broken(lane(), now=100)
    assert asked.begin(130, 1e9) is None
    asked.update_breaker(Outcome.CONNECT_ERROR, 131)
    assert asked.skip_reason(160.9) == Outcome.BREAKER_OPEN
    assert asked.skip_reason(161) is None


def test_a_probe_that_succeeds_closes_the_breaker_and_is_logged(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO)
    asked = broken(lane(), now=100)
    assert asked.begin(130, 1e9) is None
    asked.update_breaker(Outcome.OK, 131)
    assert asked.skip_reason(131) is None
    assert asked.statistics().breaker == "closed"
    assert [record.getMessage() for record in caplog.records] == [
        "shadow s failed 3 times in a row (last: timeout): sending it nothing for 30 s",
        "shadow s answers again",
    ]


def test_a_breaker_that_stays_open_is_logged_once(caplog: pytest.LogCaptureFixture) -> None:
    asked = broken(lane(), now=100)
    for turn in range(1, 50):
        now = 100 + 31 * turn
        assert asked.begin(now, 1e9) is None
        asked.update_breaker(Outcome.TIMEOUT, now)
    assert len(caplog.records) == 1


def test_a_budget_of_requests_counts_those_begun() -> None:
    asked = lane(budget_requests=2)
    assert [asked.begin(100, 1e9) for _ in range(3)] == [None, None, Outcome.BUDGET_SPENT]
    assert asked.skip_reason(100) == Outcome.BUDGET_SPENT


def test_a_budget_of_no_requests_sends_nothing() -> None:
    assert lane(budget_requests=0).skip_reason(100) == Outcome.BUDGET_SPENT


def test_a_budget_of_tokens_counts_what_answers_say() -> None:
    asked = lane(budget_tokens=30)
    assert asked.spend(Usage(10, 9))
    assert not asked.spend(Usage())
    assert asked.begin(100, 1e9) is None
    assert asked.spend(Usage(None, 11))
    assert asked.skip_reason(100) == asked.begin(100, 1e9) == Outcome.BUDGET_SPENT
    assert asked.statistics().tokens == 30


def test_a_budget_of_cost_needs_the_cost_of_each_answer() -> None:
    asked = lane(budget_cost=1.0)
    assert not asked.spend(Usage(10, 9))
    assert asked.spend(Usage(10, 9, None, 0.75))
    assert asked.skip_reason(100) is None
    assert asked.spend(Usage(None, None, None, 0.25))
    assert asked.skip_reason(100) == Outcome.BUDGET_SPENT


def test_a_budget_of_time_runs_from_the_start() -> None:
    asked = lane(budget_duration=60.0)
    assert asked.skip_reason(159.9) is None
    assert asked.skip_reason(160) == asked.begin(160, 1e9) == Outcome.BUDGET_SPENT


class LaneBooks(RuleBasedStateMachine):
    """Offers, ends and time in any order: bounds hold, order holds, and each job comes out exactly once."""

    def __init__(self) -> None:
        super().__init__()
        self.lane = lane(in_flight=2, lane=2, breaker_failures=2, breaker_pause=5.0, budget_requests=15)
        self.now = 100.0
        self.running: list[Job] = []
        self.queued: list[Job] = []
        self.begun = 0
        self.probes = 0

    @rule()
    def offer(self) -> None:
        if self.lane.skip_reason(self.now) is not None:
            return
        offered = job(self.now + 8)
        if self.lane.take(offered):
            self.start(offered)
        else:
            self.queued.append(offered)

    def start(self, started: Job) -> None:
        before = self.lane.statistics().breaker
        if self.lane.begin(self.now, started.deadline) is None:
            self.begun += 1
            assert before == "closed" or not self.probes
            self.probes += before != "closed"
            self.running.append(started)
        else:
            self.go_on()

    def go_on(self) -> None:
        following = self.lane.next_job()
        if following is None:
            self.lane.free_slot()
        else:
            assert following is self.queued.pop(0)
            self.start(following)

    @precondition(lambda self: self.running)
    @rule(outcome=st.sampled_from([Outcome.OK, Outcome.TIMEOUT]), which=st.integers(0))
    def end(self, outcome: Outcome, which: int) -> None:
        self.running.pop(which % len(self.running))
        self.probes = 0
        self.lane.update_breaker(outcome, self.now)
        self.go_on()

    @rule(seconds=st.floats(0, 10))
    def wait(self, seconds: float) -> None:
        self.now += seconds

    @invariant()
    def the_books_balance(self) -> None:
        stands = self.lane.statistics()
        assert (stands.in_flight, stands.waiting, stands.begun) == (len(self.running), len(self.queued), self.begun)
        assert stands.in_flight <= 2
        assert stands.waiting <= 2
        assert stands.begun <= 15


TestLaneBooks: Callable[..., object] = LaneBooks.TestCase


# The mirror with shadows that answer in memory.


class Gate:
    """Calls back at once when it is open; before that, callbacks wait and run in the turn after it opens."""

    def __init__(self) -> None:
        self.opened = False
        self._waiting: list[Callable[[], None]] = []

    def set(self) -> None:
        self.opened = True
        for each in self._waiting:
            asyncio.get_running_loop().call_soon(each)

    def pass_by(self, callback: Callable[[], None]) -> None:
        if self.opened:
            asyncio.get_running_loop().call_soon(callback)
        else:
            self._waiting.append(callback)


class Answer:
    """A shadow's answer: `pieces`, with `gate` between each two of them."""

    def __init__(self, *pieces: bytes, status: int = 200, gate: Gate | None = None, fields: Fields = ()) -> None:
        names = {name.lower(): value for name, value in fields}
        self.head = ResponseHead(status, fields, names, Length.CHUNKED, keep_alive=True)
        self._pieces = pieces
        self._gate = gate

    def tell(self, round_trip: RoundTrip) -> None:
        if not round_trip.over:
            round_trip.head = self.head
            round_trip.on_head(self.head)
            self._go_on(round_trip, list(self._pieces))

    def _go_on(self, round_trip: RoundTrip, left: list[bytes]) -> None:
        while left and not round_trip.over:
            round_trip.on_body(left.pop(0))
            if self._gate is not None and not round_trip.over:
                self._gate.pass_by(lambda: self._go_on(round_trip, left))
                return
        if not round_trip.over:
            round_trip.state = OVER
            round_trip.on_end()


class Shadowed:
    """A fake endpoint: gives the outcome that it was made with once its gate opens."""

    url = "http://shadow"

    def __init__(self, outcome: Answer | Exception | None = None, *, open: bool = True) -> None:
        self.gate = Gate()
        if open:
            self.gate.set()
        self.asked: list[tuple[str, bytes, list[Field], bytes]] = []
        self.round_trips: list[RoundTrip] = []
        self.outcome = outcome if outcome is not None else Answer(b"shadow")

    def send(
        self,
        round_trip: RoundTrip,
        method: str,
        target: bytes,
        fields: list[Field],
        body: bytes,
        section: Section | None = None,
    ) -> None:
        self.asked.append((method, target, [*section.fields, *fields] if section else fields, body))
        self.round_trips.append(round_trip)
        self.gate.pass_by(lambda: self._tell(round_trip))

    def _tell(self, round_trip: RoundTrip) -> None:
        if isinstance(self.outcome, Answer):
            self.outcome.tell(round_trip)
        else:
            round_trip.fail(self.outcome)


class Books:
    """A mirror over such shadows, and the exchanges that it appended."""

    def __init__(self, *shadows: tuple[ShadowSettings, Shadowed], **options: Any) -> None:
        self.appended: list[Exchange] = []
        self.memory = options.pop("memory", Memory(1 << 30))
        now = asyncio.get_running_loop().time()

        def lane(shadow: ShadowSettings, endpoint: Shadowed) -> Lane:
            return Lane(shadow, endpoint, ShadowCounts(), now)

        control = options.pop("control", None)
        loop_lag = options.pop("loop_lag", 1e9)
        self.plan = MirrorPlan(
            tuple(lane(*each) for each in shadows),
            lane(*control) if control else None,
            append=self.appended.append,
            **cast(Any, {"position": lambda *_: 50.0, "control_position": lambda *_: 50.0, "capture": 100} | options),
        )
        self.mirror = Mirror(self.plan, memory=self.memory, loop_lag=loop_lag)

    def offer(self, *, unfit: Outcome | None = None, answered: bool = True) -> UnsettledExchange:
        exchange = self.open()
        exchange.request_body.add(REQUEST.body)
        self.mirror.offer(exchange, REQUEST, unfit)
        if answered:
            self.mirror.end_live(exchange, REQUEST, LIVE)
        return exchange

    def open(self) -> UnsettledExchange:
        exchange = UnsettledExchange(self.mirror.plan, self.memory)
        self.mirror.open(exchange)
        return exchange

    def legs(self, name: str = "s") -> list[ShadowLeg]:
        return [exchange.shadows[name] for exchange in self.appended]

    def outcomes(self, name: str = "s") -> Counter[Outcome]:
        return Counter(Outcome.OK if isinstance(leg, Reply) else leg.outcome for leg in self.legs(name))

    def balanced(self, offered: int) -> None:
        """Every offer is settled once, the statistics agree, and no memory is held."""
        assert len(self.appended) == offered
        for each in self.mirror.lanes:
            stands = each.statistics()
            assert dict(stands.outcomes) == dict(self.outcomes(each.shadow.name))
            assert (stands.in_flight, stands.waiting, stands.chosen) == (0, 0, sum(stands.outcomes.values()))
        assert self.memory.used == 0
        assert not any(self.mirror._legs.values())
        assert len(asyncio.all_tasks()) == 1


async def turns(count: int = 5) -> None:
    for _ in range(count):
        await asyncio.sleep(0)


async def test_an_exchange_is_appended_once_when_live_and_every_shadow_are_in() -> None:
    slow = Shadowed(open=False)
    books = Books((SHADOW, Shadowed()), (replace(SHADOW, name="slow"), slow))
    async with books.mirror:
        books.offer()
        await turns()
        assert books.appended == []
        slow.gate.set()
        await turns()
        assert [leg.body for leg in books.legs() if isinstance(leg, Reply)] == [b"shadow"]
        assert set(books.appended[0].shadows) == {"s", "slow"}
        assert books.appended[0].live is LIVE
    books.balanced(1)


async def test_live_may_be_the_last_one_in() -> None:
    books = Books((SHADOW, Shadowed()))
    async with books.mirror:
        exchange = books.offer(answered=False)
        await turns()
        assert books.appended == []
        books.mirror.end_live(exchange, REQUEST, LIVE)
    books.balanced(1)


async def test_a_request_that_no_shadow_is_chosen_for_is_a_record_without_shadows() -> None:
    books = Books((replace(SHADOW, percent=50.0), Shadowed()), (replace(SHADOW, name="off", percent=0.0), Shadowed()))
    async with books.mirror:
        books.offer()
    assert books.appended == [Exchange(REQUEST, LIVE, {})]


async def test_the_same_position_serves_every_shadow() -> None:
    asked = {percent: Shadowed() for percent in (10.0, 50.0, 50.1, 100.0)}
    books = Books(*((replace(SHADOW, name=f"s{p}", percent=p), shadow) for p, shadow in asked.items()))
    async with books.mirror:
        books.offer()
        await turns()
    assert {percent for percent, shadow in asked.items() if shadow.asked} == {50.1, 100.0}


async def test_shadows_of_one_share_get_the_same_requests_and_a_smaller_share_is_within() -> None:
    shares = {"a": 20.0, "b": 20.0, "c": 5.0}
    positions = iter(map(float, range(100)))
    books = Books(
        *((replace(SHADOW, name=name, percent=percent), Shadowed()) for name, percent in shares.items()),
        position=lambda *_: next(positions),
    )
    async with books.mirror:
        for _ in range(100):
            books.offer()
            await turns()
    asked = {name: [at for at, each in enumerate(books.appended) if name in each.shadows] for name in shares}
    assert asked == {"a": list(range(20)), "b": list(range(20)), "c": list(range(5))}


@pytest.mark.parametrize("unfit", [Outcome.OVERSIZE, Outcome.OVERLOAD])
async def test_an_unfit_request_is_settled_with_its_reason_and_no_shadow_sees_it(unfit: Outcome) -> None:
    shadow = Shadowed()
    books = Books((SHADOW, shadow))
    async with books.mirror:
        books.offer(unfit=unfit)
        (leg,) = books.legs()
        assert isinstance(leg, Skipped)
        assert leg.outcome == unfit
        assert leg.error
    assert shadow.asked == []
    books.balanced(1)


async def test_an_overlong_lane_sheds_and_every_offer_has_its_outcome() -> None:
    shadow = Shadowed(open=False)
    books = Books((replace(SHADOW, in_flight=2, lane=3), shadow))
    async with books.mirror:
        for _ in range(10):
            books.offer()
        await turns()
        assert len(shadow.asked) == 2
        assert books.outcomes() == {Outcome.LANE_FULL: 5}
        shadow.gate.set()
        await turns(20)
        assert books.outcomes() == {Outcome.LANE_FULL: 5, Outcome.OK: 5}
    books.balanced(10)


@pytest.mark.timing
async def test_one_deadline_runs_over_the_wait_in_the_lane_and_the_answer() -> None:
    shadow = Shadowed(open=False)
    books = Books((replace(SHADOW, in_flight=1, lane=3, timeout=0.05), shadow))
    async with books.mirror:
        for _ in range(4):
            books.offer()
        await asyncio.sleep(0.1)
        begun, *waited = books.legs()
        assert isinstance(begun, Failure)
        assert all(isinstance(leg, Skipped) for leg in waited)
        assert books.outcomes() == {Outcome.TIMEOUT: 4}
        assert len(shadow.asked) == 1
    books.balanced(4)


@pytest.mark.parametrize(
    ("error", "failure"),
    [
        (ReadTimeout("why"), Outcome.TIMEOUT),
        (ConnectError("why"), Outcome.CONNECT_ERROR),
        (TLSError("why"), Outcome.TLS_ERROR),
        (ProtocolError("why"), Outcome.PROTOCOL_ERROR),
        (ReadError("why"), Outcome.INCOMPLETE),
    ],
)
async def test_a_shadows_failure_is_its_outcome(error: Exception, failure: Outcome) -> None:
    books = Books((SHADOW, Shadowed(error)))
    async with books.mirror:
        books.offer()
        await turns()
        (leg,) = books.legs()
        assert isinstance(leg, Failure)
        assert (leg.outcome, leg.error, leg.reply) == (failure, "why", None)
    books.balanced(1)


async def test_an_answer_over_the_limit_is_cut_off_and_what_came_is_kept() -> None:
    shadow = Shadowed(Answer(b"x" * 60, b"y" * 60, b"z" * 60))
    books = Books((SHADOW, shadow))
    async with books.mirror:
        books.offer()
        await turns()
        (leg,) = books.legs()
        assert isinstance(leg, Failure)
        assert leg.outcome == Outcome.ANSWER_OVERSIZE
        assert leg.reply is not None
        assert (leg.reply.body, leg.reply.body_bytes) == (b"x" * 60 + b"y" * 40, 120)
        assert shadow.round_trips[0].over
    books.balanced(1)


async def test_an_answer_that_memory_has_no_room_for_is_cut_off_as_overload() -> None:
    books = Books((SHADOW, Shadowed(Answer(b"x" * 60, b"y" * 30))), memory=Memory(HELD + 62))
    async with books.mirror:
        books.offer()
        await turns()
        assert books.outcomes() == {Outcome.OVERLOAD: 1}
    books.balanced(1)


async def test_a_request_that_is_rewritten_counts_as_memory_of_its_own() -> None:
    rewrite = Rewrite.of({}, {"/a": "y" * 200})
    asked = REQUEST._replace(body=b'{"a": 1}', body_bytes=8)
    for room, outcome in ((1000, Outcome.OK), (100, Outcome.OVERLOAD)):
        books = Books((replace(SHADOW, rewrite=rewrite), Shadowed()), memory=Memory(HELD + len(asked.body) + room))
        async with books.mirror:
            exchange = books.open()
            exchange.request_body.add(asked.body)
            books.mirror.offer(exchange, asked)
            books.mirror.end_live(exchange, asked, LIVE)
            await turns()
            assert books.outcomes() == {outcome: 1}
        books.balanced(1)


async def test_header_fields_count_as_memory_within_its_limit() -> None:
    """The caller's and live's fields: each may be 64 KiB, in as many exchanges as the lanes keep."""
    live = LIVE._replace(fields=((b"A", bytes(100)),))
    books = Books(
        (SHADOW, Shadowed(open=False)), (replace(SHADOW, name="t"), Shadowed(open=False)), memory=Memory(4 * HELD)
    )
    async with books.mirror:
        first = books.offer(answered=False)
        await turns()
        assert books.memory.used == HELD + len(REQUEST.body)  # once, though two shadows are asked
        books.mirror.end_live(first, REQUEST, live)
        assert books.memory.used == HELD + len(REQUEST.body) + fields_weight(live.fields)
        big = REQUEST._replace(fields=((b"A", bytes(2 * HELD)),))
        second = books.open()
        books.mirror.offer(second, big)
        books.mirror.end_live(second, big, live)
        assert books.outcomes() == {Outcome.OVERLOAD: 1}
        assert books.outcomes("t") == {Outcome.OVERLOAD: 1}
    books.balanced(2)


async def test_a_shadows_header_fields_count_too() -> None:
    shadow = Shadowed(Answer(b"", fields=((b"A", bytes(1000)),)))
    books = Books((SHADOW, shadow), memory=Memory(HELD + 500))
    async with books.mirror:
        books.offer()
        await turns()
        assert books.outcomes() == {Outcome.OVERLOAD: 1}
    assert shadow.round_trips[0].over
    books.balanced(1)


async def test_while_the_loop_is_late_mirroring_is_shed() -> None:
    shadow = Shadowed()
    books = Books((SHADOW, shadow), loop_lag=0.05)
    async with books.mirror:
        books.mirror.pulse.lag = 0.051
        books.offer()
        books.mirror.pulse.lag = 0.05
        books.offer()
        await turns()
        assert books.outcomes() == {Outcome.OVERLOAD: 1, Outcome.OK: 1}
    assert len(shadow.asked) == 1


@pytest.mark.timing
async def test_the_pulse_measures_that_the_loop_was_held_up_and_that_it_recovered() -> None:
    pulse = Pulse(limit=0.02)
    pulse.start()
    loop = asyncio.get_running_loop()
    until = loop.time() + BEAT + 0.05
    while loop.time() < until:  # held up
        pass
    await asyncio.sleep(0)
    await asyncio.sleep(0)
    assert pulse.late
    await asyncio.sleep(BEAT * 2)
    assert not pulse.late
    pulse.stop()


async def test_a_defect_is_one_legs_outcome_and_the_lane_goes_on(caplog: pytest.LogCaptureFixture) -> None:
    """Also for the one request that tries an open breaker: else the shadow would never get a request again."""
    shadow = Shadowed(ReadError("why"))
    books = Books((replace(SHADOW, in_flight=1, breaker_failures=2, breaker_pause=0.0), shadow))
    async with books.mirror:
        for outcome in (None, None, RuntimeError("bug"), RuntimeError("bug"), Answer(b"fine")):
            shadow.outcome = outcome or shadow.outcome
            books.offer()
            await turns()
        assert books.outcomes() == {Outcome.INCOMPLETE: 2, Outcome.PROTOCOL_ERROR: 2, Outcome.OK: 1}
    assert sum(record.exc_info is not None for record in caplog.records) == 2
    books.balanced(5)


async def test_a_defect_met_by_all_that_wait_settles_each_of_them() -> None:
    """Each leg ended in the turn that began it and began the next: 200 of them were too deep for the interpreter."""

    class Refusing(Shadowed):
        def send(self, *_: object) -> None:
            raise RuntimeError("bug")

    books = Books((replace(SHADOW, in_flight=1, lane=200, breaker_failures=999), Refusing()))
    async with books.mirror:
        for _ in range(201):
            books.offer()
        await turns(402)
        assert books.outcomes() == {Outcome.PROTOCOL_ERROR: 201}
    books.balanced(201)


async def test_a_defect_in_choosing_does_not_reach_the_caller(caplog: pytest.LogCaptureFixture) -> None:
    def fail(*_: object) -> float:
        raise RuntimeError("bug")

    books = Books((replace(SHADOW, percent=50.0), Shadowed()), position=fail)
    async with books.mirror:
        books.offer()
    assert len(books.appended) == 1
    assert "a defect in the proxy" in caplog.text


@pytest.mark.parametrize("by", ["header", "query"])
@pytest.mark.parametrize("status", [401, 403])
async def test_a_shadow_that_wants_the_credentials_held_back_is_logged_once(
    caplog: pytest.LogCaptureFixture, status: int, by: str
) -> None:
    books = Books((SHADOW, Shadowed(Answer(b"", status=status))))
    if by == "header":
        secret = REQUEST._replace(fields=(*REQUEST.fields, (b"Authorization", b"Bearer s3cret")))
    else:
        secret = REQUEST._replace(target=b"/p?a=1&api_key=s3cret")
    async with books.mirror:
        for request in (REQUEST, secret, secret):
            exchange = books.open()
            books.mirror.offer(exchange, request)
            await turns()
    (line,) = caplog.records
    assert line.levelno == logging.WARNING
    assert "shadows.s.forward_credentials: true would send them" in line.getMessage()
    assert "s3cret" not in line.getMessage()


@pytest.mark.parametrize(
    ("status", "fields"),
    [(status, ((b"Authorization", b"Bearer s3cret"),)) for status in (200, 400, 404, 407, 500)]
    + [(401, ()), (403, ())],
)
async def test_an_answer_that_held_back_credentials_do_not_explain_is_not_logged(
    caplog: pytest.LogCaptureFixture, status: int, fields: Fields
) -> None:
    books = Books((SHADOW, Shadowed(Answer(b"", status=status))))
    async with books.mirror:
        books.mirror.offer(books.open(), REQUEST._replace(fields=fields))
        await turns()
    assert caplog.records == []


async def test_a_query_without_credentials_is_not_taken_for_one_without_them_when_it_comes_again(
    caplog: pytest.LogCaptureFixture,
) -> None:
    books = Books((SHADOW, Shadowed(Answer(b"", status=401))))
    async with books.mirror:
        for _ in range(2):
            target = bytes(bytearray(b"/p?a=1"))  # another object each time, as on another connection
            books.mirror.offer(books.open(), REQUEST._replace(target=target))
            await turns()
    assert caplog.records == []


async def test_a_request_that_cannot_be_rewritten_is_sent_unchanged_and_logged_once(
    caplog: pytest.LogCaptureFixture,
) -> None:
    shadow = Shadowed()
    books = Books((replace(SHADOW, rewrite=Rewrite.of({}, {"/model": "new"})), shadow))
    body = b'{"model": s3cret'
    async with books.mirror:
        for request in (REQUEST._replace(body=b"", body_bytes=0), *[REQUEST._replace(body=body)] * 2):
            books.mirror.offer(books.open(), request)
            await turns()
    assert [asked[3] for asked in shadow.asked] == [b"", body, body]
    (line,) = caplog.records
    assert line.levelno == logging.WARNING
    assert "shadows.s.rewrite.json cannot change it because it is not JSON" in line.getMessage()
    assert "s3cret" not in line.getMessage()


async def test_a_rewritten_request_has_its_length() -> None:
    shadow = Shadowed()
    rewrite = Rewrite.of({"/p": "/q"}, {"": "longer"})
    books = Books((replace(SHADOW, rewrite=rewrite), shadow))
    request = REQUEST._replace(body=b"{}")
    async with books.mirror:
        books.mirror.offer(books.open(), request)
        await turns()
    ((method, target, fields, body),) = shadow.asked
    assert (method, target, body) == ("POST", b"/q", b'"longer"')
    assert (b"Content-Length", b"8") in fields


async def test_the_log_line_of_a_failure_holds_nothing_of_the_request(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.DEBUG)
    secret = REQUEST._replace(
        target=b"/p?q=s3cret", fields=((b"X-Any", b"s3cret"),), body=b'{"pin": "s3cret"}', body_bytes=17
    )
    refusing = Shadowed(ConnectError("refused"))
    books = Books((SHADOW, refusing), (replace(SHADOW, name="t"), Shadowed(RuntimeError("a defect"))))
    async with books.mirror:
        for unfit in (None, Outcome.OVERSIZE):
            books.mirror.offer(books.open(), secret, unfit)
            await turns()
    assert {record.__dict__.get("event") for record in caplog.records} == {
        "shadow_failed",
        "shadow_not_asked",
        "defect",
    }
    assert not any("s3cret" in str(vars(record)) for record in caplog.records)


async def test_control_sends_live_a_share_of_the_mirrored_requests_again() -> None:
    live_again = Shadowed(Answer(b"again"))
    control = (replace(SHADOW, name=CONTROL, percent=50.0, forward_credentials=True), live_again)
    position = iter([10.0, 60.0, 10.0, 10.0])
    control_position = iter([10.0, 60.0, 10.0])
    books = Books(
        (replace(SHADOW, percent=50.0), Shadowed()),
        control=control,
        position=lambda *_: next(position),
        control_position=lambda *_: next(control_position),
    )
    async with books.mirror:
        for _ in range(4):  # both; not mirrored, so no control; control not chosen; both
            books.offer()
            await turns()
    assert [exchange.control is not None for exchange in books.appended] == [True, False, False, True]
    assert len(live_again.asked) == 2


# What an operator changes.


async def test_a_paused_shadow_gets_nothing_until_it_is_resumed() -> None:
    paused, other = Shadowed(), Shadowed()
    books = Books((SHADOW, paused), (replace(SHADOW, name="other"), other))
    async with books.mirror:
        books.mirror.pause("s")
        books.offer()
        await turns()
        books.mirror.resume("s")
        books.offer()
        await turns()
    assert (len(paused.asked), len(other.asked)) == (1, 2)
    assert books.outcomes() == {Outcome.PAUSED: 1, Outcome.OK: 1}
    books.balanced(2)


@pytest.mark.parametrize("name", ["s", None])
async def test_a_pause_settles_what_waits_and_lets_what_is_under_way_end(name: str | None) -> None:
    slow = Shadowed(open=False)
    books = Books((SHADOW, slow))
    async with books.mirror:
        for _ in range(5):
            books.offer()
        await turns()
        books.mirror.pause(name)
        assert books.outcomes() == {Outcome.PAUSED: 3}
        slow.gate.set()
        await turns()
    assert books.outcomes() == {Outcome.PAUSED: 3, Outcome.OK: 2}
    books.balanced(5)


async def test_a_job_that_was_taken_on_in_the_turn_of_the_pause_is_not_begun() -> None:
    shadow = Shadowed()
    for pause in ("s", None):
        books = Books((SHADOW, shadow))
        async with books.mirror:
            books.offer()
            books.mirror.pause(pause)
            await turns()
        assert books.outcomes() == {Outcome.PAUSED: 1}
    assert shadow.asked == []


async def test_the_pause_of_all_is_one_switch_over_every_lane_and_the_control() -> None:
    shadow, live_again = Shadowed(), Shadowed()
    control = (replace(SHADOW, name=CONTROL, forward_credentials=True), live_again)
    books = Books((SHADOW, shadow), control=control)
    async with books.mirror:
        books.mirror.pause("s")
        books.mirror.pause()
        books.offer()
        await turns()
        books.mirror.resume()
        books.offer()
        await turns()
        books.mirror.resume("s")
        books.offer()
        await turns()
    assert (len(shadow.asked), len(live_again.asked)) == (1, 2)
    assert books.outcomes() == {Outcome.PAUSED: 2, Outcome.OK: 1}


async def test_a_percent_that_is_set_decides_from_the_next_request_on() -> None:
    shadow = Shadowed()
    books = Books((replace(SHADOW, percent=0.0), shadow), position=lambda *_: 10.0)
    async with books.mirror:
        for percent in (0.0, 10.0, 10.5):
            books.mirror.set_percent("s", percent)
            books.offer()
            await turns()
    assert [list(each.shadows) for each in books.appended] == [[], [], ["s"]]


async def test_a_name_that_no_lane_has_is_a_key_error() -> None:
    books = Books((SHADOW, Shadowed()))
    async with books.mirror:
        for change in (books.mirror.pause, books.mirror.resume, lambda name: books.mirror.set_percent(name, 1.0)):
            with pytest.raises(KeyError):
                change("nobody")


async def test_a_plan_ends_with_its_last_exchange_and_its_lanes_are_paused_with_their_names() -> None:
    slow, waits = Shadowed(open=False), Shadowed()
    books = Books((replace(SHADOW, in_flight=1), slow))
    async with books.mirror:
        books.offer()
        books.offer()
        await turns()
        before = books.plan
        lanes = (Lane(SHADOW, cast(Any, waits), before.lanes[0].counts, 0.0),)
        books.mirror.adopt(replace(before, lanes=lanes))
        ended = asyncio.get_running_loop().create_task(books.mirror.wait_ended(before))
        books.mirror.pause("s")  # the old lane's waiting job too
        assert books.outcomes() == {Outcome.PAUSED: 1}
        await turns()
        assert not ended.done()
        slow.gate.set()
        await ended
    assert (len(slow.asked), len(waits.asked)) == (1, 0)
    books.balanced(2)


# Stopping.


async def test_draining_lets_what_is_under_way_and_what_waits_finish() -> None:
    shadow = Shadowed(open=False)
    books = Books((replace(SHADOW, in_flight=1, lane=5), shadow))
    async with books.mirror:
        for _ in range(4):
            books.offer()
        asyncio.get_running_loop().call_later(0.01, shadow.gate.set)
        await books.mirror.drain(5)
        assert books.outcomes() == {Outcome.OK: 4}
    books.balanced(4)


async def test_legs_that_drain_has_no_time_for_are_settled_as_shutdown() -> None:
    """Legs under way, waiting jobs, and jobs that were to begin in the next turn."""
    shadow = Shadowed(open=False)
    books = Books((replace(SHADOW, in_flight=2, lane=5), shadow))
    async with books.mirror:
        books.offer()
        await turns()
        for _ in range(4):
            books.offer()
        await books.mirror.drain(0)
        assert books.outcomes() == {Outcome.SHUTDOWN: 5}
        assert sum(isinstance(leg, Failure) for leg in books.legs()) == len(shadow.asked) == 1
    books.balanced(5)


async def test_an_answer_that_drain_cuts_off_is_kept_as_far_as_it_came() -> None:
    shadow = Shadowed(Answer(b"begun", gate=Gate()))
    books = Books((SHADOW, shadow))
    async with books.mirror:
        books.offer()
        await turns()
        await books.mirror.drain(0.01)
        (leg,) = books.legs()
        assert isinstance(leg, Failure)
        assert leg.outcome == Outcome.SHUTDOWN
        assert leg.reply is not None
        assert leg.reply.body == b"begun"
        assert shadow.round_trips[0].over
    books.balanced(1)


async def test_a_request_offered_after_the_drain_is_settled_as_shutdown() -> None:
    shadow = Shadowed()
    books = Books((SHADOW, shadow))
    async with books.mirror:
        await books.mirror.drain(0)
        books.offer()
    assert books.outcomes() == {Outcome.SHUTDOWN: 1}
    assert shadow.asked == []
    books.balanced(1)


async def test_two_drains_at_once_settle_everything_once() -> None:
    books = Books((replace(SHADOW, in_flight=2, lane=5), Shadowed(open=False)))
    async with books.mirror:
        for _ in range(5):
            books.offer()
        await asyncio.gather(books.mirror.drain(5), books.mirror.drain(0))
    books.balanced(5)


@given(st.lists(st.sampled_from(["offer", "turn", "open", "oversize", "late"]), max_size=30), st.integers(0, 3))
def test_chosen_is_the_sum_of_outcomes_whatever_happens(script: list[str], waiting: int) -> None:
    async def run() -> None:
        shadow = Shadowed(open=False)
        books = Books((replace(SHADOW, in_flight=1, lane=waiting, breaker_failures=1000), shadow))
        offered = 0
        async with books.mirror:
            for step in script:
                if step == "turn":
                    await asyncio.sleep(0)
                elif step == "open":
                    shadow.gate.set()
                else:
                    books.mirror.pulse.lag = 1e10 if step == "late" else 0.0
                    books.offer(unfit=Outcome.OVERSIZE if step == "oversize" else None)
                    offered += 1
            await books.mirror.drain(0)
        books.balanced(offered)
        assert sum(books.outcomes().values()) == offered
        assert books.mirror.lanes[0].statistics().begun == len(shadow.asked)

    asyncio.run(run())
