"""What framing.py accepts, h11 and llhttp read alike: the same fields, the same body, the same end.

The other way round does not hold and is not meant to: both of them repair what framing.py refuses. Each way in which
one of the two refuses more than framing.py is named in `h11_refuses` and `llhttp_refuses`, with its reason.
"""

import re
from collections.abc import Callable

import h11
import httptools
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st
from messages import UPGRADE, Read, read_by_h11, read_by_llhttp, replies, requests

from shadowproxy.exchange import Fields
from shadowproxy.serve.http1 import bodies, framing
from shadowproxy.serve.http1.fields import end_to_end
from shadowproxy.serve.http1.framing import FramingError
from shadowproxy.serve.policy.headers import find

NEXT = b"GET /next HTTP/1.1\r\nHost: next\r\n\r\n"
"""Stands behind every message of these tests: whoever reads into it disagrees about where the first one ends."""


def read(
    raw: bytes, parse: Callable[[bytes], framing.RequestHead | framing.ResponseHead], step: int | None = None
) -> Read:
    """Read one message at the beginning of `raw`, `step` bytes of its body at a time. Raises FramingError."""
    at = raw.find(b"\r\n\r\n")
    head = raw if at < 0 else raw[:at]
    framing.check_unfinished_head(head, request=parse is framing.parse_request_head)
    if at < 0:
        return Read((), (), b"", None)
    parsed = parse(head)
    if isinstance(parsed, framing.RequestHead):
        start: tuple[bytes, ...] = (parsed.method.encode(), parsed.target, b"1.0" if parsed.http10 else b"1.1")
    else:
        start = (b"%d" % parsed.status,)
    reader = bodies.body_reader(parsed.framing)
    left, body = raw[at + 4 :], b""
    while left and not reader.done:
        piece, left = left[:step], left[step:] if step else b""
        content, rest = reader.feed(piece)
        body, left = body + content, rest + left
    whole = reader.done or reader.at_eof()
    return Read(start, parsed.fields, body, len(raw) - len(left) if whole else None)


def read_request(raw: bytes, step: int | None = None) -> Read:
    return read(raw, framing.parse_request_head, step)


def read_reply(raw: bytes, step: int | None = None) -> Read:
    return read(raw, lambda head: framing.parse_response_head(head, "GET"), step)


much = settings(
    max_examples=400, suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large], deadline=None
)


def accepted(raw: bytes, parser: Callable[[bytes], Read]) -> Read | None:
    try:
        return parser(raw)
    except FramingError:
        return None


def h11_refuses(error: Exception, raw: bytes) -> bool:
    """It reads no target with a byte over 0x7e, which real servers do, and no blank before a chunk's extension.

    To it a trailer called Content-Length or Transfer-Encoding is a header field, and bad framing.
    """
    if re.search(rb"[\x80-\xff]", raw.partition(b"\r\n")[0]) or "illegal chunk header" in str(error):
        return True
    if not re.search("Content-Length|Transfer-Encoding", str(error)):
        return False
    head = raw[: raw.find(b"\r\n\r\n") + 4]
    try:
        read_by_h11(head, request=not raw.startswith(b"HTTP/"))
    except h11.RemoteProtocolError as of_head:
        return str(of_head) != str(error)
    return True


def llhttp_refuses(error: Exception) -> bool:
    """It knows methods by a list, judges what a URL may be, wants chunk extensions to be tokens, and reads a trailer as
    if it were a header field, so that one called Content-Length is a second framing to it.
    """
    if isinstance(error, httptools.HttpParserInvalidMethodError | httptools.HttpParserInvalidURLError):
        return True
    return "chunk" in str(error) or str(error) == "Content-Length can't be present with Transfer-Encoding"


def read_by(parser: Callable[[], Read], refuses: Callable[[Exception], bool]) -> Read | None:
    """What another parser reads, None where it refuses for a reason that is known and harmless."""
    try:
        return parser()
    except (h11.RemoteProtocolError, httptools.HttpParserError) as error:
        if not refuses(error):
            raise
        return None


@much
@example(b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 5\r\n\r\nhello")
@example(b"POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n5;x=y\r\nhello\r\n0\r\nT: 1\r\n\r\n")
@example(b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length:\t5 \t\r\n\r\nhell")
@given(requests)
def test_an_accepted_request_is_the_same_request_to_h11_and_llhttp(raw: bytes) -> None:
    raw += NEXT
    ours = accepted(raw, read_request)
    if ours is None or not ours.start:
        return
    method, target, version = ours.start
    theirs = read_by(lambda: read_by_h11(raw, request=True), lambda error: h11_refuses(error, raw))
    if theirs is not None:
        absolute = theirs.start[1].lower().startswith(b"http")  # theirs is as it came, ours in origin form
        assert theirs.start == (method, theirs.start[1] if absolute else target, version)
        assert (theirs.body, theirs.end) == (ours.body, ours.end)
        assert theirs.fields == codings_in_lower_case(ours.fields)
    theirs = read_by(lambda: read_by_llhttp(raw, request=True), llhttp_refuses)
    if theirs is not None and theirs.start and theirs.start != UPGRADE:
        assert (theirs.start[0], theirs.start[2]) == (method, version)
        assert (unpadded(theirs.fields), theirs.body, theirs.end) == (ours.fields, ours.body, ours.end)


@much
@example(b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nhello")
@example(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n0\r\n\r\n")
@example(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n0\r\nContent-Length: \r\n\r\n")
@example(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n0\r\nTransfer-Encoding: gzip\r\n\r\n")
@example(b"HTTP/1.1 200 OK\r\n\r\nhello")
@example(b"HTTP/1.1 304 Not Modified\r\nContent-Length: 5\r\n\r\n")
@given(replies)
def test_an_accepted_answer_is_the_same_answer_to_h11_and_llhttp(raw: bytes) -> None:
    raw += b"HTTP/1.1 200 NEXT\r\nContent-Length: 0\r\n\r\n"
    ours = accepted(raw, read_reply)
    if ours is None or not ours.start:
        return
    theirs = read_by(lambda: read_by_h11(raw, request=False), lambda error: h11_refuses(error, raw))
    if theirs is not None:
        assert (theirs.start, theirs.body, theirs.end) == (ours.start, ours.body, ours.end)
        assert theirs.fields == codings_in_lower_case(ours.fields)
    until_close = not any(name.lower() in (b"content-length", b"transfer-encoding") for name, _ in ours.fields)
    if until_close and ours.end == len(raw):
        return  # httptools has no way to say that the connection has ended
    theirs = read_by(lambda: read_by_llhttp(raw, request=False), llhttp_refuses)
    if theirs is not None and theirs.start and theirs.start != UPGRADE:
        assert (unpadded(theirs.fields), theirs.body, theirs.end) == (ours.fields, ours.body, ours.end)


def codings_in_lower_case(fields: Fields) -> Fields:
    """h11 does this to the one field that it reads for framing."""
    return tuple((name, value.lower() if name.lower() == b"transfer-encoding" else value) for name, value in fields)


def unpadded(fields: Fields) -> Fields:
    """llhttp leaves the blanks after a value in it (RFC 9112 section 5 has them stripped)."""
    return tuple((name, value.rstrip(b" \t")) for name, value in fields)


@much
@given(st.one_of(requests, replies), st.integers(1, 7))
def test_how_a_body_is_cut_into_segments_does_not_matter(raw: bytes, step: int) -> None:
    parser = read_reply if raw.startswith(b"HTTP/") else read_request
    assert accepted(raw, parser) == accepted(raw, lambda raw: parser(raw, step))


@much
@given(st.one_of(requests, replies))
def test_no_beginning_of_a_good_head_is_refused(raw: bytes) -> None:
    is_request = not raw.startswith(b"HTTP/")
    if accepted(raw, read_request if is_request else read_reply) is None or (end := raw.find(b"\r\n\r\n")) < 0:
        return
    for size in range(end):
        framing.check_unfinished_head(raw[:size], request=is_request)


@much
@example(b"GET / HTTP/1.1\r\nHost: a\r\nX: a\rb", [24, 29, 31])
@given(st.one_of(requests, replies), st.lists(st.integers(0, 80), max_size=5).map(sorted))
def test_a_head_is_checked_on_from_where_the_last_check_ended(raw: bytes, sizes: list[int]) -> None:
    is_request = not raw.startswith(b"HTTP/")
    head = raw.partition(b"\r\n\r\n")[0]

    def refused(*sizes: int) -> bool:
        checked = 0
        try:
            for size in sizes:
                framing.check_unfinished_head(head[:size], request=is_request, checked=checked)
                checked = len(head[:size])
        except FramingError:
            return True
        return False

    assert refused(*sizes, len(head)) == refused(len(head))


HEADS = st.one_of(requests, replies).map(lambda raw: raw.partition(b"\r\n\r\n")[0])


@much
@example(b"GET / HTTP/1.1\r\nHost: a\r\nX: 1\r\nx: 2")
@given(HEADS)
def test_a_head_has_the_names_of_its_fields_each_with_its_first_value(head: bytes) -> None:
    try:
        read = (
            framing.parse_response_head(head, "GET") if head.startswith(b"HTTP/") else framing.parse_request_head(head)
        )
    except FramingError:
        return
    assert set(read.names) == {name.lower() for name, _ in read.fields}
    for lower, value in read.names.items():
        assert value == find(read.fields, lower)
    assert read.section.fields == end_to_end(read.fields)


@much
@given(HEADS)
def test_a_head_that_comes_again_is_read_as_it_was_the_first_time(head: bytes) -> None:
    def reading() -> tuple[object, ...] | str:
        try:
            if head.startswith(b"HTTP/"):
                reply = framing.parse_response_head(head, "GET")
                return reply.status, reply.fields, reply.framing, reply.keep_alive
            request = framing.parse_request_head(head)
        except FramingError as error:
            return f"{error.status} {error}"
        told = request.method, request.target, request.http10, request.expects_continue
        return *told, request.fields, request.framing, request.keep_alive

    for cached in (framing._lines, framing._requests, framing._responses):
        cached.forget()
    first = reading()
    for _ in range(2):  # the second time it is stored
        assert reading() == first


def test_the_same_head_ends_otherwise_after_head_than_after_get() -> None:
    head = b"HTTP/1.1 200 OK\r\nContent-Length: 5"
    for _ in range(3):
        assert (
            framing.parse_response_head(head, "GET").framing,
            framing.parse_response_head(head, "GET").keep_alive,
        ) == (5, True)
        assert (
            framing.parse_response_head(head, "HEAD").framing,
            framing.parse_response_head(head, "HEAD").keep_alive,
        ) == (0, False)


NAMES = st.text("abcXYZ-_.~0123456789", min_size=1, max_size=8).map(str.encode)
VALUES = st.binary(max_size=12).map(lambda raw: bytes(byte for byte in raw if byte >= 32 and byte != 127).strip(b" \t"))


@given(st.lists(st.tuples(NAMES, VALUES), max_size=6), st.integers(1, 9))
def test_trailers_are_read_as_they_were_written_and_end_where_they_were_written(
    trailers: list[tuple[bytes, bytes]], step: int
) -> None:
    raw = bodies.write_chunk(b"body") + bodies.write_last_chunk(tuple(trailers)) + NEXT
    reader, left, body = bodies.body_reader(framing.Length.CHUNKED), raw, b""
    while not reader.done:
        content, rest = reader.feed(left[:step])
        body, left = body + content, rest + left[step:]
    assert (body, reader.trailers, left) == (b"body", tuple(trailers), NEXT)
