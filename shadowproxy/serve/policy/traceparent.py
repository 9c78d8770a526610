"""The `traceparent` field, which carries a trace from one program to the next (W3C Trace Context)."""

import re

_TRACE_PARENT = re.compile(rb"([0-9a-f]{2})-([0-9a-f]{32})-([0-9a-f]{16})-([0-9a-f]{2})(-.*)?", re.DOTALL)
_SAMPLED = 1


class TraceParent:
    """The trace that a request belongs to, and the span that sent it. IDs are hexadecimal digits."""

    __slots__ = ("flags", "more", "span", "trace", "version")

    def __init__(self, version: bytes, trace: bytes, span: bytes, flags: int, more: bytes) -> None:
        self.version = version
        self.trace = trace
        self.span = span
        self.flags = flags
        self.more = more

    @classmethod
    def of(cls, value: bytes) -> "TraceParent | None":
        """The field's value, parsed; None if it is invalid (W3C Trace Context section 3.2.2)."""
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
        """The field's value for a request that `span` sends: the same trace, marked as not sampled."""
        return b"%b-%b-%b-%02x%b" % (self.version, self.trace, span.encode(), self.flags & ~_SAMPLED, self.more)
