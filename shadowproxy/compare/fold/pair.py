"""The finished counts of one shadow beside live, to be read and merged.

Every exchange is counted in a way that depends on it alone. What it means, which place is judged and which differences
are noise, is decided when the report is made: so any parts of a log add up to the whole.

The *pairs* are the requests that live answered and that were really sent to the shadow. Where live timed out, or its
caller left, the exchange is in neither arm of them.
"""

from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Final

from shadowproxy.compare.fold.bins import Bins, bin_of
from shadowproxy.compare.fold.counts import Hist, Series, Weight, WordCounts
from shadowproxy.compare.fold.labelled import Labelled
from shadowproxy.compare.fold.language import PairLanguage
from shadowproxy.compare.fold.outputs import OutputsByField
from shadowproxy.compare.fold.pair_tables import (
    ByPath,
    BySignature,
    Examples,
    Furthest,
    Gaps,
    Kinds,
    Repeats,
    Values,
)
from shadowproxy.compare.fold.place_gists import PlaceGists
from shadowproxy.compare.fold.reasons import Reasons
from shadowproxy.compare.fold.slices import Slices
from shadowproxy.compare.fold.stateful import PairState
from shadowproxy.compare.fold.streams import PairStreams, Streams
from shadowproxy.compare.fold.structure import Lacking, PresentAt
from shadowproxy.compare.fold.tables import Whole
from shadowproxy.compare.fold.truths import Truth
from shadowproxy.compare.fold.usage import PairUsage

ONE: Final = Weight()

REQUESTS_WITHOUT_BODY: Final = "request log.bodies"
"""In `Pair.left_out`: pairs whose request has a body that the log has nothing of."""


@dataclass(slots=True)
class Pair(Whole):
    """The counts of one shadow beside live. Series and bins are by block of time.

    chosen: requests chosen for the shadow. answered: both answers are whole. compared: a verdict other than
    incomparable; agreed: match or ignored. repeated_keys: by arm, those of these answers with a key twice in an object.
    timed: both have a time; a shadow's timeout counts with the time it was given. Latency is in bins of milliseconds.

    pairs: see above; good, failed and refused are how an answer stands (standing.py), and `to_4xx`, `to_2xx` what live
    answers well and the shadow refuses, and the other way round. lost and gained: pairs in which only live, or only the
    shadow, has an answer at all; missing: why. structured: pairs of two good answers of which live's has structure;
    present: its places; lacking: those that the shadow's lacks. labelled: pairs for which a truth is known. named: by
    which fields, where they were named.

    apart, apart_in_part: of numbers that differ, by how much at most, and by which part of the larger: below 2 to which
    power.
    control_pairs: exchanges where live got the request twice and all three answers could be compared; control_differs
    and control_shadow_differs: those of them where live differs from itself, and the shadow from live.
    per_call: exchanges that differ at places that the answers' envelope generates for every call, by place.
    paired: those in which values at two different places were compared, by these.
    left_out: answers that the log has not whole, by arm and by the setting that is the reason: `live log.body_limit`;
    and pairs without their request's body.
    streamed: how both answers ran, on the requests that both answered in streams.
    usage: what the answers took in tokens and cost, and why language models stopped.
    language: what language models wrote and called, and how alike both are.
    state: what the requests needed of the shadow's own IDs.
    legacy: how many exchanges were counted in an earlier format, which did not count all of this.
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
    left_out: WordCounts = field(default_factory=WordCounts)
    per_call: Kinds = field(default_factory=Kinds)
    paired: Kinds = field(default_factory=Kinds)
    streamed: PairStreams = field(default_factory=PairStreams)
    usage: PairUsage = field(default_factory=PairUsage)
    language: PairLanguage = field(default_factory=PairLanguage)
    state: PairState = field(default_factory=PairState)

    def label(
        self, block: int, seconds: float, truth: Truth, places: Iterable[PlaceGists], weight: Weight = ONE
    ) -> None:
        """Count the truth of one pair, whose answers were given at `seconds` since the epoch."""
        self.label_pair(block, seconds, truth, weight)
        for key, live, shadow in places:
            outputs = self.outputs.get(key)
            if outputs is not None:  # None where there are too many places
                one = Labelled()
                one.add(block, live, shadow, truth.labels)
                outputs.truths.absorb(one if weight == ONE else one.weighed(weight))

    def label_pair(self, block: int, seconds: float, truth: Truth, weight: Weight = ONE) -> None:
        """Count that one pair has a truth, and how long after its answers the truth was known."""
        one = Series({block: 1})
        self.labelled.absorb(one if weight == ONE else one.weighed(weight))
        if truth.at is not None:
            self.label_delay[bin_of(max(0.0, truth.at / 1e6 - seconds))] += weight.times

    def forget_labels(self) -> None:
        """Leave out what was counted of labels, so that others can be counted in their place."""
        self.labelled, self.label_delay = Series(), Hist()
        for outputs in self.outputs.values():
            outputs.truths = Labelled()
