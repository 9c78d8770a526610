"""Reads JSON from a server's text, and numbers from plain text."""

import json
import re
from typing import Any, Final

import orjson

from shadowproxy.budget import Budget
from shadowproxy.exact import may_hold_long_integer

UNREADABLE: Final = object()
"""Returned by `json_in` for a text that is not JSON: null is a value."""

_NUMBER: Final = re.compile(
    r"[-+]?(?:(?:(?:0|[1-9]\d*)(?:\.\d*)?|\.\d+)(?:[eE][-+]?\d+)?|nan|inf(?:inity)?)\Z", re.ASCII | re.IGNORECASE
)
_LONGEST_NUMBER: Final = 64
_CONSTANT: Final = re.compile(r"\b(?:NaN|Infinity)\b")


def json_in(text: str) -> Any:
    """A text's JSON value, or UNREADABLE. Integers are exact, and Python's NaN and Infinity are read."""
    text = text.removeprefix("\ufeff")
    raw = text.encode("utf-8", "surrogatepass")
    if not may_hold_long_integer(raw):  # orjson, five times as fast, would read such an integer as a float
        try:
            return orjson.loads(raw)
        except ValueError:
            pass
    try:
        return json.loads(text)
    except (ValueError, RecursionError):
        return UNREADABLE


def names_constants(text: str) -> bool:
    """Whether a JSON text has NaN or Infinity outside of its strings: only Python reads these."""
    return _CONSTANT.search(text) is not None and _CONSTANT.search(_STRINGS.sub("", text)) is not None


# What never ends is a string too, up to the end: else each of its quotes would be tried as the beginning of one.
_STRINGS: Final = re.compile(r'"(?:[^"\\]++|\\.?)*+"?+', re.DOTALL)


def plain_value(text: str) -> Any:
    """The value of a plain text body: a number if it is only that, else the text without the blanks around it.

    `007` stays text: it is a code, not the number 7.
    """
    stripped = text.strip()
    if len(stripped) <= _LONGEST_NUMBER and _NUMBER.match(stripped):
        try:
            return int(stripped)
        except ValueError:
            return float(stripped)
    return stripped


LINE_ENDS: Final = re.compile(r"\r\n|\n|\r")
_RECORD_SEPARATOR: Final = "\x1e"  # RFC 7464, application/json-seq


LINE: Final = 20
"""Steps of reading one line or event, beside those of its length: a call of a JSON reader takes a microsecond."""

_HELD: Final = 120
"""About the bytes of memory of one line: its text, and its value's place."""


def hold_lines(budget: Budget, text: str) -> None:
    """Hold what the lines of a text take in memory. Raises Exhausted if that is too much."""
    budget.hold(_HELD * (text.count("\n") + text.count("\r")))


def lines_in(text: str, *, strict: bool, budget: Budget | None = None) -> list[Any]:
    """The JSON values of a text with one in each line. Raises Exhausted if it has too many.

    A line that is not JSON: if `strict`, there are no values at all; else the line counts as text, provided that the
    first line is JSON.
    """
    budget = budget or Budget()
    hold_lines(budget, text)
    values: list[Any] = []
    for line in LINE_ENDS.split(text.removeprefix("\ufeff")):
        budget.spend(1)
        stripped = line.strip().strip(_RECORD_SEPARATOR)
        if not stripped:
            continue
        budget.spend(LINE)
        value = json_in(stripped)
        if value is UNREADABLE:
            if strict or not values:
                return []
            value = stripped
        values.append(value)
    return values


def dumped(value: Any) -> str:
    """A value as JSON, the same text for equal values: sorted, without blanks, 1.0 as 1."""
    try:
        return json.dumps(_plain(value, 0), ensure_ascii=False, sort_keys=True, separators=(",", ":"))
    except (ValueError, TypeError, RecursionError):
        return "…"


_DEEPEST: Final = 64
_EXACT: Final = 1e15  # up to here a whole float is written as its integer


def _plain(value: Any, depth: int) -> Any:
    if isinstance(value, float) and abs(value) < _EXACT and value == int(value):
        return int(value)
    if isinstance(value, dict) and depth < _DEEPEST:
        return {key: _plain(each, depth + 1) for key, each in value.items()}
    if isinstance(value, list) and depth < _DEEPEST:
        return [_plain(each, depth + 1) for each in value]
    return value
