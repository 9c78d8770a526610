"""WebSockets by other projects: `python sockets.py serve LIBRARY`, `python sockets.py ask LIBRARY URL`.

Runs in the environment that servers.txt describes. A server sends each message back, and closes with 4001 after `bye`.
A caller sends texts and bytes of many sizes, compressed where both can, and prints what it got as JSON.
"""

import asyncio
import json
import random
import socket
import sys
from typing import Any

import aiohttp
import uvicorn
import websockets
from aiohttp import web

PROTOCOL = "chat.v1"
CODE, REASON = 4001, "see you"
MESSAGES: list[str | bytes] = [
    "hello",
    "",
    "äö😀" * 100,
    b"\x00\xff" * 10,
    b"x" * 200_000,
    "y" * 70_000,
    random.Random(1).randbytes(100_000),
]


def announce(port: int) -> None:
    print(f"listening on http://127.0.0.1:{port}", flush=True)


async def serve_aiohttp() -> None:
    async def talk(request: web.BaseRequest) -> web.StreamResponse:
        ws = web.WebSocketResponse(protocols=(PROTOCOL,))
        await ws.prepare(request)
        async for message in ws:
            if message.data == "bye":
                await ws.close(code=CODE, message=REASON.encode())
            elif message.type is aiohttp.WSMsgType.TEXT:
                await ws.send_str(message.data)
            else:
                await ws.send_bytes(message.data)
        return ws

    runner = web.ServerRunner(web.Server(talk))
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    announce(runner.addresses[0][1])
    await asyncio.Event().wait()


async def serve_uvicorn() -> None:
    async def talk(scope: Any, receive: Any, send: Any) -> None:
        await receive()
        await send({"type": "websocket.accept", "subprotocol": PROTOCOL})
        while (event := await receive())["type"] == "websocket.receive":
            if event.get("text") == "bye":
                await send({"type": "websocket.close", "code": CODE, "reason": REASON})
                return
            key = "text" if event.get("text") is not None else "bytes"
            await send({"type": "websocket.send", key: event[key]})

    config = uvicorn.Config(talk, lifespan="off", log_level="critical", ws="auto")
    listening = socket.create_server(("127.0.0.1", 0))
    announce(listening.getsockname()[1])
    await uvicorn.Server(config).serve(sockets=[listening])


async def serve_websockets() -> None:
    async def talk(connection: Any) -> None:
        async for message in connection:
            if message == "bye":
                await connection.close(CODE, REASON)
            else:
                await connection.send(message)

    async with websockets.serve(talk, "127.0.0.1", 0, subprotocols=[websockets.Subprotocol(PROTOCOL)]) as server:
        announce(server.sockets[0].getsockname()[1])
        await asyncio.Event().wait()


async def ask_websockets(url: str) -> tuple[list[bool], str | None, int | None, str]:
    async with websockets.connect(url, subprotocols=[websockets.Subprotocol(PROTOCOL)], proxy=None) as connection:
        same = []
        for message in MESSAGES:
            await connection.send(message)
            same.append(await connection.recv() == message)
        await (await connection.ping())
        await connection.send("bye")
        await connection.wait_closed()
        return same, connection.subprotocol, connection.close_code, connection.close_reason or ""


async def ask_aiohttp(url: str) -> tuple[list[bool], str | None, int | None, str]:
    async with (
        aiohttp.ClientSession() as session,
        session.ws_connect(url, protocols=(PROTOCOL,), compress=15) as connection,
    ):
        same = []
        for message in MESSAGES:
            await (connection.send_str(message) if isinstance(message, str) else connection.send_bytes(message))
            same.append((await connection.receive()).data == message)
        await connection.ping()
        await connection.send_str("bye")
        last = await connection.receive()
        return same, connection.protocol, connection.close_code, last.extra or ""


SERVERS = {"uvicorn": serve_uvicorn, "aiohttp": serve_aiohttp, "websockets": serve_websockets}
CALLERS = {"websockets": ask_websockets, "aiohttp": ask_aiohttp}

if sys.argv[1] == "serve":
    asyncio.run(SERVERS[sys.argv[2]]())
else:
    url = sys.argv[3].replace("http://", "ws://") + "/room?x=1"
    print(json.dumps(asyncio.run(CALLERS[sys.argv[2]](url))))
