"""A figure with its interval, and the assumption behind the interval."""

from shadowproxy.compare.report.figures.types import EstimateFigures
from shadowproxy.compare.report.words import percent


def with_interval(estimate: EstimateFigures) -> str:
    if estimate["low"] is None or estimate["high"] is None:
        return percent(estimate["value"])
    return f"{percent(estimate['value'])} (95 % interval {percent(estimate['low'])} to {percent(estimate['high'])})"


def assumption(estimate: EstimateFigures) -> str:
    """What an interval rests on, in one clause."""
    if estimate["method"] == "independent":
        return "the interval takes requests as independent: the log spans too few blocks of time, or none differs"
    worth, these = float(estimate["n"]), f"{estimate['n']:,}"
    weights = estimate.get("weights")
    if weights is not None:
        every = weights["all"]
        worth = every["requests"] ** 2 / every["squares"] if every["squares"] else 0.0
        these = f"{these} ({every['written']:,.0f} written)"
    worth /= max(1.0, estimate["design_effect"])
    return (
        "the interval is from blocks of time, as requests close in time are alike: "
        f"these {these} are worth about {worth:,.0f} (design effect {estimate['design_effect']:.1f})"
    )
