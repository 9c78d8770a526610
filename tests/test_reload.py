"""Another configuration: whole or not at all, for new requests at once, and for those under way not at all."""

import asyncio
import gc
import json
import logging
import os
import signal
import socket
import threading
from collections import Counter
from collections.abc import AsyncIterator, Mapping
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import inprocess
import pytest
import trustme
from fakes import Caller, NameServer, Origin, Peer, answer, strict_ok
from inprocess import Sidecar
from program import Program

from shadowproxy import record
from shadowproxy.exchange import Outcome, Tunnel, TunnelEnd
from shadowproxy.serve.sidecar import generation, reload, watch
from shadowproxy.serve.sidecar.reading import Unreadable, read_specs
from shadowproxy.serve.sidecar.reading_apart import read_specs_apart
from shadowproxy.serve.sidecar.steering import Steering
from shadowproxy.serve.sidecar.watch import Watch
from shadowproxy.serve.upstreams.endpoint import Endpoint

GET = b"GET / HTTP/1.1\r\nHost: h\r\n\r\n"
OFFER = GET[:-2] + b"Connection: Upgrade\r\nUpgrade: websocket\r\n\r\n"
SWITCH = b"HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\n"


class Configured:
    """A sidecar that runs by a file, which the test may change."""

    def __init__(self, directory: Path) -> None:
        self.log = directory / "log"
        self.file = directory / "config.yaml"
        self.sidecar: Sidecar

    def write(self, text: str) -> None:
        self.file.write_text(text)

    def values(self, live: str, shadows: Mapping[str, Any], **more: Any) -> None:
        given = {
            "listen": "127.0.0.1:0",
            "admin": None,
            "overload": {"loop_lag": "1h"},
            "log": {"path": str(self.log)},
            "live": {"url": live},
            "shadows": {name: {"url": each} if isinstance(each, str) else each for name, each in shadows.items()},
        }
        self.write(json.dumps(given | more))

    async def reload(self) -> None:
        """Have it read again, and wait for what comes of it."""
        before = self.sidecar.census().config
        self.sidecar.reload()
        async with asyncio.timeout(5):
            while (now := self.sidecar.census().config) == before:  # noqa: ASYNC110
                await asyncio.sleep(0.001)
        assert (now.reloads, now.failures) in (
            (before.reloads + 1, before.failures),
            (before.reloads, before.failures + 1),
        )

    async def ask(self) -> bytes:
        async with await Caller.to(self.sidecar.address) as caller:
            return (await caller.ask(GET)).body

    def records(self) -> list[record.Record]:
        return [entry for entry in record.read([self.log]) if isinstance(entry, record.Record)]


@pytest.fixture
async def configured(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Configured]:
    monkeypatch.setattr(reload, "Watch", partial(Watch, every=3600.0))  # the test says when
    yield Configured(tmp_path)
    assert asyncio.all_tasks() == {asyncio.current_task()}


async def test_a_changed_section_keeps_the_addresses_of_its_name_for_when_the_name_server_fails(
    configured: Configured, monkeypatch: pytest.MonkeyPatch
) -> None:
    server = NameServer(monkeypatch)
    async with Origin(answer(b"found")) as live:
        server.names["model.test"] = server.names["other.test"] = [("127.0.0.1", live.port)]
        configured.values("http://model.test", {})
        async with Sidecar(read_specs(configured.file), configured.file) as configured.sidecar:
            assert await configured.ask() == b"found"
            failing = socket.gaierror(socket.EAI_AGAIN, "Temporary failure in name resolution")
            server.names["model.test"] = server.names["other.test"] = failing
            changed = json.loads(configured.file.read_text())
            changed["live"]["headers"] = {"set": {"X-A": "b"}}
            configured.write(json.dumps(changed))
            await configured.reload()
            assert await configured.ask() == b"found"
            assert b"X-A: b" in live.received
            configured.values("http://other.test", {})  # it is not the address of another name
            await configured.reload()
            assert await configured.ask() != b"found"


async def test_new_requests_are_served_by_the_new_configuration(configured: Configured) -> None:
    async with (
        Origin(answer(b"one")) as one,
        Origin(answer(b"two")) as two,
        Origin(answer()) as a,
        Origin(answer()) as b,
    ):
        configured.values(one.url, {"a": a.url})
        async with Sidecar(read_specs(configured.file), configured.file) as configured.sidecar:
            assert await configured.ask() == b"one"
            configured.values(two.url, {"b": b.url}, log={"path": str(configured.log), "bodies": "none"})
            await configured.reload()
            assert configured.sidecar.census().config.generation == 2
            assert configured.sidecar.specs.program.live_url == two.url
            assert await configured.ask() == b"two"
    first, second = configured.records()
    assert (list(first.shadows), list(second.shadows)) == (["a"], ["b"])
    assert (len(a.requests), len(b.requests)) == (1, 1)
    assert first.live.body is not None
    assert (first.live.body.value, second.live.body and second.live.body.value) == ("one", None)


async def test_a_request_under_way_ends_under_the_configuration_it_began_with(configured: Configured) -> None:
    """Its body is still coming when the configuration changes: live, shadows and what is logged stay the old ones."""
    async with (
        Origin(strict_ok) as one,
        Origin(answer(b"two")) as two,
        Origin(answer()) as a,
        Origin(answer()) as b,
    ):
        configured.values(one.url, {"a": a.url})
        async with (
            Sidecar(read_specs(configured.file), configured.file) as configured.sidecar,
            await Caller.to(configured.sidecar.address) as caller,
        ):
            await caller.send(b"POST / HTTP/1.1\r\nHost: h\r\nContent-Length: 6\r\n\r\nold")
            async with asyncio.timeout(5):
                while not configured.sidecar.proxy.in_flight:  # noqa: ASYNC110
                    await asyncio.sleep(0.001)
            configured.values(two.url, {"b": b.url}, log={"path": str(configured.log), "bodies": "none"})
            await configured.reload()
            assert await configured.ask() == b"two"
            await caller.send(b"one")
            assert (await caller.answer()).body == b"ok"
            async with asyncio.timeout(5):
                while one.open_connections or a.open_connections:  # noqa: ASYNC110  # closed with its last exchange
                    await asyncio.sleep(0.001)
            assert two.open_connections == b.open_connections == 1
    under_old = next(each for each in configured.records() if each.request.method == "POST")
    assert list(under_old.shadows) == ["a"]
    assert under_old.request.body.value == "oldone"
    assert (len(one.requests), len(a.requests)) == (1, 1)


async def test_a_tunnel_goes_on_to_the_live_that_it_began_with(configured: Configured) -> None:
    async def accept(peer: Peer) -> None:
        await peer.request()
        await peer.send(SWITCH)
        await peer.wait_ended()

    async with Origin(accept) as one, Origin(answer(b"two")) as two:
        configured.values(one.url, {})
        async with Sidecar(read_specs(configured.file), configured.file) as configured.sidecar:
            async with await Caller.to(configured.sidecar.address) as caller:
                await caller.send(OFFER)
                assert (await caller.answer()).status == 101
                configured.values(two.url, {})
                await configured.reload()
                assert await configured.ask() == b"two"
                live = await one.connection()
                await live.send(b"still here")
                await caller.wait_received(len(caller.received) - len(caller.unread) + 10)
                assert one.open_connections == 1
            await live.wait_ended()
            async with asyncio.timeout(5):
                while one.open_connections or configured.sidecar.census().tunnels:  # noqa: ASYNC110  # in some turn
                    await asyncio.sleep(0.001)
    under_old = next(each for each in configured.records() if each.tunnel is not None)
    assert under_old.tunnel == Tunnel(0, 10, TunnelEnd.CALLER)


@pytest.mark.parametrize("fixed", [False, True])
async def test_a_tunnel_keeps_nothing_of_the_configurations_before(configured: Configured, fixed: bool) -> None:
    """A hundred reloads beneath a WebSocket that stays open for a day would keep a hundred of them in memory."""

    async def accept(peer: Peer) -> None:
        while (request := await peer.request()) is not None:
            if not request.all(b"upgrade"):
                await peer.send(answer())
                continue
            await peer.send(SWITCH)
            await peer.wait_ended()

    def endpoints() -> int:
        gc.collect()
        return sum(isinstance(each, Endpoint) for each in gc.get_objects())

    async with Origin(accept) as live:
        configured.values(live.url, {})
        others = endpoints()  # of tests that ran before
        async with Sidecar(read_specs(configured.file), configured.file) as configured.sidecar:
            async with await Caller.to(configured.sidecar.address) as caller:
                await caller.send(OFFER)
                assert (await caller.answer()).status == 101
                generations = configured.sidecar.live._generations
                for number in range(5):
                    changed = json.loads(configured.file.read_text())
                    changed["live"] = {"url": live.url, "headers": {"set": {"X-Number": str(number)}}}
                    if fixed and number == 4:
                        changed["live"] = {"respond": {"status": 200, "json": {}}}
                    configured.write(
                        json.dumps(changed | {"log": {**changed["log"], "redact": {"headers": ["x-new"]}}})
                    )
                    await configured.ask()
                    await configured.reload()
                    async with asyncio.timeout(5):
                        while len(generations) > 1 or len(configured.sidecar.recorder._specs) > 1:  # noqa: ASYNC110
                            await asyncio.sleep(0.001)
                assert endpoints() == others + (not fixed)
                tunnel = await live.connection()  # the first
                before = len(tunnel.received)
                await caller.send(b"through")
                await tunnel.wait_received(before + 7)
                await tunnel.send(b"back")
                await caller.wait_received(len(caller.received) - len(caller.unread) + 4)
                assert configured.sidecar.census().tunnels == 1
            await tunnel.wait_ended()
            async with asyncio.timeout(5):
                while configured.sidecar.census().tunnels:  # noqa: ASYNC110  # in some turn
                    await asyncio.sleep(0.001)
    (entry,) = [each for each in configured.records() if each.tunnel is not None]
    assert entry.tunnel == Tunnel(7, 4, TunnelEnd.CALLER)


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("live: {url: http://127.0.0.1:1, timout: 5s}", 'live.timout: unknown key (did you mean "timeout"?)'),
        ("live: [", "not YAML"),
        ("", "is empty"),
        (None, "cannot be read"),
        (
            "live: {url: https://127.0.0.1:1, tls: {ca: Makefile}}",
            "live.tls: its files cannot be used",
        ),
    ],
)
async def test_a_file_that_cannot_be_used_changes_nothing_and_is_told_of(
    configured: Configured, text: str | None, told: str, caplog: pytest.LogCaptureFixture, tmp_path: Path
) -> None:
    async with Origin(answer(b"one")) as live, Origin(answer()) as shadow:
        configured.values(live.url, {"a": shadow.url})
        async with Sidecar(read_specs(configured.file), configured.file) as configured.sidecar:
            if text is None:
                configured.file.unlink()
            else:
                configured.write(text)
            await configured.reload()
            census = configured.sidecar.census().config
            assert (census.generation, census.failures, census.reloads) == (1, 1, 0)
            assert told in (census.error or "")
            assert any(told in line.getMessage() for line in caplog.records if line.levelno == logging.ERROR)
            assert await configured.ask() == b"one"
            configured.values(live.url, {"a": shadow.url})
            await configured.reload()
            census = configured.sidecar.census().config
            assert (census.generation, census.error) == (2, None)
    assert [list(each.shadows) for each in configured.records()] == [["a"]]


async def test_a_certificate_of_lives_that_comes_after_the_file_that_names_it_is_waited_for(
    configured: Configured, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture, tmp_path: Path
) -> None:
    monkeypatch.setattr(reload, "RETRY", 0.05)
    late = tmp_path / "late.pem"
    async with Origin(answer(b"one")) as live:
        configured.values(live.url, {})
        async with Sidecar(read_specs(configured.file), configured.file) as configured.sidecar:
            text = json.loads(configured.file.read_text())
            text["live"] = {"url": "https://127.0.0.1:1", "tls": {"ca": str(late)}}
            configured.write(json.dumps(text))
            await configured.reload()
            assert configured.sidecar.census().config.failures == 1
            await asyncio.sleep(0.2)  # it is tried again, and told no more
            assert configured.sidecar.census().config.failures == 1
            assert sum("was rejected" in line.getMessage() for line in caplog.records) == 1
            trustme.CA().cert_pem.write_to_path(str(late))
            async with asyncio.timeout(5):
                while configured.sidecar.census().config.generation == 1:  # noqa: ASYNC110
                    await asyncio.sleep(0.01)
            assert configured.sidecar.specs.live.endpoints["live"].tls.ca == late
            assert configured.sidecar.census().config.error is None


async def test_a_defect_in_building_a_configuration_changes_nothing_and_ends_no_later_reload(
    configured: Configured, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    async with Origin(answer(b"one")) as live, Origin(answer(b"two")) as other:
        configured.values(live.url, {"a": other.url})
        async with Sidecar(read_specs(configured.file), configured.file) as configured.sidecar:
            for broken, name in ((generation, "build"), (inprocess, "read_specs")):
                with monkeypatch.context() as patched:
                    patched.setattr(broken, name, lambda *_, **__: 1 / 0)
                    await configured.reload()
            told = configured.sidecar.census().config
            assert (told.generation, told.failures) == (1, 2)
            assert sum(line.exc_info is not None for line in caplog.records) == 2
            assert await configured.ask() == b"one"
            configured.values(other.url, {})
            await configured.reload()
            assert await configured.ask() == b"two"


async def test_a_change_that_was_read_on_request_is_not_read_again(
    configured: Configured, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The watch, which sees the same change, looks only once the request is done with."""
    done = threading.Event()
    looks = 0
    held = watch._held

    def held_once_done(path: Path) -> bytes | None:
        nonlocal looks
        if threading.current_thread().name == "shadowproxy-watch":
            assert done.wait(5)
            looks += 1
        return held(path)

    monkeypatch.setattr(watch, "_held", held_once_done)
    monkeypatch.setattr(reload, "Watch", partial(Watch, every=0.001))
    async with Origin(answer(b"one")) as one, Origin(answer(b"two")) as two:
        configured.values(one.url, {})
        async with Sidecar(read_specs(configured.file), configured.file) as configured.sidecar:
            configured.values(two.url, {})
            await configured.reload()
            done.set()
            async with asyncio.timeout(5):
                while looks < 5:  # noqa: ASYNC110  # nothing tells of it
                    await asyncio.sleep(0.001)
            assert configured.sidecar.census().config.reloads == 1
            configured.values(one.url, {})  # and no request
            async with asyncio.timeout(5):
                while configured.sidecar.census().config.reloads < 2:  # noqa: ASYNC110
                    await asyncio.sleep(0.001)
            assert await configured.ask() == b"one"


async def test_what_takes_a_restart_is_said_and_the_rest_is_in_force(
    configured: Configured, caplog: pytest.LogCaptureFixture, tmp_path: Path
) -> None:
    async with Origin(answer(b"one")) as one, Origin(answer(b"two")) as two:
        configured.values(one.url, {"a": two.url})
        async with Sidecar(read_specs(configured.file), configured.file) as configured.sidecar:
            address = configured.sidecar.address
            elsewhere = {"path": str(tmp_path / "elsewhere"), "rotate": {"size": "1MiB"}}
            configured.values(two.url, {"a": one.url}, listen="127.0.0.1:1", admin="127.0.0.1:2", log=elsewhere)
            await configured.reload()
            said = [line.getMessage() for line in caplog.records if "only a restart applies it" in line.getMessage()]
            assert [line.split()[0] for line in said] == ["listen", "admin", "log.path"]
            assert configured.sidecar.address == address
            assert configured.sidecar.specs.recorder.journal.path == str(configured.log)
            assert configured.sidecar.journal.settings.rotate_size == 1 << 20
            assert await configured.ask() == b"two"
    assert not (tmp_path / "elsewhere").exists()
    assert len(configured.records()) == 1


async def test_a_short_token_is_refused_where_admin_still_listens_beyond_loopback(
    configured: Configured, caplog: pytest.LogCaptureFixture
) -> None:
    async with Origin(answer(b"one")) as live:
        configured.values(live.url, {}, admin="0.0.0.0:0", admin_token="x" * 16)
        async with Sidecar(read_specs(configured.file), configured.file) as configured.sidecar:
            configured.values(live.url, {}, admin="127.0.0.1:0", admin_token="x" * 15)
            await configured.reload()
            assert configured.sidecar.census().config.failures == 1
            assert configured.sidecar.specs.recorder.admin_token == "x" * 16
            (said,) = [line.getMessage() for line in caplog.records if line.getMessage().startswith("admin_token: ")]
            assert "is shorter than 16 characters and admin listens beyond loopback" in said


async def test_limits_and_the_drain_are_in_force_at_once(configured: Configured) -> None:
    async with Origin(answer()) as live:
        configured.values(live.url, {})
        async with Sidecar(read_specs(configured.file), configured.file) as configured.sidecar:
            limits = {"memory": "9MiB", "headers": "1KiB", "in_flight": 7}
            configured.values(live.url, {}, limits=limits, overload={"loop_lag": "3s"}, drain="2s")
            await configured.reload()
            sidecar = configured.sidecar
            assert sidecar.mirror.memory.limit == sidecar.journal.settings.queue_bytes == 9 << 20
            assert sidecar.mirror.pulse.limit == 3.0
            assert sidecar.proxy.service.in_flight == 7
            assert sidecar.live._server.drain == 2.0
            async with await Caller.to(sidecar.address) as caller:
                reply = await caller.ask(b"GET / HTTP/1.1\r\nHost: h\r\nX: " + b"x" * 1024 + b"\r\n\r\n")
            assert reply.status == 431


async def test_what_the_file_says_the_same_of_is_left_as_it_is(configured: Configured) -> None:
    """A shadow's connections, breaker and budget do not begin anew because another shadow was changed."""
    async with Origin(answer()) as live, Origin(answer()) as a, Origin(answer()) as b:
        configured.values(live.url, {"a": a.url, "b": b.url})
        async with Sidecar(read_specs(configured.file), configured.file) as configured.sidecar:
            await configured.ask()
            kept, changed = configured.sidecar.mirror.lanes
            configured.values(live.url, {"a": a.url, "b": {"url": b.url, "timeout": "5s"}})
            await configured.reload()
            lane, other = configured.sidecar.mirror.lanes
            assert lane is kept
            assert other is not changed
            assert other.counts is changed.counts
            await configured.ask()
            async with asyncio.timeout(5):
                while b.open_connections > 1:  # noqa: ASYNC110  # the old lane's is closed
                    await asyncio.sleep(0.001)
            assert len(live.connections) == len(a.connections) == 1
            assert [each.chosen for each in configured.sidecar.census().shadows] == [2, 2]


async def test_a_pause_and_a_percent_set_by_an_operator_outlive_a_reload(configured: Configured) -> None:
    async with Origin(answer()) as live, Origin(answer()) as a:
        shadow = {"url": a.url, "percent": 50}
        configured.values(live.url, {"a": shadow})
        async with Sidecar(read_specs(configured.file), configured.file) as configured.sidecar:
            mirror = configured.sidecar.mirror
            steering = Steering().with_pause("a", paused=True).with_percent("a", 100)
            await configured.sidecar.steer(steering)
            configured.values(live.url, {"a": shadow | {"timeout": "5s"}})
            await configured.reload()
            assert (mirror.lane("a").paused, mirror.lane("a").percent) == (True, 100)
            configured.values(live.url, {"a": shadow | {"percent": 25}})
            await configured.reload()
            assert (mirror.lane("a").paused, mirror.lane("a").percent) == (True, 25)
            assert configured.sidecar.steering == replace(steering, percents={})
            await configured.sidecar.steer(steering.with_pause(None, paused=True))
            await configured.reload()
            assert mirror.paused


async def test_what_is_used_of_a_budget_is_not_given_back_by_a_reload(configured: Configured) -> None:
    async with Origin(answer()) as live, Origin(answer()) as a:
        shadow = {"url": a.url, "budget": {"requests": 2}}
        configured.values(live.url, {"a": shadow})
        async with Sidecar(read_specs(configured.file), configured.file) as configured.sidecar:
            await configured.ask()
            configured.values(live.url, {"a": shadow | {"timeout": "5s"}})
            await configured.reload()
            await configured.ask()
            await configured.ask()
            configured.values(live.url, {"a": shadow | {"budget": {"requests": 1}}})
            await configured.reload()
            await configured.ask()
    outcomes = [each.shadows["a"].outcome for each in configured.records()]
    assert outcomes == [Outcome.OK, Outcome.OK, Outcome.BUDGET_SPENT, Outcome.OK]


async def test_tokens_that_were_used_are_not_given_back_by_a_reload(configured: Configured) -> None:
    usage = answer(b'{"usage": {"prompt_tokens": 6, "completion_tokens": 4}}')
    async with Origin(answer()) as live, Origin(usage) as a:
        shadow = {"url": a.url, "budget": {"tokens": 20}}
        configured.values(live.url, {"a": shadow})
        async with Sidecar(read_specs(configured.file), configured.file) as configured.sidecar:

            async def ask() -> None:
                await configured.ask()
                async with asyncio.timeout(5):
                    while configured.sidecar.mirror.unsettled:  # noqa: ASYNC110  # until the answer is counted
                        await asyncio.sleep(0.001)

            await ask()
            configured.values(live.url, {"a": shadow | {"timeout": "5s"}})
            await configured.reload()
            await ask()
            await ask()
            configured.values(live.url, {"a": shadow | {"budget": {"tokens": 10}}})
            await configured.reload()
            await ask()
    outcomes = [each.shadows["a"].outcome for each in configured.records()]
    assert outcomes == [Outcome.OK, Outcome.OK, Outcome.BUDGET_SPENT, Outcome.OK]


async def test_without_a_file_there_is_nothing_to_read_again(
    configured: Configured, caplog: pytest.LogCaptureFixture
) -> None:
    async with Origin(answer(b"one")) as live:
        configured.values(live.url, {})
        async with Sidecar(read_specs(configured.file)) as configured.sidecar:
            configured.sidecar.reload()
            async with asyncio.timeout(5):
                while "there is no configuration file" not in caplog.text:  # noqa: ASYNC110
                    await asyncio.sleep(0.001)
            assert await configured.ask() == b"one"
            assert configured.sidecar.census().config.generation == 1


async def test_reloads_beneath_traffic_fail_no_request_and_the_books_balance(configured: Configured) -> None:
    async def slow(peer: Peer) -> None:
        while await peer.request():
            await asyncio.sleep(0.003)
            await peer.send(answer(b"{}"))

    async with Origin(slow) as one, Origin(slow) as two, Origin(slow) as a, Origin(slow) as b:
        configured.values(one.url, {"a": a.url})
        sent = 0
        done = asyncio.Event()

        async def call() -> None:
            nonlocal sent
            async with await Caller.to(configured.sidecar.address) as caller:
                while not done.is_set():
                    sent += 1
                    assert (await caller.ask(GET)).body == b"{}"

        async with Sidecar(read_specs(configured.file), configured.file) as configured.sidecar:
            callers = [asyncio.get_running_loop().create_task(call()) for _ in range(8)]
            for number in range(20):
                configured.values((one, two)[number % 2].url, {"a": a.url, "b": b.url} if number % 3 else {"a": b.url})
                await configured.reload()
                await asyncio.sleep(0.02)
            done.set()
            await asyncio.gather(*callers)
            async with asyncio.timeout(5):
                while len(configured.sidecar.live._generations) > 1:  # noqa: ASYNC110
                    await asyncio.sleep(0.001)
            await asyncio.sleep(0)
            census = configured.sidecar.census()
    records = configured.records()
    assert len(records) == sent == sum(census.outcomes.values())
    assert Counter(leg.outcome for each in records for leg in each.shadows.values()) == Counter(
        {Outcome.OK: len(a.requests) + len(b.requests)}
    )


async def test_the_program_reads_its_file_again_on_sighup_and_when_it_changes(tmp_path: Path) -> None:
    async with Origin(answer(b"one")) as one, Origin(answer(b"two")) as two, Origin(answer(b"three")) as three:
        async with Program(tmp_path, {"live": {"url": one.url}, "shadows": {"s": {"url": two.url}}}) as program:
            assert (await program.ask(GET)).body == b"one"
            program.configure({"live": {"url": two.url}, "shadows": {"s": {"url": one.url}}})
            program.signal(signal.SIGHUP)
            await program.wait_said("configuration 2 is in force")
            assert (await program.ask(GET)).body == b"two"
            program.configure({"live": {"url": three.url}})  # and no signal
            await program.wait_said(f"is in force: live {three.url}")
            assert (await program.ask(GET)).body == b"three"
            program.configure({"live": {"url": "nowhere"}})
            await program.wait_said("live.url: ")
            assert (await program.ask(GET)).body == b"three"
            assert await program.stop() == 0
        assert len(program.records()) == 4


async def test_a_file_that_cannot_be_read_to_its_end_fails_that_reload_and_no_later_one(
    configured: Configured, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Also by the process that reads it for the program: it is killed when its time is over."""
    monkeypatch.setattr(Sidecar, "_read_file", lambda self, file: read_specs_apart(file))
    async with Origin(answer(b"one")) as one, Origin(answer(b"two")) as two:
        configured.values(one.url, {})
        async with Sidecar(read_specs(configured.file), configured.file) as configured.sidecar:
            monkeypatch.setattr(reload, "READING", 1.0)
            configured.file.unlink()
            os.mkfifo(configured.file)
            await configured.reload()
            assert configured.sidecar.census().config.failures == 1
            assert "takes longer than 1 s" in str(configured.sidecar.census().config.error)
            assert [each.name for each in threading.enumerate() if each.name == "shadowproxy-read"] == []
            configured.file.unlink()
            monkeypatch.undo()
            configured.values(two.url, {})
            await configured.reload()
            assert await configured.ask() == b"two"


async def test_another_process_reads_the_same_specs_and_the_same_errors(configured: Configured) -> None:
    configured.values("http://127.0.0.1:9", {"a": "http://127.0.0.1:10"})
    assert await read_specs_apart(configured.file) == read_specs(configured.file)
    configured.values("nowhere", {})
    with pytest.raises(Unreadable) as here:
        read_specs(configured.file)
    with pytest.raises(Unreadable) as there:
        await read_specs_apart(configured.file)
    assert str(there.value) == str(here.value)
    assert "live.url" in str(here.value)


@pytest.mark.slow
@pytest.mark.parametrize("workers", [1, 2])
async def test_a_file_that_hangs_the_reader_does_not_hold_up_a_stop(tmp_path: Path, workers: int) -> None:
    async with Origin(answer()) as live:
        values = {"listen": "127.0.0.1:0", "admin": None, "workers": workers, "log": {"path": str(tmp_path / "log")}}
        async with Program(tmp_path, values | {"live": {"url": live.url}}) as program:
            file = tmp_path / "config.yaml"
            file.unlink()
            os.mkfifo(file)
            program.signal(signal.SIGHUP)
            await asyncio.sleep(0.2)  # for the reader to open it: nothing tells of that
            program.signal(signal.SIGTERM)
            async with asyncio.timeout(5):
                assert await program.ended() == 0
