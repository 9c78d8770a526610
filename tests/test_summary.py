"""Records folded into counts: exact ones, bounded ones, and the same ones in any order and grouping."""

import math
import random
from collections import Counter
from collections.abc import Iterable, Iterator
from datetime import UTC, datetime, timedelta
from itertools import groupby
from pathlib import Path
from typing import Any

import orjson
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from logs import START, answer, failed, mixed, pair_of, record

from shadowproxy.compare.fold.counts import Series, counted
from shadowproxy.compare.fold.engines import summarise_files
from shadowproxy.compare.fold.outputs import Outputs
from shadowproxy.compare.fold.outputs_builder import OutputsBuilder
from shadowproxy.compare.fold.pair import Pair
from shadowproxy.compare.fold.pair_builder import MOST_WAITING, PairBuilder
from shadowproxy.compare.fold.places import field_key
from shadowproxy.compare.fold.reading import Reading
from shadowproxy.compare.fold.routes import Routes
from shadowproxy.compare.fold.samples import Distinct, Sample, hashed
from shadowproxy.compare.fold.spread import Spread, SpreadBuilder
from shadowproxy.compare.fold.summary import (
    MOST_BLOCKS,
    NARROWEST,
    Summary,
    SummaryBuilder,
    SummaryError,
    load,
    merge,
    save,
    summarise,
)
from shadowproxy.compare.fold.tables import Table
from shadowproxy.compare.judge.rules import Rules
from shadowproxy.compare.judge.verdict import judge
from shadowproxy.exchange import Exchange, Failure, Outcome, Reply, Request, Skipped
from shadowproxy.record import Body, Record, decode
from shadowproxy.recorder.line import encode
from shadowproxy.recorder.policy import Policy
from shadowproxy.redaction import Redaction


def summary_of(records: Iterable[Record]) -> Summary:
    return summarise(records, Rules())


def test_every_chosen_request_has_one_outcome() -> None:
    pair = pair_of(summary_of(mixed(500)), "challenger")
    assert sum(pair.chosen.values()) == sum(pair.outcomes.values()) == 500
    assert pair.outcomes["timeout"] > 0
    assert pair.pairs.total() == 500 - pair.outcomes["lane_full"]
    assert sum(pair.answered.values()) == pair.outcomes["ok"] == sum(pair.verdicts.values())


def test_counts_are_those_of_the_records() -> None:
    same = answer({"class": "a"})
    summary = summary_of(
        [
            record(1, same, challenger=same),
            record(2, same, challenger=answer({"class": "b"})),
            record(3, same, challenger=answer({"class": "a"}, status=500)),
            record(4, same, challenger=failed(Outcome.TIMEOUT, 30_000.0)),
            record(5, same, challenger=failed(Outcome.OVERSIZE)),
            record(6, failed(Outcome.CONNECT_ERROR), challenger=same),
        ]
    )
    pair = pair_of(summary, "challenger")
    assert summary.count == 6
    assert dict(summary.live_outcomes) == {"ok": 5, "connect_error": 1}
    assert dict(pair.outcomes) == {"ok": 4, "timeout": 1, "oversize": 1}
    assert dict(pair.statuses) == {
        "200 200": 2,
        "200 500": 1,
        "200 timeout": 1,
        "200 oversize": 1,
        "connect_error 200": 1,
    }
    assert dict(pair.verdicts) == {"match": 1, "mismatch": 2}
    assert (sum(pair.compared.values()), sum(pair.agreed.values())) == (3, 1)
    assert {path: sum(series.values()) for path, series in pair.differs.items()} == {"/class": 1, "": 1}
    assert (pair.pairs.total(), pair.live_good.total(), pair.shadow_good.total()) == (4, 4, 2)
    assert (pair.shadow_failed_only.total(), pair.live_failed_only.total()) == (2, 0)
    assert (sum(pair.timed.values()), sum(pair.timeouts.values())) == (4, 1)


def test_a_timeout_counts_as_the_time_it_was_given() -> None:
    pair = pair_of(summary_of([record(1, answer(1), challenger=failed(Outcome.TIMEOUT, 30_000.0))]), "challenger")
    ((at, _),) = pair.shadow_ms.whole().items()
    assert at > max(pair.live_ms.whole())
    assert sum(pair.slower.values()) == 1


def test_only_the_named_shadow_is_summarised() -> None:
    assert set(summarise(mixed(50), Rules(), shadow="other").shadows) == {"other"}


@settings(deadline=None, max_examples=25)
@given(st.randoms(use_true_random=False), st.integers(1, 6))
def test_merging_in_any_order_and_grouping_gives_the_identical_summary(source: random.Random, parts: int) -> None:
    records = mixed(120)
    whole = save(summary_of(records))
    source.shuffle(records)
    cuts = sorted(source.randrange(len(records)) for _ in range(parts))
    pieces = [
        summary_of(records[low:high])
        for low, high in zip([0, *cuts], [*cuts, len(records)], strict=True)
        if low <= high
    ]
    while len(pieces) > 1:
        one = pieces.pop(source.randrange(len(pieces)))
        other = pieces.pop(source.randrange(len(pieces)))
        pieces.append(merge(one, other))
    assert save(pieces[0]) == whole


@settings(deadline=None, max_examples=25)
@given(st.randoms(use_true_random=False), st.integers(1, 8))
def test_absorbing_gives_what_merging_gives(source: random.Random, parts: int) -> None:
    records = mixed(200)
    source.shuffle(records)
    cuts = sorted(source.randrange(len(records)) for _ in range(parts))
    spans = list(zip([0, *cuts], [*cuts, len(records)], strict=True))
    merged = Pair()
    for low, high in spans:
        merged = merged.merged(counted_at_once(records[low:high]))
    absorbed = Pair()
    for low, high in spans:
        absorbed.absorb(counted_at_once(records[low:high]))
    assert orjson.dumps(absorbed.to_json()) == orjson.dumps(merged.to_json())


def test_what_is_under_construction_has_no_counts_to_read_and_what_is_finished_needs_no_completion() -> None:
    actions = {"add", "add_unreadable", "label", "flush", "finish"}
    for builder in (SummaryBuilder(), PairBuilder(), SpreadBuilder(Spread())):
        assert {name for name in dir(builder) if not name.startswith("_")} <= actions
    assert {name for name in dir(OutputsBuilder()) if not name.startswith("_")} <= {*actions, "largest"}
    for finished in (Summary(), Pair(), Outputs(), Spread()):
        assert {"add", "flush", "finish", "settle"}.isdisjoint(dir(finished))


def counted_at_once(records: Iterable[Record]) -> Pair:
    """Records as they are counted in one block of time."""
    builder = PairBuilder()
    for each in records:
        builder.add(0, each, each.shadows["challenger"], Reading(Rules()))
    return builder.finish()


@given(st.lists(st.tuples(st.integers(0, 3_000_000), st.booleans()), min_size=1, max_size=40), st.integers(0, 12))
def test_blocks_are_doubled_several_times_at_once_as_one_by_one(spread: list[tuple[int, bool]], doublings: int) -> None:
    start = datetime(2026, 9, 29, tzinfo=UTC)
    found = [
        record(
            n,
            answer({"p": ["red", "blue"][same], "v": n / 7, "rows": [{"s": n * 0.37}, {"s": 0.5}]}),
            challenger=answer({"p": "red", "v": n / 9, "rows": [{"s": 0.1}, {"s": 0.5}]}),
        )._replace(at=(start + timedelta(milliseconds=at)).isoformat())
        for n, (at, same) in enumerate(spread)
    ]
    summary = summarise(found, Rules())
    by_one = summary
    for _ in range(doublings):
        by_one = by_one.widened(by_one.width * 2)
    assert save(summary.widened(summary.width << doublings)) == save(by_one)


@pytest.mark.source
def test_a_summary_of_another_time_is_added_in_one_pass(monkeypatch: pytest.MonkeyPatch) -> None:
    passes: list[int] = []
    widened = Routes.widened

    def counting(self: Routes, doublings: int = 1) -> Routes:
        passes.append(doublings)
        return widened(self, doublings)

    monkeypatch.setattr(Routes, "widened", counting)
    early = summarise([record(1, answer(1), challenger=answer(2))], Rules())
    at = ((START + timedelta(days=n)).isoformat() for n in range(100))
    days = [record(n, answer(1), challenger=answer(2))._replace(at=each) for n, each in enumerate(at)]
    late = summarise(days, Rules())
    passes.clear()
    width = late.width
    early.absorb(late)
    assert len(passes) == 1
    assert early.width == width == NARROWEST << passes[0] > NARROWEST << 8


def test_what_waits_to_be_counted_is_bounded_however_wide_requests_and_differences_are() -> None:
    builder = PairBuilder()
    waiting = []
    for n in range(200):
        wide = record(n, answer({f"k{at}": n for at in range(200)}), s=answer({f"k{at}": -n - 1 for at in range(200)}))
        body = Body("json", {f"f{at}": n * 64 + at for at in range(64)}, 1000)
        wide = wide._replace(request=wide.request._replace(body=body))
        builder.add(0, wide, wide.shadows["s"], Reading(Rules()))
        held = builder._waiting
        waiting.append(
            sum(len(single.values) for single, _ in held.observed.requests)
            + sum(len(values) for values, _ in held.differing.values())
            + len(held.ended)
        )
    assert MOST_WAITING / 2 < max(waiting) < MOST_WAITING + 64 + 2 + 100 + 1
    pair = builder.finish()
    assert pair.slices["@method"].values["POST"]["n"] == pair.compared[0] == 200


@given(
    st.lists(st.sampled_from([0.0, -0.0, 1.5, math.nan, math.inf]) | st.integers(-2, 2) | st.booleans() | st.text("ab"))
)
def test_values_are_counted_apart_where_they_are_written_apart(values: list[Any]) -> None:
    for alike in (values, *(list(each) for _, each in groupby(sorted(values, key=_kind), key=_kind))):
        told: Counter[str] = Counter()
        for value, times in counted(alike):
            told[repr(value)] += times
        assert told == Counter(map(repr, alike))


def _kind(value: Any) -> str:
    return type(value).__name__


@pytest.mark.parametrize("seed", range(5))
def test_of_many_hashes_the_smallest_are_kept_with_their_number(seed: int) -> None:
    source = random.Random(seed)
    digests = [source.randrange(300) for _ in range(source.choice([50, 400, 1000]))]
    distinct = Distinct()
    for digest in digests:
        distinct.add(digest)
    kept = sorted(set(digests))[: Distinct.KEPT]
    assert sorted(distinct) == kept
    # One that gave way and came again would be counted from then on: but what gave way never comes back.
    assert distinct == {digest: digests.count(digest) for digest in kept}


def test_the_largest_differences_are_kept_whichever_come_first() -> None:
    for numbers in (range(1, 40), range(39, 0, -1)):
        records = [record(n, answer({"price": 100.0}), n, s=answer({"price": 100.0 + n})) for n in numbers]
        largest = pair_of(summarise(records, Rules())).outputs[field_key("/price", "/price")].largest
        assert sorted(kept["differences"][0]["shadow"] for kept in largest.values()) == [137.0, 138.0, 139.0]


def test_merging_changes_neither_part() -> None:
    one, other = summary_of(mixed(60, seed=1)), summary_of(mixed(60, seed=2))
    before = save(one), save(other)
    merge(one, other)
    assert (save(one), save(other)) == before


def test_an_empty_summary_adds_nothing() -> None:
    summary = summary_of(mixed(60))
    assert save(merge(summary, Summary())) == save(merge(Summary(), summary)) == save(summary)


def test_a_summary_survives_being_saved() -> None:
    summary = summary_of(mixed(300))
    again = load(save(summary))
    assert save(again) == save(summary)
    assert save(merge(again, again)) == save(merge(summary, summary))


def test_a_summary_may_be_laid_out_anew() -> None:
    raw = save(summary_of(mixed(300)))
    again = load(orjson.dumps(orjson.loads(raw), option=orjson.OPT_INDENT_2 | orjson.OPT_SORT_KEYS))
    assert orjson.loads(save(again)) == orjson.loads(raw)


def places_of(value: Any, place: tuple[Any, ...] = ()) -> Iterator[tuple[Any, ...]]:
    yield place
    for key in value if isinstance(value, dict) else range(len(value)) if isinstance(value, list) else ():
        yield from places_of(value[key], (*place, key))


@pytest.mark.slow
def test_a_summary_damaged_anywhere_and_anyhow_is_refused() -> None:
    source = random.Random(7)
    raw = save(summary_of(mixed(60)))
    for place in source.sample([each for each in places_of(orjson.loads(raw)) if each], 300):
        whole = within = orjson.loads(raw)
        for key in place[:-1]:
            within = within[key]
        damage: list[Any] = ["5", "x", 7, -1, 0.5, None, True, [], [1], {}, {"x": 1}]
        within[place[-1]] = source.choice([each for each in damage if each != within[place[-1]]])
        with pytest.raises(SummaryError) as caught:
            load(orjson.dumps(whole))
        assert "\n" not in str(caught.value)


@pytest.mark.parametrize("raw", [b"", b"{}", b"[]", b'{"shadowproxy_summary":99}', b'{"shadowproxy_summary":1}'])
def test_what_is_no_summary_is_refused(raw: bytes) -> None:
    with pytest.raises(SummaryError):
        load(raw)


@settings(deadline=None, max_examples=30)
@given(st.lists(st.integers(0, 10**9), min_size=1, max_size=200))
def test_blocks_of_time_are_bounded_and_as_narrow_as_that_allows(seconds: list[int]) -> None:
    summary = summary_of(record(n, answer(1), at, s=answer(1)) for n, at in enumerate(seconds))
    assert len(summary.blocks) <= MOST_BLOCKS
    start = int(START.timestamp())
    if summary.width > NARROWEST:
        assert len({(start + at) * 1000 // (summary.width // 2) for at in seconds}) > MOST_BLOCKS
    assert sum(pair_of(summary, "s").chosen.values()) == len(seconds)
    assert set(pair_of(summary, "s").chosen) == set(summary.blocks)


class Few(Table[Series]):
    INNER = Series
    LIMIT = 8


@given(st.lists(st.text(max_size=3), max_size=60), st.randoms(use_true_random=False))
def test_a_table_keeps_the_same_keys_in_any_order_and_loses_no_count(keys: list[str], source: random.Random) -> None:
    table = Few()
    for key in keys:
        table.part(key)[0] += 1
    again = list(keys)
    source.shuffle(again)
    one, other = Few(), Few()
    for key in again[: len(again) // 2]:
        one.part(key)[0] += 1
    for key in again[len(again) // 2 :]:
        other.part(key)[0] += 1
    assert one.merged(other).to_json() == table.to_json()
    assert len(table) <= 8
    assert sum(series[0] for series in table.values()) + table.other[0] == len(keys)


def test_shallow_places_are_kept_before_deep_ones() -> None:
    shadow = {"class": "b", "by_id": {str(n): {"x": 2} for n in range(150)}}
    live = {"class": "a", "by_id": {str(n): {"x": 1} for n in range(150)}}
    records = []
    for number in range(10):
        renamed = [
            {**side, "by_id": {f"{number}-{key}": value for key, value in side["by_id"].items()}}  # type: ignore[attr-defined]
            for side in (live, shadow)
        ]
        records.append(record(number, answer(renamed[0]), challenger=answer(renamed[1])))
    pair = pair_of(summary_of(records), "challenger")
    assert sum(pair.differs["/class"].values()) == 10
    assert len(pair.differs) == pair.differs.LIMIT
    assert pair.differs.cut
    assert len(save(summary_of(records))) < 2_000_000


def test_examples_are_the_same_whoever_reads_first_and_drawn_evenly() -> None:
    records = [record(n, answer({"x": 1}), n, challenger=answer({"x": 2})) for n in range(300)]
    forwards = pair_of(summary_of(records), "challenger").examples
    backwards = pair_of(summary_of(reversed(records)), "challenger").examples
    assert forwards.to_json() == backwards.to_json()
    ((_, sample),) = forwards.items()
    smallest = sorted(hashed(f"id-{n}", f"record-{n}") for n in range(300))[: Sample.KEPT]
    assert sorted(sample) == smallest


def test_texts_together_are_counted_as_one_by_one() -> None:
    source = random.Random(4)
    one, other = Distinct(), Distinct()
    for size in (3, 50, 200, 1, 100):
        texts = [(repr(float(source.randrange(400))), source.randrange(1, 4)) for _ in range(size)]
        other.add_texts(texts)
        for text, times in texts:
            one.add(hashed(text), times)
        assert one == other
        digest = source.randrange(1 << 58)  # hardly any is smaller
        one.add(digest)
        other.add(digest)
    assert len(one) == Distinct.KEPT


@pytest.mark.parametrize("count", [10, 1000, 20_000])
def test_distinct_values_are_counted_within_a_quarter(count: int) -> None:
    distinct = Distinct()
    for number in range(count):
        distinct.add(hashed(str(number)))
    assert distinct.estimate() == pytest.approx(count, rel=0.25)


# --- files ---------------------------------------------------------------------------------------------------------


def line(number: int, live: Any, shadow: Any, policy: Policy | None = None) -> bytes:
    def reply(value: Any) -> Reply:
        body = orjson.dumps(value)
        return Reply(200, ((b"Content-Type", b"application/json"),), body, len(body), 1.0, 2.0)

    request = Request(f"id-{number}", f"r-{number}", 1_769_860_800_000_000_000, "POST", b"/p", (), b"", 0)
    legs = {"challenger": reply(shadow) if shadow is not None else Skipped(Outcome.LANE_FULL, "full")}
    exchange = Exchange(request, reply(live), legs)
    return encode(
        exchange, proxy="h/1", policy=policy or Policy(), judge=lambda one, two, _, about: judge(one, two, Rules())
    )


def test_files_directories_and_saved_summaries_add_up(tmp_path: Path) -> None:
    (tmp_path / "log").mkdir()
    (tmp_path / "log" / "a.jsonl").write_bytes(line(1, {"x": 1}, {"x": 1}) + line(2, {"x": 1}, {"x": 2}))
    (tmp_path / "b.jsonl").write_bytes(line(3, {"x": 1}, None))
    together = summarise_files([tmp_path / "log", tmp_path / "b.jsonl"], Rules())
    (tmp_path / "saved.json").write_bytes(save(summarise_files([tmp_path / "log"], Rules())))
    assert save(summarise_files([tmp_path / "saved.json", tmp_path / "b.jsonl"], Rules())) == save(together)
    assert together.count == 3


def test_foreign_lines_are_counted_by_reason_and_never_fatal(tmp_path: Path) -> None:
    good = line(1, {"x": 1}, {"x": 1})
    (tmp_path / "a.jsonl").write_bytes(
        good
        + b"not json\n"
        + b'{"some": "log line"}\n'
        + b'{"schema": 9}\n'
        + good.replace(b"2026-01-31T12:00:00.000000Z", b"yesterday")
        + good[: len(good) // 2]
    )
    summary = summarise_files([tmp_path / "a.jsonl"], Rules())
    assert summary.count == 1
    assert dict(summary.unreadable) == {
        "not JSON": 1,
        "not a record": 1,
        "another schema": 1,
        "no time": 1,
        "torn line": 1,
    }


def test_progress_tells_of_every_byte_and_record(tmp_path: Path) -> None:
    content = b"".join(line(n, {"x": 1}, {"x": 1}) for n in range(450))
    (tmp_path / "a.jsonl").write_bytes(content)
    told: list[tuple[int, int]] = []
    summarise_files([tmp_path / "a.jsonl"], Rules(), progress=lambda size, count: told.append((size, count)))
    assert (sum(size for size, _ in told), sum(count for _, count in told)) == (len(content), 450)


def test_a_log_is_judged_anew_by_other_rules(tmp_path: Path) -> None:
    (tmp_path / "a.jsonl").write_bytes(line(1, {"x": 1, "id": 1}, {"x": 1, "id": 2}))
    strict = pair_of(summarise_files([tmp_path / "a.jsonl"], Rules()), "challenger")
    lenient = pair_of(summarise_files([tmp_path / "a.jsonl"], Rules(ignore=("/id",))), "challenger")
    assert (dict(strict.verdicts), dict(lenient.verdicts)) == ({"mismatch": 1}, {"ignored": 1})


@pytest.mark.parametrize("policy", [Policy(bodies="hash"), Policy(bodies="none")])
def test_where_the_log_has_no_bodies_the_recorded_verdict_counts(tmp_path: Path, policy: Policy) -> None:
    (tmp_path / "a.jsonl").write_bytes(
        line(1, {"x": [1, 2]}, {"x": [1, 2]}, policy) + line(2, {"x": [1, 2]}, {"x": [1, 3]}, policy)
    )
    pair = pair_of(summarise_files([tmp_path / "a.jsonl"], Rules()), "challenger")
    assert dict(pair.verdicts) == {"match": 1, "mismatch": 1}
    assert list(pair.differs) == ["/x/*"]


def test_a_failed_leg_with_part_of_an_answer_is_not_compared() -> None:
    reply = Reply(200, (), b'{"x"', 100, 1.0, 2.0)
    request = Request("id", "r", 1_769_860_800_000_000_000, "POST", b"/p", (), b"", 0)
    exchange = Exchange(
        request, Reply(200, (), b"{}", 2, 1.0, 2.0), {"s": Failure(Outcome.INCOMPLETE, "cut", 3.0, reply)}
    )
    raw = encode(exchange, proxy="h/1", policy=Policy(redaction=Redaction()), judge=None)
    pair = pair_of(summary_of([decode(raw)]), "s")
    assert (dict(pair.outcomes), dict(pair.verdicts), dict(pair.statuses)) == (
        {"incomplete": 1},
        {},
        {"200 incomplete": 1},
    )


@pytest.mark.parametrize("odd", [10**400, 1 << 70, [1, "a"], {"a": "b"}, None, float("nan"), [True], "text"])
@pytest.mark.parametrize("usual", [0.5, [0.25, 0.75], {"a": 0.5, "b": 0.5}, "late"])
def test_an_answer_unlike_the_others_is_counted_and_can_be_saved(usual: Any, odd: Any) -> None:
    records = [record(n, answer({"p": usual}), s=answer({"p": usual})) for n in range(30)]
    records.append(record(30, answer({"p": odd}), s=answer({"p": usual})))
    records.append(record(31, answer({"p": usual}), s=answer({"p": odd})))
    summary = summarise(records, Rules())
    assert load(save(summary)).to_json() == summary.to_json()
    assert sum(pair_of(summary, "s").answered.values()) == 32
