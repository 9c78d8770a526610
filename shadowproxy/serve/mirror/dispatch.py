"""The shadows' side: offer them a request, bound everything, and settle each exchange exactly once.

The rules:

1. `offer` and `answered` never wait and never raise. What cannot be taken on is settled at once, with its reason.
2. Every shadow that a request is chosen for ends with one outcome. The deadline of `timeout` runs from the offer, over
   the wait in the lane and the whole answer, so every exchange settles.
3. A lane asks at most `in_flight` requests at once and keeps at most `lane` waiting, in order.
4. A leg needs no task: it is begun in the turn after its offer, so that live's request is written first, and goes on
   as its connection is told of bytes.
5. An exchange is settled when live's leg and every chosen shadow's are in: then it is appended to the journal, once,
   and its copies are given back.
"""

import asyncio
import logging
from collections.abc import Iterable
from types import TracebackType
from typing import Self

from shadowproxy.exchange import Exchange, Failure, LiveLeg, Outcome, Reply, Request, ShadowLeg, Skipped
from shadowproxy.serve.http1.deadline import Deadlines
from shadowproxy.serve.http1.fields import fields_weight
from shadowproxy.serve.http1.section import Section
from shadowproxy.serve.mirror.capture import EXCHANGE, Capture, Memory
from shadowproxy.serve.mirror.choosing import Choosing
from shadowproxy.serve.mirror.lane import Job, Lane, MirrorPlan, Unsettled
from shadowproxy.serve.mirror.leg import Leg
from shadowproxy.serve.mirror.pulse import Pulse
from shadowproxy.serve.policy.headers import section_for_shadow
from shadowproxy.serve.policy.payload import NotRead
from shadowproxy.serve.policy.query import remove_credentials
from shadowproxy.serve.telemetry.operator_log import Repeats, times_text

_WHY = {
    Outcome.OVERSIZE: "the request is longer than limits.capture",
    Outcome.OVERLOAD: "mirroring is shed while the proxy is short of time or memory",
    Outcome.LANE_FULL: "too many requests are waiting for this shadow",
    Outcome.BREAKER_OPEN: "the shadow failed too often in a row, it is left alone for a while",
    Outcome.BUDGET_SPENT: "the shadow has been asked as often, or as long, as its budget allows",
    Outcome.PAUSED: "an operator has paused it",
    Outcome.UNUSABLE: "this shadow's own settings cannot be used yet",
    Outcome.SHUTDOWN: "the proxy is stopping",
    Outcome.TIMEOUT: "its deadline passed while it waited in the lane",
}
_TOLD_OTHERWISE = frozenset({Outcome.BREAKER_OPEN, Outcome.PAUSED, Outcome.UNUSABLE, Outcome.SHUTDOWN})
"""These follow from what the operator was told already, or did."""

_log = logging.getLogger(__name__)


class Mirror:
    """Owns the legs that are under way; use as `async with`, and `drain` before leaving.

    `plan` is the one under which new exchanges begin; `adopt` changes it.
    """

    def __init__(self, plan: MirrorPlan, *, memory: Memory, loop_lag: float) -> None:
        self.plan = plan
        self.memory = memory
        self.pulse = Pulse(loop_lag)
        self.paused = False
        self.choosing = Choosing()
        self._repeats = Repeats()
        self._loop = asyncio.get_running_loop()
        self._offered: list[tuple[Lane, Job]] = []  # taken on in this turn, to begin in the next
        self._legs: dict[Lane, Deadlines[Leg]] = {}  # those that are under way
        self._running = 0  # places in lanes that are taken
        self._drained: asyncio.Event | None = None
        self._unsettled: dict[MirrorPlan, set[Unsettled]] = {plan: set()}
        self._over: dict[MirrorPlan, asyncio.Event] = {}
        self._stopping = False

    def __repr__(self) -> str:
        return f"<Mirror {self.lanes} unsettled={self.unsettled}>"

    async def __aenter__(self) -> Self:
        self.pulse.start()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, value: BaseException | None, traceback: TracebackType | None
    ) -> None:
        await self.drain(0)
        self.pulse.stop()

    @property
    def lanes(self) -> tuple[Lane, ...]:
        return self.plan.lanes

    @property
    def control(self) -> Lane | None:
        return self.plan.control

    @property
    def unsettled(self) -> int:
        return sum(map(len, self._unsettled.values()))

    async def drain(self, seconds: float) -> None:
        """Let the shadows finish for so long, then settle the rest as `shutdown`."""
        if self._running and seconds > 0:
            self._drained = self._drained or asyncio.Event()
            try:
                async with asyncio.timeout(seconds):
                    await self._drained.wait()
            except TimeoutError:
                pass  # what follows is for what is left
        self._stopping = True
        self._clear(self._every_lane(), Outcome.SHUTDOWN)
        self._begin_offered()  # that is, settle them
        for legs in self._legs.values():
            for leg in list(legs):
                leg.stop(Outcome.SHUTDOWN, _WHY[Outcome.SHUTDOWN])

    def adopt(self, plan: MirrorPlan) -> None:
        """Begin new exchanges under `plan`. Those under way end as they began; `wait_ended` tells when they have."""
        before = self.plan
        if plan is before:
            return
        self._unsettled.setdefault(plan, set())
        self._over[before] = asyncio.Event()
        self.plan = plan
        self.choosing.start_over()
        self._end_if_settled(before)

    async def wait_ended(self, plan: MirrorPlan) -> None:
        """Until the last exchange that began under a plan, which another has followed, is settled."""
        if (ended := self._over.get(plan)) is not None:
            await ended.wait()

    def pause(self, name: str | None = None) -> None:
        """Ask this shadow nothing until `resume`; without a name, ask none. What waits is settled as `paused`.

        Raises KeyError for a name that no lane has.
        """
        if name is None:
            self.paused = True
            self._clear(self._every_lane(), Outcome.PAUSED)
            _log.warning("all shadows are paused", extra={"event": "paused"})
            return
        self.lane(name)
        lanes = [lane for lane in self._every_lane() if lane.shadow.name == name]
        for lane in lanes:
            lane.paused = True
        self._clear(lanes, Outcome.PAUSED)
        _log.warning("shadow %s is paused", name, extra={"event": "paused", "shadow": name})

    def resume(self, name: str | None = None) -> None:
        """End the pause of this shadow, or the one of all. Raises KeyError for a name that no lane has."""
        if name is None:
            self.paused = False
            _log.info("the pause of all shadows is over", extra={"event": "resumed"})
        else:
            self.lane(name).paused = False
            _log.info("the pause of shadow %s is over", name, extra={"event": "resumed", "shadow": name})

    def set_percent(self, name: str, percent: float) -> None:
        """Raises KeyError for a name that no lane has."""
        self.lane(name).percent = percent
        extra = {"event": "percent_set", "shadow": name, "percent": percent}
        _log.info("shadow %s is asked %g %% of the requests from now on", name, percent, extra=extra)

    def lane(self, name: str) -> Lane:
        """The lane of that name, `control` among them. Raises KeyError where there is none."""
        return {lane.shadow.name: lane for lane in self.plan.all_lanes}[name]

    def open(self, section: Section | None = None) -> Unsettled:
        """Begin an exchange. `section` is what the request's fields will begin with: the rest are the proxy's own."""
        plan = self.plan
        unsettled = Unsettled(plan, section)
        self._unsettled[plan].add(unsettled)
        return unsettled

    def capture(self, unsettled: Unsettled) -> Capture:
        """A copy that lives as long as the exchange."""
        capture = Capture(unsettled.plan.capture, self.memory)
        unsettled.captures.append(capture)
        return capture

    def _held(self, unsettled: Unsettled) -> Capture:
        """The copy that what is held besides bodies is counted with: the request's, which is whole by then."""
        return unsettled.captures[0] if unsettled.captures else self.capture(unsettled)

    def offer(self, unsettled: Unsettled, request: Request, unfit: Outcome | None = None) -> None:
        """Ask every shadow that `request`, of end-to-end fields, is chosen for, or settle it as `unfit`.

        Returns at once.
        """
        unsettled.request = request
        try:
            self._choose(unsettled, request, unfit)
        except Exception:  # noqa: BLE001  # rule 1, whatever a request holds: the caller's answer comes first
            extra = {"event": "defect", "request_id": request.id}
            _log.exception("a defect in the proxy, choosing shadows for request %s", request.id, extra=extra)

    def _choose(self, unsettled: Unsettled, request: Request, unfit: Outcome | None) -> None:
        now = self._loop.time()
        for lane in self.choosing.lanes(unsettled.plan, request):
            self._offer(lane, unsettled, request, unfit, now)

    def answered(self, unsettled: Unsettled, request: Request, live: LiveLeg) -> None:
        """Live's leg is in. `request` is the one that was offered, or what came of one that never was whole."""
        unsettled.request = request
        unsettled.live = live
        if unsettled.awaited and (reply := live.reply if isinstance(live, Failure) else live) is not None:
            self._held(unsettled).hold_anyway(fields_weight(reply.fields))
        self._settle_if_complete(unsettled)

    def _offer(self, lane: Lane, unsettled: Unsettled, request: Request, unfit: Outcome | None, now: float) -> None:
        lane.counts.chosen += 1
        unsettled.awaited += 1
        refusal = unfit or self._refusal() or lane.skip_reason(now) or self._crowded(unsettled, request)
        if refusal is not None:
            self._settle(unsettled, lane, _skipped(refusal, lane))
            return
        job = Job(unsettled, request, now + lane.shadow.timeout)
        if lane.take(job):
            self._running += 1
            if not self._offered:
                self._loop.call_soon(self._begin_offered)
            self._offered.append((lane, job))

    def _refusal(self) -> Outcome | None:
        """Why no shadow is asked now, if none is."""
        return self._not_now() or (Outcome.OVERLOAD if self.pulse.late else None)

    def _not_now(self) -> Outcome | None:
        """Why nothing is begun now, though it was taken on, if nothing is."""
        if self._stopping:
            return Outcome.SHUTDOWN
        return Outcome.PAUSED if self.paused else None

    def _crowded(self, unsettled: Unsettled, request: Request) -> Outcome | None:
        """The first lane that takes a request on keeps it, with its header fields, until all have settled."""
        if not unsettled.mirrored:
            section = unsettled.section
            weight = fields_weight(request.fields) if section is None else section.weight
            besides = EXCHANGE + len(request.target) + weight
            unsettled.mirrored = self._held(unsettled).hold(besides)
        return None if unsettled.mirrored else Outcome.OVERLOAD

    def _begin_offered(self) -> None:
        offered, self._offered = self._offered, []
        for lane, job in offered:
            if not self._begin(lane, job):
                self._go_on(lane)

    def _go_on(self, lane: Lane) -> None:
        """A place in the lane is free: begin what has waited longest."""
        while (job := lane.next_job()) is not None:
            if self._begin(lane, job):
                return
        lane.free_slot()
        self._running -= 1
        if not self._running and self._drained is not None:
            self._drained.set()
            self._drained = None

    def _begin(self, lane: Lane, job: Job) -> bool:
        """Ask for a job whose turn it is; False where that has settled it already."""
        not_begun = self._not_now() or lane.begin(self._loop.time(), job.deadline)
        if not_begun is not None:
            self._settle(job.unsettled, lane, _skipped(not_begun, lane))
            return False
        leg = Leg(lane, job, self.capture(job.unsettled), self._ended)
        if (legs := self._legs.get(lane)) is None:
            legs = self._legs[lane] = Deadlines(self._expire)
        legs.set(leg, job.deadline)
        try:
            self._ask(leg, lane, job.request)
        except Exception as error:  # noqa: BLE001  # not swallowed: it is the leg's outcome, and told of
            # In a later turn: at once it would begin what waits, from within itself, and that may end the same way.
            self._loop.call_soon(leg.defect, error)
        return True

    def _ask(self, leg: Leg, lane: Lane, request: Request) -> None:
        shadow, came = lane.shadow, leg.job.unsettled.section
        own = request.fields[len(came.fields) :] if came is not None else ()
        section, fields, leg.held_back = section_for_shadow(
            came or Section(request.fields),
            own,
            shadow.name,
            credentials=shadow.forward_credentials,
            record=request.record,
        )
        target = request.target
        if not shadow.forward_credentials:
            target = remove_credentials(target)
            leg.held_back = leg.held_back or target is not request.target
        body = request.body
        try:
            if shadow.rewrite.values:
                fields, body = shadow.rewrite.message([*section.fields, *fields] if section else fields, body)
                section = None
        except NotRead as why:
            if not lane.told_of_rewrite:
                lane.told_of_rewrite = True
                _log.warning(
                    "shadow %s is sent a request as it came: shadows.%s.rewrite.json cannot change it, for %s",
                    shadow.name,
                    shadow.name,
                    why,
                    extra={"event": "not_rewritten", "shadow": shadow.name, "request_id": request.id},
                )
        lane.endpoint.begin(leg, request.method, shadow.rewrite.target(target), fields, body, section)

    def _expire(self, leg: Leg) -> None:
        leg.stop(Outcome.TIMEOUT, f"no whole answer within {leg.lane.shadow.timeout:g} s")

    def _ended(self, leg: Leg, came: Reply | Failure) -> None:
        """A leg that was under way is over: count it, settle it, and go on with what waits."""
        lane, job = leg.lane, leg.job
        self._legs[lane].drop(leg)
        if leg.defect_met is not None:
            name, id = lane.shadow.name, job.request.id
            extra = {"event": "defect", "shadow": name, "request_id": id}
            words = "a defect in the proxy, asking shadow %s for request %s"
            _log.error(words, name, id, extra=extra, exc_info=leg.defect_met)
        outcome = came.outcome if isinstance(came, Failure) else Outcome.OK
        lane.counts.times.add(came.total_ms / 1000)
        lane.counts.retries += leg.sent_again
        lane.update_breaker(outcome, self._loop.time())
        if leg.held_back and isinstance(came, Reply) and came.status in (401, 403) and not lane.told_of_credentials:
            lane.told_of_credentials = True
            _log.warning(
                "shadow %s answered %d to a request whose credentials were held back; "
                "shadows.%s.forward_credentials: true would send them",
                lane.shadow.name,
                came.status,
                lane.shadow.name,
                extra={"event": "credentials_held_back", "shadow": lane.shadow.name, "status": came.status},
            )
        self._settle(job.unsettled, lane, came)
        self._go_on(lane)

    def _settle(self, unsettled: Unsettled, lane: Lane, leg: ShadowLeg) -> None:
        lane.counts.outcomes[Outcome.OK if isinstance(leg, Reply) else leg.outcome] += 1
        if not isinstance(leg, Reply):
            self._tell(lane.shadow.name, leg, unsettled.request)
        if lane is unsettled.plan.control:
            unsettled.control = leg
        else:
            unsettled.shadows[lane.shadow.name] = leg
        unsettled.awaited -= 1
        self._settle_if_complete(unsettled)

    def _tell(self, name: str, leg: Failure | Skipped, request: Request | None) -> None:
        """Every one at the level of debugging; above, those of its kind that are worth a line."""
        skipped = isinstance(leg, Skipped)
        kind, event = (
            ("was not asked", {"event": "shadow_not_asked"}) if skipped else ("failed", {"event": "shadow_failed"})
        )
        count = 0 if leg.outcome in _TOLD_OTHERWISE else self._repeats.worth_logging(name, kind, leg.outcome)
        level = logging.WARNING if count else logging.DEBUG
        if not _log.isEnabledFor(level):
            return
        id = request.id if request is not None else None
        extra = {
            **event,
            "shadow": name,
            "outcome": leg.outcome,
            "count": count,
            "error": leg.error,
            "request_id": id,
        }
        _log.log(
            level,
            "shadow %s %s%s (%s): %s; request %s",
            name,
            kind,
            times_text(count),
            leg.outcome,
            leg.error,
            id,
            extra=extra,
        )

    def _settle_if_complete(self, unsettled: Unsettled) -> None:
        if unsettled.live is None or unsettled.awaited or unsettled.request is None:
            return
        plan = unsettled.plan
        self._unsettled[plan].remove(unsettled)
        plan.append(Exchange(unsettled.request, unsettled.live, unsettled.shadows, unsettled.control))
        for capture in unsettled.captures:
            capture.release()
        self._end_if_settled(plan)

    def _every_lane(self) -> list[Lane]:
        """The lanes of every plan under which something is still under way."""
        return [lane for plan in self._unsettled for lane in plan.all_lanes]

    def _clear(self, lanes: Iterable[Lane], outcome: Outcome) -> None:
        """Settle what waits in these lanes."""
        for lane in lanes:
            for job in lane.take_waiting():
                self._settle(job.unsettled, lane, _skipped(outcome, lane))

    def _end_if_settled(self, plan: MirrorPlan) -> None:
        if plan is not self.plan and not self._unsettled[plan]:
            del self._unsettled[plan]
            self._over.pop(plan).set()
            lanes = frozenset(self._every_lane())
            self._legs = {lane: legs for lane, legs in self._legs.items() if lane in lanes}


def _skipped(outcome: Outcome, lane: Lane) -> Skipped:
    why = lane.shadow.unusable if outcome is Outcome.UNUSABLE else None
    return Skipped(outcome, _WHY[outcome] if why is None else f"{_WHY[outcome]}: {why}")
