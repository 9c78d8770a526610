"""The IDs in an answer: at the places that `learn` names, or, for `auto`, at those whose values are new for each call.

`auto` takes members named `id`, `event_id`, `responseId` and the like, from answers to requests that may make something
(not to GET or HEAD), outside of lists: the elements of a list are mostly known to both, and in another order. Those of
an answer 201 are new: they are taken with what stands beside them, so that only like ones are a pair. From answers to
GET it takes cursors and tokens of pages. It takes fields that hold a session, cookies that are set, and the new parts
of Location.

A stream of events is read as it comes. An event's data stand for an answer's JSON, and data that is a path, as the
older event streams of MCP send under `endpoint`, for a Location.
"""

import re
from typing import Any, Final, NamedTuple
from urllib.parse import unquote_to_bytes

import orjson

from shadowproxy.exchange import Fields
from shadowproxy.pointers import State, pointer_token
from shadowproxy.serve.policy.payload import VALUES, NotRead, json_value
from shadowproxy.serve.policy.payload import value as json_text_value
from shadowproxy.serve.state.settings import LEAST, MOST, SESSION_HEADERS, Places, is_id

LONGEST: Final = 256 << 10
"""The most bytes of a JSON answer that are searched: parsing them takes a millisecond, which all callers wait."""

SHORT: Final = VALUES // 8
"""Bytes of JSON that cannot hold too many values to be parsed."""

STREAM: Final = 64 << 10
"""How much of a stream of events is searched, in bytes."""

DEPTH: Final = 12
MOST_GIVEN: Final = 64
"""The most IDs of one answer."""

SAFE: Final = frozenset({"GET", "HEAD", "OPTIONS", "TRACE"})
"""Methods that make nothing (RFC 9110 section 9.2.1)."""

_ID_NAME: Final = re.compile(
    r"(?:.*[_.-])?(?:id|uuid|guid|cursor)|.*[_.-]token|.*[a-z0-9](?:Id|ID|Uuid|UUID|Cursor|Token)", re.DOTALL
)
_GENERATED: Final = re.compile(rb".*[0-9]|.*[a-z][A-Z]|.{20}", re.DOTALL)
"""What nobody types has a digit, or letters of both cases, or is long. `wonderful` under `next_token` is a word."""
_CALL_NAMES: Final = frozenset({"call_id", "tool_call_id"})
"""Members that are learnt in lists, too: a model's calls of tools, which the caller answers by these IDs."""

_IDS_NAME: Final = re.compile(r"(?:.*[_.-])?(?:id|uuid|guid)s|.*[a-z0-9](?:Id|ID|Uuid|UUID)s", re.DOTALL)
_PAGE_NAME: Final = re.compile(
    r"(?:.*[_.-])?cursor|.*[a-z0-9]Cursor|.*page_?token|.*PageToken|next_?token|nextToken", re.DOTALL
)
"""Members of an answer to GET that say where the next page begins."""
_VARIES: Final = re.compile(
    r"(?i).*(?:_at|time|date|stamp|url|uri|href|link|etag|version|hash|token|created|updated|modified)|.*At", re.DOTALL
)
"""Names of members whose values differ though they stand beside IDs of the same thing."""

CREATED: Final = 201

_BEGINS: Final = frozenset({b"{", b"["})
_CALL: Final = b'call_id"'
"""Both of _CALL_NAMES end so."""

_MAY_NAME_PAGE: Final = (b'ursor"', b'oken"')
_MAY_NAME: Final = (b'id"', b'Id"', b'ID"', *_MAY_NAME_PAGE, b'ids"', b'Ids"', b'IDs"')
"""How the names of such members end. To search for these takes a tenth of what one pattern does."""
_SESSION: Final = re.compile(rb"session(?!s?-?(?:affinity|count|duration|length))")
_LINE_END: Final = re.compile(rb"\r\n|\n|\r")


def _is_generated(text: bytes) -> bool:
    """Whether a text is hardly a word: words in a path, such as `predictions`, are no IDs."""
    return _GENERATED.match(text) is not None


class Given(NamedTuple):
    """An ID that an answer gave. `scope` is what tells a short one from others: a path, or a field's name.

    `beside` stands for what its element of a list says beside it: only two of the same can be a pair.
    """

    value: bytes
    scope: bytes
    beside: int = 0


Values = dict[str, Given]
"""By place, such as `json:/id`, `header:mcp-session-id`, `header:location/2`, `set-cookie:session`."""


def head_values(places: Places, method: str, fields: Fields) -> tuple[Values, bool]:
    """The IDs in the head of an answer, and whether its body is a stream of events that is not coded."""
    found: Values = {}
    is_stream = is_coded = False
    for name, value in fields:
        lower = name.lower()
        if lower == b"content-type":
            is_stream = value[:17].lower() == b"text/event-stream"
        elif lower == b"content-encoding":
            is_coded = True
        elif lower == b"set-cookie":
            if places.auto or places.cookies:
                _add_cookie(places, value, found)
        elif lower == b"location":
            if places.location and (not places.auto or method not in SAFE):
                add_location(places, value, found, "header:location")
        elif lower in places.headers or (places.auto and is_session_header(lower)):
            text = value.strip(b" \t")
            if is_id(text) and (not places.auto or len(text) >= LEAST):
                found[f"header:{lower.decode('latin-1')}"] = Given(text, b"header:" + lower)
    return found, is_stream and not is_coded


def is_session_header(lower: bytes) -> bool:
    """Whether a field of this name, in lower case, holds a session for `auto`."""
    return b"session" in lower and (lower in SESSION_HEADERS or _SESSION.search(lower) is not None)


def _add_cookie(places: Places, field: bytes, found: Values) -> None:
    name, equals, value = field.partition(b";")[0].partition(b"=")
    name = name.strip(b" \t")
    value = value.strip(b" \t").removeprefix(b'"').removesuffix(b'"')
    if not equals or not is_id(value):
        return
    if (places.auto and len(value) >= LEAST and _is_generated(value)) or name in places.cookies:
        found[f"set-cookie:{name.decode('latin-1')}"] = Given(value, b"cookie:" + name)


def add_location(places: Places, target: bytes, found: Values, kind: str) -> None:
    """Add the segments and parameters of a URL or path. All are candidates: those that differ are the IDs."""
    target = target.partition(b"#")[0]
    path, _, query = target.partition(b"?")
    if b"://" in path[:12]:
        path = b"/" + path.partition(b"://")[2].partition(b"/")[2]
    scope = b""
    for index, segment in enumerate(path.split(b"/")[:32]):
        text = unquote_to_bytes(segment) if b"%" in segment else segment
        if is_id(text) and (_is_generated(text) if len(text) >= LEAST else not places.auto):
            found[f"{kind}:/{index}"] = Given(text, scope)
        scope += segment if not index else b"/" + segment
    for piece in query.split(b"&")[:32] if query else ():
        name, _, value = piece.partition(b"=")
        text = unquote_to_bytes(value.replace(b"+", b" ")) if b"%" in value or b"+" in value else value
        if is_id(text) and (_is_generated(text) if len(text) >= LEAST else not places.auto):
            found[f"{kind}:?{name.decode('latin-1')}"] = Given(text, b"?" + name)


def body_values(places: Places, method: str, path: bytes, fields: Fields, body: bytes, status: int = 200) -> Values:
    """The IDs in the JSON of an answer that came whole. `path` is the request's."""
    found: Values = {}
    if not body or len(body) > LONGEST or (not places.auto and places.pointers is None):
        return found
    is_page = places.auto and method in SAFE
    if body[:1] in _BEGINS:  # whatever else it is, it has no content coding
        if not (any(map(body.__contains__, _MAY_NAME_PAGE)) if is_page else _may_hold(places, body)):
            return found
        is_coded = False
    else:
        is_coded = any(name.lower() == b"content-encoding" for name, _ in fields)
        if not is_coded and not body[:1].isspace():
            return found
    try:
        value = json_text_value(body) if len(body) <= SHORT and not is_coded else json_value(fields, body)
    except NotRead:
        return found
    if is_page:
        _walk_page(value, "", path, found, DEPTH)
    elif places.auto and status == CREATED:
        _walk_auto(value, "", path, found, DEPTH, lists=True, in_list=False, is_new=True)
    else:
        add_document(places, value, path, found, lists=is_coded or _CALL in body)
    return found


def reads_events(places: Places, method: str) -> bool:
    """Whether anything can be learnt from the JSON in events of answers to such requests."""
    return method not in SAFE if places.auto else places.pointers is not None


def _may_hold(places: Places, text: bytes) -> bool:
    """Whether a JSON text may have one of the members that are looked for. Much faster than to parse it."""
    if places.auto:
        return any(map(text.__contains__, _MAY_NAME))
    names = places.member_names
    return not names or any(name in text for name in names)


def add_document(places: Places, value: Any, path: bytes, found: Values, *, lists: bool) -> None:
    """Add the IDs of a JSON value. A place that has one keeps it. `auto` looks into lists only if `lists`."""
    if places.auto:
        _walk_auto(value, "", path, found, DEPTH, lists=lists, in_list=False)
    elif places.pointers is not None:
        _walk_named(places, value, "", places.pointers.start, path, found, DEPTH)


def _walk_auto(
    value: Any,
    where: str,
    path: bytes,
    found: Values,
    depth: int,
    *,
    lists: bool,
    in_list: bool,
    is_new: bool = False,
    beside: int = 0,
) -> None:
    """`lists`: look into lists as well. `is_new`: their elements are new, too."""
    if isinstance(value, dict):
        for name, each in value.items():
            if isinstance(each, str):
                if name in _CALL_NAMES if in_list else _ID_NAME.fullmatch(name) is not None:
                    _add_generated(found, f"json:{where}/{pointer_token(name)}", each, path, beside)
            elif depth and (isinstance(each, dict) or (lists and isinstance(each, list))):
                below = f"{where}/{pointer_token(name)}"
                if is_new and isinstance(each, list) and _IDS_NAME.fullmatch(name) is not None:
                    for index, text in enumerate(each[:MOST_GIVEN]):
                        _add_generated(found, f"json:{below}/{index}", text, path, beside)
                _walk_auto(
                    each, below, path, found, depth - 1, lists=lists, in_list=in_list, is_new=is_new, beside=beside
                )
    elif isinstance(value, list):
        for index, each in enumerate(value[:MOST_GIVEN]):
            if depth and isinstance(each, dict):
                own = hash((beside, _said_beside(each))) if is_new else 0
                below = f"{where}/{index}"
                _walk_auto(
                    each, below, path, found, depth - 1, lists=True, in_list=not is_new, is_new=is_new, beside=own
                )


def _walk_page(value: Any, where: str, path: bytes, found: Values, depth: int) -> None:
    """The cursors and tokens of an answer to GET, outside of lists."""
    if not isinstance(value, dict):
        return
    for name, each in value.items():
        if isinstance(each, str):
            if _PAGE_NAME.fullmatch(name) is not None:
                _add_generated(found, f"json:{where}/{pointer_token(name)}", each, path, 0)
        elif depth and isinstance(each, dict):
            _walk_page(each, f"{where}/{pointer_token(name)}", path, found, depth - 1)


def _said_beside(element: dict[str, Any]) -> int:
    """Stands for what an element says beside its IDs, without what varies."""
    said = [
        (name, str(each))
        for name, each in element.items()
        if isinstance(each, str | int) and _ID_NAME.fullmatch(name) is None and _VARIES.fullmatch(name) is None
    ]
    return hash(tuple(sorted(said)))


def _add_generated(found: Values, place: str, value: Any, path: bytes, beside: int) -> None:
    if isinstance(value, str) and LEAST <= len(value) <= MOST and value.isascii():
        text = value.encode()
        if is_id(text) and _is_generated(text) and len(found) < MOST_GIVEN and place not in found:
            found[place] = Given(text, path, beside)


def _walk_named(places: Places, value: Any, where: str, state: State, path: bytes, found: Values, depth: int) -> None:
    patterns = places.pointers
    if patterns is None or not state or not depth:
        return
    if isinstance(value, dict | list):
        items = value.items() if isinstance(value, dict) else enumerate(value[:1024])
        for name, each in items:
            key = str(name)
            below = patterns.below(state, key)
            if below:
                _walk_named(places, each, f"{where}/{pointer_token(key)}", below, path, found, depth - 1)
    elif patterns.ended(state):
        text: bytes | None = None
        if isinstance(value, str):
            text = value.encode() if value.isascii() else None
        elif isinstance(value, int) and not isinstance(value, bool):
            text = b"%d" % value
        if text is not None and is_id(text):
            _add(found, f"json:{where}", text, path)


def _add(found: Values, place: str, text: bytes, path: bytes) -> None:
    if len(found) < MOST_GIVEN and place not in found:
        found[place] = Given(text, path)


class EventReader:
    """Reads the IDs in a stream of events while it comes: `feed` each piece, and take what it returns."""

    __slots__ = ("_data", "_left", "_name", "_path", "_places", "_reads_json", "_unread", "found")

    def __init__(self, places: Places, method: str, path: bytes) -> None:
        self._places = places
        self._reads_json = reads_events(places, method)
        self._path = path
        self._left = STREAM
        self._unread = b""
        self._name = b""
        self._data: list[bytes] = []
        self.found: Values = {}

    @property
    def done(self) -> bool:
        """Whether the stream is searched no further."""
        return self._left <= 0

    def feed(self, data: bytes, *, last: bool = False) -> Values:
        """The IDs that these bytes add. `last`: nothing more comes."""
        if self._left <= 0:
            return {}
        self._left -= len(data)
        text = self._unread + data
        held = b"\r" if text.endswith(b"\r") and not last else b""  # its LF may be the next piece's first byte
        lines = _LINE_END.split(text.removesuffix(b"\r") if held else text)
        self._unread = lines.pop() + held
        before = len(self.found)
        for line in lines:
            self._take_line(line)
        if last or self._left <= 0:
            self._take_line(self._unread)
            self._take_line(b"")
            self._unread = b""
        if len(self.found) == before:
            return {}
        return dict(list(self.found.items())[before:])

    def _take_line(self, line: bytes) -> None:
        if not line:
            if self._data:
                self._take_event(self._name, b"\n".join(self._data))
            self._name, self._data = b"", []
            return
        field, _, value = line.partition(b":")
        value = value.removeprefix(b" ")
        if field == b"data":
            self._data.append(value)
        elif field == b"event":
            self._name = value

    def _take_event(self, name: bytes, data: bytes) -> None:
        places = self._places
        if data[:1] in (b"{", b"["):
            if not self._reads_json or not _may_hold(places, data):
                return
            try:
                value = orjson.loads(data)
            except orjson.JSONDecodeError:
                return
            add_document(places, value, self._path, self.found, lists=_CALL in data)
        elif places.location and (data[:1] == b"/" or data.startswith((b"http://", b"https://"))):
            found: Values = {}
            add_location(places, data, found, f"event:{name.decode('latin-1')}")
            for place, given in found.items():
                self.found.setdefault(place, given)
