"""Live's IDs in a request, and the request with the shadow's own in their place. Pure.

An ID is recognized as a whole: a segment of the path, a parameter's value, a field's value, a cookie's value, a string
of the JSON body, and such a part of a URL that stands in one of these. It is never part of a word: a text that mentions
an ID stays as it is.

Every other byte stays: a place is cut out and the shadow's own put there.
"""

import re
from typing import Final, NamedTuple
from urllib.parse import quote_from_bytes, unquote_to_bytes

import orjson

from shadowproxy.credential_values import is_credential_piece
from shadowproxy.exchange import Field, Fields, Request, Translated
from shadowproxy.pointers import pointer_token
from shadowproxy.serve.policy.headers import with_content_length
from shadowproxy.serve.policy.payload import LONGEST, NotRead, json_text
from shadowproxy.serve.policy.query import edit_query, remove_credentials
from shadowproxy.serve.policy.rewrite import BODY_FIELDS, span_at
from shadowproxy.serve.state.pairs import ABSENT, KNOWN, LOST, PENDING, SAME, Entry, Pairs
from shadowproxy.serve.state.settings import LEAST, MOST, Places

TARGET: Final = -1
BODY: Final = -2

_PARAMETER: Final = re.compile(rb"(?:^|[?&;])([^=&;#]*)=([^&;#]*)")
_FORM_PARAMETER: Final = re.compile(rb"(?:^|&)([^=&]*)=([^&]*)")
_STRING: Final = re.compile(rb'"([^"\\]*+(?:\\.[^"\\]*+)*+)"', re.DOTALL)
_SEGMENT: Final = re.compile(rb"[^/]+")
_URL: Final = re.compile(rb"(?:https?:/)?/[^\s\"'<>]*", re.IGNORECASE)
_ENCODED_PART: Final = re.compile(rb"%(?:2[Ff36]|3[FfDdBb])|(?:[^/?&=#;%]|%(?!2[Ff36]|3[FfDdBb]))+")
"""What stands between the slashes, question marks and so on of a URL that is percent-encoded as a whole, or not."""
_JSON_TYPE: Final = re.compile(rb"(?i)[^;]*json")
_SESSION_COOKIE: Final = re.compile(rb"(?i)sess|sid$|csrf|xsrf")
"""Cookies that hold a session for `auto`, though live has not set them yet: they are left out."""

_LOOKED_AT: Final = frozenset({b"cookie", b"authorization"})
_TOKEN: Final = re.compile(rb'"[^"\\]*+(?:\\.[^"\\]*+)*+"|[\[\]{},]', re.DOTALL)
_QUOTE: Final = 0x22
_SCHEME: Final = re.compile(rb"[A-Za-z]+ +")


class Occurrence(NamedTuple):
    """One of live's IDs in a request: in `part` (a field's index, TARGET or BODY) from `begin` to `end`.

    `place` is as the record has it. `entry` is None for a value that live is not known to have given, at a place that
    holds a session. `coding` is how the ID is written there: `path`, `query`, `raw` or `json`.
    """

    part: int
    begin: int
    end: int
    place: str
    entry: Entry | None
    coding: str


class Found:
    """What a request has of live's IDs. `body` is the text that the occurrences in BODY refer to."""

    __slots__ = ("body", "occurrences")

    def __init__(self, occurrences: tuple[Occurrence, ...], body: bytes) -> None:
        self.occurrences = occurrences
        self.body = body

    def __repr__(self) -> str:
        return f"<Found {[each.place for each in self.occurrences]}>"

    @property
    def pending(self) -> list[Entry]:
        """The entries whose own is not known yet, each once."""
        return [entry for entry in self.entries if entry.standing is PENDING]

    @property
    def entries(self) -> list[Entry]:
        """All entries, each once."""
        return list({id(each.entry): each.entry for each in self.occurrences if each.entry is not None}.values())

    @property
    def strangers(self) -> list[str]:
        """The names of cookies that `learn` names, with sessions that live is not known to have given."""
        return [each.place[7:] for each in self.occurrences if each.entry is None and each.coding == "stranger"]

    @property
    def unknown(self) -> str | None:
        """The place of an ID that the shadow has no own for, and that the request cannot do without; None if none."""
        for each in self.occurrences:
            entry = each.entry
            if entry is None:
                if not each.place.startswith("cookie:"):
                    return each.place
            elif entry.standing is LOST or (entry.standing is ABSENT and not is_left_out(each)):
                return each.place
        return None


NOTHING: Final = Found((), b"")
_SENT: Final = (KNOWN, SAME)
"""A session that is the same for both is the shadow's own, too."""


def is_left_out(occurrence: Occurrence) -> bool:
    """Whether this place is left out of the request where the shadow gives no such ID: a session that it has not."""
    return occurrence.place.startswith(("header:", "cookie:")) and occurrence.coding == "raw"


def find(places: Places, pairs: Pairs, request: Request) -> Found:
    """Live's IDs in a request."""
    if pairs.refresh is not None:
        pairs.refresh()
    if pairs.is_empty and not pairs.session_names:
        return NOTHING
    search = _Search(places, pairs)
    search.fields(request.fields)
    body = b""
    if not pairs.is_empty:
        search.target(request.target)
        if request.body and len(request.body) == request.body_bytes:
            body = search.body(request)
    found = search.occurrences
    return Found(tuple(found), body) if found else NOTHING


class _Search:
    """One request's occurrences, as they are found."""

    __slots__ = ("occurrences", "pairs", "places")

    def __init__(self, places: Places, pairs: Pairs) -> None:
        self.places = places
        self.pairs = pairs
        self.occurrences: list[Occurrence] = []

    def _look(self, part: int, begin: int, end: int, text: bytes, place: str, coding: str) -> bool:
        if len(text) < LEAST:
            return False
        entry = self.pairs.find(text)
        if entry is None:
            return False
        self.occurrences.append(Occurrence(part, begin, end, place, entry, coding))
        return True

    def _look_short(
        self, part: int, begin: int, end: int, text: bytes, place: str, coding: str, scope: bytes | None
    ) -> None:
        if not text or len(text) >= LEAST:
            return
        entry = self.pairs.find_short(text, scope)
        if entry is not None:
            self.occurrences.append(Occurrence(part, begin, end, place, entry, coding))

    def target(self, target: bytes) -> None:
        places = self.places
        mark = target.find(b"?")
        path_end = len(target) if mark < 0 else mark
        if places.in_path and (
            target.find(b"%", 0, path_end) >= 0 or self.pairs.has_any(target[:path_end].split(b"/"))
        ):
            self._segments(TARGET, target, 0, path_end, "path")
        if places.named_paths:
            self._named_segments(target[:path_end])
        if mark >= 0 and (places.in_query or places.named_query):
            self._parameters(TARGET, target, mark, len(target), _PARAMETER, "query:", named=places.named_query)

    def _segments(self, part: int, text: bytes, begin: int, end: int, place: str) -> None:
        for match in _SEGMENT.finditer(text, begin, end):
            segment = match[0]
            if b"%" in segment:
                segment = unquote_to_bytes(segment)
            self._look(part, match.start(), match.end(), segment, place, "path")

    def _named_segments(self, path: bytes) -> None:
        segments = path.split(b"/")
        for pattern in self.places.named_paths:
            if len(pattern) > len(segments):
                continue
            if not all(want in (b"*", have) for want, have in zip(pattern, segments, strict=False)):
                continue
            last = max([index for index, want in enumerate(pattern) if want == b"*"])
            begin = sum([len(each) + 1 for each in segments[:last]])
            segment = segments[last]
            text = unquote_to_bytes(segment) if b"%" in segment else segment
            end = begin + len(segment)
            if len(text) >= LEAST:
                if not self.places.in_path:
                    self._look(TARGET, begin, end, text, "path", "path")
            elif not any(each.part == TARGET and each.begin == begin for each in self.occurrences):
                self._look_short(TARGET, begin, end, text, "path", "path", b"/".join(segments[:last]))

    def _parameters(
        self,
        part: int,
        text: bytes,
        begin: int,
        end: int,
        pattern: "re.Pattern[bytes]",
        kind: str,
        *,
        named: frozenset[bytes],
        anywhere: bool = True,
    ) -> None:
        allowed = self.places.in_query and anywhere
        for match in pattern.finditer(text, begin, end):
            name, value = match.groups()
            if b"%" in value or b"+" in value:
                value = unquote_to_bytes(value.replace(b"+", b" "))
            if b"%" in name:
                name = unquote_to_bytes(name)
            at, until = match.span(2)
            place = f"{kind}{name.decode('utf-8', 'replace')}"
            if allowed or name in named:
                found = self._look(part, at, until, value, place, "query")
                if allowed and not found and (value[:1] == b"/" or value[:4] == b"http"):
                    self._encoded_url(part, text, at, until, place)
                if name in named:
                    self._look_short(part, at, until, value, place, "query", None)

    def _encoded_url(self, part: int, text: bytes, begin: int, end: int, place: str) -> None:
        """The segments and parameters of a URL that is the value of a parameter, and percent-encoded for that."""
        for match in _ENCODED_PART.finditer(text, begin, end):
            piece = match[0]
            self._look(
                part, match.start(), match.end(), unquote_to_bytes(piece) if b"%" in piece else piece, place, "url"
            )

    def fields(self, fields: Fields) -> None:
        places, pairs = self.places, self.pairs
        names = pairs.session_names
        looks = not pairs.is_empty
        anywhere, named = places.in_headers, places.named_headers
        lowers = [name.lower() for name, _ in fields]
        values = [value for _, value in fields]
        has_whole = looks and pairs.has_any(values)
        if not has_whole and not named and names.isdisjoint(lowers) and _LOOKED_AT.isdisjoint(lowers):
            text = b"\n".join([b"", *values])
            if b"\n/" not in text and b"\nhttp" not in text:
                return  # as most
        for index, (name, value) in enumerate(fields):
            lower = name.lower()
            if lower == b"cookie":
                self._cookies(index, value)
                continue
            count = len(self.occurrences)
            if looks and (anywhere or lower in named):
                if len(value) >= LEAST:
                    if has_whole or value[:1] == b"/" or value[:4] == b"http" or lower == b"authorization":
                        self._field(index, lower, value)
                elif lower in named:
                    self._look_short(index, 0, len(value), value, _header(lower), "raw", b"header:" + lower)
            if lower in names and value and len(self.occurrences) == count:
                self.occurrences.append(Occurrence(index, 0, len(value), _header(lower), None, "raw"))

    def _field(self, index: int, lower: bytes, value: bytes) -> None:
        entry = self.pairs.find(value)
        if entry is not None:
            self.occurrences.append(Occurrence(index, 0, len(value), _header(lower), entry, "raw"))
        elif lower == b"authorization":
            if (match := _SCHEME.match(value)) is not None:
                begin = match.end()
                self._look(index, begin, len(value), value[begin:], _header(lower), "part")
        elif value[:1] == b"/" or value[:4] == b"http":
            self._url(index, value, 0, len(value), _header(lower), "url")

    def _url(self, part: int, text: bytes, begin: int, end: int, place: str, coding: str) -> None:
        """The segments and parameters of a URL that is the whole of a value."""
        if _URL.fullmatch(text, begin, end) is None:
            return
        count = len(self.occurrences)
        mark = text.find(b"?", begin, end)
        self._segments(part, text, begin, end if mark < 0 else mark, place)
        if mark >= 0:
            for match in _PARAMETER.finditer(text, mark, end):
                value = match[2]
                if b"%" in value or b"+" in value:
                    value = unquote_to_bytes(value.replace(b"+", b" "))
                self._look(part, match.start(2), match.end(2), value, place, "query")
        for at in range(count, len(self.occurrences)):
            self.occurrences[at] = self.occurrences[at]._replace(coding=coding)

    def _cookies(self, index: int, value: bytes) -> None:
        places, pairs = self.places, self.pairs
        for name, begin, end in cookies_in(value):
            cookie = value[begin:end]
            place = f"cookie:{name.decode('latin-1')}"
            is_session = b"set-cookie:" + name in pairs.session_names or (
                places.auto and _SESSION_COOKIE.search(name) is not None
            )
            entry: Entry | None = None
            if places.in_headers or name in places.named_cookies:
                if len(cookie) >= LEAST:
                    entry = pairs.find(cookie)
                elif cookie and name in places.named_cookies:
                    entry = pairs.find_short(cookie, b"cookie:" + name)
            if entry is not None or is_session:
                coding = "stranger" if entry is None and name in places.cookies and cookie else "raw"
                self.occurrences.append(Occurrence(index, begin, end, place, entry, coding))

    def body(self, request: Request) -> bytes:
        """Search the body; returns the text in which the occurrences stand."""
        places = self.places
        named = places.named_pointers
        content_type, is_coded = b"", False
        for name, value in request.fields:
            lower = name.lower()
            if lower == b"content-type":
                content_type = value
            elif lower == b"content-encoding":
                is_coded = True
        body = request.body
        if content_type[:33].lower() == b"application/x-www-form-urlencoded":
            if not is_coded and (places.in_query or places.named_query):
                self._parameters(BODY, body, 0, len(body), _FORM_PARAMETER, "form:", named=places.named_query)
            return body
        if not (places.in_json or named) or len(body) > LONGEST:
            return b""
        if not is_coded and body[:1] not in (b"{", b"[", b'"') and _JSON_TYPE.match(content_type) is None:
            return b""
        if is_coded:
            try:
                body = json_text(request.fields, body)
            except NotRead:
                return b""
        if places.in_json:
            count = len(self.occurrences)
            self._strings(body)
            if len(self.occurrences) > count:
                found = self.occurrences[count:]
                pointers = pointers_to(body, [each.begin for each in found])
                self.occurrences[count:] = [
                    each._replace(place=f"json:{pointer}") for each, pointer in zip(found, pointers, strict=True)
                ]
        if named:
            self._named_values(request.fields if not is_coded else (), body)
        return body

    def _may_have_strings(self, body: bytes) -> bool:
        """Whether a string of the body may be an ID, or a URL with one. A tenth of the time of reading all strings."""
        parts = body.split(b'"')  # all strings are among these, but for those with a quote in them
        pairs = self.pairs
        if pairs.has_any(parts):
            return True
        if body.find(b"/") >= 0 and any(part[:1] == b"/" or part[:4] == b"http" for part in parts):
            return True
        if body.find(b"\\") < 0:
            return False
        return (pairs.has_quotes and b'\\"' in body) or any(
            LEAST <= len(part) <= 4096 and b"\\" in part and b" " not in part and b"\\n" not in part for part in parts
        )

    def _strings(self, body: bytes) -> None:
        if not self._may_have_strings(body):
            return
        find = self.pairs.find
        for match in _STRING.finditer(body):
            text = match[1]
            if len(text) < LEAST or len(text) > 2 * MOST:
                continue
            if b"\\" in text:
                if len(text) > 4096:
                    continue
                try:
                    text = orjson.loads(match[0]).encode()
                except (orjson.JSONDecodeError, UnicodeEncodeError):
                    continue
            entry = find(text)
            if entry is not None:
                self.occurrences.append(Occurrence(BODY, match.start(1), match.end(1), "json:", entry, "json"))
            elif text[:1] in (b"/", b"h") and b"\\" not in match[1] and text.startswith((b"/", b"http:", b"https:")):
                self._url(BODY, body, match.start(1), match.end(1), "json:", "url")

    def _named_values(self, fields: Fields, body: bytes) -> None:
        try:
            text = json_text(fields, body)
        except NotRead:
            return
        for tokens in self.places.named_pointers:
            span = span_at(text, tokens)
            if span is None:
                continue
            begin, end = span
            raw = text[begin:end]
            place = "json:" + "".join([f"/{pointer_token(token)}" for token in tokens])
            if raw[:1] == b'"':
                value = raw[1:-1]
                if len(value) >= LEAST:
                    if not self.places.in_json:
                        self._look(BODY, begin + 1, end - 1, value, place, "json")
                else:
                    self._look_short(BODY, begin + 1, end - 1, value, place, "json", None)
            elif len(raw) >= LEAST:
                self._look(BODY, begin, end, raw, place, "number")
            else:
                self._look_short(BODY, begin, end, raw, place, "number", None)


class Translation(NamedTuple):
    """A request as the shadow gets it. `own` are the fields with the shadow's own IDs, which no rule about credentials
    may remove; `fields` are the rest, None if none of them is changed or left out.

    `protected` are the pieces of the query with the shadow's own. `body` is None if it is unchanged.
    """

    target: bytes
    protected: frozenset[bytes]
    fields: list[Field] | None
    own: list[Field]
    body: bytes | None
    translated: tuple[Translated, ...]


def _header(lower: bytes) -> str:
    return f"header:{lower.decode('latin-1')}"


def translate(request: Request, found: Found, *, credentials: bool) -> Translation:
    """The request with the shadow's own IDs. No entry of `found` is PENDING, and none of its places unknown.

    `credentials`: cookies that live has not set are sent as well.
    """
    by_part: dict[int, list[Occurrence]] = {}
    for each in sorted(found.occurrences, key=lambda each: (each.part, each.begin)):
        if each.part >= 0 or (each.entry is not None and each.entry.standing is KNOWN):
            by_part.setdefault(each.part, []).append(each)
    target, protected = request.target, frozenset[bytes]()
    if (in_target := by_part.pop(TARGET, None)) is not None:
        target, pieces = _replace(target, in_target)
        protected = frozenset(pieces)
    body: bytes | None = None
    if (in_body := by_part.pop(BODY, None)) is not None:
        body, _ = _replace(found.body, in_body)
    fields: list[Field] | None = None
    own: list[Field] = []
    if by_part:
        fields = []
        for index, field in enumerate(request.fields):
            here = by_part.get(index)
            if here is None:
                fields.append(field)
            elif field[0].lower() == b"cookie":
                if credentials and (rest := _other_cookies(field[1], here)):
                    fields.append((field[0], rest))
                if cookies := [
                    b"%b=%b" % (each.place[7:].encode("latin-1"), each.entry.own)
                    for each in here
                    if each.entry is not None and each.entry.standing in _SENT
                ]:
                    own.append((field[0], b"; ".join(cookies)))
            elif all(each.entry is not None and each.entry.standing in _SENT for each in here):
                own.append((field[0], _replace(field[1], here)[0]))
    if body is not None:
        kept = request.fields if fields is None else fields
        fields = with_content_length([field for field in kept if field[0].lower() not in BODY_FIELDS], len(body))
    translated = {
        (each.place, each.entry.key): Translated(
            each.place, each.entry.record, each.entry.live.decode("latin-1"), each.entry.own.decode("latin-1")
        )
        for each in found.occurrences
        if each.entry is not None and each.entry.standing is KNOWN
    }
    return Translation(target, protected, fields, own, body, tuple(translated.values()))


def target_without_credentials(translation: Translation) -> bytes:
    """The target without the parameters that carry credentials, but for those with the shadow's own IDs."""
    target = translation.target
    if not translation.protected:
        return remove_credentials(target)
    protected = {each.decode("utf-8", "surrogateescape") for each in translation.protected}
    path, mark, query = target.decode("utf-8", "surrogateescape").partition("?")
    kept = edit_query(
        mark + query, lambda piece: piece if piece in protected else None if is_credential_piece(piece) else piece
    )
    return remove_credentials(path.encode("utf-8", "surrogateescape")) + kept.encode("utf-8", "surrogateescape")


def _replace(text: bytes, occurrences: list[Occurrence]) -> tuple[bytes, list[bytes]]:
    """The text with the shadow's own at each occurrence, in order; and the pieces `name=value` of the query's."""
    parts: list[bytes] = []
    pieces: list[bytes] = []
    at = 0
    for each in occurrences:
        if each.begin < at:
            continue
        entry = each.entry
        assert entry is not None  # only a field's place has none
        own = _written(entry.own, each.coding)
        parts.append(text[at : each.begin])
        parts.append(own)
        at = each.end
        if each.coding == "query" and each.part == TARGET:
            begin = max(text.rfind(separator, 0, each.begin) for separator in (b"?", b"&", b";"))
            pieces.append(text[begin + 1 : each.begin] + own)
    parts.append(text[at:])
    return b"".join(parts), pieces


def _written(own: bytes, coding: str) -> bytes:
    if coding == "path":
        return quote_from_bytes(own, safe="~!$&'()*+,;=:@").encode()
    if coding in ("query", "url"):
        return quote_from_bytes(own, safe="~").encode()
    if coding == "json":
        return orjson.dumps(own.decode("latin-1"))[1:-1]
    if coding == "number" and not own.isdigit():
        return orjson.dumps(own.decode("latin-1"))
    return own


def _other_cookies(value: bytes, occurrences: list[Occurrence]) -> bytes:
    """The cookies of a field without those of the occurrences."""
    begins = {each.begin for each in occurrences}
    kept = [b"%b=%b" % (name, value[begin:end]) for name, begin, end in cookies_in(value) if begin not in begins]
    return b"; ".join(kept)


def cookies_in(value: bytes) -> list[tuple[bytes, int, int]]:
    """The cookies of a field: each one's name, and where in the field its value begins and ends, without quotes."""
    found: list[tuple[bytes, int, int]] = []
    at = 0
    for piece in value.split(b";"):
        equals = piece.find(b"=")
        if equals >= 0:
            begin, end = at + equals + 1, at + len(piece)
            while begin < end and value[begin] in b" \t":
                begin += 1
            while begin < end and value[end - 1] in b" \t":
                end -= 1
            if end - begin > 1 and value[begin] == value[end - 1] == _QUOTE:
                begin, end = begin + 1, end - 1
            found.append((piece[:equals].strip(b" \t"), begin, end))
        at += len(piece) + 1
    return found


def pointers_to(text: bytes, offsets: list[int]) -> list[str]:
    """The JSON pointers of the strings that the offsets, which ascend, lie in. A member's name counts as the member."""
    found: list[str] = []
    steps: list[str | int] = []  # of each array the index, of each object the last string that may be a name
    for match in _TOKEN.finditer(text):
        token, end = match[0], match.end()
        first = token[0]
        if first == _QUOTE:
            if steps and isinstance(steps[-1], str) and text[end : end + 64].lstrip()[:1] == b":":
                steps[-1] = _text(token)
            while len(found) < len(offsets) and offsets[len(found)] < end:
                found.append("".join([f"/{pointer_token(str(step))}" for step in steps]))
            if len(found) == len(offsets):
                return found
        elif first in b"[{":
            steps.append(0 if first == 0x5B else "")
        elif first in b"]}":
            if steps:
                steps.pop()
        elif steps and isinstance(steps[-1], int):
            steps[-1] += 1
    return [*found, *[""] * (len(offsets) - len(found))]


def _text(token: bytes) -> str:
    try:
        return str(orjson.loads(token))
    except orjson.JSONDecodeError:
        return token[1:-1].decode("utf-8", "replace")
