"""Header fields as byte pairs, in order: which are for one hop only, and how much memory they take."""

from collections.abc import Iterable, Sequence

from shadowproxy.exchange import Field, Fields

HOP_BY_HOP = frozenset({b"connection", b"keep-alive", b"proxy-connection", b"te", b"trailer", b"upgrade"})
"""Between two neighbours only (RFC 9110 section 7.6.1). `Transfer-Encoding` is one too, but it stays in its place: all
that framing.py accepts is `chunked`, and a chunked body is forwarded chunked."""

NOT_TO_STRIP = frozenset({b"host", b"content-length", b"transfer-encoding", b"via", b"x-shadow-request"})
"""`Connection: <name>` cannot remove these: framing, routing and loop detection depend on them."""


def end_to_end(fields: Fields, names: Iterable[bytes] | None = None) -> Fields:
    """`fields` without those that are for this hop only, some of which `Connection` names (RFC 9110 section 7.6.1).

    `names` are their names in lower case, if the caller of this has them.
    """
    if HOP_BY_HOP.isdisjoint([name.lower() for name, _ in fields] if names is None else names):  # most messages
        return fields
    listed = HOP_BY_HOP
    for name, value in fields:
        if name.lower() == b"connection":
            listed = listed | {option.strip(b" \t").lower() for option in value.split(b",")} - NOT_TO_STRIP
    return tuple([field for field in fields if field[0].lower() not in listed])


def fields_weight(fields: Sequence[Field]) -> int:
    """About the bytes that header fields hold in memory."""
    weight = 122 * len(fields)  # two bytes objects of 33 bytes overhead and their tuple, besides what they hold
    for name, value in fields:
        weight += len(name) + len(value)
    return weight
