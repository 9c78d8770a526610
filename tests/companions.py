"""A stand-in for the companion: it speaks the frames of intake_frames, and keeps what it is sent."""

import contextlib
import os
import socket
import threading
import time
from collections.abc import Callable
from pathlib import Path
from types import TracebackType
from typing import Self

from shadowproxy.incode.connection import Connection
from shadowproxy.intake_frames import (
    BEGIN,
    END,
    FLUSH,
    FLUSHED,
    HELLO,
    LOST,
    PROTOCOL,
    Begin,
    Decoder,
    End,
    Frame,
    Hello,
    Welcome,
    begin_of,
    end_of,
    frame,
    hello_frame,
    lost_of,
    welcome_frame,
)

PATIENCE = 5.0


class FakeCompanion:
    """Listens at `path` once it is started; use as `with`. It is also what a `Connection` wants to know of one.

    Attributes:
        frames: all that came, of all connections. starts: how many times it was started. looks: how many
            times its log was looked at.
        reading: cleared, nothing more is read. failure: what starting it raises.
    """

    def __init__(self, directory: Path, *, capture: int = 1 << 20, refused: str | None = None) -> None:
        self.path = str(directory / "intake")
        self.frames: list[Frame] = []
        self.starts = 0
        self.looks = 0
        self.reading = threading.Event()
        self.reading.set()
        self.failure: str | None = None
        self.said: Callable[[Frame], None] = lambda received: None
        self.welcome = Welcome(PROTOCOL, "test", capture, "X-Request-ID", ("b",), refused)
        self._came = threading.Condition()
        self._listener: socket.socket | None = None
        self._connections: list[socket.socket] = []
        self._threads: list[threading.Thread] = []

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.die()
        for thread in self._threads:
            thread.join(PATIENCE)
            assert not thread.is_alive()

    def connection(self, most: int = 1 << 20) -> Connection:
        return Connection(self.path, self, most)

    def connected(self) -> None:
        pass

    def forget(self) -> None:
        pass

    def start(self) -> None:
        if self._listener is not None:
            return
        self.starts += 1
        if self.failure is not None:
            raise OSError(self.failure)
        self._listener = socket.socket(socket.AF_UNIX)
        self._listener.bind(self.path)
        self._listener.listen()
        self._threads.append(threading.Thread(target=self._accept, args=(self._listener,)))
        self._threads[-1].start()

    def first_frames(self) -> list[bytes]:
        return [hello_frame(Hello(PROTOCOL, os.getpid(), "test"))]

    def look(self) -> None:
        self.looks += 1

    def problem(self) -> str | None:
        return None

    def received(self, received: Frame) -> None:
        self.said(received)

    def die(self) -> None:
        """End as a killed process does."""
        self.reading.set()
        with contextlib.suppress(FileNotFoundError):
            os.unlink(self.path)
        for each in [self._listener, *self._connections]:
            if each is not None:
                with contextlib.suppress(OSError):
                    each.shutdown(socket.SHUT_RDWR)
                each.close()
        self._listener, self._connections = None, []

    def _accept(self, listener: socket.socket) -> None:
        while True:
            try:
                accepted, _ = listener.accept()
            except OSError:
                return
            self._connections.append(accepted)
            self._threads.append(threading.Thread(target=self._read, args=(accepted,)))
            self._threads[-1].start()

    def _read(self, accepted: socket.socket) -> None:
        decoder = Decoder()
        with contextlib.suppress(OSError):
            while data := accepted.recv(1 << 16):
                for received in decoder.feed(data):
                    with contextlib.suppress(OSError):  # it may have ended since: what it had sent counts
                        if received.kind == HELLO:
                            accepted.sendall(welcome_frame(self.welcome))
                        elif received.kind == FLUSH:
                            accepted.sendall(frame(FLUSHED, received.key))
                    with self._came:
                        self.frames.append(received)
                        self._came.notify_all()
                if not self.reading.wait(PATIENCE):
                    raise AssertionError("the test has forgotten to let the companion read")
        with contextlib.suppress(OSError):
            accepted.close()

    def wait(self, condition: Callable[[], bool]) -> None:
        """Wait until what came makes `condition` true."""
        deadline = time.monotonic() + PATIENCE
        with self._came:
            while not condition():
                left = deadline - time.monotonic()
                assert left > 0, f"only {[each.kind for each in self.frames]} came"
                self._came.wait(left)

    def of_kind(self, kind: int) -> list[Frame]:
        return [each for each in self.frames if each.kind == kind]

    def begun(self) -> list[Begin]:
        found = [begin_of(each) for each in self.of_kind(BEGIN)]
        return [each for each in found if isinstance(each, Begin)]

    def ended(self) -> list[End]:
        found = [end_of(each) for each in self.of_kind(END)]
        return [each for each in found if isinstance(each, End)]

    def lost(self) -> dict[str, int]:
        counts: dict[str, int] = {}
        for each in self.of_kind(LOST):
            found = lost_of(each)
            assert isinstance(found, dict)
            for reason, count in found.items():
                counts[reason] = counts.get(reason, 0) + count
        return counts
