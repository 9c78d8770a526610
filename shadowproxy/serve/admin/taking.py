"""Takes the census of a live process, from the parts that count. Apart from census.py, which other processes import."""

from collections.abc import Mapping

from shadowproxy.exchange import LIVE
from shadowproxy.serve.admin.census import UNKNOWN_CONFIG, Census, ShadowCensus, durations_of, verdicts_of
from shadowproxy.serve.journal.statistics import Statistics
from shadowproxy.serve.live.proxy import Proxy
from shadowproxy.serve.mirror.dispatch import Mirror
from shadowproxy.serve.mirror.lane import Lane


def take(
    proxy: Proxy,
    mirror: Mirror,
    journal: Statistics,
    verdicts: Mapping[tuple[str, str], int],
    failed: Mapping[str, int],
    *,
    shed: Mapping[str, int],
    tls_failed: int,
    accepts: bool,
    now: float,
    ids_not_shared: int = 0,
) -> Census:
    """The census of a live process.

    `verdicts` are by shadow and word, `failed` answers by endpoint, `shed` callers by what was short;
    `tls_failed` is how many of their TLS connections failed; `now` is the loop's time; `ids_not_shared` messages to
    other live processes were lost.
    """
    return Census(
        accepts=accepts,
        paused=mirror.paused,
        live_url=proxy.live_url,
        outcomes=dict(proxy.outcomes),
        retries=proxy.retries,
        rejected=dict(proxy.rejected),
        in_flight=proxy.in_flight,
        tunnels=len(proxy.tunnels),
        live_mirrored=durations_of(proxy.times_mirrored),
        live_alone=durations_of(proxy.times_alone),
        shadows=tuple(_shadow(lane, verdicts, failed, now) for lane in mirror.plan.all_lanes),
        journal=journal,
        loop_lag=mirror.pulse.lag,
        memory_held=mirror.memory.held,
        memory_limit=mirror.memory.limit,
        config=UNKNOWN_CONFIG,
        callers_shed=dict(shed),
        tls_failed=tls_failed,
        ids_not_shared=ids_not_shared,
        answers_failed=failed.get(LIVE, 0),
        keys_first=mirror.chooser.keys.first,
        keys_again=mirror.chooser.keys.again,
    )


def _shadow(lane: Lane, verdicts: Mapping[tuple[str, str], int], failed: Mapping[str, int], now: float) -> ShadowCensus:
    shadow, counts, statistics = lane.shadow, lane.counts, lane.statistics()
    until = statistics.budget_until
    ids = None if lane.state is None else lane.state.pairs.counts
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
        tokens=statistics.tokens,
        cost=statistics.cost,
        budget_requests=shadow.budget_requests,
        budget_tokens=shadow.budget_tokens,
        budget_cost=shadow.budget_cost,
        budget_left=None if until is None else max(0.0, until - now),
        translated=counts.translated,
        ids=None if ids is None else ids.held,
        ids_dropped=0 if ids is None else ids.fell_out,
        chosen=counts.chosen,
        not_chosen=dict(counts.not_chosen),
        retries=counts.retries,
        outcomes=dict(counts.outcomes),
        verdicts=verdicts_of(verdicts, shadow.name),
        durations=durations_of(counts.times),
        unusable=shadow.unusable,
        answers_failed=failed.get(shadow.name, 0),
    )
