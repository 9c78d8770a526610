"""The admin application: see the sidecar, steer it, stop it. Its own port, so that it takes no path of the live API.

docs/reference/admin.md describes every path, `openapi.py` does so for programs, `access.py` decides which requests are
allowed. A request is rejected before anything of its body is read. Every response but the page is JSON, and every error
has the form {"error": {"reason": a word for programs, "detail": a sentence for people}}.
"""

import asyncio
import logging
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, TypeAlias, TypeVar

import orjson
from starlette.applications import Starlette
from starlette.datastructures import MutableHeaders
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from shadowproxy.addresses import plain_host
from shadowproxy.compare.report.record_rows import LONGEST, record_rows
from shadowproxy.exchange import Verdict
from shadowproxy.serve.admin.access import Access, AdminError, Kind
from shadowproxy.serve.admin.census import Census, ShadowCensus, health
from shadowproxy.serve.admin.metrics import text
from shadowproxy.serve.admin.openapi import document
from shadowproxy.serve.admin.operated import Operated, Unconfirmed
from shadowproxy.serve.admin.overview import Overview, sampling_keys, shadow_state
from shadowproxy.serve.admin.recent import MAX_RECORDS
from shadowproxy.serve.http1.framing import FramingError
from shadowproxy.serve.probes.answers import HEADERS, PROBES, error_values
from shadowproxy.serve.standing.answer import WORDS, NotStanding, StandingVerdict, as_json
from shadowproxy.serve.telemetry.operator_log import Repeats, times_text

METRICS_TYPE = "text/plain; version=0.0.4; charset=utf-8"
LATEST = 50
"""Records that /exchanges returns without `limit`."""

MAX_BODY = 4 << 10
BODY_TIMEOUT = 5.0
"""The bound on a request's body, in bytes, and on the time until all of it has come, in seconds."""

PIECE = 256 << 10
"""Bytes after which a piece of a long response is sent."""

_log = logging.getLogger(__name__)

T = TypeVar("T")

Handler: TypeAlias = Callable[[Request], Response] | Callable[[Request], Awaitable[Response]]


@dataclass(frozen=True, slots=True)
class Sources:
    """What the admin server answers from. `access` and `configuration` are called for every request."""

    operated: Operated
    overview: Overview
    access: Callable[[], Access]
    configuration: Callable[[], Mapping[str, Any]]
    page: Callable[[], Response]


class Rejected(Exception):
    """Raised to answer a request with an error."""

    def __init__(self, status: int, reason: str, detail: str, headers: Mapping[str, str] | None = None) -> None:
        super().__init__(detail)
        self.error = AdminError(status, reason, detail, headers or {})


def build(sources: Sources) -> ASGIApp:
    """The admin application. The sidecar is ready as long as it accepts requests; nothing else counts."""
    operated, overview = sources.operated, sources.overview
    repeats = Repeats()
    scrape = _Scrape()

    def page(_: Request) -> Response:
        return sources.page()

    def openapi(_: Request) -> Response:
        return _json(document())

    def probed(path: str) -> Handler:
        async def probe(_: Request) -> Response:
            # The front answers these paths itself, apart from those that are written otherwise, as /%68ealthz is.
            status, values = PROBES[path](health(await operated.census()))
            return _json(values, status)

        return probe

    async def metrics(_: Request) -> Response:
        return Response(scrape.text(await operated.census()), headers={"content-type": METRICS_TYPE})

    async def shadows(_: Request) -> Response:
        now = await operated.census()
        by_name = {each.name: _shadow(each) for each in now.shadows}
        keys = sampling_keys(now)
        return _json(
            {"paused": now.paused, "shadows": by_name, "sampling_keys": keys, "journal": now.journal._asdict()}
        )

    def configuration(_: Request) -> Response:
        return _json(sources.configuration())

    async def exchanges(request: Request) -> Response:
        query = _query(request, "verdict", "shadow", "limit")
        limit = _limit(query.get("limit", str(LATEST)))
        lines = await operated.latest(limit, _verdict(query.get("verdict")), query.get("shadow"))
        return Records(lines)

    async def exchange(request: Request) -> Response:
        line = await operated.find(request.path_params["record"])
        if line is None:
            raise Rejected(404, "not_found", "this record is not among the latest; older ones are in the log")
        return Response(line, media_type="application/json")

    reading = asyncio.Lock()  # one record at a time: to read one takes memory and time

    async def answers(request: Request) -> Response:
        line = await operated.find(request.path_params["record"])
        if line is None:
            raise Rejected(404, "not_found", "this record is not among the latest; older ones are in the log")
        if len(line) > LONGEST:
            raise Rejected(413, "too_large", f"the record is longer than {LONGEST} bytes; shadowproxy show has it")
        async with reading:
            return _json({"shadows": await asyncio.to_thread(record_rows, line)})

    async def verdict(request: Request) -> Response:
        shadow = _query(request, "shadow").get("shadow")
        found = await _standing(operated.verdict())
        _check_shadow(shadow, found)
        # Sentences may quote values from requests: without access to these, only words and counts.
        says = sources.access().error(Kind.PRIVATE, request.scope["headers"]) is None
        return _json(as_json(found, shadow=shadow, says=says))

    async def gate(request: Request) -> Response:
        query = _query(request, "shadow", "when")
        found = await _standing(operated.verdict())
        _check_shadow(query.get("shadow"), found)
        answer = as_json(found, shadow=query.get("shadow"), says=False)
        return _json(answer, 200 if answer["verdict"] == _word(query.get("when", "pass")) else 409)

    async def summary(_: Request) -> Response:
        return Response(await _standing(operated.summary()), media_type="application/json")

    async def reset_verdict(request: Request) -> Response:
        shadow = _query(request, "shadow").get("shadow")
        try:
            found = await _standing(operated.reset_verdict(shadow))
        except KeyError:
            raise _no_shadow(shadow) from None
        _log.info(
            "an operator reset the standing verdict%s",
            "" if shadow is None else f" on {shadow}",
            extra={"event": "verdict_reset", "shadow": shadow},
        )
        return _json(as_json(found, shadow=shadow))

    async def now(_: Request) -> Response:
        return Response(await overview.now(), media_type="application/json")

    def events(request: Request) -> Response:
        if overview.is_full:
            raise Rejected(
                503, "too_many_listeners", "too many clients already listen to /events: close a page, or use /overview"
            )
        return Response(media_type="text/event-stream") if request.method == "HEAD" else _Events(overview)

    async def pause(request: Request) -> Response:
        return await _set_paused(request, paused=True)

    async def resume(request: Request) -> Response:
        return await _set_paused(request, paused=False)

    async def _set_paused(request: Request, *, paused: bool) -> Response:
        name = request.path_params.get("name")
        await _steer(name, operated.pause(name) if paused else operated.resume(name))
        now = await operated.census()
        return _json({"paused": now.paused} if name is None else _shadow(_shadow_named(name, now)))

    async def percent(request: Request) -> Response:
        name = request.path_params["name"]
        wanted = _percent(await _body(request))
        await _steer(name, operated.set_percent(name, wanted))
        return _json(_shadow(_shadow_named(name, await operated.census())))

    def guarded(kind: Kind, handler: Handler) -> Any:
        async def endpoint(request: Request) -> Response:
            error = sources.access().error(kind, request.scope["headers"])
            if error is not None:
                if error.reason == "token_wrong":
                    _log_wrong_token(repeats, request)
                return _error_response(error)
            response = handler(request)
            return response if isinstance(response, Response) else await response

        return endpoint

    gets: list[tuple[str, Kind, Handler]] = [
        ("/", Kind.OPEN, page),
        ("/openapi.json", Kind.OPEN, openapi),
        *((path, Kind.OPEN, probed(path)) for path in PROBES),
        ("/metrics", Kind.OPEN, metrics),
        ("/shadows", Kind.STATE, shadows),
        ("/verdict", Kind.OPEN, verdict),
        ("/summary", Kind.PRIVATE, summary),
        ("/config", Kind.PRIVATE, configuration),
        ("/exchanges", Kind.PRIVATE, exchanges),
        ("/exchanges/{record}", Kind.PRIVATE, exchange),
        ("/exchanges/{record}/answers", Kind.PRIVATE, answers),
        ("/overview", Kind.PRIVATE, now),
        ("/events", Kind.PRIVATE, events),
    ]
    changes: list[tuple[str, str, Handler]] = [
        ("POST", "/pause", pause),
        ("POST", "/resume", resume),
        ("POST", "/shadows/{name}/pause", pause),
        ("POST", "/shadows/{name}/resume", resume),
        ("PUT", "/shadows/{name}/percent", percent),
        ("POST", "/verdict/reset", reset_verdict),
    ]
    app = Starlette(
        routes=[
            *(Route(path, guarded(kind, handler), methods=["GET"]) for path, kind, handler in gets),
            *(Route(path, guarded(Kind.CHANGE, handler), methods=[method]) for method, path, handler in changes),
            Route("/verdict/gate", guarded(Kind.OPEN, gate), methods=["POST"]),  # it changes nothing: Flagger posts
        ],
        exception_handlers={Rejected: _on_error, HTTPException: _on_error, Exception: _on_error},
    )
    app.router.redirect_slashes = False  # a redirect would lead to whatever Host the request has
    return _Headers(app)


class _Scrape:
    """The metrics' text, kept while the figures stay the same: it takes a millisecond to write, and scrapers add up."""

    def __init__(self) -> None:
        self._census: Census | None = None
        self._text = b""

    def text(self, census: Census) -> bytes:
        if census != self._census:
            self._census, self._text = census, text(census)
        return self._text


class Records(Response):
    """Lines of the log as one JSON document: they are JSON already.

    It is sent piece by piece: the longest is 8 MB, and would be copied as a whole, and be held for a slow client.
    """

    def __init__(self, lines: Sequence[bytes]) -> None:
        super().__init__()
        self._lines = [line.rstrip(b"\n") for line in lines]

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        begin, end = b'{"exchanges":[', b"]}"
        length = len(begin) + sum(map(len, self._lines)) + max(0, len(self._lines) - 1) + len(end)
        headers = [(b"content-type", b"application/json"), (b"content-length", b"%d" % length)]
        await send({"type": "http.response.start", "status": 200, "headers": headers})
        piece, size = [begin], 0
        for number, line in enumerate(self._lines):
            piece += [b",", line] if number else [line]
            size += len(line)
            if size >= PIECE:
                await send({"type": "http.response.body", "body": b"".join(piece), "more_body": True})
                piece, size = [], 0
        await send({"type": "http.response.body", "body": b"".join([*piece, end])})


class _Events(Response):
    """The overview, as server-sent events, until the listener leaves or the sidecar stops."""

    def __init__(self, overview: Overview) -> None:
        super().__init__()
        self._overview = overview

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        # Unlike Starlette, this does not watch for a client that leaves: its connection then cancels this task.
        with self._overview.listener() as overviews:
            headers = [(b"content-type", b"text/event-stream")]
            await send({"type": "http.response.start", "status": 200, "headers": headers})
            async for each in overviews:
                event = b"event: overview\ndata: %b\n\n" % each
                await send({"type": "http.response.body", "body": event, "more_body": True})
            await send({"type": "http.response.body", "body": b"", "more_body": False})


class _Headers:
    """Adds HEADERS to every response."""

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
        **shadow_state(shadow),
        "begun": shadow.begun,
        "chosen": shadow.chosen,
        "outcomes": shadow.outcomes,
        "verdicts": shadow.verdicts,
    }


def _shadow_named(name: str, census: Census) -> ShadowCensus:
    return next(shadow for shadow in census.shadows if shadow.name == name)


async def _steer(name: str | None, change: Awaitable[None]) -> None:
    try:
        await change
    except KeyError:
        raise _no_shadow(name) from None
    except Unconfirmed as why:
        raise Rejected(503, "unconfirmed", str(why)) from None


async def _standing(answer: Awaitable[T]) -> T:
    try:
        return await answer
    except NotStanding as why:
        if why.off:
            raise Rejected(404, "not_found", str(why)) from None
        raise Rejected(503, "no_verdict", str(why)) from None


def _check_shadow(name: str | None, verdict: StandingVerdict) -> None:
    if name is not None and name not in verdict.shadows:
        raise _no_shadow(name)


def _no_shadow(name: str | None) -> Rejected:
    return Rejected(404, "not_found", f"no shadow is called {name!r}")


def _query(request: Request, *known: str) -> dict[str, str]:
    """The query's parameters. Raises Rejected where one is unknown, or given twice."""
    given = request.query_params.multi_items()
    for name, _ in given:
        if name not in known:
            raise _bad_request(f"unknown parameter {name!r}; known are {', '.join(known)}")
    if len(given) > len(dict(given)):
        raise _bad_request("a parameter is given twice")
    return dict(given)


def _limit(text: str) -> int:
    if not (text.isascii() and text.isdigit() and len(text) < 10 and 1 <= int(text) <= MAX_RECORDS):
        raise _bad_request(f"limit must be a whole number from 1 to {MAX_RECORDS}")
    return int(text)


def _verdict(text: str | None) -> Verdict | None:
    if text is None:
        return None
    if text not in tuple(Verdict):
        raise _bad_request(f"verdict must be one of {', '.join(Verdict)}")
    return Verdict(text)


def _word(text: str) -> str:
    if text not in WORDS:
        raise _bad_request(f"when must be one of {', '.join(WORDS)}")
    return text


def _percent(body: bytes) -> float:
    try:
        value = orjson.loads(body)
    except orjson.JSONDecodeError:
        value = None
    if not isinstance(value, dict) or value.keys() != {"percent"}:
        raise _bad_request('the body must be JSON of the form {"percent": 5}')
    percent = value["percent"]
    if isinstance(percent, bool) or not isinstance(percent, int | float) or not 0 <= percent <= 100:
        raise _bad_request("percent must be a number from 0 to 100")
    return float(percent)


async def _body(request: Request) -> bytes:
    body = b""
    try:
        async with asyncio.timeout(BODY_TIMEOUT):
            async for chunk in request.stream():
                body += chunk
                if len(body) > MAX_BODY:
                    raise Rejected(413, "too_large", f"the body is longer than {MAX_BODY} bytes")
    except FramingError as error:
        raise Rejected(error.status, "http_request_error", str(error)) from None
    except TimeoutError:
        raise Rejected(408, "too_slow", f"the body took longer than {BODY_TIMEOUT:g} s") from None
    return body


def _log_wrong_token(repeats: Repeats, request: Request) -> None:
    if count := repeats.worth_logging("token_wrong"):
        peer = request.scope["client"]
        client = plain_host(peer[0]) if peer else "a Unix socket"
        words = "a wrong token was sent to the admin server%s, last by %s"
        extra = {"event": "admin_token_wrong", "client": client, "count": count}
        _log.warning(words, times_text(count), client, extra=extra)


def _bad_request(detail: str) -> Rejected:
    return Rejected(400, "bad_request", detail)


def _on_error(request: Request, error: Exception) -> Response:
    if isinstance(error, Rejected):
        return _error_response(error.error)
    if isinstance(error, HTTPException) and error.status_code == 405:
        allowed = ", ".join(sorted((error.headers or {}).get("Allow", "").split(", ")))
        detail = f"{request.method} is not allowed on this path, only {allowed}"
        return _error_response(AdminError(405, "method_not_allowed", detail, {"allow": allowed}))
    if isinstance(error, HTTPException):
        return _error_response(AdminError(404, "not_found", "no such path; /openapi.json lists all paths"))
    return _error_response(AdminError(500, "defect", "a defect in the proxy; its log says more"))


def _error_response(error: AdminError) -> Response:
    return _json(error_values(error.reason, error.detail), error.status, error.headers)


def _json(value: Mapping[str, Any], status: int = 200, headers: Mapping[str, str] | None = None) -> Response:
    content = orjson.dumps(value, option=orjson.OPT_NON_STR_KEYS)
    return Response(content, status, headers, media_type="application/json")
