"""`shadowproxy.read_log`: a log in Python, as typed records or as a table of pyarrow, pandas or polars."""

from collections.abc import Iterable, Iterator
from importlib import import_module
from pathlib import Path
from typing import Any

from shadowproxy.compare.judge.rules import Rules
from shadowproxy.export.columns import columns_with, parse_field
from shadowproxy.export.files import ExportError, arrow_batch, arrow_schema
from shadowproxy.export.rows import Choice
from shadowproxy.export.run import batches, rows_of
from shadowproxy.record import Record, read


class Log:
    """A log that is read again from its files each time it is used. Iterating gives its records, oldest first.

    The tables have the columns of `shadowproxy export` (docs/how-to/export.md), whatever the log holds.
    """

    def __init__(self, paths: tuple[str | Path, ...]) -> None:
        self.paths = paths

    def __repr__(self) -> str:
        return f"read_log({', '.join(map(repr, map(str, self.paths)))})"

    def __iter__(self) -> Iterator[Record]:
        """Each record. Lines that are no records are left out. Raises shadowproxy.record.RecordError."""
        return (entry for entry in read(self.paths) if isinstance(entry, Record))

    def to_arrow(self, **options: Any) -> Any:
        """A `pyarrow.Table`.

        Args:
            shadow: only this shadow.
            rows: one row for each row of a batch.
            fields: places of the request as columns: `("/age=number", "/carrier")`.
            field: where the answer is, as a JSON pointer; `(live's, the shadow's)` where they differ.
            rules: what the verdicts are by.

        Raises:
            ExportError: an option is wrong, or pyarrow is missing.
            shadowproxy.record.RecordError: a path cannot be read.
        """
        choice = choice_of(**options)
        schema = arrow_schema(columns_with(choice.fields))
        made = [arrow_batch(batch, schema) for batch in batches(rows_of(self.paths, choice))]
        return import_module("pyarrow").Table.from_batches(made, schema)

    def to_pandas(self, **options: Any) -> Any:
        """A `pandas.DataFrame` with pandas' nullable types; options as `to_arrow`."""
        table = self.to_arrow(**options)
        try:
            pandas: Any = import_module("pandas")
        except ImportError as error:
            raise ExportError("to_pandas needs pandas, which is not installed") from error
        types = {"int64": pandas.Int64Dtype(), "double": pandas.Float64Dtype(), "string": pandas.StringDtype()}
        return table.to_pandas(types_mapper=lambda kind: types.get(str(kind)))

    def to_polars(self, **options: Any) -> Any:
        """A `polars.DataFrame`; options as `to_arrow`."""
        table = self.to_arrow(**options)
        try:
            polars: Any = import_module("polars")
        except ImportError as error:
            raise ExportError("to_polars needs polars, which is not installed") from error
        return polars.from_arrow(table)


def read_log(*paths: str | Path | Iterable[str | Path]) -> Log:
    """A log: files, directories of segments, patterns, addresses in object stores. Nothing is read yet."""
    flat: list[str | Path] = []
    for each in paths:
        flat.extend([each] if isinstance(each, str | Path) else each)
    return Log(tuple(flat))


def choice_of(
    *,
    shadow: str | None = None,
    rows: bool = False,
    fields: Iterable[str] = (),
    field: str | tuple[str, str] | None = None,
    rules: Rules | None = None,
) -> Choice:
    """Raises ExportError for a field that is no pointer."""
    try:
        parsed = tuple(parse_field(each) for each in fields)
    except ValueError as error:
        raise ExportError(str(error)) from error
    places = (field, field) if isinstance(field, str) else field
    return Choice(shadow=shadow, by_row=rows, fields=parsed, places=places, rules=rules or Rules())
