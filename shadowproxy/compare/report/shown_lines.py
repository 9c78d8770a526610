"""The lines in which a person sees a body: JSON indented, a table row by row, a vector or an image in one line."""

import json
from typing import Any, Final, NamedTuple

from shadowproxy.answers import Content, content_of
from shadowproxy.answers.body import content_in
from shadowproxy.answers.leaves import Blob, Vector, blob_of
from shadowproxy.compare.judge.visible import one_line, visible
from shadowproxy.pointers import pointer_token
from shadowproxy.record import Body, RecordedLeg, RecordedRequest

LINES: Final = 200
"""Lines of a body that are shown whole, and differences that are listed."""

NOTHING: Final = object()
END: Final = "#end"
"""What the pointer of a line that closes an array or object ends with."""

_MOST_LINES: Final = 10_000  # lines of a body that are looked at
_LONGEST_ROW: Final = 400  # characters
_TABLES: Final = frozenset({"csv", "arrow", "parquet"})


class Line(NamedTuple):
    """A line of a body.

    Attributes:
        text: what it begins with.
        pointer: the place of its value.
        item: the scalar that it ends with.
        whole: it shows all places below its own.
    """

    text: str
    pointer: str | None = None
    item: Any = NOTHING
    whole: bool = False


def lines_of(answer: RecordedLeg) -> list[Line]:
    """The lines of an answer: first what is wrong with it, if anything."""
    if answer.body is None:
        return [Line(visible(answer.error or "no answer"))]
    found = content_of(answer)
    wrong = [*([] if found.broken is None else [found.broken]), *found.warnings]
    told = [Line(visible(f"({each})")) for each in wrong]
    return [*told, *_content_lines(found, answer.body)]


def _content_lines(found: Content, body: Body) -> list[Line]:
    if found.kind == "json":
        return _json_lines(found.value, rows=found.format in _TABLES)
    if found.kind == "text" and not body.truncated:
        return [Line(visible(line)) for line in found.value.split("\n")[:_MOST_LINES]]
    if found.kind == "bytes" and "/" in found.format:
        return [Line(visible(blob_of(found.value, found.format).line()))]
    return [Line(line) for line in body_lines(body)]


def _json_lines(value: Any, *, rows: bool) -> list[Line]:
    """JSON indented, one scalar a line, members in the order of their names so that two answers line up. With `rows` an
    element of the whole is one line."""
    lines: list[Line] = []
    waiting: list[tuple[int, str, str, Any]] = [(0, "", "", value)]
    while waiting and len(lines) <= _MOST_LINES:
        depth, pointer, label, item = waiting.pop()
        indent = "  " * min(depth, 20)
        if isinstance(item, Vector | Blob):
            lines.append(Line(f"{indent}{label}{item.line()}", pointer, whole=True))
        elif rows and depth == 1 and isinstance(item, list | dict):
            lines.append(Line(f"{indent}{one_line(item, _LONGEST_ROW)}", pointer, whole=True))
        elif isinstance(item, dict) and item:
            lines.append(Line(f"{indent}{label}{{", pointer))
            waiting.append((depth, f"{pointer}{END}", "", "}"))
            for key in sorted(item, reverse=True):
                shown = f"{one_line(key)}: "
                waiting.append((depth + 1, f"{pointer}/{pointer_token(key)}", shown, item[key]))
        elif isinstance(item, list) and item:
            lines.append(Line(f"{indent}{label}[", pointer))
            waiting.append((depth, f"{pointer}{END}", "", "]"))
            waiting.extend((depth + 1, f"{pointer}/{at}", "", item[at]) for at in reversed(range(len(item))))
        elif pointer.endswith(END):
            lines.append(Line(f"{indent}{item}", pointer))
        else:
            lines.append(Line(f"{indent}{label}", pointer, item))
    return lines


def request_lines(request: RecordedRequest) -> list[str]:
    """The lines of a request's body, as texts: as it is logged, or as what its format makes of it."""
    found = content_in(request.body, request.headers)
    if found.kind != "json" or request.body.kind == "json" or found.stream is not None:
        return body_lines(request.body)
    lines = _json_lines(found.value, rows=found.format in _TABLES)
    shown = [line.text if line.item is NOTHING else line.text + one_line(line.item, _LONGEST_ROW) for line in lines]
    more = len(shown) - LINES
    return shown if more <= 0 else [*shown[:LINES], f"… {more:,} more line{'' if more == 1 else 's'}"]


def body_lines(body: Body) -> list[str]:
    """The lines of a body as the log has it."""
    if body.kind == "none":
        if body.size == 0:
            return ["(no body)"]
        return [f"({body.size:,} bytes, not in the log{f': {body.redacted}' if body.redacted else ''})"]
    if body.kind == "bytes":
        return [f"({len(body.value):,} bytes) {body.value[:64].hex(' ')}"]
    if body.kind == "json":
        text = json.dumps(body.value, ensure_ascii=False) if _shallow(body.value) else "(JSON, nested too deep to show)"
    else:
        text = body.value
    lines = [visible(line) for line in text[: 400 * LINES].split("\n")[:LINES]]
    return [*lines, f"(cut here, of {body.size:,} bytes)"] if body.truncated else lines


def _shallow(value: Any) -> bool:
    level, depth = [value], 0
    while level and depth < 200:
        level = [
            child
            for item in level
            if isinstance(item, dict | list)
            for child in (item.values() if isinstance(item, dict) else item)
        ]
        depth += 1
    return not level
