"""Counts the values at one place, exchange by exchange.

Equal pairs of values are counted at once: they wait here with their number, in a bounded amount, and `finish` gives
the outputs of all. `PlacesBuilder` has such a builder for each place of the answers.
"""

from collections.abc import Sequence
from functools import lru_cache
from typing import Any, ClassVar, Final

from shadowproxy.compare.fold.batches import SAME, Batch, compare_rows
from shadowproxy.compare.fold.gist import Gist
from shadowproxy.compare.fold.likeness import Mark, close, form_of_all, likeness_of, mark_of
from shadowproxy.compare.fold.neighbours import FEWEST, NEIGHBOURS, same_neighbours
from shadowproxy.compare.fold.outputs import Outputs, OutputsByField, Rest
from shadowproxy.compare.fold.places import MOST_PLACES
from shadowproxy.compare.fold.related import (
    FEWEST_SPACES,
    print_of_numbers,
    print_of_ranking,
    print_of_text,
)
from shadowproxy.compare.fold.samples import Sample
from shadowproxy.compare.fold.tables import Bounded
from shadowproxy.compare.fold.value_pairs import ValueCounter
from shadowproxy.compare.fold.values import (
    ABSENT,
    EXTRA,
    FAILED,
    FAMILIES,
    FEWER,
    LONGEST_CLASS,
    Label,
    form_beside,
    form_of,
    ranking_of,
)
from shadowproxy.compare.judge.rules import Tolerance

_DIFFERS: Final[tuple[Mark, ...]] = ("differs",)

_MOST_WAITING: Final = 4096  # pairs of values that wait to be counted
_LONGEST_WAITING: Final = 3000  # characters of a pair of long texts that waits
_MOST_CHARACTERS: Final = 100_000  # of all of them

_TYPE_CODES: Final[dict[type, int]] = {type(None): 0, bool: 1, int: 2, float: 2, str: 3}
"""Types whose values are one value where Python calls them equal and their codes are the same: 1 is not True. The code
of a pair is both digits."""
_TEXTS: Final = 33

_NOTHING: Final = object()
_EMBEDDINGS: Final = {"numbers numbers"}

_ValueKey = tuple[int, int, Any, Any]
"""A block of time, the code of a pair's types, and the pair."""


class OutputsBuilder:
    """Counts the values of both arms at one place. `finish` gives the outputs; it is called once, at the end.

    A builder can go on counting into finished outputs, which then belong to it.
    """

    __slots__ = ("_batches", "_characters", "_outputs", "_rows", "_rows_waiting", "_singles", "_values")

    def __init__(self, outputs: Outputs | None = None) -> None:
        self._outputs = Outputs() if outputs is None else outputs
        self._values = ValueCounter(self._outputs)
        self._singles: dict[_ValueKey, int] = {}  # pairs of single values: how often each occurred
        self._characters = 0  # of long texts among them
        self._rows: dict[_ValueKey, int] = {}  # the same of rows of batches
        self._batches: dict[tuple[int, tuple[Any, ...], tuple[Any, ...]], Batch] = {}  # of all blocks
        self._rows_waiting = 0  # rows of these batches, and blocks in which they occurred

    def add(
        self,
        block: int,
        live: Sequence[Any],
        shadow: Sequence[Any] | None,
        *,
        tolerance: Tolerance | None = None,
        elements: Tolerance | None = None,
        embedding: bool = False,
        rows: int | None = None,
        digest: int = 0,
    ) -> Sequence[Mark]:
        """Count one exchange; returns each row's mark.

        Args:
            shadow: None where the shadow failed.
            rows: how many rows live's answer has, or the one array that it is, if the request has an array as long.
            digest: the hash of the exchange's ID.
        """
        values = self._values
        if tolerance is not values.tolerance:
            self._flush()
            values.tolerance = tolerance
        values.elements = elements  # of arrays, which never wait
        values.embedding = embedding
        if shadow is not None and len(live) == 1 and len(shadow) == 1:
            one, other = live[0], shadow[0]
            code = _TYPE_CODES.get(type(one), 4) * 10 + _TYPE_CODES.get(type(other), 4)
            if self._waits(self._singles, block, code, one, other):
                if code % 11 == 0 and one == other:
                    if code == _TEXTS and self._outputs.prints.wants(block, digest) and one.count(" ") >= FEWEST_SPACES:
                        form = form_of(one)
                        self._keep_print(block, digest, one, form, other, form)
                    return SAME
                # The most frequent by far: two finite numbers, as infinity less itself is no number.
                floats = type(one) is float and type(other) is float and one - one == other - other == 0.0
                if floats and not close(one, other, tolerance):
                    return _DIFFERS
                return self._mark_single(block, one, other, digest)
        if shadow is not None and len(live) == len(shadow) > 1:
            marks = self._add_batch(block, live, shadow, rows, digest)
            if marks is not None:
                return marks
        return self._add_values(block, live, shadow, rows, digest)

    def label(
        self, block: int, live: Sequence[Gist], shadow: Sequence[Gist] | None, labels: Sequence[Label | None]
    ) -> None:
        """Count what was right for an exchange, as `Labelled.add` does."""
        self._outputs.truths.add(block, live, shadow, labels)

    @property
    def largest(self) -> Sample:
        """The exchanges whose numbers are furthest apart; the caller adds to them."""
        return self._outputs.largest

    def finish(self) -> Outputs:
        """The outputs of all that was counted. The builder is not used afterwards."""
        self._flush()
        return self._outputs

    def _waits(self, waiting: dict[_ValueKey, int], block: int, code: int, one: Any, other: Any) -> bool:
        """Whether a pair of values can wait; then it does."""
        if code % 10 == 4 or code >= 40:
            return False
        size = 0
        if (code >= 30 and len(one) > LONGEST_CLASS) or (code % 10 == 3 and len(other) > LONGEST_CLASS):
            if code != _TEXTS:
                return False
            if one != other:
                size = len(one) + len(other)
                if size > _LONGEST_WAITING:
                    return False
            elif one.isspace() or one.lstrip()[:1] in ("{", "["):
                return False
            else:
                # For a long text that is the same in both arms only the length is counted.
                one = other = _text_as_long(len(one))
        key = block, code, one, other
        before = waiting.get(key)
        if before is not None:
            waiting[key] = before + 1
            return True
        waiting[key] = 1
        self._characters += size
        if len(waiting) >= _MOST_WAITING or self._characters >= _MOST_CHARACTERS:
            self._flush()
        return True

    def _mark_single(self, block: int, one: Any, other: Any, digest: int) -> Sequence[Mark]:
        """The mark of a single pair that waits. Its fingerprints, which cannot wait, are kept now."""
        form, other_form = form_of(one), form_of(other)
        self._keep_print(block, digest, one, form, other, other_form)
        return (mark_of(form, other_form, likeness_of(one, form, other, other_form, self._values.tolerance)),)

    def _add_values(
        self,
        block: int,
        live: Sequence[Any],
        shadow: Sequence[Any] | None,
        rows: int | None,
        digest: int,
    ) -> Sequence[Mark]:
        """Count an exchange value by value. Rows are paired in order; what the shorter arm lacks is absent there."""
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
            other_form: str = nothing if other is _NOTHING else form_beside(one, form, other)
            if at == 0:
                self._keep_print(block, digest, one, form, other, other_form)
            if single:
                like = self._values.add(block, one, form, other, other_form, 1, single=True)
            else:
                code = _TYPE_CODES.get(type(one), 4) * 10 + _TYPE_CODES.get(type(other), 4)
                if self._waits(self._rows, block, code, one, other):
                    like = likeness_of(one, form, other, other_form, self._values.tolerance)
                else:
                    like = self._values.add(block, one, form, other, other_form, 1, single=False)
                keys.add(f"{form} {other_form}")
                worst = 0 if like == 0 or worst == 0 else max(worst, like)
            if at < len(live):
                marks.append(mark_of(form, other_form, like))
        if not single:
            self._count_batch(block, "|".join(sorted(keys)), worst)
            if keys == _EMBEDDINGS and size >= FEWEST:
                alike = same_neighbours(live, others)
                if alike is not None:
                    self._values.score(NEIGHBOURS, block, alike)
            self._count_rows(live, rows)
        elif live and isinstance(live[0], list):
            self._count_rows(live[0], rows)
        if not live:
            return ("gained",) if any(form_of(each) in FAMILIES for each in others) else SAME
        return marks

    def _add_batch(
        self, block: int, live: Sequence[Any], shadow: Sequence[Any], rows: int | None, digest: int
    ) -> Sequence[Mark] | None:
        """Count a batch of two arms with as many rows, if those of each arm are scalars of one form; else None."""
        kinds, other_kinds = set(map(type, live)), set(map(type, shadow))
        if len(kinds) != 1 or len(other_kinds) != 1:
            return None
        code = _TYPE_CODES.get(kinds.pop(), 4) * 10 + _TYPE_CODES.get(other_kinds.pop(), 4)
        if code % 10 == 4 or code >= 40:
            return None
        key = code, tuple(live), tuple(shadow)
        batch = self._batches.get(key)
        if batch is None:
            form, other_form = form_of_all(live), form_of_all(shadow)
            if form is None or other_form is None:
                return None
            batch = self._batches[key] = compare_rows(live, form, shadow, other_form, self._values.tolerance)
            self._rows_waiting += len(live)
        before = batch.times.get(block)
        if before is None:
            self._rows_waiting += 1
            before = 0
        batch.times[block] = before + 1
        batch.in_request += len(live) == rows
        if batch.prints:
            self._keep_print(block, digest, live[0], batch.form, shadow[0], batch.other_form)
        marks = batch.marks
        if self._rows_waiting >= _MOST_WAITING:
            self._flush()
        return marks

    def _count_batch(self, block: int, key: str, worst: int, times: int = 1) -> None:
        """Count a batch whose rows are all the same (1), the same but spelled otherwise (2), or not (0)."""
        outputs = self._outputs
        outputs.batches.part(key)[block] += times
        if worst:
            outputs.batches_same.part(key)[block] += times
        if worst == 2:
            outputs.batches_spelled.part(key)[block] += times

    def _count_rows(self, answers: Sequence[Any], rows: int | None) -> None:
        if len(answers) > 1:
            self._outputs.batched["many"] += 1
            if len(answers) == rows:
                self._outputs.batched["asked"] += 1

    def _flush(self) -> None:
        """Count what waits."""
        self._characters = 0
        if self._singles:
            for (block, _, one, other), times in self._singles.items():
                self._values.add(block, one, form_of(one), other, form_of(other), times, single=True)
            self._singles = {}
        if self._batches:
            self._flush_batches()
        if self._rows:
            for (block, _, one, other), times in self._rows.items():
                self._values.add(block, one, form_of(one), other, form_of(other), times, single=False)
            self._rows = {}
        self._values.flush()

    def _flush_batches(self) -> None:
        rows = self._rows
        alike: dict[tuple[int, str, str, int], int] = {}  # batches by block, both forms and likeness
        for (code, _, _), batch in self._batches.items():
            if batch.in_request:
                self._outputs.batched["asked"] += batch.in_request
            for block, times in batch.times.items():
                kind = block, batch.form, batch.other_form, batch.worst
                alike[kind] = alike.get(kind, 0) + times
                for (one, other), often in batch.pairs.items():
                    key = block, code, one, other
                    rows[key] = rows.get(key, 0) + often * times
        for (block, form, other_form, worst), times in alike.items():
            self._count_batch(block, f"{form} {other_form}", worst, times)
            self._outputs.batched["many"] += times
        self._batches = {}
        self._rows_waiting = 0

    def _keep_print(self, block: int, digest: int, one: Any, form: str, other: Any, other_form: str) -> None:
        """Keep the fingerprints of an exchange if its ID is among the block's smallest."""
        family = FAMILIES.get(form)
        if family not in ("text", "ranking", "numbers") or not self._outputs.prints.wants(block, digest):
            return
        if family == "text" and one.count(" ") < FEWEST_SPACES:
            return  # a class or an ID
        theirs = b"" if FAMILIES.get(other_form) != family else _print_of(other, family)
        self._outputs.prints.add(block, digest, (_print_of(one, family), theirs, 1))


class RestBuilder(OutputsBuilder):
    """Stands for the places beyond those that are counted."""

    def __init__(self, outputs: Outputs | None = None) -> None:
        super().__init__(Rest() if outputs is None else outputs)

    def add(
        self,
        block: int,
        live: Sequence[Any],
        shadow: Sequence[Any] | None,
        *,
        tolerance: Tolerance | None = None,
        elements: Tolerance | None = None,
        embedding: bool = False,
        rows: int | None = None,
        digest: int = 0,
    ) -> Sequence[Mark]:
        self._outputs.batched["cut"] = 1
        return SAME * max(1, len(live))


class PlacesBuilder(Bounded[OutputsBuilder]):
    """A builder for each pair of places, by their key; of many places those whose names rank best."""

    INNER = OutputsBuilder
    LIMIT: ClassVar[int] = MOST_PLACES

    def __init__(self, outputs: OutputsByField | None = None) -> None:
        if outputs is None:
            super().__init__(None, RestBuilder())
        else:
            builders = {key: OutputsBuilder(each) for key, each in outputs.items()}
            super().__init__(builders, RestBuilder(outputs.other))

    @classmethod
    def rank(cls, key: str) -> tuple[Any, ...]:
        return OutputsByField.rank(key)

    def add_to_other(self, part: OutputsBuilder) -> None:
        self.other.add(0, (), ())

    def finish(self) -> OutputsByField:
        """What was counted at each place. The builder is not used afterwards."""
        return OutputsByField({key: each.finish() for key, each in self.items()}, self.other.finish())


@lru_cache(maxsize=256)
def _text_as_long(size: int) -> str:
    """Stands for any text of a length."""
    return "x" * size


def _print_of(value: Any, family: str) -> bytes:
    if family == "text":
        return print_of_text(value)
    if family == "ranking":
        return print_of_ranking(ranking_of(value) or ())
    return print_of_numbers(value)
