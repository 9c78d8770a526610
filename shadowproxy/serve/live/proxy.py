"""The live path, as one story: receive, forward, and hand the exchange to the mirror. leg.py responds.

A request that has come whole needs no task: it is forwarded in the turn that received its end. Only a longer one's
beginning is awaited. The mirror's calls return at once.

A request takes one of `limits.in_flight` slots when live is asked, and not while it is received: callers who send
slowly take none. A caller who takes nothing of its response, or sends nothing of its body, keeps its slot only as long
as nobody else needs it.
"""

import asyncio
import logging
import time
from collections import Counter
from collections.abc import Callable, Coroutine
from time import perf_counter
from typing import Final

from shadowproxy.exchange import Failure, Field, Fields, LiveLeg, Outcome, Reply
from shadowproxy.serve.callers.call import Call
from shadowproxy.serve.callers.error_body import error_response
from shadowproxy.serve.http1.fields import lists
from shadowproxy.serve.http1.framing import FramingError, Length, RequestHead
from shadowproxy.serve.live.exchange import LiveExchange, Upload
from shadowproxy.serve.live.leg import DEFECT, Passage, cancelled, defect
from shadowproxy.serve.live.service import FixedAnswer, Service
from shadowproxy.serve.live.tunnel import Tunnels
from shadowproxy.serve.mirror.dispatch import Mirror
from shadowproxy.serve.policy.headers import VIA, count_hops, find, forwarded_fields
from shadowproxy.serve.policy.identity import uuid7, valid_request_id
from shadowproxy.serve.telemetry.access import AccessLine
from shadowproxy.serve.telemetry.durations import DurationBuckets
from shadowproxy.serve.telemetry.operator_log import Repeats, times_text

REJECTED_STATUSES = (503, 508)
"""The statuses of requests that are rejected: more than `in_flight` at once, a loop."""

MAX_HOPS = 16  # a longer chain of shadowproxies is a loop, which some hop hides by changing the request ID

ASKED: Final = 12 << 10
"""About the bytes that a request takes while live is asked, or a tunnel is open, with the connection to live: measured
9 KiB here, with 1,000 of them, and the kernel has the socket."""

_NO_FAULT_OF_LIVE: Final = frozenset({Outcome.CALLER_LEFT, Outcome.SHUTDOWN})
"""Outcomes of live's leg that say nothing about live."""

_WANTS_TRAILERS: Final = (b"TE", b"trailers")
"""A caller that takes trailers gets live's, so live is asked for them as well. Without `Connection: TE`, which RFC 9110
section 10.1.4 asks for: Go's proxy sends none, and every proxy knows that TE is for one hop."""

WEBSOCKET: Final = b"websocket"
_OFFER: Final = ((b"Connection", b"Upgrade"), (b"Upgrade", WEBSOCKET))

_RETRY_SOON: Final = (b"Retry-After", b"1")

_log = logging.getLogger(__name__)


class Proxy:
    """Answers a listener's calls.

    New requests are served by `service`, until `adopt` replaces it. `access` is called with every request once
    it is over. `make_slot` is called when all slots are taken: it ends a request whose caller stands still, and returns
    whether there was one.
    """

    def __init__(
        self,
        service: Service,
        mirror: Mirror,
        access: Callable[[AccessLine], object] | None = None,
        make_slot: Callable[[], bool] = lambda: False,
    ) -> None:
        self.service = service
        self.mirror = mirror
        self.make_slot = make_slot
        self.in_flight = 0  # requests that are received, or that live was asked
        self.tunnels = Tunnels()
        self.asked = 0  # those of them that live was asked
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

    def adopt(self, service: Service) -> None:
        """Serve new requests by `service`. Open tunnels need nothing of the one before, and do not keep it."""
        self.service = service
        for exchange in self.tunnels.exchanges:
            exchange.service = service

    def answer(self, call: Call) -> Coroutine[None, None, None] | None:
        """Answer in callbacks, as soon as enough of the request is there: that alone may have to be awaited."""
        if not call.reader.done:
            return self._receive(call)
        exchange = self._begin(call)
        if exchange is not None:
            body = exchange.take_whole()
            self._forward(exchange, body)
        return None

    async def _receive(self, call: Call) -> None:
        """Receive: whole, or its beginning, before live is dialled: a slow upload holds no connection to live."""
        exchange = self._begin(call)
        if exchange is None:
            return
        try:
            body = await exchange.receive_up_to(exchange.service.buffer)
            fixed = isinstance(exchange.service.live, FixedAnswer)
            if not call.complete and fixed:
                async for _ in Upload(exchange, self.mirror, body):
                    pass
        except FramingError as broken:
            self._end(exchange, exchange.build_failure(Outcome.CALLER_LEFT, f"the request broke off: {broken}"))
            raise
        except asyncio.CancelledError as ended:
            self._end(exchange, cancelled(exchange, str(ended)))
            raise
        except Exception:
            self._end(exchange, defect(exchange))
            raise
        if not fixed and self._is_full(exchange.service):
            self._close_exchange(exchange)
            self.mirror.discard(exchange)
            self._reject_full(call, exchange.service, exchange.request_id)
            return
        self._forward(exchange, body)

    def _is_full(self, service: Service) -> bool:
        """Whether live cannot be asked now, as every slot is taken by a request whose caller does not stand still."""
        return self.asked >= service.in_flight and not self.make_slot()

    def _begin(self, call: Call) -> LiveExchange | None:
        """Open an exchange, or reject the request."""
        head, service = call.head, self.service
        at_ns = time.time_ns()
        record = uuid7(at_ns)
        request_id = valid_request_id(head.names.get(service.id_name)) or record
        if call.reader.done and self._is_full(service):
            self._reject_full(call, service, request_id)
            return None
        hops = count_hops(head.fields) if b"via" in head.names else 0
        if hops and self._is_loop(request_id, hops):
            detail = "this request has come back to the proxy that sent it: live's address leads here"
            self._reject(call, service, request_id, 508, "proxy_loop_detected", detail)
            return None
        self.in_flight += 1
        key = (request_id, hops)
        self._under_way[key] = self._under_way.get(key, 0) + 1
        section = head.section
        section.seen += 1
        own: Fields = ()
        # `names` has every field's name; `section` lacks the fields that the caller's Connection field names.
        if service.id_name not in head.names or find(section.fields, service.id_name) is None:
            own = ((service.id_header, request_id.encode()),)
        exchange = LiveExchange(self.mirror, call, service, own, at_ns, record, request_id, hops)
        self.mirror.open(exchange)
        return exchange

    def _is_loop(self, request_id: str, hops: int) -> bool:
        """Whether this request is already under way here and has come back.

        One match may be a client that uses two routes, directly and through another shadowproxy, with one request ID.
        Two matches at different hop counts prove a loop.
        """
        return hops > MAX_HOPS or sum((request_id, earlier) in self._under_way for earlier in range(hops)) > 1

    def _reject_full(self, call: Call, service: Service, request_id: str) -> None:
        detail = f"more than {service.in_flight} requests at once"
        self._reject(call, service, request_id, 503, "http_request_denied", detail, _RETRY_SOON)

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

    def _forward(self, exchange: LiveExchange, body: bytes) -> None:
        """Offer the request to the mirror if it is whole, and forward it. `body` is what has been received of it."""
        call, service = exchange.call, exchange.service
        head = call.head
        self.asked += 1
        self.mirror.memory.hold_objects(ASKED)
        call.asked = True
        try:
            whole = call.complete
            is_websocket = b"upgrade" in head.names and _offers_websocket(head)
            if whole and exchange.request is None and not is_websocket:
                exchange.offer_to(self.mirror)
            exchange.began = perf_counter()
            if isinstance(service.live, FixedAnswer):
                _respond_fixed(service, exchange, service.live)
                self._end(exchange, exchange.build_reply())
                return
            more = [*exchange.own, (b"Via", VIA)]
            if service.forwarded:
                client = (call.client or ("unknown", 0))[0]
                more += forwarded_fields(head.section.fields, client, call.scheme, head.names.get(b"host"))
            if b"te" in head.names and not head.http10 and lists(head.fields, b"te", b"trailers"):
                more.append(_WANTS_TRAILERS)
            if is_websocket:
                more += _OFFER
            rest = body if whole else Upload(exchange, self.mirror, body)
            trailers = exchange.passing_trailers if head.framing is Length.CHUNKED else None
            passage = Passage(exchange, self._end_passage, self.tunnels)
        except Exception:
            self._end(exchange, defect(exchange))
            raise
        try:
            upgrade = WEBSOCKET if is_websocket else b""
            service.live.send(passage, head.method, head.target, more, rest, head.section, trailers, upgrade)
        except Exception as error:  # noqa: BLE001  # not swallowed: the exchange ends with it
            passage.fail_by_defect(error)

    def _end_passage(self, passage: Passage, exchange: LiveExchange, live: LiveLeg) -> None:
        self.retries += passage.retried
        self._end(exchange, live)

    def _end(self, exchange: LiveExchange, live: LiveLeg) -> None:
        """Live's leg is over, and what there was to send to the caller is sent."""
        self._close_exchange(exchange)
        if not isinstance(live, Failure) or live.error != DEFECT.error:
            self._log_live(live, exchange.status, exchange.request_id)
        self._count(exchange, live)
        self.mirror.end_live(exchange, exchange.request or exchange.build_request(), live)

    def _close_exchange(self, exchange: LiveExchange) -> None:
        """Give back all that it takes while it is under way."""
        exchange.hold(0)
        self.in_flight -= 1
        if exchange.tunnel is not None:
            self.tunnels.exchanges.discard(exchange)
        if exchange.call.asked:
            exchange.call.asked = False
            self.asked -= 1
            self.mirror.memory.hold_objects(-ASKED)
        key = (exchange.request_id, exchange.hops)
        others = self._under_way.pop(key) - 1
        if others:
            self._under_way[key] = others

    def _count(self, exchange: LiveExchange, live: LiveLeg) -> None:
        """Count live's leg, and write the request's line of the access log."""
        outcome = live.outcome if isinstance(live, Failure) else Outcome.OK
        self.outcomes[outcome] += 1
        tunnel = exchange.tunnel
        milliseconds = (
            live.total_ms if tunnel is None else exchange.answered_ms
        )  # how long it stayed open is no latency
        (self.times_mirrored if exchange.mirrored else self.times_alone).add(milliseconds / 1000)
        if self._access is not None:
            head, milliseconds = exchange.call.head, (perf_counter() - exchange.received_at) * 1000
            size = exchange.answer_body.size if tunnel is None else tunnel.from_live
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


def _offers_websocket(head: RequestHead) -> bool:
    """Whether this is a WebSocket's handshake (RFC 6455 section 4.1). Any other offer to upgrade is ignored."""
    return (
        head.method == "GET"
        and head.framing == 0
        and not head.http10
        and lists(head.fields, b"upgrade", WEBSOCKET)
        and lists(head.fields, b"connection", b"upgrade")
    )


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
