"""What the sidecar counts, for Prometheus. The rooms keep plain numbers; they are put into its words when it asks.

docs/metrics.md tells of each; a test holds the two together.
"""

from collections.abc import Iterable, Iterator
from itertools import accumulate

from prometheus_client import CollectorRegistry, generate_latest
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, HistogramMetricFamily, Metric
from prometheus_client.registry import Collector

from shadowproxy import __version__
from shadowproxy.exchange import Outcome
from shadowproxy.serve.journal import LOSSES, Journal
from shadowproxy.serve.mirror import Mirror
from shadowproxy.serve.proxy import Proxy
from shadowproxy.serve.times import BOUNDS, Times


class Exporter(Collector):
    """Reads the rooms' counts; holds none."""

    def __init__(self, proxy: Proxy, mirror: Mirror, journal: Journal) -> None:
        self._proxy = proxy
        self._mirror = mirror
        self._journal = journal
        self._registry = CollectorRegistry()
        self._registry.register(self)

    def text(self) -> bytes:
        """Every metric in Prometheus's text format."""
        return generate_latest(self._registry)

    def collect(self) -> Iterator[Metric]:
        build = GaugeMetricFamily("shadowproxy_build_info", "The version that runs; always 1.", labels=["version"])
        build.add_metric([__version__], 1)
        yield build
        yield from self._live()
        yield from self._shadows()
        yield from self._journals()

    def _live(self) -> Iterator[Metric]:
        proxy = self._proxy
        answered = CounterMetricFamily(
            "shadowproxy_requests", "Requests taken on, by how live's leg ended.", labels=["outcome"]
        )
        for outcome in Outcome:
            answered.add_metric([outcome], proxy.outcomes[outcome])
        yield answered
        refused = CounterMetricFamily(
            "shadowproxy_requests_refused", "Requests not taken on, by the status answered.", labels=["status"]
        )
        for status in sorted(proxy.refused):
            refused.add_metric([str(status)], proxy.refused[status])
        yield refused
        yield GaugeMetricFamily("shadowproxy_requests_in_flight", "Requests under way.", proxy.in_flight)
        yield _histogram(
            "shadowproxy_live_duration_seconds",
            "Live's whole answer, from dialling to its last byte.",
            [({}, proxy.times)],
        )

    def _shadows(self) -> Iterator[Metric]:
        mirror = self._mirror
        lanes = [*mirror.lanes, mirror.control] if mirror.control else mirror.lanes
        chosen = CounterMetricFamily("shadowproxy_shadow_chosen", "Requests chosen for a shadow.", labels=["shadow"])
        outcomes = CounterMetricFamily(
            "shadowproxy_shadow_outcomes", "How a shadow's legs ended. Their sum is what was chosen and is settled.",
            labels=["shadow", "outcome"],
        )  # fmt: skip
        asked = GaugeMetricFamily("shadowproxy_shadow_in_flight", "Requests a shadow is asked now.", labels=["shadow"])
        waiting = GaugeMetricFamily("shadowproxy_shadow_waiting", "Requests waiting in a lane.", labels=["shadow"])
        breaker = GaugeMetricFamily(
            "shadowproxy_shadow_breaker_open", "1 while a shadow is left alone after failures.", labels=["shadow"]
        )
        for lane in lanes:
            name, statistics = lane.shadow.name, lane.statistics()
            chosen.add_metric([name], statistics.chosen)
            for outcome in Outcome:
                outcomes.add_metric([name, outcome], statistics.outcomes.get(outcome, 0))
            asked.add_metric([name], statistics.in_flight)
            waiting.add_metric([name], statistics.waiting)
            breaker.add_metric([name], statistics.breaker != "closed")
        yield from (chosen, outcomes, asked, waiting, breaker)
        yield _histogram(
            "shadowproxy_shadow_duration_seconds",
            "A shadow's whole answer, from dialling to its last byte.",
            [({"shadow": lane.shadow.name}, lane.times) for lane in lanes],
        )
        yield GaugeMetricFamily(
            "shadowproxy_loop_lag_seconds", "How late the event loop ran when last felt.", mirror.pulse.lag
        )
        yield GaugeMetricFamily(
            "shadowproxy_memory_bytes", "Copies of bodies held for shadows and the log.", mirror.memory.held
        )
        yield GaugeMetricFamily("shadowproxy_memory_limit_bytes", "The bound on them.", mirror.memory.limit)

    def _journals(self) -> Iterator[Metric]:
        statistics = self._journal.statistics()
        yield CounterMetricFamily("shadowproxy_records_written", "Records in the log.", statistics.written)
        yield CounterMetricFamily("shadowproxy_log_bytes", "Bytes of records written.", statistics.bytes)
        lost = CounterMetricFamily("shadowproxy_records_lost", "Exchanges without a record.", labels=["reason"])
        for reason in LOSSES:
            lost.add_metric([reason], statistics.lost.get(reason, 0))
        yield lost
        yield GaugeMetricFamily("shadowproxy_journal_queued", "Exchanges waiting to be written.", statistics.queued)
        yield GaugeMetricFamily("shadowproxy_journal_queued_bytes", "Bytes they hold.", statistics.queued_bytes)
        yield CounterMetricFamily("shadowproxy_log_segments", "Segments begun.", statistics.segments)


def _histogram(name: str, told: str, series: Iterable[tuple[dict[str, str], Times]]) -> HistogramMetricFamily:
    rows = list(series)
    family = HistogramMetricFamily(name, told, labels=list(rows[0][0]) if rows else ["shadow"])
    for labels, times in rows:
        bounds = [*(str(bound) for bound in BOUNDS), "+Inf"]
        family.add_metric(
            list(labels.values()), list(zip(bounds, accumulate(times.counts), strict=True)), sum_value=times.total
        )
    return family
