"""Every figure of the report, computed from a summary: plain JSON values, versioned, the source of all other forms.

Shares are fractions of 1, times are milliseconds unless the name says otherwise, intervals are 95 %.
"""

import math
from collections import Counter
from collections.abc import Callable, Iterable, Mapping
from dataclasses import asdict, dataclass, replace
from datetime import UTC, datetime
from functools import partial
from typing import Any, Final

import orjson

from shadowproxy import __version__
from shadowproxy.compare import stats
from shadowproxy.compare.fields import Field
from shadowproxy.compare.outputs import MILLION, Outputs, field_of
from shadowproxy.compare.pair import Pair, aside_of, guessed_pattern, nature_at
from shadowproxy.compare.sketch import Bins, Hist, edges, quantile
from shadowproxy.compare.slices import MOST_VALUES, Slice, digits_edges, whole_edges
from shadowproxy.compare.stats import Estimate
from shadowproxy.compare.streams import Streams
from shadowproxy.compare.summary import Summary
from shadowproxy.exchange import Verdict

FORMAT: Final = 1
"""The version of the report's JSON. Keys are added within a version, never changed or taken away."""

QUANTILES: Final = {"p50": 0.5, "p90": 0.9, "p99": 0.99, "p999": 0.999}
DECILES: Final = {f"p{tenth}0": tenth / 10 for tenth in range(1, 10)} | {"p99": 0.99}
FIELDS_SHOWN: Final = 50
EXAMPLES_SHOWN: Final = 6
CLASSES_SHOWN: Final = 20
FLIPS_SHOWN: Final = 10
SLICES_SHOWN: Final = 12
NUMERIC_BINS: Final = 10

_FEWEST_IN_SLICE: Final = 30
_JS_BINS: Final = 20
_CONSTANT: Final = 0.99
_CONSTANT_GAIN: Final = 0.10
_NO_SPREAD: Final = 0.01
_FEWEST_FOR_COLLAPSE: Final = 50
_FEWEST_REPEATS: Final = 30

Figures = dict[str, Any]


def figures_of(summary: Summary, *, slices: tuple[str, ...] = ()) -> Figures:
    """The report without its verdict. A pure function: equal summaries give equal figures, digit for digit.

    `slices` names the request fields to look at; without it, all that were counted are, and the most telling shown.
    """
    return {
        "shadowproxy_report": FORMAT,
        "version": __version__,
        "log": _log(summary),
        "shadows": {name: _shadow(pair, summary.width, slices) for name, pair in sorted(summary.shadows.items())},
    }


def _log(summary: Summary) -> Figures:
    return {
        "records": summary.count,
        "first": moment(summary.first),
        "last": moment(summary.last),
        "unreadable": dict(sorted(summary.unreadable.items())),
        "repeated_ids": summary.ids.repeats(),
        "repeated_records": summary.records.repeats(),
        "live_outcomes": ranked(summary.live_outcomes),
        "live_statuses": ranked(summary.live_statuses),
        "block_seconds": summary.width / 1000,
        "blocks": len(summary.blocks),
    }


def _shadow(pair: Pair, width: int, slices: tuple[str, ...]) -> Figures:
    outputs = sorted(
        ((field_of(key), counted) for key, counted in pair.outputs.items()),
        key=lambda each: (-each[1].pairs.total(), each[0].live),
    )
    aside = aside_of(pair, {each.live for each, _ in outputs})
    fields = _fields(pair, aside)
    chosen, answered = pair.chosen.total(), pair.answered.total()
    primary = outputs[0] if outputs and outputs[0][1].pairs else None
    return {
        "coverage": {
            "chosen": chosen,
            "answered": answered,
            "share": answered / chosen if chosen else None,
            "outcomes": ranked(pair.outcomes),
        },
        "statuses": [
            {"live": key.partition(" ")[0], "shadow": key.partition(" ")[2], "count": count}
            for key, count in sorted(pair.statuses.items(), key=lambda each: (-each[1], each[0]))
        ],
        "success": _success(pair),
        "json": estimated(stats.proportion(pair.json_given, pair.json_asked)),
        "repeated_keys": {arm: pair.repeated_keys[arm] for arm in ("live", "shadow")},
        "latency": _latency(pair),
        "streams": _streams(pair),
        "agreement": _agreement(pair, aside),
        "outputs": [_outputs(each, counted, pair) for each, counted in outputs],
        "fields": fields[:FIELDS_SHOWN],
        "fields_cut": pair.differs.cut or len(fields) > FIELDS_SHOWN,
        "near": {path: tally.total() for path, tally in sorted(pair.near.items())},
        "slices": _slices(pair, primary[1] if primary else None, slices),
        "slices_cut": pair.slices.cut,
        "control": _control(pair),
        "repeats": _repeats(pair),
        "over_time": _over_time(pair, primary[1] if primary else None, aside, width),
        "examples": _examples(pair, aside),
        "largest": [pair.largest[digest] for digest in sorted(pair.largest)],
    }


def _success(pair: Pair) -> Figures:
    difference = stats.paired_difference(pair.shadow_good, pair.live_good, pair.begun)
    n = pair.begun.total()
    plus, minus = pair.shadow_good_only.total(), pair.live_good_only.total()
    effect = _paired_effect(pair.shadow_good_only, pair.live_good_only, pair.begun)
    return {
        "live": estimated(stats.proportion(pair.live_good, pair.begun)),
        "shadow": estimated(stats.proportion(pair.shadow_good, pair.begun)),
        "difference": estimated(difference),
        "live_only": minus,
        "shadow_only": plus,
        "anytime": list(stats.anytime_difference(plus, minus, n, effect)) if n else None,
    }


def _paired_effect(plus: Mapping[int, int], minus: Mapping[int, int], n: Mapping[int, int]) -> float:
    estimate = stats.paired_difference(plus, minus, n)
    return estimate.design_effect if estimate is not None else 1.0


def _latency(pair: Pair) -> Figures:
    live, shadow, gap = pair.live_ms.whole(), pair.shadow_ms.whole(), pair.gap_ms.whole()
    timed, timeouts = pair.timed.total(), pair.timeouts.total()
    both = side_by_side(pair.live_ms, pair.shadow_ms)
    shown = QUANTILES | DECILES
    return {
        "pairs": timed,
        "timeouts": timeouts,
        "live": {name: quantile(live, q) for name, q in shown.items()},
        "shadow": {name: quantile(shadow, q) for name, q in shown.items()},
        # A timeout counts as the time it was given: so much or more. Leaving timeouts out would flatter the shadow.
        "at_least": [name for name, q in shown.items() if timeouts and timeouts > (1 - q) * timed],
        "ratio": {name: estimated(stats.jackknifed(both, partial(_ratio, q=q))) for name, q in QUANTILES.items()},
        "shift": {name: estimated(stats.jackknifed(both, partial(_shift, q=q))) for name, q in DECILES.items()},
        "gap": {name: quantile(gap, q) for name, q in QUANTILES.items()},
        "slower": estimated(stats.proportion(pair.slower, pair.timed)),
        "first_byte": {
            "live": {name: quantile(pair.live_first_ms.whole(), q) for name, q in QUANTILES.items()},
            "shadow": {name: quantile(pair.shadow_first_ms.whole(), q) for name, q in QUANTILES.items()},
        },
    }


def _streams(pair: Pair) -> Figures | None:
    arms = {"live": pair.live_streams, "shadow": pair.shadow_streams}
    return {name: _stream_arm(arm) for name, arm in arms.items()} if any(arms.values()) else None


def _stream_arm(counted: Streams) -> Figures:
    n = counted.counts["n"]
    shown = {name: QUANTILES[name] for name in ("p50", "p90")}
    return {
        "streams": n,
        "finished": counted.counts["finished"] / n if n else None,
        "first_byte_ms": {name: quantile(counted.first_ms, q) for name, q in shown.items()},
        "tokens_per_second": {name: quantile(counted.rates, q) for name, q in shown.items()},
    }


def side_by_side(live: Bins, shadow: Bins) -> list[Counter[Any]]:
    """Per block, both histograms in one: keys are (0 or 1, bin)."""
    return [
        Counter(
            {(0, at): count for at, count in live.get(block, {}).items()}
            | {(1, at): count for at, count in shadow.get(block, {}).items()}
        )
        for block in sorted({*live, *shadow})
    ]


def _arms(counts: Counter[Any]) -> tuple[dict[Any, int], dict[Any, int]]:
    return (
        {at: count for (arm, at), count in counts.items() if arm == 0 and count},
        {at: count for (arm, at), count in counts.items() if arm == 1 and count},
    )


def _ratio(counts: Counter[Any], q: float) -> float | None:
    live, shadow = (quantile(arm, q) for arm in _arms(counts))
    return shadow / live if live and shadow is not None else None


def _shift(counts: Counter[Any], q: float) -> float | None:
    live, shadow = (quantile(arm, q) for arm in _arms(counts))
    return shadow - live if live is not None and shadow is not None else None


# --- agreement -----------------------------------------------------------------------------------------------------


def _agreement(pair: Pair, aside: set[str]) -> Figures:
    settled = stats.proportion(agreeing(pair, aside), pair.compared) if aside else None
    whole = stats.proportion(pair.agreed, pair.compared)
    decisive = settled or whole
    return {
        "verdicts": {str(verdict): pair.verdicts.get(verdict, 0) for verdict in Verdict},
        "incomparable": ranked(pair.whys),
        "whole": estimated(whole),
        "set_aside": sorted(aside),
        "settled": estimated(settled),
        "anytime": list(stats.anytime_share(decisive)) if decisive is not None else None,
    }


def _fields(pair: Pair, aside: set[str]) -> list[Figures]:
    """The places that differ, most often first, each with the kinds of difference and what sort of place it is."""
    compared = pair.compared.total()
    rows = []
    for path, series in pair.differs.items():
        count = series.total()
        rows.append(
            {
                "path": path,
                "exchanges": count,
                "share": count / compared if compared else None,
                "kinds": ranked(pair.kinds[path]) if path in pair.kinds else {},
                "nature": nature_at(pair, path) if path in aside else "real",
            }
        )
    return sorted(rows, key=lambda row: (-row["exchanges"], row["path"]))


def agreeing(pair: Pair, aside: set[str]) -> Counter[int]:
    """By block, the exchanges that agree once the places in `aside` do not count."""
    total: Counter[int] = Counter(pair.agreed)
    for signature, series in pair.signatures.items():
        if aside.issuperset(orjson.loads(signature)):
            total.update(series)
    return total


def _examples(pair: Pair, aside: set[str]) -> list[Figures]:
    """Differing exchanges drawn by hash, none of which differs only where it does not count; of each flip one first."""
    first: dict[int, Figures] = {}
    more: dict[int, Figures] = {}
    for key, sample in pair.examples.items():
        places, flip = orjson.loads(key)
        if flip is None and aside.issuperset(places):
            continue
        told = [(digest, _telling(sample[digest], flip, aside)) for digest in sorted(sample)]
        first.update(told[:1])
        more.update(told[1:])
    more.update((digest, _telling(item, None, aside)) for digest, item in pair.examples.other.items())
    ordered = [each[digest] for each in (first, more) for digest in sorted(each)]
    return ordered[:EXAMPLES_SHOWN]


def _telling(example: Figures, flip: list[str] | None, aside: set[str]) -> Figures:
    """An example with the differences that do not count at the end of its list."""
    differences = sorted(example["differences"], key=lambda each: guessed_pattern(each["path"]) in aside)
    return {**example, "differences": differences, "flip": flip}


def _over_time(pair: Pair, primary: Outputs | None, aside: set[str], width: int) -> list[Figures]:
    """Agreement block by block, with the confidence sequence over all up to it."""
    n = primary.pairs if primary is not None else pair.compared
    k = primary.same if primary is not None else agreeing(pair, aside)
    estimate = stats.proportion(k, n)
    effect = max(1.0, estimate.design_effect) if estimate is not None else 1.0
    rows = []
    total = same = 0
    for block in sorted(n):
        total, same = total + n[block], same + k.get(block, 0)
        low, high = stats.confidence_sequence(same / effect, total / effect)
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


# --- outputs -------------------------------------------------------------------------------------------------------


def _outputs(where: Field, counted: Outputs, pair: Pair) -> Figures:
    figures: Figures = {
        "live_path": where.live,
        "shadow_path": where.shadow,
        "kind": where.kind,
        "pairs": counted.pairs.total(),
        "unequal_batches": counted.unequal_batches.total(),
        "agreement": estimated(stats.proportion(counted.same, counted.pairs)),
        "scores": _scores(counted),
        "labels": _labels(where, counted, pair),
    }
    arms = {"live": counted.live_odd, "shadow": counted.shadow_odd}
    figures["odd"] = {arm: {word: n for word, n in ranked(odd).items() if word != "value"} for arm, odd in arms.items()}
    figures |= _numbers(counted) if where.kind in ("number", "text") else _classes(counted)
    figures["collapse"] = _collapse(where, figures, counted)
    return figures


def _classes(counted: Outputs) -> Figures:
    live = {key: series.total() for key, series in counted.live_classes.items()}
    shadow = {key: series.total() for key, series in counted.shadow_classes.items()}
    confusion = {tuple(orjson.loads(key)): series.total() for key, series in counted.confusion.items()}
    blocks = _class_blocks(counted)
    flips = sorted(
        ((pair, n) for pair, n in confusion.items() if pair[0] != pair[1]), key=lambda each: (-each[1], each[0])
    )
    return {
        "live": _class_arm(live, counted.live_classes.other.total()),
        "shadow": _class_arm(shadow, counted.shadow_classes.other.total()),
        "new": sorted(set(shadow) - set(live))[:CLASSES_SHOWN] if not counted.live_classes.cut else [],
        "vanished": sorted(set(live) - set(shadow))[:CLASSES_SHOWN] if not counted.shadow_classes.cut else [],
        "classes_cut": counted.live_classes.cut or counted.shadow_classes.cut,
        "kappa": estimated(stats.jackknifed(_confusion_blocks(counted), stats.kappa)),
        "confusion": [
            {"live": pair[0], "shadow": pair[1], "count": n}
            for pair, n in sorted(confusion.items(), key=lambda each: (-each[1], each[0]))[: CLASSES_SHOWN * 5]
        ],
        "flips": [
            {"live": pair[0], "shadow": pair[1], "count": n, "net": n - confusion.get((pair[1], pair[0]), 0)}
            for pair, n in flips[:FLIPS_SHOWN]
        ],
        "drift": {
            "jensen_shannon": estimated(stats.jackknifed(blocks, _arm_figure(stats.jensen_shannon))),
            "effective": _effective(counted),
            "largest_change": stats.largest_change(live, shadow),
            "stability_index": stats.stability_index(live, shadow),
        },
    }


def _class_arm(counts: dict[str, int], other: int) -> Figures:
    total = sum(counts.values()) + other
    rows = sorted(counts.items(), key=lambda each: (-each[1], each[0]))
    return {
        "n": total,
        "classes": [{"class": key, "count": n, "share": n / total} for key, n in rows[:CLASSES_SHOWN]],
        "distinct": len(counts),
        "top_share": rows[0][1] / total if rows else None,
        "entropy": stats.entropy(counts),
    }


def _class_blocks(counted: Outputs) -> list[Counter[Any]]:
    blocks: dict[int, Counter[Any]] = {}
    for arm, classes in enumerate((counted.live_classes, counted.shadow_classes)):
        for key, series in classes.items():
            for block, n in series.items():
                blocks.setdefault(block, Counter())[arm, key] += n
    return [blocks[block] for block in sorted(blocks)]


def _confusion_blocks(counted: Outputs) -> list[Counter[Any]]:
    blocks: dict[int, Counter[Any]] = {}
    for key, series in counted.confusion.items():
        pair = tuple(orjson.loads(key))
        for block, n in series.items():
            blocks.setdefault(block, Counter())[pair] += n
    return [blocks[block] for block in sorted(blocks)]


def _arm_figure(
    figure: Callable[[Mapping[Any, int], Mapping[Any, int]], float | None],
) -> Callable[[Counter[Any]], float | None]:
    return lambda counts: figure(*_arms(counts))


def _effective(counted: Outputs) -> float:
    """How many independent pairs the pairs are worth."""
    estimate = stats.proportion(counted.same, counted.pairs)
    return estimate.n / max(1.0, estimate.design_effect) if estimate is not None else 0.0


def _numbers(counted: Outputs) -> Figures:
    live, shadow, delta = counted.live_bins.whole(), counted.shadow_bins.whole(), counted.delta_bins.whole()
    sums = counted.sums.floats()
    total = [math.fsum(row[at] for row in sums.values()) for at in range(7)] if sums else [0.0] * 7
    spread = _deviation(live)
    absolute = Counter[int]()
    for at, n in delta.items():
        absolute[abs(at)] += n
    cuts = _cuts(live)
    both = side_by_side(counted.live_bins, counted.shadow_bins)
    binned = [_rebinned(block, cuts) for block in both]
    whole = _rebinned(sum(both, Counter()), cuts)
    moved = stats.wasserstein(_middles(live), _middles(shadow))
    return {
        "live": _number_arm(live),
        "shadow": _number_arm(shadow),
        "bias": estimated(_from_sums(sums, lambda row: (row[1] - row[0]) / row[6] if row[6] > 0 else None)),
        "mean_delta": estimated(_from_sums(sums, lambda row: row[5] / row[6] if row[6] > 0 else None)),
        "median_delta": quantile(absolute, 0.5),
        "p99_delta": quantile(absolute, 0.99),
        "limits": [quantile(delta, 0.025), quantile(delta, 0.975)],
        "concordance": estimated(
            _from_sums(sums, lambda row: stats.concordance(row[6], row[0], row[1], row[2], row[3], row[4]))
        ),
        "correlates": total[6] > 0,
        "delta_histogram": histogram(delta),
        "flips_at_half": estimated(stats.proportion(counted.flips, counted.probabilities)),
        "drift": {
            "jensen_shannon": estimated(stats.jackknifed(binned, _arm_figure(stats.jensen_shannon))),
            "effective": _effective(counted),
            "largest_change": stats.largest_change(*_arms(whole)),
            "stability_index": stats.stability_index(*_arms(whole)),
            "wasserstein_in_sigmas": moved / spread if moved is not None and spread else None,
        },
    }


def _number_arm(bins: Counter[int]) -> Figures:
    return {
        "n": bins.total(),
        "quantiles": {name: quantile(bins, q) for name, q in {"p1": 0.01, **DECILES}.items()},
        "deviation": _deviation(bins),
        "top_share": max(bins.values()) / bins.total() if bins else None,
        "histogram": histogram(bins),
    }


def _from_sums(sums: Mapping[int, list[float]], figure: Callable[[list[float]], float | None]) -> Estimate | None:
    """A figure of exact sums with its interval from leaving out blocks."""
    if not sums:
        return None
    width = len(next(iter(sums.values())))
    total = [math.fsum(row[at] for row in sums.values()) for at in range(width)]
    theta = figure(total)
    if theta is None:
        return None
    n = round(total[-1])
    left = [
        value
        for row in sums.values()
        if (value := figure([whole - part for whole, part in zip(total, row, strict=True)])) is not None
    ]
    if len(left) < stats.FEWEST_BLOCKS:
        return Estimate(theta, -math.inf, math.inf, n, "independent")
    low, high, _ = stats.jackknife(theta, left)
    return Estimate(theta, low, high, n, "blocks")


def _middles(bins: Mapping[int, int]) -> dict[float, int]:
    return {sum(edges(at)) / 2: n for at, n in bins.items()}


def _deviation(bins: Mapping[int, int]) -> float | None:
    """The standard deviation of binned numbers, to about 1 %; exactly 0 where all are in one bin."""
    total = sum(bins.values())
    if total < 2:
        return None
    points = _middles(bins)
    if len(points) == 1:
        return 0.0
    mean = math.fsum(x * n for x, n in points.items()) / total
    return math.sqrt(math.fsum((x - mean) ** 2 * n for x, n in points.items()) / (total - 1))


def _cuts(live: Counter[int]) -> list[int]:
    """Bins at which live's numbers divide into twenty parts of equal weight, as near as its bins allow."""
    cuts: list[int] = []
    below, total = 0, live.total()
    for at in sorted(live):
        below += live[at]
        if below >= total * (len(cuts) + 1) / _JS_BINS:
            cuts.append(at)
    return cuts[:-1]


def _rebinned(block: Mapping[tuple[int, int], int], cuts: list[int]) -> Counter[Any]:
    coarse: Counter[Any] = Counter()
    for (arm, at), n in block.items():
        coarse[arm, sum(at > cut for cut in cuts)] += n
    return coarse


def histogram(bins: Mapping[int, int], most: int = 40) -> list[Figures]:
    """Bins gathered into at most `most` of equal width between the 0.5 and 99.5 % quantiles, for drawing."""
    low, high = quantile(bins, 0.005), quantile(bins, 0.995)
    if low is None or high is None:
        return []
    if high <= low:
        return [{"low": low, "high": high, "count": sum(bins.values())}]
    counts = [0] * most
    for middle, n in _middles(bins).items():
        counts[min(most - 1, max(0, math.floor((middle - low) / (high - low) * most)))] += n
    step = (high - low) / most
    return [{"low": low + at * step, "high": low + (at + 1) * step, "count": n} for at, n in enumerate(counts)]


def _collapse(where: Field, figures: Figures, counted: Outputs) -> str | None:
    """Why the shadow says the same whatever it is asked, or None."""
    live, shadow = figures["live"], figures["shadow"]
    if shadow["n"] < _FEWEST_FOR_COLLAPSE or live["n"] < _FEWEST_FOR_COLLAPSE:
        return None
    if where.kind == "text":
        return None
    if where.kind == "number":
        if (
            live["deviation"]
            and shadow["deviation"] is not None
            and shadow["deviation"] < _NO_SPREAD * live["deviation"]
        ):
            return "its numbers hardly vary: their spread is under 1 % of live's"
        return None
    top, lives = shadow["top_share"] or 0.0, live["top_share"] or 0.0
    if top > _CONSTANT and top > lives + _CONSTANT_GAIN:
        return f"it answers {shadow['classes'][0]['class']} to {top:.1%} of all requests"
    return None


def _scores(counted: Outputs) -> Figures:
    found: Figures = {}
    for name, series in sorted(counted.scores.items()):
        pairs = counted.scores.get(f"{name}, pairs")
        if pairs is not None:
            estimate = stats.proportion(series, Counter({block: n * MILLION for block, n in pairs.items()}))
            if estimate is not None:
                plain = estimate.method == "independent"
                low, high = (-math.inf, math.inf) if plain else (estimate.low, estimate.high)
                found[name] = estimated(Estimate(estimate.value, low, high, pairs.total(), estimate.method))
    return found


def _labels(where: Field, counted: Outputs, pair: Pair) -> Figures | None:
    labelled = counted.labelled
    n = labelled.total()
    if not n:
        return None
    figures: Figures = {
        "labelled": n,
        "coverage": n / counted.pairs.total(),
        "live_only": counted.live_only.total(),
        "shadow_only": counted.shadow_only.total(),
        "delay_seconds": {name: quantile(pair.label_delay, q) for name, q in QUANTILES.items()},
        "mcnemar": stats.mcnemar_exact(counted.live_only.total(), counted.shadow_only.total()),
    }
    if where.kind == "number":
        sums = counted.errors.floats()
        figures |= {
            "measure": "mean absolute error",
            "live": estimated(_from_sums(sums, lambda row: row[0] / row[2] if row[2] else None)),
            "shadow": estimated(_from_sums(sums, lambda row: row[1] / row[2] if row[2] else None)),
            "difference": estimated(_from_sums(sums, lambda row: (row[1] - row[0]) / row[2] if row[2] else None)),
            "anytime": None,
        }
        return figures
    effect = _paired_effect(counted.shadow_only, counted.live_only, labelled)
    return figures | {
        "measure": "accuracy",
        "live": estimated(stats.proportion(counted.live_right, labelled)),
        "shadow": estimated(stats.proportion(counted.shadow_right, labelled)),
        "difference": estimated(stats.paired_difference(counted.shadow_right, counted.live_right, labelled)),
        "anytime": list(stats.anytime_difference(figures["shadow_only"], figures["live_only"], n, effect)),
    }


# --- slices --------------------------------------------------------------------------------------------------------


def _slices(pair: Pair, primary: Outputs | None, named: tuple[str, ...]) -> list[Figures]:
    """Parts of the requests that disagree more than the rest, those with most of the disagreement first."""
    estimate = (
        stats.proportion(primary.same, primary.pairs) if primary else stats.proportion(pair.agreed, pair.compared)
    )
    effect = max(1.0, estimate.design_effect) if estimate is not None else 1.0
    counted = {path: _fuller(pair, path) for path in sorted(named)} if named else dict(sorted(pair.slices.items()))
    parts = {path: _cells(part) for path, part in counted.items()}
    tests = sum(cell.n >= _FEWEST_IN_SLICE for cells in parts.values() for cell in cells)
    line = stats.normal_quantile(1 - 0.05 / (2 * max(1, tests)))
    rows: list[Figures] = []
    for path, cells in parts.items():
        size, differing = sum(cell.n for cell in cells), sum(cell.differs for cell in cells)
        if not differing:
            continue
        telling = [cell.n >= _FEWEST_IN_SLICE and _stands_out(cell, size, differing, effect) > line for cell in cells]
        for cell, significant in _joined(cells, telling):
            if (significant or named) and cell.n >= _FEWEST_IN_SLICE:
                rows.append(
                    {
                        "path": path,
                        "value": cell.label,
                        "requests": cell.n,
                        "differing": cell.differs,
                        "rate": cell.differs / cell.n,
                        "lift": cell.differs / cell.n / (differing / size),
                        "share_of_all": cell.differs / differing,
                        "share_of_requests": cell.n / size,
                        "significant": significant,
                    }
                )
    rows.sort(key=lambda row: (row["share_of_requests"] - row["share_of_all"], row["path"], row["value"]))
    return rows[:SLICES_SHOWN]


def _fuller(pair: Pair, path: str) -> Slice:
    """What was counted of a field because it was named, or as one of all: a saved summary may not have been told it."""
    both = (pair.named_slices.get(path, Slice()), pair.slices.get(path, Slice()))
    return max(both, key=lambda part: part.numbers.total() + sum(tally["n"] for tally in part.values.values()))


@dataclass(frozen=True, slots=True)
class _Cell:
    """One value of a request field, or one range of its numbers."""

    n: int
    differs: int
    value: str = ""
    low: float = 0.0
    high: float = 0.0
    numeric: bool = False
    whole: bool = False

    @property
    def label(self) -> str:
        if not self.numeric:
            return f'"{self.value}"'
        if self.low == self.high:
            return number(self.low)
        return f"{number(self.low)} to {'' if self.whole else 'under '}{number(self.high)}"


def _joined(cells: list[_Cell], telling: list[bool]) -> list[tuple[_Cell, bool]]:
    """Neighbouring ranges of numbers that all stand out, as one."""
    rows: list[tuple[_Cell, bool]] = []
    for cell, stands_out in zip(cells, telling, strict=True):
        if stands_out and cell.numeric and rows and rows[-1][1] and rows[-1][0].numeric:
            before = rows[-1][0]
            both = replace(before, n=before.n + cell.n, differs=before.differs + cell.differs, high=cell.high)
            rows[-1] = (both, True)
        else:
            rows.append((cell, stands_out))
    return rows


def _stands_out(cell: _Cell, size: int, differing: int, effect: float) -> float:
    """How many standard errors a cell's rate lies above the rest's, in requests worth 1/effect each."""
    rest, rest_differs = size - cell.n, differing - cell.differs
    if not rest:
        return 0.0
    pooled = differing / size
    error = math.sqrt(pooled * (1 - pooled) * (1 / cell.n + 1 / rest) * effect)
    return (cell.differs / cell.n - rest_differs / rest) / error if error > 0 else 0.0


def _cells(part: Slice) -> list[_Cell]:
    cells: list[_Cell] = []
    if len(part.values) <= MOST_VALUES and not part.values.cut:
        cells.extend(_Cell(tally["n"], tally["differs"], value) for value, tally in sorted(part.values.items()))
    cells.extend(_numeric_cells(part.numbers, part.number_differs, whole=not part.fractions["n"]))
    return cells


def _numeric_cells(numbers: Hist, differs: Hist, *, whole: bool) -> list[_Cell]:
    """Ten ranges of about equal weight, none dividing what was counted together."""
    edges_of = whole_edges if whole else digits_edges
    total = numbers.total()
    groups: list[list[int]] = []
    below = 0
    fresh = True
    for at in sorted(numbers):
        if fresh:
            groups.append([])
        groups[-1].append(at)
        below += numbers[at]
        fresh = below >= total * len(groups) / NUMERIC_BINS
    return [
        _Cell(
            sum(numbers[at] for at in group),
            sum(differs[at] for at in group),
            low=edges_of(group[0])[0],
            high=edges_of(group[-1])[1],
            numeric=True,
            whole=whole,
        )
        for group in groups
    ]


def number(value: float) -> str:
    """A number for reading: four digits, no trailing zeros."""
    text = f"{value:,.4g}" if abs(value) < 1e6 else f"{value:.3e}"
    return text if "e" in text else f"{value:,.0f}" if abs(value) >= 1000 else text


# --- noise ---------------------------------------------------------------------------------------------------------


def _control(pair: Pair) -> Figures | None:
    """How far live disagrees with itself, and what of the shadow's disagreement that leaves, per place."""
    n = pair.control_pairs.total()
    if not n:
        return None
    excess = stats.paired_difference(pair.control_shadow_differs, pair.control_differs, pair.control_pairs)
    rows = []
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
        "live_differs": estimated(stats.proportion(pair.control_differs, pair.control_pairs)),
        "excess": estimated(excess),
        "fields": rows[:FIELDS_SHOWN],
    }


def _median_gap(gaps: Mapping[int, int] | None, n: int) -> float | None:
    """The median difference, exchanges that are equal there counting as zero."""
    if not gaps:
        return None
    total = sum(gaps.values())
    return quantile({0: max(0, n - total), **{at: count for at, count in gaps.items() if at}}, 0.5)


def _repeats(pair: Pair) -> Figures | None:
    """How often live answers the same request differently, from requests that came more than once."""
    pairs = same = 0
    for answers in pair.repeats.values():
        n = answers.total()
        pairs += n * (n - 1) // 2
        same += sum(count * (count - 1) // 2 for count in answers.values())
    return {"pairs": pairs, "differing": 1 - same / pairs} if pairs >= _FEWEST_REPEATS else None


# --- forms ---------------------------------------------------------------------------------------------------------


def estimated(estimate: Estimate | None) -> Figures | None:
    """An estimate as JSON: an end that is nowhere is null."""
    if estimate is None:
        return None
    plain = asdict(estimate)
    return {
        key: None if isinstance(value, float) and not math.isfinite(value) else value for key, value in plain.items()
    }


def ranked(counts: Mapping[str, int]) -> dict[str, int]:
    rows: Iterable[tuple[str, int]] = sorted(counts.items(), key=lambda each: (-each[1], str(each[0])))
    return {str(key): count for key, count in rows if count}


def moment(micros: int | None) -> str | None:
    if micros is None:
        return None
    return datetime.fromtimestamp(micros // 1_000_000, UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
