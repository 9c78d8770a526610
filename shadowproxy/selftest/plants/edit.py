"""Changes the values at a place of a payload: a pointer with `*` for all elements of an array."""

from collections.abc import Callable
from typing import Any, Final

from shadowproxy.answers import ENVELOPE_PLACES
from shadowproxy.compare.fold.places import extract
from shadowproxy.pointers import pointer_segments
from shadowproxy.record import RecordedLeg
from shadowproxy.selftest.plants.fault import Case, Plant, with_json

MADE_UP: Final = tuple(place for place in ENVELOPE_PLACES if place.endswith("/answer"))
"""Places that no payload has: `answer` is put together from its texts and calls."""


def changed(value: Any, place: str, change: Callable[[Any], Any]) -> Any:
    """The payload with `change` made to every value at a place. The payload itself may be changed."""
    return _changed(value, pointer_segments(place), change)


def _changed(value: Any, segments: tuple[str, ...] | list[str], change: Callable[[Any], Any]) -> Any:
    if not segments:
        return change(value)
    first, rest = segments[0], segments[1:]
    if isinstance(value, list):
        for at in range(len(value)):
            if first == "*" or first == str(at):
                value[at] = _changed(value[at], rest, change)
    elif isinstance(value, dict):
        for key in list(value):
            if first in ("*", key):
                value[key] = _changed(value[key], rest, change)
    return value


def filled(value: Any, place: str, values: list[Any]) -> Any:
    """The payload with other values at a place, one for each that is there."""
    left = iter(values)
    return changed(value, place, lambda old: next(left, old))


def each_row(change: Callable[[Case, Any], Any]) -> Plant:
    """A plant that changes every value at the judged place."""

    def plant(case: Case) -> RecordedLeg | None:
        place, value = case.known.place, case.value
        if place is None or not extract(value, place):
            return None
        return with_json(case, changed(value, place, lambda old: change(case, old)))

    return plant


def all_rows(change: Callable[[Case, list[Any]], list[Any] | None]) -> Plant:
    """A plant that changes the values at the judged place together; if `change` returns None, nothing is planted."""

    def plant(case: Case) -> RecordedLeg | None:
        place, value = case.known.place, case.value
        if place is None or not (rows := extract(value, place)):
            return None
        others = change(case, list(rows))
        return None if others is None else with_json(case, filled(value, place, others))

    return plant


def array_of(place: str) -> tuple[str, ...] | None:
    """The place of the array whose elements are the answers at a place; None if they are in no array."""
    segments = tuple(pointer_segments(place))
    return segments[: segments.index("*")] if "*" in segments else None


def with_array(value: Any, place: str, change: Callable[[list[Any]], list[Any]]) -> Any:
    """The payload with the array of the rows at a place changed."""
    head = array_of(place)
    if head is None:
        return value
    return _changed(value, head, lambda rows: change(rows) if isinstance(rows, list) else rows)


def without(value: Any, place: str) -> Any:
    """The payload without the values at a place: without that member, or the member that holds its rows.

    None if nothing is left.
    """
    if place in MADE_UP:
        return changed(value, place, lambda _: None)
    segments = list(pointer_segments(place))
    while segments and segments[-1] == "*":
        segments.pop()
    if not segments:
        return None
    *head, last = segments

    def drop(holder: Any) -> Any:
        if isinstance(holder, dict):
            holder.pop(last, None)
        return holder

    return _changed(value, head, drop)
