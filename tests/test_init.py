"""`shadowproxy init`: three questions, or options, give a file that works and that editors know."""

import json
import os
import platform
import pty
import re
import select
import signal
import stat
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import jsonschema  # type: ignore[import-untyped]  # its types are a package of their own
import pytest
import yaml
from program import PATIENCE

from shadowproxy import __version__, cli, compiled, config
from shadowproxy.config.schema import FILE
from shadowproxy.config.starter import log_of, shadow_of, starter

GIVEN = ["--live", "http://a:1", "--shadow", "GPT-4o=http://b:2"]


def run(*words: str | Path) -> int:
    """The exit status, without a terminal: pytest takes standard input away."""
    sys.argv = ["shadowproxy", *map(str, words)]
    with pytest.raises(SystemExit) as ended:
        cli.main()
    return int(ended.value.code or 0)


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "argv", sys.argv)
    monkeypatch.setattr(sys, "stdin", None)
    return tmp_path


# --- the file --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("live", "shadows", "log"),
    [
        ("http://127.0.0.1:9001", {"challenger": "http://127.0.0.1:9002"}, "shadow-log"),
        ("https://api.example/v1/", {"GPT-4.1": "https://b", "7": "http://c", "true": "http://d"}, "-"),
        ("http://[::1]:80", {"e5": "http://x/~a:b"}, "/var/log/with blanks/${HOME} #1: 'x' \"y\""),
        ("http://a", {"b": "http://b"}, "2026"),
    ],
)
def test_the_file_loads_and_means_what_was_answered(
    tmp_path: Path, live: str, shadows: dict[str, str], log: str
) -> None:
    text = starter(live, shadows, log, file="config.yaml", schema="config.schema.json")
    (tmp_path / "config.yaml").write_text(text)
    made = config.load(tmp_path / "config.yaml", {})
    sections = {name: {"url": url} for name, url in shadows.items()}
    assert made == config.from_values({"live": {"url": live}, "shadows": sections, "log": {"path": log}})
    assert config.warnings_for(made) == ()
    errors = jsonschema.Draft202012Validator(json.loads(FILE.read_text())).iter_errors(yaml.safe_load(text))
    assert [error.message for error in errors] == []


def test_what_it_shows_in_comments_would_load_too(tmp_path: Path) -> None:
    text = starter("http://a", {"b": "http://b"}, "x", file="c.yaml", schema="c.schema.json")
    text = text.replace("    # headers: {set", "    headers: {set")
    text = text.replace("tolerance: {} ", "tolerance: {/score: 0.001} ")
    (tmp_path / "c.yaml").write_text(text)
    made = config.load(tmp_path / "c.yaml", {"SHADOW_KEY": "k"})
    assert made.shadows["b"].headers.set == {"Authorization": "Bearer k"}
    assert config.warnings_for(made) == ()


@pytest.mark.parametrize("text", ["", "model:8000", "ftp://a", "NAME=", "a b=http://x", "live=http://x", "=http://x"])
def test_what_is_no_shadow_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match=r"^(must|is not|cannot)"):
        shadow_of(text)


def test_a_url_alone_is_the_challenger() -> None:
    assert shadow_of(" http://b/p=1 ") == ("challenger", "http://b/p=1")
    with pytest.raises(ValueError, match="directory"):
        log_of("a\nb")


# --- from options ----------------------------------------------------------------------------------------------------


def test_from_options_it_writes_the_file_and_its_schema(here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run("init", *GIVEN, "--shadow", "second=http://c", "--log", "logs", "-o", "mine.yaml") == 0
    made = config.load(here / "mine.yaml", {})
    assert {name: shadow.url for name, shadow in made.shadows.items()} == {"GPT-4o": "http://b:2", "second": "http://c"}
    first = (here / "mine.yaml").read_text().splitlines()[0]
    named = first.removeprefix("# yaml-language-server: $schema=")
    assert (here / named).read_bytes() == FILE.read_bytes()
    told = capsys.readouterr().out
    assert "shadowproxy check -c mine.yaml" in told
    assert "shadowproxy report logs -c mine.yaml" in told


def test_the_commands_to_go_on_with_are_quoted_for_a_shell(here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run("init", *GIVEN, "--log", "my logs", "-o", "my file.yaml") == 0
    lines = (here / "my file.yaml").read_text().splitlines()
    assert lines[0] == "# yaml-language-server: $schema=my%20file.schema.json"  # such a line ends at a blank
    assert lines[1].startswith("# What `shadowproxy serve -c 'my file.yaml'` does.")
    assert capsys.readouterr().out.splitlines()[1:] == [
        "  shadowproxy check -c 'my file.yaml'",
        "  shadowproxy serve -c 'my file.yaml'",
        "  shadowproxy report 'my logs' -c 'my file.yaml'",
    ]


def test_the_page_s_command_writes_a_file(here: Path) -> None:
    page = (Path(__file__).parent.parent / "docs/reference/configuration.md").read_text()
    (line,) = re.findall(r"^shadowproxy (init .*)$", page, re.MULTILINE)
    assert run(*line.split()) == 0
    made = config.load(here / "shadow.yaml", {})
    assert (made.live.url, made.shadows["GPT-4o"].url) == ("http://model-v1:8000", "http://model-v2:8000")


def test_to_standard_output_it_writes_nothing_else(here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run("init", *GIVEN, "-o", "-") == 0
    written = capsys.readouterr().out
    assert yaml.safe_load(written)["live"] == {"url": "http://a:1"}
    assert "$schema=config.schema.json\n" in written  # no file is called "-"
    assert "`shadowproxy serve -c config.yaml`" in written
    assert list(here.iterdir()) == []


def test_a_file_that_is_there_is_left_alone_unless_told(here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (here / "config.yaml").write_text("mine")
    assert run("init", *GIVEN) == 2
    assert capsys.readouterr().err == (
        "shadowproxy: config.yaml is there already: --force replaces it, -o FILE writes another\n"
    )
    assert (here / "config.yaml").read_text() == "mine"
    assert run("init", *GIVEN, "--force") == 0
    assert config.load(here / "config.yaml", {}).live.url == "http://a:1"


def test_another_file_in_the_place_of_the_schema_is_left_alone_too(here: Path) -> None:
    (here / "config.schema.json").write_text('{"title": "mine"}')
    assert run("init", *GIVEN) == 2
    assert sorted(path.name for path in here.iterdir()) == ["config.schema.json"]
    (here / "config.schema.json").write_text('{"title": "The configuration of shadowproxy"}')  # an earlier version's
    assert run("init", *GIVEN) == 0


@pytest.mark.parametrize(
    ("words", "line"),
    [
        ([], "give --live URL and --shadow NAME=URL: there is no terminal to ask on"),
        (["--live", "http://a"], "give --live URL and --shadow NAME=URL: there is no terminal to ask on"),
        (["--live", "a", "--shadow", "http://b"], "--live: must begin with http:// or https://"),
        (["--live", "http://a", "--shadow", "b"], "--shadow: must begin with http:// or https://"),
        ([*GIVEN, "--shadow", "GPT-4o=http://c"], "--shadow: the name GPT-4o is given twice"),
        ([*GIVEN, "--log", ""], '--log: must be a directory, or "-" for standard output'),
        ([*GIVEN, "-o", "nowhere/config.yaml"], "cannot write nowhere/config.yaml: No such file or directory"),
    ],
)
def test_what_is_wrong_is_one_line_and_nothing_is_written(
    here: Path, capsys: pytest.CaptureFixture[str], words: list[str], line: str
) -> None:
    assert run("init", *words) == 2
    assert capsys.readouterr().err == f"shadowproxy: {line}\n"
    assert list(here.iterdir()) == []


# --- on a terminal ---------------------------------------------------------------------------------------------------


class Terminal:
    """A child with a terminal of its own, and what it has said there."""

    def __init__(self, directory: Path, *words: str) -> None:
        self._ours, theirs = pty.openpty()
        command = [sys.executable, "-m", "shadowproxy", "init", *words]
        environment = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}
        self.process = subprocess.Popen(
            command, cwd=directory, env=environment, stdin=theirs, stdout=theirs, stderr=theirs, start_new_session=True
        )
        os.close(theirs)
        self.said = ""

    def until(self, holds: Callable[[str], bool]) -> None:
        while not holds(self.said):
            ready, _, _ = select.select([self._ours], [], [], PATIENCE)
            assert ready, self.said
            try:
                self.said += os.read(self._ours, 4096).decode()
            except OSError:  # it has ended
                break

    def answer(self, text: bytes, after: str) -> None:
        seen = len(self.said)
        self.until(lambda said: after in said)
        assert after in self.said, self.said[seen:]
        os.write(self._ours, text)

    def end(self) -> int:
        self.until(lambda _: False)
        os.close(self._ours)
        return self.process.wait(PATIENCE)


@pytest.mark.slow
def test_on_a_terminal_it_asks_three_questions_and_again_after_a_bad_answer(tmp_path: Path) -> None:
    terminal = Terminal(tmp_path)
    terminal.answer(b"model:8000\n", "[http://127.0.0.1:9001]: ")
    terminal.answer(b"http://model:8000\n", "That must begin with http:// or https://.")
    terminal.answer(b"GPT-4o=http://b\n", "[challenger=http://127.0.0.1:9002]: ")
    terminal.answer(b"\n", "[shadow-log]: ")
    assert terminal.end() == 0
    made = config.load(tmp_path / "config.yaml", {})
    assert (made.live.url, list(made.shadows), made.log.path) == ("http://model:8000", ["GPT-4o"], "shadow-log")
    assert stat.S_IMODE((tmp_path / "config.yaml").stat().st_mode) & 0o400


@pytest.mark.slow
@pytest.mark.parametrize("key", [b"\x03", b"\x04"], ids=["Ctrl-C", "Ctrl-D"])
def test_a_user_who_leaves_finds_nothing_written(tmp_path: Path, key: bytes) -> None:
    terminal = Terminal(tmp_path, "--live", "http://a")
    if key == b"\x03":  # the terminal's driver would send it to a foreground group, which a test's child is not
        terminal.until(lambda said: "9002]: " in said)
        os.kill(terminal.process.pid, signal.SIGINT)
    else:
        terminal.answer(key, "9002]: ")
    assert terminal.end() == 130
    assert "nothing is written" in terminal.said
    assert "Traceback" not in terminal.said
    assert list(tmp_path.iterdir()) == []


# --- the version and the schema --------------------------------------------------------------------------------------


def test_the_version_says_what_runs(here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run("version") == 0
    text = capsys.readouterr().out
    assert text.splitlines()[0] == f"shadowproxy {__version__}{' (compiled)' if compiled() else ''}"
    assert f"Python {platform.python_version()}" in text
    assert run("version", "--json") == 0
    told = json.loads(capsys.readouterr().out)
    assert (told["version"], told["compiled"]) == (__version__, compiled())
    assert told["python"] == platform.python_version()


def test_the_schema_has_the_name_of_its_version_and_a_place(here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run("schema") == 0
    schema = json.loads(capsys.readouterr().out)
    assert schema["$id"] == f"urn:shadowproxy:config:{'.'.join(__version__.split('.')[:2])}"
    assert run("schema", "--path") == 0
    assert Path(capsys.readouterr().out.removesuffix("\n")).read_bytes() == FILE.read_bytes()
