"""ROUGE-L: how much of two texts is the same words in the same order.

The F-measure of the longest common subsequence of words, with equal weight of recall and precision: C.-Y. Lin, ROUGE: A
Package for Automatic Evaluation of Summaries, ACL 2004, section 3.1, for whole texts.
"""

from collections.abc import Sequence
from typing import Final

MOST_WORDS: Final = 1000
"""Words of each text that are looked at, the first: the time grows with the product of both."""


def rouge_l(one: Sequence[str], other: Sequence[str]) -> float:
    """ROUGE-L of two texts in words: 1 for the same words in the same order, 0 for none in common."""
    if one == other:
        return 1.0
    if not one or not other:
        return 0.0
    first, second = one[:MOST_WORDS], other[:MOST_WORDS]
    return 2 * common_length(first, second) / (len(first) + len(second))


def common_length(one: Sequence[str], other: Sequence[str]) -> int:
    """The length of the longest common subsequence.

    A row of the usual table is one integer, whose zero bits are the places at which the length grows: H. Hyyrö,
    Bit-parallel LCS-length computation revisited, AWOCA 2004.
    """
    places: dict[str, int] = {}
    for at, word in enumerate(one):
        places[word] = places.get(word, 0) | 1 << at
    every = (1 << len(one)) - 1
    row = every
    for word in other:
        matching = row & places.get(word, 0)
        row = (row + matching | row - matching) & every
    return len(one) - row.bit_count()
