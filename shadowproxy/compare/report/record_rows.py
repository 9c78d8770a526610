"""The rows of a record for the admin page, as plain values: what `show` prints, and the marked parts of lines."""

from typing import Any, Final

from shadowproxy.answers import about, content_of
from shadowproxy.answers.body import Content
from shadowproxy.budget import Budget
from shadowproxy.compare.judge.recompare import recompared
from shadowproxy.compare.judge.rules import Rules
from shadowproxy.compare.report.beside import Row, parts_of, rows_of
from shadowproxy.compare.report.lines import Line
from shadowproxy.compare.report.shown_lines import lines_of
from shadowproxy.exchange import CONTROL
from shadowproxy.record import Difference, Record, RecordedLeg, decode

LONGEST: Final = 2 << 20
"""Bytes of a record that is shown. To read one takes up to ten times its size in memory."""

_SECONDS: Final = 2.0
_MEMORY: Final = 64 << 20


def record_rows(line: bytes) -> dict[str, list[dict[str, Any]]]:
    """The rows of each shadow's answer beside live's, for one line of the log. A row has both lines in three parts:
    equal, different, equal."""
    record = decode(line)
    budget = Budget(_SECONDS, memory=_MEMORY)
    live = content_of(record.live, budget)
    others = dict(record.shadows)
    if record.control is not None:
        others[CONTROL] = record.control
    mine = lines_of(record.live, live)
    return {name: _rows(record, name, other, live, mine, budget) for name, other in others.items()}


def _rows(
    record: Record, name: str, other: RecordedLeg, live: Content, mine: list[Line], budget: Budget
) -> list[dict[str, Any]]:
    held = budget.held
    content = content_of(other, budget)
    rows = rows_of(mine, lines_of(other, content), _differences(record, name, other, (live, content)))
    budget.held = held
    return [_row(each) for each in rows]


def _differences(
    record: Record, name: str, other: RecordedLeg, contents: tuple[Content, Content]
) -> tuple[Difference, ...]:
    """Those of the record, which are by the rules under which it was made."""
    if other.judgement is not None:
        return other.judgement.differences
    found = recompared(record.live, other, Rules(), about(record, name, contents)).diff
    return tuple(found.listed()) if found is not None else ()


def _row(row: Row) -> dict[str, Any]:
    live, other = parts_of(row) if row.differs else ((row.live, "", ""), (row.other, "", ""))
    return {"live": list(live), "shadow": list(other), "differs": row.differs}
