"""Which header fields go where. On byte pairs, in order, name case kept; pure.

What the caller and live wrote passes as it is; the tables below are all that is taken out or put in.
"""

import re
from collections.abc import Iterable
from dataclasses import dataclass
from functools import lru_cache

from shadowproxy.credentials import is_credential_header
from shadowproxy.exchange import Field, Fields
from shadowproxy.redaction import Redaction
from shadowproxy.serve.identity import span_id

HOP_BY_HOP = frozenset({b"connection", b"keep-alive", b"proxy-connection", b"te", b"trailer", b"upgrade"})
"""Between two neighbours only (RFC 9110 section 7.6.1). `Transfer-Encoding` is one too, but it stays in its place: all
that framing.py lets through is `chunked`, and a chunked body is sent on chunked."""

NOT_TO_STRIP = frozenset({b"host", b"content-length", b"transfer-encoding", b"via", b"x-shadow-request"})
"""What `Connection: <name>` cannot take out: framing, routing and loop detection hang on these."""

REMEMBERED = 2 * 1024
"""Bytes of a value. What a shadow is told of a longer one is worked out each time."""

VIA = b"1.1 shadowproxy"
SHADOW_REQUEST = b"X-Shadow-Request"
_BLANKED = Redaction()


def end_to_end(fields: Fields, names: Iterable[bytes] | None = None) -> Fields:
    """`fields` without those that are for this hop only, which `Connection` may name (RFC 9110 section 7.6.1).

    `names` are theirs in lower case, where they are known.
    """
    if HOP_BY_HOP.isdisjoint([name.lower() for name, _ in fields] if names is None else names):  # most messages
        return fields
    listed = HOP_BY_HOP
    for name, value in fields:
        if name.lower() == b"connection":
            listed = listed | {option.strip(b" \t").lower() for option in value.split(b",")} - NOT_TO_STRIP
    return tuple([field for field in fields if field[0].lower() not in listed])


def find(fields: Iterable[Field], lower_name: bytes) -> bytes | None:
    """The value of the first field of that name."""
    for name, value in fields:
        if name.lower() == lower_name:
            return value
    return None


def forwarded(fields: list[Field], client: str, host: bytes | None) -> list[Field]:
    """Add X-Forwarded-For, and -Proto and -Host unless the caller was told by someone before us.

    A second X-Forwarded-For field is one list with the first (RFC 9110 section 5.3): nothing of the caller's changes.
    """
    added: list[Field] = [(b"X-Forwarded-For", client.encode())]
    if find(fields, b"x-forwarded-proto") is None:
        added.append((b"X-Forwarded-Proto", b"http"))
    if host is not None and find(fields, b"x-forwarded-host") is None:
        added.append((b"X-Forwarded-Host", host))
    return fields + added


def hops(fields: Fields) -> int:
    """How often this request has been through a shadowproxy."""
    return sum(value.count(VIA) for name, value in fields if name.lower() == b"via")


def for_shadow(fields: Iterable[Field], shadow: str, *, credentials: bool, record: str) -> tuple[list[Field], bool]:
    """What a shadow is sent, and whether credentials were held back.

    The trace goes on under a new span, the one that `record` and the shadow's name make, and asks nobody to record it:
    the shadow's work is not the caller's.
    """
    sent: list[Field] = []
    held_back = False
    for field in fields:
        told, is_less, trace = (_told if len(field[1]) <= REMEMBERED else _telling)(field, credentials)
        held_back = held_back or is_less
        if trace is not None:
            sent.append((field[0], trace.unsampled(span_id(record, shadow))))
        elif told is not None:
            sent.append(told)
    sent += ((b"Via", VIA), (SHADOW_REQUEST, shadow.encode()))
    return sent, held_back


def _telling(field: Field, credentials: bool) -> "tuple[Field | None, bool, TraceParent | None]":
    """What of a field a shadow is told, whether that is less than it says, and the trace that it goes on with."""
    name, value = field
    lower = name.lower()
    if not credentials and is_credential_header(lower):
        return None, True, None
    if lower == b"traceparent" and (trace := TraceParent.of(value)) is not None:
        return field, False, trace
    if lower == b"expect":  # the body is here already: there is nothing to ask leave for
        return None, False, None
    told = value if credentials else _without_credentials(value)
    return (name, told), told is not value, None


_told = lru_cache(1024)(_telling)  # callers repeat themselves, and to look for what is secret takes a microsecond


def _without_credentials(value: bytes) -> bytes:
    """A field's value, the same object where no URL in it has user information or a credential in its query."""
    if b"=" not in value and b"@" not in value:
        return value
    text = value.decode("latin-1")  # takes any byte, and gives it back
    told = _BLANKED.urls(text)
    return value if told == text else told.encode("latin-1")


_TRACE_PARENT = re.compile(rb"([0-9a-f]{2})-([0-9a-f]{32})-([0-9a-f]{16})-([0-9a-f]{2})(-.*)?", re.DOTALL)
_SAMPLED = 1


@dataclass(frozen=True, slots=True)
class TraceParent:
    """A `traceparent` field: which trace a request belongs to, and which span of it sent it. Hexadecimal digits."""

    version: bytes
    trace: bytes
    span: bytes
    flags: int
    more: bytes

    @classmethod
    def of(cls, value: bytes) -> "TraceParent | None":
        """None where it is none (W3C Trace Context section 3.2.2): then nobody may go on with it."""
        match = _TRACE_PARENT.fullmatch(value)
        if match is None:
            return None
        version, trace, span, flags, more = match.groups(b"")
        if version == b"ff" or (version == b"00" and more) or not trace.strip(b"0") or not span.strip(b"0"):
            return None
        return cls(version, trace, span, int(flags, 16), more)

    @property
    def sampled(self) -> bool:
        return bool(self.flags & _SAMPLED)

    def unsampled(self, span: str) -> bytes:
        """The same trace as another span passes it on, without asking anybody to record it."""
        return b"%b-%b-%b-%02x%b" % (self.version, self.trace, span.encode(), self.flags & ~_SAMPLED, self.more)


def with_length(fields: list[Field], length: int) -> list[Field]:
    """`fields` for a body that was changed to have `length` bytes, framed as it was."""
    return [(name, b"%d" % length if name.lower() == b"content-length" else value) for name, value in fields]
