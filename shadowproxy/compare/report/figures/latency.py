"""How long both took: quantiles of each arm and of their difference, and their ratio with its interval."""

from collections import Counter
from typing import Any

from shadowproxy.compare.fold.bins import quantile, quantiles
from shadowproxy.compare.fold.pair import Pair
from shadowproxy.compare.report import stats
from shadowproxy.compare.report.figures.common import DECILES, QUANTILES, arms, estimated, side_by_side
from shadowproxy.compare.report.figures.types import Latency


def latency(pair: Pair) -> Latency:
    live, shadow, gap = pair.live_ms.whole(), pair.shadow_ms.whole(), pair.gap_ms.whole()
    timed, timeouts = pair.timed.total(), pair.timeouts.total()
    both = stats.jackknifed_together(side_by_side(pair.live_ms, pair.shadow_ms), _side_by_side)
    shown = QUANTILES | DECILES
    return {
        "pairs": timed,
        "timeouts": timeouts,
        "live": {name: quantile(live, q) for name, q in shown.items()},
        "shadow": {name: quantile(shadow, q) for name, q in shown.items()},
        # A timeout counts as the time it was given: so much or more. Leaving timeouts out would flatter the shadow.
        "at_least": [name for name, q in shown.items() if timeouts and timeouts > (1 - q) * timed],
        "ratio": {name: estimated(each) for name, each in zip(QUANTILES, both, strict=False)},
        "shift": {name: estimated(each) for name, each in zip(DECILES, both[len(QUANTILES) :], strict=True)},
        "gap": {name: quantile(gap, q) for name, q in QUANTILES.items()},
        "slower": estimated(stats.proportion(pair.slower, pair.timed)),
        "first_byte": {
            "live": {name: quantile(pair.live_first_ms.whole(), q) for name, q in QUANTILES.items()},
            "shadow": {name: quantile(pair.shadow_first_ms.whole(), q) for name, q in QUANTILES.items()},
        },
    }


def _side_by_side(counts: Counter[Any]) -> list[float | None]:
    """The shadow's quantiles as parts of live's, and then by how much its deciles are later."""
    ones, others = (quantiles(arm, (*QUANTILES.values(), *DECILES.values())) for arm in arms(counts))
    both = list(zip(ones, others, strict=True))
    ratios = [other / one if one and other is not None else None for one, other in both[: len(QUANTILES)]]
    shifts = [other - one if one is not None and other is not None else None for one, other in both[len(QUANTILES) :]]
    return [*ratios, *shifts]
