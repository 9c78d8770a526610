"""What one field of the answers says: each arm alone, the pairs, and how both do against the truth, as counts.

An observation is one value of the field; a batch has several. Where the two arms give equally many they are paired
in order, else each arm is counted alone. What is no value of the field's kind (null, NaN, another type) is counted by
what it is and takes no part in the rest.
"""

import json
import math
import re
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import lru_cache
from itertools import chain, repeat
from typing import Any, Final

from shadowproxy.compare.fields import Field, Kind, Vector, ranking_of, vector_of
from shadowproxy.compare.rules import FLOATS, Tolerance
from shadowproxy.compare.sketch import Bins, Series, Sums, Table, Tally, Whole, bin_of

MOST_CLASSES: Final = 1000
_HUGE: Final = 1e150  # numbers beyond it, whose squares overflow, stay out of the sums
_LONGEST_CLASS: Final = 100
_MOST_MET: Final = 4096  # pairs of values that wait to be counted
_PLAIN: Final[dict[str, frozenset[type]]] = {"number": frozenset({int, float}), "class": frozenset({int, str})}
"""Types whose values are one value where Python calls them equal: 1 is not True, and as a class 2**60 not 2.0**60."""
MILLION: Final = 1_000_000

Label = str | int | float | bool


class Classes(Table[Series]):
    """Observations by class and block. A class is its JSON text."""

    INNER = Series
    LIMIT = MOST_CLASSES


class Scores(Table[Series]):
    """Sums, in millionths, of what is measured on every pair and lies between 0 and 1."""

    INNER = Series


@dataclass(slots=True)
class Outputs(Whole):
    """What is counted of one field. Series, bins and sums are by block of time.

    The same pair of values comes again and again. So `meet` only notes that it came, and `settle` counts what it says,
    once with its number.

    pairs, same: observations paired, and those of them that are equal as their kind counts it. flips: probabilities
    on different sides of one half. sums: of live, shadow, their squares, their product and |difference|.
    labelled and what follows: pairs with a known truth, and who was right; `nearer` for numbers. errors: of live's
    and the shadow's |error|.
    """

    pairs: Series = field(default_factory=Series)
    same: Series = field(default_factory=Series)
    unequal_batches: Series = field(default_factory=Series)
    live_odd: Tally = field(default_factory=Tally)
    shadow_odd: Tally = field(default_factory=Tally)
    live_classes: Classes = field(default_factory=Classes)
    shadow_classes: Classes = field(default_factory=Classes)
    confusion: Classes = field(default_factory=Classes)
    live_bins: Bins = field(default_factory=Bins)
    shadow_bins: Bins = field(default_factory=Bins)
    delta_bins: Bins = field(default_factory=Bins)
    sums: Sums = field(default_factory=Sums)
    probabilities: Series = field(default_factory=Series)
    flips: Series = field(default_factory=Series)
    scores: Scores = field(default_factory=Scores)
    labelled: Series = field(default_factory=Series)
    live_right: Series = field(default_factory=Series)
    shadow_right: Series = field(default_factory=Series)
    live_only: Series = field(default_factory=Series)
    shadow_only: Series = field(default_factory=Series)
    errors: Sums = field(default_factory=Sums)
    _met: Counter[tuple[int, Any, Any]] = field(default_factory=Counter, init=False, repr=False, compare=False)
    """By block, live's value and the shadow's: how often they came."""
    _kind: Kind = field(default="class", init=False, repr=False, compare=False)
    _tolerance: Tolerance | None = field(default=None, init=False, repr=False, compare=False)

    def meet(
        self,
        block: int,
        kind: Kind,
        live: Sequence[Any],
        shadow: Sequence[Any],
        tolerance: Tolerance | None,
    ) -> None:
        """As `add` of an exchange without a label, but what can wait is counted by `settle`."""
        plain = _PLAIN.get(kind)
        if (
            plain is None
            or len(live) != len(shadow)
            or not plain.issuperset(map(type, live))
            or not plain.issuperset(map(type, shadow))
        ):
            self.add(block, kind, live, shadow, tolerance, None)
            return
        if kind != self._kind or tolerance is not self._tolerance or len(self._met) > _MOST_MET:
            self.settle()
            self._kind, self._tolerance = kind, tolerance
        known = len(self._met)
        self._met.update(zip(repeat(block), live, shadow))
        if kind == "class" and len(self._met) > known and any(map(_long, chain(live, shadow))):
            self.settle()  # a long text must not wait: many would be much memory

    def settle(self) -> None:
        """Count what was met."""
        met, self._met = self._met, Counter()
        kind, tolerance = self._kind, self._tolerance or FLOATS
        for (block, one, other), times in met.items():
            if not (_small(one) and _small(other)):
                self.add(block, kind, [one] * times, [other] * times, self._tolerance, None)
                continue
            if kind == "number":
                one, other = float(one), float(other)
            self.live_odd["value"] += times
            self.shadow_odd["value"] += times
            self._alone(kind, block, one, self.live_classes, self.live_bins, times)
            self._alone(kind, block, other, self.shadow_classes, self.shadow_bins, times)
            self.pairs[block] += times
            self.same[block] += times * self._pair(kind, block, one, other, tolerance, times)

    def add(
        self,
        block: int,
        kind: Kind,
        live: Sequence[Any],
        shadow: Sequence[Any],
        tolerance: Tolerance | None,
        label: Label | None,
    ) -> list[bool] | None:
        """Count one exchange; gives whether each pair differs, or None where the two cannot be paired."""
        ones = [self._value(kind, value, self.live_odd) for value in live]
        others = [self._value(kind, value, self.shadow_odd) for value in shadow]
        for value in ones:
            self._alone(kind, block, value, self.live_classes, self.live_bins)
        for value in others:
            self._alone(kind, block, value, self.shadow_classes, self.shadow_bins)
        if len(ones) != len(others):
            self.unequal_batches[block] += 1
            return None
        differs = []
        for one, other in zip(ones, others, strict=True):
            if one is None or other is None:
                differs.append(one is not other)
                continue
            self.pairs[block] += 1
            equal = self._pair(kind, block, one, other, tolerance or FLOATS)
            self.same[block] += equal
            differs.append(not equal)
            if label is not None and len(ones) == 1:
                self._truth(kind, block, one, other, label)
        return differs

    def _value(self, kind: Kind, value: Any, odd: Tally) -> Any:
        """A value as its kind takes it, or None for what is no such value; every one is counted by what it was."""
        made, word = as_kind(kind, value)
        odd[word] += 1
        return made

    def _alone(self, kind: Kind, block: int, value: Any, classes: Classes, bins: Bins, times: int = 1) -> None:
        if value is None:
            return
        if kind == "number":
            bins.add(block, bin_of(value), times)
        elif kind == "text":
            bins.add(block, bin_of(float(len(value))))
        elif kind == "vector":
            classes.part(class_key(top_of(value)))[block] += 1
        else:
            classes.part(class_key(value[0] if kind == "ranking" else value))[block] += times

    def _pair(self, kind: Kind, block: int, one: Any, other: Any, tolerance: Tolerance, times: int = 1) -> bool:
        if kind == "number":
            return self._numbers(block, one, other, tolerance, times)
        if kind == "vector":
            return self._vectors(block, one, other)
        if kind == "text":
            return self._texts(block, one, other)
        if kind == "ranking":
            return self._rankings(block, one, other)
        self._confuse(block, class_key(one), class_key(other), times)
        return class_key(one) == class_key(other)

    def _confuse(self, block: int, live: str, shadow: str, times: int = 1) -> None:
        self.confusion.part(_both(live, shadow))[block] += times

    def _numbers(self, block: int, one: float, other: float, tolerance: Tolerance, times: int) -> bool:
        self.delta_bins.add(block, bin_of(other - one), times)
        if max(abs(one), abs(other)) < _HUGE:
            values = (one, other, one * one, other * other, one * other, abs(other - one), 1.0)
            self.sums.add(block, *values, times=times)
        if 0 <= one <= 1 and 0 <= other <= 1:
            self.probabilities[block] += times
            self.flips[block] += times * ((one >= 0.5) != (other >= 0.5))
        return one == other or tolerance.holds(one, other)

    def _vectors(self, block: int, one: Vector, other: Vector) -> bool:
        tops = top_of(one), top_of(other)
        self._confuse(block, class_key(tops[0]), class_key(tops[1]))
        distance = sum((abs(one.get(key, 0.0) - other.get(key, 0.0)) for key in {*one, *other}), 0.0) / 2
        self._score("total variation", block, min(1.0, distance))
        return tops[0] == tops[1]

    def _texts(self, block: int, one: str, other: str) -> bool:
        left, right = words_of(one), words_of(other)
        self._score("exact", block, float(one == other))
        self._score("token F1", block, token_f1(left, right))
        longer = max(len(one), len(other))
        self._score("length ratio", block, min(len(one), len(other)) / longer if longer else 1.0)
        if one.lstrip()[:1] in ("{", "["):
            self._score("valid JSON in live", block, float(_is_json(one)))
            self._score("valid JSON in shadow", block, float(_is_json(other)))
        return left == right

    def _rankings(self, block: int, one: list[str], other: list[str]) -> bool:
        self._score("top 1", block, float(one[0] == other[0]))
        self._score("overlap at 10", block, overlap(one, other, 10))
        self._score("rank-biased overlap", block, rank_biased_overlap(one, other))
        return one == other

    def _score(self, name: str, block: int, value: float) -> None:
        self.scores.part(name)[block] += round(value * MILLION)
        self.scores.part(f"{name}, pairs")[block] += 1

    def _truth(self, kind: Kind, block: int, one: Any, other: Any, label: Label) -> None:
        if kind == "number":
            truth = number_of(label)
            if truth is None or not all(abs(each) < _HUGE for each in (one, other, truth)):
                return
            wrong = abs(one - truth), abs(other - truth)
            self.errors.add(block, *wrong, 1.0)
            self.live_only[block] += wrong[0] < wrong[1]
            self.shadow_only[block] += wrong[1] < wrong[0]
        else:
            one, other = (top_of(one), top_of(other)) if kind == "vector" else (one, other)
            one, other = (one[0], other[0]) if kind == "ranking" else (one, other)
            rights = same_class(one, label), same_class(other, label)
            self.live_right[block] += rights[0]
            self.shadow_right[block] += rights[1]
            self.live_only[block] += rights[0] and not rights[1]
            self.shadow_only[block] += rights[1] and not rights[0]
        self.labelled[block] += 1


def can_wait(kind: Kind) -> bool:
    """Whether values of a kind can wait to be counted: those that come again and again."""
    return kind in _PLAIN


def unlike(kind: Kind, live: Sequence[Any], shadow: Sequence[Any], tolerance: Tolerance | None) -> list[bool] | None:
    """Of a class or a number, whether each pair differs, as `Outputs.add` has it; None where they cannot be paired."""
    if len(live) != len(shadow):
        return None
    allowed = tolerance or FLOATS
    return [
        (one != other or type(one) is not type(other)) and _differ(kind, one, other, allowed)
        for one, other in zip(live, shadow, strict=True)
    ]


def _differ(kind: Kind, live: Any, shadow: Any, tolerance: Tolerance) -> bool:
    if not (type(live) is type(shadow) is float and _small(live) and _small(shadow)):
        live, shadow = as_kind(kind, live)[0], as_kind(kind, shadow)[0]
        if live is None or shadow is None:
            return live is not shadow
    if kind == "class":
        return class_key(live) != class_key(shadow)
    return live != shadow and not tolerance.holds(live, shadow)


def _long(value: Any) -> bool:
    return isinstance(value, str) and len(value) > _LONGEST_CLASS


def _small(value: Any) -> bool:
    """Whether a value can wait: a short text, or a number whose square is one too. NaN is neither."""
    return len(value) <= _LONGEST_CLASS if isinstance(value, str) else abs(value) < _HUGE


class OutputsByField(Table[Outputs]):
    """What is counted of each field, by the field's key."""

    INNER = Outputs
    LIMIT = 16


def field_key(found: Field) -> str:
    return json.dumps([found.live, found.shadow, found.kind], ensure_ascii=False)


def field_of(key: str) -> Field:
    live, shadow, kind = json.loads(key)
    return Field(live, shadow, kind)


def as_kind(kind: Kind, value: Any) -> tuple[Any, str]:
    """A value as its kind takes it with the word "value", or None with the word for what it is instead."""
    if value is None:
        return None, "null"
    if kind == "number":
        if isinstance(value, bool) or not isinstance(value, int | float):
            return None, "another type"
        try:
            number = float(value)
        except OverflowError:
            return None, "infinite"
        return (number, "value") if math.isfinite(number) else (None, "NaN" if math.isnan(number) else "infinite")
    if kind == "class":
        if isinstance(value, float) and math.isnan(value):
            return None, "NaN"
        return (None, "another type") if isinstance(value, dict | list) else (value, "value")
    made: Any = None
    if kind == "vector":
        made = vector_of(value)
        if made is None and isinstance(value, list) and any(isinstance(each, float) and each != each for each in value):
            return None, "NaN"
    elif kind == "ranking":
        made = ranking_of(value)
    elif isinstance(value, str):
        made = value
    return (made, "value") if made is not None else (None, "another type")


@lru_cache(maxsize=4096)
def _both(live: str, shadow: str) -> str:
    return json.dumps([live, shadow], ensure_ascii=False)


@lru_cache(maxsize=4096, typed=True)
def class_key(value: str | int | float | None) -> str:
    """A class as text: JSON, so that "1" and 1 are two classes, while 1 and 1.0 are one."""
    if isinstance(value, float) and value.is_integer() and abs(value) < 2**53:
        value = int(value)
    text = json.dumps(value) if not isinstance(value, str) else json.dumps(value, ensure_ascii=False)
    text = text.encode("utf-8", "backslashreplace").decode()
    return text if len(text) <= _LONGEST_CLASS else text[:_LONGEST_CLASS] + "…"


def top_of(vector: Vector) -> str:
    """The class of the largest share; of equals the first."""
    return max(vector, key=vector.__getitem__)


def words_of(text: str) -> list[str]:
    """A text for comparing words: lower case, white space and punctuation apart."""
    return re.findall(r"\w+", text.lower())


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


def rank_biased_overlap(one: list[str], other: list[str], p: float = 0.9) -> float:
    """RBO, extrapolated from what is seen: W. Webber, A. Moffat and J. Zobel, ACM TOIS 28 (2010) 20, equation 32."""
    short, long = sorted((one, other), key=len)
    s, length = len(short), len(long)
    seen_short: set[str] = set()
    seen_long: set[str] = set()
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


def number_of(label: Label) -> float | None:
    try:
        number = float(label)
    except (ValueError, OverflowError):
        return None
    return number if math.isfinite(number) else None


_TRUE: Final = {"true": "1", "yes": "1", "false": "0", "no": "0"}


def same_class(value: Any, label: Label) -> bool:
    """Whether an answer is the label, which a CSV file gives as text: `true` is "True" and "1", 3 is "3" and "3.0"."""
    return _plain(value) == _plain(label)


def _plain(value: Any) -> str:
    if isinstance(value, bool):
        return str(int(value))
    text = str(value).strip().lower()
    text = _TRUE.get(text, text)
    try:
        number = float(text)
    except ValueError:
        return text
    return str(int(number)) if math.isfinite(number) and number == int(number) else repr(number)


def _is_json(text: str) -> bool:
    try:
        json.loads(text)
    except (ValueError, RecursionError):
        return False
    return True
