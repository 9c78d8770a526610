"""Live's name has three addresses, and something happens to them, under traffic: `make chaos`, with a table of figures.

The real program has a hosts file of its own. Connections are replaced after a second at most, so that many are made.
What is measured, and against what, is as in chaos.py: beside a program whose three addresses are well.
"""

import asyncio
import contextlib
from collections.abc import AsyncIterator, Callable
from pathlib import Path

import pytest
from chaos import HEAD, Party, compare, lives
from fakes import Address, Origin, deaf_port
from program import Program
from test_hosts_file import ALLOWED, Hosts

pytestmark = [
    pytest.mark.soak,
    pytest.mark.skipif(not ALLOWED, reason="this user may not mount a hosts file for one process"),
]

HOSTS = ("127.0.1.1", "127.0.1.2", "127.0.1.3")
OTHERS = ("127.0.1.4", "127.0.1.5")
EVERY = 0.5  # seconds between two moves


class Servers:
    """Live: at each of its addresses a server. Owns them: use as `async with`."""

    def __init__(self, hosts: Hosts) -> None:
        self.hosts = hosts
        self.origins: dict[str, Origin] = {}
        self._stack = contextlib.AsyncExitStack()
        self.port = 0

    async def __aenter__(self) -> "Servers":
        for host in (*HOSTS, *OTHERS):
            self.origins[host] = await self._stack.enter_async_context(Origin(lives, at=(host, self.port)))
            self.port = self.origins[host].port
        self.hosts.write(*HOSTS)
        return self

    async def __aexit__(self, *_: object) -> None:
        await self._stack.aclose()

    @property
    def requests(self) -> dict[str, int]:
        """How many each address was sent."""
        return {host: len(origin.requests) for host, origin in self.origins.items()}

    def address(self, host: str) -> Address:
        return host, self.port


Fault = Callable[[Servers], contextlib.AbstractAsyncContextManager[None]]


@contextlib.asynccontextmanager
async def one_refuses(servers: Servers) -> AsyncIterator[None]:
    servers.hosts.write(*HOSTS[1:], "127.0.1.9")
    yield


@contextlib.asynccontextmanager
async def one_is_silent(servers: Servers) -> AsyncIterator[None]:
    with deaf_port(servers.address("127.0.1.9")):
        servers.hosts.write("127.0.1.9", *HOSTS[1:])
        yield


@contextlib.asynccontextmanager
async def the_name_is_unknown(servers: Servers) -> AsyncIterator[None]:
    """For less than 30 s, or the name server fails: that depends on the machine that this runs on."""
    servers.hosts.write()
    yield
    servers.hosts.write(*HOSTS)


@contextlib.asynccontextmanager
async def it_moves(servers: Servers) -> AsyncIterator[None]:
    """Again and again. Its old addresses go on answering."""

    async def move() -> None:
        while True:
            for now in (OTHERS, HOSTS):
                servers.hosts.write(*now)
                await asyncio.sleep(EVERY)

    moving = asyncio.ensure_future(move())
    yield
    moving.cancel()
    with contextlib.suppress(asyncio.CancelledError):
        await moving


FAULTS: dict[str, Fault] = {
    "one address refuses": one_refuses,
    "one address is silent": one_is_silent,
    "its name is unknown": the_name_is_unknown,
    "it moves every half second": it_moves,
}


@contextlib.asynccontextmanager
async def party(name: str, directory: Path) -> AsyncIterator[tuple[Party, Servers]]:
    hosts = Hosts(directory / "hosts")
    async with Servers(hosts) as servers:
        values = {
            "live": {"url": f"http://model.test:{servers.port}", "max_age": "1s"},
            "drain": "3s",
            "log": {"path": str(directory / "log"), "body_limit": "4KiB"},
        }
        async with Party(name, Program(directory, values, before=hosts.mount)) as it:
            yield it, servers
            assert sum(servers.requests.values()) == it.asked  # none was lost or sent twice


@pytest.mark.latency
@pytest.mark.timing
async def test_1_live_is_as_it_was_whatever_happens_to_one_of_its_addresses(
    tmp_path_factory: pytest.TempPathFactory, capsys: pytest.CaptureFixture[str]
) -> None:
    def show(line: str) -> None:
        with capsys.disabled():
            print(line, flush=True)

    trouble: list[str] = []
    async with party("three addresses", tmp_path_factory.mktemp("run")) as (well, spread):
        show("\n" + HEAD.replace("the shadow", "live      ").replace("outcomes", "requests by address"))
        for name, fault in FAULTS.items():
            async with party(name, tmp_path_factory.mktemp("run")) as (ill, servers), fault(servers):
                latency = await compare(well, ill)
                records = await ill.stop()
            by_address = servers.requests
            show(ill.row(well, by_address))
            found = {
                "answers that are not live's": ill.wrong,
                "latency": latency,
                "the records": len(records) != ill.asked,
                "the addresses that were not asked": [
                    host
                    for host in (*HOSTS[1:], *(OTHERS if fault is it_moves else ()))
                    if by_address[host] < 0.05 * ill.asked
                ],
            }
            trouble += [f"{name}: {what}: {value}" for what, value in found.items() if value]
        assert well.wrong == 0
        assert all(spread.requests[host] > 0.2 * well.asked for host in HOSTS)
        await well.stop()
        show(well.row(well, spread.requests))
    assert trouble == []
