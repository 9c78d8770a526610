"""Dialling: by turns to all addresses of a name, to the next one where one is silent, and nothing left behind."""

import asyncio
import contextlib
import errno
import logging
import os
import random
import socket
import ssl
import time
from collections import Counter
from collections.abc import Iterator

import pytest
import trustme
from fakes import NameServer, Origin, deaf_port, refusing_port, silent
from hypothesis import given
from hypothesis import strategies as st
from test_pool import on_both_loops

from shadowproxy.serve.upstreams import dial, turns
from shadowproxy.serve.upstreams.dial import AT_ONCE, Dialler
from shadowproxy.serve.upstreams.errors import ConnectError
from shadowproxy.serve.upstreams.names import Address
from shadowproxy.serve.upstreams.pool import Pool
from shadowproxy.serve.upstreams.request import OutgoingRequest
from shadowproxy.serve.upstreams.response import ResponseStream
from shadowproxy.serve.upstreams.turns import Turns, order

V4: list[Address] = [(socket.AF_INET, (f"10.0.0.{number}", 80)) for number in range(1, 5)]
V6: list[Address] = [(socket.AF_INET6, (f"fd00::{number}", 80, 0, 0)) for number in range(1, 5)]


class Connected:
    """What the tests open over a socket."""

    def __init__(self, sock: socket.socket) -> None:
        self.sock = sock
        self.port: int = sock.getpeername()[1]

    def abort(self) -> None:
        self.sock.close()


async def opening(sock: socket.socket) -> Connected:
    return Connected(sock)


async def port_of(dialler: Dialler) -> int:
    """The port that the next connection goes to."""
    connected = await dialler.connect(opening)
    connected.abort()
    return connected.port


def open_files() -> int:
    return len(os.listdir("/proc/self/fd"))


@pytest.fixture
def server(monkeypatch: pytest.MonkeyPatch) -> NameServer:
    return NameServer(monkeypatch)


@pytest.fixture
def listening() -> Iterator[int]:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        yield listener.getsockname()[1]


@contextlib.contextmanager
def several(count: int) -> Iterator[list[int]]:
    with contextlib.ExitStack() as stack:
        yield [stack.enter_context(socket.create_server(("127.0.0.1", 0))).getsockname()[1] for _ in range(count)]


def at(*ports: int) -> list[tuple[str, int]]:
    return [("127.0.0.1", port) for port in ports]


def unmixed(monkeypatch: pytest.MonkeyPatch) -> None:
    """Dial addresses in the order in which the name server has them."""
    monkeypatch.setattr(random, "shuffle", lambda _: None)


# The order.


@given(st.permutations(V4 + V6), st.dictionaries(st.sampled_from(V4 + V6), st.integers(1, 9)), st.data())
def test_the_order_has_each_address_once_and_those_to_be_shunned_last(
    addresses: list[Address], last: dict[Address, int], data: st.DataObject
) -> None:
    shunned = dict.fromkeys(data.draw(st.sets(st.sampled_from(V4 + V6))), 2.0)
    found = order(addresses, last, shunned, 1.0)
    assert Counter(found) == Counter(addresses)
    assert [each in shunned for each in found] == sorted(each in shunned for each in found)
    well = [each for each in addresses if each not in shunned] or addresses
    assert last.get(found[0], 0) == min(last.get(each, 0) for each in well)
    assert order(addresses, last, shunned, 2.0)[0] not in last or not set(addresses) - set(last)  # the time is over


def test_the_families_alternate() -> None:
    found = order(V4 + V6[:2], {}, {}, 0.0)
    assert [each[0] for each in found[:4]] in (
        [socket.AF_INET, socket.AF_INET6] * 2,
        [socket.AF_INET6, socket.AF_INET] * 2,
    )
    assert [each[0] for each in found[4:]] == [socket.AF_INET] * 2


def test_the_first_address_of_all_is_any_one() -> None:
    assert {order(V4, {}, {}, 0.0)[0] for _ in range(200)} == set(V4)


def test_the_times_are_those_of_rfc_8305() -> None:
    assert (dial.NEXT_AFTER, dial.NEXT_AFTER_MIN) == (0.25, 0.01)


async def test_what_is_known_of_an_address_is_forgotten_with_it() -> None:
    known = Turns("a.test")
    for each in V4:
        known.note_dialled(each)
        known.note_failed(each, "Connection refused")
    known.order((V4[0],))
    assert list(known._last) == list(known._shunned) == list(known._failures) == [V4[0]]


async def test_an_address_that_fails_and_recovers_is_logged(
    caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    caplog.set_level(logging.INFO, "shadowproxy")
    known = Turns("a.test")
    for _ in range(5):  # they were begun together
        known.note_failed(V6[0], "Connection refused")
    monkeypatch.setattr(turns, "SHUNNED", 0.0)
    known.note_accepted(V4[0])  # it had not failed
    known.note_accepted(V6[0])
    for _ in range(4):
        known.note_failed(V4[0], "no answer")
    known.note_failed((socket.AF_INET, ("127.0.0.1", 80)), "Connection refused")  # as of localhost
    said = [(each.event, each.address, each.count) for each in caplog.records]  # type: ignore[attr-defined]
    assert said == [
        ("address_failed", "[fd00::1]:80", 1),
        ("address_recovered", "[fd00::1]:80", 1),
        *[("address_failed", "10.0.0.1:80", count) for count in (1, 2, 4)],
    ]
    assert caplog.messages[0] == (
        "[fd00::1]:80, an address of a.test, takes no connection (Connection refused; failures in a row: 1): "
        "other addresses come first"
    )


# Dialling.


async def test_an_address_that_is_silent_is_logged_if_another_is_connected_and_not_if_it_is_itself(
    server: NameServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    failed: list[int] = []
    monkeypatch.setattr(Turns, "note_failed", lambda _, address, error: failed.append(address[1][1]))
    monkeypatch.setattr(dial, "NEXT_AFTER", 0.01)
    unmixed(monkeypatch)
    with several(1) as (well,), deaf_port() as deaf:
        server.names["a.test"] = at(deaf, well)
        assert await port_of(Dialler("a.test", 80, 5.0)) == well
        assert failed == [deaf]

    async def slowly(sock: socket.socket) -> Connected:
        connected = Connected(sock)
        if connected.port == first:
            await asyncio.sleep(0.1)
            return connected
        try:
            await asyncio.sleep(60)
        finally:
            connected.abort()
        raise AssertionError

    monkeypatch.setattr(dial, "HANDSHAKE_AFTER", 0.01)
    with several(2) as (first, second):
        server.names["a.test"] = at(first, second)
        failed.clear()
        connected = await Dialler("a.test", 80, 5.0).connect(slowly)
        connected.abort()
        assert (connected.port, failed) == (first, [])


@pytest.mark.parametrize("host", ["127.0.0.1", "localhost"])
async def test_a_name_or_an_address_is_connected(listening: int, host: str) -> None:
    with (await Dialler(host, listening, 5.0).connect(opening)).sock as sock:
        assert sock.getpeername() == ("127.0.0.1", listening)
        assert sock.getsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY) != 0
        assert sock.getsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE) != 0  # live may be silent for ten minutes
        assert sock.getsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPIDLE) < 350


async def test_when_all_addresses_refuse_the_first_error_is_raised(
    server: NameServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    unmixed(monkeypatch)
    with refusing_port() as refusing:
        server.names["a.test"] = [*at(refusing), ("255.255.255.255", 80)]
        with pytest.raises(ConnectionRefusedError):
            await Dialler("a.test", 80, 5.0).connect(opening)


async def test_a_new_address_gets_the_next_connection(server: NameServer) -> None:
    with several(3) as (one, two, three):
        server.names["a.test"] = at(one, two)
        dialler = Dialler("a.test", 80, 5.0)
        assert {await port_of(dialler) for _ in range(4)} == {one, two}
        server.names["a.test"] = at(one, two, three)
        assert await port_of(dialler) == three


async def test_an_address_that_was_silent_is_dialled_again_when_its_time_is_over(
    server: NameServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(dial, "NEXT_AFTER", 0.01)
    with several(1) as (well,), deaf_port() as deaf:
        server.names["a.test"] = at(well, deaf)
        dialler = Dialler("a.test", 80, 5.0)
        for _ in range(2):  # the second one begins with the silent one, if the first did not
            assert await port_of(dialler) == well
        monkeypatch.setattr(dial, "NEXT_AFTER", 60.0)
        for _ in range(3):  # it is not waited for
            assert await port_of(dialler) == well
        monkeypatch.setattr(turns, "SHUNNED", 0.0)
        dialler._turns.note_failed((socket.AF_INET, ("127.0.0.1", deaf)), "no answer")
        again = asyncio.create_task(dialler.connect(opening))
        await asyncio.wait([again], timeout=0.05)
        assert not again.done()
        again.cancel()
        with pytest.raises(asyncio.CancelledError):
            await again


async def test_an_address_that_refused_is_dialled_if_no_other_is_left_and_then_has_its_turn_again(
    server: NameServer,
) -> None:
    with refusing_port() as refusing, several(1) as (well,):
        server.names["a.test"] = at(well, refusing)
        dialler = Dialler("a.test", 80, 5.0)
        assert [await port_of(dialler) for _ in range(3)] == [well] * 3
    with socket.create_server(("127.0.0.1", refusing)):
        assert [await port_of(dialler) for _ in range(4)] == [refusing] * 4
        with socket.create_server(("127.0.0.1", well)):
            dialler._turns.note_accepted((socket.AF_INET, ("127.0.0.1", well)))  # it refused meanwhile
            assert {await port_of(dialler) for _ in range(4)} == {well, refusing}


async def test_no_more_than_a_few_silent_addresses_are_dialled_at_once(
    server: NameServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Each is a descriptor, for each request that waits for a connection."""
    unmixed(monkeypatch)
    monkeypatch.setattr(dial, "NEXT_AFTER", 0.02)
    before = open_files()
    most = 0

    async def watched(sock: socket.socket) -> Connected:
        nonlocal most
        most = open_files() - before - 1  # without the directory that is being read
        return Connected(sock)

    with contextlib.ExitStack() as stack:
        deaf = [stack.enter_context(deaf_port()) for _ in range(6)]
        (well,) = stack.enter_context(several(1))
        server.names["a.test"] = at(*deaf, well)
        before = open_files()
        connected = await Dialler("a.test", 80, 5.0).connect(watched)
        assert connected.port == well
        assert most <= AT_ONCE
        connected.abort()
        assert open_files() == before


@on_both_loops
async def test_leaving_while_several_addresses_are_dialled_leaves_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(dial, "NEXT_AFTER", 0.01)
    server = NameServer(monkeypatch)
    with deaf_port() as one, deaf_port() as two:
        server.names["a.test"] = at(one, two)
        before, tasks = open_files(), asyncio.all_tasks()
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(0.1):
                await Dialler("a.test", 80, 5.0).connect(opening)
        assert open_files() == before
        assert asyncio.all_tasks() == tasks


async def test_a_server_that_accepts_may_take_longer_for_its_handshake_before_the_next_is_dialled(
    server: NameServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A busy one does: all others would get handshakes besides, which nobody needs."""
    monkeypatch.setattr(dial, "NEXT_AFTER", 0.01)
    monkeypatch.setattr(dial, "HANDSHAKE_AFTER", 60.0)
    opened = 0

    async def slowly(sock: socket.socket) -> Connected:
        nonlocal opened
        opened += 1
        await asyncio.sleep(0.1)
        return Connected(sock)

    with several(3) as three:
        server.names["a.test"] = at(*three)
        (await Dialler("a.test", 80, 5.0).connect(slowly)).abort()
        assert opened == 1


@on_both_loops
async def test_a_loop_that_runs_late_is_no_silence(monkeypatch: pytest.MonkeyPatch) -> None:
    """Each new connection would be dialled twice, just when there is too much to do."""
    monkeypatch.setattr(dial, "NEXT_AFTER", 0.02)
    server = NameServer(monkeypatch)
    dialled: list[Address] = []
    note_dialled = Turns.note_dialled

    def noted(known: Turns, address: Address) -> None:
        note_dialled(known, address)
        dialled.append(address)

    monkeypatch.setattr(Turns, "note_dialled", noted)
    with several(2) as two:
        server.names["a.test"] = at(*two)
        dialler = Dialler("a.test", 80, 5.0)
        for count in range(1, 6):
            connecting = asyncio.ensure_future(dialler.connect(opening))
            while len(dialled) < count:  # noqa: ASYNC110  # it reports to nobody
                await asyncio.sleep(0)
            time.sleep(0.03)  # noqa: ASYNC251  # the loop stands still
            (await connecting).abort()
            assert len(dialled) == count


@on_both_loops
async def test_of_two_that_are_opened_in_the_same_moment_one_is_closed(monkeypatch: pytest.MonkeyPatch) -> None:
    server = NameServer(monkeypatch)
    monkeypatch.setattr(dial, "HANDSHAKE_AFTER", 0.01)
    monkeypatch.setattr(dial, "NEXT_AFTER", 0.01)
    both: list[Connected] = []
    gate = asyncio.Event()

    async def together(sock: socket.socket) -> Connected:
        both.append(Connected(sock))
        if len(both) == 2:
            gate.set()
        own = both[-1]
        await gate.wait()
        return own

    with several(2) as two:
        server.names["a.test"] = at(*two)
        connected = await Dialler("a.test", 80, 5.0).connect(together)
        await asyncio.sleep(0)
        await asyncio.sleep(0)
        assert len(both) == 2
        (other,) = [each for each in both if each is not connected]
        assert other.sock.fileno() == -1
        assert connected.sock.fileno() != -1
        connected.abort()


async def test_what_this_machine_lacks_is_raised_at_once_and_no_address_is_blamed(
    server: NameServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    made = 0

    def lacking(*_: object) -> socket.socket:
        nonlocal made
        made += 1
        raise OSError(errno.EMFILE, os.strerror(errno.EMFILE))

    server.names["a.test"] = at(1, 2, 3)
    dialler = Dialler("a.test", 80, 5.0)
    monkeypatch.setattr(socket, "socket", lacking)
    with pytest.raises(OSError, match="Too many open files"):
        await dialler.connect(opening)
    monkeypatch.undo()
    assert (made, dialler._turns._shunned) == (1, {})


async def test_an_address_on_which_opening_fails_is_followed_by_the_next(
    server: NameServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As on an HTTP proxy's address that answers CONNECT with an error."""
    unmixed(monkeypatch)
    with several(2) as (bad, well):

        async def picky(sock: socket.socket) -> Connected:
            if sock.getpeername()[1] == bad:
                sock.close()
                raise ConnectError("the proxy closed the connection")
            return Connected(sock)

        server.names["a.test"] = at(bad, well)
        connected = await Dialler("a.test", 80, 5.0).connect(picky)
        connected.abort()
        assert connected.port == well
        server.names["b.test"] = [("127.0.0.1", bad), ("255.255.255.255", 80)]
        with pytest.raises(ConnectError, match="closed the connection"):
            await Dialler("b.test", 80, 5.0).connect(picky)


async def test_a_defect_in_opening_is_raised_and_the_other_attempts_end(server: NameServer) -> None:
    async def defective(sock: socket.socket) -> Connected:
        sock.close()
        raise RuntimeError("a defect")

    with several(2) as two:
        server.names["a.test"] = at(*two)
        before, tasks = open_files(), asyncio.all_tasks()
        with pytest.raises(RuntimeError, match="a defect"):
            await Dialler("a.test", 80, 5.0).connect(defective)
        assert (open_files(), asyncio.all_tasks()) == (before, tasks)


@on_both_loops
async def test_an_address_that_is_given_up_in_its_tls_handshake_leaves_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(dial, "HANDSHAKE_AFTER", 0.02)
    unmixed(monkeypatch)
    server = NameServer(monkeypatch)
    authority = trustme.CA()
    own, trusting = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH), ssl.create_default_context()
    authority.issue_cert("model.test").configure_cert(own)
    authority.configure_trust(trusting)
    async with Origin(tls=own) as well, Origin(silent) as mute:
        server.names["model.test"] = at(mute.port, well.port)
        async with Pool("model.test", 443, tls=trusting) as pool:
            response = ResponseStream(pool.loop)
            request = OutgoingRequest("GET", b"GET / HTTP/1.1\r\nHost: h\r\n\r\n", b"", chunked=False, silence=5.0)
            pool.send(response, request)
            assert (await response.wait_head()).status == 200
            assert [piece async for piece in response] == [b"ok"]
            await mute.connections[0].wait_ended()
            assert (pool.statistics().open, len(mute.connections), len(well.connections)) == (1, 1, 1)
