"""Real services that give out IDs, with interleaved sessions: a shadow that is asked for live's IDs does not know them.

Each server logs every byte that it gets and sends.
"""

import json
import subprocess
from collections.abc import Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import pytest
from parties import installed, programs
from parties.installed import SOURCE

from shadowproxy.exchange import Outcome, Verdict
from shadowproxy.record import Record

SESSIONS = 20
KINDS = ("items", "responses", "mcp_json", "mcp_events", "notes")
AT_ONCE = 10
DELAY_MS = 30
"""The most that a shadow waits before it answers. Live is faster: follow-ups come before their IDs are known."""

OFF = "off"


def shadow(url: str, **options: Any) -> dict[str, Any]:
    """A shadow that takes everything, and nearly as much at once as there are standing streams."""
    return {"url": url, "in_flight": 500, "lane": 10_000, "timeout": "60s", "match": {"methods": ["*"]}} | options


@dataclass(frozen=True)
class Log:
    """What a server got and sent."""

    path: Path

    @cached_property
    def lines(self) -> list[dict[str, Any]]:
        return [json.loads(line) for line in self.path.read_text().splitlines()]


@dataclass(frozen=True)
class Run:
    """What the callers, the servers and the proxy say of one run."""

    called: Mapping[str, Any]
    live: Log
    shadows: Mapping[str, Log]
    records: list[Record]

    def follow_ups(self, kind: str) -> list[Record]:
        """The exchanges whose request carries one of live's IDs, but for streams that the caller left open."""
        found = [each for each in self.records if each.id.startswith(f"{kind}-") and each.id.endswith("-next")]
        return [each for each in found if each.live.outcome is Outcome.OK]

    def agreement(self, kind: str, name: str) -> float:
        legs = [(each.live, each.shadows[name]) for each in self.follow_ups(kind) if name in each.shadows]
        assert len(legs) >= 30
        agreed = [
            live.status == leg.status
            and leg.judgement is not None
            and leg.judgement.verdict in (Verdict.MATCH, Verdict.IGNORED)
            for live, leg in legs
        ]
        return sum(agreed) / len(agreed)


def call(kind: str, url: str, sessions: int, at_once: int) -> Any:
    command = [str(installed.python("state")), str(SOURCE / "stateful" / "callers.py"), kind, url]
    called = subprocess.run(
        [*command, str(sessions), str(at_once)],
        env=installed.environment(), capture_output=True, text=True, timeout=120, check=False,
    )  # fmt: skip
    assert called.returncode == 0, called.stderr[-4000:]
    return json.loads(called.stdout)


def serve(
    stack: ExitStack, directory: Path, name: str, *, program: str = "serve", **environment: str
) -> tuple[str, Log]:
    log = directory / f"{name}.jsonl"
    python = installed.python("gradio" if program == "gradio_queue" else "state")
    command = [str(python), str(SOURCE / "stateful" / f"{program}.py"), str(log)]
    delay = [] if name == "live" else [str(DELAY_MS)]
    started = programs.started([*command, *delay], directory / f"{name}.txt", **environment)
    return stack.enter_context(started).url, Log(log)


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Run]:
    directory = tmp_path_factory.mktemp("state")
    with ExitStack() as stack:
        live, live_log = serve(stack, directory, "live", FIRST_KEY="7000001")
        off, off_log = serve(stack, directory, "off", FIRST_KEY="4000001")
        shadows = {OFF: shadow(off)}
        proxy = stack.enter_context(programs.proxy(directory / "proxy", {"url": live}, shadows=shadows))
        with ThreadPoolExecutor(len(KINDS)) as callers:
            called = callers.map(lambda kind: call(kind, proxy.url, SESSIONS, AT_ONCE), KINDS)
            by_kind = dict(zip(KINDS, called, strict=True))
        records = proxy.records(60)
        stack.close()  # the logs are whole
        yield Run(by_kind, live_log, {OFF: off_log}, records)


pytestmark = pytest.mark.soak


@pytest.mark.parametrize("kind", KINDS)
def test_follow_ups_go_wrong_where_a_shadow_gets_lives_ids(run: Run, kind: str) -> None:
    assert len(run.called[kind]["ids"]) >= SESSIONS
    assert run.agreement(kind, OFF) < 0.05


def test_callers_get_what_live_sent(run: Run) -> None:
    sent = {line["id"]: line for line in run.live.lines}
    exchanges = [each for called in run.called.values() for each in called["exchanges"]]
    assert len(exchanges) == len(sent) == len(run.records)
    for each in exchanges:
        line = sent[each["id"]]
        assert each["status"] == line["status"]
        if not each["id"].startswith("mcp") or each["method"] != "GET":  # a stream that its caller left
            assert each["body"] == line["answer"]
        fields = [(name.lower(), value) for name, value in line["answer_fields"] if name.lower() != "connection"]
        assert [tuple(field) for field in each["fields"] if tuple(field) in fields] == fields
