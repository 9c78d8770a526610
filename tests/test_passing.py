"""The channel over which connections go from one process to another."""

import asyncio
import contextlib
import os
import socket
from collections.abc import Iterator
from pathlib import Path

import pytest

from shadowproxy.serve.probes.passing import MOST_BYTES, Channel, Kind, Passed, pair


class End:
    """One end, which keeps what it receives."""

    def __init__(self, end: socket.socket) -> None:
        self.received: list[Passed] = []
        self.ended = 0
        self.changed = asyncio.Event()
        self.channel = Channel(end, self._keep, self._end)
        self.channel.start()

    def _keep(self, message: Passed) -> None:
        self.received.append(message)
        self.changed.set()

    def _end(self) -> None:
        self.ended += 1
        self.changed.set()

    async def wait(self, count: int = 1) -> None:
        async with asyncio.timeout(5):
            while len(self.received) < count and not self.ended:
                self.changed.clear()
                await self.changed.wait()


def descriptors() -> int:
    """How many this process has open."""
    return len(os.listdir("/proc/self/fd"))


@contextlib.contextmanager
def channel() -> Iterator[tuple[End, socket.socket, End]]:
    """An end, the socket of the other one, and that one."""
    one, other = pair()
    ends = End(one), other, End(other)
    try:
        yield ends
    finally:
        ends[0].channel.close()
        ends[2].channel.close()


async def test_a_connection_arrives_with_its_bytes_and_is_closed_on_this_side() -> None:
    ours, theirs = socket.socketpair()
    with channel() as (sender, _, receiver), theirs:
        sender.channel.send(Passed(Kind.ASK))
        assert sender.channel.try_send(Passed(Kind.TAKE, 2**32 - 1, b"GET / HTTP/1.1\r\n\r\n", ours))
        await receiver.wait(2)
        asked, taken = receiver.received
        assert asked == Passed(Kind.ASK)
        assert (taken.kind, taken.number, taken.data) == (Kind.TAKE, 2**32 - 1, b"GET / HTTP/1.1\r\n\r\n")
        assert ours.fileno() == -1
        assert taken.connection is not None
        with taken.connection as connection:
            assert not connection.get_inheritable()
            theirs.send(b"for whoever has it")
            assert connection.recv(100) == b"for whoever has it"


async def test_a_channel_that_is_full_refuses_now_and_sends_later() -> None:
    one, other = pair()
    sender = End(one)
    data = b"x" * 30_000
    kept = 0
    while sender.channel.try_send(Passed(Kind.ASK, kept, data)):
        kept += 1
    assert 3 < kept < 50
    ours, theirs = socket.socketpair()
    with theirs:
        assert not sender.channel.try_send(Passed(Kind.TAKE, 0, b"", ours))
        assert ours.fileno() >= 0  # it is still this side's
        for number in range(kept, kept + 5):
            sender.channel.send(Passed(Kind.ASK, number, data))
        sender.channel.send(Passed(Kind.TAKE, kept + 5, b"", ours))
        for _ in range(3):
            other.recv(100_000)
        assert not sender.channel.try_send(Passed(Kind.ASK, 0))  # there is room, but it would overtake those
        receiver = End(other)
        await receiver.wait(kept + 3)
        assert [each.number for each in receiver.received] == list(range(3, kept + 6))
        last = receiver.received[-1].connection
        assert last is not None
        last.close()
    sender.channel.close()
    receiver.channel.close()


@pytest.mark.parametrize("raw", [b"", b"\x01", b"\xff\x00\x00\x00\x00", b"\x02\0\0\0\0" + b"x" * MOST_BYTES, None])
async def test_the_end_of_the_other_side_and_what_is_no_message_end_the_channel(raw: bytes | None) -> None:
    one, other = pair()
    receiver = End(one)
    with other:
        if raw is None:
            other.close()
        else:
            other.send(raw)
        await receiver.wait()
        assert (receiver.ended, receiver.received) == (1, [])
        ours, theirs = socket.socketpair()
        with theirs:
            receiver.channel.send(Passed(Kind.BACK, 1, b"", ours))  # to nobody: it is closed
            assert theirs.recv(1) == b""


@pytest.mark.skipif(not Path("/proc/self/fd").exists(), reason="counts descriptors")
async def test_connections_that_were_not_sent_are_closed_with_the_channel() -> None:
    before = descriptors()
    one, other = pair()
    sender = End(one)
    while sender.channel.try_send(Passed(Kind.ASK, 0, b"x" * 30_000)):
        pass
    ours, theirs = socket.socketpair()
    sender.channel.send(Passed(Kind.TAKE, 1, b"", ours))
    sender.channel.close()
    assert theirs.recv(1) == b""
    theirs.close()
    other.close()
    assert descriptors() == before
