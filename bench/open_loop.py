"""The open loop, for latency: requests are due at fixed times, and each counts from when it was due.

A closed loop asks less while the server is slow, and so leaves out the very requests that would have been slow
("coordinated omission", Gil Tene). Here a request that finds no free connection opens one, and while a stalled server
answers nobody the later ones are late by all the time that they were due. tests/test_bench.py holds it to known delays.
"""

import select
import time
from collections import deque
from dataclasses import dataclass

from bench.connections import SILENCE, Connection, connect
from bench.processes import BenchError

MOST_CONNECTIONS = 512
_SPIN = 0.0003  # seconds before a request is due in which the clock is watched: sleeping is not so punctual


@dataclass(frozen=True, slots=True)
class Timings:
    """Milliseconds from when each request was due to its whole answer, and to when it was sent; both sorted."""

    latency: tuple[float, ...]
    lateness: tuple[float, ...]

    def quantile(self, share: float) -> float:
        return self.latency[min(len(self.latency) - 1, int(share * len(self.latency)))]


def steady(port: int, request: bytes, *, rate: float, seconds: float, connections: int = 0) -> Timings:
    """Send `request` `rate` times a second. Raises BenchError where any is not answered 200.

    `connections` are opened beforehand and used in turn; where all are busy, more are opened.
    """
    latency: list[float] = []
    lateness: list[float] = []
    free = deque(connect(port) for _ in range(connections))
    busy: dict[int, Connection] = {}
    began = time.perf_counter() + 0.05
    due_times = iter([began + number / rate for number in range(int(rate * seconds))])
    due = next(due_times, None)
    try:
        while due is not None or busy:
            now = time.perf_counter()
            while due is not None and due <= now and (free or len(busy) < MOST_CONNECTIONS):
                connection = free.popleft() if free else connect(port)
                connection.due = due
                connection.send(request)
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
                if connection.whole():
                    latency.append((now - connection.due) * 1000)
                    free.append(busy.pop(number))
    finally:
        for connection in (*free, *busy.values()):
            connection.socket.close()
    return Timings(tuple(sorted(latency)), tuple(sorted(lateness)))
