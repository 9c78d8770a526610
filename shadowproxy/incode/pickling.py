"""Callables and arguments as bytes, for a process or a thread of their own: snapshots that nobody else changes.

What pickle takes by name is taken so. What it cannot find by a name (a lambda, a function inside another, anything that
a notebook's `__main__` defines) is taken by value with cloudpickle, if that is installed.
"""

import io
import pickle
from collections.abc import Callable
from typing import Any, Final

from shadowproxy.incode.interpreter import main_file

_PROTOCOL: Final = 5


class Unpicklable(Exception):
    """It cannot be copied. The text is one line."""


class TooLong(Exception):
    """Its copy would be longer than it may be."""


def callable_pickle(call: Callable[..., Any]) -> bytes:
    """A callable as bytes that another process of this interpreter can load. Raises Unpicklable."""
    try:
        data = pickle.dumps(call, _PROTOCOL)
        if not _main_is_lost(data):
            return data
        problem = "__main__ has no file here, as in a notebook, so another process cannot import it"
    except Exception as error:  # noqa: BLE001 - pickling runs the object's own code
        problem = _line(error)
    by_value = _cloudpickle()
    if by_value is None:
        raise Unpicklable(f"{problem}; define it in a module, install cloudpickle, or set thread=True")
    try:
        return bytes(by_value(call, _PROTOCOL))
    except Exception as error:  # noqa: BLE001 - as above
        raise Unpicklable(_line(error)) from None


def arguments_pickle(arguments: tuple[Any, ...], named: dict[str, Any], most: int, *, small: bool = False) -> bytes:
    """A call's arguments as they are now. Raises Unpicklable, and TooLong beyond `most` bytes.

    `small`: they are known to be shorter.
    """
    try:
        if small:
            data = pickle.dumps((arguments, named), _PROTOCOL)
        else:
            sink = _Sink(most)
            pickle.Pickler(sink, _PROTOCOL).dump((arguments, named))
            data = sink.getvalue()
        if not _main_is_lost(data):
            return data
        if (by_value := _cloudpickle()) is not None:
            data = bytes(by_value((arguments, named), _PROTOCOL))
            if len(data) <= most:
                return data
            raise TooLong
    except TooLong:
        raise
    except Exception as error:  # noqa: BLE001 - as above
        raise Unpicklable(_line(error)) from None
    raise Unpicklable("an argument's class is defined in a notebook, which takes cloudpickle to copy")


class _Sink(io.BytesIO):
    """Takes no more than `most` bytes."""

    def __init__(self, most: int) -> None:
        super().__init__()
        self._left = most

    def write(self, data: Any, /) -> int:
        count = super().write(data)
        self._left -= count
        if self._left < 0:
            raise TooLong
        return count


def _main_is_lost(data: bytes) -> bool:
    """Whether the bytes name `__main__`, and another process cannot import that."""
    return b"__main__" in data and main_file() is None


def _cloudpickle() -> Callable[[Any, int], bytes] | None:
    """cloudpickle's `dumps`; None if it is not installed. It also comes inside joblib, and so with scikit-learn."""
    for name in ("cloudpickle", "joblib.externals.cloudpickle"):
        try:
            module = __import__(name, fromlist=["dumps"])
        except ImportError:
            continue
        found: Callable[[Any, int], bytes] = module.dumps
        return found
    return None


def _line(error: Exception) -> str:
    return " ".join(str(error).split())[:300] or type(error).__name__
