"""From checks to one word, one sentence and a result for each of the three questions.

The word is the worst result of any check. READY says nothing that the checks did not: where answers differ and no label
says who is right, the check `unexplained` withholds it.
"""

from collections.abc import Mapping
from typing import Final

from shadowproxy.compare.report.checks.check import WORST_FIRST, Check, Result
from shadowproxy.compare.report.figures.types import Decision, Moment, PairFigures, Question, Verdict
from shadowproxy.compare.report.judged import agreement_of, judged_output
from shadowproxy.compare.report.words import about, percent, requests, where_part

HEADLINES: Final[Mapping[Result, str]] = {
    Result.PASS: "READY",
    Result.FAIL: "NOT READY",
    Result.INCONCLUSIVE: "NOT SURE YET",
    Result.NO_DATA: "NO DATA",
}
_MOST_REASONS: Final = 3
_COVERED: Final = 0.95
_OFTEN: Final = 0.5


def result_of(checks: list[Check]) -> Result:
    """The worst result of any check. NO DATA comes first where live hardly answered: then no other result is sure.

    Where labels say how good the answers are, a distribution that cannot be compared does not withhold READY.
    """
    if any(check.name == "live" for check in checks):
        return Result.NO_DATA
    labelled = any(check.name == "labels" and check.result is Result.PASS for check in checks)
    counted = [c for c in checks if not (labelled and c.name == "drift" and c.result is Result.NO_DATA)]
    return next((result for result in WORST_FIRST if any(each.result is result for each in counted)), Result.NO_DATA)


def verdict_of(figures: PairFigures, checks: list[Check]) -> Verdict:
    """The verdict: a word, a sentence with the worst reasons, one result for each question, and the warnings."""
    result = result_of(checks)
    performance = _result_of_question("performance", checks, result)
    return {
        "result": result.word,
        "headline": HEADLINES[result],
        "sentence": _sentence(figures, checks, result, labelled=performance is not Result.NO_DATA),
        "questions": {
            "engineering": _result_of_question("engineering", checks, result).word,
            "outputs": _result_of_question("outputs", checks, result).word,
            "performance": performance.word,
        },
        "warnings": _warnings(figures),
    }


def _result_of_question(question: Question, checks: list[Check], whole: Result) -> Result:
    own = [check for check in checks if check.question == question]
    if whole is Result.NO_DATA and any(check.name == "live" for check in checks):
        return Result.NO_DATA
    return result_of(own) if own else Result.NO_DATA


def _sentence(figures: PairFigures, checks: list[Check], result: Result, *, labelled: bool) -> str:
    reasons = [check for check in checks if check.result is result]
    if result is Result.PASS:
        better = "" if labelled else "; whether its answers are better cannot be said without labels or a judge"
        return f"every check passes{better}"
    if result is Result.NO_DATA:
        first = [check for check in reasons if check.name == "live"] or reasons
        return "; ".join(check.sentence for check in first[:_MOST_REASONS]) or "nothing was counted to judge it by"
    if result is Result.INCONCLUSIVE:
        return _what_is_missing(figures, reasons)
    sentence = "; ".join(check.sentence for check in reasons[:_MOST_REASONS])
    if len(reasons) > _MOST_REASONS:
        sentence += f"; and {len(reasons) - _MOST_REASONS} more checks fail"
    return sentence + _where(figures)


def _what_is_missing(figures: PairFigures, reasons: list[Check]) -> str:
    """What an undecided report waits for: a number of requests for each check that they settle, else its own words."""
    waiting = sorted((check for check in reasons if check.more), key=lambda check: -(check.more or 0))
    sentences = [check.sentence for check in reasons if not check.more][:_MOST_REASONS]
    if waiting:
        needs = ", ".join(
            f"{check.name} needs about {about(check.more or 0)} more" for check in waiting[:_MOST_REASONS]
        )
        sentences.insert(0, f"{requests(figures['pairs']['n'])} so far; {needs}")
    return "; ".join(sentences)


def _where(figures: PairFigures) -> str:
    """How much differs and the part of the requests with most of it, if one stands out."""
    estimate = agreement_of(figures)
    if estimate is None or estimate["value"] == 1:
        return ""
    differs = f"; {percent(1 - estimate['value'])} of answers differ"
    for row in figures["slices"]:
        if row["significant"] and row["share_of_all"] >= 0.3 and row["lift"] >= 1.5:
            place = next((name for name in reversed(row["path"].split("/")) if name not in ("", "*")), row["path"])
            return f"{differs}, {row['share_of_all'] * 100:.0f} % of them {where_part(place, row['value'])}"
    return differs


def _warnings(figures: PairFigures) -> list[str]:
    found = []
    coverage = figures["coverage"]
    if coverage["share"] is not None and coverage["share"] < _COVERED:
        found.append(
            f"only {percent(coverage['share'])} of the chosen requests were answered by both: what is missing is "
            "seldom a fair sample (load drops the busy hours), so all that follows holds for what was answered"
        )
    judged = judged_output(figures)
    if judged is not None:
        elsewhere = [
            row["path"]
            for row in figures["fields"]
            if row["nature"] == "real"
            and (row["share"] or 0) >= _OFTEN
            and not _within(row["path"], judged["live_path"])
        ]
        if elsewhere and judged["agreement"] and judged["agreement"]["value"] > _OFTEN:
            found.append(
                f"judged is {judged['live_path'] or 'the answer'}; most answers also differ at "
                f"{', '.join(elsewhere[:3])}, which no check looks at (--field POINTER judges another place)"
            )
    for arm, count in (("live", figures["repeated_keys"]["live"]), ("shadow", figures["repeated_keys"]["shadow"])):
        if count:
            have = "1 answer of {} has" if count == 1 else f"{count:,} answers of {{}} have"
            found.append(f"{have.format(arm)} a key twice; the last one counts")
    for each in figures["outputs"]:
        for arm, place, odd in (
            ("live", each["live_path"], each["odd"]["live"]),
            ("shadow", each["shadow_path"], each["odd"]["shadow"]),
        ):
            for word, count in odd.items():
                found.append(f"{place} of {arm} is {word} {count:,} time{'' if count == 1 else 's'}")
    return found


def _within(path: str, place: str) -> bool:
    return path == place or path.startswith(f"{place}/") or place.startswith(f"{path}/")


def decision_of(over_time: list[Moment], line: float | None) -> Decision:
    """The first block of time from which on the agreement was known to lie above or below `line`, if there is one."""
    rows = [row for row in over_time if row["so_far"] is not None]
    at = None
    if line is not None:
        at = next((at for at, row in enumerate(rows) if row["low"] >= line or row["high"] < line), None)
    return {"line": line, "at": at}
