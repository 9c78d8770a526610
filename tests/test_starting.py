"""The start: three processes at once, of which none stays behind where it fails or is stopped."""

import asyncio
import json
import os
import signal
import socket
import sys
import uuid
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager, suppress
from pathlib import Path
from typing import Any

import pytest
from fakes import Origin, answer
from program import PATIENCE

from shadowproxy import cli
from shadowproxy.cli.environment import options_of
from shadowproxy.config import ConfigError, from_values
from shadowproxy.config.environment import CONFIG_FILE
from shadowproxy.serve.callers import board
from shadowproxy.serve.sidecar.specify import specify
from shadowproxy.serve.start import words as plain
from shadowproxy.serve.system import signals
from shadowproxy.serve.telemetry.log_settings import OperatorLogSettings
from shadowproxy.serve.workers import supervisor as supervising
from shadowproxy.serve.workers.supervisor import Supervisor

MARK = "SHADOWPROXY_TEST_START"


async def until(holds: Callable[[], object]) -> None:
    async with asyncio.timeout(PATIENCE):
        while not holds():  # noqa: ASYNC110  # nothing tells of it
            await asyncio.sleep(0.005)


def accepts(path: Path) -> bool:
    """Whether somebody listens there: the path is there a moment earlier."""
    with socket.socket(socket.AF_UNIX) as probe:
        return probe.connect_ex(str(path)) == 0


async def asked(path: Path) -> bytes:
    """The response to a request over a Unix socket."""
    reader, writer = await asyncio.open_unix_connection(str(path))
    writer.write(b"GET / HTTP/1.1\r\nHost: h\r\nConnection: close\r\n\r\n")
    response = await asyncio.wait_for(reader.read(), PATIENCE)
    writer.close()
    return response


class Start:
    """A program that starts. Its processes, and theirs, are found by a mark in their environment."""

    def __init__(self, process: asyncio.subprocess.Process, mark: str) -> None:
        self.process = process
        self._mark = f"{MARK}={mark}".encode()

    def others(self) -> dict[int, str]:
        """The command lines of its other processes."""
        found = {}
        for each in Path("/proc").glob("[0-9]*"):
            with suppress(OSError):  # it has ended
                if self._mark in (each / "environ").read_bytes().split(b"\0") and int(each.name) != self.process.pid:
                    found[int(each.name)] = (each / "cmdline").read_text()
        return found

    def live(self) -> list[int]:
        return [pid for pid, command in self.others().items() if "serve.workers.live" in command]

    def readers(self) -> list[int]:
        """Those that read the configuration: forks, with the command's own line."""
        return [pid for pid, command in self.others().items() if "shadowproxy\0serve\0" in command]

    async def ended(self) -> tuple[int, str]:
        """Its exit status and what it said, once none of its processes is left."""
        _, said = await asyncio.wait_for(self.process.communicate(), PATIENCE)
        await until(lambda: not self.others())
        assert self.process.returncode is not None
        return self.process.returncode, said.decode()


@asynccontextmanager
async def started(
    *words: str,
    program: Sequence[str] = ("-m", "shadowproxy", "serve"),
    before: Callable[[], object] | None = None,
) -> AsyncIterator[Start]:
    """`before` runs in the process first."""
    mark = uuid.uuid4().hex
    process = await asyncio.create_subprocess_exec(
        sys.executable, *program, *words,
        env={**os.environ, MARK: mark}, preexec_fn=before,
        stdin=asyncio.subprocess.DEVNULL, stdout=asyncio.subprocess.DEVNULL, stderr=asyncio.subprocess.PIPE,
    )  # fmt: skip
    start = Start(process, mark)
    try:
        yield start
    finally:
        for pid in (process.pid, *start.others()):
            with suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        await process.wait()


@asynccontextmanager
async def waiting(tmp_path: Path, before: Callable[[], object] | None = None) -> AsyncIterator[Start]:
    """A start whose configuration does not come: it is a pipe that nobody writes into. Every process runs by then."""
    os.mkfifo(tmp_path / "pipe")
    async with started("-c", str(tmp_path / "pipe"), before=before) as start:
        await until(lambda: start.live() and start.readers())
        await until(lambda: _handles_both(start.process.pid))
        yield start


def _handles_both(pid: int) -> bool:
    """Whether it handles SIGINT and SIGTERM: from its first moments on."""
    (line,) = [each for each in Path(f"/proc/{pid}/status").read_text().splitlines() if each.startswith("SigCgt")]
    return all(int(line.split()[1], 16) & 1 << (number - 1) for number in signals.STOPPING)


# --- stopped, or killed ----------------------------------------------------------------------------------------------


async def test_a_live_process_imports_its_modules_while_the_configuration_is_read(tmp_path: Path) -> None:
    async with Origin(answer(b"live")) as live, waiting(tmp_path) as start:
        (early,) = start.live()
        values = {"live": {"url": live.url}, "listen": f"unix:{tmp_path}/socket", "admin": None}
        content = json.dumps({**values, "log": {"path": str(tmp_path / "log")}})
        await asyncio.to_thread((tmp_path / "pipe").write_text, content)
        await until(lambda: accepts(tmp_path / "socket"))
        assert (await asked(tmp_path / "socket")).endswith(b"\r\n\r\nlive")
        assert start.live() == [early]
        assert start.readers() == []  # what read it has ended, with all that this took in memory
        start.process.terminate()
        status, _ = await start.ended()
        assert status == 0


@pytest.mark.parametrize(("number", "status"), [(signal.SIGTERM, 0), (signal.SIGINT, 130)])
async def test_a_signal_while_it_starts_leaves_no_process_behind(
    tmp_path: Path, number: signal.Signals, status: int
) -> None:
    async with waiting(tmp_path) as start:
        start.process.send_signal(number)
        assert await start.ended() == (status, "")


async def test_a_reader_that_is_killed_ends_the_start_with_a_line(tmp_path: Path) -> None:
    async with waiting(tmp_path) as start:
        os.kill(start.readers()[0], signal.SIGKILL)
        line = "shadowproxy: the process that reads the configuration has ended (SIGKILL)\n"
        assert await start.ended() == (1, line)


@pytest.mark.parametrize(("content", "status"), [("listen: [", 2), (None, 0)])
async def test_whoever_starts_it_may_ignore_the_end_of_children(
    tmp_path: Path, content: str | None, status: int
) -> None:
    """A process inherits that, and then cannot wait for its own: the start and each failure of it had a traceback."""
    values = {"live": {"url": "http://127.0.0.1:9"}, "listen": f"unix:{tmp_path}/socket", "admin": None}
    usable = json.dumps({**values, "log": {"path": str(tmp_path / "log")}})
    async with waiting(tmp_path, before=lambda: signal.signal(signal.SIGCHLD, signal.SIG_IGN)) as start:
        await asyncio.to_thread((tmp_path / "pipe").write_text, content or usable)
        if content is None:
            await until(lambda: accepts(tmp_path / "socket"))
            start.process.terminate()
        ended, said = await start.ended()
    assert "Traceback" not in said
    assert ended == status


async def test_a_live_process_that_is_killed_before_its_start_ends_the_start_with_a_line(tmp_path: Path) -> None:
    async with waiting(tmp_path) as start:
        os.kill(start.live()[0], signal.SIGKILL)
        values = {"live": {"url": "http://127.0.0.1:9"}, "listen": "127.0.0.1:0", "admin": None}
        content = json.dumps({**values, "log": {"path": str(tmp_path / "log")}})
        await asyncio.to_thread((tmp_path / "pipe").write_text, content)
        status, said = await start.ended()
        assert (status, said.splitlines()[-1]) == (2, "shadowproxy: worker 0 has ended")


async def test_a_supervisor_that_is_killed_while_it_starts_leaves_no_process_behind(tmp_path: Path) -> None:
    async with waiting(tmp_path) as start:
        start.process.kill()
        assert await start.ended() == (-signal.SIGKILL, "")


# --- failed ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("content", ["live: {url: ftp://h}", "listen: ["])
async def test_a_configuration_that_cannot_be_used_leaves_no_process_behind(tmp_path: Path, content: str) -> None:
    file = tmp_path / "config.yaml"
    file.write_text(content)
    async with started("-c", str(file)) as start:
        status, said = await start.ended()
    assert status == 2
    assert len(said.splitlines()) == 1
    assert said.startswith(f"shadowproxy: {file}:1: ")


@pytest.mark.parametrize("words", [["--no-such-option"], ["-c", "/nonexistent"], []])
async def test_a_command_line_that_cannot_be_used_leaves_no_process_behind(words: list[str]) -> None:
    async with started(*words) as start:
        status, said = await start.ended()
    assert status == 2
    assert said.startswith("shadowproxy: ")
    assert len(said.splitlines()) == 1


async def test_help_starts_nothing() -> None:
    async with started("--help") as start:
        assert await start.ended() == (0, "")


async def test_an_address_in_use_leaves_no_process_behind(tmp_path: Path) -> None:
    async with Origin(answer()) as other:
        address = other.url.removeprefix("http://")
        values = {"live": {"url": other.url}, "listen": address, "admin": None, "log": {"path": str(tmp_path / "log")}}
        (tmp_path / "config.yaml").write_text(json.dumps(values))
        async with started("-c", str(tmp_path / "config.yaml")) as start:
            status, said = await start.ended()
    assert (status, said.splitlines()[-1]) == (2, f"shadowproxy: cannot listen on {address}: the address is in use")


@pytest.mark.parametrize("given", ["pipe", "file"])
async def test_a_system_without_room_for_a_process_ends_the_start_with_a_line(tmp_path: Path, given: str) -> None:
    os.mkfifo(tmp_path / "pipe")
    (tmp_path / "file").write_text("live: {url: http://127.0.0.1:9}")
    program = f"""
import errno, os, sys
from shadowproxy.serve.start import split
from shadowproxy.serve.workers import begun

def launch(*_):
    raise OSError(errno.EAGAIN, os.strerror(errno.EAGAIN))

begun.launch = launch
sys.exit(split.main(["-c", {str(tmp_path / given)!r}]))
"""
    async with started(program=("-c", program)) as start:
        line = "shadowproxy: cannot start a process: Resource temporarily unavailable\n"
        assert await start.ended() == (2, line)


async def test_a_program_of_ones_own_serves_by_a_configuration(tmp_path: Path) -> None:
    program = """
import sys
from pathlib import Path
from shadowproxy import config
from shadowproxy.serve.run import run

file = Path(sys.argv[1])
sys.exit(run(config.load(file), file))
"""
    async with Origin(answer(b"live")) as live:
        values = {"live": {"url": live.url}, "listen": f"unix:{tmp_path}/socket", "admin": None}
        (tmp_path / "config.yaml").write_text(json.dumps({**values, "log": {"path": str(tmp_path / "log")}}))
        async with started(str(tmp_path / "config.yaml"), program=("-c", program)) as start:
            await until(lambda: accepts(tmp_path / "socket"))
            assert (await asked(tmp_path / "socket")).endswith(b"\r\n\r\nlive")
            start.process.terminate()
            status, said = await start.ended()
    assert status == 0
    assert json.loads(said.splitlines()[-1])["event"] == "stopped"
    (segment,) = (tmp_path / "log").glob("[!.]*")
    assert len(segment.read_bytes().splitlines()) == 1


# --- the recorder ----------------------------------------------------------------------------------------------------


async def test_callers_do_not_wait_for_the_recorder_to_start(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """And what they ask is recorded by it; the program says that it has started once the recorder has, too."""
    os.mkfifo(tmp_path / "gate")
    module = tmp_path / "gated_recorder.py"
    module.write_text(
        f"open({str(tmp_path / 'gate')!r}).read()\n"
        "import runpy; runpy.run_module('shadowproxy.serve.workers.recorder', run_name='__main__')\n"
    )
    monkeypatch.syspath_prepend(str(tmp_path))
    monkeypatch.setattr(supervising, "RECORDER", "gated_recorder")
    async with Origin(answer(b"live")) as live:
        values = {"live": {"url": live.url}, "listen": f"unix:{tmp_path}/socket", "admin": None}
        specs = specify(from_values({**values, "log": {"path": str(tmp_path / "log")}}))
        supervisor = Supervisor(specs, None, OperatorLogSettings())
        opening = asyncio.get_running_loop().create_task(supervisor.__aenter__())
        await until(lambda: accepts(tmp_path / "socket"))
        assert (await asked(tmp_path / "socket")).endswith(b"\r\n\r\nlive")
        assert not opening.done()
        assert not supervisor.accepts
        await asyncio.to_thread((tmp_path / "gate").write_text, "open")
        await opening
        assert supervisor.accepts
        await supervisor.__aexit__(None, None, None)
        assert supervisor.census().journal.written == 1


# --- the command line ------------------------------------------------------------------------------------------------


def by_click(words: list[str]) -> tuple[Path | None, OperatorLogSettings]:
    """What the command makes of it."""
    handed: list[tuple[Path | None, OperatorLogSettings]] = []
    cli.commands.main(
        ["serve", *words], standalone_mode=False, obj=lambda specs, file, settings: handed.append((file, settings))
    )
    return handed[0]


@pytest.mark.parametrize(
    "words",
    [
        ["-c", "FILE"],
        ["--config", "FILE"],
        ["-c", "FILE", "--log-level", "debug"],
        ["--log-level", "error", "-c", "FILE", "--log-level", "info"],
        ["--log-format", "json", "-c", "FILE"],
        ["-c", "FILE", "--log-format", "text", "--access-log"],
        ["-c", "other", "-c", "FILE"],
    ],
)
def test_a_plain_command_line_means_what_the_command_makes_of_it(
    tmp_path: Path, words: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in plain.VARIABLES:
        monkeypatch.delenv(name, raising=False)
    file = tmp_path / "config.yaml"
    file.write_text("live: {url: http://h}")
    words = [str(file) if word == "FILE" else word for word in words]
    assert plain.read(words, {}) == by_click(words)


@pytest.mark.parametrize(
    "words",
    [
        [],
        ["-c"],
        ["-c", ""],
        ["-c", "--access-log"],
        ["-cFILE"],
        ["--config=FILE"],
        ["--access-log"],
        ["-c", "FILE", "--log-level", "INFO"],
        ["-c", "FILE", "--log-level"],
        ["-c", "FILE", "--log-form", "json"],
        ["-c", "FILE", "--help"],
        ["-c", "FILE", "--"],
        ["-c", "FILE", "more"],
        ["-c", "FILE", "--live", "http://h"],
        ["--live", "http://h"],
    ],
)
def test_any_other_command_line_is_left_to_the_command(words: list[str]) -> None:
    assert plain.read(words, {}) is None


@pytest.mark.parametrize("name", [*plain.VARIABLES, "SHADOWPROXY_SERVE__LOG_LEVEL"])
def test_the_variables_of_the_environment_are_left_to_the_command(name: str) -> None:
    assert plain.read(["-c", "FILE"], {name: "x"}) is None


def test_every_variable_of_the_command_is_known() -> None:
    """Else a variable would be passed over: the plain form does not look at it. It has a file by `-c` alone."""
    command: Any = cli.commands.commands["serve"]
    named = {each.envvar for each in command.params if each.envvar} - {CONFIG_FILE}
    assert named == {*plain.VARIABLES}
    rest = [name for name, _ in options_of(command, ("serve",)) if not name.startswith(plain.PREFIX)]
    assert rest == []


def test_the_memory_for_counts_of_connections_has_room_for_all_workers_that_can_be_asked_for() -> None:
    values = {"live": {"url": "http://h"}, "limits": {"memory": "8GiB"}}
    assert from_values({**values, "workers": board.MOST}).workers == board.MOST
    with pytest.raises(ConfigError, match="workers"):
        from_values({**values, "workers": board.MOST + 1})
