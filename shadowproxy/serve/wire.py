"""An httpx transport for one origin: HTTP/1.1 over TCP or TLS, on asyncio and framing.py, and nothing more.

The rules:

1. A connection carries one exchange at a time, and goes back to the pool only if that exchange is complete both ways,
   the peer did not ask to close, and not one byte was left over. A left-over byte would be the next caller's answer.
2. Idle connections are watched: bytes or an end on one closes it. None is kept longer than `IDLE_EXPIRY`.
3. Whoever stops listening, by cancelling or by `aclose`, closes the connection: nobody can know what is still in it.
4. Reading stops at `HIGH_WATER` bytes that nobody took; an upload waits while as many are unwritten. No more than
   `PARTS` of chunks are read in one turn; of what `pace` says is a shadow's, not in every turn either.
5. `silence` bounds each wait for the peer; time spent waiting for our own side does not count. Whole deadlines are the
   caller's business (asyncio.timeout), and cancelling is always safe.
6. What the peer did is raised as httpx's exceptions, and as nothing else. `Stale` is the one that may be tried again:
   a reused connection ended before a single byte of the answer.
7. No redirect, cookie, proxy setting, .netrc, content decoding or invented field: a transport has none of these.

Why not httpx's own transport: it leaks connections on cancellation, reuses one with bytes left over, and takes ten to
sixty times the CPU (httpcore issues 830, 961, 1093; `make bench`).
"""

import asyncio
import os
import socket
import ssl
from collections.abc import AsyncIterable, AsyncIterator
from dataclasses import dataclass
from time import perf_counter
from types import TracebackType
from typing import Self, cast, overload

import httpx

from shadowproxy.exchange import Fields
from shadowproxy.serve import framing
from shadowproxy.serve.deadline import Deadline
from shadowproxy.serve.dial import Dialler
from shadowproxy.serve.framing import FramingError, ReplyHead
from shadowproxy.serve.pace import Pace
from shadowproxy.serve.pieces import Pieces
from shadowproxy.serve.wire_request import WireRequest

IDLE_EXPIRY = 4.0  # many model servers close at 5.0 s
HIGH_WATER = 64 * 1024
MAX_REPLY_HEAD = 64 * 1024
MAX_INTERIM = 32  # 1xx answers before the final one: a server may send 102 every few seconds, and no more
PARTS = 600  # of chunks, read in one turn: half a millisecond


class Stale(httpx.ReadError):
    """A reused connection ended before a byte of the answer: the server had closed it while it was idle."""


class WireResponse(httpx.Response):
    """The answer to a WireRequest, as cheap to make: `fields` as they came, and the body as `stream` is read."""

    def __init__(self, head: ReplyHead, reply: "_Reply") -> None:
        self.status_code = head.status
        self.fields = head.fields
        self.names = head.names
        self.stream: _Reply = reply
        self.first_byte_at = reply.first_byte_at  # by time.perf_counter


@dataclass(frozen=True, slots=True)
class Statistics:
    """How many connections there are, how many of them wait in the pool, and how many uploads are under way."""

    open: int
    idle: int
    uploads: int


class Wire(httpx.AsyncBaseTransport):
    """Owns its connections and uploads; use as `async with`. Seconds.

    `pace` is the time between two turns of reading answers that come in floods of tiny chunks, all together.
    """

    def __init__(
        self,
        host: str,
        port: int,
        *,
        tls: ssl.SSLContext | None = None,
        connect_timeout: float = 5.0,
        pace: float = 0.0,
    ) -> None:
        self.host = host
        self.port = port
        self._tls = tls
        self._connect_timeout = connect_timeout
        self.pace = Pace(pace)
        self._dialler = Dialler(host, port)
        self._open: set[_Connection] = set()
        self._idle: dict[_Connection, None] = {}  # the last one in is the first one out
        self._uploads: set[asyncio.Task[None]] = set()
        self._closed = False

    def __repr__(self) -> str:
        return f"<Wire {self.host}:{self.port} {self.statistics()}>"

    def statistics(self) -> Statistics:
        return Statistics(open=len(self._open), idle=len(self._idle), uploads=len(self._uploads))

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self,
        exc_type: type[BaseException] | None = None,
        exc_value: BaseException | None = None,
        traceback: TracebackType | None = None,
    ) -> None:
        await self.aclose()

    async def aclose(self) -> None:
        self._closed = True
        self.pace.close()
        for connection in list(self._open):
            connection.abort()
        for upload in list(self._uploads):
            upload.cancel()
        if self._uploads:
            await asyncio.wait(self._uploads)

    @overload
    async def handle_async_request(self, request: WireRequest) -> WireResponse: ...

    @overload
    async def handle_async_request(self, request: httpx.Request) -> httpx.Response: ...

    async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
        """Send `request` and return once the head of its answer is in.

        Raises httpx.ConnectTimeout, ConnectError, ReadTimeout, ReadError, RemoteProtocolError or Stale, and whatever
        the request's own body raises.
        """
        asked = request if isinstance(request, WireRequest) else WireRequest.of(request)
        connection = self._reusable(asked) or await self._connect()
        reply = _Reply(connection, asked)
        try:
            connection.begin(reply)
            if isinstance(asked.body, bytes):
                reply.send_whole(asked, asked.body)
            else:
                reply.upload = asyncio.get_running_loop().create_task(reply.send_streamed(asked, asked.body))
                self._uploads.add(reply.upload)
                reply.upload.add_done_callback(self._uploads.discard)
            head = await reply.wait_head()
        except BaseException:
            reply.abandon()
            raise
        if asked is request:
            return WireResponse(head, reply)
        return httpx.Response(head.status, headers=list(head.fields), stream=reply)

    def _reusable(self, request: WireRequest) -> "_Connection | None":
        while self._idle and not request.fresh:
            connection, _ = self._idle.popitem()
            if not connection.transport.is_closing():
                return connection
        return None

    async def _connect(self) -> "_Connection":
        loop = asyncio.get_running_loop()
        try:
            async with asyncio.timeout(self._connect_timeout):
                sock = await self._dialler.connect()
                connection = _Connection(self, loop)
                try:
                    await loop.create_connection(
                        lambda: connection, sock=sock, ssl=self._tls, server_hostname=self.host if self._tls else None
                    )
                except BaseException:
                    connection.abort()
                    self.lost(connection)  # uvloop may leave that unsaid
                    raise
        except TimeoutError:
            raise httpx.ConnectTimeout(f"no connection within {self._connect_timeout:g} s") from None
        except OSError as error:
            raise httpx.ConnectError(_reason(error)) from error
        return connection

    # The connections call these.

    def opened(self, connection: "_Connection") -> None:
        self._open.add(connection)

    def lost(self, connection: "_Connection") -> None:
        self._open.discard(connection)
        self._idle.pop(connection, None)

    def keep(self, connection: "_Connection") -> bool:
        """Take back a connection whose exchange is complete, if there is still use for it."""
        if self._closed or connection.transport.is_closing():
            return False
        self._idle[connection] = None
        return True


class _Connection(asyncio.Protocol):
    def __init__(self, wire: Wire, loop: asyncio.AbstractEventLoop) -> None:
        self.wire = wire
        self.loop = loop
        self.deadline = Deadline(loop, self._expired)
        self.transport: asyncio.Transport = None  # type: ignore[assignment]  # set by connection_made
        self.writable: asyncio.Future[None] | None = None
        self.used = False
        self.aborted = False
        self._reply: _Reply | None = None  # None while idle

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = cast(asyncio.Transport, transport)
        self.transport.set_write_buffer_limits(high=HIGH_WATER)
        if self.aborted:  # by who asked for it and left before it was made
            self.transport.abort()
        else:
            self.wire.opened(self)

    def begin(self, reply: "_Reply") -> None:
        if self.transport.is_closing():  # it may have ended in the turn that opened it, and nobody would say so again
            raise httpx.ReadError("the connection was closed before the request")
        self.deadline.clear()
        self._reply = reply

    def end(self, *, reusable: bool) -> None:
        """The exchange is complete."""
        self._reply = None
        self.used = True
        if reusable and self.wire.keep(self):
            self.deadline.set(IDLE_EXPIRY)
        elif self.transport.get_write_buffer_size():
            self.abort()  # an upload that the answer made pointless: to close politely would be to send it
        else:
            self.deadline.close()
            self.transport.close()

    def abort(self) -> None:
        self.deadline.close()
        self.aborted = True
        if self.transport is not None:
            self.transport.abort()

    def data_received(self, data: bytes) -> None:
        if self._reply is None:
            self.abort()  # rule 2: nobody asked
            return
        try:
            self._reply.feed(data)
        except FramingError as error:
            self._reply.fail(httpx.RemoteProtocolError(str(error)))

    def connection_lost(self, exc: Exception | None) -> None:
        self.deadline.close()
        self.wire.lost(self)
        self.resume_writing()
        if self._reply is not None:
            self._reply.connection_lost(exc)

    def pause_writing(self) -> None:
        self.writable = self.loop.create_future()

    def resume_writing(self) -> None:
        if self.writable is not None and not self.writable.done():
            self.writable.set_result(None)
        self.writable = None

    def _expired(self) -> None:
        if self._reply is None:
            self.transport.close()
        else:
            self._reply.fail(httpx.ReadTimeout(f"silent for {self._reply.silence:g} s"))


class _Reply(httpx.AsyncByteStream):
    """One exchange on a connection: the upload, and the answer as a stream that can be read once."""

    def __init__(self, connection: _Connection, request: WireRequest) -> None:
        self.silence = request.silence
        self.first_byte_at = 0.0
        self.upload: asyncio.Task[None] | None = None
        self._method = request.method
        self._connection = connection
        self._uploaded = False
        self._head: ReplyHead | None = None
        self._reader = framing.BodyReader(0)
        self._unread = b""  # of a head that is not whole yet
        self._pieces = Pieces()
        self._paused = False
        self._interim = 0
        self._done = False
        self._error: BaseException | None = None
        self._waiter: asyncio.Future[None] | None = None

    # Sending.

    def send_whole(self, request: WireRequest, body: bytes) -> None:
        head = framing.write_head(b"%b %b HTTP/1.1" % (request.method.encode(), request.target), request.fields)
        if _is_chunked(request.fields):
            body = (framing.write_chunk(body) if body else b"") + framing.LAST_CHUNK
        if len(body) <= HIGH_WATER:
            self._connection.transport.write(head + body)  # one packet, one wake-up at the far side
        else:
            self._connection.transport.write(head)
            self._connection.transport.write(body)
        self._uploaded = True

    async def send_streamed(self, request: WireRequest, body: AsyncIterable[bytes]) -> None:
        """Send `body` as it comes. What it raises ends the exchange, and is raised to whoever awaits the answer."""
        connection = self._connection
        chunked = _is_chunked(request.fields)
        head = framing.write_head(b"%b %b HTTP/1.1" % (request.method.encode(), request.target), request.fields)
        connection.transport.write(head)
        try:
            async for piece in body:
                if not piece:
                    continue
                connection.transport.write(framing.write_chunk(piece) if chunked else piece)
                if connection.writable is not None:
                    connection.deadline.set(self.silence)
                    await connection.writable
                    connection.deadline.clear()
                if connection.transport.is_closing():
                    return  # the answer's side says what happened
        except Exception as error:  # noqa: BLE001  # not swallowed: `fail` raises it to whoever awaits the answer
            self.fail(error)
            return
        if chunked:
            connection.transport.write(framing.LAST_CHUNK)
        self._uploaded = True
        if self._waiter is not None:
            connection.deadline.set(self.silence)

    # Receiving; the connection calls these.

    def feed(self, data: bytes) -> None:
        if self._head is None:
            if not self.first_byte_at:
                self.first_byte_at = perf_counter()
            data = self._feed_head(data)
            if self._head is None:
                return
        piece, left_over = self._reader.feed(data, PARTS)
        if piece:
            self._pieces.add(piece)
        if self._reader.done:
            self._complete(reusable=self._head.keep_alive and not left_over)
        elif self._pieces.size > HIGH_WATER or self._reader.behind:
            if not self._paused:
                self._paused = True
                self._connection.transport.pause_reading()
            if self._reader.behind:
                self._connection.wire.pace.turn(self._catch_up)
        self._wake()

    def _catch_up(self) -> None:
        """Read on in what came before, when this answer's turn has come."""
        if self._done or self._error is not None:
            return
        try:
            self.feed(b"")
        except FramingError as error:
            self.fail(httpx.RemoteProtocolError(str(error)))
        if not self._pieces:
            self._read_on()

    def _feed_head(self, data: bytes) -> bytes:
        """Read up to the final head (1xx ones are passed over) and return what follows it."""
        checked = len(self._unread)
        data = self._unread + data if self._unread else data
        while True:
            end = data.find(b"\r\n\r\n", max(0, checked - 3), MAX_REPLY_HEAD + 4)
            if end < 0:
                if len(data) > MAX_REPLY_HEAD:
                    raise FramingError(502, f"a head of more than {MAX_REPLY_HEAD} bytes")
                framing.check_unfinished_head(data, request=False, checked=checked)
                self._unread = data
                return b""
            head = framing.reply_head(data[:end], self._method)
            data = data[end + 4 :]
            checked = 0
            self._interim += 1
            if self._interim > MAX_INTERIM:
                raise FramingError(502, f"more than {MAX_INTERIM} interim answers")
            if head.status >= 200:
                self._unread = b""
                self._head = head
                self._reader = framing.body_reader(head.framing)
                return data

    def connection_lost(self, exc: Exception | None) -> None:
        if self._done or self._error is not None:
            return
        if self._head is not None and exc is None and self._reader.at_eof():
            self._complete(reusable=False)
            self._wake()
        elif self._connection.used and not self.first_byte_at:
            self.fail(Stale("a reused connection was closed before the answer"))
        elif self._head is None:
            self.fail(httpx.ReadError(f"the connection was closed before the answer{f': {exc}' if exc else ''}"))
        else:
            self.fail(httpx.ReadError(f"the connection was closed in the answer's midst{f': {exc}' if exc else ''}"))

    def fail(self, error: BaseException) -> None:
        """End the exchange. What had come of the answer can still be read; then `error` is raised."""
        if not self._done and self._error is None:
            self._error = error
            self._connection.abort()
            self._stop_upload()
            self._wake()

    def _complete(self, *, reusable: bool) -> None:
        self._done = True
        self._read_on()
        self._stop_upload()
        self._connection.end(reusable=reusable and self._uploaded)

    def _stop_upload(self) -> None:
        if self.upload is not None and self.upload is not asyncio.current_task(self._connection.loop):
            self.upload.cancel()

    def _wake(self) -> None:
        if self._waiter is not None and not self._waiter.done():
            self._waiter.set_result(None)

    # Reading.

    async def wait_head(self) -> ReplyHead:
        while self._head is None:
            if self._error is not None:
                raise self._error
            await self._wait()
        return self._head

    # An iterator and not a generator: one that is left halfway would be closed by a task that nobody owns.

    def __aiter__(self) -> AsyncIterator[bytes]:
        return self

    @property
    def ended(self) -> bool:
        """Whether all of the answer has come, and been taken."""
        return self._done and not self._pieces

    async def __anext__(self) -> bytes:
        while not self._pieces:
            if self._error is not None:
                raise self._error
            if self._done:
                raise StopAsyncIteration
            await self._wait()
        piece = self._pieces.take()
        self._read_on()
        return piece

    def _read_on(self) -> None:
        if self._reader.behind:
            return
        if self._paused and not self._connection.transport.is_closing():
            self._connection.transport.resume_reading()
        self._paused = False

    async def _wait(self) -> None:
        self._waiter = self._connection.loop.create_future()
        if self._uploaded:
            self._connection.deadline.set(self.silence)
        try:
            await self._waiter
        finally:
            self._waiter = None
            if not self._done:  # a connection in the pool has a deadline of its own
                self._connection.deadline.clear()

    async def aclose(self) -> None:
        """Stop listening. A no-op once the answer was read to its end."""
        self.abandon()

    def abandon(self) -> None:
        if not self._done:
            self.fail(httpx.ReadError("nobody listens any more"))


def _reason(error: OSError) -> str:
    """Why there is no connection. The loop's words for it name live's address, which the caller is not to be told."""
    if error.errno and not isinstance(error, ssl.SSLError | socket.gaierror):
        return os.strerror(error.errno)
    return error.strerror or str(error) or type(error).__name__


def _is_chunked(fields: Fields) -> bool:
    return any(len(name) == 17 and name.lower() == b"transfer-encoding" for name, _ in fields)
