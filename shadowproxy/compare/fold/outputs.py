"""What is counted of one place of the answers: each arm alone, the pairs, and how both do against the truth.

Nothing here knows what kind of answer the place holds. Every value is counted by its form (`values.Form`), every pair
of values by both forms, and what is measured on a pair depends on the forms of these two alone. Which forms are answers
and which are none, whether rows of a batch or whole answers are looked at: that is decided from the sums (`kinds`), so
that logs counted apart add up to the one report.

What an answer does not have is counted as well: `absent` where the shadow says nothing at the place, `fewer rows` for
the rows of a batch that it leaves out, `failed` where it was asked and failed.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import lru_cache
from operator import mul
from typing import Any, Final

from shadowproxy.compare.fold.cells import cells_of
from shadowproxy.compare.fold.counts import Series, WordCounts
from shadowproxy.compare.fold.few import Few, FewWhole, Pairs
from shadowproxy.compare.fold.labelled import Labelled
from shadowproxy.compare.fold.likeness import Mark, close, form_of_all, likeness_of, mark_of
from shadowproxy.compare.fold.places import MOST_PLACES, field_key, places_of, static_rank
from shadowproxy.compare.fold.related import AXES, Prints, print_of_numbers, print_of_ranking, print_of_text, projected
from shadowproxy.compare.fold.samples import Sample
from shadowproxy.compare.fold.spread import Deltas, Spread
from shadowproxy.compare.fold.sums import Sums
from shadowproxy.compare.fold.tables import Forms, Parts, Table
from shadowproxy.compare.fold.values import (
    ABSENT,
    EXTRA,
    FAILED,
    FAMILIES,
    FEWER,
    LONGEST_CLASS,
    class_key,
    cosine,
    first_of,
    form_of,
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

__all__ = ["ABSENT", "EXTRA", "FAILED", "FEWER", "MILLION", "Outputs", "OutputsByField", "field_key", "places_of"]

MILLION: Final = 1_000_000

_SAME: Final[tuple[Mark, ...]] = ("",)
_DIFFERS: Final[tuple[Mark, ...]] = ("differs",)

_FEWEST_SPACES: Final = 2  # in a text of which it is worth to keep the words
_HUGE: Final = 1e150  # numbers beyond it, whose squares overflow, stay out of the sums
_MOST_MET: Final = 4096  # pairs of values that wait to be counted
_LONGEST_MET: Final = 3000  # characters of a pair of long texts that waits
_MOST_CHARACTERS: Final = 100_000  # of all of them

_CODES: Final[Mapping[type, int]] = {type(None): 0, bool: 1, int: 2, float: 2, str: 3}
"""Types whose values are one value where Python calls them equal and their codes are the same: 1 is not True. The code
of a pair is both digits."""
_TEXTS: Final = 33

_NOTHING: Final = object()


class Scores(Table[Series]):
    """Sums, in millionths, of what is measured on every pair and lies between 0 and 1."""

    INNER = Series


class _Batch:
    """A batch of two arms with as many rows: by block how often it came, and in how many exchanges the request has as
    many (`asked`).

    `worst` is the likeness of its rows: 0 where one differs, else 2 where one is spelled otherwise, else 1. `prints`
    tells whether its first row is one of which fingerprints are kept.
    """

    __slots__ = ("asked", "form", "marks", "other_form", "prints", "times", "worst")

    def __init__(self, form: str, other_form: str, marks: Sequence[Mark], worst: int, *, prints: bool) -> None:
        self.form = form
        self.other_form = other_form
        self.marks = marks
        self.worst = worst
        self.prints = prints
        self.times: dict[int, int] = {}
        self.asked = 0


@dataclass(slots=True)
class Outputs(Parts):
    """What is counted of one place. Series are by block of time.

    single: exchanges with one value at most in each arm, by form; rows: every value of the others, batches: those
    exchanges. Of each, `same` are those that are equal, and `spelled` those among them that are not quite (see `Mark`);
    a batch is equal when all its rows are and none is without its partner.
    batched: `many` are live's answers of several rows or that are arrays, `asked` those where the request has an array
    as long.
    classes, whole: of each arm, texts, booleans and what is first in vectors and rankings; whole numbers.
    sums: of live's and the shadow's numbers, their squares, their product, |difference| and their number.
    truths: how the rows of both arms do against labels.
    means: embeddings of both arms in sum, projected.
    """

    single: Forms = field(default_factory=Forms)
    single_same: Forms = field(default_factory=Forms)
    single_spelled: Forms = field(default_factory=Forms)
    rows: Forms = field(default_factory=Forms)
    rows_same: Forms = field(default_factory=Forms)
    rows_spelled: Forms = field(default_factory=Forms)
    batches: Forms = field(default_factory=Forms)
    batches_same: Forms = field(default_factory=Forms)
    batches_spelled: Forms = field(default_factory=Forms)
    batched: WordCounts = field(default_factory=WordCounts)
    live_classes: Few = field(default_factory=Few)
    shadow_classes: Few = field(default_factory=Few)
    live_whole: FewWhole = field(default_factory=FewWhole)
    shadow_whole: FewWhole = field(default_factory=FewWhole)
    confusion: Pairs = field(default_factory=Pairs)
    numbers: Spread = field(default_factory=Spread)
    lengths: Spread = field(default_factory=Spread)
    norms: Spread = field(default_factory=Spread)
    deltas: Deltas = field(default_factory=Deltas)
    sums: Sums = field(default_factory=Sums)
    probabilities: Series = field(default_factory=Series)
    flips: Series = field(default_factory=Series)
    scores: Scores = field(default_factory=Scores)
    dimensions: WordCounts = field(default_factory=WordCounts)
    angles: Deltas = field(default_factory=Deltas)
    means: Sums = field(default_factory=Sums)
    prints: Prints = field(default_factory=Prints)
    truths: Labelled = field(default_factory=Labelled)
    largest: Sample = field(default_factory=Sample)
    _met: dict[tuple[int, int, Any, Any], int] = field(default_factory=dict, init=False, repr=False, compare=False)
    """Pairs of single values by block and type: how often they came."""
    _met_rows: dict[tuple[int, int, Any, Any], int] = field(default_factory=dict, init=False, repr=False, compare=False)
    """The same of rows of batches."""
    _met_batches: dict[tuple[int, tuple[Any, ...], tuple[Any, ...]], "_Batch"] = field(
        default_factory=dict, init=False, repr=False, compare=False
    )
    """The same of whole batches of all blocks; `_rows_waiting` is how many rows they have and blocks they came in."""
    _characters: int = field(default=0, init=False, repr=False, compare=False)
    """Of long texts that wait."""
    _rows_waiting: int = field(default=0, init=False, repr=False, compare=False)
    _apart: list[float] = field(default_factory=list, init=False, repr=False, compare=False)
    _times_apart: list[int] = field(default_factory=list, init=False, repr=False, compare=False)
    _tolerance: Tolerance | None = field(default=None, init=False, repr=False, compare=False)

    def add(
        self,
        block: int,
        live: Sequence[Any],
        shadow: Sequence[Any] | None,
        *,
        tolerance: Tolerance | None = None,
        rows: int | None = None,
        digest: int = 0,
    ) -> Sequence[Mark]:
        """Count one exchange; gives what befell each row.

        `shadow` is None where the shadow failed. `rows` is how many rows live's answer has, or the one array that it
        is, if the request has an array as long. `digest` is the hash of the exchange's ID. What is read of the counts
        afterwards is right once `settle` was called.
        """
        if tolerance is not self._tolerance:
            self.settle()
            self._tolerance = tolerance
        if shadow is not None and len(live) == 1 and len(shadow) == 1:
            one, other = live[0], shadow[0]
            code = _CODES.get(type(one), 4) * 10 + _CODES.get(type(other), 4)
            if self._waits(self._met, block, code, one, other):
                if code % 11 == 0 and one == other:
                    if code == _TEXTS and self.prints.wants(block, digest) and one.count(" ") >= _FEWEST_SPACES:
                        form = form_of(one)
                        self._keep_print(block, digest, one, form, other, form)
                    return _SAME
                # The most frequent by far: two finite numbers, as infinity less itself is no number.
                floats = type(one) is float and type(other) is float and one - one == other - other == 0.0
                if floats and not close(one, other, tolerance):
                    return _DIFFERS
                return self._looked_at(block, one, other, digest)
        if shadow is not None and len(live) == len(shadow) > 1:
            marks = self._alike(block, live, shadow, rows, digest)
            if marks is not None:
                return marks
        return self._several(block, live, shadow, rows, digest)

    def _waits(self, met: dict[tuple[int, int, Any, Any], int], block: int, code: int, one: Any, other: Any) -> bool:
        """Whether a pair of values could be put off; then it was."""
        if code % 10 == 4 or code >= 40:
            return False
        size = 0
        if (code >= 30 and len(one) > LONGEST_CLASS) or (code % 10 == 3 and len(other) > LONGEST_CLASS):
            if code != _TEXTS:
                return False
            if one != other:
                size = len(one) + len(other)
                if size > _LONGEST_MET:
                    return False
            elif one.isspace() or one.lstrip()[:1] in ("{", "["):
                return False
            else:
                # Of a long text that is the same in both nothing is counted but how long it is.
                one = other = _text_as_long(len(one))
        key = block, code, one, other
        before = met.get(key)
        if before is not None:
            met[key] = before + 1
            return True
        met[key] = 1
        self._characters += size
        if len(met) >= _MOST_MET or self._characters >= _MOST_CHARACTERS:
            self.settle()
        return True

    def _looked_at(self, block: int, one: Any, other: Any, digest: int) -> Sequence[Mark]:
        """What befell a single pair whose counting waits; what is counted exchange by exchange is counted now."""
        form, other_form = form_of(one), form_of(other)
        self._keep_print(block, digest, one, form, other, other_form)
        return (mark_of(form, other_form, likeness_of(one, form, other, other_form, self._tolerance)),)

    def _several(
        self,
        block: int,
        live: Sequence[Any],
        shadow: Sequence[Any] | None,
        rows: int | None,
        digest: int,
    ) -> Sequence[Mark]:
        """Count an exchange value by value. Rows are paired in order; what the shorter arm has not is absent there."""
        others: Sequence[Any] = () if shadow is None else shadow
        single = len(live) <= 1 and len(others) <= 1
        nothing = FAILED if shadow is None else ABSENT if not others else FEWER
        size = max(len(live), len(others))
        marks: list[Mark] = []
        keys: set[str] = set()
        worst = 1
        for at in range(size):
            one = live[at] if at < len(live) else _NOTHING
            other = others[at] if at < len(others) else _NOTHING
            form: str = (ABSENT if not live else EXTRA) if one is _NOTHING else form_of(one)
            other_form: str = nothing if other is _NOTHING else form_of(other)
            if at == 0:
                self._keep_print(block, digest, one, form, other, other_form)
            if single:
                found = self._count(block, one, form, other, other_form, 1, single=True)
            else:
                code = _CODES.get(type(one), 4) * 10 + _CODES.get(type(other), 4)
                if self._waits(self._met_rows, block, code, one, other):
                    found = likeness_of(one, form, other, other_form, self._tolerance)
                else:
                    found = self._count(block, one, form, other, other_form, 1, single=False)
                keys.add(f"{form} {other_form}")
                worst = 0 if found == 0 or worst == 0 else max(worst, found)
            if at < len(live):
                marks.append(mark_of(form, other_form, found))
        if not single:
            self._batches(block, "|".join(sorted(keys)), worst)
            self._batch(live, rows)
        elif live and isinstance(live[0], list):
            self._batch(live[0], rows)
        if not live:
            return ("gained",) if any(form_of(each) in FAMILIES for each in others) else _SAME
        return marks

    def _alike(
        self, block: int, live: Sequence[Any], shadow: Sequence[Any], rows: int | None, digest: int
    ) -> Sequence[Mark] | None:
        """Count a batch of two arms with as many rows, if those of each arm are scalars of one form; else None.

        The most frequent sort of batch, and the rows of one are many: what can be is done for all of them at once.
        """
        kinds, other_kinds = set(map(type, live)), set(map(type, shadow))
        if len(kinds) != 1 or len(other_kinds) != 1:
            return None
        code = _CODES.get(kinds.pop(), 4) * 10 + _CODES.get(other_kinds.pop(), 4)
        if code % 10 == 4 or code >= 40:
            return None
        key = code, tuple(live), tuple(shadow)
        batch = self._met_batches.get(key)
        if batch is None:
            form, other_form = form_of_all(live), form_of_all(shadow)
            if form is None or other_form is None:
                return None
            batch = self._met_batches[key] = self._compared(live, form, shadow, other_form)
            self._rows_waiting += len(live)
        before = batch.times.get(block)
        if before is None:
            self._rows_waiting += 1
            before = 0
        batch.times[block] = before + 1
        batch.asked += len(live) == rows
        if batch.prints:
            self._keep_print(block, digest, live[0], batch.form, shadow[0], batch.other_form)
        marks = batch.marks
        if self._rows_waiting >= _MOST_MET:
            self.settle()
        return marks

    def _compared(self, live: Sequence[Any], form: str, shadow: Sequence[Any], other_form: str) -> "_Batch":
        """What befell the rows of a batch."""
        size = len(live)
        worst = 1
        marks: Sequence[Mark] = _SAME * size
        if form != other_form or live != shadow:
            likes: dict[tuple[Any, Any], int] = {}
            told: list[Mark] = []
            for pair in zip(live, shadow, strict=True):
                # Of both arms all have one type, so that no pair is equal to one that is written otherwise.
                like = likes.get(pair)
                if like is None:
                    like = likes[pair] = likeness_of(pair[0], form, pair[1], other_form, self._tolerance)
                    worst = 0 if like == 0 or worst == 0 else max(worst, like)
                told.append(mark_of(form, other_form, like))
            marks = tuple(told)
        prints = FAMILIES.get(form) == "text" and live[0].count(" ") >= _FEWEST_SPACES
        return _Batch(form, other_form, marks, worst, prints=prints)

    def _batches(self, block: int, key: str, worst: int, times: int = 1) -> None:
        """Count a batch whose rows are all the same (1), the same but spelled otherwise (2), or not (0)."""
        self.batches.part(key)[block] += times
        if worst:
            self.batches_same.part(key)[block] += times
        if worst == 2:
            self.batches_spelled.part(key)[block] += times

    def _batch(self, answers: Sequence[Any], rows: int | None) -> None:
        if len(answers) > 1:
            self.batched["many"] += 1
            if len(answers) == rows:
                self.batched["asked"] += 1

    def settle(self) -> None:
        """Count what was put off."""
        self._characters = 0
        if self._met:
            met, self._met = self._met, {}
            for (block, _, one, other), times in met.items():
                self._count(block, one, form_of(one), other, form_of(other), times, single=True)
        if self._met_batches:
            batches, self._met_batches = self._met_batches, {}
            self._rows_waiting = 0
            rows = self._met_rows
            for (code, live, shadow), batch in batches.items():
                if batch.asked:
                    self.batched["asked"] += batch.asked
                alike: dict[tuple[Any, Any], int] = {}
                for pair in zip(live, shadow, strict=True):
                    alike[pair] = alike.get(pair, 0) + 1
                for block, times in batch.times.items():
                    self._batches(block, f"{batch.form} {batch.other_form}", batch.worst, times)
                    self.batched["many"] += times
                    for (one, other), often in alike.items():
                        key = block, code, one, other
                        rows[key] = rows.get(key, 0) + often * times
        if self._met_rows:
            met, self._met_rows = self._met_rows, {}
            for (block, _, one, other), times in met.items():
                self._count(block, one, form_of(one), other, form_of(other), times, single=False)
        if self._apart:
            apart, times_apart, self._apart, self._times_apart = self._apart, self._times_apart, [], []
            self.deltas.add(zip(cells_of(apart), times_apart, strict=True))
        self.numbers.settle()
        self.lengths.settle()
        self.norms.settle()

    def _count(self, block: int, one: Any, form: str, other: Any, other_form: str, times: int, *, single: bool) -> int:
        """Count a pair of values that came so often, and say whether they are the same as `_likeness` does."""
        self._alone(block, one, form, times, shadow=False)
        self._alone(block, other, other_form, times, shadow=True)
        found = 0
        family = FAMILIES.get(form)
        if family is None:
            found = int(form == other_form)
        elif family == FAMILIES.get(other_form):
            found = self._pair(block, family, one, form, other, other_form, times)
        key = f"{form} {other_form}"
        if single:
            self.single.part(key)[block] += times
            if found:
                self.single_same.part(key)[block] += times
                if found == 2:
                    self.single_spelled.part(key)[block] += times
        else:
            self.rows.part(key)[block] += times
            if found:
                self.rows_same.part(key)[block] += times
                if found == 2:
                    self.rows_spelled.part(key)[block] += times
        return found

    def _alone(self, block: int, value: Any, form: str, times: int, *, shadow: bool) -> None:
        if form == "real":
            self.numbers.note(block, value, times, shadow)
            return
        if form == "whole":
            self.numbers.note(block, float(value), times, shadow)
            wholes = self.shadow_whole if shadow else self.live_whole
            if not wholes.many:
                wholes.add(block, class_key(value), times)
            return
        classes = self.shadow_classes if shadow else self.live_classes
        if form in ("text", "token"):
            self.lengths.note(block, float(len(value)), times, shadow)
            classes.add(block, class_key(value), times)
        elif form == "empty":
            if isinstance(value, str):
                classes.add(block, class_key(value), times)
        elif form == "boolean":
            classes.add(block, class_key(value), times)
        elif form in ("vector", "ranking"):
            classes.add(block, class_key(first_of(value, form)), times)
        elif form == "numbers":
            self.dimensions[str(len(value))] += times
            norm = _norm(value)
            if norm is not None:
                self.norms.note(block, norm, times, shadow)

    def _pair(self, block: int, family: str, one: Any, form: str, other: Any, other_form: str, times: int) -> int:
        if family == "number":
            self._numbers(block, float(one), float(other), times)
            if form == other_form == "whole":
                self._confuse(one, other, times)
        elif family == "text":
            if form != "volatile" or other_form != "volatile":
                self._confuse(one, other, times)
                self._texts(block, one, other, times)
        elif family == "boolean":
            self._confuse(one, other, times)
        elif family == "vector":
            self._vectors(block, one, other, times)
        elif family == "ranking":
            self._rankings(block, one, other, times)
        else:
            self._embeddings(block, one, other, times)
        return likeness_of(one, form, other, other_form, self._tolerance)

    def _confuse(self, one: Any, other: Any, times: int) -> None:
        if not self.confusion.many:
            self.confusion.add(field_key(class_key(one), class_key(other)), times)

    def _numbers(self, block: int, one: float, other: float, times: int) -> None:
        apart = other - one
        if abs(apart) <= _HUGE:
            self._apart.append(apart)
            self._times_apart.append(times)
        if max(abs(one), abs(other)) < _HUGE:
            self.sums.add(block, one, other, one * one, other * other, one * other, abs(apart), 1.0, times=times)
        if 0 <= one <= 1 and 0 <= other <= 1:
            self.probabilities[block] += times
            if (one >= 0.5) != (other >= 0.5):
                self.flips[block] += times

    def _vectors(self, block: int, one: Any, other: Any, times: int) -> None:
        left, right = vector_of(one), vector_of(other)
        if left is None or right is None:
            return
        self._confuse(top_of(left), top_of(right), times)
        keys = left.keys() | right.keys()
        distance = sum((abs(left.get(key, 0.0) - right.get(key, 0.0)) for key in keys), 0.0) / 2
        self._score("total variation", block, min(1.0, distance), times)
        equal = left.keys() == right.keys() and all(close(left[key], right[key], self._tolerance) for key in keys)
        self._score("equal", block, float(equal), times)

    def _texts(self, block: int, one: str, other: str, times: int) -> None:
        self._score("exact", block, float(one == other), times)
        alike = 1.0 if one == other else texts_alike(one, other)[1]
        self._score("token F1", block, alike, times)
        longer = max(len(one), len(other))
        self._score("length ratio", block, min(len(one), len(other)) / longer if longer else 1.0, times)
        if one.lstrip()[:1] in ("{", "["):
            self._score("valid JSON in live", block, float(is_json(one)), times)
            self._score("valid JSON in shadow", block, float(is_json(other)), times)

    def _rankings(self, block: int, one: Any, other: Any, times: int) -> None:
        left, right = ranking_of(one), ranking_of(other)
        if not left or not right:
            return
        self._confuse(left[0], right[0], times)
        self._score("top 1", block, float(left[0] == right[0]), times)
        self._score("overlap at 10", block, overlap(left, right, 10), times)
        self._score("rank-biased overlap", block, rank_biased_overlap(left, right), times)

    def _embeddings(self, block: int, one: Any, other: Any, times: int) -> None:
        found = cosine(one, other)
        if found is None:
            return
        self.angles.add(((cells_of((1 - found,))[0], times),))
        try:
            self.means.add(block, *projected(one, AXES, 3), *projected(other, AXES, 3), 1.0, times=times)
        except OverflowError:
            return

    def _score(self, name: str, block: int, value: float, times: int) -> None:
        self.scores.part(name)[block] += round(value * MILLION) * times
        self.scores.part(f"{name}, pairs")[block] += times

    def _keep_print(self, block: int, digest: int, one: Any, form: str, other: Any, other_form: str) -> None:
        """Keep the fingerprints of an exchange if its ID is among the block's smallest."""
        family = FAMILIES.get(form)
        if family not in ("text", "ranking", "numbers") or not self.prints.wants(block, digest):
            return
        if family == "text" and one.count(" ") < _FEWEST_SPACES:
            return  # a class or an ID
        theirs = b"" if FAMILIES.get(other_form) != family else _print(other, family)
        self.prints.add(block, digest, (_print(one, family), theirs))


class Rest(Outputs):
    """Stands for the places beyond those that are counted: of these it is known only that there were some."""

    def add(
        self,
        block: int,
        live: Sequence[Any],
        shadow: Sequence[Any] | None,
        *,
        tolerance: Tolerance | None = None,
        rows: int | None = None,
        digest: int = 0,
    ) -> Sequence[Mark]:
        self._note()
        return _SAME * max(1, len(live))

    def absorb(self, other: Outputs) -> None:
        if other:
            self._note()

    def merged(self, other: Outputs) -> "Rest":
        total = Rest()
        if self or other:
            total._note()
        return total

    def widened(self) -> "Rest":
        return self

    def _note(self) -> None:
        self.batched["cut"] = 1


class OutputsByField(Table[Outputs]):
    """What is counted of each pair of places, by their key; of many those whose names rank best."""

    INNER = Outputs
    LIMIT = MOST_PLACES

    def __init__(self, parts: Mapping[str, Outputs] | None = None, other: Outputs | None = None) -> None:
        super().__init__(parts, Rest().merged(other) if other is not None else Rest())

    @classmethod
    def rank(cls, key: str) -> tuple[Any, ...]:
        live, shadow = places_of(key)
        return (*static_rank(live), shadow)


@lru_cache(maxsize=256)
def _text_as_long(size: int) -> str:
    """Stands for any text of a length."""
    return "x" * size


def _print(value: Any, family: str) -> bytes:
    if family == "text":
        return print_of_text(value)
    if family == "ranking":
        return print_of_ranking(ranking_of(value) or ())
    return print_of_numbers(value)


def _norm(values: Sequence[Any]) -> float | None:
    try:
        return number_of(float(sum(map(mul, values, values))) ** 0.5)
    except OverflowError:
        return None
