"""Records to rows of a table.

The answer stands at the place that the configuration or the caller names, or else at the one whose name ranks best
among those of that answer: the same for every answer of one shape, whatever else the log holds.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any, Final

from shadowproxy.answers import Content, about, content_of, failed_reason, value_of
from shadowproxy.compare.fold.chosen import counted_places
from shadowproxy.compare.fold.filters import EVERYTHING, Only
from shadowproxy.compare.fold.layouts import Answer
from shadowproxy.compare.fold.looks import values_by_place
from shadowproxy.compare.fold.places import PlaceValues, values_at
from shadowproxy.compare.fold.reading import Reading
from shadowproxy.compare.fold.requests import asked_by
from shadowproxy.compare.fold.values import MISSING
from shadowproxy.compare.judge.recompare import recompared
from shadowproxy.compare.judge.rules import Rules
from shadowproxy.compare.judge.standing import standing_of
from shadowproxy.exchange import CONTROL, Outcome
from shadowproxy.export.cells import NO_VALUE, Cells, cell_of, cells_of, written
from shadowproxy.export.columns import Cell, RequestField, Row
from shadowproxy.record import Record, RecordedLeg
from shadowproxy.usage import NOTHING, Usage, usage_in

_OK: Final = Outcome.OK


@dataclass(frozen=True, slots=True)
class Choice:
    """Which rows a table has.

    Attributes:
        shadow: only this shadow; `control` for live's second answers. None for all shadows.
        by_row: one row for each row of a batch, numbered from 0, instead of one for each exchange and shadow.
        fields: places of the request that become columns.
        places: where the answer is, in live's answers and in the shadow's; None for the best named place.
        only: which requests.
        rules: what the verdicts are by.
    """

    shadow: str | None = None
    by_row: bool = False
    fields: tuple[RequestField, ...] = ()
    places: tuple[str, str] | None = None
    only: Only = EVERYTHING
    rules: Rules = field(default_factory=Rules)


class Rows:
    """The rows of records, one record after another."""

    def __init__(self, choice: Choice) -> None:
        self._choice = choice
        self._reading = Reading(choice.rules, fields=() if choice.places is None else (choice.places,))

    def of(self, record: Record) -> Iterator[Row]:
        """The rows of one record: none if it was not chosen, or has no such shadow."""
        choice = self._choice
        if not choice.only.accepts(record):
            return
        legs = dict(record.shadows)
        if choice.shadow == CONTROL and record.control is not None:
            legs = {CONTROL: record.control}
        for name, leg in legs.items():
            if choice.shadow is None or choice.shadow == name:
                yield from self._pair(record, name, leg)

    def _pair(self, record: Record, name: str, shadow: RecordedLeg) -> Iterator[Row]:
        live = record.live
        contents = _content(live), _content(shadow)
        look = self._look(name, live, shadow, contents)
        before = _head(record)
        verdict, why, differences = self._verdict(record, name, shadow, contents)
        beside = (
            name,
            shadow.outcome.value,
            verdict,
            why,
            differences,
            None if look is None else look.live_place,
            None if look is None or look.shadow is None else look.shadow_place,
        )
        facts = [
            cell for pair in zip(_facts(live, contents[0]), _facts(shadow, contents[1]), strict=True) for cell in pair
        ]
        after = (live.outcome.value, shadow.error, record.weight)
        mine: Sequence[Any] = () if look is None else look.live
        theirs: Sequence[Any] = () if look is None or look.shadow is None else look.shadow
        payload = asked_by(record).payload if self._choice.fields else None
        if not self._choice.by_row:
            values = _beside(_whole(mine), _whole(theirs))
            yield (*before[:2], None, *before[2:], *beside, *values, *facts, *after, *self._fields(payload))
            return
        rows = max(len(mine), len(theirs), 1)
        for at in range(rows):
            values = _beside(_at(mine, at), _at(theirs, at))
            fields = self._fields(payload, at, rows)
            yield (*before[:2], at, *before[2:], *beside, *values, *facts, *after, *fields)

    def _look(
        self, name: str, live: RecordedLeg, shadow: RecordedLeg, contents: tuple[Content | None, Content | None]
    ) -> PlaceValues | None:
        """The place of the answer, with the values of both; None if neither answered."""
        good = [
            content is not None and standing_of(leg, content) == "good"
            for leg, content in zip((live, shadow), contents, strict=True)
        ]
        mine = _answer(live, contents[0]) if good[0] else None
        theirs = _answer(shadow, contents[1]) if good[1] else None
        if mine is None and theirs is None:
            return None
        reading = self._reading.of(name)
        sent = _sent(contents[0]) if good[0] else None, _sent(contents[1]) if good[1] else None
        found = counted_places(values_by_place(mine or Answer({}), theirs, reading.fields, sent), reading)
        return found[0] if found else None

    def _verdict(
        self, record: Record, name: str, shadow: RecordedLeg, contents: tuple[Content | None, Content | None]
    ) -> tuple[str | None, str | None, int | None]:
        one, other = contents
        if one is None or other is None:
            return None, None, None
        compared = recompared(record.live, shadow, self._choice.rules, about(record, name, (one, other)), record.rules)
        return compared.verdict.value, compared.why, None if compared.diff is None else compared.diff.count

    def _fields(self, payload: Any, at: int | None = None, rows: int = 1) -> list[Cell]:
        """The request's fields. With `at`, of a field with as many values as there are rows the one of that row."""
        cells: list[Cell] = []
        for pointer, kind in self._choice.fields:
            values = values_at(payload, pointer)
            if at is not None and len(values) == 1 and isinstance(values[0], list) and len(values[0]) == rows > 1:
                values = values[0]
            if at is not None and len(values) == rows:
                cells.append(cell_of(values[at], kind))
            else:
                cells.append(cell_of(values[0] if len(values) == 1 else values or None, kind))
        return cells


def _head(record: Record) -> tuple[Cell, ...]:
    request = record.request
    return record.id, record.record, microseconds(record.at), record.proxy, request.method, request.path, request.query


def microseconds(at: str) -> int | None:
    """A record's time since the Unix epoch; None if it is no time."""
    try:
        moment = datetime.fromisoformat(at)
        return round(moment.timestamp() * 1_000_000)
    except (ValueError, OverflowError, OSError):
        return None


def _content(leg: RecordedLeg) -> Content | None:
    return content_of(leg) if leg.outcome is _OK and leg.status is not None else None


def _answer(leg: RecordedLeg, content: Content | None) -> Answer | None:
    value = None if content is None else value_of(leg, content)
    return None if value is None else Answer(value)


def _sent(content: Content | None) -> Any:
    return content.value if content is not None and content.kind == "json" else None


def _facts(leg: RecordedLeg, content: Content | None) -> tuple[Cell, ...]:
    usage: Usage = NOTHING if content is None else usage_in(content.value)
    failed = leg.failed or (failed_reason(leg, content) if leg.outcome is _OK else None)
    return leg.status, failed, leg.first_byte_ms, leg.total_ms, usage.tokens_in, usage.tokens_out, usage.cost


def _beside(one: Cells, other: Cells) -> tuple[Cell, ...]:
    return one.number, other.number, one.class_, other.class_, one.text, other.text


def _whole(values: Sequence[Any]) -> Cells:
    """The values at a place as one cell of text, unless there is only one."""
    if len(values) == 1:
        return cells_of(values[0])
    if not values:
        return NO_VALUE
    return Cells(text=written([None if each is MISSING else each for each in values]))


def _at(values: Sequence[Any], at: int) -> Cells:
    return cells_of(values[at]) if at < len(values) else NO_VALUE
