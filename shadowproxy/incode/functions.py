"""Live as a function: a wrapper that returns the very object and raises the very exception, and mirrors each call.

A call is an exchange: method `CALL`, path `module.name`, the arguments as JSON, and the result as JSON or what was
raised. All that is taken from the arguments is taken before the function runs, and nothing of them is kept.

Of a method neither `self` nor `cls` is recorded, nor does a candidate get it.
"""

import asyncio
import contextlib
import functools
import inspect
from collections.abc import Callable
from typing import Any, Final, TypeVar

from shadowproxy.call_json import json_of, json_of_failure, written
from shadowproxy.exchange import Outcome
from shadowproxy.incode.errors import ShadowError
from shadowproxy.incode.exchanges import Exchange, Sender
from shadowproxy.incode.pickling import TooLong, Unpicklable, arguments_pickle

CALL: Final = "CALL"

_JSON: Final = ((b"content-type", b"application/json"),)

F = TypeVar("F", bound=Callable[..., Any])


class Function:
    """What is known of a wrapped function.

    Attributes:
        path: its module and name, as the record has it.
        skipped: how many of its first arguments are `self` or `cls`.
        candidates: the shadows that get the pickled arguments.
        shadows: all shadows that a call may be sent to; None is every one.
    """

    __slots__ = ("_sender", "_target", "candidates", "path", "shadows", "skipped")

    def __init__(
        self, sender: Sender, function: Callable[..., Any], candidates: tuple[str, ...], shadows: tuple[str, ...] | None
    ) -> None:
        self.path = path_of(function)
        self.skipped = 1 if takes_self(function) else 0
        self.candidates = candidates
        self.shadows = shadows
        self._sender = sender
        self._target = b"/" + self.path.encode("utf-8", "replace")

    def begin(self, arguments: tuple[Any, ...], named: dict[str, Any]) -> Exchange | None:
        """Take what is needed of the arguments. None if this call is left alone. Never raises."""
        sender = self._sender
        if self.skipped:
            arguments = arguments[1:]
        exchange = sender.begin(CALL, self._target, _JSON)
        if exchange is None:
            return None
        exchange.shadows = self.shadows
        pickled = b""
        if self.candidates:
            # What cannot be copied is recorded so: the candidate's leg says that there is nothing to call it with.
            with contextlib.suppress(Unpicklable, TooLong):
                pickled = arguments_pickle(arguments, named, sender.capture)
        exchange.request_body(json_of({"args": arguments, "kwargs": named}))
        exchange.request_end(pickled)
        return exchange


def returned(exchange: Exchange, result: Any) -> None:
    """Live's function returned. Never raises."""
    exchange.answer(200, _JSON)
    text, whole = written(result)
    exchange.answer_body(text)
    if not whole:  # two different results could look the same
        exchange.answer_cut()
    exchange.end()


def raised(exchange: Exchange, error: BaseException) -> None:
    """Live's function raised. Never raises."""
    if isinstance(error, Exception):
        exchange.answer(200, _JSON)
        exchange.answer_body(json_of_failure(error))
        exchange.end()
    else:  # cancelled, or the process is about to end
        exchange.fail(Outcome.CALLER_LEFT, f"the call was ended by {type(error).__name__}")


def wrapped(function: F, known: Function) -> F:
    """`function` with its calls mirrored. Raises ShadowError if it is of a kind that cannot be."""
    if inspect.isgeneratorfunction(function) or inspect.isasyncgenfunction(function):
        raise ShadowError(f"{known.path}: is a generator, whose values nobody has yet when it returns: return a list")
    begin = known.begin
    if is_async(function):

        @functools.wraps(function)
        async def awaiting(*arguments: Any, **named: Any) -> Any:
            exchange = begin(arguments, named)
            if exchange is None:
                return await function(*arguments, **named)
            try:
                result = await function(*arguments, **named)
            except BaseException as error:
                raised(exchange, error)
                raise
            returned(exchange, result)
            return result

        return awaiting  # type: ignore[return-value]

    @functools.wraps(function)
    def calling(*arguments: Any, **named: Any) -> Any:
        exchange = begin(arguments, named)
        if exchange is None:
            return function(*arguments, **named)
        try:
            result = function(*arguments, **named)
        except BaseException as error:
            raised(exchange, error)
            raise
        if asyncio.iscoroutine(result):
            return _awaited(exchange, result)
        returned(exchange, result)
        return result

    return calling  # type: ignore[return-value]


async def _awaited(exchange: Exchange, result: Any) -> Any:
    """The result of a plain function that returned a coroutine, as a partial of an async one does."""
    try:
        value = await result
    except BaseException as error:
        raised(exchange, error)
        raise
    returned(exchange, value)
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
