"""Replays sessions: the endpoint gets its own IDs in place of those that live issued, as a shadow does.

The rules:

1. Live's IDs are learnt from its recorded answer when its request is sent, the endpoint's own from the new answer.
2. A request that carries one of live's IDs waits for the answer that gives the endpoint's own, and for the earlier
   requests of its session that live had answered before it began. Those never wait for later ones, so all go on.
3. Without the endpoint's own ID a request is not sent: `state_unknown`. So it is where the request that would have
   given it is not replayed: live's IDs in answers to those are learnt too.
4. A field that the log hides under a mark of its own (`log.redact.hash_key`) is an ID like any other: equal values have
   equal marks. It is sent with the endpoint's own value, or not at all.
"""

import asyncio
from dataclasses import dataclass
from typing import Final

from shadowproxy.exchange import Failure, Field, Fields, Outcome, Reply, Request, ShadowLeg, Skipped, Translated
from shadowproxy.record import Record, RecordedLeg
from shadowproxy.redaction import MARK
from shadowproxy.replay.request import ReplayRequest
from shadowproxy.serve.state.pairs import Entry, Pairs
from shadowproxy.serve.state.settings import Places, StateSettings
from shadowproxy.serve.state.translating import Found, find, translate
from shadowproxy.serve.state.watching import Watch

_OF_CODED_BODIES: Final = frozenset({"content-encoding", "content-length", "transfer-encoding"})


@dataclass(frozen=True, slots=True)
class Recorded:
    """What is learnt from a record: when it was received and live's answer over, in microseconds since the epoch."""

    at: int
    over: int
    record: Record
    live: Reply | Failure
    made: ReplayRequest | None


class Sessions:
    """What is known of the endpoint's own IDs. Use in one event loop."""

    def __init__(self, settings: StateSettings) -> None:
        self._places = Places(settings)
        self._pairs = Pairs(
            settings.pairs, settings.age, asyncio.get_running_loop().time, sessions=self._places.sessions
        )

    def __repr__(self) -> str:
        return f"<Sessions {self._pairs.counts}>"

    def open(self, recorded: Recorded, record_id: str) -> "Step":
        """Begin a request, in the order of the log. `record_id` is that of the new record.

        One that is not sent is over at once: the endpoint has none of the IDs that live gave in its answer.
        """
        request = _request_of(recorded, record_id)
        found = find(self._places, self._pairs, request)
        watch = Watch(self._places, self._pairs, record_id, request.method, request.target)
        step = Step(recorded, request, found, watch)
        watch.job = step
        for entry in step.entries:
            entry.jobs = [*(entry.jobs or ()), step]
        live = recorded.live
        reply = live.reply if isinstance(live, Failure) else live
        if reply is not None:
            watch.live_head(request, reply.status, reply.fields)
            watch.live_piece(reply.body)
        watch.live_end(request, live)
        if recorded.made is None:
            step.end(None)
        return step


class Step:
    """One request of a session. `end` is called once; `translated` is what was translated, once it was sent."""

    def __init__(self, recorded: Recorded, request: Request, found: Found, watch: Watch) -> None:
        self.watch = watch
        self.translated: tuple[Translated, ...] = ()
        self.put_fields: frozenset[str] = frozenset()
        self._recorded = recorded
        self._request = request
        self._found = found
        self._over = asyncio.Event()
        self._earlier = [
            each
            for entry in self.entries
            for each in entry.jobs or ()
            if isinstance(each, Step) and each._recorded.over <= recorded.at
        ]

    @property
    def entries(self) -> list[Entry]:
        """Those of live's IDs in the request, each once."""
        return list({id(each.entry): each.entry for each in self._found.occurrences if each.entry is not None}.values())

    async def wait(self) -> None:
        """Wait for the answers that give the IDs of this request, and for the session's earlier requests."""
        settled = asyncio.Event()
        for entry in self._found.pending:
            settled.clear()
            entry.when_settled(settled.set)
            await settled.wait()
        for each in self._earlier:
            await each._over.wait()

    @property
    def unknown(self) -> Skipped | None:
        """Why this request cannot be sent; None if it can."""
        place = self._found.unknown
        if place is None:  # a cookie that live is not known to have given is a session, unless live begins one here
            begun = self.watch.gave_cookie
            place = next((f"cookie:{name}" for name in self._found.strangers if not begun(name)), None)
        if place is None:
            return None
        return Skipped(Outcome.STATE_UNKNOWN, f"the endpoint's own ID is not known for live's in {place}")

    def request(self) -> tuple[bytes, list[Field], bytes]:
        """The target, the fields and the body to send."""
        made = self._recorded.made
        assert made is not None  # or it was over at once
        if not self._found.occurrences:
            return made.target, made.fields, made.body
        translation = translate(self._request, self._found, credentials=True)
        self.translated = translation.translated
        self.put_fields = frozenset([name.decode("latin-1").lower() for name, _ in translation.own])
        kept = self._request.fields if translation.fields is None else translation.fields
        fields = [field for field in kept if MARK.search(field[1].decode("latin-1")) is None]
        body = made.body if translation.body is None else translation.body
        return translation.target, [*fields, *translation.own], body

    def end(self, leg: ShadowLeg | None) -> ShadowLeg | None:
        """The request is over: `leg` is how, None if it was not sent. Returns it with what was translated and learnt
        of it."""
        self.watch.own_end(leg)
        for entry in {*self.entries, *self.watch.entries}:
            if entry.jobs is not None:
                entry.jobs = [each for each in entry.jobs if each is not self] or None
        self._over.set()
        if isinstance(leg, Reply):
            return self.watch.with_pairs(leg._replace(translated=self.translated), self._recorded.live)
        return leg._replace(translated=self.translated) if isinstance(leg, Failure) else leg


def _request_of(recorded: Recorded, record_id: str) -> Request:
    made, record = recorded.made, recorded.record
    if made is None:
        asked = record.request
        target = f"{asked.path}?{asked.query}" if asked.query else asked.path
        return Request(record.id, record_id, 1000 * recorded.at, asked.method, target.encode(), (), b"", 0)
    fields = (*made.fields, *made.marked)
    size = len(made.body)
    return Request(record.id, record_id, 1000 * recorded.at, made.method, made.target, fields, made.body, size)


def live_reply(leg: RecordedLeg, json_text: bytes | None) -> Reply | Failure:
    """Live's recorded answer as it came, as far as the log has it. `json_text` is the text of a JSON body."""
    fields = tuple(_fields_of(leg))
    body = b""
    whole = True
    if leg.body is not None:
        whole = not leg.body.truncated
        if leg.body.kind == "json" and json_text is not None:
            body = json_text
        elif leg.body.kind == "text":
            body = leg.body.value.encode("utf-8", "surrogatepass")
        elif leg.body.kind == "bytes":
            body = leg.body.value
    if leg.status is None:
        return Failure(leg.outcome, leg.error or "", 0.0)
    reply = Reply(leg.status, fields, body, len(body) if whole else len(body) + 1, 0.0, leg.total_ms or 0.0)
    return reply if leg.outcome is Outcome.OK else Failure(leg.outcome, leg.error or "", 0.0, reply)


def _fields_of(leg: RecordedLeg) -> Fields:
    coded = leg.body is not None and leg.body.coding is not None
    found: list[Field] = []
    for name, values in leg.headers.items():
        if coded or name not in _OF_CODED_BODIES:
            found += [(name.encode(), each.encode()) for each in ([values] if isinstance(values, str) else values)]
    return tuple(found)
