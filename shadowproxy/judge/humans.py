"""How often a judge agrees with people who said which of two answers is better."""

from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Final

from shadowproxy.compare.fold.truths import Truths
from shadowproxy.compare.report.preferences import Preference

_SIDES: Final = ("live", "shadow", "tie")


@dataclass(frozen=True, slots=True)
class Agreement:
    """The pairs that both decided, the share on which they agree, and Cohen's kappa; None where chance alone agrees.

    J. Cohen, A Coefficient of Agreement for Nominal Scales, Educational and Psychological Measurement 20 (1960) 37-46.
    """

    n: int
    share: float
    kappa: float | None


def wrong_label(truths: Truths) -> object | None:
    """A label that is none of live, shadow and tie; None if there is no such."""
    labels = (label for truth in truths.by_key.values() for label in truth.labels)
    return next((label for label in labels if label not in _SIDES), None)


def agreement_with(truths: Truths, preferences: Iterable[Preference]) -> Agreement | None:
    """The agreement on the pairs that both decided; None without any."""
    both = Counter(
        (truth.labels[0], each.winner)
        for each in preferences
        if each.winner is not None and (truth := truths.by_key.get(each.id)) is not None
    )
    n = both.total()
    if not n:
        return None
    share = sum(count for (human, judge), count in both.items() if human == judge) / n
    humans, judges = Counter[object](), Counter[object]()
    for (human, judge), count in both.items():
        humans[human] += count
        judges[judge] += count
    chance = sum(humans[side] * judges[side] for side in _SIDES) / n**2
    return Agreement(n, share, (share - chance) / (1 - chance) if chance < 1 else None)
