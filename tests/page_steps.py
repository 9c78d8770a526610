"""A page's blocks, one after the other, as a reader follows it: on free ports, in a directory of its own.

Markers are those of CONTRIBUTING.md: `program: NAME` writes a file, `run in the background` starts a program and waits
until it answers, `run` and `run: 0, 1 or 3` run a command to its end, with these exit statuses.
"""

import contextlib
import io
import os
import re
import shlex
import signal
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Iterable, Mapping
from pathlib import Path
from types import TracebackType
from typing import Self

import pytest
from page_blocks import ROOT, Block, blocks
from parties import installed
from parties.programs import free_port

from shadowproxy import cli

PORTS = ("8000", "8001", "8080", "9001", "9002", "9901", "10000")
"""The ports that pages use."""
START_DEADLINE = 120.0
COMMAND_DEADLINE = 120.0


class Reader:
    """Owns what it starts; use as `with`. It follows a page in `directory`.

    `programs` are the folders in which the page's programs are found, before PATH. `ready` has, for a port of the page,
    the path that is answered with a 2xx once the program there can be used; without one it is enough that it listens.
    `changes` are replacements in the page's text, such as the name of a host that cannot be reached from here.
    """

    def __init__(
        self,
        page: str,
        directory: Path,
        *,
        programs: Iterable[Path] = (),
        ready: Mapping[str, str] | None = None,
        changes: Mapping[str, str] | None = None,
        environment: Mapping[str, str] | None = None,
    ) -> None:
        self.page = ROOT / page
        self.directory = directory
        self.ports = {port: str(free_port()) for port in PORTS}
        self.outputs: list[str] = []
        self._ready = dict(ready or {})
        self._changes = dict(changes or {})
        path = [*map(str, programs), str(Path(sys.executable).parent), os.environ["PATH"]]
        self._environment = installed.environment() | {"PATH": os.pathsep.join(path)} | dict(environment or {})
        self._running: list[tuple[Block, subprocess.Popen[bytes]]] = []
        self._others = contextlib.ExitStack()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        for _, process in reversed(self._running):
            _end(process)
        self._others.close()

    def beside(self, program: contextlib.AbstractContextManager[object]) -> None:
        """Start a program that the page takes for granted; it ends with this."""
        self._others.enter_context(program)

    def follow(self, *, without: Iterable[str] = ()) -> list[str]:
        """Do what the blocks say, but those with one of the words `without`. The outputs of the commands, in order."""
        left_out = list(without)
        for block in blocks(self.page):
            if not any(words in block.text for words in left_out):
                self.do(block)
        return self.outputs

    def do(self, block: Block) -> None:
        marker, text = block.marker or "", self.here(block.text)
        if name := marker.removeprefix("program: ") if marker.startswith("program: ") else "":
            (self.directory / name).write_text(text + self._elsewhere(text))
        elif marker == "run in the background":
            self._start(block, text)
        elif marker == "run" or marker.startswith("run: "):
            self.outputs.append(self._run(block, text))

    def here(self, text: str) -> str:
        """With this test's ports and addresses in place of the page's."""
        for words, others in self._changes.items():
            text = text.replace(words, others)
        return re.sub(rf"(?<![\d.-])({'|'.join(PORTS)})(?![\d.])", lambda found: self.ports[found[1]], text)

    def _elsewhere(self, text: str) -> str:
        """What a configuration leaves to the defaults and cannot have here: others may use these ports."""
        if not re.search(r"^live:", text, re.M):
            return ""
        more = "overload: {loop_lag: 10s}\n"  # on a busy machine, mirroring would be shed: other tests are for that
        for key, port in (("listen", "8080"), ("admin", "9901")):
            if not re.search(rf"^{key}:", text, re.M):
                more += f"{key}: 127.0.0.1:{self.ports[port]}\n"
        return more

    def _start(self, block: Block, text: str) -> None:
        serves = text.startswith("shadowproxy serve")
        if serves and " -c " not in text:
            text = f"{text.rstrip()} --listen 127.0.0.1:{self.ports['8080']} --admin 127.0.0.1:{self.ports['9901']}"
        if serves:  # a page says to stop the one before, and whoever has its port
            files = "".join((self.directory / name).read_text() for name in re.findall(r"-c (\S+)", text))
            listens = set(re.findall(r"^listen: .*:(\d+)$", files, re.M))
            for earlier, process in self._running:
                before = self.here(earlier.text)
                if before.startswith("shadowproxy serve") or listens & set(re.findall(r"\d+", before)):
                    _end(process)
        ports = [] if serves else self._ports_in(text)
        assert serves or ports, f"{block} names no port that is free"
        said = self.directory / f"said-{len(self._running)}.txt"
        with said.open("wb") as output:
            process = subprocess.Popen(
                ["bash", "-c", _exec(text)],
                cwd=self.directory, env=self._environment, stdin=subprocess.DEVNULL, stdout=output, stderr=output,
            )  # fmt: skip
        self._running.append((block, process))
        until = time.monotonic() + START_DEADLINE
        while not (b"listening on" in said.read_bytes() if serves else any(map(self._answers, ports))):
            assert process.poll() is None, f"{block} ended: {said.read_text()[-3000:]}"
            assert time.monotonic() < until, f"{block} does not answer: {said.read_text()[-3000:]}"
            time.sleep(0.05)

    def _ports_in(self, text: str) -> list[str]:
        """The page's ports that a command or a configuration in it names and at which nothing listens yet."""
        for name in re.findall(r"[\w./-]+\.yaml", text):
            text += (self.directory / name).read_text()
        named = [port for port, here in self.ports.items() if re.search(rf"\b{here}\b", text)]
        return [port for port in named if not self._answers(port)]

    def _answers(self, port: str) -> bool:
        url = f"http://127.0.0.1:{self.ports[port]}{self._ready.get(port, '/')}"
        try:
            with urllib.request.urlopen(url, timeout=5):
                return True
        except urllib.error.HTTPError:
            return port not in self._ready
        except OSError:
            return False

    def _run(self, block: Block, text: str) -> str:
        allowed = _allowed(block.marker or "")
        strict = "-uc" if 3 in allowed else "-euc"  # a report's status does not keep the next one from running
        done = subprocess.run(
            ["bash", strict, text], cwd=self.directory, env=self._environment, capture_output=True, text=True,
            timeout=COMMAND_DEADLINE,
        )  # fmt: skip
        assert done.returncode in allowed, f"{block} ended with {done.returncode}\n{done.stdout}\n{done.stderr}"
        return done.stdout

    def stop(self, words: str, by: signal.Signals = signal.SIGTERM) -> int:
        """End the program whose command has these words. Its exit status."""
        (process,) = [process for block, process in self._running if words in block.text]
        process.send_signal(by)
        return process.wait(30)


class Here(Reader):
    """Runs commands that begin with `shadowproxy` in this process, for pages that start no server."""

    def __init__(self, page: str, directory: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        super().__init__(page, directory)
        self._monkeypatch = monkeypatch
        monkeypatch.chdir(directory)
        monkeypatch.setenv("SHADOWPROXY_JOBS", "1")

    def _run(self, block: Block, text: str) -> str:
        allowed = _allowed(block.marker or "")
        output = ""
        for line in text.replace("\\\n", " ").splitlines():
            status, said = self.says(line)
            assert status in allowed, f"{block}: {line} ended with {status}\n{said}"
            output += said
        return output

    def says(self, command: str) -> tuple[int, str]:
        """The exit status of one command of shadowproxy, and all that it prints."""
        words = shlex.split(command, comments=True)
        assert words[0] == "shadowproxy", command
        self._monkeypatch.setattr("sys.argv", words)
        said = io.TextIOWrapper(io.BytesIO(), "utf-8", write_through=True)
        with contextlib.redirect_stdout(said), contextlib.redirect_stderr(said), pytest.raises(SystemExit) as ended:
            cli.main()
        return int(ended.value.code or 0), said.buffer.getvalue().decode()


def _allowed(marker: str) -> set[int]:
    """The exit statuses that a marker allows."""
    return {int(word) for word in re.findall(r"\d+", marker)} if marker.startswith("run: ") else {0}


def _exec(text: str) -> str:
    """The command as one process, so that a signal reaches it: with variables before it, too."""
    command = text.strip()
    assert "\n" not in command, "one command a block"
    return f"exec env {command}"


def _end(process: subprocess.Popen[bytes]) -> int:
    if process.poll() is None:
        process.send_signal(signal.SIGTERM)
        try:
            return process.wait(30)
        except subprocess.TimeoutExpired:
            process.kill()
    return process.wait()
