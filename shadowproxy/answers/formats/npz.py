"""Arrays of NumPy by name in one ZIP (`application/x-npz`), as `numpy.savez` and sparse matrices of SciPy are written.

Source: numpy.savez; tried on files of numpy 2.4.6. A ZIP may have the time at which each array was written, so equal
arrays are not always equal bytes.
"""

import io
import struct
import zipfile
import zlib
from typing import Any, Final

from shadowproxy.answers.formats import npy
from shadowproxy.answers.formats.refusals import Malformed, Unsupported
from shadowproxy.budget import Budget

MAGIC: Final = b"PK\x03\x04"
MEDIA: Final = frozenset({"application/x-npz", "application/npz"})

_ENTRY: Final = b"PK\x01\x02"
_MOST_ARRAYS: Final = 1000
_HELD: Final = 1000  # bytes of memory of one entry
_END: Final = ".npy"
_BOUNDED: Final = (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED)
"""Compressions of which zipfile undoes no more at once than it is asked for."""


def begins_with_array(raw: bytes) -> bool:
    """Whether the first file in a ZIP is an array: others are not looked into unless they are said to be such."""
    size = int.from_bytes(raw[26:28], "little")
    return raw.startswith(MAGIC) and raw[30 : 30 + size].endswith(_END.encode())


def read(raw: bytes, budget: Budget) -> dict[str, Any]:
    """The arrays by name."""
    budget.spend_bytes(8 * len(raw))
    entries = raw.count(_ENTRY)
    if entries > _MOST_ARRAYS:
        raise Unsupported(f"it has more than {_MOST_ARRAYS} arrays")
    budget.hold(_HELD * entries)
    try:
        with zipfile.ZipFile(io.BytesIO(raw)) as files:
            return {info.filename.removesuffix(_END): _array(files, info, budget) for info in files.infolist()}
    except (zipfile.BadZipFile, zlib.error, struct.error, EOFError, OSError, ValueError, OverflowError) as why:
        raise Malformed(f"its ZIP is broken: {why!s:.80}") from why
    except (NotImplementedError, RuntimeError) as why_not:
        raise Unsupported(f"its ZIP is not read: {why_not!s:.80}") from why_not


def _array(files: zipfile.ZipFile, info: zipfile.ZipInfo, budget: Budget) -> Any:
    if not info.filename.endswith(_END):
        raise Malformed("it holds a file that is no array")
    if info.compress_type not in _BOUNDED:
        raise Unsupported("its ZIP has a compression that is not read")
    budget.hold(info.file_size)
    budget.spend_bytes(8 * info.file_size)
    with files.open(info) as file:
        data = file.read(info.file_size + 1)
    if len(data) != info.file_size or not data.startswith(npy.MAGIC):
        raise Malformed(f"its array {info.filename!r:.60} is cut")
    return npy.read(data, budget)
