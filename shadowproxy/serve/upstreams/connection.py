"""One connection: what asyncio tells of it, handed to the one exchange that it carries, which is an `Asking`.

The rules are wire.py's.
"""

import asyncio
import socket
from typing import TYPE_CHECKING, cast

from shadowproxy.serve.http1.deadline import Deadline
from shadowproxy.serve.http1.framing import FramingError
from shadowproxy.serve.upstreams import kernel
from shadowproxy.serve.upstreams.errors import ProtocolError

if TYPE_CHECKING:  # whom it tells, and whose it is
    from shadowproxy.serve.upstreams.asking import Asking
    from shadowproxy.serve.upstreams.pool import Wire

HIGH_WATER = 64 * 1024


class Connection:
    """One connection of a wire's, and whom it tells of what comes: an asyncio.Protocol in all but its base class.

    Without that it has slots, which cost less to read, and less again where the module is compiled.
    """

    __slots__ = (
        "_asking",
        "_ended_by",
        "_sock",
        "_untaken",
        "_watcher",
        "aborted",
        "deadline",
        "loop",
        "lost",
        "transport",
        "used",
        "wire",
        "writable",
    )

    def __init__(self, wire: "Wire", loop: asyncio.AbstractEventLoop, sock: socket.socket) -> None:
        self.wire = wire
        self.loop = loop
        self.deadline = Deadline(loop, self._expired)
        self.transport: asyncio.Transport = None  # type: ignore[assignment]  # set by connection_made
        self.writable: asyncio.Future[None] | None = None
        self.used = False
        self.aborted = False
        self.lost = False  # the transport has closed it
        self._sock = sock  # the transport's, to ask the kernel of it while that is open
        self._untaken = False  # when TLS had read to the end, after which its transport closes the socket
        self._watcher = kernel.watcher(sock)
        self._asking: Asking | None = None  # None while idle
        self._ended_by: Exception | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = cast(asyncio.Transport, transport)
        self.transport.set_write_buffer_limits(high=HIGH_WATER)
        if self.aborted:  # by who asked for it and left before it was made
            self.transport.abort()
        elif not self.lost:
            self.wire.opened(self)

    def is_usable(self) -> bool:
        """Whether the next request may go by it: of one that is idle."""
        if self.transport.is_closing():
            return False
        if kernel.is_silent(self._watcher):
            return True
        self.abort()  # rule 2; the loop has not had its turn to say so
        return False

    def untaken(self) -> bool:
        """Whether the other side's kernel has not taken all that was sent."""
        return self._untaken or kernel.unacknowledged(self._sock) > 0

    def begin(self, asking: "Asking") -> None:
        self._asking = asking

    def end(self, *, reusable: bool, small: bool) -> None:
        """The exchange is complete: an answer has come whole. `small` is its request."""
        self._asking = None
        self.used = True
        self.deadline.clear()
        if self.lost:
            return
        if self.transport.get_write_buffer_size() or not (small or kernel.unacknowledged(self._sock) == 0):
            # An upload that the answer made pointless: to close politely would be to send it, and what is asked next
            # would wait behind it.
            self.abort()
        elif not (reusable and self.wire.keep(self)):
            self.close()

    def close(self) -> None:
        """Once it carries nothing."""
        self.deadline.close()
        self.transport.close()

    def abort(self) -> None:
        self.deadline.close()
        self.aborted = True
        self.wire.lost(self)  # uvloop may leave that unsaid, of one that was not made yet
        if not self.lost and self.transport is not None:
            self.transport.abort()

    def resume_reading(self) -> None:
        if not self.lost and not self.transport.is_closing():
            self.transport.resume_reading()

    def data_received(self, data: bytes) -> None:
        asking = self._asking
        if asking is None:
            self.abort()  # rule 2: nobody asked
            return
        if asking.over:
            return  # who asked has left, and this had come before
        try:
            asking.feed(data)
        except FramingError as wrong:
            asking.fail(ProtocolError(str(wrong)))
        except Exception as error:  # noqa: BLE001  # not swallowed: whoever asked is told
            asking.defect(error)

    def eof_received(self) -> bool:
        self._end_of_answer(None)
        return False  # an answer that ends with its connection has ended: so does this side

    def read_to_the_end(self) -> None:
        """From here on nothing waits to be read but what is `behind`: there is no more than the kernel had."""
        if self._asking is not None:
            self._asking.unpause()
        self._untaken = self.untaken()
        self.lost = True

    def connection_lost(self, exc: Exception | None) -> None:
        self.deadline.close()
        self.wire.lost(self)
        self.resume_writing()
        asking = self._asking
        if asking is not None and not asking.over and not self.lost:  # else TLS has read it
            self.lost = True
            if rest := kernel.received(self._sock):
                self.data_received(rest)
        self.lost = True
        self._end_of_answer(exc)

    def read_on(self) -> None:
        """Read what was left for another turn."""
        self.data_received(b"")
        if self.lost:
            self._end_of_answer(self._ended_by)

    def _end_of_answer(self, exc: Exception | None) -> None:
        """Nothing more comes, but for what is not read yet."""
        self._ended_by = exc
        asking = self._asking
        if asking is None or asking.behind:
            return
        self._asking = None
        try:
            asking.lost(exc)
        except Exception as error:  # noqa: BLE001  # not swallowed: whoever asked is told
            asking.defect(error)

    def pause_writing(self) -> None:
        self.writable = self.loop.create_future()

    def resume_writing(self) -> None:
        if self.writable is not None and not self.writable.done():
            self.writable.set_result(None)
        self.writable = None

    def _expired(self) -> None:
        if self._asking is not None:
            self._asking.silent()
