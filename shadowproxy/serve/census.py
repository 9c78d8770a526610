"""All that the sidecar's rooms count and how they stand, at one moment, as plain numbers: what operators are told."""

from collections.abc import Mapping
from dataclasses import dataclass

from shadowproxy.exchange import Outcome, Verdict
from shadowproxy.serve import journal
from shadowproxy.serve.journal import Journal
from shadowproxy.serve.lane import Lane
from shadowproxy.serve.mirror import Mirror
from shadowproxy.serve.proxy import Proxy
from shadowproxy.serve.times import Times


@dataclass(frozen=True, slots=True)
class Durations:
    """How many durations were in each bucket up to times.BOUNDS and above, and their sum in seconds."""

    counts: tuple[int, ...]
    total: float


@dataclass(frozen=True, slots=True)
class ShadowCensus:
    """One shadow, or the control. `configured_percent` is the file's, `percent` the one in force.

    `budget_requests` is the bound on `begun`; `budget_left` is in seconds; both are None where there is no such bound.
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
    outcomes: Mapping[Outcome, int]
    verdicts: Mapping[Verdict, int]
    durations: Durations


@dataclass(frozen=True, slots=True)
class ConfigCensus:
    """The configuration in force: the first is generation 1. `loaded_at` is in seconds since the epoch.

    `error` is why the last reload failed, None where it did not.
    """

    generation: int
    loaded_at: float
    reloads: int
    failures: int
    error: str | None


@dataclass(frozen=True, slots=True)
class Census:
    """`accepts`: new requests are taken on. `live_url` is None where live is a fixed answer. Seconds and bytes.

    `live_mirrored` are live's durations where some shadow was asked too, `live_alone` those where none was.
    """

    accepts: bool
    paused: bool
    live_url: str | None
    outcomes: Mapping[Outcome, int]
    refused: Mapping[int, int]
    in_flight: int
    live_mirrored: Durations
    live_alone: Durations
    shadows: tuple[ShadowCensus, ...]
    journal: journal.Statistics
    loop_lag: float
    memory_held: int
    memory_limit: int
    config: ConfigCensus


def take(proxy: Proxy, mirror: Mirror, journal: Journal, config: ConfigCensus, *, accepts: bool, now: float) -> Census:
    """`now` is the loop's time."""
    return Census(
        accepts=accepts,
        paused=mirror.paused,
        live_url=proxy.live_url,
        outcomes=dict(proxy.outcomes),
        refused=dict(proxy.refused),
        in_flight=proxy.in_flight,
        live_mirrored=_durations(proxy.times[True]),
        live_alone=_durations(proxy.times[False]),
        shadows=tuple(_shadow(lane, now) for lane in mirror.plan.all_lanes),
        journal=journal.statistics(),
        loop_lag=mirror.pulse.lag,
        memory_held=mirror.memory.held,
        memory_limit=mirror.memory.limit,
        config=config,
    )


def _shadow(lane: Lane, now: float) -> ShadowCensus:
    shadow, tally, statistics = lane.shadow, lane.tally, lane.statistics()
    until = statistics.budget_until
    return ShadowCensus(
        name=shadow.name,
        url=lane.endpoint.url,
        percent=lane.percent,
        configured_percent=shadow.percent,
        paused=lane.paused,
        breaker=statistics.breaker,
        in_flight=statistics.in_flight,
        waiting=statistics.waiting,
        begun=statistics.begun,
        budget_requests=shadow.budget_requests,
        budget_left=None if until is None else max(0.0, until - now),
        chosen=tally.chosen,
        outcomes=dict(tally.outcomes),
        verdicts=tally.verdicts.copy(),
        durations=_durations(tally.times),
    )


def _durations(times: Times) -> Durations:
    return Durations(tuple(times.counts), times.total)
