"""Decides which requests a shadow gets. Pure; every worker and replica decides alike."""

import fnmatch
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from hashlib import blake2b
from typing import Any, Final, Protocol
from urllib.parse import unquote_plus

from shadowproxy.exchange import Field, Fields, Request
from shadowproxy.serve.policy.headers import find
from shadowproxy.serve.policy.not_chosen import NotChosen
from shadowproxy.serve.policy.payload import JsonBody, NotJson, NotRead, child, text_of, value_at

Key = Callable[[Request, JsonBody | None], str | None]
"""Reads the sampling key of a request; None if the request has none."""


class Position(Protocol):
    """The position of a request in [0, 100). `body` is given if others may read it too, so that it is parsed once."""

    def __call__(self, request: Request, body: JsonBody | None = None, /) -> float: ...


def bucket(salt: str, key: str) -> float:
    """A number in [0, 100) that depends on `salt` and `key` alone.

    A request is chosen if its number is below `percent`: all that 5 % chooses, 10 % chooses too.
    """
    digest = blake2b(key.encode("utf-8", "surrogatepass"), digest_size=8, key=salt.encode()[:64]).digest()
    return (int.from_bytes(digest) >> 11) * (100.0 / (1 << 53))  # 53 bits: exact in a float, so never 100.0


def sampler(key: str, salt: str) -> Position:
    """Positions by the configuration's `sampling`. A request without the key is sampled by its request ID."""
    read = _key(key)

    def position(request: Request, body: JsonBody | None = None, /) -> float:
        value = read(request, body)
        return bucket(salt, request.id if value is None else value)

    return position


def _key(key: str) -> Key:
    kind, _, name = key.partition(":")
    if kind == "header":
        lower = name.lower().encode()
        return lambda request, _: _text(find(request.fields, lower))
    if kind == "cookie":
        return lambda request, _: _cookie(request, name)
    if kind == "json":
        tokens = pointer_tokens(name)
        return lambda request, body: _json(body or JsonBody(request), tokens)
    return lambda request, _: request.id


def _text(value: bytes | None) -> str | None:
    return None if value is None else value.decode("utf-8", "surrogateescape")


def _cookie(request: Request, name: str) -> str | None:
    # Not http.cookies: if one pair holds a JSON value or a name with brackets, it reads none of them.
    for field, value in request.fields:
        if field.lower() == b"cookie":
            for pair in value.decode("latin-1").split(";"):
                key, _, text = pair.strip().partition("=")
                if key == name:
                    return text
    return None


def _json(body: JsonBody, tokens: Sequence[str]) -> str | None:
    try:
        return text_of(value_at(body.value(), tokens))
    except (NotRead, LookupError):
        return None


def pointer_tokens(pointer: str) -> tuple[str, ...]:
    """The names and indices of a JSON pointer (RFC 6901)."""
    return tuple(token.replace("~1", "/").replace("~0", "~") for token in pointer.split("/")[1:])


HeaderGlobs = tuple[tuple[bytes, re.Pattern[str]], ...]
JsonGlobs = tuple[tuple[tuple[str, ...], re.Pattern[str]], ...]

_OVERRIDES: Final = (b"x-http-method-override", b"x-http-method", b"x-method-override")


@dataclass(frozen=True, slots=True)
class Unless:
    """A shadow's `match.not`, compiled. A request is left out if any one part applies to it."""

    methods: frozenset[str]
    paths: tuple[re.Pattern[str], ...]
    headers: HeaderGlobs
    json: JsonGlobs

    @classmethod
    def of(
        cls,
        methods: Sequence[str] = (),
        paths: Sequence[str] = (),
        headers: Mapping[str, str] | None = None,
        json: Mapping[str, str] | None = None,
    ) -> "Unless":
        return cls(frozenset(methods), _path_globs(paths), _header_globs(headers), _json_globs(json))

    def leaves_out(self, request: Request) -> bool:
        """Whether the request is left out because of its method, path or header fields."""
        if self.methods and (
            "*" in self.methods
            or any(method in self.methods for method in methods_of(request.method, request.fields, request.target))
        ):
            return True
        if self.paths and _on_path(request, self.paths):
            return True
        return any(_has(request.fields, name, glob) for name, glob in self.headers)


@dataclass(frozen=True, slots=True)
class Match:
    """A shadow's `match`, compiled. Empty parts match everything; `*` in a glob matches slashes too."""

    methods: frozenset[str]
    paths: tuple[re.Pattern[str], ...]
    headers: HeaderGlobs
    json: JsonGlobs
    unless: Unless | None

    @classmethod
    def of(
        cls,
        methods: Sequence[str],
        paths: Sequence[str],
        headers: Mapping[str, str],
        json: Mapping[str, str] | None = None,
        unless: Unless | None = None,
    ) -> "Match":
        named = frozenset() if "*" in methods else frozenset(methods)
        left_out = None if unless == Unless.of() else unless  # most leave nothing out, so there is nothing to check
        return cls(named, _path_globs(paths), _header_globs(headers), _json_globs(json), left_out)

    @property
    def reads_body(self) -> bool:
        return bool(self.json or (self.unless is not None and self.unless.json))

    def __call__(self, request: Request) -> bool:
        return self.reason_not_chosen(request) is None

    def reason_not_chosen(self, request: Request, body: JsonBody | None = None) -> NotChosen | None:
        """Why the request does not match, None if it does. The body is read last, and only if needed."""
        if self.methods:
            if request.method not in self.methods:
                return NotChosen.METHOD
            if request.method == "POST" and not self.methods.issuperset(
                _override_methods(request.fields, request.target)
            ):
                return NotChosen.METHOD
        if self.paths and not _on_path(request, self.paths):
            return NotChosen.MATCH
        if self.headers and not all(_has(request.fields, name, glob) for name, glob in self.headers):
            return NotChosen.MATCH
        if self.unless is not None and self.unless.leaves_out(request):
            return NotChosen.MATCH
        return self._body_reason(body or JsonBody(request)) if self.reads_body else None

    def _body_reason(self, body: JsonBody) -> NotChosen | None:
        try:
            value = body.value()
        except NotJson:
            return NotChosen.MATCH if self.json else None
        except NotRead:
            # It may hold what `not` leaves out. It cannot be checked, so not mirroring it is the safe choice.
            return NotChosen.UNREAD_BODY
        if not all(_fits(value, tokens, 0, glob) for tokens, glob in self.json):
            return NotChosen.MATCH
        left_out = self.unless.json if self.unless is not None else ()
        return NotChosen.MATCH if any(_fits(value, tokens, 0, glob) for tokens, glob in left_out) else None


def _path_globs(globs: Sequence[str]) -> tuple[re.Pattern[str], ...]:
    return tuple(re.compile(fnmatch.translate(glob)) for glob in globs)


def _header_globs(globs: Mapping[str, str] | None) -> HeaderGlobs:
    return tuple((name.lower().encode(), re.compile(fnmatch.translate(glob))) for name, glob in (globs or {}).items())


def _json_globs(globs: Mapping[str, str] | None) -> JsonGlobs:
    return tuple(
        (pointer_tokens(pointer), re.compile(fnmatch.translate(glob))) for pointer, glob in (globs or {}).items()
    )


def methods_of(method: str, fields: Fields, target: bytes) -> list[str]:
    """The method, and the methods that a POST asks its server to treat it as."""
    return [method, *(_override_methods(fields, target) if method == "POST" else ())]


def _override_methods(fields: Fields, target: bytes) -> list[str]:
    """The methods that a POST asks to be treated as, by a header field or by `_method` in its query.

    Many frameworks offer that, among them Rails, Laravel, Spring and Express, for callers that send no PUT or DELETE.
    """
    found: list[str] = []
    for name, value in fields:
        size = len(name)  # the size first: hardly any field has one of these, and every request is checked
        if (size == 22 or size == 17 or size == 13) and name.lower() in _OVERRIDES:
            found.extend([part.strip().upper() for part in value.decode("latin-1").split(",")])
    # The underscore may be percent-encoded. Not `in`: for bytes Python makes an error each time, which it then drops.
    if target.find(b"method=") >= 0:
        for part in target.partition(b"?")[2].decode("latin-1").split("&"):
            key, _, text = part.partition("=")
            if unquote_plus(key) == "_method":
                found.append(unquote_plus(text).strip().upper())
    return found


def _on_path(request: Request, globs: Sequence[re.Pattern[str]]) -> bool:
    path = request.target.partition(b"?")[0].decode("utf-8", "replace")
    return any(glob.match(path) for glob in globs)


def _has(fields: Sequence[Field], name: bytes, glob: re.Pattern[str]) -> bool:
    return any(field.lower() == name and glob.match(value.decode("utf-8", "replace")) for field, value in fields)


def _fits(value: Any, tokens: Sequence[str], step: int, glob: re.Pattern[str]) -> bool:
    """Whether a value that the pointer leads to fits a glob. `*` is any one name or index; one that fits is enough."""
    if step == len(tokens):
        text = text_of(value)
        return text is not None and glob.match(text) is not None
    token = tokens[step]
    if token == "*":
        inner = list(value.values()) if isinstance(value, dict) else value if isinstance(value, list) else []
        return any(_fits(each, tokens, step + 1, glob) for each in inner)
    try:
        found = child(value, token)
    except LookupError:
        return False
    return _fits(found, tokens, step + 1, glob)


WINDOW: Final = 50
"""Requests."""

FEW: Final = 5
"""With no more different keys than this in a window, `percent` chooses among a handful of keys, not among requests."""


class KeyRepeats:
    """Counts how often sampling keys repeat within each window of WINDOW requests.

    `first` counts the requests whose key is new in their window, `again` the others.
    """

    def __init__(self) -> None:
        self.first = 0
        self.again = 0
        self._seen: set[float] = set()
        self._left = WINDOW

    def add(self, position: float) -> int | None:
        """Count a request by its position. At the end of a window with at most FEW keys: how many; else None."""
        if position in self._seen:
            self.again += 1
        else:
            self.first += 1
            self._seen.add(position)
        self._left -= 1
        if self._left:
            return None
        few = len(self._seen)
        self.start_over()
        return few if few <= FEW else None

    def start_over(self) -> None:
        """Begin a new window."""
        self._seen.clear()
        self._left = WINDOW
