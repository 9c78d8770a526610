"""The journal never waits, loses nothing silently, and leaves whole lines behind whatever the disk or a signal does."""

import errno
import fcntl
import gzip
import os
import queue
import re
import shutil
import signal
import stat
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from shadowproxy.exchange import Exchange, Reply, Request, Verdict
from shadowproxy.record import Record, Unreadable, read
from shadowproxy.recorder.line import encode
from shadowproxy.recorder.policy import Policy
from shadowproxy.serve.journal import segments
from shadowproxy.serve.journal.keeper import Keeper
from shadowproxy.serve.journal.losses import LOSSES
from shadowproxy.serve.journal.notices import Notice
from shadowproxy.serve.journal.queue import CLOSED, LARGE
from shadowproxy.serve.journal.root import Journal
from shadowproxy.serve.journal.settings import Settings
from shadowproxy.serve.journal.statistics import Statistics


def exchange(number: int, body: bytes = b"") -> Exchange:
    request = Request(str(number), f"rec-{number}", 0, "POST", b"/p", (), body, len(body))
    return Exchange(request, Reply(200, (), b"ok", 2, 1.0, 1.0), {})


def line_of(told: Exchange) -> bytes:
    return encode(told, proxy="host/0", policy=Policy(), judge=None)


def encoded(told: Exchange) -> tuple[bytes, dict[str, Verdict | None], tuple[str, ...]]:
    return line_of(told), {}, ()


@contextmanager
def journal(path: Path | str, **settings: Any) -> Iterator[Journal]:
    usual: dict[str, Any] = {"proxy": "host/0", "notify": lambda notice: None}
    own = {
        name: settings.pop(name)
        for name in ("notify", "write", "queue_limit", "proxy", "gather", "opening")
        if name in settings
    }
    told = Journal(path, settings=Settings(**settings), **usual | own)
    told.open()
    try:
        yield told
    finally:
        told.close(10)


def wait_until(holds: Callable[[], bool]) -> None:
    """Wait for another thread's doing; half a minute is a failure, not a measure."""
    deadline = time.monotonic() + 30
    while not holds():
        assert time.monotonic() < deadline
        time.sleep(0.001)


def ids(directory: Path) -> list[str]:
    told = list(read([directory]))
    assert not [each for each in told if isinstance(each, Unreadable)]
    return [each.id for each in told if isinstance(each, Record)]


def balance(told: Statistics) -> int:
    return told.written + told.queued + sum(told.lost.values())


class Disk:
    """os.write with faults: what it does next is set by the test; "ok" passes on to the real one."""

    def __init__(self) -> None:
        self.fault: str | int = "ok"
        self.gate = threading.Event()
        self.reached = threading.Event()

    def write(self, descriptor: int, data: bytes | memoryview) -> int:
        if self.fault == "hang":
            self.reached.set()
            self.gate.wait()
        elif self.fault == "short":
            return os.write(descriptor, data[:7])
        elif self.fault == "tear":
            self.fault = errno.ENOSPC
            return os.write(descriptor, data[:7])
        elif self.fault == "nothing":
            return 0
        elif isinstance(self.fault, int):
            raise OSError(self.fault, os.strerror(self.fault))
        return os.write(descriptor, data)


# --- in the ordinary case


def test_what_is_appended_is_in_the_log_in_order(tmp_path: Path) -> None:
    with journal(tmp_path / "log") as told:
        assert all(told.append(exchange(n), encoded) for n in range(500))
    assert ids(tmp_path / "log") == [str(n) for n in range(500)]
    after = told.statistics()
    assert (after.written, after.queued, after.queued_bytes, dict(after.lost)) == (500, 0, 0, {})
    assert after._asdict()["written"] == 500
    assert after.bytes == sum(path.stat().st_size for path in (tmp_path / "log").iterdir())


def test_the_log_is_for_its_owner_only(tmp_path: Path) -> None:
    with journal(tmp_path / "a" / "log") as told:
        told.append(exchange(1), encoded)
    [segment] = (tmp_path / "a" / "log").iterdir()
    assert stat.S_IMODE(segment.stat().st_mode) == 0o600
    assert stat.S_IMODE((tmp_path / "a" / "log").stat().st_mode) == 0o700


def test_a_directory_that_was_there_keeps_its_mode(tmp_path: Path) -> None:
    tmp_path.chmod(0o750)
    with journal(tmp_path):
        pass
    assert stat.S_IMODE(tmp_path.stat().st_mode) == 0o750


def test_an_idle_run_leaves_no_empty_segment(tmp_path: Path) -> None:
    with journal(tmp_path):
        assert len(list(tmp_path.iterdir())) == 1
    assert list(tmp_path.iterdir()) == []


def test_the_next_start_goes_on_in_a_new_segment(tmp_path: Path) -> None:
    for n in range(3):
        with journal(tmp_path, compress="none") as told:
            told.append(exchange(n), encoded)
    assert len(list(tmp_path.iterdir())) == 3
    assert ids(tmp_path) == ["0", "1", "2"]


@pytest.mark.parametrize("made", ["file", "under-a-file"])
def test_a_log_that_cannot_be_opened_is_told_of_and_written_as_soon_as_it_can_be(tmp_path: Path, made: str) -> None:
    """It is opened without an exchange to write, and what came before is counted under its reason."""
    obstacle = tmp_path / "x"
    obstacle.write_text("")
    path = obstacle if made == "file" else obstacle / "log"
    words: list[Notice] = []
    with journal(path, notify=words.append) as told:
        assert told.statistics().failing == "write_error"
        assert re.fullmatch("[A-Z][a-z ]+", told.statistics().last_error or "")
        told.append(exchange(0), encoded)
        wait_until(lambda: told.statistics().lost == {"write_error": 1})
        assert (told.statistics().written, told.statistics().queued) == (0, 0)
        obstacle.unlink()
        wait_until(lambda: told.statistics().failing is None)
        wait_until(lambda: any(each.event == "log_recovered" for each in words))
        assert [each.event for each in words if each.event != "records_lost"] == ["log_trouble", "log_recovered"]
        assert f"the log cannot be written in {path}; records are lost until it can: " in words[0].line
        told.append(exchange(1), encoded)
    assert ids(path) == ["1"]
    assert told.statistics().lost == {"write_error": 1}


def test_a_directory_that_hangs_whoever_opens_it_is_waited_for_no_longer_than_a_moment(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As on a mount whose server is gone. Once it is back, what came meanwhile is written."""
    back, create = threading.Event(), segments.create

    def hang(*arguments: Any) -> tuple[int, Path]:
        back.wait(10)
        return create(*arguments)

    monkeypatch.setattr(segments, "create", hang)
    words: list[Notice] = []
    with journal(tmp_path, notify=words.append, opening=0.05) as told:
        assert told.statistics().failing == "write_error"
        told.append(exchange(0), encoded)
        assert told.statistics().queued == 1
        back.set()
        wait_until(lambda: told.statistics().written == 1)
        assert told.statistics().failing is None
    assert ids(tmp_path) == ["0"]
    assert [each.event for each in words] == ["log_trouble", "log_recovered"]


@pytest.mark.parametrize("closed", [True, False])
def test_a_standard_output_that_was_closed_before_is_not_taken_for_what_has_its_number_by_now(closed: bool) -> None:
    """The descriptor 1 may be a caller's connection."""
    script = (
        "import os, sys; sys.path.insert(0, 'tests')\n"
        "from test_journal import encoded, exchange, journal\n"
        "os.dup2(2, 1)\n"
        "with journal('-') as told: told.append(exchange(0), encoded)\n"
        "print(told.statistics().lost, file=sys.stderr)"
    )
    words = ["sh", "-c", f'exec {sys.executable} -c "$0" {">&-" if closed else ">/dev/null"}', script]
    run = subprocess.run(words, stderr=subprocess.PIPE, check=True)
    assert run.stderr == (b"{'write_error': 1}\n" if closed else line_of(exchange(0)) + b"{}\n")


def test_a_dash_is_standard_output() -> None:
    script = (
        "import sys; sys.path.insert(0, 'tests')\n"
        "from test_journal import encoded, exchange, journal\n"
        "with journal('-') as told: [told.append(exchange(n), encoded) for n in range(100)]"
    )
    run = subprocess.run([sys.executable, "-c", script], capture_output=True, check=True)
    assert run.stdout == b"".join(line_of(exchange(n)) for n in range(100))


def test_standard_output_is_never_rotated(tmp_path: Path) -> None:
    """However much was written: there is no second standard output."""
    script = (
        "import sys; sys.path.insert(0, 'tests')\n"
        "from test_journal import encoded, exchange, journal, wait_until\n"
        "with journal('-', rotate_size=1000, rotate_every=0.001) as told:\n"
        "    for n in range(20):\n"
        "        told.append(exchange(n), encoded); wait_until(lambda: told.statistics().queued == 0)\n"
        "assert told.statistics().lost == {}, told.statistics()"
    )
    run = subprocess.run([sys.executable, "-c", script], capture_output=True, check=True)
    assert run.stdout == b"".join(line_of(exchange(n)) for n in range(20))


def test_a_full_pipe_that_does_not_block_is_waited_for(tmp_path: Path) -> None:
    script = (
        "import sys, os; sys.path.insert(0, 'tests'); os.set_blocking(1, False)\n"
        "from test_journal import encoded, exchange, journal\n"
        "with journal('-') as told: [told.append(exchange(n, b'x' * 5000), encoded) for n in range(100)]\n"
        "assert told.statistics().written == 100"
    )
    with subprocess.Popen([sys.executable, "-c", script], stdout=subprocess.PIPE) as run:
        assert run.stdout is not None
        time.sleep(0.2)  # no gate can be put into a pipe: it must fill up, and 500 kB do not fit into 64
        assert run.stdout.read() == b"".join(line_of(exchange(n, b"x" * 5000)) for n in range(100))
    assert run.returncode == 0


@pytest.mark.timing
def test_what_comes_within_a_moment_is_one_write(tmp_path: Path) -> None:
    sizes: list[int] = []

    def write(descriptor: int, data: bytes | memoryview) -> int:
        sizes.append(len(data))
        return os.write(descriptor, data)

    with journal(tmp_path, gather=0.1, write=write) as told:
        for at_rest in (False, True):  # or looking for more
            wait_until(lambda wanted=at_rest: told._queue._resting == wanted)  # type: ignore[misc]
            before = len(sizes)
            for n in range(10):
                told.append(exchange(n), encoded)
                time.sleep(0.001)  # the writing thread has its turn, if it wants it
            wait_until(lambda: told.statistics().queued == 0)
            assert sizes[before:] == [10 * len(line_of(exchange(0)))]


def test_closing_does_not_wait_for_more_to_gather(tmp_path: Path) -> None:
    with journal(tmp_path, gather=60.0) as told:
        for n in range(40):
            told.append(exchange(n), encoded)
    assert ids(tmp_path) == [str(n) for n in range(40)]


# --- bounds


def test_a_full_queue_refuses_and_counts(tmp_path: Path) -> None:
    disk = Disk()
    disk.fault = "hang"
    with journal(tmp_path, queue_limit=10, write=disk.write) as told:
        assert sum(told.append(exchange(n), encoded) for n in range(25)) == 10
        assert told.statistics().lost == {"journal_full": 15}
        assert told.statistics().queued == 10
        disk.gate.set()
    assert told.statistics().written == 10
    assert balance(told.statistics()) == 25


def test_the_queue_is_bounded_by_bytes_too(tmp_path: Path) -> None:
    disk = Disk()
    disk.fault = "hang"
    with journal(tmp_path, queue_bytes=100_000, write=disk.write) as told:
        assert sum(told.append(exchange(n, bytes(30_000)), encoded) for n in range(9)) == 4
        assert 100_000 < told.statistics().queued_bytes <= 130_000 + 4 * 3000  # the fourth came when there was room
        disk.gate.set()
        wait_until(lambda: told.statistics().queued_bytes == 0)
        assert told.append(exchange(9, bytes(30_000)), encoded)
        assert not told.append(exchange(10, bytes(100_000)), encoded)


@pytest.mark.timing
def test_a_hanging_disk_does_not_make_append_wait(tmp_path: Path) -> None:
    disk = Disk()
    disk.fault = "hang"
    with journal(tmp_path, queue_limit=100, write=disk.write) as told:
        told.append(exchange(0), encoded)
        disk.reached.wait()
        begun = time.perf_counter()
        for n in range(10_000):
            told.append(exchange(n), encoded)
        assert time.perf_counter() - begun < 1.0
        disk.gate.set()


def test_closing_gives_up_on_a_hanging_disk_and_counts_what_it_held(tmp_path: Path) -> None:
    disk = Disk()
    disk.fault = "hang"
    words: list[str] = []
    told = Journal(tmp_path, proxy="p", notify=lambda word: words.append(word.line), write=disk.write)
    told.open()
    for n in range(200):
        told.append(exchange(n), encoded)
    disk.reached.wait()
    told.close(0.05)
    assert told.statistics().lost == {"journal_closed": 200}
    assert words == ["the log lost 200 records so far (journal_closed): the disk did not take it in time"]
    disk.gate.set()
    told._writer._writing_thread.join(5)
    assert told.statistics().written == 0, "a record is not both written and lost"


def test_what_comes_after_closing_is_counted(tmp_path: Path) -> None:
    with journal(tmp_path) as told:
        pass
    assert not told.append(exchange(1), encoded)
    assert told.statistics().lost == {"journal_closed": 1}
    told.close(1)  # once more does nothing


# --- faults


def test_short_writes_are_finished(tmp_path: Path) -> None:
    disk = Disk()
    disk.fault = "short"
    with journal(tmp_path, write=disk.write) as told:
        for n in range(20):
            told.append(exchange(n), encoded)
    assert ids(tmp_path) == [str(n) for n in range(20)]


@pytest.mark.parametrize(
    ("fault", "reason"),
    [
        (errno.ENOSPC, "disk_full"),
        (errno.EDQUOT, "disk_full"),
        (errno.EIO, "write_error"),
        (errno.EROFS, "write_error"),
        ("nothing", "write_error"),
    ],
)
def test_what_the_disk_refuses_is_counted_and_said_and_the_log_goes_on(
    tmp_path: Path, fault: str | int, reason: str
) -> None:
    disk = Disk()
    words: list[str] = []
    with journal(tmp_path, write=disk.write, notify=lambda word: words.append(word.line)) as told:
        told.append(exchange(0), encoded)
        wait_until(lambda: told.statistics().written == 1)
        disk.fault = fault
        for n in range(1, 6):
            told.append(exchange(n), encoded)
            wait_until(lambda: told.statistics().queued == 0)
        assert told.statistics().lost == {reason: 5}
        disk.fault = "ok"
        time.sleep(0.02)  # the wait before the next attempt, RETRY_FIRST doubled at most once by then
        while told.statistics().written == 1:
            told.append(exchange(6), encoded)
            time.sleep(0.005)
    assert [word.split(":")[0] for word in words][:3] == [
        f"the log lost {n} records so far ({reason})" for n in (1, 2, 4)
    ]
    assert words[-1] == "the log is being written again"
    told_ids = ids(tmp_path)
    assert told_ids[0] == "0"
    assert set(told_ids[1:]) == {"6"}


def test_after_a_torn_line_the_next_begins_on_a_line_of_its_own(tmp_path: Path) -> None:
    disk = Disk()
    with journal(tmp_path, write=disk.write) as told:
        told.append(exchange(0), encoded)
        wait_until(lambda: told.statistics().written == 1)
        disk.fault = "tear"
        told.append(exchange(1), encoded)
        wait_until(lambda: told.statistics().lost == {"disk_full": 1})
        disk.fault = "ok"
        while told.statistics().written == 1:
            told.append(exchange(2), encoded)
            time.sleep(0.005)
    kinds = [each.id if isinstance(each, Record) else each.why.split(":")[0] for each in read([tmp_path])]
    assert kinds[:3] == ["0", "not JSON", "2"]
    assert set(kinds[3:]) <= {"2"}
    assert kinds.count("2") == told.statistics().written - 1


def test_of_a_torn_batch_the_whole_lines_count_as_written(tmp_path: Path) -> None:
    size = len(line_of(exchange(0)))
    calls = iter([2 * size + 5])

    def write(descriptor: int, data: bytes | memoryview) -> int:
        if len(data) == size:
            return os.write(descriptor, data)
        for room in calls:
            return os.write(descriptor, data[:room])
        raise OSError(errno.ENOSPC, "full")

    told = Journal(tmp_path, proxy="p", notify=lambda word: None, write=write)
    told._queue.open()  # fill the queue before the writer looks, so that there is one batch
    for n in range(4):
        told.append(exchange(n), encoded)
    told.open()
    told.close(5)
    assert (told.statistics().written, dict(told.statistics().lost)) == (2, {"disk_full": 2})
    told_lines = [each.id if isinstance(each, Record) else "torn" for each in read([tmp_path])]
    assert told_lines == ["0", "1", "torn"]


@pytest.mark.timing
def test_a_file_size_limit_moves_on_to_a_new_segment(tmp_path: Path) -> None:
    script = (
        "import sys, resource, pathlib, time; sys.path.insert(0, 'tests')\n"
        "from test_journal import encoded, exchange, journal\n"
        "resource.setrlimit(resource.RLIMIT_FSIZE, (3000, 3000))\n"
        "with journal(pathlib.Path(sys.argv[1]), compress='none') as told:\n"
        "    for n in range(40): told.append(exchange(n), encoded); time.sleep(0.003)\n"
        "after = told.statistics(); print(after.written, sum(after.lost.values()))"
    )
    run = subprocess.run([sys.executable, "-c", script, tmp_path], capture_output=True, text=True, check=True)
    written, lost = map(int, run.stdout.split())
    records = [each for each in read([tmp_path]) if isinstance(each, Record)]
    assert (len(records), written + lost) == (written, 40)
    assert lost > 0
    assert len(list(tmp_path.iterdir())) > 1


@pytest.mark.parametrize("gone", ["directory", "segment"])
def test_a_log_that_is_removed_under_us_is_made_anew(tmp_path: Path, gone: str) -> None:
    with journal(tmp_path / "log") as told:
        told.append(exchange(0), encoded)
        wait_until(lambda: told.statistics().written == 1)
        if gone == "directory":
            shutil.rmtree(tmp_path / "log")
        else:
            next((tmp_path / "log").iterdir()).unlink()
        told.append(exchange(1), encoded)
        wait_until(lambda: told.statistics().written == 2)
        assert ids(tmp_path / "log") == ["1"]
    assert told.statistics().lost == {}


def test_a_new_segment_that_cannot_be_opened_leaves_the_old_one_in_use(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    words: list[str] = []
    tries: list[Any] = []
    with journal(tmp_path, rotate_size=200, notify=lambda word: words.append(word.line)) as told:
        told.append(exchange(0), encoded)
        wait_until(lambda: told.statistics().written == 1)

        def refuse(*wanted: Any) -> Any:
            tries.append(wanted)
            raise OSError(errno.EMFILE, "Too many open files")

        with monkeypatch.context() as patch:
            patch.setattr(segments, "create", refuse)
            for n in range(1, 5):
                told.append(exchange(n), encoded)
                wait_until(lambda: told.statistics().queued == 0)
        wait_until(lambda: bool(words))
    assert len(tries) == 1, "it is tried again in a while, not with each record"
    assert words == ["no new segment of the log can be opened, so the old one stays in use: Too many open files"]
    assert ids(tmp_path) == [str(n) for n in range(5)]


def test_a_log_that_cannot_be_opened_again_keeps_the_segment_that_was_left(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The segment is left after the write that failed; nothing that fails later may remove it and its records."""
    disk = Disk()
    tries: list[Any] = []

    def refuse(*wanted: Any) -> Any:
        tries.append(wanted)
        raise OSError(errno.EMFILE, "Too many open files")

    with journal(tmp_path, write=disk.write, compress="none") as told:
        told.append(exchange(0), encoded)
        wait_until(lambda: told.statistics().written == 1)
        disk.fault = errno.EIO
        with monkeypatch.context() as patch:
            patch.setattr(segments, "create", refuse)
            while len(tries) < 2:
                told.append(exchange(1), encoded)
                time.sleep(0.005)
        assert ids(tmp_path) == ["0"]


def test_an_encoder_that_raises_costs_one_record_not_the_journal(tmp_path: Path) -> None:
    def encoder(told: Exchange) -> tuple[bytes, dict[str, Verdict | None], tuple[str, ...]]:
        if told.request.id == "1":
            raise RuntimeError("s3cret of a body")
        return encoded(told)

    with journal(tmp_path) as told:
        for n in range(3):
            told.append(exchange(n), encoder)
    assert ids(tmp_path) == ["0", "2"]
    assert told.statistics().lost == {"encode_error": 1}
    assert re.fullmatch(r"RuntimeError at test_journal\.py:\d+", told.statistics().last_error or "")


def test_a_write_that_fails_as_no_disk_does_costs_what_it_held_and_not_the_journal(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("shadowproxy.serve.journal.writer.RETRY_MOST", 0.01)
    words: list[str] = []
    broken = True

    def write(descriptor: int, data: bytes | memoryview) -> int:
        if broken:
            raise RuntimeError("s3cret of a body")
        return os.write(descriptor, data)

    with journal(tmp_path, write=write, notify=lambda word: words.append(word.line)) as told:
        for n in range(2):
            told.append(exchange(n), encoded)
            wait_until(lambda: told.statistics().queued == 0)
        broken = False
        told.append(exchange(2), encoded)
    assert ids(tmp_path) == ["2"]
    assert (told.statistics().lost, balance(told.statistics())) == ({"write_error": 2}, 3)
    assert told.statistics().queued_bytes == 0
    assert len(words) == 3, "the 1st and the 2nd loss, and what it was, once"
    assert all(re.search(r"RuntimeError at test_journal\.py:\d+$", line) for line in words)


def test_a_segment_may_grow_as_old_as_one_likes(tmp_path: Path) -> None:
    with journal(tmp_path, rotate_every=1e12, keep_age=1e12) as told:
        for n in range(3):
            told.append(exchange(n), encoded)
            wait_until(lambda: told.statistics().queued == 0)
    assert ids(tmp_path) == ["0", "1", "2"]


def test_a_shorter_age_is_kept_to_though_nothing_is_written(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("shadowproxy.serve.journal.writer.LOOK_EVERY", 0.01)
    with journal(tmp_path, rotate_every=None) as told:
        told.append(exchange(0), encoded)
        wait_until(lambda: told.statistics().written == 1)
        told.settings = Settings(rotate_every=0.01)
        wait_until(lambda: told.statistics().segments == 2)


def test_closed_segments_that_fail_as_no_disk_does_are_told_of_and_tried_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("shadowproxy.serve.journal.keeper.TIDY_EVERY", 0.01)
    words: list[str] = []
    tries: list[Path] = []

    def fail(directory: Path) -> Any:
        tries.append(directory)
        raise MemoryError

    monkeypatch.setattr(segments, "list_segments", fail)
    with journal(tmp_path, notify=lambda word: words.append(word.line)):
        wait_until(lambda: len(tries) > 2)
    [line] = words
    assert re.fullmatch(r"closed segments cannot be compressed or removed: MemoryError at test_journal\.py:\d+", line)


@pytest.mark.slow
@pytest.mark.parametrize("size", [20_000, 150_000, 450_000])
def test_kill_9_tears_at_most_the_last_line(tmp_path: Path, size: int) -> None:
    script = (
        "import sys, pathlib, time; sys.path.insert(0, 'tests')\n"
        "from test_journal import encoded, exchange, journal\n"
        "with journal(pathlib.Path(sys.argv[1]), rotate_size=200_000, compress='none') as told:\n"
        "    print('up', flush=True); n = 0\n"
        "    while True:\n"
        "        n += told.append(exchange(n, b'x' * 500), encoded)\n"
    )
    with subprocess.Popen([sys.executable, "-c", script, tmp_path], stdout=subprocess.PIPE) as run:
        assert run.stdout is not None
        run.stdout.readline()
        wait_until(lambda: sum(each.stat().st_size for each in tmp_path.iterdir()) > size)
        run.send_signal(signal.SIGKILL)
    told = list(read([tmp_path]))
    torn = [each for each in told if isinstance(each, Unreadable)]
    assert len(torn) <= 1
    assert all(each.why.startswith("torn") for each in torn)
    records = [int(each.id) for each in told if isinstance(each, Record)]
    assert records == list(range(len(records)))
    assert len(records) > 10
    with journal(tmp_path) as again:
        again.append(exchange(-1), encoded)
        assert again.statistics().segments == 1
    after_all = list(read([tmp_path]))
    assert len([each for each in after_all if isinstance(each, Record)]) == len(records) + 1


# --- rotation, compression, retention


def test_a_segment_is_closed_at_its_size_and_compressed_once_the_next_one_is(tmp_path: Path) -> None:
    size = len(line_of(exchange(10)))
    with journal(tmp_path, rotate_size=2 * size) as told:
        for n in range(10, 17):
            told.append(exchange(n), encoded)
            wait_until(lambda: told.statistics().queued == 0)
        wait_until(lambda: len(list(tmp_path.glob("*.jsonl"))) == 2)  # the active one, and the last that was closed
        assert len(list(tmp_path.glob("2*.jsonl.zst"))) == 2
        assert ids(tmp_path) == [str(n) for n in range(10, 17)]
    assert told.statistics().segments == 4
    assert all(stat.S_IMODE(path.stat().st_mode) == 0o600 for path in tmp_path.iterdir())


@pytest.mark.timing
def test_a_segment_is_closed_at_its_age_without_another_record(tmp_path: Path) -> None:
    with journal(tmp_path, rotate_every=0.02) as told:
        told.append(exchange(0), encoded)
        wait_until(lambda: told.statistics().segments == 2)
        time.sleep(0.06)
        assert told.statistics().segments == 2, "an empty segment is not closed for its age"
        told.append(exchange(1), encoded)
        wait_until(lambda: told.statistics().segments == 3)
    assert ids(tmp_path) == ["0", "1"]


@pytest.mark.slow
@pytest.mark.parametrize("how", ["zstd", "gzip", "none"])
def test_rotation_and_compression_under_load_lose_and_double_nothing(tmp_path: Path, how: Any) -> None:
    with journal(tmp_path, rotate_size=20_000, compress=how, queue_limit=100_000) as told:
        for n in range(5000):
            assert told.append(exchange(n), encoded)
    assert ids(tmp_path) == [str(n) for n in range(5000)]
    assert told.statistics().segments > 20
    with journal(tmp_path, compress=how):
        plain = 2 if how != "none" else told.statistics().segments + 1  # the last that was closed, and the active one
        wait_until(lambda: len(list(tmp_path.glob("*.jsonl"))) == plain)
    assert ids(tmp_path) == [str(n) for n in range(5000)]
    assert not list(tmp_path.glob(".*"))


def closed_segment(directory: Path, day: int, size: int, ending: str = ".jsonl") -> Path:
    path = directory / f"202601{day:02d}T000000.000000Z-host-0-1-0001{ending}"
    path.write_bytes(bytes(size))
    at = time.time() - (31 - day) * 86400
    os.utime(path, (at, at))
    return path


def test_retention_takes_the_oldest_beyond_age_and_size_and_nothing_else(tmp_path: Path) -> None:
    closed_segment(tmp_path, 1, 10)
    closed_segment(tmp_path, 20, 1000, ".jsonl.zst")
    closed_segment(tmp_path, 21, 1000, ".jsonl.gz")
    newest = closed_segment(tmp_path, 22, 1000)
    foreign = [tmp_path / "20260101T000000.000000Z.jsonl", tmp_path / "notes.txt", tmp_path / "old.jsonl.zst"]
    for path in foreign:
        path.write_bytes(bytes(1000))
        os.utime(path, (0, 0))
    with journal(tmp_path, compress="none", keep_size=1500, keep_age=15 * 86400.0) as told:
        told.append(exchange(0), encoded)
        wait_until(lambda: len(list(tmp_path.iterdir())) == len(foreign) + 2)
        wait_until(lambda: told.statistics().written == 1)
        assert newest.exists()
    assert all(path.exists() for path in foreign)


def test_nothing_is_taken_where_no_limit_is_set(tmp_path: Path) -> None:
    old = [segments.Segment(closed_segment(tmp_path, 1, 10), "p", True, False, 10, 0.0)]
    assert segments.to_remove(old, None, None, time.time()) == []
    assert segments.to_remove(old, 9, None, 0.0) == [old[0].path]
    assert segments.to_remove(old, 10, 5.0, 5.0) == []
    assert segments.to_remove(old, 10, 5.0, 5.1) == [old[0].path]


def test_another_proxys_active_segment_is_left_alone(tmp_path: Path) -> None:
    theirs = closed_segment(tmp_path, 1, 10)
    closed_segment(tmp_path, 2, 10)
    with theirs.open("ab") as held:
        fcntl.flock(held, fcntl.LOCK_EX)
        assert [each.active for each in segments.list_segments(tmp_path)] == [True, False]
        assert segments.to_compress(segments.list_segments(tmp_path)) == []
        assert segments.to_remove(segments.list_segments(tmp_path), 0, 0.0, time.time()) == [
            segments.list_segments(tmp_path)[1].path
        ]
        assert not segments.compress(theirs, "zstd", lambda: True)
        segments.remove(theirs)
        assert theirs.exists()
    assert segments.to_compress(segments.list_segments(tmp_path)) == [theirs]


def test_the_keepers_of_two_workers_pack_one_directory_and_every_record_is_there_once(tmp_path: Path) -> None:
    settings: dict[str, Any] = {"rotate_size": 3000, "keep_size": None, "keep_age": None}
    with journal(tmp_path, proxy="h/0", **settings) as one, journal(tmp_path, proxy="h/1", **settings) as other:
        for number in range(200):
            one.append(exchange(2 * number), encoded)
            other.append(exchange(2 * number + 1), encoded)
            if number % 20 == 19:
                wait_until(lambda: one.statistics().queued + other.statistics().queued == 0)
        wait_until(lambda: any(tmp_path.glob("*-h-0-*.zst")) and any(tmp_path.glob("*-h-1-*.zst")))
    assert sorted(map(int, ids(tmp_path))) == list(range(400))
    assert not list(tmp_path.glob(".*"))


def test_compressing_keeps_the_records_age_and_gives_up_when_told(tmp_path: Path) -> None:
    path = closed_segment(tmp_path, 1, 3 << 20)
    at = path.stat().st_mtime
    assert not segments.compress(path, "gzip", lambda: False)
    assert [each.name for each in tmp_path.iterdir()] == [path.name]
    assert segments.compress(path, "gzip", lambda: True)
    [packed] = tmp_path.iterdir()
    assert gzip.decompress(packed.read_bytes()) == bytes(3 << 20)
    assert packed.stat().st_mtime == at


def test_a_disk_too_full_to_compress_keeps_the_segment_and_says_so_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(descriptor: int) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    paths = [closed_segment(tmp_path, day, 10) for day in (1, 2)]
    words: list[str] = []
    keeper = Keeper(
        tmp_path,
        settings=Settings(keep_age=None),
        notices=queue.SimpleQueue(),
        notify=lambda word: words.append(word.line),
        is_opened=lambda: True,
    )
    keeper.tidy()
    keeper.tidy()
    assert words == ["closed segments cannot be compressed or removed: No space left on device"]
    assert sorted(tmp_path.iterdir()) == paths


def test_the_names_of_segments_are_in_the_order_of_their_starts(tmp_path: Path) -> None:
    names = []
    for number in range(1, 30):
        descriptor, path = segments.create(tmp_path, "we/ird host/0", number)
        os.close(descriptor)
        names.append(path.name)
    assert names == sorted(names)
    assert all("-we-ird-host-0-" in name for name in names)
    assert {each.proxy for each in segments.list_segments(tmp_path)} == {"we-ird-host-0"}


def test_a_new_segment_is_locked_though_another_was_just_looking(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    real = os.open
    looking: list[int] = []
    timer = threading.Timer(0.05, lambda: os.close(looking[0]))

    def looked_at(path: Any, *rest: Any) -> int:
        descriptor = real(path, *rest)
        if not looking:
            looking.append(real(path, os.O_RDONLY))
            fcntl.flock(looking[0], fcntl.LOCK_EX)
            timer.start()
        return descriptor

    monkeypatch.setattr(os, "open", looked_at)
    descriptor, _ = segments.create(tmp_path, "p", 1)
    timer.join()
    assert [each.active for each in segments.list_segments(tmp_path)] == [True]
    os.close(descriptor)


# --- courtesy


@pytest.mark.timing
@pytest.mark.slow
def test_a_busy_journal_leaves_the_other_threads_their_turn(tmp_path: Path) -> None:
    body = b'{"x":[' + b"1.5," * 2000 + b"1]}"
    waits: list[float] = []
    with journal(tmp_path, queue_limit=100_000) as told:
        for n in range(3000):
            told.append(exchange(n, body), encoded)
        while told.statistics().queued > 100:
            begun = time.perf_counter()
            time.sleep(0.0005)
            waits.append(time.perf_counter() - begun - 0.0005)
    assert len(waits) > 20
    assert sorted(waits)[len(waits) // 2] < 0.005, "half of the wake-ups wait less than an interpreter switch"


def test_every_loss_is_documented() -> None:
    page = (Path(__file__).parent.parent / "docs" / "reference" / "log.md").read_text()
    assert all(f"`{reason}`" in page for reason in LOSSES)


def test_a_large_exchange_does_not_hold_up_the_small_ones(tmp_path: Path) -> None:
    gate = threading.Event()

    def slow(one: Exchange) -> tuple[bytes, dict[str, Verdict | None], tuple[str, ...]]:
        assert gate.wait(30)
        return encoded(one)

    with journal(tmp_path) as told:
        told.append(exchange(0, bytes(LARGE)), slow)
        for n in range(1, 20):
            told.append(exchange(n), encoded)
        wait_until(lambda: told.statistics().written == 19)
        gate.set()
    assert ids(tmp_path) == [*map(str, range(1, 20)), "0"]
    assert (told.statistics().queued, told.statistics().queued_bytes) == (0, 0)


def test_closing_waits_for_the_large_ones_and_an_encoder_that_raises_costs_only_its_own(tmp_path: Path) -> None:
    def raises(one: Exchange) -> tuple[bytes, dict[str, Verdict | None], tuple[str, ...]]:
        raise ValueError

    def slow(one: Exchange) -> tuple[bytes, dict[str, Verdict | None], tuple[str, ...]]:
        wait_until(lambda: told._queue.state == CLOSED)
        time.sleep(0.02)  # by now the writing thread has nothing to do
        return encoded(one)

    with journal(tmp_path) as told:
        for n in range(5):
            told.append(exchange(n, bytes(LARGE)), raises if n == 2 else slow)
    assert ids(tmp_path) == ["0", "1", "3", "4"]
    assert (balance(told.statistics()), dict(told.statistics().lost)) == (5, {"encode_error": 1})


def test_large_exchanges_leave_half_of_the_queue_to_the_small_ones(tmp_path: Path) -> None:
    gate = threading.Event()

    def slow(one: Exchange) -> tuple[bytes, dict[str, Verdict | None], tuple[str, ...]]:
        assert gate.wait(30)
        return encoded(one)

    with journal(tmp_path, queue_bytes=10 * LARGE) as told:
        try:
            assert sum(told.append(exchange(n, bytes(LARGE)), slow) for n in range(20)) == 5
            assert told.append(exchange(20), slow)
            assert told.statistics().lost == {"journal_full": 15}
        finally:
            gate.set()


def test_what_closing_gives_up_on_is_counted_for_each_source(tmp_path: Path) -> None:
    disk = Disk()
    disk.fault = "hang"
    told = Journal(tmp_path, proxy="p", notify=lambda notice: None, write=disk.write)
    told.open()
    one, other = told.add_source(), told.add_source()
    for n in range(40):
        told.append(exchange(n, bytes(LARGE) if n == 7 else b""), encoded, one if n % 4 else other)
    assert disk.reached.wait(30)
    told.close(0.1)
    disk.gate.set()
    for source, count in ((one, 30), (other, 10)):
        settled = told.take_settled(source)
        assert settled is not None
        assert (settled.written, settled.lost, source.queued) == (0, {"journal_closed": count}, 0)
        assert told.take_settled(source) is None
    assert balance(told.statistics()) == 40
