"""Answers, with uvicorn, the requests that the admin port's front passes on. uvicorn is unmodified.

A connection comes with a request of which at least the head was read. It is given back to the front once this one
request is answered: the front waits for requests, uvicorn never does. What uvicorn lacks is added around it:

1. It is given one request and no byte behind it, rewritten as http1/framing.py has read it: h11 repairs what that
   rejects, reads many small chunks slowly, and uvicorn logs what a client can make it log.
2. A client that takes nothing of its response for STUCK seconds is disconnected, and a client that leaves ends the work
   on its response: uvicorn waits for the one, and lets the other go on.
3. If the request's body has not come whole when its response begins, the response says that the connection ends.
"""

import asyncio
import logging
import socket
from typing import Any, cast

import uvicorn
from starlette.types import ASGIApp, Message, Receive, Scope, Send
from uvicorn.protocols.http.h11_impl import H11Protocol
from uvicorn.server import ServerState

from shadowproxy.serve.http1 import bodies, framing
from shadowproxy.serve.http1.bodies import BodyReader
from shadowproxy.serve.http1.deadline import Deadline
from shadowproxy.serve.http1.framing import FramingError, Length, RequestHead
from shadowproxy.serve.probes.passing import Channel, Kind, Passed
from shadowproxy.serve.telemetry.operator_log import Repeats, times_text

STUCK = 10.0
"""Seconds in which a client must take some of what is sent to it."""

SEND_BUFFER = 128 << 10
"""Bytes that the system keeps for a client, twice. Only when a third of them is taken can more be sent, which is all
that can be seen of a client that reads slowly: of the usual 2.5 MB, 80 KB a second would look like nothing at all."""

RECEIVE = 16 << 10
"""Bytes that are read of a connection at once."""

DRAIN = 1.0
"""Seconds that requests under way have when the recorder stops."""

_NOT_FOR_UVICORN = frozenset({b"upgrade", b"http2-settings"})  # it warns of each, and follows none
_CLOSE = (b"connection", b"close")

_log = logging.getLogger(__name__)


class Receiver:
    """Owns the channel's end and the connections that came over it, from `start` to `close`."""

    def __init__(self, end: socket.socket, app: ASGIApp) -> None:
        config = uvicorn.Config(
            _Watched(app),
            http="h11",
            ws="none",
            interface="asgi3",
            lifespan="off",
            log_config=None,
            access_log=False,
            proxy_headers=False,
            timeout_keep_alive=3600,  # a connection is given back before; see `_Answering`
        )
        config.load()
        # `_Answering` logs defects itself, and clients cause the rest of what uvicorn logs.
        logging.getLogger("uvicorn.error").disabled = True
        self._config = config
        self._state = ServerState()
        self._loop = asyncio.get_running_loop()
        self._channel = Channel(end, self._received, self._front_gone)
        self._open: dict[asyncio.Task[None], _Answering] = {}
        self._stopping = False
        self._repeats = Repeats()

    def __repr__(self) -> str:
        return f"<Receiver {len(self._open)} connections, {self._channel}>"

    def start(self) -> None:
        self._channel.start()

    async def close(self, drain: float = DRAIN) -> None:
        """Take no more; requests under way have `drain` seconds to be answered, and are then cut off."""
        self._stopping = True
        if self._open:
            await asyncio.wait(self._open, timeout=drain)
        for answering in self._open.values():
            answering.abort()
        if self._open:
            await asyncio.wait(self._open)
        if self._state.tasks:
            await asyncio.wait(self._state.tasks, timeout=DRAIN)
        self._channel.close()

    def _received(self, message: Passed) -> None:
        if message.kind is Kind.ASK:
            if not self._stopping:
                self._channel.send(Passed(Kind.HERE))
        elif message.kind is Kind.TAKE and message.connection is not None:
            answering = _Answering(self._config, self._state, message.data, self._repeats)
            task = self._loop.create_task(self._answer(message.number, message.connection, answering))
            self._open[task] = answering
            task.add_done_callback(self._open.pop)
        else:  # this process had no descriptor left for it
            self._channel.send(Passed(Kind.GONE, message.number))

    def _front_gone(self) -> None:
        """Requests under way are answered; their connections then end."""

    async def _answer(self, number: int, connection: socket.socket, answering: "_Answering") -> None:
        """Answer one request of a connection, and give the connection back."""
        ended = Kind.GONE
        try:
            connection.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, SEND_BUFFER)
            # uvicorn's transport closes what it is given; the connection goes on.
            await self._loop.connect_accepted_socket(lambda: answering, connection.dup())
            ended = await answering.ended
        except OSError:
            pass  # the client has reset it meanwhile, or there is no descriptor left
        finally:
            if ended is Kind.GONE:
                connection.close()
                self._channel.send(Passed(ended, number))
            else:
                self._channel.send(Passed(ended, number, answering.unread, connection))


class _Answering(asyncio.BufferedProtocol):
    """The request that begins with `data`, between its transport and uvicorn's protocol.

    `ended` is then BACK, CLOSE or GONE, and `unread` what came behind the request. It is read into a buffer of RECEIVE
    bytes, because all of `unread` has to go back in one message: other protocols get up to 256 KiB at once.
    """

    def __init__(self, config: uvicorn.Config, state: ServerState, data: bytes, repeats: Repeats) -> None:
        self._loop = asyncio.get_running_loop()
        self.ended: asyncio.Future[Kind] = self._loop.create_future()
        self.unread = b""
        self._repeats = repeats
        self._first = data
        self._received = bytearray(RECEIVE)
        self._uvicorn = H11Protocol(config, state, {"answering": self})
        self._transport: asyncio.Transport  # from `connection_made` on
        self._connected = False
        self._cut_off = False
        self._reader: BodyReader
        self._chunked = False
        self._error: FramingError | None = None
        self._task: asyncio.Task[Any] | None = None
        self._complete = False  # the response is written to its end
        self._left = False  # the client has left before that
        self._writing = False  # not all that was written is sent
        self._unsent = 0
        self._stuck = Deadline(self._loop, self._no_progress)

    # The transport calls these.

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.Transport, transport)
        self._connected = True
        if self._cut_off:
            self._transport.abort()
        self._transport.set_write_buffer_limits(high=0)  # so that `pause_writing` says whether anything is unsent
        self._uvicorn.connection_made(self._transport)
        head, _, rest = self._first.partition(b"\r\n\r\n")
        parsed = framing.parse_request_head(head)  # the front has done so too
        self._reader = bodies.body_reader(parsed.framing)
        self._chunked = parsed.framing is Length.CHUNKED
        self._uvicorn.data_received(_written(parsed))
        self._take(rest)

    def get_buffer(self, sizehint: int) -> bytearray:
        return self._received

    def buffer_updated(self, nbytes: int) -> None:
        self._take(bytes(memoryview(self._received)[:nbytes]))

    def eof_received(self) -> bool:
        # A client that sends no more may still read, as `nc -N` does: it gets its response. If a part of the request is
        # missing, there is no response to wait for.
        return self._reader.done

    def _take(self, data: bytes) -> None:
        if self._reader.done or self._error is not None:
            self.unread += data
            if data:
                self._transport.pause_reading()
            return
        try:
            body, self.unread = self._reader.feed(data)
        except FramingError as error:
            self._error = error
            self._uvicorn.data_received(bodies.LAST_CHUNK)  # wakes the reader of the body, who gets the error
            self._transport.pause_reading()
            return
        if body:
            self._uvicorn.data_received(bodies.write_chunk(body) if self._chunked else body)
        if self._reader.done:
            if self._chunked:
                self._uvicorn.data_received(bodies.LAST_CHUNK)
            if self.unread:
                self._transport.pause_reading()

    def pause_writing(self) -> None:
        self._writing = True
        self._unsent = self._transport.get_write_buffer_size()
        self._stuck.set(STUCK)
        self._uvicorn.pause_writing()

    def resume_writing(self) -> None:
        self._writing = False
        self._stuck.clear()
        self._uvicorn.resume_writing()
        if self._complete:
            self._finish()

    def connection_lost(self, error: Exception | None) -> None:
        self._stuck.close()
        if not self._complete:
            self._left = True
            if self._task is not None:
                self._task.cancel()
        if not self.ended.done():
            self._uvicorn.connection_lost(error)
            keep = self._complete and error is None
            self.ended.set_result(Kind.CLOSE if keep else Kind.GONE)

    def abort(self) -> None:
        """Close the connection at once, if need be as soon as it is there."""
        self._cut_off = True
        if self._connected:
            self._transport.abort()

    # The application's task calls these.

    async def answer(self, app: ASGIApp, scope: Scope, receive: Receive, send: Send) -> None:
        """Have the application answer the request, and give the connection back after it."""
        self._task = asyncio.current_task()

        async def receive_checked() -> Message:
            message = await receive()
            if self._error is not None:
                raise self._error
            return message

        async def send_watched(message: Message) -> None:
            if message["type"] == "http.response.start" and not self._reader.done:
                message = {**message, "headers": [*message["headers"], _CLOSE]}
            await send(message)
            if message["type"] == "http.response.body" and not message.get("more_body", False):
                self._complete = True
                if not self._writing:
                    self._finish()

        try:
            await app(scope, receive_checked, send_watched)
        except asyncio.CancelledError:
            if not self._left:
                raise
        except Exception:  # noqa: BLE001  # the last resort: the operator gets the traceback
            _log.exception("a defect in the proxy: this request ends, the others go on", extra={"event": "defect"})
            if not self._complete:
                self.abort()

    def _finish(self) -> None:
        """The response is sent: take the connection from uvicorn, unless it closes it itself."""
        if self._transport.is_closing() or self.ended.done():
            return
        self._transport.pause_reading()
        self.ended.set_result(Kind.BACK if self._reader.done else Kind.CLOSE)
        self._uvicorn.connection_lost(None)  # which closes the transport, not the connection

    def _no_progress(self) -> None:
        unsent = self._transport.get_write_buffer_size()
        if unsent < self._unsent:
            self._unsent = unsent
            self._stuck.set(STUCK)
            return
        if count := self._repeats.worth_logging("stuck"):
            extra = {"event": "caller_stuck", "seconds": STUCK, "count": count}
            words = "a client of the admin server read nothing of its response for %g s; its connection is closed%s"
            _log.info(words, STUCK, times_text(count), extra=extra)
        self.abort()


class _Watched:
    """The application as uvicorn calls it: each request through its connection's `_Answering`."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        answering: _Answering = scope["state"].pop("answering")
        await answering.answer(self._app, scope, receive, send)


def _written(head: RequestHead) -> bytes:
    """A head with all that the application may see, as h11 accepts it."""
    target = b"".join(bytes([byte]) if byte < 0x80 else b"%%%02X" % byte for byte in head.target)
    line = b"%b %b HTTP/%b" % (head.method.encode(), target, b"1.0" if head.http10 else b"1.1")
    return framing.write_head(line, [field for field in head.fields if field[0].lower() not in _NOT_FOR_UVICORN])
