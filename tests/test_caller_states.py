"""The states of a caller's connection: each legal move is made by some scene here, and no other move is ever made."""

import asyncio
import errno
from collections.abc import Sequence
from itertools import pairwise
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from shadowproxy.serve.account import Memory
from shadowproxy.serve.callers.call import BrokenOff, Call
from shadowproxy.serve.callers.connection import CallerConnection
from shadowproxy.serve.callers.link import MOVES, Limits, Link, State
from shadowproxy.serve.http1.framing import FramingError
from shadowproxy.serve.telemetry.operator_log import Repeats

LIMITS = Limits(headers=1000, buffer=1000, head_timeout=60.0, body_timeout=60.0, idle_timeout=60.0)

GET = b"GET / HTTP/1.1\r\nHost: h\r\n\r\n"
LAST = b"GET / HTTP/1.1\r\nHost: h\r\nConnection: close\r\n\r\n"
UPLOAD = b"POST / HTTP/1.1\r\nHost: h\r\nContent-Length: 3\r\n\r\na"
LAST_UPLOAD = b"POST / HTTP/1.1\r\nHost: h\r\nConnection: close\r\nContent-Length: 3\r\n\r\na"
CHUNKED = b"POST / HTTP/1.1\r\nHost: h\r\nTransfer-Encoding: chunked\r\n\r\n"

SCENES: dict[str, tuple[Sequence[bytes | str], str]] = {
    # What happens, one after the other, and the states that follow from it.
    "a request in one piece": ([GET, "start", "end", "leave"], "request response idle closed"),
    "a head in two pieces": ([GET[:9], GET[9:], "respond"], "head request response idle"),
    "an empty line in two pieces": ([b"\r", b"\n"], "head idle"),
    "what is no request": ([b"BAD\r\n\r\n", "expire"], "lingering closing closed"),
    "a late head": ([b"GET", "expire", "leave"], "head lingering closed"),
    "no next request": (["expire"], "closing closed"),
    "a body that turns bad": ([CHUNKED + b"no size\r\n"], "request lingering"),
    "a late body": ([UPLOAD, "expire"], "request lingering"),
    "an early response": ([UPLOAD, "respond", b"bc"], "request response rest idle"),
    "a late rest of a body": ([UPLOAD, "respond", "expire"], "request response rest lingering"),
    "a last response": ([LAST, "respond"], "request response closing closed"),
    "an early last response": ([LAST_UPLOAD, "respond"], "request response lingering"),
    "a response broken off": ([GET, "start", "break off"], "request response closing closed"),
    "a body that turns bad amid the response": (
        [CHUNKED, "start", b"no size\r\n"],
        "request response closing closed",
    ),
    "broken off before the response": ([GET, "break off"], "request closing closed"),
    "a caller that leaves amid a head": ([b"GET", "leave"], "head closed"),
    "a caller that leaves before the response": ([GET, "leave"], "request closed"),
    "a caller that leaves amid the response": ([GET, "start", "leave"], "request response closed"),
    "a caller that leaves amid the rest": ([UPLOAD, "respond", "leave"], "request response rest closed"),
    "a caller that leaves at once": (["leave"], "closed"),
    "two requests at once": ([GET + GET, "respond", "respond"], "request response idle request response idle"),
    "a tunnel that live ends": (
        [GET, "switch", b"frames", "end tunnel", b"more frames", "expire"],
        "request tunnel lingering closing closed",
    ),
    "a tunnel that the caller ends": ([GET + b"frames", "switch", "leave"], "request tunnel closed"),
    "a defect after the response": ([GET, "respond", "defect"], "request response idle"),
}


class Wire(asyncio.Transport):
    """A transport that sends at once, but for `unsent` bytes; its connection is lost in the turn after it is closed."""

    def __init__(self, connection: CallerConnection) -> None:
        super().__init__()
        self.sent = b""
        self.unsent = 0
        self._connection = connection
        self._eof = self._closing = False

    def set_write_buffer_limits(self, high: int | None = None, low: int | None = None) -> None: ...
    def pause_reading(self) -> None: ...
    def resume_reading(self) -> None: ...

    def get_write_buffer_size(self) -> int:
        return self.unsent

    def is_closing(self) -> bool:
        return self._closing

    def write(self, data: Any) -> None:
        assert not self._eof
        assert not self._closing or self.unsent
        self.sent += data

    def write_eof(self) -> None:
        self._eof = True

    def close(self) -> None:
        if not self._closing and not self.unsent:
            asyncio.get_running_loop().call_soon(self._connection.connection_lost, None)
        self._closing = True

    def abort(self) -> None:
        if not self._closing or self.unsent:
            asyncio.get_running_loop().call_soon(self._connection.connection_lost, None)
        self._closing = True


class FakeTunnel:
    """Keeps what the caller sends after a 101, and notes that it has left."""

    def __init__(self) -> None:
        self.taken = b""
        self.ends = 0

    def take(self, data: bytes) -> None:
        self.taken += data

    def caller_ended(self, exc: Exception | None) -> None:
        self.ends += 1


class Scene:
    """One connection to an application that does as it is told."""

    def __init__(self) -> None:
        self.calls: list[Call] = []
        self.tunnel = FakeTunnel()
        self._ends: list[asyncio.Future[None]] = []
        self.tasks: set[asyncio.Task[None]] = set()
        self.connection = CallerConnection(
            self, set(), self.tasks, limits=LIMITS, repeats=Repeats(), memory=Memory(1 << 30)
        )
        assert repr(self.connection) == "<CallerConnection not connected, 0 bytes unread>"
        self.wire = Wire(self.connection)
        self.connection.connection_made(self.wire)

    def state(self) -> State:
        return self.connection.link.state

    async def answer(self, call: Call) -> None:
        self.calls.append(call)
        self._ends.append(asyncio.get_running_loop().create_future())
        reading = asyncio.get_running_loop().create_task(self._read(call))
        try:
            await asyncio.wait([self._ends[-1], reading], return_when=asyncio.FIRST_COMPLETED)
            if reading.done():
                reading.result()
            await self._ends[-1]
        finally:
            reading.cancel()

    async def _read(self, call: Call) -> None:
        while await call.read():
            pass
        await asyncio.Event().wait()

    async def act(self, step: bytes | str) -> None:
        """Do one step, if it can be done now, and have all that follows from it done."""
        connection = self.connection
        if isinstance(step, bytes):
            if not self.wire.is_closing():
                connection.data_received(step)
        elif step == "leave":
            self.wire.close()
        elif step == "expire":
            if connection.link.state is not State.CLOSED:
                connection._expired()
        elif self.calls and not self._ends[-1].done():
            try:
                self._respond(step, self.calls[-1], self._ends[-1])
            except (FramingError, BrokenOff) as error:
                self._ends[-1].set_exception(error)
        for _ in range(6):
            await asyncio.sleep(0)

    def _respond(self, step: str, call: Call, end: asyncio.Future[None]) -> None:
        writes = not self.wire.is_closing()
        if step == "start" and writes and not call.started:
            call.start(200, [])
        elif step == "respond" and writes and not call.started:
            call.start(200, [], body=b"a", last=True)
        elif step == "end" and writes and call.started and not call.answered:
            call.write(b"", last=True)
        elif step == "break off" and not call.answered:
            end.set_exception(BrokenOff())
        elif step == "switch" and writes and not call.started:
            call.switch([], self.tunnel)
            call.open_tunnel()
        elif step == "end tunnel" and call.tunnel is not None and not call.answered:
            call.end_tunnel()
        elif step == "defect":
            end.set_exception(RuntimeError("planted"))

    async def close(self) -> None:
        for end in self._ends:
            if not end.done():
                end.set_result(None)
        self.wire.close()
        if self.tasks:
            await asyncio.wait(self.tasks)
        await asyncio.sleep(0)


def test_every_state_has_a_row_and_every_move_of_the_table_is_in_a_scene() -> None:
    states = [["idle", *expected.split()] for _, expected in SCENES.values()]
    made = {(State(one), State(other)) for each in states for one, other in pairwise(each)}
    assert set(MOVES) == set(State)
    assert made == {(one, other) for one, others in MOVES.items() for other in others}


@pytest.mark.source
@pytest.mark.parametrize("name", SCENES)
async def test_a_scene_goes_through_its_states(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    steps, expected = SCENES[name]
    states: list[str] = []
    move = Link.move

    def noted(link: Link, to: State) -> None:
        move(link, to)
        states.append(to)

    monkeypatch.setattr(Link, "move", noted)
    scene = Scene()
    for step in steps:
        await scene.act(step)
    assert states == expected.split()
    assert repr(scene.connection).startswith(f"<CallerConnection {states[-1]}, ")
    assert scene.tunnel.taken == (b"frames" if "tunnel" in states else b"")
    assert scene.tunnel.ends == ("tunnel" in states)
    await scene.close()


async def test_a_caller_that_is_gone_when_its_last_response_is_complete_leaves_no_open_connection(
    caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    """asyncio's own transport raises this from `write_eof` after a reset, before it reports the connection as lost."""
    scene = Scene()

    def reset() -> None:
        raise OSError(errno.ENOTCONN, "Transport endpoint is not connected")

    monkeypatch.setattr(scene.wire, "write_eof", reset)
    await scene.act(LAST_UPLOAD)
    await scene.act("respond")
    assert scene.state() is State.CLOSED
    assert caplog.records == []
    await scene.close()


def test_a_move_that_the_table_does_not_have_is_a_defect() -> None:
    async def main() -> None:
        scene = Scene()
        with pytest.raises(RuntimeError, match="cannot go from idle to rest"):
            scene.connection.link.move(State.REST)
        await scene.close()

    asyncio.run(main())


PIECES = [
    GET,
    LAST,
    UPLOAD,
    LAST_UPLOAD,
    CHUNKED,
    b"1\r\na\r\n",
    b"0\r\n\r\n",
    b"bc",
    b"\r",
    b"\n",
    b"GET",
    b"BAD\r\n\r\n",
]
ACTS = ["start", "respond", "end", "switch", "end tunnel", "break off", "defect", "expire", "leave"]


@given(st.lists(st.sampled_from([*PIECES, *ACTS]), max_size=12))
def test_whatever_comes_no_other_move_is_made(steps: list[bytes | str]) -> None:
    """A move that the table does not have is raised to the event loop, or to the task that answers."""

    async def main() -> None:
        raised: list[dict[str, Any]] = []
        asyncio.get_running_loop().set_exception_handler(lambda _, context: raised.append(context))
        scene = Scene()
        for step in steps:
            await scene.act(step)
        await scene.close()
        assert raised == []
        assert scene.state() is State.CLOSED

    asyncio.run(main())


@pytest.mark.parametrize("does", ["responds", "breaks off", "has a defect"])
async def test_a_request_that_was_rejected_for_being_late_is_not_answered_by_the_application_too(
    does: str, caplog: pytest.LogCaptureFixture
) -> None:
    """The application did not look at the body, and does something once the connection is closed for writing."""
    goes_on = asyncio.Event()

    class Blind:
        async def answer(self, call: Call) -> None:
            await goes_on.wait()
            if does == "responds":
                call.start(200, [], body=b"a", last=True)
            raise BrokenOff if does == "breaks off" else RuntimeError("planted")

    scene = Scene()
    scene.connection._app = Blind()
    for step in (UPLOAD, "expire", "expire"):
        await scene.act(step)
    assert scene.state() is State.LINGERING
    (task,) = scene.tasks
    goes_on.set()
    await asyncio.wait([task])
    assert task.exception() is None
    assert ("a defect" in caplog.text) == (does == "has a defect")
    assert scene.wire.sent.startswith(b"HTTP/1.1 408 ")
    assert scene.wire.sent.count(b"HTTP/1.1 ") == 1
    assert scene.state() is State.LINGERING
    await scene.close()


async def test_a_response_that_goes_on_while_its_caller_takes_nothing_stays_broken_off(
    caplog: pytest.LogCaptureFixture,
) -> None:
    """The transport closes once it has sent what is written, and until then the application may write."""
    goes_on = asyncio.Event()

    class Blind:
        async def answer(self, call: Call) -> None:
            call.start(200, [], body=b"a")
            await goes_on.wait()
            call.write(b"b", last=True)

    scene = Scene()
    scene.connection._app = Blind()
    await scene.act(CHUNKED)
    scene.wire.unsent = 10
    await scene.act(b"no size\r\n")
    assert scene.state() is State.CLOSING
    (task,) = scene.tasks
    goes_on.set()
    await asyncio.wait([task])
    assert task.exception() is None
    assert "a defect" not in caplog.text
    scene.wire.unsent = 5
    await scene.act("expire")  # it took some
    assert scene.state() is State.CLOSING
    await scene.act("expire")
    assert scene.state() is State.CLOSED
