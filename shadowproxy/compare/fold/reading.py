"""How a log is read: the rules, the named places if any, and the truths."""

from dataclasses import dataclass, field, replace
from typing import Final, NamedTuple

import orjson

from shadowproxy.compare.fold.places import field_key, names_embedding
from shadowproxy.compare.fold.truths import NONE as NO_TRUTHS
from shadowproxy.compare.fold.truths import Truths
from shadowproxy.compare.judge.rules import Rules, Tolerance

_MOST_REMEMBERED: Final = 4096


class At(NamedTuple):
    """The rules for a place. `elements` is the tolerance of an array's numbers there; `embedding`: it is named one."""

    ignored: bool
    tolerance: Tolerance | None
    elements: Tolerance | None
    embedding: bool


FieldPlaces = tuple[str, str]
"""A field's place in live's answers and in the shadow's."""


@dataclass(frozen=True, slots=True)
class Reading:
    """How a log is read.

    `fields` names where the answer is, the field to judge first; without it every place that may hold the answer is
    counted. `slices` are fields of the request that are always counted. `shadow` is the shadow that is read, in what
    `of` gives.
    """

    rules: Rules
    fields: tuple[FieldPlaces, ...] = ()
    truths: Truths = NO_TRUTHS
    slices: tuple[str, ...] = ()
    shadow: str = ""
    keys: tuple[str, ...] = field(init=False, repr=False, compare=False)
    """The fields' keys, in their order."""
    named: str = field(init=False, repr=False, compare=False)
    """The fields as one key: a JSON list, empty without any."""
    chosen: dict[tuple[str, ...], tuple[int, ...]] = field(init=False, repr=False, compare=False)
    """Cache: which places of an exchange are counted, by the keys of all its places."""
    _places: dict[str, At] = field(init=False, repr=False, compare=False)
    _of_shadows: dict[str, "Reading"] = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "keys", tuple(field_key(live, shadow) for live, shadow in self.fields))
        object.__setattr__(self, "named", named_by(self.fields))
        object.__setattr__(self, "chosen", {})
        object.__setattr__(self, "_places", {})
        object.__setattr__(self, "_of_shadows", {})

    def of(self, shadow: str) -> "Reading":
        """This reading, for one shadow: where no fields are named, the rules may name a place for it."""
        found = self._of_shadows.get(shadow)
        if found is None:
            if len(self._of_shadows) >= _MOST_REMEMBERED:
                self._of_shadows.clear()
            place = self.rules.predictions.get(shadow)
            fields = (place,) if place is not None and not self.fields else self.fields
            found = self._of_shadows[shadow] = replace(self, shadow=shadow, fields=fields)
        return found

    def at(self, pointer: str) -> At:
        """The rules for a place in the answers."""
        found = self._places.get(pointer)
        if found is None:
            if len(self._places) >= _MOST_REMEMBERED:
                self._places.clear()
            place = self.rules.way(pointer)[-1]
            found = self._places[pointer] = At(
                place.ignored, place.tolerance, place.each().tolerance, names_embedding(pointer)
            )
        return found


def named_by(fields: tuple[FieldPlaces, ...]) -> str:
    """Fields in their order as one key, from which `keys_of` reads them; empty without any."""
    return orjson.dumps([field_key(live, shadow) for live, shadow in fields]).decode() if fields else ""


def keys_of(named: str) -> tuple[str, ...]:
    return tuple(orjson.loads(named)) if named else ()
