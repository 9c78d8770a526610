"""A process that the supervisor has started and cannot use is not left behind."""

import errno
import os
import signal
import socket
import subprocess
import sys
import threading
from pathlib import Path
from typing import Any

import pytest

from shadowproxy.config import from_values
from shadowproxy.serve.callers.addresses import StartError
from shadowproxy.serve.sidecar.specify import specify
from shadowproxy.serve.start.exits import UNUSABLE
from shadowproxy.serve.telemetry.log_settings import OperatorLogSettings
from shadowproxy.serve.workers.channel import Calls
from shadowproxy.serve.workers.child import Child
from shadowproxy.serve.workers.launching import launch
from shadowproxy.serve.workers.supervisor import Supervisor


def no_thread(self: threading.Thread) -> None:
    raise RuntimeError("can't start new thread")  # as under a limit of processes and threads


async def no_calls(self: Calls, ours: socket.socket) -> None:
    raise OSError(errno.ENOSPC, "No space left on device")  # as under a limit of watched descriptors


@pytest.mark.parametrize(
    ("owner", "name", "fault", "error"),
    [(threading.Thread, "start", no_thread, errno.EAGAIN), (Calls, "open", no_calls, errno.ENOSPC)],
    ids=["no thread", "no calls"],
)
async def test_a_process_that_cannot_be_called_is_killed(
    owner: type, name: str, fault: object, error: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    launched = launch("shadowproxy.serve.workers.recorder")
    monkeypatch.setattr(owner, name, fault)
    with pytest.raises(OSError) as raised:  # which is retried, as any start
        await Child.of("the recorder", launched)
    assert raised.value.errno == error
    assert launched.process.returncode == -signal.SIGKILL
    assert (launched.ours.fileno(), launched.over.fileno()) == (-1, -1)


@pytest.mark.parametrize("owner", [threading.Thread, subprocess.Popen])
async def test_a_start_for_which_the_system_has_no_room_fails_with_one_line(
    owner: type, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def no_process(*arguments: object, **options: object) -> None:
        raise BlockingIOError(errno.EAGAIN, os.strerror(errno.EAGAIN))

    if owner is threading.Thread:
        monkeypatch.setattr(threading.Thread, "start", no_thread)
    else:
        monkeypatch.setattr(subprocess.Popen, "__init__", no_process)
        monkeypatch.setattr(subprocess.Popen, "__del__", lambda self: None)
    values: dict[str, Any] = {
        "live": {"respond": {}},
        "listen": "127.0.0.1:0",
        "admin": None,
        "log": {"path": str(tmp_path)},
    }
    supervisor = Supervisor(specify(from_values(values)), None, OperatorLogSettings())
    with pytest.raises(StartError) as raised:
        await supervisor.__aenter__()
    assert str(raised.value) == f"cannot start a process: {os.strerror(errno.EAGAIN)}"


def test_the_command_says_in_one_line_that_it_cannot_fork() -> None:
    program = """
import errno, os, sys
def fork():
    raise BlockingIOError(errno.EAGAIN, os.strerror(errno.EAGAIN))
os.fork = fork
from shadowproxy.serve.start.split import main
sys.exit(main([]))
"""
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=False)
    assert done.returncode == UNUSABLE
    assert done.stderr.splitlines() == [f"shadowproxy: cannot start a process: {os.strerror(errno.EAGAIN)}"]
