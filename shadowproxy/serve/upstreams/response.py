"""A response as a stream, for a caller that has a task to read it in."""

import asyncio
from collections.abc import AsyncIterator

from shadowproxy.serve.http1.framing import ResponseHead
from shadowproxy.serve.http1.pieces import Pieces
from shadowproxy.serve.upstreams.connection import HIGH_WATER
from shadowproxy.serve.upstreams.errors import ReadError
from shadowproxy.serve.upstreams.roundtrip import RoundTrip


class ResponseStream(RoundTrip):
    """One response: await its head, then read the bytes of its body as they come, once. Abandon it, or read all of it.

    Both raise what ended it early. What was received before that can still be read.
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
        """Whether all of the response was received, and taken."""
        return self._whole and not self._pieces

    async def wait_head(self) -> ResponseHead:
        """Wait until the head is there. If the wait is cancelled, the response is abandoned."""
        try:
            while self.head is None:
                await self._wait_more()
        except BaseException:
            self.abandon()
            raise
        return self.head

    def take_nowait(self) -> bytes:
        """What was received since the last time; b"" if that is nothing."""
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
            await self._wait_more()
        return self.take_nowait()

    def _wait_more(self) -> asyncio.Future[None]:
        """Done when something was received. Until then the endpoint's silence counts. Raises what ended it early."""
        if self._error is not None:
            raise self.raised_for(self._error)
        if self.over:
            raise ReadError("nobody listens any more")
        self._waiter = waiter = self._loop.create_future()
        self.watch_silence(True)
        return waiter

    def raised_for(self, error: Exception) -> Exception:
        """The exception that the reader gets for `error`."""
        return error

    def _wake(self) -> None:
        waiter = self._waiter
        if waiter is not None:
            self._waiter = None
            self.watch_silence(False)
            if not waiter.done():
                waiter.set_result(None)

    # The connection calls these.

    def on_head(self, head: ResponseHead) -> None:
        self._wake()

    def on_body(self, data: bytes) -> None:
        self._pieces.add(data)
        if self._pieces.size > HIGH_WATER:
            self.hold(True)
        self._wake()

    def on_end(self) -> None:
        self._whole = True
        self._wake()

    def on_failure(self, error: Exception) -> None:
        self._error = error
        self._wake()
