"""Header fields as a record has them, what they say about the body, and the secrets in them.

Heads and fields that come again and again are cached, unless there is a secret in them.
"""

from itertools import chain
from typing import Final, NamedTuple
from urllib.parse import unquote_plus

from shadowproxy.caches import Cache, remembered
from shadowproxy.content import is_json_type, is_lines_type
from shadowproxy.credential_values import credentials_in, looks_random
from shadowproxy.credentials import may_be_credential_header
from shadowproxy.echoes import field_values, leaves, taken_out
from shadowproxy.exchange import Field, Fields
from shadowproxy.redaction import Redaction


class Head(NamedTuple):
    """A message's header fields: `headers` for the record, and what they say about the body.

    `types` are the Content-Types, of which the first counts; `names_json`, `names_lines` and `names_form` are what that
    one names: JSON, JSON by the line, a form. `codings` are the content codings. `secrets` were redacted in the fields.
    """

    headers: dict[str, str | list[str]]
    types: tuple[str, ...]
    names_json: bool
    names_lines: bool
    names_form: bool
    codings: str
    secrets: tuple[str, ...]


_REST: Final = 20_000
"""Heads after which caching is tried again, where a server has an ID in each and so never sends the same."""


def _field_weight(field: Field, read: tuple[str, str, bool]) -> int:
    return 700 + 5 * len(field[0]) + 5 * len(field[1])


def _head_weight(fields: Fields, head: Head) -> int:
    return 1500 + 5 * sum(map(len, chain.from_iterable(fields))) + 500 * len(fields)


class Heads:
    """The heads of the latest responses, and in `plain` the latest fields in which nothing is redacted.

    Most servers send the same head again, but for the Date, and reading it each time was a tenth of what a record
    costs. A request has an ID of its own, and beside it fields that come again and again: to look through each of these
    for credentials was another tenth. Of each plain field: its name, its value, and whether it describes the body.
    """

    __slots__ = ("_found", "_known", "_rest", "plain")

    def __init__(self) -> None:
        self.plain: Cache[Field, tuple[str, str, bool]] = Cache("recorded fields", _field_weight)
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


def read_head(fields: Fields, redaction: Redaction, plain: Cache[Field, tuple[str, str, bool]]) -> Head:
    """The head with these fields. A request's is read so each time: it has a request ID of its own."""
    headers: dict[str, str | list[str]] = {}
    types: tuple[str, ...] = ()
    codings = ""
    secrets: list[str] = []
    for each in fields:
        seen = plain.get(each)
        if seen is not None:
            name, text, of_body = seen
        else:
            name, text, of_body, found = _read_field(each, redaction)
            if found:
                secrets += found
            else:
                plain.keep(each, (name, text, of_body))
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
    json_type = lines_type = form_type = False
    if types:
        json_type, lines_type, form_type = _kinds[types[0]]
    return Head(headers, types, json_type, lines_type, form_type, codings, tuple(secrets))


def _read_field(field: Field, redaction: Redaction) -> tuple[str, str, bool, list[str]]:
    """A field's name, its value as it is recorded, whether it describes the body, and the secrets in it."""
    raw_name, raw_value = field
    name, hidden, doubtful, of_body = _names[raw_name, redaction.headers]
    text = text_of(raw_value)
    if hidden or (doubtful and looks_random(text)):
        return name, redaction.mark(raw_value), of_body, list(field_values(name, text))
    shown = redaction.value(text)
    secrets: list[str] = []
    if shown != text:
        secrets += with_decoded(taken_out(text, shown))
        for each in credentials_in(text):
            secrets.append(each.secret)
            if each.secret[:1] in ("{", "["):
                secrets += leaves(each.secret.encode())
    return name, shown, of_body, secrets


def _read_name(key: tuple[bytes, frozenset[str]]) -> tuple[str, bool, bool, bool]:
    """A field's name as it is recorded; whether its value is hidden; whether it is hidden where it looks like a key;
    and whether the field describes the body."""
    raw_name, redacted = key
    name = text_of(raw_name).lower()
    hidden = Redaction(headers=redacted).hides_header(raw_name)
    return name, hidden, may_be_credential_header(raw_name), name in ("content-type", "content-encoding")


def _named_kinds(content_type: str) -> tuple[bool, bool, bool]:
    """Whether a Content-Type names JSON, JSON by the line, a form."""
    form = content_type.lower().startswith("application/x-www-form-urlencoded")
    return is_json_type(content_type), is_lines_type(content_type), form


_names: Final = remembered("recorded names", _read_name, lambda key, _: 500 + 4 * len(key[0]))
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
