"""Whether a judge finds the shadow's answers as good as live's."""

from typing import Final

from shadowproxy.compare.report.checks.check import Finding, Result, Subject, no_data
from shadowproxy.compare.report.checks.intervals import lies, until_narrow
from shadowproxy.compare.report.figures.types import Judged
from shadowproxy.compare.report.words import about, percent

_MOST_UNREADABLE: Final = 0.05


def judge(subject: Subject, allowed: float) -> Finding | None:
    """The shadow's win rate beside 50 %."""
    found = subject.figures["judged"]
    if found is None:
        return None
    if not found["pairs"]:
        return no_data("judge: no pair of answers could be judged")
    line = 0.5 - allowed
    low, high = found["low"], found["high"]
    result = lies(low, high, line, None)
    sentence = f"{_rate(found)} (at least {percent(line)} asked) by {found['model']}; {_counts(found)}"
    unknown = found["unreadable"] + found["failed"]
    if unknown > _MOST_UNREADABLE * found["asked"]:
        sentence += f"; {percent(unknown / found['asked'])} of what it said could not be used"
        result = Result.INCONCLUSIVE if result is Result.PASS else result
    elif result is Result.INCONCLUSIVE and found["win_rate"] is not None:
        decided = found["asked"] - unknown
        more = until_narrow(decided, found["win_rate"], low, high, line)
        calls = f"about {about(2 * max(1, more))} more calls" if more is not None else "more calls"
        sentence += f"; {calls} of shadowproxy judge would settle it"
    return Finding(result, sentence, found["win_rate"], low, high, line)


def _rate(found: Judged) -> str:
    between = f"{percent(found['low'])} to {percent(found['high'])}"
    if found["win_rate"] is None:
        return f"win rate {between}"
    return f"win rate {percent(found['win_rate'])}, {between}"


def _counts(found: Judged) -> str:
    """How many pairs were asked, and what came of them."""
    if not found["differing"]:
        return f"all {found['equal']:,} pairs are equal"
    said = f"of {found['asked']:,} asked pairs, {found['shadow_better']:,} better, {found['live_better']:,} worse"
    return f"{said}, {found['ties']:,} ties; {found['equal']:,} of {found['pairs']:,} are equal"
