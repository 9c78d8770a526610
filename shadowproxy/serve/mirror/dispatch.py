"""The shadows' side: offer them requests, keep everything within bounds, and settle each exchange exactly once.

The rules:

1. `offer` and `end_live` never wait and never raise. A request that a lane cannot take is settled at once, with the
   reason.
2. Every shadow that a request is chosen for ends with one outcome. The deadline of `timeout` runs from the offer, over
   the wait in the lane and the whole answer, so every exchange settles. It stands still while a candidate's process
   is started.
3. A lane has at most `in_flight` requests under way and keeps at most `lane` waiting, in order.
4. A leg needs no task. It begins in the turn after its offer, so that live's request is written first; the bytes that
   its connection receives carry it on.
5. A request to a stateful shadow that carries one of live's IDs waits, within the bound of the lane and its deadline,
   until the shadow's own is known, and until what was over before for live is over for the shadow. Others pass it by.
   Without the shadow's own it is not sent: `state_unknown`.
6. An exchange is settled when live and every chosen shadow have an outcome: then it is appended to the journal, once,
   and the memory of its copies is given back.
"""

import asyncio
import logging
from collections.abc import Iterable
from types import TracebackType
from typing import Self

from shadowproxy.exchange import CALL, Exchange, Failure, Field, LiveLeg, Outcome, Reply, Request, ShadowLeg, Skipped
from shadowproxy.serve.account import Memory
from shadowproxy.serve.http1.deadline import Deadlines
from shadowproxy.serve.http1.fields import fields_weight
from shadowproxy.serve.http1.section import Section
from shadowproxy.serve.mirror.capture import EXCHANGE, Capture
from shadowproxy.serve.mirror.choosing import Chooser
from shadowproxy.serve.mirror.lane import Job, Lane, MirrorPlan, UnsettledExchange
from shadowproxy.serve.mirror.leg import Leg
from shadowproxy.serve.mirror.pulse import Pulse
from shadowproxy.serve.mirror.sessions import WHY_UNKNOWN, Sessions
from shadowproxy.serve.mirror.settled import shortened
from shadowproxy.serve.mirror.warnings import ShadowWarnings
from shadowproxy.serve.policy.arms import Arms
from shadowproxy.serve.policy.headers import fields_for_shadow, section_for_shadow
from shadowproxy.serve.policy.payload import NotRead
from shadowproxy.serve.policy.query import remove_credentials
from shadowproxy.serve.policy.spending import spent_by
from shadowproxy.serve.state.translating import target_without_credentials, translate

_WHY = {
    Outcome.OVERSIZE: "the request is longer than limits.capture",
    Outcome.OVERLOAD: "mirroring is shed while the proxy is short of time or memory",
    Outcome.LANE_FULL: "too many requests are waiting for this shadow",
    Outcome.BREAKER_OPEN: "the shadow failed too often in a row, it is left alone for a while",
    Outcome.BUDGET_SPENT: "the shadow's budget of requests, time, tokens or cost is used up",
    Outcome.PAUSED: "an operator has paused it",
    Outcome.UNUSABLE: "this shadow's own settings cannot be used yet",
    Outcome.STATE_UNKNOWN: WHY_UNKNOWN,
    Outcome.SHUTDOWN: "the proxy is stopping",
    Outcome.TIMEOUT: "its deadline passed while it waited in the lane",
}
"""Why a shadow was sent nothing, as records say it."""

_log = logging.getLogger(__name__)


class Mirror:
    """Owns the legs that are under way; use as `async with`, and `drain` before leaving.

    New exchanges begin under `plan`; `adopt` changes it.
    """

    def __init__(self, plan: MirrorPlan, *, memory: Memory, loop_lag: float) -> None:
        self.plan = plan
        self.memory = memory
        self.pulse = Pulse(loop_lag)
        self.paused = False
        self.chooser = Chooser()
        self._warnings = ShadowWarnings()
        self._loop = asyncio.get_running_loop()
        self._offered: list[tuple[Lane, Job]] = []  # taken in this turn, to begin in the next
        self._sessions = Sessions(self._take, self._settle)
        self._legs: dict[Lane, Deadlines[Leg]] = {}  # those that are under way
        self._running = 0  # slots of lanes that are taken
        self._drained: asyncio.Event | None = None
        self._unsettled: dict[MirrorPlan, set[UnsettledExchange]] = {plan: set()}
        self._ended: dict[MirrorPlan, asyncio.Event] = {}  # for each plan that another has followed
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
        """How many exchanges are not settled yet."""
        return sum(map(len, self._unsettled.values()))

    def unsettled_exchanges(self) -> list[UnsettledExchange]:
        """Those that are not settled yet, in any order."""
        return [exchange for exchanges in self._unsettled.values() for exchange in exchanges]

    # What the sidecar and operators do.

    async def drain(self, seconds: float) -> None:
        """Let the legs under way finish for at most `seconds`, then settle the rest as `shutdown`."""
        if self._running and seconds > 0:
            self._drained = self._drained or asyncio.Event()
            try:
                async with asyncio.timeout(seconds):
                    await self._drained.wait()
            except TimeoutError:
                pass  # the rest is settled below
        self._stopping = True
        self._skip_waiting(self._every_lane(), Outcome.SHUTDOWN)
        self._begin_offered()  # settles them: nothing begins while stopping
        for legs in self._legs.values():
            for leg in list(legs):
                leg.stop(Outcome.SHUTDOWN, _WHY[Outcome.SHUTDOWN])

    def shed(self) -> bool:
        """Give up the copies that wait for shadows, or those of legs under way if none wait. Callers need the memory.

        Returns whether there were any. What is settled goes to the recorder, so its memory is free a little later.
        """
        lanes = self._every_lane()
        if any(lane.statistics().waiting for lane in lanes):
            self._skip_waiting(lanes, Outcome.OVERLOAD)
            return True
        under_way = [leg for legs in self._legs.values() for leg in legs]
        for leg in under_way:
            leg.stop(Outcome.OVERLOAD, _WHY[Outcome.OVERLOAD])
        return bool(under_way)

    def adopt(self, plan: MirrorPlan, moving: Iterable[UnsettledExchange] = ()) -> None:
        """Begin new exchanges under `plan`. Those under way end under theirs; `wait_ended` waits for them.

        `moving` go on under the new one: they are sent to no shadow, and may take hours.
        """
        before = self.plan
        if plan is before:
            return
        unsettled = self._unsettled.setdefault(plan, set())
        for exchange in moving:
            self._unsettled[exchange.plan].remove(exchange)
            exchange.plan = plan
            unsettled.add(exchange)
        self._ended[before] = asyncio.Event()
        self.plan = plan
        self.chooser.start_over()
        self._end_plan_if_settled(before)

    async def wait_ended(self, plan: MirrorPlan) -> None:
        """Wait until the last exchange that began under `plan`, which another plan has followed, is settled."""
        if (ended := self._ended.get(plan)) is not None:
            await ended.wait()

    def pause(self, name: str | None = None) -> None:
        """Send this shadow nothing until `resume`; without a name, send none anything. Waiting requests are settled.

        Raises KeyError if no lane has that name.
        """
        if name is None:
            self.paused = True
            self._skip_waiting(self._every_lane(), Outcome.PAUSED)
            _log.warning("all shadows are paused", extra={"event": "paused"})
            return
        self.lane(name)
        lanes = [lane for lane in self._every_lane() if lane.shadow.name == name]
        for lane in lanes:
            lane.paused = True
        self._skip_waiting(lanes, Outcome.PAUSED)
        _log.warning("shadow %s is paused", name, extra={"event": "paused", "shadow": name})

    def resume(self, name: str | None = None) -> None:
        """End the pause of this shadow, or the pause of all. Raises KeyError if no lane has that name."""
        if name is None:
            self.paused = False
            _log.info("the pause of all shadows is over", extra={"event": "resumed"})
        else:
            self.lane(name).paused = False
            _log.info("the pause of shadow %s is over", name, extra={"event": "resumed", "shadow": name})

    def set_percent(self, name: str, percent: float) -> None:
        """Raises KeyError if no lane has that name."""
        self.lane(name).percent = percent
        extra = {"event": "percent_set", "shadow": name, "percent": percent}
        _log.info("from now on shadow %s gets %g %% of the requests", name, percent, extra=extra)

    def lane(self, name: str) -> Lane:
        """The lane of that name, the control's included. Raises KeyError if no lane has that name."""
        return {lane.shadow.name: lane for lane in self.plan.all_lanes}[name]

    # What the live path does with an exchange: open it, offer its request, end its live leg.

    def open(self, exchange: UnsettledExchange) -> None:
        """Count `exchange`, whose plan is the present one, as unsettled."""
        self._unsettled[exchange.plan].add(exchange)

    def discard(self, exchange: UnsettledExchange) -> None:
        """Forget an exchange that was opened and never offered: its request is rejected, and has no record."""
        self._forget(exchange)

    def offer(
        self,
        exchange: UnsettledExchange,
        request: Request,
        unfit: Outcome | None = None,
        why: str | None = None,
    ) -> None:
        """Mirror `request`, which has end-to-end fields only, to every shadow that it is chosen for.

        With `unfit` it cannot be mirrored, and each of these shadows gets that outcome. `why` says it where the
        outcome's own words do not. If `request` has less of the
        body than was copied, shadows are sent what was copied.
        """
        exchange.request = request
        try:
            now = self._loop.time()
            held_out: list[Lane] = []
            lanes = self.chooser.choose(exchange.plan, request, held_out)
            if (only := exchange.only) is not None:
                lanes = [lane for lane in lanes if lane.shadow.name in only]
                held_out = [lane for lane in held_out if lane.shadow.name in only]
            if exchange.plan.hold_out_position is not None and unfit is None:
                self._note_arms(exchange, lanes, held_out, now)
            if exchange.plan.keeps_state:
                exchange.watch(request)
            if lanes and unfit is None and len(request.body) < exchange.request_body.kept:
                request = exchange.request = request._replace(body=exchange.request_body.body)
            for lane in lanes:
                self._offer(lane, exchange, request, unfit, why, now)
        except Exception:  # noqa: BLE001  # rule 1, whatever a request holds: the caller's answer comes first
            extra = {"event": "defect", "request_id": request.id}
            _log.exception("a defect in the proxy while choosing shadows for request %s", request.id, extra=extra)

    def end_live(self, exchange: UnsettledExchange, request: Request, live: LiveLeg) -> None:
        """Take live's outcome. `request` is the one that was offered, or the received part of one that never was."""
        exchange.request = request
        exchange.live = live
        if exchange.arms is not None and exchange.tunnel is None:
            _count_live(exchange.arms, live)
        if exchange.watches is not None:
            for lane, watch in exchange.watches.items():
                watch.live_end(request, live)
                if watch.job is None:  # this shadow does not get the request, or its leg is over
                    watch.own_end(exchange.shadows.get(lane.shadow.name))
        if exchange.awaited and (reply := live.reply if isinstance(live, Failure) else live) is not None:
            exchange.request_body.hold_anyway(fields_weight(reply.fields))
        self._settle_if_complete(exchange)

    # From an offered request to the outcome of its leg.

    def _offer(
        self,
        lane: Lane,
        exchange: UnsettledExchange,
        request: Request,
        unfit: Outcome | None,
        why: str | None,
        now: float,
    ) -> None:
        lane.counts.chosen += 1
        exchange.awaited += 1
        reason = unfit or self._shed_reason() or lane.skip_reason(now) or self._hold_memory(exchange, request)
        if reason is not None:
            skipped = _skipped(reason, lane) if unfit is None or why is None else Skipped(unfit, why)
            self._settle(exchange, lane, skipped)
            return
        job = Job(exchange, request, now + lane.shadow.timeout)
        if lane.state is not None:
            exchange.watch(request)[lane].job = job
        self._take(lane, job)

    def _note_arms(
        self, exchange: UnsettledExchange, chosen: Iterable[Lane], held_out: Iterable[Lane], now: float
    ) -> None:
        """Have live's time count in the arms of ramps, wherever a shadow would be sent requests now.

        Also where its lane is full: a request of a busy time counts in its arm whatever becomes of its copy, or the
        arms would differ in more than chance.
        """
        if self._halt_reason() is not None:
            return
        arms = [(lane.counts.arms, True) for lane in chosen if lane.hold_out > 0.0 and lane.is_open(now)]
        arms += [(lane.counts.arms, False) for lane in held_out if lane.is_open(now)]
        if arms:
            exchange.arms = arms

    def _take(self, lane: Lane, job: Job) -> None:
        """Begin a job in the next turn, or have it wait for a slot."""
        if lane.take(job):
            self._running += 1
            if not self._offered:
                self._loop.call_soon(self._begin_offered)
            self._offered.append((lane, job))

    def _shed_reason(self) -> Outcome | None:
        """Why no lane takes a request now; None if lanes do."""
        return self._halt_reason() or (Outcome.OVERLOAD if self.pulse.late else None)

    def _halt_reason(self) -> Outcome | None:
        """Why no leg begins now, not even that of a request that a lane has taken; None if legs do."""
        if self._stopping:
            return Outcome.SHUTDOWN
        return Outcome.PAUSED if self.paused else None

    def _hold_memory(self, exchange: UnsettledExchange, request: Request) -> Outcome | None:
        """Take memory for the request and its fields, once for all lanes: it is kept until the exchange is settled."""
        if not exchange.mirrored:
            section = exchange.section
            weight = fields_weight(request.fields) if section is None else section.weight
            exchange.mirrored = exchange.request_body.hold(EXCHANGE + len(request.target) + weight)
        return None if exchange.mirrored else Outcome.OVERLOAD

    def _begin_offered(self) -> None:
        offered, self._offered = self._offered, []
        for lane, job in offered:
            if not self._begin(lane, job):
                self._begin_next(lane)

    def _begin_next(self, lane: Lane) -> None:
        """Use the slot of a job that ended for the one that has waited longest, or free it."""
        while (job := lane.next_job()) is not None:
            if self._begin(lane, job):
                return
        lane.free_slot()
        self._running -= 1
        if not self._running and self._drained is not None:
            self._drained.set()
            self._drained = None

    def _begin(self, lane: Lane, job: Job) -> bool:
        """Begin a job's leg; False if it does not begin now: the job is settled, or held."""
        reason = self._halt_reason()
        if reason is None and lane.state is not None and not self._sessions.may_begin(lane, job):
            return False
        reason = reason or lane.begin(self._loop.time(), job.deadline)
        if reason is not None:
            self._settle(job.exchange, lane, _skipped(reason, lane))
            return False
        capture = Capture(job.exchange.plan.capture, self.memory)
        job.exchange.captures.append(capture)
        leg = Leg(lane, job, capture, self._end_leg)
        if (legs := self._legs.get(lane)) is None:
            legs = self._legs[lane] = Deadlines(self._expire)
        legs.set(leg, job.deadline)
        try:
            self._send(leg, lane, job.request)
        except Exception as error:  # noqa: BLE001  # not swallowed: it becomes the leg's outcome, and is logged
            # In a later turn: at once it would begin the next job from within itself, and that may end the same way.
            self._loop.call_soon(leg.fail_by_defect, error)
        return True

    def _send(self, leg: Leg, lane: Lane, request: Request) -> None:
        """Send the request as this shadow gets it: without credentials, and rewritten, where the settings say so."""
        if leg.job.found.occurrences:
            self._send_translated(leg, lane, request)
            return
        shadow, callers = lane.shadow, leg.job.exchange.section
        own = request.fields[len(callers.fields) :] if callers is not None else ()
        section, fields, leg.held_back = section_for_shadow(
            callers or Section(request.fields),
            own,
            shadow.name,
            credentials=shadow.forward_credentials,
            record=request.record,
        )
        target = request.target
        if not shadow.forward_credentials:
            target = remove_credentials(target)
            leg.held_back = leg.held_back or target != request.target
        self._send_rewritten(leg, lane, target, section, fields, request.body)

    def _send_translated(self, leg: Leg, lane: Lane, request: Request) -> None:
        """The same with the shadow's own IDs in place of live's. These are not held back, whatever their names."""
        shadow = lane.shadow
        credentials = shadow.forward_credentials
        translation = translate(request, leg.job.found, credentials=credentials)
        leg.translated = translation.translated
        lane.counts.translated += bool(translation.translated)
        fields, leg.held_back = fields_for_shadow(
            request.fields if translation.fields is None else translation.fields,
            shadow.name,
            credentials=credentials,
            record=request.record,
        )
        target = translation.target if credentials else target_without_credentials(translation)
        body = request.body if translation.body is None else translation.body
        self._send_rewritten(leg, lane, target, None, [*fields, *translation.own], body)

    def _send_rewritten(
        self, leg: Leg, lane: Lane, target: bytes, section: Section | None, fields: list[Field], body: bytes
    ) -> None:
        """Send what is left of a request, rewritten where the settings say so."""
        shadow, request = lane.shadow, leg.job.request
        try:
            if shadow.rewrite.values:
                fields, body = shadow.rewrite.apply_values([*section.fields, *fields] if section else fields, body)
                section = None
        except NotRead as why:
            self._warnings.not_rewritten(lane, request.id, str(why))
        if body is not request.body and not leg.hold_memory(len(body)):
            self._loop.call_soon(leg.stop, Outcome.OVERLOAD, "")  # in a later turn, as in `_begin`
            return
        method = "POST" if request.method == CALL else request.method  # HTTP knows no calls
        lane.endpoint.send(leg, method, shadow.rewrite.apply_path(target), fields, body, section)

    def _expire(self, leg: Leg) -> None:
        now, timeout = self._loop.time(), leg.lane.shadow.timeout
        if leg.waits or now < leg.lane.held_until + timeout:
            self._legs[leg.lane].set(leg, now + timeout if leg.waits else leg.lane.held_until + timeout)
            return
        leg.stop(Outcome.TIMEOUT, f"no whole answer within {leg.lane.shadow.timeout:g} s")

    def _end_leg(self, leg: Leg, outcome: Reply | Failure) -> None:
        """Count and settle a leg that has ended, and begin the next job."""
        lane, job = leg.lane, leg.job
        self._legs[lane].drop(leg)
        if leg.defect_met is not None:
            self._warnings.defect(lane.shadow.name, job.request.id, leg.defect_met)
        lane.counts.times.add(outcome.total_ms / 1000)
        lane.counts.retries += leg.retried
        if lane.counts_usage:
            self._spend(lane, job, outcome)
        lane.update_breaker(outcome.outcome if isinstance(outcome, Failure) else Outcome.OK, self._loop.time())
        if leg.held_back and isinstance(outcome, Reply) and outcome.status in (401, 403):
            self._warnings.credentials_wanted(lane, outcome.status)
        self._settle(job.exchange, lane, outcome)
        self._begin_next(lane)

    def _spend(self, lane: Lane, job: Job, outcome: Reply | Failure) -> None:
        """Count what an answer took of the lane's budget, also if the answer broke off."""
        reply = outcome.reply if isinstance(outcome, Failure) else outcome
        if reply is None:
            return
        said = lane.spend(spent_by(reply.fields, reply.body))
        if not said and isinstance(outcome, Reply) and 200 <= reply.status < 300 and job.request.method == "POST":
            self._warnings.usage_unknown(lane, job.request.id)

    def _settle(self, exchange: UnsettledExchange, lane: Lane, leg: ShadowLeg) -> None:
        lane.counts.outcomes[Outcome.OK if isinstance(leg, Reply) else leg.outcome] += 1
        if lane.shadow.ramped:
            if isinstance(leg, Reply):
                lane.counts.arms.count_answer(leg.status)
            else:
                lane.counts.arms.count_missing(leg.outcome)
        if not isinstance(leg, Reply):
            self._warnings.no_answer(lane.shadow.name, leg, exchange.request)
        watch = None if exchange.watches is None else exchange.watches.get(lane)
        if watch is not None:
            self._sessions.end(watch, leg)
        if lane is exchange.plan.control:
            exchange.control = leg
        else:
            exchange.shadows[lane.shadow.name] = leg
        exchange.awaited -= 1
        self._settle_if_complete(exchange)
        if watch is not None:
            self._sessions.go_on()

    def _settle_if_complete(self, exchange: UnsettledExchange) -> None:
        if exchange.live is None or exchange.awaited or exchange.request is None:
            return
        if exchange.watches is not None:
            for lane, watch in exchange.watches.items():
                leg = exchange.shadows.get(lane.shadow.name)
                if isinstance(leg, Reply):
                    exchange.shadows[lane.shadow.name] = watch.with_pairs(leg, exchange.live)
        settled = Exchange(exchange.request, exchange.live, exchange.shadows, exchange.control, exchange.tunnel)
        exchange.plan.append(shortened(settled, exchange.plan.needs))
        self._forget(exchange)

    def _forget(self, exchange: UnsettledExchange) -> None:
        self._unsettled[exchange.plan].remove(exchange)
        for capture in exchange.captures:
            capture.release()
        self._end_plan_if_settled(exchange.plan)

    def _every_lane(self) -> list[Lane]:
        """The lanes of every plan with an unsettled exchange, and of the present one."""
        return [lane for plan in self._unsettled for lane in plan.all_lanes]

    def _skip_waiting(self, lanes: Iterable[Lane], outcome: Outcome) -> None:
        """Settle the jobs that wait in these lanes."""
        for lane in lanes:
            for job in lane.take_waiting():
                if lane.state is not None:
                    self._sessions.drop(lane, job)
                self._settle(job.exchange, lane, _skipped(outcome, lane))

    def _end_plan_if_settled(self, plan: MirrorPlan) -> None:
        if plan is not self.plan and not self._unsettled[plan]:
            del self._unsettled[plan]
            self._ended.pop(plan).set()
            lanes = frozenset(self._every_lane())
            self._legs = {lane: legs for lane, legs in self._legs.items() if lane in lanes}
            self._sessions.keep(lanes)


def _count_live(arms: list[tuple[Arms, bool]], live: LiveLeg) -> None:
    """Count live's time. A timeout's is too short, if anything; any other failure ends at a time that says nothing."""
    if isinstance(live, Reply) or live.outcome is Outcome.TIMEOUT:
        for each, mirrored in arms:
            each.count_live(live.total_ms, mirrored=mirrored)


def _skipped(outcome: Outcome, lane: Lane) -> Skipped:
    why = lane.shadow.unusable if outcome is Outcome.UNUSABLE else None
    return Skipped(outcome, _WHY[outcome] if why is None else f"{_WHY[outcome]}: {why}")
