"""Two JSON values to the list of places where they differ.

The rules of equality:

- Objects are compared by key, in any order; arrays element by element, in order, unless a rule calls them unordered
  (sorting first would make [.1, .9] equal to [.9, .1]).
- Arrays of unequal length differ in length, and their elements are not compared: each would be out of step.
- Two numbers of which one is a float are equal within 1 part in a million or 1e-9; two integers only when they are
  the same; a rule's tolerance holds for both. 1 equals 1.0, NaN equals NaN, `true` is no number.
- Everything else is equal when it is the same.

The walk is one loop with its own stack, so depth costs no recursion, and what it keeps of what it found is bounded.
"""

import math
from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any, Final, Literal

from shadowproxy.compare.rules import FLOATS, Place, Rules, pointer_token
from shadowproxy.record import Difference

KEPT: Final = 100
"""Differences listed; the others are counted."""

PLACES: Final = 200
"""Distinct places counted one by one; the others are counted together."""

_LONGEST: Final = 200  # characters of a value, or of one key, that a difference shows
_LONGEST_POINTER: Final = 2000
_DEEPEST: Final = 64  # levels that the sorting key of an unordered element looks at
_MISSING: Final = object()
_SCALARS: Final = frozenset({str, int, float, bool, type(None)})
_NUMBERS: Final = frozenset({int, float})

Where = tuple[str, str]
"""A place with every array position as `*`, and the kind of difference there."""


@dataclass(slots=True)
class Diff:
    """What was found. `near` counts numbers that are equal only by tolerance, per place.

    `places` has for each of the differences its path with every array position as `*`.
    """

    differences: list[Difference] = field(default_factory=list)
    places: list[str] = field(default_factory=list)
    count: int = 0
    ignored: int = 0
    where: Counter[Where] = field(default_factory=Counter)
    near: Counter[str] = field(default_factory=Counter)


_Pair = tuple[str, Any, Any, Place]
"""A key or position, what live and the shadow have there, and what the rules say of it."""

_Frame = tuple[Iterator[_Pair], str, str, bool]
"""What is left to compare in one container, its pointer, that with `*` for positions, and whether it is an array."""


def diff(live: Any, shadow: Any, rules: Rules) -> Diff:
    """Every difference between two JSON values, in the order of live's document. Bounded in memory, linear in time
    but for unordered arrays (n log n)."""
    found = Diff()
    begun = _compare(live, shadow, rules.root, "", "", rules, found)
    stack = [begun] if begun is not None else []
    while stack:
        pairs, above, above_where, array = stack[-1]
        for key, one, other, place in pairs:
            if place.ignored and found.ignored:
                continue  # one ignored difference is enough to know
            # Pointers grow with the walk, a step each, and not for every difference anew: siblings have most in common.
            if array:
                path, where = f"{above}/{key}", above_where + "/*"
            else:
                token = pointer_token(key if len(key) <= _LONGEST else key[:_LONGEST] + "…")
                path, where = f"{above}/{token}", f"{above_where}/{token}"
            if len(path) > _LONGEST_POINTER:
                path, where = path[: _LONGEST_POINTER + 1], where[: _LONGEST_POINTER + 1]
            deeper = _compare(one, other, place, path, where, rules, found)
            if deeper is not None:
                stack.append(deeper)
                break
        else:
            stack.pop()
    return found


def _compare(one: Any, other: Any, place: Place, path: str, where: str, rules: Rules, found: Diff) -> _Frame | None:
    """Note how two values differ, or give what is to be compared below them."""
    kind, other_kind = type(one), type(other)
    if kind in _NUMBERS and other_kind in _NUMBERS:
        _numbers(one, other, place, path, where, found)
    elif kind is other_kind is dict:
        return iter(_members(one, other, place, rules)), path, where, False
    elif one is _MISSING:
        _note(found, place, path, where, "extra", None, shorten(other))
    elif other is _MISSING:
        _note(found, place, path, where, "missing", shorten(one), None)
    elif kind is other_kind is list:
        if len(one) == len(other):
            if place.unordered:
                one, other = _unpaired(one, other, place, rules)
            return iter(_elements(one, other, place, rules)), path, where, True
        _note(found, place, path, where, "length", len(one), len(other))
    elif kind is not other_kind:
        _note(found, place, path, where, "type", *shorten_both(one, other))
    elif one != other:
        _note(found, place, path, where, "value", *shorten_both(one, other))
    return None


def _numbers(one: int | float, other: int | float, place: Place, path: str, where: str, found: Diff) -> None:
    if one == other or (one != one and other != other):  # math.isnan cannot take every integer
        return
    tolerance = place.tolerance or (FLOATS if type(one) is float or type(other) is float else None)
    if tolerance is not None and tolerance.holds(one, other) and _finite(one) and _finite(other):
        where = _shown(where)
        if where in found.near or len(found.near) < PLACES:
            found.near[where] += 1
        return
    _note(found, place, path, where, "value", one, other)


def _finite(value: int | float) -> bool:
    return isinstance(value, int) or math.isfinite(value)


def _note(found: Diff, place: Place, path: str, where: str, kind: str, live: Any, shadow: Any) -> None:
    if place.ignored:
        found.ignored += 1
        return
    found.count += 1
    where = _shown(where)
    if len(found.differences) < KEPT:
        found.differences.append(Difference(_shown(path), kind, loggable(live), loggable(shadow)))
        found.places.append(where)
    counted = found.where.get((where, kind))
    if counted is not None:
        found.where[where, kind] = counted + 1
    elif len(found.where) < PLACES:
        found.where[where, kind] = 1


def _members(one: Mapping[str, Any], other: Mapping[str, Any], place: Place, rules: Rules) -> list[_Pair]:
    """The members that are not plainly the same."""
    unlike: list[_Pair] = []
    for key, value in one.items():
        beside = other.get(key, _MISSING)
        kind = type(value)
        if kind is not type(beside) or kind not in _SCALARS or value != beside:
            unlike.append((key, value, beside, rules.below(place, key)))
    if not other.keys() <= one.keys():
        unlike.extend((key, _MISSING, value, rules.below(place, key)) for key, value in other.items() if key not in one)
    return unlike


def _elements(one: list[Any], other: list[Any], place: Place, rules: Rules) -> list[_Pair]:
    """The elements that are not plainly the same."""
    unlike: list[_Pair] = []
    below = rules.below(place, "*")
    for at, (value, beside) in enumerate(zip(one, other, strict=True)):
        kind = type(value)
        if kind is not type(beside) or kind not in _SCALARS or value != beside:
            key = str(at)
            unlike.append((key, value, beside, rules.below(place, key) if rules.counts_elements else below))
    return unlike


def _unpaired(one: list[Any], other: list[Any], place: Place, rules: Rules) -> tuple[list[Any], list[Any]]:
    """Two arrays without the elements that both have, each sorted, so that like stands beside like."""
    below = rules.below(place, "*")
    lefts = sorted(((_key(value, below, rules, 0), value) for value in one), key=lambda pair: pair[0])
    rights = sorted(((_key(value, below, rules, 0), value) for value in other), key=lambda pair: pair[0])
    only_left: list[Any] = []
    only_right: list[Any] = []
    left = right = 0
    while left < len(lefts) and right < len(rights):
        if lefts[left][0] == rights[right][0]:
            left, right = left + 1, right + 1
        elif lefts[left][0] < rights[right][0]:
            only_left.append(lefts[left][1])
            left += 1
        else:
            only_right.append(rights[right][1])
            right += 1
    only_left.extend(value for _, value in lefts[left:])
    only_right.extend(value for _, value in rights[right:])
    return only_left, only_right


def _key(value: Any, place: Place, rules: Rules, depth: int) -> tuple[Any, ...]:
    """A total order over JSON values in which equal ones are equal; what is ignored or too deep has no part in it."""
    if place.ignored or depth > _DEEPEST:
        return (0,)
    if isinstance(value, dict):
        members = ((key, _key(value[key], rules.below(place, key), rules, depth + 1)) for key in sorted(value))
        return (5, tuple(members))
    if isinstance(value, list):
        below = rules.below(place, "*")
        elements = [_key(element, below, rules, depth + 1) for element in value]
        return (4, tuple(sorted(elements) if place.unordered else elements))
    if isinstance(value, str):
        return (3, value)
    if _number(value):
        return (1, "NaN") if value != value else (2, value)
    return (1, repr(value))


def _number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)


def _shown(pointer: str) -> str:
    if len(pointer) > _LONGEST_POINTER:
        pointer = pointer[:_LONGEST_POINTER] + "…"
    return pointer if pointer.isascii() else _sound(pointer)


def shorten(value: Any) -> Any:
    """A value as a difference shows it: scalars whole or cut, small arrays and objects whole, others described."""
    if isinstance(value, str):
        return value if len(value) <= _LONGEST else value[: _LONGEST - 1] + "…"
    if isinstance(value, list | dict) and not _small(value):
        return f"array of {len(value)}" if isinstance(value, list) else f"object of {len(value)}"
    return value


def shorten_both(live: Any, shadow: Any) -> tuple[Any, Any]:
    """As `shorten`, but two long texts are shown from a little before the character where they part."""
    if isinstance(live, str) and isinstance(shadow, str) and max(len(live), len(shadow)) > _LONGEST:
        start = max(0, _first_difference(live, shadow) - 40)
        if start:
            return "…" + shorten(live[start:]), "…" + shorten(shadow[start:])
    return shorten(live), shorten(shadow)


def _first_difference(live: str, shadow: str) -> int:
    """How many characters two different texts have in common, by halving: slices compare at the speed of memory."""
    low, high = 0, min(len(live), len(shadow))
    while low < high:
        middle = (low + high + 1) // 2
        if live[:middle] == shadow[:middle]:
            low = middle
        else:
            high = middle - 1
    return low


def _small(value: Any, room: int = 20) -> bool:
    """Whether a container holds few enough and short enough things to be shown whole."""
    waiting = [(value, 0)]
    while waiting:
        item, depth = waiting.pop()
        if isinstance(item, list | dict):
            room -= len(item)
            if room < 0 or depth > 4:
                return False
            if isinstance(item, dict):
                if any(len(key) > 40 for key in item):
                    return False
                item = item.values()
            waiting.extend((element, depth + 1) for element in item)
        elif isinstance(item, str) and len(item) > 40:
            return False
    return True


def loggable(value: Any) -> Any:
    """A value that any JSON writer takes: NaN, infinities, huge integers and lone surrogates become text."""
    if type(value) is float and math.isfinite(value):
        return value  # asked first, as the most frequent
    if isinstance(value, dict):
        return {loggable(key): loggable(member) for key, member in value.items()}
    if isinstance(value, list):
        return [loggable(element) for element in value]
    if isinstance(value, str):
        return _sound(value)
    if isinstance(value, float) and not math.isfinite(value):
        return "NaN" if math.isnan(value) else "Infinity" if value > 0 else "-Infinity"
    if isinstance(value, int) and not -(2**63) <= value < 2**64:
        return f"integer of {value.bit_length()} bits"
    return value


def _sound(text: str) -> str:
    """A text that UTF-8 can hold: JSON may spell half a surrogate pair."""
    return text if text.isascii() else text.encode("utf-8", "backslashreplace").decode()


Kind = Literal["value", "type", "missing", "extra", "length", "status", "text", "bytes"]
"""The kinds of difference: the first five come from this room, the others from comparing what is not JSON."""
