"""An origin that answers each path in a way of its own, and remembers each request byte for byte.

It reads leniently what its peers may send, because a test asks it directly too: HTTP/1.0, `Upgrade` and `Expect` are
what the real callers come with.
"""

import gzip
import socketserver
import threading
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from types import TracebackType
from typing import Self

Fields = tuple[tuple[bytes, bytes], ...]

FIXED: Fields = (
    (b"Date", b"Sun, 06 Nov 1994 08:49:37 GMT"),
    (b"Server", b"origin/1"),
    (b"Set-Cookie", b"a=1; Path=/"),
    (b"Set-Cookie", b"b=2; Path=/; HttpOnly"),
    (b"X-oDD-Case", b"caf\xc3\xa9"),
)
JSON = b'{"predictions": [0.25, 0.75], "model": "v1"}'


@dataclass(frozen=True, slots=True)
class Received:
    """A request as it came. `framing` is none, length or chunked; `body` is the content."""

    start: bytes
    fields: Fields
    framing: str
    body: bytes

    def all(self, name: bytes) -> list[bytes]:
        return [value for key, value in self.fields if key.lower() == name]


Answers = Callable[[Received], bytes | Iterable[bytes]]
"""An answer's bytes, with its framing, whole or in pieces. What has none is ended by the connection's end, and so is
what has an empty piece for its last."""


def written(status: bytes, body: bytes, *fields: tuple[bytes, bytes]) -> bytes:
    head = b"".join(b"%s: %s\r\n" % field for field in (*FIXED, *fields))
    return b"HTTP/1.1 " + status + b"\r\n" + head + b"\r\n" + body


def by_length(status: bytes, body: bytes, *fields: tuple[bytes, bytes]) -> bytes:
    return written(status, body, *fields, (b"Content-Length", b"%d" % len(body)))


def by_path(received: Received) -> bytes:
    """The answer to each path of a plan (asking.py), framed for who asked."""
    method, target, version = received.start.split(b" ")
    match target.split(b"?")[0]:
        case b"/json":
            answer = by_length(b"200 OK", JSON, (b"Content-Type", b"application/json"))
        case b"/gzip":
            packed = gzip.compress(JSON * 50, mtime=0)
            answer = by_length(
                b"200 OK", packed, (b"Content-Type", b"application/json"), (b"Content-Encoding", b"gzip")
            )
        case b"/stream":
            chunks = b"".join(b"%x\r\n%s\r\n" % (len(piece), piece) for piece in (JSON[:9], JSON[9:10], JSON[10:]))
            answer = written(b"200 OK", chunks + b"0\r\n\r\n", (b"Transfer-Encoding", b"chunked"))
            if version == b"HTTP/1.0":
                answer = written(b"200 OK", JSON)
        case b"/until-close":
            answer = written(b"200 OK", JSON)
        case b"/echo":
            answer = by_length(b"200 OK", received.body, (b"Content-Type", b"application/json"))
        case b"/moved":
            answer = by_length(b"302 Found", b"", (b"Location", b"/elsewhere?x=%2F"))
        case b"/nothing":
            answer = written(b"204 No Content", b"")
        case _:
            answer = by_length(b"404 Not Found", b'{"detail": "no such path"}', (b"Content-Type", b"application/json"))
    return answer[: answer.index(b"\r\n\r\n") + 4] if method == b"HEAD" else answer


class Recorder(socketserver.ThreadingTCPServer):
    """Owns its port and its connections; use as `with`. `received` is in the order in which the requests were whole."""

    daemon_threads = True
    allow_reuse_address = True
    request_queue_size = 256

    def __init__(self, answers: Answers = by_path) -> None:
        super().__init__(("127.0.0.1", 0), _Connection)
        self.answers = answers
        self.received: list[Received] = []
        self._serving = threading.Thread(target=self.serve_forever, kwargs={"poll_interval": 0.01})

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_address[1]}"

    def __enter__(self) -> Self:
        self._serving.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None = None,
        error: BaseException | None = None,
        trace: TracebackType | None = None,
    ) -> None:
        self.shutdown()
        self._serving.join()
        self.server_close()

    def handle_error(self, request: object, client_address: object) -> None:
        """A caller that hangs up is none; what it left unsaid, the tests find missing."""


class _Connection(socketserver.StreamRequestHandler):
    server: Recorder

    def handle(self) -> None:
        while True:
            start = self.rfile.readline().rstrip(b"\r\n")
            if not start:
                return
            fields = self._fields()
            listed = {name.lower(): value for name, value in fields}
            if listed.get(b"expect") == b"100-continue":
                self.wfile.write(b"HTTP/1.1 100 Continue\r\n\r\n")
            framing, body = "none", b""
            if b"transfer-encoding" in listed:
                framing, body = "chunked", self._chunked()
            elif b"content-length" in listed:
                framing, body = "length", self.rfile.read(int(listed[b"content-length"]))
            received = Received(start, fields, framing, body)
            self.server.received.append(received)
            answer = self.server.answers(received)
            sent = piece = b""
            for piece in (answer,) if isinstance(answer, bytes) else answer:
                self.wfile.write(piece)
                sent += piece
            head = sent.partition(b"\r\n\r\n")[0].lower()
            bodyless = start.startswith(b"HEAD ") or b" 204 " in head
            framed = b"\r\ncontent-length:" in head or b"\r\ntransfer-encoding:" in head or bodyless
            if start.endswith(b"HTTP/1.0") or b"close" in listed.get(b"connection", b"") or not framed or not piece:
                return

    def _fields(self) -> Fields:
        fields = []
        while line := self.rfile.readline().rstrip(b"\r\n"):
            name, _, value = line.partition(b":")
            fields.append((name, value.strip(b" \t")))
        return tuple(fields)

    def _chunked(self) -> bytes:
        body = b""
        while size := int(self.rfile.readline().split(b";")[0], 16):
            body += self.rfile.read(size)
            self.rfile.readline()
        self._fields()
        return body
