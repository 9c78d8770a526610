"""Small drawings for the HTML report: SVG without script, coloured by the page's own variables, each with a title.

Every drawing stands beside the numbers that it draws, so nothing is to be had from it alone. 480 units wide: at 15
units, text is still to be read on a phone.
"""

from collections.abc import Sequence
from html import escape
from typing import Final

WIDTH: Final = 480
_LEFT: Final = 62
_RIGHT: Final = 12
_TOP: Final = 12
_LONGEST_OF_FIVE: Final = 7  # characters: five longer numbers run into each other

Point = tuple[float, float]
Span = tuple[float, float, float]


def _svg(height: int, title: str, body: str) -> str:
    return (
        f'<svg viewBox="0 0 {WIDTH} {height}" role="img" aria-label="{escape(title, quote=True)}">'
        f"<title>{escape(title)}</title>{body}</svg>"
    )


def _text(x: float, y: float, said: str, anchor: str = "middle") -> str:
    return f'<text x="{x:.1f}" y="{y:.1f}" text-anchor="{anchor}">{escape(said)}</text>'


class _Scale:
    """Values to places on an axis; an empty span is widened so that it can be drawn."""

    def __init__(self, low: float, high: float, start: float, end: float) -> None:
        if high - low <= abs(high) * 1e-9:
            pad = abs(high) * 0.1 or 1.0
            low, high = low - pad, high + pad
        self.low, self.high, self.start, self.end = low, high, start, end

    def at(self, value: float) -> float:
        share = (value - self.low) / (self.high - self.low)
        return self.start + min(1.0, max(0.0, share)) * (self.end - self.start)

    def ticks(self) -> list[float]:
        return [self.low + (self.high - self.low) * step / 4 for step in range(5)]


def band(
    title: str,
    labels: Sequence[str],
    middle: Sequence[float],
    low: Sequence[float | None],
    high: Sequence[float | None],
    form: str,
    level: float | None = None,
    mark: int | None = None,
) -> str:
    """A line with its interval around it; `level` draws a line to compare with, `mark` a point in time."""
    height = 220
    bottom = height - 34
    known = [value for value in (*middle, *low, *high, level) if value is not None]
    y = _Scale(min(known), max(known), bottom, _TOP)
    step = (WIDTH - _LEFT - _RIGHT) / max(1, len(labels) - 1)
    xs = [_LEFT + step * at for at in range(len(labels))]
    parts = _grid(y, form)
    edges = [
        (x, m if lo is None else lo, m if hi is None else hi)
        for x, m, lo, hi in zip(xs, middle, low, high, strict=True)
    ]
    around = [(x, y.at(lo)) for x, lo, _ in edges] + [(x, y.at(hi)) for x, _, hi in reversed(edges)]
    parts.append(f'<polygon class="band" points="{_points(around)}"/>')
    if level is not None:
        parts.append(_line(_LEFT, y.at(level), WIDTH - _RIGHT, y.at(level), "level"))
    parts.append(
        f'<polyline class="shadowline" points="{_points([(x, y.at(m)) for x, m in zip(xs, middle, strict=True)])}"/>'
    )
    if mark is not None:
        parts.append(_line(xs[mark], _TOP, xs[mark], bottom, "mark"))
    parts += _names(xs, labels, height)
    return _svg(height, title, "".join(parts))


def lines(title: str, labels: Sequence[str], series: Sequence[tuple[str, Sequence[float]]], form: str) -> str:
    """Several lines over the same points, each with the name of its arm."""
    height = 200
    bottom = height - 34
    known = [value for _, values in series for value in values]
    y = _Scale(min(known), max(known), bottom, _TOP)
    step = (WIDTH - _LEFT - _RIGHT) / max(1, len(labels) - 1)
    xs = [_LEFT + step * at for at in range(len(labels))]
    parts = _grid(y, form)
    for arm, values in series:
        points = _points([(x, y.at(value)) for x, value in zip(xs, values, strict=True)])
        parts.append(f'<polyline class="{arm}line" points="{points}"/>')
    parts += _names(xs, labels, height)
    return _svg(height, title, "".join(parts))


def strip(title: str, runs: Sequence[tuple[str, str, int]], ends: tuple[str, str]) -> str:
    """A strip of words in time: each run's class, word and length. A word is written where it has room."""
    total = sum(length for _, _, length in runs) or 1
    parts = []
    x = 4.0
    for kind, word, length in runs:
        width = (WIDTH - 8) * length / total
        parts.append(f'<rect class="strip {kind}" x="{x:.1f}" y="4" width="{max(width, 1):.1f}" height="30"/>')
        if width >= 9 * len(word):
            parts.append(_text(x + width / 2, 24, word))
        x += width
    parts.append(_text(4, 54, ends[0], "start"))
    if ends[1] != ends[0]:
        parts.append(_text(WIDTH - 4, 54, ends[1], "end"))
    return _svg(60, title, "".join(parts))


def _names(xs: Sequence[float], labels: Sequence[str], height: int) -> list[str]:
    """About five of the labels, each once in a row. One at the right edge ends there: there is no room beside it."""
    every = max(1, -(-len(labels) // 5))
    parts = []
    last = ""
    for at in range(0, len(labels), every):
        if labels[at] != last:
            last = labels[at]
            parts.append(_text(xs[at], height - 12, last, "end" if at and xs[at] >= WIDTH - _RIGHT - 1 else "middle"))
    return parts


def bars(title: str, rows: Sequence[tuple[str, float, float]]) -> str:
    """Pairs of horizontal bars, live above the shadow, each a share of 1."""
    left, each = 150, 44
    height = each * len(rows) + 8
    widest = max((max(live, shadow) for _, live, shadow in rows), default=1.0) or 1.0
    parts = []
    for at, (label, live, shadow) in enumerate(rows):
        top = at * each + 6
        parts.append(_text(left - 8, top + 21, label if len(label) <= 18 else label[:17] + "…", "end"))
        for down, share, arm in ((0, live, "live"), (17, shadow, "shadow")):
            width = share / widest * (WIDTH - left - 70)
            parts.append(f'<rect class="{arm}" x="{left}" y="{top + down}" width="{width:.1f}" height="15"/>')
            parts.append(_text(left + width + 5, top + down + 13, f"{share * 100:.1f} %", "start"))
    return _svg(height, title, "".join(parts))


def steps(title: str, live: Sequence[Span], shadow: Sequence[Span]) -> str:
    """Two histograms over one axis: (low, high, count) each, drawn as shares; live filled, the shadow outlined."""
    height = 200
    bottom = height - 34
    spans = [*live, *shadow]
    x = _Scale(min(low for low, _, _ in spans), max(high for _, high, _ in spans), _LEFT, WIDTH - _RIGHT)
    densities = [_densities(each) for each in (live, shadow)]
    top = max((value for each in densities for _, _, value in each), default=1.0) or 1.0
    y = _Scale(0, top, bottom, _TOP)
    parts = [_line(_LEFT, bottom, WIDTH - _RIGHT, bottom, "axis")]
    for arm, each in zip(("live", "shadow"), densities, strict=True):
        outline: list[Point] = []
        for low, high, value in each:
            outline += [(x.at(low), y.at(value)), (max(x.at(high), x.at(low) + 2), y.at(value))]
        if outline:
            outline = [(outline[0][0], bottom), *outline, (outline[-1][0], bottom)]
            parts.append(f'<polygon class="{arm} area" points="{_points(outline)}"/>')
    ticks = x.ticks()
    if max(len(f"{tick:,.4g}") for tick in ticks) > _LONGEST_OF_FIVE:
        ticks = [ticks[0], ticks[2], ticks[4]]
    for tick in ticks:
        anchor = "start" if tick == x.low else "end" if tick == x.high else "middle"
        parts.append(_text(x.at(tick), height - 12, f"{tick:,.4g}", anchor))
    return _svg(height, title, "".join(parts))


def interval(low: float | None, high: float | None, value: float | None, line: float | None) -> str:
    """One check as a bar: the interval, the value in it, and the line it is held to."""
    known = [each for each in (low, high, value, line) if each is not None]
    if value is None or line is None:
        return ""
    pad = (max(known) - min(known)) * 0.15 or abs(line) * 0.1 or 0.1
    x = _Scale(min(known) - pad, max(known) + pad, 4, 156)
    parts = [_line(4, 13, 156, 13, "axis")]
    if low is not None and high is not None:
        parts.append(
            f'<rect class="shadow" x="{x.at(low):.1f}" y="9" width="{max(2, x.at(high) - x.at(low)):.1f}" height="8"/>'
        )
    parts.append(f'<circle class="dot" cx="{x.at(value):.1f}" cy="13" r="5"/>')
    parts.append(_line(x.at(line), 1, x.at(line), 25, "mark"))
    return f'<svg class="small" viewBox="0 0 160 26" aria-hidden="true">{"".join(parts)}</svg>'


def _densities(rows: Sequence[Span]) -> list[Span]:
    total = sum(count for _, _, count in rows) or 1.0
    return [(low, high, count / total) for low, high, count in rows]


def _grid(y: _Scale, form: str) -> list[str]:
    parts = []
    for tick in y.ticks():
        parts.append(_line(_LEFT, y.at(tick), WIDTH - _RIGHT, y.at(tick), "axis"))
        parts.append(_text(_LEFT - 6, y.at(tick) + 5, form.format(tick), "end"))
    return parts


def _line(x: float, y: float, to_x: float, to_y: float, kind: str) -> str:
    return f'<line class="{kind}" x1="{x:.1f}" y1="{y:.1f}" x2="{to_x:.1f}" y2="{to_y:.1f}"/>'


def _points(points: Sequence[Point]) -> str:
    return " ".join(f"{x:.1f},{y:.1f}" for x, y in points)
