"""An answer that has reached its own end is whole, though its caller left before the response's last byte."""

import asyncio
import json
from pathlib import Path
from typing import Any

import pytest
from fakes import PATIENCE, Origin, Peer, Script, chunk_of, chunked
from program import Program

from shadowproxy.exchange import Outcome
from shadowproxy.record import Record
from shadowproxy.serve.live.end_marks import has_ended

EVENTS = b"text/event-stream; charset=utf-8"
LINES = b"application/x-ndjson"
LONG = b'"' + b"x" * 5000 + b'"'

ENDED = {
    "OpenAI": (EVENTS, b'data: {"choices":[]}\n\ndata: [DONE]\n\n'),
    "OpenAI, before the blank line": (EVENTS, b"data: [DONE]\n"),
    "lines end in CRLF": (EVENTS, b"data: x\r\n\r\ndata: [DONE]\r\n\r\n"),
    "lines end in CR": (EVENTS, b"data: x\r\rdata: [DONE]\r\r"),
    "no blank behind the colon": (EVENTS, b"data:[DONE]\n\n"),
    "comments behind it": (EVENTS, b"data: [DONE]\n\n: still here\n\n: still here\n\n"),
    "half a comment behind it": (EVENTS, b"data: [DONE]\n\n: sti"),
    "no type, as of LitServe": (b"", b"data: x\n\ndata: [DONE]\n\n"),
    "Anthropic": (EVENTS, b'event: message_stop\ndata: {"type":"message_stop"}\n\n'),
    "Anthropic without names": (EVENTS, b'data: {"type": "message_stop"}\n\n'),
    "an ID behind the data": (EVENTS, b'event: message_stop\ndata: {"type":"message_stop"}\nid: 7\n\n'),
    "Responses": (EVENTS, b'event: response.completed\ndata: {"response":{"a":%b}}\n\n' % LONG),
    "Responses without names": (EVENTS, b'data: {"type":"response.incomplete","response":{"a":%b}}\n\n' % LONG),
    "Responses, sorted": (EVENTS, b'data: {"response":{"a":%b},"type":"response.failed"}\n\n' % LONG),
    "gradio": (EVENTS, b"event: generating\ndata: [1]\n\nevent: complete\ndata: [1, 2]\n\n"),
    "gradio's queue": (EVENTS, b'data: {"msg":"process_completed","output":{"data":[1]},"success":true}\n\n'),
    "gradio's queue, closed": (
        EVENTS,
        b'data: {"msg":"process_completed","event_id":"5b1b","output":{"data":[1]},"success":true}\n\n'
        b'data: {"msg":"close_stream","event_id":null}\n\n',
    ),
    "an error event": (EVENTS, b'event: error\ndata: {"type":"error","error":{"message":"no"}}\n\n'),
    "gradio's error": (EVENTS, b"event: error\ndata: null\n\n"),
    "LiteLLM's error": (EVENTS, b'data: {"choices":[]}\n\ndata: {"error": {"message": "no", "code": "500"}}\n\n'),
    "vLLM's error": (EVENTS, b'data: {"object": "error", "message": "no"}\n\n'),
    "MCP": (EVENTS, b'event: message\ndata: {"jsonrpc":"2.0","id":4,"result":{"a":%b}}\n\n' % LONG),
    "MCP, the result first": (EVENTS, b'data: {"result":{"a":%b},"jsonrpc":"2.0","id":"x"}\n\n' % LONG),
    "MCP's error": (EVENTS, b'data: {"jsonrpc": "2.0", "id": 4, "error": {"code": -32602, "message": "no"}}\n\n'),
    "Ollama": (LINES, b'{"response":"a","done":false}\n{"response":"","done":true,"context":[1]}\n'),
    "Ollama, a blank line behind it": (LINES, b'{"response":"","done":true}\r\n\r\n'),
    "Ollama's error": (LINES, b'{"response":"a","done":false}\n{"error":"no"}\n'),
}  # fmt: skip

NOT_ENDED = {
    "nothing": (EVENTS, b""),
    "half a mark": (EVENTS, b"data: [DON"),
    "a mark whose line has not ended": (EVENTS, b"data: [DONE]"),
    "MCP's progress": (EVENTS, b'data: {"jsonrpc":"2.0","method":"notifications/progress","params":{"result":1}}\n\n'),
    "MCP's question": (EVENTS, b'data: {"jsonrpc":"2.0","id":4,"method":"sampling/createMessage","params":{}}\n\n'),
    "JSON-RPC within a text": (EVENTS, b'data: {"delta":"{\\"jsonrpc\\":\\"2.0\\",\\"id\\":1,\\"result\\":1}"}\n\n'),
    "another event behind it": (EVENTS, b"data: [DONE]\n\ndata: more\n\n"),
    "a text with the mark in it": (EVENTS, b'data: {"choices":[{"delta":{"content":"[DONE]"}}]}\n\n'),
    "a text with an event in it": (EVENTS, b'data: {"delta":"{\\"type\\":\\"message_stop\\"}"}\n\n'),
    "an error that is null": (EVENTS, b'data: {"error":null,"choices":[]}\n\n'),
    "errors that are empty": (EVENTS, b'data: {"error":"","text":"a"}\n\n'),
    "an empty object as the error": (EVENTS, b'data: {"error":{},"text":"a"}\n\n'),
    "an empty list of errors": (LINES, b'{"error": [ ], "text": "a"}\n'),
    "an error as a number": (EVENTS, b'data: {"error":0.5}\n\n'),
    "an error within": (EVENTS, b'data: {"choices":[],"x":{"error":{"a":1},"type":"error"}}\n\n'),
    "half an event": (EVENTS, b"event: message_sto"),
    "a name without its data": (EVENTS, b"data: x\n\nevent: message_stop\n"),
    "a name without data, of an event before": (EVENTS, b"event: complete\n\nevent: generating\ndata: 1\n\n"),
    "heartbeats alone": (EVENTS, b": hi\n\n" * 5000),
    "a line that is not the last": (LINES, b'{"response":"a","done":false}\n'),
    "a call that is done": (LINES, b'{"message":{"tool_calls":[{"arguments":{"done":true}}]},"done":false}\n'),
    "half a line": (LINES, b'{"response":"a","done":false}\n{"response":"","done":true'),
    "JSON": (b"application/json", b'{"done": true}\n'),
    "text": (b"text/plain", b"data: [DONE]\n\n"),
    "no type, and JSON": (b"", b'{"done": true}\n'),
}  # fmt: skip


@pytest.mark.parametrize("name", ENDED)
def test_the_end_is_seen(name: str) -> None:
    assert has_ended(*ENDED[name])


@pytest.mark.parametrize("name", NOT_ENDED)
def test_what_is_no_end_is_not_taken_for_one(name: str) -> None:
    assert not has_ended(*NOT_ENDED[name])


HEAD = b"HTTP/1.1 200 OK\r\nContent-Type: %b\r\nTransfer-Encoding: chunked\r\n\r\n"
ASKED = (
    b'POST /v1/chat/completions HTTP/1.1\r\nHost: a\r\nX-Request-ID: r-%d\r\nContent-Length: 15\r\n\r\n{"stream":true}'
)


def chat(words: str, at: int, *end: bytes) -> bytes:
    """Chunks of a chat, and their end."""
    events = []
    for piece in [*words, None]:
        delta = {} if piece is None else {"content": piece}
        choice = {"index": 0, "delta": delta, "finish_reason": "stop" if piece is None else None}
        whole = {"id": f"chatcmpl-{at}", "object": "chat.completion.chunk", "created": at, "choices": [choice]}
        events.append(b"data: %b\n\n" % json.dumps(whole).encode())
    return b"".join([*events, *end])


def lingering(body: bytes, kind: bytes = b"text/event-stream") -> Script:
    """Send all of a stream but the last chunk, and wait for the other side to leave."""

    async def script(peer: Peer) -> None:
        while await peer.request() is not None:
            await peer.send(HEAD % kind + chunk_of(body))
            await peer.wait_ended()
            return

    return script


async def leave_after(program: Program, asked: bytes, mark: bytes) -> None:
    """Read an answer up to a mark, and close the connection, as OpenAI's SDK for Python does."""
    async with await program.caller() as caller:
        await caller.send(asked)
        async with asyncio.timeout(PATIENCE):
            while mark not in caller.received:  # noqa: ASYNC110
                await asyncio.sleep(0.001)


async def recorded(tmp_path: Path, live: Script | bytes, shadow: Script | bytes, *leaving: bytes) -> list[Record]:
    """The records of requests whose callers leave after a mark; and what the program counts of them."""
    async with Origin(live) as lives, Origin(shadow) as shadows:
        values = {"live": {"url": lives.url}, "shadows": {"s": {"url": shadows.url}}}
        async with Program(tmp_path, values) as program:
            for at, mark in enumerate(leaving):
                await leave_after(program, ASKED % at, mark)
            assert await program.stop() == 0
            (stopped,) = program.told("stopped")
            assert (stopped["requests"], stopped["written"], stopped["lost"]) == (len(leaving), len(leaving), 0)
            return sorted(program.records(), key=lambda record: record.id)


async def test_a_caller_that_leaves_at_done_got_a_whole_answer_and_the_shadow_is_compared(tmp_path: Path) -> None:
    """14 of 60 such streams were `caller_left`, and not compared."""
    live = lingering(chat("Hello", 1, b"data: [DONE]\n\n"))
    shadow = chunked(chat("Hello", 2, b"data: [DONE]\n\n"), fields=((b"Content-Type", b"text/event-stream"),))
    records = await recorded(tmp_path, live, shadow, *[b"[DONE]\n\n"] * 14)
    assert [record.live.outcome for record in records] == [Outcome.OK] * 14
    assert [(record.live.caller_left, record.live.failed) for record in records] == [(True, None)] * 14
    verdicts = [record.shadows["s"].judgement for record in records]
    assert [(each.verdict, each.set_aside) for each in verdicts if each] == [("match", ("/id", "/created"))] * 14
    assert not any(record.shadows["s"].caller_left for record in records)


async def test_a_caller_that_leaves_before_the_end_left_early(tmp_path: Path) -> None:
    live = lingering(chat("Hello", 1))
    shadow = chunked(chat("Hello", 2, b"data: [DONE]\n\n"), fields=((b"Content-Type", b"text/event-stream"),))
    (record,) = await recorded(tmp_path, live, shadow, b'"finish_reason": "stop"')
    assert (record.live.outcome, record.live.caller_left) == (Outcome.CALLER_LEFT, False)
    assert record.shadows["s"].judgement is None
    assert record.shadows["s"].outcome is Outcome.OK


async def test_a_caller_that_leaves_at_an_error_got_a_failed_answer(tmp_path: Path) -> None:
    """OpenAI's SDK raises at LiteLLM's error, and closes: without its end that answer would be in no arm."""
    error = b'data: {"error": {"message": "out of memory", "type": "None", "code": "500"}}\n\n'
    whole = chunked(chat("Hello", 2, b"data: [DONE]\n\n"), fields=((b"Content-Type", b"text/event-stream"),))
    (record,) = await recorded(tmp_path, lingering(chat("Hel", 1, error)), whole, b'"500"')
    assert (record.live.outcome, record.live.caller_left) == (Outcome.OK, True)
    assert record.live.failed is not None
    assert "out of memory" in record.live.failed
    judgement = record.shadows["s"].judgement
    assert judgement is not None
    assert [(each.kind, each.live, each.shadow) for each in judgement.differences] == [
        ("failed", record.live.failed, None)
    ]


async def test_the_metrics_and_the_access_log_count_it_as_the_record_does(tmp_path: Path) -> None:
    live = lingering(chat("Hello", 1, b"data: [DONE]\n\n"))
    async with Origin(live) as lives:
        values: dict[str, Any] = {"live": {"url": lives.url}, "admin": "127.0.0.1:0"}
        async with Program(tmp_path, values, "--access-log") as program:
            await leave_after(program, ASKED % 1, b"[DONE]\n\n")
            await program.wait_said('"event":"access"')
            assert await program.stop() == 0
            (line,) = program.told("access")
            assert line["outcome"] == "ok"
        (record,) = program.records()
        assert record.live.outcome is Outcome.OK
