"""`python serve.py LOG [DELAY_MS]`: all of these services at one port, with a log of what they get and send.

Runs in the environment that ../state.txt describes.
"""

import asyncio
import socket
import sys
from pathlib import Path
from typing import Any

import items
import mcp_servers
import notes
import responses
import uvicorn
from received import Logged

APPS = {"/mcp/": mcp_servers.app, "/notes/": notes.app, "/v1/": responses.app}


async def by_path(scope: Any, receive: Any, send: Any) -> None:
    if scope["type"] == "lifespan":
        await mcp_servers.app(scope, receive, send)
        return
    for prefix, app in APPS.items():
        if scope["path"].startswith(prefix):
            await app(scope, receive, send)
            return
    await items.app(scope, receive, send)


async def serve(log: Path, delay: float) -> None:
    listening = socket.create_server(("127.0.0.1", 0))
    config = uvicorn.Config(Logged(by_path, log, delay), log_level="warning", timeout_graceful_shutdown=1)
    print(f"listening on http://127.0.0.1:{listening.getsockname()[1]}", flush=True)
    await uvicorn.Server(config).serve(sockets=[listening])


if __name__ == "__main__":
    asyncio.run(serve(Path(sys.argv[1]), float(sys.argv[2]) / 1000 if len(sys.argv) > 2 else 0.0))
