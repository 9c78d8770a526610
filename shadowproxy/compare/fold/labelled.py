"""How right both arms are at one place of the answers, by labels.

The kind of answer at the place is not known yet, so right and wrong are counted by the forms of both arms. A missing
answer of the shadow is wrong.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Final

from shadowproxy.compare.fold.counts import Series
from shadowproxy.compare.fold.gist import Gist, is_class
from shadowproxy.compare.fold.sums import Sums
from shadowproxy.compare.fold.tables import Forms, Parts
from shadowproxy.compare.fold.values import ABSENT, FAILED, FAMILIES, FEWER, Label, number_of

_HUGE: Final = 1e150  # numbers beyond it, whose squares overflow, stay out of the sums


@dataclass(slots=True)
class Labelled(Parts):
    """Counts of labelled answers, by block of time.

    requests: those with a label. uneven: those of them with more or fewer labels than live's answer has rows, so that
    they cannot be matched. rows: live's answers with a label, one for each row of a batch. live_right, shadow_right,
    both_right: those of them that are the label's class. errors: sums of live's and the shadow's distance from the
    label, and their number; nearer: which arm was nearer.
    """

    requests: Series = field(default_factory=Series)
    uneven: Series = field(default_factory=Series)
    rows: Forms = field(default_factory=Forms)
    live_right: Forms = field(default_factory=Forms)
    shadow_right: Forms = field(default_factory=Forms)
    both_right: Forms = field(default_factory=Forms)
    errors: Sums = field(default_factory=Sums)
    live_nearer: Series = field(default_factory=Series)
    shadow_nearer: Series = field(default_factory=Series)

    def add(
        self, block: int, live: Sequence[Gist], shadow: Sequence[Gist] | None, labels: Sequence[Label | None]
    ) -> None:
        """Count one exchange. `shadow` is None where it failed. Labels are one for each row of live's answer."""
        if all(label is None for label in labels):
            return
        self.requests[block] += 1
        if len(labels) != len(live):
            self.uneven[block] += bool(live)
            return
        others: Sequence[Gist] = () if shadow is None else shadow
        nothing: Gist = (FAILED if shadow is None else FEWER if others else ABSENT), None
        for at, (one, label) in enumerate(zip(live, labels, strict=True)):
            if label is not None:
                self._row(block, one, others[at] if at < len(others) else nothing, label)

    def _row(self, block: int, live: Gist, shadow: Gist, label: Label) -> None:
        family = FAMILIES.get(live[0])
        if family is None:
            return
        key = f"{live[0]} {shadow[0]}"
        self.rows.part(key)[block] += 1
        live_right, shadow_right = is_class(live, label), is_class(shadow, label)
        if live_right:
            self.live_right.part(key)[block] += 1
        if shadow_right:
            self.shadow_right.part(key)[block] += 1
        if live_right and shadow_right:
            self.both_right.part(key)[block] += 1
        one, other, truth = live[1], shadow[1], number_of(label)
        if not isinstance(one, float) or not isinstance(other, float) or truth is None:
            return
        if max(abs(one), abs(other), abs(truth)) < _HUGE:
            live_off, shadow_off = abs(one - truth), abs(other - truth)
            self.errors.add(block, live_off, shadow_off, 1.0)
            if live_off < shadow_off:
                self.live_nearer[block] += 1
            elif shadow_off < live_off:
                self.shadow_nearer[block] += 1
