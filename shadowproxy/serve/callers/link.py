"""One caller's connection as its calls see it: its state, its deadline, and when it is read and written.

The states and the moves between them, per request from the left to the right:

    IDLE -> HEAD -> REQUEST -> RESPONSE -> REST -> IDLE      and from each of these, at any time
                                                            LINGERING -> CLOSING -> CLOSED
                    REQUEST -> TUNNEL                       LINGERING -> CLOSING -> CLOSED

A state is left out where its part of the request comes with what was before: most heads come whole, and most bodies
before the response is complete. MOVES is the whole table, and `Link.move` the only place that changes a state.
"""

import asyncio
import logging
from collections.abc import Callable
from dataclasses import dataclass
from enum import StrEnum
from functools import partial
from typing import Any, Final

from shadowproxy.addresses import plain_host
from shadowproxy.serve.account import Memory
from shadowproxy.serve.http1.deadline import Deadline
from shadowproxy.serve.system import kernel
from shadowproxy.serve.telemetry.operator_log import Repeats

HIGH_WATER = 64 * 1024

LEAST_RATE: Final = 500.0
"""Bytes a second. A caller who sends or takes less falls behind, by the time that the missing bytes would have taken:
one byte a second is nearly as good as none. It is what Apache's mod_reqtimeout asks for by default (MinRate). Nobody is
ended for it here while there is room for all."""

_log = logging.getLogger(__name__)


class State(StrEnum):
    IDLE = "idle"  # no byte of a request has come since the last one
    HEAD = "head"  # a part of a request's head has come
    REQUEST = "request"  # its head has come, and nothing of its response is sent
    RESPONSE = "response"  # its response has begun
    TUNNEL = "tunnel"  # its response was a 101: nothing is HTTP any more
    REST = "rest"  # its response is complete; the rest of its body is read and dropped
    LINGERING = "lingering"  # closed for writing; what still comes is read and dropped
    CLOSING = "closing"  # nothing more is read; what is written is still sent
    CLOSED = "closed"


MOVES: Final[dict[State, frozenset[State]]] = {
    State.IDLE: frozenset({State.HEAD, State.REQUEST, State.LINGERING, State.CLOSING, State.CLOSED}),
    # Back to idle: a CR had come, which its LF makes an empty line.
    State.HEAD: frozenset({State.IDLE, State.REQUEST, State.LINGERING, State.CLOSED}),
    State.REQUEST: frozenset({State.RESPONSE, State.TUNNEL, State.LINGERING, State.CLOSING, State.CLOSED}),
    State.RESPONSE: frozenset({State.REST, State.IDLE, State.LINGERING, State.CLOSING, State.CLOSED}),
    State.TUNNEL: frozenset({State.LINGERING, State.CLOSED}),
    State.REST: frozenset({State.IDLE, State.LINGERING, State.CLOSED}),
    State.LINGERING: frozenset({State.CLOSING, State.CLOSED}),
    State.CLOSING: frozenset({State.CLOSED}),
    State.CLOSED: frozenset(),
}


@dataclass(frozen=True, slots=True)
class Limits:
    """Bytes and seconds. `body_timeout` is how far a caller may fall behind LEAST_RATE in the first `buffer` bytes of a
    body, and then for each silence.

    `idle_timeout` is how long a connection may wait for its first or next request.
    """

    headers: int
    buffer: int
    head_timeout: float
    body_timeout: float
    idle_timeout: float


class Link:
    """State, deadline and flow control of one connection.

    `expire` is called when a deadline passes, `complete` when a call has written its response to the end, `switch` when
    it has written a 101, `fail` with a call that cannot. `client` is the caller's address and port; None where it has
    none, as on a Unix socket.

    `memory` counts the bytes that are `held` for the connection: those that are unread or unsent, and the objects of a
    request that is not whole. `moved_at` is when the caller last sent a part of a request or took a part of a response,
    as far as that was looked at, by the loop's time; each byte moves it by no more than LEAST_RATE allows.
    """

    __slots__ = (
        "catching_up",
        "client",
        "complete",
        "deadline",
        "fail",
        "full",
        "held",
        "limits",
        "loop",
        "memory",
        "moved_at",
        "repeats",
        "secure",
        "state",
        "stopping",
        "switch",
        "transport",
        "unsent",
        "writable",
    )

    def __init__(
        self,
        transport: asyncio.Transport,
        limits: Limits,
        repeats: Repeats,
        memory: Memory,
        *,
        expire: Callable[[], None],
        complete: Callable[[], None],
        switch: Callable[[], None],
        fail: Callable[[Any, Exception], None],
    ) -> None:
        self.loop = asyncio.get_running_loop()
        self.transport = transport
        self.transport.set_write_buffer_limits(high=HIGH_WATER)
        peer = transport.get_extra_info("peername")
        self.client: Any = None  # a Unix socket's peer is a path, or bytes without one
        if isinstance(peer, tuple):
            self.client = plain_host(peer[0]), *peer[1:]
        self.secure = transport.get_extra_info("ssl_object") is not None
        self.limits = limits
        self.repeats = repeats
        self.complete = complete
        self.switch = switch
        self.fail = fail
        self.deadline = Deadline(self.loop, expire)
        self.state = State.IDLE
        self.memory = memory
        self.held = 0
        self.moved_at = self.loop.time()
        self.unsent = 0  # bytes, when last looked at
        self.stopping = False  # the server accepts no more: each response says that the connection ends
        self.writable: asyncio.Future[None] | None = None  # there while the transport holds HIGH_WATER bytes
        # The two reasons why reading is paused:
        self.full = False  # HIGH_WATER bytes are unread
        self.catching_up = False  # more chunks have come than one turn may read

    def move(self, to: State) -> None:
        if to not in MOVES[self.state]:
            raise RuntimeError(f"a caller's connection cannot go from {self.state} to {to}")
        self.state = to

    def pause_reading(self) -> None:
        """Until the application has taken what is unread."""
        self.full = True
        self.transport.pause_reading()
        if self.state is not State.IDLE:  # a request that was answered at once leaves the deadline for the next one
            self.deadline.clear()

    def read_on(self, body_due: bool) -> None:
        """Read again if `pause_reading` stopped it. `body_due`: more of the request's body has to come."""
        if self.full and not self.transport.is_closing():
            self.full = False
            if not self.catching_up:
                self.transport.resume_reading()
            if body_due:
                self.deadline.set(self.limits.body_timeout)
                self.moved_at = self.deadline.since

    def note_moved(self, count: int) -> None:
        """The caller has sent or taken `count` bytes."""
        self.moved_at = min(self.loop.time(), self.moved_at + count / LEAST_RATE)

    def hold(self, count: int) -> None:
        """Count that many bytes, and no others, as held for this connection."""
        if count != self.held:
            self.memory.hold(count - self.held)
            self.held = count

    def look(self) -> None:
        """Note how much is unsent, and whether the caller has taken some of it since the last look."""
        transport = self.transport
        unsent = transport.get_write_buffer_size()
        if unsent and (sock := transport.get_extra_info("socket")) is not None:
            unsent += kernel.unacknowledged(sock)  # the kernel takes more only after the caller has taken much of it
        if unsent < self.unsent:
            self.note_moved(self.unsent - unsent)
        self.unsent = unsent

    def pause_writing(self) -> None:
        self.writable = self.loop.create_future()
        self.moved_at = self.loop.time()
        self.unsent = 0

    def resume_writing(self) -> None:
        if self.writable is not None and not self.writable.done():
            self.writable.set_result(None)
        self.writable = None

    async def wait_writable(self) -> None:
        """Until there is room for more to be written. A caller that takes nothing for `body_timeout` is cut off."""
        writable = self.writable
        if writable is None:
            return
        timer = self._limit_waiting()
        try:
            await writable
        finally:
            timer.cancel()

    def when_writable(self, callback: Callable[[], None]) -> None:
        """The same, without a task. Call it while there is no room."""
        writable = self.writable
        assert writable is not None
        timer = self._limit_waiting()

        def go_on(_: object) -> None:
            timer.cancel()
            callback()

        writable.add_done_callback(go_on)

    def _limit_waiting(self) -> asyncio.TimerHandle:
        limit = self.limits.body_timeout
        return self.loop.call_later(limit, partial(_cut_off, self, limit))


def _cut_off(link: Link, limit: float) -> None:
    if count := link.repeats.worth_logging("stuck"):
        extra = {"event": "caller_stuck", "seconds": limit, "count": count}
        words = "a caller read nothing of its response for %g s; its connection is closed%s"
        _log.info(words, limit, f" ({count} such callers so far)" if count > 1 else "", extra=extra)
    link.transport.abort()
