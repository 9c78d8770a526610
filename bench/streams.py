"""Callers of event streams: the time to a first event, and many streams at once."""

import selectors
import socket
import time
from collections.abc import Iterator

from bench.connections import SILENCE, connect
from bench.events import EVENT
from bench.processes import BenchError

END = b"\r\n0\r\n\r\n"


def first_chunks(port: int, request: bytes, count: int) -> Iterator[float]:
    """Milliseconds from asking to the first byte of a chunked body, one stream after the other."""
    with connect(port).socket as sock:
        for _ in range(count):
            asked = time.perf_counter()
            sock.sendall(request)
            answer = b""
            seen = 0.0
            while not answer.endswith(END):
                data = sock.recv(65536)
                if not data:
                    raise BenchError(f"port {port} broke a stream off after {answer[:60]!r}")
                answer += data
                if not seen and answer.partition(b"\r\n\r\n")[2]:
                    seen = time.perf_counter()
            yield (seen - asked) * 1000


def events(port: int, request: bytes, *, streams: int, apart: float) -> int:
    """Read so many streams at once, begun `apart` seconds after each other; how many events came in all of them.

    Raises BenchError if one is not answered 200 or breaks off.
    """
    answers: dict[socket.socket, bytearray] = {}
    count = 0
    with selectors.DefaultSelector() as selector:
        try:
            for _ in range(streams):
                sock = connect(port).socket
                answers[sock] = bytearray()
                selector.register(sock, selectors.EVENT_READ)
            for sock in answers:
                sock.sendall(request)
                time.sleep(apart)
            while selector.get_map():
                ready = selector.select(SILENCE)
                if not ready:
                    raise BenchError(f"port {port} was silent for {SILENCE:g} s")
                for key, _ in ready:
                    answer = answers[key.fileobj]  # type: ignore[index]  # what was registered above
                    data = key.fileobj.recv(65536)  # type: ignore[union-attr]
                    answer += data
                    if not data or not answer.startswith(b"HTTP/1.1 200 "[: len(answer)]):
                        raise BenchError(f"port {port} broke a stream off after {bytes(answer[:60])!r}")
                    if answer.endswith(END):
                        count += answer.count(EVENT)
                        selector.unregister(key.fileobj)
        finally:
            for sock in answers:
                sock.close()
    return count
