"""The report as one HTML file: no script, no address outside it, every text from the log escaped.

The content security policy in it lets a browser load nothing and run nothing, so that what a log holds cannot act even
where escaping were to fail. The file stays under 300 kB: with many shadows less is shown of each.
"""

from collections.abc import Sequence
from typing import Final

from shadowproxy.compare.report.figures.types import Report, ShadowReport
from shadowproxy.compare.report.history import Look
from shadowproxy.compare.report.html import answers, differences, language, pairs, times, usage, verdict
from shadowproxy.compare.report.html.elements import FULL, LEAST, SHORT, Detail, css, e, table
from shadowproxy.compare.report.html.history import history
from shadowproxy.compare.report.html.style import STYLE
from shadowproxy.compare.report.sentences.overview import OVERVIEW_HEADS, OVERVIEW_NOTE, opening, overview_rows

MOST_BYTES: Final = 300_000

_POLICY: Final = "default-src 'none'; style-src 'unsafe-inline'; base-uri 'none'; form-action 'none'"


def to_html(figures: Report, *, title: str = "Shadow report", looks: Sequence[Look] = ()) -> str:
    """The report of `report.to_json` as an HTML document: as much of each shadow as there is room for.

    `looks` are those of a watched log, which are drawn over time.
    """
    text = ""
    for detail in (FULL, SHORT, LEAST, None):
        text = document(title, _body(title, figures, detail, looks))
        if len(text.encode()) < MOST_BYTES:
            break
    return text


def document(title: str, body: str) -> str:
    return (
        '<!doctype html><html lang="en"><head><meta charset="utf-8">'
        f'<meta http-equiv="Content-Security-Policy" content="{_POLICY}">'
        '<meta name="viewport" content="width=device-width,initial-scale=1">'
        '<meta name="referrer" content="no-referrer">'
        f"<title>{e(title)}</title><style>{STYLE}</style></head><body>{body}</body></html>\n"
    )


def _body(title: str, figures: Report, detail: Detail | None, looks: Sequence[Look]) -> str:
    parts = [f"<header><h1>{e(title)}</h1><p>{e(opening(figures['log']))}</p></header><main>"]
    if not figures["shadows"]:
        parts.append("<p>No request was chosen for a shadow: there is nothing to compare.</p>")
    if len(figures["shadows"]) > 1:
        parts.append(_overview(figures))
    if detail is not FULL:
        parts.append("<p class='soft'>Less is shown of each shadow than there is: --shadow NAME shows one whole.</p>")
    for number, (name, shadow) in enumerate(figures["shadows"].items(), 1):
        parts.append(f"<section id='shadow-{number}'>{_shadow(name, shadow, figures, detail)}</section>")
    parts.append(history(looks))
    parts.append(_method(figures))
    parts.append("</main>")
    return "".join(parts)


def _overview(figures: Report) -> str:
    """A table of the shadows, each a link to its section."""
    rows = [
        (
            f"<b class='word {css(shadow['verdict']['result'])}'>{e(word)}</b>",
            f"<a href='#shadow-{number}'>{e(name)}</a>",
            *map(e, cells),
        )
        for number, ((word, name, *cells), shadow) in enumerate(
            zip(overview_rows(figures), figures["shadows"].values(), strict=True), 1
        )
    ]
    heads = (*OVERVIEW_HEADS[:2], *(f"#{head}" for head in OVERVIEW_HEADS[2:]))
    return f"<h2>The shadows</h2>{table(heads, rows)}<p class='why'>{e(OVERVIEW_NOTE)}</p>"


def _shadow(name: str, shadow: ShadowReport, figures: Report, detail: Detail | None) -> str:
    if detail is None:
        return verdict.banner(name, shadow)
    parts = [verdict.head(name, shadow, detail), pairs.losses(shadow, detail), answers.outputs(shadow, detail)]
    if detail.pictures:
        parts.append(differences.slices(shadow["slices"], detail))
        parts.append(times.over_time(shadow, figures))
        parts.append(times.latency(shadow["latency"]))
        parts.append(times.streams(shadow["streams"]))
        parts.append(usage.usage(shadow["usage"]))
        parts.append(language.language(shadow["language"]))
        parts.append(pairs.coverage(shadow))
        parts.append(differences.fields(shadow, detail))
        parts.append(differences.noise(shadow, detail))
        parts.append(differences.examples(shadow, detail))
    return "".join(parts)


def _method(figures: Report) -> str:
    log = figures["log"]
    gates = ", ".join(f"{name} {'off' if value is None else value}" for name, value in figures["gates"].items())
    found = [
        f"{name}: {', '.join(each['live_path'] or '(the whole answer)' for each in shadow['outputs']) or 'none found'}"
        for name, shadow in figures["shadows"].items()
    ]
    cut = [name for name, shadow in figures["shadows"].items() if shadow["fields_cut"] or shadow["slices_cut"]]
    stand_for = f" that stand for {log['requests']:,} requests" if "requests" in log else ""
    items = [
        f"shadowproxy {figures['version']}; {log['records']:,} records{stand_for} in {log['blocks']} blocks of "
        f"{log['block_seconds']:,g} s.",
        f"Fields that hold the answer: {'; '.join(found)}. Name others with --field.",
        f"Allowed: {gates}.",
        "Intervals are 95 %, from leaving out one block of time each (a jackknife): requests close in time are alike, "
        "and formulas that take them as independent are too sure. Below 8 blocks they are Wilson's, which do.",
        "Checks of shares use a confidence sequence, which stays true however often one looks; p99, drift, "
        "relatedness and mean errors use the 95 % interval, which holds for one look.",
        "Latency is counted in bins 2 % wide, so a quantile is within 1 %.",
        "Pairs are the requests that live answered and that the shadow was really sent. What the shadow leaves out or "
        "fails counts against it; what differs is compared where both answered (Coverage).",
    ]
    if cut:
        items.append(f"More places or request fields than are kept; some are counted together: {', '.join(cut)}.")
    return f"<details><summary>Method</summary><ul>{''.join(f'<li>{e(item)}</li>' for item in items)}</ul></details>"
