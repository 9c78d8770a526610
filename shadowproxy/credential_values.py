r"""Finds credentials in a text by how they are written, under any name: the same ones for the shadows and for the log.

The rules, each of which finds parts of a text:

1. A scheme of HTTP authentication with its credential: `Bearer 6f1c...`, `Basic dXNlcjpwYXNz`. An ordinary word after
   it is none: `Basic`, `bearer of news` and `token classification` hold no credential.
2. A JSON Web Token, a PASETO, a PEM private key, or a key that begins as its issuer's documentation says: `ghp_...`.
3. The value beside a name that credentials.py knows: `"api_key": "..."`, `sid=...; Path=/`, `?token=...`,
   `api_key: ...`.
4. User information in a URL.
5. Percent-encoded or base64-encoded text in which the rules above find something. It is then taken whole.

A pattern must not match a word, a version, a date, a UUID or a hash: `sk-learn` and `"33a64df551425fcc"` are no keys.
Every pattern reads a text once, so that a header of 64 KiB takes milliseconds at most.
"""

import base64
import binascii
import re
from collections.abc import Iterator
from sys import getsizeof
from typing import Final, NamedTuple
from urllib.parse import unquote, unquote_plus

from shadowproxy.caches import remembered
from shadowproxy.credential_shapes import (
    HINT,
    HINT_CHARACTERS,
    KEY,
    PRIVATE_KEY,
    PROOF,
    SCHEME,
    WITH_PARAMETERS,
    WORDY_KEY,
)
from shadowproxy.credentials import (
    is_credential_header,
    is_credential_parameter,
    may_be_credential_header,
    may_be_credential_parameter,
)


class Found(NamedTuple):
    """A credential in a text, and its position. `secret` is that part of the text, or what was decoded from it.

    `quote` goes around what replaces it: JSON stays JSON where the value was no string.
    """

    start: int
    end: int
    secret: str
    quote: str = ""


SHORTEST: Final = 6
"""Characters. A shorter value of a header field is not searched. (`pwd=a` has five.)"""

_LONGEST_NAME: Final = 128
"""Characters of the name in a pair."""

_NESTED: Final = 3
"""How many layers are decoded: a URL within a parameter of a URL within one."""

# --- 3. names --------------------------------------------------------------------------------------------------------

_NAME: Final = re.compile(r"(?P<name>[\w.%\[\]-]++)(?:(?P<equals>[ \t]*+=[ \t]*+)|(?P<colon>[ \t]*+:[ \t]++))?+")
_VALUE: Final = re.compile(r"\"(?P<quoted>[^\"]++)\"|(?P<value>[^\s;,&\"'<>(){}?#]++)")
_JSON_NAME: Final = re.compile(
    r"(?P<escapes>\\{0,7}+)(?P<quote>[\"'])(?P<name>[\w.\[\] $@-]{2,128}+)(?P=escapes)(?P=quote)\s*+:\s*+"
)
_BRACKET_OR_STRING: Final = re.compile(r"\"(?:[^\"\\]++|\\.)*+\"?|[\[{]|[\]}]", re.DOTALL)
_SCALAR: Final = re.compile(r"[^\s,}\]]*+")
_HARMLESS: Final = re.compile(r"(?i:true|false|null|none|nil|yes|no|on|off|required|optional|[0-9]{1,3}|\*+)")
"""Values that only say whether there is a credential, or how many."""
_MARK: Final = re.compile(r"\[redacted(?::hmac:[0-9a-f]{16})?\]?")
_SET_COOKIE: Final = re.compile(r";\s*+(?i:httponly|secure|samesite\s*+=)")

# --- 4. and 5. -------------------------------------------------------------------------------------------------------

_USER_INFORMATION: Final = re.compile(r"//(?P<secret>[^/?#\s\"'<>@]++)@")
_PIECE: Final = re.compile(r"[^\s,;&=\"'<>?#{}()]++=*+")
_CODED: Final = re.compile(r"%[0-9A-Fa-f]{2}")
_CODED_JSON: Final = re.compile(r"(?:ey[JA]|ew[ok0]|W3s|WyJ)[A-Za-z0-9_+/-]{12,}+=*+")

# --- IDs, which hold none ---------------------------------------------------------------------------------------------

_HEXADECIMAL: Final = re.compile(r"(?!.*fc-[0-9a-f])[0-9a-fA-F ./:-]*+")
"""IDs, traces, lengths, addresses: they are new in each request, and no rule finds anything in them but `fc-`."""


def credentials_in(text: str) -> tuple[Found, ...]:
    """Where in a text credentials stand, in order, none within another."""
    if len(text) < SHORTEST or _HEXADECIMAL.fullmatch(text):
        return ()
    return _credentials[text]


def is_plain_id(text: str) -> bool:
    """Whether a text is nothing but digits, as IDs, traces, lengths and addresses are, and so holds no credential."""
    return _HEXADECIMAL.fullmatch(text) is not None


def is_credential(name: str, value: str) -> bool:
    """Whether a parameter, both parts of it percent-decoded, carries a credential."""
    if not value or (value[0] == "[" and _MARK.fullmatch(value)) or _HARMLESS.fullmatch(value):
        return False
    if is_credential_parameter(name) or (may_be_credential_parameter(name) and looks_random(value)):
        return True
    return bool(credentials_in(value))


def is_hidden_by_name(name: bytes, value: str) -> bool:
    """Whether the name of a header field says that its whole value is a credential."""
    return is_credential_header(name) or (may_be_credential_header(name) and looks_random(value))


def is_credential_field(name: str, value: str) -> bool:
    """Whether a header field is, or holds, a credential."""
    return is_hidden_by_name(name.encode(), value) or bool(credentials_in(value))


def is_credential_piece(text: str) -> bool:
    """Whether a piece of a query or a form, `name=value` or a text without a name, carries a credential."""
    name, equals, value = text.partition("=")
    if "%" in text or "+" in text:
        name, value = unquote_plus(name), unquote_plus(value)
    return is_credential(name, value) if equals else bool(credentials_in(name))


def is_plain_query(text: str) -> bool:
    """Whether no piece of a query or a form carries a credential, as in most: then nothing has to be cut out."""
    return not any(map(is_credential_piece, PIECES.split(text)))


PIECES: Final = re.compile(r"[&;?#]")
"""Separators in a query or a form: servers split at `&`, some also at `;`. `?` and `#` are of a URL in a value."""

PATH_PARAMETER: Final = re.compile(r"[;#&](?P<name>[^=;/#&]++)=(?P<value>[^;/#&]++)")
"""In a path: `;jsessionid=...` (RFC 3986 section 3.3), and a fragment, which no client should send and some do."""


def looks_random(text: str) -> bool:
    """Whether a text has the length and the characters of a key, and is no UUID and no words, versions and dates."""
    return len(text) >= _SHORTEST_KEY and _KEY_CHARACTERS.fullmatch(text) is not None and not _is_words(text)


_SHORTEST_KEY: Final = 16
_KEY_CHARACTERS: Final = re.compile(r"[A-Za-z0-9_.~+/=-]++")
_ID: Final = re.compile(r"[0-9a-fA-F]{8}(?:-[0-9a-fA-F]{4}){3}-[0-9a-fA-F]{12}|[0-7][0-9A-HJKMNP-TV-Z]{25}")
"""A UUID or a ULID."""
_SEPARATORS: Final = re.compile(r"[^A-Za-z0-9]+")
# A word, a name such as RoBERTa, a number, and what has a number at one end: v2, gpt4, sha256, 70b, 20260131T120000Z.
_WORD: Final = re.compile(
    r"[A-Za-z]{0,11}|[A-Z]?[a-z]{0,19}|[A-Z]{1,19}|[0-9]{1,19}|[A-Za-z]{1,12}[0-9]{1,19}|[0-9]{1,19}[A-Za-z]{1,3}"
    r"|[0-9]{8}T[0-9]{4,6}Z?|(?:[A-Z][a-z]{1,11}){2,4}[0-9]{0,4}"
)
_BEARER_WORDS: Final = frozenset({
    "token", "tokens", "auth", "authentication", "authorization", "scheme", "format", "header", "realm", "certificate",
    "certificates", "credential", "credentials", "share", "shares", "bond", "bonds", "required", "optional",
})  # fmt: skip
"""Words that follow `Bearer` in sentences about the scheme."""
_DIGIT: Final = re.compile("[0-9]")
_ONE_WORD: Final = re.compile(r"[A-Z]?[a-z]{0,19}|[A-Z]{1,19}|[0-9.,:/-]++")


def _is_words(text: str) -> bool:
    if _ID.fullmatch(text):
        return True
    return all(_WORD.fullmatch(piece) is not None or len(piece) < 6 for piece in _SEPARATORS.split(text))


def _found(text: str, depth: int = 0) -> tuple[Found, ...]:
    plain = b" " + text.encode("ascii", "replace").translate(HINT_CHARACTERS)
    hints = {match.lastgroup for match in HINT.finditer(plain)}
    found: list[Found] = []
    if "scheme" in hints:
        found += _with_schemes(text)
    if "key" in hints or "coded" in hints:
        found += _keys(text)
    if ":" in text and ('"' in text or "'" in text):
        found += _named_in_json(text)
    if "=" in text or ": " in text:
        found += _pairs(text)
    if "//" in text and "@" in text:
        found += [_part(each, "secret") for each in _USER_INFORMATION.finditer(text) if not _MARK.match(each["secret"])]
    if ("coded" in hints or "%" in text) and depth < _NESTED:
        found += _encoded(text, depth)
    return _outermost(text, found) if found else ()


_credentials: Final = remembered(
    "credentials in texts", _found, lambda text, found: 400 + 3 * getsizeof(text) + 200 * len(found)
)


def _outermost(text: str, found: list[Found]) -> tuple[Found, ...]:
    found.sort(key=lambda each: (each.start, -each.end))
    kept: list[Found] = []
    for each in found:
        if not kept or each.start >= kept[-1].end:
            kept.append(each)
        elif each.end > kept[-1].end:  # they overlap: one, from where the first begins to where the second ends
            start = kept.pop().start
            kept.append(Found(start, each.end, text[start : each.end]))
    return tuple(kept)


def _part(match: re.Match[str], group: str) -> Found:
    start, end = match.span(group)
    return Found(start, end, match[group])


def _with_schemes(text: str) -> Iterator[Found]:
    """A value that is nothing but one is taken with its scheme, as `Authorization` is."""
    for match in SCHEME.finditer(text):
        if _proves(match, text):
            part = _part(match, "credential")
            yield Found(0, len(text), text) if match.start() == 0 and part.end == len(text) else part
    for match in WITH_PARAMETERS.finditer(text):
        if PROOF.search(match["credential"]):
            yield _part(match, "credential") if match.start() else Found(0, len(text), text)


def _proves(match: re.Match[str], text: str) -> bool:
    """Whether what follows a scheme is a credential, and not the next word of a sentence."""
    credential = match["credential"]
    words = credential.rstrip(".!?:")
    end = match.end()
    if match["plain"] is not None and not text[end : end + 1].isspace():
        if len(words) < SHORTEST:
            return False
        # `Bearer` with a capital and one more word, and nothing else: that is no sentence.
        alone = match.start() == 0 and end == len(text) and text.startswith("Bearer ") and not words.isdigit()
        return _ONE_WORD.fullmatch(words) is None or (alone and words.lower() not in _BEARER_WORDS)
    scheme = (match["word"] or "").lower()
    if scheme == "basic" and b":" in (_base64(credential) or b""):
        return True
    if scheme == "digest":
        return False  # a digest is a hash: see WITH_PARAMETERS
    return len(words) >= 8 and (_ID.fullmatch(words) is not None or not _is_words(words))


def _keys(text: str) -> Iterator[Found]:
    for pattern in (KEY, PRIVATE_KEY):
        for match in pattern.finditer(text):
            yield Found(match.start(), match.end(), match[0])
    for match in WORDY_KEY.finditer(text):
        if not _is_words(match[0].removeprefix("sk-")):
            yield Found(match.start(), match.end(), match[0])


def _pairs(text: str) -> Iterator[Found]:
    cookie = _SET_COOKIE.search(text) is not None
    at = 0
    while (match := _NAME.search(text, at)) is not None:
        at = match.end()
        name = match["name"]
        if match.lastgroup == "name" or len(name) > _LONGEST_NAME:
            continue
        name = unquote(name)
        if not (cookie or is_credential_parameter(name) or may_be_credential_parameter(name)):
            continue
        value = _VALUE.match(text, at)
        if value is None:
            continue
        part = _part(value, value.lastgroup or "value")
        if match.lastgroup == "colon" and not _is_no_prose(part.secret):
            continue
        if cookie or _is_named(name, part.secret):
            yield part
            at = value.end()
        cookie = False  # what follows the first pair are its attributes


def _is_named(name: str, value: str) -> bool:
    if _MARK.match(value) or _HARMLESS.fullmatch(value):
        return False
    if is_credential_parameter(name):
        return True
    return may_be_credential_parameter(name) and looks_random(unquote(value))


def _is_no_prose(value: str) -> bool:
    """Whether what follows a name and a colon is its value, and not the next words: `the password: keep it secret`."""
    return len(value) >= SHORTEST and _ONE_WORD.fullmatch(value) is None and _DIGIT.search(value) is not None


def _named_in_json(text: str) -> Iterator[Found]:
    """The values beside telling names, in JSON, also in JSON within a string of JSON, and in what Python prints."""
    at = 0
    while (match := _JSON_NAME.search(text, at)) is not None:
        at = match.end()
        name = match["name"]
        if not (is_credential_parameter(name) or may_be_credential_parameter(name)):
            continue
        found = _json_value(text, at, match["escapes"], match["quote"])
        if found.secret and _is_named(name, found.secret):
            yield found
        at = max(at, found.end)


def _json_value(text: str, at: int, escapes: str, quote: str) -> Found:
    """The value that begins at `at`, a string without its quotes."""
    for each in (escapes + '"', escapes + "'"):
        if text.startswith(each, at):
            start = at + len(each)
            end = text.find(each, start)
            while end >= 0 and not escapes and _is_escaped(text, start, end):
                end = text.find(each, end + 1)
            end = len(text) if end < 0 else end
            return Found(start, end, text[start:end])
    if at < len(text) and text[at] in "[{":
        end = _closed(text, at)
    else:
        scalar = _SCALAR.match(text, at)
        end = at if scalar is None else scalar.end()
    return Found(at, end, text[at:end], escapes + quote)


def _is_escaped(text: str, start: int, at: int) -> bool:
    before = at
    while before > start and text[before - 1] == "\\":
        before -= 1
    return (at - before) % 2 == 1


def _closed(text: str, at: int) -> int:
    depth = 0
    for match in _BRACKET_OR_STRING.finditer(text, at):
        if match[0] in "[{":
            depth += 1
        elif match[0] in "]}":
            depth -= 1
            if depth == 0:
                return match.end()
    return len(text)


def _encoded(text: str, depth: int) -> Iterator[Found]:
    """Pieces that say something else once they are decoded, and hold a credential then."""
    for match in _PIECE.finditer(text):
        piece = match[0]
        plain: str | None = None
        if _CODED.search(piece):
            plain = unquote_plus(piece)
        elif _CODED_JSON.fullmatch(piece):
            raw = _base64(piece)
            plain = None if raw is None or raw.lstrip()[:1] not in (b"{", b"[") else raw.decode("utf-8", "replace")
        if plain is not None and plain != piece and _found(plain, depth + 1):
            yield Found(match.start(), match.end(), plain)


def _base64(text: str) -> bytes | None:
    """Decodes base64 or base64url, padded or not; None if it is neither."""
    plain = text.rstrip("=").replace("-", "+").replace("_", "/")
    try:
        return base64.b64decode(plain + "=" * (-len(plain) % 4), validate=True)
    except (binascii.Error, ValueError):
        return None
