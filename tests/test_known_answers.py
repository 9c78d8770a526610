"""Figures that others have computed from real models' answers to real data (tests/data/README.md), found again."""

import gzip
import json
from pathlib import Path
from typing import Any

import pytest
from logs import answer, record

from shadowproxy.compare.engines import readings_of
from shadowproxy.compare.figures import Figures
from shadowproxy.compare.pair import Truth
from shadowproxy.compare.report import to_json
from shadowproxy.compare.rules import Rules
from shadowproxy.compare.summary import summarise
from shadowproxy.demo import flights, model, rule
from shadowproxy.record import Asked, Body, Record

KNOWN = json.loads(gzip.decompress((Path(__file__).parent / "data" / "known.json.gz").read_bytes()))


def output_of(records: list[Record], labels: dict[str, Any]) -> Figures:
    truths = {name: Truth(label) for name, label in labels.items()}
    shadow: Figures = to_json(summarise(records, readings_of(records[:1000], Rules(), truths=truths)))["shadows"]["s"]
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
        request = Asked("POST", "/invocations", "", {}, Body("json", asked, len(flight.body)))
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
    assert "dep_delay" in shadow["verdict"]["sentence"]


@pytest.mark.slow
def test_flights_the_first_hours_alone_would_settle_nothing(
    september: tuple[list[Record], list[tuple[bool, bool, bool]]],
) -> None:
    records, _ = september
    labels = output_of(records[:500], flights.labels())["outputs"][0]["labels"]
    assert labels["anytime"][0] < 0 < labels["anytime"][1]
