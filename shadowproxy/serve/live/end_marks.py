"""Whether a streamed answer has reached its own end, though its response has not.

OpenAI's SDK for Python closes the connection at `data: [DONE]`, before the last chunk, and at an event that reports an
error; MCP's does at the answer to its request. To the proxy that caller left early; but the answer is whole, and is to
be compared and judged as one.

| Stream | its end |
|---|---|
| OpenAI chat, completions | `data: [DONE]` |
| Anthropic Messages | `message_stop` |
| OpenAI Responses | `response.completed`, `response.incomplete`, `response.failed`, `response.cancelled`; or `[DONE]` |
| gradio | `event: complete`; `process_completed` and `close_stream` of its queue |
| MCP, answering a request | the JSON-RPC message with its `result` or `error` |
| Ollama, lines of JSON | a line with `"done": true` |
| any of them | an event or a line that reports an error |

Only the last whole line or event counts, and only its first and last characters are looked at: a long answer costs no
more than a short one. A quote within a JSON text is escaped, so `"type":"message_stop"` cannot be a part of one.
"""

import re
from typing import Final

from shadowproxy.content import names_events, names_lines

_LOOKED_AT: Final = 300
"""Bytes at both ends of an event's data: its own members stand there, before or behind the long ones."""

_MOST_LINES: Final = 200
"""Lines of the last event, with the comments behind it that keep a connection open."""

_BEGINS: Final = re.compile(rb"(?:\xef\xbb\xbf)?(?:data|event|id|retry)?:")
_END_NAMES: Final = frozenset({
    b"message_stop", b"response.completed", b"response.incomplete", b"response.failed", b"response.cancelled",
    b"complete", b"error",
})  # fmt: skip
_END_DATA: Final = re.compile(
    rb'"(?:type|msg)"\s{0,9}:\s{0,9}"'
    rb'(?:message_stop|response\.(?:completed|incomplete|failed|cancelled)|process_completed|close_stream)"'
)
_ERROR: Final = re.compile(
    rb'\s{0,9}\{\s{0,9}"(?:error"\s{0,9}:\s{0,9}(?:"[^"]|\{\s{0,9}"|\[\s{0,9}[^\]\s])|(?:object|type)"\s{0,9}:\s{0,9}"error")'
)
"""At the beginning of an event's data or of a line: an error further in may be a part of an answer, and an empty one is
none."""

_MEMBER: Final = rb'\s{0,9}"(?:jsonrpc|id)"\s{0,9}:\s{0,9}(?:"[^"\\]{0,200}"|\d{1,20})\s{0,9}'
_RPC_BEFORE: Final = re.compile(rb"\s{0,9}\{(?:%b,){2}" % _MEMBER + rb'\s{0,9}"(?:result|error)"\s{0,9}:')
_RPC_RESULT: Final = re.compile(rb'\s{0,9}\{\s{0,9}"(?:result|error)"\s{0,9}:')
_RPC_BEHIND: Final = re.compile(rb"(?:,%b){2}\}\s{0,9}\Z" % _MEMBER)
"""The members of a JSON-RPC response stand before its result, as MCP's SDK for Python writes it, or behind it."""

_LAST_LINE: Final = re.compile(rb'"done"\s{0,9}:\s{0,9}true')
_NOT_LAST: Final = re.compile(rb'"done"\s{0,9}:\s{0,9}false')


def has_ended(content_type: bytes, body: bytes) -> bool:
    """Whether the last whole event or line of a stream is its end. `body` is all that was received of it, decoded."""
    kind = content_type.decode("latin-1")
    if b"\n" not in body:
        body = body.replace(b"\r", b"\n")
    if names_lines(kind):
        return _ends_lines(body)
    if names_events(kind) or (not kind and _BEGINS.match(body) is not None):
        return _ends_events(body)
    return False


def _ends_lines(body: bytes) -> bool:
    whole = body[: body.rfind(b"\n") + 1].rstrip(b"\r\n")
    line = whole[whole.rfind(b"\n") + 1 :]
    if _ERROR.match(line) is not None:
        return True
    return _LAST_LINE.search(line) is not None and _NOT_LAST.search(line) is None


def _ends_events(body: bytes) -> bool:
    """Look at the last event's lines, from the last one up. What comes behind the last line's end is not whole yet."""
    end = body.rfind(b"\n")
    ended = has_data = False
    for _ in range(_MOST_LINES):
        if end <= 0:
            break
        line = _line_before(body, end)
        end -= len(line) + 1
        line = line.removesuffix(b"\r")
        if not line and has_data:
            break
        name, _, value = line.partition(b":")
        value = value.removeprefix(b" ")
        if name == b"data":
            has_data = True
            ended = ended or value.strip() == b"[DONE]" or _reports_end(value)
        elif name == b"event":
            ended = ended or value in _END_NAMES
        elif not line:
            ended = False
    return ended and has_data


def _reports_end(data: bytes) -> bool:
    if _ERROR.match(data) is not None:
        return True
    if b'"jsonrpc"' in data[:_LOOKED_AT] or b'"jsonrpc"' in data[-_LOOKED_AT:]:
        return _RPC_BEFORE.match(data) is not None or (
            _RPC_RESULT.match(data) is not None and _RPC_BEHIND.search(data[-_LOOKED_AT:]) is not None
        )
    return _END_DATA.search(data[:_LOOKED_AT]) is not None or _END_DATA.search(data[-_LOOKED_AT:]) is not None


def _line_before(body: bytes, end: int) -> bytes:
    return body[body.rfind(b"\n", 0, end) + 1 : end] if end > 0 else b""
