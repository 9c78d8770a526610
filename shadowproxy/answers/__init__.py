"""Reads answers: any body as a tree in which places can be named, whether it reports a failure, and why.

`content_of` decides what a body is. `answer_value` is its value, in one form for streamed and whole answers of an API.
`failed_reason` says how an answer reports a failure, whatever its status; `reason_of` why a leg failed, for counting.
No content from a server makes them raise.
"""

from shadowproxy.answers.alike import ALONE, About, about
from shadowproxy.answers.body import Content, content_of, field_value
from shadowproxy.answers.failed import failed_reason, reason_in
from shadowproxy.answers.reasons import reason_of
from shadowproxy.answers.streams import Stream
from shadowproxy.answers.value import ANSWER_PARTS, ENVELOPE_PLACES, answer_value, unwrapped, value_of

__all__ = [
    "ALONE",
    "ANSWER_PARTS",
    "ENVELOPE_PLACES",
    "About",
    "Content",
    "Stream",
    "about",
    "answer_value",
    "content_of",
    "failed_reason",
    "field_value",
    "reason_in",
    "reason_of",
    "unwrapped",
    "value_of",
]
