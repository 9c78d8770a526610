"""Embeddings in the report: their angles, norms, dimensions and neighbours, and a shadow whose space is another."""

import base64
import math
import random
import struct
from pathlib import Path
from typing import Any

import pytest
from invented import Fault, changed, invented, write
from logs import answer, pair_of, record, report_json
from test_output_figures import figures

from shadowproxy.compare.fold.engines import summarise_files
from shadowproxy.compare.fold.neighbours import same_neighbours
from shadowproxy.compare.fold.outputs import Outputs
from shadowproxy.compare.fold.places import field_key
from shadowproxy.compare.fold.summary import load, merge, save, summarise
from shadowproxy.compare.judge.rules import Rules
from shadowproxy.compare.report.kinds import live_dimensions
from shadowproxy.compare.report.sentences.answers import output_line
from shadowproxy.record import Record, RecordedLeg

SIZE = 48


def vector(of: Any, size: int = SIZE, model: str = "a", mean: float = 0.0) -> list[float]:
    """What a model makes of a text: the same each time, near nothing else, with a mean of its own."""
    source, own = random.Random(f"{model} {of}"), random.Random(model)
    values = [source.gauss(0, 1) + mean * own.gauss(0, 1) for _ in range(size)]
    norm = math.hypot(*values)
    return [each / norm for each in values]


def noisy(values: list[float], by: float, source: random.Random) -> list[float]:
    return [each + source.gauss(0, by) for each in values]


def listed(*vectors: Any) -> dict[str, Any]:
    data = [{"object": "embedding", "index": at, "embedding": each} for at, each in enumerate(vectors)]
    return {"object": "list", "data": data, "model": "e"}


def coded(values: list[float]) -> str:
    return base64.b64encode(struct.pack(f"<{len(values)}f", *values)).decode()


def output_of(records: list[Record]) -> Any:
    return report_json(summarise(records, Rules()))["shadows"]["s"]["outputs"][0]


def results(shadow: Any) -> dict[str, str]:
    return {each["name"]: each["result"] for each in shadow["checks"]}


ENVELOPES: dict[str, Any] = {
    "OpenAI": lambda *vectors: listed(*vectors),
    "OpenAI in base64": lambda *vectors: listed(*map(coded, vectors)),
    "Ollama": lambda *vectors: {"model": "e", "embeddings": list(vectors)},
    "Gemini": lambda *vectors: {"embeddings": [{"values": each} for each in vectors]},
    "Cohere": lambda *vectors: {"id": "x", "embeddings": {"float": list(vectors)}, "texts": ["t"] * len(vectors)},
    "bare arrays": lambda *vectors: list(vectors),
}


@pytest.mark.parametrize("name", ENVELOPES)
def test_every_api_is_judged_at_its_embeddings(name: str) -> None:
    def leg(number: int, model: str) -> RecordedLeg:
        return answer(ENVELOPES[name](*[vector((number, at), 96, model) for at in range(3)]))

    twin = output_of([record(n, leg(n, "a"), n, s=leg(n, "a")) for n in range(60)])
    assert (twin["kind"], twin["agreement"]["value"]) == ("embedding", 1)
    assert twin["live_dimensions"] == twin["shadow_dimensions"] == {"96": 180}
    other = output_of([record(n, leg(n, "a"), n, s=leg(n, "b")) for n in range(60)])
    assert (other["live_path"], other["agreement"]["value"]) == (twin["live_path"], 0)
    assert other["angle"]["p50"] == pytest.approx(1, abs=0.2)


def test_base64_beside_numbers_is_equal() -> None:
    made = [vector(n) for n in range(60)]
    found = output_of(
        [record(n, answer(listed(coded(each))), n, s=answer(listed(each))) for n, each in enumerate(made)]
    )
    assert found["agreement"]["value"] == 1
    assert found["angle"]["p99"] < 1e-6


# --- dimensions


def test_an_answer_of_another_dimension_is_no_answer() -> None:
    pairs = [({"embedding": vector(n)}, {"embedding": vector(n)[: SIZE - (n % 10 == 0)]}) for n in range(300)]
    found = figures(pairs)
    assert found["answered"]["lost"] == 30
    assert found["answered"]["missing"] == {"another dimension": 30}
    assert found["agreement"]["value"] == pytest.approx(0.9)
    assert found["shadow_dimensions"] == {"48": 270, "47": 30}


def test_a_shadow_whose_dimension_is_another_always_has_no_answer() -> None:
    """It was not even judged: two dimensions, each in half of all answers, looked like no embeddings."""
    found = figures([({"embedding": vector(n)}, {"embedding": vector(n, 96)}) for n in range(300)])
    assert (found["kind"], found["answered"]["lost"]) == ("embedding", 300)
    assert "dimension live 48, shadow 96" in output_line(found)


def test_dimensions_that_the_caller_chooses_are_no_fault() -> None:
    made = [{"embedding": vector(n, 32 if n % 2 else 64)} for n in range(300)]
    found = figures([(each, each) for each in made])
    assert (found["kind"], found["answered"]["lost"], found["agreement"]["value"]) == ("embedding", 0, 1)
    assert "dimensions 32 and 64 in both" in output_line(found)


def test_one_of_several_that_is_cut_loses_its_answer() -> None:
    rows = [[vector((n, at)) for at in range(3)] for n in range(60)]
    cut = [[*each[:2], each[2][:40]] if n % 3 == 0 else each for n, each in enumerate(rows)]
    found = figures([(listed(*one), listed(*other)) for one, other in zip(rows, cut, strict=True)])
    assert found["answered"]["lost"] == 20


# --- another model


def _of(model: str, size: int = SIZE, mean: float = 0.0) -> Fault:
    return changed(lambda value: vector(sum(value), size, model, mean))


@pytest.mark.slow
@pytest.mark.parametrize(
    ("fault", "check"),
    [(_of("b"), "related"), (_of("b", mean=1.0), "related"), (_of("b", 64), "answered"), (_of("b", 24), "answered")],
    ids=["another space", "a space with a mean", "more dimensions", "fewer dimensions"],
)
def test_another_model_has_no_outputs_that_pass(fault: Fault, check: str, tmp_path: Path) -> None:
    summary = summarise_files([write(tmp_path / "log.jsonl", invented("embedding", 1300, fault, 1))], Rules())
    shadow = report_json(summary)["shadows"]["s"]
    assert results(shadow)[check] == "fail"
    assert results(shadow)["related"] == "fail"
    assert shadow["verdict"]["questions"]["outputs"] == "fail"
    assert shadow["verdict"]["headline"] == "NOT READY"


@pytest.mark.slow
def test_spaces_that_each_have_a_mean_far_from_zero_are_not_related() -> None:
    """As of most models for texts: any two embeddings of one are alike."""
    made = [
        record(n, answer(listed(vector(n, mean=2))), n, s=answer(listed(vector(n, model="b", mean=2))))
        for n in range(600)
    ]
    found = output_of(made)
    assert found["related"]["high"] < 0.05
    assert found["drift"]["mean_angle"]["value"] > 0.5
    shifted = [each._replace(shadows={"s": made[at - 1].live}) for at, each in enumerate(made)]
    assert output_of(shifted)["related"]["high"] < 0.05


# --- neighbours


def test_neighbours_are_kept_by_a_rotation_and_lost_in_another_space() -> None:
    batch = [vector(at) for at in range(6)]
    assert same_neighbours(batch, batch) == 1
    assert same_neighbours(batch, [[-each for each in one] for one in batch]) == 1
    assert same_neighbours(batch, [one[5:] + one[:5] for one in batch]) == 1
    swapped = [batch[1], batch[0], *batch[2:]]
    assert same_neighbours(batch, swapped) != 1
    assert same_neighbours(batch, [[0.0] * SIZE, *batch[1:]]) is None


def test_one_that_is_as_near_is_as_good() -> None:
    """Three equal texts: which of the two others is nearest, rounding decides."""
    one = [1.0, 0.0, 0.0]
    assert same_neighbours([one, one, one], [one, [1.0, 1e-9, 0.0], [1.0, 0.0, 1e-9]]) == 1


def test_the_report_has_the_neighbours_of_batches_and_parts_add_up() -> None:
    def rows(model: str, n: int) -> Any:
        return listed(*[vector((n, at), model=model) for at in range(5)])

    same = [record(n, answer(rows("a", n)), n, s=answer(rows("a" if n % 2 else "b", n))) for n in range(200)]
    whole = summarise(same, Rules())
    found = report_json(whole)["shadows"]["s"]["outputs"][0]
    share = found["scores"]["same nearest neighbour"]
    assert share["n"] == 200
    assert 0.5 < share["value"] < 0.8
    assert "same nearest neighbour 0." in output_line(found)
    parts = merge(load(save(summarise(same[:70], Rules()))), summarise(same[70:], Rules()))
    assert report_json(parts)["shadows"] == report_json(whole)["shadows"]


def test_counts_of_earlier_versions_have_one_table_of_dimensions() -> None:
    made = [record(n, answer(listed(vector(n))), n, s=answer(listed(vector(n)))) for n in range(3)]
    counted = pair_of(summarise(made, Rules())).outputs[field_key("/data/*/embedding", "/data/*/embedding")]
    saved = counted.to_json()
    del saved["shadow_dimensions"]
    earlier = Outputs.from_json(saved)
    assert live_dimensions(earlier) == {"48": 6}
    assert live_dimensions(earlier.merged(counted)) == {"48": 9}


# --- a server that differs from itself


def test_noise_of_a_batch_differs_and_the_control_arm_says_that_live_does_too() -> None:
    """As llama.cpp with four slots: the same text is up to 0.35 apart, by what it was computed with."""
    source = random.Random(4)
    made = []
    for n in range(300):
        of = vector(n)
        live, again, shadow = (answer(listed(noisy(of, 0.05, source))) for _ in range(3))
        made.append(record(n, live, n, s=shadow)._replace(control=again))
    pair = pair_of(summarise(made, Rules()))
    assert pair.verdicts == {"mismatch": 300}
    shadow = report_json(summarise(made, Rules()))["shadows"]["s"]
    assert shadow["outputs"][0]["agreement"]["value"] == 0
    assert shadow["control"]["live_differs"]["value"] == 1
    assert shadow["outputs"][0]["related"]["value"] > 0.5
    assert "fail" not in results(shadow).values()
