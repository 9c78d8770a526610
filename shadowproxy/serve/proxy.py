"""The live path, as one story: receive, forward, respond, and tell the mirror.

It awaits the caller and live, and nothing else. What the mirror is told returns at once.
"""

import asyncio
import logging
import time
from collections import Counter
from collections.abc import AsyncIterator, Callable, Container
from dataclasses import dataclass
from time import perf_counter
from typing import Any

from uvicorn._types import ASGIReceiveCallable, ASGISendCallable, HTTPRequestEvent, HTTPResponseStartEvent, Scope

from shadowproxy.exchange import Failure, Field, Fields, LiveLeg, Outcome, Reply, Request
from shadowproxy.serve.capture import Capture
from shadowproxy.serve.framing import FramingError, RequestHead
from shadowproxy.serve.headers import VIA, find, forwarded, hops
from shadowproxy.serve.identity import sound_id, uuid7
from shadowproxy.serve.listener import CALLER_LEFT, BrokenOff, refusal
from shadowproxy.serve.mirror import Mirror
from shadowproxy.serve.operator_log import Repeats, Served, times
from shadowproxy.serve.pieces import Pieces
from shadowproxy.serve.times import Times
from shadowproxy.serve.upstream import Answering, Endpoint, UpstreamError

REFUSALS = (501, 503, 508)
"""The statuses of requests that are not taken on: a WebSocket, more than `in_flight` at once, a loop."""

_NOT_LIVES = frozenset({Outcome.CALLER_LEFT, Outcome.SHUTDOWN})
"""How live's leg may end that says nothing of live."""

_log = logging.getLogger(__name__)

MAX_HOPS = 16  # a longer chain of shadowproxies is a circle that some hop hides by changing the request ID


@dataclass(frozen=True, slots=True)
class FixedAnswer:
    """What `live.respond` says instead of a live system. `fields` are without Content-Length."""

    status: int
    fields: Fields
    body: bytes


@dataclass(frozen=True, slots=True)
class Service:
    """What one configuration makes of the live path: a request is served to its end by the one it began with.

    `buffer` is in bytes; `in_flight` is how many requests may be under way at once.
    """

    live: Endpoint | FixedAnswer
    buffer: int
    in_flight: int
    id_header: bytes
    respond_id: bool
    forwarded: bool

    def told(self, fields: Fields | list[Field], request_id: str, names: Container[bytes] | None = None) -> list[Field]:
        """The answer's fields, with the request ID where live did not give one itself.

        `names` has theirs in lower case, where they are known.
        """
        name = self.id_header
        if not self.respond_id:
            return list(fields)
        if (names is None or name.lower() in names) and find(fields, name.lower()) is not None:
            return list(fields)
        return [*fields, (name, request_id.encode())]


class Proxy:
    """An ASGI application that reads the caller's own bytes from the listener's extension of the scope.

    `service` is what new requests are served by, and may be changed between two of them. `access` is told of every
    request, once it is over.
    """

    reads_head = True
    """Of the scope, it looks at the listener's extension and the caller's address alone."""

    def __init__(self, service: Service, mirror: Mirror, access: Callable[[Served], object] | None = None) -> None:
        self.service = service
        self.mirror = mirror
        self.in_flight = 0
        self.outcomes: Counter[Outcome] = Counter()
        self.refused: Counter[int] = Counter()  # by status; what the listener refuses is no request
        self.times = {True: Times(), False: Times()}  # by whether some shadow was asked too
        self._access = access
        self._repeats = Repeats()
        self._failures = 0  # of live, in a row
        self._passing: dict[str, list[int]] = {}  # by request ID: how often each had been through a shadowproxy

    @property
    def live_url(self) -> str | None:
        live = self.service.live
        return None if isinstance(live, FixedAnswer) else live.url

    async def __call__(self, scope: Scope, receive: ASGIReceiveCallable, send: ASGISendCallable) -> None:
        extensions: Any = scope["extensions"]  # type: ignore[typeddict-item]  # the listener's scopes always have it
        head: RequestHead = extensions["shadowproxy"]["head"]
        service = self.service
        id_name = service.id_header.lower()
        id_field = head.names.get(id_name)
        record = uuid7()
        request_id = sound_id(id_field) or record
        if self.in_flight >= service.in_flight:
            detail = f"more than {service.in_flight} requests at once"
            self._note_refusal(503, detail, head, request_id)
            await self._refuse(send, service, 503, "http_request_denied", detail, request_id, (b"Retry-After", b"1"))
            return
        passed = hops(head.fields) if b"via" in head.names else 0
        if passed and self._comes_back(request_id, passed):
            detail = "this request has come back to the proxy that sent it: live's address leads here"
            self._note_refusal(508, detail, head, request_id)
            await self._refuse(send, service, 508, "proxy_loop_detected", detail, request_id)
            return
        if b"upgrade" in head.names and b"websocket" in head.names[b"upgrade"].lower():
            detail = "WebSockets are not mirrored"
            self._note_refusal(501, detail, head, request_id)
            await self._refuse(send, service, 501, "http_request_denied", detail, request_id)
            return
        self.in_flight += 1
        same_id = self._passing.setdefault(request_id, [])
        same_id.append(passed)
        try:
            await self._exchange(service, scope, head, record, request_id, receive, send)
        finally:
            self.in_flight -= 1
            same_id.remove(passed)
            if not same_id:
                del self._passing[request_id]

    def _comes_back(self, request_id: str, passed: int) -> bool:
        """Whether this is a request that is still under way here, once more.

        One way round would be enough to tell, were it not for callers who ask with one request ID directly and through
        another shadowproxy at once. So it is told by the second: two earlier ones, from two distances.
        """
        earlier = {each for each in self._passing.get(request_id, ()) if each < passed}
        return passed > MAX_HOPS or len(earlier) > 1

    async def _exchange(
        self,
        service: Service,
        scope: Scope,
        head: RequestHead,
        record: str,
        request_id: str,
        receive: ASGIReceiveCallable,
        send: ASGISendCallable,
    ) -> None:
        at_ns = time.time_ns()
        unsettled = self.mirror.open()
        upload = _Upload(self.mirror.capture(unsettled), receive)
        answer = _Answer(self.mirror.capture(unsettled))

        fields = head.end_to_end
        id_name = service.id_header.lower()
        if id_name not in head.names or find(fields, id_name) is None:  # none came, or `Connection` named it
            fields = (*fields, (service.id_header, request_id.encode()))

        def request() -> Request:
            capture = upload.capture
            return Request(request_id, record, at_ns, head.method, head.target, fields, capture.body, capture.size)

        def offer() -> None:
            if b"x-shadow-request" not in head.names:
                self.mirror.offer(unsettled, request(), _unfit(upload.capture))

        live: LiveLeg | None = None
        try:
            # Receive: whole, or its beginning, before live is dialled: a slow upload holds no connection to live.
            await upload.read(service.buffer)
            if upload.complete:
                offer()

            # Forward.
            answer.began = perf_counter()
            if isinstance(service.live, FixedAnswer):
                async for _ in upload.rest(offer):
                    pass
                await self._respond_fixed(send, service, service.live, answer, request_id)
            else:
                to_live = [*fields, (b"Via", VIA)]
                if service.forwarded:
                    client = (scope["client"] or ("unknown", 0))[0]  # type: ignore[typeddict-item]
                    to_live = forwarded(to_live, client, head.names.get(b"host"))
                body = upload.taken if upload.complete else upload.rest(offer)
                answering = await service.live.ask(head.method, head.target, to_live, body)

                # Respond.
                try:
                    await self._respond(send, service, answering, answer, request_id)
                finally:
                    answering.abandon()
            live = answer.reply()
        except UpstreamError as error:
            live = answer.failure(error.outcome, str(error))
            if answer.started:
                raise BrokenOff from error
            answer.instead = 504 if error.outcome is Outcome.TIMEOUT else 502
            await self._refuse(send, service, answer.instead, error.proxy_error, str(error), request_id)
        except FramingError as error:
            live = answer.failure(Outcome.CALLER_LEFT, f"the request broke off: {error}")
            raise
        except asyncio.CancelledError as cancelled:
            if cancelled.args == (CALLER_LEFT,):
                live = answer.failure(Outcome.CALLER_LEFT, "the caller left before the answer was complete")
            else:
                live = answer.failure(Outcome.SHUTDOWN, "the proxy stopped before the answer was complete")
            raise
        finally:
            if live is None:
                live = answer.failure(Outcome.PROTOCOL_ERROR, "a defect in the proxy; its log says more")
                answer.instead = 500  # the listener's, which also tells the operator
            else:
                self._note_live(live, answer.status, request_id)
            self.outcomes[live.outcome if isinstance(live, Failure) else Outcome.OK] += 1
            self.times[unsettled.mirrored].add(live.total_ms / 1000)
            if self._access is not None:
                outcome = live.outcome if isinstance(live, Failure) else Outcome.OK
                passed = (perf_counter() - answer.came) * 1000
                size = answer.capture.size
                self._access(Served(request_id, head.method, head.target, answer.status, outcome, passed, size))
            self.mirror.answered(unsettled, unsettled.request or request(), live)

    def _note_live(self, live: LiveLeg, status: int | None, request_id: str) -> None:
        """Count how live does, and say so where it is worth a line."""
        if isinstance(live, Reply):
            if self._failures > 1 and self._repeats.worth_telling("recovered"):
                extra = {"event": "live_recovered", "count": self._failures}
                _log.info("live answers again, after %d failures in a row", self._failures, extra=extra)
            self._failures = 0
            return
        count = 0
        if live.outcome not in _NOT_LIVES:
            self._failures += 1
            count = self._repeats.worth_telling("failed", live.outcome)
        level = logging.ERROR if count else logging.DEBUG
        if not _log.isEnabledFor(level):
            return
        extra = {
            "event": "live_failed",
            "outcome": live.outcome,
            "status": status,
            "count": count,
            "error": live.error,
            "request_id": request_id,
        }
        _log.log(
            level, "live failed%s (%s): %s; request %s", times(count), live.outcome, live.error, request_id, extra=extra
        )

    def _note_refusal(self, status: int, detail: str, head: RequestHead, request_id: str) -> None:
        self.refused[status] += 1
        if self._access is not None:
            self._access(Served(request_id, head.method, head.target, status, "refused", 0.0, 0))
        if count := self._repeats.worth_telling("refused", str(status)):
            extra = {"event": "request_refused", "status": status, "count": count, "request_id": request_id}
            _log.warning("refused%s with %d: %s; request %s", times(count), status, detail, request_id, extra=extra)

    async def _respond(
        self, send: ASGISendCallable, service: Service, answering: Answering, answer: "_Answer", request_id: str
    ) -> None:
        answer.begin(answering.status, tuple(answering.fields), answering.first_byte_at)
        await send(_start(answering.status, service.told(answering.fields, request_id, answering.names)))
        async for chunk in answering:
            answer.capture.add(chunk)
            if answering.ended:
                await send({"type": "http.response.body", "body": chunk, "more_body": False})
                return
            await send({"type": "http.response.body", "body": chunk, "more_body": True})
        await send({"type": "http.response.body", "body": b"", "more_body": False})

    async def _respond_fixed(
        self, send: ASGISendCallable, service: Service, fixed: FixedAnswer, answer: "_Answer", request_id: str
    ) -> None:
        answer.begin(fixed.status, fixed.fields, perf_counter())
        answer.capture.add(fixed.body)
        fields = [*fixed.fields, (b"Content-Length", b"%d" % len(fixed.body))]
        await send(_start(fixed.status, service.told(fields, request_id)))
        await send({"type": "http.response.body", "body": fixed.body, "more_body": False})

    async def _refuse(
        self,
        send: ASGISendCallable,
        service: Service,
        status: int,
        reason: str,
        detail: str,
        request_id: str,
        *more: Field,
    ) -> None:
        """Answer in live's stead, with a JSON body that names the reason and the request ID."""
        fields, body = refusal(reason, detail, request_id)
        await send(_start(status, service.told([*fields, *more], request_id)))
        await send({"type": "http.response.body", "body": body, "more_body": False})


class _Upload:
    """The caller's body, copied as it is read."""

    def __init__(self, capture: Capture, receive: ASGIReceiveCallable) -> None:
        self.capture = capture
        self.complete = False
        self.taken = b""
        self._receive = receive

    async def read(self, count: int) -> None:
        """Take the whole body, or at least its first `count` bytes, into `taken`."""
        pieces = Pieces()
        while not self.complete and self.capture.size <= count:
            pieces.add(await self.next())
        self.taken = pieces.joined()

    def rest(self, at_end: Callable[[], None]) -> AsyncIterator[bytes]:
        """What was taken, and then the rest as it comes; `at_end` is called when all of it is copied."""
        return _Rest(self, None if self.complete else at_end)

    async def next(self) -> bytes:
        event: HTTPRequestEvent = await self._receive()  # type: ignore[assignment]  # the listener sends no other
        self.capture.add(event["body"])
        self.complete = not event["more_body"]
        return event["body"]


class _Rest(AsyncIterator[bytes]):
    """An upload once it is begun. No generator: one left halfway would be closed by a task that nobody owns."""

    def __init__(self, upload: _Upload, at_end: Callable[[], None] | None) -> None:
        self._upload = upload
        self._at_end = at_end
        self._begun = False

    async def __anext__(self) -> bytes:
        if not self._begun:
            self._begun = True
            return self._upload.taken
        if not self._upload.complete:
            return await self._upload.next()
        if self._at_end is not None:
            self._at_end()
        raise StopAsyncIteration


class _Answer:
    """Live's leg as it comes about. Milliseconds from `began`. `instead`: the status of what was answered for live."""

    def __init__(self, capture: Capture) -> None:
        self.capture = capture
        self.came = self.began = perf_counter()
        self.started = False
        self.instead: int | None = None
        self._status = 0
        self._fields: Fields = ()
        self._first_byte_at = 0.0

    @property
    def status(self) -> int | None:
        """What the caller was answered, None where it was nothing."""
        return self._status if self.started else self.instead

    def begin(self, status: int, fields: Fields, first_byte_at: float) -> None:
        self.started = True
        self._status, self._fields, self._first_byte_at = status, fields, first_byte_at

    def reply(self) -> Reply:
        return Reply(
            self._status,
            self._fields,
            self.capture.body,
            self.capture.size,
            first_byte_ms=(self._first_byte_at - self.began) * 1000,
            total_ms=(perf_counter() - self.began) * 1000,
            began_ms=self._began_ms,
        )

    def failure(self, outcome: Outcome, error: str) -> Failure:
        reply = self.reply() if self.started else None
        return Failure(outcome, error, (perf_counter() - self.began) * 1000, reply, self._began_ms)

    @property
    def _began_ms(self) -> float:
        return (self.began - self.came) * 1000


def _start(status: int, fields: list[Field]) -> HTTPResponseStartEvent:
    return {"type": "http.response.start", "status": status, "headers": fields, "trailers": False}


def _unfit(capture: Capture) -> Outcome | None:
    """Why a request cannot be mirrored, if it cannot: its copy is not whole."""
    if capture.over:
        return Outcome.OVERSIZE
    return Outcome.OVERLOAD if capture.crowded else None
