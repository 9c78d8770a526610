"""What the sidecar counts, for Prometheus. The rooms keep plain numbers; they are put into its words when it asks.

docs/metrics.md tells of each; a test holds the two together.
"""

from collections.abc import Iterable, Iterator
from itertools import accumulate

from prometheus_client import CollectorRegistry, generate_latest
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, HistogramMetricFamily, Metric
from prometheus_client.registry import Collector

from shadowproxy import __version__
from shadowproxy.exchange import Outcome, Verdict
from shadowproxy.serve.admin.census import Census, ConfigCensus, Durations
from shadowproxy.serve.journal.queue import LOSSES
from shadowproxy.serve.journal.root import Statistics
from shadowproxy.serve.live.proxy import REJECTED_STATUSES
from shadowproxy.serve.policy.sampling import WINDOW, NotChosen
from shadowproxy.serve.telemetry.durations import BOUNDS


def text(census: Census) -> bytes:
    """Every metric in Prometheus's text format."""
    registry = CollectorRegistry()
    registry.register(_Told(census))
    return generate_latest(registry)


class _Told(Collector):
    """A census in Prometheus's words."""

    def __init__(self, census: Census) -> None:
        self._census = census

    def collect(self) -> Iterator[Metric]:
        census = self._census
        build = GaugeMetricFamily("shadowproxy_build_info", "The version that runs; always 1.", labels=["version"])
        build.add_metric([__version__], 1)
        yield build
        yield from _live(census)
        yield from _shadows(census)
        yield from _journal(census.journal)
        yield from _config(census.config)
        yield CounterMetricFamily(
            "shadowproxy_worker_restarts", "Workers that died and were started again.", census.worker_restarts
        )


def _live(census: Census) -> Iterator[Metric]:
    answered = CounterMetricFamily(
        "shadowproxy_requests", "Requests taken on, by how live's leg ended.", labels=["outcome"]
    )
    for outcome in Outcome:
        answered.add_metric([outcome], census.outcomes.get(outcome, 0))
    yield answered
    refused = CounterMetricFamily(
        "shadowproxy_requests_refused", "Requests not taken on, by the status answered.", labels=["status"]
    )
    for status in REJECTED_STATUSES:  # from zero: a rate is blind to the first of a series that begins with it
        refused.add_metric([str(status)], census.refused.get(status, 0))
    yield refused
    yield GaugeMetricFamily("shadowproxy_requests_in_flight", "Requests under way.", census.in_flight)
    yield CounterMetricFamily(
        "shadowproxy_live_retries", "Requests sent to live once more: it had closed an idle connection.", census.retries
    )
    yield _histogram(
        "shadowproxy_live_duration_seconds",
        "Live's whole answer, from dialling to its last byte.",
        [({"mirrored": "true"}, census.live_mirrored), ({"mirrored": "false"}, census.live_alone)],
    )


def _shadows(census: Census) -> Iterator[Metric]:
    chosen = CounterMetricFamily("shadowproxy_shadow_chosen", "Requests chosen for a shadow.", labels=["shadow"])
    passed = CounterMetricFamily(
        "shadowproxy_shadow_not_chosen", "Requests not chosen for a shadow, by why.", labels=["shadow", "reason"]
    )
    outcomes = CounterMetricFamily(
        "shadowproxy_shadow_outcomes", "How a shadow's legs ended. Their sum is what was chosen and is settled.",
        labels=["shadow", "outcome"],
    )  # fmt: skip
    retries = CounterMetricFamily(
        "shadowproxy_shadow_retries", "Requests sent to a shadow once more: it had closed an idle connection.",
        labels=["shadow"],
    )  # fmt: skip
    asked = GaugeMetricFamily("shadowproxy_shadow_in_flight", "Requests a shadow is asked now.", labels=["shadow"])
    waiting = GaugeMetricFamily("shadowproxy_shadow_waiting", "Requests waiting in a lane.", labels=["shadow"])
    breaker = GaugeMetricFamily(
        "shadowproxy_shadow_breaker_open", "1 while a shadow is left alone after failures.", labels=["shadow"]
    )
    verdicts = CounterMetricFamily(
        "shadowproxy_verdicts", "What comparing said of a shadow's answers.", labels=["shadow", "verdict"]
    )
    paused = GaugeMetricFamily("shadowproxy_shadow_paused", "1 while an operator pauses a shadow.", labels=["shadow"])
    unusable = GaugeMetricFamily(
        "shadowproxy_shadow_unusable", "1 while a shadow's own settings cannot be used.", labels=["shadow"]
    )
    percent = GaugeMetricFamily("shadowproxy_shadow_percent", "The percent in force.", labels=["shadow"])
    for shadow in census.shadows:
        name = shadow.name
        chosen.add_metric([name], shadow.chosen)
        for reason in NotChosen:
            passed.add_metric([name, reason], shadow.not_chosen.get(reason, 0))
        for outcome in Outcome:
            outcomes.add_metric([name, outcome], shadow.outcomes.get(outcome, 0))
        retries.add_metric([name], shadow.retries)
        asked.add_metric([name], shadow.in_flight)
        waiting.add_metric([name], shadow.waiting)
        breaker.add_metric([name], shadow.breaker != "closed")
        for verdict in Verdict:
            verdicts.add_metric([name, verdict], shadow.verdicts.get(verdict, 0))
        paused.add_metric([name], shadow.paused or census.paused)
        unusable.add_metric([name], shadow.unusable is not None)
        percent.add_metric([name], shadow.percent)
    yield from (chosen, passed, outcomes, retries, verdicts, asked, waiting, breaker, paused, unusable, percent)
    yield _histogram(
        "shadowproxy_shadow_duration_seconds",
        "A shadow's whole answer, from dialling to its last byte.",
        [({"shadow": shadow.name}, shadow.durations) for shadow in census.shadows],
    )
    keys = CounterMetricFamily(
        "shadowproxy_sampling_keys", f"Requests that percent chose from, by whether their key was new in {WINDOW}.",
        labels=["seen"],
    )  # fmt: skip
    keys.add_metric(["first"], census.keys_first)
    keys.add_metric(["again"], census.keys_again)
    yield keys
    yield GaugeMetricFamily(
        "shadowproxy_loop_lag_seconds", "How late the event loop ran when last felt.", census.loop_lag
    )
    yield GaugeMetricFamily(
        "shadowproxy_memory_bytes", "Copies of bodies held for shadows and the log.", census.memory_held
    )
    yield GaugeMetricFamily("shadowproxy_memory_limit_bytes", "The bound on them.", census.memory_limit)


def _journal(statistics: Statistics) -> Iterator[Metric]:
    yield CounterMetricFamily("shadowproxy_records_written", "Records in the log.", statistics.written)
    yield CounterMetricFamily("shadowproxy_log_bytes", "Bytes of records written.", statistics.bytes)
    lost = CounterMetricFamily("shadowproxy_records_lost", "Exchanges without a record.", labels=["reason"])
    for reason in LOSSES:
        lost.add_metric([reason], statistics.lost.get(reason, 0))
    yield lost
    yield GaugeMetricFamily("shadowproxy_journal_queued", "Exchanges waiting to be written.", statistics.queued)
    yield GaugeMetricFamily("shadowproxy_journal_queued_bytes", "Bytes they hold.", statistics.queued_bytes)
    yield CounterMetricFamily("shadowproxy_log_segments", "Segments begun.", statistics.segments)
    writable = statistics.failing is None
    yield GaugeMetricFamily("shadowproxy_log_writable", "0 while records are lost as it cannot be written.", writable)


def _config(config: ConfigCensus) -> Iterator[Metric]:
    yield GaugeMetricFamily(
        "shadowproxy_config_generation", "Which configuration is in force; the first is 1.", config.generation
    )
    yield GaugeMetricFamily("shadowproxy_config_loaded_timestamp_seconds", "Since when.", config.loaded_at)
    yield GaugeMetricFamily(
        "shadowproxy_config_last_reload_successful", "0 while the file holds what cannot be used.", config.error is None
    )
    reloads = CounterMetricFamily(
        "shadowproxy_config_reloads", "Configurations read again, by what came of it.", labels=["result"]
    )
    reloads.add_metric(["ok"], config.reloads)
    reloads.add_metric(["failed"], config.failures)
    yield reloads


def _histogram(name: str, told: str, series: Iterable[tuple[dict[str, str], Durations]]) -> HistogramMetricFamily:
    rows = list(series)
    family = HistogramMetricFamily(name, told, labels=list(rows[0][0]) if rows else ["shadow"])
    for labels, times in rows:
        bounds = [*(str(bound) for bound in BOUNDS), "+Inf"]
        family.add_metric(
            list(labels.values()), list(zip(bounds, accumulate(times.counts), strict=True)), sum_value=times.total
        )
    return family
