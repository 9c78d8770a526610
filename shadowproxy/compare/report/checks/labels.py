"""Whether the shadow is as right as live, by the labels."""

from shadowproxy.compare.report.checks.check import Finding, Result, Subject, no_data
from shadowproxy.compare.report.checks.intervals import lies, net_within, until_narrow
from shadowproxy.compare.report.checks.losses import answered
from shadowproxy.compare.report.judged import labels_of
from shadowproxy.compare.report.words import number, percent

_ANSWERED = 0.005
"""The share of answers that may be missing for a mean error to count, where no gate says so."""


def labels(subject: Subject, allowed: float) -> Finding | None:
    supplied = subject.figures["labels_supplied"]
    found = labels_of(subject.figures)
    if found is None or not (found["labelled"] or found["uneven"]):
        return no_data(f"0 of {supplied:,} labels matched a request that could be judged") if supplied else None
    place, n = subject.place, found["labelled"]
    difference, live, shadow = found["difference"], found["live"], found["shadow"]
    uneven = ""
    if found["uneven"]:
        uneven = f"{found['uneven']:,} requests have more or fewer labels than their answers have rows"
    if difference is None or live is None or shadow is None:
        sentence = (
            f"{uneven}: give `row`, or a list of labels" if uneven else "no label could be held against an answer"
        )
        return no_data(sentence, field=place)
    how_many = f"{n:,} of {supplied:,} labels" if n < supplied else f"{n:,} labels"
    if uneven:
        how_many += f" ({uneven}, and are left out)"
    if found["measure"] == "accuracy":
        held = net_within(found["shadow_only"], found["live_only"], n, difference, -allowed, None)
        sentence = (
            f"accuracy: shadow {percent(shadow['value'])}, live {percent(live['value'])} ({held.value * 100:+.2f} "
            f"points) on {how_many}"
        )
        return Finding(held.result, sentence, held.value, held.low, held.high, -allowed, held.more, place)
    value, low, high = difference["value"], difference["low"], difference["high"]
    line = allowed * live["value"]
    sentence = f"mean absolute error: shadow {number(shadow['value'])}, live {number(live['value'])} on {how_many}"
    if low is not None and high is not None:
        low, high = subject.interval("labels", value, low, high)
    result = Result.INCONCLUSIVE if low is None or high is None else lies(low, high, None, line)
    missing = answered(subject, subject.gates.answered or _ANSWERED)
    if result is Result.PASS and missing.result is not Result.PASS:
        # A missing answer has no error to average: the error of those that are left says too little.
        sentence = f"{sentence}, which leaves out what is missing: {missing.sentence}"
        return Finding(Result.INCONCLUSIVE, sentence, value, low, high, line, None, place)
    more = None
    if result is Result.INCONCLUSIVE and low is not None and high is not None:
        more = until_narrow(difference["n"], value, low, high, line)
    return Finding(result, sentence, value, low, high, line, more, place)
