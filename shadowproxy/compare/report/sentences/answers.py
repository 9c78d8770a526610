"""One place of the answers in sentences, in the terms of its kind."""

from collections.abc import Mapping
from typing import Final

from shadowproxy.compare.judge.visible import visible
from shadowproxy.compare.report.figures.types import (
    Agreement,
    Drift,
    EmbeddingOutput,
    EstimateFigures,
    Labels,
    NumberOutput,
    Output,
    Range,
    Related,
)
from shadowproxy.compare.report.sentences.estimates import with_interval
from shadowproxy.compare.report.words import number, percent


def agreement_lines(agreement: Agreement) -> list[str]:
    """How far whole answers agree; first without what is noise."""
    verdicts = ", ".join(f"{verdict} {count:,}" for verdict, count in agreement["verdicts"].items() if count)
    if agreement["whole"] is None:
        return [f"nothing could be compared{f' ({verdicts})' if verdicts else ''}"]
    if agreement["settled"] is None:
        return [f"whole answers: {with_interval(agreement['whole'])}: {verdicts}", *form_lines(agreement)]
    aside = agreement["set_aside"]
    more = f" and {len(aside) - 3} more" if len(aside) > 3 else ""
    return [
        f"whole answers without IDs, times and versions: {with_interval(agreement['settled'])}",
        f"with {', '.join(aside[:3])}{more}, {percent(agreement['whole']['value'])}: {verdicts}",
        *form_lines(agreement),
    ]


def form_lines(agreement: Agreement) -> list[str]:
    """What the answers' own forms left out of the comparison, and which places were compared with each other."""
    lines: list[str] = []
    if per_call := agreement["per_call"]:
        more = f" and {len(per_call) - 3} more" if len(per_call) > 3 else ""
        places = ", ".join(visible(each["path"]) for each in per_call[:3])
        lines.append(f"set aside, as the API generates it for every call: {places}{more}")
    for each in agreement["paired"][:_MOST_PAIRED]:
        live, shadow = visible(each["live_path"]), visible(each["shadow_path"])
        if live != shadow:
            lines.append(f"live's {live} was compared with the shadow's {shadow} ({each['exchanges']:,} requests)")
    return lines


_MOST_PAIRED: Final = 3


def output_line(output: Output) -> str:
    """One place's agreement in a line, in the terms of its kind."""
    parts = [_agreement(output)]
    if output["kind"] == "number":
        parts += _number_parts(output)
    elif output["kind"] == "embedding":
        parts += _embedding_parts(output)
    elif output["kind"] in ("text", "ranking"):
        parts += _score_parts(output)
    elif output["kind"] in ("class", "vector"):
        if output["kappa"] is not None:
            parts.append(f"kappa {output['kappa']['value']:.3f}")
        flips = [
            f"{short_class(flip['live'])}→{short_class(flip['shadow'])} {flip['count']:,}" for flip in output["flips"]
        ]
        if flips:
            parts.append("flips " + ", ".join(flips[:2]))
    if output["unit"] == "rows":
        parts.append(f"counted by row, {output['pairs']:,} of them")
    if output["labels"] is not None:
        parts.append(label_line(output["labels"]))
    return "; ".join(part for part in parts if part)


def _agreement(output: Output) -> str:
    estimate = output["agreement"]
    if estimate is None:
        return ""
    share = percent(estimate["value"])
    if output["kind"] == "number":
        return f"{share} equal"
    if output["kind"] == "text":
        return f"same words {share}"
    if output["kind"] == "embedding":
        return f"same direction {share}"
    return f"same order {share}" if output["kind"] == "ranking" else f"{with_interval(estimate)} agree"


def _number_parts(output: NumberOutput) -> list[str]:
    parts = []
    bias, median, p99 = output["bias"], output["median_delta"], output["p99_delta"]
    if bias is not None and median is not None and p99:
        parts.append(f"mean difference {bias['value']:+.4g}{_between(bias)}")
        parts.append(f"median apart {number(median)}, p99 {number(p99)}")
    if output["range"] is not None and output["range"]["outside"]:
        parts.append(range_line(output["range"]))
    return parts


def _embedding_parts(output: EmbeddingOutput) -> list[str]:
    parts = []
    median, p99 = output["angle"]["p50"], output["angle"]["p99"]
    if median is not None and p99 is not None:
        parts.append(f"1 - cosine median {number(median)}, p99 {number(p99)}")
    norms = [output[arm]["quantiles"]["p50"] for arm in ("live", "shadow")]
    if norms[0] is not None and norms[1] is not None:
        parts.append(f"median norm live {number(norms[0])}, shadow {number(norms[1])}")
    live, shadow = output["live_dimensions"], output["shadow_dimensions"]
    if shadow and set(live) != set(shadow):
        parts.append(f"dimension live {_sizes(live)}, shadow {_sizes(shadow)}")
    elif len(live) > 1:
        parts.append(f"dimensions {_sizes(live)} in both")
    return parts + _score_parts(output)


def _sizes(dimensions: Mapping[str, int]) -> str:
    """The dimensions of an arm, the most frequent first."""
    named = [f"{int(size):,}" for size in list(dimensions)[:_MOST_SIZES]]
    return f"{' and '.join(named)}{' and others' if len(dimensions) > _MOST_SIZES else ''}"


_MOST_SIZES: Final = 3


def _score_parts(output: Output) -> list[str]:
    return [f"{name} {found['value']:.2f}" for name, found in list(output["scores"].items())[:3]]


def range_line(found: Range) -> str:
    whose = "the range given" if found["given"] else "live's range, widened by its own width"
    return (
        f"{found['outside']:,} outside {whose} ({number(found['low'])} to {number(found['high'])}): "
        f"from {number(found['smallest'])} to {number(found['largest'])}"
    )


def related_line(found: Related) -> str:
    """Whether the two answers to a request belong together, and how alike was measured."""
    if found["value"] is None:
        return f"not judged: {found['why'] or 'nothing to compare with'}"
    between = (
        ""
        if found["low"] is None or found["high"] is None
        else f" (95 % interval {found['low']:.2f} to {found['high']:.2f})"
    )
    why = f"; not judged, {found['why']}" if not found["judged"] else ""
    return f"{found['value']:.2f} of 1{between}, by {found['likeness']}; answers paired at random have 0{why}"


def drift_line(drift: Drift) -> str:
    distance = drift["jensen_shannon"]
    if distance is None:
        return f"not compared: {drift['why'] or 'one of the two has no values there'}"
    between = (
        ""
        if distance["low"] is None or distance["high"] is None
        else f" (95 % interval {distance['low']:.3f} to {distance['high']:.3f})"
    )
    return f"{distance['value']:.3f} of 1{between}, over {drift['cells']} cells"


def label_line(labels: Labels) -> str:
    known = f"labels for {percent(labels['coverage'])} of the answers"
    live, shadow = labels["live"], labels["shadow"]
    if live is None or shadow is None:
        return f"{labels['labelled']:,} labels, none of which could be held against an answer; {known}"
    if labels["measure"] == "accuracy":
        return (
            f"accuracy live {percent(live['value'])}, shadow {percent(shadow['value'])} on {labels['labelled']:,} "
            f"labels (only live right {labels['live_only']:,}, only the shadow {labels['shadow_only']:,}); {known}"
        )
    return (
        f"mean absolute error live {live['value']:.4g}, shadow {shadow['value']:.4g} on {labels['labelled']:,} labels; "
        f"{known}"
    )


def _between(estimate: EstimateFigures) -> str:
    if estimate["low"] is None or estimate["high"] is None:
        return ""
    return f" ({estimate['low']:+.4g} to {estimate['high']:+.4g})"


def short_class(key: str) -> str:
    """A class as people write it: its JSON without the quotes of a text."""
    return visible(key[1:-1] if len(key) > 1 and key[0] == key[-1] == '"' else key)
