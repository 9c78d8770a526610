"""The places in a payload where an answer may be.

The envelopes of the common model servers are known by name (`ENVELOPES`, and those of language models). Any other
payload is searched leaf by leaf. A place is a pointer with `*` for array positions, so a batch of predictions has
several values at one place. An array or object that is one answer (a probability vector, a ranking, an embedding) is a
place of its own, beside the leaves in it.

The places found in a payload depend on that payload alone, and a place's rank on its name alone: so any part of a log
counts the same places as the whole. The report decides which of them holds the answer (`kinds`).
"""

import json
import re
from collections.abc import Iterable, Sequence
from functools import lru_cache
from typing import Any, Final, NamedTuple

from shadowproxy.compare.fold.samples import hashed
from shadowproxy.compare.fold.values import MISSING, is_vector, ranking_of, sums_to_one, vector_of
from shadowproxy.compare.judge.answers import ANSWER_PARTS, ENVELOPE_PLACES
from shadowproxy.pointers import pointer_segments, pointer_token

ENVELOPES: Final = (
    "/predictions",  # MLflow, TensorFlow Serving, KServe v1, SageMaker
    "/outputs",  # Open Inference Protocol (as `answers` spreads it) and TensorFlow Serving's columns
    "/results",
    "/data/ndarray",  # Seldon
    "/data/tensor",
)

MOST_PLACES: Final = 24
"""Places that are counted."""

FAILED: Final = object()
"""In place of the value of a shadow that failed."""

_SCALARS: Final = frozenset({type(None), bool, int, float, str})
_MOST_LEAVES: Final = 200  # of one payload that are looked at to find its places
_MOST_GAINED: Final = 8  # places of one payload that only the shadow has
_DEEPEST: Final = 12
_MOST_KNOWN: Final = 512  # objects whose members' places are remembered
_LONGEST_KNOWN: Final = 4000  # characters of the places of one
_MANY: Final = 64  # numbers in an array that are one answer rather than several, unless an envelope says otherwise
_FEWEST_NUMBERS: Final = 8  # of an embedding

_ANSWER_NAME: Final = re.compile(
    r"(?i)predict|label|class|score|prob|output|result|answer|content|text|categor|decision|rank|recommend|value|price"
    r"|embedding|response"
)
_DECISION: Final = re.compile(r"(?i)predict|label|class|categor|decision|answer")  # rather than how sure one is of it
_OTHER_NAME: Final = re.compile(
    r"(?i)(?:\A|_)(?:id|ids|uuid|model|version|trace|span|request|created|object|usage|tokens|time|timestamp|ms|latency"
    r"|duration|took|elapsed|fingerprint|role|index|shape|datatype|meta|metadata)(?:\Z|_)|(?:name|tokens)\Z"
)

Rank = tuple[int, int, str]


class PlaceValues(NamedTuple):
    """The values of both arms at one place, or at two places that belong together.

    `shadow` is None if the shadow failed. A value that an answer lacks is left out.
    """

    key: str
    live_place: str
    shadow_place: str
    live: Sequence[Any]
    shadow: Sequence[Any] | None


@lru_cache(maxsize=4096)
def field_key(live: str, shadow: str) -> str:
    """The key that a pair of places is counted under."""
    return json.dumps([live, shadow], ensure_ascii=False)


@lru_cache(maxsize=4096)
def places_of(key: str) -> tuple[str, str]:
    live, shadow = json.loads(key)
    return live, shadow


@lru_cache(maxsize=4096)
def static_rank(place: str) -> Rank:
    """A place's rank by its name: the lowest is first. Names of the same score are ordered by a hash: alphabetical
    order has nothing to do with answers."""
    return (-static_score(place), hashed(place), place)


@lru_cache(maxsize=4096)
def static_score(place: str) -> int:
    """How likely a place's name is that of an answer, in tenths."""
    if place in ENVELOPE_PLACES:
        return 120 - 10 * ENVELOPE_PLACES.index(place)
    names = [segment for segment in pointer_segments(place) if segment != "*"]
    score = -4 * max(0, len(names) - 1)
    if names and _ANSWER_NAME.search(names[-1]):
        score += 20 + bool(_DECISION.search(names[-1]))
    if any(place == root or place.startswith(f"{root}/") for root in ENVELOPES):
        score += 30
    if any(_OTHER_NAME.search(name) for name in names):
        score -= 40
    return score


def place_values(live: Any, shadow: Any, given: Sequence[tuple[str, str]] = ()) -> list[PlaceValues]:
    """The places that are counted of one exchange with their values, the best rank first.

    `live` and `shadow` are the answers' values; `shadow` is `FAILED` if it gave none. With `given` only these pairs of
    places are counted. Places that only the shadow has are limited: they must not push out live's.
    """
    if given:
        return [
            PlaceValues(field_key(one, other), one, other, values_at(live, one), _of_shadow(shadow, other))
            for one, other in given
        ]
    ones = candidates(live)
    if shadow is FAILED:
        return [PlaceValues(field_key(place, place), place, place, values, None) for place, values in ones.items()]
    others = candidates(shadow)
    if ones.keys() == others.keys():
        return [
            PlaceValues(field_key(place, place), place, place, values, others[place]) for place, values in ones.items()
        ]
    found: list[PlaceValues] = []
    for place, values in ones.items():
        theirs = others.get(place)
        found.append(
            PlaceValues(
                field_key(place, place), place, place, values, values_at(shadow, place) if theirs is None else theirs
            )
        )
    gained = 0
    for place, values in others.items():
        if place not in ones:
            gained += 1
            if gained > _MOST_GAINED:
                break
            found.append(PlaceValues(field_key(place, place), place, place, values_at(live, place), values))
    if gained:
        found.sort(key=_rank_of_look)
        if ones and others and (cross := _across(live, shadow, next(iter(ones)), next(iter(others)))) is not None:
            found.append(cross)
    return found


def _rank_of_look(look: PlaceValues) -> Rank:
    return static_rank(look.live_place)


def _of_shadow(shadow: Any, place: str) -> list[Any] | None:
    return None if shadow is FAILED else values_at(shadow, place)


def _across(live: Any, shadow: Any, one: str, other: str) -> PlaceValues | None:
    """The best places of both arms as one field, if neither payload has the other's place."""
    if one == other or values_at(shadow, one) or values_at(live, other):
        return None
    return PlaceValues(field_key(one, other), one, other, values_at(live, one), values_at(shadow, other))


def candidates(value: Any) -> dict[str, list[Any]]:
    """The values of one payload at its `MOST_PLACES` best places, in the order of rank."""
    survey = _Survey()
    survey.look("", value, 0)
    found = survey.found
    if len(found) > 1:
        found = {place: found[place] for place in _best(tuple(found))}
    if survey.ragged:
        for place in found:
            if any(place == ragged or place.startswith(f"{ragged}/") for ragged in survey.ragged):
                found[place] = values_at(value, place)
    return found


@lru_cache(maxsize=1024)
def _best(places: tuple[str, ...]) -> tuple[str, ...]:
    """The places with the best rank. Cached, as most payloads have the same places."""
    return tuple(sorted(places, key=static_rank)[:MOST_PLACES])


class _Survey:
    """A walk through one payload. `ragged` are arrays whose elements have different members, or of which only the first
    elements were visited: their values are gathered once all places are known."""

    def __init__(self) -> None:
        self.found: dict[str, list[Any]] = {}
        self.ragged: list[str] = []
        self.room = _MOST_LEAVES

    def look(self, place: str, value: Any, depth: int) -> None:
        if isinstance(value, dict):
            vector = vector_of(value)
            if vector is not None and (place or sums_to_one(vector)):
                self.put(place, value)
            if depth < _DEEPEST:
                self._members(place, value, depth)
        elif isinstance(value, list):
            if not value and place:
                self.put(place, value)  # an empty answer, where others may be a ranking
            elif value and depth < _DEEPEST:
                self._elements(place, value, depth)
        else:
            self.put(place, value)

    def put(self, place: str, value: Any) -> None:
        values = self.found.get(place)
        if values is not None:
            values.append(value)
        else:
            self.found[place] = [value]
        self.room -= 1

    def _members(self, place: str, value: dict[str, Any], depth: int) -> None:
        found = self.found
        for below, member in zip(_places_below(place, tuple(value)), value.values(), strict=True):
            if self.room <= 0:
                return
            if not below:
                continue
            kind = type(member)
            if kind is dict or kind is list:
                self.look(below, member, depth + 1)
                continue
            values = found.get(below)
            if values is not None:
                values.append(member)
            else:
                found[below] = [member]
            self.room -= 1

    def _elements(self, place: str, value: list[Any], depth: int) -> None:
        rows = is_envelope(place)
        first = value[0]
        below = f"{place}/*"
        if isinstance(first, dict | list):
            if not isinstance(first, list) and len(value) > 1 and ranking_of(value) is not None:
                self.put(place, value)
            if len(value) > 1:
                if isinstance(first, dict) and self._columns(below, first, value):
                    return
                self.ragged.append(below)
            for element in value:
                if self.room <= 0:
                    break
                self.look(below, element, depth + 1)
            return
        numbers = isinstance(first, int | float) and not isinstance(first, bool)
        vector = numbers and is_vector(value)
        many = numbers and len(value) >= (_MANY if rows else _FEWEST_NUMBERS)
        if vector or many or (not rows and len(value) > 1 and ranking_of(value) is not None):
            self.put(place, value)
        if rows or not (vector or (numbers and len(value) > _MANY)):
            if below in self.found:
                self.found[below] += value
            else:
                self.found[below] = list(value)
            self.room -= 1

    def _columns(self, place: str, first: dict[str, Any], rows: list[Any]) -> bool:
        """Gather the rows of a table column by column, if all are objects with the same scalar members."""
        size = len(first)
        if size > self.room or place in self.found or set(map(type, rows)) != {dict}:
            return False
        if set(map(len, rows)) != {size} or not _SCALARS.issuperset(map(type, first.values())):
            return False
        keys = tuple(first)
        try:
            columns = [[row[key] for row in rows] for key in keys]
        except KeyError:
            return False
        for column in columns:
            if not _SCALARS.issuperset(map(type, column)):
                return False
        if vector_of(first) is not None:
            return False
        for key, below, column in zip(keys, _places_below(place, keys), columns, strict=True):
            if not below:
                below = f"{place}/{pointer_token(key)}"
            if below in self.found:
                self.found[below] += column
            else:
                self.found[below] = column
        self.room -= size
        return True


_known: Final[dict[tuple[str, tuple[str, ...]], tuple[str, ...]]] = {}


def _places_below(place: str, keys: tuple[str, ...]) -> tuple[str, ...]:
    """The places of an object's members; "" for a member that is not counted beside an `answer`.

    Cached for a few hundred objects that are not large, as most payloads have the same keys.
    """
    found = _known.get((place, keys))
    if found is None:
        answered = "answer" in keys
        made = [f"{place}/{pointer_token(key)}" for key in keys]
        found = tuple(["" if answered and below in ANSWER_PARTS else below for below in made])
        if sum(map(len, found)) <= _LONGEST_KNOWN:
            if len(_known) >= _MOST_KNOWN:
                _known.clear()
            _known[place, keys] = found
    return found


@lru_cache(maxsize=1024)
def is_envelope(place: str) -> bool:
    """Whether an array at this place is a batch: each element answers one row of the request."""
    return place == "" or place in ENVELOPES or (place.startswith("/outputs/") and place.count("/") == 2)


def extract(value: Any, pointer: str) -> list[Any]:
    """The values at a place: one, or one for each element if the place has a `*`. Absent ones are left out."""
    found = [value]
    for segment in pointer_segments(pointer):
        if segment != "*":
            try:
                found = [each[segment] for each in found]  # objects that all have it, as nearly always
                continue
            except (KeyError, TypeError):
                pass  # looked at one by one
        found = [below for each in found for below in _below(each, segment)]
    return found


def values_at(value: Any, place: str) -> list[Any]:
    """The values at a place, with `MISSING` for array elements that lack it. Empty if all lack it.

    So the rows of two batches stay in step if one of them lacks a member.
    """
    found = [value]
    for segment in pointer_segments(place):
        if segment == "*":
            found = [below for each in found for below in _below(each, segment)]
            continue
        try:
            found = [each[segment] for each in found]
        except (KeyError, TypeError):
            found = [next(iter(_below(each, segment)), MISSING) for each in found]
    return found if any(each is not MISSING for each in found) else []


def _below(value: Any, segment: str) -> Iterable[Any]:
    if isinstance(value, dict):
        if segment in value:
            return (value[segment],)
        return value.values() if segment == "*" else ()
    if isinstance(value, list):
        if segment == "*":
            return value
        if segment.isascii() and segment.isdigit() and int(segment) < len(value):  # ² is a digit, and no number
            return (value[int(segment)],)
    return ()
