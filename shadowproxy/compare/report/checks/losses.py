"""What the shadow loses of live's requests: answers that are missing, lack parts, fail, or reject."""

from dataclasses import replace

from shadowproxy.compare.report.checks.check import Finding, Result, Subject, no_data
from shadowproxy.compare.report.checks.intervals import net_within, share_within
from shadowproxy.compare.report.figures.common import weighing_of
from shadowproxy.compare.report.figures.types import Errors, EstimateFigures, PairFigures
from shadowproxy.compare.report.judged import answered_of
from shadowproxy.compare.report.stats import confidence_sequence
from shadowproxy.compare.report.weights import Tally, weighted_sequence
from shadowproxy.compare.report.words import percent, points

NOTHING_SENT = "no request that live answered was sent to the shadow"


def answered(subject: Subject, allowed: float) -> Finding:
    """How many answers are missing where live has one."""
    found = answered_of(subject.figures)
    if found is None or not found["n"] or found["difference"] is None:
        return no_data("live gave no answer that the shadow could be held to")
    lost, n = found["lost"], found["n"]
    held = net_within(found["gained"], lost, n, found["difference"], -allowed, None)
    finding = Finding(held.result, "", held.value, held.low, held.high, -allowed, held.more, subject.place)
    unseen = _unseen(subject.figures)
    if held.result is not Result.FAIL and unseen > allowed * n:
        # The log does not show whether those bodies held an answer; it has live's for the same requests.
        sentence = (
            f"of {unseen:,} of the shadow's answers the log has no whole body where it has live's, so nothing is known "
            "of them (log.body_limit)"
        )
        return replace(finding, result=Result.INCONCLUSIVE, sentence=sentence, more=None)
    if held.result is Result.PASS:
        sentence = f"the shadow answers where live does: {percent(lost / n)} of {n:,} are missing"
    elif not lost:
        sentence = f"no answer of {n:,} is missing so far, too few to be sure of at most {points(allowed)}"
    else:
        why = ", ".join(f"{word} {count:,}" for word, count in list(found["missing"].items())[:4])
        sentence = (
            f"{percent(lost / n)} of {n:,} answers are missing where live has one (allowed {points(allowed)}): {why}"
        )
    return replace(finding, sentence=sentence)


def _unseen(figures: PairFigures) -> int:
    """Answers of the shadow that were not kept whole, beside live's that were."""
    whys = figures["agreement"]["incomparable"]
    return sum(count for why, count in whys.items() if why.startswith("shadow: "))


def structure(subject: Subject, allowed: float) -> Finding | None:
    """How many answers lack what live's always have; None where live's answers have no structure."""
    found = subject.figures["structure"]
    if found is None or not found["n"] or found["share"] is None:
        return None
    held = share_within(found["share"], None, allowed, certain=(True, False))
    if held.result is Result.PASS:
        sentence = f"its answers have what live's always have ({percent(found['lost'] / found['n'])} lack some of it)"
    elif not found["lost"]:
        sentence = (
            f"no answer of {found['n']:,} lacks what live's always have so far, "
            f"too few to be sure of at most {points(allowed)}"
        )
    else:
        places = ", ".join(each["path"] or "the whole answer" for each in found["places"][:3])
        sentence = (
            f"{percent(held.value)} of its answers lack what live's always have (allowed {points(allowed)}): {places}"
        )
    return Finding(held.result, sentence, held.value, held.low, held.high, allowed, held.more)


def errors(subject: Subject, allowed: float) -> Finding:
    """How many more answers fail than live's."""
    found = subject.figures["errors"]
    if found is None or found["difference"] is None or found["live"] is None or found["shadow"] is None:
        return no_data(NOTHING_SENT)
    held = net_within(found["shadow_only"], found["live_only"], found["n"], found["difference"], None, allowed)
    result = held.result
    live, shadow = found["live"]["value"], found["shadow"]["value"]
    if result is Result.PASS:
        sentence = f"it fails no more than live: {percent(shadow)} beside {percent(live)}"
        unseen = _failed_where_callers_left(found, found["difference"], allowed)
        if unseen is not None:
            result, sentence = Result.INCONCLUSIVE, unseen
    elif not found["shadow_only"]:
        sentence = (
            f"no answer of {found['n']:,} failed where live's did not, "
            f"too few to be sure of at most {points(allowed)} more"
        )
    else:
        reasons = found["reasons"]["shadow"]
        why = f", mostly: {reasons[0]['reason']}" if reasons else ""
        sentence = (
            f"{percent(shadow)} of its answers failed, {percent(live)} of live's (allowed {points(allowed)} more){why}"
        )
    return Finding(result, sentence, held.value, held.low, held.high, allowed, held.more)


def _failed_where_callers_left(found: Errors, difference: EstimateFigures, allowed: float) -> str | None:
    """The sentence on failures where callers left before live answered, if there are too many to ignore.

    They cannot fail the check, as nobody knows what live would have said: what is slow in both makes callers leave and
    the shadow run into its deadline.
    """
    unanswered = found["unanswered"]
    failed, begun = unanswered["shadow_failed"], unanswered["begun"]
    effect, weights = max(1.0, difference["design_effect"]), weighing_of(difference)
    if not failed:
        return None
    if weights is None:
        low, _ = confidence_sequence(failed / effect, begun / effect)
    else:  # they have no other weight than that of a draw; of the rest it is known what it may be at most
        most, draw = weights.heaviest, weights.draw
        of_failed = Tally(failed, failed / draw, failed * draw).times(1 / effect)
        rest = Tally(begun - failed, (begun - failed) / most, (begun - failed) * most).times(1 / effect)
        low, _ = weighted_sequence(of_failed, rest, weights, certain=(True, False))
    if low <= allowed:
        return None
    return (
        f"the shadow failed on {failed:,} of the {unanswered['n']:,} requests whose callers left before live answered, "
        "where there is nothing to hold it to"
    )


def flips(subject: Subject, allowed: float) -> Finding | None:
    """How many requests one of the two accepts and the other rejects.

    More in one direction than in the other is a difference of the two; as many in both may be chance in both.
    """
    found = subject.figures["flips"]
    if found is None or not found["n"] or found["net"]["difference"] is None:
        return None
    n, to_4xx, to_2xx = found["n"], found["to_4xx"]["count"], found["to_2xx"]["count"]
    held = net_within(to_4xx, to_2xx, n, found["net"]["difference"], -allowed, allowed)
    result, more = held.result, held.more
    shares = [found[way]["share"] for way in ("to_4xx", "to_2xx")]
    ways = [share_within(share, None, allowed, certain=(True, False)) for share in shares if share is not None]
    if result is Result.PASS and any(each.result is not Result.PASS for each in ways):
        result, more = Result.INCONCLUSIVE, max((each.more for each in ways if each.more is not None), default=None)
    counts = []
    if to_4xx:
        counts.append(f"{to_4xx:,} that live answered with 2xx it rejects with 4xx")
    if to_2xx:
        counts.append(f"{to_2xx:,} that live rejects with 4xx it answers with 2xx")
    flipped = " and ".join(counts)
    if result is Result.PASS:
        sentence = f"it rejects the requests that live rejects{f' (but {flipped})' if flipped else ''}"
    elif not counts:
        sentence = f"none of {n:,} requests is rejected by one of the two only, too few to be sure of at most 1 point"
    else:
        sentence = f"of {n:,} requests, {flipped} (allowed {points(allowed)} each way)"
    return Finding(result, sentence, held.value, held.low, held.high, allowed, more)
