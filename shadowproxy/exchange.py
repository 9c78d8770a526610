"""The nouns that every room shares: a request, how each leg ended, and the whole exchange. Frozen; no I/O, no clock.

Bytes stay bytes here: header fields are pairs exactly as received, bodies are what was captured.
Turning them into something to read is the package recorder's work, in the journal's thread.

They are tuples, as several are made for each request: one of eight fields costs a third of a frozen dataclass.
"""

from collections.abc import Mapping
from enum import StrEnum
from typing import NamedTuple

Field = tuple[bytes, bytes]
Fields = tuple[Field, ...]
"""Header fields in the order, spelling and number in which they were received."""

CONTROL = "control"
"""The name of the control: live itself, which gets the request a second time, as if it were a shadow."""

CALL = "CALL"
"""The method of an exchange that is a function's call, and no request of HTTP."""

LIVE = "live"
"""Live's name among those of the shadows. No shadow may have it."""


class Outcome(StrEnum):
    """An outcome is how a leg ended. A closed set: the log, the metrics and the report know no other word."""

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
    STATE_UNKNOWN = "state_unknown"
    SHUTDOWN = "shutdown"


class Verdict(StrEnum):
    """A verdict is the result of comparing live's answer with a shadow's or the control's. A closed set."""

    MATCH = "match"
    MISMATCH = "mismatch"
    IGNORED = "ignored"
    INCOMPARABLE = "incomparable"


class Request(NamedTuple):
    """The caller's request, as received. `body` may be a prefix: it is whole if it is `body_bytes` long.

    `body_sha256` is the hash of the whole body in hexadecimal, where it was taken as the body passed.

    `record` is the ID of the record, a UUIDv7 and unique; `id` is the request ID, which callers repeat when they retry.
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
    body_sha256: str | None = None


class Translated(NamedTuple):
    """A value that live had issued in a request, and the shadow's own value that the shadow was sent in its place.

    `place` is where it stands in the request: `path`, `query:NAME`, `header:NAME`, `cookie:NAME` or `json:/pointer`.
    `learnt_from` is the record whose two answers had both values.
    """

    place: str
    learnt_from: str
    live: str
    shadow: str


class Learnt(NamedTuple):
    """Two values that live and a shadow issued in their answers to one request, at the same place: later requests that
    carry live's are sent to the shadow with its own. `place` is `json:/pointer`, `header:NAME` or `set-cookie:NAME`."""

    place: str
    live: str
    shadow: str


class Reply(NamedTuple):
    """A leg that ended well: the endpoint's response. `body` may be a prefix: it is whole if it is `body_bytes` long.
    `body_sha256` is as a request's.

    Times are from the leg's start. `began_ms` is when the leg began, from when the request was received; the log does
    not have it. `caller_left`: the caller left after the answer's own end, before the response's last byte.
    `arrivals`: when the pieces of the body came, as arrivals.py packs it; empty if it came in one. A shadow's leg has
    what was `translated` in its request, and what was `learnt` from its answer and live's.
    """

    status: int
    fields: Fields
    body: bytes
    body_bytes: int
    first_byte_ms: float
    total_ms: float
    began_ms: float = 0.0
    body_sha256: str | None = None
    caller_left: bool = False
    arrivals: bytes = b""
    translated: tuple[Translated, ...] = ()
    learnt: tuple[Learnt, ...] = ()


class Failure(NamedTuple):
    """A leg that began and did not end well. `reply` is the part of a response that was received until then.

    `translated` is as a reply's.
    """

    outcome: Outcome
    error: str
    total_ms: float
    reply: Reply | None = None
    began_ms: float = 0.0
    translated: tuple[Translated, ...] = ()


class Skipped(NamedTuple):
    """A leg that was chosen and never began: its shadow received nothing of the request."""

    outcome: Outcome
    error: str


LiveLeg = Reply | Failure
ShadowLeg = Reply | Failure | Skipped
"""A leg is one exchange's part with one endpoint: live, a shadow, or the control."""


class TunnelEnd(StrEnum):
    """Who or what ended a tunnel. A closed set."""

    CALLER = "caller"
    LIVE = "live"
    IDLE = "idle"
    SHUTDOWN = "shutdown"


class Tunnel(NamedTuple):
    """A WebSocket, between live's 101 and its end: bytes from the caller to live and back, and who ended it."""

    from_caller: int
    from_live: int
    ended_by: TunnelEnd


class Exchange(NamedTuple):
    """An exchange is one request with everything that results from it: live's leg and each chosen shadow's.

    A record is one exchange as a line of the log. `shadows` holds the chosen ones only; `control` is live's second leg,
    where the request was sent to live twice. `tunnel` is what followed live's 101.
    """

    request: Request
    live: LiveLeg
    shadows: Mapping[str, ShadowLeg]
    control: ShadowLeg | None = None
    tunnel: Tunnel | None = None
