"""Connections are shared out among those that listen on one socket, and wait for none that hangs."""

import asyncio
import os
import socket
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from typing import cast

import pytest

from shadowproxy.serve.callers import balance
from shadowproxy.serve.callers.balance import Acceptor
from shadowproxy.serve.callers.board import Board, shared_memory


@contextmanager
def board(*counts: int) -> Iterator[Board]:
    memory = shared_memory()
    try:
        one = Board(memory, len(counts))
        for worker, count in enumerate(counts):
            one.note(worker, count)
        yield one
        one.close()
    finally:
        os.close(memory)


@pytest.mark.parametrize(
    ("counts", "ahead"),
    [
        ((0, 0), False),
        ((1, 1), False),
        ((1, 0), True),
        ((0, 1), False),
        ((5, 5, 4), True),
        ((100, 99), False),  # with many connections, an eighth is no matter
        ((112, 100), False),
        ((113, 100), True),
        ((7,), False),
    ],
)
def test_the_first_of_these_workers_is_ahead_of_some_other_or_not(counts: tuple[int, ...], ahead: bool) -> None:
    with board(*counts) as one:
        assert one.is_ahead(0) is ahead


def test_nothing_is_left_to_a_worker_that_is_gone() -> None:
    with board(5, 0) as one:
        one.note_gone(1)
        assert not one.is_ahead(0)


def test_another_board_on_the_same_memory_sees_the_same_counts() -> None:
    memory = shared_memory()
    one, other = Board(memory, 3), Board(memory, 3)
    os.close(memory)
    one.note(1, 7)
    assert list(other.counts()) == [0, 7, 0]
    one.close()
    other.close()


class Open(asyncio.Protocol):
    """One connection, counted while it is open."""

    def __init__(self, among: set["Open"]) -> None:
        self._among = among

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = cast("asyncio.Transport", transport)
        self._among.add(self)

    def connection_lost(self, _: Exception | None) -> None:
        self._among.discard(self)


class Listening:
    """A listening socket with so many that take from it, in one event loop."""

    def __init__(self, workers: int) -> None:
        first = socket.create_server(("127.0.0.1", 0), backlog=128)
        first.setblocking(False)
        self.address = first.getsockname()
        sockets = [first, *(first.dup() for _ in range(workers - 1))]
        for each in sockets:
            each.setblocking(False)
        self.memory = shared_memory()
        self.board = Board(self.memory, workers)
        self.open: list[set[Open]] = [set() for _ in range(workers)]
        self.acceptors = [self._acceptor(each, number) for number, each in enumerate(sockets)]
        self.callers = ExitStack()
        self.closed = 0  # so many were closed by the test

    def _acceptor(self, listening: socket.socket, number: int) -> Acceptor:
        among = self.open[number]
        return Acceptor([listening], self.board, number, protocol=lambda _: Open(among), count_open=lambda: len(among))

    async def __aenter__(self) -> "Listening":
        return self

    async def __aexit__(self, *_: object) -> None:
        for each in self.acceptors[self.closed :]:
            await each.close()
        for connection in [each for among in self.open for each in among]:
            connection.transport.close()
        self.callers.close()
        self.board.close()
        os.close(self.memory)
        await asyncio.sleep(0)

    def connect(self, count: int) -> None:
        for _ in range(count):
            self.callers.enter_context(socket.create_connection(self.address))

    async def wait_open(self, count: int) -> list[int]:
        async with asyncio.timeout(5):
            while sum(map(len, self.open)) < count:  # noqa: ASYNC110
                await asyncio.sleep(0.001)
        return [len(among) for among in self.open]


async def test_a_burst_of_connections_is_shared_out_evenly() -> None:
    async with Listening(2) as listening:
        for each in listening.acceptors:
            each.start()
        listening.connect(16)
        assert await listening.wait_open(16) == [8, 8]


async def test_a_worker_that_has_fewer_connections_gets_the_new_ones() -> None:
    async with Listening(2) as listening:
        listening.board.note_gone(1)
        listening.acceptors[0].start()
        listening.connect(6)
        assert await listening.wait_open(6) == [6, 0]
        listening.acceptors[1].start()
        listening.connect(6)
        assert await listening.wait_open(12) == [6, 6]


async def test_connections_left_to_a_worker_that_hangs_are_accepted_by_another() -> None:
    async with Listening(2) as listening:
        listening.acceptors[0].start()  # the other has none, and never accepts any
        listening.connect(5)
        assert await listening.wait_open(5) == [5, 0]


async def test_closing_accepts_the_waiting_connections_and_no_more() -> None:
    async with Listening(1) as listening:
        listening.connect(3)
        await listening.acceptors[0].close()
        listening.closed = 1
        assert len(listening.open[0]) == 3
        with pytest.raises(ConnectionError):
            listening.connect(1)


async def test_a_connection_that_the_system_does_not_accept_is_logged_and_tried_again(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(balance, "RETRY", 0.01)
    async with Listening(1) as listening:

        class Full:
            """The socket, while there are no descriptors."""

            def __init__(self) -> None:
                self.refusals = 0

            def fileno(self) -> int:
                return real.fileno()

            def accept(self) -> tuple[socket.socket, object]:
                self.refusals += 1
                if self.refusals <= 3:
                    raise OSError(24, "Too many open files")
                return real.accept()

            def close(self) -> None:
                real.close()

        acceptor = listening.acceptors[0]
        (real,), full = acceptor._listening, Full()
        acceptor._listening = [full]  # type: ignore[list-item]
        acceptor.start()
        listening.connect(1)
        assert await listening.wait_open(1) == [1]
        assert "a connection could not be accepted: Too many open files" in caplog.text
