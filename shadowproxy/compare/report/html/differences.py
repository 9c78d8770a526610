"""Where the answers differ: place by place, by parts of the requests, beside live's own noise, and examples."""

from shadowproxy.compare.judge.visible import sides
from shadowproxy.compare.report.figures.types import EstimateFigures, Example, NetLoss, ShadowReport, SliceFigures
from shadowproxy.compare.report.html.elements import Detail, code, e, marked, sentence, table
from shadowproxy.compare.report.sentences.answers import form_lines
from shadowproxy.compare.report.sentences.differences import apart_line
from shadowproxy.compare.report.sentences.estimates import with_interval
from shadowproxy.compare.report.words import field_name, percent


def fields(shadow: ShadowReport, detail: Detail) -> str:
    agreement = shadow["agreement"]
    if agreement["whole"] is None:
        return ""
    summary = f"Whole answers agree in {with_interval(agreement['whole'])} of the compared requests."
    if agreement["settled"] is not None:
        summary += f" Without IDs, times and versions: {with_interval(agreement['settled'])}."
    for line in form_lines(agreement):
        summary += f" {sentence(line)}"
    rows = [
        (
            code(row["path"] or "(the whole answer)"),
            f"{row['exchanges']:,}",
            percent(row["share"]),
            e("; ".join(filter(None, (", ".join(row["kinds"]), apart_line(row["apart"]))))),
            "" if row["nature"] == "real" else row["nature"],
        )
        for row in shadow["fields"][: detail.fields]
    ]
    places = ""
    if rows:
        places = table(("Place in the answer", "#requests", "#share", "how", "noise"), rows) + (
            "<p class='why'>volatile: an ID or a time, which no two answers share. constant: one value per system, "
            "such as a version. Neither counts where it says without.</p>"
        )
    return f"<h2>Differences field by field</h2><p>{e(summary)}</p>{places}"


def slices(rows: list[SliceFigures], detail: Detail) -> str:
    """Parts of the requests, those that fail first."""
    if not rows or not detail.slices:
        return ""
    cells = [
        (
            code(row["path"]) if field_name(row["path"]) == row["path"] else e(field_name(row["path"])),
            e(row["value"]),
            "<b class='fail'>FAILS</b>" if row["fails"] else "",
            f"{row['requests']:,}",
            _lost(row["lost"]),
            _lost(row["errors"]),
            percent(row["rate"]),
            f"{row['lift']:.1f}×",
            percent(row["share_of_all"]),
        )
        for row in rows[: detail.slices]
    ]
    heads = ("Field of the request", "is", "", "#requests", "#missing", "#failed", "#differ", "#against all", "#of all")
    return (
        "<h2>Where they differ</h2><p class='soft'>Parts of the requests that disagree more than chance would make "
        "any of the parts looked at (Bonferroni, at 5 %), and those that fail: with 100 requests and 1 % of all, and "
        "surely more answers missing or failed beyond live's than a part may have.</p>" + table(heads, cells)
    )


def _lost(found: NetLoss) -> str:
    """Points beyond live's."""
    return f"{found['points'] * 100:+.1f}" if found["count"] or found["points"] else "0"


def noise(shadow: ShadowReport, detail: Detail) -> str:
    control, repeats = shadow["control"], shadow["repeats"]
    parts = []
    if control and control["live_differs"] and control["excess"]:
        rows = [
            (
                code(row["path"]),
                percent(row["shadow_differs"]),
                percent(row["live_differs"]),
                "–" if row["gap_ratio"] is None else f"{row['gap_ratio']:.1f}×",
            )
            for row in control["fields"][: detail.fields]
        ]
        at = f" at {code(control['judged'] or 'the answer')}" if control["judged"] is not None else ""
        heads = ("Place", "#shadow differs", "#live from itself", "#size against noise")
        parts.append(
            f"<p>Live was sent {control['pairs']:,} requests twice and differed from itself in "
            f"{percent(control['live_differs']['value'])}{at}; the shadow differs from it in "
            f"{_points(control['excess'])} points more.</p>{table(heads, rows)}<p class='why'>Size against noise: the "
            "median gap between shadow and live, by the gap between live and live. Well above 1, the shadow is off by "
            "more than live wavers.</p>"
        )
    if repeats:
        parts.append(
            f"<p>Of {repeats['pairs']:,} pairs of equal requests, live answered {percent(repeats['differing'])} "
            "differently.</p>"
        )
    return f"<h2>Noise</h2>{''.join(parts)}" if parts else ""


def _points(estimate: EstimateFigures) -> str:
    around = ""
    if estimate["low"] is not None and estimate["high"] is not None:
        around = f" ({estimate['low'] * 100:+.1f} to {estimate['high'] * 100:+.1f})"
    return f"{estimate['value'] * 100:+.1f}{around}"


def examples(shadow: ShadowReport, detail: Detail) -> str:
    parts = [_example(each) for each in shadow["examples"][: detail.examples]]
    if shadow["largest"] and detail.examples:
        parts.append("<h3>The numbers furthest apart</h3>")
        parts += [_example(each) for each in shadow["largest"][: detail.examples]]
    if not parts:
        return ""
    return (
        "<h2>Examples</h2><p class='soft'>Drawn at random among those that differ, the same on every run. "
        f"<code>shadowproxy show LOG ID</code> shows both answers whole.</p>{''.join(parts)}"
    )


def _example(example: Example) -> str:
    rows = [
        (
            code(each["path"] or "(the whole answer)"),
            e(each["kind"]),
            *marked(*sides(each["kind"], each["live"], each["shadow"], 200)),
        )
        for each in example["differences"]
    ]
    first = example["differences"][0] if example["differences"] else None
    short = ": live {}, shadow {}".format(*sides(first["kind"], first["live"], first["shadow"], 40)) if first else ""
    request = f"<pre>{e(example['request'])}</pre>" if example["request"] else "<p class='soft'>No body in the log.</p>"
    return (
        f"<details><summary>{code(example['id'])}{e(short)}</summary>"
        f"<p class='soft'>{e(example['at'])} {e(example['method'])} {e(example['path'])}</p>{request}"
        f"{table(('Place', 'how', 'live', 'shadow'), rows)}</details>"
    )
