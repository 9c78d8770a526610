"""A name with several addresses, through the proxy: on the wire, with a name server that the tests script."""

import asyncio
import contextlib
import logging
import random
import socket
import ssl
import threading
from collections import Counter
from collections.abc import AsyncIterator
from typing import Any

import pytest
import trustme
from conftest import StartProxy
from fakes import NameServer, Origin, Peer, answer, deaf_port, refusing_port, silent

from shadowproxy.exchange import Outcome
from shadowproxy.serve.upstreams import dial, names

GET = b"GET / HTTP/1.1\r\nHost: h\r\n\r\n"
AGAIN = socket.gaierror(socket.EAI_AGAIN, "Temporary failure in name resolution")
GONE = socket.gaierror(socket.EAI_NONAME, "Name or service not known")
LIVE = {"url": "http://model.test:80"}


@pytest.fixture
def server(monkeypatch: pytest.MonkeyPatch) -> NameServer:
    return NameServer(monkeypatch)


def closing(body: bytes) -> bytes:
    """A response after which its connection is not used again, so that each request has one of its own."""
    return answer(body, (b"Connection", b"close"))


@contextlib.asynccontextmanager
async def origins(*bodies: bytes) -> AsyncIterator[list[Origin]]:
    async with contextlib.AsyncExitStack() as stack:
        yield [await stack.enter_async_context(Origin(closing(body))) for body in bodies]


def at(*ports: int) -> list[tuple[str, int]]:
    return [("127.0.0.1", port) for port in ports]


def ports(of: list[Origin]) -> list[tuple[str, int]]:
    return at(*(each.port for each in of))


async def test_connections_are_spread_over_all_addresses_of_a_name(
    proxy: StartProxy, server: NameServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(dial, "NEXT_AFTER", 60.0)  # a busy machine's own delays are nobody's silence
    async with origins(b"a", b"b", b"c") as three, proxy(live_options=LIVE) as running:
        server.names["model.test"] = ports(three)
        bodies = Counter([(await running.ask(GET)).body for _ in range(12)])
        assert bodies == {b"a": 4, b"b": 4, b"c": 4}


async def test_a_burst_of_connections_is_spread_over_all_addresses(
    proxy: StartProxy, server: NameServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(dial, "NEXT_AFTER", 60.0)
    async with origins(b"a", b"b") as two, proxy(live_options=LIVE) as running:
        server.names["model.test"] = ports(two)
        bodies = Counter(each.body for each in await asyncio.gather(*(running.ask(GET) for _ in range(20))))
        assert bodies == {b"a": 10, b"b": 10}


async def test_a_shadows_connections_are_spread_over_all_addresses_and_its_silent_one_is_passed_over(
    proxy: StartProxy, server: NameServer
) -> None:
    with deaf_port() as deaf:
        async with origins(b"a", b"b") as two:
            server.names["shadow.test"] = at(deaf, *(each.port for each in two))
            options = {"url": "http://shadow.test:80"}
            async with proxy(shadows={"a": b""}, shadow_options=options) as running:
                for _ in range(6):
                    await running.ask(GET)
                outcomes = [record.shadows["a"].outcome for record in await running.records()]
                assert outcomes == [Outcome.OK] * 6
                assert min(len(each.requests) for each in two) >= 2


async def test_while_one_address_is_silent_every_request_is_answered_by_the_others(
    proxy: StartProxy, server: NameServer
) -> None:
    """Formerly each new connection was a 502 after `connect_timeout`."""
    with deaf_port() as deaf:
        async with origins(b"a", b"b") as two, proxy(live_options=LIVE) as running:
            server.names["model.test"] = at(deaf, *(each.port for each in two))
            got = [await running.ask(GET) for _ in range(9)]
            assert [each.status for each in got] == [200] * 9
            assert {each.body for each in got} == {b"a", b"b"}


async def test_the_next_address_is_dialled_after_250_ms(
    proxy: StartProxy, server: NameServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    waits: list[float | None] = []
    dial_next = dial._Race._dial_next

    def noted(race: dial._Race[Any]) -> float | None:
        waits.append(dial_next(race))
        return waits[-1]

    monkeypatch.setattr(random, "shuffle", lambda _: None)
    monkeypatch.setattr(dial._Race, "_dial_next", noted)
    with deaf_port() as deaf:
        async with origins(b"a") as (one,), proxy(live_options=LIVE) as running:
            server.names["model.test"] = at(deaf, one.port)
            assert (await running.ask(GET)).body == b"a"
            assert waits[0] == pytest.approx(0.25)
            assert waits[-1] is None  # there is no third address


async def test_an_address_that_refuses_is_followed_at_once_and_has_its_turn_last(
    proxy: StartProxy, server: NameServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(dial, "NEXT_AFTER", 60.0)  # nothing here waits for it
    with refusing_port() as refusing:
        async with origins(b"a", b"b") as two, proxy(live_options=LIVE) as running:
            server.names["model.test"] = at(refusing, *(each.port for each in two))
            bodies = Counter([(await running.ask(GET)).body for _ in range(10)])
            assert set(bodies) == {b"a", b"b"}


async def test_all_addresses_are_dialled_before_connect_timeout_is_over(proxy: StartProxy, server: NameServer) -> None:
    with deaf_port() as one, deaf_port() as two, deaf_port() as three, deaf_port() as four:
        async with origins(b"a") as (well,), proxy(live_options=LIVE | {"connect_timeout": "1s"}) as running:
            server.names["model.test"] = at(one, two, three, four, well.port)
            assert (await running.ask(GET)).status == 200


async def test_when_all_addresses_are_silent_the_caller_gets_a_502_after_connect_timeout(
    proxy: StartProxy, server: NameServer
) -> None:
    with deaf_port() as one, deaf_port() as two:
        async with proxy(live_options=LIVE | {"connect_timeout": "100ms"}) as running:
            server.names["model.test"] = at(one, two)
            got = await running.ask(GET)
            assert got.status == 502
            assert b"connection_timeout" in got.all(b"Proxy-Status")[0]


async def test_the_last_known_addresses_serve_while_the_name_server_fails(
    proxy: StartProxy, server: NameServer, caplog: pytest.LogCaptureFixture
) -> None:
    async with origins(b"a") as one, proxy(live_options=LIVE) as running:
        server.names["model.test"] = ports(one)
        assert (await running.ask(GET)).body == b"a"
        server.names["model.test"] = AGAIN
        with caplog.at_level(logging.INFO, "shadowproxy"):
            assert [(await running.ask(GET)).body for _ in range(3)] == [b"a"] * 3
            server.names["model.test"] = ports(one)
            assert (await running.ask(GET)).body == b"a"
        said = [(each.event, each.count) for each in caplog.records if hasattr(each, "host")]  # type: ignore[attr-defined]
        assert said == [("name_not_resolved", 1), ("name_not_resolved", 2), ("name_resolved", 3)]


async def test_a_name_that_has_had_no_address_for_a_while_is_a_502_for_its_last_ones_may_belong_to_others(
    proxy: StartProxy, server: NameServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Formerly it was a 502 from the first such answer on: also while all pods of a service were being replaced."""
    async with origins(b"a") as one, proxy(live_options=LIVE) as running:
        server.names["model.test"] = ports(one)
        assert (await running.ask(GET)).body == b"a"
        server.names["model.test"] = GONE
        assert [(await running.ask(GET)).body for _ in range(3)] == [b"a"] * 3
        monkeypatch.setattr(names, "HELD", 0.0)
        async with asyncio.timeout(5):
            while (await running.ask(GET)).status != 502:  # one that began before the answer came may go there
                pass
        server.names["model.test"] = AGAIN
        assert (await running.ask(GET)).status == 502


async def test_while_the_name_server_hangs_the_last_known_addresses_serve_at_once(
    proxy: StartProxy, server: NameServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with origins(b"a", b"b") as (old, new), proxy(live_options=LIVE) as running:
        server.names["model.test"] = ports([old])
        assert (await running.ask(GET)).body == b"a"
        monkeypatch.setattr(names, "PATIENCE", 0.01)
        server.hung["model.test"] = release = threading.Event()
        try:
            assert (await running.ask(GET)).body == b"a"
            monkeypatch.setattr(names, "PATIENCE", 60.0)  # nobody waits for an answer that is late already
            assert [(await running.ask(GET)).body for _ in range(5)] == [b"a"] * 5
            assert len(server.asked) == 2  # one lookup at a time
        finally:
            server.names["model.test"] = ports([new])
            release.set()
        while (await running.ask(GET)).body != b"b":  # as soon as it answers
            pass


async def test_an_answer_that_comes_late_is_dialled_while_the_last_known_address_is_silent(
    proxy: StartProxy, server: NameServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A service moved while its name server was slow: its old address answers nothing."""
    with deaf_port() as deaf:
        async with origins(b"new") as (new,), proxy(live_options=LIVE | {"connect_timeout": "60s"}) as running:
            async with Origin(closing(b"old")) as old:
                server.names["model.test"] = ports([old])
                assert (await running.ask(GET)).body == b"old"
            server.names["model.test"] = at(deaf)
            server.hung["model.test"] = release = threading.Event()
            release.set()
            task = asyncio.create_task(running.ask(GET))  # learns the silent address
            while len(server.asked) < 2:  # noqa: ASYNC110  # a thread counts them
                await asyncio.sleep(0.001)
            release.clear()
            server.names["model.test"] = ports([new])
            monkeypatch.setattr(names, "PATIENCE", 0.01)
            second = asyncio.create_task(running.ask(GET))
            while len(server.asked) < 3:  # noqa: ASYNC110  # a thread counts them
                await asyncio.sleep(0.001)
            await asyncio.sleep(0.05)  # it dials the old address by now
            release.set()
            assert (await second).body == b"new"
            task.cancel()
            await asyncio.wait([task])


async def test_a_hung_name_server_of_a_shadow_does_not_delay_live(proxy: StartProxy, server: NameServer) -> None:
    async with origins(b"a", b"b") as two:
        server.names["model.test"] = server.names["hung.test"] = ports(two)
        server.hung["hung.test"] = release = threading.Event()
        options = {"url": "http://hung.test:80", "timeout": "60s", "connect_timeout": "60s"}
        async with proxy(live_options=LIVE, shadows={"a": b""}, shadow_options=options, drain="0s") as running:
            try:
                async with asyncio.timeout(3):  # the name server hangs for longer
                    assert len({(await running.ask(GET)).body for _ in range(10)}) == 2
                assert server.asked.count("hung.test") == 1
            finally:
                release.set()


async def test_the_certificate_is_that_of_the_name_at_every_address(proxy: StartProxy, server: NameServer) -> None:
    authority = trustme.CA()
    right, wrong = (
        ssl.create_default_context(ssl.Purpose.CLIENT_AUTH),
        ssl.create_default_context(ssl.Purpose.CLIENT_AUTH),
    )
    authority.issue_cert("model.test").configure_cert(right)
    authority.issue_cert("other.test").configure_cert(wrong)
    async with Origin(closing(b"right"), tls=right) as one, Origin(closing(b"wrong"), tls=wrong) as other:
        server.names["model.test"] = ports([other, one])
        with authority.cert_pem.tempfile() as ca:
            options = {"url": "https://model.test", "tls": {"ca": ca}}
            async with proxy(live_options=options) as running:
                assert [(await running.ask(GET)).body for _ in range(4)] == [b"right"] * 4


async def test_an_address_that_accepts_and_is_silent_in_the_tls_handshake_is_followed_by_the_next(
    proxy: StartProxy, server: NameServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(dial, "HANDSHAKE_AFTER", 0.05)
    authority = trustme.CA()
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    authority.issue_cert("model.test").configure_cert(context)
    async with Origin(closing(b"a"), tls=context) as well, Origin(silent) as mute:
        server.names["model.test"] = ports([mute, well])
        with authority.cert_pem.tempfile() as ca:
            options = {"url": "https://model.test", "tls": {"ca": ca}}
            async with proxy(live_options=options) as running:
                assert [(await running.ask(GET)).body for _ in range(4)] == [b"a"] * 4


async def test_a_short_connect_timeout_is_enough_for_the_address_after_a_silent_tls_handshake(
    proxy: StartProxy, server: NameServer
) -> None:
    authority = trustme.CA()
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    authority.issue_cert("model.test").configure_cert(context)
    async with Origin(closing(b"a"), tls=context) as well, Origin(silent) as mute:
        server.names["model.test"] = ports([mute, well])
        with authority.cert_pem.tempfile() as ca:
            options = {"url": "https://model.test", "tls": {"ca": ca}, "connect_timeout": "900ms"}
            async with proxy(live_options=options) as running:
                assert [(await running.ask(GET)).body for _ in range(2)] == [b"a"] * 2


async def test_a_service_that_moves_is_followed_within_max_age(proxy: StartProxy, server: NameServer) -> None:
    """Its old address goes on answering, by connections that are kept: formerly it got every request."""
    async with Origin(answer(b"old")) as old, Origin(answer(b"new")) as new:
        server.names["model.test"] = ports([old])
        async with proxy(live_options=LIVE | {"max_age": "100ms"}) as running, await running.caller() as caller:
            assert (await caller.ask(GET)).body == b"old"
            assert len(old.connections) == 1
            server.names["model.test"] = ports([new])
            async with asyncio.timeout(5):
                while (await caller.ask(GET)).body != b"new":  # noqa: ASYNC110  # the age is a time
                    await asyncio.sleep(0.005)
            assert len(old.connections) == 1  # it was used up to its age
            await old.connections[0].wait_ended()


async def test_a_shadow_that_moves_is_followed_within_its_max_age(proxy: StartProxy, server: NameServer) -> None:
    async with Origin(answer(b"old")) as old, Origin(answer(b"new")) as new:
        server.names["shadow.test"] = ports([old])
        options = {"url": "http://shadow.test:80", "max_age": "50ms"}
        async with proxy(shadows={"a": b""}, shadow_options=options) as running, await running.caller() as caller:
            await caller.ask(GET)
            await (await old.connection()).wait_received(1)
            server.names["shadow.test"] = ports([new])
            async with asyncio.timeout(5):
                while not new.requests:
                    await caller.ask(GET)
                    await asyncio.sleep(0.005)


async def test_a_connection_that_reaches_max_age_in_the_middle_of_a_response_ends_after_it(
    proxy: StartProxy, server: NameServer
) -> None:
    gate = asyncio.Event()

    async def script(peer: Peer) -> None:
        await peer.request()
        await peer.send(answer(b"whole")[:-3])
        await gate.wait()
        await peer.send(b"ole")
        await peer.wait_ended()

    async with Origin(script) as live:
        server.names["model.test"] = ports([live])
        async with proxy(live_options=LIVE | {"max_age": "10ms"}) as running, await running.caller() as caller:
            await caller.send(GET)
            await (await live.connection()).wait_received(1)
            await asyncio.sleep(0.03)
            gate.set()
            assert (await caller.answer()).body == b"whole"
            await live.connections[0].wait_ended()
