"""What each of several workers is given: its share of the configuration, and what went before."""

from collections.abc import Mapping
from dataclasses import dataclass, field, replace

from shadowproxy.config import Budget, Config
from shadowproxy.serve.census import Census
from shadowproxy.serve.lane import CONTROL
from shadowproxy.serve.operator_log import Telling


@dataclass(frozen=True, slots=True)
class Steering:
    """What operators have changed while it runs. `percents` has the shadows whose percent was set."""

    paused: bool = False
    paused_shadows: frozenset[str] = frozenset()
    percents: Mapping[str, float] = field(default_factory=dict)

    def turned(self, name: str | None, *, paused: bool) -> "Steering":
        """With a shadow, or without a name all of them, paused or resumed."""
        if name is None:
            return replace(self, paused=paused)
        others = self.paused_shadows - {name}
        return replace(self, paused_shadows=others | {name} if paused else others)

    def with_percent(self, name: str, percent: float) -> "Steering":
        return replace(self, percents={**self.percents, name: percent})

    def under(self, config: Config, before: Config) -> "Steering":
        """What of it outlives a new configuration: a percent, while the file says the same as when it was set."""
        now, then = _percents(config), _percents(before)
        return replace(
            self,
            paused_shadows=self.paused_shadows & now.keys(),
            percents={name: each for name, each in self.percents.items() if name in now and now[name] == then[name]},
        )


@dataclass(frozen=True, slots=True)
class Used:
    """What was used of a shadow's budget before: requests begun, and the seconds left, None where unbounded."""

    begun: int
    left: float | None


@dataclass(frozen=True, slots=True)
class Start:
    """What a worker begins with. `config` is its share of the whole, `number` its own among `workers`, from 0.

    `outputs` are the files that standard error and output are, by the names that they had when all of it began.
    """

    number: int
    workers: int
    config: Config
    telling: Telling
    steering: Steering
    used: Mapping[str, Used]
    outputs: Mapping[int, str] = field(default_factory=dict)


def share(config: Config, number: int) -> Config:
    """What worker `number` is to keep to, so that all of them together keep to `config`.

    Memory and budgets are shared out evenly; what is left over of a budget goes to the first workers.
    """
    workers = config.workers
    return replace(
        config,
        workers=1,
        limits=replace(config.limits, memory=config.limits.memory // workers),
        shadows={
            name: replace(shadow, budget=_budget(shadow.budget, number, workers))
            for name, shadow in config.shadows.items()
        },
    )


def used(census: Census | None) -> dict[str, Used]:
    """What a worker that counted this had used of its budgets."""
    shadows = census.shadows if census is not None else ()
    return {shadow.name: Used(shadow.begun, shadow.budget_left) for shadow in shadows}


def names(config: Config) -> frozenset[str]:
    """The shadows that can be steered, the control among them."""
    return frozenset(_percents(config))


def _percents(config: Config) -> dict[str, float]:
    percents = {name: shadow.percent for name, shadow in config.shadows.items()}
    return percents | ({CONTROL: config.control.percent} if config.control.percent else {})


def _budget(budget: Budget, number: int, workers: int) -> Budget:
    if budget.requests is None:
        return budget
    each, over = divmod(budget.requests, workers)
    return replace(budget, requests=each + (number < over))
