"""The end of all processes: in order, in time, whatever each of them does."""

import asyncio
from typing import cast

import pytest

from shadowproxy.serve.sidecar import live
from shadowproxy.serve.sidecar import recorder as recorder_side
from shadowproxy.serve.workers import stopping
from shadowproxy.serve.workers.slots import Slot
from shadowproxy.serve.workers.stopping import Stopping


class Process:
    """Stands for a slot and its process: `ends_on` are the calls after which it ends. It notes what happens to it."""

    def __init__(self, name: str, happened: list[str], ends_on: str = "") -> None:
        self.name = name
        self.running = self.child = self.calls = self
        self.runs = True
        self._happened = happened
        self._ends_on = ends_on
        self.called = asyncio.Event()
        self._ended = asyncio.Event()

    async def call(self, what: str, within: float, must: bool) -> None:
        assert must
        self._happened.append(f"{what} {self.name}")
        self.called.set()
        if what in self._ends_on:
            self._ended.set()

    async def end(self) -> None:
        await self._ended.wait()
        self._happened.append(f"{self.name} ended")

    async def kill(self) -> None:
        self._happened.append(f"kill {self.name}")
        self._ended.set()

    @property
    def slot(self) -> Slot:
        return cast(Slot, self)


@pytest.fixture
def soon(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("LIVES", "ALL", "HURRIED"):
        monkeypatch.setattr(stopping, name, 0.02)


async def stop(lives: list[Process], recorder: Process, hurry: asyncio.Event, drain: float = 0.0) -> None:
    async with asyncio.timeout(30):
        each = Stopping(drain, hurry)
        await each.end_lives([one.slot for one in lives])
        await each.end_recorder(recorder.slot)


async def test_the_recorder_stops_after_all_live_processes() -> None:
    happened: list[str] = []
    lives = [Process("worker 0", happened, "stop"), Process("worker 1", happened, "stop")]
    await stop(lives, Process("the recorder", happened, "stop"), asyncio.Event(), 3600)
    assert happened == [
        "stop worker 0", "stop worker 1", "worker 0 ended", "worker 1 ended", "stop the recorder", "the recorder ended",
    ]  # fmt: skip


@pytest.mark.usefixtures("soon")
async def test_whoever_hangs_is_killed_and_the_others_are_not(caplog: pytest.LogCaptureFixture) -> None:
    happened: list[str] = []
    lives = [Process("worker 0", happened), Process("worker 1", happened, "stop")]
    await stop(lives, Process("the recorder", happened), asyncio.Event())
    assert [each for each in happened if each.startswith("kill")] == ["kill worker 0", "kill the recorder"]
    assert [line.split(" does")[0] for line in caplog.messages] == ["worker 0", "the recorder"]


@pytest.mark.usefixtures("soon")
@pytest.mark.parametrize("ends_on", ["hurry", ""])
async def test_a_second_signal_ends_the_waiting_for_live_processes(ends_on: str) -> None:
    happened: list[str] = []
    hurry = asyncio.Event()
    process = Process("worker 0", happened, ends_on)
    stopped = asyncio.get_running_loop().create_task(
        stop([process], Process("the recorder", happened, "stop"), hurry, 3600)
    )
    await process.called.wait()
    hurry.set()
    await stopped
    killed = ["kill worker 0"] if not ends_on else []
    assert happened == [
        "stop worker 0", "hurry worker 0", *killed, "worker 0 ended", "stop the recorder", "the recorder ended",
    ]  # fmt: skip


@pytest.mark.usefixtures("soon")
async def test_a_second_signal_ends_the_waiting_for_a_recorder_that_hangs() -> None:
    happened: list[str] = []
    hurry = asyncio.Event()
    recorder = Process("the recorder", happened)
    stopped = asyncio.get_running_loop().create_task(stop([], recorder, hurry, 3600))
    await recorder.called.wait()
    hurry.set()
    await stopped
    assert happened == ["stop the recorder", "kill the recorder", "the recorder ended"]


def test_each_waits_for_the_one_before_it_and_all_is_over_within_10_seconds() -> None:
    assert live.FLUSH < stopping.LIVES
    assert stopping.LIVES + recorder_side.LAST < stopping.ALL < 10
