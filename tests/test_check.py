"""`check`: what is said of each endpoint, of the log and of what is sent to whom."""

import re
import socket
import ssl
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
import trustme

from shadowproxy import config
from shadowproxy.check import Finding, Findings, examine, lines
from shadowproxy.config import Config


@contextmanager
def listening(context: ssl.SSLContext | None = None) -> Iterator[int]:
    """A server that takes each connection, shakes hands where it has a context, and wants to be sent nothing else."""
    sent: list[bytes] = []
    with socket.create_server(("127.0.0.1", 0)) as server:

        def serve() -> None:
            while True:
                try:
                    connection, _ = server.accept()
                except OSError:
                    return
                try:
                    # Wrapping takes the socket over, and leaves a bare one to be closed here.
                    with context.wrap_socket(connection, server_side=True) if context else connection as peer:
                        peer.settimeout(5)
                        sent.append(peer.recv(1))
                except OSError:
                    connection.close()

        thread = threading.Thread(target=serve)
        thread.start()
        yield server.getsockname()[1]
        server.shutdown(socket.SHUT_RDWR)
        thread.join()
    assert not any(sent), "checking sends no request"


@pytest.fixture
def free_port() -> Iterator[int]:
    """A port that nobody listens on while the test runs: it is bound, and refuses."""
    with socket.socket() as bound:
        bound.bind(("127.0.0.1", 0))
        yield bound.getsockname()[1]


def of(tmp_path: Path, **values: object) -> Config:
    return config.from_values({"log": {"path": str(tmp_path / "log")}, **values})


def said(made: Config) -> tuple[Findings, str]:
    found = examine(made)
    return found, "\n".join(lines(made, found))


def test_what_is_within_reach_is_said_so(tmp_path: Path) -> None:
    with listening() as live, listening() as shadow:
        urls = {"live": {"url": f"http://127.0.0.1:{live}"}, "shadows": {"b": {"url": f"http://127.0.0.1:{shadow}"}}}
        found, text = said(of(tmp_path, **urls))
    assert found.sound
    assert len(re.findall(r"reached by TCP in \d+ ms", text)) == 2
    assert text.endswith("ready: all of it is within reach")


def test_what_is_out_of_reach_is_named(tmp_path: Path, free_port: int) -> None:
    with listening() as live:
        urls = {"live": {"url": f"http://127.0.0.1:{live}"}, "shadows": {"b": {"url": f"http://127.0.0.1:{free_port}"}}}
        found, text = said(of(tmp_path, **urls))
    assert not found.sound
    assert found.endpoints["live"].sound
    assert found.endpoints["b"].words == "out of reach: connection refused"
    assert text.endswith("not ready: b")


def test_a_name_that_nobody_knows_is_said_so(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def unknown(*args: object, **kwargs: object) -> None:
        raise socket.gaierror(socket.EAI_NONAME, "Name or service not known")

    monkeypatch.setattr(socket, "getaddrinfo", unknown)
    found = examine(of(tmp_path, live={"url": "http://model.invalid"}))
    assert found.endpoints["live"].words == "out of reach: the name model.invalid is not known"


def test_an_endpoint_that_stays_silent_is_given_up_in_time(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def silent(address: object, timeout: float) -> None:
        assert timeout == 0.25
        raise TimeoutError

    monkeypatch.setattr(socket, "create_connection", silent)
    found = examine(of(tmp_path, live={"url": "http://10.0.0.1", "connect_timeout": "250ms"}))
    assert found.endpoints["live"].words == "out of reach: no connection within 250 ms"


def test_a_certificate_is_judged_by_the_authority_that_the_config_names(tmp_path: Path) -> None:
    authority = trustme.CA()
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    authority.issue_cert("127.0.0.1").configure_cert(context)
    authority.cert_pem.write_to_path(tmp_path / "ca.pem")
    with listening(context) as port:
        url = f"https://127.0.0.1:{port}"
        shadows = {
            "trusted": {"url": url, "tls": {"ca": str(tmp_path / "ca.pem")}},
            "unverified": {"url": url, "tls": {"verify": False}},
            "distrusted": {"url": url},
        }
        found = examine(of(tmp_path, live={"respond": {}}, shadows=shadows)).endpoints
    assert found["trusted"].words.startswith("reached by TLSv1.3")
    assert found["unverified"].sound
    assert found["distrusted"].words.startswith("its certificate is not trusted: ")


def test_tls_to_a_server_that_speaks_none_is_said_so(tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:

        def greet() -> None:
            connection, _ = server.accept()
            with connection:
                connection.sendall(b"220 mail.example ESMTP\r\n")
                connection.recv(4096)

        thread = threading.Thread(target=greet)
        thread.start()
        found = examine(of(tmp_path, live={"url": f"https://127.0.0.1:{server.getsockname()[1]}"}))
        thread.join()
    assert found.endpoints["live"].words == "TLS failed: wrong version number"


def test_tls_files_that_hold_nothing_are_said_so(tmp_path: Path) -> None:
    (tmp_path / "empty.pem").touch()
    with listening() as port:
        live = {"url": f"https://127.0.0.1:{port}", "tls": {"ca": str(tmp_path / "empty.pem")}}
        found = examine(of(tmp_path, live=live))
    assert not found.endpoints["live"].sound
    assert "no certificate" in found.endpoints["live"].words


def test_a_fixed_answer_needs_no_reaching(tmp_path: Path) -> None:
    found, text = said(of(tmp_path, live={"respond": {}}))
    assert found.endpoints == {}
    assert "a fixed answer; no system is asked" in text


def test_the_logs_directory_is_judged_and_not_made(tmp_path: Path) -> None:
    found = examine(of(tmp_path, live={"respond": {}}))
    assert (found.log.sound, found.log.words) == (True, "will be made")
    assert not (tmp_path / "log").exists()


def test_a_log_path_that_is_a_file_is_not_ready(tmp_path: Path) -> None:
    (tmp_path / "log").touch()
    found, text = said(of(tmp_path, live={"respond": {}}))
    assert found.log.words == "is there and is no directory"
    assert text.endswith("not ready: log")


def test_a_log_path_beneath_a_file_is_not_ready(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    found = examine(config.from_values({"live": {"respond": {}}, "log": {"path": str(tmp_path / "file" / "log")}}))
    assert found.log.words.startswith("cannot be made")


def test_a_directory_that_may_not_be_written_is_not_ready(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("os.access", lambda path, mode: False)  # root may write anywhere, so permissions show nothing
    (tmp_path / "log").mkdir()
    assert examine(of(tmp_path, live={"respond": {}})).log.words == "a directory that cannot be written to"


def test_what_is_sent_to_whom_is_said_and_secrets_are_not(tmp_path: Path) -> None:
    shadow = {
        "url": "http://127.0.0.1:1/base",
        "percent": 12.5,
        "match": {"methods": ["POST", "PUT"], "paths": ["/v1/*"], "headers": {"X-Team": "search"}},
        "host": "preserve",
        "headers": {"set": {"Authorization": "Bearer hunter2"}, "remove": ["X-Trace"]},
        "rewrite": {"path": {"/v1/a": "/v2/a"}, "json": {"/model": "hunter2"}},
        "budget": {"requests": 1000, "duration": "2h"},
    }
    log = {"path": str(tmp_path), "bodies": "hash", "redact": {"json": ["/user"], "hash_key": "hunter2"}}
    values = {"live": {"respond": {}}, "shadows": {"b": shadow}, "log": log}
    _, text = said(config.from_values(values))
    for words in (
        "shadow      b: http://127.0.0.1:1/base",
        "12.5 % of requests, where the method is POST or PUT, the path is /v1/*, X-Team is search",
        "64 at once, 256 waiting, each within 30 s",
        "at most 1000 requests",
        "for 2 h",
        "the callers' credentials are held back",
        "Host: the one the caller sent",
        "headers set: Authorization",
        "headers removed: X-Trace",
        "rewritten: /v1/a becomes /v2/a, /model",
        "of bodies their length and SHA-256",
        "credentials as a keyed hash, and /user",
        "warning: shadows.b.headers.set.Authorization is a secret written into the file",
    ):
        assert words in text
    assert "hunter2" not in text


def test_a_shadow_that_is_sent_credentials_is_said_so(tmp_path: Path) -> None:
    values = {"url": "http://127.0.0.1:1", "forward_credentials": True, "percent": 0}
    _, text = said(of(tmp_path, live={"respond": {}}, shadows={"b": values}))
    assert "the callers' credentials are sent along (forward_credentials: true)" in text
    assert "no request" in text


def test_a_plain_configuration_is_told_on_less_than_a_screen() -> None:
    made = config.from_flags(live="http://a", shadows={"b": "http://b"})
    found = Findings({"live": Finding(True, "reached"), "b": Finding(True, "reached")}, Finding(True, "will be made"))
    assert (
        "\n".join(lines(made, found))
        == """\
listens on  127.0.0.1:8080

live        http://a
            reached
            every request as it came, credentials included
            given up after 1 m of silence

shadow      b: http://b
            reached
            100 % of requests
            64 at once, 256 waiting, each within 30 s
            the callers' credentials are held back

log         shadow-log: will be made
            bodies whole up to 256 KiB
            credentials blanked
            kept up to 10 GiB, for 30 d

ready: all of it is within reach"""
    )


def test_what_is_out_of_the_ordinary_has_its_words(tmp_path: Path) -> None:
    (tmp_path / "client.pem").touch()
    values = {
        "live": {"url": "https://127.0.0.1:1", "tls": {"cert": str(tmp_path / "client.pem")}},
        "control": {"percent": 2.5},
        "log": {"path": "-", "bodies": "none"},
    }
    text = "\n".join(lines(config.from_values(values), examine(config.from_values(values))))
    assert "asked a second time for 2.5 % of the mirrored requests" in text
    assert f"shows the certificate {tmp_path / 'client.pem'}" in text
    assert "log         standard output\n            of bodies their length\n" in text
    assert "kept" not in text


def test_standard_output_can_always_be_written() -> None:
    assert examine(config.from_values({"live": {"respond": {}}, "log": {"path": "-"}})).log.words == "standard output"
