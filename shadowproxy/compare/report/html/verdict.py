"""The head of a shadow's section: the verdict, the three questions, the advice, the checks and the routes."""

from shadowproxy.compare.report import charts
from shadowproxy.compare.report.figures.types import CheckFigures, ShadowReport
from shadowproxy.compare.report.html.elements import Detail, code, css, e, sentence, table
from shadowproxy.compare.report.sentences.questions import QUESTIONS, answers, sentence_alone, where_judged
from shadowproxy.compare.report.words import about, percent


def head(name: str, shadow: ShadowReport, detail: Detail) -> str:
    return (
        banner(name, shadow)
        + _questions(shadow)
        + _in_short(shadow)
        + _checks(shadow["checks"], detail)
        + _routes(shadow, detail)
    )


def banner(name: str, shadow: ShadowReport) -> str:
    verdict = shadow["verdict"]
    warnings = "".join(f"<p class='why'>Beware: {e(warning)}.</p>" for warning in verdict["warnings"])
    return (
        f"<h2>Can {code(name)} be promoted?</h2><div class='banner {css(verdict['result'])}'>"
        f"<strong>{e(verdict['headline'])}</strong><span>{e(sentence(verdict['sentence']))}</span></div>{warnings}"
    )


def _questions(shadow: ShadowReport) -> str:
    deciding = answers(shadow)
    cards = []
    for question, text in QUESTIONS.items():
        result = shadow["verdict"]["questions"][question]
        heading = f"{question.capitalize()}: <b class='{css(result)}'>{result.upper()}</b>"
        cards.append(
            f"<div class='card'><h3>{heading}</h3><p class='soft'>{text}</p><p>{e(deciding[question])}</p></div>"
        )
    return f"<div class='cards'>{''.join(cards)}</div>"


def _in_short(shadow: ShadowReport) -> str:
    advice = shadow["advice"]
    points = [sentence(point["said"]) for point in advice["in_short"]]
    points.append(f"Next: {advice['next']['said']}.")
    points.append(sentence(shadow["blind_spots"]["said"]))
    return f"<h3>In short</h3><ul>{''.join(f'<li>{e(point)}</li>' for point in points)}</ul>"


def _checks(checks: list[CheckFigures], detail: Detail) -> str:
    rows = []
    for check in checks:
        more = f" About {about(check['more'])} more requests would settle it." if check["more"] else ""
        result = f"<b class='{css(check['result'])}'>{check['result'].upper()}</b>"
        cells = [f"{e(check['name'])}<br>{_where(check)}", result, e(sentence(sentence_alone(check)) + more)]
        if detail.pictures:
            cells.append(charts.interval(check["low"], check["high"], check["value"], check["allowed"]))
        rows.append(cells)
    heads = ["Check", "Result", "Measured", "Interval"]
    return (
        "<h3>The checks</h3><p class='soft'>A check passes when the whole interval lies on the right side of the red "
        "line, fails when all of it lies on the wrong side, and is inconclusive across it.</p>"
        + table(heads if detail.pictures else heads[:3], rows, kind=" class='wide'")
    )


def _named(check: CheckFigures) -> str:
    return f"<b class='{css(check['result'])}'>{e(check['name'])} {check['result'].upper()}</b>: {e(check['said'])}"


def _where(check: CheckFigures) -> str:
    where = where_judged(check)
    return code(where) if where else "<span class='soft'>all answers</span>"


def _routes(shadow: ShadowReport, detail: Detail) -> str:
    """The routes, each with the checks that do not pass on it, or why it was not judged."""
    routes = shadow["routes"]
    if len(routes) < 2:
        return ""
    rows = []
    for route in routes:
        if route["checks"] is None or route["result"] is None:
            result, why = "–", e(sentence(route["why"] or ""))
        else:
            result = f"<b class='{css(route['result'])}'>{route['result'].upper()}</b>"
            lines = [_named(check) for check in route["checks"] if check["result"] != "pass"]
            why = "<br>".join(lines) or "every check passes"
        rows.append((code(route["route"]), f"{route['requests']:,}", percent(route["share"]), result, why))
    shown = rows if detail.fields else rows[:6]
    left = f"<p class='soft'>And {len(rows) - len(shown)} other routes.</p>" if len(rows) > len(shown) else ""
    return (
        "<h3>The routes</h3><p class='soft'>Each route with 300 requests and 1 % of all is judged by itself, and the "
        "whole is the worst of them.</p>"
        + table(("Route", "#requests", "#share", "Result", "What does not pass"), shown, kind=" class='wordy'")
        + left
    )
