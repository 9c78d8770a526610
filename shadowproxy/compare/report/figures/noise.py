"""Which differences are noise, and how far live differs from itself."""

from collections import Counter
from collections.abc import Collection, Mapping
from typing import Final

from shadowproxy.compare.fold.bins import quantile
from shadowproxy.compare.fold.noise import Nature, nature
from shadowproxy.compare.fold.pair import Pair
from shadowproxy.compare.report import stats
from shadowproxy.compare.report.figures.common import estimated
from shadowproxy.compare.report.figures.types import Control, ControlField, Repeats

_FEWEST_REPEATS: Final = 30
_FIELDS_SHOWN: Final = 50


def nature_at(pair: Pair, path: str, *, judged: bool) -> Nature:
    """What sort of place one of `pair.differs` is. `judged`: a place of the answers is judged."""
    if path not in pair.live_values or path not in pair.shapes or path not in pair.kinds:
        return "real"
    return nature(
        path,
        pair.kinds[path],
        pair.shapes[path],
        pair.live_values[path],
        pair.shadow_values[path],
        differing=pair.differs[path].total(),
        compared=pair.compared.total(),
        judged=judged,
    )


def aside_of(pair: Pair, answers: Collection[str]) -> dict[str, Nature]:
    """The places that are noise, with what they are; never a place in `answers`, which are judged, or one below it."""
    natures = {path: nature_at(pair, path, judged=bool(answers)) for path in pair.differs}
    return {
        path: found
        for path, found in natures.items()
        if found != "real" and not any(path == answer or path.startswith(f"{answer}/") for answer in answers)
    }


def control(pair: Pair, judged: str | None) -> Control | None:
    """How far live disagrees with itself, and how much more the shadow disagrees with it, place by place.

    `live_differs` is about the judged place, or about whole answers where no place is judged.
    """
    n = pair.control_pairs.total()
    if not n:
        return None
    excess = stats.paired_difference(pair.control_shadow_differs, pair.control_differs, pair.control_pairs)
    rows: list[ControlField] = []
    for path in sorted({*pair.control_places, *pair.control_shadow_places}):
        shadow = pair.control_shadow_places.get(path) or Counter[int]()
        noise = pair.control_places.get(path) or Counter[int]()
        gaps = _median_gap(pair.control_shadow_gaps.get(path), n), _median_gap(pair.control_gaps.get(path), n)
        rows.append(
            {
                "path": path,
                "shadow_differs": shadow.total() / n,
                "live_differs": noise.total() / n,
                "excess": estimated(stats.paired_difference(shadow, noise, pair.control_pairs)),
                "shadow_gap": gaps[0],
                "live_gap": gaps[1],
                "gap_ratio": gaps[0] / gaps[1] if gaps[0] is not None and gaps[1] else None,
            }
        )
    rows.sort(key=lambda row: (-row["shadow_differs"], row["path"]))
    return {
        "pairs": n,
        "judged": judged,
        "live_differs": estimated(stats.proportion(_differing_at(pair, judged), pair.control_pairs)),
        "excess": estimated(excess),
        "fields": rows[:_FIELDS_SHOWN],
    }


def _differing_at(pair: Pair, judged: str | None) -> Counter[int]:
    """By block, the exchanges in which live differs from itself at a place or below it; at most all that differ."""
    if judged is None:
        return pair.control_differs
    below = [series for path, series in pair.control_places.items() if path == judged or path.startswith(f"{judged}/")]
    if not below and "" in pair.control_places:
        below = [pair.control_places[""]]  # bodies that are no JSON, such as streams, differ as a whole
    if len(below) < 2:
        return below[0] if below else Counter()
    # How many of them fall together was not counted: no fewer than of the one place, no more than all that differ.
    total = {block: sum(series.get(block, 0) for series in below) for block in pair.control_differs}
    return Counter({block: min(count, pair.control_differs[block]) for block, count in total.items()})


def _median_gap(gaps: Mapping[int, int] | None, n: int) -> float | None:
    """The median difference, exchanges that are equal there counting as zero."""
    if not gaps:
        return None
    total = sum(gaps.values())
    return quantile({0: max(0, n - total), **{at: count for at, count in gaps.items() if at}}, 0.5)


def repeats(pair: Pair) -> Repeats | None:
    """How often live answers the same request differently, from requests that came more than once."""
    pairs = same = 0
    for answers in pair.repeats.values():
        n = answers.total()
        pairs += n * (n - 1) // 2
        same += sum(count * (count - 1) // 2 for count in answers.values())
    return {"pairs": pairs, "differing": 1 - same / pairs} if pairs >= _FEWEST_REPEATS else None
