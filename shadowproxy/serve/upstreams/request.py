"""A request as it is sent to an endpoint."""

from collections.abc import AsyncIterable

SMALL = 16 * 1024
"""Bytes of a body that any server's kernel accepts at once, whether the server reads them or not."""


class OutgoingRequest:
    """`head` ends with its empty line and says how `body` is framed; `body` is whole, or comes while it is sent.

    `silence` is how many seconds the endpoint may be silent. `retry` allows the second try of pool.py's rule 6, which
    needs a whole body.
    """

    # No dataclass: what makes one of those stays interpreted where the module is compiled.

    __slots__ = ("body", "chunked", "head", "method", "retry", "silence")

    def __init__(
        self,
        method: str,
        head: bytes,
        body: bytes | AsyncIterable[bytes],
        *,
        chunked: bool,
        silence: float,
        retry: bool = False,
    ) -> None:
        self.method = method
        self.head = head
        self.body = body
        self.chunked = chunked
        self.silence = silence
        self.retry = retry

    @property
    def is_small(self) -> bool:
        """Whether any server's kernel accepts it whole at once."""
        return isinstance(self.body, bytes) and len(self.body) <= SMALL
