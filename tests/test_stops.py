"""Sixty stops of the real program under load: whoever was taken on is answered, and the books balance.

Live and the shadow are scripted and note whom they answered, so that three accounts can be held against each other: the
callers', the upstreams' and the log's. What the metrics say is a fourth, at every moment that they can be asked.
"""

import asyncio
import itertools
import random
import re
import signal
from collections import Counter
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path

import pytest
from fakes import Address, Caller, CutOff, Origin, Peer, Script, answer
from program import Program
from prometheus_client.parser import text_string_to_metric_families
from thorough import THOROUGH

from shadowproxy.exchange import Outcome

pytestmark = pytest.mark.soak

STOPS = {1: 50, 2: 10} if THOROUGH else {1: 15, 2: 5}
"""By how many workers there are. Of 15 in a row each meets another mix of signals and shadows."""

KEPT, FRESH = 8, 4
"""Callers that keep their connection, and callers that make a new one for each request."""

LIVE_TAKES = 0.02  # seconds at most
SLOW_SHADOW = 0.3
PAUSE = 0.005

BODY = b'{"instances": [1]}'
HEAD = b"POST /invocations HTTP/1.1\r\nHost: h\r\nX-Request-ID: %s\r\nContent-Length: %d\r\n\r\n"


def takes(seconds: float, dice: random.Random) -> Script:
    """Answer each request with its own ID, after up to that time."""

    async def script(peer: Peer) -> None:
        while (request := await peer.request()) is not None:
            await asyncio.sleep(seconds * dice.random())
            await peer.send(answer(request.all(b"x-request-id")[0]))

    return script


async def hangs(peer: Peer) -> None:
    """Take every request of the connection and answer none."""
    await peer.request()
    await peer.wait_ended(60)


def ids(origin: Origin) -> list[str]:
    return [request.all(b"x-request-id")[0].decode() for request in origin.requests]


@dataclass
class Load:
    """What callers of every kind saw. `let_down` were taken on, as far as they can tell, and got no whole answer."""

    address: Address
    dice: random.Random
    answered: list[str] = field(default_factory=list)
    turned_away: list[str] = field(default_factory=list)
    let_down: list[str] = field(default_factory=list)

    async def run(self) -> None:
        """Ask until the proxy takes no more."""
        kept = (self._keep(number) for number in range(KEPT))
        fresh = (self._renew(number) for number in range(KEPT, KEPT + FRESH))
        await asyncio.gather(*kept, *fresh)

    async def _keep(self, caller_number: int) -> None:
        async with await Caller.to(self.address) as caller:
            number = 1
            while await self._ask(caller, f"{caller_number}-{number}"):
                number += 1
                await self._pause()

    async def _renew(self, caller_number: int) -> None:
        for number in itertools.count(1):
            try:
                caller = await Caller.to(self.address)
            except ConnectionError:
                return
            async with caller:
                await self._ask(caller, f"{caller_number}-{number}")
            await self._pause()

    async def _pause(self) -> None:
        await asyncio.sleep(PAUSE * self.dice.random())

    async def _ask(self, caller: Caller, name: str) -> bool:
        """Ask, in two pieces every fourth time; whether the connection may be used again."""
        request = HEAD % (name.encode(), len(BODY)) + BODY
        middle = len(request) - len(BODY) // 2 if self.dice.random() < 0.25 else len(request)
        seen = len(caller.received)
        try:
            await caller.send(request[:middle])
            if middle < len(request):
                await self._pause()
                await caller.send(request[middle:])
            reply = await caller.answer(b"POST")
        except (CutOff, ConnectionError):
            (self.let_down if len(caller.received) > seen else self.turned_away).append(name)
            return False
        whole = (reply.status, reply.body) == (200, name.encode())
        (self.answered if whole else self.let_down).append(name)
        return reply.all(b"connection") != [b"close"]


@asynccontextmanager
async def auditing(program: Program) -> AsyncIterator[Counter[str]]:
    """Hold the metrics' books against themselves as often as they can be read; the last ones that could be."""
    (host, port) = re.search(r"admin http://([0-9.]+):([0-9]+)", "\n".join(program.said)).groups()  # type: ignore[union-attr]
    books: Counter[str] = Counter()

    async def audit() -> None:
        while True:
            try:
                async with await Caller.to((host, int(port))) as reader:
                    reply = await reader.ask(b"GET /metrics HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n")
            except (CutOff, ConnectionError):
                return  # it is the last that stops
            if reply.status == 503:
                return  # the recorder stops last but one
            families = text_string_to_metric_families(reply.body.decode())
            books.update(readings=1)
            for name in set(books) - {"readings"}:
                del books[name]
            for sample in (sample for family in families for sample in family.samples):
                books[sample.name] += int(sample.value)
            under_way = books["shadowproxy_shadow_in_flight"] + books["shadowproxy_shadow_waiting"]
            assert books["shadowproxy_shadow_chosen_total"] == books["shadowproxy_shadow_outcomes_total"] + under_way
            assert books["shadowproxy_records_written_total"] <= books["shadowproxy_requests_total"]
            await asyncio.sleep(0.02)

    reading = asyncio.get_running_loop().create_task(audit())
    yield books
    await reading


@pytest.mark.parametrize(
    ("workers", "number"), [(workers, number) for workers, stops in STOPS.items() for number in range(stops)]
)
async def test_whoever_was_taken_on_is_answered_and_the_books_balance(
    workers: int, number: int, tmp_path: Path
) -> None:
    """Every third stop is by SIGINT; every fifth is beside a shadow that hangs, and a second signal hurries it."""
    dice = random.Random(number)
    hung = number % 5 == 4
    first = signal.SIGINT if number % 3 == 2 else signal.SIGTERM
    async with (
        Origin(takes(LIVE_TAKES, dice)) as live,
        Origin(hangs if hung else takes(SLOW_SHADOW * (number % 2), dice)) as shadow,
    ):
        values = {
            "workers": workers,
            "admin": "127.0.0.1:0",
            "drain": "1h" if hung else "20s",
            "live": {"url": live.url},
            "shadows": {"s": {"url": shadow.url, "timeout": "1h", "in_flight": 16, "breaker": {"failures": 10_000}}},
        }
        async with Program(tmp_path, values) as program:
            load = Load(program.address, dice)
            async with auditing(program) as books:
                asking = asyncio.get_running_loop().create_task(load.run())
                await asyncio.sleep(0.1 + 0.4 * dice.random())
                async with asyncio.timeout(30):  # a busy machine takes longer to be under load
                    while len(load.answered) <= 2 * KEPT:  # noqa: ASYNC110
                        await asyncio.sleep(0.01)
                program.signal(first)
                await asyncio.wait_for(asking, 30)
                if hung:
                    program.signal(dice.choice([signal.SIGINT, signal.SIGTERM]))
                assert await program.ended() == 0  # within seconds; a drain that was not hurried takes an hour
        records = program.records()
        asked, shadowed = ids(live), ids(shadow)

    assert load.let_down == []
    # A connection that nobody had taken from the listening socket: its caller may ask elsewhere, for nobody was asked.
    assert set(load.turned_away) & {*asked, *shadowed} == set()
    assert [name for name in load.turned_away if int(name.partition("-")[0]) < KEPT] == []

    assert Counter(asked) == Counter(load.answered)
    assert Counter(record.id for record in records) == Counter(load.answered)
    assert {record.live.outcome for record in records} == {Outcome.OK}
    count = len(records)
    assert f"stopped: {count} requests, {count} records in the log, 0 lost" in program.said[-1]

    outcomes = {record.id: record.shadows["s"].outcome for record in records}
    ok = {name for name, outcome in outcomes.items() if outcome is Outcome.OK}
    if hung:
        assert set(outcomes.values()) <= {Outcome.SHUTDOWN, Outcome.LANE_FULL}
        assert set(shadowed) <= set(outcomes)
    else:
        assert set(outcomes.values()) <= {Outcome.OK, Outcome.LANE_FULL}
        assert Counter(shadowed) == Counter(ok)
    assert books["readings"] > 1
    assert books["shadowproxy_records_lost_total"] == 0
    assert books["shadowproxy_requests_total"] <= len(records)
