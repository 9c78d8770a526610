"""Peers that speak something else, or HTTP in odd lines: read where there is one way to read it, else named."""

import json
import ssl

import pytest
from conftest import StartProxy
from fakes import CutOff, Origin, Peer, Script, answer, chunk_of, cut

from shadowproxy.exchange import Outcome
from shadowproxy.serve.http1.framing import FramingError
from shadowproxy.serve.http1.response_head import take_response_head

GET = b"GET / HTTP/1.1\r\nHost: h\r\n\r\n"
BARE_HEAD = b"HTTP/1.1 200 OK\nX-A: 1\nx-a:  2 \n"


def cutting(raw: bytes, cuts: range) -> Script:
    """Answer each request with `raw`, cut at these places, and close."""

    async def script(peer: Peer) -> None:
        if await peer.request() is not None:
            await peer.send(*cut(raw, cuts))

    return script


BARE = {
    "by length": BARE_HEAD + b"Content-Length: 7\n\na\n\nb\r\n\r",
    "until close": BARE_HEAD + b"\na\n\nb\r\n\r",
    "chunked": BARE_HEAD + b"Transfer-Encoding: chunked\n\n" + chunk_of(b"a\n\nb\r\n\r") + b"0\r\n\r\n",
    "after an interim one": b"HTTP/1.1 100 Continue\n\n" + BARE_HEAD + b"Content-Length: 7\n\na\n\nb\r\n\r",
    "after an interim one in CRLF": b"HTTP/1.1 100 Continue\r\n\r\n" + BARE_HEAD + b"Content-Length: 7\n\na\n\nb\r\n\r",
}


@pytest.mark.parametrize("cuts", [range(0), range(200)])
@pytest.mark.parametrize("name", BARE)
async def test_a_head_in_bare_lf_is_read(proxy: StartProxy, name: str, cuts: range) -> None:
    async with proxy(cutting(BARE[name], cuts), shadows={"s": cutting(BARE[name], cuts)}) as running:
        reply = await running.ask(GET)
        assert (reply.status, reply.all(b"x-a"), reply.body) == (200, [b"1", b"2"], b"a\n\nb\r\n\r")
        (entry,) = await running.records()
        assert entry.shadows["s"].outcome is Outcome.OK


async def test_a_connection_that_carried_a_head_in_bare_lf_is_not_used_again(proxy: StartProxy) -> None:
    async def script(peer: Peer) -> None:
        while await peer.request() is not None:
            await peer.send(b"HTTP/1.1 200 OK\nContent-Length: 2\n\nok")

    async with proxy(script) as running, await running.caller() as caller:
        for _ in range(2):
            assert (await caller.ask(GET)).body == b"ok"
        assert len(running.live.connections) == 2


async def test_left_over_bytes_behind_a_head_in_bare_lf_reach_nobody(proxy: StartProxy) -> None:
    raw = b"HTTP/1.1 200 OK\nContent-Length: 2\n\nok" + answer(b"EVIL")
    async with proxy(raw) as running, await running.caller() as caller:
        for _ in range(2):
            assert (await caller.ask(GET)).body == b"ok"
        assert b"EVIL" not in caller.received


H2_SETTINGS = b"\0\0\6\4\0\0\0\0\0\0\3\0\0\0\x64"
H2_GOAWAY = b"\0\0\x08\7\0\0\0\0\0\0\0\0\0\0\0\0\1"
NAMED = {
    "mixed lines": (b"HTTP/1.1 200 OK\nX: 1\r\nContent-Length: 0\r\n\r\n", "lines that end with a bare LF and lines"),
    "mixed lines, whole": (b"HTTP/1.1 200 OK\r\nX: 1\nContent-Length: 0\r\n\r\n", "bare LF"),
    "a TLS alert": (b"\x15\x03\x03\0\2\2\x0a", "it answers in TLS"),
    "a TLS handshake": (b"\x16\x03\x03\0\x40" + bytes(64), "it answers in TLS"),
    "HTTP/2 settings": (H2_SETTINGS, "it answers in HTTP/2"),
    "HTTP/2 goodbye": (H2_GOAWAY, "it answers in HTTP/2"),
    "an old mail server": (b"220 mail.example ESMTP\r\n", "malformed status line"),
    "zeroes": (bytes(20), "malformed status line"),
}


@pytest.mark.parametrize("name", NAMED)
async def test_what_an_endpoint_answers_instead_of_http_is_named(proxy: StartProxy, name: str) -> None:
    raw, words = NAMED[name]

    async def script(peer: Peer) -> None:
        await peer.request()
        await peer.send(raw)
        await peer.wait_ended()

    async with proxy(script, shadows={"s": script}) as running:
        reply = await running.ask(GET)
        assert (reply.status, json.loads(reply.body)["error"]) == (502, "http_protocol_error")
        assert words in json.loads(reply.body)["detail"]
        (entry,) = await running.records()
        for leg in (entry.live, entry.shadows["s"]):
            assert (leg.outcome, words in (leg.error or "")) == (Outcome.PROTOCOL_ERROR, True)


async def test_a_chunk_size_in_bare_lf_is_named_and_broken_off(proxy: StartProxy) -> None:
    async with proxy(b"HTTP/1.1 200 OK\nTransfer-Encoding: chunked\n\n5\nhello\n0\n\n") as running:
        async with await running.caller() as caller:
            await caller.send(GET)
            with pytest.raises(CutOff):
                await caller.answer()
        (entry,) = await running.records()
        assert (entry.live.outcome, "bare LF" in (entry.live.error or "")) == (Outcome.PROTOCOL_ERROR, True)


async def plain(peer: Peer) -> None:
    await peer.wait_received(1)
    await peer.send(b"HTTP/1.1 400 Bad Request\r\nContent-Length: 0\r\n\r\n")


async def only_http_2(peer: Peer) -> None:
    await peer.wait_received(1)
    await peer.send(b"\x15\x03\x01\0\2\2\x78")  # a fatal alert: no_application_protocol


@pytest.mark.parametrize(
    ("script", "words"),
    [(plain, "has to begin with http://"), (only_http_2, "it does not speak HTTP/1.1, only HTTP/2")],
)
async def test_a_handshake_with_a_server_that_speaks_something_else_says_what(
    proxy: StartProxy, script: Script, words: str
) -> None:
    async with Origin(script) as live:
        url = live.url.replace("http://", "https://")
        async with proxy(live, live_options={"url": url}) as running:
            reply = await running.ask(GET)
            assert (reply.status, json.loads(reply.body)["error"]) == (502, "tls_protocol_error")
            assert words in json.loads(reply.body)["detail"]


def client_hello() -> bytes:
    context = ssl.create_default_context()
    incoming, outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
    with pytest.raises(ssl.SSLWantReadError):
        context.wrap_bio(incoming, outgoing, server_hostname="h").do_handshake()
    return outgoing.read()


FOREIGN = {
    "TLS": (client_hello(), 400, "TLS was sent to this port"),
    "HTTP/2": (b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n" + H2_SETTINGS, 505, "gRPC"),
    "PROXY protocol, version 1": (b"PROXY TCP4 192.0.2.1 192.0.2.2 1 2\r\n" + GET, 400, "PROXY protocol"),
    "PROXY protocol, version 2": (b"\r\n\r\n\0\r\nQUIT\n\x21\x11\0\x0c" + bytes(12) + GET, 400, "PROXY protocol"),
}


@pytest.mark.parametrize("name", FOREIGN)
async def test_what_a_caller_sends_instead_of_http_is_named(
    proxy: StartProxy, name: str, caplog: pytest.LogCaptureFixture
) -> None:
    raw, status, words = FOREIGN[name]
    async with proxy() as running, await running.caller() as caller:
        await caller.send(raw)
        reply = await caller.answer()
        assert (reply.status, reply.all(b"connection")) == (status, [b"close"])
        assert words in json.loads(reply.body)["detail"]
        assert running.live.connections == []
    assert any(words in entry.getMessage() for entry in caplog.records)


@pytest.mark.parametrize("name", BARE)
def test_a_head_in_bare_lf_ends_at_one_place_however_it_is_cut(name: str) -> None:
    raw = BARE[name]
    whole = take_response_head(raw, "GET")
    assert whole is not None
    size = len(raw) - len(whole[1])
    for length in range(size):
        assert take_response_head(raw[:length], "GET", max(0, length - 1)) is None
    again = take_response_head(raw[:size], "GET", size - 1)
    assert again is not None
    assert (again[0].fields, again[1]) == (whole[0].fields, b"")


@pytest.mark.parametrize("checked", [0, 16, 30])
def test_a_wrong_byte_is_found_whatever_was_checked_before(checked: int) -> None:
    with pytest.raises(FramingError):
        take_response_head(b"HTTP/1.1 200 OK\nX-Field: value\n\x00", "GET", checked)
