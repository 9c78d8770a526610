"""IDs are translated while things break: the real program, whose processes are killed and whose shadow restarts.

None of live's IDs reaches the shadow in any of it, live's callers see nothing, and the books balance.
"""

import asyncio
import contextlib
import os
import re
import signal
from collections import Counter
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import httpx
import pytest
from issuing import Issuing, Sessions, come_back, make
from load import admin, until_balanced, wait_recorder
from program import Program

from shadowproxy.exchange import Outcome, Verdict
from shadowproxy.record import Record

pytestmark = pytest.mark.soak


@contextlib.asynccontextmanager
async def translating(
    directory: Path,
    state: Any = "auto",
    *,
    delay: float = 0.0,
    shadow_values: dict[str, Any] | None = None,
    **more: Any,
) -> AsyncIterator[tuple[Program, Issuing, httpx.AsyncClient]]:
    """The program between two services. At its end, the shadow has seen none of live's IDs."""
    async with Issuing("live") as live, Issuing("shadow", delay) as shadow:
        values: dict[str, Any] = {
            "admin": "127.0.0.1:0",
            "live": {"url": live.url},
            "shadows": {"s": {"url": shadow.url, "lane": 10_000, "state": state} | (shadow_values or {})},
        }
        async with Program(directory, values | more) as program, admin(program) as asking:
            yield program, shadow, asking
        assert b"live-" not in shadow.received
        assert b"shadow-" not in live.received


def outcomes(records: list[Record], turn: str) -> Counter[str]:
    """How the requests of one turn ended for the shadow: its status, or the reason why there is none."""
    found = [entry.shadows["s"] for entry in records if entry.id.startswith("get-") and entry.id.endswith(f"-{turn}")]
    return Counter(str(leg.status) if leg.outcome is Outcome.OK else leg.outcome.value for leg in found)


def assert_all_agree(records: list[Record]) -> None:
    for entry in records:
        leg = entry.shadows["s"]
        assert leg.outcome is Outcome.OK, (entry.id, leg.error)
        assert leg.judgement is not None
        assert leg.judgement.verdict is Verdict.MATCH, (entry.id, leg.judgement.differences)


async def test_a_session_that_moves_between_two_workers_is_followed(tmp_path: Path) -> None:
    async with translating(tmp_path, workers=2, delay=0.005) as (program, _, asking):
        assert len(program.workers) == 2
        sessions = Sessions(program)
        await sessions.more(400)
        await sessions.end()
        assert sessions.cut_off == 0
        assert await until_balanced(asking, sessions.asked) == {}
        assert await program.stop() == 0
        records = program.records()
        assert len(records) == sessions.asked
        assert len({entry.proxy for entry in records}) == 2
        assert_all_agree(records)


async def test_a_killed_recorder_takes_no_pairs_with_it(tmp_path: Path) -> None:
    async with translating(tmp_path) as (program, _, asking):
        async with await program.caller() as caller:
            made = await make(caller, range(50))
            await come_back(caller, made, "before")
            (recorder,) = program.recorders
            os.kill(recorder, signal.SIGKILL)
            await come_back(caller, made, "meanwhile")
            await wait_recorder(program, other_than=recorder)
            await come_back(caller, made, "after")
        lost = await until_balanced(asking, 200)
        assert set(lost) <= {"recorder_ended"}
        assert await program.stop() == 0
        records, _unreadable = program.read()
        assert outcomes(records, "after") == {"200": 50}
        assert_all_agree(records)


async def test_a_killed_worker_costs_only_what_it_had_not_told_the_others(tmp_path: Path) -> None:
    async with translating(tmp_path, workers=2) as (program, _, asking):
        async with await program.caller() as caller:
            made = await make(caller, range(50))
        sessions = Sessions(program)
        await sessions.more(100)
        first, _ = program.workers
        os.kill(first, signal.SIGKILL)
        await program.wait_said("SIGKILL")
        await sessions.more(200)
        async with await program.caller() as caller:
            await come_back(caller, made, "after")
        await sessions.end()
        await until_balanced(asking, sessions.asked)
        assert await program.stop() == 0
        records, _unreadable = program.read()
        assert outcomes(records, "after") == {"200": 50}
        for entry in records:
            leg = entry.shadows["s"]
            assert leg.outcome in (Outcome.OK, Outcome.STATE_UNKNOWN), leg
            assert leg.status in (None, 200, 201)


async def test_of_a_full_map_the_oldest_pairs_fall_out_and_their_requests_are_not_sent(tmp_path: Path) -> None:
    async with translating(tmp_path, {"pairs": 10}) as (program, shadow, asking):
        async with await program.caller() as caller:
            made = await make(caller, range(40))
            await until_balanced(asking, 40)
            sent = len(shadow.requests)
            await come_back(caller, made, "0")
        await until_balanced(asking, 80)
        said = (await asking.get("/metrics")).text
        (unknown,) = re.findall(r'shadowproxy_shadow_outcomes_total{.*outcome="state_unknown".*} ([\d.]+)', said)
        assert float(unknown) == 30
        assert len(shadow.requests) - sent == 10
        assert await program.stop() == 0
        assert outcomes(program.records(), "0") == {"200": 10, "state_unknown": 30}


async def test_a_shadow_that_lost_its_items_says_404_itself_and_one_that_never_gave_an_id_is_not_asked(
    tmp_path: Path,
) -> None:
    async with translating(tmp_path, shadow_values={"breaker": {"failures": 1000}}) as (program, shadow, asking):
        async with await program.caller() as caller:
            made = await make(caller, range(20))
            await come_back(caller, made, "before")
            await until_balanced(asking, 40)
            shadow.forget()
            shadow.drop_connections()
            await come_back(caller, made, "after")
            await until_balanced(asking, 60)
            shadow.stop_listening()
            shadow.drop_connections()
            more = await make(caller, range(20, 40))
            await come_back(caller, more, "down")
        await until_balanced(asking, 100)
        assert await program.stop() == 0
        records = program.records()
        assert outcomes(records, "before") == {"200": 20}
        assert outcomes(records, "after") == {"404": 20}
        assert outcomes(records, "down") == {"state_unknown": 20}


async def test_a_request_waits_for_the_id_of_a_shadow_that_is_slower_and_not_beyond_its_deadline(
    tmp_path: Path,
) -> None:
    async with translating(tmp_path, delay=0.2, shadow_values={"timeout": "1s"}) as (program, shadow, asking):
        async with await program.caller() as caller:
            made = await make(caller, range(10))
            await come_back(caller, made, "slow")
            await until_balanced(asking, 20)
            shadow.delay = 30.0
            more = await make(caller, range(10, 20))
            await come_back(caller, more, "never")
        async with asyncio.timeout(10):
            await until_balanced(asking, 40)
        assert await program.stop() == 0
        records = program.records()
        assert outcomes(records, "slow") == {"200": 10}
        assert set(outcomes(records, "never")) <= {"timeout", "state_unknown"}
