"""What a shadow's requests needed of its own IDs."""

from shadowproxy.compare.fold.pair import Pair
from shadowproxy.compare.report.figures.types import StateFigures
from shadowproxy.exchange import Outcome


def state(pair: Pair) -> StateFigures | None:
    """None where no request needed any, as far as the log shows."""
    counts = pair.state.counts
    unknown = pair.outcomes[Outcome.STATE_UNKNOWN]
    refused = pair.state.refused()
    if not counts and not unknown and not refused:
        return None
    return {
        "translated": counts["translated"],
        "unknown": unknown,
        "gone": counts["gone"],
        "learnt": counts["learnt"],
        "refused": refused,
    }
