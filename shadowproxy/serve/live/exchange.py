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

    `service` is what it is served by to its end. `own` are the fields that the proxy adds to the caller's. `hops` is
    how many shadowproxies the request came through. `began` is when it was first sent to live, by time.perf_counter.
    `status` is what the caller was answered, None while that is nothing.
    """

    __slots__ = (
        "_at_ns",
        "_fields",
        "_first_byte_at",
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
        self._fields = section.fields + own
        self._at_ns = at_ns
        self._record = record
        self._reply_status: int | None = None
        self._reply_fields: Fields = ()
        self._first_byte_at = 0.0

    def take_received(self) -> bytes:
        """The part of the request's body that has been received."""
        piece = self.call.take_nowait()
        if piece:
            self.request_body.add(piece)
        return piece

    async def receive_piece(self) -> bytes:
        """The next piece of the request's body; empty at its end."""
        piece = await self.call.read()
        if piece:
            self.request_body.add(piece)
        return piece

    async def receive_up_to(self, count: int, body: bytes) -> bytes:
        """`body` with the pieces that follow it, until the body is whole or longer than `count` bytes."""
        pieces = Pieces()
        pieces.add(body)
        while not self.call.complete and self.request_body.size <= count:
            pieces.add(await self.receive_piece())
        return pieces.joined()

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
            return self._received
        if not self._exchange.call.complete:
            return await self._exchange.receive_piece()
        self._exchange.offer_to(self._mirror)
        raise StopAsyncIteration
