"""`shadowproxy verdict`: the counts of several sidecars as one report, and what is not known withholds READY."""

import asyncio
import contextlib
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import orjson
import pytest
from click.testing import CliRunner, Result
from logs import START
from test_standing import SETTINGS, Told, begun, line

from shadowproxy.cli import commands
from shadowproxy.compare.fold.engines import summarise_files
from shadowproxy.compare.fold.summary import load, resealed
from shadowproxy.compare.judge.rules import Rules
from shadowproxy.compare.report.build import to_json

Change = Callable[[dict[str, Any]], object]


def later_lines(count: int) -> list[bytes]:
    """Lines of requests that begin one after the other from a minute from now on."""
    return [line(number, seconds=time.time() - START.timestamp() + 60 + number / 20) for number in range(count)]


@contextlib.contextmanager
def serving(*summaries: bytes | int) -> Iterator[list[str]]:
    """An admin port for each: its answer to GET /summary, or the status of a refusal. Asked without a token: 401."""
    servers = []
    for each in summaries:

        class Handler(BaseHTTPRequestHandler):
            summary = each

            def do_GET(self) -> None:
                refused = self.summary if isinstance(self.summary, int) else 0
                allowed = self.path == "/summary" and self.headers["Authorization"] == "Bearer secret-token-123"
                self.send_response(refused or (200 if allowed else 401))
                body = self.summary if isinstance(self.summary, bytes) and allowed else b"{}"
                self.send_header("Content-Length", str(len(body)))
                self.end_headers()
                self.wfile.write(body)

            def log_message(self, *_: Any) -> None:
                pass

        server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        servers.append((server, threading.Thread(target=server.serve_forever, args=(0.01,))))
        servers[-1][1].start()
    try:
        yield [f"http://127.0.0.1:{server.server_address[1]}" for server, _ in servers]
    finally:
        for server, thread in servers:
            server.shutdown()
            thread.join()
            server.server_close()


def asked(*arguments: str, token: str | None = "secret-token-123") -> Result:
    return CliRunner(env={"SHADOWPROXY_ADMIN_TOKEN": token or ""}).invoke(commands, ["verdict", *arguments])


def counted(lines: list[bytes]) -> bytes:
    """What a sidecar says that has counted these."""

    async def counts() -> bytes:
        standing = begun(None, Told())
        await standing.verdict()
        standing.offer([(each, SETTINGS) for each in lines])
        found = await standing.summary()
        await asyncio.to_thread(standing.close, 5)
        return found

    return asyncio.run(counts())


def changed(summary: bytes, change: Change) -> bytes:
    about = orjson.loads(summary)["standing"]
    change(about)
    return resealed(load(summary), {"standing": about})


@pytest.fixture(scope="module")
def pods() -> tuple[list[bytes], bytes, bytes]:
    """The records of two sidecars, and what each says of them."""
    lines = later_lines(2400)
    return lines, counted(lines[:800]), counted(lines[800:])


Pods = tuple[list[bytes], bytes, bytes]


def test_the_sum_is_the_report_on_both_logs(pods: Pods, tmp_path: Path) -> None:
    lines, one, other = pods
    (tmp_path / "log.jsonl").write_bytes(b"\n".join(lines) + b"\n")
    report: Any = to_json(summarise_files([tmp_path / "log.jsonl"], Rules()))
    with serving(one, other) as urls:
        told = orjson.loads(asked("--json", *urls).stdout)
        text = asked(*urls)
        markdown = asked("--markdown", "--shadow", "s", *urls)
    ours = told["report"]["shadows"]["s"]
    assert (ours["verdict"], ours["checks"]) == (report["shadows"]["s"]["verdict"], report["shadows"]["s"]["checks"])
    assert (told["schema"], told["verdict"]) == (1, report["result"])
    assert told["shadows"]["s"]["n"] == 2400
    assert [each["error"] for each in told["sidecars"]] == [None, None]
    assert text.output.startswith("2 of 2 sidecars, since 20")
    assert f"shadow s  {told['shadows']['s']['headline']}" in text.output
    assert text.exit_code == markdown.exit_code == {"pass": 0, "fail": 1, "inconclusive": 3}[told["verdict"]]
    assert markdown.output.startswith("# Shadow report")


def test_a_sidecar_that_does_not_answer_withholds_ready(pods: Pods) -> None:
    _, one, other = pods
    with serving(one, other) as urls:
        whole = orjson.loads(asked("--json", *urls).stdout)
        assert whole["verdict"] == "pass"
        nowhere = "http://127.0.0.1:9"
        partial = asked(*urls, nowhere)
        assert partial.exit_code == 3
        assert f"shadowproxy: {nowhere} cannot be asked" in partial.output
        assert "NOT SURE YET: 1 of 3 sidecars did not answer" in partial.output
        allowed = asked("--allow-missing", *urls, nowhere)
        assert allowed.exit_code == 0
        assert "cannot be asked" in allowed.output
    assert asked(nowhere).exit_code == 3


@pytest.mark.parametrize(
    ("status", "said"), [(401, "wants the admin token"), (404, "answers 404"), (503, "answers 503")]
)
def test_a_refusal_is_one_line(status: int, said: str) -> None:
    with serving(status) as urls:
        told = asked(*urls)
    assert told.exit_code == 3
    assert told.output.count("\n") == 1
    assert said in told.output
    assert "secret" not in told.output


def test_a_failing_shadow_fails_though_a_sidecar_is_missing() -> None:
    bad = counted(failing(100))
    with serving(bad) as urls:
        assert asked(*urls, "http://127.0.0.1:9").exit_code == 1


def failing(count: int) -> list[bytes]:
    """Lines in which every answer of the shadow is a 500."""
    found = []
    for raw in later_lines(count):
        record = orjson.loads(raw)
        record["shadows"]["s"] |= {"status": 500, "body": {"error": "boom"}}
        found.append(orjson.dumps(record))
    return found


USER_ERROR = 1  # by click itself; `main` makes it 2
CONFLICTS: Mapping[str, tuple[Change, int, str]] = {
    "the same": (lambda about: None, USER_ERROR, "are the same sidecar"),
    "rules": (
        lambda about: about.update(instance="b", key={**about["key"], "rules": "x"}),
        USER_ERROR,
        "by other rules",
    ),
    "candidates": (lambda about: about.update(instance="b", shadows={"s": "2"}), 3, "different candidates"),
    "shed": (
        lambda about: about.update(instance="b", counted={**about["counted"], "shed": 9000}),
        3,
        "there was no time to count",
    ),
    "lost": (lambda about: about.update(instance="b", counted={**about["counted"], "lost": 9000}), 3, "have no record"),
    "gates": (lambda about: about.update(instance="b", gates={"drift": None}), 3, "different gates"),
    "another version": (lambda about: about.pop("counted"), 3, "another version"),
}


@pytest.mark.parametrize("name", CONFLICTS)
def test_what_cannot_be_added_up_is_not_ready(name: str, pods: Pods) -> None:
    change, status, said = CONFLICTS[name]
    _, one, other = pods
    with serving(other, other if name == "the same" else changed(one, change)) as urls:
        told = asked(*urls)
    assert told.exit_code == status
    assert said in told.output


def test_a_shadow_without_a_request_is_no_data() -> None:
    with serving(counted([])) as urls:
        told = asked(*urls)
        assert (told.exit_code, "NO DATA" in told.output) == (3, True)
        assert asked("--shadow", "t", *urls).exit_code == 3


@pytest.mark.parametrize(
    "arguments",
    [["shadow-log"], ["http://h:x"], ["http://h:1", "http://h:1"], ["--json", "--markdown", "http://h:1"], []],
)
def test_a_wrong_command_line_is_a_usage_error(arguments: list[str]) -> None:
    assert asked(*arguments).exit_code == 2
