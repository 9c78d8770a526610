"""An array of NumPy (`application/x-npy`), as SageMaker's containers send it.

Source: NEP 1 and numpy.lib.format; tried on files of numpy 2.4.6. A body has the magic, a version, the length of a
header, the header, and the numbers. The header is a Python dict, which is read here by its three keys and never
evaluated. An array of Python objects is a pickle, which could run code: it is not read.
"""

import math
import re
from array import array
from itertools import product
from typing import Any, Final

from shadowproxy.answers.formats.refusals import Malformed, Unsupported
from shadowproxy.answers.leaves import MOST_AXES, Vector, in_shape, vector_from, width_of
from shadowproxy.budget import Budget

MAGIC: Final = b"\x93NUMPY"
MEDIA: Final = frozenset({"application/x-npy", "application/npy", "application/x-numpy"})

_LONGEST_HEADER: Final = 10_000  # as numpy.lib.format allows
_DESCR: Final = re.compile(r"""'descr'\s{0,9}:\s{0,9}(?:'([^']{1,40})'|(\[))""")
_ORDER: Final = re.compile(r"'fortran_order'\s{0,9}:\s{0,9}(True|False)")
_SHAPE: Final = re.compile(r"'shape'\s{0,9}:\s{0,9}\(([\d, L]{0,400})\)")
_TYPE: Final = re.compile(r"([<>|=])([biufcSUmMO?])(\d{0,9})(?:\[[^\]]{0,20}\])?\Z", re.ASCII)
_KINDS: Final = {"b": "bool", "?": "bool", "i": "int", "u": "uint", "f": "float", "m": "int", "M": "int"}
_TEXT: Final = 60  # bytes of memory of a short text and its place


def read(raw: bytes, budget: Budget) -> Any:
    """The array: a vector, a number where it has no axes, texts as lists."""
    descr, fortran, shape, data = _header(raw)
    found = _TYPE.match(descr)
    if found is None:
        raise Unsupported(f"its type {descr!r:.40} is not read")
    order, kind, digits = found.groups()
    count = math.prod(shape)
    if kind == "O":
        raise Unsupported("it holds Python objects, which are never unpickled")
    size = int(digits or 1)
    width = size * 4 if kind == "U" else size
    if len(data) != count * width:
        raise Malformed(f"its shape {list(shape)} takes {count * width} bytes and {len(data)} came")
    budget.spend_bytes(8 * len(data))
    budget.hold(2 * len(data))
    if kind in "SU":
        return _texts(data, kind, width, order, shape, fortran, budget)
    fortran = fortran and len(shape) > 1
    if kind == "c":
        dtype, shape = f"float{size * 4}", (*shape, 2)  # real and imaginary parts side by side
        if fortran:
            raise Unsupported("it holds complex numbers column by column")
    else:
        dtype = "bool" if kind in "b?" else f"{_KINDS[kind]}{size * 8}"
    if width_of(dtype) is None:
        raise Unsupported(f"its type {descr!r:.40} is not read")
    vector = vector_from(data, dtype, shape, big=order == ">")
    if not shape:
        return vector[0]
    return Vector(_by_rows(vector.numbers, shape, budget), dtype, shape) if fortran else vector


def _header(raw: bytes) -> tuple[str, bool, tuple[int, ...], bytes]:
    """The type, whether columns come first, the shape, and the bytes of the numbers."""
    if len(raw) < 10:
        raise Malformed("it is cut within its header")
    start = 10 if raw[6] == 1 else 12
    length = int.from_bytes(raw[8:start], "little")
    if length > _LONGEST_HEADER:
        raise Malformed("its header is too long")
    if len(raw) < start + length:
        raise Malformed("it is cut within its header")
    text = raw[start : start + length].decode("latin-1")
    descr, order, shape = _DESCR.search(text), _ORDER.search(text), _SHAPE.search(text)
    if descr is None or order is None or shape is None:
        raise Malformed("its header does not name a type, an order and a shape")
    if descr[2]:
        raise Unsupported("its elements have several fields")
    try:
        axes = tuple([int(part.strip().removesuffix("L")) for part in shape[1].split(",") if part.strip()])
    except ValueError:
        raise Malformed("its shape is not one of whole numbers") from None
    if len(axes) > MOST_AXES:
        raise Unsupported(f"it has more than {MOST_AXES} axes")
    return descr[1], order[1] == "True", axes, raw[start + length :]


def _by_rows(columns: Any, shape: tuple[int, ...], budget: Budget) -> Any:
    """Numbers that came column by column, row by row: they are taken along the first axis, in which they lie together,
    or along the last, in which they are to."""
    if not len(columns):
        return columns
    behind = [math.prod(shape[at + 1 :]) for at in range(len(shape))]  # steps of each axis row by row
    before = [math.prod(shape[:at]) for at in range(len(shape))]  # and column by column
    along = 0 if shape[0] >= shape[-1] else len(shape) - 1
    rows = array(columns.typecode, bytes(columns.itemsize * len(columns)))
    axes = [at for at in range(len(shape)) if at != along]
    for where in product(*[range(shape[at]) for at in axes]):
        budget.spend(len(shape))
        to = sum([behind[at] * step for at, step in zip(axes, where, strict=True)])
        start = sum([before[at] * step for at, step in zip(axes, where, strict=True)])
        taken = columns[start : start + before[along] * (shape[along] - 1) + 1 : before[along]]
        rows[to : to + behind[along] * (shape[along] - 1) + 1 : behind[along]] = taken
    return rows


def _texts(
    data: bytes, kind: str, width: int, order: str, shape: tuple[int, ...], fortran: bool, budget: Budget
) -> Any:
    """Texts of one width, which are filled up with zeros."""
    if fortran and len(shape) > 1:
        raise Unsupported("it holds texts column by column")
    count = math.prod(shape)
    budget.spend(count)
    budget.hold(_TEXT * count + len(data))
    coding = "latin-1" if kind == "S" else "utf-32-be" if order == ">" else "utf-32-le"
    texts = [data[at * width : (at + 1) * width].decode(coding, "replace").rstrip("\0") for at in range(count)]
    return in_shape(texts, shape) if shape else texts[0]
