"""The tables in a pair's counts: by the places at which answers differ, by request, by flip."""

from typing import ClassVar, Final, Self

from shadowproxy.compare.fold.counts import Hist, Series, Weight, WordCounts
from shadowproxy.compare.fold.samples import Distinct, Sample
from shadowproxy.compare.fold.tables import Table

LOWEST_RANK: Final = 1 << 62
"""A sample keeps the smallest ranks: to keep the largest values, a value's rank is this less its bin."""


class BySignature(Table[Series]):
    """Exchanges by the set of places at which they differ, by block: what would agree if these places did not count."""

    INNER = Series
    LIMIT = 256


class ByPath(Table[Series]):
    """Exchanges that differ at a place, by block."""

    INNER = Series
    SHALLOW = True


class Kinds(Table[WordCounts]):
    """Words by place."""

    INNER = WordCounts
    SHALLOW = True


class Values(Table[Distinct]):
    """How many different values a differing place had."""

    INNER = Distinct
    SHALLOW = True


class _Largest(Sample):
    KEPT: ClassVar[int] = 1


class Furthest(Table[_Largest]):
    """The bin of the largest difference of numbers at a place, under its rank from above."""

    INNER = _Largest
    SHALLOW = True


class Gaps(Table[Hist]):
    """By how much numbers differ at a place, in bins."""

    INNER = Hist
    SHALLOW = True


class Drawn(Sample):
    """Exchanges drawn as if each request were there, not only those that were written.

    One of weight w is drawn like the one with the smallest hash of w requests: priority sampling, N. Duffield and
    others, Journal of the ACM 54 (2007).
    """

    def weighed(self, weight: Weight) -> Self:
        return type(self)({digest // weight.times: item for digest, item in self.items()})


class Examples(Table[Drawn]):
    """A few exchanges of each signature and flip."""

    INNER = Drawn
    LIMIT = 64


class Repeats(Table[Distinct]):
    """Live's different answers to the same request, for some of the requests (those of the smallest hashes)."""

    INNER = Distinct
    LIMIT = 512
