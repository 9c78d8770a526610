"""The file in which `shadowproxy judge` keeps which of two answers a judge prefers, and from which the report reads it.

Its first line is the head: what was drawn from which log, and who judges. Each other line is one pair of answers. The
drawn pairs have places, in the order in which they are asked. An interval uses those before the first that is missing:
which pairs count must not depend on what was said about them.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, Literal, TypeAlias, cast

import orjson

from shadowproxy.compare.fold.samples import hashed
from shadowproxy.compare.fold.summary import Summary
from shadowproxy.compare.report.betting import Interval
from shadowproxy.compare.report.figures.types import Judged
from shadowproxy.sources import source_of

FORMAT: Final = 1
LINE_LIMIT: Final = 1 << 20
"""Bytes of a line that is read; one has some hundred."""

Side: TypeAlias = Literal["live", "shadow", "tie"]
Said: TypeAlias = Literal["A", "B", "tie"]

_WORTH: Final[Mapping[Side, float]] = {"live": 0.0, "tie": 0.5, "shadow": 1.0}
_SIDES: Final = frozenset(_WORTH)
_SAYINGS: Final = frozenset({"A", "B", "tie"})
_LEAST_READ: Final = 0.5
"""The share of a log's records that the judge must have drawn from."""


class JudgedError(Exception):
    """A file of preferences that cannot be used. The text is one line."""


@dataclass(frozen=True, slots=True)
class Head:
    """What was drawn, and who judges.

    Attributes:
        records: how many records were read; `sketch` has the smallest hashes of their IDs.
        equal, differing: pairs whose answers are equal, which are ties without a call, and all other pairs.
        left_out: how many pairs cannot be judged, by reason.
        drawn: how many of the differing pairs are to be asked.
        mean_probability, least_probability: of being drawn, over all differing pairs.
        other_calls: calls to the judge that led to no line of this file.
    """

    shadow: str
    model: str
    to: str
    prompt: str
    records: int
    sketch: tuple[int, ...]
    equal: int
    differing: int
    left_out: Mapping[str, int]
    drawn: int
    mean_probability: float
    least_probability: float
    other_calls: int = 0

    def line(self) -> bytes:
        """The head as the first line of the file."""
        return orjson.dumps(
            {
                "shadowproxy_judged": FORMAT,
                "shadow": self.shadow,
                "model": self.model,
                "to": self.to,
                "prompt": self.prompt,
                "records": self.records,
                "sketch": [f"{each:016x}" for each in self.sketch],
                "equal": self.equal,
                "differing": self.differing,
                "left_out": dict(self.left_out),
                "drawn": self.drawn,
                "mean_probability": self.mean_probability,
                "least_probability": self.least_probability,
                "other_calls": self.other_calls,
            },
            option=orjson.OPT_APPEND_NEWLINE,
        )


@dataclass(frozen=True, slots=True)
class Preference:
    """What the judge said of one pair, asked twice: with live's answer as A (`live_first`), and with the shadow's.

    Attributes:
        id, record: the request's ID and the record's.
        place: its place among the drawn pairs; None if it was drawn for an earlier run only.
        winner: None if there is no decision; `why` then says why not.
        failed: there was no whole reply, so a later run asks again.
    """

    id: str
    record: str
    place: int | None
    probability: float
    live_first: Said | None
    shadow_first: Said | None
    calls: int
    why: str | None = None
    failed: bool = False

    @property
    def winner(self) -> Side | None:
        """The side that is preferred in both orders; a tie where the orders disagree."""
        if self.live_first is None or self.shadow_first is None:
            return None
        sides = {_side(self.live_first, live="A"), _side(self.shadow_first, live="B")}
        return sides.pop() if len(sides) == 1 else "tie"

    @property
    def swayed(self) -> bool:
        """Whether the judge preferred the answer that it saw first, or last, in both orders."""
        return self.live_first == self.shadow_first and self.live_first in ("A", "B")

    def line(self, head: Head) -> bytes:
        """The preference as a line of the file."""
        return orjson.dumps(
            {
                "id": _written(self.id),
                "record": _written(self.record),
                "shadow": head.shadow,
                "winner": self.winner,
                "live_first": self.live_first,
                "shadow_first": self.shadow_first,
                **({"why": self.why} if self.why is not None else {}),
                **({"failed": True} if self.failed else {}),
                "place": self.place,
                "probability": self.probability,
                "model": head.model,
                "prompt": head.prompt,
                "calls": self.calls,
            },
            option=orjson.OPT_APPEND_NEWLINE,
        )


def _written(text: str) -> str:
    """A text as JSON can hold it: half of a surrogate pair is no UTF-8."""
    return text.encode(errors="replace").decode()


def _side(said: Said, *, live: Said) -> Side:
    if said == "tie":
        return "tie"
    return "live" if said == live else "shadow"


# --- the file --------------------------------------------------------------------------------------------------------


def read_preferences(path: str | Path) -> tuple[Head, list[Preference]]:
    """The head and the preferences of a file, of several for one record the last. A torn last line is left out.

    Raises JudgedError.
    """
    found: dict[str, Preference] = {}
    head: Head | None = None
    try:
        source = source_of(path)
        path = source.name
        with source.open() as file:
            number = 0
            while raw := file.readline(LINE_LIMIT + 1):
                number += 1
                if len(raw) > LINE_LIMIT:
                    raise JudgedError(f"{path}:{number}: longer than {LINE_LIMIT >> 20} MiB")
                if not raw.endswith(b"\n"):
                    break  # the writer was ended in the middle of it
                try:
                    value = orjson.loads(raw)
                    if head is None:
                        head = _head(value)
                    else:
                        each = _preference(value)
                        found[each.record] = each
                except (ValueError, TypeError, KeyError) as error:
                    what = "the first line of a judge's file" if head is None else "a judge's preference"
                    raise JudgedError(f"{path}:{number}: this is not {what}: {_reason(error)}") from None
    except OSError as error:
        raise JudgedError(f"cannot read {path}: {error.strerror or error}") from None
    if head is None:
        raise JudgedError(f"{path}: the file has no whole line")
    return head, list(found.values())


def _reason(error: Exception) -> str:
    if isinstance(error, KeyError):
        return f"{error.args[0]} is missing"
    return str(error)[:100]


def _head(value: Any) -> Head:
    if not isinstance(value, dict) or value.get("shadowproxy_judged") != FORMAT:
        raise ValueError(f"no `shadowproxy_judged` of version {FORMAT}")
    mean, least = _share(value, "mean_probability"), _share(value, "least_probability")
    if least > mean * (1 + 1e-9):
        raise ValueError("least_probability is above mean_probability")
    sketch, left_out = value["sketch"], value["left_out"]
    if not isinstance(sketch, list) or not isinstance(left_out, dict):
        raise ValueError("sketch is no list, or left_out no object")
    return Head(
        shadow=_text(value, "shadow"),
        model=_text(value, "model"),
        to=_text(value, "to"),
        prompt=_text(value, "prompt"),
        records=_count(value, "records"),
        sketch=tuple(int(each, 16) for each in sketch),
        equal=_count(value, "equal"),
        differing=_count(value, "differing"),
        left_out={why: _count(left_out, why) for why in left_out},
        drawn=_count(value, "drawn"),
        mean_probability=mean,
        least_probability=least,
        other_calls=_count(value, "other_calls"),
    )


def _preference(value: Any) -> Preference:
    if not isinstance(value, dict):
        raise ValueError("no object")
    why = value.get("why")
    return Preference(
        id=_text(value, "id"),
        record=_text(value, "record"),
        place=None if value["place"] is None else _count(value, "place"),
        probability=_share(value, "probability"),
        live_first=_saying(value, "live_first"),
        shadow_first=_saying(value, "shadow_first"),
        calls=_count(value, "calls"),
        why=None if why is None else _text(value, "why"),
        failed=value.get("failed") is True,
    )


def _text(value: Mapping[str, Any], key: str) -> str:
    if not isinstance(value[key], str):
        raise ValueError(f"{key} is no text")
    return cast(str, value[key])


def _count(value: Mapping[str, Any], key: str) -> int:
    found = value[key]
    if not isinstance(found, int) or isinstance(found, bool) or found < 0:
        raise ValueError(f"{key} is no count")
    return found


def _share(value: Mapping[str, Any], key: str) -> float:
    found = value[key]
    if not isinstance(found, int | float) or isinstance(found, bool) or not 0 < found <= 1:
        raise ValueError(f"{key} is no probability")
    return float(found)


def _saying(value: Mapping[str, Any], key: str) -> Said | None:
    if value[key] is not None and value[key] not in _SAYINGS:
        raise ValueError(f"{key} is none of A, B, tie")
    return cast("Said | None", value[key])


# --- the win rate ----------------------------------------------------------------------------------------------------


class WinRate:
    """The shadow's win rate over all pairs, as preferences come in: 1 for a win, a half for a tie.

    The equal pairs are known to be ties. Over the differing pairs, a Horvitz-Thompson estimate: each preference counts
    by its distance from a tie, times the mean probability of being drawn by its own.
    """

    def __init__(self, head: Head) -> None:
        self._head = head
        self._waiting: dict[int, Preference] = {}
        self._next = 0
        self._interval = Interval()
        self._sum = 0.0
        self.used: list[Preference] = []

    def add(self, preference: Preference) -> None:
        """Take a preference of any place; it counts once all before it are there."""
        if preference.place is None:
            return
        self._waiting[preference.place] = preference
        while (each := self._waiting.pop(self._next, None)) is not None:
            self._next += 1
            self._use(each)

    def _use(self, each: Preference) -> None:
        self.used.append(each)
        if each.winner is None:
            return
        # From the least likely pair's range to 0 and 1. A line of a changed file could lie outside.
        weight = min(1.0, self._head.least_probability / each.probability)
        self._interval.add(0.5 + (_WORTH[each.winner] - 0.5) * weight)
        self._sum += (_WORTH[each.winner] - 0.5) * self._head.mean_probability / each.probability

    @property
    def pairs(self) -> int:
        return self._head.equal + self._head.differing

    @property
    def _share(self) -> float:
        """The share of the pairs that differ."""
        return self._head.differing / self.pairs if self.pairs else 0.0

    @property
    def value(self) -> float | None:
        """The estimate; None before the first decision, if any pair differs."""
        if not self.pairs:
            return None
        if not self._head.differing:
            return 0.5
        n = self._interval.n
        return min(1.0, max(0.0, 0.5 + self._share * self._sum / n)) if n else None

    @property
    def low(self) -> float:
        return self._whole(self._interval.low)

    @property
    def high(self) -> float:
        return self._whole(self._interval.high)

    def _whole(self, bound: float) -> float:
        """A bound of the interval, from its range to the win rate of the differing pairs, and of all."""
        among = 0.5 + (bound - 0.5) * self._head.mean_probability / self._head.least_probability
        return 0.5 + self._share * (min(1.0, max(0.0, among)) - 0.5)

    def settled(self, line: float) -> bool:
        """Whether the interval lies above the line, or below it."""
        return self.low >= line or self.high < line


def judged_figures(head: Head, preferences: Sequence[Preference]) -> Judged:
    """What the report says of a judge's file."""
    rate = WinRate(head)
    for each in preferences:
        rate.add(each)
    winners = [each.winner for each in rate.used]
    return {
        "model": head.model,
        "to": head.to,
        "prompt": head.prompt,
        "records": head.records,
        "pairs": rate.pairs,
        "equal": head.equal,
        "differing": head.differing,
        "left_out": dict(sorted(head.left_out.items())),
        "drawn": head.drawn,
        "asked": len(rate.used),
        "shadow_better": winners.count("shadow"),
        "live_better": winners.count("live"),
        "ties": winners.count("tie"),
        "swayed": sum(each.swayed for each in rate.used),
        "unreadable": sum(each.winner is None and not each.failed for each in rate.used),
        "failed": sum(each.failed for each in rate.used),
        "win_rate": rate.value,
        "low": rate.low,
        "high": rate.high,
    }


def judged_in(paths: Iterable[str | Path], summary: Summary) -> dict[str, Judged]:
    """The figures of these files by shadow, if they are about the records of this summary. Raises JudgedError."""
    found: dict[str, Judged] = {}
    for path in paths:
        head, preferences = read_preferences(path)
        if head.shadow not in summary.shadows:
            raise JudgedError(f"{path}: it judges the shadow {head.shadow:.60}, which is not in this log")
        if head.shadow in found:
            raise JudgedError(f"{path}: a second file that judges the shadow {head.shadow:.60}")
        _check_records(path, head, preferences, summary)
        found[head.shadow] = judged_figures(head, preferences)
    return found


def _check_records(path: str | Path, head: Head, preferences: Sequence[Preference], summary: Summary) -> None:
    """Raises JudgedError unless the judge's records are most or all of the summary's.

    The summary has the smallest hashes of its records' IDs, so a hash of the judge's below the largest of them must be
    among them. A log that has grown since has a few that the judge has not seen.
    """
    hashes = {*head.sketch, *(hashed(each.record) for each in preferences if each.place is not None)}
    full = len(summary.records) >= summary.records.KEPT
    known = {each for each in hashes if not full or each <= max(summary.records)}
    if not known <= summary.records.keys() or head.records > summary.count:
        raise JudgedError(
            f"{path}: it judges records that are not in this log; give report the log and the filters "
            "(--since, --until, --path, --where) that judge was given"
        )
    if head.records < _LEAST_READ * summary.count:
        raise JudgedError(
            f"{path}: it judges {head.records:,} of this log's {summary.count:,} records, too few; "
            "run shadowproxy judge again"
        )
