"""What is counted of one shadow beside live, exchange by exchange.

Every exchange is counted in a way that depends on it alone. What it means, which place is judged and which differences
are noise, is decided when the report is made: so any parts of a log add up to the whole.

The *pairs* are the requests that live answered and that the shadow was really sent. A live that timed out, or whose
caller left, is in neither arm of them.
"""

import math
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from functools import lru_cache
from typing import Any, ClassVar, Final

import orjson

from shadowproxy.compare.fold.bins import Bins, bin_of
from shadowproxy.compare.fold.counts import Hist, Series, WordCounts, counted
from shadowproxy.compare.fold.held import Held, held
from shadowproxy.compare.fold.labelled import Labelled
from shadowproxy.compare.fold.likeness import flip_of
from shadowproxy.compare.fold.noise import VOLATILE_SHAPES, shape_of
from shadowproxy.compare.fold.outputs import OutputsByField
from shadowproxy.compare.fold.places import FAILED as NO_ANSWER
from shadowproxy.compare.fold.places import Look, extract, looks, static_score
from shadowproxy.compare.fold.reading import Reading
from shadowproxy.compare.fold.reasons import Reasons
from shadowproxy.compare.fold.rows import Rows, lengths_of
from shadowproxy.compare.fold.samples import Distinct, Sample, hashed
from shadowproxy.compare.fold.slices import (
    BACK,
    BLIND,
    FAILED,
    GONE,
    LIVE_FAILED,
    WHOLE,
    Met,
    Slices,
    leaves,
    mark_at,
    marks_of,
)
from shadowproxy.compare.fold.streams import Streams
from shadowproxy.compare.fold.structure import (
    Lacking,
    PresentAt,
    Shape,
    has_structure,
    lacking,
    lacking_key,
    places_in,
)
from shadowproxy.compare.fold.structure import shape_of as shape_of_answer
from shadowproxy.compare.fold.tables import Table, Whole
from shadowproxy.compare.fold.truths import Truth
from shadowproxy.compare.judge.answers import Content, content, reason_of, value_said
from shadowproxy.compare.judge.diff import Diff, Where, loggable
from shadowproxy.compare.judge.recompare import recompared
from shadowproxy.compare.judge.standing import Standing, standing_of
from shadowproxy.compare.judge.visible import told
from shadowproxy.exchange import Outcome, Verdict
from shadowproxy.record import Record, RecordedLeg

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

_OK: Final = Outcome.OK
_MISMATCH: Final = Verdict.MISMATCH
_INCOMPARABLE: Final = Verdict.INCOMPARABLE
_MOST_PLACES: Final = 16  # places of one exchange that its signature names
_ELSEWHERE: Final = "…"  # in a signature: and further places
_SHOWN: Final = 8  # differences of an example
_WELL_NAMED: Final = 3  # places, beside which others need not be counted
_MOST_HEEDED: Final = 512  # sets of places of which it is remembered which count
_LONGEST_HEEDED: Final = 4000  # characters of their keys
_SPEAKS: Final = 20  # the static score of a name that speaks for an answer
_NOT_LACKING: Final = ("value", "extra")  # kinds of difference
_WIDEST: Final = 1 << 62
_EMPTY: Final[dict[str, Any]] = {}

MOST_PUT_OFF: Final = 8000
"""Values, of answers and of requests, that wait to be counted."""

Flip = tuple[str, str, str]
"""The key of the likeliest place that may hold a class, with live's class there and the shadow's."""


class BySignature(Table[Series]):
    """Exchanges by the set of places at which they differ, by block: what would agree if these places did not count."""

    INNER = Series
    LIMIT = 256


class ByPath(Table[Series]):
    """Exchanges that differ at a place, by block."""

    INNER = Series
    SHALLOW = True


class Kinds(Table[WordCounts]):
    """Words by place."""

    INNER = WordCounts
    SHALLOW = True


class Values(Table[Distinct]):
    """How many different values a differing place had."""

    INNER = Distinct
    SHALLOW = True


class _Largest(Sample):
    KEPT: ClassVar[int] = 1


class Furthest(Table[_Largest]):
    """The bin of the largest difference of numbers at a place, under its rank from above."""

    INNER = _Largest
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


_Ended = tuple[
    int,
    Outcome,
    int | None,
    Outcome,
    int | None,
    Standing | None,
    Standing | None,
    str | None,
    str | None,
    Verdict | None,
    str | None,
]
"""How an exchange ended: its block, live's outcome and status, the shadow's, how both answers stand if it is a pair,
why the shadow's answer is missing where live has one, why live's is where the shadow has one, the verdict with its
why."""

_Timed = tuple[float, float, float | None, float | None]
"""Live's whole time and the shadow's, and their first bytes'."""


class _Waiting:
    """What is noted of exchanges until it is counted, equal things at once with their number.

    ended: how many ended so. timed: by block, and whether the shadow was too late. found: by block, how many differ at
    these places, so often at each. differing: by place, the values that differ, live's and the shadow's. built: by
    block, how many of live's answers have this shape. lacking: by block, how many answers lack these places. met: what
    was asked, and what befell it. `size` is how many values of answers and of requests wait.
    """

    __slots__ = ("built", "differing", "ended", "found", "lacking", "met", "met_named", "size", "timed")

    def __init__(self) -> None:
        self.ended: dict[_Ended, int] = {}
        self.timed: dict[tuple[int, bool], list[_Timed]] = {}
        self.found: dict[tuple[int, tuple[tuple[Where, int], ...]], int] = {}
        self.differing: dict[str, tuple[list[Any], list[Any]]] = {}
        self.built: dict[tuple[int, Shape], int] = {}
        self.lacking: dict[tuple[int, tuple[str, ...]], int] = {}
        self.met = Met()
        self.met_named = Met()
        self.size = 0


@dataclass(slots=True)
class Pair(Whole):
    """What is counted of one shadow beside live. Series and bins are by block of time.

    chosen: requests chosen for the shadow. answered: both came whole. compared: a verdict other than incomparable;
    agreed: match or ignored. repeated_keys: by arm, the answers among those with an object in which a key comes twice.
    timed: both have a time, a shadow's timeout counting as the time it was given. Latency is in bins of milliseconds.

    pairs: see above; good, failed and refused are how an answer stands (standing.py), and `to_4xx`, `to_2xx` what live
    answers well and the shadow refuses, and the other way round. lost and gained: pairs in which only live, or only the
    shadow, has an answer at all; missing: why. structured: pairs of two good answers of which live's has structure;
    present: its places; lacking: those that the shadow's lacks. labelled: pairs for which a truth is known. named: by
    which fields, where they were named.

    apart, apart_in_part: of numbers that differ, by how much at most, and by which part of the larger: below 2 to which
    power.
    control_pairs: exchanges where live was asked twice and all three answers could be compared; control_differs and
    control_shadow_differs: those of them where live differs from itself, and the shadow from live.
    legacy: how much was counted by an earlier version, which did not count all of this.
    """

    chosen: Series = field(default_factory=Series)
    answered: Series = field(default_factory=Series)
    compared: Series = field(default_factory=Series)
    agreed: Series = field(default_factory=Series)
    timed: Series = field(default_factory=Series)
    slower: Series = field(default_factory=Series)
    timeouts: Series = field(default_factory=Series)
    outcomes: WordCounts = field(default_factory=WordCounts)
    statuses: WordCounts = field(default_factory=WordCounts)
    verdicts: WordCounts = field(default_factory=WordCounts)
    repeated_keys: WordCounts = field(default_factory=WordCounts)
    whys: WordCounts = field(default_factory=WordCounts)
    pairs: Series = field(default_factory=Series)
    live_good: Series = field(default_factory=Series)
    shadow_good: Series = field(default_factory=Series)
    live_failed: Series = field(default_factory=Series)
    shadow_failed: Series = field(default_factory=Series)
    live_failed_only: Series = field(default_factory=Series)
    shadow_failed_only: Series = field(default_factory=Series)
    to_4xx: Series = field(default_factory=Series)
    to_2xx: Series = field(default_factory=Series)
    lost: Series = field(default_factory=Series)
    gained: Series = field(default_factory=Series)
    missing: WordCounts = field(default_factory=WordCounts)
    structured: Series = field(default_factory=Series)
    present: PresentAt = field(default_factory=PresentAt)
    lacking: Lacking = field(default_factory=Lacking)
    live_reasons: Reasons = field(default_factory=Reasons)
    shadow_reasons: Reasons = field(default_factory=Reasons)
    labelled: Series = field(default_factory=Series)
    named: WordCounts = field(default_factory=WordCounts)
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
    apart: Furthest = field(default_factory=Furthest)
    apart_in_part: Gaps = field(default_factory=Gaps)
    examples: Examples = field(default_factory=Examples)
    legacy: WordCounts = field(default_factory=WordCounts)
    _waiting: _Waiting = field(default_factory=_Waiting, init=False, repr=False, compare=False)

    def add(self, block: int, record: Record, shadow: RecordedLeg, reading: Reading) -> Sequence[Look] | None:
        """Count one exchange. What is read of it afterwards is right once `settle` was called.

        Gives what was counted place by place, for labels that come later; None where the exchange is no pair.
        """
        if self._waiting.size >= MOST_PUT_OFF:
            self.settle()
        live = record.live
        begun = shadow.outcome in BEGUN
        said = content(live) if live.outcome is _OK else None
        answered = content(shadow) if shadow.outcome is _OK else None
        if begun:
            self.live_streams.add(live, said)
            self.shadow_streams.add(shadow, answered)
        self._time(block, live, shadow)
        verdict: Verdict | None = None
        why: str | None = None
        found: Diff | None = None
        if said is not None and answered is not None:
            for arm, each in (("live", live), ("shadow", shadow)):
                if each.body is not None and each.body.repeated_keys:
                    self.repeated_keys[arm] += 1
            compared = recompared(live, shadow, reading.rules, (said, answered))
            verdict, why = compared.verdict, compared.why
            if verdict is not _INCOMPARABLE:
                found = compared.diff if compared.diff is not None else Diff()
        one: Standing | None = None
        other: Standing | None = None
        lost: str | None = None
        gained: str | None = None
        flip: Flip | None = None
        places: list[Look] | None = None
        if begun and said is not None and live.status is not None:
            one, other = standing_of(live, said), standing_of(shadow, answered)
            if one == "good":
                lost = _missing(said, other, answered)
            if other == "good" and answered is not None:
                gained = _missing(answered, one, said)
            places, flip = self._paired(block, record, shadow, said, answered, one, other, verdict, found, reading)
        if found is not None:
            self._differences(block, record, found, flip)
            if record.control is not None:
                self._control(block, live, record.control, found, reading)
        waiting = self._waiting
        ended = block, live.outcome, live.status, shadow.outcome, shadow.status, one, other, lost, gained, verdict, why
        waiting.ended[ended] = waiting.ended.get(ended, 0) + 1
        waiting.size += 1
        return places

    def label(self, block: int, seconds: float, truth: Truth, places: Iterable[Held]) -> None:
        """Count the truth of one pair, whose answers came at `seconds` since the epoch."""
        self.labelled[block] += 1
        if truth.at is not None:
            self.label_delay[bin_of(max(0.0, truth.at / 1e6 - seconds))] += 1
        for key, live, shadow in places:
            outputs = self.outputs.get(key)
            if outputs is not None:  # else it is one of too many places
                outputs.truths.add(block, live, shadow, truth.labels)

    def forget_labels(self) -> None:
        """Leave out what was counted of labels, so that others can be counted in their place."""
        self.labelled, self.label_delay = Series(), Hist()
        for outputs in self.outputs.values():
            outputs.truths = Labelled()

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
        for (block, shape), times in waiting.built.items():
            self.structured[block] += times
            for place in places_in(shape):
                self.present.part(place)["n"] += times
        for (block, places), times in waiting.lacking.items():
            self.lacking.part(lacking_key(places))[block] += times
        self.slices.add(waiting.met)
        self.named_slices.add(waiting.met_named)

    def _ended(
        self,
        block: int,
        live: Outcome,
        live_status: int | None,
        shadow: Outcome,
        shadow_status: int | None,
        one: Standing | None,
        other: Standing | None,
        lost: str | None,
        gained: str | None,
        verdict: Verdict | None,
        why: str | None,
        times: int,
    ) -> None:
        self.chosen[block] += times
        self.outcomes[shadow] += times
        self.statuses[f"{_ending(live, live_status)} {_ending(shadow, shadow_status)}"] += times
        if one is not None:
            self.pairs[block] += times
            self.live_good[block] += times * (one == "good")
            self.shadow_good[block] += times * (other == "good")
            self.live_failed[block] += times * (one == "failed")
            self.shadow_failed[block] += times * (other == "failed")
            self.live_failed_only[block] += times * (one == "failed" != other)
            self.shadow_failed_only[block] += times * (other == "failed" != one)
            self.to_4xx[block] += times * (one == "good" and other == "refused")
            self.to_2xx[block] += times * (one == "refused" and other == "good")
            if lost is not None:
                self.lost[block] += times
                self.missing[lost] += times
            if gained is not None:
                self.gained[block] += times
        if verdict is None:
            return
        self.answered[block] += times
        self.verdicts[verdict] += times
        if verdict is _INCOMPARABLE:
            self.whys[why or "unknown"] += times
        else:
            self.compared[block] += times
            self.agreed[block] += times * (verdict is not _MISMATCH)

    def _time(self, block: int, live: RecordedLeg, shadow: RecordedLeg) -> None:
        one, other = live.total_ms, shadow.total_ms
        late = shadow.outcome is Outcome.TIMEOUT
        if live.outcome is not _OK or one is None or other is None or not (late or shadow.outcome is _OK):
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

    def _paired(
        self,
        block: int,
        record: Record,
        shadow: RecordedLeg,
        said: Content,
        answered: Content | None,
        one: Standing,
        other: Standing,
        verdict: Verdict | None,
        found: Diff | None,
        reading: Reading,
    ) -> tuple[list[Look], Flip | None]:
        """Count a pair: what stands where, what is lacking, why it failed, and all of it by what was asked.

        Gives the places that were counted, and how a class flipped."""
        live_good, shadow_good = one == "good", other == "good"
        marks: list[str] = []
        if live_good != shadow_good:
            marks.append(GONE if live_good else BACK)
        if (one == "failed") != (other == "failed"):
            marks.append(LIVE_FAILED if one == "failed" else FAILED)
        if found is None:
            marks.append(BLIND)
        elif verdict is _MISMATCH and _is_news(found):
            marks.append(WHOLE)
        payload = asked(record)
        rows = Rows()
        flip: Flip | None = None
        if reading.named:
            self.named[reading.named] += 1
        places: list[Look] = []
        if (
            (live_good or shadow_good)
            and not (live_good and _unknown(said))
            and not (shadow_good and _unknown(answered))
        ):
            mine = _something(value_said(record.live, said)) if live_good else _EMPTY
            theirs = _something(value_said(shadow, answered)) if shadow_good and answered is not None else NO_ANSWER
            places = _heeded(looks(mine, theirs, reading.fields), reading)
            both = live_good and shadow_good
            rows, flip = self._outputs(block, record, places, payload, marks, reading, both=both)
            if both and answered is not None and has_structure(mine):
                self._built(block, mine, theirs, said, answered, found, reading)
        fields: dict[str, list[Any]] = leaves(payload)
        fields["@method"] = [record.request.method]
        fields["@path"] = [record.request.path]
        if one in ("failed", "refused") or other in ("failed", "refused"):
            digest = hashed(record.id, record.record)
            if one in ("failed", "refused"):
                self.live_reasons.part(reason_of(record.live, said)).add(digest, record.id, fields)
            if other in ("failed", "refused"):
                self.shadow_reasons.part(reason_of(shadow, answered)).add(digest, record.id, fields)
        waiting = self._waiting
        befell = tuple(marks)
        waiting.size += waiting.met.add(fields, befell, rows)
        if reading.slices:
            asked_for = {place: extract(payload, place) for place in reading.slices}
            waiting.size += waiting.met_named.add(asked_for, befell, rows)
        truth = reading.truths.of(record)
        if truth is not None:
            self.label(block, _seconds(record.at), truth, map(held, places))
        return places, flip

    def _outputs(
        self,
        block: int,
        record: Record,
        places: Sequence[Look],
        payload: Any,
        marks: list[str],
        reading: Reading,
        *,
        both: bool,
    ) -> tuple[Rows, Flip | None]:
        """Count what stands at each place. Gives the marks row by row, and how a class flipped.

        With two good answers (`both`) what befell each place is added to `marks`; without, those say it already.
        """
        lengths: set[int] | None = None
        flip: Flip | None = None
        first = True
        by_row = Rows()
        of_rows: list[str] = []
        digest = hashed(record.id)
        for key, place, _, live, shadow in places:
            rows: int | None = None
            size = len(live) if len(live) != 1 else len(live[0]) if isinstance(live[0], list) else 0
            if size > 1:
                if lengths is None:
                    lengths = lengths_of(payload)
                rows = size if size in lengths else None
            outputs = self.outputs.part(key)
            tolerance = reading.at(place).tolerance
            words = outputs.add(block, live, shadow, tolerance=tolerance, rows=rows, digest=digest)
            if len(live) > 1:
                if both and any(words):
                    told_by_row, once = marks_of(tuple(words), key)
                    by_row.add(len(live), told_by_row)
                    of_rows.extend(once)
                else:
                    by_row.add(len(live), None)
            elif both and words[0]:
                marks.append(mark_at(words[0], key))
            if first and live:
                self._again(record, live)
                first = False
            if shadow is not None and len(live) == len(shadow) and any(words):
                if flip is None:
                    flip = _flip_of(key, live, shadow, words)
                if len(live) == 1 and words[0] == "differs":
                    self._large(record, place, outputs.largest, live[0], shadow[0])
        by_row.finish(marks)
        marks.extend(of_rows)
        return by_row, flip

    def _built(
        self,
        block: int,
        live: Any,
        shadow: Any,
        said: Content,
        answered: Content,
        found: Diff | None,
        reading: Reading,
    ) -> None:
        """Count what live's answer has, and what of it the shadow's lacks."""
        waiting = self._waiting
        shape = shape_of_answer(live, exact=said.kind == "json" and not said.lenient)
        known = waiting.built.get((block, shape))
        if known is None:
            waiting.size += len(places_in(shape))
        waiting.built[block, shape] = (known or 0) + 1
        if found is not None and _lacks_nothing(found, said, answered):
            return
        places = lacking(live, shadow, reading.rules)
        if places:
            waiting.lacking[block, places] = waiting.lacking.get((block, places), 0) + 1
            waiting.size += 1

    def _large(self, record: Record, place: str, largest: Sample, live: Any, shadow: Any) -> None:
        """Keep the exchange if its numbers are among the furthest apart."""
        if not all(isinstance(each, int | float) and not isinstance(each, bool) for each in (live, shadow)):
            return
        gap = bin_of(abs(float(shadow) - float(live))) if abs(live) < 1e300 and abs(shadow) < 1e300 else 0
        rank = _WIDEST - gap << 64
        if not gap or (len(largest) == largest.KEPT and rank > max(largest)):
            return
        digest = rank | hashed(record.id, record.record)
        if largest.wants(digest):
            difference = {"path": place, "kind": "value", "live": loggable(live), "shadow": loggable(shadow)}
            largest.add(digest, example(record, [difference], 1))

    def _again(self, record: Record, ones: Sequence[Any]) -> None:
        """Count live's answer under its request: the same request twice shows how far live agrees with itself."""
        body = told(record.request.body, 100_000)
        if body is not None:
            key = f"{hashed(record.request.method, record.request.path, record.request.query, body):016x}"
            self.repeats.part(key).add(hashed(repr(ones)))

    def _differences(self, block: int, record: Record, found: Diff, flip: Flip | None) -> None:
        for path, times in found.near.items():
            self.near.part(path)["near"] += times
        if not found.count:
            return
        waiting = self._waiting
        waiting.size += len(found.found)
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
        self._apart(path, live, shadow)
        shapes = self.shapes.part(path)
        for values, part in ((live, self.live_values.part(path)), (shadow, self.shadow_values.part(path))):
            if set(map(type, values)) == {float} and math.isfinite(sum(values)):
                # Most differences by far are of these: all have one shape, and but for -0.0 equal ones look the same.
                shapes[shape_of(path, 0.5)] += len(values)
                for value, times in counted(values):
                    part.add(hashed(repr(value)), times)
                continue
            for value, times in counted(values):
                shown = loggable(value)
                part.add(hashed(repr(shown)), times)
                shapes[shape_of(path, shown)] += times

    def _apart(self, path: str, live: list[Any], shadow: list[Any]) -> None:
        """Count how far apart numbers are that differ: at most, and as a part of the larger by powers of two."""
        furthest = 0.0
        powers: dict[int, int] = {}
        for (one, other), times in _pairs(live, shadow):
            gap = gap_of(one, other)
            if gap:
                furthest = max(furthest, gap)
                power = math.frexp(gap / max(abs(one), abs(other)))[1]
                powers[power] = powers.get(power, 0) + times
        if powers:
            at = bin_of(furthest)
            self.apart.part(path).add(_WIDEST - at, at)
            self.apart_in_part.part(path).update(powers)

    def _control(self, block: int, live: RecordedLeg, control: RecordedLeg, found: Diff, reading: Reading) -> None:
        again = recompared(live, control, reading.rules)
        if again.verdict is _INCOMPARABLE:
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


def _pairs(live: list[Any], shadow: list[Any]) -> Iterable[tuple[tuple[Any, Any], int]]:
    """Pairs of values with how often they came; only of floats, of which no other is equal to one."""
    if set(map(type, live)) == {float} == set(map(type, shadow)):
        return Counter(zip(live, shadow, strict=True)).items()
    return ((pair, 1) for pair in zip(live, shadow, strict=True))


def _something(value: Any) -> Any:
    """What an answer says; null says nothing and has no place to look at, as an object without members has none. 0,
    false and an empty text are answers."""
    return _EMPTY if value is None else value


def _heeded(found: list[Look], reading: Reading) -> list[Look]:
    """The places of an exchange that are counted: all that were named; else those that no rule ignores.

    Beside three places that are called as answers are, what is called as an ID or a version is would not be judged. It
    is not counted either, of this exchange as of any other like it.
    """
    if reading.fields:
        return found
    keys = tuple([look.key for look in found])
    heeded = reading.heeded.get(keys)
    if heeded is None:
        heeded = _which_heeded(found, reading)
        if sum(map(len, keys)) <= _LONGEST_HEEDED:
            if len(reading.heeded) >= _MOST_HEEDED:
                reading.heeded.clear()
            reading.heeded[keys] = heeded
    return found if len(heeded) == len(found) else [found[at] for at in heeded]


def _which_heeded(found: list[Look], reading: Reading) -> tuple[int, ...]:
    heeded: list[int] = []
    for at, look in enumerate(found):
        if reading.at(look.live_place).ignored:
            continue
        if look.shadow_place != look.live_place and reading.at(look.shadow_place).ignored:
            continue
        enough = len(heeded) >= _WELL_NAMED and static_score(found[heeded[_WELL_NAMED - 1]].live_place) >= _SPEAKS
        if enough and static_score(look.live_place) < 0:
            continue
        heeded.append(at)
    return tuple(heeded)


def _missing(said: Content, other: Standing, answered: Content | None) -> str | None:
    """Why one arm's answer is missing where the other has one; None where it is not, or where neither has any."""
    if said.kind == "empty" or (said.kind == "json" and said.value is None):
        return None
    if other != "good" or answered is None:
        return "failed" if other == "failed" else "not a 2xx"
    if answered.kind == "empty":
        return "absent"
    return "null" if answered.kind == "json" and answered.value is None else None


def _lacks_nothing(found: Diff, said: Content, answered: Content) -> bool:
    """Whether the differences tell that nothing is lacking, as most often: then there is no need to look again."""
    if not found.count and not found.ignored:
        return True
    plain = said.kind == "json" and answered.kind == "json" and not answered.lenient
    return plain and found.count <= len(found.found) and all(kind in _NOT_LACKING for _, kind in found.where)


def _unknown(said: Content | None) -> bool:
    return said is None or said.kind == "unknown"


def _is_news(found: Diff) -> bool:
    """Whether two answers differ in more than IDs, times and digests, as far as their look tells."""
    if found.count > len(found.found):
        return True
    return any(
        kind != "value" or shape_of(place, loggable(live)) not in VOLATILE_SHAPES
        for place, kind, live, _, _ in found.found
    )


def _flip_of(key: str, live: Sequence[Any], shadow: Sequence[Any], words: Sequence[str]) -> Flip | None:
    """How the first row that differs flipped, if it may be a class."""
    for one, other, word in zip(live, shadow, words, strict=False):
        if word == "differs":
            classes = flip_of(one, other)
            return (key, *classes) if classes is not None else None
    return None


def signature_of(where: Iterable[Where]) -> str:
    """The places at which two answers differ, as one key: a JSON list."""
    places = sorted({path for path, _ in where})
    if len(places) > _MOST_PLACES:
        places = [*places[:_MOST_PLACES], _ELSEWHERE]
    return orjson.dumps(places).decode()


@lru_cache(maxsize=1024)
def _example_key(where: tuple[Where, ...], flip: Flip | None) -> str:
    return orjson.dumps([orjson.loads(signature_of(where)), flip]).decode()


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


_NUMBERS: Final = frozenset({int, float})


def gap_of(live: Any, shadow: Any) -> float | None:
    """How far two numbers lie apart, or None where that is no number.

    By their types, not by `isinstance`: what mypy takes for a float is a C double where it is compiled, and an integer
    of 400 digits is none.
    """
    if type(live) not in _NUMBERS or type(shadow) not in _NUMBERS:
        return None
    try:
        one, other = float(live), float(shadow)
    except OverflowError:
        return None
    return abs(other - one) if abs(one) < 1e300 and abs(other) < 1e300 else None


def status_of(answer: RecordedLeg) -> str:
    return _ending(answer.outcome, answer.status)


def _ending(outcome: Outcome, status: int | None) -> str:
    return str(status) if outcome is _OK else str(outcome)


def _seconds(at: str) -> float:
    return datetime.fromisoformat(at).timestamp()
