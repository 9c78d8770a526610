"""The places that hold the answers: how often the two agree there, what each answers, and how far apart they are."""

from itertools import chain, zip_longest
from typing import Final

from shadowproxy.compare.report import charts
from shadowproxy.compare.report.figures.types import ClassOutput, EmbeddingOutput, NumberOutput, Output, ShadowReport
from shadowproxy.compare.report.html.elements import Detail, code, e, sentence, table
from shadowproxy.compare.report.sentences.answers import drift_line, output_line, range_line, related_line, short_class
from shadowproxy.compare.report.sentences.estimates import assumption, with_interval
from shadowproxy.compare.report.words import number, percent

_CLASSES: Final = 8


def outputs(shadow: ShadowReport, detail: Detail) -> str:
    parts = [_output(each, detail) for each in shadow["outputs"] if each["pairs"]]
    return f"<h2>The answers</h2>{''.join(parts)}" if parts else ""


def _output(output: Output, detail: Detail) -> str:
    place = output["live_path"] or "the answer"
    beside = "" if output["shadow_path"] == output["live_path"] else f" beside {code(output['shadow_path'])}"
    parts = [f"<h3>{code(place)}{beside} ({output['kind']})</h3><p>{e(output_line(output))}.</p>"]
    if output["agreement"]:
        parts.append(f"<p class='why'>{e(sentence(assumption(output['agreement'])))}</p>")
    if output["collapse"]:
        parts.append(f"<p class='fail'>Collapsed: {e(output['collapse'])}.</p>")
    parts.append(_measured(output))
    labels = output["labels"]
    if labels:
        parts.append(
            f"<p class='why'>Labels are known for {percent(labels['coverage'])} of the answers; if those that "
            "come early differ from those that come late or never, so does the accuracy.</p>"
        )
    if not detail.pictures:
        return "".join(parts)
    return f"{''.join(parts)}<div class='pair'>{_pictures(output)}</div>"


def _pictures(output: Output) -> str:
    if output["kind"] == "class" or output["kind"] == "vector" or output["kind"] == "ranking":
        return _classes(output)
    return _numbers(output)


def _measured(output: Output) -> str:
    """Relatedness, range and drift, which the checks hold to what is allowed."""
    rows = [("related", e(related_line(output["related"])))]
    found = output["range"]
    if found:
        whose = "the range given" if found["given"] else "live's range, widened by its own width"
        inside = f"every answer is within {whose} ({number(found['low'])} to {number(found['high'])})"
        rows.append(("range", e(range_line(found) if found["outside"] else inside)))
    rows.append(("drift", e(drift_line(output["drift"]))))
    return table(("Measured", "found"), rows)


def _key() -> str:
    return '<span class="key live"></span> live <span class="key shadow"></span> shadow'


def _classes(output: ClassOutput) -> str:
    live = {row["class"]: row["share"] for row in output["live"]["classes"]}
    shadow = {row["class"]: row["share"] for row in output["shadow"]["classes"]}
    rows = [(short_class(key), live.get(key, 0.0), shadow.get(key, 0.0)) for key in _names(output)]
    chart = charts.bars("Share of each class in live's and in the shadow's answers", rows)
    figure = f"<figure>{chart}<figcaption>How often each class is answered: {_key()}.</figcaption></figure>"
    changes = "".join(
        f"<p>{word} in the shadow: {e(', '.join(short_class(key) for key in keys[:10]))}</p>"
        for word, keys in (("New", output["new"]), ("Vanished", output["vanished"]))
        if keys
    )
    return figure + f"<div>{_confusion(output)}{changes}</div>"


def _names(output: ClassOutput) -> list[str]:
    """The classes that are drawn: by turns live's commonest and the shadow's, so that neither arm's are left out."""
    rows = chain.from_iterable(zip_longest(output["live"]["classes"], output["shadow"]["classes"]))
    return list(dict.fromkeys(row["class"] for row in rows if row is not None))[:_CLASSES]


def _confusion(output: ClassOutput) -> str:
    cells = {(row["live"], row["shadow"]): row["count"] for row in output["confusion"]}
    if not cells:
        return ""
    names = _names(output)
    rows = [
        (
            f"live {e(short_class(key))}",
            *(
                f"<b>{cells.get((key, key), 0):,}</b>" if key == other else f"{cells.get((key, other), 0):,}"
                for other in names
            ),
        )
        for key in names
    ]
    kappa = output["kappa"]
    note = ""
    if kappa:
        note = (
            f"<p class='why'>Kappa {kappa['value']:.3f}: agreement beyond what two strangers with these habits would "
            "reach by chance (0), up to always (1).</p>"
        )
    heads = ("", *(f"#{short_class(key)}" for key in names))
    return table(heads, rows, "Live's class by row, the shadow's by column") + note


def _numbers(output: NumberOutput | EmbeddingOutput) -> str:
    what = {"text": "length in characters", "embedding": "norm"}.get(output["kind"], "value")
    spans = [
        [(row["low"], row["high"], row["count"]) for row in arm["histogram"]]
        for arm in (output["live"], output["shadow"])
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
    caption = "The shadow's number minus live's, request by request."
    low, high = output["limits"]
    if low is not None and high is not None:
        caption += f" 95 % of them lie between {number(low)} and {number(high)}."
    if output["concordance"]:
        caption += f" Concordance {output['concordance']['value']:.3f} (1 is the same number always)."
    flips = output["flips_at_half"]
    if flips and flips["value"]:
        caption += f" On different sides of one half: {with_interval(flips)}."
    chart = charts.steps("Shadow minus live", [], deltas)
    return f"{figure}<figure>{chart}<figcaption>{e(caption)}</figcaption></figure>"
