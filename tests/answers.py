"""Answers as the fold takes them apart."""

from collections.abc import Sequence
from typing import Any, Final

from shadowproxy.compare.fold.layouts import Answer
from shadowproxy.compare.fold.looks import values_by_place
from shadowproxy.compare.fold.places import PlaceValues

FAILED: Final = object()
"""In place of the value of a shadow that gave no answer."""


def candidates(value: Any) -> dict[str, list[Any]]:
    """The places of an answer that may be judged, and the values there."""
    answer = Answer(value)
    return dict(zip(answer.places, answer.columns, strict=True))


def place_values(live: Any, shadow: Any, given: Sequence[tuple[str, str]] = ()) -> list[PlaceValues]:
    """The values of both arms by place."""
    return values_by_place(Answer(live), None if shadow is FAILED else Answer(shadow), given)
