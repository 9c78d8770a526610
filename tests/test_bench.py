"""bench/ tells the truth: its open loop against known delays, its figures against known rounds."""

import asyncio
import contextlib
import json
import os
import select
import shutil
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Awaitable, Callable, Iterator
from pathlib import Path
from typing import Any, cast

import pytest
from fakes import Origin
from fakes import answer as answer_of

from bench import background, closed_loop, interpreter, numbered, on_httpx, open_loop, streams
from bench.__main__ import take
from bench.builds import describe_python, find_build, find_other
from bench.connections import connect
from bench.contenders import ANSWER_BYTES, answer
from bench.events import EVENT, event
from bench.figures import Bound, Row, as_json, markdown, ratios
from bench.interpreter import profile_guided
from bench.measures.disturbed import asks_until_judged, write_embeddings
from bench.measures.report import shorten
from bench.measures.streaming import cost
from bench.processes import BenchError, Running, free_port, running
from bench.rig import MIRRORED, REQUEST_BYTES, TRIES, Bench, fully_mirrored, get, in_turn, predict_body, verdicts_of
from shadowproxy.serve.upstreams.endpoint import Endpoint

REQUEST = b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 2\r\n\r\nhi"
ANSWER = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok"


@contextlib.contextmanager
def server(
    delay: Callable[[int], Awaitable[None] | None], *said: bytes, until: bytes = REQUEST, closes: bool = False
) -> Iterator[int]:
    """An origin in a thread of its own; `delay` is called with the request's number before each piece of an answer.

    A request ends with `until`. The origin may close the connection after an answer. At its end it ends those that its
    clients have not: that a client has closed one is no sign that the origin has read so.
    """
    ready: list[int] = []
    started = threading.Event()
    stop = asyncio.Event()
    loop = asyncio.new_event_loop()
    count = 0
    serving: dict[asyncio.Task[Any], asyncio.StreamWriter] = {}

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        nonlocal count
        task = asyncio.current_task()
        assert task is not None
        serving[task] = writer
        with contextlib.suppress(asyncio.IncompleteReadError, ConnectionError):
            while await reader.readuntil(until):
                count += 1
                for piece in said or (ANSWER,):
                    if (waiting := delay(count)) is not None:
                        await waiting
                    writer.write(piece)
                if closes:
                    break
        writer.close()
        with contextlib.suppress(ConnectionError):
            await writer.wait_closed()

    async def run() -> None:
        async with await asyncio.start_server(serve, "127.0.0.1", 0) as listening:
            ready.append(listening.sockets[0].getsockname()[1])
            started.set()
            await stop.wait()
            listening.close()
            for writer in serving.values():
                writer.transport.abort()
            await asyncio.gather(*serving)

    thread = threading.Thread(target=loop.run_until_complete, args=(run(),))
    thread.start()
    started.wait(5)
    try:
        yield ready[0]
    finally:
        loop.call_soon_threadsafe(stop.set)
        thread.join(5)
        left = asyncio.all_tasks(loop)
        loop.close()
        assert not left, "it has left connections open"


def test_the_origin_ends_the_connections_that_its_clients_have_not() -> None:
    with contextlib.ExitStack() as stack:
        with server(lambda _: None) as port:
            client = stack.enter_context(socket.create_connection(("127.0.0.1", port), timeout=5))
            client.sendall(REQUEST)
            assert client.recv(len(ANSWER), socket.MSG_WAITALL) == ANSWER
        assert client.recv(1) == b""


@pytest.mark.timing
@pytest.mark.slow
def test_the_open_loop_measures_a_known_delay() -> None:
    with server(lambda _: asyncio.sleep(0.05)) as port:
        timings = open_loop.steady(port, REQUEST, rate=100, seconds=0.5)
    assert len(timings.latency) == 50
    assert 50 <= timings.latency[0] <= timings.quantile(0.5) < 65


@pytest.mark.timing
@pytest.mark.slow
def test_a_stall_counts_for_every_request_that_was_due_in_it() -> None:
    def stall_once(number: int) -> None:
        if number == 20:
            time.sleep(0.3)  # the whole server, as a garbage collection or a blocked event loop would

    with server(stall_once) as port:
        timings = open_loop.steady(port, REQUEST, rate=200, seconds=1)
    # 60 were due in these 300 ms, and waited 150 ms on average; a closed loop would have seen one slow answer.
    assert 35 <= sum(1 for each in timings.latency if each > 100) <= 55
    assert timings.quantile(0.5) < 20


@pytest.mark.slow
def test_the_open_loop_refuses_to_time_anything_but_success() -> None:
    with server(lambda _: None, b"HTTP/1.1 503 No\r\nContent-Length: 0\r\n\r\n") as port, pytest.raises(BenchError):
        open_loop.steady(port, REQUEST, rate=100, seconds=0.1)


@pytest.mark.timing
@pytest.mark.slow
def test_a_first_chunk_counts_when_it_comes_and_not_at_the_end() -> None:
    head = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n"
    with server(lambda _: asyncio.sleep(0.03), head + b"2\r\nok\r\n", b"0\r\n\r\n") as port:
        (waited,) = streams.first_chunks(port, REQUEST, count=1)
    assert 30 <= waited < 60


@pytest.mark.timing
@pytest.mark.slow
def test_cpu_is_the_kernels_account_of_a_process() -> None:
    own = Running("this", os.getpid(), 0)
    before, began = own.cpu_seconds(), time.process_time()
    while time.process_time() - began < 0.2:
        pass
    assert 0.18 <= own.cpu_seconds() - before <= 0.4


SPEND = "import time\nwhile time.process_time() < 0.3: pass\n"


@contextlib.contextmanager
def child(code: str) -> Iterator[Running]:
    """A Python that runs `code`, once it has written a line."""
    process = subprocess.Popen([sys.executable, "-c", code], stdin=subprocess.PIPE, stdout=subprocess.PIPE)
    assert process.stdin is not None
    assert process.stdout is not None
    with process:
        assert process.stdout.readline() == b"ready\n"
        yield Running("child", process.pid, 0)
        process.stdin.close()


@pytest.mark.timing
@pytest.mark.slow
@pytest.mark.parametrize("ends", [True, False], ids=["a child that has ended", "a child that lives"])
def test_cpu_counts_all_processes_of_the_tree(ends: bool) -> None:
    wait = "child.wait()" if ends else "child.stdout.readline()"
    inner = SPEND + "print('spent', flush=True)" + ("" if ends else "\nimport sys; sys.stdin.read()")
    code = (
        "import subprocess, sys\n"
        f"child = subprocess.Popen([sys.executable, '-c', {inner!r}], stdin=subprocess.PIPE, stdout=subprocess.PIPE)\n"
        f"{wait}\nprint('ready', flush=True)\nsys.stdin.read()"
    )
    with child(code) as proxy:
        assert 0.28 <= proxy.cpu_seconds() <= 0.8


@pytest.mark.timing
@pytest.mark.slow
def test_memory_is_that_of_all_processes_and_counts_a_shared_page_once() -> None:
    code = (
        "import os, sys\n"
        "mine = bytearray(b'x') * 30_000_000\n"
        "if os.fork() == 0:\n"
        "    own = bytearray(b'y') * 20_000_000\n"
        "    print('ready', flush=True)\n"
        "sys.stdin.read()\n"
    )
    with child(code) as proxy:
        assert 50e6 <= proxy.memory_bytes() <= 50e6 + 25e6  # its own Python; 80e6 if the first were counted twice


@pytest.mark.slow
def test_a_program_knows_its_admin_port(tmp_path: Path) -> None:
    port = free_port()
    command = [sys.executable, "-m", "http.server", str(port), "--bind", "127.0.0.1"]
    with running("server", command, port, log=tmp_path / "log", admin=port) as started:
        assert b"Directory listing" in get(started.admin, "/tests/")


@pytest.mark.timing
@pytest.mark.slow
@pytest.mark.skipif(shutil.which("wrk") is None, reason="wrk is not installed")
def test_the_closed_loop_gives_requests_and_their_p99() -> None:
    # REQUEST's length is not wrk's, so this origin reads whole heads.
    with server(lambda number: asyncio.sleep(0.04 if number % 20 == 0 else 0), ANSWER, until=b"\r\n\r\n") as port:
        load = closed_loop.burst(Running("this", os.getpid(), port), callers=1, seconds=1)
    assert 40 <= load.p99_ms < 80  # one in twenty takes 40 ms
    assert load.rate > 100


def event_stream(count: int) -> list[bytes]:
    head = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n"
    said = event("late")
    return [head, *[b"%x\r\n%b\r\n" % (len(said), said)] * count, b"0\r\n\r\n"]


def test_an_event_is_counted_once() -> None:
    assert event("late").count(EVENT) == 1


@pytest.mark.slow
def test_all_events_of_all_streams_are_counted() -> None:
    with server(lambda _: asyncio.sleep(0.001), *event_stream(5)) as port:
        assert streams.events(port, REQUEST, streams=8, apart=0) == 40


@pytest.mark.parametrize(
    "pieces",
    [[b"HTTP/1.1 503 No\r\nContent-Length: 0\r\n\r\n"], event_stream(5)[:-1]],
    ids=["a refusal", "a stream without an end"],
)
def test_a_stream_that_fails_is_not_counted(pieces: list[bytes]) -> None:
    with server(lambda _: None, *pieces, closes=True) as port, pytest.raises(BenchError, match="broke a stream off"):
        streams.events(port, REQUEST, streams=1, apart=0)


@contextlib.contextmanager
def event_server(tmp_path: Path, count: int, seconds: float) -> Iterator[Running]:
    port = free_port()
    command = [sys.executable, "-m", "bench.events", str(port), str(count), str(seconds), "late"]
    with running("events", command, port, log=tmp_path / "log") as started:
        yield started


@pytest.mark.timing
@pytest.mark.slow
def test_the_server_of_events_sends_them_apart_and_counts_whole_streams(tmp_path: Path) -> None:
    with event_server(tmp_path, 5, 0.05) as started:
        began = time.monotonic()
        assert streams.events(started.port, REQUEST, streams=3, apart=0) == 15
        assert time.monotonic() - began >= 0.2
        assert get(started.port, "/whole") == b"3"


@pytest.mark.slow
def test_a_stream_that_its_client_leaves_is_not_whole(tmp_path: Path) -> None:
    with event_server(tmp_path, 50, 0.01) as started:
        with connect(started.port).socket as sock:
            sock.sendall(REQUEST)
            sock.recv(100)
        streams.events(started.port, REQUEST, streams=1, apart=0)  # begun later, so the other one is over too
        assert get(started.port, "/whole") == b"1"


@pytest.mark.slow
def test_the_cost_of_an_event_is_refused_if_events_are_missing(tmp_path: Path) -> None:
    with event_server(tmp_path, 2, 0) as started, pytest.raises(BenchError, match="passed 128 of 9600 events"):
        cost(started, started)


@pytest.mark.slow
def test_clients_in_the_background_ask_for_every_path_at_their_pace() -> None:
    asked: list[int] = []
    with server(lambda number: asked.append(number), ANSWER, until=b"\r\n\r\n") as port:
        with background.asking(port, ["/a", "/b"], clients=3, every=60) as others:
            assert len(asked) == 6
        assert others.answers == 6


@pytest.mark.slow
def test_clients_in_the_background_that_get_errors_fail_the_measure() -> None:
    no = b"HTTP/1.1 503 No\r\nContent-Length: 0\r\n\r\n"
    with (
        server(lambda _: None, no, until=b"\r\n\r\n") as port,
        pytest.raises(BenchError, match="/a was answered 503"),
        background.asking(port, ["/a"], clients=1, every=0.01),
    ):
        pass


@pytest.mark.slow
def test_numbered_requests_have_answers_of_1_kb_that_all_differ(tmp_path: Path) -> None:
    port = free_port()
    command = [sys.executable, "-m", "bench.numbered", str(port), "v1", "0.01"]
    with running("numbered", command, port, log=tmp_path / "log"):
        numbered.send(port, 50, connections=4)
        connection = connect(port)
        with connection.socket:
            connection.send(numbered.request(7))
            while not connection.whole():
                select.select([connection.socket], [], [], 5)
    assert connection.answer.partition(b"\r\n\r\n")[2] == numbered.answer(7, "v1", 0.01)
    assert {len(numbered.answer(number, "v1", 0.0)) for number in (0, 498, 996)} == {numbered.ANSWER_BYTES}
    assert len({numbered.answer(number, "v1", 0.0) for number in range(2000)}) == 2000
    assert numbered.answer(7, "v1", 0.0) != numbered.answer(7, "v1", 0.01)


@pytest.mark.slow
def test_numbered_requests_are_all_sent_once() -> None:
    seen: list[int] = []
    with server(seen.append, ANSWER, until=b"}]}") as port:
        numbered.send(port, 30, connections=4)
    assert len(seen) == 30


def test_a_log_is_shortened_to_its_first_records(tmp_path: Path) -> None:
    (tmp_path / "b.jsonl").write_text("3\n4\n")
    (tmp_path / "a.jsonl").write_text("1\n2\n")
    shorter = shorten(tmp_path, tmp_path / "short", 3)
    assert [path.read_text() for path in shorter.iterdir()] == ["1\n2\n3\n"]


def test_large_answers_differ_in_every_vector(tmp_path: Path) -> None:
    size = write_embeddings(tmp_path / "live", 0.0)
    write_embeddings(tmp_path / "shadow", 0.001)
    one, other = (json.loads((tmp_path / name).read_text())["data"] for name in ("live", "shadow"))
    assert 3.9e6 <= size == (tmp_path / "live").stat().st_size <= 4.3e6
    assert all(a["embedding"][0] != b["embedding"][0] for a, b in zip(one, other, strict=True))
    assert all(a["embedding"][1:] == b["embedding"][1:] for a, b in zip(one, other, strict=True))


@pytest.mark.parametrize(
    ("counts", "expected"),
    [([{"mismatch": 1}], True), ([{}, {"mismatch": 0}, {"mismatch": 1}], True), ([{}, {"incomparable": 1}], False)],
)
def test_a_program_compares_large_answers_if_its_first_verdict_says_so(
    counts: list[dict[str, int]], expected: bool
) -> None:
    asked: list[None] = []
    told = iter(counts)
    assert asks_until_judged(lambda: asked.append(None), lambda: next(told)) is expected
    assert len(asked) == len(counts)


def test_large_answers_without_any_verdict_end_the_run() -> None:
    with pytest.raises(BenchError, match="got no verdict"):
        asks_until_judged(lambda: None, dict)


def test_a_burst_that_is_not_mirrored_is_measured_again() -> None:
    bursts = iter([(1, 0.5), (2, MIRRORED - 0.01), (3, MIRRORED), (4, 1.0)])
    assert fully_mirrored("proxy", lambda: next(bursts)) == 3


def test_a_proxy_that_never_mirrors_enough_ends_the_run() -> None:
    bursts: list[tuple[int, float]] = [(1, 0.5)] * TRIES
    with pytest.raises(BenchError, match=r"proxy mirrored only 50\.0%"):
        fully_mirrored("proxy", lambda: bursts.pop())
    assert not bursts


def test_contenders_are_measured_in_turn() -> None:
    order: list[str] = []

    def measure(proxy: str) -> float:
        order.append(proxy)
        return float(len(order))

    taken = in_turn(range(2), {"a": "x", "b": "y"}, measure)
    assert order == ["x", "y", "x", "y"]
    assert taken == {"a": [1.0, 3.0], "b": [2.0, 4.0]}


def test_verdicts_are_those_of_one_shadow(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("bench.rig.COUNTED_WITHIN", 0)
    body = b'{"shadows": {"a": {"verdicts": {"match": 3}}, "b": {"verdicts": {"match": 4, "incomparable": 1}}}}'
    head = b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n" % len(body)
    with server(lambda _: None, head + body, until=b"\r\n\r\n", closes=True) as port:
        assert verdicts_of(Running("none", 0, 0, admin=port), "b") == {"match": 4, "incomparable": 1}


@pytest.mark.parametrize(
    ("settings", "expected"),
    [
        ({"CONFIG_ARGS": "'--enable-optimizations' '--with-lto'", "PGO_PROF_USE_FLAG": "-fprofile-use"}, True),
        ({"CONFIG_ARGS": "'--prefix=/opt/python'", "PGO_PROF_USE_FLAG": "-fprofile-use"}, False),
        ({"CONFIG_ARGS": "'--enable-shared' '--prefix=/usr'", "PGO_PROF_USE_FLAG": ""}, True),
        ({}, False),
    ],
    ids=["the official images", "built without", "Debian", "unknown"],
)
def test_the_build_of_a_python_is_known(settings: dict[str, Any], expected: bool) -> None:
    assert profile_guided(settings) is expected


@pytest.mark.slow
def test_the_table_names_the_python_and_how_it_was_built() -> None:
    told = describe_python(Path(sys.executable))
    assert told.startswith(f"{sys.version.split()[0]} built with")
    assert str(Path(sys.executable).resolve()) in told


@pytest.mark.parametrize(
    ("version", "headers", "guided", "expected"),
    [
        ((3, 13), True, True, interpreter.WITH_PGO),
        ((3, 11), True, False, interpreter.WITHOUT_PGO),
        ((3, 10), True, True, interpreter.UNUSABLE),
        ((3, 13), False, True, interpreter.UNUSABLE),
    ],
)
def test_a_python_is_chosen_only_if_it_can_build_the_program(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    version: tuple[int, ...],
    headers: bool,
    guided: bool,
    expected: int,
) -> None:
    if headers:
        (tmp_path / "Python.h").touch()
    monkeypatch.setattr("sysconfig.get_path", lambda _: str(tmp_path))
    monkeypatch.setattr("bench.interpreter.profile_guided", lambda _: guided)
    monkeypatch.setattr("sys.version_info", version)
    assert interpreter.status() == expected


@pytest.mark.slow
@pytest.mark.parametrize(
    ("script", "error"),
    [("echo shadowproxy 1.0", "is not compiled: shadowproxy 1.0"), ("exit 1", "no program in")],
)
def test_only_a_compiled_program_is_measured(tmp_path: Path, script: str, error: str) -> None:
    python = tmp_path / "python"
    python.write_text(f"#!/bin/sh\n{script}\n")
    python.chmod(0o755)
    with pytest.raises(BenchError, match=error):
        find_build(python)


def test_another_build_has_its_commits_name_or_is_left_out(tmp_path: Path) -> None:
    assert find_other(tmp_path) is None
    (tmp_path / "bin").mkdir()
    (tmp_path / "bin/python").write_text("#!/bin/sh\necho 'shadowproxy 1.0 (compiled)'\n")
    (tmp_path / "bin/python").chmod(0o755)
    (tmp_path / "built").write_text("9094bae {}\n")
    found = find_other(tmp_path)
    assert found is not None
    assert (found.name, found.python) == ("commit 9094bae", tmp_path / "bin/python")


def test_requests_and_answers_have_the_sizes_that_are_told() -> None:
    assert len(predict_body()) == REQUEST_BYTES
    assert len(answer("v1", 0.75)) == len(answer("v2", 0.5)) == ANSWER_BYTES
    assert answer("v1", 0.75) != answer("v2", 0.5)


def row(judged: list[float], bound: Bound) -> Row:
    return Row("cpu", "CPU", "µs", {"Envoy": [10.0, 30.0, 20.0]}, judged, "ours / Envoy", bound)


def test_a_figure_is_the_median_of_its_rounds() -> None:
    assert row([3.0, 1.0, 1.2], Bound("at most", 1.5)).figure == 1.2


def test_a_ratio_is_taken_within_a_round() -> None:
    assert ratios([2.0, 40.0], [1.0, 20.0]) == [2.0, 2.0]


@pytest.mark.parametrize(
    ("figure", "bound", "met"),
    [
        (1.0, Bound("at most", 1.0), True),
        (1.01, Bound("at most", 1.0), False),
        (0.9, Bound("at least", 0.9), True),
        (0.89, Bound("at least", 0.9), False),
    ],
)
def test_a_goal_is_met_at_its_bound(figure: float, bound: Bound, met: bool) -> None:
    assert row([figure], bound).met is met


def test_the_table_tells_medians_spreads_and_what_was_missed() -> None:
    told = markdown([row([2.0, 4.0, 3.0], Bound("at most", 1.0))]).splitlines()[-1]
    assert told == "| cpu | CPU | Envoy: 20 µs (10–30) | ours / Envoy: 3 (2–4) | at most 1 | no |"


def test_the_json_keeps_every_round() -> None:
    (told,) = as_json([row([2.0, 4.0, 3.0], Bound("at most", 1.0))])
    assert told["rounds"] == {"Envoy": [10.0, 30.0, 20.0]}
    assert (told["judged"], told["figure"], told["met"]) == ([2.0, 4.0, 3.0], 3.0, False)


def test_a_measure_that_fails_costs_its_own_rows_only() -> None:
    good = row([1.0], Bound("at most", 1.0))

    def half(_: Bench) -> Iterator[Row]:
        yield good
        raise BenchError("busy")

    def whole(_: Bench) -> Iterator[Row]:
        yield good

    begun: list[str] = []
    rows, failures = take(cast("Bench", None), [half, whole], begun.append)
    assert rows == [good, good]
    assert failures == ["half: busy"]
    assert begun == ["measuring half", "measuring whole"]


def test_bench_says_in_one_line_what_is_missing(tmp_path: object) -> None:
    done = subprocess.run(
        [sys.executable, "-m", "bench", "--quick"],
        env={"PATH": str(tmp_path)},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 1
    assert done.stderr.startswith("bench: a peer is missing")
    assert done.stderr.count("\n") == 1


async def test_an_endpoint_can_stand_on_httpx_own_transport(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("shadowproxy.serve.upstreams.endpoint.Pool", on_httpx.HttpxPool)
    async with Origin(answer_of(b"hello")) as origin, Endpoint(origin.url) as endpoint:
        response = await endpoint.request("GET", b"/", [(b"Host", b"h")], b"")
        assert (response.status, b"".join([chunk async for chunk in response])) == (200, b"hello")
