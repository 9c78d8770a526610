"""The report as text for a terminal: about forty lines a shadow, in words, plain where it is no terminal."""

from typing import Final

from rich.console import Console
from rich.table import Table
from rich.text import Text

from shadowproxy.compare.judge.visible import sides, visible
from shadowproxy.compare.report.figures.language_types import LanguageFigures
from shadowproxy.compare.report.figures.measure_types import StreamFigures, UsageFigures
from shadowproxy.compare.report.figures.types import (
    EstimateFigures,
    Example,
    FailureReason,
    Latency,
    Report,
    ShadowReport,
    SliceFigures,
    StatusPair,
)
from shadowproxy.compare.report.sentences.answers import agreement_lines, output_line
from shadowproxy.compare.report.sentences.differences import apart_line, how_it_differs, noise_lines, slice_line
from shadowproxy.compare.report.sentences.estimates import assumption
from shadowproxy.compare.report.sentences.language import LANGUAGE_HEADS, language_notes, language_rows
from shadowproxy.compare.report.sentences.losses import coverage_line, pair_lines, reason_line, status_table
from shadowproxy.compare.report.sentences.overview import (
    LESS_NOTE,
    MOST_WHOLE,
    OVERVIEW_HEADS,
    OVERVIEW_NOTE,
    opening,
    overview_rows,
)
from shadowproxy.compare.report.sentences.questions import answers, besides, route_lines
from shadowproxy.compare.report.sentences.streams import STREAM_HEADS, stream_notes, stream_rows
from shadowproxy.compare.report.sentences.usage import USAGE_HEADS, usage_rows
from shadowproxy.compare.report.words import milliseconds, part_name, percent

STYLES: Final = {
    "pass": "bold green",
    "fail": "bold red",
    "inconclusive": "bold yellow",
    "no data": "bold yellow",
}

_STATUS_ROWS: Final = 4
_STATUS_COLUMNS: Final = 6
_REASON_ROWS: Final = 3
_ROUTE_ROWS: Final = 4
_FIELD_ROWS: Final = 4
_SLICE_ROWS: Final = 3
_EXAMPLE_ROWS: Final = 3


def print_figures(figures: Report, console: Console) -> None:
    """Print the report of `to_json`: no colour is needed to read it."""
    _print(console, opening(figures["log"]), style="bold")
    if len(figures["shadows"]) > 1:
        _print_overview(figures, console)
    whole = len(figures["shadows"]) <= MOST_WHOLE
    if not whole:
        _print(console, LESS_NOTE, style="dim")
    for name, shadow in figures["shadows"].items():
        console.print()
        _print_verdict(name, shadow, console, whole=whole)
        if whole:
            _print_shadow(shadow, console)
    if not figures["shadows"]:
        _print(console, "No request was chosen for a shadow: there is nothing to compare.")


def _print_overview(figures: Report, console: Console) -> None:
    console.print()
    table = _table(*OVERVIEW_HEADS)
    table.columns[1].justify = "left"
    for (word, name, *cells), shadow in zip(overview_rows(figures), figures["shadows"].values(), strict=True):
        table.add_row(Text(word, style=STYLES[shadow["verdict"]["result"]]), visible(name), *cells)
    console.print(table)
    _print(console, OVERVIEW_NOTE, style="dim")


def _print_verdict(name: str, shadow: ShadowReport, console: Console, *, whole: bool) -> None:
    verdict = shadow["verdict"]
    line = Text(f"shadow {visible(name)}  ", style="bold")
    line.append(verdict["headline"], style=STYLES[verdict["result"]]).append(f": {visible(verdict['sentence'])}")
    console.print(line, soft_wrap=True, highlight=False)
    if whole:
        _print_questions(shadow, console)
    for warning in verdict["warnings"][:3]:
        _print(console, f"  Beware: {visible(warning)}", style="yellow")
    _print(console, f"  Next: {visible(shadow['advice']['next']['said'])}")
    if whole:
        _print(console, f"  Note: {visible(shadow['blind_spots']['said'])}")


def _print_questions(shadow: ShadowReport, console: Console) -> None:
    for question, reasons in answers(shadow).items():
        result = shadow["verdict"]["questions"][question]
        row = Text(f"  {question.capitalize():<12} ").append(f"{result.upper():<13}", style=STYLES[result])
        console.print(row.append(visible(reasons)), soft_wrap=True, highlight=False)
    if rest := besides(shadow):
        _print(console, f"  {'Besides':<12} {visible(rest)}")


def _print_shadow(shadow: ShadowReport, console: Console) -> None:
    _row(console, "Coverage", coverage_line(shadow))
    _print_statuses(shadow["statuses"], console)
    for title, line in pair_lines(shadow):
        _row(console, title, line)
        if title == "Errors" and shadow["errors"] is not None:
            _print_reasons(shadow["errors"]["reasons"]["shadow"], console)
    _print_routes(shadow, console)
    _print_latency(shadow["latency"], console)
    _print_streams(shadow["streams"], console)
    _print_usage(shadow["usage"], console)
    _print_language(shadow["language"], console)
    _print_agreement(shadow, console)
    _print_fields(shadow, console)
    _print_slices(shadow["slices"], console)
    _print_examples(shadow["examples"], console)


def _print_statuses(statuses: list[StatusPair], console: Console, title: str = "Status") -> None:
    rows, columns, cells = status_table(statuses, _STATUS_ROWS, _STATUS_COLUMNS)
    if not statuses:
        return
    if len(statuses) == 1:
        _row(console, title, f"live {rows[0]}, shadow {columns[0]}: all {statuses[0]['count']:,}")
        return
    table = _table(title, *(f"shadow {status}" if at == 0 else status for at, status in enumerate(columns)))
    for status in rows:
        table.add_row(f"  live {status}", *(f"{cells.get((status, column), 0):,}" for column in columns))
    console.print(table)
    left = sum(cells.values()) - sum(cells.get((row, column), 0) for row in rows for column in columns)
    if left:
        _print(console, f"  and {left:,} others")


def _print_reasons(reasons: list[FailureReason], console: Console) -> None:
    for row in reasons[:_REASON_ROWS]:
        _print(console, f"  {visible(row['reason'])}: {visible(reason_line(row))}")
    left = sum(row["count"] for row in reasons[_REASON_ROWS:])
    if left:
        _print(console, f"  and {left:,} for other reasons")


def _print_routes(shadow: ShadowReport, console: Console) -> None:
    lines = route_lines(shadow)
    if lines:
        _print(console, "Routes", style="bold")
    for line in lines[:_ROUTE_ROWS]:
        _print(console, f"  {visible(line)}")
    if len(lines) > _ROUTE_ROWS:
        _print(console, f"  and {len(lines) - _ROUTE_ROWS} other routes")


def _print_latency(latency: Latency, console: Console) -> None:
    slower = latency["slower"]
    if slower is None:
        _row(console, "Latency", "no request has a time from both")
        return
    shown = ("p50", "p90", "p99")
    table = _table("Latency, ms", *shown)
    table.add_row("  live", *(milliseconds(latency["live"][name]) for name in shown))
    more = {name: "≥ " if name in latency["at_least"] else "" for name in shown}
    table.add_row("  shadow", *(more[name] + milliseconds(latency["shadow"][name]) for name in shown))
    table.add_row("  ratio", *(_times(latency["ratio"][name], more[name]) for name in shown))
    console.print(table)
    timeouts = f"; {latency['timeouts']:,} timed out" if latency["timeouts"] else ""
    _print(console, f"  the shadow was slower on {percent(slower['value'])} of {latency['pairs']:,} requests{timeouts}")


def _print_streams(streams: StreamFigures | None, console: Console) -> None:
    if streams is None:
        return
    table = _table("Streams, ms", *STREAM_HEADS)
    for name, *cells in stream_rows(streams):
        table.add_row(f"  {name.partition(',')[0]}", *cells)
    console.print(table)
    _print(console, "  TTFT: to the first token; TPOT: per output token; ITL: gap between tokens; E2E: whole answer")
    for note in stream_notes(streams):
        _print(console, f"  {note}", style="dim")


def _print_usage(usage: UsageFigures | None, console: Console) -> None:
    if usage is None:
        return
    rows = usage_rows(usage)
    if rows:
        table = _table("Tokens and cost", *USAGE_HEADS)
        for name, *cells in rows:
            table.add_row(f"  {name}", *cells)
        console.print(table)
        _print(console, "  each ratio is of the requests for which both answers say it", style="dim")
    _print_statuses(usage["finish"], console, "Finish reason")


def _print_language(found: LanguageFigures | None, console: Console) -> None:
    if found is None:
        return
    table = _table("Language model", *LANGUAGE_HEADS)
    for name, *cells in language_rows(found):
        table.add_row(f"  {name}", *cells)
    console.print(table)
    for note in language_notes(found):
        _print(console, f"  {note}", style="dim")


def _print_agreement(shadow: ShadowReport, console: Console) -> None:
    first, *others = agreement_lines(shadow["agreement"])
    _row(console, "Agreement", visible(first))
    for line in others:
        _print(console, f"  {visible(line)}")
    for each in shadow["outputs"]:
        if each["pairs"]:
            _print(console, f"  {visible(each['live_path']) or 'the answer'} ({each['kind']}): {output_line(each)}")
    whole = shadow["agreement"]["whole"]
    primary = next((each["agreement"] for each in shadow["outputs"] if each["pairs"]), whole)
    if primary is not None:
        _print(console, f"  {assumption(primary)}", style="dim")
    for line in noise_lines(shadow):
        _print(console, f"  {visible(line)}")
    for why, count in list(shadow["agreement"]["incomparable"].items())[:2]:
        _print(console, f"  incomparable: {visible(why)} {count:,}", style="dim")


def _print_fields(shadow: ShadowReport, console: Console) -> None:
    if not shadow["fields"]:
        return
    table = _table("Differs at", "requests", "share", "how")
    table.columns[3].justify = "left"
    for row in shadow["fields"][:_FIELD_ROWS]:
        place = visible(row["path"]) or "(the whole answer)"
        table.add_row(f"  {place}", f"{row['exchanges']:,}", percent(row["share"]), how_it_differs(row))
    console.print(table)
    for row in shadow["fields"][:_FIELD_ROWS]:
        if row["apart"] is not None:
            _print(console, f"  {visible(row['path']) or 'the answer'}: {apart_line(row['apart'])}")
    left = len(shadow["fields"]) - _FIELD_ROWS
    if left > 0:
        _print(console, f"  and {left}{' or more' if shadow['fields_cut'] else ''} other places")


def _print_slices(slices: list[SliceFigures], console: Console) -> None:
    if slices:
        _print(console, "Where they differ most", style="bold")
    for row in slices[:_SLICE_ROWS]:
        _print(console, f"  {visible(part_name(row['path'], row['value']))}: {slice_line(row)}")


def _print_examples(examples: list[Example], console: Console) -> None:
    if examples:
        _print(console, "Examples, drawn at random (shadowproxy show LOG ID)", style="bold")
    for example in examples[:_EXAMPLE_ROWS]:
        difference = example["differences"][0] if example["differences"] else None
        line = ""
        if difference is not None:
            place = visible(difference["path"]) or difference["kind"]
            live, other = sides(difference["kind"], difference["live"], difference["shadow"], 40)
            line = f"{place}: live {live}, shadow {other}"
        more = f", and {example['count'] - 1:,} more" if example["count"] > 1 else ""
        _print(console, f"  {visible(example['id'])}  {line}{more}")


def _times(ratio: EstimateFigures | None, more: str) -> str:
    return "–" if ratio is None else f"{more}{ratio['value']:.2f}×"


def _table(*headers: str) -> Table:
    table = Table(box=None, padding=(0, 3, 0, 0), pad_edge=False, header_style="bold")
    table.add_column(headers[0], min_width=12, overflow="fold")
    for header in headers[1:]:
        table.add_column(header, justify="right", overflow="fold")
    return table


def _row(console: Console, title: str, text: str) -> None:
    console.print(
        Text(f"{title}  ", style="bold").append(visible(text), style="not bold"), soft_wrap=True, highlight=False
    )


def _print(console: Console, text: str, style: str = "") -> None:
    console.print(Text(text, style=style), soft_wrap=True, highlight=False)
