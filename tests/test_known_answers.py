"""Figures that others have computed from real models' answers to real data (tests/data/README.md), found again."""

import csv
import gzip
import json
from pathlib import Path
from typing import Any, TypeAlias

import pytest
from logs import answer, record, report_json

from shadowproxy.compare.fold.places import field_key
from shadowproxy.compare.fold.reading import Reading
from shadowproxy.compare.fold.routes import pooled
from shadowproxy.compare.fold.slices import digits_of, mark_at
from shadowproxy.compare.fold.summary import Summary, summarise
from shadowproxy.compare.fold.truths import by_request
from shadowproxy.compare.judge.rules import Rules
from shadowproxy.demo import flights, model, rule
from shadowproxy.record import Body, Record, RecordedRequest

Figures: TypeAlias = Any

DATA = Path(__file__).parent / "data"
KNOWN = json.loads(gzip.decompress((DATA / "known.json.gz").read_bytes()))


def summary_of(records: list[Record], labels: dict[str, Any]) -> Summary:
    return summarise(records, Reading(Rules(), truths=by_request(labels)))


def output_of(records: list[Record], labels: dict[str, Any]) -> Figures:
    shadow: Figures = report_json(summary_of(records, labels))["shadows"]["s"]
    return shadow


def predictions(which: str) -> tuple[Figures, dict[str, float]]:
    part = KNOWN[which]
    records = [
        record(n, answer({"predictions": [live]}), n, s=answer({"predictions": [shadow]}))
        for n, (live, shadow) in enumerate(zip(part["live"], part["shadow"], strict=True))
    ]
    output: Figures = output_of(records, {f"id-{n}": label for n, label in enumerate(part["labels"])})["outputs"][0]
    return output, part["known"]


def test_digits_ten_class_vectors_of_a_logistic_regression_and_a_forest() -> None:
    output, known = predictions("digits")
    assert (output["live_path"], output["kind"]) == ("/predictions/*", "vector")
    labels = output["labels"]
    assert output["agreement"]["value"] == pytest.approx(known["agreement"], abs=1e-12)
    assert output["kappa"]["value"] == pytest.approx(known["kappa"], abs=1e-12)
    assert labels["live"]["value"] == pytest.approx(known["live_accuracy"], abs=1e-12)
    assert labels["shadow"]["value"] == pytest.approx(known["shadow_accuracy"], abs=1e-12)
    assert (labels["live_only"], labels["shadow_only"]) == (known["live_only"], known["shadow_only"])
    assert output["scores"]["total variation"]["value"] == pytest.approx(known["total_variation"], abs=1e-6)


def test_diabetes_where_a_small_mean_difference_hides_large_ones() -> None:
    output, known = predictions("diabetes")
    assert (output["live_path"], output["kind"]) == ("/predictions/*", "number")
    assert output["bias"]["value"] == pytest.approx(known["bias"], abs=1e-9)
    assert output["concordance"]["value"] == pytest.approx(known["concordance"], abs=1e-9)
    assert output["median_delta"] == pytest.approx(known["median_delta"], rel=0.03)
    assert output["p99_delta"] == pytest.approx(known["p99_delta"], rel=0.05)
    assert output["limits"] == pytest.approx([known["low"], known["high"]], rel=0.05)
    assert output["labels"]["live"]["value"] == pytest.approx(known["live_error"], abs=1e-9)
    assert output["labels"]["shadow"]["value"] == pytest.approx(known["shadow_error"], abs=1e-9)
    assert output["bias"]["low"] < 0 < output["bias"]["high"]
    assert abs(known["bias"]) < known["median_delta"] / 10


@pytest.fixture(scope="module")
def september() -> tuple[list[Record], list[tuple[bool, bool, bool]]]:
    """The shipped flights, ten seconds apart, with (live right, shadow right, both the same) counted by hand."""
    boosted, labels = model.load(), flights.labels()
    records, counted = [], []
    for n, flight in enumerate(flights.flights()):
        asked = json.loads(flight.body)
        instance = asked["instances"][0]
        live, shadow = (
            flights.LATE if late else flights.ON_TIME for late in (rule.departed_late(instance), boosted.late(instance))
        )
        made = record(n, answer({"predictions": [live]}), n * 10, s=answer({"predictions": [shadow]}))
        request = RecordedRequest("POST", "/invocations", "", {}, Body("json", asked, len(flight.body)))
        records.append(Record(flight.id, made.record, made.at, made.proxy, request, made.live, made.shadows, None))
        counted.append((live == labels[flight.id], shadow == labels[flight.id], live == shadow))
    return records, counted


@pytest.mark.slow
def test_flights_the_rule_and_the_trees_with_the_late_labels(
    september: tuple[list[Record], list[tuple[bool, bool, bool]]],
) -> None:
    records, counted = september
    shadow = output_of(records, flights.labels())
    output = shadow["outputs"][0]
    labels = output["labels"]
    assert output["live_path"] == "/predictions/*"
    assert output["agreement"]["value"] == sum(same for _, _, same in counted) / 5000
    assert labels["live"]["value"] == sum(right for right, _, _ in counted) / 5000 == 0.9252
    assert labels["shadow"]["value"] == sum(right for _, right, _ in counted) / 5000 == 0.9358
    assert labels["live_only"] == sum(live and not other for live, other, _ in counted) == 73
    assert labels["shadow_only"] == sum(other and not live for live, other, _ in counted) == 126
    assert output["kappa"]["value"] == pytest.approx(0.825, abs=5e-4)
    assert labels["difference"]["low"] > 0
    where = shadow["slices"][0]
    assert where["path"] == "/instances/*/dep_delay"
    assert where["share_of_all"] > 0.75
    assert shadow["verdict"]["headline"] == "READY", "it is the better model"


@pytest.mark.slow
def test_flights_the_first_hours_alone_would_settle_nothing(
    september: tuple[list[Record], list[tuple[bool, bool, bool]]],
) -> None:
    records, _ = september
    labels = output_of(records[:500], flights.labels())["outputs"][0]["labels"]
    assert labels["anytime"][0] < 0 < labels["anytime"][1]


@pytest.mark.slow
def test_flights_all_of_september() -> None:
    """docs/tutorials/demo.md has the counts, from training; kappa and the share of minutes are computed here."""
    says = {"0": flights.ON_TIME, "1": flights.LATE}
    answers = {label: answer({"predictions": [label]}) for label in says.values()}
    records: list[Record] = []
    labels: dict[str, Any] = {}
    apart: list[int] = []
    lates = [0, 0]
    with gzip.open(DATA / "september.csv.gz", "rt", newline="") as file:
        for n, row in enumerate(csv.DictReader(file)):
            delay = int(row["dep_delay"])
            live = says[str(int(rule.departed_late({"dep_delay": delay})))]
            shadow = says[row["shadow"]]
            made = record(n, answers[live], int(row["minute"]) * 60, s=answers[shadow])
            body = Body("json", {"instances": [{"dep_delay": delay}]}, 40)
            records.append(made._replace(request=RecordedRequest("POST", "/invocations", "", {}, body)))
            labels[made.id] = says[row["late"]]
            lates = [count + (each == flights.LATE) for count, each in zip(lates, (live, shadow), strict=True)]
            if live != shadow:
                apart.append(delay)

    summary = summary_of(records, labels)
    figures = report_json(summary)["shadows"]["s"]
    output = figures["outputs"][0]
    told = output["labels"]
    assert output["pairs"] == told["labelled"] == 27010
    assert told["live"]["value"] == 25080 / 27010
    assert told["shadow"]["value"] == 25354 / 27010
    assert (told["live_only"], told["shadow_only"]) == (356, 630)
    assert output["agreement"]["value"] == 26024 / 27010
    one, other = (count / 27010 for count in lates)
    chance = one * other + (1 - one) * (1 - other)
    assert output["kappa"]["value"] == pytest.approx((26024 / 27010 - chance) / (1 - chance), abs=1e-12)
    assert output["kappa"]["value"] == pytest.approx(0.833, abs=5e-4)
    assert told["anytime"][0] > 0, "the shadow is better, however often one looks"
    place = "/predictions/*"
    counted = (
        pooled(summary.shadows["s"])
        .slices["/instances/*/dep_delay"]
        .numbers[mark_at("differs", field_key(place, place))]
    )
    near = sum(counted[at] for minute in range(11, 26) if (at := digits_of(minute)) is not None)
    assert near == sum(11 <= delay <= 25 for delay in apart)
    assert near / len(apart) == pytest.approx(0.767, abs=5e-4)
    where = figures["slices"][0]
    low, high = (int(minute) for minute in where["value"].split(" to "))
    assert where["path"] == "/instances/*/dep_delay"
    assert low <= 11
    assert high >= 25
    assert where["differing"] == sum(low <= delay <= high for delay in apart) >= near
    assert where["share_of_requests"] < 0.1
