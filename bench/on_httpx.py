"""The project with httpx's own transport in place of its connection pool, to measure what the pool saves."""

import asyncio
import sys
import time
from pathlib import Path
from typing import Any

import httpx

from shadowproxy.config import load
from shadowproxy.serve import run
from shadowproxy.serve.http1.framing import ResponseHead, parse_request_head
from shadowproxy.serve.upstreams import endpoint, errors
from shadowproxy.serve.upstreams.pool import Statistics
from shadowproxy.serve.upstreams.request import OutgoingRequest
from shadowproxy.serve.upstreams.roundtrip import OVER, RoundTrip
from shadowproxy.serve.workers import begun, live

ERRORS = (
    (httpx.ConnectTimeout, errors.ConnectTimeout),
    (httpx.ConnectError, errors.ConnectError),
    (httpx.TimeoutException, errors.ReadTimeout),
    (httpx.NetworkError, errors.ReadError),
)
"""httpx's errors and the project's: the first that fits. Any other one is a ProtocolError."""


class HttpxPool:
    """What `Endpoint` needs of a pool, by httpx.AsyncHTTPTransport."""

    def __init__(self, host: str, port: int, **_: Any) -> None:
        self.loop = asyncio.get_running_loop()
        self._origin = f"http://{host}:{port}"
        limits = httpx.Limits(max_connections=None, max_keepalive_connections=None, keepalive_expiry=4.0)
        self._transport = httpx.AsyncHTTPTransport(limits=limits, trust_env=False)
        self._tasks: set[asyncio.Task[None]] = set()

    def send(self, round_trip: RoundTrip, outgoing: OutgoingRequest) -> None:
        round_trip.task = task = self.loop.create_task(self._send(round_trip, outgoing))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _send(self, round_trip: RoundTrip, outgoing: OutgoingRequest) -> None:
        head = parse_request_head(outgoing.head[:-4])
        request = httpx.Request(
            head.method,
            self._origin + head.target.decode("latin-1"),
            headers=list(head.fields),
            content=outgoing.body,
            extensions={"timeout": {"read": outgoing.silence}, "target": head.target},
        )
        try:
            response = await self._transport.handle_async_request(request)
            try:
                round_trip.first_byte_at = time.perf_counter()
                fields = tuple(response.headers.raw)
                names = {name.lower(): value for name, value in fields}
                round_trip.head = ResponseHead(response.status_code, fields, names, framing=0, keep_alive=True)
                round_trip.on_head(round_trip.head)
                async for chunk in response.aiter_raw():
                    round_trip.on_body(chunk)
            finally:
                await response.aclose()
        except httpx.TransportError as error:
            round_trip.task = None
            kind = next((ours for theirs, ours in ERRORS if isinstance(error, theirs)), errors.ProtocolError)
            round_trip.fail(kind(str(error) or type(error).__name__))
        else:
            round_trip.state = OVER
            round_trip.on_end()

    def statistics(self) -> Statistics:
        return Statistics(open=0, idle=0, uploads=0)

    async def aclose(self) -> None:
        await self._transport.aclose()


if __name__ == "__main__":
    if sys.argv[1].isdigit():  # a live process, which the supervisor below has started
        endpoint.Pool = HttpxPool  # type: ignore[assignment,attr-defined]  # the swap that this module is for
        live.main()
    else:
        begun.LIVE = "bench.on_httpx"
        sys.exit(run.run(load(Path(sys.argv[1]))))
