"""One exchange for a person to read: the request, and the two answers side by side with their differences marked."""

import base64
import json
import math
import shlex
from typing import Any, Final

from rich.console import Console
from rich.table import Table
from rich.text import Text

from shadowproxy.answers import about, content_of
from shadowproxy.compare.judge.recompare import recompared
from shadowproxy.compare.judge.rules import Rules
from shadowproxy.compare.judge.visible import sides, visible
from shadowproxy.compare.report.beside import Row, near_differences, raw_rows, rows_of, whole_line
from shadowproxy.compare.report.lines import LINES
from shadowproxy.compare.report.shown_lines import body_lines, lines_of, raw_lines, request_lines
from shadowproxy.exchange import TunnelEnd, Verdict
from shadowproxy.record import Difference, Record, RecordedLeg

_PER_CONNECTION: Final = frozenset(
    {"host", "connection", "content-length", "transfer-encoding", "keep-alive", "te", "trailer", "upgrade", "via"}
)

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


def print_exchange(
    record: Record, console: Console, *, rules: Rules | None = None, shadow: str | None = None, raw: bool = False
) -> None:
    """Print an exchange: the request, live's answer beside each shadow's (or only `shadow`'s), and the control's.

    Lines that differ are marked `!` between the two, in words and not by colour alone. Nothing in a body can act on
    the terminal. The comparison is made now, by `rules`, where the log has the bodies whole. With `raw` bodies are
    shown as they were sent.
    """
    request = record.request
    _print(console, Text(f"{record.id}  {record.at}  {record.proxy}", style="bold"))
    query = f"?{request.query}" if request.query else ""
    _print(console, Text(visible(f"{request.method} {request.path}{query}")))
    for line in body_lines(request.body) if raw else request_lines(request):
        _print(console, Text(f"  {line}", style="dim"))
    if record.weight > 1:
        _print(console, Text(f"  stands for {record.weight:,} requests like it (log.sample)", style="dim"))
    if (tunnel := record.tunnel) is not None:
        sizes = f"{tunnel.from_caller:,} bytes from the caller, {tunnel.from_live:,} from live"
        _print(console, Text(f"  WebSocket: {sizes}; ended by {_ENDED_BY[tunnel.ended_by]}"))
    others = [(name, answer) for name, answer in record.shadows.items() if shadow in (None, name)]
    if record.control is not None and shadow is None:
        others.append(("control (live again)", record.control))
    if not others:
        _print(console, Text(f"\nlive: {_heading(record.live)}"))
        lines = raw_lines(record.live) if raw else lines_of(record.live)
        for row in near_differences([Row(whole_line(line), False, "") for line in lines]):
            _print(console, Text(f"  {row.live}"))
    for name, answer in others:
        console.print()
        _pair(record, name, answer, rules or Rules(), console, raw=raw)


def _pair(record: Record, name: str, other: RecordedLeg, rules: Rules, console: Console, *, raw: bool) -> None:
    live = record.live
    contents = content_of(live), content_of(other)
    compared = recompared(live, other, rules, about(record, name, contents), record.rules)
    verdict = Text("verdict: ", style="bold").append(str(compared.verdict), style=STYLES[compared.verdict])
    if compared.why:
        verdict.append(f" ({visible(compared.why)})")
    _print(console, Text(f"{visible(name)} — ", style="bold").append_text(verdict))
    table = Table(box=None, padding=(0, 1), pad_edge=False, expand=True, show_edge=False)
    table.add_column(f"live: {_heading(live)}", ratio=1, overflow="fold")
    table.add_column("", width=1)
    table.add_column(f"{visible(name)}: {_heading(other)}", ratio=1, overflow="fold")
    differences = compared.diff.listed() if compared.diff is not None else []
    if raw:
        rows = raw_rows(raw_lines(live), raw_lines(other), differences)
    else:
        rows = rows_of(lines_of(live, contents[0]), lines_of(other, contents[1]), differences)
    for row in rows:
        style = "bold red" if row.differs else ""
        table.add_row(
            Text(row.live, style=style), Text("!" if row.differs else "", style=style), Text(row.other, style=style)
        )
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
    for line in issued_lines(other):
        _print(console, Text(f"  {line}", style="dim"))
    for arm, leg in (("live", live), (visible(name), other)):
        if leg.caller_left:
            _print(console, Text(f"  the caller left {arm} after the answer's end, before the response's", style="dim"))


def issued_lines(leg: RecordedLeg) -> list[str]:
    """Which of its own IDs a shadow was sent in place of live's, and which both issued."""
    lines = [
        f"sent with its own ID in {visible(each.place)}: {_ids(each.live, each.shadow)}, "
        f"learnt from record {visible(each.learnt_from)}"
        for each in leg.translated
    ]
    lines += [f"issued at {visible(each.place)}: {_ids(each.live, each.shadow)}" for each in leg.learnt]
    left = len(lines) - LINES
    return [*lines[:LINES], *([f"and {left:,} more IDs"] if left > 0 else [])]


def _ids(live: str, shadow: str) -> str:
    return f"live's {visible(live) or 'is not in the log'}, its own {visible(shadow) or 'is not in the log'}"


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


def _heading(answer: RecordedLeg) -> str:
    status = f" {answer.status}" if answer.status is not None else ""
    took = f", {answer.total_ms:,.1f} ms" if answer.total_ms is not None else ""
    return f"{answer.outcome}{status}{took}"


def _print(console: Console, text: Text) -> None:
    console.print(text, soft_wrap=True, highlight=False)
