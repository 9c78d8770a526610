"""A request as it is sent to an endpoint."""

from collections.abc import AsyncIterable, Callable

from shadowproxy.exchange import Fields
from shadowproxy.serve.http1.bodies import write_last_chunk

SMALL = 16 * 1024
"""Bytes of a body that any server's kernel accepts at once, whether the server reads them or not."""


class OutgoingRequest:
    """`head` ends with its empty line and says how `body` is framed; `body` is whole, or comes while it is sent.

    `silence` is how many seconds the endpoint may be silent. `retry` allows the second try of pool.py's rule 6, which
    needs a whole body. `trailers` is called at the end of a chunked body for the fields that follow it. `upgrade` is
    the protocol that the request offers to change to, in lower case: only to that one may a 101 change.
    `proxied`: it goes to an HTTP proxy, with its whole URL.
    """

    # No dataclass: what makes one of those stays interpreted where the module is compiled.

    __slots__ = ("body", "chunked", "head", "method", "proxied", "retry", "silence", "trailers", "upgrade")

    def __init__(
        self,
        method: str,
        head: bytes,
        body: bytes | AsyncIterable[bytes],
        *,
        chunked: bool,
        silence: float,
        retry: bool = False,
        trailers: Callable[[], Fields] | None = None,
        upgrade: bytes = b"",
        proxied: bool = False,
    ) -> None:
        self.method = method
        self.head = head
        self.body = body
        self.chunked = chunked
        self.silence = silence
        self.retry = retry
        self.trailers = trailers
        self.upgrade = upgrade
        self.proxied = proxied

    def last_chunk(self) -> bytes:
        return write_last_chunk(self.trailers() if self.trailers is not None else ())

    @property
    def is_small(self) -> bool:
        """Whether any server's kernel accepts it whole at once."""
        return isinstance(self.body, bytes) and len(self.body) <= SMALL
