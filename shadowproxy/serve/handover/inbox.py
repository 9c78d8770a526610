"""The recorder's end: reads what the live processes send, has it written, and reports what became of it.

Its rules:

1. It reads only while there is room in the journal. A slow disk so fills the socket, then live's queue, and what does
   not fit there live counts as lost. Where nothing is queued it reads in any case: or a large exchange, of which a part
   was received, would wait for room for ever.
2. What a live process has sent whole is written though that process has died. Its last census, the exchanges that came
   after it, and what became of all of them are its final counts.
3. A frame that cannot be read is a defect. It is logged, and ends that connection: what came before it is written.
4. What became of exchanges is reported a few times a second, and for all of a while together: each report wakes a
   live process.
"""

import asyncio
import contextlib
import logging
import socket
from collections.abc import Callable
from typing import Any, NamedTuple

from shadowproxy.serve.handover.books import NOTHING, Books, add_settled, books_now, books_of, final_books
from shadowproxy.serve.handover.frames import (
    ACK,
    CENSUS,
    END,
    EXCHANGE,
    MOST,
    NOTE,
    Decoder,
    FrameError,
    exchange_of,
    frame_of,
)
from shadowproxy.serve.handover.tail import Tail
from shadowproxy.serve.journal.queue import Encode
from shadowproxy.serve.journal.root import Journal

REPORT_EVERY = 0.05
"""Seconds between two reports while exchanges are written."""

LOOK_EVERY = 0.01
"""The same, while a live process waits for the last report, or while reading has stopped for want of room."""

RECEIVE = 256 << 10

_log = logging.getLogger("shadowproxy")


class LiveState(NamedTuple):
    """What is known about one live process: its books, its last census, and the exchanges since. None: it sent none.

    `books` are complete in themselves, `tail` is what `census` does not have.
    """

    books: Books | None
    census: Any
    tail: Tail


class _Link:
    """One live process's connection. `ended`: nothing more comes; what came may still be on its way to the disk."""

    def __init__(self, name: str, theirs: socket.socket, journal: Journal, most: int) -> None:
        self.name = name
        self.socket = theirs
        self.decoder = Decoder(most)
        self.source = journal.add_source()
        self.settled = NOTHING  # in all
        self.reports = b""  # not sent yet
        self.books: Books | None = None
        self.census: Any = None
        self.tail = Tail()
        self.ahead = 0  # exchanges to come that the census has
        self.reads = False
        self.ended = False
        self.orderly = False

    def __repr__(self) -> str:
        return f"<Link to {self.name} {'ended' if self.ended else 'open'} {self.source!r}>"

    def state(self) -> LiveState:
        books = None if self.books is None else books_now(self.books, self.tail.count, self.settled)
        return LiveState(books, self.census, self.tail)


class Inbox:
    """Owns the sockets it is given with `add`. For one event loop; use `close` at the end.

    `encode_for` returns what makes the line of an exchange, for the live process's name and the generation under which
    it began, and raises KeyError for one that is not known. `on_census` is called with a live process's name when a
    census has come, `on_note` with a name and a note, `on_end` with a name, its final state, and whether it had stopped
    in order; by then all it had sent is written or lost. `most` is the bytes of the largest frame.
    """

    def __init__(
        self,
        journal: Journal,
        encode_for: Callable[[str, int], Encode],
        *,
        on_census: Callable[[str], object] = lambda name: None,
        on_note: Callable[[str, Any], object] = lambda name, note: None,
        on_end: Callable[[str, LiveState, bool], object] = lambda name, state, orderly: None,
        most: int = MOST,
    ) -> None:
        self._journal = journal
        self._encode_for = encode_for
        self._on_census = on_census
        self._on_note = on_note
        self._on_end = on_end
        self._most = most
        self._loop = asyncio.get_running_loop()
        self._links: list[_Link] = []
        self._timer: asyncio.TimerHandle | None = None
        self._due = 0.0
        self._empty = asyncio.Event()
        self._empty.set()

    def __repr__(self) -> str:
        return f"<Inbox {self._links}>"

    def add(self, name: str, theirs: socket.socket) -> None:
        """Read from the live process at the other end. The same name may come again, after or before its end."""
        theirs.setblocking(False)
        link = _Link(name, theirs, self._journal, self._most)
        self._links.append(link)
        self._empty.clear()
        self._resume(link)

    def states(self) -> dict[str, LiveState]:
        """Of each live process that is connected, or whose last exchanges are being written."""
        return {link.name: link.state() for link in self._links}

    def held_bytes(self) -> int:
        """What is held in memory: queued in the journal, or received in part."""
        return self._journal.queued_bytes() + sum(link.decoder.held for link in self._links)

    async def close(self, within: float) -> None:
        """Wait until every live process has ended its connection and all it had sent is written; then close them all.

        After `within` seconds the rest is closed as it stands: the live processes then count it as lost.
        """
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(within):
                await self._empty.wait()
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        for link in list(self._links):
            self._remove(link)

    # --- reading -----------------------------------------------------------------------------------------------------

    def _has_room(self) -> bool:
        return self._journal.has_room(sum(link.decoder.held for link in self._links))

    def _call(self, function: Callable[..., object], *arguments: object) -> None:
        """Call what this inbox was given. An error in it must not cost the exchanges that come after it."""
        try:
            function(*arguments)
        except Exception:  # noqa: BLE001 - it is logged
            _log.exception("a defect in the proxy while reading from a live process", extra={"event": "defect"})

    def _resume(self, link: _Link) -> None:
        if not link.reads and not link.ended:
            link.reads = True
            self._loop.add_reader(link.socket, self._receive, link)

    def _pause(self, link: _Link) -> None:
        if link.reads:
            link.reads = False
            self._loop.remove_reader(link.socket)

    def _receive(self, link: _Link) -> None:
        if not self._has_room():
            self._pause(link)
            self._plan(LOOK_EVERY)
            return
        try:
            data = link.socket.recv(RECEIVE)
        except (BlockingIOError, InterruptedError):
            return
        except OSError:
            data = b""
        if not data:
            self._end(link)
            return
        try:
            for kind, value, raw in link.decoder.feed(data):
                self._take(link, kind, value, raw)
            error = link.decoder.error
        except FrameError as why:
            error = str(why)
        if error is not None:
            line = "a defect in the proxy: what live process %s sends cannot be read: %s"
            _log.error(line, link.name, error, extra={"event": "defect"})
            self._end(link)

    def _take(self, link: _Link, kind: int, value: Any, raw: bytes) -> None:
        if kind == EXCHANGE:
            self._take_exchange(link, value, raw)
        elif kind == CENSUS:
            try:
                link.ahead, books, link.census = value
                link.books = books_of(books)
            except (ValueError, TypeError) as error:
                raise FrameError(f"a census cannot be read ({type(error).__name__})") from error
            link.tail = Tail()
            self._call(self._on_census, link.name)
        elif kind == NOTE:
            self._call(self._on_note, link.name, value)
        elif kind == END:
            link.orderly = True
        else:
            raise FrameError(f"a live process sends no frames of kind {kind}")

    def _take_exchange(self, link: _Link, value: Any, raw: bytes) -> None:
        generation, exchange = exchange_of(value, raw)
        if link.ahead:
            link.ahead -= 1
        else:
            link.tail.add(exchange)
        try:
            encode = self._encode_for(link.name, generation)
        except KeyError:
            self._journal.lose(link.source, "encode_error", f"generation {generation} is not known")
        else:
            self._journal.append(exchange, encode, link.source)
        self._plan(REPORT_EVERY)

    # --- reporting ---------------------------------------------------------------------------------------------------

    def _plan(self, seconds: float) -> None:
        due = self._loop.time() + seconds
        if self._timer is not None:
            if self._due <= due:
                return
            self._timer.cancel()
        # Noted here: for 0 seconds uvloop returns a handle that does not say when it is due.
        self._timer, self._due = self._loop.call_later(seconds, self._report), due

    def _report(self) -> None:
        """Report to each live process what became of its exchanges; read on where there is room again."""
        self._timer = None
        room = self._has_room()
        for link in list(self._links):
            finished = link.source.queued == 0  # read first: what comes to its end later is taken below all the same
            if (settled := self._journal.take_settled(link.source)) is not None:
                link.settled = add_settled(link.settled, settled)
                link.reports += frame_of(ACK, tuple(settled))
            self._send(link)
            if link.ended:
                if finished and not link.reports:
                    self._remove(link)
                else:
                    self._plan(LOOK_EVERY)
            elif not link.reads:
                if room:
                    self._resume(link)
                else:
                    self._plan(LOOK_EVERY)
            elif not finished or link.reports:
                self._plan(REPORT_EVERY)

    def _send(self, link: _Link) -> None:
        """Send reports, as far as the socket takes them: a live process that hangs gets them later."""
        if link.reports:
            try:
                count = link.socket.send(link.reports)
                link.reports = link.reports[count:]
            except (BlockingIOError, InterruptedError):
                pass
            except OSError:
                link.reports = b""  # it is gone

    def _end(self, link: _Link) -> None:
        self._pause(link)
        link.ended = True
        self._plan(0.0)

    def _remove(self, link: _Link) -> None:
        self._pause(link)
        self._links.remove(link)
        self._journal.remove_source(link.source)
        link.socket.close()
        if not self._links:
            self._empty.set()
        state = link.state()
        if state.books is not None:
            state = state._replace(books=final_books(state.books))
        self._call(self._on_end, link.name, state, link.orderly)
