"""Processes that cannot be started again at once: the real program, whose new processes hang or find no descriptors."""

import asyncio
import os
import re
import resource
import signal
from collections.abc import Callable
from pathlib import Path

import httpx
import pytest
from load import metrics, probes, serving, until_balanced, wait_recorder

pytestmark = pytest.mark.slow


async def stop_the_next(found: Callable[[], list[int]], ended: int) -> int:
    """Stop the process that is started after `ended`, while it starts."""
    async with asyncio.timeout(20):
        while not (pids := [pid for pid in found() if pid != ended]):  # noqa: ASYNC110  # nothing tells
            await asyncio.sleep(0.001)
    os.kill(pids[0], signal.SIGSTOP)
    return pids[0]


async def answer_of(asking: httpx.AsyncClient, path: str) -> tuple[int, dict[str, object]]:
    async with httpx.AsyncClient(base_url=asking.base_url, trust_env=False, timeout=15) as probing:
        reply = await probing.get(path)
    return reply.status_code, reply.json()


async def until_answers(asking: httpx.AsyncClient, path: str, code: int, **values: object) -> None:
    async with asyncio.timeout(20):
        while True:
            found, answer = await answer_of(asking, path)
            if found == code and values.items() <= answer.items():
                return
            await asyncio.sleep(0.01)


async def test_a_live_process_is_started_again_while_the_recorder_hangs_in_its_own_start(tmp_path: Path) -> None:
    async with serving(tmp_path) as (program, asking, load):
        (recorder,), (live,) = program.recorders, program.workers
        os.kill(recorder, signal.SIGKILL)
        hanging = await stop_the_next(lambda: program.recorders, recorder)
        try:
            os.kill(live, signal.SIGKILL)
            await program.wait_said("worker 0 has ended")
            await load.more()  # callers are served by its successor
            assert program.workers != [live]
            await until_answers(asking, "/healthz", 200, status="alive", log="recorder_ended")
            await until_answers(asking, "/readyz", 200, status="ready")
        finally:
            os.kill(hanging, signal.SIGCONT)
        await load.more()
        await load.end()
        # Of the last second of the one that was killed nobody knows, as it had no recorder.
        assert set(await until_balanced(asking, 100)) <= {"recorder_ended", "worker_ended"}
        assert await program.stop() == 0


async def test_the_probes_say_that_no_process_serves_callers_until_one_does_again(tmp_path: Path) -> None:
    async with serving(tmp_path) as (program, asking, load):
        (live,) = program.workers
        os.kill(live, signal.SIGKILL)
        hanging = await stop_the_next(lambda: program.workers, live)
        try:
            await until_answers(asking, "/readyz", 503, status="restarting")
            assert (await answer_of(asking, "/healthz"))[0] == 200  # it needs nobody's help
        finally:
            os.kill(hanging, signal.SIGCONT)
        await until_answers(asking, "/readyz", 200, status="ready")
        await load.more()
        await load.end()
        assert await program.stop() == 0


async def test_the_probes_say_that_the_recorder_hangs(tmp_path: Path) -> None:
    async with serving(tmp_path) as (program, asking, load):
        (recorder,) = program.recorders
        os.kill(recorder, signal.SIGSTOP)
        try:
            await until_answers(asking, "/healthz", 200, status="alive", log="recorder_silent")
            await probes(asking)
        finally:
            os.kill(recorder, signal.SIGCONT)
        await until_answers(asking, "/healthz", 200, status="alive", log="ok")
        await load.end()
        assert await program.stop() == 0


async def test_what_waits_for_a_recorder_that_is_started_again_is_written_though_the_program_stops(
    tmp_path: Path,
) -> None:
    async with serving(tmp_path) as (program, _, load):
        (recorder,) = program.recorders
        os.kill(recorder, signal.SIGSTOP)
        await load.more(1500)  # beyond what the sockets hold
        await load.end()
        os.kill(recorder, signal.SIGKILL)
        assert await program.stop() == 0
        lost = {line["reason"] for line in program.told("records_lost")}
        assert lost <= {"recorder_ended"}  # what the sockets held
        (stopped,) = program.told("stopped")
        assert stopped["requests"] == load.asked == stopped["written"] + stopped["lost"]
        assert stopped["written"] > 100


def descriptors(pid: int) -> int:
    return 1 + max(int(name) for name in os.listdir(f"/proc/{pid}/fd"))


@pytest.mark.parametrize("spare", [0, 12, 14, 16])
async def test_a_supervisor_without_descriptors_starts_and_connects_the_recorder_once_it_has_some(
    tmp_path: Path, spare: int
) -> None:
    """It takes 10 or so to start a process, and some more to connect it: any of these may be missing."""
    async with serving(tmp_path, workers=2) as (program, asking, load):
        await probes(asking)  # the connection that is asked over
        (recorder,) = program.recorders
        before = resource.prlimit(program.pid, resource.RLIMIT_NOFILE)
        resource.prlimit(program.pid, resource.RLIMIT_NOFILE, (descriptors(program.pid) + spare, before[1]))
        os.kill(recorder, signal.SIGKILL)
        await program.wait_said("Too many open files" if spare == 0 else "the recorder has ended")
        await load.more(300)
        await probes(asking)
        resource.prlimit(program.pid, resource.RLIMIT_NOFILE, before)
        await wait_recorder(program, other_than=recorder)
        assert (await metrics(asking))["shadowproxy_recorder_restarts_total", ""] >= 1
        await load.more()
        await load.end()
        assert load.cut_off == 0
        assert set(await until_balanced(asking, load.asked)) <= {"recorder_ended"}
        assert await program.stop() == 0


@pytest.mark.parametrize("which", ["workers", "recorders"])
async def test_a_process_without_a_descriptor_for_its_connection_gets_it_later(tmp_path: Path, which: str) -> None:
    async with serving(tmp_path) as (program, asking, load):
        (recorder,), (live,) = program.recorders, program.workers
        lacking, killed = (live, recorder) if which == "workers" else (recorder, live)
        before = resource.prlimit(lacking, resource.RLIMIT_NOFILE)
        resource.prlimit(lacking, resource.RLIMIT_NOFILE, (3, before[1]))
        os.kill(killed, signal.SIGKILL)
        await program.wait_said("a socket could not be taken")
        resource.prlimit(lacking, resource.RLIMIT_NOFILE, before)
        await load.more()
        await load.end()
        assert set(await until_balanced(asking, load.asked - 60)) <= {"recorder_ended", "worker_ended"}
        assert getattr(program, which) == [lacking]
        assert await program.stop() == 0
        assert program.told("not_taken")


async def test_a_log_whose_place_is_gone_when_the_recorder_is_started_again_costs_no_caller_anything(
    tmp_path: Path,
) -> None:
    """A file stands where the directory was: the log cannot be opened, until somebody takes the file away."""
    async with serving(tmp_path) as (program, asking, load):
        (recorder,) = program.recorders
        program.log.rename(tmp_path / "moved")
        program.log.write_text("")
        os.kill(recorder, signal.SIGKILL)
        await program.wait_said("the log cannot be written")
        await until_answers(asking, "/healthz", 200, status="alive", log="write_error")
        await probes(asking)
        await load.more()
        program.log.unlink()
        await until_answers(asking, "/healthz", 200, status="alive", log="ok")
        await load.more()
        await load.end()
        assert load.cut_off == 0
        assert set(await until_balanced(asking, load.asked)) <= {"recorder_ended", "write_error"}
        assert await program.stop() == 0
        assert program.records()


async def test_a_reload_while_the_recorder_is_killed_is_in_force_and_recorded_by(tmp_path: Path) -> None:
    async with serving(tmp_path, workers=2) as (program, asking, load):
        (recorder,) = program.recorders
        text = (tmp_path / "config.yaml").read_text()
        (tmp_path / "config.yaml").write_text(re.sub(r"\}$", ', "compare": {"ignore": ["/x"]}}', text))
        os.kill(recorder, signal.SIGSTOP)
        await load.more(300)  # what waits of the first configuration
        program.signal(signal.SIGHUP)
        await asyncio.sleep(0)
        os.kill(recorder, signal.SIGKILL)
        await program.wait_said("configuration 2 is in force")
        await load.more()
        await load.end()
        assert load.cut_off == 0
        assert set(await until_balanced(asking, load.asked)) <= {"recorder_ended"}
        assert await program.stop() == 0
