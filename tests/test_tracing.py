"""A collector gets a span for each leg, in the caller's trace, and no request is delayed or lost for it."""

import gzip
import logging
import os
import re
import subprocess
import sys
import threading
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest
from fakes import Origin, answer, refusing_port
from opentelemetry.proto.collector.logs.v1.logs_service_pb2 import ExportLogsServiceRequest
from opentelemetry.proto.collector.metrics.v1.metrics_service_pb2 import ExportMetricsServiceRequest
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest
from opentelemetry.proto.logs.v1 import logs_pb2
from opentelemetry.proto.metrics.v1 import metrics_pb2
from opentelemetry.proto.trace.v1 import trace_pb2
from program import Program

from shadowproxy.exchange import Exchange, Failure, Field, Outcome, Reply, Request, Skipped, Verdict
from shadowproxy.serve.policy.headers import fields_for_shadow
from shadowproxy.serve.telemetry import otlp
from shadowproxy.serve.telemetry.otlp import Tracer, open_tracer
from shadowproxy.serve.telemetry.spans import Destination, Span, spans
from shadowproxy.serve.telemetry.tracing import tracer_from_environment, wanted

TRACE = "0af7651916cd43dd8448eb211c80319c"
CALLER = "b7ad6b7169203331"
AT = 1_769_860_800_000_000_000
RECORD = "019c0000-0000-7000-8000-000000000001"
CLIENT, INTERNAL = trace_pb2.Span.SPAN_KIND_CLIENT, trace_pb2.Span.SPAN_KIND_INTERNAL
PLACES = {
    "live": Destination.of("http://user:s3cret@model-v1:8000/base/", lambda target: target),
    "a": Destination.of("https://[::1]/", lambda target: target.replace(b"/v1/", b"/v2/")),
    "control": Destination.of("http://model-v1:8000", lambda target: target),
}


def request(*fields: Field, method: str = "POST", target: bytes = b"/v1/p?key=s3cret", record: str = RECORD) -> Request:
    return Request("r-1", record, AT, method, target, fields, b"{}", 2)


def reply(status: int = 200, began_ms: float = 0.0) -> Reply:
    return Reply(status, ((b"X", b"s3cret"),), b"s3cret", 6, 1.0, 4.0, began_ms)


def exchange(
    *fields: Field,
    live: Reply | Failure | None = None,
    control: Reply | None = None,
    record: str = RECORD,
    **shadows: Reply | Failure | Skipped,
) -> Exchange:
    return Exchange(request(*fields, record=record), live or reply(), shadows, control)


def of(exchange: Exchange, verdicts: Mapping[str, Verdict] | None = None) -> dict[str, Span]:
    return {span.name: span for span in spans(exchange, verdicts or {}, PLACES)}


# --- what a span holds ------------------------------------------------------------------------------------------------


def test_a_span_follows_the_semantic_conventions() -> None:
    span = of(exchange(a=reply(404, began_ms=250.0)), {"a": Verdict.MISMATCH})["POST a"]
    assert span.attributes == {
        "http.request.method": "POST",
        "http.request.body.size": 2,
        "url.full": "https://[::1]/v2/p",
        "server.address": "::1",
        "server.port": 443,
        "http.response.status_code": 404,
        "http.response.body.size": 6,
        "error.type": "404",
        "shadowproxy.request_id": "r-1",
        "shadowproxy.record": RECORD,
        "shadowproxy.shadow": "a",
        "shadowproxy.verdict": "mismatch",
    }
    assert (span.begin, span.end) == (AT + 250_000_000, AT + 254_000_000)
    assert span.sent


def test_a_span_holds_no_query_no_field_no_body_and_no_credential() -> None:
    span = of(exchange((b"Authorization", b"s3cret"), a=reply(), control=reply()))
    assert "s3cret" not in repr(span)
    assert span["POST live"].attributes["url.full"] == "http://model-v1:8000/base/v1/p"


def test_an_answer_without_fault_has_no_error() -> None:
    span = of(exchange())["POST live"]
    assert span.error is None
    assert "error.type" not in span.attributes
    assert "shadowproxy.shadow" not in span.attributes


def test_a_failures_span_has_its_outcome_and_the_part_of_the_answer_that_came() -> None:
    failure = Failure(Outcome.INCOMPLETE, "cut off", 7.0, reply(200), began_ms=1.0)
    span = of(exchange(live=failure))["POST live"]
    assert (span.attributes["error.type"], span.error) == ("incomplete", "cut off")
    assert span.attributes["http.response.status_code"] == 200
    assert (span.begin, span.end) == (AT + 1_000_000, AT + 8_000_000)


def test_a_skipped_shadow_has_a_span_without_duration() -> None:
    span = of(exchange(a=Skipped(Outcome.LANE_FULL, "too many")))["POST a"]
    assert (span.begin, span.end, span.sent) == (AT, AT, False)
    assert span.attributes["error.type"] == "lane_full"


def test_the_control_leg_has_a_span_named_control() -> None:
    span = of(exchange(control=reply()))["POST control"]
    assert span.attributes["shadowproxy.shadow"] == "control"


def test_a_live_system_that_is_a_fixed_answer_has_a_path_and_no_address() -> None:
    (span,) = spans(exchange(), {}, {})
    assert span.attributes["url.path"] == "/v1/p"
    assert {"url.full", "server.address", "server.port"} & set(span.attributes) == set()
    assert not span.sent


@pytest.mark.parametrize(
    ("method", "target", "name", "attributes"),
    [
        ("BREW", b"/", "HTTP live", {"http.request.method": "_OTHER", "http.request.method_original": "BREW"}),
        ("OPTIONS", b"*", "OPTIONS live", {"url.full": "http://model-v1:8000/base"}),
        (
            "GET",
            b"/a;jsessionid=s3cret\xff/b;v=1",
            "GET live",
            {"url.full": "http://model-v1:8000/base/a;jsessionid=[redacted]/b;v=1"},
        ),
        ("GET", b"/a b\xff%20;x", "GET live", {"url.full": "http://model-v1:8000/base/a%20b%FF%20;x"}),
    ],
)
def test_odd_requests_have_spans_too(method: str, target: bytes, name: str, attributes: dict[str, str]) -> None:
    (span,) = spans(Exchange(request(method=method, target=target), reply(), {}), {}, PLACES)
    assert span.name == name
    assert attributes.items() <= span.attributes.items()


# --- whether spans are sent ------------------------------------------------------------------------------------------

AT_ALL = {"OTEL_EXPORTER_OTLP_ENDPOINT": "http://127.0.0.1:4318"}


@pytest.mark.parametrize(
    ("environment", "expected"),
    [
        ({}, False),
        ({"OTEL_SERVICE_NAME": "api"}, False),
        (AT_ALL, True),
        ({"OTEL_EXPORTER_OTLP_TRACES_ENDPOINT": "http://127.0.0.1:4318/v1/traces"}, True),
        ({"OTEL_TRACES_EXPORTER": "otlp"}, True),
        ({**AT_ALL, "OTEL_TRACES_EXPORTER": "none"}, False),
        ({**AT_ALL, "OTEL_SDK_DISABLED": "TRUE"}, False),
        ({**AT_ALL, "OTEL_SDK_DISABLED": "false"}, True),
    ],
)
def test_the_environment_decides_whether_spans_are_sent(environment: dict[str, str], expected: bool) -> None:
    assert wanted(environment) is expected


def test_an_unknown_exporter_is_logged(caplog: pytest.LogCaptureFixture) -> None:
    assert not wanted({**AT_ALL, "OTEL_TRACES_EXPORTER": "zipkin"})
    assert caplog.messages == ['OTEL_TRACES_EXPORTER: "zipkin" is unknown here; otlp and none are known']


def test_without_the_extra_one_line_names_the_command_that_installs_it(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setenv(*next(iter(AT_ALL.items())))
    monkeypatch.delitem(sys.modules, "shadowproxy.serve.telemetry.otlp")
    monkeypatch.setitem(sys.modules, "opentelemetry", None)
    monkeypatch.setitem(sys.modules, "opentelemetry.context", None)
    assert tracer_from_environment("host/0") is None
    (line,) = caplog.messages
    assert line.endswith("pip install '.[otel]' in a checkout installs it")


def test_a_failed_setup_is_logged_and_stops_nothing(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def fail(instance: str, collector: str | None, verdicts: bool) -> Tracer:
        raise OSError("no such certificate")

    monkeypatch.setenv(*next(iter(AT_ALL.items())))
    monkeypatch.setattr(otlp, "open_tracer", fail)
    assert tracer_from_environment("host/0") is None
    assert caplog.messages == ["sending no spans: OpenTelemetry cannot be set up (OSError)"]


@pytest.mark.slow
def test_opentelemetry_is_imported_only_if_the_environment_asks_for_it() -> None:
    script = (
        "import sys, shadowproxy.serve.run; sys.exit(any(name.startswith('opentelemetry') for name in sys.modules))"
    )
    assert subprocess.run([sys.executable, "-c", script], timeout=60).returncode == 0


# --- a collector hears it --------------------------------------------------------------------------------------------


@dataclass
class Collector:
    """A receiver of OTLP over HTTP: keeps what it is sent, and gives the answer that it was made with."""

    url: str
    status: int = 200
    heard: list[ExportTraceServiceRequest] = field(default_factory=list)
    heard_events: list[ExportLogsServiceRequest] = field(default_factory=list)
    heard_metrics: list[ExportMetricsServiceRequest] = field(default_factory=list)
    answering: threading.Event = field(default_factory=threading.Event)

    @property
    def spans(self) -> list[trace_pb2.Span]:
        return [
            span
            for each in self.heard
            for of in each.resource_spans
            for scope in of.scope_spans
            for span in scope.spans
        ]

    @property
    def events(self) -> list[logs_pb2.LogRecord]:
        of = [each for heard in self.heard_events for each in heard.resource_logs]
        return [record for each in of for scope in each.scope_logs for record in scope.log_records]

    @property
    def metrics(self) -> dict[str, metrics_pb2.Metric]:
        """The latest that was said, by name."""
        of = [each for heard in self.heard_metrics for each in heard.resource_metrics]
        return {metric.name: metric for each in of for scope in each.scope_metrics for metric in scope.metrics}

    @property
    def resource(self) -> dict[str, Any]:
        return attributes(self.heard[0].resource_spans[0].resource.attributes)


def attributes(pairs: Any) -> dict[str, Any]:
    return {pair.key: getattr(pair.value, pair.value.WhichOneof("value")) for pair in pairs}


@pytest.fixture
def collector(monkeypatch: pytest.MonkeyPatch) -> Iterator[Collector]:
    class Receiver(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers["Content-Length"]))
            if self.headers["Content-Encoding"] == "gzip":
                body = gzip.decompress(body)
            assert self.headers["Content-Type"] == "application/x-protobuf"
            hearing.answering.wait(20)
            if hearing.status == 200 and self.path == "/v1/traces":
                hearing.heard.append(ExportTraceServiceRequest.FromString(body))
            elif hearing.status == 200 and self.path == "/v1/logs":
                hearing.heard_events.append(ExportLogsServiceRequest.FromString(body))
            elif hearing.status == 200:
                assert self.path == "/v1/metrics"
                hearing.heard_metrics.append(ExportMetricsServiceRequest.FromString(body))
            self.send_response(hearing.status)
            self.send_header("Content-Length", "0")
            self.end_headers()

        def log_message(self, format: str, *args: object) -> None:
            """Standard error is the test runner's."""

    server = ThreadingHTTPServer(("127.0.0.1", 0), Receiver)
    server.daemon_threads = True
    hearing = Collector(f"http://127.0.0.1:{server.server_port}")
    hearing.answering.set()
    thread = threading.Thread(target=server.serve_forever, args=(0.01,))
    thread.start()
    for name in [name for name in os.environ if name.startswith("OTEL_")]:
        monkeypatch.delenv(name)
    monkeypatch.setenv("OTEL_EXPORTER_OTLP_ENDPOINT", hearing.url)
    yield hearing
    hearing.answering.set()
    server.shutdown()
    server.server_close()
    thread.join()


def send_spans(*exchanges: Exchange, verdicts: Mapping[str, Verdict] | None = None) -> None:
    tracer = open_tracer("host/0", os.environ["OTEL_EXPORTER_OTLP_ENDPOINT"])
    for each in exchanges:
        tracer.send(each, verdicts or {}, PLACES)
    tracer.close()


def traceparent(flags: str = "01", trace: str = TRACE) -> Field:
    return b"traceparent", f"00-{trace}-{CALLER}-{flags}".encode()


def test_live_and_shadow_are_children_of_the_callers_span(collector: Collector) -> None:
    send_spans(exchange(traceparent(), (b"tracestate", b"v=1"), a=reply(500)), verdicts={"a": Verdict.INCOMPARABLE})
    live, shadow = collector.spans
    assert [span.name for span in (live, shadow)] == ["POST live", "POST a"]
    for span in (live, shadow):
        assert span.trace_id.hex() == TRACE
        assert span.parent_span_id.hex() == CALLER
        assert span.trace_state == "v=1"
        assert span.kind == CLIENT
    assert live.span_id != shadow.span_id
    assert attributes(shadow.attributes)["shadowproxy.verdict"] == "incomparable"
    assert (live.status.code, shadow.status.code) == (trace_pb2.Status.STATUS_CODE_UNSET, 2)
    assert shadow.status.message == "answered 500"
    assert (live.start_time_unix_nano, live.end_time_unix_nano) == (AT, AT + 4_000_000)


def test_the_span_id_that_a_shadow_gets_is_the_one_that_the_collector_gets(collector: Collector) -> None:
    sent, _ = fields_for_shadow([traceparent()], "a", credentials=False, record=RECORD)
    send_spans(exchange(traceparent(), a=reply()))
    assert sent[0][1].decode() == f"00-{TRACE}-{collector.spans[1].span_id.hex()}-00"


def test_a_trace_that_the_caller_does_not_sample_is_not_sent(collector: Collector) -> None:
    send_spans(exchange(traceparent("00"), a=reply()), exchange(traceparent("01", trace="1" * 32)))
    assert [span.trace_id.hex() for span in collector.spans] == ["1" * 32]


@pytest.mark.parametrize(
    "fields", [[], [(b"traceparent", b"00-" + b"0" * 32 + b"-b7ad6b7169203331-01")], [traceparent(), traceparent()]]
)
def test_a_request_without_a_trace_begins_one_with_live_as_its_root(collector: Collector, fields: list[Field]) -> None:
    send_spans(exchange(*fields, a=reply(), control=reply()))
    live, shadow, control = collector.spans
    assert live.parent_span_id == b""
    assert shadow.parent_span_id == control.parent_span_id == live.span_id
    assert len({live.trace_id, shadow.trace_id, control.trace_id, TRACE}) == 2


def test_traces_begun_here_are_sampled_evenly(collector: Collector, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OTEL_TRACES_SAMPLER", "parentbased_traceidratio")
    monkeypatch.setenv("OTEL_TRACES_SAMPLER_ARG", "0.25")
    records = [f"019c0000-0000-7000-8000-{number:012x}" for number in range(1000)]
    send_spans(*(exchange(record=record) for record in records))
    assert 190 <= len(collector.spans) <= 310  # 250, and four standard deviations either way


def test_the_collector_gets_the_services_name_which_the_environment_may_replace(
    collector: Collector, monkeypatch: pytest.MonkeyPatch
) -> None:
    send_spans(exchange())
    assert collector.resource["service.name"] == "shadowproxy"
    assert collector.resource["service.instance.id"] == "host/0"
    collector.heard.clear()
    monkeypatch.setenv("OTEL_SERVICE_NAME", "shadow-of-api")
    monkeypatch.setenv("OTEL_RESOURCE_ATTRIBUTES", "deployment.environment.name=test,service.instance.id=pod-1")
    send_spans(exchange())
    named = {"service.name": "shadow-of-api", "deployment.environment.name": "test", "service.instance.id": "pod-1"}
    assert named.items() <= collector.resource.items()


def test_the_collectors_address_is_logged_without_its_credentials(
    collector: Collector, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO, "shadowproxy")
    monkeypatch.setenv("OTEL_EXPORTER_OTLP_ENDPOINT", collector.url.replace("//", "//user:s3cret@"))
    send_spans(exchange())
    assert caplog.messages[0] == f"sending spans to {collector.url}"
    assert len(collector.spans) == 1


def test_a_skipped_shadow_has_no_client_span(collector: Collector) -> None:
    send_spans(exchange(a=Skipped(Outcome.PAUSED, "paused")))
    assert [span.kind for span in collector.spans] == [CLIENT, INTERNAL]


# --- a collector that is not well ------------------------------------------------------------------------------------


def test_a_collector_that_rejects_spans_is_logged_once_and_not_for_every_batch(
    collector: Collector, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setenv("OTEL_BSP_MAX_EXPORT_BATCH_SIZE", "1")
    collector.status = 404
    send_spans(exchange(), exchange(), exchange())
    lines = [line for line in caplog.messages if "code: 404" in line]
    assert len(lines) == 2
    assert re.fullmatch(r"OpenTelemetry reports 2 times: Failed to export .*batch code: 404, reason: .*", lines[1])


@pytest.mark.timing
@pytest.mark.slow
def test_a_collector_that_hangs_holds_up_neither_spans_nor_the_end(
    collector: Collector, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(otlp, "FLUSH", 0.3)
    monkeypatch.setenv("OTEL_BSP_MAX_QUEUE_SIZE", "64")
    monkeypatch.setenv("OTEL_BSP_MAX_EXPORT_BATCH_SIZE", "32")
    collector.answering.clear()
    tracer = open_tracer("host/0", os.environ["OTEL_EXPORTER_OTLP_ENDPOINT"])
    began = time.monotonic()
    for _ in range(1000):
        tracer.send(exchange(a=reply()), {}, PLACES)
    told_in = time.monotonic() - began
    tracer.close()
    assert told_in < 5.0  # a batch that was waited for would take ten seconds, and there are sixty
    assert time.monotonic() - began - told_in < 2.0
    assert "dropping the last spans: the collector is too slow" in caplog.messages
    assert 1 <= sum("Queue" in line for line in caplog.messages) < 15  # of 1,900 spans that found no room
    # What is left behind ends here: it would go on trying beside other tests, and draw random numbers within theirs.
    collector.answering.set()
    for thread in threading.enumerate():
        if thread.name == "shadowproxy-tracing":
            thread.join(30)
            assert not thread.is_alive()


def test_the_sdks_messages_are_logged_without_variables(
    collector: Collector, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setenv("OTEL_EXPORTER_OTLP_HEADERS", "authorization s3cret")
    send_spans(exchange())
    assert len(caplog.messages) >= 1
    assert not any("s3cret" in line for line in caplog.messages)


def test_the_sdks_messages_without_their_values_are_sentences(
    collector: Collector, caplog: pytest.LogCaptureFixture
) -> None:
    send_spans(exchange())
    library = logging.getLogger("opentelemetry.sdk.trace")
    library.error("Unable to parse value for %s as integer, %5.1f%%", "NAME", 1.0)
    messages = [line.partition(": ")[2] for line in caplog.messages if line.startswith("OpenTelemetry reports")]
    assert "Unable to parse value for ... as integer, ...%" in messages


def test_spans_that_cannot_be_made_cost_a_line_and_nothing_else(
    collector: Collector, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def fail(*given: object) -> Iterator[Span]:
        raise RuntimeError

    monkeypatch.setattr(otlp, "spans", fail)
    send_spans(exchange(), exchange(), exchange())
    assert [record.getMessage() for record in caplog.records if record.levelno == logging.ERROR] == [
        "creating spans failed; request r-1",
        "creating spans failed 2 times; request r-1",
    ]


def test_a_collector_that_speaks_grpc_only_is_warned_of(
    collector: Collector, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setenv("OTEL_EXPORTER_OTLP_PROTOCOL", "grpc")
    send_spans(exchange())
    assert any(line.endswith("not by grpc") for line in caplog.messages)
    assert len(collector.spans) == 1


# --- the program ----------------------------------------------------------------------------------------------------

ASKED = b"POST /v1/p?key=s3cret HTTP/1.1\r\nHost: h\r\nX-Request-ID: r-1\r\nContent-Length: 2\r\n%s\r\n{}"
JSON = (b"Content-Type", b"application/json")


@pytest.mark.slow
async def test_the_program_sends_a_collector_both_legs(collector: Collector, tmp_path: Path) -> None:
    async with (
        Origin(answer(b'{"p":1}', JSON)) as live,
        Origin(answer(b'{"p":2}', JSON)) as shadow,
        Program(tmp_path, {"live": {"url": live.url}, "shadows": {"a": {"url": shadow.url}}}) as program,
    ):
        field = b"%s: %s" % traceparent()
        before = time.time_ns()
        await program.ask(ASKED % (field + b"\r\n"))
        assert await program.stop() == 0
        after = time.time_ns()
    by_name = {span.name: span for span in collector.spans}
    assert set(by_name) == {"POST live", "POST a"}
    for span in by_name.values():
        assert (span.trace_id.hex(), span.parent_span_id.hex(), span.kind) == (TRACE, CALLER, CLIENT)
        assert before <= span.start_time_unix_nano < span.end_time_unix_nano <= after
    of_shadow = attributes(by_name["POST a"].attributes)
    assert of_shadow["url.full"] == f"{shadow.url}/v1/p"
    assert (of_shadow["server.address"], of_shadow["server.port"]) == ("127.0.0.1", shadow.port)
    assert (of_shadow["shadowproxy.verdict"], of_shadow["shadowproxy.request_id"]) == ("mismatch", "r-1")
    assert of_shadow["shadowproxy.record"] == program.records()[0].record
    # Live gets the caller's field; the shadow gets its own span's ID, not sampled.
    assert field in live.received
    assert f"traceparent: 00-{TRACE}-{by_name['POST a'].span_id.hex()}-00\r\n".encode() in shadow.received
    assert "s3cret" not in str(collector.heard)


@pytest.mark.timing
@pytest.mark.slow
async def test_a_dead_collector_costs_a_line_and_no_request(tmp_path: Path) -> None:
    with refusing_port() as port:
        environment = {"OTEL_EXPORTER_OTLP_ENDPOINT": f"http://127.0.0.1:{port}", "OTEL_BSP_SCHEDULE_DELAY": "50"}
        async with (
            Origin() as live,
            Program(tmp_path, {"live": {"url": live.url}}, environment=environment) as program,
        ):
            assert {(await program.ask(ASKED % b"")).status for _ in range(20)} == {200}
            began = time.monotonic()
            assert await program.stop() == 0
            assert time.monotonic() - began < otlp.FLUSH + 3.0
    assert len(program.records()) == 20
    assert 1 <= len(program.told("tracing_failed")) < 10
