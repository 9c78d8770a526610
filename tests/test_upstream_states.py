"""The states of a connection to an endpoint and of a round trip: which moves are legal, and what a reader sees."""

import asyncio
import socket
from collections.abc import Mapping
from enum import IntEnum

import pytest
from fakes import Origin, Peer, chunk_of, chunked

from shadowproxy.serve.upstreams import connection, roundtrip
from shadowproxy.serve.upstreams.connection import Connection, ConnectionState
from shadowproxy.serve.upstreams.pool import Pool
from shadowproxy.serve.upstreams.request import OutgoingRequest
from shadowproxy.serve.upstreams.response import ResponseStream
from shadowproxy.serve.upstreams.roundtrip import RoundTripState

TABLES = [(ConnectionState, connection.MOVES), (RoundTripState, roundtrip.MOVES)]
GET = OutgoingRequest("GET", b"GET / HTTP/1.1\r\nHost: h\r\n\r\n", b"", chunked=False, silence=5.0)


def reachable(moves: Mapping[IntEnum, frozenset[IntEnum]], start: IntEnum) -> set[IntEnum]:
    found, todo = {start}, [start]
    while todo:
        for state in moves[todo.pop()] - found:
            found.add(state)
            todo.append(state)
    return found


@pytest.mark.parametrize(("states", "moves"), TABLES)
def test_each_state_is_reachable_and_leads_to_the_last_one(
    states: type[IntEnum], moves: Mapping[IntEnum, frozenset[IntEnum]]
) -> None:
    first, *_, last = states
    assert list(moves) == list(states)
    assert reachable(moves, first) == set(states)
    assert all(last in reachable(moves, state) for state in states)
    assert moves[last] == frozenset()


async def test_an_illegal_move_is_refused_and_names_both_states() -> None:
    with socket.socket() as sock:
        async with Pool("127.0.0.1", 9) as pool:
            made = Connection(pool, pool.loop, sock)
            with pytest.raises(RuntimeError, match="<Connection CONNECTING> cannot become ACTIVE"):
                made.begin(ResponseStream(pool.loop))
            response = ResponseStream(pool.loop)
            response.abandon()
            with pytest.raises(RuntimeError, match="<ResponseStream OVER> cannot become CONNECTING"):
                pool.send(response, GET)


async def test_states_are_visible_from_the_first_to_the_last() -> None:
    gate = asyncio.Event()

    async def script(peer: Peer) -> None:
        await peer.request()
        await gate.wait()
        await peer.send(chunked(b"begun")[:-5])
        gate.clear()
        await gate.wait()
        await peer.send(chunk_of(b"ended") + b"0\r\n\r\n")
        await peer.wait_ended()

    async with Origin(script) as origin, asyncio.timeout(5):
        async with Pool("127.0.0.1", origin.port) as pool:
            response = ResponseStream(pool.loop)
            assert repr(response) == "<ResponseStream NEW>"
            pool.send(response, GET)
            assert repr(response) == "<ResponseStream CONNECTING>"
            await (await origin.connection()).wait_received(1)
            (used,) = pool._open
            assert (repr(response), repr(used)) == ("<ResponseStream WAITING>", "<Connection ACTIVE>")
            gate.set()
            assert await anext(response) == b"begun"
            assert (repr(response), repr(used)) == ("<ResponseStream RECEIVING>", "<Connection ACTIVE>")
            gate.set()
            assert await anext(response) == b"ended"
            assert (repr(response), repr(used)) == ("<ResponseStream OVER>", "<Connection IDLE used>")
        assert repr(used) == "<Connection CLOSING used>"
        while used.state is not ConnectionState.CLOSED:  # noqa: ASYNC110  # it reports to nobody
            await asyncio.sleep(0)


async def test_a_connection_that_ends_before_it_was_open_is_closed_and_closes_what_comes_later() -> None:
    """Asyncio's TLS reports the end first where the server leaves in the turn that ends the handshake."""
    loop = asyncio.get_running_loop()
    near, far = socket.socketpair()
    with far:
        async with Pool("127.0.0.1", 9) as pool:
            ended = Connection(pool, loop, near)
            ended.connection_lost(None)
            assert repr(ended) == "<Connection CLOSED>"
            transport, _ = await loop.create_connection(asyncio.Protocol, sock=near)
            ended.connection_made(transport)
            assert transport.is_closing()
            assert pool.statistics().open == 0
            await asyncio.sleep(0)
