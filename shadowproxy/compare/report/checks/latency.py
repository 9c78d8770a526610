"""How much slower than live's the shadow's slowest answers are."""

from shadowproxy.compare.report.checks.check import Finding, Result, Subject, no_data
from shadowproxy.compare.report.checks.intervals import lies, until_narrow
from shadowproxy.compare.report.words import change, milliseconds


def latency(subject: Subject, allowed: float) -> Finding:
    found = subject.figures["latency"]
    ratio = found["ratio"]["p99"]
    if ratio is None:
        return no_data("no request has a time from both")
    value, low, high = ratio["value"], ratio["low"], ratio["high"]
    bound = "≥ " if "p99" in found["at_least"] else ""
    sentence = (
        f"p99 latency {bound}{milliseconds(found['shadow']['p99'])} against {milliseconds(found['live']['p99'])} ms "
        f"({bound}{change(value)}, allowed {change(allowed)})"
    )
    if low is None or high is None:
        sentence += "; the log spans too little time to say how sure that is"
        return Finding(Result.INCONCLUSIVE, sentence, value, allowed=allowed)
    low, high = subject.interval("latency", value, low, high)
    result = lies(low, high, None, allowed)
    more = until_narrow(ratio["n"] // 2, value, low, high, allowed) if result is Result.INCONCLUSIVE else None
    return Finding(result, sentence, value, low, high, allowed, more)
