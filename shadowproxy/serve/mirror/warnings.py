"""What the operator's log says about shadows: legs without an answer, and settings that are likely wrong."""

import logging
from typing import Final

from shadowproxy.exchange import Failure, Outcome, Request, Skipped
from shadowproxy.serve.mirror.lane import Lane
from shadowproxy.serve.telemetry.operator_log import Repeats, times_text

_LOGGED_ELSEWHERE: Final = frozenset({Outcome.BREAKER_OPEN, Outcome.PAUSED, Outcome.UNUSABLE, Outcome.SHUTDOWN})
"""These follow from an event that has a line of its own."""

_log = logging.getLogger(__name__)


class ShadowWarnings:
    """Logs them. Legs without an answer are counted by shadow and outcome, and only some of them get a line."""

    def __init__(self) -> None:
        self._repeats = Repeats()

    def no_answer(self, name: str, leg: Failure | Skipped, request: Request | None) -> None:
        """Log a leg at warning if its kind is due for a line, else at debug."""
        skipped = isinstance(leg, Skipped)
        kind, event = (
            ("was skipped", {"event": "shadow_not_asked"}) if skipped else ("failed", {"event": "shadow_failed"})
        )
        count = 0 if leg.outcome in _LOGGED_ELSEWHERE else self._repeats.worth_logging(name, kind, leg.outcome)
        level = logging.WARNING if count else logging.DEBUG
        if not _log.isEnabledFor(level):
            return
        id = request.id if request is not None else None
        extra = {
            **event,
            "shadow": name,
            "outcome": leg.outcome,
            "count": count,
            "error": leg.error,
            "request_id": id,
        }
        words = "shadow %s %s%s (%s): %s; request %s"
        _log.log(level, words, name, kind, times_text(count), leg.outcome, leg.error, id, extra=extra)

    def defect(self, name: str, request_id: str, error: Exception) -> None:
        extra = {"event": "defect", "shadow": name, "request_id": request_id}
        words = "a defect in the proxy while sending request %s to shadow %s"
        _log.error(words, request_id, name, extra=extra, exc_info=error)

    def credentials_wanted(self, lane: Lane, status: int) -> None:
        """The shadow answered 401 or 403 to a request without its credentials. Logged once for each lane."""
        if lane.credentials_logged:
            return
        lane.credentials_logged = True
        name = lane.shadow.name
        _log.warning(
            "shadow %s answered %d to a request whose credentials were held back; "
            "shadows.%s.forward_credentials: true would send them",
            name,
            status,
            name,
            extra={"event": "credentials_held_back", "shadow": name, "status": status},
        )

    def not_rewritten(self, lane: Lane, request_id: str, why: str) -> None:
        """A body was sent unchanged, as its JSON could not be read. Logged once for each lane."""
        if lane.rewrite_logged:
            return
        lane.rewrite_logged = True
        name = lane.shadow.name
        _log.warning(
            "shadow %s gets a request unchanged: shadows.%s.rewrite.json cannot change it because %s",
            name,
            name,
            why,
            extra={"event": "not_rewritten", "shadow": name, "request_id": request_id},
        )

    def usage_unknown(self, lane: Lane, request_id: str) -> None:
        """An answer does not say what it took of a budget of tokens or cost. Logged once for each lane."""
        if lane.unknown_usage_logged:
            return
        lane.unknown_usage_logged = True
        name = lane.shadow.name
        what = " and ".join(
            word
            for word, bound in (("tokens", lane.shadow.budget_tokens), ("cost", lane.shadow.budget_cost))
            if bound is not None
        )
        _log.warning(
            "shadow %s does not say in every answer what it took: shadows.%s.budget (%s) counts only answers that do; "
            "many servers say it in a stream only if the request has stream_options.include_usage; request %s",
            name,
            name,
            what,
            request_id,
            extra={"event": "usage_unknown", "shadow": name, "request_id": request_id},
        )
