"""What known APIs answer, through the real program: the verdict is by what was said, in record and report."""

import json
import subprocess
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import pytest
from fakes import Fields, Origin, Peer, Script, answer, chunked
from program import Program
from test_alike import chat, inference, message
from test_alike import chunk as chat_chunk

from shadowproxy.exchange import Outcome
from shadowproxy.record import Record, RecordedLeg

JSON = (b"Content-Type", b"application/json")
EVENTS = (b"Content-Type", b"text/event-stream")


def as_json(value: Any) -> bytes:
    return answer(json.dumps(value).encode(), JSON)


def as_events(*events: Any, done: bool = True, fields: Fields = (EVENTS,)) -> bytes:
    """Each event as a chunk of its own."""
    chunks = [b"data: %b\n\n" % json.dumps(each).encode() for each in events]
    return chunked(*chunks, *([b"data: [DONE]\n\n"] if done else []), fields=fields)


def spoken(*pieces: str, at: int) -> list[Any]:
    first = chat_chunk({"role": "assistant", "content": ""}, at)
    return [first, *(chat_chunk({"content": each}, at) for each in pieces), chat_chunk({}, at, "stop")]


BROKEN = {"error": {"message": "out of memory", "type": "None", "param": "None", "code": "500"}}
ASKED_BY_ID = b'{"id":"mine","inputs":[]}'


class Case(NamedTuple):
    live: bytes
    shadow: bytes
    verdict: str
    differences: Sequence[tuple[str, str, str | None]] = ()
    set_aside: Sequence[str] = ()
    failed: tuple[bool, bool] = (False, False)
    body: bytes = b"{}"


CASES: Mapping[str, Case] = {
    "streams": Case(
        as_events(*spoken("Hel", "lo", at=1)), as_events(*spoken("H", "el", "lo", at=2)), "match",
        set_aside=["/id", "/created"]),
    "streams-that-differ": Case(
        as_events(*spoken("Hel", "lo", at=1)), as_events(*spoken("Help", at=2)), "mismatch",
        [("/choices/0/message/content", "value", None)], ["/id", "/created"]),
    "stream-and-whole": Case(
        as_events(*spoken("Hel", "lo", at=1)), as_json(chat("Hello", 2)), "match",
        set_aside=["/id", "/created", "/usage", "/system_fingerprint", "/timings"]),
    "chat-and-message": Case(
        as_events(*spoken("Hel", "lo", at=1)), as_json(message("Hello", 2)), "match"),
    "chat-and-another-message": Case(
        as_json(chat("Hello", 1)), as_json(message("Help", 2)), "mismatch",
        [("/choices/0/answer", "value", "/answer")]),
    "kserve": Case(
        as_json({"predictions": [0.1, 0.2]}), as_json(inference([0.1, 0.3])), "mismatch",
        [("/predictions/1", "value", "/outputs/0/data/1")]),
    "mlserver": Case(as_json(inference([0.5], 1)), as_json(inference([0.5], 2)), "match", set_aside=["/id"]),
    "mlserver-asked": Case(
        as_json(inference([0.5], 1)), as_json(inference([0.5], 2)), "mismatch", [("/id", "value", None)],
        body=ASKED_BY_ID),
    "named-places": Case(
        as_json({"result": {"score": 0.5}, "id": 1}), as_json({"rated": 0.75}), "mismatch",
        [("/result/score", "value", "/rated")]),
    "litellm": Case(
        as_events(*spoken("Hello", at=1)), as_events(*spoken("Hel", at=2)[:2], BROKEN, done=False), "mismatch",
        [("", "failed", None)], failed=(False, True)),
    "litellm-and-done": Case(
        as_events(*spoken("Hel", at=1)[:2], BROKEN), as_events(*spoken("Hello", at=2)), "mismatch",
        [("", "failed", None)], failed=(True, False)),
    "both-failed": Case(
        as_events(BROKEN, done=False), as_events(BROKEN, done=False), "match", failed=(True, True)),
    "cut-short": Case(
        as_events(*spoken("Hello", at=1)), as_events(*spoken("Hello", at=2)[:-1], done=False), "mismatch",
        [("", "failed", None)], failed=(False, True)),
    "litserve": Case(
        chunked(b"Hello"), chunked(), "mismatch", [("", "failed", None)], failed=(False, True)),
    "gradio": Case(
        chunked(b"event: complete\ndata: [1]\n\n", fields=(EVENTS,)),
        chunked(b'event: error\ndata: {"error": null}\n\n', fields=(EVENTS,)),
        "mismatch", [("", "failed", None)], failed=(False, True)),
}  # fmt: skip


def by_path(which: str) -> Script:
    async def script(peer: Peer) -> None:
        while (asked := await peer.request()) is not None:
            case = CASES[asked.start.split(b" ")[1].decode().removeprefix("/")]
            await peer.send(getattr(case, which))

    return script


NAMED = {"prediction": {"live": "/result/score", "challenger": "/rated"}}


async def recorded(directory: Path, compare: Mapping[str, Any]) -> tuple[dict[str, Record], Path]:
    async with Origin(by_path("live")) as live, Origin(by_path("shadow")) as shadow:
        values = {"live": {"url": live.url}, "shadows": {"challenger": {"url": shadow.url}}, "compare": compare}
        async with Program(directory, values) as program, await program.caller() as caller:
            for name, case in CASES.items():
                head = b"POST /%b HTTP/1.1\r\nHost: a\r\nContent-Type: application/json\r\n" % name.encode()
                await caller.ask(head + b"Content-Length: %d\r\n\r\n%b" % (len(case.body), case.body))
            assert await program.stop() == 0
            return {record.request.path.removeprefix("/"): record for record in program.records()}, program.log


def run(*words: str | Path) -> str:
    """What a command prints."""
    command = [sys.executable, "-m", "shadowproxy", *map(str, words)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60)
    assert done.stderr == ""
    return done.stdout


def failures(*legs: RecordedLeg) -> tuple[bool, ...]:
    return tuple(leg.failed is not None for leg in legs)


async def test_the_verdict_is_by_what_was_said(tmp_path: Path) -> None:
    records, log = await recorded(tmp_path, NAMED)
    assert records.keys() == CASES.keys()
    for name, case in CASES.items():
        leg = records[name].shadows["challenger"]
        assert leg.outcome is Outcome.OK
        assert leg.judgement is not None
        found = [(each.path, each.kind, each.shadow_path) for each in leg.judgement.differences]
        assert (name, leg.judgement.verdict, found) == (name, case.verdict, list(case.differences))
        assert (name, sorted(leg.judgement.set_aside)) == (name, sorted(case.set_aside))
        assert (name, failures(records[name].live, leg)) == (name, case.failed)
    assert "out of memory" in str(records["litellm"].shadows["challenger"].failed)

    config = str(tmp_path / "config.yaml")
    counted = run("report", log, "-c", config, "--json")
    verdicts = [case.verdict for case in CASES.values()]
    pair = json.loads(counted)["shadows"]["challenger"]
    found = pair["agreement"]
    assert (found["verdicts"]["match"], sum(found["verdicts"].values())) == (verdicts.count("match"), len(verdicts))
    assert {"path": "/id", "exchanges": 4} in found["per_call"]
    assert {"live_path": "/predictions", "shadow_path": "/outputs/0/data", "exchanges": 1} in found["paired"]
    words = run("report", log, "-c", config)
    assert "live's /choices/0/answer was compared with the shadow's /answer (2 requests)" in words


async def test_with_set_aside_off_everything_is_compared(tmp_path: Path) -> None:
    records, _ = await recorded(tmp_path, {"set_aside": False})
    judgement = records["streams"].shadows["challenger"].judgement
    assert judgement is not None
    assert [each.path for each in judgement.differences] == ["/id", "/created"]
    assert judgement.set_aside == ()


@pytest.mark.parametrize(("name", "words"), [
    ("kserve", "/predictions/1 (challenger: /outputs/0/data/1)  value: live 0.2, challenger 0.3"),
    ("streams", "set aside, as it is new in every answer: /id, /created"),
    ("litellm", "failed: live an answer, challenger "),
])  # fmt: skip
async def test_show_names_both_places_and_what_is_set_aside(name: str, words: str, tmp_path: Path) -> None:
    records, log = await recorded(tmp_path, {})
    assert words in run("show", log, records[name].id)
