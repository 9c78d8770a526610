"""Where the two arms part: disagreement by what was asked, for every field of the request that takes few values.

Text and booleans are counted by value up to `MOST_VALUES`, numbers by their first two digits (11, 12, .. 99, 100, 110,
120 ..): narrow enough to be gathered into ten bins of equal weight afterwards, whoever counted, and whole numbers
below 100 stay themselves.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import lru_cache
from itertools import islice
from typing import Any, Final, TypeAlias

from shadowproxy.compare.rules import member_place
from shadowproxy.compare.sketch import Hist, Table, Tally, Whole

MOST_VALUES: Final = 50
MOST_SLICES: Final = 64
_LEAVES: Final = 64  # of one request
_DEEPEST: Final = 8
_LONGEST: Final = 60
_DECADES: Final = range(-9, 16)  # numbers below and above fall in the first and last of these


class ByValue(Table[Tally]):
    INNER = Tally
    LIMIT = MOST_VALUES + 1  # one more than is shown tells "many" from "just so many"


@dataclass(slots=True)
class Slice(Whole):
    """Requests and disagreements by the value of one field of the request; `fractions` counts numbers not whole."""

    values: ByValue = field(default_factory=ByValue)
    numbers: Hist = field(default_factory=Hist)
    number_differs: Hist = field(default_factory=Hist)
    fractions: Tally = field(default_factory=Tally)

    def add(self, value: Any, differs: bool, times: int = 1) -> None:
        if isinstance(value, int | float) and not isinstance(value, bool):
            at = digits_of(value)
            if at is not None:
                self.numbers[at] += times
                self.number_differs[at] += differs * times
                self.fractions["n"] += (value % 1 != 0) * times
        elif isinstance(value, str | bool) or value is None:
            text = value if isinstance(value, str) else {True: "true", False: "false", None: "null"}[value]
            counts = self.values.part(text if len(text) <= _LONGEST else text[:_LONGEST] + "…")
            counts["n"] += times
            counts["differs"] += differs * times


class Slices(Table[Slice]):
    INNER = Slice
    LIMIT = MOST_SLICES
    SHALLOW = True

    def add(self, met: "Mapping[Met, int]") -> None:
        """Count each as often as it came."""
        for (place, _, value, differs), times in met.items():
            self.part(place).add(value, differs, times)


Met: TypeAlias = tuple[str, type, Any, bool]
"""A place in a request, a value there with its type (True is not 1), and whether the answers differ."""


def count_met(met: dict[Met, int], method: str, path: str, payload: Any, differs: Sequence[bool]) -> int:
    """Note what one exchange is counted under: every field of its request. Gives how many notes that were.

    `differs` has an entry for each observation. A field with as many values as there are observations is counted value
    by value, one with a single value once, for the whole exchange. Others (a history, a vector of features) are passed
    over.
    """
    whole = any(differs)
    count = _note(met, "@method", method, whole) + _note(met, "@path", path, whole)
    for place, values in leaves(payload).items():
        if len(values) == 1:
            count += _note(met, place, values[0], whole)
        elif len(values) == len(differs):
            count += count_at(met, place, values, differs)
    return count


def count_at(met: dict[Met, int], place: str, values: Sequence[Any], differs: Sequence[bool]) -> int:
    """The same of the values that one field of its request has."""
    if len(values) == 1:
        return _note(met, place, values[0], any(differs))
    if len(values) != len(differs):
        return 0
    count = 0
    for value, different in zip(values, differs, strict=True):
        count += _note(met, place, value, different)
    return count


def _note(met: dict[Met, int], place: str, value: Any, differs: bool) -> int:
    kind = type(value)
    if kind is str:
        value = value[: _LONGEST + 1]
    elif kind is dict or kind is list:
        return 0
    key = place, kind, value, differs
    met[key] = met.get(key, 0) + 1
    return 1


def leaves(payload: Any) -> dict[str, list[Any]]:
    """The scalars of a request by place, arrays spread out; a bounded number of both."""
    found: dict[str, list[Any]] = {}
    _gather("", payload, 0, found, _LEAVES * 16)
    return found


def _gather(place: str, value: Any, depth: int, found: dict[str, list[Any]], room: int) -> int:
    """Put the scalars of a value, the first `room` of them, where they belong; gives what room is left."""
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
