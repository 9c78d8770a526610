"""Tests the demo's promises: callers got live's answers, each request has one record; and counts right answers."""

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass

from shadowproxy.compare.report.words import percent
from shadowproxy.demo.client import REQUEST_ID, CallerResponse
from shadowproxy.demo.flights import Flight
from shadowproxy.exchange import Verdict
from shadowproxy.lines import Unreadable
from shadowproxy.record import Record, RecordedLeg


def unequal(
    sent: Sequence[Flight], through: Sequence[CallerResponse], direct: Sequence[CallerResponse]
) -> Iterator[str]:
    """A line for each answer through the proxy that differs from live's own. Only the request ID may be added."""
    for flight, ours, theirs in zip(sent, through, direct, strict=True):
        added = (REQUEST_ID.lower().encode(), flight.id.encode())
        if added not in ours.fields:
            yield f"{flight.id}: the answer lacks the request ID"
            continue
        fields = tuple(field for field in ours.fields if field != added)
        for what, got, own in (
            ("status", ours.status, theirs.status),
            ("header fields", fields, theirs.fields),
            ("body", ours.body, theirs.body),
        ):
            if got != own:
                yield f"{flight.id}: {what} {got!r}, live's own is {own!r}"


def unlogged(sent: Sequence[Flight], logged: Iterable[Record | Unreadable]) -> Iterator[str]:
    """A line for each request that is not in the log exactly once, and for each record of no request."""
    found = Counter[str]()
    for each in logged:
        if isinstance(each, Unreadable):
            yield f"{each.file}, line {each.line}: {each.why}"
        else:
            found[each.id] += 1
    for flight in sent:
        if (times := found.pop(flight.id, 0)) != 1:
            yield f"{flight.id}: {times} times in the log"
    for stranger, times in found.items():
        yield f"{stranger}: {times} times in the log, but was never sent"


def differs(answer: RecordedLeg | None) -> bool:
    """Whether a shadow answered something else than live."""
    return answer is not None and answer.judgement is not None and answer.judgement.verdict is Verdict.MISMATCH


@dataclass(frozen=True, slots=True)
class Scores:
    """How often live and a shadow were right about the arrivals, for flights that both answered."""

    flights: int
    live_right: int
    shadow_right: int
    differing: int
    only_shadow_right: int

    def __str__(self) -> str:
        if not self.flights:
            return "No flight was answered by both."
        return (
            f"How the {self.flights:,} flights really arrived: live was right about "
            f"{percent(self.live_right / self.flights)}, the shadow about {percent(self.shadow_right / self.flights)}; "
            f"of the {self.differing:,} they differ on, the shadow about {self.only_shadow_right:,}."
        )


def scores(records: Iterable[Record], shadow: str, labels: Mapping[str, str]) -> Scores:
    """Count right answers by the labels. Flights without an answer from both are left out."""
    pairs = [
        (live == [labels[record.id]], other == [labels[record.id]])
        for record in records
        if record.id in labels
        and (live := predictions(record.live)) is not None
        and (other := predictions(record.shadows.get(shadow))) is not None
    ]
    return Scores(
        flights=len(pairs),
        live_right=sum(live for live, _ in pairs),
        shadow_right=sum(other for _, other in pairs),
        differing=sum(live is not other for live, other in pairs),
        only_shadow_right=pairs.count((False, True)),
    )


def predictions(answer: RecordedLeg | None) -> list[str] | None:
    """A system's predictions, or None if the record has none."""
    if answer is None or answer.body is None or answer.body.kind != "json" or not isinstance(answer.body.value, dict):
        return None
    found = answer.body.value.get("predictions")
    return found if isinstance(found, list) else None
