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
import string
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Self
from urllib.parse import quote, urlsplit

from shadowproxy.exchange import Exchange, Failure, LiveLeg, Reply, Request, ShadowLeg, Skipped, Verdict
from shadowproxy.redaction import Redaction
from shadowproxy.serve.identity import span_id
from shadowproxy.serve.lane import CONTROL

if TYPE_CHECKING:
    from shadowproxy.serve.otlp import Tracer

LIVE = "live"

ENDPOINTS = ("OTEL_EXPORTER_OTLP_TRACES_ENDPOINT", "OTEL_EXPORTER_OTLP_ENDPOINT")
"""What names a collector; the first that is set holds."""
_METHODS = frozenset({"GET", "HEAD", "POST", "PUT", "DELETE", "CONNECT", "OPTIONS", "TRACE", "PATCH", "QUERY"})
_REDACTION = Redaction()
_log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Place:
    """Where a leg's requests go. `base` is a URL to which a target is added, `target` what becomes of a target."""

    base: str
    address: str
    port: int
    target: Callable[[bytes], bytes]

    @classmethod
    def of(cls, url: str, target: Callable[[bytes], bytes]) -> Self:
        parts = urlsplit(url)
        host = parts.netloc.rpartition("@")[2]
        port = parts.port or (443 if parts.scheme == "https" else 80)
        return cls(f"{parts.scheme}://{host}{parts.path.rstrip('/')}", parts.hostname or "", port, target)


@dataclass(frozen=True, slots=True)
class Span:
    """One leg, as a collector is told of it. Times are nanoseconds since the Unix epoch.

    `asked`: something was sent to the endpoint, else it is a span of the proxy's own. `error` is None if all is well.
    """

    name: str
    id: str
    begin: int
    end: int
    asked: bool
    attributes: Mapping[str, str | int]
    error: str | None


def spans(exchange: Exchange, verdicts: Mapping[str, Verdict | None], places: Mapping[str, Place]) -> Iterator[Span]:
    """Live's span, and then one for each shadow that the request was chosen for."""
    request = exchange.request
    yield _span(request, LIVE, exchange.live, places.get(LIVE), {})
    legs = dict(exchange.shadows) if exchange.control is None else {**exchange.shadows, CONTROL: exchange.control}
    for name, leg in legs.items():
        more: dict[str, str | int] = {"shadowproxy.shadow": name}
        if (verdict := verdicts.get(name)) is not None:
            more["shadowproxy.verdict"] = str(verdict)
        yield _span(request, name, leg, places.get(name), more)


def _span(
    request: Request,
    name: str,
    leg: LiveLeg | ShadowLeg,
    place: Place | None,
    more: Mapping[str, str | int],
) -> Span:
    known = request.method in _METHODS
    attributes: dict[str, str | int] = {
        "http.request.method": request.method if known else "_OTHER",
        "http.request.body.size": request.body_bytes,
        "shadowproxy.request_id": request.id,
        "shadowproxy.record": request.record,
        **more,
    }
    if not known:
        attributes["http.request.method_original"] = request.method
    if place is None:  # live is a fixed answer
        attributes["url.path"] = _path(request.target)
    else:
        attributes["url.full"] = place.base + _path(place.target(request.target))
        attributes["server.address"] = place.address
        attributes["server.port"] = place.port
    reply = leg.reply if isinstance(leg, Failure) else leg if isinstance(leg, Reply) else None
    error = None
    if reply is not None:
        attributes["http.response.status_code"] = reply.status
        attributes["http.response.body.size"] = reply.body_bytes
        if reply.status >= 400:
            attributes["error.type"] = str(reply.status)
            error = f"answered {reply.status}"
    if not isinstance(leg, Reply):
        attributes["error.type"] = str(leg.outcome)
        error = leg.error
    begin = end = request.at_ns
    if not isinstance(leg, Skipped):
        begin += round(leg.began_ms * 1e6)
        end = begin + round(leg.total_ms * 1e6)
    asked = place is not None and not isinstance(leg, Skipped)
    method = request.method if known else "HTTP"
    return Span(f"{method} {name}", span_id(request.record, name), begin, end, asked, attributes, error)


def _path(target: bytes) -> str:
    path = target.partition(b"?")[0]
    if b"=" in path:
        path = _REDACTION.path(path.decode("latin-1")).encode("latin-1")
    return "" if path == b"*" else quote(path, safe=string.punctuation)


def wanted(environment: Mapping[str, str]) -> bool:
    """Whether the environment's variables ask for spans. What in them is not known here is said."""
    if environment.get("OTEL_SDK_DISABLED", "").strip().lower() == "true":
        return False
    exporters = {name.strip().lower() for name in environment.get("OTEL_TRACES_EXPORTER", "").split(",")} - {""}
    for name in sorted(exporters - {"otlp", "none"}):
        _say(f'OTEL_TRACES_EXPORTER: "{name}" is not known here, only otlp and none')
    if exporters:
        return "otlp" in exporters
    return any(environment.get(name) for name in ENDPOINTS)


def opened(instance: str) -> "Tracer | None":
    """A tracer if the environment asks for one and has what it takes, else None; what it lacks is said.

    `instance` is told to the collector as `service.instance.id`.
    """
    if not wanted(os.environ):
        return None
    try:
        from shadowproxy.serve.otlp import open_tracer

        return open_tracer(instance)
    except ImportError:
        _say("no spans are told: OpenTelemetry is not installed; pip install '.[otel]' in a checkout installs it")
    except Exception as error:  # noqa: BLE001  # a certificate that cannot be read, for one; requests are served all the same
        _say(f"no spans are told: OpenTelemetry cannot be set up ({type(error).__name__})")
    return None


def _say(words: str) -> None:
    _log.warning("%s", words, extra={"event": "tracing_set_up"})
