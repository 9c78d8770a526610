"""Transports for clients of httpx and httpx2 that are mirrored: requests, answers and errors pass as they are.

Rules:

1. Neither package is imported here. Which of them a client is of shows in the first request it sends, and so does which
   transport is made where none was given.
2. The inner transport gets the client's own request, and the client gets the inner transport's own response. Only a
   stream that can be read once is replaced, by one of the same package that notes each piece as it passes.
3. Each call of the transport is an exchange: a redirect that is followed, and a retry of a client's, are further ones.
4. The exchange is ended by the answer's last byte, by `close`, or by what the inner transport raised, which passes
   unchanged. What is noted never raises.
"""

import ssl
import sys
import time
from collections.abc import AsyncIterator, Iterator
from types import ModuleType, TracebackType
from typing import Any, Final

from shadowproxy.exchange import Outcome
from shadowproxy.incode.exchanges import Exchange, Sender
from shadowproxy.incode.noting import LEFT, log, note

_OUTCOMES: Final = {
    "TimeoutException": Outcome.TIMEOUT,
    "ConnectError": Outcome.CONNECT_ERROR,
    "ProxyError": Outcome.CONNECT_ERROR,
    "ProtocolError": Outcome.PROTOCOL_ERROR,
    "UnsupportedProtocol": Outcome.PROTOCOL_ERROR,
    "NetworkError": Outcome.INCOMPLETE,
}
"""httpx's own exceptions, by the names of their classes: the first that fits."""

_TELLING: Final = frozenset({"NetworkError", "TimeoutException", "RemoteProtocolError"})
"""Those whose text tells of the network. Others may quote a header field, and that may be a credential."""


class Transport:
    """A transport of httpx or httpx2 around `inner`, or around a new one of the client's package.

    Owns the inner transport, as clients own theirs: it is closed with this one.
    """

    def __init__(self, inner: Any, sender: Sender) -> None:
        self._inner = inner
        self._sender = sender
        self._entered = False

    def __repr__(self) -> str:
        return f"<mirrored {self._inner!r}>"

    def __enter__(self) -> "Transport":
        self._entered = True
        if self._inner is not None:
            self._inner.__enter__()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None = None,
        error: BaseException | None = None,
        trace: TracebackType | None = None,
    ) -> None:
        self._entered = False
        if self._inner is not None:
            self._inner.__exit__(kind, error, trace)

    def close(self) -> None:
        if self._inner is not None:
            self._inner.close()

    def handle_request(self, request: Any) -> Any:
        inner = self._inner
        if inner is None:
            inner = self._make(request)
        exchange = _begin(request, self._sender)
        if exchange is None:
            return inner.handle_request(request)
        noting = _noting_request(request, exchange, sync=True)
        try:
            response = inner.handle_request(request)
        except BaseException as error:
            note(exchange.fail, *_failure(error))
            raise
        finally:
            if noting is not None and request.stream is noting:
                request.stream = noting.stream
        _noting_response(response, exchange, sync=True)
        return response

    def _make(self, request: Any) -> Any:
        made = _package(request).HTTPTransport()
        inner = self._inner = self._inner or made  # another thread may have been faster; then this one was not used yet
        if self._entered and inner is made:
            inner.__enter__()
        return inner


class AsyncTransport:
    """The same for asynchronous clients, on asyncio and trio."""

    def __init__(self, inner: Any, sender: Sender) -> None:
        self._inner = inner
        self._sender = sender
        self._entered = False

    def __repr__(self) -> str:
        return f"<mirrored {self._inner!r}>"

    async def __aenter__(self) -> "AsyncTransport":
        self._entered = True
        if self._inner is not None:
            await self._inner.__aenter__()
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None = None,
        error: BaseException | None = None,
        trace: TracebackType | None = None,
    ) -> None:
        self._entered = False
        if self._inner is not None:
            await self._inner.__aexit__(kind, error, trace)

    async def aclose(self) -> None:
        if self._inner is not None:
            await self._inner.aclose()

    async def handle_async_request(self, request: Any) -> Any:
        inner = self._inner
        if inner is None:
            inner = self._inner = _package(request).AsyncHTTPTransport()
            if self._entered:
                await inner.__aenter__()
        exchange = _begin(request, self._sender)
        if exchange is None:
            return await inner.handle_async_request(request)
        noting = _noting_request(request, exchange, sync=False)
        try:
            response = await inner.handle_async_request(request)
        except BaseException as error:
            note(exchange.fail, *_failure(error))
            raise
        finally:
            if noting is not None and request.stream is noting:
                request.stream = noting.stream
        _noting_response(response, exchange, sync=False)
        return response


def _package(message: Any) -> ModuleType:
    """The package that a request or a response is of: httpx, httpx2, or what stands in for one of them."""
    for each in type(message).__mro__:
        package = sys.modules.get(each.__module__.partition(".")[0])
        if package is not None and hasattr(package, "AsyncHTTPTransport") and hasattr(package, "SyncByteStream"):
            return package
    raise TypeError(f"{type(message).__name__} is not a request or a response of httpx or httpx2")


def _begin(request: Any, sender: Sender) -> Exchange | None:
    try:
        fields = tuple((name, value) for name, value in request.headers.raw)
        return sender.begin(request.method, request.url.raw_path, fields, at_ns=time.time_ns())
    except Exception as error:  # noqa: BLE001 (whatever a client sends, its transport gets it)
        log(error)
        return None


def _noting_request(request: Any, exchange: Exchange, *, sync: bool) -> Any:
    """Note the request's body, now or as it is read: then by a stream that takes the place of the request's own."""
    try:
        package, stream = _package(request), request.stream
        if isinstance(stream, package.ByteStream):
            exchange.request_body(b"".join(stream))
            exchange.request_end()
            return None
        noting = _streams(package)[not sync](stream, exchange.request_body, exchange.request_end, None)
        request.stream = noting
        return noting
    except Exception as error:  # noqa: BLE001 (whatever a client sends, its transport gets it)
        log(error)
        return None


def _noting_response(response: Any, exchange: Exchange, *, sync: bool) -> None:
    """Note the response, and its body as the client reads it."""
    try:
        package, stream = _package(response), response.stream
        exchange.answer(response.status_code, tuple((name, value) for name, value in response.headers.raw))
        if isinstance(stream, package.ByteStream):
            exchange.answer_body(b"".join(stream))
            exchange.end()
            return
        response.stream = _streams(package)[not sync](stream, exchange.answer_body, exchange.end, exchange.fail)
    except Exception as error:  # noqa: BLE001 (whatever a transport returns, the client gets it)
        log(error)
        note(exchange.fail, Outcome.PROTOCOL_ERROR, "the response could not be read")


def _failure(error: BaseException) -> tuple[Outcome, str]:
    """The outcome that an exception of a transport's stands for, and why as one line."""
    names = [each.__name__ for each in type(error).__mro__]
    name = names[0]
    if not isinstance(error, Exception):
        return Outcome.CALLER_LEFT, f"the caller was ended by {name}"
    found = next((outcome for known, outcome in _OUTCOMES.items() if known in names), Outcome.INCOMPLETE)
    if found is Outcome.CONNECT_ERROR and _is_of_tls(error):
        found = Outcome.TLS_ERROR
    if _text(error) and (_TELLING & set(names)):
        name = f"{name}: {_text(error)}"
    return found, name


def _text(error: Exception) -> str:
    try:
        return str(error)
    except Exception:  # noqa: BLE001 (an exception may have any __str__)
        return ""


def _is_of_tls(error: BaseException | None) -> bool:
    seen = 0
    while error is not None and seen < 10:
        if isinstance(error, ssl.SSLError):
            return True
        error, seen = error.__context__, seen + 1
    return False


_made: dict[str, tuple[type[Any], type[Any]]] = {}
"""The streams of each package, by its name: at most one pair for each package that looks like httpx."""


def _streams(package: ModuleType) -> tuple[type[Any], type[Any]]:
    """Streams of the package, which asks for its own: for what is sent without waiting, and with."""
    made = _made.get(package.__name__)
    if made is None:
        made = (
            type("NotingStream", (_SyncPieces, package.SyncByteStream), {}),
            type("AsyncNotingStream", (_AsyncPieces, package.AsyncByteStream), {}),
        )
        _made[package.__name__] = made
    return made


class _Noting:
    """A stream's pieces on their way: each is noted, then its end, or else how it broke off."""

    def __init__(self, stream: Any, note: Any, end: Any, fail: Any) -> None:
        self.stream = stream
        self._note_piece = note
        self._end = end
        self._fail = fail
        self._over = False

    def add(self, piece: Any) -> None:
        if not self._over:
            note(self._note_piece, piece)

    def end(self) -> None:
        if not self._over:
            self._over = True
            note(self._end)

    def break_off(self, error: BaseException | None) -> None:
        if self._over:
            return
        self._over = True
        if self._fail is not None:  # a request's has none: what its transport raises says it all
            note(self._fail, *((Outcome.CALLER_LEFT, LEFT) if error is None else _failure(error)))

    def __del__(self) -> None:
        self.break_off(None)


class _SyncPieces(_Noting):
    def __iter__(self) -> Iterator[bytes]:
        return _Pieces(iter(self.stream), self)

    def close(self) -> None:
        try:
            self.stream.close()
        finally:
            self.break_off(None)


class _AsyncPieces(_Noting):
    def __aiter__(self) -> AsyncIterator[bytes]:
        return _AsyncIterator(self.stream.__aiter__(), self)

    async def aclose(self) -> None:
        try:
            await self.stream.aclose()
        finally:
            self.break_off(None)


class _Pieces:
    """No generator, so that one that is not read to its end is closed when it would be without this."""

    def __init__(self, pieces: Iterator[bytes], noting: _Noting) -> None:
        self._pieces = pieces
        self._noting = noting

    def __iter__(self) -> Iterator[bytes]:
        return self

    def __next__(self) -> bytes:
        try:
            piece = next(self._pieces)
        except StopIteration:
            self._noting.end()
            raise
        except BaseException as error:
            self._noting.break_off(error)
            raise
        self._noting.add(piece)
        return piece


class _AsyncIterator:
    def __init__(self, pieces: AsyncIterator[bytes], noting: _Noting) -> None:
        self._pieces = pieces
        self._noting = noting

    def __aiter__(self) -> AsyncIterator[bytes]:
        return self

    async def __anext__(self) -> bytes:
        try:
            piece = await self._pieces.__anext__()
        except StopAsyncIteration:
            self._noting.end()
            raise
        except BaseException as error:
            self._noting.break_off(error)
            raise
        self._noting.add(piece)
        return piece
