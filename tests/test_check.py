"""`check`: what is found of each endpoint, of certificates, the log and the machine, and how it is put on a screen."""

import asyncio
import errno
import json
import re
import resource
import shutil
import socket
import ssl
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, NoReturn

import pytest
import trustme
from conftest import StartProxy
from fakes import NameServer, deaf_port, refusing_port
from test_cli import run

from shadowproxy import check as checking
from shadowproxy import config
from shadowproxy.check import GET, Findings, examine
from shadowproxy.check.certificates import dated, validity
from shadowproxy.check.endpoints import Probe
from shadowproxy.check.finding import Finding, Level, ok
from shadowproxy.check.machine import open_files, size
from shadowproxy.check.screen import WIDTH, lines
from shadowproxy.config import Config, load

OK, WARN, FAIL = Level.OK, Level.WARN, Level.FAIL
NOW = datetime.now(UTC)
ANSWER = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok"


@contextmanager
def serving(raw: bytes = ANSWER, context: ssl.SSLContext | None = None) -> Iterator[tuple[int, list[bytes]]]:
    """A server that answers a request with `raw`, or with nothing; its port, and what it was sent."""
    sent: list[bytes] = []
    with socket.create_server(("127.0.0.1", 0)) as server:

        def serve() -> None:
            while True:
                try:
                    connection, _ = server.accept()
                except OSError:
                    return
                connection.settimeout(5)
                try:
                    # Wrapping takes the socket over, and leaves a bare one to be closed here.
                    with context.wrap_socket(connection, server_side=True) if context else connection as peer:
                        if asked := peer.recv(65536):
                            sent.append(asked)
                            peer.sendall(raw)
                            peer.recv(1)
                except OSError:
                    connection.close()

        thread = threading.Thread(target=serve)
        thread.start()
        yield server.getsockname()[1], sent
        server.shutdown(socket.SHUT_RDWR)
        thread.join()


@pytest.fixture
def taken_port() -> Iterator[int]:
    """A port that is bound, and refuses connections."""
    with socket.socket() as bound:
        bound.bind(("127.0.0.1", 0))
        yield bound.getsockname()[1]


def of(tmp_path: Path, **values: object) -> Config:
    base: dict[str, object] = {
        "listen": "127.0.0.1:0",
        "admin": None,
        "live": {"respond": {}},
        "log": {"path": str(tmp_path / "log")},
    }
    return config.from_values({**base, **values})


def words(found: Findings, section: str) -> list[str]:
    return [f"{each.level.name} {each.words}" for each in found.of(section)]


def text_of(made: Config, found: Findings) -> str:
    return "\n".join(lines(made, found))


# --- endpoints -------------------------------------------------------------------------------------------------------


def test_each_step_up_to_an_answer_is_told_of(tmp_path: Path) -> None:
    with serving() as (port, sent):
        made = of(tmp_path, live={"url": f"http://localhost:{port}/v1"})
        found = examine(made, Probe("HEAD", "/ready"))
    named, connected, answered = words(found, "live")
    assert re.fullmatch(r"OK localhost is .*127\.0\.0\.1.* \(\d+ ms\)", named)
    assert re.fullmatch(rf"OK connected to 127\.0\.0\.1:{port} in \d+ ms", connected)
    assert re.fullmatch(r"OK HEAD /v1/ready: answered 200 OK in \d+ ms", answered)
    assert sent[0].startswith(b"HEAD /v1/ready HTTP/1.1\r\n")
    assert found.failed == []


def test_a_shadow_is_asked_as_the_mirror_would_ask_it(tmp_path: Path) -> None:
    with serving() as (port, sent):
        shadow = {"url": f"http://127.0.0.1:{port}", "headers": {"set": {"X-Key": "s3cret"}}}
        examine(of(tmp_path, shadows={"b": shadow}))
    assert b"\r\nX-Shadow-Request: b\r\n" in sent[0]
    assert b"\r\nX-Key: s3cret\r\n" in sent[0]


def test_no_request_is_sent_where_none_is_wanted(tmp_path: Path) -> None:
    with serving() as (port, sent):
        found = examine(of(tmp_path, live={"url": f"http://127.0.0.1:{port}"}), probe=None)
    assert len(found.of("live")) == 1
    assert sent == []


@pytest.mark.parametrize(
    ("status", "settings", "expected"),
    [
        (404, {}, "OK GET /: answered 404 Not Found"),
        (302, {}, "OK GET /: answered 302 Found"),
        (299, {}, "OK GET /: answered 299 in"),
        (503, {}, "WARN GET /: answered 503 Service Unavailable"),
        (401, {}, "WARN GET /: answered 401 Unauthorized"),
        (403, {"headers": {"set": {"Authorization": "x"}}}, "the configured ones are not accepted"),
        (403, {"headers": {"set": {"X-Upstream": "Basic dXNlcjpwYXNz"}}}, "the configured ones are not accepted"),
        (403, {"query": {"set": {"api_key": "x"}}}, "GET /: answered 403 Forbidden"),
        (403, {"query": {"set": {"api_key": "x"}}}, "the configured ones are not accepted"),
        (401, {"forward_credentials": True}, "callers' are forwarded"),
    ],
)
def test_any_status_is_an_answer_and_some_are_warned_of(
    tmp_path: Path, status: int, settings: dict[str, object], expected: str
) -> None:
    with serving(b"HTTP/1.1 %d X\r\nContent-Length: 0\r\n\r\n" % status) as (port, _):
        found = examine(of(tmp_path, shadows={"b": {"url": f"http://127.0.0.1:{port}", **settings}}))
    assert expected in words(found, "shadow b")[-1]
    assert found.failed == []


def test_live_that_wants_credentials_is_no_trouble(tmp_path: Path) -> None:
    with serving(b"HTTP/1.1 401 X\r\nContent-Length: 0\r\n\r\n") as (port, _):
        found = examine(of(tmp_path, live={"url": f"http://127.0.0.1:{port}"}))
    assert words(found, "live")[-1].startswith("OK GET /: answered 401 Unauthorized")
    assert "callers send theirs" in words(found, "live")[-1]


def test_what_is_out_of_reach_is_named(tmp_path: Path, taken_port: int) -> None:
    with serving() as (port, _):
        shadows = {"b": {"url": f"http://127.0.0.1:{taken_port}"}}
        made = of(tmp_path, live={"url": f"http://127.0.0.1:{port}"}, shadows=shadows)
        found = examine(made)
    assert words(found, "shadow b") == [f"FAIL cannot connect: 127.0.0.1:{taken_port}: connection refused"]
    assert found.failed == ["shadow b"]
    assert text_of(made, found).endswith("\n\nNOT READY: shadow b")


def test_a_name_that_nobody_knows_is_said_so(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def unknown(*args: object, **kwargs: object) -> None:
        raise socket.gaierror(socket.EAI_NONAME, "Name or service not known")

    monkeypatch.setattr(socket, "getaddrinfo", unknown)
    found = examine(of(tmp_path, live={"url": "http://model.invalid"}))
    assert words(found, "live") == ["FAIL the host name model.invalid cannot be resolved"]


def test_an_endpoint_that_takes_no_connection_is_given_up_in_time(tmp_path: Path) -> None:
    with deaf_port() as port:
        found = examine(of(tmp_path, live={"url": f"http://127.0.0.1:{port}", "connect_timeout": "250ms"}))
    assert words(found, "live") == [f"FAIL cannot connect: no answer from 127.0.0.1:{port} within 0.25 s"]


def test_every_address_of_a_name_is_tried_as_serve_spreads_over_all(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    server = NameServer(monkeypatch)
    live = {"url": "http://model.test", "connect_timeout": "100ms"}
    with serving() as (one, _), serving() as (two, _), deaf_port() as deaf, refusing_port() as refusing:

        def said(*addresses: tuple[str, int]) -> str:
            server.names["model.test"] = addresses
            name, connecting, *_ = words(examine(of(tmp_path, live=live)), "live")
            assert name.startswith("OK model.test is ")
            return re.sub(r" in [0-9]+ ms", "", connecting)

        assert said(("127.0.0.1", one), ("127.0.0.1", two)) == "OK connected to all 2 addresses"
        silence = f"no answer from 127.0.0.1:{deaf} within 0.1 s"
        refusal = f"127.0.0.1:{refusing}: connection refused"
        some = ("127.0.0.1", deaf), ("127.0.0.1", refusing), ("127.0.0.1", one)
        assert said(*some) == f"OK connected to 1 of 3 addresses; {silence}; {refusal}"
        # Beyond this machine it is a warning.
        unreachable = ("255.255.255.255", 80)
        assert said(("127.0.0.1", one), unreachable).startswith(
            "WARN connected to 1 of 2 addresses; 255.255.255.255:80: "
        )
        assert said(*some[:2]) == f"FAIL cannot connect: {silence}; {refusal}"


def test_an_endpoint_that_does_not_answer_is_given_up_in_time(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("shadowproxy.check.endpoints.PATIENCE", 0.1)
    with serving(b"") as (port, _):
        found = examine(of(tmp_path, live={"url": f"http://127.0.0.1:{port}"}))
    assert words(found, "live")[-1] == "FAIL GET /: no answer within 0.1 s"


def test_what_is_not_http_is_refused_as_serving_would_refuse_it(tmp_path: Path) -> None:
    with serving(b"220 mail.example ESMTP\r\n") as (port, _):
        found = examine(of(tmp_path, live={"url": f"http://127.0.0.1:{port}"}))
    assert words(found, "live")[-1].startswith("FAIL GET /: protocol_error: ")


@pytest.mark.timing
@pytest.mark.slow
def test_a_name_server_that_hangs_does_not_hold_up_the_rest(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    known = socket.getaddrinfo
    go_on = threading.Event()

    def hanging(host: Any, *args: Any, **kwargs: Any) -> Any:
        if host == "slow.example":
            go_on.wait(10)
        return known("127.0.0.1", *args, **kwargs)

    monkeypatch.setattr(socket, "getaddrinfo", hanging)
    with serving() as (port, _):
        shadows = {"slow": {"url": "http://slow.example:1"}, "b": {"url": f"http://127.0.0.1:{port}"}}
        began = time.monotonic()
        found = examine(of(tmp_path, shadows=shadows), GET, within=0.5)
        assert time.monotonic() - began < 5
        go_on.set()
    assert words(found, "shadow slow") == ["FAIL not finished within 0.5 s"]
    assert found.failed == ["shadow slow"]


# --- TLS and certificates --------------------------------------------------------------------------------------------


def issued(authority: trustme.CA, **more: Any) -> ssl.SSLContext:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    authority.issue_cert("127.0.0.1", **more).configure_cert(context)
    return context


def tls_of(tmp_path: Path, authority: trustme.CA) -> dict[str, object]:
    authority.cert_pem.write_to_path(tmp_path / "ca.pem")
    return {"ca": str(tmp_path / "ca.pem")}


def test_tls_and_the_certificate_shown_are_told_of(tmp_path: Path) -> None:
    authority = trustme.CA()
    ends = NOW + timedelta(days=90, hours=1)
    with serving(ANSWER, issued(authority, not_after=ends)) as (port, _):
        live = {"url": f"https://127.0.0.1:{port}", "tls": tls_of(tmp_path, authority)}
        ca, _, shaken, shown, answered = words(examine(of(tmp_path, live=live)), "live")
    assert ca.startswith(f"OK the authority {tmp_path / 'ca.pem'} is valid until ")
    assert re.fullmatch(r"OK TLS 1\.3 in \d+ ms", shaken)
    assert shown == f"OK its certificate is valid until {ends:%Y-%m-%d}, 90 days"
    assert "answered 200" in answered


def test_tls_that_fails_at_one_address_is_a_warning_as_serve_goes_on_to_the_next(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    server, authority, other = NameServer(monkeypatch), trustme.CA(), trustme.CA()
    monkeypatch.setattr("shadowproxy.check.endpoints.HANDSHAKE_AFTER", 0.2)
    monkeypatch.setattr("shadowproxy.check.endpoints.PATIENCE", 4.5)
    good, bad = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH), ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    authority.issue_cert("model.test").configure_cert(good)
    other.issue_cert("model.test").configure_cert(bad)
    live = {"url": "https://model.test", "tls": tls_of(tmp_path, authority)}
    with (
        serving(ANSWER, good) as (well, _),
        serving(ANSWER, bad) as (strange, _),
        socket.create_server(("127.0.0.1", 0)) as silent,
    ):
        quiet = silent.getsockname()[1]

        def said(*ports: int) -> list[str]:
            server.names["model.test"] = [("127.0.0.1", port) for port in ports]
            found = words(examine(of(tmp_path, live=live), None), "live")[3:]
            return [re.sub(r" in [0-9]+ ms", "", each) for each in found]

        shaken, dates, *warnings = said(quiet, strange, well)
        assert (shaken, dates[:22]) == ("OK TLS 1.3", "OK its certificate is ")
        refused = "its certificate is not accepted: unable to get local issuer certificate"
        assert warnings == [
            f"WARN 127.0.0.1:{quiet}: no TLS handshake within 1.5 s",
            f"WARN 127.0.0.1:{strange}: {refused}",
        ]
        assert said(strange, quiet)[0] == f"FAIL {refused}"


def test_a_certificate_that_soon_runs_out_is_warned_of(tmp_path: Path) -> None:
    authority = trustme.CA()
    with serving(ANSWER, issued(authority, not_after=NOW + timedelta(days=29, hours=1))) as (port, _):
        live = {"url": f"https://127.0.0.1:{port}", "tls": tls_of(tmp_path, authority)}
        found = examine(of(tmp_path, live=live))
    assert [each for each in words(found, "live") if each.startswith("WARN its") and "29 days only: renew it" in each]
    assert (found.failed, found.warned) == ([], 1)


def test_a_certificate_that_ran_out_fails_and_says_when(tmp_path: Path) -> None:
    authority = trustme.CA()
    began, ended = NOW - timedelta(days=40), NOW - timedelta(days=10, hours=1)
    with serving(ANSWER, issued(authority, not_before=began, not_after=ended)) as (port, _):
        tls = tls_of(tmp_path, authority)
        shadows = {
            "b": {"url": f"https://127.0.0.1:{port}", "tls": tls},
            "blind": {"url": f"https://127.0.0.1:{port}", "tls": {"verify": False}},
        }
        found = examine(of(tmp_path, shadows=shadows))
    assert words(found, "shadow b")[-2:] == [
        "FAIL its certificate is not accepted: certificate has expired",
        f"FAIL its certificate expired on {ended:%Y-%m-%d}, 10 days ago",
    ]
    assert f"WARN its certificate expired on {ended:%Y-%m-%d}, 10 days ago" in words(found, "shadow blind")
    assert any("any certificate accepted (verify: false)" in each for each in words(found, "shadow blind"))
    assert found.failed == ["shadow b"]


def test_a_certificate_of_an_authority_that_is_not_known_is_not_accepted(tmp_path: Path) -> None:
    with serving(ANSWER, issued(trustme.CA())) as (port, sent):
        found = examine(of(tmp_path, live={"url": f"https://127.0.0.1:{port}"}))
    assert words(found, "live")[1].startswith("FAIL its certificate is not accepted: ")
    assert sent == []


def test_tls_to_a_server_that_speaks_none_is_said_so(tmp_path: Path) -> None:
    with serving(b"220 mail.example ESMTP\r\n") as (port, _):
        found = examine(of(tmp_path, live={"url": f"https://127.0.0.1:{port}"}))
    assert words(found, "live")[-1] == (
        "FAIL TLS failed: wrong version number: it does not speak TLS at this port, or its url has to begin with http://"
    )


def test_a_server_that_speaks_only_http_2_over_tls_is_said_so(tmp_path: Path) -> None:
    with serving(b"\x15\x03\x01\0\2\2\x78") as (port, _):  # an alert: no_application_protocol
        found = examine(of(tmp_path, live={"url": f"https://127.0.0.1:{port}"}))
    told = words(found, "live")[-1]
    assert told.startswith(
        "FAIL TLS failed: tlsv1 alert no application protocol: it does not speak HTTP/1.1, only HTTP/2"
    )


def test_our_own_certificate_is_looked_at_in_its_file(tmp_path: Path) -> None:
    authority = trustme.CA()
    ours = authority.issue_cert("us@example.com", not_before=NOW - timedelta(2), not_after=NOW - timedelta(1))
    ours.private_key_and_cert_chain_pem.write_to_path(tmp_path / "ours.pem")
    with serving(ANSWER, issued(authority)) as (port, _):
        tls = {**tls_of(tmp_path, authority), "cert": str(tmp_path / "ours.pem")}
        found = examine(of(tmp_path, live={"url": f"https://127.0.0.1:{port}", "tls": tls}))
    assert words(found, "live")[0].startswith(f"FAIL our certificate {tmp_path / 'ours.pem'} expired on ")
    assert found.failed == ["live"]


def test_tls_files_that_hold_nothing_are_said_so(tmp_path: Path) -> None:
    (tmp_path / "empty.pem").touch()
    live = {"url": "https://127.0.0.1:1", "tls": {"ca": str(tmp_path / "empty.pem")}}
    first, second = words(examine(of(tmp_path, live=live)), "live")
    assert first == f"FAIL the authority {tmp_path / 'empty.pem'} holds no certificate in PEM form"
    assert second.startswith("FAIL the tls files cannot be used: ")


def test_a_certificate_that_is_garbled_is_said_so(tmp_path: Path) -> None:
    pem = trustme.CA().cert_pem.bytes().decode().splitlines(keepends=True)
    (tmp_path / "ca.pem").write_text("".join([pem[0], "AAAA" + pem[1][4:], *pem[2:]]))
    live = {"url": "https://127.0.0.1:1", "tls": {"ca": str(tmp_path / "ca.pem")}}
    last = words(examine(of(tmp_path, live=live)), "live")[-1]
    assert last == "FAIL the tls files cannot be used: one of them holds no usable certificate or key"


def test_a_certificate_whose_text_is_damaged_is_said_so_at_once(tmp_path: Path) -> None:
    (tmp_path / "ca.pem").write_text("-----BEGIN CERTIFICATE-----\nabc\n-----END CERTIFICATE-----\n")
    live = {"url": "https://127.0.0.1:1", "tls": {"ca": str(tmp_path / "ca.pem")}}
    first, *_ = words(examine(of(tmp_path, live=live)), "live")
    assert first.startswith(f"FAIL the authority {tmp_path / 'ca.pem'} is damaged: ")


def test_a_defect_in_looking_is_said_to_be_one(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(*_: object) -> NoReturn:
        raise KeyError("x")

    monkeypatch.setattr(checking, "endpoint", lambda *_: (broken() for _ in range(1)))
    found = words(examine(of(tmp_path, live={"url": "http://127.0.0.1:1"})), "live")
    assert found == ["FAIL a defect stopped this check: KeyError: 'x'"]


def test_a_bundle_with_an_old_authority_is_warned_of(tmp_path: Path) -> None:
    old = trustme.CA().issue_cert("a", not_before=NOW - timedelta(2), not_after=NOW - timedelta(1))
    (tmp_path / "ca.pem").write_bytes(trustme.CA().cert_pem.bytes() + old.cert_chain_pems[0].bytes())
    live = {"url": "https://127.0.0.1:1", "tls": {"ca": str(tmp_path / "ca.pem")}}
    assert words(examine(of(tmp_path, live=live)), "live")[0].startswith("WARN one of 2 certificates: ")


def test_a_certificate_of_tomorrow_fails_and_what_is_none_is_said_so() -> None:
    cert = trustme.CA().issue_cert("a", not_before=NOW + timedelta(1), not_after=NOW + timedelta(9))
    der = ssl.PEM_cert_to_DER_cert(cert.cert_chain_pems[0].bytes().decode())
    assert dated("it", der, NOW).level is FAIL
    assert dated("it", der[:60], NOW).level is WARN
    assert dated("it", b"\x30\x03\x30\x01\x00", NOW).level is WARN


@pytest.mark.parametrize("year", [2049, 2050])
def test_dates_are_read_in_both_of_their_forms(year: int) -> None:
    ends = datetime(year, 12, 31, 23, 59, 58, tzinfo=UTC)  # RFC 5280 section 4.1.2.5: the form changes with 2050
    pem = trustme.CA().issue_cert("a", not_after=ends).cert_chain_pems[0].bytes().decode()
    assert validity(ssl.PEM_cert_to_DER_cert(pem)).ends == ends


# --- the machine -----------------------------------------------------------------------------------------------------


def test_the_logs_directory_is_judged_and_not_made(tmp_path: Path) -> None:
    found = examine(of(tmp_path))
    assert words(found, "log")[0] == "OK will be created"
    assert not (tmp_path / "log").exists()


def test_a_log_path_that_is_a_file_or_beneath_one_fails(tmp_path: Path) -> None:
    (tmp_path / "log").touch()
    assert words(examine(of(tmp_path)), "log") == ["FAIL exists and is not a directory"]
    beneath = examine(of(tmp_path, log={"path": str(tmp_path / "log" / "below")}))
    assert words(beneath, "log")[0].startswith("FAIL cannot be created")
    assert beneath.failed == ["log"]


def test_a_directory_that_may_not_be_written_fails(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("os.access", lambda path, mode: False)  # root may write anywhere, so permissions show nothing
    (tmp_path / "log").mkdir()
    assert words(examine(of(tmp_path)), "log") == ["FAIL a directory that is not writable"]


def test_a_directory_beneath_one_that_may_not_be_searched_fails(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def denied(path: Path, **how: object) -> object:
        raise PermissionError(errno.EACCES, "Permission denied", str(path))

    configured = of(tmp_path)
    monkeypatch.setattr(Path, "is_dir", denied)  # root may search anything
    assert words(examine(configured), "log") == ["FAIL cannot be used: Permission denied"]


def test_a_working_directory_that_is_gone_fails(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "gone").mkdir()
    monkeypatch.chdir(tmp_path / "gone")
    (tmp_path / "gone").rmdir()
    found = examine(of(tmp_path, log={"path": "shadow-log"}))
    assert words(found, "log") == ["FAIL cannot be used: No such file or directory"]


@pytest.mark.parametrize(
    ("free", "held", "keep", "expected"),
    [
        (20 << 30, 0, "10GiB", "OK 20 GiB free; the log may grow to 10 GiB"),
        (
            9 << 30,
            0,
            "10GiB",
            "WARN 9 GiB free; the log may grow to 10 GiB: lower keep.size, or the disk may fill up first",
        ),
        ((3 << 30) - 4096, 4096, "3GiB", "OK 3 GiB free; the log may grow to 3 GiB, and has 4 KiB"),
        (1000, 0, "10GiB", "FAIL 1000 bytes free: the disk is full"),
        (9 << 30, 0, None, "OK 9 GiB free; the log may grow without limit (keep.size: null)"),
    ],
)
def test_free_space_is_held_against_what_is_kept(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, free: int, held: int, keep: str | None, expected: str
) -> None:
    (tmp_path / "log").mkdir()
    (tmp_path / "log" / "x.jsonl").write_bytes(b"x" * held)
    usage = shutil.disk_usage(tmp_path)
    monkeypatch.setattr(shutil, "disk_usage", lambda path: usage._replace(free=free))
    found = examine(of(tmp_path, log={"path": str(tmp_path / "log"), "keep": {"size": keep}}))
    assert words(found, "log") == ["OK a directory, writable", expected]


def test_standard_output_can_always_be_written(tmp_path: Path) -> None:
    assert words(examine(of(tmp_path, log={"path": "-"})), "log") == ["OK standard output"]


@pytest.mark.parametrize(("most", "level"), [(342, OK), (341, WARN), (resource.RLIM_INFINITY, OK)])
def test_the_limit_of_open_files_is_held_against_what_may_be_under_way(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, most: int, level: Level
) -> None:
    made = of(
        tmp_path, admin="127.0.0.1:0", limits={"in_flight": 100}, shadows={"b": {"url": "http://b", "in_flight": 10}}
    )
    monkeypatch.setattr(resource, "getrlimit", lambda which: (64, most))
    found = open_files(made)
    assert found.level is level
    assert found.words.startswith("up to 342 open files are needed" if level is WARN else "up to 342 needed")


def test_an_address_that_cannot_be_had_fails(tmp_path: Path) -> None:
    with serving() as (port, _):
        found = examine(of(tmp_path, listen=f"127.0.0.1:{port}"))
    assert words(found, "listen") == ["FAIL in use by another program"]
    assert found.failed == ["listen"]
    elsewhere = examine(of(tmp_path, listen="203.0.113.1:80"))
    assert words(elsewhere, "listen")[0].startswith("FAIL cannot listen there: ")


async def test_an_address_that_a_shadowproxy_has_is_no_trouble(proxy: StartProxy, tmp_path: Path) -> None:
    async with proxy(admin="127.0.0.1:0") as running:
        assert running.sidecar.admin_address is not None
        addresses = {
            "listen": "{}:{}".format(*running.sidecar.address),
            "admin": "{}:{}".format(*running.sidecar.admin_address),
        }
        found = await asyncio.to_thread(examine, of(tmp_path, **addresses))
    for section in ("listen", "admin"):
        assert words(found, section)[0].startswith("OK in use, and a shadowproxy answers at the admin address")


def test_a_unix_socket_is_free_unless_somebody_listens(tmp_path: Path) -> None:
    path = tmp_path / "s"

    def listen(path: Path) -> list[str]:
        return words(examine(of(tmp_path, listen=f"unix:{path}")), "listen")

    assert listen(path) == ["OK free"]
    with socket.socket(socket.AF_UNIX) as bound:
        bound.bind(str(path))
        bound.listen()
        assert listen(path) == ["FAIL in use by another program"]
    assert listen(path) == ["OK free: the socket there is a leftover"]
    path.unlink()
    path.touch()
    assert listen(path) == ["FAIL exists and is not a socket"]
    assert listen(Path("/nowhere/s")) == ["FAIL /nowhere is not a directory"]


@pytest.mark.parametrize(
    ("count", "text"),
    [(0, "0 bytes"), (1 << 10, "1 KiB"), (10 << 30, "10 GiB"), (1_500_000, "1.43 MiB"), (1023 << 20, "1023 MiB")],
)
def test_sizes_are_short(count: int, text: str) -> None:
    assert size(count) == text


# --- the screen ------------------------------------------------------------------------------------------------------


def test_a_plain_configuration_is_told_on_less_than_a_screen() -> None:
    made = config.from_values({"live": {"url": "http://a"}, "shadows": {"b": {"url": "http://b"}}})
    found = Findings(
        {
            "listen": (ok("free"),),
            "live": (ok("a is 10.0.0.1 (2 ms)"), ok("connected")),
            "shadow b": (Finding(WARN, "connected " * 12 + "at last"),),
            "log": (ok("will be created"),),
            "open files": (ok("up to 3,032 needed, the limit is 20,000"),),
        }
    )
    assert (
        text_of(made, found)
        == """\
listen      127.0.0.1:8080
  ok        free
admin       127.0.0.1:9901

live        http://a
  ok        a is 10.0.0.1 (2 ms)
  ok        connected
            gets every request unchanged, credentials included
            a request fails after 10 m without a byte from it

shadow      b: http://b
  warn      connected connected connected connected connected connected
            connected connected connected connected connected connected at last
            gets 100 % of requests
            repeats GET, HEAD, POST and OPTIONS requests, so changes by POST are
            made again; not PUT, PATCH or DELETE
            64 at once, 256 waiting, each 30 s at most
            callers' credentials are removed, also from the query

log         shadow-log
  ok        will be created
            records whole bodies up to 256 KiB
            credentials blanked
            keeps files up to 10 GiB, for 30 d

open files
  ok        up to 3,032 needed, the limit is 20,000

READY, with 1 warning"""
    )


def test_what_is_sent_to_whom_is_said_and_secrets_are_not(tmp_path: Path) -> None:
    shadow = {
        "url": "http://127.0.0.1:1/base",
        "percent": 12.5,
        "match": {
            "methods": ["POST", "PUT"],
            "paths": ["/v1/*"],
            "headers": {"X-Team": "search", "X-Api-Key": "hunter2"},
        },
        "host": "preserve",
        "headers": {"set": {"Authorization": "Bearer hunter2"}, "remove": ["X-Trace"]},
        "query": {"set": {"api_key": "hunter2", "v": "2"}, "remove": ["debug", "trace"]},
        "rewrite": {"path": {"/v1/a": "/v2/a"}, "json": {"/model": "hunter2"}},
        "budget": {"requests": 1000, "duration": "2h"},
    }
    log = {"path": str(tmp_path), "bodies": "hash", "redact": {"json": ["/user"], "hash_key": "hunter2"}}
    made = of(tmp_path, shadows={"b": shadow}, log=log)
    text = text_of(made, examine(made))
    assert all(len(line) <= WIDTH for line in text.splitlines() if str(tmp_path) not in line)
    flowing = " ".join(text.split())
    for said in (
        "shadow b: http://127.0.0.1:1/base",
        "gets 12.5 % of requests, where the method is POST or PUT, the path is /v1/*, X-Team is search, "
        "X-Api-Key is [redacted]",
        "64 at once, 256 waiting, each 30 s at most",
        "at most 1000 requests",
        "for 2 h",
        "callers' credentials are removed, also from the query",
        "Host: the one the caller sent",
        "headers set: Authorization",
        "headers removed: X-Trace",
        "query parameters set: api_key, v",
        "query parameters removed: debug, trace",
        "rewritten: /v1/a becomes /v2/a, /model",
        "records the length and SHA-256 of bodies",
        "credentials as a keyed hash, also /user",
        "warning shadows.b.headers.set.Authorization is a secret written into the file",
        "warning shadows.b.query.set.api_key is a secret written into the file",
    ):
        assert said in flowing
    assert "hunter2" not in text


def test_what_a_shadow_is_matched_by_is_no_place_for_secrets_to_be_seen(tmp_path: Path) -> None:
    file = tmp_path / "config.yaml"
    file.write_text("""
live: {url: http://127.0.0.1:1, host: "${HOST}"}
shadows:
  b:
    url: http://127.0.0.1:1
    match: {headers: {Authorization: "*hunter2*", X-Tenant: "${TENANT}", X-Team: search}}
    rewrite: {path: {/a: "${SECRET_PATH}"}}
""")
    made = load(file, {"HOST": "hunter2.example", "TENANT": "hunter2", "SECRET_PATH": "/hunter2"})
    flowing = " ".join(text_of(made, Findings({})).split())
    assert "Authorization is [redacted], X-Tenant is [redacted], X-Team is search" in flowing
    assert "Host: [redacted]" in flowing
    assert "/a becomes [redacted]" in flowing
    assert "hunter2" not in flowing


def test_what_is_out_of_the_ordinary_has_its_words(tmp_path: Path) -> None:
    (tmp_path / "client.pem").touch()
    values: dict[str, object] = {
        "live": {"url": "https://127.0.0.1:1", "tls": {"cert": str(tmp_path / "client.pem")}},
        "control": {"percent": 2.5},
        "shadows": {"b": {"url": "http://127.0.0.1:1", "forward_credentials": True, "percent": 0}},
        "log": {"path": "-", "bodies": "none"},
    }
    text = text_of(of(tmp_path, **values), Findings({}))
    assert "gets 2.5 % of the mirrored requests a second time" in text
    assert f"our certificate: {tmp_path / 'client.pem'}" in " ".join(text.split())
    assert "log\n            records the length of bodies\n" in text
    assert "admin       off" in text
    assert "gets no request" in text
    assert "callers' credentials are forwarded (forward_credentials: true)" in text
    assert "kept" not in text
    shared = of(tmp_path, workers=4, shadows={"b": {"url": "http://b"}})
    assert "64 at once, 256 waiting for each of 4 workers, each 30 s at most" in text_of(shared, Findings({}))
    assert "live        a fixed answer, no system behind it" in text_of(of(tmp_path), Findings({}))


@pytest.mark.slow
def test_the_exit_status_says_whether_it_will_work(tmp_path: Path, taken_port: int) -> None:
    file = tmp_path / "config.yaml"
    values = {"listen": "127.0.0.1:0", "admin": None, "log": {"path": str(tmp_path / "log")}}
    with serving() as (port, sent):
        shadows = {"b": {"url": f"http://localhost:{port}"}}
        file.write_text(json.dumps({**values, "live": {"url": f"http://127.0.0.1:{port}"}, "shadows": shadows}))
        done = run("check", "-c", file, "--method", "options", "--path", "/health")
        assert (done.returncode, done.stderr) == (0, "")
        assert re.search(r"\n\nREADY(, with 1 warning)?\n\Z", done.stdout)  # a small disk is warned of
        assert "\x1b" not in done.stdout
        assert sent[0].startswith(b"OPTIONS /health ")
        sent.clear()
        assert run("check", "-c", file, "--no-request").returncode == 0
        assert sent == []
    file.write_text(json.dumps({**values, "live": {"url": f"http://127.0.0.1:{taken_port}"}}))
    done = run("check", "-c", file)
    assert done.returncode == 1
    assert done.stdout.endswith("\n\nNOT READY: live\n")
    assert run("check", "-c", file, "--path", "no-slash").returncode == 2
