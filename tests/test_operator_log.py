"""The operator's log writes one line for each event, whatever is in it, and never waits for its reader."""

import asyncio
import io
import json
import logging
import re
import subprocess
import sys
import threading
from pathlib import Path
from typing import Any

import pytest
from conftest import Proxy, StartProxy
from fakes import Origin, Peer, answer, refusing_port, silent, strict_ok, then_close
from program import Program

from shadowproxy import __version__, compiled
from shadowproxy.serve.telemetry.access import PATH_MOST, AccessLine
from shadowproxy.serve.telemetry.log_settings import Form, OperatorLogSettings
from shadowproxy.serve.telemetry.operator_log import (
    ACCESS_WAITING,
    PATIENCE,
    QUIET,
    WAITING,
    OperatorLog,
    Repeats,
    opened,
)

TIME = r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{6}Z"
ONE = AccessLine("r-1", "POST", b"/predict?key=s3cret", 200, "ok", 3.25, 195)


def log_record(
    text: str, *args: object, name: str = "shadowproxy.serve.mirror.dispatch", **extra: Any
) -> logging.LogRecord:
    return logging.getLogger(name).makeRecord(name, logging.WARNING, __file__, 1, text, args, None, extra=extra)


def lines_of(form: Form, *events: logging.LogRecord | AccessLine) -> list[str]:
    stream = io.StringIO()
    log = OperatorLog(form, stream)
    for event in events:
        if isinstance(event, AccessLine):
            log.access(event)
        else:
            log.emit(event)
    log.close()
    return stream.getvalue().splitlines(keepends=True)


def json_of(*events: logging.LogRecord | AccessLine) -> list[dict[str, Any]]:
    return [json.loads(line) for line in lines_of("json", *events)]


# --- its lines -------------------------------------------------------------------------------------------------------


def test_a_line_of_text_is_its_time_its_level_and_its_message() -> None:
    (line,) = lines_of("text", log_record("shadow %s answers again", "a", event="shadow_recovered", shadow="a"))
    assert re.fullmatch(TIME + r" WARNING shadow a answers again\n", line)


def test_a_line_of_json_names_the_event_and_the_values_in_its_message() -> None:
    (values,) = json_of(log_record("shadow %s answers again", "a", event="shadow_recovered", shadow="a"))
    assert re.fullmatch(TIME, values.pop("time"))
    assert values == {
        "level": "warning",
        "logger": "shadowproxy.serve.mirror.dispatch",
        "event": "shadow_recovered",
        "message": "shadow a answers again",
        "shadow": "a",
    }


def test_what_another_library_attaches_is_left_out() -> None:
    (values,) = json_of(log_record("connected", name="elsewhere", event="e", password="s3cret"))
    assert (values["message"], "s3cret" in json.dumps(values), "event" in values) == ("connected", False, False)


async def test_asyncios_message_about_a_lost_exception_is_logged_without_the_exceptions_message() -> None:
    stream = io.StringIO()
    loop = asyncio.get_running_loop()
    with opened(OperatorLogSettings(form="json"), stream):
        error = ValueError("s3cret")
        loop.default_exception_handler({"message": "Task exception was never retrieved", "exception": error})
        loop.default_exception_handler({"message": "lost", "future": f"<Task exception={error!r}>"})
    first, second = [json.loads(line) for line in stream.getvalue().splitlines()]
    assert (first["message"], first["exception"]) == ("Task exception was never retrieved", "ValueError")
    assert second["message"] == "lost"
    assert "s3cret" not in stream.getvalue()


@pytest.mark.parametrize("form", ["json", "text"])
@pytest.mark.parametrize("evil", ["\n", "\r", "\x1b[2J", "\x85", "\u2028", "\u202e", "\x00", "\ud800", "\x9b31m"])
def test_what_could_end_a_line_or_move_a_cursor_is_escaped(form: Form, evil: str) -> None:
    (line,) = lines_of(form, log_record("refused: %s", f"a{evil}2026 ERROR forged", reason=f"b{evil}c"))
    assert line.endswith("\n")
    assert line[:-1].isprintable()
    if form == "json":
        assert json.loads(line)["reason"] == f"b{evil}c"


def test_words_in_any_language_stay_readable_on_a_terminal() -> None:
    (line,) = lines_of("text", log_record("shadow %s antwortet nicht", "größer"))
    assert line.endswith(" shadow größer antwortet nicht\n")


@pytest.mark.parametrize("form", ["json", "text"])
def test_a_defect_is_logged_with_its_type_and_place_and_never_its_message(form: Form) -> None:
    try:
        int("s3cret from a body")
    except ValueError:
        record = log_record("a defect in the proxy")
        record.exc_info = sys.exc_info()
    (first, *rest) = lines_of(form, record)
    whole = "".join((first, *rest))
    assert "s3cret" not in whole
    assert f"{__file__}:" in whole
    assert "ValueError" in whole
    assert all(line.startswith("    ") for line in rest)
    assert (len(rest) == 0) is (form == "json")


def test_an_operating_system_error_is_logged_with_its_reason() -> None:
    try:
        Path("/nowhere/at all").read_bytes()
    except OSError:
        record = log_record("cannot read")
        record.exc_info = sys.exc_info()
    assert json_of(record)[0]["exception"] == "FileNotFoundError: No such file or directory"


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


@pytest.mark.parametrize(("stream", "begins"), [(Terminal(), "2"), (io.StringIO(), "{")])
def test_a_terminal_is_written_text_and_anything_else_json(stream: io.StringIO, begins: str) -> None:
    log = OperatorLog("auto", stream)
    log.emit(log_record("listening"))
    log.close()
    assert stream.getvalue().startswith(begins)


# --- what is logged --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("level", "heard"),
    [
        ("debug", ["debug", "info", "warning", "error", "other warning"]),
        ("info", ["info", "warning", "error", "other warning"]),
        ("warning", ["warning", "error", "other warning"]),
        ("error", ["error"]),
    ],
)
def test_the_level_decides_what_is_logged_and_other_libraries_log_warnings_only(level: Any, heard: list[str]) -> None:
    stream = io.StringIO()
    with opened(OperatorLogSettings(level=level, form="json"), stream):
        own, other = logging.getLogger("shadowproxy.serve.x"), logging.getLogger("elsewhere")
        for name in ("debug", "info", "warning", "error"):
            getattr(own, name)(name)
        other.info("other info")
        other.warning("other warning")
    assert [json.loads(line)["message"] for line in stream.getvalue().splitlines()] == heard


def test_a_repeated_failure_is_logged_at_the_1st_2nd_4th_and_8th_time() -> None:
    repeats = Repeats(clock=lambda: 0.0)
    assert [repeats.worth_logging("live", "timeout") for _ in range(9)] == [1, 2, 0, 4, 0, 0, 0, 8, 0]


def test_each_kind_of_failure_is_counted_by_itself() -> None:
    repeats = Repeats(clock=lambda: 0.0)
    assert [repeats.worth_logging("a", "timeout"), repeats.worth_logging("b", "timeout")] == [1, 1]


def test_a_kind_of_failure_that_was_quiet_for_a_while_is_counted_from_1_again() -> None:
    now = 0.0
    repeats = Repeats(clock=lambda: now)
    for _ in range(3):
        repeats.worth_logging("live", "timeout")
    now = QUIET - 1.0
    assert repeats.worth_logging("live", "timeout") == 4
    now += QUIET
    assert repeats.worth_logging("live", "timeout") == 1


# --- a line for each request -----------------------------------------------------------------------------------------


def test_a_request_is_logged_without_its_query() -> None:
    (values,) = json_of(ONE)
    assert re.fullmatch(TIME, values.pop("time"))
    assert values == {
        "level": "info",
        "logger": "shadowproxy.access",
        "event": "access",
        "message": "POST /predict 200 ok 3.2 ms 195 bytes r-1",
        "method": "POST",
        "path": "/predict",
        "status": 200,
        "outcome": "ok",
        "ms": 3.25,
        "bytes": 195,
        "request_id": "r-1",
    }


def test_the_path_of_a_request_is_escaped_and_cut() -> None:
    (line,) = lines_of("text", AccessLine("r", "GET", b"/\xc2\x9b" + b"a" * 5000, None, "caller_left", 1.0, 0))
    assert line.split()[3].startswith("/Â\\x9baaa")
    assert line.split()[3].endswith("a…")
    assert len(line.split()[3]) == PATH_MOST + 4
    assert line.split()[4:6] == ["-", "caller_left"]


def test_a_session_in_the_path_of_a_request_is_not_logged() -> None:
    for form in ("text", "json"):
        (line,) = lines_of(form, AccessLine("r", "GET", b"/a;jsessionid=s3cret/b;v=1?token=s3cret", 200, "ok", 1.0, 0))
        assert "/a;jsessionid=[redacted]/b;v=1" in line
        assert "s3cret" not in line


# --- logging never waits ---------------------------------------------------------------------------------------------


class Stuck(io.StringIO):
    """A reader that takes nothing until it is released."""

    def __init__(self) -> None:
        super().__init__()
        self.begun, self.go = threading.Event(), threading.Event()

    def write(self, text: str) -> int:
        self.begun.set()
        assert self.go.wait(10)
        return super().write(text)


def test_lines_that_found_no_room_are_counted_and_logged() -> None:
    stream = Stuck()
    log = OperatorLog("json", stream)
    log.emit(log_record("first"))
    assert stream.begun.wait(10)
    for _ in range(ACCESS_WAITING + WAITING + 7):
        log.emit(log_record("more"))
    stream.go.set()
    log.close()
    events = [json.loads(line) for line in stream.getvalue().splitlines()]
    assert len(events) == 1 + ACCESS_WAITING + WAITING + 1
    assert [(each["event"], each["count"]) for each in events if "event" in each] == [("lines_dropped", 7)]


def test_an_event_finds_room_however_many_access_lines_wait() -> None:
    stream = Stuck()
    log = OperatorLog("json", stream)
    log.emit(log_record("first"))
    assert stream.begun.wait(10)
    for _ in range(ACCESS_WAITING + 9):
        log.access(ONE)
    log.emit(log_record("live failed"))
    stream.go.set()
    log.close()
    events = [json.loads(line) for line in stream.getvalue().splitlines()]
    assert [each["count"] for each in events if each.get("event") == "lines_dropped"] == [9]
    assert [each["message"] for each in events][-1] == "live failed"
    assert sum(each.get("event") == "access" for each in events) == ACCESS_WAITING


@pytest.mark.timing
@pytest.mark.slow
def test_a_reader_that_does_not_read_delays_nothing() -> None:
    script = (
        "import logging, time; from shadowproxy.serve.telemetry.operator_log import WAITING, OperatorLog; "
        "log = OperatorLog(); began = time.monotonic(); "
        "line = logging.LogRecord('a', logging.INFO, '', 1, 'x' * 1000, None, None); "  # a pipe holds 64 KiB
        "[log.emit(line) for _ in range(10 * WAITING)]; print(time.monotonic() - began, flush=True); log.close()"
    )
    run = [sys.executable, "-c", script]
    with subprocess.Popen(run, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as program:
        assert program.stdout is not None
        assert float(program.stdout.readline()) < PATIENCE
        assert program.wait(10 * PATIENCE) == 0


class Gone(io.StringIO):
    def write(self, text: str) -> int:
        raise BrokenPipeError


def test_a_reader_that_is_gone_ends_nothing() -> None:
    log = OperatorLog("text", Gone())
    log.emit(log_record("to nobody"))
    log.emit(log_record("to nobody still"))
    log.close()
    assert not log._thread.is_alive()


# --- what the sidecar logs, and when ---------------------------------------------------------------------------------

ASKED = b"POST /v1/predict?key=s3cret HTTP/1.1\r\nHost: h\r\nX-Request-ID: %s\r\nContent-Length: 6\r\n\r\ns3cret"
A_LOOP = b"GET / HTTP/1.1\r\nHost: h\r\nVia: " + b", ".join([b"1.1 shadowproxy"] * 17) + b"\r\n\r\n"


def lines_about(caplog: pytest.LogCaptureFixture, event: str) -> list[logging.LogRecord]:
    return [record for record in caplog.records if getattr(record, "event", None) == event]


async def test_lives_failure_is_logged_with_its_reason_at_the_1st_2nd_and_4th_time(
    proxy: StartProxy, caplog: pytest.LogCaptureFixture
) -> None:
    async with proxy(live=hang_up) as running:
        for number in range(5):
            await running.ask(ASKED % b"r-%d" % number)
    lines = lines_about(caplog, "live_failed")
    assert [(line.levelname, line.getMessage().split(";")[1]) for line in lines] == [
        ("ERROR", " request r-0"),
        ("ERROR", " request r-1"),
        ("ERROR", " request r-3"),
    ]
    assert lines[0].getMessage().startswith("live failed (incomplete): the connection was closed before the answer")
    assert lines[2].getMessage().startswith("live failed 4 times (incomplete): ")
    assert vars(lines[2]).items() >= {"outcome": "incomplete", "status": 502, "count": 4, "request_id": "r-3"}.items()


async def hang_up(peer: Peer) -> None:
    await peer.request()
    peer.reset()


async def test_a_live_system_that_is_down_is_logged_with_the_systems_reason_without_its_address(
    proxy: StartProxy, caplog: pytest.LogCaptureFixture
) -> None:
    with refusing_port() as port:
        async with proxy(live_options={"url": f"http://127.0.0.1:{port}"}) as running:
            answered = await running.ask(ASKED % b"r-0")
    (line,) = lines_about(caplog, "live_failed")
    assert line.getMessage() == "live failed (connect_error): Connection refused; request r-0"
    assert str(port).encode() not in answered.body


async def test_lives_recovery_is_logged_if_it_had_failed_more_than_once(
    proxy: StartProxy, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO)
    well = iter([False, True, True, False, False, False, True, True])

    async def moody(peer: Peer) -> None:
        await (then_close(answer()) if next(well) else hang_up)(peer)

    async with proxy(live=moody) as running:
        for _ in range(8):
            await running.ask(ASKED % b"r")
    assert [line.getMessage() for line in lines_about(caplog, "live_recovered")] == [
        "live answers again, after 3 failures in a row"
    ]


async def test_a_caller_that_leaves_is_no_failure_of_live(proxy: StartProxy, caplog: pytest.LogCaptureFixture) -> None:
    async with proxy(live=silent) as running:
        async with await running.caller() as caller:
            await caller.send(ASKED % b"r")
            await running.live.connection()
        await running.records()
    assert lines_about(caplog, "live_failed") == []


@pytest.mark.source
async def test_a_defect_of_the_proxy_is_no_failure_of_live(
    proxy: StartProxy, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    def write(*given: object, **options: object) -> None:
        raise RuntimeError("s3cret")

    async with proxy() as running:
        monkeypatch.setattr("shadowproxy.serve.live.leg.Passage._write", write)
        assert (await running.ask(ASKED % b"r")).status == 500
    assert len(lines_about(caplog, "defect")) == 1
    assert lines_about(caplog, "live_failed") == []


async def test_a_shadows_failure_is_logged_before_its_breaker_opens_and_each_time_when_debugging(
    proxy: StartProxy, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG)
    async with proxy(shadows={"a": hang_up}, shadow_options={"breaker": {"failures": 4}}) as running:
        for number in range(6):
            await running.ask(ASKED % b"r-%d" % number)
            await settled(running)
    lines = lines_about(caplog, "shadow_failed")
    assert [(line.levelname, vars(line)["count"]) for line in lines] == [
        ("WARNING", 1),
        ("WARNING", 2),
        ("DEBUG", 0),
        ("WARNING", 4),
    ]
    assert vars(lines[1]).items() >= {"shadow": "a", "outcome": "incomplete", "request_id": "r-1"}.items()
    assert [vars(line)["shadow"] for line in lines_about(caplog, "breaker_opened")] == ["a"]
    assert [line.levelname for line in lines_about(caplog, "shadow_not_asked")] == ["DEBUG", "DEBUG"]


async def settled(running: Proxy) -> None:
    while running.sidecar.mirror.unsettled:  # noqa: ASYNC110  # nothing signals it
        await asyncio.sleep(0.001)


async def test_a_shed_request_is_logged_with_its_reason(proxy: StartProxy, caplog: pytest.LogCaptureFixture) -> None:
    async with proxy(shadows={"a": strict_ok}, limits={"capture": 4, "buffer": 4}) as running:
        await running.ask(ASKED % b"r-1")
    (line,) = lines_about(caplog, "shadow_not_asked")
    words = "shadow a was skipped (oversize): the request is longer than limits.capture; request r-1"
    assert (line.levelname, line.getMessage()) == ("WARNING", words)


async def test_a_pause_is_logged_and_so_is_its_end(proxy: StartProxy, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO)
    async with proxy(shadows={"a": strict_ok}) as running:
        mirror = running.sidecar.mirror
        mirror.pause("a")
        mirror.resume("a")
        mirror.pause()
        await running.ask(ASKED % b"r-1")
        mirror.resume()
        mirror.set_percent("a", 12.5)
    assert [record.getMessage() for record in caplog.records if record.name.startswith("shadowproxy")] == [
        "shadow a is paused",
        "the pause of shadow a is over",
        "all shadows are paused",
        "the pause of all shadows is over",
        "from now on shadow a gets 12.5 % of the requests",
    ]


async def test_a_rejected_request_is_logged_without_the_callers_text(
    proxy: StartProxy, caplog: pytest.LogCaptureFixture
) -> None:
    async with proxy() as running:
        await running.ask(b"GET / HTTP/1.1\r\nHost: h\r\nBearer s3cret\r\n\r\n")
        await running.ask(A_LOOP)
    lines = lines_about(caplog, "request_refused")
    assert [vars(line)["status"] for line in lines] == [400, 508]
    assert lines[0].getMessage() == "rejected with 400: malformed field line without a colon"
    assert "s3cret" not in caplog.text


UNUSED = "http://127.0.0.1:9"


def values(live: Origin) -> dict[str, Any]:
    return {"live": {"url": live.url}, "shadows": {"a": {"url": UNUSED, "percent": 0}}}


@pytest.mark.slow
async def test_the_program_logs_each_request_if_configured_and_never_its_query_or_body(tmp_path: Path) -> None:
    async with (
        Origin() as live,
        Program(tmp_path, values(live), "--access-log") as program,
    ):
        await program.ask(ASKED % b"r-1")
        await program.ask(A_LOOP)
        assert await program.stop() == 0
    first, second = program.told("access")
    assert first["ms"] > 0
    assert {**first, "time": 0, "ms": 0}.items() >= {
        "method": "POST",
        "path": "/v1/predict",
        "status": 200,
        "outcome": "ok",
        "bytes": 2,
        "request_id": "r-1",
    }.items()
    assert (second["status"], second["outcome"]) == (508, "refused")
    assert "s3cret" not in "".join(program.said)


@pytest.mark.slow
async def test_the_program_logs_its_start_and_end_as_json_and_no_request_by_default(tmp_path: Path) -> None:
    async with Origin() as live, Program(tmp_path, values(live)) as program:
        await program.ask(ASKED % b"r-1")
        assert await program.stop() == 0
    events = [json.loads(line)["event"] for line in program.said]
    assert events == ["started", "repeated", "stopping", "stopped"]
    (started,), (stopped,) = program.told("started"), program.told("stopped")
    assert (started["version"], started["compiled"]) == (__version__, compiled())
    assert started["message"].endswith(", compiled") is compiled()
    assert started["listen"] == f"http://127.0.0.1:{program.address[1]}"
    assert (started["live"], started["shadows"], started["admin"]) == (live.url, {"a": UNUSED}, None)
    assert (stopped["requests"], stopped["written"], stopped["lost"]) == (1, 1, 0)


@pytest.mark.slow
async def test_the_environment_can_configure_the_log(tmp_path: Path) -> None:
    environment = {"SHADOWPROXY_LOG_FORMAT": "text", "SHADOWPROXY_ACCESS_LOG": "1"}
    async with Origin() as live, Program(tmp_path, values(live), environment=environment) as program:
        await program.ask(ASKED % b"r-1")
        assert await program.stop() == 0
    assert re.fullmatch(TIME + r" INFO shadowproxy \S+ listening on .*", program.said[0])
    # Another process than the one that says that it stops.
    (line,) = [line for line in program.said if "/v1/predict" in line]
    assert re.fullmatch(TIME + r" INFO POST /v1/predict 200 ok [\d.]+ ms 2 bytes r-1", line)


# --- its events are documented ---------------------------------------------------------------------------------------

ROOT = Path(__file__).parent.parent


def test_every_event_is_in_the_documents_and_no_other_is() -> None:
    sources = "".join(path.read_text() for path in (ROOT / "shadowproxy").rglob("*.py"))
    spoken = set(re.findall(r'"event": "(\w+)"', sources)) | set(re.findall(r'Notice\("(\w+)"', sources))
    spoken |= {event for events in re.findall(r"= Events\((.*)\)", sources) for event in re.findall(r"\w+", events)}
    documented = re.findall(
        r"^\| `(\w+)` \| (?:debug|info|warning|error)", (ROOT / "docs/reference/logging.md").read_text(), re.M
    )
    assert spoken == set(documented)
    assert len(documented) == len(set(documented))
