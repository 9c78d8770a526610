"""The memory of a real `shadowproxy serve` stays flat, whatever passes through it and however slowly it is taken.

Measured as the process's highest resident size ever (VmHWM), so that no peak between two looks is missed.
"""

import asyncio
import contextlib
import hashlib
import json
import re
import signal
import sys
from collections.abc import AsyncIterator
from dataclasses import dataclass
from pathlib import Path

import pytest
from fakes import Address, Caller, Message, Origin, Peer, Script, answer, chunk_of

from shadowproxy import record
from shadowproxy.exchange import Outcome

pytestmark = [pytest.mark.soak, pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")]

PIECE = bytes(range(256)) * 256
LONG = 200 << 20
PIECES = LONG // len(PIECE)
WHOLE = hashlib.sha256(PIECE * PIECES).hexdigest()
ROOM = 16 << 20
"""Nobody compares these bodies, so their copies are two of `log.body_limit` (256 KiB) in each process. The rest is for
buffers and the allocator."""

GET = b"GET / HTTP/1.1\r\nHost: h\r\n\r\n"


@dataclass
class Program:
    """A running `shadowproxy serve`."""

    address: Address
    process: asyncio.subprocess.Process
    log: Path

    def peak(self) -> int:
        """Bytes, of all its processes."""
        children = Path(f"/proc/{self.process.pid}/task/{self.process.pid}/children").read_text().split()
        total = 0
        for pid in (self.process.pid, *children):
            found = re.search(r"VmHWM:\s+(\d+) kB", Path(f"/proc/{pid}/status").read_text())
            assert found is not None
            total += int(found[1]) * 1024
        return total

    def grown_since(self, before: int) -> int:
        after = self.peak()
        print(f"peak {before >> 20} MiB before, {after >> 20} MiB after")
        return after - before

    async def ask(self, raw: bytes) -> Message:
        async with await Caller.to(self.address) as caller:
            return await caller.ask(raw)

    async def stop(self) -> list[record.Record | record.Unreadable]:
        self.process.send_signal(signal.SIGTERM)
        assert await asyncio.wait_for(self.process.wait(), 20) == 0
        return list(record.read([self.log]))


@contextlib.asynccontextmanager
async def serving(directory: Path, live: Origin, shadow: Origin | None = None, **limits: str) -> AsyncIterator[Program]:
    """The program, warmed up by one small request."""
    file, log = directory / "config.yaml", directory / "log"
    shadows = {"a": {"url": shadow.url, "timeout": 20}} if shadow else {}
    values = {
        "listen": "127.0.0.1:0",
        "admin": None,
        "live": {"url": live.url},
        "shadows": shadows,
        "limits": limits,
        "log": {"path": str(log)},
    }
    file.write_text(json.dumps(values))
    command = (sys.executable, "-m", "shadowproxy", "serve", "-c", str(file))
    process = await asyncio.create_subprocess_exec(*command, stderr=asyncio.subprocess.PIPE)
    assert process.stderr is not None
    try:
        async with asyncio.timeout(20):
            while not (found := re.search(rb"http://([0-9.]+):([0-9]+), live", await process.stderr.readline())):
                assert process.returncode is None
        program = Program((found[1].decode(), int(found[2])), process, log)
        assert (await program.ask(GET)).status == 200
        yield program
    finally:
        if process.returncode is None:
            process.kill()
            await process.wait()


def first_small(then: Script) -> Script:
    """Answer the request that warms up, and leave each later connection to `then`."""

    async def script(peer: Peer) -> None:
        if (await peer.head())[0].startswith(b"GET / "):
            await peer.send(answer())
            await peer.head()
        await then(peer)

    return script


async def send_long(peer: Peer, *, chunked: bool) -> None:
    for _ in range(PIECES):
        await peer.send(chunk_of(PIECE) if chunked else PIECE)
    if chunked:
        await peer.send(b"0\r\n\r\n")


FRAMING = {True: b"Transfer-Encoding: chunked\r\n\r\n", False: b"Content-Length: %d\r\n\r\n" % LONG}


def length(chunked: bool) -> int | None:
    return None if chunked else LONG


@pytest.mark.parametrize("chunked", [False, True])
async def test_an_upload_of_200_mb_passes_whole_in_flat_memory(tmp_path: Path, *, chunked: bool) -> None:
    async def take(peer: Peer) -> None:
        await peer.send(answer((await peer.digest(length(chunked))).encode()))

    async with Origin(first_small(take)) as live, serving(tmp_path, live) as program:
        before = program.peak()
        async with await Caller.to(program.address) as caller:
            await caller.send(b"POST /long HTTP/1.1\r\nHost: h\r\n" + FRAMING[chunked])
            await send_long(caller, chunked=chunked)
            assert (await caller.answer()).body.decode() == WHOLE
        assert program.grown_since(before) < ROOM


@pytest.mark.parametrize("chunked", [False, True])
async def test_a_download_of_200_mb_passes_whole_in_flat_memory(tmp_path: Path, *, chunked: bool) -> None:
    async def give(peer: Peer) -> None:
        await peer.send(b"HTTP/1.1 200 OK\r\n" + FRAMING[chunked])
        await send_long(peer, chunked=chunked)

    async with Origin(first_small(give)) as live, serving(tmp_path, live) as program:
        before = program.peak()
        async with await Caller.to(program.address) as caller:
            await caller.send(b"GET /long HTTP/1.1\r\nHost: h\r\n\r\n")
            await caller.head()
            assert await caller.digest(length(chunked)) == WHOLE
        assert program.grown_since(before) < ROOM


async def test_50_slow_readers_of_long_answers_take_no_more_than_memory_allows(tmp_path: Path) -> None:
    async def give(peer: Peer) -> None:
        await peer.send(b"HTTP/1.1 200 OK\r\n" + FRAMING[False])
        await peer.flood(PIECE, limit=LONG)

    async with Origin(first_small(give)) as live, serving(tmp_path, live, memory="16MiB") as program:
        before = program.peak()
        async with contextlib.AsyncExitStack() as stack:
            for _ in range(50):
                caller = await stack.enter_async_context(await Caller.to(program.address, receive_buffer=4096))
                caller.stop_reading()
                await caller.send(b"GET /long HTTP/1.1\r\nHost: h\r\n\r\n")
            await asyncio.sleep(3)
            assert (await program.ask(GET)).status == 200
            # Copies take up to `limits.memory`, each connection a high-water mark and a read on both of its sides.
            assert program.grown_since(before) < (16 << 20) + 50 * (1 << 20)


@pytest.mark.parametrize("chunked", [False, True])
async def test_a_flooding_shadow_is_cut_off_in_flat_memory(tmp_path: Path, *, chunked: bool) -> None:
    ended = asyncio.Semaphore(0)

    async def flood(peer: Peer) -> None:
        framing = b"Transfer-Encoding: chunked\r\n\r\n%x" % 10**9 if chunked else b"Content-Length: %d\r\n" % 10**9
        await peer.send(b"HTTP/1.1 200 OK\r\n" + framing + b"\r\n")
        assert await peer.flood(PIECE, limit=10**9) < 10**8
        ended.release()

    async with Origin() as live, Origin(first_small(flood)) as shadow, serving(tmp_path, live, shadow) as program:
        before = program.peak()
        for _ in range(10):
            assert (await program.ask(b"GET /long HTTP/1.1\r\nHost: h\r\n\r\n")).status == 200
            await asyncio.wait_for(ended.acquire(), 20)
        # If its length is not announced, up to `limits.capture` (8 MiB) is copied before it is too long.
        assert program.grown_since(before) < ROOM + (8 << 20)
        records = await program.stop()
        outcomes = [entry.shadows["a"].outcome for entry in records if isinstance(entry, record.Record)]
        assert outcomes == [Outcome.OK] + [Outcome.ANSWER_OVERSIZE] * 10
