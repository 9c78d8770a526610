"""Endpoints behind an HTTP proxy: CONNECT for https, whole URLs for http, and what a proxy may refuse or break."""

import asyncio
import contextlib
import json
import re
import socket
import ssl
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any

import pytest
import trustme
import uvloop
from conftest import StartProxy
from fakes import NameServer, Origin, answer
from program import PATIENCE, Program

from shadowproxy import config
from shadowproxy.check import examine
from shadowproxy.check.finding import Level
from shadowproxy.check.screen import lines
from shadowproxy.config import ConfigError
from shadowproxy.exchange import Outcome
from shadowproxy.serve.upstreams.errors import ConnectError, ConnectTimeout
from shadowproxy.serve.upstreams.pool import Pool, Statistics
from shadowproxy.serve.upstreams.request import OutgoingRequest
from shadowproxy.serve.upstreams.response import ResponseStream
from shadowproxy.serve.upstreams.through import ForwardProxy, read_answer

GET = b"GET /a?b=1 HTTP/1.1\r\nHost: caller\r\nProxy-Authorization: Basic Y2FsbGVyOnB3\r\n\r\n"
OPENED = b"HTTP/1.1 200 Connection established\r\n\r\n"
PASSWORD = "p4ss/w@rd:x"
BASIC = b"Basic dXNlcjpwNHNzL3dAcmQ6eA=="  # user:p4ss/w@rd:x

LOOPS = [pytest.param(asyncio.new_event_loop, id="asyncio"), pytest.param(uvloop.new_event_loop, id="uvloop")]


class Relay:
    """A proxy that opens tunnels to `target`, wherever it is asked to go. Use as `async with`.

    `reply` is sent instead of a tunnel. `silent` sends nothing. `heads` are the requests that it got.
    """

    def __init__(self, target: int, *, reply: bytes = OPENED, silent: bool = False, pieces: bool = False) -> None:
        self.heads: list[bytes] = []
        self._target, self._reply, self._silent, self._pieces = target, reply, silent, pieces
        self._tasks: set[asyncio.Task[None]] = set()
        self.closed = asyncio.Event()  # some connection to it was

    async def __aenter__(self) -> "Relay":
        self._server = await asyncio.start_server(self._serve, "127.0.0.1", 0)
        self.port: int = self._server.sockets[0].getsockname()[1]
        return self

    async def __aexit__(self, *_: object) -> None:
        self._server.close()
        for task in list(self._tasks):
            task.cancel()
        if self._tasks:
            await asyncio.wait(self._tasks)

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        self._tasks.add(task)
        writers = [writer]
        try:
            self.heads.append(await reader.readuntil(b"\r\n\r\n"))
            if self._silent:
                await reader.read()
                return
            for piece in (
                [self._reply[at : at + 1] for at in range(len(self._reply))] if self._pieces else [self._reply]
            ):
                writer.write(piece)
                await asyncio.sleep(0)
            if b" 200 " not in self._reply or not self._reply.endswith(b"\r\n\r\n"):
                await reader.read()
                return
            there, back = await asyncio.open_connection("127.0.0.1", self._target)
            writers.append(back)
            await asyncio.gather(_copy(reader, back), _copy(there, writer))
        except (OSError, asyncio.IncompleteReadError, asyncio.CancelledError):
            pass
        finally:
            for each in writers:
                each.close()
            self.closed.set()
            self._tasks.discard(task)


async def _copy(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    with contextlib.suppress(OSError):
        while data := await reader.read(65536):
            writer.write(data)
        writer.write_eof()


@pytest.fixture
def authority(tmp_path: Path) -> trustme.CA:
    made = trustme.CA()
    made.cert_pem.write_to_path(str(tmp_path / "ca.pem"))
    return made


@contextlib.asynccontextmanager
async def secure(authority: trustme.CA, body: bytes = b"1") -> AsyncIterator[Origin]:
    """An https origin that calls itself live.test, a name that only a proxy can resolve."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    authority.issue_cert("live.test").configure_cert(context)
    async with Origin(answer(body), tls=context) as origin:
        yield origin


def through(relay: str, tmp_path: Path) -> dict[str, Any]:
    return {"url": "https://live.test", "proxy": relay, "tls": {"ca": str(tmp_path / "ca.pem")}}


@pytest.mark.parametrize("pieces", [False, True])
async def test_an_https_endpoint_is_reached_through_a_tunnel_and_named_by_nobody_but_the_proxy(
    proxy: StartProxy, tmp_path: Path, authority: trustme.CA, pieces: bool
) -> None:
    async with secure(authority) as live, Relay(live.port, pieces=pieces) as relay:
        options = through(relay.url, tmp_path)
        async with proxy(live_options=options, shadows={"s": answer(b"1")}, shadow_options=options) as running:
            for _ in range(2):
                assert (await running.ask(GET)).body == b"1"
            records = await running.records()
        assert relay.heads[0] == b"CONNECT live.test:443 HTTP/1.1\r\nHost: live.test:443\r\n\r\n"
        assert [each.shadows["s"].outcome for each in records] == [Outcome.OK] * 2
        assert len(live.requests) == 4
        assert {request.start for request in live.requests} == {b"GET /a?b=1 HTTP/1.1"}


async def test_an_http_endpoint_is_asked_for_by_its_whole_url(proxy: StartProxy) -> None:
    async with Origin(answer(b"1")) as relay:
        url = f"http://user:{PASSWORD}@127.0.0.1:{relay.port}/"
        options = {"url": "http://live.test:8000/base/", "proxy": url}
        async with proxy(live_options=options) as running:
            assert (await running.ask(GET)).body == b"1"
            assert (await running.ask(b"OPTIONS * HTTP/1.1\r\nHost: h\r\n\r\n")).body == b"1"
        first, second = relay.requests
        assert first.start == b"GET http://live.test:8000/base/a?b=1 HTTP/1.1"
        assert second.start == b"OPTIONS http://live.test:8000 HTTP/1.1"
        assert first.all(b"Host") == [b"live.test:8000"]
        assert first.all(b"Proxy-Authorization") == [BASIC]


async def test_a_callers_proxy_credentials_go_to_no_proxy_of_ours(proxy: StartProxy) -> None:
    async with Origin(answer(b"1")) as relay:
        options = {"url": "http://live.test", "proxy": relay.url}
        async with proxy(live_options=options) as running:
            assert (await running.ask(GET)).body == b"1"
        assert relay.requests[0].all(b"Proxy-Authorization") == []


async def test_a_response_that_repeats_the_credentials_for_the_proxy_is_recorded_without_them(
    proxy: StartProxy,
) -> None:
    echo = answer(b'{"seen": "%b"}' % BASIC, (b"Content-Type", b"application/json"), (b"X-Seen", BASIC))
    async with Origin(echo) as relay:
        url = f"http://user:{PASSWORD}@127.0.0.1:{relay.port}"
        async with proxy(live_options={"url": "http://live.test", "proxy": url}) as running:
            assert BASIC in (await running.ask(GET)).body  # the caller gets live's bytes
            assert len(await running.records()) == 1
        written = "".join(each.read_text() for each in running.log.glob("*.jsonl"))
        assert "seen" in written
        assert BASIC.removeprefix(b"Basic ").decode() not in written


@pytest.mark.parametrize(
    ("reply", "why"),
    [
        (b"HTTP/1.1 407 No\r\nProxy-Authenticate: Basic\r\n\r\n", "the proxy rejects the credentials (407)"),
        (b"HTTP/1.1 403 user:secret\r\nContent-Length: 0\r\n\r\n", "the proxy answers CONNECT with 403 Forbidden"),
        (b"HTTP/1.0 599 x\r\n\r\n", "the proxy answers CONNECT with 599"),
        (b"SSH-2.0-x\r\n", "the proxy does not answer CONNECT with HTTP/1.1"),
        (b"HTTP/1.1 abc\r\n\r\n", "the proxy does not answer CONNECT with HTTP/1.1"),
        (b"HTTP/1.1 200 OK\r\nX: " + b"x" * 70_000, "the proxy's answer to CONNECT has no end"),
        (OPENED + b"!", "the proxy sent bytes of its own into the tunnel"),
    ],
)
async def test_what_a_proxy_refuses_or_breaks_is_a_connect_error_that_says_so(
    proxy: StartProxy, tmp_path: Path, authority: trustme.CA, reply: bytes, why: str, caplog: pytest.LogCaptureFixture
) -> None:
    async with secure(authority) as live, Relay(live.port, reply=reply) as relay:
        options = through(relay.url.replace("http://", f"http://user:{PASSWORD}@"), tmp_path)
        async with proxy(answer(b"1"), shadows={"s": answer(b"1")}, shadow_options=options) as running:
            assert (await running.ask(GET)).body == b"1"
            await asyncio.wait_for(relay.closed.wait(), PATIENCE)
            (record,) = await running.records()
        leg = record.shadows["s"]
        assert (leg.outcome, leg.error) == (Outcome.CONNECT_ERROR, why)
        assert b"\r\nProxy-Authorization: " + BASIC + b"\r\n" in relay.heads[0]
        everything = caplog.text + "".join(each.read_text() for each in running.log.glob("*.jsonl"))
        assert PASSWORD not in everything
        assert BASIC.decode() not in everything


async def test_a_407_from_a_proxy_is_no_answer_of_live(proxy: StartProxy) -> None:
    refusing = answer(b"log in", (b"Proxy-Authenticate", b"Basic")).replace(b"200 OK", b"407 No")
    async with Origin(refusing) as relay:
        async with proxy(live_options={"url": "http://live.test", "proxy": relay.url}) as running:
            got = await running.ask(GET)
            (record,) = await running.records()
        assert got.status == 502
        assert b"Proxy-Authenticate" not in dict(got.fields)
        assert (record.live.outcome, record.live.error) == (
            Outcome.CONNECT_ERROR,
            "the proxy requires credentials, or rejects those that it was sent (407)",
        )
    async with proxy(refusing) as running:  # of a live that no proxy is before, it is an answer like any other
        assert (await running.ask(GET)).status == 407


def on_both_loops(test: Callable[[], Any]) -> Any:
    def run(loop: Callable[[], asyncio.AbstractEventLoop]) -> None:
        with asyncio.Runner(loop_factory=loop) as runner:
            runner.run(test())

    run.__name__ = test.__name__
    return pytest.mark.parametrize("loop", LOOPS)(run)


async def _ask(pool: Pool) -> bytes:
    answering = ResponseStream(pool.loop)
    request = OutgoingRequest("GET", b"GET / HTTP/1.1\r\nHost: h\r\n\r\n", b"", chunked=False, silence=5.0)
    pool.send(answering, request)
    await answering.wait_head()
    return b"".join([chunk async for chunk in answering])


@on_both_loops
async def test_a_tunnel_carries_many_requests_over_one_connection() -> None:
    authority = trustme.CA()
    context = ssl.create_default_context()
    authority.configure_trust(context)
    async with secure(authority) as live, Relay(live.port) as relay:
        way = ForwardProxy("127.0.0.1", relay.port)
        async with Pool("live.test", 443, tls=context, proxy=way) as pool:
            for _ in range(3):
                assert await _ask(pool) == b"1"
            assert len(relay.heads) == 1


@on_both_loops
async def test_a_proxy_that_is_silent_or_closes_leaves_nothing_open() -> None:
    context = ssl.create_default_context()
    async with Relay(1, silent=True) as relay:
        way = ForwardProxy("127.0.0.1", relay.port)
        async with Pool("live.test", 443, tls=context, proxy=way, connect_timeout=0.05) as pool:
            with pytest.raises(ConnectTimeout, match=r"no connection within 0\.05 s"):
                await _ask(pool)
            assert pool.statistics() == Statistics(open=0, idle=0, uploads=0)
            await asyncio.wait_for(relay.closed.wait(), PATIENCE)

    async def close(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        writer.close()

    server = await asyncio.start_server(close, "127.0.0.1", 0)
    way = ForwardProxy("127.0.0.1", server.sockets[0].getsockname()[1])
    async with Pool("live.test", 443, tls=context, proxy=way) as pool:
        with pytest.raises(ConnectError, match="the proxy closed the connection instead of answering CONNECT"):
            await _ask(pool)
    server.close()


@pytest.mark.parametrize("size", [1, 3, 1000])
def test_an_answer_to_connect_is_read_in_pieces_of_any_size_beyond_interim_ones(size: int) -> None:
    whole = b"HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 200\r\nContent-Length: 5\r\n\r\n"
    received = b""
    for at in range(0, len(whole), size):
        received += whole[at : at + size]
        assert read_answer(received, authorized=False) is (received == whole)


@pytest.mark.parametrize(
    ("url", "problem"),
    [
        ("https://proxy:3128", "must begin with http://, also for an https url: TLS then goes through the proxy"),
        ("socks5://proxy:1080", "must begin with http://, also for an https url: TLS then goes through the proxy"),
        ("proxy:3128", "must begin with http://, also for an https url: TLS then goes through the proxy"),
        ("http://proxy", "needs the proxy's host and port and nothing after them, such as http://proxy:3128"),
        ("http://proxy:3128/path", "needs the proxy's host and port and nothing after them, such as http://proxy:3128"),
        ("http://proxy:0", "needs the proxy's host and port and nothing after them, such as http://proxy:3128"),
        (
            "http://secret@proxy:1",
            "needs user:password before the @, without a line break or another control character",
        ),
        (
            "http://u:secret%0a@proxy:1",
            "needs user:password before the @, without a line break or another control character",
        ),
        ("http://u%3a:secret@proxy:1", "has a colon in its user, which cannot be sent (RFC 7617)"),
        (3128, "must be a URL, such as http://proxy:3128"),
    ],
)
def test_what_is_no_proxy_is_one_line_without_a_password(url: object, problem: str) -> None:
    with pytest.raises(ConfigError) as raised:
        config.from_values({"live": {"url": "http://a", "proxy": url}})
    assert str(raised.value) == f"live.proxy: {problem}"


def test_credentials_from_the_environment_are_read_whole_and_shown_nowhere(tmp_path: Path) -> None:
    file = tmp_path / "c.yaml"
    file.write_text(
        "live: {url: http://a}\n"
        "shadows: {s: {url: http://b, proxy: 'http://user:${PW}@proxy:3128'}, t: {url: http://c, proxy: '${P}'}}\n"
        "admin: null\n"
    )
    loaded = config.load(file, {"PW": PASSWORD, "P": "http://[::1]:8"})
    assert not [line for line in config.warnings_for(loaded) if "proxy" in line]
    shown = config.shown(loaded)["shadows"]
    assert re.fullmatch(r"http://\W?\w+\W?@proxy:3128", shown["s"]["proxy"])
    assert shown["t"]["proxy"] == "http://[::1]:8"
    everything = repr(loaded) + json.dumps(config.shown(loaded))
    assert PASSWORD not in everything


def test_a_password_in_the_file_and_a_host_that_a_proxy_replaces_are_warned_of() -> None:
    made = config.from_values(
        {
            "live": {"url": "http://a", "host": "preserve", "proxy": "http://u:secret@p:1"},
            "shadows": {"s": {"url": "https://b", "host": "preserve", "proxy": "http://p:1"}},
        }
    )
    warned = [line for line in config.warnings_for(made) if "proxy" in line]
    assert warned == [
        "live.proxy is a secret written into the file: take it from the environment, ${NAME}",
        "live.host likely has no effect: an HTTP proxy sends the url's own (RFC 9112 section 3.2.2)",
    ]


async def test_check_goes_through_the_proxy_too(tmp_path: Path, authority: trustme.CA) -> None:
    def of(url: str) -> config.Config:
        return config.from_values(
            {
                "live": through(url, tmp_path), "listen": "127.0.0.1:0", "admin": None,
                "log": {"path": str(tmp_path / "log")},
            }
        )  # fmt: skip

    async def found(url: str) -> list[str]:
        findings = await asyncio.to_thread(examine, of(url))
        screen = "\n".join(lines(of(url), findings))
        assert PASSWORD not in screen
        assert f"@127.0.0.1:{relay.port}" in screen or "@" not in url
        return [f"{each.level.name} {each.words}" for each in findings.of("live")]

    async with secure(authority) as live, Relay(live.port) as relay:
        _, connected, tunnel, shaken, _, answered = await found(
            relay.url.replace("http://", f"http://user:{PASSWORD}@")
        )
        assert connected.startswith(f"OK connected to 127.0.0.1:{relay.port} in ")
        assert tunnel.startswith("OK the proxy opens a tunnel to live.test:443 in ")
        assert shaken.startswith("OK TLS 1.3 in ")
        assert answered.startswith("OK GET /: answered 200 OK")
        assert all(b"\r\nProxy-Authorization: " + BASIC in head for head in relay.heads)
    async with secure(authority) as live, Relay(live.port, reply=b"HTTP/1.1 407 x\r\n\r\n") as relay:
        assert (await found(relay.url))[-1] == "FAIL the proxy requires credentials (407)"
    with socket.create_server(("127.0.0.1", 0)) as gone:
        port = gone.getsockname()[1]
    assert (await found(f"http://127.0.0.1:{port}"))[-1] == (
        f"FAIL cannot connect: 127.0.0.1:{port}: connection refused"
    )


async def test_check_tries_a_proxys_other_address_when_one_refuses_the_tunnel_as_serve_does(
    tmp_path: Path, authority: trustme.CA, monkeypatch: pytest.MonkeyPatch
) -> None:
    server = NameServer(monkeypatch)
    busy = b"HTTP/1.1 503 x\r\n\r\n"
    async with secure(authority) as live, Relay(live.port, reply=busy) as refusing, Relay(live.port) as relay:
        server.names["proxy.test"] = [("127.0.0.1", refusing.port), ("127.0.0.1", relay.port)]
        values = {"live": through("http://proxy.test:3128", tmp_path), "log": {"path": str(tmp_path / "log")}}
        findings = await asyncio.to_thread(examine, config.from_values(values | {"admin": None}))
        _, _, connected, tunnel, shaken, *_, answered = [
            f"{each.level.name} {each.words}" for each in findings.of("live")
        ]
        assert connected.startswith("OK connected to all 2 addresses ")
        assert tunnel.startswith("OK the proxy opens a tunnel to live.test:443 in ")
        assert shaken.startswith("OK TLS 1.3 in ")
        assert answered.startswith("OK GET /: answered 200 OK")
        (warned,) = [each.words for each in findings.of("live") if each.level is Level.WARN]
        refusal = "the proxy answers CONNECT with 503 Service Unavailable"
        assert warned == f"127.0.0.1:{refusing.port}: {refusal}"


async def test_the_program_goes_through_a_proxy_and_takes_another_by_a_reload(
    tmp_path: Path, authority: trustme.CA
) -> None:
    async with secure(authority) as live, Relay(live.port) as one, Relay(live.port) as other:
        environment = {"PROXY_PASSWORD": PASSWORD}
        values = {"live": through(f"http://user:${{PROXY_PASSWORD}}@127.0.0.1:{one.port}", tmp_path)}
        async with Program(tmp_path, values, environment=environment) as program:
            assert (await program.ask(GET)).body == b"1"
            program.configure({"live": through(other.url, tmp_path)})
            await program.wait_said("configuration 2 is in force")
            assert (await program.ask(GET)).body == b"1"
            assert await program.stop() == 0
        assert (len(one.heads), len(other.heads)) == (1, 1)
        assert PASSWORD not in "".join(program.said)
