"""The demo: its model is scikit-learn's, its flights are real, and it finds out what it promises to find out."""

import asyncio
import json
import os
import re
import shutil
import signal
import socket
import subprocess
import sys
from collections import Counter
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import httpx
import pytest
from logs import answer, failed, record
from rich.console import Console

from shadowproxy.demo import client, flights, model, place, rule, run, server, verify
from shadowproxy.demo.client import CallerResponse
from shadowproxy.demo.flights import LATE, ON_TIME, Flight
from shadowproxy.exchange import Outcome, Verdict
from shadowproxy.lines import Unreadable
from shadowproxy.record import Judgement

REFERENCE = json.loads(Path(__file__).with_name("data").joinpath("flights_reference.json").read_bytes())
INSTANCE = REFERENCE[0]["instance"]


needs_curl = pytest.mark.skipif(shutil.which("curl") is None, reason="the demo's commands use curl")


@pytest.fixture(scope="module")
def gbm() -> model.Model:
    return model.load()


def asked() -> Iterator[dict[str, Any]]:
    return (json.loads(flight.body)["instances"][0] for flight in flights.flights())


# --- the model -----------------------------------------------------------------------------------------------------


def test_the_trees_give_the_probabilities_of_scikit_learn(gbm: model.Model) -> None:
    assert len(REFERENCE) == 259
    for case in REFERENCE:
        assert gbm.probability(case["instance"]) == pytest.approx(case["probability"], abs=1e-12, rel=0)


def test_the_reference_reaches_every_tree_and_both_answers(gbm: model.Model) -> None:
    assert {gbm.late(case["instance"]) for case in REFERENCE} == {True, False}
    for tree in gbm.trees:
        rows = [[gbm._number(name, case["instance"][name]) for name in gbm.features] for case in REFERENCE]
        assert len({model.leaf(tree, row) for row in rows}) > 1


def test_a_number_on_the_threshold_goes_below() -> None:
    assert [model.leaf([0, 1.5, -1.0, 1.0], [x]) for x in (1.4, 1.5, 1.6)] == [-1.0, -1.0, 1.0]


def test_a_word_that_training_never_saw_goes_below_every_one_it_saw() -> None:
    parts = {"features": ["dest"], "categories": {"dest": ["ATL", "BOS"]}, "baseline": 0.0}
    asks = model.model_from({**parts, "trees": [[0, -0.5, -2.0, [0, 0.5, 0.0, 2.0]]]})
    odds = [asks.probability({"dest": dest}) for dest in ("XXX", "ATL", "BOS")]
    assert odds == sorted(odds)
    assert odds[1] == 0.5


@pytest.mark.parametrize(("log_odds", "probability"), [(0, 0.5), (-1000, 0.0), (1000, 1.0)])
def test_a_probability_does_not_overflow(log_odds: float, probability: float) -> None:
    assert model.sigmoid(log_odds) == probability


def test_the_figures_of_the_documentation_hold_on_the_shipped_flights(gbm: model.Model) -> None:
    labels = flights.labels()
    counts = Counter[tuple[bool, bool]]()
    for flight, instance in zip(flights.flights(), asked(), strict=True):
        late = labels[flight.id] == LATE
        counts[rule.departed_late(instance) == late, gbm.late(instance) == late] += 1
    assert counts == {(True, True): 4553, (True, False): 73, (False, True): 126, (False, False): 248}


# --- the flights ---------------------------------------------------------------------------------------------------


def test_the_flights_are_5000_of_september_in_order_and_each_has_a_label() -> None:
    shipped = flights.flights()
    assert len({flight.id for flight in shipped}) == len(shipped) == flights.SAMPLE == 5000
    days = [(instance["month"], instance["day"]) for instance in asked()]
    assert days == sorted(days)
    assert set(days) == {(9, day) for day in range(1, 31)}
    assert {flight.id for flight in shipped} == set(flights.labels())
    assert set(flights.labels().values()) == {LATE, ON_TIME}


def test_fewer_flights_are_still_spread_over_the_month() -> None:
    chosen = flights.flights(60)
    assert len({flight.id for flight in chosen}) == 60
    assert len({flight.id[:10] for flight in chosen}) == 30


# --- the servers ---------------------------------------------------------------------------------------------------


async def asking(body: bytes) -> httpx.Response:
    transport = httpx.ASGITransport(server.build(rule.departed_late, "departed-late"))
    async with httpx.AsyncClient(transport=transport, base_url="http://live") as asks:
        return await asks.post("/invocations", content=body)


async def test_a_server_answers_in_the_order_asked_and_names_itself_in_the_head() -> None:
    delays = [15, 16, -3]
    answered = await asking(json.dumps({"instances": [{**INSTANCE, "dep_delay": delay} for delay in delays]}).encode())
    assert answered.json() == {"predictions": [ON_TIME, LATE, ON_TIME]}
    assert answered.headers["x-model"] == "departed-late"


@pytest.mark.parametrize(
    ("body", "says"),
    [
        (b"{", "Expecting"),
        (b"[]", "instances"),
        (b'{"instances": 1}', "instances"),
        (b'{"instances": [1]}', "instance 0 is not an object"),
        (json.dumps({"instances": [INSTANCE, {}]}).encode(), "instance 1: month must be a whole number"),
        (json.dumps({"instances": [{**INSTANCE, "dep_delay": True}]}).encode(), "dep_delay must be a whole number"),
        (json.dumps({"instances": [{**INSTANCE, "carrier": 7}]}).encode(), "carrier must be a word"),
    ],
)
async def test_a_server_refuses_what_it_would_have_to_guess_about(body: bytes, says: str) -> None:
    answered = await asking(body)
    assert answered.status_code == 400
    assert says in answered.json()["error"]


WAYS = ["--live", "http://127.0.0.1:1", "--shadow", "gbm=http://127.0.0.1:2"]  # nothing is asked of them


@pytest.mark.timing
@pytest.mark.slow
@pytest.mark.parametrize(
    "module",
    [
        ["shadowproxy.demo.server", "live"],
        ["shadowproxy", "serve", *WAYS, "--listen", "127.0.0.1:0", "--log", "-"],
    ],
)
def test_a_server_on_the_leash_ends_when_whoever_started_it_is_gone(module: list[str]) -> None:
    command = [sys.executable, "-m", "shadowproxy.demo.leash", *module]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stderr=subprocess.PIPE) as process:
        try:
            assert process.stdin is not None
            assert process.stderr is not None
            assert b"listening on" in process.stderr.readline()
            process.stdin.close()
            assert process.wait(timeout=20) in (0, -signal.SIGTERM)
        finally:
            process.kill()


@pytest.mark.slow
@pytest.mark.parametrize(
    ("program", "says", "status"),
    [(["shadowproxy", "demo"], "shadowproxy: ", 2), (["shadowproxy.demo.server"], "", 1)],
    ids=["command", "module"],
)
def test_a_server_whose_port_is_taken_says_so_in_one_line(program: list[str], says: str, status: int) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = str(taken.getsockname()[1])
        command = [sys.executable, "-m", *program, "live", "--port", port]
        ended = subprocess.run(command, capture_output=True, text=True, timeout=20)
    assert ended.stderr == (
        f"{says}cannot listen on 127.0.0.1:{port}: the address is in use; choose another with --port\n"
    )
    assert ended.returncode == status


@pytest.mark.slow
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_server_started_by_hand_answers_the_demo_s_callers_and_ends_with_status_0(number: signal.Signals) -> None:
    program = [sys.executable, "-m", "shadowproxy", "demo"]
    with subprocess.Popen([*program, "shadow", "--port", "0"], stderr=subprocess.PIPE, text=True) as process:
        try:
            assert process.stderr is not None
            found = re.match(
                r"listening on (http://127\.0\.0\.1:\d+)  shadow, boosted trees", process.stderr.readline()
            )
            assert found is not None
            sent = subprocess.run([*program, "caller", found[1], "--requests", "40"], capture_output=True, text=True)
            assert sent.stdout == f"sent 40 flights to {found[1]}, answered: 40 with 200\n"
            assert sent.returncode == 0
            process.send_signal(number)
            assert process.wait(timeout=20) == 0
            assert process.stderr.read() == ""
        finally:
            process.kill()


# --- the callers ---------------------------------------------------------------------------------------------------


@asynccontextmanager
async def answering(*answers: bytes) -> AsyncIterator[tuple[str, list[bytes]]]:
    """A server that gives these answers, one a connection, and closes it; and the heads of the requests that it got."""
    waiting, heads = list(answers), list[bytes]()

    async def answer_one(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        heads.append(await reader.readuntil(b"\r\n\r\n"))
        await reader.readexactly(2)
        writer.write(waiting.pop(0))
        await writer.drain()
        writer.close()

    server = await asyncio.start_server(answer_one, "127.0.0.1", 0)
    async with server:
        yield f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}", heads


CLOSING = b"HTTP/1.1 200 OK\r\nX-Two: 1\r\nConnection: close\r\nContent-Length: 2\r\nx-two:  2\r\n\r\n{}"
ASKED = [Flight("flight-1", b"{}"), Flight("flight-2", b"[]")]


async def test_a_caller_takes_an_answer_as_it_is_and_connects_again_where_it_was_closed(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(client, "CALLERS", 1)
    counted: list[None] = []
    async with answering(CLOSING, CLOSING.replace(b"200", b"503")) as (url, heads):
        answers = await client.send_all(f"{url}/base/", ASKED, lambda: counted.append(None))
    assert [answer.status for answer in answers] == [200, 503]
    assert answers[0].body == b"{}"
    fields = [(b"x-two", b"1"), (b"connection", b"close"), (b"content-length", b"2"), (b"x-two", b"2")]
    assert list(answers[0].fields) == fields
    assert len(counted) == 2
    assert heads[1].startswith(b"POST /base/invocations HTTP/1.1\r\nHost: 127.0.0.1:")
    assert b"\r\nX-Request-ID: flight-2\r\n" in heads[1]


@pytest.mark.parametrize(
    ("answer", "says"),
    [
        (b"", "broken off"),
        (CLOSING[:-1], "broken off"),
        (CLOSING.replace(b"Content-Length: 2", b"A: 2"), "has no Content-Length"),
        (b"220 mail.example ESMTP\r\n\r\n", "has no Content-Length"),
        (b"x" * 100_000, "broken off"),
    ],
)
async def test_an_answer_that_cannot_be_taken_is_told_in_one_line(answer: bytes, says: str) -> None:
    async with answering(answer) as (url, _):
        with pytest.raises(client.NoAnswer, match=says):
            await client.send_all(url, ASKED[:1], lambda: None)


async def test_nobody_at_the_address_is_told_in_one_line() -> None:
    with pytest.raises(client.NoAnswer, match=r"^Connection refused$"):
        await client.send_all("http://127.0.0.1:1", ASKED, lambda: None)


async def test_callers_speak_http_only() -> None:
    with pytest.raises(ValueError, match="https://localhost"):
        await client.send_all("https://localhost", ASKED, lambda: None)


async def test_flights_are_sent_no_faster_than_the_rate() -> None:
    loop = asyncio.get_running_loop()
    begun = loop.time()
    async with answering(CLOSING, CLOSING) as (url, _):
        await client.send_all(url, ASKED, lambda: None, rate=20)
    assert loop.time() - begun >= 0.05


# --- what is verified ----------------------------------------------------------------------------------------------

FLIGHT = Flight("flight-1", b"{}")
DIRECT = CallerResponse(200, ((b"x-model", b"m"), (b"content-length", b"2")), b"{}")
THROUGH = replace(DIRECT, fields=(*DIRECT.fields, (b"x-request-id", b"flight-1")))


def test_an_answer_that_adds_only_the_request_id_is_live_s_own() -> None:
    assert list(verify.unequal([FLIGHT], [THROUGH], [DIRECT])) == []


@pytest.mark.parametrize(
    ("through", "fault"),
    [
        (replace(THROUGH, status=201), "status 201"),
        (replace(THROUGH, body=b"{} "), "body b'{} '"),
        (replace(THROUGH, fields=THROUGH.fields[1:]), "header fields"),
        (replace(THROUGH, fields=THROUGH.fields[1::-1] + THROUGH.fields[2:]), "header fields"),
        (replace(THROUGH, fields=(*THROUGH.fields, (b"x-model", b"m"))), "header fields"),
        (replace(THROUGH, fields=DIRECT.fields), "lacks the request ID"),
        (replace(THROUGH, fields=(*DIRECT.fields, (b"x-request-id", b"2"))), "lacks the request ID"),
    ],
)
def test_an_answer_that_is_not_live_s_own_is_found_out(through: CallerResponse, fault: str) -> None:
    found = list(verify.unequal([FLIGHT], [through], [DIRECT]))
    assert len(found) == 1
    assert fault in found[0]


def test_a_request_that_is_not_in_the_log_exactly_once_is_found_out() -> None:
    asked = [Flight(f"id-{number}", b"{}") for number in (1, 2, 3)]
    logged = [record(number, answer()) for number in (1, 3, 3, 4)]
    assert list(verify.unlogged(asked, [*logged, Unreadable("a.jsonl", 7, "torn")])) == [
        "a.jsonl, line 7: torn",
        "id-2: 0 times in the log",
        "id-3: 2 times in the log",
        "id-4: 1 times in the log, but was never sent",
    ]


def test_scores_count_only_the_flights_that_both_answered() -> None:
    late, on_time = answer({"predictions": [LATE]}), answer({"predictions": [ON_TIME]})
    records = [
        record(1, late, gbm=late),
        record(2, late, gbm=on_time),
        record(3, on_time, gbm=late),
        record(4, late, gbm=failed(Outcome.TIMEOUT)),
        record(5, late),
        record(6, late, gbm=answer({"error": "no"}, status=400)),
        record(7, late, gbm=answer([LATE])),
        record(8, late, gbm=late),
    ]
    labels = {f"id-{number}": LATE for number in range(1, 8)} | {"id-2": ON_TIME}
    assert verify.scores(records, "gbm", labels) == verify.Scores(
        flights=3, live_right=1, shadow_right=3, differing=2, only_shadow_right=2
    )


def test_a_shadow_that_answered_nothing_is_said_to_have_no_score() -> None:
    scores = verify.scores([record(1, answer({"predictions": [LATE]}))], "gbm", {"id-1": LATE})
    assert "No flight was answered by both" in str(scores)


def test_only_a_mismatch_is_an_answer_that_differs() -> None:
    judged = [answer()._replace(judgement=Judgement(verdict)) for verdict in Verdict]
    assert [each.judgement for each in judged if verify.differs(each)] == [Judgement(Verdict.MISMATCH)]
    assert not verify.differs(answer())
    assert not verify.differs(None)


# --- the whole -----------------------------------------------------------------------------------------------------


@contextmanager
def demo(*arguments: str, cwd: Path) -> Iterator[subprocess.Popen[str]]:
    """The demo as a user starts it. Killed at the end, should it still run."""
    command = [sys.executable, "-m", "shadowproxy", "demo", *arguments]
    streams = {"stdin": subprocess.DEVNULL, "stdout": subprocess.PIPE, "stderr": subprocess.PIPE}
    with subprocess.Popen(command, cwd=cwd, env={**os.environ, "TMPDIR": str(cwd)}, text=True, **streams) as process:  # type: ignore[call-overload]
        try:
            yield process
        finally:
            process.kill()


def listening(url: str) -> bool:
    host, port = url.removeprefix("http://").split(":")
    with socket.socket() as trying:
        return trying.connect_ex((host, int(port))) == 0


@pytest.mark.slow
def test_the_demo_ends_with_a_report_and_commands_that_work(tmp_path: Path) -> None:
    with demo("--requests", "200", "--dir", "here", cwd=tmp_path) as process:
        out, err = process.communicate(timeout=60)
    assert (process.returncode, err) == (0, "")
    assert "Sent through the proxy: 200 of 200" in out
    assert "All 200 answers are live's own, byte for byte, each request is in the log once." in out
    assert re.search(r"match 19\d, mismatch \d", out)
    assert "How the 200 flights really arrived: live was right about" in out
    assert (tmp_path / "here" / "labels.csv").read_text().startswith("id,label\n2013-09-01-")
    assert "accuracy" in (tmp_path / "here" / "report.html").read_text()

    assert re.search(r"^The verdict on gbm: NO[A-Z ]+: .+\. Latency is shown and not judged", out, re.MULTILINE)

    commands = out.partition("What to try next:\n")[2].splitlines()
    assert len(commands) == 3
    assert commands.pop().endswith("shadowproxy demo --keep")
    for command in commands:
        ended = subprocess.run(command, shell=True, cwd=tmp_path, capture_output=True, text=True, timeout=30)
        assert ended.stderr == ""
        assert ended.returncode == (3 if " report " in command else 0)  # 200 requests are too few
    assert not [url for url in re.findall(r"http://127\.0\.0\.1:\d+", out) if listening(url)]


@pytest.mark.slow
@needs_curl
def test_a_demo_that_is_kept_answers_until_ctrl_c_and_then_ends_with_status_0(tmp_path: Path) -> None:
    with demo("--requests", "100", "--dir", "a b", "--keep", cwd=tmp_path) as process:
        assert process.stdout is not None
        out = ""
        while "The servers stay up until Ctrl-C." not in out:
            out += process.stdout.readline()
        urls = set(re.findall(r"http://127\.0\.0\.1:\d+", out))
        assert len(urls) == 4  # with the proxy's own page
        *_, asks, shows, reports = out.partition("What to try next:\n")[2].strip().splitlines()[:3]
        answers = []
        for command in (asks, shows, reports):
            ended = subprocess.run(command, shell=True, cwd=tmp_path, capture_output=True, text=True, timeout=30)
            assert ended.stderr == ""
            answers.append(ended.stdout)
        assert answers[0] == '{"predictions":["on time"]}'
        assert "my-flight" in answers[1]
        assert answers[2].startswith("101 requests")
        process.send_signal(signal.SIGINT)
        out, err = process.communicate(timeout=40)
    assert (process.returncode, err) == (0, "")
    assert out.endswith("Stopped, with all servers.\n")
    assert not [url for url in urls if listening(url)]


@pytest.mark.slow
def test_a_demo_whose_reader_leaves_stops_all_and_says_nothing(tmp_path: Path) -> None:
    with demo("--dir", "here", cwd=tmp_path) as process:
        assert process.stdout is not None
        assert process.stderr is not None
        urls = [found for _ in range(3) for found in re.findall(r"^\w+ +(http\S+)", process.stdout.readline())]
        process.stdout.close()
        assert process.wait(timeout=40) == 141
        assert process.stderr.read() == ""
    assert len(urls) == 3
    assert not [url for url in urls if listening(url)]


@pytest.mark.slow
def test_the_whole_demo_s_options_are_refused_for_a_part_of_it() -> None:
    command = [sys.executable, "-m", "shadowproxy", "demo", "--keep", "live"]
    ended = subprocess.run(command, capture_output=True, text=True, timeout=20)
    assert (ended.returncode, ended.stdout) == (2, "")
    assert "--requests, --dir and --keep are of the whole demo" in ended.stderr


@pytest.mark.slow
@pytest.mark.skipif(shutil.which("make") is None, reason="needs make")
@pytest.mark.parametrize(
    ("lacks", "says"),
    [
        ("ensurepip", "cannot make environments; on Debian and Ubuntu: apt install python3-venv"),
        ("version_info", "is not Python 3.11 or newer"),
    ],
)
def test_a_python_that_cannot_be_used_is_one_line_that_says_what_to_install(
    tmp_path: Path, lacks: str, says: str
) -> None:
    python = tmp_path / "python"
    python.write_text(f'#!/bin/sh\ncase "$*" in *{lacks}*) exit 1;; esac\n')
    python.chmod(0o755)
    for name in ("Makefile", "pyproject.toml", "constraints.txt"):
        shutil.copy(Path(__file__).parent.parent / name, tmp_path)
    (tmp_path / "shadowproxy").mkdir()
    environment = {name: value for name, value in os.environ.items() if not name.startswith("MAKE")}
    ended = subprocess.run(
        ["make", "demo", f"PYTHON={python}"], cwd=tmp_path, env=environment, capture_output=True, text=True, timeout=60
    )
    said = ended.stderr.splitlines()
    assert said[0] == f"make: {python} {says}"
    assert len(said) == 2  # make's own last word is the other
    assert ended.returncode == 2
    assert ended.stdout == ""


@pytest.mark.slow
@pytest.mark.parametrize(("number", "status"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_a_signal_stops_all_that_the_demo_started(tmp_path: Path, number: signal.Signals, status: int) -> None:
    with demo(cwd=tmp_path) as process:
        assert process.stdout is not None
        said = ""
        while "Sent through the proxy: 1,000" not in said:
            said += process.stdout.readline()
        urls = set(re.findall(r"http://127\.0\.0\.1:\d+", said))
        assert len(urls) == 3
        assert all(listening(url) for url in urls)
        process.send_signal(number)
        _, err = process.communicate(timeout=40)
    assert process.returncode == status
    assert len(err.splitlines()) == 1
    assert "stopped" in err
    assert not [url for url in urls if listening(url)]


@pytest.mark.slow
def test_a_demo_that_cannot_write_where_it_stands_writes_elsewhere(tmp_path: Path) -> None:
    (tmp_path / "shadow-demo").write_text("a file, so that no directory can be made of that name")
    with demo("--requests", "1", cwd=tmp_path) as process:
        out, _ = process.communicate(timeout=60)
    assert process.returncode == 0
    found = re.search(r"^cannot write to shadow-demo/.*, so the log goes to (.+)$", out, re.MULTILINE)
    assert found is not None
    assert any(Path(found[1], "log").glob("[!.]*"))


def test_a_demo_with_faults_tells_the_first_and_fails(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    directory = place.directory_at(tmp_path)
    directory.log.mkdir()
    answers = run.DemoAnswers([FLIGHT], [replace(THROUGH, status=500)], [DIRECT], proxy_status=-9)
    assert run._report(Console(width=120), directory, answers) == 1
    printed = [line for line in capsys.readouterr().out.splitlines() if line.startswith(("Fault", "3 faults"))]
    assert printed == [
        "Fault: flight-1: status 500, live's own is 200",
        "Fault: flight-1: 0 times in the log",
        "Fault: the proxy ended with exit status -9",
        f"3 faults in all. The servers' output is in {tmp_path}.",
    ]


def test_a_directory_in_use_is_refused_in_one_line(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "mine").touch()
    assert run.run(requests=1, directory=tmp_path) == 2
    assert capsys.readouterr().err == (
        f"shadowproxy: {tmp_path} is not empty: the demo needs a new or empty directory\n"
    )


def test_a_directory_that_cannot_be_made_is_told_in_one_line(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "file").touch()
    assert run.run(requests=1, directory=tmp_path / "file" / "below") == 2
    assert capsys.readouterr().err == f"shadowproxy: cannot write to {tmp_path}/file/below: Not a directory\n"


@pytest.mark.slow
def test_a_server_that_does_not_start_is_told_by_its_own_last_word(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sys, "executable", "/bin/ls")
    assert run.run(requests=1, directory=tmp_path) == 2
    assert capsys.readouterr().err.startswith("shadowproxy: live ended during its start: ")


@pytest.mark.soak
@pytest.mark.skipif(shutil.which("make") is None, reason="needs make")
def test_make_demo_installs_what_runs_and_ends_decided_in_a_folder_with_a_space(tmp_path: Path) -> None:
    """As after a clone: it takes a package index once, and no network for the demo."""
    root, clone = Path(__file__).parent.parent, tmp_path / "a clone"
    clone.mkdir()
    for name in ("Makefile", "pyproject.toml", "constraints.txt", "hatch_build.py", "README.md", "LICENSE"):
        shutil.copy(root / name, clone)
    shutil.copytree(root / "shadowproxy", clone / "shadowproxy", ignore=shutil.ignore_patterns("__pycache__", "*.so"))
    environment = {name: value for name, value in os.environ.items() if not name.startswith(("MAKE", "PYTHON"))}
    command = ["make", "demo", f"PYTHON={sys.executable}"]
    ended = subprocess.run(command, cwd=clone, env=environment, capture_output=True, text=True, timeout=600)
    assert ended.returncode == 0, ended.stderr  # pip may warn of its own configuration
    assert "\nThe verdict on gbm: READY: every check passes. Latency is shown and not judged" in ended.stdout
    assert "\n  .demo/bin/shadowproxy report " in ended.stdout
    listed = [str(clone / ".demo/bin/python"), "-m", "pip", "list", "--format=freeze", "--disable-pip-version-check"]
    names = set(
        re.findall(r"^([\w.-]+)==", subprocess.run(listed, capture_output=True, text=True).stdout, re.MULTILINE)
    )
    assert "shadowproxy-sidecar" in names
    assert not names & {"pytest", "mypy", "ruff", "hypothesis", "scikit-learn", "numpy"}
