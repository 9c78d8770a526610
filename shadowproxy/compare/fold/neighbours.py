"""Whether the embeddings of one answer lie beside each other as live's do: whoever searches asks for what is near.

Two models may have other spaces and the same neighbours, and one space with a little noise has other neighbours only
where two are nearly as near.
"""

from collections.abc import Sequence
from typing import Any, Final

from shadowproxy.compare.fold.values import cosine

NEIGHBOURS: Final = "same nearest neighbour"

FEWEST: Final = 3
"""Embeddings of one answer: of two, each is the other's nearest in any space."""

_MOST: Final = 10  # embeddings of one answer that are looked at: 45 angles in each arm
_AS_NEAR: Final = 1e-5  # as two embeddings are equal


def same_neighbours(live: Sequence[Any], shadow: Sequence[Any]) -> float | None:
    """The share of the embeddings of one answer whose nearest other one is the same in both arms; None where some have
    no direction. One that is as near as the nearest is a nearest one too."""
    ones, others = live[:_MOST], shadow[:_MOST]
    if ones == others:
        return 1.0
    near, beside = _nearness(ones), _nearness(others)
    if near is None or beside is None:
        return None
    same = 0
    for row, other in zip(near, beside, strict=True):
        same += not _nearest(row).isdisjoint(_nearest(other))
    return same / len(near)


def _nearness(vectors: Sequence[Any]) -> list[list[float]] | None:
    """The cosine of each with each; below all others on the diagonal."""
    found = [[-2.0] * len(vectors) for _ in vectors]
    for at, one in enumerate(vectors):
        for beside in range(at):
            angle = cosine(one, vectors[beside])
            if angle is None:
                return None
            found[at][beside] = found[beside][at] = angle
    return found


def _nearest(row: list[float]) -> set[int]:
    most = max(row)
    return {at for at, each in enumerate(row) if most - each <= _AS_NEAR}
