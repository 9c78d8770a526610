"""A measure of both answers to the same requests: its quantiles, and their ratios with intervals."""

from collections import Counter
from typing import Any, Final

from shadowproxy.compare.fold.bins import quantile, quantiles
from shadowproxy.compare.fold.measured import Measured, Totalled
from shadowproxy.compare.report import stats
from shadowproxy.compare.report.figures.common import arms, estimated, finite, from_sums, side_by_side
from shadowproxy.compare.report.figures.measure_types import PairedMeasure, PairedTotal

SHOWN: Final = {"p50": 0.5, "p90": 0.9, "p99": 0.99}


def paired(found: Measured) -> PairedMeasure | None:
    """The figures of a measure; None if no request has it from both answers."""
    if not found.live:
        return None
    live, shadow, gap = found.live.whole(), found.shadow.whole(), found.gap.whole()
    ratios = stats.jackknifed_together(side_by_side(found.live, found.shadow), _ratios)
    return {
        "requests": live.total(),
        "live": {name: quantile(live, q) for name, q in SHOWN.items()},
        "shadow": {name: quantile(shadow, q) for name, q in SHOWN.items()},
        "ratio": {name: estimated(each) for name, each in zip(SHOWN, ratios, strict=True)},
        "gap": {name: quantile(gap, q) for name, q in SHOWN.items()},
    }


def paired_total(found: Totalled) -> PairedTotal | None:
    """The same of a measure that adds up, with the ratio of both sums."""
    measure = paired(found)
    if measure is None:
        return None
    sums = found.sums.floats()
    return {
        **measure,
        "live_total": finite(sum(row[0] for row in sums.values())) or 0.0,
        "shadow_total": finite(sum(row[1] for row in sums.values())) or 0.0,
        "totals": estimated(from_sums(sums, _ratio_of_sums)),
    }


def _ratios(counts: Counter[Any]) -> list[float | None]:
    """The shadow's quantiles as parts of live's."""
    ones, others = (quantiles(arm, tuple(SHOWN.values())) for arm in arms(counts))
    return [other / one if one and other is not None else None for one, other in zip(ones, others, strict=True)]


def _ratio_of_sums(sums: list[float]) -> float | None:
    live, shadow, _ = sums
    return shadow / live if live > 0 else None
