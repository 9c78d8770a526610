"""The rules by which two answers are compared: places to ignore, tolerances, and arrays without order.

A rule is bound to places by a JSON pointer (RFC 6901) in which the segment `*` stands for any one member or element
and `**` for any number of them, none included. A rule for a place holds for everything under it, and of several
tolerances the one that names the deepest place counts; only `unordered` is for one array alone.
"""

import math
import re
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from functools import lru_cache
from hashlib import blake2b
from sys import getsizeof
from typing import Any, Final

import orjson

from shadowproxy.answers.alike import Places
from shadowproxy.caches import Cache
from shadowproxy.compare.judge.near import names_answer
from shadowproxy.pointers import Patterns, State, pointer_segments, pointer_token

COMPARING: Final = 3
"""The version of what equal means without any rule (diff.py, answers). A change of it makes another digest."""

_LONGEST_CACHED: Final = 400  # characters of the pointer of a place: real payloads have few and short ones
_LONGEST_KEY: Final = 200  # characters of a key that a pointer shows
_LONGEST_POINTER: Final = 2000
_EACH: Final = -1  # the key of the one place for all elements


def member_place(place: str, key: str) -> str:
    """The pointer of an object's member."""
    return _below(place, key) if len(place) + len(key) > _LONGEST else _short_below(place, key)


def _below(place: str, key: str) -> str:
    return f"{place}/{pointer_token(key)}"


_LONGEST: Final = 500  # characters of a place that is remembered: a body's names may be of any length
_short_below: Final = lru_cache(maxsize=4096)(_below)


@dataclass(frozen=True, slots=True)
class Tolerance:
    """Two numbers are equal when |a - b| <= max(abs, rel * max(|a|, |b|))."""

    abs: int | float = 1e-9
    rel: int | float = 1e-6

    def holds(self, live: int | float, shadow: int | float) -> bool:
        try:
            # As Any: compiled, a number would become a C double, and an integer too large for one is a TypeError.
            one: Any = live
            other: Any = shadow
            gap = abs(one - other)
            return bool(gap <= self.abs or gap <= self.rel * max(abs(one), abs(other)))
        except OverflowError:  # an integer of more than 308 digits beside a float
            return False


FLOATS = Tolerance()
"""For numbers without a rule, if one of the two is a float. Integers are often keys, and are compared exactly."""


class PlaceRules:
    """The rules for one place in payloads; every array position in it is `*`.

    One payload has the places of the next, so a place's rules are worked out once. The places are a tree, and a walk
    through a payload goes from place to place. `pointer` is as it is shown, `step` its last segment, and `whole` what
    the pointers of places below begin with. `state` is how far the rules' patterns match. `set_aside` is the pointer of
    the place, this one or one above, that the answers' envelope generates for every call; None if there is none.
    `answer`: numbers there are those of an answer (`near`): the whole answer, an element of an array, or `named`, which
    is a member with the name of an answer, or below one.
    """

    __slots__ = (
        "_elements",
        "_members",
        "_rules",
        "answer",
        "ignored",
        "named",
        "pointer",
        "set_aside",
        "state",
        "step",
        "tolerance",
        "unordered",
        "whole",
    )

    def __init__(
        self,
        rules: "Rules",
        state: State,
        whole: str,
        step: str,
        *,
        ignored: bool,
        tolerance: Tolerance | None,
        unordered: bool,
        set_aside: str | None,
        named: bool,
    ) -> None:
        self._rules = rules
        self._members: dict[str, PlaceRules] = {}
        self._elements: dict[int, PlaceRules] = {}
        self.state = state
        self.whole = whole
        self.pointer = shown_pointer(whole)
        self.step = step
        self.ignored = ignored
        self.tolerance = tolerance
        self.unordered = unordered
        self.set_aside = set_aside
        self.named = named
        self.answer = named or step == "/*" or not whole

    def member(self, key: str) -> "PlaceRules":
        """The place of an object's member."""
        found = self._members.get(key)
        if found is None:
            token = pointer_token(key if len(key) <= _LONGEST_KEY else key[:_LONGEST_KEY] + "…")
            found = self._rules.below(self, key, f"/{token}")
            if len(key) <= _LONGEST_KEY and self._rules.caches(found):
                self._members[key] = found
        return found

    def element(self, at: int) -> "PlaceRules":
        """The place of one element of an array: one place for all, unless a rule names elements by their numbers."""
        if not self._rules.counts_elements:
            at = _EACH
        found = self._elements.get(at)
        if found is None:
            found = self._rules.below(self, "*" if at == _EACH else str(at), "/*")
            if self._rules.caches(found):
                self._elements[at] = found
        return found

    def each(self) -> "PlaceRules":
        """The place of all elements of an array together."""
        found = self._elements.get(_EACH)
        if found is None:
            found = self._rules.below(self, "*", "/*")
            if self._rules.caches(found):
                self._elements[_EACH] = found
        return found

    def forget(self) -> None:
        """Forget the places below."""
        self._members.clear()
        self._elements.clear()


@dataclass(frozen=True, slots=True)
class Rules:
    """How to compare. Raises ValueError for a malformed pattern and for a tolerance below zero.

    A tolerance given as a plain number is absolute, and nothing relative is added to it. `set_aside`: what a known
    envelope generates for every call does not count. `predictions` names for a shadow where the answer stands in live's
    and in its own. `digest` is 16 hexadecimal digits that are the same for rules that say the same; a record carries
    those of its rules.
    """

    ignore: tuple[str, ...] = ()
    tolerance: Mapping[str, float | Tolerance] = field(default_factory=dict)
    unordered: tuple[str, ...] = ()
    set_aside: bool = True
    predictions: Mapping[str, Places] = field(default_factory=dict)
    digest: str = field(init=False, repr=False, compare=False)
    root: PlaceRules = field(init=False, repr=False, compare=False)
    counts_elements: bool = field(init=False, repr=False, compare=False)
    _answers: frozenset[str] = field(init=False, repr=False, compare=False)
    _aside: tuple[str, ...] = field(default=(), repr=False, compare=False)
    _base: "Rules | None" = field(default=None, repr=False, compare=False)
    _of_envelopes: dict[tuple[str, ...], "Rules"] = field(init=False, repr=False, compare=False)
    _patterns: Patterns = field(init=False, repr=False, compare=False)
    _places: Cache[str, PlaceRules] = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        for pointer, allowed in self.tolerance.items():
            bounds = (allowed.abs, allowed.rel) if isinstance(allowed, Tolerance) else (allowed,)
            if not all(bound >= 0 and math.isfinite(bound) for bound in bounds):
                raise ValueError(f"the tolerance of {pointer!r} must be a number of at least 0")
        patterns = Patterns((*self.ignore, *self.tolerance, *self.unordered, *self._aside))
        object.__setattr__(self, "digest", _digest(self))
        object.__setattr__(self, "_of_envelopes", {})
        object.__setattr__(self, "_patterns", patterns)
        base = self._base  # all envelopes share one budget
        object.__setattr__(self, "_places", Cache("places in answers", _weight) if base is None else base._places)
        object.__setattr__(self, "_answers", _answers(self.predictions))
        object.__setattr__(self, "counts_elements", patterns.counts_elements)
        object.__setattr__(
            self,
            "root",
            self._place(patterns.start, "", "", ignored=False, tolerance=None, set_aside=None, named=False),
        )

    def beside(self, set_aside: tuple[str, ...]) -> "Rules":
        """These rules, where the places of these patterns do not count. There are as many as envelopes, so each is made
        once."""
        if not set_aside or not self.set_aside:
            return self
        found = self._of_envelopes.get(set_aside)
        if found is None:
            found = replace(self, _aside=set_aside, _base=self)
            self._of_envelopes[set_aside] = found
        return found

    def way(self, pointer: str) -> list[PlaceRules]:
        """The places on the way to a pointer, from the root to its own."""
        way = [self.root]
        for segment in pointer_segments(pointer):
            way.append(way[-1].each() if segment == "*" else way[-1].member(segment))
        return way

    def below(self, place: PlaceRules, key: str, step: str) -> PlaceRules:
        """The place one step below another: that of the member or element `key`, shown as `step`."""
        whole = place.whole + step
        if len(whole) > _LONGEST_POINTER:
            whole = whole[: _LONGEST_POINTER + 1]
        state = self._patterns.below(place.state, key)
        named = place.named if step == "/*" else names_answer(key[:_LONGEST_KEY], above=place.named)
        if self._answers and whole in self._answers:
            named = True
        return self._place(
            state,
            whole,
            step,
            ignored=place.ignored,
            tolerance=place.tolerance,
            set_aside=place.set_aside,
            named=named,
        )

    def caches(self, place: PlaceRules) -> bool:
        """Whether to cache a place. If there are too many, all are forgotten: the present ones will come again."""
        if len(place.whole) > _LONGEST_CACHED:
            return False
        key = place.whole if self._base is None else f"{' '.join(self._aside)} {place.whole}"
        if self._places.keep(key, place):
            (self if self._base is None else self._base)._forget_places()
        return True

    def _forget_places(self) -> None:
        self.root.forget()
        for each in self._of_envelopes.values():
            each.root.forget()

    def _place(
        self,
        state: State,
        whole: str,
        step: str,
        *,
        ignored: bool,
        tolerance: Tolerance | None,
        set_aside: str | None,
        named: bool,
    ) -> PlaceRules:
        unordered = False
        if state:
            allowed = list(self.tolerance.values())
            for which in self._patterns.ended(state):
                if which < len(self.ignore):
                    ignored = True
                elif which < len(self.ignore) + len(allowed):
                    bound = allowed[which - len(self.ignore)]
                    tolerance = bound if isinstance(bound, Tolerance) else Tolerance(bound, 0.0)
                elif which < len(self.ignore) + len(allowed) + len(self.unordered):
                    unordered = True
                elif set_aside is None:
                    set_aside = shown_pointer(whole)
        return PlaceRules(
            self,
            state,
            whole,
            step,
            ignored=ignored,
            tolerance=tolerance,
            unordered=unordered,
            set_aside=set_aside,
            named=named,
        )


def _answers(predictions: Mapping[str, Places]) -> frozenset[str]:
    """The places of live's answers that are named, as they are and with every array position as `*`."""
    found = [live for live, _ in predictions.values()]
    return frozenset([*found, *[_NUMBER.sub("/*", live) for live in found]])


_NUMBER: Final = re.compile(r"/[0-9]+(?=/|\Z)")


def _digest(rules: Rules) -> str:
    allowed: list[list[Any]] = []
    for pointer, bound in rules.tolerance.items():
        each = bound if isinstance(bound, Tolerance) else Tolerance(bound, 0.0)
        allowed.append(
            [pointer, float(each.abs), float(each.rel)]
        )  # in their order: of two for one place the last counts
    digested = [COMPARING, sorted(set(rules.ignore)), allowed, sorted(set(rules.unordered)), rules.set_aside]
    if rules.predictions:
        digested.append(sorted(rules.predictions.items()))
    return blake2b(orjson.dumps(digested), digest_size=8).hexdigest()


def _weight(pointer: str, _: PlaceRules) -> int:
    return 900 + 3 * getsizeof(pointer)


def shown_pointer(pointer: str) -> str:
    """A pointer that is not too long and that UTF-8 can hold."""
    return sound(pointer if len(pointer) <= _LONGEST_POINTER else pointer[:_LONGEST_POINTER] + "…")


def sound(text: str) -> str:
    """A text that UTF-8 can hold: JSON may spell half a surrogate pair."""
    return text if text.isascii() else text.encode("utf-8", "backslashreplace").decode()
