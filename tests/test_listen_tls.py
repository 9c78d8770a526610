"""TLS with callers: certificates that change, callers without one, and the ends of connections, over real sockets."""

import asyncio
import contextlib
import json
import socket
import ssl
from collections.abc import AsyncIterator, Callable
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import trustme
from conftest import StartProxy
from fakes import Origin, Peer, answer
from inprocess import Sidecar, StartError
from program import PATIENCE, Program
from test_metrics import samples

from shadowproxy import config
from shadowproxy.check import examine
from shadowproxy.check.screen import lines
from shadowproxy.config import ConfigError
from shadowproxy.serve.admin import metrics
from shadowproxy.serve.callers import shedding, tls
from shadowproxy.serve.callers.connection import CONNECTION
from shadowproxy.serve.sidecar import reload
from shadowproxy.serve.sidecar.reading import read_specs
from shadowproxy.serve.sidecar.specify import specify
from shadowproxy.serve.sidecar.watch import Watch

GET = b"GET /a HTTP/1.1\r\nHost: h\r\n\r\n"
LAST = b"GET /a HTTP/1.1\r\nHost: h\r\nConnection: close\r\n\r\n"


class Files:
    """A certificate for 127.0.0.1 with its key, in files, and the authority that callers trust."""

    def __init__(self, directory: Path) -> None:
        self.authority = trustme.CA()
        self.cert, self.key, self.ca = (directory / f"{name}.pem" for name in ("cert", "key", "ca"))
        self.authority.cert_pem.write_to_path(str(self.ca))
        self.issued: trustme.LeafCert
        self.issue()

    def issue(self) -> None:
        """Write another certificate and key in their places."""
        self.issued = self.authority.issue_cert("127.0.0.1")
        self.issued.cert_chain_pems[0].write_to_path(str(self.cert))
        self.issued.private_key_pem.write_to_path(str(self.key))

    @property
    def section(self) -> dict[str, str]:
        return {"cert": str(self.cert), "key": str(self.key)}

    @property
    def der(self) -> bytes:
        return ssl.PEM_cert_to_DER_cert(self.cert.read_text())

    def context(self, client: trustme.LeafCert | None = None) -> ssl.SSLContext:
        """A caller's."""
        context = ssl.create_default_context()
        self.authority.configure_trust(context)
        if client is not None:
            client.configure_cert(context)
        return context


@pytest.fixture
def files(tmp_path: Path) -> Files:
    return Files(tmp_path)


class Caller:
    """A caller with TLS of its own over a plain connection, so that each byte and each end can be seen."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, context: ssl.SSLContext) -> None:
        self.reader, self.writer = reader, writer
        self._in, self._out = ssl.MemoryBIO(), ssl.MemoryBIO()
        self.tls = context.wrap_bio(self._in, self._out, server_hostname="127.0.0.1")
        self.notified = False  # close_notify has come
        self.ended = False  # FIN has come
        self.pieces = False  # send a byte in each segment

    @classmethod
    @contextlib.asynccontextmanager
    async def to(cls, port: int, context: ssl.SSLContext, *, pieces: bool = False) -> AsyncIterator["Caller"]:
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        writer.get_extra_info("socket").setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        caller = cls(reader, writer, context)
        caller.pieces = pieces
        try:
            await caller._until_done(caller.tls.do_handshake)
            yield caller
        finally:
            writer.transport.abort()

    async def _flush(self) -> None:
        data = self._out.read()
        for at in range(len(data)) if self.pieces else ():
            self.writer.write(data[at : at + 1])
            await asyncio.sleep(0)
        if not self.pieces:
            self.writer.write(data)

    async def _until_done(self, step: Callable[[], Any]) -> Any:
        while True:
            try:
                return step()
            except ssl.SSLWantReadError:
                await self._flush()
                data = await asyncio.wait_for(self.reader.read(65536), PATIENCE)
                if data:
                    self._in.write(data)
                else:
                    self.ended = True
                    self._in.write_eof()
            finally:
                await self._flush()

    async def send(self, data: bytes) -> None:
        self.tls.write(data)
        await self._flush()

    async def receive(self, *, until: bytes | None = None) -> bytes:
        """All that comes until this, or until the end."""
        received = b""
        while until is None or not received.endswith(until):
            piece = await self._until_done(partial(self.tls.read, 65536))
            if not piece:
                self.notified = True
                break
            received += piece
        return received

    async def ask(self, raw: bytes = GET, body: bytes = b"1") -> bytes:
        await self.send(raw)
        return await self.receive(until=b"\r\n\r\n" + body)

    @property
    def shown(self) -> bytes | None:
        """The certificate that the server showed."""
        return self.tls.getpeercert(binary_form=True)


@pytest.mark.parametrize("version", [ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3])
@pytest.mark.parametrize("pieces", [False, True])
async def test_a_caller_is_served_over_tls_and_live_is_told_of_https(
    proxy: StartProxy, files: Files, version: ssl.TLSVersion, pieces: bool
) -> None:
    context = files.context()
    context.minimum_version = context.maximum_version = version
    context.set_alpn_protocols(["h2", "http/1.1"])
    async with proxy(answer(b"1"), listen_tls=files.section, forwarded=True) as running:
        async with Caller.to(running.sidecar.address[1], context, pieces=pieces) as caller:
            assert caller.tls.selected_alpn_protocol() == "http/1.1"
            for _ in range(2):
                assert (await caller.ask()).startswith(b"HTTP/1.1 200 OK\r\n")
            await caller.send(LAST)
            assert (await caller.receive()).endswith(b"\r\n\r\n1")
            assert caller.notified
        assert f"listening on https://127.0.0.1:{running.sidecar.address[1]}" in running.sidecar.describe()
        fields = dict(running.live.requests[0].fields)
        assert (fields[b"X-Forwarded-Proto"], fields[b"X-Forwarded-For"]) == (b"https", b"127.0.0.1")


async def test_a_unix_socket_beside_it_stays_plain(proxy: StartProxy, files: Files, tmp_path: Path) -> None:
    listen = ["127.0.0.1:0", f"unix:{tmp_path}/s"]
    async with proxy(answer(b"1"), listen=listen, listen_tls=files.section):
        reader, writer = await asyncio.open_unix_connection(f"{tmp_path}/s")
        writer.write(LAST)
        assert (await asyncio.wait_for(reader.read(), PATIENCE)).endswith(b"1")
        writer.close()


async def test_a_large_response_reaches_a_slow_caller_whole(proxy: StartProxy, files: Files) -> None:
    """Its end follows it, though the caller has read nothing for a while, and sends no end of its own."""
    body = bytes(range(256)) * 20_000
    async with (
        proxy(answer(body), listen_tls=files.section) as running,
        Caller.to(running.sidecar.address[1], files.context()) as caller,
    ):
        await caller.send(LAST)
        async with asyncio.timeout(PATIENCE):
            while not running.live.requests or running.live.open_connections > 1:  # noqa: ASYNC110
                await asyncio.sleep(0.01)
        received = await caller.receive()
        assert received.endswith(body)
        assert caller.notified
        assert await asyncio.wait_for(caller.reader.read(), PATIENCE) == b""  # FIN, without the caller's end


async def test_a_rejection_reaches_a_caller_that_goes_on_sending(proxy: StartProxy, files: Files) -> None:
    """Closed at once, the connection would be reset by what has not been read, and the response lost."""
    async with (
        proxy(answer(b"1"), listen_tls=files.section) as running,
        Caller.to(running.sidecar.address[1], files.context()) as caller,
    ):
        await caller.send(b"POST / HTTP/1.1\r\nHost: h\r\nContent-Length: x\r\n\r\n")
        received = await caller.receive()
        assert received.startswith(b"HTTP/1.1 400 ")
        assert caller.notified
        for _ in range(200):
            await caller.send(b"x" * 10_000)
            await caller.writer.drain()  # it is read, and raises no ConnectionResetError


async def test_a_caller_that_leaves_ends_its_request(proxy: StartProxy, files: Files) -> None:
    left = asyncio.Event()

    async def never(peer: Peer) -> None:
        await peer.request()
        await peer.wait_ended()
        left.set()

    async with proxy(never, listen_tls=files.section) as running:
        for how in ("close_notify", "fin", "reset"):
            left.clear()
            async with Caller.to(running.sidecar.address[1], files.context()) as caller:
                before = len(running.live.requests)
                await caller.send(GET)
                async with asyncio.timeout(PATIENCE):
                    while len(running.live.requests) == before:  # noqa: ASYNC110
                        await asyncio.sleep(0.001)
                if how == "close_notify":
                    with contextlib.suppress(ssl.SSLWantReadError):
                        caller.tls.unwrap()
                    await caller._flush()
                elif how == "fin":
                    caller.writer.write_eof()
                else:
                    caller.writer.transport.abort()
                await asyncio.wait_for(left.wait(), PATIENCE)


async def test_callers_need_a_certificate_of_an_authority_where_one_is_named(
    proxy: StartProxy, files: Files, caplog: pytest.LogCaptureFixture
) -> None:
    section = files.section | {"client_ca": str(files.ca)}
    async with proxy(answer(b"1"), listen_tls=section) as running:
        port = running.sidecar.address[1]
        async with Caller.to(port, files.context(files.authority.issue_cert("caller@example.org"))) as caller:
            assert (await caller.ask()).endswith(b"1")
        for client in (None, trustme.CA().issue_cert("caller@example.org")):
            # In TLS 1.3 a client learns of it only after its own part of the handshake.
            with pytest.raises(ssl.SSLError, match="alert"):
                async with Caller.to(port, files.context(client)) as caller:
                    await caller.ask()
        assert len(running.live.requests) == 1
    told = [vars(each) for each in caplog.records if getattr(each, "event", None) == "tls_failed"]
    assert [each["error"] for each in told] == ["peer did not return a certificate", "certificate verify failed"]


async def test_plain_http_is_answered_in_its_own_words_and_other_bytes_are_not(
    proxy: StartProxy, files: Files, caplog: pytest.LogCaptureFixture
) -> None:
    async def sent(raw: bytes) -> bytes:
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        writer.write(raw)
        received = await asyncio.wait_for(reader.read(), PATIENCE)
        writer.close()
        return received

    async with proxy(answer(b"1"), listen_tls=files.section) as running:
        port = running.sidecar.address[1]
        received = await sent(GET)
        assert received.startswith(b"HTTP/1.1 400 Bad Request\r\n")
        assert json.loads(received.partition(b"\r\n\r\n")[2])["detail"] == "this port expects TLS: use https"
        assert await sent(b"\0\1\2") == b""
        for announced in (b"PROXY TCP4 192.0.2.1 192.0.2.2 1 2\r\n", b"\r\n\r\n\0\r\nQUIT\n\x21\x11\0\x0c"):
            assert await sent(announced) == b""
        damaged = await sent(b"\x16\x03\x01\x00\x05hello")
        assert damaged[:1] in (b"\x15", b"")  # an alert
        assert running.live.requests == []
        census = running.sidecar.census()
        assert census.tls_failed == 5
        assert samples(metrics.text(census).decode())["shadowproxy_tls_failed_total", ()] == 5
    told = [vars(each)["error"] for each in caplog.records if getattr(each, "event", None) == "tls_failed"]
    assert told[:2] == ["the caller sent plain HTTP", "what the caller sent is not TLS"]
    assert told[2:4] == ["the PROXY protocol is not spoken here"] * 2
    assert len(told) == 5


async def test_a_handshake_that_does_not_end_is_cut_off_and_holds_up_no_stop(
    proxy: StartProxy, files: Files, caplog: pytest.LogCaptureFixture
) -> None:
    hello = ssl.MemoryBIO()
    with contextlib.suppress(ssl.SSLWantReadError):
        files.context().wrap_bio(ssl.MemoryBIO(), hello, server_hostname="127.0.0.1").do_handshake()
    half = hello.read()[:50]
    async with proxy(answer(b"1"), listen_tls=files.section, limits={"head_timeout": "100ms"}) as running:
        for begun in (b"", half):
            reader, writer = await asyncio.open_connection("127.0.0.1", running.sidecar.address[1])
            writer.write(begun)
            with contextlib.suppress(ConnectionResetError):
                assert await asyncio.wait_for(reader.read(), PATIENCE) == b""
            writer.close()
    told = [vars(each)["error"] for each in caplog.records if getattr(each, "event", None) == "tls_failed"]
    assert told == ["the handshake took longer than 0.1 s"]  # nothing of one that sent nothing, as a balancer's probe
    async with proxy(answer(b"1"), listen_tls=files.section, limits={"head_timeout": "1h"}) as running:
        reader, writer = await asyncio.open_connection("127.0.0.1", running.sidecar.address[1])
        writer.write(half)
        async with asyncio.timeout(PATIENCE):
            while not running.sidecar.live._server._handshakes:  # noqa: ASYNC110
                await asyncio.sleep(0.001)
        assert await asyncio.wait_for(running.records(), PATIENCE) == []
        writer.close()


async def test_a_handshake_that_ends_while_the_server_stops_has_its_request_answered(
    proxy: StartProxy, files: Files
) -> None:
    async with proxy(answer(b"1"), listen_tls=files.section) as running:
        reader, writer = await asyncio.open_connection("127.0.0.1", running.sidecar.address[1])
        caller = Caller(reader, writer, files.context())
        async with asyncio.timeout(PATIENCE):
            while not running.sidecar.live._server._handshakes:  # noqa: ASYNC110
                await asyncio.sleep(0.001)
        stopping = asyncio.get_running_loop().create_task(running.records())
        async with asyncio.timeout(PATIENCE):
            while not running.sidecar.is_stopping:  # noqa: ASYNC110
                await asyncio.sleep(0)
        await caller._until_done(caller.tls.do_handshake)
        received = await caller.ask()
        assert b"\r\nConnection: close\r\n" in received
        assert len(await stopping) == 1
        writer.close()


@pytest.fixture
def unwatched(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(reload, "Watch", partial(Watch, every=3600.0))


async def reloaded(sidecar: Sidecar) -> None:
    before = sidecar.census().config
    sidecar.reload()
    async with asyncio.timeout(PATIENCE):
        while sidecar.census().config == before:  # noqa: ASYNC110
            await asyncio.sleep(0.001)


@pytest.mark.usefixtures("unwatched")
async def test_a_reload_puts_another_certificate_in_force_or_keeps_the_old_one(tmp_path: Path, files: Files) -> None:
    file = tmp_path / "config.yaml"

    def write(**more: Any) -> None:
        given = {"listen": "127.0.0.1:0", "admin": None, "log": {"path": str(tmp_path / "log")}}
        file.write_text(json.dumps(given | {"live": {"url": live.url}} | more))

    async with Origin(answer(b"1")) as live:
        write(listen_tls=files.section)
        async with Sidecar(read_specs(file), file) as sidecar:
            port = sidecar.address[1]
            first = files.der
            async with Caller.to(port, files.context()) as early:
                assert (await early.ask()).endswith(b"1")
                files.issue()
                await reloaded(sidecar)
                async with Caller.to(port, files.context()) as later:
                    assert (early.shown, later.shown) == (first, files.der)
                    assert first != files.der
                assert (await early.ask()).endswith(b"1")  # an open connection stays as it is
            now = files.der
            files.key.write_bytes(files.authority.issue_cert("127.0.0.1").private_key_pem.bytes())  # not its key
            await reloaded(sidecar)
            error = sidecar.census().config.error or ""
            assert error == "listen_tls: its files cannot be used: key values mismatch"
            async with Caller.to(port, files.context()) as later:
                assert later.shown == now
            files.cert.unlink()
            await reloaded(sidecar)
            assert (sidecar.census().config.error or "").splitlines() == [
                f"{file}:1: listen_tls.cert: {files.cert} cannot be read: No such file or directory"
            ]
            write()  # without TLS
            await reloaded(sidecar)
            reader, writer = await asyncio.open_connection("127.0.0.1", port)
            writer.write(LAST)
            assert (await asyncio.wait_for(reader.read(), PATIENCE)).endswith(b"1")
            writer.close()


async def test_the_program_takes_a_renewed_certificate_by_itself(tmp_path: Path, files: Files) -> None:
    async with Origin(answer(b"1")) as live:
        async with Program(tmp_path, {"live": {"url": live.url}, "listen_tls": files.section}) as program:
            port = program.address[1]
            async with Caller.to(port, files.context()) as caller:
                assert (await caller.ask()).endswith(b"1")
            files.issue()
            await program.wait_said("configuration 2 is in force")
            async with Caller.to(port, files.context()) as caller:
                assert caller.shown == files.der
                assert (await caller.ask()).endswith(b"1")
            assert await program.stop() == 0
        assert len(program.records()) == 2


async def test_what_cannot_be_served_with_ends_the_start_in_one_line(tmp_path: Path, files: Files) -> None:
    values = {"live": {"url": "http://127.0.0.1:9"}, "listen": "127.0.0.1:0", "admin": None}

    def fault(**more: Any) -> str:
        with pytest.raises(ConfigError) as raised:
            config.from_values(values | more)
        return str(raised.value)

    assert fault(listen_tls={}) == "listen_tls.cert: is required"
    assert fault(listen_tls={"cert": "/nowhere"}) == (
        "listen_tls.cert: /nowhere cannot be read: No such file or directory"
    )
    assert fault(listen="unix:/s", listen_tls=files.section) == (
        "listen_tls: has no effect: a Unix socket has no TLS, and listen has no other address"
    )
    without_key = config.from_values(values | {"listen_tls": {"cert": str(files.cert)}})
    with pytest.raises(StartError, match=r"^listen_tls: its files cannot be used: .+$"):
        async with Sidecar(specify(without_key)):
            pass


def test_check_says_whether_callers_can_be_served(tmp_path: Path, files: Files) -> None:
    def found(**section: str) -> list[str]:
        made = config.from_values(
            {
                "live": {"url": "http://127.0.0.1:9"}, "listen": "127.0.0.1:0", "admin": None,
                "log": {"path": str(tmp_path / "log")}, "listen_tls": section,
            }
        )  # fmt: skip
        findings = examine(made, None)
        assert any(line.startswith("listen_tls  ") for line in lines(made, findings))
        return [f"{each.level.name} {each.words}" for each in findings.of("listen_tls")]

    valid, authority = found(**files.section, client_ca=str(files.ca))
    assert valid.startswith(f"OK the certificate {files.cert} is valid until ")
    assert authority.startswith(f"OK the authority {files.ca} is valid until ")
    other = tmp_path / "other.pem"
    files.authority.issue_cert("a").private_key_pem.write_to_path(str(other))
    assert found(cert=str(files.cert), key=str(other))[-1] == "FAIL the files cannot be used: key values mismatch"
    assert found(cert=str(files.cert))[-1] == (
        "FAIL the files cannot be used: one of them holds no usable certificate or key"
    )


async def test_handshakes_that_last_give_way_where_descriptors_are_short(
    proxy: StartProxy, files: Files, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(shedding, "STILL", 0.01)
    async with proxy(answer(b"1"), listen_tls=files.section, limits={"head_timeout": "1h"}) as running:
        running.sidecar.live._server._most = lambda: 4
        silent = [await asyncio.open_connection("127.0.0.1", running.sidecar.address[1]) for _ in range(4)]
        async with asyncio.timeout(PATIENCE):
            async with Caller.to(running.sidecar.address[1], files.context()) as caller:
                assert (await caller.ask()).endswith(b"1")
        for _, writer in silent:
            writer.transport.abort()
    assert "the handshake lasted, as descriptors ran out" in caplog.text


async def test_handshakes_that_last_give_way_where_memory_is_short(
    proxy: StartProxy, files: Files, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(shedding, "STILL", 0.0)
    limits = {"head_timeout": "1h", "memory": "1MiB", "capture": 1000, "buffer": 1000}
    async with proxy(answer(b"1"), listen_tls=files.section, limits=limits) as running:
        memory = running.sidecar.mirror.memory
        memory.free = 0
        async with asyncio.timeout(PATIENCE):
            # They count as 3 MiB.
            silent = [await asyncio.open_connection("127.0.0.1", running.sidecar.address[1]) for _ in range(60)]
            while "the handshake lasted, as memory ran out" not in caplog.text or memory.held > 1 << 20:  # noqa: ASYNC110
                await asyncio.sleep(0.001)
            async with Caller.to(running.sidecar.address[1], files.context()) as caller:
                assert (await caller.ask()).endswith(b"1")
            for _, writer in silent:
                writer.transport.abort()
            while running.sidecar.live._server._handshakes or running.sidecar.live._server._connections:  # noqa: ASYNC110
                await asyncio.sleep(0.001)
        assert memory.objects == memory.callers == 0


async def test_what_tls_takes_is_counted_and_a_record_whose_end_has_not_come_too(
    proxy: StartProxy, files: Files
) -> None:
    async with proxy(answer(b"1"), listen_tls=files.section) as running:
        memory = running.sidecar.mirror.memory
        at_rest = CONNECTION + tls.SECURED
        reader, writer = await asyncio.open_connection("127.0.0.1", running.sidecar.address[1])
        async with asyncio.timeout(PATIENCE):
            while memory.objects != tls.HANDSHAKE:  # noqa: ASYNC110
                await asyncio.sleep(0.001)
            incoming, outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
            inner = files.context().wrap_bio(incoming, outgoing, server_hostname="127.0.0.1")
            while True:
                try:
                    inner.do_handshake()
                except ssl.SSLWantReadError:
                    writer.write(outgoing.read())
                    incoming.write(await reader.read(1 << 16))
                    continue
                break
            request = b"POST / HTTP/1.1\r\nHost: h\r\nContent-Length: 16000\r\n\r\n" + bytes(16000)
            for _ in range(3):
                inner.write(request)
                record = outgoing.read()
                writer.write(record[:9000])
                while memory.objects != at_rest + tls.UNREAD:  # noqa: ASYNC110
                    await asyncio.sleep(0.001)
                writer.write(record[9000:])
                while memory.objects != at_rest:  # noqa: ASYNC110
                    await asyncio.sleep(0.001)
            writer.transport.abort()
            while memory.objects:  # noqa: ASYNC110
                await asyncio.sleep(0.001)


async def test_a_websocket_passes_over_tls_and_ends_with_its_end(proxy: StartProxy, files: Files) -> None:
    async def echo(peer: Peer) -> None:
        await peer.request()
        await peer.send(b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\r\n")
        await peer.wait_received(len(peer.received) - len(peer.unread) + 100_000)
        await peer.send(peer.unread)
        peer.close()

    sent = b"0123456789" * 10_000
    async with (
        proxy(echo, listen_tls=files.section) as running,
        Caller.to(running.sidecar.address[1], files.context()) as caller,
    ):
        await caller.send(b"GET / HTTP/1.1\r\nHost: h\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n")
        await caller.send(b"Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Version: 13\r\n\r\n")
        assert (await caller.receive(until=b"\r\n\r\n")).startswith(b"HTTP/1.1 101 ")
        await caller.send(sent)
        assert await caller.receive() == sent
        assert caller.notified
