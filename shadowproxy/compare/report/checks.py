"""A report's figures to checks: each holds one figure of the shadow to what is allowed.

A check passes when the whole interval lies within what is allowed, fails when the whole of it lies outside, and is
inconclusive when it straddles the line; no data is never a pass. Shares are held by the confidence sequence, so that
looking at the report every hour does not find by chance what one look would not.

The rules that the checks share:

1. Pairs are the requests that live answered and that the shadow was really sent. An answer that is missing, unrelated,
   out of range or an error counts against the shadow, never for it.
2. What happens as often in live on the same requests is not held against the shadow: losses are net.
3. Every check names the place in the answers that it judged, and the route where only one route is meant.
"""

from collections.abc import Callable, Iterable
from dataclasses import dataclass, replace
from enum import StrEnum
from typing import Any, Final, Literal

from shadowproxy.compare.report.gates import Gates
from shadowproxy.compare.report.stats import anytime_difference, confidence_sequence
from shadowproxy.compare.report.words import change, milliseconds, number, percent, points

Figures = dict[str, Any]
Question = Literal["engineering", "outputs", "performance"]


class Result(StrEnum):
    PASS = "pass"
    FAIL = "fail"
    INCONCLUSIVE = "inconclusive"
    NO_DATA = "no data"


WORST_FIRST: Final = (Result.FAIL, Result.INCONCLUSIVE, Result.NO_DATA, Result.PASS)

FEWEST_PAIRS: Final = 50
"""Requests that live must have answered with a 2xx before anything is said of the shadow."""

_MOST_LOOKED: Final = 1_000_000_000
_NOISE: Final = 0.9
"""Live differs from itself so nearly as often as the shadow does from live that the two cannot be told apart."""


@dataclass(frozen=True, slots=True)
class Check:
    """One line of the verdict. `value`, `low` and `high` are in the unit that `allowed` is in; `more` requests, at the
    same rates, would settle an inconclusive one. `field` is the place in live's answers that was judged, and `route`
    the only route that the line is about, if it is not about all of them."""

    name: str
    question: Question
    result: Result
    said: str
    value: float | None = None
    low: float | None = None
    high: float | None = None
    allowed: float | None = None
    more: int | None = None
    field: str | None = None
    route: str | None = None


def checks_of(shadow: Figures, gates: Gates) -> list[Check]:
    """The checks of one shadow's figures, in the order of the report: each route's worst, where routes are judged."""
    hardly = _hardly_answered(shadow["pairs"])
    whole = _checks(shadow, gates)
    judged = [route for route in shadow.get("routes", ()) if route["gated"]]
    if len(judged) > 1 or (judged and judged[0].get("figures") is not None):
        by_route = [(route["route"], checks_of_route(route["figures"], gates)) for route in judged]
        # Losses of routes that are too small to be judged by themselves still count among all requests. What is only
        # known of values is not asked of all together: those of one route say nothing of another's.
        by_route.append(("", [each for each in whole if each.name in _OF_ALL]))
        whole = [_worst(name, by_route, whole) for name in dict.fromkeys(each.name for _, c in by_route for each in c)]
    return [*([hardly] if hardly is not None else []), *whole]


_OF_ALL: Final = ("answered", "structure", "errors", "flips", "slices")


def _worst(name: str, by_route: list[tuple[str, list[Check]]], pooled: list[Check]) -> Check:
    """The worst of the routes' checks of one name. Where all pass, what the pooled figures say is what is told."""
    rows = [(route, each) for route, checks in by_route for each in checks if each.name == name]
    route, worst = min(rows, key=lambda row: WORST_FIRST.index(row[1].result))
    if worst.result is Result.PASS:
        same = next((each for each in pooled if each.name == name and each.result is Result.PASS), None)
        return same if same is not None else replace(worst, route=route)
    if not route:
        return replace(worst, said=f"{worst.said}, of all routes together")
    return replace(worst, said=f"{worst.said}, on {route}", route=route)


def checks_of_route(figures: Figures, gates: Gates) -> list[Check]:
    """A route that live hardly answers (scanners, a route that is gone) can only be held to fail no more than live."""
    checks = _checks(figures, gates)
    if _hardly_answered(figures["pairs"]) is None:
        return checks
    return [each for each in checks if each.name in ("errors", "flips", "latency")]


def _checks(figures: Figures, gates: Gates) -> list[Check]:
    judged = judged_output(figures)
    labels = _labels(figures, judged, gates)
    decided = labels is not None and labels.result in (Result.PASS, Result.FAIL)
    found: Iterable[Check | None] = (
        _answered(figures, gates),
        _structure(figures, gates),
        _errors(figures, gates),
        _flips(figures, gates),
        _latency(figures["latency"], gates),
        None if decided else _related(figures, judged, gates),
        _range(figures, gates),
        _collapse(figures, gates),
        _drift(judged, gates),
        _agreement(figures, judged, gates),
        _unexplained(figures, judged, gates),
        _slices(figures, gates),
        labels,
    )
    return [each for each in found if each is not None]


def judged_output(figures: Figures) -> Figures | None:
    """The field that the answers are judged by: the first in the detector's order that has values."""
    return next((each for each in figures["outputs"] if each["pairs"]), None)


def agreement_of(figures: Figures) -> Figures | None:
    """How often the two agree: at the judged field, or else as whole answers without what is noise."""
    judged = judged_output(figures)
    if judged is not None:
        estimate: Figures | None = judged["agreement"]
        return estimate
    whole: Figures | None = figures["agreement"]["settled"] or figures["agreement"]["whole"]
    return whole


def came_twice(log: Figures) -> list[Check]:
    """Records that were read more than once count each time, and make every interval narrower than it is."""
    share = log["repeated_records"]
    if not share or share <= _TWICE:
        return []
    said = f"{percent(share)} of the records were read more than once and count each time: give every log only once"
    return [Check("records", "engineering", Result.INCONCLUSIVE, said, share, None, None, _TWICE)]


_TWICE: Final = 0.05
"""Records that may come more than once: those that deliver logs do so now and then."""


def _hardly_answered(pairs: Figures) -> Check | None:
    """Live itself must have answered: what two systems refuse alike says nothing of either."""
    n, good = pairs["n"], pairs["live_2xx"]
    if not n:
        return Check("live", "engineering", Result.NO_DATA, "no request that live answered was sent to the shadow")
    if good * 2 < n:
        said = f"live hardly answered: {good:,} of {n:,} requests have a 2xx from live, so there is little to hold to"
        return Check("live", "engineering", Result.NO_DATA, said, good / n, None, None, 0.5)
    if good < FEWEST_PAIRS:
        said = f"live answered only {good:,} requests with a 2xx so far; {FEWEST_PAIRS} are the least to judge by"
        return Check("live", "engineering", Result.NO_DATA, said, more=FEWEST_PAIRS - good)
    return None


# --- how much is enough ----------------------------------------------------------------------------------------------


def _lies(low: float, high: float, least: float | None, most: float | None) -> Result:
    """Where an interval lies: inside, outside or across what is allowed."""
    if (least is None or low >= least) and (most is None or high <= most):
        return Result.PASS
    if (least is not None and high < least) or (most is not None and low > most):
        return Result.FAIL
    return Result.INCONCLUSIVE


def _until(n: int, settled: Callable[[float], bool]) -> int | None:
    """How many more requests at the same rates settle a check: `settled` is asked for multiples of what there is."""
    times = 1.0
    while not settled(times):
        times *= 1.05
        if n * times > _MOST_LOOKED:
            return None
    return max(1, round(n * (times - 1)))


def _until_narrow(n: int, value: float, low: float, high: float, line: float) -> int | None:
    """The same for an interval whose width falls with the root of the number of requests."""
    gap, width = abs(value - line), max(high - value, value - low)
    if gap <= 0 or width <= 0:
        return None
    more = n * ((width / gap) ** 2 - 1)
    return round(more) if 0 < more < _MOST_LOOKED else None


def _anytime_share(estimate: Figures, times: float = 1.0) -> tuple[float, float]:
    n = estimate["n"] * times / max(1.0, estimate["design_effect"])
    return confidence_sequence(estimate["value"] * n, n)


def _net(
    figures: Figures, plus: str, minus: str, least: float | None, most: float | None
) -> tuple[Result, float, float, float, int | None]:
    """Where (plus - minus) / n lies, with how many more requests would tell."""
    n, difference = figures["n"], figures["difference"]
    effect = difference["design_effect"]

    def interval(times: float) -> tuple[float, float]:
        return anytime_difference(figures[plus] * times, figures[minus] * times, n * times, effect)

    low, high = interval(1.0)
    result = _lies(low, high, least, most)
    more = None
    if result is Result.INCONCLUSIVE:
        more = _until(n, lambda times: _lies(*interval(times), least, most) is not Result.INCONCLUSIVE)
    return result, difference["value"], low, high, more


def _at_most(estimate: Figures, most: float) -> tuple[Result, float, float, int | None]:
    """Where a share lies beside the most that is allowed."""
    low, high = _anytime_share(estimate)
    result = _lies(low, high, None, most)
    more = None
    if result is Result.INCONCLUSIVE:
        more = _until(
            estimate["n"],
            lambda times: _lies(*_anytime_share(estimate, times), None, most) is not Result.INCONCLUSIVE,
        )
    return result, low, high, more


def _not_counted(name: str, question: Question, figures: Figures) -> Check | None:
    """Of a summary saved by an earlier version, which did not count what the check needs."""
    why = figures.get("legacy")
    return Check(name, question, Result.NO_DATA, f"{name}: {why}") if why else None


# --- engineering -----------------------------------------------------------------------------------------------------


def _answered(figures: Figures, gates: Gates) -> Check | None:
    if gates.answered is None:
        return None
    judged = judged_output(figures)
    found = judged["answered"] if judged is not None and judged.get("answered") else figures.get("answered")
    place = judged["live_path"] if judged is not None else None
    if not found or not found["n"] or found["difference"] is None:
        return _not_counted("answered", "engineering", figures) or Check(
            "answered", "engineering", Result.NO_DATA, "live gave no answer that the shadow could be held to"
        )
    allowed = gates.answered
    result, value, low, high, more = _net(found, "gained", "lost", -allowed, None)
    lost, n = found["lost"], found["n"]
    why = ", ".join(f"{word} {count:,}" for word, count in list(found["missing"].items())[:4])
    unseen = _unseen(figures)
    if result is not Result.FAIL and unseen > allowed * n:
        # Whether there is an answer in what was not kept, nobody can say; live's to the same requests was kept.
        said = (
            f"of {unseen:,} of the shadow's answers the log has no whole body where it has live's, so nothing is known "
            "of them (log.body_limit)"
        )
        return Check("answered", "engineering", Result.INCONCLUSIVE, said, value, low, high, -allowed, None, place)
    if result is Result.PASS:
        said = f"the shadow answers where live does: {percent(lost / n)} of {n:,} are missing"
    elif not lost:
        said = f"no answer of {n:,} is missing so far, too few to be sure of at most {points(allowed)}"
    else:
        said = f"{percent(lost / n)} of {n:,} answers are missing where live has one (allowed {points(allowed)}): {why}"
    return Check("answered", "engineering", result, said, value, low, high, -allowed, more, place)


def _unseen(figures: Figures) -> int:
    """Answers of the shadow that were not kept whole, beside live's that were."""
    whys = figures["agreement"].get("incomparable", {})
    return sum(count for why, count in whys.items() if why.startswith("shadow: "))


def _structure(figures: Figures, gates: Gates) -> Check | None:
    if gates.structure is None:
        return None
    found = figures.get("structure")
    if not found or not found["n"]:
        return _not_counted("structure", "engineering", figures)  # live's answers have no structure to hold to
    share = found["share"]
    result, low, high, more = _at_most(share, gates.structure)
    places = ", ".join(each["path"] or "the whole answer" for each in found["places"][:3])
    if result is Result.PASS:
        said = f"its answers have what live's always have ({percent(found['lost'] / found['n'])} lack some of it)"
    elif not found["lost"]:
        said = (
            f"no answer of {found['n']:,} lacks what live's always have so far, "
            f"too few to be sure of at most {points(gates.structure)}"
        )
    else:
        said = (
            f"{percent(share['value'])} of its answers lack what live's always have "
            f"(allowed {points(gates.structure)}): {places}"
        )
    return Check("structure", "engineering", result, said, share["value"], low, high, gates.structure, more)


def _errors(figures: Figures, gates: Gates) -> Check | None:
    if gates.errors is None:
        return None
    found = figures.get("errors")
    if not found or not found["n"] or found["difference"] is None:
        return _not_counted("errors", "engineering", figures) or Check(
            "errors", "engineering", Result.NO_DATA, "no request that live answered was sent to the shadow"
        )
    result, value, low, high, more = _net(found, "shadow_only", "live_only", None, gates.errors)
    live, shadow = found["live"]["value"], found["shadow"]["value"]
    if result is Result.PASS:
        said = f"it fails no more than live: {percent(shadow)} beside {percent(live)}"
    elif not found["shadow_only"]:
        said = (
            f"no answer of {found['n']:,} failed where live's did not, "
            f"too few to be sure of at most {points(gates.errors)} more"
        )
    else:
        reasons = found["reasons"]["shadow"]
        why = f", mostly: {reasons[0]['reason']}" if reasons else ""
        said = (
            f"{percent(shadow)} of its answers failed, {percent(live)} of live's "
            f"(allowed {points(gates.errors)} more){why}"
        )
    if result is Result.PASS and (unseen := _failed_where_callers_left(found, gates.errors)) is not None:
        result, said = Result.INCONCLUSIVE, unseen
    return Check("errors", "engineering", result, said, value, low, high, gates.errors, more)


def _failed_where_callers_left(found: Figures, allowed: float) -> str | None:
    """Failures on requests whose callers left before live answered, where they are too many to be left out of sight.

    They cannot fail the check, as nobody knows what live would have said: what is slow in both makes callers leave and
    the shadow run into its deadline.
    """
    unanswered = found["unanswered"]
    failed, begun = unanswered["shadow_failed"], unanswered["begun"]
    effect = max(1.0, found["difference"]["design_effect"])
    if not failed or confidence_sequence(failed / effect, begun / effect)[0] <= allowed:
        return None
    return (
        f"the shadow failed on {failed:,} of the {unanswered['n']:,} requests whose callers left before live answered, "
        "where there is nothing to hold it to"
    )


def _flips(figures: Figures, gates: Gates) -> Check | None:
    """Turned one way more than the other is a difference of the two; as often both ways it may be chance in both."""
    if gates.flips is None:
        return None
    found = figures.get("flips")
    if not found or not found["n"]:
        return _not_counted("flips", "engineering", figures)
    n, allowed = found["n"], gates.flips
    net = {
        "n": n,
        "difference": found["net"]["difference"],
        "to_4xx": found["to_4xx"]["count"],
        "to_2xx": found["to_2xx"]["count"],
    }
    result, value, low, high, more = _net(net, "to_4xx", "to_2xx", -allowed, allowed)
    ways = [_at_most(found[way]["share"], allowed) for way in ("to_4xx", "to_2xx")]
    if result is Result.PASS and any(each[0] is not Result.PASS for each in ways):
        result, more = Result.INCONCLUSIVE, max((each[3] for each in ways if each[3] is not None), default=None)
    counts = []
    if net["to_4xx"]:
        counts.append(f"{net['to_4xx']:,} that live answered with 2xx it rejects with 4xx")
    if net["to_2xx"]:
        counts.append(f"{net['to_2xx']:,} that live rejects with 4xx it answers with 2xx")
    told = " and ".join(counts)
    if result is Result.PASS:
        said = f"it rejects the requests that live rejects{f' (but {told})' if told else ''}"
    elif not counts:
        said = f"none of {n:,} requests is rejected by one of the two only, too few to be sure of at most 1 point"
    else:
        said = f"of {n:,} requests, {told} (allowed {points(allowed)} each way)"
    return Check("flips", "engineering", result, said, value, low, high, allowed, more)


def _latency(latency: Figures, gates: Gates) -> Check | None:
    if gates.p99_ratio is None:
        return None
    ratio = latency["ratio"]["p99"]
    if ratio is None:
        return Check("latency", "engineering", Result.NO_DATA, "no request has a time from both")
    value, low, high = ratio["value"], ratio["low"], ratio["high"]
    lives, shadows = latency["live"]["p99"], latency["shadow"]["p99"]
    bound = "≥ " if "p99" in latency["at_least"] else ""
    said = (
        f"p99 latency {bound}{milliseconds(shadows)} against {milliseconds(lives)} ms ({bound}{change(value)}, "
        f"allowed {change(gates.p99_ratio)})"
    )
    if low is None or high is None:
        said += "; the log spans too little time to say how sure that is"
        return Check("latency", "engineering", Result.INCONCLUSIVE, said, value, None, None, gates.p99_ratio)
    result = _lies(low, high, None, gates.p99_ratio)
    more = None
    if result is Result.INCONCLUSIVE:
        more = _until_narrow(ratio["n"] // 2, value, low, high, gates.p99_ratio)
    return Check("latency", "engineering", result, said, value, low, high, gates.p99_ratio, more)


# --- outputs ---------------------------------------------------------------------------------------------------------


def _place(output: Figures) -> str:
    return output["live_path"] or "the answer"


def _related(figures: Figures, judged: Figures | None, gates: Gates) -> Check | None:
    if gates.related is None or judged is None:
        return None
    found = judged.get("related")
    if found is None:
        return _not_counted("related", "outputs", figures)
    if not found["judged"] or found["value"] is None:
        return None
    value, low, high = found["value"], found["low"], found["high"]
    place = judged["live_path"]
    if low is None or high is None:
        result, low, high = Result.INCONCLUSIVE, None, None
    elif high < gates.related:
        result = Result.FAIL
    else:
        result = Result.PASS if low > gates.related else Result.INCONCLUSIVE
    if result is Result.PASS:
        said = f"the two answers to a request belong together: relatedness {value:.2f} of 1 at {_place(judged)}"
    else:
        said = (
            f"the shadow's answers are hardly related to live's at {_place(judged)}: relatedness {value:.2f} of 1 "
            f"(above {gates.related:g} needed; answers paired at random have 0)"
        )
    if result is Result.FAIL and _live_differs_as_much(figures, judged):
        result, said = Result.INCONCLUSIVE, f"{said}; live's own answers to equal requests are no more alike"
    more = None
    if result is Result.INCONCLUSIVE and low is not None and high is not None:
        more = _until_narrow(found["n"], value, low, high, gates.related)
    return Check("related", "outputs", result, said, value, low, high, gates.related, more, place)


def _live_differs_as_much(figures: Figures, judged: Figures) -> bool:
    """Whether live, asked the same again, differs from itself about as often as the shadow differs from live."""
    agreement = judged["agreement"]
    if agreement is None:
        return False
    high = agreement["high"] if agreement["high"] is not None else agreement["value"]
    differing = _NOISE * (1 - high)
    repeats, control = figures["repeats"], figures["control"]
    if repeats is not None and repeats["differing"] >= differing > 0:
        return True
    return bool(control is not None and control["live_differs"] and control["live_differs"]["value"] >= differing > 0)


def _range(figures: Figures, gates: Gates) -> Check | None:
    """Of all fields of numbers the one with most answers outside: a unit may be wrong beside a sound class."""
    allowed = gates.outside
    if allowed is None:
        return None
    rows = [(each, each["range"]) for each in figures["outputs"] if each["pairs"] and each.get("range")]
    if not rows:
        return _not_counted("range", "outputs", figures) if judged_output(figures) is not None else None
    judged = [(output, found, *_at_most(found["share"], allowed)) for output, found in rows]
    output, found, result, low, high, more = min(judged, key=lambda row: WORST_FIRST.index(row[2]))
    of = f"{number(found['low'])} to {number(found['high'])}"
    whose = "the range given" if found["given"] else "live's range, widened by its own width"
    if result is Result.PASS:
        said = f"{_place(output)} stays within {whose} ({of})"
    elif not found["outside"]:
        said = f"none of {found['share']['n']:,} answers leaves {whose} so far, too few to be sure"
    else:
        said = (
            f"{percent(found['share']['value'])} of the answers at {_place(output)} lie outside {whose} ({of}): "
            f"from {number(found['smallest'])} to {number(found['largest'])} (allowed {percent(allowed)})"
        )
    return Check(
        "range", "outputs", result, said, found["share"]["value"], low, high, allowed, more, output["live_path"]
    )


def _collapse(figures: Figures, gates: Gates) -> Check | None:
    if not gates.collapse:
        return None
    judged = judged_output(figures)
    if judged is None:
        return _whole_answers(figures, gates)
    for each in figures["outputs"]:
        if each["collapse"]:
            said = f"the shadow's answers have collapsed at {each['shadow_path'] or 'the answer'}: {each['collapse']}"
            return Check("collapse", "outputs", Result.FAIL, said, field=each["live_path"])
    said = f"answers vary as live's do at {_place(judged)}"
    return Check("collapse", "outputs", Result.PASS, said, field=judged["live_path"])


def _whole_answers(figures: Figures, gates: Gates) -> Check:
    """Answers without a field to judge them by can only be vouched for by being the same."""
    if figures["outputs"]:
        place = figures["outputs"][0]["live_path"] or "the answer"
        return Check("collapse", "outputs", Result.NO_DATA, f"live has no answer at {place}, which was named")
    estimate = agreement_of(figures)
    if estimate is not None and _anytime_share(estimate)[0] >= 1 - (gates.unexplained or 0.05):
        return Check("collapse", "outputs", Result.PASS, f"{percent(estimate['value'])} of whole answers are the same")
    return Check("collapse", "outputs", Result.NO_DATA, "no field was found that holds the answer; name it by --field")


def _drift(judged: Figures | None, gates: Gates) -> Check | None:
    if gates.drift is None or judged is None:
        return None
    drift, place = judged["drift"], judged["live_path"]
    distance = drift["jensen_shannon"]
    if distance is None:
        why = drift.get("why") or f"{_place(judged)} has no values in both arms"
        return Check("drift", "outputs", Result.NO_DATA, f"how it is spread cannot be compared: {why}", field=place)
    value, low, high = distance["value"], distance["low"], distance["high"]
    if value <= gates.drift and (high is None or high <= gates.drift):
        said = f"{_place(judged)} is spread as live's: distance {value:.3f}"
        return Check("drift", "outputs", Result.PASS, said, value, low, high, gates.drift, field=place)
    said = f"{_place(judged)} is spread differently: distance {value:.3f} of 1 (allowed {gates.drift:g})"
    # With no change at all the distance is above 0, and the more so the fewer requests there are for each cell.
    missing = FEWEST_PER_CELL * drift["cells"] - drift["effective"]
    if missing <= 0 and low is not None and low > gates.drift:
        return Check("drift", "outputs", Result.FAIL, said, value, low, high, gates.drift, field=place)
    more = round(missing) if missing > 0 else None
    if more is None and low is not None and high is not None:
        more = _until_narrow(distance["n"] // 2, value, low, high, gates.drift)
    return Check("drift", "outputs", Result.INCONCLUSIVE, said, value, low, high, gates.drift, more, place)


FEWEST_PER_CELL: Final = 50
"""Independent requests for each cell of the distribution before its drift can fail."""


def _agreement(figures: Figures, judged: Figures | None, gates: Gates) -> Check | None:
    if gates.min_agreement is None:
        return None
    estimate = agreement_of(figures)
    place = judged["live_path"] if judged is not None else None
    if estimate is None:
        return Check("agreement", "outputs", Result.NO_DATA, "nothing could be compared")
    least = gates.min_agreement
    low, high = _anytime_share(estimate)
    result = _lies(low, high, least, None)
    more = None
    if result is Result.INCONCLUSIVE:
        more = _until(
            estimate["n"],
            lambda times: _lies(*_anytime_share(estimate, times), least, None) is not Result.INCONCLUSIVE,
        )
    at = f" at {_place(judged)}" if judged is not None else ""
    said = f"{percent(estimate['value'])} of answers agree{at} (at least {percent(least)} asked)"
    if result is Result.INCONCLUSIVE and estimate["value"] >= least:
        said = f"{percent(estimate['value'])} of answers agree{at}, too few to be sure of the {percent(least)} asked"
    return Check("agreement", "outputs", result, said, estimate["value"], low, high, least, more, place)


def _unexplained(figures: Figures, judged: Figures | None, gates: Gates) -> Check | None:
    """What differs needs somebody to say who is right: a label, or a share of agreement that is enough."""
    if gates.unexplained is None or gates.min_agreement is not None or _has_labels(judged):
        return None
    estimate = agreement_of(figures)
    if estimate is None:
        return None
    place = judged["live_path"] if judged is not None else None
    differing = {**estimate, "value": 1 - estimate["value"]}
    result, low, high, more = _at_most(differing, gates.unexplained)
    share = percent(differing["value"])
    if result is Result.PASS:
        said = f"{share} of answers differ"
        return Check(
            "unexplained", "outputs", result, said, differing["value"], low, high, gates.unexplained, field=place
        )
    if differing["value"] > gates.unexplained:
        # That so many differ is no fault: a better model must. More requests would not say who is right.
        said = (
            f"{share} of answers differ and nothing here says who is right: "
            "give --labels, --min-agreement, or `unexplained: null` in a gates file"
        )
        more = None
    else:
        said = f"{share} of answers differ so far, too few to be sure of at most {percent(gates.unexplained)}"
    return Check(
        "unexplained",
        "outputs",
        Result.INCONCLUSIVE,
        said,
        differing["value"],
        low,
        high,
        gates.unexplained,
        more,
        place,
    )


def _slices(figures: Figures, gates: Gates) -> Check | None:
    if gates.slices is None:
        return None
    if (old := _not_counted("slices", "outputs", figures)) is not None:
        return old
    if not figures["pairs"]["n"]:
        return Check("slices", "outputs", Result.NO_DATA, "no request that live answered was sent to the shadow")
    failing = [row for row in figures["slices"] if row.get("fails")]
    if not failing:
        return Check("slices", "outputs", Result.PASS, "no part of the requests loses more answers than is allowed")
    row = max(failing, key=lambda row: max(row["lost"]["points"], row["errors"]["points"]))
    lost = row["lost"]["points"] >= row["errors"]["points"]
    worst = row["lost"] if lost else row["errors"]
    what = "are missing" if lost else "fail"
    said = (
        f"where {row['path']} is {row['value']}, {percent(worst['points'])} of {row['requests']:,} answers {what} "
        f"beyond live's (allowed {points(gates.slices)} in any part)"
    )
    return Check(
        "slices", "outputs", Result.FAIL, said, worst["points"], worst["low"], None, gates.slices, field=row["path"]
    )


# --- performance -----------------------------------------------------------------------------------------------------


def _has_labels(judged: Figures | None) -> bool:
    return judged is not None and judged["labels"] is not None and judged["labels"]["labelled"] > 0


def _labels(figures: Figures, judged: Figures | None, gates: Gates) -> Check | None:
    if gates.accuracy_loss is None:
        return None
    supplied = figures.get("labels_supplied") or 0
    labels = judged["labels"] if judged is not None else None
    if labels is None or not (labels["labelled"] or labels["uneven"]):
        if not supplied:
            return None
        said = f"0 of {supplied:,} labels matched a request that could be judged"
        return Check("labels", "performance", Result.NO_DATA, said)
    place = judged["live_path"] if judged is not None else None
    difference, live, shadow = labels["difference"], labels["live"], labels["shadow"]
    uneven = ""
    if labels["uneven"]:
        uneven = f"{labels['uneven']:,} requests have more or fewer labels than their answers have rows"
    if difference is None or live is None or shadow is None:
        said = f"{uneven}: give `row`, or a list of labels" if uneven else "no label could be held against an answer"
        return Check("labels", "performance", Result.NO_DATA, said, field=place)
    value = difference["value"]
    n = labels["labelled"]
    how_many = f"{n:,} of {supplied:,} labels" if n < supplied else f"{n:,} labels"
    if uneven:
        how_many += f" ({uneven}, and are left out)"
    if labels["measure"] == "accuracy":
        line = -gates.accuracy_loss
        found = {
            "n": n,
            "difference": difference,
            "plus": labels["shadow_only"],
            "minus": labels["live_only"],
        }
        result, value, low, high, more = _net(found, "plus", "minus", line, None)
        said = (
            f"accuracy: shadow {percent(shadow['value'])}, live {percent(live['value'])} ({value * 100:+.2f} points) "
            f"on {how_many}"
        )
        return Check("labels", "performance", result, said, value, low, high, line, more, place)
    low, high, line = difference["low"], difference["high"], gates.accuracy_loss * live["value"]
    said = f"mean absolute error: shadow {number(shadow['value'])}, live {number(live['value'])} on {how_many}"
    result = Result.INCONCLUSIVE if low is None or high is None else _lies(low, high, None, line)
    answered = _answered(figures, replace(gates, answered=gates.answered or 0.005))
    if result is Result.PASS and answered is not None and answered.result is not Result.PASS:
        # Of a missing answer there is no error to be averaged: an error of those that are left says too little.
        result, said = Result.INCONCLUSIVE, f"{said}, which leaves out what is missing: {answered.said}"
        return Check("labels", "performance", result, said, value, low, high, line, None, place)
    more = None
    if result is Result.INCONCLUSIVE and low is not None and high is not None:
        more = _until_narrow(difference["n"], value, low, high, line)
    return Check("labels", "performance", result, said, value, low, high, line, more, place)
