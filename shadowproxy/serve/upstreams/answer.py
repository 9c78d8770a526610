"""An answer as a stream, for who has a task to read it in."""

import asyncio
from collections.abc import AsyncIterator

from shadowproxy.serve.http1.framing import ReplyHead
from shadowproxy.serve.http1.pieces import Pieces
from shadowproxy.serve.upstreams.asking import Asking
from shadowproxy.serve.upstreams.connection import HIGH_WATER
from shadowproxy.serve.upstreams.errors import ReadError


class Answer(Asking):
    """One answer: await its head, then read its body's bytes as they come, once. Abandon it, or read it to its end.

    Both raise what broke it. What had come before that can still be read.
    """

    # An iterator and not a generator: one that is left halfway would be closed by a task that nobody owns.

    __slots__ = ("_error", "_loop", "_pieces", "_waiter", "_whole")

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        super().__init__()
        self._loop = loop
        self._pieces = Pieces()
        self._whole = False
        self._error: Exception | None = None
        self._waiter: asyncio.Future[None] | None = None

    @property
    def ended(self) -> bool:
        """Whether all of the answer has come, and been taken."""
        return self._whole and not self._pieces

    async def wait_head(self) -> ReplyHead:
        """Who is cancelled meanwhile has abandoned the answer."""
        try:
            while self.head is None:
                await self._more()
        except BaseException:
            self.abandon()
            raise
        return self.head

    def take_nowait(self) -> bytes:
        """What has come since the last time, b"" where that is nothing."""
        if not self._pieces:
            return b""
        held = self._pieces.size > HIGH_WATER
        piece = self._pieces.take()
        if held:
            self.hold(False)
        return piece

    def __aiter__(self) -> AsyncIterator[bytes]:
        return self

    async def __anext__(self) -> bytes:
        while not self._pieces:
            if self._whole:
                raise StopAsyncIteration
            await self._more()
        return self.take_nowait()

    def _more(self) -> asyncio.Future[None]:
        """Done when something has come. Meanwhile the peer's silence counts. Raises what broke the answer."""
        if self._error is not None:
            raise self.told(self._error)
        if self.over:
            raise ReadError("nobody listens any more")
        self._waiter = waiter = self._loop.create_future()
        self.expect(True)
        return waiter

    def told(self, error: Exception) -> Exception:
        """What is raised of an error."""
        return error

    def _wake(self) -> None:
        waiter = self._waiter
        if waiter is not None:
            self._waiter = None
            self.expect(False)
            if not waiter.done():
                waiter.set_result(None)

    # The connection calls these.

    def begins(self, head: ReplyHead) -> None:
        self._wake()

    def piece(self, data: bytes) -> None:
        self._pieces.add(data)
        if self._pieces.size > HIGH_WATER:
            self.hold(True)
        self._wake()

    def ends(self) -> None:
        self._whole = True
        self._wake()

    def breaks(self, error: Exception) -> None:
        self._error = error
        self._wake()
