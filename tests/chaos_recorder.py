"""The recorder and the live processes fail under load for a while, and the probes are asked meanwhile: `make chaos`."""

import asyncio
import contextlib
import os
import signal
import sys
import time
from pathlib import Path

import httpx
import pytest
from chaos import small_disk
from load import Load, metrics, probes, serving, until_balanced, wait_recorder

from shadowproxy import healthcheck

pytestmark = pytest.mark.soak

KILLS = 10
STOPPED = 30.0


async def balance(asking: httpx.AsyncClient, load: Load, names: set[str]) -> float:
    """All that was asked is written, or lost under one of these names. Returns how much was lost."""
    await load.end()
    lost = await until_balanced(asking, load.asked, within=120)
    assert set(lost) <= names
    return sum(lost.values())


async def test_a_recorder_that_is_killed_every_second_costs_no_caller_anything(tmp_path: Path) -> None:
    async with serving(tmp_path, workers=2) as (program, asking, load):
        killed = 0
        for _ in range(KILLS):
            if found := program.recorders:
                os.kill(found[0], signal.SIGKILL)
                killed += 1
            await probes(asking)
            await asyncio.sleep(1)
        await wait_recorder(program, other_than=0)
        assert load.cut_off == 0
        lost = await balance(asking, load, {"recorder_ended", "journal_full"})
        assert killed >= 3
        assert (await metrics(asking))["shadowproxy_recorder_restarts_total", ""] >= 3
        assert lost < load.asked / 2
        assert await program.stop() == 0


@pytest.mark.timing
async def test_all_three_probes_are_answered_while_the_recorder_is_stopped_for_30_seconds(tmp_path: Path) -> None:
    async with serving(tmp_path) as (program, asking, load):
        (recorder,) = program.recorders
        (address,) = (each["admin"] for each in program.told("started"))
        os.kill(recorder, signal.SIGSTOP)
        try:
            until = time.monotonic() + STOPPED
            while time.monotonic() < until:
                await probes(asking)
                began = time.monotonic()
                assert await asyncio.to_thread(healthcheck.run, ["--admin", address.removeprefix("http://")]) == 0
                assert time.monotonic() - began < 1
                await asyncio.sleep(1)
            command = ("-m", "shadowproxy", "healthcheck", "--admin", address.removeprefix("http://"))
            asked = await asyncio.create_subprocess_exec(sys.executable, *command)  # as a container's HEALTHCHECK does
            assert await asyncio.wait_for(asked.wait(), 10) == 0
        finally:
            os.kill(recorder, signal.SIGCONT)
        assert load.cut_off == 0
        await balance(asking, load, {"journal_full"})
        assert await program.stop() == 0


async def test_a_recorder_that_is_stopped_for_10_seconds_loses_nothing_that_its_backlog_takes(tmp_path: Path) -> None:
    async with serving(tmp_path, workers=2) as (program, asking, load):
        (recorder,) = program.recorders
        os.kill(recorder, signal.SIGSTOP)
        try:
            for _ in range(10):
                await asyncio.sleep(1)
                await probes(asking)
        finally:
            os.kill(recorder, signal.SIGCONT)
        assert load.cut_off == 0
        assert program.recorders == [recorder]
        assert await balance(asking, load, set()) == 0
        assert await program.stop() == 0
        assert len(program.records()) == load.asked


async def test_a_recorder_that_is_killed_in_the_middle_of_large_bodies_costs_no_caller_anything(tmp_path: Path) -> None:
    answers = tuple(b"[" + digit * (64 << 10) + b"]" for digit in (b"1,2,", b"1,3,"))
    async with serving(tmp_path, answers=(answers[0], answers[1])) as (program, asking, load):
        for _ in range(4):
            recorder = await wait_recorder(program, other_than=0)
            await load.more(20)
            os.kill(recorder, signal.SIGKILL)
            await load.more(5)  # at once: its successor is not there yet, or about to take what waits
            await wait_recorder(program, other_than=recorder)
        assert load.cut_off == 0
        await balance(asking, load, {"recorder_ended", "journal_full"})
        assert await program.stop() == 0


async def test_two_kills_one_after_the_other_delay_the_third_start_and_lose_nothing_more(tmp_path: Path) -> None:
    async with serving(tmp_path) as (program, asking, load):
        recorder = 0
        for _ in range(3):
            recorder = await wait_recorder(program, other_than=recorder)
            os.kill(recorder, signal.SIGKILL)
        await load.more(300)
        assert load.cut_off == 0
        await balance(asking, load, {"recorder_ended"})
        assert await program.stop() == 0
        assert len(program.told("recorder_ended")) + len(program.told("recorder_not_started")) >= 3


@pytest.mark.parametrize("after", [0.0, 0.01, 0.05, 0.2])
async def test_a_recorder_that_is_killed_while_the_program_stops_leaves_it_a_clean_end(
    tmp_path: Path, after: float
) -> None:
    async with serving(tmp_path, workers=2) as (program, _, load):
        (recorder,) = program.recorders
        await load.end()
        program.signal(signal.SIGTERM)
        await asyncio.sleep(after)
        with contextlib.suppress(ProcessLookupError):
            os.kill(recorder, signal.SIGKILL)
        assert await program.ended() == 0
        (stopped,) = program.told("stopped")
        assert stopped["requests"] == load.asked == stopped["written"] + stopped["lost"]
        assert {line["reason"] for line in program.told("records_lost")} <= {"recorder_ended"}


async def test_a_full_disk_and_a_killed_recorder_cost_no_caller_anything(tmp_path: Path) -> None:
    with small_disk(tmp_path / "disk", "1m"):
        log = tmp_path / "disk" / "log"
        async with serving(tmp_path, log={"path": str(log)}) as (program, asking, load):
            async with asyncio.timeout(60):
                while not (lost := (await metrics(asking)).get(("shadowproxy_records_lost_total", "disk_full"), 0)):
                    await load.more(200)
            (recorder,) = program.recorders
            os.kill(recorder, signal.SIGKILL)
            await wait_recorder(program, other_than=recorder)
            await probes(asking)
            async with asyncio.timeout(60):
                while (await metrics(asking))["shadowproxy_records_lost_total", "disk_full"] <= lost:
                    await load.more(200)
            assert load.cut_off == 0
            await balance(asking, load, {"recorder_ended", "disk_full", "write_error"})
            assert await program.stop() == 0


async def test_a_reader_of_standard_output_that_has_gone_and_a_killed_recorder_cost_no_caller_anything(
    tmp_path: Path,
) -> None:
    async with serving(tmp_path, log={"path": "-"}) as (program, asking, load):
        program.close_log()
        (recorder,) = program.recorders
        await load.more(300)
        os.kill(recorder, signal.SIGKILL)
        await wait_recorder(program, other_than=recorder)
        await load.more(300)
        await probes(asking)
        assert load.cut_off == 0
        await balance(asking, load, {"recorder_ended", "write_error"})
        assert await program.stop() == 0
        (stopped,) = program.told("stopped")
        assert stopped["requests"] == load.asked == stopped["written"] + stopped["lost"]


async def test_a_supervisor_that_is_killed_under_load_leaves_no_process_and_no_record_behind(tmp_path: Path) -> None:
    async with serving(tmp_path, workers=2) as (program, _, load):
        left = [*program.workers, *program.recorders]
        await load.end()  # what was answered before has to be in the log
        program.signal(signal.SIGKILL)
        async with asyncio.timeout(60):
            while any(Path(f"/proc/{pid}").exists() for pid in left):  # noqa: ASYNC110, ASYNC240
                await asyncio.sleep(0.01)
        assert len(program.records()) == load.asked


async def test_what_waits_for_a_hung_recorder_is_bounded_for_all_live_processes_together(tmp_path: Path) -> None:
    memory = 32 << 20
    limits = {"memory": memory, "capture": 1 << 20, "buffer": 64 << 10}
    body = b'"' + b"x" * (200 << 10) + b'"'
    async with serving(tmp_path, workers=4, limits=limits, answers=(body, body)) as (program, asking, load):
        before = sum(held(pid) for pid in program.workers)
        (recorder,) = program.recorders
        os.kill(recorder, signal.SIGSTOP)
        try:
            for _ in range(10):
                await load.more(100)  # of 400 KB: ten times as much as may wait
                await probes(asking)
        finally:
            os.kill(recorder, signal.SIGCONT)
        assert load.cut_off == 0
        lost = await balance(asking, load, {"journal_full"})
        assert lost > 100
        # Beside what waits: bodies on their way to callers, and what Python keeps.
        assert sum(held(pid) for pid in program.workers) - before < memory + (48 << 20)
        assert await program.stop() == 0


def held(pid: int) -> int:
    """Bytes: the most memory that a process has held."""
    lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    return sum(int(line.split()[1]) << 10 for line in lines if line.startswith("VmHWM:"))


@pytest.mark.parametrize("workers", [1, 2])
async def test_live_processes_that_are_killed_in_turn_cut_each_caller_off_once_at_most(
    tmp_path: Path, workers: int
) -> None:
    async with serving(tmp_path, workers=workers) as (program, asking, load):
        for _ in range(3):
            before = load.cut_off
            os.kill(program.workers[0], signal.SIGKILL)
            await load.more(200)
            await probes(asking)
            assert load.cut_off - before <= 4  # each caller once at most
            async with asyncio.timeout(20):
                while len(program.workers) < workers:  # noqa: ASYNC110  # nothing tells
                    await asyncio.sleep(0.05)
            await asyncio.sleep(1)
        await load.end()
        lost = await until_balanced(asking, load.asked - 60)
        assert set(lost) <= {"worker_ended"}
        assert await program.stop() == 0
        (stopped,) = program.told("stopped")
        assert stopped["requests"] == stopped["written"] + stopped["lost"]
