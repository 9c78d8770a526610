"""The report's JSON of how streams ran and what answers took: of each arm, and of both on the same requests."""

from typing import TypedDict

from shadowproxy.compare.report.figures.basic_types import Counts, EstimateFigures, Quantiles


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


class StreamArm(TypedDict):
    """One arm's streams. `ttft_from` counts them by what their TTFT is the time to, `tpot_from_bytes` those whose TPOT
    is not from the times of tokens. `itl_p50_ms` and `itl_p99_ms` are quantiles of each answer's own p50 and p99."""

    streams: int
    finished: float | None
    first_byte_ms: Quantiles
    tokens_per_second: Quantiles
    ttft_ms: Quantiles
    ttft_from: Counts
    tpot_ms: Quantiles
    tpot_from_bytes: int
    itl_p50_ms: Quantiles
    itl_p99_ms: Quantiles
    e2e_ms: Quantiles


class StreamsPaired(TypedDict):
    ttft_ms: PairedMeasure | None
    tpot_ms: PairedMeasure | None
    itl_p50_ms: PairedMeasure | None
    itl_p99_ms: PairedMeasure | None
    e2e_ms: PairedMeasure | None


class StreamFigures(TypedDict):
    live: StreamArm
    shadow: StreamArm
    paired: StreamsPaired


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
