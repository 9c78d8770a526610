"""The figures of a self-test, as its JSON has them (docs/reference/selftest.schema.json)."""

from typing import Any, NotRequired, TypedDict

from shadowproxy.compare.report.kinds import Kind
from shadowproxy.selftest.measure import How


class LogFigures(TypedDict):
    """The log: how many records it has, and how many were drawn."""

    records: int
    drawn: int
    first: str
    last: str
    unreadable: dict[str, int]
    requests: NotRequired[int]


class TwinFigures(TypedDict):
    """The report on a shadow without a fault, and from how many requests on it is READY."""

    result: str
    ready_from: int | None
    checks: dict[str, str]


class AnswerPlace(TypedDict):
    """Where the answers of one route are (None: of all other routes), and of what kind they are."""

    route: str | None
    place: str | None
    kind: Kind | None


SeenFigures = TypedDict("SeenFigures", {"share": float, "from": int | None, "by": str | None, "how": How | None})
"""How many requests it takes to see a fault at a share (None: it is not seen), by which check, and how."""


class FaultFigures(TypedDict):
    """One planted fault: `check` should see it; `seen` is by share, the smallest first."""

    name: str
    check: str
    unseen_by_default: str | None
    seen: list[SeenFigures]


class Figures(TypedDict):
    """The whole self-test."""

    shadowproxy_selftest: int
    version: str
    log: LogFigures
    prefixes: list[int]
    shares: list[float]
    plants: int
    gates: dict[str, Any]
    twin: TwinFigures
    answers: list[AnswerPlace]
    part: str | None
    faults: list[FaultFigures]
    not_planted: list[str]
