"""The self-test's figures as text for a terminal and as HTML."""

from typing import Final

from rich.console import Console
from rich.table import Table
from rich.text import Text

from shadowproxy.compare.judge.visible import visible
from shadowproxy.compare.report.html.elements import e as text_in_html
from shadowproxy.compare.report.html.elements import table as html_table
from shadowproxy.compare.report.html.page import document
from shadowproxy.compare.report.words import percent
from shadowproxy.selftest.figures import FaultFigures, Figures, LogFigures, SeenFigures

TITLE: Final = "What this report would have caught"

_HOW: Final = {"fails": "NOT READY", "withheld": "READY is withheld"}


def opening(figures: Figures) -> str:
    log = figures["log"]
    drawn = f"{log['drawn']:,} of {log['records']:,} requests" if log["drawn"] < log["records"] else _requests(log)
    text = f"{drawn}, with faults planted into live's own answers"
    if "requests" in log:
        text += f"; each of {log['records']:,} records counts once here, though they stand for {log['requests']:,}"
    left_out = sum(log["unreadable"].values())
    if left_out:
        reasons = ", ".join(f"{why} {count:,}" for why, count in log["unreadable"].items())
        text += f"; {left_out:,} line{'' if left_out == 1 else 's'} could not be read ({reasons})"
    return text


def _requests(log: LogFigures) -> str:
    return f"{log['drawn']:,} request{'' if log['drawn'] == 1 else 's'}"


def about_twin(figures: Figures) -> str:
    """The sentence on a shadow without a fault."""
    twin = figures["twin"]
    if twin["ready_from"] is not None:
        return f"A shadow that answers exactly as live does is READY from {twin['ready_from']:,} requests on."
    missing = ", ".join(f"{name} ({result})" for name, result in twin["checks"].items() if result != "pass")
    return (
        "Not even a shadow that answers exactly as live does is READY with so few requests: "
        f"{missing}. Below, a fault counts as seen only if a check fails."
    )


def about_answers(figures: Figures) -> list[str]:
    """Where the answers were found, route by route."""
    found = []
    for row in figures["answers"]:
        where = f" on {row['route']}" if row["route"] is not None else ""
        if row["place"] is None:
            found.append(f"No field was found that holds the answer{where}; name it by --field.")
        else:
            found.append(f"The answer{where} is the {row['kind']} at {row['place'] or 'the whole body'}.")
    if figures["part"] is not None and any("one part" in row["name"] for row in figures["faults"]):
        found.append(f"The one part of the requests is where {figures['part']}.")
    return found


def cell(seen: SeenFigures, figures: Figures) -> str:
    """The number of requests; > N if the fault is not seen in all of them."""
    return f"> {figures['log']['drawn']:,}" if seen["from"] is None else f"{seen['from']:,}"


def sees(row: FaultFigures) -> str:
    """The check that sees a fault at the largest share at which it is seen, and how."""
    for each in reversed(row["seen"]):
        if each["how"] is not None:
            return f"{each['by']}: {_HOW[each['how']]}"
    return "nothing"


def heads(figures: Figures) -> tuple[str, ...]:
    return ("Fault", *(f"#{percent(share)}" for share in figures["shares"]), "Seen by")


def rows(figures: Figures) -> list[tuple[str, ...]]:
    return [(row["name"], *(cell(each, figures) for each in row["seen"]), sees(row)) for row in figures["faults"]]


def unseen(figures: Figures) -> list[str]:
    """The faults that are not seen even at the largest share, each with how to see it."""
    found = []
    for row in figures["faults"]:
        if row["seen"][-1]["from"] is None:
            how = row["unseen_by_default"] or "more requests, or narrower gates"
            found.append(f"{row['name']}: {how}")
    return found


def explanation(figures: Figures) -> str:
    return (
        "The number of requests that a report needs to see each fault, by the share of answers with the fault; the "
        f"median of {figures['plants']} plants. Seen: the report says NOT READY, or withholds READY."
    )


# --- text ----------------------------------------------------------------------------------------------------------


def print_selftest(figures: Figures, console: Console) -> None:
    _say(console, opening(figures), "bold")
    for line in (*about_answers(figures), about_twin(figures)):
        _say(console, line)
    console.print()
    table = Table(box=None, padding=(0, 2, 0, 0), pad_edge=False, header_style="bold")
    for head in heads(figures):
        numeric = head.startswith("#")
        table.add_column(
            head.lstrip("#"), justify="right" if numeric else "left", overflow="fold", no_wrap=numeric, min_width=6
        )
    for row in rows(figures):
        table.add_row(*(Text(visible(each)) for each in row))
    console.print(table)
    console.print()
    _say(console, explanation(figures))
    missed = unseen(figures)
    if missed:
        _say(
            console, f"Not seen, even in {percent(figures['shares'][-1])} of the answers, but can be seen with:", "bold"
        )
        for line in missed:
            _say(console, f"  {line}")


def _say(console: Console, text: str, style: str = "") -> None:
    console.print(Text(visible(text), style=style), soft_wrap=True, highlight=False)


# --- HTML ----------------------------------------------------------------------------------------------------------


def to_html(figures: Figures) -> str:
    """One file without a script and without an address outside it, as the report's."""
    lines = (*about_answers(figures), about_twin(figures))
    body = [f"<header><h1>{text_in_html(TITLE)}</h1><p>{text_in_html(opening(figures))}</p></header><main>"]
    body += [f"<p>{text_in_html(line)}</p>" for line in lines]
    cells = [[text_in_html(each) for each in row] for row in rows(figures)]
    body.append(html_table(heads(figures), cells, explanation(figures), " class='wide'"))
    missed = unseen(figures)
    if missed:
        items = "".join(f"<li>{text_in_html(line)}</li>" for line in missed)
        share = text_in_html(percent(figures["shares"][-1]))
        body.append(f"<h2>Not seen, even in {share} of the answers</h2><ul>{items}</ul>")
    if figures["not_planted"]:
        items = "".join(f"<li>{text_in_html(name)}</li>" for name in figures["not_planted"])
        body.append(f"<details><summary>Faults that such answers cannot have</summary><ul>{items}</ul></details>")
    body.append("</main>")
    return document(TITLE, "".join(body))
