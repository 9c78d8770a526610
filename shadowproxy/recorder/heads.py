"""Header fields as a record has them, what they say about the body, and the secrets in them.

Heads and fields that come again and again are cached, unless there is a secret in them.
"""

from itertools import chain
from typing import Final, TypeAlias
from urllib.parse import unquote_plus

import orjson

from shadowproxy.caches import Cache, remembered
from shadowproxy.content import is_json_type, is_lines_type
from shadowproxy.credential_values import credentials_in, is_plain_id, looks_random
from shadowproxy.credentials import may_be_credential_header
from shadowproxy.echoes import field_values, leaves, taken_out
from shadowproxy.exchange import Field, Fields
from shadowproxy.record import NO_HEADERS, Headers
from shadowproxy.redaction import Redaction


class Head:
    """A message's header fields: `headers` for the record, also as its `json`, and what they say about the body.

    `types` are the Content-Types, of which the first counts; `names_json`, `names_lines` and `names_form` are what that
    one names: JSON, JSON by the line, a form. `codings` are the content codings. `secrets` were redacted in the fields.
    """

    __slots__ = ("codings", "headers", "json", "names_form", "names_json", "names_lines", "secrets", "types")

    def __init__(
        self,
        headers: dict[str, str | list[str]],
        json: bytes,
        types: tuple[str, ...],
        kinds: tuple[bool, bool, bool],
        codings: str,
        secrets: tuple[str, ...],
    ) -> None:
        self.headers = headers
        self.json = json
        self.types = types
        self.names_json, self.names_lines, self.names_form = kinds
        self.codings = codings
        self.secrets = secrets


_REST: Final = 20_000
"""Heads after which caching is tried again, where a server has an ID in each and so never sends the same."""


Plain: TypeAlias = tuple[str, str, bool, bytes]
"""A field in which nothing is redacted: its name, its value, whether it describes the body, and its member in JSON."""

_SHORT: Final = 15
"""Characters. Plain digits that are longer are an ID or a trace, which come once: caching these would push out what
comes again and again."""


def _field_weight(field: Field, read: Plain) -> int:
    return 800 + 6 * len(field[0]) + 6 * len(field[1])


def _head_weight(fields: Fields, head: Head) -> int:
    return 1600 + 6 * sum(map(len, chain.from_iterable(fields))) + 500 * len(fields)


class Heads:
    """The heads of the latest responses, and in `plain` the latest fields in which nothing is redacted.

    Most servers send the same head again, but for the Date, and reading it each time was a tenth of what a record
    costs. A request has an ID of its own, and beside it fields that come again and again: to look through each of these
    for credentials was another tenth.
    """

    __slots__ = ("_found", "_known", "_rest", "plain")

    def __init__(self) -> None:
        self.plain: Cache[Field, Plain] = Cache("recorded fields", _field_weight)
        self._known: Cache[Fields, Head] = Cache("recorded heads", _head_weight)
        self._found = 0
        self._rest = 0

    def __len__(self) -> int:
        return len(self._known)

    def read(self, fields: Fields, redaction: Redaction) -> Head:
        """The head with these fields, which is cached where nothing in it is redacted."""
        if self._rest:
            self._rest -= 1
            return read_head(fields, redaction, self.plain)
        head = self._known.get(fields)
        if head is not None:
            self._found += 1
            return head
        head = read_head(fields, redaction, self.plain)
        if not head.secrets and (forgotten := self._known.keep(fields, head)):
            self._rest = _REST if self._found < forgotten else 0
            self._found = 0
        return head


_OF_BODY: Final = ("inference-header-content-length", "x-amzn-sagemaker-content-type")
"""Fields beside Content-Type without which a body cannot be read: the length of the JSON before tensors, and the type
of what event frames carry."""


def fields_of_body(head: Head) -> Headers:
    """The fields that say how a body is read, when its content codings are undone."""
    types, headers = head.types, head.headers
    found: dict[str, str | list[str]] = {}
    if types:
        found["content-type"] = types[0] if len(types) == 1 else list(types)
    for name in _OF_BODY:
        if name in headers:
            found[name] = headers[name]
    return found or NO_HEADERS


def read_head(fields: Fields, redaction: Redaction, plain: Cache[Field, Plain]) -> Head:
    """The head with these fields. A request's is read so each time: it has a request ID of its own."""
    headers: dict[str, str | list[str]] = {}
    types: tuple[str, ...] = ()
    codings = ""
    secrets: list[str] = []
    members: list[bytes] = []
    for each in fields:
        seen = plain.get(each)
        if seen is not None:
            name, text, of_body, member = seen
        else:
            name, text, of_body, member, found, comes_again = _read_field(each, redaction)
            if found:
                secrets += found
            elif comes_again:
                plain.keep(each, (name, text, of_body, member))
        members.append(member)
        if of_body:
            raw = text_of(each[1])
            if name == "content-type":
                types = (*types, raw)
            else:
                codings = f"{codings},{raw}" if codings else raw
        before = headers.get(name)
        if before is None:
            headers[name] = text
        elif isinstance(before, list):
            before.append(text)
        else:
            headers[name] = [before, text]
    kinds = _kinds[types[0]] if types else _NO_KIND
    json = b"{%b}" % b",".join(members) if len(headers) == len(members) else orjson.dumps(headers)
    return Head(headers, json, types, kinds, codings, tuple(secrets))


def _read_field(field: Field, redaction: Redaction) -> tuple[str, str, bool, bytes, list[str], bool]:
    """A field as `Plain` has it, the secrets in it, and whether it may come again."""
    raw_name, raw_value = field
    name, hidden, doubtful, of_body, in_json = _names[raw_name, redaction.headers]
    text = text_of(raw_value)
    secrets: list[str] = []
    shown = text
    comes_again = True
    if hidden or (doubtful and looks_random(text)):
        shown = redaction.mark(raw_value)
        secrets += field_values(name, text)
    elif is_plain_id(text):
        comes_again = len(text) <= _SHORT
    else:
        shown = redaction.value(text)
        if shown != text:
            secrets += with_decoded(taken_out(text, shown))
            for each in credentials_in(text):
                secrets.append(each.secret)
                if each.secret[:1] in ("{", "["):
                    secrets += leaves(each.secret.encode())
    return name, shown, of_body, in_json + orjson.dumps(shown), secrets, comes_again


def _read_name(key: tuple[bytes, frozenset[str]]) -> tuple[str, bool, bool, bool, bytes]:
    """A field's name as it is recorded; whether its value is hidden; whether it is hidden where it looks like a key;
    whether the field describes the body; and the name in JSON, with the colon."""
    raw_name, redacted = key
    name = text_of(raw_name).lower()
    hidden = Redaction(headers=redacted).hides_header(raw_name)
    of_body = name in ("content-type", "content-encoding")
    return name, hidden, may_be_credential_header(raw_name), of_body, orjson.dumps(name) + b":"


def _named_kinds(content_type: str) -> tuple[bool, bool, bool]:
    """Whether a Content-Type names JSON, JSON by the line, a form."""
    form = content_type.lower().startswith("application/x-www-form-urlencoded")
    return is_json_type(content_type), is_lines_type(content_type), form


_NO_KIND: Final = (False, False, False)
_names: Final = remembered("recorded names", _read_name, lambda key, _: 500 + 6 * len(key[0]))
_kinds: Final = remembered("content types", _named_kinds)


def with_decoded(values: list[str]) -> list[str]:
    """Values out of a query or a form as they were sent, and percent-decoded where that differs."""
    return values + [unquote_plus(value) for value in values if "%" in value or "+" in value]


def text_of(raw: bytes) -> str:
    """Header and target bytes as text: UTF-8 where they are that, else Latin-1, which takes any byte."""
    try:
        return raw.decode()
    except UnicodeDecodeError:
        return raw.decode("latin-1")
