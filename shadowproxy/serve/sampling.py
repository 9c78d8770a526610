"""Which requests a shadow is asked. Pure, and the same for every shadow, worker and replica."""

import fnmatch
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from hashlib import blake2b

import orjson

from shadowproxy.exchange import Field, Request
from shadowproxy.serve.headers import find
from shadowproxy.serve.payload import NotRead, json_value

Key = Callable[[Request], str | None]
"""What of a request decides its bucket; None where the request has no such thing."""


def bucket(salt: str, key: str) -> float:
    """A number in [0, 100) that depends on `salt` and `key` alone. Chosen when below `percent`: 5 % is within 10 %."""
    digest = blake2b(key.encode("utf-8", "surrogatepass"), digest_size=8, key=salt.encode()[:64]).digest()
    return (int.from_bytes(digest) >> 11) * (100.0 / (1 << 53))  # 53 bits: exact in a float, so never 100.0


def sampler(key: str, salt: str) -> Callable[[Request], float]:
    """The bucket of a request by the config's `sampling`. A request without that key goes by its request ID."""
    read = _key(key)

    def of(request: Request) -> float:
        value = read(request)
        return bucket(salt, request.id if value is None else value)

    return of


def _key(key: str) -> Key:
    kind, _, name = key.partition(":")
    if kind == "header":
        lower = name.lower().encode()
        return lambda request: _text(find(request.fields, lower))
    if kind == "cookie":
        return lambda request: _cookie(request, name)
    if kind == "json":
        tokens = pointer_tokens(name)
        return lambda request: _json(request, tokens)
    return lambda request: request.id


def _text(value: bytes | None) -> str | None:
    return None if value is None else value.decode("utf-8", "surrogateescape")


def _cookie(request: Request, name: str) -> str | None:
    # Not http.cookies: one pair that it does not like, a JSON value or a name with brackets, and it reads none of them.
    for field, value in request.fields:
        if field.lower() == b"cookie":
            for pair in value.decode("latin-1").split(";"):
                key, _, text = pair.strip().partition("=")
                if key == name:
                    return text
    return None


def _json(request: Request, tokens: Sequence[str]) -> str | None:
    try:
        value = json_value(request.fields, request.body)
        for token in tokens:
            value = value[int(token)] if isinstance(value, list) else value[token]
    except (NotRead, ValueError, LookupError, TypeError):
        return None
    return value if isinstance(value, str) else orjson.dumps(value).decode()


def pointer_tokens(pointer: str) -> tuple[str, ...]:
    """RFC 6901: the names and indices of a JSON pointer."""
    return tuple(token.replace("~1", "/").replace("~0", "~") for token in pointer.split("/")[1:])


@dataclass(frozen=True, slots=True)
class Match:
    """A shadow's `match`, ready to ask. Empty parts match everything; `*` in a glob matches slashes too."""

    methods: frozenset[str]
    paths: tuple[re.Pattern[str], ...]
    headers: tuple[tuple[bytes, re.Pattern[str]], ...]

    @classmethod
    def of(cls, methods: Sequence[str], paths: Sequence[str], headers: Mapping[str, str]) -> "Match":
        return cls(
            frozenset(methods),
            tuple(re.compile(fnmatch.translate(glob)) for glob in paths),
            tuple((name.lower().encode(), re.compile(fnmatch.translate(glob))) for name, glob in headers.items()),
        )

    def __call__(self, request: Request) -> bool:
        if self.methods and request.method not in self.methods:
            return False
        if self.paths:
            path = request.target.partition(b"?")[0].decode("utf-8", "replace")
            if not any(glob.match(path) for glob in self.paths):
                return False
        return not self.headers or all(_has(request.fields, name, glob) for name, glob in self.headers)


def _has(fields: Sequence[Field], name: bytes, glob: re.Pattern[str]) -> bool:
    return any(field.lower() == name and glob.match(value.decode("utf-8", "replace")) for field, value in fields)
