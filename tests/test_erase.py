"""Records are taken out of closed segments, and nothing else of a log changes."""

import fcntl
import gzip
import json
import os
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
import zstandard
from object_stores import object_store, use
from test_export import entry
from test_report_command import Run
from test_report_command import run as run

from shadowproxy import record
from shadowproxy.lines import Line, lines

Make = Callable[[str, bytes], Path]


def raw(*numbers: int) -> bytes:

    return b"".join(
        json.dumps(entry(number, {"p": 1}, asked={"user": {"id": number % 3}}, a={"p": 1})).encode() + b"\n"
        for number in numbers
    )


@pytest.fixture
def make(tmp_path: Path) -> Make:
    def segment(name: str, content: bytes) -> Path:
        path = tmp_path / "log" / name
        path.parent.mkdir(exist_ok=True)
        if path.suffix == ".gz":
            content = gzip.compress(content)
        path.write_bytes(zstandard.compress(content) if path.suffix == ".zst" else content)
        os.utime(path, (1_700_000_000, 1_700_000_000))
        path.chmod(0o600)
        return path

    return segment


def ids(path: Path) -> list[str]:
    return [each.id for each in record.read([path]) if isinstance(each, record.Record)]


NAMES = [f"20260131T120000.00000{at}Z-pod-0-1-000{at}.jsonl{ending}" for at, ending in enumerate(("", ".gz", ".zst"))]


@pytest.mark.parametrize("name", NAMES)
def test_a_record_is_erased_and_the_others_stay_byte_for_byte(make: Make, run: Run, name: str) -> None:
    path = make(name, raw(1, 2, 3))
    status, said, _ = run("erase", path.parent, "--id", "000002")
    assert status == 0
    assert f"{path}: 1 erased" in said
    assert "1 records erased from 1 of 1 files" in said
    assert b"".join(line.raw + b"\n" for line in lines([path]) if isinstance(line, Line)) == raw(1, 3)
    about = path.stat()
    assert (about.st_mtime, about.st_mode & 0o777) == (1_700_000_000, 0o600)
    assert [each.name for each in path.parent.iterdir()] == [name]


def test_a_file_without_such_a_record_is_not_written(make: Make, run: Run) -> None:
    one, other = make(NAMES[0], raw(1, 2)), make(NAMES[2], raw(3))
    before = other.stat().st_ino
    assert run("erase", one.parent, "--id", "000001")[0] == 0
    assert other.stat().st_ino == before
    assert ids(one) == ["000002"]


def test_a_field_of_the_request_names_a_person(make: Make, run: Run) -> None:
    path = make(NAMES[1], raw(*range(9)))
    assert run("erase", path.parent, "--where", "/user/id=1")[0] == 0
    assert ids(path) == [f"{number:06}" for number in range(9) if number % 3 != 1]


def test_all_that_is_given_holds(make: Make, run: Run, tmp_path: Path) -> None:
    path = make(NAMES[0], raw(*range(6)))
    (tmp_path / "ids.txt").write_text("000001\n\nr-4\n000002\n")
    assert run("erase", path.parent, "--ids", tmp_path / "ids.txt", "--where", "/user/id=1")[0] == 0
    assert ids(path) == ["000000", "000002", "000003", "000005"]


def test_many_ids_are_erased_at_once(make: Make, run: Run, tmp_path: Path) -> None:
    path = make(NAMES[2], raw(*range(60)))
    (tmp_path / "ids.txt").write_text("\n".join(f"{number:06}" for number in range(50)))
    assert run("erase", path.parent, "--ids", tmp_path / "ids.txt")[0] == 0
    assert ids(path) == [f"{number:06}" for number in range(50, 60)]


def test_a_dry_run_changes_nothing(make: Make, run: Run) -> None:
    path = make(NAMES[0], raw(1, 2))
    status, said, _ = run("erase", path.parent, "--id", "000001", "--dry-run")
    assert status == 0
    assert "1 records would be erased from 1 of 1 files" in said
    assert path.read_bytes() == raw(1, 2)


def test_a_torn_line_with_the_id_is_erased_and_another_stays(make: Make, run: Run) -> None:
    path = make(NAMES[0], raw(1) + b'{"id":"000002","to\n' + raw(2) + b'{"id":"000003","torn')
    assert run("erase", path.parent, "--id", "000002")[0] == 0
    assert path.read_bytes() == raw(1) + b'{"id":"000003","torn'


def test_a_segment_that_a_proxy_writes_is_named(make: Make, run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("shadowproxy.erase.PATIENCE", 0.0)
    active, closed = make(NAMES[0], raw(1)), make(NAMES[1], raw(1))
    with active.open("rb") as held:
        fcntl.flock(held, fcntl.LOCK_EX)
        status, said, error = run("erase", active.parent, "--id", "000001")
    assert status == 1
    assert f"{active}: not erased from: a proxy is writing it" in said
    assert "1 files were not erased from" in error
    assert active.read_bytes() == raw(1)
    assert ids(closed) == []


def test_a_file_that_cannot_be_read_to_its_end_is_left(make: Make, run: Run) -> None:
    path = make(NAMES[2], raw(*range(200)))
    path.write_bytes(path.read_bytes()[:-20])
    before = path.read_bytes()
    status, said, _ = run("erase", path.parent, "--id", "000001")
    assert status == 1
    assert "cannot be read: broken compression" in said
    assert path.read_bytes() == before


def test_a_line_with_a_longer_word_stays(make: Make, run: Run) -> None:
    path = make(NAMES[0], raw(1) + b'{"schema":2,"id":"12"}\n{"id":"1"}\n')
    assert run("erase", path.parent, "--id", "1")[0] == 0
    assert path.read_bytes() == raw(1) + b'{"schema":2,"id":"12"}\n'


def test_what_is_no_log_is_left(make: Make, run: Run) -> None:
    notes = make("notes.txt", b"1 egg\n2 eggs\n")
    status, said, _ = run("erase", notes, "--id", "1")
    assert status == 1
    assert "it has no record" in said
    assert notes.read_bytes() == b"1 egg\n2 eggs\n"


def test_all_files_are_erased_from_though_nobody_reads_what_is_said(
    make: Make, run: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    one, other = make(NAMES[0], raw(1, 2)), make(NAMES[2], raw(1, 3))

    def left(*_: object, **__: object) -> None:
        raise BrokenPipeError(32, "Broken pipe")

    run("erase", one, "--id", "none")  # which imports the command
    monkeypatch.setattr(sys.modules["shadowproxy.cli.erase"], "_say", left)
    assert run("erase", one.parent, "--id", "000001")[0] == 0
    assert (ids(one), ids(other)) == (["000002"], ["000003"])


def test_a_link_is_followed(make: Make, run: Run, tmp_path: Path) -> None:
    path = make(NAMES[0], raw(1, 2))
    link = tmp_path / "link.jsonl"
    link.symlink_to(path)
    assert run("erase", link, "--id", "000001")[0] == 0
    assert link.is_symlink()
    assert ids(path) == ["000002"]


def test_a_saved_summary_is_left(make: Make, run: Run) -> None:
    log = make(NAMES[0], raw(1, 2))
    saved = log.parent / "all.summary.json"
    assert run("summarise", log, "-o", saved)[0] == 0
    before = saved.read_bytes()
    status, said, _ = run("erase", log.parent / "*", "--id", "000001")
    assert status == 1
    assert f"{saved}: not erased from: it is a saved summary" in said
    assert f"{saved} was made from the log and may still hold answers" in said
    assert (saved.read_bytes(), ids(log)) == (before, ["000002"])


def test_a_stop_leaves_no_piece(make: Make, run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    path = make(NAMES[0], raw(1, 2))

    def stop(descriptor: int) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(os, "fsync", stop)
    run("erase", path, "--id", "000001")
    assert path.read_bytes() == raw(1, 2)
    assert [each.name for each in path.parent.iterdir()] == [path.name]


def test_what_was_made_from_the_log_is_named(make: Make, run: Run) -> None:
    path = make(NAMES[0], raw(1))
    judged = path.parent.with_name("log.judged.jsonl")
    judged.write_bytes(b"")
    assert f"{judged} was made from the log and may still hold answers" in run("erase", path.parent, "--id", "r-1")[1]


@pytest.mark.parametrize(
    ("words", "status", "message"),
    [
        ([], 2, "name what to erase"),
        (["--where", "age"], 2, "is not a condition"),
        (["--ids", "missing.txt"], 2, "cannot read missing.txt"),
        (["--ids", "empty.txt", "--where", "/user/id=1"], 2, "empty.txt has no ID in it"),
        (["--id", "unknown"], 1, "0 records erased from 0 of 1 files"),
        (["--id", ""], 2, "an ID must not be empty"),
        (["missing.jsonl", "--id", "1"], 2, "cannot read missing.jsonl: No such file or directory"),
        (["-", "--id", "1"], 2, "standard input cannot be erased from"),
    ],
)
def test_what_is_wrong_is_one_line(
    make: Make,
    run: Run,
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
    words: list[str],
    status: int,
    message: str,
) -> None:
    path = make(NAMES[0], raw(1))
    monkeypatch.chdir(tmp_path)
    (tmp_path / "empty.txt").write_text("\n")
    found, said, error = run("erase", path.parent, *words)
    assert found == status
    assert message in said + error
    assert len((said + error).splitlines()) == 1
    assert path.read_bytes() == raw(1)


def test_a_full_disk_leaves_the_segment(make: Make, run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    path = make(NAMES[0], raw(1, 2))

    def full(descriptor: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    status, _, error = run("erase", path.parent, "--id", "000001")
    assert status == 2
    assert "No space left on device" in error
    assert path.read_bytes() == raw(1, 2)
    assert [each.name for each in path.parent.iterdir()] == [path.name]


def test_a_file_that_a_runtime_has_wrapped_is_left(make: Make, run: Run) -> None:
    head = b"2026-01-31T12:00:00Z stdout F "
    content = b"".join(head + each + b"\n" for each in raw(1, 2).splitlines()) + b"2026-01-31T12:00:00Z stderr F x\n"
    path = make(NAMES[0], content)
    status, said, _ = run("erase", path, "--id", "000001")
    assert status == 1
    assert "1 of its records are in lines that a container's runtime has wrapped" in said
    assert path.read_bytes() == content
    assert run("erase", path, "--id", "000009")[0] == 1
    assert path.read_bytes() == content


def test_an_object_in_a_store_is_replaced_and_its_summary_removed(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    with object_store() as store:
        use(store, monkeypatch)
        store.objects |= {
            f"log/{NAMES[0]}": raw(1, 2),
            f"log/{NAMES[2]}": zstandard.compress(raw(3)),
            f"log/{NAMES[0]}.summary.json": b"{}",
            f"log/{NAMES[2]}.summary.json": b"{}",
        }
        status, said, error = run("erase", "s3://bucket/log/", "--id", "000001")
        assert (status, error) == (0, "")
        assert f"s3://bucket/log/{NAMES[0]}: 1 erased" in said
        assert store.objects == {
            f"log/{NAMES[0]}": raw(2),
            f"log/{NAMES[2]}": zstandard.compress(raw(3)),
            f"log/{NAMES[2]}.summary.json": b"{}",
        }
        store.status = 403
        status, said, error = run("erase", "s3://bucket/log/", "--id", "000001")
        assert (status, len((said + error).splitlines())) == (2, 1)
    status, said, _ = run("erase", "https://example.invalid/a.jsonl", "--id", "1")
    assert status == 1
    assert "https://example.invalid/a.jsonl: not erased from: a web server is only read" in said
