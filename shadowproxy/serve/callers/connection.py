"""The caller's side of a connection: it reads strictly, and ends every wait for the caller, an idle connection's too.

The rules:

1. One request at a time. The next one's bytes stay unread in the buffer until the response before it is out. So
   responses come in order, and an error in the second request is never sent as the response to the first.
2. A request is parsed by framing.py and nothing else. What it rejects is answered once, and the connection ends.
3. Every wait for the caller has a deadline: for a head, for a body, for room to write to, and for the next request.
4. Both ways are bounded: reading stops at `HIGH_WATER` unread bytes, and an application waits while as much is
   unwritten. No more than `PARTS` of chunks are read in one turn of the loop, so that a flood of tiny chunks does not
   take the turns of other callers.
5. When a caller leaves before the response is complete, its call is cancelled at once.
   What is unread or unsent counts as held for the caller. Where memory, slots or descriptors are short, `shed` ends the
   connection of a caller who has sent and taken next to nothing for a while; shedding.py chooses it.
6. A response that cannot be completed is broken off: it gets no last chunk and no filling. Where only the end of the
   connection would mark the response as complete, the connection is reset.
7. A connection that ends with unread bytes is closed for writing first and read on until nothing came for `LINGER`
   seconds, and for `LINGER_MOST` at most: closed at once, it would be reset, and a reset can overtake the response (RFC
   9112 section 9.6). A caller that sends for longer than that reads nothing until it has sent all.

link.py has the states of a connection and which may follow which. server.py accepts the connections; when it stops it
calls `shutdown` on each of them, and waits until they and their tasks are gone.
"""

import asyncio
import logging
import socket
import struct
from collections.abc import Awaitable
from typing import Final, Protocol, cast

from shadowproxy.serve.account import Memory
from shadowproxy.serve.callers.call import CALLER_LEFT, STOOD_STILL, STOPPING, BrokenOff, Call, Tunnelled
from shadowproxy.serve.callers.error_body import error_response
from shadowproxy.serve.callers.link import HIGH_WATER, Limits, Link, State
from shadowproxy.serve.http1 import framing
from shadowproxy.serve.http1.framing import FramingError, Length
from shadowproxy.serve.telemetry.operator_log import Repeats, times_text

PARTS = 600  # of chunks, read in one turn: half a millisecond
PARTING = 0.25  # on shutdown, how long an idle connection stays open for a request that is already on its way
LINGER = 2.0
LINGER_MOST = 30.0  # long enough for the rest of an upload of some MB on a slow line, after an early response

CONNECTION: Final = 6 << 10
"""About the bytes that an open connection takes while nothing is held for it: measured 3 to 4 KiB here, with 1,000 of
them, and the kernel has its socket."""

UNFINISHED: Final = 10 << 10
"""About the bytes that a request which is not whole takes beside those of it and its connection: a task, objects."""

LARGE_HEAD = 4 << 10
"""Bytes. A longer head counts as held, with what reading it into fields takes, which is three times as much again."""

_IDLE: Final = State.IDLE
_HEAD: Final = State.HEAD
_REQUEST: Final = State.REQUEST
_RESPONSE: Final = State.RESPONSE
_TUNNEL: Final = State.TUNNEL
_REST: Final = State.REST
_LINGERING: Final = State.LINGERING
_CLOSING: Final = State.CLOSING
_CLOSED: Final = State.CLOSED

_RESET = struct.pack("ii", 1, 0)
_log = logging.getLogger(__name__)


class Application(Protocol):
    """What answers callers."""

    def answer(self, call: Call) -> Awaitable[None] | None:
        """Begin to answer, and return what is left to be awaited. None: callbacks do the rest, or it is done.

        What is awaited may raise what `call.read` raises, or BrokenOff; callbacks give that to `call.end_with`. When
        the caller leaves, the first is cancelled with CALLER_LEFT, or else `call.on_cancel` is called with it.
        """


class CallerConnection(asyncio.Protocol):
    """One caller's connection.

    `connections` has those that are open, `tasks` those that answer a request, of the server that it belongs to.
    `repeats` is for all of its connections together. `link` is there from `connection_made` on.
    """

    link: Link

    def __init__(
        self,
        app: Application,
        connections: "set[CallerConnection]",
        tasks: set[asyncio.Task[None]],
        *,
        limits: Limits,
        repeats: Repeats,
        memory: Memory,
    ) -> None:
        self._app = app
        self._connections = connections
        self._tasks = tasks
        self._limits = limits
        self._repeats = repeats
        self._memory = memory
        self._buffer = b""
        self._head_held = 0  # bytes that a large head takes while its request is answered
        self._call: Call | None = None  # from the state REQUEST on, until the next request
        self._head_seen = 0  # bytes of a head whose end has not come; they have been checked
        self._linger_until = 0.0  # by the loop's time
        self._unsent = 0  # bytes, when last looked at while the connection closes

    def __repr__(self) -> str:
        state = self.link.state if hasattr(self, "link") else "not connected"
        return f"<CallerConnection {state}, {len(self._buffer)} bytes unread>"

    # The server and the transport call these.

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        limits = self._limits
        self.link = Link(
            cast(asyncio.Transport, transport),
            limits,
            self._repeats,
            self._memory,
            expire=self._expired,
            complete=self._response_complete,
            switch=self._tunnel_begun,
            fail=self._end_with,
        )
        self._connections.add(self)
        self._memory.hold_objects(CONNECTION)
        self.link.deadline.set(limits.idle_timeout)

    def connection_lost(self, exc: Exception | None) -> None:
        self.link.move(_CLOSED)
        self._connections.discard(self)
        self.link.deadline.close()
        self.link.resume_writing()
        self._buffer = b""
        self.link.hold(0)
        self._memory.hold_objects(-CONNECTION)
        if self._call is not None and self._call.tunnel is not None:
            self._call.tunnel.caller_ended(exc)
        elif self._call is not None:
            self._call.cancel(CALLER_LEFT)

    def shutdown(self) -> None:
        """Answer the request under way as the last one; an idle connection ends after `PARTING`."""
        self.link.stopping = True
        if self.link.state is _IDLE:
            self.link.deadline.set(PARTING)

    def abort(self) -> None:
        """Close at once, whatever is unsent."""
        self.link.transport.abort()

    def cut_off(self) -> None:
        """End the request under way, and close at once."""
        if self._call is not None:
            self._call.cancel(STOPPING)
        self.abort()

    def look(self) -> None:
        """Note what is held, and what the caller has taken. Small responses that are not taken are seen here alone."""
        if self.link.state is not _CLOSED:
            self.link.look()
            self._count_held()

    def still_since(self) -> float | None:
        """When the caller last sent or took something, by the loop's time; None while nothing is awaited from it.

        A caller who sends or takes less than LEAST_RATE has an earlier time than that: it stands nearly still.
        """
        link, call = self.link, self._call
        state = link.state
        if state is _CLOSED:
            return None
        if link.writable is not None:
            return link.moved_at
        if state is _TUNNEL or link.full or link.catching_up:
            return None  # a tunnel may be silent
        if state is _IDLE or state is _HEAD:
            return max(link.moved_at, link.deadline.since)
        if (state is _REQUEST or state is _RESPONSE) and (call is None or call.reader.done or call.pieces.size):
            return None  # live or the application is awaited
        return link.moved_at

    @property
    def is_idle(self) -> bool:
        """Whether no part of a request has come, and no part of a response waits to be taken."""
        return self.link.state is _IDLE and not self._buffer and self.link.writable is None

    @property
    def asks_live(self) -> bool:
        """Whether its request takes one of the slots in which live is asked."""
        return self._call is not None and self._call.asked

    def shed(self) -> int:
        """End it in favour of others. Returns about how many bytes that frees, now or in the next turns."""
        link, call, state = self.link, self._call, self.link.state
        freed = link.held + CONNECTION
        if state is _IDLE and link.writable is None:
            self._close()
        elif state is _HEAD or (state is _REQUEST and call is not None and not call.reader.done):
            freed += call.received if call is not None else 0
            self._reject(FramingError(503, STOOD_STILL))
        else:
            if call is not None:
                call.cancel(STOOD_STILL)
            self.abort()
        return freed

    def pause_writing(self) -> None:
        self.link.pause_writing()
        self._count_held()

    def resume_writing(self) -> None:
        self.link.resume_writing()
        self._count_held()

    def data_received(self, data: bytes) -> None:
        if self.link.state is _LINGERING:
            self._linger()
            return
        if self.link.state is _TUNNEL:
            cast(Tunnelled, cast(Call, self._call).tunnel).take(data)
            return
        self._buffer = self._buffer + data if self._buffer else data
        self._advance()
        link, call = self.link, self._call
        if call is not None and not call.reader.done:
            link.note_moved(len(data))
            self._await_more(call)
        elif not self._buffer and not link.held:
            return  # a request that came whole, as most do
        self._count_held()

    def _count_held(self) -> None:
        link, call = self.link, self._call
        if link.state is _CLOSED:
            return
        held = len(self._buffer)
        if call is not None:
            held += call.pieces.size + self._head_held
        if link.state is _HEAD or (call is not None and not call.reader.done):
            held += UNFINISHED
        held += link.transport.get_write_buffer_size()
        link.hold(held)

    # Reading.

    def _advance(self) -> None:
        try:
            if self._call is None and not self._begin():
                return
            self._feed()
        except FramingError as error:
            self._reject(error)

    def _begin(self) -> bool:
        """Read a head if the whole of it has come, and return whether it has."""
        data = framing.skip_blank_lines(self._buffer)
        if len(data) < len(self._buffer):
            self._buffer, self._head_seen = data, 0
            if self.link.state is _HEAD:
                self.link.move(_IDLE)
        limits = self.link.limits
        end = data.find(b"\r\n\r\n", max(0, self._head_seen - 3), limits.headers + 4)
        if end < 0:
            self.link.read_on(body_due=False)  # no call is there to take what is unread
            if data:
                self._await_head(data)
            return False
        head = framing.parse_request_head(data[:end])
        self._head_held = 0 if end <= LARGE_HEAD else 4 * end
        self._buffer = data[end + 4 :]
        self._head_seen = 0
        self.link.move(_REQUEST)
        self._call = Call(self.link, head)
        if self._head_held:
            self._count_held()
        return True

    def _await_head(self, data: bytes) -> None:
        link = self.link
        framing.check_unfinished_head(data, request=True, checked=self._head_seen)
        if len(data) > link.limits.headers:
            raise FramingError(431, f"a head of more than {link.limits.headers} bytes")
        if link.state is _IDLE:
            link.move(_HEAD)
            link.deadline.set(link.limits.head_timeout)
        self._head_seen = len(data)

    def _feed(self) -> None:
        """Pass the body's new bytes to the call; after its response is complete they are dropped."""
        link, call = self.link, cast(Call, self._call)
        if not call.reader.done and (self._buffer or call.reader.has_backlog):
            body, self._buffer = call.reader.feed(self._buffer, PARTS)
            if call.reader.has_backlog and not link.catching_up:
                link.catching_up = True
                link.transport.pause_reading()
                link.loop.call_soon(self._catch_up)
            if call.reader.done:
                link.deadline.clear()
            call.push(body)
        if not call.begun:
            if call.reader.done:
                link.deadline.clear()
            else:
                link.deadline.set(link.limits.body_timeout)
                link.moved_at = link.deadline.since
            self._begin_answer(call)
        elif link.state is _REST and call.reader.done:
            self._next()
            return
        if not link.full and (call.pieces.size > HIGH_WATER or len(self._buffer) > HIGH_WATER):
            link.pause_reading()

    def _await_more(self, call: Call) -> None:
        """Move the deadline: the first `buffer` bytes of a body may take `body_timeout` more than LEAST_RATE allows."""
        link, limits = self.link, self.link.limits
        if call.answered or link.full or link.state is _LINGERING:
            return
        if call.received >= limits.buffer:
            link.deadline.set(limits.body_timeout)
        else:
            link.deadline.set_at(link.moved_at + limits.body_timeout)

    def _catch_up(self) -> None:
        """Go on reading the chunks that have come. The deadline is not moved: many small chunks must not extend it."""
        link = self.link
        link.catching_up = False
        if link.transport.is_closing():
            return
        if link.state is not _LINGERING:
            self._advance()
        if not link.full and not link.catching_up and not link.transport.is_closing():
            link.transport.resume_reading()

    def _expired(self) -> None:
        state = self.link.state
        if self.link.transport.is_closing():
            if self.link.transport.get_write_buffer_size() >= self._unsent:
                self.abort()  # the caller took nothing of what is left
            else:
                self._await_sent()
        elif state is _IDLE or state is _LINGERING:
            self._close()
        else:
            self._reject(FramingError(408, "the request did not come in time"))

    # Answering.

    def _begin_answer(self, call: Call) -> None:
        """Have the application answer: without a task, where the request is whole and nothing has to be waited for."""
        call.begun = True
        answering: Awaitable[None] | None = None
        if call.reader.done and self.link.writable is None:
            try:
                answering = self._app.answer(call)
            except Exception as error:  # noqa: BLE001  # not swallowed: it ends the call
                self._end_with(call, error)
                return
            if answering is None:
                return
        call.task = task = self.link.loop.create_task(self._run(call, answering))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _run(self, call: Call, answering: Awaitable[None] | None) -> None:
        try:
            if answering is None:
                if self.link.writable is not None:  # earlier responses are not taken yet: rule 4 holds over all of them
                    await self.link.wait_writable()
                answering = self._app.answer(call)
            if answering is not None:
                await answering
        except asyncio.CancelledError:
            self.abort()
            raise
        except Exception as error:  # noqa: BLE001  # not swallowed: it ends the call
            self._end_with(call, error)

    def _end_with(self, call: Call, error: Exception) -> None:
        """The application cannot answer, or cannot complete its response."""
        if isinstance(error, FramingError):
            self._reject(error)
            error.with_traceback(None)  # the call keeps the error, and its frames would keep the request's body
        elif isinstance(error, BrokenOff):
            self._break_off(call)
        else:  # the last resort: the caller gets a response, the operator the traceback
            words = "a defect in the proxy: this exchange ends, the others go on"
            _log.error(words, exc_info=error, extra={"event": "defect"})
            if call.started:
                self._break_off(call)
            else:
                self._answer(500, "proxy_internal_error", "a defect in the proxy; its log says more")

    def _break_off(self, call: Call) -> None:
        """End the connection amid the response to `call`; nothing where that is complete, or broken off already."""
        link = self.link
        if self._call is not call or (link.state is not _REQUEST and link.state is not _RESPONSE):
            return
        if call.framing is Length.UNTIL_CLOSE and (sock := link.transport.get_extra_info("socket")) is not None:
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _RESET)
            link.move(_CLOSING)
            self.abort()
        else:
            # Without its head, it would look as if the connection had been idle: callers send such a request again.
            call.flush_head()
            self._close()

    def _reject(self, error: FramingError) -> None:
        """Answer a message that is not HTTP, unless the application answers it, and end the connection."""
        call, self._buffer = self._call, b""
        state = self.link.state
        if state is _RESPONSE:
            assert call is not None
            call.fail(error)
            self._break_off(call)
        elif state is _REST:
            self._close_for_writing()
        elif call is not None and call.begun and call.error is None:
            call.fail(error)  # the application learns of it first, and raises it back to `_run`
        elif state is _IDLE or state is _HEAD or state is _REQUEST:
            if count := self.link.repeats.worth_logging("refused", str(error.status)):
                extra = {"event": "request_refused", "status": error.status, "count": count}
                _log.warning("rejected%s with %d: %s", times_text(count), error.status, error, extra=extra)
            self._answer(error.status, "http_request_error", str(error))

    def _answer(self, status: int, reason: str, detail: str) -> None:
        """Answer in the application's stead, where nothing is sent yet, and end the connection."""
        state = self.link.state
        if state is not _IDLE and state is not _HEAD and state is not _REQUEST:
            return
        fields, body = error_response(reason, detail)
        if status == 503:
            fields = [*fields, (b"Retry-After", b"1")]
        line = framing.status_line(status)
        if self._call is not None and self._call.head.method == "HEAD":
            body = b""
        self.link.transport.write(framing.write_head(line, [*fields, (b"Connection", b"close")]) + body)
        self._close_for_writing()

    def _response_complete(self) -> None:
        """Go on with the next request, with the rest of this one, or end: as both sides want it."""
        if self.link.state is _TUNNEL:
            self._close_for_writing()
            return
        if self.link.state is not _RESPONSE:
            return  # broken off meanwhile
        call = cast(Call, self._call)
        if not call.keep_alive:
            if call.reader.done and not self._buffer:
                self._close()
            else:
                self._close_for_writing()
        elif call.reader.done:
            self._next()
        else:
            self.link.move(_REST)
            self.link.deadline.set(self.link.limits.body_timeout)
            self.link.read_on(body_due=True)

    def _tunnel_begun(self) -> None:
        """What came behind the request goes through the tunnel, and all that follows."""
        link, data = self.link, self._buffer
        self._buffer = b""
        link.deadline.clear()
        link.read_on(body_due=False)
        if data:
            cast(Tunnelled, cast(Call, self._call).tunnel).take(data)

    def _next(self) -> None:
        link = self.link
        link.move(_IDLE)
        self._call = None
        if link.held:
            self._count_held()
        if link.full:
            link.read_on(body_due=False)
        link.deadline.set(PARTING if link.stopping else link.limits.idle_timeout)
        if self._buffer:  # in a turn of its own: many small requests at once must not be answered one within the other
            link.loop.call_soon(self._go_on)

    def _go_on(self) -> None:
        """Read what had come before, unless the connection has ended meanwhile."""
        if self._buffer and self.link.state is not _LINGERING and not self.link.transport.is_closing():
            self._advance()

    # Ending.

    def _close(self) -> None:
        self.link.move(_CLOSING)
        self.link.moved_at = self.link.loop.time()
        self.link.transport.close()
        self._await_sent()

    def _await_sent(self) -> None:
        """Wait for the caller to take the unsent bytes, some of them within each `body_timeout`."""
        self._unsent = self.link.transport.get_write_buffer_size()
        if self._unsent:
            self.link.deadline.set(self.link.limits.body_timeout)

    def _close_for_writing(self) -> None:
        """Drop all bytes that still come, then close (rule 7)."""
        link = self.link
        link.move(_LINGERING)
        self._buffer = b""
        if link.transport.is_closing():
            return
        try:
            link.transport.write_eof()
        except OSError:  # asyncio's own transport raises it if the caller has reset the connection in this turn
            self.abort()
            return
        link.read_on(body_due=False)
        link.moved_at = link.loop.time()
        self._linger_until = link.moved_at + LINGER_MOST
        self._linger()

    def _linger(self) -> None:
        self.link.deadline.set(min(LINGER, self._linger_until - self.link.loop.time()))
