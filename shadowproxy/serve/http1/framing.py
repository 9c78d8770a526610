"""HTTP/1.1 messages, read strictly and written plainly. Pure: bytes in, values out; no socket, no clock.

The rules, for both directions (RFC 9110, RFC 9112):

1. A message is accepted only if it is written exactly as the grammar says. Nothing is repaired, trimmed or guessed:
   two parsers that repair differently disagree about where a message ends, and that is request smuggling.
2. Where a message ends is decided in one place, `_framing`. Content-Length beside Transfer-Encoding, a repeated
   Content-Length, and any Transfer-Encoding but a single `chunked` are refused.
3. Bytes after a message's end belong to whoever asked for them next, never to this message: every reader returns them.
4. What is wrong is found at the first wrong line, not after the empty line that a hostile peer never sends.
5. Every part has a bound: request line, head, number of fields, chunk line, trailers.

Why not llhttp or h11: llhttp cannot stop after one message, loses a body behind `Upgrade`, and lets through a dozen
forms that rule 1 forbids; h11 repairs too. tests/test_framing.py holds what is accepted here against both of them.
"""

import re
import sys
from collections.abc import Callable, Mapping, Sequence
from enum import Enum
from functools import lru_cache
from http import HTTPStatus
from typing import TypeAlias

from shadowproxy.exchange import Field, Fields
from shadowproxy.serve.http1.fields import end_to_end
from shadowproxy.serve.http1.section import Section

MAX_TARGET = 16 * 1024
MAX_FIELDS = 200
MAX_CHUNK_LINE = 4 * 1024
MAX_TRAILERS = 16 * 1024
REMEMBERED = 2 * 1024
"""Bytes. Longer heads are read anew each time; of the others so many are remembered, with all that their fields hold,
credentials too, that it comes to 32 MiB at the very most: measured, with 200 fields in each of them."""

_TOKEN = rb"[!#$%&'*+\-.^_`|~0-9A-Za-z]"
_TEXT = rb"[\t\x20-\x7e\x80-\xff]"  # field-content with obs-text; no other control byte
_REQUEST_LINE = re.compile(rb"(%b++) ([\x21-\x7e\x80-\xff]++) HTTP/([0-9])\.([0-9])" % _TOKEN)
_STATUS_LINE = re.compile(rb"HTTP/([0-9])\.([0-9]) ([0-9]{3})(?: (%b*+))?" % _TEXT)
_FIELD_LINE = re.compile(rb"%b++:%b*+" % (_TOKEN, _TEXT))
_BLANK_LINES = re.compile(rb"(?:\r\n)*+")
_UNFINISHED_HEAD = re.compile(rb"(?:[\t\x20-\x7e\x80-\xff]++|\r\n)*+\r?")
_LENGTH = re.compile(rb"[0-9]{1,18}")  # 10^18 - 1 fits 64 bits, whoever reads it next
_HOST = re.compile(rb"(?:[A-Za-z0-9._~!$&'()*+;=%-]*|\[[0-9A-Fa-f:.]+\])(?::[0-9]{0,5})?")
_ABSOLUTE = re.compile(rb"https?://[^/?#@]++(?![^/?#])", re.IGNORECASE)
_CHUNK_SIZE = re.compile(rb"([0-9A-Fa-f]{1,15})(?:[ \t]*+;%b*+)?" % _TEXT)
_UNFINISHED_CHUNK_SIZE = re.compile(rb"[0-9A-Fa-f]{0,15}(?:[ \t]*+(?:;%b*+)?)?\r?" % _TEXT)

_STATUS_LINES = {each.value: b"HTTP/1.1 %d %b" % (each.value, each.phrase.encode()) for each in HTTPStatus}

BODYLESS_STATUSES = frozenset({204, 304})


class FramingError(ValueError):
    """What came is not an HTTP/1.1 message that may be passed on. `status` is what a server answers to it."""

    def __init__(self, status: int, why: str) -> None:
        super().__init__(why)
        self.status = status


class Length(Enum):
    """How the end of a body is known, where it is not a number of bytes."""

    CHUNKED = "chunked"
    UNTIL_CLOSE = "until close"


Framing = int | Length
"""A body's length in bytes, 0 for none; or how else its end is known."""

ReadLine: TypeAlias = Callable[[bytes], tuple[Field, bytes]]
"""From a field line to the field and its name in lower case. Raises FramingError."""


class Head:
    """What the heads of requests and of answers have in common. Nobody changes one: it stands for all that came alike.

    `names` are those of `fields` in lower case, each with the value of its first field.
    """

    __slots__ = ("_section", "fields", "framing", "keep_alive", "names")

    def __init__(self, fields: Fields, names: Mapping[bytes, bytes], framing: Framing, *, keep_alive: bool) -> None:
        self.fields = fields
        self.names = names
        self.framing = framing
        self.keep_alive = keep_alive
        self._section: Section | None = None

    @property
    def section(self) -> Section:
        """`fields` without those that are for this hop only."""
        section = self._section
        if section is None:
            section = self._section = Section(end_to_end(self.fields, self.names))
        return section


class RequestHead(Head):
    """`target` is origin-form or `*`, and otherwise the bytes that came. `keep_alive` is the caller's wish."""

    __slots__ = ("expects_continue", "http10", "method", "target")

    def __init__(
        self,
        method: str,
        target: bytes,
        fields: Fields,
        names: Mapping[bytes, bytes],
        framing: Framing,
        *,
        http10: bool,
        keep_alive: bool,
        expects_continue: bool,
    ) -> None:
        super().__init__(fields, names, framing, keep_alive=keep_alive)
        self.method = method
        self.target = target
        self.http10 = http10
        self.expects_continue = expects_continue


class ReplyHead(Head):
    """`keep_alive` is the server's wish, of an answer to any method but HEAD."""

    __slots__ = ("status",)

    def __init__(
        self, status: int, fields: Fields, names: Mapping[bytes, bytes], framing: Framing, *, keep_alive: bool
    ) -> None:
        super().__init__(fields, names, framing, keep_alive=keep_alive)
        self.status = status


def request_head(head: bytes) -> RequestHead:
    """Read a request's head, from its first byte to before its empty line. Raises FramingError."""
    return _remembered_request(head) if len(head) <= REMEMBERED else _request_head(head, _read_line)


def reply_head(head: bytes, method: str) -> ReplyHead:
    """Read the head of the answer to a request with `method`, to before its empty line. Raises FramingError."""
    read = _remembered_reply(head) if len(head) <= REMEMBERED else _reply_head(head, _read_line)
    if method != "HEAD":
        return read
    # Some servers answer HEAD with a body. It may come when the next request is on its way already, as if to that one.
    return ReplyHead(read.status, read.fields, read.names, 0, keep_alive=False)


def _request_head(head: bytes, read_line: ReadLine) -> RequestHead:
    line, _, lines = head.partition(b"\r\n")
    method, target, http10 = _request_line(line)
    fields, names = _fields(lines, read_line)
    if b"host" in names:
        if len(_values(fields, names, b"host")) > 1:
            raise FramingError(400, "two Host fields")
        if not _HOST.fullmatch(names[b"host"]):
            raise FramingError(400, "malformed Host field")
    elif not http10:
        raise FramingError(400, "no Host field")
    expects = b"expect" in names and not http10 and b"100-continue" in _tokens(fields, names, b"expect")
    return RequestHead(
        method,
        target,
        fields,
        names,
        _framing(fields, names, http10=http10, otherwise=0),
        http10=http10,
        keep_alive=_keep_alive(fields, names, http10=http10),
        expects_continue=expects,
    )


def _reply_head(head: bytes, read_line: ReadLine) -> ReplyHead:
    line, _, lines = head.partition(b"\r\n")
    match = _STATUS_LINE.fullmatch(line)
    if not match:
        raise FramingError(502, "malformed status line")
    status, http10 = int(match[3]), match[2] == b"0"
    if match[1] != b"1" or not 100 <= status < 600:
        raise FramingError(502, f"unusable status line: HTTP/{match[1].decode()}.{match[2].decode()} {status}")
    try:
        fields, names = _fields(lines, read_line)
        framing = _framing(fields, names, http10=http10, otherwise=Length.UNTIL_CLOSE)
    except FramingError as error:
        raise FramingError(502, str(error)) from None
    if status == 101:
        raise FramingError(502, "an upgrade that nobody asked for")
    if status < 200 or status in BODYLESS_STATUSES:
        framing = 0
    keep_alive = framing is not Length.UNTIL_CLOSE and _keep_alive(fields, names, http10=http10)
    return ReplyHead(status, fields, names, framing, keep_alive=keep_alive)


def _read_line(line: bytes) -> tuple[Field, bytes]:
    """A field line, as a field and its name in lower case."""
    if not _FIELD_LINE.fullmatch(line):
        name, colon, _ = line.partition(b":")
        # Never more than a name: what is said here is logged, and what follows may be a credential.
        where = f"at {name[:40].decode('ascii', 'replace')!r}" if colon else "without a colon"
        raise FramingError(400, f"malformed field line {where}")
    name, _, value = line.partition(b":")
    return (name, value.strip(b" \t")), name.lower()


# Callers and servers repeat themselves. What they sent before is not read again: neither a whole head, nor, where a
# request ID or a date in it is new, the lines that are not. The one that was not met for longest is forgotten first.

_remembered_line = lru_cache(1024)(_read_line)


@lru_cache(256)
def _remembered_request(head: bytes) -> RequestHead:
    return _request_head(head, _remembered_line)


@lru_cache(256)
def _remembered_reply(head: bytes) -> ReplyHead:
    return _reply_head(head, _remembered_line)


def after_blank_lines(data: bytes) -> bytes:
    """RFC 9112 section 2.2: some callers end a body with a line break too many, which is passed over."""
    if not data.startswith(b"\r\n"):
        return data
    begins = _BLANK_LINES.match(data).end()  # type: ignore[union-attr]  # it matches nothing, too
    return data[begins:]


def check_unfinished_head(head: bytes, *, request: bool, checked: int = 0) -> None:
    """Raise FramingError if no bytes that might still come could make a good head of these (rule 4).

    The first `checked` bytes were good before: a head that comes byte by byte is not read from its beginning each time.
    """
    unchecked = checked - 1 if checked and head[checked - 1] == 13 else checked  # a CR may have its LF yet to come
    if not _UNFINISHED_HEAD.fullmatch(head, unchecked):
        raise FramingError(400 if request else 502, "a control byte, bare CR or bare LF in the head")
    end = head.find(b"\r\n", 0, MAX_TARGET + 2)
    if 0 <= end < unchecked:
        return
    if request and end >= 0:
        _request_line(head[:end])
    elif request and len(head) > MAX_TARGET:
        raise FramingError(414, "request line too long")
    elif not request and end >= 0 and not _STATUS_LINE.fullmatch(head[:end]):
        raise FramingError(502, "malformed status line")


def status_line(status: int) -> bytes:
    """With the registered phrase: live's own does not pass."""
    return _STATUS_LINES.get(status) or b"HTTP/1.1 %d " % status


def write_head(line: bytes, fields: Sequence[Field]) -> bytes:
    """A head, with its empty line."""
    return b"\r\n".join([line, *[b": ".join(field) for field in fields], b"\r\n"])


def write_chunk(data: bytes) -> bytes:
    """`data`, which is not empty, as one chunk: an empty one would end the body."""
    return b"%x\r\n%b\r\n" % (len(data), data)


LAST_CHUNK = b"0\r\n\r\n"


class BodyReader:
    """Finds the end of one body. Feed it what comes; `done` once the body is whole."""

    __slots__ = ("_left", "behind", "done")

    def __init__(self, length: int) -> None:
        self._left = length
        self.behind = False  # `most` was reached: there is more to read, feed it no bytes to go on
        self.done = length == 0

    def feed(self, data: bytes, most: int = sys.maxsize) -> tuple[bytes, bytes]:
        """The bytes of `data` that are body, and those after its end. Raises FramingError.

        Of a chunked body at most `most` parts are read, three a chunk: a flood of tiny ones takes a microsecond each.
        """
        if len(data) < self._left:
            self._left -= len(data)
            return data, b""
        body, rest = data[: self._left], data[self._left :]
        self._left = 0
        self.done = True
        return body, rest

    def at_eof(self) -> bool:
        """Whether the body is whole if nothing more comes."""
        return self.done


class UntilCloseReader(BodyReader):
    """A body that ends with its connection: an answer's, never a request's."""

    __slots__ = ()

    def __init__(self) -> None:
        super().__init__(1)

    def feed(self, data: bytes, most: int = sys.maxsize) -> tuple[bytes, bytes]:
        return data, b""

    def at_eof(self) -> bool:
        return True


class ChunkedReader(BodyReader):
    """A chunked body (RFC 9112 section 7.1), without its framing. Extensions and trailers are checked and dropped."""

    __slots__ = ("_read", "_trailers", "_unread")

    def __init__(self) -> None:
        super().__init__(1)
        self._left = 0
        self._unread = b""  # a line whose end has not come, within MAX_CHUNK_LINE, or what `most` left unread
        self._trailers = 0
        self._read = ChunkedReader._size_line

    def feed(self, data: bytes, most: int = sys.maxsize) -> tuple[bytes, bytes]:
        if self._unread:
            data, self._unread = self._unread + data, b""
        body: list[bytes] = []
        at = parts = 0
        self.behind = False
        while not self.done and at < len(data):
            step = self._read(self, data, at, body) if parts < most else 0
            if step == 0:
                self.behind = parts == most
                self._unread = data[at:]
                return b"".join(body), b""
            at += step
            parts += 1
        return (body[0] if len(body) == 1 else b"".join(body)), data[at:]

    # Each of these reads one part at `at` and says how many bytes it took: 0 when it needs more of them.

    def _size_line(self, data: bytes, at: int, body: list[bytes]) -> int:
        end = data.find(b"\r\n", at, at + MAX_CHUNK_LINE)
        line = data[at : end if end >= 0 else at + MAX_CHUNK_LINE]
        if end < 0:
            if len(line) == MAX_CHUNK_LINE or not _UNFINISHED_CHUNK_SIZE.fullmatch(line):
                raise FramingError(400, "malformed chunk size")
            return 0
        match = _CHUNK_SIZE.fullmatch(line)
        if not match:
            raise FramingError(400, "malformed chunk size")
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
            if len(line) == room or not _UNFINISHED_HEAD.fullmatch(line):
                raise FramingError(400, "malformed or oversized trailers")
            return 0
        if not line:
            self.done = True
        elif not _FIELD_LINE.fullmatch(line):
            raise FramingError(400, "malformed trailer")
        self._trailers += len(line) + 2
        return len(line) + 2


def body_reader(framing: Framing) -> BodyReader:
    if framing is Length.CHUNKED:
        return ChunkedReader()
    if framing is Length.UNTIL_CLOSE:
        return UntilCloseReader()
    return BodyReader(framing)


def _request_line(line: bytes) -> tuple[str, bytes, bool]:
    if len(line) > MAX_TARGET:
        raise FramingError(414, "request line too long")
    match = _REQUEST_LINE.fullmatch(line)
    if not match:
        raise FramingError(400, "malformed request line")
    method, target, major, minor = match.groups()
    if (major, minor) not in ((b"1", b"1"), (b"1", b"0")):
        raise FramingError(505, "only HTTP/1.1 and HTTP/1.0 are spoken here")
    if method == b"CONNECT":
        raise FramingError(501, "CONNECT is not for a reverse proxy")
    if target[0] != 0x2F:  # "/"
        target = _origin_form(method, target)
    return method.decode("ascii"), target, minor == b"0"


def _origin_form(method: bytes, target: bytes) -> bytes:
    """RFC 9112 section 3.2.2: a server must accept the absolute form. Where to go is the config's to say, not its."""
    if target == b"*" and method == b"OPTIONS":
        return target
    authority = _ABSOLUTE.match(target)
    if not authority:
        raise FramingError(400, "a request target has to begin with a slash")
    begins = authority.end()
    path = target[begins:]
    if not path and method == b"OPTIONS":
        return b"*"
    return path if path.startswith(b"/") else b"/" + path


def _fields(lines: bytes, read_line: ReadLine) -> tuple[Fields, Mapping[bytes, bytes]]:
    """The fields, and what `Head.names` is."""
    if not lines:
        return (), {}
    split = lines.split(b"\r\n")
    if len(split) > MAX_FIELDS:
        raise FramingError(431, f"more than {MAX_FIELDS} fields")
    read = [read_line(line) for line in split]
    fields = tuple([each for each, _ in read])
    names = {name: value for (_, value), name in read}
    if len(names) < len(fields):  # some name comes again
        for (_, value), name in reversed(read):
            names[name] = value
    return fields, names


def _framing(fields: Fields, names: Mapping[bytes, bytes], *, http10: bool, otherwise: Framing) -> Framing:
    """RFC 9112 section 6.3, without its lenient branches (rule 2)."""
    if b"transfer-encoding" in names:
        if b"content-length" in names:
            raise FramingError(400, "both Content-Length and Transfer-Encoding")
        codings = [value.lower() for value in _values(fields, names, b"transfer-encoding")]
        if http10:
            raise FramingError(400, "Transfer-Encoding in HTTP/1.0")
        if codings == [b"chunked"]:
            return Length.CHUNKED
        listed = [coding.strip(b" \t") for value in codings for coding in value.split(b",")]
        if listed[-1] == b"chunked" and listed.count(b"chunked") == 1:
            raise FramingError(501, "a transfer coding other than chunked")
        raise FramingError(400, "malformed Transfer-Encoding")
    if b"content-length" in names:
        if len(_values(fields, names, b"content-length")) > 1:
            raise FramingError(400, "repeated Content-Length")
        if not _LENGTH.fullmatch(names[b"content-length"]):
            raise FramingError(400, "malformed Content-Length")
        return int(names[b"content-length"])
    return otherwise


def _keep_alive(fields: Fields, names: Mapping[bytes, bytes], *, http10: bool) -> bool:
    if b"connection" not in names:
        return not http10
    options = _tokens(fields, names, b"connection")
    return b"keep-alive" in options and b"close" not in options if http10 else b"close" not in options


def _tokens(fields: Fields, names: Mapping[bytes, bytes], wanted: bytes) -> set[bytes]:
    return {token.strip(b" \t").lower() for value in _values(fields, names, wanted) for token in value.split(b",")}


def _values(fields: Fields, names: Mapping[bytes, bytes], wanted: bytes) -> list[bytes]:
    """The values of all fields with a name that there is."""
    if len(names) == len(fields):  # none comes twice
        return [names[wanted]]
    return [value for name, value in fields if name.lower() == wanted]
