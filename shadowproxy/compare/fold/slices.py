"""Where the two arms differ: the marks of the answers by the values of every field of the request with few values.

An exchange has a few marks: the shadow's answer is gone, the whole answer differs, it differs at one place. The report
decides which mark it shows, so a cell counts them all.

Text and booleans are counted by value up to `MOST_VALUES`, numbers by their first two digits (11, 12, .. 99, 100, 110,
120 ..): narrow enough to be put into ten bins of equal weight afterwards. Whole numbers below 100 stay themselves.
"""

import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import lru_cache
from itertools import islice
from typing import Any, Final, Protocol, Self, TypeAlias

from shadowproxy.compare.fold.counts import Hist, Weight, WordCounts
from shadowproxy.compare.fold.outputs import OutputsByField
from shadowproxy.compare.fold.samples import hashed
from shadowproxy.compare.fold.tables import Table, Whole
from shadowproxy.compare.judge.rules import member_place

MOST_VALUES: Final = 50
MOST_SLICES: Final = 64
MOST_MARKS: Final = 120
"""Marks of one cell: four of each of the 24 places that are counted, and those of the exchange."""

GONE: Final = "gone"
"""Live has an answer and the shadow has not, so live's values are lost at every place."""
BACK: Final = "back"
"""The shadow has an answer and live has not."""
FAILED: Final = "failed"
"""The shadow failed and live did not."""
LIVE_FAILED: Final = "live failed"
"""Live failed and the shadow did not."""
WHOLE: Final = "whole"
"""The answers differ somewhere."""
PROMPT_LENGTH: Final = "@prompt_length"
"""The place of what is no field: the length of a language model's prompt, in characters."""
MODEL: Final = "/model"
"""The place of the model that a request to a language model names."""

UNWRITTEN: Final = "unwritten"
"""No mark: how many requests the records stand for beyond themselves."""

BLIND: Final = "blind"
"""The two answers could not be compared as wholes."""

_LEAVES: Final = 64  # of one request
_DEEPEST: Final = 8
_LONGEST: Final = 60
_WHOLE: Final = re.compile(r"-?\d{1,9}")
_DECADES: Final = range(-9, 16)  # numbers below and above fall in the first and last of these

Marks: TypeAlias = tuple[str, ...]
"""The marks of one exchange, or of one row of it."""


def mark_at(word: str, key: str) -> str:
    """The mark of a word at one place, which is given by its field's key."""
    return f"{word}\0{key}"


@lru_cache(maxsize=1024)
def marks_of(words: tuple[str, ...], key: str) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """Each row's mark at one place, "" for a row without one; and each different mark once."""
    marks = {word: mark_at(word, key) if word else "" for word in sorted(set(words))}
    return tuple([marks[word] for word in words]), tuple([mark for mark in marks.values() if mark])


@lru_cache(maxsize=4096)
def _rank(mark: str) -> tuple[Any, ...]:
    """The order of marks: those of the exchange first, then those of places as places are ranked."""
    word, at, key = mark.partition("\0")
    return (1, OutputsByField.rank(key), word) if at else (0, word)


class Cell(WordCounts):
    """The number of exchanges (`n`), and of those with each mark; of too many marks those with the lowest rank."""

    def trim(self) -> None:
        """Leave out the marks that are too many. When that is done makes no difference to those that stay."""
        if len(self) > MOST_MARKS:
            for mark in sorted(self, key=_rank)[MOST_MARKS:]:
                del self[mark]

    def merged(self, other: Self) -> Self:
        total = type(self)(self)
        total.absorb(other)
        return total

    def absorb(self, other: Self) -> None:
        self.update(other)
        self.trim()

    def weighed(self, weight: Weight) -> Self:
        found = type(self)({mark: count * weight.times for mark, count in self.items()})
        if weight.times > 1:
            found[UNWRITTEN] = self["n"] * (weight.times - 1)
        return found


class ByValue(Table[Cell]):
    INNER = Cell
    LIMIT = MOST_VALUES + 1  # one more than is shown: then there are more


class ByMark(Table[Hist]):
    """How many numbers fell in each bin, by mark, and for all (`n`)."""

    INNER = Hist
    LIMIT = MOST_MARKS

    @classmethod
    def rank(cls, key: str) -> tuple[Any, ...]:
        return _rank(key)

    def weighed(self, weight: Weight) -> Self:
        found = type(self)({mark: each.weighed(weight) for mark, each in self.items()}, self.other.weighed(weight))
        if weight.times > 1 and "n" in self:
            found.part(UNWRITTEN).update({at: count * (weight.times - 1) for at, count in self["n"].items()})
        return found


@dataclass(slots=True)
class Slice(Whole):
    """Requests and their marks by the value of one field; `fractions` counts numbers that are not whole."""

    values: ByValue = field(default_factory=ByValue)
    numbers: ByMark = field(default_factory=ByMark)
    fractions: WordCounts = field(default_factory=WordCounts)

    def add(self, value: Any, marks: Marks, times: int = 1) -> None:
        if isinstance(value, int | float) and not isinstance(value, bool):
            at = digits_of(value)
            if at is not None:
                self.numbers.part("n")[at] += times
                for mark in marks:
                    self.numbers.part(mark)[at] += times
                if value % 1 != 0:
                    self.fractions["n"] += times
            return
        text = text_of(value)
        if text is not None:
            cell = self.values.part(text)
            cell["n"] += times
            for mark in marks:
                cell[mark] += times
            if len(cell) > 2 * MOST_MARKS:
                cell.trim()

    def trim(self) -> None:
        for cell in (*self.values.values(), self.values.other):
            cell.trim()

    def count_of_whole(self, text: str) -> int:
        """How many requests had a whole number; 0 if other numbers share its bin."""
        at = digits_of(int(text)) if _WHOLE.fullmatch(text) else None
        if at is None or self.fractions["n"] or whole_edges(at)[0] != whole_edges(at)[1]:
            return 0
        return self.numbers.part("n")[at] if "n" in self.numbers else 0


class Slices(Table[Slice]):
    INNER = Slice
    LIMIT = MOST_SLICES
    SHALLOW = True

    @classmethod
    def rank(cls, key: str) -> tuple[Any, ...]:
        """As elsewhere, but that the model is kept however many fields a request has."""
        return (0 if key == MODEL else key.count("/"), hashed(key))

    def add(self, observed: "Observations") -> None:
        """Count each value with its marks. `trim` is called after the last of them."""
        marks = list(observed.marks)
        for (place, _, value, which), times in observed.counts().items():
            self.part(place).add(value, marks[which], times)

    def trim(self) -> None:
        for part in (*self.values(), self.other):
            part.trim()


class ByRow(Protocol):
    """The marks of each row where some place has so many, else None."""

    def get(self, number: int, /) -> Sequence[Marks] | None: ...


class Singles:
    """The values of a request's fields that have one value, each with its place and its type: True is not 1.

    Two of these are equal only if they are the same object.
    """

    __slots__ = ("values",)

    def __init__(self) -> None:
        self.values: list[tuple[str, type, Any]] = []


class Fields:
    """The values of a request by place, for counting: `single` of fields with one value, `several` of the others.
    Nothing in it may be changed: equal requests share it."""

    __slots__ = ("by_place", "several", "single")

    def __init__(self, by_place: Mapping[str, Sequence[Any]]) -> None:
        self.by_place = by_place
        self.single = Singles()
        self.several: list[tuple[str, Sequence[Any]]] = []
        for place, values in by_place.items():
            if len(values) != 1:
                self.several.append((place, values))
            elif (known := _countable(values[0])) is not None:
                self.single.values.append((place, *known))


class Observations:
    """Values of requests with their marks, each with its number, that wait to be counted.

    `marks` numbers the different marks, so that hashing an observation does not hash all its words. `requests` are
    requests with the number of their marks: equal ones wait once, with all their single values.
    """

    __slots__ = ("marks", "requests", "rows")

    def __init__(self) -> None:
        self.requests: dict[tuple[Singles, int], int] = {}
        self.rows: dict[tuple[str, type, Any, int], int] = {}
        self.marks: dict[Marks, int] = {}

    def add(self, fields: Fields, marks: Marks, rows: ByRow) -> int:
        """Note one exchange under every field of its request. Returns how many more values wait now.

        `rows` has the marks row by row of the places that have so many rows. A field with a single value counts for the
        whole exchange, one with as many values as there are rows row by row. Others (a history, a vector of features)
        are passed over.
        """
        count = 0
        key = fields.single, self._number(marks)
        before = self.requests.get(key)
        if before is None:
            self.requests[key] = 1
            count += len(fields.single.values)
        else:
            self.requests[key] = before + 1
        for place, values in fields.several:
            if (by_row := rows.get(len(values))) is not None:
                for value, each in zip(values, by_row, strict=True):
                    if (known := _countable(value)) is not None:
                        kind, shown = known
                        at = place, kind, shown, self._number(each)
                        self.rows[at] = self.rows.get(at, 0) + 1
                        count += 1
        return count

    def counts(self) -> Mapping[tuple[str, type, Any, int], int]:
        """How often each value waits with each number of marks."""
        counts = self.rows
        for (single, marks), times in self.requests.items():
            for place, kind, value in single.values:
                key = place, kind, value, marks
                counts[key] = counts.get(key, 0) + times
        self.requests = {}
        return counts

    def _number(self, marks: Marks) -> int:
        found = self.marks.get(marks)
        if found is None:
            found = self.marks[marks] = len(self.marks)
        return found


def _countable(value: Any) -> tuple[type, Any] | None:
    """A value with its type, cut if it is a long text; None for an object or an array."""
    kind = type(value)
    if kind is str:
        return kind, value[: _LONGEST + 1]
    return None if kind is dict or kind is list else (kind, value)


def text_of(value: Any) -> str | None:
    """The name of a cell: a text, boolean or null as text; None for anything else."""
    if isinstance(value, str):
        return value if len(value) <= _LONGEST else value[:_LONGEST] + "…"
    if value is None or isinstance(value, bool):
        return {True: "true", False: "false", None: "null"}[value]
    return None


def leaves(payload: Any) -> dict[str, list[Any]]:
    """The scalars of a request by place, arrays spread out; a bounded number of both."""
    found: dict[str, list[Any]] = {}
    _gather("", payload, 0, found, _LEAVES * 16)
    return found


def _gather(place: str, value: Any, depth: int, found: dict[str, list[Any]], room: int) -> int:
    """Add the scalars of a value, the first `room` of them, to `found`; returns the room that is left."""
    if isinstance(value, dict):
        if depth < _DEEPEST:
            for key in islice(value, _LEAVES * 2):
                if room <= 0:
                    break
                below = member_place(place, key[:80])
                each = value[key]
                if isinstance(each, dict | list):
                    room = _gather(below, each, depth + 1, found, room)
                else:
                    room -= 1
                    _put(below, each, found)
    elif isinstance(value, list):
        if depth < _DEEPEST:
            below = f"{place}/*"
            for each in islice(value, room):
                room = _gather(below, each, depth + 1, found, room)
    elif room > 0:
        room -= 1
        _put(place, value, found)
    return room


def _put(place: str, value: Any, found: dict[str, list[Any]]) -> None:
    values = found.get(place)
    if values is not None:
        values.append(value)
    elif len(found) < _LEAVES:
        found[place] = [value]


@lru_cache(maxsize=8192, typed=True)
def digits_of(value: int | float) -> int | None:
    """A number's bin: sign, power of ten and first two digits in one integer that sorts as the numbers do."""
    try:
        number = float(value)
    except OverflowError:
        return None
    if not math.isfinite(number):
        return None
    size = abs(number)
    if size < 10.0**_DECADES.start:
        return 0
    if size >= 10.0**_DECADES.stop:
        decade, lead = _DECADES.stop - 1, 99
    else:
        decade = math.floor(math.log10(size))
        if size >= 10.0 ** (decade + 1):
            decade += 1
        elif size < 10.0**decade:
            decade -= 1
        lead = min(99, max(10, math.floor(size / 10.0 ** (decade - 1) + 1e-9)))
    at = (decade - _DECADES.start) * 90 + lead - 9
    return at if number > 0 else -at


def digits_edges(at: int) -> tuple[float, float]:
    """Between which numbers a bin lies: the one nearer zero belongs to it, the other to the next."""
    if at == 0:
        return 0.0, 0.0
    decade, lead = divmod(abs(at) - 1, 90)
    power = decade + _DECADES.start - 1
    # Divided, not multiplied by 0.1: 33 / 10 is the float that 3.3 is.
    ends = lead + 10, lead + 11
    low, high = (float(end * 10**power) if power >= 0 else end / 10**-power for end in ends)
    return (low, high) if at > 0 else (-high, -low)


def whole_edges(at: int) -> tuple[float, float]:
    """The smallest and the largest whole number of a bin that holds whole numbers only."""
    low, high = digits_edges(at)
    if at == 0:
        return 0.0, 0.0
    return (low, float(math.ceil(high) - 1)) if at > 0 else (float(math.floor(low) + 1), high)
