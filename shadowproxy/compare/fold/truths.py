"""Labels joined to requests, by request ID or by a value in the request: what was right, known after the answers."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any, TypeAlias

from shadowproxy.answers.body import value_in
from shadowproxy.pointers import pointer_segments
from shadowproxy.record import Record

Label: TypeAlias = str | int | float | bool


@dataclass(frozen=True, slots=True)
class Truth:
    """What was right for one request: a label for each row of its answer, or one; None for a row not yet known.

    `at` is when it became known, in microseconds since the epoch, if that is given.
    """

    labels: tuple[Label | None, ...]
    at: int | None = None


@dataclass(frozen=True, slots=True)
class Truths:
    """Truths by request ID or, with `place`, by the value at that pointer in the request's body."""

    by_key: Mapping[str, Truth] = field(default_factory=dict)
    place: str | None = None

    def of(self, record: Record) -> Truth | None:
        """The truth of a record's request, if one is known."""
        if not self.by_key:
            return None
        key = record.id if self.place is None else key_at(record, self.place)
        return None if key is None else self.by_key.get(key)

    @property
    def supplied(self) -> int:
        """How many labels there are."""
        return sum(label is not None for truth in self.by_key.values() for label in truth.labels)


NONE = Truths()


def key_at(record: Record, place: str) -> str | None:
    """The value at a place of the request's body, as a key for labels."""
    value = value_in(record.request.body, record.request.headers)
    for segment in pointer_segments(place):
        if isinstance(value, dict):
            value = value.get(segment)
        elif isinstance(value, list) and segment.isascii() and segment.isdigit() and int(segment) < len(value):
            value = value[int(segment)]
        else:
            return None
    return label_key(value)


def label_key(value: Any) -> str | None:
    """A value as a key for labels: the number 17 in a request is the text 17 in a CSV file."""
    if isinstance(value, bool) or not isinstance(value, str | int | float):
        return None
    if isinstance(value, float):
        return str(int(value)) if value.is_integer() and abs(value) < 2**53 else repr(value)
    return str(value)


def by_request(labels: Mapping[str, Label] | Iterable[tuple[str, Label]]) -> Truths:
    """Truths of one label a request, by its ID."""
    return Truths({key: Truth((label,)) for key, label in dict(labels).items()})
