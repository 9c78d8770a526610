"""Upstreams and callers that obey a script, over plain sockets and without any HTTP library.

A library would tidy up what the tests are about: here a peer sends exactly the bytes it is given, keeps every byte
that came in, and reads messages with a reader of its own, which is stricter than any real server. What that reader
refuses (`Malformed`) a proxy must never have sent.

Rules:
- `Peer` is one end of one connection. `received` is all that came in, whether or not it was read as a message; only
  `digest` forgets.
- Every wait has a deadline (`PATIENCE`), so a test that hangs says what it was waiting for.
- An `Origin` runs its script once for each connection; when the script returns, the connection is closed. What a
  script raises, other than the connection's own end, fails the test when the origin is closed.
- Who opens, closes: `Origin` and `Caller` are used as `async with`, and leave no socket and no task behind.
"""

import asyncio
import contextlib
import fcntl
import hashlib
import itertools
import re
import select
import socket
import ssl
import struct
import termios
import threading
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator, Sequence
from dataclasses import dataclass
from types import TracebackType
from typing import Any, Literal, Self, cast

import pytest

PATIENCE = 5.0
"""Seconds. Far over what any of these waits takes on a busy machine, far under a run's limit."""

Fields = tuple[tuple[bytes, bytes], ...]
Address = tuple[str, int]
Framing = Literal["length", "chunked", "close", "none"]

# RFC 9110 section 5.6.2, RFC 9112 sections 3, 4 and 7.1: what a sender may generate, not what a receiver may accept.
TOKEN = rb"[!#$%&'*+\-.^_`|~0-9A-Za-z]+"
REQUEST_LINE = re.compile(rb"(" + TOKEN + rb") ([!-\xff]+) HTTP/1\.1")
STATUS_LINE = re.compile(rb"HTTP/1\.1 ([1-5][0-9][0-9]) ([\t \x21-\x7e\x80-\xff]*)")
VISIBLE = rb"[\x21-\x7e\x80-\xff]"
FIELD_VALUE = VISIBLE + rb"(?:[\t \x21-\x7e\x80-\xff]*" + VISIBLE + rb")?"
FIELD_LINE = re.compile(rb"(" + TOKEN + rb"):[ \t]*((?:" + FIELD_VALUE + rb")?)[ \t]*")
CHUNK_LINE = re.compile(rb"([0-9A-Fa-f]{1,16})((?:[ \t]*;[\t \x21-\x7e\x80-\xff]*)?)")
LENGTH = re.compile(rb"[0-9]{1,19}")


class Malformed(Exception):
    """The peer sent what no sender may generate."""


class CutOff(Exception):
    """The connection ended in the middle of a message; the text says after how many bytes of its body."""


@dataclass(frozen=True, slots=True)
class Message:
    """A request or an answer as it was on the wire. `body` is the content, `raw` everything from first byte to last."""

    start: bytes
    fields: Fields
    body: bytes
    raw: bytes
    framing: Framing
    chunks: tuple[bytes, ...] = ()
    trailers: Fields = ()

    @property
    def method(self) -> bytes:
        return self.start.split(b" ")[0]

    @property
    def target(self) -> bytes:
        return self.start.split(b" ")[1]

    @property
    def status(self) -> int:
        return int(self.start.split(b" ")[1])

    def all(self, name: bytes) -> list[bytes]:
        """Every value of the field `name`, in order, whatever the case it was sent in."""
        return [value for key, value in self.fields if key.lower() == name.lower()]


class Peer(asyncio.Protocol):
    """One end of a connection: sends what it is told to, keeps what it gets. Owns its connection; `close` is final."""

    def __init__(self, opened: Callable[["Peer"], None] = lambda peer: None) -> None:
        self.received = bytearray()
        self.requests: list[Message] = []
        self.ended: Literal["no", "fin", "reset"] = "no"  # how the other side ended its sending, if it did
        self.gone = asyncio.Event()  # the connection is closed on this side too
        self._read = 0  # how much of `received` has been read as messages
        self._opened = opened
        self._changed = asyncio.Event()
        self._writable = asyncio.Event()
        self._writable.set()
        self._transport: asyncio.Transport

    def __repr__(self) -> str:
        return f"<Peer received={len(self.received)} unread={len(self.received) - self._read} ended={self.ended}>"

    # What asyncio calls.

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.Transport, transport)  # uvloop's is one in all but its class
        # asyncio sets this only on sockets made with proto=IPPROTO_TCP; without it a second segment waits for an ACK.
        transport.get_extra_info("socket").setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self._opened(self)

    def data_received(self, data: bytes) -> None:
        self.received += data
        self._changed.set()

    def eof_received(self) -> bool:
        self.ended = "fin"
        self._changed.set()
        return self._transport.get_extra_info("sslcontext") is None  # TLS knows no half-closed connection in asyncio

    def connection_lost(self, exc: Exception | None) -> None:
        if exc is not None and self.ended == "no":
            self.ended = "reset"
        self.gone.set()
        self._changed.set()
        self._writable.set()

    def pause_writing(self) -> None:
        self._writable.clear()

    def resume_writing(self) -> None:
        self._writable.set()

    # Sending.

    async def send(self, *segments: bytes) -> None:
        """Send each segment so that the other side receives it alone, given that it runs in this event loop.

        Raises ConnectionResetError when the connection is gone: what the other side refuses to read is an end, too.
        """
        for segment in segments:
            if self.gone.is_set():
                raise ConnectionResetError("the connection is gone")
            self._transport.write(segment)
            if not self._writable.is_set():
                async with asyncio.timeout(PATIENCE):
                    await self._writable.wait()
            # The first turn of the loop may have polled the sockets before the write; the second one has not.
            await asyncio.sleep(0)
            await asyncio.sleep(0)

    async def drip(self, data: bytes, every: float) -> None:
        """Send `data` a byte at a time, `every` seconds."""
        for index in range(len(data)):
            await self.send(data[index : index + 1])
            await asyncio.sleep(every)

    async def flood(self, piece: bytes, limit: int) -> int:
        """Send `piece` over and over until the other side ends it or `limit` bytes went out; say how many bytes did."""
        sent = 0
        with contextlib.suppress(ConnectionError):
            while sent < limit:
                await self.send(piece)
                sent += len(piece)
        return sent

    # Ending.

    def half_close(self) -> None:
        """End the sending, go on receiving."""
        self._transport.write_eof()

    def close(self) -> None:
        """Send what is buffered, then close."""
        self._transport.close()

    def reset(self) -> None:
        """Close at once, so that the other side gets RST, not FIN. Nothing happens to a connection that is gone."""
        if self.gone.is_set():
            return
        connection = self._transport.get_extra_info("socket")
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self._transport.abort()

    def stop_reading(self) -> None:
        """Let the receive buffers fill up: what a slow reader does to who sends."""
        self._transport.pause_reading()

    def go_on_reading(self) -> None:
        self._transport.resume_reading()

    async def wait_ended(self, within: float = PATIENCE) -> None:
        """Wait until the other side has closed, in whichever way. Raises TimeoutError."""
        await self._wait(lambda: self.ended != "no" or self.gone.is_set(), "the other side to close", within)

    async def wait_received(self, size: int, within: float = PATIENCE) -> None:
        """Wait until `size` bytes have come in. Raises CutOff or TimeoutError."""
        await self._wait(lambda: len(self.received) >= size or self._over, f"{size} bytes", within)
        if len(self.received) < size:
            raise CutOff(f"after {len(self.received)} of {size} bytes")

    # Reading messages.

    async def request(self) -> Message | None:
        """The next request, None when the connection ended before its first byte. Raises Malformed, CutOff."""
        begin = self._read
        if not await self.more():
            return None
        start = await self._line()
        if not REQUEST_LINE.fullmatch(start):
            raise Malformed(f"request line {start!r}")
        fields = await self._fields()
        message = await self._body(begin, start, fields, "none")
        hosts = message.all(b"host")
        if len(hosts) != 1:
            raise Malformed(f"{len(hosts)} Host fields")
        self.requests.append(message)
        return message

    async def head(self) -> tuple[bytes, Fields]:
        """The next start line and fields, and not a byte of the body: for scripts that answer early."""
        return await self._line(), await self._fields()

    async def answer(self, to: bytes = b"GET") -> Message:
        """The next answer, interim ones too, to a request by the method `to`. Raises Malformed, CutOff."""
        begin = self._read
        start = await self._line()
        line = STATUS_LINE.fullmatch(start)
        if not line:
            raise Malformed(f"status line {start!r}")
        fields = await self._fields()
        status = int(line[1])
        if to == b"HEAD" or status < 200 or status in (204, 304):  # RFC 9112 section 6.3, rule 1
            return Message(start, fields, b"", bytes(self.received[begin : self._read]), "none")
        return await self._body(begin, start, fields, "close")

    async def rest(self) -> bytes:
        """Everything unread, once the other side has ended its sending."""
        await self._wait(lambda: self._over, "the end", PATIENCE)
        begin, self._read = self._read, len(self.received)
        return bytes(self.received[begin:])

    async def more(self) -> bool:
        """Wait for a byte that is not read yet, and say whether there is one: False at the end."""
        return await self._at_least(self._read + 1)

    async def digest(self, size: int | None = None) -> str:
        """SHA-256 of a body that is too long to keep in `received`: the next `size` bytes, or what is chunked."""
        digest = hashlib.sha256()
        if size is None:
            async for chunk in self._chunks():
                digest.update(chunk)
                self._forget()
            await self._fields()
        while size:
            if not await self.more():
                raise CutOff(f"{size} bytes before the end")
            piece = self.received[self._read : self._read + size]
            digest.update(piece)
            size -= len(piece)
            self._read += len(piece)
            self._forget()
        return digest.hexdigest()

    def _forget(self) -> None:
        del self.received[: self._read]
        self._read = 0

    @property
    def unread(self) -> bytes:
        return bytes(self.received[self._read :])

    async def _body(self, begin: int, start: bytes, fields: Fields, unframed: Framing) -> Message:
        lengths = [value for name, value in fields if name.lower() == b"content-length"]
        codings = [value for name, value in fields if name.lower() == b"transfer-encoding"]
        if (lengths and codings) or len(lengths) > 1 or len(codings) > 1:
            raise Malformed(f"two framings: {lengths} {codings}")
        if codings:
            if codings[0].lower() != b"chunked":
                raise Malformed(f"transfer coding {codings[0]!r}")
            chunks = [chunk async for chunk in self._chunks()]
            trailers = await self._fields()
            raw = bytes(self.received[begin : self._read])
            return Message(start, fields, b"".join(chunks), raw, "chunked", tuple(chunks), trailers)
        if lengths:
            if not LENGTH.fullmatch(lengths[0]):
                raise Malformed(f"length {lengths[0]!r}")
            body = await self._exactly(int(lengths[0]))
            return Message(start, fields, body, bytes(self.received[begin : self._read]), "length")
        body = await self.rest() if unframed == "close" else b""
        return Message(start, fields, body, bytes(self.received[begin : self._read]), unframed)

    async def _chunks(self) -> AsyncIterator[bytes]:
        while True:
            line = await self._line()
            match = CHUNK_LINE.fullmatch(line)
            if not match:
                raise Malformed(f"chunk line {line!r}")
            size = int(match[1], 16)
            if size == 0:
                return
            chunk = await self._exactly(size)
            if await self._exactly(2) != b"\r\n":
                raise Malformed("a chunk is longer than its size")
            yield chunk

    async def _fields(self) -> Fields:
        fields = []
        while line := await self._line():
            match = FIELD_LINE.fullmatch(line)
            if not match:
                raise Malformed(f"field line {line!r}")
            fields.append((match[1], match[2]))
        return tuple(fields)

    async def _line(self) -> bytes:
        end = -1
        seen = self._read
        while (end := self.received.find(b"\r\n", seen)) < 0:
            seen = max(self._read, len(self.received) - 1)
            if not await self._at_least(len(self.received) + 1):
                raise CutOff(f"in the middle of the line {self.unread!r}")
        line = bytes(self.received[self._read : end])
        if b"\r" in line or b"\n" in line:
            raise Malformed(f"bare CR or LF in {line!r}")
        self._read = end + 2
        return line

    async def _exactly(self, size: int) -> bytes:
        begin = self._read
        if not await self._at_least(begin + size):
            raise CutOff(f"after {len(self.received) - begin} of {size} bytes")
        self._read += size
        return bytes(self.received[begin : self._read])

    async def _at_least(self, size: int) -> bool:
        await self._wait(lambda: len(self.received) >= size or self._over, f"byte {size} of {self!r}", PATIENCE)
        return len(self.received) >= size

    @property
    def _over(self) -> bool:
        return self.ended != "no" or self.gone.is_set()

    async def _wait(self, condition: Callable[[], bool], what: str, within: float) -> None:
        # The deadline is for silence: 200 MB may take longer than any single wait.
        while not condition():
            self._changed.clear()
            try:
                async with asyncio.timeout(
                    within
                ):  # not wait_for: on Python 3.11 that makes a task, and tests count them
                    await self._changed.wait()
            except TimeoutError:
                tail = bytes(self.received[-200:])
                raise TimeoutError(f"waited {within} s for {what}; {self!r}, the last bytes were {tail!r}") from None


Script = Callable[[Peer], Awaitable[None]]


def answer(body: bytes = b"ok", *fields: tuple[bytes, bytes], status: int = 200, reason: bytes = b"OK") -> bytes:
    """An answer's bytes, framed by length."""
    lines = [b"HTTP/1.1 %d %s" % (status, reason), *(b"%s: %s" % field for field in fields)]
    return b"\r\n".join([*lines, b"Content-Length: %d" % len(body), b"", body])


def chunked(*chunks: bytes, fields: Fields = (), trailers: Fields = ()) -> bytes:
    """An answer's bytes, one chunk for each of `chunks`, and the last chunk."""
    head = [b"HTTP/1.1 200 OK", *(b"%s: %s" % field for field in fields), b"Transfer-Encoding: chunked", b"", b""]
    body = b"".join(chunk_of(chunk) for chunk in chunks)
    return b"\r\n".join(head) + body + b"0\r\n" + b"".join(b"%s: %s\r\n" % field for field in trailers) + b"\r\n"


def chunk_of(data: bytes) -> bytes:
    return b"%x\r\n%s\r\n" % (len(data), data)


def always(raw: bytes) -> Script:
    """Answer every request with `raw`."""

    async def script(peer: Peer) -> None:
        while await peer.request() is not None:
            await peer.send(raw)

    return script


def each(*raws: bytes) -> Script:
    """Answer with one of `raws` after the other, over all connections; a request beyond the last one is a fault."""
    left = list(raws)

    async def script(peer: Peer) -> None:
        while await peer.request() is not None:
            assert left, "a request more than there are answers"
            await peer.send(left.pop(0))

    return script


def then_close(raw: bytes) -> Script:
    """Answer one request with `raw`, then close, announced or not."""

    async def script(peer: Peer) -> None:
        if await peer.request() is not None:
            await peer.send(raw)

    return script


def then_reset(raw: bytes) -> Script:
    """Answer one request with `raw`, then reset the connection once the other side has had a turn to read it."""

    async def script(peer: Peer) -> None:
        if await peer.request() is not None:
            await peer.send(raw)
            peer.reset()

    return script


def close_idle(raw: bytes, after: float) -> Script:
    """Answer every request with `raw`, and close, unannounced, a connection that was idle for `after` seconds."""

    async def script(peer: Peer) -> None:
        while True:
            seen = len(peer.received)
            with contextlib.suppress(TimeoutError, CutOff):
                await peer.wait_received(seen + 1, after)
            if len(peer.received) == seen or await peer.request() is None:
                return
            await peer.send(raw)

    return script


async def silent(peer: Peer) -> None:
    """Take everything, say nothing, until the other side ends it."""
    await peer.wait_ended(12 * PATIENCE)


async def strict_ok(peer: Peer) -> None:
    """Answer `ok` to every request: the script of an origin that nobody gave one."""
    await always(answer())(peer)


class Origin:
    """An upstream that obeys a script. Owns its port, its connections and their tasks; use as `async with`.

    `script` is bytes to answer every request with, or a coroutine function that is run for each connection. With
    `receive_buffer` the kernel takes few bytes that nobody reads, so that backpressure is felt early. `at` is where it
    listens.
    """

    def __init__(
        self,
        script: Script | bytes = strict_ok,
        *,
        tls: ssl.SSLContext | None = None,
        receive_buffer: int | None = None,
        at: Address = ("127.0.0.1", 0),
    ) -> None:
        self._at = at
        self.connections: list[Peer] = []
        self._script = always(script) if isinstance(script, bytes) else script
        self._tls = tls
        self._receive_buffer = receive_buffer
        self._tasks: set[asyncio.Task[None]] = set()
        self._faults: list[BaseException] = []
        self._arrived = asyncio.Event()

    async def __aenter__(self) -> Self:
        listening = socket.create_server(self._at, backlog=1024)
        if self._receive_buffer is not None:
            listening.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, self._receive_buffer)
        loop = asyncio.get_running_loop()
        self._server = await loop.create_server(lambda: Peer(self._begin), sock=listening, ssl=self._tls)
        self.address: Address = listening.getsockname()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._server.close()
        for task in self._tasks:
            task.cancel()
        if self._tasks:
            await asyncio.wait(self._tasks, timeout=PATIENCE)
        for peer in self.connections:
            peer.reset()
            await asyncio.wait_for(peer.gone.wait(), PATIENCE)
        if error is None and self._faults:
            raise self._faults[0]

    @property
    def port(self) -> int:
        return self.address[1]

    @property
    def url(self) -> str:
        return f"{'https' if self._tls else 'http'}://127.0.0.1:{self.port}"

    @property
    def requests(self) -> list[Message]:
        """Every request read, connection by connection in the order in which these came."""
        return [message for peer in self.connections for message in peer.requests]

    @property
    def received(self) -> bytes:
        """Every byte that came in: of a refused request, not one may be here."""
        return b"".join(bytes(peer.received) for peer in self.connections)

    @property
    def open_connections(self) -> int:
        return sum(peer.ended == "no" and not peer.gone.is_set() for peer in self.connections)

    async def connection(self, index: int = 0) -> Peer:
        """The connection of that number, once it has come."""
        while len(self.connections) <= index:
            self._arrived.clear()
            await asyncio.wait_for(self._arrived.wait(), PATIENCE)
        return self.connections[index]

    def stop_listening(self) -> None:
        """Refuse new connections from now on; those there are go on."""
        self._server.close()

    def _begin(self, peer: Peer) -> None:
        self.connections.append(peer)
        self._arrived.set()
        task = asyncio.get_running_loop().create_task(self._run(peer))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _run(self, peer: Peer) -> None:
        try:
            await self._script(peer)
        except (ConnectionError, CutOff):
            pass  # the other side left: each test says for itself whether it may
        except Exception as error:  # noqa: BLE001 (raised again when the origin is closed)
            self._faults.append(error)
        finally:
            peer.close()


class Caller(Peer):
    """A client that sends the bytes it is given. Owns its connection; use as `async with await Caller.to(address)`."""

    @classmethod
    async def to(
        cls, address: Address, *, receive_buffer: int | None = None, tls: ssl.SSLContext | None = None
    ) -> Self:
        loop = asyncio.get_running_loop()
        with contextlib.ExitStack() as on_failure:
            connection = on_failure.enter_context(socket.socket())
            connection.setblocking(False)
            if receive_buffer is not None:
                connection.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, receive_buffer)
            await asyncio.wait_for(loop.sock_connect(connection, address), PATIENCE)
            _, peer = await loop.create_connection(
                cls, sock=connection, ssl=tls, server_hostname="127.0.0.1" if tls else None
            )
            on_failure.pop_all()
        return peer

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._transport.abort()
        await asyncio.wait_for(self.gone.wait(), PATIENCE)

    async def ask(self, raw: bytes) -> Message:
        """Send one whole request and read its answer. The method is taken from the request's first word."""
        await self.send(raw)
        return await self.answer(raw.split(b" ", 1)[0])


class Hasty:
    """A server that answers an upload which it does not read, and closes, as gunicorn and hypercorn do. Use as `with`.

    What it has not read makes its kernel send a reset right behind the answer. It serves in a thread of its own, so
    that a test can keep its event loop from reading: see `upload_that_fails`. Where it is `gated`, each of `pieces`
    waits for a `send_next`. It closes when all were taken by the other side's kernel.
    """

    def __init__(self, *pieces: bytes, tls: ssl.SSLContext | None = None, gated: bool = False) -> None:
        self.gone = threading.Event()  # it has closed a connection
        self.connections = 0
        self._gate = threading.Semaphore(0) if gated else None
        self._pieces = pieces
        self._tls = tls

    def __enter__(self) -> Self:
        self._listening = socket.create_server(("127.0.0.1", 0), backlog=128)
        self.port = self._listening.getsockname()[1]
        self._thread = threading.Thread(target=self._serve)
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._listening.shutdown(socket.SHUT_RDWR)
        self._thread.join(PATIENCE)
        self._listening.close()

    @property
    def url(self) -> str:
        return f"{'https' if self._tls else 'http'}://127.0.0.1:{self.port}"

    def send_next(self) -> None:
        assert self._gate is not None
        self._gate.release()

    async def upload_that_fails(self) -> AsyncIterator[bytes]:
        """What is to be sent to it, of 200,000 bytes: sending fails before the loop has had a turn to read."""
        yield bytes(100_000)
        for _ in range(50):  # so that the beginning is there, and not all of it is read
            await asyncio.sleep(0)
        self.gone.clear()
        self.send_next()
        self.gone.wait(PATIENCE)
        yield bytes(50_000)
        yield bytes(50_000)

    def _serve(self) -> None:
        while True:
            try:
                connection, _ = self._listening.accept()
            except OSError:
                return  # closed: it is over
            self.connections += 1
            with connection, contextlib.suppress(OSError):
                connection.settimeout(PATIENCE)
                self._answer(connection)
            self.gone.set()

    def _answer(self, connection: socket.socket) -> None:
        plain = connection
        if self._tls is not None:
            connection = self._tls.wrap_socket(connection.dup(), server_side=True)
        with connection:
            connection.recv(10)
            while not select.select([plain], [], [], PATIENCE)[0]:
                pass
            for piece in self._pieces:
                if self._gate is not None:
                    self._gate.acquire(timeout=PATIENCE)
                connection.sendall(piece)
                while struct.unpack("i", fcntl.ioctl(plain, termios.TIOCOUTQ, bytes(4)))[0]:
                    time.sleep(0.001)


class NameServer:
    """What `socket.getaddrinfo` says of some names; it looks the others up as usual.

    `names` has their addresses, or an error to raise. `asked` has the names in the order of their lookups. A name in
    `hung` gets its answer when the event there is set.
    """

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.names: dict[str, Sequence[tuple[Any, ...]] | Exception] = {}
        self.asked: list[str] = []
        self.hung: dict[str, threading.Event] = {}
        self._real = socket.getaddrinfo
        monkeypatch.setattr(socket, "getaddrinfo", self._look_up)

    def _look_up(self, host: Any, port: Any, *positional: int, **named: int) -> list[Any]:
        if host not in self.names or named.get("flags", 0) & socket.AI_NUMERICHOST:
            return list(self._real(host, port, *positional, **named))
        self.asked.append(host)
        if host in self.hung:
            self.hung[host].wait(PATIENCE)
        answer = self.names[host]
        if isinstance(answer, Exception):
            raise type(answer)(*answer.args)  # one of its own each time: its traceback keeps what the frames have
        families = [socket.AF_INET if len(each) == 2 else socket.AF_INET6 for each in answer]
        return [(family, socket.SOCK_STREAM, 6, "", each) for family, each in zip(families, answer, strict=True)]


@contextlib.contextmanager
def refusing_port() -> Iterator[int]:
    """A port that refuses connections, and that nobody else can take meanwhile."""
    with socket.socket() as bound:
        bound.bind(("127.0.0.1", 0))
        yield bound.getsockname()[1]


@contextlib.contextmanager
def deaf_port(at: Address = ("127.0.0.1", 0)) -> Iterator[int]:
    """A port whose queue is full: connecting to it hangs, as to a host that drops packets."""
    with contextlib.ExitStack() as stack:
        listening = stack.enter_context(socket.socket())
        listening.bind(at)
        listening.listen(0)
        for _ in range(4):  # Linux takes one more than the backlog says; the rest make sure
            filler = stack.enter_context(socket.socket())
            filler.setblocking(False)
            with contextlib.suppress(BlockingIOError):
                filler.connect(listening.getsockname())
        yield listening.getsockname()[1]


def cut(raw: bytes, cuts: Sequence[int]) -> list[bytes]:
    """`raw` in segments, cut at those of the offsets `cuts` that lie within it."""
    edges = [0, *sorted({offset for offset in cuts if 0 < offset < len(raw)}), len(raw)]
    return [raw[begin:end] for begin, end in itertools.pairwise(edges)]
