"""A WSGI application that is mirrored: what it reads, returns and writes passes as it is, and a copy is noted.

Rules:

1. The application gets the server's own `environ`, in which `wsgi.input` notes what is read. Nothing is read ahead.
2. The server gets what it would get without: a list stays a list of the same length, an object of the server's own
   `wsgi.file_wrapper` stays this object, and of anything else each item is passed when it comes.
3. The exchange is ended after the server has sent the last item.
4. What is noted never raises. An exception of the application's passes unchanged and ends the exchange.
"""

import time
from collections.abc import Callable, Iterable, Iterator
from typing import Any, Final
from urllib.parse import quote

from shadowproxy.exchange import Fields, Outcome
from shadowproxy.incode.exchanges import Exchange, Sender
from shadowproxy.incode.noting import LEFT, log, note, stated_length

Environ = dict[str, Any]
Application = Callable[[Environ, Callable[..., Any]], Iterable[bytes]]

_PATH: Final = "/:@!$&'()*+,;=-._~"
"""What a path may have as it is: RFC 3986, section 3.3."""

_INTO: Final = frozenset({"readinto", "readinto1"})
_READS: Final = frozenset({"read1", "readall"})
"""Methods that a server's input may have beyond those that WSGI asks for."""


class MirroredApplication:
    """`app`, mirrored. Attributes are the application's own."""

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

    def __call__(self, environ: Environ, start_response: Callable[..., Any]) -> Iterable[bytes]:
        passage = _begin(environ, self._sender)
        if passage is None:
            return self._app(environ, start_response)
        try:
            result = self._app(environ, passage.starting(start_response))
        except BaseException as error:
            passage.break_off(error)
            raise
        return passage.answering(result, environ.get("wsgi.file_wrapper"))


class _Passage:
    """One exchange, between the server and the application."""

    __slots__ = ("_exchange", "_fields", "_is_head", "_left", "_started", "over")

    def __init__(self, exchange: Exchange, *, is_head: bool) -> None:
        self._exchange = exchange
        self._is_head = is_head  # the server leaves out what the application gives as a body
        self.over = False  # nothing is noted any more
        self._left = False  # the server could not send
        self._started = False
        self._fields: Fields = ()

    def starting(self, start_response: Callable[..., Any]) -> Callable[..., Any]:
        """The server's `start_response`, which notes what it is given."""

        def start(*given: Any, **named: Any) -> Any:
            write = start_response(*given, **named)
            self.note(lambda: self._start(*given, **named))

            def noting(data: Any) -> Any:
                self.note_item(data)
                try:
                    return write(data)
                except OSError:
                    self._left = True
                    raise

            return noting

        return start

    def _start(self, status: str, headers: list[tuple[str, str]], exc_info: object = None) -> None:
        fields = tuple((name.encode("latin-1"), value.encode("latin-1")) for name, value in headers)
        self._started = True
        self._fields = fields
        self._exchange.answer(int(status[:3]), fields)

    def answering(self, result: Iterable[bytes], file_wrapper: Any) -> Iterable[bytes]:
        """What the server gets for what the application returned."""
        if self.over:
            return result
        if type(result) is list:
            return _Items(result, self)
        if isinstance(file_wrapper, type) and isinstance(result, file_wrapper):
            if not self._is_head:
                self.note(lambda: self._exchange.answer_unseen(stated_length(self._fields)))
            self.end()
            return result
        return _SizedAnswer(result, self) if hasattr(result, "__len__") else _Answer(result, self)

    def note_item(self, item: Any) -> None:
        if not self._is_head:
            self.note(self._exchange.answer_body, item)

    def note_request(self, data: Any, *, to_end: bool) -> None:
        """Some of the request's body, or its last."""
        if data:
            self.note(self._exchange.request_body, data)
        if to_end:
            self.note(self._exchange.request_end)

    def end(self) -> None:
        if self.over:
            return
        if not self._started:
            self._fail(Outcome.INCOMPLETE, "the application did not call start_response")
            return
        self.over = True
        note(self._exchange.end)

    def break_off(self, error: BaseException | None) -> None:
        """Its answer is not complete and never will be: it raised `error`, or the server stopped asking."""
        if self.over:
            return
        if error is None or self._left:
            self._fail(Outcome.CALLER_LEFT, LEFT)
        elif isinstance(error, Exception):
            self._fail(Outcome.INCOMPLETE, f"the application raised {type(error).__name__}")
        else:
            self._fail(Outcome.INCOMPLETE, f"the application was ended by {type(error).__name__}")

    def note(self, call: Callable[..., Any], *given: Any) -> None:
        if not self.over and not note(call, *given):
            self._fail(Outcome.PROTOCOL_ERROR, "this exchange could not be read")

    def _fail(self, outcome: Outcome, error: str) -> None:
        self.over = True
        note(self._exchange.fail, outcome, error)


class _Items(list[bytes]):
    """A list of all items: servers take an answer's length from it. It is noted once the server has sent them."""

    __slots__ = ("_passage",)

    def __init__(self, items: list[bytes], passage: _Passage) -> None:
        super().__init__(items)
        self._passage = passage

    def close(self) -> None:
        for item in self:
            self._passage.note_item(item)
        self._passage.end()

    def __del__(self) -> None:
        if not self._passage.over:  # a server that does not close what it was given
            self.close()


class _Answer:
    """The items of an answer, each noted as it passes."""

    __slots__ = ("_items", "_iterator", "_passage")

    def __init__(self, items: Iterable[bytes], passage: _Passage) -> None:
        self._items = items
        self._iterator: Iterator[bytes] | None = None
        self._passage = passage

    def __iter__(self) -> Iterator[bytes]:
        try:
            self._iterator = iter(self._items)
        except BaseException as error:
            self._passage.break_off(error)
            raise
        return self

    def __next__(self) -> bytes:
        if self._iterator is None:
            iter(self)
        assert self._iterator is not None
        try:
            item = next(self._iterator)
        except StopIteration:
            self._passage.end()
            raise
        except BaseException as error:
            self._passage.break_off(error)
            raise
        self._passage.note_item(item)
        return item

    def close(self) -> None:
        try:
            close = getattr(self._items, "close", None)
            if close is not None:
                close()
        finally:
            self._passage.break_off(None)

    def __del__(self) -> None:
        self._passage.break_off(None)


class _SizedAnswer(_Answer):
    """The same of an object that knows how many items it has."""

    __slots__ = ()

    def __len__(self) -> int:
        return len(self._items)  # type: ignore[arg-type]  # it has a length, or this would be an _Answer


class _Input:
    """A request's body, noted as the application reads it. `size` is its length, None where only its end tells."""

    __slots__ = ("_inner", "_left", "_passage")

    def __init__(self, inner: Any, size: int | None, passage: _Passage) -> None:
        self._inner = inner
        self._left = size  # how much of it was not read yet
        self._passage = passage

    def __getattr__(self, name: str) -> Any:
        if name in _Input.__slots__:
            raise AttributeError(name)
        found = getattr(self._inner, name)
        if name in _READS:
            return lambda *given: self._noted(found(*given), *given)
        if name in _INTO:
            return lambda buffer: self._noted_into(found(buffer), buffer)
        return found

    def __iter__(self) -> Iterator[bytes]:
        for line in self._inner:
            yield self._noted(line)
        self._noted(b"")

    def __next__(self) -> bytes:
        line: bytes = self._noted(next(self._inner))
        return line

    def read(self, *given: Any) -> Any:
        return self._noted(self._inner.read(*given), *(given or (-1,)))

    def readline(self, *given: Any) -> Any:
        return self._noted(self._inner.readline(*given), *(each for each in given if each is not None and each >= 0))

    def readlines(self, *given: Any) -> Any:
        lines = self._inner.readlines(*given)
        self._noted(b"".join(lines))
        return lines

    def _noted(self, data: Any, asked: int | None = 1) -> Any:
        """What was read, where `asked` bytes were asked for: all that there are if it is negative or None."""
        if self._left != 0:
            note(self._note, data, asked is None or asked < 0 or (not data and asked > 0))
        return data

    def _noted_into(self, count: Any, buffer: Any) -> Any:
        if count is not None:
            self._noted(bytes(memoryview(buffer)[:count]), len(buffer))
        return count

    def _note(self, data: bytes, to_end: bool) -> None:
        if self._left is not None:
            self._left = max(self._left - len(data), 0)
            to_end = self._left == 0
        elif to_end:
            self._left = 0
        self._passage.note_request(data, to_end=to_end)


def _begin(environ: Environ, sender: Sender) -> _Passage | None:
    try:
        size = _size(environ)
        target, fields = _target(environ), _fields(environ)
        source = environ["wsgi.input"]
        exchange = sender.begin(environ["REQUEST_METHOD"], target, fields, at_ns=time.time_ns())
    except Exception as error:  # noqa: BLE001 (whatever a server says, the application gets it)
        log(error)
        return None
    if exchange is None:
        return None
    passage = _Passage(exchange, is_head=environ["REQUEST_METHOD"] == "HEAD")
    if size == 0:
        note(exchange.request_end)
    else:
        environ["wsgi.input"] = _Input(source, size, passage)
    return passage


def _size(environ: Environ) -> int | None:
    """How many bytes the body has; None where only reading to its end tells."""
    stated = environ.get("CONTENT_LENGTH")
    if stated:
        return int(stated)
    return None if environ.get("HTTP_TRANSFER_ENCODING") else 0


def _target(environ: Environ) -> bytes:
    """The target as the server was sent it, where it tells: gunicorn and Werkzeug as RAW_URI, others as REQUEST_URI."""
    raw: str | None = environ.get("RAW_URI") or environ.get("REQUEST_URI")
    if raw:
        if not raw.startswith("/") and "://" in raw:  # in absolute form, as to a proxy
            raw = "/" + raw.partition("://")[2].partition("/")[2]
        return raw.partition("#")[0].encode("latin-1")
    path = environ.get("SCRIPT_NAME", "") + environ.get("PATH_INFO", "")
    query = environ.get("QUERY_STRING", "")
    target = quote(path.encode("latin-1"), safe=_PATH) or "/"
    return (f"{target}?{query}" if query else target).encode("latin-1")


def _fields(environ: Environ) -> Fields:
    """The request's fields. WSGI has joined those of one name, and knows neither their order nor their letter case."""
    fields = []
    for key, value in environ.items():
        if key.startswith("HTTP_"):
            fields.append((key[5:].replace("_", "-").lower().encode("latin-1"), value.encode("latin-1")))
        elif key in ("CONTENT_TYPE", "CONTENT_LENGTH") and value:
            fields.append((key.replace("_", "-").lower().encode("latin-1"), value.encode("latin-1")))
    return tuple(fields)
