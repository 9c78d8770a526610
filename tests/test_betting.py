"""The interval that holds at every look: how often it misses, how wide it is, and what it takes."""

import random
from collections.abc import Callable

import pytest

from shadowproxy.compare.report.betting import Interval

SOURCES: list[tuple[str, Callable[[random.Random], float], float]] = [
    ("a coin", lambda source: float(source.random() < 0.5), 0.5),
    ("a rare loss", lambda source: float(source.random() > 0.05), 0.95),
    ("many ties", lambda source: source.choice([0.0, 0.5, 0.5, 0.5, 1.0]), 0.5),
    ("weights", lambda source: 0.5 + source.choice([0.5, -0.125, -0.125, -0.125, -0.125]), 0.5),
]


@pytest.mark.slow
@pytest.mark.parametrize(("draw", "mean"), [each[1:] for each in SOURCES], ids=[each[0] for each in SOURCES])
def test_the_mean_is_missed_at_any_of_all_looks_in_at_most_a_twentieth_of_the_runs(
    draw: Callable[[random.Random], float], mean: float
) -> None:
    missed = 0
    for seed in range(80):
        source, interval = random.Random(seed), Interval()
        for _ in range(120):
            interval.add(draw(source))
            if not interval.low <= mean <= interval.high:
                missed += 1
                break
    assert missed <= 4  # 5 % of 80


def test_an_interval_at_one_look_only_would_miss_more_often_so_the_test_above_can_fail() -> None:
    missed = 0
    for seed in range(80):
        source, n, total = random.Random(seed), 0, 0.0
        for _ in range(120):
            n, total = n + 1, total + (source.random() < 0.5)
            half = 1.96 * (0.25 / n) ** 0.5
            if n > 10 and abs(total / n - 0.5) > half:
                missed += 1
                break
    assert missed > 16


def test_it_narrows_and_never_widens() -> None:
    source, interval = random.Random(1), Interval()
    widths = []
    for _ in range(600):
        interval.add(float(source.random() < 0.7))
        widths.append(interval.high - interval.low)
    assert widths == sorted(widths, reverse=True)
    assert widths[-1] < 0.16
    assert interval.low > 0.5


def test_observations_that_never_vary_settle_it_in_few() -> None:
    interval = Interval()
    for _ in range(100):
        interval.add(0.5)
    assert 0.44 < interval.low <= 0.5 <= interval.high < 0.56


def test_no_observation_says_nothing_and_one_out_of_range_is_refused() -> None:
    interval = Interval()
    assert (interval.low, interval.high, interval.n) == (0, 1, 0)
    for value in (-0.01, 1.01, float("nan")):
        with pytest.raises(ValueError, match="not between 0 and 1"):
            interval.add(value)
