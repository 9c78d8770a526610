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

    `silence` is for how many seconds no process that serves callers has responded; None: none of them runs. `unusable`
    has the names of the shadows whose own settings cannot be used.
    """

    accepts: bool
    failing: str | None = None
    unusable: tuple[str, ...] = ()
    silence: float | None = 0.0


UNREADY, DEAD = 10.0, 60.0
"""Seconds of silence after which callers should be sent elsewhere, and after which only a restart can help."""


def alive(health: Health) -> tuple[int, dict[str, Any]]:
    """Neither `failing` nor `unusable` changes the status, because callers are served.

    A process that has ended is started again without anyone's help; one that hangs is not.
    """
    hangs = health.silence is not None and health.silence > DEAD
    values = {"log": health.failing or "ok", "unusable": list(health.unusable)}
    return (503, {"status": "hangs", **values}) if hangs else (200, {"status": "alive", **values})


def ready(health: Health) -> tuple[int, dict[str, Any]]:
    """It depends on no shadow, no disk and no recorder: callers are served without them."""
    if not health.accepts:
        return 503, {"status": "stopping"}
    if health.silence is None:
        return 503, {"status": "restarting"}
    return (503, {"status": "hangs"}) if health.silence > UNREADY else (200, {"status": "ready"})


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
