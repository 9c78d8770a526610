"""The operators' pauses and percents as one value, and the admin server's commands that change it."""

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Protocol

from shadowproxy.serve.sidecar.specs import Specs


@dataclass(frozen=True, slots=True)
class Steering:
    """Pauses and percents as operators have set them. `percents` has only the shadows whose percent was set."""

    paused: bool = False
    paused_shadows: frozenset[str] = frozenset()
    percents: Mapping[str, float] = field(default_factory=dict)

    def with_pause(self, name: str | None, *, paused: bool) -> "Steering":
        """With one shadow paused or resumed; without a name, all of them."""
        if name is None:
            return replace(self, paused=paused)
        others = self.paused_shadows - {name}
        return replace(self, paused_shadows=others | {name} if paused else others)

    def with_percent(self, name: str, percent: float) -> "Steering":
        return replace(self, percents={**self.percents, name: percent})

    def under(self, now: Mapping[str, float], then: Mapping[str, float]) -> "Steering":
        """The part that stays when a file with the percents `now` follows one with those of `then`.

        A pause stays: only an operator ends it. A percent stays while the file says the same as when it was set.
        """
        return replace(
            self,
            paused_shadows=self.paused_shadows & now.keys(),
            percents={name: each for name, each in self.percents.items() if name in now and now[name] == then[name]},
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
        await self._program.steer(self._steering(name).with_pause(name, paused=False))

    async def set_percent(self, name: str, percent: float) -> None:
        await self._program.steer(self._steering(name).with_percent(name, percent))

    def _steering(self, name: str | None) -> Steering:
        if name is not None and name not in self._program.specs.live.percents:
            raise KeyError(name)
        return self._program.steering
