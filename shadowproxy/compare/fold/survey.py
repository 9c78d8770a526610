"""A search of one payload for the places where its answer may be, leaf by leaf, with the values there.

It can note as well *which* of the payload's values these are: another payload of the same shape has its values at the
same places, and need not be searched (`layouts`).
"""

from typing import Any, Final

from shadowproxy.answers import ANSWER_PARTS
from shadowproxy.compare.fold.known import Known
from shadowproxy.compare.fold.places import MOST_PLACES, is_envelope, static_rank, values_at
from shadowproxy.compare.fold.values import is_vector, ranking_of, sums_to_one, vector_of
from shadowproxy.pointers import pointer_token

DEEPEST: Final = 12
SCALARS: Final = frozenset({type(None), bool, int, float, str})

_MOST_LEAVES: Final = 200  # of one payload that are looked at to find its places
_MANY: Final = 64  # numbers in an array that are one answer rather than several, unless an envelope says otherwise
_FEWEST_NUMBERS: Final = 8  # of an embedding

Mirror = int | tuple[int, tuple[Any, ...]]
"""Stands for a value of a payload: a scalar's number among the scalars; for an object or array its number among these,
and the mirrors of its members or elements."""


class Survey:
    """A walk through one payload, whose mirror is given if it is to be noted which values are found.

    `found` has the values by place, the best rank first. `mirrors` has the mirrors of these, or None at a place where
    the values have to be gathered from each payload.
    """

    def __init__(self, value: Any, mirror: Mirror | None = None) -> None:
        self.found: dict[str, list[Any]] = {}
        self.mirrors: dict[str, list[Any] | None] = {}
        # Arrays whose elements have different members, or of which only the first elements were visited: their values
        # are gathered once all places are known.
        self._ragged: list[str] = []
        self._room = _MOST_LEAVES
        self._look("", value, mirror, 0)
        found = self.found
        if len(found) > 1:
            self.found = found = {place: found[place] for place in _best(tuple(found))}
        if self._ragged:
            for place in found:
                if any(place == ragged or place.startswith(f"{ragged}/") for ragged in self._ragged):
                    found[place] = values_at(value, place)
                    self.mirrors[place] = None

    def _look(self, place: str, value: Any, mirror: Any, depth: int) -> None:
        if isinstance(value, dict):
            vector = vector_of(value)
            if vector is not None and (place or sums_to_one(vector)):
                self._put(place, [value], mirror and [mirror])
            if depth < DEEPEST:
                self._members(place, value, mirror and mirror[1], depth)
        elif isinstance(value, list):
            if not value and place:
                self._put(place, [value], mirror and [mirror])  # an empty answer, where others may be a ranking
            elif value and depth < DEEPEST:
                self._elements(place, value, mirror, depth)
        else:
            self._put(place, [value], None if mirror is None else [mirror])

    def _put(self, place: str, values: list[Any], mirrors: Any, room: int = 1) -> None:
        """Note the values at one place; the list becomes the survey's own."""
        before = self.found.get(place)
        if before is not None:
            before += values
            if mirrors is not None:
                known = self.mirrors[place]
                if known is not None:
                    known += mirrors
        else:
            self.found[place] = values
            if mirrors is not None:
                self.mirrors[place] = list(mirrors)
        self._room -= room

    def _members(self, place: str, value: dict[str, Any], mirrors: Any, depth: int) -> None:
        at = -1
        for below, member in zip(_places_below(place, tuple(value)), value.values(), strict=True):
            at += 1
            if self._room <= 0:
                return
            if not below:
                continue
            mirror = None if mirrors is None else mirrors[at]
            kind = type(member)
            if kind is dict or kind is list:
                self._look(below, member, mirror, depth + 1)
            else:
                self._put(below, [member], None if mirrors is None else [mirror])

    def _elements(self, place: str, value: list[Any], mirror: Any, depth: int) -> None:
        mirrors: Any = mirror and mirror[1]
        rows = is_envelope(place)
        first = value[0]
        below = f"{place}/*"
        if isinstance(first, dict | list):
            if not isinstance(first, list) and len(value) > 1 and ranking_of(value) is not None:
                self._put(place, [value], mirror and [mirror])
            if len(value) > 1:
                if isinstance(first, dict) and self._columns(below, first, value, mirrors):
                    return
                self._ragged.append(below)
            for at, element in enumerate(value):
                if self._room <= 0:
                    break
                self._look(below, element, None if mirrors is None else mirrors[at], depth + 1)
            return
        numbers = isinstance(first, int | float) and not isinstance(first, bool)
        vector = numbers and is_vector(value)
        many = numbers and len(value) >= (_MANY if rows else _FEWEST_NUMBERS)
        if vector or many or (not rows and len(value) > 1 and ranking_of(value) is not None):
            self._put(place, [value], mirror and [mirror])
        if rows or not (vector or (numbers and len(value) > _MANY)):
            self._put(below, list(value), mirrors)

    def _columns(self, place: str, first: dict[str, Any], rows: list[Any], mirrors: Any) -> bool:
        """Gather the rows of a table column by column, if all are objects with the same scalar members."""
        size = len(first)
        if size > self._room or place in self.found or set(map(type, rows)) != {dict}:
            return False
        if set(map(len, rows)) != {size} or not SCALARS.issuperset(map(type, first.values())):
            return False
        keys = tuple(first)
        try:
            columns = [[row[key] for row in rows] for key in keys]
        except KeyError:
            return False
        for column in columns:
            if not SCALARS.issuperset(map(type, column)):
                return False
        if vector_of(first) is not None:
            return False
        named: list[dict[str, Any]] = []
        if mirrors is not None:
            named = [dict(zip(row, mirror[1], strict=True)) for row, mirror in zip(rows, mirrors, strict=True)]
        for key, below, column in zip(keys, _places_below(place, keys), columns, strict=True):
            if not below:
                below = f"{place}/{pointer_token(key)}"
            self._put(below, column, None if mirrors is None else [row[key] for row in named])
        return True


_best_known: Final[Known[tuple[str, ...], tuple[str, ...]]] = Known(1 << 20)


def _best(places: tuple[str, ...]) -> tuple[str, ...]:
    """The places with the best rank. Remembered, as most payloads have the same places."""
    found = _best_known.get(places)
    if found is None:
        found = tuple(sorted(places, key=static_rank)[:MOST_PLACES])
        _best_known.keep(places, found, sum(map(len, places)))
    return found


_below_known: Final[Known[tuple[str, tuple[str, ...]], tuple[str, ...]]] = Known(1 << 20)


def _places_below(place: str, keys: tuple[str, ...]) -> tuple[str, ...]:
    """The places of an object's members; "" for a member that is not counted beside an `answer`.

    Remembered, as most payloads have the same keys.
    """
    found = _below_known.get((place, keys))
    if found is None:
        answered = "answer" in keys
        made = [f"{place}/{pointer_token(key)}" for key in keys]
        found = tuple(["" if answered and below in ANSWER_PARTS else below for below in made])
        _below_known.keep((place, keys), found, len(place) + sum(map(len, keys)) + sum(map(len, found)))
    return found
