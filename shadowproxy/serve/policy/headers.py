"""Which header fields are sent to live and to the shadows. Pure functions on pairs of bytes.

Fields keep their order and the case of their names. What is removed or added here is all that changes in them.
"""

from collections.abc import Iterable
from typing import Final

from shadowproxy.caches import remembered
from shadowproxy.credential_values import is_hidden_by_name
from shadowproxy.exchange import Field, Fields
from shadowproxy.redaction import BLANK, Redaction
from shadowproxy.serve.http1.section import Section
from shadowproxy.serve.policy.identity import span_id
from shadowproxy.serve.policy.traceparent import TraceParent

VIA = b"1.1 shadowproxy"
SHADOW_REQUEST = b"X-Shadow-Request"
_BLANKED = Redaction()


def find(fields: Iterable[Field], lower_name: bytes) -> bytes | None:
    """The value of the first field of that name."""
    for name, value in fields:
        if name.lower() == lower_name:
            return value
    return None


def forwarded_fields(fields: Fields, client: str, scheme: bytes, host: bytes | None) -> list[Field]:
    """The fields to add behind `fields`: X-Forwarded-For, and -Proto and -Host unless a proxy before us has set them.

    A second X-Forwarded-For field continues the list of the first (RFC 9110 section 5.3), so none of the caller's
    fields changes.
    """
    added: list[Field] = [(b"X-Forwarded-For", client.encode())]
    if find(fields, b"x-forwarded-proto") is None:
        added.append((b"X-Forwarded-Proto", scheme))
    if host is not None and find(fields, b"x-forwarded-host") is None:
        added.append((b"X-Forwarded-Host", host))
    return added


def count_hops(fields: Fields) -> int:
    """How many shadowproxies this request has come through."""
    return sum(value.count(VIA) for name, value in fields if name.lower() == b"via")


def fields_for_shadow(
    fields: Iterable[Field], shadow: str, *, credentials: bool, record: str
) -> tuple[list[Field], bool]:
    """The fields that a shadow is sent, and whether credentials were held back.

    A trace continues under a new span, whose ID is made from `record` and the shadow's name. It is marked as not
    sampled: the shadow's work is not part of the caller's request.
    """
    sent, held_back, _ = _forward(fields, shadow, credentials, record)
    sent += _marks(shadow)
    return sent, held_back


def holds_credentials(fields: Fields) -> bool:
    """Whether a field may hold a credential: any that is not ASCII may, as it can be read in two ways."""
    return any(not value.isascii() or _without_credentials[name, value][1] for name, value in fields)


def section_for_shadow(
    section: Section, own: Fields, shadow: str, *, credentials: bool, record: str
) -> tuple[Section | None, list[Field], bool]:
    """As `fields_for_shadow`, for the caller's `section` and the fields that the proxy adds.

    Returns a section, if one can be reused, and the fields that follow it. The section is made once for all requests
    that have the caller's, unless it carries a trace.
    """
    cached = section.for_shadow.get(credentials) if section.for_shadow is not None else None
    if cached is None:
        sent, held_back, is_traced = _forward(section.fields, shadow, credentials, record)
        if is_traced or section.seen < 2:
            sent += own
            sent += _marks(shadow)
            return None, sent, held_back
        cached = Section(tuple(sent), section.seen), held_back
        section.for_shadow = {**(section.for_shadow or {}), credentials: cached}
    return cached[0], [*own, *_marks(shadow)], cached[1]


def _marks(shadow: str) -> Fields:
    """The fields that mark a request as mirrored by a shadowproxy."""
    return (b"Via", VIA), (SHADOW_REQUEST, shadow.encode())


def _forward(fields: Iterable[Field], shadow: str, credentials: bool, record: str) -> tuple[list[Field], bool, bool]:
    """The caller's fields as a shadow gets them, whether credentials were held back, and whether they carry a trace."""
    sent: list[Field] = []
    held_back = is_traced = False
    decisions = _with_credentials if credentials else _without_credentials
    for field in fields:
        forwarded, is_less, trace = decisions[field]
        held_back = held_back or is_less
        if trace is not None:
            is_traced = True
            sent.append((field[0], trace.unsampled(span_id(record, shadow))))
        elif forwarded is not None:
            sent.append(forwarded)
    return sent, held_back, is_traced


def _decide(field: Field, credentials: bool) -> "tuple[Field | None, bool, TraceParent | None]":
    """A field as shadows get it, None if they do not; whether that holds credentials back; the trace in it, if any."""
    name, value = field
    lower = name.lower()
    if not credentials and is_hidden_by_name(lower, value.decode("latin-1")):
        return None, True, None
    if lower == b"traceparent" and (trace := TraceParent.of(value)) is not None:
        return field, False, trace
    # The body has been received, so nobody needs to ask for it. Trailers, which `Trailer` announces, are not mirrored.
    if lower in (b"expect", b"trailer"):
        return None, False, None
    kept = value if credentials else _remove_credentials(value)
    return None if kept is None else (name, kept), kept is not value, None


def _weight(field: Field, _: object) -> int:
    return 1000 + 3 * (len(field[0]) + len(field[1]))


# A request ID is often new, the fields beside it are not.
_with_credentials: Final = remembered("fields with credentials", lambda field: _decide(field, True), _weight)
_without_credentials: Final = remembered("fields without credentials", lambda field: _decide(field, False), _weight)


def _remove_credentials(value: bytes) -> bytes | None:
    """A field's value without the credentials in it: the same object if it has none, None if it is only a credential.

    A blank instead of a whole credential would be rejected as a wrong one, and not as a missing one.
    """
    text = value.decode("latin-1")  # takes any byte, and gives it back
    blanked = _BLANKED.value(text)
    if blanked == text:
        return value
    return None if blanked == BLANK else blanked.encode("latin-1")


def with_content_length(fields: list[Field], length: int) -> list[Field]:
    """`fields` for a body that was changed to `length` bytes: Content-Length is replaced where there is one."""
    return [(name, b"%d" % length if name.lower() == b"content-length" else value) for name, value in fields]
