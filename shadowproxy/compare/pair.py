"""What is counted of one shadow beside live, exchange by exchange."""

from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass, field
from datetime import datetime
from functools import lru_cache
from typing import Any, Final

import orjson

from shadowproxy.compare.diff import Diff, Where, loggable
from shadowproxy.compare.fields import Field, extract, value_said, vector_of
from shadowproxy.compare.noise import Nature, nature, shape_of
from shadowproxy.compare.outputs import Label, OutputsByField, can_wait, class_key, field_key, top_of, unlike
from shadowproxy.compare.rules import Rules, Tolerance
from shadowproxy.compare.sketch import (
    Bins,
    Distinct,
    Hist,
    Sample,
    Series,
    Table,
    Tally,
    Whole,
    bin_of,
    counted,
    hashed,
)
from shadowproxy.compare.slices import Met, Slices, count_at, count_met
from shadowproxy.compare.streams import Streams
from shadowproxy.compare.verdict import Compared, Content, compare, content
from shadowproxy.compare.visible import told
from shadowproxy.exchange import Outcome, Verdict
from shadowproxy.pointers import pointer_segments, pointer_token
from shadowproxy.record import Answer, Body, Record

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
_WIDEST: Final = 1 << 62

MOST_PUT_OFF: Final = 8000
"""Values, of answers and of requests, that wait to be counted."""


@dataclass(frozen=True, slots=True)
class Truth:
    """What was right, learnt later; `at` is when, in microseconds since the epoch, where that is known."""

    label: Label
    at: int | None = None


@dataclass(frozen=True, slots=True)
class Reading:
    """How a shadow's answers are looked at: by which rules, for which fields, and with which truths by request ID.

    `aside` are the places that are noise: where no field is known, an exchange disagrees when it differs elsewhere.
    `slices` are fields of the request that are counted however many it has.
    """

    rules: Rules
    fields: tuple[Field, ...] = ()
    aside: frozenset[str] = frozenset()
    truths: Mapping[str, Truth] = field(default_factory=dict)
    slices: tuple[str, ...] = ()
    looks: tuple[tuple[Field, str, Tolerance | None], ...] = field(init=False, repr=False, compare=False)
    """The fields, each with the key that it is counted under and the tolerance that the rules have for it."""

    def __post_init__(self) -> None:
        looks = tuple((each, field_key(each), tolerance_at(self.rules, each.live)) for each in self.fields)
        object.__setattr__(self, "looks", looks)


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


class Gaps(Table[Hist]):
    """By how much numbers differ at a place, in bins."""

    INNER = Hist
    SHALLOW = True


class Examples(Table[Sample]):
    """A few exchanges of each signature and flip."""

    INNER = Sample
    LIMIT = 64


class Repeats(Table[Distinct]):
    """Live's different answers to the same request, for some of the requests (those of the smallest hashes)."""

    INNER = Distinct
    LIMIT = 512


_Ended = tuple[int, Outcome, int | None, Outcome, int | None, bool | None, Verdict | None, str | None]
"""How an exchange ended: its block, live's outcome and status, the shadow's, whether the shadow's answer is JSON where
live's is, and the verdict with its why."""

_Timed = tuple[float, float, float | None, float | None]
"""Live's whole time and the shadow's, and their first bytes'."""


class _Waiting:
    """What is noted of exchanges until it is counted, equal things at once with their number.

    ended: how many ended so. timed: by block, and whether the shadow was too late. found: by block, how many differ at
    these places, so often at each. differing: by place, the values that differ, live's and the shadow's. met: what
    was asked. `size` is how many values of answers and of requests wait.
    """

    __slots__ = ("differing", "ended", "found", "met", "met_named", "size", "timed")

    def __init__(self) -> None:
        self.ended: dict[_Ended, int] = {}
        self.timed: dict[tuple[int, bool], list[_Timed]] = {}
        self.found: dict[tuple[int, tuple[tuple[Where, int], ...]], int] = {}
        self.differing: dict[str, tuple[list[Any], list[Any]]] = {}
        self.met: dict[Met, int] = {}
        self.met_named: dict[Met, int] = {}
        self.size = 0


@dataclass(slots=True)
class Pair(Whole):
    """What is counted of one shadow beside live. Series and bins are by block of time.

    chosen: requests chosen for the shadow. begun: those it was really sent. live_good, shadow_good: 2xx among begun.
    answered: both came whole. compared: a verdict other than incomparable; agreed: match or ignored.
    repeated_keys: by arm, the answers among those with an object in which a key comes twice.
    timed: both have a time, a shadow's timeout counting as the time it was given. Latency is in bins of milliseconds.
    json_asked, json_given: live's good answers that are JSON, and the shadow's among them that are valid JSON too.
    control_pairs: exchanges where live was asked twice and all three answers could be compared; control_differs and
    control_shadow_differs: those of them where live differs from itself, and the shadow from live.
    """

    chosen: Series = field(default_factory=Series)
    begun: Series = field(default_factory=Series)
    live_good: Series = field(default_factory=Series)
    shadow_good: Series = field(default_factory=Series)
    live_good_only: Series = field(default_factory=Series)
    shadow_good_only: Series = field(default_factory=Series)
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
    repeated_keys: Tally = field(default_factory=Tally)
    whys: Tally = field(default_factory=Tally)
    live_ms: Bins = field(default_factory=Bins)
    shadow_ms: Bins = field(default_factory=Bins)
    gap_ms: Bins = field(default_factory=Bins)
    live_first_ms: Bins = field(default_factory=Bins)
    shadow_first_ms: Bins = field(default_factory=Bins)
    live_streams: Streams = field(default_factory=Streams)
    shadow_streams: Streams = field(default_factory=Streams)
    signatures: BySignature = field(default_factory=BySignature)
    differs: ByPath = field(default_factory=ByPath)
    kinds: Kinds = field(default_factory=Kinds)
    near: Kinds = field(default_factory=Kinds)
    shapes: Kinds = field(default_factory=Kinds)
    live_values: Values = field(default_factory=Values)
    shadow_values: Values = field(default_factory=Values)
    outputs: OutputsByField = field(default_factory=OutputsByField)
    slices: Slices = field(default_factory=Slices)
    named_slices: Slices = field(default_factory=Slices)
    repeats: Repeats = field(default_factory=Repeats)
    label_delay: Hist = field(default_factory=Hist)
    control_pairs: Series = field(default_factory=Series)
    control_differs: Series = field(default_factory=Series)
    control_shadow_differs: Series = field(default_factory=Series)
    control_places: ByPath = field(default_factory=ByPath)
    control_shadow_places: ByPath = field(default_factory=ByPath)
    control_gaps: Gaps = field(default_factory=Gaps)
    control_shadow_gaps: Gaps = field(default_factory=Gaps)
    largest: Sample = field(default_factory=Sample)
    examples: Examples = field(default_factory=Examples)
    _waiting: _Waiting = field(default_factory=_Waiting, init=False, repr=False, compare=False)

    def add(self, block: int, record: Record, shadow: Answer, reading: Reading) -> None:
        """Count one exchange. What is read of it afterwards is right once `settle` was called."""
        if self._waiting.size >= MOST_PUT_OFF:
            self.settle()
        live = record.live
        if shadow.outcome in BEGUN:
            self.live_streams.add(live)
            self.shadow_streams.add(shadow)
        self._time(block, live, shadow)
        json: bool | None = None
        verdict: Verdict | None = None
        why: str | None = None
        if live.outcome is Outcome.OK and shadow.outcome is Outcome.OK:
            for arm, each in (("live", live), ("shadow", shadow)):
                if each.body is not None and each.body.repeated_keys:
                    self.repeated_keys[arm] += 1
            said, answered = content(live), content(shadow)
            if said.kind == "json" and answered.kind != "unknown" and good(live) and good(shadow):
                json = answered.kind == "json" and not answered.lenient
            compared = recompared(live, shadow, reading.rules, (said, answered))
            verdict, why = compared.verdict, compared.why
            if verdict is not Verdict.INCOMPARABLE:
                found = compared.diff if compared.diff is not None else Diff()
                self._compared(block, record, shadow, (said, answered), found, reading)
        ended = block, live.outcome, live.status, shadow.outcome, shadow.status, json, verdict, why
        self._waiting.ended[ended] = self._waiting.ended.get(ended, 0) + 1
        self._waiting.size += 1

    def settle(self) -> None:
        for outputs in (*self.outputs.values(), self.outputs.other):
            outputs.settle()
        waiting, self._waiting = self._waiting, _Waiting()
        for ended, times in waiting.ended.items():
            self._ended(*ended, times)
        for (block, late), timed in waiting.timed.items():
            self._timed(block, late, timed)
        for (block, where), times in waiting.found.items():
            self._differs(block, where, times)
        for path, (live, shadow) in waiting.differing.items():
            self._values(path, live, shadow)
        self.slices.add(waiting.met)
        self.named_slices.add(waiting.met_named)

    def _ended(
        self,
        block: int,
        live: Outcome,
        live_status: int | None,
        shadow: Outcome,
        shadow_status: int | None,
        json: bool | None,
        verdict: Verdict | None,
        why: str | None,
        times: int,
    ) -> None:
        live_good, shadow_good = is_good(live, live_status), is_good(shadow, shadow_status)
        self.chosen[block] += times
        self.outcomes[shadow] += times
        if shadow in BEGUN:
            self.begun[block] += times
            self.live_good[block] += times * live_good
            self.shadow_good[block] += times * shadow_good
            self.live_good_only[block] += times * (live_good and not shadow_good)
            self.shadow_good_only[block] += times * (shadow_good and not live_good)
        self.statuses[f"{_ending(live, live_status)} {_ending(shadow, shadow_status)}"] += times
        if verdict is None:
            return
        self.answered[block] += times
        if json is not None:
            self.json_asked[block] += times
            self.json_given[block] += times * json
        self.verdicts[verdict] += times
        if verdict is Verdict.INCOMPARABLE:
            self.whys[why or "unknown"] += times
        else:
            self.compared[block] += times
            self.agreed[block] += times * (verdict is not Verdict.MISMATCH)

    def _time(self, block: int, live: Answer, shadow: Answer) -> None:
        one, other = live.total_ms, shadow.total_ms
        late = shadow.outcome is Outcome.TIMEOUT
        if live.outcome is not Outcome.OK or one is None or other is None or not (late or shadow.outcome is Outcome.OK):
            return
        timed = one, other, live.first_byte_ms, shadow.first_byte_ms
        before = self._waiting.timed.get((block, late))
        if before is None:
            self._waiting.timed[block, late] = [timed]
        else:
            before.append(timed)

    def _timed(self, block: int, late: bool, timed: list[_Timed]) -> None:
        self.timed[block] += len(timed)
        self.timeouts[block] += len(timed) * late
        self.slower[block] += sum(late or other > one for one, other, _, _ in timed)
        self.live_ms.gather(block, [bin_of(one) for one, _, _, _ in timed])
        self.shadow_ms.gather(block, [bin_of(other) for _, other, _, _ in timed])
        self.gap_ms.gather(block, [bin_of(other - one) for one, other, _, _ in timed])
        firsts = [(one, other) for _, _, one, other in timed if one is not None and other is not None]
        if firsts:
            self.live_first_ms.gather(block, [bin_of(one) for one, _ in firsts])
            self.shadow_first_ms.gather(block, [bin_of(other) for _, other in firsts])

    def _compared(
        self,
        block: int,
        record: Record,
        shadow: Answer,
        said: tuple[Content, Content],
        found: Diff,
        reading: Reading,
    ) -> None:
        differs: list[bool] | None = None
        flip: tuple[str, str] | None = None
        if reading.fields and good(record.live) and good(shadow):
            differs, flip = self._outputs(block, record, shadow, said, reading)
        if differs is None:
            differs = [any(place not in reading.aside for place, _ in found.where)]
        payload = asked(record)
        waiting = self._waiting
        waiting.size += len(found.found)
        waiting.size += count_met(waiting.met, record.request.method, record.request.path, payload, differs)
        for place in reading.slices:
            waiting.size += count_at(waiting.met_named, place, extract(payload, place), differs)
        self._differences(block, record, found, flip)
        if record.control is not None:
            self._control(block, record.live, record.control, found, reading.rules)

    def _outputs(
        self, block: int, record: Record, shadow: Answer, said: tuple[Content, Content], reading: Reading
    ) -> tuple[list[bool] | None, tuple[str, str] | None]:
        """Count what the fields say. Gives where the first of them differs, and how if it is a class that flipped."""
        live_value, shadow_value = value_said(record.live, said[0]), value_said(shadow, said[1])
        if live_value is None or shadow_value is None:
            return None, None
        truth = reading.truths.get(record.id)
        first: list[bool] | None = None
        flip: tuple[str, str] | None = None
        for at, (each, key, tolerance) in enumerate(reading.looks):
            ones, others = extract(live_value, each.live), extract(shadow_value, each.shadow)
            label = truth.label if truth is not None and at == 0 else None
            outputs = self.outputs.part(key)
            differs: list[bool] | None = None
            if label is not None or not can_wait(each.kind):
                differs = outputs.add(block, each.kind, ones, others, tolerance, label)
            else:
                outputs.meet(block, each.kind, ones, others, tolerance)
                if at == 0:
                    differs = unlike(each.kind, ones, others, tolerance)
            if at == 0:
                first = differs if differs is not None else [True]
                if each.kind in ("class", "vector") and differs is not None and True in differs:
                    where = differs.index(True)
                    flip = _class_text(each, ones[where]), _class_text(each, others[where])
                elif each.kind == "number" and len(ones) == len(others) == 1:
                    self._large(record, each, ones[0], others[0])
                self._again(record, ones)
        if truth is not None and truth.at is not None:
            self.label_delay[bin_of(max(0.0, truth.at / 1e6 - _seconds(record.at)))] += 1
        return first, flip

    def _large(self, record: Record, where: Field, live: Any, shadow: Any) -> None:
        """Keep the exchange if its numbers are among the furthest apart."""
        if not all(isinstance(each, int | float) and not isinstance(each, bool) for each in (live, shadow)):
            return
        gap = bin_of(abs(float(shadow) - float(live))) if abs(live) < 1e300 and abs(shadow) < 1e300 else 0
        rank = _WIDEST - gap << 64
        if not gap or (len(self.largest) == self.largest.KEPT and rank > max(self.largest)):
            return
        digest = rank | hashed(record.id, record.record)
        if self.largest.wants(digest):
            difference = {"path": where.live, "kind": "value", "live": loggable(live), "shadow": loggable(shadow)}
            self.largest.add(digest, example(record, [difference], 1))

    def _again(self, record: Record, ones: list[Any]) -> None:
        """Count live's answer under its request: the same request twice shows how far live agrees with itself."""
        body = told(record.request.body, 100_000)
        if body is not None:
            key = f"{hashed(record.request.method, record.request.path, record.request.query, body):016x}"
            self.repeats.part(key).add(hashed(repr(ones)))

    def _differences(self, block: int, record: Record, found: Diff, flip: tuple[str, str] | None) -> None:
        for path, times in found.near.items():
            self.near.part(path)["near"] += times
        if not found.count:
            return
        waiting = self._waiting
        where = tuple(found.where.items())
        waiting.found[block, where] = waiting.found.get((block, where), 0) + 1
        differing = waiting.differing
        for place, kind, live, shadow, _ in found.found:
            if kind == "value":
                values = differing.get(place)
                if values is None:
                    values = differing[place] = ([], [])
                values[0].append(live)
                values[1].append(shadow)
        sample = self.examples.part(_example_key(tuple(found.where), flip))
        digest = hashed(record.id, record.record)
        if sample.wants(digest):
            shown = [
                {"path": each.path, "kind": each.kind, "live": each.live, "shadow": each.shadow}
                for each in found.listed(_SHOWN)
            ]
            sample.add(digest, example(record, shown, found.count))

    def _differs(self, block: int, where: tuple[tuple[Where, int], ...], times: int) -> None:
        """Count exchanges that differ in the same way."""
        self.signatures.part(signature_of(each for each, _ in where))[block] += times
        for path in {path for (path, _), _ in where}:
            self.differs.part(path)[block] += times
        for (path, kind), often in where:
            self.kinds.part(path)[kind] += often * times

    def _values(self, path: str, live: list[Any], shadow: list[Any]) -> None:
        shapes = self.shapes.part(path)
        for values, part in ((live, self.live_values.part(path)), (shadow, self.shadow_values.part(path))):
            for value, times in counted(values):
                shown = loggable(value)
                part.add(hashed(repr(shown)), times)
                shapes[shape_of(path, shown)] += times

    def _control(self, block: int, live: Answer, control: Answer, found: Diff, rules: Rules) -> None:
        again = recompared(live, control, rules)
        if again.verdict is Verdict.INCOMPARABLE:
            return
        noise = again.diff if again.diff is not None else Diff()
        self.control_pairs[block] += 1
        self.control_differs[block] += noise.count > 0
        self.control_shadow_differs[block] += found.count > 0
        for places, gaps, each in (
            (self.control_places, self.control_gaps, noise),
            (self.control_shadow_places, self.control_shadow_gaps, found),
        ):
            for path in {path for path, _ in each.where}:
                places.part(path)[block] += 1
            for place, kind, one, other, _ in each.found:
                gap = gap_of(loggable(one), loggable(other))
                if kind == "value" and gap is not None:
                    gaps.part(place)[bin_of(gap)] += 1


def nature_at(pair: Pair, path: str) -> Nature:
    """What sort of place one of `pair.differs` is."""
    if path not in pair.live_values or path not in pair.shapes or path not in pair.kinds:
        return "real"
    return nature(
        pair.kinds[path],
        pair.shapes[path],
        pair.live_values[path],
        pair.shadow_values[path],
        differing=pair.differs[path].total(),
        compared=pair.compared.total(),
    )


def aside_of(pair: Pair, answers: Collection[str]) -> set[str]:
    """The places that are noise, none of which is or is in one of the places in `answers`."""
    return {
        path
        for path in pair.differs
        if nature_at(pair, path) != "real"
        and not any(path == answer or path.startswith(f"{answer}/") for answer in answers)
    }


def recompared(live: Answer, shadow: Answer, rules: Rules, said: tuple[Content, Content] | None = None) -> Compared:
    """The two answers compared by `rules`, or, where the log did not keep their bodies, as they were when they came.

    `said` is what they say, where that is known already.
    """
    compared = compare(live, shadow, rules, said)
    judged = shadow.judgement
    if compared.verdict is not Verdict.INCOMPARABLE or judged is None or (_kept(live.body) and _kept(shadow.body)):
        return compared
    if judged.verdict is not Verdict.MISMATCH:
        return Compared(judged.verdict, None, judged.why)
    found = Diff(count=len(judged.differences))
    for path, kind, one, other in judged.differences:
        place = guessed_pattern(path)
        found.found.append((place, kind, one, other, path))
        found.where[place, kind] = found.where.get((place, kind), 0) + 1
    return Compared(Verdict.MISMATCH, found)


def good(answer: Answer) -> bool:
    return is_good(answer.outcome, answer.status)


def is_good(outcome: Outcome, status: int | None) -> bool:
    return outcome is Outcome.OK and status is not None and 200 <= status < 300


def signature_of(where: Iterable[Where]) -> str:
    """The places at which two answers differ, as one key: a JSON list."""
    places = sorted({path for path, _ in where})
    if len(places) > _MOST_PLACES:
        places = [*places[:_MOST_PLACES], _ELSEWHERE]
    return orjson.dumps(places).decode()


@lru_cache(maxsize=1024)
def _example_key(where: tuple[Where, ...], flip: tuple[str, str] | None) -> str:
    return orjson.dumps([orjson.loads(signature_of(where)), flip]).decode()


def guessed_pattern(path: str) -> str:
    """A pointer with its numbers as `*`: the best to be had where what it points into is not known."""
    return "".join("/*" if part.isdigit() else f"/{pointer_token(part)}" for part in pointer_segments(path))


def example(record: Record, differences: list[dict[str, Any]], count: int) -> dict[str, Any]:
    """An exchange as the report tells of it."""
    return {
        "id": record.id,
        "at": record.at,
        "method": record.request.method,
        "path": record.request.path,
        "request": told(record.request.body),
        "differences": differences,
        "count": count,
    }


def asked(record: Record) -> Any:
    """The request's JSON, or None."""
    body = record.request.body
    return body.value if body.kind == "json" and not body.truncated else None


def tolerance_at(rules: Rules, pointer: str) -> Tolerance | None:
    place = rules.root
    for segment in pointer_segments(pointer):
        place = place.member(segment)
    return place.tolerance


def gap_of(live: Any, shadow: Any) -> float | None:
    for each in (live, shadow):
        if isinstance(each, bool) or not isinstance(each, int | float) or not abs(each) < 1e300:
            return None
    return abs(float(shadow) - float(live))


def status_of(answer: Answer) -> str:
    return _ending(answer.outcome, answer.status)


def _ending(outcome: Outcome, status: int | None) -> str:
    return str(status) if outcome is Outcome.OK else str(outcome)


def _class_text(where: Field, value: Any) -> str:
    if where.kind == "vector" and (vector := vector_of(value)) is not None:
        return class_key(top_of(vector))
    return class_key(value) if not isinstance(value, dict | list) else "?"


def _seconds(at: str) -> float:
    return datetime.fromisoformat(at).timestamp()


def _kept(body: Body | None) -> bool:
    return body is not None and not body.truncated
