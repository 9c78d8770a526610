"""Where an interval lies beside what is allowed, and how many more requests would settle it."""

from collections.abc import Callable
from typing import Final, NamedTuple

from shadowproxy.compare.report.checks.check import Result
from shadowproxy.compare.report.figures.basic_types import TallyFigures
from shadowproxy.compare.report.figures.common import weighing_of
from shadowproxy.compare.report.figures.types import EstimateFigures
from shadowproxy.compare.report.stats import anytime_difference, anytime_weighted, confidence_sequence
from shadowproxy.compare.report.weights import weighted_difference

_MOST_LOOKED: Final = 1_000_000_000
_FINE: Final = 1.05
_COARSE: Final = 1.2  # of weighted records, whose sequence takes longer


class Held(NamedTuple):
    """A figure held to what is allowed; `more` requests would settle it."""

    result: Result
    value: float
    low: float
    high: float
    more: int | None


def lies(low: float, high: float, least: float | None, most: float | None) -> Result:
    """Where an interval lies: inside, outside or across what is allowed."""
    if (least is None or low >= least) and (most is None or high <= most):
        return Result.PASS
    if (least is not None and high < least) or (most is not None and low > most):
        return Result.FAIL
    return Result.INCONCLUSIVE


def share_within(
    estimate: EstimateFigures, least: float | None, most: float | None, *, certain: tuple[bool, bool]
) -> Held:
    """A share by its confidence sequence, its counts divided by the design effect.

    `certain`: whether a log that keeps a share of its exchanges has all that are counted, and all others.
    """
    value = estimate["value"]
    weights = weighing_of(estimate)
    if weights is not None:
        effect = estimate["design_effect"]

        def weighted(times: float) -> tuple[float, float]:
            return anytime_weighted(weights, effect, certain=certain, times=times)

        return _held(value, estimate["n"], weighted, least, most, step=_COARSE)

    def interval(times: float) -> tuple[float, float]:
        n = estimate["n"] * times / max(1.0, estimate["design_effect"])
        return confidence_sequence(value * n, n)

    return _held(value, estimate["n"], interval, least, most)


def opposite(estimate: EstimateFigures) -> EstimateFigures:
    """The share of all others, without its interval."""
    found: EstimateFigures = {**estimate, "value": 1 - estimate["value"]}
    weights = estimate.get("weights")
    if weights is not None:
        every, plus = weights["all"], weights["plus"]
        rest: TallyFigures = {
            "requests": every["requests"] - plus["requests"],
            "written": every["written"] - plus["written"],
            "squares": every["squares"] - plus["squares"],
        }
        found["weights"] = {**weights, "plus": rest}
    return found


def net_within(
    plus: int, minus: int, n: int, difference: EstimateFigures, least: float | None, most: float | None
) -> Held:
    """(plus - minus) / n by its confidence sequence."""
    effect = difference["design_effect"]
    weights = weighing_of(difference)
    if weights is not None:

        def weighted(times: float) -> tuple[float, float]:
            return weighted_difference(weights, effect, times=times)

        return _held(difference["value"], n, weighted, least, most, step=_COARSE)

    def interval(times: float) -> tuple[float, float]:
        return anytime_difference(plus * times, minus * times, n * times, effect)

    return _held(difference["value"], n, interval, least, most)


def _held(
    value: float,
    n: int,
    interval: Callable[[float], tuple[float, float]],
    least: float | None,
    most: float | None,
    *,
    step: float = _FINE,
) -> Held:
    low, high = interval(1.0)
    result = lies(low, high, least, most)
    more = None
    if result is Result.INCONCLUSIVE:
        more = _until(n, lambda times: lies(*interval(times), least, most) is not Result.INCONCLUSIVE, step)
    return Held(result, value, low, high, more)


def _until(n: int, settled: Callable[[float], bool], step: float) -> int | None:
    """How many more requests at the same rates settle a check: `settled` is tried on multiples of today's counts."""
    times = 1.0
    while not settled(times):
        times *= step
        if n * times > _MOST_LOOKED:
            return None
    return max(1, round(n * (times - 1)))


def until_narrow(n: int, value: float, low: float, high: float, line: float) -> int | None:
    """The same for an interval whose width falls with the root of the number of requests."""
    gap, width = abs(value - line), max(high - value, value - low)
    if gap <= 0 or width <= 0:
        return None
    more = n * ((width / gap) ** 2 - 1)
    return round(more) if 0 < more < _MOST_LOOKED else None
