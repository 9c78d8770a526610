"""How many of the shadow's numbers lie where live has none."""

import math
from dataclasses import replace
from typing import Final

from shadowproxy.compare.fold.cells import ends
from shadowproxy.compare.fold.counts import Series
from shadowproxy.compare.fold.spread import Spread
from shadowproxy.compare.report import stats
from shadowproxy.compare.report.figures.common import estimated
from shadowproxy.compare.report.figures.types import Range
from shadowproxy.compare.report.kinds import AnswerPlace
from shadowproxy.compare.report.stats import Estimate
from shadowproxy.compare.report.weights import Tally, Weighing

Bounds = tuple[float, float]

_NEAR: Final = 1e-5  # within which numbers are equal (see `likeness.close`)


def range_of(judged: AnswerPlace, bounds: Bounds | None) -> Range | None:
    """Numbers outside live's range, or outside the one given."""
    if judged.kind != "number":
        return None
    spread = judged.counted.numbers
    allowed = bounds or live_range(spread)
    if allowed is None or not spread.shadow:
        return None
    outside, share = outside_of(spread, *allowed)
    all_pairs = stats.weighing({}, {}, judged.pairs)
    if share is not None and all_pairs is not None:
        share = stats.with_weights(share, _weighing(outside, share.n, all_pairs, certain=bounds is None))
    return {
        "low": allowed[0],
        "high": allowed[1],
        "given": bounds is not None,
        "outside": outside,
        "share": estimated(share),
        "anytime": list(stats.anytime_share(share, certain=(bounds is None, False))) if share is not None else None,
        "smallest": ends(min(spread.shadow), spread.shadow.width)[0],
        "largest": ends(max(spread.shadow), spread.shadow.width)[1],
    }


def _weighing(outside: int, n: int, pairs: Weighing, *, certain: bool) -> Weighing:
    """The weights of `n` numbers of which `outside` lie outside, as far as those of the pairs tell.

    What lies outside live's range differs from live's answer, so it is in the log for certain.
    """
    heaviest = pairs.draw if certain else pairs.heaviest
    plus = Tally(outside, outside / heaviest, outside * heaviest)
    every = pairs.all.times(n / pairs.all.total if pairs.all.total else 0.0)
    return Weighing(every, plus, Tally(), pairs.heaviest, pairs.draw)


def live_range(spread: Spread) -> tuple[float, float] | None:
    """Live's range, widened to both sides by its own width; of a constant, by its own size. None for one of 0."""
    if not spread.live:
        return None
    least, most = ends(min(spread.live), spread.live.width)[0], ends(max(spread.live), spread.live.width)[1]
    width = most - least
    if not width > _NEAR * max(abs(least), abs(most)):
        width = max(abs(least), abs(most))
    low, high = least - width, most + width
    return (low, high) if width > 0 and math.isfinite(low) and math.isfinite(high) else None


def outside_of(spread: Spread, low: float, high: float) -> tuple[int, Estimate | None]:
    """How many of the shadow's numbers lie below `low` or above `high`, and what share that is.

    They are counted in the narrowest cells that there are; how far the share may be off, in those by block.
    """
    slack = _NEAR * max(abs(low), abs(high))

    def beyond(cell: int, width: int) -> bool:
        inner, outer = ends(cell, width)
        return inner > high + slack or outer < low - slack

    blocks = spread.shadow_blocks
    by_block, n = Series(), Series()
    for block, counts in blocks.items():
        n[block] = sum(counts.values())
        by_block[block] = sum(count for cell, count in counts.items() if beyond(cell, blocks.width))
    found = sum(count for cell, count in spread.shadow.items() if beyond(cell, spread.shadow.width))
    share = stats.proportion(by_block, n)
    if share is not None and found != by_block.total():
        value = found / share.n
        moved = value - share.value
        share = replace(share, value=value, low=max(0.0, share.low + moved), high=min(1.0, share.high + moved))
    return found, share
