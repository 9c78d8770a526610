"""The application's end of the connection to its companion: nothing waits or raises, and what is lost is counted."""

import multiprocessing
import os
import signal
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from companions import PATIENCE, FakeCompanion

from shadowproxy.exchange import Failure, Outcome, Reply
from shadowproxy.incode.connection import Connection
from shadowproxy.incode.exchanges import Exchange, Sender
from shadowproxy.intake_frames import RESULT, packed

MIB = 1 << 20


@pytest.fixture
def companion(tmp_path: Path) -> Iterator[FakeCompanion]:
    with FakeCompanion(tmp_path) as fake:
        yield fake


@pytest.fixture
def sender(companion: FakeCompanion) -> Iterator[Sender]:
    connection = companion.connection()
    yield Sender(connection, 1000, b"X-Request-ID", 16 * MIB)
    connection.close()


def one(
    sender: Sender, body: bytes = b"in", *, answer: bytes = b"out", fields: tuple[tuple[bytes, bytes], ...] = ()
) -> None:
    exchange = sender.begin("POST", b"/p?q", fields)
    assert exchange is not None
    exchange.request_body(body)
    exchange.request_end()
    exchange.answer(200, [(b"a", b"b")])
    exchange.answer_body(answer)
    exchange.end()


def test_an_exchange_arrives_as_it_was(companion: FakeCompanion, sender: Sender) -> None:
    before = time.time_ns()
    one(sender, fields=((b"x-request-id", b"r1"), (b"n", b"\xff")))
    assert sender.connection.flush(PATIENCE)
    [begin], [end] = companion.begun(), companion.ended()
    assert begin[:3] == (begin.key, "r1", None)
    assert before <= begin.at_ns <= time.time_ns()
    assert begin[5:10] == ("POST", b"/p?q", ((b"x-request-id", b"r1"), (b"n", b"\xff")), b"in", 2)
    assert (end.key, begin.unfit, begin.shadows) == (begin.key, None, None)
    assert isinstance(end.live, Reply)
    assert end.live[:4] == (200, ((b"a", b"b"),), b"out", 3)
    assert 0 < end.live.first_byte_ms <= end.live.total_ms < 1000
    assert sender.held == 0


def test_nothing_is_started_before_the_first_exchange(companion: FakeCompanion, sender: Sender) -> None:
    threads = threading.active_count()
    assert sender.connection.flush(PATIENCE)
    assert (companion.starts, threading.active_count()) == (0, threads)
    one(sender)
    assert sender.connection.flush(PATIENCE)
    assert companion.starts == 1
    assert companion.frames[0].kind == 1


def test_pieces_are_put_together_and_their_times_are_kept(companion: FakeCompanion, sender: Sender) -> None:
    exchange = sender.begin("POST", b"/", [])
    assert exchange is not None
    for piece in (b"a", bytearray(b"b"), memoryview(b"c")):
        exchange.request_body(piece)
        exchange.answer_body(piece)
    exchange.answer(201, [])
    exchange.end()
    exchange.answer_body(b"late")
    exchange.end()
    assert sender.connection.flush(PATIENCE)
    [begin], [end] = companion.begun(), companion.ended()
    assert begin.body == b"abc"
    assert isinstance(end.live, Reply)
    assert (end.live.status, end.live.body, bool(end.live.arrivals)) == (201, b"abc", True)


def test_bodies_over_the_limit_are_cut_and_unfit(companion: FakeCompanion, sender: Sender) -> None:
    one(sender, b"x" * 2000, answer=b"y" * 3000)
    assert sender.connection.flush(PATIENCE)
    [begin], [end] = companion.begun(), companion.ended()
    assert (len(begin.body), begin.body_bytes, begin.unfit) == (1000, 2000, Outcome.OVERSIZE)
    assert isinstance(end.live, Reply)
    assert (len(end.live.body), end.live.body_bytes) == (1000, 3000)
    assert sender.held == 0


@pytest.mark.parametrize(
    ("fields", "unfit"),
    [
        (((b"Content-Length", b"2"),), None),
        (((b"Content-Length", b"3"),), Outcome.OVERLOAD),
        (((b"Transfer-Encoding", b"chunked"),), Outcome.OVERLOAD),
        ((), None),
    ],
)
def test_a_request_that_live_did_not_read_to_its_end_is_for_no_shadow(
    companion: FakeCompanion, sender: Sender, fields: tuple[tuple[bytes, bytes], ...], unfit: Outcome | None
) -> None:
    exchange = sender.begin("POST", b"/", fields)
    assert exchange is not None
    exchange.request_body(b"in")
    exchange.answer(200, [])
    exchange.end()
    assert sender.connection.flush(PATIENCE)
    assert [begin.unfit for begin in companion.begun()] == [unfit]


def test_what_live_failed_at_is_one_line(companion: FakeCompanion, sender: Sender) -> None:
    def begun() -> Exchange:
        exchange = sender.begin("GET", b"/", [])
        assert exchange is not None
        return exchange

    begun().fail(Outcome.TIMEOUT, "two\nlines")
    begun().end()
    half = begun()
    half.answer(200, [])
    half.answer_body(b"half")
    half.fail(Outcome.INCOMPLETE, "cut off")
    assert sender.connection.flush(PATIENCE)
    first, second, third = (end.live for end in companion.ended())
    assert isinstance(first, Failure)
    assert first[:2] == (Outcome.TIMEOUT, "two lines")
    assert isinstance(second, Failure)
    assert second.outcome is Outcome.PROTOCOL_ERROR
    assert isinstance(third, Failure)
    assert third.reply is not None
    assert third.reply.body == b"half"


@pytest.mark.parametrize(("given", "id"), [(b"fine", "fine"), (b"not fine", None), (b"", None), (b"x" * 129, None)])
def test_only_a_sound_request_id_is_used(
    companion: FakeCompanion, sender: Sender, given: bytes, id: str | None
) -> None:
    one(sender, fields=((b"X-Request-Id", given),))
    assert sender.connection.flush(PATIENCE)
    assert [begin.id for begin in companion.begun()] == [id]


def test_a_companion_that_does_not_read_delays_nobody_and_what_has_no_room_is_counted(
    companion: FakeCompanion, sender: Sender
) -> None:
    one(sender)
    assert sender.connection.flush(PATIENCE)
    companion.reading.clear()
    sender.capture = MIB
    sender.connection.send(b"\0\0\0\x12\x06" + b"\0" * 8 + b"\0\0\0\x02" + b"\0" * 4 + b"{}")  # it stops after this one
    for _ in range(40):
        one(sender, b"x" * 100_000)
    wait(lambda: not sender.connection._incoming)
    lost = sender.connection.lost["client_full"]
    assert 0 < lost < 40
    companion.reading.set()
    assert sender.connection.flush(PATIENCE)
    one(sender)
    assert sender.connection.flush(PATIENCE)
    assert len(companion.ended()) == len(companion.begun()) == 42 - lost
    assert companion.lost() == {"client_full": lost}
    assert sender.held == 0


def test_an_end_that_has_no_room_counts_its_exchange_once(
    companion: FakeCompanion, sender: Sender, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The companion records what it was told the beginning of, and what it was not told of is counted as lost."""
    monkeypatch.setattr("shadowproxy.incode.connection.SLACK", 0)
    connection = sender.connection
    sender.capture = MIB
    one(sender)
    assert connection.flush(PATIENCE)
    companion.reading.clear()
    connection.send(b"\0\0\0\x12\x06" + b"\0" * 8 + b"\0\0\0\x02" + b"\0" * 4 + b"{}")  # it stops after this one
    known, unknown, other = (sender.begin("POST", b"/", []) for _ in range(3))
    assert known is not None
    assert unknown is not None
    assert other is not None
    known.request_end()
    wait(lambda: not connection._incoming)
    while not connection._unsent:  # as much as the socket takes
        connection.send(packed(RESULT, 1, b"{}", b"x" * 100_000, b""))
        wait(lambda: not connection._incoming)
    unknown.request_end()
    other.request_body(b"x")
    other.request_end()
    known.answer(200, [])
    known.answer_body(b"x" * MIB)
    known.end()
    wait(lambda: not connection._incoming and connection._thread is None)
    assert connection.lost == {"client_full": 2}
    for each in (unknown, other):
        each.answer(200, [])
        each.end()
    companion.reading.set()
    connection._not_before = 0.0
    one(sender)
    assert connection.flush(PATIENCE)
    wait(companion.lost)
    assert connection.lost == companion.lost() == {"client_full": 2}
    assert (len(companion.begun()), len(companion.ended())) == (3, 2)


def test_losses_are_reported_to_the_next_companion_where_one_ends_before_it_is_told(
    companion: FakeCompanion, sender: Sender
) -> None:
    one(sender)
    assert sender.connection.flush(PATIENCE)
    with sender.connection._turn:
        sender.connection.lose("client_full")
        companion.die()
        sender.connection._report_losses()
        sender.connection._reporting, losses = {"no_companion": 2}, dict(sender.connection._unreported)
        sender.connection._unsent.append((b"half", None, 3))
        sender.connection._break()
    assert losses == {"client_full": 1}
    wait(lambda: sender.connection._thread is None)
    sender.connection._not_before = 0.0
    one(sender)
    assert sender.connection.flush(PATIENCE)
    wait(companion.lost)
    assert companion.lost() == {"client_full": 1, "no_companion": 2}


def test_threads_lose_nothing_among_them(companion: FakeCompanion, sender: Sender) -> None:
    def many() -> None:
        for _ in range(200):
            one(sender)

    threads = [threading.Thread(target=many) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sender.connection.flush(PATIENCE)
    assert len(companion.begun()) == len(companion.ended()) == 800 - sum(sender.connection.lost.values())
    order = [(each.kind, each.key) for each in companion.frames]
    assert all(order.index((2, end.key)) < order.index((3, end.key)) for end in companion.ended()[::40])


def test_a_companion_that_ends_is_started_again_and_the_calls_meanwhile_are_counted(
    companion: FakeCompanion, sender: Sender
) -> None:
    one(sender)
    half = sender.begin("GET", b"/", [])
    assert half is not None
    half.request_end()
    assert sender.connection.flush(PATIENCE)
    companion.die()
    wait(lambda: sender.connection._thread is None)
    with sender.connection._turn:
        sender.connection._not_before = time.monotonic() + 60  # however long this machine takes until the next line
    half.answer(200, [])
    half.end()  # its beginning went to the one that ended
    one(sender)  # too early
    assert sender.connection.lost == {"companion_ended": 1, "no_companion": 1}
    sender.connection._not_before = 0.0
    one(sender)
    assert sender.connection.flush(PATIENCE)
    one(sender)
    assert sender.connection.flush(PATIENCE)
    assert companion.starts == 2
    assert (len(companion.begun()), len(companion.ended())) == (4, 3)
    assert companion.lost() == {"companion_ended": 1, "no_companion": 1}


def wait(condition: object) -> None:
    deadline = time.monotonic() + PATIENCE
    assert callable(condition)
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.001)


def test_a_companion_that_cannot_be_started_is_one_warning(
    companion: FakeCompanion, sender: Sender, caplog: pytest.LogCaptureFixture
) -> None:
    companion.failure = "no such program"
    one(sender)
    wait(lambda: sender.connection._thread is None)
    assert caplog.messages == ["no shadow gets a request, as the companion does not start: no such program"]
    assert sender.connection.lost == {"no_companion": 1}


def test_a_companion_that_refuses_says_why(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    with FakeCompanion(tmp_path, refused="protocol 2 is spoken here") as fake:
        connection = fake.connection()
        one(Sender(connection, 1000, b"x-request-id", MIB))
        wait(lambda: connection._thread is None)
        connection.close()
    assert caplog.messages == [
        "no shadow gets a request, as the companion refuses this process: protocol 2 is spoken here"
    ]


@pytest.mark.filterwarnings("ignore:.*use of fork:DeprecationWarning")
def test_a_forked_child_has_a_connection_of_its_own(companion: FakeCompanion, sender: Sender) -> None:
    one(sender)
    inherited = sender.begin("GET", b"/", [])
    assert inherited is not None
    inherited.request_end()
    assert sender.connection.flush(PATIENCE)
    child = os.fork()
    if not child:
        inherited.end()  # the parent's: the child says nothing of it
        one(sender)
        os._exit(0 if sender.connection.flush(PATIENCE) and sender.connection.sent == 1 else 1)
    _, status = os.waitpid(child, 0)
    assert status == 0
    inherited.answer(204, [])
    inherited.end()
    assert sender.connection.flush(PATIENCE)
    assert len([each for each in companion.frames if each.kind == 1]) == 2
    assert (len(companion.begun()), len(companion.ended())) == (3, 3)


@pytest.mark.filterwarnings("ignore:.*use of fork:DeprecationWarning")
def test_a_process_of_multiprocessing_sends_all_before_it_ends(companion: FakeCompanion, sender: Sender) -> None:
    """It ends by os._exit, so nothing of atexit runs, and its last calls would be lost with the thread."""
    one(sender)
    assert sender.connection.flush(PATIENCE)
    child = multiprocessing.get_context("fork").Process(target=one, args=(sender,))
    child.start()
    child.join(PATIENCE)
    assert child.exitcode == 0
    companion.wait(lambda: len(companion.ended()) == 2)


def test_a_fork_while_another_thread_holds_the_turn_leaves_the_child_free(
    companion: FakeCompanion, sender: Sender
) -> None:
    connection = sender.connection
    with connection._turn:
        connection.forget()
        one(sender)
    assert connection.flush(PATIENCE)
    assert len(companion.ended()) == 1


def test_a_signal_handler_that_sends_while_its_thread_is_sending_does_not_hang(
    companion: FakeCompanion, sender: Sender
) -> None:
    one(sender)
    assert sender.connection.flush(PATIENCE)
    before = signal.signal(signal.SIGUSR1, lambda number, stack: one(sender))
    try:
        with sender.connection._turn:
            os.kill(os.getpid(), signal.SIGUSR1)
        one(sender)
    finally:
        signal.signal(signal.SIGUSR1, before)
    assert sender.connection.flush(PATIENCE)
    assert len(companion.ended()) == 3


def test_what_the_companion_logged_last_is_read_when_the_connection_ends(
    companion: FakeCompanion, sender: Sender
) -> None:
    one(sender)
    assert sender.connection.flush(PATIENCE)
    looks = companion.looks
    sender.connection.close()
    assert companion.looks == looks + 1


def test_nothing_is_sent_after_it_was_closed(companion: FakeCompanion, sender: Sender) -> None:
    one(sender)
    exchange = sender.begin("GET", b"/", [])
    assert sender.connection.flush(PATIENCE)
    sender.connection.close()
    assert exchange is not None
    exchange.end()
    assert sender.begin("GET", b"/", []) is None
    assert repr(sender.connection) == "<Connection closed, 1 exchanges sent, 0 lost, 0 bytes waiting>"
    assert sender.connection._thread is None


def test_memory_for_bodies_is_bounded(companion: FakeCompanion, sender: Sender) -> None:
    small = Sender(sender.connection, 1000, b"x-request-id", 1500)
    first, second = small.begin("POST", b"/", []), small.begin("POST", b"/", [])
    assert first is not None
    assert second is not None
    first.request_body(b"x" * 1000)
    second.request_body(b"x" * 1000)
    for each in (first, second):
        each.request_end()
        each.answer(200, [])
        each.end()
    assert sender.connection.flush(PATIENCE)
    assert [begin.unfit for begin in companion.begun()] == [None, Outcome.OVERLOAD]
    assert small.held == 0


def test_the_connections_of_a_process_are_forgotten_with_it() -> None:
    class Nobody:
        pass

    connection = Connection("/nowhere", Nobody(), 1)  # type: ignore[arg-type]
    assert "not connected" in repr(connection)
