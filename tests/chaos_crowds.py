"""A crowd of callers who wait, beside 8 others who are measured: `make chaos`, with a table of figures.

The crowd is a process of its own, at the lowest priority, and whoever of it is ended comes again. The others are asked
while it forms, and measured once it stands, as in chaos.py: beside a program without a crowd. Containers have 256 MiB.
"""

import asyncio
import contextlib
import os
import re
import resource
import socket
import sys
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import dataclass, field, replace
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import pytest
from cgroups import limited
from chaos import HEAD, MEDIAN, Elsewhere, Party, compare, in_turn
from fakes import Address, Caller, CutOff, Message, Origin, Peer, answer
from program import PATIENCE, Program
from test_few_descriptors import ask_ready, few
from test_promises import LIVES

pytestmark = pytest.mark.soak

CONTAINER = 256 << 20
AT_ONCE = 50
LARGE = answer(bytes(2 << 20))

Loop = asyncio.AbstractEventLoop
Doing = Callable[[Loop, socket.socket, Callable[[], None]], Awaitable[None]]


def begun(length: int, sent: int) -> bytes:
    return b"POST /crowd HTTP/1.1\r\nHost: h\r\nContent-Length: %d\r\n\r\n" % length + bytes(sent)


# What one of the crowd does over its connection; it calls `formed` once it stands where it is meant to.


async def hold_back_the_last_byte(loop: Loop, sock: socket.socket, formed: Callable[[], None]) -> None:
    await loop.sock_sendall(sock, begun(256 << 10, (256 << 10) - 1))
    formed()
    await loop.sock_recv(sock, 1)
    await asyncio.sleep(3600)


async def upload_a_byte_a_second(loop: Loop, sock: socket.socket, formed: Callable[[], None]) -> None:
    await loop.sock_sendall(sock, begun(10_000_000, 20_000))
    while True:
        formed()
        await asyncio.sleep(1)
        await loop.sock_sendall(sock, b"x")


async def read_a_byte_a_second(loop: Loop, sock: socket.socket, formed: Callable[[], None]) -> None:
    await loop.sock_sendall(sock, b"GET /large HTTP/1.1\r\nHost: h\r\n\r\n")
    while await loop.sock_recv(sock, 1):
        formed()
        await asyncio.sleep(1)


async def only_connect(loop: Loop, sock: socket.socket, formed: Callable[[], None]) -> None:
    formed()
    await loop.sock_recv(sock, 1)


async def send_large_bodies(loop: Loop, sock: socket.socket, formed: Callable[[], None]) -> None:
    for number in range(10_000):
        await loop.sock_sendall(sock, begun(1_000_000, 1_000_000))
        await loop.sock_recv(sock, 1 << 16)  # it is answered at once, in one piece
        if number >= 40:  # six of them have sent as much as the container has
            formed()
            await asyncio.sleep(0.5)


@dataclass(frozen=True)
class Kind:
    """How many they are, what they do, and what the program beside them has."""

    count: int
    do: Doing
    limits: dict[str, Any] = field(default_factory=dict)
    in_container: bool = False
    few_files: bool = False
    hung_shadow: bool = False
    receive_buffer: int | None = None
    again: float = 1.0  # seconds after which whoever was ended comes again


KINDS = {
    "1,000 hold back the last byte": Kind(1000, hold_back_the_last_byte, in_container=True),
    "1,100 upload a byte a second": Kind(1100, upload_a_byte_a_second, {"buffer": "16KiB"}),
    "300 read a byte a second": Kind(
        300, read_a_byte_a_second, {"in_flight": 60}, in_container=True, receive_buffer=4096
    ),
    "200 only connect, 100 files": Kind(200, only_connect, few_files=True, again=5.0),
    "a hung shadow, bodies of 1 MB": Kind(6, send_large_bodies, in_container=True, hung_shadow=True),
}


async def gather(name: str, address: Address) -> None:
    """What the crowd's process does until it is killed. Writes a line once all of them stand."""
    os.nice(19)
    _, most = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))
    kind = KINDS[name]
    loop = asyncio.get_running_loop()
    standing: set[int] = set()
    connecting = asyncio.Semaphore(AT_ONCE)

    async def one(number: int) -> None:
        def formed() -> None:
            if number not in standing:
                standing.add(number)
                if len(standing) == kind.count:
                    print("formed", flush=True)

        while True:
            with socket.socket() as sock:
                sock.setblocking(False)
                if kind.receive_buffer is not None:
                    sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, kind.receive_buffer)
                with contextlib.suppress(OSError):
                    async with connecting:
                        await loop.sock_connect(sock, address)
                    await kind.do(loop, sock, formed)
            formed()  # or it was turned away
            await asyncio.sleep(kind.again)

    await asyncio.gather(*map(one, range(kind.count)))


class Crowd:
    """Its process. Use as `async with`."""

    def __init__(self, name: str, address: Address) -> None:
        self._name = name
        self._address = address
        self._process: asyncio.subprocess.Process

    async def __aenter__(self) -> Self:
        host, port = self._address
        self._process = await asyncio.create_subprocess_exec(
            sys.executable, __file__, self._name, host, str(port), stdout=asyncio.subprocess.PIPE
        )
        assert self._process.stdout is not None
        assert await asyncio.wait_for(self._process.stdout.readline(), PATIENCE) == b"formed\n"
        await asyncio.sleep(2.5)  # whoever stood up a moment ago is taken for one who moves
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, value: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._process.kill()
        await self._process.wait()


class Returning(Party):
    """Its callers connect again where an idle connection was closed, as clients do."""

    def __init__(self, name: str, program: Program) -> None:
        super().__init__(name, program)
        self._now: dict[Caller, Caller] = {}

    async def ask(self, caller: Caller, raw: bytes) -> Message:
        while True:
            now = self._now.get(caller, caller)
            before = len(now.received)
            try:
                reply = await now.ask(raw)
            except (CutOff, ConnectionError):
                if len(now.received) != before:
                    raise
                self._now[caller] = await self._closing.enter_async_context(await self.program.caller())
                continue
            # Sent with the last response before an idle connection ends.
            return replace(reply, raw=reply.raw.replace(b"Connection: close\r\n", b"", 1))


class Forming:
    """Has a party asked while a crowd forms, so that none of its connections is idle."""

    def __init__(self, it: Party) -> None:
        self.count = self.wrong = 0
        self._it = it
        self._ended = False
        self._task = asyncio.ensure_future(self._ask())

    async def _ask(self) -> None:
        while not self._ended:
            slice = await self._it.traffic(0.2)
            self.count += slice.count
            self.wrong += slice.wrong

    async def end(self) -> int:
        """How many answers were not live's."""
        self._ended = True
        await self._task
        return self.wrong


async def live_script(peer: Peer) -> None:
    with contextlib.suppress(TimeoutError, ConnectionError):
        while (asked := await peer.request()) is not None:
            await peer.send(LARGE if b"/large" in asked.start else LIVES)


@contextlib.asynccontextmanager
async def party(name: str, directory: Path, before: Callable[[], None] | None, **options: Any) -> AsyncIterator[Party]:
    async with Origin(live_script) as live:
        values = {
            "live": {"url": live.url},
            "drain": "1s",
            "log": {"path": str(directory / "log"), "body_limit": "1KiB"},
        }
        async with Returning(name, Program(directory, values | options, before=before)) as it:
            yield it


async def serve_crowd(name: str, directory: Path, well: Party) -> tuple[str, dict[str, object]]:
    """The line of the table, and what is not as it should be."""
    kind = KINDS[name]
    options: dict[str, Any] = {"limits": kind.limits} if kind.limits else {}
    async with contextlib.AsyncExitStack() as stack:
        before = few if kind.few_files else None
        group = stack.enter_context(limited(CONTAINER)) if kind.in_container else None
        if group is not None:
            before = group.enter
        if kind.hung_shadow:
            shadow = await stack.enter_async_context(Elsewhere("hangs"))
            # Else the others' small requests would fill the shadow's lane first.
            options["shadows"] = {"s": {"url": shadow.url, "match": {"paths": ["/crowd"]}}}
        if kind.few_files:
            options["admin"] = "127.0.0.1:0"
        ill = await stack.enter_async_context(party(name, directory, before, **options))
        processes = ill.program.workers
        async with contextlib.AsyncExitStack() as probing:
            if kind.few_files:
                (port,) = re.findall(r"admin http://[0-9.]+:([0-9]+)", "\n".join(ill.program.said))
                for _ in range(80):  # silent ones at the admin port, too
                    await probing.enter_async_context(await Caller.to(("127.0.0.1", int(port))))
            enough = asyncio.Event()
            ready = asyncio.ensure_future(ask_ready(int(port), enough)) if kind.few_files else None
            forming = Forming(ill)
            async with Crowd(name, ill.program.address):
                other = await forming.end()
                if kind.few_files:  # whoever connects anew waits with the crowd
                    await in_turn([well, ill])
                    latency = "the median" if ill.ratios(well)[0] > MEDIAN else ""
                else:
                    latency = await compare(well, ill)
                is_ready = ready is None or not ready.done()
                if ready is not None:
                    enough.set()
                    await asyncio.gather(ready, return_exceptions=True)
        found = {
            "answers that are not live's": ill.wrong,
            "latency": latency,
            "processes that were ended": (group is not None and group.kills) or ill.program.workers != processes,
            "/readyz was not answered": not is_ready,
        }
        records = await ill.stop()
        logged = sum(each.id.startswith("r-") for each in records)
        found["answers that are not in the log"] = ill.asked != logged + other
        return ill.row(well, {f"while it formed, of {forming.count} answers not live's:": other}), found


@pytest.mark.latency
@pytest.mark.timing
@pytest.mark.parametrize("name", KINDS)
async def test_1_5_callers_who_wait_lock_nobody_out(
    name: str, tmp_path_factory: pytest.TempPathFactory, capsys: pytest.CaptureFixture[str]
) -> None:
    async with party("no crowd", tmp_path_factory.mktemp("run"), None) as well:
        row, found = await serve_crowd(name, tmp_path_factory.mktemp("run"), well)
        await well.stop()
        with capsys.disabled():
            head = HEAD.replace("the shadow", "the crowd ").replace("   outcomes", "")
            print("", head, well.row(well, {}), row, sep="\n", flush=True)
        assert well.wrong == 0
    assert {what: value for what, value in found.items() if value} == {}


if __name__ == "__main__":
    asyncio.run(gather(sys.argv[1], (sys.argv[2], int(sys.argv[3]))))
