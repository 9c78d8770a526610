"""A summary as figures, and the figures as text for a terminal.

`to_json` computes everything that any form of the report says; the other forms draw what it gives, so that no two of
them can disagree. Shares are fractions of 1, times are milliseconds, intervals are 95 %.
"""

import math
from collections import Counter
from dataclasses import asdict
from datetime import UTC, datetime
from functools import partial
from typing import Any, Final

import orjson
from rich.console import Console
from rich.table import Table
from rich.text import Text

from shadowproxy import __version__
from shadowproxy.compare import stats
from shadowproxy.compare.sketch import Bins, quantile
from shadowproxy.compare.stats import Estimate
from shadowproxy.compare.summary import Pair, Summary, guessed_pattern
from shadowproxy.compare.visible import one_line, visible
from shadowproxy.exchange import Outcome, Verdict

FORMAT: Final = 1
"""The version of the report's JSON. Keys are added within a version, never changed or taken away."""

QUANTILES: Final = {"p50": 0.5, "p90": 0.9, "p99": 0.99, "p999": 0.999}
FIELDS_SHOWN: Final = 50
EXAMPLES_SHOWN: Final = 3

_SEEN_OFTEN: Final = 20  # differing exchanges before a place may be called volatile or constant
_NEARLY_ALL: Final = 0.98
_VOLATILE_SHAPES: Final = ("uuid", "time", "hex")
_ID_SHAPES: Final = ("token", "integer")
_WORST: Final = (4, 6)  # rows and columns of the status table in a terminal

Figures = dict[str, Any]


def to_json(summary: Summary) -> Figures:
    """Every figure of the report, as plain JSON values. A pure function of the summary."""
    return {
        "shadowproxy_report": FORMAT,
        "version": __version__,
        "log": _log(summary),
        "shadows": {name: _shadow(pair) for name, pair in sorted(summary.shadows.items())},
    }


def _log(summary: Summary) -> Figures:
    return {
        "records": summary.count,
        "first": _moment(summary.first),
        "last": _moment(summary.last),
        "unreadable": dict(sorted(summary.unreadable.items())),
        "repeated_ids": summary.ids.repeats(),
        "repeated_records": summary.records.repeats(),
        "live_outcomes": _ranked(summary.live_outcomes),
        "live_statuses": _ranked(summary.live_statuses),
        "block_seconds": summary.width,
        "blocks": len(summary.blocks),
    }


def _shadow(pair: Pair) -> Figures:
    fields = _fields(pair)
    aside = {each["path"] for each in fields if each["nature"] in ("volatile", "constant")}
    chosen, answered = sum(pair.chosen.values()), sum(pair.answered.values())
    return {
        "coverage": {
            "chosen": chosen,
            "answered": answered,
            "share": answered / chosen if chosen else None,
            "outcomes": _ranked(pair.outcomes),
        },
        "statuses": [
            {"live": key.partition(" ")[0], "shadow": key.partition(" ")[2], "count": count}
            for key, count in sorted(pair.statuses.items(), key=lambda each: (-each[1], each[0]))
        ],
        "success": {
            "live": _estimate(stats.proportion(pair.live_good, pair.begun)),
            "shadow": _estimate(stats.proportion(pair.shadow_good, pair.begun)),
            "difference": _estimate(stats.paired_difference(pair.shadow_good, pair.live_good, pair.begun)),
        },
        "json": _estimate(stats.proportion(pair.json_given, pair.json_asked)),
        "latency": _latency(pair),
        "agreement": {
            "verdicts": {str(verdict): pair.verdicts.get(verdict, 0) for verdict in Verdict},
            "incomparable": _ranked(pair.whys),
            "whole": _estimate(stats.proportion(pair.agreed, pair.compared)),
            "set_aside": sorted(aside),
            "settled": _estimate(stats.proportion(_agreeing(pair, aside), pair.compared)) if aside else None,
        },
        "fields": fields[:FIELDS_SHOWN],
        "fields_cut": pair.differs.cut or len(fields) > FIELDS_SHOWN,
        "near": {path: sum(tally.values()) for path, tally in sorted(pair.near.items())},
        "examples": _examples(pair, aside),
    }


def _latency(pair: Pair) -> Figures:
    live, shadow, gap = pair.live_ms.whole(), pair.shadow_ms.whole(), pair.gap_ms.whole()
    timed, timeouts = sum(pair.timed.values()), sum(pair.timeouts.values())
    both = _side_by_side(pair.live_ms, pair.shadow_ms)
    return {
        "pairs": timed,
        "timeouts": timeouts,
        "live": {name: quantile(live, q) for name, q in QUANTILES.items()},
        "shadow": {name: quantile(shadow, q) for name, q in QUANTILES.items()},
        # A timeout counts as the time it was given: so much or more. Leaving timeouts out would flatter the shadow.
        "at_least": [name for name, q in QUANTILES.items() if timeouts and timeouts > (1 - q) * timed],
        "ratio": {name: _estimate(stats.jackknifed(both, partial(_ratio, q=q))) for name, q in QUANTILES.items()},
        "gap": {name: quantile(gap, q) for name, q in QUANTILES.items()},
        "slower": _estimate(stats.proportion(pair.slower, pair.timed)),
        "first_byte": {
            "live": {name: quantile(pair.live_first_ms.whole(), q) for name, q in QUANTILES.items()},
            "shadow": {name: quantile(pair.shadow_first_ms.whole(), q) for name, q in QUANTILES.items()},
        },
    }


def _side_by_side(live: Bins, shadow: Bins) -> list[Counter[tuple[int, int]]]:
    """Per block, both histograms in one: keys are (0 or 1, bin)."""
    return [
        Counter(
            {(0, at): count for at, count in live.get(block, {}).items()}
            | {(1, at): count for at, count in shadow.get(block, {}).items()}
        )
        for block in sorted({*live, *shadow})
    ]


def _ratio(counts: Counter[tuple[int, int]], q: float) -> float | None:
    live = quantile({at: count for (arm, at), count in counts.items() if arm == 0}, q)
    shadow = quantile({at: count for (arm, at), count in counts.items() if arm == 1}, q)
    return shadow / live if live and shadow is not None else None


def _fields(pair: Pair) -> list[Figures]:
    """The places that differ, most often first, each with the kinds of difference and what sort of place it is."""
    compared = sum(pair.compared.values())
    rows = []
    for path, series in pair.differs.items():
        count = sum(series.values())
        rows.append(
            {
                "path": path,
                "exchanges": count,
                "share": count / compared if compared else None,
                "kinds": _ranked(pair.kinds[path]) if path in pair.kinds else {},
                "nature": _nature(pair, path, count, compared),
            }
        )
    return sorted(rows, key=lambda row: (-row["exchanges"], row["path"]))


def _nature(pair: Pair, path: str, differing: int, compared: int) -> str:
    """volatile: an ID or a time, never meant to be equal. constant: one value per arm, such as a version. Else real."""
    kinds = pair.kinds.get(path)
    shapes = pair.shapes.get(path)
    if not kinds or not shapes or set(kinds) != {"value"}:
        return "real"
    seen = sum(shapes.values())
    if sum(shapes[shape] for shape in _VOLATILE_SHAPES) >= _NEARLY_ALL * seen:
        return "volatile"
    if differing < _SEEN_OFTEN or differing < _NEARLY_ALL * compared or path not in pair.live_values:
        return "real"
    live, shadow = pair.live_values[path], pair.shadow_values[path]
    if live.estimate() == shadow.estimate() == 1:
        return "constant"
    ids = sum(shapes[shape] for shape in _ID_SHAPES) >= _NEARLY_ALL * seen
    if ids and min(live.estimate(), shadow.estimate()) >= sum(live.values()) / 2:
        return "volatile"
    return "real"


def _agreeing(pair: Pair, aside: set[str]) -> Counter[int]:
    """By block, the exchanges that agree once the places in `aside` do not count."""
    agreeing: Counter[int] = Counter(pair.agreed)
    for signature, series in pair.signatures.items():
        if aside.issuperset(orjson.loads(signature)):
            agreeing.update(series)
    return agreeing


def _examples(pair: Pair, aside: set[str]) -> list[Figures]:
    """Three differing exchanges drawn by hash, none of which differs only where it does not count."""
    drawn: dict[int, Figures] = {}
    for signature, sample in pair.examples.items():
        if not aside.issuperset(orjson.loads(signature)):
            drawn.update(sample)
    drawn.update(pair.examples.other)
    return [_telling(drawn[digest], aside) for digest in sorted(drawn)[:EXAMPLES_SHOWN]]


def _telling(example: Figures, aside: set[str]) -> Figures:
    """An example with the differences that do not count at the end of its list."""
    differences = sorted(example["differences"], key=lambda each: guessed_pattern(each["path"]) in aside)
    return {**example, "differences": differences}


def _estimate(estimate: Estimate | None) -> Figures | None:
    if estimate is None:
        return None
    plain = asdict(estimate)
    return {
        key: None if isinstance(value, float) and not math.isfinite(value) else value for key, value in plain.items()
    }


def _ranked(counts: Counter[str]) -> dict[str, int]:
    return {
        str(key): count for key, count in sorted(counts.items(), key=lambda each: (-each[1], str(each[0]))) if count
    }


def _moment(micros: int | None) -> str | None:
    if micros is None:
        return None
    return datetime.fromtimestamp(micros // 1_000_000, UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


# --- text ----------------------------------------------------------------------------------------------------------


def print_text(summary: Summary, console: Console) -> None:
    """Print the report: about twenty lines a shadow, words and no colour needed to read it."""
    figures = to_json(summary)
    _say(console, _opening(figures["log"]), style="bold")
    for name, shadow in figures["shadows"].items():
        console.print()
        _say(console, f"shadow {visible(name)}", style="bold")
        _print_shadow(shadow, console)
    if not figures["shadows"]:
        _say(console, "No request was chosen for a shadow: there is nothing to compare.")


def _opening(log: Figures) -> str:
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
    return f"{requests}{span}{torn}{twice}"


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
    _print_agreement(shadow["agreement"], console)
    _print_fields(shadow, console)
    _print_examples(shadow["examples"], console)


def _print_statuses(statuses: list[Figures], console: Console) -> None:
    lives = Counter[str]()
    shadows = Counter[str]()
    for each in statuses:
        lives[each["live"]] += each["count"]
        shadows[each["shadow"]] += each["count"]
    rows = [status for status, _ in lives.most_common(_WORST[0])]
    columns = [status for status, _ in shadows.most_common(_WORST[1])]
    cells = {(each["live"], each["shadow"]): each["count"] for each in statuses}
    table = _table("Status", *(f"shadow {status}" if at == 0 else status for at, status in enumerate(columns)))
    for status in rows:
        table.add_row(f"  live {status}", *(f"{cells.get((status, column), 0):,}" for column in columns))
    if statuses:
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


def _print_agreement(agreement: Figures, console: Console) -> None:
    whole = agreement["whole"]
    verdicts = ", ".join(f"{verdict} {count:,}" for verdict, count in agreement["verdicts"].items() if count)
    if whole is None:
        _row(console, "Agreement", f"nothing could be compared{f' ({verdicts})' if verdicts else ''}")
    else:
        _row(console, "Agreement", f"{with_interval(whole)}: {verdicts}")
        _say(console, f"  {assumption(whole)}", style="dim")
    if agreement["settled"] is not None:
        aside = ", ".join(visible(path) for path in agreement["set_aside"][:4])
        _say(console, f"  not counting IDs, times and versions ({aside}): {with_interval(agreement['settled'])}")
    for why, count in list(agreement["incomparable"].items())[:2]:
        _say(console, f"  incomparable: {visible(why)} {count:,}", style="dim")


def _print_fields(shadow: Figures, console: Console) -> None:
    if not shadow["fields"]:
        return
    table = _table("Differs at", "requests", "share", "how")
    table.columns[3].justify = "left"
    for row in shadow["fields"][:6]:
        kinds = ", ".join(row["kinds"])
        nature = "" if row["nature"] == "real" else f" ({row['nature']})"
        place = visible(row["path"]) or "(the whole answer)"
        table.add_row(f"  {place}", f"{row['exchanges']:,}", percent(row["share"]), f"{kinds}{nature}")
    console.print(table)
    left = len(shadow["fields"]) - 6
    if left > 0:
        _say(console, f"  and {left}{' or more' if shadow['fields_cut'] else ''} other places")


def _print_examples(examples: list[Figures], console: Console) -> None:
    if examples:
        _say(console, "Examples, drawn at random", style="bold")
    for example in examples:
        difference = example["differences"][0] if example["differences"] else None
        said = ""
        if difference is not None:
            place = visible(difference["path"]) or difference["kind"]
            said = f"{place}: live {one_line(difference['live'], 40)}, shadow {one_line(difference['shadow'], 40)}"
        more = f", and {example['count'] - 1:,} more" if example["count"] > 1 else ""
        _say(console, f"  {visible(example['id'])}  {said}{more}")


def assumption(estimate: Figures) -> str:
    """What an interval rests on, in one clause."""
    if estimate["method"] == "independent":
        return "interval: assumes independent requests, as the log spans too few blocks of time or none differs"
    worth = estimate["n"] / max(1.0, estimate["design_effect"])
    return (
        f"interval: from blocks of time; requests close in time are alike (design effect "
        f"{estimate['design_effect']:.1f}), so these {estimate['n']:,} are worth about {worth:,.0f}"
    )


def with_interval(estimate: Figures) -> str:
    return f"{percent(estimate['value'])} (95 % interval {percent(estimate['low'])} to {percent(estimate['high'])})"


def percent(share: float | None) -> str:
    """A share as per cent, with a digit more where it is near nothing or everything."""
    if share is None:
        return "–"
    if share in (0.0, 1.0):
        return f"{share * 100:.0f} %"
    digits = 1 if 0.01 <= share <= 0.99 else 2
    text = f"{share * 100:.{digits}f}"
    if share > 0.99 and float(text) == 100:
        return "> 99.99 %"
    return "< 0.01 %" if 0 < share < 0.00005 else f"{text} %"


def milliseconds(value: float | None) -> str:
    if value is None:
        return "–"
    return f"{value:,.0f}" if value >= 100 else f"{value:.1f}" if value >= 10 else f"{value:.2f}"


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
