"""The operator's log tells its reader one line for each event, whatever is in it, and waits for nobody."""

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

from shadowproxy.serve.operator_log import (
    ACCESS_WAITING,
    PATH_MOST,
    PATIENCE,
    QUIET,
    WAITING,
    Form,
    OperatorLog,
    Repeats,
    Served,
    Telling,
    opened,
)

TIME = r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{6}Z"
ONE = Served("r-1", "POST", b"/predict?key=s3cret", 200, "ok", 3.25, 195)


def said(text: str, *args: object, name: str = "shadowproxy.serve.mirror", **extra: Any) -> logging.LogRecord:
    return logging.getLogger(name).makeRecord(name, logging.WARNING, __file__, 1, text, args, None, extra=extra)


def lines_of(form: Form, *events: logging.LogRecord | Served) -> list[str]:
    stream = io.StringIO()
    log = OperatorLog(form, stream)
    for event in events:
        if isinstance(event, Served):
            log.access(event)
        else:
            log.emit(event)
    log.close()
    return stream.getvalue().splitlines(keepends=True)


def json_of(*events: logging.LogRecord | Served) -> list[dict[str, Any]]:
    return [json.loads(line) for line in lines_of("json", *events)]


# --- its lines -------------------------------------------------------------------------------------------------------


def test_as_text_a_line_is_its_time_its_level_and_its_words() -> None:
    (line,) = lines_of("text", said("shadow %s answers again", "a", event="shadow_recovered", shadow="a"))
    assert re.fullmatch(TIME + r" WARNING shadow a answers again\n", line)


def test_as_json_a_line_names_the_event_and_the_values_in_its_words() -> None:
    (told,) = json_of(said("shadow %s answers again", "a", event="shadow_recovered", shadow="a"))
    assert re.fullmatch(TIME, told.pop("time"))
    assert told == {
        "level": "warning",
        "logger": "shadowproxy.serve.mirror",
        "event": "shadow_recovered",
        "message": "shadow a answers again",
        "shadow": "a",
    }


def test_what_another_library_attaches_is_left_out() -> None:
    (told,) = json_of(said("connected", name="elsewhere", event="e", password="s3cret"))
    assert (told["message"], "s3cret" in json.dumps(told), "event" in told) == ("connected", False, False)


@pytest.mark.parametrize("form", ["json", "text"])
@pytest.mark.parametrize("evil", ["\n", "\r", "\x1b[2J", "\x85", "\u2028", "\u202e", "\x00", "\ud800", "\x9b31m"])
def test_what_could_end_a_line_or_move_a_cursor_is_escaped(form: Form, evil: str) -> None:
    (line,) = lines_of(form, said("refused: %s", f"a{evil}2026 ERROR forged", reason=f"b{evil}c"))
    assert line.endswith("\n")
    assert line[:-1].isprintable()
    if form == "json":
        assert json.loads(line)["reason"] == f"b{evil}c"


def test_words_in_any_language_stay_readable_on_a_terminal() -> None:
    (line,) = lines_of("text", said("shadow %s antwortet nicht", "größer"))
    assert line.endswith(" shadow größer antwortet nicht\n")


@pytest.mark.parametrize("form", ["json", "text"])
def test_a_defect_is_told_by_its_type_and_place_and_never_by_its_words(form: Form) -> None:
    try:
        int("s3cret from a body")
    except ValueError:
        record = said("a defect in the proxy")
        record.exc_info = sys.exc_info()
    (first, *rest) = lines_of(form, record)
    whole = "".join((first, *rest))
    assert "s3cret" not in whole
    assert f"{__file__}:" in whole
    assert "ValueError" in whole
    assert all(line.startswith("    ") for line in rest)
    assert (len(rest) == 0) is (form == "json")


def test_of_an_error_of_the_system_its_reason_is_told() -> None:
    try:
        Path("/nowhere/at all").read_bytes()
    except OSError:
        record = said("cannot read")
        record.exc_info = sys.exc_info()
    assert json_of(record)[0]["exception"] == "FileNotFoundError: No such file or directory"


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


@pytest.mark.parametrize(("stream", "begins"), [(Terminal(), "2"), (io.StringIO(), "{")])
def test_a_terminal_is_written_text_and_anything_else_json(stream: io.StringIO, begins: str) -> None:
    log = OperatorLog("auto", stream)
    log.emit(said("listening"))
    log.close()
    assert stream.getvalue().startswith(begins)


# --- what is told ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("level", "heard"),
    [
        ("debug", ["debug", "info", "warning", "error", "other warning"]),
        ("info", ["info", "warning", "error", "other warning"]),
        ("warning", ["warning", "error", "other warning"]),
        ("error", ["error"]),
    ],
)
def test_the_level_decides_what_is_told_and_of_other_libraries_only_warnings_are(level: Any, heard: list[str]) -> None:
    stream = io.StringIO()
    with opened(Telling(level=level, form="json"), stream):
        own, other = logging.getLogger("shadowproxy.serve.x"), logging.getLogger("elsewhere")
        for name in ("debug", "info", "warning", "error"):
            getattr(own, name)(name)
        other.info("other info")
        other.warning("other warning")
    assert [json.loads(line)["message"] for line in stream.getvalue().splitlines()] == heard


def test_a_repeated_failure_is_told_at_the_1st_2nd_4th_and_8th_time() -> None:
    repeats = Repeats(clock=lambda: 0.0)
    assert [repeats.worth_telling("live", "timeout") for _ in range(9)] == [1, 2, 0, 4, 0, 0, 0, 8, 0]


def test_each_kind_of_failure_is_counted_by_itself() -> None:
    repeats = Repeats(clock=lambda: 0.0)
    assert [repeats.worth_telling("a", "timeout"), repeats.worth_telling("b", "timeout")] == [1, 1]


def test_a_kind_of_failure_that_was_quiet_for_a_while_begins_anew() -> None:
    now = 0.0
    repeats = Repeats(clock=lambda: now)
    for _ in range(3):
        repeats.worth_telling("live", "timeout")
    now = QUIET - 1.0
    assert repeats.worth_telling("live", "timeout") == 4
    now += QUIET
    assert repeats.worth_telling("live", "timeout") == 1


# --- a line for each request -----------------------------------------------------------------------------------------


def test_a_request_is_told_without_its_query() -> None:
    (told,) = json_of(ONE)
    assert re.fullmatch(TIME, told.pop("time"))
    assert told == {
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
    (line,) = lines_of("text", Served("r", "GET", b"/\xc2\x9b" + b"a" * 5000, None, "caller_left", 1.0, 0))
    assert line.split()[3].startswith("/Â\\x9baaa")
    assert line.split()[3].endswith("a…")
    assert len(line.split()[3]) == PATH_MOST + 4
    assert line.split()[4:6] == ["-", "caller_left"]


# --- nobody waits ----------------------------------------------------------------------------------------------------


class Stuck(io.StringIO):
    """A reader that takes nothing until it is let go."""

    def __init__(self) -> None:
        super().__init__()
        self.begun, self.go = threading.Event(), threading.Event()

    def write(self, text: str) -> int:
        self.begun.set()
        assert self.go.wait(10)
        return super().write(text)


def test_lines_that_found_no_room_are_counted_and_told_of() -> None:
    stream = Stuck()
    log = OperatorLog("json", stream)
    log.emit(said("first"))
    assert stream.begun.wait(10)
    for _ in range(ACCESS_WAITING + WAITING + 7):
        log.emit(said("more"))
    stream.go.set()
    log.close()
    told = [json.loads(line) for line in stream.getvalue().splitlines()]
    assert len(told) == 1 + ACCESS_WAITING + WAITING + 1
    assert [(each["event"], each["count"]) for each in told if "event" in each] == [("lines_dropped", 7)]


def test_an_event_finds_room_however_many_requests_are_to_be_told() -> None:
    stream = Stuck()
    log = OperatorLog("json", stream)
    log.emit(said("first"))
    assert stream.begun.wait(10)
    for _ in range(ACCESS_WAITING + 9):
        log.access(ONE)
    log.emit(said("live failed"))
    stream.go.set()
    log.close()
    told = [json.loads(line) for line in stream.getvalue().splitlines()]
    assert [each["count"] for each in told if each.get("event") == "lines_dropped"] == [9]
    assert [each["message"] for each in told][-1] == "live failed"
    assert sum(each.get("event") == "access" for each in told) == ACCESS_WAITING


@pytest.mark.slow
def test_a_reader_that_does_not_read_holds_up_nobody() -> None:
    script = (
        "import logging, time; from shadowproxy.serve.operator_log import WAITING, OperatorLog; "
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
    log.emit(said("to nobody"))
    log.emit(said("to nobody still"))
    log.close()
    assert not log._thread.is_alive()
