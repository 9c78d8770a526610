"""Real servers of predictions as live and as shadow, in each of their forms, called by their own SDKs.

All serve the model of tests/parties/predictive/scores.py. The shadow's is another one for two requests
in ten; all others are answered by the same model.
"""

import json
import struct
import subprocess
import sysconfig
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx
import pytest
from parties import installed, programs
from parties.comparing import SHADOW, Compared, assert_same, comparing, differing, judged
from parties.installed import SOURCE
from parties.predictive.scores import BROKEN, UNKNOWN, scores

from shadowproxy.answers.reasons import reason_of
from shadowproxy.exchange import Outcome, Verdict
from shadowproxy.record import Record

MODELS = SOURCE / "predictive"
PLANTED = 0.5
Rows = list[list[float]]
Ask = Callable[[str, list[Rows]], list[Any]]
"""Asks a base URL for the scores of each request; None where the answer was an error."""


def rows(number: float) -> Rows:
    return [[number, 2.0, 3.0], [number / 2, 1.0, 0.25]]


ALIKE = [rows(float(number)) for number in range(40) if number % 10 not in (3, 7)]
ALL = [rows(float(number)) for number in range(200)]


@dataclass(frozen=True)
class Server:
    """How a server is started, by the Python of its environment; `ready` answers 200 once its model is loaded."""

    environment: str
    command: Callable[[Path, int], list[str]]
    ready: str


def mosec(python: Path, port: int) -> list[str]:
    return [str(python), str(MODELS / "mosec_model.py"), "--address", "127.0.0.1", "--port", str(port)]


def triton(python: Path, port: int) -> list[str]:
    others = [str(programs.free_port()), str(programs.free_port())]
    return [str(python), str(MODELS / "triton_model.py"), str(port), *others]


def bentoml(python: Path, port: int) -> list[str]:
    serve = [str(python.with_name("bentoml")), "serve", "bento_model:Scores", "--working-dir", str(MODELS)]
    return [*serve, "--host", "127.0.0.1", "--port", str(port)]


def kserve(python: Path, port: int) -> list[str]:
    return [str(python), str(MODELS / "kserve_model.py"), "--http_port", str(port), "--enable_grpc", "false"]


def gradio(python: Path, port: int) -> list[str]:
    return [str(python), str(MODELS / "gradio_model.py"), str(port)]


MOSEC = Server("mosec", mosec, "/")
TRITON = Server("triton", triton, "/v2/models/scores/ready")
BENTOML = Server("bentoml", bentoml, "/readyz")
KSERVE = Server("kserve", kserve, "/v2/models/scores/ready")
GRADIO = Server("gradio", gradio, "/gradio_api/info")


def posting(target: str, body: Callable[[Rows], Any], found: Callable[[httpx.Response], Any]) -> Ask:
    """By plain HTTP, with JSON."""

    def ask(url: str, requests: list[Rows]) -> list[Any]:
        with httpx.Client(base_url=url, timeout=30) as client:
            answers = [client.post(target, json=body(each)) for each in requests]
        return [found(each) if each.status_code == 200 else None for each in answers]

    return ask


def sdk(environment: str, name: str) -> Ask:
    def ask(url: str, requests: list[Rows]) -> list[Any]:
        command = [str(installed.python(environment)), str(MODELS / "ask.py"), name, url]
        asked = subprocess.run(
            command, input=json.dumps(requests), env=installed.environment(), capture_output=True, text=True,
            timeout=120, check=False,
        )  # fmt: skip
        assert asked.returncode == 0, asked.stderr[-4000:]
        return list(json.loads(asked.stdout.splitlines()[-1]))

    return ask


def packed(url: str, requests: list[Rows]) -> list[Any]:
    """msgpack, both ways. The answers are read by the program's own reader only in the log."""
    answers = []
    with httpx.Client(base_url=url, timeout=30) as client:
        for request in requests:
            values = b"".join(b"\x93" + b"".join(b"\xcb" + as_double(cell) for cell in row) for row in request)
            body = b"\x81\xa4rows" + bytes([0x90 + len(request)]) + values
            answer = client.post("/packed", content=body, headers={"Content-Type": "application/msgpack"})
            answers.append(... if answer.status_code == 200 else None)
    return answers


def as_double(number: float) -> bytes:
    return struct.pack(">d", number)


@dataclass(frozen=True)
class Party:
    """One way of asking one server.

    Attributes:
        places: where the planted difference is found.
        alike: whether two errors of it are equal: the tracebacks of pytriton name a folder with a random name.
    """

    server: Server
    ask: Ask
    places: list[str]
    alike: bool = True


PARTIES = {
    "mosec": Party(
        MOSEC,
        posting("/inference", lambda given: {"rows": given}, lambda answer: answer.json()["scores"]),
        ["/scores/1/1"],
    ),
    "mosec, msgpack": Party(MOSEC, packed, ["/scores/1/1"]),
    "BentoML": Party(BENTOML, sdk("bentoml", "bentoml"), ["/scores/1/1"]),
    "BentoML, array": Party(BENTOML, sdk("bentoml", "bentoml-array"), ["/1/1"]),
    "BentoML, table": Party(BENTOML, sdk("bentoml", "bentoml-table"), ["/1/high"]),
    "BentoML, stream": Party(BENTOML, posting("/pieces", lambda given: {"rows": given}, lambda answer: ...), ["/1/1"]),
    "KServe, v1": Party(
        KSERVE,
        posting(
            "/v1/models/scores:predict", lambda given: {"instances": given}, lambda answer: answer.json()["predictions"]
        ),
        ["/predictions/1/1"],
    ),
    "KServe, v2": Party(KSERVE, sdk("kserve", "kserve"), ["/outputs/0/data/3"]),
    "KServe, binary": Party(KSERVE, sdk("kserve", "kserve-binary"), ["/outputs/0/data/3"]),
    "gradio": Party(
        GRADIO,
        posting(
            "/gradio_api/run/scores", lambda given: {"data": [given]}, lambda answer: answer.json()["data"][0]["scores"]
        ),
        ["/data/0/scores/1/1"],
    ),
    "Triton": Party(TRITON, sdk("triton", "triton"), ["/outputs/0/data/3", "/outputs/2/data/3"], alike=False),
    "Triton, JSON": Party(TRITON, sdk("triton", "triton-json"), ["/outputs/1/data/3"], alike=False),
    "Triton, gzip": Party(
        TRITON, sdk("triton", "triton-gzip"), ["/outputs/0/data/3", "/outputs/2/data/3"], alike=False
    ),
}


@dataclass(frozen=True)
class Running:
    live: str
    shadow: str


@pytest.fixture(scope="module")
def running(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Running]:
    """The server twice, the second with what is planted."""
    server: Server = request.param
    python = installed.python(server.environment)
    directory = tmp_path_factory.mktemp(server.environment)
    environment = {
        "LD_LIBRARY_PATH": sysconfig.get_config_var("LIBDIR") or "",  # pytriton's stub loads this Python's library
        "BENTOML_DO_NOT_TRACK": "True",
        "BENTOML_HOME": str(directory / "bentoml"),
        "GRADIO_ANALYTICS_ENABLED": "False",
    }
    with ExitStack() as stack:
        urls = []
        for name, planted in (("live", "0"), ("shadow", str(PLANTED))):
            port = programs.free_port()
            url = f"http://127.0.0.1:{port}"
            command = server.command(python, port)
            output = directory / f"{name}.txt"
            stack.enter_context(programs.started(command, output, url=url, PLANTED=planted, **environment))
            wait_loaded(url + server.ready, output)
            urls.append(url)
        yield Running(*urls)


def wait_loaded(url: str, output: Path) -> None:
    until = time.monotonic() + programs.START_DEADLINE
    while True:
        try:
            if httpx.get(url, timeout=5).status_code == 200:
                return
        except httpx.TransportError:
            pass  # it does not listen yet
        assert time.monotonic() < until, output.read_text(errors="replace")[-4000:]
        time.sleep(0.2)


def every_party() -> pytest.MarkDecorator:
    return pytest.mark.parametrize(
        ("running", "party"),
        [
            pytest.param(each.server, each, id=name, marks=pytest.mark.parties_all(each.server.environment))
            for name, each in PARTIES.items()
        ],
        indirect=["running"],
        scope="module",
    )


def calls_in(compared: Compared) -> list[Record]:
    """The calls of the model: BentoML's SDK asks for the schema first."""
    return [each for each in compared.records if each.request.method == "POST"]


@every_party()
def test_the_same_model_twice_gives_matches_and_a_report_without_failures(
    running: Running, party: Party, tmp_path: Path
) -> None:
    requests = [*ALIKE, rows(UNKNOWN)]
    with comparing(tmp_path, running.live, running.shadow) as between:
        answers = party.ask(between.url, requests)
        compared = between.outcome()
    for request, answer in zip(requests, answers, strict=True):
        assert answer is not None
        if answer is not ... and request != rows(UNKNOWN):
            assert [pytest.approx(row, abs=1e-3) for row in scores(request)] == answer
    assert len(calls_in(compared)) == len(requests)
    assert_same(compared, len(compared.records))


@every_party()
def test_what_is_planted_is_found_at_its_place_and_in_the_report(
    running: Running, party: Party, tmp_path: Path
) -> None:
    with comparing(tmp_path, running.live, running.shadow) as between:
        assert None not in party.ask(between.url, ALL)
        compared = between.outcome()
    calls = calls_in(compared)
    assert len(calls) == len(ALL)
    for number, entry in enumerate(calls):
        leg = entry.shadows[SHADOW]
        assert (entry.live.outcome, entry.live.status, leg.outcome) == (Outcome.OK, 200, Outcome.OK)
        if number % 10 == 3:
            assert (judged(entry).verdict, differing(entry)) == (Verdict.MISMATCH, party.places)
        elif number % 10 == 7:
            assert (judged(entry).verdict, leg.status) == (Verdict.MISMATCH, 500)
        else:
            assert judged(entry).verdict is Verdict.MATCH
    assert compared.status == 1
    assert "errors" in compared.failed_checks()


@every_party()
def test_errors_are_errors_on_both_sides(running: Running, party: Party, tmp_path: Path) -> None:
    requests = [rows(BROKEN)] * 3
    with comparing(tmp_path, running.live, running.shadow) as between:
        assert party.ask(between.url, requests) == [None] * 3
        compared = between.outcome()
    calls = calls_in(compared)
    assert len(calls) == 3
    for entry in calls:
        leg = entry.shadows[SHADOW]
        assert reason_of(entry.live) == reason_of(leg)
        assert (entry.live.outcome, entry.live.status) == (leg.outcome, leg.status) == (Outcome.OK, 500)
        assert (entry.live.failed, leg.failed) == (None, None)
        assert judged(entry).verdict is (Verdict.MATCH if party.alike else Verdict.MISMATCH)
