"""What the shadow loses in sentences: what was not answered, what is missing, lacks parts, failed or was rejected."""

from shadowproxy.compare.report.figures.types import (
    Answered,
    Coverage,
    Errors,
    FailureReason,
    Flips,
    Output,
    ShadowReport,
    StatusPair,
    Structure,
)
from shadowproxy.compare.report.judged import answered_of, judged_output, place_of
from shadowproxy.compare.report.sentences.estimates import with_interval
from shadowproxy.compare.report.sentences.state import state_line
from shadowproxy.compare.report.words import percent, where_part

Cells = dict[tuple[str, str], int]


def coverage_line(shadow: ShadowReport) -> str:
    coverage, pairs = shadow["coverage"], shadow["pairs"]
    missed = [f"{why} {count:,}" for why, count in coverage["outcomes"].items() if why != "ok"]
    hardly = any(check["name"] == "live" for check in shadow["checks"])
    return (
        f"{coverage['chosen']:,} chosen, {coverage['answered']:,} answered by both ({percent(coverage['share'])})"
        + (f"; the shadow's others: {', '.join(missed)}" if missed else "")
        + (
            f"; live answered {percent(pairs['live_2xx_share'])} of {pairs['n']:,} with 2xx"
            if pairs["n"] and (pairs["live_2xx"] < pairs["n"] or hardly)
            else ""
        )
        + (f"; {left_out}" if (left_out := left_out_line(coverage)) else "")
    )


def left_out_line(coverage: Coverage) -> str:
    """Which setting kept how many whole answers out of the log; empty where none did."""
    rows = [
        f"{each['live']:,} of live's and {each['shadow']:,} of the shadow's ({each['setting']})"
        for each in coverage["left_out"]
    ]
    return f"answers that the log has not whole: {', '.join(rows)}" if rows else ""


def pair_lines(shadow: ShadowReport) -> list[tuple[str, str]]:
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
    if errors and errors["live"] and errors["shadow"] and (errors["live"]["value"] or errors["shadow"]["value"]):
        rows.append(("Errors", errors_line(errors)))
    if flips and (flips["to_4xx"]["count"] or flips["to_2xx"]["count"]):
        rows.append(("Rejected", flips_line(flips)))
    if line := state_line(shadow):
        rows.append(("State", line))
    if not rows and errors and errors["n"]:
        rows.append(("Pairs", f"of {errors['n']:,} no answer is missing, failed, or rejected by one of the two only"))
    return rows


def answered_line(answered: Answered, judged: Output | None) -> str:
    where = f" at {place_of(judged)}" if judged is not None else ""
    why = ", ".join(f"{word} {count:,}" for word, count in answered["missing"].items())
    gained = f"; {answered['gained']:,} where only the shadow has one" if answered["gained"] else ""
    lost = f"{answered['lost']:,} of {answered['n']:,} answers that live has{where} are missing"
    return f"{lost}{f' ({why})' if why else ''}{gained}"


def structure_line(structure: Structure) -> str:
    rows = [f"{each['path'] or 'the whole answer'} {each['lost']:,}" for each in structure["places"][:3]]
    left = len(structure["places"]) - len(rows)
    places = ", ".join(rows) + (f" and {left} more" if left > 0 else "")
    return f"{structure['lost']:,} of {structure['n']:,} lack what live's answers always have: {places}"


def errors_line(errors: Errors) -> str:
    live, shadow = errors["live"], errors["shadow"]
    if live is None or shadow is None:
        return "none was counted"
    return (
        f"of {errors['n']:,} answers the shadow's failed in {with_interval(shadow)}, live's in "
        f"{percent(live['value'])} (only the shadow's {errors['shadow_only']:,}, only live's "
        f"{errors['live_only']:,})"
    )


def reason_line(row: FailureReason) -> str:
    """How often answers failed for one reason, an example, and the part of the requests where they gather."""
    example = f"; as {row['example']}" if row["example"] else ""
    return f"{row['count']:,} ({percent(row['share'])}){gathers(row)}{example}"


def gathers(row: FailureReason) -> str:
    where = row["where"]
    if where is None:
        return ""
    return (
        f"; {percent(where['share'])} of them {where_part(where['path'], where['value'])}, "
        f"{percent(where['share_of_requests'])} of the requests"
    )


def flips_line(flips: Flips) -> str:
    rows = []
    if flips["to_4xx"]["count"]:
        rows.append(f"{flips['to_4xx']['count']:,} that live answered with 2xx it rejects with 4xx")
    if flips["to_2xx"]["count"]:
        rows.append(f"{flips['to_2xx']['count']:,} that live rejects with 4xx it answers with 2xx")
    return f"of {flips['n']:,} requests, {' and '.join(rows) or 'none is rejected by one of the two only'}"


def status_table(statuses: list[StatusPair], most_rows: int, most_columns: int) -> tuple[list[str], list[str], Cells]:
    """Live's statuses, the shadow's, and the counts by `(live, shadow)`; the figures have the commonest pairs first."""
    cells: Cells = {(each["live"], each["shadow"]): each["count"] for each in statuses}
    rows, columns = list(dict.fromkeys(live for live, _ in cells)), list(dict.fromkeys(shadow for _, shadow in cells))
    return rows[:most_rows], columns[:most_columns], cells
