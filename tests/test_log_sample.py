"""The log keeps what differs, fails or is slow, and a share of the rest with its weight; the remainder is counted."""

import asyncio
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import httpx
import pytest
from conftest import StartProxy
from fakes import always, answer

from shadowproxy.answers import About
from shadowproxy.budget import Budget
from shadowproxy.check.screen import _log
from shadowproxy.compare.fold.summary import summarise
from shadowproxy.compare.judge.rules import Rules
from shadowproxy.compare.judge.verdict import judge
from shadowproxy.compare.report.figures.whole import figures_of
from shadowproxy.config import ConfigError, from_values
from shadowproxy.exchange import Exchange, Failure, Outcome, Reply, Request, Skipped, Verdict
from shadowproxy.record import Judgement, RecordedLeg, decode
from shadowproxy.recorder.line import encode, encode_again
from shadowproxy.recorder.policy import Policy
from shadowproxy.recorder.sample import Sample, kind_of, weight_of
from shadowproxy.redaction import Redaction
from shadowproxy.serve.handover.books import NOTHING, Books, books_now
from shadowproxy.serve.journal.root import Journal
from shadowproxy.serve.journal.source import Settled

JSON = ((b"Content-Type", b"application/json"),)
RULES = Rules()
ALL = dict.fromkeys(("match", "mismatch", "incomparable", "failed", "alone"), "full")


def judged(live: RecordedLeg, shadow: RecordedLeg, budget: Budget, about: About) -> Judgement:
    return judge(live, shadow, RULES, budget, about)


def reply(body: bytes = b'{"class": "a"}', status: int = 200, ms: float = 5.0) -> Reply:
    return Reply(status, JSON, body, len(body), ms / 2, ms)


def exchange(number: int = 0, shadow: Any = None, live: Any = None, **more: Any) -> Exchange:
    body = b'{"n": 1}'
    request = Request(f"id-{number}", f"record-{number}", 10**18 + number, "POST", b"/p", JSON, body, len(body))
    shadows = {} if shadow == "none" else {"s": reply() if shadow is None else shadow}
    return Exchange(request, reply() if live is None else live, shadows, **more)


def line(told: Exchange, **policy: Any) -> bytes:
    return encode(told, proxy="host/0", policy=Policy(**policy), judge=judged, rules=RULES.digest)


def test_a_weight_has_the_mean_of_one_request() -> None:
    for share in (0.05, 0.3, 0.7, 1.0):
        weights = [weight_of(f"record-{number}", share) for number in range(20_000)]
        assert sum(map(bool, weights)) / 20_000 == pytest.approx(share, abs=0.01)
        assert sum(weights) / 20_000 == pytest.approx(1, abs=0.05)
        assert set(weights) <= {0, int(1 / share), int(1 / share) + 1}


def test_only_what_matches_and_is_fast_is_drawn() -> None:
    cases: dict[str, tuple[Exchange, Sequence[Verdict]]] = {
        "match": (exchange(), [Verdict.MATCH]),
        "mismatch": (exchange(shadow=reply(b'{"class": "b"}')), [Verdict.MISMATCH]),
        "incomparable": (exchange(), [Verdict.INCOMPARABLE]),
        "alone": (exchange(shadow="none"), []),
    }
    for kind, (told, verdicts) in cases.items():
        assert kind_of(told, verdicts, []) == kind
    for told in (
        exchange(shadow=Failure(Outcome.TIMEOUT, "late", 30.0)),
        exchange(shadow=Skipped(Outcome.LANE_FULL, "full")),
        exchange(live=Failure(Outcome.CONNECT_ERROR, "down", 3.0)),
        exchange(live=reply(status=404), shadow=reply(status=404)),
        exchange(live=reply(status=500), shadow="none"),
        exchange(live=reply()._replace(caller_left=True)),
    ):
        assert kind_of(told, [Verdict.MATCH], []) == "failed"
    assert kind_of(exchange(), [Verdict.MATCH], ["s"]) == "failed"


def test_the_log_keeps_all_that_is_of_interest_and_a_share_of_the_rest() -> None:
    sample = Sample(match=0.1, alone=0.5, slow=2.0)
    matches = [line(exchange(number), sample=sample) for number in range(400)]
    written = [decode(each) for each in matches if each]
    assert 20 < len(written) < 70
    assert {(each.weight, each.heaviest) for each in written} == {(10, 10)}
    alone = [decode(each) for number in range(200) if (each := line(exchange(number, "none"), sample=sample))]
    assert 70 < len(alone) < 130
    assert {each.weight for each in alone} == {2}
    for told in (
        exchange(shadow=reply(b'{"class": "b"}')),
        exchange(shadow=Failure(Outcome.TIMEOUT, "late", 30.0)),
        exchange(shadow=reply(ms=10.0)),
        exchange(control=reply()),
    ):
        found = [line(told._replace(request=told.request._replace(record=str(at))), sample=sample) for at in range(20)]
        assert all(found)
        assert {(decode(each).weight, decode(each).heaviest) for each in found} == {(1, 10)}
    fast = [line(exchange(number, reply(ms=10.0)), sample=Sample(0.1, slow=None)) for number in range(200)]
    assert sum(map(bool, fast)) < 60


def test_the_share_decides_by_the_record_alone() -> None:
    sample = Sample(match=0.2)
    once = [bool(line(exchange(number), sample=sample)) for number in range(100)]
    assert once == [bool(line(exchange(number), sample=sample)) for number in range(100)]


def test_without_a_verdict_or_a_sample_nothing_is_left_out_and_nothing_added() -> None:
    plain = encode(exchange(), proxy="host/0", policy=Policy(sample=Sample(0.001)), judge=None)
    assert plain
    assert b"sample" not in plain
    assert b"weight" not in line(exchange())


def test_bodies_are_recorded_by_what_became_of_the_exchange() -> None:
    by = {**ALL, "match": "hash", "failed": "none"}
    long = b'{"class": "' + b"a" * 5000 + b'"}'
    whole = json.loads(line(exchange(shadow=reply(b'{"class": "b"}')), bodies_by=by))
    assert whole["request"]["body"] == {"n": 1}
    hashed = json.loads(line(exchange(), bodies_by=by))
    assert "body" not in hashed["request"]
    assert len(hashed["request"]["body_sha256"]) == 64
    assert hashed["live"]["body"] == hashed["shadows"]["s"]["body"] == {"class": "a"}
    longer = json.loads(line(exchange(live=reply(long), shadow=reply(long)), bodies_by=by))
    assert "body" not in longer["live"]
    assert longer["live"]["body_truncated"] is True
    assert longer["shadows"]["s"]["verdict"] == "match"
    nothing = json.loads(line(exchange(shadow=Failure(Outcome.TIMEOUT, "late", 30.0)), bodies_by=by))
    assert nothing["live"] == {**nothing["live"], "body_bytes": 14, "body_truncated": True}
    assert not {"body", "body_sha256"} & nothing["live"].keys()


def test_an_answer_that_stays_is_redacted_first() -> None:
    told = exchange(live=reply(b'{"class": "a", "ssn": "123"}'), shadow=reply(b'{"class": "a", "ssn": "123"}'))
    by = {**ALL, "match": "hash"}
    raw = line(told, bodies_by=by, redaction=Redaction(json=("/ssn",)))
    assert b"123" not in raw
    assert json.loads(raw)["live"]["body"]["class"] == "a"


def test_what_an_answer_says_of_its_failure_goes_with_its_body() -> None:
    told = exchange(shadow=reply(b'{"error": "the model secret-7 is gone"}'))
    assert b"secret-7" in line(told, bodies_by={**ALL, "match": "hash"})
    assert b"secret-7" not in line(told, bodies_by={**ALL, "failed": "none"})


def test_a_report_on_hashed_matches_counts_the_same_answers() -> None:
    told = [exchange(at, reply(b'{"class": "b"}') if at % 9 == 0 else None) for at in range(60)]
    full = summarise([decode(line(each)) for each in told], RULES)
    hashed = summarise([decode(line(each, bodies_by={**ALL, "match": "hash"})) for each in told], RULES)
    one, other = full.shadows["s"]["POST /p"], hashed.shadows["s"]["POST /p"]
    assert one.outputs.to_json() == other.outputs.to_json()
    assert one.verdicts == other.verdicts
    assert one.structured == other.structured


def test_fields_of_requests_divide_none_where_those_of_matches_are_left_out() -> None:
    """Of 300 requests 30 fail, all of one value like nearly all: by the fields that are there, one in two."""
    late = Failure(Outcome.TIMEOUT, "late", 30.0)
    told = [
        exchange(at, late if at % 10 == 0 else reply(b'{"class": "b"}') if at % 10 == 1 else None) for at in range(300)
    ]
    seen = summarise([decode(line(each)) for each in told], RULES)
    hashed = summarise([decode(line(each, bodies_by={**ALL, "match": "hash"})) for each in told], RULES)
    one, other = (figures_of(each)["shadows"]["s"] for each in (seen, hashed))
    assert one["errors"] is not None
    assert other["errors"] is not None
    assert one["errors"]["shadow"] == other["errors"]["shadow"]
    assert "/n" in seen.shadows["s"]["POST /p"].slices
    assert not [row for row in other["slices"] if row["path"] == "/n"]
    assert not other["parts"]
    assert other["errors"]["reasons"]["shadow"][0]["where"] is None


def test_a_replayed_record_stands_for_as_many_and_is_certain_of_none() -> None:
    raw = next(each for at in range(200) if (each := line(exchange(at), sample=Sample(0.05))))
    old, whole = decode(raw), json.loads(raw)
    again, _ = encode_again(
        old,
        reply(b'{"class": "b"}'),
        request=json.dumps(whole["request"]).encode(),
        live=json.dumps(whole["live"]).encode(),
        shadow="other",
        record_id="record-again",
        sent_ns=10**18,
        proxy="host/0",
        policy=Policy(),
        judge=judged,
    )
    found = decode(again)
    assert (found.weight, found.heaviest, found.differing) == (20, 20, 20)
    chosen = summarise([found], RULES).shadows["other"]["POST /p"].chosen
    assert chosen.weights is not None
    assert chosen.weights.draw == 20


def test_what_is_left_out_is_counted_and_the_books_balance(tmp_path: Path) -> None:
    def encoded(told: Exchange) -> tuple[bytes, dict[str, Verdict | None], tuple[str, ...]]:
        return line(told, sample=Sample(0.2)), {"s": Verdict.MATCH}, ()

    journal = Journal(tmp_path / "log", proxy="host/0", notify=lambda notice: None)
    journal.open()
    source = journal.add_source()
    for number in range(100):
        assert journal.append(exchange(number), encoded, source)
    journal.append(exchange(1000, reply(b"{" + b" " * (200 << 10) + b"}")), lambda told: (b"", {}, ()), source)
    journal.close(10.0)
    found = journal.statistics()
    assert 5 < found.written < 50
    assert found.written + found.sampled_out == 101
    assert not found.queued
    assert not found.lost
    settled = journal.take_settled(source)
    assert settled is not None
    assert settled.total == 101
    assert settled.verdicts == {("s", "match"): 100}
    written = [decode(raw) for file in (tmp_path / "log").glob("[!.]*") for raw in file.read_bytes().splitlines()]
    assert len(written) == found.written


def test_books_of_what_is_left_out_add_up_after_a_recorder_was_lost() -> None:
    last = Books(100, 20, 30, 0, {}, 10, {}, {}, 100, 50, NOTHING._replace(written=20, sampled_out=50))
    now = books_now(last, 10, Settled(25, 12, {"disk_full": 1}, {}, {}, 60))
    assert (now.written, now.sampled_out, now.queued) == (25, 60, 24)
    assert now.appended == now.written + now.sampled_out + now.queued + sum(now.lost.values())


SMALLEST = {"live": {"url": "http://127.0.0.1:1"}, "shadows": {"s": {"url": "http://127.0.0.1:2"}}}


@pytest.mark.parametrize(
    ("keys", "said"),
    [
        ({"log": {"sample": {"match": 0}}}, "log.sample.match"),
        ({"log": {"sample": {"match": "5 %"}}}, "log.sample.match"),
        ({"log": {"sample": {"mach": 0.5}}}, "match"),
        ({"log": {"sample": {"slow": 0.5}}}, "log.sample.slow"),
        ({"log": {"bodies": {"match": "hashed"}}}, "log.bodies.match"),
        ({"log": {"bodies": "sometimes"}}, "log.bodies"),
        ({"log": {"sample": {"match": 0.5}}, "compare": {"online": False}}, "compare.online"),
        ({"log": {"bodies": {"match": "hash"}}, "compare": {"online": False}}, "compare.online"),
    ],
)
def test_what_cannot_be_is_an_error_that_names_the_key(keys: dict[str, Any], said: str) -> None:
    with pytest.raises(ConfigError, match=said):
        from_values(SMALLEST | keys)


def test_both_forms_of_bodies_are_read() -> None:
    assert from_values({**SMALLEST, "log": {"bodies": "hash"}}).log.bodies == "hash"
    log = from_values({**SMALLEST, "log": {"bodies": {"match": "hash"}, "sample": {"match": 0.05, "slow": None}}}).log
    assert not isinstance(log.bodies, str)
    assert (log.bodies.match, log.bodies.mismatch) == ("hash", "full")
    assert (log.sample.match, log.sample.alone, log.sample.slow) == (0.05, 1.0, None)


def test_check_says_what_is_written() -> None:
    log = {"bodies": {"match": "hash"}, "sample": {"match": 0.05}}
    said = list(_log(from_values({**SMALLEST, "log": log})))
    assert said[0] == (
        "records bodies by what became of the exchange: "
        "match hash, mismatch full, incomparable full, failed full, alone full"
    )
    assert said[1] == (
        "writes 5 % of the exchanges in which all answers match, unless a shadow took 2 times as long as live, "
        "and 100 % of those without a shadow; all others are written"
    )


async def test_requests_are_written_left_out_or_lost(proxy: StartProxy) -> None:
    same = always(answer(b"{}"))
    log = {"sample": {"match": 0.3, "slow": None}}
    async with proxy(same, {"s": same}, log=log, admin="127.0.0.1:0") as running, await running.caller() as caller:
        for _ in range(40):
            await caller.ask(b"GET / HTTP/1.1\r\nHost: h\r\n\r\n")
        assert running.sidecar.admin_address is not None
        host, port = running.sidecar.admin_address
        async with asyncio.timeout(5), httpx.AsyncClient(trust_env=False, base_url=f"http://{host}:{port}") as client:
            found: dict[str, Any] = {"written": 0, "sampled_out": 0}
            while found["written"] + found["sampled_out"] < 40:
                await running.sidecar.report()
                found = (await client.get("/shadows")).json()["journal"]
            text = (await client.get("/metrics")).text
            shown = (await client.get("/overview")).json()["journal"]
    assert found["written"] + found["sampled_out"] == 40
    assert 0 < found["sampled_out"] < 40
    assert not found["lost"]
    assert f"shadowproxy_records_sampled_out_total {found['sampled_out']}.0\n" in text
    assert shown["sampled_out"] == found["sampled_out"]
