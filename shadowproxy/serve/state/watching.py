"""One exchange as pairs are learnt from it: what live gave, what the shadow gave, and which belong together.

The rules:

1. What live gives is an entry of the map at once, with the head, with a piece of a stream, or with the body's end: the
   caller may come back with it before the answer has ended.
2. A value that the request carried, however it was written, is not new, and no ID of this answer.
3. What stands at the same place of both answers is a pair. Once the shadow's answer is over, each entry has its end.
"""

import contextlib
import logging
import re
from collections.abc import Callable
from typing import Final
from urllib.parse import unquote_to_bytes

import orjson

from shadowproxy.exchange import Failure, Fields, Learnt, LiveLeg, Reply, Request, ShadowLeg
from shadowproxy.serve.policy.payload import NotRead, json_value
from shadowproxy.serve.state.known import known_pairs
from shadowproxy.serve.state.learning import (
    SAFE,
    EventReader,
    Values,
    body_values,
    head_values,
)
from shadowproxy.serve.state.pairs import ABSENT, KNOWN, LOST, PENDING, SAME, Entry, Pairs, Standing, key_of
from shadowproxy.serve.state.settings import LEAST, Places

_OK: Final = 400
"""An answer of this status, or a higher one, gives no IDs."""

_JSON_BEGINS: Final = frozenset({b"{", b"[", b'"'})

_INDEX: Final = re.compile(r"/[0-9]+(?=/|\Z)")

_log = logging.getLogger(__name__)


class Watch:
    """An exchange at one shadow. `entries` are those that live's answer made. It never raises.

    `job` belongs to the mirror: its request to the shadow, while that is not over.
    """

    __slots__ = (
        "_beside",
        "_by_place",
        "_failed",
        "_gave",
        "_live_over",
        "_live_reader",
        "_live_reads",
        "_live_seen",
        "_method",
        "_over",
        "_own",
        "_own_reader",
        "_own_reads",
        "_path",
        "_record",
        "_request",
        "_texts",
        "_waiting",
        "entries",
        "job",
        "pairs",
        "places",
    )

    def __init__(self, places: Places, pairs: Pairs, record: str, method: str, target: bytes) -> None:
        self.places = places
        self.pairs = pairs
        self.entries: list[Entry] = []
        self.job: object = None
        self._record = record
        self._method = method
        self._path = _collection(target)
        self._request: Request | None = None
        self._texts: bytes | None = None  # those of the request
        self._beside: dict[str, int] = {}  # by place, of entries in lists
        self._by_place: dict[str, Entry] = {}
        self._own: Values = {}
        self._over: Standing | None = None  # what an ID without the shadow's own is, once the shadow's answer is over
        self._live_seen = self._live_reads = self._live_over = self._own_reads = False
        self._gave: frozenset[str] = frozenset()
        self._waiting: Callable[[], None] | None = None
        self._live_reader: EventReader | None = None
        self._own_reader: EventReader | None = None
        self._failed = False

    def __repr__(self) -> str:
        return f"<Watch {self._method} entries={len(self.entries)} own={len(self._own)} over={self._over}>"

    @property
    def is_shared(self) -> bool:
        """Whether other live processes have to know of an ID before the caller has it."""
        return self.pairs.on_issued is not None

    # Live's side.

    def live_head(self, request: Request, status: int, fields: Fields) -> None:
        """The head of live's answer to `request`, of which the body may not be there yet."""
        try:
            self._take_request(request)
            self._live_seen = True
            if not 200 <= status < _OK:
                return
            self._live_reads = True
            values, is_stream = head_values(self.places, self._method, fields)
            if is_stream:
                self._live_reader = EventReader(self.places, self._method, self._path)
            if values:
                self._gave = frozenset(values)
                self._issue(values)
        except Exception:  # noqa: BLE001  # whatever an answer holds: the caller's answer comes first
            self._fail()
        finally:
            self._call_waiting()

    def with_pairs(self, leg: Reply, live: LiveLeg) -> Reply:
        """The shadow's leg with the pairs that this exchange gave, and those that its answers say again."""
        try:
            leg = leg._replace(learnt=self.learnt) if self.entries else leg
            if isinstance(live, Reply) and (known := known_pairs(self.pairs, live, leg)):
                leg = leg._replace(learnt=(*leg.learnt, *known))
        except Exception:  # noqa: BLE001  # as above
            self._fail()
        return leg

    @property
    def learnt(self) -> tuple[Learnt, ...]:
        """The pairs that this exchange gave, in a record's words."""
        found: dict[tuple[str, bytes], Learnt] = {}
        for place, entry in self._by_place.items():
            if entry.standing is KNOWN:
                shown = "header:location" if place.startswith("header:location") else place
                found[shown, entry.key] = Learnt(shown, entry.live.decode("latin-1"), entry.own.decode("latin-1"))
        return tuple(found.values())

    def live_piece(self, data: bytes) -> None:
        """The next piece of live's answer."""
        reader = self._live_reader
        if reader is None:
            return
        try:
            self._issue(reader.feed(data))
            if reader.done:
                self._live_reader = None
        except Exception:  # noqa: BLE001  # as above
            self._fail()

    def live_end(self, request: Request, live: LiveLeg) -> None:
        """Live's leg is over. Its head and its pieces may not have been shown before."""
        if not self._live_seen:
            reply = live.reply if isinstance(live, Failure) else live
            if reply is not None:
                self.live_head(request, reply.status, reply.fields)
                self.live_piece(reply.body)
        self._live_over = True
        try:
            self._take_request(request)
            reader, self._live_reader = self._live_reader, None
            if not self._live_reads or self._failed:
                return
            self._live_reads = False
            if reader is not None:
                self._issue(reader.feed(b"", last=True))
            elif isinstance(live, Reply) and len(live.body) == live.body_bytes:
                self._issue(body_values(self.places, self._method, self._path, live.fields, live.body, live.status))
        except Exception:  # noqa: BLE001  # as above
            self._fail()
        finally:
            self._call_waiting()

    def when_live(self, callback: Callable[[], None]) -> bool:
        """Call back once the head of live's answer is there, or live's leg is over. False if it is by now."""
        if self._live_seen or self._live_over:
            return False
        self._waiting = callback
        return True

    def gave_cookie(self, name: str) -> bool:
        """Whether live's answer sets this cookie: it begins a session with this request."""
        return f"set-cookie:{name}" in self._gave

    def _call_waiting(self) -> None:
        waiting, self._waiting = self._waiting, None
        if waiting is not None:
            waiting()

    # The shadow's side.

    def own_head(self, status: int, fields: Fields) -> None:
        """The head of the shadow's answer."""
        try:
            if not 200 <= status < _OK or not self._wants_own():
                return
            self._own_reads = True
            values, is_stream = head_values(self.places, self._method, fields)
            if is_stream:
                self._own_reader = EventReader(self.places, self._method, self._path)
            if values:
                self._pair(values)
        except Exception:  # noqa: BLE001  # as above
            self._fail()

    def own_piece(self, data: bytes) -> None:
        """The next piece of the shadow's answer."""
        reader = self._own_reader
        if reader is None:
            return
        try:
            self._pair(reader.feed(data))
            if reader.done:
                self._own_reader = None
        except Exception:  # noqa: BLE001  # as above
            self._fail()

    def own_end(self, leg: ShadowLeg | None) -> None:
        """The shadow's leg is over; None: the request was not chosen for it."""
        if self._over is not None:
            return
        self.job = None
        try:
            reader, self._own_reader = self._own_reader, None
            if self._own_reads and not self._failed and self._wants_own():
                if reader is not None:
                    self._pair(reader.feed(b"", last=True))
                elif isinstance(leg, Reply) and len(leg.body) == leg.body_bytes:
                    self._pair(body_values(self.places, self._method, self._path, leg.fields, leg.body, leg.status))
        except Exception:  # noqa: BLE001  # as above
            self._fail()
        self._over = ABSENT if isinstance(leg, Reply) and leg.status < _OK else LOST
        for entry in self.entries:
            if entry.standing is PENDING:
                self.pairs.settle(entry, self._over)

    # Both.

    def _wants_own(self) -> bool:
        """Whether what the shadow gives can be one of a pair: not if live has given all, and each ID has its own."""
        return not self._live_over or any(entry.standing is PENDING for entry in self.entries)

    def _take_request(self, request: Request) -> None:
        if self._request is None or len(request.body) != len(self._request.body):
            self._texts = None
        self._request = request

    def _issue(self, values: Values) -> None:
        """Live gave these."""
        pairs, request = self.pairs, self._request
        for place, given in values.items():
            if request is not None and self._is_carried(given.value, request):
                continue
            if len(given.value) < LEAST and not self._has_named_place(place):
                continue
            own = self._own.get(place)
            is_same = own is not None and own.value == given.value
            if is_same and not place.startswith(("header:", "set-cookie:")):
                pairs.note_answer(self._kind(place))
                continue
            if own is not None and own.beside != given.beside:
                own = None
            kind = self._kind(place)
            if self._is_noted(place):
                known = pairs.find(given.value)
                shared = known is not None or (own is not None and pairs.find(own.value) is not None)
                if not pairs.note(kind, repeated=shared):
                    continue
            entry = pairs.issue(given.value, given.scope, self._record, kind)
            if entry is None:
                continue
            self.entries.append(entry)
            self._by_place[place] = entry
            if given.beside:
                self._beside[place] = given.beside
            if own is not None:
                pairs.settle(entry, SAME if is_same else KNOWN, own.value)
            elif self._over is not None:
                pairs.settle(entry, self._over)
            elif self.job is not None:
                entry.jobs = [self.job]

    def _is_noted(self, place: str) -> bool:
        """Whether it is noted if the values of this place are new for each call."""
        return self.places.auto and place.startswith("json:") and self._method not in SAFE

    def _kind(self, place: str) -> str:
        """The place as an entry has it."""
        if self._is_noted(place):
            return f"{self._method} {_route(self._path)} {_INDEX.sub('/*', place)}"
        return "header:location" if place.startswith("header:location") else place

    def _is_carried(self, value: bytes, request: Request) -> bool:
        """Whether the request has this value in it: then the answer only says it again."""
        if len(value) < LEAST:
            return request.target.partition(b"?")[0].endswith(b"/" + value)
        if self._texts is None:
            self._texts = _texts_of(request)
        if value in self._texts:
            return True
        key = key_of(value)
        return key is not value and key in self._texts.lower()

    def _has_named_place(self, place: str) -> bool:
        """Whether a short ID of this place can be recognized in a request."""
        return self.places.names_places and (not self.places.auto or place.startswith("set-cookie:"))

    def _pair(self, values: Values) -> None:
        """The shadow gave these."""
        for place, given in values.items():
            if place in self._own:
                continue
            self._own[place] = given
            entry = self._by_place.get(place)
            if (
                entry is not None
                and entry.standing is PENDING
                and (given.beside == 0 or self._beside.get(place) == given.beside)
            ):
                self.pairs.settle(entry, SAME if given.value == entry.live else KNOWN, given.value)

    def _fail(self) -> None:
        """A defect: nothing more is learnt from this exchange."""
        self._failed = True
        self._live_reader = self._own_reader = None
        _log.exception("a defect in the proxy while learning IDs", extra={"event": "defect"})


def _texts_of(request: Request) -> bytes:
    """All in which a value that the request carries is found, however it is written there."""
    target, fields, body = request.target, request.fields, request.body
    texts = [target, *[value for _, value in fields], body]
    if target.find(b"%") >= 0 or target.find(b"+") >= 0:
        texts.append(unquote_to_bytes(target.replace(b"+", b" ")))
    # One byte is found 30 times as fast as two.
    if body and (body[:1] not in _JSON_BEGINS or (body.find(b"\\") >= 0 and (b"\\u" in body or b"\\/" in body))):
        lower = [(name.lower(), value) for name, value in fields]
        if b"\\" in body or any(name == b"content-encoding" for name, _ in lower):
            with contextlib.suppress(NotRead):
                texts.append(orjson.dumps(json_value(fields, body)))
        elif b"%" in body and any(name == b"content-type" and b"urlencoded" in value for name, value in lower):
            texts.append(unquote_to_bytes(body.replace(b"+", b" ")))
    return b"\n".join(texts)


def _collection(target: bytes) -> bytes:
    """The path under which a short ID means something."""
    return target.partition(b"?")[0].rstrip(b"/")


def _route(path: bytes) -> str:
    """A path with `*` for the segments that may be IDs."""
    segments = path.decode("latin-1").split("/")[:8]
    return "/".join(["*" if any(map(str.isdigit, each)) and len(each) > 3 else each for each in segments])
