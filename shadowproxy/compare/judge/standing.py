"""How an answer stands: as one that answers, as one that failed, or as one that refuses what was asked."""

from typing import Final, Literal

from shadowproxy.compare.judge.answers import Content, failed_reason
from shadowproxy.exchange import Outcome
from shadowproxy.record import RecordedLeg

Standing = Literal["good", "failed", "refused", "other"]
"""good: a 2xx that says no error. failed: 5xx, what came not or not whole, or a 2xx that says that it failed. refused:
4xx, which is the caller's doing until the two arms part on it. other: redirects and the like."""

_OK: Final = Outcome.OK


def standing_of(answer: RecordedLeg, said: Content | None) -> Standing:
    """`said` is what the answer says, where it came whole."""
    status = answer.status
    if answer.outcome is not _OK or status is None or status >= 500:
        return "failed"
    if 200 <= status < 300:
        return "good" if failed_reason(answer, said) is None else "failed"
    return "refused" if status >= 400 else "other"
