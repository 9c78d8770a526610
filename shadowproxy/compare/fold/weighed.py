"""Counts exchanges whose records stand for several requests each.

Those of one weight are counted together as if it were 1, and their counts are multiplied at the end: so every figure is
weighted, and counting takes no longer. A log has few weights at a time: 1, and the one or two of its share.
"""

from typing import Final

from shadowproxy.compare.fold.counts import Weight
from shadowproxy.compare.fold.pair import Pair
from shadowproxy.compare.fold.pair_builder import PairBuilder

_MOST_APART: Final = 4
"""Weights that are counted apart; the first of more of them is multiplied when a further one comes."""


class WeighedBuilder:
    """Counts exchanges, each with its weight, into a pair. `finish` gives it; it is called once, at the end."""

    __slots__ = ("_apart", "_total", "plain")

    def __init__(self) -> None:
        self.plain: PairBuilder = PairBuilder()
        """Counts those of a log in which all have weight 1."""
        self._apart: dict[Weight, PairBuilder] = {}
        self._total: Pair | None = None

    def of(self, weight: Weight) -> PairBuilder:
        """What counts those of this weight."""
        builder = self._apart.get(weight)
        if builder is None:
            if len(self._apart) >= _MOST_APART:
                first = next(iter(self._apart))
                self._gather(self._apart.pop(first).finish().weighed(first))
            builder = self._apart[weight] = PairBuilder()
        return builder

    def _gather(self, pair: Pair) -> None:
        if self._total is None:
            self._total = pair
        else:
            self._total.absorb(pair)

    def absorb(self, other: "WeighedBuilder") -> None:
        """Add what another counted, which is not used afterwards."""
        self._gather(other.finish())

    def widen(self, doublings: int) -> None:
        """Go on counting in blocks of time twice as wide, `doublings` times."""
        self.plain = PairBuilder(self.plain.finish().widened(doublings))
        for key, builder in self._apart.items():
            self._apart[key] = PairBuilder(builder.finish().widened(doublings))
        if self._total is not None:
            self._total = self._total.widened(doublings)

    def finish(self) -> Pair:
        """The pair of all that was counted. The builder is not used afterwards."""
        pair = self.plain.finish()
        for weight, builder in self._apart.items():
            pair.absorb(builder.finish().weighed(weight))
        if self._total is not None:
            pair.absorb(self._total)
        return pair
