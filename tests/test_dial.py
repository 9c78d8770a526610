"""Dialling: the host's addresses in turn, one lookup at a time, nobody held up by another's name server."""

import asyncio
import socket
import threading
from collections.abc import Callable, Iterator

import pytest
from fakes import refusing_port

from shadowproxy.serve.upstreams import dial
from shadowproxy.serve.upstreams.dial import Dialler

Looked = list[tuple[socket.AddressFamily, dial.Address]]


@pytest.fixture
def listening() -> Iterator[int]:
    with socket.create_server(("127.0.0.1", 0)) as server:
        yield server.getsockname()[1]


def names(monkeypatch: pytest.MonkeyPatch, answer: Callable[[str], Looked]) -> None:
    """Have `answer` say what every name means."""
    real = dial._resolve

    def looked_up(host: str, port: int, flags: int) -> Looked:
        return real(host, port, flags) if flags else answer(host)

    monkeypatch.setattr(dial, "_resolve", looked_up)


@pytest.mark.parametrize("host", ["127.0.0.1", "localhost"])
async def test_a_name_or_an_address_is_connected(listening: int, host: str) -> None:
    with await Dialler(host, listening).connect() as sock:
        assert sock.getpeername() == ("127.0.0.1", listening)
        assert sock.getsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY) != 0
        assert sock.getsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE) != 0  # live may be silent for ten minutes
        assert sock.getsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPIDLE) < 350


async def test_an_address_that_refuses_is_followed_by_the_next(monkeypatch: pytest.MonkeyPatch, listening: int) -> None:
    with refusing_port() as refusing:
        names(monkeypatch, lambda _: [(socket.AF_INET, ("127.0.0.1", port)) for port in (refusing, listening)])
        with await Dialler("a.test", 80).connect() as sock:
            assert sock.getpeername()[1] == listening


async def test_when_all_addresses_refuse_the_first_error_is_raised(monkeypatch: pytest.MonkeyPatch) -> None:
    with refusing_port() as refusing:
        names(monkeypatch, lambda _: [(socket.AF_INET, ("127.0.0.1", refusing))] * 2)
        with pytest.raises(ConnectionRefusedError):
            await Dialler("a.test", 80).connect()


async def test_an_unknown_name_is_an_error_and_is_looked_up_again(
    monkeypatch: pytest.MonkeyPatch, listening: int
) -> None:
    known: Looked = []

    def answer(_: str) -> Looked:
        if not known:
            raise socket.gaierror(socket.EAI_NONAME, "Name or service not known")
        return known

    names(monkeypatch, answer)
    dialler = Dialler("a.test", 80)
    with pytest.raises(socket.gaierror, match="not known"):
        await dialler.connect()
    known.append((socket.AF_INET, ("127.0.0.1", listening)))
    (await dialler.connect()).close()


async def test_a_hung_name_server_takes_one_thread_and_holds_up_no_other_host(
    monkeypatch: pytest.MonkeyPatch, listening: int
) -> None:
    asked: list[str] = []
    release = threading.Event()

    def answer(host: str) -> Looked:
        asked.append(host)
        if host == "hung.test":
            release.wait(10)
        return [(socket.AF_INET, ("127.0.0.1", listening))]

    names(monkeypatch, answer)
    hung = Dialler("hung.test", 80)
    waiting = [asyncio.create_task(hung.connect()) for _ in range(20)]
    await asyncio.sleep(0)  # they are waiting now
    try:
        async with asyncio.timeout(5):
            (await Dialler("live.test", 80).connect()).close()
        assert sorted(asked) == ["hung.test", "live.test"]
        waiting[0].cancel()  # who leaves takes the answer from nobody
    finally:
        release.set()
    done = await asyncio.gather(*waiting, return_exceptions=True)
    assert isinstance(done[0], asyncio.CancelledError)
    for sock in done[1:]:
        assert isinstance(sock, socket.socket)
        sock.close()
