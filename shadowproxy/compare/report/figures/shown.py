"""How figures are written as JSON, and what several of them are computed by.

Shares are fractions of 1, times are milliseconds unless the name says otherwise, intervals are 95 %.
"""

import math
from collections import Counter
from collections.abc import Callable, Iterable, Mapping
from dataclasses import asdict
from datetime import UTC, datetime
from typing import Any, Final

from shadowproxy.compare.fold.bins import Bins, edges, quantile
from shadowproxy.compare.report import stats
from shadowproxy.compare.report.stats import Estimate
from shadowproxy.compare.report.words import number as number

QUANTILES: Final = {"p50": 0.5, "p90": 0.9, "p99": 0.99, "p999": 0.999}
DECILES: Final = {f"p{tenth}0": tenth / 10 for tenth in range(1, 10)} | {"p99": 0.99}

Figures = dict[str, Any]


def estimated(estimate: Estimate | None) -> Figures | None:
    """An estimate as JSON: an end that is nowhere is null."""
    if estimate is None:
        return None
    plain = asdict(estimate)
    return {
        key: None if isinstance(value, float) and not math.isfinite(value) else value for key, value in plain.items()
    }


def finite(value: float | None) -> float | None:
    """A figure as JSON can hold it: none where numbers near the greatest leave it without an end."""
    return value if value is not None and math.isfinite(value) else None


def ranked(counts: Mapping[str, int]) -> dict[str, int]:
    rows: Iterable[tuple[str, int]] = sorted(counts.items(), key=lambda each: (-each[1], str(each[0])))
    return {str(key): count for key, count in rows if count}


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


def middles(bins: Mapping[int, int]) -> dict[float, int]:
    return {sum(edges(at)) / 2: n for at, n in bins.items()}


def deviation(bins: Mapping[int, int]) -> float | None:
    """The standard deviation of binned numbers, to about 1 %; exactly 0 where all are in one bin."""
    total = sum(bins.values())
    if total < 2:
        return None
    points = middles(bins)
    if len(points) == 1:
        return 0.0
    mean = math.fsum(x * n for x, n in points.items()) / total
    return math.sqrt(math.fsum((x - mean) ** 2 * n for x, n in points.items()) / (total - 1))


def histogram(bins: Mapping[int, int], most: int = 40) -> list[Figures]:
    """Bins gathered into at most `most` of equal width between the 0.5 and 99.5 % quantiles, for drawing."""
    low, high = quantile(bins, 0.005), quantile(bins, 0.995)
    if low is None or high is None:
        return []
    if high <= low:
        return [{"low": low, "high": high, "count": sum(bins.values())}]
    counts = [0] * most
    for middle, n in middles(bins).items():
        counts[min(most - 1, max(0, math.floor((middle - low) / (high - low) * most)))] += n
    step = (high - low) / most
    return [{"low": low + at * step, "high": low + (at + 1) * step, "count": n} for at, n in enumerate(counts)]
