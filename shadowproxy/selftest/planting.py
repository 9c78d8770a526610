"""What is measured: the drawn records, the prefixes of the log, and the answers with a fault in them."""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from functools import cached_property
from random import Random
from typing import Final

from shadowproxy.compare.fold.reading import Reading
from shadowproxy.compare.fold.samples import hashed
from shadowproxy.compare.fold.summary import MOST_BLOCKS, NARROWEST, Summary, SummaryBuilder, micros, summarise
from shadowproxy.compare.report.build import to_json
from shadowproxy.compare.report.gates import Gates
from shadowproxy.exchange import Outcome
from shadowproxy.record import Record
from shadowproxy.selftest.known import known_by_route, rarest, route_in, slice_of
from shadowproxy.selftest.plants.fault import Case, Fault, Known, Part
from shadowproxy.selftest.sample import NoSampleError

TWIN: Final = "twin"
"""The name of the shadow: it answers as live did, except for the planted faults."""

FEWEST: Final = 50
"""Good answers of live that a self-test needs."""

_STEPS: Final = (50, 80, 125, 200, 320)  # each 1.6 times the one before; then the same times 10, 100, …
_HASHES: Final = 2**64
_STUCK: Final = 20  # requests that get the same stuck answer


@dataclass(frozen=True)
class Planting:
    """Everything that a measurement needs; it can be sent to another process.

    cuts: the lengths of the prefixes, in requests. known: by route. parts: by part of the requests, the positions of
    its records in `records`. part_name: the slice's name.
    """

    records: tuple[Record, ...]
    reading: Reading
    gates: Gates
    cuts: tuple[int, ...]
    known: dict[str, Known]
    parts: dict[Part, frozenset[int]]
    part_name: str | None

    @cached_property
    def widths(self) -> list[int]:
        """For each prefix the width of the blocks of time that a report on it has."""
        found: list[int] = []
        width, start = NARROWEST, 0
        blocks: set[int] = set()
        for end in self.cuts:
            blocks |= {micros(record.at) // (1000 * width) for record in self.records[start:end]}
            while len(blocks) > MOST_BLOCKS:
                width *= 2
                blocks = {block // 2 for block in blocks}
            found.append(width)
            start = end
        return found

    def fold(self, records: Iterable[Record], cut: int) -> Summary:
        """The summary of records for a report on a prefix, with the blocks of time that this prefix ends with."""
        builder = SummaryBuilder(width=self.widths[cut])
        for record in records:
            builder.add(record, self.reading)
        return builder.finish()

    @cached_property
    def routes(self) -> list[str]:
        """The route of each record."""
        return [route_in(self.known, record) for record in self.records]

    @cached_property
    def _answering(self) -> dict[str, list[int]]:
        """By route, the records in which live answered well."""
        found: dict[str, list[int]] = {}
        for at, (route, record) in enumerate(zip(self.routes, self.records, strict=True)):
            if _is_good(record):
                found.setdefault(route, []).append(at)
        return found

    @cached_property
    def _turns(self) -> dict[int, int]:
        """By record with a good answer of live, its number among those of its route."""
        return {at: turn for places in self._answering.values() for turn, at in enumerate(places)}

    def applies(self, fault: Fault) -> bool:
        """Whether the fault can be planted anywhere in this log."""
        if fault.part is not None and not self.parts[fault.part]:
            return False
        return any(fault.applies(known) for known in self.known.values())

    def plantable(self, fault: Fault, share: float, seed: int) -> frozenset[int]:
        """The records in which a fault may be planted: `share` of all, drawn from the fault's part if it has one."""
        if fault.part is None:
            return frozenset(at for at in range(len(self.records)) if self._lot(at, seed) < share)
        part = self.parts[fault.part]
        of_part = min(1.0, share * len(self.records) / max(1, len(part)))
        return frozenset(at for at in part if self._lot(at, seed) < of_part)

    def _lot(self, at: int, seed: int) -> float:
        return hashed(str(seed), self.records[at].id, self.records[at].record) / _HASHES

    def twins(self, places: Iterator[int] | range) -> Iterator[Record]:
        """Records whose shadow answers as live did."""
        for at in places:
            record = self.records[at]
            yield record._replace(shadows={TWIN: record.live})

    def planted(self, fault: Fault, seed: int, at: int) -> Record:
        """A record with the fault in its shadow's answer, or without it if the answer has nothing to change."""
        record, route = self.records[at], self.routes[at]
        known, answering = self.known[route], self._answering.get(route, [])
        shadow = record.live
        turn = self._turns.get(at)
        if turn is not None and fault.applies(known):
            random = Random(f"{seed} {fault.name} {record.id}")
            case = Case(
                record,
                known,
                random,
                self.records[answering[turn - 1]].live,
                self.records[random.choice(answering)].live,
                self.records[answering[turn - turn % _STUCK]].live,
            )
            shadow = fault.plant(case) or shadow
        return record._replace(shadows={TWIN: shadow})


def _is_good(record: Record) -> bool:
    status = record.live.status
    return record.live.outcome is Outcome.OK and status is not None and 200 <= status < 300


def prepare(records: list[Record], reading: Reading, gates: Gates) -> Planting:
    """Prepare the measurement. Raises NoSampleError if live gave too few good answers."""
    good = sum(map(_is_good, records))
    if good < FEWEST:
        answers = "answer" if good == 1 else "answers"
        raise NoSampleError(f"{good:,} {answers} of live with a 2xx to plant faults in; at least {FEWEST} are needed")
    if 2 * good < len(records):
        raise NoSampleError(f"live answered {good:,} of {len(records):,} requests with a 2xx; half are needed")
    twin = summarise((record._replace(shadows={TWIN: record.live}) for record in records), reading)
    figures = to_json(twin, gates)["shadows"][TWIN]
    known = known_by_route(records, figures)
    part = slice_of(records)
    belongs = rarest(known)
    parts: dict[Part, frozenset[int]] = {
        "rare": frozenset(at for at, record in enumerate(records) if belongs(record)),
        "slice": frozenset(at for at, record in enumerate(records) if part is not None and part[1](record)),
    }
    return Planting(
        tuple(records), reading, gates, cuts(len(records)), known, parts, part[0] if part is not None else None
    )


def cuts(n: int) -> tuple[int, ...]:
    """The prefixes of a log of `n` requests that are reported: 50, 80, 125, …, and all of it."""
    found: list[int] = []
    times = 1
    while True:
        for step in _STEPS:
            if step * times >= n:
                return (*found, n)
            found.append(step * times)
        times *= 10
