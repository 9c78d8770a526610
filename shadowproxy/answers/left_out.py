"""What kept the whole of a body out of the log: most often a setting."""

from typing import Final, Literal, TypeAlias

from shadowproxy.record import Body, Judgement

Setting: TypeAlias = Literal["log.body_limit", "limits.capture", "log.bodies", "log.redact", "not captured"]
"""`not captured` is no setting: the application had no copy of it."""

OVER_CAPTURE: Final = "longer than limits.capture"
"""What a record says of an answer that was not captured whole, and so was not compared."""

NOT_COPIED: Final = "not copied: the server sent it by itself, or there was no memory for it"
NO_JSON: Final = "a part of it has no JSON"
"""The same of an answer of which there was no copy, and of a function's result."""

WHY: Final[dict[Setting, str]] = {
    "log.body_limit": "cut in the log (log.body_limit)",
    "limits.capture": OVER_CAPTURE,
    "log.bodies": "left out of the log (log.bodies)",
    "log.redact": "withheld from the log (log.redact)",
    "not captured": "not captured whole",
}


SETTINGS: Final = tuple(WHY)


def left_out_by(body: Body | None, reason: str | None = None) -> Setting | None:
    """The setting by which the log has not the whole of a body; None if it has it, or if there was none.

    `reason` is why the record says that it could not be compared. A body that was not captured whole looks in the log
    as one that was cut there.
    """
    if body is None or not body.truncated:
        return None
    if reason == OVER_CAPTURE:
        return "limits.capture"
    if reason in (NOT_COPIED, NO_JSON):
        return "not captured"
    if body.redacted is not None:
        return "log.redact"
    return "log.bodies" if body.kind == "none" else "log.body_limit"


def incomparable_reason(arm: str, judgement: Judgement | None) -> str | None:
    """What the record of a comparison says of live's or the shadow's answer, if it says that one cannot be compared."""
    if judgement is None or judgement.why is None:
        return None
    side, _, reason = judgement.why.partition(": ")
    return reason if side == arm else None
