"""One connection to the admin port, as long as the front has it: until a request for the recorder, and after it.

The front reads a request's head and no more, so whatever it passes on lies at the border of a request. The rules:

1. Heads are parsed by http1/framing.py. What it rejects is answered once, and the connection ends.
2. Every wait has a deadline: for the next request, for a head, for what is sent to be taken.
3. Requests are answered one after the other: the bytes behind the first one stay unread until it is answered.
4. A connection that ends with unread bytes is closed for writing first and read on for a moment: closed at once, it
   would be reset, and a reset can overtake the response (RFC 9112 section 9.6).
"""

import asyncio
import logging
import socket
from enum import Enum
from typing import Protocol

from shadowproxy.serve.http1 import framing
from shadowproxy.serve.http1.deadline import Deadline
from shadowproxy.serve.http1.framing import FramingError, RequestHead
from shadowproxy.serve.probes import answers
from shadowproxy.serve.probes.answers import Health
from shadowproxy.serve.telemetry.operator_log import Repeats, times_text

HEAD_MOST = 16 << 10
"""Bytes of a head."""

HEAD_TIMEOUT, IDLE_TIMEOUT, SEND_TIMEOUT = 5.0, 75.0, 10.0
"""Seconds for a head to come whole, for the next request to begin, and for a response to be taken."""

PARTING = 0.25
"""Seconds that an idle connection stays open for a request that is already on its way, when the sidecar stops."""

LINGER, LINGER_MOST = 2.0, 30.0
"""Seconds without a byte after which a connection that is closed for writing ends, and after which it ends anyway."""

_RECEIVE = 16 << 10

_log = logging.getLogger(__name__)


class State(Enum):
    """Where a connection is. It may end from each of these."""

    IDLE = "no byte of a request has come since the last one"
    HEAD = "a part of a head has come"
    WAITING = "a request waits for the recorder"
    SENDING = "a part of a response is not taken yet"
    LINGERING = "closed for writing; what still comes is read and dropped"
    ENDED = "closed, or passed on"


class Owner(Protocol):
    """What a connection needs of the front."""

    repeats: Repeats

    @property
    def stopping(self) -> bool:
        """The sidecar stops: no connection waits for another request."""

    def health(self) -> Health: ...

    def hand_over(self, connection: "Connection") -> None:
        """Call `passed_on` or `unavailable` of the connection, now or later."""

    def ended(self, connection: "Connection") -> None: ...


class Connection:
    """Owns its socket until `passed_on`. `since` is when it was accepted, by the loop's time."""

    def __init__(self, owner: Owner, connection: socket.socket, number: int, since: float) -> None:
        self.number = number
        self.since = since
        self.state = State.IDLE
        self._owner = owner
        self._socket = connection
        self._loop = asyncio.get_running_loop()
        self._deadline = Deadline(self._loop, self._expired)
        self._buffer = b""
        self._head_seen = 0  # bytes of a head whose end has not come; they have been checked
        self._head: RequestHead | None = None  # of the request that waits for the recorder
        self._unsent = b""
        self._keep = False  # the connection stays open after what is unsent
        self._linger_until = 0.0

    def __repr__(self) -> str:
        return f"<Connection {self.number} {self.state.name}, {len(self._buffer)} bytes unread>"

    @property
    def is_idle(self) -> bool:
        """Whether it can be closed for another one: nothing of a request that was read would get lost."""
        return self.state in (State.IDLE, State.HEAD, State.LINGERING)

    def begin(self, unread: bytes = b"") -> None:
        """Wait for a request, of which `unread` is the beginning."""
        self._loop.add_reader(self._socket, self._readable)
        self._buffer = unread
        self._await_request()
        self._advance()

    def linger(self) -> None:
        """Close it for writing, and drop what still comes for a moment."""
        if self.state is State.ENDED:
            return
        self.state = State.LINGERING
        self._buffer = b""
        try:
            self._socket.shutdown(socket.SHUT_WR)
        except OSError:  # the client has left
            self.close()
            return
        self._loop.add_reader(self._socket, self._readable)
        self._linger_until = self._loop.time() + LINGER_MOST
        self._await_silence()

    @property
    def offered(self) -> tuple[bytes, socket.socket]:
        """The bytes of the request that waits, with what came behind it, and the socket, which is read no further."""
        return self._buffer, self._socket

    def passed_on(self) -> None:
        """What was offered is taken, and the socket is closed here."""
        self._end()

    def unavailable(self, detail: str) -> None:
        """Answer the request that waits: the recorder does not take it."""
        head, self._head = self._head, None
        if self.state is not State.WAITING or head is None:
            return
        self._drop_head()
        self._loop.add_reader(self._socket, self._readable)
        values = answers.error_values(answers.UNAVAILABLE, detail)
        keep = self._may_keep(head)
        self._send(answers.response(503, values, head, keep=keep, more={"retry-after": "1"}), keep=keep)
        self._loop.call_soon(self._advance)  # not now: many requests may have come together

    def close(self) -> None:
        """Close it at once."""
        if self.state is not State.ENDED:
            self._loop.remove_reader(self._socket)
            self._loop.remove_writer(self._socket)
            self._socket.close()
            self._end()

    def part(self) -> None:
        """End soon: the sidecar stops."""
        if self.state in (State.IDLE, State.HEAD):
            self._deadline.set(PARTING)

    def _end(self) -> None:
        self.state = State.ENDED
        self._deadline.close()
        self._owner.ended(self)

    # Reading.

    def _readable(self) -> None:
        try:
            data = self._socket.recv(_RECEIVE)
        except (BlockingIOError, InterruptedError):
            return
        except OSError:
            data = b""
        if not data:
            self.close()
        elif self.state is State.LINGERING:
            self._await_silence()
        else:
            self._buffer += data
            self._advance()

    def _advance(self) -> None:
        """Answer the requests that have come, up to one that must wait."""
        try:
            while self.state in (State.IDLE, State.HEAD):
                head = self._read_head()
                if head is None:
                    return
                self._deadline.clear()
                probe = answers.probe(head)
                if probe is None:
                    self.state = State.WAITING
                    self._head = head
                    self._loop.remove_reader(self._socket)  # what comes from here on is the recorder's
                    self._owner.hand_over(self)
                    return
                self._drop_head()
                status, values = probe(self._owner.health())
                keep = self._may_keep(head)
                self._send(answers.response(status, values, head, keep=keep), keep=keep)
        except FramingError as error:
            self._reject(error)

    def _read_head(self) -> RequestHead | None:
        """The head at the beginning of the unread bytes; None where the whole of it has not come."""
        data = framing.skip_blank_lines(self._buffer)
        if len(data) < len(self._buffer):
            self._buffer, self._head_seen = data, 0
        end = data.find(b"\r\n\r\n", max(0, self._head_seen - 3), HEAD_MOST + 4)
        if end >= 0:
            return framing.parse_request_head(data[:end])
        if data:
            framing.check_unfinished_head(data, request=True, checked=self._head_seen)
            if len(data) > HEAD_MOST:
                raise FramingError(431, f"a head of more than {HEAD_MOST} bytes")
            if self.state is State.IDLE:
                self.state = State.HEAD
                self._deadline.set(HEAD_TIMEOUT)
        self._head_seen = len(data)
        return None

    def _drop_head(self) -> None:
        _, _, self._buffer = self._buffer.partition(b"\r\n\r\n")
        self._head_seen = 0

    def _may_keep(self, head: RequestHead) -> bool:
        # The front reads no body: a connection with one of a request that it answered itself has to end.
        return head.keep_alive and head.framing == 0

    def _reject(self, error: FramingError) -> None:
        if count := self._owner.repeats.worth_logging("refused", str(error.status)):
            extra = {"event": "request_refused", "status": error.status, "count": count}
            _log.warning("rejected%s with %d: %s", times_text(count), error.status, error, extra=extra)
        values = answers.error_values("http_request_error", str(error))
        self._send(answers.response(error.status, values, None, keep=False), keep=False)

    # Answering.

    def _send(self, data: bytes, *, keep: bool) -> None:
        self.state = State.SENDING
        self._unsent, self._keep = data, keep
        self._deadline.set(SEND_TIMEOUT)
        self._write()
        if self.state is State.SENDING:
            self._loop.remove_reader(self._socket)
            self._loop.add_writer(self._socket, self._writable)

    def _write(self) -> None:
        try:
            self._unsent = self._unsent[self._socket.send(self._unsent) :]
        except (BlockingIOError, InterruptedError):
            return
        except OSError:
            self.close()
            return
        if not self._unsent:
            self._sent()

    def _writable(self) -> None:
        self._write()
        if self.state not in (State.SENDING, State.ENDED):
            self._loop.remove_writer(self._socket)
            self._loop.add_reader(self._socket, self._readable)
            self._advance()

    def _sent(self) -> None:
        if not self._keep:
            self.linger()
        else:
            self._await_request()

    # Deadlines.

    def _await_request(self) -> None:
        self.state = State.IDLE
        self._deadline.set(PARTING if self._owner.stopping else IDLE_TIMEOUT)

    def _await_silence(self) -> None:
        self._deadline.set(min(LINGER, self._linger_until - self._loop.time()))

    def _expired(self) -> None:
        if self.state is State.HEAD and not self._owner.stopping:
            self._reject(FramingError(408, "the request did not come in time"))
        else:
            self.close()
