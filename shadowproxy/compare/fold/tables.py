"""Tables of counts, and counts of several parts: both add up exactly, and both are bounded."""

from bisect import insort
from collections.abc import Mapping
from dataclasses import dataclass, fields
from typing import Any, ClassVar, Final, Generic, Protocol, Self, TypeVar

from shadowproxy.compare.fold.counts import Counts, Series, Weight, WordCounts
from shadowproxy.compare.fold.samples import Sample, hashed
from shadowproxy.compare.fold.sums import Sums


class Part(Protocol):
    """Counts that add up exactly, and can be counted in blocks of time twice as wide, `doublings` times (`widened`).

    `weighed` is the same if each of its records, of which none has a weight yet, had that weight. What is no count of
    requests, such as a sample, stays.

    `merged` changes neither part. `absorb` adds the other to this one in place and may keep pieces of the other: the
    caller no longer uses it. That way a thousand summaries add up in the memory of two.
    """

    def merged(self, other: Self) -> Self: ...
    def absorb(self, other: Self) -> None: ...
    def widened(self, doublings: int = 1) -> Self: ...
    def weighed(self, weight: Weight) -> Self: ...
    def to_json(self) -> Any: ...
    @classmethod
    def from_json(cls, raw: Any) -> Self: ...


P = TypeVar("P", bound=Part)


A = TypeVar("A")


class Bounded(dict[str, A], Generic[A]):
    """Values by key, for at most `LIMIT` keys; `other` counts for all further keys together.

    The keys with the lowest rank are kept: by hash, and with `SHALLOW` the pointers with fewest segments first.
    """

    INNER: ClassVar[type[Any]]
    LIMIT: ClassVar[int] = 512
    SHALLOW: ClassVar[bool] = False

    def __init__(self, parts: Mapping[str, A] | None = None, other: A | None = None) -> None:
        super().__init__(parts or {})
        self.other: A = other if other is not None else self.INNER()
        self._ranked: list[tuple[tuple[Any, ...], str]] | None = None  # best first; made when the table is full

    @classmethod
    def rank(cls, key: str) -> tuple[Any, ...]:
        """A key's rank. It depends on the key alone, so that every part of a log keeps the same keys."""
        return (key.count("/") if cls.SHALLOW else 0, hashed(key))

    def part(self, key: str) -> A:
        """What counts for `key`."""
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
            self.add_to_other(self.pop(worst))
        made: A = self.INNER()
        self[key] = made
        return made

    def add_to_other(self, part: A) -> None:
        """Count in `other` what was counted for a key that is no longer kept."""
        raise NotImplementedError


class Table(Bounded[P], Generic[P]):
    """Parts by key, at most `LIMIT` of them, that add up exactly."""

    def add_to_other(self, part: P) -> None:
        self.other.absorb(part)

    @property
    def cut(self) -> bool:
        """Whether there were more keys than are kept."""
        return bool(self.other)

    def merged(self, other: Self) -> Self:
        # Parts are copied, not shared: the result may be added to in place.
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

    def widened(self, doublings: int = 1) -> Self:
        return type(self)({key: part.widened(doublings) for key, part in self.items()}, self.other.widened(doublings))

    def weighed(self, weight: Weight) -> Self:
        kept = {key: part.weighed(weight) for key, part in self.items()}
        return type(self)(kept, self.other.weighed(weight))

    def to_json(self) -> Any:
        return {"kept": {key: part.to_json() for key, part in sorted(self.items())}, "other": self.other.to_json()}

    @classmethod
    def from_json(cls, raw: Any) -> Self:
        kept = {str(key): cls.INNER.from_json(part) for key, part in raw["kept"].items()}
        return cls(kept, cls.INNER.from_json(raw["other"]))


_KINDS: Final[dict[type[Any], dict[str, type[Any]]]] = {}
"""By class, its parts' types by name, worked out once."""

_LATER: Final = frozenset(
    {
        "left_out",
        "per_call",
        "paired",
        "usage",
        "language",
        "state",
        "streamed",
        "ttft",
        "tpot",
        "itl_p50",
        "itl_p99",
        "e2e",
    }
)
"""Parts that summaries of earlier versions do not have: nothing was counted there."""


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

    def merged(self, other: Self) -> Self:
        return type(self)(**{name: getattr(self, name).merged(getattr(other, name)) for name in self._names()})

    def absorb(self, other: Self) -> None:
        for name in self._names():
            getattr(self, name).absorb(getattr(other, name))

    def widened(self, doublings: int = 1) -> Self:
        return type(self)(**{name: getattr(self, name).widened(doublings) for name in self._names()})

    def weighed(self, weight: Weight) -> Self:
        return type(self)(**{name: getattr(self, name).weighed(weight) for name in self._names()})

    def to_json(self) -> Any:
        return {name: getattr(self, name).to_json() for name in self._names()}

    @classmethod
    def from_json(cls, raw: Any) -> Self:
        missing = _LATER.difference(raw)
        return cls(**{name: kind.from_json(raw[name]) for name, kind in cls._kinds().items() if name not in missing})

    def __bool__(self) -> bool:
        return any(getattr(self, name) for name in self._names())


@dataclass(slots=True)
class Parts(Whole):
    """Several parts that add up together; empty ones are not saved."""

    def to_json(self) -> Any:
        return {name: part.to_json() for name in self._names() if (part := getattr(self, name))}

    @classmethod
    def from_json(cls, raw: Any) -> Self:
        kinds = cls._kinds()
        if not isinstance(raw, dict) or not raw.keys() <= kinds.keys():
            raise ValueError("counts of an unknown name")
        return cls(**{name: kinds[name].from_json(part) for name, part in raw.items()})


def put_in_order(part: Any) -> None:
    """Put all counts in the order in which they are saved: otherwise a sum's last digit depends on the log's order."""
    if isinstance(part, Whole):
        for name in part._names():
            put_in_order(getattr(part, name))
        return
    if not isinstance(part, dict):
        return
    if part:
        # An outcome is a text, and is loaded as a plain text.
        plain = ((str(word), count) for word, count in part.items()) if isinstance(part, WordCounts) else part.items()
        ordered = sorted(plain, key=_first)
        dict.clear(part)
        dict.update(part, ordered)
    if isinstance(part, Table):
        put_in_order(part.other)
    if not isinstance(part, Counts | Sums | Sample):
        for each in part.values():
            put_in_order(each)


def _first(entry: tuple[Any, Any]) -> Any:
    return entry[0]


class Forms(Table[Series]):
    """Counts by forms and block. The key of a pair is `live shadow`, that of a batch all its pairs, joined by `|`."""

    INNER = Series
    LIMIT = 512
