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

Where = tuple[str, str]
"""A place with every array position as `*`, and the kind of difference there."""


@dataclass(slots=True)
class Diff:
    """What was found. `near` counts numbers that are equal only by tolerance, per place."""

    differences: list[Difference] = field(default_factory=list)
    count: int = 0
    ignored: int = 0
    where: Counter[Where] = field(default_factory=Counter)
    near: Counter[str] = field(default_factory=Counter)


_Path = tuple["_Path", str, bool] | None  # parent, key, whether the key is an array position; rendered when needed


@dataclass(slots=True)
class _Frame:
    pairs: Iterator[tuple[str, Any, Any, Place]]
    path: _Path
    array: bool


def diff(live: Any, shadow: Any, rules: Rules) -> Diff:
    """Every difference between two JSON values, in the order of live's document. Bounded in memory, linear in time
    but for unordered arrays (n log n)."""
    found = Diff()
    stack = [_Frame(iter([("", live, shadow, rules.root)]), None, False)]
    root = True
    while stack:
        frame = stack[-1]
        for key, one, other, place in frame.pairs:
            kind = type(one)
            if kind is type(other) and kind in _SCALARS and one == other:
                continue
            path: _Path = None if root else (frame.path, key, frame.array)
            root = False
            if place.ignored and found.ignored:
                continue  # one ignored difference is enough to know
            deeper = _compare(one, other, place, path, rules, found)
            if deeper is not None:
                stack.append(deeper)
                break
        else:
            stack.pop()
    return found


def _compare(one: Any, other: Any, place: Place, path: _Path, rules: Rules, found: Diff) -> _Frame | None:
    """Note how two values differ, or give what is to be compared below them."""
    if one is _MISSING:
        _note(found, place, path, "extra", None, shorten(other))
    elif other is _MISSING:
        _note(found, place, path, "missing", shorten(one), None)
    elif isinstance(one, dict) and isinstance(other, dict):
        return _Frame(_members(one, other, place, rules), path, False)
    elif isinstance(one, list) and isinstance(other, list):
        if len(one) == len(other):
            if place.unordered:
                one, other = _unpaired(one, other, place, rules)
            return _Frame(_elements(one, other, place, rules), path, True)
        _note(found, place, path, "length", len(one), len(other))
    elif _number(one) and _number(other):
        _numbers(one, other, place, path, found)
    else:
        kind = "value" if json_type(one) == json_type(other) else "type"
        _note(found, place, path, kind, *shorten_both(one, other))
    return None


def _numbers(one: int | float, other: int | float, place: Place, path: _Path, found: Diff) -> None:
    if one == other or (one != one and other != other):  # math.isnan cannot take every integer
        return
    tolerance = place.tolerance or (FLOATS if isinstance(one, float) or isinstance(other, float) else None)
    if tolerance is not None and _finite(one) and _finite(other) and tolerance.holds(one, other):
        where = _render(path, patterned=True)
        if where in found.near or len(found.near) < PLACES:
            found.near[where] += 1
        return
    _note(found, place, path, "value", one, other)


def _finite(value: int | float) -> bool:
    return isinstance(value, int) or math.isfinite(value)


def _note(found: Diff, place: Place, path: _Path, kind: str, live: Any, shadow: Any) -> None:
    if place.ignored:
        found.ignored += 1
        return
    found.count += 1
    if len(found.differences) < KEPT:
        found.differences.append(Difference(_render(path), kind, _loggable(live), _loggable(shadow)))
    where = (_render(path, patterned=True), kind)
    if where in found.where or len(found.where) < PLACES:
        found.where[where] += 1


def _members(
    one: Mapping[str, Any], other: Mapping[str, Any], place: Place, rules: Rules
) -> Iterator[tuple[str, Any, Any, Place]]:
    for key, value in one.items():
        yield key, value, other.get(key, _MISSING), rules.below(place, key)
    for key, value in other.items():
        if key not in one:
            yield key, _MISSING, value, rules.below(place, key)


def _elements(one: list[Any], other: list[Any], place: Place, rules: Rules) -> Iterator[tuple[str, Any, Any, Place]]:
    if rules.counts_elements:
        for at, (left, right) in enumerate(zip(one, other, strict=True)):
            yield str(at), left, right, rules.below(place, str(at))
        return
    below = rules.below(place, "*")
    for at, (left, right) in enumerate(zip(one, other, strict=True)):
        yield str(at), left, right, below


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


def json_type(value: Any) -> str:
    """What JSON calls it. Integers and floats are one type."""
    if value is None:
        return "null"
    if isinstance(value, bool):
        return "boolean"
    if isinstance(value, int | float):
        return "number"
    if isinstance(value, str):
        return "string"
    return "array" if isinstance(value, list) else "object"


def _number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)


def _render(path: _Path, *, patterned: bool = False) -> str:
    tokens: list[str] = []
    while path is not None:
        parent, key, array = path
        tokens.append(
            "*" if patterned and array else pointer_token(key if len(key) <= _LONGEST else key[:_LONGEST] + "…")
        )
        path = parent
    pointer = "".join(f"/{token}" for token in reversed(tokens))
    return _sound(pointer if len(pointer) <= _LONGEST_POINTER else pointer[:_LONGEST_POINTER] + "…")


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


def _loggable(value: Any) -> Any:
    """A value that any JSON writer takes: NaN, infinities, huge integers and lone surrogates become text."""
    if isinstance(value, dict):
        return {_loggable(key): _loggable(member) for key, member in value.items()}
    if isinstance(value, list):
        return [_loggable(element) for element in value]
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
