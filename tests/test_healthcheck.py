"""`shadowproxy healthcheck`: what a supervisor learns of a sidecar, and how little it costs to ask."""

import asyncio
import contextlib
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from conftest import StartProxy
from inprocess import Sidecar

from shadowproxy import healthcheck

PROGRAM = [sys.executable, "-m", "shadowproxy", "healthcheck"]


@contextmanager
def answering(raw: bytes) -> Iterator[str]:
    """A server that answers one connection with these bytes."""
    with socket.create_server(("127.0.0.1", 0)) as server:

        def answer() -> None:
            connection, _ = server.accept()
            with connection:
                connection.recv(4096)
                connection.sendall(raw)

        thread = threading.Thread(target=answer)
        thread.start()
        yield f"127.0.0.1:{server.getsockname()[1]}"
        thread.join()


def admin_of(sidecar: Sidecar) -> str:
    assert sidecar.admin_address is not None
    host, port = sidecar.admin_address
    return f"{host}:{port}" if port else f"unix:{host}"


async def test_a_sidecar_that_takes_requests_on_is_ready(proxy: StartProxy) -> None:
    async with proxy(admin="127.0.0.1:0") as running:
        assert await asyncio.to_thread(healthcheck.run, ["--admin", admin_of(running.sidecar)]) == 0


async def test_an_admin_server_on_a_unix_socket_is_asked_there(proxy: StartProxy, tmp_path: Path) -> None:
    async with proxy(admin=f"unix:{tmp_path}/admin.sock") as running:
        assert await asyncio.to_thread(healthcheck.probe, admin_of(running.sidecar)) == 0


async def test_a_sidecar_that_is_stopping_is_not_ready(proxy: StartProxy, capsys: pytest.CaptureFixture[str]) -> None:
    async with proxy(admin="127.0.0.1:0") as running:
        running.sidecar.stop()
        assert await asyncio.to_thread(healthcheck.probe, admin_of(running.sidecar)) == 1
    assert "503" in capsys.readouterr().err


async def test_a_wildcard_is_asked_on_loopback(proxy: StartProxy) -> None:
    async with proxy(admin="127.0.0.1:0") as running:
        port = admin_of(running.sidecar).rpartition(":")[2]
        assert await asyncio.to_thread(healthcheck.probe, f"0.0.0.0:{port}") == 0


@pytest.mark.parametrize(
    "raw", [b"", b"HTTP/1.1 503 Service Unavailable\r\n\r\n", b"SSH-2.0-x 200\r\n", b"HTTP/1.1 2", b"200" * 50]
)
def test_anything_but_200_is_not_ready(raw: bytes, capsys: pytest.CaptureFixture[str]) -> None:
    with answering(raw) as address:
        assert healthcheck.probe(address) == 1
    assert capsys.readouterr().err.startswith(f"shadowproxy: not ready: {address} answers")


@pytest.mark.timing
def test_a_server_that_trickles_does_not_hold_it_up(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(healthcheck, "TIMEOUT", 0.2)
    gone = threading.Event()
    with socket.create_server(("127.0.0.1", 0)) as server:

        def trickle() -> None:
            connection, _ = server.accept()
            with connection, contextlib.suppress(OSError):
                while not gone.wait(0.05):
                    connection.sendall(b"H")

        thread = threading.Thread(target=trickle)
        thread.start()
        address = f"127.0.0.1:{server.getsockname()[1]}"
        began = time.monotonic()
        assert healthcheck.probe(address) == 1
        took = time.monotonic() - began
        gone.set()
        thread.join()
    assert took < 2, "64 bytes at this pace are 3.2 s"
    assert capsys.readouterr().err == f"shadowproxy: not ready: no answer from {address}: timed out\n"


@pytest.mark.parametrize("address", ["127.0.0.1:1", "unix:/nowhere/admin.sock", "9901", "127.0.0.1:http", "a:99999"])
def test_an_address_where_nobody_answers_is_one_line(address: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert healthcheck.probe(address) == 1
    said = capsys.readouterr().err
    assert said.startswith(f"shadowproxy: not ready: no answer from {address}: ")
    assert said.count("\n") == 1


async def test_a_file_says_where_the_admin_server_is(proxy: StartProxy, tmp_path: Path) -> None:
    async with proxy(admin="127.0.0.1:0") as running:
        file = tmp_path / "config.yaml"
        file.write_text(f"live: {{url: http://127.0.0.1:9001}}\nadmin: {admin_of(running.sidecar)}\n")
        done = await asyncio.create_subprocess_exec(*PROGRAM, "-c", str(file), stderr=asyncio.subprocess.PIPE)
        _, said = await done.communicate()
    assert (done.returncode, said) == (0, b"")


def test_a_file_without_an_admin_server_is_a_mistake(tmp_path: Path) -> None:
    file = tmp_path / "config.yaml"
    file.write_text("live: {url: http://127.0.0.1:9001}\nadmin: null\n")
    done = subprocess.run([*PROGRAM, "-c", file], capture_output=True, text=True)
    assert done.returncode == 2
    assert done.stderr == f"shadowproxy: {file}: admin is off, so there is no admin server to ask\n"


def test_words_that_need_help_are_left_to_the_command_line() -> None:
    for words in (["--help"], ["-c", "x"], ["--admin"], ["--admin", "--help"], ["--admin", "a:1", "more"]):
        assert healthcheck.run(words) is None


def test_asking_loads_neither_the_command_line_nor_the_sidecar() -> None:
    probe = "import sys; from shadowproxy import healthcheck; print(sorted(sys.modules))"
    loaded = subprocess.run([sys.executable, "-c", probe], capture_output=True, text=True, check=True).stdout
    for heavy in ("click", "yaml", "asyncio", "httpx", "pydantic", "uvicorn"):
        assert f"'{heavy}'" not in loaded


def best(*command: str) -> float:
    """Seconds from start to end, the best of ten: the others had to share the machine."""
    times = []
    for _ in range(10):
        begun = time.perf_counter()
        subprocess.run([sys.executable, *command], capture_output=True)
        times.append(time.perf_counter() - begun)
    return min(times)


@pytest.mark.timing
@pytest.mark.slow
@pytest.mark.parametrize("words", [("healthcheck", "--admin", "127.0.0.1:1"), ("--version",)])
def test_what_is_asked_over_and_over_costs_little_more_than_starting_python(words: tuple[str, ...]) -> None:
    """At most four times an interpreter that does nothing: a supervisor asks for ever."""
    assert best("-m", "shadowproxy", *words) <= 4 * best("-c", "pass")
