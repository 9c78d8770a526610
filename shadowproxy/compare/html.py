"""The report as one HTML file: no script, no address outside it, every text from the log escaped.

The content security policy in it lets a browser load nothing and run nothing, so that what a log holds cannot act even
where escaping were to fail.
"""

from collections.abc import Iterable, Sequence
from html import escape
from typing import Any, Final

from shadowproxy.compare import charts
from shadowproxy.compare.figures.shown import DECILES, Figures
from shadowproxy.compare.report import (
    QUESTIONS,
    STREAM_HEADS,
    answers,
    assumption,
    label_line,
    opening,
    output_line,
    short_class,
    slice_line,
    status_table,
    stream_rows,
    with_interval,
)
from shadowproxy.compare.visible import sides, visible
from shadowproxy.compare.words import milliseconds, number, percent
from shadowproxy.exchange import Outcome

_FIELDS: Final = 20
_SLICES: Final = 10
_CLASSES: Final = 8
_CONFUSION: Final = 8

_N: Final = " class='n'"

_STYLE: Final = """
:root{color-scheme:light dark;--bg:#fff;--fg:#1a1d21;--soft:#5a626b;--line:#d5dae0;--card:#f5f7f9;--live:#8a949e;
--shadow:#3b6fd4;--pass:#17683a;--fail:#b3261e;--unsure:#7d5700;--passbg:#e3f4e9;--failbg:#fce8e6;--unsurebg:#fdf2d6}
@media(prefers-color-scheme:dark){:root{--bg:#15181c;--fg:#e6e9ec;--soft:#a0a9b3;--line:#363d45;--card:#1e2329;
--live:#8f99a3;--shadow:#7aa5f5;--pass:#7fd6a0;--fail:#ff9a92;--unsure:#f0c95c;--passbg:#14301f;--failbg:#3a1917;
--unsurebg:#352a0c}}
*{box-sizing:border-box}
body{margin:0 auto;max-width:60rem;padding:1rem;background:var(--bg);color:var(--fg);
font:16px/1.5 system-ui,-apple-system,"Segoe UI",Roboto,sans-serif;overflow-wrap:break-word}
h1{font-size:1.35rem;margin:.2rem 0}h2{font-size:1.15rem;margin:1.8rem 0 .5rem}h3{font-size:1rem;margin:1.2rem 0 .4rem}
p{margin:.4rem 0}.soft,figcaption,.why{color:var(--soft);font-size:.9rem}
.banner{border-left:.4rem solid;padding:.7rem 1rem;border-radius:.3rem;margin:1rem 0}
.banner strong{font-size:1.3rem;display:block}
.pass{color:var(--pass)}.fail{color:var(--fail)}.inconclusive,.no-data{color:var(--unsure)}
.banner.pass{background:var(--passbg)}.banner.fail{background:var(--failbg)}
.banner.inconclusive,.banner.no-data{background:var(--unsurebg)}.banner span{color:var(--fg)}
.cards{display:grid;grid-template-columns:repeat(auto-fit,minmax(15rem,1fr));gap:.7rem}
.card{background:var(--card);border:1px solid var(--line);border-radius:.4rem;padding:.6rem .8rem}
.card h3{margin:0}.card b{font-size:.95rem}
.scroll{overflow-x:auto}table{border-collapse:collapse;margin:.4rem 0;font-variant-numeric:tabular-nums}
th,td{padding:.25rem .8rem .25rem 0;text-align:left;vertical-align:top;border-bottom:1px solid var(--line)}
th{font-weight:600}td.n,th.n{text-align:right}td.n{white-space:nowrap}tbody th{font-weight:400;min-width:6rem}
table.wide{width:100%}table.wide td:nth-child(3){min-width:14rem}
caption{text-align:left;color:var(--soft);font-size:.9rem}
code,pre{overflow-wrap:anywhere;font:.88rem/1.45 ui-monospace,SFMono-Regular,Menlo,Consolas,monospace}
pre{white-space:pre-wrap;background:var(--card);border:1px solid var(--line);padding:.6rem;border-radius:.3rem;
max-height:24rem;overflow:auto}
figure{margin:.8rem 0}
.pair{display:grid;grid-template-columns:repeat(auto-fit,minmax(min(100%,26rem),1fr));gap:0 1.5rem}
svg{width:100%;max-width:36rem;height:auto;display:block}svg.small{width:10rem;min-width:8rem}
svg text{font:15px system-ui,sans-serif;fill:var(--soft)}
.live{fill:var(--live)}.shadow{fill:var(--shadow)}.live.area{fill-opacity:.55}
.shadow.area{fill:var(--shadow);fill-opacity:.18;stroke:var(--shadow);stroke-width:2}
.axis{stroke:var(--line)}.level{stroke:var(--fg);stroke-dasharray:2 4}.mark{stroke:var(--fail);stroke-width:2}
.band{fill:var(--shadow);fill-opacity:.22}.shadowline{fill:none;stroke:var(--shadow);stroke-width:2.5}.dot{fill:var(--fg)}
.key{display:inline-block;width:.9em;height:.9em;border-radius:.15em;vertical-align:-.1em}
.key.live{background:var(--live)}.key.shadow{background:var(--shadow)}
details{border:1px solid var(--line);border-radius:.3rem;padding:.3rem .7rem;margin:.4rem 0}summary{cursor:pointer}
ul{margin:.3rem 0;padding-left:1.2rem}
@media print{body{max-width:none;font-size:11pt}details{break-inside:avoid}figure,table,.card{break-inside:avoid}
pre{max-height:none}}
"""


def to_html(figures: Figures, *, title: str = "Shadow report") -> str:
    """The report of `report.to_json` as an HTML document."""
    body = [f"<header><h1>{_e(title)}</h1><p>{_e(opening(figures['log']))}</p></header><main>"]
    if not figures["shadows"]:
        body.append("<p>No request was chosen for a shadow: there is nothing to compare.</p>")
    for name, shadow in figures["shadows"].items():
        body.append(_shadow(name, shadow, figures))
    body.append(_method(figures))
    body.append("</main>")
    policy = "default-src 'none'; style-src 'unsafe-inline'; base-uri 'none'; form-action 'none'"
    return (
        '<!doctype html><html lang="en"><head><meta charset="utf-8">'
        f'<meta http-equiv="Content-Security-Policy" content="{policy}">'
        '<meta name="viewport" content="width=device-width,initial-scale=1">'
        '<meta name="referrer" content="no-referrer">'
        f"<title>{_e(title)}</title><style>{_STYLE}</style></head><body>{''.join(body)}</body></html>\n"
    )


def _e(text: Any) -> str:
    """Text made harmless; a number stays on one line with its sign of per cent."""
    return escape(visible(str(text)).replace(" %", "\u00a0%"), quote=True)


def _code(text: Any) -> str:
    return f"<code>{_e(text)}</code>"


def _sentence(text: str) -> str:
    return f"{text[:1].upper()}{text[1:]}."


def _result(result: str) -> str:
    """A result as a class name of the style sheet."""
    return result.replace(" ", "-")


def _table(heads: Sequence[str], rows: Iterable[Sequence[str]], caption: str = "", kind: str = "") -> str:
    """A table that scrolls by itself. A heading that begins with # is over numbers; the first column names its row.

    `rows` are HTML already.
    """
    numeric = [head.startswith("#") for head in heads]
    tops = "".join(
        f"<th scope='col'{_N if right else ''}>{_e(head.lstrip('#'))}</th>" if head else "<td></td>"
        for head, right in zip(heads, numeric, strict=True)
    )
    body = "".join(
        "<tr>"
        + "".join(
            f"<th scope='row'>{cell}</th>" if at == 0 else f"<td{_N if numeric[at] else ''}>{cell}</td>"
            for at, cell in enumerate(row)
        )
        + "</tr>"
        for row in rows
    )
    title = f"<caption>{_e(caption)}</caption>" if caption else ""
    return f"<div class='scroll'><table{kind}>{title}<thead><tr>{tops}</tr></thead><tbody>{body}</tbody></table></div>"


def _shadow(name: str, shadow: Figures, figures: Figures) -> str:
    parts = [
        _banner(name, shadow),
        _questions(shadow),
        _in_short(name, shadow),
        _checks(shadow["checks"]),
        _outputs(shadow),
        _slices(shadow["slices"]),
        _over_time(shadow, figures),
        _latency(shadow["latency"]),
        _streams(shadow["streams"]),
        _coverage(shadow),
        _differing(shadow),
        _noise(shadow),
        _examples(shadow),
    ]
    return f"<section>{''.join(parts)}</section>"


def _banner(name: str, shadow: Figures) -> str:
    verdict = shadow["verdict"]
    warnings = "".join(f"<p class='why'>Beware: {_e(warning)}.</p>" for warning in verdict["warnings"])
    return (
        f"<h2>Can {_code(name)} be promoted?</h2><div class='banner {_result(verdict['result'])}'>"
        f"<strong>{_e(verdict['headline'])}</strong><span>{_e(_sentence(verdict['sentence']))}</span></div>{warnings}"
    )


def _questions(shadow: Figures) -> str:
    said = answers(shadow)
    cards = []
    for question, asked in QUESTIONS.items():
        result = shadow["verdict"]["questions"][question]
        heading = f"{question.capitalize()}: <b class='{_result(result)}'>{result.upper()}</b>"
        cards.append(
            f"<div class='card'><h3>{heading}</h3><p class='soft'>{asked}</p><p>{_e(said[question])}</p></div>"
        )
    return f"<div class='cards'>{''.join(cards)}</div>"


def _in_short(name: str, shadow: Figures) -> str:
    """Which is better at what, by how much and how surely; where they differ; what to do next."""
    points = []
    primary = _primary(shadow)
    labels = primary["labels"] if primary else None
    if labels:
        points.append(_better(labels))
    latency = shadow["latency"]
    ratio = latency["ratio"]["p99"]
    if ratio:
        sure = ratio["low"] is not None and (ratio["low"] > 1 or ratio["high"] < 1)
        word = ("slower" if ratio["value"] > 1 else "faster") if sure else "neither surely slower nor faster"
        times = (
            "" if ratio["low"] is None else f" (95 % interval {ratio['low']:.2f} to {ratio['high']:.2f} times live's)"
        )
        points.append(
            f"At the slowest 1 % of requests the shadow is {word}: {milliseconds(latency['shadow']['p99'])} ms "
            f"against {milliseconds(latency['live']['p99'])} ms{times}."
        )
    if primary and primary["agreement"]:
        place = primary["live_path"] or "the answer"
        points.append(f"The two agree on {with_interval(primary['agreement'])} of answers ({place}).")
    if shadow["slices"]:
        row = shadow["slices"][0]
        points.append(f"They differ most where {row['path']} is {row['value']}: {slice_line(row)}.")
    points.append(f"Next: {_next(name, shadow)}")
    return f"<h3>In short</h3><ul>{''.join(f'<li>{_e(point)}</li>' for point in points)}</ul>"


def _better(labels: Figures) -> str:
    difference = labels["difference"]
    if labels["measure"] == "accuracy":
        gain = difference["value"] * 100
        low, high = difference["low"] * 100, difference["high"] * 100
        if low > 0:
            who = "The shadow is right more often"
        elif high < 0:
            who = "Live is right more often"
        else:
            who = "Neither is surely right more often"
        said = f"{who}: {label_line(labels)}; difference {gain:+.2f} points (95 % interval {low:+.2f} to {high:+.2f})."
        if low * high > 0 and labels["anytime"][0] * labels["anytime"][1] <= 0:
            said += " It is not so sure that another look could not turn it."
        return said
    sure = difference["low"] is not None
    if sure and difference["high"] < 0:
        who = "The shadow is nearer the truth"
    elif sure and difference["low"] > 0:
        who = "Live is nearer the truth"
    else:
        who = "Neither is surely nearer the truth"
    return f"{who}: {label_line(labels)}."


def _next(name: str, shadow: Figures) -> str:
    result = shadow["verdict"]["result"]
    more = max((check["more"] for check in shadow["checks"] if check["more"]), default=None)
    if result == "fail":
        worst = next(check for check in shadow["checks"] if check["result"] == "fail")
        return f"mend what fails first ({worst['name']}), then look at the examples below where the two part."
    if result == "inconclusive":
        return f"keep it running; about {more:,} more requests would settle it." if more else "keep it running."
    if result == "no data":
        return "send it requests: nothing can be said yet."
    if shadow["verdict"]["questions"]["performance"] == "no data":
        return f"bring labels (--labels FILE) to learn whether {name} is better, or promote it on these checks alone."
    return f"{name} passes every check: promote it a step, and keep watching."


def _checks(checks: list[Figures]) -> str:
    rows = []
    for check in checks:
        more = f" About {check['more']:,} more requests would settle it." if check["more"] else ""
        picture = charts.interval(check["low"], check["high"], check["value"], check["allowed"])
        result = f"<b class='{_result(check['result'])}'>{check['result'].upper()}</b>"
        rows.append((_e(check["name"]), result, f"{_e(check['said'])}.{_e(more)}", picture))
    return (
        "<h3>The checks</h3><p class='soft'>A check passes when the whole interval lies on the right side of the red "
        "line, fails when all of it lies on the wrong side, and is inconclusive across it.</p>"
        + _table(("Check", "Result", "Measured", "Interval"), rows, kind=" class='wide'")
    )


# --- answers -------------------------------------------------------------------------------------------------------


def _outputs(shadow: Figures) -> str:
    parts = [_output(each) for each in shadow["outputs"] if each["pairs"]]
    return f"<h2>The answers</h2>{''.join(parts)}" if parts else ""


def _output(output: Figures) -> str:
    place = output["live_path"] or "the answer"
    parts = [f"<h3>{_code(place)} ({output['kind']})</h3><p>{_e(output_line(output))}.</p>"]
    if output["agreement"]:
        parts.append(f"<p class='why'>{_e(_sentence(assumption(output['agreement'])))}</p>")
    if output["collapse"]:
        parts.append(f"<p class='fail'>Collapsed: {_e(output['collapse'])}.</p>")
    if output["labels"]:
        parts.append(
            f"<p class='why'>Labels are known for {percent(output['labels']['coverage'])} of the pairs; if those that "
            "come early differ from those that come late or never, so does the accuracy.</p>"
        )
    pictures = _numbers(output) if output["kind"] in ("number", "text", "embedding") else _classes(output)
    return f"{''.join(parts)}<div class='pair'>{pictures}</div>"


def _key() -> str:
    return '<span class="key live"></span> live <span class="key shadow"></span> shadow'


def _classes(output: Figures) -> str:
    live = {row["class"]: row["share"] for row in output["live"]["classes"]}
    shadow = {row["class"]: row["share"] for row in output["shadow"]["classes"]}
    names = sorted({*live, *shadow}, key=lambda key: (-(live.get(key, 0.0) + shadow.get(key, 0.0)), key))[:_CLASSES]
    rows = [(short_class(key), live.get(key, 0.0), shadow.get(key, 0.0)) for key in names]
    chart = charts.bars("Share of each class in live's and in the shadow's answers", rows)
    figure = f"<figure>{chart}<figcaption>How often each class is answered: {_key()}.</figcaption></figure>"
    changes = "".join(
        f"<p>{word} in the shadow: {_e(', '.join(short_class(key) for key in output[key_name][:10]))}</p>"
        for word, key_name in (("New", "new"), ("Vanished", "vanished"))
        if output[key_name]
    )
    return figure + f"<div>{_confusion(output)}{changes}</div>"


def _confusion(output: Figures) -> str:
    cells = {(row["live"], row["shadow"]): row["count"] for row in output["confusion"]}
    if not cells:
        return ""
    names = [row["class"] for row in output["live"]["classes"]]
    names += [row["class"] for row in output["shadow"]["classes"] if row["class"] not in names]
    names = names[:_CONFUSION]
    rows = [
        (
            f"live {_e(short_class(key))}",
            *(
                f"<b>{cells.get((key, key), 0):,}</b>" if key == other else f"{cells.get((key, other), 0):,}"
                for other in names
            ),
        )
        for key in names
    ]
    kappa = output["kappa"]
    told = ""
    if kappa:
        told = (
            f"<p class='why'>Kappa {kappa['value']:.3f}: agreement beyond what two strangers with these habits would "
            "reach by chance (0), up to always (1).</p>"
        )
    heads = ("", *(f"#{short_class(key)}" for key in names))
    return _table(heads, rows, "Live's class by row, the shadow's by column") + told


def _numbers(output: Figures) -> str:
    what = {"text": "length in characters", "embedding": "norm"}.get(output["kind"], "value")
    spans = [
        [(row["low"], row["high"], row["count"]) for row in output[arm]["histogram"]] for arm in ("live", "shadow")
    ]
    if not spans[0] or not spans[1]:
        return ""
    figure = (
        f"<figure>{charts.steps(f'Distribution of the {what} in live and the shadow', spans[0], spans[1])}"
        f"<figcaption>How often each {what} is answered: {_key()}.</figcaption></figure>"
    )
    if output["kind"] != "number" or not output["delta_histogram"]:
        return figure
    deltas = [(row["low"], row["high"], row["count"]) for row in output["delta_histogram"]]
    low, high = output["limits"]
    said = f"The shadow's number minus live's, request by request. 95 % of them lie between {number(low)} and "
    said += f"{number(high)}."
    if output["concordance"]:
        said += f" Concordance {output['concordance']['value']:.3f} (1 is the same number always)."
    flips = output["flips_at_half"]
    if flips and flips["value"]:
        said += f" On different sides of one half: {with_interval(flips)}."
    chart = charts.steps("Shadow minus live", [], deltas)
    return f"{figure}<figure>{chart}<figcaption>{_e(said)}</figcaption></figure>"


def _slices(slices: list[Figures]) -> str:
    if not slices:
        return ""
    rows = [
        (
            _code(row["path"]),
            _e(row["value"]),
            f"{row['requests']:,}",
            percent(row["rate"]),
            f"{row['lift']:.1f}×",
            percent(row["share_of_all"]),
        )
        for row in slices[:_SLICES]
    ]
    heads = ("Field of the request", "is", "#requests", "#differ", "#against all", "#of all differences")
    return (
        "<h2>Where they differ</h2><p class='soft'>Parts of the requests that disagree more than chance would make "
        f"any of the parts looked at (Bonferroni, at 5 %).</p>{_table(heads, rows)}"
    )


def _over_time(shadow: Figures, figures: Figures) -> str:
    rows = [row for row in shadow["over_time"] if row["so_far"] is not None]
    if len(rows) < 3:
        return ""
    seconds = figures["log"]["block_seconds"]
    clock = slice(11, 19) if seconds < 60 else slice(11, 16) if seconds < 3600 else slice(5, 10)
    chart = charts.band(
        "Agreement so far, with the range that holds at every look",
        [row["start"][clock] for row in rows],
        [row["so_far"] for row in rows],
        [row["low"] for row in rows],
        [row["high"] for row in rows],
        "{:.1%}",
        level=shadow["decided"]["line"],
        mark=shadow["decided"]["at"],
    )
    total = sum(row["pairs"] for row in rows)
    said = (
        "Agreement over all requests up to each moment. The band is a confidence sequence: however often you look, it "
        "leaves out the truth in at most 1 log of 20, so you may stop as soon as it settles the matter."
    )
    if shadow["decided"]["at"] is not None:
        said += f" The red line is that moment: {rows[shadow['decided']['at']]['start']}."
    said += f" {total:,} pairs, in blocks of {figures['log']['block_seconds']:,g} s."
    return f"<h2>Agreement over time</h2><figure>{chart}<figcaption>{_e(said)}</figcaption></figure>"


# --- engineering ---------------------------------------------------------------------------------------------------


def _latency(latency: Figures) -> str:
    if not latency["pairs"]:
        return ""
    names = ("p50", "p90", "p99", "p999")
    least = {name: "≥ " if name in latency["at_least"] else "" for name in names}
    rows = [
        ("live, ms", *(milliseconds(latency["live"][name]) for name in names)),
        ("shadow, ms", *(least[name] + milliseconds(latency["shadow"][name]) for name in names)),
        ("shadow / live", *(_ratio(latency["ratio"][name], least[name]) for name in names)),
        ("shadow − live on one request, ms", *(_signed(latency["gap"][name]) for name in names)),
    ]
    heads = ("", *(f"#{'p99.9' if name == 'p999' else name}" for name in names))
    told = f"The shadow was slower on {percent(latency['slower']['value'])} of {latency['pairs']:,} requests."
    if latency["timeouts"]:
        told += f" {latency['timeouts']:,} timed out and count as the time they were given (≥)."
    why = (
        "p99 is the time that 99 of 100 requests stay under. The last row is not the difference of the rows above it: "
        "it compares the two answers to the same request."
    )
    return f"<h2>Latency</h2><p>{_e(told)}</p>{_table(heads, rows)}<p class='why'>{why}</p>{_shift(latency)}"


def _streams(streams: Figures | None) -> str:
    if streams is None:
        return ""
    heads = ("", *(f"#{head}" for head in STREAM_HEADS))
    why = (
        "Of the answers that came as server-sent events: milliseconds to the first byte, and how many tokens came in a "
        "second from then on. More tokens a second is faster. One that broke off or ran into its deadline did not come "
        "to its end."
    )
    return f"<h2>Streams</h2>{_table(heads, stream_rows(streams))}<p class='why'>{why}</p>"


def _shift(latency: Figures) -> str:
    shift = [latency["shift"][name] for name in DECILES]
    if any(each is None for each in shift):
        return ""
    chart = charts.band(
        "Shadow minus live, in milliseconds, from the fastest tenth of requests to the slowest hundredth",
        list(DECILES),
        [each["value"] for each in shift],
        [each["low"] for each in shift],
        [each["high"] for each in shift],
        "{:,.3g}",
        level=0.0,
    )
    said = (
        "How many milliseconds the shadow adds, for the fast requests (left) and the slow ones (right). Above the "
        "dotted line it is slower; the band is the 95 % interval."
    )
    return f"<figure>{chart}<figcaption>{said}</figcaption></figure>"


def _signed(value: float | None) -> str:
    return "–" if value is None else f"{'−' if value < 0 else '+'}{milliseconds(abs(value))}"


def _ratio(estimate: Figures | None, least: str) -> str:
    if estimate is None:
        return "–"
    around = ""
    if estimate["low"] is not None:
        around = f"<br><span class='soft'>{estimate['low']:.2f} to {estimate['high']:.2f}</span>"
    return f"{least}{estimate['value']:.2f}{around}"


def _coverage(shadow: Figures) -> str:
    coverage = shadow["coverage"]
    ok = coverage["outcomes"].get(Outcome.OK, 0)
    outcomes = [(_e(outcome), f"{count:,}") for outcome, count in coverage["outcomes"].items()]
    lives, columns, cells = status_table(shadow["statuses"], 8, 10)
    statuses = [
        (f"live {_e(status)}", *(f"{cells.get((status, column), 0):,}" for column in columns)) for status in lives
    ]
    heads = ("", *(f"#{column}" for column in columns))
    return (
        f"<h2>Coverage</h2><p>{coverage['chosen']:,} requests were chosen for the shadow; it answered {ok:,}, and "
        f"{coverage['answered']:,} ({percent(coverage['share'])}) were answered by both.</p><div class='pair'>"
        + _table(("outcome", "#requests"), outcomes, "The shadow's outcomes")
        + _table(heads, statuses, "Status: live by row, the shadow by column")
        + "</div>"
    )


# --- differences ---------------------------------------------------------------------------------------------------


def _differing(shadow: Figures) -> str:
    agreement = shadow["agreement"]
    if agreement["whole"] is None:
        return ""
    told = f"Whole answers agree in {with_interval(agreement['whole'])} of the compared requests."
    if agreement["settled"] is not None:
        told += f" Without IDs, times and versions: {with_interval(agreement['settled'])}."
    rows = [
        (
            _code(row["path"] or "(the whole answer)"),
            f"{row['exchanges']:,}",
            percent(row["share"]),
            _e(", ".join(row["kinds"])),
            "" if row["nature"] == "real" else row["nature"],
        )
        for row in shadow["fields"][:_FIELDS]
    ]
    table = ""
    if rows:
        table = _table(("Place in the answer", "#requests", "#share", "how", "noise"), rows) + (
            "<p class='why'>volatile: an ID or a time, which no two answers share. constant: one value per system, "
            "such as a version. Neither counts where it says without.</p>"
        )
    return f"<h2>Differences field by field</h2><p>{_e(told)}</p>{table}"


def _noise(shadow: Figures) -> str:
    control, repeats = shadow["control"], shadow["repeats"]
    parts = []
    if control:
        rows = [
            (
                _code(row["path"]),
                percent(row["shadow_differs"]),
                percent(row["live_differs"]),
                "–" if row["gap_ratio"] is None else f"{row['gap_ratio']:.1f}×",
            )
            for row in control["fields"][:_FIELDS]
        ]
        heads = ("Place", "#shadow differs", "#live from itself", "#size against noise")
        parts.append(
            f"<p>Live was asked twice {control['pairs']:,} times and differed from itself in "
            f"{percent(control['live_differs']['value'])}; the shadow differs from it in {_points(control['excess'])} "
            f"points more.</p>{_table(heads, rows)}<p class='why'>Size against noise: the median gap between shadow "
            "and live, by the gap between live and live. Well above 1, the shadow is off by more than live wavers.</p>"
        )
    if repeats:
        parts.append(
            f"<p>Of {repeats['pairs']:,} pairs of equal requests, live answered {percent(repeats['differing'])} "
            "differently.</p>"
        )
    return f"<h2>Noise</h2>{''.join(parts)}" if parts else ""


def _points(estimate: Figures) -> str:
    around = "" if estimate["low"] is None else f" ({estimate['low'] * 100:+.1f} to {estimate['high'] * 100:+.1f})"
    return f"{estimate['value'] * 100:+.1f}{around}"


def _examples(shadow: Figures) -> str:
    parts = [_example(each) for each in shadow["examples"]]
    if shadow["largest"]:
        parts.append("<h3>The numbers furthest apart</h3>")
        parts += [_example(each) for each in shadow["largest"]]
    if not parts:
        return ""
    return (
        "<h2>Examples</h2><p class='soft'>Drawn at random among those that differ, the same on every run. "
        f"<code>shadowproxy show LOG ID</code> shows both answers whole.</p>{''.join(parts)}"
    )


def _example(example: Figures) -> str:
    rows = [
        (
            _code(each["path"] or "(the whole answer)"),
            _e(each["kind"]),
            *map(_code, sides(each["kind"], each["live"], each["shadow"], 200)),
        )
        for each in example["differences"]
    ]
    first = example["differences"][0] if example["differences"] else None
    short = ": live {}, shadow {}".format(*sides(first["kind"], first["live"], first["shadow"], 40)) if first else ""
    request = (
        f"<pre>{_e(example['request'])}</pre>" if example["request"] else "<p class='soft'>No body in the log.</p>"
    )
    return (
        f"<details><summary>{_code(example['id'])}{_e(short)}</summary>"
        f"<p class='soft'>{_e(example['at'])} {_e(example['method'])} {_e(example['path'])}</p>{request}"
        f"{_table(('Place', 'how', 'live', 'shadow'), rows)}</details>"
    )


def _method(figures: Figures) -> str:
    log = figures["log"]
    gates = ", ".join(f"{name} {'off' if value is None else value}" for name, value in figures["gates"].items())
    found = [
        f"{name}: {', '.join(each['live_path'] or '(the whole answer)' for each in shadow['outputs']) or 'none found'}"
        for name, shadow in figures["shadows"].items()
    ]
    cut = [name for name, shadow in figures["shadows"].items() if shadow["fields_cut"] or shadow["slices_cut"]]
    items = [
        f"shadowproxy {figures['version']}; {log['records']:,} records in {log['blocks']} blocks of "
        f"{log['block_seconds']:,g} s.",
        f"Fields that hold the answer: {'; '.join(found)}. Name others with --field.",
        f"Allowed: {gates}.",
        "Intervals are 95 %, from leaving out one block of time each (a jackknife): requests close in time are alike, "
        "and formulas that take them as independent are too sure. Below 8 blocks they are Wilson's, which do.",
        "Checks of shares use a confidence sequence, which stays true however often one looks; the check of p99 uses "
        "the 95 % interval.",
        "Latency is counted in bins 2 % wide, so a quantile is within 1 %.",
        "Only requests that both answered can be compared: see Coverage.",
    ]
    if cut:
        items.append(f"More places or request fields than are kept; some are counted together: {', '.join(cut)}.")
    return f"<details><summary>Method</summary><ul>{''.join(f'<li>{_e(item)}</li>' for item in items)}</ul></details>"


def _primary(shadow: Figures) -> Figures | None:
    return next((each for each in shadow["outputs"] if each["pairs"]), None)
