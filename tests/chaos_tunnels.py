"""WebSockets and odd trailers beside ordinary traffic: `make chaos`, with a table of figures.

A crowd does one of the things below all the while, through the same program and to the same live, and eight ordinary
callers are measured, beside those of a program that has no crowd, as in chaos.py.
"""

import asyncio
import contextlib
import random
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from chaos import BESIDE, CALLERS, HEAD, LIMITS, MEMORY, Party, compare
from fakes import Caller, CutOff, Malformed, Origin, Peer
from program import PATIENCE, Program
from test_promises import LIVES

from shadowproxy.exchange import Outcome

pytestmark = pytest.mark.soak

OFFER = b"GET /socket/%b HTTP/1.1\r\nHost: h\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\n"
SWITCH = b"HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\n"
PIECE = bytes(range(256)) * 64

PAUSE = 0.05
"""Seconds between two acts of each member of a crowd: their cost is part of what the callers beside them wait for."""

CHUNKED = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n"
OK = b"\r\n2\r\nok\r\n0\r\n"
FORBIDDEN = b"Content-Length: 9\r\nTransfer-Encoding: chunked\r\nHost: other\r\nSet-Cookie: a=b\r\nAuthorization: x\r\n"
HINT = b"HTTP/1.1 103 Early Hints\r\nLink: </a>\r\n"
LATE = b'{"late": true}'

ODD_RESPONSES: list[tuple[bytes, bytes | None]] = [
    (CHUNKED + b"Trailer: X-Sum\r\n" + OK + b"\r\n", b"ok"),  # announced, and missing
    (CHUNKED + OK + b"X-Sum: 1\r\n\r\n", b"ok"),  # not announced
    (CHUNKED + OK + FORBIDDEN + b"\r\n", b"ok"),
    (CHUNKED + OK + b"X-A: b\r\n" * 20_000 + b"\r\n", None),
    (CHUNKED + OK + b"no field\r\n\r\n", None),
    (CHUNKED + OK + b"X-Su", None),
    ((HINT + b"\r\n") * 30 + LIVES, LATE),
    (HINT + b"Content-Length: 5\r\n\r\n" + LIVES, LATE),
    (HINT + b"\r\n", None),  # and no response
    ((HINT + b"\r\n") * 100, None),
    (b"HTTP/1.1 100 Continue\r\n\r\n" + LIVES, LATE),
    (SWITCH + b"frames", None),
]
"""What live sends, and the body that the caller must get. None for no whole response: live closes after these."""

POST = b"POST /plain HTTP/1.1\r\nHost: h\r\nTransfer-Encoding: chunked\r\n"
ODD_REQUESTS: list[tuple[bytes, int | None]] = [
    (POST + b"Trailer: X-Sum\r\n" + OK + b"\r\n", 200),
    (POST + OK + b"X-Sum: 1\r\n\r\n", 200),
    (POST + OK + FORBIDDEN + b"\r\n", 200),
    (POST + OK + b"X-A: b\r\n" * 20_000 + b"\r\n", 400),
    (POST + OK + b"no field\r\n\r\n", 400),
    (POST + OK + b"X-Su", None),
    (POST + b"TE: trailers, gzip\r\nConnection: TE\r\n" + OK + b"\r\n", 200),
]
"""What a caller sends, and the status that it must get; None where it leaves."""


async def echo(peer: Peer) -> None:
    at = len(peer.received) - len(peer.unread)
    while True:
        await peer.wait_received(at + 1)
        data = bytes(peer.received[at:])
        at += len(data)
        await peer.send(data)


async def flood(peer: Peer) -> None:
    await peer.flood(PIECE, 1 << 40)


async def deaf(peer: Peer) -> None:
    peer.stop_reading()
    await peer.gone.wait()


async def reset(peer: Peer) -> None:
    await peer.send(PIECE)
    peer.reset()


SOCKETS: dict[bytes, Callable[[Peer], Awaitable[None]]] = {
    b"echo": echo,
    b"flood": flood,
    b"deaf": deaf,
    b"reset": reset,
}


async def live(peer: Peer) -> None:
    with contextlib.suppress(CutOff, ConnectionError, TimeoutError):  # callers come and go
        while (request := await peer.request()) is not None:
            kind, _, name = request.target.removeprefix(b"/").partition(b"/")
            if kind == b"socket":
                await peer.send(SWITCH)
                await SOCKETS[name](peer)
                return
            if kind == b"odd":
                raw, body = ODD_RESPONSES[int(name)]
                await peer.send(raw)
                if body is None:
                    return
                continue
            await peer.send(LIVES)


class Crowd:
    """Members who each do `act` over and over. Owns their tasks: use as `async with`."""

    def __init__(self, program: Program, act: "Act", members: int) -> None:
        self.program = program
        self.acts = 0
        self.tunnels = 0
        self.wrong: list[str] = []
        self._act = act
        self._members = members
        self._ending = False
        self._tasks: list[asyncio.Task[None]] = []

    async def __aenter__(self) -> "Crowd":
        self._tasks = [asyncio.ensure_future(self._go_on(number)) for number in range(self._members)]
        return self

    async def __aexit__(self, *_: object) -> None:
        self._ending = True
        left = set(self._tasks)
        while left:  # in Python 3.11, wait_for may swallow a cancellation
            for task in left:
                task.cancel()
            left = (await asyncio.wait(left, timeout=1))[1]
        for task in self._tasks:
            if not task.cancelled():
                task.result()

    async def _go_on(self, seed: int) -> None:
        chance = random.Random(seed)
        while not self._ending:
            with contextlib.suppress(ConnectionError, CutOff):
                async with await self.program.caller() as caller:
                    self.acts += 1
                    try:
                        await self._act(self, caller, chance)
                    except (Malformed, TimeoutError) as error:
                        self.wrong.append(repr(error))
            await asyncio.sleep(PAUSE * 2 * chance.random())

    async def open(self, caller: Caller, name: bytes) -> None:
        """Have the caller open a tunnel."""
        await caller.send(OFFER % name)
        reply = await caller.answer()
        if reply.status != 101:
            self.wrong.append(f"{name!r}: {reply.status}")
            raise ConnectionError
        self.tunnels += 1


Act = Callable[[Crowd, Caller, random.Random], Awaitable[None]]


async def be_silent(crowd: Crowd, caller: Caller, _: random.Random) -> None:
    await crowd.open(caller, b"echo")
    await caller.wait_ended(12 * PATIENCE)


async def talk(crowd: Crowd, caller: Caller, chance: random.Random) -> None:
    """Messages of up to 16 KiB, each of which must come back."""
    await crowd.open(caller, b"echo")
    for _ in range(20):
        message = chance.randbytes(chance.randrange(1, len(PIECE)))
        begin = len(caller.received)
        await caller.send(message)
        await caller.wait_received(begin + len(message))
        if caller.received[begin:] != message:
            crowd.wrong.append("an echo differs")
        await asyncio.sleep(PAUSE)


async def come_and_go(crowd: Crowd, caller: Caller, chance: random.Random) -> None:
    kind = chance.randrange(6)
    if kind == 0:  # before the 101
        await caller.send(OFFER % b"echo")
    elif kind == 1:
        await caller.send(OFFER[: chance.randrange(1, len(OFFER) - 10)])
    else:
        await crowd.open(caller, b"reset" if kind == 2 else b"echo")
        await caller.send(PIECE)
    if kind == 3:
        caller.half_close()
        await caller.rest()
    elif kind % 2:
        caller.reset()


async def take_nothing(crowd: Crowd, caller: Caller, chance: random.Random) -> None:
    """Live floods and the caller takes nothing, or the other way round."""
    if chance.random() < 0.5:
        await crowd.open(caller, b"flood")
        caller.stop_reading()
        await caller.gone.wait()
    else:
        await crowd.open(caller, b"deaf")
        await caller.flood(PIECE, 1 << 40)


async def send_odd_trailers(crowd: Crowd, caller: Caller, chance: random.Random) -> None:
    raw, status = chance.choice(ODD_REQUESTS)
    await caller.send(raw)
    if status is not None and (got := (await caller.answer()).status) != status:
        crowd.wrong.append(f"{raw[:200]!r}: {got}")


async def get_odd_responses(crowd: Crowd, caller: Caller, chance: random.Random) -> None:
    number = chance.randrange(len(ODD_RESPONSES))
    await caller.send(b"GET /odd/%d HTTP/1.1\r\nHost: h\r\n\r\n" % number)
    while (reply := await caller.answer()).status < 200:
        pass
    body = ODD_RESPONSES[number][1]
    if (reply.status, reply.body) != (200, body) and not (body is None and reply.status == 502):
        crowd.wrong.append(f"{number}: {reply.raw[:300]!r}")


@dataclass(frozen=True)
class Scene:
    """What a crowd of so many does, and the outcomes of live's legs that it brings about besides `ok`."""

    act: Act
    members: int
    outcomes: frozenset[Outcome] = frozenset()
    limits: tuple[tuple[str, str], ...] = ()


LEFT, BROKEN = Outcome.CALLER_LEFT, Outcome.INCOMPLETE
SCENES = {
    "200 silent WebSockets": Scene(be_silent, 200),
    "8 that talk": Scene(talk, 8),
    "8 that come and go": Scene(come_and_go, 8, frozenset({LEFT, BROKEN})),
    "8 with a side that takes nothing": Scene(
        take_nothing, 8, frozenset({LEFT}), (("body_timeout", "500ms"), ("tunnel_timeout", "1s"))
    ),
    "odd trailers in requests": Scene(send_odd_trailers, 4, frozenset({LEFT})),
    "odd trailers and 1xx in responses": Scene(get_odd_responses, 4, frozenset({BROKEN, Outcome.PROTOCOL_ERROR})),
}
AT_THE_END = frozenset({LEFT, BROKEN})
"""Outcomes that any crowd may bring about when it is ended, wherever it is."""


@contextlib.asynccontextmanager
async def party(name: str, directory: Path, limits: dict[str, Any]) -> AsyncIterator[tuple[Party, Origin]]:
    async with Origin(live) as origin:
        values = {
            "live": {"url": origin.url},
            "limits": LIMITS | limits,
            "drain": "3s",
            "log": {"path": str(directory / "log"), "body_limit": "4KiB"},
        }
        async with Party(name, Program(directory, values)) as it:
            yield it, origin


@pytest.mark.latency
@pytest.mark.timing
async def test_1_live_is_as_it_was_beside_tunnels_and_odd_trailers(
    tmp_path_factory: pytest.TempPathFactory, capsys: pytest.CaptureFixture[str]
) -> None:
    def show(line: str) -> None:
        with capsys.disabled():
            print(line, flush=True)

    trouble: list[str] = []
    async with party("no crowd", tmp_path_factory.mktemp("run"), {}) as (well, _):
        show("\n" + HEAD.replace("the shadow", "the crowd "))
        for name, scene in SCENES.items():
            async with party(name, tmp_path_factory.mktemp("run"), dict(scene.limits)) as (ill, origin):
                async with Crowd(ill.program, scene.act, scene.members) as crowd:
                    latency = await compare(well, ill)
                with contextlib.suppress(TimeoutError):
                    async with asyncio.timeout(PATIENCE):
                        while origin.open_connections > CALLERS:  # noqa: ASYNC110  # several peers, no one event
                            await asyncio.sleep(0.01)
                left = origin.open_connections
                records = await ill.stop()
            outcomes = Counter(each.live.outcome for each in records)
            show(ill.row(well, outcomes))
            (stopped,) = ill.program.told("stopped")
            tunnels = sum(each.tunnel is not None for each in records)
            found = {
                "answers that are not live's": ill.wrong,
                "the crowd": crowd.wrong[:5],
                "the crowd did nothing": not crowd.acts,
                "latency": latency,
                "memory": ill.peak > well.program.peak + MEMORY + BESIDE,
                "connections that are left": left > CALLERS,
                "the records": (stopped["requests"], stopped["lost"]) != (len(records), 0),
                "tunnels without a record": crowd.tunnels > tunnels,
                "outcomes": set(outcomes) - scene.outcomes - AT_THE_END - {Outcome.OK},
                "outcomes that it should have had": scene.outcomes - set(outcomes),
            }
            trouble += [f"{name}: {what}: {value}" for what, value in found.items() if value]
        assert well.wrong == 0
        await well.stop()
        show(well.row(well, {}))
    assert trouble == []
