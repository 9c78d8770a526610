"""Where answers differ in sentences: by place, by part of the requests, beside live's own noise."""

from shadowproxy.compare.report.figures.types import Apart, DifferingField, PairFigures, SliceFigures
from shadowproxy.compare.report.words import percent, points


def how_it_differs(row: DifferingField) -> str:
    """The kinds of difference at a place, and its nature where it is noise."""
    nature = "" if row["nature"] == "real" else f" ({row['nature']})"
    return f"{', '.join(row['kinds'])}{nature}"


def apart_line(apart: Apart | None) -> str:
    """How far apart numbers are that differ, and which tolerance would settle most of it."""
    if apart is None:
        return ""
    line = f"at most {_short(apart['most'])} apart, relative to the larger"
    if apart["tolerance"] is not None and apart["settles"] is not None:
        line += f"; `tolerance: {{rel: {_short(apart['tolerance'])}}}` would settle {percent(apart['settles'])}"
    return line


def _short(value: float) -> str:
    """A size to one or two digits: 4e-07 as 4e-7."""
    text = f"{value:.2g}"
    if "e" not in text:
        return text
    digits, _, power = text.partition("e")
    return f"{digits}e{int(power)}"


def slice_line(row: SliceFigures) -> str:
    """How one part of the requests is worse; if it fails, why it fails comes first."""
    parts = []
    if row["fails"]:
        worse = [
            f"{points(net['points'])} {what} ({net['count']:,})"
            for net, what in ((row["lost"], "missing"), (row["errors"], "failed"))
            if net["points"] > 0
        ]
        parts.append(f"FAILS: beyond live's, {' and '.join(worse)} of {row['requests']:,} answers")
    if row["differing"]:
        parts.append(
            f"{percent(row['rate'])} of {row['requests']:,} differ, {row['lift']:.1f} times the average, "
            f"{percent(row['share_of_all'])} of all differences"
        )
    return "; ".join(parts) or f"none of {row['requests']:,} differs"


def noise_lines(figures: PairFigures) -> list[str]:
    """How often live differs from itself: sent a request twice, or sent equal requests."""
    control, repeats = figures["control"], figures["repeats"]
    lines = []
    if control and control["live_differs"]:
        at = f" at {control['judged'] or 'the answer'}" if control["judged"] is not None else ""
        lines.append(
            f"sent {control['pairs']:,} requests twice, live differs from itself in "
            f"{percent(control['live_differs']['value'])}{at}"
        )
    if repeats:
        lines.append(
            f"of {repeats['pairs']:,} pairs of equal requests live answers {percent(repeats['differing'])} differently"
        )
    return lines
