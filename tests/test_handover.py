"""Exchanges go from a live process to the recorder, and the books balance whatever happens to either end."""

import asyncio
import gc
import os
import signal
import socket
import subprocess
import sys
import threading
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager, contextmanager
from pathlib import Path
from typing import Any

import pytest
import uvloop
from hypothesis import given
from hypothesis import strategies as st

from shadowproxy.exchange import (
    Exchange,
    Failure,
    Learnt,
    Outcome,
    Reply,
    Request,
    Skipped,
    Translated,
    Tunnel,
    TunnelEnd,
    Verdict,
)
from shadowproxy.record import Record, read
from shadowproxy.recorder.line import encode
from shadowproxy.recorder.policy import Policy
from shadowproxy.serve.handover import frames, outbox
from shadowproxy.serve.handover.books import Books
from shadowproxy.serve.handover.frames import Decoder, FrameError, exchange_of, frame_of, frames_of_exchange
from shadowproxy.serve.handover.inbox import Inbox, LiveState
from shadowproxy.serve.handover.outbox import Outbox
from shadowproxy.serve.journal.queue import LARGE
from shadowproxy.serve.journal.root import Journal
from shadowproxy.serve.journal.settings import Settings

FIELDS = ((b"Content-Type", b"application/json"), (b"X-A", b"1"))


def exchange(number: int, body: bytes = b"{}", answer: bytes = b"{}") -> Exchange:
    request = Request(str(number), f"rec-{number}", 0, "POST", b"/p", FIELDS, body, len(body))
    reply = Reply(200, FIELDS, answer, len(answer), 1.0, 2.0, 0.5)
    return Exchange(request, reply, {"s": reply})


def line_of(one: Exchange) -> tuple[bytes, dict[str, Verdict | None], tuple[str, ...]]:
    return encode(one, proxy="host/0", policy=Policy(), judge=None), {"s": Verdict.MATCH}, ("s",)


async def until(holds: Callable[[], bool]) -> None:
    """Wait for the other end's doing; half a minute is a failure, not a measure."""
    async with asyncio.timeout(30):
        while not holds():  # noqa: ASYNC110 - it waits for a thread, or for another process
            await asyncio.sleep(0.001)


def balances(books: Books) -> bool:
    return books.appended == books.written + books.queued + sum(books.lost.values()) and books.queued >= 0


def ids(directory: Path) -> list[str]:
    return [each.id for each in read([directory]) if isinstance(each, Record)]


def contents(directory: Path) -> bytes:
    [segment] = directory.iterdir()
    return segment.read_bytes()


@contextmanager
def journal(path: Path, **more: Any) -> Iterator[Journal]:
    settings = Settings(queue_bytes=more.pop("queue_bytes", 64 << 20))
    opened = Journal(path, proxy="host/0", settings=settings, notify=lambda notice: None, **more)
    opened.open()
    try:
        yield opened
    finally:
        opened.close(10)


class Ends:
    """Both ends in one loop, over a real pair of sockets."""

    def __init__(self, box: Outbox, inbox: Inbox, log: Journal) -> None:
        self.outbox = box
        self.inbox = inbox
        self.journal = log
        self.finals: list[tuple[str, LiveState, bool]] = []
        self.notes: list[Any] = []

    def connect(self, name: str = "0") -> None:
        ours, theirs = socket.socketpair()
        self.inbox.add(name, theirs)
        self.outbox.connect(ours)


@asynccontextmanager
async def ends(path: Path, *, budget: int = 64 << 20, **more: Any) -> AsyncIterator[Ends]:
    taken: dict[str, Any] = {name: more.pop(name) for name in ("encode_for", "most") if name in more}
    encode_for = taken.pop("encode_for", lambda name, generation: line_of)
    both: Ends
    errors: list[Any] = []
    asyncio.get_running_loop().set_exception_handler(lambda loop, error: errors.append(error))
    with journal(path, **{name: more.pop(name) for name in ("write", "queue_bytes") if name in more}) as log:
        inbox = Inbox(
            log,
            encode_for,
            on_end=lambda *final: both.finals.append(final),
            on_note=lambda name, note: both.notes.append(note),
            **taken,
        )
        both = Ends(Outbox(budget=budget, gather=0.001, **more), inbox, log)
        both.connect()
        try:
            yield both
        finally:
            await both.outbox.close(10)
            await both.inbox.close(10)
    assert errors == []


# --- frames -----------------------------------------------------------------------------------------------------------

REPLY = Reply(200, FIELDS, b"x" * 10, 10, 1.5, 2.5, 0.25, "a" * 64, True, b"\0\xff")
LONG = Reply(500, (), bytes(frames.RAW + 1), 1 << 40, 1.0, 2.0)


@pytest.mark.parametrize(
    "live", [REPLY, LONG, Failure(Outcome.TIMEOUT, "why", 1.0), Failure(Outcome.INCOMPLETE, "é\ud800", 1.0, LONG, 3.0)]
)
@pytest.mark.parametrize("control", [None, REPLY, LONG, Skipped(Outcome.LANE_FULL, "")])
@pytest.mark.parametrize("body", [b"", bytes(frames.RAW), os.urandom(3 * frames.RAW)])
def test_an_exchange_comes_out_as_it_went_in(live: Any, control: Any, body: bytes) -> None:
    request = Request("id", "rec", 1 << 62, "GET", b"/?\xff", FIELDS, body, len(body))
    given = Exchange(request, live, {"a": LONG, "b": Skipped(Outcome.PAUSED, "x"), "c": REPLY}, control)
    data = b"".join(frames_of_exchange(given, 7))
    [(kind, value, raw)] = Decoder().feed(data)
    assert kind == frames.EXCHANGE
    generation, got = exchange_of(value, raw)
    assert (generation, got) == (7, given)
    assert isinstance(got.live, type(live))
    assert {name: type(leg) for name, leg in got.shadows.items()} == {"a": Reply, "b": Skipped, "c": Reply}


@pytest.mark.parametrize("piece", [1, 7, 1000, 10**9])
def test_frames_are_found_wherever_the_bytes_are_cut(piece: int) -> None:
    many = [frame_of(frames.NOTE, n) for n in range(50)] + frames_of_exchange(exchange(1, bytes(40_000)), 1)
    data = b"".join([*many, frame_of(frames.END, None)])
    decoder = Decoder()
    found = [frame for at in range(0, len(data), piece) for frame in decoder.feed(data[at : at + piece])]
    assert [value for kind, value, _ in found if kind == frames.NOTE] == list(range(50))
    assert [kind for kind, *_ in found[50:]] == [frames.EXCHANGE, frames.END]
    assert decoder.held == 0


@pytest.mark.parametrize(
    "wrong",
    [
        b"\x09" + bytes(12),
        b"GET / HTTP/1.1\r\n\r\n",
        frames._HEAD.pack(frames.NOTE, 1, 1 << 20) + b"N",
        frames._HEAD.pack(frames.NOTE, 3, 0) + b"???",
        frames._HEAD.pack(frames.NOTE, 0, 0),
    ],
)
def test_a_malformed_frame_ends_decoding_and_costs_none_before_it(wrong: bytes) -> None:
    decoder = Decoder(most=1 << 20)
    [(kind, value, _)] = decoder.feed(frame_of(frames.NOTE, "a") + wrong + bytes(20))
    assert (kind, value) == (frames.NOTE, "a")
    assert decoder.error is not None
    assert decoder.feed(frame_of(frames.NOTE, "b")) == []
    assert decoder.held == 0


@pytest.mark.parametrize(
    "value",
    [None, (), (1, (), (), [], None), (1, tuple(exchange(1).request), ("nonsense", "x"), [], None), (1, 2, 3, 4, 5)]
    + [(1, (*exchange(1).request[:6], place, 9), tuple(REPLY), [], None) for place in (9, -1)],
)
def test_a_value_that_is_no_exchange_is_a_frame_error(value: Any) -> None:
    with pytest.raises(FrameError):
        exchange_of(value, b"")


def test_raw_bytes_that_no_body_takes_are_a_frame_error() -> None:
    [(_, value, _)] = Decoder().feed(frames_of_exchange(exchange(1), 1)[0])
    with pytest.raises(FrameError):
        exchange_of(value, b"x")


_FIELDS = st.lists(st.tuples(st.binary(max_size=9), st.binary(max_size=9)), max_size=3).map(tuple)
_BODY = st.one_of(st.binary(max_size=50), st.integers(0, 3).map(lambda count: bytes(frames.RAW - 1 + count)))
_MS = st.floats(0, 1e9)
_HASH = st.none() | st.text()
_TRANSLATED = st.lists(st.builds(Translated, *[st.text(max_size=9)] * 4), max_size=2).map(tuple)
_LEARNT = st.lists(st.builds(Learnt, *[st.text(max_size=9)] * 3), max_size=2).map(tuple)
_WHOLE = st.integers(100, 999), _FIELDS, _BODY, st.integers(0, 1 << 50), _MS, _MS, _MS, _HASH
_REPLIES = st.builds(Reply, *_WHOLE, st.booleans(), st.binary(max_size=9), _TRANSLATED, _LEARNT)
_OUTCOMES = st.sampled_from(Outcome)
_FAILURES = st.builds(Failure, _OUTCOMES, st.text(), _MS, st.none() | _REPLIES, _MS, _TRANSLATED)
_LEGS = st.one_of(_REPLIES, _FAILURES, st.builds(Skipped, _OUTCOMES, st.text()))
_REQUESTS = st.builds(
    Request,
    st.text(),
    st.text(),
    st.integers(0, 1 << 62),
    st.text(),
    st.binary(),
    _FIELDS,
    _BODY,
    st.integers(0, 1 << 50),
    _HASH,
)
_SIZES = st.integers(0, 1 << 50)
_TUNNELS = st.builds(Tunnel, _SIZES, _SIZES, st.sampled_from(TunnelEnd))
_EXCHANGES = st.builds(
    Exchange,
    _REQUESTS,
    _REPLIES | _FAILURES,
    st.dictionaries(st.text(), _LEGS, max_size=3),
    st.none() | _LEGS,
    st.none() | _TUNNELS,
)


@given(st.lists(st.tuples(_EXCHANGES, st.integers(0, 1 << 40)), max_size=4), st.integers(1, 100_000))
def test_whatever_an_exchange_holds_it_arrives(given: list[tuple[Exchange, int]], piece: int) -> None:
    data = b"".join(part for each in given for part in frames_of_exchange(*each))
    decoder = Decoder()
    found = [frame for at in range(0, len(data), piece) for frame in decoder.feed(data[at : at + piece])]
    got = [exchange_of(value, raw) for _, value, raw in found]
    assert got == [(generation, exchange) for exchange, generation in given]
    assert [type(leg) for _, each in got for leg in each.shadows.values()] == [
        type(leg) for each, _ in given for leg in each.shadows.values()
    ]


# --- in the ordinary case ---------------------------------------------------------------------------------------------


async def test_thousands_of_exchanges_are_in_the_log_in_order(tmp_path: Path) -> None:
    async with ends(tmp_path) as both:
        for n in range(5000):
            assert both.outbox.append(exchange(n), 1)
            if n % 100 == 0:
                await asyncio.sleep(0)
        await until(lambda: both.outbox.statistics().written == 5000)
        books = both.outbox.statistics()
        assert (books.queued, books.queued_bytes, books.lost) == (0, 0, {})
        assert books.bytes == both.journal.statistics().bytes
        assert books.verdicts == {("s", "match"): 5000}
        assert books.failed == {"s": 5000}
    assert ids(tmp_path) == [str(n) for n in range(5000)]
    [(name, state, orderly)] = both.finals
    assert (name, orderly) == ("0", True)
    assert state.books is not None
    assert (state.books.appended, state.books.written, state.books.lost) == (5000, 5000, {})


async def test_bodies_of_8_mb_arrive_whole_between_small_ones(tmp_path: Path) -> None:
    bodies = {n: os.urandom(8 << 20) if n % 3 == 0 else b"{}" for n in range(6)}
    seen: dict[str, Exchange] = {}

    def noted(one: Exchange) -> tuple[bytes, dict[str, Verdict | None], tuple[str, ...]]:
        seen[one.request.id] = one
        return b'{"id":"%s"}\n' % one.request.id.encode(), {}, ()

    async with ends(tmp_path, encode_for=lambda name, generation: noted, queue_bytes=256 << 20) as both:
        for n, body in bodies.items():
            assert both.outbox.append(exchange(n, body, body[::-1]), 1)
        await until(lambda: both.outbox.statistics().written == 6)
    same = {n: seen[str(n)] == exchange(n, body, body[::-1]) for n, body in bodies.items()}
    assert same == dict.fromkeys(bodies, True)


async def test_small_exchanges_do_not_wait_for_a_large_one_that_takes_long(tmp_path: Path) -> None:
    gate = threading.Event()

    def slow(one: Exchange) -> tuple[bytes, dict[str, Verdict | None], tuple[str, ...]]:
        if len(one.request.body) >= LARGE:
            assert gate.wait(30)
        return line_of(one)

    async with ends(tmp_path, encode_for=lambda name, generation: slow) as both:
        both.outbox.append(exchange(0, bytes(LARGE)), 1)
        for n in range(1, 50):
            both.outbox.append(exchange(n), 1)
        await until(lambda: both.outbox.statistics().written == 49)
        assert both.outbox.statistics().queued == 1
        gate.set()
        await until(lambda: both.outbox.statistics().written == 50)
    assert ids(tmp_path) == [*(str(n) for n in range(1, 50)), "0"]


async def test_an_exchange_is_encoded_as_its_generation_says_and_lost_where_that_is_not_known(tmp_path: Path) -> None:
    def marked(one: Exchange) -> tuple[bytes, dict[str, Verdict | None], tuple[str, ...]]:
        return b'{"marked":true}\n', {}, ()

    known = {1: line_of, 2: marked}
    async with ends(tmp_path, encode_for=lambda name, generation: known[generation]) as both:
        for generation in (1, 2, 3):
            both.outbox.append(exchange(generation), generation)
        await until(lambda: both.outbox.statistics().queued == 0)
        books = both.outbox.statistics()
    assert (books.written, books.lost) == (2, {"encode_error": 1})
    assert contents(tmp_path).endswith(b'{"marked":true}\n')


async def test_a_note_arrives_after_the_exchanges_before_it(tmp_path: Path) -> None:
    seen: list[str] = []

    def encode_for(name: str, generation: int) -> Any:
        seen.append("exchange")
        return line_of

    async with ends(tmp_path, encode_for=encode_for) as both:
        both.notes = seen
        both.outbox.append(exchange(1), 1)
        both.outbox.send_note("note")
        both.outbox.append(exchange(2), 1)
        await until(lambda: len(seen) == 3)
    assert seen == ["exchange", "note", "exchange"]


async def test_a_note_that_cannot_be_sent_raises_nothing(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    async with ends(tmp_path) as both:
        both.outbox.send_note(object())
        both.outbox.append(exchange(1), 1)
        await until(lambda: both.outbox.statistics().written == 1)
    assert "a note cannot be sent" in caplog.text


async def test_the_census_is_sent_when_something_changed_and_not_at_rest(tmp_path: Path) -> None:
    taken: list[int] = []

    def census() -> object:
        taken.append(len(taken))
        return {"number": len(taken)}

    async with ends(tmp_path, census=census) as both:
        await until(lambda: both.inbox.states()["0"].census == {"number": 1})
        both.outbox.append(exchange(1), 1)
        both.outbox.note_change()
        await until(lambda: both.inbox.states()["0"].census == {"number": 2})
        await asyncio.sleep(2.5 * outbox.CENSUS_EVERY)
        assert len(taken) == 2
        assert both.inbox.states()["0"].tail.count == 0
        both.outbox.send_census()
        await until(lambda: both.inbox.states()["0"].census == {"number": 3})


async def test_a_census_goes_before_what_waits_and_does_not_count_it_twice(tmp_path: Path) -> None:
    """With the socket full, the census overtakes the queue: exchanges that it has are not in the tail."""
    async with ends(tmp_path) as both:
        for n in range(2000):
            both.outbox.append(exchange(n), 1)
        both.outbox.send_census()
        await until(lambda: both.outbox.statistics().written == 2000)
        state = both.inbox.states()["0"]
        assert state.books is not None
        assert (state.books.appended, state.books.written, state.books.queued) == (2000, 2000, 0)


async def test_a_census_that_raises_costs_no_exchange(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    async with ends(tmp_path, census=lambda: 1 / 0) as both:
        both.outbox.append(exchange(1), 1)
        await until(lambda: both.outbox.statistics().written == 1)
    assert "a census cannot be sent" in caplog.text


async def test_two_live_processes_have_books_of_their_own(tmp_path: Path) -> None:
    async with ends(tmp_path) as both:
        other = Outbox(budget=1 << 20, gather=0.001)
        ours, theirs = socket.socketpair()
        both.inbox.add("1", theirs)
        other.connect(ours)
        for n in range(30):
            both.outbox.append(exchange(n), 1)
        for n in range(20):
            other.append(exchange(100 + n), 1)
        await until(lambda: other.statistics().written == 20 and both.outbox.statistics().written == 30)
        await other.close(10)
        assert both.journal.statistics().written == 50
    assert sorted(name for name, *_ in both.finals) == ["0", "1"]


# --- when the recorder is slow, ends, hangs or dies -------------------------------------------------------------------


async def test_without_a_recorder_exchanges_wait_and_over_the_budget_they_are_lost() -> None:
    box = Outbox(budget=100_000)
    sizes = [box.append(exchange(n), 1) for n in range(1000)]
    books = box.statistics()
    assert balances(books)
    assert books.queued == sum(sizes)
    assert 0 < books.queued < 1000
    assert books.lost == {"journal_full": 1000 - sum(sizes)}
    assert box.queued_bytes < 101_000
    assert not box.append(exchange(1, bytes(200_000)), 1)
    await box.close(0.1)
    assert box.statistics().lost == {"journal_full": 1001 - sum(sizes), "journal_closed": sum(sizes)}
    assert not box.append(exchange(1), 1)
    assert box.statistics().lost["journal_closed"] == sum(sizes) + 1
    assert balances(box.statistics())
    assert box.queued_bytes == 0


async def test_what_waited_for_a_recorder_is_sent_to_the_first_that_connects(tmp_path: Path) -> None:
    async with ends(tmp_path) as both:
        box = Outbox(budget=1 << 20, gather=0.001)
        for n in range(100):
            box.append(exchange(n), 1)
        ours, theirs = socket.socketpair()
        both.inbox.add("late", theirs)
        box.connect(ours)
        await until(lambda: box.statistics().written == 100)
        await box.close(10)


@pytest.mark.parametrize("loop", [asyncio.new_event_loop, uvloop.new_event_loop], ids=["asyncio", "uvloop"])
def test_when_the_recorder_closes_what_was_sent_is_lost_and_the_rest_goes_to_the_next(
    tmp_path: Path, loop: Any
) -> None:
    """Nobody reads the first connection: all that its socket takes is lost with it."""
    with asyncio.Runner(loop_factory=loop) as runner:
        runner.run(lose_one_recorder(tmp_path))


async def lose_one_recorder(directory: Path) -> None:
    ended = asyncio.Event()
    box = Outbox(budget=64 << 20, gather=0.001, on_disconnect=ended.set)
    ours, theirs = socket.socketpair()
    box.connect(ours)
    for n in range(2000):
        box.append(exchange(n, bytes(1000)), 1)
    await until(lambda: box._blocked)
    theirs.close()
    async with asyncio.timeout(10):
        await ended.wait()
    books = box.statistics()
    lost = books.lost["recorder_ended"]
    assert balances(books)
    assert 0 < lost < 2000
    assert not box.connected
    with journal(directory) as log:
        inbox = Inbox(log, lambda name, generation: line_of)
        ours, theirs = socket.socketpair()
        inbox.add("0", theirs)
        box.connect(ours)
        await until(lambda: box.statistics().queued == 0)
        books = box.statistics()
        assert (books.written, books.lost) == (2000 - lost, {"recorder_ended": lost})
        await box.close(10)
        await inbox.close(10)
    assert ids(directory) == [str(n) for n in range(lost, 2000)]


async def test_what_waits_when_a_live_process_stops_goes_to_a_recorder_that_is_started_meanwhile(
    tmp_path: Path,
) -> None:
    """The first one takes a part, and ends while the live process waits for it."""
    box = Outbox(budget=64 << 20, gather=0.001)
    ours, theirs = socket.socketpair()
    box.connect(ours)
    for n in range(2000):
        box.append(exchange(n, bytes(1000)), 1)
    await until(lambda: box._blocked)
    closing = asyncio.get_running_loop().create_task(box.close(60))
    await asyncio.sleep(0)
    theirs.close()
    await until(lambda: not box.connected)
    lost = box.statistics().lost["recorder_ended"]
    with journal(tmp_path) as log:
        inbox = Inbox(log, lambda name, generation: line_of)
        ours, theirs = socket.socketpair()
        inbox.add("0", theirs)
        box.connect(ours)
        await closing
        await inbox.close(10)
    books = box.statistics()
    assert (books.written, books.lost, books.queued) == (2000 - lost, {"recorder_ended": lost}, 0)
    late, other = socket.socketpair()
    box.connect(late)  # it has closed for good
    assert not box.connected
    other.close()


async def test_an_append_after_the_recorders_end_raises_nothing() -> None:
    box = Outbox(budget=1 << 20, gather=0.001)
    ours, theirs = socket.socketpair()
    box.connect(ours)
    theirs.close()
    for n in range(100):
        assert box.append(exchange(n), 1)
        box.send_census()
        box.send_note(n)
    await until(lambda: not box.connected)
    assert balances(box.statistics())
    await box.close(1)


async def test_a_full_journal_stops_the_reading_and_goes_on_when_the_disk_does(tmp_path: Path) -> None:
    """Memory is bounded at both ends; nothing is lost as long as live's budget takes it."""
    gate = threading.Event()

    def write(descriptor: int, data: bytes | memoryview) -> int:
        assert gate.wait(30)
        return os.write(descriptor, data)

    async with ends(tmp_path, write=write, queue_bytes=2 << 20) as both:
        held: list[int] = []
        for n in range(4000):
            both.outbox.append(exchange(n, bytes(2000)), 1)
            if n % 20 == 0:
                await asyncio.sleep(0)
                held.append(both.inbox.held_bytes())
        await until(lambda: not both.inbox._links[0].reads)
        assert max(held) < 3 << 20
        assert both.outbox.statistics().lost == {}
        assert both.outbox.queued_bytes > 1 << 20
        gate.set()
        await until(lambda: both.outbox.statistics().written == 4000)
    assert ids(tmp_path) == [str(n) for n in range(4000)]


async def test_losses_on_the_disk_come_back_by_reason(tmp_path: Path) -> None:
    def write(descriptor: int, data: bytes | memoryview) -> int:
        raise OSError(28, "No space left on device")

    async with ends(tmp_path, write=write) as both:
        for n in range(10):
            both.outbox.append(exchange(n), 1)
        await until(lambda: both.outbox.statistics().lost == {"disk_full": 10})
        assert balances(both.outbox.statistics())
        assert both.outbox.statistics().verdicts == {("s", "match"): 10}
        assert both.outbox.statistics().failed == {"s": 10}


async def test_a_malformed_frame_ends_the_connection_and_what_came_before_is_written(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    finals: list[tuple[str, LiveState, bool]] = []
    with journal(tmp_path) as log:
        inbox = Inbox(log, lambda name, generation: line_of, on_end=lambda *final: finals.append(final))
        ours, theirs = socket.socketpair()
        inbox.add("0", theirs)
        with ours:
            ours.sendall(frames_of_exchange(exchange(1), 1)[0] + b"nonsense of some length")
            await until(lambda: bool(finals))
        await inbox.close(1)
    assert ids(tmp_path) == ["1"]
    assert "cannot be read" in caplog.text
    assert finals[0][2] is False


@pytest.mark.parametrize(
    "wrong",
    [b"nonsense of some length", frame_of(frames.NOTE, 1), frame_of(frames.ACK, 1), frame_of(frames.ACK, (1,) * 5)],
)
async def test_a_malformed_report_ends_the_connection(wrong: bytes, caplog: pytest.LogCaptureFixture) -> None:
    box = Outbox(budget=1 << 20, gather=0.001)
    ours, theirs = socket.socketpair()
    with theirs:
        box.connect(ours)
        box.append(exchange(1), 1)
        await until(lambda: box.statistics().handed == 1)
        theirs.sendall(wrong)
        await until(lambda: not box.connected)
    assert box.statistics().lost == {"recorder_ended": 1}
    assert "a defect in the proxy" in caplog.text


@pytest.mark.parametrize("seen_by", ["reading", "sending"])
async def test_reports_that_came_before_the_recorders_end_count(seen_by: str) -> None:
    """Whether the next thing that happens is the reading of what it had sent, or sending."""
    box = Outbox(budget=1 << 20, gather=0.001)
    ours, theirs = socket.socketpair()
    box.connect(ours)
    for n in range(5):
        box.append(exchange(n), 1)
    await until(lambda: box.statistics().handed == 5)
    theirs.sendall(frame_of(frames.ACK, (3, 300, {}, {}, {}, 0)))
    theirs.close()
    if seen_by == "sending":
        box.send_census()
        assert not box.connected
    await until(lambda: not box.connected)
    assert (box.statistics().written, box.statistics().lost) == (3, {"recorder_ended": 2})


async def test_the_last_census_has_all_that_changed_before_the_end(tmp_path: Path) -> None:
    last: list[str] = ["at the start"]
    async with ends(tmp_path, census=lambda: last[0]) as both:
        both.outbox.append(exchange(1), 1)
        last[0] = "at the end"
    [(_, state, orderly)] = both.finals
    assert (state.census, orderly) == ("at the end", True)


@pytest.mark.parametrize("loop", [asyncio.new_event_loop, uvloop.new_event_loop], ids=["asyncio", "uvloop"])
def test_a_census_that_is_asked_for_after_the_end_was_sent_costs_no_record(tmp_path: Path, loop: Any) -> None:
    """The supervisor asks once a second, also while a live process waits for the recorder's last report."""

    async def main() -> None:
        gate = threading.Event()
        censuses: list[int] = []

        def write(descriptor: int, data: bytes | memoryview) -> int:
            assert gate.wait(30)
            return os.write(descriptor, data)

        async with ends(tmp_path, write=write, census=lambda: censuses.append(1)) as both:
            for n in range(10):
                both.outbox.append(exchange(n), 1)
            closing = asyncio.get_running_loop().create_task(both.outbox.close(30))
            await until(lambda: both.inbox._links[0].ended)
            taken = len(censuses)
            for _ in range(3):
                both.outbox.send_census()
                both.outbox.note_change()
                await asyncio.sleep(0)
            assert both.outbox.connected
            gate.set()
            await closing
            books = both.outbox.statistics()
            assert (books.written, books.lost, books.queued) == (10, {}, 0)
            assert len(censuses) == taken

    with asyncio.Runner(loop_factory=loop) as runner:
        runner.run(main())


async def test_closing_can_be_hurried_while_it_waits() -> None:
    box = Outbox(budget=64 << 20, gather=0.001)
    ours, theirs = socket.socketpair()
    with theirs:
        box.hurry(0.0)  # nothing is being closed
        box.connect(ours)
        box.append(exchange(1), 1)
        closing = asyncio.get_running_loop().create_task(box.close(3600))
        await until(lambda: box.statistics().handed == 1)
        box.hurry(7200)  # not less than is left
        box.hurry(0.001)
        async with asyncio.timeout(30):
            await closing
        box.hurry(0.001)
    assert box.statistics().lost == {"recorder_ended": 1}


async def test_closing_gives_up_on_a_recorder_that_does_not_read() -> None:
    box = Outbox(budget=64 << 20, gather=0.001)
    ours, theirs = socket.socketpair()
    with theirs:
        box.connect(ours)
        for n in range(1000):
            box.append(exchange(n, bytes(1000)), 1)
        await box.close(0.05)
    books = box.statistics()
    assert balances(books)
    assert set(books.lost) == {"recorder_ended", "journal_closed"}
    assert (books.queued, books.queued_bytes, books.written) == (0, 0, 0)


# --- a live process that dies -----------------------------------------------------------------------------------------


async def test_a_live_process_that_dies_leaves_exact_books_and_a_tail(tmp_path: Path) -> None:
    """It is gone in the middle of a frame: what came whole is written, and counted with its last census."""
    finals: list[tuple[str, LiveState, bool]] = []
    box = Outbox(budget=64 << 20, gather=0.001, census=lambda: "census")
    ours, theirs = socket.socketpair()
    with journal(tmp_path) as log:
        inbox = Inbox(log, lambda name, generation: line_of, on_end=lambda *final: finals.append(final))
        inbox.add("0", theirs)
        box.connect(ours)
        for n in range(10):
            box.append(exchange(n), 1)
        box.send_census()
        await until(lambda: inbox.states()["0"].census == "census" and box.statistics().written == 10)
        for n in range(10, 15):
            box.append(exchange(n), 1)
        await until(lambda: log.statistics().written == 15)
        [half] = frames_of_exchange(exchange(99), 1)
        ours.send(half[: len(half) // 2])
        box._disconnect()  # as the kernel does
        await until(lambda: bool(finals))
        await inbox.close(1)
    [(_, state, orderly)] = finals
    assert not orderly
    assert state.books is not None
    assert (state.books.appended, state.books.written, state.books.lost) == (15, 15, {})
    assert state.tail.count <= 15
    await box.close(0.1)


async def test_the_end_of_a_live_process_is_told_when_all_it_had_sent_is_written(tmp_path: Path) -> None:
    gate = threading.Event()
    reached = threading.Event()

    def write(descriptor: int, data: bytes | memoryview) -> int:
        reached.set()
        assert gate.wait(30)
        return os.write(descriptor, data)

    async with ends(tmp_path, write=write) as both:
        for n in range(10):
            both.outbox.append(exchange(n), 1)
        await until(reached.is_set)
        await until(lambda: both.inbox._links[0].source.queued == 10)
        both.outbox._disconnect()
        await until(lambda: both.inbox._links[0].ended)
        await asyncio.sleep(0.05)  # several looks
        assert both.finals == []
        gate.set()
        await until(lambda: bool(both.finals))
        [(_, state, _)] = both.finals
        assert state.books is not None
        assert (state.books.written, state.books.queued) == (10, 0)


@pytest.mark.parametrize("loop", [asyncio.new_event_loop, uvloop.new_event_loop], ids=["asyncio", "uvloop"])
def test_live_processes_may_end_in_the_same_turn_of_the_loop(tmp_path: Path, loop: Any) -> None:
    async def main() -> None:
        names: list[str] = []
        errors: list[Any] = []
        asyncio.get_running_loop().set_exception_handler(lambda loop, error: errors.append(error))
        with journal(tmp_path) as log:
            inbox = Inbox(log, lambda name, generation: line_of, on_end=lambda name, state, orderly: names.append(name))
            pairs = [socket.socketpair() for _ in range(3)]
            for number, (ours, theirs) in enumerate(pairs):
                inbox.add(str(number), theirs)
                ours.sendall(frames_of_exchange(exchange(number), 1)[0])
                ours.close()
            await until(lambda: len(names) == 3)
            await inbox.close(1)
            assert log.statistics().written == 3
        assert sorted(names) == ["0", "1", "2"]
        assert errors == []

    with asyncio.Runner(loop_factory=loop) as runner:
        runner.run(main())


def test_the_tail_counts_as_live_does() -> None:
    from shadowproxy.serve.handover.tail import Tail

    tail = Tail()
    tail.add(exchange(1))
    failed = Failure(Outcome.TIMEOUT, "", 3000.0)
    skipped = Skipped(Outcome.PAUSED, "")
    tail.add(Exchange(exchange(2).request, failed, {"s": skipped}, skipped))
    tail.add(Exchange(exchange(3).request, REPLY, {"s": failed}, REPLY))
    assert tail.count == 3
    assert tail.outcomes == {Outcome.OK: 2, Outcome.TIMEOUT: 1}
    assert (sum(tail.live_mirrored.counts), sum(tail.live_alone.counts)) == (2, 1)
    assert tail.shadows["s"].outcomes == {Outcome.OK: 1, Outcome.PAUSED: 1, Outcome.TIMEOUT: 1}
    assert (tail.shadows["s"].chosen, sum(tail.shadows["s"].times.counts)) == (3, 2)
    assert tail.shadows["control"].outcomes == {Outcome.PAUSED: 1, Outcome.OK: 1}


# --- with a recorder that is a process of its own ---------------------------------------------------------------------

RECORDER = """
import asyncio, socket, sys
from pathlib import Path
sys.path.insert(0, {tests!r})
from test_handover import journal, line_of
from shadowproxy.serve.handover.inbox import Inbox

async def main():
    with journal(Path(sys.argv[2])) as log:
        inbox = Inbox(log, lambda name, generation: line_of)
        inbox.add("0", socket.socket(fileno=int(sys.argv[1])))
        await inbox.close(60)

asyncio.run(main())
"""


@contextmanager
def recorder(path: Path, theirs: socket.socket) -> Iterator[subprocess.Popen[bytes]]:
    program = RECORDER.format(tests=str(Path(__file__).parent))
    with theirs:
        arguments = [sys.executable, "-c", program, str(theirs.fileno()), str(path)]
        process = subprocess.Popen(arguments, pass_fds=[theirs.fileno()])
    try:
        yield process
    finally:
        process.kill()
        process.wait()


@pytest.mark.slow
@pytest.mark.parametrize("how", ["killed", "stopped and continued"])
async def test_a_recorder_in_a_process_of_its_own_may_be(tmp_path: Path, how: str) -> None:
    box = Outbox(budget=1 << 20, gather=0.001)
    ours, theirs = socket.socketpair()
    box.connect(ours)
    with recorder(tmp_path, theirs) as process:
        for n in range(100):
            box.append(exchange(n), 1)
        await until(lambda: box.statistics().written == 100)
        process.send_signal(signal.SIGSTOP)
        for n in range(100, 5000):
            box.append(exchange(n), 1)
            if n % 100 == 0:
                await asyncio.sleep(0)
                assert balances(box.statistics())
        full = box.statistics()
        assert full.lost["journal_full"] > 0
        assert full.queued_bytes < (1 << 20) + 2000
        if how == "killed":
            process.kill()
            await until(lambda: not box.connected)
            after = box.statistics()
            assert after.lost["recorder_ended"] == full.handed - 100
            assert after.written == 100
        else:
            process.send_signal(signal.SIGCONT)
            await until(lambda: box.statistics().queued == 0)
            assert box.statistics().written == 5000 - full.lost["journal_full"]
            await box.close(10)
            assert process.wait(30) == 0
            assert len(ids(tmp_path)) == box.statistics().written
        assert balances(box.statistics())
    await box.close(1)


LIVE = """
import asyncio, socket, sys
sys.path.insert(0, {tests!r})
from test_handover import exchange
from shadowproxy.serve.handover.outbox import Outbox

async def main():
    box = Outbox(budget=1 << 20)
    box.connect(socket.socket(fileno=int(sys.argv[1])))
    n = 0
    while True:
        for _ in range(10):
            box.append(exchange(n, bytes(60_000) if n % 50 == 0 else b""), 1)
            n += 1
        await asyncio.sleep(0.0005)

asyncio.run(main())
"""


def live(descriptor: int) -> subprocess.Popen[bytes]:
    program = LIVE.format(tests=str(Path(__file__).parent))
    return subprocess.Popen([sys.executable, "-c", program, str(descriptor)], pass_fds=[descriptor])


@pytest.mark.slow
@pytest.mark.parametrize("within", [0.3, 0.7])
async def test_a_live_process_that_is_killed_leaves_whole_lines_and_books_that_balance(
    tmp_path: Path, within: float
) -> None:
    finals: list[tuple[str, LiveState, bool]] = []
    ours, theirs = socket.socketpair()
    with journal(tmp_path) as log:
        inbox = Inbox(log, lambda name, generation: line_of, on_end=lambda *final: finals.append(final))
        inbox.add("0", theirs)
        with ours:
            process = live(ours.fileno())
        await until(lambda: log.statistics().written > 100)
        await asyncio.sleep(within)  # somewhere between two censuses
        process.kill()
        process.wait()
        await until(lambda: bool(finals))
        await inbox.close(1)
    [(_, state, orderly)] = finals
    assert not orderly
    assert state.books is not None
    assert balances(state.books)
    assert state.books.queued == 0
    written = ids(tmp_path)
    assert state.books.written == len(written)
    assert state.books.appended - state.books.written == sum(state.books.lost.values())
    assert written == [str(n) for n in range(len(written))]


def test_what_waits_gives_the_collector_nothing_to_look_through() -> None:
    """A collection goes over every tuple there is: with queued exchanges it took tens of milliseconds."""

    async def main() -> None:
        box = Outbox(budget=64 << 20)
        box.append(exchange(-1), 1)
        gc.collect()
        before = len(gc.get_objects())
        for n in range(10_000):
            box.append(exchange(n), 1)
        gc.collect()
        assert len(gc.get_objects()) - before < 100
        assert box.statistics().queued == 10_001
        await box.close(0)

    asyncio.run(main())
