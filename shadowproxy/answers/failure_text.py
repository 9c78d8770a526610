"""Why something failed, in the server's own words: out of JSON, tracebacks, HTML and plain text.

Only a bounded part of a body is read: its first `LOOKED_AT` characters, and as many at its end for a traceback.
"""

import html
import re
from collections.abc import Mapping
from typing import Any, Final

TRACEBACK: Final = "Traceback (most recent call last):"
LOOKED_AT: Final = 4000

_MOST: Final = 3  # messages of a list that are joined
_DEEPEST: Final = 4
_LONGEST_LABEL: Final = 60

_LABELS: Final = ("error_code", "error_class", "errorType", "error_type", "type", "code")
_MESSAGES: Final = (
    "message",
    "msg",
    "detail",
    "error_message",
    "error_msg",
    "errorMessage",
    "description",
    "info",
    "reason",
    "details",
    "exception",
    "title",
    "traceback",
    "error_description",
)
_EXCEPTION: Final = re.compile(
    r"(?:[A-Za-z_][\w.]{0,200})?(?:Error|Exception|Warning|Interrupt|Exit|Timeout|Iteration)(?:\Z|: ?)"
)
_TITLE: Final = re.compile(r"<(title|h1)[^<>]{0,200}>([^<]{0,1000})<", re.IGNORECASE)
_TAG: Final = re.compile(r"<[^<>]{0,1000}>")
_IN_PREFIX: Final = re.compile(r'"(?:error|message|detail|msg|reason|info)"\s{0,20}:\s{0,20}"((?:[^"\\]|\\.){1,400})')


def message_in(value: Any, depth: int = 0) -> str:
    """The message in an error's JSON; "" if it has none."""
    if isinstance(value, str):
        return message_of_text(value)
    if depth > _DEEPEST:
        return ""
    if isinstance(value, list):
        found = dict.fromkeys(message for each in value[:_MOST] if (message := message_in(each, depth + 1)))
        return "; ".join(found)
    return _message_of(value, depth) if isinstance(value, dict) else ""


def _message_of(value: Mapping[str, Any], depth: int) -> str:
    where = value.get("loc")
    if isinstance(where, list | str) and "msg" in value:  # FastAPI's and pydantic's errors
        problem = message_in(value["msg"], depth + 1)
        return f"{_place(where)}: {problem}" if problem else ""
    inner = _first(value, ("error", "errors", "exception"), depth)
    message = _first(value, _MESSAGES, depth)
    if not message and isinstance(value.get("status"), dict):  # Seldon
        message = message_in(value["status"], depth + 1)
    label = next((each for name in _LABELS if (each := _label(value.get(name)))), "")
    if inner and message and inner != message and len(inner) <= _LONGEST_LABEL:
        return f"{inner}: {message}"  # {"error": "Internal Server Error", "message": …}
    message = inner or message
    if not message:
        return label
    return f"{label}: {message}" if label and label not in message else message


def _first(value: Mapping[str, Any], names: tuple[str, ...], depth: int) -> str:
    for name in names:
        if message := message_in(value.get(name), depth + 1):
            return message
    return ""


def _label(value: Any) -> str:
    """A short name for a class of errors. Not a number, which mostly repeats the status."""
    if not isinstance(value, str) or not 0 < len(value) <= _LONGEST_LABEL or value.isdigit():
        return ""
    return "" if value in ("error", "about:blank", "None") or "://" in value else value


def _place(where: list[Any] | str) -> str:
    """A place in the input, without row numbers: they say nothing about the reason."""
    if isinstance(where, str):
        return where[:_LONGEST_LABEL]
    return ".".join("#" if isinstance(step, int) else str(step)[:_LONGEST_LABEL] for step in where[:8])


def message_of_text(text: str) -> str:
    """The message in a text: a traceback's last line, a page's title, else its beginning."""
    start = text[:LOOKED_AT].strip()
    if TRACEBACK in start:
        return _raised(text[-LOOKED_AT:])
    if start[:1] == "<":
        found = _TITLE.search(start)
        if found is not None and found[2].strip():
            return html.unescape(found[2].strip())
        return html.unescape(_TAG.sub(" ", start)).strip()
    if start[:1] in ("{", "[") and (quoted := _IN_PREFIX.search(start)) is not None:
        return quoted[1]  # JSON of which the log has a part, or that is nested as text
    return start


def _raised(tail: str) -> str:
    """The last line of a traceback that names an exception; where none does, the last line."""
    lines = [line for line in re.split(r"\r\n|\n|\r", tail) if line.strip()]
    named = [line for line in lines if _EXCEPTION.match(line)]
    return (named or lines or [""])[-1].strip()
