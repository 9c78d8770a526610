"""The program as a person meets it: words on the right stream, exit codes, and never a traceback."""

import json
import os
import re
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Mapping
from pathlib import Path

import click
import pytest
from program import Program

from shadowproxy import version_text
from shadowproxy.cli import commands

PROGRAM = [sys.executable, "-m", "shadowproxy"]
COMMANDS = sorted(commands.commands)


def run(*words: str | Path, stdin: bytes = b"", **environment: str) -> subprocess.CompletedProcess[str]:
    """The real program, without a terminal. None of its ways to fail may end in a traceback."""
    done = subprocess.run(
        [*PROGRAM, *map(str, words)],
        input=stdin.decode(),
        capture_output=True,
        text=True,
        timeout=60,
        env={**os.environ, **environment},
    )
    assert "Traceback" not in done.stderr
    return done


def fault(*words: str | Path) -> str:
    """What the program says of a mistake: status 2, nothing on standard output, every line under its own name."""
    done = run(*words)
    assert done.returncode == 2
    assert done.stdout == ""
    assert done.stderr
    assert all(line.startswith("shadowproxy: ") for line in done.stderr.splitlines())
    return done.stderr


def leg(outcome: str, value: float, **more: object) -> dict[str, object]:
    return {
        "outcome": outcome,
        "status": 200,
        "headers": {"content-type": "application/json"},
        "body": {"p": value},
        "body_bytes": 9,
        "first_byte_ms": 1.5,
        "total_ms": 2.5,
        **more,
    }


@pytest.fixture
def log(tmp_path: Path) -> Path:
    """Twenty exchanges, the last two under one request ID, and a torn line."""
    path = tmp_path / "log.jsonl"
    with path.open("w") as file:
        for number in range(20):
            shadow = 0.5 if number % 2 else 0.75
            difference = [{"path": "/p", "kind": "value", "live": 0.5, "shadow": 0.75}]
            verdict = {"verdict": "match"} if number % 2 else {"verdict": "mismatch", "differences": difference}
            record = {
                "schema": 1,
                "id": f"id-{min(number, 18)}",
                "record": f"0198c0de-0000-7000-8000-{number:012}",
                "at": f"2026-01-31T12:00:{number:02}.000000Z",
                "proxy": "host/0",
                "request": {"method": "POST", "path": "/p", "query": "", "headers": {}, "body": None, "body_bytes": 0},
                "live": leg("ok", 0.5),
                "shadows": {"challenger": leg("ok", shadow, **verdict)},
                "control": None,
            }
            file.write(json.dumps(record) + "\n")
        file.write('{"schema":1,"id":"torn')
    return path


# --- words -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("word", ["--version", "-V"])
def test_the_version_is_one_line(word: str) -> None:
    assert run(word).stdout == f"shadowproxy {version_text()}\n"


def test_saying_the_version_loads_nothing_that_starting_python_does_not() -> None:
    script = "import sys; from shadowproxy.__main__ import main; main(); print(*sys.modules)"
    done = subprocess.run([sys.executable, "-c", script, "--version"], capture_output=True, text=True, check=True)
    assert not set(done.stdout.split()) & {"click", "typing", "re", "socket", "shadowproxy.cli"}


def test_the_command_line_loads_no_http_stack_and_no_models() -> None:
    script = "import sys; from shadowproxy import cli; print(*sys.modules)"
    loaded = set(
        subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True).stdout.split()
    )
    assert "click" in loaded
    assert not loaded & {"httpx", "uvicorn", "uvloop", "pydantic", "yaml", "orjson", "rich", "ssl", "asyncio"}


@pytest.mark.parametrize("command", ["--version", "--help", "schema"])
def test_output_that_cannot_be_written_is_one_line(command: str) -> None:
    with open("/dev/full", "w") as full:
        done = subprocess.run([*PROGRAM, command], stdout=full, stderr=subprocess.PIPE, text=True, timeout=60)
    assert done.returncode in (1, 2)
    assert done.stderr == "shadowproxy: cannot write to standard output: No space left on device\n"


async def test_serving_imports_neither_httpx_nor_rich(tmp_path: Path) -> None:
    """They would be an eighth of the time until callers are served."""
    for name in ("httpx", "rich"):
        (tmp_path / f"{name}.py").write_text(f"raise RuntimeError('{name} is imported')")
    values = {"live": {"respond": {"status": 200, "text": "fixed"}}, "admin": "127.0.0.1:0"}
    async with Program(tmp_path, values, environment={"PYTHONPATH": str(tmp_path)}) as program:
        answer = await program.ask(b"GET / HTTP/1.1\r\nHost: h\r\n\r\n")
        assert answer.body == b"fixed"
        assert await program.stop() == 0


def test_the_console_script_is_the_same_program() -> None:
    script = Path(sys.executable).with_name("shadowproxy")
    done = subprocess.run([script, "--version"], capture_output=True, text=True, check=True)
    assert done.stdout == run("--version").stdout


def test_help_names_every_command() -> None:
    done = run("--help")
    assert done.returncode == 0
    for name in COMMANDS:
        assert re.search(rf"^  {name} ", done.stdout, re.MULTILINE)


@pytest.mark.parametrize("command", [(), *((name,) for name in COMMANDS)])
def test_help_ends_with_examples_that_the_program_takes(command: tuple[str, ...]) -> None:
    text = run(*command, "-h").stdout
    examples = re.findall(r"^ *shadowproxy (.+)$", text.partition("Examples:")[2], re.MULTILINE)
    assert examples
    for example in examples:
        words = example.partition("|")[0].split()
        context = click.Context(commands)
        name, found, rest = commands.resolve_command(context, words)
        assert found is not None
        found.make_context(name, rest, parent=context)


def test_without_a_command_the_help_comes_and_the_status_is_2() -> None:
    done = run()
    assert (done.returncode, done.stdout) == (2, "")
    assert "Commands:" in done.stderr


def test_a_misspelt_command_is_one_line_with_the_right_one() -> None:
    assert "'serve'" in fault("sevre")


# --- serve -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("words", "told"),
    [
        ((), "give -c FILE, or --live URL"),
        (("--live", "http://a", "-c", "x.yaml"), "x.yaml: cannot be read: No such file"),
        (("--shadow", "b=http://b"), "give -c FILE, or --live URL"),
        (("--live", "http://a", "--shadow", "b"), '"b" is not NAME=URL'),
        (("--live", "http://a", "--shadow", "b=http://b", "--shadow", "b=http://c"), "the name b is given twice"),
        (("--live", "model:8000"), "--live: must begin with http://"),
        (("--live", "http://a", "--shadow", "b=ftp://b"), "--shadow b: must begin with http://"),
        (("--live", "http://a", "--listen", "8080"), "--listen: must be host:port"),
        (("--live", "http://a", "--log", ""), "--log: must be a directory"),
        (("-c", "nowhere.yaml"), "nowhere.yaml: cannot be read: No such file or directory"),
        (("--workers", "2"), "No such option"),
    ],
)
def test_serve_says_what_is_wrong_with_its_words(words: tuple[str, ...], told: str) -> None:
    said = fault("serve", *words)
    assert told in said
    assert len(said.splitlines()) == 1


def test_serve_says_which_key_is_misspelt(tmp_path: Path) -> None:
    path = tmp_path / "config.yaml"
    path.write_text("live: {url: http://a}\nshadows:\n  b: {url: http://b, timout: 3s}\n")
    assert fault("serve", "-c", path) == (
        f'shadowproxy: {path}:3: shadows.b.timout: unknown key (did you mean "timeout"?)\n'
    )


def test_serve_says_that_the_port_is_in_use(tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        words = ("--live", "http://a", "--listen", f"127.0.0.1:{taken.getsockname()[1]}", "--log", tmp_path / "log")
        said = run("serve", *words, "--shadow", "b=http://b")
    assert said.returncode == 2
    assert re.fullmatch(r"shadowproxy: cannot listen on .*in use\n", said.stderr)


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_serve_says_where_it_listens_and_ends_with_0_when_told_to(tmp_path: Path, number: signal.Signals) -> None:
    words = [
        "--live",
        "http://127.0.0.1:1",
        "--shadow",
        "b=http://127.0.0.1:2",
        "--listen",
        "127.0.0.1:0",
        "--admin",
        "off",
    ]
    with subprocess.Popen(
        [*PROGRAM, "serve", *words, "--log", str(tmp_path / "log")],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    ) as process:
        assert process.stderr is not None
        line = process.stderr.readline()
        process.send_signal(number)
        out, err = process.communicate(timeout=30)
    assert re.search(
        r"shadowproxy \S+ listening on http://127\.0\.0\.1:[1-9]\d*, live http://127\.0\.0\.1:1, shadows b, log ", line
    )
    assert process.returncode == 0
    assert out == ""
    assert "Traceback" not in err


# --- check -----------------------------------------------------------------------------------------------------------


ANYWHERE = "listen: 127.0.0.1:0\nadmin: null\n"  # the default addresses may be somebody's


def test_check_ends_with_1_when_something_is_out_of_reach(tmp_path: Path) -> None:
    with socket.socket() as bound:
        bound.bind(("127.0.0.1", 0))
        path = tmp_path / "config.yaml"
        path.write_text(
            f"{ANYWHERE}live: {{url: 'http://127.0.0.1:{bound.getsockname()[1]}'}}\nlog: {{path: {tmp_path}}}\n"
        )
        done = run("check", "-c", path)
    assert done.returncode == 1
    assert "connection refused" in done.stdout
    assert done.stdout.endswith("NOT READY: live\n")
    assert "\x1b" not in done.stdout


def test_check_ends_with_0_when_all_is_well(tmp_path: Path) -> None:
    path = tmp_path / "config.yaml"
    path.write_text(f"{ANYWHERE}live: {{respond: {{}}}}\nlog: {{path: {tmp_path}}}\n")
    assert run("check", "-c", path).returncode == 0


def test_check_wants_a_file_or_what_serve_takes_instead(tmp_path: Path) -> None:
    assert "give -c FILE, or --live URL" in fault("check")
    assert "--shadow b: must begin with http" in fault("check", "--live", "http://a", "--shadow", "b=ftp://b")
    flags = ("--listen", "127.0.0.1:0", "--admin", "off", "--log", tmp_path)
    done = run("check", "--live", "http://127.0.0.1:1", "--shadow", "b=http://127.0.0.1:1", *flags)
    assert done.stdout.endswith("NOT READY: live, shadow b\n")


def test_check_says_what_serve_would_say_of_a_bad_file(tmp_path: Path) -> None:
    path = tmp_path / "config.yaml"
    path.write_text("live: {url: http://a}\ndrain: soon\n")
    assert fault("check", "-c", path) == fault("serve", "-c", path)


# --- report and show -------------------------------------------------------------------------------------------------


def test_report_is_text_for_people_and_json_for_programs(log: Path) -> None:
    text = run("report", log)
    assert text.returncode == 3  # so few requests settle nothing
    assert "challenger" in text.stdout
    assert "\x1b" not in text.stdout
    figures = json.loads(run("report", log, "--json").stdout)
    assert figures["shadows"]["challenger"]["agreement"]["verdicts"]["mismatch"] == 10


def test_report_reads_standard_input(log: Path) -> None:
    assert run("report", "-", stdin=log.read_bytes()).stdout == run("report", log).stdout


def test_report_compares_anew_by_the_rules_of_a_file(log: Path, tmp_path: Path) -> None:
    path = tmp_path / "config.yaml"
    path.write_text("live: {respond: {}}\ncompare: {tolerance: {/p: 0.3}}\n")
    verdicts = json.loads(run("report", log, "-c", path, "--json").stdout)["shadows"]["challenger"]["agreement"][
        "verdicts"
    ]
    assert (verdicts["match"], verdicts["mismatch"]) == (20, 0)


def test_report_ends_with_3_when_there_is_nothing_to_tell(tmp_path: Path) -> None:
    assert run("report", tmp_path).returncode == 3


def test_report_ends_with_3_when_no_record_has_that_shadow(log: Path) -> None:
    done = run("report", log, "--shadow", "nobody")
    assert done.returncode == 3
    assert "no record has a shadow called nobody" in done.stderr


def test_a_log_that_is_not_there_is_one_line(tmp_path: Path) -> None:
    for command in (("report", tmp_path / "nowhere"), ("show", tmp_path / "nowhere", "id")):
        assert "nowhere: No such file or directory" in fault(*command)


@pytest.mark.parametrize("key", ["id-4", "0198c0de-0000-7000-8000-000000000004"])
def test_show_finds_an_exchange_by_its_request_id_and_by_its_own(log: Path, key: str) -> None:
    done = run("show", log, key)
    assert done.returncode == 0
    assert "0.75" in done.stdout


def test_show_shows_every_record_of_a_request_id_that_was_repeated(log: Path) -> None:
    assert run("show", log, "id-18").stdout.count("POST /p") == 2


def test_show_ends_with_1_when_there_is_no_such_id(log: Path) -> None:
    done = run("show", log, "nobody")
    assert (done.returncode, done.stdout) == (1, "")
    assert done.stderr == f"shadowproxy: no record in {log} has the ID nobody\n"


def test_show_says_that_a_record_has_no_such_shadow(log: Path) -> None:
    done = run("show", log, "id-4", "--shadow", "nobody")
    assert done.returncode == 1
    assert done.stderr == "shadowproxy: no record with the ID id-4 has a shadow called nobody; it went to challenger\n"


@pytest.mark.parametrize(
    "words", [["report", "LOG"], ["report", "LOG", "--json"], ["show", "LOG", "id-4"], ["--version"], ["--help"]]
)
def test_a_reader_that_leaves_early_is_no_error(log: Path, words: list[str]) -> None:
    reading, writing = os.pipe()
    os.close(reading)
    words = [str(log) if word == "LOG" else word for word in words]
    try:
        done = subprocess.run([*PROGRAM, *words], stdout=writing, stderr=subprocess.PIPE, timeout=60)
    finally:
        os.close(writing)
    assert (done.returncode, done.stderr) == (141, b"")


@pytest.mark.skipif(not Path("/dev/stdin").exists(), reason="needs a pipe that can be opened by name")
def test_ctrl_c_ends_a_report_with_130_and_no_traceback(tmp_path: Path) -> None:
    environment: Mapping[str, str] = {**os.environ, "PYTHONUNBUFFERED": "1"}
    with subprocess.Popen(
        [*PROGRAM, "report", "-"],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        env=environment,
        # A shell that starts the tests in the background has this signal ignored in all that it starts.
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),
    ) as process:
        status = Path(f"/proc/{process.pid}/wchan")
        until = time.monotonic() + 20
        # Interrupting the interpreter while it still starts is another matter: wait until it waits for its input.
        while "pipe" not in status.read_text() and time.monotonic() < until:
            time.sleep(0.01)
        process.send_signal(signal.SIGINT)
        _, err = process.communicate(timeout=30)
    assert process.returncode == 130
    assert b"Traceback" not in err
