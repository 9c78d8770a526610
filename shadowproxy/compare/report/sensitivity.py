"""Which faults a report on this many requests would see, and which not: one sentence, computed and not measured.

It is about a shadow that answers as live does but for one fault. How few answers may be missing for `answered` to fail
follows from its confidence sequence; how large a part of the requests may be answered otherwise for the checks of
agreement to pass, from theirs. `shadowproxy selftest` measures the same by planting faults.
"""

from typing import Final

from shadowproxy.compare.report.figures.common import weighing_of
from shadowproxy.compare.report.figures.types import BlindSpots, EstimateFigures, PairFigures, Part
from shadowproxy.compare.report.gates import Gates
from shadowproxy.compare.report.judged import agreement_of, answered_of, labels_of
from shadowproxy.compare.report.stats import anytime_difference, anytime_weighted, confidence_sequence
from shadowproxy.compare.report.weights import Tally, Weighing, weighted_difference
from shadowproxy.compare.report.words import percent, requests

_SHARES: Final = (0.006, 0.008, 0.01, 0.015, 0.02, 0.03, 0.05, 0.1, 0.2, 0.3, 0.5, 1.0)
"""Round shares; the sentence has the least of them that is seen."""


def blind_spots(figures: PairFigures, gates: Gates) -> BlindSpots:
    """A sentence with the figures in it. A pure function of a shadow's figures and the gates."""
    answered = answered_of(figures)
    n, effect = (answered["n"], _effect(answered["difference"])) if answered else (0, 1.0)
    weights = weighing_of(answered["difference"]) if answered and answered["difference"] is not None else None
    missing = least_missing(n, effect, gates, weights)
    most = most_otherwise(figures, gates)
    part = _largest_part(figures["parts"], most) if most is not None else None
    return {
        "said": _sentence(n, missing, most, part, gates),
        "missing": missing,
        "otherwise": most,
        "part": part,
    }


def least_missing(n: int, effect: float, gates: Gates, weights: Weighing | None = None) -> float | None:
    """The least share of missing answers of which `answered` would fail; None where it never would."""
    return next((share for share in _SHARES if is_missing_seen(share, n, effect, gates, weights)), None)


def is_missing_seen(share: float, n: int, effect: float, gates: Gates, weights: Weighing | None = None) -> bool:
    """Whether `answered` would fail a shadow that leaves out this share of `n` answers."""
    if weights is not None and gates.answered is not None and n > 0:
        planted = _with_marked(weights, share)._replace(plus=Tally())
        return weighted_difference(planted._replace(minus=_marked(weights, share)), effect)[1] < -gates.answered
    return gates.answered is not None and n > 0 and anytime_difference(0, share * n, n, effect)[1] < -gates.answered


def most_otherwise(figures: PairFigures, gates: Gates) -> float | None:
    """The largest share of answers that may be others than live's with no check of agreement withholding READY.

    None where these checks do not pass yet even if all are live's.
    """
    labels = labels_of(figures)
    if labels is not None and gates.accuracy_loss is not None:
        return gates.accuracy_loss if labels["measure"] == "accuracy" else None
    if figures["judged"] is not None and gates.judge is not None:
        return min(1.0, 2 * gates.judge)  # of which each is worse: half a win is lost by a pair that is no tie
    estimate = agreement_of(figures)
    if estimate is None:
        return None
    allowed = gates.unexplained if gates.min_agreement is None else 1 - gates.min_agreement
    if allowed is None:
        return 1.0
    n = estimate["n"] / _effect(estimate)
    weights = weighing_of(estimate)

    def passes(share: float) -> bool:
        if weights is not None:
            planted = _with_marked(weights, share)
            return anytime_weighted(planted, _effect(estimate), certain=(True, False))[1] <= allowed
        return confidence_sequence(share * n, n)[1] <= allowed

    if not passes(0.0):
        return None
    low, high = 0.0, 1.0
    for _ in range(30):
        middle = (low + high) / 2
        low, high = (middle, high) if passes(middle) else (low, middle)
    return low


def _marked(weights: Weighing, share: float) -> Tally:
    """A share of the requests that are in the log for certain, as they have a fault."""
    count = share * weights.all.total
    return Tally(count, count / weights.draw, count * weights.draw)


def _with_marked(weights: Weighing, share: float) -> Weighing:
    """The weights of the same log if this share had a fault, and all others none."""
    rest = weights.all.without(weights.plus).without(weights.minus) if weights.minus.total else weights.all
    rest = rest.times((1 - share) * weights.all.total / rest.total if rest.total else 0.0)
    marked = _marked(weights, share)
    return weights._replace(all=rest.plus(marked), plus=marked)


def _effect(estimate: EstimateFigures | None) -> float:
    return max(1.0, estimate["design_effect"]) if estimate is not None else 1.0


def _largest_part(parts: list[Part], most: float) -> Part | None:
    """The largest part of the requests that may be answered otherwise unseen."""
    fitting = [part for part in parts if part["share"] <= most]
    return min(fitting, key=lambda part: (-part["share"], part["path"], part["value"]), default=None)


def _sentence(n: int, missing: float | None, most: float | None, part: Part | None, gates: Gates) -> str:
    if not n:
        return "there is no answer of live yet in which a fault of the shadow could be seen"
    these = f"with {'this' if n == 1 else 'these'} {requests(n)} and gates, "
    if gates.answered is None:
        sentence = f"{these}a shadow that leaves out answers would not be seen"
    elif missing is None:
        sentence = f"{these}not even a shadow that leaves out all of its answers would be seen"
    else:
        sentence = f"{these}a shadow that leaves out {percent(missing)} of its answers would be seen"
    if most is None:
        return f"{sentence}; too few to call any shadow READY"
    if part is None:
        return f"{sentence}; one that answers otherwise in {percent(most)} of the requests would not"
    where = f"where {part['path'].rpartition('/')[2] or part['path']} is {part['value']}"
    return f"{sentence}; one that answers otherwise only {where} ({percent(part['share'])} of the requests) would not"
