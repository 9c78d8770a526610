"""How a leg stands: whether it answers, failed, or rejects the request."""

from typing import Final, Literal

from shadowproxy.answers import Content, failed_reason
from shadowproxy.exchange import Outcome
from shadowproxy.record import RecordedLeg

Standing = Literal["good", "failed", "refused", "other"]
"""good: a 2xx that reports no failure. failed: a 5xx, no whole response, or a 2xx that reports a failure. refused: a
4xx, which is the caller's fault unless only one arm gives it. other: redirects and the like."""

_OK: Final = Outcome.OK


def standing_of(answer: RecordedLeg, content: Content | None) -> Standing:
    """`content` is what the answer says, if the response is whole."""
    status = answer.status
    if answer.outcome is not _OK or status is None or status >= 500:
        return "failed"
    if 200 <= status < 300:
        return "good" if failed_reason(answer, content) is None else "failed"
    return "refused" if status >= 400 else "other"
