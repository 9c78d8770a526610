"""The report for other programs: Markdown for a pull request's comment, JUnit for a build's list of tests."""

from collections.abc import Sequence
from typing import Final
from xml.sax.saxutils import escape, quoteattr

from shadowproxy.compare.figures.shown import Figures
from shadowproxy.compare.report import answers, opening, slice_line, with_interval
from shadowproxy.compare.visible import sides, visible
from shadowproxy.compare.words import milliseconds, percent

_FIELDS: Final = 8
_SLICES: Final = 5
_XML_REFUSES: Final = dict.fromkeys([*range(9), 11, 12, *range(14, 32), 0xFFFE, 0xFFFF], "�")


def to_markdown(figures: Figures) -> str:
    """The report in GitHub's Markdown. Texts from the log stand in code or with Markdown's signs escaped."""
    lines = ["# Shadow report", "", _md(opening(figures["log"])), ""]
    for name, shadow in figures["shadows"].items():
        verdict = shadow["verdict"]
        lines += [f"## {_md(name)}: {verdict['headline']}", "", f"{_md(verdict['sentence'])}.", ""]
        rows = [
            (question.capitalize(), f"**{verdict['questions'][question]}**", _md(said))
            for question, said in answers(shadow).items()
        ]
        lines += _md_table(("Question", "Result", "Because"), rows)
        lines += [f"> Beware: {_md(warning)}" for warning in verdict["warnings"]]
        coverage = shadow["coverage"]
        lines += [
            f"**Coverage**: {coverage['chosen']:,} chosen, {coverage['answered']:,} answered by both "
            f"({percent(coverage['share'])}).",
            "",
        ]
        latency = shadow["latency"]
        if latency["pairs"]:
            names = ("p50", "p90", "p99")
            lines += _md_table(
                ("Latency, ms", *names),
                [(arm, *(milliseconds(latency[arm][name]) for name in names)) for arm in ("live", "shadow")],
            )
        agreement = shadow["agreement"]["settled"] or shadow["agreement"]["whole"]
        if agreement is not None:
            lines += [f"**Agreement**: {with_interval(agreement)}.", ""]
        fields = [
            (_code(row["path"] or "(whole)"), f"{row['exchanges']:,}", percent(row["share"]), ", ".join(row["kinds"]))
            for row in shadow["fields"][:_FIELDS]
        ]
        lines += _md_table(("Differs at", "Requests", "Share", "How"), fields)
        lines += [
            f"- {_code(row['path'])} {_md(row['value'])}: {slice_line(row)}" for row in shadow["slices"][:_SLICES]
        ]
        for example in shadow["examples"][:3]:
            first = example["differences"][0] if example["differences"] else None
            shown = sides(first["kind"], first["live"], first["shadow"], 40) if first else ("", "")
            said = f"live {shown[0]}, shadow {shown[1]}" if first else ""
            lines.append(f"- example {_code(example['id'])}: {_code(said)}")
        lines.append("")
    return "\n".join(lines).rstrip() + "\n"


def _md_table(heads: tuple[str, ...], rows: Sequence[tuple[str, ...]]) -> list[str]:
    if not rows:
        return []
    body = [f"| {' | '.join(cells)} |" for cells in rows]
    return [f"| {' | '.join(heads)} |", f"|{'---|' * len(heads)}", *body, ""]


def _md(text: str) -> str:
    """A text with what Markdown and HTML would take for their own escaped, on one line."""
    plain = " ".join(visible(text).split())
    escaped = "".join(f"\\{sign}" if sign in "\\`*_[]|#" else sign for sign in plain)
    return escaped.replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")


def _code(text: str) -> str:
    """A text as code: in one more backtick than it holds in a row, so that none of it can end the code."""
    plain = " ".join(visible(text).split()).replace("|", "\\|")
    fence = "`"
    while fence in plain:
        fence += "`"
    pad = " " if plain.startswith("`") or plain.endswith("`") else ""
    return f"{fence}{pad}{plain}{pad}{fence}"


def to_junit(figures: Figures) -> str:
    """The checks as JUnit XML: a failed one is a failure; an inconclusive one, or one without data, is skipped."""
    suites = []
    for name, shadow in figures["shadows"].items():
        cases = []
        for check in shadow["checks"]:
            said = _xml(check["said"])
            inner = ""
            if check["result"] == "fail":
                inner = f"<failure message={quoteattr(said)}>{escape(said)}</failure>"
            elif check["result"] != "pass":
                inner = f"<skipped message={quoteattr(check['result'] + ': ' + said)}/>"
            room = quoteattr("shadowproxy." + check["question"])
            cases.append(f"<testcase classname={room} name={quoteattr(check['name'])}>{inner}</testcase>")
        results = [check["result"] for check in shadow["checks"]]
        failed, passed = results.count("fail"), results.count("pass")
        suites.append(
            f'<testsuite name={quoteattr(_xml(name))} tests="{len(results)}" failures="{failed}" errors="0" '
            f'skipped="{len(results) - failed - passed}">{"".join(cases)}</testsuite>'
        )
    return f'<?xml version="1.0" encoding="UTF-8"?>\n<testsuites name="shadowproxy">{"".join(suites)}</testsuites>\n'


def _xml(text: str) -> str:
    return visible(text).translate(_XML_REFUSES)
