"""The companion as a program: how it starts, whom it outlives, and how it ends."""

import asyncio
import contextlib
import math
import os
import signal
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
from test_candidates import children, is_running
from test_intake import PATIENCE, Application, begin, call, described, end, given, records

pytestmark = pytest.mark.slow


@asynccontextmanager
async def running(directory: Path, **keys: Any) -> AsyncIterator[asyncio.subprocess.Process]:
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-m", "shadowproxy.serve.start.companion", str(described(directory, **keys)), "info",
        stderr=asyncio.subprocess.PIPE,
    )  # fmt: skip
    try:
        async with asyncio.timeout(PATIENCE):
            while not (directory / "intake").exists():  # noqa: ASYNC110
                await asyncio.sleep(0.005)
        yield process
    finally:
        with contextlib.suppress(ProcessLookupError):
            process.kill()
        await process.wait()


async def ended(process: asyncio.subprocess.Process) -> tuple[int, str]:
    """Its exit status, and what it said."""
    assert process.stderr is not None
    async with asyncio.timeout(PATIENCE):
        said = await process.stderr.read()
        return await process.wait(), said.decode()


def live_of(process: asyncio.subprocess.Process) -> int:
    [live] = [
        pid
        for pid in children(process.pid)
        if b"shadowproxy.serve.workers.live" in Path(f"/proc/{pid}/cmdline").read_bytes().split(b"\0")
    ]
    return live


async def test_a_companion_that_is_told_to_stop_serves_who_is_connected_to_the_end(tmp_path: Path) -> None:
    """A service manager tells every process of a service to stop: the application has not finished yet."""
    async with running(tmp_path, shadows={"f": {"candidate": True}}) as process:
        async with Application(tmp_path / "intake") as application:
            application.send(given(math.sqrt), call(1, 4.0))
            assert await application.next() is not None
            assert os.getpgid(process.pid) == process.pid, "Ctrl-C is not for it"
            process.send_signal(signal.SIGTERM)
            application.send(end(1, body=b"2.0"), begin(2), end(2))
            await application.flush()
            [first, second] = records(tmp_path)
        status, said = await ended(process)
    assert (status, "stopped: 2 requests, 2 records in the log, 0 lost" in said) == (0, True), said
    assert {each["request"]["method"]: each["shadows"].get("f", {}).get("verdict") for each in (first, second)} == {
        "CALL": "match",
        "POST": None,
    }
    assert not (tmp_path / "intake").exists()


@pytest.mark.soak
async def test_a_live_process_that_is_killed_is_replaced_and_found_at_the_same_place(tmp_path: Path) -> None:
    async with running(tmp_path, shadows={"f": {"candidate": True}}) as process:
        async with Application(tmp_path / "intake") as application:
            application.send(given(math.sqrt), call(1, 4.0))
            await application.next()
            application.send(end(1, body=b"2.0"))
            await application.flush()
            application.send(begin(2))
            live = live_of(process)
            callables = children(live)
            os.kill(live, signal.SIGKILL)
            while await application.next() is not None:
                pass
        async with Application(tmp_path / "intake") as application:
            application.send(given(math.sqrt), call(3, 4.0), end(3, body=b"2.0"))
            await application.flush()
            process.send_signal(signal.SIGTERM)
        status, said = await ended(process)
    assert status == 0
    assert not any(map(is_running, callables)), "the kernel ends what a killed process had started"
    assert "stopped: at least 2 requests" in said or "stopped: at least 1 requests" in said, said
    assert records(tmp_path)[-1]["shadows"]["f"]["verdict"] == "match"


async def test_a_description_that_cannot_be_used_ends_the_start(tmp_path: Path) -> None:
    file = described(tmp_path, config="shadows: {}\nlive: {url: http://a}")
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-m", "shadowproxy.serve.start.companion", str(file), stderr=asyncio.subprocess.PIPE
    )
    status, said = await ended(process)
    assert status == 2
    assert said.startswith(f"shadowproxy: {tmp_path}/shadow.yaml:2: live: is the application itself")
    assert said.count("\n") == 1


@pytest.mark.soak
async def test_a_companion_ends_by_itself_once_its_users_were_killed(tmp_path: Path) -> None:
    """And it leaves alone what another one has put in its place."""
    user = f"""
import socket, sys, time
sys.path.insert(0, {str(Path(__file__).parent)!r})
import test_intake as t
connection = socket.socket(socket.AF_UNIX)
connection.connect({str(tmp_path / "intake")!r})
connection.sendall(t.Application(None)._hello + t.begin(1))
print(connection.recv(1000) and "ready", flush=True)
time.sleep(60)
"""
    async with running(tmp_path) as process:
        using = await asyncio.create_subprocess_exec(sys.executable, "-c", user, stdout=asyncio.subprocess.PIPE)
        assert using.stdout is not None
        assert await using.stdout.readline() == b"ready\n"
        using.kill()
        await using.wait()
        async with asyncio.timeout(PATIENCE):
            while (tmp_path / "intake").exists():  # noqa: ASYNC110
                await asyncio.sleep(0.01)
        (tmp_path / "intake").write_text("another one's")
        status, said = await ended(process)
    assert (status, "1 requests, 1 records in the log" in said) == (0, True), said
    assert (tmp_path / "intake").read_text() == "another one's"
    assert records(tmp_path)[0]["live"]["outcome"] == "incomplete"
