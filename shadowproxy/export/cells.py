"""One value of an answer as cells: a number, a class and a text, as far as it has them."""

import json
import math
from typing import Any, Final, NamedTuple

from shadowproxy.compare.fold.values import (
    LONGEST_CLASS,
    MISSING,
    form_of,
    number_of,
    ranking_of,
    top_of,
    vector_of,
)
from shadowproxy.export.columns import Cell, Kind

_LARGEST_WHOLE: Final = 1 << 63


class Cells(NamedTuple):
    """What a table says of one value. All three are None where the answer has no value."""

    number: float | None = None
    class_: str | None = None
    text: str | None = None


NO_VALUE: Final = Cells()


def cells_of(value: Any) -> Cells:
    """The cells of one value.

    A number is a number; a whole one is a class as well (the label 3, not 3.0). A boolean is the class `true` or
    `false`. A probability vector has the class with the largest share, and this share as its number; a ranking has its
    first ID as class. The text is the value itself: a string as it is, anything else as JSON.
    """
    if value is None or value is MISSING:
        return NO_VALUE
    form = form_of(value)
    if form == "real" or (form in ("NaN", "infinite") and isinstance(value, float)):
        return Cells(value, None, written(value))
    if form == "whole":
        return Cells(float(value), written(int(value)), written(value))
    if form == "boolean":
        return Cells(None, written(value), written(value))
    if isinstance(value, str):
        return Cells(None, value if len(value) <= LONGEST_CLASS else None, value)
    if form == "vector" and (vector := vector_of(value)) is not None:
        top = top_of(vector)
        return Cells(float(vector[top]), top, written(value))
    if form == "ranking" and (ranking := ranking_of(value)) is not None:
        return Cells(None, ranking[0], written(value))
    return Cells(None, None, written(value))


def written(value: Any) -> str:
    """A value as JSON, with every character as it is; NaN and the infinities by Python's names, as JSON has none."""
    text = json.dumps(value, ensure_ascii=False, separators=(",", ":"), default=_plain)
    return text.encode("utf-8", "backslashreplace").decode()  # half of a surrogate pair cannot be written


def _plain(value: Any) -> Any:
    """A value that JSON has no word for: an array that was too long to be made a list of."""
    numbers = getattr(value, "numbers", None)
    return str(value) if numbers is None else list(numbers)


def cell_of(value: Any, kind: Kind) -> Cell:
    """A request's value in a column of this kind; None where it does not fit."""
    if value is None or value is MISSING:
        return None
    if kind is Kind.TEXT:
        return value if isinstance(value, str) else written(value)
    if isinstance(value, bool):
        return int(value) if kind is Kind.WHOLE else float(value)
    number = number_of(value)
    if kind is Kind.NUMBER or number is None:
        return number
    whole = int(value) if isinstance(value, int) else int(number)
    return whole if math.fabs(number) < _LARGEST_WHOLE and whole == number else None
