"""What one configuration makes of the live path."""

from collections.abc import Container, Sequence
from dataclasses import dataclass

from shadowproxy.exchange import Field, Fields
from shadowproxy.serve.policy.headers import find
from shadowproxy.serve.upstreams.endpoint import Endpoint


@dataclass(frozen=True, slots=True)
class FixedAnswer:
    """The answer of `live.respond`, given instead of a live system's. `fields` are without Content-Length."""

    status: int
    fields: Fields
    body: bytes


@dataclass(frozen=True, slots=True)
class Service:
    """The settings that requests are served by, each to its end by those that it began with.

    `buffer` is in bytes; `in_flight` is how many requests may be under way at once; `tunnel_timeout` is how many
    seconds a tunnel may be silent; `id_name` is `id_header` in lower case.
    """

    live: Endpoint | FixedAnswer
    buffer: int
    in_flight: int
    tunnel_timeout: float
    id_header: bytes
    id_name: bytes
    respond_id: bool
    forwarded: bool

    def add_request_id(
        self, fields: Sequence[Field], request_id: str, names: Container[bytes] | None = None
    ) -> Sequence[Field]:
        """The answer's fields, with the request ID if live gave none itself.

        `names` are their names in lower case, if known.
        """
        if not self.respond_id:
            return fields
        if (names is None or self.id_name in names) and find(fields, self.id_name) is not None:
            return fields
        return [*fields, (self.id_header, request_id.encode())]
