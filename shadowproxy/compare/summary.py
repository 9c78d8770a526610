"""A log folded into counts that add up: the same from one file or a thousand, on one machine or many, in any order.

`summarise` reads records once and keeps a bounded amount of what they say; `merge` adds two summaries exactly, with
`Summary()` as its zero; `save` and `load` write one down. Everything the report prints is computed from a summary.

Counts that need an interval are kept by block of time: one second wide at first, and while there are more than
`MOST_BLOCKS` of them, neighbours are merged and the width doubles.
"""

import json
import re
from collections.abc import Iterable
from dataclasses import dataclass, field, fields
from datetime import datetime
from typing import Any, Final, Self

import orjson

from shadowproxy.compare.diff import Diff, Where
from shadowproxy.compare.rules import Rules, pointer_segments, pointer_token
from shadowproxy.compare.sketch import Bins, Distinct, DistinctIds, Sample, Series, Table, Tally, bin_of, hashed
from shadowproxy.compare.verdict import Compared, compare, content
from shadowproxy.exchange import Outcome, Verdict
from shadowproxy.record import Answer, Body, Record

MOST_BLOCKS: Final = 64
FORMAT: Final = 1
"""The version of a saved summary. Summaries of other versions are refused, not guessed at."""

BEGUN: Final = frozenset(
    {
        Outcome.OK,
        Outcome.TIMEOUT,
        Outcome.CONNECT_ERROR,
        Outcome.TLS_ERROR,
        Outcome.PROTOCOL_ERROR,
        Outcome.INCOMPLETE,
        Outcome.ANSWER_OVERSIZE,
    }
)
"""Outcomes of a request that a shadow was really sent. The others say nothing of the shadow, only of what we asked."""

_MOST_PLACES: Final = 16  # places of one exchange that its signature names
_ELSEWHERE: Final = "…"  # in a signature: and further places
_SHOWN: Final = 8  # differences of an example
_SHOWN_BODY: Final = 1000  # characters of a body that an example shows


class SummaryError(Exception):
    """A saved summary that cannot be read, or not be added to another. The text is one line."""


class BySignature(Table[Series]):
    """Exchanges by the set of places at which they differ, by block: what would agree if these places did not count."""

    INNER = Series
    LIMIT = 256


class ByPath(Table[Series]):
    """Exchanges that differ at a place, by block."""

    INNER = Series
    SHALLOW = True


class Kinds(Table[Tally]):
    """Words by place."""

    INNER = Tally
    SHALLOW = True


class Values(Table[Distinct]):
    """How many different values a differing place had."""

    INNER = Distinct
    SHALLOW = True


class Examples(Table[Sample]):
    """A few exchanges of each signature."""

    INNER = Sample
    LIMIT = 64


@dataclass(slots=True)
class Pair:
    """What is counted of one shadow beside live. Series and bins are by block of time.

    chosen: requests chosen for the shadow. begun: those it was really sent. live_good, shadow_good: 2xx among begun.
    answered: both came whole. compared: a verdict other than incomparable; agreed: match or ignored.
    timed: both have a time, a shadow's timeout counting as the time it was given. Latency is in bins of milliseconds.
    json_asked, json_given: live's good answers that are JSON, and the shadow's among them that are valid JSON too.
    """

    chosen: Series = field(default_factory=Series)
    begun: Series = field(default_factory=Series)
    live_good: Series = field(default_factory=Series)
    shadow_good: Series = field(default_factory=Series)
    answered: Series = field(default_factory=Series)
    compared: Series = field(default_factory=Series)
    agreed: Series = field(default_factory=Series)
    json_asked: Series = field(default_factory=Series)
    json_given: Series = field(default_factory=Series)
    timed: Series = field(default_factory=Series)
    slower: Series = field(default_factory=Series)
    timeouts: Series = field(default_factory=Series)
    outcomes: Tally = field(default_factory=Tally)
    statuses: Tally = field(default_factory=Tally)
    verdicts: Tally = field(default_factory=Tally)
    whys: Tally = field(default_factory=Tally)
    live_ms: Bins = field(default_factory=Bins)
    shadow_ms: Bins = field(default_factory=Bins)
    gap_ms: Bins = field(default_factory=Bins)
    live_first_ms: Bins = field(default_factory=Bins)
    shadow_first_ms: Bins = field(default_factory=Bins)
    signatures: BySignature = field(default_factory=BySignature)
    differs: ByPath = field(default_factory=ByPath)
    kinds: Kinds = field(default_factory=Kinds)
    near: Kinds = field(default_factory=Kinds)
    shapes: Kinds = field(default_factory=Kinds)
    live_values: Values = field(default_factory=Values)
    shadow_values: Values = field(default_factory=Values)
    examples: Examples = field(default_factory=Examples)

    def add(self, block: int, record: Record, shadow: Answer, rules: Rules) -> None:
        live = record.live
        self.chosen[block] += 1
        self.outcomes[shadow.outcome] += 1
        if shadow.outcome in BEGUN:
            self.begun[block] += 1
            self.live_good[block] += good(live)
            self.shadow_good[block] += good(shadow)
        if shadow.status is not None or shadow.outcome is not Outcome.OK:
            self.statuses[f"{_status(live)} {_status(shadow)}"] += 1
        self._time(block, live, shadow)
        if live.outcome is not Outcome.OK or shadow.outcome is not Outcome.OK:
            return
        self.answered[block] += 1
        if good(live):
            said = content(live)
            if said.kind == "json" and good(shadow):
                answer = content(shadow)
                if answer.kind != "unknown":
                    self.json_asked[block] += 1
                    self.json_given[block] += answer.kind == "json" and not answer.lenient
        compared = recompared(live, shadow, rules)
        self.verdicts[compared.verdict] += 1
        if compared.verdict is Verdict.INCOMPARABLE:
            self.whys[compared.why or "unknown"] += 1
            return
        self.compared[block] += 1
        self.agreed[block] += compared.verdict is not Verdict.MISMATCH
        if compared.diff is not None:
            self._differences(block, record, compared.diff)

    def _time(self, block: int, live: Answer, shadow: Answer) -> None:
        one, other = live.total_ms, shadow.total_ms
        late = shadow.outcome is Outcome.TIMEOUT
        if live.outcome is not Outcome.OK or one is None or other is None or not (late or shadow.outcome is Outcome.OK):
            return
        self.timed[block] += 1
        self.timeouts[block] += late
        self.slower[block] += late or other > one
        self.live_ms.add(block, bin_of(one))
        self.shadow_ms.add(block, bin_of(other))
        self.gap_ms.add(block, bin_of(other - one))
        if live.first_byte_ms is not None and shadow.first_byte_ms is not None:
            self.live_first_ms.add(block, bin_of(live.first_byte_ms))
            self.shadow_first_ms.add(block, bin_of(shadow.first_byte_ms))

    def _differences(self, block: int, record: Record, found: Diff) -> None:
        for path, times in found.near.items():
            self.near.part(path)["near"] += times
        if not found.count:
            return
        signature = signature_of(found.where)
        self.signatures.part(signature)[block] += 1
        for path in {path for path, _ in found.where}:
            self.differs.part(path)[block] += 1
        for (path, kind), times in found.where.items():
            self.kinds.part(path)[kind] += times
        for difference in found.differences:
            if difference.kind == "value":
                self._values(patterned(difference.path, found.where), difference.live, difference.shadow)
        sample = self.examples.part(signature)
        digest = hashed(record.id, record.record)
        if sample.wants(digest):
            sample.add(digest, _example(record, found))

    def _values(self, path: str, live: Any, shadow: Any) -> None:
        self.live_values.part(path).add(hashed(repr(live)))
        self.shadow_values.part(path).add(hashed(repr(shadow)))
        shapes = self.shapes.part(path)
        shapes[shape_of(path, live)] += 1
        shapes[shape_of(path, shadow)] += 1


@dataclass(slots=True)
class Summary:
    """What a log says. `width` is the seconds in a block of time; first and last are microseconds since the epoch."""

    width: int = 1
    blocks: Series = field(default_factory=Series)
    first: int | None = None
    last: int | None = None
    ids: DistinctIds = field(default_factory=DistinctIds)
    records: DistinctIds = field(default_factory=DistinctIds)
    live_outcomes: Tally = field(default_factory=Tally)
    live_statuses: Tally = field(default_factory=Tally)
    unreadable: Tally = field(default_factory=Tally)
    shadows: dict[str, Pair] = field(default_factory=dict)

    @property
    def count(self) -> int:
        """Records read."""
        return sum(self.blocks.values())

    def add(self, record: Record, rules: Rules, *, shadow: str | None = None) -> None:
        """Count one record; with `shadow`, of the shadows only that one. Raises ValueError where its time is none."""
        at = _micros(record.at)
        block = at // (1_000_000 * self.width)
        if block not in self.blocks and len(self.blocks) >= MOST_BLOCKS:
            self.blocks[block] += 1
            self._narrowed()
            block = at // (1_000_000 * self.width)
        else:
            self.blocks[block] += 1
        self.first = at if self.first is None else min(self.first, at)
        self.last = at if self.last is None else max(self.last, at)
        self.ids.add(hashed(record.id))
        self.records.add(hashed(record.record))
        self.live_outcomes[record.live.outcome] += 1
        self.live_statuses[_status(record.live)] += 1
        for name, answer in record.shadows.items():
            if shadow is None or name == shadow:
                pair = self.shadows.get(name)
                if pair is None:
                    pair = self.shadows[name] = Pair()
                pair.add(block, record, answer, rules)

    def _narrowed(self) -> None:
        while len(self.blocks) > MOST_BLOCKS:
            self.blocks = self.blocks.widened()
            self.shadows = {name: _widened(pair) for name, pair in self.shadows.items()}
            self.width *= 2

    def to_json(self) -> dict[str, Any]:
        plain = {
            each.name: _plain(getattr(self, each.name))
            for each in fields(self)
            if each.name not in ("shadows", "width")
        }
        return {
            "shadowproxy_summary": FORMAT,
            "width": self.width,
            **plain,
            "shadows": {
                name: {each.name: _plain(getattr(pair, each.name)) for each in fields(pair)}
                for name, pair in sorted(self.shadows.items())
            },
        }

    @classmethod
    def from_json(cls, raw: Any) -> Self:
        """Raises SummaryError for what is no summary of this version."""
        if not isinstance(raw, dict) or raw.get("shadowproxy_summary") != FORMAT:
            raise SummaryError(f"not a summary of format {FORMAT}")
        try:
            summary = cls(width=int(raw["width"]), first=raw["first"], last=raw["last"])
            for name in ("blocks", "ids", "records", "live_outcomes", "live_statuses", "unreadable"):
                setattr(summary, name, type(getattr(summary, name)).from_json(raw[name]))
            for shadow, counted in raw["shadows"].items():
                pair = summary.shadows[shadow] = Pair()
                for each in fields(pair):
                    setattr(pair, each.name, type(getattr(pair, each.name)).from_json(counted[each.name]))
        except (KeyError, TypeError, ValueError, AttributeError) as error:
            raise SummaryError(f"not a whole summary: {error!s:.80}") from error
        return summary


def summarise(records: Iterable[Record], rules: Rules, *, shadow: str | None = None) -> Summary:
    """Fold records into a summary, in one pass and bounded memory."""
    summary = Summary()
    for record in records:
        try:
            summary.add(record, rules, shadow=shadow)
        except ValueError:
            summary.unreadable["no time"] += 1
    return summary


def merge(one: Summary, other: Summary) -> Summary:
    """The summary of both logs together. Neither is changed; order and grouping make no difference."""
    one, other = _aligned(one, max(one.width, other.width)), _aligned(other, max(one.width, other.width))
    times = [at for at in (one.first, one.last, other.first, other.last) if at is not None]
    total = Summary(
        width=one.width,
        blocks=one.blocks.merged(other.blocks),
        first=min(times, default=None),
        last=max(times, default=None),
        ids=one.ids.merged(other.ids),
        records=one.records.merged(other.records),
        live_outcomes=one.live_outcomes.merged(other.live_outcomes),
        live_statuses=one.live_statuses.merged(other.live_statuses),
        unreadable=one.unreadable.merged(other.unreadable),
    )
    for name in {**one.shadows, **other.shadows}:
        left, right = one.shadows.get(name, Pair()), other.shadows.get(name, Pair())
        total.shadows[name] = Pair(
            **{each.name: getattr(left, each.name).merged(getattr(right, each.name)) for each in fields(Pair)}
        )
    total._narrowed()
    return total


def save(summary: Summary) -> bytes:
    """One line of JSON."""
    return orjson.dumps(summary.to_json(), option=orjson.OPT_APPEND_NEWLINE)


def load(raw: bytes) -> Summary:
    """The summary that `save` wrote. Raises SummaryError."""
    try:
        return Summary.from_json(orjson.loads(raw))
    except orjson.JSONDecodeError as error:
        raise SummaryError(f"not a summary: {error}") from error


def recompared(live: Answer, shadow: Answer, rules: Rules) -> Compared:
    """The two answers compared by `rules`, or, where the log did not keep their bodies, as they were when they came."""
    compared = compare(live, shadow, rules)
    judged = shadow.judgement
    if compared.verdict is not Verdict.INCOMPARABLE or judged is None or (_kept(live.body) and _kept(shadow.body)):
        return compared
    if judged.verdict is not Verdict.MISMATCH:
        return Compared(judged.verdict, None, judged.why)
    found = Diff(list(judged.differences), len(judged.differences))
    for each in judged.differences:
        found.where[guessed_pattern(each.path), each.kind] += 1
    return Compared(Verdict.MISMATCH, found)


def good(answer: Answer) -> bool:
    return answer.outcome is Outcome.OK and answer.status is not None and 200 <= answer.status < 300


def signature_of(where: Iterable[Where]) -> str:
    """The places at which two answers differ, as one key: a JSON list."""
    places = sorted({path for path, _ in where})
    if len(places) > _MOST_PLACES:
        places = [*places[:_MOST_PLACES], _ELSEWHERE]
    return orjson.dumps(places).decode()


def guessed_pattern(path: str) -> str:
    """A pointer with its numbers as `*`: the best to be had where what it points into is not known."""
    return "".join("/*" if part.isdigit() else f"/{pointer_token(part)}" for part in pointer_segments(path))


def patterned(path: str, where: Iterable[Where]) -> str:
    """The place among `where` that a pointer belongs to."""
    guess = guessed_pattern(path)
    known = {place for place, _ in where}
    return guess if guess in known else path if path in known else guess


_UUID = re.compile(r"(?i)(?:\w{1,12}[_-])?[0-9a-f]{8}-?[0-9a-f]{4}-?[0-9a-f]{4}-?[0-9a-f]{4}-?[0-9a-f]{12}\Z")
_TIME = re.compile(r"\d{4}-\d\d-\d\d[T ]\d\d:\d\d|[A-Z][a-z]{2}, \d\d [A-Z][a-z]{2} \d{4} ")
_HEX = re.compile(r"(?i)(?=.*\d)(?:0x)?[0-9a-f]{16,}\Z")
_TOKEN = re.compile(r"(?=.*\d)[\w.:=+/-]{8,64}\Z")
_TIME_NAME = re.compile(
    r"(?i)(?:\A|_)(?:time|timestamp|ts|created|latency|duration|elapsed|took)(?:\Z|_)|_(?:at|ms|ns)\Z"
)


def shape_of(path: str, value: Any) -> str:
    """What a differing value looks like: uuid, time, hex, token, whole number, or nothing in particular."""
    if isinstance(value, str):
        for shape, pattern in (("uuid", _UUID), ("time", _TIME), ("hex", _HEX), ("token", _TOKEN)):
            if pattern.match(value):
                return shape
        return "text"
    if isinstance(value, int | float) and not isinstance(value, bool):
        if _TIME_NAME.search(path.rpartition("/")[2]):
            return "time"
        return "integer" if isinstance(value, int) and abs(value) >= 100_000 else "number"
    return "other"


def _kept(body: Body | None) -> bool:
    return body is not None and not body.truncated


def _example(record: Record, found: Diff) -> dict[str, Any]:
    return {
        "id": record.id,
        "at": record.at,
        "method": record.request.method,
        "path": record.request.path,
        "request": told(record.request.body),
        "differences": [
            {"path": each.path, "kind": each.kind, "live": each.live, "shadow": each.shadow}
            for each in found.differences[:_SHOWN]
        ],
        "count": found.count,
    }


def told(body: Body) -> str | None:
    """A body in at most a thousand characters, or None where there is none to tell."""
    if body.kind == "text":
        text: str = body.value
    elif body.kind == "json":
        try:
            text = json.dumps(body.value, ensure_ascii=False, separators=(",", ":"))
        except (ValueError, RecursionError):
            return None
    else:
        return None
    text = text if len(text) <= _SHOWN_BODY else text[:_SHOWN_BODY] + "…"
    return text.encode("utf-8", "replace").decode()


def _status(answer: Answer) -> str:
    return str(answer.status) if answer.outcome is Outcome.OK else str(answer.outcome)


def _micros(at: str) -> int:
    moment = datetime.fromisoformat(at)
    if moment.tzinfo is None:
        raise ValueError("a time without its offset from UTC")
    return round(moment.timestamp() * 1_000_000)


def _widened(pair: Pair) -> Pair:
    return Pair(**{each.name: getattr(pair, each.name).widened() for each in fields(pair)})


def _aligned(summary: Summary, width: int) -> Summary:
    while summary.width < width:
        summary = Summary(
            width=summary.width * 2,
            blocks=summary.blocks.widened(),
            first=summary.first,
            last=summary.last,
            ids=summary.ids,
            records=summary.records,
            live_outcomes=summary.live_outcomes,
            live_statuses=summary.live_statuses,
            unreadable=summary.unreadable,
            shadows={name: _widened(pair) for name, pair in summary.shadows.items()},
        )
    return summary


def _plain(part: Any) -> Any:
    return part if part is None or isinstance(part, int) else part.to_json()
