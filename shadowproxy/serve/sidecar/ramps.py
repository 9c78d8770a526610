"""The ramps of the shadows whose percent rises by itself: where each stands, and what it did. `policy.ramping` decides.

The supervisor owns them, so that they outlive every other process. A reload keeps a ramp's place while its section and
the shadow's address stay; a program that is started begins at `from`. An operator's pause or percent wins: meanwhile
the ramp stands still, without evidence, and goes on when it is resumed.
"""

import logging
import time
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace

from shadowproxy.serve.admin.census import RampCensus, RampCondition, RampStep
from shadowproxy.serve.policy import ramping
from shadowproxy.serve.policy.ramping import Evidence, RampSettings, RampState, Step
from shadowproxy.serve.sidecar.specs import LiveSpec
from shadowproxy.serve.sidecar.steering import Steering

_log = logging.getLogger("shadowproxy")


@dataclass(slots=True)
class _Ramp:
    """One shadow's. `due` is when it is looked at next; `halted` says why it stands still, None if it does not.

    `announced`: whether its beginning was logged, at the first look, so that it comes after the line of the start.
    """

    settings: RampSettings
    url: str
    state: RampState
    due: float
    halted: str | None = None
    announced: bool = False
    raised: int = 0
    back: int = 0
    last: RampStep | None = None

    @property
    def percent(self) -> float:
        return self.settings.percent(self.state.step)


class Ramps:
    """All ramps of the configuration in force. Times are by time.monotonic."""

    def __init__(self, live: LiveSpec, now: float) -> None:
        self._ramps: dict[str, _Ramp] = {}
        self.adopt(live, now)

    def __bool__(self) -> bool:
        return bool(self._ramps)

    @property
    def percents(self) -> dict[str, float]:
        """Where each stands."""
        return {name: each.percent for name, each in self._ramps.items()}

    def adopt(self, live: LiveSpec, now: float) -> None:
        """Begin those that are new in this configuration, and drop those that are gone."""
        before = self._ramps
        self._ramps = {}
        for name, (settings, url) in live.ramps.items():
            kept = before.get(name)
            if kept is None or (kept.settings, kept.url) != (settings, url):
                kept = _Ramp(settings, url, ramping.begin(now), now)
            self._ramps[name] = kept

    def follow(self, steering: Steering, now: float) -> Steering:
        """`steering` with where the ramps stand, after an operator may have changed something."""
        for name, each in self._ramps.items():
            halted = _halted(name, steering)
            percent = steering.percents.get(name)
            if percent is not None:
                each.state = ramping.begin_again(each.state, now, each.settings.step_at(percent))
            if halted != each.halted:
                if halted is None:
                    each.state = replace(ramping.begin_again(each.state, now), wait_until=now)
                    each.due = now
                _log_halt(name, halted, each.percent)
                each.halted = halted
        return replace(steering, ramps=self.percents)

    def is_due(self, now: float) -> bool:
        """Whether a ramp is to be looked at."""
        return any(each.due <= now for each in self._ramps.values())

    def advance(self, evidence: Iterable[Mapping[str, Evidence]], now: float) -> bool:
        """Decide by what every live process has counted since the last call. Returns whether a percent has changed."""
        parts = list(evidence)
        changed = False
        for name, each in self._ramps.items():
            each.due = now + each.settings.look_every
            if not each.announced:
                each.announced = True
                _log_begin(name, each.settings)
            if each.halted is not None:
                continue
            found = ramping.add([ramping.NOTHING, *(part[name] for part in parts if name in part)])
            each.state, step = ramping.advance(each.settings, each.state, found, now)
            if step is not None:
                changed = True
                each.raised += not step.is_back
                each.back += step.is_back
                each.last = RampStep(round(time.time(), 3), step.before, step.after, step.why)
                _log_step(name, each, step, now)
        return changed

    def census(self, now: float) -> dict[str, RampCensus]:
        """Where each stands, and why, as operators see it."""
        return {name: _census(each, now) for name, each in self._ramps.items()}


def _halted(name: str, steering: Steering) -> str | None:
    if name in steering.percents:
        return f"an operator has set {steering.percents[name]:g} %"
    if steering.paused or name in steering.paused_shadows:
        return "an operator has paused it"
    return None


def _census(ramp: _Ramp, now: float) -> RampCensus:
    settings, state = ramp.settings, ramp.state
    found = ramping.judge(settings, state.evidence)
    top = state.step == len(settings.steps)
    why = ramp.halted
    if why is None and state.step == 0:
        why = "it waits after a step back"
    if why is None and not top:
        why = ramping.why_not(settings, state, found, now)
    if ramp.halted is not None:
        word = "halted"
    elif state.wait_until > now:
        word = "waiting"
    elif top:
        word = "top"
    else:
        word = "rising" if state.since + settings.step_time > now else "holding"
    earliest = state.wait_until if state.step == 0 else max(state.wait_until, state.since + settings.step_time)
    rises = ramp.halted is None and not top
    return RampCensus(
        state=word,
        steps=settings.steps,
        percent=ramp.percent,
        next_percent=settings.percent(state.step + 1) if rises else None,
        next_at=round(time.time() + earliest - now) if rises else None,
        why=why,
        raised=ramp.raised,
        back=ramp.back,
        last=ramp.last,
        conditions=tuple(
            RampCondition(each.name, each.word, each.figure, each.low, each.allowed, each.says) for each in found
        ),
    )


def _log_begin(name: str, settings: RampSettings) -> None:
    steps = settings.steps
    extra = {"event": "ramp_began", "shadow": name, "from": steps[0], "to": steps[-1], "steps": list(steps)}
    words = "shadow %s begins with %g %% of the requests, and rises to %g %% in %d steps of at least %.4g s"
    _log.info(words, name, steps[0], steps[-1], len(steps) - 1, settings.step_time, extra=extra)


def _log_halt(name: str, halted: str | None, percent: float) -> None:
    if halted is None:
        extra: dict[str, object] = {"event": "ramp_resumed", "shadow": name, "percent": percent}
        _log.info("the ramp of shadow %s goes on, at %g %%", name, percent, extra=extra)
    else:
        extra = {"event": "ramp_halted", "shadow": name, "why": halted}
        _log.warning("the ramp of shadow %s stands still: %s; resuming the shadow ends that", name, halted, extra=extra)


def _log_step(name: str, ramp: _Ramp, step: Step, now: float) -> None:
    extra: dict[str, object] = {
        "event": "ramp_step",
        "shadow": name,
        "from": step.before,
        "to": step.after,
        "why": step.why,
    }
    if step.is_back:
        wait = round(ramp.state.wait_until - now)
        words = "shadow %s steps back from %g %% to %g %% of the requests, for %d s at least: %s"
        _log.warning(words, name, step.before, step.after, wait, step.why, extra={**extra, "seconds": wait})
    else:
        words = "shadow %s rises from %g %% to %g %% of the requests: %s"
        _log.info(words, name, step.before, step.after, step.why, extra=extra)
