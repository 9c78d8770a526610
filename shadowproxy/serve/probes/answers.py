"""What the front of the admin port answers itself, as bytes: the health probes, and errors. Pure."""

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from shadowproxy.serve.http1 import framing
from shadowproxy.serve.http1.framing import RequestHead

HEADERS = {
    "cache-control": "no-store",
    "content-security-policy": "default-src 'none'; frame-ancestors 'none'",
    "cross-origin-resource-policy": "same-origin",
    "referrer-policy": "no-referrer",
    "x-content-type-options": "nosniff",
    "x-frame-options": "DENY",
}
"""On every response of the admin port, unless it has its own: it must not be cached, framed or read as another type."""

UNAVAILABLE = "recorder_unavailable"
"""Why a request is not answered while the recorder cannot take it."""


@dataclass(frozen=True, slots=True)
class Health:
    """What the probes say. `accepts`: new requests are accepted. `failing` is why records are lost, if they are.

    `unusable` has the names of the shadows whose own settings cannot be used.
    """

    accepts: bool
    failing: str | None = None
    unusable: tuple[str, ...] = ()


def alive(health: Health) -> tuple[int, dict[str, Any]]:
    """Neither `failing` nor `unusable` changes the status, because callers are served."""
    return 200, {"status": "alive", "log": health.failing or "ok", "unusable": list(health.unusable)}


def ready(health: Health) -> tuple[int, dict[str, Any]]:
    """It depends on no shadow, no disk and no recorder: callers are served without them."""
    return (200, {"status": "ready"}) if health.accepts else (503, {"status": "stopping"})


PROBES = {"/healthz": alive, "/readyz": ready}
"""The probes' paths, each with what makes status and values of its response."""


def probe(head: RequestHead) -> Callable[[Health], tuple[int, dict[str, Any]]] | None:
    """What answers this request, if it is a probe."""
    if head.method not in ("GET", "HEAD"):
        return None
    return PROBES.get(head.target.partition(b"?")[0].decode("latin-1"))


def response(
    status: int,
    values: Mapping[str, Any],
    head: RequestHead | None,
    *,
    keep: bool,
    more: Mapping[str, str] | None = None,
) -> bytes:
    """A whole response with these values as JSON. `head` is the request's, if it could be read.

    `keep`: the connection stays open for another request.
    """
    body = json.dumps(values, separators=(",", ":"), ensure_ascii=False).encode("utf-8", "replace")
    fields = {**HEADERS, "content-type": "application/json", "content-length": str(len(body)), **(more or {})}
    if not keep:
        fields["connection"] = "close"
    elif head is not None and head.http10:
        fields["connection"] = "keep-alive"
    lines = [(name.encode(), value.encode()) for name, value in fields.items()]
    return framing.write_head(framing.status_line(status), lines) + (
        b"" if head is not None and head.method == "HEAD" else body
    )


def error_values(reason: str, detail: str) -> dict[str, Any]:
    """The form of every error of the admin port: a word for programs and a sentence for people."""
    return {"error": {"reason": reason, "detail": detail}}
