"""The recorder and the live processes fail under load for a while, and the probes are asked meanwhile: `make chaos`."""

import asyncio
import os
import signal
import sys
import time
from pathlib import Path

import httpx
import pytest
from load import Load, metrics, probes, serving, until_balanced, wait_recorder

pytestmark = pytest.mark.soak

KILLS = 10
STOPPED = 30.0


async def balance(asking: httpx.AsyncClient, load: Load, names: set[str]) -> float:
    """All that was asked is written, or lost under one of these names. Returns how much was lost."""
    await load.end()
    lost = await until_balanced(asking, load.asked)
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
                asked = await asyncio.create_subprocess_exec(
                    sys.executable, "-m", "shadowproxy", "healthcheck", "--admin", address.removeprefix("http://")
                )
                assert await asyncio.wait_for(asked.wait(), 10) == 0
                assert time.monotonic() - began < 5  # with the start of an interpreter
                await asyncio.sleep(1)
        finally:
            os.kill(recorder, signal.SIGCONT)
        assert load.cut_off == 0
        await balance(asking, load, {"journal_full"})
        assert await program.stop() == 0


async def test_live_processes_that_are_killed_in_turn_cut_each_caller_off_once_at_most(tmp_path: Path) -> None:
    async with serving(tmp_path, workers=2) as (program, asking, load):
        for _ in range(3):
            before = load.cut_off
            os.kill(program.workers[0], signal.SIGKILL)
            await load.more(200)
            await probes(asking)
            assert load.cut_off - before <= 4  # each caller once at most
            async with asyncio.timeout(20):
                while len(program.workers) < 2:  # noqa: ASYNC110  # nothing tells
                    await asyncio.sleep(0.05)
            await asyncio.sleep(1)
        await load.end()
        lost = await until_balanced(asking, load.asked - 60)
        assert set(lost) <= {"worker_ended"}
        assert await program.stop() == 0
        (stopped,) = program.told("stopped")
        assert stopped["requests"] == stopped["written"] + stopped["lost"]
