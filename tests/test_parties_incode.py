"""Applications of real frameworks and calls of real SDKs, bare and mirrored: the answers, the records, the processes.

The bare application is asked directly, and is the mirrored one's shadow: so both answers of each record are to match.
All that may differ for a caller is the time.
"""

import contextlib
import json
import re
import socket
import subprocess
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from incode_programs import FASTAPI, FLASK, OPENAI
from incode_programs import written as program_in
from parties import installed
from parties.programs import Program, free_port, started
from parties.recorder import Received, Recorder, by_length, written

from shadowproxy import record
from shadowproxy.exchange import Outcome, Verdict

pytestmark = pytest.mark.soak

PATIENCE = 30.0
"""Seconds until a companion has written all that it was sent: it starts with the first request."""

JSON = b"Content-Type: application/json\r\n"


def request(method: str, target: str, body: bytes = b"", fields: bytes = b"", *, chunked: bool = False) -> bytes:
    head = b"%b %b HTTP/1.1\r\nHost: h\r\nConnection: close\r\n%b" % (method.encode(), target.encode(), fields)
    if chunked:
        body = b"".join(b"%x\r\n%b\r\n" % (len(part), part) for part in (body[:5], body[5:])) + b"0\r\n\r\n"
        return head + b"Transfer-Encoding: chunked\r\n\r\n" + body
    return head + (b"Content-Length: %d\r\n" % len(body) if body else b"") + b"\r\n" + body


UPLOAD = (
    b'--b\r\nContent-Disposition: form-data; name="file"; filename="f.txt"\r\nContent-Type: text/plain\r\n\r\n'
    + b"data" * 50_000
    + b"\r\n--b--\r\n"
)
PLAN = {
    "a prediction": request("POST", "/predict", b'{"age": 41}', JSON),
    "in chunks": request("POST", "/predict", b'{"age": 40.5, "tags": ["a"]}', JSON, chunked=True),
    "an invalid one": request("POST", "/predict", b"{", JSON),
    "an item": request("GET", "/items/a%2Fb/%C3%A4;x?q=%20&&q2"),
    "an upload": request("POST", "/upload", UPLOAD, b"Content-Type: multipart/form-data; boundary=b\r\n"),
    "a stream": request("GET", "/stream"),
    "an exception": request("GET", "/fails"),
    "nothing there": request("GET", "/missing"),
    "no route": request("GET", "/elsewhere"),
    "a method too many": request("PUT", "/predict", b"{}", JSON),
    "a file": request("GET", "/file"),
    "HEAD": request("HEAD", "/stream"),
    "cookies": request("POST", "/later"),
    "a body that is not read": request("POST", "/unread", b"x" * 10, b"Expect: 100-continue\r\n"),
}


@dataclass(frozen=True)
class Pair:
    """A bare application, and the mirrored one, whose shadow it is."""

    bare: Program
    mirrored: Program
    log: Path


Start = Callable[[int, bool], list[str]]


@contextlib.contextmanager
def pair(directory: Path, start: Start) -> Iterator[Pair]:
    """`start` gives the command of a server on this port, bare or mirrored."""
    python = installed.python("incode")
    environment = {
        "PYTHONPATH": f"{installed.ROOT}:{installed.ROOT / 'tests'}",
        "PYTHONDONTWRITEBYTECODE": "1",
        "PYTHONHASHSEED": "0",  # Flask's `Allow` is in a set's order
        "LOG": str(directory / "log"),
    }
    ports = free_port(), free_port()
    environment["SHADOW"] = urls = f"http://127.0.0.1:{ports[0]}"
    with contextlib.ExitStack() as stack:
        programs = []
        for port, mirrored in zip(ports, (False, True), strict=True):
            place = directory / ("mirrored" if mirrored else "bare")
            place.mkdir()
            command = [str(python), *start(port, mirrored)]
            more = {"MIRRORED": "1"} if mirrored else {}
            url = f"http://127.0.0.1:{port}"
            programs.append(stack.enter_context(started(command, place / "said.txt", url=url, **environment, **more)))
        assert programs[0].url == urls
        yield Pair(programs[0], programs[1], directory / "log")


def under_uvicorn(module: str, mirrored: str = "mirrored", *options: str) -> Start:
    def start(port: int, is_mirrored: bool) -> list[str]:
        name = mirrored if is_mirrored else "bare"
        return [
            "-m", "uvicorn", f"parties.incode.{module}:{name}", "--port", str(port), "--no-date-header", *options,
        ]  # fmt: skip

    return start


def under_gunicorn(*options: str) -> Start:
    def start(port: int, mirrored: bool) -> list[str]:
        name = "mirrored" if mirrored else "bare"
        return ["-m", "gunicorn", "-b", f"127.0.0.1:{port}", f"parties.incode.with_flask:{name}", *options]

    return start


def ask(program: Program, raw: bytes) -> bytes:
    """All that comes back, but the time, and what each program is called."""
    port = int(program.url.rpartition(":")[2])
    with socket.create_connection(("127.0.0.1", port), timeout=PATIENCE) as connection:
        connection.sendall(raw)
        received = b""
        while data := connection.recv(1 << 16):
            received += data
    return re.sub(rb"(?i)\r\ndate: [^\r]*", b"", received)


def read(log: Path) -> list[record.Record]:
    return [entry for entry in record.read([log]) if isinstance(entry, record.Record)] if log.exists() else []


def wait_records(log: Path, count: int, path: str = "") -> list[record.Record]:
    """All of them, or those of this path, once there are so many."""
    until = time.monotonic() + PATIENCE
    while True:
        found = [entry for entry in read(log) if path in ("", entry.request.path)]
        if len(found) >= count or time.monotonic() > until:
            assert len(found) == count
            return found
        time.sleep(0.05)


SERVERS: dict[str, Start] = {
    "FastAPI": under_uvicorn("with_fastapi"),
    "FastAPI, by its middleware": under_uvicorn("with_fastapi", "within", "--http", "h11", "--loop", "asyncio"),
    "Django": under_uvicorn("with_django"),
    "Litestar": under_uvicorn("with_litestar"),
    "Flask, threads, preloaded": under_gunicorn("-k", "gthread", "--threads", "4", "--workers", "2", "--preload"),
}


@pytest.mark.parametrize("name", SERVERS)
def test_an_application_answers_the_same_and_each_exchange_is_a_record(name: str, tmp_path: Path) -> None:
    with pair(tmp_path, SERVERS[name]) as both:
        for asked, raw in PLAN.items():
            assert (asked, ask(both.mirrored, raw)) == (asked, ask(both.bare, raw))
        records = wait_records(both.log, len(PLAN))
        assert not re.search("could not be noted|no shadow gets", both.mirrored.said()), both.mirrored.said()
    for entry in records:
        path = entry.request.path
        said = f"{name}: {entry}"
        if entry.request.method == "PUT":  # `match.methods` is as by default
            assert entry.shadows == {}, said
            continue
        leg = entry.shadows["challenger"]
        if path == "/unread" and leg.outcome is Outcome.OVERLOAD:  # Django reads every body
            assert leg.error == "live did not read the whole request", said
            continue
        assert (leg.outcome, leg.error) == (Outcome.OK, None), said
        if path == "/fails" and "middleware" in name:
            assert entry.live.error == "the application raised ValueError"  # the answer is made further outside
            continue
        assert entry.live.outcome is Outcome.OK, said
        assert leg.judgement is not None
        unseen = path == "/file" and "Flask" in name  # the server sends it
        assert leg.judgement.verdict is (Verdict.INCOMPARABLE if unseen else Verdict.MATCH), said


def test_a_worker_that_is_killed_costs_its_own_exchange(tmp_path: Path) -> None:
    prediction = PLAN["a prediction"]
    with pair(tmp_path, under_gunicorn("--workers", "2", "--preload")) as both:
        expected = ask(both.bare, prediction)
        assert [ask(both.mirrored, prediction) for _ in range(6)] == [expected] * 6
        wait_records(both.log, 6)
        for _ in range(2):
            with contextlib.suppress(ConnectionError):
                assert ask(both.mirrored, request("GET", "/die")) == b""
        assert [ask(both.mirrored, prediction) for _ in range(6)] == [expected] * 6
        wait_records(both.log, 12, "/predict")
    deaths = [entry for entry in read(both.log) if entry.request.path == "/die"]
    assert {entry.live.outcome for entry in deaths} <= {Outcome.INCOMPLETE}  # none, if it had not been sent yet
    verdicts = [entry.shadows["challenger"].judgement for entry in read(both.log) if entry not in deaths]
    assert [each and each.verdict for each in verdicts] == [Verdict.MATCH] * 12


def test_litserve_is_mirrored_by_its_middleware(tmp_path: Path) -> None:
    def start(port: int, mirrored: bool) -> list[str]:
        return [str(installed.SOURCE / "incode" / "with_litserve.py"), str(port)]

    prediction = PLAN["a prediction"]
    with pair(tmp_path, start) as both:
        answers = [ask(both.bare, prediction)] + [ask(both.mirrored, prediction) for _ in range(3)]
        assert b'{"score":20.5}' in answers[0]
        assert set(answers) == {answers[0]}
        records = wait_records(both.log, 3)
    verdicts = [entry.shadows["challenger"].judgement for entry in records]
    assert [each and each.verdict for each in verdicts] == [Verdict.MATCH] * 3


def chat_events() -> list[bytes]:
    events = [
        {"id": "c", "object": "chat.completion.chunk", "created": 1, "model": "m",
         "choices": [{"index": 0, "delta": {"content": text}, "finish_reason": reason}]}
        for text, reason in (("Hello", None), (" there", None), (None, "stop"))
    ]  # fmt: skip
    return [b"data: %b\n\n" % json.dumps(event).encode() for event in events] + [b"data: [DONE]\n\n"]


def message_events() -> list[bytes]:
    message: dict[str, Any] = {"id": "m", "type": "message", "role": "assistant", "model": "m", "content": [],
               "stop_reason": None, "stop_sequence": None,
               "usage": {"input_tokens": 1, "output_tokens": 1}}  # fmt: skip
    events: list[dict[str, Any]] = [
        {"type": "message_start", "message": message},
        {"type": "content_block_start", "index": 0, "content_block": {"type": "text", "text": ""}},
        {"type": "content_block_delta", "index": 0, "delta": {"type": "text_delta", "text": "Hello"}},
        {"type": "content_block_stop", "index": 0},
        {"type": "message_delta", "delta": {"stop_reason": "end_turn"}, "usage": {"output_tokens": 2}},
        {"type": "message_stop"},
    ]
    return [b"event: %b\ndata: %b\n\n" % (each["type"].encode(), json.dumps(each).encode()) for each in events]


CHAT = {"id": "c", "object": "chat.completion", "created": 1, "model": "m",
        "choices": [{"index": 0, "message": {"role": "assistant", "content": "Hello"}, "finish_reason": "stop"}],
        "usage": {"prompt_tokens": 1, "completion_tokens": 1, "total_tokens": 2}}  # fmt: skip
MESSAGE = {"id": "m", "type": "message", "role": "assistant", "model": "m", "stop_reason": "end_turn",
           "stop_sequence": None, "content": [{"type": "text", "text": "Hello"}],
           "usage": {"input_tokens": 1, "output_tokens": 2}}  # fmt: skip


def language_model(received: Received) -> bytes | Iterator[bytes]:
    """Answers as OpenAI's and Anthropic's servers do, whole and streamed; `X-Ask` asks for errors."""
    asked = received.all(b"x-ask")
    if asked == [b"refuse"]:
        return by_length(b"400 Bad Request", b'{"error": {"message": "no", "type": "t"}}', *JSON_FIELD)
    if asked == [b"retry"] and received.all(b"x-stainless-retry-count") == [b"0"]:
        return by_length(b"503 Busy", b"{}", (b"retry-after-ms", b"1"), *JSON_FIELD)
    is_chat = b"/chat/" in received.start
    if b'"stream":true' in received.body.replace(b" ", b""):
        return chunks(chat_events() if is_chat else message_events())
    return by_length(b"200 OK", json.dumps(CHAT if is_chat else MESSAGE).encode(), *JSON_FIELD)


JSON_FIELD = ((b"Content-Type", b"application/json"),)


def chunks(events: list[bytes]) -> Iterator[bytes]:
    yield written(b"200 OK", b"", (b"Content-Type", b"text/event-stream"), (b"Transfer-Encoding", b"chunked"))
    for event in events:
        yield b"%x\r\n%b\r\n" % (len(event), event)
    yield b"0\r\n\r\n"


def test_the_sdks_see_the_same_with_a_mirrored_client_of_their_own(tmp_path: Path) -> None:
    with Recorder(language_model) as live, Recorder(language_model) as shadow:
        environment = installed.environment() | {
            "PYTHONPATH": f"{installed.ROOT}:{installed.ROOT / 'tests'}",
            "PYTHONDONTWRITEBYTECODE": "1",
            "LOG": str(tmp_path / "log"),
            "SHADOW": shadow.url,
        }
        said, sent = [], []
        for how in ([], ["mirrored"]):
            command: list[str | Path] = [installed.python("incode"), "-m", "parties.incode.sdk_calls", live.url, *how]
            done = subprocess.run(command, env=environment, cwd=tmp_path, capture_output=True, text=True, timeout=120)
            assert (done.returncode, done.stderr) == (0, "")
            said.append(done.stdout)
            sent.append([(each.start, each.fields, each.framing, each.body) for each in live.received])
            live.received.clear()
        assert said[0].count("\n") == 3 * 4 + 5 * 2
        assert said[1] == said[0]
        assert sent[1] == sent[0]
        records = wait_records(tmp_path / "log", len(sent[1]))
    assert len(records) == 3 * 5 + 5 * 2
    assert {entry.live.outcome for entry in records} == {Outcome.OK}
    legs = [entry.shadows["challenger"] for entry in records]
    assert {leg.outcome for leg in legs} == {Outcome.OK}
    assert all(leg.judgement is not None and leg.judgement.verdict is Verdict.MATCH for leg in legs)
    assert not any(b"sk-secret" in value for each in shadow.received for _, value in each.fields)
    assert len([entry for entry in records if entry.live.events]) == 8


@pytest.mark.timing  # a late event loop sheds what is to be mirrored
@pytest.mark.parametrize(
    ("number", "served_by"),
    [(FASTAPI, ["-m", "uvicorn", "service:app", "--port"]), (FLASK, ["-m", "gunicorn", "service:app", "-b"])],
)
def test_the_pages_services_are_mirrored(number: int, served_by: list[str], tmp_path: Path) -> None:
    answer = by_length(b"200 OK", b'{"late": true}', *JSON_FIELD)
    port = free_port()
    address = f"127.0.0.1:{port}" if number == FLASK else str(port)
    command = [str(installed.python("incode")), *served_by, address]
    with Recorder(lambda received: answer) as shadow:
        program_in(tmp_path, number, shadow=shadow.url)
        url, paths = f"http://127.0.0.1:{port}", f"{installed.ROOT}:{tmp_path}"
        with started(command, tmp_path / "said.txt", url=url, PYTHONPATH=paths) as service:
            for delay, late in ((40, b"true"), (5, b"false")):
                asked = request("POST", "/predict", b'{"dep_delay": %d}' % delay, JSON)
                assert late in ask(service, asked)
            records = wait_records(tmp_path / "shadow-log", 2)
    verdicts = [entry.shadows["challenger"].judgement for entry in records]
    assert sorted(each.verdict for each in verdicts if each is not None) == ["match", "mismatch"]


@pytest.mark.timing
def test_the_pages_sdk_is_mirrored(tmp_path: Path) -> None:
    with Recorder(language_model) as live, Recorder(language_model) as shadow:
        program = program_in(tmp_path, OPENAI, live=live.url, shadow=shadow.url)
        environment = installed.environment() | {"PYTHONPATH": str(installed.ROOT)}
        command = [installed.python("incode"), program]
        done = subprocess.run(command, env=environment, cwd=tmp_path, capture_output=True, text=True, timeout=120)
        assert (done.stdout, done.stderr) == ("Hello\n", "")
        (entry,) = read(tmp_path / "shadow-log")
    judgement = entry.shadows["local"].judgement
    assert judgement is not None
    assert judgement.verdict is Verdict.MATCH
