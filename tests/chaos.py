"""The promises under traffic, measured: `make chaos` runs this for some minutes and prints a table.

The program is a process of its own, and so is the shadow, at the lowest priority: on a real site it has a machine to
itself, and what it costs there is not the proxy's doing. Live and its callers are in this process. Every answer is
compared with live's bytes; latency is what a caller waits. Ratios are to the run of the same program whose shadow is
well; memory is the most the proxy held, beside that of one with no shadow at all.
"""

import asyncio
import contextlib
import os
import random
import re
import signal
import statistics
import subprocess
import sys
import time
from collections import Counter
from collections.abc import AsyncIterator, Callable, Coroutine, Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest
from fakes import CutOff, Origin, Peer, refusing_port
from program import Program
from test_promises import FAULTS, LIVES, asked

from shadowproxy.exchange import Outcome
from shadowproxy.record import Record

pytestmark = pytest.mark.soak

SECONDS = 4.0
CALLERS = 8
PAUSE = 0.004
"""Seconds between an answer and the next request: with CALLERS some 1,000 requests a second, a third of what it can."""

BUSY = 100.0
"""Milliseconds. A p99 below it, or a median below a twentieth of it, may be what other work on the machine does."""

LIMITS = {"memory": "32MiB", "capture": "1MiB", "buffer": "64KiB"}
MEMORY = 32 << 20
BESIDE = 96 << 20
"""Bytes over `limits.memory` that 64 connections' reads, a copy being joined and the allocator's gaps may take."""


@dataclass
class Run:
    """One run of traffic. Milliseconds and bytes."""

    name: str
    answered: int
    wrong: int
    median: float
    p99: float
    rss: int
    outcomes: Counter[Outcome]

    def row(self, beside: "Run") -> str:
        outcomes = ", ".join(f"{outcome} {count}" for outcome, count in self.outcomes.most_common(3))
        return (
            f"{self.name:<32}{self.answered:>9}{self.wrong:>7}{self.median:>8.2f}{self.p99:>8.2f}"
            f"{self.median / beside.median:>7.2f}{self.p99 / beside.p99:>7.2f}{self.rss / 1e6:>7.0f}   {outcomes}"
        )


HEAD = f"{'the shadow':<32}  answers  wrong  p50 ms  p99 ms  ratio  ratio     MB   outcomes"


async def measure(program: Program, seconds: float = SECONDS) -> tuple[list[float], int, int]:
    """Latencies in milliseconds, how many answers were not live's to the byte, and the most memory it held."""
    until = time.monotonic() + seconds
    latencies: list[float] = []
    wrong = most = 0

    async def ask(caller_number: int) -> None:
        nonlocal wrong
        async with await program.caller() as caller:
            number = 0
            while time.monotonic() < until:
                number += 1
                name = f"{caller_number}-{number}"
                began = time.perf_counter()
                reply = await caller.ask(asked(name))
                latencies.append((time.perf_counter() - began) * 1000)
                wrong += reply.raw != LIVES.replace(b"\r\n\r\n", b"\r\nX-Request-ID: %s\r\n\r\n" % name.encode(), 1)
                await asyncio.sleep(PAUSE)

    async def watch() -> None:
        nonlocal most
        while time.monotonic() < until:
            most = max(most, program.rss)
            await asyncio.sleep(0.05)

    await asyncio.gather(watch(), *(ask(number) for number in range(CALLERS)))
    return latencies, wrong, most


def told(records: list[Record]) -> Counter[Outcome]:
    return Counter(leg.outcome for each in records for leg in each.shadows.values())


def lost(program: Program) -> int:
    """How many records the operator was told are lost: at the 1st, 2nd, 4th, so there may be up to twice as many."""
    told = [re.search(r"the log lost (\d+) records so far \((\w+)\)", line) for line in program.said]
    return sum({match[2]: int(match[1]) for match in told if match}.values())


@contextlib.asynccontextmanager
async def elsewhere(fault: str) -> AsyncIterator[str]:
    """A shadow with that fault, in a process of its own; its URL."""
    if fault == "refuses":
        with refusing_port() as port:
            yield f"http://127.0.0.1:{port}"
        return
    process = await asyncio.create_subprocess_exec(
        sys.executable, __file__, fault, stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.DEVNULL
    )
    assert process.stdout is not None
    try:
        yield (await process.stdout.readline()).decode().strip()
    finally:
        process.kill()
        await process.wait()


async def serve(fault: str) -> None:
    """What that process does until it is killed."""
    os.nice(19)
    async with Origin(FAULTS[fault][0]) as origin:
        print(origin.url, flush=True)
        await asyncio.Event().wait()


async def run(directory: Path, name: str, fault: str | None) -> Run:
    """SECONDS of traffic beside a shadow with that fault; and the books of its log."""
    async with contextlib.AsyncExitStack() as stack:
        live = await stack.enter_async_context(Origin(LIVES))
        shadows = {}
        if fault is not None:
            url = await stack.enter_async_context(elsewhere(fault))
            shadows = {"s": {"url": url, "timeout": "1s", "breaker": {"pause": "500ms"}}}
        values = {
            "live": {"url": live.url},
            "shadows": shadows,
            "limits": LIMITS,
            "overload": {"loop_lag": "50ms"},
            "drain": "3s",
            "log": {"path": str(directory / "log"), "body_limit": "4KiB"},
        }
        program = await stack.enter_async_context(Program(directory, values))
        await measure(program, 0.5)  # what is loaded late is loaded by now
        latencies, wrong, most = await measure(program)
        assert await program.stop() == 0
        records = program.records()
    assert len(records) == len({each.record for each in records})
    assert 0 <= len(live.requests) - len(records) - lost(program) <= lost(program)
    assert fault is None or told(records).total() == len(records)
    p99 = statistics.quantiles(latencies, n=100)[98]
    return Run(name, len(latencies), wrong, statistics.median(latencies), p99, most, told(records))


async def test_2_5_live_is_as_it_was_whatever_the_shadow_does(
    tmp_path_factory: pytest.TempPathFactory, capsys: pytest.CaptureFixture[str]
) -> None:
    def directory() -> Path:
        return tmp_path_factory.mktemp("run")

    without = await run(directory(), "none", None)
    well = await run(directory(), "answers", "answers")
    ill: list[Run] = []
    with capsys.disabled():
        print("", HEAD, without.row(well), well.row(well), sep="\n")
        for fault in ("refuses", *(fault for fault in FAULTS if fault != "answers")):
            ill.append(await run(directory(), fault, fault))
            print(ill[-1].row(well), flush=True)
    runs = [without, well, *ill]
    for each in runs:
        assert each.wrong == 0, each
        assert each.rss < without.rss + MEMORY + BESIDE, each
    for each in ill:
        assert each.median < max(2 * well.median, BUSY / 20), each
        assert each.p99 < max(4 * well.p99, BUSY), each


# The disk.


@contextlib.contextmanager
def small_disk(path: Path, size: str) -> Iterator[None]:
    path.mkdir()
    made = subprocess.run(["mount", "-t", "tmpfs", "-o", f"size={size}", "tmpfs", str(path)], capture_output=True)
    if made.returncode:
        pytest.skip("only root may make a small disk")
    try:
        yield
    finally:
        subprocess.run(["umount", "-l", str(path)], check=True)


def remount(path: Path, options: str) -> None:
    subprocess.run(["mount", "-o", f"remount,{options}", str(path)], check=True)


async def beside_a_disk(
    tmp_path: Path, name: str, meanwhile: Callable[[Program], Coroutine[None, None, None]]
) -> tuple[Run, Program]:
    async with Origin(LIVES) as live, elsewhere("answers") as shadow, contextlib.AsyncExitStack() as stack:
        log = tmp_path / "disk" / "log"
        values = {
            "live": {"url": live.url},
            "shadows": {"s": {"url": shadow}},
            "limits": LIMITS,
            "overload": {"loop_lag": "50ms"},
            "log": {"path": str(log), "rotate": {"size": "256KiB"}, "compress": "none"},
        }
        program = await stack.enter_async_context(Program(tmp_path, values))
        program.log = log
        doing = asyncio.create_task(meanwhile(program))
        latencies, wrong, most = await measure(program)
        await doing
        assert await program.stop() == 0
        p99 = statistics.quantiles(latencies, n=100)[98]
        records, _ = program.read()
        return Run(name, len(latencies), wrong, statistics.median(latencies), p99, most, told(records)), program


async def fill(program: Program) -> None:
    """Fill the disk up beside the log, and after two seconds make room again."""
    rubbish = program.log.parent / "rubbish"
    await asyncio.sleep(0.5)
    with contextlib.suppress(OSError):
        rubbish.write_bytes(bytes(64 << 20))
    await asyncio.sleep(2)
    rubbish.unlink()


async def forbid(program: Program) -> None:
    await asyncio.sleep(0.5)
    # The open segment would keep the disk from becoming read-only; a log directory that cannot be entered will do.
    for segment in program.log.iterdir():
        segment.unlink()
    program.log.rmdir()
    program.log.write_text("no directory")
    await asyncio.sleep(2)
    program.log.unlink()


async def take_away(program: Program) -> None:
    await asyncio.sleep(0.5)
    for segment in program.log.iterdir():
        segment.unlink()
    program.log.rmdir()


async def nothing(program: Program) -> None:
    pass


async def test_2_3_live_is_as_it_was_whatever_the_disk_does(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    rows: list[tuple[Run, int, int]] = []
    for name, meanwhile in {"well": nothing, "full": fill, "forbidden": forbid, "taken away": take_away}.items():
        directory = tmp_path / name
        directory.mkdir()
        with small_disk(directory / "disk", "12m"):
            ran, program = await beside_a_disk(directory, name, meanwhile)
            records, torn = program.read()
        said = [line for line in program.said if "the log lost" in line]
        rows.append((ran, len(records), lost(program)))
        assert ran.wrong == 0
        assert len(torn) <= 1, torn
        if name == "full":
            assert said
            assert records[-1].at > records[len(records) // 2].at  # it went on
    with capsys.disabled():
        print("", HEAD.replace("the shadow", "the disk  "), sep="\n")
        for ran, logged, missed in rows:
            print(f"{ran.row(rows[0][0])}; {logged} records, {missed} or more lost")
    for ran, _, _ in rows:
        assert ran.median < max(2 * rows[0][0].median, BUSY / 20), ran
        assert ran.p99 < max(4 * rows[0][0].p99, BUSY), ran


# Callers who leave.


async def test_3_500_callers_abort_at_random_and_the_others_notice_nothing(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    chance = random.Random(seed := random.randrange(2**32))
    print(f"seed {seed}")

    async def slowly(peer: Peer) -> None:
        while await peer.request() is not None:
            await asyncio.sleep(0.002)
            await peer.send(LIVES)

    async with Origin(slowly) as live, elsewhere("answers") as shadow:
        values = {"live": {"url": live.url}, "shadows": {"s": {"url": shadow}}, "limits": LIMITS}
        async with Program(tmp_path, values) as program:

            async def ask_and_leave(number: int) -> None:
                for turn in range(4):
                    await asyncio.sleep(chance.random() * 0.8)
                    with contextlib.suppress(TimeoutError, ConnectionError, CutOff):
                        async with await program.caller() as caller, asyncio.timeout(chance.random() * 0.01):
                            raw = asked(f"left-{number}-{turn}")
                            await caller.send(raw if chance.random() < 0.8 else raw[: chance.randrange(len(raw))])
                            await caller.answer()

            await measure(program, 0.5)
            files = len(os.listdir(f"/proc/{program.pid}/fd"))
            before, _, _ = await measure(program)
            leaving = [asyncio.create_task(ask_and_leave(number)) for number in range(500)]
            latencies, wrong, _ = await measure(program)
            await asyncio.gather(*leaving)
            await asyncio.sleep(5)  # the pools let go of what is idle after four
            left_open = len(os.listdir(f"/proc/{program.pid}/fd")) - files
            assert await program.stop() == 0
            records = program.records()
    assert wrong == 0
    assert left_open <= 0
    outcomes = Counter(each.live.outcome for each in records)
    assert set(outcomes) <= {Outcome.OK, Outcome.CALLER_LEFT}
    assert told(records).total() == sum(each.request.body.size == 4 for each in records)
    with capsys.disabled():
        counted = ", ".join(f"{outcome} {count}" for outcome, count in outcomes.items())
        medians = f"{statistics.median(before):.2f} ms before, {statistics.median(latencies):.2f} ms meanwhile"
        print(f"\n500 callers who leave, beside {CALLERS} who stay: {counted}; median of those {medians}")


# Crashes, and who reads along.


async def test_6_twenty_times_kill_9_tears_at_most_a_line_each(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    chance = random.Random(seed := random.randrange(2**32))
    print(f"seed {seed}")
    async with Origin(LIVES) as live, elsewhere("answers") as shadow:
        values = {
            "live": {"url": live.url},
            "shadows": {"s": {"url": shadow}},
            "log": {"path": str(tmp_path / "log"), "rotate": {"size": "128KiB"}, "compress": "zstd"},
        }
        logged = answered = 0
        for life in range(1, 21):
            async with Program(tmp_path, values) as program:
                counts = [asyncio.create_task(until_cut_off(program)) for _ in range(CALLERS)]
                await asyncio.sleep(0.1 + chance.random() * 0.4)
                program.signal(signal.SIGKILL)
                assert await program.ended() == -signal.SIGKILL
                answered += sum(await asyncio.gather(*counts))
            records, torn = program.read()
            # Compressing is cut off too: a segment may be there twice, plain and compressed, with the same lines.
            distinct = {each.record for each in records}
            assert len(distinct) >= logged
            assert len(torn) <= life
            logged = len(distinct)
    assert logged > answered / 2
    with capsys.disabled():
        print(f"\n20 times kill -9: {answered} answers, {len(distinct)} records, {len(torn)} torn lines")
    assert len(distinct) <= answered + 20 * CALLERS


async def until_cut_off(program: Program) -> int:
    count = 0
    with contextlib.suppress(ConnectionError, CutOff):
        async with await program.caller() as caller:
            while True:
                await caller.ask(asked(count))
                count += 1
    return count


RSYSLOG = """
module(load="imfile" mode="inotify")
global(workDirectory="{work}" maxMessageSize="64k")
input(type="imfile" file="{log}/*.jsonl" tag="t" ruleset="out" reopenOnTruncate="off")
template(name="raw" type="string" string="%msg%\\n")
ruleset(name="out") {{ action(type="omfile" file="{out}" template="raw") }}
"""


async def test_3_a_log_shipper_delivers_every_record_once_under_rotation_and_compression(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    shipper = "/usr/sbin/rsyslogd"
    if not os.access(shipper, os.X_OK):
        pytest.skip("rsyslogd is not installed")
    log, out, work = tmp_path / "log", tmp_path / "shipped", tmp_path / "work"
    log.mkdir()
    work.mkdir()
    (tmp_path / "rsyslog.conf").write_text(RSYSLOG.format(log=log, out=out, work=work))
    shipping = await asyncio.create_subprocess_exec(
        shipper,
        "-n",
        "-f",
        str(tmp_path / "rsyslog.conf"),
        "-i",
        str(tmp_path / "pid"),
        stderr=asyncio.subprocess.DEVNULL,
    )
    try:
        async with Origin(LIVES) as live, elsewhere("answers") as shadow:
            values = {
                "live": {"url": live.url},
                "shadows": {"s": {"url": shadow}},
                "log": {"path": str(log), "rotate": {"size": "256KiB"}, "compress": "zstd"},
            }
            async with Program(tmp_path, values) as program:
                latencies, _, _ = await measure(program, 10)
                assert await program.stop() == 0
            records = program.records()
        async with asyncio.timeout(20):
            while not out.exists() or out.read_bytes().count(b"\n") < len(records):  # noqa: ASYNC110
                await asyncio.sleep(0.2)
        await asyncio.sleep(1)  # for what might come twice
    finally:
        shipping.terminate()
        await shipping.wait()
    shipped = Counter(line.split(b'"record":"')[1].split(b'"')[0].decode() for line in out.read_bytes().splitlines())
    segments = len(list(log.iterdir()))
    with capsys.disabled():
        print(f"\nrsyslogd: {len(records)} records in {segments} segments, {shipped.total()} lines shipped")
    assert len(records) == len(latencies)
    assert shipped == Counter(each.record for each in records)
    assert segments > 5
    assert any(path.suffix == ".zst" for path in log.iterdir())


if __name__ == "__main__":
    asyncio.run(serve(sys.argv[1]))
