"""Where not to look, how near is equal, and which arrays have no order: the rules by which two answers are compared.

A rule is bound to places by a JSON pointer (RFC 6901) in which the segment `*` stands for any one member or element
and `**` for any number of them, none included. A rule for a place holds for everything under it, and of several
tolerances the one that names the deepest place counts; only `unordered` speaks of one array alone.
"""

import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from functools import lru_cache

_MEMO = 4096  # steps remembered: real payloads have few distinct keys, hostile ones must not grow the table


def pointer_token(text: str) -> str:
    """One key as it is written in a pointer (RFC 6901 section 3)."""
    return text.replace("~", "~0").replace("/", "~1") if "~" in text or "/" in text else text


@lru_cache(maxsize=1024)
def pointer_segments(pointer: str) -> tuple[str, ...]:
    """The keys that a pointer names, unescaped. Raises ValueError where it is no pointer."""
    if pointer == "":
        return ()
    if not pointer.startswith("/"):
        raise ValueError(f"{pointer!r} is not a JSON pointer: it must be empty or begin with a slash")
    return tuple(segment.replace("~1", "/").replace("~0", "~") for segment in pointer[1:].split("/"))


@dataclass(frozen=True, slots=True)
class Tolerance:
    """Two numbers are equal when |a - b| <= max(abs, rel * max(|a|, |b|))."""

    abs: float = 1e-9
    rel: float = 1e-6

    def holds(self, live: float, shadow: float) -> bool:
        try:
            gap = abs(live - shadow)
            return gap <= self.abs or gap <= self.rel * max(abs(live), abs(shadow))
        except OverflowError:  # an integer of more than 308 digits beside a float
            return False


FLOATS = Tolerance()
"""What holds for numbers without a rule, as long as one of the two is a float: integers are often keys."""


@dataclass(frozen=True, slots=True)
class Place:
    """What the rules say of one place in a payload, and (in `state`) what they may yet say below it."""

    state: tuple[tuple[int, int], ...]
    ignored: bool
    tolerance: Tolerance | None
    unordered: bool


@dataclass(frozen=True, slots=True)
class Rules:
    """How to compare. Raises ValueError for a pattern that is no pointer or a tolerance below zero.

    A tolerance given as a plain number is absolute, and nothing relative is added to it.
    """

    ignore: tuple[str, ...] = ()
    tolerance: Mapping[str, float | Tolerance] = field(default_factory=dict)
    unordered: tuple[str, ...] = ()
    root: Place = field(init=False, repr=False, compare=False)
    counts_elements: bool = field(init=False, repr=False, compare=False)
    _patterns: tuple[tuple[str, ...], ...] = field(init=False, repr=False, compare=False)
    _memo: dict[tuple[Place, str], Place] = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        for pointer, allowed in self.tolerance.items():
            bounds = (allowed.abs, allowed.rel) if isinstance(allowed, Tolerance) else (allowed,)
            if not all(bound >= 0 and math.isfinite(bound) for bound in bounds):
                raise ValueError(f"the tolerance of {pointer!r} must be a number of at least 0")
        patterns = tuple(pointer_segments(pointer) for pointer in (*self.ignore, *self.tolerance, *self.unordered))
        object.__setattr__(self, "_patterns", patterns)
        object.__setattr__(self, "_memo", {})
        # Elements of an array need telling apart only when a pattern names one by its number.
        object.__setattr__(self, "counts_elements", any(part.isdigit() for pattern in patterns for part in pattern))
        nothing = Place((), False, None, False)
        start = self._closed((which, 0) for which in range(len(patterns)))
        object.__setattr__(self, "root", self._place(start, nothing))

    def below(self, place: Place, key: str) -> Place:
        """The rules for the member or element `key` of `place`."""
        if not place.state and not place.unordered:
            return place
        found = self._memo.get((place, key))
        if found is None:
            moves = []
            for which, at in place.state:
                segments = self._patterns[which]
                if at == len(segments):
                    continue
                if segments[at] == "**":
                    moves.append((which, at))
                elif segments[at] in ("*", key):
                    moves.append((which, at + 1))
            found = self._place(self._closed(moves), place)
            if len(self._memo) < _MEMO:
                self._memo[place, key] = found
        return found

    def _closed(self, moves: Iterable[tuple[int, int]]) -> tuple[tuple[int, int], ...]:
        """`moves` and what they reach without a step: `**` also stands for nothing."""
        state = dict.fromkeys(moves)
        for which, at in list(state):
            segments = self._patterns[which]
            while at < len(segments) and segments[at] == "**":
                at += 1
                state[which, at] = None
        return tuple(state)

    def _place(self, state: tuple[tuple[int, int], ...], above: Place) -> Place:
        ignored, tolerance, unordered = above.ignored, above.tolerance, False
        allowed = list(self.tolerance.values())
        for which, at in sorted(state):
            if at < len(self._patterns[which]):
                continue
            if which < len(self.ignore):
                ignored = True
            elif which < len(self.ignore) + len(allowed):
                bound = allowed[which - len(self.ignore)]
                tolerance = bound if isinstance(bound, Tolerance) else Tolerance(bound, 0.0)
            else:
                unordered = True
        return Place(state, ignored, tolerance, unordered)
