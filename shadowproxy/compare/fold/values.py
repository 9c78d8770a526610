"""One value of an answer: its form, its class, and its likeness to another value."""

import json
import math
import re
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from functools import lru_cache
from operator import mul
from typing import Any, Final, Literal

from shadowproxy.answers import leaves
from shadowproxy.compare.fold.known import LONGEST
from shadowproxy.compare.fold.noise import VOLATILE_SHAPES, shape_of

Form = Literal[
    "null",
    "empty",
    "NaN",
    "infinite",
    "boolean",
    "whole",
    "real",
    "text",
    "token",
    "volatile",
    "vector",
    "numbers",
    "ranking",
    "other",
    "absent",
]
"""What a JSON value can be. `whole` and `real` are finite numbers without and with a fraction, so that 1 and 1.0 are of
one form; `token` is a text that looks like an ID and `volatile` one that looks like a UUID, a time or a digest;
`vector` is a probability vector, `numbers` another array of numbers, `ranking` an array of things with an ID each;
`empty` is an empty text or array, and `absent` a member that an element of an array lacks."""


class Missing:
    """Stands for a member that an element of an array lacks and other elements have."""

    def __repr__(self) -> str:
        return "missing"


MISSING: Final = Missing()

Label = str | int | float | bool

Vector = dict[str, int | float]
"""Shares by class."""

LONGEST_CLASS: Final = 100
LONG_TEXT: Final = "long text"
"""The one class of all texts that are longer than `LONGEST_CLASS`; unlike the others, it is not in quotes."""

ABSENT: Final = "absent"
FEWER: Final = "fewer rows"
EXTRA: Final = "more rows"
"""Live's form where the shadow has rows beyond live's last: they answer no question, so nothing is gained."""
FAILED: Final = "failed"
OTHER_SIZE: Final = "another dimension"
"""The shadow's form where both arrays hold numbers, and not as many: an embedding cut short answers nothing."""

FAMILIES: Final[Mapping[str, str]] = {
    "boolean": "boolean",
    "whole": "number",
    "real": "number",
    "text": "text",
    "token": "text",
    "volatile": "text",
    "vector": "vector",
    "numbers": "numbers",
    "ranking": "ranking",
}
"""The family of each form that can be an answer. It decides what is measured on two values of the family."""

CLASS_LIKE: Final = frozenset({"boolean", "whole", "text", "token", "vector", "ranking"})
"""Forms that classes come in."""

_SLACK: Final = 1e-6  # by which a share may leave [0, 1], as sums of single-precision floats do
_OFF_ONE: Final = 0.02  # by which the shares of a vector may miss 1 in sum
_LARGEST_VECTOR: Final = 10_000
_REMEMBERED: Final = 3000  # characters of two texts together
_QUANTITY: Final = re.compile(
    r"(?i)(?:\A|_)(?:score|prob|probability|proba|prediction|confidence|value|threshold|output|result|price|amount|rate"
    r"|weight|p|latency|ms|seconds|time|version|alpha|beta|mean|std|min|max|low|high|lower|upper)\Z"
)
_WORD: Final = re.compile(r"\w+")
ID_NAMES: Final = ("id", "item_id", "doc_id", "document_id", "product_id", "item", "asin", "sku", "key")


def form_of(value: Any) -> Form:
    """The form of a JSON value."""
    if isinstance(value, float):  # first, as the most frequent
        return _float_form(value)
    if isinstance(value, str):
        return _text_form(value)
    if value is None:
        return "null"
    if isinstance(value, bool):
        return "boolean"
    if isinstance(value, int):
        return "whole" if number_of(value) is not None else "infinite"
    return _array_form(value)


def form_beside(one: Any, form: str, other: Any) -> str:
    """The form of the shadow's value beside live's."""
    found = form_of(other)
    return OTHER_SIZE if form == found == "numbers" and len(one) != len(other) else found


def _float_form(value: float) -> Form:
    if value != value:
        return "NaN"
    if value - value != 0.0:
        return "infinite"
    return "whole" if value.is_integer() else "real"


def _text_form(value: str) -> Form:
    if len(value) > LONGEST_CLASS:
        return "text" if value[:LONGEST_CLASS].strip() or value.strip() else "empty"
    return _short_text_form(value)


@lru_cache(maxsize=4096)
def _short_text_form(value: str) -> Form:
    if not value or value.isspace():
        return "empty"
    shape = shape_of("", value)
    return "volatile" if shape in VOLATILE_SHAPES else "token" if shape == "token" else "text"


def _array_form(value: Any) -> Form:
    if value is MISSING:
        return "absent"
    if not value:
        return "empty"
    if vector_of(value) is not None:
        return "vector"
    if isinstance(value, leaves.Vector):  # too long to be made a list of
        return _numbers_form(value.numbers)
    if isinstance(value, list):
        kinds = set(map(type, value))
        if kinds <= {int, float}:
            return _numbers_form(value)
        if ranking_of(value) is not None:
            return "ranking"
        if float in kinds and any(isinstance(each, float) and each != each for each in value):
            return "NaN"
    return "other"


def _numbers_form(values: Iterable[Any]) -> Form:
    try:
        total = math.fsum(values)
    except (OverflowError, ValueError):
        return "infinite"
    return "numbers" if math.isfinite(total) else "NaN" if total != total else "infinite"


def vector_of(value: Any) -> Vector | None:
    """A probability vector by class: an array of two or more numbers in [0, 1] that sum to 1, or an object of such
    numbers whatever their sum (several labels may hold at once), unless its names are not those of classes."""
    if isinstance(value, list):
        return {str(at): each for at, each in enumerate(value)} if is_vector(value) else None
    if isinstance(value, dict) and 2 <= len(value) <= _LARGEST_VECTOR and all(map(_share, value.values())):
        if not any(isinstance(each, float) for each in value.values()):
            return None
        return value if sums_to_one(value) or not any(map(_names_a_quantity, value)) else None
    return None


def sums_to_one(vector: Vector) -> bool:
    """Whether these are the shares of classes that exclude each other."""
    return abs(sum(vector.values(), 0.0) - 1) <= _OFF_ONE


def _names_a_quantity(name: str) -> bool:
    """Whether a name is that of a quantity, not of a class."""
    return _is_quantity(name) if len(name) > LONGEST else _short_is_quantity(name)


def _is_quantity(name: str) -> bool:
    return _QUANTITY.search(name) is not None


_short_is_quantity: Final = lru_cache(maxsize=4096)(_is_quantity)


def is_vector(value: list[Any]) -> bool:
    """Whether an array is a probability vector."""
    if not 2 <= len(value) <= _LARGEST_VECTOR or not set(map(type, value)) <= {int, float}:
        return False
    return bool(min(value) >= -_SLACK and max(value) <= 1 + _SLACK and abs(sum(value, 0.0) - 1) <= _OFF_ONE)


def _share(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and -_SLACK <= value <= 1 + _SLACK


def ranking_of(value: Any) -> list[str] | None:
    """A ranking by ID: an array of objects that carry one, or of texts, each once."""
    if not isinstance(value, list) or not value:
        return None
    first = value[0]
    if isinstance(first, str):
        return value if all(isinstance(each, str) for each in value) and len(value) == len(set(value)) else None
    if isinstance(first, dict):
        for name in ID_NAMES:
            if name in first:
                ids = [str(each.get(name)) for each in value if isinstance(each, dict)]
                return ids if len(ids) == len(value) == len(set(ids)) else None
    return None


def top_of(vector: Vector) -> str:
    """The class of the largest share; the first if several are equal."""
    return max(vector, key=vector.__getitem__)


def class_key(value: str | int | float | None) -> str:
    """A class as text: JSON, so that "1" and 1 are two classes, while 1 and 1.0 are one."""
    return LONG_TEXT if isinstance(value, str) and len(value) > LONGEST_CLASS else _class_key(value)


@lru_cache(maxsize=4096, typed=True)
def _class_key(value: str | int | float | None) -> str:
    if isinstance(value, str):
        text = json.dumps(value, ensure_ascii=False)
    else:
        if isinstance(value, float) and value.is_integer() and abs(value) < 2**53:
            value = int(value)
        text = json.dumps(value)
        if len(text) > LONGEST_CLASS:
            text = text[:LONGEST_CLASS] + "…"
    return text.encode("utf-8", "backslashreplace").decode()


def first_of(value: Any, form: str) -> Any:
    """The class of a value: the largest share's, the first of a ranking, else the value."""
    if form == "vector":
        vector = vector_of(value)
        return top_of(vector) if vector is not None else None
    if form == "ranking":
        ranking = ranking_of(value)
        return ranking[0] if ranking else None
    return value


# --- likeness ------------------------------------------------------------------------------------------------------


def words_of(text: str) -> list[str]:
    """A text for comparing words: lower case, white space and punctuation apart."""
    return _WORD.findall(text.lower())


def texts_alike(one: str, other: str) -> tuple[bool, float]:
    """Whether two texts have the same words, at least one; and their F1 by words. Short texts are cached, as each pair
    is compared twice: when it is added and when it is counted."""
    if len(one) + len(other) > _REMEMBERED:
        return _alike(one, other)
    return _short_alike(one, other)


def _alike(one: str, other: str) -> tuple[bool, float]:
    words, others = words_of(one), words_of(other)
    if words == others:
        return words != [], 1.0
    return False, token_f1(words, others)


_short_alike: Final = lru_cache(maxsize=512)(_alike)


def token_f1(one: list[str], other: list[str]) -> float:
    """The harmonic mean of the shares of words in common: SQuAD's F1, P. Rajpurkar and others, EMNLP 2016."""
    if not one or not other:
        return float(one == other)
    common = (Counter(one) & Counter(other)).total()
    return 2 * common / (len(one) + len(other))


def overlap(one: list[str], other: list[str], depth: int) -> float:
    """The share of the first `depth` that both have."""
    first, second = set(one[:depth]), set(other[:depth])
    return len(first & second) / max(len(first), len(second))


def rank_biased_overlap(one: Sequence[Any], other: Sequence[Any], p: float = 0.9) -> float:
    """RBO, extrapolated from what is seen: W. Webber, A. Moffat and J. Zobel, ACM TOIS 28 (2010) 20, equation 32."""
    short, long = (one, other) if len(one) <= len(other) else (other, one)
    s, length = len(short), len(long)
    seen_short: set[Any] = set()
    seen_long: set[Any] = set()
    common = common_at_s = 0
    total = 0.0
    for depth in range(1, length + 1):
        item = long[depth - 1]
        common += item in seen_short
        seen_long.add(item)
        if depth <= s:
            mine = short[depth - 1]
            common += mine in seen_long
            seen_short.add(mine)
            common_at_s = common
        total += common / depth * p**depth
        if depth > s:
            total += common_at_s * (depth - s) / (s * depth) * p**depth
    ends = (common - common_at_s) / length + common_at_s / s
    return min(1.0, (1 - p) / p * total + ends * p**length)


def cosine(one: Sequence[float], other: Sequence[float]) -> float | None:
    """The cosine of the angle between two arrays of numbers; None where one is zero or their lengths differ."""
    if len(one) != len(other):
        return None
    try:
        lengths = math.sqrt(sum(map(mul, one, one))) * math.sqrt(sum(map(mul, other, other)))
        if not (lengths > 0 and math.isfinite(lengths)):
            return None
        found: float = sum(map(mul, one, other)) / lengths
        return max(-1.0, min(1.0, found))
    except OverflowError:
        return None


# --- labels --------------------------------------------------------------------------------------------------------


def number_of(label: Any) -> float | None:
    """A label or an answer as a finite number, or None."""
    try:
        number = float(label)
    except (TypeError, ValueError, OverflowError):
        return None
    return number if math.isfinite(number) else None


_TRUE: Final = {"true": "1", "yes": "1", "false": "0", "no": "0"}


def plain(value: Any) -> str:
    """An answer or a label as text, to be compared: a CSV file has only texts. `true` is "True" and "1", 3 is "3" and
    "3.0"."""
    if isinstance(value, bool):
        return str(int(value))
    text = str(value).strip().lower()
    text = _TRUE.get(text, text)
    try:
        number = float(text)
    except ValueError:
        return text
    return str(int(number)) if math.isfinite(number) and number == int(number) else repr(number)


def is_json(text: str) -> bool:
    """Whether a text is JSON."""
    try:
        json.loads(text)
    except (ValueError, RecursionError):
        return False
    return True


_NUMBERS: Final = frozenset({int, float})


def gap_of(live: Any, shadow: Any) -> float | None:
    """How far two numbers lie apart; None if that is not a finite number.

    By their types, not by `isinstance`: compiled, a float is a C double, and an integer of 400 digits does not fit.
    """
    if type(live) not in _NUMBERS or type(shadow) not in _NUMBERS:
        return None
    try:
        one, other = float(live), float(shadow)
    except OverflowError:
        return None
    return abs(other - one) if abs(one) < 1e300 and abs(other) < 1e300 else None
