"""The program uploads to moto's S3 server, which refuses, fails and is slow: each record is there once."""

import http.client
import json
import os
import re
import signal
import socket
import subprocess
import sys
import threading
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest
import zstandard

ROOT = Path(__file__).parent.parent
MOTO = ROOT / ".parties" / "store" / "bin" / "moto_server"
BODY = b'{"label": "a", "score": 0.5}'


def free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as probe:
        return int(probe.getsockname()[1])


def wait_until(condition: Callable[[], bool], within: float = 30.0) -> None:
    deadline = time.monotonic() + within
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.05)


def answers(url: str) -> bool:
    try:
        with urllib.request.urlopen(url, timeout=2):
            return True
    except OSError:
        return False


def got(url: str) -> bytes:
    """What moto has; it takes any signature."""
    credential = "Credential=A/20261130/us-east-1/s3/aws4_request, SignedHeaders=host, Signature=0"
    signed = urllib.request.Request(url, headers={"Authorization": f"AWS4-HMAC-SHA256 {credential}"})
    with urllib.request.urlopen(signed) as answer:
        content: bytes = answer.read()
    return content


@contextmanager
def served(handler: type[BaseHTTPRequestHandler]) -> Iterator[int]:
    server = ThreadingHTTPServer(("127.0.0.1", 0), handler)
    server.daemon_threads = True
    thread = threading.Thread(target=server.serve_forever, args=(0.02,))
    thread.start()
    try:
        yield server.server_port
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


@pytest.fixture(scope="module")
def moto() -> Iterator[int]:
    port = free_port()
    with subprocess.Popen(
        [MOTO, "-H", "127.0.0.1", "-p", str(port)], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
    ) as process:
        try:
            wait_until(lambda: answers(f"http://127.0.0.1:{port}/moto-api/"))
            made = urllib.request.Request(f"http://127.0.0.1:{port}/logs", method="PUT")
            urllib.request.urlopen(made).close()
            yield port
        finally:
            process.kill()


class Front:
    """Passes requests on to moto, or answers as `mode` says: a status, "pass", or "slow": it never ends a PUT."""

    def __init__(self, moto: int) -> None:
        self.mode: int | str = "pass"
        self.puts = 0
        front = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def log_message(self, *_: object) -> None:
                pass

            def handle_one_request(self) -> None:
                try:
                    super().handle_one_request()
                except (ConnectionError, ValueError):
                    self.close_connection = True

            def pass_on(self) -> None:
                body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
                front.puts += self.command == "PUT"
                if isinstance(front.mode, int):
                    self.reply(front.mode, [], b"<Error><Code>AccessDenied</Code></Error>")
                    return
                while front.mode == "slow":
                    time.sleep(0.05)
                onward = http.client.HTTPConnection("127.0.0.1", moto)
                onward.request(self.command, self.path, body, dict(self.headers))
                answer = onward.getresponse()
                self.reply(answer.status, answer.getheaders(), answer.read())
                onward.close()

            def reply(self, status: int, fields: list[tuple[str, str]], body: bytes) -> None:
                self.send_response(status)
                length = next((value for name, value in fields if name.lower() == "content-length"), str(len(body)))
                for name, value in fields:
                    if name.lower() not in ("content-length", "transfer-encoding", "connection", "date", "server"):
                        self.send_header(name, value)
                self.send_header("Content-Length", length if self.command == "HEAD" else str(len(body)))
                self.end_headers()
                if self.command != "HEAD":
                    self.wfile.write(body)

            do_GET = do_HEAD = do_PUT = do_POST = do_DELETE = pass_on

        self.handler = Handler


class Model(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def log_message(self, *_: object) -> None:
        pass

    def do_POST(self) -> None:
        self.rfile.read(int(self.headers.get("Content-Length", 0)))
        self.send_response(200)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(BODY)))
        self.end_headers()
        self.wfile.write(BODY)


def ask(port: int, count: int) -> None:
    """Send requests one after the other; each must get live's answer."""
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=5)
    for number in range(count):
        connection.request("POST", "/predict", json.dumps({"n": number}), {"Content-Type": "application/json"})
        answer = connection.getresponse()
        assert (answer.status, answer.read()) == (200, BODY)
    connection.close()


def metric(admin: int, name: str) -> float:
    text = urllib.request.urlopen(f"http://127.0.0.1:{admin}/metrics").read().decode()
    found = re.search(rf"^shadowproxy_upload_{name} (\S+)$", text, re.MULTILINE)
    assert found is not None
    return float(found[1])


def uploaders(directory: Path) -> list[int]:
    """The processes that upload, of the program that writes this log: they work for a recorder with it open."""
    found = []
    for process in Path("/proc").glob("[0-9]*"):
        try:
            if b"shadowproxy.serve.upload.work" not in (process / "cmdline").read_bytes():
                continue
            parent = int((process / "stat").read_text().rpartition(")")[2].split()[1])
            opened = [os.readlink(each) for each in Path(f"/proc/{parent}/fd").iterdir()]
        except OSError:
            continue
        if any(each.startswith(str(directory)) for each in opened):
            found.append(int(process.name))
    return found


def shadowproxy(*words: object, env: dict[str, str]) -> "subprocess.CompletedProcess[bytes]":
    command = [sys.executable, "-m", "shadowproxy", *map(str, words)]
    return subprocess.run(command, env=env, capture_output=True, timeout=60)


@pytest.mark.soak
def test_each_record_is_once_in_the_store_whatever_it_did_meanwhile(moto: int, tmp_path: Path) -> None:
    directory, front = tmp_path / "log", Front(moto)
    with served(front.handler) as store, served(Model) as model:
        port, admin = free_port(), free_port()
        (tmp_path / "config.yaml").write_text(
            f"listen: 127.0.0.1:{port}\n"
            f"admin: 127.0.0.1:{admin}\n"
            f"live: {{url: 'http://127.0.0.1:{model}'}}\n"
            f"shadows: {{twin: {{url: 'http://127.0.0.1:{model}'}}}}\n"
            "compare: {ignore: [/nothing]}\n"
            f"log: {{path: {directory}, rotate: {{every: 1s}}, upload: {{to: 's3://logs/dt={{date}}/'}}}}\n"
        )
        env = {
            **os.environ,
            "AWS_ENDPOINT_URL": f"http://127.0.0.1:{store}",
            "AWS_ACCESS_KEY_ID": "A",
            "AWS_SECRET_ACCESS_KEY": "B",
            "AWS_REGION": "us-east-1",
        }

        @contextmanager
        def program() -> Iterator[None]:
            command = [sys.executable, "-m", "shadowproxy", "serve", "-c", str(tmp_path / "config.yaml")]
            with subprocess.Popen(command, env=env, stderr=subprocess.DEVNULL) as process:
                try:
                    wait_until(lambda: answers(f"http://127.0.0.1:{admin}/readyz"))
                    yield
                    process.send_signal(signal.SIGTERM)
                    assert process.wait(20) == 0
                finally:
                    process.kill()

        for status in (403, 500):
            front.mode = status
            with program():
                ask(port, 30)
                wait_until(lambda: metric(admin, "failures_total") > 0)
                ask(port, 10)
                assert metric(admin, "waiting") > 0
                assert metric(admin, "segments_total") == 0

        front.mode, front.puts = "slow", 0
        with program():
            ask(port, 30)
            wait_until(lambda: front.puts > 0)
            ask(port, 10)
            (working,) = uploaders(directory)
            os.kill(working, signal.SIGKILL)
            wait_until(lambda: metric(admin, "failures_total") > 0)
            front.mode = "pass"
        # What the stop had no time for is sent at the next start.
        with program():
            wait_until(lambda: metric(admin, "waiting") == 0 and not uploaders(directory))

        here = {path.name: path.read_bytes() for path in directory.glob("*.jsonl.zst")}
        listed = got(f"http://127.0.0.1:{moto}/logs?list-type=2").decode()
        keys = re.findall(r"<Key>([^<]+)</Key>", listed)
        there = {
            key.rpartition("/")[2]: got(f"http://127.0.0.1:{moto}/logs/{key}") for key in keys if key.endswith(".zst")
        }
        assert there == here
        lines = [
            line
            for content in there.values()
            for line in zstandard.ZstdDecompressor().decompressobj().decompress(content).splitlines()
        ]
        assert len(lines) == len({json.loads(line)["record"] for line in lines}) == 120
        assert {f"{name}.summary.json" for name in there} == {
            key.rpartition("/")[2] for key in keys if key.endswith(".json")
        }

        rules = ("--json", "-c", tmp_path / "config.yaml")
        from_store = shadowproxy("report", "s3://logs/", *rules, env=env)
        from_here = shadowproxy("report", directory, *rules, env=env)
        assert (from_store.returncode, from_store.stdout) == (from_here.returncode, from_here.stdout)
        assert json.loads(from_here.stdout)["log"]["records"] == 120
        said = f"read the summaries beside {len(there)} of {len(there)} segments"
        assert from_store.stderr.decode() == f"shadowproxy: {said}\n"
