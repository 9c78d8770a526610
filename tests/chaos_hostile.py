"""Answers that take as much memory as answers can: the recorder may end, and nobody else does: `make chaos`.

No fault is injected. Live and the shadow send bodies of nearly `limits.capture`, made to be dear to whoever decodes,
searches and compares them.
"""

import asyncio
import gzip
import os
from collections.abc import Callable
from pathlib import Path

import pytest
from cgroups import limited
from fakes import Fields, Origin, Peer, Script, answer
from load import Load, admin, probes, until_balanced, values, wait_recorder
from program import Program

from shadowproxy.serve.system import memory

pytestmark = pytest.mark.soak

SIZE = (8 << 20) - 1024  # the default of limits.capture, with room for a head
MEMORY = 64 << 20
LIMIT = 256 << 20
"""Of the container. The shipped ones have twice as much for this `limits.memory`: here it ends at times."""

ROUNDS, CALLERS = 2, 4


def filled(unit: bytes) -> bytes:
    return b"[" + b",".join([unit] * (SIZE // (len(unit) + 1))) + b"]"


def typed(kind: bytes, coding: bytes | None = None) -> Fields:
    fields = ((b"Content-Type", kind),)
    return fields if coding is None else (*fields, (b"Content-Encoding", coding))


JSON = typed(b"application/json")
BODIES: dict[str, tuple[bytes, Fields]] = {
    "digits": (filled(b"0"), JSON),
    "nested": (filled(b"[[[[]]]]"), JSON),
    "objects": (filled(b'{"":{"":{}}}'), JSON),
    "members": (b"{" + b",".join(b'"%06x":1' % number for number in range(SIZE // 12)) + b"}", JSON),
    "texts": (filled(b'""'), JSON),
    "wide": (b'"' + "\U0001f600".encode() + b"x" * (SIZE - 10) + b'"', JSON),
    "integers": (filled(b"123456789012345678901234567890"), JSON),
    "credentials": (filled(b'"Bearer abcdefghijklmnop1234567890"'), JSON),
    "lines": (b"{}\n" * (SIZE // 3), typed(b"application/x-ndjson")),
    "events": (b"data:{}\n\n" * (SIZE // 9), typed(b"text/event-stream")),
    "form": (b"a=b&" * (SIZE // 4), typed(b"application/x-www-form-urlencoded")),
    "bytes": (os.urandom(SIZE), typed(b"application/octet-stream")),
    "bomb": (gzip.compress(b"[" + b"0," * (64 << 20) + b"0]", 1), typed(b"application/json", b"gzip")),
    "bombs": (gzip.compress(b"") * (SIZE // 20), typed(b"application/json", b"gzip")),
}


def different(name: str, body: bytes) -> bytes:
    """What a shadow says: nearly the same, so that it has to be compared to the end."""
    return gzip.compress(b"[0]") + body if name.startswith("bomb") else body[:-8] + b" " + body[-8:]


def script(answers: dict[str, bytes]) -> Script:
    async def run(peer: Peer) -> None:
        while (asked := await peer.request()) is not None:
            await peer.send(answers.get(asked.start.split(b" ")[1].decode().strip("/"), answer(b"1")))

    return run


async def ask_for(program: Program, name: str) -> None:
    async with await program.caller() as caller:
        for _ in range(ROUNDS):
            assert (await caller.ask(b"GET /%s HTTP/1.1\r\nHost: h\r\n\r\n" % name.encode())).status == 200


def most_held(pid: int) -> int:
    """Bytes: the most memory that a process has held; 0 where it is gone."""
    try:
        lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    except OSError:
        return 0
    return sum(int(line.split()[1]) << 10 for line in lines if line.startswith("VmHWM:"))


async def serve_hostile_answers(directory: Path, before: Callable[[], None] | None = None) -> list[int]:
    """Callers of all of these, beside callers of small ones. Returns what the recorders held at most, each."""
    live_answers = {name: answer(body, *fields) for name, (body, fields) in BODIES.items()}
    answers = {name: answer(different(name, body), *fields) for name, (body, fields) in BODIES.items()}
    held: dict[int, int] = {}
    async with (
        Origin(script(live_answers)) as live,
        Origin(script(answers)) as shadow,
        Program(directory, values(live, shadow, limits={"memory": MEMORY}), before=before) as program,
        admin(program) as asking,
    ):
        workers = program.workers
        load = Load(program)
        for name in BODIES:
            await asyncio.gather(*(ask_for(program, name) for _ in range(CALLERS)))
            await probes(asking)
            held |= {pid: most_held(pid) for pid in program.recorders}
        await load.more()
        await load.end()
        assert load.cut_off == 0
        assert program.workers == workers
        await wait_recorder(program, other_than=0)
        lost = await until_balanced(asking, load.asked + len(BODIES) * CALLERS * ROUNDS, within=120)
        assert set(lost) <= {"recorder_ended", "journal_full"}
        held |= {pid: most_held(pid) for pid in program.recorders}
        assert await program.stop() == 0
        assert {line["status"] for line in program.told("recorder_ended")} <= {memory.TOO_LARGE}
        (stopped,) = program.told("stopped")
        assert stopped["requests"] == stopped["written"] + stopped["lost"]
    return list(held.values())


@pytest.mark.timing
async def test_hostile_answers_leave_the_recorder_within_its_bound_and_callers_served(tmp_path: Path) -> None:
    for held in await serve_hostile_answers(tmp_path):
        assert held < memory.bound(MEMORY) + (64 << 20)  # what it can take between two looks


@pytest.mark.timing
async def test_hostile_answers_in_a_container_end_the_recorder_at_most(tmp_path: Path) -> None:
    """The kernel ends no process for want of memory: it would end all of the container."""
    with limited(LIMIT) as group:
        await serve_hostile_answers(tmp_path, group.enter)
        assert group.kills == 0
