"""The nouns that every room shares: a request, what came of each leg, and the whole. Frozen; no I/O, no clock.

Bytes stay bytes here: header fields are pairs exactly as they came, bodies are what was copied off the wire.
Turning them into something to read is the package recorder's work, in the journal's thread.

They are tuples, as several are made for each request: one of eight fields costs a third of a frozen dataclass.
"""

from collections.abc import Mapping
from enum import StrEnum
from typing import NamedTuple

Field = tuple[bytes, bytes]
Fields = tuple[Field, ...]
"""Header fields in the order, spelling and number in which they came."""

CONTROL = "control"
"""The name under which live itself is asked a second time, as if it were a shadow."""


class Outcome(StrEnum):
    """How one leg of an exchange ended. A closed set: the log, the metrics and the report know no other word."""

    OK = "ok"
    TIMEOUT = "timeout"
    CONNECT_ERROR = "connect_error"
    TLS_ERROR = "tls_error"
    PROTOCOL_ERROR = "protocol_error"
    INCOMPLETE = "incomplete"
    CALLER_LEFT = "caller_left"
    OVERSIZE = "oversize"
    ANSWER_OVERSIZE = "answer_oversize"
    LANE_FULL = "lane_full"
    OVERLOAD = "overload"
    BREAKER_OPEN = "breaker_open"
    BUDGET_SPENT = "budget_spent"
    PAUSED = "paused"
    UNUSABLE = "unusable"
    SHUTDOWN = "shutdown"


class Verdict(StrEnum):
    """What comparing an answer with live's says. A closed set."""

    MATCH = "match"
    MISMATCH = "mismatch"
    IGNORED = "ignored"
    INCOMPARABLE = "incomparable"


class Request(NamedTuple):
    """The caller's request, as received. `body` may be a prefix: it is whole when it is `body_bytes` long.

    `record` is a UUIDv7 and unique; `id` is the request ID, which callers repeat when they retry.
    `at_ns` is nanoseconds since the Unix epoch. `target` is the raw path and query, as sent to live.
    """

    id: str
    record: str
    at_ns: int
    method: str
    target: bytes
    fields: Fields
    body: bytes
    body_bytes: int


class Reply(NamedTuple):
    """An answer. `body` may be a prefix: it is whole when it is `body_bytes` long. Times are from the leg's start.

    `began_ms` is how long after the request had come the leg began, of which the log says nothing.
    """

    status: int
    fields: Fields
    body: bytes
    body_bytes: int
    first_byte_ms: float
    total_ms: float
    began_ms: float = 0.0


class Failure(NamedTuple):
    """A leg that was begun and did not end well. `reply` is what of an answer had come by then."""

    outcome: Outcome
    error: str
    total_ms: float
    reply: Reply | None = None
    began_ms: float = 0.0


class Skipped(NamedTuple):
    """A leg that was chosen and never begun: its shadow saw nothing of the request."""

    outcome: Outcome
    error: str


LiveLeg = Reply | Failure
ShadowLeg = Reply | Failure | Skipped


class Exchange(NamedTuple):
    """One request with live's reply and the outcome of every shadow it was chosen for. A record is one of these.

    `shadows` holds the chosen ones only; `control` is live's second answer, where one was asked for.
    """

    request: Request
    live: LiveLeg
    shadows: Mapping[str, ShadowLeg]
    control: ShadowLeg | None = None
