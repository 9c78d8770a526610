"""JSON pointers (RFC 6901), and patterns of them: one matcher for what is compared and for what is redacted.

In a pattern, the segment `*` stands for any one member or element, and `**` for any number of them, also for none.
"""

from collections.abc import Iterable
from sys import getsizeof
from typing import Final, TypeAlias

from shadowproxy.caches import remembered

State: TypeAlias = tuple[tuple[int, int], ...]
"""Which patterns still fit at a place: the number of each, and how many of its segments are used up."""


def pointer_token(text: str) -> str:
    """One key as it is written in a pointer (RFC 6901 section 3)."""
    return text.replace("~", "~0").replace("/", "~1") if "~" in text or "/" in text else text


def pointer_segments(pointer: str) -> tuple[str, ...]:
    """The keys that a pointer names, unescaped. Raises ValueError where it is no pointer."""
    return _segments[pointer]


def _segments_of(pointer: str) -> tuple[str, ...]:
    if pointer == "":
        return ()
    if not pointer.startswith("/"):
        raise ValueError(f"{pointer!r} is not a JSON pointer: it must be empty or begin with a slash")
    return tuple(segment.replace("~1", "/").replace("~0", "~") for segment in pointer[1:].split("/"))


_segments: Final = remembered(
    "pointers", _segments_of, lambda pointer, segments: 400 + 2 * getsizeof(pointer) + 100 * len(segments)
)


def pattern_segments(pattern: str, *, deep: bool = True) -> tuple[str, ...]:
    """The segments of a pattern; `**` may be one if `deep`. Raises ValueError for a pattern that fits nothing."""
    segments = pointer_segments(pattern)
    for segment in segments:
        if "*" in segment and segment not in ("*", "**"):
            raise ValueError(f'{pattern!r} has a * within a name: it stands for a whole one, as in "/items/*/name"')
        if segment == "**" and not deep:
            raise ValueError(f"{pattern!r} has ** in it, which cannot stand here: write each step, * for any one name")
    return segments


class Patterns:
    """Several patterns, matched together on the way down through a document: from `start`, step by step, `below`.

    Raises ValueError for what is no pattern.
    """

    __slots__ = ("counts_elements", "named", "segments", "start")

    def __init__(self, pointers: Iterable[str]) -> None:
        self.segments = tuple([pattern_segments(pointer) for pointer in pointers])
        self.named = frozenset([part for pattern in self.segments for part in pattern if part not in ("*", "**")])
        # Elements of an array need telling apart only when a pattern names one by its number.
        self.counts_elements = any(part.isdigit() for part in self.named)
        self.start = self._closed([(which, 0) for which in range(len(self.segments))])

    def below(self, state: State, key: str) -> State:
        """The state one step further down, at the member or element `key`."""
        moves: list[tuple[int, int]] = []
        for which, at in state:
            segments = self.segments[which]
            if at == len(segments):
                continue
            if segments[at] == "**":
                moves.append((which, at))
            elif segments[at] in ("*", key):
                moves.append((which, at + 1))
        return self._closed(moves)

    def ended(self, state: State) -> list[int]:
        """The numbers of the patterns that name the very place, in their order."""
        return sorted([which for which, at in state if at == len(self.segments[which])])

    def _closed(self, moves: list[tuple[int, int]]) -> State:
        """`moves` and what they reach without a step: `**` also stands for nothing."""
        state = dict.fromkeys(moves)
        for which, at in moves:
            segments = self.segments[which]
            while at < len(segments) and segments[at] == "**":
                at += 1
                state[which, at] = None
        return tuple(state)
