"""Counts by class, kept for as long as there are few classes."""

from collections.abc import Mapping
from typing import Any, ClassVar, Final, Self
from zlib import crc32

from shadowproxy.compare.fold.counts import Series, Weight

MOST_CLASSES: Final = 1000
MOST_WHOLE: Final = 64
"""Different whole numbers that may be classes."""


class Few(dict[str, Series]):
    """Counts by class and block while there are few.

    With more than `LIMIT` classes the single counts are given up for good. From then on classes are counted in
    `BUCKETS` buckets by the hash of their name, which still shows whether two arms have them equally often.
    """

    LIMIT: ClassVar[int] = MOST_CLASSES
    BUCKETS: ClassVar[int] = 16

    def __init__(self, counts: Mapping[str, Series] | None = None, *, many: bool = False) -> None:
        super().__init__(counts or {})
        self.many = many

    def add(self, block: int, key: str, times: int = 1) -> None:
        if self.many:
            if not self.BUCKETS:
                return
            key = self._bucket(key)
        series = self.get(key)
        if series is None:
            series = self[key] = Series()
            series[block] += times
            if len(self) > self.LIMIT:
                self._give_up()
        else:
            series[block] += times

    def _bucket(self, key: str) -> str:
        return f"#{crc32(key.encode('utf-8', 'surrogatepass')) % self.BUCKETS}"

    def _give_up(self) -> None:
        counts = dict(self)
        self.clear()
        self.many = True
        if self.BUCKETS:
            for key, series in counts.items():
                self._gather(self._bucket(key), series)

    def _gather(self, key: str, series: Series) -> None:
        mine = self.get(key)
        if mine is None:
            self[key] = Series(series)
        else:
            mine.absorb(series)

    def __bool__(self) -> bool:
        return self.many or len(self) > 0

    def merged(self, other: Self) -> Self:
        total = type(self)({key: Series(series) for key, series in self.items()}, many=self.many)
        total.absorb(other)
        return total

    def absorb(self, other: Self) -> None:
        if other.many and not self.many:
            self._give_up()
        for key, series in other.items():
            if self.many and not other.many:
                if not self.BUCKETS:
                    break
                key = self._bucket(key)
            self._gather(key, series)
        if not self.many and len(self) > self.LIMIT:
            self._give_up()

    def widened(self, doublings: int = 1) -> Self:
        return type(self)({key: series.widened(doublings) for key, series in self.items()}, many=self.many)

    def weighed(self, weight: Weight) -> Self:
        return type(self)({key: series.weighed(weight) for key, series in self.items()}, many=self.many)

    def to_json(self) -> Any:
        return {"many": self.many, "classes": {key: series.to_json() for key, series in sorted(self.items())}}

    @classmethod
    def from_json(cls, raw: Any) -> Self:
        counts = {str(key): Series.from_json(series) for key, series in raw["classes"].items()}
        return cls(counts, many=bool(raw["many"]))


class FewWhole(Few):
    """Counts of whole numbers, which are classes only if they are fewer still; otherwise nothing is kept."""

    LIMIT = MOST_WHOLE
    BUCKETS = 0


class Pairs(dict[str, int]):
    """How often live had one class and the shadow another; given up if there are too many pairs."""

    LIMIT: ClassVar[int] = 4096

    def __init__(self, counts: Mapping[str, int] | None = None, *, many: bool = False) -> None:
        super().__init__(counts or {})
        self.many = many
        self._fit()

    def add(self, key: str, times: int) -> None:
        if not self.many:
            self[key] = self.get(key, 0) + times
            if len(self) > self.LIMIT:
                self._fit()

    def _fit(self) -> None:
        if self.many or len(self) > self.LIMIT:
            self.many = True
            self.clear()

    def __bool__(self) -> bool:
        return self.many or len(self) > 0

    def merged(self, other: Self) -> Self:
        total = type(self)(self, many=self.many)
        total.absorb(other)
        return total

    def absorb(self, other: Self) -> None:
        self.many = self.many or other.many
        for key, count in other.items():
            self[key] = self.get(key, 0) + count
        self._fit()

    def widened(self, doublings: int = 1) -> Self:
        return self

    def weighed(self, weight: Weight) -> Self:
        return type(self)({key: count * weight.times for key, count in self.items()}, many=self.many)

    def to_json(self) -> Any:
        return None if self.many else dict(sorted(self.items()))

    @classmethod
    def from_json(cls, raw: Any) -> Self:
        return cls(many=True) if raw is None else cls({str(key): int(count) for key, count in raw.items()})
