"""Records that stand for several requests each: counted as often, in any order and grouping, and told apart."""

import copy
import json
import pickle
import random
from pathlib import Path
from typing import Any

import orjson
import pytest
from logs import answer, chosen, mixed, pair_of, record

from shadowproxy.compare.fold.counts import Series, Weight
from shadowproxy.compare.fold.engines import summarise_files
from shadowproxy.compare.fold.kept import Keeper, beside
from shadowproxy.compare.fold.pair_tables import Drawn
from shadowproxy.compare.fold.reading import Reading
from shadowproxy.compare.fold.summary import Summary, SummaryBuilder, load, merge, save, seal_of, summarise
from shadowproxy.compare.fold.truths import by_request
from shadowproxy.compare.judge.rules import Rules
from shadowproxy.record import Record, RecordError, decode

WRITTEN_ONLY = {"repeats", "live_values", "shadow_values", "examples", "state", "prints", "weights", "unwritten"}
"""What is no count of requests."""


def weighed(records: list[Record], seed: int = 3, weights: tuple[int, ...] = (1, 1, 5, 6)) -> list[Record]:
    source = random.Random(seed)
    return [each._replace(weight=source.choice(weights), heaviest=max(weights)) for each in records]


def texts(source: random.Random, _: int) -> tuple[Any, Any]:
    words = [source.choice(["rain", "snow", "sun", "fog"]) for _ in range(6)]
    return {"text": " ".join(words)}, {"text": " ".join([*words[1:], source.choice(words)])}


def batches(source: random.Random, _: int) -> tuple[Any, Any]:
    live = [source.choice("abc") for _ in range(4)]
    return {"predictions": live}, {"predictions": [each if source.random() < 0.9 else "a" for each in live]}


def numbers(source: random.Random, _: int) -> tuple[Any, Any]:
    value = source.random()
    return {"score": value}, {"score": value + source.choice([0.0, 0.0, 0.25])}


LOGS = {
    "classes": mixed(300),
    "texts": chosen(200, 1, texts),
    "batches": chosen(200, 2, batches),
    "numbers": chosen(200, 3, numbers),
}


def counts_in(raw: Any) -> Any:
    """A saved part without what is no count of requests."""
    if isinstance(raw, dict):
        return {key: counts_in(each) for key, each in raw.items() if key not in WRITTEN_ONLY}
    return [counts_in(each) for each in raw] if isinstance(raw, list) else raw


@pytest.mark.parametrize("log", list(LOGS.values()), ids=list(LOGS))
def test_a_record_counts_as_often_as_its_weight(log: list[Record]) -> None:
    records = weighed(log)
    copies = [each._replace(weight=1, heaviest=1) for each in records for _ in range(each.weight)]
    once, often = summarise(records, Rules()), summarise(copies, Rules())
    assert once.requests == often.count == sum(each.weight for each in records)
    assert once.count == len(records)
    for name, routes in often.shadows.items():
        assert counts_in(once.shadows[name].to_json()) == counts_in(routes.to_json())
        kept = pair_of(once, name).chosen
        assert kept.written() == sum(name in each.shadows for each in records)
        assert kept.squares() == sum(each.weight**2 for each in records if name in each.shadows)
    assert once.live_outcomes == often.live_outcomes


def test_weights_of_one_change_no_byte() -> None:
    for log in LOGS.values():
        summary = summarise(log, Rules())
        raw = save(summary)
        assert b"weight" not in raw
        assert b"written" not in raw
        assert orjson.loads(raw)["shadowproxy_summary"] == 2
        assert save(summarise([each._replace(weight=1) for each in log], Rules())) == raw


@pytest.mark.parametrize("log", list(LOGS))
def test_weighted_records_add_up_in_any_order_and_grouping(log: str) -> None:
    source = random.Random(log)
    records = weighed(LOGS[log][:60], weights=(1, 2, 4, 8, 16, 32, 64))
    whole = save(summarise(records, Rules()))
    assert save(load(whole)) == whole
    source.shuffle(records)
    cuts = sorted(source.randrange(len(records)) for _ in range(3))
    spans = zip([0, *cuts], [*cuts, len(records)], strict=True)
    pieces = [load(save(summarise(records[low:high], Rules()))) for low, high in spans]
    merged, absorbed = Summary(), Summary()
    for piece in pieces:
        merged = merge(merged, piece)
    for piece in reversed(pieces):
        absorbed.absorb(piece)
    assert save(merged) == save(absorbed) == whole


def test_a_draw_multiplies_the_weight_and_is_kept_apart() -> None:
    builder = SummaryBuilder()
    same = answer({"class": "a"})
    builder.add(record(1, same, s=same), Reading(Rules()), draw=4)
    builder.add(record(2, same, s=same)._replace(weight=5, heaviest=6), Reading(Rules()), draw=2)
    chosen = pair_of(builder.finish()).chosen
    assert (chosen.total(), chosen.written(), chosen.squares()) == (14, 2, 116)
    assert chosen.weights is not None
    assert (chosen.weights.heaviest, chosen.weights.draw) == (12, 4)


def test_a_series_keeps_its_weights_wherever_it_is_copied() -> None:
    one = Series({0: 2, 1: 1}).weighed(Weight(3, 3))
    for each in (
        Series(one),
        copy.deepcopy(one),
        pickle.loads(pickle.dumps(one)),
        Series().merged(one),
        one.widened(0),
    ):
        assert (each.total(), each.written(), each.squares()) == (9, 3, 27)
    wider = one.widened()
    assert (dict(wider), wider.written(), wider.squares()) == ({0: 9}, 3, 27)
    less = one.without(Series({0: 1}).weighed(Weight(3, 3)))
    assert (less.total(), less.written(), less.squares()) == (6, 2, 18)
    one.absorb(Series({1: 4}))
    assert (one.total(), one.written(), one.squares()) == (13, 7, 31)


@pytest.mark.parametrize("weight", [0, -1, 1.5, "5", True, None, 10**10])
def test_a_weight_that_cannot_be_is_one_clear_reason(weight: Any, tmp_path: Path) -> None:
    line = {
        "schema": 1,
        "id": "a",
        "record": "a",
        "at": "2026-01-31T12:00:00.000000Z",
        "proxy": "host/1",
        "request": {"method": "GET", "path": "/", "query": "", "headers": {}, "body_bytes": 0},
        "live": {"outcome": "ok", "status": 200, "headers": {}, "body_bytes": 0},
        "shadows": {},
    }
    assert decode(json.dumps(line).encode()).weight == 1
    assert decode(json.dumps({**line, "weight": 20}).encode())[-3:-1] == (20, 20)
    assert decode(json.dumps({**line, "weight": 33, "sample": 0.03}).encode())[-3:-1] == (33, 34)
    assert decode(json.dumps({**line, "sample": 0.03}).encode())[-3:-1] == (1, 34)
    raw = json.dumps({**line, "weight": weight}).encode()
    with pytest.raises(RecordError, match="whose weight is not a whole number from 1 to 1,000,000,000"):
        decode(raw)
    (tmp_path / "a.jsonl").write_bytes(raw + b"\n")
    found = summarise_files([tmp_path / "a.jsonl"], Rules())
    assert dict(found.unreadable) == {"a record whose weight is not a whole number from 1 to 1,000,000,000": 1}


@pytest.mark.parametrize("sample", [0, -0.5, 1.5, "5 %", True, 1e-12])
def test_a_share_that_cannot_be_is_one_clear_reason(sample: Any) -> None:
    with pytest.raises(RecordError, match="whose share of the log is not above 0 and at most 1"):
        decode(json.dumps({"schema": 1, "sample": sample}).encode())


def test_examples_are_drawn_as_if_every_request_were_there() -> None:
    """One record of weight 10 among ninety others is drawn first in about a tenth of all logs."""
    first = 0
    for seed in range(1000):
        source = random.Random(seed)
        heavy, light = Drawn(), Drawn()
        heavy.add(source.getrandbits(64), "heavy")
        for at in range(90):
            light.add(source.getrandbits(64), at)
        total = heavy.weighed(Weight(10, 10)).merged(light)
        first += total[min(total)] == "heavy"
    assert 70 < first < 140


def test_labels_given_later_count_what_they_count_with_the_log(tmp_path: Path) -> None:
    log, saved = tmp_path / "log.jsonl", tmp_path / "saved.json"
    for at in range(20):
        body = {"class": "ab"[at % 2]}
        whole = {
            "schema": 1,
            "id": f"id-{at}",
            "record": f"record-{at}",
            "at": f"2026-01-31T12:00:{at:02}.000000Z",
            "proxy": "host/1",
            "weight": 1 + 4 * (at % 3),
            "sample": 0.1,
            "request": {"method": "GET", "path": "/", "query": "", "headers": {}, "body_bytes": 0},
            "live": {"outcome": "ok", "status": 200, "headers": {}, "body_bytes": 13, "body": body},
        }
        whole["shadows"] = {"s": whole["live"] if at % 5 else {"outcome": "timeout"}}
        with log.open("ab") as file:
            file.write(orjson.dumps(whole, option=orjson.OPT_APPEND_NEWLINE))
    truths = by_request({f"id-{at}": "ab"[at % 3 % 2] for at in range(0, 20, 2)})
    (tmp_path / "runs").mkdir()
    keeper = Keeper(str(tmp_path / "runs"))
    raw = save(summarise_files([log], Rules(), keep=keeper))
    saved.write_bytes(raw)
    keeper.write(beside(saved), seal_of(raw))
    assert save(summarise_files([saved], Rules(), truths=truths)) == save(
        summarise_files([log], Rules(), truths=truths)
    )
