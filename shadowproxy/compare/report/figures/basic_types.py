"""The parts of which all of the report's JSON consists: counts, quantiles, figures with their intervals."""

from typing import NotRequired, TypeAlias, TypedDict

from shadowproxy.compare.report.stats import Method

Interval: TypeAlias = list[float]
"""A low and a high end."""
Counts: TypeAlias = dict[str, int]
Quantiles: TypeAlias = dict[str, float | None]
"""By name, such as p99."""


class TallyFigures(TypedDict):
    """Some of the requests of a weighted log: how many, in how many records, and the sum of their squared weights."""

    requests: float
    written: float
    squares: float


class WeightFigures(TypedDict):
    """What a figure of weighted records rests on: all requests, and those counted on either side of it."""

    all: TallyFigures
    plus: TallyFigures
    minus: TallyFigures
    heaviest: float
    draw: float


class EstimateFigures(TypedDict):
    """A figure with its interval; an end that is not known is null. `weights` is there where records have weights."""

    value: float
    low: float | None
    high: float | None
    n: int
    method: Method
    design_effect: float
    weights: NotRequired[WeightFigures]
