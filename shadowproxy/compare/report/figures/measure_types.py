"""The report's JSON of what answers took: of each arm, and of both on the same requests."""

from typing import TypedDict

from shadowproxy.compare.report.figures.basic_types import EstimateFigures, Quantiles


class ArmTotal(TypedDict):
    """A measure that adds up, over the answers of one arm that say it."""

    answers: int
    total: float
    quantiles: Quantiles


class PairedMeasure(TypedDict):
    """A measure over the requests for which both answers have it. `ratio` is the shadow's quantile by live's."""

    requests: int
    live: Quantiles
    shadow: Quantiles
    ratio: dict[str, EstimateFigures | None]
    gap: Quantiles


class PairedTotal(PairedMeasure):
    """The same of a measure that adds up: `totals` is the shadow's sum by live's."""

    live_total: float
    shadow_total: float
    totals: EstimateFigures | None


class UsageArm(TypedDict):
    tokens_in: ArmTotal | None
    tokens_out: ArmTotal | None
    cached: ArmTotal | None
    cost: ArmTotal | None


class UsagePaired(TypedDict):
    tokens_in: PairedTotal | None
    tokens_out: PairedTotal | None
    cached: PairedTotal | None
    cost: PairedTotal | None


class FinishPair(TypedDict):
    """Pairs by why both models stopped."""

    live: str
    shadow: str
    count: int


class UsageFigures(TypedDict):
    live: UsageArm
    shadow: UsageArm
    paired: UsagePaired
    finish: list[FinishPair]
