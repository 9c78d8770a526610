"""Real model servers as live and as shadow of the real program.

Both close an idle connection after 5.0 s, and MLServer closes one unannounced after a model's exception. None of it may
reach the next caller.
"""

import http.client
import json
import select
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Self
from urllib.parse import urlsplit

import pytest
from parties import installed, programs
from parties.installed import SERVERS, SOURCE

from shadowproxy.exchange import Outcome, Verdict

pytestmark = pytest.mark.soak


@dataclass(frozen=True)
class ModelServer:
    """How a model server is started, and what it is asked: `good` is answered with 200, `bad` with `refusal`."""

    start: Callable[[ExitStack, Path], str]
    target: str
    good: Callable[[int], Any]
    bad: bytes
    refusal: int


def litserve(stack: ExitStack, directory: Path) -> str:
    port = programs.free_port()
    command = [str(SERVERS), str(SOURCE / "litserve_model.py"), str(port)]
    url = f"http://127.0.0.1:{port}"
    return stack.enter_context(programs.started(command, directory / f"litserve-{port}.txt", url=url)).url


def mlserver(stack: ExitStack, directory: Path) -> str:
    ports = {name: programs.free_port() for name in ("HTTP", "GRPC", "METRICS")}
    command = [str(SERVERS.with_name("mlserver")), "start", str(SOURCE / "mlserver")]
    url = f"http://127.0.0.1:{ports['HTTP']}"
    environment = {f"MLSERVER_{name}_PORT": str(port) for name, port in ports.items()}
    output = directory / f"mlserver-{ports['HTTP']}.txt"
    return stack.enter_context(programs.started(command, output, url=url, **environment)).url


def values(number: int) -> list[float]:
    return [float(number + step) for step in range(number % 7 + 1)]


def infer(number: int) -> dict[str, Any]:
    """A request of the Open Inference Protocol. An ID of its own would make the two servers' answers differ."""
    data = values(number)
    tensor = {"name": "x", "shape": [1, len(data)], "datatype": "FP64", "data": data}
    return {"id": f"r{number}", "inputs": [tensor]}


SERVERS_BY_NAME = {
    "LitServe": ModelServer(litserve, "/predict", lambda number: {"values": values(number)}, b'{"values": "x"}', 500),
    "MLServer": ModelServer(mlserver, "/v2/models/sum/infer", infer, b'{"inputs": []}', 500),
}


Answer = tuple[int, dict[str, str], bytes]


class Connection:
    """A caller's connection, kept. Owns it; use as `with`."""

    def __init__(self, url: str) -> None:
        self._connection = http.client.HTTPConnection(urlsplit(url).netloc, timeout=30)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._connection.close()

    def ask(self, target: str, body: bytes) -> Answer:
        headers = {"Content-Type": "application/json", "Accept-Encoding": "gzip"}
        self._connection.request("POST", target, body, headers)
        answer = self._connection.getresponse()
        fields = {name.lower(): value for name, value in answer.getheaders()}
        return answer.status, fields, answer.read()

    @property
    def open(self) -> bool:
        """Whether the server is still there: what it sent unasked would be an answer to nobody."""
        readable = self._connection.sock and select.select([self._connection.sock], [], [], 0)[0]
        return not readable


@dataclass
class Running:
    server: ModelServer
    live: str
    proxy: programs.Proxy
    asked: list[int] = field(default_factory=list)  # the status of each answer that came through the proxy

    def good(self, connection: Connection, number: int) -> int:
        return self._ask(connection, json.dumps(self.server.good(number)).encode())

    def bad(self, connection: Connection) -> int:
        return self._ask(connection, self.server.bad)

    def _ask(self, connection: Connection, body: bytes) -> int:
        status = connection.ask(self.server.target, body)[0]
        self.asked.append(status)
        return status


@pytest.fixture(scope="module", params=SERVERS_BY_NAME)
def running(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Running]:
    installed.check()
    server = SERVERS_BY_NAME[request.param]
    directory = tmp_path_factory.mktemp("servers")
    with ExitStack() as stack:
        live, shadow = server.start(stack, directory), server.start(stack, directory)
        for url in (live, shadow):
            wait_loaded(server, url)
        proxy = stack.enter_context(programs.proxy(directory / "proxy", {"url": live}, shadow))
        yield Running(server, live, proxy)


def wait_loaded(server: ModelServer, url: str) -> None:
    """A model server accepts before its model is loaded."""
    until = time.monotonic() + programs.START_DEADLINE
    status = 0
    while status != 200:
        assert time.monotonic() < until, f"the model at {url} answers {status}"
        time.sleep(0.1)
        with Connection(url) as connection:
            status = connection.ask(server.target, json.dumps(server.good(0)).encode())[0]


def test_the_answers_are_the_model_servers_own(running: Running) -> None:
    bodies = [json.dumps(running.server.good(number)).encode() for number in range(40)] + [running.server.bad]
    with Connection(running.live) as straight, Connection(running.proxy.url) as proxied:
        for body in bodies:
            status, fields, content = straight.ask(running.server.target, body)
            through_status, through, through_content = proxied.ask(running.server.target, body)
            running.asked.append(through_status)
            assert (through_status, through_content) == (status, content)
            assert through.pop("x-request-id")
            assert through | {"date": ""} == fields | {"date": ""}
        assert status == running.server.refusal
        assert running.good(proxied, 1) == 200


def test_an_error_of_one_caller_never_reaches_the_next(running: Running) -> None:
    def ask(_: int) -> list[int]:
        with Connection(running.proxy.url) as connection:
            return [running.bad(connection) if turn % 2 else running.good(connection, turn) for turn in range(30)]

    with ThreadPoolExecutor(8) as callers:
        for statuses in callers.map(ask, range(8)):
            assert statuses == [200, running.server.refusal] * 15


def test_a_caller_who_was_idle_as_long_as_live_keeps_connections_is_answered(running: Running) -> None:
    def ask(pause: float) -> list[int]:
        with Connection(running.proxy.url) as connection:
            first = running.good(connection, 3)
            time.sleep(pause)
            assert connection.open
            return [first, running.good(connection, 4)]

    pauses = [3.9, 3.98, 4.0, 4.02, 4.5, 4.9, 4.95, 4.98, 4.99, 5.0, 5.01, 5.02, 5.05, 5.1, 5.5, 6.0]
    with ThreadPoolExecutor(len(pauses)) as callers:
        assert list(callers.map(ask, pauses)) == [[200, 200]] * len(pauses)


def test_each_request_is_one_record_with_the_shadows_answer(running: Running) -> None:
    """The last test of a server: it stops the proxy."""
    records = running.proxy.records()
    assert sorted(running.asked) == sorted(entry.live.status or 0 for entry in records)
    assert len(records) > 250
    for entry in records:
        shadow = entry.shadows["challenger"]
        assert (entry.live.outcome, shadow.outcome, shadow.status) == (Outcome.OK, Outcome.OK, entry.live.status)
        assert shadow.judgement is not None
        if entry.live.status == 200:
            assert shadow.judgement.verdict is Verdict.MATCH
