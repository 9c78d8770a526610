"""Percents that rise by themselves, in the processes of the sidecar: what is held out, what is counted, who decides."""

import asyncio
import contextlib
import json
import logging
import os
import signal
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import httpx
import pytest
import yaml
from conftest import Proxy, StartProxy
from fakes import Origin, Peer, always, answer
from load import admin
from program import Program
from test_intake import begin, companion, end

from shadowproxy import config
from shadowproxy.exchange import Request
from shadowproxy.serve.policy.arms import bin_of
from shadowproxy.serve.policy.not_chosen import NotChosen
from shadowproxy.serve.policy.ramping import Evidence
from shadowproxy.serve.policy.sampling import Position
from shadowproxy.serve.sidecar import specify
from shadowproxy.serve.sidecar.ramps import Ramps
from shadowproxy.serve.sidecar.specs import LiveSpec
from shadowproxy.serve.sidecar.steering import UNSTEERED, Steering

PAGE = Path(__file__).parent.parent / "docs" / "how-to" / "ramp.md"
RAMP: dict[str, Any] = {"from": 1, "to": 100, "over": 700, "while": {"live_p99_ratio": None}}


def spec(percent: Any = RAMP, url: str = "http://shadow", **more: Any) -> LiveSpec:
    values = {"live": {"url": "http://live"}, "shadows": {"s": {"url": url, "percent": percent, "timeout": 1}}} | more
    return specify.live(config.from_values(values))


class Driven:
    """The ramps of a supervisor, whose clock is moved."""

    def __init__(self, live: LiveSpec) -> None:
        self.now = 0.0
        self.ramps = Ramps(live, self.now)
        self.steering = self.ramps.follow(UNSTEERED, self.now)

    def steer(self, steering: Steering) -> None:
        self.steering = self.ramps.follow(steering, self.now)

    def go_on(self, seconds: float, *, failing: float = 0.0) -> None:
        for _ in range(round(seconds)):
            self.now += 1.0
            if self.ramps.is_due(self.now):
                part = Evidence(tries=50, errors=round(50 * failing))
                if self.ramps.advance([{"s": part}, {"s": part}], self.now):
                    self.steer(self.steering)

    @property
    def percent(self) -> float:
        return self.steering.percent("s", -1.0)


def test_the_pages_configuration_rises_by_doubling() -> None:
    (text,) = [block for block in PAGE.read_text().split("```") if block.startswith("yaml\nlive:")]
    (shadow,) = specify.live(config.from_values(yaml.safe_load(text.removeprefix("yaml")))).shadows.values()
    assert shadow.percent == 1.0
    assert shadow.ramp is not None
    assert shadow.ramp.steps == (1.0, 2.0, 4.0, 8.0, 16.0, 32.0, 64.0, 100.0)
    assert (shadow.ramp.live_p99_ratio, shadow.ramp.shadow_errors, shadow.ramp.hold_out) == (1.05, 0.02, 5.0)


def test_it_rises_and_steps_back_and_says_why(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO, "shadowproxy")
    driven = Driven(spec())
    driven.go_on(330)
    assert driven.percent == 8.0
    driven.go_on(40, failing=0.5)
    assert driven.percent < 8.0
    steps = [vars(each) for each in caplog.records if vars(each).get("event") == "ramp_step"]
    assert [(step["from"], step["to"]) for step in steps[:4]] == [(1.0, 2.0), (2.0, 4.0), (4.0, 8.0), (8.0, 4.0)]
    assert steps[3]["levelname"] == "WARNING"
    assert "requests to the shadow failed, 2 % are allowed" in steps[3]["why"]
    assert steps[3]["seconds"] == 200
    census = driven.ramps.census(driven.now)["s"]
    assert census.state == "waiting"
    assert census.why is not None
    assert "it waits after a step back" in census.why
    assert census.last is not None
    assert (census.raised, census.back) == (3, len(steps) - 3)


def test_its_census_says_what_comes_next() -> None:
    driven = Driven(spec())
    driven.go_on(50)
    census = driven.ramps.census(driven.now)["s"]
    assert (census.state, census.percent, census.next_percent, census.last) == ("rising", 1.0, 2.0, None)
    assert census.why == "this step lasts 50 s more"
    (condition,) = census.conditions
    assert (condition.name, condition.word, condition.figure) == ("shadow_errors", "met", 0.0)
    driven.go_on(700)
    census = driven.ramps.census(driven.now)["s"]
    assert (census.state, census.percent, census.next_percent, census.why) == ("top", 100.0, None, None)


@pytest.mark.parametrize("name", ["s", None])
def test_a_pause_holds_it_where_it_is(name: str | None, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO, "shadowproxy")
    driven = Driven(spec())
    driven.go_on(250)
    driven.steer(driven.steering.with_pause(name, paused=True))
    driven.go_on(1_000, failing=1.0)
    census = driven.ramps.census(driven.now)["s"]
    assert (driven.percent, census.state, census.why) == (4.0, "halted", "an operator has paused it")
    driven.steer(driven.steering.with_pause(name, paused=False))
    driven.go_on(90)
    assert driven.percent == 4.0  # a step's time begins anew
    driven.go_on(20)
    assert driven.percent == 8.0
    events = [vars(each).get("event") for each in caplog.records]
    assert events == ["ramp_began", "ramp_step", "ramp_step", "ramp_halted", "ramp_resumed", "ramp_step"]


@pytest.mark.parametrize(("set_to", "goes_on_at"), [(0.0, 1.0), (5.0, 4.0), (100.0, 100.0)])
def test_an_operators_percent_stands_above_it_and_moves_its_place(set_to: float, goes_on_at: float) -> None:
    driven = Driven(spec())
    driven.go_on(350)
    driven.steer(driven.steering.with_percent("s", set_to))
    driven.go_on(500, failing=1.0)
    assert driven.percent == set_to
    assert not driven.steering.ramps_on("s")
    driven.steer(driven.steering.without_percent("s"))
    assert driven.percent == goes_on_at
    assert driven.steering.ramps_on("s")


def test_a_resume_ends_the_wait_after_a_step_back() -> None:
    driven = Driven(spec())
    driven.go_on(350)
    while driven.percent == 8.0:
        driven.go_on(1, failing=0.5)
    assert driven.percent == 4.0
    driven.steer(driven.steering.with_pause("s", paused=True))
    driven.steer(driven.steering.with_pause("s", paused=False))
    driven.go_on(110)
    assert driven.percent == 8.0


def test_a_reload_keeps_its_place_unless_the_ramp_or_the_address_is_another() -> None:
    driven = Driven(spec())
    driven.go_on(350)
    before = spec()

    def reload(after: LiveSpec) -> float:
        ramps = Driven(before)
        ramps.go_on(350)
        ramps.ramps.adopt(after, ramps.now)
        ramps.steer(ramps.steering.under(after.shares, before.shares))
        return ramps.steering.percent("s", after.shadows["s"].percent)

    assert reload(spec(drain=5)) == 8.0
    assert reload(spec(RAMP | {"over": 1_400})) == 1.0
    assert reload(spec(url="http://next")) == 1.0
    assert reload(spec(50)) == 50.0


def test_a_workers_silence_is_no_evidence() -> None:
    driven = Driven(spec())
    for _ in range(1_000):
        driven.now += 1.0
        driven.ramps.advance([{}], driven.now)
    assert driven.ramps.percents == {"s": 1.0}


@pytest.mark.parametrize(
    ("percent", "problem"),
    [
        ({"from": 0, "over": "1h"}, "percent.from: must be greater than 0"),
        ({"from": 101, "over": "1h"}, "percent.from: must be less than or equal to 100"),
        (
            {"from": 5, "to": 5, "over": "1h"},
            "percent: from must be lower than to; a percent that stays is a plain number",
        ),
        ({"from": 1}, "percent.over: is required"),
        ({"from": 1, "over": 6}, "percent: over must be at least 7 s: the percent rises in 7 steps of 1 s or more"),
        ({"from": 1, "over": "1h", "wile": {}}, 'percent.wile: unknown key (did you mean "while"?)'),
        ({"from": 1, "over": "1h", "hold_out": 60}, "percent.hold_out: must be less than or equal to 50"),
        (
            {"from": 1, "over": "1h", "while": {"shadow_errors": 2}},
            "while.shadow_errors: must be less than or equal to 1",
        ),
        (
            {"from": 1, "over": "1h", "while": {"live_p99_ratio": 0.5}},
            "live_p99_ratio: must be greater than or equal to 1",
        ),
        (101, "percent: must be less than or equal to 100"),
        ([1], "percent: must be a number"),
    ],
)
def test_an_error_in_a_ramp_names_its_key(percent: Any, problem: str) -> None:
    with pytest.raises(config.ConfigError) as caught:
        spec(percent)
    assert problem in str(caught.value)


def test_a_ramp_that_lacks_a_value_of_the_environment_makes_its_shadow_unusable(tmp_path: Path) -> None:
    for percent in ("{from: '${FROM}', over: '${OVER}'}", "'${PERCENT}'"):
        file = tmp_path / "config.yaml"
        file.write_text(f"live: {{url: http://a}}\nshadows: {{s: {{url: http://b, percent: {percent}}}}}\n")
        shadow = config.load(file, {}).shadows["s"]
        assert isinstance(shadow, config.UnusableShadow)
        assert "the environment variable" in shadow.reason
    assert config.load(file, {"PERCENT": "7"}).shadows["s"].percent == 7.0


def test_what_is_likely_a_mistake_is_said() -> None:
    values: dict[str, Any] = {
        "live": {"respond": {}},
        "shadows": {"s": {"url": "http://s", "percent": RAMP | {"while": {}}}, "t": {"url": "http://t", "percent": 5}},
        "sampling": {"key": "header:X-User"},
    }
    said = config.warnings_for(config.from_values(values))
    for words in ("says nothing about live.respond", "of other sampling keys", "raise one after the other"):
        assert any(words in line for line in said), words
    values["shadows"]["s"]["percent"] = RAMP
    assert not any("live_p99_ratio" in line for line in config.warnings_for(config.from_values(values)))


# --- the whole program ------------------------------------------------------------------------------------------------


def steady(seen: set[bytes] | None = None, *, status: list[int] | None = None, slower: float = 0.0) -> Any:
    """A server that answers. With `slower` it takes so many seconds longer if the other has `seen` the request."""

    async def script(peer: Peer) -> None:
        with contextlib.suppress(TimeoutError):
            while (request := await peer.request()) is not None:
                (name,) = request.all(b"x-request-id")
                if slower:
                    await asyncio.sleep(0.001)
                    if seen is not None and name in seen:
                        await asyncio.sleep(slower)
                elif seen is not None:
                    seen.add(name)
                await peer.send(answer(b"ok", status=200 if status is None else status[0]))

    return script


class Asking:
    """Callers that ask for as long as it is entered, each time with another request ID."""

    def __init__(self, program: Program, callers: int = 4) -> None:
        self._program = program
        self._callers = callers

    async def _ask(self, caller_number: int) -> None:
        number = 0
        async with await self._program.caller() as caller:
            while True:
                number += 1
                head = b"GET / HTTP/1.1\r\nHost: h\r\nX-Request-ID: %d-%d\r\n\r\n" % (caller_number, number)
                assert (await caller.ask(head)).status == 200
                await asyncio.sleep(0.001)

    async def __aenter__(self) -> None:
        loop = asyncio.get_running_loop()
        self._tasks = [loop.create_task(self._ask(number)) for number in range(self._callers)]

    async def __aexit__(self, *_: object) -> None:
        for task in self._tasks:
            task.cancel()
        ended = await asyncio.gather(*self._tasks, return_exceptions=True)
        assert all(isinstance(each, asyncio.CancelledError) for each in ended), ended


@contextlib.asynccontextmanager
async def started(tmp_path: Path, live: Any, shadow: Any, percent: Any, **more: Any) -> AsyncIterator[Any]:
    async with Origin(live) as first, Origin(shadow) as second:
        values = {
            "admin": "127.0.0.1:0",
            "live": {"url": first.url},
            "shadows": {"s": {"url": second.url, "percent": percent, "timeout": 1, "lane": 1_000}},
            **more,
        }
        async with Program(tmp_path, values) as program, admin(program) as asking:
            yield program, asking


async def shadow_of(asking: httpx.AsyncClient) -> dict[str, Any]:
    while (reply := await asking.get("/shadows")).status_code != 200:  # noqa: ASYNC110  # the recorder starts
        await asyncio.sleep(0.05)
    found: dict[str, Any] = reply.json()["shadows"]["s"]
    return found


async def until(asking: httpx.AsyncClient, condition: Any, within: float = 20.0) -> dict[str, Any]:
    found: dict[str, Any] = {}
    try:
        async with asyncio.timeout(within):
            while not condition(found := await shadow_of(asking)):  # noqa: ASYNC110  # the program tells nobody
                await asyncio.sleep(0.1)
    except TimeoutError:
        raise AssertionError(f"not within {within:g} s: {json.dumps(found)}") from None
    return found


@pytest.mark.slow
async def test_a_share_rises_in_seconds_and_steps_back_when_the_shadow_fails(tmp_path: Path) -> None:
    status = [200]
    percent = {"from": 25, "over": "2s", "while": {"live_p99_ratio": None}}
    async with started(tmp_path, steady(), steady(status=status), percent, workers=2) as (program, asking):
        first = await shadow_of(asking)
        assert (first["percent"], first["ramp"]["steps"]) == (25.0, [25.0, 50.0, 100.0])
        async with Asking(program):
            top = await until(asking, lambda found: found["percent"] == 100.0)
            assert (top["ramp"]["state"], top["ramp"]["raised"]) == ("top", 2)
            status[0] = 503
            back = await until(asking, lambda found: found["percent"] < 100.0)
        assert back["ramp"]["state"] == "waiting"
        assert "of" in back["ramp"]["last"]["why"]
        assert back["not_chosen"]["percent"] > 0
        text = (await asking.get("/metrics")).text
        assert 'shadowproxy_ramp_steps_total{direction="up",shadow="s"} 2.0' in text
        assert await program.stop() == 0
    steps = program.told("ramp_step")
    assert [(step["from"], step["to"]) for step in steps[:3]] == [(25.0, 50.0), (50.0, 100.0), (100.0, 50.0)]
    assert program.told("percent_set") == []


@pytest.mark.soak
async def test_a_live_that_mirroring_slows_down_steps_the_share_back(tmp_path: Path) -> None:
    seen: set[bytes] = set()
    percent = {"from": 50, "over": "2s", "hold_out": 40, "while": {"live_p99_ratio": 1.2}}
    live, shadow = steady(seen, slower=0.02), steady(seen)
    async with started(tmp_path, live, shadow, percent) as (program, asking):
        async with Asking(program, callers=6):
            back = await until(asking, lambda found: found["ramp"]["back"] > 0, within=50.0)
        assert back["ramp"]["last"]["from"] > back["ramp"]["last"]["to"]
        assert "surely above" in back["ramp"]["last"]["why"]
        assert await program.stop() == 0


@pytest.mark.soak
async def test_a_ramp_keeps_its_place_when_a_worker_and_the_recorder_are_killed(tmp_path: Path) -> None:
    percent = {"from": 25, "over": "2s", "while": {"live_p99_ratio": None}}
    async with started(tmp_path, steady(), steady(), percent, workers=2) as (program, asking):
        async with Asking(program, callers=2):
            await until(asking, lambda found: found["percent"] == 50.0)
        workers = set(program.workers)
        os.kill(program.workers[0], signal.SIGKILL)
        os.kill(program.recorders[0], signal.SIGKILL)
        async with asyncio.timeout(20):
            while len(program.told("worker_ended")) < 1 or set(program.workers) == workers:  # noqa: ASYNC110
                await asyncio.sleep(0.05)
        found = await until(asking, lambda found: found["ramp"]["raised"] >= 1)
        assert found["percent"] >= 50.0
        async with Asking(program, callers=2):
            await until(asking, lambda found: found["percent"] == 100.0)
    assert len(program.told("ramp_began")) == 1


@pytest.mark.slow
async def test_an_operators_percent_wins_until_the_shadow_is_resumed(tmp_path: Path) -> None:
    percent = {"from": 1, "over": "1h"}
    async with started(tmp_path, always(answer()), always(answer()), percent) as (program, asking):
        asking.headers["X-Shadowproxy-Admin"] = "1"
        assert (await shadow_of(asking))["ramp"]["state"] == "rising"
        set_to = (await asking.put("/shadows/s/percent", json={"percent": 100})).json()
        assert set_to["percent"] == 100.0
        async with await program.caller() as caller:
            for number in range(100):
                head = b"GET / HTTP/1.1\r\nHost: h\r\nX-Request-ID: a-%d\r\n\r\n" % number
                assert (await caller.ask(head)).status == 200
        held = await until(asking, lambda found: found["chosen"] == 100)  # nothing is held out
        assert held["not_chosen"].get("held_out", 0) == 0
        assert (await until(asking, lambda found: found["ramp"]["state"] == "halted"))["ramp"]["why"]
        resumed = (await asking.post("/shadows/s/resume")).json()
        assert resumed["percent"] == 100.0  # its highest step that is not above
        assert (await asking.put("/shadows/s/percent", json={"percent": 5})).json()["percent"] == 5.0
        assert (await asking.post("/shadows/s/resume")).json()["percent"] == 4.0
        assert await program.stop() == 0
    assert len(program.told("ramp_halted")) == 2
    assert [line["percent"] for line in program.told("ramp_resumed")] == [100.0, 4.0]


# --- what is held out, and what is counted ----------------------------------------------------------------------------


def numbered(number: int, path: str = "/") -> bytes:
    return b"GET %b HTTP/1.1\r\nHost: h\r\nX-Request-ID: r-%d\r\n\r\n" % (path.encode(), number)


async def ask_all(running: Proxy, count: int, path: str = "/") -> None:
    async with await running.caller() as caller:
        for number in range(count):
            assert (await caller.ask(numbered(number, path))).status == 200


async def test_requests_are_held_out_whatever_the_percent_and_counted_in_both_arms(proxy: StartProxy) -> None:
    options = {"percent": {"from": 50, "over": "1h", "hold_out": 30}, "match": {"not": {"paths": ["/no"]}}}
    async with proxy(shadows={"s": always(answer())}, shadow_options=options) as running:
        await ask_all(running, 200)
        await ask_all(running, 20, "/no")
        lane = running.sidecar.mirror.lane("s")
        counts = lane.counts
        while sum(counts.outcomes.values()) < counts.chosen:  # noqa: ASYNC110  # it tells nobody
            await asyncio.sleep(0)
        skipped = counts.not_chosen
        held_out = skipped[NotChosen.HELD_OUT]
        assert 40 <= held_out <= 80
        assert counts.chosen + sum(skipped.values()) == 220
        assert skipped[NotChosen.MATCH] > 0
        found = running.sidecar.live.evidence()["s"]
        assert sum(found.held_out.values()) == held_out
        assert sum(found.mirrored.values()) == counts.chosen == found.tries
        assert found.errors == 0
        assert running.sidecar.live.evidence()["s"].tries == 0
        position, aside = lane_positions(running)
        for number in range(200):
            request = named(number)
            is_held_out = aside(request) < 30
            assert (request.id in received(running)) == (not is_held_out and position(request) < 50)


async def test_without_a_condition_on_live_nothing_is_held_out(proxy: StartProxy) -> None:
    options = {"percent": {"from": 50, "over": "1h", "while": {"live_p99_ratio": None}}}
    async with proxy(shadows={"s": always(answer(status=500))}, shadow_options=options) as running:
        assert running.sidecar.mirror.plan.hold_out_position is None
        await ask_all(running, 50)
        counts = running.sidecar.mirror.lane("s").counts
        while sum(counts.outcomes.values()) < counts.chosen:  # noqa: ASYNC110  # it tells nobody
            await asyncio.sleep(0)
        assert counts.not_chosen[NotChosen.HELD_OUT] == 0
        found = running.sidecar.live.evidence()["s"]
        assert found.errors == found.tries == counts.chosen > 0
        assert found.mirrored == found.held_out == {}


async def test_a_percent_that_is_a_number_costs_and_counts_nothing(proxy: StartProxy) -> None:
    async with proxy(shadows={"s": always(answer())}) as running:
        await ask_all(running, 5)
        assert running.sidecar.mirror.plan.hold_out_position is None
        assert running.sidecar.live.evidence() == {}
        assert running.sidecar.mirror.lane("s").counts.arms.tries == 0


async def test_in_a_pause_no_arm_counts(proxy: StartProxy) -> None:
    options = {"percent": {"from": 50, "over": "1h", "hold_out": 30}}
    async with proxy(shadows={"s": always(answer())}, shadow_options=options) as running:
        await running.sidecar.steer(running.sidecar.steering.with_pause("s", paused=True))
        await ask_all(running, 50)
        assert running.sidecar.live.evidence()["s"] == Evidence()


async def test_in_an_application_lives_time_is_the_applications_own(tmp_path: Path) -> None:
    async with Origin(always(answer())) as shadow:
        percent = {"from": 60, "over": "1h", "hold_out": 50}
        async with companion(tmp_path, shadows={"s": {"url": shadow.url, "percent": percent}}) as (
            running,
            application,
        ):
            assert not any("live.respond" in line for line in running.specs.program.warnings)
            for key in range(60):
                application.send(begin(key), end(key))
            await application.flush()
            counts = running.mirror.lane("s").counts
            while sum(counts.outcomes.values()) < counts.chosen:  # noqa: ASYNC110  # it tells nobody
                await asyncio.sleep(0)
            found = running.live.evidence()["s"]
            assert found.held_out == {bin_of(0.002): counts.not_chosen[NotChosen.HELD_OUT]}
            assert found.mirrored == {bin_of(0.002): counts.chosen}
            assert found.tries == counts.chosen
            assert counts.chosen + sum(counts.not_chosen.values()) == 60


async def test_a_reload_begins_a_ramp_and_ends_one(proxy: StartProxy) -> None:
    async with proxy(shadows={"s": always(answer())}, shadow_options={"percent": 10}) as running:
        sidecar = running.sidecar

        async def reload(percent: Any) -> tuple[float, float, bool]:
            values = {
                "admin": None,
                "listen": "127.0.0.1:0",
                "live": {"url": running.live.url},
                "shadows": {"s": {"url": running.shadows["s"].url, "percent": percent}},
                "log": {"path": str(running.log)},
            }
            specs = specify.specify(config.from_values(values)).numbered(sidecar.specs.live.generation + 1)
            await sidecar._adopt(specs)
            lane, plan = sidecar.mirror.lane("s"), sidecar.mirror.plan
            return lane.percent, lane.hold_out, plan.hold_out_position is not None

        assert await reload({"from": 4, "over": "1h"}) == (4.0, 5.0, True)
        await sidecar.steer(sidecar.steering.with_percent("s", 30.0))
        assert await reload({"from": 4, "over": "1h"}) == (30.0, 0.0, True)
        assert await reload({"from": 2, "over": "1h"}) == (2.0, 5.0, True)
        assert await reload(60) == (60.0, 0.0, False)


def named(number: int) -> Request:
    return Request(f"r-{number}", "", 0, "GET", b"/", (), b"", 0, None)


def lane_positions(running: Proxy) -> tuple[Position, Position]:
    plan = running.sidecar.mirror.plan
    assert plan.hold_out_position is not None
    return plan.position, plan.hold_out_position


def received(running: Proxy) -> set[str]:
    return {name.decode() for request in running.shadows["s"].requests for name in request.all(b"x-request-id")}
