"""Counts what a ramp is decided by: live's times with and without mirroring, and how a shadow's requests ended."""

import math
from typing import Final

from shadowproxy.exchange import Outcome

WIDTH: Final = math.log(1.01)
"""Each bin is 1 % wider than the one before: a time is known to half a percent."""

_LEAST: Final = 1e-6

_ERRORS: Final = frozenset(
    {
        Outcome.TIMEOUT,
        Outcome.CONNECT_ERROR,
        Outcome.TLS_ERROR,
        Outcome.PROTOCOL_ERROR,
        Outcome.INCOMPLETE,
        Outcome.ANSWER_OVERSIZE,
        Outcome.LANE_FULL,  # it is too slow for its share
        Outcome.BREAKER_OPEN,  # it failed shortly before
    }
)


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

    def count_answer(self, status: int) -> None:
        """Count a request that the shadow answered."""
        self.tries += 1
        if status >= 500:
            self.errors += 1

    def count_missing(self, outcome: Outcome) -> None:
        """Count a request without a whole answer. What says nothing about the shadow counts nowhere."""
        if outcome in _ERRORS:
            self.tries += 1
            self.errors += 1
        elif outcome is Outcome.OVERLOAD:
            self.shed += 1

    def count_live(self, milliseconds: float, *, mirrored: bool) -> None:
        """Count live's time for a request that was chosen for the shadow, or held out."""
        arm = self.mirrored if mirrored else self.held_out
        number = bin_of(milliseconds / 1000)
        arm[number] = arm.get(number, 0) + 1

    def take(self) -> tuple[dict[int, int], dict[int, int], int, int, int]:
        """The counts, as `ramping.Evidence` has them; from now on they begin at 0."""
        taken = self.mirrored, self.held_out, self.tries, self.errors, self.shed
        self.mirrored, self.held_out = {}, {}
        self.tries = self.errors = self.shed = 0
        return taken
