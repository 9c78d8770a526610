"""IDs in sentences: how many requests were translated, could not be, or carry one that the shadow was never given."""

from typing import Final

from shadowproxy.compare.report.figures.types import PairFigures, StateFigures
from shadowproxy.compare.report.judged import needs_state
from shadowproxy.compare.report.words import requests

TURN_ON: Final = "the shadow refuses IDs it was never given: turn on `state`"


def state_line(figures: PairFigures) -> str:
    """What a shadow's requests needed of its own IDs; empty where they needed nothing."""
    found = figures["state"]
    if found is None:
        return ""
    if needs_state(figures):
        return f"{TURN_ON} (about {requests(found['refused'])} with an ID that only live issued)"
    if not found["translated"] and not found["unknown"]:
        return ""
    line = f"{requests(found['translated'])} translated, {found['unknown']:,} unknown"
    return f"{line}; {_gone(found)}" if found["gone"] else line


def _gone(found: StateFigures) -> str:
    return f"{found['gone']:,} of the shadow's own IDs were gone: it answered 404 or 410 where live has an answer"
