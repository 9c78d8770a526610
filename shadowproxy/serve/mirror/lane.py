"""One shadow's lane: the requests that wait for it, those under way to it, and whether it takes more. It does no I/O.

A lane belongs to one configuration; the shadow's `ShadowCounts` belong to its name and outlive reloads.

A plan has lanes, a lane has jobs, a job belongs to an exchange, and an exchange to the plan that it began under: they
refer to each other in a circle, so they are one module.
"""

import logging
from collections import deque
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from time import perf_counter

from shadowproxy.exchange import Exchange, LiveLeg, Outcome, Request, ShadowLeg, Tunnel
from shadowproxy.serve.account import Memory
from shadowproxy.serve.http1.section import Section
from shadowproxy.serve.mirror.capture import Capture
from shadowproxy.serve.mirror.shadow import ShadowCounts, ShadowEndpoint, ShadowSettings
from shadowproxy.serve.policy.arms import Arms
from shadowproxy.serve.policy.logged import ALL_OF_EACH, LogNeeds
from shadowproxy.serve.policy.sampling import Position
from shadowproxy.serve.state.shadow_state import ShadowState
from shadowproxy.serve.state.translating import NOTHING
from shadowproxy.serve.state.watching import Watch
from shadowproxy.usage import Usage

_BREAKER_FAILURES = frozenset(
    {
        Outcome.TIMEOUT,
        Outcome.CONNECT_ERROR,
        Outcome.TLS_ERROR,
        Outcome.PROTOCOL_ERROR,
        Outcome.INCOMPLETE,
        Outcome.ANSWER_OVERSIZE,  # it cannot be compared, and reading so much takes time from live
    }
)
_log = logging.getLogger(__name__)


@dataclass(slots=True)
class BudgetUse:
    """How much of a budget is used: `requests` begun, and `since`, the loop's time at which the budget began.

    `tokens` and `cost` are what the answers say, counted only for a budget of such.
    """

    since: float
    requests: int = 0
    tokens: int = 0
    cost: float = 0.0


@dataclass(frozen=True, slots=True, eq=False)
class MirrorPlan:
    """The lanes of one configuration, and how requests are sampled for them.

    `append` takes a settled exchange and never waits. `position` gives a request's position in [0, 100) for sampling,
    `control_position` the one for the control arm. `capture` is the most bytes that are copied of one body.
    `reads_bodies`: a position or a lane's match depends on the request's body. `sampling_key` is the configuration's.
    `needs` says what of a body is recorded where nobody compares it. `keeps_state`: a shadow has IDs of its own.
    `hold_out_position` gives a request's position for holding it out; None where no shadow has a ramp.
    """

    lanes: tuple["Lane", ...]
    control: "Lane | None"
    append: Callable[[Exchange], object]
    position: Position
    control_position: Position
    capture: int
    reads_bodies: bool = False
    sampling_key: str = "request_id"
    needs: LogNeeds = ALL_OF_EACH
    keeps_state: bool = False
    hold_out_position: Position | None = None

    @property
    def all_lanes(self) -> tuple["Lane", ...]:
        return (*self.lanes, self.control) if self.control else self.lanes


class UnsettledExchange:
    """An exchange with a leg that has no outcome yet. It ends under the plan that it began with.

    `section` holds the caller's fields: the request's fields begin with them, and the proxy's own follow. None means
    that all of the request's fields may be the caller's. `only` are the shadows that it may be sent to, None for all of
    them. `awaited` is how many shadows have no outcome yet, `mirrored`
    whether a lane took the request on. `received_at` is by time.perf_counter.

    `arms` are those in which live's time counts, each with whether the request was chosen for that shadow or held out.

    `captures` are the copies of bodies: the request's, live's answer and the shadows' answers. `watches` learn the IDs
    of this exchange, one for each shadow that has its own; None before the first of them is needed.
    """

    __slots__ = (
        "answer_body",
        "arms",
        "awaited",
        "captures",
        "control",
        "live",
        "mirrored",
        "only",
        "plan",
        "received_at",
        "request",
        "request_body",
        "section",
        "shadows",
        "tunnel",
        "watches",
    )

    def __init__(self, plan: MirrorPlan, memory: Memory, section: Section | None = None) -> None:
        self.plan = plan
        self.section = section
        self.only: frozenset[str] | None = None
        self.received_at = perf_counter()
        self.request_body = Capture(plan.capture, memory)
        self.answer_body = Capture(plan.capture, memory)
        self.captures = [self.request_body, self.answer_body]
        self.request: Request | None = None
        self.live: LiveLeg | None = None
        self.shadows: dict[str, ShadowLeg] = {}
        self.control: ShadowLeg | None = None
        self.tunnel: Tunnel | None = None
        self.awaited = 0
        self.mirrored = False
        self.arms: list[tuple[Arms, bool]] | None = None
        self.watches: dict[Lane, Watch] | None = None

    def watch(self, request: Request) -> "dict[Lane, Watch]":
        """The watches, which begin with the first call."""
        watches = self.watches
        if watches is None:
            watches = self.watches = {
                lane: lane.state.watch(request) for lane in self.plan.lanes if lane.state is not None
            }
        return watches

    def __repr__(self) -> str:
        id = self.request and self.request.id
        return f"<UnsettledExchange {id} live={self.live is not None} awaited={self.awaited}>"


class Job:
    """A request for one lane. `deadline` is the loop's time.

    With a stateful shadow: `found` has live's IDs in the request once it `is_read`, and `blocked` counts what it waits
    for before it may begin. `followers` wait for this job's end.
    """

    __slots__ = ("blocked", "deadline", "exchange", "followers", "found", "is_read", "request")

    def __init__(self, exchange: UnsettledExchange, request: Request, deadline: float) -> None:
        self.exchange = exchange
        self.request = request
        self.deadline = deadline
        self.found = NOTHING
        self.is_read = False
        self.blocked = 0
        self.followers: list[tuple[Lane, Job]] | None = None


@dataclass(frozen=True, slots=True)
class LaneStatistics:
    """The state of a lane. `breaker` is closed, open or probing; `outcomes` counts the settled legs of `chosen`.

    `begun` is how many requests were begun in the present budget, which ends at `budget_until`, the loop's time;
    `tokens` and `cost` are what its answers took, if the budget has bounds for these.
    """

    in_flight: int
    waiting: int
    breaker: str
    chosen: int
    begun: int
    budget_until: float | None
    outcomes: Mapping[Outcome, int]
    tokens: int
    cost: float


class Lane:
    """One shadow's queue and state. Times are the loop's. Operators change `percent` and `paused`.

    `hold_out` is that of the settings while a ramp sets the percent, and 0 else.

    An endpoint that has to be started first sets `held_until`: deadlines count from there.

    `*_logged`: a warning of that kind was logged, and is not logged again under this configuration.
    """

    def __init__(self, shadow: ShadowSettings, endpoint: ShadowEndpoint, counts: ShadowCounts, started: float) -> None:
        self.shadow = shadow
        self.endpoint = endpoint
        self.counts = counts
        self.percent = shadow.percent
        self.hold_out = 0.0
        self.paused = False
        self.credentials_logged = False
        self.rewrite_logged = False
        self.method_logged = False
        self.unread_body_logged = False
        self.unknown_usage_logged = False
        self.held_until = 0.0  # nothing could begin before, as the endpoint was not there
        self.counts_usage = shadow.budget_tokens is not None or shadow.budget_cost is not None
        self._budget_use = BudgetUse(started)
        self.state = None if shadow.state is None else ShadowState(shadow.state)
        self._waiting: deque[Job] = deque()
        self._held: dict[Job, None] = {}  # in order: they wait for something else than a slot
        self._running = 0
        self._failures = 0  # in a row
        self._open_until: float | None = None
        self._probing = False

    def __repr__(self) -> str:
        return f"<Lane {self.shadow.name} in_flight={self._running} waiting={len(self._waiting)} {self.counts}>"

    def take_over(self, previous: "Lane") -> None:
        """Continue the state of the lane that this shadow had under the previous configuration.

        The budget's use stays while the shadow's address and its budget are unchanged, the IDs that were learnt while
        its address and its `state` are.
        """
        if self.endpoint.url == previous.endpoint.url and self.shadow.state == previous.shadow.state:
            self.state = previous.state
        if self._budget() == previous._budget():
            self._budget_use = previous._budget_use

    def _budget(self) -> tuple[str, int | None, float | None, int | None, float | None]:
        shadow = self.shadow
        return (
            self.endpoint.url,
            shadow.budget_requests,
            shadow.budget_duration,
            shadow.budget_tokens,
            shadow.budget_cost,
        )

    def restore_budget(self, requests: int, left: float | None, now: float, tokens: int = 0, cost: float = 0.0) -> None:
        """Continue the budget of an ended worker process. `left` is in seconds, None if the duration has no bound."""
        duration = self.shadow.budget_duration
        since = self._budget_use.since if duration is None or left is None else now - (duration - left)
        self._budget_use = BudgetUse(since, requests, tokens, cost)

    def spend(self, usage: Usage) -> bool:
        """Count what an answer took. Returns whether it says all that the budget has a bound for."""
        use, shadow = self._budget_use, self.shadow
        tokens, cost = usage.tokens, usage.cost
        if tokens is not None:
            use.tokens += tokens
        if cost is not None:
            use.cost += cost
        return (shadow.budget_tokens is None or tokens is not None) and (shadow.budget_cost is None or cost is not None)

    def statistics(self) -> LaneStatistics:
        breaker = "closed" if self._open_until is None else "probing" if self._probing else "open"
        duration = self.shadow.budget_duration
        return LaneStatistics(
            in_flight=self._running,
            waiting=len(self._waiting) + len(self._held),
            breaker=breaker,
            chosen=self.counts.chosen,
            begun=self._budget_use.requests,
            budget_until=None if duration is None else self._budget_use.since + duration,
            outcomes=dict(self.counts.outcomes),
            tokens=self._budget_use.tokens,
            cost=self._budget_use.cost,
        )

    def skip_reason(self, now: float) -> Outcome | None:
        """Why the lane does not take a request now; None if it does."""
        if (closed := self._closed(now)) is not None:
            return closed
        shadow = self.shadow
        if self._running + len(self._waiting) + len(self._held) >= shadow.in_flight + shadow.lane:
            return Outcome.LANE_FULL
        return None

    def is_open(self, now: float) -> bool:
        """Whether the shadow would be sent requests now, if there were room for them."""
        return self._closed(now) is None

    def hold(self, job: Job) -> None:
        """Keep a job that waits for something else than a slot."""
        self._held[job] = None

    def release(self, job: Job) -> bool:
        """Keep it no longer. Returns whether it was kept until now."""
        if job not in self._held:
            return False
        del self._held[job]
        return True

    def take(self, job: Job) -> bool:
        """Take a job, if `skip_reason` is None. True: begin it now; False: it waits for `next_job`."""
        if self._running < self.shadow.in_flight:
            self._running += 1
            return True
        self._waiting.append(job)
        return False

    def next_job(self) -> Job | None:
        """Remove and return the job that has waited longest, for the slot of one that ended; None if none waits."""
        return self._waiting.popleft() if self._waiting else None

    def free_slot(self) -> None:
        """Count one request less as under way."""
        self._running -= 1

    def begin(self, now: float, deadline: float) -> Outcome | None:
        """Count a job as begun and return None, or return why it cannot begin any more."""
        if now >= deadline and now >= self.held_until + self.shadow.timeout:
            return Outcome.TIMEOUT
        if (closed := self._closed(now)) is not None:
            return closed
        self._probing = self._open_until is not None
        self._budget_use.requests += 1
        return None

    def take_waiting(self) -> list[Job]:
        """Remove and return the jobs that wait."""
        jobs = [*self._waiting, *self._held]
        self._waiting.clear()
        self._held.clear()
        return jobs

    def update_breaker(self, outcome: Outcome, now: float) -> None:
        """Open or close the breaker: `failures` in a row open it for `pause`, then one request at a time is tried."""
        was_open = self._open_until is not None
        self._probing = False
        if outcome not in _BREAKER_FAILURES:
            self._failures = 0
            self._open_until = None
            if was_open:
                name = self.shadow.name
                _log.info("shadow %s answers again", name, extra={"event": "shadow_recovered", "shadow": name})
            return
        self._failures += 1
        if self._failures >= self.shadow.breaker_failures:
            self._open_until = now + self.shadow.breaker_pause
            if not was_open:
                _log.warning(
                    "shadow %s failed %d times in a row (last: %s): sending it nothing for %g s",
                    self.shadow.name,
                    self._failures,
                    outcome,
                    self.shadow.breaker_pause,
                    extra={
                        "event": "breaker_opened",
                        "shadow": self.shadow.name,
                        "outcome": outcome,
                        "count": self._failures,
                        "seconds": self.shadow.breaker_pause,
                    },
                )

    def _is_used_up(self) -> bool:
        """Whether the answers took as many tokens, or as much of the cost, as the budget has."""
        use, tokens, cost = self._budget_use, self.shadow.budget_tokens, self.shadow.budget_cost
        return (tokens is not None and use.tokens >= tokens) or (cost is not None and use.cost >= cost)

    def _closed(self, now: float) -> Outcome | None:
        """Why nothing is sent to the shadow now, neither new requests nor waiting ones; None if it is."""
        if self.paused:
            return Outcome.PAUSED
        if self.shadow.unusable is not None:
            return Outcome.UNUSABLE
        budget, duration = self.shadow.budget_requests, self.shadow.budget_duration
        if budget is not None and self._budget_use.requests >= budget:
            return Outcome.BUDGET_SPENT
        if duration is not None and now - self._budget_use.since >= duration:
            return Outcome.BUDGET_SPENT
        if self.counts_usage and self._is_used_up():
            return Outcome.BUDGET_SPENT
        if self._open_until is not None and (now < self._open_until or self._probing):
            return Outcome.BREAKER_OPEN
        return None
