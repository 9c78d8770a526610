"""Live as a function: a wrapper that returns the very object and raises the very exception, and mirrors each call.

A call is an exchange: method `CALL`, path `module.name`, the arguments as JSON, and the result as JSON or what was
raised. All that is taken from the arguments is taken before the function runs, and nothing of them is kept.

Of a method neither `self` nor `cls` is recorded, nor does a candidate get it.
"""

import contextlib
import functools
import inspect
from collections.abc import Callable
from time import perf_counter, time_ns
from types import CoroutineType
from typing import Any, Final, TypeVar

import orjson

from shadowproxy.call_json import json_of_failure, written
from shadowproxy.exchange import Failure, Outcome
from shadowproxy.incode.connection import Ticket
from shadowproxy.incode.errors import ShadowError
from shadowproxy.incode.exchanges import OVERSIZE_KEPT, Sender
from shadowproxy.incode.pickling import TooLong, Unpicklable, arguments_pickle
from shadowproxy.intake_frames import BEGIN, END, end_frame, packed

CALL: Final = "CALL"

_FIELDS: Final = (("content-type", "application/json"),)
_BEGINNING: Final = b',"at_ns":%d,"age_ms":%.4f,"body_bytes":%d,"record":%b%b}'
_OVERSIZE: Final = b',"unfit":"oversize"'
_ENDING: Final = (
    b'{"began_ms":0,"status":200,"fields":[["content-type","application/json"]],'
    b'"total_ms":%.4f,"first_byte_ms":%.4f,"body_bytes":%d}'
)

F = TypeVar("F", bound=Callable[..., Any])


class Function:
    """What is known of a wrapped function.

    Its frames are written here, without the objects that intake_frames makes of them: a call has to be cheap, and all
    but a few numbers of its frames is the same each time.

    Attributes:
        path: its module and name, as the record has it.
        skipped: how many of its first arguments are `self` or `cls`.
        candidates: the shadows that get the pickled arguments.
    """

    __slots__ = ("_head", "_sender", "candidates", "path", "skipped")

    def __init__(self, sender: Sender, function: Callable[..., Any], candidates: tuple[str, ...]) -> None:
        self.path = path_of(function)
        self.skipped = 1 if takes_self(function) else 0
        self.candidates = candidates
        self._sender = sender
        target = f"/{self.path}".encode("utf-8", "replace").decode("latin-1")
        fixed: dict[str, object] = {"id": None, "method": CALL, "target": target, "fields": _FIELDS}
        if candidates:
            fixed["shadows"] = candidates
        self._head = orjson.dumps(fixed)[:-1].replace(b"%", b"%%") + _BEGINNING

    def begin(self, arguments: tuple[Any, ...], named: dict[str, Any]) -> "Call | None":
        """Take what is needed of the arguments. None if this call is left alone. Never raises."""
        sender = self._sender
        if sender.connection.closed:
            return None
        call = Call(sender)
        at_ns = time_ns()
        if self.skipped:
            arguments = arguments[1:]
        text, whole = written({"args": arguments, "kwargs": named})
        size = len(text)
        pickled = b""
        if self.candidates:
            # What cannot be copied is recorded so: the candidate's leg says that there is nothing to call it with.
            with contextlib.suppress(Unpicklable, TooLong):
                small = whole and size < sender.capture >> 4
                pickled = arguments_pickle(arguments, named, sender.capture, small=small)
        unfit = b""
        if size > sender.capture:
            text, unfit = text[:OVERSIZE_KEPT], _OVERSIZE
        record = b"null" if sender.recorded is None else b'"%b"' % sender.note_record(at_ns).encode()
        head = self._head % (at_ns, (perf_counter() - call.began) * 1000, size, record, unfit)
        sender.connection.begin(packed(BEGIN, call.key, head, text, pickled), call)
        return call


class Call(Ticket):
    """One call of a wrapped function, as an exchange that has begun. Each is told once how it ended. Never raises."""

    __slots__ = ("_sender", "began", "key")

    def __init__(self, sender: Sender) -> None:
        self.era = None
        self.began = perf_counter()
        self.key = sender.next_key()
        self._sender = sender

    def returned(self, result: Any) -> None:
        """Live's function returned."""
        text, whole = written(result)
        # What JSON does not show is recorded as cut: two different results could look the same.
        self._end(text, len(text) if whole else len(text) + 1)

    def raised(self, error: BaseException) -> None:
        """Live's function raised."""
        if isinstance(error, Exception):
            text = json_of_failure(error)
            self._end(text, len(text))
            return
        # It was cancelled, or the process is about to end.
        total_ms = (perf_counter() - self.began) * 1000
        failure = Failure(Outcome.CALLER_LEFT, f"the call was ended by {type(error).__name__}", total_ms)
        self._sender.connection.end(end_frame(self.key, failure), self)

    def _end(self, text: bytes, size: int) -> None:
        sender = self._sender
        took_ms = (perf_counter() - self.began) * 1000
        if len(text) > sender.capture:
            text = text[: sender.capture]
        sender.connection.end(packed(END, self.key, _ENDING % (took_ms, took_ms, size), text), self)


def wrapped(function: F, known: Function) -> F:
    """`function` with its calls mirrored. Raises ShadowError if it is of a kind that cannot be."""
    if inspect.isgeneratorfunction(function) or inspect.isasyncgenfunction(function):
        raise ShadowError(f"{known.path}: is a generator, whose values nobody has yet when it returns: return a list")
    begin = known.begin
    if is_async(function):

        @functools.wraps(function)
        async def awaiting(*arguments: Any, **named: Any) -> Any:
            call = begin(arguments, named)
            if call is None:
                return await function(*arguments, **named)
            try:
                result = await function(*arguments, **named)
            except BaseException as error:
                call.raised(error)
                raise
            call.returned(result)
            return result

        return awaiting  # type: ignore[return-value]

    @functools.wraps(function)
    def calling(*arguments: Any, **named: Any) -> Any:
        call = begin(arguments, named)
        if call is None:
            return function(*arguments, **named)
        try:
            result = function(*arguments, **named)
        except BaseException as error:
            call.raised(error)
            raise
        if isinstance(result, CoroutineType):
            return _awaited(call, result)
        call.returned(result)
        return result

    return calling  # type: ignore[return-value]


async def _awaited(call: Call, result: Any) -> Any:
    """The result of a plain function that returned a coroutine, as a partial of an async one does."""
    try:
        value = await result
    except BaseException as error:
        call.raised(error)
        raise
    call.returned(value)
    return value


def is_async(function: Callable[..., Any]) -> bool:
    """Whether calling it returns a coroutine; also for objects with such a `__call__`."""
    if inspect.iscoroutinefunction(function):
        return True
    return not inspect.isroutine(function) and inspect.iscoroutinefunction(getattr(function, "__call__", None))  # noqa: B004


def path_of(function: Callable[..., Any]) -> str:
    """`module.name`, without what says that it is inside another function."""
    inner = function
    while isinstance(inner, functools.partial):
        inner = inner.func
    name = getattr(inner, "__qualname__", None) or type(inner).__qualname__
    module = getattr(inner, "__module__", None) or type(inner).__module__
    return f"{module}.{name.replace('<locals>.', '').replace('<lambda>', 'lambda')}"


def takes_self(function: Callable[..., Any]) -> bool:
    """Whether it is defined in a class, and takes the instance or the class first."""
    name = getattr(function, "__qualname__", "")
    before = name.rpartition(".")[0]
    if not before or before.endswith("<locals>") or inspect.ismethod(function):
        return False
    try:
        first = next(iter(inspect.signature(function).parameters), "")
    except (TypeError, ValueError):
        return False
    return first in ("self", "cls")
