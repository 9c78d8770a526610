"""Intervals against known values, and their coverage by seeded simulation."""

import math
import random
from collections import Counter
from collections.abc import Callable

import pytest

from shadowproxy.compare.fold.bins import bin_of, edges, quantile, quantiles
from shadowproxy.compare.fold.sums import Sums
from shadowproxy.compare.report import stats


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


def test_several_quantiles_at_once_are_those_of_each_alone() -> None:
    bins = Counter({3: 2, -4: 1, 0: 5, 9: 0, 40: 1})
    qs = [0.0, 0.05, 0.3, 0.5, 0.99, 1.0]
    assert quantiles(bins, qs) == [quantile(bins, q) for q in qs]
    assert quantiles({}, qs) == [None] * 6
    assert quantiles({1: 0}, (0.5,)) == [None]


def test_figures_of_the_same_counts_have_the_intervals_that_each_has_alone() -> None:
    source = random.Random(3)
    blocks = [Counter({"a": source.randrange(1, 9), "b": source.randrange(1, 9)}) for _ in range(12)]

    def figures(counts: Counter[str]) -> list[float | None]:
        return [
            counts["a"] / counts.total(),
            None,
            counts["b"] / counts["a"] if counts["a"] != blocks[0]["a"] else None,
        ]

    share, nothing, ratio = stats.jackknifed_together(blocks, figures)
    assert share == stats.jackknifed(blocks, lambda counts: counts["a"] / counts.total())
    assert share is not None
    assert share.method == "blocks"
    assert share.low < share.value < share.high
    assert nothing is None
    assert ratio == stats.jackknifed(blocks, lambda counts: counts["b"] / counts["a"])
    (few,) = stats.jackknifed_together(blocks[:2], lambda counts: [1.0])
    assert few is not None
    assert (few.low, few.method) == (-math.inf, "independent")


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


# --- may I stop? ---------------------------------------------------------------------------------------------------


def test_a_confidence_sequence_holds_exactly_the_shares_that_robbins_mixture_allows() -> None:
    low, high = stats.confidence_sequence(30, 100)
    for p in (low, high):
        mixture = math.lgamma(30.5) + math.lgamma(70.5) - math.lgamma(101) - math.log(math.pi)
        assert mixture - 30 * math.log(p) - 70 * math.log1p(-p) == pytest.approx(math.log(20), abs=1e-6)
    assert low < 0.3 < high


@pytest.mark.parametrize(("k", "n"), [(0, 0), (0, 10), (10, 10), (0, 1e6), (3.5, 7.25)])
def test_a_confidence_sequence_stays_within_bounds(k: float, n: float) -> None:
    low, high = stats.confidence_sequence(k, n)
    assert 0 <= low <= (k / n if n else 0) <= high <= 1


@pytest.mark.slow
def test_looking_fifty_times_a_sequence_is_wrong_at_most_once_in_twenty_runs_and_wilson_far_more_often() -> None:
    source = random.Random(12)
    runs, looks, truth = 200, 50, 0.1
    wrong = wrong_wilson = 0
    for _ in range(runs):
        k = 0
        missed = missed_wilson = False
        for look in range(1, looks + 1):
            k += sum(source.random() < truth for _ in range(40))
            low, high = stats.confidence_sequence(k, look * 40)
            missed |= not low <= truth <= high
            low, high = stats.wilson(k, look * 40)
            missed_wilson |= not low <= truth <= high
        wrong += missed
        wrong_wilson += missed_wilson
    assert wrong / runs <= 0.05
    assert wrong_wilson / runs > 0.2


@pytest.mark.slow
def test_a_paired_difference_is_never_wrongly_settled_by_looking_often() -> None:
    source = random.Random(13)
    wrong = 0
    for _ in range(100):
        plus = minus = 0
        missed = False
        for look in range(1, 41):
            for _ in range(50):
                draw = source.random()
                plus, minus = plus + (draw < 0.05), minus + (draw > 0.93)
            low, high = stats.anytime_difference(plus, minus, look * 50, 1.0)
            missed |= not low <= -0.02 <= high
        wrong += missed
    assert wrong <= 5


def test_a_difference_narrows_with_what_it_is_of() -> None:
    few = stats.anytime_difference(12, 6, 500, 1.0)
    many = stats.anytime_difference(1200, 600, 50_000, 1.0)
    assert few[0] < 0 < few[1]
    assert 0 < many[0] < 0.012 < many[1]
    assert stats.anytime_difference(1200, 600, 50_000, 4.0)[0] < many[0]


def test_requests_that_are_alike_count_as_fewer() -> None:
    alone = stats.Estimate(0.9, 0.88, 0.92, 1000, "blocks", 1.0)
    alike = stats.Estimate(0.9, 0.86, 0.94, 1000, "blocks", 4.0)
    assert stats.anytime_share(alone, certain=(True, True)) == stats.confidence_sequence(900, 1000)
    assert stats.anytime_share(alike, certain=(True, True)) == stats.confidence_sequence(225, 250)


# --- two distributions ---------------------------------------------------------------------------------------------


def test_distances_have_their_known_values() -> None:
    even, one = {"a": 50, "b": 50}, {"a": 100}
    assert stats.jensen_shannon(even, even) == 0
    assert stats.jensen_shannon({"a": 1}, {"b": 1}) == 1
    # 1/2 (1/2 log2(1/2 / 3/4) + 1/2 log2(1/2 / 1/4)) + 1/2 log2(1 / 3/4), by hand
    assert stats.jensen_shannon(even, one) == pytest.approx(math.sqrt(0.311278), abs=1e-6)
    assert stats.largest_change(even, one) == 0.5
    assert stats.entropy(even) == 1
    assert stats.wasserstein({0.0: 1, 1.0: 1}, {5.0: 2}) == pytest.approx(4.5)
    assert stats.wasserstein({1.0: 3}, {1.0: 7}) == 0
    assert stats.stability_index({"a": 4000, "b": 6000}, {"a": 5000, "b": 5000}) == pytest.approx(0.0405, abs=1e-3)


@pytest.mark.parametrize(
    "figure", [stats.jensen_shannon, stats.largest_change, stats.wasserstein, stats.stability_index]
)
def test_a_distance_to_nothing_is_no_distance(figure: Callable[..., float | None]) -> None:
    assert figure({1.0: 3}, {}) is None
    assert figure({}, {1.0: 3}) is None


def test_kappa_is_that_of_the_textbook() -> None:
    # J. L. Fleiss, Statistical Methods for Rates and Proportions (1981), the table of two raters: 0.676
    table = {("p", "p"): 75, ("p", "n"): 1, ("p", "o"): 4, ("n", "p"): 5, ("n", "n"): 4, ("n", "o"): 1, ("o", "o"): 10}
    assert stats.kappa(table) == pytest.approx(0.676, abs=5e-4)
    assert stats.kappa({("a", "a"): 9}) is None
    assert stats.kappa({}) is None


def test_concordance_falls_short_of_correlation_where_numbers_are_shifted() -> None:
    xs = [1.0, 2.0, 3.0, 4.0, 5.0]
    ys = [x + 1 for x in xs]
    sums = (
        5,
        sum(xs),
        sum(ys),
        sum(x * x for x in xs),
        sum(y * y for y in ys),
        sum(x * y for x, y in zip(xs, ys, strict=True)),
    )
    assert stats.concordance(*sums) == pytest.approx(2 * 2 / (2 + 2 + 1))
    assert stats.concordance(1, 1, 1, 1, 1, 1) is None


def test_mcnemar_is_the_binomial_test() -> None:
    assert stats.mcnemar_exact(0, 0) == 1
    assert stats.mcnemar_exact(5, 15) == pytest.approx(0.0414, abs=5e-5)
    assert stats.mcnemar_exact(359, 637) == pytest.approx(0, abs=1e-15)


def test_sums_are_exact_whatever_the_order() -> None:
    source = random.Random(1)
    values = [source.choice((1e-300, 1.0, 1e16, -1e16, 1e300, 5e-324, -0.1)) * source.random() for _ in range(200)]
    forwards, backwards = Sums(), Sums()
    for value in values:
        forwards.add(0, value)
    for value in reversed(values):
        backwards.add(0, value)
    assert forwards == backwards == Sums.from_json(forwards.to_json())
    assert forwards.floats()[0] == [math.fsum(values)]


def test_a_sequence_of_all_but_a_rounding_error_of_the_requests_ends_at_one() -> None:
    low, high = stats.confidence_sequence(5000 - 1e-12, 5000)
    assert 0.99 < low < high
    assert high == pytest.approx(1)
