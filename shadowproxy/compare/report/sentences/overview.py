"""How much the log holds, and the table of several shadows."""

from typing import Final

from shadowproxy.compare.judge.visible import visible
from shadowproxy.compare.report.figures.types import EstimateFigures, Log, Report, ShadowReport
from shadowproxy.compare.report.judged import answered_of, labels_of
from shadowproxy.compare.report.words import change, percent, requests

OVERVIEW_HEADS: Final = ("Verdict", "Shadow", "requests", "missing", "failed", "accuracy", "p99")

OVERVIEW_NOTE: Final = (
    "Beside live, on the same requests: points of answers missing and failed, points of accuracy, change of p99. "
    "The order is that of the names and says nothing of which is better."
)


def opening(log: Log) -> str:
    """How many records the log has, over which time, and how much of it could not be read."""
    span = ""
    if log["first"] is not None and log["last"] is not None:
        span = f", {log['first'].replace('T', ' ')[:-1]} to {log['last'].replace('T', ' ')[:-1]} UTC"
    left_out = sum(log["unreadable"].values())
    reasons = ", ".join(f"{why} {count:,}" for why, count in log["unreadable"].items())
    torn = (
        f"; {left_out:,} line{'' if left_out == 1 else 's'} could not be read ({visible(reasons)})" if left_out else ""
    )
    twice = f"; {percent(log['repeated_records'])} of the records were read twice" if log["repeated_records"] else ""
    ids = f"; {percent(log['repeated_ids'])} repeat a request ID" if log["repeated_ids"] and not twice else ""
    records = requests(log["records"])
    if "requests" in log:
        records = f"{requests(log['requests'])} ({log['records']:,} written)"
    return f"{records}{span}{torn}{twice}{ids}"


def overview_rows(report: Report) -> list[tuple[str, ...]]:
    """For each shadow its cells under OVERVIEW_HEADS: the verdict first, then its losses beside live."""
    return [
        (
            shadow["verdict"]["headline"],
            name,
            f"{shadow['pairs']['n']:,}",
            _points_beside(_answered_difference(shadow), lower_is_worse=True),
            _points_beside(shadow["errors"]["difference"] if shadow["errors"] else None),
            _accuracy_beside(shadow),
            "–" if (p99 := shadow["latency"]["ratio"]["p99"]) is None else change(p99["value"]),
        )
        for name, shadow in report["shadows"].items()
    ]


def _answered_difference(shadow: ShadowReport) -> EstimateFigures | None:
    answered = answered_of(shadow)
    return answered["difference"] if answered is not None else None


def _points_beside(estimate: EstimateFigures | None, *, lower_is_worse: bool = False) -> str:
    if estimate is None:
        return "–"
    value = (-estimate["value"] if lower_is_worse else estimate["value"]) * 100
    return "0" if not value else f"{value:+.2f}"


def _accuracy_beside(shadow: ShadowReport) -> str:
    labels = labels_of(shadow)
    if labels is None or labels["difference"] is None:
        return "–"
    if labels["measure"] == "accuracy":
        return _points_beside(labels["difference"])
    return f"error {labels['difference']['value']:+.3g}"


MOST_WHOLE = 8
"""Shadows of which text and Markdown show all there is. Of more, they show the verdict and what to do next."""

LESS_NOTE = "Of so many shadows only verdicts are shown: --shadow NAME shows one whole, --html more of each."
