"""The files that a table is written to: CSV, JSON lines or Parquet, whole or not at all.

A file has its name only once it is complete: until then it stands beside its place as `.NAME.partial`.
"""

import contextlib
import csv
import os
import re
import tempfile
from collections.abc import Callable, Sequence
from datetime import UTC, datetime, timedelta
from importlib import import_module
from pathlib import Path
from typing import Any, Final, Protocol

import orjson

from shadowproxy.export.columns import Cell, Column, Kind, Row
from shadowproxy.stores.addresses import Address, AddressError, address_of, is_address, shown

NEEDED: Final = "writing Parquet needs pyarrow; pip install '.[columns]' in a checkout installs it"

ENDINGS: Final = (".parquet", ".csv", ".jsonl")


class ExportError(Exception):
    """A table cannot be written. The text is one line."""


class Writer(Protocol):
    """Writes rows to one open file."""

    def write(self, rows: Sequence[Row]) -> None: ...

    def close(self) -> None: ...


class TableFile:
    """One file of a table, here or in an object store. It has its name once it is closed, and is whole then.

    One for a store is written to a temporary file first. Raises ExportError, as all of its methods.
    """

    def __init__(self, to: str, columns: Sequence[Column], ending: str) -> None:
        self._address = self._ask_address(to)
        self.to = to
        try:
            if self._address is None:
                path = Path(to)
                path.parent.mkdir(parents=True, exist_ok=True)
                self._partial = path.with_name(f".{path.name}.partial")
            else:
                descriptor, name = tempfile.mkstemp(prefix="shadowproxy-export-", suffix=ending)
                os.close(descriptor)
                self._partial = Path(name)
            self._writer = _WRITERS[ending](self._partial, columns)
        except OSError as error:
            raise self._failed(error) from error

    def write(self, rows: Sequence[Row]) -> None:
        try:
            self._writer.write(rows)
        except OSError as error:
            self.discard()
            raise self._failed(error) from error

    def close(self) -> None:
        try:
            self._writer.close()
            if self._address is None:
                os.replace(self._partial, self.to)
            else:
                from shadowproxy.stores.writing import put

                put(self._address, self._partial, self._partial.stat().st_size)
                self._partial.unlink()
        except OSError as error:
            self.discard()
            raise self._failed(error) from error

    def discard(self) -> None:
        """Remove what was written."""
        with contextlib.suppress(Exception):  # it is incomplete in any case
            self._writer.close()
        with contextlib.suppress(OSError):
            self._partial.unlink()

    def _failed(self, error: OSError) -> ExportError:
        return ExportError(f"cannot write {shown(self.to)}: {error.strerror or error}")

    @staticmethod
    def _ask_address(to: str) -> Address | None:
        if not is_address(to):
            return None
        try:
            address = address_of(to)
        except AddressError as error:
            raise ExportError(f"cannot write {shown(to)}: {error}") from None
        if address.kind == "http":
            raise ExportError(f"cannot write {shown(to)}: a web server is only read")
        return address


class _Csv:
    """RFC 4180 with a line of names. Null is an empty cell; times are ISO 8601 in UTC with microseconds."""

    def __init__(self, path: Path, columns: Sequence[Column]) -> None:
        self._file = path.open("w", encoding="utf-8", newline="")
        self._writer = csv.writer(self._file)
        self._times = [at for at, column in enumerate(columns) if column.kind is Kind.TIME]
        self._writer.writerow([column.name for column in columns])

    def write(self, rows: Sequence[Row]) -> None:
        self._writer.writerows(_with_times(rows, self._times))

    def close(self) -> None:
        self._file.close()


class _JsonLines:
    """One object a line, with every column."""

    def __init__(self, path: Path, columns: Sequence[Column]) -> None:
        self._file = path.open("wb")
        self._names = [column.name for column in columns]
        self._times = [at for at, column in enumerate(columns) if column.kind is Kind.TIME]

    def write(self, rows: Sequence[Row]) -> None:
        names = self._names
        for row in _with_times(rows, self._times):
            self._file.write(orjson.dumps(dict(zip(names, row, strict=True)), option=orjson.OPT_APPEND_NEWLINE))

    def close(self) -> None:
        self._file.close()


class _Parquet:
    def __init__(self, path: Path, columns: Sequence[Column]) -> None:
        arrow, parquet = _pyarrow(), _import("pyarrow.parquet")
        self._schema = arrow_schema(columns)
        self._arrow = arrow
        self._writer: Any = parquet.ParquetWriter(str(path), self._schema, compression="zstd")

    def write(self, rows: Sequence[Row]) -> None:
        self._writer.write_batch(arrow_batch(rows, self._schema))

    def close(self) -> None:
        self._writer.close()


def _with_times(rows: Sequence[Row], times: Sequence[int]) -> Sequence[Sequence[Cell]]:
    if not times:
        return rows
    made: list[Sequence[Cell]] = []
    for row in rows:
        cells = list(row)
        for at in times:
            cells[at] = _iso(cells[at])
        made.append(cells)
    return made


_EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)


def _iso(micros: Cell) -> str | None:
    if not isinstance(micros, int):
        return None
    try:
        return (_EPOCH + timedelta(microseconds=micros)).isoformat(timespec="microseconds").replace("+00:00", "Z")
    except OverflowError:
        return None


# --- Arrow ---------------------------------------------------------------------------------------------------------


def arrow_schema(columns: Sequence[Column]) -> Any:
    """The columns as an Arrow schema. Raises ExportError without pyarrow."""
    arrow = _pyarrow()
    kinds = {
        Kind.TEXT: arrow.string(),
        Kind.NUMBER: arrow.float64(),
        Kind.WHOLE: arrow.int64(),
        Kind.TIME: arrow.timestamp("us", tz="UTC"),
    }
    return arrow.schema([arrow.field(column.name, kinds[column.kind]) for column in columns])


def arrow_batch(rows: Sequence[Row], schema: Any) -> Any:
    """Rows as an Arrow record batch of this schema."""
    arrow = _pyarrow()
    columns = zip(*rows, strict=True) if rows else [()] * len(schema)
    arrays = [arrow.array(list(cells), type=field.type) for cells, field in zip(columns, schema, strict=True)]
    return arrow.record_batch(arrays, schema=schema)


def _pyarrow() -> Any:
    return _import("pyarrow")


def _import(name: str) -> Any:
    try:
        return import_module(name)
    except ImportError as error:
        raise ExportError(NEEDED) from error


_WRITERS: Final[dict[str, Callable[[Path, Sequence[Column]], Writer]]] = {
    ".parquet": _Parquet,
    ".csv": _Csv,
    ".jsonl": _JsonLines,
}


def remove_parts(folder: str, since: int) -> None:
    """Remove a folder's `part-N.parquet`, here or in a store, whose N is at least `since`. Raises ExportError."""
    try:
        if is_address(folder):
            from shadowproxy.stores.listing import inside
            from shadowproxy.stores.writing import remove

            for found in inside(address_of(folder)):
                if _part(found.address.key.rpartition("/")[2]) >= since:
                    remove(found.address)
        else:
            for path in Path(folder).iterdir():
                if _part(path.name) >= since:
                    path.unlink()
    except OSError as error:
        raise ExportError(f"cannot remove earlier parts in {shown(folder)}: {error.strerror or error}") from error


def _part(name: str) -> int:
    found = re.fullmatch(r"part-(\d{1,9})\.parquet", name)
    return -1 if found is None else int(found[1])
