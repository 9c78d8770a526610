"""One exchange: a request on its way, and its answer as it comes, over one connection or a second one.

The rules are wire.py's.
"""

import asyncio
from collections.abc import AsyncIterable
from time import perf_counter
from typing import TYPE_CHECKING

from shadowproxy.serve.http1 import framing
from shadowproxy.serve.http1.framing import FramingError, ReplyHead
from shadowproxy.serve.upstreams.connection import HIGH_WATER, Connection
from shadowproxy.serve.upstreams.errors import ClosedWhileIdle, ReadError, ReadTimeout

if TYPE_CHECKING:  # whose connections these are
    from shadowproxy.serve.upstreams.pool import Wire

MAX_REPLY_HEAD = 64 * 1024
MAX_INTERIM = 32  # 1xx answers before the final one: a server may send 102 every few seconds, and no more
PARTS = 600  # of chunks, read in one turn: half a millisecond
SMALL_UPLOAD = 16 * 1024  # bytes that any server's kernel takes at once, whether the server reads them or not

IDLE_CLOSE = 0.1
"""Seconds. A reused connection that ends so soon after a request was sent by it, without a byte of an answer, may have
been closed while it was idle: the closing and the request passed each other on their way. That is seen within one round
trip, and later by as long as this process was kept waiting for a processor. A connection that ends later ended while
the server had the request, and may have worked on it: a POST that a model had worked on for 0.3 s was sent to it twice.
"""

RESET_CLOSE = 0.02
"""Seconds. A kernel resets a connection that is closed with a request unread, and ends one politely whose request was
read: a reset that comes so soon says that the server had closed. MLServer closes after each error answer, unannounced,
and the next POST met that in most tries. A reset that comes later may be a server's own, after it had worked.
"""

SAFE = frozenset({"GET", "HEAD", "OPTIONS", "TRACE"})
"""These change nothing (RFC 9110 section 9.2.1), so that within IDLE_CLOSE they are sent again. For all others the
kernel is asked as well: where a server had closed before the request came to it, its closing does not acknowledge the
request. A model that took a POST and died after 5 ms was given it twice.
"""


class Message:
    """A request as it is sent: `head` ends with its empty line and says how `body` is framed.

    `body` is whole, or comes as it is sent; `silence` is in seconds. `again` allows for rule 6, of a whole body alone.
    `fresh` asks for a new connection.
    """

    # No dataclass: what makes one of those stays interpreted where the module is compiled.

    __slots__ = ("again", "body", "chunked", "fresh", "head", "method", "silence")

    def __init__(
        self,
        method: str,
        head: bytes,
        body: bytes | AsyncIterable[bytes],
        *,
        chunked: bool,
        silence: float,
        again: bool = False,
        fresh: bool = False,
    ) -> None:
        self.method = method
        self.head = head
        self.body = body
        self.chunked = chunked
        self.silence = silence
        self.again = again
        self.fresh = fresh

    @property
    def small(self) -> bool:
        """Whether any server's kernel takes it whole at once."""
        return isinstance(self.body, bytes) and len(self.body) <= SMALL_UPLOAD


class Asking:
    """One request on its way, and its answer as it comes.

    A subclass says what is done with it. From the loop's callbacks it is told that the answer `begins`, of each `piece`
    of its body, and then that it `ends`, or instead, at any moment, that it `breaks`: nothing more after either of
    these, nor after `abandon`. What one of them raises breaks the answer, and is told as that.
    """

    __slots__ = (
        "_awaited",
        "_connection",
        "_held",
        "_interim",
        "_message",
        "_paused",
        "_reader",
        "_sent_at",
        "_unread",
        "_uploaded",
        "_wire",
        "first_byte_at",
        "head",
        "over",
        "sent_again",
        "task",
    )

    def __init__(self) -> None:
        self.head: ReplyHead | None = None
        self.first_byte_at = 0.0  # by time.perf_counter
        self.over = False
        self.sent_again = False  # because the first connection had been closed while it was idle
        self.task: asyncio.Task[None] | None = None  # that dials, or sends what comes of the request; the wire owns it
        self._wire: Wire | None = None
        self._message: Message | None = None
        self._connection: Connection | None = None
        self._reader: framing.BodyReader | None = None
        self._unread = b""  # of a head that is not whole yet
        self._interim = 0
        self._sent_at = 0.0  # by the loop's time
        self._uploaded = False
        self._awaited = False
        self._held = False
        self._paused = False

    def begins(self, head: ReplyHead) -> None:
        raise NotImplementedError

    def piece(self, data: bytes) -> None:
        raise NotImplementedError

    def ends(self) -> None:
        raise NotImplementedError

    def breaks(self, error: Exception) -> None:
        """`error` is a TransportError, or what the request's own body or a method of this object raised."""
        raise NotImplementedError

    # For who asks.

    def abandon(self) -> None:
        """Stop listening. Nothing where the answer was over before."""
        if not self.over:
            self._leave()

    def fail(self, error: Exception) -> None:
        """End what is under way as broken by `error`."""
        if not self.over:
            self._leave()
            self.breaks(error)

    def defect(self, error: Exception) -> None:
        """A method of this object has raised `error`, amid the answer or at its end."""
        if not self.over:
            self._leave()
        self.breaks(error)

    def expect(self, awaited: bool) -> None:
        """Say whether somebody waits for the peer: then its silence counts."""
        self._awaited = awaited
        connection, message = self._connection, self._message
        if connection is None or message is None or self.over or connection.lost:
            return
        if not awaited:
            connection.deadline.clear()
        elif self._uploaded:
            connection.deadline.set(message.silence)

    def hold(self, held: bool) -> None:
        """Stop reading the answer for a while, or go on."""
        self._held = held
        self._regulate()

    def pass_turn(self) -> None:
        """Read on in the loop's next turn: of who sends that fast, libuv reads 8 MB in one."""
        connection = self._connection
        if connection is not None and not self.over:
            self.hold(True)
            connection.loop.call_soon(self.hold, False)

    # The wire and its connections call these.

    def sent_by(self, wire: "Wire", message: Message) -> None:
        self._wire = wire
        self._message = message

    def send(self, connection: "Connection", message: Message) -> None:
        """The connection is open, and carries nothing."""
        connection.begin(self)
        self._connection = connection
        self._sent_at = connection.loop.time()
        body = message.body
        if not isinstance(body, bytes):
            connection.wire.upload(self, self._send_streamed(connection, message, body))
            return
        if message.chunked:
            body = (framing.write_chunk(body) if body else b"") + framing.LAST_CHUNK
        if len(body) <= HIGH_WATER:
            connection.transport.write(message.head + body)  # one packet, one wake-up at the far side
        else:
            connection.transport.write(message.head)
            connection.transport.write(body)
        self._uploaded = True
        if self._awaited:
            connection.deadline.set(message.silence)

    async def _send_streamed(self, connection: "Connection", message: Message, body: AsyncIterable[bytes]) -> None:
        """Send `body` as it comes. What it raises breaks the answer."""
        transport = connection.transport
        transport.write(message.head)
        try:
            async for piece in body:
                if not piece:
                    continue
                transport.write(framing.write_chunk(piece) if message.chunked else piece)
                if connection.writable is not None:
                    connection.deadline.set(message.silence)
                    await connection.writable
                    connection.deadline.clear()
                if transport.is_closing():
                    return  # the answer's side says what happened
        except Exception as error:  # noqa: BLE001  # not swallowed: whoever awaits the answer is told
            self.task = None  # it ends by itself
            self.fail(error)
            return
        if message.chunked:
            transport.write(framing.LAST_CHUNK)
        self._uploaded = True
        if self._awaited:
            connection.deadline.set(message.silence)

    def feed(self, data: bytes) -> None:
        """What the connection received. Raises FramingError."""
        head = self.head
        if head is None:
            if not self.first_byte_at:
                self.first_byte_at = perf_counter()
            read = self._read_head(data)
            if read is None:
                return
            head, data = read
            self.head = head
            self.begins(head)
            if self.over:
                return
            length = head.framing
            if isinstance(length, int) and len(data) >= length:  # whole, as most are: what would a reader find out
                self._end(head, data[:length], left_over=len(data) > length)
                return
            self._reader = framing.body_reader(length)
        reader = self._reader
        assert reader is not None  # it came with the head
        piece, rest = reader.feed(data, PARTS)
        if reader.done:
            self._end(head, piece, left_over=bool(rest))
            return
        if piece:
            self.piece(piece)
        self._regulate()
        if reader.behind and self._wire is not None and not self.over:
            self._wire.pace.turn(self._catch_up)

    def silent(self) -> None:
        """The peer has said nothing for as long as it may."""
        message = self._message
        self.fail(ReadTimeout(f"silent for {message.silence if message is not None else 0:g} s"))

    def _catch_up(self) -> None:
        """Read on in what came before, when this answer's turn has come."""
        if not self.over and self._connection is not None:
            self._connection.read_on()

    @property
    def behind(self) -> bool:
        """Whether more has come than one turn may read."""
        return self._reader is not None and self._reader.behind

    def _read_head(self, data: bytes) -> tuple[ReplyHead, bytes] | None:
        """The final head (1xx ones are passed over) and what follows it; None where it is not whole yet."""
        checked = len(self._unread)
        data = self._unread + data if checked else data
        assert self._message is not None  # it was sent
        while True:
            end = data.find(b"\r\n\r\n", max(0, checked - 3), MAX_REPLY_HEAD + 4)
            if end < 0:
                if len(data) > MAX_REPLY_HEAD:
                    raise FramingError(502, f"a head of more than {MAX_REPLY_HEAD} bytes")
                framing.check_unfinished_head(data, request=False, checked=checked)
                self._unread = data
                return None
            head = framing.reply_head(data[:end], self._message.method)
            data = data[end + 4 :]
            checked = 0
            self._interim += 1
            if self._interim > MAX_INTERIM:
                raise FramingError(502, f"more than {MAX_INTERIM} interim answers")
            if head.status >= 200:
                self._unread = b""
                return head, data

    def lost(self, exc: Exception | None) -> None:
        """Nothing more comes: all that its connection had received has been read."""
        if self.over:
            return
        head, reader, connection, message = self.head, self._reader, self._connection, self._message
        assert connection is not None
        assert message is not None
        why = f": {exc}" if exc else ""
        if head is not None and reader is not None:
            if exc is None and reader.at_eof():
                self._end(head, b"", left_over=False)
            else:
                self.fail(ReadError(f"the connection was closed in the answer's midst{why}"))
        elif not connection.used or self.first_byte_at or not self._was_idle(exc):
            self.fail(ReadError(f"the connection was closed before the answer{why}"))
        elif message.again and isinstance(message.body, bytes):
            connection.abort()
            self._connection = None
            self._uploaded = False
            self.sent_again = True
            connection.wire.dial(self, message)  # what is new is not `used`: there is no third time
        else:
            self.fail(ClosedWhileIdle("a reused connection was closed before the answer"))

    def _was_idle(self, exc: Exception | None) -> bool:
        """Whether the connection, which has ended, was closed before the server had the request."""
        connection, message = self._connection, self._message
        assert connection is not None
        assert message is not None
        since = connection.loop.time() - self._sent_at
        if since > IDLE_CLOSE:
            return False
        if message.method in SAFE:
            return True
        # Of what came before a reset nothing is known: acknowledging may be put off, and it never is then.
        return since <= RESET_CLOSE if isinstance(exc, ConnectionResetError) else connection.untaken()

    def _end(self, head: ReplyHead, piece: bytes, *, left_over: bool) -> None:
        """The answer is whole. Its connection is free before anybody is told: what is asked next may go by it."""
        connection, message = self._connection, self._message
        assert connection is not None
        assert message is not None
        self.over = True
        self.unpause()
        self._stop_task()
        connection.end(reusable=head.keep_alive and not left_over and self._uploaded, small=message.small)
        if piece:
            self.piece(piece)
        self.ends()

    def _leave(self) -> None:
        self.over = True
        if self._connection is not None:
            self._connection.abort()
        self._stop_task()

    def _stop_task(self) -> None:
        if self.task is not None:
            self.task.cancel()

    def unpause(self) -> None:
        """Let what comes be read."""
        if self._paused and self._connection is not None:
            self._paused = False
            self._connection.resume_reading()

    def _regulate(self) -> None:
        if self.over or self._connection is None or self._connection.lost:
            return
        if not (self._held or self.behind):
            self.unpause()
        elif not self._paused:
            self._paused = True
            self._connection.transport.pause_reading()
