"""The live path, as one story: receive, forward, respond, and hand the exchange to the mirror.

It awaits the caller and live, and nothing else. The mirror's calls return at once.
"""

import asyncio
import logging
import time
from collections import Counter
from collections.abc import Callable
from time import perf_counter
from typing import Final

from shadowproxy.exchange import Failure, Field, Fields, LiveLeg, Outcome, Reply
from shadowproxy.serve.callers.call import CALLER_LEFT, BrokenOff, Call
from shadowproxy.serve.callers.error_body import error_response
from shadowproxy.serve.http1.framing import FramingError
from shadowproxy.serve.live.exchange import LiveExchange, Upload
from shadowproxy.serve.live.service import FixedAnswer, Service
from shadowproxy.serve.mirror.dispatch import Mirror
from shadowproxy.serve.policy.headers import VIA, count_hops, find, forwarded_fields
from shadowproxy.serve.policy.identity import uuid7, valid_request_id
from shadowproxy.serve.telemetry.durations import DurationBuckets
from shadowproxy.serve.telemetry.operator_log import AccessLine, Repeats, times_text
from shadowproxy.serve.upstreams.endpoint import UpstreamError, UpstreamResponse

REJECTED_STATUSES = (501, 503, 508)
"""The statuses of requests that are rejected: a WebSocket, more than `in_flight` at once, a loop."""

MAX_HOPS = 16  # a longer chain of shadowproxies is a loop, which some hop hides by changing the request ID

_NO_FAULT_OF_LIVE: Final = frozenset({Outcome.CALLER_LEFT, Outcome.SHUTDOWN})
"""Outcomes of live's leg that say nothing about live."""

_DEFECT: Final = Failure(Outcome.PROTOCOL_ERROR, "a defect in the proxy; its log says more", 0.0)

_RETRY_SOON: Final = (b"Retry-After", b"1")

_log = logging.getLogger(__name__)


class Proxy:
    """Answers a listener's calls.

    New requests are served by `service`, which may be replaced at any time. `access` is called with every request once
    it is over.
    """

    def __init__(self, service: Service, mirror: Mirror, access: Callable[[AccessLine], object] | None = None) -> None:
        self.service = service
        self.mirror = mirror
        self.in_flight = 0
        self.outcomes: Counter[Outcome] = Counter()
        self.retries = 0  # of requests to live
        self.rejected: Counter[int] = Counter()  # by status, without those that the listener rejects
        self.times_mirrored = DurationBuckets()  # live's, of exchanges that some shadow took on too
        self.times_alone = DurationBuckets()  # live's, of all others
        self._access = access
        self._repeats = Repeats()
        self._failures = 0  # of live, in a row
        # How many requests are under way, by request ID and number of shadowproxies that they came through.
        self._under_way: dict[tuple[str, int], int] = {}

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
            self._reject(call, service, request_id, 503, "http_request_denied", detail, _RETRY_SOON)
            return
        hops = count_hops(head.fields) if b"via" in head.names else 0
        if hops and self._is_loop(request_id, hops):
            detail = "this request has come back to the proxy that sent it: live's address leads here"
            self._reject(call, service, request_id, 508, "proxy_loop_detected", detail)
            return
        if b"upgrade" in head.names and b"websocket" in head.names[b"upgrade"].lower():
            self._reject(call, service, request_id, 501, "http_request_denied", "WebSockets are not mirrored")
            return
        self.in_flight += 1
        key = (request_id, hops)
        self._under_way[key] = self._under_way.get(key, 0) + 1
        try:
            await self._serve(service, call, at_ns, record, request_id)
        finally:
            self.in_flight -= 1
            others = self._under_way.pop(key) - 1
            if others:
                self._under_way[key] = others

    def _is_loop(self, request_id: str, hops: int) -> bool:
        """Whether this request is already under way here and has come back.

        One match may be a client that uses two routes, directly and through another shadowproxy, with one request ID.
        Two matches at different hop counts prove a loop.
        """
        return hops > MAX_HOPS or sum((request_id, earlier) in self._under_way for earlier in range(hops)) > 1

    def _reject(
        self, call: Call, service: Service, request_id: str, status: int, reason: str, detail: str, *more: Field
    ) -> None:
        """Answer a request that is not forwarded; count and log it."""
        self.rejected[status] += 1
        if self._access is not None:
            self._access(AccessLine(request_id, call.head.method, call.head.target, status, "refused", 0.0, 0))
        if count := self._repeats.worth_logging("refused", str(status)):
            extra = {"event": "request_refused", "status": status, "count": count, "request_id": request_id}
            words = "rejected%s with %d: %s; request %s"
            _log.warning(words, times_text(count), status, detail, request_id, extra=extra)
        _respond_error(call, service, status, reason, detail, request_id, *more)

    async def _serve(self, service: Service, call: Call, at_ns: int, record: str, request_id: str) -> None:
        head = call.head
        section = head.section
        section.seen += 1
        own: Fields = ()
        # `names` has every field's name; `section` lacks the fields that the caller's Connection field names.
        if service.id_name not in head.names or find(section.fields, service.id_name) is None:
            own = ((service.id_header, request_id.encode()),)
        exchange = LiveExchange(self.mirror, call, own, at_ns, record, request_id)
        self.mirror.open(exchange)
        live: LiveLeg = _DEFECT
        try:
            # Receive: whole, or its beginning, before live is dialled: a slow upload holds no connection to live.
            body = exchange.take_received()
            if not call.complete:
                body = await exchange.receive_up_to(service.buffer, body)
            whole = call.complete
            if whole:
                exchange.offer_to(self.mirror)

            # Forward.
            exchange.began = perf_counter()
            if isinstance(service.live, FixedAnswer):
                if not whole:
                    async for _ in Upload(exchange, self.mirror, body):
                        pass
                _respond_fixed(service, exchange, service.live)
            else:
                more = [*own, (b"Via", VIA)]
                if service.forwarded:
                    client = (call.client or ("unknown", 0))[0]
                    more += forwarded_fields(section.fields, client, head.names.get(b"host"))
                rest = body if whole else Upload(exchange, self.mirror, body)
                response = service.live.start_request(head.method, head.target, more, rest, section)
                try:
                    await response.wait_head()

                    # Respond.
                    await _respond(service, exchange, response)
                finally:
                    response.abandon()
                    self.retries += response.retried
            live = exchange.build_reply()
        except UpstreamError as error:
            live = exchange.build_failure(error.outcome, str(error))
            if call.started:
                raise BrokenOff from error
            exchange.status = 504 if error.outcome is Outcome.TIMEOUT else 502
            _respond_error(call, service, exchange.status, error.proxy_error, str(error), request_id)
        except FramingError as broken:
            live = exchange.build_failure(Outcome.CALLER_LEFT, f"the request broke off: {broken}")
            raise
        except asyncio.CancelledError as cancelled:
            if cancelled.args == (CALLER_LEFT,):
                live = exchange.build_failure(Outcome.CALLER_LEFT, "the caller left before the answer was complete")
            else:
                live = exchange.build_failure(Outcome.SHUTDOWN, "the proxy stopped before the answer was complete")
            raise
        finally:
            if live is _DEFECT:
                live = exchange.build_failure(_DEFECT.outcome, _DEFECT.error)
                exchange.status = exchange.status or 500  # the listener answers it, and logs the defect
            else:
                self._log_live(live, exchange.status, request_id)
            self._count(exchange, live)
            self.mirror.end_live(exchange, exchange.request or exchange.build_request(), live)

    def _count(self, exchange: LiveExchange, live: LiveLeg) -> None:
        """Count live's leg, and write the request's line of the access log."""
        outcome = live.outcome if isinstance(live, Failure) else Outcome.OK
        self.outcomes[outcome] += 1
        (self.times_mirrored if exchange.mirrored else self.times_alone).add(live.total_ms / 1000)
        if self._access is not None:
            head, milliseconds = exchange.call.head, (perf_counter() - exchange.received_at) * 1000
            size = exchange.answer_body.size
            self._access(
                AccessLine(exchange.request_id, head.method, head.target, exchange.status, outcome, milliseconds, size)
            )

    def _log_live(self, live: LiveLeg, status: int | None, request_id: str) -> None:
        """Count live's failures in a row, and log those that are due for a line, and the end of them."""
        if isinstance(live, Reply):
            if self._failures > 1 and self._repeats.worth_logging("recovered"):
                extra = {"event": "live_recovered", "count": self._failures}
                _log.info("live answers again, after %d failures in a row", self._failures, extra=extra)
            self._failures = 0
            return
        count = 0
        if live.outcome not in _NO_FAULT_OF_LIVE:
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
        words = "live failed%s (%s): %s; request %s"
        _log.log(level, words, times_text(count), live.outcome, live.error, request_id, extra=extra)


async def _respond(service: Service, exchange: LiveExchange, response: UpstreamResponse) -> None:
    """Pass live's answer to the caller, piece by piece, and copy it."""
    call, copy = exchange.call, exchange.answer_body
    exchange.begin_answer(response.status, response.fields, response.first_byte_at)
    fields = service.add_request_id(response.fields, exchange.request_id, response.names)
    piece = response.take_nowait()
    if piece:
        copy.add(piece)
    call.start(response.status, fields, response.names, piece, last=response.ended)
    while not call.answered:
        await call.wait_writable()
        piece = await anext(response, b"")
        copy.add(piece)
        call.write(piece, last=response.ended)


def _respond_fixed(service: Service, exchange: LiveExchange, fixed: FixedAnswer) -> None:
    exchange.begin_answer(fixed.status, fixed.fields, perf_counter())
    exchange.answer_body.add(fixed.body)
    fields = [*fixed.fields, (b"Content-Length", b"%d" % len(fixed.body))]
    exchange.call.start(fixed.status, service.add_request_id(fields, exchange.request_id), body=fixed.body, last=True)


def _respond_error(
    call: Call, service: Service, status: int, reason: str, detail: str, request_id: str, *more: Field
) -> None:
    """Answer instead of live, with a JSON body that names the reason and the request ID."""
    fields, body = error_response(reason, detail, request_id)
    call.start(status, service.add_request_id([*fields, *more], request_id), body=body, last=True)
