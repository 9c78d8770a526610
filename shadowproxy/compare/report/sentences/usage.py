"""What answers took, as rows of a table: each arm's answers, and the ratio on the same requests."""

from collections.abc import Callable
from typing import Final

from shadowproxy.compare.report.figures.basic_types import EstimateFigures
from shadowproxy.compare.report.figures.measure_types import ArmTotal, PairedTotal, UsageFigures
from shadowproxy.compare.report.words import number

USAGE_HEADS: Final = ("live", "shadow", "shadow / live", "pairs")

USAGE_NOTE: Final = (
    "As the answers say it, in their own unit of cost. Tokens in are all that the model was given, those of its cache "
    "among them. The ratio is of the requests for which both answers say it, with its 95 % interval."
)

FINISH_NOTE: Final = (
    "Why both models stopped: stop (done), length (the limit of tokens), tool_calls, content_filter; none: the answer "
    "does not say."
)


def usage_rows(usage: UsageFigures) -> list[tuple[str, ...]]:
    """A row's name, and its figures under USAGE_HEADS; none for what no answer says."""
    live, shadow, paired = usage["live"], usage["shadow"], usage["paired"]
    return [
        *_rows("tokens in", live["tokens_in"], shadow["tokens_in"], paired["tokens_in"], tokens, ("p50",)),
        *_rows("tokens out", live["tokens_out"], shadow["tokens_out"], paired["tokens_out"], tokens, ("p50", "p99")),
        *_rows("cached tokens", live["cached"], shadow["cached"], paired["cached"], tokens, ()),
        *_rows("cost", live["cost"], shadow["cost"], paired["cost"], number, ("p50", "p99")),
    ]


def _rows(
    name: str,
    live: ArmTotal | None,
    shadow: ArmTotal | None,
    paired: PairedTotal | None,
    shown: Callable[[float], str],
    quantiles: tuple[str, ...],
) -> list[tuple[str, ...]]:
    if live is None and shadow is None:
        return []
    count = f"{paired['requests']:,}" if paired is not None else "0"
    totals = [shown(arm["total"]) if arm is not None else "–" for arm in (live, shadow)]
    rows = [(f"{name}, all", *totals, ratio(paired["totals"] if paired is not None else None), count)]
    for q in quantiles:
        values = [arm["quantiles"][q] if arm is not None else None for arm in (live, shadow)]
        cells = ["–" if value is None else shown(value) for value in values]
        rows.append((f"{name} {q}", *cells, ratio(paired["ratio"][q] if paired is not None else None), count))
    return rows


def tokens(count: float) -> str:
    return f"{count:,.0f}"


def ratio(estimate: EstimateFigures | None) -> str:
    """A ratio with its interval, if that is known."""
    if estimate is None:
        return "–"
    low, high = estimate["low"], estimate["high"]
    around = f" ({max(0.0, low):.2f} to {high:.2f})" if low is not None and high is not None else ""
    return f"{estimate['value']:.2f}×{around}"
