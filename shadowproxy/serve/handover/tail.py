"""The exchanges that came since a live process sent its last census, as counts: what its last census does not have.

A census goes out a few times a second. When its sender is killed, the census and this tail together are what it had
counted about settled exchanges: neither a request nor a shadow's outcome is missing.
"""

from collections import Counter

from shadowproxy.exchange import CONTROL, Exchange, LiveLeg, Outcome, Reply, ShadowLeg, Skipped
from shadowproxy.serve.telemetry.durations import DurationBuckets


class ShadowTail:
    """One shadow's legs, or the control's: all of them in `outcomes`, and in `times` those that began."""

    __slots__ = ("outcomes", "times")

    def __init__(self) -> None:
        self.outcomes: Counter[Outcome] = Counter()
        self.times = DurationBuckets()

    def add(self, leg: ShadowLeg) -> None:
        self.outcomes[_outcome(leg)] += 1
        if not isinstance(leg, Skipped):
            self.times.add(leg.total_ms / 1000)

    @property
    def chosen(self) -> int:
        return sum(self.outcomes.values())


class Tail:
    """`count` exchanges. `live_mirrored` has live's times where some leg of a shadow began, `live_alone` the others."""

    __slots__ = ("count", "live_alone", "live_mirrored", "outcomes", "shadows")

    def __init__(self) -> None:
        self.count = 0
        self.outcomes: Counter[Outcome] = Counter()
        self.live_mirrored = DurationBuckets()
        self.live_alone = DurationBuckets()
        self.shadows: dict[str, ShadowTail] = {}

    def __repr__(self) -> str:
        return f"<Tail of {self.count} exchanges>"

    def add(self, exchange: Exchange) -> None:
        self.count += 1
        live = exchange.live
        self.outcomes[_outcome(live)] += 1
        mirrored = False
        for name, leg in exchange.shadows.items():
            self._shadow(name).add(leg)
            mirrored = mirrored or not isinstance(leg, Skipped)
        if exchange.control is not None:
            self._shadow(CONTROL).add(exchange.control)
            mirrored = mirrored or not isinstance(exchange.control, Skipped)
        (self.live_mirrored if mirrored else self.live_alone).add(live.total_ms / 1000)

    def _shadow(self, name: str) -> ShadowTail:
        if (found := self.shadows.get(name)) is None:
            found = self.shadows[name] = ShadowTail()
        return found


def _outcome(leg: LiveLeg | ShadowLeg) -> Outcome:
    return Outcome.OK if isinstance(leg, Reply) else leg.outcome
