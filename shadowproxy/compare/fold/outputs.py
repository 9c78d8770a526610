"""The counts of one place of the answers: of each arm alone, of the pairs, and of both arms beside the truth.

Counting does not know what kind of answer the place holds. Every value is counted by its form (`values.Form`), every
pair of values by both forms, and these two forms alone decide what is measured on the pair. The report decides from the
sums (`kinds`) which forms are answers and whether rows of a batch or whole answers are judged, so that logs counted
apart add up to one report.

A missing value is counted as well: `absent` if the shadow's answer lacks the place, `fewer rows` for the rows of a
batch that it leaves out, `failed` if the shadow failed, `another dimension` for an array of more or fewer numbers.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Final

from shadowproxy.compare.fold.counts import Series, Weight, WordCounts
from shadowproxy.compare.fold.few import Few, FewWhole, Pairs
from shadowproxy.compare.fold.labelled import Labelled
from shadowproxy.compare.fold.places import MOST_PLACES, places_of, static_rank
from shadowproxy.compare.fold.related import Prints
from shadowproxy.compare.fold.samples import Sample
from shadowproxy.compare.fold.spread import Deltas, Spread
from shadowproxy.compare.fold.sums import Sums
from shadowproxy.compare.fold.tables import Forms, Parts, Table

MILLION: Final = 1_000_000
"""Scores are counted in millionths."""


class Scores(Table[Series]):
    """Sums, in millionths, of the scores from 0 to 1 that every pair has."""

    INNER = Series


@dataclass(slots=True)
class Outputs(Parts):
    """The finished counts of one place, to be read and merged. Series are by block of time.

    single: exchanges with one value at most in each arm, by form; rows: every value of the others, batches: those
    exchanges. `same` are the equal ones of each, and `spelled` those among them that are written differently (`Mark`);
    a batch is equal when all its rows are and each has its partner.
    batched: `many` are live's answers of several rows or that are arrays, `asked` those where the request has an array
    of the same length.
    classes, whole: each arm's texts, booleans and first classes of vectors and rankings; whole numbers.
    sums: of live's and the shadow's numbers, their squares, their product, |difference| and their number.
    dimensions: how many numbers the arrays of both arms have; shadow_dimensions: those of the shadow alone, which
    summaries of earlier versions do not have.
    truths: the rows of both arms beside their labels.
    means: the sums of both arms' embeddings, projected.
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
    shadow_dimensions: WordCounts = field(default_factory=WordCounts)
    angles: Deltas = field(default_factory=Deltas)
    means: Sums = field(default_factory=Sums)
    prints: Prints = field(default_factory=Prints)
    truths: Labelled = field(default_factory=Labelled)
    largest: Sample = field(default_factory=Sample)


class Rest(Outputs):
    """Stands for the places beyond those that are counted: only that there were some is known."""

    def mark_cut(self) -> None:
        self.batched["cut"] = 1

    def absorb(self, other: Outputs) -> None:
        if other:
            self.mark_cut()

    def merged(self, other: Outputs) -> "Rest":
        total = Rest()
        if self or other:
            total.mark_cut()
        return total

    def widened(self, doublings: int = 1) -> "Rest":
        return self

    def weighed(self, weight: Weight) -> "Rest":
        return self


class OutputsByField(Table[Outputs]):
    """The counts of each pair of places, by their key; of too many places those whose names rank best."""

    INNER = Outputs
    LIMIT = MOST_PLACES

    def __init__(self, parts: Mapping[str, Outputs] | None = None, other: Outputs | None = None) -> None:
        super().__init__(parts, Rest().merged(other) if other is not None else Rest())

    @classmethod
    def rank(cls, key: str) -> tuple[Any, ...]:
        live, shadow = places_of(key)
        return (*static_rank(live), shadow)
