"""The figures of one place of the answers: each arm, their agreement, what is missing, drift, and the truth."""

import math
from collections import Counter
from collections.abc import Mapping
from typing import Final

import orjson

from shadowproxy.compare.fold.bins import quantile
from shadowproxy.compare.fold.cells import Cells, cell_deviation, cell_quantile, ends
from shadowproxy.compare.fold.counts import Hist, Series
from shadowproxy.compare.fold.few import Few
from shadowproxy.compare.fold.outputs import MILLION
from shadowproxy.compare.fold.related import AXES, Prints
from shadowproxy.compare.fold.spread import Spread
from shadowproxy.compare.report import drift, stats
from shadowproxy.compare.report.figures.shown import DECILES, QUANTILES, Figures, estimated, finite, from_sums, ranked
from shadowproxy.compare.report.kinds import Decided
from shadowproxy.compare.report.relatedness import related
from shadowproxy.compare.report.stats import Estimate

CLASSES_SHOWN: Final = 20
FLIPS_SHOWN: Final = 10

Bounds = tuple[float, float]

_CONSTANT: Final = 0.99
_CONSTANT_GAIN: Final = 0.10
_EXPECTED_BUT_NEVER: Final = 30  # times that a class was to be expected before its absence is no chance
_NO_SPREAD: Final = 0.01
_FEWEST_FOR_COLLAPSE: Final = 50
_NUMBERS: Final = frozenset({"number", "text", "embedding"})
"""Kinds that are drawn as numbers: texts by their length, embeddings by their norm."""


def output_figures(judged: Decided, *, bounds: Bounds | None = None, label_delay: Hist | None = None) -> Figures:
    """What is to be said of one place.

    Args:
        judged: the place, its kind and what was counted there.
        bounds: the range in which numbers should lie, where one was given; else live's own, widened.
        label_delay: how many seconds after the answers the truths came, in bins.
    """
    agreement = stats.proportion(judged.same, judged.pairs)
    figures: Figures = {
        "live_path": judged.live,
        "shadow_path": judged.shadow,
        "kind": judged.kind,
        "unit": judged.unit,
        "pairs": judged.pairs.total(),
        "agreement": estimated(agreement),
        "anytime": list(stats.anytime_share(agreement)) if agreement is not None else None,
        "answered": _answered(judged, agreement),
        "related": related(judged),
        "range": _range(judged, bounds),
        "unequal_batches": _unequal(judged),
        "scores": _scores(judged),
        "odd": {"live": ranked(judged.odd("live")), "shadow": ranked(judged.odd("shadow"))},
        "labels": _labels(judged, label_delay),
    }
    figures |= _as_numbers(judged, agreement) if judged.kind in _NUMBERS else _as_classes(judged, agreement)
    figures["collapse"] = _collapse(judged, figures)
    return figures


def _answered(judged: Decided, agreement: Estimate | None) -> Figures:
    """Answers that live gives and the shadow does not, and the reverse."""
    n = judged.pairs.merged(judged.gained)  # what either answered: live may have no answer where the shadow has one
    lost, gained = judged.lost.total(), judged.gained.total()
    difference = stats.paired_difference(judged.gained, judged.lost, n) if n else None
    anytime = None
    if difference is not None:
        effect = difference.design_effect
        if not lost and not gained and agreement is not None:
            effect = agreement.design_effect  # where nothing is lost, requests are alike all the same
        anytime = list(stats.anytime_difference(gained, lost, n.total(), effect))
    return {
        "n": n.total(),
        "lost": lost,
        "gained": gained,
        "difference": estimated(difference),
        "anytime": anytime,
        "missing": ranked(judged.missing),
    }


def _unequal(judged: Decided) -> int:
    return sum(
        series.total()
        for key, series in judged.counted.batches.items()
        if "fewer rows" in key or "more rows" in key or " absent" in key
    )


def _range(judged: Decided, bounds: Bounds | None) -> Figures | None:
    """Numbers outside live's range, or outside the one given."""
    if judged.kind != "number":
        return None
    spread = judged.counted.numbers
    allowed = bounds or drift.live_range(spread)
    if allowed is None or not spread.shadow:
        return None
    outside, share = drift.outside(spread, *allowed)
    return {
        "low": allowed[0],
        "high": allowed[1],
        "given": bounds is not None,
        "outside": outside,
        "share": estimated(share),
        "anytime": list(stats.anytime_share(share)) if share is not None else None,
        "smallest": ends(min(spread.shadow), spread.shadow.width)[0],
        "largest": ends(max(spread.shadow), spread.shadow.width)[1],
    }


def _effective(agreement: Estimate | None) -> float:
    """How many independent pairs the pairs are worth."""
    return agreement.n / max(1.0, agreement.design_effect) if agreement is not None else 0.0


# --- numbers -------------------------------------------------------------------------------------------------------


def spread_of(judged: Decided) -> Spread:
    """The numbers by which a place's spread is told: its own, the lengths of its texts, or its norms."""
    counted = judged.counted
    return {"text": counted.lengths, "embedding": counted.norms}.get(judged.kind, counted.numbers)


def _as_numbers(judged: Decided, agreement: Estimate | None) -> Figures:
    counted, spread = judged.counted, spread_of(judged)
    figures: Figures = {
        "live": _number_arm(spread.live),
        "shadow": _number_arm(spread.shadow),
        "drift": _number_drift(judged, spread, agreement),
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
    if judged.kind == "embedding":
        angles, width = counted.angles, counted.angles.width
        quantiles = {name: cell_quantile(angles, width, q) for name, q in QUANTILES.items()}
        return figures | {"angle": quantiles, "dimensions": ranked(counted.dimensions), "kappa": None, "flips": []}
    if judged.kind == "number":
        figures |= _deltas(judged)
    return figures


def _deltas(judged: Decided) -> Figures:
    """How far the numbers of a pair lie apart."""
    counted = judged.counted
    sums = counted.sums.floats()
    deltas, width = counted.deltas, counted.deltas.width
    absolute: Counter[int] = Counter()
    for cell, n in deltas.items():
        absolute[abs(cell)] += n
    return {
        "bias": estimated(from_sums(sums, lambda row: (row[1] - row[0]) / row[6] if row[6] > 0 else None)),
        "mean_delta": estimated(from_sums(sums, lambda row: row[5] / row[6] if row[6] > 0 else None)),
        "median_delta": cell_quantile(absolute, width, 0.5),
        "p99_delta": cell_quantile(absolute, width, 0.99),
        "limits": [cell_quantile(deltas, width, 0.025), cell_quantile(deltas, width, 0.975)],
        "concordance": estimated(
            from_sums(sums, lambda row: stats.concordance(row[6], row[0], row[1], row[2], row[3], row[4]))
        ),
        "correlates": bool(sums),
        "delta_histogram": drift.histogram(deltas, width),
        "flips_at_half": estimated(stats.proportion(counted.flips, counted.probabilities)),
    }


def _number_arm(cells: Cells) -> Figures:
    total = sum(cells.values())
    return {
        "n": total,
        "quantiles": {name: cell_quantile(cells, cells.width, q) for name, q in {"p1": 0.01, **DECILES}.items()},
        "deviation": finite(cell_deviation(cells, cells.width)),
        "top_share": max(cells.values()) / total if total else None,
        "histogram": drift.histogram(cells, cells.width),
    }


def _number_drift(judged: Decided, spread: Spread, agreement: Estimate | None) -> Figures:
    why = drift.incomparable(spread) if judged.kind == "number" else None
    blocks = drift.number_groups(spread)
    live, shadow = drift.arms(drift.whole(blocks))
    distance = drift.distance(blocks) if why is None else None
    found: Figures = {
        "jensen_shannon": estimated(distance),
        "cells": drift.cells_in(blocks),
        "effective": _effective(agreement),
        "why": why or ("one of the two has no values there" if distance is None else None),
        "largest_change": stats.largest_change(live, shadow),
        "stability_index": stats.stability_index(live, shadow),
    }
    if judged.kind == "embedding":
        return found | _turned(judged, distance)
    width = max(spread.live_blocks.width, spread.shadow_blocks.width)
    points = [
        {sum(ends(cell, width)) / 2: n for cell, n in arm.whole(width).items()}
        for arm in (spread.live_blocks, spread.shadow_blocks)
    ]
    moved, deviation = stats.wasserstein(*points), cell_deviation(spread.live, spread.live.width)
    return found | {"wasserstein_in_sigmas": finite(moved / deviation) if moved is not None and deviation else None}


def _turned(judged: Decided, norms: Estimate | None) -> Figures:
    """By what angle the mean of the shadow's embeddings is turned from that of live's. What counts as the distance is
    the larger of 1 - its cosine and the distance of the norms."""
    turned = from_sums(judged.counted.means.floats(), _mean_angle)
    if turned is None or norms is None:
        return {"mean_angle": None}
    larger = max(turned, norms, key=lambda each: each.value)
    return {"jensen_shannon": estimated(larger), "mean_angle": estimated(turned)}


def _mean_angle(sums: list[float]) -> float | None:
    live, shadow = sums[:AXES], sums[AXES : 2 * AXES]
    lengths = math.hypot(*live) * math.hypot(*shadow)
    if not lengths > 0:
        return None
    return max(0.0, 1 - math.fsum(one * other for one, other in zip(live, shadow, strict=True)) / lengths)


# --- classes -------------------------------------------------------------------------------------------------------


def tables_of(judged: Decided) -> tuple[list[Few], list[Few]]:
    """The tables of live's and the shadow's classes."""
    counted = judged.counted
    if judged.kind == "class":
        return [counted.live_classes, counted.live_whole], [counted.shadow_classes, counted.shadow_whole]
    return [counted.live_classes], [counted.shadow_classes]


def _as_classes(judged: Decided, agreement: Estimate | None) -> Figures:
    live_tables, shadow_tables = tables_of(judged)
    live, shadow = _totals(live_tables), _totals(shadow_tables)
    live_many, shadow_many = (any(table.many for table in tables) for tables in (live_tables, shadow_tables))
    confusion = {tuple(orjson.loads(key)): n for key, n in judged.counted.confusion.items()}
    flips = sorted(
        ((pair, n) for pair, n in confusion.items() if pair[0] != pair[1]), key=lambda each: (-each[1], each[0])
    )
    blocks = drift.class_groups(live_tables, shadow_tables)
    distance = drift.distance(blocks)
    grouped = drift.arms(drift.whole(blocks))
    relatedness = related(judged, of_classes=True) if judged.kind in ("class", "vector") else None
    return {
        "live": _class_arm(live, many=live_many),
        "shadow": _class_arm(shadow, many=shadow_many),
        "new": sorted(set(shadow) - set(live))[:CLASSES_SHOWN] if not live_many and not shadow_many else [],
        "vanished": sorted(set(live) - set(shadow))[:CLASSES_SHOWN] if not live_many and not shadow_many else [],
        "classes_cut": live_many or shadow_many,
        "kappa": relatedness["estimate"] if relatedness is not None else None,
        "confusion": [
            {"live": pair[0], "shadow": pair[1], "count": n}
            for pair, n in sorted(confusion.items(), key=lambda each: (-each[1], each[0]))[: CLASSES_SHOWN * 5]
        ],
        "flips": [
            {"live": pair[0], "shadow": pair[1], "count": n, "net": n - confusion.get((pair[1], pair[0]), 0)}
            for pair, n in flips[:FLIPS_SHOWN]
        ],
        "drift": {
            "jensen_shannon": estimated(distance),
            "cells": drift.cells_in(blocks),
            "effective": _effective(agreement),
            "why": "one of the two has no values there" if distance is None else None,
            "largest_change": stats.largest_change(*grouped),
            "stability_index": stats.stability_index(*grouped),
        },
    }


def _totals(tables: list[Few]) -> dict[str, int]:
    return {key: series.total() for table in tables for key, series in table.items()}


def _class_arm(counts: Mapping[str, int], *, many: bool) -> Figures:
    """One arm's classes; of too many it is known only how many answers there were."""
    total = sum(counts.values())
    rows = sorted(counts.items(), key=lambda each: (-each[1], each[0])) if not many else []
    return {
        "n": total,
        "classes": [{"class": key, "count": n, "share": n / total} for key, n in rows[:CLASSES_SHOWN]],
        "distinct": len(counts) if not many else None,
        "top_share": rows[0][1] / total if rows else None,
        "entropy": stats.entropy(counts) if not many else None,
    }


# --- collapse ------------------------------------------------------------------------------------------------------


def _collapse(judged: Decided, figures: Figures) -> str | None:
    """Why the shadow says the same whatever it is asked, or None."""
    live, shadow = figures["live"], figures["shadow"]
    if shadow["n"] < _FEWEST_FOR_COLLAPSE or live["n"] < _FEWEST_FOR_COLLAPSE:
        return None
    if judged.kind == "number":
        if (
            live["deviation"]
            and shadow["deviation"] is not None
            and shadow["deviation"] < _NO_SPREAD * live["deviation"]
        ):
            return "its numbers hardly vary: their spread is under 1 % of live's"
        tops = shadow["top_share"], live["top_share"]
    elif judged.kind in ("class", "vector"):
        tops = shadow["top_share"] or 0.0, live["top_share"] or 0.0
        if _same_over_and_over(tops):
            return f"it answers {shadow['classes'][0]['class']} to {tops[0]:.1%} of all requests"
        return _never_said(judged, figures)
    elif judged.counted.prints:
        tops = _commonest(judged.counted.prints, 1), _commonest(judged.counted.prints, 0)
    else:
        tops = _top_class(judged.counted.shadow_classes), _top_class(judged.counted.live_classes)
    if _same_over_and_over(tops):
        return f"it gives one and the same answer to {tops[0]:.1%} of all requests"
    return None


def _never_said(judged: Decided, figures: Figures) -> str | None:
    """The commonest class of live's that the shadow never answers, where chance would have it many times.

    A model that lost its rarest class agrees on nearly all requests and is of no use: a filter that finds no fraud.
    """
    live, shadow = (_totals(tables) for tables in tables_of(judged))
    if figures["classes_cut"] or not live or not shadow:
        return None
    agreement = figures["agreement"]
    effect = max(1.0, agreement["design_effect"]) if agreement is not None else 1.0
    share = sum(shadow.values()) / sum(live.values())
    for key, count in sorted(live.items(), key=lambda each: (-each[1], each[0])):
        if key not in shadow and count * min(1.0, share) >= _EXPECTED_BUT_NEVER * effect:
            return f"it never answers {key}, which live answers {count:,} times"
    return None


def _same_over_and_over(tops: tuple[float, float]) -> bool:
    return tops[0] > _CONSTANT and tops[0] > tops[1] + _CONSTANT_GAIN


def _commonest(prints: Prints, arm: int) -> float:
    """The share of the commonest answer of an arm, among those that were kept."""
    counts = Counter(each[arm] for kept in prints.values() for each in kept.values() if each[arm])
    return max(counts.values(), default=0) / counts.total() if counts.total() >= _FEWEST_FOR_COLLAPSE else 0.0


def _top_class(classes: Few) -> float:
    """The share of the commonest class; of too many it is not known, and small."""
    counts = _totals([classes])
    return max(counts.values(), default=0) / max(1, sum(counts.values())) if not classes.many else 0.0


# --- scores and labels ---------------------------------------------------------------------------------------------


def _scores(judged: Decided) -> Figures:
    found: Figures = {}
    counted = judged.counted
    if judged.kind not in ("vector", "ranking", "text"):
        return found
    for name, series in sorted(counted.scores.items()):
        pairs = counted.scores.get(f"{name}, pairs")
        if pairs is not None:
            estimate = stats.proportion(series, Counter({block: n * MILLION for block, n in pairs.items()}))
            if estimate is not None:
                plain = estimate.method == "independent"
                low, high = (-math.inf, math.inf) if plain else (estimate.low, estimate.high)
                found[name] = estimated(Estimate(estimate.value, low, high, pairs.total(), estimate.method))
    return found


def _labels(judged: Decided, label_delay: Hist | None) -> Figures | None:
    """Both arms against the truth. What the shadow did not answer is a wrong answer of a class; of a number there is no
    error to be averaged, which the check says."""
    counted = judged.counted.truths
    labelled = judged.total([counted.rows])
    n, requests = labelled.total(), counted.requests.total()
    if not requests:
        return None
    live_right = judged.total([counted.live_right])
    shadow_right, both = judged.both([counted.shadow_right]), judged.both([counted.both_right])
    live_only, shadow_only = live_right.total() - both.total(), shadow_right.total() - both.total()
    figures: Figures = {
        "labelled": n,
        "labelled_requests": requests,
        "matched": n,
        "uneven": counted.uneven.total(),
        "coverage": min(1.0, n / pairs) if (pairs := judged.pairs.total()) else 0.0,
        "delay_seconds": {name: quantile(label_delay or {}, q) for name, q in QUANTILES.items()},
    }
    if judged.kind in ("number", "embedding"):
        sums = counted.errors.floats()
        live_only, shadow_only = counted.live_nearer.total(), counted.shadow_nearer.total()
        return figures | {
            "measure": "mean absolute error",
            "live_only": live_only,
            "shadow_only": shadow_only,
            "mcnemar": stats.mcnemar_exact(live_only, shadow_only),
            "live": estimated(from_sums(sums, lambda row: row[0] / row[2] if row[2] else None)),
            "shadow": estimated(from_sums(sums, lambda row: row[1] / row[2] if row[2] else None)),
            "difference": estimated(from_sums(sums, lambda row: (row[1] - row[0]) / row[2] if row[2] else None)),
            "anytime": None,
        }
    apart = stats.paired_difference(_less(shadow_right, both), _less(live_right, both), labelled)
    effect = apart.design_effect if apart is not None else 1.0
    return figures | {
        "measure": "accuracy",
        "live_only": live_only,
        "shadow_only": shadow_only,
        "mcnemar": stats.mcnemar_exact(live_only, shadow_only),
        "live": estimated(stats.proportion(live_right, labelled)),
        "shadow": estimated(stats.proportion(shadow_right, labelled)),
        "difference": estimated(stats.paired_difference(shadow_right, live_right, labelled)),
        "anytime": list(stats.anytime_difference(shadow_only, live_only, n, effect)) if n else None,
    }


def _less(counts: Series, other: Series) -> Series:
    found = Series(counts)
    found.subtract(other)
    return found
