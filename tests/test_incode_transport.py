"""A mirrored transport of httpx: a client gets what it would get without, and the exchange is noted.

Origins that send the bytes they are given are asked by a client with httpx's own transport, and by one with this
transport mirrored. Compared is all that the client can see, and every byte that the origin received.
"""

import asyncio
import contextlib
import functools
import gzip
import ssl
import subprocess
import sys
from collections.abc import AsyncIterator, Awaitable, Callable, Generator, Iterator
from typing import Any

import httpx
import pytest
import trustme
from fakes import CutOff, Origin, Peer, Script, answer, chunk_of, chunked, refusing_port, then_close, then_reset
from noted import Noted, Unnoting

from shadowproxy.exchange import Failure, Outcome
from shadowproxy.incode import transport

Transport: Any = transport.Transport  # for the types they are of no package: of which one shows in the first request
AsyncTransport: Any = transport.AsyncTransport
OK = b"HTTP/1.1 200 OK\r\n"


@pytest.fixture(autouse=True)
def _no_search(monkeypatch: pytest.MonkeyPatch) -> None:
    """httpcore looks for sniffio on every call, and finding out that it is not there takes most of a test's time."""
    monkeypatch.setitem(sys.modules, "sniffio", None)


FIELDS = (
    (b"x-One", b"1"),
    (b"set-cookie", b"a=1; Path=/"),
    (b"x-two", b"\x80\xff \xc3\xa4"),
    (b"set-cookie", b"b=2, c; Expires=Thu, 01 Jan 1970 00:00:00 GMT"),
    (b"x-one", b""),
    (b"content-type", b"application/json"),
)
PACKED = gzip.compress(b"hello" * 100, mtime=0)
ANSWERS: dict[str, Script | bytes] = {
    "fields in order, twice and in any letter case": answer(b'{"a":1}', *FIELDS),
    **{f"status {status}": answer(b"x", status=status) for status in (201, 301, 401, 429, 500, 503, 599)},
    "204": b"HTTP/1.1 204 No Content\r\n\r\n",
    "304": b"HTTP/1.1 304 Not Modified\r\nContent-Length: 99\r\n\r\n",
    "gzip": answer(PACKED, (b"Content-Encoding", b"gzip")),
    "no gzip at all": answer(b"no", (b"Content-Encoding", b"gzip")),
    "chunked": chunked(b"one", b"two", b"x" * 70_000),
    "trailers": chunked(b"one", trailers=((b"X-Sum", b"1"),)),
    "hints": b"HTTP/1.1 103 Early Hints\r\nLink: </x>\r\n\r\n" + answer(b"final"),
    "until the connection ends": then_close(OK + b"\r\nuntil it ends"),
    "says that it closes": then_close(answer(b"ok", (b"Connection", b"close"))),
    "closes at once": then_close(b""),
    "resets at once": then_reset(b""),
    "resets midway": then_reset(OK + b"Content-Length: 9\r\n\r\nhalf"),
    "closes midway": then_close(OK + b"Content-Length: 9\r\n\r\nhalf"),
    "closes in a chunk": then_close(OK + b"Transfer-Encoding: chunked\r\n\r\n" + chunk_of(b"one") + b"5\r\nh"),
    "no HTTP": then_close(b"SSH-2.0\r\n\r\n"),
    "a redirect": answer(b"", (b"Location", b"/elsewhere"), status=307),
    "cookies": answer(b"", (b"Set-Cookie", b"session=1")),
}  # fmt: skip


def pieces() -> Iterator[bytes]:
    yield b"one"
    yield b""
    yield b"two"


async def pieces_async() -> AsyncIterator[bytes]:
    for piece in pieces():
        yield piece


REQUESTS: dict[str, dict[str, Any]] = {
    "GET": {"method": "GET", "url": "/a%2Fb;c?q=%20&&x"},
    "JSON": {"method": "POST", "url": "/p", "json": {"a": 1}, "headers": {"X-One": "1", "x-one": "2"}},
    "pieces": {"method": "POST", "url": "/p", "content": pieces},
    "form": {"method": "PUT", "url": "/p", "data": {"a": "1"}, "files": {"f": ("n", b"data" * 1000)}},
    "HEAD": {"method": "HEAD", "url": "/"},
}


def request_of(client: httpx.Client | httpx.AsyncClient, given: dict[str, Any], url: str) -> httpx.Request:
    given = given | {"url": url + given["url"]}
    if given.get("content"):
        given["content"] = pieces() if isinstance(client, httpx.Client) else pieces_async()
    if "files" in given:  # whose boundary would be another one each time
        given["headers"] = {"Content-Type": "multipart/form-data; boundary=b"}
    return client.build_request(**given)


def shown(response: httpx.Response, raw: list[bytes], text: str | None) -> dict[str, Any]:
    return {
        "status": response.status_code,
        "fields": response.headers.raw,
        "raw": b"".join(raw),
        "text": text,
        "extensions": {key: value for key, value in response.extensions.items() if key != "network_stream"},
        "connection": type(response.extensions["network_stream"]),
        "reason": response.reason_phrase,
        "closed": response.is_closed,
        "cookies": dict(response.cookies),
        "downloaded": response.num_bytes_downloaded,
    }


@contextlib.contextmanager
def told(into: list[Any]) -> Iterator[None]:
    try:
        yield
    except Exception as error:  # noqa: BLE001 (it is compared)
        into.append((type(error), str(error), hasattr(error, "request")))


def asking(script: Script | bytes) -> list[dict[str, Any]]:
    """The requests. HEAD only for answers without a body: whether a client still sees the body of others is a race."""
    bodiless = script in (ANSWERS["204"], ANSWERS["304"])
    return [given for name, given in REQUESTS.items() if name != "HEAD" or bodiless]


def ask(transport: Any, url: str, requests: list[dict[str, Any]]) -> list[Any]:
    """What a client sees of the answers to all requests: read by piece, and read as a whole."""
    seen: list[Any] = []
    with httpx.Client(transport=transport, headers={"User-Agent": "test"}) as client:
        for given in requests:
            with told(seen):
                response = client.send(request_of(client, given, url), stream=True)
                raw = list(response.iter_raw())
                response.close()
                seen.append(shown(response, raw, None))
            with told(seen):
                response = client.send(request_of(client, given, url), follow_redirects=given["method"] == "GET")
                seen.append(shown(response, [], response.text))
                seen.append([each.status_code for each in response.history])
    return seen


async def ask_async(transport: Any, url: str, requests: list[dict[str, Any]]) -> list[Any]:
    seen: list[Any] = []
    async with httpx.AsyncClient(transport=transport, headers={"User-Agent": "test"}) as client:
        for given in requests:
            with told(seen):
                response = await client.send(request_of(client, given, url), stream=True)
                raw = [piece async for piece in response.aiter_raw()]
                await response.aclose()
                seen.append(shown(response, raw, None))
            with told(seen):
                response = await client.send(request_of(client, given, url), follow_redirects=given["method"] == "GET")
                seen.append(shown(response, [], response.text))
                seen.append([each.status_code for each in response.history])
    return seen


async def asked(make: Callable[[], Any], script: Script | bytes) -> tuple[list[Any], list[bytes], int]:
    """What the client saw, what the origin received, and over how many connections."""
    async with Origin(script) as origin:
        made = make()
        if hasattr(made, "handle_async_request"):
            seen = await ask_async(made, origin.url, asking(script))
        else:
            seen = await asyncio.to_thread(ask, made, origin.url, asking(script))
        host = b"127.0.0.1:%d" % origin.port
        return seen, [bytes(peer.received).replace(host, b"h") for peer in origin.connections], len(origin.connections)


@pytest.mark.parametrize("name", ANSWERS)
@pytest.mark.parametrize("waits", [False, True], ids=["sync", "async"])
async def test_a_client_sees_the_same_and_so_does_the_server(name: str, waits: bool) -> None:
    script = ANSWERS[name]
    mirrored: Any = AsyncTransport if waits else Transport
    expected = await asked(lambda: plain(waits), script)
    for inner in [plain(waits), None][: 2 if name == "chunked" else 1]:
        noted = Noted()
        found = await asked(functools.partial(mirrored, inner, noted.sender), script)
        assert found == expected
        assert len(noted.exchanges) == len(asking(script)) * 2 + (20 if name == "a redirect" else 0)
    assert await asked(lambda: mirrored(plain(waits), Unnoting()), script) == expected


def plain(waits: bool) -> Any:
    """httpx's own transport, which trusts all: to read which certificates are trusted takes longer than a test."""
    return httpx.AsyncHTTPTransport(verify=False) if waits else httpx.HTTPTransport(verify=False)


def handler(request: httpx.Request) -> httpx.Response:
    return httpx.Response(201, headers=[("X-A", "1"), ("content-encoding", "gzip")], content=PACKED)


def test_an_answer_that_a_transport_made_up_is_noted() -> None:
    noted = Noted()
    with httpx.Client(transport=Transport(httpx.MockTransport(handler), noted.sender)) as client:
        assert client.post("http://h/p?q", json=[1]).text == "hello" * 100
    request, reply = noted.one.request, noted.one.reply
    assert (request.method, request.target, request.body) == ("POST", b"/p?q", b"[1]")
    assert (b"Host", b"h") in request.fields
    assert (reply.status, reply.body, reply.fields[0]) == (201, PACKED, (b"X-A", b"1"))


@pytest.mark.parametrize("waits", [False, True], ids=["sync", "async"])
async def test_both_bodies_are_noted_as_they_were_sent(waits: bool) -> None:
    noted = Noted()
    transport: Any = AsyncTransport(plain(True), noted.sender) if waits else Transport(plain(False), noted.sender)
    await asked(lambda: transport, answer(PACKED, (b"Content-Encoding", b"gzip")))
    bodies = [each.request.body for each in noted.exchanges]
    assert (bodies[2], bodies[4]) == (b'{"a":1}', b"onetwo")
    assert bodies[6].startswith(b"--b\r\n")
    assert bodies[6].endswith(b"data\r\n--b--\r\n")
    assert all(each.request.unfit is None for each in noted.exchanges)
    assert [each.reply.body for each in noted.exchanges] == [PACKED] * 8
    assert (b"X-One", b"1") in noted.exchanges[2].request.fields


OUTCOMES: dict[str, tuple[Outcome, str]] = {
    "closes at once": (Outcome.PROTOCOL_ERROR, "RemoteProtocolError: Server disconnected without sending a response."),
    "resets at once": (Outcome.INCOMPLETE, "ReadError"),
    "closes midway": (Outcome.PROTOCOL_ERROR, "RemoteProtocolError: peer closed connection without sending complete"),
    "no HTTP": (Outcome.PROTOCOL_ERROR, "RemoteProtocolError: "),
}


@pytest.mark.parametrize("name", OUTCOMES)
@pytest.mark.parametrize("waits", [False, True], ids=["sync", "async"])
async def test_an_error_is_an_outcome(name: str, waits: bool) -> None:
    noted = Noted()
    transport: Any = AsyncTransport(plain(True), noted.sender) if waits else Transport(plain(False), noted.sender)
    await asked(lambda: transport, ANSWERS[name])
    end = noted.exchanges[0].end
    assert isinstance(end, Failure)
    assert end.outcome is OUTCOMES[name][0]
    assert end.error.startswith(OUTCOMES[name][1])
    if name == "closes midway":
        assert end.reply is not None
        assert end.reply.body == b"half"


def test_nobody_listens_and_nobody_answers_in_time() -> None:
    noted = Noted()
    client = httpx.Client(transport=Transport(plain(False), noted.sender))
    with client, refusing_port() as port, pytest.raises(httpx.ConnectError):
        client.get(f"http://127.0.0.1:{port}/")
    for error in (
        httpx.ReadTimeout("slow"),
        httpx.PoolTimeout("full"),
        httpx.UnsupportedProtocol("x"),
        ValueError("y"),
        KeyboardInterrupt(),
    ):
        client = httpx.Client(transport=Transport(Raising(error), noted.sender))
        with client, pytest.raises(type(error)) as found:
            client.get("http://h/")
        assert found.value is error
    expected = [
        (Outcome.CONNECT_ERROR, "ConnectError: [Errno 111] Connection refused"),
        (Outcome.TIMEOUT, "ReadTimeout: slow"),
        (Outcome.TIMEOUT, "PoolTimeout: full"),
        (Outcome.PROTOCOL_ERROR, "UnsupportedProtocol"),
        (Outcome.INCOMPLETE, "ValueError"),
        (Outcome.CALLER_LEFT, "the caller was ended by KeyboardInterrupt"),
    ]
    assert [(each.outcome, getattr(each.end, "error", "")) for each in noted.exchanges] == expected


class Raising(httpx.BaseTransport):
    def __init__(self, error: BaseException) -> None:
        self.error = error

    def handle_request(self, request: httpx.Request) -> httpx.Response:
        raise self.error


async def test_a_certificate_that_is_not_trusted_is_an_error_of_tls(tmp_path: Any) -> None:
    server = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    trustme.CA().issue_cert("127.0.0.1").configure_cert(server)
    noted = Noted()
    client = httpx.AsyncClient(transport=AsyncTransport(None, noted.sender))
    async with Origin(answer(), tls=server) as origin, client:
        with pytest.raises(httpx.ConnectError):
            await client.get(origin.url)
    assert noted.one.outcome is Outcome.TLS_ERROR


async def test_a_client_that_leaves_a_stream_has_left() -> None:
    async def script(peer: Peer) -> None:
        with contextlib.suppress(CutOff):
            await peer.request()
            await peer.send(OK + b"Transfer-Encoding: chunked\r\n\r\n" + chunk_of(b"one"))
            await peer.wait_ended()

    noted = Noted()
    async with (
        Origin(script) as origin,
        httpx.AsyncClient(transport=AsyncTransport(plain(True), noted.sender)) as client,
    ):
        async with client.stream("GET", origin.url) as response:
            async for piece in response.aiter_raw():
                assert piece == b"one"
                break
        assert noted.one.outcome is Outcome.CALLER_LEFT
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(0.05):
                await client.get(origin.url + "/cancelled")
    assert [getattr(each.end, "error", "") for each in noted.exchanges] == [
        "the caller left before the answer was complete",
        "the caller was ended by CancelledError",
    ]


def test_each_call_of_a_transport_is_an_exchange() -> None:
    answers = iter([httpx.Response(503), httpx.Response(307, headers={"Location": "/next"}), httpx.Response(200)])
    noted = Noted()
    inner = httpx.MockTransport(lambda request: next(answers))
    with httpx.Client(transport=Transport(inner, noted.sender), follow_redirects=True) as client:
        request = client.build_request("POST", "http://h/first", content=b"abc")
        assert client.send(request).status_code == 503
        assert client.send(request).status_code == 200
    assert [(each.request.target, each.reply.status, each.request.body) for each in noted.exchanges] == [
        (b"/first", 503, b"abc"),
        (b"/first", 307, b"abc"),
        (b"/next", 200, b"abc"),
    ]


def test_the_inner_transport_is_opened_and_closed_with_it() -> None:
    events: list[str] = []

    class Inner(httpx.BaseTransport):
        def __enter__(self) -> Any:
            events.append("opened")
            return self

        def __exit__(self, *given: Any) -> None:
            events.append("left")

        def close(self) -> None:
            events.append("closed")

        def handle_request(self, request: httpx.Request) -> httpx.Response:
            return handler(request)

    with httpx.Client(transport=Transport(Inner(), Noted().sender)) as client:
        client.get("http://h/")
    client = httpx.Client(transport=Transport(Inner(), Noted().sender))
    client.close()
    assert events == ["opened", "left", "closed"]
    events.clear()
    with httpx.Client(transport=Transport(None, Noted().sender)) as client, pytest.MonkeyPatch.context() as patched:
        patched.setattr(httpx, "HTTPTransport", Inner)
        client.get("http://h/")
    assert events == ["opened", "left"]
    unused = Transport(None, Noted().sender)
    with unused:
        unused.close()
    assert "mirrored" in repr(unused)


def test_a_request_is_left_as_it_was() -> None:
    noted = Noted()
    request = httpx.Request("POST", "http://h/", content=pieces())
    stream = request.stream

    def iterates(given: httpx.Request) -> httpx.Response:
        assert given is request
        assert isinstance(given.stream, httpx.SyncByteStream)
        assert list(given.stream) == [b"one", b"", b"two"]
        return httpx.Response(200)

    class Inner(httpx.BaseTransport):
        def handle_request(self, request: httpx.Request) -> httpx.Response:
            return iterates(request)

    Transport(Inner(), noted.sender).handle_request(request)
    assert noted.one.request.body == b"onetwo"
    assert request.stream is stream


def test_a_request_that_the_inner_transport_reads_stays_read() -> None:
    noted = Noted()
    request = httpx.Request("POST", "http://h/", content=pieces())
    Transport(httpx.MockTransport(handler), noted.sender).handle_request(request)  # it reads, to hand over what is read
    assert request.content == noted.one.request.body == b"onetwo"
    assert isinstance(request.stream, httpx.ByteStream)


def test_what_is_no_request_of_httpx_is_refused_only_where_a_transport_is_to_be_made() -> None:
    class Inner:
        def handle_request(self, request: Any) -> Any:
            return request

    asked = object()
    assert Transport(Inner(), Noted().sender).handle_request(asked) is asked
    with pytest.raises(TypeError, match="object is not a request or a response of httpx"):
        Transport(None, Noted().sender).handle_request(asked)


class Turns(httpx.AsyncBaseTransport):
    def __init__(self, turn: Callable[[], Awaitable[None]]) -> None:
        self.turn = turn

    async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
        await self.turn()
        return httpx.Response(200, stream=Slow(self.turn))


class Slow(httpx.AsyncByteStream):
    def __init__(self, turn: Callable[[], Awaitable[None]]) -> None:
        self.turn = turn

    async def __aiter__(self) -> AsyncIterator[bytes]:
        yield b"one"
        await self.turn()
        yield b"two"


class Turn:
    def __await__(self) -> Generator[None, None, None]:
        yield None


def test_no_event_loop_of_a_certain_kind_is_needed() -> None:
    async def turn() -> None:
        await Turn()

    async def run(transport: Any) -> bytes:
        async with transport:
            response = await transport.handle_async_request(httpx.Request("GET", "http://h/"))
            return b"".join([piece async for piece in response.stream])

    noted = Noted()
    running = run(AsyncTransport(Turns(turn), noted.sender))
    assert running.send(None) is None
    assert running.send(None) is None
    with pytest.raises(StopIteration) as found:
        running.send(None)
    assert found.value.value == noted.one.reply.body == b"onetwo"


def test_neither_package_is_imported_for_it() -> None:
    code = "import sys, shadowproxy.incode.transport; print('httpx' in sys.modules, 'httpx2' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == "False False\n"
