"""When a shadow's share rises and when it steps back, by a simulated clock and simulated requests."""

import math
import random
from collections import Counter
from dataclasses import replace
from itertools import pairwise

import pytest

from shadowproxy.exchange import Outcome
from shadowproxy.serve.policy import ramping
from shadowproxy.serve.policy.arms import Arms, bin_of, seconds_of
from shadowproxy.serve.policy.ramping import Evidence, RampSettings, RampState, Step, Word, add, advance, begin, judge

SETTINGS = RampSettings(
    start=1.0, to=100.0, over=7_000.0, hold_out=5.0, live_p99_ratio=1.05, shadow_errors=0.02, timeout=30.0
)
_draws = random.Random(1)
_POOL = [bin_of(math.exp(_draws.gauss(math.log(0.02), 0.6))) for _ in range(50_000)]


class Traffic:
    """Requests a second, of which live answers each within a time that has a long tail, and is busy at times.

    `slower` multiplies live's time of mirrored requests, `failing` is the share of the shadow's answers that fail;
    both may change with the time and the percent.
    """

    def __init__(self, rate: float, seed: int, *, slower: float = 1.0, failing: float = 0.0, busy: bool = True) -> None:
        self.rate = rate
        self.slower = slower
        self.failing = failing
        self.busy = busy
        self.random = random.Random(seed)
        self._load = 0.0

    def _how_many(self, of: float, share: float) -> int:
        spread = math.sqrt(of * share * (1 - share))
        return max(0, round(self.random.gauss(of * share, spread)))

    def _times(self, count: int, shift: int) -> dict[int, int]:
        drawn = Counter(self.random.choices(_POOL, k=count))
        return {each + shift: many for each, many in drawn.items()}

    def during(self, seconds: float, settings: RampSettings, percent: float) -> Evidence:
        self._load = 0.9 * self._load + self.random.gauss(0.0, 0.1)  # bursts, which slow down all requests alike
        shift = round(abs(self._load) * 100) if self.busy else 0
        requests = self.rate * seconds
        if settings.live_p99_ratio is None:
            tries = self._how_many(requests, percent / 100)
            return Evidence(tries=tries, errors=self._how_many(tries, self.failing))
        held = self._how_many(requests, settings.hold_out / 100)
        mirrored = self._how_many(requests, (1 - settings.hold_out / 100) * percent / 100)
        slower = round(math.log(self.slower) / math.log(1.01))
        return Evidence(
            self._times(mirrored, shift + slower),
            self._times(held, shift),
            mirrored,
            self._how_many(mirrored, self.failing),
        )


class Run:
    """A ramp with its traffic, on a clock that starts at 1,000."""

    def __init__(self, settings: RampSettings, traffic: Traffic) -> None:
        self.settings = settings
        self.traffic = traffic
        self.now = 1_000.0
        self.state: RampState = begin(self.now)
        self.steps: list[tuple[float, Step]] = []

    @property
    def percent(self) -> float:
        return self.settings.percent(self.state.step)

    @property
    def back(self) -> list[Step]:
        return [step for _, step in self.steps if step.is_back]

    def go_on(self, seconds: float) -> None:
        until = self.now + seconds
        every = self.settings.look_every
        while self.now < until:
            evidence = self.traffic.during(every, self.settings, self.percent)
            self.now += every
            self.state, step = advance(self.settings, self.state, evidence, self.now)
            if step is not None:
                self.steps.append((self.now - 1_000.0, step))


# --- steps ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("start", "to", "steps"),
    [
        (1.0, 100.0, (1.0, 2.0, 4.0, 8.0, 16.0, 32.0, 64.0, 100.0)),
        (5.0, 20.0, (5.0, 10.0, 20.0)),
        (60.0, 100.0, (60.0, 100.0)),
        (0.5, 0.6, (0.5, 0.6)),
    ],
)
def test_each_step_is_at_most_twice_the_one_before(start: float, to: float, steps: tuple[float, ...]) -> None:
    settings = replace(SETTINGS, start=start, to=to)
    assert settings.steps == steps
    assert settings.step_time == settings.over / (len(steps) - 1)


def test_a_percent_has_the_step_that_is_not_above_it() -> None:
    found = [SETTINGS.step_at(percent) for percent in (0.0, 0.5, 1.0, 3.0, 63.9, 64.0, 100.0)]
    assert found == [1, 1, 1, 2, 6, 7, 8]
    assert SETTINGS.percent(0) == 0.0
    assert SETTINGS.percent(8) == 100.0


# --- what evidence says -----------------------------------------------------------------------------------------------


def test_a_bin_tells_a_time_to_half_a_percent() -> None:
    for milliseconds in (0.01, 0.3, 1.0, 17.0, 950.0, 600_000.0):
        seconds = milliseconds / 1000
        assert seconds_of(bin_of(seconds)) == pytest.approx(seconds, rel=0.0051)
    assert bin_of(0.0) == bin_of(1e-9)


def test_arms_count_from_nothing_after_each_take() -> None:
    arms = Arms()
    arms.count_live(20.0, mirrored=True)
    arms.count_live(20.0, mirrored=True)
    arms.count_live(30.0, mirrored=False)
    for status in (200, 404, 503):
        arms.count_answer(status)
    for outcome in Outcome:
        arms.count_missing(outcome)
    assert Evidence(*arms.take()) == Evidence({bin_of(0.020): 2}, {bin_of(0.030): 1}, 11, 9, 1)
    assert Evidence(*arms.take()) == Evidence()


def test_evidence_adds_up() -> None:
    one, other = Evidence({1: 2, 3: 4}, {1: 1}, 6, 1, 0), Evidence({1: 1}, {2: 5}, 1, 0, 7)
    assert add([one, other]) == Evidence({1: 3, 3: 4}, {1: 1, 2: 5}, 7, 1, 7)


def _errors(tries: int, errors: int, allowed: float = 0.02) -> Word:
    settings = replace(SETTINGS, live_p99_ratio=None, shadow_errors=allowed)
    (found,) = judge(settings, Evidence(tries=tries, errors=errors))
    return found.word


@pytest.mark.parametrize(
    ("tries", "errors", "word"),
    [
        (0, 0, Word.TOO_LITTLE),
        (19, 19, Word.TOO_LITTLE),  # a shadow that only starts
        (20, 20, Word.BROKEN),
        (99, 2, Word.TOO_LITTLE),
        (100, 2, Word.MET),
        (100, 3, Word.UNSURE),
        (1_000, 30, Word.UNSURE),
        (1_000, 60, Word.BROKEN),
        (100_000, 2_300, Word.BROKEN),
    ],
)
def test_a_share_of_errors_is_judged_by_a_bound(tries: int, errors: int, word: Word) -> None:
    assert _errors(tries, errors) is word


def test_where_no_error_is_allowed_one_is_enough() -> None:
    assert _errors(100, 0, allowed=0.0) is Word.MET
    assert _errors(20, 1, allowed=0.0) is Word.BROKEN
    assert _errors(100, 100, allowed=1.0) is Word.MET


def _live(mirrored: dict[int, int], held_out: dict[int, int], allowed: float = 1.05) -> ramping.Judged:
    settings = replace(SETTINGS, live_p99_ratio=allowed, shadow_errors=None)
    (found,) = judge(settings, Evidence(mirrored, held_out))
    return found


def _tail(fast: int, slow: int, seconds: float) -> dict[int, int]:
    return {bin_of(0.02): fast, bin_of(seconds): slow}


def test_a_p99_is_judged_by_its_bounds() -> None:
    assert _live(_tail(1_000, 100, 2.0), _tail(9_000, 0, 1.0)).word is Word.TOO_LITTLE
    # Beyond the p99 of the others, but by less than chance can do:
    assert _live(_tail(1_180, 20, 2.0), _tail(1_200, 0, 1.0)).word is Word.UNSURE
    found = _live(_tail(1_000, 200, 2.0), _tail(1_200, 0, 1.0))
    assert found.word is Word.BROKEN
    assert found.figure == pytest.approx(100, rel=0.02)
    assert found.low == pytest.approx(100, rel=0.02)
    assert _live(_tail(1_195, 5, 2.0), _tail(1_200, 0, 1.0)).word is Word.MET


def test_a_millisecond_more_is_no_slowdown_whatever_the_ratio() -> None:
    fast = {bin_of(0.0005): 5_000}
    assert _live({bin_of(0.0012): 5_000}, fast).word is Word.MET
    assert _live({bin_of(0.0020): 5_000}, fast).word is Word.BROKEN


def test_a_bound_of_a_p99_errs_less_than_it_says() -> None:
    """Of 3,000 drawn arms of 1,200 requests, none has a p99 that is surely above the true one, or surely below."""
    draws = random.Random(7)
    more, fewer = ramping._surely_more(1_200), ramping._surely_fewer(1_200)
    assert (more, fewer) == (32, 0)
    for _ in range(3_000):
        above = _binomial(draws, 1_200, 0.01)
        assert fewer < above + 1
        assert above < more


def _binomial(draws: random.Random, n: int, p: float) -> int:
    """How many of n, by the gaps between them: quick where p is small."""
    found, at = 0, 0
    while True:
        at += math.floor(math.log(1 - draws.random()) / math.log(1 - p)) + 1
        if at > n:
            return found
        found += 1


# --- rising -----------------------------------------------------------------------------------------------------------


def test_with_enough_requests_the_share_rises_in_its_time() -> None:
    run = Run(replace(SETTINGS, live_p99_ratio=None), Traffic(150.0, seed=3))
    run.go_on(7_100.0)
    assert run.percent == 100.0
    assert run.back == []
    assert [step.after for _, step in run.steps] == [2.0, 4.0, 8.0, 16.0, 32.0, 64.0, 100.0]
    assert run.steps[-1][0] == pytest.approx(7_000, abs=100)
    assert "0 % of" in run.steps[0][1].why


def test_with_few_requests_the_share_waits_for_evidence() -> None:
    run = Run(SETTINGS, Traffic(20.0, seed=3))
    run.go_on(5_000.0)
    assert run.percent == 1.0
    why = ramping.why_not(SETTINGS, run.state, judge(SETTINGS, run.state.evidence), run.now)
    assert why is not None
    assert "needs 1,200 requests of each kind" in why
    run.go_on(9_000.0)
    assert run.percent > 1.0


def test_without_requests_the_share_stays() -> None:
    run = Run(SETTINGS, Traffic(0.0, seed=3))
    run.go_on(100_000.0)
    assert run.steps == []
    assert len(run.state.slices) <= ramping.MOST_SLICES


def _noise(seeds: range, seconds: float, failing: float = 0.0) -> tuple[int, int]:
    """How many steps back in ramps where nothing is wrong, and how many ramps came to 32 %."""
    backs = risen = 0
    for seed in seeds:
        run = Run(SETTINGS, Traffic(60.0, seed, failing=failing))
        run.go_on(seconds)
        backs += len(run.back)
        risen += run.percent >= 32.0
    return backs, risen


def test_noise_alone_does_not_step_back() -> None:
    """A live whose bursts slow all requests down alike, at a rate that makes the ramp take twice its time."""
    assert _noise(range(2), 12_000.0) == (0, 2)


@pytest.mark.soak
def test_noise_alone_does_not_step_back_in_forty_ramps() -> None:
    backs, risen = _noise(range(100, 140), 12_000.0, failing=0.01)
    assert backs == 0
    assert risen >= 37


# --- stepping back ----------------------------------------------------------------------------------------------------


def test_a_live_that_is_slower_where_it_is_mirrored_steps_back() -> None:
    run = Run(SETTINGS, Traffic(150.0, seed=4))
    run.go_on(3_500.0)
    percent = run.percent
    assert percent >= 4.0
    run.traffic.slower = 1.6
    run.go_on(1_500.0)
    assert run.back
    assert run.back[0].before >= percent
    assert "live's p99 of mirrored requests is" in run.back[0].why
    assert "surely above" in run.back[0].why


def test_a_little_slower_than_allowed_never_gets_far() -> None:
    run = Run(SETTINGS, Traffic(150.0, seed=5, slower=1.25))
    run.go_on(12_000.0)
    assert run.percent <= 4.0


def test_a_shadow_that_fails_steps_back_within_a_few_looks() -> None:
    run = Run(SETTINGS, Traffic(150.0, seed=6))
    run.go_on(4_500.0)
    before = len(run.steps)
    run.traffic.failing = 0.5
    run.go_on(60.0)
    assert len(run.steps) > before
    assert run.back[0].after < run.back[0].before
    assert "requests to the shadow failed, 2 % are allowed" in run.back[0].why


def test_a_shadow_that_fails_after_a_long_time_at_the_top_steps_back_soon() -> None:
    settings = replace(SETTINGS, live_p99_ratio=None)
    run = Run(settings, Traffic(100.0, seed=6))
    run.go_on(30_000.0)
    assert run.percent == 100.0
    run.traffic.failing = 0.05
    run.go_on(280.0)
    assert run.percent < 100.0


def test_a_shadow_that_stays_broken_ends_at_nothing_and_is_tried_ever_more_seldom() -> None:
    run = Run(replace(SETTINGS, live_p99_ratio=None), Traffic(400.0, seed=8))
    run.go_on(7_200.0)
    assert run.percent == 100.0
    run.traffic.failing = 1.0
    run.go_on(1_500.0)
    assert run.percent == 0.0
    assert [step.after for _, step in run.steps[-8:]] == [64.0, 32.0, 16.0, 8.0, 4.0, 2.0, 1.0, 0.0]
    assert run.state.failures == 1  # it has failed once, and fell further for the same reason
    run.go_on(300_000.0)
    again = [at for at, step in run.steps if step.before == 0.0]
    waits = [later - earlier for earlier, later in pairwise(again)]
    assert waits[0] == pytest.approx(4 * SETTINGS.step_time, rel=0.1)
    assert waits[1] == pytest.approx(8 * SETTINGS.step_time, rel=0.1)
    assert max(waits) == pytest.approx(ramping.LONGEST * SETTINGS.step_time, rel=0.1)


def test_after_a_step_back_it_waits_and_then_rises_again() -> None:
    run = Run(replace(SETTINGS, live_p99_ratio=None), Traffic(400.0, seed=9))
    run.go_on(4_300.0)
    assert run.percent == 16.0
    run.traffic.failing = 0.3
    run.go_on(20.0)
    assert run.percent == 8.0
    run.traffic.failing = 0.0
    run.go_on(2 * SETTINGS.step_time - 60)
    assert run.percent == 8.0
    assert run.state.failures == 1
    run.go_on(200.0)
    assert run.percent == 16.0
    assert run.state.failures == 1  # not yet: it failed here
    run.go_on(SETTINGS.step_time + 60)
    assert run.percent == 32.0
    assert run.state.failures == 0


def test_what_the_proxy_sheds_for_its_own_sake_holds_the_share() -> None:
    settings = replace(SETTINGS, live_p99_ratio=None)
    state = begin(0.0)
    for now in range(30, 4_000, 10):
        state, step = advance(settings, state, Evidence(tries=100, shed=20), float(now))
        assert step is None
    assert ramping.why_not(settings, state, (), 4_000.0) is not None


def test_the_first_seconds_of_a_step_are_no_evidence() -> None:
    settings = replace(SETTINGS, live_p99_ratio=None)
    state = begin(0.0)
    state, step = advance(settings, state, Evidence(tries=1_000, errors=1_000), settings.settling - 0.1)
    assert step is None
    assert state.slices == ()
    _, step = advance(settings, state, Evidence(tries=1_000, errors=1_000), settings.settling)
    assert step is not None
    assert step.is_back


def test_without_conditions_only_the_time_counts() -> None:
    settings = replace(SETTINGS, live_p99_ratio=None, shadow_errors=None)
    state = begin(0.0)
    state, step = advance(settings, state, Evidence(), settings.step_time - 1)
    assert step is None
    state, step = advance(settings, state, Evidence(), settings.step_time)
    assert step == Step(1.0, 2.0, "the time has passed")
