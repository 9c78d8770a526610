"""How long both took: quantiles of each arm and of their difference, their ratio with its interval, and the streams."""

from collections import Counter
from functools import partial
from typing import Any

from shadowproxy.compare.fold.bins import quantile
from shadowproxy.compare.fold.pair import Pair
from shadowproxy.compare.fold.streams import Streams
from shadowproxy.compare.report import stats
from shadowproxy.compare.report.figures.common import DECILES, QUANTILES, arms, estimated, side_by_side
from shadowproxy.compare.report.figures.types import Latency, StreamArm, StreamFigures


def latency(pair: Pair) -> Latency:
    live, shadow, gap = pair.live_ms.whole(), pair.shadow_ms.whole(), pair.gap_ms.whole()
    timed, timeouts = pair.timed.total(), pair.timeouts.total()
    both = side_by_side(pair.live_ms, pair.shadow_ms)
    shown = QUANTILES | DECILES
    return {
        "pairs": timed,
        "timeouts": timeouts,
        "live": {name: quantile(live, q) for name, q in shown.items()},
        "shadow": {name: quantile(shadow, q) for name, q in shown.items()},
        # A timeout counts as the time it was given: so much or more. Leaving timeouts out would flatter the shadow.
        "at_least": [name for name, q in shown.items() if timeouts and timeouts > (1 - q) * timed],
        "ratio": {name: estimated(stats.jackknifed(both, partial(_ratio, q=q))) for name, q in QUANTILES.items()},
        "shift": {name: estimated(stats.jackknifed(both, partial(_shift, q=q))) for name, q in DECILES.items()},
        "gap": {name: quantile(gap, q) for name, q in QUANTILES.items()},
        "slower": estimated(stats.proportion(pair.slower, pair.timed)),
        "first_byte": {
            "live": {name: quantile(pair.live_first_ms.whole(), q) for name, q in QUANTILES.items()},
            "shadow": {name: quantile(pair.shadow_first_ms.whole(), q) for name, q in QUANTILES.items()},
        },
    }


def streams(pair: Pair) -> StreamFigures | None:
    live, shadow = pair.live_streams, pair.shadow_streams
    return {"live": _stream_arm(live), "shadow": _stream_arm(shadow)} if live or shadow else None


def _stream_arm(counted: Streams) -> StreamArm:
    n = counted.counts["n"]
    shown = {name: QUANTILES[name] for name in ("p50", "p90")}
    return {
        "streams": n,
        "finished": counted.counts["finished"] / n if n else None,
        "first_byte_ms": {name: quantile(counted.first_ms, q) for name, q in shown.items()},
        "tokens_per_second": {name: quantile(counted.rates, q) for name, q in shown.items()},
    }


def _ratio(counts: Counter[Any], q: float) -> float | None:
    live, shadow = (quantile(arm, q) for arm in arms(counts))
    return shadow / live if live and shadow is not None else None


def _shift(counts: Counter[Any], q: float) -> float | None:
    live, shadow = (quantile(arm, q) for arm in arms(counts))
    return shadow - live if live is not None and shadow is not None else None
