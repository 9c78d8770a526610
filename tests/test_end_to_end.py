"""The real program on real sockets: what its callers, its operator and the readers of its log see."""

import asyncio
import contextlib
import json
import re
import signal
import socket
import sys
from pathlib import Path
from typing import Any

import pytest
from fakes import Caller, Message, Origin, Peer, Script, answer, refusing_port, silent
from program import Program

from shadowproxy import __version__
from shadowproxy.exchange import Outcome, Verdict

pytestmark = pytest.mark.slow  # each starts a Python

ASKED = (
    b"POST /v1/predict?x=1 HTTP/1.1\r\nHost: api.example\r\nX-Request-ID: r-1\r\nAuthorization: Bearer s3cret\r\n"
    b'Content-Type: application/json\r\nContent-Length: 15\r\n\r\n{"n": 1.10e+01}'
)
JSON = (b"Content-Type", b"application/json")
LIVES = answer(b'{"late": true, "p": 0.75}', JSON, (b"Set-Cookie", b"a=1"), (b"Set-Cookie", b"b=2"))
SHADOWS = answer(b'{"late": false, "p": 0.75}', JSON)


def seen(message: Message) -> tuple[bytes, list[tuple[bytes, bytes]], bytes]:
    """What a caller sees, but for the ID that the proxy adds."""
    return message.start, [field for field in message.fields if field[0] != b"X-Request-ID"], message.body


async def test_the_caller_gets_lives_bytes_and_one_record_has_both_answers(tmp_path: Path) -> None:
    async with Origin(LIVES) as live, Origin(SHADOWS) as shadow:
        values = {"live": {"url": live.url}, "shadows": {"challenger": {"url": shadow.url}}}
        async with Program(tmp_path, values) as program:
            async with await Caller.to(live.address) as directly:
                expected = await directly.ask(ASKED)
            got = await program.ask(ASKED)
            assert seen(got) == seen(expected)
            assert got.all(b"x-request-id") == [b"r-1"]
            assert await program.stop() == 0

        assert shadow.requests[0].all(b"authorization") == []
        assert shadow.requests[0].body == live.requests[1].body == b'{"n": 1.10e+01}'
        (record,) = program.records()
        assert (record.id, record.request.method, record.request.path) == ("r-1", "POST", "/v1/predict")
        assert (record.live.outcome, record.live.status) == (Outcome.OK, 200)
        told = record.shadows["challenger"]
        assert (told.outcome, told.status) == (Outcome.OK, 200)
        assert told.judgement is not None
        assert told.judgement.verdict == Verdict.MISMATCH
        assert [difference.path for difference in told.judgement.differences] == ["/late"]
        (segment,) = program.log.glob("[!.]*")
        assert b"s3cret" not in segment.read_bytes()
        assert b'"n":1.10e+01' in segment.read_bytes().replace(b" ", b"")  # digit for digit


async def test_it_says_where_it_listens_and_nothing_on_standard_output(tmp_path: Path) -> None:
    async with Origin() as live, Program(tmp_path, {"live": {"url": live.url}}) as program:
        assert await program.stop() == 0
        assert program._process.stdout is not None
        assert await program._process.stdout.read() == b""
    host, port = program.address
    told = next(line for line in program.said if "listening" in line)
    assert f"shadowproxy {__version__} listening on http://{host}:{port}, live {live.url}, shadows none, log " in told


async def hang_up(peer: Peer) -> None:
    await peer.request()
    peer.reset()


@pytest.mark.parametrize(
    ("does", "outcome", "status"),
    [
        ("is stopped", Outcome.CONNECT_ERROR, None),
        ("hangs", Outcome.TIMEOUT, None),
        ("resets", Outcome.INCOMPLETE, None),
        ("answers 500", Outcome.OK, 500),
    ],
)
async def test_whatever_the_shadow_does_the_caller_sees_no_difference_and_the_record_says_it(
    tmp_path: Path, does: str, outcome: Outcome, status: int | None
) -> None:
    scripts: dict[str, Script] = {"hangs": silent, "resets": hang_up}
    async with contextlib.AsyncExitStack() as stack:
        live = await stack.enter_async_context(Origin(LIVES))
        if does == "is stopped":
            url = f"http://127.0.0.1:{stack.enter_context(refusing_port())}"
        else:
            url = (await stack.enter_async_context(Origin(scripts.get(does, answer(b"no", status=500))))).url
        shadows = {"challenger": {"url": url, "timeout": "300ms"}}
        program = await stack.enter_async_context(Program(tmp_path, {"live": {"url": live.url}, "shadows": shadows}))
        async with await Caller.to(live.address) as directly, await program.caller() as caller:
            for _ in range(3):
                assert seen(await caller.ask(ASKED)) == seen(await directly.ask(ASKED))
        assert await program.stop() == 0
        told = [record.shadows["challenger"] for record in program.records()]
        assert [(each.outcome, each.status) for each in told] == [(outcome, status)] * 3


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
async def test_stopping_answers_and_logs_every_request_under_way(tmp_path: Path, number: signal.Signals) -> None:
    """Those that live is answering, one half of whose body has come, and those that a shadow is still at."""
    gate = asyncio.Event()

    async def gated(peer: Peer) -> None:
        while (request := await peer.request()) is not None:
            await gate.wait()
            await peer.send(answer(b"%d" % len(request.body)))

    async with Origin(gated) as live, Origin(gated) as shadow:
        values = {"live": {"url": live.url}, "shadows": {"s": {"url": shadow.url}}, "drain": "10s"}
        async with Program(tmp_path, values) as program, contextlib.AsyncExitStack() as stack:
            callers = [await stack.enter_async_context(await program.caller()) for _ in range(20)]
            for index, caller in enumerate(callers):
                await caller.send(ASKED[:-5] if index == 0 else ASKED)
            await live.connection(18)
            idle = await stack.enter_async_context(await program.caller())
            program.signal(number)
            await idle.wait_ended()  # it has heard
            with pytest.raises(ConnectionRefusedError):
                await program.caller()
            await callers[0].send(ASKED[-5:])
            gate.set()
            replies = [await caller.answer(b"POST") for caller in callers]
            assert {(reply.status, reply.body) for reply in replies} == {(200, b"15")}
            assert {tuple(reply.all(b"connection")) for reply in replies} == {(b"close",)}
            assert await program.ended() == 0
        records = program.records()
        assert len(records) == len({record.record for record in records}) == 20
        assert {record.live.outcome for record in records} == {Outcome.OK}
        assert {record.shadows["s"].outcome for record in records} == {Outcome.OK}


async def starting(tmp_path: Path, **values: Any) -> asyncio.subprocess.Process:
    (tmp_path / "config.yaml").write_text(json.dumps({"log": {"path": str(tmp_path / "log")}, **values}))
    return await asyncio.create_subprocess_exec(
        sys.executable, "-m", "shadowproxy", "serve", "-c", str(tmp_path / "config.yaml"),
        stdin=asyncio.subprocess.DEVNULL, stderr=asyncio.subprocess.PIPE,
    )  # fmt: skip


@pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="needs to see which signals are held back")
@pytest.mark.parametrize("workers", [1, 2])
async def test_sighup_while_it_starts_is_a_reload_once_it_has(tmp_path: Path, workers: int) -> None:
    async with Origin(answer()) as live:
        process = await starting(tmp_path, listen="127.0.0.1:0", admin=None, workers=workers, live={"url": live.url})

        def held_back() -> bool:
            return "SigBlk:\t0000000000000201" in Path(f"/proc/{process.pid}/status").read_text()

        async with asyncio.timeout(20):
            while not held_back():  # noqa: ASYNC110  # nothing tells of it
                await asyncio.sleep(0.001)
            process.send_signal(signal.SIGHUP)
            assert process.stderr is not None
            events = []
            while "reloaded" not in events:
                events.append(json.loads(await process.stderr.readline())["event"])
            process.terminate()
            await process.communicate()
    assert process.returncode == 0


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
async def test_who_is_let_in_while_it_starts_is_answered_though_it_is_told_to_stop(
    tmp_path: Path, number: signal.Signals
) -> None:
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    asked, told = asyncio.Event(), asyncio.Event()

    async def waits(peer: Peer) -> None:
        await peer.request()
        asked.set()
        await told.wait()
        await peer.send(answer(b"late"))

    async with Origin(waits) as live:
        process = await starting(tmp_path, listen=f"127.0.0.1:{port}", admin="127.0.0.1:0", live={"url": live.url})
        async with asyncio.timeout(20):
            caller = None
            while caller is None:
                with contextlib.suppress(OSError):
                    caller = await Caller.to(("127.0.0.1", port))
                await asyncio.sleep(0.001)
            async with caller:
                asking = asyncio.get_running_loop().create_task(caller.ask(b"GET / HTTP/1.1\r\nHost: h\r\n\r\n"))
                await asked.wait()
                process.send_signal(number)
                await asyncio.sleep(0.1)  # for the signal to have its effect, whatever that is
                told.set()
                assert (await asking).body == b"late"
            _, said = await process.communicate()
    assert process.returncode == 0, said
    assert json.loads(said.splitlines()[-1])["requests"] == 1


async def test_stopping_waits_no_longer_than_drain_and_says_what_was_cut_off(tmp_path: Path) -> None:
    async with Origin() as live, Origin(silent) as hung:
        values = {"live": {"url": live.url}, "shadows": {"s": {"url": hung.url}}, "drain": "300ms"}
        async with Program(tmp_path, values) as program:
            for _ in range(3):
                assert (await program.ask(ASKED)).status == 200
            async with asyncio.timeout(5):
                assert await program.stop() == 0
        assert [record.shadows["s"].outcome for record in program.records()] == [Outcome.SHUTDOWN] * 3


async def test_stopping_waits_no_longer_than_drain_for_live_either(tmp_path: Path) -> None:
    async with Origin(silent) as live:
        values = {"live": {"url": live.url}, "shadows": {}, "drain": "300ms"}
        async with Program(tmp_path, values) as program, await program.caller() as caller:
            await caller.send(ASKED)
            await (await live.connection()).wait_received(1)
            async with asyncio.timeout(5):
                assert await program.stop() == 0
            await caller.wait_ended()
            assert caller.received == b""
        assert [record.live.outcome for record in program.records()] == [Outcome.SHUTDOWN]


async def test_a_second_signal_hurries(tmp_path: Path) -> None:
    async with Origin() as live, Origin(silent) as hung:
        values = {"live": {"url": live.url}, "shadows": {"s": {"url": hung.url}}, "drain": "1h"}
        async with Program(tmp_path, values) as program:
            assert (await program.ask(ASKED)).status == 200
            program.signal(signal.SIGTERM)
            async with asyncio.timeout(5):
                while not any("stopping" in line for line in program.said):  # noqa: ASYNC110
                    await asyncio.sleep(0.01)
                assert await program.stop() == 0
        assert [record.shadows["s"].outcome for record in program.records()] == [Outcome.SHUTDOWN]


async def test_the_log_may_be_standard_output(tmp_path: Path) -> None:
    async with Origin(LIVES) as live:
        async with Program(tmp_path, {"live": {"url": live.url}, "log": {"path": "-"}}) as program:
            await program.ask(ASKED)
            assert await program.stop() == 0
            assert program._process.stdout is not None
            (line,) = (await program._process.stdout.read()).splitlines()
        assert json.loads(line)["id"] == "r-1"
        assert not program.log.exists()


async def test_nobody_else_may_read_the_log(tmp_path: Path) -> None:
    async with Origin() as live, Program(tmp_path, {"live": {"url": live.url}}) as program:
        await program.ask(ASKED)
        assert await program.stop() == 0
        (segment,) = program.log.glob("[!.]*")
        assert program.log.stat().st_mode & 0o777 == 0o700
        assert segment.stat().st_mode & 0o777 == 0o600


async def test_live_may_be_nothing_at_all_and_shadows_still_get_every_request(tmp_path: Path) -> None:
    values = {"live": {"respond": {"json": {"late": False}}}}
    async with Origin(SHADOWS) as shadow:
        async with Program(tmp_path, values | {"shadows": {"s": {"url": shadow.url}}}) as program:
            async with await program.caller() as caller:
                for method in (b"GET", b"HEAD", b"GET"):  # over one connection: none of them breaks it off
                    reply = await caller.ask(method + b" / HTTP/1.1\r\nHost: h\r\n\r\n")
                    assert reply.body == (b"" if method == b"HEAD" else b'{"late":false}')
            assert await program.stop() == 0
        assert sorted(request.method for request in shadow.requests) == [b"GET", b"GET", b"HEAD"]
        assert {record.live.outcome for record in program.records()} == {Outcome.OK}


async def test_a_unix_socket_serves_and_is_taken_away_at_the_end(tmp_path: Path) -> None:
    path = tmp_path / "s"
    with socket.socket(socket.AF_UNIX) as left_behind:
        left_behind.bind(str(path))  # by one that was killed
    async with Origin(LIVES) as live:
        process = await asyncio.create_subprocess_exec(
            sys.executable, "-m", "shadowproxy", "serve", "--live", live.url, "--listen", f"unix:{path}",
            "--log", str(tmp_path / "log"), "--admin", "off", stderr=asyncio.subprocess.PIPE,
        )  # fmt: skip
        try:
            assert process.stderr is not None
            async with asyncio.timeout(20):
                while not re.search(rb"listening on unix:", await process.stderr.readline()):
                    pass
            _, peer = await asyncio.get_running_loop().create_unix_connection(Caller, str(path))
            async with peer:
                assert seen(await peer.ask(ASKED))[2] == b'{"late": true, "p": 0.75}'
            process.terminate()
            assert await asyncio.wait_for(process.wait(), 20) == 0
        finally:
            with contextlib.suppress(ProcessLookupError):
                process.kill()
            await process.communicate()
    assert not path.exists()
