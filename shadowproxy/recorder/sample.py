"""Which exchanges the log keeps where it keeps a share of those that match, and for how many each of them stands.

Whether an exchange is one of those that are drawn from is decided first, and by what its record shows: all answers are
there, match live's, and took less than `slow` times as long. All others are kept, each for itself. So the draw decides
nothing but the draw, and every total is right on average.
"""

import math
from collections.abc import Sequence
from hashlib import blake2b
from typing import Final, NamedTuple

from shadowproxy.exchange import Exchange, Reply, Verdict

MATCH: Final = "match"
MISMATCH: Final = "mismatch"
INCOMPARABLE: Final = "incomparable"
FAILED: Final = "failed"
ALONE: Final = "alone"
KINDS: Final = (MATCH, MISMATCH, INCOMPARABLE, FAILED, ALONE)

_ALL: Final = 1 << 64
_PERSON: Final = b"log.sample"


class Sample(NamedTuple):
    """How many exchanges are kept of those that match, and of those without a shadow: shares.

    An exchange in which a shadow's answer took `slow` times as long as live's, or longer, is kept in any case; None
    turns that off.
    """

    match: float = 1.0
    alone: float = 1.0
    slow: float | None = 2.0

    def weight(self, exchange: Exchange, kind: str) -> tuple[int, float]:
        """For how many exchanges this one of a kind stands, 0 if it is not kept; and the share that is kept of such as
        it might have been: of those with as many shadows."""
        share = self.match if exchange.shadows else self.alone
        if kind not in (MATCH, ALONE) or exchange.control is not None or self._is_slow(exchange):
            return 1, share
        return weight_of(exchange.request.record, share), share

    def _is_slow(self, exchange: Exchange) -> bool:
        live, slow = exchange.live, self.slow
        if slow is None or not isinstance(live, Reply):
            return False
        return any(isinstance(leg, Reply) and leg.total_ms >= slow * live.total_ms for leg in exchange.shadows.values())


def kind_of(exchange: Exchange, verdicts: Sequence[Verdict], failed: Sequence[str]) -> str:
    """What became of an exchange: the first of failed, incomparable, mismatch and match that holds; or it is alone.

    Failed: an answer is missing, not whole, says that it failed or has no 2xx. A tunnel always counts as one.
    """
    live = exchange.live
    if failed or exchange.tunnel is not None or not _is_good(live):
        return FAILED
    if not exchange.shadows:
        return ALONE
    if not all(_is_good(leg) for leg in exchange.shadows.values()):
        return FAILED
    if len(verdicts) < len(exchange.shadows) or Verdict.INCOMPARABLE in verdicts:
        return INCOMPARABLE
    return MISMATCH if Verdict.MISMATCH in verdicts else MATCH


def _is_good(leg: object) -> bool:
    return isinstance(leg, Reply) and 200 <= leg.status < 300 and not leg.caller_left


def weight_of(record: str, share: float) -> int:
    """How many exchanges the record with this ID stands for, of which `share` are kept; 0 where it is not kept.

    It is kept with the probability `share`, and its weight is 1 / share, rounded up or down by another part of the same
    hash, so that its mean is exactly that.
    """
    if share >= 1:
        return 1
    digest = blake2b(record.encode("utf-8", "surrogatepass"), digest_size=16, person=_PERSON).digest()
    if int.from_bytes(digest[:8], "big") >= share * _ALL:
        return 0
    times = 1 / share
    whole = math.floor(times)
    return whole + (int.from_bytes(digest[8:], "big") < (times - whole) * _ALL)
