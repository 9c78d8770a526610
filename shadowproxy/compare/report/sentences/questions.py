"""The verdict in sentences: what decides each question, what each check judged, and how each route came out."""

from collections.abc import Mapping
from typing import Final

from shadowproxy.compare.report.figures.types import CheckFigures, Question, ShadowReport
from shadowproxy.compare.report.words import about, percent, requests

QUESTIONS: Final[Mapping[Question, str]] = {
    "engineering": "Does it take the real requests, answer in the right format, and fast enough?",
    "outputs": "Is the distribution of its answers what one expects?",
    "performance": "Are its answers as good as live's?",
}
_MOST_DECIDING: Final = 2


def where_judged(check: CheckFigures) -> str:
    """The place in the answers, or the field of the requests, that a check judged, and the route if it is about one."""
    parts = [] if check["field"] is None else [check["field"] or "the answer"]
    if check["route"]:
        parts.append(check["route"])
    return " on ".join(parts)


def named(check: CheckFigures) -> str:
    """A check's name with what it judged."""
    where = where_judged(check)
    return f"{check['name']} ({where})" if where else check["name"]


def sentence_alone(check: CheckFigures) -> str:
    """A check's sentence without its name and its route, where these stand beside it."""
    sentence = check["said"].removeprefix(f"{check['name']}: ")
    return sentence.removesuffix(f", on {check['route']}") if check["route"] else sentence


def answers(shadow: ShadowReport) -> dict[Question, str]:
    """For each of the three questions the checks that decide it, with the place that each judged."""
    found: dict[Question, str] = {}
    for question in QUESTIONS:
        result = shadow["verdict"]["questions"][question]
        own = [check for check in shadow["checks"] if check["question"] == question and check["result"] == result]
        if (
            result == "pass" and question != "performance"
        ):  # how much better or worse is of interest even where it passes
            found[question] = ", ".join(named(check) for check in own)
            continue
        text = "; ".join(
            check["said"] if check["name"] == "live" else f"{named(check)}: {sentence_alone(check)}"
            for check in own[:_MOST_DECIDING]
        )
        if len(own) > _MOST_DECIDING:
            text += f"; also {', '.join(check['name'] for check in own[_MOST_DECIDING:])}"
        more = max((check["more"] for check in own if check["more"]), default=None)
        if more and result == "inconclusive":
            text += f"; about {about(more)} more requests would settle it"
        found[question] = text or ("no labels supplied" if question == "performance" else "nothing to go by")
    return found


def besides(shadow: ShadowReport) -> str:
    """The checks that do not decide their question, by result."""
    questions = shadow["verdict"]["questions"]
    rest = [check for check in shadow["checks"] if check["result"] != questions[check["question"]]]
    by_result: dict[str, list[str]] = {}
    for check in rest:
        by_result.setdefault(check["result"], []).append(named(check))
    return "; ".join(f"{result.upper()} {', '.join(names)}" for result, names in by_result.items())


def route_lines(shadow: ShadowReport) -> list[str]:
    """Each route with its share, and how it was judged or why it was not; empty where there is only one."""
    routes = shadow["routes"]
    if len(routes) < 2:
        return []
    lines = []
    for route in routes:
        much = f"{route['route']}: {requests(route['requests'])}, {percent(route['share'])}"
        if route["gated"] and route["result"] is not None:
            lines.append(f"{much}: {route['result'].upper()}{_failing(route['checks'])}")
        else:
            lines.append(f"{much}: {route['why']}")
    return lines


def _failing(checks: list[CheckFigures] | None) -> str:
    rows = [check["name"] for check in checks or () if check["result"] == "fail"]
    return f" ({', '.join(rows)})" if rows else ""
