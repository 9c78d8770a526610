"""Pairs the elements of two unordered arrays.

1. Equal elements are taken out.
2. Of the others, those that are equal by the rules (a tolerance, a place that is ignored) are paired next. Only
   elements that are the same but for their numbers can be: among these, the nearest numbers are tried first.
3. The rest differs. Similar elements are paired, so that few differences are listed.
"""

import math
from collections.abc import Callable
from typing import Any, Final, TypeAlias

from shadowproxy.answers.leaves import Vector
from shadowproxy.budget import Budget
from shadowproxy.compare.judge.rules import PlaceRules

_DEEPEST: Final = 64  # levels of an element that are looked at for sorting it
_MOST_TRIED: Final = 20_000
"""Pairs of one array that are compared by the rules: at some microseconds each it is over in a tenth of a second."""

_HELD: Final = 120
"""About the bytes of memory of one value in a key: a tuple of two, and its place in another."""

_Key: TypeAlias = tuple[Any, ...]
_Element: TypeAlias = tuple[_Key, int, Any]
"""The key that an element is sorted by, its number in its array, and itself."""

_NUMBER: Final[_Key] = (2,)

Alike: TypeAlias = Callable[[Any, Any, PlaceRules, Budget], bool]
"""Whether two values at a place are equal by the rules."""


class _Keys:
    """Makes the keys of elements. `size` counts the values in those that were made."""

    __slots__ = ("_budget", "size")

    def __init__(self, budget: Budget) -> None:
        self._budget = budget
        self.size = 0

    def of(self, value: Any, place: PlaceRules, depth: int, numbers: bool) -> _Key:
        """A sort key for any JSON value: equal values have equal keys; ignored and too deep places are left out.
        Without `numbers`, any two numbers are equal."""
        self.size += 1
        if place.ignored or depth > _DEEPEST:
            return (0,)
        if isinstance(value, dict):
            self._take(len(value))
            return (
                5,
                tuple((key, self.of(value[key], place.member(key), depth + 1, numbers)) for key in sorted(value)),
            )
        if isinstance(value, list):
            self._take(len(value))
            below = place.each()
            before = self.size
            elements = [self.of(element, below, depth + 1, numbers) for element in value]
            if place.unordered:
                spend_sorting(self._budget, len(elements), self.size - before)
                elements.sort()
            return (4, tuple(elements))
        if isinstance(value, str):
            self._budget.spend_bytes(len(value))
            return (3, value)
        if isinstance(value, int | float) and not isinstance(value, bool):
            if not numbers:
                return _NUMBER
            return _key_of_number(value)
        if isinstance(value, Vector):
            self._budget.spend_bytes(8 * len(value))
            return (6, value.dtype, value.shape, value.digest())
        return (1, repr(value))

    def _take(self, count: int) -> None:
        self._budget.spend(2 * count + 1)
        self._budget.hold(_HELD * count)


def _key_of_number(value: Any) -> _Key:
    if value != value:
        return (1, "NaN")
    if -_HASHED_AS_ITSELF < value < _HASHED_AS_ITSELF or (isinstance(value, float) and math.isinf(value)):
        return (2, value)
    # The hashes of multiples of 2**61 - 1 are equal: with its digits, which are hashed with this process's own secret,
    # nobody can make a dict of such numbers slow.
    return (2, value, str(int(value)))


_HASHED_AS_ITSELF: Final = 1 << 60


def spend_sorting(budget: Budget, count: int, size: int) -> None:
    """Spend what it takes at most to sort `count` keys with `size` values in all: two that differ late are compared
    value by value, and each key is compared once for each halving."""
    budget.spend(size * count.bit_length())


def pair_elements(
    live: list[Any], shadow: list[Any], place: PlaceRules, alike: Alike, budget: Budget
) -> tuple[list[Any], list[Any], list[int]]:
    """Two arrays of one length without the elements that both have, similar ones paired, and the positions of live's
    in its array. Raises Exhausted if that costs more than the budget."""
    held = budget.held
    below = place.each()
    lefts, rights = _without_same(_keyed(live, below, budget), _keyed(shadow, below, budget), budget)
    pairs = _alike_by_rules(lefts, rights, below, alike, budget)
    # By their numbers: two elements may be equal, and compiled code makes a new tuple at each read.
    matched = {left[1] for left, _ in pairs}, {right[1] for _, right in pairs}
    rest = (
        [left for left in lefts if left[1] not in matched[0]],
        [right for right in rights if right[1] not in matched[1]],
    )
    pairs.extend(zip(*rest, strict=True))
    budget.held = held
    return [left[2] for left, _ in pairs], [right[2] for _, right in pairs], [left[1] for left, _ in pairs]


def _keyed(values: list[Any], place: PlaceRules, budget: Budget) -> list[_Element]:
    budget.spend(len(values))
    budget.hold(_HELD * len(values))
    keys = _Keys(budget)
    return [(keys.of(value, place, 0, True), at, value) for at, value in enumerate(values)]


def _without_same(
    lefts: list[_Element], rights: list[_Element], budget: Budget
) -> tuple[list[_Element], list[_Element]]:
    """The elements that only one of the arrays has, sorted. Of equal ones the first are taken out."""
    return _not_in(lefts, rights, budget), _not_in(rights, lefts, budget)


def _not_in(elements: list[_Element], others: list[_Element], budget: Budget) -> list[_Element]:
    # By their hashes, which is linear: most elements are in both arrays, and only the others have to be sorted.
    budget.spend(2 * (len(elements) + len(others)))
    left: dict[_Key, int] = {}
    for key, _, _ in others:
        left[key] = left.get(key, 0) + 1
    only: list[_Element] = []
    for element in elements:
        count = left.get(element[0], 0)
        if count:
            left[element[0]] = count - 1
        else:
            only.append(element)
    spend_sorting(budget, len(only), sum(_values_in(element[0]) for element in only))
    only.sort(key=_key_and_number)
    return only


def _key_and_number(element: _Element) -> tuple[_Key, int]:
    return element[0], element[1]


def _values_in(key: _Key) -> int:
    """How many values a key has, at every depth."""
    count = 0
    waiting: list[Any] = [key]
    while waiting:
        part = waiting.pop()
        count += 1
        if isinstance(part, tuple):
            waiting.extend(part)
    return count


def _alike_by_rules(
    lefts: list[_Element], rights: list[_Element], place: PlaceRules, alike: Alike, budget: Budget
) -> list[tuple[_Element, _Element]]:
    """Pairs that are equal by the rules, each element in at most one. Both lists are sorted."""
    keys = _Keys(budget)
    groups: dict[_Key, tuple[list[_Element], list[_Element]]] = {}
    for at, elements in enumerate((lefts, rights)):
        for element in elements:
            groups.setdefault(keys.of(element[2], place, 0, False), ([], []))[at].append(element)
    pairs: list[tuple[_Element, _Element]] = []
    room = _MOST_TRIED
    for key, (ones, others) in groups.items():
        if key == _NUMBER:
            pairs.extend(_numbers(ones, others, place, alike, budget))
        else:
            room -= _objects(ones, others, place, alike, room, pairs, budget)
    return pairs


def _numbers(
    lefts: list[_Element], rights: list[_Element], place: PlaceRules, alike: Alike, budget: Budget
) -> list[tuple[_Element, _Element]]:
    """Each number with the lowest free one that it is equal to: that leaves as few over as can be."""
    pairs: list[tuple[_Element, _Element]] = []
    left = right = 0
    while left < len(lefts) and right < len(rights):
        if alike(lefts[left][2], rights[right][2], place, budget):
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
    budget: Budget,
) -> int:
    """Pair each with the first free one that it is equal to; gives how many were tried, at most `room`."""
    # To delete from the front of a long list would move all the rest of it: each free one knows the next instead.
    after = list(range(1, len(rights) + 2))  # the first of these is the one after the head, which is no element
    tried = 0
    for left in lefts:
        before = 0
        while (at := after[before]) <= len(rights):
            if tried >= room:
                return tried
            tried += 1
            if alike(left[2], rights[at - 1][2], place, budget):
                pairs.append((left, rights[at - 1]))
                after[before] = after[at]
                break
            before = at
    return tried
