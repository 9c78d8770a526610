"""The requests that live answered and the shadow received: failures, rejections, and what answers lack."""

from collections.abc import Mapping
from typing import Final

from shadowproxy.answers.left_out import SETTINGS
from shadowproxy.compare.fold.counts import Series
from shadowproxy.compare.fold.outcomes import COUNTED
from shadowproxy.compare.fold.pair import Pair
from shadowproxy.compare.fold.reasons import Reason, Reasons
from shadowproxy.compare.fold.slices import Cell, Slice
from shadowproxy.compare.fold.structure import always_there, places_of_lacking
from shadowproxy.compare.report import stats
from shadowproxy.compare.report.figures.common import estimated, ranked
from shadowproxy.compare.report.figures.slices import known_slices
from shadowproxy.compare.report.figures.types import (
    Answered,
    Errors,
    FailureReason,
    Flipped,
    Flips,
    Gathered,
    Interval,
    LeftOut,
    Pairs,
    Structure,
    Unanswered,
)
from shadowproxy.exchange import Outcome

REASONS_SHOWN: Final = 20
PLACES_SHOWN: Final = 20

_GATHERED: Final = 0.6  # of a reason's answers in one part of the requests
_LIFT: Final = 1.5


def pairs(pair: Pair) -> Pairs:
    n, good = number_of_pairs(pair)
    found: Pairs = {"n": n, "live_2xx": good, "live_2xx_share": good / n if n else None}
    if pair.pairs.weights is not None:
        found["written"], found["live_2xx_written"] = pair.pairs.written(), pair.live_good.written()
    return found


def number_of_pairs(pair: Pair) -> tuple[int, int]:
    """How many pairs there are, and in how many of them live's answer is a good one."""
    if not pair.legacy:
        return pair.pairs.total(), pair.live_good.total()
    # An earlier version counted them only by how both ended; a 2xx that says that it failed was no failure to it.
    n = good = 0
    for key, count in pair.statuses.items():
        live, _, shadow = key.partition(" ")
        if live.isdigit() and (shadow.isdigit() or shadow in COUNTED):
            n += count
            good += count * (live.startswith("2") and len(live) == 3)
    return n, good


def left_out(pair: Pair) -> list[LeftOut]:
    """By setting, how many answers of requests that both answered the log has not whole."""
    rows: list[LeftOut] = [
        {
            "setting": each,
            "live": pair.left_out.get(f"live {each}", 0),
            "shadow": pair.left_out.get(f"shadow {each}", 0),
        }
        for each in SETTINGS
    ]
    return [row for row in rows if row["live"] or row["shadow"]]


def errors(pair: Pair) -> Errors:
    """Failed answers: a 5xx, a missing or incomplete one, and a 2xx whose body reports a failure."""
    n = pair.pairs
    plus, minus = pair.shadow_failed_only, pair.live_failed_only
    return {
        "n": n.total(),
        "live": estimated(stats.proportion(pair.live_failed, n)),
        "shadow": estimated(stats.proportion(pair.shadow_failed, n)),
        "difference": estimated(stats.paired_difference(plus, minus, n)),
        "live_only": minus.total(),
        "shadow_only": plus.total(),
        "anytime": anytime(plus, minus, n),
        "unanswered": _unanswered(pair),
        "reasons": {
            "live": _reasons(pair.live_reasons, pair),
            "shadow": _reasons(pair.shadow_reasons, pair),
        },
    }


def _unanswered(pair: Pair) -> Unanswered:
    """Requests whose callers left before live answered, and how many of them failed in the shadow.

    There is no answer of live's to hold it to, so they are in no other figure. `begun` is all that the shadow was sent.
    """
    begun = n = failed = 0
    for key, count in pair.statuses.items():
        live, _, shadow = key.partition(" ")
        if not shadow.isdigit() and shadow not in COUNTED:
            continue
        begun += count
        if live == Outcome.CALLER_LEFT:
            n += count
            failed += count * (not shadow.isdigit() or shadow.startswith("5"))
    return {"n": n, "shadow_failed": failed, "begun": begun}


def flips(pair: Pair) -> Flips:
    """Requests that one of the two accepts and the other rejects."""
    n = pair.pairs
    return {
        "n": n.total(),
        "to_4xx": _way(pair.to_4xx, n),
        "to_2xx": _way(pair.to_2xx, n),
        "net": {
            "difference": estimated(stats.paired_difference(pair.to_4xx, pair.to_2xx, n)),
            "anytime": anytime(pair.to_4xx, pair.to_2xx, n),
        },
    }


def _way(flipped: Mapping[int, int], n: Mapping[int, int]) -> Flipped:
    share = stats.proportion(flipped, n)
    return {
        "count": sum(flipped.values()),
        "share": estimated(share),
        "anytime": list(stats.anytime_share(share, certain=(True, False))) if share is not None else None,
    }


def structure(pair: Pair, aside: set[str]) -> Structure | None:
    """How often the shadow's answers lack what live's always have; None where live's have no parts."""
    n = pair.structured
    if not n.total():
        return None
    always = always_there(pair.present, n.total(), aside)
    lost = Series()
    by_place: dict[str, int] = {}
    for key, series in pair.lacking.items():
        places = always.intersection(places_of_lacking(key))
        for place in places:
            by_place[place] = by_place.get(place, 0) + series.total()
        if places:
            lost.absorb(series)
    share = stats.proportion(lost, n)
    rows = sorted(by_place.items(), key=lambda each: (-each[1], each[0]))
    return {
        "n": n.total(),
        "lost": lost.total(),
        "share": estimated(share),
        "anytime": list(stats.anytime_share(share, certain=(True, False))) if share is not None else None,
        "places": [{"path": path, "lost": count} for path, count in rows[:PLACES_SHOWN]],
        "always": len(always),
    }


def answered(pair: Pair) -> Answered:
    """Whether there is an answer at all, where no place is judged."""
    n = pair.pairs
    return {
        "n": n.total(),
        "lost": pair.lost.total(),
        "gained": pair.gained.total(),
        "difference": estimated(stats.paired_difference(pair.gained, pair.lost, n)),
        "anytime": anytime(pair.gained, pair.lost, n),
        "missing": ranked(pair.missing),
    }


def anytime(plus: Mapping[int, int], minus: Mapping[int, int], n: Mapping[int, int]) -> Interval | None:
    """Between which (plus - minus) / n lies, at every look at it."""
    difference = stats.paired_difference(plus, minus, n)
    if difference is None:
        return None
    counts = sum(plus.values()), sum(minus.values()), sum(n.values())
    return list(stats.anytime_of(difference, *counts, difference.design_effect))


# --- why -----------------------------------------------------------------------------------------------------------


def _reasons(reasons: Reasons, pair: Pair) -> list[FailureReason]:
    n, slices = pair.pairs.total(), known_slices(pair.slices, pair)
    rows: list[FailureReason] = [
        {
            "reason": text,
            "count": reason.counts["n"],
            "share": reason.counts["n"] / n if n else None,
            "example": _example(reason),
            "where": _where(reason, slices, n),
        }
        for text, reason in reasons.items()
    ]
    rows.sort(key=lambda row: (-row["count"], row["reason"]))
    rest = reasons.other.counts["n"]
    if rest:
        rows.append(
            {
                "reason": "other reasons",
                "count": rest,
                "share": rest / n if n else None,
                "example": _example(reasons.other),
                "where": None,
            }
        )
    return rows[:REASONS_SHOWN]


def _example(reason: Reason) -> str | None:
    return next((reason.example[digest] for digest in sorted(reason.example)), None)


def _where(reason: Reason, slices: Mapping[str, Slice], n: int) -> Gathered | None:
    """The one value of a request's field at which most answers of a reason gather, far more than requests do."""
    count = reason.counts["n"]
    best: tuple[float, str, str] | None = None
    for place, values in reason.asked.items():
        if values.cut:
            continue  # many values, such as IDs
        for text, tally in values.items():
            share = tally["n"] / count
            of_all = _requests(slices, place, text) / n if n else 0.0
            if share < _GATHERED or not of_all or share < _LIFT * of_all:
                continue
            rank = -share / of_all, place, text
            best = rank if best is None or rank < best else best
    if best is None:
        return None
    _, place, text = best
    return {
        "path": place,
        "value": text,
        "share": reason.asked[place][text]["n"] / count,
        "share_of_requests": _requests(slices, place, text) / n,
    }


def _requests(slices: Mapping[str, Slice], place: str, text: str) -> int:
    """How many requests have a value at a field of theirs."""
    part = slices.get(place)
    if part is None:
        return 0
    cell: Cell | None = part.values.get(text)
    if cell is not None:
        return cell["n"]
    return part.count_of_whole(text)
