"""Labels that are counted as they come, by how long after their answers they were known.

A label counts once its request is as old as the first window: of younger requests only those have a label that was
known soon, and these are no fair sample. And labels decide once they are of a whole window: on the first morning of
real flights the better model was worse by 6 points on 255 of them, and an interval knows nothing of other mornings.

A pair waits for its labels until the last window has passed. Then it is forgotten, so that what is kept is bounded by
the windows: a label that comes later still is not counted.

The labels are counted in summaries of their own, one of all that have come and one for each window. Added to the
summary of the log they give the report that it would have had with these labels.
"""

from collections.abc import Iterable
from dataclasses import dataclass
from math import sqrt
from typing import Final, TypedDict

from shadowproxy.compare.fold.gist import Gist
from shadowproxy.compare.fold.kept import KeptPair
from shadowproxy.compare.fold.labels import Known, truth_of
from shadowproxy.compare.fold.place_gists import PlaceGists
from shadowproxy.compare.fold.routes import Routes
from shadowproxy.compare.fold.summary import Summary
from shadowproxy.compare.fold.truths import Truth
from shadowproxy.compare.report.words import percent
from shadowproxy.watch.state import State, read_known

ALL: Final = "labels"
_FORGOTTEN: Final = "labels forgotten"
"""Summaries in the state: of all labels, and of those among them whose pairs are forgotten."""

_MOST_CLASSES: Final = 64
_LONGEST_CLASS: Final = 40  # characters: longer texts are no names of classes
_FEWEST: Final = 50
_SURE: Final = 3.0  # standard errors: of two comparisons at every look few are so far apart by chance
_NOTABLE: Final = 0.02


def window_name(seconds: float) -> str:
    return f"labels within {seconds:g}"


class Group(TypedDict):
    """Some of the pairs that are due: how many, how many agree, and live's answers, where they are few and short.

    Each counts as often as its record's weight says; `records` is how many records that were.
    """

    records: int
    n: int
    same: int
    classes: dict[str, int]


class Rest(TypedDict):
    """The pairs of one shadow that are due in one window, those with a label and those without."""

    labelled: Group
    others: Group


@dataclass(frozen=True, slots=True)
class Windows:
    """How long to wait for labels, in seconds, the shortest first."""

    seconds: tuple[float, ...]

    @property
    def longest(self) -> float:
        return self.seconds[-1]


def take(state: State, found: dict[str, Known], windows: Windows, judged: dict[str, str], width: int, now: int) -> None:
    """Count the labels that have come, and see which pairs have waited long enough.

    Args:
        found: new labels by key.
        judged: by shadow, the key of the place that is judged.
        width: of the log's blocks of time, in milliseconds.
        now: microseconds since the epoch.
    """
    state.add_labels(found, now)
    for stage, seconds in enumerate(windows.seconds):
        _pass_window(state, stage, seconds, judged, width, now)
    _count(state, width)
    _forget(state, len(windows.seconds), width)
    state.forget_labels(now - round(windows.longest * 1e6))


def _pass_window(state: State, stage: int, seconds: float, judged: dict[str, str], width: int, now: int) -> None:
    """Note the pairs whose time for this window is over, and what was known of them within it."""
    span = round(seconds * 1e6)
    within = Summary(width=width)
    rests: dict[str, Rest] = state.get(f"rest {seconds:g}") or {}
    some = False
    for waiting in state.due(stage, now - span):
        some = True
        pair = waiting.pair
        truth = _truth(waiting.known)
        in_time = truth is not None and (truth.at is None or truth.at <= pair.at + span)
        if in_time:
            _add(within, pair, truth)
        _note(rests, pair, judged.get(pair.shadow), in_time=in_time)
    if some:
        state.advance(stage, now - span)
        state.put(f"rest {seconds:g}", rests)
        _add_to(state, window_name(seconds), within)


def _count(state: State, width: int) -> None:
    """Count the labels of the pairs that are old enough."""
    more = Summary(width=width)
    marks: list[tuple[bytes | None, int]] = []
    corrected = False
    for waiting in state.to_count():
        corrected = corrected or waiting.counted is not None
        if waiting.counted is None:
            _add(more, waiting.pair, _truth(waiting.known))
        marks.append((waiting.known, waiting.row))
    state.mark_counted(marks)
    if not corrected:
        _add_to(state, ALL, more)
        return
    # A label has changed that was counted before: count those of all pairs that are kept once more.
    total = state.summary(_FORGOTTEN)
    more = Summary(width=width)
    for waiting in state.counted():
        _add(more, waiting.pair, _truth(waiting.counted))
    total.absorb(more)
    state.put_summary(ALL, total)


def _forget(state: State, stage: int, width: int) -> None:
    """Forget the pairs that have passed the last window."""
    forgotten = Summary(width=width)
    for waiting in state.at_stage(stage):
        _add(forgotten, waiting.pair, _truth(waiting.counted))
    _add_to(state, _FORGOTTEN, forgotten)
    state.drop(stage)


def _add_to(state: State, name: str, more: Summary) -> None:
    if more.shadows:
        total = state.summary(name)
        total.absorb(more)
        state.put_summary(name, total)


def _truth(known: bytes | None) -> Truth | None:
    return None if known is None else truth_of(read_known(known))


def _add(summary: Summary, pair: KeptPair, truth: Truth | None) -> None:
    """Count the truth of one pair in a summary that holds labels alone."""
    if truth is None:
        return
    routes = summary.shadows.get(pair.shadow)
    if routes is None:
        routes = summary.shadows[pair.shadow] = Routes()
    counted = routes.part(pair.route)
    places = pair.gists()
    for key, _, _ in places:
        counted.outputs.part(key)
    counted.label(pair.at // (1000 * summary.width), pair.at / 1e6, truth, places, pair.stands_for)
    summary.labels += sum(label is not None for label in truth.labels)


# --- how the labelled differ from the rest ---------------------------------------------------------------------------


def _note(rests: dict[str, Rest], pair: KeptPair, judged: str | None, *, in_time: bool) -> None:
    rest = rests.get(pair.shadow)
    if rest is None:
        rest = rests[pair.shadow] = {"labelled": _nothing(), "others": _nothing()}
    group = rest["labelled" if in_time else "others"]
    group["records"] += 1
    group["n"] += pair.weight
    place = _place(pair, judged)
    if place is None:
        return
    if place.shadow is not None and list(place.shadow) == list(place.live):
        group["same"] += pair.weight
    if len(place.live) == 1:
        text = _class(place.live[0])
        classes = group["classes"]
        if text is not None and (text in classes or len(classes) < _MOST_CLASSES):
            classes[text] = classes.get(text, 0) + pair.weight


def _place(pair: KeptPair, judged: str | None) -> PlaceGists | None:
    return next((each for each in pair.gists() if each.key == judged), None)


def _class(gist: Gist) -> str | None:
    form, value = gist
    if value is None or form == "real":
        return None
    text = f"{value:g}" if isinstance(value, float) else value
    return text if len(text) <= _LONGEST_CLASS and text.isprintable() else None


def _nothing() -> Group:
    return {"records": 0, "n": 0, "same": 0, "classes": {}}


def how_they_differ(rest: Rest | None) -> tuple[str | None, bool]:
    """What is different between the pairs with a label and the others, and whether it is more than chance does."""
    if rest is None:
        return None, False
    one, other = rest["labelled"], rest["others"]
    if min(one["records"], other["records"]) < _FEWEST:
        return None, False
    said = []
    differ = False
    value = _most_apart(one, other)
    if value is not None:
        shares = [group["classes"].get(value, 0) / group["n"] for group in (one, other)]
        differ = _apart(shares, (one["records"], other["records"]))
        said.append(f"live says {value} for {percent(shares[0])} of them and for {percent(shares[1])} of the rest")
    shares = [group["same"] / group["n"] for group in (one, other)]
    differ = _apart(shares, (one["records"], other["records"])) or differ
    said.append(f"the two agree on {percent(shares[0])} of them and on {percent(shares[1])} of the rest")
    return "; ".join(said), differ


def _most_apart(one: Group, other: Group) -> str | None:
    names: Iterable[str] = {**one["classes"], **other["classes"]}
    apart = {
        name: abs(one["classes"].get(name, 0) / one["n"] - other["classes"].get(name, 0) / other["n"]) for name in names
    }
    return max(sorted(apart), key=lambda name: apart[name], default=None)


def _apart(shares: list[float], counts: tuple[int, int]) -> bool:
    difference = abs(shares[0] - shares[1])
    error = sqrt(sum(share * (1 - share) / count for share, count in zip(shares, counts, strict=True)))
    return difference > _NOTABLE and difference > _SURE * error


def due_in(rest: Rest | None) -> tuple[int, int]:
    """How many pairs are due in a window, and how many of them were labelled in time."""
    return (0, 0) if rest is None else (rest["labelled"]["n"] + rest["others"]["n"], rest["labelled"]["n"])
