"""Finds in an exchange's answers what was redacted in its request: servers echo what they receive.

FastAPI's 422 repeats the input as JSON, MLflow's schema error has it in the middle of a sentence, debugging pages list
the header fields. The rules:

1. A secret is a whole value of the request: a header field's, a parameter's, a string or a number of redacted JSON.
   One of fewer than six characters is not looked for: `1` and `yes` are in every answer.
2. It is replaced by its mark where it is a whole leaf of an answer's JSON, and within texts where no letter or digit is
   next to it. Keys stay: an answer without its names could not be compared again.
3. What is not a secret stays byte for byte, as in `Redaction`.
"""

import json
import re
from collections.abc import Callable, Iterable, Iterator, Mapping
from heapq import heappop, heappush, heapreplace
from typing import Any, Final
from urllib.parse import quote, unquote_plus

import orjson

from shadowproxy.budget import Budget
from shadowproxy.caches import remembered
from shadowproxy.credentials import is_credential_parameter
from shadowproxy.redaction import BLANK, MARK

SHORTEST: Final = 6
"""Characters of a secret that is looked for."""

_MOST_WITHIN: Final = 64
"""Secrets that are looked for within texts too: each takes a search, and a redacted list may hold thousands."""

_LONG: Final = 1000
"""Characters. A longer secret is looked for as it is, and in no other spelling: to spell a document takes too long."""

# A quote alone begins a string that never ends: so do all quotes after it.
_LEAF = re.compile(rb'"(?:[^"\\]++|\\.)*+"(\s*+:)?|-?[0-9][0-9.eE+-]*+|"', re.DOTALL)
_NUMBERS = re.compile(rb"-?[0-9][0-9.eE+-]*+")
_PIECE = re.compile(
    rb"(?:\"(?P<quoted>(?:[^\"\\]++|\\(?:.|\Z))*+)(?:\"|\Z)|'(?P<single>[^'\n]*+)(?:'|\Z)|(?P<bare>[^\s{}\[\],:\"']++))"
    rb"(?P<name>\s*+:)?+",
    re.DOTALL,
)
_NO_NUMBERS: Final = (b"Infinity", b"-Infinity")  # Python writes them, and they are no secrets
_NAME_AND_VALUE = re.compile(r"[&;]")
_NUMBER_BEGINS: Final = frozenset("-0123456789in")  # a float may be inf or nan
_SCHEME = re.compile(r"(?:bearer|basic|token|apikey|api-key|key|digest|negotiate|dpop) +(\S+)", re.IGNORECASE)
_NEEDS_NO_QUOTING = re.compile(r"[A-Za-z0-9._~-]*+")
_DEEPEST: Final = 32


def taken_out(before: str, after: str) -> list[str]:
    """What was replaced by marks: `after` is `before` with marks in some places."""
    pieces = MARK.split(after)
    found: list[str] = []
    start = len(pieces[0])
    for piece in pieces[1:-1]:
        end = before.find(piece, start)
        if end < 0:
            return found
        found.append(before[start:end])
        start = end + len(piece)
    if len(pieces) > 1:
        found.append(before[start : len(before) - len(pieces[-1])])
    return found


def leaves(raw: bytes) -> Iterator[str]:
    """The strings and numbers in JSON text, which may be broken; numbers also as other programs write them."""
    for match in _LEAF.finditer(raw):
        token = match[0]
        if match[1] is not None:
            continue
        if token == b'"':
            for number in _NUMBERS.finditer(raw, match.end()):
                if len(number[0]) >= SHORTEST:
                    yield from _spelt(number[0].decode())
            return
        if token[:1] == b'"':
            text = _text_of(token)
            if text is not None:
                yield text
        elif len(token) >= SHORTEST:
            yield from _spelt(token.decode())


def pieces(raw: bytes) -> Iterator[str]:
    """Possible values in a text that should be JSON and is not: its last string may have no end, others no quotes or
    single ones. A name before a colon is no value."""
    for match in _PIECE.finditer(raw):
        if match["name"] is not None or match["bare"] in _NO_NUMBERS:
            continue
        text = _text_of(b'"%b"' % match["quoted"]) if match["quoted"] is not None else None
        if text is None:
            text = next(filter(None, match.group("quoted", "single", "bare")), b"").decode("utf-8", "replace")
        yield text


def part_values(text: str) -> Iterator[str]:
    """The contents of the parts of a multipart body."""
    boundary = text.lstrip("\r\n").partition("\n")[0].rstrip("\r")
    if len(boundary) < 3 or not boundary.startswith("--"):
        return
    for part in text.split(boundary):
        _, blank, value = part.partition("\r\n\r\n")
        if not blank:
            _, _, value = part.partition("\n\n")
        yield value.removesuffix("\n").removesuffix("\r")


def form_values(text: str) -> Iterator[str]:
    """The values of a form or a query, each as it was sent and decoded."""
    for each in _NAME_AND_VALUE.split(text):
        value = each.partition("=")[2]
        yield value
        yield unquote_plus(value)


def field_values(name: str, value: str) -> Iterator[str]:
    """The secrets in a redacted header field: its whole value, and a Cookie's parts with a credential's name."""
    yield value
    if name == "cookie":
        for pair in value.split(";"):
            key, _, text = pair.strip().partition("=")
            if is_credential_parameter(key):
                yield text


def _text_of(token: bytes) -> str | None:
    try:
        text: str = orjson.loads(token)
    except orjson.JSONDecodeError:  # a lone surrogate, or no JSON at all
        return None
    return text


def _spelt(number: str) -> Iterator[str]:
    yield number
    try:
        value = float(number)
    except ValueError:
        return
    yield repr(value)
    if value.is_integer() and abs(value) < 1e16:
        yield str(int(value))


class _Prepared:
    """How one request's secrets are looked for.

    `whole` maps each secret to itself. `needles` maps each spelling in which some of them are looked for within texts
    to its secret; `in_json` are these spellings as JSON. `leaves_in_json` are the JSON leaves to look for if there are
    very many secrets. `has_numbers`: some secret may be what Python writes for a number.
    """

    __slots__ = ("has_numbers", "in_json", "leaves_in_json", "needles", "whole")

    def __init__(self, secrets: tuple[str, ...]) -> None:
        self.whole: dict[str, str] = {}
        self.needles: dict[str, str] = {}
        many = False
        searched = 0
        for secret in dict.fromkeys(secrets):
            if len(secret) < SHORTEST or (secret[0] == "[" and MARK.fullmatch(secret)):
                continue
            self.whole[secret] = secret
            credential = _SCHEME.fullmatch(secret) if " " in secret else None
            if credential is not None and len(credential[1]) >= SHORTEST:
                secret = credential[1]  # found with its scheme and without
                self.whole[secret] = secret
            if searched >= _MOST_WITHIN:
                many = True
                continue
            searched += 1
            self.needles[secret] = secret
            if len(secret) < _LONG and _NEEDS_NO_QUOTING.fullmatch(secret) is None:
                self.needles.setdefault(quote(secret, safe="", errors="replace"), secret)
                self.needles.setdefault(_escaped(secret), secret)
                self.needles.setdefault(json.dumps(secret)[1:-1], secret)
        self.has_numbers = any(secret[0] in _NUMBER_BEGINS for secret in self.whole)
        self.in_json = [_escaped(needle).encode("utf-8", "surrogatepass") for needle in self.needles]
        # Too many to be looked for one by one are looked for as leaves, by what each is in JSON.
        leaves_of = [_escaped(secret).encode("utf-8", "surrogatepass") for secret in self.whole] if many else []
        self.leaves_in_json = frozenset([*leaves_of, *[b'"%b"' % leaf for leaf in leaves_of]])


def _weight(secrets: tuple[str, ...], ready: _Prepared) -> int:
    return 3000 + 800 * len(secrets) + 8 * sum(map(len, ready.needles))


# Callers send the same credentials again and again.
prepared: Final = remembered("echoed secrets", _Prepared, _weight)


def _alone(text: str, needle: str, start: int, budget: Budget | None) -> int:
    """Where a text has the needle next, with no letter, digit or half of a number beside it; -1 where it has not.

    Of ASCII alone, as other scripts write without spaces.
    """
    while (at := text.find(needle, start)) >= 0:
        end = at + len(needle)
        before, after = text[max(0, at - 2) : at], text[end : end + 2]
        if not (
            (before and before[-1] in _ALPHANUMERIC)
            or (len(before) == 2 and before[1] == "." and before[0] in _DIGITS)
            or (after and after[0] in _ALPHANUMERIC)
            or (len(after) == 2 and after[0] == "." and after[1] in _DIGITS)
        ):
            return at
        start = at + 1
        if budget is not None:
            budget.spend(_PASSED)
    return -1


_DIGITS: Final = frozenset("0123456789")
_ALPHANUMERIC: Final = frozenset("0123456789abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ")
_PASSED: Final = 4
_FOUND: Final = 20
"""Steps of a leaf that is passed over, and of a secret that is replaced."""


class _LastClean:
    """The header fields that were looked through last without finding one of these secrets. Most servers send the same
    fields again, and most callers the same credentials."""

    __slots__ = ("headers", "prepared")

    def __init__(self, prepared: _Prepared | None, headers: Mapping[str, str | list[str]]) -> None:
        self.prepared = prepared
        self.headers = headers


class _Clean:
    __slots__ = ("last",)

    def __init__(self) -> None:
        self.last = _LastClean(None, {})


_clean: Final = _Clean()


class Echoes:
    """Takes the secrets of one request out of its answers. `met`: one of them was found so far.

    `mark` makes a secret's mark, as for the redaction of the request.
    """

    __slots__ = (
        "_clean",
        "_in_json",
        "_leaves_in_json",
        "_mark",
        "_needles",
        "_prepared",
        "_whole",
        "met",
    )

    def __init__(self, secrets: Iterable[str], mark: Callable[[bytes], str]) -> None:
        self.met = False
        self._mark = mark
        self._clean: bytes | None = None
        looked_for = tuple(secrets)
        self._prepared = prepared[looked_for]
        self._whole = self._prepared.whole
        self._needles = self._prepared.needles
        self._in_json = self._prepared.in_json
        self._leaves_in_json = self._prepared.leaves_in_json

    def __bool__(self) -> bool:
        return bool(self._whole)

    def __len__(self) -> int:
        """How many spellings are looked for within texts."""
        return len(self._needles)

    def text(self, text: str, budget: Budget | None = None) -> str:
        """A text without the secrets in it; the same object where there are none. Raises Exhausted only where a budget
        is given."""
        if len(text) < SHORTEST:
            return text
        secret = self._whole.get(text)
        if secret is not None:
            return self._marked(secret)
        if budget is not None:
            budget.spend_bytes(len(text) * (1 + len(self._needles)))
        present = [needle for needle in self._needles if needle in text]
        return self._replaced(text, present, budget) if present else text

    def json(self, raw: bytes, value: Any, budget: Budget) -> bytes:
        """A valid JSON text, which says `value`, without the secrets in its leaves; the same object if it has none.
        Raises Exhausted."""
        if raw is self._clean:  # what a shadow answers is mostly what live did
            return raw
        if not self._may_be_in(raw, value, budget):
            self._clean = raw
            return raw
        made: list[bytes] = []
        end = 0
        for match in _LEAF.finditer(raw):
            budget.spend(_PASSED + (match.end() - match.start() >> 3))
            if match[1] is not None:
                continue
            token = match[0]
            shown = self._leaf(token)
            if shown is not token:
                start, after = match.span()
                made += (raw[end:start], shown)
                end = after
        if not made:
            self._clean = raw
            return raw
        return b"".join((*made, raw[end:]))

    def is_in_bytes(self, raw: bytes) -> bool:
        """Whether a secret is in bytes that are no text. It cannot be cut out of them."""
        for needle in self._needles:
            if needle.encode("utf-8", "surrogatepass") in raw:
                self.met = True
                return True
        return False

    def headers(self, headers: Mapping[str, str | list[str]]) -> Mapping[str, str | list[str]]:
        """Header fields as recorded, without the secrets in their values."""
        last = _clean.last
        if headers is last.headers and self._prepared is last.prepared:
            return headers
        changed: dict[str, str | list[str]] = {}
        for name, value in headers.items():
            if isinstance(value, str):
                shown: str | list[str] = self.text(value)
            else:
                shown = [self.text(each) for each in value]
            if shown != value:
                changed[name] = shown
        if changed:
            return {**headers, **changed}
        _clean.last = _LastClean(self._prepared, headers)
        return headers

    def difference(self, value: Any, depth: int = 0) -> Any:
        """A value that a difference shows, without the secrets in it.

        A difference shows only a part of a long text, which may begin or end within a secret. If a secret was found in
        these answers, such a part is blank.
        """
        if isinstance(value, str):
            if self.met and (value.startswith("…") or value.endswith("…")):
                return BLANK
            return self.text(value)
        if isinstance(value, bool) or value is None:
            return value
        if isinstance(value, (int, float)):  # compiled, `int | float` would be made each time
            secret = self._whole.get(repr(value)) if self._prepared.has_numbers else None
            return value if secret is None else self._marked(secret)
        if depth > _DEEPEST:
            return BLANK
        if isinstance(value, dict):
            return {key: self.difference(each, depth + 1) for key, each in value.items()}
        if isinstance(value, list | tuple):
            return [self.difference(each, depth + 1) for each in value]
        return value

    def beginning_at_the_end(self, text: str) -> int:
        """Where a secret begins whose beginning is the end of a text that was cut off; else the text's length."""
        tail = text[-_LONG:]
        first = len(text)
        for needle in self._needles:
            if len(needle) > _LONG:
                at = text.find(needle[:_LONG])
                if at >= 0 and needle.startswith(text[at:]):
                    first = min(first, at)
            if needle[:SHORTEST] in tail:
                for length in range(min(len(needle) - 1, len(tail)), SHORTEST - 1, -1):
                    if tail.endswith(needle[:length]):
                        first = min(first, len(text) - length)
                        break
        self.met = self.met or first < len(text)
        return first

    def _may_be_in(self, raw: bytes, value: Any, budget: Budget) -> bool:
        budget.spend_bytes(len(raw) * (4 + len(self._in_json)))
        # Not `in`: for bytes Python makes an error each time, which it then drops.
        if raw.find(b"\\") >= 0 and (raw.find(b"\\u") >= 0 or raw.find(b"\\/") >= 0):
            try:
                raw = orjson.dumps(value)
            except orjson.JSONEncodeError:
                return True
        if self._leaves_in_json:
            for match in _LEAF.finditer(raw):
                budget.spend(_PASSED)
                if match[1] is None and match[0] in self._leaves_in_json:
                    return True
        for needle in self._in_json:  # noqa: SIM110  # compiled, a generator costs more than the search
            if raw.find(needle) >= 0:
                return True
        return False

    def _leaf(self, token: bytes) -> bytes:
        """A string or a number of JSON without the secrets in it; the same object if it has none."""
        if token[:1] != b'"':
            secret = self._whole.get(token.decode())
            return token if secret is None else b'"%b"' % self._marked(secret).encode()
        text = _text_of(token)
        if text is None:
            return token
        shown = self.text(text)
        return token if shown == text else orjson.dumps(shown)

    def _replaced(self, text: str, present: list[str], budget: Budget | None) -> str:
        """A text without these needles, all of which are in it: where two overlap, the one that begins first, and of
        these the longest."""
        for needle in present:
            if len(needle) >= _LONG:
                text = text.replace(needle, self._marked(needle))
        # The next place of each that is still to come. A pattern of all needles would try each at each character.
        coming: list[tuple[int, int, str]] = []
        for needle in present:
            if len(needle) < _LONG and (at := _alone(text, needle, 0, budget)) >= 0:
                heappush(coming, (at, -len(needle), needle))
        made: list[str] = []
        end = 0
        while coming:
            at, _, needle = coming[0]
            if budget is not None:
                budget.spend(_FOUND)
            if at >= end:
                made += (text[end:at], self._marked(self._needles[needle]))
                end = at + len(needle)
            at = _alone(text, needle, max(end, at + 1), budget)
            if at < 0:
                heappop(coming)
            else:
                heapreplace(coming, (at, -len(needle), needle))
        return "".join((*made, text[end:])) if made else text

    def _marked(self, secret: str) -> str:
        self.met = True
        return self._mark(secret.encode("utf-8", "surrogatepass"))


def _escaped(text: str) -> str:
    """A text as JSON has it between the quotes."""
    try:
        return orjson.dumps(text)[1:-1].decode()
    except orjson.JSONEncodeError:
        return text
