"""The demo's servers as processes of their own, each stopped for certain by whoever started it."""

import asyncio
import re
import subprocess
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path

START_DEADLINE = 30.0
STOP_DEADLINE = 15.0
POLL = 0.02
"""Seconds. What a server writes goes to a file, where its user can read it later; a file has to be looked at."""

_LISTENING = re.compile(r"listening on (http://127\.0\.0\.1:\d+)")


class NotStarted(Exception):
    """A server that did not come up. One line: its own last word, where it had one."""


@dataclass(frozen=True, slots=True)
class Server:
    """A server that accepts requests at `url`. It is stopped when the block that started it is left."""

    name: str
    url: str
    process: asyncio.subprocess.Process
    output: Path

    async def stop(self) -> int:
        """SIGTERM, SIGKILL after 15 s without an end, and the exit status. Does no harm a second time."""
        return await _stop(self.process)


@asynccontextmanager
async def started(name: str, module: str, *arguments: str, output: Path) -> AsyncIterator[Server]:
    """`python -m module arguments`, on a leash, once it says where it listens. What it says is in `output`.

    Raises NotStarted.
    """
    with output.open("wb") as written:
        process = await asyncio.create_subprocess_exec(
            sys.executable,
            "-m",
            "shadowproxy.demo.leash",
            module,
            *arguments,
            stdin=subprocess.PIPE,
            stdout=written,
            stderr=written,
            # Ctrl-C is the terminal's word to its whole foreground group. Outside of it the servers are stopped by us,
            # in order: the proxy has the answers under way to finish before its model goes.
            process_group=0,
        )
    try:
        yield Server(name, await _url(name, process, output), process, output)
    finally:
        await _stop(process)


async def _url(name: str, process: asyncio.subprocess.Process, output: Path) -> str:
    try:
        async with asyncio.timeout(START_DEADLINE):
            while (found := _LISTENING.search(_said(output))) is None:
                if process.returncode is not None:
                    raise NotStarted(f"{name} ended at once: {_last_word(output)}")
                await asyncio.sleep(POLL)
    except TimeoutError:
        raise NotStarted(f"{name} did not listen within {START_DEADLINE:g} s: {_last_word(output)}") from None
    return found[1]


def _said(output: Path) -> str:
    return output.read_text(errors="replace")


def _last_word(output: Path) -> str:
    lines = _said(output).splitlines()
    return lines[-1].strip() if lines else "it said nothing"


async def _stop(process: asyncio.subprocess.Process) -> int:
    if process.returncode is None:
        process.terminate()
    try:
        async with asyncio.timeout(STOP_DEADLINE):
            return await process.wait()
    except TimeoutError:
        process.kill()
        return await process.wait()
