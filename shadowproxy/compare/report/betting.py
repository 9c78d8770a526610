"""An interval for the mean of bounded observations that holds at every look: one may stop once it is narrow enough.

I. Waudby-Smith and A. Ramdas, Estimating means of bounded random variables by betting, JRSS B 86 (2024) 1-27, their
hedged capital with predictable plug-in bets. Against each possible mean m two players bet: one that the mean is higher,
one that it is lower. If m is the mean, they gain by luck only, and by Ville's inequality one of them reaches 2/alpha
times its stake with a probability of at most alpha, at any time. So an m that made one of them so rich is left out.

The bets do not depend on m, but for a bound that falls with it. So the first player's wealth falls with m, and the
means that are left out are those below a line; the other's likewise. The line is looked for on a grid, and set to the
last point of it that is left out, which makes the interval wider by less than a step of the grid.
"""

import math
from typing import Final

STEPS: Final = 1000
"""Steps of the grid between 0 and 1."""

ALPHA: Final = 0.05

_STAKE: Final = 0.5  # of its wealth that a player may lose at once: the paper's choice


class Interval:
    """The interval of the mean of observations between 0 and 1, each with this mean given all before it.

    Attributes:
        low, high: the mean lies between them with a confidence of 1 - alpha, at all times together.
        n: how many observations there were.
    """

    def __init__(self, alpha: float = ALPHA) -> None:
        self.n = 0
        self._line = math.log(2 / alpha)
        self._higher = [0.0] * (STEPS + 1)  # the logarithm of each player's wealth, by the point of the grid
        self._lower = [0.0] * (STEPS + 1)
        self._from = 0  # the points below it, and this one, are left out; 0 cannot be
        self._to = STEPS
        self._mean = 0.5  # of what was seen, with one observation in the middle before all others
        self._sum = 0.5
        self._squares = 0.25  # of the distances to the means at the time

    @property
    def low(self) -> float:
        return self._from / STEPS

    @property
    def high(self) -> float:
        return self._to / STEPS

    def add(self, value: float) -> None:
        """Take one more observation. Raises ValueError if it does not lie between 0 and 1."""
        if not 0 <= value <= 1:
            raise ValueError(f"{value} is not between 0 and 1")
        self.n += 1
        variance = self._squares / self.n
        bet = math.sqrt(2 * self._line / (variance * self.n * math.log1p(self.n)))
        for at in range(self._from + 1, self._to):
            mean = at / STEPS
            self._higher[at] += math.log1p(min(bet, _STAKE / mean) * (value - mean))
            self._lower[at] += math.log1p(min(bet, _STAKE / (1 - mean)) * (mean - value))
        while self._from + 1 < self._to and self._higher[self._from + 1] >= self._line:
            self._from += 1
        while self._to - 1 > self._from and self._lower[self._to - 1] >= self._line:
            self._to -= 1
        self._sum += value
        self._mean = self._sum / (self.n + 1)
        self._squares += (value - self._mean) ** 2
