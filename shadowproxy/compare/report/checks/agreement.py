"""Whether the two agree, whether differences are explained, and whether one part of the requests loses too much."""

from dataclasses import replace

from shadowproxy.compare.report.checks.check import Finding, Result, Subject, no_data
from shadowproxy.compare.report.checks.intervals import opposite, share_within
from shadowproxy.compare.report.checks.losses import NOTHING_SENT
from shadowproxy.compare.report.judged import agreement_of, labels_of, place_of
from shadowproxy.compare.report.words import percent, points, where_part


def agreement(subject: Subject, least: float) -> Finding:
    """Whether enough answers agree."""
    estimate = agreement_of(subject.figures)
    if estimate is None:
        return no_data("nothing could be compared")
    held = share_within(estimate, least, None, certain=(False, True))
    at = f" at {place_of(subject.judged)}" if subject.judged is not None else ""
    if held.result is Result.INCONCLUSIVE and held.value >= least:
        sentence = f"{percent(held.value)} of answers agree{at}, too few to be sure of the {percent(least)} asked"
    else:
        sentence = f"{percent(held.value)} of answers agree{at} (at least {percent(least)} asked)"
    return Finding(held.result, sentence, held.value, held.low, held.high, least, held.more, subject.place)


def unexplained(subject: Subject, allowed: float) -> Finding | None:
    """How many answers differ, where neither labels nor a judge nor a least agreement say whether that is right."""
    labels = labels_of(subject.figures)
    if subject.gates.min_agreement is not None or (labels is not None and labels["labelled"] > 0):
        return None
    estimate = agreement_of(subject.figures)
    if estimate is None:
        return None
    held = share_within(opposite(estimate), None, allowed, certain=(True, False))
    share = percent(held.value)
    finding = Finding(
        Result.INCONCLUSIVE, f"{share} of answers differ", held.value, held.low, held.high, allowed, field=subject.place
    )
    if held.result is Result.PASS:
        return replace(finding, result=Result.PASS)
    if held.value > allowed:
        # That so many differ is no fault: a better model must. More requests would not say who is right.
        sentence = (
            f"{share} of answers differ and nothing here says who is right: "
            "give --labels, --judged, --min-agreement, or `unexplained: null` in a gates file"
        )
        return replace(finding, sentence=sentence)
    sentence = f"{share} of answers differ so far, too few to be sure of at most {percent(allowed)}"
    return replace(finding, sentence=sentence, more=held.more)


def slices(subject: Subject, allowed: float) -> Finding:
    """Whether one part of the requests surely loses more than it may."""
    if not subject.figures["pairs"]["n"]:
        return no_data(NOTHING_SENT)
    failing = [row for row in subject.figures["slices"] if row["fails"]]
    if not failing:
        return Finding(Result.PASS, "no part of the requests loses more answers than is allowed")
    row = max(failing, key=lambda row: max(row["lost"]["points"], row["errors"]["points"]))
    lost = row["lost"]["points"] >= row["errors"]["points"]
    worst = row["lost"] if lost else row["errors"]
    what = "are missing" if lost else "fail"
    sentence = (
        f"{where_part(row['path'], row['value'])}, {percent(worst['points'])} of {row['requests']:,} answers {what} "
        f"beyond live's (allowed {points(allowed)} in any part)"
    )
    return Finding(Result.FAIL, sentence, worst["points"], worst["low"], None, allowed, field=row["path"])
