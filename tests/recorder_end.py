"""The recorder's end of the admin port in a process of its own, with an application that says what it got."""

import asyncio
import contextlib
import json
import os
import signal
import socket
import sys
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import uvloop

from shadowproxy.serve.admin.receiving import Receiver

TESTS = Path(__file__).parent


async def echo(scope: Any, receive: Any, send: Any) -> None:
    """Answers with method, path and body; /hangs is answered by nobody, /bodiless before its body is read."""
    if scope["path"] == "/hangs":
        await send({"type": "http.response.start", "status": 200, "headers": []})
        await send({"type": "http.response.body", "body": b"begun", "more_body": True})
        await asyncio.Event().wait()
    got = b""
    more = scope["path"] != "/bodiless"
    while more:
        message = await receive()
        got += message.get("body", b"")
        more = message.get("more_body", False)
    told = {
        "method": scope["method"],
        "path": scope["path"],
        "query": scope["query_string"].decode(),
        "body": got.decode(),
    }
    body = json.dumps(told).encode()
    await send({"type": "http.response.start", "status": 200, "headers": [(b"content-length", b"%d" % len(body))]})
    await send({"type": "http.response.body", "body": body})


class RecorderEnd:
    """Owns the process; use as `async with RecorderEnd.beside(end)`. `end` is closed here."""

    def __init__(self, process: asyncio.subprocess.Process) -> None:
        self._process = process

    @classmethod
    @contextlib.asynccontextmanager
    async def beside(cls, end: socket.socket) -> AsyncIterator["RecorderEnd"]:
        process = await asyncio.create_subprocess_exec(
            sys.executable, __file__, str(end.fileno()), pass_fds=[end.fileno()], stdout=asyncio.subprocess.PIPE,
            env={**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)},
        )  # fmt: skip
        end.close()
        try:
            assert process.stdout is not None
            assert await process.stdout.readline() == b"ready\n"
            yield cls(process)
        finally:
            with contextlib.suppress(ProcessLookupError):
                process.kill()
            await process.communicate()

    def signal(self, number: signal.Signals) -> None:
        self._process.send_signal(number)

    async def kill(self) -> None:
        self._process.kill()
        await self._process.wait()


async def _main(descriptor: int) -> None:
    Receiver(socket.socket(fileno=descriptor), echo).start()
    print("ready", flush=True)
    await asyncio.Event().wait()


if __name__ == "__main__":
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        runner.run(_main(int(sys.argv[1])))
