"""What is exported is what docs/reference/metrics.md tells of, and it adds up."""

import asyncio
import itertools
import json
import re
from pathlib import Path

import httpx
from conftest import Proxy, StartProxy
from fakes import Script, always, answer, each
from prometheus_client.parser import text_string_to_metric_families

from shadowproxy.serve.upload.job import Job

GET = b"GET / HTTP/1.1\r\nHost: h\r\n\r\n"
DOCUMENT = (Path(__file__).parent.parent / "docs" / "reference" / "metrics.md").read_text()
ROW = re.compile(r"^\| `(shadowproxy_\w+)` \| (\w+) \| ([^|]*)\|", re.MULTILINE)


def samples(text: str) -> dict[tuple[str, tuple[str, ...]], float]:
    """Every sample by its name and its labels' values, in the order of the labels' names."""
    families = text_string_to_metric_families(text)
    return {
        (sample.name, tuple(value for _, value in sorted(sample.labels.items()))): sample.value
        for family in families
        for sample in family.samples
    }


async def scrape(running: Proxy, written: int) -> str:
    """The metrics once `written` records are in the log."""
    assert running.sidecar.admin_address is not None
    host, port = running.sidecar.admin_address
    async with asyncio.timeout(5), httpx.AsyncClient(trust_env=False, base_url=f"http://{host}:{port}") as client:
        text = ""
        while f"shadowproxy_records_written_total {written}.0\n" not in text:
            await running.sidecar.report()
            text = (await client.get("/metrics")).text
        return text


async def test_the_document_lists_every_metric_and_no_other(proxy: StartProxy) -> None:
    options = {"budget": {"tokens": 9}, "state": "auto", "percent": {"from": 1, "over": "1h"}}
    async with proxy(shadows={"a": always(answer(b"{}"))}, shadow_options=options, admin="127.0.0.1:0") as running:
        running.sidecar.recorder.uploads._job = Job("nowhere", "s3://bucket/")  # without the thread that would send
        await running.ask(GET)
        text = await scrape(running, written=1)
    exported = {}
    for family in text_string_to_metric_families(text):
        name = f"{family.name}_total" if family.type == "counter" else family.name
        labels = {label for sample in family.samples for label in sample.labels} - {"le"}
        exported[name] = (family.type, labels)
    told = {name: (kind, set(re.findall(r"`(\w+)`", labels))) for name, kind, labels in ROW.findall(DOCUMENT)}
    assert told == exported


async def test_the_books_balance(proxy: StartProxy) -> None:
    shadows = {"good": always(answer(b"{}")), "bad": always(b"nonsense\r\n\r\n")}
    async with proxy(shadows=shadows, admin="127.0.0.1:0") as running, await running.caller() as caller:
        for _ in range(5):
            await caller.ask(GET)
        found = samples(await scrape(running, written=5))
    assert found["shadowproxy_requests_total", ("ok",)] == found["shadowproxy_records_written_total", ()] == 5
    for name, outcome in (("good", "ok"), ("bad", "protocol_error")):
        assert found["shadowproxy_shadow_chosen_total", (name,)] == 5
        assert found["shadowproxy_shadow_outcomes_total", (outcome, name)] == 5
        settled = [
            value for (metric, labels), value in found.items() if metric.endswith("outcomes_total") and name in labels
        ]
        assert sum(settled) == 5
        assert found["shadowproxy_shadow_duration_seconds_count", (name,)] == 5
    assert sum(value for (metric, _), value in found.items() if metric == "shadowproxy_records_lost_total") == 0
    assert found["shadowproxy_live_duration_seconds_count", ("true",)] == 5
    assert found["shadowproxy_memory_bytes", ()] == 0


def chat_stream(id: str, *words: str, last: str = "data: [DONE]\n\n") -> bytes:
    """A chat's stream as OpenAI sends it: each of its chunks has the ID of this one call."""
    chunks = [
        {"id": id, "object": "chat.completion.chunk", "created": len(id), "model": "m", "choices": [choice]}
        for choice in (
            *({"index": 0, "delta": {"content": word}, "finish_reason": None} for word in words),
            {"index": 0, "delta": {}, "finish_reason": "stop"},
        )
    ]
    return "".join(f"data: {json.dumps(chunk)}\n\n" for chunk in chunks).encode() + last.encode()


def streams(*bodies: bytes) -> Script:
    """A server that answers four requests with these streams in turn."""
    answers = [answer(body, (b"Content-Type", b"text/event-stream")) for body in bodies]
    return each(*itertools.islice(itertools.cycle(answers), 4))


async def test_streams_of_equal_words_agree_and_those_that_fail_are_counted(proxy: StartProxy) -> None:
    error = 'data: {"error": {"message": "out of memory"}}\n\n'
    live = always(answer(chat_stream("a", "Hello ", "you"), (b"Content-Type", b"text/event-stream")))
    shadows = {
        "same": streams(chat_stream("bb", "Hello", " you"), chat_stream("ccc", "Hello you")),
        "other": streams(chat_stream("d", "Hello ", "me")),
        "broken": streams(chat_stream("e", "Hel", last=error), chat_stream("f", "Hello you")),
    }
    async with proxy(live, shadows, admin="127.0.0.1:0", control={"percent": 100}) as running:
        async with await running.caller() as caller:
            for _ in range(4):
                await caller.ask(GET)
        found = samples(await scrape(running, written=4))
        verdicts = {
            labels: count
            for (metric, labels), count in found.items()
            if metric == "shadowproxy_verdicts_total" and count
        }
        assert verdicts == {
            ("same", "match"): 4,
            ("control", "match"): 4,
            ("other", "mismatch"): 4,
            ("broken", "mismatch"): 2,
            ("broken", "match"): 2,
        }
        failed = {
            labels: count for (metric, labels), count in found.items() if metric == "shadowproxy_answers_failed_total"
        }
        assert failed == {("live",): 0, ("same",): 0, ("other",): 0, ("control",): 0, ("broken",): 2}
        assert running.sidecar.admin_address is not None
        host, port = running.sidecar.admin_address
        async with httpx.AsyncClient(trust_env=False, base_url=f"http://{host}:{port}") as client:
            overview = (await client.get("/overview")).json()
            states = (await client.get("/shadows")).json()["shadows"]
        assert {shadow["name"]: shadow["answers_failed"] for shadow in overview["shadows"]} == {
            "same": 0,
            "other": 0,
            "broken": 2,
        }
        assert (overview["live"]["answers_failed"], states["broken"]["answers_failed"]) == (0, 2)


async def test_failed_answers_of_live_are_counted_too(proxy: StartProxy) -> None:
    error = 'data: {"error": {"message": "out of memory"}}\n\n'
    live = streams(chat_stream("a", "Hel", last=error))
    async with proxy(live, {"a": always(answer(b'{"error":"boom"}'))}, admin="127.0.0.1:0") as running:
        async with await running.caller() as caller:
            for _ in range(3):
                await caller.ask(GET)
        found = samples(await scrape(running, written=3))
    assert found["shadowproxy_answers_failed_total", ("live",)] == 3
    assert found["shadowproxy_answers_failed_total", ("a",)] == 3
