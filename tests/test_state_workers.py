"""A stateful shadow of several workers: sessions that move between them, and processes that are killed."""

import asyncio
import os
import random
import signal
from contextlib import AsyncExitStack, suppress
from pathlib import Path

import pytest
from fakes import Caller, Origin, Peer, Script, answer
from load import until_balanced
from program import Program
from test_workers import admin, until, values, workers

from shadowproxy.exchange import Outcome, Verdict

pytestmark = pytest.mark.slow

JSON = ((b"Content-Type", b"application/json"),)


def items(name: bytes, delay: float = 0.0) -> Script:
    """A service that makes items, and knows only its own."""
    source = random.Random(name)
    known: set[bytes] = set()

    async def script(peer: Peer) -> None:
        with suppress(TimeoutError):  # a connection that is idle while processes are started again
            await serve(peer)

    async def serve(peer: Peer) -> None:
        while (request := await peer.request()) is not None:
            method, target, _ = request.start.split(b" ", 2)
            if method == b"POST":
                await asyncio.sleep(delay)
                made = b"%b-%016x" % (name, source.getrandbits(64))
                known.add(made)
                await peer.send(answer(b'{"id":"%b"}' % made, *JSON, status=201))
            elif (own := target.rpartition(b"/")[2]) in known:
                await peer.send(answer(b'{"id":"%b","is":1}' % own, *JSON))
            else:
                await peer.send(answer(b'{"detail":"none"}', *JSON, status=404))

    return script


async def make(caller: Caller) -> bytes:
    made = await caller.ask(b"POST /items HTTP/1.1\r\nHost: h\r\nContent-Length: 2\r\n\r\n{}")
    assert made.status == 201
    return made.body.split(b'"')[3]


async def ask_for(caller: Caller, item: bytes) -> None:
    got = await caller.ask(b"GET /items/%b HTTP/1.1\r\nHost: h\r\n\r\n" % item)
    assert (got.status, item in got.body) == (200, True)


async def callers_of(program: Program, stack: AsyncExitStack, count: int) -> list[Caller]:
    return [await stack.enter_async_context(await program.caller()) for _ in range(count)]


@pytest.mark.timing
async def test_sessions_move_between_workers_and_outlive_a_killed_recorder_and_a_killed_worker(tmp_path: Path) -> None:
    made: list[bytes] = []
    async with Origin(items(b"live")) as live, Origin(items(b"own", 0.005)) as shadow, AsyncExitStack() as stack:
        given = values(live, shadow, workers=3)
        given["shadows"]["s"]["state"] = "auto"
        async with Program(tmp_path, given) as program, admin(program) as asking:
            callers = await callers_of(program, stack, 6)

            async def session(number: int) -> None:
                """Made through one worker and asked for through two others, at once."""
                one, two, three = (callers[(number + step) % 6] for step in range(3))
                made.append(await make(one))
                await ask_for(two, made[-1])
                await ask_for(three, made[-1])

            for number in range(30):
                await session(number)
            await until_balanced(asking, 90)
            os.kill(program.recorders[0], signal.SIGKILL)
            for number, item in enumerate(made):
                await ask_for(callers[number % 6], item)
            killed = workers(program)[0]
            os.kill(killed, signal.SIGKILL)
            await until(lambda: killed not in workers(program) and len(workers(program)) == 3)
            async with AsyncExitStack() as later:
                again = await callers_of(program, later, 9)
                for number, item in enumerate(made):
                    await ask_for(again[number % 9], item)
                    await ask_for(again[(number + 1) % 9], item)
            await until_balanced(asking, 90)
            state = (await asking.get("/shadows")).json()["shadows"]["s"]["state"]
            assert (state["ids"], state["dropped"]) == (30, 0)
            assert state["translated"] >= 90  # but for what the killed worker had counted last
            assert await program.stop() == 0
        records = program.records()
    assert not any(b"live-" in message.raw for message in shadow.requests)
    follow_ups = [each.shadows["s"] for each in records if each.request.method == "GET"]
    assert {leg.outcome for leg in follow_ups} <= {Outcome.OK, Outcome.SHUTDOWN}
    judged = [leg.judgement.verdict for leg in follow_ups if leg.judgement is not None]
    assert set(judged) == {Verdict.MATCH}
    assert len(judged) > 90
    assert len({each.proxy for each in records if each.request.method == "GET"}) == 3
