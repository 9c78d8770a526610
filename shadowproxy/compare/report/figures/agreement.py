"""How far whole answers agree, where they differ, and examples of it."""

from collections.abc import Mapping
from typing import Final

import orjson

from shadowproxy.compare.fold.bins import edges
from shadowproxy.compare.fold.counts import Series
from shadowproxy.compare.fold.noise import Nature
from shadowproxy.compare.fold.pair import Pair
from shadowproxy.compare.fold.pair_tables import Drawn, Kinds
from shadowproxy.compare.fold.places import places_of
from shadowproxy.compare.judge.recompare import guessed_pattern
from shadowproxy.compare.report import stats
from shadowproxy.compare.report.figures.common import estimated, moment, ranked
from shadowproxy.compare.report.figures.types import Agreement, Apart, DifferingField, Example, Moment, PairedPlaces
from shadowproxy.compare.report.kinds import AnswerPlace
from shadowproxy.compare.report.weights import NONE, Tally, Weighing
from shadowproxy.exchange import Verdict

FIELDS_SHOWN: Final = 50
EXAMPLES_SHOWN: Final = 6

_CLASSES: Final = ("class", "vector")
_SETTLED: Final = 0.9  # of the differences at a place
_SMALLEST_POWER: Final = -9  # of ten: a smaller difference is none


def agreement(pair: Pair, aside: set[str]) -> Agreement:
    settled = stats.proportion(agreeing(pair, aside), pair.compared) if aside else None
    whole = stats.proportion(pair.agreed, pair.compared)
    decisive = settled or whole
    return {
        "verdicts": {str(verdict): pair.verdicts.get(verdict, 0) for verdict in Verdict},
        "incomparable": ranked(pair.whys),
        "whole": estimated(whole),
        "per_call": [{"path": path, "exchanges": count} for path, count in _counted(pair.per_call)],
        "paired": _paired(pair),
        "set_aside": sorted(aside),
        "settled": estimated(settled),
        "anytime": list(stats.anytime_share(decisive, certain=(False, True))) if decisive is not None else None,
    }


def _counted(places: Kinds) -> list[tuple[str, int]]:
    """Places with their exchanges, most often first."""
    return sorted(((path, words["n"]) for path, words in places.items()), key=lambda each: (-each[1], each[0]))


def _paired(pair: Pair) -> list[PairedPlaces]:
    rows: list[PairedPlaces] = []
    for key, count in _counted(pair.paired):
        live, shadow = places_of(key)
        rows.append({"live_path": live, "shadow_path": shadow, "exchanges": count})
    return rows


def differing_fields(pair: Pair, aside: Mapping[str, Nature]) -> list[DifferingField]:
    """The places that differ, most often first, each with its kinds of difference and its nature."""
    compared = pair.compared.total()
    rows: list[DifferingField] = []
    for path, series in pair.differs.items():
        count = series.total()
        rows.append(
            {
                "path": path,
                "exchanges": count,
                "share": count / compared if compared else None,
                "kinds": ranked(pair.kinds[path]) if path in pair.kinds else {},
                "nature": aside.get(path, "real"),
                "apart": _apart(pair, path),
            }
        )
    return sorted(rows, key=lambda row: (-row["exchanges"], row["path"]))


def agreeing(pair: Pair, aside: set[str]) -> Series:
    """By block, the exchanges that agree once the places in `aside` do not count."""
    total = Series(pair.agreed)
    for signature, series in pair.signatures.items():
        if aside.issuperset(orjson.loads(signature)):
            total.absorb(series)
    return total


def _apart(pair: Pair, path: str) -> Apart | None:
    """How far apart the numbers are that differ at a place, and which relative tolerance would settle most of it."""
    parts, gaps = pair.apart_in_part.get(path), pair.apart.get(path)
    if not parts or not gaps:
        return None
    total = sum(parts.values())
    found: Apart = {
        "most": 2.0 ** max(parts),
        "absolute": edges(max(gaps.values()))[1],
        "tolerance": None,
        "settles": None,
    }
    for power in range(_SMALLEST_POWER, 0):
        settled = sum(count for at, count in parts.items() if 2.0**at <= 10.0**power) / total
        if settled >= _SETTLED:
            return {**found, "tolerance": 10.0**power, "settles": settled}
    return found


def examples(pair: Pair, aside: set[str], judged: AnswerPlace | None) -> list[Example]:
    """Differing exchanges, drawn by hash: one of each flip first. None differs only in places that are noise."""
    groups: dict[tuple[tuple[str, ...], tuple[str, str] | None], Drawn] = {}
    for key, sample in pair.examples.items():
        places, flipped = orjson.loads(key)
        # A flip counts only at the judged place, if it holds classes.
        counts = flipped is not None and judged is not None and flipped[0] == judged.key and judged.kind in _CLASSES
        flip = (str(flipped[1]), str(flipped[2])) if counts else None
        if flip is None and aside.issuperset(places):
            continue
        group = tuple(places), flip
        groups[group] = groups[group].merged(sample) if group in groups else sample
    first: dict[int, Example] = {}
    more: dict[int, Example] = {}
    for (_, flip), sample in groups.items():
        drawn = [(digest, _decisive_first(sample[digest], flip, aside)) for digest in sorted(sample)]
        first.update(drawn[:1])
        more.update(drawn[1:])
    more.update((digest, _decisive_first(item, None, aside)) for digest, item in pair.examples.other.items())
    ordered = [each[digest] for each in (first, more) for digest in sorted(each)]
    return ordered[:EXAMPLES_SHOWN]


def _decisive_first(example: Example, flip: tuple[str, str] | None, aside: set[str]) -> Example:
    """An example with its flip, and with the differences that do not count last."""
    differences = sorted(example["differences"], key=lambda each: guessed_pattern(each["path"]) in aside)
    return {**example, "differences": differences, "flip": list(flip) if flip is not None else None}


def over_time(pair: Pair, judged: AnswerPlace | None, aside: set[str], width: int) -> list[Moment]:
    """Agreement block by block, with the confidence sequence over all up to it."""
    n = judged.pairs if judged is not None else pair.compared
    k = judged.same if judged is not None else agreeing(pair, aside)
    estimate = stats.proportion(k, n)
    effect = max(1.0, estimate.design_effect) if estimate is not None else 1.0
    rows: list[Moment] = []
    total = same = 0
    for block in sorted(n):
        total, same = total + n[block], same + k.get(block, 0)
        if estimate is None or estimate.weights is None:
            low, high = stats.confidence_sequence(same / effect, total / effect)
        else:
            so_far = Weighing(_up_to(n, block), _up_to(k, block), NONE, *estimate.weights[3:])
            low, high = stats.anytime_weighted(so_far, effect, certain=(False, True))
        rows.append(
            {
                "start": moment(block * width * 1000),
                "pairs": n[block],
                "agreeing": k.get(block, 0),
                "so_far": same / total if total else None,
                "low": low,
                "high": high,
            }
        )
    return rows


def _up_to(counts: Series, block: int) -> Tally:
    """What is counted up to a block of time."""
    return stats.tally(counts.up_to(block))
