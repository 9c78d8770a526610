"""The live path, as one story: receive, forward, respond, and tell the mirror.

It awaits the caller and live, and nothing else. What the mirror is told returns at once.
"""

import asyncio
import logging
import time
from collections import Counter
from collections.abc import AsyncIterator, Callable, Container, Sequence
from dataclasses import dataclass
from time import perf_counter
from typing import Final

from shadowproxy.exchange import Failure, Field, Fields, LiveLeg, Outcome, Reply, Request
from shadowproxy.serve.callers.listener import CALLER_LEFT, BrokenOff, Call, refusal
from shadowproxy.serve.http1.framing import FramingError, RequestHead
from shadowproxy.serve.http1.pieces import Pieces
from shadowproxy.serve.mirror.capture import Capture
from shadowproxy.serve.mirror.dispatch import Mirror
from shadowproxy.serve.policy.headers import VIA, count_hops, find, forwarded_fields
from shadowproxy.serve.policy.identity import uuid7, valid_request_id
from shadowproxy.serve.telemetry.durations import DurationBuckets
from shadowproxy.serve.telemetry.operator_log import AccessLine, Repeats, times_text
from shadowproxy.serve.upstreams.endpoint import Answering, Endpoint, UpstreamError

REJECTED_STATUSES = (501, 503, 508)
"""The statuses of requests that are not taken on: a WebSocket, more than `in_flight` at once, a loop."""

_NOT_LIVES = frozenset({Outcome.CALLER_LEFT, Outcome.SHUTDOWN})
"""How live's leg may end that says nothing of live."""

_DEFECT: Final = Failure(Outcome.PROTOCOL_ERROR, "a defect in the proxy; its log says more", 0.0)

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

    `buffer` is in bytes; `in_flight` is how many requests may be under way at once; `id_name` is `id_header` in lower
    case.
    """

    live: Endpoint | FixedAnswer
    buffer: int
    in_flight: int
    id_header: bytes
    id_name: bytes
    respond_id: bool
    forwarded: bool

    def told(self, fields: Sequence[Field], request_id: str, names: Container[bytes] | None = None) -> Sequence[Field]:
        """The answer's fields, with the request ID where live did not give one itself.

        `names` has theirs in lower case, where they are known.
        """
        if not self.respond_id:
            return fields
        if (names is None or self.id_name in names) and find(fields, self.id_name) is not None:
            return fields
        return [*fields, (self.id_header, request_id.encode())]


class Proxy:
    """Answers a listener's calls.

    `service` is what new requests are served by, and may be changed between two of them. `access` is told of every
    request, once it is over.
    """

    def __init__(self, service: Service, mirror: Mirror, access: Callable[[AccessLine], object] | None = None) -> None:
        self.service = service
        self.mirror = mirror
        self.in_flight = 0
        self.outcomes: Counter[Outcome] = Counter()
        self.retries = 0  # of requests sent to live once more
        self.rejected: Counter[int] = Counter()  # by status; what the listener refuses is no request
        self.times_mirrored = DurationBuckets()  # of exchanges that some shadow took on too
        self.times_alone = DurationBuckets()
        self._access = access
        self._repeats = Repeats()
        self._failures = 0  # of live, in a row
        # How many are under way of each request ID that had been so often through a shadowproxy.
        self._passing: dict[tuple[str, int], int] = {}

    @property
    def live_url(self) -> str | None:
        live = self.service.live
        return None if isinstance(live, FixedAnswer) else live.url

    async def answer(self, call: Call) -> None:
        head, service = call.head, self.service
        at_ns = time.time_ns()
        record = uuid7(at_ns)
        request_id = valid_request_id(head.names.get(service.id_name)) or record
        if self.in_flight >= service.in_flight:
            detail = f"more than {service.in_flight} requests at once"
            self._count_rejected(503, detail, head, request_id)
            _refuse(call, service, 503, "http_request_denied", detail, request_id, (b"Retry-After", b"1"))
            return
        passed = count_hops(head.fields) if b"via" in head.names else 0
        if passed and self._comes_back(request_id, passed):
            detail = "this request has come back to the proxy that sent it: live's address leads here"
            self._count_rejected(508, detail, head, request_id)
            _refuse(call, service, 508, "proxy_loop_detected", detail, request_id)
            return
        if b"upgrade" in head.names and b"websocket" in head.names[b"upgrade"].lower():
            detail = "WebSockets are not mirrored"
            self._count_rejected(501, detail, head, request_id)
            _refuse(call, service, 501, "http_request_denied", detail, request_id)
            return
        self.in_flight += 1
        alike = (request_id, passed)
        self._passing[alike] = self._passing.get(alike, 0) + 1
        try:
            await self._exchange(service, call, at_ns, record, request_id)
        finally:
            self.in_flight -= 1
            others = self._passing.pop(alike) - 1
            if others:
                self._passing[alike] = others

    def _comes_back(self, request_id: str, passed: int) -> bool:
        """Whether this is a request that is still under way here, once more.

        One way round would be enough to tell, were it not for callers who ask with one request ID directly and through
        another shadowproxy at once. So it is told by the second: two earlier ones, from two distances.
        """
        return passed > MAX_HOPS or sum((request_id, earlier) in self._passing for earlier in range(passed)) > 1

    async def _exchange(self, service: Service, call: Call, at_ns: int, record: str, request_id: str) -> None:
        head = call.head
        section = head.section
        section.seen += 1
        own: Fields = ()
        if service.id_name not in head.names or find(section.fields, service.id_name) is None:  # `Connection` named it
            own = ((service.id_header, request_id.encode()),)
        under_way = _UnderWay(self.mirror, call, own, at_ns, record, request_id)
        live: LiveLeg = _DEFECT
        try:
            # Receive: whole, or its beginning, before live is dialled: a slow upload holds no connection to live.
            body = under_way.copied(call.take_nowait())
            if not call.complete:
                body = await under_way.receive(body, service.buffer)
            whole = call.complete
            if whole:
                under_way.offer()

            # Forward.
            under_way.began = perf_counter()
            if isinstance(service.live, FixedAnswer):
                if not whole:
                    async for _ in _Rest(under_way, body):
                        pass
                self._respond_fixed(service, under_way, service.live)
            else:
                more = [*own, (b"Via", VIA)]
                if service.forwarded:
                    client = (call.client or ("unknown", 0))[0]
                    more += forwarded_fields(section.fields, client, head.names.get(b"host"))
                rest = body if whole else _Rest(under_way, body)
                answering = service.live.start(head.method, head.target, more, rest, section)
                try:
                    await answering.wait_head()

                    # Respond.
                    await self._respond(service, under_way, answering)
                finally:
                    answering.abandon()
                    self.retries += answering.sent_again
            live = under_way.reply()
        except UpstreamError as error:
            live = under_way.failure(error.outcome, str(error))
            if call.started:
                raise BrokenOff from error
            under_way.status = 504 if error.outcome is Outcome.TIMEOUT else 502
            _refuse(call, service, under_way.status, error.proxy_error, str(error), request_id)
        except FramingError as broken:
            live = under_way.failure(Outcome.CALLER_LEFT, f"the request broke off: {broken}")
            raise
        except asyncio.CancelledError as cancelled:
            if cancelled.args == (CALLER_LEFT,):
                live = under_way.failure(Outcome.CALLER_LEFT, "the caller left before the answer was complete")
            else:
                live = under_way.failure(Outcome.SHUTDOWN, "the proxy stopped before the answer was complete")
            raise
        finally:
            if live is _DEFECT:
                live = under_way.failure(_DEFECT.outcome, _DEFECT.error)
                under_way.status = under_way.status or 500  # the listener's, which also tells the operator
            else:
                self._note_live(live, under_way.status, request_id)
            outcome = live.outcome if isinstance(live, Failure) else Outcome.OK
            self.outcomes[outcome] += 1
            times = self.times_mirrored if under_way.unsettled.mirrored else self.times_alone
            times.add(live.total_ms / 1000)
            if self._access is not None:
                passed = (perf_counter() - under_way.came) * 1000
                size = under_way.answer.size
                self._access(AccessLine(request_id, head.method, head.target, under_way.status, outcome, passed, size))
            self.mirror.answered(under_way.unsettled, under_way.unsettled.request or under_way.request(), live)

    def _note_live(self, live: LiveLeg, status: int | None, request_id: str) -> None:
        """Count how live does, and say so where it is worth a line."""
        if isinstance(live, Reply):
            if self._failures > 1 and self._repeats.worth_logging("recovered"):
                extra = {"event": "live_recovered", "count": self._failures}
                _log.info("live answers again, after %d failures in a row", self._failures, extra=extra)
            self._failures = 0
            return
        count = 0
        if live.outcome not in _NOT_LIVES:
            self._failures += 1
            count = self._repeats.worth_logging("failed", live.outcome)
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
            level,
            "live failed%s (%s): %s; request %s",
            times_text(count),
            live.outcome,
            live.error,
            request_id,
            extra=extra,
        )

    def _count_rejected(self, status: int, detail: str, head: RequestHead, request_id: str) -> None:
        self.rejected[status] += 1
        if self._access is not None:
            self._access(AccessLine(request_id, head.method, head.target, status, "refused", 0.0, 0))
        if count := self._repeats.worth_logging("refused", str(status)):
            extra = {"event": "request_refused", "status": status, "count": count, "request_id": request_id}
            _log.warning(
                "refused%s with %d: %s; request %s", times_text(count), status, detail, request_id, extra=extra
            )

    async def _respond(self, service: Service, under_way: "_UnderWay", answering: Answering) -> None:
        call, answer = under_way.call, under_way.answer
        under_way.begin(answering.status, answering.fields, answering.first_byte_at)
        told = service.told(answering.fields, under_way.request_id, answering.names)
        piece = answering.take_nowait()
        if piece:
            answer.add(piece)
        call.start(answering.status, told, answering.names, piece, last=answering.ended)
        while not call.answered:
            await call.wait_writable()
            piece = await anext(answering, b"")
            answer.add(piece)
            call.write(piece, last=answering.ended)

    def _respond_fixed(self, service: Service, under_way: "_UnderWay", fixed: FixedAnswer) -> None:
        under_way.begin(fixed.status, fixed.fields, perf_counter())
        under_way.answer.add(fixed.body)
        fields = [*fixed.fields, (b"Content-Length", b"%d" % len(fixed.body))]
        under_way.call.start(fixed.status, service.told(fields, under_way.request_id), body=fixed.body, last=True)


class _UnderWay:
    """An exchange as it comes about: bounded copies of both bodies, and what is known of live's leg so far.

    `came` and `began`, when live was first asked, are by time.perf_counter. `status` is what the caller was answered,
    None while that is nothing.
    """

    __slots__ = (
        "_at_ns",
        "_fields",
        "_first_byte_at",
        "_mirror",
        "_record",
        "_reply_fields",
        "_reply_status",
        "answer",
        "began",
        "call",
        "came",
        "request_id",
        "status",
        "unsettled",
        "upload",
    )

    def __init__(self, mirror: Mirror, call: Call, own: Fields, at_ns: int, record: str, request_id: str) -> None:
        section = call.head.section
        self._mirror = mirror
        self.call = call
        self.unsettled = mirror.open(section)
        self.upload = mirror.capture(self.unsettled)
        self.answer = mirror.capture(self.unsettled)
        self.request_id = request_id
        self.came = self.began = perf_counter()
        self.status: int | None = None
        self._fields = section.fields + own
        self._at_ns = at_ns
        self._record = record
        self._reply_status: int | None = None
        self._reply_fields: Fields = ()
        self._first_byte_at = 0.0

    def copied(self, piece: bytes) -> bytes:
        """A piece of the caller's body, as it passes."""
        if piece:
            self.upload.add(piece)
        return piece

    async def receive(self, body: bytes, count: int) -> bytes:
        """`body` with what comes behind it, until that is all or more than `count` bytes."""
        pieces = Pieces()
        pieces.add(body)
        while not self.call.complete and self.upload.size <= count:
            pieces.add(self.copied(await self.call.read()))
        return pieces.joined()

    def offer(self) -> None:
        """All of the request is in: tell the mirror of it."""
        if b"x-shadow-request" not in self.call.head.names:
            self._mirror.offer(self.unsettled, self.request(), _unfit(self.upload))

    def request(self) -> Request:
        head, upload = self.call.head, self.upload
        return Request(
            self.request_id,
            self._record,
            self._at_ns,
            head.method,
            head.target,
            self._fields,
            upload.body,
            upload.size,
        )

    def begin(self, status: int, fields: Fields, first_byte_at: float) -> None:
        """Live answers."""
        self.status = self._reply_status = status
        self._reply_fields = fields
        self._first_byte_at = first_byte_at

    def reply(self) -> Reply:
        assert self._reply_status is not None
        return Reply(
            self._reply_status,
            self._reply_fields,
            self.answer.body,
            self.answer.size,
            (self._first_byte_at - self.began) * 1000,
            (perf_counter() - self.began) * 1000,
            (self.began - self.came) * 1000,
        )

    def failure(self, outcome: Outcome, error: str) -> Failure:
        reply = None if self._reply_status is None else self.reply()
        total_ms, began_ms = (perf_counter() - self.began) * 1000, (self.began - self.came) * 1000
        return Failure(outcome, error, total_ms, reply, began_ms)


class _Rest(AsyncIterator[bytes]):
    """An upload that was begun: what was taken of it, and then the rest as it comes. At its end it is offered.

    No generator: one left halfway would be closed by a task that nobody owns.
    """

    def __init__(self, under_way: _UnderWay, taken: bytes) -> None:
        self._under_way = under_way
        self._taken = taken
        self._begun = False

    async def __anext__(self) -> bytes:
        call = self._under_way.call
        if not self._begun:
            self._begun = True
            return self._taken
        if not call.complete:
            return self._under_way.copied(await call.read())
        self._under_way.offer()
        raise StopAsyncIteration


def _refuse(call: Call, service: Service, status: int, reason: str, detail: str, request_id: str, *more: Field) -> None:
    """Answer in live's stead, with a JSON body that names the reason and the request ID."""
    fields, body = refusal(reason, detail, request_id)
    call.start(status, service.told([*fields, *more], request_id), body=body, last=True)


def _unfit(capture: Capture) -> Outcome | None:
    """Why a request cannot be mirrored, if it cannot: its copy is not whole."""
    if capture.over:
        return Outcome.OVERSIZE
    return Outcome.OVERLOAD if capture.crowded else None
