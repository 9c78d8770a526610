"""The differences of two values: where they are, of what kind, how they are counted and how each is shown.

A bounded number is kept in the order in which they were found; all are counted.
"""

import math
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from typing import Any, Final, Literal, TypeAlias

from shadowproxy.answers.alike import Places
from shadowproxy.answers.leaves import Blob, Vector
from shadowproxy.compare.judge.rules import PlaceRules, shown_pointer, sound
from shadowproxy.record import Difference

KEPT: Final = 100
"""Differences that are listed; further ones are only counted."""

PLACES: Final = 200
"""Distinct places that are counted one by one."""

_named: Callable[[Any, Any], Any] = tuple.__new__  # a third of what calling the named tuple's class takes
_LONGEST: Final = 200  # characters of a value that a difference shows
_WIDEST: Final = 200  # bits of an integer that is shown digit by digit, as a text
MEMBER: Final = -1
"""In place of a number in an array, for a member of an object."""

Where: TypeAlias = tuple[str, str]
"""A place with every array position as `*`, and the kind of difference there."""

Way: TypeAlias = tuple[Any, PlaceRules, int]
"""The way to one value of a payload: the way to what holds it (`Any`, as mypyc takes no type that names itself), its
place, and its number in an array or `MEMBER`."""

Found: TypeAlias = tuple[str, str, Any, Any, Way | str]
"""One difference: its place, its kind, live's value and the shadow's, and the way there or its pointer."""


@dataclass(slots=True)
class Diff:
    """The differences of two values. `near` counts numbers that are equal only by tolerance, `where` the differences,
    per place. `set_aside` has the places that differ and do not count: the envelope generates them for every call, or
    both have IDs of their own there.

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

    def note_set_aside(self, places: Iterable[str]) -> None:
        """Note places at which the shadow has an ID of its own in place of live's."""
        for place in places:
            self.set_aside[place] = self.set_aside.get(place, 0) + 1

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


def does_not_count(place: PlaceRules, found: Diff) -> bool:
    """Whether a difference at a place does not count; then it is noted so."""
    if place.ignored:
        found.ignored += 1
        return True
    if place.set_aside is not None:
        found.set_aside[place.set_aside] = found.set_aside.get(place.set_aside, 0) + 1
        return True
    return False


def note_near(where: str, found: Diff) -> None:
    if where in found.near or len(found.near) < PLACES:
        found.near[where] = found.near.get(where, 0) + 1


def note(difference: str, one: Any, other: Any, place: PlaceRules, at: int, above: Way | None, found: Diff) -> None:
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


def shown(difference: str, one: Any, other: Any) -> tuple[Any, Any]:
    """Both sides of a difference as they are kept."""
    if difference == "extra":
        return None, shorten(other)
    if difference == "missing":
        return shorten(one), None
    if difference == "length":
        return length_of(one), length_of(other)
    return shorten_both(one, other)


def _pointer(way: Way | None) -> str:
    steps: list[str] = []
    while way is not None:
        way, place, at = way
        steps.append(place.step if at == MEMBER else f"/{at}")
    return shown_pointer("".join(reversed(steps)))


def _below(pointer: str, rest: str) -> str:
    """The pointer of what stands at `rest` below a place. A `*` in the place's pointer is the first step of `rest`."""
    if "*" not in pointer or not rest:
        return pointer + rest
    first, _, further = rest[1:].partition("/")
    return pointer.replace("/*", f"/{first}", 1) + (f"/{further}" if further else "")


def length_of(value: Any) -> int:
    return value.shape[0] if type(value) is Vector else len(value)


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
