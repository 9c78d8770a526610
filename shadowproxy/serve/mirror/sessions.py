"""Requests to stateful shadows: which of them wait for what, so that each shadow gets a session in its order.

The rules:

1. A request's IDs are looked for when it has a slot. One that carries some of live's gives the slot back and is held,
   until the shadow's own for each of them is known or never will be, and until what was over for live before is over
   for the shadow. A stream that is still open holds back nothing: live had both at once, too. Nor does one that a GET
   opened, or an answer that broke off: the shadow's may stay open until its deadline.
2. A held request takes no slot, only room in its lane, so others pass it by. Its deadline passes as any other's.
3. A session that live is not known to have given, in a cookie that `learn` names, waits for the head of live's answer:
   if live begins another one with it, so does the shadow, and else the request is not sent.
4. Nobody goes on before the exchange that they waited for is settled: records come in the order of causes.
"""

import logging
from collections import deque
from collections.abc import Callable, Collection
from functools import partial
from typing import Final

from shadowproxy.exchange import Outcome, Reply, ShadowLeg, Skipped
from shadowproxy.serve.http1.deadline import Deadlines
from shadowproxy.serve.mirror.lane import Job, Lane, UnsettledExchange
from shadowproxy.serve.state.pairs import PENDING
from shadowproxy.serve.state.watching import Watch

WHY_UNKNOWN: Final = "the request carries an ID of live's, and the shadow's own is not known"

_STREAM: Final = b"text/event-stream"

_log = logging.getLogger(__name__)


class Sessions:
    """The held jobs of all stateful shadows. `take` gets each that waits for a slot again, `settle` each that never
    begins.
    """

    def __init__(
        self,
        take: Callable[[Lane, Job], None],
        settle: Callable[[UnsettledExchange, Lane, ShadowLeg], None],
    ) -> None:
        self._take = take
        self._settle = settle
        self._held: dict[Lane, Deadlines[Job]] = {}
        self._ready: deque[tuple[Lane, Job]] = deque()  # held, and waiting for nothing more
        self._ending = 0

    def __repr__(self) -> str:
        return f"<Sessions held={sum(map(len, self._held.values()))}>"

    def drop(self, lane: Lane, job: Job) -> None:
        """Forget a job that its lane does not hold any more."""
        if (held := self._held.get(lane)) is not None:
            held.drop(job)

    def keep(self, lanes: Collection[Lane]) -> None:
        """Forget all other lanes: nothing of theirs is held."""
        self._held = {lane: held for lane, held in self._held.items() if lane in lanes}

    def may_begin(self, lane: Lane, job: Job) -> bool:
        """Look for live's IDs in the request of a job that has a slot. If not, it is held now, or settled."""
        state = lane.state
        if state is None or job.is_read:
            return True
        if state.pairs.catches_up:  # nobody knows yet which values are IDs
            self._hold(lane, job)
            state.pairs.when_caught_up(partial(self._decide, lane, job))
            return False
        job.is_read = True
        try:
            job.found = state.find(job.request)
        except Exception:  # noqa: BLE001  # not swallowed: it becomes the outcome, and is logged
            id, name = job.request.id, lane.shadow.name
            extra = {"event": "defect", "shadow": name, "request_id": id}
            _log.exception("a defect in the proxy while looking for IDs in request %s for %s", id, name, extra=extra)
            self._skip(lane, job, Outcome.STATE_UNKNOWN, "a defect in the proxy; its log says more")
            return False
        if not job.found.occurrences:
            return True
        self._block(lane, job)
        if job.blocked:
            self._hold(lane, job)
            return False
        if (place := _unknown(lane, job)) is not None:
            self._skip(lane, job, Outcome.STATE_UNKNOWN, f"{WHY_UNKNOWN} ({place})")
            return False
        return True

    def _hold(self, lane: Lane, job: Job) -> None:
        lane.hold(job)
        if (held := self._held.get(lane)) is None:
            held = self._held[lane] = Deadlines(partial(self._expire, lane))
        held.set(job, job.deadline)

    def end(self, watch: Watch, leg: ShadowLeg) -> None:
        """A leg is over: what it learnt is complete. `go_on` has to follow."""
        self._ending += 1
        job = watch.job
        watch.own_end(leg)
        if not isinstance(job, Job):
            return
        for entry in (*watch.entries, *job.found.entries):
            if entry.jobs is not None and job in entry.jobs:
                entry.jobs.remove(job)
        followers, job.followers = job.followers, None
        for lane, follower in followers or ():
            self._unblock(lane, follower)

    def go_on(self) -> None:
        """Have those go on that waited for the leg which ended: its exchange is settled, if it can be."""
        self._ending -= 1
        while self._ready and not self._ending:
            self._decide(*self._ready.popleft())

    def _block(self, lane: Lane, job: Job) -> None:
        """Count what a job waits for, and have it called."""
        earlier: dict[Job, None] = {}
        for entry in job.found.entries:
            if entry.standing is PENDING:
                job.blocked += 1
                entry.when_settled(partial(self._unblock, lane, job))
            if entry.jobs is None:
                entry.jobs = []
            for other in entry.jobs:
                if isinstance(other, Job) and other is not job and _holds_back(other):
                    earlier[other] = None
            entry.jobs.append(job)
        watch = _watch(lane, job)
        if job.found.strangers and watch is not None and watch.when_live(partial(self._unblock, lane, job)):
            job.blocked += 1
        for other in earlier:
            job.blocked += 1
            if other.followers is None:
                other.followers = []
            other.followers.append((lane, job))

    def _unblock(self, lane: Lane, job: Job) -> None:
        job.blocked -= 1
        if job.blocked:
            return
        if self._ending:
            self._ready.append((lane, job))
        else:
            self._decide(lane, job)

    def _decide(self, lane: Lane, job: Job) -> None:
        """A held job waits for nothing more: it needs a slot, unless the shadow's own ID stays unknown."""
        if not self._release(lane, job):
            return
        if (place := _unknown(lane, job)) is not None:
            self._skip(lane, job, Outcome.STATE_UNKNOWN, f"{WHY_UNKNOWN} ({place})")
        else:
            self._take(lane, job)

    def _expire(self, lane: Lane, job: Job) -> None:
        if not lane.release(job):
            return
        if job.found.pending or job.found.strangers:
            place = job.found.occurrences[0].place
            why = f"the shadow had not given its own ID by the deadline ({place})"
            self._skip(lane, job, Outcome.STATE_UNKNOWN, why)
        else:
            why = "its deadline passed while it waited for an earlier request of its session"
            self._skip(lane, job, Outcome.TIMEOUT, why)

    def _release(self, lane: Lane, job: Job) -> bool:
        """Hold a job no longer. False if it is not held: it was settled."""
        self._held[lane].drop(job)
        return lane.release(job)

    def _skip(self, lane: Lane, job: Job, outcome: Outcome, why: str) -> None:
        self._settle(job.exchange, lane, Skipped(outcome, why))


def _holds_back(job: Job) -> bool:
    """Whether the requests that follow a job in its session wait for its end."""
    live = job.exchange.live
    if not isinstance(live, Reply):
        return False
    if job.request.method != "GET":
        return True
    return not any(name.lower() == b"content-type" and value[:17].lower() == _STREAM for name, value in live.fields)


def _watch(lane: Lane, job: Job) -> Watch | None:
    watches = job.exchange.watches
    return None if watches is None else watches.get(lane)


def _unknown(lane: Lane, job: Job) -> str | None:
    """The place of an ID that keeps a job from being sent; None if none does."""
    found = job.found
    if (place := found.unknown) is not None:
        return place
    watch = _watch(lane, job)
    for name in found.strangers:
        if watch is None or not watch.gave_cookie(name):
            return f"cookie:{name}"
    return None
