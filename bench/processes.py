"""The programs that a run starts: each is owned by a `with` block, watched through /proc, and ended by its id."""

import contextlib
import os
import signal
import socket
import subprocess
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

HOST = "127.0.0.1"
READY_WITHIN = 15.0
ENDS_WITHIN = 15.0
_TICK = 1 / os.sysconf("SC_CLK_TCK")


class BenchError(Exception):
    """The run cannot go on. One line."""


@dataclass(frozen=True, slots=True)
class Running:
    name: str
    pid: int
    port: int

    def cpu_seconds(self) -> float:
        """User and system time of the process and all its descendants, as the kernel accounts it (10 ms steps)."""
        return sum(_cpu_ticks(pid) for pid in _family(self.pid)) * _TICK

    def resident_bytes(self) -> int:
        return sum(_resident(pid) for pid in _family(self.pid))

    def settled_cpu_seconds(self) -> float:
        """`cpu_seconds` once it stands still: what follows an answer, such as writing its record, is part of it."""
        until = time.monotonic() + 10
        before = -1.0
        while (now := self.cpu_seconds()) - before > _TICK and time.monotonic() < until:
            before = now
            time.sleep(0.15)
        return now


@contextlib.contextmanager
def running(
    name: str, command: Sequence[str | Path], port: int, *, log: Path, stdout: Path | None = None
) -> Iterator[Running]:
    """Start a program, wait until it accepts on `port`, and end it on leaving. Raises BenchError."""
    with contextlib.ExitStack() as stack:
        errors = stack.enter_context(log.open("ab"))
        output = stack.enter_context(stdout.open("wb")) if stdout else errors
        process = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=output, stderr=errors)
        stack.callback(_end, process)
        until = time.monotonic() + READY_WITHIN
        while not accepts(port):
            if process.poll() is not None or time.monotonic() > until:
                raise BenchError(f"{name} does not accept on port {port}; {log} may say why")
            time.sleep(0.02)
        yield Running(name, process.pid, port)


def accepts(port: int) -> bool:
    with contextlib.suppress(OSError), socket.create_connection((HOST, port), timeout=1):
        return True
    return False


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind((HOST, 0))
        port: int = probe.getsockname()[1]
        return port


def _end(process: "subprocess.Popen[bytes]") -> None:
    process.send_signal(signal.SIGTERM)
    try:
        process.wait(ENDS_WITHIN)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()


def _family(pid: int) -> list[int]:
    found = [pid]
    for task in Path(f"/proc/{pid}/task").glob("*/children"):
        with contextlib.suppress(OSError):
            for child in task.read_text().split():
                found += _family(int(child))
    return found


def _cpu_ticks(pid: int) -> int:
    # proc(5): utime and stime are fields 14 and 15; the name, field 2, may hold spaces but ends at the last bracket.
    try:
        fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    except OSError:
        return 0
    return int(fields[11]) + int(fields[12])


def _resident(pid: int) -> int:
    try:
        return int(Path(f"/proc/{pid}/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")
    except OSError:
        return 0
