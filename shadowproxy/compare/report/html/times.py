"""How long both took, how their streams ran, and how the agreement grew over time."""

from shadowproxy.compare.report import charts
from shadowproxy.compare.report.figures.measure_types import StreamFigures
from shadowproxy.compare.report.figures.types import EstimateFigures, Latency, Report, ShadowReport
from shadowproxy.compare.report.html.elements import e, sentence, table
from shadowproxy.compare.report.sentences.streams import STREAM_HEADS, STREAM_NOTE, stream_notes, stream_rows
from shadowproxy.compare.report.words import milliseconds, percent


def over_time(shadow: ShadowReport, figures: Report) -> str:
    rows = [(row, so_far) for row in shadow["over_time"] if (so_far := row["so_far"]) is not None]
    if len(rows) < 3:
        return ""
    seconds = figures["log"]["block_seconds"]
    clock = slice(11, 19) if seconds < 60 else slice(11, 16) if seconds < 3600 else slice(5, 10)
    chart = charts.band(
        "Agreement so far, with the range that holds at every look",
        [row["start"][clock] for row, _ in rows],
        [so_far for _, so_far in rows],
        [row["low"] for row, _ in rows],
        [row["high"] for row, _ in rows],
        "{:.1%}",
        level=shadow["decided"]["line"],
        mark=shadow["decided"]["at"],
    )
    total = sum(row["pairs"] for row, _ in rows)
    caption = (
        "Agreement over all requests up to each moment. The band is a confidence sequence: however often you look, it "
        "leaves out the truth in at most 1 log of 20, so you may stop as soon as it settles the matter."
    )
    at = shadow["decided"]["at"]
    if at is not None:
        caption += f" The red line is that moment: {rows[at][0]['start']}."
    caption += f" {total:,} pairs, in blocks of {figures['log']['block_seconds']:,g} s."
    return f"<h2>Agreement over time</h2><figure>{chart}<figcaption>{e(caption)}</figcaption></figure>"


def latency(found: Latency) -> str:
    slower = found["slower"]
    if slower is None:
        return ""
    names = ("p50", "p90", "p99", "p999")
    least = {name: "≥ " if name in found["at_least"] else "" for name in names}
    rows = [
        ("live, ms", *(milliseconds(found["live"][name]) for name in names)),
        ("shadow, ms", *(least[name] + milliseconds(found["shadow"][name]) for name in names)),
        ("shadow / live", *(_ratio(found["ratio"][name], least[name]) for name in names)),
        ("shadow − live on one request, ms", *(_signed(found["gap"][name]) for name in names)),
    ]
    heads = ("", *(f"#{'p99.9' if name == 'p999' else name}" for name in names))
    summary = f"The shadow was slower on {percent(slower['value'])} of {found['pairs']:,} requests."
    if found["timeouts"]:
        summary += f" {found['timeouts']:,} timed out and count as the time they were given (≥)."
    why = (
        "p99 is the time that 99 of 100 requests stay under. The last row is not the difference of the rows above it: "
        "it compares the two answers to the same request."
    )
    return f"<h2>Latency</h2><p>{e(summary)}</p>{table(heads, rows)}<p class='why'>{why}</p>{_shift(found)}"


def streams(found: StreamFigures | None) -> str:
    if found is None:
        return ""
    heads = ("", *(f"#{head}" for head in STREAM_HEADS))
    notes = "".join(f"<p class='why'>{e(sentence(note))}</p>" for note in stream_notes(found))
    return f"<h2>Streams</h2>{table(heads, stream_rows(found))}<p class='why'>{e(STREAM_NOTE)}</p>{notes}"


def _shift(latency: Latency) -> str:
    shift = [each for each in latency["shift"].values() if each is not None]
    if len(shift) < len(latency["shift"]):
        return ""
    chart = charts.band(
        "Shadow minus live, in milliseconds, from the fastest tenth of requests to the slowest hundredth",
        list(latency["shift"]),
        [each["value"] for each in shift],
        [each["low"] for each in shift],
        [each["high"] for each in shift],
        "{:,.3g}",
        level=0.0,
    )
    caption = (
        "How many milliseconds the shadow adds, for the fast requests (left) and the slow ones (right). Above the "
        "dotted line it is slower; the band is the 95 % interval."
    )
    return f"<figure>{chart}<figcaption>{caption}</figcaption></figure>"


def _signed(value: float | None) -> str:
    return "–" if value is None else f"{'−' if value < 0 else '+'}{milliseconds(abs(value))}"


def _ratio(estimate: EstimateFigures | None, least: str) -> str:
    if estimate is None:
        return "–"
    around = ""
    if estimate["low"] is not None:
        around = f"<br><span class='soft'>{estimate['low']:.2f} to {estimate['high']:.2f}</span>"
    return f"{least}{estimate['value']:.2f}{around}"
