"""What a function was given and what it returned, as JSON: live's and a candidate's by the same rules.

| value | in JSON |
|---|---|
| what JSON has, dataclasses, enums, dates, UUIDs | as orjson writes them |
| NaN and infinities | `NaN`, `Infinity`, `-Infinity`, as Python's json writes them: null is another value |
| a numpy array or number, a torch tensor, a pandas or polars series | its values |
| a pandas or polars data frame, an Arrow table | a list of its rows, each an object |
| a pydantic model, an attrs class, a named tuple, any mapping | an object |
| a set | a list, sorted where its values can be |
| bytes | text if they are UTF-8, or else base64 |
| `Decimal`, `Fraction`, a complex number, a path, an exception | text |
| any other, and more than MOST_VALUES in one array, or MOST_CELLS in one table | `{"unwritable": "module.Class"}` |

No iterator is read and no repr is called: both could change or show what they should not. With a value that JSON does
not show, the whole text is not `whole`: it may not be compared, as two that differ could look the same.
"""

import base64
import contextlib
import enum
import json
import marshal
import math
import re
from collections.abc import Mapping
from collections.abc import Set as AnySet
from dataclasses import fields, is_dataclass
from datetime import date, time
from typing import Any, Final, NamedTuple

import orjson

MOST_VALUES: Final = 200_000
"""Values of one array or series that are written: 5 ms of the call."""

MOST_CELLS: Final = 20_000
"""Cells of one table, each of which becomes an object of Python: 5 to 20 ms."""

MOST_BYTES: Final = 4 << 20
"""Of one bytes object."""

DEEPEST: Final = 100
"""Levels of containers in containers."""

_OPTIONS: Final = orjson.OPT_NON_STR_KEYS | orjson.OPT_PASSTHROUGH_DATETIME
_ARRAY: Final = orjson.OPT_SERIALIZE_NUMPY
_NOT_FINITE: Final = re.compile(rb"g.{6}[\xf0-\xff][\x7f\xff]", re.DOTALL)
"""A float in `marshal`'s format, that is NaN or infinite."""

_TEXTS: Final = frozenset({"Decimal", "Fraction", "complex", "timedelta", "Timedelta", "Period", "Interval"})


class Json(NamedTuple):
    """A value's JSON. Not `whole`: a part of the value is not in it."""

    text: bytes
    whole: bool


def json_of(value: object) -> bytes:
    """A value's JSON. Never raises an Exception."""
    return written(value).text


def json_of_failure(error: BaseException) -> bytes:
    """`{"error": "Type: message"}`, in place of a result. Never raises an Exception."""
    return orjson.dumps({"error": failure_of(error)})


def failure_of(error: BaseException) -> str:
    """`Type: message`, in one line of at most 500 characters."""
    name = type(error).__name__
    try:
        message = " ".join(str(error).split())
    except Exception:  # noqa: BLE001 - its own __str__ may raise anything
        message = ""
    text = f"{name}: {message}" if message else name
    return text[:500].encode("utf-8", "replace").decode()


def written(value: object) -> Json:
    """A value's JSON, and whether all of the value is in it. Never raises an Exception."""
    try:
        text = orjson.dumps(value, option=_OPTIONS)  # most values need no converter
        if b"null" not in text or _is_finite(value):
            return Json(text, True)
    except (TypeError, ValueError, RecursionError):
        pass
    converter = _Converter()
    try:
        text = orjson.dumps(value, converter.plain, _OPTIONS)
        if b"null" not in text:
            return Json(text, converter.whole)
        converter.whole = True  # it is written again
    except (TypeError, ValueError, RecursionError):
        pass
    except Exception:  # noqa: BLE001 - a converter of somebody else's library may raise anything
        converter.whole = False
    # It may have NaN in it, for which orjson writes null; an integer over 64 bits, half of a surrogate pair, a circle,
    # or what is nested too deeply.
    try:
        text = json.dumps(converter.slow(value, 0), separators=(",", ":")).encode()
        return Json(text, converter.whole)
    except Exception:  # noqa: BLE001 - as above
        return Json(orjson.dumps(_type_of(value)), False)


def _is_finite(value: Any) -> bool:
    """Whether a value is known to have no float in it that is NaN or infinite."""
    try:
        return _NOT_FINITE.search(marshal.dumps(value, 2)) is None  # a third of the time that json takes
    except ValueError:  # more than what JSON has, such as a dataclass
        return False


class _Converter:
    """`whole` is False once a value was met that JSON does not show."""

    __slots__ = ("whole",)

    def __init__(self) -> None:
        self.whole = True

    def plain(self, value: Any) -> Any:
        """What orjson does not write itself, as what it does."""
        kind = type(value)
        with contextlib.suppress(Exception):  # a converter of somebody else's library may raise anything
            if isinstance(value, date | time):  # datetimes are dates
                return value.isoformat()
            if isinstance(value, tuple):
                return dict(zip(kind._fields, value, strict=True)) if hasattr(kind, "_fields") else list(value)
            if isinstance(value, float):
                return float(value)
            if isinstance(value, AnySet):
                return _sorted(value)
            if isinstance(value, bytes | bytearray | memoryview):
                return self._bytes(value)
            if kind.__name__ in _TEXTS or isinstance(value, BaseException):
                return failure_of(value) if isinstance(value, BaseException) else str(value)
            if hasattr(kind, "model_dump"):
                return value.model_dump(mode="json")
            if hasattr(kind, "__attrs_attrs__"):
                return {each.name: getattr(value, each.name) for each in kind.__attrs_attrs__}
            if isinstance(value, Mapping):
                return dict(value)
            if hasattr(kind, "__fspath__"):
                return str(value)
            found = self._table(value, kind)
            if found is not None:
                return found
        self.whole = False
        return _type_of(value)

    def _bytes(self, value: bytes | bytearray | memoryview) -> Any:
        if len(value) > MOST_BYTES:
            self.whole = False
            return _type_of(value) | {"bytes": len(value)}
        data = bytes(value)
        try:
            return data.decode()
        except UnicodeDecodeError:
            return base64.b64encode(data).decode()

    def _table(self, value: Any, kind: type) -> Any:
        """Arrays, series and tables, each by its own converter; None for other values."""
        root = kind.__module__.partition(".")[0]
        shape = value.shape if hasattr(kind, "shape") else None
        if not isinstance(shape, tuple):
            return None
        count = 1
        for each in shape:
            count *= int(each)
        is_table = hasattr(kind, "columns") or hasattr(kind, "column_names")
        if count > (MOST_CELLS if is_table else MOST_VALUES):
            return self._too_much(value, [int(each) for each in shape])
        if root == "numpy" and kind.__name__ == "ndarray":
            if value.dtype.kind in "biuf" and value.flags.c_contiguous and value.dtype.itemsize <= 8 and shape:
                try:
                    text = orjson.dumps(value, option=_ARRAY)
                    if b"null" not in text:
                        return orjson.Fragment(text)
                    if not (abs(value) == math.inf).any():
                        return orjson.Fragment(text.replace(b"null", b"NaN"))
                except TypeError:  # such as float16 of some versions, or foreign byte order
                    pass
            return value.tolist()
        if root == "pandas" and len(shape) == 2:
            return value.to_dict(orient="records")
        for name in ("to_dicts", "to_pylist"):
            if hasattr(kind, name):
                return getattr(value, name)()
        if hasattr(kind, "detach"):  # torch
            value = value.detach()
        for name in ("tolist", "to_list"):
            if hasattr(kind, name):
                return getattr(value, name)()
        if hasattr(kind, "numpy"):  # tensorflow
            return value.numpy().tolist()
        return None

    def _too_much(self, value: Any, shape: list[int]) -> Any:
        self.whole = False
        return _type_of(value) | {"shape": shape}

    def slow(self, value: Any, depth: int) -> Any:
        """The same in plain Python, for what orjson refuses; containers deeper than DEEPEST are left out."""
        if value is None or isinstance(value, bool):
            return value
        if isinstance(value, enum.Enum):
            return self.slow(value.value, depth)
        if isinstance(value, int):
            return int(value)
        if isinstance(value, float):
            return float(value)
        if isinstance(value, str):
            return value.encode("utf-8", "replace").decode()
        if depth > DEEPEST:
            self.whole = False
            return _type_of(value)
        if isinstance(value, dict):
            return {self._key(key, depth + 1): self.slow(each, depth + 1) for key, each in value.items()}
        if isinstance(value, list) or type(value) is tuple:
            return [self.slow(each, depth + 1) for each in value]
        if is_dataclass(value) and not isinstance(value, type):
            return {each.name: self.slow(getattr(value, each.name), depth + 1) for each in fields(value)}
        with contextlib.suppress(TypeError, ValueError, RecursionError):
            text = orjson.dumps(value, self.plain, _OPTIONS)
            if b"null" not in text:
                return json.loads(text)
        plain = self.plain(value)
        return _type_of(value) if isinstance(plain, orjson.Fragment) else self.slow(plain, depth + 1)

    def _key(self, key: Any, depth: int) -> str:
        """A name in an object, as orjson writes it."""
        plain = self.slow(key, depth)
        if isinstance(plain, str):
            return plain
        if isinstance(plain, float) and plain - plain == 0:
            return orjson.dumps(plain).decode()
        return json.dumps(plain)


def _sorted(values: Any) -> list[Any]:
    try:
        return sorted(values)
    except TypeError:
        return sorted(values, key=lambda value: (type(value).__name__, str(value)))


def _type_of(value: Any) -> dict[str, Any]:
    kind = type(value)
    return {"unwritable": f"{kind.__module__}.{kind.__qualname__}"}
