"""Closed segments go to a store, each once, with their summaries, whatever the store does meanwhile."""

import os
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import orjson
import pytest
import zstandard
from object_stores import SECRET, ObjectStore, object_store, use
from test_engines import log

from shadowproxy.check import uploading
from shadowproxy.check.finding import Level
from shadowproxy.compare.fold.beside import Used
from shadowproxy.compare.fold.engines import summarise_files
from shadowproxy.compare.fold.summary import load, save
from shadowproxy.compare.judge.rules import Rules
from shadowproxy.serve.journal import marks, segments
from shadowproxy.serve.journal.keeper import Keeper
from shadowproxy.serve.journal.notices import Notice
from shadowproxy.serve.journal.settings import Settings
from shadowproxy.serve.upload.job import Job, object_of, waiting
from shadowproxy.serve.upload.root import Uploads
from shadowproxy.serve.upload.work import Round
from shadowproxy.stores.opening import Patience

NOW = Patience(1.0, 2.0, 10.0, 0, 1.0, 0.01)
TO = "s3://bucket/logs/dt={date}/"


@pytest.fixture
def store(monkeypatch: pytest.MonkeyPatch) -> Iterator[ObjectStore]:
    with object_store() as store:
        use(store, monkeypatch)
        yield store


@pytest.fixture
def directory(tmp_path: Path) -> Path:
    """A log of three closed segments and one that a proxy is writing."""
    for hour in range(3):
        (tmp_path / name(hour)).write_bytes(log(hour * 20, 20))
    return tmp_path


def name(hour: int) -> str:
    return f"20261129T{hour:02}0000.000000Z-pod-0-7-{hour:04}.jsonl"


def key(hour: int, ending: str = ".zst") -> str:
    return f"logs/dt=2026-11-29/{name(hour)}{ending}"


def run(directory: Path, **more: Any) -> list[dict[str, Any]]:
    said: list[dict[str, Any]] = []
    Round(Job(str(directory), TO, **more), said.append, NOW).run()
    return said


def records(store: ObjectStore) -> bytes:
    """All that the store has, as lines, by name."""
    whole = [content for where, content in sorted(store.objects.items()) if where.endswith(".zst")]
    return b"".join(zstandard.ZstdDecompressor().decompressobj().decompress(each) for each in whole)


def test_each_closed_segment_is_sent_once_with_its_summary(directory: Path, store: ObjectStore) -> None:
    with segments.locked(directory / name(2)) as active:
        assert active is not None
        said = run(directory)
        assert [each.get("sent") for each in said] == [f"{name(0)}.zst", None, f"{name(1)}.zst", None]
        assert sorted(store.objects) == sorted(key(n, end) for n in (0, 1) for end in (".zst", ".zst.summary.json"))
        assert run(directory) == []
    assert [each.get("sent") for each in run(directory)] == [f"{name(2)}.zst", None]
    assert records(store) == log(0, 60)
    for hour in range(3):
        saved = load(store.objects[key(hour, ".zst.summary.json")])
        assert save(saved) == save(summarise_files([directory / f"{name(hour)}.zst"], Rules()))


@pytest.mark.parametrize("status", [403, 500])
def test_a_store_that_refuses_gets_each_segment_later(directory: Path, store: ObjectStore, status: int) -> None:
    store.status = status
    said = run(directory)
    assert [list(each) for each in said] == [["trouble"]] * 3
    assert SECRET not in str(said)
    assert not list(directory.glob(".*.uploaded"))
    store.status = None
    run(directory)
    assert records(store) == log(0, 60)


def test_what_was_sent_and_not_marked_is_sent_again_to_the_same_place(directory: Path, store: ObjectStore) -> None:
    run(directory)
    for mark in directory.glob(".*.uploaded"):
        mark.unlink()
    before = dict(store.objects)
    assert len(run(directory)) == 6
    assert store.objects == before


def test_a_segment_without_a_summary_gets_it_later_and_is_not_sent_again(directory: Path, store: ObjectStore) -> None:
    run(directory, summaries=False)
    assert len(store.objects) == 3
    assert [list(each) for each in run(directory)] == [["summarised"]] * 3
    assert len(store.objects) == 6


def test_a_summary_that_never_comes_to_be_is_given_up(directory: Path, store: ObjectStore) -> None:
    run(directory, summaries=False)
    for path in directory.glob("*.zst"):
        mark = marks.read(path)
        assert mark is not None
        marks.write(path, mark._replace(tries=2))
    assert run(directory) == []


def test_a_segment_from_which_a_person_was_erased_is_sent_again(directory: Path, store: ObjectStore) -> None:
    run(directory)
    path = directory / f"{name(1)}.zst"
    path.write_bytes(zstandard.compress(log(20, 19)))
    assert [each.get("sent") for each in run(directory)] == [path.name, None]
    assert records(store) == log(0, 39) + log(40, 20)


def test_of_two_that_share_a_directory_one_sends_a_segment(directory: Path, store: ObjectStore) -> None:
    run(directory, compress="none", summaries=False)
    store.objects.clear()
    for mark in directory.glob(".*.uploaded"):
        mark.unlink()
    with segments.locked(directory / name(0)) as mine:
        assert mine is not None
        assert [each["sent"] for each in run(directory, compress="none", summaries=False)] == [name(1), name(2)]


def test_marks_of_segments_that_are_gone_go_too(directory: Path, store: ObjectStore) -> None:
    run(directory)
    (directory / f"{name(0)}.zst").unlink()
    run(directory)
    assert len(list(directory.glob(".*.uploaded"))) == 2


def test_places_are_named_by_the_segment() -> None:
    segment = Path(f"/x/{name(5)}.zst")
    assert object_of("s3://b/{host}/{date}/{hour}/", segment) == f"s3://b/pod-0/2026-11-29/05/{segment.name}"


def test_what_is_not_sent_is_kept_until_the_size_demands_it(directory: Path, store: ObjectStore) -> None:
    told: list[Notice] = []
    keeper = Keeper(
        directory,
        settings=Settings(compress="none", keep_age=0.0, keep_size=1 << 30, uploads=True),
        notices=None,  # type: ignore[arg-type]  # it has no thread here
        notify=told.append,
        is_opened=lambda: True,
    )
    keeper.tidy()
    assert len(waiting(directory, summaries=True).unsent) == 3
    room = sum((directory / name(hour)).stat().st_size for hour in (1, 2))
    keeper.settings = Settings(compress="none", keep_age=0.0, keep_size=room, uploads=True)
    keeper.tidy()
    assert not (directory / name(0)).exists()
    assert (keeper.removed_unsent, [each.event for each in told]) == (1, ["upload_lost"])
    run(directory, compress="none")
    keeper.tidy()
    assert not list(directory.iterdir())
    assert keeper.removed_unsent == 1


# --- check -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("status", "level", "said"),
    [
        (None, Level.OK, "the store answers; the first segment shows whether objects can be put there"),
        (403, Level.WARN, "the store refuses access (403 AccessDenied); it says so too of what is not there"),
        (500, Level.FAIL, "the store answers 500 AccessDenied"),
    ],
)
def test_check_asks_the_store_for_what_is_not_there(
    store: ObjectStore, status: int | None, level: Level, said: str
) -> None:
    store.status = status
    (found,) = uploading.store(TO, asks=True)
    assert (found.level, found.words[: len(said)]) == (level, said)
    assert store.requests[-1] == ("GET", "/bucket/logs/shadowproxy-check")
    store.requests.clear()
    assert [each.level for each in uploading.store("s3://bucket/{date}/", asks=False)] == [Level.OK]
    assert store.requests == []


# --- the report ------------------------------------------------------------------------------------------------------


@pytest.fixture
def sent(directory: Path, store: ObjectStore) -> Path:
    run(directory)
    return directory


def read(place: object, rules: Rules | None = None, **more: Any) -> tuple[bytes, Used]:
    used = Used()
    return save(summarise_files([str(place)], rules or Rules(), used=used, **more)), used


def test_a_report_reads_the_summaries_and_is_the_same(sent: Path, store: ObjectStore) -> None:
    store.requests.clear()
    summary, used = read("s3://bucket/logs/")
    assert summary == read(sent)[0]
    assert (used.summaries, used.segments, dict(used.why_not)) == (3, 0, {})
    assert used.sentence() == "read the summaries beside 3 of 3 segments"
    assert not [target for method, target in store.requests if method == "GET" and target.endswith(".zst")]
    assert read("s3://bucket/logs/dt=2026-11-*/*")[0] == summary
    assert read("s3://bucket/logs/", shadow="s")[0] == read(sent, shadow="s")[0]


@pytest.mark.parametrize(
    ("change", "why"),
    [
        (lambda raw: b"", "with one that cannot be read"),
        (lambda raw: raw[:1000], "with one that cannot be read"),
        (lambda raw: raw.replace(b'"records":{', b'"records":{"1":1,'), "with one that cannot be read"),
        (lambda raw: raw.replace(b'"bytes":', b'"bytes":1'), "with one of an earlier content"),
        (lambda raw: raw.replace(b'"version":"', b'"version":"0'), "with one of another version"),
        (lambda raw: raw.replace(b'"rules":"', b'"rules":"0'), "with one by other rules"),
        (lambda raw: save(load(raw)), "with one that cannot be read"),
    ],
)
def test_a_summary_that_is_not_current_is_not_read(
    sent: Path, store: ObjectStore, change: Callable[[bytes], bytes], why: str
) -> None:
    beside = key(1, ".zst.summary.json")
    before = store.objects[beside]
    store.objects[beside] = change(before)
    assert store.objects[beside] != before
    summary, used = read("s3://bucket/logs/")
    assert summary == read(sent)[0]
    assert (used.summaries, used.segments, dict(used.why_not)) == (2, 1, {why: 1})


def test_a_segment_that_is_younger_than_its_summary_is_read(sent: Path, tmp_path: Path, store: ObjectStore) -> None:
    """On a disk there is no tag, so the times decide."""
    copy = tmp_path / "copy"
    for where, content in store.objects.items():
        (copy / where).parent.mkdir(parents=True, exist_ok=True)
        (copy / where).write_bytes(content)
    folder = copy / "logs" / "dt=2026-11-29"
    for path in folder.glob("*.zst"):
        old = time.time() - 100
        os.utime(path, (old, old))
    assert read(copy / "logs")[1].summaries == 3
    path = folder / f"{name(1)}.zst"
    path.touch()
    time_of_summary = (folder / f"{name(1)}.zst.summary.json").stat().st_mtime
    os.utime(path, (time_of_summary + 5, time_of_summary + 5))
    summary, used = read(copy / "logs")
    assert dict(used.why_not) == {"with one of an earlier content": 1}
    assert summary == read(sent)[0]


def test_other_rules_or_records_that_are_chosen_read_the_segments(sent: Path) -> None:
    assert read("s3://bucket/logs/", Rules(ignore=("/label",)))[1].why_not["with one by other rules"] == 3
    assert read("s3://bucket/logs/", fields=(("/label", "/label"),))[1].why_not["with one by other rules"] == 3
    assert read("s3://bucket/logs/", slices=("/n",))[1] == Used()


def test_summaries_are_made_by_the_rules_of_the_configuration(directory: Path, store: ObjectStore) -> None:
    rules = {"ignore": ["/x"], "tolerance": {"/p": [0.1, 0.0]}, "predictions": {"s": ["/label", "/label"]}}
    run(directory, rules=rules, fields=(("/label", "/label"),))
    from shadowproxy.compare.judge.rules import Tolerance

    same = Rules(ignore=("/x",), tolerance={"/p": Tolerance(0.1, 0.0)}, predictions={"s": ("/label", "/label")})
    assert read("s3://bucket/logs/", same, fields=(("/label", "/label"),))[1].summaries == 3


# --- the recorder's side ---------------------------------------------------------------------------------------------


def wait_until(condition: Callable[[], bool]) -> None:
    deadline = time.monotonic() + 30
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.01)


@pytest.mark.slow
def test_a_process_sends_what_waits_and_says_so(directory: Path, store: ObjectStore) -> None:
    told: list[Notice] = []
    uploads = Uploads(notify=told.append, look=0.05, retry=0.1)
    assert uploads.statistics() is None
    store.status = 403
    uploads.job = Job(str(directory), TO)

    def now() -> Any:
        return uploads.statistics()

    wait_until(lambda: now().trouble is not None)
    assert (now().waiting, now().sent) == (3, 0)
    assert now().oldest is not None
    assert "the store refuses access (403 AccessDenied)" in now().trouble
    store.status = None
    wait_until(lambda: now().summaries == 3)
    wait_until(lambda: now().trouble is None)
    assert (now().waiting, now().waiting_bytes, now().sent, now().oldest) == (0, 0, 3, None)
    assert [each.event for each in told] == ["upload_trouble", "upload_recovered"]
    (directory / name(9)).write_bytes(log(60, 10))  # the last segment, closed as the recorder stops
    uploads.close(20.0)
    assert key(9) in store.objects
    assert orjson.loads(marks.path_of(directory / name(9)).read_bytes())["name"] == f"{name(9)}.zst"


@pytest.mark.slow
def test_a_store_that_hangs_does_not_hold_up_the_stop(directory: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import socket

    with socket.create_server(("127.0.0.1", 0)) as silent:
        for each, value in {
            "AWS_ENDPOINT_URL": f"http://127.0.0.1:{silent.getsockname()[1]}",
            "AWS_ACCESS_KEY_ID": "A",
            "AWS_SECRET_ACCESS_KEY": "B",
            "AWS_REGION": "us-east-1",
        }.items():
            monkeypatch.setenv(each, value)
        uploads = Uploads(notify=lambda notice: None)
        uploads.job = Job(str(directory), TO, summaries=False)
        peer, _ = silent.accept()
        began = time.monotonic()
        uploads.close(0.2)
        assert time.monotonic() - began < 5.0
        peer.close()
    assert len(waiting(directory, summaries=False).unsent) == 3
