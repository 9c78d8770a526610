"""What was measured, against the goals: rounds to medians and spreads, as a table and as JSON. Pure."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from statistics import median
from typing import Any, Literal

from rich.table import Table


@dataclass(frozen=True, slots=True)
class Bound:
    """A goal: the figure is to be `at most` or `at least` `value`."""

    side: Literal["at most", "at least"]
    value: float

    def met(self, figure: float) -> bool:
        return figure <= self.value if self.side == "at most" else figure >= self.value


@dataclass(frozen=True, slots=True)
class Row:
    """One line of the table. `measure` is the function that gave it; `rounds` has each contender's
    figures, one a round, and `judged` the ratio or value that the goal is about.

    `judged` has one figure a round, from contenders measured in that same round: what slows this machine down for a
    while slows both, and their ratio stays.
    """

    measure: str
    what: str
    unit: str
    rounds: Mapping[str, Sequence[float]]
    judged: Sequence[float]
    judged_is: str
    bound: Bound | None
    notes: Sequence[str] = field(default=())

    @property
    def figure(self) -> float:
        return median(self.judged)

    @property
    def met(self) -> bool | None:
        return None if self.bound is None else self.bound.met(self.figure)


def ratios(above: Sequence[float], below: Sequence[float]) -> list[float]:
    """Round by round."""
    return [one / other for one, other in zip(above, below, strict=True)]


def written(value: float) -> str:
    """Three significant figures, and no exponent."""
    if abs(value) >= 100:
        return f"{value:,.0f}"
    return f"{value:.3g}"


def _spread(values: Sequence[float]) -> str:
    low, high = written(min(values)), written(max(values))
    return "" if low == high else f" ({low}–{high})"


def table(rows: Sequence[Row]) -> Table:
    told = Table(box=None, pad_edge=False, padding=(0, 2, 0, 0))
    for title in ("Measure", "What", "Median (lowest–highest round)", "Judged", "Goal is", "Met"):
        told.add_column(title, overflow="fold")
    for row in rows:
        told.add_row(row.measure, row.what, "\n".join(_contenders(row)), _judged(row), _goal(row), _met(row))
    return told


def markdown(rows: Sequence[Row]) -> str:
    """The table as bench/README.md has it."""
    lines = ["| Measure | What | Median (lowest–highest round) | Judged | Goal is | Met |", "|---|---|---|---|---|---|"]
    for row in rows:
        cells = (row.measure, row.what, "<br>".join(_contenders(row)), _judged(row), _goal(row), _met(row))
        lines.append(f"| {' | '.join(cells)} |")
    return "\n".join(lines)


def as_json(rows: Sequence[Row]) -> list[dict[str, Any]]:
    return [
        {
            "measure": row.measure,
            "what": row.what,
            "unit": row.unit,
            "rounds": {name: list(values) for name, values in row.rounds.items()},
            "judged": list(row.judged),
            "judged_is": row.judged_is,
            "figure": row.figure,
            "bound": None if row.bound is None else {"side": row.bound.side, "value": row.bound.value},
            "met": row.met,
            "notes": list(row.notes),
        }
        for row in rows
    ]


def _contenders(row: Row) -> list[str]:
    told = [f"{name}: {written(median(each))} {row.unit}{_spread(each)}" for name, each in row.rounds.items()]
    return [*told, *row.notes]


def _judged(row: Row) -> str:
    return f"{row.judged_is}: {written(row.figure)}{_spread(row.judged)}"


def _goal(row: Row) -> str:
    return "" if row.bound is None else f"{row.bound.side} {written(row.bound.value)}"


def _met(row: Row) -> str:
    return {True: "yes", False: "no", None: ""}[row.met]
