"""Answers taken apart: the scalars of each in the order of its document, beside the layout that answers of one shape
share.

Nearly all answers of a log have one of a few shapes. What depends on the shape alone is worked out once for each: which
scalars lie at which place, and the places that the structure has. A shape is the names and types of all members, the
lengths of all arrays, and whatever else decides how an answer is read: whether numbers are the shares of classes, and
whether texts are a ranking.
"""

from collections.abc import Sequence
from itertools import chain
from typing import Any, Final

from shadowproxy.compare.fold.places import field_key, values_at
from shadowproxy.compare.fold.structure import Shape, shape_of
from shadowproxy.compare.fold.survey import DEEPEST, SCALARS, Mirror, Survey
from shadowproxy.compare.fold.values import ID_NAMES, is_vector, ranking_of, sums_to_one, vector_of
from shadowproxy.compare.judge.diff import diff_scalars, ways_of
from shadowproxy.compare.judge.differences import Diff, Way
from shadowproxy.compare.judge.rules import Rules

_MOST_KNOWN: Final = 256  # layouts that are remembered
_LONGEST_SHAPE: Final = 600  # parts of the shape of one
_MOST_CHARACTERS: Final = 8000  # of its names
_MOST_SCALARS: Final = 20_000  # of one
_MOST_TOGETHER: Final = 200_000  # scalars of all: the way to each takes a hundred bytes
_FEW_HITS: Final = 2  # for each layout that was remembered: with fewer, it is not worth its making
_PAUSE: Final = 4096  # answers

_NUMBERS: Final = frozenset({int, float})
_ID_NAMES: Final = frozenset(ID_NAMES)

_values_of: Final[Any] = dict.values

_TABLE: Final = "table"
_FLAT: Final = "flat"
_EACH: Final = "each"
_RANKING: Final = "ranking"  # a word of its own: True and False would be equal to the lengths 1 and 0 that may follow

Getter = slice | tuple[int, ...] | None
"""Where the values of one place are: a slice of the scalars; or their numbers, with -1, -2 .. for arrays and objects;
None if they have to be gathered from the answer."""


def keys_of(places: Sequence[str]) -> tuple[str, ...]:
    """What each place is counted under."""
    return tuple([field_key(place, place) for place in places])


class Layout:
    """What answers of one shape have in common.

    `places` are those that may hold the answer, the best rank first, `keys` what each is counted under, and `getters`
    where its values are.
    `structure` is the shape as `structure.shape_of` tells it of an answer without NaN; None until it is asked for.
    """

    __slots__ = ("_rules", "_ways", "getters", "keys", "places", "structure")

    def __init__(self, places: tuple[str, ...], getters: tuple[Getter, ...]) -> None:
        self.places = places
        self.keys = keys_of(places)
        self.getters = getters
        self.structure: Shape | None = None
        self._rules: Rules | None = None
        self._ways: list[Way] = []

    def ways(self, value: Any, rules: Rules) -> list[Way]:
        """The way to each scalar of such an answer, `value` for one."""
        if self._rules is not rules:
            self._rules = rules
            self._ways = ways_of(value, rules)
        return self._ways


class Layouts:
    """The layouts of the shapes that came before. If hardly any comes again, as where each answer has names of its own,
    none is made for a while: `pause` is for how many answers."""

    __slots__ = ("_hits", "_known", "_scalars", "pause")

    def __init__(self) -> None:
        self._known: dict[tuple[Any, ...], Layout] = {}
        self._hits = 0
        self._scalars = 0
        self.pause = 0

    def __len__(self) -> int:
        return len(self._known)

    def of(self, value: Any, parts: "_Parts") -> Layout | None:
        """The layout of an answer; None if its shape is too long to be remembered."""
        if len(parts.shape) > _LONGEST_SHAPE:
            return None
        shape = tuple(parts.shape)
        found = self._known.get(shape)
        if found is not None:
            self._hits += 1
            return found
        if _characters(shape) > _MOST_CHARACTERS:
            return None
        size = len(parts.scalars)
        if len(self._known) >= _MOST_KNOWN or self._scalars + size > _MOST_TOGETHER:
            if self._hits < _FEW_HITS * len(self._known):
                self.pause = _PAUSE
            self._known.clear()
            self._hits = self._scalars = 0
        self._scalars += size
        found = self._known[shape] = _layout_of(value)
        return found


def _characters(shape: tuple[Any, ...]) -> int:
    """Characters of all names in a shape."""
    return sum([len(name) for part in shape if type(part) is tuple for name in part if type(name) is str])


_LAYOUTS: Final = Layouts()


class Answer:
    """One answer's value, taken apart."""

    __slots__ = ("_columns", "_layout", "_parts", "_places", "value")

    def __init__(self, value: Any, layouts: Layouts = _LAYOUTS) -> None:
        self.value = value
        self._places: tuple[str, ...] | None = None
        self._columns: list[list[Any]] = []
        self._layout: Layout | None = None
        self._parts = parts = _Parts()
        if layouts.pause > 0:
            layouts.pause -= 1
            return
        parts.take(value, 0)
        if parts.regular:
            self._layout = layouts.of(value, parts)

    @property
    def places(self) -> tuple[str, ...]:
        """The places that may hold the answer, the best rank first."""
        if self._places is None:
            self._look()
        return self._places or ()

    @property
    def keys(self) -> tuple[str, ...]:
        """What each of them is counted under."""
        return self._layout.keys if self._layout is not None else keys_of(self.places)

    @property
    def columns(self) -> list[list[Any]]:
        """The values at each of the places."""
        if self._places is None:
            self._look()
        return self._columns

    def _look(self) -> None:
        layout, columns = self._layout, self._columns
        if layout is None:
            survey = Survey(self.value)
            self._places = tuple(survey.found)
            columns.extend(survey.found.values())
            return
        self._places = layout.places
        scalars, containers = self._parts.scalars, self._parts.containers
        for at, getter in enumerate(layout.getters):
            if type(getter) is slice:
                columns.append(scalars[getter])
            elif getter is None:
                columns.append(values_at(self.value, layout.places[at]))
            else:
                columns.append([scalars[each] if each >= 0 else containers[-1 - each] for each in getter])

    def diff(self, other: "Answer", rules: Rules) -> Diff | None:
        """What `judge.diff` finds, where both have one shape, and rules without unordered arrays; else None."""
        layout = self._layout
        if layout is None or layout is not other._layout or rules.unordered:
            return None
        return diff_scalars(self._parts.scalars, other._parts.scalars, layout.ways(self.value, rules))

    def structure(self, *, exact: bool) -> Shape:
        """The places that the answer has. `exact`: it contains no NaN."""
        layout = self._layout
        if layout is None or not exact:
            return shape_of(self.value, exact=exact)
        found = layout.structure
        if found is None:
            found = layout.structure = shape_of(self.value, exact=True)
        return found


class _Parts:
    """An answer's scalars, its arrays and objects, and its shape; `regular` is False if that is too long or too deep.

    Whoever reads a shape knows at each part what the next one means: an object begins with its names, an array with its
    length, and then one word says how its elements are written. So different shapes are never written the same.
    """

    __slots__ = ("containers", "regular", "scalars", "shape")

    def __init__(self) -> None:
        self.scalars: list[Any] = []
        self.containers: list[Any] = []
        self.shape: list[Any] = []
        self.regular = True

    def take(self, value: Any, depth: int) -> None:
        kind = type(value)
        if kind is dict:
            self._object(value, depth)
        elif kind is list:
            self._array(value, depth)
        else:
            self.shape.append(kind)
            self.scalars.append(value)

    def _begins(self, value: Any, depth: int) -> bool:
        """Note an array or object. Returns whether to go on."""
        if depth > DEEPEST or len(self.shape) > _LONGEST_SHAPE or len(self.scalars) > _MOST_SCALARS:
            self.regular = False
        self.containers.append(value)
        return self.regular

    def _object(self, value: dict[str, Any], depth: int) -> None:
        if not self._begins(value, depth):
            return
        shape, scalars = self.shape, self.scalars
        shape.append(tuple(value))
        numbers, fraction = True, False
        for member in value.values():
            kind = type(member)
            if kind is dict or kind is list:
                numbers = False
                self.take(member, depth + 1)
                continue
            shape.append(kind)
            scalars.append(member)
            if kind is float:
                fraction = True
            elif kind is not int:
                numbers = False
        if numbers and fraction and len(value) > 1:
            vector = vector_of(value)
            shape.append(0 if vector is None else 2 if sums_to_one(vector) else 1)

    def _array(self, value: list[Any], depth: int) -> None:
        if not self._begins(value, depth):
            return
        shape = self.shape
        size = len(value)
        shape.append(size)
        if not size:
            return
        kinds = set(map(type, value))
        if dict not in kinds and list not in kinds:
            if size > _MOST_SCALARS:
                self.regular = False
                return
            shape.append(_FLAT)
            self.scalars.extend(value)
            if len(kinds) == 1:
                kind = kinds.pop()
                shape.append(kind)
                if kind is str and size > 1:
                    shape.append(ranking_of(value) is not None)
                elif kind in _NUMBERS and size > 1:
                    shape.append(is_vector(value))
                return
            shape.append(tuple(map(type, value)))
            if kinds <= _NUMBERS:
                shape.append(is_vector(value))
            return
        if len(kinds) == 1 and dict in kinds and size > 1 and self._table(value):
            return
        ranks = type(value[0]) is dict and size > 1 and ranking_of(value) is not None
        shape.append(_RANKING if ranks else _EACH)
        for each in value:
            self.take(each, depth + 1)
            if not self.regular:
                return

    def _table(self, rows: list[Any]) -> bool:
        """Take rows apart that have the same scalar members in the same order, as those of nearly every batch."""
        first: dict[str, Any] = rows[0]
        names = tuple(first)
        kinds = tuple(map(type, first.values()))
        if not names or not SCALARS.issuperset(kinds) or (float in kinds and _NUMBERS.issuperset(kinds)):
            return False  # shares of classes, perhaps: each row is looked at
        # As no row has a name twice, none is longer than the first; and so, all together, none is shorter either.
        if tuple(chain.from_iterable(rows)) != names * len(rows):
            return False
        taken = list(chain.from_iterable(map(_values_of, rows)))
        if tuple(map(type, taken)) != kinds * len(rows):
            return False
        self.scalars += taken
        shape = self.shape
        shape += (_TABLE, names, kinds)
        if not _ID_NAMES.isdisjoint(names):
            shape.append(ranking_of(rows) is not None)
        self.containers.extend(rows)
        return True


def _layout_of(value: Any) -> Layout:
    survey = Survey(value, _mirror_of(value, [0, 0]))
    return Layout(tuple(survey.found), tuple([_getter(survey.mirrors[place]) for place in survey.found]))


def _mirror_of(value: Any, taken: list[int]) -> Mirror:
    """The mirror of a value, with everything numbered as `_Parts` takes it. `taken` is how many scalars, and how many
    arrays and objects, came before."""
    if type(value) is dict or type(value) is list:
        number = taken[1]
        taken[1] += 1
        members = value.values() if type(value) is dict else value
        return number, tuple([_mirror_of(each, taken) for each in members])
    taken[0] += 1
    return taken[0] - 1


def _getter(mirrors: list[Any] | None) -> Getter:
    if mirrors is None:
        return None
    numbers = [each if type(each) is int else -1 - each[0] for each in mirrors]
    start = numbers[0]
    step = numbers[1] - start if len(numbers) > 1 else 1
    if start >= 0 and step > 0 and numbers == list(range(start, start + step * len(numbers), step)):
        return slice(start, start + step * (len(numbers) - 1) + 1, step)
    return tuple(numbers)
