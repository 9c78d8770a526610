"""What operators change while the sidecar runs, and keep under another configuration."""

from collections.abc import Mapping
from dataclasses import dataclass, field, replace

from shadowproxy.config import Config
from shadowproxy.exchange import CONTROL


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


def names(config: Config) -> frozenset[str]:
    """The shadows that can be steered, the control among them."""
    return frozenset(_percents(config))


def _percents(config: Config) -> dict[str, float]:
    percents = {name: shadow.percent for name, shadow in config.shadows.items()}
    return percents | ({CONTROL: config.control.percent} if config.control.percent else {})
