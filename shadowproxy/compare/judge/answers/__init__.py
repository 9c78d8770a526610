"""What answers say: any body to a tree in which its places can be named, whether it failed, and why.

`content` decides what a body is. `answer_value` is what it says, in one form for streamed and whole answers of an API.
`failed_reason` is how an answer says that it failed whatever its status; `reason_of` why a leg failed, to count by.
None of them raises, whatever a server sent.
"""

from shadowproxy.compare.judge.answers.body import Content, content_of, field_value
from shadowproxy.compare.judge.answers.failed import failed_reason
from shadowproxy.compare.judge.answers.reasons import reason_of
from shadowproxy.compare.judge.answers.streams import Stream
from shadowproxy.compare.judge.answers.value import ANSWER_PARTS, ENVELOPE_PLACES, answer_value, unwrapped, value_of

__all__ = [
    "ANSWER_PARTS",
    "ENVELOPE_PLACES",
    "Content",
    "Stream",
    "answer_value",
    "content_of",
    "failed_reason",
    "field_value",
    "reason_of",
    "unwrapped",
    "value_of",
]
