"""A batch of two arms with as many rows of one form each, compared at once: the most frequent sort of batch."""

from collections.abc import Sequence
from typing import Any, Final

from shadowproxy.compare.fold.likeness import Mark, likeness_of, mark_of
from shadowproxy.compare.fold.related import FEWEST_SPACES
from shadowproxy.compare.fold.values import FAMILIES
from shadowproxy.compare.judge.rules import Tolerance

SAME: Final[tuple[Mark, ...]] = ("",)


class Batch:
    """A batch that waits to be counted: `times` is how often it occurred by block, and `in_request` in how many
    exchanges the request has as many elements.

    `pairs` are its different rows, live's value and the shadow's, with their number. `worst` is the likeness of its
    rows: 0 where one differs, else 2 where one is spelled otherwise, else 1. `prints` says whether fingerprints of its
    first row are kept.
    """

    __slots__ = ("form", "in_request", "marks", "other_form", "pairs", "prints", "times", "worst")

    def __init__(
        self,
        form: str,
        other_form: str,
        pairs: dict[tuple[Any, Any], int],
        marks: Sequence[Mark],
        worst: int,
        *,
        prints: bool,
    ) -> None:
        self.form = form
        self.other_form = other_form
        self.pairs = pairs
        self.marks = marks
        self.worst = worst
        self.prints = prints
        self.times: dict[int, int] = {}
        self.in_request = 0


def compare_rows(
    live: Sequence[Any], form: str, shadow: Sequence[Any], other_form: str, tolerance: Tolerance | None
) -> Batch:
    """The batch of these rows, with each row's mark. Each arm's rows have one type."""
    # As each arm has one type, no pair equals one that is written otherwise.
    pairs: dict[tuple[Any, Any], int] = {}
    for pair in zip(live, shadow, strict=True):
        pairs[pair] = pairs.get(pair, 0) + 1
    worst = 1
    marks: Sequence[Mark] = SAME * len(live)
    if form != other_form or live != shadow:
        of_pairs: dict[tuple[Any, Any], Mark] = {}
        for pair in pairs:
            like = likeness_of(pair[0], form, pair[1], other_form, tolerance)
            worst = 0 if like == 0 or worst == 0 else max(worst, like)
            of_pairs[pair] = mark_of(form, other_form, like)
        if len(pairs) == 1:
            marks = (of_pairs[pair],) * len(live)
        else:
            marks = tuple([of_pairs[pair] for pair in zip(live, shadow, strict=True)])
    prints = FAMILIES.get(form) == "text" and live[0].count(" ") >= FEWEST_SPACES
    return Batch(form, other_form, pairs, marks, worst, prints=prints)
