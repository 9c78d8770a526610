"""The log shippers' files that can be run here are: a real shipper reads a real sidecar's log to a collector."""

import asyncio
import json
import signal
import socket
import subprocess
import sys
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Self

import pytest

from shadowproxy.demo.client import send_all
from shadowproxy.demo.flights import flights
from ship.engine import ROOT, SHIP

pytestmark = pytest.mark.soak

FILES = ROOT / "deploy/logshipping"
REQUESTS = 1500
SEGMENTS = 4
LIBRARIES = ("usr/lib/x86_64-linux-gnu", "usr/lib/syslog-ng", "lib/x86_64-linux-gnu")
CONFIG = """
listen: 127.0.0.1:0
admin: null
live: {{respond: {{json: {{predictions: ["late"]}}}}}}
log: {{path: {log}, rotate: {{size: 256KiB}}, compress: none}}
"""


class Collector:
    """Where the shippers' lines arrive; use as a context manager."""

    def __init__(self) -> None:
        self.lines: Counter[bytes] = Counter()
        self._server = socket.create_server(("127.0.0.1", 0))
        self.port = self._server.getsockname()[1]
        self._threads = [threading.Thread(target=self._accept, daemon=True)]

    def __enter__(self) -> Self:
        self._threads[0].start()
        return self

    def __exit__(self, *_: object) -> None:
        self._server.shutdown(socket.SHUT_RDWR)
        self._server.close()
        for thread in self._threads:
            thread.join(10)

    def _accept(self) -> None:
        while True:
            try:
                connection, _ = self._server.accept()
            except OSError:
                return
            thread = threading.Thread(target=self._read, args=(connection,), daemon=True)
            self._threads.append(thread)
            thread.start()

    def _read(self, connection: socket.socket) -> None:
        with connection, connection.makefile("rb") as stream:
            for line in stream:
                self.lines[line] += 1


@contextmanager
def serving(log: Path) -> Iterator[str]:
    """The program with a live system that is a fixed answer, and a log of small segments in `log`."""
    config = log.with_name("config.yaml")
    config.write_text(CONFIG.format(log=log))
    words = [sys.executable, "-m", "shadowproxy", "serve", "-c", str(config)]
    with subprocess.Popen(words, stderr=subprocess.PIPE, text=True) as process:
        assert process.stderr is not None
        line = next(line for line in process.stderr if "listening on" in line)
        drained = threading.Thread(target=process.stderr.read)
        drained.start()
        try:
            yield line.split("listening on ")[1].split(",")[0]
        finally:
            process.send_signal(signal.SIGTERM)
            assert process.wait(30) == 0
            drained.join()


def written(log: Path) -> Counter[bytes]:
    return Counter(line for file in log.glob("*.jsonl*") for line in file.read_bytes().splitlines(keepends=True))


def rsyslog(place: Path) -> list[str | Path]:
    modules = SHIP / "root/usr/lib/x86_64-linux-gnu/rsyslog"
    return ["rsyslogd", "-n", "-f", place / "rsyslog.conf", "-i", place / "pid", "-M", modules]


def syslog_ng(place: Path) -> list[str | Path]:
    modules = SHIP / "root/usr/lib/syslog-ng/3.38"
    state = [f"--{name}={place}/{name}" for name in ("persist-file", "control", "pidfile")]
    return ["syslog-ng", "--foreground", f"--cfgfile={place}/syslog-ng.conf", f"--module-path={modules}", *state]


@pytest.mark.parametrize("shipper", [rsyslog, syslog_ng])
def test_a_shipper_with_the_shipped_file_delivers_every_record_once(
    shipper: Callable[[Path], list[str | Path]], tools: Mapping[str, str], tmp_path: Path
) -> None:
    log, state = tmp_path / "shadow-log", tmp_path / "state"
    log.mkdir()
    state.mkdir()
    words = shipper(tmp_path)
    name = next(word for word in map(str, words) if word.endswith(".conf")).rpartition("/")[2]
    with Collector() as collector, serving(log) as url:
        shipped = (FILES / name).read_text()
        for given, here in {
            "/var/lib/shadowproxy/shadow-log": log,
            "/var/lib/rsyslog": state,
            "/var/lib/syslog-ng": state,
            "logs.example.org": "127.0.0.1",
            "5170": collector.port,
        }.items():
            shipped = shipped.replace(given, str(here))
        (tmp_path / name).write_text(shipped)
        libraries = ":".join(str(SHIP / "root" / each) for each in LIBRARIES)
        with (tmp_path / "said.txt").open("wb") as said:
            process = subprocess.Popen(
                words, env={**tools, "LD_LIBRARY_PATH": libraries}, stdout=said, stderr=said, stdin=subprocess.DEVNULL
            )
        try:
            asyncio.run(send_all(url, flights(REQUESTS), lambda: None))
            until = time.monotonic() + 30
            while collector.lines.total() < REQUESTS:
                told = (tmp_path / "said.txt").read_text()
                assert process.poll() is None, told
                assert time.monotonic() < until, f"{collector.lines.total()} lines came: {told}"
                time.sleep(0.1)
            time.sleep(1)  # what comes twice comes now
        finally:
            process.terminate()
            process.wait(15)
    assert len(list(log.glob("*.jsonl*"))) >= SEGMENTS
    assert collector.lines == written(log)
    assert len({json.loads(line)["record"] for line in collector.lines}) == REQUESTS
