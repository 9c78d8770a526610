"""Two JSON values to the list of places where they differ.

The rules of equality:

- Objects are compared by key, in any order; arrays element by element, in order, unless a rule calls them unordered
  (sorting first would make [.1, .9] equal to [.9, .1]).
- Arrays of unequal length differ in length, and their elements are not compared: each would be out of step.
- Two numbers of which one is a float are equal within 1 part in a million or 1e-9, and in arrays and where answers
  stand as `near` says; two integers only when they are the same; a rule's tolerance holds for both. 1 equals 1.0, NaN
  equals NaN, `true` is no number.
- A vector is as good as an array of its numbers, element by element, and within what its type can tell apart; an
  embedding is one value, equal within 1 - cosine = 1e-5, unless a rule has a tolerance for it.
- Two texts that are both JSON objects or arrays, as a tool's arguments are, are compared as what they hold.
- Everything else is equal when it is the same.

The walk is one loop with its own stack, so depth costs no recursion.
"""

import math
from collections.abc import Sequence
from itertools import compress
from operator import ne
from typing import Any, Final

from shadowproxy.answers.alike import ABSENT, Places
from shadowproxy.answers.leaves import Vector, angle, coarseness, embedding_of, flattened, in_shape
from shadowproxy.answers.texts import UNREADABLE, json_in
from shadowproxy.budget import Budget, read_json_text
from shadowproxy.compare.judge.differences import (
    KEPT,
    MEMBER,
    Diff,
    Way,
    does_not_count,
    length_of,
    note,
    note_near,
    shown,
)
from shadowproxy.compare.judge.near import RELATIVE, near, near_floats
from shadowproxy.compare.judge.rules import FLOATS, PlaceRules, Rules
from shadowproxy.compare.judge.unordered import pair_elements

_SCALARS: Final = frozenset({str, int, float, bool, type(None)})
_NUMBERS: Final = frozenset({int, float})
_ARRAYS: Final = frozenset({list, Vector})
_ABSOLUTE: Final = float(FLOATS.abs)
_RELATIVE: Final = float(FLOATS.rel)


class _Frame:
    """Two objects, or two arrays of one length, that are being compared, and the way to them.

    `at` is how many members or elements are done. `keys` are those of live's object, from when one is compared deeper.
    `lacking`: the shadow's object lacks one of them. `numbers` are the places of an array's elements in live's array.
    """

    __slots__ = ("at", "keys", "lacking", "numbers", "one", "other", "place", "way")

    def __init__(self, one: Any, other: Any, numbers: Sequence[int], place: PlaceRules, way: Way | None) -> None:
        self.one = one
        self.other = other
        self.numbers = numbers
        self.place = place
        self.way = way
        self.at = 0
        self.keys: list[str] | None = None
        self.lacking = False


_NO_NUMBERS: Final[Sequence[int]] = ()


def diff(live: Any, shadow: Any, rules: Rules, budget: Budget | None = None) -> Diff:
    """Every difference between two JSON values, in the order of live's document. Bounded in memory, linear in time
    but for unordered arrays (n log n). Raises Exhausted if that costs more than the budget."""
    found = Diff()
    if live is shadow:  # NaN equals NaN, so nothing differs from itself
        return found
    _walk(live, shadow, rules.root, found, budget or Budget(), stop=False)
    return found


def diff_paired(live: Any, shadow: Any, places: Places, rules: Rules, found: Diff, budget: Budget) -> None:
    """Add the differences of two values that stand at different places, by the rules for live's place."""
    above: Way | None = None
    way = rules.way(places[0])
    found.paired.append((len(found.found), places))
    for place in way[:-1]:
        above = above, place, MEMBER
    _walk(live, shadow, way[-1], found, budget, above, stop=False)


def ways_of(value: Any, rules: Rules) -> list[Way]:
    """The way to each scalar of a value, in the order of its document. It recurses, so the value must not be deep."""
    found: list[Way] = []
    _note_ways(value, (None, rules.root, MEMBER), found)
    return found


def _note_ways(value: Any, way: Way, found: list[Way]) -> None:
    place: PlaceRules = way[1]
    if type(value) is dict:
        for key, member in value.items():
            _note_ways(member, (way, place.member(key), MEMBER), found)
    elif type(value) is list:
        for at, element in enumerate(value):
            _note_ways(element, (way, place.element(at), at), found)
    else:
        found.append(way)


def diff_scalars(live: Sequence[Any], shadow: Sequence[Any], ways: Sequence[Way]) -> Diff:
    """What `diff` finds in two values that have the same names, lengths and types, by rules without unordered arrays.

    `live` and `shadow` are their scalars in the order of the document, `ways` the way to each. They must be so few that
    the budget of one comparison is enough for all.
    """
    found = Diff()
    budget = Budget()
    for at in compress(range(len(live)), map(ne, live, shadow)):
        above, place, number = ways[at]
        _differ(live[at], shadow[at], place, number, above, found, budget)
    return found


def alike(live: Any, shadow: Any, place: PlaceRules, budget: Budget) -> bool:
    """Whether two values at `place` are equal by the rules: within tolerance, and where nothing is ignored."""
    found = Diff()
    _walk(live, shadow, place, found, budget, stop=True)
    return not found.count


def _walk(
    live: Any,
    shadow: Any,
    place: PlaceRules,
    found: Diff,
    budget: Budget,
    above: Way | None = None,
    *,
    stop: bool,
) -> None:
    """Note the differences of two values; with `stop` no further than the object or array that has the first."""
    stack: list[_Frame] = []
    _compare(live, shadow, place, MEMBER, above, found, stack, budget)
    _go_on(stack, found, budget, stop=stop)


def _go_on(stack: list[_Frame], found: Diff, budget: Budget, *, stop: bool = False) -> None:
    """Walk through what is on the stack."""
    while stack and not (stop and found.count):
        frame = stack[-1]
        deeper = (
            _members(frame, found, stack, budget) if type(frame.one) is dict else _elements(frame, found, stack, budget)
        )
        if not deeper:
            stack.pop()


def _compare(
    one: Any,
    other: Any,
    place: PlaceRules,
    at: int,
    above: Way | None,
    found: Diff,
    stack: list[_Frame],
    budget: Budget,
) -> bool:
    """Note how two values differ, or put them on the stack if they are two objects or two arrays of one length.
    Returns whether it did."""
    kind = type(one)
    if kind is not type(other) or not (kind is dict or (kind is list and len(one) == len(other))):
        _differ(one, other, place, at, above, found, budget)
        return False
    if place.ignored and found.ignored:
        return False
    numbers = _NO_NUMBERS
    if kind is list:
        numbers = range(len(one))
        if place.unordered:
            one, other, numbers = pair_elements(one, other, place, alike, budget)
    stack.append(_Frame(one, other, numbers, place, (above, place, at)))
    return True


def _members(frame: _Frame, found: Diff, stack: list[_Frame], budget: Budget) -> bool:
    """Note how the members of two objects differ, up to the first that is compared deeper: then it is on the stack, and
    the result is True. Called again, it continues after it, so that the order stays the document's."""
    one: dict[str, Any] = frame.one
    other: dict[str, Any] = frame.other
    place, way = frame.place, frame.way
    keys = frame.keys
    if keys is None:
        at = 0
        for key, value in one.items():
            at += 1
            beside = other.get(key, ABSENT)
            kind = type(value)
            if kind is type(beside):
                if kind in _SCALARS:
                    if value == beside:
                        continue
                elif _compare(value, beside, place.member(key), MEMBER, way, found, stack, budget):
                    frame.keys = list(one)
                    frame.at = at
                    budget.spend(2 * at + len(one))
                    return True
                else:
                    continue
            elif beside is ABSENT:
                frame.lacking = True
            _differ(value, beside, place.member(key), MEMBER, way, found, budget)
        budget.spend(at)
    else:
        start = at = frame.at
        size = len(keys)
        while at < size:
            key = keys[at]
            at += 1
            value = one[key]
            beside = other.get(key, ABSENT)
            kind = type(value)
            if kind is type(beside):
                if kind in _SCALARS:
                    if value == beside:
                        continue
                elif _compare(value, beside, place.member(key), MEMBER, way, found, stack, budget):
                    frame.at = at
                    budget.spend(at - start)
                    return True
                else:
                    continue
            elif beside is ABSENT:
                frame.lacking = True
            _differ(value, beside, place.member(key), MEMBER, way, found, budget)
        budget.spend(at - start)
    if frame.lacking or len(one) != len(other):
        for key, value in other.items():
            if key not in one:
                _differ(ABSENT, value, place.member(key), MEMBER, way, found, budget)
        budget.spend(len(other))
    return False


def _elements(frame: _Frame, found: Diff, stack: list[_Frame], budget: Budget) -> bool:
    """The same for the elements of two arrays of one length."""
    one: list[Any] = frame.one
    other: list[Any] = frame.other
    place, way, numbers = frame.place, frame.way, frame.numbers
    start = at = frame.at
    size = len(one)
    while at < size:
        value, beside = one[at], other[at]
        number = numbers[at]
        at += 1
        kind = type(value)
        if kind is type(beside):
            if kind in _SCALARS:
                if value == beside:
                    continue
            elif _compare(value, beside, place.element(number), number, way, found, stack, budget):
                frame.at = at
                budget.spend(at - start)
                return True
            else:
                continue
        _differ(value, beside, place.element(number), number, way, found, budget)
    budget.spend(at - start)
    return False


def _differ(one: Any, other: Any, place: PlaceRules, at: int, above: Way | None, found: Diff, budget: Budget) -> None:
    """Note how two values differ that are not two objects or two arrays of one length."""
    budget.spend(_NOTED)
    if place.ignored and found.ignored:
        return  # one ignored difference is enough to know
    kind, other_kind = type(one), type(other)
    if kind is Vector or other_kind is Vector:
        done = _vectors(one, other, place, at, above, found, budget)
    elif kind is str and other_kind is str and one != other and _opens(one) and _opens(other):
        done = _texts_of_json(one, other, place, at, above, found, budget)
    else:
        done = False
    if done:
        return
    numbers = kind in _NUMBERS and other_kind in _NUMBERS
    if numbers:
        if one == other or (one != one and other != other):  # math.isnan cannot take every integer
            return
        tolerance = place.tolerance
        if tolerance is not None:
            equal = tolerance.holds(one, other) and _finite(one) and _finite(other)
        elif kind is float and other_kind is float:
            equal = _nearly(one, other, place.answer)
        elif kind is other_kind:
            equal = False
        elif place.answer:
            equal = near(one, other)
        else:
            equal = FLOATS.holds(one, other) and _finite(one) and _finite(other)
        if equal:
            note_near(place.pointer, found)
            return
        difference = "value"
    elif one is ABSENT:
        difference = "extra"
    elif other is ABSENT:
        difference = "missing"
    elif kind in _ARRAYS and other_kind in _ARRAYS:
        difference = "length" if length_of(one) != length_of(other) else "value"
    elif kind is not other_kind:
        difference = "type"
    elif one == other:
        return
    else:
        difference = "value"
    if does_not_count(place, found):
        return
    if not numbers and len(found.found) < KEPT:
        one, other = shown(difference, one, other)
    note(difference, one, other, place, at, above, found)


def _vectors(one: Any, other: Any, place: PlaceRules, at: int, above: Way | None, found: Diff, budget: Budget) -> bool:
    """Note how a vector differs from another, or from an array. Returns False if they have not the same shape."""
    if type(one) is Vector and type(other) is Vector:
        if one.shape != other.shape:
            return False
        budget.spend_bytes(16 * len(one))
        if one == other:
            return True
    budget.spend(len(one if type(one) is Vector else other))
    embeddings = (type(one) is Vector and one.embedding) or (type(other) is Vector and other.embedding)
    if embeddings and place.each().tolerance is None:
        return _embeddings(one, other, place, at, above, found)
    shape: tuple[int, ...] = one.shape if type(one) is Vector else other.shape
    lefts = one if type(one) is Vector else flattened(one, shape) if type(one) is list else None
    rights = other if type(other) is Vector else flattened(other, shape) if type(other) is list else None
    if lefts is None or rights is None:
        return False
    if place.unordered:
        held = budget.held
        budget.hold(2 * _LISTED * len(lefts))
        stack: list[_Frame] = []
        if _compare(_listed(one), _listed(other), place, at, above, found, stack, budget):
            _go_on(stack, found, budget)
        budget.held = held
        return True
    relative = max(RELATIVE, coarseness(one, other))
    for number in compress(range(len(lefts)), map(ne, lefts, rights)):
        above_it, below = _element(number, shape, place, (above, place, at))
        budget.spend(len(shape))
        left, right = lefts[number], rights[number]
        if below.tolerance is None and _both_near(left, right, relative):
            note_near(below.pointer, found)
        else:
            _differ(left, right, below, number % shape[-1], above_it, found, budget)
    return True


def _both_near(one: Any, other: Any, relative: float) -> bool:
    kinds = {type(one), type(other)}
    return float in kinds and kinds <= _NUMBERS and near(one, other, relative)


def _element(number: int, shape: tuple[int, ...], place: PlaceRules, way: Way) -> tuple[Way, PlaceRules]:
    """The way to what holds an element of a vector at `place`, and the element's place."""
    steps: list[int] = []
    for size in reversed(shape):
        steps.append(number % size)
        number //= size
    for step in reversed(steps[1:]):
        place = place.element(step)
        way = (way, place, step)
    return way, place.element(steps[0])


def _listed(value: Any) -> Any:
    return in_shape(list(value), value.shape) if type(value) is Vector else value


_LISTED: Final = 40  # bytes of a number in a list


def _embeddings(one: Any, other: Any, place: PlaceRules, at: int, above: Way | None, found: Diff) -> bool:
    """Note whether two embeddings have another direction. Returns False if they are not of one length."""
    left = embedding_of(one) if type(one) is list else one
    right = embedding_of(other) if type(other) is list else other
    if type(left) is not Vector or type(right) is not Vector or len(left) != len(right):
        return False
    apart = angle(left.numbers, right.numbers)
    if apart is not None and apart <= _ANGLE:
        note_near(place.pointer, found)
    elif not does_not_count(place, found):
        distance = "no angle" if apart is None else f"1 - cosine = {apart:.3g}"
        note("value", left.line(), f"{right.line()} ({distance})", place, at, above, found)
    return True


_ANGLE: Final = 1e-5


def _opens(text: str) -> bool:
    """Whether a text may be a JSON object or array."""
    return text[:_BLANKS].lstrip()[:1] in ("{", "[")


_BLANKS: Final = 40  # characters of white space before it


def _texts_of_json(
    one: str, other: str, place: PlaceRules, at: int, above: Way | None, found: Diff, budget: Budget
) -> bool:
    """Note how two texts differ that both hold JSON; their pointers go on from the text's own. Returns False if one
    does not."""
    held = budget.held
    read_json_text(budget, one)
    read_json_text(budget, other)
    left, right = json_in(one), json_in(other)
    both_hold_json = left is not UNREADABLE and right is not UNREADABLE
    if both_hold_json:
        stack: list[_Frame] = []
        if _compare(left, right, place, at, above, found, stack, budget):
            _go_on(stack, found, budget)
    budget.held = held
    return both_hold_json


def _nearly(one: float, other: float, answer: bool) -> bool:
    """Whether two floats are equal: as numbers of an answer, or as `FLOATS` says. Nearly all numbers are of this sort:
    compiled, this takes no object."""
    if not (math.isfinite(one) and math.isfinite(other)):
        return False
    if answer:
        return near_floats(one, other, RELATIVE)
    gap = abs(one - other)
    return gap <= _ABSOLUTE or gap <= _RELATIVE * max(abs(one), abs(other))


_NOTED: Final = 8
"""Steps of noting one difference, beside one for passing an equal value."""


def _finite(value: int | float) -> bool:
    return isinstance(value, int) or math.isfinite(value)
