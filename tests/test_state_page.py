"""What docs/how-to/state.md shows is what happens: its configurations run, and its lines are a record's."""

import json
import re
from pathlib import Path
from typing import Any

import yaml
from conftest import StartProxy
from issuing import Issuing, come_back, make

from shadowproxy import config
from shadowproxy.exchange import Outcome, Verdict

PAGE = (Path(__file__).parent.parent / "docs" / "how-to" / "state.md").read_text()
AUTO, PLACES = [yaml.safe_load(block) for block in re.findall(r"```yaml\n(.*?)```", PAGE, re.DOTALL)]
(LINES,) = re.findall(r"```json\n(.*?)```", PAGE, re.DOTALL)


def of_challenger(values: Any) -> dict[str, Any]:
    """What the page says of its shadow, but for the URL."""
    given: dict[str, Any] = values["shadows"]["challenger"]
    return {key: value for key, value in given.items() if key != "url"}


async def test_the_first_configuration_translates_ids(proxy: StartProxy) -> None:
    async with Issuing("live") as live, Issuing("shadow") as shadow:
        async with proxy(live, {"challenger": shadow}, shadow_options=of_challenger(AUTO)) as running:
            async with await running.caller() as caller:
                await come_back(caller, await make(caller, [1]), "0")
            first, follow_up = await running.records()
            (line, _) = [json.loads(text) for text in segment_of(running.log).splitlines()]
        assert b"live-" not in shadow.received
    leg = follow_up.shadows["challenger"]
    assert leg.outcome is Outcome.OK
    assert leg.judgement is not None
    assert leg.judgement.verdict is Verdict.MATCH
    shown = json.loads("{" + LINES + "}")
    (translated,) = json.loads(segment_of(running.log).splitlines()[1])["shadows"]["challenger"]["translated"]
    assert set(translated) == set(shown["translated"][0])
    assert (translated["in"], translated["learnt_from"]) == ("path", first.record)
    (learnt,) = line["shadows"]["challenger"]["learnt"]
    assert set(learnt) == set(shown["learnt"][0])
    assert learnt["at"] == "json:/id"


async def test_the_second_configuration_translates_integers(proxy: StartProxy) -> None:
    async with Issuing("live", first=7) as live, Issuing("shadow", first=1) as shadow:
        async with proxy(live, {"challenger": shadow}, shadow_options=of_challenger(PLACES)) as running:
            async with await running.caller() as caller:
                await caller.ask(b"POST /notes/ HTTP/1.1\r\nHost: h\r\nContent-Length: 2\r\n\r\n{}")
                answered = await caller.ask(b"GET /notes/7 HTTP/1.1\r\nHost: h\r\n\r\n")
                assert answered.status == 200
            *_, follow_up = await running.records()
        assert shadow.requests[-1].target == b"/notes/1"
    assert follow_up.shadows["challenger"].status == 200


def test_the_page_states_the_defaults() -> None:
    values = {"live": {"url": "http://l"}, "shadows": {"c": {"url": "http://s", "state": "auto"}}}
    state: Any = config.from_values(values).shadows["c"].state
    assert f"{state.pairs:,}" in PAGE
    assert state.age == 3600
    assert "1 hour" in PAGE


def segment_of(log: Path) -> str:
    (segment,) = log.glob("[!.]*")
    return segment.read_text()
