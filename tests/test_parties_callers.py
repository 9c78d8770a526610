"""Real callers through the real program: their answers, what live got of them, and the log.

Each caller asks the same plan twice, live itself and the proxy in front of it, and all that may differ between the two
is what the documents say the proxy changes.
"""

import json
import subprocess
import threading
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest
from parties import installed, programs
from parties.asking import CALLERS_BY_NAME, PLAN, Answer, Ask
from parties.installed import CALLERS, SOURCE
from parties.recorder import Fields, Received, Recorder

from shadowproxy import record
from shadowproxy.exchange import Outcome

pytestmark = pytest.mark.soak

HOP_BY_HOP = {b"connection", b"keep-alive", b"proxy-connection", b"te", b"upgrade"}


@pytest.fixture(scope="module", autouse=True)
def _installed() -> None:
    installed.check()


@dataclass(frozen=True)
class Asking:
    """What came of one caller's plan, asked of live itself and through the proxy."""

    plan: tuple[Ask, ...]
    direct: list[Answer]
    proxied: list[Answer]
    live_direct: list[Received]
    live_proxied: list[Received]
    shadow: list[Received]
    records: list[record.Record]


@pytest.fixture(scope="module", params=CALLERS_BY_NAME)
def asking(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Asking:
    name: str = request.param
    ask = CALLERS_BY_NAME[name]
    plan = tuple(asked for asked in PLAN if not (asked.framing == "chunked" and name == "curl --http1.0"))
    with Recorder() as live, Recorder() as shadow:
        direct = ask(live.url, plan)
        live_direct = live.received[:]
        live.received.clear()
        with programs.proxy(tmp_path_factory.mktemp("proxy"), {"url": live.url}, shadow.url) as proxy:
            proxied = ask(proxy.url, plan)
            records = proxy.records()
    return Asking(plan, direct, proxied, live_direct, live.received, shadow.received, records)


def test_a_caller_gets_the_answers_that_live_gives(asking: Asking) -> None:
    assert [answer.error for answer in asking.direct] == [""] * len(asking.plan)
    for asked, direct, proxied in zip(asking.plan, asking.direct, asking.proxied, strict=True):
        assert (asked.target, proxied.status, proxied.error) == (asked.target, direct.status, "")
        assert proxied.body == direct.body
        assert without_hops(proxied.fields) == without_hops(direct.fields)
        assert [name.lower() for name, _ in proxied.fields].count("x-request-id") == 1


def without_hops(fields: tuple[tuple[str, str], ...]) -> list[tuple[str, str]]:
    """What an answer's fields say end to end. What ends the body, and the connection, is each hop's own."""
    own = {"connection", "keep-alive", "transfer-encoding", "x-request-id"}
    return [(name, value) for name, value in fields if name.lower() not in own]


def test_live_gets_what_the_caller_sent(asking: Asking) -> None:
    assert len(asking.live_direct) == len(asking.plan)
    for direct, proxied in zip(asking.live_direct, asking.live_proxied, strict=True):
        method, target, _ = direct.start.split(b" ")
        assert proxied.start == b"%s %s HTTP/1.1" % (method, target)
        assert (proxied.framing, proxied.body) == (direct.framing, direct.body)
        host = (b"Host", proxied.all(b"host")[0])
        expected = [host if name.lower() == b"host" else (name, value) for name, value in end_to_end(direct.fields)]
        *passed, (id_name, _), via = proxied.fields
        assert named(passed) == named(expected)
        assert (id_name, via) == (b"X-Request-ID", (b"Via", b"1.1 shadowproxy"))


def end_to_end(fields: Fields) -> Fields:
    """`fields` without those for one hop: RFC 9110 section 7.6.1, written once more."""
    listed = {
        option.strip().lower()
        for name, value in fields
        if name.lower() == b"connection"
        for option in value.split(b",")
    }
    return tuple(field for field in fields if field[0].lower() not in HOP_BY_HOP | listed)


def named(fields: Fields | list[tuple[bytes, bytes]]) -> list[tuple[bytes, bytes]]:
    """Host by its own name: curl and Node write it as we do, others in small letters."""
    return [(b"host" if name.lower() == b"host" else name, value) for name, value in fields]


def test_the_shadow_gets_the_same_bodies(asking: Asking) -> None:
    sent = [(received.start, received.body) for received in asking.live_proxied]
    assert sorted((received.start, received.body) for received in asking.shadow) == sorted(sent)


def test_the_log_has_one_record_for_each_request(asking: Asking) -> None:
    told = [(entry.request.method, target_of(entry), entry.live.status) for entry in asking.records]
    asked = [received.start.decode().split(" ")[:2] for received in asking.live_proxied]
    statuses = [answer.status for answer in asking.direct]
    assert sorted(told) == sorted((*start, status) for start, status in zip(asked, statuses, strict=True))
    for entry in asking.records:
        assert (entry.live.outcome, entry.shadows["challenger"].outcome) == (Outcome.OK, Outcome.OK)


def target_of(entry: record.Record) -> str:
    return entry.request.path + ("?" + entry.request.query if entry.request.query else "")


@pytest.mark.parametrize(
    ("name", "peculiarity"),
    [
        ("JDK", b"\r\nUpgrade: h2c\r\n"),
        ("curl --http2", b"\r\nUpgrade: h2c\r\n"),
        ("curl --http1.0", b" HTTP/1.0\r\n"),
        ("curl with Expect", b"\r\nExpect: 100-continue\r\n"),
    ],
)
def test_the_callers_come_with_what_they_are_here_for(name: str, peculiarity: bytes) -> None:
    with Recorder() as live:
        CALLERS_BY_NAME[name](live.url, PLAN[:1])
    (received,) = live.received
    head = received.start + b"".join(b"\r\n%s: %s" % field for field in received.fields) + b"\r\n"
    assert peculiarity in head


# --- the SDKs ---------------------------------------------------------------------------------------------------------


def test_openais_sdk_streams_each_piece_before_the_next_one_exists(tmp_path: Path) -> None:
    told = threading.Semaphore(0)  # one permit for each piece that the caller has said it got

    def events() -> Iterator[bytes]:
        for number in range(3):
            choices = [{"index": 0, "delta": {"content": f"piece {number}"}, "finish_reason": None}]
            yield b"data: " + json.dumps({"id": "c", "object": "chat.completion.chunk", "choices": choices}).encode()
            assert told.acquire(timeout=10), f"piece {number} did not arrive while the answer was open"
        usage = {"prompt_tokens": 3, "completion_tokens": 3, "total_tokens": 6}
        yield b"data: " + json.dumps({"id": "c", "choices": [], "usage": usage}).encode()
        yield b"data: [DONE]"

    head = b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nTransfer-Encoding: chunked\r\n\r\n"

    def answer(received: Received) -> Iterator[bytes]:
        yield head
        for event in events():
            yield b"%x\r\n%s\n\n\r\n" % (len(event) + 2, event)
        yield b"0\r\n\r\n"

    with Recorder(answer) as live, programs.proxy(tmp_path, {"url": live.url}) as proxy:
        command = [str(CALLERS), str(SOURCE / "openai_streams.py"), proxy.url]
        with subprocess.Popen(command, stdout=subprocess.PIPE, text=True, env=installed.environment()) as caller:
            assert caller.stdout is not None
            lines = []
            for line in caller.stdout:
                lines.append(line.rstrip("\n"))
                told.release()
        assert (caller.returncode, lines) == (0, ["piece 0", "piece 1", "piece 2", "usage 6"])
        (entry,) = proxy.records()
    (received,) = live.received
    assert received.all(b"authorization") == [b"Bearer sk-of-the-test"]
    assert entry.live.outcome is Outcome.OK
    assert "sk-of-the-test" not in proxy.log_text()


def test_openais_sdk_leaves_at_done_and_its_answer_is_whole(tmp_path: Path) -> None:
    """It closes the connection there: the last chunk comes when it has gone."""
    left = threading.Event()

    def answer(received: Received) -> Iterator[bytes]:
        yield b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nTransfer-Encoding: chunked\r\n\r\n"
        choices = [{"index": 0, "delta": {"content": "all"}, "finish_reason": "stop"}]
        chunk = json.dumps({"id": "c", "object": "chat.completion.chunk", "choices": choices}).encode()
        for event in (b"data: " + chunk, b"data: [DONE]"):
            yield b"%x\r\n%s\n\n\r\n" % (len(event) + 2, event)
        assert left.wait(timeout=30)
        yield b"0\r\n\r\n"

    with Recorder(answer) as live, programs.proxy(tmp_path, {"url": live.url}) as proxy:
        command = [str(CALLERS), str(SOURCE / "openai_streams.py"), proxy.url]
        told = subprocess.run(command, env=installed.environment(), capture_output=True, text=True, timeout=60)
        (entry,) = proxy.records()
        left.set()
    assert (told.returncode, told.stdout) == (0, "all\n"), told.stderr
    assert (entry.live.outcome, entry.live.caller_left, entry.live.failed) == (Outcome.OK, True, None)


@pytest.mark.parametrize(("host", "status"), [("preserve", "200"), ("upstream", "403")])
def test_boto3s_signature_holds_where_the_host_is_preserved(tmp_path: Path, host: str, status: str) -> None:
    """The 403 is the test's own test: the far side does check."""
    python = str(CALLERS)
    with (
        programs.started([python, str(SOURCE / "sagemaker.py"), "serve"], tmp_path / "far-side.txt") as live,
        programs.proxy(tmp_path / "proxy", {"url": live.url, "host": host}) as proxy,
    ):
        command = [python, str(SOURCE / "sagemaker.py"), "ask", proxy.url]
        told = subprocess.run(
            command, env=installed.environment(), capture_output=True, text=True, timeout=60, check=True
        )
        assert told.stdout.split(" ")[0] == status, told.stderr
        (entry,) = proxy.records()
    assert entry.request.path == "/endpoints/late-flights/invocations"
    assert str(entry.live.status) == status
