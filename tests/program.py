"""The real program as a process of its own, with what it says and what it logs."""

import asyncio
import contextlib
import json
import os
import re
import signal
import sys
from collections.abc import Callable, Mapping
from pathlib import Path
from types import TracebackType
from typing import Any, Self, cast

from fakes import Address, Caller, Message

from shadowproxy import record

PATIENCE = 20.0
"""Seconds. Starting Python and its imports takes about one on a machine that has nothing else to do."""


class Program:
    """`shadowproxy serve` with a configuration. Owns the process: use as `async with`, which kills what still runs.

    `options` are the command's, `environment` is added to the test's own, `before` runs in the process first.
    """

    def __init__(
        self,
        directory: Path,
        values: Mapping[str, Any],
        *options: str,
        environment: Mapping[str, str] | None = None,
        before: Callable[[], None] | None = None,
    ) -> None:
        self._before = before
        self._options = options
        self._environment = {**os.environ, **(environment or {})}
        self.log = directory / "log"
        self.said: list[str] = []
        self.address: Address
        self._file = directory / "config.yaml"  # JSON is YAML
        self.configure(values)
        self._process: asyncio.subprocess.Process
        self._hearing: asyncio.Task[None]
        self._listening = asyncio.Event()

    async def __aenter__(self) -> Self:
        self._process = await asyncio.create_subprocess_exec(
            sys.executable, "-m", "shadowproxy", "serve", "-c", str(self._file), *self._options,
            env=self._environment, preexec_fn=self._before,
            stdin=asyncio.subprocess.DEVNULL, stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.PIPE,
        )  # fmt: skip
        self._hearing = asyncio.get_running_loop().create_task(self._hear())
        try:
            await asyncio.wait_for(self._listening.wait(), PATIENCE)
        except TimeoutError:
            await self.__aexit__(None, None, None)
            raise AssertionError(f"it did not listen; it said {self.said}") from None
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, value: BaseException | None, trace: TracebackType | None
    ) -> None:
        with contextlib.suppress(ProcessLookupError):
            self._process.kill()
        await self._process.wait()
        await self._hearing

    @property
    def pid(self) -> int:
        return self._process.pid

    @property
    def peak(self) -> int:
        """Bytes: the most memory that each of its processes ever held, added up."""
        total = 0
        for pid in (self.pid, *self.workers, *self.recorders):
            found = re.search(r"VmHWM:\s+(\d+) kB", Path(f"/proc/{pid}/status").read_text())
            assert found is not None
            total += int(found[1]) * 1024
        return total

    @property
    def workers(self) -> list[int]:
        """The process IDs of the live processes."""
        return self._children("live")

    @property
    def recorders(self) -> list[int]:
        """The process ID of the recorder; none while it is being started again."""
        return self._children("recorder")

    def _children(self, module: str) -> list[int]:
        found = []
        for pid in Path(f"/proc/{self.pid}/task/{self.pid}/children").read_text().split():
            with contextlib.suppress(OSError):  # it has ended
                if f"shadowproxy.serve.workers.{module}".encode() in Path(f"/proc/{pid}/cmdline").read_bytes().split(
                    b"\0"
                ):
                    found.append(int(pid))
        return found

    def close_log(self) -> None:
        """Read its standard output no more: whoever did has gone."""
        pipe = cast(Any, self._process)._transport.get_pipe_transport(1)
        pipe.close()

    async def read_log(self, size: int) -> bytes:
        """Some of what it wrote to its standard output; nothing at the end."""
        assert self._process.stdout is not None
        return await self._process.stdout.read(size)

    async def caller(self, **options: Any) -> Caller:
        return await Caller.to(self.address, **options)

    async def ask(self, raw: bytes) -> Message:
        async with await self.caller() as caller:
            return await caller.ask(raw)

    def configure(self, values: Mapping[str, Any]) -> None:
        """Write its configuration file, in the file's place."""
        given: dict[str, Any] = {
            "listen": "127.0.0.1:0",
            "admin": None,
            "log": {"path": str(self.log)},
            "overload": {"loop_lag": "1m"},  # a busy machine must not decide what a test sees
        }
        self._file.write_text(json.dumps(given | dict(values)))

    async def wait_said(self, words: str) -> str:
        """The first line it says, or has said, that has these words in it."""
        async with asyncio.timeout(PATIENCE):
            while not (lines := [line for line in self.said if words in line]):  # noqa: ASYNC110  # lines tell nobody
                await asyncio.sleep(0.01)
        return lines[0]

    def kill_all(self) -> None:
        """End all of its processes at once, as the system does where a container's memory runs out."""
        for pid in (*self.recorders, *self.workers, self.pid):
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)

    def signal(self, number: signal.Signals) -> None:
        self._process.send_signal(number)

    async def ended(self) -> int:
        """Wait for its end and say its exit status."""
        status = await asyncio.wait_for(self._process.wait(), PATIENCE)
        await self._hearing
        assert not any("Traceback" in line or '"traceback"' in line for line in self.said), self.said
        return status

    def told(self, event: str) -> list[dict[str, Any]]:
        """What it said of this event, where it speaks JSON: on what is no terminal."""
        lines: list[dict[str, Any]] = [json.loads(line) for line in self.said]
        return [line for line in lines if line.get("event") == event]

    async def stop(self) -> int:
        self.signal(signal.SIGTERM)
        return await self.ended()

    def read(self) -> tuple[list[record.Record], list[record.Unreadable]]:
        """The records and the lines that are none, over all segments."""
        entries = list(record.read([self.log]))
        return (
            [entry for entry in entries if isinstance(entry, record.Record)],
            [entry for entry in entries if isinstance(entry, record.Unreadable)],
        )

    def records(self) -> list[record.Record]:
        found, unreadable = self.read()
        assert unreadable == []
        return found

    async def _hear(self) -> None:
        assert self._process.stderr is not None
        async for line in self._process.stderr:
            self.said.append(line.decode().rstrip("\n"))
            if match := re.search(r"listening on https?://(\[[0-9a-f:]+\]|[0-9.]+):([0-9]+)", self.said[-1]):
                self.address = match[1], int(match[2])
                self._listening.set()
