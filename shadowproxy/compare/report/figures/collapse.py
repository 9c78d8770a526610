"""Whether the shadow answers nearly every request alike, or never gives an answer that live often gives."""

from collections import Counter
from typing import Final

from shadowproxy.compare.fold.few import Few
from shadowproxy.compare.fold.related import Prints
from shadowproxy.compare.report.figures.classes import tables_of, totals
from shadowproxy.compare.report.figures.types import ClassFigures, NumberFigures
from shadowproxy.compare.report.kinds import AnswerPlace
from shadowproxy.compare.report.stats import Estimate

_CONSTANT: Final = 0.99
_CONSTANT_GAIN: Final = 0.10
_EXPECTED_BUT_NEVER: Final = 30  # times that a class was to be expected before its absence is no chance
_NO_SPREAD: Final = 0.01
_FEWEST_FOR_COLLAPSE: Final = 50


def number_collapse(judged: AnswerPlace, figures: NumberFigures) -> str | None:
    """Why numbers, texts or embeddings have collapsed, or None."""
    live, shadow = figures["live"], figures["shadow"]
    if min(shadow["n"], live["n"], judged.pairs.written()) < _FEWEST_FOR_COLLAPSE:
        return None
    if judged.kind == "number":
        if (
            live["deviation"]
            and shadow["deviation"] is not None
            and shadow["deviation"] < _NO_SPREAD * live["deviation"]
        ):
            return "its numbers hardly vary: their spread is under 1 % of live's"
        return _always_the_same(shadow["top_share"] or 0.0, live["top_share"] or 0.0)
    return _always_the_same(*_top_shares(judged))


def class_collapse(judged: AnswerPlace, figures: ClassFigures, agreement: Estimate | None) -> str | None:
    """Why classes, vectors or rankings have collapsed, or None."""
    live, shadow = figures["live"], figures["shadow"]
    if min(shadow["n"], live["n"], judged.pairs.written()) < _FEWEST_FOR_COLLAPSE:
        return None
    if judged.kind == "ranking":
        return _always_the_same(*_top_shares(judged))
    top, of_live = shadow["top_share"] or 0.0, live["top_share"] or 0.0
    if _is_constant(top, of_live):
        return f"it answers {shadow['classes'][0]['class']} to {top:.1%} of all requests"
    return None if figures["classes_cut"] else _never_answered(judged, agreement)


def _always_the_same(top: float, of_live: float) -> str | None:
    if _is_constant(top, of_live):
        return f"it gives one and the same answer to {top:.1%} of all requests"
    return None


def _never_answered(judged: AnswerPlace, agreement: Estimate | None) -> str | None:
    """The commonest class of live's that the shadow never answers, where chance would have it many times.

    A model that lost its rarest class agrees on nearly all requests and is of no use: a filter that finds no fraud.
    """
    live, shadow = (totals(tables) for tables in tables_of(judged))
    if not live or not shadow:
        return None
    effect = max(1.0, agreement.design_effect) if agreement is not None else 1.0
    share = sum(shadow.values()) / sum(live.values())
    for key, count in sorted(live.items(), key=lambda each: (-each[1], each[0])):
        if key not in shadow and count * min(1.0, share) >= _EXPECTED_BUT_NEVER * effect:
            return f"it never answers {key}, which live answers {count:,} times"
    return None


def _is_constant(top: float, of_live: float) -> bool:
    """Whether one answer is nearly all of the shadow's, and much less of live's."""
    return top > _CONSTANT and top > of_live + _CONSTANT_GAIN


def _top_shares(judged: AnswerPlace) -> tuple[float, float]:
    """The shares of the shadow's commonest answer and of live's, where answers are counted by their fingerprints."""
    counted = judged.counted
    if counted.prints:
        return _commonest(counted.prints, 1), _commonest(counted.prints, 0)
    return _top_class(counted.shadow_classes), _top_class(counted.live_classes)


def _commonest(prints: Prints, arm: int) -> float:
    """The share of the commonest answer of an arm, among those that were kept."""
    counts: Counter[bytes] = Counter()
    written = 0
    for kept in prints.values():
        for each in kept.values():
            text = each[1] if arm else each[0]
            if text:
                counts[text] += each[2]
                written += 1
    return max(counts.values(), default=0) / counts.total() if written >= _FEWEST_FOR_COLLAPSE else 0.0


def _top_class(classes: Few) -> float:
    """The share of the commonest class; of too many it is not known, and small."""
    counts = totals([classes])
    return max(counts.values(), default=0) / max(1, sum(counts.values())) if not classes.many else 0.0
