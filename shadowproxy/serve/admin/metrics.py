"""The sidecar's counts for Prometheus. They are kept as plain numbers, and become metrics when it scrapes.

docs/reference/metrics.md describes each metric; a test compares the two.
"""

import time
from collections.abc import Iterable, Iterator
from itertools import accumulate

from prometheus_client import CollectorRegistry, generate_latest
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, HistogramMetricFamily, Metric
from prometheus_client.registry import Collector

from shadowproxy import __version__
from shadowproxy.exchange import LIVE, Outcome, Verdict
from shadowproxy.serve.account import SHORT
from shadowproxy.serve.admin.census import Census, ConfigCensus, Durations
from shadowproxy.serve.journal.losses import LOSSES
from shadowproxy.serve.journal.statistics import Statistics
from shadowproxy.serve.live.proxy import REJECTED_STATUSES
from shadowproxy.serve.policy.not_chosen import NotChosen
from shadowproxy.serve.policy.sampling import WINDOW
from shadowproxy.serve.standing.answer import WORDS, StandingWord
from shadowproxy.serve.telemetry.durations import BOUNDS
from shadowproxy.serve.upload.statistics import UploadStatistics


def text(census: Census) -> bytes:
    """Every metric in Prometheus's text format."""
    registry = CollectorRegistry()
    registry.register(_CensusCollector(census))
    return generate_latest(registry)


def families(census: Census) -> Iterator[Metric]:
    """Every metric, for whoever has another format."""
    return _CensusCollector(census).collect()


class _CensusCollector(Collector):
    """A census as metrics."""

    def __init__(self, census: Census) -> None:
        self._census = census

    def collect(self) -> Iterator[Metric]:
        census = self._census
        build = GaugeMetricFamily("shadowproxy_build_info", "The running version; always 1.", labels=["version"])
        build.add_metric([__version__], 1)
        yield build
        yield from _live(census)
        yield from _shadows(census)
        yield from _ids(census)
        yield _failed_answers(census)
        if census.standing:
            yield from _standing(census.standing)
        yield from _journal(census.journal)
        if census.uploads is not None:
            yield from _uploads(census.uploads, time.time())
        yield from _config(census.config)
        yield CounterMetricFamily(
            "shadowproxy_worker_restarts", "How often a worker died and was started again.", census.worker_restarts
        )
        yield CounterMetricFamily(
            "shadowproxy_recorder_restarts",
            "How often the recorder died and was started again.",
            census.recorder_restarts,
        )


def _live(census: Census) -> Iterator[Metric]:
    accepted = CounterMetricFamily(
        "shadowproxy_requests", "Accepted requests, by how live's leg ended.", labels=["outcome"]
    )
    for outcome in Outcome:
        accepted.add_metric([outcome], census.outcomes.get(outcome, 0))
    yield accepted
    rejected = CounterMetricFamily(
        "shadowproxy_requests_refused", "Rejected requests, by the status they were answered with.", labels=["status"]
    )
    for status in REJECTED_STATUSES:  # from zero: a rate does not see the first count of a series that begins with it
        rejected.add_metric([str(status)], census.rejected.get(status, 0))
    yield rejected
    shed = CounterMetricFamily(
        "shadowproxy_callers_shed",
        "Connections of callers who had sent and taken nothing, ended in favour of others, by what was short.",
        labels=["short"],
    )
    for short in SHORT:
        shed.add_metric([short], census.callers_shed.get(short, 0))
    yield shed
    yield CounterMetricFamily(
        "shadowproxy_tls_failed",
        "TLS connections of callers that failed, in their handshake or later (`listen_tls`).",
        census.tls_failed,
    )
    yield GaugeMetricFamily("shadowproxy_requests_in_flight", "Requests under way.", census.in_flight)
    yield GaugeMetricFamily("shadowproxy_tunnels", "Open WebSockets.", census.tunnels)
    yield CounterMetricFamily(
        "shadowproxy_live_retries",
        "Requests sent to live a second time, because it had closed an idle connection.",
        census.retries,
    )
    yield _histogram(
        "shadowproxy_live_duration_seconds",
        "Time of live's whole response, from dialling to its last byte.",
        [({"mirrored": "true"}, census.live_mirrored), ({"mirrored": "false"}, census.live_alone)],
    )


def _ids(census: Census) -> Iterator[Metric]:
    """What is known of stateful shadows' own IDs: only of shadows with `state`."""
    translated = CounterMetricFamily(
        "shadowproxy_shadow_translated", "Requests sent with a shadow's own IDs in place of live's.", labels=["shadow"]
    )
    ids = GaugeMetricFamily(
        "shadowproxy_shadow_ids", "IDs of live's that are kept with a shadow's own.", labels=["shadow"]
    )
    dropped = CounterMetricFamily(
        "shadowproxy_shadow_ids_dropped", "IDs given up for others, or for their age.", labels=["shadow"]
    )
    for shadow in census.shadows:
        if shadow.ids is not None:
            translated.add_metric([shadow.name], shadow.translated)
            ids.add_metric([shadow.name], shadow.ids)
            dropped.add_metric([shadow.name], shadow.ids_dropped)
    yield from (translated, ids, dropped)
    yield CounterMetricFamily(
        "shadowproxy_ids_not_shared", "Messages about IDs that did not reach another worker.", census.ids_not_shared
    )


def _shadows(census: Census) -> Iterator[Metric]:
    chosen = CounterMetricFamily("shadowproxy_shadow_chosen", "Requests chosen for a shadow.", labels=["shadow"])
    not_chosen = CounterMetricFamily(
        "shadowproxy_shadow_not_chosen", "Requests not chosen for a shadow, by reason.", labels=["shadow", "reason"]
    )
    outcomes = CounterMetricFamily(
        "shadowproxy_shadow_outcomes", "How a shadow's legs ended. Their sum is the chosen requests that are settled.",
        labels=["shadow", "outcome"],
    )  # fmt: skip
    retries = CounterMetricFamily(
        "shadowproxy_shadow_retries",
        "Requests sent to a shadow a second time, because it had closed an idle connection.",
        labels=["shadow"],
    )
    in_flight = GaugeMetricFamily("shadowproxy_shadow_in_flight", "Requests under way to a shadow.", labels=["shadow"])
    waiting = GaugeMetricFamily(
        "shadowproxy_shadow_waiting", "Requests that wait in a shadow's lane.", labels=["shadow"]
    )
    breaker = GaugeMetricFamily(
        "shadowproxy_shadow_breaker_open", "1 while a shadow gets no requests because it failed.", labels=["shadow"]
    )
    verdicts = CounterMetricFamily(
        "shadowproxy_verdicts", "Verdicts on a shadow's answers.", labels=["shadow", "verdict"]
    )
    paused = GaugeMetricFamily(
        "shadowproxy_shadow_paused", "1 while a shadow is paused by an operator.", labels=["shadow"]
    )
    unusable = GaugeMetricFamily(
        "shadowproxy_shadow_unusable", "1 while a shadow's own settings cannot be used.", labels=["shadow"]
    )
    percent = GaugeMetricFamily(
        "shadowproxy_shadow_percent", "The percent of requests that is in force.", labels=["shadow"]
    )
    used = GaugeMetricFamily(
        "shadowproxy_shadow_budget_used", "How much of a shadow's budget is used.", labels=["shadow", "of"]
    )
    allowed = GaugeMetricFamily(
        "shadowproxy_shadow_budget_allowed", "How much a shadow's budget allows.", labels=["shadow", "of"]
    )
    steps = CounterMetricFamily(
        "shadowproxy_ramp_steps",
        "Steps of a percent that rises by itself, by direction.",
        labels=["shadow", "direction"],
    )
    waiting_ramp = GaugeMetricFamily(
        "shadowproxy_ramp_waiting",
        "1 while a ramp that has stepped back waits before it rises again.",
        labels=["shadow"],
    )
    for shadow in census.shadows:
        name = shadow.name
        if shadow.ramp is not None:
            steps.add_metric([name, "up"], shadow.ramp.raised)
            steps.add_metric([name, "back"], shadow.ramp.back)
            waiting_ramp.add_metric([name], shadow.ramp.state == "waiting")
        for of, so_far, most in shadow.budget_parts:
            used.add_metric([name, of], so_far)
            allowed.add_metric([name, of], most)
        chosen.add_metric([name], shadow.chosen)
        for reason in NotChosen:
            not_chosen.add_metric([name, reason], shadow.not_chosen.get(reason, 0))
        for outcome in Outcome:
            outcomes.add_metric([name, outcome], shadow.outcomes.get(outcome, 0))
        retries.add_metric([name], shadow.retries)
        in_flight.add_metric([name], shadow.in_flight)
        waiting.add_metric([name], shadow.waiting)
        breaker.add_metric([name], shadow.breaker != "closed")
        for verdict in Verdict:
            verdicts.add_metric([name, verdict], shadow.verdicts.get(verdict, 0))
        paused.add_metric([name], shadow.paused or census.paused)
        unusable.add_metric([name], shadow.unusable is not None)
        percent.add_metric([name], shadow.percent)
    yield from (chosen, not_chosen, outcomes, retries, verdicts, in_flight, waiting, breaker, paused, unusable, percent)
    yield from (used, allowed, steps, waiting_ramp)
    yield _histogram(
        "shadowproxy_shadow_duration_seconds",
        "Time of a shadow's whole response, from dialling to its last byte.",
        [({"shadow": shadow.name}, shadow.durations) for shadow in census.shadows],
    )
    keys = CounterMetricFamily(
        "shadowproxy_sampling_keys",
        f"Requests that a percent chose from, by whether their key was new among the last {WINDOW}.",
        labels=["seen"],
    )  # fmt: skip
    keys.add_metric(["first"], census.keys_first)
    keys.add_metric(["again"], census.keys_again)
    yield keys
    yield GaugeMetricFamily(
        "shadowproxy_loop_lag_seconds", "How late the event loop was when last measured.", census.loop_lag
    )
    yield GaugeMetricFamily(
        "shadowproxy_memory_bytes", "Bytes held for shadows, the log and callers' requests.", census.memory_held
    )
    yield GaugeMetricFamily(
        "shadowproxy_memory_limit_bytes", "The bound on shadowproxy_memory_bytes.", census.memory_limit
    )


def _failed_answers(census: Census) -> Metric:
    failed = CounterMetricFamily(
        "shadowproxy_answers_failed",
        "Answers that say that they failed though their status is a success.",
        labels=["endpoint"],
    )
    failed.add_metric([LIVE], census.answers_failed)
    for shadow in census.shadows:
        failed.add_metric([shadow.name], shadow.answers_failed)
    return failed


def _standing(words: Iterable[StandingWord]) -> Iterator[Metric]:
    """Only where `verdict` is not null."""
    verdict = GaugeMetricFamily(
        "shadowproxy_verdict", "1 for the word that the standing verdict on a shadow is.", labels=["shadow", "verdict"]
    )
    requests = GaugeMetricFamily(
        "shadowproxy_verdict_requests", "Requests that the standing verdict rests on.", labels=["shadow"]
    )
    for each in words:
        for word in WORDS:
            verdict.add_metric([each.shadow, word], word == each.word)
        requests.add_metric([each.shadow], each.n)
    yield from (verdict, requests)


def _journal(statistics: Statistics) -> Iterator[Metric]:
    yield CounterMetricFamily("shadowproxy_records_written", "Records written to the log.", statistics.written)
    yield CounterMetricFamily("shadowproxy_log_bytes", "Bytes of records written.", statistics.bytes)
    yield CounterMetricFamily(
        "shadowproxy_records_sampled_out", "Exchanges that log.sample leaves out of the log.", statistics.sampled_out
    )
    lost = CounterMetricFamily("shadowproxy_records_lost", "Exchanges without a record.", labels=["reason"])
    for reason in LOSSES:
        lost.add_metric([reason], statistics.lost.get(reason, 0))
    yield lost
    yield GaugeMetricFamily("shadowproxy_journal_queued", "Exchanges waiting to be written.", statistics.queued)
    yield GaugeMetricFamily(
        "shadowproxy_journal_queued_bytes", "Bytes of the exchanges waiting to be written.", statistics.queued_bytes
    )
    yield CounterMetricFamily("shadowproxy_log_segments", "Segments opened.", statistics.segments)
    writable = statistics.failing is None
    yield GaugeMetricFamily(
        "shadowproxy_log_writable", "0 while records are lost because the log cannot be written.", writable
    )


def _uploads(uploads: UploadStatistics, now: float) -> Iterator[Metric]:
    """Only where `log.upload.to` is set."""
    yield GaugeMetricFamily("shadowproxy_upload_waiting", "Closed segments that the store lacks.", uploads.waiting)
    yield GaugeMetricFamily("shadowproxy_upload_waiting_bytes", "Their bytes.", uploads.waiting_bytes)
    age = 0.0 if uploads.oldest is None else max(0.0, now - uploads.oldest)
    yield GaugeMetricFamily(
        "shadowproxy_upload_oldest_seconds", "How long ago the oldest of them was last written; 0 if none waits.", age
    )
    yield CounterMetricFamily("shadowproxy_upload_segments", "Segments that the store has confirmed.", uploads.sent)
    yield CounterMetricFamily("shadowproxy_upload_bytes", "Their bytes.", uploads.sent_bytes)
    yield CounterMetricFamily("shadowproxy_upload_summaries", "Those with a summary beside them.", uploads.summaries)
    yield CounterMetricFamily("shadowproxy_upload_failures", "Attempts to upload that failed.", uploads.failures)
    yield CounterMetricFamily(
        "shadowproxy_upload_removed", "Segments that log.keep.size removed before the store had them.", uploads.removed
    )


def _config(config: ConfigCensus) -> Iterator[Metric]:
    yield GaugeMetricFamily(
        "shadowproxy_config_generation", "The number of the configuration in force; the first is 1.", config.generation
    )
    yield GaugeMetricFamily(
        "shadowproxy_config_loaded_timestamp_seconds", "When the configuration in force was loaded.", config.loaded_at
    )
    yield GaugeMetricFamily(
        "shadowproxy_config_last_reload_successful", "0 while the file is invalid.", config.error is None
    )
    reloads = CounterMetricFamily(
        "shadowproxy_config_reloads", "Reloads of the configuration, by their result.", labels=["result"]
    )
    reloads.add_metric(["ok"], config.reloads)
    reloads.add_metric(["failed"], config.failures)
    yield reloads


def _histogram(name: str, help_text: str, series: Iterable[tuple[dict[str, str], Durations]]) -> HistogramMetricFamily:
    rows = list(series)
    family = HistogramMetricFamily(name, help_text, labels=list(rows[0][0]) if rows else ["shadow"])
    for labels, times in rows:
        bounds = [*(str(bound) for bound in BOUNDS), "+Inf"]
        family.add_metric(
            list(labels.values()), list(zip(bounds, accumulate(times.counts), strict=True)), sum_value=times.total
        )
    return family
