"""One connection of an application: its frames in order, each with what it means for an exchange."""

import asyncio
import contextlib
import logging
import os
import socket
import struct
from abc import ABCMeta, abstractmethod
from collections import deque
from typing import Final, cast

from shadowproxy import __version__
from shadowproxy import intake_frames as frames
from shadowproxy.exchange import LiveLeg, Outcome
from shadowproxy.intake_frames import Begin, Candidate, Decoder, Frame, Malformed, Result, Welcome
from shadowproxy.serve.intake.exchange import IntakeExchange

SLACK: Final = frames.HEAD_MOST + (64 << 10)
"""Bytes of a frame beside two bodies that are copied whole."""

GONE: Final = "the application's process ended, or could not send how this one did"

_CREDENTIALS: Final = struct.Struct("3i")

_log = logging.getLogger("shadowproxy")


class Receiver(metaclass=ABCMeta):
    """What a connection needs of the intake (server.py)."""

    @abstractmethod
    def welcome(self) -> Welcome: ...

    @abstractmethod
    def add(self, connection: "IntakeConnection") -> None: ...

    @abstractmethod
    def remove(self, connection: "IntakeConnection") -> None: ...

    @abstractmethod
    def begin(self, begin: Begin, connection: "IntakeConnection") -> IntakeExchange: ...

    @abstractmethod
    def end(self, exchange: IntakeExchange, live: LiveLeg) -> None: ...

    @abstractmethod
    def lose(self, lost: dict[str, int]) -> None: ...

    @abstractmethod
    def take_candidate(self, candidate: Candidate, connection: "IntakeConnection") -> None: ...

    @abstractmethod
    def take_result(self, result: Result, connection: "IntakeConnection") -> None: ...

    @abstractmethod
    def reload(self, connection: "IntakeConnection") -> None:
        """Have the new configuration put in force, and then the connection go on."""

    @abstractmethod
    def flush(self, key: int, connection: "IntakeConnection") -> None: ...

    @abstractmethod
    def hold(self, count: int) -> None:
        """Count bytes that are held of frames which are not whole; less than none gives some back."""

    @abstractmethod
    def take_turn(self, connection: "IntakeConnection") -> bool:
        """Whether it may receive a long frame now. If not, its `continue_long` is called when it may."""

    @abstractmethod
    def end_turn(self, connection: "IntakeConnection") -> None:
        """It has received its long frame, or never will."""


class IntakeConnection(asyncio.Protocol):
    """Owns its transport. `exchanges` have begun and have not ended, by their keys."""

    def __init__(self, receiver: Receiver, capture: int) -> None:
        self.exchanges: dict[int, IntakeExchange] = {}
        self.process = 0
        self._receiver = receiver
        self._decoder = Decoder(2 * capture + SLACK)
        self._transport: asyncio.Transport | None = None
        self._greeted = False
        self._frames: deque[Frame] = deque()
        self._waits = False
        self._long = 2 * capture + SLACK
        self._counted = 0  # bytes of a frame that is not whole
        self._has_turn = self._awaits_turn = False  # to receive a frame longer than that

    def __repr__(self) -> str:
        return f"<IntakeConnection of {self.process}, {len(self.exchanges)} exchanges>"

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.Transport, transport)
        self._receiver.add(self)
        if (user := _user_of(transport)) not in (os.geteuid(), 0, None):
            self._refuse(f"it belongs to user {user}")

    def connection_lost(self, exc: Exception | None) -> None:
        self._transport = None
        self._receiver.end_turn(self)
        self._waits = self._has_turn = False
        self._take_all()
        self._count(0)
        self._decoder = Decoder(0)
        self.cut_off(Outcome.INCOMPLETE, GONE)
        self._receiver.remove(self)

    def data_received(self, data: bytes) -> None:
        decoder = self._decoder
        received = decoder.feed(data)
        self._count(min(decoder.held, self._long))  # a callable is none of the requests that share the memory
        if decoder.held > self._long:
            self._wait_turn()
        elif self._has_turn:
            self._has_turn = False
            self._receiver.end_turn(self)
        self._frames.extend(received)
        self._take_all()

    def wait(self) -> None:
        """Leave what comes now until `go_on`: it may need the configuration that is not in force yet."""
        self._waits = True
        self._pause()

    def go_on(self) -> None:
        if self._waits:
            self._waits = False
            self._take_all()
            self._resume()

    def _count(self, held: int) -> None:
        if held != self._counted:
            self._receiver.hold(held - self._counted)
            self._counted = held

    def _wait_turn(self) -> None:
        """Callables may be long, and every process of an application sends its own: one after the other."""
        if self._has_turn:
            return
        self._has_turn = self._receiver.take_turn(self)
        if not self._has_turn:
            self._awaits_turn = True
            self._pause()

    def continue_long(self) -> None:
        """Its turn has come."""
        self._awaits_turn, self._has_turn = False, True
        self._resume()

    def _pause(self) -> None:
        if self._transport is not None and not self._transport.is_closing():
            self._transport.pause_reading()

    def _resume(self) -> None:
        transport = self._transport
        if transport is not None and not (self._waits or self._awaits_turn) and not transport.is_closing():
            transport.resume_reading()

    def _take_all(self) -> None:
        while self._frames and not self._waits:
            why = self._take(self._frames.popleft())
            if why is not None:
                self._refuse(why)
                return
        if self._decoder.error is not None and not self._frames:
            self._refuse(self._decoder.error)

    def cut_off(self, outcome: Outcome, error: str) -> None:
        """End all that has begun: nothing more is heard of it."""
        exchanges, self.exchanges = self.exchanges, {}
        for exchange in exchanges.values():
            self._receiver.end(exchange, exchange.cut_off(outcome, error))

    def send(self, data: bytes) -> bool:
        """Send a frame; False if the connection has ended."""
        if self._transport is None or self._transport.is_closing():
            return False
        self._transport.write(data)
        return True

    def close(self) -> None:
        if self._transport is not None:
            self._transport.close()

    def _refuse(self, why: str) -> None:
        extra = {"event": "intake_refused", "error": why, "application": self.process}
        _log.error("an application's connection is closed (process %d): %s", self.process, why, extra=extra)
        if not self._greeted:
            self.send(frames.welcome_frame(self._receiver.welcome()._replace(refused=why)))
        self._decoder.error = self._decoder.error or why
        self._frames.clear()
        self.close()

    def _take(self, received: Frame) -> str | None:
        """Returns what is wrong with the frame; None if nothing is."""
        kind = received.kind
        if not self._greeted:
            return self._greet(received)
        if kind == frames.BEGIN:
            begin = frames.begin_of(received)
            if isinstance(begin, Malformed):
                return begin.why
            if begin.key in self.exchanges:
                return f"BEGIN: an exchange with the key {begin.key} is under way"
            self.exchanges[begin.key] = self._receiver.begin(begin, self)
        elif kind == frames.END:
            end = frames.end_of(received)
            if isinstance(end, Malformed):
                return end.why
            exchange = self.exchanges.pop(end.key, None)
            if exchange is None:
                return f"END: no exchange with the key {end.key} is under way"
            self._receiver.end(exchange, end.live)
        elif kind == frames.LOST:
            lost = frames.lost_of(received)
            if isinstance(lost, Malformed):
                return lost.why
            self._receiver.lose(lost)
        elif kind == frames.CANDIDATE:
            candidate = frames.candidate_of(received)
            if isinstance(candidate, Malformed):
                return candidate.why
            self._receiver.take_candidate(candidate, self)
        elif kind == frames.RESULT:
            result = frames.result_of(received)
            if isinstance(result, Malformed):
                return result.why
            self._receiver.take_result(result, self)
        elif kind == frames.FLUSH:
            self._receiver.flush(received.key, self)
        elif kind == frames.RELOAD:
            self._receiver.reload(self)
        else:
            return f"an application sends no frame of kind {kind}"
        return None

    def _greet(self, received: Frame) -> str | None:
        if received.kind != frames.HELLO:
            return "its first frame is no HELLO"
        hello = frames.hello_of(received)
        if isinstance(hello, Malformed):
            return hello.why
        self.process = hello.process
        if hello.protocol != frames.PROTOCOL:
            return (
                f"version {hello.version} speaks protocol {hello.protocol}, this one ({__version__}) {frames.PROTOCOL}"
            )
        self._greeted = True
        self.send(frames.welcome_frame(self._receiver.welcome()))
        return None


def _user_of(transport: asyncio.BaseTransport) -> int | None:
    """The user of the process at the other end; None where the system does not say so."""
    given: socket.socket | None = transport.get_extra_info("socket")
    option = getattr(socket, "SO_PEERCRED", None)
    if given is None or option is None:
        return None
    with contextlib.suppress(OSError):
        _, user, _ = _CREDENTIALS.unpack(given.getsockopt(socket.SOL_SOCKET, option, _CREDENTIALS.size))
        return int(user)
    return None
