"""The recorder fails in every way, and live processes do: the real program, whose processes are killed and stopped.

Callers are served on in each, the probes are answered, and the books balance: each request has a record or is lost
under a name.
"""

import asyncio
import json
import os
import signal
import sys
import threading
import time
from pathlib import Path

import pytest
from fakes import Origin, answer
from load import GET, Load, metrics, probes, serving, until_balanced, values, wait_recorder
from program import Program

from shadowproxy.serve.system import memory

pytestmark = pytest.mark.slow


@pytest.mark.timing
@pytest.mark.parametrize("workers", [1, 2])
async def test_a_recorder_that_is_killed_costs_no_caller_anything_and_is_started_again(
    tmp_path: Path, workers: int
) -> None:
    async with serving(tmp_path, workers=workers) as (program, asking, load):
        (first,) = program.recorders
        before = await metrics(asking)
        uptime = json.loads((await asking.get("/overview")).content)["uptime_seconds"]
        seen = time.monotonic()
        os.kill(first, signal.SIGKILL)
        await probes(asking)
        assert "SIGKILL" in await program.wait_said("the recorder has ended")
        await load.more()
        await wait_recorder(program, other_than=first)
        after = await metrics(asking)
        least = uptime + time.monotonic() - seen - 0.1  # both are rounded
        assert json.loads((await asking.get("/overview")).content)["uptime_seconds"] >= least  # the program's
        assert after["shadowproxy_records_written_total", ""] >= before["shadowproxy_records_written_total", ""]
        assert after["shadowproxy_recorder_restarts_total", ""] == 1
        await load.more()
        await load.end()
        assert load.cut_off == 0
        lost = await until_balanced(asking, load.asked)
        assert set(lost) <= {"recorder_ended"}
        assert await program.stop() == 0
        (stopped,) = program.told("stopped")
        assert stopped["requests"] == load.asked == stopped["written"] + stopped["lost"]
        records, unreadable = program.read()
        assert len(unreadable) <= 1  # the line that was being written
        # A record may be in the log though the recorder died before it had reported it.
        assert stopped["written"] <= len(records) <= load.asked


@pytest.mark.timing
async def test_a_recorder_that_hangs_is_left_alone_and_the_probes_are_answered(tmp_path: Path) -> None:
    async with serving(tmp_path) as (program, asking, load):
        (recorder,) = program.recorders
        os.kill(recorder, signal.SIGSTOP)
        try:
            await load.more()
            await probes(asking)
            refused = await asking.get("/shadows")
            assert (refused.status_code, refused.json()["error"]["reason"]) == (503, "recorder_unavailable")
            await load.more()
            assert program.recorders == [recorder]
        finally:
            os.kill(recorder, signal.SIGCONT)
        await load.end()
        assert load.cut_off == 0
        assert await until_balanced(asking, load.asked) == {}  # all of it fitted into the backlog
        assert await program.stop() == 0
        assert len(program.records()) == load.asked


@pytest.mark.timing
async def test_a_second_signal_ends_the_waiting_for_a_recorder_that_hangs(tmp_path: Path) -> None:
    async with serving(tmp_path) as (program, _, load):
        await load.end()
        (recorder,) = program.recorders
        os.kill(recorder, signal.SIGSTOP)
        program.signal(signal.SIGTERM)
        await program.wait_said("stopping")
        program.signal(signal.SIGTERM)
        assert await program.ended() == 0
        assert len(program.told("recorder_killed")) == 1


@pytest.mark.timing
async def test_a_recorder_that_hangs_while_the_program_stops_is_killed_within_the_grace(tmp_path: Path) -> None:
    """`drain` and 10 s: then whoever runs it would kill all of it. What the recorder had counts as lost."""
    async with serving(tmp_path, drain="2s") as (program, asking, load):
        await load.end()
        assert await until_balanced(asking, load.asked) == {}
        (recorder,) = program.recorders
        os.kill(recorder, signal.SIGSTOP)
        for _ in range(20):
            assert (await program.ask(GET)).status == 200
        program.signal(signal.SIGTERM)
        async with asyncio.timeout(2 + 10):
            assert await program.ended() == 0
        assert len(program.told("recorder_killed")) == 1
        assert program.told("worker_killed") == []
        assert {each["reason"] for each in program.told("records_lost")} == {"recorder_ended"}  # they were sent
        (stopped,) = program.told("stopped")
        assert (stopped["requests"], stopped["written"], stopped["lost"]) == (load.asked + 20, load.asked, 20)
        assert len(program.records()) == load.asked


@pytest.mark.timing
async def test_a_live_process_that_hangs_while_the_program_stops_is_killed_within_the_grace(tmp_path: Path) -> None:
    given = {"live": {"respond": {}}, "drain": "2s", "workers": 2}
    async with Program(tmp_path, given) as program:
        for _ in range(20):
            assert (await program.ask(GET)).status == 204
        async with asyncio.timeout(20):
            while len(program.read()[0]) < 20:  # noqa: ASYNC110  # the log tells nobody
                await asyncio.sleep(0.05)
        await asyncio.sleep(1.5)  # until its figures have been read
        os.kill(program.workers[0], signal.SIGSTOP)
        program.signal(signal.SIGTERM)
        async with asyncio.timeout(2 + 10):
            assert await program.ended() == 0
        assert len(program.told("worker_killed")) == 1
        assert program.told("recorder_killed") == []
        (stopped,) = program.told("stopped")
        assert (stopped["requests"], stopped["written"], stopped["lost"]) == (20, 20, 0)


async def test_what_a_hung_recorder_cannot_take_is_counted_as_lost(tmp_path: Path) -> None:
    limits = {"memory": "64KiB", "capture": "8KiB", "buffer": "8KiB"}
    async with serving(tmp_path, limits=limits) as (program, asking, load):
        (recorder,) = program.recorders
        os.kill(recorder, signal.SIGSTOP)
        try:
            await load.more(1500)  # beyond what the sockets hold
        finally:
            os.kill(recorder, signal.SIGCONT)
        await load.end()
        assert load.cut_off == 0
        lost = await until_balanced(asking, load.asked)
        assert set(lost) == {"journal_full"}
        assert await program.stop() == 0
        assert len(program.records()) == load.asked - lost["journal_full"]


@pytest.mark.timing
async def test_a_live_process_that_is_killed_is_started_on_the_same_socket_and_its_exchanges_are_written(
    tmp_path: Path,
) -> None:
    async with serving(tmp_path) as (program, asking, load):
        (first,) = program.workers
        os.kill(first, signal.SIGKILL)
        assert "SIGKILL" in await program.wait_said("worker 0 has ended")
        await load.more()  # callers who were not accepted yet have waited
        await load.end()
        assert load.cut_off >= 1
        # What it had answered in its last moment, and not handed over, nobody knows of.
        lost = await until_balanced(asking, load.asked - 20)
        assert set(lost) <= {"worker_ended"}
        found = await metrics(asking)
        assert found["shadowproxy_worker_restarts_total", ""] == 1
        assert sum(n for (name, _), n in found.items() if name == "shadowproxy_shadow_chosen_total") == sum(
            n for (name, _), n in found.items() if name == "shadowproxy_shadow_outcomes_total"
        )
        assert await program.stop() == 0
        (stopped,) = program.told("stopped")
        assert stopped["requests"] == stopped["written"] + stopped["lost"]
        assert stopped["written"] == len(program.records())
        assert stopped["written"] >= load.asked - 20  # what it had not handed over is a moment's


async def test_recorder_and_live_process_end_in_order_when_the_supervisor_is_killed(tmp_path: Path) -> None:
    async with serving(tmp_path) as (program, _, load):
        left = [*program.workers, *program.recorders]
        assert len(left) == 2
        await load.end()
        program.signal(signal.SIGKILL)
        async with asyncio.timeout(20):
            while any(Path(f"/proc/{pid}").exists() for pid in left):  # noqa: ASYNC110, ASYNC240
                await asyncio.sleep(0.01)
        assert await program.ended() == -signal.SIGKILL
        assert len(program.records()) == load.asked


async def test_the_recorder_is_the_first_that_the_system_ends_when_memory_runs_out(tmp_path: Path) -> None:
    async with serving(tmp_path) as (program, _, _load):
        (live,), (recorder,) = program.workers, program.recorders

        def score(pid: int) -> int:
            return int(Path(f"/proc/{pid}/oom_score_adj").read_text())

        assert score(recorder) > score(live) == score(program.pid)
        assert await program.stop() == 0


async def test_with_standard_output_as_its_log_one_process_writes_whole_lines_for_all(tmp_path: Path) -> None:
    async with (
        Origin(answer(b"1")) as live,
        Origin(answer(b"2")) as shadow,
        Program(tmp_path, values(live, shadow, workers=2, log={"path": "-"})) as program,
    ):
        load = Load(program)
        await load.more(200)
        await load.end()
        program.signal(signal.SIGTERM)
        content = b""
        while piece := await program.read_log(1 << 20):
            content += piece
        assert await program.ended() == 0
    lines = [json.loads(line) for line in content.splitlines()]
    assert len(lines) == load.asked
    assert len({line["record"] for line in lines}) == load.asked


@pytest.mark.parametrize(
    ("arguments", "why"),
    [
        ("memory.resident() + (32 << 20), 0", "more than its bound"),
        ("1 << 60, 7 << 20, below=lambda keep: (64 << 20, keep)", "more than its container has room for: 7 of 64 MiB"),
    ],
)
async def test_a_recorder_that_passes_its_bound_of_memory_ends_by_itself(arguments: str, why: str) -> None:
    """The bound that is watched, in a process of its own: the event loop of it hangs meanwhile."""
    code = (
        "import logging, time\n"
        "from shadowproxy.serve.system import memory\n"
        "logging.basicConfig(format='%(message)s')\n"
        f"with memory.watched({arguments}, every=0.01):\n"
        "    held = b'x' * (64 << 20)\n"
        "    time.sleep(20)\n"
    )

    process = await asyncio.create_subprocess_exec(sys.executable, "-c", code, stderr=asyncio.subprocess.PIPE)
    _, said = await asyncio.wait_for(process.communicate(), 20)
    assert process.returncode == 70
    assert b"the recorder ends and is restarted: it holds" in said
    assert why.encode() in said


async def test_a_recorder_that_could_not_look_at_its_memory_looks_again() -> None:
    """As without a free descriptor."""
    code = (
        "import time\n"
        "from shadowproxy.serve.system import memory\n"
        "seen = iter([0, None, None, 2])\n"
        "memory.resident = lambda: next(seen)\n"
        "with memory.watched(1, 0, every=0.001):\n"
        "    time.sleep(20)\n"
    )
    process = await asyncio.create_subprocess_exec(sys.executable, "-c", code, stderr=asyncio.subprocess.DEVNULL)
    assert await asyncio.wait_for(process.wait(), 20) == 70


async def test_a_recorder_that_has_not_grown_stays_though_its_container_has_no_memory_left() -> None:
    """To end would help nobody. It is asked some times whether little is left, by what the test sees to."""
    looked = threading.Event()

    def below(keep: int) -> tuple[int, int]:
        looked.set()
        return 100, 0

    with memory.watched(1 << 60, 1, every=0.001, below=below):
        assert not looked.wait(0.1)
