"""A report's figures to checks, and checks to one sentence: can the shadow be promoted, and if not, why not?

A check passes when the whole interval lies within what is allowed, fails when the whole of it lies outside, and is
inconclusive when it straddles the line; no data is never a pass. Shares are held by the confidence sequence, so that
looking at the report every hour does not find by chance what one look would not.
"""

from collections.abc import Mapping
from dataclasses import dataclass, fields
from enum import StrEnum
from pathlib import Path
from typing import Any, Final, Literal

from shadowproxy.compare.stats import confidence_sequence

Figures = dict[str, Any]
Question = Literal["engineering", "outputs", "performance"]


class Result(StrEnum):
    PASS = "pass"
    FAIL = "fail"
    INCONCLUSIVE = "inconclusive"
    NO_DATA = "no data"


class GateError(Exception):
    """A file of gates that cannot be used. The text is one line."""


@dataclass(frozen=True, slots=True)
class Gates:
    """What is allowed. None takes a check away; `min_agreement` has none unless asked, as a better model must differ.

    success_loss: points (of 1) that the shadow's share of 2xx may lie below live's. json: least share of valid JSON.
    p99_ratio: shadow's p99 by live's. drift: Jensen-Shannon distance. accuracy_loss: points below live against labels;
    for numbers, the part by which the mean absolute error may grow.
    """

    success_loss: float | None = 0.005
    json: float | None = 0.999
    p99_ratio: float | None = 1.2
    drift: float | None = 0.1
    collapse: bool = True
    accuracy_loss: float | None = 0.005
    min_agreement: float | None = None


@dataclass(frozen=True, slots=True)
class Check:
    """One line of the verdict. `value`, `low` and `high` are in the unit that `allowed` is in; `more` requests, at the
    same rates, would settle an inconclusive one."""

    name: str
    question: Question
    result: Result
    said: str
    value: float | None = None
    low: float | None = None
    high: float | None = None
    allowed: float | None = None
    more: int | None = None


_FEWEST_FOR_DRIFT: Final = 1000
_COVERED: Final = 0.95
_ORDER: Final = (Result.FAIL, Result.INCONCLUSIVE, Result.NO_DATA, Result.PASS)
_HEADLINES: Final[Mapping[Result, str]] = {
    Result.PASS: "READY",
    Result.FAIL: "NOT READY",
    Result.INCONCLUSIVE: "NOT SURE YET",
    Result.NO_DATA: "NO DATA",
}


def load_gates(path: str | Path) -> Gates:
    """Gates from a YAML file whose keys are those of `Gates`. Raises GateError."""
    import yaml  # only here: it takes 9 ms to load

    try:
        raw = yaml.safe_load(Path(path).read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError) as error:
        raise GateError(f"cannot read {path}: {getattr(error, 'strerror', None) or error}") from error
    except yaml.YAMLError as error:
        raise GateError(f"{path}: not YAML: {' '.join(str(error).split()):.120}") from error
    known = {each.name for each in fields(Gates)}
    if not isinstance(raw, dict):
        raise GateError(f"{path}: a mapping is needed, of {', '.join(sorted(known))}")
    for key, value in raw.items():
        if key not in known:
            raise GateError(f"{path}: unknown key {key!r}; there are {', '.join(sorted(known))}")
        if key == "collapse":
            if not isinstance(value, bool):
                raise GateError(f"{path}: collapse is true or false")
        elif value is not None and (isinstance(value, bool) or not isinstance(value, int | float) or not value >= 0):
            raise GateError(f"{path}: {key} is a number of at least 0, or null")
    return Gates(**raw)


def checks_of(shadow: Figures, gates: Gates) -> list[Check]:
    """The checks of one shadow's figures, in the order of the report."""
    found = [_success(shadow["success"], gates), _json(shadow["json"], gates), _latency(shadow["latency"], gates)]
    primary = next((each for each in shadow["outputs"] if each["pairs"]), None)
    found.append(_collapse(shadow["outputs"], gates))
    found.append(_drift(primary, gates))
    found.append(_agreement(shadow, primary, gates))
    found.append(_labels(primary, gates))
    return [each for each in found if each is not None]


def verdict_of(shadow: Figures, checks: list[Check]) -> Figures:
    """The verdict: a word, a sentence with the worst reasons, one result for each question, and what to be wary of."""
    worst = next((result for result in _ORDER if any(each.result is result for each in checks)), Result.NO_DATA)
    questions = {
        question: str(
            next(
                (
                    result
                    for result in _ORDER
                    if any(each.result is result for each in checks if each.question == question)
                ),
                Result.NO_DATA,
            )
        )
        for question in ("engineering", "outputs", "performance")
    }
    reasons = [each.said for each in checks if each.result is worst and worst is not Result.PASS]
    where = _where(shadow)
    if worst is Result.PASS:
        sentence = "every check passes"
        if questions["performance"] == Result.NO_DATA:
            sentence += "; whether its answers are better cannot be said without labels"
    else:
        sentence = "; ".join(reasons[:3])
    disagreement = _disagreement(shadow)
    if disagreement:
        sentence += f"; {disagreement}{where}"
    return {
        "result": str(worst),
        "headline": _HEADLINES[worst],
        "sentence": sentence,
        "questions": questions,
        "warnings": _warnings(shadow),
    }


def decided(over_time: list[Figures], line: float | None) -> Figures:
    """The first block of time from which on the agreement was known to lie above or below `line`, if there is one."""
    rows = [row for row in over_time if row["so_far"] is not None]
    at = None
    if line is not None:
        at = next((at for at, row in enumerate(rows) if row["low"] >= line or row["high"] < line), None)
    return {"line": line, "at": at}


def _within(value: float, low: float, high: float, least: float | None, most: float | None) -> Result:
    """Where an interval lies: inside, outside or across what is allowed."""
    if (least is None or low >= least) and (most is None or high <= most):
        return Result.PASS
    if (least is not None and high < least) or (most is not None and low > most):
        return Result.FAIL
    return Result.INCONCLUSIVE


def _more(n: int, value: float, low: float, high: float, line: float) -> int | None:
    """How many more requests bring the line out of the interval, which narrows with the root of their number."""
    gap = abs(value - line)
    width = max(high - value, value - low)
    if gap <= 0 or width <= 0:
        return None
    more = n * ((width / gap) ** 2 - 1)
    return round(more) if 0 < more < 1e9 else None


def _until_sure(n: int, least: float) -> int | None:
    """How many more faultless requests bring the lower end of n of n up to `least`."""
    size = n
    while confidence_sequence(size, size)[0] < least:
        size = size * 5 // 4 + 1
        if size > 1e9:
            return None
    return size - n


def _success(success: Figures, gates: Gates) -> Check | None:
    if gates.success_loss is None:
        return None
    difference = success["difference"]
    if difference is None:
        return Check("success", "engineering", Result.NO_DATA, "no request was sent to the shadow")
    value, (low, high), line = difference["value"], success["anytime"], -gates.success_loss
    result = _within(value, low, high, line, None)
    live, shadow = success["live"]["value"], success["shadow"]["value"]
    said = (
        f"2xx answers: shadow {_percent(shadow)}, live {_percent(live)} ({_points(value)} points, "
        f"allowed {_points(line)})"
    )
    more = _more(difference["n"], value, low, high, line) if result is Result.INCONCLUSIVE else None
    return Check("success", "engineering", result, said, value, low, high, line, more)


def _json(estimate: Figures | None, gates: Gates) -> Check | None:
    if gates.json is None or estimate is None:
        return None  # live does not answer in JSON: no format to hold the shadow to
    low, high = _anytime(estimate)
    result = _within(estimate["value"], low, high, gates.json, None)
    said = f"valid JSON where live's is: {_percent(estimate['value'])} (at least {_percent(gates.json)})"
    more = _more(estimate["n"], estimate["value"], low, high, gates.json) if result is Result.INCONCLUSIVE else None
    if result is Result.INCONCLUSIVE and estimate["value"] == 1:
        more = _until_sure(estimate["n"], gates.json)
    return Check("json", "engineering", result, said, estimate["value"], low, high, gates.json, more)


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
        f"p99 latency {bound}{_ms(shadows)} against {_ms(lives)} ms ({bound}{_change(value)}, "
        f"allowed {_change(gates.p99_ratio)})"
    )
    if low is None or high is None:
        return Check("latency", "engineering", Result.INCONCLUSIVE, said, value, None, None, gates.p99_ratio)
    result = _within(value, low, high, None, gates.p99_ratio)
    more = _more(ratio["n"] // 2, value, low, high, gates.p99_ratio) if result is Result.INCONCLUSIVE else None
    return Check("latency", "engineering", result, said, value, low, high, gates.p99_ratio, more)


def _collapse(outputs: list[Figures], gates: Gates) -> Check | None:
    if not gates.collapse:
        return None
    if not any(each["pairs"] for each in outputs):
        return Check("collapse", "outputs", Result.NO_DATA, "no field was found that holds the answer")
    for each in outputs:
        if each["collapse"]:
            said = f"{each['shadow_path'] or 'the answer'} has collapsed: {each['collapse']}"
            return Check("collapse", "outputs", Result.FAIL, said)
    return Check("collapse", "outputs", Result.PASS, "answers vary as live's do")


def _drift(primary: Figures | None, gates: Gates) -> Check | None:
    if gates.drift is None or primary is None:
        return None
    distance = primary["drift"]["jensen_shannon"]
    place = primary["live_path"] or "the answer"
    if distance is None:
        return Check("drift", "outputs", Result.NO_DATA, f"{place} has no values in both arms")
    value, low, high = distance["value"], distance["low"], distance["high"]
    said = f"{place} is spread differently: distance {value:.3f} of 1 (allowed {gates.drift:g})"
    if value <= gates.drift and (high is None or high <= gates.drift):
        return Check(
            "drift",
            "outputs",
            Result.PASS,
            f"{place} is spread as live's: distance {value:.3f}",
            value,
            low,
            high,
            gates.drift,
        )
    # With no change at all this distance is .35 at 100 requests and .1 at 1000: it is always above 0.
    if primary["drift"]["effective"] >= _FEWEST_FOR_DRIFT and low is not None and low > gates.drift:
        return Check("drift", "outputs", Result.FAIL, said, value, low, high, gates.drift)
    more = max(0, round(_FEWEST_FOR_DRIFT - primary["drift"]["effective"])) or None
    return Check("drift", "outputs", Result.INCONCLUSIVE, said, value, low, high, gates.drift, more)


def _agreement(shadow: Figures, primary: Figures | None, gates: Gates) -> Check | None:
    if gates.min_agreement is None:
        return None
    estimate = (
        primary["agreement"] if primary is not None else shadow["agreement"]["settled"] or shadow["agreement"]["whole"]
    )
    if estimate is None:
        return Check("agreement", "outputs", Result.NO_DATA, "nothing could be compared")
    low, high = _anytime(estimate)
    result = _within(estimate["value"], low, high, gates.min_agreement, None)
    said = f"{_percent(estimate['value'])} of answers agree (at least {_percent(gates.min_agreement)})"
    more = _more(estimate["n"], estimate["value"], low, high, gates.min_agreement)
    return Check(
        "agreement",
        "outputs",
        result,
        said,
        estimate["value"],
        low,
        high,
        gates.min_agreement,
        more if result is Result.INCONCLUSIVE else None,
    )


def _labels(primary: Figures | None, gates: Gates) -> Check | None:
    labels = primary["labels"] if primary is not None else None
    if labels is None or gates.accuracy_loss is None:
        return None
    difference, live, shadow = labels["difference"], labels["live"], labels["shadow"]
    if difference is None or live is None or shadow is None:
        return None
    value = difference["value"]
    if labels["measure"] == "accuracy":
        (low, high), line = labels["anytime"], -gates.accuracy_loss
        said = f"accuracy: shadow {_percent(shadow['value'])}, live {_percent(live['value'])} ({_points(value)} points)"
        result = _within(value, low, high, line, None)
    else:
        low, high, line = difference["low"], difference["high"], gates.accuracy_loss * live["value"]
        said = f"mean absolute error: shadow {shadow['value']:.4g}, live {live['value']:.4g}"
        result = Result.INCONCLUSIVE if low is None else _within(value, low, high, None, line)
    more = _more(difference["n"], value, low, high, line) if result is Result.INCONCLUSIVE and low is not None else None
    return Check("labels", "performance", result, said, value, low, high, line, more)


def _anytime(estimate: Figures) -> tuple[float, float]:
    n = estimate["n"] / max(1.0, estimate["design_effect"])
    return confidence_sequence(estimate["value"] * n, n)


def _disagreement(shadow: Figures) -> str:
    primary = next((each for each in shadow["outputs"] if each["pairs"]), None)
    if primary is not None:
        estimate = primary["agreement"]
    else:
        estimate = shadow["agreement"]["settled"] or shadow["agreement"]["whole"]
    if estimate is None or estimate["value"] == 1:
        return ""
    return f"{_percent(1 - estimate['value'])} of answers differ"


def _where(shadow: Figures) -> str:
    """The slice with most of the disagreement, if one stands out."""
    for row in shadow["slices"]:
        if row["significant"] and row["share_of_all"] >= 0.3 and row["lift"] >= 1.5:
            place = row["path"].rpartition("/")[2] or row["path"]
            return f", {row['share_of_all'] * 100:.0f} % of them where {place} is {row['value']}"
    return ""


def _warnings(shadow: Figures) -> list[str]:
    found = []
    coverage = shadow["coverage"]
    if coverage["share"] is not None and coverage["share"] < _COVERED:
        found.append(
            f"only {_percent(coverage['share'])} of the chosen requests were answered by both: what is missing is "
            "seldom a fair sample (load drops the busy hours), so all that follows holds for what was answered"
        )
    for arm, count in shadow["repeated_keys"].items():
        if count:
            have = "1 answer of {} has" if count == 1 else f"{count:,} answers of {{}} have"
            found.append(f"{have.format(arm)} a key twice; the last one counts")
    for each in shadow["outputs"]:
        for arm in ("live", "shadow"):
            for word, count in each["odd"][arm].items():
                found.append(f"{each[f'{arm}_path']} of {arm} is {word} {count:,} time{'' if count == 1 else 's'}")
    return found


def _percent(share: float) -> str:
    text = f"{share * 100:.1f}" if 0.01 <= share <= 0.99 else f"{share * 100:.2f}"
    if share < 1 and float(text) == 100:
        return "> 99.99 %"
    return f"{text.removesuffix('.00').removesuffix('.0')} %"


def _points(value: float) -> str:
    return f"{value * 100:+.2f}"


def _ms(value: float) -> str:
    return f"{value:,.0f}" if value >= 100 else f"{value:.3g}"


def _change(ratio: float) -> str:
    return f"{(ratio - 1) * 100:+.0f} %"
