"""Other programs as processes of this test run, each stopped for certain by whoever started it."""

import contextlib
import re
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from parties import installed
from shadowproxy import record

START_DEADLINE = 120.0  # a model server's first start compiles its bytecode on a busy machine
STOP_DEADLINE = 30.0


@dataclass(frozen=True)
class Program:
    """A program that listens at `url`; what it says is in `output`."""

    url: str
    process: subprocess.Popen[bytes]
    output: Path

    def stop(self) -> int:
        """SIGTERM, SIGKILL after 30 s without an end, and the exit status. Does no harm a second time."""
        self.process.terminate()
        try:
            return self.process.wait(STOP_DEADLINE)
        except subprocess.TimeoutExpired:
            self.process.kill()
            return self.process.wait()

    def said(self) -> str:
        return self.output.read_text(errors="replace")


@contextlib.contextmanager
def started(command: list[str], output: Path, *, url: str | None = None, **environment: str) -> Iterator[Program]:
    """`command`, once it says `listening on http://...`, or once `url` accepts where its own words are not ours."""
    with output.open("wb") as written:
        process = subprocess.Popen(
            command,
            stdin=subprocess.DEVNULL,
            stdout=written,
            stderr=written,
            cwd=output.parent,
            env=installed.environment() | environment,
        )
    program = Program(url or "", process, output)
    try:
        until = time.monotonic() + START_DEADLINE
        while not (found := _found(program)):
            if process.poll() is not None:
                raise RuntimeError(f"{command} ended at once: {program.said()[-2000:]}")
            if time.monotonic() > until:
                raise RuntimeError(f"{command} did not listen within {START_DEADLINE:g} s: {program.said()[-2000:]}")
            time.sleep(0.02)
        yield Program(found, process, output)
    finally:
        program.stop()


def _found(program: Program) -> str | None:
    if program.url:
        with socket.socket() as probe:
            port = int(program.url.rpartition(":")[2])
            return program.url if probe.connect_ex(("127.0.0.1", port)) == 0 else None
    match = re.search(r"listening on (http://127\.0\.0\.1:\d+)", program.said())
    return match[1] if match else None


def free_port() -> int:
    with socket.socket() as bound:
        bound.bind(("127.0.0.1", 0))
        port: int = bound.getsockname()[1]
        return port


@dataclass(frozen=True)
class Proxy:
    """`shadowproxy serve` as a program."""

    url: str
    program: Program
    log: Path

    def records(self, within: float = STOP_DEADLINE) -> list[record.Record]:
        """Stop it as an operator does, and read what it logged. A line that is no record fails the test."""
        self.program.process.send_signal(signal.SIGTERM)
        assert self.program.process.wait(within) == 0, self.program.said()
        read = list(record.read([self.log]))
        unreadable = [entry for entry in read if not isinstance(entry, record.Record)]
        assert not unreadable
        assert "defect" not in self.program.said()
        return [entry for entry in read if isinstance(entry, record.Record)]

    def log_text(self) -> str:
        return "".join(segment.read_text() for segment in sorted(self.log.glob("*.jsonl")))


@contextlib.contextmanager
def proxy(
    directory: Path,
    live: Mapping[str, Any],
    shadow: str | None = None,
    *,
    shadow_options: Mapping[str, Any] | None = None,
    **top_level: Any,
) -> Iterator[Proxy]:
    """The real program in front of `live`, with one shadow where `shadow` is its URL."""
    directory.mkdir(parents=True, exist_ok=True)
    log = directory / "log"
    challenger = {"url": shadow, "in_flight": 1, "match": {"methods": ["*"]}} | dict(shadow_options or {})
    values = {
        "listen": "127.0.0.1:0",
        "admin": None,
        "overload": {"loop_lag": "10s"},  # on a busy machine, mirroring would be shed: other tests are for that
        "live": dict(live),
        "shadows": {"challenger": challenger} if shadow else {},
        "log": {"path": str(log), "compress": "none"} | top_level.pop("log", {}),
    }
    config = directory / "config.yaml"
    config.write_text(yaml.safe_dump(values | top_level))
    command = [sys.executable, "-m", "shadowproxy", "serve", "-c", str(config)]
    with started(command, directory / "serve.txt") as program:
        yield Proxy(program.url, program, log)
