"""A census: all counts and states of the sidecar at one moment, as plain numbers, for operators."""

import math
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import TypeVar

from shadowproxy.exchange import LIVE, Outcome, Verdict
from shadowproxy.serve.handover.books import Books
from shadowproxy.serve.handover.tail import Tail
from shadowproxy.serve.journal.losses import WORKER_ENDED
from shadowproxy.serve.journal.statistics import Statistics
from shadowproxy.serve.policy.not_chosen import NotChosen
from shadowproxy.serve.probes.answers import Health
from shadowproxy.serve.standing.answer import StandingWord
from shadowproxy.serve.telemetry.durations import DurationBuckets
from shadowproxy.serve.upload.statistics import UploadStatistics

_Key = TypeVar("_Key")


@dataclass(frozen=True, slots=True)
class Durations:
    """How many durations were in each bucket of durations.BOUNDS and above the last, and their sum in seconds."""

    counts: tuple[int, ...]
    total: float


@dataclass(frozen=True, slots=True)
class RampStep:
    """A step of a ramp: when, in seconds since the epoch, from and to which percent, and why."""

    at: float
    before: float
    after: float
    why: str


@dataclass(frozen=True, slots=True)
class RampCondition:
    """What the evidence of the present step says of one condition, as `ramping.Judged`."""

    name: str
    word: str
    figure: float | None
    low: float | None
    allowed: float
    says: str


@dataclass(frozen=True, slots=True)
class RampCensus:
    """Where a ramp stands. `state` is rising, holding, waiting after a step back, top, or halted by an operator.

    `percent` is the ramp's own, also where an operator's is in force. `next_at`, in seconds since the epoch, is when
    it rises to `next_percent` at the earliest; both are None where it does not. `why` says what keeps it from rising.
    `raised` and `back` count its steps since the ramp began.
    """

    state: str
    steps: tuple[float, ...]
    percent: float
    next_percent: float | None
    next_at: int | None
    why: str | None
    raised: int
    back: int
    last: RampStep | None
    conditions: tuple[RampCondition, ...]


@dataclass(frozen=True, slots=True)
class ShadowCensus:
    """One shadow, or the control. `configured_percent` is the file's, `percent` the one in force.

    `answers_failed` counts its answers that say that they failed though their status is a success. `not_chosen` counts
    the requests that it was not chosen for, by reason. `budget_requests` is the bound on `begun`;
    `budget_left` is in seconds; `budget_tokens` and `budget_cost` are the bounds on `tokens` and `cost`, which are
    counted only with one of these. All are None without such a bound. `unusable` says why its own settings cannot be
    used, and is None if they can. `translated` requests were sent with its own IDs in place of live's; `ids` is how
    many of these are known now, None without `state`, and `ids_dropped` how many were given up for others, or for age.
    `ramp` is known to the supervisor alone, and None without one.
    """

    name: str
    url: str
    percent: float
    configured_percent: float
    paused: bool
    breaker: str
    in_flight: int
    waiting: int
    begun: int
    budget_requests: int | None
    budget_left: float | None
    chosen: int
    not_chosen: Mapping[NotChosen, int]
    retries: int
    outcomes: Mapping[Outcome, int]
    verdicts: Mapping[Verdict, int]
    durations: Durations
    unusable: str | None = None
    answers_failed: int = 0
    tokens: int = 0
    cost: float = 0.0
    budget_tokens: int | None = None
    budget_cost: float | None = None
    translated: int = 0
    ids: int | None = None
    ids_dropped: int = 0
    ramp: RampCensus | None = None

    @property
    def budget_parts(self) -> list[tuple[str, float, float]]:
        """What the budget has bounds for besides time: its name, how much is used, and how much is allowed."""
        parts = (
            ("requests", self.begun, self.budget_requests),
            ("tokens", self.tokens, self.budget_tokens),
            ("cost", self.cost, self.budget_cost),
        )
        return [(name, used, allowed) for name, used, allowed in parts if allowed is not None]


@dataclass(frozen=True, slots=True)
class ConfigCensus:
    """The configuration in force: the first is generation 1. `loaded_at` is in seconds since the epoch.

    `error` says why the last reload failed, and is None if it did not.
    """

    generation: int
    loaded_at: float
    reloads: int
    failures: int
    error: str | None


UNKNOWN_CONFIG = ConfigCensus(generation=1, loaded_at=0.0, reloads=0, failures=0, error=None)
"""In the census of a live process: only the supervisor knows the configuration's history."""


@dataclass(frozen=True, slots=True)
class Census:
    """`accepts`: new requests are accepted. `live_url` is None where live is a fixed answer. Seconds and bytes.

    `rejected` is by status. `live_mirrored` are live's durations of mirrored requests, `live_alone` those of requests
    sent to no shadow. `tunnels` are those that are open. `retries` are requests sent to live a second time.
    `worker_restarts` is how often a worker was started again, `recorder_restarts` the same of the recorder.
    `keys_first` and `keys_again` are those of `sampling.KeyRepeats`. `callers_shed` are the connections ended in favour
    of others, by what was short. `tls_failed` are their TLS connections that failed. `answers_failed` are live's that
    say that they failed though their status is a success. `ids_not_shared` are messages about IDs between workers that
    were lost. `uploads` is what became of closed segments; None if they are sent nowhere. `standing` is the standing
    verdict on each shadow; empty where it is switched off.
    """

    accepts: bool
    paused: bool
    live_url: str | None
    outcomes: Mapping[Outcome, int]
    retries: int
    rejected: Mapping[int, int]
    in_flight: int
    live_mirrored: Durations
    live_alone: Durations
    shadows: tuple[ShadowCensus, ...]
    journal: Statistics
    loop_lag: float
    memory_held: int
    memory_limit: int
    config: ConfigCensus
    worker_restarts: int = 0
    recorder_restarts: int = 0
    keys_first: int = 0
    keys_again: int = 0
    callers_shed: Mapping[str, int] = field(default_factory=dict)
    tunnels: int = 0
    tls_failed: int = 0
    answers_failed: int = 0
    ids_not_shared: int = 0
    uploads: UploadStatistics | None = None
    standing: tuple[StandingWord, ...] = ()


def health(census: Census) -> Health:
    """What the probes say by these figures."""
    unusable = tuple(each.name for each in census.shadows if each.unusable is not None)
    return Health(census.accepts, census.journal.failing, unusable)


def verdicts_of(verdicts: Mapping[tuple[str, str], int], name: str) -> dict[Verdict, int]:
    return {Verdict(verdict): count for (shadow, verdict), count in verdicts.items() if shadow == name}


def durations_of(times: DurationBuckets) -> Durations:
    return Durations(tuple(times.counts), times.total)


def with_tail(census: Census, books: Books, tail: Tail) -> Census:
    """The counts of a live process, by its last census, its books now, and the exchanges that came since that census.

    Some of these exchanges were under way when the census was taken, and parts of them are counted in it. So no more is
    added than the books have beyond it: what is under way is counted once.
    """
    known = sum(census.outcomes.values())
    outcomes = _with_newest(census.outcomes, tail.outcomes, books.appended - known)
    whole = books.appended - known == tail.count  # nothing was under way, so no time of these is in it
    before = max(0, known + census.in_flight - (books.appended - tail.count))  # unsettled when it was taken
    return replace(
        census,
        outcomes=outcomes,
        in_flight=max(0, census.in_flight - (sum(outcomes.values()) - known)),
        live_mirrored=_with_times(census.live_mirrored, tail.live_mirrored) if whole else census.live_mirrored,
        live_alone=_with_times(census.live_alone, tail.live_alone) if whole else census.live_alone,
        answers_failed=books.failed.get(LIVE, 0),
        shadows=tuple(_shadow_with_tail(each, books, tail, before) for each in census.shadows),
        journal=census.journal._replace(
            written=books.written,
            bytes=books.bytes,
            queued=books.queued,
            queued_bytes=books.queued_bytes,
            lost=dict(books.lost),
            sampled_out=books.sampled_out,
        ),
    )


def _shadow_with_tail(shadow: ShadowCensus, books: Books, tail: Tail, before: int) -> ShadowCensus:
    verdicts = verdicts_of(books.verdicts, shadow.name)
    shadow = replace(shadow, answers_failed=books.failed.get(shadow.name, 0))
    found = tail.shadows.get(shadow.name)
    if found is None:
        return replace(shadow, verdicts=verdicts)
    new = max(0, found.chosen - before)
    under_way = shadow.chosen - sum(shadow.outcomes.values())
    outcomes = _with_newest(shadow.outcomes, found.outcomes, new + min(under_way, found.chosen - new))
    times = _with_times(shadow.durations, found.times) if new == found.chosen else shadow.durations
    settled = sum(outcomes.values()) - sum(shadow.outcomes.values()) - new  # of those that were under way
    asked = min(settled, shadow.in_flight)
    return replace(
        shadow,
        chosen=shadow.chosen + new,
        outcomes=outcomes,
        in_flight=shadow.in_flight - asked,
        waiting=max(0, shadow.waiting - (settled - asked)),
        verdicts=verdicts,
        durations=times,
    )


def _with_times(durations: Durations, times: DurationBuckets) -> Durations:
    return _merge_durations([durations, durations_of(times)])


def _with_newest(counts: Mapping[_Key, int], newer: Mapping[_Key, int], most: int) -> dict[_Key, int]:
    """`counts` with `most` of those in `newer`, the rare ones first."""
    total = dict(counts)
    for key, count in sorted(newer.items(), key=lambda each: each[1]):
        added = min(count, most)
        if added > 0:
            total[key] = total.get(key, 0) + added
            most -= added
    return total


# --- several workers as one -------------------------------------------------------------------------------------------

_WORST_LAST = ("closed", "probing", "open")


def merge(running: Sequence[Census], ended: Sequence[Census] = ()) -> Census:
    """The counts of all workers together, and the states of those that run. At least one census is needed.

    A worker that has ended adds its counts, so that none goes down when a worker dies, but only those of shadows that
    still exist. The breaker and the loop's lag are the worst of all workers; a shadow is unusable if it is for one of
    them; `config` is the first worker's.
    """
    every = [*running, *map(_final_counts, ended)]
    first = every[0]
    names = dict.fromkeys(shadow.name for each in running or every for shadow in each.shadows)
    return Census(
        accepts=any(each.accepts for each in every),
        paused=any(each.paused for each in every),
        live_url=first.live_url,
        outcomes=_sum_counts([each.outcomes for each in every]),
        retries=sum(each.retries for each in every),
        rejected=_sum_counts([each.rejected for each in every]),
        in_flight=sum(each.in_flight for each in every),
        tunnels=sum(each.tunnels for each in every),
        live_mirrored=_merge_durations([each.live_mirrored for each in every]),
        live_alone=_merge_durations([each.live_alone for each in every]),
        shadows=tuple(
            _merge_shadow([shadow for each in every for shadow in each.shadows if shadow.name == name])
            for name in names
        ),
        journal=_merge_journals([each.journal for each in every]),
        loop_lag=max(each.loop_lag for each in every),
        memory_held=sum(each.memory_held for each in every),
        memory_limit=sum(each.memory_limit for each in every),
        config=first.config,
        keys_first=sum(each.keys_first for each in every),
        keys_again=sum(each.keys_again for each in every),
        worker_restarts=sum(each.worker_restarts for each in every),
        recorder_restarts=sum(each.recorder_restarts for each in every),
        callers_shed=_sum_counts([each.callers_shed for each in every]),
        tls_failed=sum(each.tls_failed for each in every),
        ids_not_shared=sum(each.ids_not_shared for each in every),
        answers_failed=sum(each.answers_failed for each in every),
    )


def _final_counts(census: Census) -> Census:
    """The counts that stay when a worker has ended, from its last census.

    Requests and legs that were under way then are counted as ended: the record is lost, the shadow's leg has the
    outcome `shutdown`. So the counts add up. A worker that ended in order had none under way.
    """
    journal = census.journal
    ended = journal.written + journal.sampled_out + sum(journal.lost.values())
    unwritten = sum(census.outcomes.values()) - ended
    return replace(
        census,
        accepts=False,
        paused=False,
        in_flight=0,
        tunnels=0,
        shadows=tuple(
            # What it used of a budget was passed on to the worker that replaced it, which counts it.
            replace(
                each,
                breaker="closed",
                in_flight=0,
                waiting=0,
                begun=0,
                budget_requests=None,
                budget_left=None,
                tokens=0,
                cost=0.0,
                budget_tokens=None,
                budget_cost=None,
                ids=None,
                unusable=None,
                outcomes=_plus(each.outcomes, Outcome.SHUTDOWN, each.chosen - sum(each.outcomes.values())),
            )
            for each in census.shadows
        ),
        journal=journal._replace(
            queued=0, queued_bytes=0, failing=None, lost=_plus(journal.lost, WORKER_ENDED, unwritten)
        ),
        loop_lag=0.0,
        memory_held=0,
        memory_limit=0,
    )


def _plus(counts: Mapping[_Key, int], key: _Key, more: int) -> Mapping[_Key, int]:
    return {**counts, key: counts.get(key, 0) + more} if more > 0 else counts


def _merge_shadow(parts: Sequence[ShadowCensus]) -> ShadowCensus:
    allowed = [part.budget_requests for part in parts if part.budget_requests is not None]
    tokens = [part.budget_tokens for part in parts if part.budget_tokens is not None]
    costs = [part.budget_cost for part in parts if part.budget_cost is not None]
    left = [part.budget_left for part in parts if part.budget_left is not None]
    ids = [part.ids for part in parts if part.ids is not None]
    return replace(
        parts[0],
        paused=any(part.paused for part in parts),
        breaker=max((part.breaker for part in parts), key=_WORST_LAST.index),
        in_flight=sum(part.in_flight for part in parts),
        waiting=sum(part.waiting for part in parts),
        begun=sum(part.begun for part in parts),
        budget_requests=sum(allowed) if allowed else None,
        budget_left=max(left, default=None),
        tokens=sum(part.tokens for part in parts),
        cost=sum(part.cost for part in parts),
        budget_tokens=sum(tokens) if tokens else None,
        budget_cost=sum(costs) if costs else None,
        translated=sum(part.translated for part in parts),
        ids=max(ids, default=None),  # each worker knows what the others do
        ids_dropped=max(part.ids_dropped for part in parts),
        chosen=sum(part.chosen for part in parts),
        not_chosen=_sum_counts([part.not_chosen for part in parts]),
        retries=sum(part.retries for part in parts),
        outcomes=_sum_counts([part.outcomes for part in parts]),
        verdicts=_sum_counts([part.verdicts for part in parts]),
        durations=_merge_durations([part.durations for part in parts]),
        answers_failed=sum(part.answers_failed for part in parts),
        unusable=next((part.unusable for part in parts if part.unusable is not None), None),
    )


def _merge_journals(parts: Sequence[Statistics]) -> Statistics:
    return Statistics(
        written=sum(part.written for part in parts),
        bytes=sum(part.bytes for part in parts),
        queued=sum(part.queued for part in parts),
        queued_bytes=sum(part.queued_bytes for part in parts),
        lost=_sum_counts([part.lost for part in parts]),
        segments=sum(part.segments for part in parts),
        last_error=next((part.last_error for part in parts if part.last_error is not None), None),
        failing=next((part.failing for part in parts if part.failing is not None), None),
        sampled_out=sum(part.sampled_out for part in parts),
    )


def _merge_durations(parts: Sequence[Durations]) -> Durations:
    counts = zip(*(part.counts for part in parts), strict=True)
    return Durations(tuple(map(sum, counts)), math.fsum(part.total for part in parts))


def _sum_counts(parts: Iterable[Mapping[_Key, int]]) -> dict[_Key, int]:
    total: Counter[_Key] = Counter()
    for part in parts:
        total.update(part)
    return dict(total)
