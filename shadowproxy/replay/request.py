"""Turns a record into the request to send, or into the reason why it is not sent. Pure.

The rules:

- The method, the path, the query and the body are sent as the log has them. A JSON body keeps its own text: numbers
  keep their digits, and a key that came twice is sent twice.
- A request whose method may change something is sent only if that method is named: the change was made once already.
- A request that the log does not have whole is not sent: with half a body, or with a mark in place of a secret, it
  would be another request.
- A redacted credential is left out and reported, unless the user fills it in: the endpoint would reject its mark as a
  wrong credential, not as a missing one.
- A body whose Content-Encoding was undone for the log is sent without one: no encoder gives the same bytes again.
"""

import re
from collections.abc import Container, Iterator, Mapping
from dataclasses import dataclass
from enum import StrEnum
from urllib.parse import quote, unquote_plus

from shadowproxy.config import REPEATABLE
from shadowproxy.credential_values import PATH_PARAMETER, is_credential_field, is_credential_piece
from shadowproxy.exchange import Field
from shadowproxy.record import Body, Record
from shadowproxy.redaction import BLANK, MARK
from shadowproxy.serve.http1.fields import end_to_end
from shadowproxy.serve.policy.headers import fields_for_shadow, with_content_length
from shadowproxy.serve.policy.identity import uuid7
from shadowproxy.serve.policy.query import edit_query
from shadowproxy.serve.policy.rewrite import BODY_FIELDS
from shadowproxy.serve.policy.sampling import methods_of

_MARKED = re.compile(MARK.pattern.encode())
_MARKED_TEXT = re.compile(rb'"' + MARK.pattern.encode() + rb'"')


class NotSent(StrEnum):
    """Why a record's request is not sent. A closed set; the words follow a number of requests."""

    NOT_WHOLE = "the log does not have the whole body (log.body_limit, log.bodies)"
    REDACTED = "a value in the body is redacted"
    NO_TIME = "the record has no time"
    TUNNEL = "a WebSocket, of which the log has no frames"
    METHOD = "their method may change data, which would be changed again"


@dataclass(frozen=True, slots=True)
class ReplayRequest:
    """A request to send. `left_out` names the redacted fields and parameters that are not filled in.

    `decoded`: the body is sent without its original Content-Encoding. `inexact`: its length differs from the recorded
    one, so a program has rewritten the log's JSON. `marked` are fields that are left out, and whose whole value is a
    mark of its own: equal values have equal ones.
    """

    method: str
    target: bytes
    fields: list[Field]
    body: bytes
    left_out: tuple[str, ...] = ()
    decoded: bool = False
    inexact: bool = False
    marked: tuple[Field, ...] = ()


def replay_request(
    record: Record,
    json_text: bytes | None,
    shadow: str,
    *,
    put: frozenset[str],
    query: Mapping[str, str],
    methods: frozenset[str] = frozenset(REPEATABLE),
    own: Container[str] = (),
    credentials: bool = False,
) -> ReplayRequest | NotSent:
    """The request of a record as the shadow `shadow` would get it.

    `json_text` is the text of a JSON body in the record's line. `put` has the lower-case names of header fields that
    the endpoint's configuration sets, `own` the names of the parameters that it sets; `query` has the values for
    redacted parameters by name. `methods` may be sent; `*` means all. `credentials`: also send credentials that the
    log has in clear, as a log of an earlier version may.
    """
    request = record.request
    if record.tunnel is not None:
        return NotSent.TUNNEL
    if unnamed(record, methods):
        return NotSent.METHOD
    if request.body.truncated:
        return NotSent.REDACTED if request.body.redacted is not None else NotSent.NOT_WHOLE
    body = _wire(request.body, json_text)
    types = request.headers.get("content-type", "")
    named = types.lower() if isinstance(types, str) else ""
    form = named.startswith("application/x-www-form-urlencoded")
    if _MARKED_TEXT.search(body) if "json" in named or request.body.kind == "json" else form and _MARKED.search(body):
        return NotSent.REDACTED
    left_out: list[str] = []
    marked: list[Field] = []
    fields: list[Field] = []
    encoded = bool(body) and request.body.coding is None and _is_coded(request.headers.get("content-encoding", ""))
    for name, values in request.headers.items():
        if encoded and name.encode() in BODY_FIELDS:
            continue  # they describe the encoded bytes
        for value in values if isinstance(values, list) else [values]:
            if MARK.search(value) is None and (credentials or not is_credential_field(name, value)):
                fields.append((name.encode(), value.encode()))
            elif name not in put and name != "content-length":
                left_out.append(name)
                if value != BLANK and MARK.fullmatch(value) is not None:
                    marked.append((name.encode(), value.encode()))
    target, missing = _target(request.path, request.query, query, own, credentials)
    # A replayed request is a span of its own, not the span that the shadow got then.
    fields, _ = fields_for_shadow(end_to_end(tuple(fields)), shadow, credentials=True, record=uuid7())
    return ReplayRequest(
        request.method,
        target,
        _framed(fields, len(body)),
        body,
        tuple(dict.fromkeys((*left_out, *missing))),
        decoded=encoded,
        inexact=not encoded and len(body) != request.body.size,
        marked=tuple(marked),
    )


def unnamed(record: Record, methods: frozenset[str]) -> list[str]:
    """The methods that keep a request from being sent: its own, or the one with which a POST overrides it."""
    if "*" in methods:
        return []
    request = record.request
    target = f"{request.path}?{request.query}".encode()
    found = methods_of(request.method, tuple(_fields(request.headers)), target)
    return [method for method in found if method not in methods]


def _framed(fields: list[Field], length: int) -> list[Field]:
    """`fields` for a body of `length` bytes. If they say nothing about it, the endpoint would read the body as its next
    request."""
    if length and not {name.lower() for name, _ in fields} & {b"content-length", b"transfer-encoding"}:
        return [*fields, (b"content-length", b"%d" % length)]
    return with_content_length(fields, length)


def _fields(headers: Mapping[str, str | list[str]]) -> Iterator[Field]:
    for name, values in headers.items():
        for value in values if isinstance(values, list) else [values]:
            yield name.encode(), value.encode()


def _wire(body: Body, json_text: bytes | None) -> bytes:
    if body.kind == "json":
        assert json_text is not None  # the value was read from it
        return json_text
    if body.kind == "text":
        text: str = body.value
        return text.encode()
    raw: bytes = body.value or b""
    return raw


def _is_coded(codings: str | list[str]) -> bool:
    listed = codings if isinstance(codings, str) else ",".join(codings)
    return any(coding.strip().lower() not in ("", "identity") for coding in listed.split(","))


def _target(
    path: str, query: str, filled: Mapping[str, str], own: Container[str], credentials: bool
) -> tuple[bytes, list[str]]:
    """Path and query as bytes, and the parameters left out of them, as `?name` or `;name`."""
    missing: list[str] = []

    def passed(piece: str, sign: str = "?") -> str | None:
        name, equals, value = piece.partition("=")
        plain = unquote_plus(name) if equals else ""
        if MARK.search(value if equals else piece) is None and (credentials or not is_credential_piece(piece)):
            return piece
        if plain in filled and sign == "?":
            return f"{name}={quote(filled[plain], safe='')}"
        if plain not in own:
            missing.append(f"{sign}{plain}")
        return None

    path = PATH_PARAMETER.sub(lambda match: "" if passed(match[0][1:], ";") is None else match[0], path)
    return (path + edit_query(f"?{query}" if query else "", passed)).encode(), missing
