"""Which header fields go where. On byte pairs, in order, name case kept; pure.

What the caller and live wrote passes as it is; the tables below are all that is taken out or put in.
"""

from collections.abc import Iterable
from functools import lru_cache

from shadowproxy.credential_values import is_hidden_by_name
from shadowproxy.exchange import Field, Fields
from shadowproxy.redaction import BLANK, Redaction
from shadowproxy.serve.http1.section import Section
from shadowproxy.serve.policy.identity import span_id
from shadowproxy.serve.policy.traceparent import TraceParent

REMEMBERED = 2 * 1024
"""Bytes of a value. What a shadow is told of a longer one is worked out each time."""

VIA = b"1.1 shadowproxy"
SHADOW_REQUEST = b"X-Shadow-Request"
_BLANKED = Redaction()


def find(fields: Iterable[Field], lower_name: bytes) -> bytes | None:
    """The value of the first field of that name."""
    for name, value in fields:
        if name.lower() == lower_name:
            return value
    return None


def forwarded_fields(fields: Fields, client: str, host: bytes | None) -> list[Field]:
    """X-Forwarded-For, and -Proto and -Host unless the caller was told by someone before us: to go behind `fields`.

    A second X-Forwarded-For field is one list with the first (RFC 9110 section 5.3): nothing of the caller's changes.
    """
    added: list[Field] = [(b"X-Forwarded-For", client.encode())]
    if find(fields, b"x-forwarded-proto") is None:
        added.append((b"X-Forwarded-Proto", b"http"))
    if host is not None and find(fields, b"x-forwarded-host") is None:
        added.append((b"X-Forwarded-Host", host))
    return added


def count_hops(fields: Fields) -> int:
    """How often this request has been through a shadowproxy."""
    return sum(value.count(VIA) for name, value in fields if name.lower() == b"via")


def fields_for_shadow(
    fields: Iterable[Field], shadow: str, *, credentials: bool, record: str
) -> tuple[list[Field], bool]:
    """What a shadow is sent, and whether credentials were held back.

    The trace goes on under a new span, the one that `record` and the shadow's name make, and asks nobody to record it:
    the shadow's work is not the caller's.
    """
    sent, held_back, _ = _passed(fields, shadow, credentials, record)
    sent += _said_to(shadow)
    return sent, held_back


def section_for_shadow(
    section: Section, own: Fields, shadow: str, *, credentials: bool, record: str
) -> tuple[Section | None, list[Field], bool]:
    """As `fields_for_shadow`, of what the caller sent and what the proxy has added: a section, if any, and what comes
    behind.

    It is found out once for all requests that have the section, unless it carries a trace.
    """
    told = section.for_shadow.get(credentials) if section.for_shadow is not None else None
    if told is None:
        sent, held_back, is_traced = _passed(section.fields, shadow, credentials, record)
        if is_traced or section.seen < 2:
            sent += own
            sent += _said_to(shadow)
            return None, sent, held_back
        told = Section(tuple(sent), section.seen), held_back
        section.for_shadow = {**(section.for_shadow or {}), credentials: told}
    return told[0], [*own, *_said_to(shadow)], told[1]


def _said_to(shadow: str) -> Fields:
    return (b"Via", VIA), (SHADOW_REQUEST, shadow.encode())


def _passed(fields: Iterable[Field], shadow: str, credentials: bool, record: str) -> tuple[list[Field], bool, bool]:
    """What of the fields a shadow is sent, whether that is less than they say, and whether there is a trace in them."""
    sent: list[Field] = []
    held_back = is_traced = False
    for field in fields:
        passed, is_less, trace = (_remembered if len(field[1]) <= REMEMBERED else _telling)(field, credentials)
        held_back = held_back or is_less
        if trace is not None:
            is_traced = True
            sent.append((field[0], trace.unsampled(span_id(record, shadow))))
        elif passed is not None:
            sent.append(passed)
    return sent, held_back, is_traced


def _telling(field: Field, credentials: bool) -> "tuple[Field | None, bool, TraceParent | None]":
    """What of a field a shadow is told, whether that is less than it says, and the trace that it goes on with."""
    name, value = field
    lower = name.lower()
    if not credentials and is_hidden_by_name(lower, value.decode("latin-1")):
        return None, True, None
    if lower == b"traceparent" and (trace := TraceParent.of(value)) is not None:
        return field, False, trace
    if lower == b"expect":  # the body is here already: there is nothing to ask leave for
        return None, False, None
    told = value if credentials else _without_credentials(value)
    return None if told is None else (name, told), told is not value, None


_remembered = lru_cache(1024)(_telling)  # where a request ID is new, the fields beside it are not


def _without_credentials(value: bytes) -> bytes | None:
    """A field's value: the same object where no credential is in it, None where it is nothing else.

    A blank in the place of a whole one would be refused as a wrong credential, and not as a missing one.
    """
    text = value.decode("latin-1")  # takes any byte, and gives it back
    told = _BLANKED.value(text)
    if told == text:
        return value
    return None if told == BLANK else told.encode("latin-1")


def with_content_length(fields: list[Field], length: int) -> list[Field]:
    """`fields` for a body that was changed to have `length` bytes, framed as it was."""
    return [(name, b"%d" % length if name.lower() == b"content-length" else value) for name, value in fields]
