"""IDs that an exchange's answers say again: a list of items has those that were made before.

Comparing takes live's and the shadow's own as equal, so the record has to name these pairs too.
"""

from typing import Final

from shadowproxy.exchange import Learnt, Reply
from shadowproxy.serve.state.pairs import KNOWN, Pairs
from shadowproxy.serve.state.settings import LEAST

LONGEST: Final = 16 << 10
"""The most bytes of an answer that are searched: half a millisecond, while all callers wait."""

MOST: Final = 64
"""Pairs of one exchange."""

PLACE: Final = "json:"
"""The place of a pair that stands anywhere in the answers."""

_MARKS: Final = b"\"'\\/?&=#<>,;:{}[]()"
_BETWEEN: Final = bytes.maketrans(_MARKS, b" " * len(_MARKS))
"""What stands around an ID. Words are split off at this: a pattern takes ten times as long."""


def known_pairs(pairs: Pairs, live: Reply, own: Reply) -> tuple[Learnt, ...]:
    """The pairs of which live's answer has its ID and the shadow's has its own, beyond those that were new in them."""
    body = live.body
    if pairs.is_empty or live.status != own.status or not body or len(body) > LONGEST or body == own.body:
        return ()
    found: dict[bytes, Learnt] = {}
    named = {each.live for each in own.translated} | {each.live for each in own.learnt}
    words = [word for word in body.translate(_BETWEEN).split() if len(word) >= LEAST]
    for entry in pairs.among(words):
        word = entry.live
        if entry.standing is KNOWN and word not in found and entry.own in own.body:
            text = word.decode("latin-1")
            if text not in named:
                found[word] = Learnt(PLACE, text, entry.own.decode("latin-1"))
                if len(found) == MOST:
                    break
    return tuple(found.values())
