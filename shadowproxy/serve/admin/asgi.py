"""A caller's call as an ASGI application sees it. The admin server is such an application; the live path is not."""

from collections.abc import Awaitable, Callable, MutableMapping
from typing import Any, TypeAlias
from urllib.parse import unquote_to_bytes

from shadowproxy.serve.callers.call import Call

Message: TypeAlias = MutableMapping[str, Any]
App: TypeAlias = Callable[
    [Message, Callable[[], Awaitable[Message]], Callable[[Message], Awaitable[None]]], Awaitable[None]
]

_ASGI = {"version": "3.0", "spec_version": "2.3"}


class Asgi:
    """An ASGI application, as one that answers calls."""

    def __init__(self, app: App) -> None:
        self._app = app

    async def answer(self, call: Call) -> None:
        channel = _Channel(call)
        await self._app(_scope(call), channel.receive, channel.send)


class _Channel:
    """ASGI's `receive` and `send`, of one call."""

    def __init__(self, call: Call) -> None:
        self._call = call

    async def receive(self) -> Message:
        """Raises FramingError when the body is malformed or late."""
        body = await self._call.read()
        return {"type": "http.request", "body": body, "more_body": not self._call.complete}

    async def send(self, message: Message) -> None:
        if message["type"] == "http.response.start":
            self._call.start(message["status"], list(message["headers"]))
        elif message["type"] == "http.response.body":
            self._call.write(message.get("body", b""), last=not message.get("more_body", False))
        if not self._call.answered:
            await self._call.wait_writable()


def _scope(call: Call) -> Message:
    head = call.head
    raw_path, _, query = head.target.partition(b"?")
    path = (unquote_to_bytes(raw_path) if b"%" in raw_path else raw_path).decode("utf-8", "replace")
    return {
        "type": "http",
        "asgi": _ASGI,
        "http_version": "1.0" if head.http10 else "1.1",
        "server": call.server,
        "client": call.client,
        "scheme": "http",
        "method": head.method,
        "root_path": "",
        "path": path,
        "raw_path": raw_path,
        "query_string": query,
        "headers": [(name.lower(), value) for name, value in head.fields],
        "state": {},
        "extensions": {},
    }
