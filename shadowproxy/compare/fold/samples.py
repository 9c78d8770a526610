"""Samples: of too many things, those with the smallest hash are kept.

Such a choice does not depend on the order of the log, so the sum of parts keeps what the whole keeps.
"""

from collections import Counter
from collections.abc import Iterable, Mapping
from hashlib import blake2b
from heapq import heapify, heapreplace
from typing import Any, ClassVar, Final, Self

from shadowproxy.compare.fold.counts import Weight, add_to


def hashed(*parts: str) -> int:
    """A hash of 64 bits, the same on every machine: it decides what is kept as an example."""
    return int.from_bytes(_digest(parts), "big")


def hashed_hex(*parts: str) -> str:
    """The same as 16 hexadecimal digits."""
    return _digest(parts).hex()


def _digest(parts: tuple[str, ...]) -> bytes:
    text = parts[0] if len(parts) == 1 else "\0".join(parts)
    digest = _NOTHING_HASHED.copy()
    digest.update(text.encode() if text.isascii() else text.encode("utf-8", "surrogatepass"))
    return digest.digest()


_NOTHING_HASHED: Final = blake2b(digest_size=8)
"""Copied for every hash, which takes two thirds of the time of setting one up."""


class Distinct(Counter[int]):
    """About how many different things there were: keeps those with the smallest hashes, each with its count.

    Z. Bar-Yossef and others, Counting Distinct Elements in a Data Stream (RANDOM 2002). Exact up to `KEPT`, then within
    about 1 in the square root of it.
    """

    KEPT: ClassVar[int] = 64

    def __init__(self, digests: Mapping[int, int] | None = None) -> None:
        dict.__init__(self)
        if digests is not None:
            dict.update(self, digests)
        self._worst: list[int] = []  # a full table's hashes, negated, as a heap: the largest is first
        self._largest = 0  # of a full table; 0 where the heap is still to be made

    def add(self, digest: int, times: int = 1) -> None:
        if digest > self._largest > 0:
            return  # by far the most frequent
        before = self.get(digest)
        if before is not None:
            self[digest] = before + times
            return
        if len(self) < self.KEPT:
            self[digest] = times
            return
        if not self._largest:
            self._worst = [-each for each in self]
            heapify(self._worst)
            self._largest = -self._worst[0]
        if digest < self._largest:
            del self[-heapreplace(self._worst, -digest)]
            self[digest] = times
            self._largest = -self._worst[0]

    def add_texts(self, texts: Iterable[tuple[str, int]]) -> None:
        """Add the hash of each text so many times. The texts are ASCII."""
        last = self._largest.to_bytes(8, "big")
        for text, times in texts:
            digest = _NOTHING_HASHED.copy()
            digest.update(text.encode())
            raw = digest.digest()
            if not self._largest or raw <= last:  # of a full table it is larger, by far most often
                self.add(int.from_bytes(raw, "big"), times)
                last = self._largest.to_bytes(8, "big")

    def estimate(self) -> float:
        if len(self) < self.KEPT:
            return float(len(self))
        return (self.KEPT - 1) * 2.0**64 / (max(self) + 1)

    def repeats(self) -> float:
        """The share that had occurred before."""
        total = sum(self.values())
        return (total - len(self)) / total if total else 0.0

    def merged(self, other: Self) -> Self:
        total = Counter(self)
        total.update(other)
        return type(self)({digest: total[digest] for digest in sorted(total)[: self.KEPT]})

    def absorb(self, other: Self) -> None:
        add_to(self, other)
        for digest in sorted(self)[self.KEPT :]:
            del self[digest]
        self._largest = 0

    def widened(self, doublings: int = 1) -> Self:
        return self

    def weighed(self, weight: Weight) -> Self:
        return self  # what was written, as another of the unwritten ones need not be the same thing again

    def to_json(self) -> Any:
        return {f"{digest:016x}": count for digest, count in sorted(self.items())}

    @classmethod
    def from_json(cls, raw: Any) -> Self:
        return cls({int(digest, 16): int(count) for digest, count in raw.items()})


class DistinctIds(Distinct):
    """Different request IDs, with room for more of them."""

    KEPT: ClassVar[int] = 1024


class Sample(dict[int, Any]):
    """A uniform sample, the same on every run and in every order: the items with the smallest hashes."""

    KEPT: ClassVar[int] = 3

    def wants(self, digest: int) -> bool:
        return digest not in self and (len(self) < self.KEPT or digest < max(self))

    def add(self, digest: int, item: Any) -> None:
        if self.wants(digest):
            self[digest] = item
            if len(self) > self.KEPT:
                del self[max(self)]

    def merged(self, other: Self) -> Self:
        both = {**self, **other}
        return type(self)({digest: both[digest] for digest in sorted(both)[: self.KEPT]})

    def absorb(self, other: Self) -> None:
        self.update(other)
        for digest in sorted(self)[self.KEPT :]:
            del self[digest]

    def widened(self, doublings: int = 1) -> Self:
        return self

    def weighed(self, weight: Weight) -> Self:
        return self

    def to_json(self) -> Any:
        return {f"{digest:016x}": item for digest, item in sorted(self.items())}

    @classmethod
    def from_json(cls, raw: Any) -> Self:
        return cls({int(digest, 16): item for digest, item in raw.items()})
