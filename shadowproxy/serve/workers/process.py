"""What each process of the supervisor's does from its first line to its last: signals, calls, sockets, its end.

It ends cleanly when the supervisor stops it and when the supervisor is gone; a live process on SIGTERM too.
"""

import asyncio
import gc
import logging
import signal
import socket
import sys
import threading
from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping
from contextlib import AsyncExitStack
from typing import Any

import uvloop

from shadowproxy.serve.system import outputs, signals
from shadowproxy.serve.system.interpreter import prepare_process
from shadowproxy.serve.workers.channel import Answers, Table, take_socket

_log = logging.getLogger("shadowproxy")


class Process(ABC):
    """The calls that the supervisor can make. `log` closes the operator's log, last of all.

    `answers` is set before the first call comes.
    """

    kind: str
    ends_on_signals = True
    slow: frozenset[str] = frozenset()
    """The calls that the others do not wait for."""

    def __init__(self, log: AsyncExitStack) -> None:
        self.answers: Answers
        self.stopping = asyncio.Event()
        self._log = log
        self._starting = asyncio.Lock()
        self._started = False
        self._outputs: Mapping[int, str] = {}

    @property
    @abstractmethod
    def table(self) -> Table:
        """What the supervisor may call, besides `stop`."""

    @abstractmethod
    def take(self, name: str, given: socket.socket) -> None:
        """Take a socket that the supervisor gave."""

    @abstractmethod
    async def _close(self) -> object:
        """Stop, in order. Returns what the supervisor gets as its last message."""

    def reopen(self) -> None:
        """Reopen standard error and output."""
        if self._started:  # before that it has its supervisor's files, and the supervisor sends this signal again
            work, given = outputs.reopen, (self._outputs, logging.DEBUG)  # the supervisor logs it for all
            threading.Thread(target=work, args=given, name="shadowproxy-reopen", daemon=True).start()

    async def stop(self) -> None:
        self.stopping.set()

    async def close(self) -> object:
        async with self._starting:
            return await self._close() if self._started else None

    def supervisor_gone(self) -> None:
        if self._started and not self.stopping.is_set():  # before its start it has no log yet
            _log.error("the supervisor has ended, this %s stops too", self.kind, extra={"event": "supervisor_gone"})
        self.stopping.set()


def run(make: Callable[[AsyncExitStack, list[int]], Process]) -> None:
    """Run the process that `make` makes of the operator's log and of the inherited descriptors."""
    calls, under, *inherited = map(int, sys.argv[1:])
    prepare_process()
    # It is in no foreground group, and after `stty tostop` a terminal stops what writes to it from there.
    signal.signal(signal.SIGTTOU, signal.SIG_IGN)
    gc.freeze()  # imported objects stay for good: the garbage collector need not scan them
    gc.enable()
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        runner.run(_run(socket.socket(fileno=calls), socket.socket(fileno=under), make, inherited))


async def _run(
    calls: socket.socket,
    under: socket.socket,
    make: Callable[[AsyncExitStack, list[int]], Process],
    inherited: list[int],
) -> None:
    async with AsyncExitStack() as log:
        process = make(log, inherited)
        loop = asyncio.get_running_loop()
        for number in signals.STOPPING:
            loop.add_signal_handler(number, process.stopping.set if process.ends_on_signals else _ignore)
        loop.add_signal_handler(signal.SIGUSR1, process.reopen)
        signals.release()
        process.answers = answers = Answers({**process.table, "stop": process.stop}, process.slow)
        await answers.open(calls)
        under.setblocking(False)
        loop.add_reader(under, _take, under, process, loop)
        answering = loop.create_task(answers.serve())
        answering.add_done_callback(lambda _: process.supervisor_gone())
        await process.stopping.wait()
        closing: Any = await process.close()  # calls are answered meanwhile
        loop.remove_reader(under)
        under.close()
        answering.cancel()
        await asyncio.wait([answering])
        await answers.aclose(closing)
        signals.hold_back()


def _ignore() -> None:
    pass


def _take(under: socket.socket, process: Process, loop: asyncio.AbstractEventLoop) -> None:
    try:
        taken = take_socket(under)
    except BlockingIOError:
        return
    except OSError as error:  # the system has no descriptor left for it
        _log.error("a socket could not be taken: %s", error.strerror, extra={"event": "not_taken"})
        return
    if taken is None:
        loop.remove_reader(under)
    else:
        process.take(*taken)
