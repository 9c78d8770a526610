"""An origin of event streams: `python -m bench.events PORT COUNT SECONDS WORD`.

It answers each request with COUNT events that contain WORD, the first at once and the others SECONDS apart. A request
for /whole is answered with how many streams were sent whole, to a client that was still there.
"""

import asyncio
import json
import sys
from dataclasses import dataclass

import uvloop

HEAD = (
    b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\n"
    b"Cache-Control: no-store\r\nTransfer-Encoding: chunked\r\n\r\n"
)
EVENT = b"data: "
"""What each event begins with, and nothing else contains."""


def event(word: str) -> bytes:
    """One event, as a chat model's server sends a token."""
    choice = {"index": 0, "delta": {"content": word}, "finish_reason": None}
    chunk = {"id": "chatcmpl-1", "object": "chat.completion.chunk", "created": 1_700_000_000, "choices": [choice]}
    return EVENT + json.dumps(chunk).encode() + b"\n\n"


@dataclass(slots=True)
class Server:
    count: int
    seconds: float
    chunk: bytes
    whole: int = 0

    async def answer(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            while head := await reader.readuntil(b"\r\n\r\n"):
                if head.startswith(b"GET /whole "):
                    number = str(self.whole).encode()
                    writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n%b" % (len(number), number))
                else:
                    await self._stream(writer)
        except (asyncio.IncompleteReadError, ConnectionError):
            writer.close()

    async def _stream(self, writer: asyncio.StreamWriter) -> None:
        writer.write(HEAD + self.chunk)
        for _ in range(self.count - 1):
            await asyncio.sleep(self.seconds)
            writer.write(self.chunk)
        writer.write(b"0\r\n\r\n")
        await writer.drain()
        self.whole += not writer.is_closing()


async def serve(port: int, server: Server) -> None:
    async with await asyncio.start_server(server.answer, "127.0.0.1", port, backlog=1024) as listening:
        await listening.serve_forever()


def main() -> None:
    port, count, seconds, word = sys.argv[1:]
    said = event(word)
    chunk = b"%x\r\n%b\r\n" % (len(said), said)
    uvloop.run(serve(int(port), Server(int(count), float(seconds), chunk)))


if __name__ == "__main__":
    main()
