"""One process that the supervisor has started, from `launch` until it has ended."""

import asyncio
import contextlib
import errno
import os
import signal
import socket
import threading
from collections.abc import Callable
from typing import Self

from shadowproxy.serve.workers.channel import Calls, Table, give_socket
from shadowproxy.serve.workers.launching import Launched


class Child:
    """Owns the process, the calls to it, and the pair over which it gets sockets: end with `aclose` or `kill`."""

    def __init__(self, name: str, launched: Launched, calls: Calls) -> None:
        self.name = name
        self.process = launched.process
        self.calls = calls
        self._over = launched.over
        self._ended = asyncio.Event()
        loop = asyncio.get_running_loop()
        # A thread, as uvloop waits only for processes that it has started itself.
        waiting = (launched, lambda: loop.call_soon_threadsafe(self._ended.set))
        threading.Thread(target=_wait, args=waiting, name=f"shadowproxy-{name}", daemon=True).start()

    def __repr__(self) -> str:
        return f"<Child {self.name} {self.process.pid}>"

    @classmethod
    async def of(cls, name: str, launched: Launched, table: Table | None = None) -> Self:
        """Take a process over. `table` is what it may call. Raises OSError; then the process is killed."""
        calls = Calls(name, table)
        try:
            await calls.open(launched.ours)
            try:
                return cls(name, launched, calls)
            except RuntimeError as error:  # from `Thread.start`: the system has room for no other thread
                await calls.aclose()
                raise OSError(errno.EAGAIN, os.strerror(errno.EAGAIN)) from error
        except BaseException:
            launched.close()
            raise

    @property
    def runs(self) -> bool:
        return not self.calls.gone.is_set()

    def give(self, name: str, given: socket.socket) -> bool:
        """Give it a socket, which is closed here."""
        return give_socket(self._over, name, given)

    async def wait(self) -> int:
        """Wait until it has ended, and all it sent is read. Returns its exit status."""
        await self._ended.wait()
        await self.calls.gone.wait()
        return self.process.returncode

    def reopen(self) -> None:
        """Have it reopen its standard error and output."""
        self.process.send_signal(signal.SIGUSR1)

    def kill_now(self) -> None:
        self.process.kill()

    async def kill(self) -> None:
        self.kill_now()
        await self.wait()  # also for what it had sent
        await self.aclose()

    async def aclose(self) -> None:
        await self.calls.aclose()
        self._over.close()


def _wait(launched: Launched, tell: Callable[[], object]) -> None:
    launched.process.wait()
    with contextlib.suppress(RuntimeError):  # the event loop is closed
        tell()


def ending(status: int) -> str:
    """An exit status in words."""
    if status >= 0:
        return f"status {status}"
    with contextlib.suppress(ValueError):
        return signal.Signals(-status).name
    return f"signal {-status}"
