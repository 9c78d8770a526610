"""The project with httpx's own transport in place of its wire, to measure what the wire saves."""

import asyncio
import sys
import time
from pathlib import Path
from typing import Any

import httpx

from shadowproxy.config import load
from shadowproxy.serve import run
from shadowproxy.serve.http1.framing import ReplyHead, request_head
from shadowproxy.serve.upstreams import endpoint, errors
from shadowproxy.serve.upstreams.asking import Asking, Message
from shadowproxy.serve.upstreams.pool import Statistics

ERRORS = (
    (httpx.ConnectTimeout, errors.ConnectTimeout),
    (httpx.ConnectError, errors.ConnectError),
    (httpx.TimeoutException, errors.ReadTimeout),
    (httpx.NetworkError, errors.ReadError),
)
"""httpx's errors and the project's: the first that fits. Any other one is a ProtocolError."""


class HttpxWire:
    """What `Endpoint` asks of a wire, by httpx.AsyncHTTPTransport."""

    def __init__(self, host: str, port: int, **_: Any) -> None:
        self.loop = asyncio.get_running_loop()
        self._origin = f"http://{host}:{port}"
        limits = httpx.Limits(max_connections=None, max_keepalive_connections=None, keepalive_expiry=4.0)
        self._transport = httpx.AsyncHTTPTransport(limits=limits, trust_env=False)
        self._tasks: set[asyncio.Task[None]] = set()

    def begin(self, asking: Asking, message: Message) -> None:
        asking.task = task = self.loop.create_task(self._ask(asking, message))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _ask(self, asking: Asking, message: Message) -> None:
        head = request_head(message.head[:-4])
        request = httpx.Request(
            head.method,
            self._origin + head.target.decode("latin-1"),
            headers=list(head.fields),
            content=message.body,
            extensions={"timeout": {"read": message.silence}, "target": head.target},
        )
        try:
            response = await self._transport.handle_async_request(request)
            try:
                asking.first_byte_at = time.perf_counter()
                fields = tuple(response.headers.raw)
                names = {name.lower(): value for name, value in fields}
                asking.head = ReplyHead(response.status_code, fields, names, framing=0, keep_alive=True)
                asking.begins(asking.head)
                async for chunk in response.aiter_raw():
                    asking.piece(chunk)
            finally:
                await response.aclose()
        except httpx.TransportError as error:
            asking.task = None
            kind = next((ours for theirs, ours in ERRORS if isinstance(error, theirs)), errors.ProtocolError)
            asking.fail(kind(str(error) or type(error).__name__))
        else:
            asking.over = True
            asking.ends()

    def statistics(self) -> Statistics:
        return Statistics(open=0, idle=0, uploads=0)

    async def aclose(self) -> None:
        await self._transport.aclose()


if __name__ == "__main__":
    endpoint.Wire = HttpxWire  # type: ignore[assignment,attr-defined]  # the swap that this module is for
    sys.exit(run.run(load(Path(sys.argv[1]))))
