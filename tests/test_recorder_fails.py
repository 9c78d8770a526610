"""The recorder fails in every way, and live processes do: the real program, whose processes are killed and stopped.

Callers are served on in each, the probes are answered, and the books balance: each request has a record or is lost
under a name.
"""

import asyncio
import contextlib
import json
import os
import re
import signal
import sys
import time
from collections import Counter
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import httpx
import pytest
from fakes import CutOff, Origin, answer
from program import Program
from prometheus_client.parser import text_string_to_metric_families

pytestmark = pytest.mark.slow

GET = b"GET / HTTP/1.1\r\nHost: h\r\n\r\n"


def values(live: Origin, shadow: Origin, **more: Any) -> dict[str, Any]:
    return {"admin": "127.0.0.1:0", "live": {"url": live.url}, "shadows": {"s": {"url": shadow.url}}} | more


def admin(program: Program) -> httpx.AsyncClient:
    (address,) = re.findall(r"admin (http://[0-9.]+:[0-9]+)", "\n".join(program.said))
    return httpx.AsyncClient(base_url=address, trust_env=False, timeout=15)


async def metrics(asking: httpx.AsyncClient) -> dict[tuple[str, str], float]:
    """The metrics by name and by the value of `reason`; once the recorder answers."""
    async with asyncio.timeout(20):
        while (reply := await asking.get("/metrics")).status_code != 200:  # noqa: ASYNC110
            await asyncio.sleep(0.05)
    found: Counter[tuple[str, str]] = Counter()
    for family in text_string_to_metric_families(reply.text):
        for sample in family.samples:
            found[sample.name, sample.labels.get("reason", "")] += sample.value  # type: ignore[assignment]
    return dict(found)


async def until_balanced(asking: httpx.AsyncClient, least: float) -> dict[str, float]:
    """What was lost by reason, once every one of at least so many requests is written or lost."""
    async with asyncio.timeout(20):
        while True:
            found = await metrics(asking)
            lost = {reason: n for (name, reason), n in found.items() if name == "shadowproxy_records_lost_total"}
            asked = sum(n for (name, _), n in found.items() if name == "shadowproxy_requests_total")
            written = found["shadowproxy_records_written_total", ""]
            if asked >= least and asked == written + sum(lost.values()):
                return {reason: n for reason, n in lost.items() if n}
            await asyncio.sleep(0.05)


class Load:
    """Callers that ask without a pause, each over a connection of its own. `cut_off` of them met an error."""

    def __init__(self, program: Program, callers: int = 4) -> None:
        self.asked = 0
        self.cut_off = 0
        self._ended = asyncio.Event()
        loop = asyncio.get_running_loop()
        self._tasks = [loop.create_task(self._ask(program)) for _ in range(callers)]

    async def _ask(self, program: Program) -> None:
        while not self._ended.is_set():
            try:
                async with await program.caller() as caller:
                    while not self._ended.is_set():
                        assert (await caller.ask(GET)).status == 200
                        self.asked += 1
                        await asyncio.sleep(0.005)
            except (CutOff, ConnectionError):
                self.cut_off += 1

    async def more(self, count: int = 100) -> None:
        """Wait until so many more were answered."""
        goal = self.asked + count
        async with asyncio.timeout(20):
            while self.asked < goal:  # noqa: ASYNC110  # nothing tells
                await asyncio.sleep(0.01)

    async def end(self) -> None:
        self._ended.set()
        await asyncio.gather(*self._tasks)


@contextlib.asynccontextmanager
async def serving(directory: Path, **more: Any) -> AsyncIterator[tuple[Program, httpx.AsyncClient, Load]]:
    """A program under load."""
    async with (
        Origin(answer(b"1")) as live,
        Origin(answer(b"2")) as shadow,
        Program(directory, values(live, shadow, **more)) as program,
        admin(program) as asking,
    ):
        load = Load(program)
        try:
            await load.more()
            yield program, asking, load
        finally:
            await load.end()


async def probes(asking: httpx.AsyncClient) -> None:
    """Both probes say within a second that all is well."""
    for path in ("/healthz", "/readyz"):
        began = time.monotonic()
        assert (await asking.get(path)).status_code == 200
        assert time.monotonic() - began < 1


async def wait_recorder(program: Program, *, other_than: int) -> int:
    async with asyncio.timeout(20):
        while not (found := [pid for pid in program.recorders if pid != other_than]):  # noqa: ASYNC110
            await asyncio.sleep(0.01)
    return found[0]


@pytest.mark.timing
@pytest.mark.parametrize("workers", [1, 2])
async def test_a_recorder_that_is_killed_costs_no_caller_anything_and_is_started_again(
    tmp_path: Path, workers: int
) -> None:
    async with serving(tmp_path, workers=workers) as (program, asking, load):
        (first,) = program.recorders
        before = await metrics(asking)
        os.kill(first, signal.SIGKILL)
        await probes(asking)
        assert "SIGKILL" in await program.wait_said("the recorder has ended")
        await load.more()
        await wait_recorder(program, other_than=first)
        after = await metrics(asking)
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


async def test_a_recorder_that_passes_its_bound_of_memory_ends_by_itself(tmp_path: Path) -> None:
    """The bound that is watched, in a process of its own: the event loop of it hangs meanwhile."""
    code = (
        "import logging, time\n"
        "from shadowproxy.serve.system import memory\n"
        "logging.basicConfig(format='%(message)s')\n"
        "with memory.watched(memory.resident() + (32 << 20), every=0.01):\n"
        "    held = b'x' * (64 << 20)\n"
        "    time.sleep(20)\n"
    )

    process = await asyncio.create_subprocess_exec(sys.executable, "-c", code, stderr=asyncio.subprocess.PIPE)
    _, said = await asyncio.wait_for(process.communicate(), 20)
    assert process.returncode == 70
    assert b"the recorder holds" in said
    assert b"more than its bound" in said
