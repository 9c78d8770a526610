"""A report on a log that keeps a share of what matches: its intervals cover the whole log's figures, at every look."""

import math
import random

import pytest
from logs import answer, record, report_json

from shadowproxy.compare.fold.bins import bin_of
from shadowproxy.compare.fold.pair import Pair
from shadowproxy.compare.fold.reading import Reading
from shadowproxy.compare.fold.routes import pooled
from shadowproxy.compare.fold.summary import Summary, SummaryBuilder
from shadowproxy.compare.fold.truths import Truths, by_request
from shadowproxy.compare.judge.rules import Rules
from shadowproxy.compare.report import stats
from shadowproxy.compare.report.figures.common import estimated
from shadowproxy.compare.report.figures.latency import latency
from shadowproxy.compare.report.figures.relatedness import kappa
from shadowproxy.compare.report.figures.truth import against_labels
from shadowproxy.compare.report.figures.types import EstimateFigures, Latency
from shadowproxy.compare.report.kinds import answer_places
from shadowproxy.compare.report.stats import confidence_sequence
from shadowproxy.compare.report.weights import Tally, Weighing, weighted_difference, weighted_sequence
from shadowproxy.record import Record


def weight(source: random.Random, share: float) -> int:
    """0 with the chance 1 - share, else 1 / share rounded at random."""
    if source.random() >= share:
        return 0
    return math.floor(1 / share) + (source.random() < 1 / share % 1)


def drawn(records: list[Record], share: float, seed: int) -> list[Record]:
    """What a log keeps of these: all that differ, and a share of the others."""
    source, kept = random.Random(seed), []
    for each in records:
        (shadow,) = each.shadows.values()
        differs = shadow.body != each.live.body
        times = 1 if differs else weight(source, share)
        if times:
            kept.append(each._replace(weight=times, heaviest=math.ceil(1 / share)))
    return kept


def population(count: int = 250) -> tuple[list[Record], Truths]:
    source, records, labels = random.Random(7), [], {}
    for at in range(count):
        live = source.choice("aabc")
        shadow = live if source.random() < 0.85 else source.choice("abc")
        slowness = source.lognormvariate(2, 0.5)
        legs = answer({"class": live}, ms=slowness), answer({"class": shadow}, ms=slowness * source.uniform(0.8, 1.5))
        records.append(record(at, legs[0], at * 2.0, s=legs[1]))
        labels[f"id-{at}"] = source.choice([live, shadow, shadow])
    return records, by_request(labels)


def fold(records: list[Record], truths: Truths) -> Summary:
    reading = Reading(Rules(), truths=truths)
    builder = SummaryBuilder(labels=truths.supplied)
    for each in records:
        builder.add(each, reading)
    return builder.finish()


def figures(summary: Summary) -> dict[str, EstimateFigures]:
    """Some figures of a summary, as the report has them."""
    pair = pooled(summary.shadows["s"])
    place = answer_places(pair.outputs, pair.live_good.total())[0]
    labels = against_labels(place, None)
    assert labels is not None
    found = {
        "agreement": estimated(stats.proportion(place.same, place.pairs)),
        "accuracy": labels["shadow"],
        "accuracy gained": labels["difference"],
        "kappa": kappa(place),
        "slower": estimated(stats.proportion(pair.slower, pair.timed)),
    }
    return {name: each for name, each in found.items() if each is not None}


def covered(draws: int, share: float) -> dict[str, float]:
    """For each figure, in which part of the draws its interval has the value of the whole log."""
    records, truths = population()
    whole = figures(fold(records, truths))
    assert len(whole) == 5
    hits = dict.fromkeys(whole, 0)
    for seed in range(draws):
        found = figures(fold(drawn(records, share, seed), truths))
        for name, each in found.items():
            assert each["low"] is not None
            assert each["high"] is not None
            hits[name] += each["low"] <= whole[name]["value"] <= each["high"]
    return {name: count / draws for name, count in hits.items()}


def covered_times(draws: int, share: float) -> dict[str, float]:
    """The same for latencies, which need more requests, counted as the fold counts them."""
    source, rows = random.Random(7), []
    for at in range(2000):
        slowness = source.lognormvariate(2, 0.5)
        rows.append((at // 32, bin_of(slowness), bin_of(slowness * source.uniform(0.8, 1.5))))

    def counted(weights: list[int]) -> Latency:
        pair = Pair()
        for (block, live, shadow), times in zip(rows, weights, strict=True):
            if times:
                pair.live_ms.add(block, live, times)
                pair.shadow_ms.add(block, shadow, times)
        return latency(pair)

    whole = counted([1] * len(rows))
    hits = {"p50": 0, "p90": 0, "shift": 0}
    for seed in range(draws):
        drawing = random.Random(seed)
        found = counted([weight(drawing, share) for _ in rows])
        for name in hits:
            one, all_of_it = (
                each["shift"]["p50"] if name == "shift" else each["ratio"][name] for each in (found, whole)
            )
            assert one is not None
            assert all_of_it is not None
            assert one["low"] is not None
            assert one["high"] is not None
            hits[name] += one["low"] <= all_of_it["value"] <= one["high"]
    return {name: count / draws for name, count in hits.items()}


def test_intervals_of_drawn_records_cover_the_figures_of_all() -> None:
    found = covered(60, 0.3) | covered_times(60, 0.3)
    assert all(each >= 0.93 for each in found.values()), found


@pytest.mark.soak
def test_intervals_of_a_thousand_draws_cover_the_figures_of_all() -> None:
    found = covered(1000, 0.3) | covered_times(1000, 0.3)
    assert all(each >= 0.93 for each in found.values()), found


def misses(share: float, kept: float, count: int, draws: int, *, looks: int = 50) -> float:
    """In which part of the draws one look at least excludes the share of requests that differ."""
    missed = 0
    most = math.ceil(1 / kept)
    for seed in range(draws):
        source = random.Random(seed)
        differing, total, written, squares = 0, 0, 0, 0
        right = True
        for at in range(1, count + 1):
            if source.random() < share:
                differing += 1
            elif times := weight(source, kept):
                total, written, squares = total + times, written + 1, squares + times * times
            if right and at % (count // looks) == 0:
                marked, rest = Tally(differing, differing, differing), Tally(total, written, squares)
                weighing = Weighing(marked.plus(rest), marked, rest, most, 1)
                low, high = weighted_sequence(marked, rest, weighing, certain=(True, False))
                right = low <= share <= high
        missed += not right
    return missed / draws


@pytest.mark.parametrize(("share", "kept", "count"), [(0.03, 0.07, 1000), (0.9, 0.05, 200), (0.3, 0.4, 300)])
def test_no_look_at_a_share_is_wrong_more_often_than_allowed(share: float, kept: float, count: int) -> None:
    assert misses(share, kept, count, 4) <= 1 / 4


@pytest.mark.soak
@pytest.mark.parametrize(("share", "kept", "count"), [(0.03, 0.07, 2000), (0.9, 0.05, 400), (0.3, 0.4, 1000)])
def test_no_look_of_forty_logs_is_wrong_more_often_than_allowed(share: float, kept: float, count: int) -> None:
    assert misses(share, kept, count, 40) <= 0.05


def test_the_sequence_of_weighted_records_is_hardly_wider_than_that_of_all() -> None:
    """5 % of what matches, all that differs: the cost of an interval is a fifth of its width, not a factor of 20."""
    marked, rest = Tally(150, 150, 150), Tally(4850, 243, 4850 * 20)
    low, high = weighted_sequence(marked, rest, Weighing(marked.plus(rest), marked, rest, 20, 1), certain=(True, False))
    narrow = confidence_sequence(150, 5000)
    assert low < 0.03 < high
    assert high - low < 1.3 * (narrow[1] - narrow[0])


def test_nothing_is_certain_before_a_record_of_that_weight_can_have_been_drawn() -> None:
    """Five records that differ and none that match yet: of what matches only one in twenty is written."""
    marked = Tally(5, 5, 5)
    low, _ = weighted_sequence(marked, Tally(), Weighing(marked, marked, Tally(), 20, 1), certain=(True, False))
    assert low < 0.5
    unweighted, _ = weighted_sequence(marked, Tally(), Weighing(marked, marked, Tally(), 1, 1), certain=(True, True))
    assert unweighted > low


def test_a_difference_holds_as_the_unweighted_does() -> None:
    every = Tally(10_000, 700, 10_000 * 18)
    weighing = Weighing(every, Tally(10, 10, 10), Tally(150, 150, 150), 20, 1)
    low, high = weighted_difference(weighing, 1.0)
    assert low < -0.014 < high < -0.005


def test_minimums_go_by_what_was_written_and_the_words_say_both() -> None:
    same = answer({"class": "a"})
    few = [record(at, same, at, s=same)._replace(weight=20, heaviest=20) for at in range(40)]
    report = report_json(fold(few, Truths()))
    pair = report["shadows"]["s"]
    assert (report["log"]["records"], report["log"]["requests"]) == (40, 800)
    assert pair["pairs"] == {"n": 800, "live_2xx": 800, "live_2xx_share": 1.0, "written": 40, "live_2xx_written": 40}
    live = next(each for each in pair["checks"] if each["name"] == "live")
    assert live["result"] == "no data"
    assert live["said"] == (
        "the log has only 40 of 800 requests that live answered with a 2xx; 50 are the least to judge by"
    )


def test_a_weighted_log_is_judged_as_the_whole_of_it() -> None:
    """No failure in 8,000 requests, of which 1 in 20 is written: enough to pass what 400 would not."""
    same = answer({"class": "a"})
    kept = [record(at, same, at, s=same)._replace(weight=20, heaviest=20) for at in range(400)]
    checks = {each["name"]: each for each in report_json(fold(kept, Truths()))["shadows"]["s"]["checks"]}
    assert checks["errors"]["result"] == "pass"
    plain = [each._replace(weight=1, heaviest=1) for each in kept]
    checks = {each["name"]: each for each in report_json(fold(plain, Truths()))["shadows"]["s"]["checks"]}
    assert checks["errors"]["result"] == "inconclusive"
