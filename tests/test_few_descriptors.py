"""A crowd of callers takes no descriptor that dialling needs, and the probes are answered meanwhile."""

import asyncio
import contextlib
import errno
import re
import resource
import socket
from pathlib import Path

import pytest
from conftest import StartProxy
from fakes import Caller, Origin, Peer, answer, strict_ok
from program import Program

from shadowproxy.exchange import Outcome
from shadowproxy.serve.system import descriptors
from shadowproxy.serve.system.descriptors import OWN, Shares, share_out
from shadowproxy.serve.upstreams import dial
from shadowproxy.serve.upstreams.endpoint import Endpoint

GET = b"GET / HTTP/1.1\r\nHost: h\r\n\r\n"
LIMIT = 100


def few() -> None:
    resource.setrlimit(resource.RLIMIT_NOFILE, (LIMIT, LIMIT))


@pytest.mark.parametrize(
    ("most", "in_flight", "shadows", "shares"),
    [
        (100, 1000, [], Shares(34, 34, ())),
        (100, 1000, [64], Shares(26, 25, (17,))),
        (100, 10, [2, 2], Shares(54, 10, (2, 2))),
        (100, 1000, [64, 64], Shares(26, 25, (8, 8))),
        (1 << 20, 1000, [64], Shares((1 << 20) - OWN - 1064, 1000, (64,))),
        (10, 1000, [64], Shares(1, 1, (1,))),
    ],
)
def test_descriptors_are_shared_out_among_callers_live_and_shadows(
    most: int, in_flight: int, shadows: list[int], shares: Shares
) -> None:
    assert share_out(most, in_flight, shadows) == shares


async def test_a_silent_crowd_takes_no_descriptor_that_dialling_needs(tmp_path: Path) -> None:
    async with Origin(strict_ok) as live, Origin(strict_ok) as shadow, contextlib.AsyncExitStack() as stack:
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            port = probe.getsockname()[1]
        values = {
            "live": {"url": live.url},
            "shadows": {"s": {"url": shadow.url}},
            "admin": f"127.0.0.1:{port}",
            "limits": {"idle_timeout": "1h"},
        }
        async with Program(tmp_path, values, before=few) as running:
            for _ in range(80):  # silent ones at the admin port, too
                await stack.enter_async_context(await Caller.to(("127.0.0.1", port)))
            enough = asyncio.Event()
            ready = asyncio.create_task(ask_ready(port, enough))
            for _ in range(3):
                for _ in range(50):
                    await stack.enter_async_context(await running.caller())
                for _ in range(10):
                    assert (await running.ask(GET)).status == 200
            assert open_files(running.pid) < 70  # it could reload and start processes
            many = [await stack.enter_async_context(await running.caller()) for _ in range(60)]
            replies = await asyncio.gather(*(caller.ask(GET) for caller in many))
            assert {reply.status for reply in replies} == {200}
            enough.set()
            await ready
            assert any("callers wait to be accepted" in line for line in running.said)
            assert any("open files" in line and "limits.in_flight" in line for line in running.said)


def open_files(pid: int) -> int:
    files = Path(f"/proc/{pid}/fd")
    return len(list(files.iterdir())) if files.exists() else 0


async def ask_ready(port: int, enough: asyncio.Event) -> None:
    """Ask again and again whether it is ready, until that is `enough`. Raises AssertionError where it is not.

    Not until it is cancelled: before Python 3.12 `asyncio.wait_for` at times swallows a cancellation.
    """
    while not enough.is_set():
        async with await Caller.to(("127.0.0.1", port)) as probe:
            assert (await probe.ask(b"GET /readyz HTTP/1.1\r\nHost: h\r\n\r\n")).status == 200
        await asyncio.sleep(0.02)


async def test_ready_is_answered_while_a_live_process_can_open_no_file_and_callers_wait_until_it_can(
    tmp_path: Path,
) -> None:
    async with (
        Origin(strict_ok) as live,
        Program(tmp_path, {"live": {"url": live.url}, "admin": "127.0.0.1:0"}) as running,
    ):
        port = int(re.findall(r"admin http://127.0.0.1:([0-9]+)", "\n".join(running.said))[0])
        (pid,) = running.workers
        before = resource.prlimit(pid, resource.RLIMIT_NOFILE)
        resource.prlimit(pid, resource.RLIMIT_NOFILE, (3, before[1]))
        enough = asyncio.Event()
        ready = asyncio.create_task(ask_ready(port, enough))
        async with await running.caller() as caller:
            await caller.send(GET)
            assert '"error":"Too many open files"' in await running.wait_said("not_accepted")
            for _ in range(10):
                async with await Caller.to(("127.0.0.1", port)) as probing:
                    assert (await probing.ask(b"GET /readyz HTTP/1.1\r\nHost: h\r\n\r\n")).status == 200
            assert not ready.done()
            assert caller.received == b""
            resource.prlimit(pid, resource.RLIMIT_NOFILE, before)
            assert (await caller.answer()).status == 200
        assert not ready.done()
        enough.set()
        await ready


async def test_without_a_descriptor_live_is_a_503_that_says_so_and_a_shadow_is_overload(
    proxy: StartProxy, monkeypatch: pytest.MonkeyPatch
) -> None:
    class NoSockets:
        def __getattr__(self, name: str) -> object:
            return getattr(socket, name)

        def socket(self, *_: object) -> socket.socket:
            raise OSError(errno.EMFILE, "Too many open files")

    async with proxy(answer(), {"s": answer()}) as running:
        monkeypatch.setattr(dial, "socket", NoSockets())
        caller = await running.ask(GET)
        monkeypatch.undo()
        assert (caller.status, caller.all(b"retry-after")) == (503, [b"1"])
        assert caller.all(b"proxy-status") == [b"shadowproxy; error=connection_limit_reached"]
        assert b"EMFILE" in caller.body
        lane = running.sidecar.mirror.lane("s")
        async with asyncio.timeout(5):
            while not lane.counts.outcomes:  # noqa: ASYNC110  # a lane has no event for it
                await asyncio.sleep(0.001)
        assert lane.counts.outcomes == {Outcome.OVERLOAD: 1}
        assert lane._failures == 0  # the breaker does not hold it against the shadow
        (record,) = await running.records()
        assert record.live.outcome == "overload"


async def test_a_shadow_takes_no_more_descriptors_than_its_share(
    proxy: StartProxy, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def hangs(peer: Peer) -> None:
        await peer.wait_ended(60)

    monkeypatch.setattr(descriptors, "limit", lambda: OWN + 12)
    async with proxy(answer(), {"s": hangs}, shadow_options={"timeout": "1h"}, drain=0) as running:
        async with await running.caller() as caller:
            for _ in range(8):
                assert (await caller.ask(GET)).status == 200
        lane = running.sidecar.mirror.lane("s")
        async with asyncio.timeout(5):
            while lane.statistics().in_flight != 3 or len(running.shadows["s"].connections) != 3:  # noqa: ASYNC110
                await asyncio.sleep(0.001)
        assert lane.counts.outcomes == {Outcome.OVERLOAD: 5}


async def test_a_shadow_with_a_descriptor_for_each_of_its_requests_is_not_bounded(proxy: StartProxy) -> None:
    """While a connection closes another one may open, so that a bound of `in_flight` would shed requests."""
    async with proxy(answer(), {"s": answer()}) as running:
        endpoint = running.sidecar.mirror.lane("s").endpoint
        assert isinstance(endpoint, Endpoint)
        assert endpoint._pool.most is None
