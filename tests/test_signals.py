"""No signal but KILL, QUIT and ABRT ends a process that serves without a drain, from its first moment to its last."""

import asyncio
import json
import os
import signal
import socket
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import pytest
from fakes import Origin, answer
from program import PATIENCE, Program

from shadowproxy.serve.system import outputs, signals

pytestmark = pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="needs to see a process's signals")

GET = b"GET / HTTP/1.1\r\nHost: h\r\n\r\n"
NOT_STOPPING = (*sorted(signals.IGNORED), signal.SIGUSR1, signal.SIGPIPE)


def children(pid: int, kind: str = "") -> list[int]:
    """The process IDs of its processes: of the live ones, or of the recorder, where that is the kind."""
    found = []
    for each in map(int, Path(f"/proc/{pid}/task/{pid}/children").read_text().split()):
        with suppress(OSError):  # it has ended
            if f"serve.workers.{kind}" in Path(f"/proc/{each}/cmdline").read_text() or not kind:
                found.append(each)
    return found


def mask(pid: int, name: str) -> int:
    """What of a process's signals: SigBlk are held back, SigCgt heard, SigIgn ignored."""
    lines = dict(line.split(":", 1) for line in Path(f"/proc/{pid}/status").read_text().splitlines())
    return int(lines[name], 16)


def has(pid: int, name: str, number: signal.Signals) -> bool:
    return bool(mask(pid, name) & 1 << (number - 1))


async def until(holds: Callable[[], bool]) -> None:
    async with asyncio.timeout(PATIENCE):
        while not holds():  # noqa: ASYNC110  # nothing tells of it
            await asyncio.sleep(0.001)


@pytest.mark.parametrize("workers", [1, 2])
async def test_signals_that_are_not_for_stopping_leave_it_serving(tmp_path: Path, workers: int) -> None:
    async with Origin(answer(b"live")) as live:
        async with Program(tmp_path, {"workers": workers, "live": {"url": live.url}}) as program:
            processes = [program.pid, *children(program.pid)]
            assert len(processes) == 2 + workers
            for pid in processes:
                for number in NOT_STOPPING if pid == program.pid else (*NOT_STOPPING, signal.SIGHUP):
                    os.kill(pid, number)
            for _ in range(10):
                assert (await program.ask(GET)).body == b"live"
            assert [program.pid, *children(program.pid)] == processes
            assert await program.stop() == 0
        assert len(program.records()) == 10
        assert program.told("worker_ended") == []
        assert program.told("output_reopened") == []  # a pipe has no name


async def starting(tmp_path: Path, workers: int, **values: Any) -> asyncio.subprocess.Process:
    given = {"listen": "127.0.0.1:0", "admin": None, "workers": workers, "log": {"path": str(tmp_path / "log")}}
    (tmp_path / "config.yaml").write_text(json.dumps(given | values))
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-m", "shadowproxy", "serve", "-c", str(tmp_path / "config.yaml"),
        stdin=asyncio.subprocess.DEVNULL, stderr=asyncio.subprocess.PIPE,
    )  # fmt: skip
    await until(lambda: has(process.pid, "SigCgt", signal.SIGTERM))
    return process


@pytest.mark.parametrize("workers", [1, 2])
async def test_signals_that_are_not_for_stopping_leave_it_starting(tmp_path: Path, workers: int) -> None:
    async with Origin(answer()) as live:
        process = await starting(tmp_path, workers, live={"url": live.url})
        for number in (*NOT_STOPPING, signal.SIGHUP):
            process.send_signal(number)
        assert process.stderr is not None
        line = b""
        async with asyncio.timeout(PATIENCE):
            while b"listening on" not in line:
                line = await process.stderr.readline()
                assert line, "it ended"
            process.terminate()
            await process.communicate()
    assert process.returncode == 0


@pytest.mark.timing
@pytest.mark.parametrize("workers", [1, 2])
async def test_a_stop_while_it_starts_is_clean(tmp_path: Path, workers: int) -> None:
    async with Origin(answer()) as live:
        for delay in (0.0, 0.05, 0.1, 0.2, 0.4, 0.8):
            process = await starting(tmp_path, workers, live={"url": live.url})
            await asyncio.sleep(delay)  # nothing tells how far it is: wherever that finds it
            process.terminate()
            _, said = await asyncio.wait_for(process.communicate(), PATIENCE)
            assert process.returncode == 0, said
            assert b"Traceback" not in said


def test_a_stop_while_it_starts_raises_nothing() -> None:
    """An exception raised inside an extension module's import ended one start in 150 with a segmentation fault."""
    code = """
import os, signal
from shadowproxy.serve.system import signals
signals.prepare()
try:
    os.kill(os.getpid(), signal.SIGTERM)
    signal.sigtimedwait([], 10)
except BaseException:
    os._exit(1)
"""
    ended = subprocess.run([sys.executable, "-c", code], capture_output=True, timeout=PATIENCE)
    assert (ended.returncode, ended.stderr) == (0, b"")


@pytest.mark.timing
async def test_a_stop_while_a_file_hangs_its_start_is_clean(tmp_path: Path) -> None:
    """The configuration is a pipe that nobody writes into."""
    os.mkfifo(tmp_path / "pipe")
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-m", "shadowproxy", "serve", "-c", str(tmp_path / "pipe"), stderr=asyncio.subprocess.PIPE
    )
    await until(lambda: has(process.pid, "SigCgt", signal.SIGTERM))
    await asyncio.sleep(0.3)  # for it to open the pipe, which nothing tells of
    process.terminate()
    _, said = await asyncio.wait_for(process.communicate(), PATIENCE)
    assert said == b""
    assert process.returncode == 0


@pytest.mark.parametrize("workers", [1, 2])
async def test_a_service_manager_that_stops_every_process_at_once_ends_it_cleanly(tmp_path: Path, workers: int) -> None:
    """Also while it starts: a worker that has ended by itself is no failed start then."""
    async with Origin(answer()) as live:
        for begun in (True, False):
            process = await starting(tmp_path, workers, live={"url": live.url})
            if begun:
                assert process.stderr is not None
                await asyncio.wait_for(process.stderr.readline(), PATIENCE)
            else:
                await until(lambda: len(children(process.pid)) == workers + 1)  # noqa: B023  # called at once
                for pid in children(process.pid):
                    await until(lambda: has(pid, "SigBlk", signal.SIGTERM) or has(pid, "SigCgt", signal.SIGTERM))  # noqa: B023
            for pid in [process.pid, *children(process.pid)]:
                with suppress(ProcessLookupError):
                    os.kill(pid, signal.SIGTERM)
            _, said = await asyncio.wait_for(process.communicate(), PATIENCE)
            assert process.returncode == 0, said
            assert b"Traceback" not in said


async def test_what_a_terminal_sends_to_its_foreground_group_is_for_the_supervisor_alone(tmp_path: Path) -> None:
    """Ctrl-C is. No process has a session of its own, which Linux would schedule apart from the others."""
    async with Origin(answer()) as live, Program(tmp_path, {"live": {"url": live.url}}) as program:
        await program.ask(GET)
        processes = children(program.pid)
        assert len(processes) == 2
        for pid in processes:
            assert os.getsid(pid) == os.getsid(program.pid)
            assert os.getpgid(pid) == pid
            assert has(pid, "SigIgn", signal.SIGTTOU)  # else `stty tostop` would stop it at its first line
        assert await program.stop() == 0


@pytest.mark.timing
@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
@pytest.mark.parametrize("workers", [1, 2])
async def test_being_told_to_stop_again_and_again_to_the_very_end_ends_with_0(
    tmp_path: Path, workers: int, number: signal.Signals
) -> None:
    async with Origin(answer()) as live:
        async with Program(tmp_path, {"workers": workers, "live": {"url": live.url}}) as program:
            await program.ask(GET)
            ended = asyncio.get_running_loop().create_task(program.ended())
            while not ended.done():
                with suppress(ProcessLookupError):
                    os.kill(program.pid, number)
                await asyncio.sleep(0.0005)
            assert await ended == 0
        assert len(program.records()) == 1


async def test_a_worker_that_starts_is_not_ended_by_what_is_for_others(tmp_path: Path) -> None:
    async with Origin(answer()) as live:
        async with Program(tmp_path, {"workers": 2, "live": {"url": live.url}}) as program:
            before = children(program.pid)
            os.kill(program.workers[0], signal.SIGKILL)
            await until(lambda: bool({*children(program.pid)} - {*before}))
            (new,) = {*children(program.pid)} - {*before}
            # What has been forked and is not the worker's program yet holds all of them back.
            command = Path(f"/proc/{new}/cmdline")
            await until(lambda: b"serve.worker" in command.read_bytes() and has(new, "SigBlk", signal.SIGUSR1))
            for number in (*NOT_STOPPING, signal.SIGHUP):
                os.kill(new, number)
            await until(lambda: not has(new, "SigBlk", signal.SIGUSR1))  # it hears by now
            assert (await program.ask(GET)).status == 200
            assert new in children(program.pid)
            assert await program.stop() == 0
        assert len(program.told("worker_ended")) == 1


# --- log rotation -------------------------------------------------------------------------------------------------


@contextmanager
def into_files(tmp_path: Path, workers: int, live: str, log: str, *more: str) -> Iterator[subprocess.Popen[bytes]]:
    given = {"listen": "127.0.0.1:0", "admin": None, "workers": workers, "live": {"url": live}, "log": {"path": log}}
    (tmp_path / "config.yaml").write_text(json.dumps(given))
    words = [sys.executable, "-m", "shadowproxy", "serve", "-c", str(tmp_path / "config.yaml"), "--access-log", *more]
    with (tmp_path / "err").open("ab") as err, (tmp_path / "out").open("ab") as out:
        process = subprocess.Popen(words, stderr=err, stdout=out)
    try:
        yield process
    finally:
        process.kill()
        process.wait()


def events(file: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in file.read_text().splitlines()] if file.exists() else []


def told(file: Path, event: str) -> list[dict[str, Any]]:
    return [each for each in events(file) if each.get("event") == event]


async def ask(address: str, times: int) -> None:
    host, port = address.removeprefix("http://").split(":")
    for _ in range(times):
        reader, writer = await asyncio.open_connection(host, int(port))
        writer.write(b"GET / HTTP/1.1\r\nHost: h\r\nConnection: close\r\n\r\n")
        assert b" 200 " in await reader.readline()
        await reader.read()
        writer.close()
        await writer.wait_closed()


@pytest.mark.parametrize("workers", [1, 2])
async def test_usr1_opens_the_operators_log_again_where_it_is_a_file(tmp_path: Path, workers: int) -> None:
    err, moved = tmp_path / "err", tmp_path / "err.1"
    async with Origin(answer()) as live:
        with into_files(tmp_path, workers, live.url, str(tmp_path / "log"), "--log-level", "debug") as process:
            await until(lambda: bool(told(err, "started")))
            (address,) = (each["listen"] for each in told(err, "started"))
            err.chmod(0o640)
            err.rename(moved)
            await ask(address, 4)
            await until(lambda: len(told(moved, "access")) == 4)
            process.send_signal(signal.SIGUSR1)
            processes = 2 + workers
            await until(lambda: len(told(err, "output_reopened")) == 2 * processes)
            for level in ("info", "debug"):  # to operators, one process says it for all
                names = [each["path"] for each in told(err, "output_reopened") if each["level"] == level]
                times = 1 if level == "info" else processes - 1
                assert sorted(names) == sorted([str(err), str(tmp_path / "out")] * times)
            assert err.stat().st_mode & 0o777 == 0o640
            await ask(address, 4)
            await until(lambda: len(told(err, "access")) == 4)
            # One that is started later has the new file too, and reopens it by the first name.
            os.kill(children(process.pid, "live")[0], signal.SIGKILL)
            await until(lambda: bool(told(err, "worker_ended")))
            await until(lambda: len(children(process.pid)) == workers + 1)
            await ask(address, 4)
            process.terminate()
            await asyncio.to_thread(process.wait, PATIENCE)
            assert process.returncode == 0
    assert told(err, "stopped")
    assert len(told(moved, "access")) == 4
    assert not told(moved, "stopped")


async def test_records_on_standard_output_go_on_in_the_new_file_whole(tmp_path: Path) -> None:
    out, moved = tmp_path / "out", tmp_path / "out.1"
    async with Origin(answer()) as live:
        with into_files(tmp_path, 1, live.url, "-") as process:
            await until(lambda: bool(told(tmp_path / "err", "started")))
            (address,) = (each["listen"] for each in told(tmp_path / "err", "started"))
            await ask(address, 3)
            await until(lambda: len(events(out)) == 3)
            out.rename(moved)
            process.send_signal(signal.SIGUSR1)
            await until(out.exists)
            await ask(address, 2)
            process.terminate()
            await asyncio.to_thread(process.wait, PATIENCE)
    assert (len(events(moved)), len(events(out))) == (3, 2)


async def test_a_file_that_cannot_be_opened_again_is_written_on(tmp_path: Path) -> None:
    err = tmp_path / "into" / "err"
    err.parent.mkdir()
    (tmp_path / "err").symlink_to(err)
    async with Origin(answer()) as live:
        with into_files(tmp_path, 1, live.url, str(tmp_path / "log")) as process:
            await until(lambda: bool(told(err, "started")))
            err.parent.rename(tmp_path / "gone")
            process.send_signal(signal.SIGUSR1)
            await until(lambda: bool(told(tmp_path / "gone" / "err", "output_not_reopened")))
            process.terminate()
            await asyncio.to_thread(process.wait, PATIENCE)
            assert process.returncode == 0
    assert told(tmp_path / "gone" / "err", "stopped")


def test_only_what_is_a_file_with_a_name_is_opened_again(tmp_path: Path) -> None:
    script = (
        "from shadowproxy.serve.system import outputs; import sys; print(outputs.find(), file=open(sys.argv[1], 'w'))"
    )

    def found(redirections: str) -> str:
        answer = tmp_path / "answer"
        words = f'cd {tmp_path}; exec {sys.executable} -c "$0" "$1" {redirections}'
        subprocess.run(["sh", "-c", words, script, str(answer)], check=True)
        return answer.read_text().strip()

    assert found(">o 2>e") == str({1: f"{tmp_path}/o", 2: f"{tmp_path}/e"})
    assert found(">/dev/null 2>&1") == "{}"
    assert found(">&- 2>>e") == str({2: f"{tmp_path}/e"})
    assert found("2>gone >o; rm -f gone") == str({1: f"{tmp_path}/o", 2: f"{tmp_path}/gone"})
    assert outputs.find() is not None


# --- a start without one of the three standard streams --------------------------------------------------------------


def accepts(path: Path) -> bool:
    """Whether somebody listens there: the path is there a moment earlier."""
    with socket.socket(socket.AF_UNIX) as probe:
        return probe.connect_ex(str(path)) == 0


async def serve_once(directory: Path, log: str, redirections: str) -> int | None:
    """Start the program so, have one request answered, and stop it. Returns its exit status."""
    path = directory / "socket"
    async with Origin(answer()) as live:
        given = {"listen": f"unix:{path}", "admin": None, "live": {"url": live.url}, "log": {"path": log}}
        (directory / "config.yaml").write_text(json.dumps(given))
        words = f"exec {sys.executable} -m shadowproxy serve -c {directory}/config.yaml {redirections}"
        process = await asyncio.create_subprocess_exec("sh", "-c", words)
        try:
            await until(lambda: accepts(path))
            reader, writer = await asyncio.open_unix_connection(path)
            writer.write(GET)
            assert b" 200 " in await reader.readline()
            writer.close()
            process.terminate()
            return await asyncio.wait_for(process.wait(), PATIENCE)
        finally:
            with suppress(ProcessLookupError):
                process.kill()


@pytest.mark.parametrize("closed", ["<&-", ">&-", "2>&-", "<&- >&- 2>&-"])
async def test_without_standard_input_output_or_error_it_serves_and_ends_in_order(tmp_path: Path, closed: str) -> None:
    """The first files that it opens would get their numbers, and uvloop aborts where it closes one of the three."""
    log = tmp_path / "log"
    assert await serve_once(tmp_path, str(log), closed) == 0
    (segment,) = log.glob("*.jsonl")
    assert len(segment.read_text().splitlines()) == 1


async def test_records_for_a_standard_output_that_was_closed_are_counted_as_lost(tmp_path: Path) -> None:
    err = tmp_path / "err"
    assert await serve_once(tmp_path, "-", f">&- 2>{err}") == 0
    (stopped,) = told(err, "stopped")
    assert (stopped["requests"], stopped["written"], stopped["lost"]) == (1, 0, 1)
