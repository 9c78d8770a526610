"""How streams ran: when their tokens came and how fast, of each arm, and of both on the same requests."""

from shadowproxy.compare.fold.bins import quantile
from shadowproxy.compare.fold.counts import Hist
from shadowproxy.compare.fold.pair import Pair
from shadowproxy.compare.fold.streams import SOURCES, Streams
from shadowproxy.compare.report.figures.basic_types import Quantiles
from shadowproxy.compare.report.figures.measure_types import StreamArm, StreamFigures
from shadowproxy.compare.report.figures.measures import SHOWN, paired


def streams(pair: Pair) -> StreamFigures | None:
    """The figures of a shadow; None if neither arm streamed an answer."""
    live, shadow, both = pair.live_streams, pair.shadow_streams, pair.streamed
    if not live and not shadow:
        return None
    return {
        "live": _arm(live),
        "shadow": _arm(shadow),
        "paired": {
            "ttft_ms": paired(both.ttft),
            "tpot_ms": paired(both.tpot),
            "itl_p50_ms": paired(both.itl_p50),
            "itl_p99_ms": paired(both.itl_p99),
            "e2e_ms": paired(both.e2e),
        },
    }


def _arm(counted: Streams) -> StreamArm:
    counts = counted.counts
    n = counts["n"]
    return {
        "streams": n,
        "finished": counts["finished"] / n if n else None,
        "first_byte_ms": _quantiles(counted.first_ms),
        "tokens_per_second": _quantiles(counted.rates),
        "ttft_ms": _quantiles(counted.ttft),
        "ttft_from": {source: counts[f"ttft {source}"] for source in SOURCES if counts[f"ttft {source}"]},
        "tpot_ms": _quantiles(counted.tpot),
        "tpot_from_bytes": counts["tpot byte"],
        "itl_p50_ms": _quantiles(counted.itl_p50),
        "itl_p99_ms": _quantiles(counted.itl_p99),
        "e2e_ms": _quantiles(counted.e2e),
    }


def _quantiles(counted: Hist) -> Quantiles:
    return {name: quantile(counted, q) for name, q in SHOWN.items()}
