"""One process that the supervisor has started, from `spawn` until it has ended."""

import asyncio
import contextlib
import os
import signal
import socket
import sys
from typing import Self

from shadowproxy.serve.workers.channel import Calls, Table, give_socket


class Child:
    """Owns the process, the calls to it, and the pair over which it gets sockets: end with `aclose` or `kill`."""

    def __init__(self, name: str, process: asyncio.subprocess.Process, calls: Calls, over: socket.socket) -> None:
        self.name = name
        self.process = process
        self.calls = calls
        self._over = over

    def __repr__(self) -> str:
        return f"<Child {self.name} {self.process.pid}>"

    @classmethod
    async def spawn(cls, name: str, module: str, *inherited: int, table: Table | None = None) -> Self:
        """Start `python -m MODULE CALLS SOCKETS INHERITED...`, each a descriptor. Raises OSError."""
        ours, theirs = socket.socketpair()
        over, under = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        over.setblocking(False)
        with theirs, under, contextlib.ExitStack() as unused:
            unused.callback(ours.close)
            unused.callback(over.close)
            given = (theirs.fileno(), under.fileno(), *inherited)
            # -P and this process's own path: no module in the working directory becomes part of the program.
            process = await asyncio.create_subprocess_exec(
                sys.executable, "-P", "-m", module, *map(str, given),
                stdin=asyncio.subprocess.DEVNULL,
                pass_fds=given,
                env={**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)},
                start_new_session=True,  # Ctrl-C goes to the supervisor alone, which then stops its processes
            )  # fmt: skip
            unused.pop_all()
        calls = Calls(name, table)
        await calls.open(ours)
        return cls(name, process, calls, over)

    @property
    def runs(self) -> bool:
        return not self.calls.gone.is_set()

    def give(self, name: str, given: socket.socket) -> bool:
        """Give it a socket, which is closed here."""
        return give_socket(self._over, name, given)

    async def wait(self) -> int:
        """Wait until it has ended, and all it sent is read. Returns its exit status."""
        status = await self.process.wait()
        await self.calls.gone.wait()
        return status

    def reopen(self) -> None:
        """Have it reopen its standard error and output."""
        with contextlib.suppress(ProcessLookupError):
            self.process.send_signal(signal.SIGUSR1)

    def kill_now(self) -> None:
        with contextlib.suppress(ProcessLookupError):
            self.process.kill()

    async def kill(self) -> None:
        self.kill_now()
        await self.process.wait()
        await self.aclose()

    async def aclose(self) -> None:
        await self.calls.aclose()
        self._over.close()


def ending(status: int) -> str:
    """An exit status in words."""
    if status >= 0:
        return f"status {status}"
    with contextlib.suppress(ValueError):
        return signal.Signals(-status).name
    return f"signal {-status}"
