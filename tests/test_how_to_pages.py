"""Pages that need no other project's programs, followed from their first block to their last."""

import csv
import json
import re
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread
from typing import Any

import pytest
import yaml
from page_blocks import ROOT, blocks
from page_steps import Here
from test_export import entry

from shadowproxy.compare.report.checks.all import RULES
from shadowproxy.exchange import Outcome


def log_in(directory: Path, count: int, *, differing: int = 0) -> None:
    """A log as the pages take it for granted: request `id-N` with an order's number, and answers of two classes."""
    lines = []
    for n in range(count):
        live = {"label": "late" if n % 3 == 0 else "on time"}
        shadow = {"label": "on time"} if differing and n % differing == 0 else live
        values = entry(n, live, challenger=shadow)
        values["id"] = f"id-{n}"
        values["request"]["body"] = {"order_id": 1000 + n}
        lines.append(json.dumps(values))
    directory.mkdir()
    (directory / "20260131T120000.000001Z-pod-0-7-0001.jsonl").write_text("\n".join(lines) + "\n")


def test_the_page_on_late_labels(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    log_in(tmp_path / "shadow-log", 60, differing=7)
    with Here("docs/how-to/late-labels.md", tmp_path, monkeypatch) as page:
        *_, reported = page.follow()
        assert "on 3 labels" in reported
        assert (tmp_path / "day-1.answers.zst").exists()
        with (tmp_path / "orders.csv").open("w") as file:
            csv.writer(file).writerows([("order_id", "label"), *((1000 + n, "late") for n in range(0, 60, 3))])
        assert "20 labels" in page.says("shadowproxy report by-order.json --labels orders.csv --label-key /order_id")[1]
        (tmp_path / "others.csv").write_text("id,label\nelsewhere,late\n")
        assert "0 of 1 labels matched" in page.says("shadowproxy report day-1.json --labels others.csv")[1]


def test_the_page_on_verdicts(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    log_in(tmp_path / "shadow-log", 60, differing=7)
    with Here("docs/how-to/not-ready.md", tmp_path, monkeypatch) as page:
        page.follow()
    assert len((tmp_path / "answers.csv").read_text().splitlines()) == 61


PAGE_ON_VERDICTS = (ROOT / "docs/how-to/not-ready.md").read_text()


def test_the_page_on_verdicts_has_every_check_and_every_outcome() -> None:
    named = set(re.findall(r"`(\w+)`", PAGE_ON_VERDICTS))
    assert {rule.name for rule in RULES} - named == set()
    assert {str(each) for each in Outcome} - named == {"ok", "incomplete", "caller_left", "protocol_error", "shutdown"}


def test_the_page_on_verdicts_quotes_what_the_report_says() -> None:
    """What stands in backquotes in a table's first column, where it is a sentence, is the program's own."""
    sources = "".join(file.read_text() for file in sorted((ROOT / "shadowproxy" / "compare" / "report").rglob("*.py")))
    said = re.sub(r'"\n\s+f?"', "", sources)
    quoted = [
        words.strip()
        for row in re.findall(r"^\| `([^`]+)` \|", PAGE_ON_VERDICTS, re.MULTILINE)
        for words in re.split(r"…|\d[\d,]*|^\w+: ", row)
        if " " in words.strip()
    ]
    assert len(quoted) > 8
    assert [words for words in quoted if words not in said] == []


# --- pages with small servers ----------------------------------------------------------------------------------------


class Model(BaseHTTPRequestHandler):
    """Answers each request with its order's class, as `log_in` has it of live."""

    protocol_version = "HTTP/1.1"

    def do_GET(self) -> None:
        self._answer({})

    def do_POST(self) -> None:
        number = json.loads(self.rfile.read(int(self.headers["Content-Length"])))["order_id"] - 1000
        self._answer({"label": "late" if number % 3 == 0 else "on time"})

    def _answer(self, said: dict[str, str]) -> None:
        body = json.dumps(said).encode()
        self.send_response(200)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, format: str, *args: object) -> None:
        """Standard error is the test runner's."""


@pytest.fixture
def model() -> Iterator[ThreadingHTTPServer]:
    server = ThreadingHTTPServer(("127.0.0.1", 0), Model)
    Thread(target=server.serve_forever, args=(0.01,), daemon=True).start()
    yield server
    server.shutdown()
    server.server_close()


@pytest.mark.timing  # a late event loop sends less
def test_the_page_on_pull_requests(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, model: ThreadingHTTPServer) -> None:
    log_in(tmp_path / "golden", 400)
    with Here("docs/how-to/pull-request.md", tmp_path, monkeypatch) as page:
        page.ports["9002"] = str(model.server_port)
        replayed, reported = page.follow()
        assert "match 400" in replayed
        assert "candidate" in reported
        assert (tmp_path / "checks.xml").exists()
        (tmp_path / "other").mkdir()
        log_in(tmp_path / "other" / "log", 400, differing=3)
        status, said = page.says("shadowproxy report other/log --gates gates.yaml --markdown --fail-on fail")
    assert (status, "agreement" in said) == (1, True)


def test_the_workflow_runs_the_commands_of_the_page() -> None:
    page = blocks(ROOT / "docs/how-to/pull-request.md")
    (workflow,) = [yaml.safe_load(block.text) for block in page if block.text.startswith("name: shadow")]
    steps = [step["run"] for step in workflow["jobs"]["replay"]["steps"] if "run" in step]
    for block in page:
        if (block.marker or "").startswith("run"):
            assert any(step.startswith(block.text.strip()) for step in steps), block.text


def test_the_page_on_a_shadow_that_writes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, model: ThreadingHTTPServer
) -> None:
    with Here("docs/how-to/side-effects.md", tmp_path, monkeypatch) as page:
        page.ports["9001"] = page.ports["9002"] = str(model.server_port)
        (checked,) = page.follow()
    assert "POST" in checked
    assert "PUT" in checked


async def test_the_dry_run_of_the_page_charges_live_alone() -> None:
    names: dict[str, Any] = {}
    (program,) = [b.text for b in blocks(ROOT / "docs/how-to/side-effects.md") if b.language == "python"]
    exec(program, names)
    sent: list[Any] = []

    async def send(message: Any) -> None:
        sent.append(message)

    for fields in ([], [(b"x-shadow-request", b"candidate")]):
        await names["app"]({"type": "http", "path": "/pay", "headers": fields}, None, send)
    assert names["charged"] == ["/pay"]
    assert sent[:2] == sent[2:]
