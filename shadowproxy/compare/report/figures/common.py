"""What several figures share: which quantiles there are, values as JSON has them, and computations.

Shares are fractions of 1, times are milliseconds unless the name says otherwise, intervals are 95 %.
"""

import math
from collections import Counter
from collections.abc import Callable, Iterable, Mapping
from datetime import UTC, datetime
from typing import Any, Final, overload

from shadowproxy.compare.fold.bins import Bins
from shadowproxy.compare.report import stats
from shadowproxy.compare.report.figures.basic_types import TallyFigures
from shadowproxy.compare.report.figures.types import Counts, EstimateFigures
from shadowproxy.compare.report.stats import Estimate
from shadowproxy.compare.report.weights import Tally, Weighing

QUANTILES: Final = {"p50": 0.5, "p90": 0.9, "p99": 0.99, "p999": 0.999}
DECILES: Final = {f"p{tenth}0": tenth / 10 for tenth in range(1, 10)} | {"p99": 0.99}


@overload
def estimated(estimate: Estimate) -> EstimateFigures: ...
@overload
def estimated(estimate: None) -> None: ...
def estimated(estimate: Estimate | None) -> EstimateFigures | None:
    """An estimate as JSON: an end at infinity is null."""
    if estimate is None:
        return None
    found: EstimateFigures = {
        "value": estimate.value,
        "low": finite(estimate.low),
        "high": finite(estimate.high),
        "n": estimate.n,
        "method": estimate.method,
        "design_effect": estimate.design_effect,
    }
    weights = estimate.weights
    if weights is not None:
        found["weights"] = {
            "all": _tally(weights.all),
            "plus": _tally(weights.plus),
            "minus": _tally(weights.minus),
            "heaviest": weights.heaviest,
            "draw": weights.draw,
        }
    return found


def _tally(some: Tally) -> TallyFigures:
    return {"requests": some.total, "written": some.written, "squares": some.squares}


def weighing_of(estimate: EstimateFigures) -> Weighing | None:
    """What an estimate of weighted records rests on; None where their weights are 1."""
    weights = estimate.get("weights")
    if weights is None:
        return None
    every, plus, minus = (
        Tally(each["requests"], each["written"], each["squares"])
        for each in (weights["all"], weights["plus"], weights["minus"])
    )
    return Weighing(every, plus, minus, weights["heaviest"], weights["draw"])


def finite(value: float | None) -> float | None:
    """A figure as JSON can hold it: None for an infinite one, as sums of the largest floats give."""
    return value if value is not None and math.isfinite(value) else None


def ranked(counts: Mapping[str, int]) -> Counts:
    rows: Iterable[tuple[str, int]] = sorted(counts.items(), key=lambda each: (-each[1], str(each[0])))
    return {str(key): count for key, count in rows if count}


@overload
def moment(micros: int) -> str: ...
@overload
def moment(micros: None) -> None: ...
def moment(micros: int | None) -> str | None:
    if micros is None:
        return None
    return datetime.fromtimestamp(micros // 1_000_000, UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


def side_by_side(live: Bins, shadow: Bins) -> list[Counter[Any]]:
    """Per block, both histograms in one: keys are (0 or 1, bin)."""
    return [
        Counter(
            {(0, at): count for at, count in live.get(block, {}).items()}
            | {(1, at): count for at, count in shadow.get(block, {}).items()}
        )
        for block in sorted({*live, *shadow})
    ]


def arms(counts: Counter[Any]) -> tuple[dict[Any, int], dict[Any, int]]:
    return (
        {at: count for (arm, at), count in counts.items() if arm == 0 and count},
        {at: count for (arm, at), count in counts.items() if arm == 1 and count},
    )


def from_sums(sums: Mapping[int, list[float]], figure: Callable[[list[float]], float | None]) -> Estimate | None:
    """A figure of exact sums with its interval from leaving out blocks."""
    if not sums:
        return None
    width = len(next(iter(sums.values())))
    total = [math.fsum(row[at] for row in sums.values()) for at in range(width)]
    theta = figure(total)
    if theta is None:
        return None
    n = round(total[-1])
    left = [
        value
        for row in sums.values()
        if (value := figure([whole - part for whole, part in zip(total, row, strict=True)])) is not None
    ]
    if len(left) < stats.FEWEST_BLOCKS:
        return Estimate(theta, -math.inf, math.inf, n, "independent")
    low, high, _ = stats.jackknife(theta, left)
    return Estimate(theta, low, high, n, "blocks")
