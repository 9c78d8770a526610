"""Figures in sentences: what every form of the report says alike. Texts from the log are not yet made safe to print."""

from collections import Counter
from collections.abc import Mapping
from typing import Final

from shadowproxy.compare.judge.visible import visible
from shadowproxy.compare.report.checks import FEWEST_PAIRS, judged_output
from shadowproxy.compare.report.conclusion import about
from shadowproxy.compare.report.figures.shown import Figures
from shadowproxy.compare.report.words import change, milliseconds, number, percent, points, requests

Cells = dict[tuple[str, str], int]

QUESTIONS: Final[Mapping[str, str]] = {
    "engineering": "Does it take the real requests, answer in the right format, and fast enough?",
    "outputs": "Is the distribution of its answers what one expects?",
    "performance": "Are its answers as good as live's?",
}
OVERVIEW_HEADS: Final = ("Verdict", "Shadow", "requests", "missing", "failed", "accuracy", "p99")
STREAM_HEADS: Final = ("first byte p50", "p90", "tokens/s p50", "p90", "came to their end")

_MOST_DECIDING: Final = 2


def opening(log: Figures) -> str:
    """How much the log holds, over what time, and what of it could not be used."""
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
    return f"{requests(log['records'])}{span}{torn}{twice}{ids}"


# --- several shadows -------------------------------------------------------------------------------------------------


OVERVIEW_NOTE: Final = (
    "Beside live, on the same requests: points of answers missing and failed, points of accuracy, change of p99. "
    "The order is that of the names and says nothing of which is better."
)


def overview_rows(figures: Figures) -> list[tuple[str, ...]]:
    """For each shadow its cells under OVERVIEW_HEADS: the word first, then what it loses beside live."""
    return [
        (
            shadow["verdict"]["headline"],
            name,
            f"{shadow['pairs']['n']:,}",
            _points_beside(_answered_difference(shadow), lower_is_worse=True),
            _points_beside((shadow["errors"] or {}).get("difference")),
            _accuracy_beside(shadow),
            "–" if shadow["latency"]["ratio"]["p99"] is None else change(shadow["latency"]["ratio"]["p99"]["value"]),
        )
        for name, shadow in figures["shadows"].items()
    ]


def _answered_difference(shadow: Figures) -> Figures | None:
    found = answered_of(shadow)
    difference: Figures | None = found["difference"] if found else None
    return difference


def _points_beside(estimate: Figures | None, *, lower_is_worse: bool = False) -> str:
    if estimate is None:
        return "–"
    value = (-estimate["value"] if lower_is_worse else estimate["value"]) * 100
    return "0" if not value else f"{value:+.2f}"


def _accuracy_beside(shadow: Figures) -> str:
    judged = judged_output(shadow)
    labels = judged["labels"] if judged is not None else None
    if not labels or not labels["difference"]:
        return "–"
    if labels["measure"] == "accuracy":
        return _points_beside(labels["difference"])
    return f"error {labels['difference']['value']:+.3g}"


# --- the verdict -----------------------------------------------------------------------------------------------------


def where_judged(check: Figures) -> str:
    """The place in the answers, or the field of the requests, that a check judged, and the route if it is about one."""
    parts = [] if check["field"] is None else [check["field"] or "the answer"]
    if check["route"]:
        parts.append(check["route"])
    return " on ".join(parts)


def named(check: Figures) -> str:
    """A check's name with what it judged."""
    where = where_judged(check)
    return f"{check['name']} ({where})" if where else str(check["name"])


def said_alone(check: Figures) -> str:
    """What a check says, without its name and its route, where these stand beside it."""
    said: str = check["said"].removeprefix(f"{check['name']}: ")
    return said.removesuffix(f", on {check['route']}") if check["route"] else said


def answers(shadow: Figures) -> dict[str, str]:
    """For each of the three questions the checks that decide it, with the place that each judged."""
    said = {}
    for question, result in shadow["verdict"]["questions"].items():
        own = [check for check in shadow["checks"] if check["question"] == question and check["result"] == result]
        if result == "pass" and question != "performance":  # how much better or worse is told even where it passes
            said[question] = ", ".join(named(check) for check in own)
            continue
        text = "; ".join(
            check["said"] if check["name"] == "live" else f"{named(check)}: {said_alone(check)}"
            for check in own[:_MOST_DECIDING]
        )
        if len(own) > _MOST_DECIDING:
            text += f"; also {', '.join(check['name'] for check in own[_MOST_DECIDING:])}"
        more = max((check["more"] for check in own if check["more"]), default=None)
        if more and result == "inconclusive":
            text += f"; about {about(more)} more requests would settle it"
        said[question] = text or ("no labels supplied" if question == "performance" else "nothing to go by")
    return said


def route_lines(shadow: Figures) -> list[str]:
    """Each route with its share, and how it was judged or why it was not; nothing where there is only one."""
    routes = shadow["routes"]
    if len(routes) < 2:
        return []
    lines = []
    for route in routes:
        much = f"{route['route']}: {requests(route['requests'])}, {percent(route['share'])}"
        if route["gated"] and route["result"] is not None:
            lines.append(f"{much}: {route['result'].upper()}{_failing(route['checks'])}")
        else:
            lines.append(f"{much}: {route['why']}")
    return lines


def _failing(checks: list[Figures] | None) -> str:
    rows = [check["name"] for check in checks or () if check["result"] == "fail"]
    return f" ({', '.join(rows)})" if rows else ""


def besides(shadow: Figures) -> str:
    """The checks that do not decide their question, by result."""
    questions = shadow["verdict"]["questions"]
    rest = [check for check in shadow["checks"] if check["result"] != questions[check["question"]]]
    by_result: dict[str, list[str]] = {}
    for check in rest:
        by_result.setdefault(check["result"], []).append(named(check))
    return "; ".join(f"{result.upper()} {', '.join(names)}" for result, names in by_result.items())


# --- the pairs -------------------------------------------------------------------------------------------------------


def coverage_line(shadow: Figures) -> str:
    coverage, pairs = shadow["coverage"], shadow["pairs"]
    missed = [f"{why} {count:,}" for why, count in coverage["outcomes"].items() if why != "ok"]
    return (
        f"{coverage['chosen']:,} chosen, {coverage['answered']:,} answered by both ({percent(coverage['share'])})"
        + (f"; the shadow's others: {', '.join(missed)}" if missed else "")
        + (
            f"; live answered {percent(pairs['live_2xx_share'])} of {pairs['n']:,} with 2xx"
            if pairs["n"] and (pairs["live_2xx"] < pairs["n"] or pairs["live_2xx"] < FEWEST_PAIRS)
            else ""
        )
    )


def answered_of(shadow: Figures) -> Figures | None:
    """Whether answers are missing: at the judged place, or of whole answers where there is none."""
    judged = judged_output(shadow)
    found: Figures | None = judged["answered"] if judged is not None else shadow["answered"]
    return found


def pair_lines(shadow: Figures) -> list[tuple[str, str]]:
    """What is missing, lacking, failed or rejected of the requests that live answered, each with its heading.

    One line where nothing is.
    """
    rows = []
    answered, structure, errors, flips = answered_of(shadow), shadow["structure"], shadow["errors"], shadow["flips"]
    judged = judged_output(shadow)
    if answered and (answered["lost"] or answered["gained"]):
        rows.append(("Missing", answered_line(answered, judged)))
    if structure and structure["lost"]:
        rows.append(("Structure", structure_line(structure)))
    if errors and errors["n"] and (errors["live"]["value"] or errors["shadow"]["value"]):
        rows.append(("Errors", errors_line(errors)))
    if flips and (flips["to_4xx"]["count"] or flips["to_2xx"]["count"]):
        rows.append(("Rejected", flips_line(flips)))
    if not rows and errors and errors["n"]:
        rows.append(("Pairs", f"of {errors['n']:,} no answer is missing, failed, or rejected by one of the two only"))
    return rows


def answered_line(answered: Figures, judged: Figures | None) -> str:
    where = f" at {judged['live_path'] or 'the answer'}" if judged is not None else ""
    why = ", ".join(f"{word} {count:,}" for word, count in answered["missing"].items())
    gained = f"; {answered['gained']:,} where only the shadow has one" if answered["gained"] else ""
    lost = f"{answered['lost']:,} of {answered['n']:,} answers that live has{where} are missing"
    return f"{lost}{f' ({why})' if why else ''}{gained}"


def structure_line(structure: Figures) -> str:
    rows = [f"{each['path'] or 'the whole answer'} {each['lost']:,}" for each in structure["places"][:3]]
    left = len(structure["places"]) - len(rows)
    places = ", ".join(rows) + (f" and {left} more" if left > 0 else "")
    return f"{structure['lost']:,} of {structure['n']:,} lack what live's answers always have: {places}"


def errors_line(errors: Figures) -> str:
    return (
        f"of {errors['n']:,} answers the shadow's failed in {with_interval(errors['shadow'])}, live's in "
        f"{percent(errors['live']['value'])} (only the shadow's {errors['shadow_only']:,}, only live's "
        f"{errors['live_only']:,})"
    )


def reason_line(row: Figures) -> str:
    """How often answers failed for one reason, an example, and the part of the requests where they gather."""
    example = f"; as {row['example']}" if row["example"] else ""
    return f"{row['count']:,} ({percent(row['share'])}){gathers(row)}{example}"


def gathers(row: Figures) -> str:
    where = row["where"]
    if where is None:
        return ""
    return (
        f"; {percent(where['share'])} of them where {where['path']} is {where['value']}, "
        f"{percent(where['share_of_requests'])} of the requests"
    )


def flips_line(flips: Figures) -> str:
    rows = []
    if flips["to_4xx"]["count"]:
        rows.append(f"{flips['to_4xx']['count']:,} that live answered with 2xx it rejects with 4xx")
    if flips["to_2xx"]["count"]:
        rows.append(f"{flips['to_2xx']['count']:,} that live rejects with 4xx it answers with 2xx")
    return f"of {flips['n']:,} requests, {' and '.join(rows) or 'none is rejected by one of the two only'}"


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


# --- the answers -----------------------------------------------------------------------------------------------------


def agreement_lines(shadow: Figures) -> list[str]:
    """How far whole answers agree; first without what is noise."""
    agreement = shadow["agreement"]
    verdicts = ", ".join(f"{verdict} {count:,}" for verdict, count in agreement["verdicts"].items() if count)
    if agreement["whole"] is None:
        return [f"nothing could be compared{f' ({verdicts})' if verdicts else ''}"]
    if agreement["settled"] is None:
        return [f"whole answers: {with_interval(agreement['whole'])}: {verdicts}"]
    aside = agreement["set_aside"]
    more = f" and {len(aside) - 3} more" if len(aside) > 3 else ""
    return [
        f"whole answers without IDs, times and versions: {with_interval(agreement['settled'])}",
        f"with {', '.join(aside[:3])}{more}, {percent(agreement['whole']['value'])}: {verdicts}",
    ]


def output_line(output: Figures) -> str:
    """One field's agreement in a line, in the terms of its kind, and what its numbers lie outside of."""
    parts = [f"{with_interval(output['agreement'])} agree" if output["agreement"] else ""]
    if output["kind"] == "number":
        parts[0] = f"{percent(output['agreement']['value'])} equal" if output["agreement"] else ""
        bias = output["bias"]
        if bias is not None and output["p99_delta"]:
            parts.append(f"mean difference {bias['value']:+.4g}{_between(bias)}")
            parts.append(f"median apart {number(output['median_delta'])}, p99 {number(output['p99_delta'])}")
        if output["range"] and output["range"]["outside"]:
            parts.append(range_line(output["range"]))
    elif output["kind"] == "embedding":
        parts[0] = f"same direction {percent(output['agreement']['value'])}" if output["agreement"] else ""
        if output["angle"]["p50"] is not None:
            angles = number(output["angle"]["p50"]), number(output["angle"]["p99"])
            parts.append(f"1 - cosine median {angles[0]}, p99 {angles[1]}")
    elif output["kind"] in ("text", "ranking"):
        what = "same words" if output["kind"] == "text" else "same order"
        parts[0] = f"{what} {percent(output['agreement']['value'])}" if output["agreement"] else ""
        parts += [f"{name} {found['value']:.2f}" for name, found in list(output["scores"].items())[:3]]
    else:
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


def range_line(found: Figures) -> str:
    whose = "the range given" if found["given"] else "live's range, widened by its own width"
    return (
        f"{found['outside']:,} outside {whose} ({number(found['low'])} to {number(found['high'])}): "
        f"from {number(found['smallest'])} to {number(found['largest'])}"
    )


def related_line(found: Figures) -> str:
    """Whether the two answers to a request belong together, and what was taken as alike."""
    if found["value"] is None:
        return f"not judged: {found['why'] or 'nothing to compare with'}"
    between = "" if found["low"] is None else f" (95 % interval {found['low']:.2f} to {found['high']:.2f})"
    why = f"; not judged, {found['why']}" if not found["judged"] else ""
    return f"{found['value']:.2f} of 1{between}, by {found['likeness']}; answers paired at random have 0{why}"


def drift_line(drift: Figures) -> str:
    distance = drift["jensen_shannon"]
    if distance is None:
        return f"not compared: {drift['why'] or 'one of the two has no values there'}"
    between = "" if distance["low"] is None else f" (95 % interval {distance['low']:.3f} to {distance['high']:.3f})"
    return f"{distance['value']:.3f} of 1{between}, over {drift['cells']} cells"


def label_line(labels: Figures) -> str:
    known = f"labels for {percent(labels['coverage'])} of the answers"
    if labels["live"] is None or labels["shadow"] is None:
        return f"{labels['labelled']:,} labels, none of which could be held against an answer; {known}"
    if labels["measure"] == "accuracy":
        live, shadow = percent(labels["live"]["value"]), percent(labels["shadow"]["value"])
        return (
            f"accuracy live {live}, shadow {shadow} on {labels['labelled']:,} labels "
            f"(only live right {labels['live_only']:,}, only the shadow {labels['shadow_only']:,}); {known}"
        )
    live, shadow = labels["live"]["value"], labels["shadow"]["value"]
    return f"mean absolute error live {live:.4g}, shadow {shadow:.4g} on {labels['labelled']:,} labels; {known}"


def _between(estimate: Figures) -> str:
    return "" if estimate["low"] is None else f" ({estimate['low']:+.4g} to {estimate['high']:+.4g})"


# --- what differs ----------------------------------------------------------------------------------------------------


def how_it_differs(row: Figures) -> str:
    """The kinds of difference at a place, and what sort of place it is."""
    nature = "" if row["nature"] == "real" else f" ({row['nature']})"
    return f"{', '.join(row['kinds'])}{nature}"


def apart_line(apart: Figures | None) -> str:
    """How far apart numbers are that differ, and which tolerance would settle most of it."""
    if apart is None:
        return ""
    said = f"at most {_short(apart['most'])} apart, relative to the larger"
    if apart["tolerance"] is not None:
        said += f"; `tolerance: {{rel: {_short(apart['tolerance'])}}}` would settle {percent(apart['settles'])}"
    return said


def _short(value: float) -> str:
    """A size to one or two digits: 4e-07 as 4e-7."""
    text = f"{value:.2g}"
    if "e" not in text:
        return text
    digits, _, power = text.partition("e")
    return f"{digits}e{int(power)}"


def slice_line(row: Figures) -> str:
    """What is worse in one part of the requests: what fails it first."""
    parts = []
    if row["fails"]:
        worse = [
            f"{points(row[name]['points'])} {what} ({row[name]['count']:,})"
            for name, what in (("lost", "missing"), ("errors", "failed"))
            if row[name]["points"] > 0
        ]
        parts.append(f"FAILS: beyond live's, {' and '.join(worse)} of {row['requests']:,} answers")
    if row["differing"]:
        parts.append(
            f"{percent(row['rate'])} of {row['requests']:,} differ, {row['lift']:.1f} times the average, "
            f"{percent(row['share_of_all'])} of all differences"
        )
    return "; ".join(parts) or f"none of {row['requests']:,} differs"


def noise_lines(shadow: Figures) -> list[str]:
    """How far live differs from itself, asked twice or of equal requests."""
    control, repeats = shadow["control"], shadow["repeats"]
    lines = []
    if control and control["live_differs"]:
        at = f" at {control['judged'] or 'the answer'}" if control["judged"] is not None else ""
        lines.append(
            f"asked twice, {control['pairs']:,} times, live differs from itself in "
            f"{percent(control['live_differs']['value'])}{at}"
        )
    if repeats:
        lines.append(
            f"of {repeats['pairs']:,} pairs of equal requests live answers {percent(repeats['differing'])} differently"
        )
    return lines


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
