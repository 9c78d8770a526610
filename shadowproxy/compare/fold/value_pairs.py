"""Counts single values, and measures pairs of values, by their forms."""

from collections.abc import Sequence
from operator import mul
from typing import Any, Final

from shadowproxy.compare.fold.cells import cells_of
from shadowproxy.compare.fold.likeness import close, likeness_of, same_arrays
from shadowproxy.compare.fold.outputs import MILLION, Outputs
from shadowproxy.compare.fold.places import field_key
from shadowproxy.compare.fold.related import AXES, projected
from shadowproxy.compare.fold.spread import SpreadBuilder
from shadowproxy.compare.fold.values import (
    FAMILIES,
    OTHER_SIZE,
    class_key,
    cosine,
    first_of,
    is_json,
    number_of,
    overlap,
    rank_biased_overlap,
    ranking_of,
    texts_alike,
    top_of,
    vector_of,
)
from shadowproxy.compare.judge.rules import Tolerance

_HUGE: Final = 1e150  # numbers beyond it, whose squares overflow, stay out of the sums


class ValueCounter:
    """Counts values and pairs of values into outputs; numbers wait there until `flush`.

    `tolerance` is what the rules allow numbers at this place to differ by, `elements` those of an array there;
    `embedding`: its name says that arrays there are embeddings.
    """

    __slots__ = (
        "_gap_times",
        "_gaps",
        "_lengths",
        "_norms",
        "_numbers",
        "_outputs",
        "elements",
        "embedding",
        "tolerance",
    )

    def __init__(self, outputs: Outputs) -> None:
        self.tolerance: Tolerance | None = None
        self.elements: Tolerance | None = None
        self.embedding = False
        self._outputs = outputs
        self._numbers = SpreadBuilder(outputs.numbers)
        self._lengths = SpreadBuilder(outputs.lengths)
        self._norms = SpreadBuilder(outputs.norms)
        self._gaps: list[float] = []
        self._gap_times: list[int] = []

    def flush(self) -> None:
        """Put the waiting numbers into cells."""
        if self._gaps:
            self._outputs.deltas.add(zip(cells_of(self._gaps), self._gap_times, strict=True))
            self._gaps = []
            self._gap_times = []
        self._numbers.flush()
        self._lengths.flush()
        self._norms.flush()

    def add(self, block: int, one: Any, form: str, other: Any, other_form: str, times: int, *, single: bool) -> int:
        """Count a pair of values `times` times; returns their `likeness_of`."""
        outputs = self._outputs
        self._arm(block, one, form, times, shadow=False)
        self._arm(block, other, other_form, times, shadow=True)
        found = 0
        family = FAMILIES.get(form)
        if family is None:
            found = int(form == other_form)
        elif family == FAMILIES.get(other_form):
            found = self._pair(block, family, one, form, other, other_form, times)
        key = f"{form} {other_form}"
        if single:
            outputs.single.part(key)[block] += times
            if found:
                outputs.single_same.part(key)[block] += times
                if found == 2:
                    outputs.single_spelled.part(key)[block] += times
        else:
            outputs.rows.part(key)[block] += times
            if found:
                outputs.rows_same.part(key)[block] += times
                if found == 2:
                    outputs.rows_spelled.part(key)[block] += times
        return found

    def _arm(self, block: int, value: Any, form: str, times: int, *, shadow: bool) -> None:
        if form == "real":
            self._numbers.add(block, value, times, shadow)
            return
        if form == "whole":
            self._numbers.add(block, float(value), times, shadow)
            wholes = self._outputs.shadow_whole if shadow else self._outputs.live_whole
            if not wholes.many:
                wholes.add(block, class_key(value), times)
            return
        classes = self._outputs.shadow_classes if shadow else self._outputs.live_classes
        if form in ("text", "token"):
            self._lengths.add(block, float(len(value)), times, shadow)
            classes.add(block, class_key(value), times)
        elif form == "empty":
            if isinstance(value, str):
                classes.add(block, class_key(value), times)
        elif form == "boolean":
            classes.add(block, class_key(value), times)
        elif form in ("vector", "ranking"):
            classes.add(block, class_key(first_of(value, form)), times)
        elif form in ("numbers", OTHER_SIZE):
            self._outputs.dimensions[str(len(value))] += times
            if shadow:
                self._outputs.shadow_dimensions[str(len(value))] += times
            norm = _norm(value)
            if norm is not None:
                self._norms.add(block, norm, times, shadow)

    def _pair(self, block: int, family: str, one: Any, form: str, other: Any, other_form: str, times: int) -> int:
        if family == "number":
            self._number_pair(block, float(one), float(other), times)
            if form == other_form == "whole":
                self._class_pair(one, other, times)
        elif family == "text":
            if form != "volatile" or other_form != "volatile":
                self._class_pair(one, other, times)
                self._text_pair(block, one, other, times)
        elif family == "boolean":
            self._class_pair(one, other, times)
        elif family == "vector":
            self._vector_pair(block, one, other, times)
        elif family == "ranking":
            self._ranking_pair(block, one, other, times)
        else:
            self._embedding_pair(block, one, other, times)
            return int(same_arrays(one, other, self.elements, embedding=self.embedding))
        return likeness_of(one, form, other, other_form, self.tolerance)

    def _class_pair(self, one: Any, other: Any, times: int) -> None:
        if not self._outputs.confusion.many:
            self._outputs.confusion.add(field_key(class_key(one), class_key(other)), times)

    def _number_pair(self, block: int, one: float, other: float, times: int) -> None:
        gap = other - one
        if abs(gap) <= _HUGE:
            self._gaps.append(gap)
            self._gap_times.append(times)
        if max(abs(one), abs(other)) < _HUGE:
            self._outputs.sums.add(block, one, other, one * one, other * other, one * other, abs(gap), 1.0, times=times)
        if 0 <= one <= 1 and 0 <= other <= 1:
            self._outputs.probabilities[block] += times
            if (one >= 0.5) != (other >= 0.5):
                self._outputs.flips[block] += times

    def _vector_pair(self, block: int, one: Any, other: Any, times: int) -> None:
        left, right = vector_of(one), vector_of(other)
        if left is None or right is None:
            return
        self._class_pair(top_of(left), top_of(right), times)
        keys = left.keys() | right.keys()
        distance = sum((abs(left.get(key, 0.0) - right.get(key, 0.0)) for key in keys), 0.0) / 2
        self.score("total variation", block, min(1.0, distance), times)
        equal = left.keys() == right.keys() and all(close(left[key], right[key], self.tolerance) for key in keys)
        self.score("equal", block, float(equal), times)

    def _text_pair(self, block: int, one: str, other: str, times: int) -> None:
        self.score("exact", block, float(one == other), times)
        alike = 1.0 if one == other else texts_alike(one, other)[1]
        self.score("token F1", block, alike, times)
        longer = max(len(one), len(other))
        self.score("length ratio", block, min(len(one), len(other)) / longer if longer else 1.0, times)
        if one.lstrip()[:1] in ("{", "["):
            self.score("valid JSON in live", block, float(is_json(one)), times)
            self.score("valid JSON in shadow", block, float(is_json(other)), times)

    def _ranking_pair(self, block: int, one: Any, other: Any, times: int) -> None:
        left, right = ranking_of(one), ranking_of(other)
        if not left or not right:
            return
        self._class_pair(left[0], right[0], times)
        self.score("top 1", block, float(left[0] == right[0]), times)
        self.score("overlap at 10", block, overlap(left, right, 10), times)
        self.score("rank-biased overlap", block, rank_biased_overlap(left, right), times)

    def _embedding_pair(self, block: int, one: Any, other: Any, times: int) -> None:
        found = cosine(one, other)
        if found is None:
            return
        self._outputs.angles.add(((cells_of((1 - found,))[0], times),))
        try:
            self._outputs.means.add(block, *projected(one, AXES, 3), *projected(other, AXES, 3), 1.0, times=times)
        except OverflowError:
            return

    def score(self, name: str, block: int, value: float, times: int = 1) -> None:
        """Count a score from 0 to 1."""
        self._outputs.scores.part(name)[block] += round(value * MILLION) * times
        self._outputs.scores.part(f"{name}, pairs")[block] += times


def _norm(values: Sequence[Any]) -> float | None:
    try:
        return number_of(float(sum(map(mul, values, values))) ** 0.5)
    except OverflowError:
        return None
