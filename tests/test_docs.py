"""The documents are correct: their commands run, their keys and defaults are the program's, their links exist."""

import os
import re
import shlex
import shutil
import signal
import socket
import subprocess
import sys
import textwrap
import threading
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import asdict
from functools import cache
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest
import yaml

from shadowproxy import config
from shadowproxy.compare.report.checks.all import RULES
from shadowproxy.compare.report.gates import Gates, load_gates

ROOT = Path(__file__).parent.parent
DOCUMENTS = [*sorted(ROOT.glob("*.md")), *sorted((ROOT / "docs").rglob("*.md"))]
README = (ROOT / "README.md").read_text()
EXAMPLE = (ROOT / "config.example.yaml").read_text()
REFERENCE = (ROOT / "docs" / "reference" / "configuration.md").read_text()
ROW = re.compile(r"^\| `([^`]+)` \|([^|]*)\|", re.MULTILINE)
MARKED = re.compile(r"<!-- (run|run: 0, 1 or 3|run in the background) -->\n```sh\n(.*?)```", re.DOTALL)
PLACEHOLDERS = {"NAME": "challenger", "POINTER": "/p"}

# --- the configuration's keys ----------------------------------------------------------------------------------------


def test_the_example_does_the_same_as_a_file_without_its_defaults() -> None:
    given = {"live": {"url": "http://127.0.0.1:9001"}, "shadows": {"challenger": {"url": "http://127.0.0.1:9002"}}}
    assert config.load(ROOT / "config.example.yaml") == config.from_values(given)


def test_the_example_spells_out_every_key() -> None:
    values = yaml.safe_load(EXAMPLE)
    values["compare"]["tolerance"] = {"*": {"abs": 0, "rel": 0}}  # these, and the next five, are in comments
    values["live"]["respond"] = {"status": 0, "headers": 0, "json": 0, "text": 0}
    values["listen_tls"] = {"cert": 0, "key": 0, "client_ca": 0}
    conditions = {"live_p99_ratio": 0, "shadow_errors": 0}
    values["shadows"]["challenger"]["percent"] = {"from": 0, "to": 0, "over": 0, "hold_out": 0, "while": conditions}
    values["log"]["bodies"] = dict.fromkeys(("match", "mismatch", "incomparable", "failed", "alone"), 0)
    values["shadows"]["challenger"]["state"] = {"learn": 0, "into": 0, "pairs": 0, "age": 0}
    assert {key for key in sorted(config.keys()) if not holds(values, key.split("."))} == set()
    for words in (
        "respond: {status: 200, headers:",
        "json: {late",
        'text: "',
        "{cert: tls.crt, key: tls.key, client_ca: null}",
        "{from: 1, to: 100, over: 2h, hold_out: 5, while: {live_p99_ratio: 1.05, shadow_errors: 0.02}}",
        "{match: hash, mismatch: full, incomparable: full, failed: full, alone: full}",
        "{learn: [/id], into: [path, json], pairs: 20000, age: 1h}",
        "abs: 0.001",
        "rel: 0.05",
    ):
        assert words in EXAMPLE


def holds(values: Any, steps: list[str]) -> bool:
    if not steps:
        return True
    inner = next(iter(values.values()), None) if steps[0] == "*" else values.get(steps[0], holds)
    return inner is not holds and holds(inner, steps[1:])


def documented() -> dict[str, str]:
    """Each key of the reference's tables, with its default column."""
    return {key: default.strip().strip("`") for key, default in ROW.findall(REFERENCE)}


def test_the_reference_has_a_row_for_every_key_and_for_nothing_else() -> None:
    generic = {re.sub(r"NAME|POINTER", "*", key) for key in documented()}
    known = set(config.keys())
    leaves = {key for key in known if not any(other.startswith(f"{key}.") for other in known)}
    assert leaves - generic == set()
    assert generic - known == set()


@pytest.mark.parametrize(("key", "default"), sorted((key, default) for key, default in documented().items() if default))
def test_the_reference_states_the_default_that_is_used(key: str, default: str) -> None:
    base: dict[str, Any] = {
        "live": {"respond": {}} if key.startswith("live.respond.") or key == "live.url" else {"url": "http://a"},
        "shadows": {"challenger": {"url": "http://b"}},
        "compare": {"tolerance": {"/p": {}}},
    }
    if key.startswith("listen_tls."):
        base["listen_tls"] = {"cert": "/dev/null"}
    if ".percent." in key:
        base["shadows"]["challenger"]["percent"] = {"from": 1, "over": "1h"}
    if ".bodies." in key:
        base["log"] = {"bodies": {}}
    if ".state." in key:
        base["shadows"]["challenger"]["state"] = {}
    without = config.from_values(base)
    inner = base
    *parents, last = [PLACEHOLDERS.get(step, step) for step in key.split(".")]
    for step in parents:
        inner = inner.setdefault(step, {})
    if key != "compare.tolerance":
        inner[last] = yaml.safe_load(default)
        assert config.from_values(base) == without
    else:
        assert yaml.safe_load(default) == config.from_values({"live": {"respond": {}}}).compare.tolerance


def test_the_report_page_states_the_default_gates_and_every_check() -> None:
    page = (ROOT / "docs" / "explanation" / "report.md").read_text()
    (allowed,) = re.findall(r"## What is allowed\n.*?```\n(.*?)```", page, re.DOTALL)
    assert yaml.safe_load(allowed) == asdict(Gates())
    checks = {rule.name for rule in RULES} | {"records"}
    (table,) = re.findall(r"\| Check \|.*?\n\n", page, re.DOTALL)
    assert set(re.findall(r"^\| `(\w+)` \|", table, re.MULTILINE)) == checks


def test_the_changelog_has_the_gates_that_restore_the_old_checks(tmp_path: Path) -> None:
    (before,) = re.findall(r"```\n( +json: .*?)```", (ROOT / "CHANGELOG.md").read_text(), re.DOTALL)
    (tmp_path / "gates.yaml").write_text(textwrap.dedent(before))
    off = {name for name, value in asdict(load_gates(tmp_path / "gates.yaml")).items() if value is None}
    assert off == {"answered", "flips", "related", "range", "unexplained", "slices", "min_agreement"}


needs_curl = pytest.mark.skipif(shutil.which("curl") is None, reason="the documents use curl")

# --- the README's commands -------------------------------------------------------------------------------------------


class Model(BaseHTTPRequestHandler):
    """A model server with one fixed response."""

    protocol_version = "HTTP/1.1"
    answer = b"{}"

    def do_POST(self) -> None:
        self.rfile.read(int(self.headers["Content-Length"]))
        head = f"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: {len(self.answer)}\r\n\r\n"
        self.wfile.write(head.encode() + self.answer)

    def log_message(self, format: str, *args: object) -> None:
        """Standard error is the test runner's."""


def serving(answer: bytes) -> ThreadingHTTPServer:
    server = ThreadingHTTPServer(("127.0.0.1", 0), type("Model", (Model,), {"answer": answer}))
    threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True).start()
    return server


@pytest.fixture
def ports() -> Iterator[dict[str, str]]:
    """The README's ports, and the ports used here instead: other programs may be using the real ones."""
    live, shadow = serving(b'{"p": [0.5], "from": "live"}'), serving(b'{"p": [0.7], "from": "challenger"}')
    with socket.socket() as one, socket.socket() as other:
        one.bind(("127.0.0.1", 0))
        other.bind(("127.0.0.1", 0))
        callers, admin = str(one.getsockname()[1]), str(other.getsockname()[1])
    yield {"9001": str(live.server_port), "9002": str(shadow.server_port), "8080": callers, "9901": admin}
    for server in (live, shadow):
        server.shutdown()
        server.server_close()


def moved(text: str, ports: dict[str, str]) -> str:
    return re.sub(r"127\.0\.0\.1:(\d+)", lambda found: f"127.0.0.1:{ports[found[1]]}", text)


def blocks(language: str, text: str = README) -> list[str]:
    return re.findall(rf"```{language}\n(.*?)```", text, re.DOTALL)


@pytest.fixture
def free_ports() -> dict[str, str]:
    """The README's ports, and free ones to use instead."""
    with ExitStack() as stack:
        taken = [stack.enter_context(socket.create_server(("127.0.0.1", 0))) for _ in range(4)]
        found = [str(each.getsockname()[1]) for each in taken]
    return dict(zip(("9001", "9002", "8080", "9901"), found, strict=True))


@pytest.mark.timing  # a late event loop sheds what is to be mirrored
@pytest.mark.slow
@needs_curl
def test_the_commands_of_the_readme_run_one_after_the_other(tmp_path: Path, free_ports: dict[str, str]) -> None:
    environment = {**os.environ, "PATH": f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"}
    elsewhere = "listen: 127.0.0.1:0\nadmin: null\n"  # other programs may use the default addresses
    (tmp_path / "config.yaml").write_text(moved(blocks("yaml")[-1], free_ports) + elsewhere)
    outputs: list[str] = []
    running: list[subprocess.Popen[str]] = []
    with ExitStack() as stack:
        for how, command in MARKED.findall(README):
            line = moved(command, free_ports).replace("--requests 1000", "--requests 60")
            if how == "run in the background":
                words = shlex.split(re.sub(r"--port (\d+)", lambda found: f"--port {free_ports[found[1]]}", line))
                if words[1] == "serve":  # at the default addresses
                    for name, port in (("--listen", "8080"), ("--admin", "9901")):
                        words += [name, f"127.0.0.1:{free_ports[port]}"]
                started = stack.enter_context(
                    subprocess.Popen(words, cwd=tmp_path, env=environment, stderr=subprocess.PIPE, text=True)
                )
                stack.callback(started.send_signal, signal.SIGTERM)
                assert started.stderr is not None
                assert "listening on" in started.stderr.readline()
                running.append(started)
            else:
                done = subprocess.run(
                    ["bash", "-euc", line], cwd=tmp_path, env=environment, capture_output=True, text=True, timeout=60
                )
                assert done.returncode in ({0} if how == "run" else {0, 1, 3}), f"{line}\n{done.stdout}\n{done.stderr}"
                outputs.append(done.stdout)
    assert [each.returncode for each in running] == [0, 0, 0]
    asked, shown, reported, checked = outputs
    assert asked.endswith('{"predictions":["on time"]}')
    assert "X-Request-ID: first-try" in asked
    assert re.search(r"on time.*late", shown)
    assert "61 chosen" in reported
    assert (tmp_path / "report.html").exists()
    assert re.search(r"\n\nREADY(, with \d warnings?)?\n\Z", checked)  # the servers here refuse a GET


@pytest.mark.timing  # a late event loop sheds what is to be mirrored
@pytest.mark.slow
@needs_curl
def test_the_commands_about_replaying_run_on_what_a_proxy_logged(tmp_path: Path, ports: dict[str, str]) -> None:
    environment = {**os.environ, "PATH": f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"}
    shadow = f"old=http://127.0.0.1:{ports['9002']}"
    serve = f"--live http://127.0.0.1:{ports['9001']} --listen 127.0.0.1:{ports['8080']} --admin off"
    words = [sys.executable, "-m", "shadowproxy", "serve", *serve.split(), "--shadow", shadow]
    with subprocess.Popen(words, cwd=tmp_path, stderr=subprocess.PIPE, text=True) as running:
        assert running.stderr is not None
        assert "listening on" in running.stderr.readline()
        url = f"http://127.0.0.1:{ports['8080']}/predict"
        for _ in range(3):
            subprocess.run(["curl", "-s", "-d", "{}", url], capture_output=True, timeout=30, check=True)
        running.send_signal(signal.SIGTERM)
        running.communicate(timeout=30)
    page = (ROOT / "docs" / "how-to" / "replay.md").read_text()
    outputs = []
    for status, command in re.findall(r"<!-- run(: 1 or 3)? -->\n```sh\n(.*?)```", page, re.DOTALL):
        done = subprocess.run(
            ["bash", "-euc", moved(command, {"9003": ports["9002"]})],
            cwd=tmp_path, env=environment, capture_output=True, text=True, timeout=60,
        )  # fmt: skip
        assert done.returncode in ({1, 3} if status else {0}), done.stdout + done.stderr
        outputs.append(re.sub(r"\d+\.\d+|,", "#", re.sub(r"127\.0\.0\.1:\d+", "there", done.stdout)))
    replayed, reported = outputs
    (shown,) = re.findall(r"^\n```\n(.*?)```", page, re.DOTALL | re.MULTILINE)
    assert replayed == re.sub(r"\d+\.\d+|,", "#", re.sub(r"127\.0\.0\.1:\d+", "there", shown))
    assert "mismatch 3" in reported


@pytest.mark.timing  # a late event loop sheds what is to be mirrored
@pytest.mark.slow
@needs_curl
def test_the_example_serves_what_live_answers(tmp_path: Path, ports: dict[str, str]) -> None:
    (tmp_path / "config.yaml").write_text(moved(EXAMPLE, ports))
    program = [sys.executable, "-m", "shadowproxy"]
    with subprocess.Popen(
        [*program, "serve", "-c", "config.yaml"], cwd=tmp_path, stderr=subprocess.PIPE, text=True
    ) as running:
        assert running.stderr is not None
        assert "listening on" in running.stderr.readline()
        url = f"http://127.0.0.1:{ports['8080']}/predict"
        done = subprocess.run(["curl", "-s", "-d", "{}", url], capture_output=True, text=True, timeout=30, check=True)
        running.send_signal(signal.SIGTERM)
        running.communicate(timeout=30)
    assert running.returncode == 0
    assert done.stdout == '{"p": [0.5], "from": "live"}'
    (segment,) = (tmp_path / "shadow-log").glob("[!.]*")
    (line,) = segment.read_text().splitlines()
    assert '"from": "live"' in line
    assert '"from": "challenger"' in line


def test_every_configuration_in_the_documents_loads(tmp_path: Path) -> None:
    texts = [block for document in DOCUMENTS for block in blocks("yaml", document.read_text())]
    whole = [text for text in texts if text.startswith("live:")]
    assert len(whole) >= 3
    for text in whole:
        (tmp_path / "config.yaml").write_text(text)
        assert config.warnings_for(config.load(tmp_path / "config.yaml", {})) == ()


def test_the_first_commands_of_the_readme_are_the_demo_and_the_tests() -> None:
    assert re.findall(r"^make \w+", blocks("sh")[0], re.MULTILINE) == ["make demo", "make test"]


def test_every_make_target_that_a_document_names_is_there() -> None:
    targets = set(re.findall(r"^([\w-]+):", (ROOT / "Makefile").read_text(), re.MULTILINE))
    named = {
        name
        for document in DOCUMENTS
        for name in re.findall(r"(?:`|^)make ([\w-]+)", document.read_text(), re.MULTILINE)
    }
    assert named - targets == set()


# --- links -----------------------------------------------------------------------------------------------------------


LINKING = [*DOCUMENTS, ROOT / "deploy/README.md", ROOT / "bench/README.md"]


@cache
def anchors(document: Path) -> frozenset[str]:
    """What a link can name of a page: its headings, as GitHub writes them."""
    text = re.sub(r"^ *(`{3,}).*?^ *\1", "", document.read_text(), flags=re.MULTILINE | re.DOTALL)
    headings = re.sub(r"\[([^\]]*)\]\([^)]*\)", r"\1", "\n".join(re.findall(r"^#+ (.*)$", text, re.MULTILINE)))
    return frozenset(re.sub(r"[^\w -]", "", each.lower()).replace(" ", "-") for each in headings.split("\n"))


@pytest.mark.parametrize("document", LINKING, ids=lambda path: str(path.relative_to(ROOT)))
def test_every_link_within_the_repository_leads_somewhere(document: Path) -> None:
    missing = []
    for path, anchor in re.findall(r"\]\(([^)#\s]*)(?:#([^)\s]+))?\)", document.read_text()):
        there = document.parent / path if path else document
        if "://" in path or path.startswith("mailto:"):
            continue
        if not there.exists() or (anchor and there.suffix == ".md" and anchor not in anchors(there.resolve())):
            missing.append(f"{path}#{anchor}")
    assert missing == []
