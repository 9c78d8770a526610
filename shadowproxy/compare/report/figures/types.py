"""The report's JSON, key by key: `to_json` returns it, and every form draws it.

Shares are fractions of 1, times are milliseconds unless the name says otherwise, intervals are 95 %. A test holds these
types to docs/reference/report.schema.json, which explains each key, and to real reports.

Keys are added within a version of the report, never changed or removed.
"""

from typing import Generic, Literal, NotRequired, TypeAlias, TypedDict, TypeVar

from shadowproxy.answers.left_out import Setting
from shadowproxy.compare.fold.example_types import Example as KeptExample
from shadowproxy.compare.fold.noise import Nature
from shadowproxy.compare.report.figures.basic_types import Counts as Counts
from shadowproxy.compare.report.figures.basic_types import EstimateFigures as EstimateFigures
from shadowproxy.compare.report.figures.basic_types import Interval as Interval
from shadowproxy.compare.report.figures.basic_types import Quantiles as Quantiles
from shadowproxy.compare.report.figures.language_types import LanguageFigures
from shadowproxy.compare.report.figures.measure_types import StreamFigures, UsageFigures
from shadowproxy.compare.report.kinds import Unit

ResultWord: TypeAlias = Literal["pass", "fail", "inconclusive", "no data"]
Question: TypeAlias = Literal["engineering", "outputs", "performance"]
# --- the requests that live answered and the shadow was sent ---------------------------------------------------------


class LeftOut(TypedDict):
    """How many answers the log has not whole, and by which setting."""

    setting: Setting
    live: int
    shadow: int


class Coverage(TypedDict):
    chosen: int
    answered: int
    share: float | None
    outcomes: Counts
    left_out: list[LeftOut]


class Pairs(TypedDict):
    n: int
    live_2xx: int
    live_2xx_share: float | None
    written: NotRequired[int]
    live_2xx_written: NotRequired[int]


class StatusPair(TypedDict):
    live: str
    shadow: str
    count: int


class Gathered(TypedDict):
    """The one value of a request's field at which most failures of a reason gather."""

    path: str
    value: str
    share: float
    share_of_requests: float


class FailureReason(TypedDict):
    reason: str
    count: int
    share: float | None
    example: str | None
    where: Gathered | None


class FailureReasons(TypedDict):
    live: list[FailureReason]
    shadow: list[FailureReason]


class Unanswered(TypedDict):
    """Requests whose callers left before live answered."""

    n: int
    shadow_failed: int
    begun: int


class Errors(TypedDict):
    n: int
    live: EstimateFigures | None
    shadow: EstimateFigures | None
    difference: EstimateFigures | None
    live_only: int
    shadow_only: int
    anytime: Interval | None
    unanswered: Unanswered
    reasons: FailureReasons


class Flipped(TypedDict):
    """Requests that one arm accepts and the other rejects, in one direction."""

    count: int
    share: EstimateFigures | None
    anytime: Interval | None


class NetFlips(TypedDict):
    difference: EstimateFigures | None
    anytime: Interval | None


class Flips(TypedDict):
    n: int
    to_4xx: Flipped
    to_2xx: Flipped
    net: NetFlips


class LackedPlace(TypedDict):
    path: str
    lost: int


class Structure(TypedDict):
    n: int
    lost: int
    share: EstimateFigures | None
    anytime: Interval | None
    places: list[LackedPlace]
    always: int


class Answered(TypedDict):
    n: int
    lost: int
    gained: int
    difference: EstimateFigures | None
    anytime: Interval | None
    missing: Counts


class StateFigures(TypedDict):
    """Requests whose IDs were `translated` into the shadow's own, and those for which its own was `unknown`.

    gone: translated ones that the shadow answers with 404 or 410 and live with 2xx. learnt: IDs. refused: about how
    many requests the shadow rejects that carry an ID which live issued and the shadow was never given.
    """

    translated: int
    unknown: int
    gone: int
    learnt: int
    refused: int


class RepeatedKeys(TypedDict):
    live: int
    shadow: int


# --- times -----------------------------------------------------------------------------------------------------------


class ArmQuantiles(TypedDict):
    live: Quantiles
    shadow: Quantiles


class Latency(TypedDict):
    pairs: int
    timeouts: int
    live: Quantiles
    shadow: Quantiles
    at_least: list[str]
    ratio: dict[str, EstimateFigures | None]
    shift: dict[str, EstimateFigures | None]
    gap: Quantiles
    slower: EstimateFigures | None
    first_byte: ArmQuantiles


# --- agreement, and where answers differ -----------------------------------------------------------------------------


class CountedPlace(TypedDict):
    path: str
    exchanges: int


class PairedPlaces(TypedDict):
    live_path: str
    shadow_path: str
    exchanges: int


class Agreement(TypedDict):
    """Of whole answers; `settled` leaves out the places in `set_aside`, which are noise.

    `per_call` are places that a known API generates for every call: they count nowhere. `paired` are those that were
    compared with each other, where live's answers and the shadow's have different forms.
    """

    verdicts: Counts
    incomparable: Counts
    whole: EstimateFigures | None
    per_call: list[CountedPlace]
    paired: list[PairedPlaces]
    set_aside: list[str]
    settled: EstimateFigures | None
    anytime: Interval | None


class Apart(TypedDict):
    """How far apart the numbers at a place are."""

    most: float
    absolute: float
    tolerance: float | None
    settles: float | None


class DifferingField(TypedDict):
    path: str
    exchanges: int
    share: float | None
    kinds: Counts
    nature: Nature
    apart: Apart | None


class Example(KeptExample):
    flip: NotRequired[list[str] | None]


class Moment(TypedDict):
    """Agreement in one block of time, and over all up to it."""

    start: str
    pairs: int
    agreeing: int
    so_far: float | None
    low: float
    high: float


class Part(TypedDict):
    """A part of the requests: those that have one value at one field."""

    path: str
    value: str
    requests: int
    share: float


class NetLoss(TypedDict):
    count: int
    points: float
    low: float


class SliceFigures(TypedDict):
    path: str
    value: str
    requests: int
    differing: int
    rate: float
    lift: float
    share_of_all: float
    share_of_requests: float
    significant: bool
    lost: NetLoss
    errors: NetLoss
    fails: bool
    written: NotRequired[int]


class ControlField(TypedDict):
    path: str
    shadow_differs: float
    live_differs: float
    excess: EstimateFigures | None
    shadow_gap: float | None
    live_gap: float | None
    gap_ratio: float | None


class Control(TypedDict):
    """How far live differs from itself, where it was sent requests twice."""

    pairs: int
    judged: str | None
    live_differs: EstimateFigures | None
    excess: EstimateFigures | None
    fields: list[ControlField]


class Repeats(TypedDict):
    pairs: int
    differing: float


# --- the places that hold the answer ---------------------------------------------------------------------------------


class Related(TypedDict):
    judged: bool
    why: str | None
    value: float | None
    low: float | None
    high: float | None
    n: int
    likeness: str


class Range(TypedDict):
    low: float
    high: float
    given: bool
    outside: int
    share: EstimateFigures | None
    anytime: Interval | None
    smallest: float
    largest: float


class OddValues(TypedDict):
    live: Counts
    shadow: Counts


class LabelCounts(TypedDict):
    labelled: int
    labelled_requests: int
    matched: int
    uneven: int
    coverage: float
    delay_seconds: Quantiles


class Labels(LabelCounts):
    measure: Literal["accuracy", "mean absolute error"]
    live_only: int
    shadow_only: int
    mcnemar: float
    live: EstimateFigures | None
    shadow: EstimateFigures | None
    difference: EstimateFigures | None
    anytime: Interval | None


class Drift(TypedDict):
    jensen_shannon: EstimateFigures | None
    cells: int
    effective: float
    why: str | None
    largest_change: float | None
    stability_index: float | None
    wasserstein_in_sigmas: NotRequired[float | None]
    mean_angle: NotRequired[EstimateFigures | None]


class Bar(TypedDict):
    """One bar of a histogram."""

    low: float
    high: float
    count: int


class NumberArm(TypedDict):
    n: int
    quantiles: Quantiles
    deviation: float | None
    top_share: float | None
    histogram: list[Bar]


ClassShare = TypedDict("ClassShare", {"class": str, "count": int, "share": float})


class ClassArm(TypedDict):
    n: int
    classes: list[ClassShare]
    distinct: int | None
    top_share: float | None
    entropy: float | None


class ConfusionCell(TypedDict):
    live: str
    shadow: str
    count: int


class ClassFlip(TypedDict):
    live: str
    shadow: str
    count: int
    net: int


K = TypeVar("K", bound=str)


class OutputHead(TypedDict, Generic[K]):
    """What every kind of place has."""

    live_path: str
    shadow_path: str
    kind: K
    unit: Unit
    pairs: int
    agreement: EstimateFigures | None
    anytime: Interval | None
    answered: Answered
    related: Related
    range: Range | None
    unequal_batches: int
    scores: dict[str, EstimateFigures]
    odd: OddValues
    labels: Labels | None


class NumberFigures(TypedDict):
    """Of numbers; texts are shown by their length, embeddings by their norm."""

    live: NumberArm
    shadow: NumberArm
    drift: Drift
    delta_histogram: list[Bar]
    bias: EstimateFigures | None
    mean_delta: EstimateFigures | None
    median_delta: float | None
    p99_delta: float | None
    limits: list[float | None]
    concordance: EstimateFigures | None
    correlates: bool
    flips_at_half: EstimateFigures | None


class EmbeddingFigures(NumberFigures):
    angle: Quantiles
    dimensions: Counts
    live_dimensions: Counts
    shadow_dimensions: Counts
    kappa: None
    flips: list[ClassFlip]


class ClassFigures(TypedDict):
    live: ClassArm
    shadow: ClassArm
    new: list[str]
    vanished: list[str]
    classes_cut: bool
    kappa: EstimateFigures | None
    confusion: list[ConfusionCell]
    flips: list[ClassFlip]
    drift: Drift


NumberKind: TypeAlias = Literal["number", "text"]
EmbeddingKind: TypeAlias = Literal["embedding"]
ClassKind: TypeAlias = Literal["class", "vector", "ranking"]


class NumberOutput(OutputHead[NumberKind], NumberFigures):
    collapse: str | None


class EmbeddingOutput(OutputHead[EmbeddingKind], EmbeddingFigures):
    collapse: str | None


class ClassOutput(OutputHead[ClassKind], ClassFigures):
    collapse: str | None


Output: TypeAlias = NumberOutput | EmbeddingOutput | ClassOutput

# --- a judge ---------------------------------------------------------------------------------------------------------


class Judged(TypedDict):
    """Which of two answers a judge prefers; `win_rate` is the shadow's, over all pairs, a tie as a half."""

    model: str
    to: str
    prompt: str
    records: int
    pairs: int
    equal: int
    differing: int
    left_out: Counts
    drawn: int
    asked: int
    shadow_better: int
    live_better: int
    ties: int
    swayed: int
    unreadable: int
    failed: int
    win_rate: float | None
    low: float
    high: float


# --- one shadow, as a whole or on one route --------------------------------------------------------------------------


class PairFigures(TypedDict):
    """One shadow beside live."""

    coverage: Coverage
    pairs: Pairs
    statuses: list[StatusPair]
    errors: Errors | None
    flips: Flips | None
    structure: Structure | None
    answered: Answered | None
    repeated_keys: RepeatedKeys
    state: StateFigures | None
    latency: Latency
    streams: StreamFigures | None
    usage: UsageFigures | None
    language: LanguageFigures | None
    agreement: Agreement
    outputs: list[Output]
    fields: list[DifferingField]
    fields_cut: bool
    near: Counts
    parts: list[Part]
    slices: list[SliceFigures]
    slices_cut: bool
    control: Control | None
    repeats: Repeats | None
    over_time: list[Moment]
    examples: list[Example]
    largest: list[Example]
    labels_supplied: int
    judged: Judged | None
    legacy: str | None


class RouteFigures(TypedDict):
    """A route before its checks; `figures` only where it is judged by itself, beside others."""

    route: str
    requests: int
    share: float
    gated: bool
    figures: PairFigures | None
    why: str | None


class ShadowFigures(PairFigures):
    """A shadow before its checks."""

    routes: list[RouteFigures]


# --- the checks, the verdict and the advice --------------------------------------------------------------------------


class CheckFigures(TypedDict):
    name: str
    question: Question
    result: ResultWord
    said: str
    value: float | None
    low: float | None
    high: float | None
    allowed: float | None
    more: int | None
    field: str | None
    route: str | None


class QuestionResults(TypedDict):
    engineering: ResultWord
    outputs: ResultWord
    performance: ResultWord


class Verdict(TypedDict):
    result: ResultWord
    headline: str
    sentence: str
    questions: QuestionResults
    warnings: list[str]


class Decision(TypedDict):
    """The first moment at which the agreement was known to lie above or below a line."""

    line: float | None
    at: int | None


class AdvicePoint(TypedDict):
    about: Literal["accuracy", "latency", "agreement", "slices", "state"]
    word: Literal["shadow", "live", "neither", "same", "differ", "differs", "fails", "refuses"]
    said: str


class NextStep(TypedDict):
    do: Literal["mend", "send", "summarise", "label", "name", "gate", "look", "wait", "promote"]
    said: str


class Advice(TypedDict):
    in_short: list[AdvicePoint]
    next: NextStep


class BlindSpots(TypedDict):
    """What a report on so many requests would not see."""

    said: str
    missing: float | None
    otherwise: float | None
    part: Part | None


class RouteReport(RouteFigures):
    checks: list[CheckFigures] | None
    result: ResultWord | None


class ShadowReport(PairFigures):
    routes: list[RouteReport]
    checks: list[CheckFigures]
    verdict: Verdict
    decided: Decision
    advice: Advice
    blind_spots: BlindSpots


# --- the whole report ------------------------------------------------------------------------------------------------


class Log(TypedDict):
    records: int
    requests: NotRequired[int]
    first: str | None
    last: str | None
    unreadable: Counts
    repeated_ids: float
    repeated_records: float
    live_outcomes: Counts
    live_statuses: Counts
    block_seconds: float
    blocks: int


class Allowed(TypedDict):
    """The gates; null switches a check off."""

    answered: float | None
    structure: float | None
    errors: float | None
    flips: float | None
    p99_ratio: float | None
    related: float | None
    range: float | Interval | None
    collapse: bool
    drift: float | None
    unexplained: float | None
    slices: float | None
    accuracy_loss: float | None
    judge: float | None
    min_agreement: float | None


class ReportFigures(TypedDict):
    """The report before its checks."""

    shadowproxy_report: Literal[2]
    version: str
    log: Log
    shadows: dict[str, ShadowFigures]


class Report(TypedDict):
    shadowproxy_report: Literal[2]
    version: str
    log: Log
    shadows: dict[str, ShadowReport]
    result: ResultWord
    gates: Allowed
