"""What one live process tells the others of IDs, and reads of theirs.

The rules:

1. Each process has a mailbox, from which it alone reads, and writes to those of the others. Writing never waits: what a
   mailbox does not take is kept, up to MOST_KEPT bytes for each, and beyond that it is lost and counted.
2. An ID is told before the caller can come back with it: the note is written before the last bytes of live's answer
   pass on, and a process reads its mailbox before it looks an ID up.
3. What a process asks a shadow is known to it alone: an ID that another learns is PENDING here until that one tells
   its end. If that one ends before, its successor says so, and the ID is LOST.
4. A process that is started again asks one of the others for all IDs, first the one that has run for the longest; until
   it has them, or PATIENCE is over, it is not `complete`: its maps catch up, and requests to stateful shadows wait. One
   that is not complete itself answers once it is. Others lose nothing.
"""

import asyncio
import contextlib
import logging
import socket
from collections import deque
from collections.abc import Coroutine, Iterator, Mapping, Sequence
from functools import partial
from typing import Final, NamedTuple

from shadowproxy.serve.neighbours.notes import Ask, End, Note, NoteError, Notes, in_packets, message_of, packet_of
from shadowproxy.serve.state.pairs import PENDING, Entry, Pairs, Standing
from shadowproxy.serve.telemetry.operator_log import Repeats, times_text

MOST_KEPT: Final = 4 << 20
"""Bytes that wait for one mailbox: as much as a full map takes to be told."""

PATIENCE: Final = 1.0
"""Seconds that a new process waits for the IDs of the others, of which it asks one after the other."""

MOST_PENDING: Final = 10_000
"""Entries of one process whose end is awaited. Beyond that those older than OLD seconds are forgotten."""

OLD: Final = 60.0

READ_AT_ONCE: Final = 1000
"""Packets that are read in one turn."""

_MAILBOX: Final = "mailbox"
_LONGEST: Final = 1 << 17

_log = logging.getLogger(__name__)


class NeighbourCounts(NamedTuple):
    """Notes since the start: sent to all others, received, and lost as a mailbox was full or unreadable."""

    sent: int = 0
    received: int = 0
    lost: int = 0


class Neighbours:
    """Owns the mailboxes of one live process; end with `close`. `number` is its own among the live processes, of which
    there are `several`."""

    def __init__(self, number: int = 0, *, several: bool = False, patience: float = PATIENCE) -> None:
        self.number = number
        self.several = several
        self._is_complete = asyncio.Event()
        self._is_complete.set()
        self._patience = patience
        self._reads = False
        self._mailbox: socket.socket | None = None
        self._others: dict[int, _Outgoing] = {}
        self._maps: dict[str, Pairs] = {}
        self._told_by: dict[int, dict[tuple[str, bytes], Entry]] = {}  # PENDING ones, by who will tell their end
        self._tasks: set[asyncio.Task[None]] = set()
        self._ended: asyncio.Event | None = None  # set when the one that was asked has sent all
        self._sent = 0
        self._received = 0
        self._unreadable = 0
        self._repeats = Repeats()

    def __repr__(self) -> str:
        return f"<Neighbours {self.number} of {len(self._others) + 1} {self.counts}>"

    @property
    def counts(self) -> NeighbourCounts:
        lost = self._unreadable + sum(other.lost for other in self._others.values())
        return NeighbourCounts(self._sent, self._received, lost)

    @property
    def complete(self) -> bool:
        """Whether it knows what the others know, as far as they could be asked."""
        return self._is_complete.is_set()

    @staticmethod
    def is_mailbox(name: str) -> bool:
        """Whether a socket of that name is one for `connect`."""
        return name.startswith(_MAILBOX)

    @staticmethod
    def mailbox_name(number: int | None = None) -> str:
        """The name under which a process is given its mailbox, or the end to write to that of another."""
        return _MAILBOX if number is None else f"{_MAILBOX} {number}"

    def connect(self, name: str, given: socket.socket) -> None:
        """Take a socket under the name that `mailbox_name` gives it."""
        given.setblocking(False)
        number = name.removeprefix(_MAILBOX).strip()
        if number:
            if (before := self._others.pop(int(number), None)) is not None:
                before.close()
            self._others[int(number)] = _Outgoing(given)
            return
        self._stop_reading()
        self._mailbox = given
        if self._reads:
            asyncio.get_running_loop().add_reader(given, self.read)

    def share(self, maps: Mapping[str, Pairs]) -> None:
        """From now on tell the others what these maps learn, and these maps what they do.

        They are by a text that is the same in all processes for one shadow under one configuration: while another is
        put in force, a process must not be told the IDs of a shadow that this one has left. Maps that are new then are
        filled from the others, which may have them for longer.
        """
        fresh = [pairs for shadow, pairs in maps.items() if self._maps.get(shadow) is not pairs]
        for shadow, pairs in list(self._maps.items()):
            if maps.get(shadow) is not pairs:
                del self._maps[shadow]
                pairs.on_issued = pairs.on_settled = pairs.refresh = None
                pairs.end_catching_up()
        for shadow, pairs in maps.items() if self.several else ():
            self._maps[shadow] = pairs
            pairs.on_issued = pairs.on_settled = partial(self._tell, shadow)
            pairs.refresh = self.read
        if fresh and self._reads and self.several:
            self._run(self._catch_up(fresh, sorted(self._others), every=True))

    async def start(self, knowing: Sequence[int] = ()) -> None:
        """Begin to read, once all maps are here, and say that this process has started. `knowing` are the others to
        fetch the IDs from, as one ran in its place before."""
        self._reads = True
        if self._mailbox is not None:
            asyncio.get_running_loop().add_reader(self._mailbox, self.read)
        for number in self._others:
            self._send_to(number, packet_of(Ask(self.number, wanted=False)))
        asked = [number for number in knowing if number in self._others] if self._maps else []
        if asked:
            self._is_complete.clear()
            try:
                await self._catch_up(list(self._maps.values()), asked, every=False)
            finally:
                self._is_complete.set()

    async def _catch_up(self, fresh: Sequence[Pairs], asked: Sequence[int], *, every: bool) -> None:
        """Have these maps wait until the others have said what they know: one of them, or `every` one."""
        for pairs in fresh:
            pairs.begin_catching_up()
        try:
            if every:
                for number in asked:
                    await self._fetch([number], self._patience / 3)
            else:
                await self._fetch(asked, self._patience)
        finally:
            for pairs in fresh:
                pairs.end_catching_up()

    async def _fetch(self, asked: Sequence[int], patience: float) -> None:
        """Ask one after the other until one has said all."""
        self._ended = ended = asyncio.Event()
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(patience):
                for number in asked:
                    self._send_to(number, packet_of(Ask(self.number, wanted=True)))
                    with contextlib.suppress(TimeoutError):
                        async with asyncio.timeout(self._patience / 3):
                            await ended.wait()
                    if ended.is_set():
                        return
                await ended.wait()

    def read(self) -> None:
        """Read what is in the mailbox. Never waits."""
        mailbox = self._mailbox
        if mailbox is None or not self._reads:
            return
        for _ in range(READ_AT_ONCE):
            try:
                packet = mailbox.recv(_LONGEST)
            except (BlockingIOError, InterruptedError):
                return
            except OSError:
                packet = b""
            if not packet:  # the supervisor has ended, and so does this process
                self._stop_reading()
                return
            try:
                self._take(packet)
            except NoteError as why:
                self._unreadable += 1
                _log.error("%s", why, extra={"event": "defect"})

    async def close(self) -> None:
        for task in list(self._tasks):
            task.cancel()
        if self._tasks:
            await asyncio.wait(list(self._tasks))
        self._stop_reading()
        self.share({})
        for other in self._others.values():
            other.close()
        self._others.clear()

    def _run(self, work: Coroutine[object, object, None]) -> None:
        task = asyncio.get_running_loop().create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    def _stop_reading(self) -> None:
        if self._mailbox is not None:
            asyncio.get_running_loop().remove_reader(self._mailbox)
            self._mailbox.close()
            self._mailbox = None

    # --- telling

    def _tell(self, shadow: str, entry: Entry) -> None:
        if not self._others:
            return
        packet = packet_of(Notes(self.number, shadow, (_note_of(entry, self.number),)))
        self._sent += 1
        for number in self._others:
            self._send_to(number, packet)

    def _send_to(self, number: int, packet: bytes) -> None:
        other = self._others[number]
        if not other.send(packet) and (count := self._repeats.worth_logging("neighbour", str(number))):
            extra = {"event": "ids_not_shared", "worker": number, "count": count}
            _log.warning("worker %d does not read what others know of IDs%s", number, times_text(count), extra=extra)

    async def _send_all(self, number: int) -> None:
        """Tell one that asked all that is known, a packet in each turn, as fast as it reads."""
        await self._is_complete.wait()
        for packet in self._all_packets():
            if (other := self._others.get(number)) is None:
                return
            await other.wait_empty()
            self._send_to(number, packet)
        if number in self._others:
            self._send_to(number, packet_of(End(self.number)))

    def _all_packets(self) -> Iterator[bytes]:
        issuers = {id(entry): number for number, told in self._told_by.items() for entry in told.values()}
        for shadow, pairs in list(self._maps.items()):
            notes = [_note_of(entry, issuers.get(id(entry), self.number)) for entry in pairs.entries()]
            yield from in_packets(self.number, shadow, notes)

    # --- what others tell

    def _take(self, packet: bytes) -> None:
        message = message_of(packet)
        if isinstance(message, Notes):
            pairs = self._maps.get(message.shadow)
            if pairs is not None:
                for note in message.notes:
                    self._take_note(message, note, pairs)
        elif isinstance(message, Ask):
            if not message.wanted:
                self._lose_pending(message.sender)
            else:
                self._run(self._send_all(message.sender))
        elif self._ended is not None:
            self._ended.set()

    def _take_note(self, message: Notes, note: Note, pairs: Pairs) -> None:
        self._received += 1
        entry = pairs.told(note.value, note.scope, note.record, note.place, Standing(note.standing), note.own)
        if note.issuer == self.number and entry.standing is PENDING and message.sender != note.issuer:
            if not self.complete:
                pairs.told_lost(entry)  # the one that ran in this place would have known its end
            return
        waiting = self._told_by.setdefault(note.issuer, {})
        if entry.standing is PENDING:
            waiting[message.shadow, entry.key] = entry
            if len(waiting) > MOST_PENDING:  # the end of some has not reached this process
                self._told_by[note.issuer] = {
                    key: each
                    for key, each in waiting.items()
                    if each.standing is PENDING and each.used > entry.used - OLD
                }
        else:
            waiting.pop((message.shadow, entry.key), None)

    def _lose_pending(self, number: int) -> None:
        """The process of this number was started again: what its predecessor would have learnt is never learnt."""
        for (shadow, _), entry in self._told_by.pop(number, {}).items():
            if (pairs := self._maps.get(shadow)) is not None:
                pairs.told_lost(entry)


def _note_of(entry: Entry, issuer: int) -> Note:
    scope = b"" if entry.key is entry.live else entry.key[len(entry.live) + 1 :]
    return Note(entry.live, scope, entry.record, entry.place, int(entry.standing), entry.own, issuer)


class _Outgoing:
    """The end of another's mailbox, and what waits until there is room in it."""

    def __init__(self, given: socket.socket) -> None:
        self.lost = 0
        self._socket = given
        self._kept: deque[bytes] = deque()
        self._size = 0
        self._empty = asyncio.Event()
        self._empty.set()

    def send(self, packet: bytes) -> bool:
        """Whether the packet is written, or kept until it can be."""
        if not self._kept:
            if self._write(packet):
                return True
            asyncio.get_running_loop().add_writer(self._socket, self._flush)
            self._empty.clear()
        if self._size + len(packet) > MOST_KEPT:
            self.lost += 1
            return False
        self._kept.append(packet)
        self._size += len(packet)
        return True

    async def wait_empty(self) -> None:
        await asyncio.sleep(0)
        await self._empty.wait()

    def close(self) -> None:
        asyncio.get_running_loop().remove_writer(self._socket)
        self._socket.close()
        self._empty.set()

    def _write(self, packet: bytes) -> bool:
        try:
            self._socket.send(packet)
        except (BlockingIOError, InterruptedError):
            return False
        except OSError:
            self.lost += 1  # the supervisor has ended: nobody reads any more
        return True

    def _flush(self) -> None:
        while self._kept:
            if not self._write(self._kept[0]):
                return
            self._size -= len(self._kept.popleft())
        asyncio.get_running_loop().remove_writer(self._socket)
        self._empty.set()
