"""What the wire is asked: httpx's request, with the bytes that a proxy may not let it change."""

from collections.abc import AsyncIterable
from typing import cast

import httpx

from shadowproxy.exchange import Fields


class WireRequest(httpx.Request):
    """A request that costs little to make, and says what httpx's own cannot: the target's and the fields' raw bytes.

    `body` is whole, or comes as it is sent; `fields` say how it is framed. `silence` is in seconds. `fresh` asks for
    a new connection.
    """

    def __init__(
        self,
        method: str,
        target: bytes,
        fields: Fields,
        body: bytes | AsyncIterable[bytes],
        *,
        silence: float,
        fresh: bool = False,
    ) -> None:
        self.method = method
        self.target = target
        self.fields = fields
        self.body = body
        self.silence = silence
        self.fresh = fresh

    @classmethod
    def of(cls, request: httpx.Request) -> "WireRequest":
        """Any other httpx request, with what httpx put into it."""
        timeouts: dict[str, float | None] = request.extensions.get("timeout", {})
        return cls(
            request.method,
            request.extensions.get("target", request.url.raw_path),
            tuple(request.headers.raw),
            cast(httpx.AsyncByteStream, request.stream),
            silence=timeouts.get("read") or 60.0,
        )
