"""The requests that live answered: how many there were, what the shadow lost of them, and why."""

from shadowproxy.compare.report.figures.types import ShadowReport
from shadowproxy.compare.report.html.elements import Detail, code, e, sentence, table
from shadowproxy.compare.report.judged import answered_of, judged_output
from shadowproxy.compare.report.sentences.losses import (
    answered_line,
    errors_line,
    flips_line,
    gathers,
    left_out_line,
    status_table,
    structure_line,
)
from shadowproxy.compare.report.sentences.state import state_line
from shadowproxy.compare.report.words import percent


def losses(shadow: ShadowReport, detail: Detail) -> str:
    pairs = shadow["pairs"]
    intro = (
        f"<p>{pairs['n']:,} requests were answered by live and sent to the shadow; live answered "
        f"{percent(pairs['live_2xx_share'])} of them with 2xx. What live did not answer is in neither arm.</p>"
    )
    if shadow["legacy"] is not None:
        intro += f"<p class='inconclusive'>{e(sentence(shadow['legacy']))}</p>"
    rows = []
    answered, structure, errors, flips = answered_of(shadow), shadow["structure"], shadow["errors"], shadow["flips"]
    if answered and answered["n"]:
        rows.append(("missing", f"{answered['lost']:,}", e(answered_line(answered, judged_output(shadow)))))
    if structure and structure["n"]:
        line = (
            structure_line(structure)
            if structure["lost"]
            else f"none of {structure['n']:,} lacks what live's always have"
        )
        rows.append(("structure", f"{structure['lost']:,}", e(line)))
    if errors and errors["n"]:
        rows.append(("failed", f"{errors['shadow_only']:,}", e(errors_line(errors))))
    if flips and flips["n"]:
        count = flips["to_4xx"]["count"] + flips["to_2xx"]["count"]
        rows.append(("rejected by one", f"{count:,}", e(flips_line(flips))))
    line = state_line(shadow)
    if line and shadow["state"] is not None:
        count = shadow["state"]["translated"] + shadow["state"]["unknown"] or shadow["state"]["refused"]
        rows.append(("with IDs of live's", f"{count:,}", e(line)))
    body = table(("Answers", "#requests", "what was counted"), rows, kind=" class='wordy'") if rows else ""
    return f"<h2>What is lost</h2>{intro}{body}{_reasons(shadow, detail)}"


def _reasons(shadow: ShadowReport, detail: Detail) -> str:
    """Why answers failed: in each arm by reason, with an example and where they gather."""
    errors = shadow["errors"]
    if not errors:
        return ""
    parts = []
    for reasons, whose in ((errors["reasons"]["shadow"], "the shadow's"), (errors["reasons"]["live"], "live's")):
        rows = [
            (
                code(row["reason"]),
                f"{row['count']:,}",
                percent(row["share"]),
                e(gathers(row).removeprefix("; ")),
                code(row["example"]) if row["example"] else "",
            )
            for row in reasons[: detail.reasons]
        ]
        if rows:
            caption = f"Why {whose} answers failed; numbers and what callers sent are masked"
            parts.append(table(("Reason", "#requests", "#share", "gather where", "example"), rows, caption))
    return f"<h3>Why it failed</h3>{''.join(parts)}" if parts else ""


def coverage(shadow: ShadowReport) -> str:
    found = shadow["coverage"]
    ok = found["outcomes"].get("ok", 0)
    outcomes = [(e(outcome), f"{count:,}") for outcome, count in found["outcomes"].items()]
    lives, columns, cells = status_table(shadow["statuses"], 8, 10)
    statuses = [
        (f"live {e(status)}", *(f"{cells.get((status, column), 0):,}" for column in columns)) for status in lives
    ]
    heads = ("", *(f"#{column}" for column in columns))
    left_out = left_out_line(found)
    return (
        f"<h2>Coverage</h2><p>{found['chosen']:,} requests were chosen for the shadow; it answered {ok:,}, and "
        f"{found['answered']:,} ({percent(found['share'])}) were answered by both.</p>"
        + (f"<p class='why'>{e(left_out[:1].upper() + left_out[1:])}.</p>" if left_out else "")
        + "<div class='pair'>"
        + table(("outcome", "#requests"), outcomes, "The shadow's outcomes")
        + table(heads, statuses, "Status: live by row, the shadow by column")
        + "</div>"
    )
