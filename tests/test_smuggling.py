"""However a stream is written and cut, both sides of the proxy agree about which messages are in it.

h11 says what the sender's side may take the stream for; the origin's own strict reader says what arrived. What arrived
is the beginning of what h11 reads, message by message: fewer where the proxy refuses more, never another one.
"""

import asyncio
import contextlib
import hashlib
from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from typing import Literal

import h11
import pytest
import pytest_asyncio
from conftest import Proxy, starter
from fakes import PATIENCE, Caller, CutOff, Message, Peer, answer, cut
from hypothesis import HealthCheck, assume, example, given, settings
from hypothesis import strategies as st
from messages import Read, read_by_h11, replies, requests

LAST = b"GET /last HTTP/1.1\r\nHost: h\r\nConnection: close\r\n\r\n"
GOOD_REQUESTS = [
    b"GET /good HTTP/1.1\r\nHost: h\r\n\r\n",
    b"HEAD /good HTTP/1.1\r\nHost: h\r\n\r\n",
    b"POST /good HTTP/1.1\r\nHost: h\r\nContent-Length: 20\r\n\r\n0\r\n\r\nGET / HTTP/1.1\r\n",
    b"POST /good HTTP/1.1\r\nHost: h\r\nTransfer-Encoding: chunked\r\n\r\n"
    b"5\r\nGET /\r\n3;x\r\n0\r\n\r\n0\r\nT: 1\r\n\r\n",
    b"POST /good HTTP/1.1\r\nHost: h\r\nContent-Length: 3\r\nExpect: 100-continue\r\n\r\nabc",
    b"\r\nPOST /good HTTP/1.1\r\nHost: h\r\nUpgrade: h2c\r\nConnection: Upgrade\r\nContent-Length: 3\r\n\r\nabc",
]
one_loop = pytest.mark.asyncio(loop_scope="module")
quick = settings(max_examples=150, deadline=None, suppress_health_check=list(HealthCheck), print_blob=True)
long = settings(quick, max_examples=6_000)


# Requests.


def digest(request: Message) -> bytes:
    return b"%s %s %s" % (request.method, request.target, hashlib.sha256(request.body).hexdigest().encode())


@dataclass
class Echo:
    """An origin's script that says what it got, and remembers it in order."""

    got: list[Message] = field(default_factory=list)

    async def __call__(self, peer: Peer) -> None:
        while (request := await peer.request()) is not None:
            self.got.append(request)
            whole = answer(digest(request))
            await peer.send(whole[: whole.index(b"\r\n\r\n") + 4] if request.method == b"HEAD" else whole)


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def echoing(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[tuple[Proxy, Echo]]:
    echo = Echo()
    limits = {"head_timeout": "50ms", "body_timeout": "50ms", "buffer": 64, "capture": 64}
    async with starter(tmp_path_factory.mktemp("echo"))(echo, limits=limits) as running:
        yield running, echo


def messages_in(stream: bytes) -> list[Read]:
    """The whole requests that h11 sees in `stream`, up to the first thing that it refuses or that has no end."""
    found: list[Read] = []
    while stream:
        while stream.startswith(b"\r\n"):
            stream = stream[2:]
        try:
            read = read_by_h11(stream, request=True)
        except h11.RemoteProtocolError:
            return found
        if read.end is None:
            return found
        found.append(read)
        stream = stream[read.end :]
    return found


def beyond_h11(stream: bytes) -> bool:
    """What h11 refuses though it is right: a target with a byte over 0x7e, and a blank before a chunk's extension."""
    return any(byte >= 0x80 for line in stream.split(b"\r\n") if b" HTTP/" in line for byte in line) or (
        b" ;" in stream or b"\t;" in stream
    )


def closes(read: Read) -> bool:
    """Whether the connection ends after the answer to this request."""
    asked = [value.lower() for name, value in read.fields if name.lower() == b"connection"]
    return b"close" in asked or (read.start[2] == b"1.0" and b"keep-alive" not in asked)


async def answers(caller: Caller, echo: Echo) -> tuple[list[Message], bool]:
    """Live's answers until the proxy ends the connection, and whether that was with a refusal of its own."""
    got: list[Message] = []
    while await caller.more():
        if len(got) < len(echo.got):
            reply = await caller.answer(echo.got[len(got)].method)
            if reply.status >= 200:
                got.append(reply)
            continue
        start, fields = await caller.head()
        if start != b"HTTP/1.1 100 Continue":
            assert b"proxy-status" in {name.lower() for name, _ in fields}
            body = await caller.rest()
            assert (b"Content-Length", b"%d" % len(body)) in fields or body == b""  # none where HEAD was refused
            return got, True
    return got, False


async def check_requests(echoing: tuple[Proxy, Echo], stream: bytes, cuts: list[int]) -> None:
    running, echo = echoing
    stream += LAST
    assume(not beyond_h11(stream))
    sent = messages_in(stream)
    echo.got.clear()
    async with await running.caller() as caller:
        with contextlib.suppress(ConnectionError):
            await caller.send(*cut(stream, cuts))
        got, refused = await answers(caller, echo)
    assert len(echo.got) <= len(sent)
    for arrived, read in zip(echo.got, sent, strict=False):
        assert (arrived.method, arrived.body) == (read.start[0], read.body)
        absolute = read.start[1].lower().startswith(b"http")  # the path only is sent
        assert absolute or arrived.target == read.start[1]
    assert [reply.body for reply in got] == [b"" if each.method == b"HEAD" else digest(each) for each in echo.got]
    assert refused or len(got) == len(sent) or closes(sent[len(got) - 1])


streams = st.lists(
    st.one_of(st.sampled_from(GOOD_REQUESTS), st.sampled_from(GOOD_REQUESTS), requests), min_size=1, max_size=4
).map(b"".join)
places = st.lists(st.integers(0, 600), max_size=12)


@one_loop
@quick
@example(b"".join(GOOD_REQUESTS), list(range(1000)))
@example(GOOD_REQUESTS[2] * 3, [30])
@given(streams, places)
async def test_live_reads_the_requests_that_were_sent_and_no_others(
    echoing: tuple[Proxy, Echo], stream: bytes, cuts: list[int]
) -> None:
    await check_requests(echoing, stream, cuts)


@one_loop
@pytest.mark.soak
@long
@given(streams, places)
async def test_live_reads_the_requests_that_were_sent_and_no_others_for_minutes(
    echoing: tuple[Proxy, Echo], stream: bytes, cuts: list[int]
) -> None:
    await check_requests(echoing, stream, cuts)


# Answers.

End = Literal["keep", "close", "reset"]


@dataclass
class Evil:
    """An origin's script that answers `/first` as it is told to, and everything else well."""

    segments: list[bytes] = field(default_factory=list)
    end: End = "keep"
    sent: asyncio.Event = field(default_factory=asyncio.Event)

    async def __call__(self, peer: Peer) -> None:
        while (request := await peer.request()) is not None:
            if request.target != b"/first":
                await peer.send(answer(b"good " + request.target))
                continue
            try:
                await peer.send(*self.segments)
                if self.end == "reset":
                    peer.reset()
            finally:  # the proxy need not wait for the last segment to know that this is no answer
                self.sent.set()
            if self.end != "keep":
                return


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def misled(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[tuple[Proxy, Evil]]:
    evil = Evil()
    async with starter(tmp_path_factory.mktemp("evil"))(evil, live_options={"timeout": "100ms"}) as running:
        yield running, evil


def answer_in(raw: bytes, to: bytes) -> Read | None:
    """The final answer that h11 sees at the beginning of `raw`; None where it sees none, or one without an end."""
    while True:
        try:
            read = read_by_h11(raw, request=False, to=to.decode())
        except h11.RemoteProtocolError:
            return None
        if read.end is None or not read.start:
            return None
        if int(read.start[0]) >= 200:
            return read
        raw = raw[read.end :]


async def check_answers(misled: tuple[Proxy, Evil], raw: bytes, cuts: list[int], to: bytes, end: End) -> None:
    running, evil = misled
    assume(b" ;" not in raw and b"\t;" not in raw)
    evil.segments, evil.end, evil.sent = cut(raw, cuts), end, asyncio.Event()
    async with await running.caller() as caller, await running.caller() as other:
        await caller.send(
            to + b" /first HTTP/1.1\r\nHost: h\r\n" + b"Content-Length: 0\r\n" * (to == b"POST") + b"\r\n"
        )
        with contextlib.suppress(CutOff):
            reply = await caller.answer(to)
            if not reply.all(b"proxy-status"):
                expected = answer_in(raw, to)
                assert expected is not None
                assert (b"%d" % reply.status, reply.body) == (expected.start[0], expected.body)
                assert caller.unread == b""
        # What follows an answer is known to be no answer only if it is there before the next request is on its way.
        await asyncio.wait_for(evil.sent.wait(), PATIENCE)
        await asyncio.sleep(0.002)  # on a busy machine the kernel need not deliver at once
        for next_caller, target in ((other, b"/second"), (caller, b"/third")):
            if next_caller is caller and caller.ended != "no":
                continue
            reply = await next_caller.ask(b"GET %s HTTP/1.1\r\nHost: h\r\n\r\n" % target)
            assert (reply.status, reply.body) == (200, b"good " + target)


answers_and_more = st.tuples(replies, st.sampled_from([b"", b"", b"\r\n", answer(b"EVIL"), b"x"])).map(b"".join)
methods = st.sampled_from([b"GET", b"GET", b"POST", b"HEAD"])
ends = st.sampled_from(["keep", "close", "reset"])


@one_loop
@quick
@example(answer(b"fine") + answer(b"EVIL"), [], b"GET", "keep")
@example(answer(b"fine") + answer(b"EVIL"), [42], b"HEAD", "keep")
@example(answer(b"fine")[:-1], [], b"GET", "close")
@example(b"HTTP/1.1 100 Continue\r\n\r\n" + answer(b"fine"), [10, 30], b"GET", "close")
@given(answers_and_more, places, methods, ends)
async def test_a_caller_reads_the_answer_that_live_gave_to_it_and_no_other(
    misled: tuple[Proxy, Evil], raw: bytes, cuts: list[int], to: bytes, end: End
) -> None:
    await check_answers(misled, raw, cuts, to, end)


@one_loop
@pytest.mark.soak
@long
@given(answers_and_more, places, methods, ends)
async def test_a_caller_reads_the_answer_that_live_gave_to_it_and_no_other_for_minutes(
    misled: tuple[Proxy, Evil], raw: bytes, cuts: list[int], to: bytes, end: End
) -> None:
    await check_answers(misled, raw, cuts, to, end)
