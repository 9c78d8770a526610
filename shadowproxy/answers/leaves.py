"""Leaves of an answer's tree that JSON has no word for: a vector of numbers, and a blob of bytes.

A vector keeps its numbers as the machine does, in an array: a million float32 take 4 MB, as Python's floats 32 MB. Its
shape is that of a tensor, row by row. `nested` makes lists of it for what counts answers, up to a size.
"""

import math
from array import array
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from hashlib import blake2b, sha256
from operator import mul
from struct import unpack
from sys import byteorder
from typing import Any, Final

MOST_NESTED: Final = 200_000
"""Numbers of a vector that are made lists of: 7 MB. The channels of an image of 224 by 224 pixels are 150,000."""

MOST_AXES: Final = 32  # numpy 1 has as many, numpy 2 has 64

_SHOWN: Final = 4  # numbers in a line

_CODES: Final = {
    "bool": "B",
    "int8": "b",
    "uint8": "B",
    "int16": "h",
    "uint16": "H",
    "int32": "i",
    "uint32": "I",
    "int64": "q",
    "uint64": "Q",
    "float16": "f",
    "bfloat16": "f",
    "float32": "f",
    "float64": "d",
}
"""The types of numbers, with the code of the array that keeps them."""

_WIDTHS: Final = {"bool": 1, "int8": 1, "uint8": 1, "int16": 2, "uint16": 2, "float16": 2, "bfloat16": 2} | {
    "int32": 4, "uint32": 4, "float32": 4, "int64": 8, "uint64": 8, "float64": 8
}  # fmt: skip

_NEAR: Final = {"float16": 2.0**-10, "bfloat16": 2.0**-7}
"""The relative distance of two neighbours of a type that is coarser than the tolerance."""

_HALVES: Final = 8192  # bytes of halves that are widened together


class Vector:
    """Numbers of one type, in a shape.

    Attributes:
        numbers: an array of them, row by row.
        dtype: their type on the wire, as numpy calls it.
        shape: the length of each axis; () is not used, as one number is a number.
        embedding: only its direction means something, so it is compared by the angle.
    """

    __slots__ = ("dtype", "embedding", "numbers", "shape")

    def __init__(
        self, numbers: Any, dtype: str, shape: tuple[int, ...] | None = None, *, embedding: bool = False
    ) -> None:
        self.numbers = numbers
        self.dtype = dtype
        self.shape = (len(numbers),) if shape is None else shape
        self.embedding = embedding

    def __len__(self) -> int:
        return len(self.numbers)

    def __iter__(self) -> Iterator[Any]:
        return map(bool, self.numbers) if self.dtype == "bool" else iter(self.numbers)

    def __getitem__(self, at: int) -> Any:
        return bool(self.numbers[at]) if self.dtype == "bool" else self.numbers[at]

    def __eq__(self, other: object) -> bool:
        """Whether two vectors are the same, bit for bit: NaN is itself. `judge.diff` says which others are equal."""
        if not isinstance(other, Vector):
            return NotImplemented
        return (
            self.dtype == other.dtype
            and self.shape == other.shape
            and (memoryview(self.numbers).cast("B") == memoryview(other.numbers).cast("B") if self.numbers else True)
        )

    def __hash__(self) -> int:
        return hash((self.dtype, self.shape, self.digest()))

    def __repr__(self) -> str:
        return f"<Vector {self.line()}>"

    def __str__(self) -> str:
        return self.line()

    def digest(self) -> bytes:
        """A digest of the numbers: equal vectors have equal ones."""
        return blake2b(self.numbers, digest_size=16).digest()

    def line(self) -> str:
        """Its type, shape and first numbers, in one line."""
        shown = ", ".join(f"{each:.6g}" if isinstance(each, float) else str(each) for each in self.first(_SHOWN))
        more = ", …" if len(self.numbers) > _SHOWN else ""
        return f"{self.dtype} {list(self.shape)}{': ' if shown else ''}{shown}{more}"

    def first(self, count: int) -> list[Any]:
        """The first numbers."""
        found: list[Any] = self.numbers[:count].tolist()
        return [bool(each) for each in found] if self.dtype == "bool" else found

    def as_row(self) -> "Vector":
        """The same with one axis, if all axes behind the first have the length 1: a column of numbers as a row."""
        if len(self.shape) < 2 or math.prod(self.shape[1:]) != 1:
            return self
        return Vector(self.numbers, self.dtype, embedding=self.embedding)

    def nested(self) -> Any:
        """The same as lists in lists; itself if it has more than `MOST_NESTED` numbers."""
        if len(self.numbers) > MOST_NESTED:
            return self
        return in_shape(self.first(len(self.numbers)), self.shape)


@dataclass(frozen=True, slots=True)
class Blob:
    """Bytes that no format reads: an image, a sound. Equal ones have one size and one SHA-256."""

    size: int
    sha256: str
    media: str = ""

    def line(self) -> str:
        """Its type, size and the beginning of its hash, in one line."""
        return f"{self.media or 'bytes'}, {self.size:,} bytes, SHA-256 {self.sha256[:16]}…"

    def __str__(self) -> str:
        return self.line()


def blob_of(raw: bytes, media: str = "") -> Blob:
    """The blob of some bytes."""
    return Blob(len(raw), sha256(raw).hexdigest(), media)


def width_of(dtype: str) -> int | None:
    """The bytes of one number of a type; None if it is no type of numbers."""
    return _WIDTHS.get(dtype)


def vector_from(
    raw: bytes, dtype: str, shape: tuple[int, ...] | None = None, *, big: bool = False, embedding: bool = False
) -> Vector:
    """The vector in some bytes, which are whole numbers of `dtype`; `big`: with the largest byte first."""
    if dtype == "float16":
        numbers: Any = _widened_halves(raw, big)
    elif dtype == "bfloat16":  # the upper half of a float32
        wide = bytearray(2 * len(raw))
        high, low = (0, 1) if big else (1, 0)
        wide[2::4], wide[3::4] = raw[low::2], raw[high::2]
        numbers = _array("f", bytes(wide), big=False)
    else:
        numbers = _array(_CODES[dtype], raw, big)
    return Vector(numbers, dtype, shape, embedding=embedding)


def _array(code: str, raw: bytes, big: bool) -> Any:
    numbers: Any = array(code)
    numbers.frombytes(raw)
    if big != (byteorder == "big"):
        numbers.byteswap()
    return numbers


def _widened_halves(raw: bytes, big: bool) -> Any:
    """Halves as float32, which has each of them: no array has halves."""
    numbers: Any = array("f")
    order = ">" if big else "<"
    for at in range(0, len(raw), _HALVES):
        piece = raw[at : at + _HALVES]
        numbers.extend(unpack(f"{order}{len(piece) // 2}e", piece))
    return numbers


def in_shape(flat: list[Any], shape: Sequence[int]) -> Any:
    """Flat row-major values as lists in lists; unchanged if the shape does not fit."""
    if len(shape) < 2 or len(shape) > MOST_AXES or math.prod(shape) != len(flat) or not all(shape):
        return flat
    for size in reversed(shape[1:]):
        flat = [flat[start : start + size] for start in range(0, len(flat), size)]
    return flat


def flattened(value: list[Any], shape: tuple[int, ...]) -> list[Any] | None:
    """The elements of lists in lists that have this shape; None if they have another."""
    level: list[Any] = [value]
    for size in shape:
        if not all(type(each) is list and len(each) == size for each in level):
            return None
        level = [below for each in level for below in each]
    return level


def embedding_of(values: list[Any]) -> Vector | None:
    """A list of numbers as an embedding; None if it holds anything else, or one number, which has no direction."""
    if len(values) < 2 or not {int, float}.issuperset(map(type, values)):
        return None
    try:
        return Vector(array("d", values), "float64", embedding=True)
    except OverflowError:
        return None


def coarseness(one: Any, other: Any) -> float:
    """The relative distance of two neighbours of the coarser type of two arrays, of which at least one is a vector; 0
    where both types tell more apart than equal numbers do."""
    return max(_NEAR.get(each.dtype, 0.0) for each in (one, other) if isinstance(each, Vector))


def angle(one: Sequence[Any], other: Sequence[Any]) -> float | None:
    """1 - cosine of two arrays of one length: 0 for two that are zero, None where only one has a direction."""
    try:
        squares = sum(map(mul, one, one)), sum(map(mul, other, other))
        if squares == (0, 0):  # also where the squares of numbers below 1e-162 are
            return None if any(one) or any(other) else 0.0
        lengths = math.sqrt(squares[0]) * math.sqrt(squares[1])
        if not (lengths > 0 and math.isfinite(lengths)):
            return None
        cosine: float = sum(map(mul, one, other)) / lengths
        return max(0.0, 1 - cosine)
    except (OverflowError, ValueError):
        return None


def without_leaves(value: Any, depth: int = 0) -> Any:
    """A tree as JSON could hold it: vectors as lists, unless they are huge, and what a blob says in a text."""
    if isinstance(value, Vector):
        return value.nested()
    if isinstance(value, dict):
        return {key: without_leaves(each, depth + 1) for key, each in value.items()} if depth < _MOST_DEPTH else value
    if isinstance(value, list):
        return [without_leaves(each, depth + 1) for each in value] if depth < _MOST_DEPTH else value
    return value if isinstance(value, str | int | float | bool | None) else str(value)


_MOST_DEPTH: Final = 100


def in_lines(value: Any, depth: int = 0) -> Any:
    """A tree as JSON could hold it, with one line in place of each leaf: for people."""
    if isinstance(value, Vector | Blob):
        return value.line()
    if isinstance(value, dict) and depth < _MOST_DEPTH:
        return {key: in_lines(each, depth + 1) for key, each in value.items()}
    if isinstance(value, list) and depth < _MOST_DEPTH:
        return [in_lines(each, depth + 1) for each in value]
    return value
