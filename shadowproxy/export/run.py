"""Exports a log to one file, or to a folder that is partitioned by day."""

import contextlib
from collections.abc import Callable, Iterable, Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Final, NamedTuple

from shadowproxy.export.columns import COLUMNS, Column, Row, columns_with
from shadowproxy.export.files import ENDINGS, ExportError, TableFile, remove_parts
from shadowproxy.export.rows import Choice, Rows
from shadowproxy.record import Record, read

BATCH: Final = 5000
"""Rows that are written at once: a row group of Parquet."""

_MOST_OPEN: Final = 16
"""Days whose files are open at once. A log is nearly in order, so hardly ever more than two are."""

_AT: Final = [column.name for column in COLUMNS].index("at")


class Exported(NamedTuple):
    """What an export did. `seen` is how many records were read, `unreadable` how many lines were none."""

    rows: int
    seen: int
    unreadable: int
    files: int


def export(
    paths: Iterable[str | Path], to: str, choice: Choice, on_bytes: Callable[[int], None] | None = None
) -> Exported:
    """Write the rows of a log to `to`: a file by its ending, or a folder if it ends with a slash; here or in a store.

    A folder gets `date=2026-01-31/part-0.parquet` and so on, a file for each day in UTC. Memory is bounded by a batch
    of rows. Raises ExportError, or RecordError for what cannot be read; no incomplete file is left behind then.
    """
    columns = columns_with(choice.fields)
    counts = _Counts()
    with contextlib.ExitStack() as stack:
        sink: _OneFile | _ByDay = _ByDay(to, columns) if to.endswith("/") else _OneFile(to, columns)
        stack.callback(sink.discard)
        for batch in batches(rows_of(paths, choice, counts, on_bytes)):
            sink.write(batch)
            counts.rows += len(batch)
        if not counts.rows:
            return Exported(0, counts.seen, counts.unreadable, 0)
        files = sink.close()
        stack.pop_all()
    return Exported(counts.rows, counts.seen, counts.unreadable, files)


class _Counts:
    def __init__(self) -> None:
        self.rows = self.seen = self.unreadable = 0


def rows_of(
    paths: Iterable[str | Path],
    choice: Choice,
    counts: "_Counts | None" = None,
    on_bytes: Callable[[int], None] | None = None,
) -> Iterator[Row]:
    """The rows of a log's records, in its order."""
    rows = Rows(choice)
    counts = counts or _Counts()
    for entry in read(paths, on_bytes):
        if isinstance(entry, Record):
            counts.seen += 1
            yield from rows.of(entry)
        else:
            counts.unreadable += 1


def batches(rows: Iterable[Row]) -> Iterator[list[Row]]:
    """Rows in lists of at most `BATCH`."""
    waiting: list[Row] = []
    for row in rows:
        waiting.append(row)
        if len(waiting) >= BATCH:
            yield waiting
            waiting = []
    if waiting:
        yield waiting


def ending_of(to: str) -> str:
    """The ending of a file's name that says its format. Raises ExportError for any other."""
    for ending in ENDINGS:
        if to.endswith(ending):
            return ending
    raise ExportError(f"{to} ends with none of {', '.join(ENDINGS)}, and with no slash, which would make it a folder")


class _OneFile:
    def __init__(self, to: str, columns: tuple[Column, ...]) -> None:
        self._file = TableFile(to, columns, ending_of(to))

    def write(self, rows: list[Row]) -> None:
        self._file.write(rows)

    def close(self) -> int:
        self._file.close()
        return 1

    def discard(self) -> None:
        self._file.discard()


class _ByDay:
    """A folder with a file for each day. A day that comes again after its file was closed gets another part.

    The parts of a day replace those that an earlier export wrote, also where there were more of them. Other days stay.
    """

    def __init__(self, folder: str, columns: tuple[Column, ...]) -> None:
        self._folder = folder
        self._columns = columns
        self._open: dict[str, TableFile] = {}
        self._parts: dict[str, int] = {}

    def write(self, rows: list[Row]) -> None:
        by_day: dict[str, list[Row]] = {}
        for row in rows:
            by_day.setdefault(_day(row), []).append(row)
        for day, those in by_day.items():
            self._of(day).write(those)

    def _of(self, day: str) -> TableFile:
        file = self._open.pop(day, None)
        if file is None:
            if len(self._open) >= _MOST_OPEN:
                self._open.pop(next(iter(self._open))).close()
            part = self._parts.get(day, 0)
            self._parts[day] = part + 1
            file = TableFile(f"{self._folder}date={day}/part-{part}.parquet", self._columns, ".parquet")
        self._open[day] = file
        return file

    def close(self) -> int:
        while self._open:
            self._open.pop(next(iter(self._open))).close()
        for day, parts in self._parts.items():
            remove_parts(f"{self._folder}date={day}/", parts)
        return sum(self._parts.values())

    def discard(self) -> None:
        for file in self._open.values():
            file.discard()


def _day(row: Row) -> str:
    at = row[_AT]
    if not isinstance(at, int):
        return "unknown"
    try:
        return datetime.fromtimestamp(at / 1_000_000, UTC).date().isoformat()
    except (ValueError, OverflowError, OSError):
        return "unknown"
