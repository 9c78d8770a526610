"""The project with httpx's own transport in place of its wire, to measure what the wire saves."""

import sys
import time
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import httpx

from shadowproxy.config import load
from shadowproxy.serve import app, upstream
from shadowproxy.serve.wire import Statistics
from shadowproxy.serve.wire_request import WireRequest


class HttpxWire:
    """What `Endpoint` asks of a wire, by httpx.AsyncHTTPTransport."""

    def __init__(self, host: str, port: int, **_: Any) -> None:
        self._origin = f"http://{host}:{port}"
        limits = httpx.Limits(max_connections=None, max_keepalive_connections=None, keepalive_expiry=4.0)
        self._transport = httpx.AsyncHTTPTransport(limits=limits, trust_env=False)

    async def handle_async_request(self, asked: WireRequest) -> SimpleNamespace:
        request = httpx.Request(
            asked.method,
            self._origin + asked.target.decode("latin-1"),
            headers=list(asked.fields),
            content=asked.body,
            extensions={"timeout": {"read": asked.silence}, "target": asked.target},
        )
        response = await self._transport.handle_async_request(request)
        return SimpleNamespace(
            status_code=response.status_code,
            fields=tuple(response.headers.raw),
            names=frozenset(name.lower() for name, _ in response.headers.raw),
            first_byte_at=time.perf_counter(),
            stream=_Stream(response),
        )

    def statistics(self) -> Statistics:
        return Statistics(open=0, idle=0, uploads=0)

    async def aclose(self) -> None:
        await self._transport.aclose()


class _Stream:
    ended = False  # it does not say so before it is read on

    def __init__(self, response: httpx.Response) -> None:
        self._response = response
        self._chunks = response.aiter_raw()

    async def __anext__(self) -> bytes:
        return await anext(self._chunks)

    async def aclose(self) -> None:
        await self._response.aclose()


if __name__ == "__main__":
    upstream.Wire = HttpxWire  # type: ignore[assignment,attr-defined]  # the swap that this module is for
    sys.exit(app.run(load(Path(sys.argv[1]))))
