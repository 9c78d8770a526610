"""Live's end: settled exchanges go to the recorder, from the event loop, and callers never wait for it.

Its rules:

1. `append` never waits and never raises. It turns the exchange into bytes at once and queues these: the collector of
   cyclic garbage has nothing to look through, however long the recorder hangs.
2. The queue has a budget of bytes. An exchange that does not fit is counted as lost, and the operator's log says so.
   While the recorder takes what it is sent, the queue may hold more: many exchanges may settle at once.
3. Nothing is sent in the middle of a request: exchanges gather, and go out in a turn of the loop of their own. The
   loop watches the socket for room only while it is full.
4. What was sent and not reported when the recorder's connection ends is lost; what was not sent waits for the next
   recorder. The books (ledger.py) say so.
5. No error of the socket leaves this module.
"""

import asyncio
import contextlib
import logging
import socket
from collections import deque
from collections.abc import Callable
from typing import TypeAlias

from shadowproxy.exchange import Exchange
from shadowproxy.serve.handover.books import Books, plain_books
from shadowproxy.serve.handover.frames import (
    ACK,
    CENSUS,
    END,
    EXCHANGE,
    MOST,
    NOTE,
    Decoder,
    frame_of,
    frames_of_exchange,
)
from shadowproxy.serve.handover.ledger import Ledger

GATHER = 0.05
"""Seconds that the first exchange of a few waits for others, so that the recorder is woken once for all of them."""

BATCH = 16
"""Exchanges that are sent without waiting any longer, and the most that one system call carries."""

BATCH_BYTES = 64 << 10
"""As BATCH, in bytes."""

TURN_BYTES = 256 << 10
"""Bytes after which the loop has its turn before more is sent."""

CENSUS_EVERY = 0.2
"""Seconds between two censuses while anything changes."""

OVERHEAD = 96
"""About the bytes that Python adds to each queued exchange."""

RECEIVE = 64 << 10

STALLED = 1.0
"""Seconds in which the recorder takes nothing, after which it counts as hanging."""

_Entry: TypeAlias = "bytes | list[bytes]"
"""A frame, or with raw bodies behind it. The first byte of a frame is its kind."""

_log = logging.getLogger("shadowproxy")


class Outbox:
    """Owns the socket that `connect` gave it. For one event loop; use `close` at the end.

    `budget` is the most bytes that wait here while the recorder hangs or is gone, `most` while it takes what it is
    sent, by default as many. `census` returns what the recorder is to know beside the exchanges and the books: plain
    data, or None. It is sent when something was appended or `note_change` was called, CENSUS_EVERY seconds later at
    most. `on_disconnect` is called when the recorder's end has closed. `gather` is in seconds.
    """

    def __init__(
        self,
        *,
        budget: int,
        most: int | None = None,
        census: Callable[[], object] = lambda: None,
        on_disconnect: Callable[[], object] = lambda: None,
        gather: float = GATHER,
    ) -> None:
        self.budget = budget
        self.most = budget if most is None else most
        self.queued_bytes = 0
        self._census = census
        self._on_disconnect = on_disconnect
        self._gather = gather
        self._loop = asyncio.get_running_loop()
        self._closed = False  # no exchange is taken any more
        self._finished = False  # and none is sent
        self._closing: asyncio.Timeout | None = None
        self._queue: deque[_Entry] = deque()
        self._ledger = Ledger()
        # The connection's own, begun by `connect`.
        self._socket: socket.socket | None = None
        self._decoder = Decoder()
        self._sending: memoryview | None = None  # what is left of the batch under way
        self._bodies: list[bytes] = []  # raw bodies that follow it, the last one first
        self._sending_bytes = 0  # the part of `queued_bytes` that these two are
        self._blocked = False  # the loop watches the socket for room
        self._last_queued = False  # its END waits or was sent: nothing may come after it
        self._stuck_since: float | None = None  # when the socket was full, and has taken nothing since
        self._connected = asyncio.Event()
        self._ended = asyncio.Event()
        self._drained = asyncio.Event()
        # When to send.
        self._timer: asyncio.TimerHandle | None = None
        self._soon = False
        self._census_timer: asyncio.TimerHandle | None = None
        self._census_due = False
        self._logged: set[str] = set()

    def __repr__(self) -> str:
        state = "closed" if self._closed else "connected" if self._socket is not None else "disconnected"
        return f"<Outbox {state} {self._ledger!r} bytes={self.queued_bytes}>"

    @property
    def connected(self) -> bool:
        return self._socket is not None

    def held_bytes(self) -> int:
        """`queued_bytes`, as a call."""
        return self.queued_bytes

    # --- what the live path does -------------------------------------------------------------------------------------

    def append(self, exchange: Exchange, generation: int) -> bool:
        """Take an exchange that began under `generation`; False where it was rejected and counted as lost."""
        ledger = self._ledger
        ledger.appended += 1
        if self._closed:
            return self._lose("journal_closed")
        if self.queued_bytes >= self.budget and (self.queued_bytes >= self.most or self._is_stalled()):
            return self._lose("journal_full")
        try:
            frames = frames_of_exchange(exchange, generation)
        except Exception:  # noqa: BLE001 - rule 1; it is counted and logged
            self._log_defect("an exchange cannot be sent to the recorder", with_traceback=True)
            return self._lose("encode_error")
        size = len(frames[0])
        if len(frames) > 1:
            size = sum(map(len, frames))
            if size > max(self.budget, self.most) or size > MOST:
                return self._lose("journal_full")
            self._queue.append(frames)
        else:
            self._queue.append(frames[0])
        self.queued_bytes += size + OVERHEAD
        ledger.unsent += 1
        if not self._soon and not self._blocked and self._socket is not None:
            if ledger.unsent >= BATCH or self.queued_bytes >= BATCH_BYTES:
                self._soon = True
                self._loop.call_soon(self._send_gathered)
            elif self._timer is None:
                self._timer = self._loop.call_later(self._gather, self._send_gathered)
        if self._census_timer is None:
            self._plan_census()
        return True

    def note_lost(self, reason: str, count: int) -> None:
        """Count exchanges that were lost before they came here, under one of LOSSES."""
        self._ledger.appended += count
        self._ledger.lose(reason, count)
        self.note_change()

    def note_change(self) -> None:
        """Something that the census tells has changed: send one before long."""
        if self._census_timer is None and not self._closed:
            self._plan_census()

    def send_census(self) -> None:
        """Send a census before all that waits, now or as soon as the recorder reads; nothing once the end is near.

        The supervisor asks for one at any time. After the end the socket takes nothing more, and an error of it would
        count all as lost that the recorder is about to report.
        """
        if self._socket is not None and not self._last_queued:
            self._census_due = True
            if not self._blocked:
                self._send()

    def send_note(self, value: object) -> None:
        """Send plain data that arrives after every exchange appended so far, and before every later one."""
        if self._closed:
            return
        try:
            note = frame_of(NOTE, value)
        except ValueError:
            self._log_defect("a note cannot be sent to the recorder", with_traceback=True)
            return
        self._queue.append(note)
        self.queued_bytes += len(note) + OVERHEAD
        if not self._blocked:
            self._send()

    def statistics(self) -> Books:
        """What became of all exchanges up to now."""
        return self._ledger.books(self.queued_bytes)

    # --- the connection ----------------------------------------------------------------------------------------------

    def connect(self, ours: socket.socket) -> None:
        """Send to the recorder at the other end from now on. A connection of before ends with this."""
        self._disconnect()
        if self._finished:
            ours.close()
            return
        ours.setblocking(False)
        self._socket = ours
        self._decoder = Decoder()
        self._ended.clear()
        self._connected.set()
        self._loop.add_reader(ours, self._receive)
        self._census_due = True
        self._send()

    async def close(self, within: float) -> None:
        """Take no more, send what waits, and wait for the recorder's last reports, `within` seconds in all.

        A recorder that ends meanwhile is waited for as long: its successor gets the rest. What was not sent by then is
        lost as `journal_closed`; what was not reported, as `recorder_ended`.
        """
        if self._closed:
            return
        self._closed = True
        if self._census_timer is not None:
            self._census_timer.cancel()
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(within) as self._closing:
                await self._hand_over_rest()
                while self._ledger.unsent:
                    await self._connected.wait()
                    await self._hand_over_rest()
        self._finished = True
        self._disconnect()
        self._ledger.lose_unsent()
        self._queue.clear()
        self.queued_bytes = 0

    def hurry(self, within: float) -> None:
        """Have `close`, which waits, take so many seconds more at most."""
        closing = self._closing
        if closing is not None and not self._finished and not closing.expired():
            until = self._loop.time() + within
            closing.reschedule(min(until, closing.when() or until))

    async def _hand_over_rest(self) -> None:
        """Send all that waits and then the end, and wait until the recorder has closed the connection."""
        await self._drain()
        if self._socket is None:
            return
        # The last census has all in it: nothing is appended any more.
        self._census_due = self._last_queued = True
        end = frame_of(END, None)
        self._queue.append(end)
        self.queued_bytes += len(end) + OVERHEAD
        await self._drain()
        if self._socket is not None:
            self._shut_down(self._socket)
            await self._ended.wait()

    async def _drain(self) -> None:
        """Wait until all is in the socket, or the recorder is gone."""
        self._drained.clear()
        if not self._blocked:
            self._send()
        if self._socket is not None:
            await self._drained.wait()

    def _shut_down(self, ours: socket.socket) -> None:
        with contextlib.suppress(OSError):
            ours.shutdown(socket.SHUT_WR)

    def _disconnect(self) -> None:
        """Close the connection, if there is one. What was sent on it and not reported is lost."""
        ours = self._socket
        if ours is None:
            return
        self._receive_last(ours)
        self._socket = None
        self._connected.clear()
        self._loop.remove_reader(ours)
        if self._blocked:
            self._loop.remove_writer(ours)
        ours.close()
        self._ledger.end_recorder()
        self.queued_bytes -= self._sending_bytes
        self._sending, self._bodies, self._sending_bytes = None, [], 0
        self._blocked = self._last_queued = False
        self._stuck_since = None
        self._ended.set()
        self._drained.set()

    def _lose_connection(self) -> None:
        self._disconnect()
        if not self._finished:
            try:
                self._on_disconnect()
            except Exception:  # noqa: BLE001 - rule 5; it is logged
                self._log_defect("the end of the recorder's connection cannot be noted", with_traceback=True)

    # --- sending -----------------------------------------------------------------------------------------------------

    def _send_gathered(self) -> None:
        self._soon = False
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        if not self._blocked:
            self._send()

    def _send(self) -> None:
        """Send what waits, until the socket is full or the loop is to have its turn."""
        ours = self._socket
        if ours is None:
            return
        sent = 0
        try:
            while sent < TURN_BYTES:
                rest = self._sending
                if rest is None:
                    rest = self._next_piece()
                    if rest is None:
                        self._unblock(ours)
                        self._drained.set()
                        return
                count = ours.send(rest)
                self._stuck_since = None
                sent += count
                self.queued_bytes -= count
                self._sending_bytes -= count
                if count < len(rest):
                    self._sending = rest[count : len(rest)]
                    break
                self._sending = None
        except (BlockingIOError, InterruptedError):
            if self._stuck_since is None:  # the rest goes out when there is room
                self._stuck_since = self._loop.time()
        except OSError:
            self._lose_connection()
            return
        if not self._blocked:
            self._blocked = True
            self._loop.add_writer(ours, self._send)

    def _is_stalled(self) -> bool:
        """Whether the recorder takes nothing: it hangs, or there is none."""
        if self._socket is None:
            return True
        return self._stuck_since is not None and self._loop.time() - self._stuck_since > STALLED

    def _unblock(self, ours: socket.socket) -> None:
        if self._blocked:
            self._blocked = False
            self._loop.remove_writer(ours)

    def _next_piece(self) -> memoryview | None:
        """What to send next; None where nothing waits."""
        if self._bodies:
            data = self._bodies.pop()
        elif (data := self._next_batch()) == b"":
            return None
        self._sending = piece = memoryview(data)
        return piece

    def _next_batch(self) -> bytes:
        """The next frames, which count as given to this recorder from here on. A body behind the last is in `_bodies`.

        A census goes before all that waits: it says how much that is.
        """
        parts: list[bytes] = []
        size = 0
        if self._census_due:
            self._census_due = False
            parts.append(self._census_frame())
            size = len(parts[0])
            self.queued_bytes += size
        exchanges = 0
        while self._queue and exchanges < BATCH and size < BATCH_BYTES:
            entry = self._queue.popleft()
            self.queued_bytes -= OVERHEAD
            if isinstance(entry, list):
                frame = entry[0]
                self._bodies = entry[:0:-1]
                for body in self._bodies:
                    size += len(body)
            else:
                frame = entry
            parts.append(frame)
            size += len(frame)
            exchanges += frame[0] == EXCHANGE
            if self._bodies:
                break  # nothing may stand between a frame and its bodies
        self._sending_bytes += size
        self._ledger.hand(exchanges)
        return parts[0] if len(parts) == 1 else b"".join(parts)

    # --- what the recorder is to know, and what it reports -----------------------------------------------------------

    def _plan_census(self) -> None:
        self._census_timer = self._loop.call_later(CENSUS_EVERY, self._send_planned_census)

    def _send_planned_census(self) -> None:
        self._census_timer = None
        self.send_census()

    def _census_frame(self) -> bytes:
        try:
            census = self._census()
            return frame_of(CENSUS, (self._ledger.unsent, plain_books(self.statistics()), census))
        except Exception:  # noqa: BLE001 - rule 5; it is logged
            self._log_defect("a census cannot be sent to the recorder", with_traceback=True)
            return b""

    def _receive(self) -> None:
        ours = self._socket
        if ours is None:
            return
        try:
            data = ours.recv(RECEIVE)
        except (BlockingIOError, InterruptedError):
            return
        except OSError:
            data = b""
        if not data or not self._take_reports(data):
            self._lose_connection()

    def _receive_last(self, ours: socket.socket) -> None:
        """What the recorder had reported before its connection ended."""
        with contextlib.suppress(OSError):
            while (data := ours.recv(RECEIVE)) and self._take_reports(data):
                pass

    def _take_reports(self, data: bytes) -> bool:
        """False where they cannot be read."""
        for kind, value, _ in self._decoder.feed(data):
            if kind != ACK or not self._ledger.take_report(value):
                self._log_defect("the recorder's report cannot be read")
                return False
        if (error := self._decoder.error) is not None:
            self._log_defect(f"the recorder's report cannot be read: {error}")
        return error is None

    def _lose(self, reason: str) -> bool:
        """The value of `append` for an exchange that is lost at once."""
        self._ledger.lose(reason, 1)
        self.note_change()
        return False

    def _log_defect(self, what: str, *, with_traceback: bool = False) -> None:
        """Once a cause; it may come with every exchange."""
        if what not in self._logged:
            self._logged.add(what)
            extra = {"event": "defect"}
            _log.error("a defect in the proxy: %s", what, exc_info=with_traceback, extra=extra)
