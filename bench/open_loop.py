"""The open loop, for latency: requests are due at fixed times, and each counts from when it was due.

A closed loop asks less while the server is slow, and so leaves out the very requests that would have been slow
("coordinated omission", Gil Tene). Here a request that finds no free connection opens one, and while a stalled server
answers nobody the later ones are late by all the time that they were due. tests/test_bench.py holds it to known delays.
"""

import re
import select
import socket
import time
from collections import deque
from collections.abc import Iterator
from dataclasses import dataclass

from bench.processes import HOST, BenchError

MOST_CONNECTIONS = 512
SILENCE = 10.0
_SPIN = 0.0003  # seconds before a request is due in which the clock is watched: sleeping is not so punctual
_LENGTH = re.compile(rb"\r\ncontent-length: *(\d+)", re.IGNORECASE)


@dataclass(frozen=True, slots=True)
class Timings:
    """Milliseconds from when each request was due to its whole answer, and to when it was sent; both sorted."""

    latency: tuple[float, ...]
    lateness: tuple[float, ...]

    def quantile(self, share: float) -> float:
        return self.latency[min(len(self.latency) - 1, int(share * len(self.latency)))]


@dataclass(slots=True)
class _Connection:
    socket: socket.socket
    due: float = 0.0
    answer: bytes = b""

    def whole(self, port: int) -> bool:
        """Take what has come; whether it is the whole answer. Raises BenchError where it is none."""
        data = self.socket.recv(65536)
        self.answer += data
        head, end, body = self.answer.partition(b"\r\n\r\n")
        length = _LENGTH.search(head)
        if not data or (end and (length is None or not head.startswith(b"HTTP/1.1 200"))):
            raise BenchError(f"port {port} answered {self.answer[:60]!r}")
        return bool(end and length and len(body) >= int(length[1]))


def steady(port: int, request: bytes, *, rate: float, seconds: float, connections: int = 0) -> Timings:
    """Send `request` `rate` times a second. Raises BenchError where any is not answered 200.

    `connections` are opened beforehand and used in turn; where all are busy, more are opened.
    """
    latency: list[float] = []
    lateness: list[float] = []
    free = deque(_connect(port) for _ in range(connections))
    busy: dict[int, _Connection] = {}
    began = time.perf_counter() + 0.05
    due_times = iter([began + number / rate for number in range(int(rate * seconds))])
    due = next(due_times, None)
    try:
        while due is not None or busy:
            now = time.perf_counter()
            while due is not None and due <= now and (free or len(busy) < MOST_CONNECTIONS):
                connection = free.popleft() if free else _connect(port)
                connection.due, connection.answer = due, b""
                connection.socket.sendall(request)
                busy[connection.socket.fileno()] = connection
                now = time.perf_counter()
                lateness.append((now - due) * 1000)
                due = next(due_times, None)
            wait = SILENCE if due is None or due <= now else max(0.0, due - now - _SPIN)
            ready, _, _ = select.select(list(busy), [], [], wait)
            now = time.perf_counter()
            if not ready and due is None:
                raise BenchError(f"port {port} was silent for {SILENCE:g} s")
            for number in ready:
                connection = busy[number]
                if connection.whole(port):
                    latency.append((now - connection.due) * 1000)
                    free.append(busy.pop(number))
    finally:
        for connection in (*free, *busy.values()):
            connection.socket.close()
    return Timings(tuple(sorted(latency)), tuple(sorted(lateness)))


def first_chunks(port: int, request: bytes, count: int) -> Iterator[float]:
    """Milliseconds from asking to the first byte of a chunked body, one stream after the other."""
    connection = _connect(port)
    with connection.socket as sock:
        sock.settimeout(SILENCE)
        for _ in range(count):
            asked = time.perf_counter()
            sock.sendall(request)
            answer = b""
            seen = 0.0
            while not answer.endswith(b"\r\n0\r\n\r\n"):
                data = sock.recv(65536)
                if not data:
                    raise BenchError(f"port {port} broke a stream off after {answer[:60]!r}")
                answer += data
                if not seen and answer.partition(b"\r\n\r\n")[2]:
                    seen = time.perf_counter()
            yield (seen - asked) * 1000


def _connect(port: int) -> _Connection:
    sock = socket.create_connection((HOST, port), timeout=SILENCE)
    sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    return _Connection(sock)
