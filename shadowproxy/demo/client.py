"""The demo's callers: each keeps a connection, like any client of a model server. They do not know of the proxy.

A library such as httpx takes 1.4 ms of CPU for each of these requests, more than live, the shadow and the proxy
together: the demo would mostly show its own callers. What they need of HTTP takes 0.06 ms.
"""

import asyncio
import os
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from types import TracebackType
from typing import Self
from urllib.parse import urlsplit

from shadowproxy.demo.flights import Flight

CALLERS = 16
TIMEOUT = 30.0
"""Seconds for a connection and a whole answer."""
RATE = 500.0
"""Flights a second: the two systems, the proxy and the recorder then take about one processor."""
REQUEST_ID = "X-Request-ID"


class NoAnswer(Exception):
    """A request got no answer. One line."""


@dataclass(frozen=True, slots=True)
class CallerResponse:
    """A response as the caller receives it: header fields in the order received, their names in lower case."""

    status: int
    fields: tuple[tuple[bytes, bytes], ...]
    body: bytes


async def send_all(
    url: str, flights: Sequence[Flight], on_answer: Callable[[], None], *, rate: float | None = None
) -> list[CallerResponse]:
    """Send all flights from 16 callers at once, each waiting for its answer. Returns the answers in the flights' order.

    `rate` is the most flights a second; None is as fast as they are answered. Raises NoAnswer if a request gets no
    answer, and ValueError if `url` is not an http URL.
    """
    answers: list[CallerResponse | None] = [None] * len(flights)
    questions = iter(enumerate(flights))
    clock = asyncio.get_running_loop().time
    began = clock()

    async def caller(questions: Iterator[tuple[int, Flight]]) -> None:
        async with _Connection(url) as connection:
            for position, flight in questions:
                if rate is not None:
                    await asyncio.sleep(began + position / rate - clock())
                answers[position] = await connection.ask(flight)
                on_answer()

    try:
        async with asyncio.TaskGroup() as callers:
            for _ in range(min(CALLERS, len(flights))):
                callers.create_task(caller(questions))
    except ExceptionGroup as failures:
        # One is enough: the same fault hits all callers.
        raise failures.exceptions[0] from None
    return [answer for answer in answers if answer is not None]


class _Connection:
    """Owns a connection to `url`, which the first request opens. Use as `async with`."""

    def __init__(self, url: str) -> None:
        parts = urlsplit(url)
        if parts.scheme != "http" or parts.hostname is None:
            raise ValueError(f"not the address of an HTTP server: {url}")
        self._host, self._port = parts.hostname, parts.port or 80
        self._target = f"POST {parts.path.rstrip('/')}/invocations HTTP/1.1\r\nHost: {parts.netloc.rpartition('@')[2]}"
        self._streams: tuple[asyncio.StreamReader, asyncio.StreamWriter] | None = None

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, where: TracebackType | None
    ) -> None:
        self._close()

    async def ask(self, flight: Flight) -> CallerResponse:
        """The answer for a flight. Raises NoAnswer."""
        try:
            async with asyncio.timeout(TIMEOUT):
                return await self._exchange(flight)
        except TimeoutError:
            raise NoAnswer(f"no answer within {TIMEOUT:g} s") from None
        except (asyncio.IncompleteReadError, asyncio.LimitOverrunError):
            raise NoAnswer("the answer was broken off") from None
        except OSError as error:
            # asyncio's own text has the address, and not what is wrong with it.
            raise NoAnswer(os.strerror(error.errno) if error.errno else str(error)) from None

    async def _exchange(self, flight: Flight) -> CallerResponse:
        if self._streams is None:
            self._streams = await asyncio.open_connection(self._host, self._port)
        reader, writer = self._streams
        head = (
            f"{self._target}\r\nContent-Type: application/json\r\n{REQUEST_ID}: {flight.id}\r\n"
            f"Content-Length: {len(flight.body)}\r\n\r\n"
        )
        writer.write(head.encode("ascii") + flight.body)
        first, *lines = (await reader.readuntil(b"\r\n\r\n"))[:-4].split(b"\r\n")
        fields = tuple((name.lower(), value.strip()) for name, _, value in (line.partition(b":") for line in lines))
        known = dict(fields)
        try:
            status, length = int(first.split()[1]), int(known[b"content-length"])
        except (IndexError, KeyError, ValueError):
            raise NoAnswer("the answer is not HTTP, or has no Content-Length") from None
        body = await reader.readexactly(length)
        if known.get(b"connection", b"").lower() == b"close":
            self._close()
        return CallerResponse(status, fields, body)

    def _close(self) -> None:
        if self._streams is not None:
            self._streams[1].close()
            self._streams = None
