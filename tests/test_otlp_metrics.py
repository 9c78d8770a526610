"""The metrics that a collector gets are those that Prometheus scrapes."""

import logging
import math

import pytest
from conftest import StartProxy
from fakes import always, answer
from opentelemetry.sdk.metrics.export import Gauge, Histogram, Sum
from opentelemetry.sdk.resources import Resource
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, HistogramMetricFamily
from prometheus_client.parser import text_string_to_metric_families
from test_metrics import GET, scrape
from test_tracing import Collector, collector

from shadowproxy.serve.admin import metrics
from shadowproxy.serve.telemetry.otlp_metrics import MetricsSender, in_words_of_otlp, open_sender

__all__ = ["collector"]


async def test_a_collector_gets_every_series_that_prometheus_scrapes(proxy: StartProxy) -> None:
    async with proxy(shadows={"a": always(answer(b"{}"))}, admin="127.0.0.1:0") as running:
        await running.ask(GET)
        await scrape(running, written=1)
        known = running.sidecar.recorder.census()
    assert known is not None
    scraped = {
        (sample.name, tuple(sorted(sample.labels.items()))): sample.value
        for family in text_string_to_metric_families(metrics.text(known).decode())
        for sample in family.samples
    }
    sent: dict[tuple[str, tuple[tuple[str, str], ...]], float] = {}
    for metric in in_words_of_otlp(metrics.families(known), 1, 2):
        for point in metric.data.data_points:
            labels = {str(key): str(value) for key, value in (point.attributes or {}).items()}
            if isinstance(metric.data, Histogram):
                total = 0
                for bound, count in zip([*point.explicit_bounds, math.inf], point.bucket_counts, strict=True):  # type: ignore[union-attr]
                    total += count
                    le = "+Inf" if math.isinf(bound) else str(bound)
                    sent[f"{metric.name}_bucket", tuple(sorted({**labels, "le": le}.items()))] = total
                sent[f"{metric.name}_count", tuple(sorted(labels.items()))] = point.count  # type: ignore[union-attr]
                sent[f"{metric.name}_sum", tuple(sorted(labels.items()))] = point.sum  # type: ignore[union-attr]
            else:
                sent[metric.name, tuple(sorted(labels.items()))] = point.value  # type: ignore[union-attr]
    assert sent == scraped


def test_totals_are_cumulative_and_have_their_beginning_and_their_unit() -> None:
    counter = CounterMetricFamily("shadowproxy_x_seconds", "how long", 3)
    gauge = GaugeMetricFamily("shadowproxy_y_bytes", "how much", 4)
    histogram = HistogramMetricFamily("shadowproxy_z", "z", labels=["a"])
    of_counter, of_gauge = in_words_of_otlp([counter, gauge, histogram], 5, 6)  # the last has no series yet
    assert isinstance(of_counter.data, Sum)
    assert isinstance(of_gauge.data, Gauge)
    assert (of_counter.name, of_counter.unit, of_counter.description) == (
        "shadowproxy_x_seconds_total",
        "s",
        "how long",
    )
    assert of_counter.data.is_monotonic
    assert (of_counter.data.data_points[0].start_time_unix_nano, of_counter.data.data_points[0].time_unix_nano) == (
        5,
        6,
    )
    assert (of_gauge.name, of_gauge.unit) == ("shadowproxy_y_bytes", "By")


def test_a_collector_that_takes_no_metrics_is_named_rarely(
    collector: Collector, caplog: pytest.LogCaptureFixture
) -> None:
    collector.status = 400
    sender = open_sender("host/0", collector.url)
    with caplog.at_level(logging.WARNING):
        for _ in range(6):
            sender._send([GaugeMetricFamily("shadowproxy_y", "y", 1)], 1)
        sender.close([], 1)
    said = "Failed to export metrics batch code: 400, reason: Bad Request"
    assert [line.removeprefix("OpenTelemetry reports") for line in caplog.messages] == [
        f": {said}", f" 2 times: {said}", f" 4 times: {said}"
    ]  # fmt: skip


def test_what_cannot_be_made_costs_a_line_and_nothing_else(caplog: pytest.LogCaptureFixture) -> None:
    sender = MetricsSender(None, Resource.create(), 1.0)  # type: ignore[arg-type]
    sender._send([GaugeMetricFamily("shadowproxy_y", "y", 1)], 1)
    assert caplog.messages == ["sending metrics failed"]


@pytest.mark.parametrize(("given", "seconds"), [("", 60.0), ("1000", 1.0), ("1", 0.1), ("soon", 60.0)])
def test_the_environment_says_how_often(
    collector: Collector, monkeypatch: pytest.MonkeyPatch, given: str, seconds: float
) -> None:
    monkeypatch.setenv("OTEL_METRIC_EXPORT_INTERVAL", given)
    sender = open_sender("host/0", collector.url)
    sender.close([], 1)
    assert sender.every == seconds


def test_while_a_collector_hangs_one_set_of_values_waits_and_the_end_comes(collector: Collector) -> None:
    collector.answering.clear()
    sender = open_sender("host/0", collector.url)
    for number in range(5):
        sender.offer([GaugeMetricFamily("shadowproxy_y", "y", number)], 1)
    assert sender._waiting.qsize() <= 1
    collector.answering.set()
    sender.close([GaugeMetricFamily("shadowproxy_y", "y", 9)], 1)
    assert collector.metrics["shadowproxy_y"].gauge.data_points[0].as_double == 9
