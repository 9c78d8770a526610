"""The lines in which a person sees a body: JSON indented, a table row by row, a vector or an image in one line."""

import json
from typing import Any, Final

from shadowproxy.answers import Content, content_of, failed_reason
from shadowproxy.answers.body import content_in
from shadowproxy.answers.envelopes import envelope_of
from shadowproxy.answers.leaves import Blob, Vector, blob_of
from shadowproxy.compare.judge.visible import one_line, visible
from shadowproxy.compare.report.lines import LINES, LONGEST, LONGEST_TEXT, NOTHING, Line
from shadowproxy.compare.report.model_lines import model_lines
from shadowproxy.pointers import pointer_token
from shadowproxy.record import Body, RecordedLeg, RecordedRequest

END: Final = "#end"
"""What the pointer of a line that closes an array or object ends with."""

_MOST_LINES: Final = 10_000  # lines of a body that are looked at
_TABLES: Final = frozenset({"csv", "arrow", "parquet"})
_MOST_COLUMNS: Final = 40
_WIDEST: Final = 40  # characters of a cell


def lines_of(answer: RecordedLeg, content: Content | None = None) -> list[Line]:
    """The lines of an answer: first what is wrong with it, if anything."""
    if answer.body is None:
        return [Line(visible(answer.error or "no answer"))]
    found = content_of(answer) if content is None else content
    failed = failed_reason(answer, found)
    wrong = [f"failed: {failed}"] if failed is not None else []
    if found.broken is not None and found.broken != failed:
        wrong.append(found.broken)
    notes = [Line(visible(f"({each})")) for each in (*wrong, *found.warnings)]
    return [*notes, *_content_lines(found, answer.body)]


def raw_lines(answer: RecordedLeg) -> list[Line]:
    """The lines of an answer's body as it was sent, as far as the log has it."""
    body = answer.body
    if body is None:
        return [Line(visible(answer.error or "no answer"))]
    if body.kind == "json":
        return _json_lines(body.value)
    if body.kind == "bytes":
        return [Line(each) for each in _in_hexadecimal(body.value)]
    return [Line(line) for line in body_lines(body)]


def _in_hexadecimal(raw: bytes) -> list[str]:
    """Bytes as other tools show them: the offset, 16 bytes, and the ASCII among them."""
    lines = []
    for at in range(0, min(len(raw), 16 * LINES), 16):
        piece = raw[at : at + 16]
        text = "".join(chr(each) if 0x20 <= each < 0x7F else "." for each in piece)
        lines.append(f"{at:08x}  {piece.hex(' '):<47}  {text}")
    more = len(raw) - 16 * LINES
    return lines if more <= 0 else [*lines, f"… {more:,} more bytes"]


def _content_lines(found: Content, body: Body) -> list[Line]:
    if found.kind == "json":
        envelope = envelope_of(found.value)
        if envelope is not None and envelope.text:
            return model_lines(found.value)
        return _value_lines(found)
    if found.kind == "text" and not body.truncated:
        return [Line(visible(line), block=True) for line in found.value.split("\n")[:_MOST_LINES]]
    if found.kind == "bytes" and "/" in found.format:
        return [Line(visible(blob_of(found.value, found.format).line()))]
    return [Line(line) for line in body_lines(body)]


def _value_lines(found: Content) -> list[Line]:
    table = _table_lines(found.value) if found.format in _TABLES else None
    return _json_lines(found.value) if table is None else table


def _json_lines(value: Any) -> list[Line]:
    """JSON indented, one scalar a line, members in the order of their names so that two answers line up."""
    lines: list[Line] = []
    waiting: list[tuple[int, str, str, Any]] = [(0, "", "", value)]
    while waiting and len(lines) <= _MOST_LINES:
        depth, pointer, label, item = waiting.pop()
        indent = "  " * min(depth, 20)
        if isinstance(item, Vector | Blob):
            lines.append(Line(f"{indent}{label}{visible(item.line())}", pointer, whole=True, leaf=item))
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


def _table_lines(rows: Any) -> list[Line] | None:
    """A table with its columns aligned, a row a line; None if it is no table of cells."""
    if not isinstance(rows, list) or not rows or not isinstance(rows[0], dict | list):
        return None
    names = list(rows[0]) if isinstance(rows[0], dict) else None
    table = [list(row.values()) if isinstance(row, dict) else row for row in rows[:_MOST_LINES]]
    if not all(isinstance(row, list) for row in table):
        return None
    cells = [[_cell(each) for each in row[:_MOST_COLUMNS]] for row in table]
    heads = [] if names is None else [[_cell(name) for name in names[:_MOST_COLUMNS]]]
    widths: list[int] = []
    for row in (*heads, *cells):
        widths += [0] * (len(row) - len(widths))
        for at, cell in enumerate(row):
            widths[at] = max(widths[at], len(cell))
    more = [len(row) - _MOST_COLUMNS for row in table]
    lines = [Line(_aligned(row, widths, more[0]), key="#names") for row in heads]
    lines += [
        Line(_aligned(row, widths, more[at]), f"/{at}", whole=True, longest=LONGEST_TEXT)
        for at, row in enumerate(cells)
    ]
    return lines


def _aligned(cells: list[str], widths: list[int], more: int) -> str:
    padded = [cell.ljust(width) for cell, width in zip(cells, widths, strict=False)]
    return "  ".join([*padded, *([f"… {more:,} more"] if more > 0 else [])]).rstrip()


def _cell(value: Any) -> str:
    text = visible(value).replace("\n", "\\n").replace("\t", "\\t") if isinstance(value, str) else one_line(value)
    return text if len(text) <= _WIDEST else text[: _WIDEST - 1] + "…"


def request_lines(request: RecordedRequest) -> list[str]:
    """The lines of a request's body, as texts: as it is logged, or as what its format makes of it."""
    found = content_in(request.body, request.headers)
    if found.kind != "json" or request.body.kind == "json" or found.stream is not None:
        return body_lines(request.body)
    lines = _value_lines(found)
    shown = [line.text if line.item is NOTHING else line.text + one_line(line.item, LONGEST) for line in lines]
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
