"""The bodies of HTTP/1.1 messages: where one ends, and how chunks are written. Pure; the rules are framing.py's."""

import re
import sys

from shadowproxy.exchange import Field, Fields
from shadowproxy.serve.http1.framing import (
    FIELD_LINE,
    MAX_FIELDS,
    TEXT,
    UNFINISHED_LINES,
    Framing,
    FramingError,
    Length,
)

MAX_CHUNK_LINE = 4 * 1024
MAX_TRAILERS = 16 * 1024
LAST_CHUNK = b"0\r\n\r\n"

_CHUNK_SIZE = re.compile(rb"([0-9A-Fa-f]{1,15})(?:[ \t]*+;%b*+)?" % TEXT)
_UNFINISHED_CHUNK_SIZE = re.compile(rb"[0-9A-Fa-f]{0,15}(?:[ \t]*+(?:;%b*+)?)?\r?" % TEXT)


def write_chunk(data: bytes) -> bytes:
    """`data`, which is not empty, as one chunk: an empty one would end the body."""
    return b"%x\r\n%b\r\n" % (len(data), data)


def write_last_chunk(trailers: Fields) -> bytes:
    if not trailers:
        return LAST_CHUNK
    return b"0\r\n%b\r\n" % b"".join([b"%b: %b\r\n" % field for field in trailers])


def begin_chunk(data: bytes) -> bytes:
    """What precedes `data` as one chunk; nothing where it is empty."""
    return b"%x\r\n" % len(data) if data else b""


def end_chunk(data: bytes) -> bytes:
    """What follows it."""
    return b"\r\n" if data else b""


class BodyReader:
    """Finds the end of one body. Feed it what is received; `done` once the body is whole.

    `trailers` are the fields after a chunked body, in order, with duplicates. Any name may be among them.
    """

    __slots__ = ("_left", "done", "has_backlog", "trailers")

    def __init__(self, length: int) -> None:
        self._left = length
        self.trailers: Fields = ()
        self.has_backlog = False  # `most` was reached: feed it no bytes to read on
        self.done = length == 0

    def feed(self, data: bytes, most: int = sys.maxsize) -> tuple[bytes, bytes]:
        """The bytes of `data` that are body, and those after its end. Raises FramingError.

        At most `most` parts of a chunked body are read, three a chunk; in a flood of tiny ones each takes 1 µs.
        """
        if len(data) < self._left:
            self._left -= len(data)
            return data, b""
        body, rest = data[: self._left], data[self._left :]
        self._left = 0
        self.done = True
        return body, rest

    def at_eof(self) -> bool:
        """Whether the body is whole if the connection ends here."""
        return self.done


class UntilCloseReader(BodyReader):
    """A body that ends with its connection: a response's, never a request's."""

    __slots__ = ()

    def __init__(self) -> None:
        super().__init__(1)

    def feed(self, data: bytes, most: int = sys.maxsize) -> tuple[bytes, bytes]:
        return data, b""

    def at_eof(self) -> bool:
        return True


class ChunkedReader(BodyReader):
    """A chunked body (RFC 9112 section 7.1), without its framing. Extensions are checked and dropped."""

    __slots__ = ("_read", "_trailer_fields", "_trailers", "_unread")

    def __init__(self) -> None:
        super().__init__(1)
        self._left = 0
        self._unread = b""  # a line whose end has not come, within MAX_CHUNK_LINE, or what `most` left unread
        self._trailers = 0  # bytes
        self._trailer_fields: list[Field] = []
        self._read = ChunkedReader._size_line

    def feed(self, data: bytes, most: int = sys.maxsize) -> tuple[bytes, bytes]:
        if self._unread:
            data, self._unread = self._unread + data, b""
        body: list[bytes] = []
        at = parts = 0
        self.has_backlog = False
        while not self.done and at < len(data):
            step = self._read(self, data, at, body) if parts < most else 0
            if step == 0:
                self.has_backlog = parts == most
                self._unread = data[at:]
                return b"".join(body), b""
            at += step
            parts += 1
        return (body[0] if len(body) == 1 else b"".join(body)), data[at:]

    # Each of these reads one part at `at` and returns how many bytes that was: 0 if it needs more of them.

    def _size_line(self, data: bytes, at: int, body: list[bytes]) -> int:
        end = data.find(b"\r\n", at, at + MAX_CHUNK_LINE)
        line = data[at : end if end >= 0 else at + MAX_CHUNK_LINE]
        if end < 0:
            if len(line) == MAX_CHUNK_LINE or not _UNFINISHED_CHUNK_SIZE.fullmatch(line):
                raise _chunk_size_error(line)
            return 0
        match = _CHUNK_SIZE.fullmatch(line)
        if not match:
            raise _chunk_size_error(line)
        self._left = int(match[1], 16)
        self._read = ChunkedReader._chunk if self._left else ChunkedReader._trailer
        return len(line) + 2

    def _chunk(self, data: bytes, at: int, body: list[bytes]) -> int:
        piece = data[at : at + self._left]
        body.append(piece)
        self._left -= len(piece)
        if not self._left:
            self._read = ChunkedReader._chunk_end
        return len(piece)

    def _chunk_end(self, data: bytes, at: int, body: list[bytes]) -> int:
        end = data[at : at + 2]
        if end == b"\r":
            return 0
        if end != b"\r\n":
            raise FramingError(400, "a chunk longer than its size")
        self._read = ChunkedReader._size_line
        return 2

    def _trailer(self, data: bytes, at: int, body: list[bytes]) -> int:
        room = MAX_TRAILERS - self._trailers
        end = data.find(b"\r\n", at, at + room)
        line = data[at : end if end >= 0 else at + room]
        if end < 0:
            if len(line) == room or not UNFINISHED_LINES.fullmatch(line):
                raise FramingError(400, "malformed or oversized trailers")
            return 0
        if not line:
            self.trailers = tuple(self._trailer_fields)
            self.done = True
        elif not FIELD_LINE.fullmatch(line):
            raise FramingError(400, "malformed trailer")
        elif len(self._trailer_fields) == MAX_FIELDS:
            raise FramingError(400, f"more than {MAX_FIELDS} trailers")
        else:
            name, _, value = line.partition(b":")
            self._trailer_fields.append((name, value.strip(b" \t")))
        self._trailers += len(line) + 2
        return len(line) + 2


def _chunk_size_error(line: bytes) -> FramingError:
    return FramingError(400, "a chunk size with a bare LF behind it" if b"\n" in line else "malformed chunk size")


def body_reader(framing: Framing) -> BodyReader:
    if framing is Length.CHUNKED:
        return ChunkedReader()
    if framing is Length.UNTIL_CLOSE:
        return UntilCloseReader()
    return BodyReader(framing)
