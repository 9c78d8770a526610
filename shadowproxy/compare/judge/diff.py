"""Two JSON values to the list of places where they differ.

The rules of equality:

- Objects are compared by key, in any order; arrays element by element, in order, unless a rule calls them unordered
  (sorting first would make [.1, .9] equal to [.9, .1]).
- Arrays of unequal length differ in length, and their elements are not compared: each would be out of step.
- Two numbers of which one is a float are equal within 1 part in a million or 1e-9; two integers only when they are
  the same; a rule's tolerance holds for both. 1 equals 1.0, NaN equals NaN, `true` is no number.
- A vector is as good as an array of its numbers, element by element, within 1 part in 100,000 or what its type can
  tell apart; an embedding is one value, equal within 1 - cosine = 1e-5, unless a rule has a tolerance for it.
- Two texts that are both JSON objects or arrays, as a tool's arguments are, are compared as what they hold.
- Everything else is equal when it is the same.

The walk is one loop with its own stack, so depth costs no recursion. It keeps a bounded number of differences.
"""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from itertools import compress
from operator import ne
from typing import Any, Final, Literal, TypeAlias

from shadowproxy.answers.alike import ABSENT, Places
from shadowproxy.answers.leaves import Blob, Vector, angle, embedding_of, flattened, in_shape, tolerances
from shadowproxy.answers.texts import UNREADABLE, json_in
from shadowproxy.budget import Budget, read_json_text
from shadowproxy.compare.judge.rules import FLOATS, PlaceRules, Rules, Tolerance, shown_pointer, sound
from shadowproxy.compare.judge.unordered import pair_elements
from shadowproxy.record import Difference

KEPT: Final = 100
"""Differences that are listed; further ones are only counted."""

PLACES: Final = 200
"""Distinct places that are counted one by one."""

_named: Callable[[Any, Any], Any] = tuple.__new__  # a third of what calling the named tuple's class takes
_LONGEST: Final = 200  # characters of a value that a difference shows
_WIDEST: Final = 200  # bits of an integer that is shown digit by digit, as a text
_MEMBER: Final = -1
_SCALARS: Final = frozenset({str, int, float, bool, type(None)})
_NUMBERS: Final = frozenset({int, float})
_ARRAYS: Final = frozenset({list, Vector})
_ABSOLUTE: Final = float(FLOATS.abs)
_RELATIVE: Final = float(FLOATS.rel)

Where: TypeAlias = tuple[str, str]
"""A place with every array position as `*`, and the kind of difference there."""

Way: TypeAlias = tuple[Any, PlaceRules, int]
"""The way to one value of a payload: the way to what holds it (`Any`, as mypyc takes no type that names itself), its
place, and its number in an array or `_MEMBER`."""

Found: TypeAlias = tuple[str, str, Any, Any, Way | str]
"""One difference: its place, its kind, live's value and the shadow's, and the way there or its pointer."""


@dataclass(slots=True)
class Diff:
    """The differences of two values. `near` counts numbers that are equal only by tolerance, `where` the differences,
    per place. `set_aside` has the places that differ and do not count, as the envelope has them anew for every call.

    Where values at two different places were compared, `paired` has these places, and from which difference on they
    are meant.

    `found` has the first differences in the order of the walk. A report counts thousands and shows a few, so `listed`
    puts them into words only on demand.
    """

    found: list[Found] = field(default_factory=list)
    count: int = 0
    ignored: int = 0
    where: dict[Where, int] = field(default_factory=dict)
    near: dict[str, int] = field(default_factory=dict)
    set_aside: dict[str, int] = field(default_factory=dict)
    paired: list[tuple[int, Places]] = field(default_factory=list)

    def listed(self, most: int = KEPT) -> list[Difference]:
        """The first differences as a record lists them."""
        found = [
            _named(
                Difference,
                (
                    # Outside of arrays a value's pointer is its place's.
                    way if isinstance(way, str) else _pointer(way) if "*" in where else where,
                    kind,
                    loggable(live),
                    loggable(shadow),
                    None,
                ),
            )
            for where, kind, live, shadow, way in self.found[:most]
        ]
        end = len(found)
        for start, (one, other) in reversed(self.paired):
            for at in range(start, end):
                rest = found[at].path[len(one) :]
                found[at] = found[at]._replace(path=_below(one, rest), shadow_path=_below(other, rest))
            end = min(start, end)
        return found


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
        above = above, place, _MEMBER
    _walk(live, shadow, way[-1], found, budget, above, stop=False)


def ways_of(value: Any, rules: Rules) -> list[Way]:
    """The way to each scalar of a value, in the order of its document. It recurses, so the value must not be deep."""
    found: list[Way] = []
    _note_ways(value, (None, rules.root, _MEMBER), found)
    return found


def _note_ways(value: Any, way: Way, found: list[Way]) -> None:
    place: PlaceRules = way[1]
    if type(value) is dict:
        for key, member in value.items():
            _note_ways(member, (way, place.member(key), _MEMBER), found)
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
    _compare(live, shadow, place, _MEMBER, above, found, stack, budget)
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
                elif _compare(value, beside, place.member(key), _MEMBER, way, found, stack, budget):
                    frame.keys = list(one)
                    frame.at = at
                    budget.spend(2 * at + len(one))
                    return True
                else:
                    continue
            elif beside is ABSENT:
                frame.lacking = True
            _differ(value, beside, place.member(key), _MEMBER, way, found, budget)
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
                elif _compare(value, beside, place.member(key), _MEMBER, way, found, stack, budget):
                    frame.at = at
                    budget.spend(at - start)
                    return True
                else:
                    continue
            elif beside is ABSENT:
                frame.lacking = True
            _differ(value, beside, place.member(key), _MEMBER, way, found, budget)
        budget.spend(at - start)
    if frame.lacking or len(one) != len(other):
        for key, value in other.items():
            if key not in one:
                _differ(ABSENT, value, place.member(key), _MEMBER, way, found, budget)
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
            near = tolerance.holds(one, other) and _finite(one) and _finite(other)
        elif kind is float and other_kind is float:
            near = _nearly(one, other)
        else:
            near = kind is not other_kind and FLOATS.holds(one, other) and _finite(one) and _finite(other)
        if near:
            _note_near(place.pointer, found)
            return
        difference = "value"
    elif one is ABSENT:
        difference = "extra"
    elif other is ABSENT:
        difference = "missing"
    elif kind in _ARRAYS and other_kind in _ARRAYS:
        difference = "length" if _length(one) != _length(other) else "value"
    elif kind is not other_kind:
        difference = "type"
    elif one == other:
        return
    else:
        difference = "value"
    if _does_not_count(place, found):
        return
    if not numbers and len(found.found) < KEPT:
        one, other = _shown(difference, one, other)
    _note(difference, one, other, place, at, above, found)


def _does_not_count(place: PlaceRules, found: Diff) -> bool:
    """Whether a difference at a place does not count; then it is noted so."""
    if place.ignored:
        found.ignored += 1
        return True
    if place.set_aside is not None:
        found.set_aside[place.set_aside] = found.set_aside.get(place.set_aside, 0) + 1
        return True
    return False


def _note_near(where: str, found: Diff) -> None:
    if where in found.near or len(found.near) < PLACES:
        found.near[where] = found.near.get(where, 0) + 1


def _note(difference: str, one: Any, other: Any, place: PlaceRules, at: int, above: Way | None, found: Diff) -> None:
    """Note a difference: its values are as they are shown, if there is room to keep them."""
    found.count += 1
    where = place.pointer
    if len(found.found) < KEPT:
        found.found.append((where, difference, one, other, (above, place, at)))
    counted = found.where.get((where, difference))
    if counted is not None:
        found.where[where, difference] = counted + 1
    elif len(found.where) < PLACES:
        found.where[where, difference] = 1


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
    near = Tolerance(*tolerances(one, other))
    for number in compress(range(len(lefts)), map(ne, lefts, rights)):
        above_it, below = _element(number, shape, place, (above, place, at))
        budget.spend(len(shape))
        left, right = lefts[number], rights[number]
        if below.tolerance is None and _both_near(left, right, near):
            _note_near(below.pointer, found)
        else:
            _differ(left, right, below, number % shape[-1], above_it, found, budget)
    return True


def _both_near(one: Any, other: Any, tolerance: Tolerance) -> bool:
    kinds = {type(one), type(other)}
    return float in kinds and kinds <= _NUMBERS and tolerance.holds(one, other) and _finite(one) and _finite(other)


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
        _note_near(place.pointer, found)
    elif not _does_not_count(place, found):
        told = "no angle" if apart is None else f"1 - cosine = {apart:.3g}"
        _note("value", left.line(), f"{right.line()} ({told})", place, at, above, found)
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
    told = left is not UNREADABLE and right is not UNREADABLE
    if told:
        stack: list[_Frame] = []
        if _compare(left, right, place, at, above, found, stack, budget):
            _go_on(stack, found, budget)
    budget.held = held
    return told


def _nearly(one: float, other: float) -> bool:
    """Whether `FLOATS` holds for two finite numbers. Nearly all numbers are of this sort: compiled, this takes no
    object."""
    gap = abs(one - other)
    near = gap <= _ABSOLUTE or gap <= _RELATIVE * max(abs(one), abs(other))
    return near and math.isfinite(one) and math.isfinite(other)


_NOTED: Final = 8
"""Steps of noting one difference, beside one for passing an equal value."""


def _shown(difference: str, one: Any, other: Any) -> tuple[Any, Any]:
    """Both sides of a difference as they are kept."""
    if difference == "extra":
        return None, shorten(other)
    if difference == "missing":
        return shorten(one), None
    if difference == "length":
        return _length(one), _length(other)
    return shorten_both(one, other)


def _length(value: Any) -> int:
    return value.shape[0] if type(value) is Vector else len(value)


def _pointer(way: Way | None) -> str:
    steps: list[str] = []
    while way is not None:
        way, place, at = way
        steps.append(place.step if at == _MEMBER else f"/{at}")
    return shown_pointer("".join(reversed(steps)))


def _below(pointer: str, rest: str) -> str:
    """The pointer of what stands at `rest` below a place. A `*` in the place's pointer is the first step of `rest`."""
    if "*" not in pointer or not rest:
        return pointer + rest
    first, _, further = rest[1:].partition("/")
    return pointer.replace("/*", f"/{first}", 1) + (f"/{further}" if further else "")


def _finite(value: int | float) -> bool:
    return isinstance(value, int) or math.isfinite(value)


def shorten(value: Any) -> Any:
    """A value as a difference shows it: scalars whole or cut, small arrays and objects whole, others described."""
    if isinstance(value, str):
        return value if len(value) <= _LONGEST else value[: _LONGEST - 1] + "…"
    if isinstance(value, Vector | Blob):
        return value.line()
    if isinstance(value, (list, dict)) and not _small(value):
        return f"array of {len(value)}" if isinstance(value, list) else f"object of {len(value)}"
    return value


def shorten_both(live: Any, shadow: Any) -> tuple[Any, Any]:
    """As `shorten`, but two long texts are shown from a little before the first character that differs."""
    if isinstance(live, str) and isinstance(shadow, str) and max(len(live), len(shadow)) > _LONGEST:
        start = max(0, _first_difference(live, shadow) - 40)
        if start:
            end = start + _LONGEST + 1
            return "…" + shorten(live[start:end]), "…" + shorten(shadow[start:end])
    return shorten(live), shorten(shadow)


def _first_difference(live: str, shadow: str) -> int:
    """How many characters two different texts have in common, by halving: slices compare at the speed of memory."""
    low, high = 0, min(len(live), len(shadow))
    while low < high:
        middle = (low + high + 1) // 2
        if live[low:middle] == shadow[low:middle]:  # not from the beginning: that would be linear for each halving
            low = middle
        else:
            high = middle - 1
    return low


def _small(value: Any, room: int = 20) -> bool:
    """Whether a container holds few enough and short enough things to be shown whole."""
    waiting = [(value, 0)]
    while waiting:
        item, depth = waiting.pop()
        if isinstance(item, (list, dict)):
            room -= len(item)
            if room < 0 or depth > 4:
                return False
            if isinstance(item, dict):
                if any(len(key) > 40 for key in item):
                    return False
                item = item.values()
            waiting.extend((element, depth + 1) for element in item)
        elif (isinstance(item, str) and len(item) > 40) or isinstance(item, Vector | Blob):
            return False
    return True


def loggable(value: Any) -> Any:
    """A value that any JSON writer takes: NaN, infinities, huge integers and lone surrogates become text."""
    if isinstance(value, float):  # first, with texts, as the most frequent
        if math.isfinite(value):
            return value
        return "NaN" if math.isnan(value) else "Infinity" if value > 0 else "-Infinity"
    if isinstance(value, str):
        return sound(value)
    if isinstance(value, dict):
        return {loggable(key): loggable(member) for key, member in value.items()}
    if isinstance(value, list):
        return [loggable(element) for element in value]
    if isinstance(value, int) and not -(2**63) <= value < 2**64:
        return str(value) if value.bit_length() <= _WIDEST else f"integer of {value.bit_length()} bits"
    return value


Kind = Literal["value", "type", "missing", "extra", "length", "status", "failed", "text", "bytes"]
"""The kinds of difference: the first five are found here, the others by comparing bodies that are not JSON."""
