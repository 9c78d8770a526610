"""A Python callable as a shadow: whatever it does, its process alone ends, and the next call has another."""

import asyncio
import json
import pickle
import subprocess
import sys
import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import candidates
import pytest

from shadowproxy.intake_frames import Candidate
from shadowproxy.serve.candidates import workers as workers_module
from shadowproxy.serve.candidates.process import Answer
from shadowproxy.serve.candidates.registry import Candidates
from shadowproxy.serve.candidates.workers import Workers
from shadowproxy.serve.upstreams.errors import ConnectError, ReadError

HERE = str(Path(__file__).parent)
MEMORY = 300 << 20


def candidate(function: object, name: str = "f") -> Candidate:
    path = (HERE, *sys.path)
    return Candidate(name, False, sys.executable, path, HERE, "", pickle.dumps(function))


def arguments(*positional: object) -> bytes:
    return pickle.dumps((positional, {}))


@asynccontextmanager
async def workers(
    function: object = candidates.misbehave, most: int = 1, longest: int = 10_000
) -> AsyncIterator[Workers]:
    running = Workers(candidate(function), most=most, memory=MEMORY, longest=longest)
    try:
        yield running
    finally:
        await running.aclose()


async def answer(running: Workers, *positional: object) -> Any:
    return json.loads((await running.call(arguments(*positional))).body)


def is_running(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False


def children(pid: int) -> list[int]:
    return list(map(int, Path(f"/proc/{pid}/task/{pid}/children").read_text().split()))


async def until(holds: Callable[[], bool]) -> None:
    async with asyncio.timeout(20):
        while not holds():  # noqa: ASYNC110  # it waits for another process
            await asyncio.sleep(0.005)


pytestmark = pytest.mark.slow


async def test_what_a_candidate_returns_or_raises_is_its_answer_and_what_it_prints_is_not() -> None:
    async with workers() as running:
        assert await answer(running, "echo", [1, None, "ä", {"a": 2.5}]) == [1, None, "ä", {"a": 2.5}]
        assert await answer(running, "print") == 1
        assert await answer(running, "raise") == {"error": "LookupError: there is no such thing"}
        assert await answer(running, "leave") == {"error": "SystemExit: 3"}
        assert await answer(running, "own") == {"x": 1, "y": [2.5]}
        assert await answer(running, "unwritable") == {"unwritable": "builtins.object"}
        assert await answer(running, "echo", 10**20) == 1e20
        assert (await answer(running, "where"))[:2] == [HERE, "1"]
        assert await running.call(arguments("answer too much", 20_000)) == Answer(b'"' + b"x" * 10_000, True)
        assert "MemoryError" in str(await answer(running, "ask for too much", 1 << 30))
        assert await answer(running, "hold", 0.001) == "held"
        assert await answer(running, "told to stop") == ["told", -15]
        assert running.started == 1


async def test_a_candidate_may_be_a_coroutine_function() -> None:
    async with workers(candidates.later) as running:
        assert await answer(running, [3]) == [3]
        assert await answer(running, [4]) == [4]


async def test_a_candidate_that_ends_its_process_gets_another_and_says_how(caplog: pytest.LogCaptureFixture) -> None:
    async with workers() as running:
        for how, why in (("exit", "status 3"), ("abort", "SIGABRT"), ("close", None)):
            with pytest.raises(ReadError, match=why or "has ended"):
                await running.call(arguments(how))
            assert await answer(running, "echo", how) == how
        assert running.started == 4


async def test_a_call_that_hangs_is_killed_with_all_that_it_forked() -> None:
    async with workers() as running:
        parent = await answer(running, "fork and hang")
        [child] = children(parent)
        for how in ("spin", "sleep"):
            calling = asyncio.get_running_loop().create_task(running.call(arguments(how)))
            await asyncio.sleep(0.02)
            calling.cancel()
            with pytest.raises(asyncio.CancelledError):
                await calling
            assert await answer(running, "echo", how) == how
        await until(lambda: not is_running(parent) and not is_running(child))


async def test_a_candidate_that_forks_answers_once() -> None:
    async with workers() as running:
        assert await answer(running, "fork") == "parent"
        assert await answer(running, "echo", 5) == 5
        assert running.started == 1


async def test_a_candidate_that_eats_memory_is_ended() -> None:
    async with workers() as running:
        with pytest.raises(ReadError, match="took more than 300 MiB of memory"):
            await running.call(arguments("eat"))
        assert await answer(running, "echo", 1) == 1


async def test_calls_at_once_have_a_process_each_up_to_the_bound() -> None:
    async with workers(most=2) as running:
        calls = [asyncio.get_running_loop().create_task(answer(running, "where")) for _ in range(6)]
        pids = {(await call)[2] for call in calls}
        assert 1 <= len(pids) <= 2
        assert running.started == len(pids) or running.started == 2
    await until(lambda: not any(map(is_running, pids)))


async def test_a_callable_that_cannot_be_loaded_says_why_and_is_tried_again(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(workers_module, "PAUSES", (0.001, 0.002))
    async with workers(candidates.Unloadable()) as running:
        for _ in range(2):
            with pytest.raises(ConnectError, match="cannot be loaded: ImportError: no module named 'model'"):
                await running.call(arguments())
        assert running.started == 2
    gone = Workers(candidate(len)._replace(executable="/no/python"), most=1, memory=MEMORY, longest=1)
    with pytest.raises(ConnectError, match="cannot be started"):
        await gone.call(arguments("a"))
    await gone.aclose()


async def test_the_same_callable_keeps_its_processes_and_another_replaces_them() -> None:
    registry, owner = Candidates(), object()
    registry.adopt({"f": (1, None)}, 1000)
    registry.take(candidate(candidates.misbehave), owner)
    first = await registry.call("f", arguments("where"), owner, 9.0, bool)
    registry.take(candidate(candidates.misbehave), object())
    assert await registry.call("f", arguments("where"), owner, 9.0, bool) == first
    slow = asyncio.get_running_loop().create_task(registry.call("f", arguments("hold", 0.2), owner, 9.0, bool))
    await asyncio.sleep(0)
    await asyncio.sleep(0.01)
    registry.take(candidate(len), owner)
    assert (await registry.call("f", arguments("abc"), owner, 9.0, bool)).body == b"3"
    assert (await slow).body == b'"held"', "what was under way is answered"
    pid = json.loads(first.body)[2]
    await until(lambda: not is_running(pid))
    registry.adopt({}, 1000)
    with pytest.raises(ConnectError, match="has not given this callable"):
        await registry.call("f", arguments("abc"), owner, 9.0, bool)
    registry.adopt({"f": (1, None)}, 2000)
    assert (await registry.call("f", arguments("abc"), owner, 9.0, bool)).body == b"3", "it is still known"
    await registry.aclose()


def test_a_candidate_ends_with_its_companion_in_the_midst_of_a_call() -> None:
    """Also one that is killed: the kernel tells its children."""
    script = f"""
import asyncio, os, pickle, sys
sys.path.insert(0, {HERE!r})
import test_candidates as t
async def main():
    running = t.Workers(t.candidate(t.candidates.misbehave), most=1, memory=1 << 30, longest=1000)
    print((await t.answer(running, "where"))[2], flush=True)
    task = asyncio.get_running_loop().create_task(running.call(t.arguments("spin")))
    await asyncio.sleep(0.05)
    os.kill(os.getpid(), 9)
asyncio.run(main())
"""
    done = subprocess.run([sys.executable, "-c", script], stdout=subprocess.PIPE, check=False)
    pid = int(done.stdout)
    until_then = time.monotonic() + 10
    while is_running(pid):
        assert time.monotonic() < until_then
        time.sleep(0.005)
