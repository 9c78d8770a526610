"""The sidecar at a glance: told alike to all who listen, to a bounded number of them, and to none once it stops."""

import asyncio
import json
import time
from collections import Counter
from collections.abc import AsyncIterator
from contextlib import ExitStack, asynccontextmanager
from dataclasses import replace
from typing import Any

import pytest
from test_trend import census, durations, shadow

from shadowproxy.compare.report.stats import wilson
from shadowproxy.exchange import Outcome
from shadowproxy.serve.admin import overview
from shadowproxy.serve.admin.census import Census
from shadowproxy.serve.admin.overview import MAX_LISTENERS, Overview
from shadowproxy.serve.admin.trend import Trend


def told(before: Census, after: Census, seconds: float = 10.0) -> dict[str, Any]:
    trend = Trend()
    trend.add(before, 0.0, 0.0)
    trend.add(after, seconds, 0.0)
    return overview.overview(after, trend, wilson, proxy="h/0", uptime=1.0)


def test_agreement_is_of_what_could_be_compared_and_has_its_interval() -> None:
    after = census(shadow(asked=[0.01] * 100, match=80, ignored=5, mismatch=5, incomparable=10))
    (told_of,) = told(census(shadow()), after)["shadows"]
    low, high = wilson(85, 90)
    assert told_of["agreement"] == {
        "share": round(85 / 90, 6),
        "low": round(low, 6),
        "high": round(high, 6),
        "compared": 90,
    }
    assert told_of["rate"] == 10.0
    assert told_of["latency"]["count"] == 100


def test_without_anything_to_compare_there_is_no_agreement() -> None:
    after = census(shadow(asked=[0.01], incomparable=1))
    assert told(census(shadow()), after)["shadows"][0]["agreement"] is None


def test_lives_errors_are_what_is_neither_ok_nor_the_callers_own_doing() -> None:
    outcomes = Counter({Outcome.OK: 90, Outcome.CALLER_LEFT: 6, Outcome.TIMEOUT: 3, Outcome.CONNECT_ERROR: 1})
    after = replace(census(), outcomes=outcomes)
    assert told(census(), after)["live"]["errors_share"] == 0.04
    assert told(after, after)["live"]["errors_share"] is None


def test_latency_of_mirrored_requests_stands_beside_that_of_the_others() -> None:
    after = census(mirrored=durations(*[0.003] * 9), alone=durations(0.3))
    latency = told(census(), after)["live"]["latency"]
    assert latency["mirrored"]["count"] == 9
    assert 2.5 < latency["mirrored"]["p50_ms"] < 5
    assert 250 < latency["not_mirrored"]["p99_ms"] < 500


def test_the_control_is_not_among_the_shadows() -> None:
    after = census(shadow("a"), shadow("control"))
    whole = told(after, after)
    assert [each["name"] for each in whole["shadows"]] == ["a"]
    assert whole["control"]["name"] == "control"


@pytest.mark.parametrize(
    ("requests", "left", "told_of"),
    [
        (None, None, None),
        (10, None, {"requests": {"used": 3, "allowed": 10}, "tokens": None, "cost": None, "seconds_left": None}),
        (None, 0.0, {"requests": None, "tokens": None, "cost": None, "seconds_left": 0.0}),
        (10, 7.25, {"requests": {"used": 3, "allowed": 10}, "tokens": None, "cost": None, "seconds_left": 7.2}),
    ],
)
def test_a_budget_shows_the_used_requests_and_the_time_left(
    requests: int | None, left: float | None, told_of: object
) -> None:
    standing = replace(shadow(asked=[0.1] * 3), budget_requests=requests, budget_left=left)
    assert overview.budget(standing) == told_of


def test_a_budget_shows_the_used_tokens_and_the_cost() -> None:
    standing = replace(shadow(asked=[]), tokens=30, budget_tokens=100, cost=0.5, budget_cost=2.0)
    assert overview.budget(standing) == {
        "requests": None,
        "tokens": {"used": 30, "allowed": 100},
        "cost": {"used": 0.5, "allowed": 2.0},
        "seconds_left": None,
    }


def test_a_failed_reload_is_shown_with_its_reason() -> None:
    failed = replace(census(), config=replace(census().config, error="config.yaml:3: live.url: must begin with http"))
    config = told(census(), failed)["config"]
    assert (config["reload_ok"], config["reload_error"]) == (False, "config.yaml:3: live.url: must begin with http")


# --- listening -------------------------------------------------------------------------------------------------------


@pytest.fixture(autouse=True)
def often(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(overview, "SAMPLE_EVERY", 0.01)


@asynccontextmanager
async def running(told_of: Census | None = None) -> AsyncIterator[Overview]:
    async def counted() -> Census:
        return told_of or census()

    one = Overview(counted, proxy="h/0", interval=wilson)
    await one.start()
    try:
        yield one
    finally:
        await one.stop()


async def test_what_was_counted_before_the_first_sample_is_shown_unless_there_was_an_overview_before() -> None:
    """Callers wait at the port while the program starts, and are answered before the first sample is taken."""
    seen = census(shadow("a", asked=[0.1] * 3))

    async def counted() -> Census:
        return seen

    for fresh, outcomes in ((True, {"ok": 3}), (False, {})):
        one = Overview(counted, proxy="h", interval=wilson, began=time.monotonic() - 60, fresh=fresh)
        await one.start()
        whole = json.loads(await one.now())
        await one.stop()
        assert whole["shadows"][0]["outcomes"] == outcomes
        assert whole["uptime_seconds"] >= 60


@pytest.mark.timing
async def test_a_listener_gets_an_event_at_once_and_then_one_after_the_other() -> None:
    async with running() as one:
        with one.listener() as events:
            began = asyncio.get_running_loop().time()
            assert json.loads(await anext(events))["state"] == "ready"
            assert asyncio.get_running_loop().time() - began < overview.SAMPLE_EVERY
            async with asyncio.timeout(5):
                assert json.loads(await anext(events))["proxy"] == "h/0"
                assert json.loads(await anext(events))["proxy"] == "h/0"


async def test_all_listeners_are_sent_the_same_bytes() -> None:
    async with running() as one:
        with one.listener() as first, one.listener() as second:
            await anext(first), await anext(second)
            async with asyncio.timeout(5):
                one_of, other = await asyncio.gather(_next(first), _next(second))
            assert one_of is other


async def _next(events: AsyncIterator[bytes]) -> bytes:
    return await anext(events)


async def test_a_listener_that_leaves_does_not_disturb_the_others() -> None:
    async with running() as one:
        with one.listener() as first, one.listener() as second:
            await anext(first), await anext(second)
            leaving = asyncio.get_running_loop().create_task(_next(first))
            await asyncio.sleep(0)
            leaving.cancel()
            async with asyncio.timeout(5):
                assert await anext(second)


async def test_the_number_of_listeners_is_bounded_and_one_that_leaves_makes_room() -> None:
    async with running() as one:
        with ExitStack() as listening:
            for _ in range(MAX_LISTENERS - 1):
                listening.enter_context(one.listener())
            assert not one.is_full
            with one.listener():
                assert one.is_full
            assert not one.is_full


async def test_stopping_ends_every_listener_at_once() -> None:
    async with running() as one:
        with one.listener() as events:
            await anext(events)
            waiting = asyncio.get_running_loop().create_task(_next(events))
            await asyncio.sleep(0)
            await one.stop()
            await one.stop()
            with pytest.raises(StopAsyncIteration):
                async with asyncio.timeout(5):
                    await waiting
            with one.listener() as late:
                assert [event async for event in late] == []


async def test_without_listeners_a_second_costs_only_a_sample(monkeypatch: pytest.MonkeyPatch) -> None:
    told_of: list[object] = []
    monkeypatch.setattr(overview, "overview", lambda *given, **_: told_of.append(given))
    sampled = asyncio.Event()
    taken = 0

    async def counted() -> Census:
        nonlocal taken
        taken += 1
        if taken == 3:
            sampled.set()
        return census()

    one = Overview(counted, proxy="h/0", interval=wilson)
    await one.start()
    async with asyncio.timeout(5):
        await sampled.wait()
    await one.stop()
    assert told_of == []


async def test_a_defect_in_the_overview_stops_neither_the_timer_nor_the_program(
    caplog: pytest.LogCaptureFixture,
) -> None:
    again = asyncio.Event()
    calls = 0

    async def broken() -> Census:
        nonlocal calls
        calls += 1
        if calls == 2:
            raise ValueError("broken")
        if calls == 3:
            again.set()
        return census()

    one = Overview(broken, proxy="h/0", interval=wilson)
    await one.start()
    async with asyncio.timeout(5):
        await again.wait()
    await one.stop()
    assert "a defect in the proxy" in caplog.text
