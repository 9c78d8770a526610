"""A log folded into counts that add up: the same from one file or a thousand, on one machine or many, in any order.

`summarise` reads records once and keeps a bounded amount of what they say; `merge` adds two summaries exactly, with
`Summary()` as its zero, and `absorb` does it in place; `save` and `load` write one down. Everything the report prints
is computed from a summary.

Counts that need an interval are kept by block of time: an eighth of a second wide at first, and while there are more
than `MOST_BLOCKS` of them, neighbours are merged and the width doubles.
"""

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from hashlib import blake2b
from typing import Any, Final, Self

import orjson

from shadowproxy.compare.fold.counts import Series, WordCounts
from shadowproxy.compare.fold.earlier import EARLIER_FORMAT, pair_of_1
from shadowproxy.compare.fold.pair import status_of
from shadowproxy.compare.fold.places import Look
from shadowproxy.compare.fold.reading import Reading
from shadowproxy.compare.fold.routes import EARLIER, Routes, route_of
from shadowproxy.compare.fold.samples import DistinctIds, hashed
from shadowproxy.compare.fold.tables import put_in_order
from shadowproxy.compare.judge.rules import Rules
from shadowproxy.record import Record

MOST_BLOCKS: Final = 64
NARROWEST: Final = 125
"""Milliseconds of the first blocks: so short a log as a demonstration's still has enough of them."""

FORMAT: Final = 2
"""The version of a saved summary. One of format 1 is read for what it counted; of others none is guessed at."""

_SEAL: Final = "digest"
_PARTS: Final = ("blocks", "ids", "records", "live_outcomes", "live_statuses", "unreadable")


Keep = Callable[[Record, int, str, str, Sequence[Look]], None]
"""Is given a pair's record, its time in microseconds, its shadow and route, and the answers at the places that were
counted."""


class SummaryError(Exception):
    """A saved summary that cannot be read, or not be added to another. The text is one line."""


@dataclass(slots=True)
class Summary:
    """What a log says.

    `width` is milliseconds in a block of time; first and last are microseconds since the epoch. `labels` is how many
    labels were given with it; of parts with labels of their own the most of any.
    """

    width: int = NARROWEST
    blocks: Series = field(default_factory=Series)
    first: int | None = None
    last: int | None = None
    labels: int = 0
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

    def add(self, record: Record, reading: Reading, *, shadow: str | None = None, keep: Keep | None = None) -> None:
        """Count one record; with `shadow`, of the shadows only that one. Raises ValueError where its time is none."""
        at = micros(record.at)
        self.blocks[at // (1000 * self.width)] += 1
        if len(self.blocks) > MOST_BLOCKS:
            self._narrow()
        block = at // (1000 * self.width)
        self.first = at if self.first is None else min(self.first, at)
        self.last = at if self.last is None else max(self.last, at)
        digest = hashed(record.id)
        self.ids.add(digest)
        self.records.add(digest if record.record == record.id else hashed(record.record))
        self.live_outcomes[record.live.outcome] += 1
        self.live_statuses[status_of(record.live)] += 1
        route = route_of(record.request.method, record.request.path)
        for name, answer in record.shadows.items():
            if shadow is None or name == shadow:
                routes = self.shadows.get(name)
                if routes is None:
                    routes = self.shadows[name] = Routes()
                places = routes.part(route).add(block, record, answer, reading)
                if keep is not None and places is not None:
                    keep(record, at, name, route, places)

    def settle(self) -> None:
        """Count what was put off; whoever reads the counts calls it first."""
        for routes in self.shadows.values():
            routes.settle()

    def put_in_order(self) -> None:
        """Put all that is counted in the one order in which it is saved, whatever was counted first."""
        self.settle()
        for name in _PARTS:
            put_in_order(getattr(self, name))
        for routes in self.shadows.values():
            put_in_order(routes)

    def absorb(self, other: "Summary") -> None:
        """Add another summary in place; `other` is not used afterwards. Order and grouping make no difference."""
        while self.width < other.width:
            self._double()
        while other.width < self.width:
            other._double()
        times = [at for at in (self.first, self.last, other.first, other.last) if at is not None]
        self.first, self.last = min(times, default=None), max(times, default=None)
        self.labels = max(self.labels, other.labels)
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
        wider = type(self)(self.width, self.blocks, self.first, self.last, self.labels)
        for name in _PARTS:
            setattr(wider, name, getattr(self, name))
        wider.shadows = dict(self.shadows)
        while wider.width < width:
            wider._double()
        return wider

    def _narrow(self) -> None:
        while len(self.blocks) > MOST_BLOCKS:
            self._double()

    def _double(self) -> None:
        self.blocks = self.blocks.widened()
        self.shadows = {name: routes.widened() for name, routes in self.shadows.items()}
        self.width *= 2

    def to_json(self) -> dict[str, Any]:
        return {
            "shadowproxy_summary": FORMAT,
            "width": self.width,
            "first": self.first,
            "last": self.last,
            "labels": self.labels,
            **{name: getattr(self, name).to_json() for name in _PARTS},
            "shadows": {name: routes.to_json() for name, routes in sorted(self.shadows.items())},
        }

    @classmethod
    def from_json(cls, raw: Any) -> Self:
        """Raises SummaryError for what is no summary of this version or the one before."""
        if not _is_known(raw):
            raise SummaryError(f"not a summary of format {FORMAT}, nor of format {EARLIER_FORMAT}")
        try:
            summary = cls(width=int(raw["width"]), first=raw["first"], last=raw["last"])
            doubled, rest = divmod(summary.width, NARROWEST)
            if rest or doubled < 1 or doubled & (doubled - 1):
                raise SummaryError("not a whole summary: blocks of time of an odd width")
            summary.labels = int(raw.get("labels", 0))
            for name in _PARTS:
                setattr(summary, name, type(getattr(summary, name)).from_json(raw[name]))
            if raw["shadowproxy_summary"] == FORMAT:
                summary.shadows = {name: Routes.from_json(counted) for name, counted in raw["shadows"].items()}
            else:
                summary.shadows = {name: Routes({EARLIER: pair_of_1(pair)}) for name, pair in raw["shadows"].items()}
        except (KeyError, TypeError, ValueError, AttributeError) as error:
            raise SummaryError(f"not a whole summary: {error!s:.80}") from error
        return summary


def summarise(
    records: Iterable[Record], rules: Rules | Reading, *, shadow: str | None = None, keep: Keep | None = None
) -> Summary:
    """Fold records into a summary, in one pass and bounded memory. `keep` is given the pairs' answers as they are
    counted."""
    reading = Reading(rules) if isinstance(rules, Rules) else rules
    summary = Summary(labels=reading.truths.supplied)
    for record in records:
        try:
            summary.add(record, reading, shadow=shadow, keep=keep)
        except ValueError:
            summary.unreadable["no time"] += 1
    summary.settle()
    return summary


def _is_known(raw: Any) -> bool:
    return isinstance(raw, dict) and raw.get("shadowproxy_summary") in (FORMAT, EARLIER_FORMAT)


def merge(one: Summary, other: Summary) -> Summary:
    """The summary of both logs together. Neither is changed; order and grouping make no difference."""
    width = max(one.width, other.width)
    one, other = one.widened(width), other.widened(width)
    times = [at for at in (one.first, one.last, other.first, other.last) if at is not None]
    total = Summary(width=width, first=min(times, default=None), last=max(times, default=None))
    total.labels = max(one.labels, other.labels)
    for name in _PARTS:
        setattr(total, name, getattr(one, name).merged(getattr(other, name)))
    for name in {**one.shadows, **other.shadows}:
        total.shadows[name] = one.shadows.get(name, Routes()).merged(other.shadows.get(name, Routes()))
    total._narrow()
    return total


def save(summary: Summary) -> bytes:
    """One line of JSON, sealed with a digest of what it says."""
    whole = summary.to_json()
    return orjson.dumps(whole | {_SEAL: _digest(whole)}, option=orjson.OPT_APPEND_NEWLINE)


def load(raw: bytes) -> Summary:
    """The summary that `save` wrote. Raises SummaryError, also where it was changed since in what it says.

    Counts that were edited can contradict each other in more ways than could be looked for one by one, and a verdict
    must not rest on them: hence the seal. White space and the order of keys may change.
    """
    try:
        whole = orjson.loads(raw)
    except orjson.JSONDecodeError as error:
        raise SummaryError(f"not a summary: {error}") from error
    if _is_known(whole):
        seal = whole.pop(_SEAL, None)
        if seal != _digest(whole):
            raise SummaryError("not a whole summary: it was changed since it was saved; save it again from its log")
    return Summary.from_json(whole)


def seal_of(raw: bytes) -> str:
    """The digest in a saved summary, which was loaded: it names this summary and no other."""
    return str(orjson.loads(raw)[_SEAL])


def _digest(whole: dict[str, Any]) -> str:
    return blake2b(orjson.dumps(whole, option=orjson.OPT_SORT_KEYS), digest_size=16).hexdigest()


def micros(at: str) -> int:
    """Microseconds since the epoch of an ISO 8601 time. Raises ValueError where it is none or lacks its offset."""
    moment = datetime.fromisoformat(at)
    if moment.tzinfo is None:
        raise ValueError("a time without its offset from UTC")
    return round(moment.timestamp() * 1_000_000)
