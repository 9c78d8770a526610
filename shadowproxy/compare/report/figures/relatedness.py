"""Whether the shadow's answers belong to live's at all.

r = (S - C) / (1 - C): S is how alike the two answers to a request are on average, C how alike those to two requests
drawn at random would be. So 1 is a twin, 0 a shadow whose answers were shuffled, and below 0 one turned round. How
alike depends on the kind; for classes it is Cohen's kappa, in which an absent answer is a class of its own.
"""

from collections import Counter
from collections.abc import Mapping
from dataclasses import replace
from typing import Final

from shadowproxy.compare.fold.cells import middle
from shadowproxy.compare.fold.few import Few
from shadowproxy.compare.fold.related import FingerprintKind, Likenesses
from shadowproxy.compare.report import stats
from shadowproxy.compare.report.figures.common import estimated
from shadowproxy.compare.report.figures.types import EstimateFigures, Related
from shadowproxy.compare.report.kinds import AnswerPlace
from shadowproxy.compare.report.stats import Estimate, leaving_out

FEWEST_VARIED: Final = 30
"""Answers of live outside its commonest: fewer are not judged."""

_LIKENESS: Final[Mapping[str, str]] = {
    "class": "the same class",
    "vector": "the same class in front",
    "number": "numbers near each other",
    "text": "words in common",
    "ranking": "the same things in front",
    "embedding": "the same direction",
}
_PRINTED: Final[Mapping[str, FingerprintKind]] = {"text": "text", "ranking": "ranking", "embedding": "embedding"}


def kappa(judged: AnswerPlace) -> EstimateFigures | None:
    """The same figure of classes, as Cohen's kappa."""
    return estimated(_estimate(judged))


def related(judged: AnswerPlace) -> Related:
    """The figure r with its interval, and whether it can be judged."""
    found = _estimate(judged)
    varied = round(_varied(judged) * judged.pairs.written() / max(1, judged.pairs.total()))
    why = None
    if found is None:
        why = "nothing to compare with"
    elif varied < FEWEST_VARIED:
        why = f"live has {varied} answers outside its commonest, of {FEWEST_VARIED} needed"
    shown = estimated(found)
    return {
        "judged": why is None,
        "why": why,
        "value": shown["value"] if shown is not None else None,
        "low": shown["low"] if shown is not None else None,
        "high": shown["high"] if shown is not None else None,
        "n": shown["n"] if shown is not None else 0,
        "likeness": _LIKENESS[judged.kind],
    }


def _estimate(judged: AnswerPlace) -> Estimate | None:
    if judged.kind == "number":
        return _of_numbers(judged)
    if judged.kind in ("class", "vector") or not judged.counted.prints:
        return _of_classes(judged)
    likenesses = Likenesses(judged.counted.prints, _PRINTED[judged.kind])
    return leaving_out(sorted(likenesses.true), likenesses.related, likenesses.kept)


def _of_numbers(judged: AnswerPlace) -> Estimate | None:
    """1 - E|a - b| / E|a - b'|, with b' the shadow's number for any other request."""
    counted = judged.counted
    sums = counted.sums.floats()
    spread = counted.numbers
    width = max(spread.live_blocks.width, spread.shadow_blocks.width)
    live, shadow = spread.live_blocks.at(width), spread.shadow_blocks.at(width)
    totals = spread.live_blocks.whole(width), spread.shadow_blocks.whole(width)
    n, apart = sum(row[6] for row in sums.values()), sum(row[5] for row in sums.values())
    points = {cell: middle(cell, width) for cell in {*totals[0], *totals[1]}}

    def figure(without: int | None) -> float | None:
        gap, count = apart, n
        if without is not None and without in sums:
            gap, count = gap - sums[without][5], count - sums[without][6]
        margins = [
            _without(total, each.get(without, {}) if without is not None else {}, points)
            for total, each in zip(totals, (live, shadow), strict=True)
        ]
        by_chance = stats.mean_distance(*margins)
        if not by_chance or count <= 0:
            return None
        return 1 - gap / count / by_chance

    return leaving_out(sorted(sums), figure, round(n))


def _without(total: Counter[int], part: Mapping[int, int], points: Mapping[int, float]) -> dict[float, int]:
    found: dict[float, int] = {}
    for cell, count in total.items():
        left = count - part.get(cell, 0)
        if left > 0:
            found[points[cell]] = left
    return found


def _of_classes(judged: AnswerPlace) -> Estimate | None:
    counted = judged.counted
    with_whole = judged.kind == "class"
    # Texts of a word or two that are too many for classes are counted by their hash: then chance is put too high, and
    # r too low, by at most 1 in as many as there are hashes.
    live_tables = [counted.live_classes, counted.live_whole] if with_whole else [counted.live_classes]
    shadow_tables = [counted.shadow_classes, counted.shadow_whole] if with_whole else [counted.shadow_classes]
    live, shadow = _by_block(live_tables), _by_block(shadow_tables)
    totals = sum(live.values(), Counter()), sum(shadow.values(), Counter())
    rows = replace(judged, unit="rows")  # as the classes are counted
    n, same, lost = rows.pairs, rows.same, rows.lost
    whole = n.total(), same.total(), lost.total()

    def figure(without: int | None) -> float | None:
        counts, agreeing, missing = whole
        margins = totals
        if without is not None:
            counts, agreeing, missing = counts - n[without], agreeing - same[without], missing - lost[without]
            margins = (
                _minus(totals[0], live.get(without, Counter())),
                _minus(totals[1], shadow.get(without, Counter())),
            )
        if counts <= 0:
            return None
        chance = stats.chance_agreement(*margins) * (1 - missing / counts)
        return stats.beyond_chance(agreeing / counts, chance)

    return leaving_out(sorted(n), figure, whole[0])


def _by_block(tables: list[Few]) -> dict[int, Counter[str]]:
    blocks: dict[int, Counter[str]] = {}
    for table in tables:
        for key, series in table.items():
            for block, count in series.items():
                blocks.setdefault(block, Counter())[key] += count
    return blocks


def _minus(total: Counter[str], part: Counter[str]) -> Counter[str]:
    found = Counter(total)
    found.subtract(part)
    return found


def _varied(judged: AnswerPlace) -> int:
    """How many answers of live are not its commonest."""
    counted = judged.counted
    if judged.kind == "number":
        cells = counted.numbers.live
        return sum(cells.values()) - max(cells.values(), default=0)
    if judged.kind in ("class", "vector"):
        tables = [counted.live_classes, counted.live_whole] if judged.kind == "class" else [counted.live_classes]
        counts = [series.total() for table in tables for series in table.values()]
        return sum(counts) - max(counts, default=0)
    prints: Counter[bytes] = Counter()
    for kept in counted.prints.values():
        for live, _, weight in kept.values():
            prints[live] += weight
    if not prints:
        counts = [series.total() for series in counted.live_classes.values()]
        return sum(counts) - max(counts, default=0)
    share = 1 - max(prints.values()) / prints.total()
    return round(share * judged.pairs.total())
