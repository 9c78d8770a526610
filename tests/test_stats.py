"""Intervals against known values, and their coverage by seeded simulation."""

import math
import random
from collections import Counter

import pytest

from shadowproxy.compare import stats
from shadowproxy.compare.sketch import bin_of, edges, quantile


@pytest.mark.parametrize(
    ("k", "n", "low", "high"),
    [
        # R. G. Newcombe, Statistics in Medicine 17 (1998) 857-872, table I, method 3.
        (81, 263, 0.2553, 0.3662),
        (15, 148, 0.0624, 0.1605),
        (0, 20, 0.0, 0.1611),
        (1, 29, 0.0061, 0.1718),
        (0, 0, 0.0, 1.0),
    ],
)
def test_wilson_gives_the_published_intervals(k: int, n: int, low: float, high: float) -> None:
    assert stats.wilson(k, n) == pytest.approx((low, high), abs=5e-5)


@pytest.mark.parametrize(
    ("freedom", "expected"), [(7, 2.364624), (10, 2.228139), (20, 2.085963), (30, 2.042272), (63, 1.998341)]
)
def test_student_quantiles_are_those_of_the_tables(freedom: int, expected: float) -> None:
    assert stats.student_quantile(0.975, freedom) == pytest.approx(expected, abs=5e-4)


def test_the_jackknife_of_a_mean_is_the_textbook_interval() -> None:
    values = [2.0, 4.0, 4.0, 5.0, 7.0, 9.0, 10.0, 11.0]
    total = sum(values)
    low, high, error = stats.jackknife(total / 8, [(total - value) / 7 for value in values])
    assert error == pytest.approx(math.sqrt(sum((v - 6.5) ** 2 for v in values) / 7 / 8))
    assert (low + high) / 2 == pytest.approx(6.5)


def test_few_blocks_fall_back_to_wilson_and_say_so() -> None:
    estimate = stats.proportion(Counter({0: 40, 1: 41}), Counter({0: 131, 1: 132}))
    assert estimate is not None
    assert estimate.method == "independent"
    assert (estimate.low, estimate.high) == pytest.approx((0.2553, 0.3662), abs=5e-5)


def test_a_share_of_nothing_is_no_share() -> None:
    assert stats.proportion(Counter(), Counter()) is None


def test_zero_of_many_has_an_upper_bound() -> None:
    estimate = stats.proportion(Counter(), Counter(dict.fromkeys(range(20), 100)))
    assert estimate is not None
    assert (estimate.value, estimate.low) == (0.0, 0.0)
    assert 0 < estimate.high < 0.003


def _agreement_blocks(random_: random.Random, blocks: int, spread: float) -> tuple[Counter[int], Counter[int], float]:
    """Blocks of 100 requests whose own rate wanders around .9: the requests of one block are alike."""
    k: Counter[int] = Counter()
    n: Counter[int] = Counter()
    for block in range(blocks):
        rate = min(1.0, max(0.0, random_.gauss(0.9, spread)))
        n[block] = 100
        k[block] = sum(random_.random() < rate for _ in range(100))
    return k, n, 0.9


@pytest.mark.slow
@pytest.mark.parametrize(("spread", "at_least"), [(0.0, 0.90), (0.05, 0.90)])
def test_block_intervals_cover_the_truth_where_plain_ones_do_not(spread: float, at_least: float) -> None:
    source = random.Random(7)
    runs = 300
    covered = plain = 0
    effects = []
    for _ in range(runs):
        k, n, truth = _agreement_blocks(source, 30, spread)
        estimate = stats.proportion(k, n)
        assert estimate is not None
        covered += estimate.low <= truth <= estimate.high
        low, high = stats.wilson(sum(k.values()), sum(n.values()))
        plain += low <= truth <= high
        effects.append(estimate.design_effect)
    assert covered / runs >= at_least
    if spread:
        assert plain / runs < 0.8
        assert 2 < sum(effects) / runs < 6
    else:
        assert 0.8 < sum(effects) / runs < 1.25


def test_a_paired_difference_cancels_what_both_share() -> None:
    source = random.Random(3)
    first: Counter[int] = Counter()
    second: Counter[int] = Counter()
    n: Counter[int] = Counter()
    for block in range(20):
        shared = source.randrange(40, 90)
        first[block], second[block], n[block] = shared + source.choice((4, 5, 6)), shared, 100
    estimate = stats.paired_difference(first, second, n)
    assert estimate is not None
    assert estimate.value == pytest.approx(0.05, abs=0.005)
    assert estimate.method == "blocks"
    assert estimate.high - estimate.low < 0.01


def test_newcombes_interval_is_the_published_one() -> None:
    # R. G. Newcombe, Statistics in Medicine 17 (1998) 873-890, table II, contrast (a).
    assert stats.newcombe(56, 70, 48, 80) == pytest.approx((0.0524, 0.3339), abs=5e-5)


@pytest.mark.parametrize("value", [1e-12, 1e-9, 3e-5, 0.5, 1.0, 2.5, 1234.5, 1e17, 1e300])
def test_a_bin_holds_its_number_within_a_hundredth(value: float) -> None:
    low, high = edges(bin_of(value))
    if 1e-9 < value < 1e18:
        assert low <= value * (1 + 1e-9)
        assert value <= high * (1 + 1e-9)
        assert high / low == pytest.approx(1.02)
    assert edges(bin_of(-value)) == (-high, -low)


@pytest.mark.parametrize("q", [0.01, 0.5, 0.9, 0.99, 0.999])
def test_quantiles_from_bins_are_within_a_hundredth(q: float) -> None:
    source = random.Random(11)
    values = sorted(source.lognormvariate(3, 1) for _ in range(20_000))
    bins = Counter(bin_of(value) for value in values)
    assert quantile(bins, q) == pytest.approx(values[round(q * (len(values) - 1))], rel=0.011)


def test_quantiles_of_signed_numbers_keep_their_sign() -> None:
    bins = Counter(bin_of(value) for value in [-100.0, -10.0, 0.0, 10.0, 100.0])
    assert quantile(bins, 0.0) == pytest.approx(-100, rel=0.011)
    assert quantile(bins, 0.5) == 0.0
    assert quantile(bins, 1.0) == pytest.approx(100, rel=0.011)
    assert quantile({}, 0.5) is None


def test_a_jackknifed_figure_needs_its_blocks() -> None:
    few = [Counter({1: 5}) for _ in range(7)]
    many = [Counter({1: 5, 2: block}) for block in range(8)]
    assert stats.jackknifed(few, lambda counts: float(counts[1])) == stats.Estimate(
        35.0, -math.inf, math.inf, 35, "independent"
    )
    estimate = stats.jackknifed(many, lambda counts: counts[2] / counts[1])
    assert estimate is not None
    assert estimate.low < estimate.value == 28 / 40 < estimate.high
