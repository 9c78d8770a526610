"""The fold over files: globs, several processes, filters, labels, saved summaries; the same figures whichever way."""

import gc
import gzip
import json
import os
import pickle
import tracemalloc
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import orjson
import pytest
import zstandard
from logs import answer, record, report_json

from shadowproxy import container
from shadowproxy.compare.fold import engines
from shadowproxy.compare.fold.engines import jobs_for, summarise_files
from shadowproxy.compare.fold.filters import Condition, Only, parse_moment
from shadowproxy.compare.fold.reading import Reading
from shadowproxy.compare.fold.summary import SummaryError, merge, save
from shadowproxy.compare.fold.truths import Truth, Truths
from shadowproxy.compare.judge.diff import diff
from shadowproxy.compare.judge.rules import Rules, Tolerance
from shadowproxy.exchange import Exchange, Reply, Request
from shadowproxy.lines import LINE_LIMIT, Line, lines, weight_of
from shadowproxy.record import Body, RecordedRequest, decode
from shadowproxy.recorder.line import encode
from shadowproxy.recorder.policy import Policy
from shadowproxy.sources import Source, source_of, sources_of

JSON = ((b"Content-Type", b"application/json"),)


def line(number: int, live: Any, shadow: Any, asked: Any = None, path: bytes = b"/p") -> bytes:
    def reply(value: Any) -> Reply:
        body = orjson.dumps(value)
        return Reply(200, JSON, body, len(body), 1.0, 2.0 + number % 5)

    body = orjson.dumps(asked if asked is not None else {"n": number % 5})
    at = 1_769_860_800_000_000_000 + number * 1_000_000_000
    request = Request(f"id-{number}", f"r-{number}", at, "POST", path, JSON, body, len(body))
    return encode(Exchange(request, reply(live), {"s": reply(shadow)}), proxy="h/1", policy=Policy(), judge=None)


def log(start: int, count: int) -> bytes:
    rows = ({"label": "ab"[n % 2]} for n in range(start, start + count))
    return b"".join(
        line(n, row, row if n % 10 else {"label": "c"})
        for n, row in zip(range(start, start + count), rows, strict=True)
    )


@pytest.fixture
def logs(tmp_path: Path) -> Path:
    for part in range(3):
        (tmp_path / f"{part}.jsonl").write_bytes(log(part * 400, 400))
    (tmp_path / "3.jsonl.gz").write_bytes(gzip.compress(log(1200, 400)))
    return tmp_path


@pytest.mark.slow
def test_several_processes_give_the_identical_summary(logs: Path) -> None:
    assert save(summarise_files([logs], Rules(), jobs=3)) == save(summarise_files([logs], Rules()))


@pytest.fixture
def sparse(tmp_path: Path) -> Callable[[str, int], Source]:
    """Makes a file that is as long as asked and takes no room."""

    def make(name: str, size: int) -> Source:
        with (tmp_path / name).open("wb") as file:
            file.truncate(size)
        return source_of(tmp_path / name)

    return make


def test_files_are_read_at_once_where_several_logs_are_large_and_there_are_cores(
    monkeypatch: pytest.MonkeyPatch, sparse: Callable[[str, int], Source]
) -> None:
    cores = set(range(4))
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: cores, raising=False)
    monkeypatch.setattr(container, "memory", lambda: None)
    large, small, other = sparse("large.jsonl", 8 << 20), sparse("small.jsonl", 100), sparse("other.jsonl", 100)
    packed = sparse("packed.jsonl.zst", 1 << 20)
    assert jobs_for([large, small]) == jobs_for([packed, small]) == 2
    assert jobs_for([large, small, other, packed, large]) == 4
    assert jobs_for([large]) == jobs_for([small, other]) == jobs_for([large, source_of("-")]) == 1
    assert jobs_for([large, source_of(Path(large.path).parent / "missing")]) == 1
    cores.update(range(64))
    assert jobs_for([large] * 70) == 8
    cores.intersection_update({3})
    assert jobs_for([large, small]) == 1


def test_processes_that_read_take_half_of_a_containers_memory_at_most(
    monkeypatch: pytest.MonkeyPatch, sparse: Callable[[str, int], Source]
) -> None:
    monkeypatch.setattr(container, "cores", lambda: 6)
    large = sparse("large.jsonl", 8 << 20)
    for memory, jobs in ((None, 6), (4 << 30, 6), (1 << 30, 4), (512 << 20, 2), (256 << 20, 1), (64 << 20, 1)):
        monkeypatch.setattr(container, "memory", lambda memory=memory: memory)
        assert jobs_for([large] * 9) == jobs


def test_saved_summaries_are_not_read_in_other_processes(
    logs: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, sparse: Callable[[str, int], Source]
) -> None:
    monkeypatch.setattr(container, "cores", lambda: 2)
    monkeypatch.setattr(container, "memory", lambda: None)
    saved = tmp_path / "saved.json"
    saved.write_bytes(save(summarise_files([logs / "0.jsonl"], Rules())) + b" " * (8 << 20))
    assert jobs_for([source_of(saved)] * 3) == 1
    assert jobs_for([source_of(saved), sparse("large.jsonl", 8 << 20)]) == 1


def _end(file: Source, progress: engines.Progress | None) -> bytes:
    os._exit(9)


def _priority(file: Source, progress: engines.Progress | None) -> bytes:
    raise SummaryError(f"nice {os.nice(0)}")


@pytest.mark.slow
def test_objects_in_circles_are_looked_for_less_often_while_a_log_is_read(logs: Path) -> None:
    before = gc.get_threshold()
    seen: list[tuple[int, int, int]] = []
    summarise_files([logs], Rules(), progress=lambda _, count: seen.append(gc.get_threshold()))
    assert seen
    assert all(each[0] > before[0] and each[1:] == before[1:] for each in seen)
    assert gc.get_threshold() == before


def test_a_killed_process_is_an_error_of_one_line() -> None:
    with pytest.raises(SummaryError, match="a process that read the logs was killed"):
        list(engines._in_processes([source_of("a"), source_of("b")], _end, 2, None))


def test_processes_have_the_lowest_priority() -> None:
    with pytest.raises(SummaryError, match="nice 19"):
        list(engines._in_processes([source_of("a"), source_of("b")], _priority, 2, None))


def test_parts_of_a_long_file_give_the_identical_summary(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    file = tmp_path / "long.jsonl"
    file.write_bytes(log(0, 300) + b'{"schema":1,"torn')
    whole = save(summarise_files([file], Rules()))
    size = file.stat().st_size
    for part in (size // 9, size // 4 + 1, len(line(0, {"label": "a"}, {"label": "a"}))):
        monkeypatch.setattr("shadowproxy.sources.PART", part)
        parts = source_of(file).in_parts()
        assert [each.part[0] for each in parts[1:] if each.part] == [each.part[1] for each in parts[:-1] if each.part]
        assert sum(each.size() or 0 for each in parts) == size
        raw = [each for one in parts for each in lines([one])]
        assert [each.raw for each in raw if isinstance(each, Line)] == file.read_bytes().splitlines()
    monkeypatch.setattr("shadowproxy.sources.PART", size // 5)
    assert save(summarise_files([file], Rules(), jobs=2)) == whole


def test_what_is_appended_while_a_file_is_read_is_in_no_part(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    file = tmp_path / "long.jsonl"
    file.write_bytes(log(0, 50))
    monkeypatch.setattr("shadowproxy.sources.PART", file.stat().st_size // 3)
    parts = source_of(file).in_parts()
    with file.open("ab") as more:
        more.write(log(50, 10))
    assert sum(1 for part in parts for _ in lines([part])) == 50


def test_a_file_that_was_joined_is_cut_only_where_records_begin(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = tmp_path / "joined.jsonl"
    packed = b"".join(zstandard.compress(log(at, 1)) for at in range(40))
    wrapped = b"".join(b"2026-01-31T12:00:00Z stdout F " + log(at, 1) for at in range(40, 50))
    for rest in (packed, wrapped):
        file.write_bytes(log(50, 20) + rest + log(100, 20))
        monkeypatch.setattr("shadowproxy.sources.PART", len(rest) // 2)
        assert source_of(file).in_parts() == [source_of(file)]


@pytest.mark.parametrize("ending", [".zst", ".gz"])
def test_parts_of_a_segment_that_is_compressed_meanwhile_are_the_same(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, ending: str
) -> None:
    file = tmp_path / "long.jsonl"
    content = log(0, 50)
    file.write_bytes(content)
    monkeypatch.setattr("shadowproxy.sources.PART", len(content) // 4)
    parts = source_of(file).in_parts()
    assert len(parts) > 2
    packed = zstandard.compress(content) if ending == ".zst" else gzip.compress(content)
    file.with_name(file.name + ending).write_bytes(packed)
    file.unlink()
    found = [each for part in parts for each in lines([part])]
    assert [each.raw for each in found if isinstance(each, Line)] == content.splitlines()
    assert len(found) == 50


def test_a_pattern_reads_a_segment_that_is_there_twice_once(tmp_path: Path) -> None:
    (tmp_path / "a.jsonl").write_bytes(log(0, 9))
    (tmp_path / "a.jsonl.zst").write_bytes(zstandard.compress(log(0, 9)))
    (tmp_path / "b.jsonl.zst").write_bytes(zstandard.compress(log(9, 9)))
    assert [Path(each.path).name for each in sources_of(str(tmp_path / "*"))] == ["a.jsonl", "b.jsonl.zst"]


def test_only_plain_logs_are_read_in_parts(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("shadowproxy.sources.PART", 100)
    wrapped = tmp_path / "wrapped.log"
    wrapped.write_bytes(b"2026-01-31T12:00:00Z stdout F " + log(0, 9))
    packed = tmp_path / "packed.jsonl.zst"
    packed.write_bytes(zstandard.compress(log(0, 9)))
    for path in (wrapped, packed, tmp_path, tmp_path / "missing", "-"):
        assert source_of(path).in_parts() == [source_of(path)]


@pytest.mark.parametrize("jobs", [1, 2])
def test_the_progress_is_right_about_the_rest(tmp_path: Path, jobs: int) -> None:
    """The share that the bar shows is that of the records, with plain and compressed files side by side."""
    packed, plain = tmp_path / "a.jsonl.zst", tmp_path / "b.jsonl"
    packed.write_bytes(zstandard.compress(log(0, 2000)))
    plain.write_bytes(log(2000, 2000))
    total = sum(weight_of(source_of(each)) or 0 for each in (packed, plain))
    shown: list[tuple[float, float]] = []
    size = count = 0

    def progress(more: int, records: int) -> None:
        nonlocal size, count
        size, count = size + more, count + records
        if records:
            shown.append((size / total, count / 4000))

    summarise_files([packed, plain], Rules(), jobs=jobs, progress=progress)
    assert count == 4000
    assert size == pytest.approx(total, rel=0.01)
    if jobs == 1:
        middle = [bar for bar, records in shown if records == pytest.approx(0.5, abs=0.03)]
        assert middle
        assert all(bar == pytest.approx(0.5, abs=0.12) for bar in middle)


def test_summaries_of_parts_merge_to_the_report_of_the_whole(logs: Path) -> None:
    parts = [summarise_files([file], Rules()) for file in sorted(logs.iterdir())]
    merged = merge(merge(parts[3], parts[1]), merge(parts[0], parts[2]))
    assert report_json(merged) == report_json(summarise_files([logs], Rules()))


def test_a_pattern_stands_for_its_files(logs: Path) -> None:
    assert [each.path for each in sources_of(logs / "*.jsonl")] == [str(logs / f"{part}.jsonl") for part in range(3)]
    assert summarise_files([logs / "[01].jsonl"], Rules()).count == 800
    with pytest.raises(FileNotFoundError):
        summarise_files([logs / "*.nothing"], Rules())


def test_the_answer_is_found_by_itself_or_where_told(logs: Path) -> None:
    assert report_json(summarise_files([logs], Rules()))["shadows"]["s"]["outputs"][0]["live_path"] == "/label"
    told = summarise_files([logs], Rules(), fields=(("/nowhere", "/label"),))
    assert report_json(told)["shadows"]["s"]["outputs"][0]["pairs"] == 0


@pytest.mark.parametrize(
    ("only", "count"),
    [
        (Only(), 1600),
        (Only(since=1_769_860_800_000_000 + 100_000_000), 1500),
        (Only(until=1_769_860_800_000_000 + 100_000_000), 100),
        (Only(path="/p*"), 1600),
        (Only(path="/q"), 0),
        (Only(where=(Condition.parse("/n=3"),)), 320),
        (Only(where=(Condition.parse("/n>=3"),)), 640),
        (Only(where=(Condition.parse("/n>=3"), Condition.parse("/n<4"))), 320),
        (Only(where=(Condition.parse("/n!=0"),)), 1280),
        (Only(where=(Condition.parse('/n="3"'),)), 320),
        (Only(where=(Condition.parse("/absent=0"),)), 0),
        (Only(where=(Condition.parse("@method=POST"),)), 1600),
    ],
)
def test_only_what_is_asked_for_is_counted(logs: Path, only: Only, count: int) -> None:
    assert summarise_files([logs], Rules(), only=only).count == count


@pytest.mark.parametrize(
    ("text", "asked", "holds"),
    [
        ("/a=x", {"a": "x"}, True),
        ("/a = x", {"a": "x"}, True),
        ("/a=1", {"a": 1.0}, True),
        ("/a=1", {"a": "1"}, True),
        ("/a>9", {"a": 10}, True),
        ("/a>x", {"a": 10}, False),
        ('/a="b=c"', {"a": "b=c"}, True),
        ('/a="b=c"', {"a": '"b=c"'}, False),
        ("/a!=x", {"a": 10}, True),
        ("/a=true", {"a": True}, True),
        ("/a=null", {"a": None}, True),
        ("/a/*/b=2", {"a": [{"b": 1}, {"b": 2}]}, True),
        ("/a=x", {"a": ["x"]}, False),
        ("/a=x", None, False),
    ],
)
def test_conditions_look_into_the_request(text: str, asked: Any, holds: bool) -> None:
    request = RecordedRequest("POST", "/", "", {}, Body("json" if asked is not None else "none", asked, 5))
    one = record(1, answer(1))._replace(request=request)
    assert Condition.parse(text).holds(one) == holds


def test_other_processes_are_sent_what_a_reading_was_made_of_and_not_what_was_worked_out_since() -> None:
    rules = Rules(ignore=("/id",), tolerance={"/price": Tolerance(0.5, 0.0)}, unordered=("/tags",))
    reading = Reading(rules, fields=(("/price", "/cost"),), truths=Truths({"1": Truth(("late",), 5)}))
    fresh = pickle.dumps(reading)
    diff({f"k{n}": n for n in range(1000)}, {}, rules)
    assert reading.at("/price").tolerance == Tolerance(0.5, 0.0)
    assert pickle.dumps(reading) == fresh
    again = pickle.loads(fresh)
    assert again == reading
    assert again.keys == reading.keys
    assert diff({"price": 1.0}, {"price": 1.4}, again.rules).near == {"/price": 1}


@pytest.mark.parametrize("text", ["", "a=b", "/a", "/a~b", "@path"])
def test_what_is_no_condition_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match="is not a condition"):
        Condition.parse(text)


def test_moments_are_times_or_ages() -> None:
    now = datetime(2026, 1, 31, 12, tzinfo=UTC)
    at = round(now.timestamp() * 1e6)
    assert parse_moment("2026-01-31T12:00") == parse_moment("2026-01-31T13:00+01:00") == at
    assert parse_moment("2h", now) == at - 7_200_000_000
    assert parse_moment("1.5d", now) == at - 129_600_000_000
    with pytest.raises(ValueError, match="neither a time"):
        parse_moment("yesterday")


# --- labels --------------------------------------------------------------------------------------------------------


def test_labels_are_joined_by_request_id(logs: Path, tmp_path: Path) -> None:
    times = {n: 1_769_860_800_000_000 + (n + 3600) * 1_000_000 for n in range(0, 1600, 2)}
    truths = Truths({f"id-{n}": Truth(("ab"[n % 2],), at) for n, at in times.items()})
    labels = report_json(summarise_files([logs], Rules(), truths=truths))["shadows"]["s"]["outputs"][0]["labels"]
    assert (labels["labelled"], labels["coverage"], labels["live"]["value"]) == (800, 0.5, 1)
    assert (labels["live_only"], labels["shadow_only"]) == (160, 0)
    assert labels["delay_seconds"]["p50"] == pytest.approx(3600, rel=0.02)


# --- hostile logs --------------------------------------------------------------------------------------------------


@pytest.mark.slow
def test_hostile_logs_are_counted_within_bounds(tmp_path: Path) -> None:
    wide = {f"key-{n}": n for n in range(10_000)}
    rows = [
        line(1, wide, {f"other-{n}": n for n in range(10_000)}),
        line(2, {"x": 1e308}, {"x": -1e308}),
        line(3, {"x": list(range(300_000))}, {"x": [0, *range(299_999)]}),
        line(4, {"x": 1}, {"x": 1}).replace(b'{"x":1}', b'{"x":NaN}'),
        line(5, {"x": 0.1}, {"x": 0.2}, {f"k{n}": n for n in range(5000)}),
        b'{"schema":1,"id":"' + b"x" * 3_000_000 + b'"}\n',
        b"\x00\xff\xfe\n",
        b"[" * 100_000 + b"\n",
        *(line(10 + n, {"x": 10.0**n, "t": "<b>"}, {"x": -(10.0**-n), "t": "\x1b[0m"}) for n in range(0, 300, 7)),
    ]
    (tmp_path / "a.jsonl").write_bytes(b"".join(rows))
    summary = summarise_files([tmp_path / "a.jsonl"], Rules())
    figures = report_json(summary)
    assert summary.count == len(rows) - 4
    assert sum(summary.unreadable.values()) == 4
    assert len(save(summary)) < 3_000_000
    assert len(json.dumps(figures, allow_nan=False)) < 1_000_000
    assert figures["shadows"]["s"]["fields_cut"]


def test_an_unreadable_file_is_an_error_and_not_an_empty_report(tmp_path: Path) -> None:
    with pytest.raises(OSError, match="nowhere"):
        summarise_files([tmp_path / "nowhere"], Rules())
    assert os.listdir(tmp_path) == []


@pytest.mark.slow
def test_a_line_of_100_mb_is_counted_in_the_memory_of_the_longest_line_that_is_read(tmp_path: Path) -> None:
    with (tmp_path / "a.jsonl").open("wb") as file:
        file.write(line(0, {"label": "a"}, {"label": "a"}) + b'{"schema":1,"id":"')
        file.seek(100_000_000, os.SEEK_CUR)
        file.write(b'"}\n' + line(1, {"label": "a"}, {"label": "a"}))
    tracemalloc.start()
    try:
        summary = summarise_files([tmp_path / "a.jsonl"], Rules())
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert summary.count == 2
    assert summary.unreadable == {"longer than 64 MiB": 1}
    assert peak < LINE_LIMIT * 1.25


def test_keys_that_come_twice_are_counted_by_arm(tmp_path: Path) -> None:
    twice = b'{"a": {"x":1,"x":{"y":1,"y":2}}, "t":"\\":\\":", "n":[{"k":1},{"k":1}]}'
    once = b'{"a": {"x":{"y":2}}, "t":"\\":\\":", "n":[{"k":1},{"k":1}]}'
    rows = [
        line(n, {"here": 1}, {"here": 2}).replace(b'{"here":2}', twice if n % 2 else once).replace(b'{"here":1}', once)
        for n in range(10)
    ]
    (tmp_path / "a.jsonl").write_bytes(b"".join(rows))
    shadow = report_json(summarise_files([tmp_path / "a.jsonl"], Rules()))["shadows"]["s"]
    assert shadow["repeated_keys"] == {"live": 0, "shadow": 5}
    assert shadow["agreement"]["verdicts"]["match"] == 10
    assert "5 answers of shadow have a key twice; the last one counts" in shadow["verdict"]["warnings"]
    assert decode(rows[1]).shadows["s"].body.repeated_keys == 2  # type: ignore[union-attr]
