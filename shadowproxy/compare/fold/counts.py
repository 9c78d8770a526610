"""Counts that add up: by word, by number, and by block of time.

Blocks of time are aligned to the epoch, so two neighbours become the same wider block wherever they are merged.

A record may stand for several requests: that is its weight, and every count is one of requests. A series keeps besides
how many records were written and the sum of their squared weights, which is what an interval needs.
"""

from collections import Counter
from collections.abc import Iterable, Mapping
from itertools import chain
from typing import Any, Final, NamedTuple, Self, TypeVar

W = TypeVar("W", str, int)


class Weight(NamedTuple):
    """How many requests a record stands for (`times`), the most that any record of its log may stand for (`most`), and
    the part of both that does not depend on the answers (`draw`)."""

    times: int = 1
    most: int = 1
    draw: int = 1


def add_to(counts: dict[W, int], more: Mapping[W, int]) -> None:
    """Add counts to others: what Counter's update does, in half the time."""
    for key, count in more.items():
        counts[key] = counts.get(key, 0) + count


class Counts(Counter[W]):
    """Counts of the whole log, each under a word or a number."""

    def __init__(self, counts: Mapping[W, int] | None = None) -> None:
        # Counter's own looks closely at what it is given: of a thousand summaries that is a third of the time.
        dict.__init__(self)
        if counts is not None:
            dict.update(self, counts)

    def merged(self, other: Self) -> Self:
        total = type(self)(self)
        add_to(total, other)
        return total

    def absorb(self, other: Self) -> None:
        add_to(self, other)

    def widened(self, doublings: int = 1) -> Self:
        return self

    def weighed(self, weight: Weight) -> Self:
        return type(self)({key: count * weight.times for key, count in self.items()})

    def to_json(self) -> Any:
        return {str(word): count for word, count in sorted(self.items())}


class WordCounts(Counts[str]):
    """How often each word of a small closed set occurred."""

    @classmethod
    def from_json(cls, raw: Any) -> Self:
        return cls({str(key): int(count) for key, count in raw.items()})


class Hist(Counts[int]):
    """A histogram of the whole log."""

    @classmethod
    def from_json(cls, raw: Any) -> Self:
        return cls({int(at): int(count) for at, count in raw.items()})


class Weights(NamedTuple):
    """What the weights of a series' records add to its counts, by block of time; where all are 1 there is nothing.

    unwritten: requests that records stand for beyond themselves, the sum of w - 1. more_squares: the sum of w^2 - w.
    heaviest: the largest weight that a record of the log may have, whether or not one has it yet. draw: the largest
    part of a weight that does not depend on the answers: what its log has for certain is of this weight at most.
    """

    heaviest: int
    draw: int
    unwritten: dict[int, int]
    more_squares: dict[int, int]

    def copied(self) -> "Weights":
        return Weights(self.heaviest, self.draw, dict(self.unwritten), dict(self.more_squares))

    def absorbing(self, other: "Weights") -> "Weights":
        """Both together; this one is not used afterwards."""
        add_to(self.unwritten, other.unwritten)
        add_to(self.more_squares, other.more_squares)
        most, draw = max(self.heaviest, other.heaviest), max(self.draw, other.draw)
        return Weights(most, draw, self.unwritten, self.more_squares)

    def widened(self, doublings: int) -> "Weights":
        return Weights(
            self.heaviest, self.draw, _wider(self.unwritten, doublings), _wider(self.more_squares, doublings)
        )

    def to_json(self) -> Any:
        blocks = {str(at): [count, self.more_squares.get(at, 0)] for at, count in sorted(self.unwritten.items())}
        return {"heaviest": self.heaviest, "draw": self.draw, "blocks": blocks}

    @classmethod
    def from_json(cls, raw: Any) -> "Weights":
        blocks = {int(at): (int(unwritten), int(squares)) for at, (unwritten, squares) in raw["blocks"].items()}
        return cls(
            int(raw["heaviest"]),
            int(raw["draw"]),
            {at: unwritten for at, (unwritten, _) in blocks.items()},
            {at: squares for at, (_, squares) in blocks.items()},
        )


class Series(Hist):
    """A count by block of time. `weights` is None where every record's weight is 1."""

    def __init__(self, counts: Mapping[int, int] | None = None, weights: Weights | None = None) -> None:
        dict.__init__(self)
        if counts is not None:
            dict.update(self, counts)
            if weights is None and isinstance(counts, Series) and counts.weights is not None:
                weights = counts.weights.copied()
        self.weights: Weights | None = weights

    def __reduce__(self) -> tuple[Any, ...]:
        return type(self), (dict(self), self.weights)

    def written(self) -> int:
        """How many records were written."""
        return self.total() - (sum(self.weights.unwritten.values()) if self.weights is not None else 0)

    def squares(self) -> int:
        """The sum of the squared weights."""
        return self.total() + (sum(self.weights.more_squares.values()) if self.weights is not None else 0)

    def merged(self, other: Self) -> Self:
        total = type(self)(self)
        total.absorb(other)
        return total

    def absorb(self, other: Self) -> None:
        add_to(self, other)
        if other.weights is None:
            return
        if self.weights is None:
            self.weights = other.weights.copied()
        else:
            self.weights = self.weights.absorbing(other.weights)

    def widened(self, doublings: int = 1) -> Self:
        weights = self.weights.widened(doublings) if self.weights is not None else None
        return type(self)(_wider(self, doublings), weights)

    def weighed(self, weight: Weight) -> Self:
        if not self:
            return self
        times, most, draw = weight
        unwritten: dict[int, int] = {}
        squares: dict[int, int] = {}
        if times > 1:
            unwritten = {block: count * (times - 1) for block, count in self.items()}
            squares = {block: count * (times * times - times) for block, count in self.items()}
        weights = Weights(most, draw, unwritten, squares)
        return type(self)({block: count * times for block, count in self.items()}, weights)

    def up_to(self, last: int) -> "Series":
        """The series up to a block of time."""
        found = Series({block: count for block, count in self.items() if block <= last})
        if self.weights is not None:
            heaviest, draw, unwritten, squares = self.weights
            found.weights = Weights(
                heaviest,
                draw,
                {block: count for block, count in unwritten.items() if block <= last},
                {block: count for block, count in squares.items() if block <= last},
            )
        return found

    def without(self, part: "Series") -> "Series":
        """The series less one that counts some of the same records."""
        found = Series({block: count - part.get(block, 0) for block, count in self.items()})
        if self.weights is not None:
            found.weights = self.weights.copied()
            if part.weights is not None:
                for block, count in part.weights.unwritten.items():
                    found.weights.unwritten[block] -= count
                for block, count in part.weights.more_squares.items():
                    found.weights.more_squares[block] -= count
        return found

    def to_json(self) -> Any:
        counts: dict[str, Any] = {str(block): count for block, count in sorted(self.items())}
        if self.weights is not None:
            counts[_WEIGHTS] = self.weights.to_json()
        return counts

    @classmethod
    def from_json(cls, raw: Any) -> Self:
        counts = {int(block): int(count) for block, count in raw.items() if block != _WEIGHTS}
        return cls(counts, Weights.from_json(raw[_WEIGHTS]) if _WEIGHTS in raw else None)


_WEIGHTS: Final = "weights"


def _wider(counts: Mapping[int, int], doublings: int) -> dict[int, int]:
    wider: dict[int, int] = {}
    for block, count in counts.items():
        at = block >> doublings
        wider[at] = wider.get(at, 0) + count
    return wider


def counted(values: list[Any]) -> Iterable[tuple[Any, int]]:
    """Different values with their number. What JSON writes differently stays apart, also if Python calls it equal."""
    if len(kinds := set(map(type, values))) > 1 or not kinds <= {float, int, str}:
        return ((value, 1) for value in values)
    counts = Counter(values)
    zeros = [(value, 1) for value in values if value == 0] if kinds == {float} and counts.pop(0.0, 0) else []
    return chain(counts.items(), zeros)
