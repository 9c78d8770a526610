"""A file of labels: CSV or TSV with a heading, JSON lines, or Parquet; plain, gzip or zstd.

A row has an ID and a label. `row` is the row of a batch that it is about, unless the label is a list; `at` is when it
became known. Of several labels for one answer the one with the newest `at` counts, and of equal ones the last.
"""

import csv
import gzip
import io
import json
import math
from collections.abc import Generator, Iterable, Iterator, Mapping
from contextlib import closing, contextmanager, suppress
from datetime import UTC, datetime
from itertools import chain
from pathlib import Path
from shutil import copyfileobj
from tempfile import TemporaryFile
from typing import Any, BinaryIO, Final, cast

import zstandard

from shadowproxy.compare.fold.truths import Label, Truth, Truths, label_key
from shadowproxy.pointers import pointer_segments
from shadowproxy.sources import Source, source_of

_IDS: Final = ("id", "request_id", "x_request_id")
_KEYS: Final = ("key", *_IDS)
_LABELS: Final = ("label", "truth", "actual", "outcome", "y", "target")
_ROWS: Final = ("row", "row_number")
_TIMES: Final = ("at", "time", "timestamp")
_MOST_ROWS: Final = 100_000
NEVER: Final = -(2**63)
"""The time of a label whose time is not given."""

Row = tuple[str, Mapping[str, Any]]
"""Where a row stands, for a message, and its values by column."""

Known = dict[int | None, tuple[int, Label]]
"""One request's labels by row, or under None where no row is named, each with its time in microseconds."""


class LabelError(Exception):
    """A file of labels that cannot be read. The text is one line."""


def read_labels(path: str | Path, key: str | None = None) -> Truths:
    """Labels by request ID or, with `key`, by the value at that pointer in the request's JSON. Raises LabelError.

    The column that is joined by is `id`; with a `key` it may be called by the last segment of the pointer too.
    """
    truths = {each: truth_of(labels) for each, labels in known_labels(path, key).items()}
    if not truths:
        raise LabelError(f"{source_of(path).name}: the file has no labels")
    return Truths(truths, key)


def known_labels(path: str | Path, key: str | None = None) -> dict[str, Known]:
    """The same as far as it is known yet, by ID or key: nothing for a file without labels. Raises LabelError."""
    names = columns_for(key)
    found: dict[str, Known] = {}
    try:
        source = source_of(path)
        path = source.name
        with closing(_rows(source, names)) as rows:
            for where, row in rows:
                add_row(found, where, row, names)
    except (OSError, EOFError, UnicodeDecodeError, csv.Error, zstandard.ZstdError) as error:
        raise LabelError(f"cannot read {path}: {getattr(error, 'strerror', None) or error}") from error
    except RecursionError as error:
        raise LabelError(f"{path}: nested too deeply") from error
    except ValueError as error:
        raise LabelError(f"{path}: {error}") from error
    return found


def columns_for(key: str | None) -> tuple[str, ...]:
    """What the column that is joined by may be called."""
    if key is None:
        return _IDS
    segments = pointer_segments(key)
    return (*(segment.strip().lower() for segment in segments[-1:]), *_KEYS)


def add_row(found: dict[str, Known], where: str, row: Mapping[str, Any], names: tuple[str, ...]) -> None:
    """Add what one row says, by its lower-case columns, of which `names` hold the ID. Raises LabelError."""
    key = label_key(_first(row, names))
    if not key:
        raise LabelError(f"{where}: this row has no id")
    label, at = _listed(_first(row, _LABELS)), _time(where, _first(row, _TIMES))
    number = _number(where, _first(row, _ROWS))
    if isinstance(label, list):
        if number is not None:
            raise LabelError(f"{where}: a list of labels is for all rows of an answer; leave out `row`")
        if len(label) > _MOST_ROWS:
            raise LabelError(f"{where}: more than {_MOST_ROWS:,} labels for one answer")
        labels: Iterable[tuple[int | None, Any]] = enumerate(label)
    else:
        labels = [(number, label)]
    for each, value in labels:
        known = _label(where, value)
        if known is None:
            continue
        kept = found.setdefault(key, {})
        if each not in kept or at >= kept[each][0]:
            kept[each] = at, known


def _listed(label: Any) -> Any:
    """A label that is a list, also if a CSV file has it as JSON in a cell."""
    if isinstance(label, str) and label[:1] == "[":
        with suppress(ValueError, RecursionError):
            return json.loads(label)
    return label


def truth_of(labels: Known) -> Truth:
    """One request's labels in order. One without a row is that of the only row there is."""
    at = max(at for at, _ in labels.values())
    rows = {0 if number is None else number: label for number, (_, label) in labels.items()}
    if None in labels:
        rows[0] = labels[None][1]
    return Truth(tuple(rows.get(number) for number in range(max(rows) + 1)), None if at == NEVER else at)


def _label(where: str, value: Any) -> Label | None:
    """A label as it is compared; None if it is not yet known."""
    if value is None or value == "" or (isinstance(value, float) and math.isnan(value)):
        return None
    if not isinstance(value, str | int | float):
        raise LabelError(f"{where}: a label is a text, a number, a boolean, or a list of them")
    return value


def _number(where: str, value: Any) -> int | None:
    if value is None or value == "":
        return None
    number = int(value) if isinstance(value, str) and value.isascii() and value.isdigit() else value
    if isinstance(number, bool) or not isinstance(number, int) or not 0 <= number < _MOST_ROWS:
        raise LabelError(f"{where}: a row is a whole number from 0 to {_MOST_ROWS - 1:,}, the first is 0")
    return number


def _time(where: str, value: Any) -> int:
    """Microseconds since the epoch; the earliest of all if no time is given. A number is in seconds."""
    if value is None or value == "":
        return NEVER
    try:
        if isinstance(value, int | float) and not isinstance(value, bool):
            return round(value * 1_000_000)
        moment = value if isinstance(value, datetime) else datetime.fromisoformat(value)
        # A clock without a zone is taken as UTC, which is what the log has.
        return round(moment.replace(tzinfo=moment.tzinfo or UTC).timestamp() * 1_000_000)
    except (TypeError, ValueError, OverflowError):
        raise LabelError(f"{where}: a time is written as in 2026-01-31T12:00:00Z") from None


def _first(row: Mapping[str, Any], names: tuple[str, ...]) -> Any:
    return next((row[name] for name in names if row.get(name) is not None), None)


# --- files -----------------------------------------------------------------------------------------------------------


def _rows(source: Source, names: tuple[str, ...]) -> Generator[Row, None, None]:
    with source.open() as file:
        start = cast(io.BufferedReader, file).peek(4)[:4]
        if start == b"PAR1":
            with _seekable(file) as columns:
                yield from _parquet(source.name, columns, names)
            return
        with _opened(file, start) as plain, io.TextIOWrapper(plain, encoding="utf-8-sig", newline="") as text:
            yield from _text_rows(source.name, text, names)


@contextmanager
def _seekable(file: BinaryIO) -> Iterator[BinaryIO]:
    """The file itself or, of one in a store, a copy: Parquet is read from its end."""
    if file.seekable():
        yield file
        return
    with TemporaryFile() as copy:
        copyfileobj(file, copy)
        yield copy


def _opened(file: BinaryIO, start: bytes) -> Any:
    """The file's content, decompressed. The first bytes name the compression, as the file's name may be anything."""
    if start[:2] == b"\x1f\x8b":
        return gzip.GzipFile(fileobj=file)
    if start == b"\x28\xb5\x2f\xfd":
        return zstandard.ZstdDecompressor().stream_reader(file, read_across_frames=True)
    return file


def _text_rows(path: str, text: io.TextIOWrapper, names: tuple[str, ...]) -> Iterator[Row]:
    number, head = 0, ""
    for head in text:
        number += 1
        if head.strip():
            break
    if head.lstrip()[:1] == "{":
        yield from _json_rows(path, head, number, text)
        return
    delimiter = "\t" if "\t" in head else ";" if ";" in head and "," not in head else ","
    columns = [name.strip().lower() for name in next(csv.reader([head], delimiter=delimiter), [])]
    if not set(columns).intersection(names) or not set(columns).intersection(_LABELS):
        raise LabelError(f"{path}: the first line must name the columns {names[0]} and label")
    reader = csv.DictReader(text, columns, delimiter=delimiter)
    for row in reader:
        yield f"{path}:{number + reader.line_num}", row


def _json_rows(path: str, head: str, number: int, text: Iterable[str]) -> Iterator[Row]:
    for at, line in enumerate(chain([head], text), number):
        if not line.strip():
            continue
        try:
            row = json.loads(line)
        except ValueError as error:
            raise LabelError(f"{path}:{at}: not JSON: {error}") from error
        if not isinstance(row, dict):
            raise LabelError(f"{path}:{at}: not a JSON object")
        yield f"{path}:{at}", {str(name).lower(): value for name, value in row.items()}


def _parquet(path: str, file: BinaryIO, names: tuple[str, ...]) -> Iterator[Row]:
    try:
        import pyarrow
        import pyarrow.parquet
    except ImportError:
        raise LabelError(
            f"{path}: reading Parquet needs pyarrow; pip install '.[columns]' in a checkout installs it"
        ) from None
    try:
        table = pyarrow.parquet.ParquetFile(file)
        columns = {name: name.strip().lower() for name in table.schema_arrow.names}
        wanted = [name for name, plain in columns.items() if plain in (*names, *_LABELS, *_ROWS, *_TIMES)]
        plain_names = {columns[name] for name in wanted}
        if not plain_names.intersection(names) or not plain_names.intersection(_LABELS):
            raise LabelError(f"{path}: it needs the columns {names[0]} and label")
        number = 0
        for batch in table.iter_batches(columns=wanted):
            for row in batch.to_pylist():
                number += 1
                yield f"{path}, row {number}", {columns[name]: value for name, value in row.items()}
    except pyarrow.ArrowException as error:
        raise LabelError(f"cannot read {path}: {' '.join(str(error).split()):.120}") from error
