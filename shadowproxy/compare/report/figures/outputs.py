"""The figures of one place of the answers: each arm, their agreement, what is missing, drift, and the truth."""

import math
from collections import Counter
from typing import TypeVar

from shadowproxy.compare.fold.counts import Hist
from shadowproxy.compare.fold.outputs import MILLION
from shadowproxy.compare.report import stats
from shadowproxy.compare.report.figures.classes import class_figures
from shadowproxy.compare.report.figures.collapse import class_collapse, number_collapse
from shadowproxy.compare.report.figures.common import estimated, ranked
from shadowproxy.compare.report.figures.numbers import embedding_figures, number_figures
from shadowproxy.compare.report.figures.ranges import Bounds, range_of
from shadowproxy.compare.report.figures.relatedness import related
from shadowproxy.compare.report.figures.truth import against_labels
from shadowproxy.compare.report.figures.types import Answered, EstimateFigures, Output, OutputHead
from shadowproxy.compare.report.kinds import AnswerPlace
from shadowproxy.compare.report.stats import Estimate

K = TypeVar("K", bound=str)


def output_figures(judged: AnswerPlace, *, bounds: Bounds | None = None, label_delay: Hist | None = None) -> Output:
    """The figures of one place.

    Args:
        judged: the place, its kind and what was counted there.
        bounds: the range in which numbers should lie, where one was given; else live's own, widened.
        label_delay: how many seconds after the answers the labels came, in bins.
    """
    agreement = stats.proportion(judged.same, judged.pairs)
    kind = judged.kind

    def head(kind: K) -> OutputHead[K]:
        return {
            "live_path": judged.live,
            "shadow_path": judged.shadow,
            "kind": kind,
            "unit": judged.unit,
            "pairs": judged.pairs.total(),
            "agreement": estimated(agreement),
            "anytime": list(stats.anytime_share(agreement, certain=(False, True))) if agreement is not None else None,
            "answered": _answered(judged, agreement),
            "related": related(judged),
            "range": range_of(judged, bounds),
            "unequal_batches": _unequal(judged),
            "scores": _scores(judged),
            "odd": {"live": ranked(judged.odd("live")), "shadow": ranked(judged.odd("shadow"))},
            "labels": against_labels(judged, label_delay),
        }

    if kind == "number" or kind == "text":
        numbers = number_figures(judged, agreement)
        return {**head(kind), **numbers, "collapse": number_collapse(judged, numbers)}
    if kind == "embedding":
        norms = embedding_figures(judged, agreement)
        return {**head(kind), **norms, "collapse": number_collapse(judged, norms)}
    classes = class_figures(judged, agreement)
    return {**head(kind), **classes, "collapse": class_collapse(judged, classes, agreement)}


def _answered(judged: AnswerPlace, agreement: Estimate | None) -> Answered:
    """Answers that live gives and the shadow does not, and the reverse."""
    n = judged.pairs.merged(judged.gained)  # what either answered: live may have no answer where the shadow has one
    lost, gained = judged.lost.total(), judged.gained.total()
    difference = stats.paired_difference(judged.gained, judged.lost, n) if n else None
    anytime = None
    if difference is not None:
        effect = difference.design_effect
        if not lost and not gained and agreement is not None:
            effect = agreement.design_effect  # where nothing is lost, requests are alike all the same
        anytime = list(stats.anytime_of(difference, gained, lost, n.total(), effect))
    return {
        "n": n.total(),
        "lost": lost,
        "gained": gained,
        "difference": estimated(difference),
        "anytime": anytime,
        "missing": ranked(judged.missing),
    }


def _unequal(judged: AnswerPlace) -> int:
    return sum(
        series.total()
        for key, series in judged.counted.batches.items()
        if "fewer rows" in key or "more rows" in key or " absent" in key
    )


def _scores(judged: AnswerPlace) -> dict[str, EstimateFigures]:
    found: dict[str, EstimateFigures] = {}
    counted = judged.counted
    if judged.kind not in ("vector", "ranking", "text", "embedding"):
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
