"""A service that gives out IDs, and callers that come back with them: for tests that break the program in between."""

import asyncio
import json
import secrets
from collections.abc import Iterable
from itertools import count

from fakes import Caller, CutOff, Origin, Peer, answer
from program import Program


class Issuing(Origin):
    """Makes items: a POST to any path answers with the ID of a new one, `GET ANY/ID` with what it is, or with 404.

    Each ID begins with `name`, so that `received` tells whose IDs came in; from `first` on they are integers instead.
    `delay` is in seconds, for each answer.
    """

    def __init__(self, name: str, delay: float = 0.0, *, first: int | None = None) -> None:
        super().__init__(self._serve)
        self.name = name.encode()
        self.delay = delay
        self._keys = None if first is None else count(first)
        self.items: dict[bytes, bytes] = {}

    def forget(self) -> None:
        """What a restart does to a service that keeps its items in memory."""
        self.items.clear()

    def drop_connections(self) -> None:
        for peer in self.connections:
            peer.reset()

    async def _serve(self, peer: Peer) -> None:
        while (request := await peer.request()) is not None:
            if self.delay:
                await asyncio.sleep(self.delay)
            await peer.send(self._answer(request.method, request.target, request.body))

    def _answer(self, method: bytes, target: bytes, body: bytes) -> bytes:
        json_type = (b"Content-Type", b"application/json")
        if method == b"POST":
            if self._keys is None:
                made = b"%s-%s" % (self.name, secrets.token_hex(12).encode())
                said = b'"%s"' % made
            else:
                made = said = b"%d" % next(self._keys)
            self.items[made] = body
            return answer(b'{"id": %s}' % said, json_type, status=201)
        found = self.items.get(target.rpartition(b"/")[2])
        if found is None:
            return answer(b'{"detail": "no such item"}', json_type, status=404, reason=b"Not Found")
        return answer(b'{"is": %s}' % found, json_type)


def post(number: int) -> bytes:
    body = b'{"number": %d}' % number
    head = b"POST /items HTTP/1.1\r\nHost: h\r\nContent-Type: application/json\r\nX-Request-ID: post-%d\r\n" % number
    return head + b"Content-Length: %d\r\n\r\n" % len(body) + body


def get(item: str, request_id: str) -> bytes:
    return b"GET /items/%s HTTP/1.1\r\nHost: h\r\nX-Request-ID: %s\r\n\r\n" % (item.encode(), request_id.encode())


async def make(caller: Caller, numbers: Iterable[int]) -> dict[int, str]:
    """An item for each number."""
    made = {}
    for number in numbers:
        answered = await caller.ask(post(number))
        assert answered.status == 201
        made[number] = json.loads(answered.body)["id"]
    return made


async def come_back(caller: Caller, made: dict[int, str], turn: str) -> None:
    """Ask for each item. The request IDs are `get-NUMBER-TURN`."""
    for number, item in made.items():
        answered = await caller.ask(get(item, f"get-{number}-{turn}"))
        assert (answered.status, json.loads(answered.body)) == (200, {"is": {"number": number}})


class Sessions:
    """Callers that each make an item, come back for it four times, and begin again, until `end`.

    Each request is sent over a connection of its own, so that a session moves between processes. `asked` were answered,
    `cut_off` were not.
    """

    def __init__(self, program: Program, callers: int = 4) -> None:
        self.asked = 0
        self.cut_off = 0
        self._number = 0
        self._ended = asyncio.Event()
        loop = asyncio.get_running_loop()
        self._tasks = [loop.create_task(self._talk(program)) for _ in range(callers)]

    async def _talk(self, program: Program) -> None:
        while not self._ended.is_set():
            self._number += 1
            number = self._number
            try:
                async with await program.caller() as caller:
                    made = await make(caller, [number])
                    self.asked += 1
                for turn in range(4):
                    async with await program.caller() as caller:
                        await come_back(caller, made, str(turn))
                        self.asked += 1
            except (CutOff, ConnectionError):
                self.cut_off += 1

    async def more(self, count: int = 100) -> None:
        """Wait until so many more were answered."""
        goal = self.asked + count
        async with asyncio.timeout(30):
            while self.asked < goal:  # noqa: ASYNC110  # nothing tells
                await asyncio.sleep(0.01)

    async def end(self) -> None:
        self._ended.set()
        await asyncio.gather(*self._tasks)
