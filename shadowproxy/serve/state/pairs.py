"""Live's IDs, and for each the shadow's own: a bounded map. No I/O; time comes from the caller.

The rules:

1. An ID that live has given is an entry from then on. It is PENDING until the shadow's answer to the same request is
   over, and then has its own (KNOWN), or is the same for both (SAME), or is one that the shadow does not give (ABSENT),
   or was never learnt, as the shadow failed or was not asked (LOST).
2. What is kept is bounded by number, by bytes, and by the time since an entry was last used. The one that was not used
   for the longest falls out first, and is counted.
3. An ID that fell out is still recognized as live's, by its hash, so that it is not sent to the shadow as an ordinary
   value; the table of hashes is bounded too, and only then forgets.
4. A short ID has a scope beside it: the path under which it was made, or the name of its field. The same integer may be
   two different things.
5. A UUID is the same in capitals.
"""

import re
from collections import OrderedDict
from collections.abc import Callable, Collection
from enum import IntEnum
from typing import Final, NamedTuple

from shadowproxy.serve.state.settings import LEAST

ENTRY: Final = 500
"""About the bytes that an entry takes beside its texts."""

BYTES: Final = 16 << 20
"""The most that a shadow's entries take, in bytes."""

HASHES: Final = 1 << 15
"""How many hashes are remembered of entries that fell out, of about 130 bytes each."""

SESSION_NAMES: Final = 64

_UUID: Final = re.compile(rb"[0-9A-Fa-f]{8}(?:-[0-9A-Fa-f]{4}){3}-[0-9A-Fa-f]{12}")
_UUID_LENGTH: Final = 36

ENOUGH_REPEATS: Final = 3
"""From so many repeats on, that are a TENTH of what came, a place's values are not new for each call."""

ENOUGH_ANSWERS: Final = 3
"""From so many values on that are the same in both answers, or OFTEN the shadow's, a place has no IDs: no two programs
make up the same one."""

OFTEN: Final = 5
"""What the shadow gave for so many different IDs of live's is no ID: a constant, or one of a few classes. A shadow that
counts from 1 again after each restart gives the same few times."""


class Standing(IntEnum):
    """How much is known of the shadow's own ID. A closed set."""

    PENDING = 0
    KNOWN = 1
    SAME = 2
    ABSENT = 3
    LOST = 4


PENDING: Final[Standing] = Standing.PENDING
KNOWN: Final[Standing] = Standing.KNOWN
SAME: Final[Standing] = Standing.SAME
ABSENT: Final[Standing] = Standing.ABSENT
LOST: Final[Standing] = Standing.LOST


class Entry:
    """One of live's IDs. `own` is the shadow's, if KNOWN; `record` the record of the exchange that gave it.

    `place` is where it was learnt. `used` is when it was last used. `waiting` are called, once each, when it is PENDING
    no more. `jobs` belong to the mirror: the requests to the shadow that concern this ID and are not over.
    """

    __slots__ = ("jobs", "key", "live", "own", "place", "record", "standing", "used", "waiting")

    def __init__(self, key: bytes, live: bytes, record: str, place: str, used: float) -> None:
        self.key = key
        self.live = live
        self.own = b""
        self.record = record
        self.place = place
        self.standing: Standing = PENDING
        self.used = used
        self.waiting: list[Callable[[], None]] | None = None
        self.jobs: list[object] | None = None

    def __repr__(self) -> str:
        return f"<Entry {self.place} {self.standing.name}>"

    @property
    def is_session(self) -> bool:
        """Whether it was given in a field or a cookie: a request with another value there has another session."""
        return self.place.startswith(("header:", "set-cookie:"))

    def when_settled(self, callback: Callable[[], None]) -> None:
        """Call back once this is PENDING no more."""
        if self.waiting is None:
            self.waiting = []
        self.waiting.append(callback)


class PairCounts(NamedTuple):
    """`held` entries, `pending` of them without an end; since the start `learnt` pairs, and entries that fell out."""

    held: int
    pending: int
    learnt: int
    lost: int
    fell_out: int


class Pairs:
    """The map of one shadow. `clock` gives seconds.

    `session_names` are the fields, in lower case, and the cookies (`set-cookie:NAME`) that hold a session: `sessions`,
    and those in which live has given an ID.

    `on_issued` and `on_settled` are called with an entry that this process made, or came to know the end of: other live
    processes are told by them. `refresh` is called before an ID is looked up: what others told is then read.
    """

    def __init__(
        self,
        most: int,
        age: float,
        clock: Callable[[], float],
        most_bytes: int = BYTES,
        sessions: Collection[bytes] = (),
    ) -> None:
        self.most = most
        self.age = age
        self.held_bytes = 0
        self.pending = 0
        self.learnt = 0
        self.lost = 0
        self.fell_out = 0
        self.session_names = set(sessions)
        self.has_quotes = False  # some ID has a quotation mark in it
        self.has_uuids = False
        self.on_issued: Callable[[Entry], None] | None = None
        self.on_settled: Callable[[Entry], None] | None = None
        self.refresh: Callable[[], None] | None = None
        self._clock = clock
        self._most_bytes = most_bytes
        self._entries: OrderedDict[bytes, Entry] = OrderedDict()  # in the order of their last use
        self._hashes: OrderedDict[int, None] = OrderedDict()  # of entries that fell out, in this order
        self._seen_at: dict[str, list[int]] = {}  # by place: values, repeats, answers
        self._owns: OrderedDict[int, int] = OrderedDict()  # hashes of the shadow's own: for how many of live's
        self._scopes: dict[bytes, dict[bytes, bytes]] = {}  # of short IDs: scope to key
        self._for_all: list[Callable[[], None]] | None = None

    def __repr__(self) -> str:
        return f"<Pairs {self.counts}>"

    def __len__(self) -> int:
        return len(self._entries)

    @property
    def counts(self) -> PairCounts:
        return PairCounts(len(self._entries), self.pending, self.learnt, self.lost, self.fell_out)

    @property
    def is_empty(self) -> bool:
        """Whether no value can be one of live's IDs."""
        return not self._entries and not self._hashes

    # Looking up.

    def has_any(self, values: list[bytes]) -> bool:
        """Whether one of many values may be an ID of at least LEAST characters, which `find` then tells."""
        entries, hashes = self._entries, self._hashes
        if not entries.keys().isdisjoint(values):
            return True
        if hashes and not hashes.keys().isdisjoint(map(hash, values)):
            return True
        if not self.has_uuids or _UUID_LENGTH not in map(len, values):
            return False
        keys = [key_of(value) for value in values if len(value) == _UUID_LENGTH]
        return any(key in entries or hash(key) in hashes for key in keys)

    def find(self, value: bytes) -> Entry | None:
        """The entry of an ID of at least LEAST characters, or None if live is not known to have given it."""
        entry = self._entries.get(value)
        if entry is None:
            key = key_of(value)
            if key != value:
                entry = self._entries.get(key)
            if entry is None:
                return self._fallen(key) if self._hashes else None
        return self._use(entry)

    def among(self, values: list[bytes]) -> list[Entry]:
        """The entries of those of these values that are IDs. It counts as no use of them."""
        entries = self._entries
        return [entries[value] for value in values if value in entries]

    def find_short(self, value: bytes, scope: bytes | None) -> Entry | None:
        """The entry of a short ID: the one of `scope`, or without a scope the only one that there is.

        Where several could be meant, the entry is one that is LOST: nobody knows which.
        """
        scopes = self._scopes.get(value)
        if scopes is None:
            key = short_key(value, scope or b"")
            return self._fallen(key) if self._hashes else None
        if scope is not None:
            there = scopes.get(scope)
            entry = None if there is None else self._entries.get(there)
            return None if entry is None else self._use(entry)
        entries = [self._entries[each] for each in scopes.values() if each in self._entries]
        if not entries:
            return None
        first = entries[0]
        if all(each.standing is first.standing and each.own == first.own for each in entries):
            return self._use(first)
        ambiguous = Entry(value, value, "", "", 0.0)
        ambiguous.standing = LOST
        return ambiguous

    def _use(self, entry: Entry) -> Entry | None:
        now = self._clock()
        if now - entry.used > self.age:
            self._drop(entry)
            return self._fallen(entry.key)
        entry.used = now
        self._entries.move_to_end(entry.key)
        return entry

    def _fallen(self, key: bytes) -> Entry | None:
        """An entry that is LOST, for the key of one that fell out."""
        if hash(key) not in self._hashes:
            return None
        entry = Entry(key, key, "", "", 0.0)
        entry.standing = LOST
        return entry

    # Learning.

    def issue(self, value: bytes, scope: bytes, record: str, place: str) -> Entry | None:
        """Live gave this ID. Returns its entry, which is PENDING; None if it has one that needs no other.

        One that had none of the shadow's own gets another chance: a caller that repeats its request, to be sure that it
        is carried out, gets the same ID again.
        """
        key = key_of(value) if len(value) >= LEAST else short_key(value, scope)
        known = self._entries.get(key)
        if known is not None:
            if known.standing is not ABSENT and known.standing is not LOST:
                return None
            self._remove(known)
        entry = Entry(key, value, record, place, self._clock())
        self._add(entry)
        if len(value) < LEAST:
            self._scopes.setdefault(value, {})[scope] = key
        self.pending += 1
        self._note_session(place)
        if self.on_issued is not None:
            self.on_issued(entry)
        return entry

    def settle(self, entry: Entry, standing: Standing, own: bytes = b"") -> None:
        """The shadow's answer is there: `own` is the ID that it gave, if KNOWN. Only the first time counts."""
        if self._settle(entry, standing, own) and self.on_settled is not None:
            self.on_settled(entry)

    # With other live processes.

    @property
    def catches_up(self) -> bool:
        """Whether the others are being asked for what they know: until then nobody knows which values are IDs."""
        return self._for_all is not None

    def begin_catching_up(self) -> None:
        """Another process ran in this one's place, so that others may know more."""
        self._for_all = []

    def when_caught_up(self, callback: Callable[[], None]) -> None:
        """Call back once they have said it, or were asked for long enough. Only while this `catches_up`."""
        if self._for_all is not None:
            self._for_all.append(callback)

    def end_catching_up(self) -> None:
        waiting, self._for_all = self._for_all, None
        for callback in waiting or ():
            callback()

    def entries(self) -> list[Entry]:
        """All entries, the one first that was not used for the longest."""
        return list(self._entries.values())

    def told(self, value: bytes, scope: bytes, record: str, place: str, standing: Standing, own: bytes) -> Entry:
        """Another live process issued an ID, or came to know its end. An end that is known here stays."""
        key = key_of(value) if len(value) >= LEAST else short_key(value, scope)
        entry = self._entries.get(key)
        if entry is None:
            entry = Entry(key, value, record, place, self._clock())
            self._add(entry)
            if len(value) < LEAST:
                self._scopes.setdefault(value, {})[scope] = key
            self.pending += 1
            self._note_session(place)
        if standing is not PENDING:
            self._settle(entry, standing, own)
        return entry

    def told_lost(self, entry: Entry) -> None:
        """The live process that would have told this entry's end has ended."""
        self._settle(entry, LOST, b"")

    def _note_session(self, place: str) -> None:
        """Remember the field or cookie in which live gives a session: whatever it holds later is an ID."""
        kind, _, name = place.partition(":")
        if kind == "header" and name != "location":
            self._add_session(name.encode("latin-1"))
        elif kind == "set-cookie":
            self._add_session(place.encode("latin-1"))

    def _add_session(self, name: bytes) -> None:
        if len(self.session_names) < SESSION_NAMES:
            self.session_names.add(name)

    def _settle(self, entry: Entry, standing: Standing, own: bytes) -> bool:
        if entry.standing is not PENDING:
            return False
        self.pending -= 1
        entry.standing = standing
        entry.own = entry.live if standing is SAME else own
        if standing is KNOWN:
            self.learnt += 1
            if self._entries.get(entry.key) is entry:
                self.held_bytes += len(own)
        elif standing is LOST:
            self.lost += 1
        waiting, entry.waiting = entry.waiting, None
        if standing is SAME and not entry.is_session and self._entries.get(entry.key) is entry:
            self._remove(entry)  # an ordinary value: a request that has it goes as it is
        if waiting is not None:
            for callback in waiting:
                callback()
        if standing is SAME or (standing is KNOWN and self._is_often(own)):
            self.note_answer(entry.place)
        return True

    def _is_often(self, own: bytes) -> bool:
        """Whether this is the shadow's own for many of live's IDs."""
        owns, digest = self._owns, hash(own)
        times = owns[digest] = owns.get(digest, 0) + 1
        if times == 1 and len(owns) > HASHES:
            owns.popitem(last=False)
        return times >= OFTEN

    def _add(self, entry: Entry) -> None:
        self.has_quotes = self.has_quotes or entry.live.find(b'"') >= 0
        self.has_uuids = self.has_uuids or len(entry.key) == _UUID_LENGTH
        self._entries[entry.key] = entry
        self.held_bytes += _weight(entry)
        oldest = self._clock() - self.age
        while self._entries:
            first = next(iter(self._entries.values()))
            if first is entry or not (
                len(self._entries) > self.most or self.held_bytes > self._most_bytes or first.used < oldest
            ):
                return
            self._drop(first)

    def _drop(self, entry: Entry) -> None:
        """Let an entry fall out. Its hash is remembered."""
        self.fell_out += 1
        self._remove(entry)
        if len(self._hashes) >= HASHES:
            self._hashes.popitem(last=False)  # a plain dict looks for its first through all that were taken out
        self._hashes[hash(entry.key)] = None
        if entry.standing is PENDING:
            self.settle(entry, LOST)

    def _remove(self, entry: Entry) -> None:
        del self._entries[entry.key]
        self.held_bytes -= _weight(entry)
        if entry.key is not entry.live and (scopes := self._scopes.get(entry.live)) is not None:
            for scope in [scope for scope, key in scopes.items() if key == entry.key]:
                del scopes[scope]
            if not scopes:
                del self._scopes[entry.live]

    # Places whose values are not new for each call.

    def note(self, place: str, *, repeated: bool) -> bool:
        """Count a value at a place of `auto`. Returns whether the place still has values that are new for each call.

        If not, what was learnt there is forgotten: a prediction is not an ID, though it stands under `product_id`.
        """
        seen = self._seen_at.get(place)
        if seen is None:
            if len(self._seen_at) >= 1024:
                self._seen_at.clear()
            seen = self._seen_at[place] = [0, 0, 0]
        seen[0] += 1
        if repeated:
            had = _repeats(seen)
            seen[1] += 1
            if not had:
                self._give_up_if_repeats(place, seen)
        return not _repeats(seen)

    def note_answer(self, place: str) -> None:
        """Count a value at a place of `auto` that is an answer, not an ID: both gave it, or the shadow often does."""
        seen = self._seen_at.get(place)
        if seen is not None and not _repeats(seen):
            seen[2] += 1
            self._give_up_if_repeats(place, seen)

    def _give_up_if_repeats(self, place: str, seen: list[int]) -> None:
        """Forget what was learnt at a place if its values are not new for each call."""
        if _repeats(seen):
            for entry in [each for each in self._entries.values() if each.place == place]:
                self.settle(entry, SAME)
                if self._entries.get(entry.key) is entry:
                    self._remove(entry)


def short_key(value: bytes, scope: bytes) -> bytes:
    """The key of a short ID: no ID has a zero byte in it."""
    return value + b"\0" + scope


def key_of(value: bytes) -> bytes:
    """The key of an ID of at least LEAST characters."""
    return value.lower() if len(value) == _UUID_LENGTH and _UUID.fullmatch(value) is not None else value


def _repeats(seen: list[int]) -> bool:
    return seen[2] >= ENOUGH_ANSWERS or (seen[1] >= ENOUGH_REPEATS and seen[1] * 10 >= seen[0])


def _weight(entry: Entry) -> int:
    return ENTRY + 2 * len(entry.key) + len(entry.own) + len(entry.place)
