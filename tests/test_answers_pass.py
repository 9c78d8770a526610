"""An answer reaches the caller as live gave it: status, fields, body bytes, each as soon as it comes.

Promise 1 of the project, on its way back. docs/reference/transparency.md says the same in words.
"""

import asyncio
import gzip
import json

import brotli  # type: ignore[import-untyped]
import pytest
import zstandard
from conftest import Proxy, StartProxy
from fakes import CutOff, Fields, Message, Peer, Script, always, answer, chunk_of, chunked, each, then_close, then_reset

from shadowproxy.exchange import Outcome
from shadowproxy.serve.upstreams.roundtrip import MAX_INTERIM, is_flood

GET = b"GET / HTTP/1.1\r\nHost: h\r\n\r\n"
HEAD = b"HEAD / HTTP/1.1\r\nHost: h\r\n\r\n"
GET_1_0 = b"GET / HTTP/1.0\r\n\r\n"
OK = b"HTTP/1.1 200 OK\r\n"


def passed(message: Message) -> Fields:
    """The fields of an answer without the request ID, which the proxy returns."""
    return tuple((name, value) for name, value in message.fields if name.lower() != b"x-request-id")


async def test_status_fields_and_body_pass(proxy: StartProxy) -> None:
    fields = (
        (b"x-One", b"1"),
        (b"set-cookie", b"a=1; Path=/"),
        (b"x-two", b"\x80\xff \xc3\xa4"),
        (b"set-cookie", b"b=2, c; Expires=Thu, 01 Jan 1970 00:00:00 GMT"),
        (b"x-one", b""),
        (b"set-cookie", b"a=1; Path=/"),
        (b"content-type", b"application/json"),
        (b"Content-Length", b"7"),
    )
    body = b'{"a":1}'
    async with proxy(answer(body, *fields[:-1])) as running:
        reply = await running.ask(GET)
        assert (reply.status, passed(reply), reply.body) == (200, fields, body)


@pytest.mark.parametrize("status", [200, 201, 202, 206, 299, 400, 401, 404, 418, 429, 451, 499, 500, 503, 599])
async def test_every_status_passes(proxy: StartProxy, status: int) -> None:
    async with proxy(answer(b"x", status=status, reason=b"Whatever")) as running:
        reply = await running.ask(GET)
        assert (reply.status, reply.body) == (status, b"x")


@pytest.mark.parametrize("status", [301, 302, 303, 307, 308])
async def test_a_redirect_passes_and_is_not_followed(proxy: StartProxy, status: int) -> None:
    async with proxy(answer(b"", (b"Location", b"http://127.0.0.1:1/?%zz"), status=status)) as running:
        reply = await running.ask(GET)
        assert (reply.status, reply.all(b"location")) == (status, [b"http://127.0.0.1:1/?%zz"])
        assert len(running.live.requests) == 1


CODED = {
    b"gzip": gzip.compress(b"hello" * 100),
    b"br": brotli.compress(b"hello" * 100),
    b"zstd": zstandard.compress(b"hello" * 100),
    b"identity": b"hello",
    b"unheard-of": b"\x00\xff\r\n\r\n",
    b"gzip, but not really": b"no gzip at all",
}


@pytest.mark.parametrize("coding", CODED)
async def test_a_coded_body_is_not_decoded(proxy: StartProxy, coding: bytes) -> None:
    async with proxy(answer(CODED[coding], (b"Content-Encoding", coding))) as running:
        reply = await running.ask(GET)
        assert (reply.body, reply.all(b"content-encoding")) == (CODED[coding], [coding])


async def test_no_second_date_or_server_and_none_that_live_did_not_send(proxy: StartProxy) -> None:
    with_both = answer(b"", (b"Date", b"Thu, 01 Jan 1970 00:00:00 GMT"), (b"Server", b"model"))
    async with proxy(each(with_both, answer(b""))) as running:
        reply = await running.ask(GET)
        assert (reply.all(b"date"), reply.all(b"server")) == ([b"Thu, 01 Jan 1970 00:00:00 GMT"], [b"model"])
        reply = await running.ask(GET)
        assert passed(reply) == ((b"Content-Length", b"0"),)


async def test_live_may_have_a_request_id_of_its_own(proxy: StartProxy) -> None:
    async with proxy(answer(b"", (b"x-request-id", b"lives"))) as running:
        reply = await running.ask(b"GET / HTTP/1.1\r\nHost: h\r\nX-Request-ID: mine\r\n\r\n")
        assert reply.all(b"x-request-id") == [b"lives"]


async def test_a_cookie_is_never_sent_on_behalf_of_another_caller(proxy: StartProxy) -> None:
    async with proxy(answer(b"", (b"Set-Cookie", b"session=alice"))) as running:
        for _ in range(3):
            assert (await running.ask(GET)).all(b"set-cookie") == [b"session=alice"]
        assert all(request.all(b"cookie") == [] for request in running.live.requests)


@pytest.mark.parametrize(
    "lines",
    [b"Connection: X-Hop, close\r\nX-Hop: 1", b"Keep-Alive: timeout=5\r\nConnection: keep-alive", b"Connection:"],
)
async def test_fields_for_this_hop_only_do_not_pass(proxy: StartProxy, lines: bytes) -> None:
    async with proxy(OK + b"A: 1\r\n" + lines + b"\r\nB: 2\r\nContent-Length: 0\r\n\r\n") as running:
        assert passed(await running.ask(GET)) == ((b"A", b"1"), (b"B", b"2"), (b"Content-Length", b"0"))


async def test_connection_cannot_remove_an_answers_length(proxy: StartProxy) -> None:
    async with proxy(OK + b"Connection: content-length\r\nContent-Length: 2\r\n\r\nok") as running:
        reply = await running.ask(GET)
        assert (reply.body, reply.framing) == (b"ok", "length")


# Answers without a body.


async def test_head_is_answered_with_the_length_and_no_body(proxy: StartProxy) -> None:
    async with proxy(OK + b"Content-Length: 1234\r\n\r\n") as running, await running.caller() as caller:
        for _ in range(2):
            assert (await caller.ask(HEAD)).all(b"content-length") == [b"1234"]


async def test_a_connection_that_carried_head_is_not_used_again_for_a_body_may_follow(proxy: StartProxy) -> None:
    async with proxy(OK + b"Content-Length: 2\r\n\r\n") as running:
        await running.ask(HEAD)
        await running.ask(HEAD)
        assert len(running.live.connections) == 2


async def test_head_may_be_answered_chunked_without_a_chunk(proxy: StartProxy) -> None:
    async with proxy(OK + b"Transfer-Encoding: chunked\r\n\r\n") as running, await running.caller() as caller:
        for _ in range(2):
            assert (await caller.ask(HEAD)).status == 200
        await asyncio.sleep(0.005)
        assert caller.unread == b""


@pytest.mark.parametrize(
    "raw", [b"HTTP/1.1 204 No Content\r\n\r\n", b"HTTP/1.1 204 No Content\r\nContent-Length: 0\r\n\r\n"]
)
async def test_204_has_neither_a_body_nor_a_framing(proxy: StartProxy, raw: bytes) -> None:
    async with proxy(raw) as running, await running.caller() as caller:
        for _ in range(2):
            assert passed(await caller.ask(GET)) == ()


@pytest.mark.parametrize("fields", [(), ((b"content-length", b"99"), (b"etag", b'"x"'))])
async def test_304_keeps_its_length_and_the_connection(proxy: StartProxy, fields: Fields) -> None:
    lines = b"".join(b"%s: %s\r\n" % field for field in fields)
    async with proxy(b"HTTP/1.1 304 Not Modified\r\n" + lines + b"\r\n") as running, await running.caller() as caller:
        for _ in range(2):
            assert passed(await caller.ask(GET)) == fields
        assert len(running.live.connections) == 1


HINTS = b"HTTP/1.1 103 Early Hints\r\nLink: </x>\r\nlink: </y>\r\nConnection: x-hop\r\nX-Hop: 1\r\n\r\n"


async def test_interim_responses_pass_at_once_with_their_fields(proxy: StartProxy) -> None:
    gates = [asyncio.Event(), asyncio.Event()]

    async def script(peer: Peer) -> None:
        while await peer.request() is not None:
            await peer.send(b"HTTP/1.1 102 Processing\r\n\r\n")
            await gates[0].wait()
            await peer.send(HINTS[:30], HINTS[30:])
            await gates[1].wait()
            await peer.send(answer(b"final"))

    async with proxy(script) as running, await running.caller() as caller:
        for _ in range(2):
            await caller.send(GET)
            processing = await caller.answer()
            gates[0].set()
            hints = await caller.answer()
            gates[1].set()
            reply = await caller.answer()
            assert (processing.start, processing.fields) == (b"HTTP/1.1 102 Processing", ())
            assert (hints.start, hints.fields) == (
                b"HTTP/1.1 103 Early Hints",
                ((b"Link", b"</x>"), (b"link", b"</y>")),
            )
            assert (reply.status, reply.body, reply.all(b"link")) == (200, b"final", [])
            assert caller.unread == b""


async def test_lives_own_100_does_not_pass_and_http_1_0_gets_no_interim_response(proxy: StartProxy) -> None:
    async with proxy(b"HTTP/1.1 100 Continue\r\n\r\n" + answer(b"final")) as running:
        assert (await running.ask(GET)).body == b"final"
    async with proxy(HINTS + answer(b"final")) as running:
        assert (await running.ask(GET_1_0)).body == b"final"


async def test_an_interim_response_announces_no_body_to_the_caller(proxy: StartProxy) -> None:
    hints = b"HTTP/1.1 103 Early Hints\r\nContent-Length: 5\r\nLink: </x>\r\n\r\n"
    async with proxy(hints + answer(b"final")) as running, await running.caller() as caller:
        await caller.send(GET)
        assert (await caller.answer()).fields == ((b"Link", b"</x>"),)
        assert (await caller.answer()).body == b"final"


async def test_interim_responses_come_while_the_request_is_still_sent(proxy: StartProxy) -> None:
    async def script(peer: Peer) -> None:
        await peer.wait_received(1000)
        await peer.send(HINTS)
        await peer.request()
        await peer.send(answer(b"final"))

    async with proxy(script, limits={"buffer": 1000, "capture": 2000}) as running, await running.caller() as caller:
        await caller.send(b"POST / HTTP/1.1\r\nHost: h\r\nContent-Length: 3000\r\n\r\n" + bytes(2000))
        assert (await caller.answer()).status == 103
        await caller.send(bytes(1000))
        assert (await caller.answer()).body == b"final"


async def test_a_caller_that_reads_nothing_is_sent_no_more_interim_responses(proxy: StartProxy) -> None:
    hints = b"HTTP/1.1 103 Early Hints\r\nLink: " + b"a" * 60_000 + b"\r\n\r\n"
    flooded = asyncio.Event()

    async def script(peer: Peer) -> None:
        while await peer.request() is not None:
            await peer.send(*[hints] * 30)
            flooded.set()
            await peer.send(answer(b"final"))

    async with proxy(script, live_options={"timeout": "5s"}) as running:
        async with await running.caller(receive_buffer=4096) as caller:
            caller.stop_reading()
            await caller.send(GET * 6)  # answers of 11 MB, more than two kernels hold
            await asyncio.wait_for(flooded.wait(), 5)
            caller.go_on_reading()
            statuses: list[int] = []
            while statuses.count(200) < 6:
                statuses.append((await caller.answer()).status)
        assert 0 < statuses.count(103) < 6 * 30


@pytest.mark.parametrize(("count", "last"), [(MAX_INTERIM, 200), (MAX_INTERIM + 2, 502)])
async def test_a_flood_of_interim_responses_ends_in_a_502(proxy: StartProxy, count: int, last: int) -> None:
    async with proxy(HINTS * count + answer(b"final")) as running, await running.caller() as caller:
        await caller.send(GET)
        assert [(await caller.answer()).status for _ in range(MAX_INTERIM + 1)] == [103] * MAX_INTERIM + [last]


def test_one_interim_response_a_second_is_no_flood() -> None:
    assert is_flood(MAX_INTERIM + 1, 0.0)
    assert not is_flood(MAX_INTERIM + 600, 600.0)


async def test_an_interim_response_says_that_live_is_not_silent(proxy: StartProxy) -> None:
    async def script(peer: Peer) -> None:
        await peer.request()
        for _ in range(4):
            await asyncio.sleep(0.15)
            await peer.send(b"HTTP/1.1 102 Processing\r\n\r\n")
        await peer.send(answer(b"final"))

    async with proxy(script, live_options={"timeout": "400ms"}) as running, await running.caller() as caller:
        await caller.send(GET)
        assert [(await caller.answer()).status for _ in range(5)] == [102] * 4 + [200]


async def test_the_first_byte_of_an_interim_response_is_not_that_of_the_answer(proxy: StartProxy) -> None:
    async def script(peer: Peer) -> None:
        await peer.request()
        await peer.send(HINTS)
        await asyncio.sleep(0.05)
        await peer.send(answer(b"final"))

    async with proxy(script) as running, await running.caller() as caller:
        await caller.send(GET)
        assert [(await caller.answer()).status for _ in range(2)] == [103, 200]
        (entry,) = await running.records()
        assert entry.live.first_byte_ms is not None
        assert entry.live.first_byte_ms > 45


@pytest.mark.parametrize("status", [100, 103])
async def test_a_shadows_interim_responses_reach_nobody(proxy: StartProxy, status: int) -> None:
    interim = b"HTTP/1.1 %d Whatever\r\n\r\n" % status
    async with proxy(shadows={"s": interim + answer(b"final")}) as running:
        assert (await running.ask(GET)).body == b"ok"
        (entry,) = await running.records()
        assert (entry.shadows["s"].outcome, entry.shadows["s"].status) == (Outcome.OK, 200)


# Framing on its way back.


async def test_a_chunked_answer_stays_chunked(proxy: StartProxy) -> None:
    async with proxy(chunked(b"hello", b"", b"world"[:2], b"rld")) as running:
        reply = await running.ask(GET)
        assert (reply.framing, reply.all(b"content-length")) == ("chunked", [])


async def test_trailers_pass_and_chunk_extensions_do_not(proxy: StartProxy) -> None:
    announced = ((b"Trailer", b"X-Sum, X-Time"),)
    trailers = ((b"X-Sum", b"1"), (b"x-unannounced", b"\x80 \xff"), (b"X-Sum", b""))
    raw = chunked(b"hello", fields=announced, trailers=trailers).replace(b"5\r\n", b"5;x=y\r\n")
    script = each(raw, chunked(b"hello", trailers=trailers))
    async with proxy(script) as running, await running.caller() as caller:
        reply = await caller.ask(GET)
        assert (reply.body, reply.trailers, reply.all(b"trailer")) == (b"hello", trailers, [b"X-Sum, X-Time"])
        assert b";" not in reply.raw
        reply = await caller.ask(GET)
        assert (reply.body, reply.trailers, reply.all(b"trailer")) == (b"hello", trailers, [])
        assert len(running.live.connections) == 1


async def test_trailers_that_come_after_the_body_pass(proxy: StartProxy) -> None:
    gate = asyncio.Event()

    async def script(peer: Peer) -> None:
        await peer.request()
        whole = chunked(b"hello", trailers=((b"X-Sum", b"1"),))
        await peer.send(whole[:-14])
        await gate.wait()
        await peer.send(*[whole[at : at + 1] for at in range(len(whole) - 14, len(whole))])
        await peer.wait_ended()

    async with proxy(script) as running, await running.caller() as caller:
        await caller.send(GET)
        await caller.wait_received(100)
        gate.set()
        reply = await caller.answer()
        assert (reply.body, reply.trailers) == (b"hello", ((b"X-Sum", b"1"),))


BARRED = [b"Content-Length", b"Transfer-Encoding", b"Host", b"Set-Cookie", b"connection", b"TE", b"Trailer", b"Upgrade"]


@pytest.mark.parametrize("name", [*BARRED, b"Via", b"x-hop", b"if-any"])
async def test_a_trailer_that_would_count_as_a_header_field_does_not_pass(proxy: StartProxy, name: bytes) -> None:
    fields = ((b"Connection", b"keep-alive, X-Hop"), (b"X-Hop", b"1"))
    raw = chunked(b"hello", fields=fields, trailers=((name, b"5"), (b"X-Sum", b"1")))
    async with proxy(raw) as running, await running.caller() as caller:
        for _ in range(2):
            reply = await caller.ask(GET)
            assert (reply.body, reply.trailers) == (b"hello", ((b"X-Sum", b"1"),))


async def test_http_1_0_gets_no_trailers_and_no_announcement_of_them(proxy: StartProxy) -> None:
    raw = chunked(b"hello", fields=((b"Trailer", b"X-Sum"),), trailers=((b"X-Sum", b"1"),))
    async with proxy(raw) as running:
        reply = await running.ask(GET_1_0)
        assert (reply.body, reply.all(b"trailer")) == (b"hello", [])


async def test_an_answer_that_ends_with_lives_connection_is_whole_and_the_callers_connection_stays(
    proxy: StartProxy,
) -> None:
    async with proxy(then_close(OK + b"\r\nhello")) as running, await running.caller() as caller:
        for _ in range(2):
            reply = await caller.ask(GET)
            assert (reply.body, reply.framing) == (b"hello", "chunked")


@pytest.mark.parametrize(
    "script", [always(chunked(b"hello", b"world")), then_close(OK + b"\r\nhelloworld"), always(answer(b"helloworld"))]
)
@pytest.mark.parametrize("raw", [GET_1_0, GET_1_0.replace(b"\r\n\r\n", b"\r\nConnection: keep-alive\r\n\r\n")])
async def test_http_1_0_never_gets_chunks(proxy: StartProxy, script: Script, raw: bytes) -> None:
    async with proxy(script) as running, await running.caller() as caller:
        reply = await caller.ask(raw)
        assert reply.all(b"transfer-encoding") == []
        assert reply.body == b"helloworld"


async def test_head_in_http_1_0_announces_no_chunks_either(proxy: StartProxy) -> None:
    async with proxy(OK + b"Transfer-Encoding: chunked\r\n\r\n") as running:
        assert (await running.ask(HEAD.replace(b"1.1", b"1.0"))).all(b"transfer-encoding") == []


async def test_an_answer_in_http_1_0_passes(proxy: StartProxy) -> None:
    async with proxy(then_close(b"HTTP/1.0 200 OK\r\nContent-Length: 2\r\n\r\nok")) as running:
        reply = await running.ask(GET)
        assert (reply.start[:12], reply.body) == (b"HTTP/1.1 200", b"ok")


@pytest.mark.parametrize("status_line", [b"HTTP/1.1 200", b"HTTP/1.1 200 ", b"HTTP/1.1 200 Gar nicht schl\xc3\xbccht"])
async def test_any_reason_phrase_will_do(proxy: StartProxy, status_line: bytes) -> None:
    async with proxy(status_line + b"\r\nContent-Length: 2\r\n\r\nok") as running:
        assert (await running.ask(GET)).body == b"ok"


@pytest.mark.parametrize("size", [1, 65536, 1 << 20])
async def test_a_body_of_any_size_passes_whole(proxy: StartProxy, size: int) -> None:
    body = (bytes(range(251)) * (size // 251 + 1))[:size]
    async with proxy(each(answer(body), chunked(body))) as running:
        assert (await running.ask(GET)).body == body
        assert (await running.ask(GET)).body == body


EVENTS = [b"data: 1\n\n", b"data: 2\n\ndata: 3\n\n", b": ping\n\n", b"data: [DONE]\n\n"]


@pytest.mark.parametrize("framing", ["chunked", "close", "length"])
async def test_a_stream_passes_piece_by_piece_at_once(proxy: StartProxy, framing: str) -> None:
    taken = asyncio.Semaphore(0)

    async def script(peer: Peer) -> None:
        await peer.request()
        end = {
            "chunked": b"Transfer-Encoding: chunked\r\n",
            "close": b"",
            "length": b"Content-Length: %d\r\n" % len(b"".join(EVENTS)),
        }
        await peer.send(OK + b"Content-Type: text/event-stream\r\n" + end[framing] + b"\r\n")
        for event in EVENTS:
            await asyncio.wait_for(taken.acquire(), 5)
            await peer.send(chunk_of(event) if framing == "chunked" else event)
        if framing == "chunked":
            await peer.send(b"0\r\n\r\n")

    async with proxy(script) as running, await running.caller() as caller:
        await caller.send(GET)
        await caller.wait_received(1)  # the head, before there is a body
        for event in EVENTS:  # each next one is only sent when the one before is here
            seen = len(caller.received)
            taken.release()
            await caller.wait_received(seen + len(event))
            assert event in caller.received
        assert (await caller.answer()).body == b"".join(EVENTS)


# Live's answer is none: 502.

NO_ANSWERS: dict[str, bytes] = {
    "an unasked upgrade": b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: h2c\r\nConnection: Upgrade\r\n\r\n",
    "status 600": b"HTTP/1.1 600 What\r\nContent-Length: 0\r\n\r\n",
    "status 999": b"HTTP/1.1 999 What\r\nContent-Length: 0\r\n\r\n",
    "status 099": b"HTTP/1.1 099 What\r\nContent-Length: 0\r\n\r\n",
    "status 20": b"HTTP/1.1 20 What\r\nContent-Length: 0\r\n\r\n",
    "status 2000": b"HTTP/1.1 2000 What\r\nContent-Length: 0\r\n\r\n",
    "length and chunked": OK + b"Content-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
    "chunked and length": OK + b"Transfer-Encoding: chunked\r\nContent-Length: 5\r\n\r\n0\r\n\r\n",
    "differing lengths": OK + b"Content-Length: 5\r\nContent-Length: 6\r\n\r\nhello!",
    "a list of lengths": OK + b"Content-Length: 5, 5\r\n\r\nhello",
    "length +5": OK + b"Content-Length: +5\r\n\r\nhello",
    "length 0x5": OK + b"Content-Length: 0x5\r\n\r\nhello",
    "an empty length": OK + b"Content-Length:\r\n\r\n",
    "an unknown coding": OK + b"Transfer-Encoding: xchunked\r\n\r\n0\r\n\r\n",
    "gzip, chunked": OK + b"Transfer-Encoding: gzip, chunked\r\n\r\n0\r\n\r\n",
    "chunked twice": OK + b"Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
    "chunked in HTTP/1.0": b"HTTP/1.0 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
    "a folded value": OK + b"X: a\r\n b\r\nContent-Length: 0\r\n\r\n",
    "bare LF": OK + b"X: a\nContent-Length: 0\r\n\r\n",
    "bare LF, and CRLF at the end": b"HTTP/1.1 200 OK\nContent-Length: 0\r\n\r\n",
    "bare LF, and CRLF as the empty line": b"HTTP/1.1 200 OK\nContent-Length: 0\n\r\n",
    "CRLF, and bare LF from then on": b"HTTP/1.1 200 OK\r\nContent-Length: 0\n\n",
    "bare LF and two framings": b"HTTP/1.1 200 OK\nContent-Length: 0\nTransfer-Encoding: chunked\n\n",
    "bare LF and a folded value": b"HTTP/1.1 200 OK\nX: a\n b\nContent-Length: 0\n\n",
    "bare LF and a control, unfinished": b"HTTP/1.1 200 OK\nX: \x00",
    "bare LF and no status, unfinished": b"HTTP/1.1 OK\n",
    "bare LF and a head of over 64 KiB, unfinished": b"HTTP/1.1 200 OK\nX: " + b"a" * 70_000,
    "bare CR": OK + b"X: a\rb\r\nContent-Length: 0\r\n\r\n",
    "NUL in a value": OK + b"X: a\x00b\r\nContent-Length: 0\r\n\r\n",
    "space before the colon": OK + b"Content-Length : 0\r\n\r\n",
    "no colon": OK + b"X\r\n\r\n",
    "a head of over 64 KiB": OK + b"X: " + b"a" * 70_000 + b"\r\nContent-Length: 0\r\n\r\n",
    "a head of over 64 KiB, unfinished": OK + b"X: " + b"a" * 70_000,
    "over 200 fields": OK + b"X: 1\r\n" * 201 + b"Content-Length: 0\r\n\r\n",
    "HTTP/2.0": b"HTTP/2.0 200 OK\r\nContent-Length: 0\r\n\r\n",
    "ICY": b"ICY 200 OK\r\nContent-Length: 0\r\n\r\n",
    "no HTTP": b"SSH-2.0-OpenSSH_9.6\r\n",
    "a body without a head": b"<html></html>\r\n\r\n",
    "line breaks first": b"\r\n\r\n" + OK + b"Content-Length: 0\r\n\r\n",
}


def error_of(reply: Message) -> tuple[int, str]:
    """Status and reason of a response that the proxy gave instead of live."""
    told = json.loads(reply.body)
    assert told["request_id"] == reply.all(b"x-request-id")[0].decode()
    assert reply.all(b"content-type") == [b"application/json"]
    return reply.status, told["error"]


async def again(running: Proxy, raw: bytes, *, expected: int) -> None:
    """Ask once more over the connection that has had the answer before; it has to be in sync, or to be a new one."""
    assert (await running.ask(raw)).status == expected


@pytest.mark.parametrize("name", NO_ANSWERS)
async def test_an_invalid_answer_becomes_a_502_and_ends_lives_connection(proxy: StartProxy, name: str) -> None:
    async def script(peer: Peer) -> None:
        await peer.request()
        await peer.send(NO_ANSWERS[name])
        await peer.wait_ended()

    async with proxy(script) as running, await running.caller() as caller:
        assert error_of(await caller.ask(GET)) == (502, "http_protocol_error")
        await (await running.live.connection()).wait_ended()
        assert (await caller.ask(GET)).status == 502  # the caller's connection is in sync
        assert len(running.live.connections) == 2


# Broken off: the caller is never told that a body is whole when it is not.

BROKEN: dict[str, bytes] = {
    "short of its length": answer(b"hello")[:-2],
    "no byte of its length": answer(b"hello")[:-5],
    "in a chunk": chunked(b"hello")[:-9],
    "between chunks": chunked(b"hello")[:-5],
    "in the last chunk's line": chunked(b"hello")[:-3],
    "before the trailers' end": chunked(b"hello")[:-2],
    "after a trailer": chunked(b"hello", trailers=((b"X-Sum", b"1"),))[:-2],
    "too many trailers": chunked(b"hello", trailers=((b"a", b"1"),) * 201),
    "a bad chunk size": chunked(b"hello")[:-5] + b"0x3\r\nabc\r\n0\r\n\r\n",
    "a chunk longer than its size": chunked(b"hello")[:-7] + b"!\r\n0\r\n\r\n",
    "a bad last line": chunked(b"hello")[:-2] + b"\n",
}


@pytest.mark.parametrize("end", [then_close, then_reset])
@pytest.mark.parametrize("name", BROKEN)
async def test_a_broken_off_answer_is_broken_off_to_the_caller(proxy: StartProxy, name: str, end: object) -> None:
    script = then_close(BROKEN[name]) if end is then_close else then_reset(BROKEN[name])
    async with proxy(script) as running, await running.caller() as caller:
        await caller.send(GET)
        with pytest.raises(CutOff):
            await caller.answer()
        assert not caller.received.endswith(b"\r\n0\r\n\r\n")


@pytest.mark.parametrize("name", BROKEN)
async def test_a_broken_off_answer_is_a_reset_to_http_1_0_where_an_end_would_look_whole(
    proxy: StartProxy, name: str
) -> None:
    async with proxy(then_close(BROKEN[name])) as running, await running.caller() as caller:
        await caller.send(GET_1_0)
        await caller.wait_ended()
        if b"content-length" not in bytes(caller.received).lower():
            assert caller.ended == "reset"


async def test_an_answer_that_ends_with_its_connection_is_broken_off_by_a_reset(proxy: StartProxy) -> None:
    async with proxy(then_reset(OK + b"\r\nhello")) as running, await running.caller() as caller:
        await caller.send(GET)
        with pytest.raises(CutOff):
            await caller.answer()


# Left-over bytes: what comes after an answer is never the next caller's.

LEFT_OVER: dict[str, tuple[bytes, bytes]] = {
    "a second answer": (GET, answer(b"mine") + answer(b"EVIL")),
    "a second answer after chunks": (GET, chunked(b"mine") + answer(b"EVIL")),
    "a body longer than its length": (GET, answer(b"mine") + b"EVIL"),
    "one byte too many": (GET, answer(b"mine") + b"\n"),
    "HEAD answered with a body": (HEAD, OK + b"Content-Length: 60\r\n\r\n" + answer(b"EVIL")),
    "204 with a body": (GET, b"HTTP/1.1 204 No Content\r\nContent-Length: 4\r\n\r\n" + answer(b"EVIL")),
    "304 with a body": (GET, b"HTTP/1.1 304 Not Modified\r\nContent-Length: 4\r\n\r\n" + answer(b"EVIL")),
}


@pytest.mark.timing
@pytest.mark.parametrize("later", [False, True])
@pytest.mark.parametrize("name", LEFT_OVER)
async def test_left_over_bytes_never_reach_the_next_caller(proxy: StartProxy, name: str, *, later: bool) -> None:
    asked, raw = LEFT_OVER[name]
    end = raw.index(answer(b"EVIL")) if answer(b"EVIL") in raw else raw.index(b"mine") + 4
    evil_sent = asyncio.Event()

    async def script(peer: Peer) -> None:
        first = peer is (await running.live.connection(0))
        while await peer.request() is not None:
            if not first:
                await peer.send(answer(b"good"))
            elif later:  # the answer is complete, and only then comes more
                await peer.send(raw[:end])
                await evil_sent.wait()
                await peer.send(raw[end:])
            else:
                await peer.send(raw)

    async with proxy(script) as running, await running.caller() as caller, await running.caller() as other:
        assert b"EVIL" not in (await caller.ask(asked)).raw
        evil_sent.set()
        if later:
            await (await running.live.connection(0)).wait_ended(1)
        for next_caller in (other, caller):
            assert (await next_caller.ask(GET)).body == b"good"
        assert b"EVIL" not in caller.received
