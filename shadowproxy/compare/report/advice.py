"""What the figures amount to for whoever decides: which of the two is better at what, how surely, and what to do next.

It is decided here once and stands in the report's JSON, so that every form says the same.
"""

from collections.abc import Mapping
from typing import Any, Final

from shadowproxy.compare.report.checks import agreement_of, judged_output
from shadowproxy.compare.report.conclusion import about
from shadowproxy.compare.report.sentences import label_line, slice_line, with_interval
from shadowproxy.compare.report.words import milliseconds

Figures = dict[str, Any]


def advice_of(shadow: Figures) -> Figures:
    """The points in short, each with what it is about and a word for it, and what to do next with a word for that.

    Args:
        shadow: its figures, with its checks and its verdict.
    """
    points = [_accuracy(shadow), _latency(shadow["latency"]), _agreement(shadow), _part(shadow)]
    do, said = _next(shadow)
    return {"in_short": [point for point in points if point is not None], "next": {"do": do, "said": said}}


def _point(about: str, word: str, said: str) -> Figures:
    return {"about": about, "word": word, "said": said}


def _accuracy(shadow: Figures) -> Figures | None:
    """Who is right more often, if there are labels."""
    judged = judged_output(shadow)
    labels = judged["labels"] if judged is not None else None
    difference = labels["difference"] if labels else None
    if not labels or difference is None:
        return None
    sure = difference["low"] is not None and difference["high"] is not None
    low, high = (difference["low"], difference["high"]) if sure else (0.0, 0.0)
    if labels["measure"] == "accuracy":
        word = "shadow" if low > 0 else "live" if high < 0 else "neither"
        said = f"{_RIGHT[word]}: {label_line(labels)}; difference {difference['value'] * 100:+.2f} points"
        if sure:
            said += f" (95 % interval {low * 100:+.2f} to {high * 100:+.2f})"
        turns = labels["anytime"] is not None and labels["anytime"][0] * labels["anytime"][1] <= 0
        if word != "neither" and turns:
            said += ". It is not so sure that another look could not turn it"
        return _point("accuracy", word, said)
    word = "shadow" if high < 0 else "live" if low > 0 else "neither"
    return _point("accuracy", word, f"{_NEAR[word]}: {label_line(labels)}")


_RIGHT: Final[Mapping[str, str]] = {
    "shadow": "The shadow is right more often",
    "live": "Live is right more often",
    "neither": "Neither is surely right more often",
}
_NEAR: Final[Mapping[str, str]] = {
    "shadow": "The shadow is nearer the truth",
    "live": "Live is nearer the truth",
    "neither": "Neither is surely nearer the truth",
}


def _latency(latency: Figures) -> Figures | None:
    ratio = latency["ratio"]["p99"]
    if ratio is None:
        return None
    sure = ratio["low"] is not None and (ratio["low"] > 1 or ratio["high"] < 1)
    word = ("live" if ratio["value"] > 1 else "shadow") if sure else "neither"
    speed = {"live": "slower", "shadow": "faster", "neither": "neither surely slower nor faster"}[word]
    times = "" if ratio["low"] is None else f" (95 % interval {ratio['low']:.2f} to {ratio['high']:.2f} times live's)"
    least = "at least " if "p99" in latency["at_least"] else ""
    said = (
        f"At the slowest 1 % of requests the shadow is {speed}: {least}{milliseconds(latency['shadow']['p99'])} ms "
        f"against {milliseconds(latency['live']['p99'])} ms{times}"
    )
    return _point("latency", word, said)


def _agreement(shadow: Figures) -> Figures | None:
    estimate, judged = agreement_of(shadow), judged_output(shadow)
    if estimate is None:
        return None
    place = (judged["live_path"] or "the answer") if judged is not None else "whole answers"
    word = "same" if estimate["value"] == 1 else "differ"
    return _point("agreement", word, f"The two agree on {with_interval(estimate)} of answers ({place})")


def _part(shadow: Figures) -> Figures | None:
    """The part of the requests that is worst off: the first, as those that fail come first."""
    if not shadow["slices"]:
        return None
    row = shadow["slices"][0]
    word = "fails" if row["fails"] else "differs"
    what = "It loses most" if row["fails"] else "They differ most"
    told = slice_line(row).removeprefix("FAILS: ")
    return _point("slices", word, f"{what} where {row['path']} is {row['value']}: {told}")


# --- what to do next -------------------------------------------------------------------------------------------------


def _next(shadow: Figures) -> tuple[str, str]:
    verdict, checks = shadow["verdict"], shadow["checks"]
    by_result = [check for check in checks if check["result"] == verdict["result"]]
    if verdict["result"] == "fail":
        return "mend", _mend(shadow, by_result[0])
    if verdict["result"] == "no data":
        return _find_data(shadow, by_result)
    if verdict["result"] == "inconclusive":
        return _decide(by_result)
    if verdict["questions"]["performance"] == "no data":
        return "promote", "promote it a step on these checks alone, or bring labels (--labels) to learn if it is better"
    return "promote", "every check passes: promote it a step, and keep watching"


def _mend(shadow: Figures, check: Figures) -> str:
    reasons = shadow["errors"]["reasons"]["shadow"] if shadow["errors"] else []
    if check["name"] == "errors" and reasons:
        example = reasons[0]["example"]
        show = f" (shadowproxy show LOG {example})" if example else ""
        return f"mend what fails first (errors): the commonest reason is {reasons[0]['reason']}{show}"
    if check["name"] == "latency":
        return "mend what fails first (latency): profile it, or give it more of what it waits for"
    return f"mend what fails first ({check['name']}), then look at the examples where the two part"


def _find_data(shadow: Figures, checks: list[Figures]) -> tuple[str, str]:
    if not checks:
        return "gate", "switch a check on: every check is off in the gates file"
    names = {check["name"] for check in checks}
    if "live" in names:
        return "send", _send(shadow["pairs"], checks)
    if shadow["legacy"] is not None:
        return "summarise", "summarise the logs of the earlier version again, and report on that"
    if "labels" in names:
        return "label", "see what the labels are joined by: the request's ID, or a field of it (--label-key)"
    if "collapse" in names:
        return "name", "say where the answer is (--field), and report again"
    if "drift" in names:
        return (
            "gate",
            "bring labels (--labels), or set `drift: null` in a gates file: the distributions say nothing here",
        )
    return "send", "keep it running: too little is counted yet"


def _send(pairs: Figures, checks: list[Figures]) -> str:
    """What to do where live hardly answered."""
    if not pairs["n"]:
        return "see why the shadow was sent no request that live answered (Coverage)"
    more = next((check["more"] for check in checks if check["name"] == "live" and check["more"]), None)
    if more:
        return f"send it more requests: {more:,} that live answers with a 2xx are the least that is missing"
    return "see that live answers: half of the requests and more need a 2xx from it first"


def _decide(checks: list[Figures]) -> tuple[str, str]:
    waiting = [check for check in checks if check["more"]]
    most = max(waiting, key=lambda check: check["more"], default=None)
    stuck = [check for check in checks if not check["more"]]
    if any(check["name"] == "unexplained" for check in stuck):
        return (
            "label",
            "say who is right where they differ: --labels, or the agreement that is enough (--min-agreement)",
        )
    if stuck and all(check["name"] == "latency" for check in stuck):
        return "wait", "keep it running: the log spans too little time to say how long the slowest requests take"
    if stuck:
        return "look", f"look into what more requests will not settle ({', '.join(check['name'] for check in stuck)})"
    assert most is not None  # an inconclusive verdict has a check that is
    return "wait", f"keep it running: about {about(most['more'])} more requests would settle {most['name']}"
