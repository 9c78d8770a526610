"""Mutated streams through the real program, read at the far side by parsers that others wrote.

The invariant is the same both ways: at most one message for each message, and both sides agree where it ends.

- Requests: five real servers say for each request what they read. It must be what the proxy's log says it passed on,
  and each must bear the proxy's `Via` as its last: a request that strayed in, inside another one's body, has none.
- Answers: real callers ask, in turn, for a mutated answer and for a good one. The good one must always be whole and
  theirs, and a mutated one that a caller accepts must be what the log says live answered.

The seeds are kept here; a failure prints the seed, the stream's number and its bytes. Runs are bounded by count and by
time: on a slow machine fewer streams are sent, never fewer than `FEWEST`.
"""

import asyncio
import hashlib
import os
import random
import re
import time
import urllib.request
from collections.abc import Iterable
from pathlib import Path

import pytest
from parties import installed, programs
from parties.asking import CALLERS_BY_NAME, Ask, python
from parties.installed import GO, SERVERS, SOURCE
from parties.mutation import cut, mutated
from parties.recorder import Received, Recorder, by_length

from shadowproxy.exchange import Outcome

pytestmark = pytest.mark.soak

SEEDS = [20260131, 7230, 9112]
STREAMS = 6000
SECONDS = 20.0
FEWEST = 200
AT_ONCE = 48
QUICK = {"head_timeout": "100ms", "body_timeout": "100ms", "buffer": 64}


@pytest.fixture(scope="module", autouse=True)
def _installed() -> None:
    installed.check()


# --- requests ---------------------------------------------------------------------------------------------------------

FAR_SIDES = {
    "Go": [str(GO / "serve")],
    "Node": ["node", "--max-http-header-size=65536", str(SOURCE / "serve.mjs")],
    **{name: [str(SERVERS), str(SOURCE / "far_side.py"), name] for name in ("aiohttp", "gunicorn", "uvicorn")},
}


def good_requests(name: bytes) -> list[bytes]:
    """`name` is in each target, so that an answer shows whose it is. What the bodies hold, another framing lets out."""
    stray = b"GET /stray HTTP/1.1\r\nHost: h\r\n\r\n"
    ended = b"0\r\n\r\n" + stray
    return [
        b"GET /%s?a=1 HTTP/1.1\r\nHost: h\r\nX-A: 1\r\n\r\n" % name,
        b"HEAD /%s HTTP/1.1\r\nHost: h\r\n\r\n" % name,
        b"POST /%s HTTP/1.1\r\nHost: h\r\nContent-Length: %d\r\n\r\n%s" % (name, len(ended), ended),
        b"POST /%s HTTP/1.1\r\nHost: h\r\nX-A: 1\r\nTransfer-Encoding: chunked\r\n\r\n%x\r\n%s\r\n0\r\n\r\n"
        % (name, len(stray), stray),
        b"POST /%s HTTP/1.1\r\nTransfer-Encoding: chunked\r\nHost: h\r\n\r\n"
        b"5;a=b\r\n0\r\n\r\n\r\n3\r\nabc\r\n0\r\nT: 1\r\n\r\n" % name,
        b"PUT /%s HTTP/1.1\r\nHost: h\r\nExpect: 100-continue\r\nContent-Length: 3\r\n\r\nabc" % name,
        b"POST /%s HTTP/1.1\r\nHost: h\r\nConnection: Upgrade, HTTP2-Settings\r\nUpgrade: h2c\r\n"
        b"HTTP2-Settings: AAMAAABk\r\nContent-Length: %d\r\n\r\n%s" % (name, len(ended), ended),
        b"GET http://h/%s HTTP/1.1\r\nHost: h\r\nConnection: close\r\n\r\n" % name,
        b"POST /%s HTTP/1.0\r\nHost: h\r\nConnection: keep-alive\r\nContent-Length: 3\r\n\r\nabc" % name,
    ]


def request_stream(seed: int, number: int) -> list[bytes]:
    """Stream `number` of `seed`, in pieces: one to three requests with up to three faults in all."""
    source = random.Random(f"{seed} {number}")
    chosen = source.choices(good_requests(b"s%d-%d" % (seed, number)), k=source.choice((1, 1, 2, 3)))
    return cut(mutated(b"".join(chosen), source), source)


async def send(address: tuple[str, int], pieces: Iterable[bytes]) -> bytes:
    """Everything the proxy says to a stream. It ends each connection itself, for the streams' last message is a fault
    or left unfinished, or else the connection is idle: then we do.
    """
    reader, writer = await asyncio.open_connection(*address)
    told = b""
    try:
        for piece in pieces:
            writer.write(piece)
            await writer.drain()
            await asyncio.sleep(0)
        while said := await asyncio.wait_for(reader.read(65536), 0.35):
            told += said
    except (ConnectionError, TimeoutError):
        pass
    finally:
        writer.transport.abort()
    return told


async def send_all(url: str, seed: int) -> dict[int, bytes]:
    """Send the streams of `seed`, AT_ONCE at a time, and check that each is answered with answers of its own."""
    host, _, port = url.removeprefix("http://").partition(":")
    until = time.monotonic() + SECONDS
    numbers = iter(range(STREAMS))
    sent: dict[int, bytes] = {}

    async def work() -> None:
        for number in numbers:
            pieces = request_stream(seed, number)
            sent[number] = b"".join(pieces)
            told = await send((host, int(port)), pieces)
            for target in re.findall(rb"\r\n\r\n(?:[0-9a-f]+\r\n)?read (/[^\r\n]*?)(?=HTTP/|\r|$)", told):
                assert target in sent[number], f"seed {seed}, stream {number}: {sent[number]!r} was told {told!r}"
            if time.monotonic() > until:
                return

    async with asyncio.TaskGroup() as workers:
        for _ in range(AT_ONCE):
            workers.create_task(work())
    return sent


def report(url: str) -> tuple[int, int]:
    """How many requests the far side handled, and how many of them strayed in."""
    with urllib.request.urlopen(f"{url}/report", timeout=10) as answer:
        handled, strays = answer.read().split()
    return int(handled), int(strays)


@pytest.mark.parametrize("seed", SEEDS[: int(os.environ.get("FUZZ_SEEDS", "1"))])
@pytest.mark.parametrize("name", FAR_SIDES)
def test_a_real_server_reads_the_requests_that_the_log_tells_of_and_no_others(
    name: str, seed: int, tmp_path: Path
) -> None:
    with programs.started(FAR_SIDES[name], tmp_path / "far-side.txt") as live:
        to_live = {"url": live.url, "timeout": "2s"}
        with programs.proxy(tmp_path / "proxy", to_live, limits=QUICK, log={"bodies": "hash"}) as proxy:
            sent = asyncio.run(send_all(proxy.url, seed))
            records = proxy.records()
        handled, strays = report(live.url)
    print(f"{len(sent)} streams, {handled} requests passed on")
    assert len(sent) >= FEWEST
    assert strays == 0, f"seed {seed}: {strays} requests strayed in"
    assert handled <= len(records)
    answered = [entry for entry in records if entry.live.outcome is Outcome.OK and entry.live.status == 200]
    assert len(answered) <= handled
    assert len(answered) > len(sent) / 4  # or nothing was tested
    for entry in answered:
        query = "?" + entry.request.query if entry.request.query else ""
        sha256 = entry.request.body.sha256 or hashlib.sha256(b"").hexdigest()
        said = f"{entry.request.method} {entry.request.path}{query}"
        read, _, read_sha256 = str(entry.live.headers["x-read"]).rpartition(" ")
        number = re.search(rf"s{seed}-([0-9]+)", said)
        stream = f"seed {seed}, stream {number and sent.get(int(number[1]))!r}"
        assert bare(read) == bare(said), stream
        assert read_sha256 == sha256, stream


def bare(target: str) -> str:
    """Without an empty query, which the log does not tell of, and a fragment, which uvicorn takes off."""
    return target.partition("#")[0].removesuffix("?")


# --- answers ----------------------------------------------------------------------------------------------------------

PAIRS = 300
CALLERS_HEARING = {
    **{
        name: CALLERS_BY_NAME[name]
        for name in ("requests", "aiohttp", "httpx", "Node's fetch", "node:http", "JDK", "Go")
    },
    "http.client": python("http.client"),
}


def evil_answer(seed: int, number: int, name: bytes) -> tuple[list[bytes], bool]:
    """Answer `number` of `seed`, in pieces, and whether the connection is closed after it."""
    source = random.Random(f"answer {seed} {number}")
    body = b"evil %s" % name
    stray = by_length(b"200 OK", b"stray")
    good = [
        by_length(b"200 OK", body),
        b"HTTP/1.1 200 OK\r\nX-A: 1\r\nTransfer-Encoding: chunked\r\n\r\n4\r\nevil\r\n%x;a\r\n%s\r\n0\r\nT: 1\r\n\r\n"
        % (len(name) + 1, b" " + name),
        b"HTTP/1.1 200 OK\r\nX-A: 1\r\n\r\n" + body,
        b"HTTP/1.1 100 Continue\r\n\r\n" + by_length(b"200 OK", body),
        b"HTTP/1.1 304 Not Modified\r\nContent-Length: 5\r\n\r\n",
        b"HTTP/1.1 204 No Content\r\nX-A: 1\r\n\r\n",
        by_length(b"200 OK", stray),
        by_length(b"500 Internal Server Error", body, (b"Connection", b"close")),
        b"HTTP/1.0 200 OK\r\nConnection: keep-alive\r\nContent-Length: %d\r\n\r\n%s" % (len(body), body),
        by_length(b"200 OK", body) + stray,
    ]
    raw = source.choice(good)
    return cut(mutated(raw, source), source), source.random() < 0.85 or raw is good[2]


@pytest.mark.parametrize("seed", SEEDS[: int(os.environ.get("FUZZ_SEEDS", "1"))])
@pytest.mark.parametrize("name", CALLERS_HEARING)
def test_a_real_caller_reads_the_answers_that_the_log_tells_of_and_no_others(
    name: str, seed: int, tmp_path: Path
) -> None:
    def answer(received: Received) -> Iterable[bytes]:
        target = received.start.split(b" ")[1]
        if target.startswith(b"/good"):
            return [by_length(b"200 OK", b"good " + target)]
        pieces, closes = evil_answer(seed, int(target.rpartition(b"-")[2]), target)
        return [*pieces, *([b""] if closes else [])]

    plan = [Ask("GET", f"/{kind}-{number}") for number in range(PAIRS) for kind in ("evil", "good")]
    with (
        Recorder(answer) as live,
        programs.proxy(tmp_path, {"url": live.url, "timeout": "400ms"}, log={"bodies": "hash"}) as proxy,
    ):
        told = CALLERS_HEARING[name](proxy.url, tuple(plan))
        records = proxy.records()
    logged = {
        (entry.request.path, entry.live.status, entry.live.body.sha256 if entry.live.body else None)
        for entry in records
        if entry.live.outcome is Outcome.OK
    }
    passed = 0
    for asked, heard in zip(plan, told, strict=True):
        number = asked.target.rpartition("-")[2]
        fault = f"seed {seed}, answer {number}: {evil_answer(seed, int(number), asked.target.encode())!r}"
        if asked.target.startswith("/good"):
            assert (heard.status, heard.body) == (200, b"good " + asked.target.encode()), f"{fault}, then {heard}"
        elif not heard.error and not any(field.lower() == "proxy-status" for field, _ in heard.fields):
            passed += 1
            sha256 = hashlib.sha256(heard.body).hexdigest() if heard.body else None
            assert (asked.target, heard.status, sha256) in logged, f"{fault} was heard as {heard}"
    assert passed > PAIRS / 4  # or nothing was tested
