"""A candidate does its worst in an application whose processes are forked and killed: no call waits for it or fails.

Each is a program of its own, with a companion of its own; the books of both are added up.
"""

import asyncio
import json
import os
import sys
from collections import Counter
from pathlib import Path
from typing import Any

import pytest
from test_candidates import until
from test_intake import records

pytestmark = [pytest.mark.soak, pytest.mark.timing]

PROGRAM = """
import json, os, sys, time
sys.path.insert(0, {tests!r})
import candidates
from shadowproxy import Shadow

shadow = Shadow(log={log!r}, drain="5s")

@shadow.function(
    candidate=candidates.misbehave, name="worst", timeout="300ms", memory="200MiB", lane=20,
    breaker={{"failures": 1000}},
)
def live(how, more=None):
    return how

hows = {hows!r}

def work(seconds):
    worst, calls, ends = 0.0, 0, time.monotonic() + seconds
    while time.monotonic() < ends:
        for how, more in hows:
            began = time.perf_counter()
            assert live(how, more) == how
            worst, calls = max(worst, time.perf_counter() - began), calls + 1
            time.sleep(0.002)
    return calls, worst

def said(*values):
    print(json.dumps(values))

{main}
"""

HOWS = [
    ("echo", 1), ("sleep", None), ("spin", None), ("hold", 1.0), ("fork", None), ("fork and hang", None),
    ("eat", None), ("exit", None), ("abort", None), ("raise", None), ("leave", None), ("close", None), ("print", None),
]  # fmt: skip


async def run(directory: Path, main: str, hows: list[tuple[str, Any]]) -> list[Any]:
    file = directory / "app.py"
    file.write_text(PROGRAM.format(tests=str(Path(__file__).parent), log=str(directory / "log"), hows=hows, main=main))
    process = await asyncio.create_subprocess_exec(sys.executable, str(file), stdout=asyncio.subprocess.PIPE)
    async with asyncio.timeout(90):
        said, _ = await process.communicate()
    assert process.returncode == 0
    found: list[Any] = json.loads(said.splitlines()[-1])
    return found


def outcomes(directory: Path) -> Counter[str]:
    found = records(directory)
    assert {each["live"]["outcome"] for each in found} == {"ok"}
    return Counter(each["shadows"]["worst"]["outcome"] for each in found)


async def test_no_call_waits_for_a_candidate_that_does_its_worst(tmp_path: Path) -> None:
    """Each is asked for once, and the call after it has another process where the first one has ended."""
    main = """
worst = 0.0
for how, more in hows:
    began = time.perf_counter()
    assert live(how, more) == how
    worst = max(worst, time.perf_counter() - began)
    assert shadow.flush(60)
said(worst)
"""
    [worst] = await run(tmp_path, main, [each for how in HOWS for each in (how, ("echo", 1))])
    assert worst < 0.25, "a quarter of a second on a busy machine; most of these take longer, or for ever"
    found = [(each["request"]["body"]["args"][0], each["shadows"]["worst"]["outcome"]) for each in records(tmp_path)]
    assert found[1::2] == [("echo", "ok")] * len(HOWS)
    ended = {"exit": "incomplete", "abort": "incomplete", "close": "incomplete"}
    hung = dict.fromkeys(("sleep", "spin", "hold"), "timeout")
    assert {how: outcome for how, outcome in found[::2] if outcome != "ok" and how != "eat"} == ended | hung
    assert ("eat", "ok") not in found


FORKED = """
first = work(0.2)  # the companion is there before the fork
children = []
for number in range(3):
    reading, writing = os.pipe()
    if (pid := os.fork()) == 0:
        os.write(writing, json.dumps(work(30 if number == 1 else 0.3)).encode())
        done = shadow.flush(60)
        os._exit(0 if done else 1)
    os.close(writing)
    children.append((pid, reading))
time.sleep(0.2)
os.kill(children[1][0], 9)
again = work(0.2)
told = [json.loads(os.read(reading, 100) or "[0, 0]") for _, reading in children]
ends = [os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) for pid, _ in children]
done = shadow.flush(60)
said(first, again, told, ends, done)
"""


async def test_forked_workers_one_of_which_is_killed_share_a_companion(tmp_path: Path) -> None:
    first, again, told, ends, done = await run(tmp_path, FORKED, [("echo", 0), ("sleep", None), ("exit", None)])
    assert (ends, done) == ([0, -9, 0], True)
    found = outcomes(tmp_path)
    known = first[0] + again[0] + told[0][0] + told[2][0]
    assert sum(found.values()) >= known, "and what the killed one had sent"
    assert max(first[1], again[1], told[0][1], told[2][1]) < 0.25


async def test_a_companion_that_is_killed_is_started_again_and_no_call_notices(tmp_path: Path) -> None:
    main = """
calls, worst = work(0.2)
shadow.flush(60)
tasks = f"/proc/{os.getpid()}/task"
[companion] = {int(pid) for task in os.listdir(tasks) for pid in open(f"{tasks}/{task}/children").read().split()}
os.kill(companion, 9)
more, again = work(2.0)
done = shadow.flush(60)
lost = shadow._connection.lost
said(calls + more, max(worst, again), done, lost, companion)
"""
    calls, worst, done, lost, companion = await run(tmp_path, main, [("echo", 0), ("echo", 1)])
    found = outcomes(tmp_path)
    assert done
    assert worst < 0.25
    assert calls - 50 <= sum(found.values()) + sum(lost.values()) <= calls, lost
    await until(lambda: not os.path.exists(f"/proc/{companion}"))
