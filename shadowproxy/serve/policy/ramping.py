"""Decides when a shadow's share of the requests rises, and when it steps back. Pure: times and counts are given.

The rules:

1. The share goes by steps: the first is `from`, each is twice the one before, the last is `to`. So a step at most
   doubles what the shadow gets. Every step lasts at least its equal part of `over`.
2. It rises if there is enough evidence of each condition and none of them looks broken. What looks broken, but may be
   chance, holds the share where it is until more requests say.
3. It steps back as soon as a condition is surely broken: a bound of CHANCE, not the figure itself, is beyond what is
   allowed. Below `from` is nothing, from which it begins again.
4. After a step back it waits before it rises: two step times, twice as long after each further failure up to LONGEST.
5. Evidence belongs to one step: each begins without any, and leaves out what may still come of the step before.
6. Live's p99 of mirrored requests is compared with that of requests which were held out by chance. Chance alone decides
   which requests are in which arm, so busy times, which slow down both, say nothing.

The bounds are Chernoff's for a binomial share, in the form of Hoeffding (1963), theorem 1: P(share of n >= q) is at
most exp(-n KL(q, p)). They need no tables and are right for every n. A p99 is above a value if more than 1 % of the
requests are: so the same bound gives an interval of the p99, whatever the distribution is.
"""

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from enum import StrEnum
from typing import Final, NamedTuple

from shadowproxy.serve.policy.arms import seconds_of

CHANCE: Final = 1e-5
"""The most that one bound errs, for one look. Looks are many but alike: see the simulations in test_ramping.py."""

ENOUGH: Final = 1_200
"""Requests in each arm to judge a p99: the least n with (1 - 0.01)^n < CHANCE is 1,146."""

TRIES: Final = 100
"""Requests to the shadow from which on its share of errors lets it rise."""

FEW: Final = 20
"""Requests to the shadow from which on its share of errors lets it step back."""

LEAST: Final = 0.001
"""Seconds that a p99 may be higher whatever the ratio: the proxy's own work for a copy, with a very fast live."""

CROWDED: Final = 0.05
"""The share of its requests that the proxy may shed for its own sake before it holds the share."""

PARTS: Final = 4
"""Slices of a step, in which evidence is kept."""

LOOKS: Final = 120
"""The most looks in a step's time."""

KEPT: Final = 8
"""Steps' times for which evidence is kept, and longer if it would not be enough."""

MOST_SLICES: Final = 64
LONGEST: Final = 32
"""Steps' times: the longest wait after a step back."""

_TAIL: Final = 0.01
_NEEDED: Final = -math.log(CHANCE)


@dataclass(frozen=True, slots=True)
class RampSettings:
    """`start` to `to` percent within `over` seconds. `hold_out` percent of the requests never go to the shadow.

    `live_p99_ratio` and `shadow_errors`, a share, are the most that is allowed, None without this condition. `timeout`
    is the shadow's: for so long a step may still bring answers of the step before.
    """

    start: float
    to: float
    over: float
    hold_out: float
    live_p99_ratio: float | None
    shadow_errors: float | None
    timeout: float

    @property
    def steps(self) -> tuple[float, ...]:
        """The percents, from `start` to `to`."""
        found = [self.start]
        while found[-1] * 2 < self.to:
            found.append(found[-1] * 2)
        return (*found, self.to)

    @property
    def step_time(self) -> float:
        """The least seconds of a step."""
        return self.over / (len(self.steps) - 1)

    @property
    def settling(self) -> float:
        """Seconds at the beginning of a step that are no evidence."""
        return min(self.timeout, self.step_time / PARTS)

    @property
    def look_every(self) -> float:
        """Seconds between two calls of `advance`: more looks see little more, and each may err."""
        return max(1.0, self.step_time / LOOKS)

    def percent(self, step: int) -> float:
        """The percent of a step, counted from 1; step 0 is nothing."""
        return self.steps[step - 1] if step else 0.0

    def step_at(self, percent: float) -> int:
        """The highest step that is not above `percent`, at least the first."""
        return max(1, sum(each <= percent for each in self.steps))


class Evidence(NamedTuple):
    """Counts of one time. The two arms have how many of live's times are in each bin (`arms.bin_of`).

    `tries` are the requests that the shadow answered or failed to answer, `errors` those of them that failed. `shed`
    are those that the proxy did not send for its own sake.
    """

    mirrored: Mapping[int, int] = {}
    held_out: Mapping[int, int] = {}
    tries: int = 0
    errors: int = 0
    shed: int = 0


NOTHING: Final = Evidence()


def add(parts: Sequence[Evidence]) -> Evidence:
    """All of them together."""
    if len(parts) == 1:
        return parts[0]
    mirrored = dict(parts[0].mirrored)
    held_out = dict(parts[0].held_out)
    for part in parts[1:]:
        for total, arm in ((mirrored, part.mirrored), (held_out, part.held_out)):
            for each, count in arm.items():
                total[each] = total.get(each, 0) + count
    return Evidence(
        mirrored,
        held_out,
        sum(part.tries for part in parts),
        sum(part.errors for part in parts),
        sum(part.shed for part in parts),
    )


class Word(StrEnum):
    """What evidence says about a condition."""

    BROKEN = "broken"
    UNSURE = "unsure"
    MET = "met"
    TOO_LITTLE = "too_little"


@dataclass(frozen=True, slots=True)
class Judged:
    """A condition: its `name` in the configuration, the figure with its surest lower bound, and what is allowed.

    `figure` and `low` are None where there is too little to say. `says` is one phrase.
    """

    name: str
    word: Word
    figure: float | None
    low: float | None
    allowed: float
    says: str


def judge(settings: RampSettings, evidence: Evidence) -> tuple[Judged, ...]:
    """Every condition of the configuration."""
    found: list[Judged] = []
    if settings.live_p99_ratio is not None:
        found.append(_judge_live(evidence, settings.live_p99_ratio))
    if settings.shadow_errors is not None:
        found.append(_judge_errors(evidence, settings.shadow_errors))
    return tuple(found)


def _judge_live(evidence: Evidence, allowed: float) -> Judged:
    name = "live_p99_ratio"
    arms = evidence.mirrored, evidence.held_out
    mirrored, held_out = (sum(arm.values()) for arm in arms)
    if min(mirrored, held_out) < ENOUGH:
        says = f"live's p99 needs {ENOUGH:,} requests of each kind: {mirrored:,} mirrored, {held_out:,} held out so far"
        return Judged(name, Word.TOO_LITTLE, None, None, allowed, says)
    ours, others = (_largest(arm, math.floor(_TAIL * sum(arm.values())) + 1) for arm in arms)
    above = _surely_more(mirrored)
    low, high = _largest(evidence.mirrored, above), _largest(evidence.held_out, _surely_fewer(held_out) + 1)
    ratio = ours / others
    says = f"live's p99 of mirrored requests is {ratio:.3g} times that of held-out ones, {allowed:g} is allowed"
    if low > max(allowed * high, high + LEAST):
        word = Word.BROKEN
        says += f"; it is surely above {low / high:.3g}"
    elif ours > max(allowed * others, others + LEAST):
        word = Word.UNSURE
        says += ", and it may be chance"
    else:
        word = Word.MET
    return Judged(name, word, ratio, low / high, allowed, says)


def _judge_errors(evidence: Evidence, allowed: float) -> Judged:
    name = "shadow_errors"
    tries, errors = evidence.tries, min(evidence.errors, evidence.tries)
    if tries < FEW or (tries < TRIES and not _is_above(errors, tries, allowed)):
        says = f"the shadow's errors need {TRIES} requests: {tries} so far"
        return Judged(name, Word.TOO_LITTLE, None, None, allowed, says)
    found = errors / tries
    low = _low(errors, tries)
    says = f"{100 * found:.3g} % of {tries:,} requests to the shadow failed, {100 * allowed:g} % are allowed"
    if _is_above(errors, tries, allowed):
        word = Word.BROKEN
        says += f"; it is surely above {100 * low:.3g} %"
    elif found > allowed:
        word = Word.UNSURE
        says += ", and it may be chance"
    else:
        word = Word.MET
    return Judged(name, word, found, low, allowed, says)


def _distance(share: float, p: float) -> float:
    """Kullback and Leibler's, of a share from the probability `p`; infinite where `p` cannot give it."""
    total = 0.0
    for found, expected in ((share, p), (1 - share, 1 - p)):
        if found > 0:
            if expected <= 0:
                return math.inf
            total += found * math.log(found / expected)
    return total


def _is_above(count: int, of: int, p: float) -> bool:
    """Whether so many are surely more than a share of `p`."""
    return count > p * of and of * _distance(count / of, p) >= _NEEDED


def _low(count: int, of: int) -> float:
    """The highest share that `count` of `of` is surely above; 0 if of none."""
    low, high = 0.0, count / of
    for _ in range(40):
        middle = (low + high) / 2
        low, high = (middle, high) if _is_above(count, of, middle) else (low, middle)
    return low


def _surely_more(of: int) -> int:
    """The least number of `of` requests that is surely more than 1 % of them."""
    low, high = math.floor(_TAIL * of), of
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (low, middle) if _is_above(middle, of, _TAIL) else (middle, high)
    return high


def _surely_fewer(of: int) -> int:
    """The greatest number of `of` requests that is surely less than 1 % of them. There must be ENOUGH."""
    low, high = 0, math.ceil(_TAIL * of)
    while high - low > 1:
        middle = (low + high) // 2
        is_less = middle < _TAIL * of and of * _distance(middle / of, _TAIL) >= _NEEDED
        low, high = (middle, high) if is_less else (low, middle)
    return low


def _largest(arm: Mapping[int, int], rank: int) -> float:
    """The time of the rank-th slowest request, in seconds, by the middle of its bin."""
    for each in sorted(arm, reverse=True):
        rank -= arm[each]
        if rank <= 0:
            return seconds_of(each)
    raise ValueError("the arm has fewer requests")


# --- the state, and what becomes of it --------------------------------------------------------------------------------


class Slice(NamedTuple):
    """The evidence since `began`, until the next slice."""

    began: float
    evidence: Evidence


@dataclass(frozen=True, slots=True)
class RampState:
    """Where a ramp stands. `step` counts from 1, at 0 nothing is mirrored; `since` is when the step began.

    `evidence` is all that is known of the present step, in `slices` by time. `failures` counts the steps back that no
    clean time at `failed` followed, `wait_until` is when it may rise again. Times are of one clock.
    """

    step: int
    since: float
    slices: tuple[Slice, ...] = ()
    evidence: Evidence = NOTHING
    failures: int = 0
    failed: int = 0
    wait_until: float = 0.0

    @property
    def recent(self) -> Evidence:
        """The evidence of the last slices: what begins to fail after a long time is seen there first."""
        return _sum(self.slices[-2:])


@dataclass(frozen=True, slots=True)
class Step:
    """A change of the share from `before` to `after`, in percent, with the reason."""

    before: float
    after: float
    why: str

    @property
    def is_back(self) -> bool:
        return self.after < self.before


def begin(now: float) -> RampState:
    """At the first step."""
    return RampState(1, now)


def begin_again(state: RampState, now: float, step: int | None = None) -> RampState:
    """The same after a time that says nothing, such as a pause: at `step`, without evidence."""
    return replace(state, step=state.step if step is None else step, since=now, slices=(), evidence=NOTHING)


def advance(settings: RampSettings, state: RampState, evidence: Evidence, now: float) -> tuple[RampState, Step | None]:
    """The state after `evidence`, which came since the last call, and the step up or back if there is one."""
    if state.step == 0:
        if now < state.wait_until:
            return state, None
        return _move(settings, state, 1, now, "it begins again")
    if now - state.since < settings.settling:
        return state, None
    state = _with(settings, state, evidence, now)
    found = judge(settings, state.evidence)
    for each in (*judge(settings, state.recent), *found):
        if each.word is Word.BROKEN:
            return _step_back(settings, state, now, each.says)
    if why_not(settings, state, found, now) is not None:
        return state, None
    if state.step >= state.failed:
        state = replace(state, failures=0, failed=0)
    if state.step == len(settings.steps):
        return state, None
    return _move(settings, state, state.step + 1, now, "; ".join(each.says for each in found) or "the time has passed")


def why_not(settings: RampSettings, state: RampState, found: Sequence[Judged], now: float) -> str | None:
    """Why the share does not rise now; None if nothing is against it. `found` is what `judge` says of the evidence."""
    if state.wait_until > now:
        return f"it waits after a step back, {math.ceil(state.wait_until - now)} s more"
    left = state.since + settings.step_time - now
    if left > 0:
        return f"this step lasts {math.ceil(left)} s more"
    for each in found:
        if each.word is not Word.MET:
            return each.says
    evidence = state.evidence
    if evidence.shed > CROWDED * (evidence.tries + evidence.shed):
        return f"the proxy is short of time or memory, and shed {evidence.shed:,} of the shadow's requests"
    return None


def _step_back(settings: RampSettings, state: RampState, now: float, why: str) -> tuple[RampState, Step]:
    waits_already = state.wait_until > now  # then it falls further for the same reason, and has failed once
    failures = max(1, state.failures) if waits_already else state.failures + 1
    wait = settings.step_time * min(2**failures, LONGEST)
    state = replace(state, failures=failures, failed=max(state.failed, state.step), wait_until=now + wait)
    return _move(settings, state, state.step - 1, now, why)


def _move(settings: RampSettings, state: RampState, step: int, now: float, why: str) -> tuple[RampState, Step]:
    made = Step(settings.percent(state.step), settings.percent(step), why)
    return begin_again(state, now, step), made


def _with(settings: RampSettings, state: RampState, evidence: Evidence, now: float) -> RampState:
    """With `evidence`, and without what is too old, unless the rest would be too little; at most MOST_SLICES."""
    slices = state.slices
    if slices and now - slices[-1].began < settings.step_time / PARTS:
        last = slices[-1]
        slices = (*slices[:-1], Slice(last.began, add([last.evidence, evidence])))
        return replace(state, slices=slices, evidence=add([state.evidence, evidence]))
    slices = (*slices, Slice(now, evidence))
    while len(slices) > 2 and now - slices[1].began > KEPT * settings.step_time:
        if any(each.word is Word.TOO_LITTLE for each in judge(settings, _sum(slices[1:]))):
            break
        slices = slices[1:]
    if len(slices) > MOST_SLICES:
        slices = tuple(_paired(slices))
    return replace(state, slices=slices, evidence=_sum(slices))


def _sum(slices: Sequence[Slice]) -> Evidence:
    return add([each.evidence for each in slices]) if slices else NOTHING


def _paired(slices: Sequence[Slice]) -> Iterator[Slice]:
    """Every two neighbours as one, but the last two."""
    older = slices[:-2]
    for at in range(0, len(older), 2):
        yield Slice(older[at].began, _sum(older[at : at + 2]))
    yield from slices[-2:]
