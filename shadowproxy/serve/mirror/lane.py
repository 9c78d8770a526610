"""One shadow's lane: what waits, what is asked now, and whether more is taken on. Decides, and does no I/O.

A lane belongs to one configuration; what is counted of a shadow, its `ShadowCounts`,
goes by its name and outlives reloads.
"""

import logging
from collections import deque
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from time import perf_counter

from shadowproxy.exchange import Exchange, LiveLeg, Outcome, Request, ShadowLeg
from shadowproxy.serve.http1.section import Section
from shadowproxy.serve.mirror.capture import Capture
from shadowproxy.serve.mirror.shadow import ShadowCounts, ShadowEndpoint, ShadowSettings
from shadowproxy.serve.policy.sampling import Position

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


@dataclass(slots=True)
class Spent:
    """What is used of a budget: requests begun, and the loop's time when it began to run."""

    since: float
    requests: int = 0


@dataclass(frozen=True, slots=True, eq=False)
class MirrorPlan:
    """Who is asked, under one configuration. `append` takes a settled exchange and never waits.

    `position` is a request's place in [0, 100) for sampling, `control_position` its place for the control arm;
    `capture` is the most bytes that are copied of one body. `reads_bodies`: one of these, or a lane's match, asks for
    what a body says. `sampling_key` is the configuration's.
    """

    lanes: tuple["Lane", ...]
    control: "Lane | None"
    append: Callable[[Exchange], object]
    position: Position
    control_position: Position
    capture: int
    reads_bodies: bool = False
    sampling_key: str = "request_id"

    @property
    def all_lanes(self) -> tuple["Lane", ...]:
        return (*self.lanes, self.control) if self.control else self.lanes


class Unsettled:
    """An exchange of which some leg is still to come. It ends under the plan that it began with.

    `section` is the request's fields as far as they are the caller's; None where all of them may be.
    """

    __slots__ = (
        "awaited",
        "captures",
        "control",
        "live",
        "mirrored",
        "opened_at",
        "plan",
        "request",
        "section",
        "shadows",
    )

    def __init__(self, plan: MirrorPlan, section: Section | None = None) -> None:
        self.plan = plan
        self.section = section
        self.opened_at = perf_counter()
        self.request: Request | None = None
        self.live: LiveLeg | None = None
        self.shadows: dict[str, ShadowLeg] = {}
        self.control: ShadowLeg | None = None
        self.awaited = 0
        self.mirrored = False  # some lane took it on
        self.captures: list[Capture] = []

    def __repr__(self) -> str:
        return f"<Unsettled {self.request and self.request.id} live={self.live is not None} awaited={self.awaited}>"


class Job:
    """A request for one lane. `deadline` is the loop's time."""

    __slots__ = ("deadline", "request", "unsettled")

    def __init__(self, unsettled: Unsettled, request: Request, deadline: float) -> None:
        self.unsettled = unsettled
        self.request = request
        self.deadline = deadline


@dataclass(frozen=True, slots=True)
class LaneStatistics:
    """How a lane stands. `breaker` is closed, open or probing; `outcomes` counts the settled legs of `chosen`.

    `begun` is how often its shadow was asked within the present budget, which ends at `budget_until`, the loop's time.
    """

    in_flight: int
    waiting: int
    breaker: str
    chosen: int
    begun: int
    budget_until: float | None
    outcomes: Mapping[Outcome, int]


class Lane:
    """One shadow's queue and state. Times are the loop's. `percent` and `paused` are the operator's to change."""

    def __init__(self, shadow: ShadowSettings, endpoint: ShadowEndpoint, counts: ShadowCounts, started: float) -> None:
        self.shadow = shadow
        self.endpoint = endpoint
        self.counts = counts
        self.percent = shadow.percent
        self.paused = False
        self.told_of_credentials = False
        self.told_of_rewrite = False
        self.told_of_method = False
        self.told_of_unread = False
        self._spent = Spent(started)
        self._waiting: deque[Job] = deque()
        self._running = 0
        self._failures = 0  # in a row
        self._open_until: float | None = None
        self._probing = False

    def __repr__(self) -> str:
        return f"<Lane {self.shadow.name} in_flight={self._running} waiting={len(self._waiting)} {self.counts}>"

    def take_over(self, before: "Lane") -> None:
        """Take over from the lane that this shadow had under the configuration before.

        A pause stays: nothing but an operator ends it. A percent set at run time stays while the file says the same as
        when it was set, and what is used of a budget while the shadow's address and its budget are the same.
        """
        self.paused = before.paused
        mine, its = self.shadow, before.shadow
        if mine.percent == its.percent:
            self.percent = before.percent
        if (self.endpoint.url, mine.budget_requests, mine.budget_duration) == (
            before.endpoint.url,
            its.budget_requests,
            its.budget_duration,
        ):
            self._spent = before._spent

    def restore_budget(self, requests: int, left: float | None, now: float) -> None:
        """Count as used what a process before this one had used: `left` are seconds, None where they are unbounded."""
        duration = self.shadow.budget_duration
        since = self._spent.since if duration is None or left is None else now - (duration - left)
        self._spent = Spent(since, requests)

    def statistics(self) -> LaneStatistics:
        breaker = "closed" if self._open_until is None else "probing" if self._probing else "open"
        duration = self.shadow.budget_duration
        return LaneStatistics(
            in_flight=self._running,
            waiting=len(self._waiting),
            breaker=breaker,
            chosen=self.counts.chosen,
            begun=self._spent.requests,
            budget_until=None if duration is None else self._spent.since + duration,
            outcomes=dict(self.counts.outcomes),
        )

    def skip_reason(self, now: float) -> Outcome | None:
        """Why a request offered now is not taken on, if it is not."""
        if (shut := self._is_shut(now)) is not None:
            return shut
        if self._running >= self.shadow.in_flight and len(self._waiting) >= self.shadow.lane:
            return Outcome.LANE_FULL
        return None

    def take(self, job: Job) -> bool:
        """Take on a job that was not refused. True: begin it now; False: it waits for `next_job`."""
        if self._running < self.shadow.in_flight:
            self._running += 1
            return True
        self._waiting.append(job)
        return False

    def next_job(self) -> Job | None:
        """Remove and return the job that has waited longest, None where none waits. It keeps the slot of its caller."""
        return self._waiting.popleft() if self._waiting else None

    def free_slot(self) -> None:
        """One request fewer is under way."""
        self._running -= 1

    def begin(self, now: float, deadline: float) -> Outcome | None:
        """Why a job is not begun after all, if it is not; else it counts as begun."""
        if now >= deadline:
            return Outcome.TIMEOUT
        if (shut := self._is_shut(now)) is not None:
            return shut
        self._probing = self._open_until is not None
        self._spent.requests += 1
        return None

    def take_waiting(self) -> list[Job]:
        jobs = list(self._waiting)
        self._waiting.clear()
        return jobs

    def update_breaker(self, outcome: Outcome, now: float) -> None:
        """Move the breaker: `failures` in a row open it for `pause`, then one request at a time may close it again."""
        was_open = self._open_until is not None
        self._probing = False
        if outcome not in _COUNTS_AGAINST:
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
                    "shadow %s failed %d times in a row (last: %s), it is left alone for %g s",
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

    def _is_shut(self, now: float) -> Outcome | None:
        """Why the shadow is asked nothing now, neither what is offered nor what has waited."""
        if self.paused:
            return Outcome.PAUSED
        if self.shadow.unusable is not None:
            return Outcome.UNUSABLE
        budget, duration = self.shadow.budget_requests, self.shadow.budget_duration
        if budget is not None and self._spent.requests >= budget:
            return Outcome.BUDGET_SPENT
        if duration is not None and now - self._spent.since >= duration:
            return Outcome.BUDGET_SPENT
        if self._open_until is not None and (now < self._open_until or self._probing):
            return Outcome.BREAKER_OPEN
        return None
