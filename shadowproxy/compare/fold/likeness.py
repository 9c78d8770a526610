"""Whether two values are the same answer, and the mark of the pair."""

from collections.abc import Sequence
from math import isfinite
from operator import mul, sub
from typing import Any, Final, Literal

from shadowproxy.compare.fold.values import (
    CLASS_LIKE,
    FAMILIES,
    LONGEST_CLASS,
    class_key,
    cosine,
    first_of,
    form_of,
    ranking_of,
    texts_alike,
)
from shadowproxy.compare.judge.near import RELATIVE, near_floats
from shadowproxy.compare.judge.rules import Tolerance

Mark = Literal["", "differs", "spelled", "lost", "gained"]
"""The mark of one row. `spelled`: texts of the same words, or whole numbers within tolerance, which are the same as
texts and numbers but not as classes."""

_EQUAL_ANGLE: Final = 1e-5
_HALF: Final = 2.0**-10  # of a number, or of the root mean square of all
_PLAIN: Final = 1 << 53  # below it every whole number is a float


def flip_of(live: Any, shadow: Any) -> tuple[str, str] | None:
    """How an answer changed, as classes; None if it did not, or if the two are not classes."""
    form, other_form = form_of(live), form_of(shadow)
    if form not in CLASS_LIKE or other_form not in CLASS_LIKE:
        return None
    pair = class_key(first_of(live, form)), class_key(first_of(shadow, other_form))
    return pair if pair[0] != pair[1] else None


def close(one: Any, other: Any, tolerance: Tolerance | None) -> bool:
    """Whether two finite numbers are equal: by the tolerance that the rules give, else as the judged field's are."""
    if one == other:
        return True
    if tolerance is not None:
        return tolerance.holds(one, other)
    return near_floats(float(one), float(other), RELATIVE)


def likeness_of(one: Any, form: str, other: Any, other_form: str, tolerance: Tolerance | None) -> int:
    """0 if two values differ, 1 if they are the same, 2 if they are the same and written differently."""
    family = FAMILIES.get(form)
    if family is None:
        return int(form == other_form)
    if family != FAMILIES.get(other_form):
        return 0
    if family == "number":
        if one == other:
            return 1
        return (2 if form == other_form == "whole" else 1) if close(one, other, tolerance) else 0
    if one == other:
        return 1
    if family == "text":
        if form == other_form == "volatile":
            return 0
        return 2 if texts_alike(one, other)[0] else 0
    if family == "vector":
        return int(first_of(one, form) == first_of(other, other_form))
    if family == "ranking":
        return int(ranking_of(one) == ranking_of(other))
    return 0


def same_arrays(one: Sequence[Any], other: Sequence[Any], elements: Tolerance | None, *, embedding: bool) -> bool:
    """Whether two arrays of finite numbers are equal: by the tolerance that the rules give their elements; as
    embeddings by their direction; others if besides no number is further off than half precision makes it.

    One wrong number in a long array hardly turns it, and all of them too large by a share do not turn it at all.
    """
    if len(one) != len(other):
        return False
    if one == other:
        return True
    if elements is not None:
        return all(map(elements.holds, one, other))
    found = cosine(one, other)
    if found is None or 1 - found > _EQUAL_ANGLE:
        return False
    if embedding:
        return True
    scale = (sum(map(mul, one, one)) / len(one)) ** 0.5
    if max(map(abs, map(sub, one, other))) <= _HALF * scale:
        return True
    return all(
        abs(left - right) <= _HALF * max(scale, abs(left), abs(right)) for left, right in zip(one, other, strict=True)
    )


def form_of_all(values: Sequence[Any]) -> str | None:
    """The one form of scalars that can wait to be counted; None if they have several, or cannot."""
    kinds = set(map(type, values))
    if len(kinds) != 1:
        return None
    if float in kinds:
        # Infinity and NaN leave no finite sum, nor do numbers that are too large to be added.
        return "real" if not any(map(float.is_integer, values)) and isfinite(sum(values)) else None
    if int in kinds:
        return "whole" if min(values) > -_PLAIN and max(values) < _PLAIN else None
    if str in kinds:
        forms = {form_of(value) for value in set(values)}
        return forms.pop() if len(forms) == 1 and max(map(len, values)) <= LONGEST_CLASS else None
    return "boolean" if bool in kinds else None


def mark_of(form: str, other_form: str, likeness: int) -> Mark:
    if form in FAMILIES:
        if FAMILIES.get(other_form) != FAMILIES[form]:
            return "lost"
        return "differs" if likeness == 0 else "spelled" if likeness == 2 else ""
    return "gained" if other_form in FAMILIES else ""
