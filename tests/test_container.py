"""How much a container allows: processors and memory, by the kernel's files in both of its versions."""

import os
from pathlib import Path

import pytest

from shadowproxy import container


@pytest.fixture(autouse=True)
def eight_cores(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: set(range(8)), raising=False)


def files(root: Path, cgroup: str, contents: dict[str, str]) -> Path:
    for name, text in {"proc/self/cgroup": cgroup, **contents}.items():
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    return root


def test_without_control_groups_nothing_is_limited(tmp_path: Path) -> None:
    assert container.cores(tmp_path) == 8
    assert container.memory(tmp_path) is None


@pytest.mark.parametrize(
    ("quota", "cores"), [("max 100000", 8), ("200000 100000", 2), ("150000 100000", 1), ("50000 100000", 1), ("", 8)]
)
def test_a_share_of_time_is_whole_processors_and_at_least_one(tmp_path: Path, quota: str, cores: int) -> None:
    files(tmp_path, "0::/\n", {"sys/fs/cgroup/cpu.max": f"{quota}\n", "sys/fs/cgroup/memory.max": "max\n"})
    assert container.cores(tmp_path) == cores
    assert container.memory(tmp_path) is None


def test_the_smallest_limit_of_a_group_and_those_above_it_counts(tmp_path: Path) -> None:
    top = "sys/fs/cgroup/pods.slice"
    files(
        tmp_path,
        "0::/pods.slice/pod1/main\n",
        {
            f"{top}/memory.max": "1000000000\n",
            f"{top}/pod1/memory.max": "268435456\n",
            f"{top}/pod1/main/memory.max": "max\n",
            f"{top}/pod1/main/cpu.max": "400000 100000\n",
            f"{top}/cpu.max": "300000 100000\n",
        },
    )
    assert container.memory(tmp_path) == 268435456
    assert container.cores(tmp_path) == 3


def test_version_1_has_a_tree_for_each_controller(tmp_path: Path) -> None:
    files(
        tmp_path,
        "9:memory:/docker/a\n8:cpu,cpuacct:/docker/a\n0::/\n",
        {
            "sys/fs/cgroup/memory/docker/a/memory.limit_in_bytes": "536870912\n",
            "sys/fs/cgroup/memory/memory.limit_in_bytes": "9223372036854771712\n",
            "sys/fs/cgroup/cpu,cpuacct/docker/a/cpu.cfs_quota_us": "250000\n",
            "sys/fs/cgroup/cpu,cpuacct/docker/a/cpu.cfs_period_us": "100000\n",
            "sys/fs/cgroup/cpu,cpuacct/cpu.cfs_quota_us": "-1\n",
            "sys/fs/cgroup/cpu,cpuacct/cpu.cfs_period_us": "100000\n",
        },
    )
    assert container.memory(tmp_path) == 536870912
    assert container.cores(tmp_path) == 2


def test_a_container_that_sees_only_its_own_group_is_limited_by_it(tmp_path: Path) -> None:
    """Its path is then one of the host's, which is not there; the limit is at the top."""
    files(tmp_path, "0::/../../kubepods/pod9\n", {"sys/fs/cgroup/memory.max": "1048576\n"})
    assert container.memory(tmp_path) == 1048576


def test_little_memory_left_is_seen_in_every_group_and_cached_files_count_as_left(tmp_path: Path) -> None:
    top = "sys/fs/cgroup/pods.slice"
    files(
        tmp_path,
        "0::/pods.slice/pod1\n",
        {
            f"{top}/memory.max": "max\n",
            f"{top}/memory.current": "900000000\n",
            f"{top}/memory.stat": "anon 900000000\n",
            f"{top}/pod1/memory.max": "1000\n",
            f"{top}/pod1/memory.current": "990\n",
            f"{top}/pod1/memory.stat": "anon 600\nfile 390\ninactive_file 100\nactive_file 40\nshmem 250\n",
        },
    )
    left = container.MemoryLeft(tmp_path)
    assert left.below(100) is None
    assert left.below(151) == (1000, 150)
    assert left.below(10_000) == (1000, 150)
    (tmp_path / top / "pod1/memory.current").write_text("750\n")
    assert left.below(10_000) is None  # a quarter is enough, whatever one would like
    (tmp_path / top / "pod1/memory.current").unlink()
    assert left.below(10_000) is None


def test_little_memory_left_is_seen_in_version_1(tmp_path: Path) -> None:
    top = "sys/fs/cgroup/memory/docker/a"
    files(
        tmp_path,
        "9:memory:/docker/a\n",
        {
            f"{top}/memory.limit_in_bytes": "1000\n",
            f"{top}/memory.usage_in_bytes": "980\n",
            f"{top}/memory.stat": "cache 10\ninactive_file 1\ntotal_inactive_file 50\ntotal_active_file 30\n",
        },
    )
    assert container.MemoryLeft(tmp_path).below(200) == (1000, 100)


def test_without_control_groups_memory_is_never_short(tmp_path: Path) -> None:
    assert container.MemoryLeft(tmp_path).below(1 << 60) is None
