"""What answers took in tokens and cost, and why language models stopped."""

from shadowproxy.compare.report.figures.measure_types import UsageFigures
from shadowproxy.compare.report.html.elements import e, table
from shadowproxy.compare.report.sentences.losses import status_table
from shadowproxy.compare.report.sentences.usage import FINISH_NOTE, USAGE_HEADS, USAGE_NOTE, usage_rows


def usage(found: UsageFigures | None) -> str:
    if found is None:
        return ""
    parts = ["<h2>Tokens and cost</h2>"]
    if rows := usage_rows(found):
        heads = ("", *(f"#{head}" for head in USAGE_HEADS))
        parts.append(f"{table(heads, rows)}<p class='why'>{e(USAGE_NOTE)}</p>")
    if found["finish"]:
        lives, columns, cells = status_table(found["finish"], 8, 8)
        counts = [(f"live {e(row)}", *(f"{cells.get((row, column), 0):,}" for column in columns)) for row in lives]
        heads = ("", *(f"#{column}" for column in columns))
        parts.append(table(heads, counts, "Finish reason: live by row, the shadow by column"))
        parts.append(f"<p class='why'>{e(FINISH_NOTE)}</p>")
    return "".join(parts)
