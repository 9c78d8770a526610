"""Decides what an answer's body is, for comparing, counting and showing alike.

| Body | is |
|---|---|
| JSON, under any Content-Type (Triton sends it as text/plain, Flask as text/html) | json |
| JSON with NaN or Infinity in it, as Python's servers write it | json, `lenient` |
| server-sent events | json: the one answer that they are put together to (`streams`) |
| lines of JSON (`x-ndjson`, `jsonlines`; several under any type) | json: likewise, or the list of their values |
| other text | text |
| anything that is not text, or could not be decoded | bytes |
| nothing | empty |
| cut, hashed, left out, or too much to read | unknown, with the reason |

A JSON text that is neither object nor array (`42`, `"late"`) is JSON only if its Content-Type says so.
"""

import re
from collections.abc import Mapping
from typing import Any, Final, Literal, NamedTuple

from shadowproxy.answers.left_out import WHY, left_out_by
from shadowproxy.answers.sse import events_of, looks_like_events
from shadowproxy.answers.streams import Stream, of_events, of_lines
from shadowproxy.answers.texts import UNREADABLE, json_in, lines_in, names_constants
from shadowproxy.budget import Budget, Exhausted, read_json_text
from shadowproxy.record import RecordedLeg


class Content(NamedTuple):
    """The content of an answer. `lenient` marks JSON that only Python reads, with NaN or Infinity in it.

    For a stream, `stream` says how it ended, and `value` is the answer put together.
    """

    kind: Literal["json", "text", "bytes", "empty", "unknown"]
    value: Any = None
    lenient: bool = False
    why: str | None = None
    stream: Stream | None = None


_OF_LINES: Final = re.compile(r"(?i)ndjson|jsonl|json-lines|json-seq|stream\+json|json-stream")


def content_of(answer: RecordedLeg, budget: Budget | None = None) -> Content:
    """The content of an answer's body; unknown if the log has not the whole body, or if reading it costs too much."""
    body = answer.body
    if body is None:
        return Content("unknown", why="no body in the record")
    if (setting := left_out_by(body)) is not None:
        return Content("unknown", why=WHY[setting])
    if body.kind == "json":
        return Content("json", body.value)
    if body.kind == "none":
        return Content("empty") if body.size == 0 else Content("unknown", why=WHY["log.bodies"])
    if not body.value:
        return Content("empty")
    if body.kind == "bytes":
        return Content("bytes", body.value)
    try:
        return _text(body.value, field_value(answer.headers, "content-type"), budget or Budget())
    except Exhausted as why:
        return Content("unknown", why=f"not read, as {why}")


def _text(text: str, named: str, budget: Budget) -> Content:
    budget.spend_bytes(4 * len(text))
    if "event-stream" in named.lower() or looks_like_events(text):
        read_json_text(budget, text)
        events = list(events_of(text, budget))
        if events or not _may_be_json(text, named):
            stream = of_events(events)
            return Content("json", stream.value, stream=stream)
    if _OF_LINES.search(named) is not None and (values := lines_in(text, strict=False, budget=budget)):
        return _of_lines(values, text)
    if not _may_be_json(text, named):
        return Content("text", text)
    read_json_text(budget, text)
    value = json_in(text)
    if value is not UNREADABLE:
        return Content("json", value, lenient=names_constants(text))
    values = lines_in(text, strict=True, budget=budget)
    return _of_lines(values, text) if len(values) > 1 else Content("text", text)


def _of_lines(values: list[Any], text: str) -> Content:
    stream = of_lines(values)
    return Content("json", stream.value, lenient=names_constants(text), stream=stream)


def _may_be_json(text: str, named: str) -> bool:
    return "json" in named.lower() or text[:200].lstrip("\ufeff \t\r\n")[:1] in ("{", "[")


def field_value(headers: Mapping[str, str | list[str]], name: str) -> str:
    """The value of a header field; several values are joined with commas."""
    value = headers.get(name, "")
    return value if isinstance(value, str) else ", ".join(value)
