"""One request and its response, as an application is given them."""

import asyncio
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Final, Protocol

from shadowproxy.exchange import Field, Fields
from shadowproxy.serve.callers.link import Link, State
from shadowproxy.serve.http1 import bodies, framing
from shadowproxy.serve.http1.framing import FramingError, Length, RequestHead
from shadowproxy.serve.http1.pieces import Pieces

CALLER_LEFT = "the caller left"
STOPPING = "the proxy is stopping"
STOOD_STILL = "the caller sent and took next to nothing for a while, and others needed its room"

_REQUEST: Final = State.REQUEST
_RESPONSE: Final = State.RESPONSE
_TUNNEL: Final = State.TUNNEL


class BrokenOff(Exception):
    """Raised by the application when it cannot complete the response that it began."""


class Tunnelled(Protocol):
    """What takes the caller's bytes after a 101."""

    def take(self, data: bytes) -> None:
        """The caller sent these."""

    def caller_ended(self, exc: Exception | None) -> None:
        """The caller's connection is gone."""


class Call:
    """Owned by its connection, whose reader pushes the body; the application takes that and writes the response.

    `started` and `answered` stay true once the response has begun and is complete, whatever the connection does then.
    An application that answers in callbacks, without a task, sets `on_cancel`.
    """

    __slots__ = (
        "_continue_wanted",
        "_head_out",
        "_left",
        "_link",
        "_waiter",
        "answered",
        "asked",
        "begun",
        "error",
        "framing",
        "head",
        "keep_alive",
        "on_cancel",
        "pieces",
        "reader",
        "received",
        "started",
        "task",
        "tunnel",
    )

    def __init__(self, link: Link, head: RequestHead) -> None:
        self._link = link
        self.head = head
        self.reader = bodies.body_reader(head.framing)
        self.begun = False  # the application was given it
        self.asked = False  # the application's: it holds one of the slots in which live is asked
        self.task: asyncio.Task[None] | None = None
        self.on_cancel: Callable[[str], None] | None = None
        self.error: FramingError | None = None
        self.received = 0
        self.pieces = Pieces()  # unread
        self.started = False
        self.answered = False
        self.keep_alive = False
        self.framing: framing.Framing = 0  # of the response
        self.tunnel: Tunnelled | None = None
        self._left = 0
        self._head_out = b""
        self._waiter: asyncio.Future[None] | None = None
        self._continue_wanted = head.expects_continue

    @property
    def client(self) -> Any:
        """The caller's address and port; None where it has none, as on a Unix socket."""
        return self._link.client

    @property
    def scheme(self) -> bytes:
        return b"https" if self._link.secure else b"http"

    # The connection calls these.

    def push(self, body: bytes) -> None:
        self.received += len(body)
        if body and not self.answered:
            self.pieces.add(body)
        self._wake()

    def cancel(self, why: str) -> None:
        """End it early, unless its response is complete."""
        if self.answered:
            return
        if self.on_cancel is not None:
            self.on_cancel(why)
        elif self.task is not None:
            self.task.cancel(why)

    def fail(self, error: FramingError) -> None:
        self.error = error
        self._wake()

    def _wake(self) -> None:
        if self._waiter is not None and not self._waiter.done():
            self._waiter.set_result(None)

    # The application reads.

    @property
    def trailers(self) -> Fields:
        """The fields that came after a chunked body, once it is complete."""
        return self.reader.trailers

    @property
    def complete(self) -> bool:
        """Whether all of the body has come and was taken. False after a response that did not wait for it."""
        return self.reader.done and not self.pieces.size and not self.answered

    def take_nowait(self) -> bytes:
        """The bytes of the body that have come and were not taken yet; may be empty."""
        body = self.pieces.take()
        link = self._link
        if link.held:
            link.hold(max(0, link.held - len(body)))  # the application counts it from here on
        if link.full:
            link.read_on(not self.reader.done)
        return body

    async def read(self) -> bytes:
        """The next bytes of the body; empty at its end.

        Raises FramingError when the body is malformed or late.
        """
        while not self.pieces.size and not (self.reader.done and not self.answered):
            if self.error is not None:
                raise self.error
            if self._continue_wanted and not self.started:
                self._continue_wanted = False
                self._link.transport.write(b"HTTP/1.1 100 Continue\r\n\r\n")
            self._waiter = self._link.loop.create_future()
            await self._waiter
        return self.take_nowait()

    # The application responds.

    def send_interim(self, status: int, fields: Sequence[Field]) -> None:
        """Send an interim response (1xx), before `start`. A caller that speaks HTTP/1.0 or takes nothing gets none.

        It has no body, so the fields that would announce one do not pass (RFC 9112 sections 6.1 and 6.2).
        """
        link = self._link
        if self.head.http10 or link.state is not _REQUEST or link.writable is not None or link.transport.is_closing():
            return
        fields = [field for field in fields if field[0].lower() not in _LENGTHS]
        link.transport.write(framing.write_head(framing.status_line(status), fields))

    def start(
        self,
        status: int,
        fields: Sequence[Field],
        names: Mapping[bytes, bytes] | None = None,
        body: bytes = b"",
        *,
        last: bool = False,
        trailers: Fields = (),
    ) -> None:
        """Begin the response, with `body` as the beginning of its body; `last` says that this is all of it.

        `names` has the names of `fields` that frame a message in lower case, each with its value, where they are known.
        Without any body the head is held back until the end of this loop iteration: a body that comes meanwhile goes
        out in the same write. Raises what `read` would, if the connection has rejected the request itself by now.
        """
        link = self._link
        if link.state is not _REQUEST:
            if self.error is not None:
                raise self.error
            raise BrokenOff("the connection has ended")
        self._head_out = self._head(status, fields, names if names is not None else _names(fields))
        self.started = True
        link.move(_RESPONSE)
        if body or last:
            self.write(body, last=last, trailers=trailers)
        else:
            link.loop.call_soon(self.flush_head)

    def _head(self, status: int, fields: Sequence[Field], names: Mapping[bytes, bytes]) -> bytes:
        """Choose how the response's end will be known, and write the head that says so."""
        http10 = self.head.http10
        unfit = _LENGTHS if status == 204 else _NOT_FOR_HTTP10 if http10 else _NONE
        if unfit and not unfit.isdisjoint(names):
            fields = [field for field in fields if field[0].lower() not in unfit]
            names = {name: value for name, value in names.items() if name not in unfit}
        more: list[Field] = []
        if self.head.method == "HEAD" or status in framing.BODYLESS_STATUSES:
            self._left = 0
        elif b"content-length" in names:
            self.framing = self._left = int(names[b"content-length"])
        elif http10:
            self.framing = Length.UNTIL_CLOSE
        else:
            if b"transfer-encoding" not in names:
                more.append((b"Transfer-Encoding", b"chunked"))
            self.framing = Length.CHUNKED
        # A caller that got no 100 Continue may send its body or not: only the connection's end tells the two apart.
        in_doubt = self._continue_wanted and not self.reader.done
        self.keep_alive = (
            self.head.keep_alive and self.framing is not Length.UNTIL_CLOSE and not self._link.stopping and not in_doubt
        )
        if not self.keep_alive:
            more.append((b"Connection", b"close"))
        elif http10:
            more.append((b"Connection", b"keep-alive"))
        return framing.write_head(framing.status_line(status), [*fields, *more] if more else fields)

    def flush_head(self) -> None:
        if self._head_out and not self._link.transport.is_closing():  # the caller may have left in this turn
            self._link.transport.write(self._head_out)
            self._head_out = b""

    def write(self, body: bytes, *, last: bool, trailers: Fields = ()) -> None:
        """Go on with a response that was started. `trailers` follow the last of its body, if that is sent chunked."""
        out, self._head_out = self._head_out, b""
        if self.head.method == "HEAD":
            body = b""  # the proxy's own responses have one; only its length is sent
        if self.framing is Length.CHUNKED:
            if body:
                out += bodies.write_chunk(body)
            if last:
                out += bodies.write_last_chunk(trailers)
        elif self.framing is Length.UNTIL_CLOSE:
            out += body
        else:
            out += body[: self._left]
            if len(body) > self._left or (last and len(body) < self._left):
                self._link.transport.write(out)
                raise BrokenOff(f"an answer of {self.framing} bytes had {self._left - len(body)} to go at its end")
            self._left -= len(body)
        if out:
            self._link.transport.write(out)
            if not self.reader.done:  # a stream both ways: whoever sends nothing while live does is no less alive
                self._link.moved_at = self._link.loop.time()
        if last:
            self.answered = True
            self.pieces.clear()  # these are dropped: they must not count as unread, or reading would stop
            self._link.complete()

    def switch(self, fields: Sequence[Field], tunnel: Tunnelled) -> None:
        """Respond with a 101 that has `fields`: from then on `tunnel` takes what the caller sends. Raises BrokenOff."""
        link = self._link
        if link.state is not _REQUEST or link.transport.is_closing():
            raise BrokenOff("the connection has ended")
        fields = [field for field in fields if field[0].lower() not in _LENGTHS]
        link.transport.write(framing.write_head(framing.status_line(101), [*fields, (b"Connection", b"Upgrade")]))
        self.started = True
        self.tunnel = tunnel
        link.move(_TUNNEL)

    def open_tunnel(self) -> None:
        """Have the tunnel take what came behind the request."""
        if self._link.state is _TUNNEL:
            self._link.switch()

    def send_through(self, data: bytes) -> None:
        if not self._link.transport.is_closing():
            self._link.transport.write(data)

    def stop_taking(self) -> None:
        """Read nothing from the caller until `take_on`."""
        if not self._link.full:
            self._link.pause_reading()

    def take_on(self) -> None:
        self._link.read_on(body_due=False)

    def end_tunnel(self) -> None:
        """Close the caller's connection, once it has taken what was written."""
        self.answered = True
        self.on_cancel = None
        self._link.complete()

    @property
    def writable(self) -> bool:
        """Whether there is room for more to be written."""
        return self._link.writable is None

    def when_writable(self, callback: Callable[[], None]) -> None:
        """Call back once there is room again. A caller that takes nothing for `body_timeout` is cut off."""
        self._link.when_writable(callback)

    def end_with(self, error: Exception) -> None:
        """What an application that answers in callbacks cannot raise: its response will not be completed."""
        self._link.fail(self, error)


_LENGTHS = frozenset({b"content-length", b"transfer-encoding"})
_NOT_FOR_HTTP10 = frozenset({b"transfer-encoding", b"trailer"})
_NONE: frozenset[bytes] = frozenset()


def _names(fields: Sequence[Field]) -> dict[bytes, bytes]:
    return {name.lower(): value for name, value in fields}
