"""A request reaches live as the caller wrote it, byte for byte; the few exceptions are here by name.

Promise 1 of the project, on its way to live. docs/reference/transparency.md says the same in words.
"""

import asyncio
import hashlib
import ssl

import pytest
import trustme
from conftest import StartProxy
from fakes import Fields, Message, Origin, Peer, answer, chunk_of, cut

ADDED = (b"via", b"x-request-id")
"""What the proxy puts into a request, and nothing else."""


def passed(message: Message) -> Fields:
    """The fields that came with a request, without what the proxy adds."""
    return tuple((name, value) for name, value in message.fields if name.lower() not in ADDED)


def get(target: bytes = b"/", *lines: bytes) -> bytes:
    return b"\r\n".join([b"GET " + target + b" HTTP/1.1", b"Host: h", *lines, b"", b""])


@pytest.mark.parametrize(
    "target",
    [
        b"/",
        b"//a%2Fb/%zz/../x;p=1|q",
        b"/p?",
        b"/??",
        b"/p?a=1&a=2;b=3",
        b"/?x=/../y",
        b"/./a/../../b//",
        b"/a%00%0d%0a",
        b"/%E2%82%AC/\xe2\x82\xac?\xff",
        b'/<>"{}\\^`',
        b"/a#fragment",
        b"/" + b"a" * 8000,
    ],
)
async def test_the_target_passes_byte_for_byte(proxy: StartProxy, target: bytes) -> None:
    async with proxy() as running:
        await running.ask(get(target))
        assert running.live.requests[0].target == target


@pytest.mark.parametrize(
    "method", [b"GET", b"HEAD", b"DELETE", b"PATCH", b"OPTIONS", b"TRACE", b"M-SEARCH", b"brew", b"!"]
)
async def test_the_method_passes_whatever_it_is(proxy: StartProxy, method: bytes) -> None:
    async with proxy() as running:
        await running.ask(method + get()[3:])
        assert running.live.requests[0].start == method + b" / HTTP/1.1"


async def test_fields_pass_in_order_with_duplicates_case_and_bytes(proxy: StartProxy) -> None:
    fields = (
        (b"X-One", b"1"),
        (b"x-two", b"\x80\xff \xc3\xa4"),
        (b"X-ONE", b""),
        (b"aCCept", b"a, b"),
        (b"X-One", b'"q;=,\\" ()<>@\t!'),
        (b"Cookie", b"a=1"),
        (b"cookie", b"b=2"),
        (b"_under.score~", b"v"),
    )
    async with proxy() as running:
        await running.ask(get(b"/", *(name + b": " + value for name, value in fields)))
        assert passed(running.live.requests[0])[1:] == fields


async def test_nothing_is_invented(proxy: StartProxy) -> None:
    async with proxy() as running:
        await running.ask(get())
        request = running.live.requests[0]
        assert [name for name, _ in request.fields if name.lower() not in ADDED] == [b"Host"]
        assert sorted(name.lower() for name, _ in request.fields) == [b"host", *ADDED]
        assert request.all(b"via") == [b"1.1 shadowproxy"]
        assert request.framing == "none"


async def test_a_request_id_is_kept_or_made_if_the_request_has_none(proxy: StartProxy) -> None:
    async with proxy() as running:
        reply = await running.ask(get(b"/", b"x-request-id: mine"))
        assert running.live.requests[0].all(b"x-request-id") == [b"mine"]
        assert reply.all(b"x-request-id") == [b"mine"]
        reply = await running.ask(get())
        made = running.live.requests[1].all(b"x-request-id")
        assert len(made) == 1
        assert reply.all(b"x-request-id") == made


HOP_BY_HOP = [
    b"Connection: keep-alive",
    b"Connection:",
    b"Connection: close",
    b"Keep-Alive: timeout=5",
    b"Proxy-Connection: keep-alive",
    b"TE: gzip",
    b"TE: x-trailers",
    b"Upgrade: h2c",
    b"Connection: x-secret, X-Other\r\nX-Secret: 1\r\nx-other: 2",
    b"Connection: x-secret\r\nConnection: x-other\r\nX-Secret: 1\r\nx-other: 2",
]


@pytest.mark.parametrize("lines", HOP_BY_HOP)
async def test_fields_for_the_next_hop_only_do_not_pass(proxy: StartProxy, lines: bytes) -> None:
    async with proxy() as running:
        await running.ask(get(b"/", b"A: 1", lines, b"B: 2"))
        assert passed(running.live.requests[0])[1:] == ((b"A", b"1"), (b"B", b"2"))


@pytest.mark.parametrize("lines", HOP_BY_HOP)
async def test_nor_does_a_shadow_get_them(proxy: StartProxy, lines: bytes) -> None:
    async with proxy(shadows={"s": answer()}) as running:
        await running.ask(get(b"/", b"A: 1", lines, b"B: 2"))
        await running.records()
        (sent,) = running.shadows["s"].requests
    assert [name for name, _ in sent.fields] == [b"Host", b"A", b"B", b"X-Request-ID", b"Via", b"X-Shadow-Request"]


async def test_connection_cannot_remove_the_fields_that_frame_a_message(proxy: StartProxy) -> None:
    raw = b"POST / HTTP/1.1\r\nHost: h\r\nConnection: host, content-length, Via\r\nContent-Length: 3\r\n\r\nabc"
    async with proxy() as running:
        await running.ask(raw)
        request = running.live.requests[0]
        assert (request.framing, request.body) == ("length", b"abc")
        assert len(request.all(b"host")) == len(request.all(b"via")) == 1


async def test_connection_cannot_remove_a_chunked_framing(proxy: StartProxy) -> None:
    raw = b"POST / HTTP/1.1\r\nHost: h\r\nConnection: transfer-encoding\r\nTransfer-Encoding: chunked\r\n\r\n"
    async with proxy() as running:
        await running.ask(raw + chunk_of(b"abc") + b"0\r\n\r\n")
        request = running.live.requests[0]
        assert (request.framing, request.body) == ("chunked", b"abc")


# Bodies.


def post(body: bytes, *lines: bytes) -> bytes:
    lines = (b"POST /p HTTP/1.1", b"Host: h", *lines, b"Content-Length: %d" % len(body), b"", b"")
    return b"\r\n".join(lines) + body


def post_chunked(*chunks: bytes, trailers: bytes = b"") -> bytes:
    head = b"POST /p HTTP/1.1\r\nHost: h\r\nTransfer-Encoding: chunked\r\n\r\n"
    return head + b"".join(chunk_of(chunk) for chunk in chunks) + b"0\r\n" + trailers + b"\r\n"


@pytest.mark.parametrize("size", [0, 1, 65535, 65536, 256 << 10, (256 << 10) + 1, 1 << 20])
async def test_a_body_by_length_passes_whole(proxy: StartProxy, size: int) -> None:
    body = bytes(range(256)) * (size // 256) + bytes(size % 256)
    async with proxy() as running:
        await running.ask(post(body))
        request = running.live.requests[0]
        assert request.all(b"content-length") == [b"%d" % size]
        assert request.all(b"transfer-encoding") == []
        assert hashlib.sha256(request.body).digest() == hashlib.sha256(body).digest()


@pytest.mark.parametrize("size", [0, 1, 65536, (256 << 10) + 1, 1 << 20])
async def test_a_chunked_body_stays_chunked(proxy: StartProxy, size: int) -> None:
    pieces = [bytes([index % 256]) * 40_000 for index in range(size // 40_000)] + (
        [b"x" * (size % 40_000)] if size else []
    )
    async with proxy() as running:
        await running.ask(post_chunked(*pieces))
        request = running.live.requests[0]
        assert request.framing == "chunked"
        assert request.all(b"transfer-encoding") == [b"chunked"]
        assert request.body == b"".join(pieces)


async def test_a_get_may_have_a_body(proxy: StartProxy) -> None:
    async with proxy() as running:
        await running.ask(b"GET" + post(b"abc")[4:])
        assert (running.live.requests[0].method, running.live.requests[0].body) == (b"GET", b"abc")


@pytest.mark.parametrize("coding", [b"Chunked", b"CHUNKED"])
async def test_a_coding_has_no_case(proxy: StartProxy, coding: bytes) -> None:
    async with proxy() as running:
        await running.ask(post_chunked(b"abc").replace(b"chunked", coding))
        assert running.live.requests[0].body == b"abc"


@pytest.mark.parametrize("size", [3, 5000])
async def test_trailers_pass_and_chunk_extensions_do_not(proxy: StartProxy, size: int) -> None:
    raw = post_chunked(b"abc", bytes(size), trailers=b"X-Sum: 1\r\nx-other:\t\x80 \xff \r\nX-SUM:\r\n")
    raw = raw.replace(b"\r\n3\r\n", b'\r\n3;ext="v";x\r\n').replace(b"Host: h", b"Host: h\r\nTrailer: X-Sum")
    async with proxy(limits={"buffer": 1000, "capture": 8000}, shadows={"s": answer()}) as running:
        await running.ask(raw)
        request = running.live.requests[0]
        assert request.trailers == ((b"X-Sum", b"1"), (b"x-other", b"\x80 \xff"), (b"X-SUM", b""))
        assert (request.body, request.all(b"trailer")) == (b"abc" + bytes(size), [b"X-Sum"])
        assert b";" not in request.raw
        await running.records()
        (mirrored,) = running.shadows["s"].requests
        assert (mirrored.body, mirrored.trailers, mirrored.all(b"trailer")) == (request.body, (), [])


NOT_TRAILERS = [
    b"Authorization",
    b"host",
    b"Content-Length",
    b"Transfer-Encoding",
    b"TE",
    b"Via",
    b"X-Shadow-Request",
    b"X-Request-ID",
    b"If-Match",
    b"if-schedule-tag-match",
    b"x-hop",
    b"X-Removed",
    b"X-Set",
]


@pytest.mark.parametrize("size", [3, 5000])
@pytest.mark.parametrize("name", NOT_TRAILERS)
async def test_a_trailer_that_would_count_as_a_header_field_does_not_pass(
    proxy: StartProxy, name: bytes, size: int
) -> None:
    raw = post_chunked(bytes(size), trailers=name + b": evil\r\nX-T: 1\r\n")
    raw = raw.replace(b"Host: h", b"Host: h\r\nConnection: X-Hop")
    edits = {"headers": {"set": {"X-Set": "ours"}, "remove": ["X-Removed"]}}
    async with proxy(limits={"buffer": 1000, "capture": 8000}, live_options=edits) as running:
        await running.ask(raw)
        request = running.live.requests[0]
        assert (request.body, request.trailers) == (bytes(size), ((b"X-T", b"1"),))
        assert b"evil" not in request.raw


async def test_trailers_are_sent_again_with_a_request_that_met_a_closing_connection(proxy: StartProxy) -> None:
    raw = b"GET" + post_chunked(b"abc", trailers=b"X-Sum: 1\r\n")[4:]

    async def script(peer: Peer) -> None:
        if await peer.request() is not None:
            await peer.send(answer())
            await peer.request()  # and it is closed, unanswered

    async with proxy(script) as running:
        for _ in range(2):
            assert (await running.ask(raw)).status == 200
        assert [request.trailers for request in running.live.requests] == [((b"X-Sum", b"1"),)] * 3


@pytest.mark.parametrize("line", [b"TE: trailers", b"te: gzip;q=0.5, Trailers", b"TE: deflate\r\nTE: trailers"])
async def test_a_caller_that_takes_trailers_has_live_asked_for_them(proxy: StartProxy, line: bytes) -> None:
    async with proxy(shadows={"s": answer()}) as running:
        await running.ask(get(b"/", b"Connection: TE", line))
        request = running.live.requests[0]
        assert (request.all(b"te"), request.all(b"connection")) == ([b"trailers"], [])
        await running.records()
        (mirrored,) = running.shadows["s"].requests
        assert mirrored.all(b"te") == []


async def test_a_body_longer_than_the_buffer_is_streamed_before_it_is_whole(proxy: StartProxy) -> None:
    async with proxy(limits={"buffer": 1000, "capture": 2000}) as running, await running.caller() as caller:
        await caller.send(post(bytes(5000))[:-1])
        live = await running.live.connection()
        await live.wait_received(4999)
        await caller.send(b"\x00")
        assert (await caller.answer()).body == b"ok"
        assert running.live.requests[0].body == bytes(5000)


async def test_live_is_not_dialled_before_a_short_body_is_whole(proxy: StartProxy) -> None:
    async with proxy() as running, await running.caller() as caller:
        await caller.send(*cut(post(b"abcdef")[:-1], range(0, 1000, 7)))
        await asyncio.sleep(0.02)
        assert running.live.connections == []
        await caller.send(b"f")
        assert (await caller.answer()).body == b"ok"


# Where it goes: Host, and the forms of a target.


@pytest.mark.parametrize(
    ("host", "expected"),
    [("upstream", None), ("preserve", b"Caller.example:81"), ("model.internal", b"model.internal")],
)
async def test_the_host_is_upstreams_the_callers_or_a_literal(
    proxy: StartProxy, host: str, expected: bytes | None
) -> None:
    async with proxy(live_options={"host": host}) as running:
        await running.ask(b"GET / HTTP/1.1\r\nA: 1\r\nhOST: Caller.example:81\r\nB: 2\r\n\r\n")
        if expected is None:
            expected = b"127.0.0.1:%d" % running.live.port
        assert passed(running.live.requests[0]) == ((b"A", b"1"), (b"hOST", expected), (b"B", b"2"))


@pytest.mark.parametrize(
    ("target", "sent"),
    [
        (b"http://elsewhere.example/p?q", b"/p?q"),
        (b"HTTPS://elsewhere.example:1/p", b"/p"),
        (b"http://elsewhere.example", b"/"),
        (b"http://elsewhere.example?q", b"/?q"),
    ],
)
async def test_only_the_path_of_an_absolute_target_passes(proxy: StartProxy, target: bytes, sent: bytes) -> None:
    async with proxy() as running:
        await running.ask(get(target))
        assert running.live.requests[0].target == sent
        assert running.live.requests[0].all(b"host") == [b"127.0.0.1:%d" % running.live.port]


async def test_options_for_the_whole_server_pass(proxy: StartProxy) -> None:
    async with proxy(live_options={}) as running:
        await running.ask(b"OPTIONS * HTTP/1.1\r\nHost: h\r\n\r\n")
        assert running.live.requests[0].start == b"OPTIONS * HTTP/1.1"


async def test_a_base_path_goes_before_the_target(proxy: StartProxy) -> None:
    async with Origin() as live, proxy(live, live_options={"url": f"{live.url}/base/v1/"}) as running:
        await running.ask(get(b"/../p//?q"))
        assert live.requests[0].target == b"/base/v1/../p//?q"


async def test_live_may_speak_tls(proxy: StartProxy, tmp_path_factory: pytest.TempPathFactory) -> None:
    authority, ca = trustme.CA(), tmp_path_factory.mktemp("tls") / "ca.pem"
    authority.cert_pem.write_to_path(ca)
    server = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    authority.issue_cert("127.0.0.1").configure_cert(server)
    async with Origin(tls=server) as live, proxy(live, live_options={"tls": {"ca": str(ca)}}) as running:
        assert (await running.ask(post(b"abc"))).body == b"ok"
        assert live.requests[0].body == b"abc"


# HTTP/1.0.


async def test_http_1_0_without_a_host_passes_as_http_1_1_with_one(proxy: StartProxy) -> None:
    async with proxy() as running, await running.caller() as caller:
        reply = await caller.ask(b"GET /p HTTP/1.0\r\nA: 1\r\n\r\n")
        assert reply.body == b"ok"
        request = running.live.requests[0]
        assert request.start == b"GET /p HTTP/1.1"
        assert sorted(passed(request)) == [(b"A", b"1"), (b"Host", b"127.0.0.1:%d" % running.live.port)]
        await caller.wait_ended()


async def test_http_1_0_with_a_host_may_have_it_preserved(proxy: StartProxy) -> None:
    async with proxy(live_options={"host": "preserve"}) as running:
        await running.ask(b"GET /p HTTP/1.0\r\nHost: mine\r\n\r\n")
        assert running.live.requests[0].all(b"host") == [b"mine"]


async def test_http_1_0_may_keep_its_connection(proxy: StartProxy) -> None:
    async with proxy() as running, await running.caller() as caller:
        for _ in range(2):
            reply = await caller.ask(b"GET /p HTTP/1.0\r\nConnection: Keep-Alive\r\n\r\n")
            assert [value.lower() for value in reply.all(b"connection")] == [b"keep-alive"]
        assert len(running.live.requests) == 2


# Expect, pipelining, Upgrade.


async def test_a_caller_that_expects_100_continue_gets_it_from_the_proxy(proxy: StartProxy) -> None:
    async with proxy() as running, await running.caller() as caller:
        raw = post(b"abc", b"Expect: 100-continue")
        await caller.send(raw[:-3])
        assert (await caller.answer()).status == 100
        await caller.send(raw[-3:])
        assert (await caller.answer()).body == b"ok"
        assert running.live.requests[0].body == b"abc"


async def test_a_caller_that_does_not_wait_for_100_continue_is_answered_once(proxy: StartProxy) -> None:
    async with proxy() as running, await running.caller() as caller:
        await caller.send(post(b"abc", b"Expect: 100-continue"))
        statuses = [(await caller.answer()).status]
        if statuses == [100]:
            statuses.append((await caller.answer()).status)
        assert statuses in ([200], [100, 200])
        assert (await caller.ask(get())).status == 200


@pytest.mark.parametrize("raw", [post(b"", b"Expect: 100-continue"), b"GET" + post(b"", b"Expect: 100-continue")[4:]])
async def test_no_100_continue_is_sent_for_a_request_without_a_body(proxy: StartProxy, raw: bytes) -> None:
    async with proxy() as running:
        assert (await running.ask(raw)).status == 200


async def test_http_1_0_never_gets_100_continue(proxy: StartProxy) -> None:
    async with proxy() as running, await running.caller() as caller:
        raw = post(b"abc", b"Expect: 100-continue").replace(b"HTTP/1.1", b"HTTP/1.0")
        await caller.send(raw[:-3])
        await asyncio.sleep(0.01)
        assert caller.received == b""
        await caller.send(raw[-3:])
        assert (await caller.answer()).status == 200


async def echo_target(peer: Peer) -> None:
    while (request := await peer.request()) is not None:
        await peer.send(answer(request.target + b" " + request.body))


async def test_pipelined_requests_are_answered_in_order(proxy: StartProxy) -> None:
    gates = {b"/0": asyncio.Event(), b"/1": asyncio.Event()}

    async def script(peer: Peer) -> None:
        while (request := await peer.request()) is not None:
            if request.target in gates:
                await gates[request.target].wait()
            await peer.send(answer(request.target))

    async with proxy(script) as running, await running.caller() as caller:
        await caller.send(b"".join(get(b"/%d" % index) for index in range(5)))
        await asyncio.sleep(0.01)
        assert caller.received == b""
        gates[b"/1"].set()
        gates[b"/0"].set()
        assert [(await caller.answer()).body for _ in range(5)] == [b"/%d" % index for index in range(5)]


@pytest.mark.parametrize(
    "first", [post(b"GET /evil HTTP/1.1\r\nHost: h\r\n\r\n"), post_chunked(b"0\r\n\r\n", b"GET /")]
)
async def test_a_body_that_looks_like_a_request_is_a_body(proxy: StartProxy, first: bytes) -> None:
    async with proxy(echo_target) as running, await running.caller() as caller:
        await caller.send(first + get(b"/next"))
        assert (await caller.answer()).body.startswith(b"/p ")
        assert (await caller.answer()).body == b"/next "
        assert len(running.live.requests) == 2


UPGRADES = {
    "by length": post(b"hello", b"Connection: Upgrade, HTTP2-Settings", b"Upgrade: h2c", b"HTTP2-Settings: AAMAAABk"),
    "chunked": post_chunked(b"hel", b"lo").replace(b"Host: h", b"Host: h\r\nConnection: Upgrade\r\nUpgrade: h2c"),
}


@pytest.mark.parametrize("pieces", ["at once", "head first", "byte by byte"])
@pytest.mark.parametrize("framing", UPGRADES)
async def test_an_offer_to_upgrade_to_h2c_is_declined_and_its_body_kept(
    proxy: StartProxy, framing: str, pieces: str
) -> None:
    raw = UPGRADES[framing]
    head = raw.index(b"\r\n\r\n") + 4
    cuts = {"at once": [], "head first": [head], "byte by byte": list(range(len(raw)))}[pieces]
    async with proxy(echo_target) as running, await running.caller() as caller:
        await caller.send(*cut(raw, cuts), get(b"/next"))
        assert (await caller.answer()).body == b"/p hello"
        assert (await caller.answer()).body == b"/next "
        first, second = running.live.requests
        assert (first.method, first.body, second.target) == (b"POST", b"hello", b"/next")
        assert not {name.lower() for name, _ in first.fields} & {b"upgrade", b"connection", b"http2-settings"}


async def test_a_caller_rejected_before_100_continue_is_closed_as_it_may_send_or_not(proxy: StartProxy) -> None:
    async with proxy() as running, await running.caller() as caller:
        loop = b"Via: " + b", ".join([b"1.1 shadowproxy"] * 17)
        await caller.send(post(b"abc", b"Expect: 100-continue", loop)[:-3])
        reply = await caller.answer()
        assert (reply.status, reply.all(b"connection")) == (508, [b"close"])
        await caller.send(b"GET")
        assert await caller.rest() == b""


@pytest.mark.parametrize("line_breaks", [b"\r\n", b"\r\n\r\n"])
async def test_line_breaks_before_a_request_are_passed_over(proxy: StartProxy, line_breaks: bytes) -> None:
    async with proxy() as running, await running.caller() as caller:
        assert (await caller.ask(line_breaks + get())).status == 200
        assert (await caller.ask(line_breaks + get())).status == 200
        assert all(request.raw.startswith(b"GET ") for request in running.live.requests)


@pytest.mark.parametrize("raw", [get(b"/p?q", b"A: 1"), post(b"hello"), post_chunked(b"hello", b"world")])
async def test_how_a_request_is_cut_into_packets_does_not_matter(proxy: StartProxy, raw: bytes) -> None:
    async with proxy() as running, await running.caller() as caller:
        await caller.send(*cut(raw, range(len(raw))))
        assert (await caller.answer(raw.split(b" ")[0])).status == 200
        whole = await running.ask(raw)
        assert whole.status == 200
        one, other = running.live.requests
        assert (one.start, passed(one), one.body) == (other.start, passed(other), other.body)


async def test_a_request_id_that_connection_names_reaches_live_all_the_same(proxy: StartProxy) -> None:
    async with proxy() as running, await running.caller() as caller:
        assert (await caller.ask(get(b"/", b"Connection: X-Request-ID", b"X-Request-ID: mine"))).status == 200
        assert running.live.requests[0].all(b"x-request-id") == [b"mine"]
