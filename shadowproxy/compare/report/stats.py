"""Intervals for what a log says. Each function names its source; none draws random numbers.

Requests close in time are alike, so the number of requests overstates what is known. The intervals here come from
leaving out whole blocks of time, and the design effect says how many times too sure a plain formula would be.
"""

import math
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any, Final, Literal

from shadowproxy.compare.fold.counts import Series
from shadowproxy.compare.report.weights import Tally, Weighing, edge, weighted_difference, weighted_sequence

Z95: Final = 1.959963984540054

FEWEST_BLOCKS: Final = 8
"""With fewer blocks of time the spread between them is anybody's guess."""

Method = Literal["blocks", "independent"]


@dataclass(frozen=True, slots=True)
class Estimate:
    """A figure with its 95 % interval. `method` is "independent" where requests had to be taken as independent.

    `design_effect` is how many times wider (in variance) the blocks make it than independent requests would, and 1
    where that is not known. `n` counts what the figure is a figure of. `weights` is None where all records have the
    weight 1; that they have not is no part of the design effect.
    """

    value: float
    low: float
    high: float
    n: int
    method: Method
    design_effect: float = 1.0
    weights: Weighing | None = None

    @property
    def effective(self) -> float:
        """How many independent requests with weights of 1 say as much."""
        n = self.n if self.weights is None else self.weights.effective
        return n / max(1.0, self.design_effect)


def tally(counts: Mapping[int, int]) -> Tally:
    """What is counted by block of time, all together."""
    if isinstance(counts, Series):
        return Tally(counts.total(), counts.written(), counts.squares())
    total = sum(counts.values())
    return Tally(total, total, total)


def weighing(first: Mapping[int, int], second: Mapping[int, int], n: Mapping[int, int]) -> Weighing | None:
    """What (first - second) / n rests on; None where all records have the weight 1."""
    if not isinstance(n, Series) or n.weights is None:
        return None
    return Weighing(tally(n), tally(first), tally(second), n.weights.heaviest, n.weights.draw)


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
    z = normal_quantile(p)
    first = (z**3 + z) / 4
    second = (5 * z**5 + 16 * z**3 + 3 * z) / 96
    third = (3 * z**7 + 19 * z**5 + 17 * z**3 - 15 * z) / 384
    fourth = (79 * z**9 + 776 * z**7 + 1482 * z**5 - 1920 * z**3 - 945 * z) / 92160
    return z + first / freedom + second / freedom**2 + third / freedom**3 + fourth / freedom**4


def normal_quantile(p: float) -> float:
    """The standard normal's p-quantile."""
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


def widened(value: float, low: float, high: float, blocks: int, error: float) -> tuple[float, float]:
    """A 95 % interval of the jackknife over that many blocks as one that is wrong with a chance of `error` only."""
    freedom = max(blocks, FEWEST_BLOCKS) - 1
    times = student_quantile(1 - error / 2, freedom) / student_quantile(0.975, freedom)
    half = max(high - value, value - low) * times  # one end may have been cut off, at the least possible value
    return value - half, value + half


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
    weights = weighing(first, second, n)
    if weights is None:
        plain = theta * (1 - theta) / total if not second else (k + other) / total**2
    elif not second:
        plain = theta * (1 - theta) / weights.worth
    else:
        plain = (weights.plus.squares + weights.minus.squares) / total**2
    left_out = [
        (k - first.get(block, 0) - other + second.get(block, 0)) / (total - count)
        for block, count in n.items()
        if count and total > count
    ]
    if len(left_out) >= FEWEST_BLOCKS:
        low, high, error = jackknife(theta, left_out)
        if error > 0:
            effect = error * error / plain if plain > 0 else 1.0
            least = -1.0 if second else 0.0
            return Estimate(theta, max(low, least), min(high, 1.0), total, "blocks", effect, weights)
    if not second:
        low, high = wilson(theta * weights.worth, weights.worth) if weights is not None else wilson(k, total)
        return Estimate(theta, low, high, total, "independent", weights=weights)
    part = 1.0 if weights is None else weights.effective / total
    low, high = newcombe(k * part, total * part, other * part, total * part)
    return Estimate(theta, low, high, total, "independent", weights=weights)


def with_weights(share: Estimate, weights: Weighing) -> Estimate:
    """A share whose counts by block have no weights of their own, with those of its records."""
    theta, worth = share.value, weights.worth
    if share.method == "independent":
        low, high = wilson(theta * worth, worth)
        return Estimate(theta, low, high, share.n, "independent", weights=weights)
    effect = share.design_effect * worth / share.n if share.n else 1.0
    return Estimate(theta, share.low, share.high, share.n, share.method, effect, weights)


def newcombe(k: float, n: float, other: float, m: float) -> tuple[float, float]:
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
    return jackknifed_together(blocks, lambda counts: [figure(counts)])[0]


def jackknifed_together(
    blocks: Iterable[Counter[Any]], figures: Callable[[Counter[Any]], Sequence[float | None]]
) -> list[Estimate | None]:
    """The same for several figures of the same counts, which are put together only once without each block."""
    parts = list(blocks)
    whole: Counter[Any] = Counter()
    for part in parts:
        for key, count in part.items():
            whole[key] += count
    thetas = figures(whole)
    without: list[Sequence[float | None]] = []
    if len(parts) >= FEWEST_BLOCKS and any(theta is not None for theta in thetas):
        for part in parts:
            # By hand, as what Counter has for it is a loop in Python's own code.
            rest: Counter[Any] = Counter()
            dict.update(rest, whole)
            for key, count in part.items():
                rest[key] -= count
            without.append(figures(rest))
    n = sum(whole.values())
    found: list[Estimate | None] = []
    for at, theta in enumerate(thetas):
        if theta is None:
            found.append(None)
            continue
        left_out = [value for each in without if (value := each[at]) is not None]
        if len(left_out) < FEWEST_BLOCKS:
            found.append(Estimate(theta, -math.inf, math.inf, n, "independent"))
            continue
        low, high, _ = jackknife(theta, left_out)
        found.append(Estimate(theta, low, high, n, "blocks"))
    return found


# --- may I stop? ---------------------------------------------------------------------------------------------------


def confidence_sequence(k: float, n: float, alpha: float = 0.05) -> tuple[float, float]:
    """An interval for a share that holds at every look: with chance 1 - alpha no look ever excludes the truth.

    {p : B(k+1/2, n-k+1/2) / B(1/2, 1/2) / (p^k (1-p)^(n-k)) < 1/alpha}: H. Robbins, Annals of Mathematical Statistics
    41 (1970) 1397-1409, with the beta(1/2, 1/2) mixture. For independent requests; divide both by the design effect
    for others, which is a rule of thumb and no theorem.
    """
    if n <= 0:
        return 0.0, 1.0
    k = min(k, n)  # a share of 1 times n may be more by a bit
    rest = n - k
    mixture = math.lgamma(k + 0.5) + math.lgamma(rest + 0.5) - math.lgamma(n + 1) - math.log(math.pi)
    limit = mixture + math.log(alpha)

    def excluded(p: float) -> bool:
        if p <= 0 or p >= 1:
            return True  # as halving comes to 1 itself, where next to none of n remains
        likelihood = (k * math.log(p) if k else 0.0) + (rest * math.log1p(-p) if rest else 0.0)
        return likelihood <= limit

    middle = min(max(k / n, 1e-12), 1 - 1e-12)
    return (edge(excluded, 0.0, middle, 60) if k > 0 else 0.0), (edge(excluded, 1.0, middle, 60) if rest > 0 else 1.0)


def anytime_share(estimate: Estimate, *, certain: tuple[bool, bool]) -> tuple[float, float]:
    """A share's confidence sequence, its counts divided by the design effect where that is above 1.

    `certain`: whether a log that keeps a share of its exchanges has all that are counted, and all others.
    """
    if estimate.weights is not None:
        return anytime_weighted(estimate.weights, estimate.design_effect, certain=certain)
    n = estimate.n / max(1.0, estimate.design_effect)
    return confidence_sequence(estimate.value * n, n)


def anytime_weighted(
    weights: Weighing, design_effect: float, *, certain: tuple[bool, bool], times: float = 1.0
) -> tuple[float, float]:
    """The confidence sequence of a share of weighted records, of `times` as many as there are."""
    factor = times / max(1.0, design_effect)
    marked, rest = weights.plus, weights.all.without(weights.plus)
    return weighted_sequence(marked.times(factor), rest.times(factor), weights, certain=certain)


def anytime_of(difference: Estimate, plus: int, minus: int, n: int, design_effect: float) -> tuple[float, float]:
    """`anytime_difference` of a difference that may be one of weighted records."""
    if difference.weights is not None:
        return weighted_difference(difference.weights, design_effect)
    return anytime_difference(plus, minus, n, design_effect)


def anytime_difference(
    plus: int | float, minus: int | float, n: int | float, design_effect: float
) -> tuple[float, float]:
    """As `confidence_sequence`, for (plus - minus) / n: plus and minus count the pairs that favour one arm only.

    It is d (2q - 1) with d the share of such pairs and q the share of plus among them. Each has a sequence of its own,
    at 0.01 and 0.04: by the union bound both hold at every look, with chance 0.95.
    """
    effect = max(1.0, design_effect)
    discordant = (plus + minus) / effect
    fewest, most = confidence_sequence(discordant, n / effect, 0.01)
    low, high = (2 * q - 1 for q in confidence_sequence(plus / effect, discordant, 0.04))
    return low * (fewest if low >= 0 else most), high * (most if high >= 0 else fewest)


# --- two distributions ---------------------------------------------------------------------------------------------


def entropy(counts: Mapping[Any, int]) -> float:
    """Shannon's entropy, in bits."""
    total = sum(counts.values())
    return -math.fsum(n / total * math.log2(n / total) for n in counts.values() if n) if total else 0.0


def jensen_shannon(one: Mapping[Any, int], other: Mapping[Any, int]) -> float | None:
    """The Jensen-Shannon distance, base 2: 0 for equal distributions, 1 for ones with nothing in common.

    J. Lin, IEEE Transactions on Information Theory 37 (1991) 145-151; its root is a metric, D. M. Endres and
    J. E. Schindelin, ibid. 49 (2003) 1858-1860. None where one is empty.
    """
    n, m = sum(one.values()), sum(other.values())
    if n <= 0 or m <= 0:
        return None
    terms: list[float] = []
    for key in {*one, *other}:
        p, q = one.get(key, 0) / n, other.get(key, 0) / m
        terms.extend(share * math.log2(2 * share / (p + q)) for share in (p, q) if share > 0)
    # fsum: the order of a set is nothing to rely on, and the same summary gives the same digits.
    return math.sqrt(max(0.0, math.fsum(terms) / 2))


def largest_change(one: Mapping[Any, int], other: Mapping[Any, int]) -> float | None:
    """The largest difference between two shares of the same class (L-infinity)."""
    n, m = sum(one.values()), sum(other.values())
    if n <= 0 or m <= 0:
        return None
    return max(abs(one.get(key, 0) / n - other.get(key, 0) / m) for key in {*one, *other})


def stability_index(one: Mapping[Any, int], other: Mapping[Any, int]) -> float | None:
    """The population stability index over classes or bins, with half a count added to each so that none is empty.

    sum (q - p) ln(q / p): Jeffreys' divergence, as credit scoring uses it (N. Siddiqi, Credit Risk Scorecards, 2006).
    """
    keys = {*one, *other}
    n, m = sum(one.values()) + len(keys) / 2, sum(other.values()) + len(keys) / 2
    if not sum(one.values()) or not sum(other.values()):
        return None
    shares = [((one.get(key, 0) + 0.5) / n, (other.get(key, 0) + 0.5) / m) for key in keys]
    return math.fsum((q - p) * math.log(q / p) for p, q in shares)


def wasserstein(one: Mapping[float, int], other: Mapping[float, int]) -> float | None:
    """The first Wasserstein distance between two sets of weighted points: the area between their distributions."""
    n, m = sum(one.values()), sum(other.values())
    if n <= 0 or m <= 0:
        return None
    area = below = 0.0
    points = sorted({*one, *other})
    for at, following in pairwise(points):
        below += one.get(at, 0) / n - other.get(at, 0) / m
        area += abs(below) * (following - at)
    return area


def mean_distance(one: Mapping[float, int], other: Mapping[float, int]) -> float | None:
    """The mean of |x - y| for x and y drawn apart from two sets of weighted points.

    The integral of F (1 - G) + G (1 - F): C. Gini, Variabilità e mutabilità (1912), of two distributions as in
    G. J. Székely and M. L. Rizzo, Journal of Statistical Planning and Inference 143 (2013) 1249-1272.
    """
    n, m = sum(one.values()), sum(other.values())
    if n <= 0 or m <= 0:
        return None
    total: list[float] = []
    below = other_below = 0
    for at, following in pairwise(sorted({*one, *other})):
        below += one.get(at, 0)
        other_below += other.get(at, 0)
        p, q = below / n, other_below / m
        total.append((p * (1 - q) + q * (1 - p)) * (following - at))
    return math.fsum(total)


def chance_agreement(one: Mapping[Any, int], other: Mapping[Any, int]) -> float:
    """How often two draws, one from each set of counts, are of one class."""
    n, m = sum(one.values()), sum(other.values())
    if n <= 0 or m <= 0:
        return 0.0
    return sum(count * other.get(key, 0) for key, count in one.items()) / (n * m)


def beyond_chance(observed: float, chance: float) -> float | None:
    """(S - C) / (1 - C): Cohen's kappa, and the same of any mean likeness. None where chance alone gives all."""
    return (observed - chance) / (1 - chance) if chance < 1 - 1e-12 else None


def leaving_out(
    blocks: Iterable[int], figure: Callable[[int | None], float | None], n: int, *, least: float = -math.inf
) -> Estimate | None:
    """A figure of all blocks (`figure(None)`) with its interval from its values without each. None without a value.

    Below `FEWEST_BLOCKS` blocks the interval is everything: (-inf, inf), "independent".
    """
    theta = figure(None)
    if theta is None:
        return None
    left = [value for block in blocks if (value := figure(block)) is not None]
    if len(left) < FEWEST_BLOCKS:
        return Estimate(theta, -math.inf, math.inf, n, "independent")
    low, high, _ = jackknife(theta, left)
    return Estimate(theta, max(low, least), high, n, "blocks")


def kappa(confusion: Mapping[tuple[str, str], int]) -> float | None:
    """Cohen's kappa, agreement beyond chance: J. Cohen, Educational and Psychological Measurement 20 (1960) 37-46.

    None where chance alone would agree always.
    """
    total = sum(confusion.values())
    if total <= 0:
        return None
    rows: Counter[str] = Counter()
    columns: Counter[str] = Counter()
    for (row, column), count in confusion.items():
        rows[row] += count
        columns[column] += count
    observed = sum(count for (row, column), count in confusion.items() if row == column) / total
    chance = sum(count * columns[row] for row, count in rows.items()) / total**2
    return (observed - chance) / (1 - chance) if chance < 1 else None


def concordance(n: float, x: float, y: float, xx: float, yy: float, xy: float) -> float | None:
    """Lin's concordance correlation from sums: L. I-K. Lin, Biometrics 45 (1989) 255-268. None without spread."""
    if n < 2:
        return None
    variance_x, variance_y = xx / n - (x / n) ** 2, yy / n - (y / n) ** 2
    spread = variance_x + variance_y + (x / n - y / n) ** 2
    return 2 * (xy / n - x / n * y / n) / spread if spread > 1e-300 else None


def mcnemar_exact(one: int, other: int) -> float:
    """The two-sided p-value that discordant pairs fall so unevenly by chance, for requests taken as independent.

    Q. McNemar, Psychometrika 12 (1947) 153-157, by the binomial distribution. For information: the report's verdicts
    rest on intervals, since a look at every hour would find any p-value it waits for.
    """
    n, low = one + other, min(one, other)
    if n == 0:
        return 1.0
    logs = [math.lgamma(n + 1) - math.lgamma(k + 1) - math.lgamma(n - k + 1) - n * math.log(2) for k in range(low + 1)]
    return min(1.0, 2 * math.fsum(math.exp(each) for each in logs))
