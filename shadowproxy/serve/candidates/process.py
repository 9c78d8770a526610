"""One candidate's process, as the live process sees it: started, called, watched and killed."""

import asyncio
import contextlib
import json
import os
import signal
import socket
import subprocess
import threading
from typing import Final, NamedTuple

from shadowproxy.intake_frames import Candidate
from shadowproxy.serve.candidates.program import CALL, HEAD, LONG, READY, RESULT, SETUP, UNLOADABLE
from shadowproxy.serve.upstreams.errors import ConnectError, ReadError

MODULE: Final = "shadowproxy.serve.candidates.program"

STARTING: Final = 120.0
"""Seconds that loading the callable may take: a model may be large."""

LOOK: Final = 0.1
"""Seconds between two looks at how much memory a call takes."""

_PAGE: Final = os.sysconf("SC_PAGE_SIZE")


class Answer(NamedTuple):
    """A result as JSON, or its beginning where it is `long`."""

    body: bytes
    long: bool


class CandidateProcess:
    """Owns the process and its channel, from `start` to `kill`. `memory` and `most` are bytes."""

    def __init__(self, candidate: Candidate, memory: int, most: int) -> None:
        self._candidate = candidate
        self._memory = memory
        self._most = most
        self._loop = asyncio.get_running_loop()
        self._process: subprocess.Popen[bytes] | None = None
        self._channel: socket.socket | None = None

    def __repr__(self) -> str:
        return f"<CandidateProcess {self._candidate.name} {self.pid}>"

    @property
    def pid(self) -> int | None:
        return None if self._process is None else self._process.pid

    async def start(self) -> None:
        """Start it and wait until the callable is loaded. Raises ConnectError, and then nothing of it is left."""
        candidate = self._candidate
        ours, theirs = socket.socketpair()
        ours.setblocking(False)
        self._channel = ours
        try:
            with theirs:
                self._process = subprocess.Popen(  # noqa: ASYNC220 - it returns when the process runs, in a millisecond
                    [candidate.executable, "-P", "-m", MODULE, str(theirs.fileno())],
                    stdin=subprocess.DEVNULL,
                    pass_fds=(theirs.fileno(),),
                    env={**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, candidate.path))},
                    process_group=0,  # what it forks is killed with it, and Ctrl-C is not for it
                )
            setup = {
                "path": candidate.path,
                "directory": candidate.directory,
                "main": candidate.main,
                "memory": self._memory,
                "most": self._most,
            }
            async with asyncio.timeout(STARTING):
                await self._send(SETUP, json.dumps(setup).encode() + b"\n" + candidate.pickle)
                kind, content = await self._receive()
        except TimeoutError:
            self.kill()
            raise ConnectError(f"the callable was not loaded within {STARTING:g} s") from None
        except (OSError, ReadError) as error:
            ending = await self.wait_ended()
            raise ConnectError(f"its process cannot be started ({ending or error})") from None
        except BaseException:
            self.kill()
            raise
        if kind != READY:
            self.kill()
            why = content.decode("utf-8", "replace") if kind == UNLOADABLE else "its process says something else"
            raise ConnectError(f"the callable cannot be loaded: {why}")

    async def call(self, pickled: bytes) -> Answer:
        """Call it. Raises ReadError where the process ends or takes too much memory; kill it then, or if cancelled."""
        answering = self._loop.create_task(self._ask(pickled))
        try:
            while not answering.done():
                await asyncio.wait((answering,), timeout=LOOK)
                if not answering.done() and self._held() > self._memory:
                    raise ReadError(f"its process took more than {self._memory >> 20} MiB of memory")
            kind, content = answering.result()
        except OSError:
            ending = await self.wait_ended()
            raise ReadError(f"its process has ended{f' ({ending})' if ending else ''}") from None
        finally:
            answering.cancel()
            await asyncio.wait((answering,))
        return Answer(content, kind == LONG)

    async def _ask(self, pickled: bytes) -> tuple[int, bytes]:
        await self._send(CALL, pickled)
        kind, content = await self._receive()
        if kind not in (RESULT, LONG):
            raise OSError("it says something else")
        return kind, content

    async def wait_ended(self) -> str | None:
        """Kill it if it runs, and return how it has ended, in words; None if it was this that ended it."""
        process = self._process
        if process is None:
            self.kill()
            return None
        with contextlib.suppress(subprocess.TimeoutExpired):
            await asyncio.to_thread(process.wait, 0.5)
        status = process.returncode
        self.kill()
        if status is None:
            return None
        if status >= 0:
            return f"status {status}"
        with contextlib.suppress(ValueError):
            return signal.Signals(-status).name
        return f"signal {-status}"

    def is_large(self) -> bool:
        """Whether it holds more memory than it may, between two calls."""
        return self._held() > self._memory

    def kill(self) -> None:
        """End it at once, with all that it has forked. Returns before they have ended."""
        if self._channel is not None:
            self._channel.close()
            self._channel = None
        process, self._process = self._process, None
        if process is None:
            return
        with contextlib.suppress(OSError):
            os.killpg(process.pid, signal.SIGKILL)
        if process.poll() is None:
            threading.Thread(target=process.wait, name="shadowproxy-candidate", daemon=True).start()

    def _held(self) -> int:
        """Bytes of memory that it holds; 0 where the system does not say so."""
        try:
            with open(f"/proc/{self.pid}/statm") as file:
                return int(file.read().split()[1]) * _PAGE
        except (OSError, ValueError, IndexError):
            return 0

    async def _send(self, kind: int, content: bytes) -> None:
        if self._channel is None:
            raise OSError("its channel is closed")
        await self._loop.sock_sendall(self._channel, HEAD.pack(kind, len(content)) + content)

    async def _receive(self) -> tuple[int, bytes]:
        kind, length = HEAD.unpack(await self._read(HEAD.size))
        if length > self._most + 1 + HEAD.size and kind != UNLOADABLE:
            raise OSError("it says more than it may")
        return kind, await self._read(length)

    async def _read(self, count: int) -> bytes:
        parts = []
        while count:
            if self._channel is None:
                raise OSError("its channel is closed")
            data = await self._loop.sock_recv(self._channel, min(count, 1 << 20))
            if not data:
                raise OSError("its channel has ended")
            parts.append(data)
            count -= len(data)
        return b"".join(parts)
