"""Why answers failed: error answers by what they say, with an example and the requests' most frequent values."""

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
    LIMIT = _MOST_VALUES + 1  # one more than is shown: then there are more


class _Fields(Table[_Values]):
    INNER = _Values
    LIMIT = _MOST_FIELDS
    SHALLOW = True


class _Example(Sample):
    KEPT: ClassVar[int] = 1


@dataclass(slots=True)
class Reason(Whole):
    """Answers that failed for one reason: their number (`n`), one request ID, and the requests' values (`asked`, which
    is its name in a saved summary)."""

    counts: WordCounts = field(default_factory=WordCounts)
    example: _Example = field(default_factory=_Example)
    asked: _Fields = field(default_factory=_Fields)

    def add(self, digest: int, id: str, fields: Mapping[str, Sequence[Any]]) -> None:
        self.counts["n"] += 1
        self.example.add(digest, id)
        for place, values in fields.items():
            if len(values) == 1 and (text := _text_of(values[0])) is not None:
                self.asked.part(place).part(text)["n"] += 1


class Reasons(Table[Reason]):
    """Error answers by their reason."""

    INNER = Reason
    LIMIT = MOST_REASONS


def _text_of(value: Any) -> str | None:
    """A value as text; None for a number that is not whole: there are too many different ones."""
    if isinstance(value, int) and not isinstance(value, bool):
        return str(value) if -(10**9) < value < 10**9 else None
    return text_of(value)
