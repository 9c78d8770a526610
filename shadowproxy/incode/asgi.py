"""An ASGI application that is mirrored: each message passes as it is, and what an exchange needs of it is noted.

Rules:

1. The application gets the server's own scope, and each message that it receives or sends is the server's or its own
   object. Nothing is received ahead: what the application does not read of a request is not awaited.
2. A message that the application sends is noted before the server has it, so that times are the application's. What
   is sent to the companion is sent later, so that no caller waits for that: the request in the event loop's next turn,
   when the application waits for something or has answered, and the answer after the server has its last message.
3. What is noted never raises: an exchange that cannot be read is given up, and the application does not see it.
4. An exception of the application's, or of the server's, passes unchanged and ends the exchange.
5. Only `http` is mirrored. WebSockets go to the application untouched, and so does lifespan: but before the application
   says that it has shut down, what waits for the companion is sent. Servers end by a signal then: nothing more runs.
"""

import asyncio
import time
from collections.abc import Awaitable, Callable, MutableMapping
from typing import Any, Final
from urllib.parse import quote

from shadowproxy.exchange import Fields, Outcome
from shadowproxy.incode.connection import Connection
from shadowproxy.incode.exchanges import Exchange, Sender
from shadowproxy.incode.noting import LEFT, log, note, stated_length

Message = MutableMapping[str, Any]
Scope = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]
Application = Callable[[Scope, Receive, Send], Awaitable[Any]]

_UNSEEN: Final = frozenset({"http.response.pathsend", "http.response.zerocopysend"})
"""Messages that have the server send a file, whose bytes do not come by here."""

SHUTDOWN: Final = 5.0
"""Seconds that the shutdown of an application waits at most until all has been sent."""

_SHUT_DOWN: Final = frozenset({"lifespan.shutdown.complete", "lifespan.shutdown.failed"})

_PATH: Final = "/:@!$&'()*+,;=-._~"
"""What a path may have as it is: RFC 3986, section 3.3."""


class MirroredApplication:
    """`app`, mirrored. Attributes are the application's own, so that routes can still be added to it.

    It can be given to a server, or stand among an application's middleware.
    """

    __slots__ = ("_app", "_sender")

    def __init__(self, app: Application, sender: Sender) -> None:
        self._app = app
        self._sender = sender

    def __repr__(self) -> str:
        return f"<mirrored {self._app!r}>"

    def __getattr__(self, name: str) -> Any:
        if name in MirroredApplication.__slots__:  # not set yet: it is being copied
            raise AttributeError(name)
        return getattr(self._app, name)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> Any:
        passage = _begin(scope, self._sender, receive, send)
        if passage is None:
            if scope.get("type") == "lifespan":
                send = _pushing(send, self._sender)
            return await self._app(scope, receive, send)
        try:
            result = await self._app(scope, passage.receive, passage.send)
        except BaseException as error:
            passage.break_off(error)
            raise
        passage.break_off(None)
        return result


class _Passage:
    """One exchange's messages, between the server and the application."""

    __slots__ = (
        "_exchange",
        "_fields",
        "_is_head",
        "_last",
        "_left",
        "_over",
        "_receive",
        "_request_over",
        "_send",
        "_started",
        "_trailers",
        "_unsent",
    )

    def __init__(self, exchange: Exchange, receive: Receive, send: Send, *, is_head: bool) -> None:
        self._exchange = exchange
        self._receive = receive
        self._send = send
        self._is_head = is_head  # the server leaves out what the application gives as a body
        self._over = False  # nothing is noted any more
        self._request_over = False
        self._unsent = False  # the request is whole, and the companion does not have it yet
        self._left = False  # the server has said that the caller left
        self._started = False
        self._fields: Fields = ()
        self._trailers = False  # they follow the body
        self._last = False  # the answer's last message has been sent

    async def receive(self) -> Message:
        message = await self._receive()
        if not self._over and not note(self._note_received, message):
            self._give_up()
        return message

    async def send(self, message: Message) -> None:
        if self._over:
            await self._send(message)
            return
        if not note(self._note_sent, message):
            self._give_up()
        try:
            await self._send(message)
        except OSError:
            self._left = True  # how servers say so, from version 2.4 of the protocol's part for HTTP
            raise
        if self._last and not self._over:
            self._over = True
            self._send_request()
            note(self._exchange.end)

    def break_off(self, error: BaseException | None) -> None:
        """The application has returned, or raised `error`. If its answer is not complete, it never will be."""
        if self._over:
            return
        if self._left:
            self._fail(Outcome.CALLER_LEFT, LEFT)
        elif error is None:
            self._fail(Outcome.INCOMPLETE, "the application returned before its answer was complete")
        elif isinstance(error, Exception):
            self._fail(Outcome.INCOMPLETE, f"the application raised {type(error).__name__}")
        else:
            self._fail(Outcome.INCOMPLETE, f"the application was ended by {type(error).__name__}")

    def end_request(self) -> None:
        """The request is whole."""
        self._request_over = self._unsent = True
        try:
            asyncio.get_running_loop().call_soon(self._send_request)
        except RuntimeError:  # the loop is trio's
            self._send_request()

    def _send_request(self) -> None:
        if self._unsent:
            self._unsent = False
            note(self._exchange.request_end)

    def _note_received(self, message: Message) -> None:
        kind = message["type"]
        if kind == "http.request":
            if self._request_over:
                return
            body = message.get("body", b"")
            if body:
                self._exchange.request_body(body)
            if not message.get("more_body", False):
                self.end_request()
        elif kind == "http.disconnect":
            self._left = True

    def _note_sent(self, message: Message) -> None:
        kind = message["type"]
        if kind == "http.response.start":
            if self._started:
                return  # the server will refuse it
            headers = message.get("headers", ())
            if not isinstance(headers, list | tuple):  # it may be readable only once
                message["headers"] = headers = list(headers)
            self._started = True
            self._trailers = bool(message.get("trailers", False))
            self._fields = tuple((name, value) for name, value in headers)
            self._exchange.answer(message["status"], self._fields)
        elif not self._started:
            return
        elif kind == "http.response.body":
            body = message.get("body", b"")
            if body and not self._is_head:
                self._exchange.answer_body(body)
            self._last = not message.get("more_body", False) and not self._trailers
        elif kind in _UNSEEN:
            if not self._is_head:
                self._exchange.answer_unseen(stated_length(self._fields))
            self._last = not message.get("more_body", False) and not self._trailers
        elif kind == "http.response.trailers":
            self._last = not message.get("more_trailers", False)

    def _give_up(self) -> None:
        self._fail(Outcome.PROTOCOL_ERROR, "a message of this exchange could not be read")

    def _fail(self, outcome: Outcome, error: str) -> None:
        self._over = True
        self._send_request()
        note(self._exchange.fail, outcome, error)


def _begin(scope: Scope, sender: Sender, receive: Receive, send: Send) -> _Passage | None:
    """The passage of an HTTP request, None if it is not to be mirrored."""
    if scope.get("type") != "http":
        return None
    try:
        headers = scope["headers"]
        if not isinstance(headers, list | tuple):
            scope["headers"] = headers = list(headers)
        fields = tuple((name, value) for name, value in headers)
        method, whole = scope["method"], _has_no_body(scope, fields)
        exchange = sender.begin(method, _target(scope), fields, at_ns=time.time_ns())
    except Exception as error:  # noqa: BLE001 (whatever a server says, the application gets it)
        log(error)
        return None
    if exchange is None:
        return None
    passage = _Passage(exchange, receive, send, is_head=method == "HEAD")
    if whole:
        passage.end_request()
    return passage


def _pushing(send: Send, sender: Sender) -> Send:
    """`send` for lifespan. While nothing was mirrored it waits for nothing."""

    async def sending(message: Message) -> None:
        try:
            if message["type"] in _SHUT_DOWN and sender.connection.is_used:
                await _push(sender.connection)
        except Exception as error:  # noqa: BLE001 (the application shuts down all the same)
            log(error)
        await send(message)

    return sending


async def _push(connection: Connection) -> None:
    try:
        loop = asyncio.get_running_loop()
    except RuntimeError:  # the loop is trio's, and has nothing else to do
        connection.push(SHUTDOWN)
    else:
        await loop.run_in_executor(None, connection.push, SHUTDOWN)


def _target(scope: Scope) -> bytes:
    """The path as the server was sent it, where it tells, and the query."""
    raw = scope.get("raw_path")
    # A few servers put the query behind it.
    path: bytes = raw.partition(b"?")[0] if raw else quote(scope["path"], safe=_PATH).encode("ascii")
    query: bytes = scope.get("query_string", b"")
    return b"%b?%b" % (path, query) if query else path


def _has_no_body(scope: Scope, fields: Fields) -> bool:
    """Whether the head alone says that no body follows, so that shadows need not wait for the application to look."""
    for name, value in fields:
        lower = name.lower()
        if lower == b"transfer-encoding" or (lower == b"content-length" and value.strip() != b"0"):
            return False
    if str(scope.get("http_version", "1.1")).startswith("1"):
        return True
    return scope["method"] in ("GET", "HEAD")  # a request in HTTP/2 may have a body without saying so
