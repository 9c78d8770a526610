"""Makes spans from a settled exchange: live's, and one for each shadow. Pure; tracing.py has the rules."""

import string
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Self
from urllib.parse import quote, urlsplit

from shadowproxy.exchange import CONTROL, LIVE, Exchange, Failure, LiveLeg, Reply, Request, ShadowLeg, Skipped, Verdict
from shadowproxy.redaction import Redaction
from shadowproxy.serve.policy.identity import span_id
from shadowproxy.serve.telemetry.generative import Attributes

_METHODS = frozenset({"GET", "HEAD", "POST", "PUT", "DELETE", "CONNECT", "OPTIONS", "TRACE", "PATCH", "QUERY"})
_REDACTION = Redaction()


@dataclass(frozen=True, slots=True)
class Destination:
    """Where a leg's requests go. `base` is a URL to which a target is added, `target` rewrites a target."""

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
    """One leg, as it is sent to a collector. Times are nanoseconds since the Unix epoch.

    `sent`: the request was sent to the endpoint, else the span is internal to the proxy. `error` is None if the leg
    succeeded.
    """

    name: str
    id: str
    begin: int
    end: int
    sent: bool
    attributes: Attributes
    error: str | None


def spans(
    exchange: Exchange,
    verdicts: Mapping[str, Verdict | None],
    destinations: Mapping[str, Destination],
    generated: Mapping[str, Attributes] | None = None,
) -> Iterator[Span]:
    """Live's span, and then one for each shadow that the request was chosen for. `generated` has more attributes."""
    request, generated = exchange.request, generated or {}
    yield _span(request, LIVE, exchange.live, destinations.get(LIVE), generated.get(LIVE, {}))
    legs = dict(exchange.shadows) if exchange.control is None else {**exchange.shadows, CONTROL: exchange.control}
    for name, leg in legs.items():
        more = {"shadowproxy.shadow": name, **generated.get(name, {})}
        if (verdict := verdicts.get(name)) is not None:
            more["shadowproxy.verdict"] = str(verdict)
        yield _span(request, name, leg, destinations.get(name), more)


def _span(
    request: Request,
    name: str,
    leg: LiveLeg | ShadowLeg,
    destination: Destination | None,
    more: Attributes,
) -> Span:
    known = request.method in _METHODS
    attributes: dict[str, str | int | float | bool | tuple[str, ...]] = {
        "http.request.method": request.method if known else "_OTHER",
        "http.request.body.size": request.body_bytes,
        "shadowproxy.request_id": request.id,
        "shadowproxy.record": request.record,
        **more,
    }
    if not known:
        attributes["http.request.method_original"] = request.method
    if destination is None:  # live is a fixed answer
        attributes["url.path"] = _path(request.target)
    else:
        attributes["url.full"] = destination.base + _path(destination.target(request.target))
        attributes["server.address"] = destination.address
        attributes["server.port"] = destination.port
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
    sent = destination is not None and not isinstance(leg, Skipped)
    method = request.method if known else "HTTP"
    return Span(f"{method} {name}", span_id(request.record, name), begin, end, sent, attributes, error)


def _path(target: bytes) -> str:
    path = target.partition(b"?")[0]
    if b"=" in path:
        path = _REDACTION.path(path.decode("latin-1")).encode("latin-1")
    return "" if path == b"*" else quote(path, safe=string.punctuation)
