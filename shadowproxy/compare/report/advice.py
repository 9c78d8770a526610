"""The advice: which of the two is better in which respect, how sure that is, and what to do next.

It is part of the report's JSON, so that every form gives the same advice.
"""

from collections.abc import Mapping
from typing import Final, Literal

from shadowproxy.compare.report.figures.types import (
    Advice,
    AdvicePoint,
    CheckFigures,
    Latency,
    NextStep,
    PairFigures,
    Pairs,
    Verdict,
)
from shadowproxy.compare.report.judged import agreement_of, judged_output, labels_of, needs_state, place_of
from shadowproxy.compare.report.sentences.answers import label_line
from shadowproxy.compare.report.sentences.differences import slice_line
from shadowproxy.compare.report.sentences.estimates import with_interval
from shadowproxy.compare.report.sentences.state import state_line
from shadowproxy.compare.report.words import about, milliseconds, where_part


def advice_of(figures: PairFigures, checks: list[CheckFigures], verdict: Verdict) -> Advice:
    """The main points and the next step, each with its sentence and with one word for programs."""
    points = [_state(figures), _accuracy(figures), _latency(figures["latency"]), _agreement(figures), _part(figures)]
    return {"in_short": [point for point in points if point is not None], "next": _next(figures, checks, verdict)}


def _state(figures: PairFigures) -> AdvicePoint | None:
    """Whether the shadow rejects requests only because it has other IDs than live."""
    if not needs_state(figures):
        return None
    return {"about": "state", "word": "refuses", "said": state_line(figures)}


def _accuracy(figures: PairFigures) -> AdvicePoint | None:
    """Who is right more often, if there are labels."""
    labels = labels_of(figures)
    difference = labels["difference"] if labels is not None else None
    if labels is None or difference is None:
        return None
    low, high, sure = 0.0, 0.0, False
    if difference["low"] is not None and difference["high"] is not None:
        low, high, sure = difference["low"], difference["high"], True
    word: Better
    if labels["measure"] == "accuracy":
        word = "shadow" if low > 0 else "live" if high < 0 else "neither"
        sentence = f"{_RIGHT[word]}: {label_line(labels)}; difference {difference['value'] * 100:+.2f} points"
        if sure:
            sentence += f" (95 % interval {low * 100:+.2f} to {high * 100:+.2f})"
        turns = labels["anytime"] is not None and labels["anytime"][0] * labels["anytime"][1] <= 0
        if word != "neither" and turns:
            sentence += ". It is not so sure that another look could not turn it"
    else:
        word = "shadow" if high < 0 else "live" if low > 0 else "neither"
        sentence = f"{_NEAR[word]}: {label_line(labels)}"
    return {"about": "accuracy", "word": word, "said": sentence}


Better = Literal["shadow", "live", "neither"]

_RIGHT: Final[Mapping[Better, str]] = {
    "shadow": "The shadow is right more often",
    "live": "Live is right more often",
    "neither": "Neither is surely right more often",
}
_NEAR: Final[Mapping[Better, str]] = {
    "shadow": "The shadow is nearer the truth",
    "live": "Live is nearer the truth",
    "neither": "Neither is surely nearer the truth",
}


def _latency(latency: Latency) -> AdvicePoint | None:
    ratio = latency["ratio"]["p99"]
    if ratio is None:
        return None
    word: Better = "neither"
    times = ""
    if ratio["low"] is not None and ratio["high"] is not None:
        times = f" (95 % interval {max(0.0, ratio['low']):.2f} to {ratio['high']:.2f} times live's)"
        if ratio["low"] > 1 or ratio["high"] < 1:
            word = "live" if ratio["value"] > 1 else "shadow"
    least = "at least " if "p99" in latency["at_least"] else ""
    sentence = (
        f"At the slowest 1 % of requests the shadow is {_SPEED[word]}: {least}{milliseconds(latency['shadow']['p99'])} "
        f"ms against {milliseconds(latency['live']['p99'])} ms{times}"
    )
    return {"about": "latency", "word": word, "said": sentence}


_SPEED: Final[Mapping[Better, str]] = {
    "shadow": "faster",
    "live": "slower",
    "neither": "neither surely slower nor faster",
}


def _agreement(figures: PairFigures) -> AdvicePoint | None:
    estimate, judged = agreement_of(figures), judged_output(figures)
    if estimate is None:
        return None
    place = place_of(judged) if judged is not None else "whole answers"
    return {
        "about": "agreement",
        "word": "same" if estimate["value"] == 1 else "differ",
        "said": f"The two agree on {with_interval(estimate)} of answers ({place})",
    }


def _part(figures: PairFigures) -> AdvicePoint | None:
    """The part of the requests that is worst off: the first, as those that fail come first."""
    if not figures["slices"]:
        return None
    row = figures["slices"][0]
    worst = "It loses most" if row["fails"] else "They differ most"
    line = slice_line(row).removeprefix("FAILS: ")
    return {
        "about": "slices",
        "word": "fails" if row["fails"] else "differs",
        "said": f"{worst} {where_part(row['path'], row['value'])}: {line}",
    }


# --- what to do next -------------------------------------------------------------------------------------------------


def _next(figures: PairFigures, checks: list[CheckFigures], verdict: Verdict) -> NextStep:
    deciding = [check for check in checks if check["result"] == verdict["result"]]
    if verdict["result"] == "fail":
        return {"do": "mend", "said": _mend(figures, deciding[0])}
    if verdict["result"] == "no data":
        return _find_data(figures, deciding)
    if verdict["result"] == "inconclusive":
        return _decide(deciding)
    if verdict["questions"]["performance"] == "no data":
        return {
            "do": "promote",
            "said": "promote it a step on these checks alone, or bring labels (--labels) or a judge (shadowproxy "
            "judge) to learn if it is better",
        }
    return {"do": "promote", "said": "every check passes: promote it a step, and keep watching"}


def _mend(figures: PairFigures, check: CheckFigures) -> str:
    reasons = figures["errors"]["reasons"]["shadow"] if figures["errors"] else []
    if check["name"] == "errors" and reasons:
        example = reasons[0]["example"]
        show = f" (shadowproxy show LOG {example})" if example else ""
        return f"mend what fails first (errors): the commonest reason is {reasons[0]['reason']}{show}"
    if needs_state(figures) and check["name"] in _MENDED_BY_STATE:
        return f"mend what fails first ({check['name']}): {state_line(figures)}"
    if check["name"] == "latency":
        return "mend what fails first (latency): profile it, or give it more of what it waits for"
    return f"mend what fails first ({check['name']}), then look at the examples where the two part"


_MENDED_BY_STATE: Final = frozenset({"answered", "structure", "errors", "flips", "agreement", "slices", "labels"})
"""The checks that fail where a shadow rejects follow-ups."""


def _find_data(figures: PairFigures, checks: list[CheckFigures]) -> NextStep:
    if not checks:
        return {"do": "gate", "said": "switch a check on: every check is off in the gates file"}
    names = {check["name"] for check in checks}
    if "live" in names:
        return {"do": "send", "said": _send(figures["pairs"], checks)}
    if figures["legacy"] is not None:
        return {"do": "summarise", "said": "summarise the logs of the earlier version again, and report on that"}
    if "labels" in names:
        return {
            "do": "label",
            "said": "see what the labels are joined by: the request's ID, or a field of it (--label-key)",
        }
    if "collapse" in names:
        return {"do": "name", "said": "say where the answer is (--field), and report again"}
    if "drift" in names:
        return {
            "do": "gate",
            "said": "bring labels (--labels), or set `drift: null` in a gates file: the distributions say nothing here",
        }
    return {"do": "send", "said": "keep it running: too little is counted yet"}


def _send(pairs: Pairs, checks: list[CheckFigures]) -> str:
    """What to do where live hardly answered."""
    if not pairs["n"]:
        return "see why the shadow was sent no request that live answered (Coverage)"
    more = next((check["more"] for check in checks if check["name"] == "live" and check["more"]), None)
    if more:
        return f"send it more requests: {more:,} that live answers with a 2xx are the least that is missing"
    return "see that live answers: half of the requests and more need a 2xx from it first"


def _decide(checks: list[CheckFigures]) -> NextStep:
    most = max((check for check in checks if check["more"]), key=lambda check: check["more"] or 0, default=None)
    stuck = [check for check in checks if not check["more"]]
    if any(check["name"] == "unexplained" for check in stuck):
        return {
            "do": "label",
            "said": "say who is right where they differ: labels (--labels), a judge (shadowproxy judge), or the "
            "agreement that is enough (--min-agreement)",
        }
    if stuck and all(check["name"] == "latency" for check in stuck):
        return {
            "do": "wait",
            "said": "keep it running: the log spans too little time to say how long the slowest requests take",
        }
    if stuck and all(check["name"] == "judge" for check in stuck):
        return {"do": "label", "said": "let the judge see more pairs: run shadowproxy judge with a larger --budget"}
    if stuck:
        return {
            "do": "look",
            "said": f"look into what more requests will not settle ({', '.join(check['name'] for check in stuck)})",
        }
    assert most is not None  # an inconclusive verdict has an inconclusive check
    more = about(most["more"] or 0)
    return {"do": "wait", "said": f"keep it running: about {more} more requests would settle {most['name']}"}
