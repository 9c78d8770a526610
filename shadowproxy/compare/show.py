"""One exchange for a person to read: what was asked, and the two answers side by side with their differences marked."""

import base64
import json
import shlex
from itertools import zip_longest
from typing import Any, Final

from rich.console import Console
from rich.table import Table
from rich.text import Text

from shadowproxy.compare.pair import recompared
from shadowproxy.compare.rules import Rules
from shadowproxy.compare.verdict import content
from shadowproxy.compare.visible import one_line, visible
from shadowproxy.exchange import Verdict
from shadowproxy.pointers import pointer_token
from shadowproxy.record import Answer, Body, Record

LINES: Final = 200
"""Lines of a body that are shown, and differences that are listed."""

_PER_CONNECTION: Final = frozenset(
    {"host", "connection", "content-length", "transfer-encoding", "keep-alive", "te", "trailer", "upgrade", "via"}
)

STYLES: Final = {
    Verdict.MATCH: "green",
    Verdict.IGNORED: "green",
    Verdict.MISMATCH: "bold red",
    Verdict.INCOMPARABLE: "yellow",
}


def print_exchange(record: Record, console: Console, *, rules: Rules | None = None, shadow: str | None = None) -> None:
    """Print an exchange: the request, live's answer beside each shadow's (or only `shadow`'s), and the control's.

    Lines that differ are marked `!` between the two, in words and not by colour alone. Nothing in a body can act on
    the terminal. The comparison is made now, by `rules`, where the log has the bodies whole.
    """
    asked = record.request
    _say(console, Text(f"{record.id}  {record.at}  {record.proxy}", style="bold"))
    query = f"?{asked.query}" if asked.query else ""
    _say(console, Text(visible(f"{asked.method} {asked.path}{query}")))
    for line in _body_lines(asked.body):
        _say(console, Text(f"  {line}", style="dim"))
    others = [(name, answer) for name, answer in record.shadows.items() if shadow in (None, name)]
    if record.control is not None and shadow is None:
        others.append(("control (live again)", record.control))
    if not others:
        _say(console, Text(f"\nlive: {_heading(record.live)}"))
        for line, _ in _lines(record.live):
            _say(console, Text(f"  {line}"))
    for name, answer in others:
        console.print()
        _pair(record.live, name, answer, rules or Rules(), console)


def _pair(live: Answer, name: str, other: Answer, rules: Rules, console: Console) -> None:
    compared = recompared(live, other, rules)
    verdict = Text("verdict: ", style="bold").append(str(compared.verdict), style=STYLES[compared.verdict])
    if compared.why:
        verdict.append(f" ({visible(compared.why)})")
    _say(console, Text(f"{visible(name)} — ", style="bold").append_text(verdict))
    table = Table(box=None, padding=(0, 1), pad_edge=False, expand=True, show_edge=False)
    table.add_column(f"live: {_heading(live)}", ratio=1, overflow="fold")
    table.add_column("", width=1)
    table.add_column(f"{visible(name)}: {_heading(other)}", ratio=1, overflow="fold")
    left, right = _lines(live), _lines(other)
    differences = compared.diff.listed() if compared.diff is not None else []
    differing = {difference.path for difference in differences}
    for (mine, here), (theirs, there) in _aligned(left, right):
        if here is None and there is None:
            marked = "" in differing and mine != theirs
        else:
            marked = _marks(here, differing) or _marks(there, differing)
        style = "bold red" if marked else ""
        table.add_row(Text(mine, style=style), Text("!" if marked else "", style=style), Text(theirs, style=style))
    console.print(table)
    if compared.diff is not None:
        for difference in differences[:LINES]:
            place = visible(difference.path) or "the whole answer"
            line = f"  {place}  {difference.kind}: live {one_line(difference.live)}, "
            _say(console, Text(f"{line}{visible(name)} {one_line(difference.shadow)}"))
        if compared.diff.count > len(differences[:LINES]):
            _say(console, Text(f"  and {compared.diff.count - len(differences[:LINES]):,} more"))


def curl_command(record: Record, url: str) -> str:
    """The request as a command for bash that sends it to `url`: an endpoint's scheme, host and base path.

    Header fields of the one connection are left out, and what the log had redacted is sent as it stands there. JSON is
    written anew: the same values, in other spelling. A body that the log has not whole is said to be missing.
    """
    asked = record.request
    query = f"?{asked.query}" if asked.query else ""
    target = f"{url.rstrip('/')}{asked.path}{query}"
    parts = ["curl", "--path-as-is", "-X", asked.method]
    for name, values in asked.headers.items():
        if name not in _PER_CONNECTION:
            for value in values if isinstance(values, list) else [values]:
                parts += ["-H", f"{name}: {value}" if value else f"{name};"]  # curl's way to send an empty one
    missing = ""
    body = asked.body
    if body.truncated:
        missing = "  # the log has not the whole body"
    elif body.kind == "json":
        parts += ["--data-raw", json.dumps(body.value, ensure_ascii=False, separators=(",", ":"))]
    elif body.kind == "text":
        parts += ["--data-raw", body.value]  # which, unlike --data-binary, reads no file for a body that begins with @
    elif body.kind == "bytes":
        encoded = base64.b64encode(body.value).decode()
        parts += ["--data-binary", "@-"]
        return f"printf %s {encoded} | base64 -d | {_words([*parts, target])}"
    return _words([*parts, target]) + missing


def _words(parts: list[str]) -> str:
    """Words for bash. What would act on the terminal is spelt out in $'...', which the shell turns back."""
    words = []
    for part in parts:
        shown = visible(part)
        if shown == part:
            words.append(shlex.quote(part))
        else:
            escaped = part.replace("\\", "\\\\").replace("'", "\\'")
            words.append(f"$'{visible(escaped)}'")
    return " ".join(words)


Line = tuple[str, str | None]
"""A line of a body, and the pointer of what stands on it."""


def _aligned(left: list[Line], right: list[Line]) -> list[tuple[Line, Line]]:
    """The two bodies' lines beside each other, by pointer where both are JSON: a missing member leaves a gap."""
    order = {pointer: at for at, (_, pointer) in enumerate(right) if pointer is not None}
    if not order or not any(pointer in order for _, pointer in left if pointer is not None):
        return list(zip_longest(left, right, fillvalue=("", None)))
    rows: list[tuple[Line, Line]] = []
    taken = 0
    for line in left:
        at = order.get(line[1]) if line[1] is not None else None
        if at is None or at < taken:
            rows.append((line, ("", None)))
            continue
        rows.extend((("", None), extra) for extra in right[taken:at])
        rows.append((line, right[at]))
        taken = at + 1
    rows.extend((("", None), extra) for extra in right[taken:])
    return rows


def _marks(pointer: str | None, differing: set[str]) -> bool:
    return pointer is not None and pointer.removesuffix("#end") in differing


def _lines(answer: Answer) -> list[Line]:
    if answer.body is None:
        return [(visible(answer.error or "no answer"), None)]
    said = content(answer)
    if said.kind != "json":
        return [(line, None) for line in _body_lines(answer.body)]
    lines = list(_json_lines(said.value))
    return [*lines[:LINES], (f"… {len(lines) - LINES:,} more lines", None)] if len(lines) > LINES else lines


def _json_lines(value: Any) -> list[Line]:
    """JSON indented, one scalar a line, members in the order of their names so that two answers line up."""
    lines: list[Line] = []
    waiting: list[tuple[int, str, str, Any]] = [(0, "", "", value)]
    while waiting and len(lines) <= LINES * 50:
        depth, pointer, label, item = waiting.pop()
        indent = "  " * min(depth, 20)
        if isinstance(item, dict) and item:
            lines.append((f"{indent}{label}{{", pointer))
            waiting.append((depth, f"{pointer}#end", "", "}"))
            for key in sorted(item, reverse=True):
                shown = f"{one_line(key)}: "
                waiting.append((depth + 1, f"{pointer}/{pointer_token(key)}", shown, item[key]))
        elif isinstance(item, list) and item:
            lines.append((f"{indent}{label}[", pointer))
            waiting.append((depth, f"{pointer}#end", "", "]"))
            waiting.extend((depth + 1, f"{pointer}/{at}", "", item[at]) for at in reversed(range(len(item))))
        elif pointer.endswith("#end"):
            lines.append((f"{indent}{item}", pointer))
        else:
            lines.append((f"{indent}{label}{one_line(item, 400)}", pointer))
    return lines


def _body_lines(body: Body) -> list[str]:
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


def _heading(answer: Answer) -> str:
    status = f" {answer.status}" if answer.status is not None else ""
    took = f", {answer.total_ms:,.1f} ms" if answer.total_ms is not None else ""
    return f"{answer.outcome}{status}{took}"


def _say(console: Console, text: Text) -> None:
    console.print(text, soft_wrap=True, highlight=False)
