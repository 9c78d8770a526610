"""One request to an endpoint and its response, over one connection or a second one. The rules are pool.py's.

It is in one of the states below, and `_move` refuses each move that the table does not have:

    NEW ──▶ CONNECTING ◀──▶ WAITING ──▶ RECEIVING      each of these four ──▶ OVER
    NEW ──▶ WAITING, over an idle connection
"""

import asyncio
from abc import abstractmethod
from collections.abc import AsyncIterable, Callable, Coroutine
from enum import IntEnum
from time import perf_counter
from typing import Final

from shadowproxy.exchange import Fields
from shadowproxy.serve.http1 import bodies
from shadowproxy.serve.http1.framing import FramingError, Length, ResponseHead
from shadowproxy.serve.http1.response_head import take_response_head
from shadowproxy.serve.upstreams.connection import HIGH_WATER, Carried, Connection, Owner
from shadowproxy.serve.upstreams.errors import ClosedWhileIdle, ConnectError, ReadError, ReadTimeout
from shadowproxy.serve.upstreams.request import OutgoingRequest
from shadowproxy.serve.upstreams.retry import was_closed_while_idle
from shadowproxy.serve.upstreams.through import NOT_ALLOWED

MAX_INTERIM = 32  # 1xx responses at once before the final one, and one more a second: some send 102 all the while
PARTS = 600  # of chunks, read in one turn: half a millisecond


def is_flood(interim: int, seconds: float) -> bool:
    """Whether these are too many interim responses so long after the request was sent."""
    return interim > MAX_INTERIM + seconds


class RoundTripState(IntEnum):
    NEW = 0
    """Not given to a pool."""
    CONNECTING = 1
    """A task of the pool's opens a connection for it."""
    WAITING = 2
    """Its request is sent, or being sent. No whole head of a response has been received."""
    RECEIVING = 3
    """The head has been received, and not all of the body."""
    OVER = 4
    """The response was received whole, or it failed, or it was abandoned: no callback comes after this."""


# Annotated, so that mypy does not take a state for constant across the calls that change it.
NEW: Final[RoundTripState] = RoundTripState.NEW
CONNECTING: Final[RoundTripState] = RoundTripState.CONNECTING
WAITING: Final[RoundTripState] = RoundTripState.WAITING
RECEIVING: Final[RoundTripState] = RoundTripState.RECEIVING
OVER: Final[RoundTripState] = RoundTripState.OVER

MOVES: Final[dict[RoundTripState, frozenset[RoundTripState]]] = {
    NEW: frozenset({CONNECTING, WAITING, OVER}),
    CONNECTING: frozenset({WAITING, OVER}),
    WAITING: frozenset({RECEIVING, CONNECTING, OVER}),
    RECEIVING: frozenset({OVER}),
    OVER: frozenset(),
}


class Sender(Owner):
    """What a round trip needs of its pool, besides what a connection does."""

    @abstractmethod
    def connect(self, round_trip: "RoundTrip", request: OutgoingRequest) -> None:
        """Send `request` over a new connection."""

    @abstractmethod
    def upload(self, round_trip: "RoundTrip", sending: Coroutine[None, None, None]) -> None:
        """Run `sending`, which sends a body while it comes."""

    @abstractmethod
    def call_in_turn(self, callback: Callable[[], None]) -> None:
        """Call back when more of a flood of tiny chunks may be read."""


class RoundTrip(Carried):
    """One request on its way, and its response as it is received.

    A subclass decides what is done with the response. The loop's callbacks call its `on_head`, its `on_body` for each
    piece of the body, and then `on_end`, or instead, at any moment, `on_failure`: nothing more after either of these,
    nor after `abandon`. If one of them raises an exception, the round trip ends with it: `on_failure` gets it.
    """

    __slots__ = (
        "_connection",
        "_held",
        "_interim",
        "_paused",
        "_pool",
        "_reader",
        "_request",
        "_request_sent",
        "_sent_at",
        "_unread",
        "_watches_silence",
        "first_byte_at",
        "head",
        "retried",
        "state",
        "task",
    )

    def __init__(self) -> None:
        self.state: RoundTripState = NEW
        self.head: ResponseHead | None = None
        self.first_byte_at = 0.0  # by time.perf_counter
        self.retried = False  # because the first connection had been closed while it was idle
        self.task: asyncio.Task[None] | None = None  # that connects, or sends a streamed body; the pool owns it
        self._pool: Sender | None = None
        self._request: OutgoingRequest | None = None
        self._connection: Connection | None = None
        self._reader: bodies.BodyReader | None = None
        self._unread = b""  # of a head that is not whole yet
        self._interim = 0
        self._sent_at = 0.0  # by the loop's time
        self._request_sent = False  # all of it
        self._watches_silence = False
        self._held = False
        self._paused = False

    def __repr__(self) -> str:
        return f"<{type(self).__name__} {self.state.name}>"

    @property
    def over(self) -> bool:
        return self.state is OVER

    def _move(self, to: RoundTripState) -> None:
        if to not in MOVES[self.state]:
            raise RuntimeError(f"{self!r} cannot become {to.name}")
        self.state = to

    # A subclass implements these.

    @abstractmethod
    def on_head(self, head: ResponseHead) -> None:
        """The head of the final response was received."""

    def on_interim(self, head: ResponseHead) -> None:
        """An interim response (1xx) was received, which says that the endpoint is at work."""

    def on_switch(self, head: ResponseHead, connection: Connection, data: bytes) -> None:
        """The response was the 101 that the request had offered to take. Nothing else is called after this.

        `connection` belongs to this object from now on. `data` came behind the head.
        """
        connection.abort()  # who offers to take one implements this

    @abstractmethod
    def on_body(self, data: bytes) -> None:
        """A piece of the response's body was received."""

    @abstractmethod
    def on_end(self) -> None:
        """The response was received whole."""

    @abstractmethod
    def on_failure(self, error: Exception) -> None:
        """`error` is a TransportError, or what the request's own body or a method of this object raised."""

    # Whoever began it calls these.

    def abandon(self) -> None:
        """Stop listening. Nothing happens if it is over."""
        if self.state is not OVER:
            self._leave()

    def fail(self, error: Exception) -> None:
        """End it with `error`, unless it is over."""
        if self.state is not OVER:
            self._leave()
            self.on_failure(error)

    def fail_by_defect(self, error: Exception) -> None:
        """A method of this object has raised `error`, in the middle of the response or at its end."""
        if self.state is not OVER:
            self._leave()
        self.on_failure(error)

    def watch_silence(self, watched: bool) -> None:
        """Whether somebody waits for the endpoint: then its silence counts."""
        self._watches_silence = watched
        connection, request = self._connection, self._request
        if connection is None or request is None or self.state is OVER or connection.has_ended:
            return
        if not watched:
            connection.deadline.clear()
        elif self._request_sent:
            connection.deadline.set(request.silence)

    def hold(self, held: bool) -> None:
        """Stop reading the response for a while, or go on."""
        self._held = held
        self._regulate()

    def yield_turn(self) -> None:
        """Read on in the loop's next turn: from an endpoint that sends so fast, libuv reads 8 MB in one."""
        connection = self._connection
        if connection is not None and self.state is not OVER:
            self.hold(True)
            connection.loop.call_soon(self.hold, False)

    # The pool calls these.

    def assign(self, pool: Sender, request: OutgoingRequest) -> None:
        """`pool` sends `request` for it."""
        self._pool = pool
        self._request = request

    def begin_connecting(self) -> None:
        self._move(CONNECTING)

    def send(self, connection: Connection, request: OutgoingRequest) -> None:
        """The connection is open, and carries nothing."""
        connection.begin(self)
        self._move(WAITING)
        self._connection = connection
        self._sent_at = connection.loop.time()
        body = request.body
        if not isinstance(body, bytes):
            assert self._pool is not None  # it was assigned
            self._pool.upload(self, self._send_streamed(connection, request, body))
            return
        head, end = request.head, b""
        if request.chunked:
            head, end = head + bodies.begin_chunk(body), bodies.end_chunk(body) + request.last_chunk()
        if len(body) <= HIGH_WATER:
            connection.transport.write(head + body + end)  # one packet, one wake-up at the far side
        else:  # no copy of it: a hung shadow would have each body held twice
            connection.transport.write(head)
            connection.transport.write(body)
            if end:
                connection.transport.write(end)
        self._request_sent = True
        if self._watches_silence:
            connection.deadline.set(request.silence)

    async def _send_streamed(
        self, connection: Connection, request: OutgoingRequest, body: AsyncIterable[bytes]
    ) -> None:
        """Send `body` while it comes. An exception that it raises ends the round trip."""
        transport = connection.transport
        transport.write(request.head)
        try:
            async for piece in body:
                if not piece:
                    continue
                transport.write(bodies.write_chunk(piece) if request.chunked else piece)
                if connection.writable is not None:
                    connection.deadline.set(request.silence)
                    await connection.writable
                    connection.deadline.clear()
                if transport.is_closing():
                    return  # the response's side finds out what happened
        except Exception as error:  # noqa: BLE001  # not swallowed: the round trip ends with it
            self.task = None  # it ends by itself
            self.fail(error)
            return
        if request.chunked:
            transport.write(request.last_chunk())
        self._request_sent = True
        if self._watches_silence:
            connection.deadline.set(request.silence)

    # Its connection calls these.

    def receive(self, data: bytes) -> None:
        if self.state is WAITING:
            if not self.first_byte_at:
                self.first_byte_at = perf_counter()
            read = self._read_head(data)
            if read is None:
                return
            head, data = read
            if head.status == 101:
                self._switch(head, data)
                return
            request = self._request
            if head.status == NOT_ALLOWED and request is not None and request.proxied:
                # The proxy's, and not for the caller, whose credentials are not for this proxy (RFC 9110 11.7.1).
                self.fail(ConnectError("the proxy requires credentials, or rejects those that it was sent (407)"))
                return
            self._move(RECEIVING)
            self.head = head
            self.on_head(head)
            if self.state is OVER:
                return
            length = head.framing
            if isinstance(length, int) and len(data) >= length:  # whole, as most are: a reader would find out no more
                self._end(head, data[:length], left_over=len(data) > length)
                return
            self._reader = bodies.body_reader(length)
        reader, received = self._reader, self.head
        assert reader is not None  # it came with the head
        assert received is not None
        piece, rest = reader.feed(data, PARTS)
        if reader.done:
            self._end(received, piece, left_over=bool(rest))
            return
        if piece:
            self.on_body(piece)
        self._regulate()
        if reader.has_backlog and self._pool is not None and self.state is not OVER:
            self._pool.call_in_turn(self._catch_up)

    def time_out(self) -> None:
        request = self._request
        self.fail(ReadTimeout(f"silent for {request.silence if request is not None else 0:g} s"))

    def _catch_up(self) -> None:
        """Read on in what was received before, now that this response has a turn."""
        if self.state is not OVER and self._connection is not None:
            self._connection.read_on()

    @property
    def trailers(self) -> Fields:
        """The fields that came after the response's body, once that is whole."""
        return self._reader.trailers if self._reader is not None else ()

    @property
    def has_backlog(self) -> bool:
        return self._reader is not None and self._reader.has_backlog

    def _read_head(self, data: bytes) -> tuple[ResponseHead, bytes] | None:
        """The final head and what follows it; None while it is not whole. Interim ones before it are reported."""
        checked = len(self._unread)
        data = self._unread + data if checked else data
        assert self._request is not None  # it was sent
        while True:
            taken = take_response_head(data, self._request.method, checked, self._request.upgrade)
            if taken is None:
                self._unread = data
                return None
            head, data = taken
            checked = 0
            if head.status >= 200 or head.status == 101:
                if self._interim:
                    self.first_byte_at = perf_counter()  # of the response; what came before said nothing yet
                self._unread = b""
                return head, data
            self._count_interim()
            self.on_interim(head)
            if self.state is OVER:
                return None

    def _count_interim(self) -> None:
        self._interim += 1
        assert self._connection is not None
        if is_flood(self._interim, self._connection.loop.time() - self._sent_at):
            raise FramingError(502, f"more than {MAX_INTERIM} interim answers at once")

    def connection_ended(self, exc: Exception | None) -> None:
        if self.state is OVER:
            return
        head, reader, connection, request = self.head, self._reader, self._connection, self._request
        assert connection is not None
        assert request is not None
        why = f": {exc}" if exc else ""
        if head is not None and reader is not None:
            if exc is None and reader.at_eof():
                self._end(head, b"", left_over=False)
            else:
                self.fail(ReadError(f"the connection was closed in the answer's midst{why}"))
        elif (
            not connection.used
            or self.first_byte_at
            or not was_closed_while_idle(
                request.method,
                connection.loop.time() - self._sent_at,
                reset=isinstance(exc, ConnectionResetError),
                unacknowledged=connection.has_unacknowledged(),
            )
        ):
            self.fail(ReadError(f"the connection was closed before the answer{why}"))
        elif request.retry and isinstance(request.body, bytes):
            assert self._pool is not None  # it was assigned
            connection.abort()
            self._connection = None
            self._request_sent = False
            self.retried = True
            self._pool.connect(self, request)  # a new connection is not `used`: there is no third time
        else:
            self.fail(ClosedWhileIdle("a reused connection was closed before the answer"))

    def resume(self) -> None:
        if self._paused and self._connection is not None:
            self._paused = False
            self._connection.resume_reading()

    def _end(self, head: ResponseHead, piece: bytes, *, left_over: bool) -> None:
        """The response is whole. Its connection is free before the callbacks: a request that they send may use it."""
        connection, request = self._connection, self._request
        assert connection is not None
        assert request is not None
        self._move(OVER)
        self.resume()
        self._stop_task()
        # Rule 1: uvicorn closes after an application's exception, a moment after its 500 and without announcing it.
        reusable = head.keep_alive and head.status < 500 and not left_over and self._request_sent
        connection.end(reusable=reusable, rest=_ends_a_stream(head), small=request.is_small)
        if piece:
            self.on_body(piece)
        self.on_end()

    def _switch(self, head: ResponseHead, data: bytes) -> None:
        connection = self._connection
        assert connection is not None
        self._move(OVER)
        self._stop_task()
        connection.deadline.clear()
        # Whoever takes the connection may keep this object as long: not the pool with it, which may be closed by then.
        self._pool = self._request = self._connection = None
        self.on_switch(head, connection, data)

    def _leave(self) -> None:
        self._move(OVER)
        if self._connection is not None:
            self._connection.abort()
        self._stop_task()

    def _stop_task(self) -> None:
        if self.task is not None:
            self.task.cancel()

    def _regulate(self) -> None:
        if self.state is OVER or self._connection is None or self._connection.has_ended:
            return
        if not (self._held or self.has_backlog):
            self.resume()
        elif not self._paused:
            self._paused = True
            self._connection.transport.pause_reading()


def _ends_a_stream(head: ResponseHead) -> bool:
    """Whether its connection rests after it, by rule 1."""
    if head.framing is not Length.CHUNKED:
        return False
    return head.names.get(b"content-type", b"")[: len(_STREAM)].lower() == _STREAM


_STREAM: Final = b"text/event-stream"
