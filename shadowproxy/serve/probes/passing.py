"""The channel between the admin port's front and the recorder: connections go over it, with the bytes already read.

A message is one datagram: its kind, the number of the connection that it is about, bytes, and for some kinds the
connection itself, as a file descriptor (SCM_RIGHTS). The two ends are of one program and one version.

The front asks whether the recorder is there before it passes anything on: a connection in the channel of a process that
has stopped would wait there, without an answer, for as long as it stands still.
"""

import array
import asyncio
import contextlib
import errno
import os
import socket
import struct
import sys
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass
from enum import IntEnum

# A datagram keeps its bytes and its descriptor together. Only this kind also says that the other end is gone; where it
# is missing, `close` says so.
_TYPE = socket.SOCK_DGRAM if sys.platform == "darwin" else socket.SOCK_SEQPACKET
_HEADER = struct.Struct("=BI")
_DESCRIPTOR = array.array("i").itemsize
_CLOEXEC = getattr(socket, "MSG_CMSG_CLOEXEC", 0)
_ROOM = 256 << 10  # bytes that wait in the channel, each way

MOST_BYTES = 96 << 10
"""Of one message: what was read of a connection, a head with what came behind it."""

_AT_ONCE = 16  # messages taken in one turn of the loop


class Kind(IntEnum):
    """What a message says. The front sends the first two, the recorder the others."""

    ASK = 1  # are you there?
    TAKE = 2  # with a connection: answer the request that begins with these bytes
    HERE = 3  # the reply to ASK
    BACK = 4  # with a connection: the request is answered; these bytes came after it
    CLOSE = 5  # with a connection: the request is answered, and the connection has to end
    GONE = 6  # the connection has ended


@dataclass(frozen=True, slots=True)
class Passed:
    """One message. Who receives it owns the connection."""

    kind: Kind
    number: int = 0
    data: bytes = b""
    connection: socket.socket | None = None


def pair() -> tuple[socket.socket, socket.socket]:
    """Two ends of a new channel, for the front and for the recorder."""
    ends = socket.socketpair(socket.AF_UNIX, _TYPE)
    for end in ends:
        end.setblocking(False)
        for option in (socket.SO_SNDBUF, socket.SO_RCVBUF):
            with contextlib.suppress(OSError):
                end.setsockopt(socket.SOL_SOCKET, option, _ROOM)
    return ends


class Channel:
    """One end. Owns `end`, and the connections in messages that wait to be sent.

    `receive` is called with each message, `ended` once, when the other end is gone.
    """

    def __init__(self, end: socket.socket, receive: Callable[[Passed], None], ended: Callable[[], None]) -> None:
        self._end = end
        self._receive = receive
        self._ended = ended
        self._loop = asyncio.get_running_loop()
        self._waiting: deque[Passed] = deque()
        self._open = True

    def __repr__(self) -> str:
        return f"<Channel {'open' if self._open else 'closed'}, {len(self._waiting)} messages wait>"

    def start(self) -> None:
        self._end.setblocking(False)
        self._loop.add_reader(self._end, self._readable)

    def try_send(self, message: Passed) -> bool:
        """Send it now, and close the connection in it. Returns False where that is not possible now, or any more."""
        if not self._open or self._waiting:
            return False
        try:
            self._send(message)
        except BlockingIOError:
            return False
        except OSError as error:
            if error.errno not in _FULL:
                self._end_here()
            return False
        return True

    def send(self, message: Passed) -> None:
        """Send it now, or when there is room."""
        if self._open and (self._waiting or not self.try_send(message)) and self._open:
            self._waiting.append(message)
            self._loop.add_writer(self._end, self._writable)
        elif not self._open and message.connection is not None:
            message.connection.close()

    def close(self) -> None:
        """Close this end; nothing is received or sent any more."""
        if self._open:
            self._open = False
            self._loop.remove_reader(self._end)
            self._loop.remove_writer(self._end)
            self._end.close()
            for message in self._waiting:
                if message.connection is not None:
                    message.connection.close()
            self._waiting.clear()

    def _send(self, message: Passed) -> None:
        header = _HEADER.pack(message.kind, message.number)
        if (connection := message.connection) is None:
            self._end.send(header + message.data)
            return
        rights = array.array("i", [connection.fileno()])
        self._end.sendmsg([header, message.data], [(socket.SOL_SOCKET, socket.SCM_RIGHTS, rights)])
        connection.close()

    def _writable(self) -> None:
        while self._waiting:
            try:
                self._send(self._waiting[0])
            except BlockingIOError:
                return
            except OSError as error:
                if error.errno not in _FULL:
                    self._end_here()
                return
            self._waiting.popleft()
        self._loop.remove_writer(self._end)

    def _readable(self) -> None:
        for _ in range(_AT_ONCE):
            if not self._open:
                return
            try:
                message = _received(self._end)
            except BlockingIOError:
                return
            except (OSError, ValueError):
                self._end_here()
                return
            if message is None:
                self._end_here()
                return
            self._receive(message)

    def _end_here(self) -> None:
        self.close()
        self._ended()


_FULL = frozenset({errno.ENOBUFS, errno.ETOOMANYREFS})  # too many bytes or descriptors are on their way: no end


def _received(end: socket.socket) -> Passed | None:
    """The next message; None at the end. Raises OSError, and ValueError where it is no message."""
    data, ancillary, flags, _ = end.recvmsg(MOST_BYTES, socket.CMSG_SPACE(_DESCRIPTOR), _CLOEXEC)
    descriptors = array.array("i")
    for level, what, value in ancillary:
        if level == socket.SOL_SOCKET and what == socket.SCM_RIGHTS:
            descriptors.frombytes(value[: len(value) - len(value) % _DESCRIPTOR])
    connections = [_socket(each) for each in descriptors]
    if not data:
        return None
    if len(data) < _HEADER.size or flags & socket.MSG_TRUNC:
        for each in connections:
            each.close()
        raise ValueError("a message without its header, or one of more than MOST_BYTES")
    kind, number = _HEADER.unpack_from(data)
    return Passed(Kind(kind), number, data[_HEADER.size :], connections[0] if connections else None)


def _socket(descriptor: int) -> socket.socket:
    os.set_inheritable(descriptor, False)
    connection = socket.socket(fileno=descriptor)
    connection.setblocking(False)
    return connection
