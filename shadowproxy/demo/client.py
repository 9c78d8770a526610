"""The demo's caller: httpx with a base URL, like any client of a model server. It does not know of the proxy."""

import asyncio
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

import httpx

from shadowproxy.demo.flights import Flight

CALLERS = 16
TIMEOUT = 30.0
REQUEST_ID = "X-Request-ID"


@dataclass(frozen=True, slots=True)
class CallerResponse:
    """A response as the caller receives it: header fields in the order received, their names in lower case."""

    status: int
    fields: tuple[tuple[bytes, bytes], ...]
    body: bytes


async def send_all(url: str, flights: Sequence[Flight], on_answer: Callable[[], None]) -> list[CallerResponse]:
    """Send all flights from 16 callers at once, each waiting for its answer. Returns the answers in the flights' order.

    Raises httpx.HTTPError if a request gets no answer.
    """
    answers: list[CallerResponse | None] = [None] * len(flights)
    questions = iter(enumerate(flights))

    async def caller(questions: Iterator[tuple[int, Flight]]) -> None:
        # One client each: separate callers have separate connections.
        async with httpx.AsyncClient(base_url=url, timeout=TIMEOUT, trust_env=False) as client:
            for position, flight in questions:
                answers[position] = await _send(client, flight)
                on_answer()

    try:
        async with asyncio.TaskGroup() as callers:
            for _ in range(min(CALLERS, len(flights))):
                callers.create_task(caller(questions))
    except ExceptionGroup as failures:
        # One is enough: the same fault hits all callers.
        raise failures.exceptions[0] from None
    return [answer for answer in answers if answer is not None]


async def _send(client: httpx.AsyncClient, flight: Flight) -> CallerResponse:
    answer = await client.post(
        "/invocations",
        content=flight.body,
        headers={"Content-Type": "application/json", REQUEST_ID: flight.id},
    )
    fields = tuple((name.lower(), value) for name, value in answer.headers.raw)
    return CallerResponse(answer.status_code, fields, answer.content)
