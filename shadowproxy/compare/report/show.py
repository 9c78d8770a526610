"""One exchange for a person to read: the request, and the two answers side by side with their differences marked."""

import base64
import json
import math
import shlex
from itertools import zip_longest
from typing import Any, Final, TypeAlias

from rich.console import Console
from rich.table import Table
from rich.text import Text

from shadowproxy.answers import about
from shadowproxy.compare.judge.recompare import recompared
from shadowproxy.compare.judge.rules import Rules
from shadowproxy.compare.judge.visible import cut_together, one_line, sides, visible
from shadowproxy.compare.report.shown_lines import END, LINES, NOTHING, Line, lines_of, request_lines
from shadowproxy.exchange import TunnelEnd, Verdict
from shadowproxy.record import Difference, Record, RecordedLeg

_AROUND: Final = 3  # lines shown before and after one that differs, in a body that is longer
_LONGEST: Final = 400  # characters of a line

_PER_CONNECTION: Final = frozenset(
    {"host", "connection", "content-length", "transfer-encoding", "keep-alive", "te", "trailer", "upgrade", "via"}
)

_GAP: Final = Line("")

Row: TypeAlias = tuple[str, bool, str]
"""Live's line and the other's as they are shown, and between them whether they differ."""

_ENDED_BY: Final = {
    TunnelEnd.CALLER: "the caller",
    TunnelEnd.LIVE: "live",
    TunnelEnd.IDLE: "limits.tunnel_timeout",
    TunnelEnd.SHUTDOWN: "the proxy's stop",
}

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
    request = record.request
    _print(console, Text(f"{record.id}  {record.at}  {record.proxy}", style="bold"))
    query = f"?{request.query}" if request.query else ""
    _print(console, Text(visible(f"{request.method} {request.path}{query}")))
    for line in request_lines(request):
        _print(console, Text(f"  {line}", style="dim"))
    if (tunnel := record.tunnel) is not None:
        sizes = f"{tunnel.from_caller:,} bytes from the caller, {tunnel.from_live:,} from live"
        _print(console, Text(f"  WebSocket: {sizes}; ended by {_ENDED_BY[tunnel.ended_by]}"))
    others = [(name, answer) for name, answer in record.shadows.items() if shadow in (None, name)]
    if record.control is not None and shadow is None:
        others.append(("control (live again)", record.control))
    if not others:
        _print(console, Text(f"\nlive: {_heading(record.live)}"))
        for text, _, _ in _near_differences([(_whole_line(line), False, "") for line in lines_of(record.live)]):
            _print(console, Text(f"  {text}"))
    for name, answer in others:
        console.print()
        _pair(record, name, answer, rules or Rules(), console)


def _pair(record: Record, name: str, other: RecordedLeg, rules: Rules, console: Console) -> None:
    live = record.live
    compared = recompared(live, other, rules, about(record, name), record.rules)
    verdict = Text("verdict: ", style="bold").append(str(compared.verdict), style=STYLES[compared.verdict])
    if compared.why:
        verdict.append(f" ({visible(compared.why)})")
    _print(console, Text(f"{visible(name)} — ", style="bold").append_text(verdict))
    table = Table(box=None, padding=(0, 1), pad_edge=False, expand=True, show_edge=False)
    table.add_column(f"live: {_heading(live)}", ratio=1, overflow="fold")
    table.add_column("", width=1)
    table.add_column(f"{visible(name)}: {_heading(other)}", ratio=1, overflow="fold")
    differences = compared.diff.listed() if compared.diff is not None else []
    differing = {place for each in differences for place in (each.path, each.shadow_path) if place is not None}
    rows = [_row(mine, theirs, differing) for mine, theirs in _aligned(lines_of(live), lines_of(other))]
    for mine, marked, theirs in _near_differences(rows):
        style = "bold red" if marked else ""
        table.add_row(Text(mine, style=style), Text("!" if marked else "", style=style), Text(theirs, style=style))
    console.print(table)
    if compared.diff is not None:
        for difference in differences[:LINES]:
            place = _place(difference, name)
            one, two = sides(difference.kind, difference.live, difference.shadow, 120)
            size = _apart(difference.live, difference.shadow)
            _print(console, Text(f"  {place}  {difference.kind}: live {one}, {visible(name)} {two}{size}"))
        if compared.diff.count > len(differences[:LINES]):
            _print(console, Text(f"  and {compared.diff.count - len(differences[:LINES]):,} more"))
        if compared.diff.set_aside:
            places = ", ".join(visible(place) for place in compared.diff.set_aside)
            _print(console, Text(f"  set aside, as it is new in every answer: {places}", style="dim"))
    for arm, leg in (("live", live), (visible(name), other)):
        if leg.caller_left:
            _print(console, Text(f"  the caller left {arm} after the answer's end, before the response's", style="dim"))


def _place(difference: Difference, name: str) -> str:
    """Where two answers differ, in both if the shadow's place is another."""
    place = visible(difference.path) or "the whole answer"
    beside = difference.shadow_path
    return (
        place
        if beside in (None, difference.path)
        else f"{place} ({visible(name)}: {visible(beside) or 'the whole answer'})"
    )


def _apart(live: Any, shadow: Any) -> str:
    """How far two numbers lie apart, relative to the larger: the least tolerance that would settle it."""
    if any(isinstance(each, bool) or not isinstance(each, int | float) for each in (live, shadow)):
        return ""
    largest = max(abs(live), abs(shadow))
    try:
        part = abs(live - shadow) / largest if largest else math.nan
    except OverflowError:  # an integer of more than 308 digits beside a float
        return ""
    return f" ({part:.1e} of it apart)" if math.isfinite(part) else ""


def _row(mine: Line, theirs: Line, differing: set[str]) -> Row:
    """Two lines beside each other as they are shown, and whether they differ."""
    if mine.pointer is None and theirs.pointer is None:
        marked = "" in differing and mine != theirs
    else:
        marked = _marks(mine, differing) or _marks(theirs, differing)
    if marked and mine.item is not NOTHING and theirs.item is not NOTHING:
        one, other = sides("value", mine.item, theirs.item, _LONGEST)
        return mine.text + one, marked, theirs.text + other
    if marked and mine.item is theirs.item is NOTHING:
        one, other = cut_together(mine.text, theirs.text, _LONGEST)
        return one, marked, other
    return _whole_line(mine), marked, _whole_line(theirs)


def _whole_line(line: Line) -> str:
    if line.item is not NOTHING:
        return line.text + one_line(line.item, _LONGEST)
    return line.text if len(line.text) <= _LONGEST else line.text[: _LONGEST - 1] + "…"


def _near_differences(rows: list[Row]) -> list[Row]:
    """All rows of two short bodies; of long ones those that differ, with some around them and how many lie between."""
    if len(rows) <= LINES:
        return rows
    shown: list[Row] = []
    last = -1
    near = {
        at
        for number, (_, marked, _) in enumerate(rows)
        if marked
        for at in range(number - _AROUND, number + _AROUND + 1)
    } or set(range(LINES))
    for at in sorted(near.intersection(range(len(rows))))[: 2 * LINES]:
        if at > last + 1:
            shown.append(_between(at - last - 1))
        shown.append(rows[at])
        last = at
    if last < len(rows) - 1:
        shown.append(_between(len(rows) - 1 - last))
    return shown


def _between(count: int) -> Row:
    text = f"… {count:,} more line{'' if count == 1 else 's'}"
    return text, False, text


def curl_command(record: Record, url: str) -> str:
    """The request as a command for bash that sends it to `url`: an endpoint's scheme, host and base path.

    Header fields that belong to one connection are left out, and redacted values are sent as the log has them. JSON is
    rewritten: the values are the same, their spelling may differ. Where the log has no whole body, a comment says so.
    """
    request = record.request
    query = f"?{request.query}" if request.query else ""
    target = f"{url.rstrip('/')}{request.path}{query}"
    parts = ["curl", "--path-as-is", "-X", request.method]
    for name, values in request.headers.items():
        if name not in _PER_CONNECTION:
            for value in values if isinstance(values, list) else [values]:
                parts += ["-H", f"{name}: {value}" if value else f"{name};"]  # curl's way to send an empty one
    missing = ""
    body = request.body
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


def _aligned(left: list[Line], right: list[Line]) -> list[tuple[Line, Line]]:
    """The two bodies' lines beside each other, by pointer where both are JSON: a missing member leaves a gap."""
    order = {line.pointer: at for at, line in enumerate(right) if line.pointer is not None}
    if not order or not any(line.pointer in order for line in left if line.pointer is not None):
        return list(zip_longest(left, right, fillvalue=_GAP))
    rows: list[tuple[Line, Line]] = []
    taken = 0
    for line in left:
        at = order.get(line.pointer) if line.pointer is not None else None
        if at is None or at < taken:
            rows.append((line, _GAP))
            continue
        rows.extend((_GAP, extra) for extra in right[taken:at])
        rows.append((line, right[at]))
        taken = at + 1
    rows.extend((_GAP, extra) for extra in right[taken:])
    return rows


def _marks(line: Line, differing: set[str]) -> bool:
    """Whether a line shows a place that differs, or one below it where it shows all of these."""
    pointer = line.pointer
    if pointer is None:
        return False
    place = pointer.removesuffix(END)
    return place in differing or (line.whole and any(each.startswith(f"{place}/") for each in differing))


def _heading(answer: RecordedLeg) -> str:
    status = f" {answer.status}" if answer.status is not None else ""
    took = f", {answer.total_ms:,.1f} ms" if answer.total_ms is not None else ""
    return f"{answer.outcome}{status}{took}"


def _print(console: Console, text: Text) -> None:
    console.print(text, soft_wrap=True, highlight=False)
