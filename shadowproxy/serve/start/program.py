"""The command's own process: it imports the supervisor while the other two work, and becomes it."""

import asyncio
import contextlib
import os
import pickle
import signal
import threading
from contextlib import ExitStack, closing
from pathlib import Path
from typing import TYPE_CHECKING, TypeAlias

import uvloop

from shadowproxy.serve.callers.addresses import StartError
from shadowproxy.serve.start.exits import INTERRUPTED, KILLED, UNUSABLE, say
from shadowproxy.serve.system import signals
from shadowproxy.serve.workers.begun import Begun
from shadowproxy.serve.workers.child import ending

if TYPE_CHECKING:
    from shadowproxy.serve.sidecar.specs import Specs
    from shadowproxy.serve.telemetry.log_settings import OperatorLogSettings

Read: TypeAlias = "tuple[Specs, Path | None, OperatorLogSettings]"

LENGTH = 8
"""Bytes before what the reader sends, which say how long it is: a reader that is killed sends less."""


def run(reader: int, receiving: int, begun: Begun) -> int:
    """Serve by what the process `reader` sends. Returns the exit status, which is the reader's where it sends nothing.

    An address in use, and every other reason not to start, is one line on standard error.
    """
    try:
        with ExitStack() as log, asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
            status = runner.run(_run(reader, receiving, begun, log))
    except StartError as error:
        say(str(error))
        status = UNUSABLE
    signals.ignore()
    return status


async def _run(reader: int, receiving: int, begun: Begun, log: ExitStack) -> int:
    starting = asyncio.current_task()
    assert starting is not None
    stopped: list[int] = []

    def stop(status: int) -> None:
        stopped.append(status)
        starting.cancel()

    loop = asyncio.get_running_loop()
    loop.add_signal_handler(signal.SIGTERM, stop, 0)  # until `serve` handles both
    loop.add_signal_handler(signal.SIGINT, stop, INTERRUPTED)
    try:
        with closing(begun), closing(_Reader(reader, receiving)) as reading:
            from shadowproxy.serve.run import serve  # while the other two work

            if (read := await reading.read()) is None:
                return reading.status
            return await serve(*read, begun, log)
    except asyncio.CancelledError:
        if not stopped:
            raise
        return stopped[0]


class _Reader:
    """The process that reads the configuration, and its end of the pipe. `close` ends it."""

    def __init__(self, pid: int, receiving: int) -> None:
        self.status = 0
        self._pid = pid
        self._pipe = os.fdopen(receiving, "rb", buffering=0)
        self._runs = True

    def __repr__(self) -> str:
        return f"<_Reader {self._pid}>"

    async def read(self) -> "Read | None":
        """What it has read; None where it has ended without. `status` is then its exit status."""
        reader = asyncio.StreamReader()
        transport, _ = await asyncio.get_running_loop().connect_read_pipe(
            lambda: asyncio.StreamReaderProtocol(reader), self._pipe
        )
        sent = await reader.read()
        transport.close()
        content = sent[LENGTH:]
        if len(sent) < LENGTH or len(content) < int.from_bytes(sent[:LENGTH]):
            _, status = await asyncio.to_thread(os.waitpid, self._pid, 0)
            self._runs = False
            self.status = os.waitstatus_to_exitcode(status)
            if self.status < 0:
                say(f"the process that reads the configuration has ended ({ending(self.status)})")
                self.status = KILLED
            return None
        self._runs = False
        # It ends by itself at once. Nobody waits for that but this thread.
        threading.Thread(target=os.waitpid, args=(self._pid, 0), daemon=True).start()
        read: Read = pickle.loads(content)  # of this very program
        return read

    def close(self) -> None:
        if self._runs:
            with contextlib.suppress(ProcessLookupError):  # a thread has seen its end, and this task was cancelled
                os.kill(self._pid, signal.SIGKILL)  # not waited for: it may hang in a file system that is lost
