"""The standing verdict: what the recorder counts as it writes, what it says of it, and what of it outlives it."""

import asyncio
import json
import os
import random
import signal
import time
from itertools import pairwise
from pathlib import Path
from typing import Any

import httpx
import orjson
import pytest
from conftest import StartProxy
from fakes import Origin, always, answer
from logs import START
from program import Program
from test_admin import ADMIN, client, wait_written
from test_unusable import admin_of

from shadowproxy.compare.fold.engines import summarise_files
from shadowproxy.compare.fold.summary import load
from shadowproxy.compare.judge.rules import Rules
from shadowproxy.compare.report.build import EXIT_CODES, to_json
from shadowproxy.compare.report.history import EXIT_STATUSES, HEADLINE_OF
from shadowproxy.serve.journal.notices import Notice
from shadowproxy.serve.standing.answer import (
    HEADLINES,
    SLIDING,
    Facts,
    NotStanding,
    ShadowVerdict,
    StandingVerdict,
    as_json,
    shadow_verdict,
    withheld,
    word_of,
)
from shadowproxy.serve.standing.budget import ALWAYS, FoldingBudget
from shadowproxy.serve.standing.counting import PARTS, Counting
from shadowproxy.serve.standing.keeping import Keeping
from shadowproxy.serve.standing.root import Standing
from shadowproxy.serve.standing.settings import StandingSettings
from shadowproxy.serve.standing.state import StateFile
from shadowproxy.serve.standing.waiting import LONGEST, MOST_BYTES, drawn

GET = b"GET / HTTP/1.1\r\nHost: h\r\n\r\n"
MARK = {"X-Shadowproxy-Admin": "1"}
SETTINGS = StandingSettings(cpu=None, live="l", shadows={"s": "1"})
BEFORE = START.timestamp() - 60


def line(number: int, shadow: Any = None, *, seconds: float = 0.0, name: str = "s", pad: int = 0) -> bytes:
    """A record's line: live says a class by its number, and the shadow the same unless another is given."""
    at = time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(START.timestamp() + seconds)) + f".{number % 1000000:06d}Z"
    said = "abc"[number % 3]
    source = random.Random(number)
    legs = [
        {"outcome": "ok", "status": 200, "headers": {"content-type": "application/json"}}
        | {"body": {"class": each}, "body_bytes": 9, "first_byte_ms": 1.0, "total_ms": 5 + source.random()}
        for each in (said, said if shadow is None else shadow)
    ]
    asked = {
        "method": "POST",
        "path": "/predict",
        "query": "",
        "headers": {},
        "body": {"n": number % 7, "pad": "x" * pad},
    }
    uuid = f"{number:08x}-0000-7000-8000-{source.getrandbits(48):012x}"
    return orjson.dumps(
        {
            "schema": 1,
            "id": f"id-{number}",
            "record": uuid,
            "at": at,
            "proxy": "h/0",
            "request": asked | {"body_bytes": 9},
        }
        | {"live": legs[0], "shadows": {name: legs[1] | {"verdict": "match"}}, "control": None}
    )


def lines(count: int, **more: Any) -> list[bytes]:
    return [line(number, seconds=number / 10, **more) for number in range(count)]


def counting(settings: StandingSettings = SETTINGS, since: float = BEFORE) -> Counting:
    return Counting(settings, since)


# --- which part is folded -------------------------------------------------------------------------------------------


def steady(cpu: float | None, rate: float, cost: float, others: float, seconds: int = 2000) -> tuple[float, float, int]:
    """The share of CPU time that folding takes of all else after a while, that of records folded, and the level."""
    budget = FoldingBudget(cpu)
    took = all_else = folded = 0.0
    for second in range(seconds):
        part = rate / (1 << budget.level)
        budget.note(
            seconds=1.0,
            records=round(rate),
            folded=max(1, round(part)),
            took=part * cost,
            all_took=part * cost,
            others=others,
        )
        if second >= seconds // 2:
            took, all_else, folded = took + part * cost, all_else + others, folded + part
    return took / all_else, folded / (rate * (seconds - seconds // 2)), budget.level


@pytest.mark.parametrize("rate", [10, 100, 1000, 5000])
def test_folding_keeps_within_its_share_at_any_rate(rate: int) -> None:
    others = 0.006 + rate * 0.0003
    took, part, _ = steady(0.04, rate, 0.00017, others)
    assert took <= 1.05 * (0.04 + ALWAYS / others)
    assert part > 0.005  # and it uses what it may


def test_few_requests_are_all_folded() -> None:
    _, part, level = steady(0.04, 2, 0.00017, 0.007)
    assert (part, level) == (1.0, 0)


def test_the_first_thousands_are_folded_whole() -> None:
    budget = FoldingBudget(0.04)
    for _ in range(4):
        budget.note(seconds=0.25, records=20, folded=20, took=0.005, all_took=0.005, others=0.02)
    assert budget.level == 0


def test_what_was_taken_beyond_the_share_is_paid_back_at_one_level_more() -> None:
    budget = FoldingBudget(0.04)
    levels = []
    for second in range(120):
        part = 1000 / (1 << budget.level)
        took = part * 0.00017 + (2.0 if second == 60 else 0.0)  # as a few very large records take
        budget.note(seconds=1.0, records=1000, folded=round(part), took=part * 0.00017, all_took=took, others=0.3)
        levels.append(budget.level)
    assert max(levels[61:]) <= levels[59] + 2  # one for what is paid back, one for what was saved and is spent


def test_without_a_bound_everything_is_folded() -> None:
    assert steady(None, 100_000, 0.01, 0.1)[2] == 0


def test_the_draw_is_one_in_two_to_the_level_and_nested() -> None:
    all_lines = lines(4000)
    kept = [{raw for raw in all_lines if drawn(raw, level)} for level in range(5)]
    for level, each in enumerate(kept):
        assert abs(len(each) - 4000 / 2**level) < 5 * (4000 / 2**level) ** 0.5 + 1
    assert all(more >= less for more, less in pairwise(kept))


# --- what is counted ------------------------------------------------------------------------------------------------


def test_all_that_is_folded_gives_the_report_of_the_log(tmp_path: Path) -> None:
    (tmp_path / "log.jsonl").write_bytes(b"\n".join(lines(300)) + b"\n")
    found = counting()
    for raw in lines(300):
        assert found.fold(raw, 1, SETTINGS)
    mine = to_json(found.total())["shadows"]["s"]
    report = to_json(summarise_files([tmp_path / "log.jsonl"], Rules()))["shadows"]["s"]
    assert (mine["verdict"], mine["checks"]) == (report["verdict"], report["checks"])


def test_a_record_counts_as_often_as_it_stands_for_others() -> None:
    found = counting()
    for number, raw in enumerate(lines(200)):
        found.fold(raw, 4 if number % 2 else 1, SETTINGS)
    assert to_json(found.total())["shadows"]["s"]["pairs"]["n"] == 100 + 400


def test_nothing_of_a_request_is_kept_but_counts() -> None:
    found = counting()
    for number in range(100):
        found.fold(line(number, "z" if number % 2 else None, pad=10 + number), 1, SETTINGS)
    kept = orjson.dumps(found.to_json())
    assert b"id-1" not in kept
    assert b"x" * 10 not in kept  # of a field with many values; those of few are parts of the requests, and counted


def test_records_from_before_the_beginning_or_of_another_candidate_do_not_count() -> None:
    found = counting(since=START.timestamp() + 5)
    assert not found.fold(line(1), 1, SETTINGS)
    assert found.fold(line(1, seconds=6), 1, SETTINGS)
    other = StandingSettings(cpu=None, live="l", shadows={"s": "2"})
    assert not found.fold(line(2, seconds=6), 1, other)
    rules = StandingSettings(cpu=None, live="l", shadows={"s": "1"}, rules=Rules(ignore=("/a",)))
    assert not found.fold(line(3, seconds=6), 1, rules)
    assert to_json(found.total())["shadows"]["s"]["pairs"]["n"] == 1


def test_a_state_goes_on_where_it_was(tmp_path: Path) -> None:
    whole, first = counting(), counting()
    for raw in lines(200):
        whole.fold(raw, 1, SETTINGS)
    for raw in lines(200)[:90]:
        first.fold(raw, 1, SETTINGS)
    file = StateFile(tmp_path, "host/0")
    file.write(first.to_json())
    assert file.path.name == ".standing-host-0.json"
    assert file.path.stat().st_mode & 0o777 == 0o600
    second = Counting.from_json(SETTINGS, file.read())
    for raw in lines(200)[90:]:
        second.fold(raw, 1, SETTINGS)
    assert to_json(second.total()) == to_json(whole.total())
    with pytest.raises(ValueError, match="not a whole state"):
        Counting.from_json(SETTINGS, {"since": 1.0})


def test_a_window_drops_what_is_older(tmp_path: Path) -> None:
    settings = StandingSettings(window=1200.0, cpu=None, live="l", shadows={"s": "1"})
    found = counting(settings, START.timestamp())
    for part in range(2 * PARTS):
        now = START.timestamp() + part * 100
        found.turn(now)
        for number in range(10):
            found.fold(line(part * 10 + number, seconds=part * 100 + 1), 1, settings)
    pairs = to_json(found.total())["shadows"]["s"]["pairs"]["n"]
    assert 10 * (PARTS - 1) <= pairs <= 10 * (PARTS + 1)
    assert found.counts_from >= START.timestamp() + 2300 - 1200
    again = Counting.from_json(settings, orjson.loads(orjson.dumps(found.to_json())))
    assert to_json(again.total()) == to_json(found.total())


# --- the words ------------------------------------------------------------------------------------------------------


def ready(facts: Facts, last: str | None = None) -> ShadowVerdict:
    report = {"verdict": {"result": "pass", "sentence": "every check passes"}, "pairs": {"n": 9}, "checks": []}
    return shadow_verdict(report, facts, BEFORE, last)


def test_ready_is_withheld_where_too_little_was_counted() -> None:
    assert ready(Facts(records=1000, folded=500)).word == "pass"
    assert ready(Facts(records=1000, shed=51)).word == "inconclusive"
    lost = ready(Facts(records=900, lost=100))
    assert (lost.word, lost.headline) == ("inconclusive", "NOT SURE YET")
    assert lost.checks[0]["name"] == "recorder"
    assert "100 of 1,000 requests have no record" in lost.sentence
    assert ready(Facts(records=10), "2020-01-01T00:00:00.000000Z").word == "inconclusive"
    assert "6 of 1,000 records were too long" in ready(Facts(records=1000, long=6)).sentence
    assert ready(Facts(records=1000, long=5, gaps=1, seconds=1200)).word == "pass"
    assert "killed 2 times in 1,200 s" in ready(Facts(records=1000, gaps=2, seconds=1200)).sentence
    assert withheld(Facts(records=10), "2026-01-01T00:00:00.000000Z", 1767225600.0 + 3600) is None


def test_a_word_is_not_said_of_another_candidate_or_when_it_is_too_old() -> None:
    recent = time.strftime("%Y-%m-%dT%H:%M:%S.000000Z", time.gmtime())
    old = {"s": ShadowVerdict("pass", "", 9, "", "2020-01-01T00:00:00.000000Z")}
    fresh = {"s": ShadowVerdict("pass", "", 9, "", recent)}
    verdict = StandingVerdict("a", "b", shadows=fresh, of=SETTINGS)
    assert [each.word for each in verdict.words_now(SETTINGS)] == ["pass"]
    assert [each.word for each in verdict.words_now(SETTINGS, hangs=True)] == ["inconclusive"]
    assert [each.word for each in StandingVerdict("a", "b", shadows=old, of=SETTINGS).words_now(SETTINGS)] == [
        "inconclusive"
    ]
    assert verdict.words_now(StandingSettings(cpu=None, live="l", shadows={"s": "2"})) == ()
    assert verdict.words_now(StandingSettings(cpu=None, live="m", shadows={"s": "1"})) == ()


def test_without_a_shadow_or_a_request_there_is_no_data() -> None:
    assert as_json(StandingVerdict("a", "b"))["verdict"] == "no_data"
    assert shadow_verdict(None, Facts(), BEFORE, None).word == "no_data"


def test_the_worst_word_of_all_shadows_stands_for_them() -> None:
    words = {name: ShadowVerdict(name, "", 1, "") for name in ("pass", "no_data", "inconclusive", "fail")}
    for number, word in ((4, "fail"), (3, "inconclusive"), (2, "no_data"), (1, "pass")):
        shadows = dict(list(words.items())[:number])
        assert as_json(StandingVerdict("a", "b", shadows=shadows))["verdict"] == word


def test_a_sliding_window_says_that_it_promises_nothing() -> None:
    assert SLIDING in as_json(StandingVerdict("a", "b", window=60.0))["notes"]


# --- the thread -----------------------------------------------------------------------------------------------------


def test_its_words_are_those_of_a_report() -> None:
    assert dict(HEADLINES) == HEADLINE_OF
    assert {word_of(result): status for result, status in EXIT_CODES.items()} == EXIT_STATUSES


class Told(list[Notice]):
    def of(self, event: str) -> list[Notice]:
        return [each for each in self if each.event == event]


def begun(directory: Path | None, told: Told, settings: StandingSettings | None = SETTINGS) -> Standing:
    return Standing(directory, proxy="h", settings=settings, notify=told.append, begin=60.0, asked_every=0.0)


def now_lines(count: int, **more: Any) -> list[bytes]:
    """Lines of requests that begin in the next second."""
    return [line(number, seconds=time.time() - START.timestamp() + 1, **more) for number in range(count)]


async def test_the_state_outlives_the_process_and_a_killed_one_is_said(tmp_path: Path) -> None:
    told = Told()
    first = begun(tmp_path, told)
    assert (await first.verdict()).word == "no_data"
    await asyncio.sleep(0)
    first.offer([(each, SETTINGS) for each in now_lines(60)])
    since = (await first.verdict()).since
    await asyncio.to_thread(first.close, 5)
    second = begun(tmp_path, told)
    assert [(each.shadow, each.n) for each in second.words()] == [("s", 60)]  # before anybody asks
    again = await second.verdict()
    assert (again.shadows["s"].n, again.since, again.facts.gaps) == (60, since, 0)
    second.offer([(each, SETTINGS) for each in now_lines(5)])
    await second.verdict()
    state = json.loads((tmp_path / ".standing-h.json").read_bytes())
    (tmp_path / ".standing-h.json").write_text(json.dumps(state | {"closed": False}))  # as a killed one leaves it
    second._keeping.close()
    second._keeping.file = None
    await asyncio.to_thread(second.close, 5)
    third = begun(tmp_path, told)
    killed = as_json(await third.verdict())
    assert killed["counted"]["gaps"] == 1
    assert any("up to a minute" in each for each in killed["notes"])
    await asyncio.to_thread(third.close, 5)


async def test_a_program_that_is_killed_again_and_again_is_not_ready_by_what_it_counted_before(tmp_path: Path) -> None:
    first = begun(tmp_path, Told())
    await first.verdict()
    file = tmp_path / ".standing-h.json"
    assert json.loads(file.read_bytes())["closed"] is False  # from the beginning on
    first.offer([(each, SETTINGS) for each in now_lines(1)])
    await first.verdict()
    await asyncio.to_thread(first.close, 5)
    for gaps in (1, 2, 3):
        kept = json.loads(file.read_bytes())
        last = time.strftime("%Y-%m-%dT%H:%M:%S.000000Z", time.gmtime())
        mine = {"words": [["s", "pass", 1]], "last": {"s": last}}
        file.write_text(json.dumps(kept | mine | {"closed": True}))
        assert [each.word for each in Keeping(tmp_path, "h", print).words(SETTINGS)] == [
            "pass" if gaps == 1 else "inconclusive"
        ]
        file.write_text(json.dumps(kept | mine | {"closed": False}))
        assert [each.word for each in Keeping(tmp_path, "h", print).words(SETTINGS)] == ["inconclusive"]
        killed = begun(tmp_path, Told())
        assert (await killed.verdict()).facts.gaps == gaps
        assert json.loads(file.read_bytes())["facts"]["gaps"] == gaps
        killed._keeping.close()
        killed._keeping.file = None
        await asyncio.to_thread(killed.close, 5)


async def test_a_clock_that_is_set_back_begins_anew(monkeypatch: pytest.MonkeyPatch) -> None:
    standing = begun(None, Told())
    await standing.verdict()
    standing.offer([(each, SETTINGS) for each in now_lines(30)])
    assert (await standing.verdict()).shadows["s"].n == 30
    real = time.time
    monkeypatch.setattr(time, "time", lambda: real() - 7200)
    standing.offer([(each, SETTINGS) for each in now_lines(5)])
    again = await standing.verdict()
    assert again.began == "the clock was set back"
    assert again.shadows["s"].n == 5
    assert again.shadows["s"].last is not None
    await asyncio.to_thread(standing.close, 5)


def test_no_request_is_later_than_now() -> None:
    found = counting()
    found.fold(line(1, seconds=9e8), 1, SETTINGS)
    found.turn(START.timestamp())
    assert found.last == {"s": START.strftime("%Y-%m-%dT%H:%M:%S.%fZ")}
    assert found.seconds == 60


async def test_what_is_lost_while_nothing_is_written_is_in_the_next_answer() -> None:
    standing = begun(None, Told())
    await standing.verdict()
    standing.offer([(each, SETTINGS) for each in now_lines(30)])
    assert (await standing.verdict()).facts.lost == 0
    standing.note_lost(5)  # what another recorder had lost before this one began
    standing.note_lost(12)
    assert (await standing.verdict()).facts.lost == 7
    assert (await standing.reset()).facts.lost == 0
    standing.note_lost(13)
    assert (await standing.verdict()).facts.lost == 1
    await asyncio.to_thread(standing.close, 5)


async def test_other_rules_or_another_live_begin_anew_and_say_why(tmp_path: Path) -> None:
    told = Told()
    standing = begun(None, told)
    await standing.verdict()
    standing.offer([(each, SETTINGS) for each in now_lines(10)])
    assert (await standing.verdict()).shadows["s"].n == 10
    standing.adopt(StandingSettings(cpu=0.5, live="l", shadows={"s": "1"}, gates={"p99_ratio": 3}))
    assert (await standing.verdict()).shadows["s"].n == 10  # the same systems, compared in the same way
    standing.adopt(StandingSettings(cpu=None, live="l", shadows={"s": "1"}, rules=Rules(ignore=("/x",))))
    anew = as_json(await standing.verdict())
    assert (anew["verdict"], anew["shadows"]["s"]["n"]) == ("no_data", 0)
    assert any("compared by other rules" in each for each in anew["notes"])
    standing.adopt(None)
    with pytest.raises(NotStanding, match="null"):
        await standing.verdict()
    assert standing.words() == ()
    await asyncio.to_thread(standing.close, 5)


async def test_another_address_is_another_candidate(tmp_path: Path) -> None:
    two = StandingSettings(cpu=None, live="l", shadows={"s": "1", "t": "1"})
    standing = begun(None, Told(), two)
    await standing.verdict()
    standing.offer([(each, two) for each in [*now_lines(10), *now_lines(7, name="t")]])
    assert {name: each.n for name, each in (await standing.verdict()).shadows.items()} == {"s": 10, "t": 7}
    other = StandingSettings(cpu=None, live="l", shadows={"s": "2", "t": "1"})
    standing.adopt(other)
    standing.offer([(each, two) for each in now_lines(3)])  # of exchanges that the one before answered
    found = (await standing.verdict()).shadows
    assert (found["s"].n, found["s"].word, found["t"].n) == (0, "no_data", 7)
    assert found["s"].since >= found["t"].since
    await asyncio.to_thread(standing.close, 5)


async def test_two_programs_of_one_name_keep_their_states_apart(tmp_path: Path) -> None:
    told, others = Told(), Told()
    one, other = begun(tmp_path, told), begun(tmp_path, others)
    await one.verdict()
    await other.verdict()
    assert told.of("verdict_trouble") == []
    assert "another program" in others.of("verdict_trouble")[0].line
    await asyncio.to_thread(one.close, 5)
    await asyncio.to_thread(other.close, 5)


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="needs Linux")
async def test_a_directory_that_cannot_be_written_is_said_once_and_counting_goes_on(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    told = Told()
    standing = begun(tmp_path / "file" / "log", told)
    for _ in range(3):
        standing.offer([(each, SETTINGS) for each in now_lines(10)])
        await standing.reset()
    standing.offer([(each, SETTINGS) for each in now_lines(10)])
    assert (await standing.verdict()).shadows["s"].n == 10
    await asyncio.to_thread(standing.close, 5)
    assert len(told.of("verdict_trouble")) == 1


async def test_what_does_not_fit_is_shed_and_counted(tmp_path: Path) -> None:
    standing = begun(None, Told())
    long = line(1, pad=LONGEST)
    wide = line(2, pad=LONGEST // 2)
    standing._begin_after, standing._thread = 60.0, asyncio  # type: ignore[assignment] # none that would take them
    standing.offer([(each, SETTINGS) for each in (long, *[wide] * 20)])
    assert standing._waiting.size <= MOST_BYTES + len(wide)
    assert (standing._waiting.long, standing._waiting.shed) == (1, 20 - standing._waiting.put)
    standing._thread = None
    await standing.verdict()
    facts = (await standing.verdict()).facts
    assert (facts.shed > 10, facts.long) == (True, 1)
    await asyncio.to_thread(standing.close, 5)


async def test_a_word_that_changes_is_said_once(tmp_path: Path) -> None:
    told = Told()
    standing = begun(None, told)
    await standing.verdict()
    standing.offer([(each, SETTINGS) for each in now_lines(400, shadow="q")])  # always another class
    standing._reports.took = 0.0
    for _ in range(3):
        assert (await standing.verdict()).shadows["s"].word in ("fail", "inconclusive")
        standing.offer([(each, SETTINGS) for each in now_lines(400, shadow="q")])
    failing = StandingVerdict(
        "a", "b", shadows={"s": ShadowVerdict("fail", "", 5, "", None, ({"name": "latency", "result": "fail"},))}
    )
    told.clear()
    standing._reports.words_before = {"s": "inconclusive"}
    standing._reports.announce(failing)
    standing._reports.announce(failing)
    (notice,) = told.of("verdict_changed")
    assert notice.line == "the standing verdict on s is NOT READY (latency) after 5 requests; it was NOT SURE YET"
    await asyncio.to_thread(standing.close, 5)


async def test_an_error_in_counting_costs_neither_the_thread_nor_ready(tmp_path: Path) -> None:
    told = Told()
    standing = begun(None, told)
    await standing.verdict()
    standing.offer([(b"no record", SETTINGS), (line(1), SETTINGS)])
    assert (await standing.verdict()).facts.shed == 1
    assert standing._thread is not None
    assert standing._thread.is_alive()
    await asyncio.to_thread(standing.close, 5)
    assert not standing._thread.is_alive()


async def test_a_short_run_takes_no_time_to_import_anything(tmp_path: Path) -> None:
    standing = begun(tmp_path, Told())
    standing.offer([(line(1), SETTINGS)])
    await asyncio.to_thread(standing.close, 5)
    assert list(tmp_path.iterdir()) == []  # noqa: ASYNC240


# --- the admin server -----------------------------------------------------------------------------------------------


async def test_the_admin_server_says_it_and_begins_anew_when_asked(proxy: StartProxy) -> None:
    body = answer(b'{"class": "a"}')
    options = {"verdict": {"cpu": None}, **ADMIN}
    async with (
        proxy(always(body), {"a": always(body), "b": always(body)}, **options) as running,
        client(running) as admin,
    ):
        for _ in range(60):
            await running.ask(GET)
        await wait_written(admin, 60)
        found = (await admin.get("/verdict")).json()
        assert (found["schema"], found["verdict"], found["window"]) == (1, "inconclusive", None)
        assert {name: each["n"] for name, each in found["shadows"].items()} == {"a": 60, "b": 60}
        assert {each["check"] for each in found["shadows"]["a"]["checks"]} >= {"latency", "errors", "answered"}
        assert list((await admin.get("/verdict?shadow=b")).json()["shadows"]) == ["b"]
        assert (await admin.get("/verdict?shadow=c")).status_code == 404
        summary = load((await admin.get("/summary")).content)
        log = to_json(summarise_files([running.log], Rules()))
        assert log["log"]["records"] == summary.count == 60
        assert to_json(summary)["shadows"]["a"]["checks"] == log["shadows"]["a"]["checks"]
        metrics = (await admin.get("/metrics")).text
        assert 'shadowproxy_verdict{shadow="a",verdict="inconclusive"} 1.0' in metrics
        assert 'shadowproxy_verdict{shadow="a",verdict="pass"} 0.0' in metrics
        assert (await admin.post("/verdict/reset")).status_code == 403
        assert (await admin.post("/verdict/reset?shadow=c", headers=MARK)).status_code == 404
        anew = (await admin.post("/verdict/reset?shadow=a", headers=MARK)).json()
        assert list(anew["shadows"]) == ["a"]
        assert (anew["shadows"]["a"]["verdict"], anew["shadows"]["a"]["n"]) == ("no_data", 0)
        assert (await admin.get("/verdict?shadow=b")).json()["shadows"]["b"]["n"] == 60
        anew = (await admin.post("/verdict/reset", headers=MARK)).json()
        assert (anew["verdict"], anew["shadows"]["b"]["n"]) == ("no_data", 0)


async def test_whoever_may_not_see_requests_gets_words_and_counts_alone(proxy: StartProxy) -> None:
    async with (
        proxy(shadows={"a": always(answer(b"{}"))}, admin_token="0123456789abcdef", **ADMIN) as running,
        client(running) as admin,
    ):
        await running.ask(GET)
        await wait_written(admin, 1)
        closed = (await admin.get("/verdict")).json()["shadows"]["a"]
        assert closed["sentence"] is None
        assert {each["says"] for each in closed["checks"]} == {None}
        assert {each["check"] for each in closed["checks"]} >= {"live"}
        token = {"Authorization": "Bearer 0123456789abcdef"}
        open_one = (await admin.get("/verdict", headers=token)).json()["shadows"]["a"]
        assert open_one["sentence"]
        assert (await admin.get("/summary")).status_code == 401
        assert (await admin.get("/summary", headers=token)).status_code == 200


async def test_switched_off_there_is_none(proxy: StartProxy) -> None:
    async with proxy(shadows={"a": always(answer(b"{}"))}, verdict=None, **ADMIN) as running, client(running) as admin:
        await running.ask(GET)
        await wait_written(admin, 1)
        assert (await admin.get("/verdict")).status_code == 404
        assert (await admin.post("/verdict/reset", headers=MARK)).status_code == 404
        assert "shadowproxy_verdict{" not in (await admin.get("/metrics")).text


# --- the whole program ----------------------------------------------------------------------------------------------


async def said(admin: httpx.AsyncClient, requests: int) -> Any:
    """The verdict once it rests on so many requests. While the recorder is started again there is none."""
    found: Any = None
    async with asyncio.timeout(30):
        while found is None or found["shadows"]["a"]["n"] < requests:
            told = await admin.get("/verdict")
            found = told.json() if told.status_code == 200 else found
            await asyncio.sleep(0.02)
    return found


@pytest.mark.soak
async def test_the_verdict_outlives_a_killed_recorder_and_a_restart(tmp_path: Path) -> None:
    async with Origin(always(answer(b'{"class": "a"}'))) as origin:
        values = {
            "workers": 2,
            "admin": "127.0.0.1:0",
            "live": {"url": origin.url},
            "shadows": {"a": {"url": origin.url}},
            "verdict": {"cpu": None},
        }

        async def ask(program: Program, times: int) -> None:
            for _ in range(times):
                assert (await program.ask(GET)).status == 200

        def admin_client(program: Program) -> httpx.AsyncClient:
            host, port = admin_of(program)
            return httpx.AsyncClient(trust_env=False, base_url=f"http://{host}:{port}", timeout=30)

        async with Program(tmp_path, values) as program, admin_client(program) as admin:
            anew = (await admin.post("/verdict/reset", headers=MARK)).json()  # which is kept at once
            await ask(program, 20)
            assert (await said(admin, 20))["since"] == anew["since"]
            (recorder,) = program.recorders
            os.kill(recorder, signal.SIGKILL)
            await program.wait_said("the recorder has ended")
            await ask(program, 10)
            killed = await said(admin, 10)
            assert (killed["since"], killed["counted"]["gaps"]) == (anew["since"], 1)
            assert any("killed once" in each for each in killed["notes"])
            kept = (await said(admin, 10))["shadows"]["a"]["n"]
            assert await program.stop() == 0
        async with Program(tmp_path, values) as program, admin_client(program) as admin:
            assert f'shadowproxy_verdict_requests{{shadow="a"}} {kept}.0' in (await admin.get("/metrics")).text
            await ask(program, 5)
            again = await said(admin, kept + 5)
            assert (again["since"], again["counted"]["gaps"], again["shadows"]["a"]["n"]) == (
                anew["since"],
                1,
                kept + 5,
            )
            assert await program.stop() == 0
