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
    """A program under measurement. `admin` is the port of its admin server, 0 if it has none."""

    name: str
    pid: int
    port: int
    admin: int = 0

    def cpu_seconds(self) -> float:
        """User and system time of the process and all its descendants, as the kernel accounts it (10 ms steps).

        Descendants that have ended and were waited for by their parent are included.
        """
        return sum(_cpu_ticks(pid) for pid in _family(self.pid)) * _TICK

    def memory_bytes(self) -> int:
        """The proportional set size (PSS) of the process and its descendants: of a page that n processes share, 1/n."""
        return sum(_proportional(pid) for pid in _family(self.pid))

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
    name: str, command: Sequence[str | Path], port: int, *, log: Path, stdout: Path | None = None, admin: int = 0
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
            time.sleep(0.001)
        yield Running(name, process.pid, port, admin)


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
    # proc(5): utime, stime, cutime and cstime are fields 14 to 17, the last two those of children that were waited
    # for; the name, field 2, may hold spaces but ends at the last bracket.
    try:
        fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    except OSError:
        return 0
    return sum(map(int, fields[11:15]))


def _proportional(pid: int) -> int:
    try:
        lines = Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines()
    except OSError:
        return 0
    return sum(int(line.split()[1]) * 1024 for line in lines if line.startswith("Pss:"))
