"""The values of both arms of an exchange, place by place."""

from collections.abc import Sequence
from typing import Any, Final

from shadowproxy.answers.alike import values_in
from shadowproxy.compare.fold.layouts import Answer
from shadowproxy.compare.fold.places import PlaceValues, Rank, field_key, static_rank, values_at

_MOST_GAINED: Final = 8  # places of one payload that only the shadow has


def values_by_place(
    live: Answer,
    shadow: Answer | None,
    given: Sequence[tuple[str, str]] = (),
    sent: tuple[Any, Any] = (None, None),
) -> list[PlaceValues]:
    """The places that are counted of one exchange with their values, the best rank first.

    `shadow` is None if it gave no answer. With `given` only these pairs of places are counted; they may be places of
    the answers as they were `sent`. Places that only the shadow has are limited: they must not push out live's.
    """
    if given:
        return [_named(live, shadow, one, other, sent) for one, other in given]
    places = live.places
    if shadow is None:
        return [
            PlaceValues(field_key(place, place), place, place, values, None)
            for place, values in zip(places, live.columns, strict=True)
        ]
    if places == shadow.places:
        return [
            # By far the most frequent: see record.py.
            tuple.__new__(PlaceValues, (key, place, place, values, theirs))
            for key, place, values, theirs in zip(live.keys, places, live.columns, shadow.columns, strict=True)
        ]
    ones = dict(zip(places, live.columns, strict=True))
    others = dict(zip(shadow.places, shadow.columns, strict=True))
    found: list[PlaceValues] = []
    for place, values in ones.items():
        beside = others.get(place)
        if beside is None:
            beside = values_at(shadow.value, place)
        found.append(PlaceValues(field_key(place, place), place, place, values, beside))
    gained = 0
    for place, values in others.items():
        if place not in ones:
            gained += 1
            if gained > _MOST_GAINED:
                break
            found.append(PlaceValues(field_key(place, place), place, place, values_at(live.value, place), values))
    if gained:
        found.sort(key=_rank_of_look)
        if ones and others and (cross := _across(live.value, shadow.value, places[0], shadow.places[0])) is not None:
            found.append(cross)
    return found


def _rank_of_look(look: PlaceValues) -> Rank:
    return static_rank(look.live_place)


def _named(live: Answer, shadow: Answer | None, one: str, other: str, sent: tuple[Any, Any]) -> PlaceValues:
    """The values at two named places. A list at one belongs to the elements that the other names one by one."""
    mine = _given(live.value, one, sent[0])
    theirs = None if shadow is None else _given(shadow.value, other, sent[1])
    if ("*" in one) != ("*" in other):
        mine = _spread(mine, one)
        theirs = None if theirs is None else _spread(theirs, other)
    return PlaceValues(field_key(one, other), one, other, mine, theirs)


def _spread(values: list[Any], place: str) -> list[Any]:
    return values[0] if "*" not in place and len(values) == 1 and isinstance(values[0], list) else values


def _given(value: Any, place: str, sent: Any) -> list[Any]:
    return values_at(value, place) or ([] if sent is None else values_in(sent, place))


def _across(live: Any, shadow: Any, one: str, other: str) -> PlaceValues | None:
    """The best places of both arms as one field, if neither payload has the other's place."""
    if one == other or values_at(shadow, one) or values_at(live, other):
        return None
    return PlaceValues(field_key(one, other), one, other, values_at(live, one), values_at(shadow, other))
