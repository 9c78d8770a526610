"""What the shadow's answers are beside live's: related to them, in their range, varied and spread as they are.

Whether the two agree on each request is `agreement`'s.
"""

import re
from collections.abc import Iterator
from dataclasses import replace
from typing import Final

from shadowproxy.compare.report.checks.check import WORST_FIRST, Finding, Result, Subject, no_data
from shadowproxy.compare.report.checks.intervals import share_within, until_narrow
from shadowproxy.compare.report.figures.types import Output, PairFigures
from shadowproxy.compare.report.judged import agreement_of, place_of
from shadowproxy.compare.report.words import number, percent

FEWEST_PER_CELL: Final = 50
"""Independent requests for each cell of the distribution before its drift can fail."""

_TOOK: Final = re.compile(r"(?i)/(?:usage|usage_?metadata|[^/]*tokens)(?:/|\Z)")
"""What an answer took: counts of tokens, which have figures of their own (docs/explanation/report.md). A server that
always says 0, or a limit that every answer reaches, is no collapse of what the model says."""

_NOISE: Final = 0.9
"""Live differs from itself so nearly as often as the shadow does from live that the two cannot be told apart."""


def related(subject: Subject, allowed: float) -> Finding | None:
    """Whether the two answers to a request belong together more than two drawn at random."""
    judged = subject.judged
    found = judged["related"] if judged is not None else None
    if judged is None or found is None or not found["judged"] or found["value"] is None:
        return None
    value, low, high = found["value"], found["low"], found["high"]
    place = place_of(judged)
    if low is not None and high is not None:
        low, high = subject.interval("related", value, low, high)
    if low is None or high is None:
        result, low, high = Result.INCONCLUSIVE, None, None
    elif high < allowed:
        result = Result.FAIL
    else:
        result = Result.PASS if low > allowed else Result.INCONCLUSIVE
    if result is Result.PASS:
        sentence = f"the two answers to a request belong together: relatedness {value:.2f} of 1 at {place}"
    elif value > allowed:
        sentence = (
            f"too few to be sure that the two answers to a request belong together: relatedness {value:.2f} of 1 at "
            f"{place} so far (above {allowed:g} needed; answers paired at random have 0)"
        )
    else:
        sentence = (
            f"the shadow's answers are hardly related to live's at {place}: relatedness {value:.2f} of 1 "
            f"(above {allowed:g} needed; answers paired at random have 0)"
        )
    if result is Result.FAIL and _live_differs_as_much(subject.figures, judged):
        result = Result.INCONCLUSIVE
        sentence = f"{sentence}; live's own answers to equal requests are no more alike"
    more = None
    if result is Result.INCONCLUSIVE and low is not None and high is not None:
        more = until_narrow(found["n"], value, low, high, allowed)
    return Finding(result, sentence, value, low, high, allowed, more, judged["live_path"])


def _live_differs_as_much(figures: PairFigures, judged: Output) -> bool:
    """Whether live, sent the same request again, differs from itself about as often as the shadow differs from live."""
    agreement = judged["agreement"]
    if agreement is None:
        return False
    high = agreement["high"] if agreement["high"] is not None else agreement["value"]
    differing = _NOISE * (1 - high)
    repeats, control = figures["repeats"], figures["control"]
    if repeats is not None and repeats["differing"] >= differing > 0:
        return True
    return bool(control is not None and control["live_differs"] and control["live_differs"]["value"] >= differing > 0)


def in_range(subject: Subject, allowed: float) -> Finding | None:
    """Of all places of numbers the one with most answers outside: a unit may be wrong beside a sound class."""
    rows = [
        (each, found, share, share_within(share, None, allowed, certain=(not found["given"], False)))
        for each in _spoken(subject)
        if each["pairs"] and (found := each["range"]) is not None and (share := found["share"]) is not None
    ]
    if not rows:
        return None
    output, found, share, held = min(rows, key=lambda row: WORST_FIRST.index(row[3].result))
    ends = f"{number(found['low'])} to {number(found['high'])}"
    whose = "the range given" if found["given"] else "live's range, widened by its own width"
    if held.result is Result.PASS:
        sentence = f"{place_of(output)} stays within {whose} ({ends})"
    elif not found["outside"]:
        sentence = f"none of {share['n']:,} answers leaves {whose} so far, too few to be sure"
    else:
        sentence = (
            f"{percent(held.value)} of the answers at {place_of(output)} lie outside {whose} ({ends}): "
            f"from {number(found['smallest'])} to {number(found['largest'])} (allowed {percent(allowed)})"
        )
    return Finding(held.result, sentence, held.value, held.low, held.high, allowed, held.more, output["live_path"])


def _spoken(subject: Subject) -> Iterator[Output]:
    """The places that say something: all but those of what an answer took, unless the answer is judged by one."""
    for each in subject.figures["outputs"]:
        if each is subject.judged or _TOOK.search(each["live_path"] or "") is None:
            yield each


def collapse(subject: Subject, _: float) -> Finding:
    """Whether answers vary as live's do."""
    judged = subject.judged
    if judged is None:
        return _whole_answers(subject)
    for each in _spoken(subject):
        if each["collapse"]:
            place = each["shadow_path"] or "the answer"
            sentence = f"the shadow's answers have collapsed at {place}: {each['collapse']}"
            return Finding(Result.FAIL, sentence, field=each["live_path"])
    return Finding(Result.PASS, f"answers vary as live's do at {place_of(judged)}", field=judged["live_path"])


def _whole_answers(subject: Subject) -> Finding:
    """Answers without a place to judge them by can only be vouched for by being the same."""
    outputs = subject.figures["outputs"]
    if outputs:
        return no_data(f"live has no answer at {place_of(outputs[0])}, which was named")
    estimate = agreement_of(subject.figures)
    least = 1 - (subject.gates.unexplained or 0.05)
    if estimate is not None and share_within(estimate, None, None, certain=(False, True)).low >= least:
        return Finding(Result.PASS, f"{percent(estimate['value'])} of whole answers are the same")
    return no_data("no field was found that holds the answer; name it by --field")


def drift(subject: Subject, allowed: float) -> Finding | None:
    """Whether the judged answers are spread as live's."""
    judged = subject.judged
    if judged is None:
        return None
    found, place = judged["drift"], judged["live_path"]
    distance = found["jensen_shannon"]
    if distance is None:
        why = found["why"] or f"{place_of(judged)} has no values in both arms"
        return no_data(f"how it is spread cannot be compared: {why}", field=place)
    value, low, high = distance["value"], distance["low"], distance["high"]
    if low is not None and high is not None:
        low, high = subject.interval("drift", value, low, high)
    if value <= allowed and (high is None or high <= allowed):
        sentence = f"{place_of(judged)} is spread as live's: distance {value:.3f}"
        return Finding(Result.PASS, sentence, value, low, high, allowed, field=place)
    sentence = f"{place_of(judged)} is spread differently: distance {value:.3f} of 1 (allowed {allowed:g})"
    finding = Finding(Result.INCONCLUSIVE, sentence, value, low, high, allowed, field=place)
    # With no change at all the distance is above 0, and the more so the fewer requests there are for each cell.
    missing = FEWEST_PER_CELL * found["cells"] - found["effective"]
    if missing > 0:
        return replace(finding, more=round(missing))
    if low is not None and low > allowed:
        return replace(finding, result=Result.FAIL)
    if low is not None and high is not None:
        return replace(finding, more=until_narrow(distance["n"] // 2, value, low, high, allowed))
    return finding
