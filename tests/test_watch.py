"""A file has changed when it holds something else, and then it is told once."""

import errno
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from shadowproxy.serve.sidecar.watch import Watch

EVERY = 0.01


class Told:
    """Counts what it is told, and waits for it."""

    def __init__(self) -> None:
        self.times = 0
        self._told = threading.Condition()

    def __call__(self) -> None:
        with self._told:
            self.times += 1
            self._told.notify_all()

    def wait(self, times: int) -> None:
        with self._told:
            assert self._told.wait_for(lambda: self.times >= times, 5), f"told {self.times} times"


@pytest.fixture
def told() -> Told:
    return Told()


@pytest.fixture
def file(tmp_path: Path) -> Path:
    path = tmp_path / "config.yaml"
    path.write_text("one")
    return path


@pytest.fixture
def looks(told: Told, file: Path) -> Iterator[list[int]]:
    """A watch over the file; and how often it has looked."""
    counted = [0]

    def files() -> list[Path]:
        counted[0] += 1
        return [file]

    with Watch(files, told, every=EVERY):
        yield counted


def pause_for(looks: list[int], more: int) -> None:
    until = looks[0] + more
    while looks[0] < until:
        threading.Event().wait(EVERY)


def test_each_change_is_told_once(told: Told, file: Path, looks: list[int]) -> None:
    for number in range(1, 4):
        file.write_text(f"changed {number}")
        told.wait(number)
    pause_for(looks, 4)
    assert told.times == 3


def test_contents_that_are_known_are_no_change(told: Told, file: Path) -> None:
    """As when a reload on request has read them. The watch looks only when the test lets it."""
    may_look, looked = threading.Semaphore(0), threading.Semaphore(0)
    this = threading.current_thread()

    def files() -> list[Path]:
        if threading.current_thread() is not this:
            looked.release()
            assert may_look.acquire(timeout=5)
        return [file]

    def look(times: int) -> None:
        for _ in range(times):
            may_look.release()
            assert looked.acquire(timeout=5)

    with Watch(files, told, every=EVERY) as watch:
        assert looked.acquire(timeout=5)  # it waits to look
        file.write_text("two")
        watch.settle(watch.look())
        look(3)
        assert told.times == 0
        file.write_text("three")
        look(3)
        told.wait(1)
        may_look.release(10)


def test_a_file_that_was_only_touched_or_replaced_by_its_like_is_none(
    told: Told, file: Path, looks: list[int], tmp_path: Path
) -> None:
    file.touch()
    (tmp_path / "other").write_text("one")
    (tmp_path / "other").rename(file)
    pause_for(looks, 4)
    assert told.times == 0


def test_a_file_that_is_gone_for_a_moment_is_told_when_it_is_back(told: Told, file: Path, looks: list[int]) -> None:
    file.unlink()
    told.wait(1)
    file.write_text("two")
    told.wait(2)


def test_a_file_that_changes_with_every_look_is_told_when_it_rests(told: Told, file: Path) -> None:
    changing = [True]
    written = [0]

    def files() -> list[Path]:
        if changing[0]:
            written[0] += 1
            file.write_text(str(written[0]))
        return [file]

    with Watch(files, told, every=EVERY):
        while written[0] < 10:
            threading.Event().wait(EVERY)
        assert told.times == 0
        changing[0] = False
        told.wait(1)


def test_a_mounted_configmap_changes_by_its_directorys_symbolic_link(told: Told, tmp_path: Path) -> None:
    """As a kubelet does it: a new directory beside the old, and `..data` renamed onto it."""

    def publish(number: int) -> None:
        directory = tmp_path / f"..{number}"
        directory.mkdir()
        (directory / "config.yaml").write_text(f"version {number}")
        (tmp_path / "..data_tmp").symlink_to(directory.name)
        (tmp_path / "..data_tmp").rename(tmp_path / "..data")

    publish(1)
    (tmp_path / "config.yaml").symlink_to("..data/config.yaml")
    with Watch(lambda: [tmp_path / "config.yaml"], told, every=EVERY):
        publish(2)
        told.wait(1)


def test_a_file_that_is_looked_at_from_now_on_has_not_changed(told: Told, file: Path, tmp_path: Path) -> None:
    files = [file]
    counted = [0]

    def looked() -> list[Path]:
        counted[0] += 1
        return list(files)

    with Watch(looked, told, every=EVERY):
        pause_for(counted, 2)
        (tmp_path / "more").write_text("")
        files.append(tmp_path / "more")
        pause_for(counted, 4)
        assert told.times == 0
        (tmp_path / "more").write_text("changed")
        told.wait(1)


def test_it_ends_with_its_owner(told: Told, file: Path) -> None:
    with Watch(lambda: [file], told, every=EVERY):
        pass
    assert [thread for thread in threading.enumerate() if thread.name == "shadowproxy-watch"] == []


def test_a_file_that_cannot_be_looked_at_for_a_while_has_not_changed(
    told: Told, file: Path, looks: list[int], monkeypatch: pytest.MonkeyPatch
) -> None:
    def exhausted(path: Path) -> bytes:
        raise OSError(errno.EMFILE, "Too many open files")

    with monkeypatch.context() as patch:
        patch.setattr(Path, "read_bytes", exhausted)
        pause_for(looks, 4)
    pause_for(looks, 4)
    assert told.times == 0
    file.write_text("two")
    told.wait(1)


def test_a_file_that_cannot_be_looked_at_at_first_has_not_changed_when_it_can(
    told: Told, file: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Idle callers took all descriptors while it started, and the configuration was loaded again when they left."""

    def exhausted(path: Path) -> bytes:
        raise OSError(errno.EMFILE, "Too many open files")

    counted = [0]

    def files() -> list[Path]:
        counted[0] += 1
        return [file]

    with monkeypatch.context() as patch:
        patch.setattr(Path, "read_bytes", exhausted)
        watch = Watch(files, told, every=EVERY)
        watch.__enter__()
        pause_for(counted, 4)
    try:
        pause_for(counted, 4)
        assert told.times == 0
        file.write_text("two")
        told.wait(1)
    finally:
        watch.__exit__()
