"""The rows of a batch: one answer for each row of the request."""

from collections.abc import Iterable, Sequence
from typing import Any, Final

_MOST_VALUES: Final = 64  # of a request that are looked at for its rows


def lengths_of(payload: Any) -> set[int]:
    """The lengths of a request's arrays that are in no other array, as a batch's rows are."""
    found: set[int] = set()
    waiting = [payload]
    for value in waiting:
        if isinstance(value, list):
            found.add(len(value))
        elif isinstance(value, dict) and len(waiting) < _MOST_VALUES:
            waiting.extend(each for each in value.values() if isinstance(each, dict | list))
    return found


class Rows:
    """The marks of one exchange's rows: by number of rows, the marks of the places with so many rows, and the marks of
    the exchange. They are put together row by row on demand, if a field of the request has as many values."""

    __slots__ = ("_common", "_places", "_rows")

    def __init__(self) -> None:
        self._common: tuple[str, ...] = ()
        self._places: dict[int, list[Sequence[str]]] = {}
        self._rows: dict[int, list[tuple[str, ...]]] = {}

    def add(self, number: int, marks: Sequence[str] | None) -> None:
        """Add a place with so many rows: a mark or "" for each, or None if no row has a mark."""
        places = self._places.get(number)
        if places is None:
            places = self._places[number] = []
        if marks is not None:
            places.append(marks)

    def finish(self, common: Iterable[str]) -> None:
        """Every row has these marks as well."""
        self._common = tuple(common)

    def get(self, number: int) -> Sequence[tuple[str, ...]] | None:
        """The marks of each row, if some place has so many rows."""
        found = self._rows.get(number)
        if found is None:
            places = self._places.get(number)
            if places is None:
                return None
            common = self._common
            found = [(*common, *[each[at] for each in places if each[at]]) for at in range(number)]
            self._rows[number] = found
        return found
