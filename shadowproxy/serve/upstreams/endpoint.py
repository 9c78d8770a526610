"""One endpoint, live or a shadow: its address, what is sent to it, and how that ends, as one of the outcomes.

`_FAULTS` maps each transport error to its outcome. Outside of this room only `UpstreamError` is seen.
"""

import asyncio
import ssl
from collections.abc import AsyncIterable, Callable, Iterable, Mapping
from dataclasses import dataclass
from types import TracebackType
from typing import Self
from urllib.parse import urlsplit

from shadowproxy.exchange import Field, Fields, Outcome
from shadowproxy.serve.http1.framing import ResponseHead
from shadowproxy.serve.http1.section import Section
from shadowproxy.serve.policy.edits import Edits
from shadowproxy.serve.policy.query import QueryEdits
from shadowproxy.serve.upstreams.errors import (
    ClosedWhileIdle,
    ConnectError,
    ConnectTimeout,
    NameFailed,
    NoRoom,
    ProtocolError,
    ReadError,
    ReadTimeout,
    TLSError,
)
from shadowproxy.serve.upstreams.pool import Pool, Statistics
from shadowproxy.serve.upstreams.request import OutgoingRequest
from shadowproxy.serve.upstreams.response import ResponseStream
from shadowproxy.serve.upstreams.roundtrip import RoundTrip
from shadowproxy.serve.upstreams.through import CREDENTIALS, ForwardProxy


class UpstreamError(Exception):
    """The endpoint sent no whole response. `proxy_error` is the name that RFC 9209 section 2.3 gives to the error."""

    def __init__(self, outcome: Outcome, error: str, *, proxy_error: str) -> None:
        super().__init__(error)
        self.outcome = outcome
        self.proxy_error = proxy_error


@dataclass(frozen=True, slots=True)
class _Fault:
    outcome: Outcome
    proxy_error: str


_FAULTS: dict[type[Exception], _Fault] = {
    ConnectError: _Fault(Outcome.CONNECT_ERROR, "connection_refused"),
    NameFailed: _Fault(Outcome.CONNECT_ERROR, "dns_error"),
    ConnectTimeout: _Fault(Outcome.CONNECT_ERROR, "connection_timeout"),
    NoRoom: _Fault(Outcome.OVERLOAD, "connection_limit_reached"),
    TLSError: _Fault(Outcome.TLS_ERROR, "tls_protocol_error"),
    ReadError: _Fault(Outcome.INCOMPLETE, "http_response_incomplete"),
    ClosedWhileIdle: _Fault(Outcome.INCOMPLETE, "http_response_incomplete"),
    ReadTimeout: _Fault(Outcome.TIMEOUT, "http_response_timeout"),
    ProtocolError: _Fault(Outcome.PROTOCOL_ERROR, "http_protocol_error"),
}


def as_upstream_error(error: Exception) -> UpstreamError | None:
    """The outcome of a transport error, in the words of the log; None for any other error."""
    fault = _FAULTS.get(type(error))
    if fault is None:
        return None
    words = str(error).splitlines() or [type(error).__name__]
    return UpstreamError(fault.outcome, words[0], proxy_error=fault.proxy_error)


class Endpoint:
    """Owns its connections, until `aclose`. `silence`, `connect_timeout`, `max_age` and `pace` are seconds.

    `host` is the Host field's value: "upstream" for the URL's own, "preserve" for the caller's, or any other literal.
    `query` changes the parameters of every request's target. `proxy` is the HTTP proxy to go through.
    """

    def __init__(
        self,
        url: str,
        *,
        tls: ssl.SSLContext | None = None,
        proxy: ForwardProxy | None = None,
        connect_timeout: float = 5.0,
        max_age: float | None = None,
        silence: float = 60.0,
        host: str = "upstream",
        removed: frozenset[bytes] = frozenset(),
        put: Fields = (),
        query: QueryEdits | None = None,
        retry: bool = False,
        pace: float = 0.0,
    ) -> None:
        parts = urlsplit(url)
        secure = parts.scheme == "https"
        self.url = url
        self._base = parts.path.rstrip("/").encode()
        self._origin = b""  # before every target that goes to a proxy
        if proxy is not None and not secure:
            self._origin = b"http://" + parts.netloc.encode()
            removed |= {CREDENTIALS.lower()}  # the caller's are for another proxy
            if proxy.authorization is not None:
                removed -= {CREDENTIALS.lower()}
                put = (*put, (CREDENTIALS, proxy.authorization))
        self._silence = silence
        self._retry = retry
        own_host = parts.netloc.rpartition("@")[2].removesuffix(":443" if secure else ":80")
        literal = {"upstream": own_host.encode(), "preserve": None}.get(host, host.encode())
        self._edits = Edits(host=literal, own_host=own_host.encode(), removed=removed, put=put)
        self._query = query or QueryEdits()
        context = (tls or ssl.create_default_context()) if secure else None
        port = parts.port or (443 if secure else 80)
        self._pool = Pool(
            parts.hostname or "",
            port,
            tls=context,
            proxy=proxy,
            connect_timeout=connect_timeout,
            max_age=max_age,
            pace=pace,
        )

    def __repr__(self) -> str:
        return f"<Endpoint {self.url} {self._pool.statistics()}>"

    def statistics(self) -> Statistics:
        return self._pool.statistics()

    def limit(self, most: int | None) -> None:
        """Have no more than `most` connections at once; None for any number. A request beyond is not sent."""
        self._pool.most = most

    def take_over(self, before: "Endpoint") -> None:
        """Begin with what `before` knows of the addresses of the name, if it is the same: its server may fail now."""
        self._pool.take_over(before._pool)

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, value: BaseException | None, traceback: TracebackType | None
    ) -> None:
        await self.aclose()

    async def aclose(self) -> None:
        await self._pool.aclose()

    async def request(
        self,
        method: str,
        target: bytes,
        fields: Iterable[Field],
        body: bytes | AsyncIterable[bytes],
        section: Section | None = None,
    ) -> "UpstreamResponse":
        """Send a request and return when the head of the response is there. `fields` follow those of `section`.

        Raises UpstreamError, and whatever `body` itself raises.
        """
        response = self.start_request(method, target, fields, body, section)
        await response.wait_head()
        return response

    def start_request(
        self,
        method: str,
        target: bytes,
        fields: Iterable[Field],
        body: bytes | AsyncIterable[bytes],
        section: Section | None = None,
    ) -> "UpstreamResponse":
        """Send a request. Call `wait_head` of what is returned, then read it or abandon it."""
        response = UpstreamResponse(self._pool.loop)
        self.send(response, method, target, fields, body, section)
        return response

    def send(
        self,
        round_trip: RoundTrip,
        method: str,
        target: bytes,
        fields: Iterable[Field],
        body: bytes | AsyncIterable[bytes],
        section: Section | None = None,
        trailers: Callable[[], Fields] | None = None,
        upgrade: bytes = b"",
    ) -> None:
        """Send a request. `round_trip` receives the response or a failure. `fields` follow those of `section`.

        With `retry`, a body that is held whole is sent once more if the connection had been closed before (retry.py).
        `trailers` is called at the end of a chunked body. With `upgrade`, a protocol in lower case, the response may be
        a 101 that changes to it.
        """
        if target != b"*":
            target = self._origin + self._base + self._query.edit_target(target)
        elif self._origin:
            target = self._origin  # RFC 9112 section 3.2.4
        head, chunked = self._edits.write_head(method, target, fields, section)
        retry = self._retry and isinstance(body, bytes)
        request = OutgoingRequest(
            method, head, body, chunked=chunked, silence=self._silence, retry=retry, proxied=bool(self._origin)
        )
        request.upgrade = upgrade
        if trailers is not None:
            request.trailers = self._edits.trailers_after(trailers)
        self._pool.send(round_trip, request)


class UpstreamResponse(ResponseStream):
    """A response that is coming in, once `wait_head` has returned. It raises UpstreamError.

    `fields` holds the end-to-end fields only; `names` are its head's.
    """

    __slots__ = ("fields", "names", "status")

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        super().__init__(loop)
        self.status = 0
        self.fields: Fields = ()
        self.names: Mapping[bytes, bytes] = {}

    def on_head(self, head: ResponseHead) -> None:
        self.status = head.status
        self.names = head.names
        self.fields = head.section.fields
        super().on_head(head)

    def raised_for(self, error: Exception) -> Exception:
        failure = as_upstream_error(error)
        if failure is None:
            return error  # what the request's own body raised
        failure.__cause__ = error  # so that a traceback shows it
        return failure
