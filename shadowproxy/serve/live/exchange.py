"""An exchange as the live path sees it: the caller's call, and live's leg so far."""

from collections.abc import AsyncIterator
from time import perf_counter

from shadowproxy.exchange import Failure, Fields, Outcome, Reply, Request
from shadowproxy.serve.callers.call import Call
from shadowproxy.serve.http1.fields import passing_trailers
from shadowproxy.serve.http1.pieces import Pieces
from shadowproxy.serve.live.service import Service
from shadowproxy.serve.mirror.dispatch import Mirror
from shadowproxy.serve.mirror.lane import UnsettledExchange


class LiveExchange(UnsettledExchange):
    """Copies both bodies within bounds as they pass, and times live's leg.

    The part of the request's body that live still needs is held once: as the copy, and beside it where the copy was
    refused. `hold` counts the latter as a caller's.

    `service` is what it is served by: to its end, or until a tunnel goes on under the next one. `own` are the fields
    that the proxy adds to the caller's. `hops` is how many shadowproxies the request came through. `began` is when it
    was first sent to live, by time.perf_counter. `status` is what the caller was answered, None while that is nothing.
    """

    __slots__ = (
        "_at_ns",
        "_fields",
        "_first_byte_at",
        "_held",
        "_memory",
        "_record",
        "_reply_fields",
        "_reply_status",
        "began",
        "call",
        "hops",
        "own",
        "request_id",
        "service",
        "status",
    )

    def __init__(
        self,
        mirror: Mirror,
        call: Call,
        service: Service,
        own: Fields,
        at_ns: int,
        record: str,
        request_id: str,
        hops: int,
    ) -> None:
        section = call.head.section
        super().__init__(mirror.plan, mirror.memory, section)
        self.call = call
        self.service = service
        self.own = own
        self.hops = hops
        self.request_id = request_id
        self.began = self.received_at
        self.status: int | None = None
        self._memory = mirror.memory
        self._held = 0
        self._fields = section.fields + own
        self._at_ns = at_ns
        self._record = record
        self._reply_status: int | None = None
        self._reply_fields: Fields = ()
        self._first_byte_at = 0.0

    def hold(self, count: int) -> None:
        """Count that many bytes, and no others, as held for live beside the copy."""
        if count != self._held:
            self._memory.hold(count - self._held)
            self._held = count

    def take_whole(self) -> bytes:
        """The body of a request that has been received whole."""
        body = self.call.take_nowait()
        if body and self.request_body.add(body) < len(body):
            self.hold(len(body))
        return body

    async def receive_piece(self) -> bytes:
        """The next piece of the request's body, which is passed on at once; empty at its end."""
        piece = await self.call.read()
        self.hold(len(piece) - self.request_body.add(piece))
        return piece

    async def receive_up_to(self, count: int) -> bytes:
        """The body, until it is whole or longer than `count` bytes."""
        beside = Pieces()
        self._hold_back(self.call.take_nowait(), beside)
        while not self.call.complete and self.request_body.size <= count:
            self._hold_back(await self.call.read(), beside)
        if not beside.size:
            return self.request_body.body
        body = self.request_body.body + beside.joined()
        self.hold(len(body))
        return body

    def _hold_back(self, piece: bytes, beside: Pieces) -> None:
        """Keep a piece in the copy, or in `beside` what the copy refuses."""
        kept = self.request_body.add(piece)
        if kept < len(piece):
            beside.add(piece[kept:])
            self.hold(beside.size)

    def passing_trailers(self) -> Fields:
        """The trailers of the request that pass on to live, once its body is whole. The request ID has its field."""
        head, id_name = self.call.head, self.service.id_name
        passing = passing_trailers(self.call.trailers, head.names, head.fields)
        return tuple([field for field in passing if field[0].lower() != id_name])

    def offer_to(self, mirror: Mirror) -> None:
        """Offer the request, which has been received whole. One that another proxy mirrored is not mirrored again."""
        if b"x-shadow-request" not in self.call.head.names:
            unfit = None
            if self.request_body.over:
                unfit = Outcome.OVERSIZE
            elif self.request_body.crowded:
                unfit = Outcome.OVERLOAD
            mirror.offer(self, self.build_request(), unfit)

    def build_request(self) -> Request:
        head, body = self.call.head, self.request_body
        return Request(
            self.request_id, self._record, self._at_ns, head.method, head.target, self._fields, body.body, body.size
        )

    def begin_answer(self, status: int, fields: Fields, first_byte_at: float) -> None:
        """Note the head of live's answer."""
        self.status = self._reply_status = status
        self._reply_fields = fields
        self._first_byte_at = first_byte_at

    @property
    def answered_ms(self) -> float:
        """From the leg's beginning to the first byte of live's answer."""
        return (self._first_byte_at - self.began) * 1000

    def build_reply(self) -> Reply:
        assert self._reply_status is not None
        return Reply(
            self._reply_status,
            self._reply_fields,
            self.answer_body.body,
            self.answer_body.size,
            (self._first_byte_at - self.began) * 1000,
            (perf_counter() - self.began) * 1000,
            (self.began - self.received_at) * 1000,
        )

    def build_failure(self, outcome: Outcome, error: str) -> Failure:
        reply = None if self._reply_status is None else self.build_reply()
        total_ms, began_ms = (perf_counter() - self.began) * 1000, (self.began - self.received_at) * 1000
        return Failure(outcome, error, total_ms, reply, began_ms)


class Upload(AsyncIterator[bytes]):
    """The body of a request that is forwarded before it has been received whole. At its end the request is offered.

    No generator: one that is left halfway would be closed by a task that nobody owns.
    """

    def __init__(self, exchange: LiveExchange, mirror: Mirror, received: bytes) -> None:
        self._exchange = exchange
        self._mirror = mirror
        self._received = received
        self._begun = False

    async def __anext__(self) -> bytes:
        if not self._begun:
            self._begun = True
            received, self._received = self._received, b""
            return received
        if not self._exchange.call.complete:
            return await self._exchange.receive_piece()
        self._exchange.offer_to(self._mirror)
        raise StopAsyncIteration
