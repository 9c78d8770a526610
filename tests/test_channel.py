"""Calls to another process: each is answered, refused, or given up in time."""

import asyncio
import socket
from collections.abc import AsyncIterator, Callable
from typing import Any, cast

import pytest
import uvloop

from shadowproxy.serve.workers.channel import UNANSWERED, Answers, CallFailed, Calls, NoReply, Table
from shadowproxy.serve.workers.slots import Changing


class Ends:
    """Both ends in one event loop. `gate` holds the call `hang` up."""

    def __init__(self) -> None:
        self.gate = asyncio.Event()
        self.heard: list[object] = []
        self.calls = Calls("worker 3")
        table: Table = {
            "add": self._add,
            "hang": self._hang,
            "refuse": self._refuse,
            "hear": self._hear,
            "read": self._hang,
        }
        self.answers = Answers(table, slow=frozenset({"read"}))
        self.serving: asyncio.Task[None]

    async def open(self) -> None:
        ours, theirs = socket.socketpair()
        await self.calls.open(ours)
        await self.answers.open(theirs)
        self.serving = asyncio.get_running_loop().create_task(self.answers.serve())

    async def _add(self, one: int, other: int) -> int:
        return one + other

    async def _hang(self) -> str:
        await self.gate.wait()
        return "late"

    async def _refuse(self) -> None:
        raise CallFailed("not today")

    async def _hear(self, what: object) -> None:
        self.heard.append(what)


@pytest.fixture
async def ends() -> AsyncIterator[Ends]:
    both = Ends()
    await both.open()
    yield both
    both.gate.set()
    both.serving.cancel()
    await asyncio.wait([both.serving])
    await both.answers.aclose(None)
    await both.calls.aclose()


async def test_a_call_is_answered(ends: Ends) -> None:
    assert await ends.calls.call("add", 2, 3, within=5) == 5
    big = b"x" * (1 << 20)
    assert await ends.calls.call("add", big, big, within=5) == big + big


async def test_a_refusal_is_told_in_its_words(ends: Ends) -> None:
    with pytest.raises(CallFailed, match="not today"):
        await ends.calls.call("refuse", within=5)
    assert await ends.calls.call("add", 1, 1, within=5) == 2


async def test_a_defect_is_told_as_one_and_the_next_call_is_answered(
    ends: Ends, caplog: pytest.LogCaptureFixture
) -> None:
    with pytest.raises(CallFailed, match="add failed: a defect in the proxy"):
        await ends.calls.call("add", 1, "no number", within=5)
    assert [line.exc_info is not None for line in caplog.records] == [True]
    assert await ends.calls.call("add", 1, 1, within=5) == 2


async def test_a_call_waits_no_longer_than_it_says_and_its_answer_is_for_nobody_else(ends: Ends) -> None:
    with pytest.raises(NoReply, match=r"worker 3 has not replied within 0\.01 s"):
        await ends.calls.call("hang", within=0.01)
    adding = asyncio.get_running_loop().create_task(ends.calls.call("add", 2, 2, within=5))
    await asyncio.sleep(0)
    ends.gate.set()
    assert await adding == 4


async def test_only_so_many_calls_wait_for_one_that_hangs_but_those_that_must_are_heard(ends: Ends) -> None:
    for _ in range(UNANSWERED):
        with pytest.raises(NoReply):
            await ends.calls.call("hang", within=0)
    with pytest.raises(NoReply, match="does not reply"):
        await ends.calls.call("hear", "dropped", within=5)
    hearing = asyncio.get_running_loop().create_task(ends.calls.call("hear", "steered", within=5, must=True))
    await asyncio.sleep(0)
    ends.gate.set()
    await hearing
    assert ends.heard == ["steered"]
    assert await ends.calls.call("add", 1, 2, within=5) == 3  # it answers again, so it is asked again


async def test_one_that_has_ended_replies_no_more_but_has_sent_its_closing_message(ends: Ends) -> None:
    hanging = asyncio.get_running_loop().create_task(ends.calls.call("hang", within=5))
    await asyncio.sleep(0.01)
    ends.serving.cancel()
    await ends.answers.aclose({"counted": 7})
    with pytest.raises(NoReply, match="worker 3 has ended"):
        await hanging
    await asyncio.wait_for(ends.calls.gone.wait(), 5)
    assert ends.calls.closing == {"counted": 7}
    with pytest.raises(NoReply):
        await ends.calls.call("add", 1, 1, within=5)


async def test_the_worker_sees_that_its_caller_is_gone(ends: Ends) -> None:
    await ends.calls.aclose()
    await asyncio.wait_for(ends.serving, 5)


@pytest.mark.parametrize("loop", [asyncio.new_event_loop, uvloop.new_event_loop])
def test_a_worker_whose_caller_is_gone_ends_in_order(loop: Callable[[], asyncio.AbstractEventLoop]) -> None:
    async def outlive() -> None:
        gone = asyncio.Event()
        both = Ends()
        both.answers = Answers({"hang": gone.wait})
        await both.open()
        for _ in range(3):  # the reply to the first finds nobody; those to the others find a closed transport
            with pytest.raises(NoReply):
                await both.calls.call("hang", within=0.01)
        await both.calls.aclose()
        await asyncio.sleep(0.01)
        gone.set()
        await asyncio.wait_for(both.serving, 5)
        await both.answers.aclose({"counted": 7})

    with asyncio.Runner(loop_factory=loop) as runner:
        runner.run(outlive())


async def test_a_call_to_a_connection_that_the_loop_has_closed_is_no_reply(ends: Ends) -> None:
    """As uvloop does when the other end has gone, a moment before anybody is told."""

    class Closed:
        def write(self, data: bytes) -> None:
            raise RuntimeError("unable to perform operation on <UnixTransport closed=True>; the handler is closed")

    writer, ends.calls._writer = ends.calls._writer, cast(Any, Closed())
    with pytest.raises(NoReply, match="worker 3 has ended"):
        await ends.calls.call("add", 2, 3, within=5)
    ends.calls._writer = writer
    assert await ends.calls.call("add", 2, 3, within=5) == 5


async def test_a_slow_call_keeps_no_other_waiting_and_is_no_silence(ends: Ends) -> None:
    reading = asyncio.get_running_loop().create_task(ends.calls.call("read", within=60))
    await asyncio.sleep(0)
    asked = ends.calls._waits_since
    assert await ends.calls.call("add", 1, 2, within=30) == 3
    assert ends.calls._waits_since > asked
    ends.gate.set()
    assert await reading == "late"


async def test_a_slow_call_is_given_up_when_the_process_ends(ends: Ends) -> None:
    reading = asyncio.get_running_loop().create_task(ends.calls.call("read", within=60))
    assert await ends.calls.call("add", 1, 2, within=30) == 3
    ends.serving.cancel()
    await ends.answers.aclose("last")
    with pytest.raises(NoReply, match="has ended"):
        await reading
    assert ends.calls.closing == "last"


async def test_silence_lasts_while_a_reply_is_waited_for(ends: Ends) -> None:
    assert ends.calls.silence == 0
    with pytest.raises(NoReply):
        await ends.calls.call("hang", within=0.01)
    assert ends.calls.silence >= 0.01
    ends.gate.set()
    assert await ends.calls.call("add", 2, 3, within=5) == 5
    assert ends.calls.silence == 0


async def test_processes_start_beside_each_other_and_not_beside_a_change() -> None:
    changing = Changing()
    order: list[str] = []
    ends = asyncio.Event()

    async def start(name: str) -> None:
        async with changing.start():
            order.append(name)
            await ends.wait()

    async def change() -> None:
        async with changing.change():
            order.append("change")
            await asyncio.sleep(0)
            order.append("changed")

    loop = asyncio.get_running_loop()
    first = loop.create_task(start("first"))
    await asyncio.sleep(0)
    changed = loop.create_task(change())
    await asyncio.sleep(0)
    second = loop.create_task(start("second"))  # though a change waits for the first
    for _ in range(5):
        await asyncio.sleep(0)
    assert order == ["first", "second"]
    ends.set()
    await asyncio.gather(first, second, changed)
    changed, third = loop.create_task(change()), loop.create_task(start("third"))
    await asyncio.gather(changed, third)
    assert order == ["first", "second", "change", "changed", "change", "changed", "third"]


async def test_a_call_to_a_supervisor_that_has_ended_is_not_waited_for(ends: Ends) -> None:
    """A process that ends with it would take so much longer."""
    await ends.calls.aclose()
    async with asyncio.timeout(5):
        await ends.serving
        with pytest.raises(NoReply, match="the supervisor has ended"):
            await ends.answers.call("ended", 0, within=600)
