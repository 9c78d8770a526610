"""Exchanges that all differ: numbered requests, and an origin whose answers depend on the number.

`python -m bench.numbered PORT MODEL SHIFT` answers a request whose JSON has a `number` with `ANSWER_BYTES` bytes. Its
predictions depend on the number, and two origins' differ by their SHIFT.
"""

import asyncio
import json
import select
import sys
from typing import cast

import uvloop

from bench.connections import SILENCE, connect
from bench.processes import BenchError

ANSWER_BYTES = 1024


def answer(number: int, model: str, shift: float) -> bytes:
    score = number % 997 / 997
    words = ["late" if score > 0.5 else "on time" for _ in range(8)]
    predictions = [
        {"label": word, "score": round(score + shift, 6), "rank": rank} for rank, word in enumerate(words, start=1)
    ]
    said = {"predictions": predictions, "model": model, "trace": f"{number:032x}", "note": ""}
    said["note"] = "n" * (ANSWER_BYTES - len(json.dumps(said)))
    return json.dumps(said).encode()


def request(number: int) -> bytes:
    body = json.dumps({"number": number, "inputs": [{"carrier": "UA", "hour": number % 24}]}).encode()
    head = b"POST /predict HTTP/1.1\r\nHost: bench\r\nContent-Type: application/json\r\nContent-Length: %d\r\n\r\n"
    return head % len(body) + body


def send(port: int, count: int, *, connections: int = 8) -> None:
    """Send so many numbered requests, each connection's next one when it has its answer. Raises BenchError."""
    numbers = iter(range(count))
    callers = {connection.socket.fileno(): connection for connection in (connect(port) for _ in range(connections))}
    busy: list[int] = []
    try:
        for each, number in zip(callers, numbers, strict=False):
            callers[each].send(request(number))
            busy.append(each)
        while busy:
            ready, _, _ = select.select(busy, [], [], SILENCE)
            if not ready:
                raise BenchError(f"port {port} was silent for {SILENCE:g} s")
            for each in ready:
                if callers[each].whole():
                    if (next_number := next(numbers, None)) is None:
                        busy.remove(each)
                    else:
                        callers[each].send(request(next_number))
    finally:
        for connection in callers.values():
            connection.socket.close()


class _Origin(asyncio.Protocol):
    def __init__(self, model: str, shift: float) -> None:
        self.model = model
        self.shift = shift
        self.buffer = b""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = cast("asyncio.Transport", transport)  # uvloop's own does not inherit from it

    def data_received(self, data: bytes) -> None:
        self.buffer += data
        _, end, body = self.buffer.partition(b"\r\n\r\n")
        if not end or not body.endswith(b"]}"):  # as `request` ends
            return
        said = answer(json.loads(body)["number"], self.model, self.shift)
        head = b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nServer: bench\r\nContent-Length: %d\r\n\r\n"
        self.transport.write(head % len(said) + said)
        self.buffer = b""


async def serve(port: int, model: str, shift: float) -> None:
    loop = asyncio.get_running_loop()
    server = await loop.create_server(lambda: _Origin(model, shift), "127.0.0.1", port)
    await server.serve_forever()


if __name__ == "__main__":
    uvloop.run(serve(int(sys.argv[1]), sys.argv[2], float(sys.argv[3])))
