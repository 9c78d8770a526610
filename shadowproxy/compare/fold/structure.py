"""The places that live's answers have, and which of them a shadow's answer lacks.

A place is present if it has a value other than null and NaN. A place below an array is present if every element has
it. What live's answers *always* have is known only at the end; so each place is counted, and so is each set of places
that an answer lacks. For a lacking object only its own place is named, not its members'.
"""

import math
from collections.abc import Collection
from typing import Any, Final, TypeAlias

import orjson

from shadowproxy.compare.fold.counts import Series, WordCounts
from shadowproxy.compare.fold.known import Known
from shadowproxy.compare.fold.tables import Table
from shadowproxy.compare.judge.rules import PlaceRules, Rules, member_place

MOST_PLACES: Final = 200
"""Places of one answer that are counted, in the order of its document."""

_MOST_LACKING: Final = 16  # places that one exchange's key names
_ELEMENTS: Final = 200  # of one array
_DEEPEST: Final = 12
_LONGEST_KEY: Final = 200
_FULL: Final = frozenset({str, int, bool, float})
"""Types whose values are present, unless NaN, and have no places below."""

Shape: TypeAlias = tuple[Any, ...]
"""The places of an answer, for counting equal ones at once: an object's keys, each alone or in a tuple with the shape
below it; for an array, None and the shape that all its elements have, if any."""


class Lacking(Table[Series]):
    """Exchanges by the places that the shadow's answer lacks (a JSON list, sorted), by block."""

    INNER = Series
    LIMIT = 256


class PresentAt(Table[WordCounts]):
    """How many of live's answers have a place."""

    INNER = WordCounts
    SHALLOW = True


def has_structure(value: Any) -> bool:
    """Whether an answer is an object or an array."""
    return isinstance(value, dict | list)


def shape_of(value: Any, *, exact: bool = False) -> Shape:
    """The shape of an answer's first `MOST_PLACES` places. `exact`: it contains no NaN."""
    return _shape(value, 0, [MOST_PLACES], exact)


def _shape(value: Any, depth: int, room: list[int], exact: bool) -> Shape:
    if depth > _DEEPEST or room[0] <= 0:
        return ()
    parts: list[Any] = []
    if isinstance(value, dict):
        if len(value) <= room[0] and value and _FULL.issuperset(map(type, value.values())):
            keys: Shape = tuple(value)
            if max(map(len, keys)) <= _LONGEST_KEY and (exact or not any(map(_nothing, value.values()))):
                room[0] -= len(keys)
                return keys
        for key, member in value.items():
            if room[0] <= 0:
                break
            if isinstance(member, dict | list):
                room[0] -= 1
                parts.append((key[:_LONGEST_KEY], _shape(member, depth + 1, room, exact)))
            elif not (member is None or member != member):
                room[0] -= 1
                parts.append(key[:_LONGEST_KEY])
    elif isinstance(value, list) and value:
        elements = value[:_ELEMENTS]
        if not _full(elements, exact):
            return ()
        room[0] -= 1
        parts.append(None)
        if exact and (row := _row_of(elements)) is not None and len(row) <= room[0]:
            room[0] -= len(row)
            parts.append(row)
        elif isinstance(elements[0], dict | list) and all(isinstance(each, dict | list) for each in elements):
            left = room[0]
            common: Shape | None = None
            for each in elements:
                inner = [left]  # elements share their places, and so the room for these
                shape = _shape(each, depth + 1, inner, exact)
                room[0] = min(room[0], inner[0])
                common = shape if common is None or common == shape else _common(common, shape)
            parts.append(common)
    return tuple(parts)


def _row_of(elements: list[Any]) -> Shape | None:
    """The shape of rows with the same members, all present, as in nearly every batch; else None."""
    first = elements[0]
    if type(first) is not dict or not first:
        return None
    for each in elements:
        if type(each) is not dict or each.keys() != first.keys() or not _FULL.issuperset(map(type, each.values())):
            return None
    keys: Shape = tuple(first)
    return keys if max(map(len, keys)) <= _LONGEST_KEY else None


def _full(elements: list[Any], exact: bool) -> bool:
    """Whether every element of an array is present."""
    kinds = set(map(type, elements))
    if type(None) in kinds:
        return False
    if exact or float not in kinds:
        return True
    if kinds == {float} and math.isfinite(sum(elements)):
        return True
    return not any(map(_nothing, elements))


def _common(one: Shape, other: Shape) -> Shape:
    """The shape that both have in common."""
    if not one or not other or (one[0] is None) != (other[0] is None):
        return ()
    if one[0] is None:
        return (None, _common(one[1], other[1])) if len(one) > 1 and len(other) > 1 else (None,)
    below = dict(_named(each) for each in other)
    parts: list[Any] = []
    for each in one:
        key, shape = _named(each)
        if key in below:
            theirs = below[key]
            both = _common(shape, theirs) if shape is not None and theirs is not None else None
            parts.append(key if both is None else (key, both))
    return tuple(parts)


def _named(part: Any) -> tuple[str, Shape | None]:
    return (part, None) if isinstance(part, str) else (part[0], part[1])


_places_known: Final[Known[Shape, tuple[str, ...]]] = Known(1 << 20)


def places_in(shape: Shape) -> tuple[str, ...]:
    """The places that an answer of this shape has, the root as ""."""
    known = _places_known.get(shape)
    if known is not None:
        return known
    found: list[str] = [""]
    _spell("", shape, found)
    places = tuple(found)
    _places_known.keep(shape, places, sum(map(len, places)))  # the shape has no more characters than these
    return places


def _spell(place: str, shape: Shape, found: list[str]) -> None:
    if not shape:
        return
    if shape[0] is None:
        found.append(f"{place}/*")
        if len(shape) > 1:
            _spell(f"{place}/*", shape[1], found)
        return
    for each in shape:
        key, inner = _named(each)
        below = member_place(place, key)
        found.append(below)
        if inner is not None:
            _spell(below, inner, found)


def _nothing(value: Any) -> bool:
    return value is None or (isinstance(value, float) and value != value)


def lacking(live: Any, shadow: Any, rules: Rules) -> tuple[str, ...]:
    """The places that live's answer has and the shadow's lacks, or has with another JSON type."""
    found: dict[str, None] = {}
    _lack("", live, shadow, rules.root, 0, found)
    return tuple(found)


def _lack(pointer: str, live: Any, shadow: Any, place: PlaceRules, depth: int, found: dict[str, None]) -> None:
    if (
        _nothing(live)
        or place.ignored
        or place.set_aside is not None
        or len(found) >= _MOST_LACKING
        or depth > _DEEPEST
    ):
        return
    if _nothing(shadow) or _type(live) != _type(shadow):
        found[pointer] = None
        return
    if isinstance(live, dict):
        for key, member in live.items():
            beside = shadow.get(key)
            kind = type(member)
            if kind is type(beside) and kind is not dict and kind is not list and kind is not float:
                continue  # the same type, and not NaN
            _lack(member_place(pointer, key[:_LONGEST_KEY]), member, beside, place.member(key), depth + 1, found)
    elif isinstance(live, list):
        below = f"{pointer}/*"
        if not shadow:
            if live and _full(live[:_ELEMENTS], exact=False):
                found[below] = None
            return
        each = place.each()
        last = len(live) - 1
        # Each of the shadow's rows is compared with live's at the same position, or with live's last.
        for at, element in enumerate(shadow[:_ELEMENTS]):
            if last >= 0:
                _lack(below, live[min(at, last)], element, each, depth + 1, found)


def _type(value: Any) -> str:
    if isinstance(value, bool):
        return "boolean"
    if isinstance(value, int | float):
        return "number"
    return "text" if isinstance(value, str) else "object" if isinstance(value, dict) else "array"


_lacking_known: Final[Known[tuple[str, ...], str]] = Known(1 << 20)


def lacking_key(places: tuple[str, ...]) -> str:
    key = _lacking_known.get(places)
    if key is None:
        key = orjson.dumps(sorted(places)).decode()
        _lacking_known.keep(places, key, 2 * len(key))
    return key


def places_of_lacking(key: str) -> list[str]:
    places: list[str] = orjson.loads(key)
    return places


def always_there(present: PresentAt, of: int, aside: Collection[str]) -> set[str]:
    """The places that all of live's answers have, without those that are noise."""
    return {place for place, tally in present.items() if tally["n"] == of and place not in aside}
