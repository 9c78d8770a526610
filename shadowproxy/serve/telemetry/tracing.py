"""Spans for live's leg and for each shadow's, told to an OpenTelemetry collector where the environment asks for it.

Its rules:

- A span is made of a settled exchange, in the journal's thread: the event loop knows nothing of tracing, and what waits
  for a collector waits in the SDK's own bounded queue and thread.
- A trace goes on as the caller began it. Its `traceparent` reaches live untouched; live's span and the shadows' are
  children of the caller's span, and its sampled flag decides whether they are told. A request that came with no trace
  begins one, and live's span is its root.
- The span that a shadow is told of in its `traceparent` is the one told to the collector: both are made from the
  record's ID (`identity.span_id`).
- No query, no field value, no body. Attributes are those of the HTTP semantic conventions, as they are since 1.23; what
  these have no word for begins with `shadowproxy.`.
- OpenTelemetry is imported when the environment asks for it, and not before: all that knows it is in otlp.py.
"""

import logging
import os
from collections.abc import Mapping
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from shadowproxy.serve.telemetry.otlp import Tracer

ENDPOINTS = ("OTEL_EXPORTER_OTLP_TRACES_ENDPOINT", "OTEL_EXPORTER_OTLP_ENDPOINT")
"""What names a collector; the first that is set holds."""

_log = logging.getLogger(__name__)


def wanted(environment: Mapping[str, str]) -> bool:
    """Whether the environment's variables ask for spans. What in them is not known here is said."""
    if environment.get("OTEL_SDK_DISABLED", "").strip().lower() == "true":
        return False
    exporters = {name.strip().lower() for name in environment.get("OTEL_TRACES_EXPORTER", "").split(",")} - {""}
    for name in sorted(exporters - {"otlp", "none"}):
        _say(f'OTEL_TRACES_EXPORTER: "{name}" is not known here, only otlp and none')
    if exporters:
        return "otlp" in exporters
    return _collector(environment) is not None


def _collector(environment: Mapping[str, str]) -> str | None:
    """The URL that the variables name, if any."""
    return next((url for name in ENDPOINTS if (url := environment.get(name))), None)


def tracer_from_environment(instance: str) -> "Tracer | None":
    """A tracer if the environment asks for one and has what it takes, else None; what it lacks is said.

    `instance` is told to the collector as `service.instance.id`.
    """
    if not wanted(os.environ):
        return None
    try:
        from shadowproxy.serve.telemetry.otlp import open_tracer

        return open_tracer(instance, _collector(os.environ))
    except ImportError:
        _say("no spans are told: OpenTelemetry is not installed; pip install '.[otel]' in a checkout installs it")
    except Exception as error:  # noqa: BLE001  # a certificate that cannot be read, for one; requests are served all the same
        _say(f"no spans are told: OpenTelemetry cannot be set up ({type(error).__name__})")
    return None


def _say(words: str) -> None:
    _log.warning("%s", words, extra={"event": "tracing_set_up"})
