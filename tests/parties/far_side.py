"""Answer every request with what was read of it: `python far_side.py aiohttp|gunicorn|uvicorn`.

Runs in the environment that servers.txt describes; serve.mjs and go/serve do the same. Each answer has a field
`X-Read: METHOD TARGET SHA256-OF-THE-BODY`, and its body is `read TARGET`. `/report` tells how many requests there were
before it, and how many of them strayed in: without the `Via` that the proxy puts last into whatever it forwards.
"""

import asyncio
import hashlib
import socket
import sys
from collections.abc import Callable, Iterable
from typing import Any

import uvicorn
from aiohttp import web
from gunicorn.app.base import BaseApplication

handled = 0
strays = 0


def report() -> bytes:
    return f"{handled} {strays}".encode()


def read(method: str, target: str, via: str, body: bytes) -> tuple[str, bytes]:
    """The X-Read field and the body of the answer."""
    global handled, strays
    handled += 1
    strays += not via.endswith("1.1 shadowproxy")
    return f"{method} {target} {hashlib.sha256(body).hexdigest()}", f"read {target}".encode("latin-1", "replace")


async def by_aiohttp() -> None:
    async def answer(request: web.BaseRequest) -> web.StreamResponse:
        if request.raw_path == "/report":
            return web.Response(body=report())
        said, body = read(request.method, request.raw_path, request.headers.get("Via", ""), await request.read())
        return web.Response(body=body, headers={"X-Read": said})

    runner = web.ServerRunner(web.Server(answer))
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", 0)
    await site.start()
    print(f"listening on http://127.0.0.1:{runner.addresses[0][1]}")
    await asyncio.Event().wait()


async def by_uvicorn() -> None:
    async def answer(scope: Any, receive: Any, send: Any) -> None:
        target = scope["raw_path"].decode("latin-1")
        if scope["query_string"]:
            target += "?" + scope["query_string"].decode("latin-1")
        body, more = b"", True
        while more:
            event = await receive()
            if event["type"] != "http.request":
                return
            body, more = body + event["body"], event["more_body"]
        via = [value.decode("latin-1") for name, value in scope["headers"] if name == b"via"]
        headers = []
        content = report()
        if target != "/report":
            said, content = read(scope["method"], target, via[-1] if via else "", body)
            headers = [(b"x-read", said.encode("latin-1"))]
        headers.append((b"content-length", b"%d" % len(content)))
        await send({"type": "http.response.start", "status": 200, "headers": headers})
        await send({"type": "http.response.body", "body": content})

    config = uvicorn.Config(answer, lifespan="off", log_level="critical", ws="none")
    listening = socket.create_server(("127.0.0.1", 0))
    print(f"listening on http://127.0.0.1:{listening.getsockname()[1]}")
    await uvicorn.Server(config).serve(sockets=[listening])


class Gunicorn(BaseApplication):  # type: ignore[misc]
    def load_config(self) -> None:
        listening = socket.create_server(("127.0.0.1", 0))
        listening.set_inheritable(True)
        print(f"listening on http://127.0.0.1:{listening.getsockname()[1]}")
        self.held = listening
        for name, value in {
            "bind": f"fd://{listening.fileno()}",
            "worker_class": "gthread",
            "threads": 8,
            "keepalive": 5,
            "loglevel": "critical",
        }.items():
            self.cfg.set(name, value)

    def load(self) -> Callable[[dict[str, Any], Callable[..., Any]], Iterable[bytes]]:
        def answer(environ: dict[str, Any], start: Callable[..., Any]) -> Iterable[bytes]:
            headers = []
            content = report()
            if environ["RAW_URI"] != "/report":
                body = environ["wsgi.input"].read()
                said, content = read(environ["REQUEST_METHOD"], environ["RAW_URI"], environ.get("HTTP_VIA", ""), body)
                headers = [("X-Read", said)]
            start("200 OK", [*headers, ("Content-Length", str(len(content)))])
            return [content]

        return answer


match sys.argv[1]:
    case "aiohttp":
        asyncio.run(by_aiohttp())
    case "uvicorn":
        asyncio.run(by_uvicorn())
    case "gunicorn":
        Gunicorn().run()
