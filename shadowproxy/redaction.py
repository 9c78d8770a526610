"""Replaces secrets by marks, in the log and in fields for shadows: in header fields, URLs, form and JSON bodies.

1. Everything else stays byte for byte: values are cut out of the raw text, and nothing is serialised again.
2. What cannot be searched is not recorded: a body that should be redacted and is not JSON is left out.
3. Equal secrets have equal marks everywhere: with a key, the mark is an HMAC of the value, so records can be joined.
"""

import fnmatch
import hashlib
import hmac
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from functools import lru_cache
from typing import Any, Final
from urllib.parse import unquote_plus

import orjson

from shadowproxy.budget import Budget
from shadowproxy.caches import remembered
from shadowproxy.credential_values import (
    PATH_PARAMETER,
    PIECES,
    credentials_in,
    is_credential,
    is_credential_field,
    is_plain_query,
)
from shadowproxy.credentials import is_credential_header
from shadowproxy.pointers import Patterns, State, pointer_segments, pointer_token

BLANK = "[redacted]"
MARK = re.compile(r"\[redacted(?::hmac:[0-9a-f]{16})?\]")
"""Finds the marks of `Redaction.mark` in a log."""


@dataclass(frozen=True, slots=True)
class Redaction:
    """What to redact beyond the built-in list. In names of header fields and parameters, `*` is any run of characters;
    case and `_` for `-` make no difference. `json` are patterns of JSON pointers, as those that comparing takes. With
    `hash_key`, marks are `[redacted:hmac:<16 hex>]` instead of blank.
    """

    headers: frozenset[str] = frozenset()
    query: frozenset[str] = frozenset()
    json: tuple[str, ...] = ()
    hash_key: bytes | None = field(default=None, repr=False)

    def mark(self, secret: bytes) -> str:
        """What replaces a secret. Equal secrets have equal marks under one key, wherever they are."""
        if self.hash_key is None:
            return BLANK
        return f"[redacted:hmac:{hmac.digest(self.hash_key, secret, hashlib.sha256).hex()[:16]}]"

    def hides_header(self, name: bytes) -> bool:
        """Whether the value of a header field of this name (any case) is replaced by a mark."""
        if is_credential_header(name):
            return True
        return bool(self.headers) and _named(self.headers, name.decode("latin-1"))

    def hidden(self, fields: Mapping[str, str], parameters: Mapping[str, str]) -> list[str]:
        """The values of those header fields and query parameters that are replaced by marks."""
        hidden = [
            value
            for name, value in fields.items()
            if self.hides_header(name.encode()) or is_credential_field(name, value)
        ]
        hidden += [value for name, value in parameters.items() if self.hides_parameter(name, value)]
        return list(map(str, hidden))

    def hides_parameter(self, name: str, value: str) -> bool:
        """Whether the value of a parameter of this name is replaced by a mark."""
        return (bool(self.query) and _named(self.query, name)) or is_credential(name, value)

    def parameters(self, text: str) -> str:
        """A query string, or a form body, with the values of credential parameters replaced; the rest as it was."""
        if not self.query and is_plain_query(text):
            return text
        return "".join(map(self._parameter, _SEPARATOR.split(text)))

    def _parameter(self, text: str) -> str:
        name, equals, value = text.partition("=")
        if equals:
            plain_name, plain = unquote_plus(name), unquote_plus(value)
            if value and self.hides_parameter(plain_name, plain):
                return f"{name}={self.mark(plain.encode())}"
        elif credentials_in(plain := unquote_plus(text)):
            return self.mark(plain.encode())
        return text

    def path(self, text: str) -> str:
        """A path, with the values of credential parameters in its segments and its fragment replaced."""
        if "=" not in text:
            return text
        return PATH_PARAMETER.sub(lambda match: match[0][0] + self._parameter(match[0][1:]), text)

    def value(self, text: str) -> str:
        """A header field's value with the credentials in it replaced: nothing but a mark where it is nothing else."""
        if _plain_values[text]:
            return text
        text = self.urls(text)
        found = credentials_in(text)
        if not found:
            return text
        pieces: list[str] = []
        end = 0
        for each in found:
            pieces += (text[end : each.start], each.quote, self.mark(each.secret.encode()), each.quote)
            end = each.end
        return "".join((*pieces, text[end:]))

    def urls(self, text: str) -> str:
        """Text that may hold URLs (Referer, Location, X-Original-URL) with the credentials in them replaced."""
        if "//" in text and "@" in text:
            text = _USERINFO.sub(lambda match: f"//{self.mark(match[1].encode())}@", text)
        if "=" in text and ("?" in text or "#" in text):
            text = _URL_QUERY.sub(lambda match: match[1] + self.parameters(match[2]), text)
        return text

    def body(self, raw: bytes, taken: list[bytes] | None = None, budget: Budget | None = None) -> bytes:
        """A valid JSON text with the values that `json` points at replaced by their marks; all else byte for byte.

        Each occurrence of a repeated key is found. A value is replaced whole, even an object. The JSON of each is added
        to `taken`. Raises Exhausted if that costs more than the budget.
        """
        budget = budget or Budget(steps=_UNBOUNDED, memory=_UNBOUNDED)
        wanted = _wanted(self.json)
        # Without escapes that could spell a key in another way, a key whose text is not in the body is not in it.
        if b"\\u" not in raw and b"\\/" not in raw and not any(all(key in raw for key in keys) for keys in wanted.keys):
            return raw
        pieces: list[bytes] = []
        end = 0
        for start, stop in _spans(raw, wanted.root, budget):
            budget.hold(_HELD + stop - start)
            secret = raw[start:stop]
            if taken is not None:
                taken.append(secret)
            # The mark is of the string without its escapes, so that it equals that of the same value in a header.
            plain = orjson.loads(secret).encode() if secret[:1] == b'"' else secret
            pieces += (raw[end:start], b'"', self.mark(plain).encode(), b'"')
            end = stop
        return b"".join((*pieces, raw[end:]))

    def behind_keys(self, raw: bytes) -> Iterator[bytes]:
        """The JSON after the last key of each of `json`, wherever that key is: more than they point at, for a text that
        is too long to be walked through."""
        for key in dict.fromkeys([keys[-1] for keys in _wanted(self.json).keys if keys]):
            at = raw.find(key)
            for _ in range(_MOST_BEHIND):
                if at < 0:
                    break
                end = at + len(key)
                value = _BEHIND.match(raw, end)
                if value is not None:
                    start = value.start("value")
                    end = _closed(raw, start) if raw[start : start + 1] in (b"{", b"[") else value.end()
                    yield raw[start:end]
                at = raw.find(key, end)

    def lines(self, raw: bytes, taken: list[bytes] | None = None, budget: Budget | None = None) -> bytes | None:
        """As `body`, for text with one JSON value a line: NDJSON and server-sent events. None if a line is not JSON.

        In events, `data:` comes before the value, and lines of other fields have no value. In `application/json-seq`
        (RFC 7464) a record separator comes before it.
        """
        budget = budget or Budget(steps=_UNBOUNDED, memory=_UNBOUNDED)
        shown: list[bytes] = []
        budget.hold(_HELD * raw.count(b"\n"))
        for line in raw.split(b"\n"):
            budget.spend(_LINE + (len(line) >> 3))
            data = _DATA.match(line)
            start = data.end() if data is not None else 0
            value = line[start:]
            if value.strip() not in (b"", b"[DONE]") and (data is not None or _OF_EVENTS.match(line) is None):
                try:
                    orjson.loads(value)
                except orjson.JSONDecodeError:
                    return None
                value = self.body(value, taken, budget)
            shown.append(line[:start] + value)
        return b"\n".join(shown)

    def difference(self, path: str, live: Any, shadow: Any) -> tuple[str, Any, Any]:
        """What a difference at a JSON pointer may show: its place, live's value and the shadow's.

        Below a place that `json` points at, only that place is shown: the names below it are part of the secret value.
        """
        place = _wanted(self.json).root
        shown = ""
        for segment in pointer_segments(path):
            if place.ends:
                break
            place = place.below(segment)
            shown += f"/{pointer_token(segment)}"
        if place.ends or "…" in path:  # nobody knows where a pointer leads that was cut short
            return shown, BLANK, BLANK
        return shown, _masked(live, place, path), _masked(shadow, place, path)

    def error(self, text: str) -> str:
        """An error's text as one line that holds no URL's user information or query."""
        return _ERROR_QUERY.sub(r"\1?...", self.urls(" ".join(text.split())))


_DATA = re.compile(rb"data: ?|\x1e")
_OF_EVENTS = re.compile(rb":|(?:event|id|retry)[:\r]|(?:event|id|retry)$")
_SEPARATOR = re.compile(f"({PIECES.pattern})")


def _is_plain(text: str) -> bool:
    """Whether no configuration redacts anything in a field's value."""
    if ("//" in text and "@" in text) or ("=" in text and ("?" in text or "#" in text)):
        return False  # a URL, whose parameters the configuration may name
    return not credentials_in(text)


_plain_values: Final = remembered("plain field values", _is_plain)


_USERINFO = re.compile(r"//([^/?#\s\"'<>@]++)@")
_URL_QUERY = re.compile(r"([?#])([^?#\s\"'<>]++)")
_ERROR_QUERY = re.compile(r"(//[^\s?\"'<>]++)\?[^\s\"'<>]++")


def _named(names: frozenset[str], name: str) -> bool:
    exact, wild = _names(names)
    plain = _spelt(name)
    return plain in exact or (wild is not None and wild.match(plain) is not None)


@lru_cache(maxsize=64)
def _names(names: frozenset[str]) -> tuple[frozenset[str], re.Pattern[str] | None]:
    """The names without a `*`, and a pattern for those with one. It takes time linear in a name's length."""
    spelt = sorted({_spelt(name) for name in names})
    # Only `*` is a wildcard here, not what else fnmatch knows: user[id] is the name of a parameter.
    wild = [re.sub(r"[\[?]", r"[\g<0>]", name) for name in spelt if "*" in name]
    return (
        frozenset([name for name in spelt if "*" not in name]),
        re.compile("|".join([fnmatch.translate(name) for name in wild])) if wild else None,
    )


def _spelt(name: str) -> str:
    """A name as it is compared: CGI and WSGI cannot tell `X-Customer` from `X_Customer`."""
    return name.lower().replace("_", "-")


_MOST_PLACES: Final = 4096


class _Places:
    """The places that the pointers tell apart. Most bodies have few of them, and their number here is bounded."""

    __slots__ = ("count", "patterns", "root")

    def __init__(self, pointers: tuple[str, ...]) -> None:
        self.patterns = Patterns(pointers)
        self.count = 0
        self.root = _Place(self, self.patterns.start)


class _Place:
    """A place in a body. `ends`: a pointer leads here. `open`: one may yet lead to what is below."""

    __slots__ = ("_below", "_places", "_state", "ends", "open")

    def __init__(self, places: _Places, state: State) -> None:
        self._places = places
        self._state = state
        self._below: dict[str, _Place] = {}
        self.ends = bool(places.patterns.ended(state))
        self.open = bool(state)

    def below(self, key: str) -> "_Place":
        places = self._places
        if key not in places.patterns.named:
            key = "*"  # all keys that no pointer names are one place
        found = self._below.get(key)
        if found is None:
            found = _Place(places, places.patterns.below(self._state, key))
            if places.count >= _MOST_PLACES:
                places.count = 0
                places.root.forget()
            self._below[key] = found
            places.count += 1
        return found

    def forget(self) -> None:
        self._below.clear()


@dataclass(frozen=True, slots=True)
class _Wanted:
    root: _Place
    keys: tuple[tuple[bytes, ...], ...]
    """The keys, as JSON text, that must all be in a body for each pointer to be in it. An index is in none."""


@lru_cache(maxsize=64)
def _wanted(pointers: tuple[str, ...]) -> _Wanted:
    return _Wanted(
        _Places(pointers).root,
        tuple(
            [
                tuple([orjson.dumps(part) for part in pointer_segments(pointer) if not _is_no_key(part)])
                for pointer in pointers
            ]
        ),
    )


def _is_no_key(segment: str) -> bool:
    return segment in ("*", "**") or segment.isdigit()


_DEEPEST_SHOWN: Final = 32


def _masked(value: Any, place: _Place, path: str, depth: int = 0) -> Any:
    """A difference's value, with what the pointers lead to below its place replaced."""
    if place.ends or depth > _DEEPEST_SHOWN:
        return BLANK
    if isinstance(value, dict):
        return {key: _masked(each, place.below(key), path, depth + 1) for key, each in value.items()}
    if isinstance(value, list):
        return [_masked(each, place.below(str(at)), path, depth + 1) for at, each in enumerate(value)]
    # At the root, a text may be the beginning of a whole body that could not be searched.
    return BLANK if path == "" and depth == 0 and isinstance(value, str) else value


_MOST_BEHIND: Final = 1000
_LONGEST_BEHIND: Final = 64 << 10
_BEHIND = re.compile(rb'\s*+:\s*+(?P<value>"(?:[^"\\]++|\\.)*+"?|[{\[]|[^\s,}\]]++)', re.DOTALL)


def _closed(raw: bytes, start: int) -> int:
    """Where the object or array that begins at `start` ends, or where the search for its end stops."""
    longest = start + _LONGEST_BEHIND
    depth = 0
    for match in _TOKEN.finditer(raw, start, longest):
        token = match[0]
        if token in (b"{", b"["):
            depth += 1
        elif token in (b"}", b"]"):
            depth -= 1
            if depth == 0:
                return match.end()
    return longest


# A string that never ends is one too, up to the end: else each of its quotes would be tried as the beginning of one.
_TOKEN = re.compile(rb'"(?:[^"\\]++|\\.?)*+"?+|[{}\[\],:]|[^\s{}\[\],:"]++', re.DOTALL)


_UNBOUNDED: Final = 1 << 60
_HELD: Final = 200
"""About the bytes of memory that one line, or one value that is taken out, holds beside its own."""
_LINE: Final = 20
_PASSED: Final = 4
"""Steps of one token: a match of a pattern, and a look at what it is."""


def _spans(raw: bytes, root: _Place, budget: Budget) -> Iterator[tuple[int, int]]:
    """Where in a valid JSON text the values are that pointers end at: the outermost only, in order."""
    stack: list[tuple[_Place, bool]] = []  # the place of each open container, and whether it is an array
    indices: list[int] = []
    here = root  # the place of the value that comes next
    key_next = False
    hidden: tuple[int, int] | None = None  # where a value to redact began, and how deep
    for match in _TOKEN.finditer(raw):
        budget.spend(_PASSED)
        token = match[0]
        if token in (b"}", b"]"):
            stack.pop()
            indices.pop()
            key_next = False
            if hidden is not None and len(stack) == hidden[1]:
                yield hidden[0], match.end()
                hidden = None
        elif token == b",":
            place, array = stack[-1]
            key_next = not array
            if array:
                indices[-1] += 1
                here = place.below(str(indices[-1])) if place.open else place
        elif token == b":":
            pass
        elif key_next:
            place = stack[-1][0]
            here = place.below(orjson.loads(token)) if place.open else place
            key_next = False
        else:
            opens = token in (b"{", b"[")
            if hidden is None and here.ends:
                if opens:
                    hidden = (match.start(), len(stack))
                else:
                    yield match.span()
            if opens:
                array = token == b"["
                stack.append((here, array))
                indices.append(0)
                key_next = not array
                here = here.below("0") if array and here.open else here
