"""What language models wrote and called, and how alike both are."""

import math
from collections import Counter
from collections.abc import Mapping
from typing import Final

from shadowproxy.compare.fold.bins import quantile
from shadowproxy.compare.fold.counts import Series, WordCounts
from shadowproxy.compare.fold.language import ArmLanguage, PairLanguage, PairTexts
from shadowproxy.compare.fold.outputs import MILLION
from shadowproxy.compare.fold.pair import Pair
from shadowproxy.compare.report import stats
from shadowproxy.compare.report.figures.basic_types import EstimateFigures, Quantiles
from shadowproxy.compare.report.figures.common import estimated, ranked
from shadowproxy.compare.report.figures.language_types import (
    CallFigures,
    CallsArm,
    Followed,
    LanguageFigures,
    OutputFigures,
    RefusalFigures,
    TextFigures,
)
from shadowproxy.compare.report.figures.measures import paired_total
from shadowproxy.compare.report.stats import Estimate

_LOW: Final = {"p1": 0.01, "p10": 0.1, "p50": 0.5}
"""What the least alike texts have: the others are mostly equal."""


def language(pair: Pair) -> LanguageFigures | None:
    """The figures of a shadow; None if no answer is a language model's."""
    found = pair.language
    if not found:
        return None
    return {
        "live": found.live.counts["answers"],
        "shadow": found.shadow.counts["answers"],
        "requests": found.both.total(),
        "only_live": found.one_text["live"],
        "only_shadow": found.one_text["shadow"],
        "text": _texts(found.texts),
        "calls": _calls(found),
        "output": _output(found),
        "refusals": _refusals(found),
        "meaning": None,  # an endpoint says it, if one is given
    }


def _texts(found: PairTexts) -> TextFigures | None:
    if not found:
        return None
    return {
        "requests": found.n.total(),
        "exact": estimated(stats.proportion(found.exact, found.n)),
        "same_words": estimated(stats.proportion(found.same_words, found.n)),
        "token_f1": mean_of(found.f1, found.n),
        "rouge_l": mean_of(found.rouge, found.n),
        "token_f1_quantiles": _quantiles(found.f1_each),
        "rouge_l_quantiles": _quantiles(found.rouge_each),
        "length": paired_total(found.length),
    }


def mean_of(sums: Series, n: Series) -> EstimateFigures | None:
    """The mean of scores between 0 and 1 that are counted in millionths; its interval is from blocks of time."""
    found = stats.proportion(sums, Counter({block: count * MILLION for block, count in n.items()}))
    if found is None:
        return None
    low, high = (-math.inf, math.inf) if found.method == "independent" else (found.low, found.high)
    return estimated(Estimate(found.value, low, high, n.total(), found.method))


def _quantiles(counts: Mapping[int, int]) -> Quantiles:
    """Quantiles of scores. A bin is 2 % wide, and that of 1 reaches beyond it."""
    found = {name: quantile(counts, q) for name, q in _LOW.items()}
    return {name: None if value is None else min(1.0, value) for name, value in found.items()}


def _calls(found: PairLanguage) -> CallFigures | None:
    if not found.live.counts["calls"] and not found.shadow.counts["calls"]:
        return None
    return {
        "live": _calls_of(found.live),
        "shadow": _calls_of(found.shadow),
        "requests": found.calling.total(),
        "same_names": estimated(stats.proportion(found.same_names, found.calling)),
        "same_arguments": estimated(stats.proportion(found.same_calls, found.calling)),
    }


def _calls_of(arm: ArmLanguage) -> CallsArm:
    return {
        "answers": arm.counts["calling"],
        "calls": arm.counts["calls"],
        "no_json": arm.counts["no_json"],
        "unknown_tools": arm.tools["unknown"],
        "schema": _followed(arm.tools),
    }


def _followed(results: WordCounts) -> Followed:
    valid = results["valid"]
    others = {why: count for why, count in results.items() if why not in ("valid", "invalid", "unknown")}
    return {"checked": valid + results["invalid"], "valid": valid, "not_checked": ranked(others)}


def _output(found: PairLanguage) -> OutputFigures | None:
    if not found.live.output and not found.shadow.output:
        return None
    return {
        "live": _followed(found.live.output),
        "shadow": _followed(found.shadow.output),
        "requests": found.outputs.total(),
        "only_live": found.outputs["live"],
        "only_shadow": found.outputs["shadow"],
    }


def _refusals(found: PairLanguage) -> RefusalFigures | None:
    if not found.live.refusals and not found.shadow.refusals:
        return None
    return {
        "live": ranked(found.live.refusals),
        "shadow": ranked(found.shadow.refusals),
        "both": found.refusals["both"],
        "only_live": found.refusals["live"],
        "only_shadow": found.refusals["shadow"],
    }
