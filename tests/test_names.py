"""Names: one lookup at a time, nobody held up by another's name server, and the last addresses while it fails."""

import asyncio
import socket
import threading

import pytest
from fakes import NameServer

from shadowproxy.serve.upstreams import names
from shadowproxy.serve.upstreams.names import Name

ONE, TWO = ("10.0.0.1", 80), ("10.0.0.2", 80)
AGAIN = socket.gaierror(socket.EAI_AGAIN, "Temporary failure in name resolution")


@pytest.fixture
def server(monkeypatch: pytest.MonkeyPatch) -> NameServer:
    return NameServer(monkeypatch)


async def found(name: Name) -> list[tuple[object, ...]]:
    return [address for _, address in (await name.find()).addresses]


async def looked_up(name: Name) -> list[tuple[object, ...]]:
    """The same, by the newest answer."""
    first = await name.find()
    addresses = first.addresses if first.newer is None else await first.newer
    return [address for _, address in addresses]


async def test_an_address_is_no_name_and_is_not_looked_up(monkeypatch: pytest.MonkeyPatch) -> None:
    assert await found(Name("127.0.0.1", 80)) == [("127.0.0.1", 80)]
    name = Name("::1", 80)
    assert await found(name) == [("::1", 80, 0, 0)]
    monkeypatch.setattr(socket, "getaddrinfo", None)  # nor is it read again
    assert await found(name) == [("::1", 80, 0, 0)]


async def test_an_address_that_is_found_twice_is_one(server: NameServer) -> None:
    server.names["a.test"] = [ONE, TWO, ONE]
    assert await found(Name("a.test", 80)) == [ONE, TWO]


async def test_a_name_is_looked_up_again_for_each_connection(server: NameServer) -> None:
    name = Name("a.test", 80)
    for each in (ONE, TWO):
        server.names["a.test"] = [each]
        assert await found(name) == [each]


async def test_an_unknown_name_is_an_error_and_is_looked_up_again(server: NameServer) -> None:
    server.names["a.test"] = AGAIN
    name = Name("a.test", 80)
    with pytest.raises(socket.gaierror, match="Temporary"):
        await name.find()
    server.names["a.test"] = [ONE]
    assert await found(name) == [ONE]


async def test_what_is_no_host_name_is_an_error() -> None:
    with pytest.raises(socket.gaierror, match="not a host name"):
        await Name("a" * 70 + ".test", 80).find()


@pytest.mark.parametrize("code", ["EAI_AGAIN", "EAI_FAIL", "EAI_MEMORY", "EAI_SYSTEM"])
async def test_a_failure_leaves_the_last_known_addresses(server: NameServer, code: str) -> None:
    name = Name("a.test", 80)
    server.names["a.test"] = [ONE]
    await name.find()
    server.names["a.test"] = socket.gaierror(getattr(socket, code), "it failed")
    assert await found(name) == [ONE]


@pytest.mark.parametrize("code", ["EAI_NONAME", "EAI_NODATA"])
async def test_an_answer_that_there_is_no_address_any_more_counts_after_a_while(
    server: NameServer, monkeypatch: pytest.MonkeyPatch, code: str
) -> None:
    none = socket.gaierror(getattr(socket, code), "there is none")
    unknown = Name("a.test", 80)
    server.names["a.test"] = none
    with pytest.raises(socket.gaierror, match="there is none"):
        await unknown.find()
    name = Name("a.test", 80)
    server.names["a.test"] = [ONE]
    assert await looked_up(name) == [ONE]
    server.names["a.test"] = none
    assert await looked_up(name) == [ONE]
    server.names["a.test"] = AGAIN  # says nothing of it
    assert await looked_up(name) == [ONE]
    monkeypatch.setattr(names, "HELD", 0.0)
    assert await looked_up(name) == [ONE]
    server.names["a.test"] = none
    with pytest.raises(socket.gaierror, match="there is none"):
        await looked_up(name)
    server.names["a.test"] = AGAIN  # what was forgotten is not used again
    with pytest.raises(socket.gaierror, match="Temporary"):
        await looked_up(name)
    server.names["a.test"] = [TWO]
    assert await looked_up(name) == [TWO]


async def test_the_while_begins_with_the_first_answer_of_no_address_and_ends_with_an_address(
    server: NameServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    name = Name("a.test", 80)
    for _ in range(2):
        server.names["a.test"] = [ONE]
        assert await looked_up(name) == [ONE]
        assert name._absent_since is None
        server.names["a.test"] = socket.gaierror(socket.EAI_NONAME, "there is none")
        await looked_up(name)
        first = name._absent_since
        await looked_up(name)
        assert name._absent_since == first


async def test_no_thread_for_a_lookup_is_a_failure_of_it(server: NameServer, monkeypatch: pytest.MonkeyPatch) -> None:
    """A container's limit on processes counts threads too."""

    def cannot(_: threading.Thread) -> None:
        raise RuntimeError("can't start new thread")

    server.names["a.test"] = [ONE]
    name, unknown = Name("a.test", 80), Name("a.test", 80)
    await name.find()
    monkeypatch.setattr(threading.Thread, "start", cannot)
    assert await found(name) == [ONE]
    with pytest.raises(OSError, match="can't start new thread"):
        await unknown.find()


async def test_a_hung_name_server_takes_one_thread_and_holds_up_no_other_host(server: NameServer) -> None:
    server.names |= {"hung.test": [ONE], "live.test": [TWO]}
    server.hung["hung.test"] = release = threading.Event()
    hung = Name("hung.test", 80)
    waiting = [asyncio.create_task(found(hung)) for _ in range(20)]
    await asyncio.sleep(0)  # they are waiting now
    try:
        async with asyncio.timeout(3):
            assert await found(Name("live.test", 80)) == [TWO]
        assert sorted(server.asked) == ["hung.test", "live.test"]
        waiting[0].cancel()  # one that leaves takes the answer from nobody
    finally:
        release.set()
    done = await asyncio.gather(*waiting, return_exceptions=True)
    assert isinstance(done[0], asyncio.CancelledError)
    assert done[1:] == [[ONE]] * 19


async def test_while_a_name_server_is_slow_its_answers_are_used_one_connection_later(
    server: NameServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    server.names["a.test"] = [ONE]
    name = Name("a.test", 80)
    await name.find()
    monkeypatch.setattr(names, "PATIENCE", 0.001)
    server.hung["a.test"] = release = threading.Event()
    server.names["a.test"] = [TWO]
    first = await name.find()
    release.set()
    assert first.addresses == ((socket.AF_INET, ONE),)
    assert first.newer is not None
    assert await first.newer == ((socket.AF_INET, TWO),)
    release.clear()
    assert await found(name) == [TWO]
    release.set()
    second = await name.find()
    if second.newer is not None:
        await second.newer  # its thread ends before the test does


async def test_after_a_lookup_in_time_its_answers_are_waited_for_again(
    server: NameServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    server.names["a.test"] = [ONE]
    name = Name("a.test", 80)
    await name.find()
    server.names["a.test"] = AGAIN
    await name.find()
    server.names["a.test"] = [TWO]
    monkeypatch.setattr(names, "PATIENCE", 60.0)
    first = await name.find()  # it does not wait: the last lookup failed
    assert first.newer is not None
    await first.newer
    server.names["a.test"] = [ONE]
    assert (await name.find()).newer is None
    assert await found(name) == [ONE]
