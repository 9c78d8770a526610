"""Rewrites a shadow's request as the configuration says: its path, and values in its JSON body. Pure.

A value is cut out of the body's text and another put in its place; every other byte stays. Parsing the body and writing
it again would change the digits of its numbers (1.10, or an ID of more than 64 bits), so that the shadow would answer a
different question than live.
"""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import orjson

from shadowproxy.exchange import Field
from shadowproxy.serve.policy.headers import with_content_length
from shadowproxy.serve.policy.payload import json_text, value
from shadowproxy.serve.policy.sampling import pointer_tokens

BODY_FIELDS = frozenset(
    {
        b"content-encoding",
        b"content-md5",
        b"content-digest",
        b"repr-digest",
        b"digest",
        b"signature",
        b"signature-input",
        b"x-amz-content-sha256",
        b"x-ms-content-sha256",
    }
)
"""Fields that describe the bytes of a body (RFC 9530, RFC 9421). They would be wrong for a changed body."""

# These patterns run on JSON that a parser has accepted, so they need not detect errors.
_STRING = re.compile(rb'"[^"\\]*+(?:\\.[^"\\]*+)*+"')
_SCALAR = re.compile(rb"[^\s,\]}]++")
_QUOTE_OR_BRACKET = re.compile(rb'["\[\]{}]')
_SPACE = re.compile(rb"\s*+")
_COLON = re.compile(rb"\s*+:\s*+")
_COMMA = re.compile(rb"\s*+,?\s*+")
_BOM = b"\xef\xbb\xbf"
_QUOTE, _BACKSLASH = b'"\\'


@dataclass(frozen=True, slots=True)
class Rewrite:
    """`paths` maps whole paths to whole paths. `values` are JSON pointers, as tokens, with the JSON to put there."""

    paths: Mapping[bytes, bytes]
    values: tuple[tuple[tuple[str, ...], bytes], ...]

    @classmethod
    def of(cls, paths: Mapping[str, str], values: Mapping[str, Any]) -> "Rewrite":
        return cls(
            {old.encode(): new.encode() for old, new in paths.items()},
            tuple((pointer_tokens(pointer), orjson.dumps(value, default=float)) for pointer, value in values.items()),
        )

    def apply_path(self, target: bytes) -> bytes:
        """The target with its path replaced if it is in `paths`; the query stays."""
        if not self.paths:
            return target
        path, mark, query = target.partition(b"?")
        return self.paths.get(path, path) + mark + query

    def apply_values(self, fields: list[Field], body: bytes) -> tuple[list[Field], bytes]:
        """Fields and body with `values` put in, each if the body's JSON has its pointer; unchanged if it has none.

        A coded body is sent without its coding once it is changed. Raises NotRead if there is a body and it cannot be
        searched: the shadow then gets a different question than was intended, which must be logged.
        """
        if not self.values or not body:
            return fields, body
        text = json_text(fields, body)
        changed = text
        for tokens, replacement in self.values:
            # Replaced, never added: a request without the field is not one that the setting is for.
            begin = _find(changed, tokens)
            if begin is not None:
                end = _end(changed, begin)
                changed = changed[:begin] + replacement + changed[end:]
        if changed == text:
            return fields, body
        kept = [field for field in fields if field[0].lower() not in BODY_FIELDS]
        return with_content_length(kept, len(changed)), changed


def raw_value_at(text: bytes, tokens: Sequence[str]) -> bytes | None:
    """The part of a JSON text that a pointer leads to, byte for byte; None if it leads nowhere.

    A parser must have accepted the text. If a key occurs twice the last one counts, as it does for parsers.
    """
    span = span_at(text, tokens)
    return None if span is None else text[span[0] : span[1]]


def span_at(text: bytes, tokens: Sequence[str]) -> tuple[int, int] | None:
    """Where that part begins and ends."""
    begin = _find(text, tokens)
    return None if begin is None else (begin, _end(text, begin))


def _find(body: bytes, tokens: Sequence[str]) -> int | None:
    """The index at which the value begins that a JSON pointer leads to."""
    at: int | None = _past(_SPACE, body, 3 if body.startswith(_BOM) else 0)
    for token in tokens:
        if at is None or body[at] not in b"[{":
            return None
        at = _child(body, at, token)
    return at


def _child(body: bytes, at: int, name: str) -> int | None:
    """The index at which an element of the array or object at `at` begins; None if it has no such element.

    `name` is the element's number or key; if a key occurs twice the last one counts.
    """
    in_object = body[at] == 0x7B  # "{"
    found = None
    index = 0
    at = _past(_SPACE, body, at + 1)
    while body[at] not in b"]}":
        if in_object:
            end = _end(body, at)
            label = _key(body[at:end])
            at = _past(_COLON, body, end)
            if label == name:
                found = at
        elif str(index) == name:
            return at
        else:
            index += 1
        at = _past(_COMMA, body, _end(body, at))
    return found


def _key(text: bytes) -> Any:
    return value(text) if b"\\" in text else text[1:-1].decode()


def _end(body: bytes, at: int) -> int:
    """The index at which the value that begins at `at` ends."""
    if body[at] == _QUOTE:
        return _string_end(body, at)
    if body[at] not in b"[{":
        return _past(_SCALAR, body, at)
    depth = 0
    while match := _QUOTE_OR_BRACKET.search(body, at):
        at = match.start()
        if body[at] == _QUOTE:
            at = _string_end(body, at)
            continue
        depth += 1 if body[at] in b"[{" else -1
        at += 1
        if depth == 0:
            return at
    raise AssertionError("JSON that a parser has accepted is balanced")


def _string_end(body: bytes, at: int) -> int:
    end = body.find(b'"', at + 1)  # ten times as fast as the pattern, which matters for strings of megabytes
    return end + 1 if body[end - 1] != _BACKSLASH else _past(_STRING, body, at)


def _past(pattern: re.Pattern[bytes], body: bytes, at: int) -> int:
    match = pattern.match(body, at)
    assert match is not None
    return match.end()
