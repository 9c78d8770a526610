"""The history of a watched log: each shadow's verdict, agreement and labels over the looks."""

from collections.abc import Sequence
from itertools import groupby
from typing import Final, TypeVar

from shadowproxy.compare.report import charts
from shadowproxy.compare.report.history import HEADLINE_OF, LabelsSeen, Look, ShadowSeen, WindowSeen
from shadowproxy.compare.report.html.elements import code, css, e, sentence, table
from shadowproxy.compare.report.words import about_time, number, percent

_MOST_POINTS: Final = 120  # of a chart: more cannot be told apart
_MOST_CHANGES: Final = 20

Seen = tuple[str, ShadowSeen]
"""When a shadow was looked at, and how it stood."""


def history(looks: Sequence[Look]) -> str:
    """A section on all looks; empty without any."""
    if not looks:
        return ""
    first, last = looks[0]["at"], looks[-1]["at"]
    parts = [
        "<section id='history'><h2>Over time</h2>",
        f"<p>{e(f'{len(looks):,} looks from {_minute(first)} to {_minute(last)} (UTC).')}</p>",
    ]
    for name in dict.fromkeys(name for look in looks for name in look["shadows"]):
        rows = [(look["at"], seen) for look in looks if (seen := look["shadows"].get(name)) is not None]
        parts.append(f"<h3>{code(name)}</h3>{_verdicts(rows)}{_agreement(rows)}{_labels(rows)}")
    return "".join((*parts, _changes(looks), "</section>"))


def _verdicts(rows: Sequence[Seen]) -> str:
    """A strip of the words, whose runs are as wide as they had looks."""
    runs = [(word, len(list(run))) for word, run in groupby(seen["verdict"] for _, seen in rows)]
    strip = charts.strip(
        "The verdict at each look",
        [(css(word.replace("_", " ")), HEADLINE_OF[word], count) for word, count in runs],
        (_minute(rows[0][0]), _minute(rows[-1][0])),
    )
    return f"<figure>{strip}<figcaption>The verdict at each look, from the first to the last.</figcaption></figure>"


def _agreement(rows: Sequence[Seen]) -> str:
    known = _thinned([(at, span) for at, seen in rows if (span := seen["agreement"]) is not None])
    spans = [span for _, span in known]
    if len(spans) < 2:
        return ""
    chart = charts.band(
        "Agreement so far at each look, with the range that holds at every look",
        _clocks([at for at, _ in known]),
        [span["value"] for span in spans],
        [span["low"] for span in spans],
        [span["high"] for span in spans],
        "{:.1%}",
    )
    caption = (
        "Agreement over all requests up to each look. The band is a confidence sequence: however often you look, it "
        "leaves out the truth in at most 1 log of 20."
    )
    return f"<figure>{chart}<figcaption>{e(caption)}</figcaption></figure>"


def _labels(rows: Sequence[Seen]) -> str:
    """Both arms against the labels over time: all that have come, and those of each window."""
    parts = [_against([(at, seen["labels"]) for at, seen in rows], "all labels that had come")]
    for place, window in enumerate(rows[-1][1]["windows"]):
        within = [(at, seen["windows"][place]["found"] if place < len(seen["windows"]) else None) for at, seen in rows]
        parts.append(_against(within, f"labels known within {about_time(window['seconds'])} of their answers"))
    parts.append(_windows(rows[-1][1]["windows"]))
    return "".join(parts)


def _against(found: Sequence[tuple[str, LabelsSeen | None]], which: str) -> str:
    rows = _thinned([(at, seen) for at, seen in found if seen is not None])
    seen = [each for _, each in rows]
    if len(seen) < 2:
        return ""
    measure = seen[-1]["measure"]
    chart = charts.lines(
        f"{measure.capitalize()} over time, by {which}",
        _clocks([at for at, _ in rows]),
        [("live", [each["live"] for each in seen]), ("shadow", [each["shadow"] for each in seen])],
        "{:.1%}" if measure == "accuracy" else "{:,.3g}",
    )
    keys = "<span class='key live'></span> live <span class='key shadow'></span> shadow"
    caption = f"{measure.capitalize()} by {which}; {seen[-1]['labelled']:,} at the last look. "
    return f"<figure>{chart}<figcaption>{e(caption)}{keys}</figcaption></figure>"


def _windows(windows: Sequence[WindowSeen]) -> str:
    """What each window says at the last look, and how the labelled differ from the rest."""
    if not windows:
        return ""
    rows = []
    for window in windows:
        found = window["found"]
        share = percent(window["labelled"] / window["due"]) if window["due"] else "–"
        rest = e(sentence(window["rest"])) if window["rest"] else "–"
        if window["differ"]:
            rest = f"<b class='inconclusive'>They differ.</b> {rest}"
        rows.append(
            (
                e(f"within {about_time(window['seconds'])}"),
                f"{window['due']:,}",
                share,
                "–" if found is None else e(_figure(found, found["live"])),
                "–" if found is None else e(_figure(found, found["shadow"])),
                rest,
            )
        )
    heads = ("Labels", "#requests that old", "#labelled", "#live", "#shadow", "The labelled and the rest")
    return table(heads, rows, "By how long after their answers the labels were known", kind=" class='wordy'")


def _figure(found: LabelsSeen, value: float) -> str:
    return percent(value) if found["measure"] == "accuracy" else number(value)


def _changes(looks: Sequence[Look]) -> str:
    rows = [
        (
            e(_minute(look["at"])),
            code(change["shadow"]),
            f"{e(HEADLINE_OF[change['from']])} → <b class='{css(change['to'].replace('_', ' '))}'>"
            f"{e(HEADLINE_OF[change['to']])}</b>",
            e(sentence(look["shadows"][change["shadow"]]["sentence"])),
        )
        for look in looks
        for change in look["changes"]
        if change["shadow"] in look["shadows"]
    ]
    if not rows:
        return ""
    left = f"<p class='soft'>And {len(rows) - _MOST_CHANGES:,} before.</p>" if len(rows) > _MOST_CHANGES else ""
    return (
        "<h3>What changed</h3>"
        + table(("When", "Shadow", "Verdict", "Why"), rows[-_MOST_CHANGES:][::-1], kind=" class='wordy'")
        + left
    )


T = TypeVar("T")


def _thinned(rows: list[T]) -> list[T]:
    """Evenly chosen rows, the last among them."""
    every = -(-len(rows) // _MOST_POINTS)
    return rows if every <= 1 else rows[::-every][::-1]


def _clocks(times: Sequence[str]) -> list[str]:
    """Times as the axis shows them: days, or minutes within one day."""
    within = times[0][:10] == times[-1][:10]
    return [at[11:16] if within else at[5:10] for at in times]


def _minute(at: str) -> str:
    return at[:16].replace("T", " ")
