"""The report's JSON of what language models wrote and called."""

from typing import TypedDict

from shadowproxy.compare.report.figures.basic_types import Counts, EstimateFigures, Quantiles
from shadowproxy.compare.report.figures.measure_types import PairedTotal


class TextFigures(TypedDict):
    """How alike the texts are of the requests for which both wrote one. `length` is in characters."""

    requests: int
    exact: EstimateFigures | None
    same_words: EstimateFigures | None
    token_f1: EstimateFigures | None
    rouge_l: EstimateFigures | None
    token_f1_quantiles: Quantiles
    rouge_l_quantiles: Quantiles
    length: PairedTotal | None


class Followed(TypedDict):
    """How many values follow a schema of the request, of those that were checked; why others were not."""

    checked: int
    valid: int
    not_checked: Counts


class CallsArm(TypedDict):
    """Answers of one arm that call tools, their calls, and those of them whose arguments are no JSON.

    `unknown_tools` are calls of tools that the request does not have; `schema` is of the calls of its tools.
    """

    answers: int
    calls: int
    no_json: int
    unknown_tools: int
    schema: Followed


class CallFigures(TypedDict):
    """Calls of tools. The shares are of the requests for which at least one of both calls a tool."""

    live: CallsArm
    shadow: CallsArm
    requests: int
    same_names: EstimateFigures | None
    same_arguments: EstimateFigures | None


class OutputFigures(TypedDict):
    """Texts for which the request has a schema. Of `requests` both were checked; some only one of them follows."""

    live: Followed
    shadow: Followed
    requests: int
    only_live: int
    only_shadow: int


class RefusalFigures(TypedDict):
    """Answers that say by a field of their own that they refuse, by which; and requests by who refused."""

    live: Counts
    shadow: Counts
    both: int
    only_live: int
    only_shadow: int


class MeaningFigures(TypedDict):
    """How near the texts of drawn requests are in meaning, by the cosine of their embeddings; `equal` ones have 1.

    Attributes:
        pairs: requests for which both wrote a text; drawn: those that were looked at.
        failed: why the endpoint gave no embeddings; then the figures are null.
    """

    model: str
    to: str
    pairs: int
    drawn: int
    equal: int
    failed: str | None
    mean: float | None
    quantiles: Quantiles


class LanguageFigures(TypedDict):
    """The answers of language models. `requests` have one from both; `only_live` and `only_shadow` a text from one."""

    live: int
    shadow: int
    requests: int
    only_live: int
    only_shadow: int
    text: TextFigures | None
    calls: CallFigures | None
    output: OutputFigures | None
    refusals: RefusalFigures | None
    meaning: MeaningFigures | None
