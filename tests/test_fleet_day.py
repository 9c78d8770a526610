"""A day of a fleet: twenty sidecars, and a candidate that turns bad at noon. It is watched, ramped and handed over."""

import asyncio
import json
import os
import re
import sys
from collections.abc import Callable, Sequence
from contextlib import AsyncExitStack
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import httpx
import pytest
from program import Program
from test_watching import Receiver, receiver

from shadowproxy.demo.client import send_all
from shadowproxy.demo.flights import LATE, ON_TIME, Flight, flights, labels
from shadowproxy.demo.model import load
from shadowproxy.demo.rule import departed_late

__all__ = ["receiver"]

pytestmark = [pytest.mark.soak, pytest.mark.timing]

PODS = 20
AT_ONCE = 4
"""How many are started at the same time."""

MORNING = 80
"""Flights of each pod in each of its hours up to noon."""

AFTERNOON = 40
HOURS = 2
"""Before noon, and after it."""

RAMP = {"from": 80, "to": 100, "over": "1s", "hold_out": 5, "while": {"live_p99_ratio": None, "shadow_errors": 0.1}}
RAMP_ENDS = 4.0
"""Seconds after which a ramp of 1 s that nothing stops has ended."""

GATES = {"p99_ratio": None}  # twenty sidecars on one machine say nothing of latency


@dataclass
class Model:
    """A model server of the flights' form. `says` may be changed; while `failing` every second answer is a 500."""

    says: Callable[[dict[str, Any]], bool]
    failing: bool = False
    asked: int = 0
    url: str = ""
    _tasks: set[asyncio.Task[None]] = field(default_factory=set)

    async def __aenter__(self) -> "Model":
        self._server = await asyncio.start_server(self._serve, "127.0.0.1", 0)
        self.url = f"http://127.0.0.1:{self._server.sockets[0].getsockname()[1]}"
        return self

    async def __aexit__(self, *_: object) -> None:
        self._server.close()
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        self._tasks.add(task)
        try:
            while head := await reader.readuntil(b"\r\n\r\n"):
                (length,) = re.findall(rb"(?i)content-length: (\d+)", head)
                asked = json.loads(await reader.readexactly(int(length)))
                self.asked += 1
                if self.failing and self.asked % 2:
                    body, status = b'{"error": "out of memory"}', b"500 Internal Server Error"
                else:
                    said = [LATE if self.says(each) else ON_TIME for each in asked["instances"]]
                    body, status = json.dumps({"predictions": said}).encode(), b"200 OK"
                fields = b"Content-Type: application/json\r\nContent-Length: %d" % len(body)
                writer.write(b"HTTP/1.1 %b\r\n%b\r\n\r\n%b" % (status, fields, body))
                await writer.drain()
        except (asyncio.IncompleteReadError, ConnectionError):
            pass
        finally:
            writer.close()
            self._tasks.discard(task)


async def run(*words: object, **environment: str) -> tuple[int, str]:
    """A command of the program: its exit status and both of its outputs."""
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-m", "shadowproxy", *map(str, words),
        env={**os.environ, **environment}, stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.STDOUT,
    )  # fmt: skip
    said, _ = await process.communicate()
    assert process.returncode is not None
    return process.returncode, said.decode()


class Fleet:
    """The sidecars of the pods, each with a directory of its own."""

    def __init__(self, place: Path, live: Model, shadow: Model) -> None:
        self._given = {
            "admin": "127.0.0.1:0",
            "live": {"url": live.url},
            "shadows": {"challenger": {"url": shadow.url, "percent": RAMP}},
            "verdict": {"cpu": None, "gates": GATES},
        }
        self._place = place
        self.programs: list[Program] = []
        self.admins: list[str] = []

    async def start(self, stack: AsyncExitStack) -> None:
        places = [self._place / f"pod-{number}" for number in range(PODS)]
        for place in places:
            place.mkdir()
        self.programs = [Program(place, self._given) for place in places]
        for first in range(0, PODS, AT_ONCE):
            several = self.programs[first : first + AT_ONCE]
            await asyncio.gather(*(stack.enter_async_context(each) for each in several))
        for program in self.programs:
            (admin,) = re.findall(r"admin (http://[0-9.:]+)", await program.wait_said("admin http://"))
            self.admins.append(admin)

    async def send(self, hour: Sequence[Flight]) -> None:
        """Each pod's callers send their share of an hour's flights; none gets anything but live's answer."""
        shares = [hour[number::PODS] for number in range(PODS)]
        urls = [f"http://{host}:{port}" for host, port in (each.address[:2] for each in self.programs)]
        answers = await asyncio.gather(
            *(send_all(url, share, lambda: None, rate=100) for url, share in zip(urls, shares, strict=True))
        )
        for share, got in zip(shares, answers, strict=True):
            assert [each.status for each in got] == [200] * len(share)
            assert [json.loads(each.body)["predictions"][0] for each in got] == [
                LATE if departed_late(json.loads(each.body)["instances"][0]) else ON_TIME for each in share
            ]

    async def ask(self, path: str) -> list[Any]:
        """What each admin port answers."""
        async with httpx.AsyncClient(timeout=30) as client:
            return [(await client.get(f"{admin}{path}")).json() for admin in self.admins]

    async def shares(self) -> list[float]:
        """The percent of each pod's ramp."""
        return [each["shadows"]["challenger"]["ramp"]["percent"] for each in await self.ask("/shadows")]


async def test_a_candidate_that_turns_bad_at_noon_is_seen_told_once_and_handed_over(
    tmp_path: Path, receiver: Receiver
) -> None:
    model, sent = load(), iter(flights(HOURS * PODS * (MORNING + AFTERNOON)))
    history, page = tmp_path / "verdicts.jsonl", tmp_path / "day.html"
    words: list[str] = []
    async with Model(departed_late) as live, Model(model.late) as shadow, AsyncExitStack() as stack:
        fleet = Fleet(tmp_path, live, shadow)
        await fleet.start(stack)

        async def hour(of_each: int) -> int:
            """One hour, the look after it, and what the fleet's verdict is by then."""
            await fleet.send([next(sent) for _ in range(of_each * PODS)])
            watched = "--history", history, "--webhook", receiver.url, "--html", page
            status, said = await run("watch", *fleet.admins, "--once", *watched)
            assert status in (0, 1, 3), said
            verdict, told = await run("verdict", *fleet.admins, "--json")
            assert verdict == status, told
            words.append(json.loads(told)["verdict"])
            return verdict

        for _ in range(HOURS):
            assert await hour(MORNING) != 1
        await asyncio.sleep(RAMP_ENDS)
        assert set(await fleet.shares()) == {100.0}
        shadow.says, shadow.failing = (lambda instance: False), True  # noon
        statuses = [await hour(AFTERNOON) for _ in range(HOURS)]
        assert statuses[-1] == 1
        assert min(await fleet.shares()) < 100.0
        assert "pass" not in {each["verdict"] for each in await fleet.ask("/verdict?shadow=challenger")}
    assert words[-1] == "fail"
    told = [each["verdict"] for each in receiver.got]
    assert told.count("fail") == 1
    assert told[-1] == "fail"
    # Its labels come a day later, when the sidecars have stopped and their logs are all that is left.
    logs = [tmp_path / f"pod-{number}" / "log" for number in range(PODS)]
    rows = "".join(f"{id},{label}\n" for id, label in labels().items())
    (tmp_path / "labels.csv").write_text(f"id,label\n{rows}")
    status, said = await run("report", *logs, "--labels", tmp_path / "labels.csv", "--json")
    assert status == 1
    assert json.loads(said)["shadows"]["challenger"]["verdict"]["result"] == "fail"
