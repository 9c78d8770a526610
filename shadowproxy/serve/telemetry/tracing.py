"""Spans for live's leg and for each shadow's, sent to an OpenTelemetry collector if the environment asks for it.

Its rules:

- Spans are made from settled exchanges, in the journal's thread: the event loop does no tracing. Spans that wait for a
  collector wait in the SDK's own bounded queue and thread.
- The caller's trace continues. Its `traceparent` reaches live unchanged; the spans of live and of the shadows are
  children of the caller's span, and its sampled flag decides whether they are sent. A request without a trace begins
  one, and live's span is its root.
- The span in the `traceparent` that a shadow gets is the span that the collector gets: both IDs are made from the
  record's ID (`identity.span_id`).
- No query, no field value, no body; of a call of a language model its names and numbers (generative.py). Attributes
  are those of the HTTP semantic conventions, as they are since 1.23. Attributes that these do not define begin with
  `shadowproxy.`.
- OpenTelemetry is imported only if the environment asks for it. otlp.py and otlp_metrics.py are the only modules that
  use it.
"""

import logging
import os
from collections.abc import Mapping
from typing import TYPE_CHECKING, Literal

if TYPE_CHECKING:
    from shadowproxy.serve.telemetry.otlp import Tracer
    from shadowproxy.serve.telemetry.otlp_metrics import MetricsSender

Signal = Literal["traces", "logs", "metrics"]

_log = logging.getLogger(__name__)


def wanted(environment: Mapping[str, str], signal: Signal = "traces") -> bool:
    """Whether the environment's variables ask for spans, events or metrics. Values that are unknown here are logged."""
    if environment.get("OTEL_SDK_DISABLED", "").strip().lower() == "true":
        return False
    variable = f"OTEL_{signal.upper()}_EXPORTER"
    exporters = {name.strip().lower() for name in environment.get(variable, "").split(",")} - {""}
    for name in sorted(exporters - {"otlp", "none"}):
        _warn(f'{variable}: "{name}" is unknown here; otlp and none are known')
    if exporters:
        return "otlp" in exporters
    return _collector(environment, signal) is not None


def _collector(environment: Mapping[str, str], signal: Signal) -> str | None:
    """The URL that the variables name, if any: the signal's own, or else that of all."""
    names = f"OTEL_EXPORTER_OTLP_{signal.upper()}_ENDPOINT", "OTEL_EXPORTER_OTLP_ENDPOINT"
    return next((url for name in names if (url := environment.get(name))), None)


def tracer_from_environment(instance: str) -> "Tracer | None":
    """A tracer if the environment asks for one and it can be set up, else None; the reason is logged.

    `instance` is sent to the collector as `service.instance.id`.
    """
    if not wanted(os.environ):
        return None
    try:
        from shadowproxy.serve.telemetry.otlp import open_tracer

        return open_tracer(instance, _collector(os.environ, "traces"), wanted(os.environ, "logs"))
    except ImportError:
        _warn("sending no spans: OpenTelemetry is not installed; pip install '.[otel]' in a checkout installs it")
    except Exception as error:  # noqa: BLE001  # for example an unreadable certificate; requests are served without tracing
        _warn(f"sending no spans: OpenTelemetry cannot be set up ({type(error).__name__})")
    return None


def metrics_from_environment(instance: str) -> "MetricsSender | None":
    """What sends metrics, if the environment asks for it and it can be set up, else None; the reason is logged."""
    if not wanted(os.environ, "metrics"):
        return None
    try:
        from shadowproxy.serve.telemetry.otlp_metrics import open_sender

        return open_sender(instance, _collector(os.environ, "metrics"))
    except ImportError:
        _warn("sending no metrics: OpenTelemetry is not installed; pip install '.[otel]' in a checkout installs it")
    except Exception as error:  # noqa: BLE001  # as above
        _warn(f"sending no metrics: OpenTelemetry cannot be set up ({type(error).__name__})")
    return None


def _warn(words: str) -> None:
    _log.warning("%s", words, extra={"event": "tracing_set_up"})
