"""Sends spans and verdicts to a collector by OpenTelemetry's SDK; tracing.py has the rules."""

import logging
import os
import re
import threading
from collections.abc import Mapping
from typing import Any
from urllib.parse import urlsplit

from opentelemetry._logs import LogRecord, SeverityNumber
from opentelemetry.context import Context
from opentelemetry.exporter.otlp.proto.http._log_exporter import OTLPLogExporter
from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
from opentelemetry.sdk._logs import LoggerProvider
from opentelemetry.sdk._logs.export import BatchLogRecordProcessor
from opentelemetry.sdk.resources import OTELResourceDetector, Resource
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import BatchSpanProcessor
from opentelemetry.sdk.trace.id_generator import IdGenerator
from opentelemetry.trace import (
    NonRecordingSpan,
    SpanContext,
    SpanKind,
    Status,
    StatusCode,
    TraceFlags,
    TraceState,
    set_span_in_context,
)

from shadowproxy import __version__
from shadowproxy.exchange import Exchange, Request, Verdict
from shadowproxy.serve.policy.identity import trace_id
from shadowproxy.serve.policy.traceparent import TraceParent
from shadowproxy.serve.telemetry.generative import EVALUATION, EVALUATION_NAME, Attributes
from shadowproxy.serve.telemetry.operator_log import Repeats, times_text
from shadowproxy.serve.telemetry.spans import Destination, Span, spans

FLUSH = 3.0
"""Seconds that `close` waits for a slow collector to take the spans that are left."""

_PROTOCOLS = ("OTEL_EXPORTER_OTLP_TRACES_PROTOCOL", "OTEL_EXPORTER_OTLP_PROTOCOL")
_PROTOCOL = "http/protobuf"
_PLACEHOLDER = re.compile(r"%(?:%|(?:\([^)]*\))?[-#0 +]*(?:\d+|\*)?(?:\.(?:\d+|\*))?[a-zA-Z])")
_log = logging.getLogger(__name__)


def open_tracer(instance: str, collector: str | None, verdicts: bool = False) -> "Tracer":
    """A tracer that is set up by the environment's OTEL_* variables. If these are bad it raises what the SDK raises.

    `verdicts`: those on the answers of language models are sent too, as events.
    """
    log_messages_of_sdk()
    protocol = next((os.environ[name] for name in _PROTOCOLS if os.environ.get(name)), _PROTOCOL)
    if protocol != _PROTOCOL:
        _log.warning(
            "sending spans by %s (port 4318 of most collectors), not by %s",
            _PROTOCOL,
            protocol,
            extra={"event": "tracing_set_up"},
        )
    ids = _Ids()
    resource = resource_of(instance)
    # No shutdown at exit: by then the process must not wait any more. `close` ends the SDK.
    provider = TracerProvider(resource=resource, id_generator=ids, shutdown_on_exit=False)
    provider.add_span_processor(BatchSpanProcessor(OTLPSpanExporter()))
    events = None
    if verdicts:
        events = LoggerProvider(resource=resource, shutdown_on_exit=False)
        events.add_log_record_processor(BatchLogRecordProcessor(OTLPLogExporter()))
    shown = without_credentials(collector or "http://localhost:4318")
    _log.info("sending spans to %s", shown, extra={"event": "tracing_on", "collector": shown})
    return Tracer(provider, ids, events)


def log_messages_of_sdk() -> None:
    """From now on the SDK's own messages go to the operator's log, by its rules."""
    library = logging.getLogger("opentelemetry")
    library.propagate = False
    library.handlers = [_SdkMessages()]


def resource_of(instance: str) -> Resource:
    """What everything that is sent is about. The environment's names override ours."""
    named = OTELResourceDetector().detect().attributes
    own = {"service.name": "shadowproxy", "service.version": __version__, "service.instance.id": instance}
    return Resource.create({**own, **named})


def without_credentials(url: str) -> str:
    parts = urlsplit(url)
    return f"{parts.scheme}://{parts.netloc.rpartition('@')[2]}"


class Tracer:
    """Owns the SDK's providers with their queues and threads; `close` ends them. Only the journal's thread sends."""

    def __init__(self, provider: TracerProvider, ids: "_Ids", events: LoggerProvider | None = None) -> None:
        self._provider = provider
        self._ids = ids
        self._tracer = provider.get_tracer("shadowproxy", __version__)
        self._events = events
        self._logger = None if events is None else events.get_logger("shadowproxy", __version__)
        self._repeats = Repeats()

    def send(
        self,
        exchange: Exchange,
        verdicts: Mapping[str, Verdict | None],
        destinations: Mapping[str, Destination],
        generated: Mapping[str, Attributes] | None = None,
    ) -> None:
        """Send an exchange's spans. Never waits for a collector and never raises: a record must not be lost.

        `generated` has, by the leg's name, what is known of calls of language models.
        """
        try:
            self._send(exchange, verdicts, destinations, generated or {})
        except Exception:  # noqa: BLE001  # the SDK does not document what it raises
            if count := self._repeats.worth_logging("defect"):
                id = exchange.request.id
                extra = {"event": "tracing_failed", "count": count, "request_id": id}
                _log.exception("creating spans failed%s; request %s", times_text(count), id, extra=extra)

    def _send(
        self,
        exchange: Exchange,
        verdicts: Mapping[str, Verdict | None],
        destinations: Mapping[str, Destination],
        generated: Mapping[str, Attributes],
    ) -> None:
        parent = _caller(exchange.request)
        self._ids.trace = int(trace_id(exchange.request.record), 16)
        for span in spans(exchange, verdicts, destinations, generated):
            self._ids.span = int(span.id, 16)
            kind = SpanKind.CLIENT if span.sent else SpanKind.INTERNAL
            started = self._tracer.start_span(
                span.name, parent, kind, attributes=span.attributes, start_time=span.begin, record_exception=False
            )
            if span.error is not None:
                started.set_status(Status(StatusCode.ERROR, span.error))
            started.end(end_time=span.end)
            if started.get_span_context().trace_flags.sampled:
                self._send_verdict(span, set_span_in_context(started, Context()))
            if parent is None:
                parent = set_span_in_context(started, Context())  # the first span is live's: the root

    def _send_verdict(self, span: Span, context: Context) -> None:
        """The verdict on a language model's answer, as the result of evaluating it, at its span."""
        verdict = span.attributes.get("shadowproxy.verdict")
        if self._logger is None or verdict is None or "gen_ai.operation.name" not in span.attributes:
            return
        attributes: dict[str, Any] = {
            "gen_ai.evaluation.name": EVALUATION_NAME,
            "gen_ai.evaluation.score.label": verdict,
            "shadowproxy.shadow": span.attributes["shadowproxy.shadow"],
            "shadowproxy.record": span.attributes["shadowproxy.record"],
        }
        if verdict in (Verdict.MATCH, Verdict.MISMATCH):
            attributes["gen_ai.evaluation.score.value"] = float(verdict == Verdict.MATCH)
        if (id := span.attributes.get("gen_ai.response.id")) is not None:
            attributes["gen_ai.response.id"] = id
        self._logger.emit(
            LogRecord(
                timestamp=span.end,
                context=context,
                severity_number=SeverityNumber.INFO,
                event_name=EVALUATION,
                attributes=attributes,
            )
        )

    def close(self) -> None:
        """Wait, for at most FLUSH seconds, until the collector has taken the spans that are left. Blocks."""
        # The SDK alone would wait 30 s for a collector that is down. The thread ends with the process.
        closing = threading.Thread(target=self._shut_down, name="shadowproxy-tracing", daemon=True)
        closing.start()
        closing.join(FLUSH)
        if closing.is_alive():
            _log.warning("dropping the last spans: the collector is too slow", extra={"event": "tracing_failed"})

    def _shut_down(self) -> None:
        self._provider.shutdown()
        if self._events is not None:
            self._events.shutdown()


class _Ids(IdGenerator):
    """Returns the IDs that are set: those of the span that is being made."""

    def __init__(self) -> None:
        self.trace = 0
        self.span = 0

    def generate_trace_id(self) -> int:
        return self.trace

    def generate_span_id(self) -> int:
        return self.span

    def is_trace_id_random(self) -> bool:
        return True  # a hash of random bits


class _SdkMessages(logging.Handler):
    """Logs the SDK's messages, repeated ones rarely: with a dead collector the SDK logs every few seconds.

    Only the exporter's messages keep their arguments, which say what is wrong with the collector. The arguments of
    others quote variables, which may hold credentials.
    """

    def __init__(self) -> None:
        super().__init__(logging.WARNING)
        self._repeats = Repeats()

    def emit(self, record: logging.LogRecord) -> None:
        words = record.getMessage() if record.name.endswith("_exporter") else _unquoted(str(record.msg))
        if count := self._repeats.worth_logging(record.name, str(record.msg)):
            extra = {"event": "tracing_failed", "count": count}
            _log.warning("OpenTelemetry reports%s: %s", times_text(count), words, extra=extra)


def _unquoted(message: str) -> str:
    """A message with `...` instead of each argument."""
    return _PLACEHOLDER.sub(lambda found: "%" if found[0] == "%%" else "...", message)


def _caller(request: Request) -> Context | None:
    """The caller's span that the request's one `traceparent` names; None if it has none, or two."""
    named = [value for name, value in request.fields if name.lower() == b"traceparent"]
    trace = TraceParent.of(named[0]) if len(named) == 1 else None
    if trace is None:
        return None
    states = [value.decode("latin-1") for name, value in request.fields if name.lower() == b"tracestate"]
    caller = SpanContext(
        int(trace.trace, 16),
        int(trace.span, 16),
        is_remote=True,
        trace_flags=TraceFlags(trace.flags),
        trace_state=TraceState.from_header(states),
    )
    return set_span_in_context(NonRecordingSpan(caller), Context())
