"""Sends the metrics that Prometheus would scrape to a collector, by OpenTelemetry's SDK, under the same names.

They are counted elsewhere, as plain numbers, so there are no instruments: what the exporter takes is made of them.
Totals are cumulative, since the program began.
"""

import logging
import os
import queue
import threading
import time
from collections.abc import Iterable, Iterator
from itertools import pairwise

from opentelemetry.exporter.otlp.proto.http.metric_exporter import OTLPMetricExporter
from opentelemetry.sdk.metrics.export import (
    AggregationTemporality,
    Gauge,
    Histogram,
    HistogramDataPoint,
    Metric,
    MetricsData,
    NumberDataPoint,
    ResourceMetrics,
    ScopeMetrics,
    Sum,
)
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.util.instrumentation import InstrumentationScope
from prometheus_client import Metric as Family

from shadowproxy import __version__
from shadowproxy.serve.telemetry.operator_log import Repeats, times_text
from shadowproxy.serve.telemetry.otlp import FLUSH, log_messages_of_sdk, resource_of, without_credentials

EVERY = 60.0
"""Seconds between two exports, unless OTEL_METRIC_EXPORT_INTERVAL names milliseconds."""

_INTERVAL = "OTEL_METRIC_EXPORT_INTERVAL"
_SHORTEST, _LONGEST = 0.1, 3600.0
_log = logging.getLogger(__name__)


def open_sender(instance: str, collector: str | None) -> "MetricsSender":
    """A sender that is set up by the environment's OTEL_* variables. If these are bad it raises what the SDK raises."""
    log_messages_of_sdk()
    shown = without_credentials(collector or "http://localhost:4318")
    _log.info("sending metrics to %s", shown, extra={"event": "tracing_on", "collector": shown})
    return MetricsSender(OTLPMetricExporter(), resource_of(instance), _interval(os.environ.get(_INTERVAL)))


def _interval(given: str | None) -> float:
    if not given:
        return EVERY
    try:
        return min(max(float(given) / 1000.0, _SHORTEST), _LONGEST)
    except ValueError:
        words = f'{_INTERVAL}: "{given}" is not a number of milliseconds, so {EVERY:.0f} s is used'
        _log.warning("%s", words, extra={"event": "tracing_set_up"})
        return EVERY


class MetricsSender:
    """Owns the SDK's exporter and a daemon thread that waits for the collector. `every`: seconds between two offers."""

    def __init__(self, exporter: OTLPMetricExporter, resource: Resource, every: float) -> None:
        self.every = every
        self._exporter = exporter
        self._resource = resource
        self._scope = InstrumentationScope("shadowproxy", __version__)
        self._repeats = Repeats()
        self._waiting: queue.SimpleQueue[tuple[list[Family], int] | None] = queue.SimpleQueue()
        self._thread = threading.Thread(target=self._send_all, name="shadowproxy-metrics", daemon=True)
        self._thread.start()

    def offer(self, families: Iterable[Family], began_ns: int) -> None:
        """Send the present values, unless earlier ones still wait: the next ones say what these would. Never waits.

        `began_ns` is when counting began, in nanoseconds since the Unix epoch.
        """
        if self._waiting.empty():
            self._waiting.put((list(families), began_ns))

    def close(self, families: Iterable[Family], began_ns: int) -> None:
        """Send the last values, for at most FLUSH seconds. Blocks."""
        self._waiting.put((list(families), began_ns))
        self._waiting.put(None)
        self._thread.join(FLUSH)

    def _send_all(self) -> None:
        while (taken := self._waiting.get()) is not None:
            self._send(*taken)
        self._exporter.shutdown()

    def _send(self, families: list[Family], began_ns: int) -> None:
        """Blocks until the collector has them or the SDK gives up."""
        try:
            metrics = [*in_words_of_otlp(families, began_ns, time.time_ns())]
            scopes = [ScopeMetrics(self._scope, metrics, "")]
            # Where the collector does not take them, the SDK says why.
            self._exporter.export(MetricsData([ResourceMetrics(self._resource, scopes, "")]))
        except Exception:  # noqa: BLE001  # the SDK does not document what it raises
            if count := self._repeats.worth_logging("defect"):
                extra = {"event": "tracing_failed", "count": count}
                _log.exception("sending metrics failed%s", times_text(count), extra=extra)


def in_words_of_otlp(families: Iterable[Family], began_ns: int, now_ns: int) -> Iterator[Metric]:
    """Prometheus's metrics as OTLP has them, under the names that a scrape has."""
    cumulative = AggregationTemporality.CUMULATIVE
    for family in families:
        data: Sum | Gauge | Histogram
        name = family.name
        if family.type == "counter":
            name = f"{family.name}_total"
            data = Sum([*_points(family, name, began_ns, now_ns)], cumulative, is_monotonic=True)
        elif family.type == "histogram":
            data = Histogram([*_histograms(family, began_ns, now_ns)], cumulative)
        else:
            data = Gauge([*_points(family, name, began_ns, now_ns)])
        if data.data_points:
            yield Metric(name, family.documentation, _unit(family.name), data)


def _points(family: Family, name: str, began_ns: int, now_ns: int) -> Iterator[NumberDataPoint]:
    for sample in family.samples:
        if sample.name == name:
            yield NumberDataPoint(sample.labels, began_ns, now_ns, float(sample.value))  # some are booleans


def _histograms(family: Family, began_ns: int, now_ns: int) -> Iterator[HistogramDataPoint]:
    """A series' samples follow each other: its buckets by their bounds, its count, its sum."""
    bounds: list[float] = []
    counts: list[int] = []
    count = 0
    for sample in family.samples:
        labels = {key: value for key, value in sample.labels.items() if key != "le"}
        if sample.name.endswith("_bucket"):
            bounds.append(float(sample.labels["le"]))
            counts.append(int(sample.value))
        elif sample.name.endswith("_count"):
            count = int(sample.value)
        elif sample.name.endswith("_sum"):
            each = [counts[0], *(later - earlier for earlier, later in pairwise(counts))]
            # None for the least and the greatest, which OTLP may leave out; the SDK has no type for that.
            yield HistogramDataPoint(labels, began_ns, now_ns, count, sample.value, each, bounds[:-1], None, None)  # type: ignore[arg-type]
            bounds, counts = [], []


def _unit(name: str) -> str:
    """The unit in UCUM, by the name's end."""
    for end, unit in (("_seconds", "s"), ("_bytes", "By")):
        if name.endswith(end):
            return unit
    return ""
