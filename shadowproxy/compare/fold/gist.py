"""The part of a value that labels are compared with: its form, and its number or its class as text.

A text of more than 100 characters is replaced by its digest of 128 bits, and so is such a label: they still compare
equal, and take little room. It is written as JSON: null, booleans and numbers as they are, anything else as a text
whose first letter is its form.
"""

from collections.abc import Mapping
from functools import lru_cache
from hashlib import blake2b
from typing import Any, Final, TypeAlias

from shadowproxy.compare.fold.known import LONGEST
from shadowproxy.compare.fold.values import CLASS_LIKE, LONGEST_CLASS, Label, first_of, form_of, number_of, plain

Gist: TypeAlias = tuple[str, float | str | None]
"""A value's form, with its number or its class as text; None if it has neither."""

_LETTERS: Final[Mapping[str, str]] = {
    "empty": "e",
    "NaN": "N",
    "infinite": "i",
    "text": "t",
    "token": "k",
    "volatile": "v",
    "vector": "p",
    "numbers": "m",
    "ranking": "r",
    "other": "o",
    "absent": "a",
}
_FORMS: Final = {letter: form for form, letter in _LETTERS.items()}
_DIGEST: Final = "\0"


def gist_of(value: Any) -> Gist:
    """The gist of a value in an answer."""
    form = form_of(value)
    if form in ("whole", "real"):
        return form, float(value)
    return form, short(plain(first_of(value, form))) if form in CLASS_LIKE else None


def is_class(gist: Gist, label: Label) -> bool:
    """Whether a value is the label's class."""
    form, value = gist
    if form not in CLASS_LIKE or value is None:
        return False
    return (plain(value) if isinstance(value, float) else value) == label_text(label)


def label_text(label: Label) -> str:
    """A label as classes are compared with it."""
    return short(plain(label))


def short(text: str) -> str:
    """A text, or its digest if it is long or not valid UTF-8."""
    return _shortened(text) if len(text) > LONGEST else _remembered(text)


def _shortened(text: str) -> str:
    if len(text) <= LONGEST_CLASS and text[:1] != _DIGEST:
        try:
            text.encode()
            return text
        except UnicodeEncodeError:
            pass  # half of a pair of surrogates, which JSON may hold
    return _DIGEST + blake2b(text.encode("utf-8", "surrogatepass"), digest_size=16).hexdigest()


_remembered: Final = lru_cache(maxsize=4096)(_shortened)


def written(gist: Gist) -> Any:
    """A gist as JSON."""
    form, value = gist
    if form == "null":
        return None
    if form == "boolean":
        return value == "1"
    return value if isinstance(value, float) else f"{_LETTERS[form]}{value or ''}"


def read(raw: Any) -> Gist:
    """The gist that `written` wrote. Raises ValueError for anything else."""
    if raw is None:
        return "null", None
    if isinstance(raw, bool):
        return "boolean", str(int(raw))
    if isinstance(raw, int | float):
        number = number_of(raw)
        if number is None:
            raise ValueError("a number out of range")
        return "whole" if number.is_integer() else "real", number
    if not isinstance(raw, str) or raw[:1] not in _FORMS:
        raise ValueError("a value of an unknown form")
    form = _FORMS[raw[:1]]
    return form, raw[1:] if form in CLASS_LIKE else None
