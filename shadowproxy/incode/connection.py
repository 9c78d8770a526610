"""An application's connection to its companion: frames are sent at once, kept within a bound, or counted as lost.

Rules:
- Sending never waits for a lock and never raises. Frames go into a queue, and the thread that has the turn sends them
  all. So a signal handler, a finalizer and any number of threads may send.
- While many exchanges come, the thread sends what has come every TICK milliseconds, and others send nothing themselves.
- What the socket does not take at once waits here, up to `most` bytes. A frame that begins an exchange and does not fit
  is lost, with its exchange. A frame that ends one may exceed the bound by `SLACK`, or no exchange could be ended.
- Connecting, starting the companion and waiting for the socket are done by one daemon thread, which the first frame
  starts. While nothing is sent it sleeps in `poll`.
- An exchange belongs to the connection that it was begun on (`era`). If that one ends first, the exchange is lost. If
  it was ended from here, the companion records what it got the beginning of, and only the others are lost.
- A forked child drops all of this and connects again with its first frame. What the parent had not sent yet, the parent
  sends.
"""

import contextlib
import logging
import os
import select
import socket
import struct
import sys
import threading
import time
import weakref
from collections import deque
from collections.abc import Sequence
from typing import Final, Protocol

from shadowproxy.intake_frames import (
    FLUSH,
    FLUSHED,
    HELLO,
    Decoder,
    Frame,
    Malformed,
    Welcome,
    frame,
    lost_frame,
    welcome_of,
)

SLACK: Final = 4 << 20
"""Bytes by which frames that end exchanges may exceed the bound."""

AT_EXIT: Final = 5.0
"""Seconds that the end of a process waits for what has not been sent yet."""

INCOMING: Final = 1000
"""Frames that may be incoming until a thread that has the turn gets a processor."""

CLOSE: Final = 0.01
"""Seconds. With less between two exchanges, the thread sends what has come every TICK: a call takes half of the time if
it makes no system call, and the companion is woken once for many frames."""

TICK: Final = 2
"""Milliseconds."""

QUIET: Final = 25
"""Ticks without any frame, after which the thread sleeps again."""

LOOK: Final = 1.0
"""Seconds between two looks at what the companion has logged."""

TOGETHER: Final = 64
"""Frames that are sent by one system call."""

LARGE: Final = 64 << 10
"""Bytes of a frame that does not wait for the next tick."""

PATIENCE: Final = 20.0
"""Seconds that a companion has to start and to accept the connection."""

RETRIES: Final = (0.25, 30.0)
"""Seconds before a companion that ended is started again: at first, and at most after doubling each time."""

STEADY: Final = 10.0
"""A companion that ran for so many seconds is started again after the first wait."""

_LOG: Final = logging.getLogger("shadowproxy")


_CREDENTIALS: Final = struct.Struct("3i")


def peer_user(connected: socket.socket) -> int | None:
    """The user of the process at the other end; None where the system does not say so."""
    option = getattr(socket, "SO_PEERCRED", None)
    if option is None:
        return None
    with contextlib.suppress(OSError):
        _, user, _ = _CREDENTIALS.unpack(connected.getsockopt(socket.SOL_SOCKET, option, _CREDENTIALS.size))
        return int(user)
    return None


class Companion(Protocol):
    """What a connection needs to know of the companion, which it uses in a thread of its own."""

    def start(self) -> None:
        """Start the companion, unless it runs or is being started. Raises an exception that says why it cannot be."""

    def connected(self) -> None:
        """The companion has accepted a connection."""

    def first_frames(self) -> list[bytes]:
        """What is sent first on each connection, beginning with HELLO."""

    def look(self) -> None:
        """Called now and then while there are exchanges, and when the connection has ended."""

    def problem(self) -> str | None:
        """Why the companion that was started has ended, as far as it said so."""

    def forget(self) -> None:
        """This is a forked child: the companion is not its child."""

    def received(self, frame: Frame) -> None:
        """A frame that came from the companion, other than HELLO and FLUSHED."""


class Era:
    """The time of one connection. `given_up`: it was ended from here, and the companion knows what it had begun."""

    __slots__ = ("given_up",)

    def __init__(self) -> None:
        self.given_up = False


class Ticket:
    """An exchange's claim to the connection that it was begun on. `era` is None while, or once, there is none."""

    __slots__ = ("era",)

    def __init__(self) -> None:
        self.era: Era | None = None


_BEGIN, _END, _OTHER, _LOST = 0, 1, 2, 3

_LAST: Final = 0
"""The key of the flush after which the thread ends the connection; those that somebody waits for begin at 1."""

_every: "weakref.WeakSet[Connection]" = weakref.WeakSet()


def _after_fork() -> None:
    for connection in list(_every):
        connection.forget()


os.register_at_fork(after_in_child=_after_fork)


class Connection:
    """Sends frames to the companion that listens at `path`, and starts it if nobody does.

    Owns its socket and its thread; close it with `close`.

    Attributes:
        welcome: what the companion said first, None before that.
        sent: how many exchanges were begun in this process.
        lost: how many exchanges were lost in this process, by reason.
    """

    def __init__(self, path: str, companion: "Companion", most: int) -> None:
        """`most` is how many bytes may wait here for the socket."""
        self.path = path
        self.most = most
        self.closed = False
        self._leaving = False
        self._companion = companion
        self._reset()
        _every.add(self)

    def _reset(self) -> None:
        self.welcome: Welcome | None = None
        self.sent = 0
        self.lost: dict[str, int] = {}
        self._unreported: dict[str, int] = {}
        self._reporting: dict[str, int] = {}  # what a frame that waits says of losses
        self._incoming: deque[tuple[bytes, Ticket | None, int]] = deque()
        self._turn = threading.Lock()
        self._socket: socket.socket | None = None
        self._open = False
        self._unsent: deque[tuple[memoryview | bytes, Ticket | None, int]] = deque()
        self._held = 0
        self._busy = False
        self._last = 0.0
        self._process = os.getpid()
        self._era = Era()
        self._thread: threading.Thread | None = None
        self._wake: tuple[int, int] | None = None
        self._not_before = 0.0
        self._wait = RETRIES[0]
        self._flushes: dict[int, threading.Event] = {}
        self._flush_number = 0
        self._complained = 0.0

    def __repr__(self) -> str:
        state = "closed" if self.closed else "open" if self._open else "connecting" if self._thread else "not connected"
        lost = sum(self.lost.values())
        return f"<Connection {state}, {self.sent} exchanges sent, {lost} lost, {self._held} bytes waiting>"

    @property
    def is_used(self) -> bool:
        """Whether it is connected, or about to be."""
        return self._thread is not None

    def forget(self) -> None:
        """In a forked child: leave the parent's connection alone and begin without one."""
        if self._socket is not None:
            with contextlib.suppress(OSError):
                self._socket.close()
        for each in self._wake or ():
            with contextlib.suppress(OSError):
                os.close(each)
        self._companion.forget()
        self._reset()

    # --- sending

    def begin(self, data: bytes, ticket: Ticket) -> None:
        """Send the frame that begins an exchange."""
        self._send(data, ticket, _BEGIN)

    def end(self, data: bytes, ticket: Ticket) -> None:
        """Send the frame that ends it."""
        self._send(data, ticket, _END)

    def send(self, data: bytes) -> None:
        """Send a frame that belongs to no exchange."""
        self._send(data, None, _OTHER)

    def lose(self, reason: str) -> None:
        """Count an exchange as lost."""
        self.lost[reason] = self.lost.get(reason, 0) + 1
        self._unreported[reason] = self._unreported.get(reason, 0) + 1

    def _send(self, data: bytes, ticket: Ticket | None, kind: int) -> None:
        if self.closed:
            return
        if kind == _BEGIN:
            if len(self._incoming) >= INCOMING:
                self.lose("client_full")
                return
            self._note_rate()
        self._incoming.append((data, ticket, kind))
        if not self._busy or len(data) > LARGE:
            self._take_turns()

    def _note_rate(self) -> None:
        """Leave the sending to the thread while exchanges follow one another closely."""
        if self._process != os.getpid():  # forked by what told Python nothing of it
            self.forget()
        now = time.monotonic()
        if now - self._last < CLOSE and self._open and not self._busy:
            self._busy = True
            self._wake_thread()
        self._last = now

    def _take_turns(self) -> None:
        """Handle what is incoming, unless another thread has the turn: it looks again after giving it back."""
        while self._incoming and self._turn.acquire(blocking=False):
            try:
                self._take_in()
            finally:
                self._turn.release()

    def _take_in(self) -> None:
        """Send, keep or lose each incoming frame. Holds the turn."""
        while self._incoming:
            if self._unsent or not self._open:
                self._keep_next()
            elif self._unreported:
                self._report_losses()
            else:
                self._send_next_ones()

    def _is_in_time(self, ticket: Ticket | None, kind: int) -> bool:
        """Whether a frame's exchange belongs to this connection. One that ends an earlier connection's is lost."""
        if kind != _END or ticket is None or ticket.era is self._era:
            return True
        if ticket.era is not None:
            if not ticket.era.given_up:
                self.lose("companion_ended")
            ticket.era = None
        return False

    def _keep_next(self) -> None:
        """Keep the next incoming frame for the thread, or lose it."""
        data, ticket, kind = self._incoming.popleft()
        if not self._is_in_time(ticket, kind):
            return
        size = len(data)
        if self._held + size > (self.most if kind == _BEGIN else self.most + SLACK):
            if kind == _BEGIN:
                self.lose("client_full")
            elif kind == _END:  # the companion must not wait for it
                self._give_up()
            return
        if not self._open and not self._connect_later():
            if kind != _OTHER:
                self.lose("no_companion")
            return
        if kind == _BEGIN and ticket is not None:
            ticket.era = self._era
            self.sent += 1
        self._unsent.append((data, ticket, kind))
        self._held += size

    def _send_next_ones(self) -> None:
        """Send the next incoming frames, and keep what the socket does not take."""
        incoming = self._incoming
        batch: list[tuple[bytes, Ticket | None, int]] = []
        size = 0
        while incoming and len(batch) < TOGETHER and size <= LARGE:
            data, ticket, kind = incoming.popleft()
            if not self._is_in_time(ticket, kind):
                continue
            if kind == _BEGIN and ticket is not None:
                ticket.era = self._era
                self.sent += 1
            batch.append((data, ticket, kind))
            size += len(data)
        if not batch:
            return
        taken = self._to_socket([each[0] for each in batch])
        if taken < 0:
            for _, ticket, kind in batch:
                if kind == _END and ticket is not None:
                    ticket.era = None
                    self.lose("companion_ended")
        elif taken < size:
            for data, ticket, kind in batch:
                if taken < len(data):
                    self._unsent.append((memoryview(data)[taken:], ticket, kind))
                taken = max(0, taken - len(data))
            self._held += sum(len(each[0]) for each in self._unsent)
            self._wake_thread()

    def _to_socket(self, parts: Sequence[bytes | memoryview]) -> int:
        """How many bytes the socket took; -1 if the connection has ended."""
        assert self._socket is not None
        try:
            return self._socket.send(parts[0]) if len(parts) == 1 else self._socket.sendmsg(parts)
        except (BlockingIOError, InterruptedError):
            return 0
        except OSError:
            self._break()
            return -1

    def _report_losses(self) -> None:
        losses, self._unreported = self._unreported, {}
        data = lost_frame(losses)
        taken = self._to_socket([data])
        if taken < 0:
            self._report_again(losses)
        elif taken < len(data):
            self._reporting = losses
            self._unsent.append((memoryview(data)[taken:], None, _LOST))
            self._held += len(data) - taken
            self._wake_thread()

    def _report_again(self, losses: dict[str, int]) -> None:
        for reason, count in losses.items():
            self._unreported[reason] = self._unreported.get(reason, 0) + count

    def _give_up(self) -> None:
        """End the connection, as the end of an exchange has no room here. Holds the turn."""
        self._era.given_up = True
        self._break("client_full")
        self.complain("the connection to the companion was closed: this process could not send fast enough")

    def _break(self, reason: str = "companion_ended") -> None:
        """The connection has ended: lose what it still had to send, for this reason. Holds the turn."""
        for _, ticket, kind in self._unsent:
            if kind == _LOST:
                self._report_again(self._reporting)
            # Of what was begun, the companion has not got all; or it has ended, unless it was given up.
            elif ticket is not None and ticket.era is self._era and (kind == _BEGIN or not self._era.given_up):
                ticket.era = None
                self.lose(reason)
        self._unsent.clear()
        self._held = 0
        self._era = Era()
        self._open = False
        self._wake_thread()

    # --- the thread

    def _connect_later(self) -> bool:
        """Have the thread connect. False if it is too early after a failure, or no thread can be started."""
        if self._thread is not None:
            return True
        if time.monotonic() < self._not_before:
            return False
        thread = threading.Thread(target=self._run, name="shadowproxy", daemon=True)
        self._thread = thread
        self._push_at_end_of_child()
        try:
            self._wake = os.pipe()
            for each in self._wake:
                os.set_blocking(each, False)
            thread.start()
        except (OSError, RuntimeError):  # no descriptor, no thread, or the interpreter is about to end
            self._thread = None
            self._close_wake()
            self._not_before = time.monotonic() + RETRIES[0]
            return False
        return True

    def _push_at_end_of_child(self) -> None:
        """Have a process of multiprocessing send what waits before it ends: it calls no function of `atexit`."""
        util = sys.modules.get("multiprocessing.util")
        process = sys.modules.get("multiprocessing.process")
        if util is None or process is None or process.parent_process() is None:
            return
        held = weakref.ref(self)

        def push() -> None:
            connection = held()
            if connection is not None:
                connection.push(AT_EXIT)

        util.Finalize(None, push, exitpriority=0)

    def _wake_thread(self) -> None:
        if self._wake is not None:
            with contextlib.suppress(OSError):
                os.write(self._wake[1], b"x")

    def _close_wake(self) -> None:
        wake, self._wake = self._wake, None
        for each in wake or ():
            with contextlib.suppress(OSError):
                os.close(each)

    def _run(self) -> None:
        """The thread: connect, then send what waits and read what comes, until the connection ends."""
        began = time.monotonic()
        connected = None
        try:
            connected = self._connect()
            if connected is not None:
                began = time.monotonic()
                self._serve(connected)
        finally:
            self._ended(connected, time.monotonic() - began)

    def _ended(self, connected: socket.socket | None, lived: float) -> None:
        with self._turn:
            self._break("no_companion" if connected is None else "companion_ended")
            self._socket = None
            self._thread = None
            self.closed = self.closed or self._leaving
            self._busy = False
            self._close_wake()
            steady = connected is not None and lived >= STEADY
            self._wait = RETRIES[0] if steady else min(self._wait * 2, RETRIES[1])
            self._not_before = time.monotonic() + (0.0 if steady else self._wait / 2)
            flushes, self._flushes = self._flushes, {}
        self._take_turns()
        self._companion.look()  # it may have said why
        for event in flushes.values():
            event.set()
        if connected is not None:
            connected.close()

    def _connect(self) -> socket.socket | None:
        """A connected socket, after the first frame was sent on it; None if the companion does not start."""
        deadline = time.monotonic() + PATIENCE
        pause = 0.002
        while not self.closed:
            sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
            try:
                sock.settimeout(PATIENCE)
                sock.connect(self.path)
                if (user := peer_user(sock)) not in (os.geteuid(), 0, None) and os.geteuid() != 0:
                    raise OSError(f"{self.path} belongs to user {user}")
                with contextlib.suppress(OSError):
                    sock.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 1 << 20)
                sock.sendall(b"".join(self._companion.first_frames()))
                sock.setblocking(False)
                self._companion.connected()
                return sock
            except OSError as error:
                sock.close()
                problem = str(error)
            try:
                self._companion.start()
            except Exception as error:  # noqa: BLE001 - whatever it is, the application goes on without shadows
                problem = str(error)
                break
            ended = self._companion.problem()
            if ended is not None or time.monotonic() > deadline:
                problem = ended or problem
                break
            time.sleep(pause)
            pause = min(pause * 1.5, 0.05)
        if not self.closed:
            self.complain(f"no shadow gets a request, as the companion does not start: {problem}")
        return None

    def _refused(self, why: str) -> None:
        self.complain(f"no shadow gets a request, as the companion refuses this process: {why}")

    def complain(self, text: str) -> None:
        """Log a problem, no more than once in a minute."""
        now = time.monotonic()
        if not self._complained or now - self._complained > 60:
            self._complained = now
            _LOG.warning("%s", text)

    def _serve(self, sock: socket.socket) -> None:
        assert self._wake is not None
        wake = self._wake[0]
        with self._turn:
            self._socket = sock
            if not self._unsent:
                self._open = True
        poll = select.poll()
        poll.register(wake, select.POLLIN)
        poll.register(sock, select.POLLIN)
        decoder = Decoder()
        era = self._era
        quiet = 0
        looked = 0.0
        asked = False
        while True:
            quiet = 0 if self._incoming else quiet + 1
            if self._send_waiting(era):
                poll.modify(sock, select.POLLIN | select.POLLOUT)
            else:
                poll.modify(sock, select.POLLIN)
            if self._era is not era:
                return
            if self._leaving and not asked and not self._unsent:
                asked = True
                self.send(frame(FLUSH, _LAST))
            if self._busy and quiet > QUIET:
                self._busy = False
                self._take_turns()  # what came before the line above was seen
            if (now := time.monotonic()) - looked > LOOK:
                looked = now
                self._companion.look()
            for descriptor, _ in poll.poll(TICK if self._busy else None):
                if descriptor == wake:
                    with contextlib.suppress(OSError):
                        os.read(wake, 4096)
                    if self.closed:
                        return
                elif not self._receive(sock, decoder):
                    return

    def _send_waiting(self, era: Era) -> bool:
        """Send what waits. True if the socket takes no more for now."""
        more = True
        while more and self._era is era:
            with self._turn:
                more = self._send_next(era)
            self._take_turns()
            if self._open and self._unsent:
                return True
        return False

    def _send_next(self, era: Era) -> bool:
        """Send what waits first. False if nothing waits, or the socket takes no more. Holds the turn."""
        if self._era is not era:
            return False
        self._take_in()
        if not self._unsent:
            self._open = True
            if self._unreported:
                self._report_losses()
            return False
        data, ticket, kind = self._unsent[0]
        taken = self._to_socket([data])
        if taken < 0:
            return False
        self._held -= taken
        if taken < len(data):
            self._unsent[0] = (memoryview(data)[taken:], ticket, kind)
            self._open = True
            return False
        self._unsent.popleft()
        return True

    def _receive(self, sock: socket.socket, decoder: Decoder) -> bool:
        """Read what the companion sends. False once it has ended."""
        try:
            data = sock.recv(1 << 16)
        except (BlockingIOError, InterruptedError):
            return True
        except OSError:
            return False
        if not data:
            return False
        for received in decoder.feed(data):
            if received.kind == HELLO:
                welcome = welcome_of(received)
                if isinstance(welcome, Malformed):
                    self._refused(welcome.why)
                    return False
                if welcome.refused is not None:
                    self._refused(welcome.refused)
                    return False
                self.welcome = welcome
            elif received.kind == FLUSHED and received.key == _LAST:
                return False
            elif received.kind == FLUSHED:
                event = self._flushes.pop(received.key, None)
                if event is not None:
                    event.set()
            else:
                self._companion.received(received)
        if decoder.error is not None:
            self._refused(decoder.error)
            return False
        return True

    # --- its end

    def flush(self, timeout: float) -> bool:
        """Wait until all exchanges of this process that have been begun are settled and written.

        Returns:
            False if that took longer than `timeout` seconds, or the companion has ended.
        """
        if self._thread is None and not self._unsent:
            return True
        event = threading.Event()
        self._flush_number += 1
        key = self._flush_number
        self._flushes[key] = event
        era = self._era
        self.send(frame(FLUSH, key))
        done = event.wait(timeout)
        self._flushes.pop(key, None)
        return done and self._era is era

    def push(self, timeout: float) -> bool:
        """Wait until the socket has taken all that waits here; False if `timeout` seconds were not enough."""
        deadline = time.monotonic() + timeout
        while self._thread is not None and (self._unsent or self._incoming):
            if time.monotonic() > deadline:
                return False
            time.sleep(0.002)
        return not self._unsent

    def leave(self) -> None:
        """Nobody sends any more: end the connection by itself, once all is settled and written. Waits for nothing."""
        self._leaving = True
        if self._thread is None:
            self.closed = True
        self._wake_thread()

    def close(self) -> None:
        """Close the connection. What waits here is lost: call `flush` or `push` first."""
        if self.closed:
            return
        self.closed = True
        thread = self._thread
        self._wake_thread()
        if thread is not None and thread is not threading.current_thread():
            thread.join(2.0)
