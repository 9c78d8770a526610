"""Starts the demo's servers as processes, and makes sure that each is stopped."""

import asyncio
import os
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
"""Seconds. A server writes to a file, so that its user can read it later; the file must be polled."""

_LISTENING = re.compile(r"listening on (http://127\.0\.0\.1:\d+)")


class NotStarted(Exception):
    """A server did not start. One line, with the last line of its output."""


@dataclass(frozen=True, slots=True)
class Server:
    """A server that accepts requests at `url`. It is stopped when the block that started it is left."""

    name: str
    url: str
    process: asyncio.subprocess.Process
    output: Path

    async def stop(self) -> int:
        """Send SIGTERM, and SIGKILL if it still runs after 15 s. Returns the exit status. May be called twice."""
        return await _stop(self.process)


@asynccontextmanager
async def started(name: str, module: str, *arguments: str, output: Path) -> AsyncIterator[Server]:
    """Run `python -m module arguments` on a leash, until it prints its address. Its output goes to the file `output`.

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
            # What the environment sets for another proxy is not for this one.
            env={name: value for name, value in os.environ.items() if not name.startswith("SHADOWPROXY_")},
            # Ctrl-C goes to the terminal's whole foreground group. The servers are outside of it, so that we can stop
            # them in order: the proxy must finish the requests under way before its model stops.
            process_group=0,
        )
    try:
        yield Server(name, await _url(name, process, output), process, output)
    finally:
        await _stop(process)


async def _url(name: str, process: asyncio.subprocess.Process, output: Path) -> str:
    try:
        async with asyncio.timeout(START_DEADLINE):
            while (found := _LISTENING.search(_text_of(output))) is None:
                if process.returncode is not None:
                    raise NotStarted(f"{name} ended during its start: {_last_line(output)}")
                await asyncio.sleep(POLL)
    except TimeoutError:
        raise NotStarted(f"{name} did not listen within {START_DEADLINE:g} s: {_last_line(output)}") from None
    return found[1]


def _text_of(output: Path) -> str:
    return output.read_text(errors="replace")


def _last_line(output: Path) -> str:
    lines = _text_of(output).splitlines()
    return lines[-1].strip() if lines else "it printed nothing"


async def _stop(process: asyncio.subprocess.Process) -> int:
    if process.returncode is None:
        process.terminate()
    try:
        async with asyncio.timeout(STOP_DEADLINE):
            return await process.wait()
    except TimeoutError:
        process.kill()
        return await process.wait()
