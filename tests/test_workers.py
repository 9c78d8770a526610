"""Several workers as one sidecar: the real program, whose processes are killed, stopped and steered."""

import asyncio
import contextlib
import json
import os
import re
import signal
import socket
import sys
import time
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any, cast

import httpx
import pytest
from fakes import Caller, CutOff, Origin, answer, silent
from program import Program
from prometheus_client.parser import text_string_to_metric_families

from shadowproxy.config import from_values
from shadowproxy.exchange import Outcome
from shadowproxy.serve.sidecar.reading import read_specs
from shadowproxy.serve.sidecar.specify import specify
from shadowproxy.serve.telemetry.log_settings import OperatorLogSettings
from shadowproxy.serve.workers import supervisor as supervising
from shadowproxy.serve.workers.channel import CallFailed
from shadowproxy.serve.workers.supervisor import Supervisor

pytestmark = pytest.mark.slow

GET = b"GET / HTTP/1.1\r\nHost: h\r\n\r\n"
CHANGE = {"X-Shadowproxy-Admin": "1"}


def values(live: Origin, *shadows: Origin, **more: Any) -> dict[str, Any]:
    return {
        "workers": 2,
        "admin": "127.0.0.1:0",
        "live": {"url": live.url},
        "shadows": {name: {"url": shadow.url} for name, shadow in zip("st", shadows, strict=False)},
    } | more


def workers(program: Program) -> list[int]:
    """The process IDs of the workers."""
    return program.workers


def admin(program: Program) -> httpx.AsyncClient:
    (address,) = re.findall(r"admin (http://[0-9.]+:[0-9]+)", "\n".join(program.said))
    return httpx.AsyncClient(base_url=address, trust_env=False, timeout=15)


async def metrics(asking: httpx.AsyncClient) -> dict[str, float]:
    """The sum of each metric over all its labels."""
    text = (await asking.get("/metrics")).text
    total: Counter[str] = Counter()
    for family in text_string_to_metric_families(text):
        for sample in family.samples:
            total[sample.name] += sample.value  # type: ignore[assignment]
    return dict(total)


async def until(true: Callable[[], bool], seconds: float = 20) -> None:
    async with asyncio.timeout(seconds):
        while not true():  # noqa: ASYNC110  # other processes tell nobody
            await asyncio.sleep(0.01)


async def ask_often(program: Program, callers: int = 8, times: int = 20) -> None:
    """Each caller over a connection of its own, all of them open at once."""

    async def one() -> None:
        async with await program.caller() as caller:
            for _ in range(times):
                assert (await caller.ask(GET)).status == 200

    await asyncio.gather(*(one() for _ in range(callers)))


@pytest.mark.timing
async def test_the_books_of_two_workers_balance_and_callers_are_shared_out(tmp_path: Path) -> None:
    async with Origin(answer(b"1")) as live, Origin(answer(b"2")) as shadow:
        async with Program(tmp_path, values(live, shadow)) as program, admin(program) as asking:
            await ask_often(program, callers=8, times=20)
            assert (await asking.get("/readyz")).status_code == 200
            async with asyncio.timeout(5):
                while (books := await metrics(asking))["shadowproxy_records_written_total"] < 160:
                    pass
            assert books["shadowproxy_requests_total"] == books["shadowproxy_records_written_total"] == 160
            assert books["shadowproxy_shadow_chosen_total"] == books["shadowproxy_shadow_outcomes_total"] == 160
            assert books["shadowproxy_verdicts_total"] == 160
            assert books["shadowproxy_memory_limit_bytes"] == 256 << 20
            assert books["shadowproxy_worker_restarts_total"] == 0
            overview = (await asking.get("/overview")).json()
            assert overview["shadows"][0]["agreement"] is None or overview["shadows"][0]["agreement"]["share"] == 0
            assert await program.stop() == 0
        records = program.records()
    by_worker = Counter(record.proxy.rpartition("/")[2] for record in records)
    assert set(by_worker) == {"0", "1"}
    assert min(by_worker.values()) >= 40  # of eight connections four each, but for what a busy machine delays
    assert len({record.record for record in records}) == 160
    assert {record.shadows["s"].outcome for record in records} == {Outcome.OK}
    assert "stopped: 160 requests, 160 records in the log, 0 lost" in program.said[-1]
    assert len(live.requests) == len(shadow.requests) == 160


async def test_a_worker_that_is_killed_costs_its_own_requests_and_is_started_again(tmp_path: Path) -> None:
    """Callers go on meanwhile; what an operator changed holds for the new one; no count goes back."""
    async with (
        Origin(answer(b"1")) as live,
        Origin(answer(b"2")) as shadow,
        Origin(answer()) as other,
        Program(tmp_path, values(live, shadow, other)) as program,
        admin(program) as asking,
    ):
        assert (await asking.post("/shadows/t/pause", headers=CHANGE)).json()["paused"] is True
        body = json.dumps({"percent": 50})
        assert (await asking.put("/shadows/s/percent", content=body, headers=CHANGE)).json()["percent"] == 50
        cut_off = 0
        ended = asyncio.Event()

        async def keep_asking() -> None:
            nonlocal cut_off
            while not ended.is_set():
                try:
                    async with await program.caller() as caller:
                        while not ended.is_set():
                            assert (await caller.ask(GET)).status == 200
                except (CutOff, ConnectionError):
                    cut_off += 1

        asking_on = [asyncio.get_running_loop().create_task(keep_asking()) for _ in range(8)]
        try:
            await asyncio.sleep(0.3)
            before = await metrics(asking)
            victim, survivor = workers(program)
            os.kill(victim, signal.SIGKILL)
            told = await program.wait_said("has ended")
            assert "SIGKILL" in told
            assert (await metrics(asking))["shadowproxy_requests_total"] >= before["shadowproxy_requests_total"]
            await until(lambda: len(workers(program)) == 2)
            async with asyncio.timeout(20):
                while (now := await metrics(asking))["shadowproxy_worker_restarts_total"] != 1:
                    pass
                while (await asking.get("/readyz")).status_code != 200:
                    pass
            assert survivor in workers(program)
        finally:
            ended.set()
            await asyncio.gather(*asking_on)
        assert 0 < cut_off < len(asking_on)  # those that it had, each once

        served = len(live.requests)
        new = next(pid for pid in workers(program) if pid != survivor)
        os.kill(survivor, signal.SIGSTOP)  # the new one alone answers now
        try:
            other_before = len(other.requests)
            shadow_before = len(shadow.requests)
            await ask_often(program, callers=2, times=100)
        finally:
            os.kill(survivor, signal.SIGCONT)
        assert new in workers(program)
        assert len(live.requests) == served + 200
        assert len(other.requests) == other_before == 0
        assert 50 <= len(shadow.requests) - shadow_before <= 150
        assert now["shadowproxy_shadow_paused"] == 1
        async with asyncio.timeout(10):
            while True:
                books = await metrics(asking)
                kept = books["shadowproxy_records_written_total"] + books["shadowproxy_records_lost_total"]
                if books["shadowproxy_requests_total"] == kept and not books["shadowproxy_shadow_in_flight"]:
                    break
        assert books["shadowproxy_shadow_chosen_total"] == books["shadowproxy_shadow_outcomes_total"]
        assert await program.stop() == 0
        assert "stopped: at least " in program.said[-1]
        records, unreadable = program.read()
    assert len(unreadable) <= 1
    assert {record.shadows["t"].outcome for record in records if "t" in record.shadows} == {Outcome.PAUSED}
    assert len(records) <= len(live.requests)


@pytest.mark.timing
async def test_a_worker_that_hangs_keeps_nobody_from_being_told(tmp_path: Path) -> None:
    async with (
        Origin(answer(b"1")) as live,
        Origin(answer(b"2")) as shadow,
        Program(tmp_path, values(live, shadow)) as program,
        admin(program) as asking,
    ):
        await ask_often(program)
        async with asyncio.timeout(20):
            while (before := await metrics(asking))["shadowproxy_requests_total"] < 8 * 20:  # noqa: ASYNC110
                await asyncio.sleep(0.05)
        victim, _ = workers(program)
        os.kill(victim, signal.SIGSTOP)
        try:
            began = time.monotonic()
            assert (await asking.get("/healthz")).status_code == 200
            assert time.monotonic() - began < 0.9
            assert (await metrics(asking))["shadowproxy_requests_total"] == before["shadowproxy_requests_total"]
            assert (await asking.get("/readyz")).status_code == 200
            refused = await asking.post("/shadows/s/pause", headers=CHANGE)
            assert (refused.status_code, refused.json()["error"]["reason"]) == (503, "unconfirmed")
            assert time.monotonic() - began < 10
            asked = len(shadow.requests)
            await ask_often(program, callers=2)  # the other worker answers, and it is paused
            assert len(shadow.requests) == asked
            await program.wait_said("has not replied")
        finally:
            os.kill(victim, signal.SIGCONT)
        async with asyncio.timeout(10):
            while (await asking.post("/shadows/s/pause", headers=CHANGE)).status_code != 200:
                pass
        asked = len(shadow.requests)
        await ask_often(program)
        assert len(shadow.requests) == asked
        assert await program.stop() == 0


async def test_a_live_process_says_how_it_is_while_it_reads_slow_files_and_can_be_stopped(tmp_path: Path) -> None:
    """The probes would say after 10 s that it hangs, though it serves callers."""
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe)
    given: dict[str, Any] = {"admin": "127.0.0.1:0", "live": {"respond": {}}}
    async with Program(tmp_path, given) as program, admin(program) as asking:
        for generation in (2, 3):
            name = f"s{generation}"
            given["shadows"] = {name: {"url": "https://127.0.0.1:9", "tls": {"ca": str(pipe)}}}
            program.configure(given)
            program.signal(signal.SIGHUP)
            while not any(f"configuration {generation} is in force" in line for line in program.said):
                assert (await asking.get("/readyz")).status_code == 200
                assert (await program.ask(GET)).status == 204
                await asyncio.sleep(0.05)
        assert program.told("worker_silent") == []
        given["shadows"] = {}
        program.configure(given)
        assert await program.stop() == 0
        assert program.told("worker_killed") == []


async def test_a_reload_is_of_all_workers_or_of_none(tmp_path: Path) -> None:
    async with (
        Origin(answer(b"one")) as one,
        Origin(answer(b"two")) as two,
        Program(tmp_path, values(one)) as program,
        admin(program) as asking,
    ):
        await ask_often(program)
        program.configure(values(one) | {"live": {"url": "nonsense"}})
        program.signal(signal.SIGHUP)
        await program.wait_said("the old one stays in force")
        program.configure(values(two, workers=3))
        program.signal(signal.SIGHUP)
        assert "workers was changed" in await program.wait_said("only a restart applies it")
        await program.wait_said("configuration 2 is in force")
        asked = len(one.requests)
        await ask_often(program)
        assert (len(one.requests), len(two.requests)) == (asked, 160)
        books = await metrics(asking)
        assert books["shadowproxy_config_generation"] == 2
        assert books["shadowproxy_config_reloads_total"] == 2
        assert (await asking.get("/config")).json()["live"]["url"] == two.url
        assert len(workers(program)) == 2
        os.kill(workers(program)[0], signal.SIGKILL)  # the one that comes after has the new configuration as well
        await program.wait_said("has ended")
        await until(lambda: len(workers(program)) == 2)
        await ask_often(program)
        assert len(one.requests) == asked
        assert await program.stop() == 0


class Unwilling:
    """A worker that is ready for a new configuration, and then cannot take it on."""

    def __init__(self, number: int, *, refuses: bool) -> None:
        self.number = number
        self.calls = self
        self.runs = True
        self.refuses = refuses
        self.killed = False

    async def call(self, what: str, *_: object, **__: object) -> None:
        if what == "adopt" and self.refuses:
            raise CallFailed("adopt failed: a defect in the proxy; its log says more")

    def kill_now(self) -> None:
        self.killed = True


async def test_a_worker_that_cannot_take_a_reload_on_is_killed_to_be_started_under_it(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    file = tmp_path / "config.yaml"
    settings = {"workers": 2, "live": {"url": "http://127.0.0.1:9"}, "log": {"path": str(tmp_path / "log")}}
    file.write_text(json.dumps(settings))
    supervisor = Supervisor(read_specs(file), file, OperatorLogSettings())
    willing, unwilling = each = Unwilling(0, refuses=False), Unwilling(1, refuses=True)
    for slot, worker in zip(supervisor._lives, each, strict=True):
        slot.child = cast(Any, worker)
    file.write_text(json.dumps(settings | {"drain": "7s"}))
    await supervisor._adopt(read_specs(file))
    assert supervisor.specs.program.drain == 7
    assert (willing.killed, unwilling.killed) == (False, True)
    (line,) = caplog.messages
    assert line.startswith("worker 1 cannot apply the new configuration and is killed: adopt failed: a defect")


async def test_a_capture_that_no_worker_could_hold_is_not_taken_on_while_it_runs(tmp_path: Path) -> None:
    async with Origin(answer(b"1")) as live, Program(tmp_path, values(live)) as program:
        limits = {"capture": "8MiB", "memory": "12MiB"}
        program.configure(values(live, workers=1, limits=limits))
        program.signal(signal.SIGHUP)
        assert "capture must not be larger" in await program.wait_said("limits: ")
        assert await program.stop() == 0


async def test_workers_stop_cleanly_when_their_supervisor_is_killed(tmp_path: Path) -> None:
    async with Origin(answer(b"1")) as live, Origin(answer(b"2")) as shadow:
        async with Program(tmp_path, values(live, shadow)) as program:
            left = workers(program)
            await ask_often(program)
            program.signal(signal.SIGKILL)
            try:
                await until(lambda: not any(Path(f"/proc/{pid}").exists() for pid in left))
            finally:
                for pid in left:
                    with contextlib.suppress(ProcessLookupError):
                        os.kill(pid, signal.SIGKILL)
            assert await program.ended() == -signal.SIGKILL
            with pytest.raises(ConnectionError):
                await Caller.to(program.address)
        assert len(program.records()) == 160
    assert sum("the supervisor has ended, this worker stops" in line for line in program.said) == 2
    assert sum("the supervisor has ended, this recorder stops" in line for line in program.said) == 1


@pytest.mark.timing
async def test_a_second_signal_hurries_all_workers(tmp_path: Path) -> None:
    async with Origin(answer(b"1")) as live, Origin(silent) as shadow:
        hung = {"shadows": {"s": {"url": shadow.url, "timeout": "1h"}}, "drain": "1h"}
        async with Program(tmp_path, values(live) | hung) as program:
            await ask_often(program, callers=4, times=1)
            program.signal(signal.SIGTERM)
            await program.wait_said("stopping")
            began = time.monotonic()
            program.signal(signal.SIGTERM)
            assert await program.ended() == 0
            assert time.monotonic() - began < 5
        assert {record.shadows["s"].outcome for record in program.records()} == {Outcome.SHUTDOWN}


async def test_a_worker_that_is_told_to_stop_by_itself_ends_in_order_and_is_started_again(tmp_path: Path) -> None:
    async with Origin(answer(b"1")) as live, Program(tmp_path, values(live)) as program, admin(program) as asking:
        await ask_often(program)
        os.kill(workers(program)[0], signal.SIGTERM)
        assert "status 0" in await program.wait_said("has ended")
        async with asyncio.timeout(20):
            while (books := await metrics(asking))["shadowproxy_worker_restarts_total"] != 1:
                pass
        assert books["shadowproxy_requests_total"] == books["shadowproxy_records_written_total"] == 160
        assert await program.stop() == 0
        assert len(program.records()) == 160


async def test_budgets_are_kept_by_all_workers_together(tmp_path: Path) -> None:
    """Also by one that is started again: what the one before had used stays used."""
    spent = {"requests": {"used": 11, "allowed": 11}, "tokens": None, "cost": None, "seconds_left": None}
    async with Origin(answer(b"1")) as live, Origin(answer(b"2")) as shadow:
        given = {"shadows": {"s": {"url": shadow.url, "budget": {"requests": 11}}}}
        async with Program(tmp_path, values(live) | given) as program, admin(program) as asking:

            async def budget() -> object:
                return (await asking.get("/shadows")).json()["shadows"]["s"]["budget"]

            await ask_often(program)
            async with asyncio.timeout(5):
                while await budget() != spent:  # live processes report a few times a second
                    pass
            os.kill(workers(program)[0], signal.SIGTERM)
            await program.wait_said("has ended")
            async with asyncio.timeout(20):
                while await budget() != spent:  # one worker's share is not told while it is not there
                    pass
            await ask_often(program)
            await asyncio.sleep(0.5)
            assert await budget() == spent
            assert await program.stop() == 0
    assert len(shadow.requests) == 11


async def test_tokens_that_were_used_stay_used_though_the_worker_is_started_again(tmp_path: Path) -> None:
    usage = answer(b'{"usage": {"prompt_tokens": 1, "completion_tokens": 9}}')
    spent = {"requests": None, "tokens": {"used": 20, "allowed": 20}, "cost": None, "seconds_left": None}
    async with Origin(answer(b"1")) as live, Origin(usage) as shadow:
        given = {"shadows": {"s": {"url": shadow.url, "in_flight": 1, "budget": {"tokens": 20}}}, "workers": 1}
        async with Program(tmp_path, values(live) | given) as program, admin(program) as asking:

            async def budget() -> object:
                return (await asking.get("/shadows")).json()["shadows"]["s"]["budget"]

            await ask_often(program)
            async with asyncio.timeout(5):
                while await budget() != spent:  # live processes report a few times a second
                    pass
            os.kill(workers(program)[0], signal.SIGTERM)
            await program.wait_said("has ended")
            async with asyncio.timeout(20):
                while await budget() != spent:
                    pass
            await ask_often(program)
            assert await program.stop() == 0
    assert len(shadow.requests) == 2


async def test_the_latest_records_of_all_workers_are_told_newest_first(tmp_path: Path) -> None:
    async with (
        Origin(answer(b"1")) as live,
        Program(tmp_path, values(live)) as program,
        admin(program) as asking,
    ):
        told: list[dict[str, Any]] = []
        sent = 0
        async with asyncio.timeout(20):
            # On a busy machine one of them may take every connection at first.
            while {each["proxy"].rpartition("/")[2] for each in told} != {"0", "1"}:
                await ask_often(program, callers=4, times=5)
                sent += 20
                while len(told := (await asking.get("/exchanges?limit=500")).json()["exchanges"]) < sent:
                    pass
        assert len({each["record"] for each in told}) == sent
        await ask_often(program, callers=1, times=1)
        async with asyncio.timeout(5):
            while (newest := (await asking.get("/exchanges?limit=1")).json()["exchanges"]) == told[:1]:
                pass
        assert newest[0]["at"] > max(each["at"] for each in told)
        told = [*newest, *told]
        assert (await asking.get("/exchanges?limit=3")).json()["exchanges"] == told[:3]
        for each in told:
            assert (await asking.get(f"/exchanges/{each['record']}")).json() == each
        assert (await asking.post("/shadows/nobody/pause", headers=CHANGE)).status_code == 404
        assert await program.stop() == 0


async def test_each_line_of_a_worker_says_which_it_is(tmp_path: Path) -> None:
    async with (
        Origin(answer(b"1")) as live,
        Origin(answer(b"2")) as shadow,
        Program(tmp_path, values(live, shadow)) as program,
        admin(program) as asking,
    ):
        await asking.post("/shadows/s/pause", headers=CHANGE)
        await until(lambda: sum("is paused" in line for line in program.said) == 2)
        said = [json.loads(line) for line in program.said if "is paused" in line]
        assert {each["worker"] for each in said} == {0, 1}
        assert await program.stop() == 0


async def refused(tmp_path: Path, given: dict[str, Any]) -> str:
    """The one line with which it does not start."""
    file = tmp_path / "config.yaml"
    file.write_text(json.dumps({"workers": 2, "admin": None, "live": {"url": "http://127.0.0.1:1"}} | given))
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-m", "shadowproxy", "serve", "-c", str(file), stderr=asyncio.subprocess.PIPE
    )
    _, said = await asyncio.wait_for(process.communicate(), 30)
    assert process.returncode == 2
    told = [line for line in said.decode().splitlines() if "no shadows" not in line]
    assert len(told) == 1, told
    return told[0]


async def test_a_port_in_use_is_one_line_and_status_2(tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        where = f"127.0.0.1:{taken.getsockname()[1]}"
        assert f"cannot listen on {where}" in await refused(
            tmp_path, {"listen": where, "log": {"path": str(tmp_path / "log")}}
        )


@pytest.mark.parametrize(
    ("given", "word"),
    [
        ({"limits": {"memory": "15MiB"}}, "limits: capture must not be larger than memory / workers"),
        ({"workers": 0}, "workers"),
    ],
)
async def test_what_workers_cannot_keep_to_is_refused(given: dict[str, Any], word: str, tmp_path: Path) -> None:
    assert word in await refused(tmp_path, given)


class Connected:
    """A process that is there, and remembers the sockets that it is given."""

    def __init__(self) -> None:
        self.runs = True
        self.given: list[socket.socket] = []

    def give(self, name: str, given: socket.socket) -> bool:
        assert name == "0.0"
        self.given.append(given)
        return True


async def test_a_live_process_that_has_lost_the_recorders_connection_gets_another_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(supervising, "RECONNECT", 0.01)
    values = {"live": {"url": "http://127.0.0.1:9"}, "log": {"path": str(tmp_path / "log")}}
    supervisor = Supervisor(specify(from_values(values)), None, OperatorLogSettings())
    live, recorder = Connected(), Connected()
    supervisor._lives[0].child, supervisor._recorder.child = cast(Any, live), cast(Any, recorder)
    await supervisor._disconnected(0)
    await until(lambda: bool(live.given))
    one, other = live.given[0], recorder.given[0]
    with one, other:
        one.sendall(b"an exchange")
        assert other.recv(100) == b"an exchange"
    await supervisor._disconnected(0)
    supervisor._recorder.child = None  # it has ended: its successor gets a connection in any case
    await asyncio.sleep(0.1)
    assert len(live.given) == 1
