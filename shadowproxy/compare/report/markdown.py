"""The report in GitHub's Markdown, for a pull request's comment."""

from collections.abc import Sequence
from typing import Final

from shadowproxy.compare.judge.visible import sides, visible
from shadowproxy.compare.report.figures.measure_types import StreamFigures, UsageFigures
from shadowproxy.compare.report.figures.types import (
    CheckFigures,
    DifferingField,
    Example,
    Report,
    ShadowReport,
)
from shadowproxy.compare.report.sentences.answers import agreement_lines, output_line
from shadowproxy.compare.report.sentences.differences import apart_line, how_it_differs, noise_lines, slice_line
from shadowproxy.compare.report.sentences.language import LANGUAGE_HEADS, language_notes, language_rows
from shadowproxy.compare.report.sentences.losses import coverage_line, gathers, pair_lines, status_table
from shadowproxy.compare.report.sentences.overview import (
    LESS_NOTE,
    MOST_WHOLE,
    OVERVIEW_HEADS,
    OVERVIEW_NOTE,
    opening,
    overview_rows,
)
from shadowproxy.compare.report.sentences.questions import route_lines, sentence_alone, where_judged
from shadowproxy.compare.report.sentences.streams import STREAM_HEADS, stream_notes, stream_rows
from shadowproxy.compare.report.sentences.usage import USAGE_HEADS, usage_rows
from shadowproxy.compare.report.words import about, milliseconds, part_name, percent

_FIELDS: Final = 8
_SLICES: Final = 5
_REASONS: Final = 5
_ROUTES: Final = 12
_EXAMPLES: Final = 3
_FINISH: Final = 8


def to_markdown(figures: Report) -> str:
    """The report of `report.to_json`. Texts from the log stand in code or with Markdown's signs escaped."""
    lines = ["# Shadow report", "", _md(opening(figures["log"])), ""]
    if len(figures["shadows"]) > 1:
        lines += _overview(figures)
    whole = len(figures["shadows"]) <= MOST_WHOLE
    if not whole:
        lines += [_md(LESS_NOTE), ""]
    for number, (name, shadow) in enumerate(figures["shadows"].items(), 1):
        if len(figures["shadows"]) > 1:
            lines += [f'<a id="shadow-{number}"></a>', ""]
        lines += _shadow(name, shadow) if whole else _in_short(name, shadow)
    return "\n".join(lines).rstrip() + "\n"


def _overview(figures: Report) -> list[str]:
    rows = [
        (f"**{word}**", f"[{_md(name)}](#shadow-{number})", *cells)
        for number, (word, name, *cells) in enumerate(overview_rows(figures), 1)
    ]
    return [*_table(OVERVIEW_HEADS, rows), OVERVIEW_NOTE, ""]


def _heading(name: str, shadow: ShadowReport) -> list[str]:
    verdict = shadow["verdict"]
    lines = [f"## {_md(name)}: {verdict['headline']}", "", f"{_md(verdict['sentence'])}.", ""]
    for warning in verdict["warnings"]:
        lines += [f"> Beware: {_md(warning)}", ""]
    return lines


def _in_short(name: str, shadow: ShadowReport) -> list[str]:
    return [*_heading(name, shadow), f"- **Next**: {_md(shadow['advice']['next']['said'])}", ""]


def _shadow(name: str, shadow: ShadowReport) -> list[str]:
    verdict = shadow["verdict"]
    lines = _heading(name, shadow)
    lines += [f"- {_md(point['said'])}" for point in shadow["advice"]["in_short"]]
    lines += [f"- **Next**: {_md(shadow['advice']['next']['said'])}"]
    lines += [f"- {_md(shadow['blind_spots']['said'])}", ""]
    questions = [(question.capitalize(), f"**{result}**") for question, result in verdict["questions"].items()]
    lines += _table(("Question", "Result"), questions)
    lines += _table(("Check", "Result", "Judged", "Measured"), [_check(check) for check in shadow["checks"]])
    lines += [f"**Coverage**: {_md(coverage_line(shadow))}.", ""]
    for title, line in pair_lines(shadow):
        lines += [f"**{title}**: {_md(line)}.", ""]
    lines += _reasons(shadow)
    routes = route_lines(shadow)
    lines += _list("Routes", [_md(line) for line in routes[:_ROUTES]], len(routes) - _ROUTES)
    latency = shadow["latency"]
    if latency["pairs"]:
        names = ("p50", "p90", "p99")
        lines += _table(
            ("Latency, ms", *names),
            [(arm, *(milliseconds(latency[arm][name]) for name in names)) for arm in ("live", "shadow")],
        )
    lines += _streams(shadow["streams"])
    lines += _usage(shadow["usage"])
    if shadow["language"] is not None:
        lines += _table(("Language model", *LANGUAGE_HEADS), language_rows(shadow["language"]))
        lines += [line for note in language_notes(shadow["language"]) for line in (_md(note), "")]
    lines += [f"**Agreement**: {_md('; '.join(agreement_lines(shadow['agreement'])))}.", ""]
    lines += [
        f"- {_code(each['live_path'] or 'the answer')} ({each['kind']}): {_md(output_line(each))}"
        for each in shadow["outputs"]
        if each["pairs"]
    ]
    lines += ["", *[f"- {_md(line)}" for line in noise_lines(shadow)], ""]
    fields = [
        (_code(row["path"] or "(whole)"), f"{row['exchanges']:,}", percent(row["share"]), _md(_how(row)))
        for row in shadow["fields"][:_FIELDS]
    ]
    lines += _table(("Differs at", "Requests", "Share", "How"), fields)
    slices = [f"{_md(part_name(row['path'], row['value']))}: {slice_line(row)}" for row in shadow["slices"][:_SLICES]]
    lines += _list("Where they differ most", slices, 0)
    lines += _list("Examples", [_example(example) for example in shadow["examples"][:_EXAMPLES]], 0)
    return lines


def _streams(streams: StreamFigures | None) -> list[str]:
    """When the tokens of streamed answers came."""
    if streams is None:
        return []
    lines = _table(("Streams, ms", *STREAM_HEADS), stream_rows(streams))
    return [*lines, *(f"{_md(note)}.\n" for note in stream_notes(streams))]


def _usage(usage: UsageFigures | None) -> list[str]:
    """What the answers took, and why their models stopped."""
    if usage is None:
        return []
    rows, columns, cells = status_table(usage["finish"], _FINISH, _FINISH)
    finish = [(f"live {_md(row)}", *(f"{cells.get((row, column), 0):,}" for column in columns)) for row in rows]
    return [
        *_table(("Tokens and cost", *USAGE_HEADS), usage_rows(usage)),
        *_table(("Finish reason", *(f"shadow {_md(column)}" for column in columns)), finish),
    ]


def _check(check: CheckFigures) -> tuple[str, ...]:
    where = where_judged(check)
    more = f"; about {about(check['more'])} more requests would settle it" if check["more"] else ""
    judged = _code(where) if where else "all answers"
    return check["name"], f"**{check['result']}**", judged, _md(sentence_alone(check) + more)


def _reasons(shadow: ShadowReport) -> list[str]:
    """Why the shadow's answers failed."""
    if not shadow["errors"]:
        return []
    rows = [
        (
            _code(row["reason"]),
            f"{row['count']:,}",
            percent(row["share"]),
            _md(gathers(row).removeprefix("; ")),
            _code(row["example"]) if row["example"] else "",
        )
        for row in shadow["errors"]["reasons"]["shadow"][:_REASONS]
    ]
    return _table(("Why it failed", "Requests", "Share", "Where", "Example"), rows)


def _how(row: DifferingField) -> str:
    apart = apart_line(row["apart"])
    return f"{how_it_differs(row)}; {apart}" if apart else how_it_differs(row)


def _example(example: Example) -> str:
    first = example["differences"][0] if example["differences"] else None
    shown = sides(first["kind"], first["live"], first["shadow"], 40) if first else ("", "")
    line = f"{first['path'] or first['kind']}: live {shown[0]}, shadow {shown[1]}" if first else ""
    return f"{_code(example['id'])}: {_code(line)}"


def _list(title: str, rows: Sequence[str], left: int) -> list[str]:
    if not rows:
        return []
    return [f"**{title}**", "", *(f"- {row}" for row in rows), *([f"- and {left} more"] if left > 0 else []), ""]


def _table(heads: tuple[str, ...], rows: Sequence[tuple[str, ...]]) -> list[str]:
    if not rows:
        return []
    body = [f"| {' | '.join(cells)} |" for cells in rows]
    return [f"| {' | '.join(heads)} |", f"|{'---|' * len(heads)}", *body, ""]


def _md(text: str) -> str:
    """A text on one line, with the signs of Markdown and HTML escaped."""
    plain = " ".join(visible(text).split())
    escaped = "".join(f"\\{sign}" if sign in "\\`*_[]|#" else sign for sign in plain)
    return escaped.replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")


def _code(text: str) -> str:
    """A text as code: in one more backtick than it holds in a row, so that none of it can end the code."""
    plain = " ".join(visible(text).split()).replace("|", "\\|")
    fence = "`"
    while fence in plain:
        fence += "`"
    pad = " " if plain.startswith("`") or plain.endswith("`") else ""
    return f"{fence}{pad}{plain}{pad}{fence}"
