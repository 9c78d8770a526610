"""Fingerprints of answers: small enough to keep some of each block of time, and any two can be compared.

A shadow's answers belong to live's if each is more like its own partner than like others. To measure that, the 64
exchanges of each block with the smallest hash of the ID are kept, with the fingerprints of both answers. The order of
the files does not change this choice, and neighbours in it are not neighbours in time.

| answer | fingerprint | likeness |
|---|---|---|
| text of several words | the smallest 8 of its words' hashes | the share of words in common, guessed from them |
| ranking | its first 10 IDs' hashes | rank-biased overlap |
| numbers | on which side of 128 random planes they lie | the cosine of the angle that this suggests |
"""

import math
import random
from binascii import a2b_base64, b2a_base64
from collections.abc import Iterable, Mapping, Sequence
from functools import lru_cache
from operator import mul
from typing import Any, ClassVar, Final, Literal, Self
from zlib import crc32

from shadowproxy.compare.fold.counts import Weight
from shadowproxy.compare.fold.values import rank_biased_overlap, words_of

FingerprintKind = Literal["text", "ranking", "embedding"]

PLANES: Final = 128
AXES: Final = 16
"""Numbers to which the sum of embeddings is projected."""

FEWEST_SPACES: Final = 2
"""In a text whose fingerprint is kept: one with fewer is a class or an ID."""

_WORDS: Final = 8
_ITEMS: Final = 10
_MASK: Final = 0xFFFFFFFF
_MIXED: Final = 2654435761  # 2^32 by the golden ratio: crc32 alone keeps words that differ little close together
_MOST_COMPARED: Final = 8192  # pairs of answers that do not belong together

Print = tuple[bytes, bytes, int]
"""The fingerprints of live's answer and of the shadow's, which is empty where there is no answer, and the weight."""


class Prints(dict[int, dict[int, Print]]):
    """By block, the fingerprints of the exchanges with the smallest digests."""

    KEPT: ClassVar[int] = 64

    def __init__(self, kept: Mapping[int, dict[int, Print]] | None = None) -> None:
        super().__init__(kept or {})
        self._largest: dict[int, int] = {}  # of the blocks that are full; worked out on demand

    def wants(self, block: int, digest: int) -> bool:
        largest = self._largest.get(block)
        if largest is None:
            kept = self.get(block)
            if kept is None or len(kept) < self.KEPT:
                return True
            largest = self._largest[block] = max(kept)
        return digest <= largest  # the largest itself may come again with other prints

    def add(self, block: int, digest: int, prints: Print) -> None:
        kept = self.get(block)
        if kept is None:
            kept = self[block] = {}
        before = kept.get(digest)
        # Two exchanges with one ID: the log's order must not decide which of them is kept.
        kept[digest] = prints if before is None else min(before, prints)
        if len(kept) > self.KEPT:
            del kept[max(kept)]
        self._largest.pop(block, None)

    def merged(self, other: Self) -> Self:
        total = type(self)({block: dict(kept) for block, kept in self.items()})
        total.absorb(other)
        return total

    def absorb(self, other: Self) -> None:
        self._largest = {}
        for block, kept in other.items():
            self._gather(block, kept)

    def _gather(self, block: int, kept: Mapping[int, Print]) -> None:
        mine = self.get(block)
        if mine is None:
            self[block] = dict(kept)
            return
        for digest, prints in kept.items():
            before = mine.get(digest)
            mine[digest] = prints if before is None else min(before, prints)
        for digest in sorted(mine)[self.KEPT :]:
            del mine[digest]

    def widened(self, doublings: int = 1) -> Self:
        wider = type(self)()
        for block, kept in self.items():
            wider._gather(block >> doublings, kept)
        return wider

    def weighed(self, weight: Weight) -> Self:
        return type(self)(
            {
                block: {digest: (live, shadow, weight.times) for digest, (live, shadow, _) in kept.items()}
                for block, kept in self.items()
            }
        )

    def to_json(self) -> Any:
        return {
            str(block): {f"{digest:x}": _encoded(kept[digest]) for digest in sorted(kept)}
            for block, kept in sorted(self.items())
        }

    @classmethod
    def from_json(cls, raw: Any) -> Self:
        return cls(
            {
                int(block): {int(digest, 16): _decoded(prints) for digest, prints in kept.items()}
                for block, kept in raw.items()
            }
        )


def _decoded(prints: Sequence[Any]) -> Print:
    live, shadow, *weight = prints
    return a2b_base64(live), a2b_base64(shadow), int(weight[0]) if weight else 1


def _encoded(prints: Print) -> list[Any]:
    live, shadow, weight = prints
    texts: list[Any] = [_written(live), _written(shadow)]
    return texts if weight == 1 else [*texts, weight]


def _written(prints: bytes) -> str:
    return b2a_base64(prints, newline=False).decode()


# --- fingerprints --------------------------------------------------------------------------------------------------


def print_of_text(text: str) -> bytes:
    """The words' smallest hashes: A. Z. Broder, On the Resemblance and Containment of Documents (SEQUENCES 1997)."""
    hashes = {_hash(word) for word in set(words_of(text))} or {_hash(text)}
    return b"".join(each.to_bytes(4, "big") for each in sorted(hashes)[:_WORDS])


def print_of_ranking(ids: Sequence[str]) -> bytes:
    return b"".join(_hash(each).to_bytes(4, "big") for each in ids[:_ITEMS])


def print_of_numbers(values: Sequence[float]) -> bytes:
    """The signs of `PLANES` sparse random projections: M. S. Charikar, Similarity Estimation Techniques from Rounding
    Algorithms (STOC 2002), with the projections of P. Li, T. Hastie and K. Church, Very Sparse Random Projections
    (KDD 2006)."""
    found = 0
    for each in (*projected(values, PLANES // 2, 1), *projected(values, PLANES // 2, 2)):
        found = found << 1 | (each > 0)
    return found.to_bytes(PLANES // 8, "big")


def projected(values: Sequence[float], axes: int, seed: int) -> list[float]:
    """Numbers projected to `axes` ones: each sums every `axes`-th number with a random sign, the same everywhere."""
    turned = list(map(mul, values, _signs(len(values), seed)))
    return [math.fsum(turned[at::axes]) for at in range(axes)]


@lru_cache(maxsize=16)
def _signs(size: int, seed: int) -> tuple[float, ...]:
    source = random.Random(seed)
    return tuple(1.0 if source.getrandbits(1) else -1.0 for _ in range(size))


def _hash(text: str) -> int:
    return crc32(text.encode("utf-8", "surrogatepass")) * _MIXED & _MASK


# --- likeness ------------------------------------------------------------------------------------------------------


def likeness(kind: FingerprintKind, one: bytes, other: bytes) -> float:
    """How alike two answers are, from 0 to 1; for embeddings from -1. An absent answer has likeness 0."""
    if not one or not other:
        return 0.0
    if kind == "embedding":
        apart = (int.from_bytes(one, "big") ^ int.from_bytes(other, "big")).bit_count()
        return math.cos(math.pi * apart / PLANES)
    if one == other:
        return 1.0
    if kind == "ranking":
        return rank_biased_overlap(_parts(one), _parts(other))
    first, second = frozenset(_parts(one)), frozenset(_parts(other))
    both = sorted(first | second)[:_WORDS]
    return sum(each in first and each in second for each in both) / len(both)


@lru_cache(maxsize=8192)
def _parts(prints: bytes) -> tuple[bytes, ...]:
    return tuple(prints[at : at + 4] for at in range(0, len(prints), 4))


class Likenesses:
    """By block, the sums of likeness of answers that belong together and of such as do not, each with its number.

    Those that do not: each answer of live with the shadow's of the next exchanges by hash, so that every part of the
    log is compared with every other. A pair from two blocks is counted in both: leaving out either leaves it out. Each
    counts as often as its weight, of two exchanges as often as the product.
    """

    __slots__ = ("apart", "kept", "total", "true")

    def __init__(self, prints: Prints, kind: FingerprintKind) -> None:
        kept = sorted((digest, block, each) for block, some in prints.items() for digest, each in some.items())
        self.kept = len(kept)
        self.true: dict[int, tuple[float, int]] = {}
        self.apart: dict[int, tuple[float, int]] = {}
        for _, block, (live, shadow, weight) in kept:
            _add(self.true, block, likeness(kind, live, shadow), weight)
        total, count = [], 0
        steps = min(len(kept) - 1, max(1, _MOST_COMPARED // len(kept))) if kept else 0
        for step in range(1, steps + 1):
            for at, (_, block, (live, _, weight)) in enumerate(kept):
                _, other_block, (_, shadow, other_weight) = kept[(at + step) % len(kept)]
                found = likeness(kind, live, shadow)
                both = weight * other_weight
                total.append(found * both)
                count += both
                _add(self.apart, block, found, both)
                if other_block != block:
                    _add(self.apart, other_block, found, both)
        self.total = math.fsum(total), count

    def related(self, without: int | None = None) -> float | None:
        """(S - C) / (1 - C), of all blocks or of all but one."""
        true, n = _sum(each for block, each in sorted(self.true.items()) if block != without)
        apart, pairs = self.total
        if without is not None:
            less, fewer = self.apart.get(without, (0.0, 0))
            apart, pairs = apart - less, pairs - fewer
        if n == 0 or pairs <= 0:
            return None
        chance = apart / pairs
        return (true / n - chance) / (1 - chance) if chance < 1 - 1e-9 else None


def _add(sums: dict[int, tuple[float, int]], block: int, value: float, weight: int) -> None:
    total, count = sums.get(block, (0.0, 0))
    sums[block] = total + value * weight, count + weight


def _sum(parts: Iterable[tuple[float, int]]) -> tuple[float, int]:
    found = list(parts)
    return math.fsum(total for total, _ in found), sum(count for _, count in found)
