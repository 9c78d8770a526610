"""What is counted of one shadow beside live, exchange by exchange."""

from collections import Counter
from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass, field
from datetime import datetime
from functools import lru_cache
from typing import Any, Final

import orjson

from shadowproxy.compare.diff import Diff, Where, loggable
from shadowproxy.compare.fields import Field, extract, value_said, vector_of
from shadowproxy.compare.noise import Nature, nature, shape_of
from shadowproxy.compare.outputs import Label, OutputsByField, class_key, field_key, top_of
from shadowproxy.compare.rules import Rules, Tolerance, pointer_segments, pointer_token
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
    hashed,
)
from shadowproxy.compare.slices import Met, Slices, met_at, met_in
from shadowproxy.compare.streams import Streams
from shadowproxy.compare.verdict import Compared, Content, compare, content
from shadowproxy.compare.visible import told
from shadowproxy.exchange import Outcome, Verdict
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
_MOST_PUT_OFF: Final = 4000  # values, of answers and of requests, that wait to be counted


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
    _met: dict[Met, int] = field(default_factory=dict, init=False, repr=False, compare=False)
    _met_named: dict[Met, int] = field(default_factory=dict, init=False, repr=False, compare=False)
    _differing: dict[str, tuple[list[Any], list[Any]]] = field(
        default_factory=dict, init=False, repr=False, compare=False
    )
    """By place, the values that differ, as they are shown: live's and the shadow's."""
    _put_off: int = field(default=0, init=False, repr=False, compare=False)

    def add(self, block: int, record: Record, shadow: Answer, reading: Reading) -> None:
        """Count one exchange. What is read of it afterwards is right once `settle` was called."""
        if self._put_off >= _MOST_PUT_OFF:
            self.settle()
        live = record.live
        live_good, shadow_good = good(live), good(shadow)
        self.chosen[block] += 1
        self.outcomes[shadow.outcome] += 1
        if shadow.outcome in BEGUN:
            self.begun[block] += 1
            self.live_good[block] += live_good
            self.shadow_good[block] += shadow_good
            self.live_good_only[block] += live_good and not shadow_good
            self.shadow_good_only[block] += shadow_good and not live_good
            self.live_streams.add(live)
            self.shadow_streams.add(shadow)
        self.statuses[f"{status_of(live)} {status_of(shadow)}"] += 1
        self._time(block, live, shadow)
        if live.outcome is not Outcome.OK or shadow.outcome is not Outcome.OK:
            return
        self.answered[block] += 1
        for arm, each in (("live", live), ("shadow", shadow)):
            if each.body is not None and each.body.repeated_keys:
                self.repeated_keys[arm] += 1
        said, answered = content(live), content(shadow)
        if live_good and shadow_good and said.kind == "json" and answered.kind != "unknown":
            self.json_asked[block] += 1
            self.json_given[block] += answered.kind == "json" and not answered.lenient
        compared = recompared(live, shadow, reading.rules, (said, answered))
        self.verdicts[compared.verdict] += 1
        if compared.verdict is Verdict.INCOMPARABLE:
            self.whys[compared.why or "unknown"] += 1
            return
        self.compared[block] += 1
        self.agreed[block] += compared.verdict is not Verdict.MISMATCH
        found = compared.diff if compared.diff is not None else Diff()
        differs: list[bool] | None = None
        flip: tuple[str, str] | None = None
        if reading.fields and live_good and shadow_good:
            differs, flip = self._outputs(block, record, shadow, (said, answered), reading)
        if differs is None:
            differs = [any(place not in reading.aside for place, _ in found.where)]
        payload = asked(record)
        met = met_in(record.request.method, record.request.path, payload, differs)
        count_each(self._met, met)
        self._put_off += len(met) + len(found.found)
        for place in reading.slices:
            count_each(self._met_named, met_at(place, extract(payload, place), differs))
        self._differences(block, record, found, flip)
        if record.control is not None:
            self._control(block, live, record.control, found, reading.rules)

    def settle(self) -> None:
        for counted in (*self.outputs.values(), self.outputs.other):
            counted.settle()
        self.slices.add(self._met)
        self.named_slices.add(self._met_named)
        for path, (live, shadow) in self._differing.items():
            self._values(path, live, shadow)
        self._met, self._met_named, self._differing, self._put_off = {}, {}, {}, 0

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
            differs = self.outputs.part(key).meet(block, each.kind, ones, others, tolerance, label)
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
        digest = (_WIDEST - gap << 64) | hashed(record.id, record.record)
        if gap and self.largest.wants(digest):
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
        signature = signature_of(found.where)
        self.signatures.part(signature)[block] += 1
        for path in {path for path, _ in found.where}:
            self.differs.part(path)[block] += 1
        for (path, kind), times in found.where.items():
            self.kinds.part(path)[kind] += times
        differing = self._differing
        for place, kind, live, shadow, _ in found.found:
            if kind == "value":
                values = differing.get(place)
                if values is None:
                    values = differing[place] = ([], [])
                values[0].append(loggable(live))
                values[1].append(loggable(shadow))
        sample = self.examples.part(_example_key(signature, flip))
        digest = hashed(record.id, record.record)
        if sample.wants(digest):
            shown = [
                {"path": each.path, "kind": each.kind, "live": each.live, "shadow": each.shadow}
                for each in found.listed(_SHOWN)
            ]
            sample.add(digest, example(record, shown, found.count))

    def _values(self, path: str, live: list[Any], shadow: list[Any]) -> None:
        shapes = self.shapes.part(path)
        for values, part in ((live, self.live_values.part(path)), (shadow, self.shadow_values.part(path))):
            for text, times in Counter(map(repr, values)).items():
                part.add(hashed(text), times)
            if {float}.issuperset(map(type, values)):
                shapes[shape_of(path, values[0])] += len(values)
            else:
                shapes.update(shape_of(path, value) for value in values)

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


def count_each(counts: dict[Met, int], met: Iterable[Met]) -> None:
    for each in met:
        counts[each] = counts.get(each, 0) + 1


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
    return answer.outcome is Outcome.OK and answer.status is not None and 200 <= answer.status < 300


def signature_of(where: Iterable[Where]) -> str:
    """The places at which two answers differ, as one key: a JSON list."""
    places = sorted({path for path, _ in where})
    if len(places) > _MOST_PLACES:
        places = [*places[:_MOST_PLACES], _ELSEWHERE]
    return _signature(tuple(places))


@lru_cache(maxsize=1024)
def _signature(places: tuple[str, ...]) -> str:
    return orjson.dumps(places).decode()


@lru_cache(maxsize=1024)
def _example_key(signature: str, flip: tuple[str, str] | None) -> str:
    return orjson.dumps([orjson.loads(signature), flip]).decode()


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
    return str(answer.status) if answer.outcome is Outcome.OK else str(answer.outcome)


def _class_text(where: Field, value: Any) -> str:
    if where.kind == "vector" and (vector := vector_of(value)) is not None:
        return class_key(top_of(vector))
    return class_key(value) if not isinstance(value, dict | list) else "?"


def _seconds(at: str) -> float:
    return datetime.fromisoformat(at).timestamp()


def _kept(body: Body | None) -> bool:
    return body is not None and not body.truncated
