"""The page on language models: its commands run one after the other, in front of two that stream."""

import json
import os
import re
import signal
import socket
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import ExitStack
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest

from shadowproxy import config

PAGE = (Path(__file__).parent.parent / "docs" / "tutorials" / "llm.md").read_text()
MARKED = re.compile(r"<!-- (run|run in the background|run: report) -->\n```sh\n(.*?)```", re.DOTALL)


class Model(BaseHTTPRequestHandler):
    """A server of chats that streams one fixed answer, as OpenAI's API does."""

    protocol_version = "HTTP/1.1"
    said: tuple[str, ...] = ()

    def do_GET(self) -> None:
        self.send_response(200)
        self.send_header("Content-Length", "0")
        self.end_headers()

    def do_POST(self) -> None:
        asked = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        self.server.asked.append((asked["model"], self.headers["Authorization"]))  # type: ignore[attr-defined]
        chunks: list[dict[str, Any]] = [
            {"choices": [{"index": 0, "delta": {"content": piece}, "finish_reason": None}]} for piece in self.said
        ]
        chunks.append({"choices": [{"index": 0, "delta": {}, "finish_reason": "stop"}]})
        events = [json.dumps({"id": "c", "object": "chat.completion.chunk", "model": "m", **each}) for each in chunks]
        body = "".join(f"data: {each}\n\n" for each in [*events, "[DONE]"]).encode()
        self.send_response(200)
        self.send_header("Content-Type", "text/event-stream")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, format: str, *args: object) -> None:
        """Standard error is the test runner's."""


def serving(*said: str) -> ThreadingHTTPServer:
    server = ThreadingHTTPServer(("127.0.0.1", 0), type("Model", (Model,), {"said": said}))
    server.asked = []  # type: ignore[attr-defined]
    threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True).start()
    return server


@pytest.fixture
def models() -> Iterator[tuple[ThreadingHTTPServer, ThreadingHTTPServer]]:
    live, candidate = serving("Bl", "ue."), serving("Gre", "en", ".")
    yield live, candidate
    for server in (live, candidate):
        server.shutdown()
        server.server_close()


def free_port() -> int:
    with socket.socket() as one:
        one.bind(("127.0.0.1", 0))
        port: int = one.getsockname()[1]
        return port


@pytest.mark.timing  # a late event loop sheds what is to be mirrored
@pytest.mark.slow
def test_the_commands_of_the_page_run_one_after_the_other(
    tmp_path: Path, models: tuple[ThreadingHTTPServer, ThreadingHTTPServer]
) -> None:
    live, candidate = models
    ports = {"9001": live.server_port, "9002": candidate.server_port, "8080": free_port()}

    def moved(text: str) -> str:
        return re.sub(r"127\.0\.0\.1:(\d+)", lambda found: f"127.0.0.1:{ports[found[1]]}", text)

    (example,) = re.findall(r"```yaml\n(.*?)```", PAGE, re.DOTALL)
    elsewhere = f"listen: 127.0.0.1:{ports['8080']}\nadmin: null\n"  # other programs may use the default addresses
    (tmp_path / "llm.yaml").write_text(moved(example) + elsewhere)
    config.load(tmp_path / "llm.yaml")
    environment = {name: value for name, value in os.environ.items() if "proxy" not in name.lower()}
    environment |= {"PATH": f"{Path(sys.executable).parent}{os.pathsep}{environment['PATH']}", "CANDIDATE_KEY": "own"}
    outputs: list[str] = []
    with ExitStack() as stack:
        for how, command in MARKED.findall(PAGE):
            line = moved(command)
            if how == "run in the background":
                running = stack.enter_context(
                    subprocess.Popen(
                        ["bash", "-euc", f"exec {line}"],
                        cwd=tmp_path,
                        env=environment,
                        stderr=subprocess.PIPE,
                        text=True,
                    )
                )
                stack.callback(running.send_signal, signal.SIGTERM)
                assert running.stderr is not None
                assert "listening on" in running.stderr.readline()
            else:
                done = subprocess.run(
                    ["bash", "-euc", line], cwd=tmp_path, env=environment, capture_output=True, text=True, timeout=60
                )
                assert done.returncode == (3 if how == "run: report" else 0), f"{line}\n{done.stdout}\n{done.stderr}"
                outputs.append(done.stdout)
    assert running.returncode == 0
    checked, asked, shown, reported = outputs
    assert "READY" in checked
    assert asked.endswith("data: [DONE]\n\n")
    assert "Blue." in shown
    assert "Green." in shown
    assert "mismatch 1" in reported
    assert (tmp_path / "report.html").exists()
    assert ("live-7b", None) in live.asked  # type: ignore[attr-defined]
    assert ("candidate-7b", "Bearer own") in candidate.asked  # type: ignore[attr-defined]
