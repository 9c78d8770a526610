"""Header fields as a record has them, what they say about the body, and the secrets in them.

Heads and fields that come again and again are cached, unless there is a secret in them.
"""

from functools import lru_cache
from itertools import chain
from typing import Final, NamedTuple
from urllib.parse import unquote_plus

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


_HEADS: Final = 256
_LONGEST_HEAD: Final = 2048
"""Heads that are cached, and bytes of the longest: servers choose them, and the cache must stay small."""

_REST: Final = 20_000
"""Heads after which caching is tried again, where a server has an ID in each and so never sends the same."""


_PLAIN: Final = 1024
_LONGEST_PLAIN: Final = 256
"""Fields that are cached, and bytes of the longest: callers choose them."""


class PlainFields:
    """The latest fields in which nothing is redacted, as they are recorded.

    A request has an ID of its own, and beside it fields that come again and again. To look through each of these for
    credentials was a tenth of what a record costs.
    """

    __slots__ = ("_known",)

    def __init__(self) -> None:
        self._known: dict[Field, tuple[str, str, bool]] = {}

    def __len__(self) -> int:
        return len(self._known)

    def get(self, field: Field) -> tuple[str, str, bool] | None:
        """Its name, its value, and whether it describes the body."""
        return self._known.get(field)

    def add(self, field: Field, name: str, text: str, of_body: bool) -> None:
        if len(field[0]) + len(field[1]) > _LONGEST_PLAIN:
            return
        if len(self._known) >= _PLAIN:
            self._known.clear()
        self._known[field] = (name, text, of_body)


class Heads:
    """The heads of the latest responses.

    Most servers send the same head again, but for the Date, and reading it each time was a tenth of what a record
    costs.
    """

    __slots__ = ("_found", "_known", "_rest", "plain")

    def __init__(self) -> None:
        self.plain = PlainFields()
        self._known: dict[Fields, Head] = {}
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
        if not head.secrets and sum(map(len, chain.from_iterable(fields))) <= _LONGEST_HEAD:
            if len(self._known) >= _HEADS:
                self._rest = _REST if self._found < _HEADS else 0
                self._known.clear()
                self._found = 0
            self._known[fields] = head
        return head


def read_head(fields: Fields, redaction: Redaction, plain: PlainFields) -> Head:
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
                plain.add(each, name, text, of_body)
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
        names = _named_kinds if len(types[0]) <= _LONGEST_NAME else _named_kinds.__wrapped__
        json_type, lines_type, form_type = names(types[0])
    return Head(headers, types, json_type, lines_type, form_type, codings, tuple(secrets))


def _read_field(field: Field, redaction: Redaction) -> tuple[str, str, bool, list[str]]:
    """A field's name, its value as it is recorded, whether it describes the body, and the secrets in it."""
    raw_name, raw_value = field
    read_name = _read_name if len(raw_name) <= _LONGEST_NAME else _read_name.__wrapped__
    name, hidden, doubtful, of_body = read_name(raw_name, redaction.headers)
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


_LONGEST_NAME: Final = 64
"""Bytes of the longest field name or type that is cached: peers choose them, and the cache must stay small."""


@lru_cache(maxsize=1024)
def _read_name(raw_name: bytes, redacted: frozenset[str]) -> tuple[str, bool, bool, bool]:
    """A field's name as it is recorded; whether its value is hidden; whether it is hidden where it looks like a key;
    and whether the field describes the body."""
    name = text_of(raw_name).lower()
    hidden = Redaction(headers=redacted).hides_header(raw_name)
    return name, hidden, may_be_credential_header(raw_name), name in ("content-type", "content-encoding")


@lru_cache(maxsize=256)
def _named_kinds(content_type: str) -> tuple[bool, bool, bool]:
    """Whether a Content-Type names JSON, JSON by the line, a form."""
    form = content_type.lower().startswith("application/x-www-form-urlencoded")
    return is_json_type(content_type), is_lines_type(content_type), form


def with_decoded(values: list[str]) -> list[str]:
    """Values out of a query or a form as they were sent, and percent-decoded where that differs."""
    return values + [unquote_plus(value) for value in values if "%" in value or "+" in value]


def text_of(raw: bytes) -> str:
    """Header and target bytes as text: UTF-8 where they are that, else Latin-1, which takes any byte."""
    try:
        return raw.decode()
    except UnicodeDecodeError:
        return raw.decode("latin-1")
