"""A log folded into counts that add up: the same from one file or a thousand, on one machine or many, in any order.

`summarise` reads records once, in bounded memory; `merge` adds two summaries exactly, with `Summary()` as its zero, and
`absorb` does it in place; `save` and `load` write and read one. Everything in a report is computed from a summary.

Counts that need an interval are kept by block of time: an eighth of a second wide at first, and while there are more
than `MOST_BLOCKS` of them, neighbours are merged and the width doubles.
"""

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from hashlib import blake2b
from typing import Any, Final, Self

import orjson

from shadowproxy.compare.fold.counts import Series, Weight, WordCounts
from shadowproxy.compare.fold.earlier import EARLIER_FORMAT, pair_of_format_1
from shadowproxy.compare.fold.outcomes import status_of
from shadowproxy.compare.fold.places import PlaceValues
from shadowproxy.compare.fold.reading import Reading
from shadowproxy.compare.fold.routes import EARLIER, Routes, RoutesBuilder, route_of
from shadowproxy.compare.fold.samples import DistinctIds, hashed
from shadowproxy.compare.fold.tables import put_in_order
from shadowproxy.compare.judge.rules import Rules
from shadowproxy.record import Record

MOST_BLOCKS: Final = 64
NARROWEST: Final = 125
"""Milliseconds of the first blocks: short enough that a demonstration's log has enough blocks."""

FORMAT: Final = 2
"""The version of a saved summary. Format 1 is read as far as it counted the same; others are rejected."""

WEIGHTED_FORMAT: Final = 3
"""The version of one with weights, so that earlier versions of the program do not take its records for requests."""

_SEAL: Final = "digest"
_PARTS: Final = ("blocks", "ids", "records", "live_outcomes", "live_statuses", "unreadable")


Keep = Callable[[Record, int, str, str, Sequence[PlaceValues]], None]
"""Called with a pair's record, which has its weight, its time in microseconds, its shadow and route, and the answers at
the counted places."""


class SummaryError(Exception):
    """A saved summary that cannot be read or added up. The text is one line."""


@dataclass(slots=True)
class Summary:
    """The finished counts of a log, to be read, merged and saved.

    `width` is milliseconds in a block of time; `first` and `last` are microseconds since the epoch. `labels` is how
    many labels were given with the log; for logs that were added up, the most of any. `unwritten` is how many requests
    the records stand for beyond themselves, `heaviest` the most that one may stand for; `blocks`, `ids` and `records`
    are about records, all else about requests.
    """

    width: int = NARROWEST
    blocks: Series = field(default_factory=Series)
    first: int | None = None
    last: int | None = None
    labels: int = 0
    unwritten: int = 0
    heaviest: int = 1
    ids: DistinctIds = field(default_factory=DistinctIds)
    records: DistinctIds = field(default_factory=DistinctIds)
    live_outcomes: WordCounts = field(default_factory=WordCounts)
    live_statuses: WordCounts = field(default_factory=WordCounts)
    unreadable: WordCounts = field(default_factory=WordCounts)
    shadows: dict[str, Routes] = field(default_factory=dict)

    @property
    def count(self) -> int:
        """Records read."""
        return sum(self.blocks.values())

    @property
    def requests(self) -> int:
        """How many requests the records stand for."""
        return self.count + self.unwritten

    def put_in_order(self) -> None:
        """Put all counts in the one order in which they are saved, whatever the log's order was."""
        for name in _PARTS:
            put_in_order(getattr(self, name))
        for routes in self.shadows.values():
            put_in_order(routes)

    def absorb(self, other: "Summary") -> None:
        """Add another summary in place; `other` is not used afterwards. Order and grouping make no difference."""
        self._double_blocks(_doublings(self.width, other.width))
        other._double_blocks(_doublings(other.width, self.width))
        times = [at for at in (self.first, self.last, other.first, other.last) if at is not None]
        self.first, self.last = min(times, default=None), max(times, default=None)
        self.labels = max(self.labels, other.labels)
        self.unwritten += other.unwritten
        self.heaviest = max(self.heaviest, other.heaviest)
        for name in _PARTS:
            getattr(self, name).absorb(getattr(other, name))
        for name, routes in other.shadows.items():
            mine = self.shadows.get(name)
            if mine is None:
                self.shadows[name] = routes
            else:
                mine.absorb(routes)
        self._narrow()

    def widened(self, width: int) -> Self:
        """The same with blocks of `width` milliseconds, which is its own times a power of two."""
        wider = type(self)(self.width, self.blocks, self.first, self.last, self.labels, self.unwritten, self.heaviest)
        for name in _PARTS:
            setattr(wider, name, getattr(self, name))
        wider.shadows = dict(self.shadows)
        wider._double_blocks(_doublings(self.width, width))
        return wider

    def _narrow(self) -> None:
        self._double_blocks(_doublings_to_fit(self.blocks))

    def _double_blocks(self, doublings: int) -> None:
        """Count in blocks of time twice as wide, `doublings` times.

        All at once, as each pass makes every count again: a week's summary is added to a year's in one pass, not six.
        """
        if doublings:
            self.blocks = self.blocks.widened(doublings)
            self.shadows = {name: routes.widened(doublings) for name, routes in self.shadows.items()}
            self.width <<= doublings

    def to_json(self) -> dict[str, Any]:
        return {
            "shadowproxy_summary": WEIGHTED_FORMAT if self.heaviest > 1 else FORMAT,
            "width": self.width,
            "first": self.first,
            "last": self.last,
            "labels": self.labels,
            **({"unwritten": self.unwritten, "heaviest": self.heaviest} if self.heaviest > 1 else {}),
            **{name: getattr(self, name).to_json() for name in _PARTS},
            "shadows": {name: routes.to_json() for name, routes in sorted(self.shadows.items())},
        }

    @classmethod
    def from_json(cls, raw: Any) -> Self:
        """Raises SummaryError for anything but a whole summary of format 1, 2 or 3."""
        if not _is_known(raw):
            raise SummaryError(f"not a summary of format {EARLIER_FORMAT}, {FORMAT} or {WEIGHTED_FORMAT}")
        try:
            summary = cls(width=int(raw["width"]), first=raw["first"], last=raw["last"])
            doubled, rest = divmod(summary.width, NARROWEST)
            if rest or doubled < 1 or doubled & (doubled - 1):
                raise SummaryError("not a whole summary: blocks of time of an odd width")
            summary.labels = int(raw.get("labels", 0))
            summary.unwritten = int(raw.get("unwritten", 0))
            summary.heaviest = int(raw.get("heaviest", 1))
            for name in _PARTS:
                setattr(summary, name, type(getattr(summary, name)).from_json(raw[name]))
            if raw["shadowproxy_summary"] == EARLIER_FORMAT:
                summary.shadows = {
                    name: Routes({EARLIER: pair_of_format_1(pair)}) for name, pair in raw["shadows"].items()
                }
            else:
                summary.shadows = {name: Routes.from_json(counted) for name, counted in raw["shadows"].items()}
        except (KeyError, TypeError, ValueError, AttributeError) as error:
            raise SummaryError(f"not a whole summary: {error!s:.80}") from error
        return summary


class SummaryBuilder:
    """Counts records into a summary. `finish` gives it; it is called once, at the end.

    `width` is milliseconds in the first blocks of time, `labels` how many labels are given.
    """

    def __init__(self, *, width: int = NARROWEST, labels: int = 0) -> None:
        self._summary = Summary(width=width, labels=labels)
        self._shadows: dict[str, RoutesBuilder] = {}

    def add(
        self,
        record: Record,
        reading: Reading,
        *,
        shadow: str | None = None,
        keep: Keep | None = None,
        draw: int = 1,
    ) -> None:
        """Count one record as often as its weight says. Raises ValueError if its time cannot be read.

        Args:
            shadow: only this shadow's answers are counted.
            keep: called for each pair.
            draw: the record is one of so many, drawn whatever its answers: it counts as often as its weight times this.
        """
        summary = self._summary
        times, most = record.weight * draw, record.heaviest * draw
        weight = None if most == 1 else Weight(times, most, record.differing * draw)
        at = micros(record.at)
        summary.blocks[at // (1000 * summary.width)] += 1
        if len(summary.blocks) > MOST_BLOCKS:
            self._widen(_doublings_to_fit(summary.blocks))
        block = at // (1000 * summary.width)
        summary.first = at if summary.first is None else min(summary.first, at)
        summary.last = at if summary.last is None else max(summary.last, at)
        digest = hashed(record.id)
        summary.ids.add(digest)
        summary.records.add(digest if record.record == record.id else hashed(record.record))
        if weight is not None:
            summary.unwritten += times - 1
            summary.heaviest = max(summary.heaviest, most)
        summary.live_outcomes[record.live.outcome] += times
        summary.live_statuses[status_of(record.live)] += times
        route = route_of(record.request.method, record.request.path)
        for name, leg in record.shadows.items():
            if shadow is None or name == shadow:
                routes = self._shadows.get(name)
                if routes is None:
                    routes = self._shadows[name] = RoutesBuilder()
                part = routes.part(route)
                builder = part.plain if weight is None else part.of(weight)
                places = builder.add(block, record, leg, reading.of(name), digest)
                if keep is not None and places is not None:
                    keep(record, at, name, route, places)

    def add_unreadable(self, reason: str) -> None:
        """Count a line of the log that is no record."""
        self._summary.unreadable[reason] += 1

    def finish(self) -> Summary:
        """The summary of all records. The builder is not used afterwards."""
        self._summary.shadows = {name: routes.finish() for name, routes in self._shadows.items()}
        return self._summary

    def _widen(self, doublings: int) -> None:
        """Go on counting in blocks of time twice as wide, `doublings` times."""
        for routes in self._shadows.values():
            routes.widen(doublings)
        self._summary._double_blocks(doublings)


def summarise(
    records: Iterable[Record], rules: Rules | Reading, *, shadow: str | None = None, keep: Keep | None = None
) -> Summary:
    """Fold records into a summary, in one pass and bounded memory. `keep` is called for each pair."""
    reading = Reading(rules) if isinstance(rules, Rules) else rules
    builder = SummaryBuilder(labels=reading.truths.supplied)
    for record in records:
        try:
            builder.add(record, reading, shadow=shadow, keep=keep)
        except ValueError:
            builder.add_unreadable("no time")
    return builder.finish()


def _doublings(narrow: int, wide: int) -> int:
    """How often blocks of one width are doubled until they are as wide as others; 0 if they are."""
    doublings = 0
    while narrow << doublings < wide:
        doublings += 1
    return doublings


def _doublings_to_fit(blocks: Iterable[int]) -> int:
    """How often blocks of time are doubled until there are not too many of them."""
    doublings = 0
    left = set(blocks)
    while len(left) > MOST_BLOCKS:
        left = {block >> 1 for block in left}
        doublings += 1
    return doublings


def _is_known(raw: Any) -> bool:
    return isinstance(raw, dict) and raw.get("shadowproxy_summary") in (FORMAT, WEIGHTED_FORMAT, EARLIER_FORMAT)


def merge(one: Summary, other: Summary) -> Summary:
    """The summary of both logs together. Neither is changed; order and grouping make no difference."""
    width = max(one.width, other.width)
    one, other = one.widened(width), other.widened(width)
    times = [at for at in (one.first, one.last, other.first, other.last) if at is not None]
    total = Summary(width=width, first=min(times, default=None), last=max(times, default=None))
    total.labels = max(one.labels, other.labels)
    total.unwritten = one.unwritten + other.unwritten
    total.heaviest = max(one.heaviest, other.heaviest)
    for name in _PARTS:
        setattr(total, name, getattr(one, name).merged(getattr(other, name)))
    for name in {**one.shadows, **other.shadows}:
        total.shadows[name] = one.shadows.get(name, Routes()).merged(other.shadows.get(name, Routes()))
    total._narrow()
    return total


def save(summary: Summary) -> bytes:
    """One line of JSON, with a digest of its content."""
    whole = summary.to_json()
    return orjson.dumps(whole | {_SEAL: _digest(whole)}, option=orjson.OPT_APPEND_NEWLINE)


def resealed(summary: Summary, more: dict[str, Any]) -> bytes:
    """What `save` writes, with more keys, which whoever loads it ignores. The digest is over them too."""
    whole = summary.to_json() | more
    return orjson.dumps(whole | {_SEAL: _digest(whole)}, option=orjson.OPT_APPEND_NEWLINE)


def load(raw: bytes) -> Summary:
    """The summary that `save` wrote. Raises SummaryError, also if its content was changed since.

    Edited counts can contradict each other in too many ways to check, and a verdict must not rest on them: hence the
    digest. White space and the order of keys may change.
    """
    try:
        whole = orjson.loads(raw)
    except orjson.JSONDecodeError as error:
        raise SummaryError(f"not a summary: {error}") from error
    if _is_known(whole):
        seal = whole.pop(_SEAL, None)
        if seal != _digest(whole):
            raise SummaryError("not a whole summary: it was changed after it was saved; save it again from its log")
    return Summary.from_json(whole)


def seal_of(raw: bytes) -> str:
    """The digest in a saved summary that was loaded. It identifies this summary."""
    return str(orjson.loads(raw)[_SEAL])


def _digest(whole: dict[str, Any]) -> str:
    return blake2b(orjson.dumps(whole, option=orjson.OPT_SORT_KEYS), digest_size=16).hexdigest()


def micros(at: str) -> int:
    """Microseconds since the epoch of an ISO 8601 time. Raises ValueError if it is not one, or has no offset."""
    moment = datetime.fromisoformat(at)
    if moment.tzinfo is None:
        raise ValueError("a time without its offset from UTC")
    return round(moment.timestamp() * 1_000_000)
