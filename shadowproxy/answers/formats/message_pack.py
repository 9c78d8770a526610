"""MessagePack (`application/msgpack`), as mosec sends it where it is chosen.

Source: the specification at msgpack/msgpack, of 2017 with timestamps; tried on bytes of msgpack 1.2.4 and of
msgpack-numpy 0.4.8, whose arrays are maps with `nd`, `type`, `shape` and `data`.
"""

import math
import struct
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from typing import Any, Final

from shadowproxy.answers.formats.refusals import Malformed
from shadowproxy.answers.leaves import MOST_AXES, Blob, Vector, blob_of, vector_from, width_of
from shadowproxy.budget import Budget

MEDIA: Final = frozenset(
    {"application/msgpack", "application/x-msgpack", "application/vnd.msgpack", "application/messagepack"}
)

_DEEPEST: Final = 100
_HELD: Final = 72  # bytes of memory of one value and its place
_MAP: Final = 160  # bytes more of a map
_NUMBERS: Final[dict[int, str]] = {
    0xCA: ">f", 0xCB: ">d", 0xCC: ">B", 0xCD: ">H", 0xCE: ">I", 0xCF: ">Q", 0xD0: ">b", 0xD1: ">h", 0xD2: ">i",
    0xD3: ">q",
}  # fmt: skip
_UNPACK: Final[dict[int, Callable[..., Any]]] = {
    code: struct.Struct(form).unpack_from for code, form in _NUMBERS.items()
}
_SIZES: Final = {code: struct.calcsize(form) for code, form in _NUMBERS.items()}
_TEXTS: Final = {0xD9: 1, 0xDA: 2, 0xDB: 4}
_BYTES: Final = {0xC4: 1, 0xC5: 2, 0xC6: 4}
_ARRAYS: Final = {0xDC: 2, 0xDD: 4}
_MAPS: Final = {0xDE: 2, 0xDF: 4}
_FIXED: Final = {0xD4: 1, 0xD5: 2, 0xD6: 4, 0xD7: 8, 0xD8: 16}
_EXTENSIONS: Final = {0xC7: 1, 0xC8: 2, 0xC9: 4}
_TIMESTAMP: Final = 255  # -1
_EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)
_ARRAY_OF_NUMPY: Final = {"nd", "type", "shape", "data"}


def opens_container(raw: bytes) -> bool:
    """Whether it may be a map or an array: other values are too short to be told from any bytes."""
    return bool(raw) and (0x80 <= raw[0] <= 0x9F or 0xDC <= raw[0] <= 0xDF)


def read(raw: bytes, budget: Budget) -> Any:
    """The value. A map's keys become texts; bytes become a blob, or a vector where they are numpy's."""
    reader = _Reader(raw, budget)
    value = reader.value(0)
    if reader.at != len(raw):
        raise Malformed(f"{len(raw) - reader.at} bytes follow its value")
    return _without_bytes(value)


def _without_bytes(value: Any) -> Any:
    return blob_of(value) if isinstance(value, bytes) else value


class _Reader:
    """Reads value by value. `at` is where the next one begins."""

    __slots__ = ("_budget", "_raw", "at")

    def __init__(self, raw: bytes, budget: Budget) -> None:
        self._raw = raw
        self._budget = budget
        self.at = 0

    def value(self, depth: int) -> Any:
        self._budget.spend(2)
        self._budget.hold(_HELD)
        if depth > _DEEPEST:
            raise Malformed(f"it is nested more than {_DEEPEST} levels deep")
        code = self._take(1)[0]
        if code <= 0x7F:
            return code
        if code >= 0xE0:
            return code - 256
        if code <= 0x8F:
            return self._map(code & 15, depth)
        if code <= 0x9F:
            return self._array(code & 15, depth)
        if code <= 0xBF:
            return self._text(code & 31)
        if code in _UNPACK:
            return _UNPACK[code](self._take(_SIZES[code]))[0]
        if code == 0xC0:
            return None
        if code in (0xC2, 0xC3):
            return code == 0xC3
        if code in _TEXTS:
            return self._text(self._length(_TEXTS[code]))
        if code in _BYTES:
            return self._take(self._length(_BYTES[code]))
        if code in _ARRAYS:
            return self._array(self._length(_ARRAYS[code]), depth)
        if code in _MAPS:
            return self._map(self._length(_MAPS[code]), depth)
        if code in _FIXED or code in _EXTENSIONS:
            size = _FIXED[code] if code in _FIXED else self._length(_EXTENSIONS[code])
            return self._extension(self._take(1)[0], self._take(size))
        raise Malformed(f"the byte {code:02x} begins no value")

    def _take(self, size: int) -> bytes:
        found = self._raw[self.at : self.at + size]
        if len(found) < size:
            raise Malformed("it is cut within a value")
        self.at += size
        return found

    def _length(self, size: int) -> int:
        return int.from_bytes(self._take(size), "big")

    def _text(self, size: int) -> Any:
        raw = self._take(size)
        self._budget.spend_bytes(size)
        self._budget.hold(size)
        try:
            return raw.decode()
        except UnicodeDecodeError:
            return raw

    def _array(self, size: int, depth: int) -> list[Any]:
        if size > len(self._raw) - self.at:
            raise Malformed("it is cut within an array")
        return [_without_bytes(self.value(depth + 1)) for _ in range(size)]

    def _map(self, size: int, depth: int) -> Any:
        if 2 * size > len(self._raw) - self.at:
            raise Malformed("it is cut within a map")
        self._budget.hold(_MAP)
        found: dict[str, Any] = {}
        for _ in range(size):
            key = self.value(depth + 1)
            found[_key(key)] = self.value(depth + 1)
        if (
            found.keys() >= _ARRAY_OF_NUMPY
            and found["nd"] is True
            and (vector := _vector(found, self._budget)) is not None
        ):
            return vector
        return {key: _without_bytes(each) for key, each in found.items()}

    def _extension(self, kind: int, data: bytes) -> Any:
        if kind == _TIMESTAMP and (moment := _moment(data)) is not None:
            return moment
        self._budget.spend_bytes(8 * len(data))
        return blob_of(data, f"extension {kind if kind < 128 else kind - 256}")


def _key(key: Any) -> str:
    if isinstance(key, str):
        return key
    if isinstance(key, bytes):
        return key.decode("utf-8", "backslashreplace")  # as msgpack-numpy names its members
    if isinstance(key, list | dict | Vector | Blob):
        raise Malformed("a key of a map is neither a text nor a number")
    return "null" if key is None else str(key).lower() if isinstance(key, bool) else str(key)


def _vector(found: dict[str, Any], budget: Budget) -> Vector | None:
    """The array that msgpack-numpy makes a map of; None if the map is not one, or of another type."""
    kind, shape, data = found["type"], found["shape"], found["data"]
    if not isinstance(kind, str) or not isinstance(data, bytes) or not isinstance(shape, list) or not shape:
        return None
    dtype = _NUMPY.get(kind[1:])
    width = None if dtype is None else width_of(dtype)
    if dtype is None or width is None or kind[0] not in "<>|" or not all(type(size) is int for size in shape):
        return None
    if min(shape) < 0 or len(shape) > MOST_AXES or math.prod(shape) * width != len(data):
        return None
    budget.spend_bytes(8 * len(data))
    budget.hold(2 * len(data))
    return vector_from(data, dtype, tuple(shape), big=kind[0] == ">")


_NUMPY: Final = {"b1": "bool", "f2": "float16", "f4": "float32", "f8": "float64"} | {
    f"{kind}{size}": f"{name}{8 * size}" for kind, name in (("i", "int"), ("u", "uint")) for size in (1, 2, 4, 8)
}


def _moment(data: bytes) -> str | None:
    """A timestamp in its three sizes; None for one that no calendar has."""
    if len(data) == 4:
        seconds, nanoseconds = int.from_bytes(data, "big"), 0
    elif len(data) == 8:
        both = int.from_bytes(data, "big")
        seconds, nanoseconds = both & (1 << 34) - 1, both >> 34
    elif len(data) == 12:
        nanoseconds, seconds = int.from_bytes(data[:4], "big"), int.from_bytes(data[4:], "big", signed=True)
    else:
        return None
    try:
        return (_EPOCH + timedelta(seconds=seconds, microseconds=nanoseconds // 1000)).isoformat()
    except OverflowError:
        return None
