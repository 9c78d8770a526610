"""Clients that ask for the latest records and the metrics again and again: each answer is whole, and costs little."""

import asyncio
import json
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from conftest import StartProxy
from fakes import Caller, Origin, always, answer
from program import Program
from test_admin import ADMIN, client, wait_written
from test_unusable import admin_of

from shadowproxy.serve.admin import app, metrics
from shadowproxy.serve.sidecar.recorder import RecorderSide

GET = b"GET / HTTP/1.1\r\nHost: h\r\n\r\n"
JSON = (b"Content-Type", b"application/json")


async def sent(lines: Sequence[bytes]) -> list[dict[str, Any]]:
    """What the response of these lines sends."""
    messages: list[dict[str, Any]] = []

    async def send(message: Any) -> None:
        messages.append(message)

    async def receive() -> Any:
        raise AssertionError("it needs nothing from the client")

    await app.Records(lines)({"type": "http"}, receive, send)
    return messages


@pytest.mark.parametrize("lengths", [[], [2], [10, 300_000, 10], [700] * 500, [100_000] * 80])
async def test_records_are_sent_whole_and_piece_by_piece(lengths: list[int]) -> None:
    lines = [b"%d" % (number % 10) * length + b"\n" for number, length in enumerate(lengths)]
    start, *bodies = await sent(lines)
    whole = b"".join(each["body"] for each in bodies)
    assert whole == b'{"exchanges":[' + b",".join(line[:-1] for line in lines) + b"]}"
    assert dict(start["headers"])[b"content-length"] == b"%d" % len(whole)
    assert [each.get("more_body", False) for each in bodies] == [*[True] * (len(bodies) - 1), False]
    assert max(len(each["body"]) for each in bodies) < app.PIECE + max(lengths, default=0) + 500
    assert len(bodies) <= 1 + len(whole) // app.PIECE


async def test_metrics_are_written_anew_only_where_the_figures_have_changed(
    proxy: StartProxy, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with proxy(**ADMIN) as running, client(running) as admin:
        census = running.sidecar.census()
        now = 1
        written: list[object] = []

        def text(of: Any) -> bytes:
            written.append(of)
            return metrics.text(of)

        monkeypatch.setattr(app, "text", text)
        monkeypatch.setattr(RecorderSide, "census", lambda _: replace(census, in_flight=now))
        first = (await admin.get("/metrics")).text
        assert (await admin.get("/metrics")).text == first
        assert len(written) == 1
        now = 2
        assert "shadowproxy_requests_in_flight 2.0" in (await admin.get("/metrics")).text
        assert len(written) == 2


async def test_a_head_request_for_records_has_their_length_and_none_of_them(proxy: StartProxy) -> None:
    shadows = {"a": always(answer(b'{"a": 1}', JSON))}
    async with proxy(always(answer(b'{"a": 2}', JSON)), shadows, **ADMIN) as running, client(running) as admin:
        for _ in range(3):
            await running.ask(GET)
        await wait_written(admin, 3)
        whole = await admin.get("/exchanges?limit=500")
        assert len(whole.json()["exchanges"]) == 3
        head = await admin.head("/exchanges?limit=500")
        assert (head.content, head.headers["content-length"]) == (b"", str(len(whole.content)))


@pytest.mark.slow
async def test_four_pollers_get_whole_answers_and_callers_theirs(tmp_path: Path) -> None:
    body = json.dumps({"text": "x" * 4000}).encode()
    async with Origin(always(answer(body, JSON))) as live, Origin(always(answer(b'{"text": "y"}', JSON))) as shadow:
        values = {"admin": "127.0.0.1:0", "live": {"url": live.url}, "shadows": {"s": {"url": shadow.url}}}
        async with Program(tmp_path, values) as program:
            admin = admin_of(program)
            polls, most, ended = 0, 0, asyncio.Event()

            async def poll(path: bytes) -> None:
                nonlocal polls, most
                async with await Caller.to(admin) as caller:
                    while not ended.is_set():
                        reply = await caller.ask(b"GET " + path + b" HTTP/1.1\r\nHost: localhost\r\n\r\n")
                        assert reply.status == 200
                        if b"exchanges" in path:
                            got = [each["live"]["body"]["text"] for each in json.loads(reply.body)["exchanges"]]
                            assert {len(each) for each in got} <= {4000}
                            most = max(most, len(got))
                        polls += 1

            async def call() -> None:
                async with await program.caller() as caller:
                    for _ in range(150):
                        assert (await caller.ask(GET)).body == body

            async with asyncio.TaskGroup() as pollers:
                for path in (b"/exchanges?limit=500", b"/metrics") * 2:
                    pollers.create_task(poll(path))
                async with asyncio.TaskGroup() as callers:
                    for _ in range(4):
                        callers.create_task(call())
                ended.set()
            assert polls >= 4
            assert most > 0
            assert await program.stop() == 0
            assert len(program.records()) == 600
