"""Both arms' answers at a place against the labels: which is right how often, or how far off."""

from dataclasses import replace

from shadowproxy.compare.fold.bins import quantile
from shadowproxy.compare.fold.counts import Hist
from shadowproxy.compare.report import stats
from shadowproxy.compare.report.figures.common import QUANTILES, estimated, from_sums
from shadowproxy.compare.report.figures.types import LabelCounts, Labels
from shadowproxy.compare.report.kinds import AnswerPlace


def against_labels(judged: AnswerPlace, label_delay: Hist | None) -> Labels | None:
    """Both arms against the labels; None without a label.

    Of a class, a missing answer of the shadow counts as a wrong one. Of a number it has no error to average: the check
    says so.
    """
    counted = judged.counted.truths
    labelled = judged.total([counted.rows])
    n, requests = labelled.total(), counted.requests.total()
    if not requests:
        return None
    live_right = judged.total([counted.live_right])
    shadow_right, both = judged.both([counted.shadow_right]), judged.both([counted.both_right])
    live_only, shadow_only = live_right.total() - both.total(), shadow_right.total() - both.total()
    counts: LabelCounts = {
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
        return {
            **counts,
            "measure": "mean absolute error",
            "live_only": live_only,
            "shadow_only": shadow_only,
            "mcnemar": stats.mcnemar_exact(live_only, shadow_only),
            "live": estimated(from_sums(sums, lambda row: row[0] / row[2] if row[2] else None)),
            "shadow": estimated(from_sums(sums, lambda row: row[1] / row[2] if row[2] else None)),
            "difference": estimated(from_sums(sums, lambda row: (row[1] - row[0]) / row[2] if row[2] else None)),
            "anytime": None,
        }
    apart = stats.paired_difference(shadow_right.without(both), live_right.without(both), labelled)
    difference = stats.paired_difference(shadow_right, live_right, labelled)
    if difference is not None and apart is not None:
        difference = replace(difference, weights=apart.weights)  # no record is on both sides
    effect = apart.design_effect if apart is not None else 1.0
    return {
        **counts,
        "measure": "accuracy",
        "live_only": live_only,
        "shadow_only": shadow_only,
        "mcnemar": stats.mcnemar_exact(live_only, shadow_only),
        "live": estimated(stats.proportion(live_right, labelled)),
        "shadow": estimated(stats.proportion(shadow_right, labelled)),
        "difference": estimated(difference),
        "anytime": list(stats.anytime_of(apart, shadow_only, live_only, n, effect)) if apart is not None else None,
    }
