"""Routes: a method and a path, in which segments that change from request to request are masked.

`/orders/1234/items` and `/orders/98/items` are one route, `/orders/*/items`. The report decides from each route's
number of requests which routes it judges alone.
"""

import re
from dataclasses import dataclass
from functools import lru_cache
from typing import ClassVar, Final

from shadowproxy.compare.fold.known import LONGEST
from shadowproxy.compare.fold.pair import Pair
from shadowproxy.compare.fold.tables import Bounded, Table
from shadowproxy.compare.fold.weighed import WeighedBuilder

MOST_ROUTES: Final = 64
FEWEST_PAIRS: Final = 300
LEAST_SHARE: Final = 0.01
OTHER: Final = "other routes"
EARLIER: Final = "*"
"""The one route in counts of an earlier format, which had no routes."""

_LONGEST_SEGMENT: Final = 24
_MOST_SEGMENTS: Final = 12
_CHANGES: Final = re.compile(
    r"(?i)[+-]?\d+(?:[.,]\d+)*"  # a number
    r"|(?:[\w]{1,12}[_-])?[0-9a-f]{8}-?[0-9a-f]{4}-?[0-9a-f]{4}-?[0-9a-f]{4}-?[0-9a-f]{12}"  # a UUID, with a prefix
    r"|(?=[0-9a-f]*\d)(?:0x)?[0-9a-f]{8,}"  # hexadecimal
    r"|\d{4}-\d\d-\d\d(?:[T _].*)?"  # a date
    r"|(?=.*\d)[a-z]{1,6}[_-]?\d{3,}"  # ord-12345
)


class Routes(Table[Pair]):
    """The counts of one shadow, by route."""

    INNER = Pair
    LIMIT = MOST_ROUTES


class RoutesBuilder(Bounded[WeighedBuilder]):
    """Counts one shadow's exchanges, by route."""

    INNER = WeighedBuilder
    LIMIT: ClassVar[int] = MOST_ROUTES

    def add_to_other(self, part: WeighedBuilder) -> None:
        self.other.absorb(part)

    def widen(self, doublings: int) -> None:
        """Go on counting in blocks of time twice as wide, `doublings` times."""
        for builder in (*self.values(), self.other):
            builder.widen(doublings)

    def finish(self) -> Routes:
        """What was counted on each route. The builder is not used afterwards."""
        return Routes({name: builder.finish() for name, builder in self.items()}, self.other.finish())


@dataclass(frozen=True, slots=True)
class Route:
    """One route of the report. `gated` ones are judged; the others are listed. The share is of all pairs."""

    name: str
    pair: Pair
    share: float
    gated: bool


def route_of(method: str, path: str) -> str:
    """The route of a request."""
    return f"{method[:16]} {template(path)}"


def template(path: str) -> str:
    """A path with `*` for segments that are numbers, IDs or tokens, cut after `_MOST_SEGMENTS` segments."""
    return _template(path) if len(path) > LONGEST else _short_template(path)


def _template(path: str) -> str:
    segments = path.split("/")
    shown = ["*" if _changes(segment) else segment for segment in segments[:_MOST_SEGMENTS]]
    return "/".join(shown) + ("/…" if len(segments) > _MOST_SEGMENTS else "")


_short_template: Final = lru_cache(maxsize=8192)(_template)


def _changes(segment: str) -> bool:
    if _CHANGES.fullmatch(segment):
        return True
    # A name of that length has no digits, and a token without a digit is very rare.
    return (len(segment) > _LONGEST_SEGMENT and any(each.isdigit() for each in segment)) or len(segment) > 64


def pooled(routes: Routes) -> Pair:
    """All routes together. A single route is returned as it is."""
    pairs = [*routes.values(), *([routes.other] if routes.other else [])]
    return pairs[0] if len(pairs) == 1 else _together(pairs)


def _together(pairs: list[Pair]) -> Pair:
    """The sum of pairs. None of them is changed."""
    total = Pair()
    for pair in pairs:
        total.absorb(pair.merged(Pair()))
    return total


def judged(routes: Routes) -> list[Route]:
    """The routes, those with most requests first, and which of them are judged.

    A route with 300 pairs and 1 % of all is judged. The others are judged together if they have as many. If no route
    is judged, the whole is judged as one; so it is if a part was counted without routes.
    """
    counts = {name: pair.pairs.total() for name, pair in routes.items()}
    total = sum(counts.values()) + routes.other.pairs.total()
    apart = EARLIER not in routes

    def enough(count: int, written: int) -> bool:
        return apart and written >= FEWEST_PAIRS and count >= LEAST_SHARE * total

    found = [
        Route(name, pair, counts[name] / total if total else 0.0, enough(counts[name], pair.pairs.written()))
        for name, pair in sorted(routes.items(), key=lambda each: (-counts[each[0]], each[0]))
    ]
    left = [route for route in found if not route.gated]
    left_over = sum(counts[route.name] for route in left) + routes.other.pairs.total()
    written = sum(route.pair.pairs.written() for route in left) + routes.other.pairs.written()
    if routes.other or (any(route.gated for route in found) and enough(left_over, written)):
        rest = _together([routes.other, *(route.pair for route in left)])
        gated = any(route.gated for route in found) and enough(left_over, written)
        found.append(Route(OTHER, rest, left_over / total if total else 0.0, gated))
    return found
