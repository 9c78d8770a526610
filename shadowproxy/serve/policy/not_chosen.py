"""Why a request is not chosen for a shadow. A module of its own, as the supervisor counts these and chooses nothing."""

from enum import StrEnum


class NotChosen(StrEnum):
    """A closed set; each reason is counted."""

    PERCENT = "percent"
    METHOD = "method"
    MATCH = "match"
    UNREAD_BODY = "unread_body"
    HELD_OUT = "held_out"
