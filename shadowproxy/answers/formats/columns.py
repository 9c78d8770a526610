"""Tables of Apache Arrow (IPC file and stream) and Apache Parquet, where pyarrow is installed.

Source: the Arrow columnar format and the Parquet format, read by pyarrow; tried on files of pyarrow 26.0.1. pyarrow is
imported when the first such body comes. A table is read into its rows, as JSON would have them.
"""

import math
from datetime import date, datetime, time, timedelta
from decimal import Decimal
from importlib import import_module
from typing import Any, Final

from shadowproxy.answers.formats.refusals import Malformed, Unsupported
from shadowproxy.answers.leaves import blob_of
from shadowproxy.budget import Budget

ARROW_FILE: Final = "application/vnd.apache.arrow.file"
ARROW_STREAM: Final = "application/vnd.apache.arrow.stream"
PARQUET: Final = frozenset({"application/vnd.apache.parquet", "application/x-parquet", "application/parquet"})

NEEDED: Final = "it needs pyarrow; pip install '.[columns]' in a checkout installs it"

_MOST_CELLS: Final = 200_000
_MOST_BYTES: Final = 64 << 20  # that a table takes in memory
_CELL: Final = 120  # bytes of memory of a cell as Python's value
_WIDENED: Final = 12  # bytes of memory, at most, of one byte of a column of lists of numbers
_DEEPEST: Final = 20


def begins_as_columns(raw: bytes) -> bool:
    return (raw[:4] == b"PAR1" and raw[-4:] == b"PAR1") or raw[:6] == b"ARROW1"


def format_of(raw: bytes, named: str) -> str:
    return "parquet" if raw[:4] == b"PAR1" or (named in PARQUET and raw[:6] != b"ARROW1") else "arrow"


def read(raw: bytes, named: str, budget: Budget) -> list[Any]:
    """The rows of the table."""
    try:
        pyarrow: Any = import_module("pyarrow")
        ipc: Any = import_module("pyarrow.ipc")
        parquet: Any = import_module("pyarrow.parquet")
    except ImportError:
        raise Unsupported(NEEDED) from None
    budget.spend_bytes(64 * len(raw))
    budget.hold(2 * len(raw))
    source = pyarrow.BufferReader(raw)
    try:
        if format_of(raw, named) == "parquet":
            file = parquet.ParquetFile(source)
            sizes = [file.metadata.row_group(at).total_byte_size for at in range(file.metadata.num_row_groups)]
            _check(file.metadata.num_rows, file.metadata.num_columns, sum(sizes))
            table = file.read(use_threads=False)
        else:
            reader = ipc.open_file(source) if raw[:6] == b"ARROW1" else ipc.open_stream(source)
            table = reader.read_all()
        _check(table.num_rows, table.num_columns, table.nbytes)
        table.validate(full=True)
        budget.spend(4 * table.num_rows * table.num_columns)
        budget.hold(_CELL * table.num_rows * table.num_columns + _WIDENED * table.nbytes)
        rows = table.to_pylist()
    except (
        pyarrow.ArrowException,
        ValueError,
        TypeError,
        KeyError,
        OSError,
        NotImplementedError,
        OverflowError,
    ) as why:
        raise Malformed(f"pyarrow says: {' '.join(str(why).split())[:120]}") from why
    return [_plain(row, 0) for row in rows]


def _check(rows: int, columns: int, size: int) -> None:
    if rows * max(1, columns) > _MOST_CELLS or size > _MOST_BYTES or rows < 0 or size < 0:
        raise Unsupported(f"it has {rows:,} rows of {columns:,} columns, which is too much to read")


def _plain(value: Any, depth: int) -> Any:
    """A value of Arrow's as JSON would have it."""
    if value is None or isinstance(value, bool | int | float | str):
        return value
    if depth > _DEEPEST:
        return "…"
    if isinstance(value, dict):
        return {str(key): _plain(each, depth + 1) for key, each in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(each, depth + 1) for each in value]
    if isinstance(value, bytes):
        return blob_of(value)
    if isinstance(value, date | datetime | time):
        return value.isoformat()
    if isinstance(value, timedelta):
        return value.total_seconds()
    if isinstance(value, Decimal):
        return float(value) if math.isfinite(value) else str(value)
    return str(value)
