"""The caller's side of a connection: it reads strictly, and waits for nobody for ever.

The rules:

1. One request at a time. The next one's bytes stay unread in the buffer until the answer before it is out, so answers
   come in order and what is wrong with the second request cannot answer for the first.
2. A request is parsed by framing.py and nothing else. What it refuses is answered once, and the connection ends.
3. Every wait for the caller has a deadline: for a head, for a body, for room to write to, and for the next request.
4. Both ways are bounded: reading stops at `HIGH_WATER` unread bytes, and `wait_writable` waits while as much is
   unwritten. No more than `PARTS` of chunks are read in one turn of the loop: a flood of tiny ones leaves the other
   callers theirs.
5. A caller who leaves before the answer is complete ends the application's task at once, by cancelling it.
6. An answer that cannot be completed is broken off: never a last chunk, never filled up. Where only the end of the
   connection would say that it is complete, it is reset.
7. A connection that ends with unread bytes is closed for writing first and read on until nothing came for `LINGER`
   seconds, and for `LINGER_MOST` at most: closed at once, it would be reset, and a reset can overtake the answer (RFC
   9112 section 9.6). A caller who sends for longer than that does not read before it is done.

server.py accepts the connections. When it stops it calls `shutdown` on each of them, and waits until they and their
tasks are gone.
"""

import asyncio
import logging
import socket
import struct
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any, Protocol, TypeAlias, cast

import orjson

from shadowproxy.exchange import Field
from shadowproxy.serve.http1 import framing
from shadowproxy.serve.http1.deadline import Deadline
from shadowproxy.serve.http1.framing import FramingError, Length, RequestHead
from shadowproxy.serve.http1.pieces import Pieces
from shadowproxy.serve.telemetry.operator_log import Repeats, times_text

HIGH_WATER = 64 * 1024
PARTS = 600  # of chunks, read in one turn: half a millisecond
PARTING = 0.25  # on shutdown, how long an idle connection may still bring a request that was already on its way
LINGER = 2.0
LINGER_MOST = 30.0  # what an early answer leaves of an upload of some MB, by a slow line
CALLER_LEFT = "the caller left"

_RESET = struct.pack("ii", 1, 0)
_log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Limits:
    """Bytes and seconds. `body_timeout` is for the first `buffer` bytes of a body together, then for each silence.

    `idle_timeout` is how long a connection may wait for its first or next request. `connections` bounds how many may be
    open at once: for one more, the oldest that asks nothing is closed, or the new one where all ask. None is no bound.
    """

    headers: int
    buffer: int
    head_timeout: float
    body_timeout: float
    idle_timeout: float
    connections: int | None = None


class BrokenOff(Exception):
    """Raised by the application when it cannot complete the answer that it began."""


def refusal(reason: str, detail: str, request_id: str | None = None) -> tuple[list[Field], bytes]:
    """Fields and body of an answer that the proxy gives itself. `reason` is an error type of RFC 9209 section 2.3."""
    told = {"error": reason, "detail": detail} | ({"request_id": request_id} if request_id else {})
    body = orjson.dumps(told) + b"\n"
    fields = [
        (b"Content-Type", b"application/json"),
        (b"Content-Length", b"%d" % len(body)),
        (b"Proxy-Status", b"shadowproxy; error=" + reason.encode()),
    ]
    return fields, body


Refusing: TypeAlias = Callable[[str, str], tuple[list[Field], bytes]]
"""From reason and detail to the fields and the body of a refusal."""


class Application(Protocol):
    """What answers callers."""

    async def answer(self, call: "Call") -> None:
        """Raises what reading the call's body raises, and BrokenOff. Cancelled with CALLER_LEFT when the caller has."""


class Listener(asyncio.Protocol):
    """One caller's connection. `repeats` is for all of them together; `refusal` is the form of what it refuses.

    `connections` has those that are open, `tasks` those that answer a request, of the server that it belongs to.
    """

    def __init__(
        self,
        app: Application,
        connections: "set[Listener]",
        tasks: set[asyncio.Task[None]],
        *,
        limits: Limits,
        repeats: Repeats,
        refusal: Refusing = refusal,
    ) -> None:
        self.app = app
        self.client: Any = None
        self.loop = asyncio.get_running_loop()
        self.limits = limits
        self.repeats = repeats
        self.refusal = refusal
        self.transport: asyncio.Transport = None  # type: ignore[assignment]  # set by connection_made
        self.writable: asyncio.Future[None] | None = None  # there while the transport holds HIGH_WATER bytes
        self.stopping = False
        self._connections = connections
        self._tasks = tasks
        self.since = self.loop.time()
        self._deadline = Deadline(self.loop, self._expired)
        self._buffer = b""
        self._call: Call | None = None  # the request being answered, or whose body is being let by
        self._head_seen = 0  # bytes of a head whose end has not come; they have been checked
        self._reading = True
        self._catching_up = False  # more chunks have come than one turn may read
        self._lingering = False
        self._linger_until = 0.0  # by the loop's time
        self._unsent = 0  # bytes, when it was last seen to while the connection closes

    # The server and the transport call these.

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = cast(asyncio.Transport, transport)
        self.transport.set_write_buffer_limits(high=HIGH_WATER)
        peer = transport.get_extra_info("peername")
        self.client = peer if isinstance(peer, tuple) else None  # a Unix socket's is a path, or bytes without one
        self._connections.add(self)
        self._deadline.set(self.limits.idle_timeout)
        if self.limits.connections is not None and len(self._connections) > self.limits.connections:
            self._make_room(self.limits.connections)

    def _make_room(self, most: int) -> None:
        # The oldest and not the newest: probes must be answered, however many have connected and say nothing.
        idle = [each for each in self._connections if each._call is None and each is not self]
        leaving = min(idle, key=lambda each: each.since, default=self)
        self._connections.discard(leaving)  # at once: many can come before the loop has closed it
        leaving.transport.abort()
        if count := self.repeats.worth_logging("full"):
            extra = {"event": "admin_full", "most": most, "count": count}
            words = "the admin server has %d connections open, and closed one for the next%s"
            _log.warning(words, most, times_text(count), extra=extra)

    def connection_lost(self, exc: Exception | None) -> None:
        self._connections.discard(self)
        self._deadline.close()
        self.resume_writing()
        if self._call is not None and not self._call.answered and self._call.task is not None:
            self._call.task.cancel(CALLER_LEFT)

    def shutdown(self) -> None:
        """Answer what was accepted, saying that the connection ends; an idle one ends after `PARTING`."""
        self.stopping = True
        if self._call is None and not self._head_seen and not self._lingering:
            self._deadline.set(PARTING)

    def pause_writing(self) -> None:
        self.writable = self.loop.create_future()

    def resume_writing(self) -> None:
        if self.writable is not None and not self.writable.done():
            self.writable.set_result(None)
        self.writable = None

    def data_received(self, data: bytes) -> None:
        if self._lingering:
            self._linger()
            return
        self._buffer = self._buffer + data if self._buffer else data
        self._advance()

    # Reading.

    def _advance(self) -> None:
        try:
            if self._call is None and not self._begin():
                return
            self._feed()
        except FramingError as error:
            self._refuse(error)

    def _begin(self) -> bool:
        """Read a head, if it is there whole, and say whether it was."""
        data = framing.after_blank_lines(self._buffer)
        if len(data) < len(self._buffer):
            self._buffer, self._head_seen = data, 0
        end = data.find(b"\r\n\r\n", max(0, self._head_seen - 3), self.limits.headers + 4)
        if end < 0:
            if data:
                self._await_head(data)
            return False
        head = framing.request_head(data[:end])
        self._buffer = data[end + 4 :]
        self._head_seen = 0
        self._call = Call(self, head)
        return True

    def _await_head(self, data: bytes) -> None:
        framing.check_unfinished_head(data, request=True, checked=self._head_seen)
        if len(data) > self.limits.headers:
            raise FramingError(431, f"a head of more than {self.limits.headers} bytes")
        if not self._head_seen:
            self._deadline.set(self.limits.head_timeout)
        self._head_seen = len(data)

    def _feed(self) -> None:
        """Give the request what has come of its body; let by what comes of it after the answer."""
        call = cast(Call, self._call)
        if not call.reader.done and (self._buffer or call.reader.behind):
            body, self._buffer = call.reader.feed(self._buffer, PARTS)
            if call.reader.behind and not self._catching_up:
                self._catching_up = True
                self.transport.pause_reading()
                self.loop.call_soon(self._catch_up)
            if call.reader.done:
                self._deadline.clear()
            elif call.received >= self.limits.buffer and not call.answered:
                self._deadline.set(self.limits.body_timeout)
            call.push(body)
        if call.task is None:
            if call.reader.done:
                self._deadline.clear()
            else:
                self._deadline.set(self.limits.body_timeout)
            call.task = self.loop.create_task(self._run(call))
            self._tasks.add(call.task)
            call.task.add_done_callback(self._tasks.discard)
        elif call.answered and call.reader.done:
            self._next()
            return
        if self._reading and (call.pieces.size > HIGH_WATER or len(self._buffer) > HIGH_WATER):
            self._reading = False
            self.transport.pause_reading()
            self._deadline.clear()

    def _catch_up(self) -> None:
        """Read on in what came before. The deadline stands meanwhile: many small chunks are no excuse."""
        self._catching_up = False
        if self.transport.is_closing():
            return
        if not self._lingering:
            self._advance()
        if self._reading and not self._catching_up and not self.transport.is_closing():
            self.transport.resume_reading()

    def read_on(self) -> None:
        """The application has taken what was unread."""
        if not self._reading and not self.transport.is_closing():
            self._reading = True
            if not self._catching_up:
                self.transport.resume_reading()
            if self._call is not None and not self._call.reader.done:
                self._deadline.set(self.limits.body_timeout)

    def _expired(self) -> None:
        if self.transport.is_closing() and self.transport.get_write_buffer_size() >= self._unsent:
            self.transport.abort()  # the caller took nothing of what is left
        elif self._lingering or self.transport.is_closing() or (self._call is None and not self._head_seen):
            self._close()
        elif self._call is not None and self._call.answered:
            self._part()
        else:
            self._refuse(FramingError(408, "the request did not come in time"))

    # Answering.

    async def _run(self, call: "Call") -> None:
        try:
            if self.writable is not None:  # what was answered before is not taken yet: rule 4 holds over all answers
                await call.wait_writable()
            await self.app.answer(call)
        except FramingError as error:
            self._refuse(error)
        except BrokenOff:
            self.break_off(call)
        except asyncio.CancelledError:
            self.transport.abort()
            raise
        except Exception:  # noqa: BLE001  # the last resort: the caller gets an answer, the operator the traceback
            _log.exception("a defect in the proxy: this exchange ends, the others go on", extra={"event": "defect"})
            if call.started:
                self.break_off(call)
            else:
                self._answer(500, "proxy_internal_error", "a defect in the proxy; its log says more")

    def break_off(self, call: "Call") -> None:
        if call.framing is Length.UNTIL_CLOSE and (sock := self.transport.get_extra_info("socket")) is not None:
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _RESET)
            self.transport.abort()
        else:
            # Without its head, it would look as if the connection had been idle: callers send such a request again.
            call.flush_head()
            self._close()

    def _refuse(self, error: FramingError) -> None:
        """Answer a message that is not one, if nobody else is answering, and end the connection."""
        call, self._buffer = self._call, b""
        if call is not None and not call.started and call.task is not None and call.error is None:
            call.fail(error)  # the application learns of it first, and raises it back to `_run`
            return
        if call is not None and call.started:
            if call.answered:
                self._part()
            else:
                call.fail(error)
                self.break_off(call)
            return
        if count := self.repeats.worth_logging("refused", str(error.status)):
            extra = {"event": "request_refused", "status": error.status, "count": count}
            _log.warning("refused%s with %d: %s", times_text(count), error.status, error, extra=extra)
        self._answer(error.status, "http_request_error", str(error))

    def _answer(self, status: int, reason: str, detail: str) -> None:
        fields, body = self.refusal(reason, detail)
        line = framing.status_line(status)
        if self._call is not None and self._call.head.method == "HEAD":
            body = b""
        self.transport.write(framing.write_head(line, [*fields, (b"Connection", b"close")]) + body)
        self._part()

    def answered(self, call: "Call") -> None:
        """The answer is out. What follows depends on what the caller still owes, and on both sides' wishes."""
        if not call.keep_alive:
            if call.reader.done and not self._buffer:
                self._close()
            else:
                self._part()
        elif call.reader.done:
            self._next()
        else:
            self._deadline.set(self.limits.body_timeout)  # an early answer: the rest of the upload is let by
            self.read_on()

    def _next(self) -> None:
        self._call = None
        self.read_on()
        self._deadline.set(PARTING if self.stopping else self.limits.idle_timeout)
        if self._buffer:
            self._advance()

    def _close(self) -> None:
        """Once what is written has been sent, of which the caller has to take some within each `body_timeout`."""
        self.transport.close()
        self._unsent = self.transport.get_write_buffer_size()
        if self._unsent:
            self._deadline.set(self.limits.body_timeout)

    def _part(self) -> None:
        """Close for writing, let by what still comes, and close (rule 7)."""
        self._lingering = True
        self._buffer = b""
        if self.transport.is_closing():
            return
        if self.transport.can_write_eof():
            self.transport.write_eof()
            self.read_on()
            self._linger_until = self.loop.time() + LINGER_MOST
            self._linger()
        else:
            self.transport.close()

    def _linger(self) -> None:
        self._deadline.set(min(LINGER, self._linger_until - self.loop.time()))


class Call:
    """One request and its answer, as an application is given them."""

    __slots__ = (
        "_continue_wanted",
        "_head_out",
        "_left",
        "_listener",
        "_waiter",
        "answered",
        "error",
        "framing",
        "head",
        "keep_alive",
        "pieces",
        "reader",
        "received",
        "started",
        "task",
    )

    def __init__(self, listener: Listener, head: RequestHead) -> None:
        self._listener = listener
        self.head = head
        self.reader = framing.body_reader(head.framing)
        self.task: asyncio.Task[None] | None = None
        self.error: FramingError | None = None
        self.received = 0
        self.pieces = Pieces()  # unread
        self.started = False
        self.answered = False
        self.keep_alive = False
        self.framing: framing.Framing = 0  # of the answer
        self._left = 0
        self._head_out = b""
        self._waiter: asyncio.Future[None] | None = None
        self._continue_wanted = head.expects_continue

    @property
    def client(self) -> Any:
        """The caller's address and port: None where it has none, as by a Unix socket."""
        return self._listener.client

    @property
    def server(self) -> Any:
        """The address that the caller asked, in the same form."""
        return self._listener.transport.get_extra_info("sockname")

    # The listener tells what comes.

    def push(self, body: bytes) -> None:
        self.received += len(body)
        if body and not self.answered:
            self.pieces.add(body)
        self._wake()

    def fail(self, error: FramingError) -> None:
        self.error = error
        self._wake()

    def _wake(self) -> None:
        if self._waiter is not None and not self._waiter.done():
            self._waiter.set_result(None)

    # The application reads.

    @property
    def complete(self) -> bool:
        """Whether all of the body has come and was taken. Not so after an answer that did not wait for it."""
        return self.reader.done and not self.pieces.size and not self.answered

    def take_nowait(self) -> bytes:
        """What has come of the body and nobody took: nothing, maybe."""
        body = self.pieces.take()
        self._listener.read_on()
        return body

    async def read(self) -> bytes:
        """What comes next of the body: nothing at its end.

        Raises FramingError when what came is no body, or did not come in time.
        """
        while not self.pieces.size and not (self.reader.done and not self.answered):
            if self.error is not None:
                raise self.error
            if self._continue_wanted and not self.started:
                self._continue_wanted = False
                self._listener.transport.write(b"HTTP/1.1 100 Continue\r\n\r\n")
            self._waiter = self._listener.loop.create_future()
            await self._waiter
        return self.take_nowait()

    # The application answers.

    def start(
        self,
        status: int,
        fields: Sequence[Field],
        names: Mapping[bytes, bytes] | None = None,
        body: bytes = b"",
        *,
        last: bool = False,
    ) -> None:
        """Begin the answer, with what there is of its body; `last` says that this is all of it.

        `names` has the names of `fields` that frame a message in lower case, each with its value, where they are known.
        Without any body the head is held back until the end of this loop iteration: what comes of it meanwhile goes out
        in the same write.
        """
        self._head_out = self._head(status, fields, names if names is not None else _names(fields))
        self.started = True
        if body or last:
            self.write(body, last=last)
        else:
            self._listener.loop.call_soon(self.flush_head)

    def _head(self, status: int, fields: Sequence[Field], names: Mapping[bytes, bytes]) -> bytes:
        """Choose how the answer's end will be known, and say so."""
        http10 = self.head.http10
        unfit = _LENGTHS if status == 204 else _NOT_FOR_HTTP10 if http10 else _NONE
        if unfit and not unfit.isdisjoint(names):
            fields = [field for field in fields if field[0].lower() not in unfit]
            names = {name: value for name, value in names.items() if name not in unfit}
        more: list[Field] = []
        if self.head.method == "HEAD" or status in framing.BODYLESS_STATUSES:
            self._left = 0
        elif b"content-length" in names:
            self.framing = self._left = int(names[b"content-length"])
        elif http10:
            self.framing = Length.UNTIL_CLOSE
        else:
            if b"transfer-encoding" not in names:
                more.append((b"Transfer-Encoding", b"chunked"))
            self.framing = Length.CHUNKED
        # A caller that was not told to continue may send its body or not: only the connection's end tells them apart.
        in_doubt = self._continue_wanted and not self.reader.done
        self.keep_alive = (
            self.head.keep_alive
            and self.framing is not Length.UNTIL_CLOSE
            and not self._listener.stopping
            and not in_doubt
        )
        if not self.keep_alive:
            more.append((b"Connection", b"close"))
        elif http10:
            more.append((b"Connection", b"keep-alive"))
        return framing.write_head(framing.status_line(status), [*fields, *more] if more else fields)

    def flush_head(self) -> None:
        if self._head_out and not self._listener.transport.is_closing():  # the caller may have left in this turn
            self._listener.transport.write(self._head_out)
            self._head_out = b""

    def write(self, body: bytes, *, last: bool) -> None:
        """Go on with an answer that was started."""
        out, self._head_out = self._head_out, b""
        if self.head.method == "HEAD":
            body = b""  # the proxy's own answers have one; of it, its length is told
        if self.framing is Length.CHUNKED:
            if body:
                out += framing.write_chunk(body)
            if last:
                out += framing.LAST_CHUNK
        elif self.framing is Length.UNTIL_CLOSE:
            out += body
        else:
            out += body[: self._left]
            if len(body) > self._left or (last and len(body) < self._left):
                self._listener.transport.write(out)
                raise BrokenOff(f"an answer of {self.framing} bytes had {self._left - len(body)} to go at its end")
            self._left -= len(body)
        if out:
            self._listener.transport.write(out)
        if last:
            self.answered = True
            self.pieces.clear()  # nobody will receive these: they must not count as unread, or reading would stop
            self._listener.answered(self)

    async def wait_writable(self) -> None:
        """Until there is room for more to be written. Who takes nothing for `body_timeout` is cut off."""
        if self._listener.writable is not None:
            await self._wait_writable(self._listener.writable)

    async def _wait_writable(self, writable: asyncio.Future[None]) -> None:
        limit = self._listener.limits.body_timeout
        ringer = self._listener.loop.call_later(limit, partial(_tell_and_abort, self._listener, limit))
        try:
            await writable
        finally:
            ringer.cancel()


_LENGTHS = frozenset({b"content-length", b"transfer-encoding"})
_NOT_FOR_HTTP10 = frozenset({b"transfer-encoding"})
_NONE: frozenset[bytes] = frozenset()


def _names(fields: Sequence[Field]) -> dict[bytes, bytes]:
    return {name.lower(): value for name, value in fields}


def _tell_and_abort(listener: Listener, limit: float) -> None:
    if count := listener.repeats.worth_logging("stuck"):
        extra = {"event": "caller_stuck", "seconds": limit, "count": count}
        words = "a caller took nothing of its answer for %g s%s; its connection is closed"
        _log.info(words, limit, f", as {count} did by now" if count > 1 else "", extra=extra)
    listener.transport.abort()
