"""Counts one shadow beside live, exchange by exchange.

What many exchanges have in common waits, in a bounded amount, and is counted at once. `finish` gives the `Pair`.
"""

import contextlib
from collections.abc import Iterable, Sequence
from datetime import datetime
from typing import Any, Final

from shadowproxy.answers import about, content_of, reason_of
from shadowproxy.answers.alike import alike, common_forms, is_as_sent
from shadowproxy.answers.issued import NOTHING_ISSUED, issued_in, with_lives_ids
from shadowproxy.answers.left_out import incomparable_reason, left_out_by
from shadowproxy.budget import Budget, Exhausted
from shadowproxy.compare.fold.arms import Arms, has_values, lacks_nothing, marks_of_pair, missing, sent_by, values_of
from shadowproxy.compare.fold.bins import bin_of
from shadowproxy.compare.fold.chosen import counted_places
from shadowproxy.compare.fold.examples import Flip, difference, example, example_key, first_flip
from shadowproxy.compare.fold.language import written_by
from shadowproxy.compare.fold.layouts import Answer
from shadowproxy.compare.fold.looks import values_by_place
from shadowproxy.compare.fold.outcomes import COUNTED
from shadowproxy.compare.fold.outputs import OutputsByField
from shadowproxy.compare.fold.outputs_builder import PlacesBuilder
from shadowproxy.compare.fold.pair import REQUESTS_WITHOUT_BODY, Pair
from shadowproxy.compare.fold.pair_tables import LOWEST_RANK
from shadowproxy.compare.fold.place_gists import PlaceGists, gists_at
from shadowproxy.compare.fold.places import PlaceValues, extract, field_key
from shadowproxy.compare.fold.reading import Reading
from shadowproxy.compare.fold.requests import Asked, asked_by
from shadowproxy.compare.fold.rows import Rows
from shadowproxy.compare.fold.samples import Sample, hashed
from shadowproxy.compare.fold.slices import Fields, mark_at, marks_of
from shadowproxy.compare.fold.streams import StreamTimes, times_of
from shadowproxy.compare.fold.structure import has_structure, lacking, places_in
from shadowproxy.compare.fold.truths import Truth
from shadowproxy.compare.fold.values import gap_of
from shadowproxy.compare.fold.waiting import Waiting
from shadowproxy.compare.judge.differences import Diff, loggable
from shadowproxy.compare.judge.recompare import recompared
from shadowproxy.compare.judge.rules import Rules
from shadowproxy.compare.judge.standing import Standing, standing_of
from shadowproxy.compare.judge.verdict import Compared, compared_by
from shadowproxy.exchange import CONTROL, Outcome, Verdict
from shadowproxy.record import Record, RecordedLeg

MOST_WAITING: Final = 8000
"""Values, of answers and of requests, that wait to be counted."""

_OK: Final = Outcome.OK
_INCOMPARABLE: Final = Verdict.INCOMPARABLE
_SHOWN: Final = 8  # differences of an example


class PairBuilder:
    """Counts exchanges into a pair. `finish` gives it; it is called once, at the end.

    A builder can go on counting into a finished pair, which then belongs to it.
    """

    __slots__ = ("_pair", "_places", "_waiting")

    def __init__(self, pair: Pair | None = None) -> None:
        if pair is None:
            pair = Pair()
        self._pair = pair
        self._places = PlacesBuilder(pair.outputs)
        pair.outputs = OutputsByField()
        self._waiting = Waiting()

    def add(
        self, block: int, record: Record, shadow: RecordedLeg, reading: Reading, digest: int | None = None
    ) -> Sequence[PlaceValues] | None:
        """Count one exchange. `digest` is the hash of its ID if the caller has it already.

        Returns what was counted place by place, for labels that come later; None where the exchange is no pair.
        """
        if self._waiting.size >= MOST_WAITING:
            self._flush()
        pair = self._pair
        live = record.live
        begun = shadow.outcome in COUNTED
        live_content = content_of(live) if live.outcome is _OK else None
        shadow_content = content_of(shadow) if shadow.outcome is _OK else None
        own: tuple[str, ...] = ()
        if (issued := issued_in(shadow)) and live_content is not None and shadow_content is not None:
            with contextlib.suppress(Exhausted):
                value, own = with_lives_ids(live_content.value, shadow_content.value, issued, Budget())
                shadow_content = shadow_content._replace(value=value)
        if begun:
            self._add_streams(block, times_of(live, live_content), times_of(shadow, shadow_content))
            pair.usage.add(block, (live, live_content), (shadow, shadow_content))
        self._add_times(block, live, shadow)
        verdict: Verdict | None = None
        why: str | None = None
        diff: Diff | None = None
        taken_apart: tuple[Answer, Answer] | None = None
        forms: tuple[Any, Any] | None = None
        by_envelope = reading.rules
        one: Standing | None = None
        other: Standing | None = None
        if begun and live_content is not None and live.status is not None:
            one, other = standing_of(live, live_content), standing_of(shadow, shadow_content)
        if live_content is not None and shadow_content is not None:
            for arm, leg in (("live", live), ("shadow", shadow)):
                if leg.body is not None and leg.body.repeated_keys:
                    pair.repeated_keys[arm] += 1
                if (setting := left_out_by(leg.body, incomparable_reason(arm, shadow.judgement))) is not None:
                    pair.left_out[f"{arm} {setting}"] += 1
            compared: Compared | None = None
            pair_of = about(record, reading.shadow, (live_content, shadow_content))._replace(issued=NOTHING_ISSUED)
            # What failed, and what is brought into another form to be compared, is not taken apart.
            if one == other and live_content.kind == shadow_content.kind == "json" and live.status == shadow.status:
                beside = alike(live_content, shadow_content, pair_of, reading.rules.predictions.get(reading.shadow))
                forms = common_forms(beside, live_content, shadow_content) if one == "good" else None
                by_envelope = reading.rules.beside(beside.set_aside)
                if is_as_sent(beside, live_content, shadow_content):
                    taken_apart = Answer(live_content.value), Answer(shadow_content.value)
                    found = taken_apart[0].diff(taken_apart[1], by_envelope)
                    compared = None if found is None else compared_by(found)
            if compared is None:
                compared = recompared(live, shadow, reading.rules, pair_of, record.rules)
            verdict, why = compared.verdict, compared.why
            if verdict is not _INCOMPARABLE:
                diff = compared.diff if compared.diff is not None else Diff()
                diff.note_set_aside(own)
        lost: str | None = None
        gained: str | None = None
        flip: Flip | None = None
        places: list[PlaceValues] | None = None
        if one is not None and other is not None and live_content is not None:
            if one == "good":
                lost = missing(live_content, other, shadow_content)
            if other == "good" and shadow_content is not None:
                gained = missing(shadow_content, one, live_content)
            pair.usage.add_finish(live_content, shadow_content, one, other)
            said = live_content.value, None if shadow_content is None else shadow_content.value
            pair.state.add(record, shadow, (one, other), said)
            arms = Arms(live, shadow, live_content, shadow_content, one, other, verdict, diff, taken_apart, forms)
            digest = hashed(record.id) if digest is None else digest
            places, flip = self._add_pair(block, record, digest, arms, reading, by_envelope)
        if diff is not None:
            self._add_differences(block, record, diff, flip)
            if record.control is not None:
                self._add_control(block, record, record.control, diff, reading)
        self._waiting.add_ended(
            (block, live.outcome, live.status, shadow.outcome, shadow.status, one, other, lost, gained, verdict, why)
        )
        return places

    def label(self, block: int, seconds: float, truth: Truth, places: Iterable[PlaceGists]) -> None:
        """Count the truth of one pair, whose answers were given at `seconds` since the epoch."""
        self._pair.label_pair(block, seconds, truth)
        for key, live, shadow in places:
            outputs = self._places.get(key)
            if outputs is not None:  # None where there are too many places
                outputs.label(block, live, shadow, truth.labels)

    def finish(self) -> Pair:
        """The pair of all that was counted. The builder is not used afterwards."""
        self._flush()
        pair = self._pair
        pair.outputs = self._places.finish()
        pair.slices.trim()
        pair.named_slices.trim()
        return pair

    def _flush(self) -> None:
        waiting = self._waiting
        self._waiting = Waiting()
        waiting.count_into(self._pair)

    def _add_streams(self, block: int, live: StreamTimes | None, shadow: StreamTimes | None) -> None:
        pair = self._pair
        if live is not None:
            pair.live_streams.add(live)
        if shadow is not None:
            pair.shadow_streams.add(shadow)
        if live is not None and shadow is not None:
            pair.streamed.add(block, live, shadow)

    def _add_times(self, block: int, live: RecordedLeg, shadow: RecordedLeg) -> None:
        one, other = live.total_ms, shadow.total_ms
        late = shadow.outcome is Outcome.TIMEOUT
        if live.outcome is not _OK or one is None or other is None or not (late or shadow.outcome is _OK):
            return
        self._waiting.add_timed(block, late, (one, other, live.first_byte_ms, shadow.first_byte_ms))

    def _add_pair(
        self, block: int, record: Record, digest: int, arms: Arms, reading: Reading, by_envelope: Rules
    ) -> tuple[list[PlaceValues], Flip | None]:
        """Count a pair: its values by place, lacking places, reasons of failure, and its marks by the request's fields.

        Returns the places that were counted, and how a class flipped.
        """
        pair = self._pair
        marks = marks_of_pair(arms)
        asked = asked_by(record)
        if record.request.body.truncated and record.request.body.kind == "none":
            pair.left_out[REQUESTS_WITHOUT_BODY] += 1
        live_said = written_by(arms.live_content, arms.live_standing)
        pair.language.add(block, live_said, written_by(arms.shadow_content, arms.shadow_standing), asked)
        rows = Rows()
        flip: Flip | None = None
        if reading.named:
            pair.named[reading.named] += 1
        places: list[PlaceValues] = []
        if has_values(arms):
            live_good = arms.live_standing == "good"
            mine, theirs = values_of(arms)
            looked_at = mine, theirs
            if arms.forms is not None and any(one != other for one, other in reading.fields):
                looked_at = values_of(arms._replace(forms=None))  # both places were named, each in its own answer
            places = counted_places(values_by_place(*looked_at, reading.fields, sent_by(arms)), reading)
            both = live_good and theirs is not None
            rows, flip = self._add_places(block, record, digest, places, asked, marks, reading, both=both)
            if live_good and theirs is not None and has_structure(mine.value):
                self._add_structure(block, mine, theirs, arms, by_envelope)
        self._add_reasons(record, arms, asked.fields)
        waiting = self._waiting
        whole = tuple(marks)
        waiting.size += waiting.observed.add(asked.fields, whole, rows)
        if reading.slices:
            named = Fields({place: extract(asked.payload, place) for place in reading.slices})
            waiting.size += waiting.observed_named.add(named, whole, rows)
        truth = reading.truths.of(record)
        if truth is not None:
            self.label(block, datetime.fromisoformat(record.at).timestamp(), truth, map(gists_at, places))
        return places, flip

    def _add_reasons(self, record: Record, arms: Arms, fields: Fields) -> None:
        live_failed = arms.live_standing in ("failed", "refused")
        shadow_failed = arms.shadow_standing in ("failed", "refused")
        if not live_failed and not shadow_failed:
            return
        digest = hashed(record.id, record.record)
        if live_failed:
            reason = reason_of(arms.live, arms.live_content)
            self._pair.live_reasons.part(reason).add(digest, record.id, fields.by_place)
        if shadow_failed:
            reason = reason_of(arms.shadow, arms.shadow_content)
            self._pair.shadow_reasons.part(reason).add(digest, record.id, fields.by_place)

    def _add_places(
        self,
        block: int,
        record: Record,
        digest: int,
        places: Sequence[PlaceValues],
        asked: Asked,
        marks: list[str],
        reading: Reading,
        *,
        both: bool,
    ) -> tuple[Rows, Flip | None]:
        """Count the values at each place. Returns the marks row by row, and how a class flipped.

        With two good answers (`both`) the mark of each place is added to `marks`; otherwise `marks` says enough.
        """
        flip: Flip | None = None
        first = True
        by_row = Rows()
        of_rows: list[str] = []
        for key, place, _, live, shadow in places:
            rows: int | None = None
            size = len(live) if len(live) != 1 else len(live[0]) if isinstance(live[0], list) else 0
            if size > 1:
                rows = size if size in asked.lengths() else None
            outputs = self._places.part(key)
            at = reading.at(place)
            words = outputs.add(
                block,
                live,
                shadow,
                tolerance=at.tolerance,
                elements=at.elements,
                embedding=at.embedding,
                rows=rows,
                digest=digest,
            )
            if len(live) > 1:
                if both and any(words):
                    each_row, once = marks_of(tuple(words), key)
                    by_row.add(len(live), each_row)
                    of_rows.extend(once)
                else:
                    by_row.add(len(live), None)
            elif both and words[0]:
                marks.append(mark_at(words[0], key))
            if first and live:
                self._add_repeat(asked, live)
                first = False
            if shadow is not None and len(live) == len(shadow) and any(words):
                if flip is None:
                    flip = first_flip(key, live, shadow, words)
                if len(live) == 1 and words[0] == "differs":
                    _keep_if_large(record, place, outputs.largest, live[0], shadow[0])
        by_row.finish(marks)
        marks.extend(of_rows)
        return by_row, flip

    def _add_structure(self, block: int, live: Answer, shadow: Answer, arms: Arms, rules: Rules) -> None:
        """Count the places that live's answer has, and those of them that the shadow's lacks."""
        waiting = self._waiting
        known = arms.live_content
        shape = live.structure(exact=known.kind == "json" and not known.lenient)
        times = waiting.built.get((block, shape))
        if times is None:
            waiting.size += len(places_in(shape))
        waiting.built[block, shape] = (times or 0) + 1
        if lacks_nothing(arms):
            return
        places = lacking(live.value, shadow.value, rules)
        if places:
            waiting.lacking[block, places] = waiting.lacking.get((block, places), 0) + 1
            waiting.size += 1

    def _add_repeat(self, asked: Asked, values: Sequence[Any]) -> None:
        """Count live's answer under its request: the same request twice shows how far live agrees with itself."""
        key = asked.repeat()
        if key is not None:
            self._pair.repeats.part(key).add(hashed(repr(values)))

    def _add_differences(self, block: int, record: Record, diff: Diff, flip: Flip | None) -> None:
        for path, times in diff.near.items():
            self._pair.near.part(path)["near"] += times
        for path in diff.set_aside:
            self._pair.per_call.part(path)["n"] += 1
        for _, (one, other) in diff.paired:
            self._pair.paired.part(field_key(one, other))["n"] += 1
        if not diff.count:
            return
        waiting = self._waiting
        waiting.size += len(diff.found)
        where = tuple(diff.where.items())
        waiting.found[block, where] = waiting.found.get((block, where), 0) + 1
        differing = waiting.differing
        for place, kind, live, shadow, _ in diff.found:
            if kind == "value":
                values = differing.get(place)
                if values is None:
                    values = differing[place] = ([], [])
                values[0].append(live)
                values[1].append(shadow)
        sample = self._pair.examples.part(example_key(tuple(diff.where), flip))
        digest = hashed(record.id, record.record)
        if sample.wants(digest):
            shown = [difference(each.path, each.kind, each.live, each.shadow) for each in diff.listed(_SHOWN)]
            sample.add(digest, example(record, shown, diff.count))

    def _add_control(self, block: int, record: Record, control: RecordedLeg, diff: Diff, reading: Reading) -> None:
        """Count how live's second answer to the same request differs from its first."""
        again = recompared(record.live, control, reading.rules, about(record, CONTROL), record.rules)
        if again.verdict is _INCOMPARABLE:
            return
        noise = again.diff if again.diff is not None else Diff()
        pair = self._pair
        pair.control_pairs[block] += 1
        pair.control_differs[block] += noise.count > 0
        pair.control_shadow_differs[block] += diff.count > 0
        for places, gaps, each in (
            (pair.control_places, pair.control_gaps, noise),
            (pair.control_shadow_places, pair.control_shadow_gaps, diff),
        ):
            for path in {path for path, _ in each.where}:
                places.part(path)[block] += 1
            for place, kind, one, other, _ in each.found:
                gap = gap_of(loggable(one), loggable(other))
                if kind == "value" and gap is not None:
                    gaps.part(place)[bin_of(gap)] += 1


def _keep_if_large(record: Record, place: str, largest: Sample, live: Any, shadow: Any) -> None:
    """Keep the exchange if its numbers are among the furthest apart."""
    if not all(isinstance(each, int | float) and not isinstance(each, bool) for each in (live, shadow)):
        return
    gap = bin_of(abs(float(shadow) - float(live))) if abs(live) < 1e300 and abs(shadow) < 1e300 else 0
    rank = LOWEST_RANK - gap << 64
    if not gap or (len(largest) == largest.KEPT and rank > max(largest)):
        return
    digest = rank | hashed(record.id, record.record)
    if largest.wants(digest):
        largest.add(digest, example(record, [difference(place, "value", loggable(live), loggable(shadow))], 1))
