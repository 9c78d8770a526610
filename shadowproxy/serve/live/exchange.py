"""An exchange as the live path sees it: the caller's call, and live's leg so far."""

from collections.abc import AsyncIterator
from time import perf_counter

from shadowproxy.exchange import Failure, Fields, Outcome, Reply, Request
from shadowproxy.serve.callers.call import Call
from shadowproxy.serve.http1.fields import passing_trailers
from shadowproxy.serve.http1.framing import ResponseHead
from shadowproxy.serve.http1.pieces import Pieces
from shadowproxy.serve.live.end_marks import has_ended
from shadowproxy.serve.live.service import Service
from shadowproxy.serve.mirror.capture import ALL
from shadowproxy.serve.mirror.dispatch import Mirror
from shadowproxy.serve.mirror.lane import UnsettledExchange
from shadowproxy.serve.policy.headers import find


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
        "_long",
        "_long_answer",
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
        self._long = self._long_answer = ALL if mirror.plan.needs.searched else mirror.plan.needs.beginning
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
        if body and self._copy(body) < len(body):
            self.hold(len(body))
        return body

    async def receive_piece(self) -> bytes:
        """The next piece of the request's body, which is passed on at once; empty at its end."""
        piece = await self.call.read()
        self.hold(len(piece) - self._copy(piece))
        self.request_body.keep_enough()  # live has been passed all that came before
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
        kept = self._copy(piece)
        if kept < len(piece):
            beside.add(piece[kept:])
            self.hold(beside.size)

    def _copy(self, piece: bytes) -> int:
        """Copy the next piece of the request's body; returns how many of its bytes are kept."""
        body = self.request_body
        if body.size + len(piece) > self._long:
            self._long = ALL
            self._settle_copy_of_request()
        return body.add(piece)

    def _settle_copy_of_request(self) -> None:
        """The body is longer than what the log has of one: keep the rest for the shadows alone."""
        head, body, needs = self.call.head, self.request_body, self.plan.needs
        if needs.needs_all(self._fields):
            return
        body.enough = needs.beginning
        is_over = isinstance(head.framing, int) and body.is_over(head.framing)
        if needs.hashed and not is_over:
            body.begin_hash()
        if is_over or not self.plan.lanes or self._is_mirrored_already:
            body.keep(needs.beginning)

    @property
    def _is_mirrored_already(self) -> bool:
        return b"x-shadow-request" in self.call.head.names

    def copy_answer(self, data: bytes, head: ResponseHead) -> None:
        """Copy the next piece of live's answer."""
        body = self.answer_body
        if body.size + len(data) > self._long_answer:
            self._long_answer = ALL
            self._settle_copy_of_answer(head)
        body.add(data)
        body.note_time()
        body.keep_enough()
        if self.watches is not None:
            for watch in self.watches.values():
                watch.live_piece(data)

    def learn_before_end(self) -> None:
        """Before the last bytes pass on: other live processes are told of the IDs in them, as the caller may come back
        to one of these. In one process alone nothing comes between."""
        if self.watches is None:
            return
        live: Reply | None = None
        for watch in self.watches.values():
            if watch.is_shared:
                if live is None:
                    live = self.build_reply()
                watch.live_end(self.request or self.build_request(), live)

    def _settle_copy_of_answer(self, head: ResponseHead) -> None:
        """The answer is longer than what the log has of one: keep the rest only if somebody may need it."""
        body, needs = self.answer_body, self.plan.needs
        if needs.needs_all(self._reply_fields):
            return
        body.enough = needs.beginning
        if isinstance(head.framing, int) and body.is_over(head.framing):
            body.keep(needs.beginning)
        elif self._is_compared_by_nobody and not needs.may_hide_in_answers(self._fields, self.call.head.target):
            if needs.hashed:
                body.begin_hash()
            body.keep(needs.beginning)

    @property
    def _is_compared_by_nobody(self) -> bool:
        """Whether no shadow has an answer, or will have one."""
        if not self.plan.lanes or not self.plan.needs.compared or self._is_mirrored_already:
            return True
        if self.request is None or self.awaited:
            return False
        return not any(isinstance(leg, Reply) for leg in (*self.shadows.values(), self.control))

    def passing_trailers(self) -> Fields:
        """The trailers of the request that pass on to live, once its body is whole. The request ID has its field."""
        head, id_name = self.call.head, self.service.id_name
        passing = passing_trailers(self.call.trailers, head.names, head.fields)
        return tuple([field for field in passing if field[0].lower() != id_name])

    def offer_to(self, mirror: Mirror) -> None:
        """Offer the request, which has been received whole. One that another proxy mirrored is not mirrored again."""
        if not self._is_mirrored_already:
            unfit = None
            if self.request_body.over:
                unfit = Outcome.OVERSIZE
            elif self.request_body.crowded:
                unfit = Outcome.OVERLOAD
            mirror.offer(self, self.build_request(), unfit)

    def offer_passed(self, mirror: Mirror) -> None:
        """Offer a request whose body was passed to live as it came."""
        self.offer_to(mirror)
        if not self.awaited:  # no shadow needs it
            self.request_body.keep(self.request_body.enough)

    def build_request(self) -> Request:
        """The request, with no more of its body than the log needs, unless the choice of shadows depends on it."""
        head, body = self.call.head, self.request_body
        needs, digest = self.plan.needs, body.sha256
        is_enough = body.kept > body.enough and not self.plan.reads_bodies and not (needs.hashed and digest is None)
        return Request(
            self.request_id,
            self._record,
            self._at_ns,
            head.method,
            head.target,
            self._fields,
            body.beginning(body.enough) if is_enough else body.body,
            body.size,
            digest,
        )

    def begin_answer(self, status: int, fields: Fields, first_byte_at: float) -> None:
        """Note the head of live's answer."""
        self.status = self._reply_status = status
        self._reply_fields = fields
        self._first_byte_at = first_byte_at
        if self.plan.keeps_state and not self._is_mirrored_already:
            request = self.request or self.build_request()
            for watch in self.watch(request).values():
                watch.live_head(request, status, fields)

    @property
    def answered_ms(self) -> float:
        """From the leg's beginning to the first byte of live's answer."""
        return (self._first_byte_at - self.began) * 1000

    def has_ended(self) -> bool:
        """Whether live's answer has reached its own end, though its response has not."""
        answer, fields = self.answer_body, self._reply_fields
        if self._reply_status is None or not answer.whole or find(fields, b"content-encoding") is not None:
            return False
        return has_ended(find(fields, b"content-type") or b"", answer.body)

    def build_reply(self, *, caller_left: bool = False) -> Reply:
        assert self._reply_status is not None
        return Reply(
            self._reply_status,
            self._reply_fields,
            self.answer_body.body,
            self.answer_body.size,
            (self._first_byte_at - self.began) * 1000,
            (perf_counter() - self.began) * 1000,
            (self.began - self.received_at) * 1000,
            self.answer_body.sha256,
            caller_left,
            self.answer_body.arrivals(self.began),
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
        self._exchange.offer_passed(self._mirror)
        raise StopAsyncIteration
