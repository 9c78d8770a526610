"""`python callers.py KIND URL SESSIONS [AT_ONCE]`: callers with sessions, AT_ONCE (50) at a time.

Each sends its requests in order, with live's IDs in later ones. Prints, as JSON, the IDs that each was given, and each
exchange: the request ID, which ends in `-next` where the request carried such an ID, and the response as received.

Runs in the environment that ../state.txt describes.
"""

import asyncio
import json
import logging
import sys
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any

import httpx2
import mcp.client.session
from mcp.client import Client
from mcp.client.streamable_http import streamable_http_client
from received import pairs, text

PROTOCOL = "2025-06-18"


class Tee(httpx2.AsyncBaseTransport):
    """Names each request of one session and keeps each response, byte for byte as it came."""

    def __init__(self, kind: str, session: int, exchanges: list[dict[str, Any]]) -> None:
        self.ids: set[str] = set()
        self._name = f"{kind}-{session}"
        self._number = 0
        self._exchanges = exchanges
        self._inner = httpx2.AsyncHTTPTransport()

    async def handle_async_request(self, request: httpx2.Request) -> httpx2.Response:
        raw = b"\n".join((request.url.raw_path, *(value for _, value in request.headers.raw), await request.aread()))
        carried = any(each.encode() in raw for each in self.ids)
        request_id = f"{self._name}-{self._number}-{'next' if carried else 'first'}"
        self._number += 1
        request.headers["X-Request-ID"] = request_id
        response = await self._inner.handle_async_request(request)
        kept = {
            "id": request_id,
            "method": request.method,
            "status": response.status_code,
            "fields": pairs((name.lower(), value) for name, value in response.headers.raw),
            "body": bytearray(),
        }
        self._exchanges.append(kept)
        if given := response.headers.get("mcp-session-id"):
            self.ids.add(given)
        response.stream = Kept(response.stream, kept["body"])
        return response

    async def aclose(self) -> None:
        await self._inner.aclose()


class Kept(httpx2.AsyncByteStream):
    """A response's body that is kept as it is read."""

    def __init__(self, stream: Any, kept: bytearray) -> None:
        self._stream = stream
        self._kept = kept

    async def __aiter__(self) -> AsyncIterator[bytes]:
        async for piece in self._stream:
            self._kept.extend(piece)
            yield piece

    async def aclose(self) -> None:
        await self._stream.aclose()


Session = Callable[[httpx2.AsyncClient, Tee, int], Awaitable[None]]


def expect(response: httpx2.Response, status: int) -> Any:
    assert response.status_code == status, (response.request.url, response.status_code, response.text)
    return response.json() if response.content else None


async def items(client: httpx2.AsyncClient, tee: Tee, session: int) -> None:
    made = await client.post("/items", json={"name": f"item {session}"})
    item = expect(made, 201)["id"]
    tee.ids.add(item)
    assert made.headers["location"].endswith(item)
    expect(await client.get(made.headers["location"]), 200)
    expect(await client.patch(f"/items/{item}", json={"name": f"changed {session}"}), 200)
    part = expect(await client.post(f"/items/{item}/parts", json={"label": f"part {session}"}), 201)["id"]
    tee.ids.add(part)
    expect(await client.get(f"/items/{item}/parts/{part}"), 200)
    assert len(expect(await client.get("/parts", params={"item_id": item}), 200)) == 1
    order = {"item_ids": [item], "part": {"ref": part}}
    assert expect(await client.post("/orders", json=order), 200)["with"] == f"part {session}"
    expect(await client.delete(f"/items/{item}"), 204)
    expect(await client.get(f"/items/{item}"), 404)


async def responses(client: httpx2.AsyncClient, tee: Tee, session: int) -> None:
    before, streamed = None, session % 2 == 0
    for turn in range(4):
        asked = {"model": "stub", "input": f"{session} says {turn}"} | ({"stream": True} if streamed else {})
        answer = await client.post("/v1/responses", json=asked | ({"previous_response_id": before} if before else {}))
        assert answer.status_code == 200, answer.text
        if streamed:
            last = json.loads(answer.text.strip().splitlines()[-1].removeprefix("data: "))["response"]
        else:
            last = answer.json()
        assert last["output"][0]["content"][0]["text"].count("says") == turn + 1
        before = last["id"]
        tee.ids.update((before, last["output"][0]["id"]))


async def notes(client: httpx2.AsyncClient, tee: Tee, session: int) -> None:
    async def post(target: str, given: Any, status: int) -> Any:
        token = client.cookies["csrftoken"]
        answer = await client.post(target, json=given, headers={"X-CSRFToken": token})
        tee.ids.update(client.cookies.values())
        return expect(answer, status)

    expect(await client.get("/notes/login"), 200)
    tee.ids.update(client.cookies.values())
    await post("/notes/login", {"name": f"user {session}"}, 200)
    assert len(tee.ids) == 3, "a session and two tokens"
    first = (await post("/notes/", {"text": f"note {session}"}, 201))["id"]
    tee.ids.add(str(first))
    expect(await client.get(f"/notes/{first}"), 200)
    second = (await post("/notes/", {"text": f"second {session}", "parent": first}, 201))["id"]
    tee.ids.add(str(second))
    assert expect(await client.get("/notes/", params={"parent": first}), 200) == {"texts": [f"second {session}"]}
    expect(await client.get(f"/notes/{second}"), 200)


def memory(path: str) -> Session:
    async def ask(client: httpx2.AsyncClient, _: Tee, session: int) -> None:
        transport = streamable_http_client(str(client.base_url.join(path)), http_client=client)
        async with Client(transport, mode="legacy") as talk:
            assert talk.protocol_version == PROTOCOL
            assert len((await talk.list_tools()).tools) == 2
            for number in range(2):
                kept = await talk.call_tool("remember", {"what": f"{session}-{number}"})
                assert kept.content[0].text == f"{number + 1} remembered"
            assert (await talk.call_tool("recall", {})).content[0].text == f"{session}-0 {session}-1"

    return ask


async def queue(client: httpx2.AsyncClient, tee: Tee, session: int) -> None:
    for turn in range(3):
        name = ("scores", "rows")[turn % 2]
        asked = {"data": [[[float(session), float(turn), 3.0]]]}
        event = expect(await client.post(f"/gradio_api/call/{name}", json=asked), 200)["event_id"]
        tee.ids.add(event)
        answer = await client.get(f"/gradio_api/call/{name}/{event}")
        assert "event: complete" in answer.text, answer.text


KINDS: dict[str, Session] = {
    "items": items,
    "responses": responses,
    "notes": notes,
    "mcp_json": memory("mcp/json/"),
    "mcp_events": memory("mcp/events/"),
    "gradio": queue,
}


async def ask(kind: str, url: str, sessions: int, at_once: int) -> tuple[set[str], list[dict[str, Any]]]:
    exchanges: list[dict[str, Any]] = []
    ids: set[str] = set()
    slots = asyncio.Semaphore(at_once)

    async def one(session: int) -> None:
        async with slots:
            tee = Tee(kind, session, exchanges)
            async with httpx2.AsyncClient(transport=tee, base_url=url, timeout=60) as client:
                await KINDS[kind](client, tee, session)
            ids.update(tee.ids)

    async with asyncio.TaskGroup() as tasks:
        for session in range(sessions):
            tasks.create_task(one(session))
    return ids, exchanges


if __name__ == "__main__":
    logging.disable()
    mcp.client.session.LATEST_HANDSHAKE_VERSION = PROTOCOL
    kind, url, sessions = sys.argv[1], sys.argv[2], int(sys.argv[3])
    at_once = int(sys.argv[4]) if len(sys.argv) > 4 else 50
    ids, exchanges = asyncio.run(ask(kind, url, sessions, at_once))
    for each in exchanges:
        each["body"] = text(each["body"])
    print(json.dumps({"ids": sorted(ids), "exchanges": exchanges}))
