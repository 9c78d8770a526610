"""The demo's caller: httpx against a base URL, as a client of a model server is written. Knows nothing of the proxy."""

import asyncio
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

import httpx

from shadowproxy.demo.flights import Flight

CALLERS = 16
TIMEOUT = 30.0
REQUEST_ID = "X-Request-ID"


@dataclass(frozen=True, slots=True)
class Heard:
    """An answer as the caller has it: every header field with its name in lower case, in the order they came."""

    status: int
    fields: tuple[tuple[bytes, bytes], ...]
    body: bytes


async def ask_all(url: str, flights: Sequence[Flight], on_answer: Callable[[], None]) -> list[Heard]:
    """The answers to all flights, in their order, asked by 16 callers at once; each waits for one before its next.

    Raises httpx.HTTPError where a request gets no answer.
    """
    answers: list[Heard | None] = [None] * len(flights)
    questions = iter(enumerate(flights))

    async def caller(questions: Iterator[tuple[int, Flight]]) -> None:
        # A client each: one connection of its own, as separate callers have.
        async with httpx.AsyncClient(base_url=url, timeout=TIMEOUT, trust_env=False) as client:
            for position, flight in questions:
                answers[position] = await _ask(client, flight)
                on_answer()

    try:
        async with asyncio.TaskGroup() as callers:
            for _ in range(min(CALLERS, len(flights))):
                callers.create_task(caller(questions))
    except ExceptionGroup as failures:
        # One will do: what keeps one caller from its answer keeps all of them.
        raise failures.exceptions[0] from None
    return [answer for answer in answers if answer is not None]


async def _ask(client: httpx.AsyncClient, flight: Flight) -> Heard:
    answer = await client.post(
        "/invocations",
        content=flight.body,
        headers={"Content-Type": "application/json", REQUEST_ID: flight.id},
    )
    fields = tuple((name.lower(), value) for name, value in answer.headers.raw)
    return Heard(answer.status_code, fields, answer.content)
