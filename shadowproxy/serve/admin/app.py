"""The operator's side, on a port of its own, so that no path of the live API is taken: see it, steer it, stop it.

docs/admin.md tells of every path, `openapi.py` says the same to programs, `access.py` says who may what. A request is
refused before anything of its body is read, every answer that is not the page is JSON, and every refusal has the form
{"error": {"reason": a word for programs, "detail": a sentence for people}}.
"""

import asyncio
import logging
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from typing import Any, TypeAlias

import orjson
from starlette.applications import Starlette
from starlette.datastructures import MutableHeaders
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from shadowproxy.exchange import Field, Verdict
from shadowproxy.serve.admin.access import Access, Kind, Refusal
from shadowproxy.serve.admin.census import Census, ShadowCensus
from shadowproxy.serve.admin.metrics import text
from shadowproxy.serve.admin.openapi import document
from shadowproxy.serve.admin.operated import Operated, Unconfirmed
from shadowproxy.serve.admin.overview import Overview, sampling_keys, standing
from shadowproxy.serve.admin.recent import MOST
from shadowproxy.serve.callers.link import Limits
from shadowproxy.serve.http1.framing import FramingError
from shadowproxy.serve.telemetry.operator_log import Repeats, times_text

METRICS_TYPE = "text/plain; version=0.0.4; charset=utf-8"
LATEST = 50
"""Records that /exchanges gives where it is not told how many."""

MOST_BODY = 4 << 10
BODY_WITHIN = 5.0
"""Bytes that what is sent here may have, and seconds that it may take to come."""

LIMITS = Limits(
    headers=16 << 10, buffer=MOST_BODY, head_timeout=5.0, body_timeout=10.0, idle_timeout=75.0, connections=64
)
"""Of the listener. Without a bound, idle connections here would take the descriptors that callers need. A listener of
/events who takes nothing for `body_timeout` is cut off."""

HEADERS = {
    "cache-control": "no-store",
    "content-security-policy": "default-src 'none'; frame-ancestors 'none'",
    "cross-origin-resource-policy": "same-origin",
    "referrer-policy": "no-referrer",
    "x-content-type-options": "nosniff",
    "x-frame-options": "DENY",
}
"""On every answer that has none of its own: nothing here is to be kept, framed or guessed at."""

_log = logging.getLogger(__name__)

Answer: TypeAlias = Callable[[Request], Response] | Callable[[Request], Awaitable[Response]]


@dataclass(frozen=True, slots=True)
class Sources:
    """What the admin server answers from. `access` and `configuration` are asked anew with every request."""

    operated: Operated
    overview: Overview
    access: Callable[[], Access]
    configuration: Callable[[], Mapping[str, Any]]
    page: Callable[[], Response]


class Refused(Exception):
    """A request that is not answered as asked."""

    def __init__(self, status: int, reason: str, detail: str, headers: Mapping[str, str] | None = None) -> None:
        super().__init__(detail)
        self.refusal = Refusal(status, reason, detail, headers or {})


def build(sources: Sources) -> ASGIApp:
    """The admin application. Whether requests are taken on is all that makes the sidecar ready or not."""
    operated, overview = sources.operated, sources.overview
    repeats = Repeats()

    def page(_: Request) -> Response:
        return sources.page()

    def openapi(_: Request) -> Response:
        return _json(document())

    def healthz(_: Request) -> Response:
        # As it stood within the last second: this waits for nobody, whatever the workers do.
        census = overview.latest
        unusable = [each.name for each in census.shadows if each.unusable is not None] if census is not None else []
        failing = census.journal.failing if census is not None else None
        return _json({"status": "alive", "log": failing or "ok", "unusable": unusable})

    async def readyz(_: Request) -> Response:
        if (await operated.census()).accepts:
            return _json({"status": "ready"})
        return _json({"status": "stopping"}, status=503)

    async def metrics(_: Request) -> Response:
        return Response(text(await operated.census()), headers={"content-type": METRICS_TYPE})

    async def shadows(_: Request) -> Response:
        now = await operated.census()
        told = {each.name: _shadow(each) for each in now.shadows}
        keys = sampling_keys(now)
        return _json({"paused": now.paused, "shadows": told, "sampling_keys": keys, "journal": now.journal._asdict()})

    def configuration(_: Request) -> Response:
        return _json(sources.configuration())

    async def exchanges(request: Request) -> Response:
        asked = _only(request, "verdict", "shadow", "limit")
        limit = _limit(asked.get("limit", str(LATEST)))
        lines = await operated.latest(limit, _verdict(asked.get("verdict")), asked.get("shadow"))
        # The very lines of the log, which are JSON already.
        return Response(b'{"exchanges":[' + b",".join(map(bytes.rstrip, lines)) + b"]}", media_type="application/json")

    async def exchange(request: Request) -> Response:
        line = await operated.find(request.path_params["record"])
        if line is None:
            raise Refused(404, "not_found", "no such record is among the latest: the log has the others")
        return Response(line, media_type="application/json")

    async def now(_: Request) -> Response:
        return Response(await overview.now(), media_type="application/json")

    def events(request: Request) -> Response:
        if overview.is_full:
            raise Refused(
                503, "too_many_listeners", "too many listen to /events already: close a page, or ask /overview"
            )
        return Response(media_type="text/event-stream") if request.method == "HEAD" else _Events(overview)

    async def pause(request: Request) -> Response:
        return await _turned(request, paused=True)

    async def resume(request: Request) -> Response:
        return await _turned(request, paused=False)

    async def _turned(request: Request, *, paused: bool) -> Response:
        name = request.path_params.get("name")
        await _steer(name, operated.pause(name) if paused else operated.resume(name))
        now = await operated.census()
        return _json({"paused": now.paused} if name is None else _shadow(_of(name, now)))

    async def percent(request: Request) -> Response:
        name = request.path_params["name"]
        wanted = _percent(await _body(request))
        await _steer(name, operated.set_percent(name, wanted))
        return _json(_shadow(_of(name, await operated.census())))

    def guarded(kind: Kind, answer: Answer) -> Any:
        async def endpoint(request: Request) -> Response:
            refusal = sources.access().refusal(kind, request.scope["headers"])
            if refusal is not None:
                if refusal.reason == "token_wrong":
                    _tell_wrong_token(repeats, request)
                return _refused(refusal)
            answered = answer(request)
            return answered if isinstance(answered, Response) else await answered

        return endpoint

    gets: list[tuple[str, Kind, Answer]] = [
        ("/", Kind.OPEN, page),
        ("/openapi.json", Kind.OPEN, openapi),
        ("/healthz", Kind.OPEN, healthz),
        ("/readyz", Kind.OPEN, readyz),
        ("/metrics", Kind.OPEN, metrics),
        ("/shadows", Kind.STATE, shadows),
        ("/config", Kind.PRIVATE, configuration),
        ("/exchanges", Kind.PRIVATE, exchanges),
        ("/exchanges/{record}", Kind.PRIVATE, exchange),
        ("/overview", Kind.PRIVATE, now),
        ("/events", Kind.PRIVATE, events),
    ]
    changes: list[tuple[str, str, Answer]] = [
        ("POST", "/pause", pause),
        ("POST", "/resume", resume),
        ("POST", "/shadows/{name}/pause", pause),
        ("POST", "/shadows/{name}/resume", resume),
        ("PUT", "/shadows/{name}/percent", percent),
    ]
    app = Starlette(
        routes=[
            *(Route(path, guarded(kind, answer), methods=["GET"]) for path, kind, answer in gets),
            *(Route(path, guarded(Kind.CHANGE, answer), methods=[method]) for method, path, answer in changes),
        ],
        exception_handlers={Refused: _told, HTTPException: _told, Exception: _told},
    )
    app.router.redirect_slashes = False  # it would lead to whatever Host the request has
    return _Headers(app)


class _Events(Response):
    """The overview, as server-sent events, until the listener leaves or the sidecar stops."""

    def __init__(self, overview: Overview) -> None:
        super().__init__()
        self._overview = overview

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        # No look-out for one who leaves, as Starlette has it: the listener then cancels this task.
        with self._overview.listener() as overviews:
            headers = [(b"content-type", b"text/event-stream")]
            await send({"type": "http.response.start", "status": 200, "headers": headers})
            async for each in overviews:
                event = b"event: overview\ndata: %b\n\n" % each
                await send({"type": "http.response.body", "body": event, "more_body": True})
            await send({"type": "http.response.body", "body": b"", "more_body": False})


class _Headers:
    """HEADERS on every answer, whoever gives it."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        async def with_headers(message: Message) -> None:
            if message["type"] == "http.response.start":
                headers = MutableHeaders(scope=message)
                for name, value in HEADERS.items():
                    headers.setdefault(name, value)
            await send(message)

        await self._app(scope, receive, with_headers)


def _shadow(shadow: ShadowCensus) -> dict[str, Any]:
    return {
        **standing(shadow),
        "begun": shadow.begun,
        "chosen": shadow.chosen,
        "outcomes": shadow.outcomes,
        "verdicts": shadow.verdicts,
    }


def _of(name: str, census: Census) -> ShadowCensus:
    return next(shadow for shadow in census.shadows if shadow.name == name)


async def _steer(name: str | None, change: Awaitable[None]) -> None:
    try:
        await change
    except KeyError:
        raise Refused(404, "not_found", f"there is no shadow {name!r}") from None
    except Unconfirmed as why:
        raise Refused(503, "unconfirmed", str(why)) from None


def _only(request: Request, *known: str) -> dict[str, str]:
    """The query's parameters, each of them known and there once."""
    given = request.query_params.multi_items()
    for name, _ in given:
        if name not in known:
            raise _bad(f"the parameter {name!r} is not known: {', '.join(known)} are")
    if len(given) > len(dict(given)):
        raise _bad("a parameter is there twice")
    return dict(given)


def _limit(text: str) -> int:
    if not (text.isascii() and text.isdigit() and len(text) < 10 and 1 <= int(text) <= MOST):
        raise _bad(f"limit must be a whole number from 1 to {MOST}")
    return int(text)


def _verdict(text: str | None) -> Verdict | None:
    if text is None:
        return None
    if text not in tuple(Verdict):
        raise _bad(f"verdict must be one of {', '.join(Verdict)}")
    return Verdict(text)


def _percent(body: bytes) -> float:
    try:
        value = orjson.loads(body)
    except orjson.JSONDecodeError:
        value = None
    if not isinstance(value, dict) or value.keys() != {"percent"}:
        raise _bad('the body must be JSON of this form: {"percent": 5}')
    percent = value["percent"]
    if isinstance(percent, bool) or not isinstance(percent, int | float) or not 0 <= percent <= 100:
        raise _bad("percent must be a number from 0 to 100")
    return float(percent)


async def _body(request: Request) -> bytes:
    body = b""
    try:
        async with asyncio.timeout(BODY_WITHIN):
            async for chunk in request.stream():
                body += chunk
                if len(body) > MOST_BODY:
                    raise Refused(413, "too_large", f"the body is longer than {MOST_BODY} bytes")
    except FramingError as error:
        raise Refused(400, "bad_request", str(error)) from None
    except TimeoutError:
        raise Refused(408, "too_slow", f"the body took longer than {BODY_WITHIN:g} s") from None
    return body


def error_form(reason: str, detail: str) -> tuple[list[Field], bytes]:
    """Fields and body of the listener's own refusals, in the form of all that are told here."""
    answer = _refused(Refusal(400, reason, detail, HEADERS))  # the status line is the listener's
    return answer.raw_headers, bytes(answer.body)


def _tell_wrong_token(repeats: Repeats, request: Request) -> None:
    if count := repeats.worth_logging("token_wrong"):
        peer = request.scope["client"]
        client = peer[0] if peer else "a Unix socket"
        words = "the admin server was asked with a wrong token%s, now by %s"
        extra = {"event": "admin_token_wrong", "client": client, "count": count}
        _log.warning(words, times_text(count), client, extra=extra)


def _bad(detail: str) -> Refused:
    return Refused(400, "bad_request", detail)


def _told(request: Request, error: Exception) -> Response:
    if isinstance(error, Refused):
        return _refused(error.refusal)
    if isinstance(error, HTTPException) and error.status_code == 405:
        allowed = ", ".join(sorted((error.headers or {}).get("Allow", "").split(", ")))
        detail = f"{request.method} is not allowed here, only {allowed}"
        return _refused(Refusal(405, "method_not_allowed", detail, {"allow": allowed}))
    if isinstance(error, HTTPException):
        return _refused(Refusal(404, "not_found", "there is no such path: /openapi.json names those that there are"))
    return _refused(Refusal(500, "defect", "a defect in the proxy; its log says more"))


def _refused(refusal: Refusal) -> Response:
    body = {"error": {"reason": refusal.reason, "detail": refusal.detail}}
    return _json(body, refusal.status, refusal.headers)


def _json(value: Mapping[str, Any], status: int = 200, headers: Mapping[str, str] | None = None) -> Response:
    content = orjson.dumps(value, option=orjson.OPT_NON_STR_KEYS)
    return Response(content, status, headers, media_type="application/json")
