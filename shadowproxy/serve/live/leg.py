"""Live's leg of one exchange: it passes the response to the caller as it comes, copies it, and awaits nothing.

Its rules:

1. What live sends is written in the turn that received it. The end of a response goes out in one write with the last of
   its body, and its head with the first of it.
2. While the caller takes nothing, live is not read, and its silence does not count.
3. It ends once: with the whole response, with a failure of live's or of the request, or because the caller left.
4. A caller that leaves after the answer's own end (`end_marks`) has got the answer: the leg is a reply that says so.
"""

from collections.abc import Callable
from typing import Final

from shadowproxy.exchange import Failure, LiveLeg, Outcome, Tunnel, TunnelEnd
from shadowproxy.serve.callers.call import CALLER_LEFT, STOOD_STILL, BrokenOff
from shadowproxy.serve.callers.error_body import error_response
from shadowproxy.serve.http1.fields import passing_trailers
from shadowproxy.serve.http1.framing import FramingError, ResponseHead
from shadowproxy.serve.live.exchange import LiveExchange
from shadowproxy.serve.live.tunnel import Tunnels, TunnelToLive
from shadowproxy.serve.upstreams.connection import HIGH_WATER, Connection
from shadowproxy.serve.upstreams.endpoint import as_upstream_error
from shadowproxy.serve.upstreams.roundtrip import RoundTrip

_BROKEN_TUNNEL: Final = {
    TunnelEnd.CALLER: Outcome.CALLER_LEFT,
    TunnelEnd.LIVE: Outcome.INCOMPLETE,
    TunnelEnd.IDLE: Outcome.TIMEOUT,
    TunnelEnd.SHUTDOWN: Outcome.SHUTDOWN,
}
"""Live's outcome where a tunnel was broken off, by who did it."""

DEFECT: Final = Failure(Outcome.PROTOCOL_ERROR, "a defect in the proxy; its log says more", 0.0)


_STATUSES: Final = {Outcome.TIMEOUT: 504, Outcome.OVERLOAD: 503}
"""What a caller gets where live sent nothing; for all other outcomes 502."""


class Passage(RoundTrip):
    """One request on its way to live, and the response on its way to the caller.

    It calls `ended` once, with live's leg, after what the caller is sent; and before that `call.end_with` if the
    response cannot be completed. A tunnel that begins is one of `tunnels`.
    """

    __slots__ = ("_ended", "_exchange", "_settled", "_tunnels", "_waits")

    def __init__(
        self,
        exchange: LiveExchange,
        ended: Callable[["Passage", LiveExchange, LiveLeg], None],
        tunnels: Tunnels,
    ) -> None:
        super().__init__()
        self._tunnels = tunnels
        self._exchange = exchange
        self._ended = ended
        self._settled = False
        self._waits = False  # for the caller to take what was written
        exchange.call.on_cancel = self.cancel
        self.watch_silence(True)

    # The connection calls these.

    def receive(self, data: bytes) -> None:
        try:
            super().receive(data)
        finally:
            head = self.head
            if head is not None and not self._settled and not self._exchange.call.started:
                self._write(head, b"", last=False)  # nothing of the body came with it, or nothing that can be read

    def on_head(self, head: ResponseHead) -> None:
        self._exchange.begin_answer(head.status, head.section.fields, self.first_byte_at)
        self.watch_silence(True)

    def on_interim(self, head: ResponseHead) -> None:
        """Pass it on. Not a 100: the proxy itself sends that one, before it dials live."""
        self.watch_silence(True)
        if head.status != 100:
            self._exchange.call.send_interim(head.status, head.section.fields)

    def on_switch(self, head: ResponseHead, connection: Connection, data: bytes) -> None:
        exchange = self._exchange
        call, service = exchange.call, exchange.service
        exchange.begin_answer(head.status, head.section.fields, self.first_byte_at)
        fields = [*head.section.fields, (b"Upgrade", head.names[b"upgrade"])]
        tunnel = TunnelToLive(connection, call, service.tunnel_timeout, exchange.hold, self._end_tunnel)
        try:
            call.switch(service.add_request_id(fields, exchange.request_id, head.names), tunnel)
        except BrokenOff:
            connection.abort()
            self._settle(cancelled(exchange, CALLER_LEFT), None)
            return
        call.on_cancel = tunnel.cancel
        self._tunnels.exchanges.add(exchange)
        tunnel.begin(data, self._tunnels)
        call.open_tunnel()

    def _end_tunnel(self, tunnel: Tunnel, error: str | None) -> None:
        self._exchange.tunnel = tunnel
        live = None if error is None else self._exchange.build_failure(_BROKEN_TUNNEL[tunnel.ended_by], error)
        self._settle(live, None)

    def on_body(self, data: bytes) -> None:
        head = self.head
        assert head is not None  # it came before
        self._exchange.copy_answer(data, head)
        if self.over:
            self._exchange.learn_before_end()
        self._write(head, data, last=self.over)
        if self.over:
            return
        if self._exchange.call.writable:
            self.watch_silence(True)
            if len(data) > HIGH_WATER:
                self.yield_turn()
            return
        self.hold(True)  # each time: a turn that was yielded before may have ended it
        if not self._waits:
            self._waits = True
            self.watch_silence(False)
            self._exchange.call.when_writable(self._go_on)

    def on_end(self) -> None:
        head = self.head
        assert head is not None  # it came before
        if not self._settled and not self._exchange.call.answered:
            self._exchange.learn_before_end()
            self._write(head, b"", last=True)
        self._settle(None, None)

    def on_failure(self, error: Exception) -> None:
        if self._settled:
            raise error  # raised by `ended`: the event loop reports it
        exchange = self._exchange
        call = exchange.call
        failure = as_upstream_error(error)
        if failure is None:
            self._end_with(error)
            return
        live = exchange.build_failure(failure.outcome, str(failure))
        if call.started:
            self._settle(live, BrokenOff())
            return
        exchange.status = _STATUSES.get(failure.outcome, 502)
        error_fields, body = error_response(failure.proxy_error, str(failure), exchange.request_id)
        if exchange.status == 503:
            error_fields.append((b"Retry-After", b"1"))
        fields = exchange.service.add_request_id(error_fields, exchange.request_id)
        try:
            call.start(exchange.status, fields, body=body, last=True)
        except (FramingError, BrokenOff) as gone:
            self._settle(live, gone)
        else:
            self._settle(live, None)

    # The caller's side.

    def cancel(self, why: str) -> None:
        """Stop listening: the caller left, or the proxy stops."""
        self.abandon()
        self._settle(cancelled(self._exchange, why), None)

    def _go_on(self) -> None:
        self._waits = False
        if not self.over:
            self.watch_silence(True)
            self.hold(False)

    def _write(self, head: ResponseHead, body: bytes, *, last: bool) -> None:
        exchange = self._exchange
        call = exchange.call
        trailers = self.trailers if last else ()
        if trailers:
            trailers = passing_trailers(trailers, head.names, head.fields)
        try:
            if call.started:
                call.write(body, last=last, trailers=trailers)
            else:
                fields = exchange.service.add_request_id(head.section.fields, exchange.request_id, head.names)
                call.start(head.status, fields, head.names, body, last=last, trailers=trailers)
        except (FramingError, BrokenOff) as error:  # not for the connection to live: that would take it for live's
            self.abandon()
            self._end_with(error)

    def _end_with(self, error: Exception) -> None:
        """The request itself broke off, or its response cannot be written, or there is a defect."""
        exchange = self._exchange
        if isinstance(error, FramingError):
            live = exchange.build_failure(Outcome.CALLER_LEFT, f"the request broke off: {error}")
        else:
            live = defect(exchange)
        self._settle(live, error)

    def _settle(self, live: LiveLeg | None, error: Exception | None) -> None:
        if self._settled:
            return
        self._settled = True
        exchange = self._exchange
        exchange.call.on_cancel = None  # or each would keep the other in memory, until the garbage is collected
        if live is None:
            live = exchange.build_reply()
        if error is not None:
            exchange.call.end_with(error)
        self._ended(self, exchange, live)


def cancelled(exchange: LiveExchange, why: str) -> LiveLeg:
    """Live's leg, of an exchange that was cancelled for this reason."""
    if why == CALLER_LEFT and exchange.has_ended():
        return exchange.build_reply(caller_left=True)
    if why == STOOD_STILL:
        return exchange.build_failure(Outcome.CALLER_LEFT, why)
    if why == CALLER_LEFT:
        return exchange.build_failure(Outcome.CALLER_LEFT, "the caller left before the answer was complete")
    return exchange.build_failure(Outcome.SHUTDOWN, "the proxy stopped before the answer was complete")


def defect(exchange: LiveExchange) -> Failure:
    """The same, after an error that nobody foresaw. The listener answers it, and logs the defect."""
    exchange.status = exchange.status or 500
    return exchange.build_failure(DEFECT.outcome, DEFECT.error)
