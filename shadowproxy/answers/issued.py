"""IDs that live and a shadow issued for the same thing: in a shadow's answer its own count as live's.

A shadow of a stateful API is sent its own IDs, and answers with these. A text that is the shadow's ID where live has
its own is equal to it, and so is a text that contains it as a whole word, such as the path of an item. A number, or a
text too short to be one of a kind, counts only where both answers have the two values of the pair at the same place,
and that place is named as an ID is, or as the place that the pair was learnt at: live's class 7 and the shadow's class
8 are different answers, though these are also the keys of the item that was asked for.
"""

import re
from typing import Any, Final, NamedTuple, TypeAlias

from shadowproxy.budget import Budget
from shadowproxy.pointers import pointer_token
from shadowproxy.record import RecordedLeg

Issued: TypeAlias = tuple[tuple[str, str, str], ...]
"""Pairs of IDs, live's first, each with the name of the JSON member that it stood in, or nothing."""

NOTHING_ISSUED: Final[Issued] = ()

_DISTINCT: Final = 8
"""Characters from which on an ID is looked for within texts, and where the two answers have not the same places."""

_ID_NAME: Final = re.compile(
    r"(?:.*[_.-])?(?:ids?|pk|key|uuid|guid|ID)|.*[a-z0-9](?:Ids?|IDs?|Key|Uuid|UUID)", re.DOTALL
)

_FEW: Final = 8
"""So many IDs are looked for one by one."""

_DEEPEST: Final = 64
_MOST_PLACES: Final = 50


class AsLive(NamedTuple):
    """A shadow's value with live's IDs in place of its own. `places` are the patterns of where these stand."""

    value: Any
    places: tuple[str, ...]


def issued_in(leg: RecordedLeg) -> Issued:
    """The pairs that a shadow's recorded leg names; none for a leg of a shadow without state."""
    if not leg.translated and not leg.learnt:
        return NOTHING_ISSUED
    found = [(each.live, each.shadow, each.place) for each in leg.translated]
    found += [(each.live, each.shadow, each.place) for each in leg.learnt]
    return pairs_of(found)


def pairs_of(found: list[tuple[str, str, str]]) -> Issued:
    """The different pairs of two values that are there and not the same, of those with their places."""
    return tuple(
        dict.fromkeys(
            [(live, shadow, _name_of(place)) for live, shadow, place in found if live and shadow and live != shadow]
        )
    )


def _name_of(place: str) -> str:
    """The last member's name in a JSON place; nothing for any other place."""
    kind, _, pointer = place.partition(":")
    if kind not in ("json", ""):
        return ""
    names = [each for each in pointer.split("/") if each != "*" and not each.isdigit()]
    return names[-1] if names else ""


def with_lives_ids(live: Any, shadow: Any, issued: Issued, budget: Budget) -> AsLive:
    """The shadow's value beside live's. What has no such ID in it stays the same object. Raises Exhausted."""
    walk = _Walk(issued, budget)
    value = walk.value(live, shadow, "", 0)
    return AsLive(value, tuple(walk.places))


class _Walk:
    """A walk through two values side by side."""

    __slots__ = ("_budget", "_exact", "_named", "_own", "_pattern", "places")

    def __init__(self, issued: Issued, budget: Budget) -> None:
        self._exact = frozenset([(live, shadow) for live, shadow, _ in issued])
        self._named = frozenset(issued)
        self._own = {shadow: live for live, shadow, _ in issued if len(shadow) >= _DISTINCT}
        self._pattern: re.Pattern[str] | None = None
        self._budget = budget
        self.places: dict[str, None] = {}

    def value(self, live: Any, shadow: Any, place: str, depth: int) -> Any:
        if type(shadow) is str:
            return self._text(live, shadow, place)
        if type(shadow) is int:
            return self._number(live, shadow, place)
        if depth > _DEEPEST:
            return shadow
        if type(shadow) is dict:
            return self._members(live if type(live) is dict else {}, shadow, place, depth)
        if type(shadow) is list:
            return self._elements(live if type(live) is list else [], shadow, place, depth)
        return shadow

    def _members(self, live: dict[str, Any], shadow: dict[str, Any], place: str, depth: int) -> Any:
        self._budget.spend(len(shadow))
        changed = False
        made: dict[str, Any] = {}
        for key, value in shadow.items():
            name = self._own.get(key, key) if len(key) >= _DISTINCT else key
            beside = self.value(live.get(name), value, f"{place}/{pointer_token(name)}", depth + 1)
            changed = changed or name != key or beside is not value
            made[name] = beside
        return made if changed else shadow

    def _elements(self, live: list[Any], shadow: list[Any], place: str, depth: int) -> Any:
        self._budget.spend(len(shadow))
        changed = False
        made: list[Any] = []
        size = len(live)
        below = f"{place}/*"
        for at, value in enumerate(shadow):
            beside = self.value(live[at] if at < size else None, value, below, depth + 1)
            changed = changed or beside is not value
            made.append(beside)
        return made if changed else shadow

    def _text(self, live: Any, shadow: str, place: str) -> Any:
        if live == shadow:
            return shadow
        if type(live) is str and self._is_pair(live, shadow, place):
            self._note(place)
            return live
        if not self._own or len(shadow) < _DISTINCT:
            return shadow
        own = self._own.get(shadow)
        if own is None:
            self._budget.spend_bytes(len(shadow))
            if len(self._own) <= _FEW and not any(each in shadow for each in self._own):
                return shadow
            own = self._words().sub(self._lives, shadow)
            if own == shadow:
                return shadow
        self._note(place)
        return own

    def _words(self) -> re.Pattern[str]:
        """All of the shadow's IDs as whole words. To compile it takes 100 us, and most answers have no need of it."""
        if self._pattern is None:
            longest_first = sorted(self._own, key=len, reverse=True)
            words = "|".join([re.escape(each) for each in longest_first])
            self._pattern = re.compile(rf"(?<![0-9A-Za-z])(?:{words})(?![0-9A-Za-z])")
        return self._pattern

    def _number(self, live: Any, shadow: int, place: str) -> Any:
        if type(live) is int and live != shadow and self._is_pair(str(live), str(shadow), place):
            self._note(place)
            return live
        return shadow

    def _is_pair(self, live: str, shadow: str, place: str) -> bool:
        if (live, shadow) not in self._exact:
            return False
        if len(live) >= _DISTINCT and len(shadow) >= _DISTINCT:
            return True
        name = _name_of(f":{place}")
        return _ID_NAME.fullmatch(name) is not None or (name != "" and (live, shadow, name) in self._named)

    def _lives(self, match: re.Match[str]) -> str:
        return self._own[match[0]]

    def _note(self, place: str) -> None:
        if len(self.places) < _MOST_PLACES:
            self.places[place] = None
