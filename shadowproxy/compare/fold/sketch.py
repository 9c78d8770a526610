"""What a summary is made of: counts that add up exactly, in any order and grouping, within bounds set here.

Three ideas keep them bounded and exact at once. Numbers are counted in bins whose edges are powers of a fixed ratio,
so that two histograms add bin by bin. Times are counted in blocks aligned to the epoch, so that neighbours merge to
the same wider blocks wherever it is done. And what is kept of too many things (paths, classes, examples) are those
with the smallest hash: such a choice does not depend on who came first, so a sum of parts keeps what the whole keeps.
"""

import math
from bisect import insort
from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, fields
from hashlib import blake2b
from heapq import heapify, heapreplace
from itertools import chain
from typing import Any, ClassVar, Final, Generic, Protocol, Self, TypeVar

GAMMA: Final = 1.02
"""The ratio of neighbouring bin edges: a quantile is off by at most 1 %, in the tail as elsewhere."""

_SMALLEST: Final = 1e-9
_LARGEST: Final = 1e18
_SHIFT: Final = 1074
_MANTISSA: Final = float(1 << 53)
_LOG_GAMMA: Final = math.log(GAMMA)
_LAST: Final = math.ceil(math.log(_LARGEST / _SMALLEST) / _LOG_GAMMA)


def bin_of(value: int | float) -> int:
    """The bin of a finite number: 0 within 1e-9 of zero, else signed; beyond 1e18 all fall in the last."""
    size = abs(value)
    if size <= _SMALLEST:
        return 0
    at = _LAST if size >= _LARGEST else max(1, math.ceil(math.log(size / _SMALLEST) / _LOG_GAMMA))
    return at if value > 0 else -at


def edges(at: int) -> tuple[float, float]:
    """The numbers between which the values of a bin lie."""
    if at == 0:
        return 0.0, 0.0
    inner, outer = _SMALLEST * GAMMA ** (abs(at) - 1), _SMALLEST * GAMMA ** abs(at)
    return (inner, outer) if at > 0 else (-outer, -inner)


def quantile(bins: Mapping[int, int], q: float) -> float | None:
    """The q-quantile, interpolated within its bin (without that, intervals of it cover a third of what they should)."""
    total = sum(bins.values())
    if total <= 0:
        return None
    rank = q * (total - 1) + 0.5
    below = 0
    for at in sorted(bins):
        count = bins[at]
        if count and below + count >= rank:
            low, high = edges(at)
            return low + (high - low) * min(1.0, max(0.0, (rank - below) / count))
        below += count
    return edges(max(at for at, count in bins.items() if count))[1]


def counted(values: list[Any]) -> Iterable[tuple[Any, int]]:
    """Values with how often they came; only where Python calls none equal that JSON writes otherwise."""
    if len(kinds := set(map(type, values))) > 1 or not kinds <= {float, int, str}:
        return ((value, 1) for value in values)
    counts = Counter(values)
    zeros = [(value, 1) for value in values if value == 0] if kinds == {float} and counts.pop(0.0, 0) else []
    return chain(counts.items(), zeros)


def hashed(*parts: str) -> int:
    """64 bits that look random and are the same everywhere: they decide what is kept as an example."""
    digest = _NOTHING_HASHED.copy()
    digest.update("\0".join(parts).encode("utf-8", "surrogatepass"))
    return int.from_bytes(digest.digest(), "big")


_NOTHING_HASHED: Final = blake2b(digest_size=8)
"""Copied for every hash, which takes two thirds of the time of setting one up."""


W = TypeVar("W", str, int)


def add_to(counts: dict[W, int], more: Mapping[W, int]) -> None:
    """Add counts to others: what Counter's update does, in half the time."""
    for key, count in more.items():
        counts[key] = counts.get(key, 0) + count


class _Added(Counter[W]):
    """Counts that add up word by word, and are not by block of time."""

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

    def trim(self) -> None:
        """Leave out what is too much, for those that wait with it."""

    def widened(self) -> Self:
        return self

    def to_json(self) -> Any:
        return {str(word): count for word, count in sorted(self.items())}


class Tally(_Added[str]):
    """How often each of a small closed set of words came."""

    @classmethod
    def from_json(cls, raw: Any) -> Self:
        return cls({str(key): int(count) for key, count in raw.items()})


class Hist(_Added[int]):
    """A histogram of the whole log."""

    @classmethod
    def from_json(cls, raw: Any) -> Self:
        return cls({int(at): int(count) for at, count in raw.items()})


class Series(Hist):
    """A count by block of time."""

    def widened(self) -> Self:
        wider = type(self)()
        for block, count in self.items():
            wider[block >> 1] += count
        return wider


class Bins(dict[int, Counter[int]]):
    """A histogram by block of time."""

    def add(self, block: int, at: int, times: int = 1) -> None:
        counts = self.get(block)
        if counts is None:
            counts = self[block] = Hist()
        counts[at] = counts.get(at, 0) + times

    def gather(self, block: int, bins: Iterable[int]) -> None:
        counts = self.get(block)
        if counts is None:
            counts = self[block] = Hist()
        counts.update(bins)

    def whole(self) -> Counter[int]:
        total: Counter[int] = Counter()
        for counts in self.values():
            total.update(counts)
        return total

    def merged(self, other: Self) -> Self:
        total = type(self)({block: Hist(counts) for block, counts in self.items()})
        for block, counts in other.items():
            total.setdefault(block, Hist()).update(counts)
        return total

    def absorb(self, other: Self) -> None:
        for block, counts in other.items():
            mine = self.get(block)
            if mine is None:
                self[block] = counts
            else:
                add_to(mine, counts)

    def widened(self) -> Self:
        wider = type(self)()
        for block, counts in self.items():
            wider.setdefault(block >> 1, Hist()).update(counts)
        return wider

    def to_json(self) -> Any:
        return {
            str(block): {str(at): count for at, count in sorted(counts.items())}
            for block, counts in sorted(self.items())
        }

    @classmethod
    def from_json(cls, raw: Any) -> Self:
        return cls(
            {int(block): Hist({int(at): int(count) for at, count in bins.items()}) for block, bins in raw.items()}
        )


class Sums(dict[int, list[int]]):
    """Sums of floats by block of time, exact: as integers in units of the smallest float, so that order is nothing.

    Every finite float is a whole number of 2^-1074ths; `_SHIFT` leaves room for the mantissa below that.
    """

    def add(self, block: int, *values: float, times: int = 1) -> None:
        sums = self.get(block)
        if sums is None:
            sums = self[block] = [0] * len(values)
        for at, value in enumerate(values):
            mantissa, exponent = math.frexp(value)
            sums[at] += times * int(mantissa * _MANTISSA) << (exponent + _SHIFT)

    def floats(self) -> dict[int, list[float]]:
        return {block: [_float(total) for total in sums] for block, sums in self.items()}

    def merged(self, other: Self) -> Self:
        total = type(self)({block: list(sums) for block, sums in self.items()})
        for block, sums in other.items():
            total._gather(block, sums)
        return total

    def absorb(self, other: Self) -> None:
        for block, sums in other.items():
            self._gather(block, sums)

    def widened(self) -> Self:
        wider = type(self)()
        for block, sums in self.items():
            wider._gather(block >> 1, sums)
        return wider

    def _gather(self, block: int, sums: list[int]) -> None:
        mine = self.get(block)
        self[block] = list(sums) if mine is None else [one + other for one, other in zip(mine, sums, strict=True)]

    def to_json(self) -> Any:
        return {str(block): [_hex(total) for total in sums] for block, sums in sorted(self.items())}

    @classmethod
    def from_json(cls, raw: Any) -> Self:
        return cls({int(block): [_unhex(text) for text in sums] for block, sums in raw.items()})


def _float(total: int) -> float:
    try:
        return total / (1 << (_SHIFT + 53))
    except OverflowError:
        return math.inf if total > 0 else -math.inf


def _hex(total: int) -> str:
    """`mantissa.zeros` in hexadecimal: exact, and short for ordinary numbers, whose low thousand bits are zero."""
    zeros = (total & -total).bit_length() - 1 if total else 0
    return f"{total >> zeros:x}.{zeros:x}"


def _unhex(text: str) -> int:
    mantissa, _, zeros = text.partition(".")
    if int(zeros, 16) > 4096:
        raise ValueError("a sum out of range")
    return int(mantissa, 16) << int(zeros, 16)


class Distinct(Counter[int]):
    """About how many different things there were: those of the smallest hashes, with how often each came.

    Z. Bar-Yossef and others, Counting Distinct Elements in a Data Stream (RANDOM 2002). Exact up to `KEPT`, then within
    about 1 in the square root of it.
    """

    KEPT: ClassVar[int] = 64

    def __init__(self, digests: Mapping[int, int] | None = None) -> None:
        dict.__init__(self)
        if digests is not None:
            dict.update(self, digests)
        self._worst: list[int] = []  # of a full table the hashes, negative, as a heap: the largest comes first

    def add(self, digest: int, times: int = 1) -> None:
        if digest in self or len(self) < self.KEPT:
            self[digest] += times
            return
        if not self._worst:
            self._worst = [-each for each in self]
            heapify(self._worst)
        if digest < -self._worst[0]:
            del self[-heapreplace(self._worst, -digest)]
            self[digest] = times

    def estimate(self) -> float:
        if len(self) < self.KEPT:
            return float(len(self))
        return (self.KEPT - 1) * 2.0**64 / (max(self) + 1)

    def repeats(self) -> float:
        """The share of what came that had come before."""
        came = sum(self.values())
        return (came - len(self)) / came if came else 0.0

    def merged(self, other: Self) -> Self:
        total = Counter(self)
        total.update(other)
        return type(self)({digest: total[digest] for digest in sorted(total)[: self.KEPT]})

    def absorb(self, other: Self) -> None:
        add_to(self, other)
        for digest in sorted(self)[self.KEPT :]:
            del self[digest]
        self._worst = []

    def widened(self) -> Self:
        return self

    def to_json(self) -> Any:
        return {f"{digest:016x}": count for digest, count in sorted(self.items())}

    @classmethod
    def from_json(cls, raw: Any) -> Self:
        return cls({int(digest, 16): int(count) for digest, count in raw.items()})


class DistinctIds(Distinct):
    """The same with room for a closer look at request IDs."""

    KEPT: ClassVar[int] = 1024


class Sample(dict[int, Any]):
    """A uniform sample that is the same on every run and in every order: the items of the smallest hashes."""

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

    def widened(self) -> Self:
        return self

    def to_json(self) -> Any:
        return {f"{digest:016x}": item for digest, item in sorted(self.items())}

    @classmethod
    def from_json(cls, raw: Any) -> Self:
        return cls({int(digest, 16): item for digest, item in raw.items()})


class Part(Protocol):
    """Something that adds up exactly, and knows how to be counted in blocks twice as wide.

    `merged` changes neither part. `absorb` adds the other to this one in place and may keep what the other is made of:
    who called it no longer uses the other. A thousand summaries add up in the memory of two that way.
    """

    def merged(self, other: Self) -> Self: ...
    def absorb(self, other: Self) -> None: ...
    def widened(self) -> Self: ...
    def to_json(self) -> Any: ...
    @classmethod
    def from_json(cls, raw: Any) -> Self: ...


P = TypeVar("P", bound=Part)


class Table(dict[str, P], Generic[P]):
    """Parts by key, for at most `LIMIT` keys; what the others would have counted is in `other`.

    The keys kept are those of the lowest rank: by hash, and with `SHALLOW` the pointers with fewest segments first.
    """

    INNER: ClassVar[type[Any]]
    LIMIT: ClassVar[int] = 512
    SHALLOW: ClassVar[bool] = False

    def __init__(self, parts: Mapping[str, P] | None = None, other: P | None = None) -> None:
        super().__init__(parts or {})
        self.other: P = other if other is not None else self.INNER()
        self._ranked: list[tuple[tuple[Any, ...], str]] | None = None  # best first; made when the table is full

    @classmethod
    def rank(cls, key: str) -> tuple[Any, ...]:
        """Where a key stands among all; a pure function of it, so that any part of a log keeps the same keys."""
        return (key.count("/") if cls.SHALLOW else 0, hashed(key))

    def part(self, key: str) -> P:
        """Where to count what belongs to `key`."""
        found = self.get(key)
        if found is not None:
            return found
        if len(self) >= self.LIMIT:
            if self._ranked is None:
                self._ranked = sorted((self.rank(each), each) for each in self)
            entry = self.rank(key), key
            if entry > self._ranked[-1]:
                return self.other
            _, worst = self._ranked.pop()
            insort(self._ranked, entry)
            self.other.absorb(self.pop(worst))
        made: P = self.INNER()
        self[key] = made
        return made

    @property
    def cut(self) -> bool:
        """Whether there were more keys than are kept."""
        return bool(self.other)

    def merged(self, other: Self) -> Self:
        # Not shared with either: what is made may be added to in place.
        both: dict[str, P] = {key: part.merged(other.get(key) or self.INNER()) for key, part in self.items()}
        for key, part in other.items():
            if key not in both:
                both[key] = part.merged(self.INNER())
        rest = self.other.merged(other.other)
        if len(both) > self.LIMIT:
            for key in sorted(both, key=lambda each: (self.rank(each), each))[self.LIMIT :]:
                rest = rest.merged(both.pop(key))
        return type(self)(both, rest)

    def absorb(self, other: Self) -> None:
        for key, part in other.items():
            mine = self.get(key)
            if mine is None:
                self[key] = part
            else:
                mine.absorb(part)
        self.other.absorb(other.other)
        self._ranked = None
        if len(self) > self.LIMIT:
            for key in sorted(self, key=lambda each: (self.rank(each), each))[self.LIMIT :]:
                self.other.absorb(self.pop(key))

    def widened(self) -> Self:
        return type(self)({key: part.widened() for key, part in self.items()}, self.other.widened())

    def to_json(self) -> Any:
        return {"kept": {key: part.to_json() for key, part in sorted(self.items())}, "other": self.other.to_json()}

    @classmethod
    def from_json(cls, raw: Any) -> Self:
        kept = {str(key): cls.INNER.from_json(part) for key, part in raw["kept"].items()}
        return cls(kept, cls.INNER.from_json(raw["other"]))


_KINDS: Final[dict[type[Any], dict[str, type[Any]]]] = {}
"""Of each class of several parts its parts' types by name, worked out once."""


@dataclass(slots=True)
class Whole:
    """Several parts that add up together: base of the dataclasses whose every field that can be given is a part."""

    @classmethod
    def _names(cls) -> tuple[str, ...]:
        return tuple(cls._kinds())

    @classmethod
    def _kinds(cls) -> dict[str, type[Any]]:
        """The parts by name with their types."""
        found = _KINDS.get(cls)
        if found is None:
            empty = cls()
            found = _KINDS[cls] = {each.name: type(getattr(empty, each.name)) for each in fields(cls) if each.init}
        return found

    def settle(self) -> None:
        """Count what was put off, for those that put something off; whoever reads a part calls it first."""

    def merged(self, other: Self) -> Self:
        self.settle()
        other.settle()
        return type(self)(**{name: getattr(self, name).merged(getattr(other, name)) for name in self._names()})

    def absorb(self, other: Self) -> None:
        self.settle()
        other.settle()
        for name in self._names():
            getattr(self, name).absorb(getattr(other, name))

    def widened(self) -> Self:
        self.settle()
        return type(self)(**{name: getattr(self, name).widened() for name in self._names()})

    def to_json(self) -> Any:
        self.settle()
        return {name: getattr(self, name).to_json() for name in self._names()}

    @classmethod
    def from_json(cls, raw: Any) -> Self:
        return cls(**{name: kind.from_json(raw[name]) for name, kind in cls._kinds().items()})

    def __bool__(self) -> bool:
        return any(getattr(self, name) for name in self._names())


@dataclass(slots=True)
class Parts(Whole):
    """Several parts that add up together, of which the empty ones are not written down."""

    def to_json(self) -> Any:
        self.settle()
        return {name: part.to_json() for name in self._names() if (part := getattr(self, name))}

    @classmethod
    def from_json(cls, raw: Any) -> Self:
        kinds = cls._kinds()
        if not isinstance(raw, dict) or not raw.keys() <= kinds.keys():
            raise ValueError("counts of an unknown name")
        return cls(**{name: kinds[name].from_json(part) for name, part in raw.items()})


def put_in_order(part: Any) -> None:
    """Put what is counted in the order in which it is saved: what came first would else show in a sum's last digit."""
    if isinstance(part, Whole):
        for name in part._names():
            put_in_order(getattr(part, name))
        return
    if not isinstance(part, dict):
        return
    if isinstance(part, _Added):
        part.trim()
    if part:
        # An outcome is a text, and is read again as no more than that.
        plain = ((str(word), count) for word, count in part.items()) if isinstance(part, Tally) else part.items()
        ordered = sorted(plain, key=_first)
        dict.clear(part)
        dict.update(part, ordered)
    if isinstance(part, Table):
        put_in_order(part.other)
    if not isinstance(part, _Added | Sums | Sample):
        for each in part.values():
            put_in_order(each)


def _first(entry: tuple[Any, Any]) -> Any:
    return entry[0]


class Forms(Table[Series]):
    """Counts by forms and block. The key of a pair is `live shadow`, that of a batch all its pairs, joined by `|`."""

    INNER = Series
    LIMIT = 512
