"""One measure of both answers to the same requests, in bins by block of time."""

from dataclasses import dataclass, field

from shadowproxy.compare.fold.bins import Bins, bin_of
from shadowproxy.compare.fold.sums import Sums
from shadowproxy.compare.fold.tables import Parts


@dataclass(slots=True)
class Measured(Parts):
    """A measure of the requests for which both answers have it. `gap` is the shadow's less live's."""

    live: Bins = field(default_factory=Bins)
    shadow: Bins = field(default_factory=Bins)
    gap: Bins = field(default_factory=Bins)

    def add(self, block: int, live: int | float | None, shadow: int | float | None) -> None:
        """Count one request, if both have the measure."""
        if live is not None and shadow is not None:
            self.live.add(block, bin_of(live))
            self.shadow.add(block, bin_of(shadow))
            self.gap.add(block, bin_of(shadow - live))


@dataclass(slots=True)
class Totalled(Measured):
    """The same of a measure that adds up. `sums` has live's, the shadow's and the number of requests, exactly."""

    sums: Sums = field(default_factory=Sums)

    def add(self, block: int, live: int | float | None, shadow: int | float | None) -> None:
        Measured.add(self, block, live, shadow)
        if live is not None and shadow is not None:
            self.sums.add(block, float(live), float(shadow), 1.0)
