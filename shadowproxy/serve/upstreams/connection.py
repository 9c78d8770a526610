"""One connection: what asyncio reports of it goes to the round trip that it carries. The rules are pool.py's.

It is in one of the states below, and `_move` refuses each move that the table does not have:

    CONNECTING ──▶ IDLE ◀──▶ ACTIVE
                     │         │
                     └▶ CLOSING ◀┘      each of these four ──▶ DRAINING ──▶ CLOSED
    CONNECTING ──▶ CLOSED, when it is given up before it was open
"""

import asyncio
import socket
from abc import ABCMeta, abstractmethod
from enum import IntEnum
from typing import Final, cast

from shadowproxy.serve.http1.deadline import Deadline
from shadowproxy.serve.http1.framing import FramingError
from shadowproxy.serve.system import kernel
from shadowproxy.serve.upstreams.errors import ProtocolError

HIGH_WATER = 64 * 1024


class ConnectionState(IntEnum):
    CONNECTING = 0
    """It has no transport yet. With TLS it has one when the handshake is over."""
    IDLE = 1
    """Open, with nothing to carry: new, or in the pool."""
    ACTIVE = 2
    """It carries a round trip."""
    CLOSING = 3
    """This side has closed it, and the event loop has not reported its end."""
    DRAINING = 4
    """The transport is gone. What it had received is read to its end."""
    CLOSED = 5
    """Nothing more comes or goes."""


# Annotated, so that mypy does not take a state for constant across the calls that change it.
CONNECTING: Final[ConnectionState] = ConnectionState.CONNECTING
IDLE: Final[ConnectionState] = ConnectionState.IDLE
ACTIVE: Final[ConnectionState] = ConnectionState.ACTIVE
CLOSING: Final[ConnectionState] = ConnectionState.CLOSING
DRAINING: Final[ConnectionState] = ConnectionState.DRAINING
CLOSED: Final[ConnectionState] = ConnectionState.CLOSED

MOVES: Final[dict[ConnectionState, frozenset[ConnectionState]]] = {
    CONNECTING: frozenset({IDLE, DRAINING, CLOSED}),
    IDLE: frozenset({ACTIVE, CLOSING, DRAINING}),
    ACTIVE: frozenset({IDLE, CLOSING, DRAINING}),
    CLOSING: frozenset({DRAINING}),
    DRAINING: frozenset({CLOSED}),
    CLOSED: frozenset(),
}


class Carried(metaclass=ABCMeta):
    """What a connection needs of the round trip that it carries (roundtrip.py)."""

    __slots__ = ()

    @property
    @abstractmethod
    def over(self) -> bool:
        """Whether nobody listens to it any more."""

    @property
    @abstractmethod
    def has_backlog(self) -> bool:
        """Whether more has been received than one turn may read."""

    @abstractmethod
    def receive(self, data: bytes) -> None:
        """Read what the connection received. Raises FramingError, and what its own callbacks raise."""

    @abstractmethod
    def connection_ended(self, exc: Exception | None) -> None:
        """Nothing more comes, and all that was received has been read."""

    @abstractmethod
    def time_out(self) -> None:
        """The endpoint has been silent for as long as it may."""

    @abstractmethod
    def resume(self) -> None:
        """Have the connection read again if this side had paused it."""

    @abstractmethod
    def fail(self, error: Exception) -> None:
        """End it with `error`, unless it is over."""

    @abstractmethod
    def fail_by_defect(self, error: Exception) -> None:
        """One of its own callbacks has raised `error`."""


class Owner(metaclass=ABCMeta):
    """What a connection needs of its pool (pool.py), or of whoever it was handed over to."""

    @abstractmethod
    def add(self, connection: "Connection") -> None:
        """It is open."""

    @abstractmethod
    def remove(self, connection: "Connection") -> None:
        """It is closed, or about to be. May be called more than once."""

    @abstractmethod
    def keep(self, connection: "Connection", *, rest: bool) -> bool:
        """Take back a connection whose round trip is complete, if there is still use for it.

        With `rest` it is not used again at once.
        """


class Connection:
    """One connection of a pool: an asyncio.Protocol in all but its base class.

    Without that base class it has slots, which cost less to read, and less again where the module is compiled.
    """

    __slots__ = (
        "_carried",
        "_ended_by",
        "_owner",
        "_sock",
        "_unacknowledged",
        "_watcher",
        "close_after",
        "deadline",
        "loop",
        "state",
        "transport",
        "used",
        "writable",
    )

    def __init__(self, owner: Owner, loop: asyncio.AbstractEventLoop, sock: socket.socket) -> None:
        self.loop = loop
        self.state: ConnectionState = CONNECTING
        self.deadline = Deadline(loop, self._expired)
        self.transport: asyncio.Transport = None  # type: ignore[assignment]  # set by connection_made
        self.writable: asyncio.Future[None] | None = None
        self.close_after = 0.0  # by the loop's time: it carries no further request, if its pool has a `max_age`
        self.used = False  # whether it has carried a complete round trip before
        self._owner = owner
        self._sock = sock  # the transport's, to ask the kernel about it while that is open
        self._unacknowledged = False  # when TLS had read to the end, after which its transport closes the socket
        self._watcher = kernel.watcher(sock)
        self._carried: Carried | None = None
        self._ended_by: Exception | None = None

    def __repr__(self) -> str:
        return f"<Connection {self.state.name}{' used' if self.used else ''}>"

    @property
    def is_open(self) -> bool:
        """Whether it is open and carries nothing, as far as the loop has reported."""
        return self.state is IDLE and not self.transport.is_closing()

    @property
    def is_ending(self) -> bool:
        """Whether it carries nothing more, and is closed in the loop's next turns if it is not yet."""
        return self.state is CLOSING or self.has_ended

    @property
    def has_ended(self) -> bool:
        """Whether its transport is gone."""
        state = self.state
        return state is DRAINING or state is CLOSED

    def _move(self, to: ConnectionState) -> None:
        if to not in MOVES[self.state]:
            raise RuntimeError(f"{self!r} cannot become {to.name}")
        self.state = to

    # Its pool and the round trip call these.

    def is_usable(self) -> bool:
        """Whether an idle connection may carry the next request."""
        if not self.is_open:
            return False
        if kernel.is_silent(self._watcher):
            return True
        self.abort()  # rule 2; the loop has not had its turn to report it
        return False

    def has_unacknowledged(self) -> bool:
        """Whether the other side's kernel has not acknowledged all that was sent."""
        return self._unacknowledged or kernel.unacknowledged(self._sock) > 0

    def begin(self, carried: Carried) -> None:
        """Carry a round trip."""
        self._move(ACTIVE)
        self._carried = carried

    def hand_over(self, carried: Carried, owner: Owner) -> None:
        """Carry `carried` from now on, instead of the round trip that is over, and belong to `owner`, not to the pool.

        It is never used for another.
        """
        self._owner.remove(self)
        self._owner = owner
        owner.add(self)
        self._carried = carried

    def end(self, *, reusable: bool, rest: bool, small: bool) -> None:
        """The round trip is complete: a response was received whole. `small` is its request, `rest` as for `keep`."""
        self._carried = None
        self.used = True
        self.deadline.clear()
        if self.state is not ACTIVE:
            return
        if self.transport.get_write_buffer_size() or not (small or kernel.unacknowledged(self._sock) == 0):
            # An upload that the response made pointless: to close politely would be to send it, and the next request
            # would wait behind it.
            self.abort()
        elif reusable and self._owner.keep(self, rest=rest):
            self._move(IDLE)
        else:
            self.close()

    def close(self) -> None:
        """Close it politely, once it carries nothing."""
        self.deadline.close()
        if self.state is IDLE or self.state is ACTIVE:
            self._move(CLOSING)
        self.transport.close()

    def end_sending(self) -> None:
        """Send what is left, then end this side alone. What still comes is read and dropped, once nobody listens.

        Closed with bytes unread, it would be reset, and a reset can overtake what was sent last. TLS of the event loop
        cannot end one side: it closes, and reads on by itself.
        """
        if self.state is ACTIVE:
            self._move(CLOSING)
        transport = self.transport
        if not transport.can_write_eof():
            transport.close()
        elif not transport.is_closing():
            try:
                transport.write_eof()
            except OSError:  # asyncio's own transport raises it if the other side has reset the connection in this turn
                self.abort()

    def abort(self) -> None:
        """Close it at once, whatever it carries."""
        self.deadline.close()
        self._owner.remove(self)  # uvloop may never report the end of one that was not open yet
        if self.state is CONNECTING:
            self._move(CLOSED)
        elif not self.has_ended:
            if self.state is not CLOSING:
                self._move(CLOSING)
            self.transport.abort()

    def resume_reading(self) -> None:
        if not self.has_ended and not self.transport.is_closing():
            self.transport.resume_reading()

    def read_on(self) -> None:
        """Read what was left for another turn."""
        self.data_received(b"")
        if self.has_ended:
            self._end_of_response(self._ended_by)

    # asyncio calls these, and secure.py `read_to_the_end`.

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = cast(asyncio.Transport, transport)
        self.transport.set_write_buffer_limits(high=HIGH_WATER)
        if self.state is CONNECTING:
            self._move(IDLE)
            self._owner.add(self)
        else:  # it was given up before it was open
            self.transport.abort()

    def data_received(self, data: bytes) -> None:
        carried = self._carried
        if carried is None:
            self.abort()  # rule 2: nobody has requested this
            return
        if carried.over:
            return  # it was abandoned, and this had been received before
        try:
            carried.receive(data)
        except FramingError as wrong:
            carried.fail(ProtocolError(str(wrong)))
        except Exception as error:  # noqa: BLE001  # not swallowed: the round trip ends with it
            carried.fail_by_defect(error)

    def eof_received(self) -> bool:
        self._end_of_response(None)
        return False  # a response that ends with its connection has ended: so does this side

    def read_to_the_end(self) -> None:
        """From here on nothing waits to be read but the backlog: there is no more than the kernel had."""
        if self._carried is not None:
            self._carried.resume()
        self._unacknowledged = self.has_unacknowledged()
        if not self.has_ended:
            self._move(DRAINING)

    def connection_lost(self, exc: Exception | None) -> None:
        self.deadline.close()
        self._owner.remove(self)
        self.resume_writing()
        if not self.has_ended:  # else TLS has read to the end
            self._move(DRAINING)
            carried = self._carried
            if carried is not None and not carried.over and (rest := kernel.received(self._sock)):
                self.data_received(rest)
        self._end_of_response(exc)

    def pause_writing(self) -> None:
        self.writable = self.loop.create_future()

    def resume_writing(self) -> None:
        if self.writable is not None and not self.writable.done():
            self.writable.set_result(None)
        self.writable = None

    def _end_of_response(self, exc: Exception | None) -> None:
        """Nothing more comes, but for what is not read yet."""
        self._ended_by = exc
        carried = self._carried
        if carried is not None and carried.has_backlog:
            return
        if self.state is DRAINING:
            self._move(CLOSED)
        if carried is None:
            return
        self._carried = None
        try:
            carried.connection_ended(exc)
        except Exception as error:  # noqa: BLE001  # not swallowed: the round trip ends with it
            carried.fail_by_defect(error)

    def _expired(self) -> None:
        if self._carried is not None:
            self._carried.time_out()
