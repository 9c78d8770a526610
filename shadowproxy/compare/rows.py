"""The rows of a batch: as many answers to as many questions of one request."""

from collections.abc import Mapping, Sequence
from typing import Any, Final

_MOST_VALUES: Final = 64  # of a request that are looked at for its rows


def lengths_of(payload: Any) -> set[int]:
    """How many elements the arrays of a request have: of those that are in no other array, as a batch's rows are."""
    found: set[int] = set()
    waiting = [payload]
    for value in waiting:
        if isinstance(value, list):
            found.add(len(value))
        elif isinstance(value, dict) and len(waiting) < _MOST_VALUES:
            waiting.extend(each for each in value.values() if isinstance(each, dict | list))
    return found


Rows = dict[int, list[tuple[str, ...]]]


def marks_by_row(words: Mapping[int, Sequence[Sequence[str]]], common: Sequence[str]) -> Rows:
    """For each number of rows that some place has, what befell each row: the words of its places and the common ones.

    `words` has, by the number of rows, a sequence for each place with so many, which has a mark or "" for each row.
    """
    return {
        number: [(*common, *(each[at] for each in places if each[at])) for at in range(number)]
        for number, places in words.items()
    }
