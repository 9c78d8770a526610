"""The shadows' side: offer them a request, bound everything, and settle each exchange exactly once.

The rules:

1. `offer` and `answered` never wait and never raise. What cannot be taken on is settled at once, with its reason.
2. Every shadow that a request is chosen for ends with one outcome. The deadline of `timeout` runs from the offer, over
   the wait in the lane and the whole answer, so every exchange settles.
3. A lane asks at most `in_flight` requests at once and keeps at most `lane` waiting, in order.
4. An exchange is settled when live's leg and every chosen shadow's are in: then it is appended to the journal, once,
   and its copies are given back.
"""

import asyncio
import logging
from collections import Counter, deque
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from time import perf_counter
from types import TracebackType
from typing import Self

from shadowproxy.exchange import Exchange, Failure, Field, LiveLeg, Outcome, Reply, Request, ShadowLeg, Skipped
from shadowproxy.serve.capture import Capture, Memory
from shadowproxy.serve.headers import end_to_end, for_shadow, with_length
from shadowproxy.serve.rewrite import Rewrite
from shadowproxy.serve.sampling import Match
from shadowproxy.serve.times import Times
from shadowproxy.serve.upstream import Endpoint, UpstreamError

CONTROL = "control"
"""The lane that asks live itself a second time."""

_WHY = {
    Outcome.OVERSIZE: "the request is longer than limits.capture",
    Outcome.OVERLOAD: "mirroring is shed while the proxy is short of time or memory",
    Outcome.LANE_FULL: "too many requests are waiting for this shadow",
    Outcome.BREAKER_OPEN: "the shadow failed too often in a row, it is left alone for a while",
    Outcome.BUDGET_SPENT: "the shadow has been asked as often, or as long, as its budget allows",
    Outcome.SHUTDOWN: "the proxy is stopping",
    Outcome.TIMEOUT: "its deadline passed while it waited in the lane",
}
_COUNTS_AGAINST = frozenset(
    {
        Outcome.TIMEOUT,
        Outcome.CONNECT_ERROR,
        Outcome.TLS_ERROR,
        Outcome.PROTOCOL_ERROR,
        Outcome.INCOMPLETE,
        Outcome.ANSWER_OVERSIZE,  # nothing is learnt from it, and reading so much takes time from live
    }
)
_log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Shadow:
    """What the configuration says of one shadow. Seconds. `budget_*` are None where there is no such bound."""

    name: str
    percent: float
    match: Match
    rewrite: Rewrite
    timeout: float
    in_flight: int
    lane: int
    breaker_failures: int
    breaker_pause: float
    budget_requests: int | None = None
    budget_duration: float | None = None
    forward_credentials: bool = False


class Unsettled:
    """An exchange of which some leg is still to come."""

    __slots__ = ("awaited", "captures", "control", "live", "request", "shadows")

    def __init__(self) -> None:
        self.request: Request | None = None
        self.live: LiveLeg | None = None
        self.shadows: dict[str, ShadowLeg] = {}
        self.control: ShadowLeg | None = None
        self.awaited = 0
        self.captures: list[Capture] = []

    def __repr__(self) -> str:
        return f"<Unsettled {self.request and self.request.id} live={self.live is not None} awaited={self.awaited}>"


@dataclass(frozen=True, slots=True)
class _Job:
    unsettled: Unsettled
    request: Request
    deadline: float


@dataclass(frozen=True, slots=True)
class LaneStatistics:
    """How a lane stands. `breaker` is closed, open or probing; `outcomes` counts the settled legs of `chosen`."""

    in_flight: int
    waiting: int
    breaker: str
    chosen: int
    begun: int
    outcomes: Mapping[Outcome, int]


class Lane:
    """One shadow's queue and state; decides, and does no I/O. Times are the loop's."""

    def __init__(self, shadow: Shadow, endpoint: Endpoint, started: float) -> None:
        self.shadow = shadow
        self.endpoint = endpoint
        self.told_of_credentials = False
        self.chosen = 0
        self.times = Times()
        self._started = started
        self._waiting: deque[_Job] = deque()
        self._running = 0
        self._begun = 0
        self._failures = 0  # in a row
        self._open_until: float | None = None
        self._probing = False
        self._outcomes: Counter[Outcome] = Counter()

    def __repr__(self) -> str:
        return f"<Lane {self.shadow.name} {self.statistics()}>"

    def statistics(self) -> LaneStatistics:
        breaker = "closed" if self._open_until is None else "probing" if self._probing else "open"
        return LaneStatistics(
            self._running, len(self._waiting), breaker, self.chosen, self._begun, dict(self._outcomes)
        )

    def refusal(self, now: float) -> Outcome | None:
        """Why a request offered now is not taken on, if it is not."""
        if self._spent(now):
            return Outcome.BUDGET_SPENT
        if self._is_open(now):
            return Outcome.BREAKER_OPEN
        if self._running >= self.shadow.in_flight and len(self._waiting) >= self.shadow.lane:
            return Outcome.LANE_FULL
        return None

    def take(self, job: _Job) -> bool:
        """Take on a job that was not refused. True: begin it now; False: it waits, and comes out of `next`."""
        if self._running < self.shadow.in_flight:
            self._running += 1
            return True
        self._waiting.append(job)
        return False

    def next(self) -> _Job | None:
        """The job to go on with after one has ended; None: there is none, the one who asked is done."""
        if self._waiting:
            return self._waiting.popleft()
        self._running -= 1
        return None

    def begin(self, now: float, deadline: float) -> Outcome | None:
        """Why a job is not begun after all, if it is not; else it counts as begun."""
        if now >= deadline:
            return Outcome.TIMEOUT
        if self._spent(now):
            return Outcome.BUDGET_SPENT
        if self._is_open(now):
            return Outcome.BREAKER_OPEN
        self._probing = self._open_until is not None
        self._begun += 1
        return None

    def clear(self) -> list[_Job]:
        jobs = list(self._waiting)
        self._waiting.clear()
        return jobs

    def note(self, outcome: Outcome) -> None:
        self._outcomes[outcome] += 1

    def ended(self, outcome: Outcome, now: float) -> None:
        """Move the breaker: `failures` in a row open it for `pause`, then one request at a time may close it again."""
        was_open = self._open_until is not None
        self._probing = False
        if outcome not in _COUNTS_AGAINST:
            self._failures = 0
            self._open_until = None
            if was_open:
                _log.warning("shadow %s answers again", self.shadow.name)
            return
        self._failures += 1
        if self._failures >= self.shadow.breaker_failures:
            self._open_until = now + self.shadow.breaker_pause
            if not was_open:
                _log.warning(
                    "shadow %s failed %d times in a row (last: %s), it is left alone for %g s",
                    self.shadow.name,
                    self._failures,
                    outcome,
                    self.shadow.breaker_pause,
                )

    def _is_open(self, now: float) -> bool:
        return self._open_until is not None and (now < self._open_until or self._probing)

    def _spent(self, now: float) -> bool:
        budget, duration = self.shadow.budget_requests, self.shadow.budget_duration
        return (budget is not None and self._begun >= budget) or (
            duration is not None and now - self._started >= duration
        )


@dataclass(slots=True)
class Pulse:
    """How late the event loop runs, felt every `INTERVAL` seconds. Owns its timer, from `start` to `stop`."""

    limit: float
    lag: float = 0.0
    _timer: asyncio.TimerHandle | None = field(default=None, init=False)

    INTERVAL = 0.02

    @property
    def late(self) -> bool:
        return self.lag > self.limit

    def start(self) -> None:
        loop = asyncio.get_running_loop()
        self._timer = loop.call_later(self.INTERVAL, self._beat, loop, loop.time() + self.INTERVAL)

    def stop(self) -> None:
        if self._timer is not None:
            self._timer.cancel()

    def _beat(self, loop: asyncio.AbstractEventLoop, due: float) -> None:
        self.lag = max(0.0, loop.time() - due)
        self._timer = loop.call_later(self.INTERVAL, self._beat, loop, loop.time() + self.INTERVAL)


class Mirror:
    """Owns the tasks that ask the shadows; use as `async with`, and `drain` before leaving.

    `append` takes a settled exchange and never waits. `position` is a request's place in [0, 100) for sampling,
    `control_position` its place for the control arm.
    """

    def __init__(
        self,
        shadows: Sequence[tuple[Shadow, Endpoint]],
        *,
        control: tuple[Shadow, Endpoint] | None = None,
        append: Callable[[Exchange], object],
        position: Callable[[Request], float],
        control_position: Callable[[Request], float],
        memory: Memory,
        capture: int,
        loop_lag: float,
    ) -> None:
        now = asyncio.get_running_loop().time()
        self.lanes = [Lane(shadow, endpoint, now) for shadow, endpoint in shadows]
        self.control = Lane(*control, now) if control else None
        self.memory = memory
        self.pulse = Pulse(loop_lag)
        self._append = append
        self._position = position
        self._control_position = control_position
        self._capture = capture
        self._loop = asyncio.get_running_loop()
        self._tasks: set[asyncio.Task[None]] = set()
        self._unsettled: set[Unsettled] = set()
        self._stopping = False

    def __repr__(self) -> str:
        return f"<Mirror {self.lanes} unsettled={len(self._unsettled)}>"

    async def __aenter__(self) -> Self:
        self.pulse.start()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, value: BaseException | None, traceback: TracebackType | None
    ) -> None:
        await self.drain(0)
        self.pulse.stop()

    async def drain(self, seconds: float) -> None:
        """Let the shadows finish for so long, then settle the rest as `shutdown`."""
        if self._tasks and seconds > 0:
            await asyncio.wait(self._tasks, timeout=seconds)
        self._stopping = True
        for lane in self._all_lanes():
            for job in lane.clear():
                self._settle(job.unsettled, lane, _skipped(Outcome.SHUTDOWN))
        await asyncio.sleep(0)  # a task that was cancelled before its first step could not settle its exchange
        for task in self._tasks:
            task.cancel()
        if self._tasks:
            await asyncio.wait(self._tasks)

    def open(self) -> Unsettled:
        unsettled = Unsettled()
        self._unsettled.add(unsettled)
        return unsettled

    def capture(self, unsettled: Unsettled) -> Capture:
        """A copy that lives as long as the exchange."""
        capture = Capture(self._capture, self.memory)
        unsettled.captures.append(capture)
        return capture

    def offer(self, unsettled: Unsettled, request: Request, unfit: Outcome | None = None) -> None:
        """Ask every shadow that `request` is chosen for, or settle it as `unfit`. Returns at once."""
        unsettled.request = request
        try:
            self._choose(unsettled, request, unfit)
        except Exception:  # noqa: BLE001  # rule 1, whatever a request holds: the caller's answer comes first
            _log.exception("a defect in the proxy, choosing shadows for request %s", request.id)

    def _choose(self, unsettled: Unsettled, request: Request, unfit: Outcome | None) -> None:
        position = self._position(request)
        now = self._loop.time()
        chosen = False
        for lane in self.lanes:
            if position < lane.shadow.percent and lane.shadow.match(request):
                chosen = True
                self._offer(lane, unsettled, request, unfit, now)
        control = self.control
        if control is not None and chosen and self._control_position(request) < control.shadow.percent:
            self._offer(control, unsettled, request, unfit, now)

    def answered(self, unsettled: Unsettled, request: Request, live: LiveLeg) -> None:
        """Live's leg is in. `request` is the one that was offered, or what came of one that never was whole."""
        unsettled.request = request
        unsettled.live = live
        self._settle_if_complete(unsettled)

    def _offer(self, lane: Lane, unsettled: Unsettled, request: Request, unfit: Outcome | None, now: float) -> None:
        refusal = unfit or (Outcome.SHUTDOWN if self._stopping else None)
        refusal = refusal or (Outcome.OVERLOAD if self.pulse.late else lane.refusal(now))
        lane.chosen += 1
        unsettled.awaited += 1
        if refusal is not None:
            self._settle(unsettled, lane, _skipped(refusal))
            return
        job = _Job(unsettled, request, now + lane.shadow.timeout)
        if lane.take(job):
            task = self._loop.create_task(self._work(lane, job))
            self._tasks.add(task)
            task.add_done_callback(self._tasks.discard)

    async def _work(self, lane: Lane, first: _Job) -> None:
        """Ask for `first`, and go on with what has waited in the lane meanwhile."""
        job: _Job | None = first
        while job is not None:
            leg: ShadowLeg = _skipped(Outcome.SHUTDOWN)
            try:
                leg = await self._ask(lane, job)
            except Exception:  # noqa: BLE001  # one defect must not stop a lane: it is told, and the leg is settled
                _log.exception("a defect in the proxy, asking shadow %s", lane.shadow.name)
                leg = Failure(Outcome.PROTOCOL_ERROR, "a defect in the proxy; its log says more", 0.0)
                lane.ended(leg.outcome, self._loop.time())
            finally:
                self._settle(job.unsettled, lane, leg)
                job = lane.next()

    async def _ask(self, lane: Lane, job: _Job) -> ShadowLeg:
        not_begun = lane.begin(self._loop.time(), job.deadline)
        if not_begun is not None:
            return _skipped(not_begun)
        shadow, request = lane.shadow, job.request
        fields, held_back = for_shadow(end_to_end(request.fields), shadow.name, credentials=shadow.forward_credentials)
        body = shadow.rewrite.body(request.body)
        if len(body) != len(request.body):
            fields = with_length(fields, len(body))
        leg = await self._leg(lane, job, shadow.rewrite.target(request.target), fields, body)
        outcome = leg.outcome if isinstance(leg, Failure) else Outcome.OK
        lane.ended(outcome, self._loop.time())
        if held_back and isinstance(leg, Reply) and leg.status in (401, 403) and not lane.told_of_credentials:
            lane.told_of_credentials = True
            _log.warning(
                "shadow %s answered %d to a request whose credentials were held back; "
                "shadows.%s.forward_credentials: true would send them",
                shadow.name,
                leg.status,
                shadow.name,
            )
        return leg

    async def _leg(self, lane: Lane, job: _Job, target: bytes, fields: list[Field], body: bytes) -> Reply | Failure:
        """Ask, copy the answer, and say what came of it. Milliseconds from here."""
        began = perf_counter()
        capture = self.capture(job.unsettled)
        answering = None
        outcome, error = Outcome.OK, ""
        try:
            async with asyncio.timeout_at(job.deadline):
                answering = await lane.endpoint.ask(job.request.method, target, fields, body)
                async for chunk in answering.chunks():
                    capture.add(chunk)
                    if not capture.whole:
                        break
        except UpstreamError as raised:
            outcome, error = raised.outcome, str(raised)
        except TimeoutError:
            outcome, error = Outcome.TIMEOUT, f"no whole answer within {lane.shadow.timeout:g} s"
        except asyncio.CancelledError:
            outcome, error = Outcome.SHUTDOWN, _WHY[Outcome.SHUTDOWN]
            if not self._stopping:
                raise
        finally:
            if answering is not None:
                await answering.aclose()
        if capture.over:
            outcome, error = Outcome.ANSWER_OVERSIZE, "the answer is longer than limits.capture"
        elif capture.crowded:
            outcome, error = Outcome.OVERLOAD, "no memory was left for the answer"
        seconds = perf_counter() - began
        lane.times.add(seconds)
        total_ms = seconds * 1000
        reply = None
        if answering is not None:
            first_byte_ms = (answering.first_byte_at - began) * 1000
            reply = Reply(
                answering.status, tuple(answering.fields), capture.body, capture.size, first_byte_ms, total_ms
            )
        if outcome is Outcome.OK and reply is not None:
            return reply
        return Failure(outcome, error, total_ms, reply)

    def _settle(self, unsettled: Unsettled, lane: Lane, leg: ShadowLeg) -> None:
        lane.note(Outcome.OK if isinstance(leg, Reply) else leg.outcome)
        if lane is self.control:
            unsettled.control = leg
        else:
            unsettled.shadows[lane.shadow.name] = leg
        unsettled.awaited -= 1
        self._settle_if_complete(unsettled)

    def _settle_if_complete(self, unsettled: Unsettled) -> None:
        if unsettled.live is None or unsettled.awaited or unsettled.request is None:
            return
        self._unsettled.discard(unsettled)
        self._append(Exchange(unsettled.request, unsettled.live, unsettled.shadows, unsettled.control))
        for capture in unsettled.captures:
            capture.release()

    def _all_lanes(self) -> list[Lane]:
        return [*self.lanes, self.control] if self.control else self.lanes


def _skipped(outcome: Outcome) -> Skipped:
    return Skipped(outcome, _WHY[outcome])
