"""The connections to one endpoint: HTTP/1.1 over TCP or TLS, on asyncio and framing.py, and nothing more.

The rules:

1. A connection carries one round trip at a time. It goes back to the pool only if the round trip is complete both ways,
   the endpoint did not announce to close, not one byte was left over, and the endpoint's kernel has accepted all of
   the request. A left-over byte would begin the next caller's response; an unread upload would delay the next request.
   Nor does it go back after a 5xx: uvicorn closes after an application's exception, a moment after its 500 and
   without announcing it. The next POST would reach its kernel just before, and could not be retried. llama.cpp does the
   same after each stream of events, so after one a connection rests for `STREAM_REST` before it is used again: to dial
   for each stream would cost a caller of a distant endpoint a TLS handshake.
2. Idle connections are watched: bytes or an end on one closes it, and the kernel is asked before one is used again.
   None is kept longer than `IDLE_EXPIRY`, and none carries a request that is older than `max_age`, less up to a quarter
   of it that is chosen at random: a service that moves or grows is followed, and not by all connections at once.
3. To stop listening, with `abandon`, closes the connection: nobody can know what is still in it.
4. Reading stops while the response is on `hold`; an upload waits while `HIGH_WATER` bytes are unwritten. No more than
   `PARTS` of chunks are read in one turn; from a shadow, as `pace` says, not in every turn either.
5. `silence` bounds each wait for the endpoint; time spent waiting for this side does not count. Deadlines for the whole
   are the user's business, and `abandon` is always safe.
6. What the endpoint did wrong is one of the errors in errors.py, and nothing else. After `ClosedWhileIdle` a retry is
   safe: a reused connection ended before a single byte of the response, and retry.py finds that it had been closed
   before. If the request allows it, it is retried, once and on a new connection; else the error is raised.
7. When sending fails, what the endpoint had sent before is read, and is the response if it is whole. A response is
   whole when all of it is here, whatever is left of the request.
8. No redirect, cookie, proxy setting, .netrc, content decoding or invented field.

Nothing here awaits a response, and no leg of an exchange needs a task. The loop's callbacks report it to a `RoundTrip`;
response.py makes it a stream for code that has a task to read it in.

Why not httpx's own transport: it leaks connections on cancellation, reuses one with bytes left over, and takes ten to
sixty times the CPU (httpcore issues 830, 961, 1093; `make bench`).
"""

import asyncio
import errno
import os
import socket
import ssl
from collections.abc import Callable, Coroutine
from dataclasses import dataclass
from random import uniform
from types import TracebackType
from typing import Self, cast

from shadowproxy.serve.http1.deadline import Deadlines
from shadowproxy.serve.system.descriptors import OWN_LACK
from shadowproxy.serve.upstreams.connection import Connection
from shadowproxy.serve.upstreams.dial import Dialler
from shadowproxy.serve.upstreams.errors import (
    CLOSED_EARLY,
    ConnectError,
    ConnectTimeout,
    NameFailed,
    NoRoom,
    ReadError,
    TLSError,
)
from shadowproxy.serve.upstreams.pace import Pace
from shadowproxy.serve.upstreams.request import OutgoingRequest
from shadowproxy.serve.upstreams.roundtrip import RoundTrip, Sender
from shadowproxy.serve.upstreams.secure import secure
from shadowproxy.serve.upstreams.through import ForwardProxy, open_tunnel
from shadowproxy.serve.upstreams.tls import tls_hint

IDLE_EXPIRY = 4.0  # many model servers close at 5.0 s
STREAM_REST = 0.05
"""Seconds. llama.cpp announces `Keep-Alive: timeout=5` with a stream and closes 0.1 ms after its end. Of requests that
were sent at once after a stream, by the same connection, one in eight was lost."""
YOUNGEST = 0.75
"""The least share of `max_age` after which a connection is closed."""


@dataclass(frozen=True, slots=True)
class Statistics:
    """How many connections there are, how many of them wait in the pool, and how many uploads are under way."""

    open: int
    idle: int
    uploads: int


class Pool(Sender):
    """Owns its connections, and the tasks that connect and upload; use as `async with`. Seconds.

    A connection that is older than `max_age` carries no further request; with None it may be of any age.
    `most` is how many connections there may be at once, None for any number.
    With a `proxy` it connects to that instead; a request without TLS is sent to it with its whole URL.
    `pace` is the time between two turns of reading responses that come in floods of tiny chunks, all together.
    """

    def __init__(
        self,
        host: str,
        port: int,
        *,
        tls: ssl.SSLContext | None = None,
        proxy: ForwardProxy | None = None,
        connect_timeout: float = 5.0,
        max_age: float | None = None,
        pace: float = 0.0,
    ) -> None:
        self.host = host
        self.port = port
        self._tls = tls
        self._proxy = proxy
        self._connect_timeout = connect_timeout
        self._max_age = max_age
        self._pace = Pace(pace)
        self.most: int | None = None
        dialled = (host, port) if proxy is None else (proxy.host, proxy.port)
        self._dialler = Dialler(dialled[0], dialled[1], connect_timeout)
        self._open: set[Connection] = set()
        self._loop: asyncio.AbstractEventLoop | None = None
        self._idle = Deadlines[Connection](Connection.close)  # the last one in is the first one out
        self._resting = Deadlines[Connection](self._end_rest)
        self._connecting: dict[asyncio.Task[None], RoundTrip] = {}
        self._opening: set[Connection] = set()  # of these tasks: open already, or about to be
        self._uploads: set[asyncio.Task[None]] = set()
        self._closed = False

    def __repr__(self) -> str:
        return f"<Pool {self.host}:{self.port} {self.statistics()}>"

    @property
    def loop(self) -> asyncio.AbstractEventLoop:
        if self._loop is None:
            self._loop = asyncio.get_running_loop()  # asked for once: in Python 3.11 that is a system call
        return self._loop

    def statistics(self) -> Statistics:
        idle = len(self._idle) + len(self._resting)
        return Statistics(open=len(self._open), idle=idle, uploads=len(self._uploads))

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
        self._pace.close()
        for round_trip in list(self._connecting.values()):
            round_trip.fail(ConnectError("the endpoint was closed"))
        for connection in list(self._open):
            connection.abort()
        for upload in self._uploads:
            upload.cancel()
        if tasks := {*self._connecting, *self._uploads}:
            await asyncio.wait(tasks)

    def send(self, round_trip: RoundTrip, request: OutgoingRequest) -> None:
        """Send `request`. `round_trip` receives the response, or a failure, which comes in a later turn."""
        round_trip.assign(self, request)
        while self._idle:
            connection = self._idle.take_last()
            if self._is_too_old(connection):
                connection.close()
            elif connection.is_usable():
                round_trip.send(connection, request)
                return
        self.connect(round_trip, request)

    def take_over(self, before: "Pool") -> None:
        """Begin with what `before` knows of the addresses, if it is of the same host and port."""
        self._dialler.take_over(before._dialler)

    # Round trips call these.

    def connect(self, round_trip: RoundTrip, request: OutgoingRequest) -> None:
        round_trip.begin_connecting()
        round_trip.task = task = self.loop.create_task(self._connect_and_send(round_trip, request))
        self._connecting[task] = round_trip
        task.add_done_callback(self._end_connecting)

    def upload(self, round_trip: RoundTrip, sending: Coroutine[None, None, None]) -> None:
        round_trip.task = task = self.loop.create_task(sending)
        self._uploads.add(task)
        task.add_done_callback(self._uploads.discard)

    def call_in_turn(self, callback: Callable[[], None]) -> None:
        self._pace.call_in_turn(callback)

    # Connections call these.

    def add(self, connection: Connection) -> None:
        self._open.add(connection)
        if self._max_age is not None:
            connection.close_after = self.loop.time() + self._max_age * uniform(YOUNGEST, 1.0)

    def remove(self, connection: Connection) -> None:
        self._open.discard(connection)
        self._opening.discard(connection)
        self._idle.drop(connection)
        self._resting.drop(connection)

    def keep(self, connection: Connection, *, rest: bool) -> bool:
        if self._closed or self._is_too_old(connection):
            return False
        if rest:
            self._resting.set(connection, self.loop.time() + STREAM_REST)
        else:
            self._idle.set(connection, self.loop.time() + IDLE_EXPIRY)
        return True

    def _end_rest(self, connection: Connection) -> None:
        self._idle.set(connection, self.loop.time() + IDLE_EXPIRY - STREAM_REST)

    def _end_connecting(self, task: asyncio.Task[None] | None) -> None:
        if task is not None:
            self._connecting.pop(task, None)

    async def _connect_and_send(self, round_trip: RoundTrip, request: OutgoingRequest) -> None:
        try:
            connection = await self._connect()
            # In this turn: with both of them counted, another request that begins now would find no room.
            self._opening.discard(connection)
            self._end_connecting(round_trip.task)
            round_trip.task = None  # from here on there is nothing to cancel
            if not connection.is_open:  # it ended in the turn that opened it, and nothing else will report that
                raise ReadError(CLOSED_EARLY)
            round_trip.send(connection, request)
        except Exception as error:  # noqa: BLE001  # not swallowed: the round trip ends with it
            self._end_connecting(round_trip.task)
            round_trip.task = None
            round_trip.fail(error)

    async def _connect(self) -> Connection:
        if self._closed:
            raise ConnectError("the endpoint was closed")
        if not self._has_room():
            raise NoRoom(f"all {self.most} file descriptors that this proxy has for it are taken")
        try:
            async with asyncio.timeout(self._connect_timeout):
                connection = await self._dialler.connect(self._open_over)
        except TimeoutError:
            raise ConnectTimeout(f"no connection within {self._connect_timeout:g} s") from None
        except OSError as error:
            if error.errno in OWN_LACK and not isinstance(error, ssl.SSLError | socket.gaierror):
                name = errno.errorcode.get(error.errno, "")
                raise NoRoom(f"{name} ({os.strerror(error.errno)}): this proxy has no room for a connection") from error
            if isinstance(error, socket.gaierror):
                raise NameFailed(_reason(error)) from error
            failed = TLSError if isinstance(error, ssl.SSLError) else ConnectError
            raise failed(_reason(error)) from error
        return connection

    def _has_room(self) -> bool:
        """Whether one of `_connecting` may open, for which an idle connection is closed where there is one."""
        if self.most is None or len(self._open) + len(self._connecting) <= self.most:
            return True
        idle = len(self._idle) + len(self._resting)
        carrying = sum(each not in self._opening and not each.is_ending for each in self._open) - idle
        for _ in range(min(idle, carrying + idle + len(self._connecting) - self.most)):
            (self._idle or self._resting).take_last().close()
        return carrying + len(self._connecting) <= self.most

    async def _open_over(self, sock: socket.socket) -> Connection:
        if self._proxy is not None and self._tls is not None:
            await open_tunnel(sock, self._proxy, self.host, self.port)
        connection = Connection(self, self.loop, sock)
        self._opening.add(connection)
        try:
            if self._tls is not None:
                await secure(self.loop, sock, connection, self._tls, self.host)
            else:
                await self.loop.create_connection(lambda: cast(asyncio.Protocol, connection), sock=sock)
        except BaseException:
            connection.abort()
            raise
        return connection

    def _is_too_old(self, connection: Connection) -> bool:
        return self._max_age is not None and self.loop.time() >= connection.close_after


def _reason(error: OSError) -> str:
    """Why there is no connection. The loop's words for it name live's address, which callers must not see."""
    if error.errno and not isinstance(error, ssl.SSLError | socket.gaierror):
        return os.strerror(error.errno)
    return (error.strerror or str(error) or type(error).__name__) + tls_hint(error)
