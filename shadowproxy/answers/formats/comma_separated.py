"""Rows of cells as text (`text/csv`), and rows of plain numbers under any type.

Source: RFC 4180; seen from SageMaker's XGBoost (`0.1,0.2` on one line without an end), its toolkit (a row a line),
and pandas. One row, or rows of one cell, are an array of cells; else each row is an array; with a header each row is
an object. A cell is a number if it is written as one, null if it is empty, else a text.
"""

import csv
import io
import re
from collections.abc import Sequence
from typing import Any, Final, NamedTuple

from shadowproxy.answers.formats.refusals import Malformed
from shadowproxy.answers.texts import plain_value
from shadowproxy.budget import Budget

MEDIA: Final = frozenset({"text/csv", "application/csv", "text/tab-separated-values", "text/x-csv"})

_CELL: Final = 90  # bytes of memory of a cell: its text, and its value's place
_STEPS: Final = 4  # of a cell
_LOOKED_AT: Final = 10_000  # characters that show how cells are separated
_PLAIN: Final = re.compile(r"[-+0-9.eEinfatyNIFATY \t,;\r\n]{1,4000}+")
_GROUPED: Final = re.compile(r"\s*-?\d{1,3}(?:,\d{3})+\s*\Z", re.ASCII)


class Rows(NamedTuple):
    """The value of a text of rows, and what is wrong with them, if anything."""

    value: Any
    warning: str | None = None


def numbers_in(text: str, budget: Budget) -> Any:
    """The value of a text of nothing but numbers in cells or lines; None if it is anything else.

    `1,234` alone is no two numbers.
    """
    start = _PLAIN.match(text)
    if start is None or (start.end() < len(text) and start.end() < 4000) or _GROUPED.match(text[:100]):
        return None
    rows = [row for row in _split(text, _separator(text), budget) if row]
    cells = [plain_value(cell) for row in rows for cell in row]
    if len(cells) < 2 or not all(type(cell) in (int, float) for cell in cells):
        return None
    if len({len(row) for row in rows}) > 1:
        return None
    return _arranged([[plain_value(cell) for cell in row] for row in rows])


def read(text: str, content_type: str, budget: Budget) -> Rows:
    """The rows of a text that is named CSV."""
    named = content_type.lower()
    separator = "\t" if "tab-separated" in named else _separator(text)
    rows = [row for row in _split(text.removeprefix("\ufeff"), separator, budget) if row]
    if not rows:
        raise Malformed("it has no rows")
    widths = {len(row) for row in rows}
    warning = None
    if len(widths) > 1:
        first = len(rows[0])
        odd = next(at for at, row in enumerate(rows) if len(row) != first)
        warning = f"row {odd + 1} has {len(rows[odd])} cells, and the first has {first}"
    values = [[_value(cell) for cell in row] for row in rows]
    if warning is not None:  # by the names of the first row, what a longer row has more would be lost
        return Rows(values, warning)
    if "header=absent" not in named.replace(" ", "") and _has_header(rows, values, "header=present" in named):
        names = rows[0]
        return Rows([dict(zip(names, row, strict=True)) for row in values[1:]])
    return Rows(_arranged(values))


def _split(text: str, separator: str, budget: Budget) -> list[list[str]]:
    budget.spend_bytes(4 * len(text))
    cells = text.count(separator) + text.count("\n") + text.count("\r") + 1
    budget.spend(_STEPS * cells)
    budget.hold(_CELL * cells + len(text))
    try:
        # Only LF, CR and CRLF end a line for the io module; U+2028 does not.
        return list(csv.reader(io.StringIO(text, newline=""), delimiter=separator))
    except csv.Error as error:  # a cell of over 128 KiB, a NUL
        raise Malformed(f"its cells cannot be told apart: {error!s:.80}") from error


def _separator(text: str) -> str:
    """What separates cells: a comma, unless the beginning has only semicolons or tabs."""
    start = text[:_LOOKED_AT]
    if "," in start:
        return ","
    return ";" if ";" in start else "\t" if "\t" in start else ","


def _value(cell: str) -> Any:
    if not cell.strip():
        return None
    found = plain_value(cell)
    return cell if isinstance(found, str) else found


def _has_header(rows: Sequence[list[str]], values: Sequence[list[Any]], named: bool) -> bool:
    """Whether the first row names columns: nothing but different texts, above a row with a number."""
    names = rows[0]
    if len(rows) < 2 or len(set(names)) < len(names) or not all(isinstance(each, str) for each in values[0]):
        return False
    return named or any(isinstance(each, int | float) for row in values[1:] for each in row)


def _arranged(values: list[list[Any]]) -> Any:
    """Rows, or the cells of the one row or column that there is; of a single cell its value."""
    if len(values) == 1:
        return values[0] if len(values[0]) > 1 else values[0][0]
    return [row[0] for row in values] if all(len(row) == 1 for row in values) else values
