"""What the configuration changes in a shadow's request: its path, and values in its JSON body. Pure.

A value is cut out of the body's text and another put in its place, and every other byte stays: to parse the body and
write it again would change the digits of its numbers (1.10, or an ID of more than 64 bits), and the shadow would answer
another question than live.
"""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import orjson

from shadowproxy.serve.sampling import pointer_tokens

# These read JSON that a parser has accepted, and so need not tell good from bad.
_SCALAR = re.compile(rb'"(?:[^"\\]|\\.)*+"|[^\s,\]}]++')
_STRING_OR_BRACKET = re.compile(rb'"(?:[^"\\]|\\.)*+"|[\[\]{}]')
_SPACE = re.compile(rb"\s*+")
_COLON = re.compile(rb"\s*+:\s*+")
_COMMA = re.compile(rb"\s*+,?\s*+")


@dataclass(frozen=True, slots=True)
class Rewrite:
    """`paths`: whole path to whole path. `values`: JSON pointer tokens, and the JSON that takes the place."""

    paths: Mapping[bytes, bytes]
    values: tuple[tuple[tuple[str, ...], bytes], ...]

    @classmethod
    def of(cls, paths: Mapping[str, str], values: Mapping[str, Any]) -> "Rewrite":
        return cls(
            {old.encode(): new.encode() for old, new in paths.items()},
            tuple((pointer_tokens(pointer), orjson.dumps(value)) for pointer, value in values.items()),
        )

    def target(self, target: bytes) -> bytes:
        """The target with its path replaced, if it is one of `paths`; the query stays."""
        path, mark, query = target.partition(b"?")
        return self.paths.get(path, path) + mark + query

    def body(self, body: bytes) -> bytes:
        """The body with `values` put in where its JSON has such a place; unchanged where it has none, or is no JSON."""
        if not self.values:
            return body
        try:
            orjson.loads(body)
        except orjson.JSONDecodeError:
            return body
        for tokens, value in self.values:
            # Replaced, never added: a request without the field is not the one that was meant.
            begin = _find(body, tokens)
            if begin is not None:
                body = body[:begin] + value + body[_end(body, begin) :]
        return body


def _find(body: bytes, tokens: Sequence[str]) -> int | None:
    """Where the value begins that a JSON pointer leads to."""
    at: int | None = _past(_SPACE, body, 0)
    for token in tokens:
        if at is None or body[at] not in b"[{":
            return None
        at = _child(body, at, token)
    return at


def _child(body: bytes, at: int, name: str) -> int | None:
    """Where in the array or object that begins at `at` the value of that index or key begins; the last of several."""
    in_object = body[at] == 0x7B  # "{"
    found = None
    index = 0
    at = _past(_SPACE, body, at + 1)
    while body[at] not in b"]}":
        if in_object:
            end = _end(body, at)
            label = orjson.loads(body[at:end])
            at = _past(_COLON, body, end)
        else:
            label = str(index)
            index += 1
        if label == name:
            found = at
        at = _past(_COMMA, body, _end(body, at))
    return found


def _end(body: bytes, at: int) -> int:
    """Where the value that begins at `at` ends."""
    if body[at] not in b"[{":
        return _past(_SCALAR, body, at)
    depth = 0
    for token in _STRING_OR_BRACKET.finditer(body, at):
        depth += {b"[": 1, b"{": 1, b"]": -1, b"}": -1}.get(token[0], 0)
        if depth == 0:
            return token.end()
    raise AssertionError("JSON that a parser has accepted is balanced")


def _past(pattern: re.Pattern[bytes], body: bytes, at: int) -> int:
    match = pattern.match(body, at)
    assert match is not None
    return match.end()
