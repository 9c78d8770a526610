"""A control group with a limit of memory for a program, where this machine lets a test make one."""

import contextlib
import os
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path("/sys/fs/cgroup")


class Group:
    """`limit` bytes for all that run in it. Version 2 ends all of them at once where they need more."""

    def __init__(self, folder: Path, *, second: bool) -> None:
        self.folder = folder
        self.second = second

    def enter(self) -> None:
        """Put the process that calls it here; its children begin here too."""
        (self.folder / "cgroup.procs").write_text(str(os.getpid()))

    @property
    def kills(self) -> int:
        """How many processes the kernel has ended here for want of memory."""
        name = "memory.events" if self.second else "memory.oom_control"
        lines = (self.folder / name).read_text().splitlines()
        return sum(int(line.split()[1]) for line in lines if line.startswith("oom_kill "))


@contextlib.contextmanager
def limited(limit: int) -> Iterator[Group]:
    """A group; the test is skipped where none can be made."""
    why = []
    name = f"shadowproxy-test-{os.getpid()}"
    for second, root in ((True, ROOT), (True, ROOT / "unified"), (False, ROOT / "memory")):
        folder = root / name
        settings = {"memory.max": limit, "memory.oom.group": 1} if second else {"memory.limit_in_bytes": limit}
        if not (root / "cgroup.procs").exists():
            why.append(f"{root} is no control group")
            continue
        try:
            folder.mkdir()
        except OSError as error:
            why.append(f"{root}: {error.strerror}")
            continue
        try:
            for key, value in settings.items():
                with open(folder / key, "r+") as file:  # it is there, or this group has no controller of memory
                    file.write(str(value))
        except OSError as error:
            why.append(f"{root}: {key}: {error.strerror}")
            folder.rmdir()
            continue
        group = Group(folder, second=second)
        try:
            yield group
        finally:
            _remove(folder)
        return
    pytest.skip(f"no control group with a limit of memory can be made here; {'; '.join(why)}")


def _remove(folder: Path) -> None:
    """It can be removed once the kernel has forgotten its last process."""
    for _ in range(500):
        with contextlib.suppress(OSError):
            folder.rmdir()
            return
        time.sleep(0.02)
