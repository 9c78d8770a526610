"""A program under load, with what its admin port says: for tests that kill and stop its processes."""

import asyncio
import contextlib
import re
import time
from collections import Counter
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import httpx
from fakes import CutOff, Origin, answer
from program import Program
from prometheus_client.parser import text_string_to_metric_families

GET = b"GET / HTTP/1.1\r\nHost: h\r\n\r\n"


def values(live: Origin, shadow: Origin, **more: Any) -> dict[str, Any]:
    return {"admin": "127.0.0.1:0", "live": {"url": live.url}, "shadows": {"s": {"url": shadow.url}}} | more


def admin(program: Program) -> httpx.AsyncClient:
    (address,) = re.findall(r"admin (http://[0-9.]+:[0-9]+)", "\n".join(program.said))
    return httpx.AsyncClient(base_url=address, trust_env=False, timeout=15)


async def metrics(asking: httpx.AsyncClient) -> dict[tuple[str, str], float]:
    """The metrics by name and by the value of `reason`; once the recorder answers."""
    async with asyncio.timeout(20):
        while (reply := await asking.get("/metrics")).status_code != 200:  # noqa: ASYNC110
            await asyncio.sleep(0.05)
    found: Counter[tuple[str, str]] = Counter()
    for family in text_string_to_metric_families(reply.text):
        for sample in family.samples:
            found[sample.name, sample.labels.get("reason", "")] += sample.value  # type: ignore[assignment]
    return dict(found)


async def until_balanced(asking: httpx.AsyncClient, least: float, within: float = 20) -> dict[str, float]:
    """What was lost by reason, once every one of at least so many requests is written or lost.

    Every one that was chosen for a shadow has an outcome by then.
    """
    async with asyncio.timeout(within):
        while True:
            found = await metrics(asking)
            lost = {reason: n for (name, reason), n in found.items() if name == "shadowproxy_records_lost_total"}
            asked = sum(n for (name, _), n in found.items() if name == "shadowproxy_requests_total")
            written = found["shadowproxy_records_written_total", ""]
            chosen = sum(n for (name, _), n in found.items() if name == "shadowproxy_shadow_chosen_total")
            outcomes = sum(n for (name, _), n in found.items() if name == "shadowproxy_shadow_outcomes_total")
            if asked >= least and asked == written + sum(lost.values()) and chosen == outcomes > 0:
                return {reason: n for reason, n in lost.items() if n}
            await asyncio.sleep(0.05)


class Load:
    """Callers that ask without a pause, each over a connection of its own. `cut_off` of them met an error."""

    def __init__(self, program: Program, callers: int = 4) -> None:
        self.asked = 0
        self.cut_off = 0
        self._ended = asyncio.Event()
        loop = asyncio.get_running_loop()
        self._tasks = [loop.create_task(self._ask(program)) for _ in range(callers)]

    async def _ask(self, program: Program) -> None:
        while not self._ended.is_set():
            try:
                async with await program.caller() as caller:
                    while not self._ended.is_set():
                        assert (await caller.ask(GET)).status == 200
                        self.asked += 1
                        await asyncio.sleep(0.005)
            except (CutOff, ConnectionError):
                self.cut_off += 1

    async def more(self, count: int = 100) -> None:
        """Wait until so many more were answered."""
        goal = self.asked + count
        async with asyncio.timeout(20):
            while self.asked < goal:  # noqa: ASYNC110  # nothing tells
                await asyncio.sleep(0.01)

    async def end(self) -> None:
        self._ended.set()
        await asyncio.gather(*self._tasks)


@contextlib.asynccontextmanager
async def serving(
    directory: Path, *, answers: tuple[bytes, bytes] = (b"1", b"2"), **more: Any
) -> AsyncIterator[tuple[Program, httpx.AsyncClient, Load]]:
    """A program under load. `answers` are live's and the shadow's."""
    async with (
        Origin(answer(answers[0])) as live,
        Origin(answer(answers[1])) as shadow,
        Program(directory, values(live, shadow, **more)) as program,
        admin(program) as asking,
    ):
        load = Load(program)
        try:
            await load.more()
            yield program, asking, load
        finally:
            await load.end()


async def probes(asking: httpx.AsyncClient) -> None:
    """Both probes say within a second that all is well.

    Over a connection of their own, as probes are: one over which a page was asked for may die with the recorder.
    """
    async with httpx.AsyncClient(base_url=asking.base_url, trust_env=False, timeout=15) as probing:
        for path in ("/healthz", "/readyz"):
            began = time.monotonic()
            assert (await probing.get(path)).status_code == 200
            assert time.monotonic() - began < 1


async def wait_recorder(program: Program, *, other_than: int) -> int:
    async with asyncio.timeout(20):
        while not (found := [pid for pid in program.recorders if pid != other_than]):  # noqa: ASYNC110
            await asyncio.sleep(0.01)
    return found[0]
