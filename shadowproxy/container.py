"""The processors and the memory that a container, or any other control group of Linux, allows this process.

Formats: cgroup-v2.rst (`cpu.max`, `memory.max`), and for version 1 sched-bwc.rst (`cpu.cfs_quota_us`) and memory.rst
(`memory.limit_in_bytes`), all of the kernel's documentation. Elsewhere there is no limit.
"""

import contextlib
import math
import os
from collections.abc import Iterator
from pathlib import Path

_UNLIMITED_V1 = 1 << 60  # version 1 writes nearly 2^63 where there is no limit


def cores(root: Path = Path("/")) -> int:
    """How many processors this process may keep busy: those that it may run on, within its group's share of time."""
    usable = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    shares = [_share(text) for text in _values(root, "cpu.max")]
    for quota, period in zip(
        _values(root, "cpu.cfs_quota_us", "cpu"), _values(root, "cpu.cfs_period_us", "cpu"), strict=False
    ):
        shares.append(_share(f"{quota} {period}"))
    return min([usable, *(max(1, math.floor(share)) for share in shares if share is not None)])


def memory(root: Path = Path("/")) -> int | None:
    """The bytes of memory that this process and its group may use, None where nothing limits them."""
    texts = [*_values(root, "memory.max"), *_values(root, "memory.limit_in_bytes", "memory")]
    found = [int(text) for text in texts if text.isdigit() and int(text) < _UNLIMITED_V1]
    return min(found, default=None)


class MemoryLeft:
    """How much memory the groups of this process have left, for whoever asks often: they are found once."""

    def __init__(self, root: Path = Path("/")) -> None:
        names = ("memory.max", "memory.current", "memory.stat")
        names_v1 = ("memory.limit_in_bytes", "memory.usage_in_bytes", "memory.stat")
        self._groups = [
            tuple(str(folder / name) for name in each)
            for each, controller in ((names, ""), (names_v1, "memory"))
            for folder in _folders(root, controller)
            if all((folder / name).is_file() for name in each)
        ]

    def below(self, enough: int) -> tuple[int, int] | None:
        """The limit of a group that has less left than this, and less than a quarter of its limit; and what is left.

        None where every group has as much. The kernel takes cached files back before it ends a process, so they count
        as left.
        """
        for limit_file, used_file, statistics_file in self._groups:
            with contextlib.suppress(OSError, ValueError):  # a limit that is the word "max", or a group that is gone
                limit = int(_read(limit_file))
                enough_here = min(enough, limit // 4)
                left = limit - int(_read(used_file))
                if left < enough_here and (left := left + _cached(_read(statistics_file))) < enough_here:
                    return limit, left
        return None


def _read(name: str) -> str:
    with open(name) as file:
        return file.read()


def _cached(statistics: str) -> int:
    """The bytes of cached files, out of memory.stat: version 1 names those of the groups below too `total_`."""
    values = dict(line.split(" ", 1) for line in statistics.splitlines() if line.count(" ") == 1)
    kinds = ("inactive_file", "active_file")
    found = [values.get(f"total_{kind}", values.get(kind, "0")) for kind in kinds]
    return sum(int(each) for each in found if each.isdigit())


def _share(text: str) -> float | None:
    """Processors, from a quota and a period in microseconds: `150000 100000` is 1.5; None where there is no limit."""
    quota, _, period = text.partition(" ")
    return int(quota) / int(period) if quota.isdigit() and period.isdigit() and int(period) else None


def _values(root: Path, name: str, controller: str = "") -> Iterator[str]:
    """The contents of the file in this process's group and in every group above it, where it is there."""
    for folder in _folders(root, controller):
        with contextlib.suppress(OSError):  # the file is not in every group
            yield (folder / name).read_text().strip()


def _folders(root: Path, controller: str = "") -> Iterator[Path]:
    """This process's group and every group above it. A container may see only its own.

    Version 2 has one tree of groups, version 1 one for each `controller`.
    """
    try:
        groups = (root / "proc/self/cgroup").read_text().splitlines()
    except OSError:
        return
    for group in groups:
        _, names, path = (*group.split(":", 2), "", "")[:3]
        if controller not in names.split(","):
            continue
        top = root / "sys/fs/cgroup" / names
        place = top / path.lstrip("/")
        for folder in (place, *place.parents):
            yield folder
            if folder == top:
                break
