"""Counts what a ramp is decided by: live's times with and without mirroring, and how a shadow's requests ended."""

import math
from typing import Final

WIDTH: Final = math.log(1.01)
"""Each bin is 1 % wider than the one before: a time is told to half a percent."""

_LEAST: Final = 1e-6


def bin_of(seconds: float) -> int:
    """The bin of a time."""
    return math.floor(math.log(max(seconds, _LEAST)) / WIDTH)


def seconds_of(number: int) -> float:
    """The middle of a bin."""
    return math.exp((number + 0.5) * WIDTH)


class Arms:
    """The counts of one shadow since the last `take`. `mirrored` and `held_out` have live's times, by bin.

    `tries` are requests that the shadow answered or failed to answer, `errors` those of them that failed, `shed` those
    that the proxy did not send for its own sake.
    """

    __slots__ = ("errors", "held_out", "mirrored", "shed", "tries")

    def __init__(self) -> None:
        self.mirrored: dict[int, int] = {}
        self.held_out: dict[int, int] = {}
        self.tries = 0
        self.errors = 0
        self.shed = 0

    def take(self) -> tuple[dict[int, int], dict[int, int], int, int, int]:
        """The counts, as `ramping.Evidence` has them; from now on they begin at 0."""
        taken = self.mirrored, self.held_out, self.tries, self.errors, self.shed
        self.mirrored, self.held_out = {}, {}
        self.tries = self.errors = self.shed = 0
        return taken


def count_time(arm: dict[int, int], seconds: float) -> None:
    """Add one of live's times."""
    number = bin_of(seconds)
    arm[number] = arm.get(number, 0) + 1
