"""The checks as JUnit XML, for a build's list of tests."""

from typing import Final
from xml.sax.saxutils import escape, quoteattr

from shadowproxy.compare.judge.visible import visible
from shadowproxy.compare.report.figures.types import CheckFigures, Report, ShadowReport
from shadowproxy.compare.report.sentences.losses import reason_line
from shadowproxy.compare.report.sentences.questions import sentence_alone, where_judged

_XML_REFUSES: Final = dict.fromkeys([*range(9), 11, 12, *range(14, 32), 0xFFFE, 0xFFFF], "�")


def to_junit(report: Report) -> str:
    """A failed check is a failure; an inconclusive one, or one without data, is skipped. Each says the place it judged.

    The check of errors has as standard error why answers failed.
    """
    suites = []
    for name, shadow in report["shadows"].items():
        cases = [_case(check, shadow) for check in shadow["checks"]]
        results = [check["result"] for check in shadow["checks"]]
        failed, passed = results.count("fail"), results.count("pass")
        suites.append(
            f'<testsuite name={quoteattr(_xml(name))} tests="{len(results)}" failures="{failed}" errors="0" '
            f'skipped="{len(results) - failed - passed}">{"".join(cases)}</testsuite>'
        )
    return f'<?xml version="1.0" encoding="UTF-8"?>\n<testsuites name="shadowproxy">{"".join(suites)}</testsuites>\n'


def _case(check: CheckFigures, shadow: ShadowReport) -> str:
    where = where_judged(check)
    text = _xml(f"{where}: {sentence_alone(check)}" if where else sentence_alone(check))
    inner = ""
    if check["result"] == "fail":
        inner = f"<failure message={quoteattr(text)}>{escape(text)}</failure>"
    elif check["result"] != "pass":
        inner = f"<skipped message={quoteattr(check['result'] + ': ' + text)}/>"
    else:
        inner = f"<system-out>{escape(text)}</system-out>"
    if check["name"] == "errors" and shadow["errors"] and shadow["errors"]["reasons"]["shadow"]:
        reasons = [f"{row['reason']}: {reason_line(row)}" for row in shadow["errors"]["reasons"]["shadow"]]
        inner += f"<system-err>{escape(_xml(chr(10).join(reasons)))}</system-err>"
    room = quoteattr("shadowproxy." + check["question"])
    return f"<testcase classname={room} name={quoteattr(check['name'])}>{inner}</testcase>"


def _xml(text: str) -> str:
    return visible(text).translate(_XML_REFUSES)
