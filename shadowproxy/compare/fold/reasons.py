"""Why answers failed: error answers gathered by what they say, with one example each and where they gather."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, ClassVar, Final

from shadowproxy.compare.fold.counts import WordCounts
from shadowproxy.compare.fold.samples import Sample
from shadowproxy.compare.fold.slices import text_of
from shadowproxy.compare.fold.tables import Table, Whole

MOST_REASONS: Final = 64
_MOST_VALUES: Final = 20
_MOST_FIELDS: Final = 16


class _Values(Table[WordCounts]):
    INNER = WordCounts
    LIMIT = _MOST_VALUES + 1  # one more than is shown tells "many" from "just so many"


class _Fields(Table[_Values]):
    INNER = _Values
    LIMIT = _MOST_FIELDS
    SHALLOW = True


class _Example(Sample):
    KEPT: ClassVar[int] = 1


@dataclass(slots=True)
class Reason(Whole):
    """Answers that failed for one reason: how many (`n`), one of them by its ID, and the requests' values."""

    counts: WordCounts = field(default_factory=WordCounts)
    example: _Example = field(default_factory=_Example)
    asked: _Fields = field(default_factory=_Fields)

    def add(self, digest: int, id: str, asked: Mapping[str, Sequence[Any]]) -> None:
        self.counts["n"] += 1
        self.example.add(digest, id)
        for place, values in asked.items():
            if len(values) == 1 and (text := _text_of(values[0])) is not None:
                self.asked.part(place).part(text)["n"] += 1


class Reasons(Table[Reason]):
    """Error answers by their reason."""

    INNER = Reason
    LIMIT = MOST_REASONS


def _text_of(value: Any) -> str | None:
    """What a value is counted by; None where it is a number that is not whole, of which there are too many."""
    if isinstance(value, int) and not isinstance(value, bool):
        return str(value) if -(10**9) < value < 10**9 else None
    return text_of(value)
