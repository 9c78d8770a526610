"""From a record to the request that is sent again, or to why it cannot be. Pure.

The rules:

- The method, the path, the query and the body are sent as the log has them, a JSON body by its own text: numbers keep
  their digits, and a key that came twice comes twice.
- A request whose method may change something is sent only where that method is named: it was done once already.
- What the log does not have whole cannot be asked again: half a body, or one with a mark in a secret's place, is
  another question.
- A credential that was redacted is left out, and told of, unless the caller of the program fills it in: its mark would
  be refused as a wrong one, and not as a missing one.
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
from shadowproxy.redaction import MARK
from shadowproxy.serve.http1.fields import end_to_end
from shadowproxy.serve.policy.headers import fields_for_shadow, with_content_length
from shadowproxy.serve.policy.identity import uuid7
from shadowproxy.serve.policy.query import edit_query
from shadowproxy.serve.policy.rewrite import BODY_FIELDS
from shadowproxy.serve.policy.sampling import methods_of

_MARKED = re.compile(MARK.pattern.encode())
_MARKED_TEXT = re.compile(rb'"' + MARK.pattern.encode() + rb'"')


class Unfit(StrEnum):
    """Why a record's request is not sent again. A closed set; the words follow a number of requests."""

    NOT_WHOLE = "the log does not have the whole body (log.body_limit, log.bodies)"
    REDACTED = "something in the body was redacted"
    NO_TIME = "the record has no time"
    METHOD = "what such a method changes would be changed again"


@dataclass(frozen=True, slots=True)
class Again:
    """What is sent. `left_out` names the fields and parameters that were redacted or held back, and not filled in.

    `decoded`: the body goes without the Content-Encoding that it came with. `inexact`: it is not as long as it was, so
    something between the proxy and here has written the log's JSON anew.
    """

    method: str
    target: bytes
    fields: list[Field]
    body: bytes
    left_out: tuple[str, ...] = ()
    decoded: bool = False
    inexact: bool = False


def again(
    record: Record,
    json_text: bytes | None,
    shadow: str,
    *,
    put: frozenset[str],
    query: Mapping[str, str],
    methods: frozenset[str] = frozenset(REPEATABLE),
    own: Container[str] = (),
    credentials: bool = False,
) -> Again | Unfit:
    """The request of a record as the shadow called `shadow` would be sent it.

    `json_text` is the body's JSON as it stands in the line, where it is JSON. `put` are lower-case names of header
    fields that the endpoint sets itself, `own` names of parameters that it does; `query` are the values of redacted
    parameters, by name. `methods` are those that may be sent, all where `*` is among them. `credentials`: also those
    are sent that the log has in clear, as one of an earlier version may.
    """
    asked = record.request
    if unnamed(record, methods):
        return Unfit.METHOD
    if asked.body.truncated:
        return Unfit.REDACTED if asked.body.redacted is not None else Unfit.NOT_WHOLE
    body = _wire(asked.body, json_text)
    types = asked.headers.get("content-type", "")
    named = types.lower() if isinstance(types, str) else ""
    form = named.startswith("application/x-www-form-urlencoded")
    if _MARKED_TEXT.search(body) if "json" in named or asked.body.kind == "json" else form and _MARKED.search(body):
        return Unfit.REDACTED
    left_out: list[str] = []
    fields: list[Field] = []
    encoded = bool(body) and asked.body.coding is None and _is_coded(asked.headers.get("content-encoding", ""))
    for name, values in asked.headers.items():
        if encoded and name.encode() in BODY_FIELDS:
            continue  # they tell of the bytes as they were coded
        for value in values if isinstance(values, list) else [values]:
            if MARK.search(value) is None and (credentials or not is_credential_field(name, value)):
                fields.append((name.encode(), value.encode()))
            elif name not in put:
                left_out.append(name)
    target, missing = _target(asked.path, asked.query, query, own, credentials)
    # Asked again, it is a span of its own: not the one that the shadow was sent then.
    fields, _ = fields_for_shadow(end_to_end(tuple(fields)), shadow, credentials=True, record=uuid7())
    return Again(
        asked.method,
        target,
        with_content_length(fields, len(body)),
        body,
        tuple(dict.fromkeys((*left_out, *missing))),
        decoded=encoded,
        inexact=not encoded and len(body) != asked.body.size,
    )


def unnamed(record: Record, methods: frozenset[str]) -> list[str]:
    """What keeps a request from being sent again: its method, or the one that a POST asks to be taken for."""
    if "*" in methods:
        return []
    asked = record.request
    target = f"{asked.path}?{asked.query}".encode()
    found = methods_of(asked.method, tuple(_fields(asked.headers)), target)
    return [method for method in found if method not in methods]


def _fields(headers: Mapping[str, str | list[str]]) -> Iterator[Field]:
    for name, values in headers.items():
        for value in values if isinstance(values, list) else [values]:
            yield name.encode(), value.encode()


def _wire(body: Body, json_text: bytes | None) -> bytes:
    if body.kind == "json":
        assert json_text is not None  # that is where the value was read from
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
    """Path and query as bytes, and the parameters that are not among them, as they are told: `?name` or `;name`."""
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
