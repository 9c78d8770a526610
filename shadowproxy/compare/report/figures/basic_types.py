"""The parts of which all of the report's JSON consists: counts, quantiles, figures with their intervals."""

from typing import TypeAlias, TypedDict

from shadowproxy.compare.report.stats import Method

Interval: TypeAlias = list[float]
"""A low and a high end."""
Counts: TypeAlias = dict[str, int]
Quantiles: TypeAlias = dict[str, float | None]
"""By name, such as p99."""


class EstimateFigures(TypedDict):
    """A figure with its interval; an end that is not known is null."""

    value: float
    low: float | None
    high: float | None
    n: int
    method: Method
    design_effect: float
