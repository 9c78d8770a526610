"""HTTP/1.1 messages: their heads, and how their bodies are framed. Pure: bytes in, values out; no socket, no clock.

The rules, for both directions (RFC 9110, RFC 9112):

1. A message is accepted only if it is written exactly as the grammar says. Nothing is repaired, trimmed or guessed:
   two parsers that repair differently disagree about where a message ends, and that is request smuggling.
   response_head.py has the one exception.
2. Where a message ends is decided in one place, `_framing`. Content-Length beside Transfer-Encoding, a repeated
   Content-Length, and any Transfer-Encoding but a single `chunked` are rejected.
3. Bytes after a message's end never belong to this message: every reader returns them, for the next one.
4. An error is found at the first wrong line, not after the empty line, which a hostile peer never sends.
5. Every part has a bound: request line, head, number of fields, chunk line, trailers.

Why not llhttp or h11: llhttp cannot stop after one message, loses a body behind `Upgrade`, and lets through a dozen
forms that rule 1 forbids; h11 repairs too. tests/test_framing.py compares what is accepted here with both of them.

bodies.py reads the bodies.
"""

import re
from collections.abc import Mapping, Sequence
from enum import Enum
from http import HTTPStatus
from typing import Final

from shadowproxy.caches import remembered
from shadowproxy.exchange import Field, Fields
from shadowproxy.serve.http1 import foreign
from shadowproxy.serve.http1.fields import end_to_end
from shadowproxy.serve.http1.section import Section

MAX_TARGET = 16 * 1024
MAX_FIELDS = 200

_TOKEN = rb"[!#$%&'*+\-.^_`|~0-9A-Za-z]"
TEXT = rb"[\t\x20-\x7e\x80-\xff]"  # field-content with obs-text; no other control byte
_REQUEST_LINE = re.compile(rb"(%b++) ([\x21-\x7e\x80-\xff]++) HTTP/([0-9])\.([0-9])" % _TOKEN)
_STATUS_LINE = re.compile(rb"HTTP/([0-9])\.([0-9]) ([0-9]{3})(?: (%b*+))?" % TEXT)
FIELD_LINE = re.compile(rb"%b++:%b*+" % (_TOKEN, TEXT))
_BLANK_LINES = re.compile(rb"(?:\r\n)*+")
UNFINISHED_LINES = re.compile(rb"(?:[\t\x20-\x7e\x80-\xff]++|\r\n)*+\r?")
_LENGTH = re.compile(rb"[0-9]{1,18}")  # 10^18 - 1 fits 64 bits, for any reader
_HOST = re.compile(rb"(?:[A-Za-z0-9._~!$&'()*+;=%-]*|\[[0-9A-Fa-f:.]+\])(?::[0-9]{0,5})?")
_ABSOLUTE = re.compile(rb"https?://[^/?#@]++(?![^/?#])", re.IGNORECASE)

_STATUS_LINES = {each.value: b"HTTP/1.1 %d %b" % (each.value, each.phrase.encode()) for each in HTTPStatus}

BODYLESS_STATUSES = frozenset({204, 304})


class FramingError(ValueError):
    """These bytes are not an HTTP/1.1 message that may be forwarded. `status` is a server's response to them."""

    def __init__(self, status: int, why: str) -> None:
        super().__init__(why)
        self.status = status


class Length(Enum):
    """How the end of a body is found, if not by a number of bytes."""

    CHUNKED = "chunked"
    UNTIL_CLOSE = "until close"


Framing = int | Length
"""A body's length in bytes, 0 for none; or how else its end is found."""


class Head:
    """What heads of requests and of responses have in common. Never change one: all messages with this head share it.

    `names` maps each name in `fields`, in lower case, to the value of the first field of that name.
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
    """`target` is the bytes received, in origin-form or `*`. `keep_alive` is what the caller wants."""

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


class ResponseHead(Head):
    """`keep_alive` is what the server wants; it is False in the response to a HEAD request."""

    __slots__ = ("status",)

    def __init__(
        self, status: int, fields: Fields, names: Mapping[bytes, bytes], framing: Framing, *, keep_alive: bool
    ) -> None:
        super().__init__(fields, names, framing, keep_alive=keep_alive)
        self.status = status


def parse_request_head(head: bytes) -> RequestHead:
    """Parse a request's head, from its first byte to before its empty line. Raises FramingError."""
    return _requests[head]


def parse_response_head(head: bytes, method: str, upgrade: bytes = b"") -> ResponseHead:
    """Parse the head of the response to a request with `method`, to before its empty line. Raises FramingError.

    `upgrade` is the protocol, in lower case, that the request offered to change to: a 101 may change to it alone.
    """
    read = _responses[head]
    if read.status == 101 and not upgrade:
        raise FramingError(502, "an upgrade that nobody asked for")
    if read.status == 101 and read.names.get(b"upgrade", b"").lower() != upgrade:
        raise FramingError(502, "an upgrade to another protocol than was asked for")
    if method != "HEAD":
        return read
    # Some servers send a body after HEAD. If it comes after the next request is sent, it looks like its response.
    return ResponseHead(read.status, read.fields, read.names, 0, keep_alive=False)


def _request_head(head: bytes) -> RequestHead:
    line, _, lines = head.partition(b"\r\n")
    method, target, http10 = _request_line(line, head)
    fields, names = _fields(lines)
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


def _response_head(head: bytes) -> ResponseHead:
    line, _, lines = head.partition(b"\r\n")
    match = _STATUS_LINE.fullmatch(line)
    if not match:
        raise FramingError(502, "malformed status line")
    status, http10 = int(match[3]), match[2] == b"0"
    if match[1] != b"1" or not 100 <= status < 600:
        raise FramingError(502, f"unusable status line: HTTP/{match[1].decode()}.{match[2].decode()} {status}")
    try:
        fields, names = _fields(lines)
        framing = _framing(fields, names, http10=http10, otherwise=Length.UNTIL_CLOSE)
    except FramingError as error:
        raise FramingError(502, str(error)) from None
    if status < 200 or status in BODYLESS_STATUSES:
        framing = 0
    keep_alive = framing is not Length.UNTIL_CLOSE and _keep_alive(fields, names, http10=http10)
    return ResponseHead(status, fields, names, framing, keep_alive=keep_alive)


def _read_line(line: bytes) -> tuple[Field, bytes]:
    """A field line, as a field and its name in lower case. Raises FramingError."""
    if not FIELD_LINE.fullmatch(line):
        name, colon, _ = line.partition(b":")
        # Never more than a name: this text is logged, and what follows may be a credential.
        where = f"at {name[:40].decode('ascii', 'replace')!r}" if colon else "without a colon"
        if b"\n" in line:
            where = "with a bare LF where CRLF ends the lines"
        raise FramingError(400, f"malformed field line {where}")
    name, _, value = line.partition(b":")
    return (name, value.strip(b" \t")), name.lower()


# Callers and servers repeat themselves. A head that was parsed before is taken from a cache; if a request ID or a date
# in it is new, its other lines are.


def _request_weight(head: bytes, read: RequestHead) -> int:
    return 2000 + 32 * len(head) + 500 * len(read.fields)  # most of it is what the section may cache for endpoints


def _response_weight(head: bytes, read: ResponseHead) -> int:
    return 2000 + 5 * len(head) + 500 * len(read.fields)


_lines: Final = remembered("header lines", _read_line)
_requests: Final = remembered("request heads", _request_head, _request_weight)
_responses: Final = remembered("response heads", _response_head, _response_weight)


def skip_blank_lines(data: bytes) -> bytes:
    """RFC 9112 section 2.2: some callers end a body with a line break too many, which is skipped."""
    if not data.startswith(b"\r\n"):
        return data
    begins = _BLANK_LINES.match(data).end()  # type: ignore[union-attr]  # it matches nothing, too
    return data[begins:]


def check_unfinished_head(head: bytes, *, request: bool, checked: int = 0) -> None:
    """Raise FramingError if no further bytes could make these a good head (rule 4).

    The first `checked` bytes were checked before: a head that comes byte by byte is not read from its start each time.
    """
    unchecked = checked - 1 if checked and head[checked - 1] == 13 else checked  # a CR may have its LF yet to come
    if not UNFINISHED_LINES.fullmatch(head, unchecked):
        name = foreign.name_of_request(head) if request else None
        raise FramingError(400 if request else 502, name or "a control byte, bare CR or bare LF in the head")
    end = head.find(b"\r\n", 0, MAX_TARGET + 2)
    if 0 <= end < unchecked:
        return
    if request and end >= 0:
        _request_line(head[:end], head)
    elif request and len(head) > MAX_TARGET:
        raise FramingError(414, "request line too long")
    elif not request and end >= 0 and not _STATUS_LINE.fullmatch(head[:end]):
        raise FramingError(502, "malformed status line")


def status_line(status: int) -> bytes:
    """With the registered phrase: live's own is not forwarded."""
    return _STATUS_LINES.get(status) or b"HTTP/1.1 %d " % status


def write_head(line: bytes, fields: Sequence[Field]) -> bytes:
    """A head, with its empty line."""
    return b"\r\n".join([line, *[b": ".join(field) for field in fields], b"\r\n"])


def _request_line(line: bytes, head: bytes) -> tuple[str, bytes, bool]:
    if len(line) > MAX_TARGET:
        raise FramingError(414, "request line too long")
    match = _REQUEST_LINE.fullmatch(line)
    if not match:
        raise FramingError(400, foreign.name_of_request(head) or "malformed request line")
    method, target, major, minor = match.groups()
    if (major, minor) not in ((b"1", b"1"), (b"1", b"0")):
        raise FramingError(505, foreign.name_of_request(head) or "only HTTP/1.1 and HTTP/1.0 are spoken here")
    if method == b"CONNECT":
        raise FramingError(501, "CONNECT is not for a reverse proxy")
    if target[0] != 0x2F:  # "/"
        target = _origin_form(method, target)
    return method.decode("ascii"), target, minor == b"0"


def _origin_form(method: bytes, target: bytes) -> bytes:
    """RFC 9112 section 3.2.2: a server must accept the absolute form. The configuration decides where it goes."""
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


def _fields(lines: bytes) -> tuple[Fields, Mapping[bytes, bytes]]:
    """The fields, and their `Head.names`."""
    if not lines:
        return (), {}
    split = lines.split(b"\r\n")
    if len(split) > MAX_FIELDS:
        raise FramingError(431, f"more than {MAX_FIELDS} fields")
    read = [_lines[line] for line in split]
    fields = tuple([each for each, _ in read])
    names = {name: value for (_, value), name in read}
    if len(names) < len(fields):  # some name is repeated
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
    """The values of all fields with this name, of which there is at least one."""
    if len(names) == len(fields):  # no name is repeated
        return [names[wanted]]
    return [value for name, value in fields if name.lower() == wanted]
