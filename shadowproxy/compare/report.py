"""The report: a summary's figures with the verdict on them, and both as text for a terminal.

`to_json` gives everything that any form of the report says; the other forms draw what it gives, so that no two of them
can disagree.
"""

from collections import Counter
from dataclasses import asdict
from typing import Final

from rich.console import Console
from rich.table import Table
from rich.text import Text

from shadowproxy.compare.checks import WORST_FIRST, Check, Result, checks_of
from shadowproxy.compare.conclusion import about, decided, verdict_of
from shadowproxy.compare.figures.shown import Figures
from shadowproxy.compare.figures.whole import figures_of
from shadowproxy.compare.gates import Gates
from shadowproxy.compare.summary import Summary
from shadowproxy.compare.visible import sides, visible
from shadowproxy.compare.words import milliseconds, number, percent
from shadowproxy.exchange import Outcome

EXIT_CODES: Final = {
    str(Result.PASS): 0,
    str(Result.FAIL): 1,
    str(Result.INCONCLUSIVE): 3,
    str(Result.NO_DATA): 3,
}
"""What a report's result is to a shell. 2 is for input that cannot be read."""

STYLES: Final = {
    str(Result.PASS): "bold green",
    str(Result.FAIL): "bold red",
    str(Result.INCONCLUSIVE): "bold yellow",
    str(Result.NO_DATA): "bold yellow",
}
Cells = dict[tuple[str, str], int]

QUESTIONS: Final = {
    "engineering": "Does it take the real requests, answer in the right format, and fast enough?",
    "outputs": "Is the distribution of its answers what one expects?",
    "performance": "Are its answers as good as live's?",
}

_STATUS_ROWS: Final = 4
_STATUS_COLUMNS: Final = 6
_FIELD_ROWS: Final = 5
_EXAMPLE_ROWS: Final = 3


def to_json(summary: Summary, gates: Gates | None = None, *, slices: tuple[str, ...] = ()) -> Figures:
    """Every figure of the report, the checks and the verdict, as plain JSON values. A pure function."""
    gates = gates or Gates()
    figures = figures_of(summary, slices=slices, bounds=gates.bounds)
    for shadow in figures["shadows"].values():
        checks = checks_of(shadow, gates)
        shadow["checks"] = [_plain(check) for check in checks]
        shadow["verdict"] = verdict_of(shadow, checks)
        shadow["decided"] = decided(shadow["over_time"], gates.min_agreement)
    results = [shadow["verdict"]["result"] for shadow in figures["shadows"].values()]
    figures["result"] = str(next((result for result in WORST_FIRST if result in results), Result.NO_DATA))
    figures["gates"] = asdict(gates)
    return figures


def exit_code(figures: Figures, *, fail_on: str = "inconclusive") -> int:
    """0, 1 or 3 as EXIT_CODES says; with `fail_on` "fail" an inconclusive report is no reason to stop."""
    result = figures["result"]
    return 0 if fail_on == "fail" and result == Result.INCONCLUSIVE else EXIT_CODES[result]


def _plain(check: Check) -> Figures:
    plain = asdict(check)
    plain["result"] = str(check.result)
    return plain


# --- text ----------------------------------------------------------------------------------------------------------


def print_text(summary: Summary, console: Console, gates: Gates | None = None, *, slices: tuple[str, ...] = ()) -> None:
    """Print the report: at most forty lines a shadow, in words; no colour is needed to read it."""
    print_figures(to_json(summary, gates, slices=slices), console)


def print_figures(figures: Figures, console: Console) -> None:
    """Print what `to_json` gave."""
    _say(console, opening(figures["log"]), style="bold")
    for name, shadow in figures["shadows"].items():
        console.print()
        _print_verdict(name, shadow, console)
        _print_shadow(shadow, console)
    if not figures["shadows"]:
        _say(console, "No request was chosen for a shadow: there is nothing to compare.")


def opening(log: Figures) -> str:
    """How much the log holds, over what time, and what of it could not be used."""
    requests = f"{log['records']:,} request{'' if log['records'] == 1 else 's'}"
    if log["first"] is None:
        span = ""
    else:
        span = f", {log['first'].replace('T', ' ')[:-1]} to {log['last'].replace('T', ' ')[:-1]} UTC"
    left_out = sum(log["unreadable"].values())
    reasons = ", ".join(f"{why} {count:,}" for why, count in log["unreadable"].items())
    torn = (
        f"; {left_out:,} line{'' if left_out == 1 else 's'} could not be read ({visible(reasons)})" if left_out else ""
    )
    twice = f"; {percent(log['repeated_records'])} of the records came twice" if log["repeated_records"] else ""
    ids = f"; {percent(log['repeated_ids'])} repeat a request ID" if log["repeated_ids"] and not twice else ""
    return f"{requests}{span}{torn}{twice}{ids}"


def answers(shadow: Figures) -> dict[str, str]:
    """For each of the three questions the check that decides it, in words."""
    said = {}
    for question, result in shadow["verdict"]["questions"].items():
        deciding = [check for check in shadow["checks"] if check["question"] == question and check["result"] == result]
        text = "; ".join(check["said"] for check in deciding[:2])
        more = max((check["more"] for check in deciding if check["more"]), default=None)
        if more and result == Result.INCONCLUSIVE:
            text += f"; about {about(more)} more requests would settle it"
        said[question] = text or ("no labels supplied" if question == "performance" else "nothing to go by")
    return said


def _print_verdict(name: str, shadow: Figures, console: Console) -> None:
    verdict = shadow["verdict"]
    line = Text(f"shadow {visible(name)}  ", style="bold")
    line.append(verdict["headline"], style=STYLES[verdict["result"]]).append(f": {visible(verdict['sentence'])}")
    console.print(line, soft_wrap=True, highlight=False)
    for question, said in answers(shadow).items():
        result = verdict["questions"][question]
        row = Text(f"  {question.capitalize():<12} ").append(f"{result.upper():<13}", style=STYLES[result])
        console.print(row.append(visible(said)), soft_wrap=True, highlight=False)
    for warning in verdict["warnings"][:3]:
        _say(console, f"  Beware: {visible(warning)}", style="yellow")


def _print_shadow(shadow: Figures, console: Console) -> None:
    coverage = shadow["coverage"]
    missed = [f"{why} {count:,}" for why, count in coverage["outcomes"].items() if why != Outcome.OK]
    _row(
        console,
        "Coverage",
        f"{coverage['chosen']:,} chosen, {coverage['answered']:,} answered by both ({percent(coverage['share'])})"
        + (f"; the shadow's others: {', '.join(missed)}" if missed else ""),
    )
    _print_statuses(shadow["statuses"], console)
    _print_latency(shadow["latency"], console)
    _print_streams(shadow["streams"], console)
    _print_agreement(shadow, console)
    _print_fields(shadow, console)
    _print_slices(shadow["slices"], console)
    _print_examples(shadow["examples"], console)


def status_table(statuses: list[Figures], most_rows: int, most_columns: int) -> tuple[list[str], list[str], Cells]:
    """The commonest statuses of live and of the shadow, and the counts by `(live, shadow)`."""
    lives: Counter[str] = Counter()
    shadows: Counter[str] = Counter()
    for each in statuses:
        lives[each["live"]] += each["count"]
        shadows[each["shadow"]] += each["count"]
    cells: Cells = {(each["live"], each["shadow"]): each["count"] for each in statuses}
    rows = [status for status, _ in lives.most_common(most_rows)]
    return rows, [status for status, _ in shadows.most_common(most_columns)], cells


def _print_statuses(statuses: list[Figures], console: Console) -> None:
    rows, columns, cells = status_table(statuses, _STATUS_ROWS, _STATUS_COLUMNS)
    if not statuses:
        return
    table = _table("Status", *(f"shadow {status}" if at == 0 else status for at, status in enumerate(columns)))
    for status in rows:
        table.add_row(f"  live {status}", *(f"{cells.get((status, column), 0):,}" for column in columns))
    console.print(table)
    left = sum(cells.values()) - sum(cells.get((row, column), 0) for row in rows for column in columns)
    if left:
        _say(console, f"  and {left:,} with other statuses")


def _print_latency(latency: Figures, console: Console) -> None:
    if not latency["pairs"]:
        _row(console, "Latency", "no request has a time from both")
        return
    shown = ("p50", "p90", "p99")
    table = _table("Latency, ms", *shown)
    table.add_row("  live", *(milliseconds(latency["live"][name]) for name in shown))
    more = {name: "≥ " if name in latency["at_least"] else "" for name in shown}
    table.add_row("  shadow", *(more[name] + milliseconds(latency["shadow"][name]) for name in shown))
    table.add_row("  ratio", *(_times(latency["ratio"][name], more[name]) for name in shown))
    console.print(table)
    slower = latency["slower"]
    timeouts = f"; {latency['timeouts']:,} timed out" if latency["timeouts"] else ""
    _say(console, f"  the shadow was slower on {percent(slower['value'])} of {latency['pairs']:,} requests{timeouts}")


STREAM_HEADS: Final = ("first byte p50", "p90", "tokens/s p50", "p90", "came to their end")


def stream_rows(streams: Figures) -> list[tuple[str, ...]]:
    """For each arm its name, its figures under STREAM_HEADS."""
    return [
        (
            name,
            *(
                milliseconds(arm[which][at])
                for which in ("first_byte_ms", "tokens_per_second")
                for at in ("p50", "p90")
            ),
            f"{percent(arm['finished'])} of {arm['streams']:,}",
        )
        for name, arm in streams.items()
    ]


def _print_streams(streams: Figures | None, console: Console) -> None:
    if streams is None:
        return
    table = _table("Streams", *STREAM_HEADS)
    for name, *cells in stream_rows(streams):
        table.add_row(f"  {name}", *cells)
    console.print(table)


def _print_agreement(shadow: Figures, console: Console) -> None:
    agreement = shadow["agreement"]
    whole = agreement["whole"]
    verdicts = ", ".join(f"{verdict} {count:,}" for verdict, count in agreement["verdicts"].items() if count)
    if whole is None:
        _row(console, "Agreement", f"nothing could be compared{f' ({verdicts})' if verdicts else ''}")
    else:
        _row(console, "Agreement", f"whole answers: {with_interval(whole)}: {verdicts}")
    if agreement["settled"] is not None:
        aside = ", ".join(visible(path) for path in agreement["set_aside"][:3])
        more = f" and {len(agreement['set_aside']) - 3} more" if len(agreement["set_aside"]) > 3 else ""
        _say(console, f"  without IDs, times and versions ({aside}{more}): {with_interval(agreement['settled'])}")
    for each in shadow["outputs"]:
        if each["pairs"]:
            _say(console, f"  {visible(each['live_path']) or 'the answer'} ({each['kind']}): {output_line(each)}")
    primary = next((each["agreement"] for each in shadow["outputs"] if each["pairs"]), whole)
    if primary is not None:
        _say(console, f"  {assumption(primary)}", style="dim")
    for why, count in list(agreement["incomparable"].items())[:2]:
        _say(console, f"  incomparable: {visible(why)} {count:,}", style="dim")


def output_line(output: Figures) -> str:
    """One field's agreement in a line, in the terms of its kind."""
    parts = [f"{with_interval(output['agreement'])} agree" if output["agreement"] else ""]
    if output["kind"] == "number":
        bias = output["bias"]
        parts = [f"{percent(output['agreement']['value'])} equal"]
        if bias is not None:
            parts.append(f"mean difference {bias['value']:+.4g}{_between(bias)}")
        if output["median_delta"] is not None:
            parts.append(f"median apart {number(output['median_delta'])}, p99 {number(output['p99_delta'])}")
    elif output["kind"] == "text":
        scores = [f"{name} {found['value']:.2f}" for name, found in output["scores"].items()]
        parts = [f"same words {percent(output['agreement']['value'])}", *scores[:3]]
    elif output["kind"] == "embedding":
        parts = [f"same direction {percent(output['agreement']['value'])}"]
        if output["angle"]["p50"] is not None:
            angles = number(output["angle"]["p50"]), number(output["angle"]["p99"])
            parts.append(f"1 - cosine median {angles[0]}, p99 {angles[1]}")
    elif output["kind"] == "ranking":
        parts = ["same order " + percent(output["agreement"]["value"])]
        parts += [f"{name} {found['value']:.2f}" for name, found in output["scores"].items()]
    else:
        if output["kappa"] is not None:
            parts.append(f"kappa {output['kappa']['value']:.3f}")
        flips = [
            f"{short_class(flip['live'])}→{short_class(flip['shadow'])} {flip['count']:,}" for flip in output["flips"]
        ]
        if flips:
            parts.append("flips " + ", ".join(flips[:2]))
    labels = output["labels"]
    if labels is not None:
        parts.append(label_line(labels))
    return "; ".join(part for part in parts if part)


def label_line(labels: Figures) -> str:
    if labels["measure"] == "accuracy":
        live, shadow = percent(labels["live"]["value"]), percent(labels["shadow"]["value"])
        return (
            f"accuracy live {live}, shadow {shadow} on {labels['labelled']:,} labels "
            f"(only live right {labels['live_only']:,}, only the shadow {labels['shadow_only']:,})"
        )
    return f"mean absolute error live {labels['live']['value']:.4g}, shadow {labels['shadow']['value']:.4g}"


def _between(estimate: Figures) -> str:
    return "" if estimate["low"] is None else f" ({estimate['low']:+.4g} to {estimate['high']:+.4g})"


def _print_fields(shadow: Figures, console: Console) -> None:
    if not shadow["fields"]:
        return
    table = _table("Differs at", "requests", "share", "how")
    table.columns[3].justify = "left"
    for row in shadow["fields"][:_FIELD_ROWS]:
        kinds = ", ".join(row["kinds"])
        nature = "" if row["nature"] == "real" else f" ({row['nature']})"
        place = visible(row["path"]) or "(the whole answer)"
        table.add_row(f"  {place}", f"{row['exchanges']:,}", percent(row["share"]), f"{kinds}{nature}")
    console.print(table)
    left = len(shadow["fields"]) - _FIELD_ROWS
    if left > 0:
        _say(console, f"  and {left}{' or more' if shadow['fields_cut'] else ''} other places")


def _print_slices(slices: list[Figures], console: Console) -> None:
    if slices:
        _say(console, "Where they differ most", style="bold")
    for row in slices[:3]:
        _say(console, f"  {visible(row['path'])} {visible(row['value'])}: {slice_line(row)}")


def slice_line(row: Figures) -> str:
    return (
        f"{percent(row['rate'])} of {row['requests']:,} differ, {row['lift']:.1f} times the average, "
        f"{percent(row['share_of_all'])} of all differences"
    )


def _print_examples(examples: list[Figures], console: Console) -> None:
    if examples:
        _say(console, "Examples, drawn at random (shadowproxy show LOG ID)", style="bold")
    for example in examples[:_EXAMPLE_ROWS]:
        difference = example["differences"][0] if example["differences"] else None
        said = ""
        if difference is not None:
            place = visible(difference["path"]) or difference["kind"]
            live, other = sides(difference["kind"], difference["live"], difference["shadow"], 40)
            said = f"{place}: live {live}, shadow {other}"
        more = f", and {example['count'] - 1:,} more" if example["count"] > 1 else ""
        _say(console, f"  {visible(example['id'])}  {said}{more}")


def assumption(estimate: Figures) -> str:
    """What an interval rests on, in one clause."""
    if estimate["method"] == "independent":
        return "the interval takes requests as independent: the log spans too few blocks of time, or none differs"
    worth = estimate["n"] / max(1.0, estimate["design_effect"])
    return (
        "the interval is from blocks of time, as requests close in time are alike: "
        f"these {estimate['n']:,} are worth about {worth:,.0f} (design effect {estimate['design_effect']:.1f})"
    )


def with_interval(estimate: Figures) -> str:
    if estimate["low"] is None:
        return percent(estimate["value"])
    return f"{percent(estimate['value'])} (95 % interval {percent(estimate['low'])} to {percent(estimate['high'])})"


def short_class(key: str) -> str:
    """A class as people write it: its JSON without the quotes of a text."""
    return visible(key[1:-1] if len(key) > 1 and key[0] == key[-1] == '"' else key)


def _times(ratio: Figures | None, more: str) -> str:
    return "–" if ratio is None else f"{more}{ratio['value']:.2f}×"


def _table(*headers: str) -> Table:
    table = Table(box=None, padding=(0, 3, 0, 0), pad_edge=False, header_style="bold")
    table.add_column(headers[0], min_width=12, overflow="fold")
    for header in headers[1:]:
        table.add_column(header, justify="right", overflow="fold")
    return table


def _row(console: Console, title: str, text: str) -> None:
    console.print(Text(f"{title}  ", style="bold").append(text, style="not bold"), soft_wrap=True, highlight=False)


def _say(console: Console, text: str, style: str = "") -> None:
    console.print(Text(text, style=style), soft_wrap=True, highlight=False)
