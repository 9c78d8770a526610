"""What an answer took of a budget of tokens or cost: found in its bytes, and counted over the wire."""

import asyncio
import gzip
import json
import random
from typing import Any

import httpx
import pytest
from conftest import StartProxy
from fakes import Origin, answer, chunked

from shadowproxy.exchange import Fields, Outcome
from shadowproxy.serve.policy.spending import WINDOW, spent_by
from shadowproxy.usage import NOTHING, Usage

JSON = (b"Content-Type", b"application/json")
EVENTS = (b"Content-Type", b"text/event-stream")
ASK = b"POST /v1/chat/completions HTTP/1.1\r\nHost: h\r\nContent-Length: 2\r\n\r\n{}"


def of(body: Any, *fields: tuple[bytes, bytes]) -> Usage:
    raw = body if isinstance(body, bytes) else json.dumps(body).encode()
    return spent_by(fields or (JSON,), raw)


def stream(*events: Any) -> bytes:
    return b"".join(
        b"data: %s\n\n" % (each if isinstance(each, bytes) else json.dumps(each).encode()) for each in events
    )


OPENAI = {"prompt_tokens": 40, "completion_tokens": 7, "total_tokens": 47}
CHUNK = {"choices": [{"delta": {"content": "word " * 20}}], "usage": None}
START = {
    "type": "message_start",
    "message": {"type": "message", "usage": {"input_tokens": 5, "cache_read_input_tokens": 300, "output_tokens": 1}},
}
PIECE = {"type": "content_block_delta", "delta": {"type": "text_delta", "text": "word " * 20}}
LAST = {"type": "message_delta", "delta": {"stop_reason": "end_turn"}, "usage": {"output_tokens": 7}}


@pytest.mark.parametrize(
    ("found", "expected"),
    [
        (of({"choices": [], "usage": OPENAI}), Usage(40, 7)),
        (of({"choices": [{"message": {"content": "x" * 100_000}}], "usage": OPENAI, "system_fingerprint": "f"}),
         Usage(40, 7)),
        (of({"choices": [], "usage": {**OPENAI, "cost": 0.25}}), Usage(40, 7, None, 0.25)),
        (of({"object": "list", "data": [{"embedding": [0.123] * 30_000}], "usage": {"prompt_tokens": 8}}), Usage(8)),
        (of(stream(*[CHUNK] * 500, {"choices": [], "usage": OPENAI}, b"[DONE]"), EVENTS), Usage(40, 7)),
        (of(stream(START, *[PIECE] * 500, LAST, {"type": "message_stop"}), EVENTS), Usage(305, 7, 300)),
        (of(stream(START, PIECE), EVENTS), Usage(305, 1, 300)),  # it broke off
        # each event has the usage so far: the last counts
        (of(stream(*({"usage": {"prompt_tokens": 9, "completion_tokens": n}} for n in range(900))), EVENTS),
         Usage(9, 899)),
        (of({"type": "response.completed", "response": {"usage": {"input_tokens": 3, "output_tokens": 2}}}),
         Usage(3, 2)),
        (of({"candidates": [], "usageMetadata": {"promptTokenCount": 2, "candidatesTokenCount": 3}}), Usage(2, 3)),
        (of(b'{"response": "a", "done": false}\n{"done": true, "prompt_eval_count": 26, "eval_count": 9}\n'),
         Usage(26, 9)),
        (of(gzip.compress(json.dumps({"usage": OPENAI}).encode()), JSON, (b"Content-Encoding", b"gzip")), Usage(40, 7)),
        (of(gzip.compress(random.Random(1).randbytes(80_000)), JSON, (b"Content-Encoding", b"gzip")), NOTHING),
        (of(b"\x00" * 40, JSON, (b"Content-Encoding", b"gzip")), NOTHING),
        (of(b"\x00" * 40, JSON, (b"Content-Encoding", b"morse")), NOTHING),
        # a model that writes about usage
        (of({"choices": [{"message": {"content": '{"usage": {"prompt_tokens": 999}}'}}]}), NOTHING),
        (of({"predictions": [1, 2]}), NOTHING),
        (of(b""), NOTHING),
        (of(b'{"usage": {"prompt_tokens": 4'), NOTHING),
        (of(b'{"usage": {"prompt_tokens": "4"}}'), NOTHING),
        (of(b'{"usage": {"a": ' * 2000), NOTHING),
        (of(b'"usage": {' * 100_000), NOTHING),
        (of(b'{"usage": {"prompt_tokens": %s}}' % (b"9" * 5000)), NOTHING),
        (of(b"\xff\xfe" * 30_000), NOTHING),
        (of(b"plain", (b"X-LiteLLM-Response-Cost", b"0.5")), Usage(cost=0.5)),
        (of({"usage": OPENAI}, JSON, (b"x-litellm-response-cost", b"0.5")), Usage(40, 7, None, 0.5)),
        (of(stream(CHUNK), EVENTS, (b"x-litellm-response-cost", b"0.5")), NOTHING),
    ],
)  # fmt: skip
def test_what_an_answer_took_is_found_in_its_bytes(found: Usage, expected: Usage) -> None:
    assert found == expected


@pytest.mark.parametrize("seed", range(200))
def test_no_bytes_make_it_fail(seed: int) -> None:
    source = random.Random(seed)
    raw = bytearray(stream(START, *[PIECE] * source.randrange(400), LAST, {"usage": OPENAI}))
    for _ in range(source.randrange(1, 60)):
        at = source.randrange(len(raw))
        raw[at : at + source.randrange(4)] = source.choice([b"", b"{", b'"usage": {', b"\xff", b"\x00", b'"'])
    fields: Fields = (EVENTS, (b"Content-Encoding", source.choice([b"", b"gzip", b"br", b"deflate, gzip"])))
    spent_by(fields, bytes(raw))


def test_no_more_of_an_answer_is_searched_than_its_ends() -> None:
    pad = b"x" * (WINDOW + 10)
    assert of(pad + json.dumps({"usage": OPENAI}).encode() + pad) == NOTHING


def completion(tokens_in: int, tokens_out: int, **more: Any) -> bytes:
    body = {"choices": [], "usage": {"prompt_tokens": tokens_in, "completion_tokens": tokens_out, **more}}
    return answer(json.dumps(body).encode(), JSON)


async def ask(running: Any, count: int) -> None:
    """One after the other: the next is asked when the one before is settled, and so counted."""
    for _ in range(count):
        assert (await running.ask(ASK)).status == 200
        async with asyncio.timeout(5):
            while running.sidecar.mirror.unsettled:  # noqa: ASYNC110
                await asyncio.sleep(0.001)


@pytest.mark.parametrize(
    ("budget", "raw"),
    [
        ({"tokens": 100}, completion(30, 10)),
        ({"tokens": 41, "requests": 3}, completion(30, 10, cost=9)),  # the first part that is used up decides
        ({"cost": 0.75}, completion(30, 10, cost=0.25)),
        ({"cost": 1, "tokens": 120}, completion(30, 10, cost=0.01)),
        ({"tokens": 100}, chunked(stream(CHUNK), stream(CHUNK, {"choices": [], "usage": {"prompt_tokens": 30,
          "completion_tokens": 10}}, b"[DONE]"), fields=(EVENTS,))),
    ],
)  # fmt: skip
async def test_a_shadow_gets_nothing_more_when_its_answers_have_used_the_budget(
    proxy: StartProxy, budget: dict[str, Any], raw: bytes
) -> None:
    expected = 2 if budget.get("tokens") == 41 else 3
    async with (
        Origin(raw) as shadow,
        proxy(completion(1, 1), {"a": shadow}, shadow_options={"budget": budget}) as running,
    ):
        await ask(running, 5)
        outcomes = [each.shadows["a"].outcome for each in await running.records()]
        assert len(shadow.requests) == expected
    assert outcomes == [Outcome.OK] * expected + [Outcome.BUDGET_SPENT] * (5 - expected)


async def test_what_the_answers_took_is_in_metrics_and_overview(proxy: StartProxy) -> None:
    options = {"budget": {"tokens": 100, "cost": 2}}
    raw = completion(30, 10, cost=0.5)
    async with proxy(completion(1, 1), {"a": raw}, shadow_options=options, admin="127.0.0.1:0") as running:
        await ask(running, 2)
        await running.sidecar.report()
        assert running.sidecar.admin_address is not None
        host, port = running.sidecar.admin_address
        async with httpx.AsyncClient(trust_env=False, base_url=f"http://{host}:{port}") as admin:
            text = (await admin.get("/metrics")).text
            overview = (await admin.get("/overview")).json()
        for line in (
            'shadowproxy_shadow_budget_used{of="tokens",shadow="a"} 80.0',
            'shadowproxy_shadow_budget_allowed{of="tokens",shadow="a"} 100.0',
            'shadowproxy_shadow_budget_used{of="cost",shadow="a"} 1.0',
            'shadowproxy_shadow_budget_allowed{of="cost",shadow="a"} 2.0',
        ):
            assert line in text.splitlines()
        assert overview["shadows"][0]["budget"] == {
            "requests": None,
            "tokens": {"used": 80, "allowed": 100},
            "cost": {"used": 1.0, "allowed": 2.0},
            "seconds_left": None,
        }


async def test_answers_that_do_not_say_what_they_took_are_not_counted_and_that_is_logged_once(
    proxy: StartProxy, caplog: pytest.LogCaptureFixture
) -> None:
    silent = answer(b'{"choices": []}', JSON)
    async with (
        Origin(silent) as shadow,
        proxy(completion(1, 1), {"a": shadow}, shadow_options={"budget": {"tokens": 1}}) as running,
    ):
        await ask(running, 3)
        assert len(shadow.requests) == 3
    said = [each for each in caplog.records if getattr(each, "event", "") == "usage_unknown"]
    assert len(said) == 1
    assert "shadows.a.budget (tokens) counts only answers that do" in said[0].getMessage()


async def test_without_such_a_budget_no_answer_is_searched(proxy: StartProxy, caplog: pytest.LogCaptureFixture) -> None:
    options = {"budget": {"requests": 5}}
    async with proxy(completion(1, 1), {"a": completion(30, 10)}, shadow_options=options) as running:
        await ask(running, 2)
        assert running.sidecar.mirror.lanes[0].statistics().tokens == 0
