"""The operators' pauses and percents as one value, and the admin server's commands that change it."""

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Protocol

from shadowproxy.serve.sidecar.specs import Specs


@dataclass(frozen=True, slots=True)
class Steering:
    """Pauses and percents as operators have set them. `percents` has only the shadows whose percent was set.

    `ramps` is where each ramp stands. An operator's percent stands above it, and ends the ramp until it is resumed.
    """

    paused: bool = False
    paused_shadows: frozenset[str] = frozenset()
    percents: Mapping[str, float] = field(default_factory=dict)
    ramps: Mapping[str, float] = field(default_factory=dict)

    def percent(self, name: str, configured: float) -> float:
        """The percent in force."""
        return self.percents.get(name, self.ramps.get(name, configured))

    def ramps_on(self, name: str) -> bool:
        """Whether a ramp sets this shadow's percent."""
        return name in self.ramps and name not in self.percents

    def with_pause(self, name: str | None, *, paused: bool) -> "Steering":
        """With one shadow paused or resumed; without a name, all of them."""
        if name is None:
            return replace(self, paused=paused)
        others = self.paused_shadows - {name}
        return replace(self, paused_shadows=others | {name} if paused else others)

    def with_percent(self, name: str, percent: float) -> "Steering":
        return replace(self, percents={**self.percents, name: percent})

    def without_percent(self, name: str) -> "Steering":
        return replace(self, percents={other: each for other, each in self.percents.items() if other != name})

    def under(self, now: Mapping[str, object], then: Mapping[str, object]) -> "Steering":
        """The part that stays when a file that says `now` of the percents follows one that says `then`.

        A pause stays: only an operator ends it. A percent stays while the file says the same as when it was set, and so
        does a ramp.
        """
        return replace(
            self,
            paused_shadows=self.paused_shadows & now.keys(),
            percents={name: each for name, each in self.percents.items() if name in now and now[name] == then[name]},
            ramps={name: each for name, each in self.ramps.items() if name in now and now[name] == then[name]},
        )


UNSTEERED = Steering()


class Steerable(Protocol):
    """A program that operators steer."""

    @property
    def specs(self) -> Specs: ...

    @property
    def steering(self) -> Steering: ...

    async def steer(self, steering: Steering) -> None:
        """Put `steering` in force. Raises Unconfirmed where a worker has not confirmed it in time."""


class SteeringCommands:
    """The part of `admin.operated.Operated` that changes something: each command makes one new `Steering`.

    Each raises KeyError for a name that no shadow has, and what `steer` raises.
    """

    def __init__(self, program: Steerable) -> None:
        self._program = program

    async def pause(self, name: str | None) -> None:
        await self._program.steer(self._steering(name).with_pause(name, paused=True))

    async def resume(self, name: str | None) -> None:
        """End a pause. By name, it also ends an operator's percent where there is a ramp, which then goes on."""
        steering = self._steering(name).with_pause(name, paused=False)
        if name is not None and name in self._program.specs.live.ramps:
            steering = steering.without_percent(name)
        await self._program.steer(steering)

    async def set_percent(self, name: str, percent: float) -> None:
        await self._program.steer(self._steering(name).with_percent(name, percent))

    def _steering(self, name: str | None) -> Steering:
        if name is not None and name not in self._program.specs.live.percents:
            raise KeyError(name)
        return self._program.steering
