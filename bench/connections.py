"""A caller's connection, and an answer that comes over it in pieces."""

import re
import socket
from dataclasses import dataclass

from bench.processes import HOST, BenchError

SILENCE = 10.0
_LENGTH = re.compile(rb"\r\ncontent-length: *(\d+)", re.IGNORECASE)


@dataclass(slots=True)
class Connection:
    """`due` is when the request under way was due, on the clock of `time.perf_counter`."""

    port: int
    socket: socket.socket
    due: float = 0.0
    answer: bytes = b""

    def send(self, request: bytes) -> None:
        self.answer = b""
        self.socket.sendall(request)

    def whole(self) -> bool:
        """Take what has come; whether it is the whole answer. Raises BenchError if it is no success."""
        data = self.socket.recv(65536)
        self.answer += data
        head, end, body = self.answer.partition(b"\r\n\r\n")
        length = _LENGTH.search(head)
        if not data or (end and (length is None or not head.startswith(b"HTTP/1.1 200"))):
            raise BenchError(f"port {self.port} answered {self.answer[:60]!r}")
        return bool(end and length and len(body) >= int(length[1]))


def connect(port: int) -> Connection:
    sock = socket.create_connection((HOST, port), timeout=SILENCE)
    sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    return Connection(port, sock)
