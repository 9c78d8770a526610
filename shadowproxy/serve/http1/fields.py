"""Header fields as byte pairs, in order: which are for one hop only, and how much memory they take."""

from collections.abc import Iterable, Mapping, Sequence

from shadowproxy.exchange import Field, Fields

HOP_BY_HOP = frozenset({b"connection", b"keep-alive", b"proxy-connection", b"te", b"upgrade"})
"""Between two neighbours only (RFC 9110 section 7.6.1). `Transfer-Encoding` is one too, but it stays in its place: all
that framing.py accepts is `chunked`, and a chunked body is forwarded chunked. `Trailer` passes with the trailers."""

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


NOT_IN_TRAILERS = (
    HOP_BY_HOP
    | NOT_TO_STRIP
    | {b"trailer", b"expect", b"max-forwards"}
    | {b"authorization", b"proxy-authorization", b"proxy-authenticate", b"www-authenticate", b"cookie", b"set-cookie"}
    | {b"cache-control", b"pragma", b"range"}
    | {b"content-encoding", b"content-type", b"content-range"}
    | {b"forwarded", b"x-forwarded-for", b"x-forwarded-proto", b"x-forwarded-host", b"x-real-ip"}
)
"""What a trailer may not be called: framing, routing, credentials, conditions, how the body is read (RFC 9110 section
6.5.1). Some servers put trailers among the header fields, so that `Authorization` in a trailer would count as one. Nor
may a name begin with CONDITION."""

CONDITION = b"if-"
"""If-Match and the like, and those of WebDAV and its kin, such as If-Schedule-Tag-Match (RFC 6638)."""


def lists(fields: Fields, lower_name: bytes, token: bytes) -> bool:
    """Whether a field of that name lists `token`, which is in lower case."""
    for name, value in fields:
        if name.lower() == lower_name and token in [each.strip(b" \t").lower() for each in value.split(b",")]:
            return True
    return False


def passing_trailers(trailers: Fields, names: Mapping[bytes, bytes], fields: Fields) -> Fields:
    """The trailers that pass on, of a message with these header fields. `names` is its `Head.names`."""
    barred = NOT_IN_TRAILERS
    if b"connection" in names:
        for name, value in fields:
            if name.lower() == b"connection":
                barred = barred | {option.strip(b" \t").lower() for option in value.split(b",")}
    passing = [field for field in trailers if field[0].lower() not in barred]
    return tuple([field for field in passing if not field[0].lower().startswith(CONDITION)])


def fields_weight(fields: Sequence[Field]) -> int:
    """About the bytes that header fields hold in memory."""
    weight = 122 * len(fields)  # two bytes objects of 33 bytes overhead and their tuple, besides what they hold
    for name, value in fields:
        weight += len(name) + len(value)
    return weight
