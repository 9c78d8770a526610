"""gradio's streams: what the function returned at last.

Seen of gradio 6.31: GET /gradio_api/call/NAME/ID streams `generating`, `complete`, `heartbeat` and `error`. Their data
is the array of outputs or what went wrong (null for an exception that is not `gr.Error`). The queue that gradio's own
clients use streams objects with a `msg` in the place of names; for an unknown session, `unexpected_error` alone.
"""

from collections.abc import Sequence
from typing import Any, Final

from shadowproxy.answers.pieces import Assembled
from shadowproxy.answers.sse import Event

_STEPS: Final = frozenset({"generating", "complete"})
_MESSAGES: Final = frozenset(
    {"estimation", "process_starts", "process_generating", "process_completed", "unexpected_error"}
)


def knows(event: Event) -> bool:
    if event.name in _STEPS:
        return isinstance(event.data, list)
    return isinstance(event.data, dict) and isinstance(msg := event.data.get("msg"), str) and msg in _MESSAGES


def assembled(events: Sequence[Event]) -> Assembled:
    """The outputs at the end; those of the last step where it never came."""
    value: Any = None
    ended = failed = False
    error: Any = None
    for name, data in events:
        if name in _STEPS and isinstance(data, list):
            value, ended = data, name == "complete"
            continue
        msg = data.get("msg") if isinstance(data, dict) else None
        output = data.get("output") if isinstance(data, dict) else None
        if msg in ("process_generating", "process_completed") and isinstance(output, dict):
            value = output.get("data", value)
        if msg == "process_completed":
            ended = True
            if data.get("success") is False:
                failed, error = True, output.get("error") if isinstance(output, dict) else None
        elif msg == "unexpected_error":
            failed, error = True, data.get("message")
    return Assembled({"data": value}, ended, None, failed, error)
