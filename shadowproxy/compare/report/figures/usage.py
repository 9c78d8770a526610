"""What answers took in tokens and cost, and why language models stopped."""

from math import fsum

from shadowproxy.compare.fold.bins import quantile
from shadowproxy.compare.fold.counts import Hist
from shadowproxy.compare.fold.pair import Pair
from shadowproxy.compare.fold.usage import ArmUsage
from shadowproxy.compare.report.figures.measure_types import ArmTotal, UsageArm, UsageFigures
from shadowproxy.compare.report.figures.measures import SHOWN, paired_total


def usage(pair: Pair) -> UsageFigures | None:
    """The figures of a shadow; None if no answer says what it took or why it stopped."""
    found = pair.usage
    if not found:
        return None
    return {
        "live": _arm(found.live),
        "shadow": _arm(found.shadow),
        "paired": {
            "tokens_in": paired_total(found.tokens_in),
            "tokens_out": paired_total(found.tokens_out),
            "cached": paired_total(found.cached),
            "cost": paired_total(found.cost),
        },
        "finish": [
            {"live": key.partition(" ")[0], "shadow": key.partition(" ")[2], "count": count}
            for key, count in sorted(found.finish.items(), key=lambda each: (-each[1], each[0]))
        ],
    }


def _arm(found: ArmUsage) -> UsageArm:
    return {
        "tokens_in": _total(found.tokens_in, found.totals["tokens_in"]),
        "tokens_out": _total(found.tokens_out, found.totals["tokens_out"]),
        "cached": _total(found.cached, found.totals["cached"]),
        "cost": _total(found.cost, fsum(total for (total,) in found.costs.floats().values())),
    }


def _total(counts: Hist, total: float) -> ArmTotal | None:
    if not counts:
        return None
    return {
        "answers": counts.total(),
        "total": total,
        "quantiles": {name: quantile(counts, q) for name, q in SHOWN.items()},
    }
