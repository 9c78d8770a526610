"""Real services that give out IDs, with 200 interleaved sessions each: a shadow with `state` is asked for its own IDs.

The proxy has three shadows: one without `state`, to which some sessions go and whose follow-ups all go wrong, so the
test can fail, and the same server twice, with `state: auto` and with places. Each server logs every byte that it gets
and sends.
"""

import json
import subprocess
from collections.abc import Iterable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import pytest
from parties import installed, programs
from parties.installed import SOURCE

from shadowproxy.exchange import Outcome, Verdict
from shadowproxy.record import Record

SESSIONS = {"items": 200, "responses": 200, "mcp_json": 100, "mcp_events": 100, "notes": 200, "gradio": 200}
AT_ONCE = 40
SOME = "*-1?-*"
"""The request IDs of ten sessions of each kind: those that the shadow without `state` gets."""
DELAY_MS = 30
"""The most that a shadow waits before it answers. Live is faster: follow-ups come before their IDs are known."""

OFF = "off"
PLACES = {
    "learn": ["/id", "/parent", "set-cookie:sessionid", "set-cookie:csrftoken"],
    "into": ["path:/notes/*", "query:parent", "json:/parent", "header:X-CSRFToken"],
}
STATE = {"auto": "auto", "places": PLACES}
BY_STATE = {"items": "auto", "responses": "auto", "mcp_json": "auto", "mcp_events": "auto", "notes": "places"}
"""Each kind of caller of serve.py, and the shadow that answers it with `state` on."""


def shadow(url: str, **options: Any) -> dict[str, Any]:
    """A shadow that takes everything, and as much at once as there are standing streams."""
    return {"url": url, "in_flight": 500, "lane": 10_000, "timeout": "60s", "match": {"methods": ["*"]}} | options


@dataclass(frozen=True)
class Log:
    """What a server got and sent."""

    path: Path

    @cached_property
    def lines(self) -> list[dict[str, Any]]:
        return [json.loads(line) for line in self.path.read_text().splitlines()]

    @cached_property
    def received(self) -> str:
        """All that it got, but for the request IDs."""
        parts = []
        for line in self.lines:
            fields = [f"{name}: {value}" for name, value in line["fields"] if name != "x-request-id"]
            parts += [line["method"], line["target"], *fields, line["body"]]
        return "\n".join(parts)


@dataclass(frozen=True)
class Run:
    """What the callers, the servers and the proxy say of one run. `states` has the shadow with state of each kind."""

    states: Mapping[str, str]
    called: Mapping[str, Any]
    live: Log
    off: Log
    on: Log
    records: list[Record]

    def follow_ups(self, kind: str) -> list[Record]:
        """The exchanges whose request carries one of live's IDs, but for streams that the caller left open."""
        found = [each for each in self.records if each.id.startswith(f"{kind}-") and each.id.endswith("-next")]
        return [each for each in found if not is_left_open(each.id, each.request.method)]

    def assert_agrees(self, kind: str) -> None:
        """Every follow-up with state agrees, and next to none of those without."""
        name = self.states[kind]
        wrong = [each for each in self.follow_ups(kind) if not agrees(each, name)]
        assert wrong == [], "\n".join(told(each, name) for each in wrong[:5])
        without = [agrees(each, OFF) for each in self.follow_ups(kind) if OFF in each.shadows]
        assert len(without) >= 30
        assert sum(without) / len(without) < 0.05

    def assert_none_of_lives_ids_seen(self, kind: str) -> None:
        ids = self.called[kind]["ids"]
        assert len(ids) >= SESSIONS[kind]
        assert [each for each in ids if each in self.on.received] == []
        if kind in ("items", "responses", "gradio"):  # the others' are credentials, and so held back
            assert any(each in self.off.received for each in ids)

    def assert_callers_got_what_live_sent(self) -> None:
        sent = {line["id"]: line for line in self.live.lines}
        exchanges = [each for called in self.called.values() for each in called["exchanges"]]
        assert len(exchanges) == len(sent) == len(self.records)
        for each in exchanges:
            line = sent[each["id"]]
            assert each["status"] == line["status"]
            if not is_left_open(each["id"], each["method"]):
                assert each["body"] == line["answer"]
            fields = [(name.lower(), value) for name, value in line["answer_fields"] if name.lower() != "connection"]
            assert [tuple(field) for field in each["fields"] if tuple(field) in fields] == fields

    def assert_each_chosen_request_has_an_answer(self) -> None:
        for entry in self.records:
            name = self.states[entry.id.partition("-")[0]]
            leg = entry.shadows[name]
            assert leg.outcome is Outcome.OK or is_left_open(entry.id, entry.request.method), told(entry, name)


def is_left_open(request_id: str, method: str) -> bool:
    """Whether this is a stream that an MCP client leaves when its session ends."""
    return method == "GET" and request_id.startswith("mcp_")


def agrees(entry: Record, name: str) -> bool:
    leg = entry.shadows[name]
    verdict = leg.judgement and leg.judgement.verdict
    return entry.live.status == leg.status and verdict in (Verdict.MATCH, Verdict.IGNORED)


def told(entry: Record, name: str) -> str:
    leg = entry.shadows[name]
    differences = leg.judgement.differences if leg.judgement else ()
    return (
        f"{entry.id} {entry.request.method} {entry.request.path}: {leg.outcome} {leg.status} {leg.error} "
        f"{leg.judgement and (leg.judgement.verdict, leg.judgement.why)} {[str(each) for each in differences]}"
    )


def call(kind: str, url: str) -> Any:
    command = [str(installed.python("state")), str(SOURCE / "stateful" / "callers.py"), kind, url]
    called = subprocess.run(
        [*command, str(SESSIONS[kind]), str(AT_ONCE)],
        env=installed.environment(), capture_output=True, text=True, timeout=500, check=False,
    )  # fmt: skip
    assert called.returncode == 0, called.stderr[-4000:]
    return json.loads(called.stdout)


@contextmanager
def running(
    directory: Path, states: Mapping[str, str], *, python: str = "state", program: str = "serve"
) -> Iterator[Run]:
    """The servers and the proxy, called by every kind of `states` at the same time."""
    with ExitStack() as stack:
        urls: dict[str, str] = {}
        for name, first_key in (("live", "7000001"), (OFF, "4000001"), ("on", "3000001")):
            command = [installed.python(python), SOURCE / "stateful" / f"{program}.py", directory / f"{name}.jsonl"]
            delay = [] if name == "live" else [str(DELAY_MS)]
            server = programs.started([*map(str, command), *delay], directory / f"{name}.txt", FIRST_KEY=first_key)
            urls[name] = stack.enter_context(server).url
        some = {"methods": ["*"], "headers": {"X-Request-ID": SOME}}
        shadows = {OFF: shadow(urls[OFF], match=some)}
        for name in set(states.values()):
            match = {"methods": ["*"], **matching(name)}
            shadows[name] = shadow(urls["on"], state=STATE[name], match=match)
        proxy = stack.enter_context(programs.proxy(directory / "proxy", {"url": urls["live"]}, shadows=shadows))
        with ThreadPoolExecutor(len(states)) as callers:
            called = dict(zip(states, callers.map(lambda kind: call(kind, proxy.url), states), strict=True))
        records = proxy.records(60)
        stack.close()  # the servers' logs are whole
        live, off, on = [Log(directory / f"{name}.jsonl") for name in ("live", OFF, "on")]
        yield Run(states, called, live, off, on, records)


def matching(state: str) -> dict[str, Any]:
    notes: Iterable[str] = ["/notes/*"]
    return {"paths": notes} if state == "places" else {"not": {"paths": notes}}


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Run]:
    with running(tmp_path_factory.mktemp("state"), BY_STATE) as run:
        yield run


@pytest.mark.soak
@pytest.mark.parametrize("kind", BY_STATE)
def test_follow_ups_agree_with_state_and_go_wrong_without(run: Run, kind: str) -> None:
    run.assert_agrees(kind)


@pytest.mark.soak
@pytest.mark.parametrize("kind", BY_STATE)
def test_a_shadow_with_state_never_sees_one_of_lives_ids(run: Run, kind: str) -> None:
    run.assert_none_of_lives_ids_seen(kind)


@pytest.mark.soak
def test_callers_get_what_live_sent(run: Run) -> None:
    run.assert_callers_got_what_live_sent()


@pytest.mark.soak
def test_each_chosen_request_has_an_answer_of_the_shadow(run: Run) -> None:
    run.assert_each_chosen_request_has_an_answer()


@pytest.mark.parties_all("gradio", "state")
def test_gradios_calls_in_two_steps_agree_with_state_and_go_wrong_without(tmp_path: Path) -> None:
    with running(tmp_path, {"gradio": "auto"}, python="gradio", program="gradio_queue") as run:
        run.assert_agrees("gradio")
        run.assert_none_of_lives_ids_seen("gradio")
        run.assert_callers_got_what_live_sent()
        run.assert_each_chosen_request_has_an_answer()
