"""Building and stopping: what cannot start says why in one line, and nothing that was opened stays open."""

import asyncio
import os
import socket
import ssl
import stat
from pathlib import Path
from typing import Any

import pytest
import trustme
from fakes import Caller, Origin, answer, refusing_port
from inprocess import Sidecar

from shadowproxy import config
from shadowproxy.exchange import Exchange, Outcome, Reply, Request, Verdict
from shadowproxy.record import Record, read
from shadowproxy.serve.callers.addresses import StartError
from shadowproxy.serve.handover.outbox import GATHER, STALLED
from shadowproxy.serve.sidecar.specify import specify

GET = b"GET / HTTP/1.1\r\nHost: h\r\n\r\n"


def sidecar(directory: Path, **values: Any) -> Sidecar:
    given: dict[str, Any] = {
        "listen": "127.0.0.1:0",
        "admin": None,
        "live": {"url": "http://127.0.0.1:1"},
        "shadows": {"s": {"url": "http://127.0.0.1:1"}},
        "log": {"path": str(directory / "log")},
    }
    return Sidecar(specify(config.from_values(given | values)))


def open_files() -> int:
    return len(os.listdir("/proc/self/fd"))


async def fails(started: Sidecar) -> str:
    """Why it does not start; and that it left nothing behind."""
    before = open_files()
    with pytest.raises(StartError) as raised:
        async with started:
            pass
    assert open_files() == before
    assert asyncio.all_tasks() == {asyncio.current_task()}
    assert len(str(raised.value).splitlines()) == 1
    return str(raised.value)


async def test_a_port_in_use_is_one_line_and_leaves_no_empty_segment(tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        listen = f"127.0.0.1:{taken.getsockname()[1]}"
        assert await fails(sidecar(tmp_path, listen=listen)) == f"cannot listen on {listen}: the address is in use"
    assert not (tmp_path / "log").exists()


async def test_the_admins_port_in_use_is_one_line_too(tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        admin = f"127.0.0.1:{taken.getsockname()[1]}"
        assert await fails(sidecar(tmp_path, admin=admin)) == f"cannot listen on {admin}: the address is in use"


async def test_a_certificate_that_is_none_is_one_line(tmp_path: Path) -> None:
    (tmp_path / "ca.pem").write_text("no certificate")
    live = {"url": "https://127.0.0.1:1", "tls": {"ca": str(tmp_path / "ca.pem")}}
    assert (await fails(sidecar(tmp_path, live=live))).startswith("live.tls: its files cannot be used")


async def test_a_socket_that_somebody_listens_on_is_not_taken_away(tmp_path: Path) -> None:
    path = tmp_path / "socket"
    with socket.socket(socket.AF_UNIX) as theirs:
        theirs.bind(str(path))
        theirs.listen()
        assert "the address is in use" in await fails(sidecar(tmp_path, listen=f"unix:{path}"))
    assert stat.S_ISSOCK(path.stat().st_mode)


async def test_a_file_in_the_sockets_place_is_not_taken_away(tmp_path: Path) -> None:
    path = tmp_path / "socket"
    path.write_text("precious")
    await fails(sidecar(tmp_path, listen=f"unix:{path}"))
    assert path.read_text() == "precious"


async def test_after_it_stopped_nothing_is_open_and_the_port_is_free(tmp_path: Path) -> None:
    async with Origin() as live, Origin() as shadow:
        await asyncio.sleep(0)
        before = open_files()
        shadows = {"s": {"url": shadow.url}}
        async with sidecar(tmp_path, live={"url": live.url}, shadows=shadows) as running:
            async with await Caller.to(running.address) as caller:
                assert (await caller.ask(GET)).status == 200
            address = running.address
        await asyncio.sleep(0.01)
        assert live.open_connections == shadow.open_connections == 0
        socket.create_server(address).close()
        async with asyncio.timeout(1):
            while open_files() - before > 0:  # noqa: ASYNC110  # the origins' ends close a turn later
                await asyncio.sleep(0.01)


async def test_it_starts_though_neither_live_nor_a_shadow_is_there(tmp_path: Path) -> None:
    with refusing_port() as port:
        url = f"http://127.0.0.1:{port}"
        running = sidecar(tmp_path, live={"url": url}, shadows={"s": {"url": url}})
        async with running, await Caller.to(running.address) as caller:
            assert (await caller.ask(GET)).status == 502


async def test_each_part_of_the_configuration_reaches_its_room(tmp_path: Path) -> None:
    """What no other test would miss: two shadows, each with its own share, credentials, edits and rewrites."""
    async with Origin(answer()) as live, Origin(answer()) as one, Origin(answer()) as two:
        values = {
            "live": {"url": live.url + "/base", "headers": {"set": {"X-Live": "1"}, "remove": ["X-Gone"]}},
            "shadows": {
                "one": {"url": one.url, "forward_credentials": True, "rewrite": {"path": {"/p": "/q"}}},
                "two": {"url": two.url, "host": "two.example", "match": {"methods": ["GET"]}},
                "off": {"url": two.url, "percent": 0},
            },
            "control": {"percent": 100},
            "request_id": {"header": "X-Trace", "respond": False},
            "forwarded": True,
            "drain": "5s",
            "overload": {"loop_lag": "4s"},
        }
        async with sidecar(tmp_path, **values) as running, await Caller.to(running.address) as caller:
            assert running.mirror.pulse.limit == 4.0
            fields = b"Host: h\r\nAuthorization: a\r\nX-Gone: 1\r\nX-Trace: t\r\nContent-Length: 0"
            reply = await caller.ask(b"POST /p HTTP/1.1\r\n%s\r\n\r\n" % fields)
            assert reply.all(b"x-trace") == []
            await (await one.connection()).wait_received(1)
    first, again = live.requests
    assert first.target == again.target == b"/base/p"
    assert (first.all(b"x-live"), first.all(b"x-gone"), first.all(b"authorization")) == ([b"1"], [], [b"a"])
    assert first.all(b"x-forwarded-for") == [b"127.0.0.1"]
    assert again.all(b"x-shadow-request") == [b"control"]
    assert again.all(b"authorization") == [b"a"]
    (shadowed,) = one.requests
    assert (shadowed.target, shadowed.all(b"authorization"), shadowed.all(b"x-trace")) == (b"/q", [b"a"], [b"t"])
    assert two.connections == []


@pytest.mark.timing
async def test_a_hurried_stop_ends_idle_connections_too(tmp_path: Path) -> None:
    """What came by one was still asked of live, and its record came when the log was closed."""
    async with Origin(answer()) as live, Origin(answer()) as shadow:
        values = {"live": {"url": live.url}, "shadows": {"s": {"url": shadow.url}}}
        async with sidecar(tmp_path, **values) as running:
            caller = await Caller.to(running.address)
            assert (await caller.ask(GET)).status == 200
            running.hurry()
        async with caller:
            await caller.wait_ended(0.1)


async def test_while_the_recorder_takes_nothing_shadows_get_requests_and_what_does_not_fit_is_lost(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    body = bytes(20 << 10)
    request = Request("1", "019c139e-6efb-7cc4-8d34-1f1f3a1f9a51", 0, "POST", b"/", (), body, len(body))
    waiting = Exchange(request, Reply(200, (), b"", 0, 1.0, 1.0), {})
    async with Origin(answer()) as live, Origin(answer()) as shadow:
        values = {
            "live": {"url": live.url},
            "shadows": {"s": {"url": shadow.url}},
            "limits": {"memory": "64KiB", "capture": "8KiB", "buffer": "8KiB"},
        }
        async with sidecar(tmp_path, **values) as running, await Caller.to(running.address) as caller:
            outbox = running.live.outbox
            ours, theirs = socket.socketpair()
            outbox.connect(ours)  # and nobody reads from the other end
            theirs.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4 << 10)
            while outbox.queued_bytes < outbox.budget:
                assert outbox.append(waiting, 1)
                await asyncio.sleep(2 * GATHER)  # it is sent by then, until the socket is full
            await asyncio.sleep(STALLED + 0.1)
            assert not outbox.append(waiting, 1)
            assert running.live.mirror.memory.held < 64 << 10
            assert (await caller.ask(GET)).status == 200
            while not running.mirror.lanes[0].counts.outcomes:  # noqa: ASYNC110  # it tells nobody
                await asyncio.sleep(0.01)
            assert running.mirror.lanes[0].counts.outcomes == {Outcome.OK: 1}
            while outbox.statistics().lost != {"journal_full": 2}:  # noqa: ASYNC110  # with that request's own
                await asyncio.sleep(0.01)
            theirs.close()
    assert len(shadow.requests) == 1
    assert [line for line in caplog.messages if "the log lost" in line][:2] == [
        "the log lost 1 records so far (journal_full)",
        "the log lost 2 records so far (journal_full)",
    ]


@pytest.mark.parametrize(
    ("respond", "status", "body", "logged"),
    [
        ({"json": {"late": False}}, 200, b'{"late":false}', {"late": False}),
        ({"text": "no", "status": 503}, 503, b"no", "no"),
        ({}, 204, b"", None),
    ],
    ids=["json", "text", "nothing"],
)
async def test_a_fixed_answer_is_given_and_logged_and_shadows_are_asked(
    tmp_path: Path, respond: dict[str, Any], status: int, body: bytes, logged: Any
) -> None:
    async with Origin(answer()) as shadow:
        values = {"live": {"respond": respond}, "shadows": {"s": {"url": shadow.url}}}
        async with sidecar(tmp_path, **values) as running, await Caller.to(running.address) as caller:
            reply = await caller.ask(GET)
    assert (reply.status, reply.body) == (status, body)
    (told,) = read([tmp_path / "log"])
    assert isinstance(told, Record)
    assert (told.live.outcome, told.live.status, told.shadows["s"].outcome) == (Outcome.OK, status, Outcome.OK)
    assert told.live.body is not None
    assert (told.live.body.size, told.live.body.value) == (len(body), logged)


async def test_each_endpoint_is_trusted_and_shown_what_its_own_tls_section_says(tmp_path: Path) -> None:
    authority, files = trustme.CA(), {name: str(tmp_path / f"{name}.pem") for name in ("ca", "cert", "key")}
    own = authority.issue_cert("client.example")
    authority.cert_pem.write_to_path(files["ca"])
    own.cert_chain_pems[0].write_to_path(files["cert"])
    own.private_key_pem.write_to_path(files["key"])
    serving, asking = (ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER) for _ in range(2))
    for context in (serving, asking):
        authority.issue_cert("127.0.0.1").configure_cert(context)
    asking.verify_mode = ssl.CERT_REQUIRED
    authority.configure_trust(asking)
    async with Origin(answer(), tls=serving) as plain, Origin(answer(), tls=asking) as guarded:
        values = {
            "live": {"url": guarded.url, "tls": files},
            "shadows": {
                "trusting": {"url": plain.url, "tls": {"ca": files["ca"]}},
                "doubting": {"url": plain.url},
                "blind": {"url": plain.url, "tls": {"verify": False}},
                "stranger": {"url": guarded.url, "tls": {"ca": files["ca"]}},
                "friend": {"url": guarded.url, "tls": files},
            },
            "control": {"percent": 100},
        }
        async with sidecar(tmp_path, **values) as running, await Caller.to(running.address) as caller:
            assert (await caller.ask(GET)).status == 200
    (told,) = read([tmp_path / "log"])
    assert isinstance(told, Record)
    assert told.control is not None
    assert told.control.outcome == Outcome.OK
    outcomes = {name: leg.outcome for name, leg in told.shadows.items()}
    # TLS 1.3 lets a client believe that it is connected before the server has refused its missing certificate.
    assert outcomes.pop("stranger") in (Outcome.TLS_ERROR, Outcome.INCOMPLETE)
    assert outcomes == {
        "trusting": Outcome.OK,
        "doubting": Outcome.TLS_ERROR,
        "blind": Outcome.OK,
        "friend": Outcome.OK,
    }


async def test_comparing_can_be_left_to_the_report(tmp_path: Path) -> None:
    async with Origin(answer(b"1")) as live, Origin(answer(b"2")) as shadow:
        for online in (True, False):
            values = {"live": {"url": live.url}, "shadows": {"s": {"url": shadow.url}}, "compare": {"online": online}}
            log = tmp_path / str(online)
            async with sidecar(log, **values) as running, await Caller.to(running.address) as caller:
                await caller.ask(GET)
            (told,) = read([log / "log"])
            assert isinstance(told, Record)
            assert (told.shadows["s"].judgement is not None) == online
            assert running.census().shadows[0].verdicts == ({Verdict.MISMATCH: 1} if online else {})
