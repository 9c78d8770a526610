"""bench/ tells the truth: its open loop against known delays, its figures against known rounds."""

import asyncio
import contextlib
import os
import subprocess
import sys
import threading
import time
from collections.abc import Awaitable, Callable, Iterator

import pytest
from fakes import Origin
from fakes import answer as answer_of

from bench import on_httpx, open_loop
from bench.contenders import ANSWER_BYTES, answer
from bench.figures import Bound, Row, as_json, markdown, ratios
from bench.goals import REQUEST_BYTES, predict_body
from bench.processes import BenchError, Running
from shadowproxy.serve.upstreams.endpoint import Endpoint

REQUEST = b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 2\r\n\r\nhi"
ANSWER = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok"


@contextlib.contextmanager
def server(delay: Callable[[int], Awaitable[None] | None], *said: bytes) -> Iterator[int]:
    """An origin in a thread of its own; `delay` is called with the request's number before each piece of an answer."""
    ready: list[int] = []
    started = threading.Event()
    stop = asyncio.Event()
    loop = asyncio.new_event_loop()
    count = 0

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        nonlocal count
        with contextlib.suppress(asyncio.IncompleteReadError, ConnectionError):
            while await reader.readexactly(len(REQUEST)):
                count += 1
                for piece in said or (ANSWER,):
                    if (waiting := delay(count)) is not None:
                        await waiting
                    writer.write(piece)
        writer.close()

    async def run() -> None:
        async with await asyncio.start_server(serve, "127.0.0.1", 0) as listening:
            ready.append(listening.sockets[0].getsockname()[1])
            started.set()
            await stop.wait()

    thread = threading.Thread(target=loop.run_until_complete, args=(run(),))
    thread.start()
    started.wait(5)
    try:
        yield ready[0]
    finally:
        loop.call_soon_threadsafe(stop.set)
        thread.join(5)
        loop.close()


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
        (waited,) = open_loop.first_chunks(port, REQUEST, count=1)
    assert 30 <= waited < 60


@pytest.mark.timing
@pytest.mark.slow
def test_cpu_is_the_kernels_account_of_a_process() -> None:
    own = Running("this", os.getpid(), 0)
    before, began = own.cpu_seconds(), time.process_time()
    while time.process_time() - began < 0.2:
        pass
    assert 0.18 <= own.cpu_seconds() - before <= 0.4


def test_requests_and_answers_have_the_sizes_that_are_told() -> None:
    assert len(predict_body()) == REQUEST_BYTES
    assert len(answer("v1", 0.75)) == len(answer("v2", 0.5)) == ANSWER_BYTES
    assert answer("v1", 0.75) != answer("v2", 0.5)


def row(judged: list[float], bound: Bound) -> Row:
    return Row(1, "CPU", "µs", {"Envoy": [10.0, 30.0, 20.0]}, judged, "ours / Envoy", bound)


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
    assert told == "| 1 | CPU | Envoy: 20 µs (10–30) | ours / Envoy: 3 (2–4) | at most 1 | no |"


def test_the_json_keeps_every_round() -> None:
    (told,) = as_json([row([2.0, 4.0, 3.0], Bound("at most", 1.0))])
    assert told["rounds"] == {"Envoy": [10.0, 30.0, 20.0]}
    assert (told["judged"], told["figure"], told["met"]) == ([2.0, 4.0, 3.0], 3.0, False)


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
