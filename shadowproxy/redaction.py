"""What a secret is replaced by in the log, and where it is looked for: header fields, URLs, form and JSON bodies.

Three rules. What is not redacted stays byte for byte as it was: values are cut out of the raw text, nothing is
serialised anew. What cannot be searched is not told: a body that should be redacted and is not JSON is left out.
A shared secret looks the same wherever it stands: with a key, the mark is an HMAC of the value, so records join.
"""

import hashlib
import hmac
import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from functools import lru_cache
from typing import Any
from urllib.parse import unquote_plus

import orjson

from shadowproxy.credentials import is_credential_header, is_credential_parameter

BLANK = "[redacted]"
MARK = re.compile(r"\[redacted(?::hmac:[0-9a-f]{16})?\]")
"""Whatever `Redaction.mark` gives, to be found again in a log."""


@dataclass(frozen=True, slots=True)
class Redaction:
    """What to redact beyond the built-in list. Header and parameter names in lower case; `json` are JSON pointers in
    which `*` stands for any key or index. With `hash_key`, marks are `[redacted:hmac:<16 hex>]` instead of blank.
    """

    headers: frozenset[str] = frozenset()
    query: frozenset[str] = frozenset()
    json: tuple[str, ...] = ()
    hash_key: bytes | None = field(default=None, repr=False)

    def mark(self, secret: bytes) -> str:
        """What stands in a secret's place. Equal secrets have equal marks under one key, wherever they stood."""
        if self.hash_key is None:
            return BLANK
        return f"[redacted:hmac:{hmac.digest(self.hash_key, secret, hashlib.sha256).hex()[:16]}]"

    def hides_header(self, name: bytes) -> bool:
        """Whether a header field of this name (any case) is told of by its mark only."""
        if is_credential_header(name):
            return True
        return bool(self.headers) and name.decode("latin-1").lower() in self.headers

    def parameters(self, text: str) -> str:
        """A query string, or a form body, with the values of credential parameters replaced; the rest as it was."""
        if "=" not in text:
            return text
        return "".join(map(self._parameter, _SEPARATOR.split(text)))

    def _parameter(self, text: str) -> str:
        name, equals, value = text.partition("=")
        if equals and value:
            plain = unquote_plus(name)
            if is_credential_parameter(plain) or plain.lower() in self.query:
                return f"{name}={self.mark(unquote_plus(value).encode())}"
        return text

    def urls(self, text: str) -> str:
        """Text that may hold URLs (Referer, Location, X-Original-URL), with their credentials replaced."""
        if "//" in text and "@" in text:
            text = _USERINFO.sub(lambda match: f"//{self.mark(match[1].encode())}@", text)
        if "=" in text and ("?" in text or "#" in text):
            text = _URL_QUERY.sub(lambda match: match[1] + self.parameters(match[2]), text)
        return text

    def body(self, raw: bytes) -> bytes:
        """A valid JSON text with the values that `json` points at replaced by their marks; all else byte for byte.

        Each occurrence of a repeated key is found. A value is marked whole, be it an object.
        """
        wanted = _wanted(self.json)
        if b"\\" not in raw and not any(all(key in raw for key in keys) for keys in wanted.keys):
            return raw  # most bodies: with nothing escaped, a key that is not there as text is not there
        pieces: list[bytes] = []
        end = 0
        for start, stop in _spans(raw, wanted.root):
            secret = raw[start:stop]
            # A string is marked by what it says, however it was escaped, so that it joins with the same in a header.
            plain = orjson.loads(secret).encode() if secret[:1] == b'"' else secret
            pieces += (raw[end:start], b'"', self.mark(plain).encode(), b'"')
            end = stop
        return b"".join((*pieces, raw[end:]))

    def difference(self, path: str, value: Any) -> Any:
        """What a difference may show of the value at a JSON pointer: blank where `json` points there, above or below.

        Below, because the value may hold the secret, if only as the beginning of a shortened text.
        """
        nodes = [_wanted(self.json).root]
        for token in _tokens(path):
            if any(node.ends for node in nodes):
                return BLANK
            nodes = _below(nodes, token)
        if any(node.ends for node in nodes):
            return BLANK
        return BLANK if nodes and isinstance(value, str | dict | list | tuple) else value

    def error(self, text: str) -> str:
        """An error's text as one line that holds no URL's user information or query."""
        return _ERROR_QUERY.sub(r"\1?...", self.urls(" ".join(text.split())))


_SEPARATOR = re.compile(r"([&;])")
_USERINFO = re.compile(r"//([^/?#\s\"'<>@]++)@")
_URL_QUERY = re.compile(r"([?#])([^?#\s\"'<>]++)")
_ERROR_QUERY = re.compile(r"(//[^\s?\"'<>]++)\?[^\s\"'<>]++")


@dataclass(slots=True)
class _Node:
    """A step in the pointers to redact: `ends` where a pointer ends, `keys` what may follow, `*` for anything."""

    ends: bool = False
    keys: dict[str, "_Node"] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class _Wanted:
    root: _Node
    keys: tuple[tuple[bytes, ...], ...]
    """The keys, as JSON text, that must all be in a body for each pointer to be in it. An index is in none."""


@lru_cache(maxsize=64)
def _wanted(pointers: tuple[str, ...]) -> _Wanted:
    root = _Node()
    for pointer in pointers:
        node = root
        for token in _tokens(pointer):
            node = node.keys.setdefault(token, _Node())
        node.ends = True
    return _Wanted(
        root,
        tuple(
            tuple(orjson.dumps(token) for token in _tokens(pointer) if token != "*" and not token.isdigit())
            for pointer in pointers
        ),
    )


def _tokens(pointer: str) -> list[str]:
    """RFC 6901: the reference tokens of a JSON pointer."""
    return [token.replace("~1", "/").replace("~0", "~") for token in pointer.split("/")[1:]]


def _below(nodes: list[_Node], token: str) -> list[_Node]:
    return [node.keys[name] for node in nodes for name in (token, "*") if name in node.keys]


_TOKEN = re.compile(rb'"(?:[^"\\]++|\\.)*+"|[{}\[\],:]|[^\s{}\[\],:"]++')


def _spans(raw: bytes, root: _Node) -> Iterator[tuple[int, int]]:
    """Where in a valid JSON text the values stand that pointers end at; outermost only, in order."""
    stack: list[tuple[list[_Node], bool]] = []  # the nodes at each open container, and whether it is an array
    indices: list[int] = []
    here = [root]  # the nodes at the value that comes next
    key_next = False
    hidden: tuple[int, int] | None = None  # where a value to redact began, and how deep
    for match in _TOKEN.finditer(raw):
        token = match[0]
        if token in (b"}", b"]"):
            stack.pop()
            indices.pop()
            key_next = False
            if hidden is not None and len(stack) == hidden[1]:
                yield hidden[0], match.end()
                hidden = None
        elif token == b",":
            nodes, array = stack[-1]
            key_next = not array
            if array:
                indices[-1] += 1
                here = _below(nodes, str(indices[-1])) if nodes else nodes
        elif token == b":":
            pass
        elif key_next:
            nodes = stack[-1][0]
            here = _below(nodes, orjson.loads(token)) if nodes else nodes
            key_next = False
        else:
            opens = token in (b"{", b"[")
            if hidden is None and any(node.ends for node in here):
                if opens:
                    hidden = (match.start(), len(stack))
                else:
                    yield match.span()
            if opens:
                nodes = [] if hidden is not None else here
                array = token == b"["
                stack.append((nodes, array))
                indices.append(0)
                key_next = not array
                here = _below(nodes, "0") if array else nodes
