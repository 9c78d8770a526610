"""What a leg's outcome says of the shadow."""

from typing import Final

from shadowproxy.exchange import Outcome
from shadowproxy.record import RecordedLeg

BEGUN: Final = frozenset(
    {
        Outcome.OK,
        Outcome.TIMEOUT,
        Outcome.CONNECT_ERROR,
        Outcome.TLS_ERROR,
        Outcome.PROTOCOL_ERROR,
        Outcome.INCOMPLETE,
        Outcome.ANSWER_OVERSIZE,
    }
)
"""Outcomes of a request that was really sent to the shadow. The others say nothing about the shadow itself."""

COUNTED: Final = BEGUN | {Outcome.STATE_UNKNOWN}
"""Outcomes that count for or against the shadow: also that of a request which could not be sent, as the shadow had not
given the ID that it carries. Its answer is missing like one that failed."""


def status_of(leg: RecordedLeg) -> str:
    return ending_of(leg.outcome, leg.status)


def ending_of(outcome: Outcome, status: int | None) -> str:
    """How a leg ended: its status, or its outcome where it has no whole response."""
    return str(status) if outcome is Outcome.OK else str(outcome)
