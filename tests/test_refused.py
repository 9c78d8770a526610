"""What no proxy may pass on is refused with a status that fits, the connection is closed, and live sees not one byte.

Where RFC 9112 leaves a choice of status, the choice is here: 400 where a message is not one (section 6.3 wants it for a
final coding other than chunked), 501 for a transfer coding and a method that we do not know, 505 for a version that we
do not speak, 414 and 431 for what is too long.
"""

import asyncio
import json
from collections.abc import AsyncIterator

import pytest
import pytest_asyncio
from conftest import Proxy, StartProxy, starter
from fakes import PATIENCE, Message, Peer, answer, cut

GOOD = b"GET /good HTTP/1.1\r\nHost: h\r\n\r\n"


def post(*lines: bytes, body: bytes = b"", version: bytes = b"HTTP/1.1") -> bytes:
    return b"\r\n".join([b"POST / " + version, b"Host: h", *lines, b"", b""]) + body


def chunks(body: bytes) -> bytes:
    return post(b"Transfer-Encoding: chunked", body=body)


def line(request_line: bytes) -> bytes:
    return request_line + b"\r\nHost: h\r\n\r\n"


def many(count: int) -> list[bytes]:
    return [b"X-%d: 1" % index for index in range(count)]


CL, TE = b"Content-Length: 5", b"Transfer-Encoding: chunked"

REFUSED: dict[str, tuple[int, bytes]] = {
    # Two framings.
    "length and chunked": (400, post(CL, TE, body=b"0\r\n\r\n")),
    "chunked and length": (400, post(TE, CL, body=b"0\r\n\r\n")),
    "chunked and a length of 0": (400, post(TE, b"Content-Length: 0", body=b"0\r\n\r\n")),
    "two lengths": (400, post(CL, b"Content-Length: 6", body=b"hello!")),
    "two lengths, the second one not seen by who compares case": (400, post(CL, b"content-LENGTH: 6", body=b"hello!")),
    "the same length twice": (400, post(CL, CL, body=b"hello")),
    "a list of two lengths": (400, post(b"Content-Length: 5, 6", body=b"hello!")),
    "a list of the same length": (400, post(b"Content-Length: 5, 5", body=b"hello")),
    # Lengths that are none.
    **{
        f"length {value!r}": (400, post(b"Content-Length: " + value, body=b"hello"))
        for value in (
            *(
                b"+2",
                b"-1",
                b"0x2",
                b"1_0",
                b"",
                b" ",
                b"5 5",
                b"5.0",
                b"1e1",
                b"five",
                b"5;",
                b'"5"',
                b"\xb2",
                b"\x0b5",
            ),
            *(b"18446744073709551617", b"18446744073709551616", b"9223372036854775808", b"9" * 400),
        )
    },
    # Codings. RFC 9112 section 6.3: a final coding other than chunked is a 400, another one before it a 501 (6.1).
    **{
        f"coding {value!r}": (status, post(b"Transfer-Encoding: " + value, body=b"0\r\n\r\n"))
        for value, status in (
            (b"xchunked", 400),
            (b"chunked, identity", 400),
            (b"identity", 400),
            (b"gzip", 400),
            (b"", 400),
            (b"chunked,", 400),
            (b",chunked", 501),
            (b"chunked, chunked", 400),
            (b"\x0bchunked", 400),
            (b"\x0cchunked", 400),
            (b"\xa0chunked", 400),
            (b"chunked;q=1", 400),
            (b'"chunked"', 400),
            (b"chunked\x00", 400),
            (b"gzip, chunked", 501),
            (b"identity, chunked", 501),
        )
    },
    "chunked in two fields": (400, post(TE, TE, body=b"0\r\n\r\n")),
    "chunked and identity in two fields": (400, post(TE, b"Transfer-Encoding: identity", body=b"0\r\n\r\n")),
    "chunked in HTTP/1.0": (400, post(TE, version=b"HTTP/1.0", body=b"0\r\n\r\n")),
    "chunked and length in HTTP/1.0": (400, post(TE, CL, version=b"HTTP/1.0", body=b"0\r\n\r\n")),
    # Field lines.
    "space before the colon": (400, post(b"Content-Length : 5", body=b"hello")),
    "tab before the colon": (400, post(b"Transfer-Encoding\t: chunked", body=b"0\r\n\r\n")),
    "no colon": (400, post(b"X")),
    "no name": (400, post(b": x")),
    "blank in a name": (400, post(b"X Y: 1")),
    "bytes over 127 in a name": (400, post(b"X\xe4: 1")),
    "NUL in a name": (400, post(b"X\x00: 1")),
    "folded value": (400, post(b"X: a", b" b")),
    "folded value with a tab": (400, post(b"X: a", b"\tContent-Length: 5", body=b"hello")),
    "folded host": (400, b"GET / HTTP/1.1\r\nHost: h\r\n .evil\r\n\r\n"),
    "first line folded": (400, b"GET / HTTP/1.1\r\n Host: h\r\n\r\n"),
    "blank line of blanks": (400, b"GET / HTTP/1.1\r\nHost: h\r\n \r\n\r\n"),
    "bare LF after a field": (400, post(b"X: 1\nY: 2")),
    "bare LF after the request line": (400, b"GET / HTTP/1.1\nHost: h\r\n\r\n"),
    "bare LF everywhere": (400, b"GET / HTTP/1.1\nHost: h\n\n"),
    "bare LF ends the head": (400, b"GET / HTTP/1.1\r\nHost: h\r\n\n"),
    "bare CR in a value": (400, post(b"X: a\rY: b")),
    "bare CR ends a line": (400, b"GET / HTTP/1.1\r\nHost: h\rX: 1\r\n\r\n"),
    "two CRs before LF": (400, b"GET / HTTP/1.1\r\r\nHost: h\r\n\r\n"),
    **{
        f"control {bytes([byte])!r} in a value": (400, post(b"X: a%cb" % byte))
        for byte in (0, 1, 8, 11, 12, 27, 31, 127)
    },
    # Host.
    "no Host": (400, b"GET / HTTP/1.1\r\n\r\n"),
    "two Hosts": (400, b"GET / HTTP/1.1\r\nHost: h\r\nHost: h\r\n\r\n"),
    "two Hosts of unlike case": (400, b"GET / HTTP/1.1\r\nHost: h\r\nhOsT: evil\r\n\r\n"),
    "two Hosts in HTTP/1.0": (400, b"GET / HTTP/1.0\r\nHost: h\r\nHost: evil\r\n\r\n"),
    **{
        f"Host {value!r}": (400, b"GET / HTTP/1.1\r\nHost: " + value + b"\r\n\r\n")
        for value in (
            b"a/b",
            b"a b",
            b"a, b",
            b"user@h",
            b"h:port",
            b"h:123456",
            b"[::1",
            b"::1",
            b"h?x",
            b"h#x",
            b"h\\x",
            b"\xff",
        )
    },
    # The request line.
    "HTTP/0.9": (400, b"GET /\r\n"),
    "HTTP/0.9 with fields": (400, b"GET /\r\nHost: h\r\n\r\n"),
    "HTTP/2.0": (505, line(b"GET / HTTP/2.0")),
    "HTTP/1.2": (505, line(b"GET / HTTP/1.2")),
    "HTTP/0.9 by name": (505, line(b"GET / HTTP/0.9")),
    "HTTP/2's preface": (505, b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"),
    "HTTP/1.10": (400, line(b"GET / HTTP/1.10")),
    "HTTP/11": (400, line(b"GET / HTTP/11")),
    "http/1.1": (400, line(b"GET / http/1.1")),
    "HTTPS/1.1": (400, line(b"GET / HTTPS/1.1")),
    "blank after the version": (400, line(b"GET / HTTP/1.1 ")),
    "blank before the method": (400, line(b" GET / HTTP/1.1")),
    "two blanks": (400, line(b"GET  / HTTP/1.1")),
    "a tab for a blank": (400, line(b"GET\t/ HTTP/1.1")),
    "a blank in the target": (400, line(b"GET /a b HTTP/1.1")),
    "a control in the target": (400, line(b"GET /\x01 HTTP/1.1")),
    "NUL in the target": (400, line(b"GET /\x00 HTTP/1.1")),
    "DEL in the target": (400, line(b"GET /\x7f HTTP/1.1")),
    "a method that is no token": (400, line(b"GE(T / HTTP/1.1")),
    "CONNECT": (501, line(b"CONNECT h:443 HTTP/1.1")),
    "CONNECT to a path": (501, line(b"CONNECT / HTTP/1.1")),
    "a target without a slash": (400, line(b"GET a HTTP/1.1")),
    "a target of an authority": (400, line(b"GET h:80 HTTP/1.1")),
    "a target of a query": (400, line(b"GET ?q HTTP/1.1")),
    "a star for another method than OPTIONS": (400, line(b"GET * HTTP/1.1")),
    "an absolute target of another scheme": (400, line(b"GET ftp://h/ HTTP/1.1")),
    "an absolute target with a user": (400, line(b"GET http://u:p@h/ HTTP/1.1")),
    "an absolute target without an authority": (400, line(b"GET http:///p HTTP/1.1")),
    "not HTTP": (400, b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03"),
    # Too long.
    "a target of over 16 KiB": (414, line(b"GET /" + b"a" * 16384 + b" HTTP/1.1")),
    "a target of over 16 KiB, unfinished": (414, b"GET /" + b"a" * 17000),
    "a head of over 64 KiB": (431, post(*[b"X: " + b"a" * 8000] * 9)),
    "a head of over 64 KiB, unfinished": (431, post(b"X: " + b"a" * 70000)[:-4]),
    "over 200 fields": (431, post(*many(200))),
    # Chunks.
    **{
        f"chunk size {size!r}": (400, chunks(size + b"\r\nhello\r\n0\r\n\r\n"))
        for size in (
            *(b"0x5", b" 5", b"5 ", b"\t5", b"+5", b"-5", b"5_0", b"", b"g", b"5 5", b"5,5", b"\xef\xbc\x95", b"5\x00"),
            *(
                b"10000000000000005",
                b"fffffffffffffffff",
                b"0" * 40 + b"5",
                b"5\n",
                b"5\r",
                b"5;a\nb",
                b"5;a\x00",
                b";a",
            ),
        )
    },
    "bare LF after a chunk size": (400, chunks(b"5\nhello\r\n0\r\n\r\n")),
    "bare LF after a chunk": (400, chunks(b"5\r\nhello\n0\r\n\r\n")),
    "bare CR after a chunk": (400, chunks(b"5\r\nhello\r0\r\n\r\n")),
    "a chunk longer than its size": (400, chunks(b"5\r\nhello!\r\n0\r\n\r\n")),
    "bare LF after the last chunk": (400, chunks(b"5\r\nhello\r\n0\n\r\n")),
    "bare LF ends the trailers": (400, chunks(b"5\r\nhello\r\n0\r\n\n")),
    "a chunk line of over 4 KiB": (400, chunks(b"5;" + b"a" * 5000 + b"\r\nhello\r\n0\r\n\r\n")),
    "a trailer without a colon": (400, chunks(b"5\r\nhello\r\n0\r\nX\r\n\r\n")),
    "a folded trailer": (400, chunks(b"5\r\nhello\r\n0\r\nX: 1\r\n 2\r\n\r\n")),
    "trailers of over 16 KiB": (400, chunks(b"5\r\nhello\r\n0\r\n" + b"X: 1\r\n" * 3000 + b"\r\n")),
}


def refused_with(reply: Message) -> int:
    """The status of a refusal, which says what is wrong in JSON and that the connection ends."""
    assert reply.all(b"connection") == [b"close"]
    assert reply.all(b"content-type") == [b"application/json"]
    assert json.loads(reply.body)["detail"]
    return reply.status


async def refusal_of(running: Proxy, *segments: bytes) -> int:
    """Send what is to be refused; assert that the connection is closed after one answer and that live saw nothing."""
    seen = running.live.received
    async with await running.caller() as caller:
        await caller.send(*segments)
        status = refused_with(await caller.answer())
        assert await caller.rest() == b""
    assert running.live.received == seen
    return status


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def shared(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Proxy]:
    """One proxy for all that it has to refuse: what one caller sends may not matter to the next."""
    async with starter(tmp_path_factory.mktemp("shared"))() as running:
        yield running
        assert (await running.ask(GOOD)).body == b"ok"


one_proxy = pytest.mark.asyncio(loop_scope="module")


@one_proxy
@pytest.mark.parametrize("name", REFUSED)
async def test_a_request_that_is_none_is_refused_and_live_sees_nothing(shared: Proxy, name: str) -> None:
    status, raw = REFUSED[name]
    assert await refusal_of(shared, raw) == status


@one_proxy
@pytest.mark.parametrize("name", [name for name in REFUSED if len(REFUSED[name][1]) < 1000])
async def test_it_is_refused_alike_when_it_comes_byte_by_byte(shared: Proxy, name: str) -> None:
    status, raw = REFUSED[name]
    seen = shared.live.received
    async with await shared.caller() as caller:
        for segment in cut(raw, range(len(raw))):
            if caller.received:
                break  # refused before it was whole, which is as good
            await caller.send(segment)
        assert refused_with(await caller.answer()) == status
        await caller.wait_ended()
    assert shared.live.received == seen


class Held:
    """An origin's script that answers `good` when it is let to."""

    def __init__(self) -> None:
        self.hold()

    def hold(self) -> None:
        self.asked, self.gate = asyncio.Event(), asyncio.Event()

    async def __call__(self, peer: Peer) -> None:
        while await peer.request() is not None:
            self.asked.set()
            await self.gate.wait()
            await peer.send(answer(b"good"))


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def held(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[tuple[Proxy, Held]]:
    script = Held()
    async with starter(tmp_path_factory.mktemp("held"))(script) as running:
        yield running, script


@one_proxy
@pytest.mark.parametrize("name", REFUSED)
async def test_it_is_refused_after_a_good_request_too_and_does_not_answer_for_it(
    held: tuple[Proxy, Held], name: str
) -> None:
    running, script = held
    status, raw = REFUSED[name]
    script.hold()
    seen = len(running.live.received)
    async with await running.caller() as caller:
        await caller.send(GOOD + raw)
        await asyncio.wait_for(script.asked.wait(), PATIENCE)
        assert caller.received == b""
        script.gate.set()
        assert (await caller.answer()).body == b"good"
        assert refused_with(await caller.answer()) == status
        assert await caller.rest() == b""
    assert len(running.live.received) - seen == len(running.live.requests[-1].raw)
    assert running.live.requests[-1].target == b"/good"


@pytest.mark.parametrize("name", ["HTTP/2.0", "length and chunked", "chunk size b'0x5'", "no Host"])
async def test_what_follows_a_refused_request_is_never_read_as_one(proxy: StartProxy, name: str) -> None:
    async with proxy() as running:
        await refusal_of(running, REFUSED[name][1] + GOOD)


async def test_the_limit_on_heads_is_the_configurations(proxy: StartProxy) -> None:
    async with proxy(limits={"headers": 1000}) as running:
        assert await refusal_of(running, post(b"X: " + b"a" * 1000)) == 431
        fits = post(b"X: " + b"a" * 900)
        assert (await running.ask(fits)).status == 200


async def test_up_to_the_limits_requests_pass(proxy: StartProxy) -> None:
    async with proxy() as running:
        assert (await running.ask(line(b"GET /" + b"a" * 16000 + b" HTTP/1.1"))).status == 200
        assert (await running.ask(post(*many(199)))).status == 200
        assert (await running.ask(post(*[b"X: " + b"a" * 8000] * 8))).status == 200
        assert len(running.live.requests) == 3


async def test_a_body_found_bad_after_live_was_dialled_is_broken_off_to_live(proxy: StartProxy) -> None:
    """A body over `limits.buffer` is on its way before its end is known: live must not take what came for all of it."""
    head = post(b"Transfer-Encoding: chunked")
    async with proxy(limits={"buffer": 100, "capture": 100}) as running, await running.caller() as caller:
        await caller.send(head + b"c8\r\n" + b"x" * 200 + b"\r\n")
        live = await running.live.connection()
        await live.wait_received(200)
        await caller.send(b"0x5\r\nhello\r\n0\r\n\r\n" + GOOD)
        assert refused_with(await caller.answer()) == 400
        await caller.wait_ended()
        await live.wait_ended()
        assert running.live.requests == []
        assert b"hello" not in live.received
        assert not live.received.endswith(b"0\r\n\r\n")
