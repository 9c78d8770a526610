"""What a container's memory is shared out to, and who says where it does not suffice."""

import logging
from pathlib import Path

import pytest
from cgroups import limited
from fakes import Caller, Origin, Peer, answer
from program import Program

from shadowproxy import config, container
from shadowproxy.check import examine
from shadowproxy.check.finding import Level
from shadowproxy.config import models
from shadowproxy.serve.sidecar import reload, room, specify
from shadowproxy.serve.sidecar.reload import log_warnings

MIB = 1 << 20


@pytest.mark.parametrize(
    ("allowed", "workers", "memory"),
    [
        (None, 1, 256),
        (64 << 10, 1, 256),  # nothing is gained by more
        (1024, 1, 256),
        (512, 1, 121),
        (256, 1, 32),
        (512, 4, 64),
        (128, 1, 8),
        (128, 4, 32),
    ],
)
def test_memory_is_shared_out(allowed: int | None, workers: int, memory: int) -> None:
    assert room.share_out_memory(None if allowed is None else allowed * MIB, workers) == memory * MIB


@pytest.mark.parametrize("workers", [1, 2, 8])
@pytest.mark.parametrize("allowed", [512, 768, 1024, 4096])
def test_all_processes_fit_into_what_was_shared_out(allowed: int, workers: int) -> None:
    memory = room.share_out_memory(allowed * MIB, workers)
    if memory > room.LEAST * workers:
        assert room.rest(workers) + memory + memory * 3 // 2 + allowed * MIB // 8 <= allowed * MIB
        assert room.little_memory(memory, workers, allowed * MIB) is None


def of(**limits: object) -> config.Config:
    shadows = {"s": {"url": "http://127.0.0.1:9"}}
    values = {"live": {"respond": {}}, "shadows": shadows, "admin": None, "limits": limits, "log": {"path": "-"}}
    return config.from_values(values)


@pytest.fixture
def in_a_container(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(container, "memory", lambda: 256 * MIB)


@pytest.mark.usefixtures("in_a_container")
def test_auto_is_a_share_for_live_and_recorder_and_a_size_is_that_size() -> None:
    for limits, memory in (({}, 32), ({"memory": "auto"}, 32), ({"memory": "100MiB"}, 100)):
        specs = specify.specify(of(**limits))
        assert (specs.live.memory, specs.recorder.journal.queue_bytes) == (memory * MIB, memory * MIB)


@pytest.mark.usefixtures("in_a_container")
def test_with_auto_a_copy_keeps_within_a_workers_part() -> None:
    made = of(capture="64MiB", buffer="48MiB")
    live = specify.live(made)
    assert specify.specify(made).program.warnings == (
        "limits.capture is 32 MiB here: a worker's part of limits.memory, which follows the container's limit",
    )
    assert (live.capture, live.buffer) == (32 * MIB, 32 * MIB)
    assert [each.words for each in examine(made).of("memory") if each.level is Level.WARN] == [
        "limits.capture is lowered to 32 MiB, a worker's part of the memory"
    ]


@pytest.mark.parametrize(("before", "after"), [(4, 1), (1, 4)])
def test_a_reload_that_changes_workers_shares_the_memory_out_among_those_that_stay(
    before: int, after: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(container, "memory", lambda: 512 * MIB)
    running, changed = (
        specify.specify(config.from_values(config.shown(of(capture="64MiB")) | {"workers": workers}))
        for workers in (before, after)
    )
    kept, keys = reload._startable(changed, running)
    assert keys == ["workers"]
    assert (kept.live, kept.recorder.journal) == (running.live, running.recorder.journal)
    assert kept.live.capture * before <= kept.live.memory


@pytest.mark.usefixtures("in_a_container")
def test_check_and_serve_warn_where_it_cannot_fit(caplog: pytest.LogCaptureFixture) -> None:
    fitting, too_much = of(), of(memory="256MiB")
    assert [each.level for each in examine(fitting).of("memory")] == [Level.OK]
    (found,) = examine(too_much).of("memory")
    assert found.level is Level.WARN
    assert found.words == (
        "up to 656 MiB of memory are needed with limits.memory of 256 MiB, the container allows 256 MiB: the system "
        "may end it; give it more, or leave limits.memory at auto (32 MiB)"
    )
    with caplog.at_level(logging.WARNING):
        log_warnings(specify.specify(fitting))
        assert caplog.records == []
        log_warnings(specify.specify(too_much))
    (line,) = caplog.records
    assert (vars(line)["event"], line.getMessage()) == ("too_little_room", found.words)


def test_what_auto_is_at_most_is_known_when_the_file_is_read() -> None:
    assert models.AUTO_MOST == room.MOST


def test_without_a_container_nothing_is_said_of_memory(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(container, "memory", lambda: None)
    assert examine(of(memory="1TiB")).of("memory") == ()


@pytest.mark.parametrize(("value", "why"), [("automatic", "or auto"), (0, "greater than 0"), ("1MIB", "or auto")])
def test_a_memory_that_is_neither_a_size_nor_auto_is_refused(value: object, why: str) -> None:
    with pytest.raises(config.ConfigError) as error:
        of(memory=value)
    assert "limits.memory" in str(error.value)
    assert why in str(error.value)


def test_the_configuration_shows_auto_as_it_was_written() -> None:
    assert config.shown(of())["limits"]["memory"] == "auto"
    assert config.shown(of(memory="64MiB"))["limits"]["memory"] == "64MiB"


@pytest.mark.slow
async def test_a_crowd_that_holds_back_the_last_byte_and_a_hung_shadow_do_not_fill_a_container(tmp_path: Path) -> None:
    """With the defaults, in 256 MiB: 1,000 callers, and bodies of 1 MB for a shadow that reads nothing."""

    async def hangs(peer: Peer) -> None:
        peer.stop_reading()
        await peer.wait_ended(120)

    async with Origin(answer()) as live, Origin(hangs) as shadow:
        values = {"live": {"url": live.url}, "shadows": {"s": {"url": shadow.url, "timeout": "60s"}}}
        with limited(256 * MIB) as group:
            async with Program(tmp_path, values, before=group.enter) as running:
                large = b"POST / HTTP/1.1\r\nHost: h\r\nContent-Length: 1000000\r\n\r\n" + bytes(1_000_000)
                for _ in range(60):
                    assert (await running.ask(large)).status == 200
                callers: list[Caller] = []
                begun = b"POST / HTTP/1.1\r\nHost: h\r\nContent-Length: 262144\r\n\r\n" + bytes(262_143)
                try:
                    for _ in range(1000):
                        callers.append(await running.caller())
                        await callers[-1].send(begun)
                    assert (await running.ask(large)).status == 200
                finally:
                    for caller in callers:
                        await caller.__aexit__(None, None, None)
            assert group.kills == 0
