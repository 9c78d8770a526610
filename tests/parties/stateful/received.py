"""Logs what a server gets and sends, byte for byte: one line of JSON for each request, once it is answered.

Used by every server here, in its own environment: the standard library only.
"""

import asyncio
import json
import random
from pathlib import Path
from typing import Any


class Logged:
    """An ASGI application around another. The log is its own: what it does not hold, the server did not get.

    `delay` is in seconds: each answer waits for a random time up to it, so that callers who got live's answer come back
    before this one is out.
    """

    def __init__(self, app: Any, log: Path, delay: float = 0.0) -> None:
        self._app = app
        self._log = log.open("w", buffering=1, encoding="ascii")
        self._delay = delay

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        got, sent = bytearray(), bytearray()
        head: dict[str, Any] = {}

        async def log_received() -> Any:
            event = await receive()
            got.extend(event.get("body", b""))
            return event

        async def log_sent(event: Any) -> None:
            if event["type"] == "http.response.start":
                head.update(status=event["status"], fields=event["headers"])
                if self._delay:
                    await asyncio.sleep(random.uniform(0, self._delay))
            elif event["type"] == "http.response.body":
                sent.extend(event.get("body", b""))
            await send(event)

        try:
            await self._app(scope, log_received, log_sent)
        finally:
            query = b"?" + scope["query_string"] if scope["query_string"] else b""
            line = {
                "id": dict(scope["headers"]).get(b"x-request-id", b"").decode(),
                "method": scope["method"],
                "target": text(scope["raw_path"] + query),
                "fields": pairs(scope["headers"]),
                "body": text(got),
                "status": head.get("status"),
                "answer_fields": pairs(head.get("fields", ())),
                "answer": text(sent),
            }
            print(json.dumps(line), file=self._log)


def text(raw: bytes | bytearray) -> str:
    return raw.decode("latin-1")


def pairs(fields: Any) -> list[tuple[str, str]]:
    return [(text(name), text(value)) for name, value in fields]
