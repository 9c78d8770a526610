"""Intervals for what a log says. Each function names its source; none draws random numbers.

Requests close in time are alike, so the number of requests overstates what is known. The intervals here come from
leaving out whole blocks of time, and the design effect says how many times too sure a plain formula would be.
"""

import math
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final, Literal

Z95: Final = 1.959963984540054

FEWEST_BLOCKS: Final = 8
"""With fewer blocks of time the spread between them is anybody's guess."""

Method = Literal["blocks", "independent"]


@dataclass(frozen=True, slots=True)
class Estimate:
    """A figure with its 95 % interval. `method` is "independent" where requests had to be taken as independent.

    `design_effect` is how many times wider (in variance) the blocks make it than independent requests would, and 1
    where that cannot be told. `n` counts what the figure is a figure of.
    """

    value: float
    low: float
    high: float
    n: int
    method: Method
    design_effect: float = 1.0


def wilson(k: float, n: float, z: float = Z95) -> tuple[float, float]:
    """Wilson's score interval for k of n. E. B. Wilson, JASA 22 (1927) 209-212. (0, 1) for n = 0."""
    if n <= 0:
        return 0.0, 1.0
    p = k / n
    middle = (p + z * z / (2 * n)) / (1 + z * z / n)
    half = z / (1 + z * z / n) * math.sqrt(p * (1 - p) / n + z * z / (4 * n * n))
    return (0.0 if k <= 0 else max(0.0, middle - half)), (1.0 if k >= n else min(1.0, middle + half))


def student_quantile(p: float, freedom: int) -> float:
    """Quantile of Student's t, by Cornish and Fisher's expansion in 1/freedom: Abramowitz and Stegun 26.7.5.

    Off by less than 0.0005 at p = 0.975 from 7 degrees of freedom on, which is what `FEWEST_BLOCKS` leaves.
    """
    z = _normal_quantile(p)
    first = (z**3 + z) / 4
    second = (5 * z**5 + 16 * z**3 + 3 * z) / 96
    third = (3 * z**7 + 19 * z**5 + 17 * z**3 - 15 * z) / 384
    fourth = (79 * z**9 + 776 * z**7 + 1482 * z**5 - 1920 * z**3 - 945 * z) / 92160
    return z + first / freedom + second / freedom**2 + third / freedom**3 + fourth / freedom**4


def _normal_quantile(p: float) -> float:
    from statistics import NormalDist  # costs 10 ms to import, for one number

    return NormalDist().inv_cdf(p)


def jackknife(theta: float, left_out: Sequence[float]) -> tuple[float, float, float]:
    """The interval of `theta` from its values with one block left out each time, and its standard error.

    theta +- t(G-1) sqrt((G-1)/G sum (theta_-g - mean)^2): B. Efron, The Jackknife, the Bootstrap and Other Resampling
    Plans (SIAM 1982), chapter 3, on blocks as in H. R. Künsch, Annals of Statistics 17 (1989) 1217-1241.
    """
    groups = len(left_out)
    mean = math.fsum(left_out) / groups
    error = math.sqrt((groups - 1) / groups * math.fsum((value - mean) ** 2 for value in left_out))
    half = student_quantile(0.975, groups - 1) * error
    return theta - half, theta + half, error


def proportion(k: Mapping[int, int], n: Mapping[int, int]) -> Estimate | None:
    """The share k/n, both counted by block of time. None for n = 0.

    By the jackknife; by Wilson's interval ("independent") below `FEWEST_BLOCKS` blocks, and where k is 0 or n and no
    block differs from another.
    """
    return paired_difference(k, {}, n)


def paired_difference(first: Mapping[int, int], second: Mapping[int, int], n: Mapping[int, int]) -> Estimate | None:
    """(sum first - sum second) / sum n, counted by block of time; with `second` empty, a share.

    The pairing is in the blocks: both counts of one block leave together.
    """
    total = sum(n.values())
    if not total:
        return None
    k, other = sum(first.values()), sum(second.values())
    theta = (k - other) / total
    left_out = [
        (k - first.get(block, 0) - other + second.get(block, 0)) / (total - count)
        for block, count in n.items()
        if count and total > count
    ]
    if len(left_out) >= FEWEST_BLOCKS:
        low, high, error = jackknife(theta, left_out)
        if error > 0:
            plain = theta * (1 - theta) / total if not second else (k + other) / total**2
            effect = error * error / plain if plain > 0 else 1.0
            return Estimate(theta, max(low, -1.0 if second else 0.0), min(high, 1.0), total, "blocks", effect)
    if not second:
        low, high = wilson(k, total)
        return Estimate(theta, low, high, total, "independent")
    low, high = newcombe(k, total, other, total)
    return Estimate(theta, low, high, total, "independent")


def newcombe(k: int, n: int, other: int, m: int) -> tuple[float, float]:
    """An interval for k/n - other/m from their Wilson intervals, as if unpaired.

    R. G. Newcombe, Statistics in Medicine 17 (1998) 873-890, method 10. For pairs that mostly agree it is too wide,
    never too narrow.
    """
    p, q = k / n, other / m
    (p_low, p_high), (q_low, q_high) = wilson(k, n), wilson(other, m)
    return p - q - math.hypot(p - p_low, q_high - q), p - q + math.hypot(p_high - p, q - q_low)


def jackknifed(blocks: Iterable[Counter[Any]], figure: Callable[[Counter[Any]], float | None]) -> Estimate | None:
    """Any figure of counts, with its interval from leaving out one block of time each. None without a value.

    Below `FEWEST_BLOCKS` blocks the interval is everything: (-inf, inf), "independent".
    """
    parts = list(blocks)
    whole: Counter[Any] = Counter()
    for part in parts:
        whole.update(part)
    theta = figure(whole)
    if theta is None:
        return None
    n = sum(whole.values())
    left_out = []
    if len(parts) >= FEWEST_BLOCKS:
        for part in parts:
            rest = Counter(whole)
            rest.subtract(part)
            value = figure(rest)
            if value is not None:
                left_out.append(value)
    if len(left_out) < FEWEST_BLOCKS:
        return Estimate(theta, -math.inf, math.inf, n, "independent")
    low, high, _ = jackknife(theta, left_out)
    return Estimate(theta, low, high, n, "blocks")
