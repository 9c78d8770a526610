"""Pairs the elements of two unordered arrays.

1. Equal elements are taken out.
2. Of the others, those that are equal by the rules (a tolerance, a place that is ignored) are paired next. Only
   elements that are the same but for their numbers can be: among these, the nearest numbers are tried first.
3. The rest differs. Similar elements are paired, so that few differences are listed.
"""

from collections.abc import Callable
from typing import Any, Final, TypeAlias

from shadowproxy.compare.judge.rules import PlaceRules

_DEEPEST: Final = 64  # levels of an element that are looked at for sorting it
_MOST_TRIED: Final = 20_000
"""Pairs of one array that are compared by the rules: at some microseconds each it is over in a tenth of a second."""

_Key: TypeAlias = tuple[Any, ...]
_Element: TypeAlias = tuple[_Key, int, Any]
"""The key that an element is sorted by, its number in its array, and itself."""

_NUMBER: Final[_Key] = (2,)

Alike: TypeAlias = Callable[[Any, Any, PlaceRules], bool]
"""Whether two values at a place are equal by the rules."""


def pair_elements(
    live: list[Any], shadow: list[Any], place: PlaceRules, alike: Alike
) -> tuple[list[Any], list[Any], list[int]]:
    """Two arrays of one length without the elements that both have, similar ones paired, and the positions of live's
    in its array."""
    below = place.each()
    lefts, rights = _without_same(_sorted(live, below), _sorted(shadow, below))
    pairs = _alike_by_rules(lefts, rights, below, alike)
    # By their numbers: two elements may be equal, and compiled code makes a new tuple at each read.
    matched = {left[1] for left, _ in pairs}, {right[1] for _, right in pairs}
    rest = (
        [left for left in lefts if left[1] not in matched[0]],
        [right for right in rights if right[1] not in matched[1]],
    )
    pairs.extend(zip(*rest, strict=True))
    return [left[2] for left, _ in pairs], [right[2] for _, right in pairs], [left[1] for left, _ in pairs]


def _sorted(values: list[Any], place: PlaceRules) -> list[_Element]:
    elements = [(_key(value, place, 0, True), at, value) for at, value in enumerate(values)]
    return sorted(elements, key=lambda element: element[:2])


def _without_same(lefts: list[_Element], rights: list[_Element]) -> tuple[list[_Element], list[_Element]]:
    only_left: list[_Element] = []
    only_right: list[_Element] = []
    left = right = 0
    while left < len(lefts) and right < len(rights):
        if lefts[left][0] == rights[right][0]:
            left, right = left + 1, right + 1
        elif lefts[left][0] < rights[right][0]:
            only_left.append(lefts[left])
            left += 1
        else:
            only_right.append(rights[right])
            right += 1
    return only_left + lefts[left:], only_right + rights[right:]


def _alike_by_rules(
    lefts: list[_Element], rights: list[_Element], place: PlaceRules, alike: Alike
) -> list[tuple[_Element, _Element]]:
    """Pairs that are equal by the rules, each element in at most one. Both lists are sorted."""
    groups: dict[_Key, tuple[list[_Element], list[_Element]]] = {}
    for at, elements in enumerate((lefts, rights)):
        for element in elements:
            groups.setdefault(_key(element[2], place, 0, False), ([], []))[at].append(element)
    pairs: list[tuple[_Element, _Element]] = []
    room = _MOST_TRIED
    for key, (ones, others) in groups.items():
        if key == _NUMBER:
            pairs.extend(_numbers(ones, others, place, alike))
        else:
            room -= _objects(ones, others, place, alike, room, pairs)
    return pairs


def _numbers(
    lefts: list[_Element], rights: list[_Element], place: PlaceRules, alike: Alike
) -> list[tuple[_Element, _Element]]:
    """Each number with the lowest free one that it is equal to: that leaves as few over as can be."""
    pairs: list[tuple[_Element, _Element]] = []
    left = right = 0
    while left < len(lefts) and right < len(rights):
        if alike(lefts[left][2], rights[right][2], place):
            pairs.append((lefts[left], rights[right]))
            left, right = left + 1, right + 1
        elif lefts[left][0] < rights[right][0]:
            left += 1
        else:
            right += 1
    return pairs


def _objects(
    lefts: list[_Element],
    rights: list[_Element],
    place: PlaceRules,
    alike: Alike,
    room: int,
    pairs: list[tuple[_Element, _Element]],
) -> int:
    """Pair each with the first free one that it is equal to; gives how many were tried, at most `room`."""
    free = list(rights)
    tried = 0
    for left in lefts:
        for at, right in enumerate(free):
            if tried >= room:
                return tried
            tried += 1
            if alike(left[2], right[2], place):
                pairs.append((left, right))
                del free[at]
                break
    return tried


def _key(value: Any, place: PlaceRules, depth: int, numbers: bool) -> _Key:
    """A sort key for any JSON value: equal values have equal keys; ignored and too deep places are left out.
    Without `numbers`, any two numbers are equal."""
    if place.ignored or depth > _DEEPEST:
        return (0,)
    if isinstance(value, dict):
        return (5, tuple((key, _key(value[key], place.member(key), depth + 1, numbers)) for key in sorted(value)))
    if isinstance(value, list):
        below = place.each()
        elements = [_key(element, below, depth + 1, numbers) for element in value]
        return (4, tuple(sorted(elements) if place.unordered else elements))
    if isinstance(value, str):
        return (3, value)
    if isinstance(value, int | float) and not isinstance(value, bool):
        if not numbers:
            return _NUMBER
        return (1, "NaN") if value != value else (2, value)
    return (1, repr(value))
