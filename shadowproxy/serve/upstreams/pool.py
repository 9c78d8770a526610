"""One origin: HTTP/1.1 over TCP or TLS, on asyncio and framing.py, and nothing more.

The rules:

1. A connection carries one exchange at a time, and goes back to the pool only if that exchange is complete both ways,
   the peer did not ask to close, not one byte was left over, and the peer's kernel has taken all of the request. A
   left-over byte would be the next caller's answer, and an upload that was not read would be before the next request.
2. Idle connections are watched: bytes or an end on one closes it, and the kernel is asked before one is used again.
   None is kept longer than `IDLE_EXPIRY`.
3. Whoever stops listening, by `abandon`, closes the connection: nobody can know what is still in it.
4. Reading stops while who is told `hold`s it; an upload waits while `HIGH_WATER` bytes are unwritten. No more than
   `PARTS` of chunks are read in one turn; of what `pace` says is a shadow's, not in every turn either.
5. `silence` bounds each wait for the peer; time spent waiting for our own side does not count. Whole deadlines are the
   caller's business, and abandoning is always safe.
6. What the peer did is raised as one of the errors of errors.py, and as nothing else. `ClosedWhileIdle` is the one that
   may be tried again: a reused connection ended before a single byte of the answer, within `IDLE_CLOSE`. It is, once
   and on a new connection, where `again` says that it may be; else it is told.
7. Where sending fails, what the peer had answered before is read, and is the answer if it is whole. An answer is whole
   when all of it is here, whatever is left of the request.
8. No redirect, cookie, proxy setting, .netrc, content decoding or invented field.

Nothing here awaits an answer: a shadow's needs no task, and live's has one already. What comes is told to an `Asking`
from the loop's callbacks, and `answer.py` makes of that a stream for who has a task to read it in.

Why not httpx's own transport: it leaks connections on cancellation, reuses one with bytes left over, and takes ten to
sixty times the CPU (httpcore issues 830, 961, 1093; `make bench`).
"""

import asyncio
import os
import socket
import ssl
from collections.abc import Coroutine
from dataclasses import dataclass
from types import TracebackType
from typing import Self, cast

from shadowproxy.serve.http1.deadline import Deadlines
from shadowproxy.serve.upstreams.asking import Asking, Message
from shadowproxy.serve.upstreams.connection import Connection
from shadowproxy.serve.upstreams.dial import Dialler
from shadowproxy.serve.upstreams.errors import ConnectError, ConnectTimeout, ReadError, TLSError
from shadowproxy.serve.upstreams.pace import Pace
from shadowproxy.serve.upstreams.secure import secure

IDLE_EXPIRY = 4.0  # many model servers close at 5.0 s


@dataclass(frozen=True, slots=True)
class Statistics:
    """How many connections there are, how many of them wait in the pool, and how many uploads are under way."""

    open: int
    idle: int
    uploads: int


class Wire:
    """Owns its connections, and the tasks that dial and upload; use as `async with`. Seconds.

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
        self._open: set[Connection] = set()
        self._loop: asyncio.AbstractEventLoop | None = None
        self._idle = Deadlines[Connection](Connection.close)  # the last one in is the first one out
        self._dials: dict[asyncio.Task[None], Asking] = {}
        self._uploads: set[asyncio.Task[None]] = set()
        self._closed = False

    def __repr__(self) -> str:
        return f"<Wire {self.host}:{self.port} {self.statistics()}>"

    @property
    def loop(self) -> asyncio.AbstractEventLoop:
        if self._loop is None:
            self._loop = asyncio.get_running_loop()  # asked for once: in Python 3.11 that is a system call
        return self._loop

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
        for asking in list(self._dials.values()):
            asking.fail(ConnectError("the endpoint was closed"))
        for connection in list(self._open):
            connection.abort()
        for upload in self._uploads:
            upload.cancel()
        if tasks := {*self._dials, *self._uploads}:
            await asyncio.wait(tasks)

    def begin(self, asking: Asking, message: Message) -> None:
        """Send `message`, and tell `asking` of the answer; of a failure too, and in a later turn."""
        asking.sent_by(self, message)
        while self._idle and not message.fresh:
            connection = self._idle.take_last()
            if connection.is_usable():
                asking.send(connection, message)
                return
        self.dial(asking, message)

    # What is asked, and the connections, call these.

    def dial(self, asking: Asking, message: Message) -> None:
        """Send by a new connection."""
        task = self.loop.create_task(self._dial(asking, message))
        asking.task = task
        self._dials[task] = asking
        task.add_done_callback(self._dials.pop)

    def upload(self, asking: Asking, sending: Coroutine[None, None, None]) -> None:
        asking.task = task = self.loop.create_task(sending)
        self._uploads.add(task)
        task.add_done_callback(self._uploads.discard)

    def opened(self, connection: "Connection") -> None:
        self._open.add(connection)

    def lost(self, connection: "Connection") -> None:
        self._open.discard(connection)
        self._idle.drop(connection)

    def keep(self, connection: "Connection") -> bool:
        """Take back a connection whose exchange is complete, if there is still use for it."""
        if self._closed:
            return False
        self._idle.set(connection, self.loop.time() + IDLE_EXPIRY)
        return True

    async def _dial(self, asking: Asking, message: Message) -> None:
        try:
            connection = await self._connect()
            asking.task = None  # from here on there is nothing to cancel
            if connection.transport.is_closing():  # it ended in the turn that opened it, and nobody says so again
                raise ReadError("the connection was closed before the request")
            asking.send(connection, message)
        except Exception as error:  # noqa: BLE001  # not swallowed: whoever asks is told
            asking.task = None
            asking.fail(error)

    async def _connect(self) -> "Connection":
        if self._closed:
            raise ConnectError("the endpoint was closed")
        loop = self.loop
        try:
            async with asyncio.timeout(self._connect_timeout):
                sock = await self._dialler.connect()
                connection = Connection(self, loop, sock)
                try:
                    if self._tls is not None:
                        await secure(loop, sock, connection, self._tls, self.host)
                    else:
                        await loop.create_connection(lambda: cast(asyncio.Protocol, connection), sock=sock)
                except BaseException:
                    connection.abort()
                    raise
        except TimeoutError:
            raise ConnectTimeout(f"no connection within {self._connect_timeout:g} s") from None
        except OSError as error:
            failed = TLSError if isinstance(error, ssl.SSLError) else ConnectError
            raise failed(_reason(error)) from error
        return connection


def _reason(error: OSError) -> str:
    """Why there is no connection. The loop's words for it name live's address, which the caller is not to be told."""
    if error.errno and not isinstance(error, ssl.SSLError | socket.gaierror):
        return os.strerror(error.errno)
    return error.strerror or str(error) or type(error).__name__
