"""The last minutes out of counters: rates, quantiles and agreement of what happened, and nothing of what did before."""

import math
import tracemalloc
from bisect import bisect_left
from collections import Counter
from collections.abc import Sequence
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from shadowproxy.exchange import LIVE, Outcome, Verdict
from shadowproxy.serve.admin.census import Census, ConfigCensus, Durations, ShadowCensus
from shadowproxy.serve.admin.trend import POINT_EVERY, WINDOW, Trend, quantile
from shadowproxy.serve.journal.statistics import Statistics
from shadowproxy.serve.telemetry.durations import BOUNDS, DurationBuckets

MATCH, MISMATCH, IGNORED, INCOMPARABLE = Verdict
NOBODY = Durations((0,) * (len(BOUNDS) + 1), 0.0)


def durations(*seconds: float) -> Durations:
    times = DurationBuckets()
    for each in seconds:
        times.add(each)
    return Durations(tuple(times.counts), times.total)


def shadow(name: str = "a", *, asked: Sequence[float] = (), **verdicts: int) -> ShadowCensus:
    return ShadowCensus(
        name=name,
        url="http://b",
        percent=100.0,
        configured_percent=100.0,
        paused=False,
        breaker="closed",
        in_flight=0,
        waiting=0,
        begun=len(asked),
        budget_requests=None,
        budget_left=None,
        chosen=len(asked),
        not_chosen={},
        retries=0,
        outcomes=Counter({Outcome.OK: len(asked)}),
        verdicts=Counter({Verdict(name): count for name, count in verdicts.items()}),
        durations=durations(*asked),
    )


def census(*shadows: ShadowCensus, ended: int = 0, mirrored: Durations = NOBODY, alone: Durations = NOBODY) -> Census:
    return Census(
        accepts=True,
        paused=False,
        live_url="http://a",
        outcomes=Counter({Outcome.OK: ended}),
        retries=0,
        rejected={},
        in_flight=0,
        live_mirrored=mirrored,
        live_alone=alone,
        shadows=shadows,
        journal=Statistics(0, 0, 0, 0, {}, 0, None),
        loop_lag=0.0,
        memory_held=0,
        memory_limit=1,
        config=ConfigCensus(1, 0.0, 0, 0, None),
    )


def test_counts_from_before_the_first_sample_are_left_out() -> None:
    trend = Trend()
    trend.add(census(shadow(asked=[0.1] * 50, match=50)), 100.0, 0.0)
    span = trend.over(WINDOW, "a")
    assert (span.rate, span.compared, dict(span.outcomes)) == (0.0, 0, {})


def test_a_span_is_the_difference_of_its_ends() -> None:
    trend = Trend()
    trend.add(census(shadow(asked=[0.1] * 5, match=5)), 100.0, 0.0)
    trend.add(census(shadow(asked=[0.1] * 5 + [0.3] * 20, match=15, mismatch=4, ignored=3, incomparable=3)), 104.0, 4.0)
    span = trend.over(WINDOW, "a")
    assert span.seconds == 4.0
    assert span.rate == 5.0
    assert span.outcomes == {Outcome.OK: 20}
    assert span.verdicts == {MATCH: 10, MISMATCH: 4, IGNORED: 3, INCOMPARABLE: 3}
    assert (span.agreed, span.compared) == (13, 17)


def test_only_the_last_seconds_asked_for_count() -> None:
    trend = Trend()
    for second in range(31):
        trend.add(census(shadow(asked=[0.1] * (100 * min(second, 20)))), float(second), 0.0)
    assert trend.over(10.0, "a").rate == 0.0
    assert trend.over(20.0, "a").rate == 50.0


def test_samples_older_than_the_window_are_dropped() -> None:
    trend = Trend()
    for second in range(1000):
        trend.add(census(ended=second), float(second), 0.0)
    span = trend.over(10 * WINDOW, LIVE)
    assert span.seconds == WINDOW
    assert span.outcomes == {Outcome.OK: WINDOW}
    assert len(trend.curve(LIVE)) == WINDOW / POINT_EVERY


def test_a_shadow_that_is_new_counts_from_when_it_was_first_seen() -> None:
    trend = Trend()
    trend.add(census(), 0.0, 0.0)
    trend.add(census(shadow(asked=[0.1] * 1000)), 1.0, 1.0)
    trend.add(census(shadow(asked=[0.1] * 1002)), 2.0, 2.0)
    assert trend.over(WINDOW, "a").rate == 2.0


def test_a_shadow_that_is_gone_is_forgotten() -> None:
    trend = Trend()
    for second in range(12):
        trend.add(census(shadow(asked=[0.1] * second)), float(second), 0.0)
    assert trend.curve("a")
    for second in range(12, 24):
        trend.add(census(), float(second), 0.0)
    assert trend.curve("a") == ()
    assert trend.over(WINDOW, "a").rate == 0.0


def test_counters_that_fell_are_nothing_that_happened() -> None:
    trend = Trend()
    trend.add(census(shadow(asked=[0.1] * 50, match=50)), 0.0, 0.0)
    trend.add(census(shadow(asked=[0.1] * 10, match=10)), 1.0, 1.0)
    span = trend.over(WINDOW, "a")
    assert (span.rate, span.compared) == (0.0, 0)


def test_a_curve_has_a_point_for_each_five_seconds_whose_timer_may_be_a_little_late() -> None:
    trend = Trend()
    for second in range(21):
        late = 0.01 * (second % 3)
        told = census(shadow(asked=[0.004] * (10 * second), match=9 * second, mismatch=second))
        trend.add(told, second + late, 1000.0 + second)
    points = trend.curve("a")
    assert [at for at, *_ in points] == [1005, 1010, 1015, 1020]
    for _, rate, median, slow, agreement in points:
        assert rate == pytest.approx(10, rel=0.01)
        assert agreement == 0.9
        assert median is not None
        assert slow is not None
        assert 2.5 < median < slow <= 5


def test_a_curve_has_no_figures_for_seconds_without_requests() -> None:
    trend = Trend()
    for second in range(6):
        trend.add(census(shadow()), float(second), 0.0)
    assert trend.curve("a") == ((0, 0.0, None, None, None),)


def test_lives_curve_is_of_all_its_requests_and_its_span_keeps_them_apart() -> None:
    trend = Trend()
    trend.add(census(), 0.0, 0.0)
    trend.add(census(mirrored=durations(0.002, 0.002), alone=durations(0.2)), 5.0, 5.0)
    span = trend.over(WINDOW, LIVE)
    assert (sum(span.times), sum(span.alone)) == (2, 1)
    ((_, rate, _, slow, _),) = trend.curve(LIVE)
    assert rate == 0.6
    assert slow is not None
    assert slow > 100


@pytest.mark.parametrize(
    ("q", "seconds", "found"),
    [
        (0.5, [], None),
        (0.5, [0.001] * 10, 0.0005),  # spread evenly within the first bucket
        (0.5, [0.1] * 4, 0.075),
        (1.0, [0.1] * 4, 0.1),
        (0.5, [0.0005, 0.3], 0.001),
        (0.99, [90.0], 60.0),
    ],
)
def test_a_quantile_is_the_one_that_prometheus_would_give(q: float, seconds: list[float], found: float | None) -> None:
    assert quantile(q, durations(*seconds).counts) == pytest.approx(found)


@given(st.lists(st.floats(0.0001, 59), min_size=3), st.sampled_from([10, 50, 90, 99]))
def test_a_quantile_is_in_the_bucket_of_the_true_one(seconds: list[float], percent: int) -> None:
    estimate = quantile(percent / 100, durations(*seconds).counts)
    assert estimate is not None
    true = sorted(seconds)[math.ceil(percent / 100 * len(seconds)) - 1]
    place = bisect_left(BOUNDS, true)
    assert (0.0, *BOUNDS)[place] <= estimate <= BOUNDS[place] * (1 + 1e-9)


def test_five_minutes_of_a_shadow_take_less_than_200_kb() -> None:
    trend, told = Trend(), census(shadow(asked=[0.1]))
    trend.add(told, 0.0, 0.0)
    tracemalloc.start()
    for second in range(1, 301):
        trend.add(replace(told, in_flight=second), float(second), 0.0)
    held, _ = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert held < 2 * 200_000  # live and one shadow
