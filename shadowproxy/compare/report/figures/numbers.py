"""The figures of a place that holds numbers; of texts those of their lengths, of embeddings those of their norms."""

import math
from collections import Counter
from collections.abc import Mapping
from typing import Final, TypedDict

from shadowproxy.compare.fold.cells import Cells, cell_deviation, cell_quantile, ends
from shadowproxy.compare.fold.related import AXES
from shadowproxy.compare.fold.spread import Spread
from shadowproxy.compare.report import stats
from shadowproxy.compare.report.figures import drift
from shadowproxy.compare.report.figures.common import DECILES, QUANTILES, arms, estimated, finite, from_sums, ranked
from shadowproxy.compare.report.figures.types import (
    Bar,
    Drift,
    EmbeddingFigures,
    EstimateFigures,
    NumberArm,
    NumberFigures,
)
from shadowproxy.compare.report.kinds import AnswerPlace, live_dimensions
from shadowproxy.compare.report.stats import Estimate


def spread_of(judged: AnswerPlace) -> Spread:
    """The numbers whose spread is compared: the place's own, the lengths of its texts, or its norms."""
    counted = judged.counted
    return {"text": counted.lengths, "embedding": counted.norms}.get(judged.kind, counted.numbers)


def number_figures(judged: AnswerPlace, agreement: Estimate | None) -> NumberFigures:
    """The figures of numbers; of texts only those of each arm's lengths, as these are not compared pair by pair."""
    return {**_arms(judged, agreement), **(_deltas(judged) if judged.kind == "number" else _NO_DELTAS)}


def embedding_figures(judged: AnswerPlace, agreement: Estimate | None) -> EmbeddingFigures:
    counted = judged.counted
    angles, width = counted.angles, counted.angles.width
    return {
        **_arms(judged, agreement),
        **_NO_DELTAS,
        "angle": {name: cell_quantile(angles, width, q) for name, q in QUANTILES.items()},
        "dimensions": ranked(counted.dimensions),
        "live_dimensions": ranked(live_dimensions(counted)),
        "shadow_dimensions": ranked(counted.shadow_dimensions),
        "kappa": None,
        "flips": [],
    }


class _Arms(TypedDict):
    live: NumberArm
    shadow: NumberArm
    drift: Drift


class _Deltas(TypedDict):
    """How far the numbers of a pair are apart, as in `NumberFigures`."""

    delta_histogram: list[Bar]
    bias: EstimateFigures | None
    mean_delta: EstimateFigures | None
    median_delta: float | None
    p99_delta: float | None
    limits: list[float | None]
    concordance: EstimateFigures | None
    correlates: bool
    flips_at_half: EstimateFigures | None


_NO_DELTAS: Final[_Deltas] = {
    "delta_histogram": [],
    "bias": None,
    "mean_delta": None,
    "median_delta": None,
    "p99_delta": None,
    "limits": [None, None],
    "concordance": None,
    "correlates": False,
    "flips_at_half": None,
}


def _arms(judged: AnswerPlace, agreement: Estimate | None) -> _Arms:
    spread = spread_of(judged)
    return {
        "live": _number_arm(spread.live),
        "shadow": _number_arm(spread.shadow),
        "drift": _number_drift(judged, spread, agreement),
    }


def _deltas(judged: AnswerPlace) -> _Deltas:
    """How far the numbers of a pair lie apart."""
    counted = judged.counted
    sums = counted.sums.floats()
    deltas, width = counted.deltas, counted.deltas.width
    absolute: Counter[int] = Counter()
    for cell, n in deltas.items():
        absolute[abs(cell)] += n
    return {
        "delta_histogram": histogram(deltas, width),
        "bias": estimated(from_sums(sums, lambda row: (row[1] - row[0]) / row[6] if row[6] > 0 else None)),
        "mean_delta": estimated(from_sums(sums, lambda row: row[5] / row[6] if row[6] > 0 else None)),
        "median_delta": cell_quantile(absolute, width, 0.5),
        "p99_delta": cell_quantile(absolute, width, 0.99),
        "limits": [cell_quantile(deltas, width, 0.025), cell_quantile(deltas, width, 0.975)],
        "concordance": estimated(
            from_sums(sums, lambda row: stats.concordance(row[6], row[0], row[1], row[2], row[3], row[4]))
        ),
        "correlates": bool(sums),
        "flips_at_half": estimated(stats.proportion(counted.flips, counted.probabilities)),
    }


def _number_arm(cells: Cells) -> NumberArm:
    total = sum(cells.values())
    return {
        "n": total,
        "quantiles": {name: cell_quantile(cells, cells.width, q) for name, q in {"p1": 0.01, **DECILES}.items()},
        "deviation": finite(cell_deviation(cells, cells.width)),
        "top_share": max(cells.values()) / total if total else None,
        "histogram": histogram(cells, cells.width),
    }


def _number_drift(judged: AnswerPlace, spread: Spread, agreement: Estimate | None) -> Drift:
    why = drift.incomparable(spread) if judged.kind == "number" else None
    blocks = drift.number_groups(spread)
    live, shadow = arms(drift.whole(blocks))
    distance = drift.distance(blocks) if why is None else None
    turned = from_sums(judged.counted.means.floats(), _mean_angle) if judged.kind == "embedding" else None
    larger = distance
    if turned is not None and distance is not None:
        # The drift of embeddings is the larger of two: how far their mean is turned, and the distance of their norms.
        larger = max(turned, distance, key=lambda each: each.value)
    found: Drift = {
        "jensen_shannon": estimated(larger),
        "cells": drift.cells_in(blocks),
        "effective": drift.effective(agreement),
        "why": why or ("one of the two has no values there" if distance is None else None),
        "largest_change": stats.largest_change(live, shadow),
        "stability_index": stats.stability_index(live, shadow),
    }
    if judged.kind == "embedding":
        return {**found, "mean_angle": estimated(turned) if distance is not None else None}
    width = max(spread.live_blocks.width, spread.shadow_blocks.width)
    points = [
        {sum(ends(cell, width)) / 2: n for cell, n in arm.whole(width).items()}
        for arm in (spread.live_blocks, spread.shadow_blocks)
    ]
    moved, deviation = stats.wasserstein(*points), cell_deviation(spread.live, spread.live.width)
    return {**found, "wasserstein_in_sigmas": finite(moved / deviation) if moved is not None and deviation else None}


def _mean_angle(sums: list[float]) -> float | None:
    live, shadow = sums[:AXES], sums[AXES : 2 * AXES]
    lengths = math.hypot(*live) * math.hypot(*shadow)
    if not lengths > 0:
        return None
    return max(0.0, 1 - math.fsum(one * other for one, other in zip(live, shadow, strict=True)) / lengths)


def histogram(cells: Mapping[int, int], width: int, most: int = 40) -> list[Bar]:
    """Cells gathered into at most `most` of equal width between the 0.5 and 99.5 % quantiles, for drawing."""
    low, high = cell_quantile(cells, width, 0.005), cell_quantile(cells, width, 0.995)
    if low is None or high is None:
        return []
    step = (high - low) / most
    if not (step > 0 and math.isfinite(step)):
        return [{"low": low, "high": high, "count": sum(cells.values())}]
    counts = [0] * most
    for cell, count in cells.items():
        # What lies in a cell is spread over the bars that it covers, or a wide cell would look like a peak.
        first, last = (min(most - 1, max(0, math.floor((end - low) / step))) for end in ends(cell, width))
        shared, over = divmod(count, last - first + 1)
        for at in range(first, last + 1):
            counts[at] += shared + (at - first < over)
    return [{"low": low + at * step, "high": low + (at + 1) * step, "count": count} for at, count in enumerate(counts)]
